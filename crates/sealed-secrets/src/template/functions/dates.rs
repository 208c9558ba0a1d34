//! Dates. A moment travels through a template as the text that Go prints for it.

use gotmpl::{Result, Value};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::layout::{self, Moment, PLAIN};
use super::{Impure, Surroundings, argument, fails, string};

pub(super) const TABLE: &[Impure] = &[
    ("now", 0, 0, |s, _| Ok(value(&Moment::utc(s.now)))),
    ("date", 2, 2, |s, a| {
        Ok(formatted(s, a, string(a, 0)?, "Local")?.into())
    }),
    ("dateInZone", 3, 3, in_zone),
    ("date_in_zone", 3, 3, in_zone),
    ("htmlDate", 1, 1, |s, a| {
        Ok(layout::format(&moment(s, argument(a, 0)?).in_zone("Local"), "2006-01-02").into())
    }),
    ("htmlDateInZone", 2, 2, |s, a| {
        Ok(layout::format(&moment(s, argument(a, 0)?).in_zone(string(a, 1)?), "2006-01-02").into())
    }),
    ("dateModify", 2, 2, |_, a| {
        Ok(modified(a)?.unwrap_or(argument(a, 1)?.clone()))
    }),
    ("date_modify", 2, 2, |_, a| {
        Ok(modified(a)?.unwrap_or(argument(a, 1)?.clone()))
    }),
    ("mustDateModify", 2, 2, |_, a| {
        modified(a)?.ok_or_else(|| fails("not a duration"))
    }),
    ("must_date_modify", 2, 2, |_, a| {
        modified(a)?.ok_or_else(|| fails("not a duration"))
    }),
    ("toDate", 2, 2, |_, a| {
        Ok(value(
            &layout::parse(string(a, 0)?, string(a, 1)?).unwrap_or_else(Moment::zero),
        ))
    }),
    ("mustToDate", 2, 2, |_, a| {
        let read = layout::parse(string(a, 0)?, string(a, 1)?).ok_or_else(|| fails("not a date"))?;
        Ok(value(&read))
    }),
    ("unixEpoch", 1, 1, |_, a| {
        Ok(date(argument(a, 0)?)?.at.as_second().to_string().into())
    }),
    ("ago", 1, 1, |s, a| {
        let since = s.now.duration_since(moment(s, argument(a, 0)?).at);
        let rounded = (since.as_millis() + 500).div_euclid(1000);
        Ok(seconds(i64::try_from(rounded).unwrap_or(i64::MAX)).into())
    }),
    ("duration", 1, 1, |_, a| {
        Ok(seconds(match argument(a, 0)? {
            Value::String(text) => text.parse().unwrap_or_default(),
            Value::Int(number) => *number,
            _ => 0,
        })
        .into())
    }),
    ("durationRound", 1, 1, |s, a| {
        Ok(rounded(s, argument(a, 0)?).into())
    }),
];

fn value(moment: &Moment) -> Value {
    layout::format(moment, PLAIN).into()
}

/// A value that has to be a moment.
fn date(value: &Value) -> Result<Moment> {
    value
        .as_str()
        .and_then(|text| layout::parse(PLAIN, text))
        .ok_or_else(|| fails("expected a date"))
}

/// Seconds since 1970 or a moment; anything else is now, as in sprig.
fn moment(surroundings: &Surroundings, value: &Value) -> Moment {
    match value {
        Value::Int(seconds) => Timestamp::from_second(*seconds).map_or_else(|_| Moment::zero(), Moment::utc),
        value => date(value).unwrap_or_else(|_| Moment::utc(surroundings.now)),
    }
}

fn formatted(surroundings: &Surroundings, arguments: &[Value], layout: &str, zone: &str) -> Result<String> {
    // Every piece of a layout becomes at most nine bytes.
    super::bounded(layout.len().saturating_mul(9) / 16)?;
    Ok(layout::format(
        &moment(surroundings, argument(arguments, 1)?).in_zone(zone),
        layout,
    ))
}

fn in_zone(surroundings: &Surroundings, arguments: &[Value]) -> Result<Value> {
    Ok(formatted(
        surroundings,
        arguments,
        string(arguments, 0)?,
        string(arguments, 2)?,
    )?
    .into())
}

/// The moment moved; `None` when the first argument is no duration.
fn modified(arguments: &[Value]) -> Result<Option<Value>> {
    let moment = date(argument(arguments, 1)?)?;
    let Some(duration) = duration(string(arguments, 0)?) else {
        return Ok(None);
    };
    moment
        .plus(duration)
        .map(|moment| Some(value(&moment)))
        .ok_or_else(|| fails("date out of range"))
}

fn duration(text: &str) -> Option<SignedDuration> {
    let (sign, size) = match text.strip_prefix('-') {
        Some(size) => (-1, size),
        None => (1, text),
    };
    let size = plumbline_common::duration::parse(size).ok()?;
    Some(SignedDuration::try_from(size).ok()? * sign)
}

/// Go's `Duration.String` of whole seconds.
fn seconds(seconds: i64) -> String {
    let (sign, size) = (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs());
    let (hours, minutes, size) = (size / 3600, size / 60 % 60, size % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{size}s"),
        (0, _) => format!("{sign}{minutes}m{size}s"),
        _ => format!("{sign}{hours}h{minutes}m{size}s"),
    }
}

/// The largest unit that there is more than one of.
fn rounded(surroundings: &Surroundings, value: &Value) -> String {
    let nanos = match value {
        Value::Int(nanos) => i128::from(*nanos),
        Value::String(text) => match duration(text) {
            Some(duration) => duration.as_nanos(),
            None => date(value).map_or(0, |date| surroundings.now.duration_since(date.at).as_nanos()),
        },
        _ => 0,
    };
    let nanos = nanos.unsigned_abs();
    let units = [
        (365 * 24 * 3600, "y"),
        (30 * 24 * 3600, "mo"),
        (24 * 3600, "d"),
        (3600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    units
        .into_iter()
        .map(|(seconds, unit)| (seconds * 1_000_000_000_u128, unit))
        .find(|(unit, _)| nanos > *unit)
        .map_or_else(
            || "0s".to_owned(),
            |(unit, name)| format!("{}{name}", nanos / unit),
        )
}
