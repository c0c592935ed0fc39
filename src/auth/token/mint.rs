//! Making tokens, for development: whoever has the secret can be anybody.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use super::{MIN_SECRET_LEN, ring_provider};

/// What a minted token says; the times are added.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MintedClaims {
    /// The user's id, or the service's name.
    pub sub: String,
    /// The user's e-mail address, which counts as verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The organization that the user acts in; needs `org_role`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// The user's role in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_role: Option<String>,
    /// The scopes, separated by spaces; `platform` makes the token one of a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The service that acts for the user.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_actor")]
    pub act: Option<String>,
    /// The issuer that the server asks for.
    #[serde(rename = "iss", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The audience that the server asks for.
    #[serde(rename = "aud", skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// No server would take the secret.
    #[error("the token secret is shorter than {MIN_SECRET_LEN} bytes")]
    SecretTooShort,
    /// The token would end before it starts, or never.
    #[error("the lifetime of a token is at least one second, and its end a date that exists")]
    Lifetime,
    /// The claims cannot be written.
    #[error("cannot sign the token")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Dated<'a> {
    #[serde(flatten)]
    claims: &'a MintedClaims,
    iat: i64,
    exp: i64,
}

/// Signs a token with HS256.
pub fn mint(
    secret: &[u8],
    claims: &MintedClaims,
    now: DateTime<Utc>,
    lifetime: TimeDelta,
) -> Result<String, MintError> {
    if secret.len() < MIN_SECRET_LEN {
        return Err(MintError::SecretTooShort);
    }
    let end = now.checked_add_signed(lifetime).filter(|_| lifetime.num_seconds() > 0).ok_or(MintError::Lifetime)?;
    ring_provider::install();
    let dated = Dated { claims, iat: now.timestamp(), exp: end.timestamp() };
    jsonwebtoken::encode(&Header::default(), &dated, &EncodingKey::from_secret(secret)).map_err(MintError::Sign)
}

// RFC 8693 nests the service: `"act": {"sub": "…"}`.
#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn as_actor<S: serde::Serializer>(act: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    std::collections::BTreeMap::from_iter(act.as_ref().map(|sub| ("sub", sub))).serialize(serializer)
}
