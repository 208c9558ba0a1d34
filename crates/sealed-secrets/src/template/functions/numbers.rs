//! Numbers.

use gotmpl::{Result, Value};

use super::{ANY, Entry, argument, bounded, fails, integer, string};

pub(super) const TABLE: &[Entry] = &[
    ("add", 0, ANY, |a| {
        Ok(Value::Int(a.iter().map(int64).fold(0, i64::wrapping_add)))
    }),
    ("add1", 1, 1, |a| {
        Ok(Value::Int(int64(argument(a, 0)?).wrapping_add(1)))
    }),
    ("sub", 2, 2, |a| {
        Ok(Value::Int(
            int64(argument(a, 0)?).wrapping_sub(int64(argument(a, 1)?)),
        ))
    }),
    ("mul", 1, ANY, |a| {
        Ok(Value::Int(a.iter().map(int64).fold(1, i64::wrapping_mul)))
    }),
    ("div", 2, 2, |a| divided(a, i64::checked_div)),
    ("mod", 2, 2, |a| divided(a, i64::checked_rem)),
    ("max", 1, ANY, |a| {
        Ok(Value::Int(a.iter().map(int64).max().unwrap_or_default()))
    }),
    ("biggest", 1, ANY, |a| {
        Ok(Value::Int(a.iter().map(int64).max().unwrap_or_default()))
    }),
    ("min", 1, ANY, |a| {
        Ok(Value::Int(a.iter().map(int64).min().unwrap_or_default()))
    }),
    ("ceil", 1, 1, |a| {
        Ok(Value::Float(float64(argument(a, 0)?).ceil()))
    }),
    ("floor", 1, 1, |a| {
        Ok(Value::Float(float64(argument(a, 0)?).floor()))
    }),
    ("atoi", 1, 1, |a| {
        Ok(Value::Int(string(a, 0)?.parse().unwrap_or_default()))
    }),
    ("int", 1, 1, |a| Ok(Value::Int(int64(argument(a, 0)?)))),
    ("int64", 1, 1, |a| Ok(Value::Int(int64(argument(a, 0)?)))),
    ("float64", 1, 1, |a| Ok(Value::Float(float64(argument(a, 0)?)))),
    ("until", 1, 1, |a| {
        let end = integer(a, 0)?;
        steps(0, end, if end < 0 { -1 } else { 1 })
    }),
    ("untilStep", 3, 3, |a| {
        steps(integer(a, 0)?, integer(a, 1)?, integer(a, 2)?)
    }),
    ("seq", 0, 3, seq),
];

/// sprig's `toInt64`: what is no number is 0.
fn int64(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Uint(number) => i64::try_from(*number).unwrap_or(i64::MAX),
        #[expect(clippy::cast_possible_truncation, reason = "Go truncates, too")]
        Value::Float(number) => *number as i64,
        Value::Bool(yes) => i64::from(*yes),
        Value::String(text) => text.parse().unwrap_or_default(),
        _ => 0,
    }
}

/// sprig's `toFloat64`.
pub(super) fn float64(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap_or_default(),
        Value::Bool(yes) => f64::from(u8::from(*yes)),
        other => other.as_float().unwrap_or_default(),
    }
}

fn divided(arguments: &[Value], divide: fn(i64, i64) -> Option<i64>) -> Result<Value> {
    divide(int64(argument(arguments, 0)?), int64(argument(arguments, 1)?))
        .map(Value::Int)
        .ok_or_else(|| fails("division by zero"))
}

fn numbers(start: i64, end: i64, step: i64) -> Result<Vec<i64>> {
    let count = end.abs_diff(start).checked_div(step.unsigned_abs()).unwrap_or(0);
    bounded(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(8))?;
    let mut list = Vec::new();
    let mut at = start;
    while step != 0 && if step > 0 { at < end } else { at > end } {
        list.push(at);
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    Ok(list)
}

fn steps(start: i64, end: i64, step: i64) -> Result<Value> {
    Ok(numbers(start, end, step)?
        .into_iter()
        .map(Value::Int)
        .collect::<Vec<_>>()
        .into())
}

/// As the program of this name: both ends are part of it.
fn seq(arguments: &[Value]) -> Result<Value> {
    let (start, step, end) = match arguments.len() {
        0 => return Ok("".into()),
        1 => (1, None, integer(arguments, 0)?),
        2 => (integer(arguments, 0)?, None, integer(arguments, 1)?),
        _ => (
            integer(arguments, 0)?,
            Some(integer(arguments, 1)?),
            integer(arguments, 2)?,
        ),
    };
    let step = step.unwrap_or(if end < start { -1 } else { 1 });
    let end = end.saturating_add(step.signum());
    let numbers: Vec<String> = numbers(start, end, step)?.iter().map(i64::to_string).collect();
    Ok(numbers.join(" ").into())
}
