//! Signed tokens: whom the server believes, and until when. That every forgery of every algorithm is noticed, the unit
//! tests of `auth::token` say; here it is that the server asks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tenantry::auth::token::source::Source;
use tenantry::auth::token::{MintedClaims, TokenSettings, mint};
use tenantry::pb;
use tonic::Code;

use super::services::actors;
use super::{creates_organization, gets_organization, is_known, with};
use crate::harness::person::{Person, answer};
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";
const ANOTHER_SECRET: &[u8] = b"a secret of somebody else, as long as that";
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

async fn world(backend: Backend) -> World {
    let tokens = TokenSettings {
        secret: Some(SECRET.to_vec()),
        issuer: Some("https://id.example.com".into()),
        audience: Some("tenantry".into()),
        ..TokenSettings::default()
    };
    World::with(backend, Setup { tokens: Some(tokens), trust_metadata: false, ..Setup::default() }).await
}

fn claims(sub: &str) -> MintedClaims {
    MintedClaims {
        sub: sub.into(),
        email: Some(format!("{sub}@example.com")),
        issuer: Some("https://id.example.com".into()),
        audience: Some("tenantry".into()),
        ..MintedClaims::default()
    }
}

fn service_claims(name: &str) -> MintedClaims {
    MintedClaims { email: None, scope: Some("openid platform".into()), ..claims(name) }
}

fn member_claims(sub: &str, organization_id: &str, role: &str) -> MintedClaims {
    MintedClaims { org_id: Some(organization_id.into()), org_role: Some(role.into()), ..claims(sub) }
}

/// Whoever sends this token.
fn bearer(world: &World, token: &str) -> Person {
    with(world.channel(), &[("authorization", &format!("Bearer {token}"))])
}

/// Whoever has these claims, signed by the issuer, for an hour.
fn holder(world: &World, claims: &MintedClaims) -> Person {
    let token = mint(SECRET, claims, world.clock.now(), TimeDelta::hours(1)).expect("a token");
    let organization_id = claims.org_id.clone().unwrap_or_default();
    Person { organization_id, ..bearer(world, &token) }
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token of whatever a test writes.
fn signed(header: &str, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(claims.to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", encode(signature))
}

/// Claims that hold, each of which a test can spoil.
fn sound(world: &World) -> Value {
    let now = world.clock.now().timestamp();
    json!({
        "sub": "ann", "email": "ann@example.com", "iss": "https://id.example.com", "aud": "tenantry",
        "iat": now, "exp": now + 3600,
    })
}

fn spoilt(world: &World, claim: &str, value: Value) -> Value {
    let mut claims = sound(world);
    claims[claim] = value;
    claims
}

async fn is_refused(caller: &Person, reason: &str, what: &str) {
    let refused = is_known(caller).await.expect_err(what);
    assert_eq!(refused.is(), (Code::Unauthenticated, reason), "{what}");
    assert_eq!(refused.metadata["key"], "authorization", "{what}");
}

database_tests! {
    async fn a_token_is_an_identity_with_all_that_it_says(backend: Backend) {
        let world = world(backend).await;
        let ann = creates_organization(&holder(&world, &claims("ann"))).await.expect("ann founds");
        let organization_id = ann.organization_id.as_str();
        let ann = holder(&world, &member_claims("ann", organization_id, "owner"));
        assert_eq!(ann.seats().await, "1 / 4 seats");
        let sent = ann.invites(&["bob@example.com"], "member").await;
        holder(&world, &claims("bob")).tries_to_accept(&sent[0].token).await.expect("the address is the token's");
        let bob = holder(&world, &member_claims("bob", organization_id, "member"));
        gets_organization(&bob, organization_id).await.expect("a member sees it");
        // A claim is only a claim, signed or not.
        let liar = holder(&world, &member_claims("bob", organization_id, "owner"));
        let refused = liar.tries_to_invite(&["cas@example.com"], "member").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_STALE"));
        let refused = gets_organization(&holder(&world, &claims("ann")), organization_id).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ORGANIZATION_REQUIRED"));
        world.end().await;
    }

    async fn a_token_ends_when_its_time_is_over(backend: Backend) {
        let world = world(backend).await;
        let ann = holder(&world, &claims("ann"));
        is_known(&ann).await.expect("fresh");
        // The clocks of two machines may differ by half a minute.
        world.pass(TimeDelta::seconds(3600 + 29));
        is_known(&ann).await.expect("in its last second");
        world.pass(TimeDelta::seconds(1));
        is_refused(&ann, "TOKEN_EXPIRED", "over").await;
        world.pass(TimeDelta::days(400));
        is_refused(&ann, "TOKEN_EXPIRED", "long over").await;
        is_known(&holder(&world, &claims("ann"))).await.expect("a new one");
        world.end().await;
    }

    async fn a_token_begins_when_its_time_has_come(backend: Backend) {
        let world = world(backend).await;
        let now = world.clock.now().timestamp();
        for claim in ["nbf", "iat"] {
            let early = bearer(&world, &signed(HS256, &spoilt(&world, claim, json!(now + 31)), SECRET));
            is_refused(&early, "TOKEN_EXPIRED", claim).await;
            let leeway = bearer(&world, &signed(HS256, &spoilt(&world, claim, json!(now + 30)), SECRET));
            is_known(&leeway).await.expect("within what clocks may differ");
        }
        let early = bearer(&world, &signed(HS256, &spoilt(&world, "nbf", json!(now + 31)), SECRET));
        world.pass(TimeDelta::seconds(1));
        is_known(&early).await.expect("its time has come");
        world.end().await;
    }

    async fn a_forged_token_is_refused(backend: Backend) {
        let world = world(backend).await;
        let sound = sound(&world);
        is_known(&bearer(&world, &signed(HS256, &sound, SECRET))).await.expect("a sound one");
        let token = signed(HS256, &sound, SECRET);
        let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        let other = encode(spoilt(&world, "sub", json!("bob")).to_string());
        let none = encode(r#"{"alg":"none"}"#);
        let mut flipped = URL_SAFE_NO_PAD.decode(signature).expect("a signature");
        flipped[0] ^= 1;
        for (what, forged) in [
            ("of another secret", signed(HS256, &sound, ANOTHER_SECRET)),
            ("with another's claims", format!("{header}.{other}.{signature}")),
            ("with a bit turned", format!("{header}.{payload}.{}", encode(&flipped))),
            ("without signature", format!("{header}.{payload}.")),
            ("of two parts", format!("{header}.{payload}")),
            ("of four parts", format!("{token}.{signature}")),
            ("of alg none", format!("{none}.{payload}.")),
            ("of alg none, signed", format!("{none}.{payload}.{signature}")),
            ("of alg NONE", signed(r#"{"alg":"NONE"}"#, &sound, SECRET)),
            ("without alg", signed(r#"{"typ":"JWT"}"#, &sound, SECRET)),
            ("of alg HS384", signed(r#"{"alg":"HS384"}"#, &sound, SECRET)),
            ("of alg RS256", signed(r#"{"alg":"RS256"}"#, &sound, SECRET)),
            ("of alg EdDSA", signed(r#"{"alg":"EdDSA"}"#, &sound, SECRET)),
            ("with a critical extension", signed(r#"{"alg":"HS256","crit":["exp"]}"#, &sound, SECRET)),
            ("that is no token", "garbage".into()),
            ("that is dots", "..".into()),
            ("that is not base64", "!!!.???.***".into()),
            ("that is no JSON", format!("{}.{}.{}", encode("{"), encode("{"), signature)),
        ] {
            is_refused(&bearer(&world, &forged), "TOKEN_INVALID", what).await;
        }
        is_refused_as_malformed(&bearer(&world, &"x".repeat(8 * 1024 + 1))).await;
        world.end().await;
    }

    async fn a_token_for_somebody_else_is_refused(backend: Backend) {
        let world = world(backend).await;
        let refused = [
            ("aud", json!("another-service"), "for another service"),
            ("aud", json!(["one", "two"]), "for two others"),
            ("aud", json!([]), "for nobody"),
            ("aud", Value::Null, "for null"),
            ("aud", json!(7), "for a number"),
            ("aud", json!("TENANTRY"), "for another spelling"),
            ("iss", json!("https://evil.example.com"), "of another issuer"),
            ("iss", Value::Null, "of no issuer"),
            ("sub", Value::Null, "about nobody"),
            ("sub", json!(""), "about the empty name"),
            ("sub", json!(7), "about a number"),
            ("exp", Value::Null, "without end"),
            ("exp", json!("tomorrow"), "with a word for an end"),
            ("org_id", json!("0198c1d2-7b7e-7cc3-98c4-dc0c0c07398f"), "of an organization without role"),
            ("org_role", json!("owner"), "of a role without organization"),
            ("email", json!("ann"), "with an address that is none"),
            ("scope", json!(["platform"]), "with a list for a scope"),
        ];
        for (claim, value, what) in refused {
            let token = signed(HS256, &spoilt(&world, claim, value), SECRET);
            is_refused(&bearer(&world, &token), "TOKEN_INVALID", what).await;
        }
        for claim in ["aud", "iss", "sub", "exp"] {
            let mut claims = sound(&world);
            claims.as_object_mut().expect("an object").remove(claim);
            is_refused(&bearer(&world, &signed(HS256, &claims, SECRET)), "TOKEN_INVALID", claim).await;
        }
        let both = spoilt(&world, "aud", json!(["another-service", "tenantry"]));
        is_known(&bearer(&world, &signed(HS256, &both, SECRET))).await.expect("one for us among others");
        world.end().await;
    }

    async fn an_address_that_is_not_verified_is_none(backend: Backend) {
        let world = world(backend).await;
        let unverified = spoilt(&world, "email_verified", json!(false));
        let refused = creates_organization(&bearer(&world, &signed(HS256, &unverified, SECRET))).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        let verified = spoilt(&world, "email_verified", json!(true));
        creates_organization(&bearer(&world, &signed(HS256, &verified, SECRET))).await.expect("verified");
        world.end().await;
    }

    async fn a_token_of_the_platform_is_a_services(backend: Backend) {
        let world = world(backend).await;
        let ann = creates_organization(&holder(&world, &claims("ann"))).await.expect("ann founds");
        let organization_id = ann.organization_id.as_str();
        let backend = holder(&world, &service_claims("backend"));
        gets_organization(&backend, organization_id).await.expect("it reads everything");
        let refused = creates_organization(&backend).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "USER_REQUIRED"));
        let request = pb::RecordSignInRequest {
            organization_id: organization_id.into(),
            user_id: "ann".into(),
            ..Default::default()
        };
        answer(backend.members().record_sign_in(request.clone()).await).expect("it records");
        // A scope that only looks like it.
        for scope in ["platforms", "Platform", "platform.read", "not-platform", ""] {
            let user = holder(&world, &MintedClaims { scope: Some(scope.into()), ..claims("ann") });
            let refused = answer(user.members().record_sign_in(request.clone()).await).unwrap_err();
            assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"), "{scope:?}");
        }
        // Half a service and half a user would have the rights of the one and the name of the other.
        let member = member_claims("ann", organization_id, "owner");
        let half = holder(&world, &MintedClaims { scope: Some("platform".into()), ..member });
        is_refused(&half, "TOKEN_INVALID", "a service in an organization").await;
        let half = holder(&world, &MintedClaims { act: Some("backend".into()), ..service_claims("ann") });
        is_refused(&half, "TOKEN_INVALID", "a service for a service").await;
        is_refused(&holder(&world, &service_claims("Back End")), "TOKEN_INVALID", "no name for a service").await;
        world.end().await;
    }

    async fn a_token_of_a_service_that_acts_for_a_user_names_both(backend: Backend) {
        let world = world(backend).await;
        let ann = creates_organization(&holder(&world, &claims("ann"))).await.expect("ann founds");
        let organization_id = ann.organization_id.as_str();
        let acting = MintedClaims { org_id: Some(organization_id.into()), act: Some("backend".into()), ..claims("ann") };
        holder(&world, &acting).invites(&["bob@example.com"], "member").await;
        let last = actors(&world, organization_id).await.pop().expect("an event");
        assert_eq!(last, ("invitation.created".to_owned(), Some("ann".to_owned()), Some("backend".to_owned())));
        world.end().await;
    }

    async fn a_server_without_keys_accepts_no_token(backend: Backend) {
        let world = World::new(backend).await;
        is_refused(&holder(&world, &claims("ann")), "TOKEN_INVALID", "no keys").await;
        world.end().await;
    }

    async fn a_public_key_verifies_and_does_not_sign(backend: Backend) {
        let directory = tempfile::TempDir::new().expect("a directory for the keys");
        let path = directory.path().join("jwks.json");
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let public = pair.public_key().as_ref().to_vec();
        let jwks = json!({ "keys": [{ "kid": "one", "kty": "OKP", "crv": "Ed25519", "x": encode(&public) }] });
        std::fs::write(&path, jwks.to_string()).expect("the keys can be written");
        let jwks = Some(Source::File(path.clone()));
        let tokens = Some(TokenSettings { jwks, audience: Some("tenantry".into()), ..TokenSettings::default() });
        let world = World::with(backend, Setup { tokens, trust_metadata: false, ..Setup::default() }).await;
        let by_pair = |pair: &Ed25519KeyPair, kid: &str| {
            let header = json!({ "alg": "EdDSA", "kid": kid }).to_string();
            let message = format!("{}.{}", encode(header), encode(sound(&world).to_string()));
            format!("{message}.{}", encode(pair.sign(message.as_bytes())))
        };
        is_known(&bearer(&world, &by_pair(&pair, "one"))).await.expect("signed by the pair");
        let another = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).expect("a key");
        for (what, forged) in [
            ("of another pair", by_pair(&another, "one")),
            ("of a key that is not known", by_pair(&pair, "two")),
            ("by the public key as a secret", signed(r#"{"alg":"HS256","kid":"one"}"#, &sound(&world), &public)),
            ("by its text as a secret", signed(r#"{"alg":"HS256"}"#, &sound(&world), encode(&public).as_bytes())),
            ("by the public key, said to be EdDSA", signed(r#"{"alg":"EdDSA","kid":"one"}"#, &sound(&world), &public)),
        ] {
            is_refused(&bearer(&world, &forged), "TOKEN_INVALID", what).await;
        }
        world.end().await;
    }
}

async fn is_refused_as_malformed(caller: &Person) {
    let refused = is_known(caller).await.expect_err("too long");
    assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_MALFORMED"));
}
