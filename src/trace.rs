//! Traces: what a call was part of before it came here, what it did here, and what it is part of where it goes on.
//!
//! The context travels as the W3C writes it (<https://www.w3.org/TR/trace-context/>). Spans are sent by OTLP to a collector when the
//! operator names one; whether or not, the log tells the trace of each call that brought one.

use std::time::Duration;

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, Status, TraceContextExt as _, TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Tracer};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Under this name the spans of calls are made, which the log passes over.
pub const TARGET: &str = "tenantry::trace";

/// How long the collector may take to answer, and the last spans at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who sends spans to a collector.
#[derive(Clone, Debug)]
pub struct Spans(SdkTracerProvider);

impl Spans {
    /// Begins to send spans by gRPC to the collector at a URL. Of calls whose caller has not decided, this share is traced.
    ///
    /// # Errors
    ///
    /// When the URL is none, or asks for TLS: a collector stands beside the server, and sends on.
    pub fn begin(url: &str, share: f64) -> anyhow::Result<Self> {
        anyhow::ensure!(
            url.starts_with("http://"),
            "spans are sent by http://, to a collector beside this server, not to {url:?}"
        );
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(url).with_timeout(PATIENCE).build();
        let exporter = exporter.with_context(|| format!("spans cannot be sent to {url:?}"))?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        // OTEL_RESOURCE_ATTRIBUTES says the rest: which pod, which cluster.
        let resource = Resource::builder().with_service_name("tenantry").with_attribute(version).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler);
        Ok(Self(provider.with_resource(resource).build()))
    }

    /// Makes spans.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        self.0.tracer("tenantry")
    }

    /// Sends what is left. No span is sent any more.
    pub async fn end(self) {
        // It waits, and would hold up whoever it waits for.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(PATIENCE)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last spans may not have been sent");
        }
    }
}

/// A call, as traces tell it. The log has a span of its own: what one of them says is no matter of the other.
#[derive(Clone, Debug)]
pub struct Call {
    /// What everything that is done for the call is part of.
    pub span: Span,
    /// The trace that it is part of, if of any.
    pub trace_id: Option<String>,
}

impl Call {
    /// A call of the method at a path, part of the trace that it came with.
    #[must_use]
    pub fn begin(path: &str, request_id: &str, headers: &HeaderMap) -> Self {
        let name = path.trim_start_matches('/');
        let span = tracing::info_span!(target: TARGET, "call", otel.name = name, otel.kind = "server", request_id);
        let parent = TraceContextPropagator::new().extract(&Headers(headers));
        let brought = parent.span().span_context().clone();
        if brought.is_valid() && span.set_parent(parent).is_err() {
            tracing::debug!("a span that cannot be part of another");
        }
        let own = span.context().span().span_context().clone();
        let trace_id = [own, brought].into_iter().find(SpanContext::is_valid).map(|found| found.trace_id().to_string());
        Self { span, trace_id }
    }

    /// Tells what came of it. `is_fault` when it is the server's.
    pub fn ended(&self, code: &'static str, is_fault: bool) {
        self.span.set_attribute("rpc.response.status_code", code);
        if is_fault {
            self.span.set_status(Status::error(code));
        }
    }
}

/// What a request that is sent from here carries on, if it is part of a trace.
#[must_use]
pub fn carried_on() -> HeaderMap {
    let mut headers = HeaderMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Carrier(&mut headers));
    headers
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        // One that comes twice is none (section 3.2 of the specification).
        let mut values = self.0.get_all(key).iter();
        let value = values.next()?.to_str().ok();
        if key == "traceparent" && values.next().is_some() { None } else { value }
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Carrier<'a>(&'a mut HeaderMap);

impl Injector for Carrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value))
            && !value.is_empty()
        {
            self.0.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brought(values: &[&str]) -> Option<String> {
        let headers = values.iter().map(|value| (HeaderName::from_static("traceparent"), value.parse().unwrap()));
        let mut map = HeaderMap::new();
        headers.for_each(|(key, value)| {
            map.append(key, value);
        });
        Call::begin("/a.B/C", "id", &map).trace_id
    }

    #[test]
    fn a_trace_is_read_as_the_specification_writes_it() {
        let sound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(brought(&[sound]).as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        for wrong in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01x",
            "nonsense",
        ] {
            assert_eq!(brought(&[wrong]), None, "{wrong}");
        }
        assert_eq!(brought(&[sound, sound]), None);
        assert!(carried_on().is_empty());
    }
}
