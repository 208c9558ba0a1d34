//! Maps within maps, lists of lists, types.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{Result, Value};

use super::{ANY, Entry, argument, bounded, fails, integer, is_empty, list, string};

pub(super) const TABLE: &[Entry] = &[
    ("merge", 1, ANY, |a| merged(a, Precedence::First)),
    ("mustMerge", 1, ANY, |a| merged(a, Precedence::First)),
    ("mergeOverwrite", 1, ANY, |a| merged(a, Precedence::Last)),
    ("mustMergeOverwrite", 1, ANY, |a| merged(a, Precedence::Last)),
    // Nothing changes in place here, so what is shared need not be copied.
    ("deepCopy", 1, 1, |a| Ok(argument(a, 0)?.clone())),
    ("mustDeepCopy", 1, 1, |a| Ok(argument(a, 0)?.clone())),
    ("dig", 3, ANY, dig),
    ("chunk", 2, 2, chunk),
    ("mustChunk", 2, 2, chunk),
    ("typeOf", 1, 1, |a| Ok(type_of(argument(a, 0)?).into())),
    ("typeIs", 2, 2, |a| {
        Ok(Value::Bool(string(a, 0)? == type_of(argument(a, 1)?)))
    }),
    ("typeIsLike", 2, 2, |a| {
        Ok(Value::Bool(string(a, 0)? == type_of(argument(a, 1)?)))
    }),
];

type Map = BTreeMap<Arc<str>, Value>;

/// Which of two values stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precedence {
    First,
    Last,
}

fn merged(arguments: &[Value], precedence: Precedence) -> Result<Value> {
    let mut maps = arguments.iter().map(|argument| match argument {
        Value::Map(map) => Ok(map),
        _ => Err(fails("expected a map")),
    });
    let mut result = Map::clone(maps.next().ok_or_else(|| fails("missing argument"))??);
    for map in maps {
        merge(&mut result, map?, precedence);
    }
    Ok(result.into())
}

fn merge(target: &mut Map, source: &Map, precedence: Precedence) {
    for (key, value) in source {
        let merged = match (target.get(key), value) {
            (Some(Value::Map(old)), Value::Map(new)) => {
                let mut old = Map::clone(old);
                merge(&mut old, new, precedence);
                old.into()
            }
            (Some(old), _) if precedence == Precedence::First && !is_empty(old) => {
                continue;
            }
            _ => value.clone(),
        };
        target.insert(Arc::clone(key), merged);
    }
}

/// Keys down into maps, then a default, then the map.
fn dig(arguments: &[Value]) -> Result<Value> {
    let [keys @ .., default, map] = arguments else {
        return Err(fails("missing argument"));
    };
    let mut at = map;
    for (depth, key) in keys.iter().enumerate() {
        let Value::Map(map) = at else {
            return Err(fails("expected a map"));
        };
        let key = key.as_str().ok_or_else(|| fails("expected a string as key"))?;
        match map.get(key) {
            Some(value) if depth + 1 == keys.len() => return Ok(value.clone()),
            Some(value) => at = value,
            None => return Ok(default.clone()),
        }
    }
    Err(fails("missing argument"))
}

fn chunk(arguments: &[Value]) -> Result<Value> {
    let size = usize::try_from(integer(arguments, 0)?)
        .ok()
        .filter(|size| *size > 0);
    let list = list(arguments, 1)?;
    bounded(list.len().saturating_mul(32))?;
    let chunks = list.chunks(size.ok_or_else(|| fails("a size of at least 1"))?);
    Ok(chunks
        .map(|chunk| Value::from(chunk.to_vec()))
        .collect::<Vec<_>>()
        .into())
}

/// What Go calls the types that values have when they were made here.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        Value::Function(_) => "func",
    }
}
