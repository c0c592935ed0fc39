//! Who calls: from a call's metadata to a [`Caller`].
//!
//! The identity comes in one of two ways, never both:
//! - `authorization: Bearer <token>`, believed when the token verifies ([`super::token`]);
//! - `x-user-id`, `x-user-email`, `x-org-id`, `x-org-role` and `x-service`, believed only when the operator says that a
//!   gateway sets them and that no client can, or of a trusted service that its certificate names.
//!
//! A service whose certificate names it needs neither, when it calls under its own name.
//!
//! What is missing, repeated, mixed or unreadable is refused, with a message that says what to do. Nothing is guessed, and
//! nothing falls back to a lesser identity.
//!
//! Whether the organization exists, the role is known and the user is a member is not decided here.

mod claims;
mod metadata;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use self::metadata::TrustedKeys;
use super::token::{MAX_TOKEN_LEN, TokenFault, TokenVerifier};
use crate::{
    id::{ServiceName, UserId},
    pb::ErrorReason,
};

/// The metadata key of a token.
pub const AUTHORIZATION: &str = "authorization";
/// The metadata key of the user's id.
pub const USER_ID: &str = "x-user-id";
/// The metadata key of the user's verified e-mail address.
pub const USER_EMAIL: &str = "x-user-email";
/// The metadata key of the organization that the user acts in.
pub const ORG_ID: &str = "x-org-id";
/// The metadata key of the user's role in it.
pub const ORG_ROLE: &str = "x-org-role";
/// The metadata key of the trusted service that calls.
pub const SERVICE: &str = "x-service";
/// The metadata key of the address from which the user called the service or the gateway.
pub const USER_ADDRESS: &str = "x-user-address";

/// gRPC decodes keys with this ending from base64; whoever sends one believes that it is read, and it is not.
const BINARY_KEYS: [&str; 7] = [
    "authorization-bin",
    "x-user-id-bin",
    "x-user-email-bin",
    "x-org-id-bin",
    "x-org-role-bin",
    "x-service-bin",
    "x-user-address-bin",
];

/// What proxies say of whom they call for.
const FORWARDED: [&str; 7] = [
    "forwarded",
    "via",
    "x-envoy-external-address",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

const MAX_EMAIL_LEN: usize = 254;
const MAX_ROLE_LEN: usize = 64;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A user, perhaps through a service.
    User(UserCaller),
    /// A trusted service under its own name.
    Service(ServiceName),
}

/// A user who calls.
#[derive(Clone, PartialEq, Eq)]
pub struct UserCaller {
    /// The user.
    pub user_id: UserId,
    /// The user's e-mail address; only a verified one stands here.
    pub email: Option<String>,
    /// The trusted service that acts for the user.
    pub via: Option<ServiceName>,
    /// The organization that the user acts in.
    pub organization: Option<OrganizationClaim>,
}

/// The organization that a user says to act in, which the stored membership must confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationClaim {
    /// The organization's id.
    pub id: Uuid,
    /// The user's role in it. Only a service that acts for the user may leave it out.
    pub role: Option<String>,
}

/// Why a call has no identity that can be believed. The code is UNAUTHENTICATED or, while keys are looked at, UNAVAILABLE.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IdentityFault {
    /// The reason in the contract.
    pub reason: ErrorReason,
    /// What is wrong and what to do, for the client; quotes nothing that was sent.
    pub message: String,
    /// The metadata key that is wrong.
    pub key: Option<String>,
}

/// Whether identity headers are believed of whoever can reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderTrust {
    /// They are not.
    Refused,
    /// Nobody said so, but only this machine can reach the server: they are, unless the call came through a proxy.
    Unforwarded,
    /// A gateway, and nobody else, sets them.
    Believed,
}

/// Reads callers from metadata.
#[derive(Debug)]
pub struct CallerReader {
    /// Verifies tokens; without it none is accepted.
    pub verifier: Option<Arc<TokenVerifier>>,
    /// Whether identity headers are believed.
    pub headers: HeaderTrust,
}

impl CallerReader {
    /// The address from which the user called whoever calls for them, as they say it: a trusted service, or a gateway.
    pub fn address(&self, headers: &HeaderMap, caller: &Caller) -> Result<Option<IpAddr>, IdentityFault> {
        let Some(said) = single(headers, USER_ADDRESS)? else { return Ok(None) };
        let trusted =
            self.headers != HeaderTrust::Refused || matches!(caller, Caller::User(user) if user.via.is_some());
        if !trusted {
            let message =
                format!("`{USER_ADDRESS}` is believed of a trusted service that acts for the user; leave it out");
            let key = Some(USER_ADDRESS.to_owned());
            return Err(IdentityFault { reason: ErrorReason::MetadataNotTrusted, message, key });
        }
        let address = said.to_str().ok().and_then(|said| said.parse::<IpAddr>().ok());
        let address = address.ok_or_else(|| IdentityFault::malformed(USER_ADDRESS, "must be an IP address"))?;
        Ok(Some(address.to_canonical()))
    }

    /// The caller that the metadata name at this time, and for how long from then on: for ever, by headers.
    /// `certified` is the trusted service that the client's certificate names.
    pub fn read(
        &self,
        headers: &HeaderMap,
        certified: Option<&ServiceName>,
        now: DateTime<Utc>,
    ) -> Result<(Caller, Option<Duration>), IdentityFault> {
        if let Some(key) = BINARY_KEYS.into_iter().find(|key| headers.contains_key(*key)) {
            return Err(IdentityFault::malformed(key, "is not read; send the key without `-bin`"));
        }
        match (single(headers, AUTHORIZATION)?, TrustedKeys::find(headers)?) {
            (None, None) => match certified {
                Some(service) => Ok((Caller::Service(service.clone()), None)),
                None => Err(self.nothing_sent()),
            },
            (Some(_), Some(_)) => Err(IdentityFault {
                reason: ErrorReason::IdentityAmbiguous,
                message: "Both a token and identity headers were sent; send one of them.".to_owned(),
                key: Some(AUTHORIZATION.to_owned()),
            }),
            (Some(authorization), None) => self.read_token(authorization, now),
            (None, Some(keys)) if certified.is_some() || self.believes(headers)? => {
                keys.read(certified).map(|caller| (caller, None))
            }
            (None, Some(keys)) => Err(IdentityFault {
                reason: ErrorReason::MetadataNotTrusted,
                message: "This server does not trust identity headers; send `authorization: Bearer <token>`."
                    .to_owned(),
                key: keys.first().map(str::to_owned),
            }),
        }
    }

    /// Whether identity headers are believed of whoever sends this call.
    fn believes(&self, headers: &HeaderMap) -> Result<bool, IdentityFault> {
        match (self.headers, FORWARDED.into_iter().find(|key| headers.contains_key(*key))) {
            (HeaderTrust::Refused, _) => Ok(false),
            (HeaderTrust::Believed, _) | (HeaderTrust::Unforwarded, None) => Ok(true),
            // Something on this machine lets others in, and nobody has said that it sets the headers.
            (HeaderTrust::Unforwarded, Some(key)) => Err(IdentityFault {
                reason: ErrorReason::MetadataNotTrusted,
                message: format!(
                    "The call came through a proxy (`{key}`), and nobody told this server that it sets the identity headers: \
                     TENANTRY_TRUST_METADATA does."
                ),
                key: Some(key.to_owned()),
            }),
        }
    }

    fn nothing_sent(&self) -> IdentityFault {
        let ways = match (self.verifier.is_some(), self.headers != HeaderTrust::Refused) {
            (true, false) => "`authorization: Bearer <token>`",
            (false, true) => "`x-user-id` or `x-service`",
            _ => "`authorization: Bearer <token>`, or `x-user-id` or `x-service`",
        };
        IdentityFault {
            reason: ErrorReason::IdentityMissing,
            message: format!("The call has no identity; send {ways}."),
            key: None,
        }
    }

    fn read_token(
        &self,
        authorization: &HeaderValue,
        now: DateTime<Utc>,
    ) -> Result<(Caller, Option<Duration>), IdentityFault> {
        let token = bearer(authorization)?;
        let Some(verifier) = &self.verifier else {
            return Err(IdentityFault::token("This server accepts no tokens; it is configured without token keys."));
        };
        let claims = verifier.verify(token, now).map_err(IdentityFault::from)?;
        let lasts = Duration::from_secs(u64::try_from(claims.exp - now.timestamp()).unwrap_or_default());
        let caller = claims::caller(&claims);
        caller
            .map(|caller| (caller, Some(lasts)))
            .map_err(|fault| IdentityFault::token(&format!("The token is not accepted: {fault}.")))
    }
}

/// The value of a key that may come only once.
fn single<'a>(headers: &'a HeaderMap, key: &str) -> Result<Option<&'a HeaderValue>, IdentityFault> {
    let mut values = headers.get_all(key).iter();
    let value = values.next();
    // gRPC lets a proxy join the values of a repeated key with a comma, so one with a comma may be two.
    if values.next().is_some() || value.is_some_and(|value| value.as_bytes().contains(&b',')) {
        return Err(IdentityFault {
            reason: ErrorReason::IdentityAmbiguous,
            message: format!("The metadata key `{key}` came more than once, or with a comma; send one value."),
            key: Some(key.to_owned()),
        });
    }
    Ok(value)
}

fn bearer(authorization: &HeaderValue) -> Result<&str, IdentityFault> {
    let malformed = |what: &str| IdentityFault::malformed(AUTHORIZATION, what);
    let text = authorization.to_str().map_err(|_| malformed("is not ASCII text"))?;
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start_matches(' '),
        _ => return Err(malformed("must be `Bearer <token>`")),
    };
    if token.is_empty() || token.contains([' ', '\t']) {
        return Err(malformed("must be `Bearer <token>`, with one token"));
    }
    if token.len() > MAX_TOKEN_LEN {
        return Err(malformed(&format!("has a token of more than {MAX_TOKEN_LEN} bytes")));
    }
    Ok(token)
}

/// An e-mail address as far as this module cares: whether it is the invited one is compared elsewhere.
fn email(text: &str) -> Result<String, &'static str> {
    if text.len() > MAX_EMAIL_LEN {
        return Err("is longer than 254 bytes");
    }
    let well_formed = !text.chars().any(|c| c.is_control() || c.is_whitespace())
        && text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    if well_formed { Ok(text.to_owned()) } else { Err("is not an e-mail address") }
}

/// An organization's id in the one usual form: a second form of the same id would only be for slipping past a filter.
fn organization_id(text: &str) -> Result<Uuid, &'static str> {
    const HYPHENATED_LEN: usize = 36;
    let id = Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED_LEN);
    id.ok_or("is not a UUID such as 0198c1d2-7b7e-7cc3-98c4-dc0c0c07398f")
}

/// A role's name in form; whether there is such a role is for the policy to say.
fn role(text: &str) -> Result<String, &'static str> {
    let well_formed = (1..=MAX_ROLE_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if well_formed { Ok(text.to_owned()) } else { Err("is not a role: 1 to 64 visible ASCII characters") }
}

impl IdentityFault {
    fn malformed(key: &str, what: &str) -> Self {
        Self {
            reason: ErrorReason::IdentityMalformed,
            message: format!("The metadata key `{key}` {what}."),
            key: Some(key.to_owned()),
        }
    }

    fn token(message: &str) -> Self {
        Self { reason: ErrorReason::TokenInvalid, message: message.to_owned(), key: Some(AUTHORIZATION.to_owned()) }
    }
}

impl IdentityFault {
    /// What a call that goes on hears when the time of its token is over.
    pub fn expired() -> Self {
        TokenFault::Expired.into()
    }
}

impl From<TokenFault> for IdentityFault {
    fn from(fault: TokenFault) -> Self {
        let message = match &fault {
            TokenFault::Invalid(detail) => return Self::token(&format!("The token is not accepted: {detail}.")),
            TokenFault::Expired => "The token has expired; get a new one.",
            TokenFault::NotYetValid => "The token is not valid yet; wait, or set the clock of its issuer right.",
            TokenFault::KeysUnknown => {
                let message =
                    "The token names a key that this server does not know yet; the key set is being looked at.";
                return Self { reason: ErrorReason::KeysUnavailable, ..Self::token(message) };
            }
        };
        Self { reason: ErrorReason::TokenExpired, ..Self::token(message) }
    }
}

// E-mail addresses stay out of logs.
impl fmt::Debug for UserCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserCaller")
            .field("user_id", &self.user_id)
            .field("email", &self.email.as_ref().map(|_| "[redacted]"))
            .field("via", &self.via)
            .field("organization", &self.organization)
            .finish()
    }
}
