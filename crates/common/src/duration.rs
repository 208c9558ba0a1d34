//! Pure: Go's `time.ParseDuration`, which the flags and fields of all three contracts use.

use std::time::Duration;

/// Why a duration was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the form `1h30m`, `500ms`, `1.5s`.
    #[error("{0:?} is not a duration: write a number and a unit, such as 30s, 5m or 1h30m")]
    Syntax(String),
    /// More than about 290 years, which Go cannot represent either.
    #[error("the duration {0:?} is too long")]
    TooLong(String),
    /// Negative durations make no sense in any field we read.
    #[error("the duration {0:?} is negative")]
    Negative(String),
}

/// Parses Go's syntax: a sequence of decimal numbers with a unit (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`), or `0`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let syntax = || DurationError::Syntax(text.to_owned());
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Some(rest) = unsigned.strip_prefix('-') {
        return match parse(rest)? {
            Duration::ZERO => Ok(Duration::ZERO),
            _ => Err(DurationError::Negative(text.to_owned())),
        };
    }
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(syntax());
    }
    let mut rest = unsigned;
    let mut nanos = 0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(syntax)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let factor = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(syntax()),
        };
        nanos += number.parse::<f64>().map_err(|_| syntax())? * factor;
        rest = tail;
    }
    // Go counts in int64 nanoseconds.
    if nanos > 9.2e18 {
        return Err(DurationError::TooLong(text.to_owned()));
    }
    Ok(Duration::from_secs_f64(nanos / 1e9))
}

/// Writes a duration as Go prints it, to the millisecond: `1h0m0s`, `1m30s`, `1.5s`, `250ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, rest) = (millis / 3_600_000, millis % 3_600_000);
    let (minutes, rest) = (rest / 60_000, rest % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", rest / 1000);
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, m) => format!("{m}m{seconds}"),
        (h, m) => format!("{h}h{m}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_go_parses() {
        for (text, millis) in [
            ("0", 0),
            ("1s", 1000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("+2s", 2000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in ["", "5", "1x", "s", "1..5s", "1 s", "abc"] {
            assert!(matches!(parse(text), Err(DurationError::Syntax(_))), "{text}");
        }
        assert!(matches!(parse("99999999h"), Err(DurationError::TooLong(_))));
        assert!(matches!(parse("-1s"), Err(DurationError::Negative(_))));
    }

    #[test]
    fn formats_as_go_does() {
        for text in ["0s", "250ms", "1.5s", "1m30s", "1h0m0s", "26h3m4.005s"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }
}
