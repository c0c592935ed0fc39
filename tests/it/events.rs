//! The log: what every change writes to it, who did it, and what never stands in it.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use prost_reflect::{DescriptorPool, Value};
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, Statement};
use serde_json::json;
use tempfile::TempDir;
use tenantry::auth::token::{self, MintedClaims};
use tenantry::clock::Clock;
use tenantry::entity::event;
use tenantry::pb;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::harness::person::{Identity, Person, answer, by_token};
use crate::harness::tenant::id_of;
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests, raw};

/// Reads an organization's log on from where it was read last.
pub(crate) struct Log<'a> {
    world: &'a World,
    organization_id: uuid::Uuid,
    pub(crate) read: usize,
}

/// An event's name and payload.
pub(crate) type Told = (String, serde_json::Value);

impl<'a> Log<'a> {
    pub(crate) fn of(world: &'a World, organization_id: &str) -> Self {
        let organization_id = uuid::Uuid::parse_str(organization_id).expect("an organization's id");
        Self { world, organization_id, read: 0 }
    }

    /// What is new in it, having looked at what every event must say.
    pub(crate) async fn next(&mut self, user: Option<&str>, service: Option<&str>, request_id: &str) -> Vec<Told> {
        let database = self.world.database().await;
        let rows = event::Entity::find()
            .filter(event::Column::OrganizationId.eq(self.organization_id))
            .order_by_asc(event::Column::Number)
            .all(&database)
            .await
            .expect("the log can be read");
        database.close().await.expect("a connection can be closed");
        for (number, row) in (1..).zip(&rows) {
            assert_eq!(row.number, number, "a gap in the log");
        }
        let new = rows.into_iter().skip(self.read).collect::<Vec<_>>();
        self.read += new.len();
        for row in &new {
            assert_eq!(row.actor_user_id.as_deref(), user, "{}", row.r#type);
            assert_eq!(row.actor_service.as_deref(), service, "{}", row.r#type);
            assert_eq!(row.request_id, request_id, "{}", row.r#type);
            assert_eq!(row.occurred_at, self.world.clock.now(), "{}", row.r#type);
        }
        let ids: BTreeSet<_> = new.iter().map(|row| row.event_id).collect();
        assert_eq!(ids.len(), new.len(), "an event's id is its own");
        new.into_iter().map(|row| (row.r#type, row.payload)).collect()
    }
}

pub(crate) fn told(name: &str, payload: serde_json::Value) -> Told {
    (name.to_owned(), payload)
}

/// The same person, whose next calls have this id.
pub(crate) fn in_call(person: &Person, request_id: &str) -> Person {
    let mut person = person.clone();
    person.identity.0.retain(|(key, _)| *key != "x-request-id");
    person.identity.0.push(("x-request-id", request_id.to_owned()));
    person
}

/// The names of all RPCs that may change something.
fn mutating() -> BTreeSet<String> {
    let pool = DescriptorPool::decode(pb::DESCRIPTOR_SET).expect("a sound descriptor set");
    let services = pool.services().filter(|service| service.full_name().starts_with("tenantry.v1."));
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    let reads = |options: prost_reflect::DynamicMessage| {
        options.get_field_by_name("idempotency_level").is_some_and(|level| *level == Value::EnumNumber(1))
    };
    methods.filter(|method| !reads(method.options())).map(|method| method.name().to_owned()).collect()
}

pub(crate) async fn big_world(backend: Backend) -> World {
    World::with(backend, Setup { plans: Some(plans_with_seats(50)), ..Setup::default() }).await
}

fn update(user_id: &str, role: &str) -> pb::MemberRoleUpdate {
    pb::MemberRoleUpdate { user_id: user_id.into(), role: role.into(), ..Default::default() }
}

/// What somebody does in one organization, by a call that is named after what they do.
struct Doing<'a> {
    log: Log<'a>,
    done: BTreeSet<String>,
}

impl Doing<'_> {
    /// After the call of this name by a user, the log has exactly this more.
    async fn wrote(&mut self, user: &str, rpc: &str, expected: &[Told]) {
        let written = self.log.next(Some(user), None, &format!("{user}-{rpc}")).await;
        assert_eq!(written, expected, "{rpc}");
        self.done.insert(rpc.to_owned());
    }
}

database_tests! {
    #[expect(clippy::too_many_lines, reason = "one story, in which every RPC that changes something has its place")]
    async fn every_change_writes_what_happened_in_order_with_who_did_it(backend: Backend) {
        let world = big_world(backend).await;
        let calling = |person: &Person, rpc: &str| in_call(person, &format!("{}-{rpc}", person.name));
        let visitor = world.person("ann");
        let ann = calling(&visitor, "CreateOrganization").founds("Acme").await;
        let acme = ann.organization_id.clone();
        let mut doing = Doing { log: Log::of(&world, &acme), done: BTreeSet::new() };
        doing.wrote("ann", "CreateOrganization", &[
            told("organization.created", json!({"name": "Acme", "slug": "acme", "plan_id": "roomy", "seats": 50})),
            told("member.joined", json!({"user_id": "ann", "role": "owner", "invitation_id": null, "domain": null, "workspace_ids": []})),
        ]).await;

        world.pass(TimeDelta::minutes(1));
        let new = pb::Organization { name: "Acme Ltd".into(), description: "Things.".into(), slug: "acme".into(), ..Default::default() };
        calling(&ann, "UpdateOrganization").tries_to_update(&["description", "slug", "name"], new).await.unwrap();
        doing.wrote("ann", "UpdateOrganization", &[told("organization.updated", json!({
            "changes": [
                {"field": "name", "before": "Acme", "after": "Acme Ltd"},
                {"field": "description", "before": "", "after": "Things."},
            ],
        }))]).await;

        let expire_time = (world.clock.now() + TimeDelta::days(7)).to_rfc3339();
        let sent = calling(&ann, "InviteMembers").invites(&["bob@example.com", "cas@example.com"], "member").await;
        let (bobs, cass) = (id_of(&sent[0]).to_owned(), id_of(&sent[1]).to_owned());
        doing.wrote("ann", "InviteMembers", &[
            told("invitation.created", json!({"invitation_id": bobs, "role": "member", "expire_time": expire_time})),
            told("invitation.created", json!({"invitation_id": cass, "role": "member", "expire_time": expire_time})),
        ]).await;

        world.pass(TimeDelta::minutes(1));
        let expire_time = (world.clock.now() + TimeDelta::days(7)).to_rfc3339();
        let sent = calling(&ann, "InviteMembers").invites(&["CAS@example.com", "dee@example.com", "cas@example.com"], "admin").await;
        let dees = id_of(&sent[1]).to_owned();
        doing.wrote("ann", "InviteMembers", &[
            told("invitation.resent", json!({"invitation_id": cass, "role_before": "member", "role": "admin", "expire_time": expire_time})),
            told("invitation.created", json!({"invitation_id": dees, "role": "admin", "expire_time": expire_time})),
        ]).await;

        let bobs_token = calling(&ann, "ResendInvitation").tries_to_resend(&bobs).await.unwrap().token;
        doing.wrote("ann", "ResendInvitation", &[
            told("invitation.resent", json!({"invitation_id": bobs, "role_before": "member", "role": "member", "expire_time": expire_time})),
        ]).await;

        calling(&world.person("bob"), "AcceptInvitation").accepts(&bobs_token).await;
        doing.wrote("bob", "AcceptInvitation", &[
            told("invitation.accepted", json!({"invitation_id": bobs, "user_id": "bob"})),
            told("member.joined", json!({"user_id": "bob", "role": "member", "invitation_id": bobs, "domain": null, "workspace_ids": []})),
        ]).await;

        let request = pb::DeclineInvitationRequest { invitation: Some(by_token(&sent[0].token)), ..Default::default() };
        answer(calling(&world.person("cas"), "DeclineInvitation").members().decline_invitation(request).await).unwrap();
        doing.wrote("cas", "DeclineInvitation", &[
            told("invitation.declined", json!({"invitation_id": cass, "user_id": "cas"})),
        ]).await;

        let eves = id_of(&ann.invites(&["eve@example.com"], "member").await[0]).to_owned();
        doing.log.read += 1;
        let request = pb::CancelInvitationsRequest {
            organization_id: acme.clone(),
            invitation_ids: vec![eves.clone(), dees.clone(), eves.clone()],
            ..Default::default()
        };
        answer(calling(&ann, "CancelInvitations").members().cancel_invitations(request).await).unwrap();
        doing.wrote("ann", "CancelInvitations", &[
            told("invitation.canceled", json!({"invitation_id": eves, "role": "member"})),
            told("invitation.canceled", json!({"invitation_id": dees, "role": "admin"})),
        ]).await;

        for name in ["cas", "dee", "eve", "fay"] {
            ann.brings(name, "member").await;
            doing.log.read += 3;
        }
        calling(&ann, "UpdateMemberRole").tries_to_change_role("bob", "admin").await.unwrap();
        let changed = |user_id: &str, before: &str, after: &str| {
            told("member.role_changed", json!({"user_id": user_id, "before": before, "after": after}))
        };
        doing.wrote("ann", "UpdateMemberRole", &[changed("bob", "member", "admin")]).await;
        let request = pb::BatchUpdateMemberRolesRequest {
            organization_id: acme.clone(),
            updates: vec![update("eve", "owner"), update("bob", "admin"), update("cas", "admin"), update("eve", "owner")],
            ..Default::default()
        };
        answer(calling(&ann, "BatchUpdateMemberRoles").members().batch_update_member_roles(request).await).unwrap();
        doing.wrote("ann", "BatchUpdateMemberRoles", &[changed("eve", "member", "owner"), changed("cas", "member", "admin")]).await;

        calling(&ann, "SuspendMember").tries_to_suspend("bob").await.unwrap();
        doing.wrote("ann", "SuspendMember", &[told("member.suspended", json!({"user_id": "bob", "role": "admin"}))]).await;
        calling(&ann, "ReactivateMember").tries_to_reactivate("bob").await.unwrap();
        doing.wrote("ann", "ReactivateMember", &[told("member.reactivated", json!({"user_id": "bob", "role": "admin"}))]).await;

        let request = pb::TransferOwnershipRequest { organization_id: acme.clone(), user_id: "bob".into(), ..Default::default() };
        answer(calling(&ann, "TransferOwnership").members().transfer_ownership(request).await).unwrap();
        doing.wrote("ann", "TransferOwnership", &[
            changed("bob", "admin", "owner"),
            changed("ann", "owner", "admin"),
            told("ownership.transferred", json!({"from_user_id": "ann", "to_user_id": "bob", "former_holder_role": "admin"})),
        ]).await;

        let bob = world.person("bob").acting_in(&acme, "owner");
        calling(&bob, "RemoveMember").tries_to_remove("cas").await.unwrap();
        doing.wrote("bob", "RemoveMember", &[told("member.removed", json!({"user_id": "cas", "role": "admin", "workspace_ids": []}))]).await;
        let request = pb::BatchRemoveMembersRequest {
            organization_id: acme.clone(),
            user_ids: ["fay", "dee", "fay"].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        answer(calling(&bob, "BatchRemoveMembers").members().batch_remove_members(request).await).unwrap();
        doing.wrote("bob", "BatchRemoveMembers", &[
            told("member.removed", json!({"user_id": "fay", "role": "member", "workspace_ids": []})),
            told("member.removed", json!({"user_id": "dee", "role": "member", "workspace_ids": []})),
        ]).await;
        calling(&ann, "LeaveOrganization").tries_to_leave().await.unwrap();
        doing.wrote("ann", "LeaveOrganization", &[told("member.left", json!({"user_id": "ann", "role": "admin", "workspace_ids": []}))]).await;

        calling(&bob, "UpdateSubscription").tries_to_set_seats(60).await.unwrap();
        doing.wrote("bob", "UpdateSubscription", &[told("subscription.seats_changed", json!({"before": 50, "after": 60}))]).await;
        let purge_time = (world.clock.now() + TimeDelta::days(30)).to_rfc3339();
        calling(&bob, "DeleteOrganization").tries_to_delete().await.unwrap();
        doing.wrote("bob", "DeleteOrganization", &[told("organization.deleted", json!({"purge_time": purge_time}))]).await;
        calling(&bob, "UndeleteOrganization").tries_to_undelete().await.unwrap();
        doing.wrote("bob", "UndeleteOrganization", &[told("organization.undeleted", json!({}))]).await;

        let at = world.clock.now() - TimeDelta::minutes(3);
        let sign_in = pb::RecordSignInRequest {
            organization_id: acme.clone(),
            user_id: "bob".into(),
            sign_in_time: Some(prost_types::Timestamp { seconds: at.timestamp(), nanos: 0 }),
            email: "bob.new@example.com".into(),
            ..Default::default()
        };
        let service = in_call(&world.service("identity"), "of-the-service");
        answer(service.members().record_sign_in(sign_in).await).unwrap();
        let written = doing.log.next(None, Some("identity"), "of-the-service").await;
        assert_eq!(written, [told("member.signed_in", json!({"user_id": "bob", "sign_in_time": at.to_rfc3339(), "changed": ["email"]}))]);

        let own = calling(&world.person("gus"), "EnsureDefaultOrganization").signs_in().await.organization.unwrap();
        let Doing { mut done, .. } = doing;
        let mut doing = Doing { log: Log::of(&world, &own.organization_id), done: BTreeSet::new() };
        doing.wrote("gus", "EnsureDefaultOrganization", &[
            told("organization.created", json!({"name": "gus", "slug": "gus", "plan_id": "roomy", "seats": 50})),
            told("member.joined", json!({"user_id": "gus", "role": "owner", "invitation_id": null, "domain": null, "workspace_ids": []})),
        ]).await;

        done.extend(doing.done);
        done.insert("RecordSignIn".into());
        done.extend(crate::events_of_billing::TOLD.iter().map(|rpc| (*rpc).to_owned()));
        done.extend(crate::events_of_products::TOLD.iter().map(|rpc| (*rpc).to_owned()));
        // They have what was told already told again.
        done.extend(["RetryMail", "RedeliverWebhooks"].map(str::to_owned));
        assert_eq!(done, mutating(), "an RPC whose events are told neither here nor there");
        world.end().await;
    }

    async fn a_service_that_acts_for_a_user_is_named_beside_them(backend: Backend) {
        let world = big_world(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut log = Log::of(&world, &ann.organization_id);
        log.read = 2;
        let mut through = in_call(&ann, "by-hand");
        through.identity.0.push(("x-service", "admin-centre".into()));
        through.tries_to_set_seats(7).await.unwrap();
        let written = log.next(Some("ann"), Some("admin-centre"), "by-hand").await;
        assert_eq!(written, [told("subscription.seats_changed", json!({"before": 50, "after": 7}))]);
        world.end().await;
    }

    async fn a_call_without_an_id_gets_one_which_the_answer_tells(backend: Backend) {
        let world = big_world(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut log = Log::of(&world, &ann.organization_id);
        log.read = 2;
        let set = |seats: i64| pb::UpdateSubscriptionRequest { organization_id: ann.organization_id.clone(), seats: Some(seats), ..Default::default() };
        let answered = ann.billing().update_subscription(set(7)).await.unwrap();
        let generated = answered.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
        assert!(uuid::Uuid::parse_str(&generated).is_ok(), "{generated}");
        assert_eq!(log.next(Some("ann"), None, &generated).await.len(), 1);
        // One that is too long, or not of visible letters, is none.
        for (seats, indecent) in (8..).zip([&"x".repeat(129), "a b", ""]) {
            let answered = in_call(&ann, indecent).billing().update_subscription(set(seats)).await.unwrap();
            let generated = answered.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
            assert!(uuid::Uuid::parse_str(&generated).is_ok(), "{generated}");
            assert_eq!(log.next(Some("ann"), None, &generated).await.len(), 1);
        }
        let longest = "y".repeat(128);
        in_call(&ann, &longest).tries_to_set_seats(20).await.unwrap();
        assert_eq!(log.next(Some("ann"), None, &longest).await.len(), 1);
        world.end().await;
    }

    async fn what_changes_nothing_writes_nothing(backend: Backend) {
        let world = big_world(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "admin").await;
        ann.brings("cas", "member").await;
        ann.tries_to_suspend("cas").await.unwrap();
        world.person("gus").signs_in().await;
        let before = (world.events(&ann.organization_id).await, world.number("SELECT count(*) FROM event").await);
        let organization = ann.organization().await;
        ann.tries_to_update(&["name", "slug", "description", "logo_uri"], organization).await.unwrap();
        ann.tries_to_change_role("bob", "admin").await.unwrap();
        let request = pb::BatchUpdateMemberRolesRequest {
            organization_id: ann.organization_id.clone(),
            updates: vec![update("bob", "admin"), update("cas", "member")],
            ..Default::default()
        };
        answer(ann.members().batch_update_member_roles(request).await).unwrap();
        ann.tries_to_suspend("cas").await.unwrap();
        ann.tries_to_reactivate("bob").await.unwrap();
        ann.tries_to_set_seats(50).await.unwrap();
        world.person("gus").signs_in().await;
        assert_eq!(world.events(&ann.organization_id).await, before.0);
        assert_eq!(world.number("SELECT count(*) FROM event").await, before.1);
        world.end().await;
    }

    async fn a_refused_call_and_a_rehearsal_write_nothing_and_a_repeated_one_nothing_more(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let sent = ann.invites(&["cas@example.com"], "member").await;
        let events = async || world.number("SELECT count(*) FROM event").await;
        let before = events().await;

        let reasons = [
            ann.tries_to_invite(&["x@example.com", "y@example.com"], "member").await.unwrap_err(),
            ann.tries_to_invite(&["bob@example.com"], "member").await.unwrap_err(),
            ann.tries_to_invite(&["nonsense"], "member").await.unwrap_err(),
            bob.tries_to_invite(&["x@example.com"], "member").await.unwrap_err(),
            ann.tries_to_change_role("ann", "member").await.unwrap_err(),
            ann.tries_to_leave().await.unwrap_err(),
            ann.tries_to_remove("nobody").await.unwrap_err(),
            ann.tries_to_set_seats(2).await.unwrap_err(),
            ann.tries_to_undelete().await.unwrap_err(),
            world.person("zed").tries_to_accept(&sent[0].token).await.unwrap_err(),
            world.person("zed").acting_in(&ann.organization_id, "owner").tries_to_delete().await.unwrap_err(),
        ].map(|refused| refused.reason);
        assert_eq!(reasons, [
            "SEAT_LIMIT_REACHED", "ALREADY_MEMBER", "INVALID_FIELDS", "ROLE_LACKS_PERMISSION", "SELF_CHANGE_FORBIDDEN",
            "LAST_OWNER", "MEMBER_NOT_FOUND", "SEATS_BELOW_USED", "ORGANIZATION_NOT_DELETED", "INVITATION_EMAIL_MISMATCH",
            "NOT_A_MEMBER",
        ]);
        assert_eq!(events().await, before, "after refusals");

        let organization_id = ann.organization_id.clone();
        let rehearsed = pb::InviteMembersRequest {
            organization_id: organization_id.clone(), emails: vec!["x@example.com".into()], role: "member".into(),
            validate_only: true, ..Default::default()
        };
        answer(ann.members().invite_members(rehearsed).await).unwrap();
        let rehearsed = pb::AcceptInvitationRequest { invitation: Some(by_token(&sent[0].token)), validate_only: true, ..Default::default() };
        answer(world.person("cas").members().accept_invitation(rehearsed).await).unwrap();
        let rehearsed = pb::UpdateSubscriptionRequest { organization_id: organization_id.clone(), seats: Some(9), validate_only: true, ..Default::default() };
        answer(ann.billing().update_subscription(rehearsed).await).unwrap();
        let rehearsed = pb::CreateOrganizationRequest { name: "New".into(), validate_only: true, ..Default::default() };
        world.person("zed").tries_to_create(rehearsed).await.unwrap();
        assert_eq!(events().await, before, "after rehearsals");

        let repeated = pb::UpdateSubscriptionRequest {
            organization_id, seats: Some(9), request_id: "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70".into(), ..Default::default()
        };
        for _ in 0..3 {
            answer(ann.billing().update_subscription(repeated.clone()).await).unwrap();
            assert_eq!(events().await, before + 1, "done once");
        }
        world.end().await;
    }

    async fn a_change_whose_events_cannot_be_written_is_not_made(backend: Backend) {
        let world = big_world(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com"], "member").await;
        // Something stands where the next event belongs.
        let columns = "event_id, type, subject_kind, subject_id, occurred_at, actor_user_id, actor_service, request_id, payload";
        world.execute(&format!("INSERT INTO event (organization_id, number, {columns}) SELECT organization_id, 4, {columns} FROM event WHERE number = 3")).await.unwrap();
        let before = (ann.organization().await, ann.members_and_roles().await, ann.seats().await);
        let new = pb::Organization { name: "New".into(), ..Default::default() };
        let refused = [
            ann.tries_to_update(&["name"], new.clone()).await.unwrap_err(),
            ann.tries_to_invite(&["cas@example.com"], "member").await.unwrap_err(),
            ann.tries_to_set_seats(60).await.unwrap_err(),
            world.person("bob").tries_to_accept(&sent[0].token).await.unwrap_err(),
            ann.tries_to_delete().await.unwrap_err(),
        ];
        assert!(refused.iter().all(|refused| refused.code == Code::Internal), "{refused:?}");
        assert_eq!((ann.organization().await, ann.members_and_roles().await, ann.seats().await), before);
        assert_eq!(world.number("SELECT count(*) FROM invitation").await, 1);
        world.execute("DELETE FROM event WHERE number = 4").await.unwrap();
        ann.tries_to_update(&["name"], new).await.unwrap();
        world.person("bob").accepts(&sent[0].token).await;
        assert_eq!(world.events(&ann.organization_id).await.len(), 6);
        world.end().await;
    }

    async fn no_token_is_stored_anywhere_and_no_email_address_in_the_log(backend: Backend) {
        let world = big_world(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let request = pb::InviteMembersRequest {
            organization_id: ann.organization_id.clone(),
            emails: ["bob@example.com", "cas@example.com", "dee@example.com"].map(str::to_owned).to_vec(),
            role: "member".into(),
            request_id: "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70".into(),
            ..Default::default()
        };
        let sent = answer(ann.members().invite_members(request).await).unwrap().invited;
        let mut tokens: Vec<String> = sent.iter().map(|invited| invited.token.clone()).collect();
        world.person("bob").accepts(&tokens[0]).await;
        tokens.push(ann.tries_to_resend(id_of(&sent[1])).await.unwrap().token);
        let request = pb::DeclineInvitationRequest { invitation: Some(by_token(&tokens[3])), ..Default::default() };
        answer(world.person("cas").members().decline_invitation(request).await).unwrap();
        ann.tries_to_cancel(&[id_of(&sent[2])]).await.unwrap();
        let sign_in = pb::RecordSignInRequest {
            organization_id: ann.organization_id.clone(), user_id: "bob".into(), email: "bob.new@example.com".into(), ..Default::default()
        };
        answer(world.service("identity").members().record_sign_in(sign_in).await).unwrap();
        world.person("gus").signs_in().await;

        let stored = Stored::of(&world).await;
        assert!(stored.has(b"bob@example.com"), "what is stored was looked for in the wrong place");
        for token in &tokens {
            let secret = &URL_SAFE_NO_PAD.decode(token).unwrap()[32..];
            assert!(!stored.has(token.as_bytes()) && !stored.has(secret), "a token is stored");
        }
        let log = Stored::of_table(&world, "event").await;
        assert!(log.has(b"invitation.resent") && !log.has(b"@"), "an e-mail address stands in the log");
        world.end().await;
    }
}

/// The text of tables, with what is binary in them as bytes.
struct Stored(Vec<u8>);

impl Stored {
    async fn of(world: &World) -> Self {
        let mut all = Vec::new();
        for table in ["organization", "membership", "invitation", "subscription", "event", "stored_answer"] {
            all.extend(Self::of_table(world, table).await.0);
        }
        Self(all)
    }

    async fn of_table(world: &World, table: &str) -> Self {
        let database = world.database().await;
        let columns = match world.backend {
            Backend::Sqlite => format!("SELECT name, type FROM pragma_table_info('{table}')"),
            Backend::Postgres => format!(
                "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = '{table}'"
            ),
        };
        let rows = |sql: String| database.query_all_raw(Statement::from_string(database.get_database_backend(), sql));
        let mut stored = Vec::new();
        for column in rows(columns).await.expect("columns") {
            let (name, kind): (String, String) =
                (column.try_get_by_index(0).unwrap(), column.try_get_by_index(1).unwrap());
            // Random bytes may look like anything.
            if kind.eq_ignore_ascii_case("uuid") {
                continue;
            }
            if kind.eq_ignore_ascii_case("bytea") {
                for row in rows(format!("SELECT {name} FROM {table}")).await.expect("bytes") {
                    stored.extend(row.try_get_by_index::<Vec<u8>>(0).unwrap());
                }
            } else {
                for row in rows(format!("SELECT CAST({name} AS text) FROM {table}")).await.expect("text") {
                    let text = row.try_get_by_index::<Option<Vec<u8>>>(0).ok().flatten();
                    let text = text
                        .or_else(|| row.try_get_by_index::<Option<String>>(0).ok().flatten().map(String::into_bytes));
                    stored.extend(text.unwrap_or_default());
                }
            }
        }
        database.close().await.expect("a connection can be closed");
        Self(stored)
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.0.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// The binary, running, with what it writes to its log.
struct Running {
    process: Child,
    directory: TempDir,
}

impl Running {
    fn start(url: Option<&str>, secret: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let log = fs::File::create(directory.path().join("log")).expect("a log file");
        let process = Command::new(env!("CARGO_BIN_EXE_tenantry"))
            .current_dir(directory.path())
            .env("TENANTRY_LISTEN", "127.0.0.1:0")
            .env("TENANTRY_DATABASE_URL", url.unwrap_or("sqlite:test.db"))
            .env("TENANTRY_JWT_SECRET", secret)
            .env("TENANTRY_TRUST_METADATA", "true")
            .env("TENANTRY_LOG", "trace")
            .env("TENANTRY_LOG_FORMAT", "json")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary can be started");
        Self { process, directory }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("a log")
    }

    /// Looks until the log has something to say of it.
    async fn until<T>(&self, found: impl Fn(&str) -> Option<T>) -> T {
        for _ in 0..400 {
            if let Some(found) = found(&self.log()) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not in ten seconds: {}", self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn address(log: &str) -> Option<String> {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.find_map(|line| line["address"].as_str().map(str::to_owned))
}

database_tests! {
    async fn no_token_no_secret_and_no_email_address_stands_in_the_logs(backend: Backend) {
        let world = World::new(backend).await;
        let secret = "a secret of no less than thirty-two bytes";
        // A server that asks for no password takes any.
        let url = world.url.replacen("postgres://postgres@", "postgres://postgres:a-password-of-its-own@", 1);
        let running = Running::start((backend == Backend::Postgres).then_some(&url), secret);
        let address = running.until(address).await;
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();

        let claims = MintedClaims { sub: "ann".into(), email: Some("ann@example.com".into()), ..MintedClaims::default() };
        let bearer = token::mint(secret.as_bytes(), &claims, Clock::System.now(), TimeDelta::hours(1)).unwrap();
        let mut by_jwt = Person::new(channel.clone(), "ann");
        by_jwt.identity = Identity(vec![("authorization", format!("Bearer {bearer}"))]);
        let created = by_jwt.tries_to_create(pb::CreateOrganizationRequest { name: "Acme".into(), ..Default::default() }).await.unwrap();
        let ann = Person::new(channel.clone(), "ann").acting_in(&created.organization.unwrap().organization_id, "owner");
        let sent = ann.invites(&["bob@example.com", "cas@example.com"], "member").await;
        let again = ann.tries_to_resend(id_of(&sent[1])).await.unwrap().token;
        let bob = Person::new(channel.clone(), "bob");
        assert_eq!(bob.tries_to_accept(&again).await.unwrap_err().reason, "INVITATION_EMAIL_MISMATCH");
        assert_eq!(bob.tries_to_accept("not-a-token-of-anybody").await.unwrap_err().reason, "INVALID_FIELDS");
        assert_eq!(bob.tries_to_accept(&sent[1].token).await.unwrap_err().reason, "INVITATION_NOT_FOUND");
        bob.accepts(&sent[0].token).await;
        assert_eq!(ann.tries_to_invite(&["bob@example.com", "x@y@z"], "member").await.unwrap_err().reason, "INVALID_FIELDS");
        assert_eq!(ann.tries_to_invite(&["bob@example.com"], "member").await.unwrap_err().reason, "ALREADY_MEMBER");
        let mut forger = bob.clone();
        forger.identity = Identity(vec![("authorization", format!("Bearer {bearer}x"))]);
        assert_eq!(forger.tries_to_get().await.unwrap_err().reason, "TOKEN_INVALID");
        let mut confused = bob.clone();
        confused.identity.0[1].1 = "bob@@example.com, eve@example.com".into();
        assert_eq!(confused.tries_to_get().await.unwrap_err().reason, "IDENTITY_AMBIGUOUS");
        let unreadable = [b"\x0a\x0fbob@example.com".as_slice(), &[0x12, 2, 0xff, 0xfe]].concat();
        let invite = "/tenantry.v1.MembershipService/InviteMembers";
        raw::send(&channel, invite, &ann.identity, &unreadable).await.outcome.unwrap_err();
        let received = bob.members().list_received_invitations(pb::ListReceivedInvitationsRequest::default()).await;
        assert!(answer(received).is_ok());
        let sign_in = pb::RecordSignInRequest {
            organization_id: ann.organization_id.clone(), user_id: "bob".into(), email: "bob.new@example.com".into(), ..Default::default()
        };
        let service = Person::service(channel.clone(), "identity");
        answer(service.members().record_sign_in(sign_in).await).unwrap();

        let rpcs = |log: &str| log.lines().filter(|line| line.contains(r#""message":"rpc""#) && line.contains("/tenantry.v1.")).count();
        running.until(|log| (rpcs(log) >= 14).then_some(())).await;
        let log = running.log();
        assert_eq!(rpcs(&log), 14, "one line a call");
        assert!(log.contains(r#""reason":"INVITATION_EMAIL_MISMATCH""#) && log.contains(r#""user":"bob""#));
        let secrets = [secret, &bearer, &again, &sent[0].token, &sent[1].token, "not-a-token-of-anybody", "a-password-of-its-own", "@"];
        for line in log.lines() {
            for secret in secrets {
                assert!(!line.contains(secret), "{secret} stands in the log: {line}");
            }
        }
        world.end().await;
    }
}
