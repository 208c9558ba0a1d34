//! Random values. A Secret gets new ones whenever its SealedSecret changes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotmpl::{Result, Value};

use super::{Impure, Surroundings, bounded, fails, integer, string};

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const DIGITS: &str = "0123456789";

pub(super) const TABLE: &[Impure] = &[
    ("randAlphaNum", 1, 1, |s, a| {
        chosen(s, a, &[UPPER, LOWER, DIGITS].concat())
    }),
    ("randAlpha", 1, 1, |s, a| chosen(s, a, &[UPPER, LOWER].concat())),
    ("randNumeric", 1, 1, |s, a| chosen(s, a, DIGITS)),
    ("randAscii", 1, 1, |s, a| {
        let printable: String = (' '..='~').collect();
        chosen(s, a, &printable)
    }),
    ("randBytes", 1, 1, |s, a| {
        let count = count(a)?;
        let mut bytes = vec![0; count];
        s.fill(&mut bytes)?;
        Ok(STANDARD.encode(bytes).into())
    }),
    ("randInt", 2, 2, |s, a| {
        let (least, end) = (integer(a, 0)?, integer(a, 1)?);
        let range = end.checked_sub(least).and_then(|range| u64::try_from(range).ok());
        let range = range
            .filter(|range| *range > 0)
            .ok_or_else(|| fails("an empty range"))?;
        Ok(Value::Int(least.wrapping_add_unsigned(below(s, range)?)))
    }),
    ("shuffle", 1, 1, |s, a| {
        let mut characters: Vec<char> = string(a, 0)?.chars().collect();
        for last in (1..characters.len()).rev() {
            let other = below(s, last as u64 + 1)?;
            characters.swap(last, usize::try_from(other).unwrap_or(0));
        }
        Ok(characters.into_iter().collect::<String>().into())
    }),
    ("uuidv4", 0, 0, |s, _| {
        let mut bytes = [0; 16];
        s.fill(&mut bytes)?;
        let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(3 << 62) | (4 << 76) | (2 << 62);
        let hex = format!("{number:032x}");
        let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
        Ok(
            [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)]
                .join("-")
                .into(),
        )
    }),
];

fn count(arguments: &[Value]) -> Result<usize> {
    let count = usize::try_from(integer(arguments, 0)?).map_err(|_| fails("negative count"))?;
    bounded(count)?;
    Ok(count)
}

/// So many characters of `alphabet`, each as likely as any.
fn chosen(surroundings: &Surroundings, arguments: &[Value], alphabet: &str) -> Result<Value> {
    let size = u8::try_from(alphabet.len()).map_err(|_| fails("a large alphabet"))?;
    // Bytes beyond the last whole multiple would make the first characters likelier.
    let limit = 255 - (255 % size + 1) % size;
    let count = count(arguments)?;
    let mut text = String::with_capacity(count);
    let mut pool = vec![0; 64];
    while text.len() < count {
        surroundings.fill(&mut pool)?;
        let usable = pool.iter().filter(|byte| **byte <= limit);
        let characters = usable.filter_map(|byte| alphabet.as_bytes().get(usize::from(byte % size)));
        text.extend(characters.map(|byte| char::from(*byte)).take(count - text.len()));
    }
    Ok(text.into())
}

/// A number below `end`, each as likely as any.
fn below(surroundings: &Surroundings, end: u64) -> Result<u64> {
    let limit = u64::MAX - (u64::MAX % end + 1) % end;
    loop {
        let mut bytes = [0; 8];
        surroundings.fill(&mut bytes)?;
        let number = u64::from_be_bytes(bytes);
        if number <= limit {
            return Ok(number % end);
        }
    }
}
