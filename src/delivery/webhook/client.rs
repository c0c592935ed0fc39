//! How an event is posted.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use url::{Host, Url};

use super::address::Allowed;
use super::rules::LONGEST_WISH;
use crate::http_client::{tls, told};
use crate::trace::carried_on;

/// How long an endpoint may take for an event in all; Standard Webhooks wants 15 to 30 seconds at most.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection is kept while nothing is sent.
const IDLE: Duration = Duration::from_secs(20);

/// How long the rest of an answer may take after its status has come.
const REST: Duration = Duration::from_secs(1);

/// How much of an answer is read, so that its connection can be used again; nobody looks at it.
const LARGEST_ANSWER: usize = 64 * 1024;

/// How much is told of what went wrong, in characters.
const LONGEST_FAULT: usize = 300;

/// The longest URL, in bytes.
const LONGEST_URL: usize = 2000;

/// Who posts events to the addresses that it may.
#[derive(Clone, Debug)]
pub struct Poster {
    /// With TLS: also to the public internet.
    secure: Way,
    /// Without: only to networks that the operator allows.
    plain: Way,
}

/// A client, and the addresses that it connects to.
#[derive(Clone, Debug)]
struct Way {
    client: Client,
    allowed: Arc<Allowed>,
}

/// What is posted.
#[derive(Clone, Debug)]
pub struct Message {
    /// The same however often it is posted.
    pub id: String,
    /// The body, as JSON.
    pub body: Vec<u8>,
}

/// What came of a post.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status that was answered, if any.
    pub status: Option<StatusCode>,
    /// Why it counts as failed, if it does.
    pub fault: Option<String>,
    /// How long the endpoint wishes to be left alone.
    pub retry_after: Option<TimeDelta>,
    /// How long it took.
    pub took: Duration,
}

/// Whether who answered so is there and does not want this very event, as far as the status says.
#[must_use]
pub fn is_refusal(status: u16) -> bool {
    !matches!(status, 0 | 200..=299 | 408 | 425 | 429 | 502..=504)
}

impl Answered {
    /// Whether the endpoint refuses this very event.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.status.is_some_and(|status| is_refusal(status.as_u16()))
    }
}

impl Poster {
    /// A client that posts to the public internet, if so it is, and to these networks; it trusts the public authorities and this one.
    ///
    /// # Errors
    ///
    /// When the authority cannot be read.
    pub fn new(public: bool, networks: &[IpNet], authority: Option<&Path>, patience: Duration) -> anyhow::Result<Self> {
        let way = |public: bool| {
            let allowed = Arc::new(Allowed { public, networks: networks.to_vec() });
            let tls = tls(authority)
                .with_context(|| format!("TENANTRY_WEBHOOK_CA: {}", authority.unwrap_or(Path::new("")).display()))?;
            let client = Client::builder()
                .timeout(patience)
                .connect_timeout(CONNECT_PATIENCE.min(patience))
                .pool_idle_timeout(IDLE)
                // A redirect would lead past what was looked at, and a proxy around it.
                .redirect(Policy::none())
                .no_proxy()
                .dns_resolver(Guarded { allowed: Arc::clone(&allowed) })
                .tls_backend_preconfigured(tls)
                .build()?;
            anyhow::Ok(Way { client, allowed })
        };
        Ok(Self { secure: way(public)?, plain: way(false)? })
    }

    /// Reads a URL to which events could be posted.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, to be read after the name of its field. What a name resolves to is only known when it is posted to.
    pub fn url(&self, text: &str) -> Result<Url, String> {
        let is_plain_allowed = !self.plain.allowed.networks.is_empty();
        let plain = if is_plain_allowed { " or http" } else { "" };
        let form = format!(
            "must be an https{plain} URL of at most {LONGEST_URL} bytes, as in https://hooks.example.com/tenantry"
        );
        // What the parser would pass over in silence, as control characters, is refused.
        let is_plain = text.len() <= LONGEST_URL && text.bytes().all(|byte| byte.is_ascii_graphic());
        let url = text.parse::<Url>().ok().filter(|_| is_plain).ok_or(form.clone())?;
        if !matches!((url.scheme(), is_plain_allowed), ("https", _) | ("http", true)) {
            return Err(form);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must have no user and no password: what is sent is signed".into());
        }
        if url.fragment().is_some() {
            return Err("must have no fragment: it would not be sent".into());
        }
        if !self.allows(&url) {
            return Err("must not name an address that is not of the public internet".into());
        }
        Ok(url)
    }

    fn way(&self, url: &Url) -> &Way {
        if url.scheme() == "https" { &self.secure } else { &self.plain }
    }

    /// Whether the address that stands in a URL is allowed: the client asks for names only.
    fn allows(&self, url: &Url) -> bool {
        let allowed = &self.way(url).allowed;
        match url.host() {
            Some(Host::Ipv4(address)) => allowed.has(address.into()),
            Some(Host::Ipv6(address)) => allowed.has(address.into()),
            Some(Host::Domain(name)) => !name.is_empty(),
            None => false,
        }
    }

    /// Posts an event with its signature. `now` is the time that the signature is of.
    pub async fn post(&self, url: &str, message: Message, signature: &str, now: DateTime<Utc>) -> Answered {
        let started = Instant::now();
        let failed =
            |fault: String| Answered { status: None, fault: Some(fault), retry_after: None, took: started.elapsed() };
        let url = match self.url(url) {
            Ok(url) => url,
            // The operator allowed it once, and no longer.
            Err(fault) => return failed(format!("the URL {fault}")),
        };
        let request = self
            .way(&url)
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("Tenantry/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", message.id)
            .header("webhook-timestamp", now.timestamp())
            .header("webhook-signature", signature)
            .headers(carried_on())
            .body(message.body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return failed("no answer in time".into()),
            Err(error) => return failed(told(error).chars().take(LONGEST_FAULT).collect()),
        };
        let status = response.status();
        let retry_after = retry_after(&response);
        drop(tokio::time::timeout(REST, drain(response)).await);
        let fault = match status {
            status if status.is_success() => None,
            status if status.is_redirection() => Some(format!("answered {status}: redirects are not followed")),
            status => Some(format!("answered {status}")),
        };
        Answered { status: Some(status), fault, retry_after, took: started.elapsed() }
    }
}

/// How long the answer asks to be left alone, in seconds; a date is not looked at.
fn retry_after(response: &Response) -> Option<TimeDelta> {
    let wish = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u32>().ok()?;
    Some(TimeDelta::seconds(wish.into()).min(LONGEST_WISH))
}

/// Reads what else was answered, so that the connection can be used again. The status has said it all: whatever goes wrong here,
/// only the connection is lost.
async fn drain(mut response: Response) {
    let mut read = 0;
    while read <= LARGEST_ANSWER {
        match response.chunk().await {
            Ok(Some(piece)) => read += piece.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Gives the client only addresses to which it may connect: it asks for no others, and not again.
#[derive(Clone, Debug)]
struct Guarded {
    allowed: Arc<Allowed>,
}

/// A name of which no address is allowed. It does not say which it has: those would be told to whoever named it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the name has no address to which webhooks are sent")]
struct NoAddress;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            // Nor whether there is such a name at all: it may be one of a network of ours.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| NoAddress)?;
            let found: Vec<_> = found.filter(|address| allowed.has(address.ip())).collect();
            if found.is_empty() {
                return Err(NoAddress.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poster(public: bool, networks: &[&str]) -> Poster {
        let networks: Vec<_> = networks.iter().map(|network| network.parse().unwrap()).collect();
        Poster::new(public, &networks, None, PATIENCE).unwrap()
    }

    #[test]
    fn only_what_can_be_posted_to_is_a_url() {
        let outside = poster(true, &[]);
        for url in [
            "https://hooks.example.com",
            "https://hooks.example.com:8443/a?b=c",
            "https://1.1.1.1/x",
            "https://[2606:4700::1]/",
        ] {
            assert!(outside.url(url).is_ok(), "{url}");
        }
        for (url, fault) in [
            ("", "https URL"),
            ("hooks.example.com", "https URL"),
            ("http://hooks.example.com", "https URL"),
            ("ftp://hooks.example.com", "https URL"),
            ("https://", "https URL"),
            ("https://höoks.example.com", "https URL"),
            ("https://hooks.example.com/\0", "https URL"),
            ("https://hooks.example.com/\n", "https URL"),
            (" https://hooks.example.com/", "https URL"),
            ("https://ann:secret@hooks.example.com", "no user"),
            ("https://hooks.example.com/#x", "no fragment"),
            ("https://127.0.0.1/", "public internet"),
            ("https://0x7f.1/", "public internet"),
            ("https://2130706433/", "public internet"),
            ("https://0177.0.0.1/", "public internet"),
            ("https://169.254.169.254/latest", "public internet"),
            ("https://[::1]/", "public internet"),
            ("https://[::ffff:10.0.0.1]/", "public internet"),
        ] {
            let refused = outside.url(url).unwrap_err();
            assert!(refused.contains(fault), "{url}: {refused}");
        }
        let long = format!("https://hooks.example.com/{}", "x".repeat(LONGEST_URL));
        assert!(outside.url(&long).is_err());
    }

    #[test]
    fn without_tls_only_networks_that_are_allowed_are_posted_to() {
        let outside = poster(true, &["10.0.0.0/8"]);
        assert!(outside.url("http://10.1.2.3/").is_ok());
        assert!(outside.url("http://search.internal/").is_ok());
        assert!(outside.url("http://1.1.1.1/").unwrap_err().contains("public internet"));
        assert!(outside.url("http://192.168.0.1/").is_err());
        assert!(poster(false, &["10.0.0.0/8"]).url("https://1.1.1.1/").is_err());
    }

    #[tokio::test]
    async fn a_name_is_looked_at_by_what_it_resolves_to() {
        let message = Message { id: "1".into(), body: Vec::new() };
        let now = DateTime::UNIX_EPOCH;
        let answered = poster(true, &[]).post("https://localhost:1/", message.clone(), "", now).await;
        assert!(answered.fault.unwrap().contains("no address to which webhooks are sent"));
        let answered = poster(true, &["127.0.0.0/8", "::1/128"]).post("https://localhost:1/", message, "", now).await;
        assert!(answered.fault.unwrap().contains("onnect"), "it was tried");
    }
}
