//! Identity headers: what is believed, what is not, and that two of them are none.

use tenantry::auth::token::TokenSettings;
use tenantry::pb;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use super::{creates_organization, gets_organization, is_known, with};
use crate::harness::person::{Identity, answer};
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

const KEYS: [&str; 5] = ["x-user-id", "x-user-email", "x-org-id", "x-org-role", "x-service"];
const ORG: &str = "0198c1d2-7b7e-7cc3-98c4-dc0c0c07398f";

database_tests! {
    async fn a_key_that_comes_twice_is_refused(backend: Backend) {
        let world = World::new(backend).await;
        let whole = [
            ("x-user-id", "ann"),
            ("x-user-email", "ann@example.com"),
            ("x-org-id", ORG),
            ("x-org-role", "owner"),
            ("x-service", "backend"),
        ];
        is_known(&with(world.channel(), &whole)).await.expect("each key once");
        for (key, value) in whole {
            // Also the same value twice, and two joined by a comma as a proxy may do it.
            for second in [value, "another"] {
                let mut keys = whole.to_vec();
                keys.push((key, second));
                let refused = is_known(&with(world.channel(), &keys)).await.unwrap_err();
                assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_AMBIGUOUS"), "{key} twice");
                assert_eq!(refused.metadata["key"], key);
            }
            let joined = format!("{value},another");
            let keys = whole.map(|(name, value)| if name == key { (name, joined.as_str()) } else { (name, value) });
            let refused = is_known(&with(world.channel(), &keys)).await.unwrap_err();
            assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_AMBIGUOUS"), "{key} joined");
        }
        world.end().await;
    }

    async fn a_token_beside_a_header_is_two_identities(backend: Backend) {
        let secret = Some(b"a secret of at least 32 bytes, for tests".to_vec());
        let tokens = Some(TokenSettings { secret, ..TokenSettings::default() });
        let world = World::with(backend, Setup { tokens, ..Setup::default() }).await;
        for (key, value) in KEYS.into_iter().zip(["ann", "ann@example.com", ORG, "owner", "backend"]) {
            let refused = is_known(&with(world.channel(), &[("authorization", "Bearer x"), (key, value)])).await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_AMBIGUOUS"), "{key}");
        }
        let twice = with(world.channel(), &[("authorization", "Bearer x"), ("authorization", "Bearer x")]);
        assert_eq!(is_known(&twice).await.unwrap_err().is(), (Code::Unauthenticated, "IDENTITY_AMBIGUOUS"));
        world.end().await;
    }

    async fn an_identity_that_is_none_is_refused(backend: Backend) {
        let world = World::new(backend).await;
        let long = "u".repeat(129);
        let long_email = format!("{}@example.com", "a".repeat(250));
        let user = ("x-user-id", "ann");
        for (keys, wrong) in [
            (vec![("x-user-id", "")], "x-user-id"),
            (vec![("x-user-id", long.as_str())], "x-user-id"),
            (vec![user, ("x-user-email", "ann")], "x-user-email"),
            (vec![user, ("x-user-email", "@example.com")], "x-user-email"),
            (vec![user, ("x-user-email", long_email.as_str())], "x-user-email"),
            (vec![user, ("x-org-id", ORG)], "x-org-id"),
            (vec![user, ("x-org-role", "owner")], "x-org-role"),
            (vec![user, ("x-org-id", "acme"), ("x-org-role", "owner")], "x-org-id"),
            (vec![user, ("x-org-id", "0198c1d27b7e7cc398c4dc0c0c07398f"), ("x-org-role", "owner")], "x-org-id"),
            (vec![user, ("x-org-id", ORG), ("x-org-role", "two words")], "x-org-role"),
            (vec![user, ("x-org-id", ORG), ("x-org-role", "")], "x-org-role"),
            (vec![user, ("x-service", "Backend!")], "x-service"),
            (vec![("x-service", "")], "x-service"),
            (vec![("x-user-email", "ann@example.com")], "x-user-email"),
            (vec![("x-org-id", ORG), ("x-org-role", "owner")], "x-org-id"),
            (vec![("x-service", "backend"), ("x-user-email", "ann@example.com")], "x-user-email"),
            (vec![("x-service", "backend"), ("x-org-id", ORG), ("x-org-role", "owner")], "x-org-id"),
        ] {
            let refused = is_known(&with(world.channel(), &keys)).await.unwrap_err();
            assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_MALFORMED"), "{keys:?}");
            assert_eq!(refused.metadata["key"], wrong, "{keys:?}");
        }
        is_known(&with(world.channel(), &[("x-user-id", &long[1..])])).await.expect("128 bytes are a user id");
        for authorization in ["Bearer", "Bearer ", "Basic YW5uOmFubg==", "token", "Bearer two tokens", ""] {
            let refused = is_known(&with(world.channel(), &[("authorization", authorization)])).await.unwrap_err();
            assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_MALFORMED"), "{authorization:?}");
            assert_eq!(refused.metadata["key"], "authorization");
        }
        world.end().await;
    }

    async fn a_binary_key_is_refused_and_not_overlooked(backend: Backend) {
        let world = World::new(backend).await;
        for key in ["x-user-id-bin", "x-user-email-bin", "x-org-id-bin", "x-org-role-bin", "x-service-bin", "authorization-bin"]
        {
            let mut request = Request::new(pb::ListPlansRequest {});
            request.metadata_mut().insert_bin(key, MetadataValue::from_bytes(b"ann"));
            let refused = answer(world.person("bob").billing().list_plans(request).await).unwrap_err();
            assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_MALFORMED"), "{key}");
            assert_eq!(refused.metadata["key"], key);
        }
        world.end().await;
    }

    async fn headers_that_are_not_trusted_are_not_believed(backend: Backend) {
        let secret = Some(b"a secret of at least 32 bytes, for tests".to_vec());
        let tokens = Some(TokenSettings { secret, ..TokenSettings::default() });
        let world = World::with(backend, Setup { trust_metadata: false, tokens, ..Setup::default() }).await;
        let refused = creates_organization(&world.person("ann")).await.unwrap_err();
        assert_eq!(refused.is(), (Code::Unauthenticated, "METADATA_NOT_TRUSTED"));
        assert_eq!(refused.metadata["key"], "x-user-id");
        // Not even one that by itself would say nothing.
        for (key, value) in KEYS.into_iter().zip(["ann", "ann@example.com", ORG, "owner", "backend"]) {
            let refused = is_known(&with(world.channel(), &[(key, value)])).await.unwrap_err();
            assert_eq!(refused.is(), (Code::Unauthenticated, "METADATA_NOT_TRUSTED"), "{key}");
            assert_eq!(refused.metadata["key"], key);
        }
        let refused = is_known(&with(world.channel(), &[])).await.unwrap_err();
        assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_MISSING"));
        assert_eq!(world.number("SELECT count(*) FROM organization").await, 0);
        world.end().await;
    }

    async fn keys_that_mean_nothing_here_change_nothing(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut noisy = ann.clone();
        let more = [("x-user", "bob"), ("user-id", "bob"), ("x-org-roles", "member"), ("cookie", "x-user-id=bob")];
        noisy.identity = Identity(ann.identity.0.into_iter().chain(more.map(|(key, value)| (key, value.into()))).collect());
        gets_organization(&noisy, &ann.organization_id).await.expect("ann is ann");
        // The organization's id has one meaning in either case of its letters.
        let mut shouting = noisy.clone();
        for (key, value) in &mut shouting.identity.0 {
            if *key == "x-org-id" {
                value.make_ascii_uppercase();
            }
        }
        gets_organization(&shouting, &ann.organization_id).await.expect("the same organization");
        world.end().await;
    }

    async fn whoever_has_no_address_founds_and_joins_nothing(backend: Backend) {
        let world = World::new(backend).await;
        let nameless = with(world.channel(), &[("x-user-id", "ann")]);
        is_known(&nameless).await.expect("a user");
        let refused = creates_organization(&nameless).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        let request = pb::EnsureDefaultOrganizationRequest::default();
        let refused = answer(nameless.organizations().ensure_default_organization(request).await).unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        let request = pb::ListReceivedInvitationsRequest::default();
        let refused = answer(nameless.members().list_received_invitations(request).await).unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        let bob = world.person("bob").founds("Acme").await;
        let sent = bob.invites(&["ann@example.com"], "member").await;
        let refused = nameless.tries_to_accept(&sent[0].token).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        world.end().await;
    }
}
