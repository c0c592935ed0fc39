//! What is there for a few at a time: reflection. Its answers are large, and whoever asks need not even say who they are.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::TakeUntil;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tonic::Status;
use tower::{Layer, Service};

use crate::overload::Overload;

/// For how long each may go on asking: a client that lies idle would keep its place from others.
const ASKS_FOR: Duration = Duration::from_secs(15);

/// Lets so many calls through at a time, each until its answer was taken; the others are told to come again.
#[derive(Clone, Debug)]
pub struct ScarceLayer {
    /// The places that there are.
    pub places: Arc<Semaphore>,
    /// Whom refusals are counted by.
    pub overload: Arc<Overload>,
}

impl<S> Layer<S> for ScarceLayer {
    type Service = Scarce<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Scarce { inner, layer: self.clone() }
    }
}

/// A request that ends after a time, as if there were no more questions.
pub type Ending<B> = StreamBody<TakeUntil<BodyStream<B>, Sleep>>;

/// A service for a few at a time.
#[derive(Clone, Debug)]
pub struct Scarce<S> {
    inner: S,
    layer: ScarceLayer,
}

impl<S, B, R> Service<Request<B>> for Scarce<S>
where
    B: Body,
    S: Service<Request<Ending<B>>, Response = Response<R>, Error = Infallible>,
    S::Future: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(place) = Arc::clone(&self.layer.places).try_acquire_owned() else {
            let refusal = Status::from(self.layer.overload.shed()).into_http();
            return Box::pin(async { Ok(refusal) });
        };
        let until = || tokio::time::sleep(ASKS_FOR);
        let answering = self.inner.call(request.map(|body| StreamBody::new(BodyStream::new(body).take_until(until()))));
        Box::pin(async move {
            let answered = answering.await?;
            // The place is given back with the body.
            let holding = move |frame| {
                let _place = &place;
                frame
            };
            Ok(answered.map(|body| tonic::body::Body::new(body.map_frame(holding))))
        })
    }
}
