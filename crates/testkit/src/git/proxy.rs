//! An HTTP proxy that tunnels (`CONNECT`), for one user.

use std::{
    io::{BufRead as _, BufReader, Write as _, copy},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Tunnels connections until it is dropped.
pub struct HttpProxy {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl HttpProxy {
    /// Listens on loopback and lets in only this user with this password.
    pub fn start(user: &str, password: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let targets = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let thread = thread::spawn({
            let (targets, stop) = (Arc::clone(&targets), Arc::clone(&stop));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let (targets, expected) = (Arc::clone(&targets), expected.clone());
                    // Ends with the connection; what goes wrong there is the client's business.
                    thread::spawn(move || drop(tunnel(stream, &targets, &expected)));
                }
            }
        });
        Ok(Self {
            address,
            targets,
            stop,
            thread: Some(thread),
        })
    }

    /// The address as a client is told.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `host:port` of all tunnels since the last call.
    pub fn targets(&self) -> Vec<String> {
        std::mem::take(&mut *self.targets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn tunnel(mut client: TcpStream, targets: &Mutex<Vec<String>>, expected: &str) -> anyhow::Result<()> {
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
    let mut server = TcpStream::connect(&target)?;
    targets
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(target);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let back = thread::spawn({
        let (mut server, mut client) = (server.try_clone()?, client.try_clone()?);
        move || {
            drop(copy(&mut server, &mut client));
            drop(client.shutdown(Shutdown::Both));
        }
    });
    drop(copy(&mut reader, &mut server));
    drop(server.shutdown(Shutdown::Both));
    drop(back.join());
    Ok(())
}
