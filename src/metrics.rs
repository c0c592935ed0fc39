//! What is measured of a running server, in the text format of Prometheus.

use std::fmt;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::auth::token;
use crate::database::Database;
use crate::operation::SeatCount;
use crate::{overload, transport};

/// How long the headers of a request for the metrics may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The path of the metrics.
const PATH: &str = "/metrics";

/// A call, as far as metrics tell calls apart. What clients make up stands in no label: their number would have no bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RpcLabels {
    /// `OrganizationService`, or `unknown`.
    pub service: &'static str,
    /// `GetOrganization`, or `unknown`.
    pub method: &'static str,
    /// `OK`, `NOT_FOUND`.
    pub code: &'static str,
}

/// Why calls were refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// `SEAT_LIMIT_REACHED`.
    pub reason: &'static str,
}

/// What a connection to the database does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoolLabels {
    /// `idle` or `used`.
    pub state: &'static str,
}

/// Upper bounds of the buckets of durations, in seconds: from what a read takes to the longest deadline.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

/// The metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// How long calls took, by what came of them.
    pub rpc_duration: Durations<RpcLabels>,
    /// Calls that are under way.
    pub rpcs_under_way: Gauge,
    /// Calls that were refused, by the reason.
    pub refusals: Family<ReasonLabels, Counter>,
    /// Connections.
    pub connections: transport::Meter,
    /// Certificates.
    pub tls: transport::tls::Meter,
    /// Key sets.
    pub keys: token::source::Meter,
    /// Calls for which there was no room.
    pub overload: overload::Meter,
    /// How long calls waited for a transaction to begin, for the lane of their organization too.
    pub transaction_wait: Histogram,
    database_connections: Family<PoolLabels, Gauge>,
    /// Whether the database answers.
    pub database_up: Gauge,
    /// Seats that were taken, by calls that this server served.
    pub seats_taken: Counter,
    /// Seats that were given back.
    pub seats_given_back: Counter,
    /// Organizations whose books did not agree when this server last looked at them.
    pub drifting_organizations: Gauge,
    /// Calls of `WatchEvents` that are under way.
    pub event_watches: Gauge,
    /// E-mails that this server is sending.
    pub mails_under_way: Gauge,
    /// E-mails of all organizations that are parked.
    pub mails_parked: Gauge,
    /// Webhook endpoints that this server is telling what happened.
    pub webhooks_under_way: Gauge,
    /// Events that webhook endpoints have taken from this server.
    pub webhooks_delivered: Counter,
    /// Events that this server has given up telling a webhook endpoint.
    pub webhooks_failed: Counter,
    /// Webhook endpoints that do not take what they are told.
    pub webhook_endpoints_failing: Gauge,
    /// Webhook endpoints that were disabled because they did not.
    pub webhook_endpoints_disabled: Gauge,
    /// How often this server's worker has done all that was due.
    pub worker_sweeps: Counter,
    /// Steps of this server's worker that failed, to be tried again.
    pub worker_failures: Counter,
    /// When the worker had last done all that was due, in seconds since 1970.
    pub worker_swept: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let metrics = Self {
            registry: Registry::with_prefix("tenantry"),
            rpc_duration: Family::new_with_constructor(durations),
            rpcs_under_way: Gauge::default(),
            refusals: Family::default(),
            connections: transport::Meter::default(),
            tls: transport::tls::Meter::default(),
            keys: token::source::Meter::default(),
            overload: overload::Meter::default(),
            transaction_wait: durations(),
            database_connections: Family::default(),
            database_up: Gauge::default(),
            seats_taken: Counter::default(),
            seats_given_back: Counter::default(),
            drifting_organizations: Gauge::default(),
            event_watches: Gauge::default(),
            mails_under_way: Gauge::default(),
            mails_parked: Gauge::default(),
            webhooks_under_way: Gauge::default(),
            webhooks_delivered: Counter::default(),
            webhooks_failed: Counter::default(),
            webhook_endpoints_failing: Gauge::default(),
            webhook_endpoints_disabled: Gauge::default(),
            worker_sweeps: Counter::default(),
            worker_failures: Counter::default(),
            worker_swept: Gauge::default(),
        };
        metrics.registered(build)
    }
}

impl Metrics {
    #[rustfmt::skip]
    fn registered(mut self, build: Info<[(&'static str, &'static str); 1]>) -> Self {
        let mut registry = std::mem::take(&mut self.registry);
        registry.register("build", "The version that runs", build);
        registry.register("rpc_duration_seconds", "How long calls took from their headers to the end of their answer", self.rpc_duration.clone());
        registry.register("rpcs_under_way", "Calls that are under way", self.rpcs_under_way.clone());
        registry.register("refusals", "Calls that were refused, by the reason in their ErrorInfo", self.refusals.clone());
        registry.register("connections", "Connections that are open", self.connections.open.clone());
        registry.register("connections_refused", "Connections that were closed at once because there were too many", self.connections.refused.clone());
        registry.register("connections_failed", "Connections that broke before there was a call: no TLS, no HTTP/2, nothing said", self.connections.failed.clone());
        registry.register("connections_stuck", "Connections that were cut off because they did not take their answers", self.connections.stuck.clone());
        registry.register("tls_certificate_expiry_timestamp_seconds", "When the server's certificate ends; 0 without TLS", self.tls.expiry.clone());
        registry.register("tls_reload_failures", "Changed certificates that could not be used", self.tls.failures.clone());
        registry.register("key_set_failures", "Looks at the key set of tokens that failed", self.keys.failures.clone());
        registry.register("key_set_seen_timestamp_seconds", "When the key set was last seen; 0 without one that is followed", self.keys.seen.clone());
        registry.register("calls_shed", "Calls that were refused because there were too many at a time", self.overload.shed.clone());
        registry.register("calls_rate_limited", "Calls that were refused because their caller or organization makes too many", self.overload.limited.clone());
        registry.register("transaction_wait_seconds", "How long changes waited for their turn and for a transaction", self.transaction_wait.clone());
        registry.register("database_connections", "Connections to the database", self.database_connections.clone());
        registry.register("database_up", "Whether the database answered when it was last asked", self.database_up.clone());
        registry.register("seats_taken", "Seats that were taken by changes of this server", self.seats_taken.clone());
        registry.register("seats_given_back", "Seats that were given back by changes of this server", self.seats_given_back.clone());
        registry.register("drifting_organizations", "Organizations whose counters, ledgers or invoices did not agree with their rows when this server last looked", self.drifting_organizations.clone());
        registry.register("event_watches", "Calls of WatchEvents that are under way", self.event_watches.clone());
        registry.register("mails_under_way", "E-mails that this server is sending", self.mails_under_way.clone());
        registry.register("mails_parked", "E-mails of all organizations that are parked", self.mails_parked.clone());
        registry.register("webhooks_under_way", "Webhook endpoints that this server is telling what happened", self.webhooks_under_way.clone());
        registry.register("webhooks_delivered", "Events that webhook endpoints have taken from this server", self.webhooks_delivered.clone());
        registry.register("webhooks_failed", "Events that this server has given up telling a webhook endpoint", self.webhooks_failed.clone());
        registry.register("webhook_endpoints_failing", "Webhook endpoints of all organizations that do not take what they are told", self.webhook_endpoints_failing.clone());
        registry.register("webhook_endpoints_disabled", "Webhook endpoints of all organizations that were disabled because they did not take what they were told", self.webhook_endpoints_disabled.clone());
        registry.register("worker_sweeps", "Times that this server's worker has done all that was due, about once a minute", self.worker_sweeps.clone());
        registry.register("worker_failures", "Steps of this server's worker that failed, to be tried again", self.worker_failures.clone());
        registry.register("worker_swept_timestamp_seconds", "When this server's worker had last done all that was due", self.worker_swept.clone());
        self.registry = registry;
        self
    }
}

impl Metrics {
    /// Counts what a change did to seats.
    pub fn moved(&self, seats: SeatCount) {
        self.seats_taken.inc_by(seats.taken);
        self.seats_given_back.inc_by(seats.given_back);
    }

    /// All of them, as they are now.
    ///
    /// # Errors
    ///
    /// When one cannot be written as text, which all can.
    pub fn told(&self, database: &Database) -> Result<String, fmt::Error> {
        let (open, idle) = database.connections();
        for (state, count) in [("idle", idle), ("used", open.saturating_sub(idle))] {
            self.database_connections.get_or_create(&PoolLabels { state }).set(i64::from(count));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Answers a request for them.
    #[must_use]
    pub fn answer(&self, request: &Request<Incoming>, database: &Database) -> Response<Full<Bytes>> {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        let (status, kind, body) = if request.uri().path() != PATH {
            (StatusCode::NOT_FOUND, plain, format!("the metrics are at {PATH}\n"))
        } else if request.method() != Method::GET {
            (StatusCode::METHOD_NOT_ALLOWED, plain, "metrics are read by GET\n".to_owned())
        } else {
            match self.told(database) {
                Ok(text) => {
                    // <https://prometheus.io/docs/specs/om/open_metrics_spec/#overall-structure>
                    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    (StatusCode::OK, HeaderValue::from_static(kind), text)
                }
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, plain, format!("{error}\n")),
            }
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, kind);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}
