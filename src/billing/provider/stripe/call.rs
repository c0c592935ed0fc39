//! One call of Stripe's API over HTTP, and what its failure means.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;

use super::wire::{ApiError, Failed};
use super::{Settings, SettingsError};
use crate::billing::provider::ProviderError;
use crate::http_client::{is_loopback, tls, told, whole};
use crate::trace::carried_on;

/// The version whose words `wire` speaks (<https://docs.stripe.com/api/versioning>), whatever the account's own is.
const VERSION: &str = "2025-12-15.clover";

/// The largest answer that is read, in bytes: a page of a hundred intents is a third of it.
const LARGEST_ANSWER: usize = 2 * 1024 * 1024;

/// What requests are made of.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    client: Client,
    base: Url,
    secret_key: SecretString,
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// Stripe refuses this very request, and did nothing.
    Refused { status: u16, error: Box<ApiError> },
    /// There is no answer, or none that tells of this request: it may be done or not.
    Lost { why: String },
}

impl Failure {
    fn lost(why: impl Into<String>) -> Self {
        Self::Lost { why: why.into() }
    }

    /// Whether the thing that was asked for does not exist.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost { why } => Self::Unavailable { why },
            Failure::Refused { status, error } => Self::Refused {
                code: error.decline_code.or(error.code).unwrap_or_else(|| format!("http_{status}")),
                message: error.message.unwrap_or_else(|| "The payment provider did not say why.".into()),
            },
        }
    }
}

impl Caller {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let base = base(&settings.base_url)?;
        let key = settings.secret_key.expose_secret();
        // A key is sent in a header. A publishable one (pk_) is on every web page and may do nothing of this.
        if !(key.starts_with("sk_") || key.starts_with("rk_")) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError::Key);
        }
        let mut builder = Client::builder()
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            // Stripe redirects nothing; the key is for nobody else.
            .redirect(Policy::none())
            .tls_backend_preconfigured(tls(None)?);
        if base.scheme() == "http" {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(SettingsError::Client)?;
        Ok(Self { client, base, secret_key: settings.secret_key.clone() })
    }

    /// Reads, with parameters in the query. Reads need no key (<https://docs.stripe.com/api/idempotent_requests>).
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        parameters: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let mut url = self.url(path)?;
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        self.send(self.client.get(url)).await
    }

    /// Changes something: once, however often it is sent with the same key and form.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        key: &str,
        path: &[&str],
        form: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let request = self.client.post(self.url(path)?).header("Idempotency-Key", key).form(form);
        self.send(request).await
    }

    /// Segments come from outside: each is checked to be an id, so that none can name another resource.
    fn url(&self, path: &[&str]) -> Result<Url, Failure> {
        let is_id = |segment: &&&str| {
            (1..=255).contains(&segment.len())
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if path.iter().find(|segment| !is_id(segment)).is_some() {
            let error = ApiError {
                code: Some("resource_missing".into()),
                message: Some("That is no id of the payment provider's.".into()),
                ..ApiError::default()
            };
            return Err(Failure::Refused { status: 404, error: Box::new(error) });
        }
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => _ = segments.clear().push("v1").extend(path),
            Err(()) => return Err(Failure::lost("the address has no path")),
        }
        Ok(url)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let request = request.bearer_auth(self.secret_key.expose_secret()).header("Stripe-Version", VERSION);
        let request = request.headers(carried_on());
        let response = request.send().await.map_err(|error| Failure::lost(told(error)))?;
        let status = response.status().as_u16();
        let id = response.headers().get("request-id").and_then(|id| id.to_str().ok()).unwrap_or("none").to_owned();
        let body = whole(response, LARGEST_ANSWER).await.map_err(Failure::lost)?;
        match status {
            // It was done, whatever the answer looks like.
            200..=299 => serde_json::from_slice(&body)
                .map_err(|error| Failure::lost(format!("an answer that cannot be read: {error} (request {id})"))),
            400 | 402 | 404 => {
                let error = serde_json::from_slice::<Failed>(&body).unwrap_or_default().error;
                match error.kind.as_deref() {
                    Some("card_error" | "invalid_request_error") => {
                        Err(Failure::Refused { status, error: Box::new(error) })
                    }
                    Some("idempotency_error") => {
                        tracing::error!(request = id, code = error.code, "a key was used for two different requests");
                        Err(Failure::lost(format!("the key was used for another request (request {id})")))
                    }
                    // Whoever says so is not Stripe, but somebody on the way there.
                    _ => Err(Failure::lost(format!("HTTP {status} (request {id})"))),
                }
            }
            401 | 403 => {
                // The operator's fault, and not what anybody's payment should be declined for.
                tracing::error!(status, request = id, "Stripe does not accept the secret key for this call");
                Err(Failure::lost(format!("HTTP {status}: the secret key is not accepted (request {id})")))
            }
            // 409 is the same key under way, 424 a failure behind Stripe, 429 too much at once. A 500 is kept and given again
            // for its key, and says nothing of what was done (<https://docs.stripe.com/error-low-level>).
            _ => Err(Failure::lost(format!("HTTP {status} (request {id})"))),
        }
    }
}

fn base(text: &str) -> Result<Url, SettingsError> {
    let base: Url = text.parse().map_err(|_| SettingsError::Url)?;
    let nothing_more = base.path() == "/" && base.query().is_none() && base.fragment().is_none();
    if !nothing_more || !base.username().is_empty() || base.password().is_some() {
        return Err(SettingsError::Url);
    }
    match base.scheme() {
        "https" => Ok(base),
        "http" if is_loopback(&base) => Ok(base),
        "http" => Err(SettingsError::Plain),
        _ => Err(SettingsError::Url),
    }
}

/// How long a connection may take to come about.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call may take in all.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::provider::stripe::Stripe;

    fn at(base_url: &str) -> Result<Stripe, SettingsError> {
        Stripe::new(&Settings { base_url: base_url.into(), ..Settings::new("sk_test_hidden".to_owned().into()) })
    }

    #[test]
    fn only_loopback_is_spoken_to_in_plain() {
        for url in ["https://api.stripe.com", "http://127.0.0.1:1", "http://localhost:1/", "http://[::1]:1"] {
            assert!(at(url).is_ok(), "{url}");
        }
        for url in ["http://api.stripe.com", "http://10.0.0.1:8420", "http://localhost.example.com"] {
            assert!(matches!(at(url), Err(SettingsError::Plain)), "{url}");
        }
        for url in ["", "api.stripe.com", "ftp://localhost", "https://u:p@h", "https://h/v1", "https://h/?a", "unix:/x"]
        {
            assert!(matches!(at(url), Err(SettingsError::Url)), "{url}");
        }
    }

    #[test]
    fn a_key_is_a_secret_one_and_is_never_shown() {
        for key in ["", "pk_test_1", "sk_test 1", "sk_test\n1", "whsec_1"] {
            let made = Stripe::new(&Settings::new(key.to_owned().into()));
            assert!(matches!(made, Err(SettingsError::Key)), "{key:?}");
        }
        let settings = Settings::new("sk_test_hidden".to_owned().into());
        let shown = format!("{settings:?} {:?}", Stripe::new(&settings).unwrap());
        assert!(!shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn a_segment_names_nothing_but_one_thing() {
        let caller = Caller::new(&Settings::new("sk_test_1".to_owned().into())).unwrap();
        let url = caller.url(&["payment_methods", "pm_1", "attach"]).unwrap();
        assert_eq!(url.as_str(), "https://api.stripe.com/v1/payment_methods/pm_1/attach");
        for segment in ["", "..", "a/b", "a?b", "a%2Fb", "é", "a b", &"a".repeat(256)] {
            assert!(caller.url(&["customers", segment]).is_err_and(|failure| failure.is_missing()), "{segment:?}");
        }
    }
}
