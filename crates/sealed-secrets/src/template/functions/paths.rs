//! Paths and URLs.

use std::collections::BTreeMap;

use gotmpl::Value;

use super::{Entry, argument, fails, string};

pub(super) const TABLE: &[Entry] = &[
    ("base", 1, 1, |a| Ok(base(string(a, 0)?).into())),
    ("osBase", 1, 1, |a| Ok(base(string(a, 0)?).into())),
    ("dir", 1, 1, |a| Ok(directory(string(a, 0)?).into())),
    ("osDir", 1, 1, |a| Ok(directory(string(a, 0)?).into())),
    ("clean", 1, 1, |a| Ok(clean(string(a, 0)?).into())),
    ("osClean", 1, 1, |a| Ok(clean(string(a, 0)?).into())),
    ("ext", 1, 1, |a| Ok(extension(string(a, 0)?).into())),
    ("osExt", 1, 1, |a| Ok(extension(string(a, 0)?).into())),
    ("isAbs", 1, 1, |a| Ok(Value::Bool(string(a, 0)?.starts_with('/')))),
    ("osIsAbs", 1, 1, |a| {
        Ok(Value::Bool(string(a, 0)?.starts_with('/')))
    }),
    ("urlParse", 1, 1, |a| {
        let url = Url::parse(string(a, 0)?).ok_or_else(|| fails("not a URL"))?;
        let parts = [
            ("scheme", url.scheme),
            ("opaque", url.opaque),
            ("userinfo", url.user),
            ("hostname", hostname(&url.host).to_owned()),
            ("host", url.host),
            ("path", url.path),
            ("query", url.query),
            ("fragment", url.fragment),
        ];
        let parts = parts.map(|(name, part)| (name.to_owned(), Value::from(part)));
        Ok(Value::from(BTreeMap::from(parts)))
    }),
    ("urlJoin", 1, 1, |a| {
        let Value::Map(parts) = argument(a, 0)? else {
            return Err(fails("expected a map"));
        };
        let part = |name: &str| match parts.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.to_string()),
            Some(_) => Err(fails("expected a string")),
        };
        let url = Url {
            scheme: part("scheme")?,
            opaque: part("opaque")?,
            user: part("userinfo")?,
            host: part("host")?,
            path: part("path")?,
            query: part("query")?,
            fragment: part("fragment")?,
        };
        Ok(url.to_text().into())
    }),
];

/// Go's `path.Base`.
fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".",
        (false, true) => "/",
        _ => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

fn directory(path: &str) -> String {
    clean(
        path.rfind('/')
            .map_or("", |slash| path.get(..=slash).unwrap_or_default()),
    )
}

/// The shortest path that means the same.
fn clean(path: &str) -> String {
    let root = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if root => {}
            part => parts.push(part),
        }
    }
    match (root, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rfind('.')
        .map_or("", |dot| name.get(dot..).unwrap_or_default())
}

/// A URL taken apart as Go does it.
#[derive(Default)]
struct Url {
    scheme: String,
    opaque: String,
    user: String,
    host: String,
    path: String,
    query: String,
    fragment: String,
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let mut url = Self::default();
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        url.fragment = unescaped(fragment)?;
        let (scheme, rest) = scheme(rest)?;
        url.scheme = scheme.to_ascii_lowercase();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        query.clone_into(&mut url.query);
        if !rest.starts_with('/') && !scheme.is_empty() {
            rest.clone_into(&mut url.opaque);
            return Some(url);
        }
        let first = rest.split('/').next().unwrap_or_default();
        if scheme.is_empty() && first.contains(':') {
            return None;
        }
        let path = match rest
            .strip_prefix("//")
            .filter(|_| !scheme.is_empty() || !rest.starts_with("///"))
        {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
                url.user = escaped(&unescaped(user)?, b"$&+,;=:");
                if url.user != user && unescaped(user)? == user {
                    return None;
                }
                let port = host.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
                if !port.is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
                    return None;
                }
                url.host = unescaped(host)
                    .filter(|host| !host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']))?;
                path
            }
            None => rest,
        };
        url.path = unescaped(path)?;
        Some(url)
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.scheme.is_empty() {
            text.extend([&self.scheme, ":"]);
        }
        if self.opaque.is_empty() {
            if !self.scheme.is_empty() || !self.host.is_empty() || !self.user.is_empty() {
                if !self.host.is_empty() || !self.path.is_empty() || !self.user.is_empty() {
                    text += "//";
                }
                if !self.user.is_empty() {
                    text.extend([&self.user, "@"]);
                }
                text += &escaped(&self.host, b"$&+,;=:[]!'()*<>\"");
            }
            if !self.path.is_empty() && !self.path.starts_with('/') && !self.host.is_empty() {
                text.push('/');
            }
            let path = escaped(&self.path, b"$&+,/:;=@");
            if text.is_empty() && path.split('/').next().is_some_and(|first| first.contains(':')) {
                text += "./";
            }
            text += &path;
        } else {
            text += &self.opaque;
        }
        if !self.query.is_empty() {
            text.extend(["?", &self.query]);
        }
        if !self.fragment.is_empty() {
            text.extend(["#", &escaped(&self.fragment, b"$&+,/:;=?@!'()*")]);
        }
        text
    }
}

fn scheme(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
    match end {
        Some(0) if text.starts_with(':') => None,
        Some(end)
            if text.get(end..)?.starts_with(':') && text.starts_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            Some((text.get(..end)?, text.get(end + 1..)?))
        }
        _ => Some(("", text)),
    }
}

fn hostname(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split(']').next().unwrap_or(inner);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// `text` with everything escaped but letters, digits, `-_.~` and what is `allowed`.
fn escaped(text: &str, allowed: &[u8]) -> String {
    let mut result = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || allowed.contains(&byte) {
            result.push(char::from(byte));
        } else {
            result.extend(["%", &super::encoding::hex(&[byte]).to_ascii_uppercase()]);
        }
    }
    result
}
