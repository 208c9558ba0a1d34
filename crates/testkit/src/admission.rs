//! An admission webhook that the API server really calls.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::{
    git::cgi::{HttpRequest, plain},
    pki::Authority,
};

/// What a webhook says to a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It may pass.
    Allow,
    /// It may not, for this reason.
    Deny(String),
    /// It may pass with this JSON patch (RFC 6902).
    Patch(Value),
    /// Nothing, for so long; then it may pass.
    Silence(Duration),
}

type Review = dyn Fn(&Value) -> Verdict + Send + Sync;

/// Answers the API server's reviews until it is dropped.
pub struct AdmissionServer {
    address: SocketAddr,
    ca: String,
    reviews: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl AdmissionServer {
    /// Listens on loopback; `review` is given the `request` of each `AdmissionReview`.
    pub fn start(review: impl Fn(&Value) -> Verdict + Send + Sync + 'static) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let identity = authority.server(&[])?;
        let chain =
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).context("bad certificate")?];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).context("bad key")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .context("cannot serve TLS")?;
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let (tls, review): (_, Arc<Review>) = (Arc::new(tls), Arc::new(review));
        let (stop, reviews) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = thread::spawn({
            let (stop, reviews) = (Arc::clone(&stop), Arc::clone(&reviews));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let (tls, review, reviews) =
                        (Arc::clone(&tls), Arc::clone(&review), Arc::clone(&reviews));
                    // Ends with the connection; what goes wrong there is the API server's business.
                    thread::spawn(move || drop(connection(stream, tls, review.as_ref(), &reviews)));
                }
            }
        });
        Ok(Self {
            address,
            ca: authority.pem().to_owned(),
            reviews,
            stop,
            thread: Some(thread),
        })
    }

    /// The `clientConfig` of a webhook.
    pub fn client_config(&self) -> Value {
        json!({ "url": format!("https://{}/review", self.address), "caBundle": STANDARD.encode(&self.ca) })
    }

    /// How often it was asked.
    pub fn reviews(&self) -> usize {
        self.reviews.load(Ordering::Relaxed)
    }
}

impl Drop for AdmissionServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn connection(
    stream: TcpStream,
    tls: Arc<rustls::ServerConfig>,
    review: &Review,
    reviews: &AtomicUsize,
) -> anyhow::Result<()> {
    let connection = rustls::ServerConnection::new(tls)?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    serve(&mut stream, review, reviews)?;
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(())
}

fn serve(stream: &mut (impl Read + Write), review: &Review, reviews: &AtomicUsize) -> anyhow::Result<()> {
    let Some(request) = HttpRequest::read(stream)? else {
        return Ok(());
    };
    reviews.fetch_add(1, Ordering::Relaxed);
    let asked: Value = serde_json::from_slice(&request.body).context("no AdmissionReview")?;
    let request = &asked["request"];
    let mut response = json!({ "uid": request["uid"], "allowed": true });
    match review(request) {
        Verdict::Allow => {}
        Verdict::Deny(message) => {
            response["allowed"] = false.into();
            response["status"] = json!({ "message": message });
        }
        Verdict::Patch(operations) => {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(operations.to_string()).into();
        }
        Verdict::Silence(pause) => thread::sleep(pause),
    }
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    })
    .to_string();
    let mut whole = plain("200 OK", "Content-Type: application/json\r\n", answer.len());
    whole.extend_from_slice(answer.as_bytes());
    stream.write_all(&whole)?;
    Ok(stream.flush()?)
}
