//! One connection, from its first byte to its end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::{Limits, Peer, RequestBody, Transport, at};
use crate::auth::permission::requirement;
use crate::chance::chance;

/// What an HTTP/2 client says first (RFC 9113 section 3.4).
const PREFACE: u64 = 24;

/// How many bytes a client may send ahead of what is read, in one call and in all of a connection. A request is rarely longer than a
/// few hundred bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// The largest headers that are taken, as RFC 9113 section 6.5.2 counts them: a token has at most 8 KiB.
const LARGEST_HEADERS: u32 = 16 * 1024;

/// How many bytes of an answer wait in a connection.
const SEND_BUFFER: usize = 64 * 1024;

/// How many resets by a client, and how many by faults of it, may wait for each other before the connection is ended: a
/// client that opens calls to give them up at once (CVE-2023-44487). Whoever had a connection's usual calls under way, and as many again, and
/// gave them up because their time was over before a busy server had read them, does nothing wrong.
const PENDING_RESETS: usize = 200;
const FAULTY_STREAMS: usize = 100;

/// How long an answer may wait to be taken, and how often that is looked at. What waits is memory; a stream of ours is not meant, for
/// whoever follows it is known, and it holds no more than a message. Of what is not ours, reflection, each piece is meant by itself.
const ANSWER_WAITS: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long the other calls of a connection have to end that does not take an answer.
const STUCK_LEAVES: Duration = Duration::from_secs(5);

/// In what pieces an answer is handed to HTTP/2, which keeps what it has: what it has not can be seen to wait.
const PIECE: usize = 16 * 1024;

/// What is known of a connection while it lasts.
#[derive(Debug)]
struct Activity {
    since: Instant,
    read: AtomicU64,
    all: Calls,
    /// Those of whoever is known.
    known: Calls,
    /// How many there were.
    calls: AtomicU64,
    /// Since when answers wait to be taken, by the number of their call.
    waiting: Mutex<BTreeMap<u64, Instant>>,
}

/// Calls that are under way.
#[derive(Debug, Default)]
struct Calls {
    under_way: AtomicUsize,
    /// When the last of them ended, in milliseconds after the connection was opened.
    ended: AtomicU64,
}

impl Calls {
    fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    fn end(&self, at: u64) {
        self.ended.fetch_max(at, Ordering::AcqRel);
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Activity {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            read: AtomicU64::new(0),
            all: Calls::default(),
            known: Calls::default(),
            calls: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an answer waits for longer than it should.
    fn is_stuck(&self) -> bool {
        self.waiting().values().any(|since| since.elapsed() > ANSWER_WAITS)
    }

    /// When it will have been idle for so long, unless a call comes.
    fn idle_at(&self, idle: Duration) -> Instant {
        self.without(&self.all) + idle
    }

    /// When it will have been without a call of anybody who is known for so long: nobody else has a right to it.
    fn useless_at(&self, idle: Duration) -> Instant {
        self.without(&self.known) + idle
    }

    /// Since when there are none of these calls.
    fn without(&self, calls: &Calls) -> Instant {
        match calls.under_way.load(Ordering::Acquire) {
            0 => self.since + Duration::from_millis(calls.ended.load(Ordering::Acquire)),
            _ => Instant::now(),
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// With a call: that its caller is known, once the gate let it through.
#[derive(Clone, Debug)]
pub struct Known(Arc<Knowing>);

#[derive(Debug)]
struct Knowing {
    activity: Arc<Activity>,
    is_known: AtomicBool,
}

impl Known {
    /// The gate let the call through.
    pub fn note(&self) {
        if !self.0.is_known.swap(true, Ordering::AcqRel) {
            self.0.activity.known.begin();
        }
    }
}

/// A call, until its answer was taken or it was given up.
#[derive(Debug)]
struct UnderWay {
    activity: Arc<Activity>,
    number: u64,
    known: Known,
}

impl UnderWay {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.all.begin();
        let number = activity.calls.fetch_add(1, Ordering::AcqRel);
        let known = Known(Arc::new(Knowing { activity: Arc::clone(activity), is_known: AtomicBool::new(false) }));
        Self { activity: Arc::clone(activity), number, known }
    }

    /// The answer is there, and waits to be taken.
    fn answered(&self) {
        self.activity.waiting().insert(self.number, Instant::now());
    }

    /// It waits no more.
    fn taken(&self) {
        self.activity.waiting().remove(&self.number);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.taken();
        let (activity, after) = (&self.activity, self.activity.age());
        activity.all.end(after);
        if self.known.0.is_known.load(Ordering::Acquire) {
            activity.known.end(after);
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S, B>(
    transport: &Transport<S>,
    stream: TcpStream,
    address: IpAddr,
    room: &Semaphore,
    stop: &CancellationToken,
) where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // An answer is written in two pieces: without this, the second waits for the acknowledgement of the first, 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it was looked at");
        return;
    }
    let Some(tls) = &transport.tls else {
        let peer = Peer { address, service: None };
        return speak(transport, stream, peer, room, [stop, &CancellationToken::new()]).await;
    };
    let (acceptor, retired) = tls.acceptor();
    match tokio::time::timeout(transport.limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let service = tls.service_of(stream.get_ref().1);
            speak(transport, stream, Peer { address, service }, room, [stop, &retired]).await;
        }
        Ok(Err(error)) => {
            transport.meter.failed.inc();
            tracing::debug!(%error, %address, "no TLS");
        }
        Err(_) => {
            transport.meter.failed.inc();
            tracing::debug!(%address, "no TLS in time");
        }
    }
}

async fn speak<S, B, I>(
    transport: &Transport<S>,
    stream: I,
    peer: Peer,
    room: &Semaphore,
    [stop, retired]: [&CancellationToken; 2],
) where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (activity, limits) = (Arc::new(Activity::new()), &transport.limits);
    let address = peer.address;
    let answering = {
        let (service, activity) = (transport.service.clone(), Arc::clone(&activity));
        service_fn(move |mut request: Request<Incoming>| {
            let under_way = UnderWay::begin(&activity);
            let requirement = requirement(request.uri().path());
            let (ours, streams) = (requirement.is_some(), requirement.is_some_and(|requirement| requirement.streams));
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(under_way.known.clone());
            let answering = service.clone().oneshot(request.map(RequestBody::from));
            async move {
                let answered = answering.await?;
                if ours && !streams {
                    under_way.answered();
                }
                Ok::<_, Infallible>(answered.map(|inner| Answer { inner, rest: None, by_piece: !ours, under_way }))
            }
        })
    };
    let counted = Counted { inner: stream, activity: Arc::clone(&activity) };
    let mut connection = pin!(builder(limits).serve_connection(TokioIo::new(counted), answering));
    let opened = Instant::now();
    // Give or take a tenth, so that connections that came together do not leave together.
    let age = limits.age.mul_f64(0.9 + chance() / 5.0);
    let (mut greeted, mut aged, mut idle) =
        (Some(opened + limits.handshake), Some(opened + age), Some(opened + limits.idle));
    // Once it is told to leave: when it is cut off.
    let (mut leaving, mut over, mut limit, mut is_stuck) = (None::<Instant>, None, limits.grace, false);
    let mut looked = opened + LOOK_AGAIN;
    loop {
        let leave = tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    if activity.calls.load(Ordering::Acquire) == 0 {
                        transport.meter.failed.inc();
                    }
                    tracing::debug!(error = &error as &dyn std::error::Error, %address, "a connection broke");
                }
                return;
            }
            () = at(greeted) => {
                greeted = None;
                if activity.read.load(Ordering::Acquire) < PREFACE {
                    transport.meter.failed.inc();
                    tracing::debug!(%address, "a connection on which nothing was said");
                    return;
                }
                false
            }
            () = at(over) => {
                tracing::debug!(%address, "cut off a connection that did not leave");
                return;
            }
            () = tokio::time::sleep_until(looked) => {
                // It has had the time to hear that it should.
                let is_told = leaving.is_some_and(|told| told.elapsed() > LOOK_AGAIN);
                if is_told && activity.idle_at(LOOK_AGAIN) <= Instant::now() {
                    tracing::debug!(%address, "cut off a connection that did not leave and has no calls");
                    return;
                }
                looked = Instant::now() + LOOK_AGAIN;
                if !is_stuck && activity.is_stuck() {
                    is_stuck = true;
                    transport.meter.stuck.inc();
                    tracing::info!(%address, "a connection does not take its answers");
                    // Its other calls may end; those that begin now go elsewhere.
                    limit = STUCK_LEAVES;
                    over = over.map(|over: Instant| over.min(Instant::now() + limit));
                    true
                } else {
                    let is_crowded = room.available_permits() < limits.connections / 2;
                    is_crowded && activity.useless_at(limits.idle_in_a_crowd) <= Instant::now()
                }
            }
            () = at(idle) => {
                let next = activity.idle_at(limits.idle);
                let is_idle = next <= Instant::now();
                idle = (!is_idle).then_some(next);
                is_idle
            }
            () = at(aged) => {
                aged = None;
                true
            }
            () = retired.cancelled(), if leaving.is_none() => true,
            () = stop.cancelled(), if leaving.is_none() => true,
        };
        if leave && leaving.is_none() {
            leaving = Some(Instant::now());
            (aged, idle, over) = (None, None, Some(Instant::now() + limit));
            connection.as_mut().graceful_shutdown();
        }
    }
}

fn builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(LARGEST_HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(FAULTY_STREAMS)
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.keep_alive_timeout);
    builder
}

pin_project! {
    /// An answer, in pieces.
    struct Answer<B> {
        #[pin]
        inner: B,
        rest: Option<Bytes>,
        // Whether each piece may wait for so long, and not the whole.
        by_piece: bool,
        under_way: UnderWay,
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if *this.by_piece {
            // Nobody asks for more before there is room for what there was.
            this.under_way.taken();
        }
        let mut data = match this.rest.take() {
            Some(rest) => rest,
            None => match ready!(this.inner.poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            },
        };
        let piece = data.split_to(PIECE.min(data.len()));
        *this.rest = Some(data).filter(|rest| !rest.is_empty());
        if *this.by_piece {
            this.under_way.answered();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What is left is what it was, less what was read; so exact nobody needs it to be.
        if self.rest.is_none() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

pin_project! {
    /// A stream of bytes of which those that come in are counted.
    struct Counted<I> {
        #[pin]
        inner: I,
        activity: Arc<Activity>,
    }
}

impl<I: AsyncRead> AsyncRead for Counted<I> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.project();
        let before = into.filled().len();
        let read = this.inner.poll_read(context, into);
        let came = u64::try_from(into.filled().len() - before).unwrap_or(u64::MAX);
        this.activity.read.fetch_add(came, Ordering::AcqRel);
        read
    }
}

impl<I: AsyncWrite> AsyncWrite for Counted<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.project().inner.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.project().inner.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.project().inner.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.project().inner.poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
