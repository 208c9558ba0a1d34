//! Strings and regular expressions.

use gotmpl::{Result, Value};
use regex::Regex;

use super::{ANY, Entry, argument, bounded, fails, integer, printed, string};

pub(super) const TABLE: &[Entry] = &[
    ("hello", 0, 0, |_| Ok("Hello!".into())),
    ("trim", 1, 1, |a| Ok(string(a, 0)?.trim().into())),
    ("upper", 1, 1, |a| Ok(string(a, 0)?.to_uppercase().into())),
    ("lower", 1, 1, |a| Ok(string(a, 0)?.to_lowercase().into())),
    ("title", 1, 1, title),
    ("untitle", 1, 1, untitle),
    ("substr", 3, 3, substr),
    ("repeat", 2, 2, repeat),
    ("trimAll", 2, 2, trim_all),
    ("trimall", 2, 2, trim_all),
    ("trimSuffix", 2, 2, |a| {
        let text = string(a, 1)?;
        Ok(text.strip_suffix(string(a, 0)?).unwrap_or(text).into())
    }),
    ("trimPrefix", 2, 2, |a| {
        let text = string(a, 1)?;
        Ok(text.strip_prefix(string(a, 0)?).unwrap_or(text).into())
    }),
    ("nospace", 1, 1, |a| {
        Ok(string(a, 0)?
            .chars()
            .filter(|c| !c.is_whitespace())
            .collect::<String>()
            .into())
    }),
    ("contains", 2, 2, |a| {
        Ok(Value::Bool(string(a, 1)?.contains(string(a, 0)?)))
    }),
    ("hasPrefix", 2, 2, |a| {
        Ok(Value::Bool(string(a, 1)?.starts_with(string(a, 0)?)))
    }),
    ("hasSuffix", 2, 2, |a| {
        Ok(Value::Bool(string(a, 1)?.ends_with(string(a, 0)?)))
    }),
    ("quote", 0, ANY, |a| Ok(quote(a))),
    ("squote", 0, ANY, |a| {
        Ok(present(a)
            .map(|value| format!("'{}'", printed(value)))
            .collect::<Vec<_>>()
            .join(" ")
            .into())
    }),
    ("cat", 0, ANY, |a| {
        Ok(present(a)
            .map(printed)
            .collect::<Vec<_>>()
            .join(" ")
            .trim()
            .into())
    }),
    ("indent", 2, 2, |a| indent(a).map(Value::from)),
    ("nindent", 2, 2, |a| Ok(format!("\n{}", indent(a)?).into())),
    ("replace", 3, 3, replace),
    ("plural", 3, 3, |a| {
        string(a, usize::from(integer(a, 2)? != 1)).map(Value::from)
    }),
    ("trunc", 2, 2, trunc),
    ("toString", 1, 1, |a| Ok(printed(argument(a, 0)?).into())),
    ("join", 2, 2, |a| {
        Ok(strings(argument(a, 1)?).join(string(a, 0)?).into())
    }),
    ("toStrings", 1, 1, |a| {
        Ok(strings(argument(a, 0)?)
            .into_iter()
            .map(Value::from)
            .collect::<Vec<_>>()
            .into())
    }),
    ("sortAlpha", 1, 1, |a| {
        let mut sorted = strings(argument(a, 0)?);
        sorted.sort_unstable();
        Ok(sorted.into_iter().map(Value::from).collect::<Vec<_>>().into())
    }),
    ("splitList", 2, 2, |a| {
        Ok(split(string(a, 0)?, string(a, 1)?)
            .map(Value::from)
            .collect::<Vec<_>>()
            .into())
    }),
    ("split", 2, 2, |a| {
        Ok(numbered(split(string(a, 0)?, string(a, 1)?)))
    }),
    ("splitn", 3, 3, |a| {
        let count = usize::try_from(integer(a, 1)?).map_err(|_| fails("negative count"))?;
        Ok(numbered(string(a, 2)?.splitn(count, string(a, 0)?)))
    }),
    ("initials", 1, 1, |a| {
        Ok(string(a, 0)?
            .split_whitespace()
            .filter_map(|word| word.chars().next())
            .collect::<String>()
            .into())
    }),
    ("fail", 1, 1, |_| Err(fails("fail was called"))),
    ("regexMatch", 2, 2, |a| {
        Ok(Value::Bool(regex(a, 0)?.is_match(string(a, 1)?)))
    }),
    ("mustRegexMatch", 2, 2, |a| {
        Ok(Value::Bool(regex(a, 0)?.is_match(string(a, 1)?)))
    }),
    ("regexFind", 2, 2, regex_find),
    ("mustRegexFind", 2, 2, regex_find),
    ("regexFindAll", 3, 3, regex_find_all),
    ("mustRegexFindAll", 3, 3, regex_find_all),
    ("regexReplaceAll", 3, 3, regex_replace),
    ("mustRegexReplaceAll", 3, 3, regex_replace),
    ("regexReplaceAllLiteral", 3, 3, regex_replace_literal),
    ("mustRegexReplaceAllLiteral", 3, 3, regex_replace_literal),
    ("regexSplit", 3, 3, regex_split),
    ("mustRegexSplit", 3, 3, regex_split),
    ("regexQuoteMeta", 1, 1, |a| Ok(regex_quote(string(a, 0)?).into())),
];

fn present(arguments: &[Value]) -> impl Iterator<Item = &Value> {
    arguments.iter().filter(|value| !matches!(value, Value::Nil))
}

/// Go's `strings.Title`: every letter behind something that is no letter.
fn title(arguments: &[Value]) -> Result<Value> {
    cased(arguments, |c| c.to_uppercase().collect())
}

fn untitle(arguments: &[Value]) -> Result<Value> {
    cased(arguments, |c| c.to_lowercase().collect())
}

fn cased(arguments: &[Value], case: fn(char) -> String) -> Result<Value> {
    let mut text = String::new();
    let mut before = ' ';
    for c in string(arguments, 0)?.chars() {
        if before.is_alphanumeric() || before == '_' || before == '\'' {
            text.push(c);
        } else {
            text.push_str(&case(c));
        }
        before = c;
    }
    Ok(text.into())
}

fn substr(arguments: &[Value]) -> Result<Value> {
    let (start, end, text) = (
        integer(arguments, 0)?,
        integer(arguments, 1)?,
        string(arguments, 2)?,
    );
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let start = start.max(0);
    let end = if end < 0 || end > length { length } else { end };
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    range
        .and_then(|(start, end)| text.get(start..end))
        .map(Value::from)
        .ok_or_else(|| fails("substr out of range"))
}

fn repeat(arguments: &[Value]) -> Result<Value> {
    let count = usize::try_from(integer(arguments, 0)?).map_err(|_| fails("negative count"))?;
    let text = string(arguments, 1)?;
    bounded(count.saturating_mul(text.len()))?;
    Ok(text.repeat(count).into())
}

fn trim_all(arguments: &[Value]) -> Result<Value> {
    let set = string(arguments, 0)?;
    Ok(string(arguments, 1)?.trim_matches(|c| set.contains(c)).into())
}

/// Go's `%q` of each argument.
fn quote(arguments: &[Value]) -> Value {
    let quoted: Vec<String> = present(arguments)
        .map(|value| go_quoted(&printed(value)))
        .collect();
    quoted.join(" ").into()
}

fn go_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let code = u32::from(c);
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\u{7}' => quoted += "\\a",
            '\u{8}' => quoted += "\\b",
            '\u{b}' => quoted += "\\v",
            '\u{c}' => quoted += "\\f",
            _ if code < 0x20 || code == 0x7f => quoted.extend(format!("\\x{code:02x}").chars()),
            _ if (0x80..=0xa0).contains(&code) || code == 0xad => {
                quoted.extend(format!("\\u{code:04x}").chars());
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn indent(arguments: &[Value]) -> Result<String> {
    let spaces = usize::try_from(integer(arguments, 0)?).map_err(|_| fails("negative indentation"))?;
    let text = string(arguments, 1)?;
    let lines = text.matches('\n').count() + 1;
    bounded(spaces.saturating_mul(lines).saturating_add(text.len()))?;
    let pad = " ".repeat(spaces);
    Ok(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

fn replace(arguments: &[Value]) -> Result<Value> {
    let (old, new, text) = (
        string(arguments, 0)?,
        string(arguments, 1)?,
        string(arguments, 2)?,
    );
    let times = text.matches(old).count();
    bounded(times.saturating_mul(new.len()).saturating_add(text.len()))?;
    Ok(text.replace(old, new).into())
}

fn trunc(arguments: &[Value]) -> Result<Value> {
    let (count, text) = (integer(arguments, 0)?, string(arguments, 1)?);
    let length = text.len();
    let cut = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if cut >= length {
        return Ok(text.into());
    }
    let kept = if count < 0 {
        text.get(length - cut..)
    } else {
        text.get(..cut)
    };
    kept.map(Value::from)
        .ok_or_else(|| fails("trunc inside a character"))
}

/// Anything as a list of strings, absent values left out.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::List(list) => present(list).map(printed).collect(),
        Value::Nil => Vec::new(),
        other => vec![printed(other)],
    }
}

/// Go's `strings.Split`: an empty separator splits into characters.
fn split<'a>(separator: &'a str, text: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    if separator.is_empty() {
        Box::new(text.split("").filter(|piece| !piece.is_empty()))
    } else {
        Box::new(text.split(separator))
    }
}

fn numbered<'a>(pieces: impl Iterator<Item = &'a str>) -> Value {
    let map: std::collections::BTreeMap<String, Value> = pieces
        .enumerate()
        .map(|(n, piece)| (format!("_{n}"), Value::from(piece)))
        .collect();
    map.into()
}

fn regex(arguments: &[Value], n: usize) -> Result<Regex> {
    regex::RegexBuilder::new(string(arguments, n)?)
        .size_limit(1 << 20)
        .build()
        .map_err(|_| fails("bad regular expression"))
}

fn regex_find(arguments: &[Value]) -> Result<Value> {
    Ok(regex(arguments, 0)?
        .find(string(arguments, 1)?)
        .map_or("", |found| found.as_str())
        .into())
}

fn regex_find_all(arguments: &[Value]) -> Result<Value> {
    let most = usize::try_from(integer(arguments, 2)?).unwrap_or(usize::MAX);
    let found: Vec<Value> = regex(arguments, 0)?
        .find_iter(string(arguments, 1)?)
        .take(most)
        .map(|found| Value::from(found.as_str()))
        .collect();
    Ok(found.into())
}

fn regex_replace(arguments: &[Value]) -> Result<Value> {
    let (text, new) = (string(arguments, 1)?, string(arguments, 2)?);
    bounded((text.len() + 1).saturating_mul(new.len() + text.len() + 1) / 64)?;
    Ok(regex(arguments, 0)?.replace_all(text, new).into_owned().into())
}

fn regex_replace_literal(arguments: &[Value]) -> Result<Value> {
    let (text, new) = (string(arguments, 1)?, string(arguments, 2)?);
    bounded((text.len() + 1).saturating_mul(new.len() + 1) / 64)?;
    Ok(regex(arguments, 0)?
        .replace_all(text, regex::NoExpand(new))
        .into_owned()
        .into())
}

fn regex_split(arguments: &[Value]) -> Result<Value> {
    let (text, most) = (string(arguments, 1)?, integer(arguments, 2)?);
    let regex = regex(arguments, 0)?;
    let pieces: Vec<Value> = match usize::try_from(most) {
        Ok(most) => regex.splitn(text, most).map(Value::from).collect(),
        Err(_) => regex.split(text).map(Value::from).collect(),
    };
    Ok(pieces.into())
}

/// Go quotes exactly these.
fn regex_quote(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            ("\\.+*?()|[]{}^$".contains(c))
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect()
}
