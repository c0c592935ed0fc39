//! The endpoint that a provider sends its events to: `POST /webhooks/stripe`, plain HTTP/1.1 on a listener of its own, for a
//! proxy that ends TLS.
//!
//! It stands open to the world, so everything that a stranger can spend is bounded: the time of a request, and its size. What is not signed is refused before it is looked at.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::future::BoxFuture;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::stripe::webhook::{Event, Secret, verify};
use crate::clock::Clock;
use crate::plain_http;

/// The path of Stripe's events.
const STRIPE: &str = "/webhooks/stripe";

/// The largest body, in bytes. Events are some KiB.
const LARGEST_BODY: usize = 256 * 1024;

/// How long a request may take. Stripe wants its answer quickly, and asks again when there is none
/// (<https://docs.stripe.com/webhooks#best-practices>).
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What is done with an event.
///
/// Stripe sends an event again until it is answered with 200, and sometimes after that: whoever handles it must know, by
/// [`Event::id`] and in the database, what has been handled. An event that is nothing to it is handled by doing nothing.
pub type Handle = Arc<dyn Fn(Event) -> BoxFuture<'static, Result<(), HandleError>> + Send + Sync>;

/// Why an event could not be handled. Either way Stripe sends it again.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Something that is needed is away.
    #[error("something that is needed is away")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It went wrong, and may again.
    #[error("the event could not be handled")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the endpoint is made of.
#[derive(Clone)]
pub struct WebhookEndpoint {
    /// The signing secrets: several, while one is replaced by another.
    pub secrets: Vec<Secret>,
    /// How far the time of a signature may be from the clock's.
    pub tolerance: TimeDelta,
    /// What signatures are held against: the machine's clock, but in tests.
    pub clock: Clock,
    /// How long the headers of a request may take, and then its body and what is done with it; [`PATIENCE`], but in tests.
    pub patience: Duration,
    /// What is done with an event.
    pub handle: Handle,
}

impl fmt::Debug for WebhookEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebhookEndpoint").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

/// Serves until `stop`, then lets the requests under way end.
///
/// # Errors
///
/// When the listener has no address: it was never bound.
pub async fn serve(listener: TcpListener, endpoint: WebhookEndpoint, stop: CancellationToken) -> anyhow::Result<()> {
    let (patience, endpoint) = (endpoint.patience, Arc::new(endpoint));
    let answer = move |request| {
        let endpoint = Arc::clone(&endpoint);
        async move { answer(&endpoint, request).await }
    };
    plain_http::serve(listener, "the payment provider's webhooks", patience, answer, stop).await
}

async fn answer(endpoint: &WebhookEndpoint, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != STRIPE {
        return refusal(StatusCode::NOT_FOUND, "nothing is here");
    }
    if request.method() != Method::POST {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "events are posted");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let taken = tokio::time::timeout(endpoint.patience, take(endpoint, request)).await;
    let mut response = taken.unwrap_or_else(|_| {
        tracing::warn!("a webhook took too long");
        refusal(StatusCode::SERVICE_UNAVAILABLE, "that took too long")
    });
    if response.status() != StatusCode::OK {
        // What is left of the body is not waited for.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn take(endpoint: &WebhookEndpoint, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the event is too large");
        }
        Err(_) => return refusal(StatusCode::BAD_REQUEST, "the body broke off"),
    };
    let Some(header) = head.headers.get("stripe-signature").and_then(|header| header.to_str().ok()) else {
        return refusal(StatusCode::BAD_REQUEST, "there is no signature");
    };
    let event = match verify(&body, header, &endpoint.secrets, endpoint.clock.now(), endpoint.tolerance) {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, bytes = body.len(), "a webhook is refused");
            return refusal(StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    let id = event.id.clone();
    match (endpoint.handle)(event).await {
        Ok(()) => Response::new(Full::default()),
        Err(error) => {
            let (status, source) = match &error {
                HandleError::Unavailable(source) => (StatusCode::SERVICE_UNAVAILABLE, source),
                HandleError::Failed(source) => (StatusCode::INTERNAL_SERVER_ERROR, source),
            };
            tracing::error!(event = id, error = %source, "{error}");
            refusal(status, "the event is not handled yet")
        }
    }
}

fn refusal(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "error": reason }).to_string();
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
