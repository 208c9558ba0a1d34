//! Stakater's older spelling of label selectors.

/// `key:value` becomes `key=value`, `key:*` becomes `key`; anything else stays as it is.
pub fn modern(selector: &str) -> String {
    match selector.split_once(':') {
        Some((key, "*")) => key.trim().to_owned(),
        Some((key, value)) => format!("{}={}", key.trim(), value.trim()),
        None => selector.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::modern;

    #[test]
    fn the_older_spelling_is_understood() {
        for (old, new) in [
            ("a:b", "a=b"),
            ("a:*", "a"),
            ("a=b", "a=b"),
            ("a in (x)", "a in (x)"),
            ("!a", "!a"),
        ] {
            assert_eq!(modern(old), new);
        }
    }
}
