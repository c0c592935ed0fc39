//! What is decided on the headers of a call, before anything of it is read: whether it goes on.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures::future::Either;
use http::{Request, Response};
use tower::{Layer, Service};

/// Decides on the headers of a call.
pub trait Check {
    /// The refusal of a call that does not go on. Of one that does, it may note what was found.
    fn refusal<B>(&self, request: &mut Request<B>) -> Option<Response<()>>;
}

/// Puts a check before a service.
#[derive(Clone, Copy, Debug)]
pub struct CheckLayer<C>(pub C);

impl<S, C: Clone> Layer<S> for CheckLayer<C> {
    type Service = Checked<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Checked { inner, check: self.0.clone() }
    }
}

/// A service that only calls reach which a check lets through.
#[derive(Clone, Debug)]
pub struct Checked<S, C> {
    inner: S,
    check: C,
}

impl<S, C, B, R> Service<Request<B>> for Checked<S, C>
where
    S: Service<Request<B>, Response = Response<R>>,
    C: Check,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.check.refusal(&mut request) {
            None => Either::Left(self.inner.call(request)),
            Some(refusal) => Either::Right(ready(Ok(refusal.map(|()| R::default())))),
        }
    }
}
