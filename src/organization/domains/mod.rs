//! Domains that organizations claim and prove to be theirs: the rules.

pub mod store;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::auth::policy::{RoleDefinition, RolePolicy};
use crate::email;
use crate::entity::organization_domain::{self, JoinMode};

/// How many domains an organization claims at most.
pub const MOST: usize = 50;

/// What a name in the domain name system has at most.
const MOST_BYTES: usize = 253;

/// The label of the record that proves a domain: a name of its own, which no other use of the domain is in the way of.
const CHALLENGE: &str = "_tenantry-challenge.";

/// How the proof of a domain begins, so that who finds it in a zone knows what it is for.
const PROOF: &str = "tenantry-verification=";

const PROOF_BYTES: usize = 16;

/// Reads a domain that can be claimed: one that e-mail addresses have, in its ASCII form, and whose record has a name.
///
/// # Errors
///
/// Says what is wrong with it, in words for the caller.
pub fn parse(text: &str) -> Result<String, &'static str> {
    let domain = email::parse_domain(text)?;
    let last = domain.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|letter| letter.is_ascii_digit()) {
        return Err("must be a domain and no address, as in example.com");
    }
    // The name of the record that proves it must be one as well.
    if domain.len() > MOST_BYTES - CHALLENGE.len() {
        return Err("must have at most 233 bytes in its ASCII form");
    }
    Ok(domain)
}

/// The name of the record that proves a domain.
#[must_use]
pub fn record_name(domain: &str) -> String {
    format!("{CHALLENGE}{domain}")
}

/// What a record has to say that proves a domain: 128 bits that nobody can guess. None if the machine has no random numbers.
#[must_use]
pub fn new_proof() -> Option<String> {
    let mut bytes = [0; PROOF_BYTES];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("{PROOF}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// Whether what the records say proves a domain.
#[must_use]
pub fn proves(records: &[String], proof: &str) -> bool {
    records.iter().any(|record| record.trim() == proof)
}

/// Whether a verified domain lets anybody in, and how.
#[must_use]
pub fn lets_in(domain: &organization_domain::Model) -> bool {
    domain.verified_at.is_some() && domain.join_mode != JoinMode::Nobody
}

/// Whether those who join by themselves can be given this role of a policy: any but the top one.
#[must_use]
pub fn is_given(role: &RoleDefinition) -> bool {
    !role.top
}

/// Whether they can be given a role of this name. The policy may have changed since the domain's rule was made.
#[must_use]
pub fn gives(policy: &RolePolicy, role: &str) -> bool {
    policy.role(role).is_some_and(is_given)
}

/// The role in which people join when none is named: the last one of the role policy.
#[must_use]
pub fn default_role(policy: &RolePolicy) -> &str {
    policy.roles().last().unwrap_or(policy.top_role()).name.as_str()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::email::Email;

    #[test]
    fn many_spellings_are_one_domain() {
        for spelling in ["bücher.example", " BU\u{308}CHER.Example\t", "xn--bcher-kva.example"] {
            assert_eq!(parse(spelling).as_deref(), Ok("xn--bcher-kva.example"), "{spelling}");
        }
        assert_eq!(parse("eu.example.com").as_deref(), Ok("eu.example.com"));
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        let long = format!("{}.example.com", ["a".repeat(60).as_str(); 4].join("."));
        for text in [
            "",
            " ",
            "localhost",
            "com",
            "example.com.",
            ".example.com",
            "a..com",
            "-a.com",
            "a b.com",
            "a_b.com",
            "a@b.com",
            "https://a.com",
            "*.example.com",
            "127.0.0.1",
            "127.1",
            "[::1]",
            "::1",
            "a.123",
            "a\0.com",
            "a\u{202e}.com",
            &long,
            &"ü.".repeat(100_000),
        ] {
            assert!(parse(text).is_err(), "{:?} was taken", text.chars().take(80).collect::<String>());
        }
    }

    #[test]
    fn the_longest_domain_leaves_room_for_the_name_of_its_record() {
        let labels = format!("{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63));
        let fits = format!("{labels}.{}", "d".repeat(233 - labels.len() - 1));
        assert_eq!(record_name(&parse(&fits).unwrap()).len(), 253);
        assert!(parse(&format!("{fits}d")).is_err());
    }

    #[test]
    fn no_two_proofs_are_alike() {
        let (one, other) = (new_proof().unwrap(), new_proof().unwrap());
        assert_ne!(one, other);
        assert!(one.strip_prefix(PROOF).is_some_and(|random| random.len() == 22));
        assert!(proves(&["else".into(), format!(" {one}\n")], &one));
        assert!(!proves(&[other, String::new(), one[..one.len() - 1].to_owned()], &one) && !proves(&[], &one));
    }

    proptest! {
        #[test]
        fn a_domain_is_the_one_of_its_addresses(text in "[a-zäöüß0-9-]{1,12}(\\.[a-zA-Z0-9é]{2,6}){1,3}") {
            if let Ok(domain) = parse(&text) {
                prop_assert_eq!(parse(&domain), Ok(domain.clone()));
                let email = Email::parse(&format!("ann@{text}"));
                prop_assert!(email.is_err() || email.unwrap().domain() == domain);
            }
        }

        #[test]
        fn any_text_is_a_domain_or_not(text in ".*") {
            if let Ok(domain) = parse(&text) {
                prop_assert!(domain.is_ascii() && domain.contains('.') && record_name(&domain).len() <= 253);
            }
        }
    }
}
