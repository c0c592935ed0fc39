//! The transport: TCP, TLS and HTTP/2, and what each of them may cost.
//!
//! hyper speaks the protocol. What it leaves open is bounded here: how many connections there are and how long each lives, how long
//! a handshake and an answer that nobody takes may last, how many calls and how many bytes a connection has under way. tonic's own
//! server bounds some of it, but neither the number of connections nor the time before the first request, and it takes a
//! certificate once and for ever.

mod connection;
mod request;
pub mod tls;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

pub use self::connection::Known;
pub use self::request::RequestBody;
use self::tls::Tls;
use crate::id::ServiceName;
use crate::seldom::Seldom;

/// How long to wait when the machine has no sockets left to accept with.
const BREATH: Duration = Duration::from_millis(100);

/// What connections may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most connections at a time. Whoever comes beyond them is closed at once, and tries another server.
    pub connections: usize,
    /// The most calls that a connection has under way.
    pub streams: u32,
    /// How long TLS and the beginning of HTTP/2 may take.
    pub handshake: Duration,
    /// After how long without a sign of life from its other end a connection is asked for one.
    pub keep_alive: Duration,
    /// How long it has to give one.
    pub keep_alive_timeout: Duration,
    /// How long a connection is kept that has no calls under way.
    pub idle: Duration,
    /// How long one is kept that has no calls of anybody who is known, while more than half of the connections are there that may be. Nobody
    /// else takes the place of those who call.
    pub idle_in_a_crowd: Duration,
    /// How long a connection lives, give or take a tenth, so that load finds its way to new servers.
    pub age: Duration,
    /// How long calls may go on after that.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2000,
            streams: 100,
            handshake: Duration::from_secs(10),
            keep_alive: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(10),
            idle: Duration::from_mins(5),
            idle_in_a_crowd: Duration::from_secs(15),
            age: Duration::from_mins(30),
            // As long as the longest call.
            grace: Duration::from_mins(1),
        }
    }
}

/// What is measured of connections.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Those that are open.
    pub open: Gauge,
    /// Those that were closed at once because there were too many.
    pub refused: Counter,
    /// Those that did not come as far as a call: no TLS, no HTTP/2, nothing at all.
    pub failed: Counter,
    /// Those that were cut off because they did not take their answers.
    pub stuck: Counter,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The trusted service that its certificate names.
    pub service: Option<ServiceName>,
}

/// What is served, and how.
#[derive(Debug)]
pub struct Transport<S> {
    /// Who answers.
    pub service: S,
    /// What connections may cost.
    pub limits: Limits,
    /// TLS, if there is any.
    pub tls: Option<Arc<Tls>>,
    /// What is measured.
    pub meter: Meter,
}

impl<S, B> Transport<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Serves until `stop`. Then no connection is taken any more, and those that there are end with their calls; whatever is left
    /// after `drain` is cut off.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken, drain: Duration) {
        let (transport, connections, cut) = (Arc::new(self), TaskTracker::new(), CancellationToken::new());
        let room = Arc::new(Semaphore::new(transport.limits.connections));
        let said = Seldom::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                transport.meter.refused.inc();
                if said.is_time() {
                    tracing::warn!(
                        maximum = transport.limits.connections,
                        "more connections than are taken are closed at once"
                    );
                }
                continue;
            };
            let (transport, room, stop, cut) = (Arc::clone(&transport), Arc::clone(&room), stop.clone(), cut.clone());
            connections.spawn(async move {
                transport.meter.open.inc();
                let address = address.ip().to_canonical();
                tokio::select! {
                    () = connection::serve(&transport, stream, address, &room, &stop) => {}
                    () = cut.cancelled() => {}
                }
                transport.meter.open.dec();
                drop(place);
            });
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(drain, connections.wait()).await.is_err() {
            let left = connections.len();
            tracing::warn!(
                connections = left,
                seconds = drain.as_secs(),
                "cut off what was left at the end of the drain time"
            );
            cut.cancel();
            connections.wait().await;
        }
    }
}

/// Waits for a time that may never come.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
