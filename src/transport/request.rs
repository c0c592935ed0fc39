//! The body of a request, read to its end even where nobody wants it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::Error;
use hyper::body::{Bytes, Incoming};
use tokio::runtime::Handle;

/// How much of what nobody wants is read, and for how long. A request is rarely longer, and comes with its headers; but where a server has
/// more to do than it can, what has come waits to be read too.
const MOST: usize = 64 * 1024;
const LONGEST: Duration = Duration::from_secs(5);

/// The body of a request. A call that is answered before all of it has come is reset by HTTP/2, and what still comes is a fault of the
/// client to it: a hundred of those end the connection. A client whose token has expired makes a hundred such calls in no time.
#[derive(Debug)]
pub struct RequestBody(Option<Incoming>);

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        let mut rest = Box::pin(rest(body));
        // Most often it is there already.
        if let (None, Ok(runtime)) = ((&mut rest).now_or_never(), Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(LONGEST, rest));
        }
    }
}

async fn rest(mut body: Incoming) {
    let mut left = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
