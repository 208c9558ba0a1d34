//! Kubernetes objects in text: one JSON value after another, or YAML documents. The one place that knows the YAML library.

use serde::Serialize;
use serde::de::Deserialize as _;
use serde_json::Value;

/// No input of ours is larger; beyond it somebody has piped the wrong thing.
pub const MAX_BYTES: usize = 64 << 20;

/// No object of Kubernetes nests deeper.
const MAX_DEPTH: usize = 128;

/// Text that holds no objects.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not UTF-8.
    #[error("the input is not valid UTF-8")]
    Encoding,
    /// Beyond [`MAX_BYTES`].
    #[error("the input is larger than 64 MiB")]
    TooLarge,
    /// Beyond [`MAX_DEPTH`].
    #[error("the input is nested deeper than 128 levels")]
    TooDeep,
    /// Neither format; truncated, unbalanced, too deep or with too many aliases.
    #[error("document {number}: {reason}")]
    Document {
        /// Counted from 1.
        number: usize,
        /// The parser's words.
        reason: String,
    },
}

/// Reads every document of `bytes`; empty ones are left out.
///
/// The first character decides: `{` is a stream of JSON values, anything else is YAML.
pub fn parse(bytes: &[u8]) -> Result<Vec<Value>, Malformed> {
    if bytes.len() > MAX_BYTES {
        return Err(Malformed::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Encoding)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if is_too_deep(text) {
        return Err(Malformed::TooDeep);
    }
    let malformed = |number: usize, error: &dyn std::fmt::Display| Malformed::Document {
        number: number + 1,
        reason: error.to_string(),
    };
    let documents: Vec<Value> = if text.trim_start().starts_with('{') {
        match serde_json::Deserializer::from_str(text)
            .into_iter::<Value>()
            .enumerate()
            .map(|(number, value)| value.map_err(|error| malformed(number, &error)))
            .collect()
        {
            Ok(documents) => documents,
            // Flow-style YAML also starts with a brace.
            Err(error) => yaml(text).ok_or(error)?,
        }
    } else {
        serde_yaml::Deserializer::from_str(text)
            .enumerate()
            .map(|(number, document)| Value::deserialize(document).map_err(|error| malformed(number, &error)))
            .collect::<Result<_, _>>()?
    };
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

/// The reader below takes time in the square of the nesting before it gives up; this one gives up at once.
fn is_too_deep(text: &str) -> bool {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let error = granit_parser::Parser::new_from_str_with_options(text, options).find_map(Result::err);
    error.is_some_and(|error| matches!(error.kind(), granit_parser::ErrorKind::RecursionLimitExceeded))
}

fn yaml(text: &str) -> Option<Vec<Value>> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).ok())
        .collect()
}

/// `value` as YAML, keys sorted, without the leading `---`.
pub fn to_yaml(value: &impl Serialize) -> Result<String, Malformed> {
    let unwritable = |error: &dyn std::fmt::Display| Malformed::Document {
        number: 1,
        reason: error.to_string(),
    };
    let value = serde_json::to_value(value).map_err(|error| unwritable(&error))?;
    Ok(crate::emit::yaml(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_json_streams_and_yaml_documents() {
        assert_eq!(parse(br#"{"a":1} {"b":2}"#).unwrap().len(), 2);
        assert_eq!(parse(b"---\na: 1\n---\n# nothing\n---\nb: 2\n").unwrap().len(), 2);
        assert_eq!(parse(b"{a: 1}").unwrap().len(), 1);
        assert_eq!(parse(b"").unwrap().len(), 0);
    }

    #[test]
    fn damaged_input_ends_with_an_error() {
        for text in ["{\"a\":", "{\"a\":1}{", "a: [", "a: b: c", "\u{0}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse(&[b'a', 0xff]).is_err());
    }

    #[test]
    fn nesting_is_refused_at_once() {
        let begin = std::time::Instant::now();
        for (open, close) in [
            ("[", "]"),
            ("{a: ", "}"),
            ("- ", ""),
            ("{\"a\":[", "]}"),
            ("? ", ""),
        ] {
            for text in [
                open.repeat(500_000),
                open.repeat(500_000) + &close.repeat(500_000),
            ] {
                assert!(parse(text.as_bytes()).is_err(), "{open}");
                assert!(parse(format!("{{\"a\": {text}").as_bytes()).is_err(), "{open}");
            }
        }
        assert!(
            begin.elapsed() < std::time::Duration::from_secs(20),
            "{:?}",
            begin.elapsed()
        );
    }

    #[test]
    fn an_alias_bomb_is_refused_quickly() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let last = level - 1;
            let row = vec![format!("*a{last}"); 10].join(",");
            text = format!("{text}a{level}: &a{level} [{row}]\n");
        }
        assert!(parse(text.as_bytes()).is_err());
        assert!(parse(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).as_bytes()).is_err());
    }
}
