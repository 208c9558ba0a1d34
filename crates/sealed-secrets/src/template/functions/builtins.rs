//! The functions of text/template itself that make text, with a bound before they make it.

use gotmpl::{Result, Value};

use super::{ANY, Entry, bounded, fails, size_of, string};

/// The names in this table are text/template's own, not sprig's.
pub(super) const TABLE: &[Entry] = &[
    ("print", 0, ANY, |a| Ok(printed_together(a, 1)?.into())),
    ("println", 0, ANY, |a| {
        sized(a, 1)?;
        let words: Vec<String> = a.iter().map(Value::to_string).collect();
        Ok((words.join(" ") + "\n").into())
    }),
    ("printf", 1, ANY, |a| {
        let format = string(a, 0)?;
        let verbs = format.matches('%').count();
        // A verb can name any argument again, and pad it to 64 KiB.
        let padding = if format.contains(|c: char| c.is_ascii_digit() || c == '*') {
            1 << 16
        } else {
            64
        };
        let largest = a.iter().map(size_of).max().unwrap_or_default();
        bounded(verbs.saturating_mul(largest.saturating_add(padding)) / 16)?;
        original("printf", a)
    }),
    ("html", 1, ANY, |a| {
        original("html", &[printed_together(a, 5)?.into()])
    }),
    ("js", 1, ANY, |a| {
        original("js", &[printed_together(a, 6)?.into()])
    }),
    ("urlquery", 1, ANY, |a| {
        original("urlquery", &[printed_together(a, 3)?.into()])
    }),
];

/// Refuses arguments whose text, each byte becoming `factor` bytes, could not be kept anyway.
fn sized(arguments: &[Value], factor: usize) -> Result<()> {
    let sizes = arguments.iter().map(size_of);
    bounded(sizes.fold(0, usize::saturating_add).saturating_mul(factor) / 8)
}

/// All arguments as one text: a space between two that are no strings. Each byte may still become `factor` bytes.
fn printed_together(arguments: &[Value], factor: usize) -> Result<String> {
    sized(arguments, factor)?;
    let mut text = String::new();
    for (n, value) in arguments.iter().enumerate() {
        let is_text = |value: Option<&Value>| matches!(value, Some(Value::String(_)));
        if n > 0 && !is_text(Some(value)) && !is_text(arguments.get(n - 1)) {
            text.push(' ');
        }
        text += &value.to_string();
    }
    Ok(text)
}

/// What the library's own function of this name makes of `arguments`.
fn original(name: &str, arguments: &[Value]) -> Result<Value> {
    let operands: String = (0..arguments.len())
        .flat_map(|n| [" (index . ".to_owned(), n.to_string(), ")".to_owned()])
        .collect();
    gotmpl::Template::new(name)
        .parse(&format!("{{{{ {name}{operands} }}}}"))
        .and_then(|template| template.execute_to_string(&Value::from(arguments.to_vec())))
        .map(Value::from)
        .map_err(|_| fails("text/template refuses it"))
}
