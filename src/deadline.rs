//! How long a call may take: as long as its caller waits, and never without end.
//!
//! A call ends a moment before its caller's deadline, so that the caller hears why, and what it was doing is given up. One that names no
//! deadline gets one: a database that hangs would hold it for ever.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tonic::Status;
use tower::{Layer, Service};

use crate::error::Error;

/// By how much a call ends before its caller gives it up, at most.
const HEAD_START: Duration = Duration::from_millis(5);

/// Ends calls at their deadline.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    /// How long a call may take that names no deadline.
    pub usual: Duration,
    /// How long any call may take.
    pub longest: Duration,
}

impl Default for DeadlineLayer {
    fn default() -> Self {
        Self { usual: Duration::from_secs(30), longest: Duration::from_mins(1) }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadline { inner, layer: *self }
    }
}

/// A service whose calls end at their deadline.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S, B, R> Service<Request<B>> for Deadline<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: Default,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Within<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let asked = timeout(request.headers()).map(|asked| asked.saturating_sub(HEAD_START.min(asked / 10)));
        let time = asked.unwrap_or(self.layer.usual).min(self.layer.longest);
        Within { inner: self.inner.call(request), over: tokio::time::sleep(time) }
    }
}

/// The caller's deadline, as the gRPC specification writes it: at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount = if (1..=8).contains(&digits.len()) { digits.parse::<u64>().ok()? } else { return None };
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

pin_project! {
    /// The future of a call with a deadline.
    #[derive(Debug)]
    pub struct Within<F> {
        #[pin]
        inner: F,
        #[pin]
        over: Sleep,
    }
}

impl<F, R> Future for Within<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
    R: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answered) = this.inner.poll(context) {
            return Poll::Ready(answered);
        }
        this.over.poll(context).map(|()| Ok(Status::from(Error::DeadlineExceeded).into_http()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_the_specification_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(read("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        for wrong in ["", "S", "1", "123456789S", "-1S", "1.5S", "1x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
