//! Pure: the expressions of `spec.postBuild`: `${name}` and the string functions of drone/envsubst as Flux has them.
//! `$$` stands for one `$`; a `$` before anything but `{` is itself. What the variables hold is not looked at again.

mod pattern;

use self::pattern::remove;

/// An expression cannot be evaluated. Never quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// A variable is not set and there is no default.
    #[error(
        "the variable {0:?} is not set: set it in spec.postBuild, give a default with ${{{0}:=…}}, or write $${{{0}}} to keep the text"
    )]
    NotSet(String),
    /// The expression is not understood.
    #[error("{0}; write $${{ for a literal ${{")]
    Syntax(String),
    /// The result would be too large.
    #[error("the result is larger than {} MiB", MAX >> 20)]
    TooLarge,
    /// A substring would cut a character of more than one byte.
    #[error("a part of {0:?} is cut out in the middle of a character")]
    Cut(String),
}

use SubstituteError::Syntax;

/// As large as a document may be.
const MAX: usize = 4 << 20;
/// Defaults within defaults.
const DEPTH: usize = 16;
/// What a name stands for; `None` when it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<&'a str>;

/// Whether there is anything to do in a text.
pub fn has_expressions(text: &str) -> bool {
    text.contains("${") || text.contains("$$")
}

/// Whether a text is nothing but one expression.
pub fn is_one_expression(text: &str) -> bool {
    let mut reader = Reader { rest: text };
    reader.eat("${") && reader.skip_expression(0).is_ok() && reader.rest.is_empty()
}

/// The text with all expressions evaluated.
pub fn substitute(text: &str, lookup: Lookup<'_>) -> Result<String, SubstituteError> {
    let mut out = String::with_capacity(text.len());
    let mut reader = Reader { rest: text };
    while let Some(at) = reader.rest.find('$') {
        let (before, rest) = reader.rest.split_at(at);
        out.push_str(before);
        reader.rest = rest;
        if reader.eat("$$") {
            out.push('$');
        } else if reader.eat("${") {
            out.push_str(&reader.expression(lookup, 0)?);
        } else {
            reader.eat("$");
            out.push('$');
        }
        if out.len() > MAX {
            return Err(SubstituteError::TooLarge);
        }
    }
    out.push_str(reader.rest);
    Ok(out)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Reads past an expression without evaluating it.
    fn skip_expression(&mut self, depth: usize) -> Result<(), SubstituteError> {
        self.expression(&|_| Some(""), depth).map(drop)
    }

    fn close(&mut self) -> Result<(), SubstituteError> {
        if self.eat("}") {
            Ok(())
        } else {
            Err(Syntax("an expression ${…} does not end as expected".into()))
        }
    }

    fn name(&mut self) -> Result<String, SubstituteError> {
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        if end == 0 {
            return Err(Syntax(
                "an expression ${…} does not begin with the name of a variable".into(),
            ));
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name.to_owned())
    }

    /// What follows `${`.
    fn expression(&mut self, lookup: Lookup<'_>, depth: usize) -> Result<String, SubstituteError> {
        if depth > DEPTH {
            return Err(Syntax(format!(
                "more than {DEPTH} expressions are within one another"
            )));
        }
        if self.eat("#") {
            let name = self.name()?;
            self.close()?;
            return Ok(lookup(&name).unwrap_or_default().len().to_string());
        }
        let name = self.name()?;
        let found = lookup(&name);
        let value = found.unwrap_or_default();
        if self.eat("}") {
            return found.map(str::to_owned).ok_or(SubstituteError::NotSet(name));
        }
        for function in [":?", ":+"] {
            if self.rest.starts_with(function) {
                let message =
                    format!("{function} means something else in Flux than in a shell, and is not supported");
                return Err(Syntax(message));
            }
        }
        for function in [":=", ":-", "="] {
            if self.eat(function) {
                let default = self.default(lookup, depth)?;
                return Ok(if value.is_empty() {
                    default
                } else {
                    value.to_owned()
                });
            }
        }
        if self.eat(":") {
            return self.part(&name, value, lookup, depth);
        }
        for (function, change) in CASES {
            if self.eat(function) {
                self.close()?;
                return Ok(change(value));
            }
        }
        for (function, side, extent) in REMOVALS {
            if self.eat(function) {
                let pattern = self.argument(&['}'], None, lookup, depth)?;
                self.close()?;
                return remove(value, &pattern, side, extent);
            }
        }
        for (function, place) in REPLACEMENTS {
            if self.eat(function) {
                return self.replace(value, place, lookup, depth);
            }
        }
        Err(Syntax(format!(
            "the expression of {name:?} is not understood or has no closing brace"
        )))
    }

    /// Text and expressions up to the closing brace.
    fn default(&mut self, lookup: Lookup<'_>, depth: usize) -> Result<String, SubstituteError> {
        let mut out = String::new();
        while !self.eat("}") {
            out.push_str(&self.argument(&['}'], None, lookup, depth)?);
            if out.len() > MAX {
                return Err(SubstituteError::TooLarge);
            }
        }
        Ok(out)
    }

    /// `:offset` or `:offset:length`, in bytes; a number that is none leaves the value as it is, as in bash.
    fn part(
        &mut self,
        name: &str,
        value: &str,
        lookup: Lookup<'_>,
        depth: usize,
    ) -> Result<String, SubstituteError> {
        let offset = self.argument(&[':', '}'], None, lookup, depth)?;
        let length = if self.eat(":") {
            Some(self.argument(&['}'], None, lookup, depth)?)
        } else {
            None
        };
        self.close()?;
        let Ok(offset) = offset.parse::<i64>() else {
            return Ok(value.to_owned());
        };
        let size = i64::try_from(value.len()).unwrap_or(i64::MAX);
        let begin = if offset < 0 {
            (size + offset).max(0)
        } else {
            offset.min(size)
        };
        let end = match length.as_deref().map(str::parse::<i64>) {
            None => size,
            Some(Ok(length)) if length >= 0 => begin.saturating_add(length).min(size),
            Some(Ok(_)) => return Err(Syntax(format!("the length of a part of {name:?} is negative"))),
            Some(Err(_)) => return Ok(value.to_owned()),
        };
        let range = usize::try_from(begin).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        let part = value.get(range).map(str::to_owned);
        part.ok_or_else(|| SubstituteError::Cut(name.to_owned()))
    }

    fn replace(
        &mut self,
        value: &str,
        place: Place,
        lookup: Lookup<'_>,
        depth: usize,
    ) -> Result<String, SubstituteError> {
        let pattern = self.argument(&['/'], Some(ESCAPED), lookup, depth)?;
        if !self.eat("/") {
            return Err(Syntax("a replacement is written ${name/what/by}".into()));
        }
        if self.eat("}") {
            let gone = match place {
                Place::First => value.replacen(&pattern, "", 1),
                Place::All => value.replace(&pattern, ""),
                // The original leaves these alone without a replacement.
                Place::Start | Place::End => value.to_owned(),
            };
            return Ok(gone);
        }
        let by = self.argument(&['}'], Some(ESCAPED), lookup, depth)?;
        self.close()?;
        let grown = value
            .len()
            .saturating_add(value.len().saturating_add(1).saturating_mul(by.len()));
        if grown > MAX {
            return Err(SubstituteError::TooLarge);
        }
        Ok(match place {
            Place::First => value.replacen(&pattern, &by, 1),
            Place::All => value.replace(&pattern, &by),
            Place::Start => value
                .strip_prefix(&*pattern)
                .map_or_else(|| value.to_owned(), |rest| format!("{by}{rest}")),
            Place::End => value
                .strip_suffix(&*pattern)
                .map_or_else(|| value.to_owned(), |rest| format!("{rest}{by}")),
        })
    }

    /// One expression, or text up to one of `ends` or the next expression; not empty.
    fn argument(
        &mut self,
        ends: &[char],
        escaped: Option<&[&str]>,
        lookup: Lookup<'_>,
        depth: usize,
    ) -> Result<String, SubstituteError> {
        if self.eat("${") {
            return self.expression(lookup, depth + 1);
        }
        let mut out = String::new();
        loop {
            if self.rest.starts_with("${") {
                break;
            }
            let escape = escaped
                .into_iter()
                .flatten()
                .find(|escape| self.rest.starts_with(**escape));
            if let Some(escape) = escape {
                out.push_str(&escape[1..]);
                self.rest = &self.rest[escape.len()..];
                continue;
            }
            match self.rest.chars().next() {
                Some(c) if !ends.contains(&c) => {
                    out.push(c);
                    self.rest = &self.rest[c.len_utf8()..];
                }
                _ => break,
            }
        }
        if out.is_empty() {
            return Err(Syntax(
                "an expression ${…} ends too early, or lacks its closing brace".into(),
            ));
        }
        Ok(out)
    }
}

/// What stands for its last character in a replacement.
const ESCAPED: &[&str] = &["\\/", "\\\\", "$$"];

type Change = fn(&str) -> String;
const CASES: [(&str, Change); 4] = [
    ("^^", |value| value.chars().map(upper).collect()),
    ("^", |value| first(value, upper)),
    (",,", |value| value.chars().map(lower).collect()),
    (",", |value| first(value, lower)),
];

fn first(value: &str, change: fn(char) -> char) -> String {
    let mut chars = value.chars();
    let first = chars.next().map(change);
    first.into_iter().chain(chars).collect()
}

/// Go changes character by character: what would become two stays.
fn upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    upper.next().filter(|_| upper.next().is_none()).unwrap_or(c)
}

fn lower(c: char) -> char {
    let mut lower = c.to_lowercase();
    lower.next().filter(|_| lower.next().is_none()).unwrap_or(c)
}

#[derive(Clone, Copy)]
enum Place {
    First,
    All,
    Start,
    End,
}

const REPLACEMENTS: [(&str, Place); 4] = [
    ("//", Place::All),
    ("/#", Place::Start),
    ("/%", Place::End),
    ("/", Place::First),
];

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Start,
    End,
}

#[derive(Clone, Copy, PartialEq)]
enum Extent {
    Longest,
    Shortest,
}

const REMOVALS: [(&str, Side, Extent); 4] = [
    ("##", Side::Start, Extent::Longest),
    ("#", Side::Start, Extent::Shortest),
    ("%%", Side::End, Extent::Longest),
    ("%", Side::End, Extent::Shortest),
];
