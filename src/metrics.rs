//! What is measured of a running server, in the text format of Prometheus.

use std::fmt;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How long the headers of a request for the metrics may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The path of the metrics.
const PATH: &str = "/metrics";

/// The metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Organizations whose books did not agree when this server last looked at them.
    pub drifting_organizations: Gauge,
    /// Calls of `WatchEvents` that are under way.
    pub event_watches: Gauge,
    /// E-mails that this server is sending.
    pub mails_under_way: Gauge,
    /// E-mails of all organizations that are parked.
    pub mails_parked: Gauge,
    /// How often this server's worker has done all that was due.
    pub worker_sweeps: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tenantry");
        let (drifting_organizations, event_watches) = (Gauge::default(), Gauge::default());
        let (mails_under_way, mails_parked) = (Gauge::default(), Gauge::default());
        registry.register(
            "drifting_organizations",
            "Organizations whose counters, ledgers or invoices did not agree with their rows when this server last looked",
            drifting_organizations.clone(),
        );
        registry.register("event_watches", "Calls of WatchEvents that are under way", event_watches.clone());
        registry.register("mails_under_way", "E-mails that this server is sending", mails_under_way.clone());
        registry.register("mails_parked", "E-mails of all organizations that are parked", mails_parked.clone());
        let worker_sweeps = Counter::default();
        registry.register(
            "worker_sweeps",
            "Times that this server's worker has done all that was due, about once a minute",
            worker_sweeps.clone(),
        );
        Self { registry, drifting_organizations, event_watches, mails_under_way, mails_parked, worker_sweeps }
    }
}

impl Metrics {
    /// All of them, as they are now.
    ///
    /// # Errors
    ///
    /// When one cannot be written as text, which all can.
    pub fn told(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Answers a request for them.
    #[must_use]
    pub fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        let (status, kind, body) = if request.uri().path() != PATH {
            (StatusCode::NOT_FOUND, plain, format!("the metrics are at {PATH}\n"))
        } else if request.method() != Method::GET {
            (StatusCode::METHOD_NOT_ALLOWED, plain, "metrics are read by GET\n".to_owned())
        } else {
            match self.told() {
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
