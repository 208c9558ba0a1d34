//! A SOCKS5 proxy (RFC 1928) for one user (RFC 1929).

use std::{
    io::{Read as _, Write as _, copy},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, bail, ensure};

/// Connects for its user until it is dropped.
pub struct SocksProxy {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl SocksProxy {
    /// Listens on loopback and lets in only this user with this password.
    pub fn start(user: &'static str, password: &'static str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let targets = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (targets, stop) = (Arc::clone(&targets), Arc::clone(&stop));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let targets = Arc::clone(&targets);
                    // Ends with the connection; what goes wrong there is the client's business.
                    thread::spawn(move || drop(connect(stream, &targets, (user, password))));
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
        format!("socks5://{}", self.address)
    }

    /// The `host:port` of all connections since the last call.
    pub fn targets(&self) -> Vec<String> {
        std::mem::take(&mut *self.targets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for SocksProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn connect(
    mut client: TcpStream,
    targets: &Mutex<Vec<String>>,
    (user, password): (&str, &str),
) -> anyhow::Result<()> {
    let [version] = read::<1>(&mut client)?;
    ensure!(version == 5, "not SOCKS5");
    let methods = counted(&mut client)?;
    // 2: by name and password; 255: no way.
    if !methods.contains(&2) {
        return Ok(client.write_all(&[5, 255])?);
    }
    client.write_all(&[5, 2])?;
    read::<1>(&mut client)?;
    let (name, word) = (counted(&mut client)?, counted(&mut client)?);
    if name != user.as_bytes() || word != password.as_bytes() {
        return Ok(client.write_all(&[1, 1])?);
    }
    client.write_all(&[1, 0])?;
    let [_, command, _, kind] = read::<4>(&mut client)?;
    ensure!(command == 1, "not CONNECT");
    let host = match kind {
        1 => Ipv4Addr::from(read::<4>(&mut client)?).to_string(),
        3 => String::from_utf8(counted(&mut client)?)?,
        4 => Ipv6Addr::from(read::<16>(&mut client)?).to_string(),
        _ => bail!("unknown kind of address"),
    };
    let target = format!("{host}:{}", u16::from_be_bytes(read::<2>(&mut client)?));
    targets
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(target.clone());
    let Ok(mut server) = TcpStream::connect(&target) else {
        return Ok(client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0])?);
    };
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let back = thread::spawn({
        let (mut server, mut client) = (server.try_clone()?, client.try_clone()?);
        move || {
            drop(copy(&mut server, &mut client));
            drop(client.shutdown(Shutdown::Both));
        }
    });
    drop(copy(&mut client, &mut server));
    drop(server.shutdown(Shutdown::Both));
    drop(back.join());
    Ok(())
}

fn read<const N: usize>(client: &mut TcpStream) -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A length and so many bytes.
fn counted(client: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let [length] = read::<1>(client)?;
    let mut bytes = vec![0; length.into()];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}
