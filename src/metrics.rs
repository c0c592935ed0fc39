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
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tenantry");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let drifting_organizations = gauge(
            "drifting_organizations",
            "Organizations whose counters, ledgers or invoices did not agree with their rows when this server last looked",
        );
        let event_watches = gauge("event_watches", "Calls of WatchEvents that are under way");
        let mails_under_way = gauge("mails_under_way", "E-mails that this server is sending");
        let mails_parked = gauge("mails_parked", "E-mails of all organizations that are parked");
        let webhooks_under_way =
            gauge("webhooks_under_way", "Webhook endpoints that this server is telling what happened");
        let webhook_endpoints_failing = gauge(
            "webhook_endpoints_failing",
            "Webhook endpoints of all organizations that do not take what they are told",
        );
        let webhook_endpoints_disabled = gauge(
            "webhook_endpoints_disabled",
            "Webhook endpoints of all organizations that were disabled because they did not take what they were told",
        );
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let webhooks_delivered =
            counter("webhooks_delivered", "Events that webhook endpoints have taken from this server");
        let webhooks_failed =
            counter("webhooks_failed", "Events that this server has given up telling a webhook endpoint");
        let worker_sweeps =
            counter("worker_sweeps", "Times that this server's worker has done all that was due, about once a minute");
        Self {
            registry,
            drifting_organizations,
            event_watches,
            mails_under_way,
            mails_parked,
            webhooks_under_way,
            webhooks_delivered,
            webhooks_failed,
            webhook_endpoints_failing,
            webhook_endpoints_disabled,
            worker_sweeps,
        }
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
