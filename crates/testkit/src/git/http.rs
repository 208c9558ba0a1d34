//! A small HTTP server in front of `git http-backend`, with a log of requests and with faults on demand.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{
    Repository,
    cgi::{HttpRequest, plain, respond},
};
use crate::pki::Authority;

/// Who may read.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everybody.
    Open,
    /// This user with this password.
    Basic(&'static str, &'static str),
    /// Who has this token.
    Bearer(&'static str),
}

/// What the server does instead of a proper answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is wrong.
    None,
    /// Accepts connections and says nothing.
    Silence,
    /// Sends so many bytes of the body of each answer to a POST, then closes.
    Truncate(usize),
    /// Sends so many bytes of the body of each answer to a POST, then says nothing more.
    Stall(usize),
    /// Sends a byte of the body, waits so long, sends the next.
    Trickle(Duration),
    /// This status for everything.
    Status(&'static str),
    /// Redirects the first request of each operation to this base URL.
    Redirect(String),
    /// Answers with a web page.
    Page,
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// `GET`, `POST`.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// `ls-refs`, `fetch` or nothing.
    pub command: Option<String>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The body as text, as far as it is text.
    pub body: String,
}

/// A certificate and its key, both PEM.
pub struct ClientIdentity {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// Serves all repositories of a directory until it is dropped.
pub struct GitServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    ca: Option<String>,
    running: Option<(Arc<AtomicBool>, thread::JoinHandle<()>)>,
}

struct Shared {
    root: PathBuf,
    access: Mutex<Access>,
    fault: Mutex<Fault>,
    requests: Mutex<Vec<GitRequest>>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl GitServer {
    /// Serves the repository over `http://` to everybody.
    pub fn http(repository: &Repository) -> anyhow::Result<Self> {
        Self::start(repository, Access::Open, None)
    }

    /// Serves the repository over `http://` to those who may.
    pub fn http_for(repository: &Repository, access: Access) -> anyhow::Result<Self> {
        Self::start(repository, access, None)
    }

    /// Serves the repository over `https://` with a certificate of an authority of its own ([`GitServer::ca`]).
    pub fn https_for(repository: &Repository, access: Access) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let identity = authority.server(&[])?;
        let chain =
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).context("bad certificate")?];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).context("bad key")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .context("cannot serve TLS")?;
        Self::start(
            repository,
            access,
            Some((Arc::new(config), authority.pem().to_owned())),
        )
    }

    /// Serves the repository over `https://` to those who show a certificate of the server's own authority; returns one.
    pub fn https_with_client_certificates(repository: &Repository) -> anyhow::Result<(Self, ClientIdentity)> {
        let authority = Authority::new()?;
        let (server, client) = (authority.server(&[])?, authority.client("tester", None)?);
        let chain =
            vec![CertificateDer::from_pem_slice(server.certificate.as_bytes()).context("bad certificate")?];
        let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).context("bad key")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut trusted = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(authority.pem().as_bytes()).context("bad authority")?;
        trusted.add(ca).context("bad authority")?;
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(trusted),
            Arc::clone(&provider),
        )
        .build()
        .context("cannot verify clients")?;
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(verifier)
                    .with_single_cert(chain, key)
            })
            .context("cannot serve TLS")?;
        let tls = Some((Arc::new(config), authority.pem().to_owned()));
        let client = ClientIdentity {
            certificate: client.certificate,
            key: client.key,
        };
        Ok((Self::start(repository, Access::Open, tls)?, client))
    }

    fn start(
        repository: &Repository,
        access: Access,
        tls: Option<(Arc<rustls::ServerConfig>, String)>,
    ) -> anyhow::Result<Self> {
        let root = repository
            .path()
            .parent()
            .context("a repository is in a directory")?
            .to_owned();
        let (tls, ca) = tls.unzip();
        let shared = Arc::new(Shared {
            root,
            access: Mutex::new(access),
            fault: Mutex::new(Fault::None),
            requests: Mutex::default(),
            tls,
        });
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let mut server = Self {
            shared,
            address,
            ca,
            running: None,
        };
        server.run(listener);
        Ok(server)
    }

    fn run(&mut self, listener: TcpListener) {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (stop, shared) = (Arc::clone(&stop), Arc::clone(&self.shared));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let (stop, shared) = (Arc::clone(&stop), Arc::clone(&shared));
                    // Ends with the connection, or with the server.
                    thread::spawn(move || shared.connection(stream, &stop));
                }
            }
        });
        self.running = Some((stop, thread));
    }

    /// The URL of the repository.
    pub fn url(&self) -> String {
        self.url_of("repository.git")
    }

    /// The URL of something else in the directory of the repository, there or not.
    pub fn url_of(&self, name: &str) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{name}", self.address.port())
    }

    /// The certificate authority in PEM form, for `https://`.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// All requests since the last call, in their order.
    pub fn requests(&self) -> Vec<GitRequest> {
        std::mem::take(
            &mut *self
                .shared
                .requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// From now on, do this.
    pub fn set_fault(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// From now on, let these in.
    pub fn set_access(&self, access: Access) {
        *self.shared.access.lock().unwrap_or_else(PoisonError::into_inner) = access;
    }

    /// Nobody listens any more.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.store(true, Ordering::Relaxed);
            // Wakes the listener.
            drop(TcpStream::connect(self.address));
            drop(thread.join());
        }
    }

    /// Listens again, on the same port.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.stop();
        let listener = TcpListener::bind(self.address).context("the port was taken meanwhile")?;
        self.run(listener);
        Ok(())
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn connection(&self, mut stream: TcpStream, stop: &AtomicBool) {
        // A client that goes away is the client's business.
        let Some(tls) = &self.tls else {
            drop(self.serve(&mut stream, stop));
            return;
        };
        if let Ok(connection) = rustls::ServerConnection::new(Arc::clone(tls)) {
            let mut stream = rustls::StreamOwned::new(connection, stream);
            drop(self.serve(&mut stream, stop));
            stream.conn.send_close_notify();
            drop(stream.conn.complete_io(&mut stream.sock));
        }
    }

    fn serve(&self, stream: &mut (impl Read + Write), stop: &AtomicBool) -> anyhow::Result<()> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if fault == Fault::Silence {
            wait(stop);
            return Ok(());
        }
        let Some(request) = HttpRequest::read(stream)? else {
            return Ok(());
        };
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(GitRequest {
                method: request.method.clone(),
                path: request.path.clone(),
                command: request.command(),
                authorization: request.header("authorization").map(str::to_owned),
                body: String::from_utf8_lossy(&request.body).into_owned(),
            });
        let response = self.answer(&fault, &request)?;
        let body_at = response
            .windows(4)
            .position(|it| it == b"\r\n\r\n")
            .map_or(0, |at| at + 4);
        match fault {
            Fault::Truncate(bytes) if request.method == "POST" => {
                stream.write_all(&response[..response.len().min(body_at + bytes)])?;
            }
            Fault::Stall(bytes) if request.method == "POST" => {
                stream.write_all(&response[..response.len().min(body_at + bytes)])?;
                stream.flush()?;
                if body_at + bytes < response.len() {
                    wait(stop);
                }
            }
            Fault::Trickle(pause) => {
                stream.write_all(&response[..body_at])?;
                for byte in &response[body_at..] {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    stream.write_all(&[*byte])?;
                    stream.flush()?;
                    thread::sleep(pause);
                }
            }
            _ => stream.write_all(&response)?,
        }
        Ok(stream.flush()?)
    }

    fn answer(&self, fault: &Fault, request: &HttpRequest) -> anyhow::Result<Vec<u8>> {
        match fault {
            Fault::Status(status) => return Ok(plain(status, "", 0)),
            Fault::Page => {
                let mut page = plain("200 OK", "Content-Type: text/html\r\n", 9);
                page.extend_from_slice(b"<p>Hi</p>");
                return Ok(page);
            }
            Fault::Redirect(base) if request.method == "GET" => {
                let location = format!("Location: {base}/info/refs?{}\r\n", request.query);
                return Ok(plain("302 Found", &location, 0));
            }
            _ => {}
        }
        let expected = match &*self.access.lock().unwrap_or_else(PoisonError::into_inner) {
            Access::Open => None,
            Access::Basic(user, password) => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            Access::Bearer(token) => Some(format!("Bearer {token}")),
        };
        if expected.is_some() && request.header("authorization") != expected.as_deref() {
            return Ok(plain(
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"git\"\r\n",
                0,
            ));
        }
        respond(&self.root, request)
    }
}

/// Half a minute, or until the server stops.
fn wait(stop: &AtomicBool) {
    for _ in 0..600 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Where the served repositories are.
impl AsRef<Path> for GitServer {
    fn as_ref(&self) -> &Path {
        &self.shared.root
    }
}
