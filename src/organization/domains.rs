//! Domains that organizations claim and prove to be theirs: the rules, and the rows.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
};

use crate::auth::policy::{RolePolicy, custom};
use crate::auth::scope::Scope;
use crate::email::Email;
use crate::entity::organization_domain::{self, Column as C, JoinMode};
use crate::error::{Error, OnConstraint as _};
use crate::fields::Fields;

/// How many domains an organization claims at most.
pub const MOST: usize = 50;

/// What a name in the domain name system has at most.
const MOST_BYTES: usize = 253;

/// The label of the record that proves a domain: a name of its own, which no other use of the domain is in the way of.
const CHALLENGE: &str = "_tenantry-challenge.";

/// How the proof of a domain begins, so that who finds it in a zone knows what it is for.
const PROOF: &str = "tenantry-verification=";

const PROOF_BYTES: usize = 16;

/// Reads a domain: in its ASCII form, as the domains of normalized e-mail addresses are.
///
/// # Errors
///
/// Says what is wrong with it, in words for the caller.
pub fn parse(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("must not be empty");
    }
    // Far more than the longest, in any script: nobody needs the ASCII form of a megabyte.
    if text.len() > 4 * MOST_BYTES {
        return Err("must have at most 233 bytes in its ASCII form");
    }
    let domain = idna::domain_to_ascii_strict(text).map_err(|_| "must be a domain, as in example.com")?;
    let last = domain.rsplit('.').next().unwrap_or_default();
    if !domain.contains('.') || last.bytes().all(|letter| letter.is_ascii_digit()) {
        return Err("must be a domain with at least two labels and no address, as in example.com");
    }
    // The name of the record that proves it must be one as well.
    if domain.len() > MOST_BYTES - CHALLENGE.len() {
        return Err("must have at most 233 bytes in its ASCII form");
    }
    Ok(domain)
}

/// Reads a domain of a request; empty when it is wrong.
pub fn read(fields: &mut Fields, field: &str, text: &str) -> String {
    parse(text).unwrap_or_else(|fault| {
        fields.fault(field, fault);
        String::new()
    })
}

/// The domain of an e-mail address.
#[must_use]
pub fn of_email(email: &Email) -> &str {
    email.normalized.rsplit('@').next().unwrap_or_default()
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

/// Whether those who join by themselves can be given this role: a role that the policy has, and not the top one. It may have
/// changed since the domain's rule was made.
#[must_use]
pub fn gives(policy: &RolePolicy, role: &str) -> bool {
    policy.role(role).is_some_and(|role| !role.top)
}

/// The role in which people join when none is named: the last one of the role policy.
#[must_use]
pub fn default_role(policy: &RolePolicy) -> &str {
    policy.roles().last().unwrap_or(policy.top_role()).name.as_str()
}

/// Whether a text can be the name of a role in which people join, as far as the deployment's policy tells: an organization's
/// own roles stand in the database.
pub fn check_role_name(fields: &mut Fields, field: &str, role: &str, policy: &RolePolicy) {
    let own = policy.custom_roles() && custom::is_name(role);
    if !own && !gives(policy, role) {
        fields.fault(field, role_fault(policy));
    }
}

/// What is wrong with a role in which nobody can join.
#[must_use]
pub fn role_fault(policy: &RolePolicy) -> String {
    let known: Vec<&str> = policy.roles().filter(|role| !role.top).map(|role| role.name.as_str()).collect();
    format!("must be one of {}", known.join(", "))
}

/// Finds a domain that the organization has claimed.
pub async fn find(
    connection: &impl ConnectionTrait,
    scope: Scope,
    domain: &str,
) -> Result<Option<organization_domain::Model>, DbErr> {
    organization_domain::Entity::find_by_id((scope.organization_id(), domain.to_owned())).one(connection).await
}

/// Finds the domain as the one organization has it that proved it.
pub async fn find_verified(
    connection: &impl ConnectionTrait,
    domain: &str,
) -> Result<Option<organization_domain::Model>, DbErr> {
    organization_domain::Entity::find()
        .filter(C::Domain.eq(domain))
        .filter(Expr::cust("organization_domain.verified_at IS NOT NULL"))
        .one(connection)
        .await
}

/// Lists what an organization has claimed, by name.
pub async fn list(connection: &impl ConnectionTrait, scope: Scope) -> Result<Vec<organization_domain::Model>, DbErr> {
    organization_domain::Entity::find()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .order_by_asc(C::Domain)
        .all(connection)
        .await
}

/// Whether the organization can claim one more.
pub async fn check_room(connection: &impl ConnectionTrait, scope: Scope) -> Result<(), Error> {
    let claimed = organization_domain::Entity::find()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .count(connection)
        .await?;
    if usize::try_from(claimed).is_ok_and(|claimed| claimed < MOST) {
        return Ok(());
    }
    Err(Error::LimitReached { of: "domains", maximum: MOST })
}

/// Inserts a claim.
pub async fn insert(connection: &impl ConnectionTrait, row: organization_domain::Model) -> Result<(), Error> {
    organization_domain::Entity::insert(row.into_active_model())
        .exec_without_returning(connection)
        .await
        .on_constraint("organization_domain_once", || Error::Conflict)
        .map(|_| ())
}

/// Writes what can change of a claim.
pub async fn update(connection: &impl ConnectionTrait, row: &organization_domain::Model) -> Result<(), Error> {
    organization_domain::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::Domain.eq(row.domain.clone()))
        .col_expr(C::VerifiedAt, Expr::value(row.verified_at))
        .col_expr(C::JoinMode, Expr::value(row.join_mode.to_value()))
        .col_expr(C::JoinRole, Expr::value(row.join_role.clone()))
        .col_expr(C::UpdatedAt, Expr::value(row.updated_at))
        .col_expr(C::Version, Expr::value(row.version))
        .exec(connection)
        .await
        .on_constraint("organization_domain_verified_unique", || Error::DomainTaken { domain: row.domain.clone() })
        .map(|_| ())
}

/// Deletes a claim.
pub async fn delete(connection: &impl ConnectionTrait, scope: Scope, domain: &str) -> Result<(), DbErr> {
    let id = (scope.organization_id(), domain.to_owned());
    organization_domain::Entity::delete_by_id(id).exec(connection).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                prop_assert!(email.is_err() || of_email(&email.unwrap()) == domain);
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
