//! Logs: one line for each RPC, with who called, what came of it, and how long it took.
//!
//! No line holds a token, a secret or an e-mail address.

use std::io::IsTerminal as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Instant;

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Level, Span};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::app::App;
use crate::auth::permission::requirement;
use crate::clock::Clock;
use crate::error::{reason_name, reason_of};
use crate::id;
use crate::metrics::{ReasonLabels, RpcLabels};
use crate::pb::ErrorReason;
use crate::trace::{self, Call, Spans};

/// The key under which a call may bring its own id, and under which every answer tells it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST_REQUEST_ID: usize = 128;

/// How much of a path is logged.
const LONGEST_PATH: usize = 128;

/// The id under which the logs know a call.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging to standard error, and sending spans if there is somebody to send them to.
///
/// # Errors
///
/// When the filter is not one, or logging was started before.
pub fn init(filter: &str, format: LogFormat, spans: Option<&Spans>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("the log filter `{filter}` is not one"))?;
    // The ORM's spans tell the URL of the database with its password, to whoever asks for everything.
    let filter = filter.add_directive("sea_orm=off".parse()?);
    // PostgreSQL notices that tables are there already, at every start.
    let filter = filter.add_directive("sqlx::postgres::notice=warn".parse()?);
    // Of a call the log has a span of its own.
    let filter = filter.add_directive(format!("{}=off", trace::TARGET).parse()?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let spans = spans.map(|spans| {
        // Of our own code alone: what libraries do inside would tell what they are given.
        let own = Targets::new().with_target("tenantry", Level::INFO).with_target(module_path!(), LevelFilter::OFF);
        tracing_opentelemetry::layer().with_tracer(spans.tracer()).with_filter(own)
    });
    tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).try_init()?;
    Ok(())
}

/// Gives every call an id and a span, logs a line at its end, however it ends, and measures it.
#[derive(Clone, Debug)]
pub struct RpcLogLayer(pub Arc<App>);

impl<S> Layer<S> for RpcLogLayer {
    type Service = RpcLog<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RpcLog { inner, app: Arc::clone(&self.0) }
    }
}

/// A service whose calls are logged.
#[derive(Clone, Debug)]
pub struct RpcLog<S> {
    inner: S,
    app: Arc<App>,
}

impl<S, B, R> Service<Request<B>> for RpcLog<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<LoggedBody<R>>;
    type Error = S::Error;
    type Future = Logged<S::Future>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let request_id = request_id(request.headers());
        let call = Call::begin(brief(request.uri().path()), &request_id, request.headers());
        let span = tracing::info_span!(
            parent: &call.span,
            "rpc",
            method = brief(request.uri().path()),
            request_id = &*request_id,
            trace_id = call.trace_id,
            org = tracing::field::Empty,
            user = tracing::field::Empty,
            role = tracing::field::Empty,
            service = tracing::field::Empty,
            reason = tracing::field::Empty,
        );
        request.extensions_mut().insert(RequestId(Arc::clone(&request_id)));
        let path = request.uri().path();
        let own = path.starts_with("/tenantry.");
        let rpc = requirement(path).map(|requirement| requirement.rpc);
        self.app.metrics.rpcs_under_way.inc();
        let app = Arc::clone(&self.app);
        let line = Line { span: span.clone(), call, started: Instant::now(), own, rpc, code: None, reason: None, app };
        let call = line.call.span.clone();
        let inner = call.in_scope(|| span.in_scope(|| self.inner.call(request)));
        Logged { inner, call, span, line: Some(line), request_id }
    }
}

/// A path as the log tells it: none of ours is longer, and what clients make up may be.
fn brief(path: &str) -> &str {
    path.get(..path.floor_char_boundary(LONGEST_PATH)).unwrap_or(path)
}

/// The caller's own id if it is a decent one, else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let decent =
        |id: &&str| (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.bytes().all(|letter| letter.is_ascii_graphic());
    given.filter(decent).map_or_else(|| Arc::from(id::new(Clock::System.now()).to_string()), Arc::from)
}

/// Written when it is dropped, so that a call that the client gave up has its line too.
#[derive(Debug)]
struct Line {
    span: Span,
    call: Call,
    started: Instant,
    /// Whether the call is to a service of ours.
    own: bool,
    /// The names of the service and its method, if there is such a one.
    rpc: Option<(&'static str, &'static str)>,
    code: Option<Code>,
    reason: Option<&'static str>,
    app: Arc<App>,
}

impl Line {
    fn ended(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
        if self.code != Some(Code::Ok) {
            self.reason = Status::from_header_map(headers).as_ref().and_then(reason_of);
        }
    }

    fn measure(&self, code: Code) {
        let metrics = &self.app.metrics;
        metrics.rpcs_under_way.dec();
        if let Some(reason) = self.reason {
            metrics.refusals.get_or_create(&ReasonLabels { reason }).inc();
        }
        if self.own {
            // What is not there has a name that the client made up.
            let (service, method) = self.rpc.unwrap_or(("unknown", "unknown"));
            let labels = RpcLabels { service, method, code: code_name(code) };
            metrics.rpc_duration.get_or_create(&labels).observe(self.started.elapsed().as_secs_f64());
        }
    }
}

/// The name of a code, as the specification writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.measure(code);
        let is_fault = matches!(
            code,
            Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable | Code::DeadlineExceeded
        );
        self.call.ended(code_name(code), is_fault);
        let duration_ms = (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let _entered = self.span.enter();
        match code {
            // Probes and reflection come every few seconds, and say nothing.
            _ if !self.own => tracing::debug!(?code, duration_ms, "rpc"),
            // When these come they come by the thousand; what refuses them says so.
            Code::Unavailable if self.reason == Some(reason_name(ErrorReason::Overloaded)) => {
                tracing::debug!(?code, duration_ms, "rpc");
            }
            Code::Internal | Code::Unknown | Code::DataLoss => tracing::error!(?code, duration_ms, "rpc"),
            Code::Unavailable | Code::DeadlineExceeded => tracing::warn!(?code, duration_ms, "rpc"),
            _ => tracing::info!(?code, duration_ms, "rpc"),
        }
    }
}

pin_project! {
    /// The future of a logged call.
    #[derive(Debug)]
    pub struct Logged<F> {
        #[pin]
        inner: F,
        call: Span,
        span: Span,
        line: Option<Line>,
        request_id: Arc<str>,
    }
}

impl<F, R, E> Future for Logged<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<LoggedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = {
            let _entered = (this.call.enter(), this.span.enter());
            ready!(this.inner.poll(context))
        };
        let mut line = this.line.take();
        Poll::Ready(answered.map(|mut response| {
            if let Ok(id) = HeaderValue::from_str(this.request_id) {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            if let Some(line) = &mut line {
                line.ended(response.headers());
            }
            response.map(|inner| LoggedBody { inner, call: this.call.clone(), span: this.span.clone(), line })
        }))
    }
}

pin_project! {
    /// The body of a logged call: its trailers say how it ended.
    #[derive(Debug)]
    pub struct LoggedBody<B> {
        #[pin]
        inner: B,
        call: Span,
        span: Span,
        line: Option<Line>,
    }
}

impl<B: Body> Body for LoggedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let _entered = (this.call.enter(), this.span.enter());
        let frame = ready!(this.inner.poll_frame(context));
        match (&frame, this.line.as_mut()) {
            (Some(Ok(frame)), Some(line)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    line.ended(trailers);
                }
            }
            (None, _) => *this.line = None,
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
