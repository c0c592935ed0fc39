//! HTTP/1.1 as bytes on a connection, one request for each: for answers and breaks that no library would make.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request, as a server reads it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// An answer, as a client reads it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Headers,
    pub(crate) body: Vec<u8>,
}

type Headers = Vec<(String, String)>;

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// The next request of a connection, if there is one.
    pub(crate) async fn read(stream: &mut TcpStream) -> Option<Self> {
        let (first, headers, body) = message(stream).await?;
        let mut words = first.split(' ').map(str::to_owned);
        Some(Self { method: words.next()?, path: words.next()?, headers, body })
    }
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// As a server writes it, whole, before it closes the connection.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "HTTP/1.1 {} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\nrequest-id: req_test\r\n\
             connection: close\r\n\r\n",
            self.status,
            self.body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Asks and waits for the whole answer.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers.iter().chain(&[("content-length", body.len().to_string().as_str())]) {
        write!(head, "{name}: {value}\r\n").expect("a text takes text");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("the head is taken");
    // Whoever refuses a request need not read all of it.
    drop(stream.write_all(body).await);
    let (first, headers, body) = message(&mut stream).await.expect("an answer");
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, headers, body }
}

async fn message(stream: &mut TcpStream) -> Option<(String, Headers, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let first = lines.next()?.to_owned();
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let headers: Headers = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let length = value(&headers, "content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((first, headers, body))
}

fn value<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
}
