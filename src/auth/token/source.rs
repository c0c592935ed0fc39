//! Where key sets come from: a file or a URL, both followed while the server runs.
//!
//! Keys are replaced by those who sign, without a word to those who verify. So they are looked at again: a file when it changes, a URL
//! after the time that its answer says, and at once when a token names a key that is not known. What cannot be fetched or used
//! changes nothing: the keys from before stay in force, and it is tried again, less and less often.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use reqwest::redirect::Policy;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::TokenVerifier;
use crate::clock::Clock;
use crate::http_client::{TlsError, is_loopback, tls, told, whole};

/// How often a file is looked at.
const LOOK_AT_FILE: Duration = Duration::from_secs(5);

/// For how long an answer is good that does not say, and between what it may say.
const USUAL_AGE: Duration = Duration::from_mins(5);
const SHORTEST_AGE: Duration = Duration::from_mins(1);
const LONGEST_AGE: Duration = Duration::from_hours(1);

/// After how long it is tried again, doubled each time, up to the second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How long after one look another is worth while because of a key that is not known: whoever sends nonsense has nobody asked.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

/// How long an answer may take, and how large it may be.
const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 1024 * 1024;

/// What is measured of key sets.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Looks that failed.
    pub failures: Counter,
    /// When the keys in force were last seen, in seconds since 1970.
    pub seen: Gauge,
}

/// Where a key set comes from.
#[derive(Clone)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A URL, and who asks it.
    Url(Url, reqwest::Client),
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => formatter.debug_tuple("File").field(path).finish(),
            Self::Url(url, _) => formatter.debug_tuple("Url").field(&nameless(url).as_str()).finish(),
        }
    }
}

/// Why a setting names no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is a URL that could be answered by anybody on the way.
    #[error("a key set is fetched by https, or by http from this machine: {0} is neither")]
    Url(String),
    /// The authority cannot be used.
    #[error("TENANTRY_JWKS_CA")]
    Authority(#[from] TlsError),
    /// There is no client.
    #[error("no client for the key set")]
    Client(#[from] reqwest::Error),
}

impl Source {
    /// Reads the setting: a URL, or the path of a file.
    pub fn of(setting: &str, authority: Option<&Path>) -> Result<Self, SourceError> {
        if !setting.contains("://") {
            return Ok(Self::File(setting.into()));
        }
        let url = setting.parse::<Url>().map_err(|_| SourceError::Url(setting.to_owned()))?;
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(SourceError::Url(setting.to_owned()));
        }
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            // Whoever is asked answers: a redirect could lead to anybody, and a proxy be anybody where there is no TLS.
            .redirect(Policy::none())
            .no_proxy()
            .tls_backend_preconfigured(tls(authority)?)
            .build()?;
        Ok(Self::Url(url, client))
    }

    /// The text of the key set, and for how long it is good.
    async fn text(&self) -> anyhow::Result<(String, Duration)> {
        match self {
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await.with_context(|| path.display().to_string())?;
                Ok((text, LOOK_AT_FILE))
            }
            Self::Url(url, client) => fetch(url, client).await.with_context(|| nameless(url).to_string()),
        }
    }

    /// Whether secrets may stand in it: what a URL answers, others read too.
    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// A URL without the name and password that may be in it, for people to read.
fn nameless(url: &Url) -> Url {
    let mut url = url.clone();
    // Only a URL without a host refuses these, and has neither.
    let _ = (url.set_username(""), url.set_password(None));
    url
}

async fn fetch(url: &Url, client: &reqwest::Client) -> anyhow::Result<(String, Duration)> {
    let answer = client.get(url.clone()).header(ACCEPT, "application/json").send().await;
    let answer = answer.map_err(|error| anyhow::anyhow!(told(error)))?;
    anyhow::ensure!(answer.status().is_success(), "answered {}", answer.status());
    let age = age(answer.headers());
    let body = whole(answer, LARGEST).await.map_err(anyhow::Error::msg)?;
    Ok((String::from_utf8(body).context("the answer is not UTF-8")?, age))
}

/// For how long an answer is good, as it says itself.
fn age(headers: &HeaderMap) -> Duration {
    let said = headers.get_all(CACHE_CONTROL).iter().filter_map(|said| said.to_str().ok());
    let age = said.flat_map(|said| said.split(',')).find_map(|said| said.trim().strip_prefix("max-age=")?.parse().ok());
    age.map_or(USUAL_AGE, Duration::from_secs).clamp(SHORTEST_AGE, LONGEST_AGE)
}

/// Takes the key set as it is now.
///
/// # Errors
///
/// When it cannot be had or used; the keys from before stay in force.
pub async fn look(verifier: &TokenVerifier, source: &Source, meter: &Meter) -> anyhow::Result<Duration> {
    let taken = async {
        let (text, age) = source.text().await?;
        verifier.take(&text, source.is_private())?;
        anyhow::Ok(age)
    };
    let taken = taken.await;
    match &taken {
        Ok(_) => {
            meter.seen.set(Clock::System.now().timestamp());
        }
        Err(_) => {
            meter.failures.inc();
        }
    }
    verifier.looked();
    taken
}

/// Follows a key set until `stop`. `next` is when to look first.
pub async fn follow(
    verifier: Arc<TokenVerifier>,
    source: Source,
    meter: Meter,
    next: Option<Duration>,
    stop: CancellationToken,
) {
    let (mut next, mut pause) = (next.unwrap_or_default(), FIRST_PAUSE);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(next) => {}
            () = verifier.asked() => {}
        }
        next = match look(&verifier, &source, &meter).await {
            Ok(age) => {
                pause = FIRST_PAUSE;
                age
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    error,
                    again_seconds = pause.as_secs(),
                    "the key set could not be taken; the keys from before stay in force"
                );
                let again = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                again
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        for sound in ["https://id.example.com/jwks", "http://127.0.0.1:9/jwks", "http://localhost/jwks", "keys.json"] {
            Source::of(sound, None).unwrap();
        }
        for wrong in
            ["http://id.example.com/jwks", "ftp://127.0.0.1/jwks", "file:///etc/jwks", "http://127.0.0.1.example/"]
        {
            Source::of(wrong, None).unwrap_err();
        }
    }

    #[test]
    fn an_answer_is_good_for_as_long_as_it_says_within_reason() {
        let age_of = |said: &str| age(&HeaderMap::from_iter([(CACHE_CONTROL, said.parse().unwrap())]));
        assert_eq!(age_of("public, max-age=600"), Duration::from_mins(10));
        assert_eq!(age_of("max-age=1"), SHORTEST_AGE);
        assert_eq!(age_of("max-age=999999"), LONGEST_AGE);
        assert_eq!(age_of("no-cache"), USUAL_AGE);
        assert_eq!(age(&HeaderMap::new()), USUAL_AGE);
    }
}
