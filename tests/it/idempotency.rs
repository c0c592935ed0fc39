//! The same request sent again: done once, answered alike, for 24 hours; and what the worker clears away afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use ring::digest::{SHA256, digest};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement, TransactionTrait as _};
use tenantry::pb;
use tenantry::worker;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::harness::binary::until;
use crate::harness::person::{Person, answer, by_token};
use crate::harness::race::{Deed, at_once, spread};
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};

/// Two servers where the database can have them, and this many seats for every organization.
async fn world_with_seats(backend: Backend, seats: i64) -> World {
    let setup = Setup { plans: Some(plans_with_seats(seats)), servers: 2, ..Setup::default() };
    World::with(backend, setup).await
}

/// A `request_id` by its number.
fn id(number: u64) -> String {
    format!("5f0c2f6e-9a4b-4d0e-8a3b-{number:012x}")
}

/// Sends a request twenty times at once, all servers in turn; each must be answered alike. Gives the answer.
macro_rules! at_once_twenty_times {
    ($world:expr, $person:expr, $service:ident.$method:ident($request:expr)) => {{
        let request = $request;
        let calls = (0..20).map(|number| {
            let (person, request) = (spread(&$world, &$person, number), request.clone());
            async move { answer(person.$service().$method(request).await) }
        });
        let mut answers = at_once(calls).await;
        let first = answers.pop().expect("twenty answers").unwrap_or_else(|refused| panic!("{refused:?}"));
        assert!(answers.iter().all(|answer| answer.as_ref() == Ok(&first)), "not alike: {first:?}, {answers:?}");
        first
    }};
}

/// Sends a request once.
macro_rules! once {
    ($person:expr, $service:ident.$method:ident($request:expr)) => {
        answer($person.$service().$method($request).await)
    };
}

/// Repetitions that are sent later, when much has happened in between.
type Later = Vec<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// Sends a request twenty times at once, and puts its repetition on the list.
macro_rules! now_and_later {
    ($later:expr, $world:expr, $person:expr, $service:ident.$method:ident($request:expr)) => {{
        let (person, request) = ($person.clone(), $request);
        let first = at_once_twenty_times!($world, person, $service.$method(request.clone()));
        let expected = first.clone();
        $later.push(Box::pin(async move {
            assert_eq!(once!(person, $service.$method(request)), Ok(expected), "repeated later");
        }));
        first
    }};
}

/// What the log of an organization has gained.
struct Log {
    organization_id: String,
    read: usize,
}

impl Log {
    async fn gained(&mut self, world: &World, expected: &[&str]) {
        let events = world.events(&self.organization_id).await;
        assert_eq!(events[self.read..], *expected);
        self.read = events.len();
    }
}

database_tests! {
    #[expect(clippy::too_many_lines, reason = "one story of every change there is")]
    async fn every_change_sent_twenty_times_at_once_is_done_once_and_answered_alike_even_later(backend: Backend) {
        let world = world_with_seats(backend, 12).await;
        let mut later: Later = Vec::new();
        let request = pb::CreateOrganizationRequest {
            name: "Acme".into(),
            slug: "acme".into(),
            request_id: id(1),
            ..Default::default()
        };
        let ann = world.person("ann");
        let made = now_and_later!(later, world, ann, organizations.create_organization(request));
        let organization_id = made.organization.unwrap().organization_id;
        let ann = ann.acting_in(&organization_id, "owner");
        let mut log = Log { organization_id: organization_id.clone(), read: 0 };
        log.gained(&world, &["organization.created", "member.joined"]).await;

        let request = pb::UpdateOrganizationRequest {
            organization_id: organization_id.clone(),
            organization: Some(pb::Organization {
                name: "Acme & Co".into(),
                slug: "acme-co".into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["name".into(), "slug".into()] }),
            request_id: id(2),
            ..Default::default()
        };
        now_and_later!(later, world, ann, organizations.update_organization(request));
        log.gained(&world, &["organization.updated"]).await;

        let seats = |seats, number| pb::UpdateSubscriptionRequest {
            organization_id: organization_id.clone(),
            seats: Some(seats),
            request_id: id(number),
            ..Default::default()
        };
        now_and_later!(later, world, ann, billing.update_subscription(seats(11, 3)));
        log.gained(&world, &["subscription.seats_changed"]).await;

        let invited = now_and_later!(
            later,
            world,
            ann,
            members.invite_members(invitation(&ann, &["bob", "cas", "dee", "eve"], 4))
        );
        log.gained(&world, &["invitation.created"; 4]).await;
        assert_eq!(ann.seats().await, "5 / 11 seats");
        let [bob, cas, dee, eve] = invited.invited.try_into().unwrap();

        let request = pb::ResendInvitationRequest {
            organization_id: organization_id.clone(),
            invitation_id: dee.invitation.unwrap().invitation_id,
            request_id: id(5),
            ..Default::default()
        };
        let dee = now_and_later!(later, world, ann, members.resend_invitation(request));
        log.gained(&world, &["invitation.resent"]).await;

        let request = pb::CancelInvitationsRequest {
            organization_id: organization_id.clone(),
            invitation_ids: vec![eve.invitation.unwrap().invitation_id],
            request_id: id(6),
            ..Default::default()
        };
        now_and_later!(later, world, ann, members.cancel_invitations(request));
        log.gained(&world, &["invitation.canceled"]).await;

        let accept = |token: &str| pb::AcceptInvitationRequest {
            invitation: Some(by_token(token)),
            request_id: id(7),
            ..Default::default()
        };
        now_and_later!(later, world, world.person("bob"), members.accept_invitation(accept(&bob.token)));
        now_and_later!(later, world, world.person("dee"), members.accept_invitation(accept(&dee.token)));
        log.gained(&world, &["invitation.accepted", "member.joined", "invitation.accepted", "member.joined"]).await;

        let request = pb::DeclineInvitationRequest {
            invitation: Some(by_token(&cas.token)),
            request_id: id(8),
            ..Default::default()
        };
        now_and_later!(later, world, world.person("cas"), members.decline_invitation(request));
        log.gained(&world, &["invitation.declined"]).await;
        assert_eq!(ann.seats().await, "3 / 11 seats");

        let request = pb::RecordSignInRequest {
            organization_id: organization_id.clone(),
            user_id: "bob".into(),
            request_id: id(9),
            ..Default::default()
        };
        now_and_later!(later, world, world.service("idp"), members.record_sign_in(request));
        log.gained(&world, &["member.signed_in"]).await;

        let request = pb::UpdateMemberRoleRequest {
            organization_id: organization_id.clone(),
            user_id: "bob".into(),
            role: "admin".into(),
            request_id: id(10),
            ..Default::default()
        };
        now_and_later!(later, world, ann, members.update_member_role(request));
        let update = |user_id: &str| pb::MemberRoleUpdate {
            user_id: user_id.into(),
            role: "owner".into(),
            ..Default::default()
        };
        let request = pb::BatchUpdateMemberRolesRequest {
            organization_id: organization_id.clone(),
            updates: vec![update("dee"), update("bob")],
            request_id: id(11),
            ..Default::default()
        };
        now_and_later!(later, world, ann, members.batch_update_member_roles(request));
        log.gained(&world, &["member.role_changed"; 3]).await;

        let request = pb::SuspendMemberRequest {
            organization_id: organization_id.clone(),
            user_id: "dee".into(),
            request_id: id(12),
            ..Default::default()
        };
        now_and_later!(later, world, ann, members.suspend_member(request));
        let request = pb::ReactivateMemberRequest {
            organization_id: organization_id.clone(),
            user_id: "dee".into(),
            request_id: id(13),
            ..Default::default()
        };
        now_and_later!(later, world, ann, members.reactivate_member(request));
        log.gained(&world, &["member.suspended", "member.reactivated"]).await;

        now_and_later!(later, world, ann, members.remove_member(removal(&ann, "dee", 14)));
        log.gained(&world, &["member.removed"]).await;
        ann.brings("fay", "member").await;
        ann.brings("gus", "member").await;
        log.read += 6;
        let request = pb::BatchRemoveMembersRequest {
            organization_id: organization_id.clone(),
            user_ids: vec!["gus".into(), "fay".into()],
            request_id: id(15),
            ..Default::default()
        };
        now_and_later!(later, world, ann, members.batch_remove_members(request));
        log.gained(&world, &["member.removed"; 2]).await;

        // Bob, an owner too, hands his role on and leaves. Neither call could be made again, but both are answered.
        let bob = world.person("bob").acting_in(&organization_id, "owner");
        let request = pb::TransferOwnershipRequest {
            organization_id: organization_id.clone(),
            user_id: "ann".into(),
            own_role: "member".into(),
            request_id: id(16),
            ..Default::default()
        };
        now_and_later!(later, world, bob, members.transfer_ownership(request));
        log.gained(&world, &["member.role_changed", "ownership.transferred"]).await;
        now_and_later!(later, world, bob, members.leave_organization(leaving(&bob, 17)));
        log.gained(&world, &["member.left"]).await;

        let request = pb::DeleteOrganizationRequest {
            organization_id: organization_id.clone(),
            request_id: id(18),
            ..Default::default()
        };
        now_and_later!(later, world, ann, organizations.delete_organization(request));
        let request = pb::UndeleteOrganizationRequest {
            organization_id: organization_id.clone(),
            request_id: id(19),
            ..Default::default()
        };
        now_and_later!(later, world, ann, organizations.undelete_organization(request));
        log.gained(&world, &["organization.deleted", "organization.undeleted"]).await;

        once!(ann, billing.update_subscription(seats(9, 20))).unwrap();
        let request = pb::EnsureDefaultOrganizationRequest { request_id: id(21), ..Default::default() };
        let own = now_and_later!(later, world, world.person("ann"), organizations.ensure_default_organization(request));
        assert!(own.created);
        let before = everything(&world).await;
        world.pass(TimeDelta::hours(24) - TimeDelta::microseconds(1));
        assert_eq!(later.len(), 21);
        for repetition in later {
            repetition.await;
        }
        assert_eq!(everything(&world).await, before, "what was repeated left a trace");
        world.end().await;
    }

    async fn founding_twenty_times_at_once_founds_one(backend: Backend) {
        let world = world_with_seats(backend, 4).await;
        for round in 0..8 {
            // With a slug of one's own, the first call takes it from the others; without one, each makes one up.
            let slug = if round % 2 == 0 { format!("acme-{round}") } else { String::new() };
            let name = "Acme".to_owned();
            let request = pb::CreateOrganizationRequest { name, slug, request_id: id(round), ..Default::default() };
            at_once_twenty_times!(world, world.person("ann"), organizations.create_organization(request));
        }
        assert_eq!(world.number("SELECT count(*) FROM organization").await, 8);
        world.end().await;
    }

    async fn a_request_id_with_another_request_is_refused(backend: Backend) {
        let world = world_with_seats(backend, 8).await;
        let ann = world.person("ann");
        let found =
            |name: &str| pb::CreateOrganizationRequest { name: name.into(), request_id: id(1), ..Default::default() };
        let made = once!(ann, organizations.create_organization(found("Acme"))).unwrap();
        let ann = ann.acting_in(&made.organization.unwrap().organization_id, "owner");
        let sent = once!(ann, members.invite_members(invitation(&ann, &["bob", "cas"], 2))).unwrap();
        let accept = |token: &str, number| pb::AcceptInvitationRequest {
            invitation: Some(by_token(token)),
            request_id: id(number),
            ..Default::default()
        };
        let (bob, token) = (world.person("bob"), &sent.invited[0].token);
        once!(bob, members.accept_invitation(accept(token, 3))).unwrap();
        // The wire form of these two is the same.
        let suspension = pb::SuspendMemberRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "bob".into(),
            request_id: id(4),
            ..Default::default()
        };
        let reactivation = pb::ReactivateMemberRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "bob".into(),
            request_id: id(4),
            ..Default::default()
        };
        once!(ann, members.suspend_member(suspension)).unwrap();
        let before = everything(&world).await;

        let mut fewer = invitation(&ann, &["bob"], 2);
        let mut turned = invitation(&ann, &["cas", "bob"], 2);
        turned.role = "member".into();
        fewer.ttl = Some(prost_types::Duration { seconds: 86_400, nanos: 0 });
        let another_name = pb::AcceptInvitationRequest {
            profile: Some(pb::UserProfile { display_name: "Bob".into(), ..Default::default() }),
            ..accept(token, 3)
        };
        let decline =
            pb::DeclineInvitationRequest { invitation: Some(by_token(token)), request_id: id(3), ..Default::default() };
        let refusals = [
            once!(ann, members.invite_members(fewer)).map(drop),
            once!(ann, members.invite_members(turned)).map(drop),
            // Another call with the same fields.
            once!(ann, members.remove_member(removal(&ann, "bob", 2))).map(drop),
            once!(ann, members.leave_organization(leaving(&ann, 2))).map(drop),
            once!(ann, members.reactivate_member(reactivation)).map(drop),
            // What concerns no organization yet is known by the user.
            once!(ann, organizations.create_organization(found("Birch"))).map(drop),
            once!(bob, members.accept_invitation(another_name)).map(drop),
            once!(bob, members.decline_invitation(decline)).map(drop),
            once!(
                bob,
                organizations.create_organization(pb::CreateOrganizationRequest { request_id: id(3), ..found("Bob") })
            )
            .map(drop),
        ];
        for (number, refusal) in refusals.into_iter().enumerate() {
            let refused = refusal.expect_err("a reused request_id");
            assert_eq!(refused.is(), (Code::InvalidArgument, "REQUEST_ID_REUSED"), "refusal {number}");
            assert_eq!(refused.fields, ["request_id"]);
        }
        assert_eq!(everything(&world).await, before);
        world.end().await;
    }

    async fn of_two_requests_with_one_id_sent_at_once_one_is_done(backend: Backend) {
        let world = world_with_seats(backend, 8).await;
        for round in 0..4 {
            let ann = world.person("ann").founds("Acme").await;
            let calls = (0..20).map(|number| {
                let ann = spread(&world, &ann, number / 2);
                async move {
                    let guest = if number % 2 == 0 { "bob" } else { "cas" };
                    once!(ann, members.invite_members(invitation(&ann, &[guest], 1)))
                }
            });
            one_done(&at_once(calls).await);
            assert_eq!(ann.seats().await, "2 / 8 seats");

            // Nothing is locked for these: only the stored answer tells the one from the other.
            let calls = (0..20).map(|number| {
                let founder = spread(&world, &world.person(&format!("user{round}")), number / 2);
                async move {
                    let name = if number % 2 == 0 { "Birch" } else { "Cedar" };
                    let request =
                        pb::CreateOrganizationRequest { name: name.into(), request_id: id(1), ..Default::default() };
                    once!(founder, organizations.create_organization(request))
                }
            });
            one_done(&at_once(calls).await);
        }
        assert_eq!(world.number("SELECT count(*) FROM organization").await, 8);
        world.end().await;
    }

    async fn a_request_id_is_the_callers_own_and_the_organizations(backend: Backend) {
        let world = world_with_seats(backend, 8).await;
        let ann = world.person("ann").founds("Acme").await;
        let elsewhere = world.person("ann").founds("Birch").await;
        let bob = ann.brings("bob", "admin").await;
        for (by, guest) in [(&ann, "cas"), (&bob, "dee"), (&elsewhere, "eve")] {
            let sent = once!(by, members.invite_members(invitation(by, &[guest], 1))).unwrap();
            assert!(!sent.invited[0].resent);
        }
        // The very same request from another caller is another request.
        let again = once!(bob, members.invite_members(invitation(&bob, &["cas"], 2))).unwrap();
        let first = once!(ann, members.invite_members(invitation(&ann, &["cas"], 2))).unwrap();
        assert!(again.invited[0].resent && first.invited[0].resent && again != first);

        let sign_in = |seconds| pb::RecordSignInRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "bob".into(),
            sign_in_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            request_id: id(1),
            ..Default::default()
        };
        once!(world.service("one"), members.record_sign_in(sign_in(1))).unwrap();
        once!(world.service("other"), members.record_sign_in(sign_in(2))).unwrap();
        // A service that is named like a user is not that user.
        once!(world.service("ann"), members.record_sign_in(sign_in(3))).unwrap();
        let refused = once!(world.service("one"), members.record_sign_in(sign_in(4))).unwrap_err();
        assert_eq!(refused.reason, "REQUEST_ID_REUSED");
        world.end().await;
    }

    async fn after_a_day_it_is_a_new_request(backend: Backend) {
        let world = world_with_seats(backend, 8).await;
        let ann = world.person("ann").founds("Acme").await;
        let request = || invitation(&ann, &["bob"], 1);
        let found =
            |name: &str| pb::CreateOrganizationRequest { name: name.into(), request_id: id(1), ..Default::default() };
        let first = once!(ann, members.invite_members(request())).unwrap();
        once!(ann, organizations.create_organization(found("Birch"))).unwrap();
        world.pass(TimeDelta::hours(24) - TimeDelta::microseconds(1));
        assert_eq!(once!(ann, members.invite_members(request())), Ok(first.clone()));
        let refused = once!(ann, organizations.create_organization(found("Cedar"))).unwrap_err();
        assert_eq!(refused.reason, "REQUEST_ID_REUSED");

        world.pass(TimeDelta::microseconds(1));
        let anew = at_once_twenty_times!(world, ann, members.invite_members(request()));
        assert!(anew.invited[0].resent && anew.invited[0].token != first.invited[0].token);
        // It is kept for a day again, also where nothing is locked and all of them forget the old answer at once.
        let cedar = at_once_twenty_times!(world, ann, organizations.create_organization(found("Cedar")));
        assert_eq!(cedar.organization.unwrap().name, "Cedar");
        world.pass(TimeDelta::hours(24) - TimeDelta::microseconds(1));
        assert_eq!(once!(ann, members.invite_members(request())), Ok(anew));
        for day in 1..=4 {
            world.pass(TimeDelta::hours(24));
            at_once_twenty_times!(world, ann, organizations.create_organization(found("Cedar")));
            let made = world.number("SELECT count(*) FROM organization").await;
            assert_eq!(made, 3 + day, "one organization a day");
        }
        world.end().await;
    }

    async fn a_refusal_is_not_kept(backend: Backend) {
        let world = world_with_seats(backend, 3).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        let before = world.number("SELECT count(*) FROM stored_answer").await;
        let request = || invitation(&ann, &["cas", "dee"], 1);
        for _ in 0..2 {
            let refused = once!(ann, members.invite_members(request())).unwrap_err();
            assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        }
        let faulty = pb::InviteMembersRequest { role: "emperor".into(), ..request() };
        assert_eq!(once!(ann, members.invite_members(faulty)).unwrap_err().reason, "INVALID_FIELDS");
        assert_eq!(world.number("SELECT count(*) FROM stored_answer").await, before);
        // Once there is room, the same request with the same id is done; and so it would be with another payload.
        ann.tries_to_remove("bob").await.unwrap();
        let done = once!(ann, members.invite_members(request())).unwrap();
        assert_eq!(once!(ann, members.invite_members(request())), Ok(done));

        let wanted = |slug: &str| pb::CreateOrganizationRequest {
            name: "Acme".into(),
            slug: slug.into(),
            request_id: id(2),
            ..Default::default()
        };
        assert_eq!(once!(ann, organizations.create_organization(wanted("acme"))).unwrap_err().reason, "SLUG_TAKEN");
        once!(ann, organizations.create_organization(wanted("acme-2"))).unwrap();
        world.end().await;
    }

    async fn who_lost_the_right_is_answered_only_if_the_call_itself_ended_it(backend: Backend) {
        let world = world_with_seats(backend, 12).await;
        let ann = world.person("ann").founds("Acme").await;
        let invites = |by: &Person| {
            let (by, request) = (by.clone(), invitation(by, &["guest"], 1));
            async move { once!(by, members.invite_members(request)) }
        };
        let bob = ann.brings("bob", "admin").await;
        let first = invites(&bob).await.unwrap();

        ann.does(Deed::Suspend("bob".into())).await.unwrap();
        assert_eq!(invites(&bob).await.unwrap_err().is(), (Code::PermissionDenied, "MEMBER_SUSPENDED"));
        ann.does(Deed::Reactivate("bob".into())).await.unwrap();
        ann.tries_to_change_role("bob", "member").await.unwrap();
        assert_eq!(invites(&bob).await.unwrap_err().is(), (Code::PermissionDenied, "ROLE_STALE"));
        ann.tries_to_change_role("bob", "admin").await.unwrap();
        assert_eq!(invites(&bob).await, Ok(first), "with the right came back the answer");
        ann.tries_to_remove("bob").await.unwrap();
        assert_eq!(invites(&bob).await.unwrap_err().is(), (Code::PermissionDenied, "NOT_A_MEMBER"));

        let cas = ann.brings("cas", "member").await;
        let left = once!(cas, members.leave_organization(leaving(&cas, 2))).unwrap();
        assert_eq!(once!(cas, members.leave_organization(leaving(&cas, 2))), Ok(left.clone()));
        // But not another's answer, and not to another request.
        let dee = ann.brings("dee", "member").await;
        ann.tries_to_remove("dee").await.unwrap();
        for (who, number) in [(&dee, 2), (&cas, 3)] {
            let refused = once!(who, members.leave_organization(leaving(who, number))).unwrap_err();
            assert_eq!(refused.is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        }
        // Nor to the same request once its time is over.
        world.pass(TimeDelta::hours(24));
        let refused = once!(cas, members.leave_organization(leaving(&cas, 2))).unwrap_err();
        assert_eq!(refused.reason, "NOT_A_MEMBER");

        let eve = ann.brings("eve", "member").await;
        let transfer = |number| pb::TransferOwnershipRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "eve".into(),
            request_id: id(number),
            ..Default::default()
        };
        let handed = once!(ann, members.transfer_ownership(transfer(4))).unwrap();
        assert_eq!(once!(ann, members.transfer_ownership(transfer(4))), Ok(handed));
        assert_eq!(once!(ann, members.transfer_ownership(transfer(5))).unwrap_err().reason, "ROLE_STALE");

        let eve = eve.acting_in(&eve.organization_id, "owner");
        let delete = |number| pb::DeleteOrganizationRequest {
            organization_id: eve.organization_id.clone(),
            request_id: id(number),
            ..Default::default()
        };
        let deleted = once!(eve, organizations.delete_organization(delete(6))).unwrap();
        assert_eq!(once!(eve, organizations.delete_organization(delete(6))), Ok(deleted));
        assert_eq!(
            once!(eve, organizations.delete_organization(delete(7))).unwrap_err().reason,
            "ORGANIZATION_DELETED"
        );
        world.end().await;
    }

    async fn a_rehearsal_leaves_no_trace_and_takes_no_id(backend: Backend) {
        let world = world_with_seats(backend, 8).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        let sent = ann.invites(&["cas@example.com"], "member").await;
        let before = everything(&world).await;
        let organization_id = ann.organization_id.clone();
        let request = |guest: &str| pb::InviteMembersRequest { validate_only: true, ..invitation(&ann, &[guest], 1) };

        let rehearsed = once!(ann, members.invite_members(request("dee"))).unwrap();
        assert!(rehearsed.invited[0].token.is_empty() && !rehearsed.invited[0].resent);
        once!(ann, members.invite_members(request("eve"))).unwrap();
        once!(ann, members.remove_member(pb::RemoveMemberRequest { validate_only: true, ..removal(&ann, "bob", 1) }))
            .unwrap();
        let refused = once!(
            ann,
            members.leave_organization(pb::LeaveOrganizationRequest { validate_only: true, ..leaving(&ann, 1) })
        );
        assert_eq!(refused.unwrap_err().reason, "LAST_OWNER");
        let resent = once!(
            ann,
            members.resend_invitation(pb::ResendInvitationRequest {
                organization_id: organization_id.clone(),
                invitation_id: sent[0].invitation.clone().unwrap().invitation_id,
                request_id: id(1),
                validate_only: true,
                ..Default::default()
            })
        );
        assert!(resent.unwrap().token.is_empty());
        let joined = once!(
            world.person("cas"),
            members.accept_invitation(pb::AcceptInvitationRequest {
                invitation: Some(by_token(&sent[0].token)),
                request_id: id(1),
                validate_only: true,
                ..Default::default()
            })
        );
        assert_eq!(joined.unwrap().member.unwrap().user_id, "cas");
        let made = once!(
            ann,
            organizations.create_organization(pb::CreateOrganizationRequest {
                name: "Birch".into(),
                request_id: id(1),
                validate_only: true,
                ..Default::default()
            })
        );
        assert_eq!(made.unwrap().organization.unwrap().slug, "birch");
        once!(
            ann,
            billing.update_subscription(pb::UpdateSubscriptionRequest {
                organization_id: organization_id.clone(),
                seats: Some(5),
                request_id: id(1),
                validate_only: true,
                ..Default::default()
            })
        )
        .unwrap();
        once!(
            ann,
            organizations.delete_organization(pb::DeleteOrganizationRequest {
                organization_id,
                request_id: id(1),
                validate_only: true,
                ..Default::default()
            })
        )
        .unwrap();
        let ensured = once!(
            ann,
            organizations.ensure_default_organization(pb::EnsureDefaultOrganizationRequest {
                request_id: id(1),
                validate_only: true,
                ..Default::default()
            })
        );
        assert!(ensured.unwrap().created);
        let signed_in = once!(
            world.service("idp"),
            members.record_sign_in(pb::RecordSignInRequest {
                organization_id: ann.organization_id.clone(),
                user_id: "bob".into(),
                request_id: id(1),
                validate_only: true,
                ..Default::default()
            })
        );
        assert!(signed_in.unwrap().member.unwrap().last_sign_in_time.is_some());
        assert_eq!(everything(&world).await, before);

        // The id is still free; and once it is taken, a rehearsal neither hears that answer nor is refused for it.
        let done = once!(ann, members.invite_members(invitation(&ann, &["dee"], 1))).unwrap();
        assert!(!done.invited[0].token.is_empty());
        let before = everything(&world).await;
        let rehearsed = once!(ann, members.invite_members(request("dee"))).unwrap();
        assert!(rehearsed.invited[0].token.is_empty() && rehearsed.invited[0].resent);
        once!(ann, members.invite_members(request("eve"))).unwrap();
        assert_eq!(everything(&world).await, before);
        world.end().await;
    }

    async fn a_malformed_request_id_is_one_fault_among_others(backend: Backend) {
        let world = world_with_seats(backend, 8).await;
        let ann = world.person("ann").founds("Acme").await;
        let longer = format!("{}0", id(1));
        for malformed in
            ["x", " ", "5f0c2f6e9a4b4d0e8a3b000000000001", "{5f0c2f6e-9a4b-4d0e-8a3b-00000000001}", &longer]
        {
            for validate_only in [false, true] {
                let request = pb::InviteMembersRequest {
                    organization_id: ann.organization_id.clone(),
                    emails: vec!["bob@example.com".into(), "nobody".into()],
                    role: "emperor".into(),
                    request_id: malformed.into(),
                    validate_only,
                    ..Default::default()
                };
                let refused = once!(ann, members.invite_members(request)).unwrap_err();
                assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
                assert_eq!(
                    BTreeSet::from_iter(refused.fields),
                    BTreeSet::from(["emails[1]", "role", "request_id"].map(str::to_owned))
                );
            }
            let found = pb::CreateOrganizationRequest { request_id: malformed.into(), ..Default::default() };
            let refused = once!(ann, organizations.create_organization(found)).unwrap_err();
            assert_eq!(BTreeSet::from_iter(refused.fields), BTreeSet::from(["name", "request_id"].map(str::to_owned)));
            let accept = pb::AcceptInvitationRequest { request_id: malformed.into(), ..Default::default() };
            let refused = once!(ann, members.accept_invitation(accept)).unwrap_err();
            assert_eq!(
                BTreeSet::from_iter(refused.fields),
                BTreeSet::from(["invitation", "request_id"].map(str::to_owned))
            );
            // On its own, too; but first it is asked whether the caller may.
            let leave = |who: &Person| pb::LeaveOrganizationRequest {
                organization_id: ann.organization_id.clone(),
                request_id: malformed.into(),
                ..leaving(who, 1)
            };
            assert_eq!(once!(ann, members.leave_organization(leave(&ann))).unwrap_err().fields, ["request_id"]);
            let stranger = world.person("zoe").acting_in(&ann.organization_id, "member");
            assert_eq!(
                once!(stranger, members.leave_organization(leave(&stranger))).unwrap_err().reason,
                "NOT_A_MEMBER"
            );
        }
        world.end().await;
    }

    async fn nobody_who_reads_the_database_finds_a_token(backend: Backend) {
        let world = world_with_seats(backend, 12).await;
        let ann = world.person("ann").founds("Acme").await;
        // A client may call and key its request by one id; the log of events must not keep it then.
        let mut careless = ann.clone();
        careless.identity.0.push(("x-request-id", id(1).to_uppercase()));
        let sent = once!(careless, members.invite_members(invitation(&ann, &["bob", "cas", "dee"], 1))).unwrap();
        let [bob, cas, dee] = sent.invited.try_into().unwrap();
        let request = pb::ResendInvitationRequest {
            organization_id: ann.organization_id.clone(),
            invitation_id: dee.invitation.unwrap().invitation_id,
            request_id: id(2),
            ..Default::default()
        };
        let resent = once!(ann, members.resend_invitation(request)).unwrap();
        let accept = pb::AcceptInvitationRequest {
            invitation: Some(by_token(&bob.token)),
            request_id: id(3),
            ..Default::default()
        };
        once!(world.person("bob"), members.accept_invitation(accept)).unwrap();
        let decline = pb::DeclineInvitationRequest {
            invitation: Some(by_token(&cas.token)),
            request_id: id(4),
            ..Default::default()
        };
        once!(world.person("cas"), members.decline_invitation(decline)).unwrap();

        let tables = everything(&world).await;
        assert!(
            ["event", "invitation", "membership", "organization", "stored_answer", "subscription"]
                .iter()
                .all(|table| tables.contains_key(*table))
        );
        assert_eq!(tables["stored_answer"].len(), 4);
        let text = tables.values().flatten().map(String::as_str).collect::<Vec<_>>().join("\n");
        let file = file_of(&world);
        let (mut hashes, mut ids) = (0, 0);
        for token in [&bob.token, &cas.token, &dee.token, &resent.token] {
            let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
            let (named, secret) = bytes.split_at(32);
            for readable in
                [token.clone(), URL_SAFE_NO_PAD.encode(secret), STANDARD.encode(secret), STANDARD.encode(&bytes)]
            {
                assert!(
                    !text.contains(&readable) && !holds(&file, readable.as_bytes()),
                    "a token stands in the database"
                );
            }
            for hexadecimal in [hex(secret), hex(token.as_bytes())] {
                let found = text.to_lowercase().contains(&hexadecimal) || holds(&file, hexadecimal.as_bytes());
                assert!(!found, "its bytes stand in the database");
            }
            assert!(!holds(&file, secret), "its bytes stand in the file");
            // That a search finds what is there: the hash of each token that was not replaced, and the ids in them.
            let hash = digest(&SHA256, secret);
            hashes += usize::from(text.to_lowercase().contains(&hex(hash.as_ref())));
            ids += usize::from(backend == Backend::Sqlite && holds(&file, &named[16..]));
        }
        assert_eq!((hashes, ids), if backend == Backend::Sqlite { (3, 4) } else { (3, 0) });
        for number in 1..=4 {
            let id = id(number);
            // It opens the sealed answer.
            assert!(
                !text.contains(&id) && !text.to_lowercase().contains(&id.replace('-', "")),
                "a request_id stands in the database"
            );
        }
        world.end().await;
    }

    async fn the_worker_forgets_answers_after_a_day_and_none_before(backend: Backend) {
        let world = world_with_seats(backend, 12).await;
        let ann = world.person("ann").founds("Acme").await;
        let kept = || world.number("SELECT count(*) FROM stored_answer");
        for number in 1..=3 {
            let guest = format!("guest{number}");
            once!(ann, members.invite_members(invitation(&ann, &[&guest], number))).unwrap();
            world.pass(TimeDelta::hours(1));
        }
        sweep_everywhere(&world).await;
        assert_eq!(kept().await, 3);
        world.pass(TimeDelta::hours(21) - TimeDelta::microseconds(1));
        sweep_everywhere(&world).await;
        assert_eq!(kept().await, 3);
        world.pass(TimeDelta::microseconds(1));
        sweep_everywhere(&world).await;
        assert_eq!(kept().await, 2);
        // While it forgets, requests are answered.
        world.pass(TimeDelta::hours(2));
        let swept = sweep_everywhere(&world);
        let ((), anew) = tokio::join!(swept, async {
            at_once_twenty_times!(world, ann, members.invite_members(invitation(&ann, &["guest3"], 3)))
        });
        assert!(anew.invited[0].resent);
        assert_eq!(kept().await, 1);
        world.end().await;
    }

    async fn thirty_days_after_its_deletion_an_organization_is_purged_on_two_replicas_at_once(backend: Backend) {
        let world = world_with_seats(backend, 4).await;
        // More than one replica purges at a time.
        let calls = (0..32).map(|number| {
            let person = spread(&world, &world.person(&format!("user{number}")), number);
            async move {
                let owner = person.founds(&format!("Acme {number}")).await;
                owner.invites(&["guest@example.com"], "member").await;
                if number % 8 != 0 {
                    owner.does(Deed::Delete).await.unwrap();
                }
                owner
            }
        });
        let owners = at_once(calls).await;
        let organizations = || world.number("SELECT count(*) FROM organization");
        world.pass(TimeDelta::days(30) - TimeDelta::microseconds(1));
        sweep_everywhere(&world).await;
        assert_eq!(organizations().await, 32);
        world.pass(TimeDelta::microseconds(1));
        // Its time is over at that instant, whether or not a worker has been there.
        assert_eq!(owners[1].does(Deed::Undelete).await.unwrap_err().is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        sweep_everywhere(&world).await;
        assert_eq!(organizations().await, 32, "a server whose clock is behind may still undelete it");
        world.pass(TimeDelta::hours(1));
        sweep_everywhere(&world).await;
        assert_eq!(organizations().await, 4);
        let left: BTreeSet<&str> = owners.iter().step_by(8).map(|owner| owner.organization_id.as_str()).collect();
        let tables = everything(&world).await;
        for (table, rows) in &tables {
            let compact =
                |id: &str| if backend == Backend::Sqlite { id.replace('-', "").to_uppercase() } else { id.to_owned() };
            for owner in &owners {
                let id = compact(&owner.organization_id);
                let found = rows.iter().any(|row| row.contains(&id));
                let expected = left.contains(owner.organization_id.as_str())
                    && ["event", "invitation", "membership", "organization", "organization_day", "seat_entry", "subscription"]
                        .contains(&table.as_str());
                assert_eq!(found, expected, "{} in {table}", owner.name);
            }
        }
        // Its slug can be had again.
        let request =
            pb::CreateOrganizationRequest { name: "Acme".into(), slug: "acme-1".into(), ..Default::default() };
        once!(world.person("ann"), organizations.create_organization(request)).unwrap();
        world.end().await;
    }

    async fn undeleted_or_purged_but_not_both(backend: Backend) {
        let world = world_with_seats(backend, 4).await;
        let mut owners = Vec::new();
        for number in 0..24 {
            let owner = world.person(&format!("user{number}")).founds("Acme").await;
            owner.does(Deed::Delete).await.unwrap();
            owners.push(owner);
        }
        world.pass(TimeDelta::days(30) - TimeDelta::microseconds(1));
        let clock = world.clock.clone();
        let calls = owners.iter().enumerate().map(|(number, owner)| {
            let (owner, clock) = (spread(&world, owner, number), clock.clone());
            async move {
                // In the middle of them all, the time comes.
                if number == 12 {
                    clock.advance(1).unwrap();
                }
                owner.does(Deed::Undelete).await
            }
        });
        let sweeping = async {
            for _ in 0..10 {
                sweep_everywhere(&world).await;
            }
        };
        let (outcomes, ()) = tokio::join!(at_once(calls), sweeping);
        world.pass(TimeDelta::hours(1));
        sweep_everywhere(&world).await;
        for (owner, outcome) in owners.iter().zip(outcomes) {
            let id = owner.organization_id.replace('-', "");
            let sql = match backend {
                Backend::Sqlite => {
                    format!("SELECT count(*) FROM organization WHERE hex(organization_id) = upper('{id}')")
                }
                Backend::Postgres => format!("SELECT count(*) FROM organization WHERE organization_id = '{id}'"),
            };
            let there = world.number(&sql).await;
            match outcome {
                Ok(_) => assert_eq!(there, 1, "undeleted and purged"),
                Err(refused) => {
                    assert_eq!(refused.reason, "NOT_A_MEMBER");
                    assert_eq!(there, 0);
                }
            }
        }
        world.end().await;
    }
}

/// The worker passes over what somebody else is at work on, and does not take it for due afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_is_being_undeleted_is_not_purged() {
    let world = world_with_seats(Backend::Postgres, 4).await;
    let mut owners = Vec::new();
    for name in ["ann", "bob"] {
        let owner = world.person(name).founds("Acme").await;
        owner.does(Deed::Delete).await.unwrap();
        owners.push(owner);
    }
    let database = world.database().await;
    let undeleting = database.begin().await.unwrap();
    let sql = format!(
        "UPDATE organization SET deleted_at = NULL, purge_at = NULL WHERE organization_id = '{}'",
        owners[0].organization_id
    );
    undeleting.execute_unprepared(&sql).await.unwrap();
    // Only now, for the server's own worker is awake as soon as the time has come.
    world.pass(TimeDelta::days(30) + TimeDelta::hours(1));
    tokio::time::timeout(Duration::from_secs(10), sweep_everywhere(&world)).await.expect("nobody waits for the other");
    undeleting.commit().await.unwrap();
    database.close().await.unwrap();
    // The server's own worker may be at the other one just now: a sweep passes over what it has locked.
    for _ in 0..100 {
        sweep_everywhere(&world).await;
        if world.number("SELECT count(*) FROM organization").await == 1 {
            break;
        }
    }
    assert_eq!(world.number("SELECT count(*) FROM organization").await, 1);
    assert_eq!(owners[0].seats().await, "1 / 4 seats");
    world.end().await;
}

/// The request that invites `name@example.com` as members.
fn invitation(by: &Person, names: &[&str], number: u64) -> pb::InviteMembersRequest {
    pb::InviteMembersRequest {
        organization_id: by.organization_id.clone(),
        emails: names.iter().map(|name| format!("{name}@example.com")).collect(),
        role: "member".into(),
        request_id: id(number),
        ..Default::default()
    }
}

fn removal(by: &Person, user_id: &str, number: u64) -> pb::RemoveMemberRequest {
    pb::RemoveMemberRequest {
        organization_id: by.organization_id.clone(),
        user_id: user_id.into(),
        request_id: id(number),
        ..Default::default()
    }
}

fn leaving(by: &Person, number: u64) -> pb::LeaveOrganizationRequest {
    pb::LeaveOrganizationRequest {
        organization_id: by.organization_id.clone(),
        request_id: id(number),
        ..Default::default()
    }
}

/// Of two requests that were sent ten times each in turn, one was done and the other refused.
fn one_done<T: PartialEq + std::fmt::Debug>(outcomes: &[Result<T, Refused>]) {
    let done: Vec<usize> = (0..2).filter(|parity| outcomes[*parity].is_ok()).collect();
    let [done] = done[..] else { panic!("not one of two: {outcomes:?}") };
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(_) => assert_eq!(outcome, &outcomes[done]),
            Err(refused) => assert_eq!(refused.is(), (Code::InvalidArgument, "REQUEST_ID_REUSED")),
        }
        assert_eq!(outcome.is_ok(), number % 2 == done, "{outcomes:?}");
    }
}

/// Every server's worker does what is due, all of them at the same moment.
async fn sweep_everywhere(world: &World) {
    let apps = world.servers.iter().chain(world.servers.first()).map(|server| server.app.clone());
    at_once(apps.map(|app| async move { worker::sweep(&app, &CancellationToken::new()).await })).await;
}

/// Every row of every table, as text in which bytes are hexadecimal.
async fn everything(world: &World) -> BTreeMap<String, Vec<String>> {
    // What was committed gets its place in the feed a moment later.
    let unplaced = "SELECT COUNT(*) FROM event WHERE position IS NULL";
    until("every event has its place", async || world.number(unplaced).await == 0).await;
    let database = world.database().await;
    let mut tables = BTreeMap::new();
    let names = match world.backend {
        Backend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table'",
        Backend::Postgres => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'",
    };
    for table in texts(&database, names).await {
        // How far the log was read for others follows by itself.
        if table == "event_consumer" {
            continue;
        }
        let sql = match world.backend {
            Backend::Sqlite => {
                let columns = texts(&database, &format!("SELECT name FROM pragma_table_info('{table}')")).await;
                let columns: Vec<String> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
                format!("SELECT {} FROM {table} ORDER BY 1", columns.join(" || ', ' || "))
            }
            Backend::Postgres => format!("SELECT row_to_json(t)::text FROM {table} t ORDER BY 1"),
        };
        let rows = texts(&database, &sql).await;
        tables.insert(table, rows);
    }
    database.close().await.expect("a connection can be closed");
    tables
}

async fn texts(database: &DatabaseConnection, sql: &str) -> Vec<String> {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let rows = database.query_all_raw(statement).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.iter().map(|row| row.try_get_by_index(0).expect("a text")).collect()
}

/// The bytes of an SQLite database and of what is not yet written back to it; nothing of PostgreSQL's.
fn file_of(world: &World) -> Vec<u8> {
    let Some(path) = world.url.strip_prefix("sqlite:") else { return Vec::new() };
    let mut bytes = std::fs::read(path).expect("the file of the database");
    bytes.extend(std::fs::read(format!("{path}-wal")).expect("its log"));
    bytes
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text grows");
        text
    })
}
