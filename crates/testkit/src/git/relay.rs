//! What both proxies do: listen, note where clients want to go, and pass bytes on.

use std::{
    io::{Read, copy},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context as _;

/// The `host:port` of connections.
#[derive(Default)]
pub(super) struct Targets(Mutex<Vec<String>>);

impl Targets {
    pub(super) fn push(&self, target: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(target);
    }
}

/// Listens on loopback until it is dropped.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    targets: Arc<Targets>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Relay {
    /// `serve` has a thread for each connection.
    pub(super) fn start(
        serve: impl Fn(TcpStream, &Targets) -> anyhow::Result<()> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let targets = Arc::new(Targets::default());
        let stop = Arc::new(AtomicBool::new(false));
        let serve = Arc::new(serve);
        let thread = thread::spawn({
            let (targets, stop) = (Arc::clone(&targets), Arc::clone(&stop));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let (targets, serve) = (Arc::clone(&targets), Arc::clone(&serve));
                    // Ends with the connection; what goes wrong there is the client's business.
                    thread::spawn(move || drop(serve(stream, &targets)));
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

    /// All targets since the last call.
    pub(super) fn targets(&self) -> Vec<String> {
        std::mem::take(&mut *self.targets.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Passes bytes on in both directions until one side has no more. `reader` is the client's side, and may have read ahead.
pub(super) fn pass_on(
    reader: &mut impl Read,
    mut client: TcpStream,
    mut server: TcpStream,
) -> anyhow::Result<()> {
    let back = thread::spawn({
        let mut server = server.try_clone()?;
        move || {
            drop(copy(&mut server, &mut client));
            drop(client.shutdown(Shutdown::Both));
        }
    });
    drop(copy(reader, &mut server));
    drop(server.shutdown(Shutdown::Both));
    drop(back.join());
    Ok(())
}
