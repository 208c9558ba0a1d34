//! An HTTP proxy that tunnels (`CONNECT`), for one user.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::relay::{Relay, Targets, pass_on};

/// Tunnels connections until it is dropped.
pub struct HttpProxy(Relay);

impl HttpProxy {
    /// Listens on loopback and lets in only this user with this password.
    pub fn start(user: &str, password: &str) -> anyhow::Result<Self> {
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        Relay::start(move |client, targets| tunnel(client, targets, &expected)).map(Self)
    }

    /// The address as a client is told.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// The `host:port` of all tunnels since the last call.
    pub fn targets(&self) -> Vec<String> {
        self.0.targets()
    }
}

fn tunnel(mut client: TcpStream, targets: &Targets, expected: &str) -> anyhow::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (
        words.next().context("no method")?,
        words.next().context("no target")?.to_owned(),
    );
    let mut allowed = false;
    let refused = method != "CONNECT";
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':') {
            allowed |= name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == expected;
        }
    }
    if refused {
        return Ok(client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")?);
    }
    if !allowed {
        return Ok(
            client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")?
        );
    }
    let server = TcpStream::connect(&target)?;
    targets.push(target);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    pass_on(&mut reader, client, server)
}
