//! Lists, maps, defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{Result, Value};

use super::{ANY, Entry, argument, fails, integer, is_empty, list, printed, string};

pub(super) const TABLE: &[Entry] = &[
    ("default", 1, 2, |a| {
        let given = a.get(1).filter(|value| !is_empty(value));
        Ok(given.unwrap_or(argument(a, 0)?).clone())
    }),
    ("empty", 1, 1, |a| Ok(Value::Bool(is_empty(argument(a, 0)?)))),
    ("coalesce", 0, ANY, |a| {
        Ok(a.iter()
            .find(|value| !is_empty(value))
            .cloned()
            .unwrap_or(Value::Nil))
    }),
    ("all", 0, ANY, |a| Ok(Value::Bool(!a.iter().any(is_empty)))),
    ("any", 0, ANY, |a| Ok(Value::Bool(!a.iter().all(is_empty)))),
    ("ternary", 3, 3, |a| {
        Ok(argument(a, usize::from(!argument(a, 2)?.is_truthy()))?.clone())
    }),
    ("compact", 1, 1, |a| {
        Ok(kept(list(a, 0)?, |value| !is_empty(value)))
    }),
    ("mustCompact", 1, 1, |a| {
        Ok(kept(list(a, 0)?, |value| !is_empty(value)))
    }),
    ("list", 0, ANY, |a| Ok(a.to_vec().into())),
    ("tuple", 0, ANY, |a| Ok(a.to_vec().into())),
    ("first", 1, 1, |a| {
        Ok(list(a, 0)?.first().cloned().unwrap_or(Value::Nil))
    }),
    ("mustFirst", 1, 1, |a| {
        Ok(list(a, 0)?.first().cloned().unwrap_or(Value::Nil))
    }),
    ("last", 1, 1, |a| {
        Ok(list(a, 0)?.last().cloned().unwrap_or(Value::Nil))
    }),
    ("mustLast", 1, 1, |a| {
        Ok(list(a, 0)?.last().cloned().unwrap_or(Value::Nil))
    }),
    ("rest", 1, 1, |a| {
        Ok(list(a, 0)?.get(1..).unwrap_or_default().to_vec().into())
    }),
    ("mustRest", 1, 1, |a| {
        Ok(list(a, 0)?.get(1..).unwrap_or_default().to_vec().into())
    }),
    ("initial", 1, 1, |a| {
        Ok(list(a, 0)?
            .split_last()
            .map_or_else(Vec::new, |(_, rest)| rest.to_vec())
            .into())
    }),
    ("mustInitial", 1, 1, |a| {
        Ok(list(a, 0)?
            .split_last()
            .map_or_else(Vec::new, |(_, rest)| rest.to_vec())
            .into())
    }),
    ("append", 2, 2, append),
    ("push", 2, 2, append),
    ("mustAppend", 2, 2, append),
    ("mustPush", 2, 2, append),
    ("prepend", 2, 2, prepend),
    ("mustPrepend", 2, 2, prepend),
    ("reverse", 1, 1, reverse),
    ("mustReverse", 1, 1, reverse),
    ("uniq", 1, 1, uniq),
    ("mustUniq", 1, 1, uniq),
    ("without", 1, ANY, without),
    ("mustWithout", 1, ANY, without),
    ("has", 2, 2, has),
    ("mustHas", 2, 2, has),
    ("concat", 0, ANY, |a| {
        let lists = (0..a.len()).map(|n| list(a, n)).collect::<Result<Vec<_>>>()?;
        Ok(lists.concat().into())
    }),
    ("dict", 0, ANY, |a| Ok(dict(a))),
    ("get", 2, 2, |a| {
        Ok(map(a, 0)?
            .get(string(a, 1)?)
            .cloned()
            .unwrap_or_else(|| "".into()))
    }),
    ("hasKey", 2, 2, |a| {
        Ok(Value::Bool(map(a, 0)?.contains_key(string(a, 1)?)))
    }),
    ("keys", 0, ANY, |a| {
        let maps = (0..a.len()).map(|n| map(a, n)).collect::<Result<Vec<_>>>()?;
        Ok(maps
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(|key| Value::String(Arc::clone(key)))
            .collect::<Vec<_>>()
            .into())
    }),
    ("values", 1, 1, |a| {
        Ok(map(a, 0)?.values().cloned().collect::<Vec<_>>().into())
    }),
    ("pluck", 1, ANY, |a| {
        let maps = (1..a.len()).map(|n| map(a, n)).collect::<Result<Vec<_>>>()?;
        let key = string(a, 0)?;
        Ok(maps
            .into_iter()
            .filter_map(|map| map.get(key))
            .cloned()
            .collect::<Vec<_>>()
            .into())
    }),
    ("pick", 1, ANY, |a| chosen(a, true)),
    ("omit", 1, ANY, |a| chosen(a, false)),
    ("kindOf", 1, 1, |a| Ok(kind(argument(a, 0)?).into())),
    ("kindIs", 2, 2, |a| {
        Ok(Value::Bool(string(a, 0)? == kind(argument(a, 1)?)))
    }),
    ("deepEqual", 2, 2, |a| {
        Ok(Value::Bool(argument(a, 0)? == argument(a, 1)?))
    }),
    ("index", 1, ANY, index),
    ("slice", 1, 3, slice),
    ("mustSlice", 1, 3, slice),
];

type Map = BTreeMap<Arc<str>, Value>;

fn map(arguments: &[Value], n: usize) -> Result<&Map> {
    match argument(arguments, n)? {
        Value::Map(map) => Ok(map),
        _ => Err(fails("expected a map")),
    }
}

fn kept(list: &[Value], keep: impl Fn(&Value) -> bool) -> Value {
    list.iter()
        .filter(|value| keep(value))
        .cloned()
        .collect::<Vec<_>>()
        .into()
}

fn append(arguments: &[Value]) -> Result<Value> {
    Ok([list(arguments, 0)?, &[argument(arguments, 1)?.clone()]]
        .concat()
        .into())
}

fn prepend(arguments: &[Value]) -> Result<Value> {
    Ok([&[argument(arguments, 1)?.clone()], list(arguments, 0)?]
        .concat()
        .into())
}

fn reverse(arguments: &[Value]) -> Result<Value> {
    Ok(list(arguments, 0)?
        .iter()
        .rev()
        .cloned()
        .collect::<Vec<_>>()
        .into())
}

fn uniq(arguments: &[Value]) -> Result<Value> {
    let mut unique: Vec<Value> = Vec::new();
    let list = list(arguments, 0)?;
    // Every value is compared with every other.
    super::bounded(list.len().saturating_mul(list.len()))?;
    for value in list {
        if !unique.contains(value) {
            unique.push(value.clone());
        }
    }
    Ok(unique.into())
}

fn without(arguments: &[Value]) -> Result<Value> {
    let unwanted = arguments.get(1..).unwrap_or_default();
    Ok(kept(list(arguments, 0)?, |value| !unwanted.contains(value)))
}

fn has(arguments: &[Value]) -> Result<Value> {
    if matches!(argument(arguments, 1)?, Value::Nil) {
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(list(arguments, 1)?.contains(argument(arguments, 0)?)))
}

/// Pairs of key and value; a last key without one gets an empty string.
fn dict(arguments: &[Value]) -> Value {
    let map: BTreeMap<String, Value> = arguments
        .chunks(2)
        .filter_map(|pair| {
            Some((
                printed(pair.first()?),
                pair.get(1).cloned().unwrap_or_else(|| "".into()),
            ))
        })
        .collect();
    map.into()
}

fn chosen(arguments: &[Value], wanted: bool) -> Result<Value> {
    let keys = (1..arguments.len())
        .map(|n| string(arguments, n))
        .collect::<Result<Vec<_>>>()?;
    let map: Map = map(arguments, 0)?
        .iter()
        .filter(|(key, _)| keys.contains(&&***key) == wanted)
        .map(|(key, value)| (Arc::clone(key), value.clone()))
        .collect();
    Ok(map.into())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Function(_) => "func",
    }
}

/// text/template's `index`. A key that a map of strings lacks is an empty string, as Go's typed maps have it.
fn index(arguments: &[Value]) -> Result<Value> {
    let (first, keys) = arguments.split_first().ok_or_else(|| fails("missing argument"))?;
    keys.iter().try_fold(first.clone(), |value, key| match &value {
        Value::Map(map) if map.values().all(|value| value.as_str().is_some()) => {
            let key = key.as_str().ok_or_else(|| fails("expected a string as key"))?;
            Ok(map.get(key).cloned().unwrap_or_else(|| "".into()))
        }
        other => other.index(key),
    })
}

/// sprig's `slice`, which takes the place of text/template's and knows only lists.
fn slice(arguments: &[Value]) -> Result<Value> {
    let list = list(arguments, 0)?;
    let at = |n: usize| match arguments.get(n) {
        Some(_) => usize::try_from(integer(arguments, n)?)
            .map(Some)
            .map_err(|_| fails("negative index")),
        None => Ok(None),
    };
    let (start, end) = (at(1)?.unwrap_or(0), at(2)?.unwrap_or(list.len()));
    list.get(start..end)
        .map(|part| part.to_vec().into())
        .ok_or_else(|| fails("slice out of range"))
}
