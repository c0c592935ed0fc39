//! What an organization chooses for its product, and what Tenantry enforces of it: the domains of e-mail addresses.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::pb;
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::race::{Deed, at_once, spread};
use crate::harness::refused::Refused;
use crate::harness::replay::replay;
use crate::harness::tenant::id_of;
use crate::harness::world::{Setup, World, roomy};
use crate::harness::{Backend, database_tests};

impl Person {
    async fn chosen(&self) -> pb::OrganizationSettings {
        self.settings().await.expect("the settings")
    }

    /// Changes the fields of a mask, or is refused.
    async fn tries_to_choose(
        &self,
        mask: &[&str],
        settings: pb::OrganizationSettings,
    ) -> Result<pb::OrganizationSettings, Refused> {
        let answered = self.organizations().update_organization_settings(self.choice(mask, settings)).await;
        Ok(answer(answered)?.settings.expect("settings"))
    }

    async fn chooses(&self, mask: &[&str], settings: pb::OrganizationSettings) -> pb::OrganizationSettings {
        self.tries_to_choose(mask, settings).await.expect("chosen")
    }

    fn choice(&self, mask: &[&str], settings: pb::OrganizationSettings) -> pb::UpdateOrganizationSettingsRequest {
        pb::UpdateOrganizationSettingsRequest {
            organization_id: self.organization_id.clone(),
            etag: settings.etag.clone(),
            settings: Some(settings),
            update_mask: Some(prost_types::FieldMask { paths: mask.iter().map(|path| (*path).to_owned()).collect() }),
            ..Default::default()
        }
    }

    /// Says from which domains new members may be.
    async fn restricts_to(&self, domains: &[&str]) -> pb::OrganizationSettings {
        self.chooses(&["security.allowed_email_domains"], domains_of(domains)).await
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn branding(logo_uri: &str, primary_color: &str, accent_color: &str) -> pb::OrganizationSettings {
    let branding = pb::Branding {
        logo_uri: logo_uri.into(),
        primary_color: primary_color.into(),
        accent_color: accent_color.into(),
        ..Default::default()
    };
    pb::OrganizationSettings { branding: Some(branding), ..Default::default() }
}

fn security(security: pb::SecuritySettings) -> pb::OrganizationSettings {
    pb::OrganizationSettings { security: Some(security), ..Default::default() }
}

fn ai(ai: pb::AiSettings) -> pb::OrganizationSettings {
    pb::OrganizationSettings { ai: Some(ai), ..Default::default() }
}

fn domains_of(domains: &[&str]) -> pb::OrganizationSettings {
    security(pb::SecuritySettings { allowed_email_domains: strings(domains), ..Default::default() })
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// Name and payload of the events of an organization after a number.
async fn told(world: &World, organization_id: &str, after: usize) -> Vec<(String, Value)> {
    use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
    use tenantry::entity::event;
    let database = world.database().await;
    let id = uuid::Uuid::parse_str(organization_id).expect("an organization's id");
    let rows = event::Entity::find()
        .filter(event::Column::OrganizationId.eq(id))
        .order_by_asc(event::Column::Number)
        .all(&database)
        .await
        .expect("the log");
    database.close().await.expect("a connection can be closed");
    rows.into_iter().skip(after).map(|row| (row.r#type, row.payload)).collect()
}

fn changed(field: &str, before: &str, after: &str) -> Value {
    json!({ "field": field, "before": before, "after": after })
}

database_tests! {
    async fn the_look_of_an_organization_is_chosen_and_its_logo_is_one(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let before = ann.chosen().await;
        assert_eq!((before.etag.as_str(), before.update_time), ("v0", None));
        assert_eq!(before.organization_id, ann.organization_id);
        assert_eq!(before.branding, Some(pb::Branding::default()));
        assert_eq!(before.security, Some(pb::SecuritySettings::default()));
        assert_eq!((before.ai, before.setup), (Some(pb::AiSettings::default()), Some(pb::SetupSettings::default())));

        world.pass(TimeDelta::hours(1));
        let events = world.events(&ann.organization_id).await.len();
        let logo = "https://acme.example/logo.svg";
        let chosen = ann.chooses(&["branding"], branding(logo, "#1A2b3C", " #FFF000 ")).await;
        assert_eq!(chosen.branding, branding(logo, "#1a2b3c", "#fff000").branding);
        assert_eq!((chosen.etag.as_str(), chosen.update_time), ("v1", Some(world.wire_time())));
        assert_eq!(ann.chosen().await, chosen);
        let organization = ann.organization().await;
        assert_eq!((organization.logo_uri.as_str(), organization.etag.as_str()), (logo, "v2"));
        assert_eq!(organization.update_time, Some(world.wire_time()));
        assert_eq!(told(&world, &ann.organization_id, events).await, [
            ("organization.updated".into(), json!({ "changes": [changed("logo_uri", "", logo)] })),
            ("settings.updated".into(), json!({ "changes": [
                changed("branding.logo_uri", "", logo),
                changed("branding.primary_color", "", "#1a2b3c"),
                changed("branding.accent_color", "", "#fff000"),
            ] })),
        ]);

        // The same again, written otherwise, is no change.
        let again = ann.chooses(&["branding"], branding(logo, "#1a2B3C", "#fff000")).await;
        assert_eq!(again, chosen);
        assert_eq!(world.events(&ann.organization_id).await.len(), events + 2);

        // Changed with the organization, it shows here, and what was read before is old.
        let other = "https://acme.example/other.svg";
        let changed = pb::Organization { logo_uri: other.into(), ..Default::default() };
        ann.tries_to_update(&["logo_uri"], changed).await.unwrap();
        let shown = ann.chosen().await;
        assert_eq!(shown.branding.as_ref().unwrap().logo_uri, other);
        assert_eq!(shown.branding.as_ref().unwrap().primary_color, "#1a2b3c");
        let refused = ann.tries_to_choose(&["branding.primary_color"], chosen).await.unwrap_err();
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(refused.metadata["etag"], shown.etag);
        // Another name is no other settings.
        let renamed = pb::Organization { name: "Acme Ltd".into(), ..Default::default() };
        ann.tries_to_update(&["name"], renamed).await.unwrap();
        assert_eq!(ann.chosen().await, shown);
        // Colours alone leave the organization as it was.
        let organization = ann.organization().await;
        let recolored = pb::OrganizationSettings { etag: shown.etag, ..branding("ignored", "#000000", "ignored") };
        let recolored = ann.chooses(&["branding.primary_color"], recolored).await;
        assert_eq!(recolored.branding, branding(other, "#000000", "#fff000").branding);
        assert_eq!(ann.organization().await, organization);
        // The section without values has the defaults again.
        let cleared = ann.chooses(&["branding"], pb::OrganizationSettings::default()).await;
        assert_eq!(cleared.branding, Some(pb::Branding::default()));
        assert_eq!(ann.organization().await.logo_uri, "");
        world.end().await;
    }

    async fn a_logo_of_the_organization_makes_what_was_read_of_default_settings_old(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let read = ann.chosen().await;
        let logo = pb::Organization { logo_uri: "https://acme.example/logo.svg".into(), ..Default::default() };
        ann.tries_to_update(&["logo_uri"], logo).await.unwrap();
        let refused = ann.tries_to_choose(&["branding"], read).await.unwrap_err();
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(ann.organization().await.logo_uri, "https://acme.example/logo.svg");
        world.end().await;
    }

    async fn a_mask_names_sections_and_fields_and_changes_nothing_else(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let events = world.events(&ann.organization_id).await.len();
        let all = pb::OrganizationSettings {
            security: Some(pb::SecuritySettings {
                allowed_sign_in_methods: vec![7, 3, 7],
                mfa_required: true,
                session_length: Some(seconds(3600)),
                allowed_email_domains: strings(&["Example.COM", "Bücher.example", "example.com"]),
                allowed_ip_ranges: strings(&["2001:DB8::1/32", "10.1.2.3/8"]),
                external_sharing_allowed: true,
            }),
            ai: Some(pb::AiSettings {
                allowed_models: strings(&["large", " small ", "large"]),
                default_model: "small".into(),
                training_allowed: true,
                retention_days: Some(0),
                redact_personal_data: true,
                safety_level: pb::AiSafetyLevel::Strict.into(),
            }),
            setup: Some(pb::SetupSettings { dismissed: false, dismissed_steps: vec![4, 1, 4] }),
            ..Default::default()
        };
        let chosen = ann.chooses(&["security", "ai", "ai.safety_level", "setup"], all.clone()).await;
        assert_eq!(chosen.security, Some(pb::SecuritySettings {
            allowed_sign_in_methods: vec![3, 7],
            allowed_email_domains: strings(&["example.com", "xn--bcher-kva.example"]),
            allowed_ip_ranges: strings(&["10.0.0.0/8", "2001:db8::/32"]),
            ..all.security.clone().unwrap()
        }));
        assert_eq!(chosen.ai, Some(pb::AiSettings { allowed_models: strings(&["large", "small"]), ..all.ai.unwrap() }));
        assert_eq!(chosen.setup.as_ref().unwrap().dismissed_steps, [1, 4]);
        assert_eq!(ann.chosen().await, chosen);
        let told = told(&world, &ann.organization_id, events).await;
        assert_eq!(told, [("settings.updated".into(), json!({ "changes": [
            changed("security.allowed_sign_in_methods", "", "SIGN_IN_METHOD_PASSKEY, SIGN_IN_METHOD_SAML"),
            changed("security.mfa_required", "false", "true"),
            changed("security.session_length", "", "3600s"),
            changed("security.allowed_email_domains", "", "example.com, xn--bcher-kva.example"),
            changed("security.allowed_ip_ranges", "", "10.0.0.0/8, 2001:db8::/32"),
            changed("security.external_sharing_allowed", "false", "true"),
            changed("ai.allowed_models", "", "large, small"),
            changed("ai.default_model", "", "small"),
            changed("ai.training_allowed", "false", "true"),
            changed("ai.retention_days", "", "0"),
            changed("ai.redact_personal_data", "false", "true"),
            changed("ai.safety_level", "AI_SAFETY_LEVEL_UNSPECIFIED", "AI_SAFETY_LEVEL_STRICT"),
            changed("setup.dismissed_steps", "", "SETUP_STEP_KIND_PROFILE, SETUP_STEP_KIND_FIRST_INVITATION"),
        ] }))]);

        // One field, whatever else the request brings.
        let one = security(pb::SecuritySettings { mfa_required: false, ..Default::default() });
        let without = ann.chooses(&["security.mfa_required"], one).await;
        let expected = pb::SecuritySettings { mfa_required: false, ..chosen.security.clone().unwrap() };
        assert_eq!((without.security, &without.ai), (Some(expected), &chosen.ai));
        // What is unset in a section of the mask has its default.
        let cleared = ann.chooses(&["ai"], pb::OrganizationSettings::default()).await;
        assert_eq!(cleared.ai, Some(pb::AiSettings::default()));
        assert_eq!(cleared.setup, chosen.setup);
        // The same in another order is no change.
        let again = security(pb::SecuritySettings {
            allowed_ip_ranges: strings(&["10.255.0.0/8", "2001:db8:0::/32"]),
            allowed_sign_in_methods: vec![7, 3],
            ..Default::default()
        });
        let mask = ["security.allowed_ip_ranges", "security.allowed_sign_in_methods"];
        assert_eq!(ann.chooses(&mask, again).await, cleared);
        // Asked only, nothing is chosen.
        let rehearsal = pb::UpdateOrganizationSettingsRequest {
            validate_only: true,
            ..ann.choice(&["setup.dismissed"], pb::OrganizationSettings {
                setup: Some(pb::SetupSettings { dismissed: true, dismissed_steps: Vec::new() }),
                ..Default::default()
            })
        };
        let shown = answer(ann.organizations().update_organization_settings(rehearsal).await).unwrap().settings.unwrap();
        assert!(shown.setup.unwrap().dismissed);
        assert_eq!(ann.chosen().await, cleared);
        world.end().await;
    }

    async fn everything_that_is_wrong_is_told_at_once(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let wrong = pb::OrganizationSettings {
            branding: branding("http://acme.example/logo.svg", "red", "#12345g").branding,
            security: Some(pb::SecuritySettings {
                allowed_sign_in_methods: vec![1, 0],
                session_length: Some(seconds(299)),
                allowed_email_domains: strings(&["example.com", "localhost", "ann@example.com"]),
                allowed_ip_ranges: strings(&["10.0.0.0", "10.0.0.0/8", "010.0.0.0/8"]),
                ..Default::default()
            }),
            ai: Some(pb::AiSettings {
                allowed_models: strings(&["large", "", "a\u{202e}b"]),
                default_model: "x".repeat(101),
                retention_days: Some(3651),
                safety_level: 4,
                ..Default::default()
            }),
            setup: Some(pb::SetupSettings { dismissed: true, dismissed_steps: vec![99] }),
            ..Default::default()
        };
        let refused = ann.tries_to_choose(&["branding", "security", "ai", "setup"], wrong).await.unwrap_err();
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(refused.fields, [
            "settings.branding.logo_uri",
            "settings.branding.primary_color",
            "settings.branding.accent_color",
            "settings.security.allowed_sign_in_methods",
            "settings.security.session_length",
            "settings.security.allowed_email_domains[1]",
            "settings.security.allowed_email_domains[2]",
            "settings.security.allowed_ip_ranges[0]",
            "settings.security.allowed_ip_ranges[2]",
            "settings.ai.allowed_models[1]",
            "settings.ai.allowed_models[2]",
            "settings.ai.default_model",
            "settings.ai.retention_days",
            "settings.ai.safety_level",
            "settings.setup.dismissed_steps",
        ]);
        // The mask says which fields are looked at, and has to be one.
        let many: Vec<String> = (0..101).map(|number| format!("d{number}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (mask, settings, field) in [
            (&[][..], pb::OrganizationSettings::default(), "update_mask"),
            (&["*"], pb::OrganizationSettings::default(), "update_mask"),
            (&[""], pb::OrganizationSettings::default(), "update_mask"),
            (&["etag"], pb::OrganizationSettings::default(), "update_mask"),
            (&["security.", "ai"], pb::OrganizationSettings::default(), "update_mask"),
            (&["security.mfa"], pb::OrganizationSettings::default(), "update_mask"),
            (&["branding.logo_uri.x"], pb::OrganizationSettings::default(), "update_mask"),
            (&["security"], domains_of(&many), "settings.security.allowed_email_domains"),
            (&["security"], security(pb::SecuritySettings { session_length: Some(seconds(31_536_001)), ..Default::default() }), "settings.security.session_length"),
        ] {
            let refused = ann.tries_to_choose(mask, settings).await.unwrap_err();
            assert_eq!((refused.is(), refused.fields.as_slice()), ((Code::InvalidArgument, "INVALID_FIELDS"), &[field.to_owned()][..]), "{mask:?}");
        }
        ann.restricts_to(&many[..100]).await;
        ann.chooses(&["security"], security(pb::SecuritySettings { session_length: Some(seconds(31_536_000)), ..Default::default() })).await;
        world.end().await;
    }

    async fn the_default_model_is_judged_on_how_both_end(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let models = |allowed: &[&str], default: &str| ai(pb::AiSettings {
            allowed_models: strings(allowed),
            default_model: default.into(),
            ..Default::default()
        });
        ann.chooses(&["ai.default_model"], models(&[], "large")).await;
        for (mask, settings) in [
            (&["ai.allowed_models"][..], models(&["small"], "small")),
            (&["ai"], models(&["small"], "large")),
        ] {
            let refused = ann.tries_to_choose(mask, settings).await.unwrap_err();
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
            assert_eq!(refused.fields, ["settings.ai.default_model"]);
        }
        ann.chooses(&["ai"], models(&["small"], "small")).await;
        let refused = ann.tries_to_choose(&["ai.default_model"], models(&[], "large")).await.unwrap_err();
        assert_eq!(refused.fields, ["settings.ai.default_model"]);
        // Together they may change to what neither might alone.
        ann.chooses(&["ai.default_model", "ai.allowed_models"], models(&["large"], "large")).await;
        world.end().await;
    }

    async fn who_may_see_the_settings_and_who_may_change_them(backend: Backend) {
        let world = World::with(backend, Setup { policy: "split-admin".into(), ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let mine = ann.restricts_to(&["example.com"]).await;
        let mfa = || security(pb::SecuritySettings { mfa_required: true, ..Default::default() });
        for (name, role, sees) in [("bill", "billing_admin", true), ("uma", "user_admin", true), ("mia", "member", false)] {
            let person = ann.brings(name, role).await;
            let seen = person.settings().await;
            let seen = seen.map_err(|refused| refused.reason);
            assert_eq!(seen, if sees { Ok(mine.clone()) } else { Err("ROLE_LACKS_PERMISSION".into()) }, "{role}");
            // Also with a mask that is none: who may not hears only that.
            for mask in ["security.mfa_required", "nothing"] {
                let refused = person.tries_to_choose(&[mask], mfa()).await.unwrap_err();
                assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"), "{role}");
            }
        }
        // A service reads them and changes nothing under its own name.
        let mut product = world.service("product");
        product.organization_id.clone_from(&ann.organization_id);
        assert_eq!(product.chosen().await, mine);
        let refused = product.tries_to_choose(&["security.mfa_required"], mfa()).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "USER_REQUIRED"));
        // Another organization's are not seen.
        let mut zed = world.person("zed").founds("Other").await;
        zed.organization_id.clone_from(&ann.organization_id);
        assert_eq!(zed.settings().await.unwrap_err().is(), (Code::PermissionDenied, "ORGANIZATION_MISMATCH"));
        ann.deletes_organization().await;
        assert_eq!(ann.settings().await.unwrap_err().is(), (Code::FailedPrecondition, "ORGANIZATION_DELETED"));
        world.end().await;
    }

    async fn only_addresses_of_the_allowed_domains_are_invited(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let early = ann.invites(&["eve@other.example", "fay@example.com"], "member").await;
        ann.restricts_to(&["example.com", "Bücher.example"]).await;
        assert_eq!(world.number("SELECT count(*) FROM organization WHERE restricts_email_domains").await, 1);
        ann.invites(&["bob@Example.Com", "zoe@xn--bcher-kva.example"], "member").await;

        // Every item is judged: new ones, and one that would be sent again.
        let emails = ["cas@example.com", "dee@other.example", "ann@example.com", "eve@other.example", "fay@example.com", "gus@eu.example.com"];
        let refused = ann.tries_to_invite(&emails, "member").await.unwrap_err();
        assert_eq!(refused.is(), (Code::AlreadyExists, "ALREADY_MEMBER"));
        assert_eq!(refused.metadata["reasons"], "ALREADY_MEMBER=2;EMAIL_DOMAIN_NOT_ALLOWED=1,3,5");
        let told: Vec<(&str, &str)> = refused.violations.iter().map(|(reason, item)| (reason.as_str(), item.as_str())).collect();
        assert_eq!(told, [
            ("EMAIL_DOMAIN_NOT_ALLOWED", "emails[1]"),
            ("ALREADY_MEMBER", "emails[2]"),
            ("EMAIL_DOMAIN_NOT_ALLOWED", "emails[3]"),
            ("EMAIL_DOMAIN_NOT_ALLOWED", "emails[5]"),
        ]);
        let refused = ann.tries_to_invite(&["cas@example.com", "dee@other.example"], "member").await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "EMAIL_DOMAIN_NOT_ALLOWED"));
        assert_eq!((refused.metadata["domain"].as_str(), refused.metadata["indexes"].as_str()), ("other.example", "1"));

        let refused = ann.tries_to_resend(id_of(&early[0])).await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "EMAIL_DOMAIN_NOT_ALLOWED"));
        assert_eq!(refused.metadata.get("domain").map(String::as_str), Some("other.example"));
        assert_eq!(refused.metadata.get("indexes"), None);
        ann.tries_to_resend(id_of(&early[1])).await.unwrap();

        // Nobody else's settings say anything here.
        world.person("zed").founds("Open").await.invites(&["dee@other.example"], "member").await;
        // Lifted, all are welcome again.
        ann.restricts_to(&[]).await;
        assert_eq!(world.number("SELECT count(*) FROM organization WHERE restricts_email_domains").await, 0);
        ann.invites(&["dee@other.example"], "member").await;
        ann.tries_to_resend(id_of(&early[0])).await.unwrap();
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn who_was_invited_before_is_not_let_in_after_and_members_stay(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = world.person("bob").with_email("bob@partner.example");
        let eve = world.person("eve").with_email("eve@partner.example");
        let bobs = ann.invites(&["bob@partner.example"], "admin").await;
        let bob = bob.accepts(&bobs[0].token).await;
        let eves = ann.invites(&["eve@partner.example"], "member").await;
        ann.restricts_to(&["example.com"]).await;
        let seats = ann.seats().await;
        let by_name = eves[0].invitation.clone().unwrap();
        for refused in [eve.tries_to_accept(&eves[0].token).await, eve.tries_to_accept_by_name(&by_name).await] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.is(), (Code::FailedPrecondition, "EMAIL_DOMAIN_NOT_ALLOWED"));
            assert_eq!(refused.metadata["domain"], "partner.example");
        }
        // Who is not meant by an invitation learns nothing of the settings.
        let mal = world.person("mal").with_email("mal@partner.example");
        assert_eq!(mal.tries_to_accept(&eves[0].token).await.unwrap_err().reason, "INVITATION_EMAIL_MISMATCH");
        assert_eq!(ann.seats().await, seats, "the invitation waits on");
        // Members stay, whatever their address: they come back, change roles and hear that they are members.
        assert_eq!(bob.organization().await.name, "Acme");
        ann.tries_to_suspend("bob").await.unwrap();
        ann.tries_to_reactivate("bob").await.unwrap();
        ann.tries_to_change_role("bob", "member").await.unwrap();
        ann.tries_to_invite(&["bob@partner.example"], "member").await.unwrap_err();
        // Once it is allowed, the same link lets in.
        ann.restricts_to(&["example.com", "partner.example"]).await;
        eve.accepts(&eves[0].token).await;
        // Others can be declined and canceled whatever the settings say.
        let more = ann.invites(&["fay@partner.example", "gus@partner.example"], "member").await;
        ann.restricts_to(&["example.com"]).await;
        world.person("fay").with_email("fay@partner.example").tries_to_decline(&more[0].token).await.unwrap();
        ann.tries_to_cancel(&[id_of(&more[1])]).await.unwrap();
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn of_two_who_have_read_the_same_settings_one_changes_them(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        for round in 0..10 {
            let read = ann.chosen().await;
            let calls = (0..4).map(|number| {
                let person = spread(&world, &ann, number);
                let color = format!("#0000{round}{number}");
                let new = pb::OrganizationSettings { etag: read.etag.clone(), ..branding("", &color, "") };
                async move { person.tries_to_choose(&["branding.primary_color"], new).await }
            });
            let outcomes = at_once(calls).await;
            let mut ends = BTreeMap::<String, usize>::new();
            for outcome in &outcomes {
                *ends.entry(outcome.as_ref().map_or_else(|refused| refused.reason.clone(), |_| "OK".into())).or_default() += 1;
            }
            assert_eq!(ends, BTreeMap::from([("OK".into(), 1), ("ETAG_MISMATCH".into(), 3)]));
            let won = outcomes.into_iter().find_map(Result::ok).expect("one won");
            assert_eq!(ann.chosen().await, won);
        }
        world.end().await;
    }

    async fn whoever_comes_while_domains_are_restricted_came_before_or_not_at_all(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        let (mut came, mut late) = (0, 0);
        for round in 0..6 {
            let ann = world.person("ann").founds("Acme").await;
            let mut guests = Vec::new();
            for number in 0..6 {
                let email = format!("guest{number}@partner.example");
                let sent = ann.invites(&[&email], "member").await;
                guests.push((world.person(&format!("guest{number}")).with_email(&email), sent[0].token.clone()));
            }
            let before = world.events(&ann.organization_id).await.len();
            let restricting = spread(&world, &ann, round);
            let calls = guests.into_iter().enumerate().map(|(number, (guest, token))| {
                let guest = spread(&world, &guest, number);
                // Once among them the restriction is made.
                let restricting = (number == round).then(|| restricting.clone());
                async move {
                    if let Some(restricting) = restricting {
                        restricting.restricts_to(&["example.com"]).await;
                    }
                    guest.does(Deed::Accept(token)).await
                }
            });
            for outcome in at_once(calls).await {
                match outcome.as_ref().map_err(|refused| refused.reason.as_str()) {
                    Ok(_) => came += 1,
                    Err("EMAIL_DOMAIN_NOT_ALLOWED") => late += 1,
                    Err(reason) => panic!("refused with {reason}"),
                }
            }
            // After the settings changed, nobody joined.
            let events = told(&world, &ann.organization_id, before).await;
            let order: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
            let changed = order.iter().position(|name| *name == "settings.updated").expect("the change");
            assert!(!order[changed..].contains(&"member.joined"), "{order:?}");
            replay(&world, &ann.organization_id).await;
        }
        assert!(late >= 6, "{came} came, {late} were late");
        world.end().await;
    }
}
