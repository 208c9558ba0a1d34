//! Floating-point arithmetic as sprig has it: exact in decimal, so that 0.1 and 0.2 make 0.3.

use gotmpl::{Result, Value};

use super::numbers::float64;
use super::{ANY, Entry, argument, fails, integer, printed};

pub(super) const TABLE: &[Entry] = &[
    ("add1f", 1, 1, |a| {
        folded(float64(argument(a, 0)?), &[Value::Int(1)], Decimal::plus)
    }),
    ("addf", 0, ANY, |a| folded(0.0, a, Decimal::plus)),
    ("subf", 1, ANY, |a| {
        folded(float64(argument(a, 0)?), rest(a), Decimal::minus)
    }),
    ("mulf", 1, ANY, |a| {
        folded(float64(argument(a, 0)?), rest(a), Decimal::times)
    }),
    ("divf", 1, ANY, |a| {
        if rest(a).iter().any(|value| float64(value) == 0.0) {
            return Err(fails("division by zero"));
        }
        folded(float64(argument(a, 0)?), rest(a), Decimal::over)
    }),
    ("maxf", 1, ANY, |a| {
        Ok(Value::Float(
            a.iter().map(float64).fold(f64::NEG_INFINITY, f64::max),
        ))
    }),
    ("minf", 1, ANY, |a| {
        Ok(Value::Float(a.iter().map(float64).fold(f64::INFINITY, f64::min)))
    }),
    ("round", 2, 3, round),
    ("toDecimal", 1, 1, |a| {
        Ok(Value::Int(
            i64::from_str_radix(&printed(argument(a, 0)?), 8).unwrap_or_default(),
        ))
    }),
];

fn rest(arguments: &[Value]) -> &[Value] {
    arguments.get(1..).unwrap_or_default()
}

/// A whole number and how many of its digits stand behind the point.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    scale: u32,
}

type Operation = fn(Decimal, Decimal) -> Option<Decimal>;

fn folded(first: f64, others: &[Value], operation: Operation) -> Result<Value> {
    let start = Decimal::of(first).ok_or_else(|| fails("number out of range"))?;
    let result = others.iter().try_fold(start, |result, value| {
        operation(result, Decimal::of(float64(value))?)
    });
    // The shortest text is the number itself.
    result
        .and_then(|result| format!("{}e-{}", result.digits, result.scale).parse().ok())
        .map(Value::Float)
        .ok_or_else(|| fails("number out of range"))
}

impl Decimal {
    /// The shortest decimal that is `number`.
    fn of(number: f64) -> Option<Self> {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent: i32 = exponent.parse().ok()?;
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = i32::try_from(fraction.len()).ok()? - exponent;
        match u32::try_from(scale) {
            Ok(scale) => Some(Self { digits, scale }),
            Err(_) => Some(Self {
                digits: digits.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?,
                scale: 0,
            }),
        }
    }

    fn aligned(self, other: Self) -> Option<(i128, i128, u32)> {
        let scale = self.scale.max(other.scale);
        let digits = |number: Self| {
            number
                .digits
                .checked_mul(10_i128.checked_pow(scale - number.scale)?)
        };
        Some((digits(self)?, digits(other)?, scale))
    }

    fn plus(self, other: Self) -> Option<Self> {
        let (one, other, scale) = self.aligned(other)?;
        Some(Self {
            digits: one.checked_add(other)?,
            scale,
        })
    }

    fn minus(self, other: Self) -> Option<Self> {
        let (one, other, scale) = self.aligned(other)?;
        Some(Self {
            digits: one.checked_sub(other)?,
            scale,
        })
    }

    fn times(self, other: Self) -> Option<Self> {
        Some(Self {
            digits: self.digits.checked_mul(other.digits)?,
            scale: self.scale + other.scale,
        })
    }

    /// To sixteen places, the half away from zero.
    fn over(self, other: Self) -> Option<Self> {
        let (one, other, _) = self.aligned(other)?;
        let scaled = one.checked_mul(10_i128.checked_pow(16)?)?;
        let (quotient, remainder) = (scaled.checked_div(other)?, scaled.checked_rem(other)?);
        let up = remainder.unsigned_abs() * 2 >= other.unsigned_abs();
        let sign = if (scaled < 0) == (other < 0) { 1 } else { -1 };
        Some(Self {
            digits: quotient + if up { sign } else { 0 },
            scale: 16,
        })
    }
}

fn round(arguments: &[Value]) -> Result<Value> {
    let number = float64(argument(arguments, 0)?);
    let places = i32::try_from(integer(arguments, 1)?).map_err(|_| fails("places out of range"))?;
    let threshold = arguments.get(2).map_or(0.5, float64);
    let power = 10_f64.powi(places);
    let shifted = power * number;
    let rounded = if shifted.fract() >= threshold {
        shifted.ceil()
    } else {
        shifted.floor()
    };
    Ok(Value::Float(rounded / power))
}
