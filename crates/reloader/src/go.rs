//! Go's spelling of booleans, which Stakater's annotations and flags inherit. Its durations: `plumbline_common::duration`.

/// `strconv.ParseBool`: `Some` for the twelve spellings Go accepts, `None` for anything else.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_the_twelve_spellings_of_go() {
        for yes in ["1", "t", "T", "true", "True", "TRUE"] {
            assert_eq!(parse_bool(yes), Some(true), "{yes}");
        }
        for no in ["0", "f", "F", "false", "False", "FALSE"] {
            assert_eq!(parse_bool(no), Some(false), "{no}");
        }
        for junk in ["", "yes", "tRUE", " true", "on", "2"] {
            assert_eq!(parse_bool(junk), None, "{junk}");
        }
    }
}
