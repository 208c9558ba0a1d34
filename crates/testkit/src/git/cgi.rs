//! `git http-backend` as a CGI program, and as much of HTTP/1.1 as Git needs around it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::Stdio,
    thread,
};

use anyhow::{Context as _, ensure};

use super::repository::clean_git;

/// Requests of Git clients are small; larger ones than this are not for tests.
const BODY_LIMIT: usize = 64 << 20;

/// A request as it was read.
pub(crate) struct HttpRequest {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl HttpRequest {
    /// Reads one request. `None` if the client left.
    pub(crate) fn read(stream: &mut impl Read) -> anyhow::Result<Option<Self>> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let method = words.next().context("no method")?.to_owned();
        let target = words.next().context("no path")?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(
                reader.read_line(&mut line)? > 0,
                "the request ends in its headers"
            );
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self {
            method,
            path,
            query,
            headers,
            body: Vec::new(),
        };
        if request
            .header("transfer-encoding")
            .is_some_and(|it| it.contains("chunked"))
        {
            request.read_chunks(&mut reader)?;
        } else if let Some(length) = request.header("content-length") {
            let length: usize = length.parse().context("no number in content-length")?;
            ensure!(length <= BODY_LIMIT, "the body is too large");
            request.body.resize(length, 0);
            reader.read_exact(&mut request.body)?;
        }
        Ok(Some(request))
    }

    fn read_chunks(&mut self, reader: &mut impl BufRead) -> anyhow::Result<()> {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).context("no length before a chunk")?;
            ensure!(self.body.len() + length <= BODY_LIMIT, "the body is too large");
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk)?;
            chunk.truncate(length);
            self.body.extend(chunk);
            if length == 0 {
                return Ok(());
            }
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The protocol v2 command in the body.
    pub(super) fn command(&self) -> Option<String> {
        let at = self.body.windows(8).position(|it| it == b"command=")? + 8;
        let name = self.body.get(at..)?;
        let end = name
            .iter()
            .position(|byte| !byte.is_ascii_lowercase() && *byte != b'-')
            .unwrap_or(name.len());
        // The next packet line starts with its length in hex, whose first digit is 0.
        Some(String::from_utf8_lossy(name.get(..end)?).into_owned())
    }
}

/// Runs `git http-backend` on the repositories below `root` and returns the whole HTTP response.
pub(super) fn respond(root: &Path, request: &HttpRequest) -> anyhow::Result<Vec<u8>> {
    let mut backend = clean_git();
    backend
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("REMOTE_USER", "tester");
    for (name, variable) in [
        ("git-protocol", "GIT_PROTOCOL"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
    ] {
        if let Some(value) = request.header(name) {
            backend.env(variable, value);
        }
    }
    let mut child = backend
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start git http-backend: install git")?;
    let mut stdin = child.stdin.take().context("no pipe to git")?;
    let body = request.body.clone();
    let writer = thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output().context("lost sight of git")?;
    // Git may answer without having read everything.
    drop(writer.join());
    let split = output
        .stdout
        .windows(4)
        .position(|it| it == b"\r\n\r\n")
        .context("git http-backend gave no headers")?;
    let (head, body) = (&output.stdout[..split], &output.stdout[split + 4..]);
    let head = String::from_utf8_lossy(head);
    let (mut status, mut lines) = ("200 OK".to_owned(), String::new());
    for line in head.lines() {
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("status") => {
                value.trim().clone_into(&mut status);
            }
            _ => lines.extend([line, "\r\n"]),
        }
    }
    let mut response = plain(&status, &lines, body.len());
    response.extend_from_slice(body);
    Ok(response)
}

/// The head of a response.
pub(crate) fn plain(status: &str, header_lines: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{header_lines}Content-Length: {length}\r\nConnection: close\r\n\r\n")
        .into_bytes()
}
