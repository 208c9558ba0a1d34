//! Encodings, hashes, JSON. Hashes and encodings work on the bytes, not on the text that stands for them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotmpl::{Result, Value};
use sha2::{Digest as _, Sha256};

use super::super::text;
use super::{Entry, argument, fails, string};

pub(super) const TABLE: &[Entry] = &[
    ("b64enc", 1, 1, |a| {
        Ok(STANDARD.encode(text::to_bytes(string(a, 0)?)).into())
    }),
    ("b64dec", 1, 1, |a| {
        let decoded = crate::crypto::decode(string(a, 0)?);
        // sprig returns the decoder's complaint as the value.
        Ok(decoded
            .map_or_else(
                || "illegal base64 data".to_owned(),
                |bytes| text::from_bytes(&bytes),
            )
            .into())
    }),
    ("b32enc", 1, 1, |a| {
        Ok(base32(&text::to_bytes(string(a, 0)?)).into())
    }),
    ("b32dec", 1, 1, |a| {
        let decoded = from_base32(string(a, 0)?);
        Ok(decoded
            .map_or_else(
                || "illegal base32 data".to_owned(),
                |bytes| text::from_bytes(&bytes),
            )
            .into())
    }),
    ("sha256sum", 1, 1, |a| {
        Ok(hex(&Sha256::digest(text::to_bytes(string(a, 0)?))).into())
    }),
    ("toJson", 1, 1, |a| {
        Ok(json(argument(a, 0)?)
            .map_or_else(String::new, |json| escaped(&json.to_string()))
            .into())
    }),
    ("mustToJson", 1, 1, |a| {
        Ok(escaped(&must(json(argument(a, 0)?))?.to_string()).into())
    }),
    ("toRawJson", 1, 1, |a| {
        Ok(must(json(argument(a, 0)?))?.to_string().into())
    }),
    ("mustToRawJson", 1, 1, |a| {
        Ok(must(json(argument(a, 0)?))?.to_string().into())
    }),
    ("toPrettyJson", 1, 1, pretty),
    ("mustToPrettyJson", 1, 1, pretty),
    ("fromJson", 1, 1, |a| {
        Ok(serde_json::from_str(string(a, 0)?).map_or(Value::Nil, |json| value(&json)))
    }),
    ("mustFromJson", 1, 1, |a| {
        serde_json::from_str(string(a, 0)?)
            .map(|json| value(&json))
            .map_err(|_| fails("not JSON"))
    }),
];

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .flatten()
        .collect()
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let number = chunk
            .iter()
            .zip([32, 24, 16, 8, 0])
            .fold(0_u64, |number, (byte, shift)| number | u64::from(*byte) << shift);
        let characters = (chunk.len() * 8).div_ceil(5);
        text.extend((0..characters).filter_map(|at| {
            let digit = usize::try_from(number >> (35 - at * 5) & 31).ok()?;
            BASE32.get(digit).map(|byte| char::from(*byte))
        }));
        text.extend(std::iter::repeat_n('=', 8 - characters));
    }
    text
}

/// As Go reads it: line breaks do not count, padding is needed.
fn from_base32(text: &str) -> Option<Vec<u8>> {
    let text: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    let digits = text.len() - text.iter().rev().take_while(|byte| **byte == b'=').count();
    if !text.len().is_multiple_of(8) || text.len() - digits > 6 || matches!(digits % 8, 1 | 3 | 6) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits * 5 / 8);
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for character in text.get(..digits)? {
        let digit = BASE32.iter().position(|known| known == character)?;
        buffer = (buffer << 5 | u32::try_from(digit).ok()?) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(buffer >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

fn must(json: Option<serde_json::Value>) -> Result<serde_json::Value> {
    json.ok_or_else(|| fails("no JSON for this value"))
}

fn pretty(arguments: &[Value]) -> Result<Value> {
    let json = must(json(argument(arguments, 0)?))?;
    let text = serde_json::to_string_pretty(&json).map_err(|_| fails("no JSON for this value"))?;
    Ok(escaped(&text).into())
}

/// Go's encoder keeps JSON safe inside HTML.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn json(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(yes) => (*yes).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole, and small enough to be exact"
        )]
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => (*number as i64).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        // What is no UTF-8 becomes the replacement character, as in Go.
        Value::String(string) => String::from_utf8_lossy(&text::to_bytes(string))
            .into_owned()
            .into(),
        Value::List(list) => serde_json::Value::Array(list.iter().map(json).collect::<Option<_>>()?),
        Value::Map(map) => serde_json::Value::Object(
            map.iter()
                .map(|(key, value)| Some((key.to_string(), json(value)?)))
                .collect::<Option<_>>()?,
        ),
        Value::Function(_) => return None,
    })
}

fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(yes) => Value::Bool(*yes),
        // As in Go, every number is a floating one.
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(list) => list.iter().map(value).collect::<Vec<_>>().into(),
        serde_json::Value::Object(map) => map
            .iter()
            .map(|(key, json)| (key.clone(), value(json)))
            .collect::<BTreeMap<_, _>>()
            .into(),
    }
}
