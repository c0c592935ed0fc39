//! A server of HTTP that takes webhooks, and that fails, stalls and lies when it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use standardwebhooks::Webhook;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::smtp::vouch;

/// What it does with a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Answers with a status.
    Answers(u16),
    /// Answers with a status and a header.
    AnswersWith(u16, &'static str, String),
    /// Says nothing, and keeps the connection.
    Stalls,
    /// Closes the connection without a word.
    Closes,
    /// Writes what is no HTTP.
    Babbles,
    /// Answers with 200 and a body that is shorter than it said.
    Lies,
    /// Answers with 200 and a body that does not end.
    Drones,
}

/// What was posted.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Posted {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The type of the event.
    pub(crate) fn kind(&self) -> String {
        self.json()["type"].as_str().expect("a type").to_owned()
    }

    /// The number of the event.
    pub(crate) fn number(&self) -> i64 {
        self.json()["data"]["number"].as_i64().expect("a number")
    }

    /// Whether a secret signed it, by the library of those who made the scheme.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let mut headers = http::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let value = self.headers.get(name).map(String::as_str).unwrap_or_default();
            headers.insert(name, value.parse().expect("a header"));
        }
        Webhook::new(secret).expect("a secret").verify(&self.body, &headers).is_ok()
    }
}

type Manner = Arc<dyn Fn(&Posted) -> Does + Send + Sync>;

struct State {
    posted: Mutex<Vec<Posted>>,
    manner: Mutex<Manner>,
}

/// A server of HTTP on this machine, until it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    /// The certificate of the authority that vouches for it, if it speaks TLS.
    pub(crate) authority: Option<PathBuf>,
    state: Arc<State>,
    serving: JoinHandle<()>,
    directory: Option<TempDir>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
        drop(self.directory.take());
    }
}

impl Receiver {
    /// One that takes everything.
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), None).await
    }

    /// The same by TLS, as `localhost`.
    pub(crate) async fn start_with_tls() -> Self {
        let directory = TempDir::new().expect("a directory");
        let (authority, server) = (directory.path().join("authority.pem"), directory.path().join("server.pem"));
        vouch(&authority, &server);
        let certificate =
            CertificateDer::pem_file_iter(&server).expect("a file").map(|one| one.expect("a certificate"));
        let key = PrivateKeyDer::from_pem_file(&server).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(certificate.collect(), key)
            .expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut receiver = Self::start_at("127.0.0.1:0".parse().expect("an address"), Some(acceptor)).await;
        receiver.authority = Some(authority);
        receiver.directory = Some(directory);
        receiver
    }

    /// One that takes everything, at an address.
    pub(crate) async fn start_at(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let manner: Manner = Arc::new(|_| Does::Answers(204));
        let state = Arc::new(State { posted: Mutex::default(), manner: Mutex::new(manner) });
        let serving = tokio::spawn(serve(listener, tls, Arc::clone(&state)));
        Self { address, authority: None, state, serving, directory: None }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// What it does from now on.
    pub(crate) fn does(&self, manner: impl Fn(&Posted) -> Does + Send + Sync + 'static) {
        *self.state.manner.lock().expect("whole") = Arc::new(manner);
    }

    /// What was posted until now.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.state.posted.lock().expect("whole").clone()
    }

    /// Forgets what was posted until now.
    pub(crate) fn forgets(&self) {
        self.state.posted.lock().expect("whole").clear();
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // Whoever breaks off has their reasons.
            match tls {
                None => drop(take(stream, &state).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(take(stream, &state).await);
                    }
                }
            }
        });
    }
}

async fn take(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let Some((posted, length)) = parse(&read) else {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
            continue;
        };
        read.drain(..length);
        // One that makes somebody wait does not make the others wait too.
        let manner = Arc::clone(&state.manner.lock().expect("whole"));
        state.posted.lock().expect("whole").push(posted.clone());
        let does = manner(&posted);
        match does {
            Does::Answers(status) => {
                stream.write_all(format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
            }
            Does::AnswersWith(status, name, value) => {
                let answer = format!("HTTP/1.1 {status} So\r\n{name}: {value}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await?;
            }
            Does::Stalls => return stream.read_u8().await.map(|_| ()),
            Does::Closes => return Ok(()),
            Does::Babbles => return stream.write_all(b"220 mail.example.com ESMTP\r\n").await,
            Does::Lies => return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nOK").await,
            Does::Drones => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(b"4\r\nla, \r\n").await?;
                }
            }
        }
    }
}

/// A whole request at the beginning of what was read, and its length.
fn parse(read: &[u8]) -> Option<(Posted, usize)> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&read[..end]).expect("text");
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let body = read.get(end..end + length)?.to_vec();
    Some((Posted { path, headers, body }, end + length))
}
