//! What the transport refuses before a handler runs, told like every other refusal.
//!
//! tonic answers a body that it cannot read with INTERNAL, as if the service had a defect, and says nothing that a program
//! can read. But it is the client's fault, so here it becomes INVALID_ARGUMENT; and a message that is too large or packed in
//! an unknown way gets the ErrorInfo that clients look for. The statuses of our own are known by their details and pass.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::error::Error;

/// Puts itself before a service that takes messages up to a size.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveLayer {
    /// The largest message that is taken, in bytes.
    pub largest: usize,
}

impl<S> Layer<S> for ReceiveLayer {
    type Service = Receive<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Receive { inner, largest: self.largest }
    }
}

/// A service whose transport speaks as the contract does.
#[derive(Clone, Debug)]
pub struct Receive<S> {
    inner: S,
    largest: usize,
}

impl<S, B, R> Service<Request<B>> for Receive<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Received<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Received { inner: self.inner.call(request), largest: self.largest }
    }
}

pin_project! {
    /// The future of a call that may not be readable.
    #[derive(Debug)]
    pub struct Received<F> {
        #[pin]
        inner: F,
        largest: usize,
    }
}

impl<F, R, E> Future for Received<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answered = ready!(this.inner.poll(context));
        if let Ok(response) = &mut answered {
            retell(response, *this.largest);
        }
        Poll::Ready(answered)
    }
}

fn retell<R>(response: &mut Response<R>, largest: usize) {
    let Some(told) = Status::from_header_map(response.headers()).filter(|told| told.details().is_empty()) else {
        return;
    };
    let error = match told.code() {
        // The call ended otherwise than by what is in its body.
        Code::Ok | Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable => return,
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
