//! Calls with a body that no client of ours would send: the bytes of the HTTP/2 request as the test says them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use http_body::{Body as _, Frame};
use prost::bytes::Bytes;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::ServiceExt as _;

use super::methods::methods;
use super::person::Identity;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The message, or the refusal.
    pub(crate) outcome: Result<Bytes, Status>,
    /// The size of the headers and trailers as HTTP/2 counts it, which clients bound.
    pub(crate) header_bytes: usize,
}

/// Sends one message.
pub(crate) async fn send(channel: &Channel, path: &str, identity: &Identity, message: &[u8]) -> Answered {
    send_body(channel, path, identity, &[], framed(message)).await
}

/// Sends a body as it is, with more headers.
pub(crate) async fn send_body(
    channel: &Channel,
    path: &str,
    identity: &Identity,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answered {
    let mut request = http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (key, value) in &identity.0 {
        request = request.header(*key, value);
    }
    for (key, value) in headers {
        request = request.header(*key, *value);
    }
    // A frame of data that has none and is not the last looks like an attack: the hundredth ends the connection.
    let body = (!body.is_empty()).then(|| body.into());
    let request = request.body(Body::new(Whole(body))).expect("a request that HTTP can carry");
    let response = match channel.clone().oneshot(request).await {
        Ok(response) => response,
        Err(error) => panic!("{path}: the server did not answer: {error:?}"),
    };
    let streams = methods().iter().any(|method| method.path() == path && method.streams());
    let mut header_bytes = size(response.headers());
    let mut refusal = Status::from_header_map(response.headers());
    let mut received = Vec::new();
    let mut body = pin!(response.into_body());
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame.unwrap_or_else(|error| panic!("{path}: the answer broke off: {error:?}"));
        match frame.into_data() {
            Ok(data) => {
                received.extend_from_slice(&data);
                if streams && is_message(&received) {
                    break;
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().expect("data or trailers");
                header_bytes = header_bytes.max(size(&trailers));
                refusal = refusal.or_else(|| Status::from_header_map(&trailers));
            }
        }
    }
    // Of a stream, the first message is the answer.
    let answered = Some(Status::new(tonic::Code::Ok, "")).filter(|_| streams && is_message(&received));
    let status = refusal.or(answered).unwrap_or_else(|| panic!("{path}: the answer has no status"));
    let outcome = match status.code() {
        tonic::Code::Ok => Ok(Bytes::from(received).split_off(5)),
        _ => Err(status),
    };
    Answered { outcome, header_bytes }
}

/// A message in its frame: not compressed, its length, itself.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message of less than 4 GiB");
    [&[0], length.to_be_bytes().as_slice(), message].concat()
}

/// Whether a whole message has come.
fn is_message(received: &[u8]) -> bool {
    let length = received.get(1..5).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    length.is_some_and(|length| received.len() >= 5 + length as usize)
}

fn size(headers: &http::HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}
