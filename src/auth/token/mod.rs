//! Signed tokens (JWT): who calls, on the word of an issuer whose key we hold.
//!
//! A token is believed when its signature fits one of our keys under *that key's* algorithm, when its time has come and
//! is not over, and when it is from the issuer and for the audience that the operator named. The token's own header decides
//! nothing but which of our keys to try. The time is an argument, so that tests and the test clock can move it.

mod claims;
mod keys;
mod mint;
mod ring_provider;
pub mod source;
#[cfg(test)]
pub(super) mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, Header};
use tokio::sync::Notify;

use self::{
    claims::Payload,
    keys::{Key, KeySet},
    source::Source,
};
pub use self::{
    claims::{Actor, Claims},
    keys::{JwksFault, MIN_SECRET_LEN},
    mint::{MintError, MintedClaims, mint},
};

/// The longest token that is read, in bytes; more would be work for an unknown caller.
pub const MAX_TOKEN_LEN: usize = 8 * 1024;

const NOT_A_JWT: &str = "it is not a signed JWT, or its header names an unknown algorithm";

/// Which tokens to believe. Either `secret` or `jwks` is set.
#[derive(Clone, Default)]
pub struct TokenSettings {
    /// The secret for HS256, at least [`MIN_SECRET_LEN`] bytes.
    pub secret: Option<Vec<u8>>,
    /// Where the JSON Web Key Set is.
    pub jwks: Option<Source>,
    /// How far the clocks of the issuer and of this server may differ.
    pub leeway: Option<TimeDelta>,
    /// How long after one look at a key set that is fetched another is worth while because of a key that is not known.
    pub between_looks: Option<Duration>,
    /// The issuer that tokens must be from. Without one, whoever has a key may issue.
    pub issuer: Option<String>,
    /// The audience that tokens must be for. Without one, tokens that name an audience are refused.
    pub audience: Option<String>,
}

/// Why the settings give no verifier.
#[derive(Debug, thiserror::Error)]
pub enum TokenSettingsError {
    /// There is nothing to verify with.
    #[error("tokens need a secret or a key set")]
    NoKeys,
    /// A secret beside a key set would be a second way in that is easily forgotten.
    #[error("tokens are verified with a secret or with a key set, not with both")]
    SecretAndKeySet,
    /// The secret can be guessed.
    #[error("the token secret is shorter than {MIN_SECRET_LEN} bytes")]
    SecretTooShort,
    /// The file cannot be read.
    #[error("cannot read the key set {path}")]
    Unreadable {
        /// The file's path.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not a key set that can be used.
    #[error("the key set {path} cannot be used")]
    KeySet {
        /// The file's path.
        path: PathBuf,
        /// What is wrong with it.
        source: JwksFault,
    },
}

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Its form, signature, key, issuer, audience or a claim does not hold. The detail quotes nothing of the token.
    #[error("the token is not accepted: {0}")]
    Invalid(String),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come, or it was issued in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It names a key that is not known, or none is known yet, and the key set is being looked at: ask again.
    #[error("the keys are being looked at")]
    KeysUnknown,
}

/// How far clocks may differ unless the settings say otherwise.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);

/// Verifies tokens.
pub struct TokenVerifier {
    keys: RwLock<Arc<KeySet>>,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: TimeDelta,
    /// Whether the keys are fetched: then one that is not known may be new.
    is_fetched: bool,
    /// The text of the key set that is in force.
    taken: Mutex<Option<String>>,
    between_looks: Duration,
    /// When the key set was last looked at.
    looked_at: Mutex<Option<Instant>>,
    ask: Notify,
}

impl TokenVerifier {
    /// Makes a verifier, reading the key set if it is in a file. From a URL it has none until [`source::look`] was there.
    pub fn new(settings: &TokenSettings) -> Result<Self, TokenSettingsError> {
        let keys = match (&settings.secret, &settings.jwks) {
            (None, None) => return Err(TokenSettingsError::NoKeys),
            (Some(_), Some(_)) => return Err(TokenSettingsError::SecretAndKeySet),
            (Some(secret), None) if secret.len() < MIN_SECRET_LEN => return Err(TokenSettingsError::SecretTooShort),
            (Some(secret), None) => KeySet::of_secret(secret),
            (None, Some(Source::File(path))) => read_key_set(path)?,
            (None, Some(Source::Url(..))) => KeySet::default(),
        };
        let mut verifier = Self::of_keys(keys, settings.issuer.clone(), settings.audience.clone());
        verifier.leeway = settings.leeway.unwrap_or(LEEWAY);
        verifier.between_looks = settings.between_looks.unwrap_or(source::BETWEEN_LOOKS);
        verifier.is_fetched = matches!(settings.jwks, Some(Source::Url(..)));
        Ok(verifier)
    }

    fn of_keys(keys: KeySet, issuer: Option<String>, audience: Option<String>) -> Self {
        ring_provider::install();
        Self {
            keys: RwLock::new(Arc::new(keys)),
            issuer,
            audience,
            leeway: LEEWAY,
            is_fetched: false,
            taken: Mutex::default(),
            between_looks: source::BETWEEN_LOOKS,
            looked_at: Mutex::default(),
            ask: Notify::new(),
        }
    }

    /// Whether there is a key to verify with.
    pub fn has_keys(&self) -> bool {
        !self.keys().is_empty()
    }

    /// Puts a key set in the place of all present keys. One that is refused changes nothing; nor does one that has secrets in it, unless
    /// it is private.
    fn take(&self, jwks: &str, is_private: bool) -> Result<(), JwksFault> {
        if self.taken.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(jwks) {
            return Ok(());
        }
        let keys = KeySet::parse(jwks)?;
        if !is_private {
            keys.refuse_secrets()?;
        }
        tracing::info!(keys = ?keys.names().map(|(name, _)| name).collect::<Vec<_>>(), "a new key set is in force");
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(jwks.to_owned());
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    /// The key set was looked at.
    fn looked(&self) {
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Until somebody wants the key set to be looked at.
    async fn asked(&self) {
        self.ask.notified().await;
    }

    /// A token names a key that is not known: if the key set has not been looked at for a while, it is now.
    fn unknown_key(&self, header: &Header, why: &'static str) -> TokenFault {
        let looked_at = *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lately = looked_at.is_some_and(|looked| looked.elapsed() < self.between_looks);
        let may_be_new = self.is_fetched && !(self.has_keys() && (is_lately || header.kid.is_none()));
        if !may_be_new {
            return TokenFault::Invalid(why.to_owned());
        }
        if !is_lately {
            self.ask.notify_one();
        }
        TokenFault::KeysUnknown
    }

    /// The token's identity, if the token is to be believed at this time.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claims, TokenFault> {
        let payload = self.verify_signature(token)?;
        payload.check_issuer(self.issuer.as_deref())?;
        payload.check_audience(self.audience.as_deref())?;
        payload.check_times(now, self.leeway)?;
        payload.into_claims()
    }

    fn verify_signature(&self, token: &str) -> Result<Payload, TokenFault> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenFault::Invalid(format!("it is longer than {MAX_TOKEN_LEN} bytes")));
        }
        let (keys, header) = (self.keys(), header(token).map_err(|detail| TokenFault::Invalid(detail.to_owned()))?);
        let key = keys.find(header.kid.as_deref()).map_err(|why| self.unknown_key(&header, why))?;
        verified_payload(key, header.alg, token).map_err(|detail| TokenFault::Invalid(detail.to_owned()))
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read_key_set(path: &Path) -> Result<KeySet, TokenSettingsError> {
    let path = || path.to_owned();
    let jwks =
        std::fs::read_to_string(path()).map_err(|source| TokenSettingsError::Unreadable { path: path(), source })?;
    KeySet::parse(&jwks).map_err(|source| TokenSettingsError::KeySet { path: path(), source })
}

// Not `jsonwebtoken::decode`: it would check the times by the system's clock, pass over times that it cannot read, and
// whatever its next version validates by default would change what is believed here.
fn verified_payload(key: &Key, algorithm: Algorithm, token: &str) -> Result<Payload, &'static str> {
    if algorithm != key.algorithm {
        return Err("its alg is not the algorithm of its key");
    }
    let (message, signature) = token.rsplit_once('.').ok_or(NOT_A_JWT)?;
    let (_, payload) = message.rsplit_once('.').ok_or(NOT_A_JWT)?;
    match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.material, key.algorithm) {
        Ok(true) => {}
        Ok(false) => return Err("its signature does not fit"),
        Err(_) => return Err("its signature cannot be decoded"),
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| "its claims cannot be decoded")?;
    serde_json::from_slice(&payload).map_err(|_| "its claims are not a JSON object, or one comes twice")
}

fn header(token: &str) -> Result<Header, &'static str> {
    // `none` ends here: it is no algorithm that the header can name.
    let header = jsonwebtoken::decode_header(token).map_err(|_| NOT_A_JWT)?;
    if header.crit.is_some() { Err("its header has crit, and this server knows no extension") } else { Ok(header) }
}

impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSettings")
            .field("secret", &self.secret.as_ref().map(|_| "[redacted]"))
            .field("jwks", &self.jwks)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("leeway", &self.leeway)
            .field("between_looks", &self.between_looks)
            .finish()
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("keys", &self.keys().names().collect::<Vec<_>>())
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}
