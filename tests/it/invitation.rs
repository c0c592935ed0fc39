//! Invitations, from the first sending to their end, and the seats that they hold.

use chrono::TimeDelta;
use tenantry::pb::{self, InvitationState};
use tonic::Code;

use crate::harness::members::by_name;
use crate::harness::person::{Person, answer, by_token};
use crate::harness::world::{Setup, World, plans_with_seats, roomy};
use crate::harness::{Backend, database_tests};

const WEEK: TimeDelta = TimeDelta::days(7);
const INSTANT: TimeDelta = TimeDelta::microseconds(1);

fn of(invited: &pb::InvitedMember) -> &pb::Invitation {
    invited.invitation.as_ref().expect("an invitation")
}

fn id(invited: &pb::InvitedMember) -> &str {
    &of(invited).invitation_id
}

fn under(policy: &str) -> Setup {
    Setup { policy: policy.into(), ..roomy() }
}

/// A policy like the default one, with guests beside the members.
pub(crate) fn policy_with_guests() -> String {
    let preset = include_str!("../../src/auth/presets/owner-billing.toml");
    let role = "[[roles]]\nrole = \"guest\"\ntitle = \"Guest\"\ndescription = \"Looks on.\"\n\n[permissions]";
    let with_role = preset.replace("[permissions]", role).replace("member = true  }", "member = true, guest = true }");
    let with_answers = with_role.replace("member = false }", "member = false, guest = false }");
    with_answers.replace("\"member\"]", "\"member\", \"guest\"]")
}

/// What an InviteMembers call says besides the usual.
async fn invites_with(
    inviter: &Person,
    request: pb::InviteMembersRequest,
) -> Result<Vec<pb::InvitedMember>, crate::harness::refused::Refused> {
    let request = pb::InviteMembersRequest { organization_id: inviter.organization_id.clone(), ..request };
    answer(inviter.members().invite_members(request).await).map(|answer| answer.invited)
}

database_tests! {
    async fn many_are_invited_at_once_in_the_order_of_the_request_and_each_address_counts_once(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let emails = [
            " Zo\u{eb}@B\u{fc}cher.example ",
            "BOB@Example.COM",
            "bob@example.com",
            "ZOE\u{308}@xn--bcher-kva.EXAMPLE",
            "cas@example.com",
            "\tBob@example.com ",
        ];
        let invited = ann.invites(&emails, "member").await;
        let written: Vec<&str> = invited.iter().map(|one| of(one).email.as_str()).collect();
        assert_eq!(written, ["Zo\u{eb}@B\u{fc}cher.example", "BOB@Example.COM", "cas@example.com"]);
        assert_eq!(ann.seats().await, "4 / 4 seats");
        for one in &invited {
            let invitation = of(one);
            assert!(!one.resent && !one.token.is_empty());
            assert_eq!(invitation.state(), InvitationState::Pending);
            assert_eq!((invitation.role.as_str(), invitation.send_count), ("member", 1));
            assert_eq!((invitation.inviter_user_id.as_str(), invitation.invitee_user_id.as_str()), ("ann", ""));
            assert_eq!(invitation.create_time, Some(world.wire_time()));
            assert_eq!(invitation.send_time, Some(world.wire_time()));
            assert_eq!(invitation.expire_time, Some(world.wire_time_in(WEEK)));
            assert_eq!(invitation.end_time, None);
            assert_eq!(ann.invitation(&invitation.invitation_id).await.as_ref(), Ok(invitation));
        }
        assert!(invited[0].token != invited[1].token && invited[1].token != invited[2].token);
        let created = [["invitation.created"; 3].as_slice(), &["subscription.seats_full"]].concat();
        assert_eq!(world.events(&ann.organization_id).await[2..], created);
        world.end().await;
    }

    async fn an_address_that_is_invited_again_gets_the_same_invitation_resent(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let first = ann.invites(&["bob@example.com"], "member").await.remove(0);
        let seats = ann.seats().await;
        let events = world.events(&ann.organization_id).await.len();
        world.pass(TimeDelta::days(3));
        let again = ada.invites(&["cas@example.com", "Bob@Example.com"], "admin").await;
        assert_eq!((again[0].resent, again[1].resent), (false, true));
        let (before, after) = (of(&first), of(&again[1]));
        assert_eq!(after.invitation_id, before.invitation_id);
        assert_eq!(after.create_time, before.create_time);
        assert_eq!(after.send_time, Some(world.wire_time()));
        assert_eq!(after.expire_time, Some(world.wire_time_in(WEEK)));
        assert_eq!((after.role.as_str(), after.send_count), ("admin", 2));
        assert_eq!((after.email.as_str(), after.inviter_user_id.as_str()), ("Bob@Example.com", "ada"));
        assert_eq!(ann.invitation(id(&first)).await.as_ref(), Ok(after));
        // One seat more, for the new address.
        assert_eq!((seats.as_str(), ann.seats().await.as_str()), ("3 / 100 seats", "4 / 100 seats"));
        assert_eq!(world.events(&ann.organization_id).await[events..], ["invitation.created", "invitation.resent"]);
        let bob = world.person("bob");
        assert_ne!(first.token, again[1].token);
        let dead = bob.tries_to_accept(&first.token).await.expect_err("the old token is dead");
        assert_eq!(dead.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        let dead = bob.tries_to_decline(&first.token).await.expect_err("the old token is dead");
        assert_eq!(dead.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        assert_eq!(bob.accepts(&again[1].token).await.role, "admin");
        world.end().await;
    }

    async fn an_invitation_to_a_role_above_the_caller_is_neither_resent_nor_rewritten_nor_canceled(backend: Backend) {
        let world = World::with(backend, under("guarded-admin")).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        world.pass(INSTANT);
        let eve = ann.invites(&["eve@example.com"], "admin").await.remove(0);
        let refused =
            ada.tries_to_invite(&["new@example.com", "eve@example.com"], "member").await.expect_err("refused");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
        assert_eq!((refused.metadata["role"].as_str(), refused.metadata["target_role"].as_str()), ("admin", "admin"));
        assert_eq!((refused.metadata["field"].as_str(), refused.metadata["indexes"].as_str()), ("emails", "1"));
        let refused = ada.tries_to_invite(&["new@example.com"], "admin").await.expect_err("refused");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
        let refused = ada.tries_to_resend(id(&eve)).await.expect_err("refused");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
        let refused = ada.tries_to_cancel(&[id(&eve)]).await.expect_err("refused");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
        assert_eq!(ann.invitations(&[]).await, ["eve@example.com", "ada@example.com"]);
        assert_eq!(ann.invitation(id(&eve)).await.as_ref(), Ok(of(&eve)));
        assert_eq!(world.person("eve").accepts(&eve.token).await.role, "admin");
        world.end().await;
    }

    async fn who_is_a_member_already_is_named_with_the_index_and_nobody_is_invited(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        ann.tries_to_suspend("bob").await.expect("suspended");
        let before = (world.events(&ann.organization_id).await, ann.seats().await, ann.invitations(&[]).await);
        let emails = ["new@example.com", "Ann@Example.com", "other@example.com", "bob@example.com"];
        let refused = ann.tries_to_invite(&emails, "member").await.expect_err("refused");
        assert_eq!(refused.is(), (Code::AlreadyExists, "ALREADY_MEMBER"));
        assert_eq!(refused.metadata["indexes"], "1,3");
        assert_eq!(refused.metadata["user_id"], "ann");
        let named = ["emails[1]", "emails[3]"].map(|subject| ("ALREADY_MEMBER".to_owned(), subject.to_owned()));
        assert_eq!(refused.violations, named);
        let after = (world.events(&ann.organization_id).await, ann.seats().await, ann.invitations(&[]).await);
        assert_eq!(after, before);
        world.end().await;
    }

    async fn a_batch_over_the_free_seats_is_refused_whole(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.invites(&["bob@example.com"], "member").await.remove(0);
        let three = ["cas@example.com", "dee@example.com", "CAS@example.com", "bob@example.com", "eve@example.com"];
        let refused = ann.tries_to_invite(&three, "member").await.expect_err("refused");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        // Bob has a seat already, and Cas asks for one only.
        let figures = ["total", "members", "pending", "requested"].map(|key| refused.metadata[key].as_str());
        assert_eq!(figures, ["4", "1", "1", "3"]);
        for way_out in ["remove a member", "cancel a pending invitation", "seats increased"] {
            assert!(refused.message.contains(way_out), "{}", refused.message);
        }
        assert_eq!(ann.invitations(&[]).await, ["bob@example.com"]);
        assert_eq!(ann.invitation(id(&bob)).await.as_ref(), Ok(of(&bob)), "nor is Bob's resent");
        assert_eq!(world.events(&ann.organization_id).await.len(), 3);
        assert_eq!(ann.seats().await, "2 / 4 seats");
        assert_eq!(ann.invites(&three[..4], "member").await.len(), 3);
        assert_eq!(ann.seats().await, "4 / 4 seats");
        world.end().await;
    }

    async fn each_of_the_three_ways_out_of_full_seats_works(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        let invited = ann.invites(&["cas@example.com", "dee@example.com"], "member").await;
        assert_eq!(ann.seats().await, "4 / 4 seats");
        let full = (Code::FailedPrecondition, "SEAT_LIMIT_REACHED");
        assert_eq!(ann.tries_to_invite(&["1@example.com"], "member").await.expect_err("full").is(), full);
        ann.tries_to_remove("bob").await.expect("removed");
        ann.invites(&["1@example.com"], "member").await;
        assert_eq!(ann.tries_to_invite(&["2@example.com"], "member").await.expect_err("full").is(), full);
        ann.tries_to_cancel(&[id(&invited[0])]).await.expect("canceled");
        ann.invites(&["2@example.com"], "member").await;
        assert_eq!(ann.tries_to_invite(&["3@example.com"], "member").await.expect_err("full").is(), full);
        let request = pb::UpdateSubscriptionRequest {
            organization_id: ann.organization_id.clone(),
            seats: Some(5),
            ..Default::default()
        };
        answer(ann.billing().update_subscription(request).await).expect("increased");
        ann.invites(&["3@example.com"], "member").await;
        assert_eq!(ann.tries_to_invite(&["4@example.com"], "member").await.expect_err("full").is(), full);
        assert_eq!(ann.seats().await, "5 / 5 seats");
        world.end().await;
    }

    async fn an_expiry_frees_the_seat_at_that_instant_with_no_job(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        ann.brings("cas", "member").await;
        let dee = ann.invites(&["dee@example.com"], "member").await.remove(0);
        assert_eq!(ann.seats().await, "4 / 4 seats");
        world.pass(WEEK - INSTANT);
        assert_eq!(ann.seats().await, "4 / 4 seats");
        let refused = ann.tries_to_invite(&["eve@example.com"], "member").await.expect_err("full");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        assert_eq!(ann.invitation(id(&dee)).await.expect("found").state(), InvitationState::Pending);

        world.pass(INSTANT);
        assert_eq!(ann.seats().await, "3 / 4 seats");
        assert_eq!(ann.invitation(id(&dee)).await.expect("found").state(), InvitationState::Expired);
        let refused = world.person("dee").tries_to_accept(&dee.token).await.expect_err("expired");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_EXPIRED"));
        assert_eq!(refused.metadata["invitation_id"], id(&dee));
        assert_eq!(refused.metadata["expire_time"], "2026-01-12T09:00:00+00:00");
        let refused = world.person("dee").tries_to_decline(&dee.token).await.expect_err("expired");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_EXPIRED"));
        ann.invites(&["eve@example.com"], "member").await;
        assert_eq!(ann.seats().await, "4 / 4 seats");
        world.end().await;
    }

    async fn the_last_instant_before_its_expiry_is_in_time_to_accept(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com"], "member").await.remove(0);
        world.pass(WEEK - INSTANT);
        world.person("bob").accepts(&sent.token).await;
        world.pass(INSTANT);
        assert_eq!(ann.seats().await, "2 / 4 seats");
        world.end().await;
    }

    async fn an_expired_invitation_needs_a_free_seat_to_be_resent(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        world.pass(WEEK);
        let eve = ann.invites(&["eve@example.com", "fay@example.com", "gus@example.com"], "member").await;
        let figures = ["total", "members", "pending", "requested"];
        let refused = ann.tries_to_resend(id(&sent[0])).await.expect_err("full");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        assert_eq!(figures.map(|key| refused.metadata[key].as_str()), ["4", "1", "3", "1"]);
        let refused = ann.tries_to_invite(&["bob@example.com"], "admin").await.expect_err("full");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        assert_eq!(ann.invitation(id(&sent[0])).await.expect("found").role, "member");

        ann.tries_to_cancel(&[id(&eve[0]), id(&eve[1])]).await.expect("canceled");
        let resent = ann.tries_to_resend(id(&sent[0])).await.expect("resent");
        let invitation = resent.invitation.expect("an invitation");
        assert_eq!((invitation.invitation_id.as_str(), invitation.send_count), (id(&sent[0]), 2));
        assert_eq!(invitation.state(), InvitationState::Pending);
        assert_eq!(invitation.expire_time, Some(world.wire_time_in(WEEK)));
        let again = ann.invites(&["cas@example.com"], "member").await;
        assert_eq!((again[0].resent, id(&again[0])), (true, id(&sent[1])));
        assert_eq!(ann.seats().await, "4 / 4 seats");
        world.person("bob").accepts(&resent.token).await;
        world.person("cas").accepts(&again[0].token).await;
        assert_eq!(ann.seats().await, "4 / 4 seats");
        world.end().await;
    }

    async fn an_expired_invitation_can_be_resent_into_the_seat_that_it_left(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        world.pass(WEEK);
        assert_eq!(ann.seats().await, "1 / 4 seats");
        ann.tries_to_resend(id(&sent[2])).await.expect("resent");
        assert_eq!(ann.seats().await, "2 / 4 seats");
        let again = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        assert!(again.iter().all(|one| one.resent));
        assert_eq!(ann.seats().await, "4 / 4 seats");
        world.end().await;
    }

    async fn a_resend_gives_a_new_token_and_starts_the_time_anew(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let sent = ann.invites(&["bob@example.com"], "member").await.remove(0);
        world.pass(TimeDelta::days(5));
        let request = pb::ResendInvitationRequest {
            organization_id: ada.organization_id.clone(),
            invitation_id: id(&sent).to_owned(),
            ttl: Some(prost_types::Duration { seconds: 2 * 86_400, nanos: 0 }),
            ..Default::default()
        };
        let resent = answer(ada.members().resend_invitation(request).await).expect("resent");
        let invitation = resent.invitation.expect("an invitation");
        let expected = pb::Invitation {
            send_time: Some(world.wire_time()),
            expire_time: Some(world.wire_time_in(TimeDelta::days(2))),
            inviter_user_id: "ada".into(),
            inviter_role: "admin".into(),
            send_count: 2,
            ..of(&sent).clone()
        };
        assert_eq!(invitation, expected);
        assert_eq!(world.events(&ann.organization_id).await.last().map(String::as_str), Some("invitation.resent"));
        let bob = world.person("bob");
        let dead = bob.tries_to_accept(&sent.token).await.expect_err("the old token is dead");
        assert_eq!(dead.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        bob.accepts(&resent.token).await;
        world.end().await;
    }

    async fn what_has_ended_is_neither_resent_nor_canceled_nor_answered_again(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        world.person("bob").accepts(&sent[0].token).await;
        world.person("cas").tries_to_decline(&sent[1].token).await.expect("declined");
        ann.tries_to_cancel(&[id(&sent[2])]).await.expect("canceled");
        let events = world.events(&ann.organization_id).await;
        let ended = [("bob", "ACCEPTED"), ("cas", "DECLINED"), ("dee", "CANCELED")];
        for ((name, state), sent) in ended.into_iter().zip(&sent) {
            let invitee = world.person(name);
            let refusals = [
                ann.tries_to_resend(id(sent)).await.expect_err("ended"),
                ann.tries_to_cancel(&[id(sent)]).await.expect_err("ended"),
                invitee.tries_to_accept(&sent.token).await.expect_err("ended"),
                invitee.tries_to_accept_by_name(of(sent)).await.expect_err("ended"),
                invitee.tries_to_decline(&sent.token).await.expect_err("ended"),
            ];
            for refused in refusals {
                assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_NOT_PENDING"), "{name}");
                assert_eq!(refused.metadata["state"], state);
                assert_eq!(refused.metadata["invitation_id"], id(sent));
            }
        }
        // Nor once its time is over besides.
        world.pass(WEEK);
        let refused = world.person("dee").tries_to_accept(&sent[2].token).await.expect_err("ended");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_NOT_PENDING"));
        assert_eq!(world.events(&ann.organization_id).await, events);
        assert_eq!(ann.seats().await, "2 / 100 seats");
        world.end().await;
    }

    async fn what_is_not_there_or_elsewhere_is_neither_shown_nor_resent_nor_canceled(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let zed = world.person("zed").founds("Zeta").await;
        let elsewhere = zed.invites(&["bob@example.com"], "member").await.remove(0);
        for id in [id(&elsewhere), "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70"] {
            let refusals = [
                ann.invitation(id).await.expect_err("not here"),
                ann.tries_to_resend(id).await.expect_err("not here"),
                ann.tries_to_cancel(&[id]).await.expect_err("not here"),
            ];
            for refused in refusals {
                assert_eq!(refused.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
                assert_eq!(refused.metadata["invitation_id"], id);
            }
        }
        world.person("bob").accepts(&elsewhere.token).await;
        world.end().await;
    }

    async fn many_are_canceled_at_once_and_their_seats_are_free_at_once(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        let capitals = id(&sent[0]).to_ascii_uppercase();
        let canceled =
            ann.tries_to_cancel(&[id(&sent[2]), id(&sent[0]), id(&sent[2]), &capitals]).await.expect("canceled");
        let expected: Vec<pb::Invitation> = [&sent[2], &sent[0]]
            .map(|sent| pb::Invitation {
                state: InvitationState::Canceled.into(),
                end_time: Some(world.wire_time()),
                ..of(sent).clone()
            })
            .into();
        assert_eq!(canceled, expected);
        assert_eq!(ann.invitation(id(&sent[2])).await.as_ref(), Ok(&expected[0]));
        assert_eq!(world.events(&ann.organization_id).await[6..], ["invitation.canceled"; 2]);
        assert_eq!(ann.seats().await, "2 / 4 seats");
        let anew = ann.invites(&["dee@example.com", "eve@example.com"], "member").await;
        assert!(!anew[0].resent && id(&anew[0]) != id(&sent[2]), "a new invitation, not the canceled one");
        assert_eq!(ann.seats().await, "4 / 4 seats");
        world.end().await;
    }

    async fn a_batch_with_one_that_cannot_be_canceled_cancels_none_and_names_each_fault(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com"], "member").await;
        world.person("bob").accepts(&sent[0].token).await;
        let unknown = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70";
        let refused = ann.tries_to_cancel(&[id(&sent[1]), id(&sent[0])]).await.expect_err("accepted");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_NOT_PENDING"));
        assert_eq!((refused.metadata["field"].as_str(), refused.metadata["indexes"].as_str()), ("invitation_ids", "1"));
        let refused = ann.tries_to_cancel(&[id(&sent[0]), id(&sent[1]), id(&sent[0]), unknown]).await.expect_err("two");
        // What is not there is told before what does not fit.
        assert_eq!(refused.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        assert_eq!(refused.metadata["indexes"], "0,3");
        let named = [("INVITATION_NOT_PENDING", "invitation_ids[0]"), ("INVITATION_NOT_FOUND", "invitation_ids[3]")];
        assert_eq!(refused.violations, named.map(|(reason, item)| (reason.to_owned(), item.to_owned())));
        assert_eq!(ann.invitations(&[InvitationState::Pending]).await, ["cas@example.com"]);
        assert_eq!(ann.seats().await, "3 / 4 seats");
        world.end().await;
    }

    async fn an_expired_invitation_can_be_canceled_and_gives_no_second_seat_back(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com"], "member").await;
        world.pass(WEEK);
        // Once while it still stands in the counter, once when a change has taken it out.
        ann.tries_to_cancel(&[id(&sent[0])]).await.expect("canceled");
        assert_eq!(ann.seats().await, "1 / 4 seats");
        world.recount().await;
        ann.invites(&["dee@example.com"], "member").await;
        let canceled = ann.tries_to_cancel(&[id(&sent[1])]).await.expect("canceled").remove(0);
        assert_eq!(canceled.state(), InvitationState::Canceled);
        assert_eq!(ann.seats().await, "2 / 4 seats");
        world.end().await;
    }

    async fn who_accepts_by_token_becomes_a_member_in_the_seat_of_the_invitation(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["Bob@Example.com"], "admin").await.remove(0);
        world.pass(TimeDelta::hours(1));
        let request = pb::AcceptInvitationRequest {
            invitation: Some(by_token(&sent.token)),
            profile: Some(pb::UserProfile {
                display_name: " Bob Ångström ".into(),
                avatar_uri: "https://example.com/bob.png".into(),
            }),
            ..Default::default()
        };
        // Spelled otherwise than the invitation, and it is the same address.
        let bob = world.person("bob").with_email("BOB@example.COM");
        let accepted = answer(bob.members().accept_invitation(request).await).expect("accepted");
        let member = accepted.member.expect("a member");
        let expected = pb::Member {
            organization_id: ann.organization_id.clone(),
            user_id: "bob".into(),
            email: "BOB@example.COM".into(),
            display_name: "Bob Ångström".into(),
            avatar_uri: "https://example.com/bob.png".into(),
            role: "admin".into(),
            state: pb::MemberState::Active.into(),
            join_time: Some(world.wire_time()),
            etag: member.etag.clone(),
            invitation_id: id(&sent).to_owned(),
            ..Default::default()
        };
        assert_eq!(member, expected);
        assert!(!member.etag.is_empty());
        assert_eq!(ann.member("bob").await.as_ref(), Ok(&member));
        let organization = accepted.organization.expect("an organization");
        assert_eq!((organization.organization_id, organization.name), (ann.organization_id.clone(), "Acme".to_owned()));
        let invitation = ann.invitation(id(&sent)).await.expect("found");
        assert_eq!(invitation.state(), InvitationState::Accepted);
        assert_eq!((invitation.invitee_user_id.as_str(), invitation.end_time), ("bob", Some(world.wire_time())));
        assert_eq!(ann.seats().await, "2 / 4 seats");
        let events = world.events(&ann.organization_id).await;
        assert_eq!(events[2..], ["invitation.created", "invitation.accepted", "member.joined"]);
        world.end().await;
    }

    async fn who_is_invited_can_accept_and_decline_by_name_without_the_token(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let zed = world.person("zed").founds("Zeta").await;
        ann.invites(&["bob@example.com"], "member").await;
        zed.invites(&["bob@example.com"], "member").await;
        let bob = world.person("bob").with_email("Bob@example.com");
        for received in bob.received(0, "").await.invitations {
            let invitation = received.invitation.expect("an invitation");
            if received.organization_name == "Acme" {
                assert_eq!(bob.tries_to_accept_by_name(&invitation).await.expect("accepted").role, "member");
            } else {
                let request =
                    pb::DeclineInvitationRequest { invitation: Some(by_name(&invitation)), ..Default::default() };
                answer(bob.members().decline_invitation(request).await).expect("declined");
            }
        }
        assert_eq!((ann.seats().await.as_str(), zed.seats().await.as_str()), ("2 / 4 seats", "1 / 4 seats"));
        assert_eq!(zed.invitations(&[InvitationState::Declined]).await, ["bob@example.com"]);
        world.end().await;
    }

    async fn nobody_answers_an_invitation_that_was_sent_to_somebody_else(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com"], "owner").await.remove(0);
        let thief = world.person("eve");
        let mismatch = (Code::PermissionDenied, "INVITATION_EMAIL_MISMATCH");
        let refused = thief.tries_to_accept(&sent.token).await.expect_err("not Eve's");
        assert_eq!(refused.is(), mismatch);
        assert!(!format!("{refused:?}").contains("bob"), "who holds a stray token does not learn whose it is");
        assert_eq!(thief.tries_to_decline(&sent.token).await.expect_err("not Eve's").is(), mismatch);
        // Who only knows the ids does not even learn that there is such an invitation.
        let missing = thief.tries_to_accept_by_name(of(&sent)).await.expect_err("not Eve's");
        assert_eq!(missing.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        let nowhere =
            pb::Invitation { invitation_id: "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70".into(), ..of(&sent).clone() };
        assert_eq!(thief.tries_to_accept_by_name(&nowhere).await.expect_err("nothing there"), missing);
        let nowhere = pb::Invitation { organization_id: nowhere.invitation_id.clone(), ..nowhere };
        assert_eq!(thief.tries_to_accept_by_name(&nowhere).await.expect_err("nothing there"), missing);
        // The right user, whose address nobody has verified.
        let nameless = world.person("bob").with_email("");
        let needed = (Code::PermissionDenied, "EMAIL_REQUIRED");
        assert_eq!(nameless.tries_to_accept(&sent.token).await.expect_err("no address").is(), needed);
        assert_eq!(nameless.tries_to_decline(&sent.token).await.expect_err("no address").is(), needed);
        assert_eq!(ann.invitation(id(&sent)).await.as_ref(), Ok(of(&sent)));
        world.person("bob").accepts(&sent.token).await;
        world.end().await;
    }

    async fn a_token_opens_only_what_it_was_made_for(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com"], "member").await;
        let bob = world.person("bob");
        // The ids of Bob's invitation with the secret of Cas's: the first 32 of 64 bytes are the ids.
        let (ids, secret) = (&sent[0].token[..42], &sent[1].token[42..]);
        let refused = bob.tries_to_accept(&format!("{ids}{secret}")).await.expect_err("forged");
        assert_eq!(refused.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        let mut last = sent[0].token.clone().into_bytes();
        last[60] = if last[60] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(last).expect("still text");
        let refused = bob.tries_to_accept(&tampered).await.expect_err("tampered");
        assert_eq!(refused.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        for text in ["", "x", &sent[0].token[1..], &format!("{} ", sent[0].token), &"A".repeat(100_000)] {
            let refused = bob.tries_to_accept(text).await.expect_err("no token at all");
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
            assert_eq!(refused.fields, ["invitation.token"]);
        }
        let nothing = bob.members().accept_invitation(pb::AcceptInvitationRequest::default()).await;
        let refused = answer(nothing).expect_err("nothing said");
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(refused.fields, ["invitation"]);
        bob.accepts(&sent[0].token).await;
        world.end().await;
    }

    async fn a_member_cannot_accept_a_second_invitation_under_another_address(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let sent = ann.invites(&["robert@example.com"], "owner").await.remove(0);
        let robert = bob.with_email("robert@example.com");
        let refused = robert.tries_to_accept(&sent.token).await.expect_err("a member already");
        assert_eq!(refused.is(), (Code::AlreadyExists, "ALREADY_MEMBER"));
        assert_eq!(refused.metadata["user_id"], "bob");
        assert_eq!(ann.member("bob").await.expect("still there").role, "member");
        assert_eq!(ann.invitation(id(&sent)).await.expect("found").state(), InvitationState::Pending);
        assert_eq!(ann.seats().await, "3 / 4 seats");
        robert.tries_to_decline(&sent.token).await.expect("but can decline it");
        assert_eq!(ann.seats().await, "2 / 4 seats");
        world.end().await;
    }

    async fn accepting_never_fails_for_seats(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        // A forced cut, as the end of a subscription makes it.
        world.tampers("UPDATE organization SET seats_total = 1").await;
        world.tampers("UPDATE subscription SET seats = 1, status = 'unpaid'").await;
        assert_eq!(ann.seats().await, "4 / 1 seats");
        world.person("bob").accepts(&sent[0].token).await;
        let refused = ann.tries_to_invite(&["eve@example.com"], "member").await.expect_err("more than full");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        // Nor is shrinking blocked.
        world.person("cas").tries_to_decline(&sent[1].token).await.expect("declined");
        ann.tries_to_cancel(&[id(&sent[2])]).await.expect("canceled");
        ann.tries_to_suspend("bob").await.expect("suspended");
        ann.tries_to_remove("bob").await.expect("removed");
        assert_eq!(ann.seats().await, "1 / 1 seats");
        world.end().await;
    }

    async fn overdue_payment_blocks_new_seats_and_nothing_else(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let old = ann.invites(&["old@example.com"], "member").await.remove(0);
        world.pass(WEEK);
        let sent = ann.invites(&["bob@example.com", "cas@example.com"], "member").await;
        for status in ["past_due", "unpaid"] {
            world.tampers(&format!("UPDATE subscription SET status = '{status}'")).await;
            let overdue = (Code::FailedPrecondition, "SUBSCRIPTION_PAST_DUE");
            let refused =
                ann.tries_to_invite(&["bob@example.com", "new@example.com"], "member").await.expect_err("new");
            assert_eq!((refused.is(), refused.metadata["status"].as_str()), (overdue, status.to_uppercase().as_str()));
            assert_eq!(ann.tries_to_resend(id(&old)).await.expect_err("expired").is(), overdue);
            assert!(ann.invites(&["bob@example.com"], "member").await[0].resent, "it has its seat");
            ann.tries_to_resend(id(&sent[0])).await.expect("it has its seat");
        }
        world.person("cas").accepts(&sent[1].token).await;
        ann.tries_to_cancel(&[id(&sent[0]), id(&old)]).await.expect("canceled");
        world.end().await;
    }

    async fn declining_frees_the_seat_and_leaves_the_way_open_for_another_invitation(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com"], "member").await.remove(0);
        let bob = world.person("bob");
        let declined = bob.tries_to_decline(&sent.token).await.expect("declined");
        let expected = pb::Invitation {
            state: InvitationState::Declined.into(),
            invitee_user_id: "bob".into(),
            end_time: Some(world.wire_time()),
            ..of(&sent).clone()
        };
        assert_eq!(declined, expected);
        assert_eq!(ann.invitation(id(&sent)).await.as_ref(), Ok(&expected));
        assert_eq!(ann.seats().await, "1 / 4 seats");
        assert_eq!(world.events(&ann.organization_id).await.last().map(String::as_str), Some("invitation.declined"));
        world.pass(TimeDelta::hours(1));
        let again = ann.invites(&["bob@example.com"], "member").await.remove(0);
        assert!(!again.resent && id(&again) != id(&sent) && of(&again).send_count == 1);
        bob.accepts(&again.token).await;
        assert_eq!(ann.invitations(&[]).await.len(), 2, "history keeps both");
        world.end().await;
    }

    async fn a_person_sees_the_open_invitations_to_their_address_and_no_others(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let mut expected = Vec::new();
        let mut founders = Vec::new();
        for name in ["One", "Two", "Six", "Ten"] {
            let founder = world.person(&name.to_lowercase()).founds(name).await;
            founder.invites(&["Bob@Example.com", "cas@example.com"], "member").await;
            founders.push(founder);
            expected.insert(0, name);
            world.pass(TimeDelta::hours(1));
        }
        let bob = world.person("bob");
        let names = |page: &pb::ListReceivedInvitationsResponse| {
            page.invitations.iter().map(|one| one.organization_name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&bob.received(0, "").await), expected);
        assert!(world.person("dee").received(0, "").await.invitations.is_empty());
        for size in 1..=5 {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let page = bob.received(size, &token).await;
                assert!(page.invitations.len() <= usize::try_from(size).expect("a size"));
                seen.extend(names(&page));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, expected, "in pages of {size}");
        }
        // Another's page token is not this list's.
        let token = bob.received(1, "").await.next_page_token;
        let request = pb::ListReceivedInvitationsRequest { page_size: 1, page_token: token };
        let refused = answer(world.person("cas").members().list_received_invitations(request).await);
        assert_eq!(refused.expect_err("Bob's token").is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
        let request = pb::ListReceivedInvitationsRequest::default();
        let refused = answer(bob.with_email("").members().list_received_invitations(request).await);
        assert_eq!(refused.expect_err("no address").is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));

        let received = bob.received(0, "").await.invitations;
        bob.tries_to_accept_by_name(received[0].invitation.as_ref().expect("one")).await.expect("accepted");
        let canceled = &received[1].invitation.as_ref().expect("one").invitation_id;
        founders[2].tries_to_cancel(&[canceled]).await.expect("canceled");
        founders[1].deletes_organization().await;
        assert_eq!(names(&bob.received(0, "").await), ["One"]);
        let deleted = received[2].invitation.as_ref().expect("one");
        let refused = bob.tries_to_accept_by_name(deleted).await.expect_err("of a deleted organization");
        assert_eq!(refused.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        let request =
            pb::UndeleteOrganizationRequest { organization_id: deleted.organization_id.clone(), ..Default::default() };
        answer(founders[1].organizations().undelete_organization(request).await).expect("undeleted");
        assert_eq!(names(&bob.received(0, "").await), ["Two", "One"]);
        world.pass(WEEK - TimeDelta::hours(3));
        assert_eq!(names(&bob.received(0, "").await), Vec::<String>::new(), "expired");
        world.end().await;
    }

    async fn an_invitation_to_a_role_that_is_gone_cannot_be_accepted_but_can_be_replaced(backend: Backend) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let file = directory.path().join("guests.toml");
        std::fs::write(&file, policy_with_guests()).expect("written");
        let mut world = World::with(backend, under(&file.display().to_string())).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "guest").await;
        let ada = ann.brings("ada", "admin").await;

        world.switches_policy_to("owner-billing").await;
        let (ann, ada) = (ann.at(world.channel()), ada.at(world.channel()));
        let bob = world.person("bob");
        let refused = bob.tries_to_accept(&sent[0].token).await.expect_err("no such role");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_ROLE_NOT_GRANTABLE"));
        assert_eq!(refused.metadata["role"], "guest");
        assert_eq!(ann.invitation(id(&sent[0])).await.expect("found").state(), InvitationState::Pending);
        assert_eq!(ann.seats().await, "5 / 100 seats");
        // What the role was worth nobody knows any more: only the top role is sure to be above it.
        let refused =
            ada.tries_to_invite(&["bob@example.com"], "member").await.expect_err("who knows what a guest was");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
        assert_eq!(ada.tries_to_resend(id(&sent[1])).await.expect_err("nor resend it").is(), refused.is());
        assert_eq!(ada.tries_to_cancel(&[id(&sent[1])]).await.expect_err("nor cancel it").is(), refused.is());
        let refused = ann.tries_to_resend(id(&sent[1])).await.expect_err("nobody could accept it");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_ROLE_NOT_GRANTABLE"));
        let again = ann.invites(&["bob@example.com"], "member").await.remove(0);
        assert!(again.resent);
        assert_eq!(bob.accepts(&again.token).await.role, "member");
        ann.tries_to_cancel(&[id(&sent[1])]).await.expect("canceled");
        world.person("dee").tries_to_decline(&sent[2].token).await.expect("declined");
        assert_eq!(ann.seats().await, "3 / 100 seats");
        world.end().await;
    }

    async fn a_role_that_the_inviters_may_not_grant_any_more_is_not_granted_by_accepting(backend: Backend) {
        let mut world = World::with(backend, under("shared-billing")).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let by_admin = ada.invites(&["bob@example.com", "cas@example.com"], "admin").await;
        let by_owner = ann.invites(&["dee@example.com"], "admin").await;

        // Where only an owner makes admins.
        world.switches_policy_to("guarded-admin").await;
        let bob = world.person("bob");
        let refused = bob.tries_to_accept(&by_admin[0].token).await.expect_err("an admin makes no admins any more");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_ROLE_NOT_GRANTABLE"));
        assert_eq!(world.person("dee").accepts(&by_owner[0].token).await.role, "admin");
        let ann = ann.at(world.channel());
        let anew = ann.tries_to_resend(id(&by_admin[0])).await.expect("an owner does");
        assert_eq!(bob.accepts(&anew.token).await.role, "admin");
        world.person("cas").tries_to_decline(&by_admin[1].token).await.expect("declined");
        world.end().await;
    }

    async fn the_worker_takes_expired_invitations_off_the_books_and_nobody_sees_a_difference(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let zoe = world.person("zoe").founds("Zoo").await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com"], "member").await;
        zoe.invites(&["dee@example.com"], "member").await;
        world.pass(TimeDelta::days(3));
        ann.invites(&["eve@example.com"], "member").await;
        world.pass(TimeDelta::days(4));
        let counted = async || world.number("SELECT CAST(sum(pending_invitations) AS bigint) FROM organization").await;
        assert_eq!((counted().await, ann.seats().await.as_str()), (4, "2 / 100 seats"));
        let events = world.events(&ann.organization_id).await;
        tenantry::worker::sweep(&world.servers[0].app, &tokio_util::sync::CancellationToken::new()).await;
        assert_eq!((counted().await, ann.seats().await.as_str()), (1, "2 / 100 seats"));
        assert_eq!(world.events(&ann.organization_id).await, events);
        assert_eq!(ann.invitation(id(&sent[0])).await.expect("found").state(), InvitationState::Expired);
        assert!(ann.invites(&["bob@example.com"], "member").await[0].resent);
        ann.tries_to_cancel(&[id(&sent[1])]).await.expect("also an expired one");
        assert_eq!(ann.seats().await, "3 / 100 seats");
        world.end().await;
    }

    async fn an_invitation_outlives_its_inviter(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let sent = ada.invites(&["bob@example.com"], "admin").await;
        ann.tries_to_remove("ada").await.expect("removed");
        assert_eq!(world.person("bob").accepts(&sent[0].token).await.role, "admin");
        world.end().await;
    }

    async fn an_invitation_lives_one_to_thirty_days(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let day = 86_400;
        let invite = |email: &'static str, seconds: i64, nanos: i32| {
            invites_with(
                &ann,
                pb::InviteMembersRequest {
                    emails: vec![email.into()],
                    role: "member".into(),
                    ttl: Some(prost_types::Duration { seconds, nanos }),
                    ..Default::default()
                },
            )
        };
        for (seconds, nanos) in [(day, 0), (30 * day, 0), (2 * day, 123_456_789)] {
            let invited = invite("bob@example.com", seconds, nanos).await.expect("invited").remove(0);
            let lifetime = TimeDelta::seconds(seconds) + TimeDelta::microseconds(i64::from(nanos / 1000));
            assert_eq!(of(&invited).expire_time, Some(world.wire_time_in(lifetime)));
            assert_eq!(
                ann.invitation(id(&invited)).await.as_ref(),
                Ok(of(&invited)),
                "as it was answered, so it is kept"
            );
        }
        let wrong = [
            (0, 0),
            (day - 1, 999_999_999),
            (30 * day, 1),
            (-day, 0),
            (day, -1),
            (day, i32::MAX),
            (i64::MAX, 0),
            (i64::MIN, i32::MIN),
        ];
        for (seconds, nanos) in wrong {
            let refused = invite("cas@example.com", seconds, nanos).await.expect_err("out of bounds");
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"), "{seconds} s {nanos} ns");
            assert_eq!(refused.fields, ["ttl"]);
        }
        assert_eq!(ann.invitations(&[]).await, ["bob@example.com"]);
        world.end().await;
    }

    async fn a_rehearsal_answers_as_if_but_gives_no_token_and_writes_nothing(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["bob@example.com"], "member").await.remove(0);
        let state = async || {
            let rows = ann.invitation(id(&sent)).await.expect("found");
            (world.events(&ann.organization_id).await, ann.seats().await, ann.invitations(&[]).await, rows)
        };
        let before = state().await;
        let rehearse = |emails: &[&str]| {
            invites_with(
                &ann,
                pb::InviteMembersRequest {
                    emails: emails.iter().map(|email| (*email).to_owned()).collect(),
                    role: "admin".into(),
                    validate_only: true,
                    request_id: uuid::Uuid::from_u128(7).to_string(),
                    ..Default::default()
                },
            )
        };
        let answered = rehearse(&["bob@example.com", "cas@example.com"]).await.expect("it could be done");
        assert_eq!(answered.iter().map(|one| one.resent).collect::<Vec<_>>(), [true, false]);
        assert_eq!((of(&answered[0]).role.as_str(), of(&answered[0]).send_count), ("admin", 2));
        assert!(answered.iter().all(|one| one.token.is_empty()));
        let refused = rehearse(&["1@example.com", "2@example.com", "3@example.com"]).await.expect_err("full");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        let resend = pb::ResendInvitationRequest {
            organization_id: ann.organization_id.clone(),
            invitation_id: id(&sent).to_owned(),
            validate_only: true,
            ..Default::default()
        };
        let answered = answer(ann.members().resend_invitation(resend).await).expect("it could be done");
        assert_eq!((answered.token.as_str(), answered.invitation.expect("one").send_count), ("", 2));
        let cancel = pb::CancelInvitationsRequest {
            organization_id: ann.organization_id.clone(),
            invitation_ids: vec![id(&sent).to_owned()],
            validate_only: true,
            ..Default::default()
        };
        let answered = answer(ann.members().cancel_invitations(cancel).await).expect("it could be done");
        assert_eq!(answered.invitations[0].state(), InvitationState::Canceled);
        let bob = world.person("bob");
        let invitation = Some(by_token(&sent.token));
        let accept = pb::AcceptInvitationRequest { invitation, validate_only: true, ..Default::default() };
        let answered = answer(bob.members().accept_invitation(accept).await).expect("it could be done");
        assert_eq!(answered.member.expect("a member").user_id, "bob");
        let invitation = Some(by_token(&sent.token));
        let decline = pb::DeclineInvitationRequest { invitation, validate_only: true, ..Default::default() };
        let answered = answer(bob.members().decline_invitation(decline).await).expect("it could be done");
        assert_eq!(answered.invitation.expect("one").state(), InvitationState::Declined);
        assert_eq!(state().await, before);
        bob.accepts(&sent.token).await;
        world.end().await;
    }

    async fn invitations_are_listed_newest_first_by_the_state_that_they_are_in_now(backend: Backend) {
        use InvitationState as S;
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut sent = Vec::new();
        for name in ["accepted", "declined", "canceled", "expired", "pending"] {
            sent.push(ann.invites(&[&format!("{name}@example.com")], "member").await.remove(0));
            world.pass(INSTANT);
        }
        world.person("accepted").accepts(&sent[0].token).await;
        world.person("declined").tries_to_decline(&sent[1].token).await.expect("declined");
        ann.tries_to_cancel(&[id(&sent[2])]).await.expect("canceled");
        world.pass(TimeDelta::days(1));
        ann.tries_to_resend(id(&sent[4])).await.expect("resent");
        world.pass(TimeDelta::days(6));
        let all = ["pending", "expired", "canceled", "declined", "accepted"].map(|name| format!("{name}@example.com"));
        assert_eq!(ann.invitations(&[]).await, all);
        for (state, email) in [S::Pending, S::Expired, S::Canceled, S::Declined, S::Accepted].into_iter().zip(&all) {
            assert_eq!(ann.invitations(&[state]).await, [email.as_str()], "{state:?}");
            let found = sent.iter().find(|sent| of(sent).email == *email).expect("sent");
            assert_eq!(ann.invitation(id(found)).await.expect("found").state(), state);
        }
        assert_eq!(ann.invitations(&[S::Expired, S::Accepted, S::Expired]).await, [all[1].clone(), all[4].clone()]);
        // A service reads them too; a plain member does not.
        let service = Person { organization_id: ann.organization_id.clone(), ..world.service("mailer") };
        assert_eq!(service.invitations(&[S::Pending]).await, [all[0].clone()]);
        let member = world.person("accepted").acting_in(&ann.organization_id, "member");
        let refused = member.invitation(id(&sent[4])).await.expect_err("not for members");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        world.end().await;
    }

    async fn pages_of_invitations_show_each_once_and_belong_to_their_list(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(300)), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let zed = world.person("zed").founds("Zeta").await;
        let emails: Vec<String> = (0..205).map(|number| format!("{number}@example.com")).collect();
        ann.invites(&emails.iter().map(String::as_str).collect::<Vec<_>>(), "member").await;
        zed.invites(&["a@example.com", "b@example.com"], "member").await;
        let list = async |who: &Person, page_size: i32, page_token: &str, states: &[InvitationState]| {
            let request = pb::ListInvitationsRequest {
                organization_id: who.organization_id.clone(),
                page_size,
                page_token: page_token.into(),
                states: states.iter().map(|state| i32::from(*state)).collect(),
            };
            answer(who.members().list_invitations(request).await)
        };
        let newest_first: Vec<String> = emails.iter().rev().cloned().collect();
        for size in [1_000_000, 200, 100, 34] {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let page = list(&ann, size, &token, &[]).await.expect("a page");
                let most = usize::try_from(size).expect("a size").min(200);
                assert!(page.next_page_token.is_empty() || page.invitations.len() == most);
                seen.extend(page.invitations.into_iter().map(|one| one.email));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, newest_first, "in pages of {size}");
        }
        assert_eq!(list(&ann, 0, "", &[]).await.expect("a page").invitations.len(), 50);
        let refused = list(&ann, -1, "", &[]).await.expect_err("less than nothing");
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(refused.fields, ["page_size"]);
        let token = list(&ann, 1, "", &[]).await.expect("a page").next_page_token;
        let elsewhere = list(&zed, 1, "", &[]).await.expect("a page").next_page_token;
        let members = pb::ListMembersRequest { page_size: 1, states: vec![1, 3], ..Default::default() };
        let of_members = ann.tries_to_list(&members).await.expect("a page").next_page_token;
        let other = "QUJD".to_owned();
        for (token, states) in
            [(&token, &[InvitationState::Pending][..]), (&elsewhere, &[]), (&of_members, &[]), (&other, &[])]
        {
            let refused = list(&ann, 1, token, states).await.expect_err("not a token of this list");
            assert_eq!(refused.is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
        }
        assert_eq!(list(&ann, 3, &token, &[]).await.expect("another size").invitations.len(), 3);
        world.end().await;
    }
}
