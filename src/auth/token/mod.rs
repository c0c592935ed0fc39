//! Signed tokens (JWT): who calls, on the word of an issuer whose key we hold.
//!
//! A token is believed when its signature fits one of our keys under *that key's* algorithm, when its time has come and
//! is not over, and when it is from the issuer and for the audience that the operator named. The token's own header decides
//! nothing but which of our keys to try. The time is an argument, so that tests and the test clock can move it.

mod claims;
mod keys;
mod mint;
mod ring_provider;
#[cfg(test)]
pub(super) mod tests;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};

use self::{
    claims::Payload,
    keys::{Key, KeySet},
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
    /// The path of a file with a JSON Web Key Set.
    pub jwks: Option<String>,
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
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not a key set that can be used.
    #[error("the key set {path} cannot be used")]
    KeySet {
        /// The file's path.
        path: String,
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
}

/// Verifies tokens.
pub struct TokenVerifier {
    keys: RwLock<Arc<KeySet>>,
    issuer: Option<String>,
    audience: Option<String>,
}

impl TokenVerifier {
    /// Makes a verifier, reading the key set from its file.
    pub fn new(settings: &TokenSettings) -> Result<Self, TokenSettingsError> {
        let keys = match (&settings.secret, &settings.jwks) {
            (None, None) => return Err(TokenSettingsError::NoKeys),
            (Some(_), Some(_)) => return Err(TokenSettingsError::SecretAndKeySet),
            (Some(secret), None) if secret.len() < MIN_SECRET_LEN => return Err(TokenSettingsError::SecretTooShort),
            (Some(secret), None) => KeySet::of_secret(secret),
            (None, Some(path)) => read_key_set(path)?,
        };
        Ok(Self::with_keys(keys, settings.issuer.clone(), settings.audience.clone()))
    }

    /// Makes a verifier from the text of a key set that came from elsewhere than a file.
    pub fn from_jwks(jwks: &str, issuer: Option<String>, audience: Option<String>) -> Result<Self, JwksFault> {
        Ok(Self::with_keys(KeySet::parse(jwks)?, issuer, audience))
    }

    fn with_keys(keys: KeySet, issuer: Option<String>, audience: Option<String>) -> Self {
        ring_provider::install();
        Self { keys: RwLock::new(Arc::new(keys)), issuer, audience }
    }

    /// Puts another key set in the place of all present keys. One that is refused changes nothing.
    pub fn replace_keys(&self, jwks: &str) -> Result<(), JwksFault> {
        let keys = Arc::new(KeySet::parse(jwks)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// The token's identity, if the token is to be believed at this time.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claims, TokenFault> {
        let payload = self.verify_signature(token)?;
        payload.check_issuer(self.issuer.as_deref())?;
        payload.check_audience(self.audience.as_deref())?;
        payload.check_times(now)?;
        payload.into_claims()
    }

    fn verify_signature(&self, token: &str) -> Result<Payload, TokenFault> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenFault::Invalid(format!("it is longer than {MAX_TOKEN_LEN} bytes")));
        }
        let keys = self.keys();
        verified_payload(&keys, token).map_err(|detail| TokenFault::Invalid(detail.to_owned()))
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read_key_set(path: &str) -> Result<KeySet, TokenSettingsError> {
    let jwks = std::fs::read_to_string(path)
        .map_err(|source| TokenSettingsError::Unreadable { path: path.to_owned(), source })?;
    KeySet::parse(&jwks).map_err(|source| TokenSettingsError::KeySet { path: path.to_owned(), source })
}

// Not `jsonwebtoken::decode`: it would check the times by the system's clock, pass over times that it cannot read, and
// whatever its next version validates by default would change what is believed here.
fn verified_payload(keys: &KeySet, token: &str) -> Result<Payload, &'static str> {
    let key = find_key(keys, token)?;
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

fn find_key<'a>(keys: &'a KeySet, token: &str) -> Result<&'a Key, &'static str> {
    // `none` ends here: it is no algorithm that the header can name.
    let header = jsonwebtoken::decode_header(token).map_err(|_| NOT_A_JWT)?;
    if header.crit.is_some() {
        return Err("its header has crit, and this server knows no extension");
    }
    let key = keys.find(header.kid.as_deref())?;
    if header.alg != key.algorithm {
        return Err("its alg is not the algorithm of its key");
    }
    Ok(key)
}

impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSettings")
            .field("secret", &self.secret.as_ref().map(|_| "[redacted]"))
            .field("jwks", &self.jwks)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish()
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("keys", &self.keys().names().collect::<Vec<_>>())
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish()
    }
}
