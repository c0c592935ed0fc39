//! Every rule about the metadata, one by one.

use http::HeaderName;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::auth::token::{
    TokenSettings,
    tests::{
        in_seconds, now,
        signing::{SECRET, TestKey},
    },
};

const ORG: &str = "0198c1d2-7b7e-7cc3-98c4-dc0c0c07398f";

fn reader(tokens: bool, trust_metadata: bool) -> CallerReader {
    let settings = TokenSettings { secret: Some(SECRET.to_vec()), ..TokenSettings::default() };
    let headers = if trust_metadata { HeaderTrust::Believed } else { HeaderTrust::Refused };
    CallerReader { verifier: tokens.then(|| Arc::new(TokenVerifier::new(&settings).unwrap())), headers }
}

fn read_with(reader: &CallerReader, headers: &[(&str, &[u8])]) -> Result<Caller, IdentityFault> {
    let mut map = HeaderMap::new();
    for (key, value) in headers {
        map.append(HeaderName::from_bytes(key.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    reader.read(&map, None, now()).map(|(caller, _)| caller)
}

fn read(headers: &[(&str, &str)]) -> Result<Caller, IdentityFault> {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
    read_with(&reader(true, true), &headers)
}

fn read_token(claims: &Value) -> Result<Caller, IdentityFault> {
    let mut claims = claims.clone();
    claims["exp"] = json!(in_seconds(600));
    read(&[(AUTHORIZATION, &format!("Bearer {}", TestKey::secret().sign_plain(&claims)))])
}

fn refused(result: Result<Caller, IdentityFault>, reason: ErrorReason, key: Option<&str>) -> String {
    let fault = result.unwrap_err();
    assert_eq!((fault.reason, fault.key.as_deref()), (reason, key), "{fault}");
    fault.message
}

fn malformed(headers: &[(&str, &str)], key: &str) {
    let message = refused(read(headers), ErrorReason::IdentityMalformed, Some(key));
    assert!(message.contains(&format!("`{key}`")), "{message}");
}

fn user(id: &str) -> UserCaller {
    UserCaller { user_id: UserId::parse(id).unwrap(), email: None, via: None, organization: None }
}

fn organization(role: Option<&str>) -> OrganizationClaim {
    OrganizationClaim { id: Uuid::try_parse(ORG).unwrap(), role: role.map(str::to_owned) }
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).unwrap()
}

#[test]
fn trusted_headers_make_a_user() {
    assert_eq!(read(&[(USER_ID, "ann")]), Ok(Caller::User(user("ann"))));
    let whole = [(USER_ID, "ann"), (USER_EMAIL, "ann@example.com"), (ORG_ID, ORG), (ORG_ROLE, "admin")];
    let email = Some("ann@example.com".to_owned());
    let expected = UserCaller { email, organization: Some(organization(Some("admin"))), ..user("ann") };
    assert_eq!(read(&whole), Ok(Caller::User(expected)));
    assert_eq!(read(&[("te", "trailers"), ("x-other", "a,b"), (USER_ID, "ann")]), Ok(Caller::User(user("ann"))));
}

#[test]
fn a_service_calls_alone_or_for_a_user() {
    assert_eq!(read(&[(SERVICE, "billing")]), Ok(Caller::Service(service("billing"))));
    let via = Some(service("portal"));
    let expected = UserCaller { via: via.clone(), ..user("ann") };
    assert_eq!(read(&[(SERVICE, "portal"), (USER_ID, "ann")]), Ok(Caller::User(expected)));
    let expected = UserCaller { via: via.clone(), organization: Some(organization(None)), ..user("ann") };
    assert_eq!(read(&[(SERVICE, "portal"), (USER_ID, "ann"), (ORG_ID, ORG)]), Ok(Caller::User(expected)));
    let expected = UserCaller { via, organization: Some(organization(Some("owner"))), ..user("ann") };
    let whole = [(SERVICE, "portal"), (USER_ID, "ann"), (ORG_ID, ORG), (ORG_ROLE, "owner")];
    assert_eq!(read(&whole), Ok(Caller::User(expected)));
}

#[test]
fn no_identity_is_refused_with_the_ways_to_send_one() {
    for (tokens, trust, way) in [(true, false, "Bearer"), (false, true, "`x-user-id`"), (true, true, "Bearer")] {
        let result = read_with(&reader(tokens, trust), &[("te", b"trailers")]);
        assert!(refused(result, ErrorReason::IdentityMissing, None).contains(way));
    }
}

#[test]
fn a_key_twice_is_ambiguous() {
    for key in [AUTHORIZATION, USER_ID, USER_EMAIL, ORG_ID, ORG_ROLE, SERVICE] {
        for twice in [&[(key, "a"), (key, "a")] as &[(&str, &str)], &[(key, "a,b")], &[(key, "a, a")]] {
            refused(read(twice), ErrorReason::IdentityAmbiguous, Some(key));
        }
        let upper = key.to_uppercase();
        refused(read(&[(key, "a"), (&upper, "b")]), ErrorReason::IdentityAmbiguous, Some(key));
    }
}

#[test]
fn a_token_beside_a_header_is_ambiguous() {
    let token = format!("Bearer {}", TestKey::secret().sign_plain(&json!({ "sub": "ann", "exp": in_seconds(600) })));
    for key in [USER_ID, USER_EMAIL, ORG_ID, ORG_ROLE, SERVICE] {
        for trust in [true, false] {
            let result = read_with(&reader(true, trust), &[(AUTHORIZATION, token.as_bytes()), (key, b"x")]);
            refused(result, ErrorReason::IdentityAmbiguous, Some(AUTHORIZATION));
        }
    }
}

#[test]
fn headers_are_not_believed_unless_trusted() {
    for key in [USER_ID, USER_EMAIL, ORG_ID, ORG_ROLE, SERVICE] {
        let result = read_with(&reader(true, false), &[(key, b"x")]);
        assert!(refused(result, ErrorReason::MetadataNotTrusted, Some(key)).contains("Bearer"));
    }
}

#[test]
fn a_token_needs_a_verifier() {
    let result = read_with(&reader(false, true), &[(AUTHORIZATION, b"Bearer a.b.c")]);
    assert!(refused(result, ErrorReason::TokenInvalid, Some(AUTHORIZATION)).contains("accepts no tokens"));
}

#[test]
fn values_that_cannot_be_read_are_malformed() {
    let long = |length: usize| "a".repeat(length);
    for (key, values) in [
        (USER_ID, vec![String::new(), long(129), "a\tb".into(), " a".into()]),
        (SERVICE, vec![String::new(), long(65), "Portal".into(), "a b".into()]),
        (
            USER_EMAIL,
            vec![String::new(), "a".into(), "@b".into(), "a@".into(), "a b@c".into(), format!("{}@b", long(253))],
        ),
        (ORG_ROLE, vec![String::new(), long(65), "a b".into()]),
        (
            ORG_ID,
            vec![String::new(), "1".into(), ORG.replace('-', ""), format!("{{{ORG}}}"), format!("urn:uuid:{ORG}")],
        ),
    ] {
        for value in &values {
            let mut headers = vec![(USER_ID, "ann"), (ORG_ID, ORG), (ORG_ROLE, "admin")];
            headers.retain(|(other, _)| *other != key);
            headers.push((key, value));
            malformed(&headers, key);
        }
    }
}

#[test]
fn values_that_are_not_ascii_are_malformed() {
    for key in [AUTHORIZATION, USER_ID, USER_EMAIL, ORG_ID, ORG_ROLE, SERVICE] {
        for value in ["Bearer \u{e9}@b.c".as_bytes(), b"Bearer \xff@b.c"] {
            let mut headers: Vec<(&str, &[u8])> = vec![(key, value)];
            if ![AUTHORIZATION, USER_ID, SERVICE].contains(&key) {
                headers.push((USER_ID, b"ann"));
            }
            if key == ORG_ROLE {
                headers.push((ORG_ID, ORG.as_bytes()));
            }
            refused(read_with(&reader(true, true), &headers), ErrorReason::IdentityMalformed, Some(key));
        }
    }
}

#[test]
fn organization_and_role_come_together() {
    malformed(&[(USER_ID, "ann"), (ORG_ID, ORG)], ORG_ID);
    malformed(&[(USER_ID, "ann"), (ORG_ROLE, "owner")], ORG_ROLE);
    malformed(&[(USER_ID, "ann"), (ORG_ROLE, "owner"), (SERVICE, "portal")], ORG_ROLE);
}

#[test]
fn what_describes_a_user_needs_the_user() {
    for (key, value) in [(USER_EMAIL, "a@b.c"), (ORG_ID, ORG), (ORG_ROLE, "owner")] {
        malformed(&[(key, value)], key);
        malformed(&[(key, value), (SERVICE, "portal")], key);
    }
}

#[test]
fn binary_keys_are_refused_and_not_passed_over() {
    for key in [AUTHORIZATION, USER_ID, USER_EMAIL, ORG_ID, ORG_ROLE, SERVICE] {
        let binary = format!("{key}-bin");
        malformed(&[(&binary, "YW5u")], &binary);
        malformed(&[(USER_ID, "ann"), (&binary, "YW5u")], &binary);
    }
}

#[test]
fn the_scheme_is_bearer_in_any_case() {
    let token = TestKey::secret().sign_plain(&json!({ "sub": "ann", "exp": in_seconds(600) }));
    for scheme in ["Bearer ", "bearer ", "BEARER  "] {
        assert_eq!(read(&[(AUTHORIZATION, &format!("{scheme}{token}"))]), Ok(Caller::User(user("ann"))));
    }
    let two = format!("Bearer {token} {token}");
    let oversized = format!("Bearer {}", "a".repeat(8193));
    for value in ["", "Bearer", "Bearer ", "Basic YTpi", &token, &two, &oversized, " Bearer x", "Bearer\tx"] {
        malformed(&[(AUTHORIZATION, value)], AUTHORIZATION);
    }
}

#[test]
fn a_token_makes_a_user() {
    assert_eq!(read_token(&json!({ "sub": "ann" })), Ok(Caller::User(user("ann"))));
    let whole =
        json!({ "sub": "ann", "email": "ann@example.com", "org_id": ORG, "org_role": "admin", "scope": "openid" });
    let email = Some("ann@example.com".to_owned());
    let expected = UserCaller { email, organization: Some(organization(Some("admin"))), ..user("ann") };
    assert_eq!(read_token(&whole), Ok(Caller::User(expected)));
}

#[test]
fn an_address_counts_unless_it_is_said_to_be_unverified() {
    for (verified, counts) in [(json!(true), true), (json!(null), true), (json!(false), false)] {
        let caller = read_token(&json!({ "sub": "ann", "email": "ann@example.com", "email_verified": verified }));
        let email = counts.then(|| "ann@example.com".to_owned());
        assert_eq!(caller, Ok(Caller::User(UserCaller { email, ..user("ann") })), "{verified}");
    }
}

#[test]
fn a_token_names_the_service_that_acts_for_the_user() {
    let via = Some(service("portal"));
    let act = json!({ "sub": "portal" });
    let expected = UserCaller { via: via.clone(), ..user("ann") };
    assert_eq!(read_token(&json!({ "sub": "ann", "act": act })), Ok(Caller::User(expected)));
    let expected = UserCaller { via, organization: Some(organization(None)), ..user("ann") };
    assert_eq!(read_token(&json!({ "sub": "ann", "act": act, "org_id": ORG })), Ok(Caller::User(expected)));
}

#[test]
fn a_token_with_the_platform_scope_is_a_service() {
    let caller = read_token(&json!({ "sub": "billing", "scope": "read platform" }));
    assert_eq!(caller, Ok(Caller::Service(service("billing"))));
    for (claim, value) in [("org_id", json!(ORG)), ("org_role", json!("owner")), ("act", json!({ "sub": "x" }))] {
        let mut claims = json!({ "sub": "billing", "scope": "platform" });
        claims[claim] = value;
        let message = refused(read_token(&claims), ErrorReason::TokenInvalid, Some(AUTHORIZATION));
        assert!(message.contains(claim), "{message}");
    }
    let named_like_a_user = json!({ "sub": "auth0|ann", "scope": "platform" });
    refused(read_token(&named_like_a_user), ErrorReason::TokenInvalid, Some(AUTHORIZATION));
}

#[test]
fn claims_that_make_no_caller_are_refused() {
    for (claims, what) in [
        (json!({}), "no claim sub"),
        (json!({ "sub": "" }), "its sub is empty"),
        (json!({ "sub": "a\nb" }), "its sub has a control character"),
        (json!({ "sub": "ann", "org_id": ORG }), "org_id without org_role"),
        (json!({ "sub": "ann", "org_role": "owner" }), "org_role without org_id"),
        (json!({ "sub": "ann", "org_role": "owner", "act": { "sub": "portal" } }), "org_role without org_id"),
        (json!({ "sub": "ann", "org_id": "acme", "org_role": "owner" }), "its org_id is not a UUID"),
        (json!({ "sub": "ann", "org_id": ORG, "org_role": "" }), "its org_role is not a role"),
        (json!({ "sub": "ann", "email": "ann" }), "its email is not"),
        (json!({ "sub": "ann", "act": { "sub": "Portal" } }), "the sub of its act may have only"),
    ] {
        let message = refused(read_token(&claims), ErrorReason::TokenInvalid, Some(AUTHORIZATION));
        assert!(message.contains(what), "{message:?} does not say {what:?}");
    }
}

#[test]
fn a_token_out_of_its_time_says_so() {
    for (claims, what) in [
        (json!({ "sub": "ann", "exp": in_seconds(-600) }), "has expired"),
        (json!({ "sub": "ann", "exp": in_seconds(600), "nbf": in_seconds(300) }), "not valid yet"),
    ] {
        let result = read(&[(AUTHORIZATION, &format!("Bearer {}", TestKey::secret().sign_plain(&claims)))]);
        let message = refused(result, ErrorReason::TokenExpired, Some(AUTHORIZATION));
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn neither_faults_nor_debug_quote_what_was_sent() {
    let token = TestKey::Secret(vec![1; 32]).sign_plain(&json!({ "sub": "ann", "exp": in_seconds(600) }));
    let fault = read(&[(AUTHORIZATION, &format!("Bearer {token}"))]).unwrap_err();
    assert!(!format!("{fault:?} {fault}").contains(&token[..10]));
    let caller = read(&[(USER_ID, "ann"), (USER_EMAIL, "ann@example.com")]).unwrap();
    assert!(!format!("{caller:?} {:?}", reader(true, true)).contains("example.com"));
}

fn any_key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![AUTHORIZATION, USER_ID, USER_EMAIL, ORG_ID, ORG_ROLE, SERVICE, "x-user-id-bin", "te"])
        .prop_map(str::to_owned)
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let token = "(ey)?[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_=-]{0,40}){0,4}".prop_map(|text| format!("Bearer {text}"));
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        token.prop_map(String::into_bytes),
        "[a-z0-9@. -]{0,140}".prop_map(String::into_bytes),
        Just(ORG.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn no_metadata_make_the_reader_panic(
        headers in prop::collection::vec((any_key(), any_value()), 0..6),
        tokens: bool,
        trust: bool,
    ) {
        let mut map = HeaderMap::new();
        for (key, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                map.append(HeaderName::from_bytes(key.as_bytes()).unwrap(), value);
            }
        }
        let result = reader(tokens, trust).read(&map, None, now());
        // Nobody can sign here, so an accepted caller came from headers that are trusted.
        prop_assert!(result.is_err() || trust);
    }

    #[test]
    fn no_signed_bytes_make_the_reader_panic(header in ".{0,60}", claims in any::<String>()) {
        let plain = TestKey::secret().sign_text(r#"{"alg":"HS256"}"#, &claims);
        let wild = TestKey::secret().sign_text(&header, &claims);
        for token in [plain, wild] {
            let bearer = format!("Bearer {token}");
            prop_assert!(read(&[(AUTHORIZATION, &bearer)]).is_err());
        }
    }
}
