//! Real keys and real forgeries.

mod forgery;
mod key_set;
pub(in crate::auth) mod signing;
mod times;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use self::signing::{SECRET, TestKey};
use super::*;

pub(in crate::auth) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 500_000_000).unwrap()
}

pub(in crate::auth) fn in_seconds(seconds: i64) -> i64 {
    now().timestamp() + seconds
}

fn ann() -> Value {
    json!({ "sub": "ann", "exp": in_seconds(600) })
}

fn verifier_of(keys: &[Value]) -> TokenVerifier {
    TokenVerifier::of_keys(KeySet::parse(&json!({ "keys": keys }).to_string()).unwrap(), None, None)
}

fn of_secret() -> TokenVerifier {
    TokenVerifier::new(&TokenSettings { secret: Some(SECRET.to_vec()), ..TokenSettings::default() }).unwrap()
}

fn refused(verifier: &TokenVerifier, token: &str, with: &str) {
    match verifier.verify(token, now()) {
        Err(TokenFault::Invalid(detail)) => assert!(detail.contains(with), "{detail:?} does not say {with:?}"),
        other => panic!("expected a refusal with {with:?}, got {other:?}"),
    }
}

#[test]
fn each_algorithm_verifies_with_its_own_key() {
    let keys = TestKey::all();
    let set: Vec<Value> = keys.iter().map(|key| key.jwk(key.alg())).collect();
    let verifier = verifier_of(&set);
    for key in &keys {
        let token = key.sign(&json!({ "alg": key.alg(), "kid": key.alg() }), &ann());
        assert_eq!(verifier.verify(&token, now()).unwrap().sub, "ann", "{}", key.alg());
    }
}

#[test]
fn claims_are_read_whole() {
    let claims = json!({
        "sub": "ann", "exp": in_seconds(600), "email": "ann@example.com", "email_verified": true, "name": "Ann",
        "org_id": "o", "org_role": "admin", "scope": "openid profile", "act": { "sub": "portal", "act": { "sub": "deep" } },
    });
    let read = of_secret().verify(&TestKey::secret().sign_plain(&claims), now()).unwrap();
    let expected = Claims {
        sub: "ann".into(),
        email: Some("ann@example.com".into()),
        email_verified: Some(true),
        name: Some("Ann".into()),
        org_id: Some("o".into()),
        org_role: Some("admin".into()),
        scope: Some("openid profile".into()),
        act: Some(Actor { sub: "portal".into() }),
        exp: in_seconds(600),
    };
    assert_eq!(read, expected);
    assert!(!read.is_platform());
}

#[test]
fn platform_is_a_whole_word_of_the_scope() {
    for (scope, is_platform) in
        [("platform", true), ("a platform b", true), ("platforms", false), ("my-platform", false), ("", false)]
    {
        let claims = json!({ "sub": "billing", "exp": in_seconds(600), "scope": scope });
        let read = of_secret().verify(&TestKey::secret().sign_plain(&claims), now()).unwrap();
        assert_eq!(read.is_platform(), is_platform, "{scope:?}");
    }
}

#[test]
fn a_claim_of_the_wrong_type_is_refused() {
    for (claim, value, with) in [
        ("sub", json!(7), "its sub is not a string"),
        ("sub", json!(null), "its sub is not a string"),
        ("email", json!(["a@b.c"]), "its email is not"),
        ("email_verified", json!("false"), "its email_verified is not"),
        ("name", json!(1), "its name is not"),
        ("org_id", json!({}), "its org_id is not"),
        ("org_role", json!(["owner"]), "its org_role is not"),
        ("scope", json!(["platform"]), "its scope is not"),
        ("act", json!("portal"), "its act is not"),
        ("act", json!({}), "its act has no sub"),
    ] {
        let mut claims = ann();
        claims[claim] = value;
        refused(&of_secret(), &TestKey::secret().sign_plain(&claims), with);
    }
    refused(&of_secret(), &TestKey::secret().sign_plain(&json!({ "exp": in_seconds(9) })), "it has no claim sub");
}

#[test]
fn null_describes_nobody() {
    let mut claims = ann();
    for claim in ["email", "email_verified", "name", "org_id", "org_role", "scope", "act"] {
        claims[claim] = Value::Null;
    }
    let read = of_secret().verify(&TestKey::secret().sign_plain(&claims), now()).unwrap();
    assert_eq!((read.email, read.org_id, read.act), (None, None, None));
}

#[test]
fn the_issuer_is_checked_when_it_is_configured() {
    let settings = TokenSettings {
        secret: Some(SECRET.to_vec()),
        issuer: Some("https://id.example".into()),
        ..TokenSettings::default()
    };
    let verifier = TokenVerifier::new(&settings).unwrap();
    let from = |iss: Value| {
        let mut claims = ann();
        claims["iss"] = iss;
        TestKey::secret().sign_plain(&claims)
    };
    assert!(verifier.verify(&from(json!("https://id.example")), now()).is_ok());
    refused(&verifier, &from(json!("https://id.example.evil")), "its iss is not the issuer");
    refused(&verifier, &from(json!(["https://id.example"])), "its iss is not the issuer");
    refused(&verifier, &from(json!(null)), "its iss is not the issuer");
    refused(&verifier, &TestKey::secret().sign_plain(&ann()), "it has no claim iss");
    assert!(of_secret().verify(&from(json!("anybody")), now()).is_ok());
}

#[test]
fn the_audience_must_be_ours_and_named_by_both_or_by_neither() {
    let settings =
        TokenSettings { secret: Some(SECRET.to_vec()), audience: Some("tenantry".into()), ..TokenSettings::default() };
    let verifier = TokenVerifier::new(&settings).unwrap();
    let to = |aud: Value| {
        let mut claims = ann();
        claims["aud"] = aud;
        TestKey::secret().sign_plain(&claims)
    };
    assert!(verifier.verify(&to(json!("tenantry")), now()).is_ok());
    assert!(verifier.verify(&to(json!(["other", "tenantry"])), now()).is_ok());
    refused(&verifier, &to(json!("other")), "does not name");
    refused(&verifier, &to(json!([])), "does not name");
    refused(&verifier, &to(json!([1, "tenantry"])), "neither a string");
    refused(&verifier, &to(json!(null)), "neither a string");
    refused(&verifier, &TestKey::secret().sign_plain(&ann()), "it has no claim aud");
    refused(&of_secret(), &to(json!("tenantry")), "configured without an audience");
    refused(&of_secret(), &to(json!(null)), "configured without an audience");
}

#[test]
fn a_minted_token_verifies_until_its_end() {
    let claims = MintedClaims {
        sub: "ann".into(),
        email: Some("ann@example.com".into()),
        org_id: Some("o".into()),
        org_role: Some("owner".into()),
        act: Some("portal".into()),
        issuer: Some("dev".into()),
        audience: Some("tenantry".into()),
        ..MintedClaims::default()
    };
    let token = mint(SECRET, &claims, now(), TimeDelta::minutes(5)).unwrap();
    let settings = TokenSettings {
        secret: Some(SECRET.to_vec()),
        issuer: Some("dev".into()),
        audience: Some("tenantry".into()),
        ..TokenSettings::default()
    };
    let verifier = TokenVerifier::new(&settings).unwrap();
    let read = verifier.verify(&token, now()).unwrap();
    assert_eq!((read.sub.as_str(), read.org_role.as_deref()), ("ann", Some("owner")));
    assert_eq!(read.act, Some(Actor { sub: "portal".into() }));
    assert_eq!(verifier.verify(&token, now() + TimeDelta::minutes(6)), Err(TokenFault::Expired));
}

#[test]
fn nothing_is_minted_that_no_server_would_take() {
    let claims = MintedClaims::default();
    assert!(matches!(mint(b"short", &claims, now(), TimeDelta::minutes(5)), Err(MintError::SecretTooShort)));
    for lifetime in [TimeDelta::zero(), TimeDelta::seconds(-5), TimeDelta::milliseconds(10), TimeDelta::MAX] {
        assert!(matches!(mint(SECRET, &claims, now(), lifetime), Err(MintError::Lifetime)), "{lifetime}");
    }
}

#[test]
fn debug_prints_no_secret_and_no_address() {
    let settings = TokenSettings { secret: Some(SECRET.to_vec()), ..TokenSettings::default() };
    let claims = json!({ "sub": "ann", "exp": in_seconds(600), "email": "ann@example.com", "name": "Ann Lee" });
    let read = of_secret().verify(&TestKey::secret().sign_plain(&claims), now()).unwrap();
    let printed = format!("{settings:?} {:?} {read:?}", of_secret());
    for hidden in ["116, 104", "this-is", "ann@", "Ann Lee"] {
        assert!(!printed.contains(hidden), "{printed}");
    }
}
