//! Identifiers: each kind is a type of its own, so that one cannot be passed for another.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::{NoContext, Timestamp, Uuid};

/// A user, by the id that the identity provider gave; Tenantry only compares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

/// A trusted service, by the name under which its changes are recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

/// Why a text is not an identifier; reads on after the identifier's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdFault {
    /// It has no characters.
    #[error("is empty")]
    Empty,
    /// It is longer than the maximum, in bytes.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// A control character is in it.
    #[error("has a control character")]
    Control,
    /// White space stands at its start or end.
    #[error("has white space at its start or end")]
    Padded,
    /// It is no service name.
    #[error("may have only a-z, 0-9, '.', '_' and '-'")]
    NotAServiceName,
}

impl UserId {
    /// The longest user id, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Reads a user id: 1 to 128 bytes, no control characters, no white space around it.
    pub fn parse(text: &str) -> Result<Self, IdFault> {
        check_length(text, Self::MAX_LEN)?;
        if text.chars().any(char::is_control) {
            return Err(IdFault::Control);
        }
        // "alice " and "alice" would be two users that nobody can tell apart.
        if text.trim() != text {
            return Err(IdFault::Padded);
        }
        Ok(Self(text.into()))
    }

    /// The id as the identity provider wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ServiceName {
    /// The longest service name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Reads a service name: 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`.
    pub fn parse(text: &str) -> Result<Self, IdFault> {
        check_length(text, Self::MAX_LEN)?;
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if !text.bytes().all(known) {
            return Err(IdFault::NotAServiceName);
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_length(text: &str, max: usize) -> Result<(), IdFault> {
    match text.len() {
        0 => Err(IdFault::Empty),
        length if length > max => Err(IdFault::TooLong(max)),
        _ => Ok(()),
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A new id, ordered by the time of its making.
pub fn new(now: DateTime<Utc>) -> Uuid {
    let (seconds, nanos) = (u64::try_from(now.timestamp()).unwrap_or_default(), now.timestamp_subsec_nanos());
    let mut id = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanos)).into_bytes();
    // A version 7 UUID says milliseconds; the clock says microseconds, and what is listed by id is listed in its order. The
    // fraction goes where RFC 9562 (6.2, method 3) has it: into the twelve bits after the version.
    let fraction = u16::try_from(u64::from(nanos % 1_000_000) * 4096 / 1_000_000).unwrap_or_default();
    let [high, low] = fraction.to_be_bytes();
    id[6] = (id[6] & 0xF0) | high;
    id[7] = low;
    Uuid::from_bytes(id)
}

/// The id of something that was made at a time and is named by `source` alone: the same whenever it is asked for.
pub fn derived(made_at: DateTime<Utc>, source: &str) -> Uuid {
    let (mut id, hash) =
        (new(made_at).into_bytes(), Uuid::new_v5(&Uuid::NAMESPACE_OID, source.as_bytes()).into_bytes());
    // Both have the variant in the same two bits, and the time stands before them.
    id[8..].copy_from_slice(&hash[8..]);
    Uuid::from_bytes(id)
}

/// New ids, each after the one before it: for what one call makes together.
pub fn new_in_order(now: DateTime<Utc>, count: usize) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = (0..count).map(|_| new(now)).collect();
    ids.sort_unstable();
    ids
}

/// The id under which the answers to a user's own calls are kept: those that concern no organization yet.
pub fn of_user(user_id: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("tenantry user {user_id}").as_bytes())
}

/// The id of a webhook endpoint of the configuration.
pub fn of_webhook(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("tenantry webhook {name}").as_bytes())
}

/// The id under which the log of events knows a call whose own id must not be kept.
pub fn of_call(request_id: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("tenantry call {}", request_id.to_ascii_lowercase()).as_bytes())
}

/// Eight letters and digits that nobody else has chosen. None if the machine has no random numbers.
pub fn random_suffix() -> Option<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_is_whatever_the_provider_writes_within_reason() {
        for good in ["u", "auth0|62f0", "CN=Ann Lee", "ünï", &"x".repeat(128)] {
            assert_eq!(UserId::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(UserId::parse(""), Err(IdFault::Empty));
        assert_eq!(UserId::parse(&"x".repeat(129)), Err(IdFault::TooLong(128)));
        for bad in ["a\nb", "a\tb", "\u{7f}", "a\u{85}b"] {
            assert_eq!(UserId::parse(bad), Err(IdFault::Control), "{bad:?}");
        }
        for bad in [" a", "a ", "\u{a0}a"] {
            assert_eq!(UserId::parse(bad), Err(IdFault::Padded), "{bad:?}");
        }
    }

    #[test]
    fn ids_follow_the_clock_to_the_microsecond() {
        let start = DateTime::from_timestamp(1_767_600_000, 998_000).unwrap();
        let ids: Vec<Uuid> = (0..2000).map(|micros| new(start + chrono::TimeDelta::microseconds(micros))).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        let (one, other) = (new(start), new(start));
        assert_ne!(one, other);
        assert_eq!(one.as_bytes()[..8], other.as_bytes()[..8]);
    }

    #[test]
    fn a_derived_id_is_the_same_again_and_follows_its_time() {
        let start = DateTime::from_timestamp(1_767_600_000, 998_000).unwrap();
        let one = derived(start, "a line");
        assert_eq!(one, derived(start, "a line"));
        assert_eq!(one.get_version_num(), 7);
        assert_ne!(one, derived(start, "another line"));
        assert!(one < derived(start + chrono::TimeDelta::microseconds(1), "a line"));
    }

    #[test]
    fn a_service_name_is_short_and_plain() {
        for good in ["billing", "a.b_c-9", &"x".repeat(64)] {
            assert_eq!(ServiceName::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(ServiceName::parse(""), Err(IdFault::Empty));
        assert_eq!(ServiceName::parse(&"x".repeat(65)), Err(IdFault::TooLong(64)));
        for bad in ["Billing", "a b", "a/b", "ä"] {
            assert_eq!(ServiceName::parse(bad), Err(IdFault::NotAServiceName), "{bad:?}");
        }
    }
}
