//! Words: cases, abbreviations, line breaks.

use gotmpl::{Result, Value};

use super::{Entry, bounded, fails, integer, string};

pub(super) const TABLE: &[Entry] = &[
    ("abbrev", 2, 2, |a| {
        let (width, text) = (integer(a, 0)?, string(a, 1)?);
        if width < 4 {
            Ok(text.into())
        } else {
            abbreviated(text, 0, width)
        }
    }),
    ("abbrevboth", 3, 3, |a| {
        let (left, right, text) = (integer(a, 0)?, integer(a, 1)?, string(a, 2)?);
        if right < 4 || (left > 0 && right < 7) {
            Ok(text.into())
        } else {
            abbreviated(text, left, right)
        }
    }),
    ("swapcase", 1, 1, |a| Ok(swapped(string(a, 0)?).into())),
    ("snakecase", 1, 1, |a| Ok(joined(string(a, 0)?, '_').into())),
    ("kebabcase", 1, 1, |a| Ok(joined(string(a, 0)?, '-').into())),
    ("camelcase", 1, 1, |a| Ok(pascal(string(a, 0)?).into())),
    ("wrap", 2, 2, |a| {
        wrapped(integer(a, 0)?, "\n", string(a, 1)?, false)
    }),
    ("wrapWith", 3, 3, |a| {
        let separator = string(a, 1)?;
        let separator = if separator.is_empty() { "\n" } else { separator };
        wrapped(integer(a, 0)?, separator, string(a, 2)?, true)
    }),
];

/// At most `width` bytes of `text`, from about byte `offset`, with dots for what is missing.
fn abbreviated(text: &str, offset: i64, width: i64) -> Result<Value> {
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    if length <= width {
        return Ok(text.into());
    }
    let part = |from: i64, to: i64| {
        let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
        range
            .and_then(|(from, to)| text.get(from..to))
            .ok_or_else(|| fails("a cut inside a character"))
    };
    let offset = offset
        .min(length)
        .min(length - (width - 3))
        .max(offset.min(length - (width - 3)));
    if offset <= 4 {
        return Ok(format!("{}...", part(0, width - 3)?).into());
    }
    if width < 7 {
        return Ok("".into());
    }
    if offset + width - 3 < length {
        return Ok(format!("...{}...", part(offset, offset + width - 6)?).into());
    }
    Ok(format!("...{}", part(length - (width - 3), length)?).into())
}

fn swapped(text: &str) -> String {
    text.chars()
        .flat_map(|c| -> Vec<char> {
            if c.is_uppercase() {
                c.to_lowercase().collect()
            } else {
                c.to_uppercase().collect()
            }
        })
        .collect()
}

fn is_connector(c: char) -> bool {
    c == '-' || c == '_' || c.is_whitespace()
}

/// What a run of characters is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Upper,
    Lower,
    Connector,
    Punctuation,
    Other,
}

fn kind(c: char) -> Kind {
    match c {
        c if is_connector(c) => Kind::Connector,
        c if c.is_ascii_punctuation() && !"$+<=>^`|~".contains(c) => Kind::Punctuation,
        c if c.is_uppercase() => Kind::Upper,
        c if c.is_alphabetic() => Kind::Lower,
        c if c.is_numeric() => Kind::Number,
        _ => Kind::Other,
    }
}

/// The words of `text`: `HTTPServer` is `HTTP` and `Server`.
fn words(text: &str) -> Vec<(Kind, String)> {
    let characters: Vec<char> = text.chars().collect();
    let mut words: Vec<(Kind, String)> = Vec::new();
    for (at, c) in characters.iter().enumerate() {
        let own = kind(*c);
        let next = characters.get(at + 1).map(|c| kind(*c));
        match words.last_mut() {
            // The last capital before a small letter begins the next word.
            Some((Kind::Upper, word))
                if own == Kind::Upper && next != Some(Kind::Lower) && !word.ends_with(char::is_lowercase) =>
            {
                word.push(*c);
            }
            Some((Kind::Upper, word)) if own == Kind::Lower && word.chars().count() == 1 => word.push(*c),
            Some((last, word)) if *last == own && own != Kind::Upper => word.push(*c),
            // Behind a capital, small letters go on.
            Some((Kind::Upper, word)) if own == Kind::Lower && word.ends_with(char::is_lowercase) => {
                word.push(*c);
            }
            _ => words.push((own, c.to_string())),
        }
    }
    words
}

/// `text` in small letters with `connector` between its words. Numbers belong to the word before them, unless small
/// letters follow: then they begin a word of their own.
fn joined(text: &str, connector: char) -> String {
    let words = words(text);
    let mut joined = String::with_capacity(text.len() + 8);
    let mut previous: Option<Kind> = None;
    let mut in_number = false;
    for (at, (kind, word)) in words.iter().enumerate() {
        let next = words.get(at + 1).map(|(kind, _)| *kind);
        let separated = match (previous, *kind) {
            (None | Some(Kind::Connector | Kind::Punctuation), _)
            | (_, Kind::Connector | Kind::Punctuation)
            | (Some(Kind::Number), Kind::Lower) => false,
            (_, Kind::Number) => next == Some(Kind::Lower) && !in_number,
            _ => !(in_number && *kind == Kind::Lower),
        };
        if separated {
            joined.push(connector);
        }
        in_number = match kind {
            Kind::Number => in_number || next == Some(Kind::Lower) || previous.is_none(),
            Kind::Lower => in_number,
            _ => false,
        };
        if *kind == Kind::Connector {
            joined.extend(std::iter::repeat_n(connector, word.chars().count()));
        } else {
            joined.extend(word.chars().flat_map(char::to_lowercase));
        }
        previous = Some(*kind);
    }
    joined
}

/// `some_words` as `SomeWords`; connectors in front, and all but one of several, stay.
fn pascal(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let leading = characters.iter().take_while(|c| is_connector(**c)).count();
    let (front, rest) = characters.split_at(leading);
    let mut result: String = front.iter().collect();
    if rest.is_empty() {
        // sprig has it twice.
        result.extend(front.last());
    }
    // Inside a word that begins with a capital, capitals become small until the first small letter.
    let (mut begins, mut shouting) = (true, false);
    for (at, c) in rest.iter().enumerate() {
        if is_connector(*c) {
            let next = rest.get(at + 1);
            // At the end, or before another connector, it stays.
            if next.is_none_or(|next| is_connector(*next)) {
                result.push(*c);
            }
            begins = true;
        } else if begins {
            shouting = c.is_uppercase();
            result.extend(c.to_uppercase());
            begins = false;
        } else if shouting && c.is_uppercase() {
            result.extend(c.to_lowercase());
        } else {
            shouting = false;
            result.push(*c);
        }
    }
    result
}

/// Breaks a line at spaces, at most `width` bytes before each break; `anywhere` breaks long words, too.
fn wrapped(width: i64, separator: &str, text: &str, anywhere: bool) -> Result<Value> {
    let width = usize::try_from(width.max(1)).map_err(|_| fails("width out of range"))?;
    bounded(
        (text.len() / width + 1)
            .saturating_mul(separator.len())
            .saturating_add(text.len()),
    )?;
    let (mut result, mut rest) = (String::with_capacity(text.len()), text);
    while rest.len() > width {
        if let Some(tail) = rest.strip_prefix(' ') {
            rest = tail;
            continue;
        }
        let bytes = rest.as_bytes();
        let space = bytes.iter().take(width + 1).rposition(|byte| *byte == b' ');
        let (end, next) = match space {
            Some(space) => (space, space + 1),
            None if anywhere => (width, width),
            None => match bytes.iter().skip(width).position(|byte| *byte == b' ') {
                Some(space) => (width + space, width + space + 1),
                None => break,
            },
        };
        result += rest
            .get(..end)
            .ok_or_else(|| fails("a break inside a character"))?;
        result += separator;
        rest = rest.get(next..).unwrap_or_default();
    }
    Ok((result + rest).into())
}
