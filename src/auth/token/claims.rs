//! What a verified token says: its times, issuer and audience are checked here, then its identity is read.
//!
//! A claim of the wrong type is refused, never ignored. `null` counts as absent where a claim describes somebody (templates
//! of identity providers write it), and as wrong where it limits the token.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::TokenFault;

/// The scope that makes a token one of a trusted service.
const PLATFORM_SCOPE: &str = "platform";

/// The identity in a verified token.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user's id, or the service's name.
    pub sub: String,
    /// The user's e-mail address.
    pub email: Option<String>,
    /// Whether the issuer has verified the address; see [`Claims::usable_email`].
    pub email_verified: Option<bool>,
    /// The user's name.
    pub name: Option<String>,
    /// The organization that the user acts in.
    pub org_id: Option<String>,
    /// The user's role in it.
    pub org_role: Option<String>,
    /// The scopes, separated by spaces.
    pub scope: Option<String>,
    /// The service that acts for the user (RFC 8693). Of a chain of services only the last one, as the RFC says.
    pub act: Option<Actor>,
    /// When the token's time is over, in seconds since 1970.
    pub exp: i64,
}

/// The service that acts for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The service's name.
    pub sub: String,
}

impl Claims {
    /// Whether the token is one of a trusted service: its scope has `platform`.
    pub fn is_platform(&self) -> bool {
        self.scope.as_deref().is_some_and(|scope| scope.split(' ').any(|word| word == PLATFORM_SCOPE))
    }

    /// The e-mail address, unless the issuer says that it is not verified.
    pub fn usable_email(&self) -> Option<&str> {
        self.email.as_deref().filter(|_| self.email_verified != Some(false))
    }
}

// E-mail addresses and names stay out of logs.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("sub", &self.sub)
            .field("org_id", &self.org_id)
            .field("org_role", &self.org_role)
            .field("scope", &self.scope)
            .field("act", &self.act)
            .finish_non_exhaustive()
    }
}

/// The claims as they came. A struct and not a map, so that a claim that comes twice is refused.
#[derive(Deserialize)]
pub(super) struct Payload {
    #[serde(default, deserialize_with = "even_null")]
    iss: Option<Value>,
    #[serde(default, deserialize_with = "even_null")]
    aud: Option<Value>,
    #[serde(default, deserialize_with = "even_null")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "even_null")]
    nbf: Option<Value>,
    #[serde(default, deserialize_with = "even_null")]
    iat: Option<Value>,
    #[serde(default, deserialize_with = "even_null")]
    sub: Option<Value>,
    email: Option<Value>,
    email_verified: Option<Value>,
    name: Option<Value>,
    org_id: Option<Value>,
    org_role: Option<Value>,
    scope: Option<Value>,
    act: Option<Value>,
}

/// Tells `null` from an absent claim, which `Option` alone does not.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Payload {
    pub(super) fn check_times(&self, now: DateTime<Utc>, leeway: TimeDelta) -> Result<(), TokenFault> {
        let (now, leeway) = (now.timestamp(), leeway.num_seconds());
        let expires = expiry(self.exp.as_ref())?;
        let starts = time(self.nbf.as_ref(), "nbf")?;
        let issued = time(self.iat.as_ref(), "iat")?;
        if expires.saturating_add(leeway) <= now {
            return Err(TokenFault::Expired);
        }
        if [starts, issued].into_iter().flatten().any(|time| time > now.saturating_add(leeway)) {
            return Err(TokenFault::NotYetValid);
        }
        Ok(())
    }

    /// The token must be from the configured issuer; without one, whoever has a key may issue.
    pub(super) fn check_issuer(&self, issuer: Option<&str>) -> Result<(), TokenFault> {
        match (&self.iss, issuer) {
            (_, None) => Ok(()),
            (Some(Value::String(from)), Some(issuer)) if from == issuer => Ok(()),
            (None, Some(_)) => Err(fault("it has no claim iss, and this server asks for an issuer")),
            (Some(_), Some(_)) => Err(fault("its iss is not the issuer that this server accepts")),
        }
    }

    /// The token must be for the configured audience. Without one, a token that is for somebody is not for us (RFC 7519
    /// section 4.1.3): one that was issued for another service must not be usable here.
    pub(super) fn check_audience(&self, audience: Option<&str>) -> Result<(), TokenFault> {
        let Some(meant) = &self.aud else {
            return match audience {
                None => Ok(()),
                Some(_) => Err(fault("it has no claim aud, and this server asks for an audience")),
            };
        };
        let Some(audience) = audience else {
            return Err(fault("it has an aud, and this server is configured without an audience"));
        };
        let is_meant = match meant {
            Value::String(one) => one == audience,
            Value::Array(many) if many.iter().all(Value::is_string) => many.iter().any(|one| one == audience),
            _ => return Err(fault("its aud is neither a string nor a list of strings")),
        };
        if is_meant { Ok(()) } else { Err(fault("its aud does not name this server's audience")) }
    }

    pub(super) fn into_claims(self) -> Result<Claims, TokenFault> {
        let email_verified = match self.email_verified {
            None => None,
            Some(Value::Bool(verified)) => Some(verified),
            Some(_) => return Err(fault("its email_verified is not true or false")),
        };
        Ok(Claims {
            sub: text(self.sub, "sub")?.ok_or_else(|| fault("it has no claim sub"))?,
            email: text(self.email, "email")?,
            email_verified,
            name: text(self.name, "name")?,
            org_id: text(self.org_id, "org_id")?,
            org_role: text(self.org_role, "org_role")?,
            scope: text(self.scope, "scope")?,
            act: actor(self.act)?,
            exp: expiry(self.exp.as_ref())?,
        })
    }
}

fn actor(act: Option<Value>) -> Result<Option<Actor>, TokenFault> {
    match act {
        None => Ok(None),
        Some(Value::Object(mut act)) => match act.remove("sub") {
            Some(Value::String(sub)) => Ok(Some(Actor { sub })),
            _ => Err(fault("its act has no sub")),
        },
        Some(_) => Err(fault("its act is not an object")),
    }
}

fn text(value: Option<Value>, claim: &str) -> Result<Option<String>, TokenFault> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(fault(&format!("its {claim} is not a string"))),
    }
}

fn expiry(exp: Option<&Value>) -> Result<i64, TokenFault> {
    time(exp, "exp")?.ok_or_else(|| fault("it has no claim exp"))
}

/// A `NumericDate` in whole seconds; a fraction is cut off, which ends a token early rather than late.
fn time(value: Option<&Value>, claim: &str) -> Result<Option<i64>, TokenFault> {
    let Some(value) = value else {
        return Ok(None);
    };
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, and so far away the second does not matter")]
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
    seconds.map(Some).ok_or_else(|| fault(&format!("its {claim} is not a number")))
}

fn fault(detail: &str) -> TokenFault {
    TokenFault::Invalid(detail.to_owned())
}
