//! Organizations: made, found, changed, deleted and undeleted.

use chrono::{DateTime, TimeDelta, Utc};
use prost_types::Timestamp;
use tenantry::auth::policy::RolePolicy;
use tenantry::pb::{self, OrganizationState};
use tenantry::worker;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::tenant::id_of;
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

/// A catalogue whose default plan costs something.
const PAID: &str = r#"
[[plans]]
plan = "pro"
title = "Pro"
currency = "EUR"
period = "month"
base_price_minor = 900
seat_price_minor = 0
included_seats = 3
minimum_seats = 1
default = true
"#;

const EVERY_TABLE: [&str; 6] = ["organization", "membership", "invitation", "subscription", "event", "stored_answer"];

fn at(time: DateTime<Utc>) -> Option<Timestamp> {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).ok()?;
    Some(Timestamp { seconds: time.timestamp(), nanos })
}

fn named(name: &str) -> pb::CreateOrganizationRequest {
    pb::CreateOrganizationRequest { name: name.into(), ..Default::default() }
}

fn slugged(name: &str, slug: &str) -> pb::CreateOrganizationRequest {
    pb::CreateOrganizationRequest { slug: slug.into(), ..named(name) }
}

/// The same person without an e-mail address.
fn without_email(mut person: Person) -> Person {
    person.identity.0.retain(|(key, _)| *key != "x-user-email");
    person
}

async fn member(person: &Person, user_id: &str) -> pb::Member {
    let request = pb::GetMemberRequest { organization_id: person.organization_id.clone(), user_id: user_id.to_owned() };
    answer(person.members().get_member(request).await).expect("the member").member.expect("a member")
}

/// How many rows each table has.
async fn rows(world: &World) -> Vec<i64> {
    let mut rows = Vec::new();
    for table in EVERY_TABLE {
        rows.push(world.number(&format!("SELECT count(*) FROM {table}")).await);
    }
    rows
}

database_tests! {
    async fn the_founder_holds_the_top_role_on_the_default_plan(backend: Backend) {
        for policy in ["owner-billing", "shared-billing", "split-admin", "guarded-admin"] {
            let world = World::with(backend, Setup { policy: policy.into(), ..Setup::default() }).await;
            let request = pb::CreateOrganizationRequest {
                description: "We make things.\nGood ones.".into(),
                logo_uri: "https://example.com/logo.png".into(),
                profile: Some(pb::UserProfile {
                    display_name: "  Ann Lee ".into(),
                    avatar_uri: "https://example.com/ann.png".into(),
                }),
                ..named(" Müller & Söhne GmbH ")
            };
            let created = world.person("ann").tries_to_create(request).await.unwrap();
            let organization = created.organization.unwrap();
            assert_eq!(created.role, RolePolicy::load(policy).unwrap().top_role().name.to_string());
            assert_eq!(organization.name, "Müller & Söhne GmbH");
            assert_eq!(organization.slug, "muller-sohne-gmbh");
            assert_eq!(organization.description, "We make things.\nGood ones.");
            assert_eq!(organization.logo_uri, "https://example.com/logo.png");
            assert_eq!(organization.state(), OrganizationState::Active);
            assert_eq!(organization.create_time, at(world.clock.now()));
            assert_eq!((organization.delete_time, organization.purge_time), (None, None));
            let ann = world.person("ann").acting_in(&organization.organization_id, &created.role);
            assert_eq!(ann.organization().await, organization);
            let founder = member(&ann, "ann").await;
            assert_eq!((founder.role.as_str(), founder.email.as_str()), (created.role.as_str(), "ann@example.com"));
            assert_eq!((founder.display_name.as_str(), founder.invitation_id.as_str()), ("Ann Lee", ""));
            assert_eq!(founder.avatar_uri, "https://example.com/ann.png");
            assert_eq!(founder.join_time, at(world.clock.now()));
            let subscription = ann.subscription().await.unwrap();
            assert_eq!((subscription.plan_id.as_str(), subscription.seats), ("free", 4));
            assert_eq!(subscription.status(), pb::SubscriptionStatus::Active);
            assert_eq!(ann.seats().await, "1 / 4 seats");
            world.end().await;
        }
    }

    async fn a_slug_belongs_to_one_organization_even_after_its_deletion(backend: Backend) {
        let world = World::new(backend).await;
        let (ann, zed) = (world.person("ann"), world.person("zed"));
        let created = ann.tries_to_create(slugged("Acme", "acme")).await.unwrap().organization.unwrap();
        assert_eq!(created.slug, "acme");
        for request in [slugged("Other", "acme"), pb::CreateOrganizationRequest { validate_only: true, ..slugged("Other", "acme") }] {
            let refused = zed.tries_to_create(request).await.unwrap_err();
            assert_eq!(refused.is(), (Code::AlreadyExists, "SLUG_TAKEN"));
            assert_eq!(refused.metadata["slug"], "acme");
        }
        // One that is made from the name gives way.
        let suffixed = zed.tries_to_create(named("ACME!")).await.unwrap().organization.unwrap().slug;
        assert!(suffixed.starts_with("acme-") && suffixed.len() == "acme-".len() + 8, "{suffixed}");
        ann.acting_in(&created.organization_id, "owner").tries_to_delete().await.unwrap();
        assert_eq!(zed.tries_to_create(slugged("Other", "acme")).await.unwrap_err().reason, "SLUG_TAKEN");
        assert_eq!(world.number("SELECT count(*) FROM organization").await, 2);
        assert_eq!(world.number("SELECT count(*) FROM membership").await, 2);
        world.end().await;
    }

    async fn a_name_may_be_in_any_language(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann");
        for (name, slug) in [
            ("日本電気株式会社", "org"),
            ("شركة النور", "org-"),
            ("Ελληνική Εταιρεία", "org-"),
            ("ŁÓDŹ & Øresund ApS", "lodz-oresund-aps"),
            ("O'Reilly \"Media\" <b>%_\\", "o-reilly-media-b"),
            ("🦀 crab 👩\u{200d}💻 co", "crab-co"),
            // Persian keeps letters apart that would join, Sinhala joins some that would not.
            ("شرکت نرم\u{200c}افزار", "org"),
            ("ශ්\u{200d}රී ලංකා", "org"),
            ("x", "org-x"),
        ] {
            let Ok(created) = ann.tries_to_create(named(name)).await else { panic!("{name} is refused") };
            let organization = created.organization.unwrap();
            assert_eq!(organization.name, name);
            assert!(organization.slug.starts_with(slug), "{name} gives {}", organization.slug);
            let read = ann.acting_in(&organization.organization_id, "owner").organization().await;
            assert_eq!(read.name, name);
        }
        world.end().await;
    }

    async fn only_a_user_with_an_email_address_founds(backend: Backend) {
        let world = World::new(backend).await;
        let nameless = without_email(world.person("nemo"));
        let refused = nameless.tries_to_create(named("Acme")).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        let request = pb::EnsureDefaultOrganizationRequest::default();
        let refused = answer(nameless.organizations().ensure_default_organization(request).await).unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        let refused = world.service("gateway").tries_to_create(named("Acme")).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "USER_REQUIRED"));
        let rehearsed = pb::CreateOrganizationRequest { validate_only: true, ..named("Acme") };
        assert_eq!(world.person("ann").tries_to_create(rehearsed).await.unwrap().role, "owner");
        assert_eq!(rows(&world).await, [0; 6]);
        world.end().await;
    }

    async fn sign_up_makes_one_organization_however_often_it_is_called(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann");
        let at_once = futures::future::join_all((0..6).map(|_| ann.signs_in())).await;
        assert_eq!(at_once.iter().filter(|answer| answer.created).count(), 1);
        let first = ann.signs_in().await;
        assert!(!first.created);
        assert_eq!(first.role, "owner");
        assert!(at_once.iter().all(|answer| answer.organization == first.organization));
        world.pass(TimeDelta::days(400));
        assert_eq!(ann.signs_in().await, first);
        assert_eq!(ann.switcher().await, [("ann".to_owned(), "owner".to_owned())]);
        // Other organizations are none of its business.
        ann.founds("Acme").await;
        world.person("zed").founds("Other").await.brings("ann", "member").await;
        assert_eq!(ann.signs_in().await, first);
        assert_eq!(world.events(&first.organization.unwrap().organization_id).await, ["organization.created", "member.joined"]);
        world.end().await;
    }

    async fn an_own_organization_is_called_as_asked_or_like_its_user(backend: Backend) {
        let world = World::new(backend).await;
        let named = async |person: &str, name: &str, display_name: &str| {
            let profile = Some(pb::UserProfile { display_name: display_name.into(), ..Default::default() });
            let request = pb::EnsureDefaultOrganizationRequest { name: name.into(), profile, ..Default::default() };
            let made = answer(world.person(person).organizations().ensure_default_organization(request).await).unwrap();
            let organization = made.organization.unwrap();
            (organization.name, organization.slug)
        };
        assert_eq!(named("ann", "Ann's place", "Ann Lee").await, ("Ann's place".into(), "ann-s-place".into()));
        assert_eq!(named("bob", "", "Bob Ray").await, ("Bob Ray".into(), "bob-ray".into()));
        assert_eq!(named("cas", "", "").await, ("cas".into(), "cas".into()));
        let long = named("dee", "", &"d".repeat(200)).await;
        assert_eq!(long.0, "d".repeat(100));
        // Two users whose addresses begin alike both get theirs.
        let mut other = world.person("cas2");
        other.identity.0[1].1 = "cas@elsewhere.example".into();
        let slug = other.signs_in().await.organization.unwrap().slug;
        assert!(slug.starts_with("cas-"), "{slug}");
        world.end().await;
    }

    async fn who_leaves_or_is_removed_from_their_own_organization_gets_another(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann");
        let first = ann.signs_in().await.organization.unwrap();
        let bob = ann.acting_in(&first.organization_id, "owner").brings("bob", "owner").await;
        ann.acting_in(&first.organization_id, "owner").tries_to_leave().await.unwrap();
        let second = ann.signs_in().await;
        assert!(second.created);
        let second = second.organization.unwrap();
        assert_ne!(second.organization_id, first.organization_id);
        let cas = ann.acting_in(&second.organization_id, "owner").brings("cas", "owner").await;
        cas.tries_to_remove("ann").await.unwrap();
        let third = ann.signs_in().await;
        assert!(third.created);
        assert_eq!(ann.switcher().await.len(), 1);
        // What they left is the others' and nobody's own: who founded it may come back without it being so again.
        ann.accepts(&bob.invites(&["ann@example.com"], "member").await[0].token).await;
        assert_eq!(ann.signs_in().await.organization, third.organization);
        assert_eq!(bob.members_and_roles().await.len(), 2);
        world.end().await;
    }

    async fn a_deleted_own_organization_gives_way_to_another_and_can_still_come_back(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann");
        let first = ann.signs_in().await.organization.unwrap();
        let in_first = ann.acting_in(&first.organization_id, "owner");
        in_first.tries_to_delete().await.unwrap();
        in_first.tries_to_undelete().await.unwrap();
        assert_eq!(ann.signs_in().await.organization.unwrap().organization_id, first.organization_id);
        in_first.tries_to_delete().await.unwrap();
        let second = ann.signs_in().await;
        assert!(second.created);
        let second = second.organization.unwrap();
        assert_ne!(second.organization_id, first.organization_id);
        assert_eq!(in_first.tries_to_undelete().await.unwrap().state(), OrganizationState::Active);
        assert_eq!(ann.switcher().await.len(), 2);
        assert_eq!(ann.signs_in().await.organization.unwrap().organization_id, second.organization_id);
        world.end().await;
    }

    async fn members_and_services_see_an_organization_and_strangers_do_not_learn_that_it_exists(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let organization = ann.organization().await;
        for role in ["owner", "admin", "member"] {
            let person = ann.brings(&format!("the-{role}"), role).await;
            assert_eq!(person.organization().await, organization, "as {role}");
        }
        let mut service = world.service("gateway");
        service.organization_id.clone_from(&ann.organization_id);
        assert_eq!(service.organization().await, organization);
        let nowhere = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70";
        let zed = world.person("zed");
        let of_this = zed.acting_in(&ann.organization_id, "owner").tries_to_get().await.unwrap_err();
        let of_none = zed.acting_in(nowhere, "owner").tries_to_get().await.unwrap_err();
        assert_eq!(of_this.is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        assert_eq!(of_this, of_none);
        // Acting in one's own organization, and asking for another.
        let mut elsewhere = zed.founds("Other").await;
        elsewhere.organization_id.clone_from(&ann.organization_id);
        let of_this = elsewhere.tries_to_get().await.unwrap_err();
        elsewhere.organization_id = nowhere.into();
        assert_eq!(of_this.is(), (Code::PermissionDenied, "ORGANIZATION_MISMATCH"));
        assert_eq!(of_this, elsewhere.tries_to_get().await.unwrap_err());
        service.organization_id = nowhere.into();
        let refused = service.tries_to_get().await.unwrap_err();
        assert_eq!(refused.is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        assert_eq!(refused.metadata["organization_id"], nowhere);
        ann.tries_to_suspend("the-member").await.unwrap();
        let suspended = world.person("the-member").acting_in(&ann.organization_id, "member");
        assert_eq!(suspended.tries_to_get().await.unwrap_err().is(), (Code::PermissionDenied, "MEMBER_SUSPENDED"));
        world.end().await;
    }

    async fn the_switcher_shows_each_organization_with_the_role_held_there(backend: Backend) {
        let world = World::new(backend).await;
        let (ann, bob) = (world.person("ann"), world.person("bob"));
        assert!(ann.switcher().await.is_empty());
        let own = ann.founds("Own").await;
        world.pass(TimeDelta::hours(1));
        let theirs = bob.founds("Theirs").await;
        theirs.brings("ann", "member").await;
        let second_join = world.clock.now();
        world.pass(TimeDelta::hours(1));
        let third = world.person("cas").founds("Third").await;
        third.brings("ann", "admin").await;
        let pair = |slug: &str, role: &str| (slug.to_owned(), role.to_owned());
        assert_eq!(ann.switcher().await, [pair("own", "owner"), pair("theirs", "member"), pair("third", "admin")]);
        assert_eq!(bob.switcher().await, [pair("theirs", "owner")]);
        theirs.tries_to_suspend("ann").await.unwrap();
        let listed = ann.memberships(false).await;
        assert_eq!(listed.iter().map(|listed| listed.suspended).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(listed[1].join_time, at(second_join));
        assert_eq!(listed[0].organization, Some(own.organization().await));
        // An invitation is no membership, and who is removed is in the list no more.
        third.invites(&["bob@example.com"], "member").await;
        third.tries_to_remove("ann").await.unwrap();
        assert_eq!(bob.switcher().await.len(), 1);
        assert_eq!(ann.switcher().await, [pair("own", "owner"), pair("theirs", "member")]);
        world.end().await;
    }

    async fn a_deleted_organization_is_listed_only_when_asked_and_until_its_purge_time(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann");
        let kept = ann.founds("Kept").await;
        world.pass(TimeDelta::seconds(1));
        let gone = ann.founds("Gone").await;
        gone.tries_to_delete().await.unwrap();
        assert_eq!(ann.switcher().await, [("kept".to_owned(), "owner".to_owned())]);
        let all = ann.memberships(true).await;
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].organization.as_ref().unwrap().state(), OrganizationState::Deleted);
        world.pass(TimeDelta::days(30) - TimeDelta::microseconds(1));
        assert_eq!(ann.memberships(true).await.len(), 2);
        world.pass(TimeDelta::microseconds(1));
        assert_eq!(ann.memberships(true).await.len(), 1);
        assert_eq!(kept.organization().await.state(), OrganizationState::Active);
        world.end().await;
    }

    async fn the_switcher_comes_in_pages_without_gap_or_repetition(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann");
        let mut founded = Vec::new();
        for number in 0..7 {
            founded.push(ann.founds(&format!("Org {number}")).await.organization_id);
            // Some begin at the same instant.
            if number % 3 == 0 {
                world.pass(TimeDelta::seconds(1));
            }
        }
        let (mut listed, mut sizes, mut page_token) = (Vec::new(), Vec::new(), String::new());
        loop {
            let request = pb::ListOrganizationsRequest { page_size: 3, page_token, ..Default::default() };
            let page = answer(ann.organizations().list_organizations(request).await).unwrap();
            sizes.push(page.memberships.len());
            listed.extend(page.memberships.into_iter().map(|listed| listed.organization.unwrap().organization_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(sizes, [3, 3, 1]);
        listed.sort();
        founded.sort();
        assert_eq!(listed, founded);
        world.end().await;
    }

    async fn an_update_changes_the_fields_of_its_mask_and_no_others(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let before = ann.organization().await;
        world.pass(TimeDelta::minutes(5));
        let all = pb::Organization {
            name: "Acme Ltd".into(),
            slug: "acme-ltd".into(),
            description: "New.".into(),
            logo_uri: "https://example.com/new.png".into(),
            ..Default::default()
        };
        let mut expected = before.clone();
        for field in ["name", "slug", "description", "logo_uri"] {
            let after = ann.tries_to_update(&[field], all.clone()).await.unwrap();
            match field {
                "name" => expected.name.clone_from(&all.name),
                "slug" => expected.slug.clone_from(&all.slug),
                "description" => expected.description.clone_from(&all.description),
                _ => expected.logo_uri.clone_from(&all.logo_uri),
            }
            assert_ne!(after.etag, expected.etag, "a new version has a new etag");
            expected.etag.clone_from(&after.etag);
            expected.update_time = at(world.clock.now());
            assert_eq!(after, expected, "{field}");
        }
        assert_eq!(ann.organization().await, expected);
        // What the mask names and the request leaves empty is emptied; what only the server says is not looked at.
        let emptied = pb::Organization { name: "ignored".into(), state: 2, ..Default::default() };
        let after = ann.tries_to_update(&["description", "logo_uri"], emptied).await.unwrap();
        assert_eq!((after.description.as_str(), after.logo_uri.as_str(), after.name.as_str()), ("", "", "Acme Ltd"));
        assert_eq!(after.state(), OrganizationState::Active);
        assert_eq!(after.create_time, before.create_time);
        world.end().await;
    }

    async fn an_update_needs_a_mask_of_known_fields_with_sound_values(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let before = ann.organization().await;
        for (mask, organization, fields) in [
            (&[][..], pb::Organization { name: "New".into(), ..Default::default() }, &["update_mask"][..]),
            (&["owner"], pb::Organization::default(), &["update_mask"]),
            (&["name", "state"], pb::Organization { name: "New".into(), ..Default::default() }, &["update_mask"]),
            (&["name"], pb::Organization::default(), &["organization.name"]),
            (&["slug"], pb::Organization::default(), &["organization.slug"]),
            (&["slug"], pb::Organization { slug: "No Slug".into(), ..Default::default() }, &["organization.slug"]),
        ] {
            let refused = ann.tries_to_update(mask, organization).await.unwrap_err();
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"), "{mask:?}");
            assert_eq!(refused.fields, fields, "{mask:?}");
        }
        let request = pb::UpdateOrganizationRequest { organization_id: ann.organization_id.clone(), ..Default::default() };
        let refused = answer(ann.organizations().update_organization(request).await).unwrap_err();
        assert_eq!(refused.fields, ["update_mask"]);
        assert_eq!(ann.organization().await, before);
        world.end().await;
    }

    async fn who_read_an_older_version_does_not_overwrite_a_newer_one(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let read = ann.organization().await;
        let renamed = |name: &str, etag: &str| pb::Organization { name: name.into(), etag: etag.into(), ..Default::default() };
        let newer = ann.tries_to_update(&["name"], renamed("One", &read.etag)).await.unwrap();
        for (stale, name) in [(read.etag.as_str(), "Two"), ("v999", "Two"), ("nonsense", "Two"), (&read.etag, "One")] {
            let refused = ann.tries_to_update(&["name"], renamed(name, stale)).await.unwrap_err();
            assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
            assert_eq!(refused.metadata["etag"], newer.etag);
        }
        assert_eq!(ann.organization().await.name, "One");
        ann.tries_to_update(&["name"], renamed("Three", "")).await.unwrap();
        assert_eq!(ann.organization().await.name, "Three");
        world.end().await;
    }

    async fn an_update_to_what_is_already_so_is_no_change(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let before = ann.organization().await;
        world.pass(TimeDelta::minutes(5));
        let same = pb::Organization { etag: String::new(), ..before.clone() };
        let mask = ["name", "slug", "description", "logo_uri"];
        assert_eq!(ann.tries_to_update(&mask, same).await.unwrap(), before);
        assert_eq!(ann.organization().await, before);
        assert_eq!(world.events(&ann.organization_id).await, ["organization.created", "member.joined"]);
        world.end().await;
    }

    async fn a_slug_that_is_given_up_is_free_and_one_that_is_taken_is_not(backend: Backend) {
        let world = World::new(backend).await;
        let (ann, zed) = (world.person("ann").founds("Acme").await, world.person("zed").founds("Other").await);
        let to = |slug: &str| pb::Organization { slug: slug.into(), ..Default::default() };
        let refused = zed.tries_to_update(&["slug"], to("acme")).await.unwrap_err();
        assert_eq!(refused.is(), (Code::AlreadyExists, "SLUG_TAKEN"));
        assert_eq!(refused.metadata["slug"], "acme");
        // Refused whole: the fields beside the slug have not changed either.
        let both = pb::Organization { name: "New".into(), ..to("acme") };
        assert_eq!(zed.tries_to_update(&["name", "slug"], both).await.unwrap_err().reason, "SLUG_TAKEN");
        assert_eq!((zed.organization().await.name.as_str(), zed.organization().await.slug.as_str()), ("Other", "other"));
        ann.tries_to_update(&["slug"], to("acme-new")).await.unwrap();
        assert_eq!(zed.tries_to_update(&["slug"], to("acme")).await.unwrap().slug, "acme");
        assert_eq!(ann.tries_to_update(&["slug"], to("acme")).await.unwrap_err().reason, "SLUG_TAKEN");
        world.end().await;
    }

    async fn a_deleted_organization_is_closed_to_everybody_and_nothing_in_it_is_lost(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        let sent = ann.invites(&["cas@example.com"], "member").await;
        let before = (ann.organization().await, ann.members_and_roles().await, ann.seats().await);
        world.pass(TimeDelta::days(1));
        let deleted = ann.tries_to_delete().await.unwrap();
        assert_eq!(deleted.state(), OrganizationState::Deleted);
        assert_eq!(deleted.delete_time, at(world.clock.now()));
        let purge_time = world.clock.now() + TimeDelta::days(30);
        assert_eq!(deleted.purge_time, at(purge_time));
        // Who belongs to it still sees what it is; nobody can do anything with it.
        assert_eq!(bob.organization().await, deleted);
        let organization_id = ann.organization_id.clone();
        let listing = pb::ListMembersRequest { organization_id: organization_id.clone(), ..Default::default() };
        let usage = pb::GetSeatUsageRequest { organization_id: organization_id.clone(), time: None };
        let roles = pb::ListRolesRequest { organization_id: organization_id.clone() };
        let closed = [
            answer(bob.members().list_members(listing).await).unwrap_err(),
            answer(bob.members().list_roles(roles).await).unwrap_err(),
            answer(bob.billing().get_seat_usage(usage).await).unwrap_err(),
            ann.subscription().await.unwrap_err(),
            ann.tries_to_invite(&["dee@example.com"], "member").await.unwrap_err(),
            ann.tries_to_cancel(&[id_of(&sent[0])]).await.unwrap_err(),
            ann.tries_to_remove("bob").await.unwrap_err(),
            ann.tries_to_change_role("bob", "member").await.unwrap_err(),
            ann.tries_to_set_seats(5).await.unwrap_err(),
            ann.tries_to_update(&["name"], pb::Organization { name: "New".into(), ..Default::default() }).await.unwrap_err(),
            bob.tries_to_leave().await.unwrap_err(),
            ann.tries_to_delete().await.unwrap_err(),
        ];
        for refused in closed {
            assert_eq!(refused.is(), (Code::FailedPrecondition, "ORGANIZATION_DELETED"), "{refused:?}");
            assert_eq!(refused.metadata["purge_time"], purge_time.to_rfc3339());
        }
        let request = pb::CheckPermissionsRequest { organization_id, ..Default::default() };
        let checked = answer(bob.members().check_permissions(request).await).unwrap();
        assert!(checked.checks.iter().all(|check| check.denial_reason() == pb::DenialReason::OrganizationDeleted));
        // Its invitations wait for nobody.
        let cas = world.person("cas");
        assert_eq!(cas.tries_to_accept(&sent[0].token).await.unwrap_err().is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        let received = answer(cas.members().list_received_invitations(pb::ListReceivedInvitationsRequest::default()).await);
        assert!(received.unwrap().invitations.is_empty());
        // A stranger hears what strangers hear.
        let stranger = cas.acting_in(&ann.organization_id, "owner");
        assert_eq!(stranger.tries_to_undelete().await.unwrap_err().reason, "NOT_A_MEMBER");
        assert_eq!(bob.tries_to_undelete().await.unwrap_err().is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));

        world.pass(TimeDelta::days(1));
        let back = ann.tries_to_undelete().await.unwrap();
        let expected = pb::Organization { etag: back.etag.clone(), update_time: at(world.clock.now()), ..before.0 };
        assert_eq!(back, expected);
        assert_eq!((ann.members_and_roles().await, ann.seats().await), (before.1, before.2));
        assert_eq!(cas.accepts(&sent[0].token).await.role, "member");
        let events = world.events(&ann.organization_id).await;
        assert_eq!(events[6..], ["organization.deleted", "organization.undeleted", "invitation.accepted", "member.joined"]);
        world.end().await;
    }

    async fn nobody_deletes_an_organization_that_is_still_paid_for(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(PAID.into()), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        for status in ["active", "trialing", "past_due", "unpaid"] {
            world.execute(&format!("UPDATE subscription SET status = '{status}'")).await.unwrap();
            let refused = ann.tries_to_delete().await.unwrap_err();
            assert_eq!(refused.is(), (Code::FailedPrecondition, "ORGANIZATION_HAS_BLOCKERS"), "{status}");
            assert_eq!(refused.violations, [("LIVE_SUBSCRIPTION".to_owned(), "plan pro".to_owned())]);
            assert_eq!(refused.metadata["blockers"], "LIVE_SUBSCRIPTION");
        }
        assert_eq!(ann.organization().await.state(), OrganizationState::Active);
        world.execute("UPDATE subscription SET status = 'canceled'").await.unwrap();
        assert_eq!(ann.tries_to_delete().await.unwrap().state(), OrganizationState::Deleted);
        world.end().await;
    }

    async fn an_organization_is_deleted_only_as_it_was_read(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let read = ann.organization().await.etag;
        let new = pb::Organization { name: "New".into(), ..Default::default() };
        let current = ann.tries_to_update(&["name"], new).await.unwrap().etag;
        let delete = async |etag: &str, validate_only: bool| {
            let organization_id = ann.organization_id.clone();
            let request = pb::DeleteOrganizationRequest { organization_id, etag: etag.into(), validate_only, ..Default::default() };
            answer(ann.organizations().delete_organization(request).await)
        };
        let refused = delete(&read, false).await.unwrap_err();
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(refused.metadata["etag"], current);
        let rehearsed = delete(&current, true).await.unwrap().organization.unwrap();
        assert_eq!(rehearsed.state(), OrganizationState::Deleted);
        assert_eq!(ann.organization().await.state(), OrganizationState::Active);
        delete(&current, false).await.unwrap();
        assert_eq!(ann.organization().await.state(), OrganizationState::Deleted);
        world.end().await;
    }

    async fn only_what_is_deleted_can_be_undeleted_and_only_until_its_purge_time(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let refused = ann.tries_to_undelete().await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "ORGANIZATION_NOT_DELETED"));
        ann.tries_to_delete().await.unwrap();
        world.pass(TimeDelta::days(30) - TimeDelta::microseconds(1));
        ann.tries_to_undelete().await.unwrap();
        ann.tries_to_delete().await.unwrap();
        world.pass(TimeDelta::days(30));
        let refused = ann.tries_to_undelete().await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        assert_eq!(ann.tries_to_get().await.unwrap_err(), refused);
        assert_eq!(ann.tries_to_invite(&["bob@example.com"], "member").await.unwrap_err().reason, "NOT_A_MEMBER");
        let mut service = world.service("gateway");
        service.organization_id.clone_from(&ann.organization_id);
        assert_eq!(service.tries_to_get().await.unwrap_err().reason, "ORGANIZATION_NOT_FOUND");
        world.end().await;
    }

    async fn a_purge_leaves_no_row_of_what_is_gone_and_every_row_of_the_others(backend: Backend) {
        let world = World::new(backend).await;
        let zed = world.person("zed").founds("Other").await;
        zed.brings("ann", "member").await;
        zed.invites(&["cas@example.com"], "member").await;
        let before = rows(&world).await;
        let mut doomed = Vec::new();
        // More than one transaction of the worker takes.
        for number in 0..12 {
            let request = pb::CreateOrganizationRequest {
                request_id: format!("00000000-0000-4000-8000-0000000000{number:02}"),
                ..slugged("Acme", &format!("acme-{number}"))
            };
            let created = world.person("ann").tries_to_create(request).await.unwrap().organization.unwrap();
            let ann = world.person("ann").acting_in(&created.organization_id, "owner");
            ann.invites(&["bob@example.com"], "member").await;
            ann.tries_to_delete().await.unwrap();
            doomed.push(ann);
        }
        let app = &world.servers[0].app;
        world.pass(TimeDelta::days(30) - TimeDelta::microseconds(1));
        worker::sweep(app, &CancellationToken::new()).await;
        assert_eq!(world.number("SELECT count(*) FROM organization").await, 13);
        doomed[0].tries_to_undelete().await.unwrap();
        doomed[0].tries_to_delete().await.unwrap();
        world.pass(TimeDelta::hours(1) + TimeDelta::microseconds(1));
        worker::sweep(app, &CancellationToken::new()).await;
        assert_eq!(world.number("SELECT count(*) FROM organization").await, 2);
        world.pass(TimeDelta::days(30));
        worker::sweep(app, &CancellationToken::new()).await;
        assert_eq!(rows(&world).await, before);
        assert_eq!(zed.members_and_roles().await.len(), 2);
        assert_eq!(zed.tries_to_create(slugged("Mine now", "acme-0")).await.unwrap().organization.unwrap().slug, "acme-0");
        world.end().await;
    }

    async fn a_user_holds_a_different_role_in_each_organization(backend: Backend) {
        let world = World::with(backend, Setup { policy: "guarded-admin".into(), ..Setup::default() }).await;
        let ann = world.person("ann");
        let own = ann.founds("Own").await;
        world.pass(TimeDelta::seconds(1));
        let (bob, cas) = (world.person("bob").founds("Bob's").await, world.person("cas").founds("Cas's").await);
        let (at_bobs, at_cass) = (bob.brings("ann", "admin").await, cas.brings("ann", "member").await);
        // Owner here: everything, including admins.
        own.invites(&["dee@example.com"], "admin").await;
        // Admin there: everything except admins.
        at_bobs.invites(&["dee@example.com"], "member").await;
        let refused = at_bobs.tries_to_invite(&["eve@example.com"], "admin").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
        // Member elsewhere: only their own, whatever they say they are.
        let refused = at_cass.tries_to_invite(&["dee@example.com"], "member").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        let pretending = ann.acting_in(&cas.organization_id, "owner");
        let refused = pretending.tries_to_invite(&["dee@example.com"], "member").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_STALE"));
        // Each has its own plan, members and seats.
        own.tries_to_set_seats(9).await.unwrap();
        assert_eq!((own.seats().await.as_str(), at_bobs.seats().await.as_str()), ("2 / 9 seats", "3 / 4 seats"));
        assert_eq!((own.members_and_roles().await.len(), at_bobs.members_and_roles().await.len()), (1, 2));
        // A role that ends in one organization ends in no other.
        cas.tries_to_remove("ann").await.unwrap();
        assert_eq!(at_cass.tries_to_get().await.unwrap_err().reason, "NOT_A_MEMBER");
        assert_eq!(at_bobs.organization().await.slug, "bob-s");
        let pair = |slug: &str, role: &str| (slug.to_owned(), role.to_owned());
        assert_eq!(ann.switcher().await, [pair("own", "owner"), pair("bob-s", "admin")]);
        world.end().await;
    }
}
