//! A listener for plain HTTP/1.1, beside the calls: for what is not gRPC.
//!
//! Everything that a stranger can spend is bounded: connections, and the time that the headers of a request may take.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How many connections there may be at once.
const MOST_CONNECTIONS: usize = 256;

/// How long to wait when the machine has no sockets left to accept with.
const BREATH: Duration = Duration::from_millis(100);

/// Serves until `stop`, then lets the requests under way end, which takes no longer than `patience`: so long may the headers of
/// a request take, and whoever answers keeps to it as well.
///
/// # Errors
///
/// When the listener has no address: it was never bound.
pub async fn serve<A, F>(
    listener: TcpListener,
    what: &'static str,
    patience: Duration,
    answer: A,
    stop: CancellationToken,
) -> anyhow::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    tracing::info!(address = %listener.local_addr()?, what, "listening by HTTP");
    let (answer, room) = (Arc::new(answer), Arc::new(Semaphore::new(MOST_CONNECTIONS)));
    let under_way = GracefulShutdown::new();
    loop {
        // Whoever comes when all is taken waits to be accepted.
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await?;
            Ok::<_, anyhow::Error>((listener.accept().await?.0, place))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, what, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let serving = under_way.watch(connection(stream, patience, &answer));
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(%error, what, "a connection broke");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(patience, under_way.shutdown()).await.is_err() {
        tracing::warn!(what, "left requests before their end");
    }
    Ok(())
}

fn connection<A, F>(
    stream: TcpStream,
    patience: Duration,
    answer: &Arc<A>,
) -> impl GracefulConnection<Error = hyper::Error> + Send + use<A, F>
where
    A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let answer = Arc::clone(answer);
    let service = service_fn(move |request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service)
}
