//! What the transport refuses before a handler runs, told like every other refusal.
//!
//! A request is read whole before anything is done for it, up to the largest size, so that whoever sends slowly holds neither a place among
//! the calls under way nor a connection to the database; and no more of all requests together is held than there is room for.
//!
//! tonic answers a body that it cannot read with INTERNAL, as if the service had a defect, and says nothing that a program
//! can read. But it is the client's fault, so here it becomes INVALID_ARGUMENT; and a message that is too large or packed in
//! an unknown way gets the ErrorInfo that clients look for. The statuses of our own are known by their details and pass.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Buf as _, Bytes};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::auth::scope::Authorized;
use crate::check::Check;
use crate::error::Error;
use crate::overload::{Overload, Taken};

/// What stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Puts itself before a service that takes messages up to a size.
#[derive(Clone, Debug)]
pub struct ReceiveLayer {
    /// The largest message that is taken, in bytes.
    pub largest: usize,
    /// Whether there is room.
    pub overload: Arc<Overload>,
}

impl<S> Layer<S> for ReceiveLayer {
    type Service = Receive<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Receive { inner, largest: self.largest, overload: Arc::clone(&self.overload) }
    }
}

/// A service whose transport speaks as the contract does.
#[derive(Clone, Debug)]
pub struct Receive<S> {
    inner: S,
    largest: usize,
    overload: Arc<Overload>,
}

impl<S, B, R> Service<Request<B>> for Receive<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Display,
    R: Default,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<S::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was said to be ready is called, and its copy is asked the next time.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let (largest, overload) = (self.largest, Arc::clone(&self.overload));
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            // Whoever had to has read them. Nobody is to have them kept by a call whose body does not come.
            parts.headers = essential(&parts.headers);
            parts.uri = Uri::try_from(parts.uri.path()).unwrap_or_default();
            let received = async {
                let caller = parts.extensions.get::<Authorized>().map(Authorized::caller);
                let (body, room) = receive(body, largest, overload.request(caller)).await?;
                Ok::<_, Error>((body, room, overload.call(caller)?))
            };
            match received.await {
                Ok((body, room, place)) => {
                    let request = Request::from_parts(parts, tonic::body::Body::new(Full::from(body)));
                    let mut answered = inner.call(request).await?;
                    drop((room, place));
                    retell(&mut answered, largest);
                    Ok(answered)
                }
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}

/// Reads a request, and holds room for it. One that says to be too large is not read.
async fn receive<B>(body: B, largest: usize, mut room: Taken) -> Result<(Bytes, Taken), Error>
where
    B: Body,
    B::Error: Display,
{
    let mut body = pin!(body);
    let mut received = Vec::new();
    while let Some(frame) = body.as_mut().frame().await {
        // Nobody hears this: it is the client that went away.
        let frame = frame.map_err(|fault| Error::Unreadable { field: String::new(), fault: fault.to_string() })?;
        let Ok(mut data) = frame.into_data() else { continue };
        room.more(data.remaining())?;
        while data.has_remaining() {
            let chunk = data.chunk();
            received.extend_from_slice(chunk);
            let read = chunk.len();
            data.advance(read);
        }
        if announced(&received).is_some_and(|length| length > largest) || received.len() > PREFIX + largest {
            return Err(Error::MessageTooLarge { maximum: largest });
        }
    }
    Ok((received.into(), room))
}

/// The headers that say how to read the message, in bytes of their own: the others would else be kept with them.
fn essential(headers: &HeaderMap) -> HeaderMap {
    let copied = |name: HeaderName| {
        let value = HeaderValue::from_bytes(headers.get(&name)?.as_bytes()).ok()?;
        Some((name, value))
    };
    [CONTENT_TYPE, HeaderName::from_static("grpc-encoding")].into_iter().filter_map(copied).collect()
}

/// How long the message says to be.
fn announced(received: &[u8]) -> Option<usize> {
    let length = received.get(1..PREFIX)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

/// Refuses what is no call of gRPC, in the words of HTTP and of gRPC.
#[derive(Clone, Copy, Debug)]
pub struct GrpcOnly;

impl Check for GrpcOnly {
    fn refusal<B>(&self, request: &mut Request<B>) -> Option<Response<()>> {
        let (status, error) = if request.method() != Method::POST {
            (StatusCode::METHOD_NOT_ALLOWED, Error::MethodUnknown)
        } else if !is_grpc(request.headers().get(CONTENT_TYPE)) {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, Error::ContentTypeUnknown)
        } else {
            return None;
        };
        let mut refusal = Status::from(error).into_http();
        *refusal.status_mut() = status;
        if status == StatusCode::METHOD_NOT_ALLOWED {
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        }
        Some(refusal)
    }
}

/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests>
fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let Some(said) = content_type.and_then(|said| said.to_str().ok()) else { return false };
    let kind = said.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/grpc") || kind.eq_ignore_ascii_case("application/grpc+proto")
}

fn retell<R>(response: &mut Response<R>, largest: usize) {
    let Some(told) = Status::from_header_map(response.headers()).filter(|told| told.details().is_empty()) else {
        return;
    };
    let error = match told.code() {
        // The call ended otherwise than by what is in its body. NOT_FOUND is what health says of a service that it does not know.
        Code::Ok | Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::NotFound => return,
        Code::OutOfRange | Code::ResourceExhausted => Error::MessageTooLarge { maximum: largest },
        Code::Unimplemented => Error::CompressionUnknown,
        _ => unreadable(told.message()),
    };
    let status = Status::from(error);
    if status.add_header(response.headers_mut()).is_ok() {
        response.extensions_mut().insert(status);
    }
}

/// The fault of a body. prost names the fields that lead to it as `Inner.field: Outer.field: `, from the inside out.
fn unreadable(message: &str) -> Error {
    let mut rest = message.strip_prefix("failed to decode Protobuf message: ").unwrap_or(message);
    let mut path = Vec::new();
    while let Some((place, fault)) = rest.split_once(": ") {
        let Some((_, field)) = place.split_once('.').filter(|_| !place.contains(' ')) else { break };
        path.push(field);
        rest = fault;
    }
    path.reverse();
    Error::Unreadable { field: path.join("."), fault: rest.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_to_an_unreadable_field_is_found() {
        let read = |message: &str| match unreadable(message) {
            Error::Unreadable { field, fault } => (field, fault),
            other => panic!("{other:?}"),
        };
        let message = "failed to decode Protobuf message: UserProfile.display_name: CreateOrganizationRequest.profile: \
                       invalid string value: data is not UTF-8 encoded";
        let fault = "invalid string value: data is not UTF-8 encoded".to_owned();
        assert_eq!(read(message), ("profile.display_name".to_owned(), fault));
        let message = "failed to decode Protobuf message: buffer underflow";
        assert_eq!(read(message), (String::new(), "buffer underflow".to_owned()));
        let message = "Missing request message.";
        assert_eq!(read(message), (String::new(), message.to_owned()));
    }
}
