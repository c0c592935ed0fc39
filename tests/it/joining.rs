//! Joining by the domain of one's address: at once, by a request that somebody decides, or by the invitation that waits. And
//! what a token shows of its invitation.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use tenantry::pb::{self, InvitationState, JoinMode, JoinRequestState};
use tonic::Code;

use crate::harness::domains::Joined;
use crate::harness::person::{Person, answer};
use crate::harness::race::{at_once, spread};
use crate::harness::refused::Refused;
use crate::harness::replay::replay;
use crate::harness::tenant::id_of;
use crate::harness::world::{Setup, World, plans_with_seats, roomy};
use crate::harness::{Backend, database_tests};

const CLOSED: (Code, &str) = (Code::FailedPrecondition, "JOINING_NOT_OPEN");
const MEMBER: (Code, &str) = (Code::AlreadyExists, "ALREADY_MEMBER");
const FULL: (Code, &str) = (Code::FailedPrecondition, "SEAT_LIMIT_REACHED");
const UNKNOWN: (Code, &str) = (Code::NotFound, "JOIN_REQUEST_NOT_FOUND");
const ENDED: (Code, &str) = (Code::FailedPrecondition, "JOIN_REQUEST_NOT_PENDING");
const ABOVE: (Code, &str) = (Code::PermissionDenied, "ROLE_ABOVE_CALLER");
const WRONG: (Code, &str) = (Code::InvalidArgument, "INVALID_FIELDS");

/// Acme, which has proved example.com, everybody's domain, and lets its people in so.
async fn acme(world: &World, join_mode: JoinMode, role: &str) -> Person {
    let ann = world.person("ann").founds("Acme").await;
    world.opens(&ann, "example.com", join_mode, role).await;
    ann
}

/// The payload of the last event of a kind.
async fn told(world: &World, owner: &Person, kind: &str) -> serde_json::Value {
    use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
    use tenantry::entity::event;
    let database = world.database().await;
    let id = uuid::Uuid::parse_str(&owner.organization_id).expect("an organization's id");
    let found = event::Entity::find()
        .filter(event::Column::OrganizationId.eq(id))
        .filter(event::Column::Type.eq(kind))
        .order_by_desc(event::Column::Number)
        .one(&database)
        .await
        .expect("the log can be read");
    database.close().await.expect("a connection can be closed");
    found.unwrap_or_else(|| panic!("no {kind}")).payload
}

fn endings<T>(outcomes: &[Result<T, Refused>]) -> BTreeMap<&str, usize> {
    let mut count = BTreeMap::new();
    for outcome in outcomes {
        *count.entry(outcome.as_ref().map_or_else(|refused| refused.reason.as_str(), |_| "OK")).or_default() += 1;
    }
    count
}

database_tests! {
    async fn who_has_an_address_of_the_domain_joins_by_themselves_as_long_as_there_are_seats(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(3)), ..Setup::default() }).await;
        let ann = acme(&world, JoinMode::Automatic, "admin").await;
        let bob = world.person("bob").with_email("Bob@EXAMPLE.com");
        let found = bob.joinable().await;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].organization_id.as_str(), found[0].name.as_str()), (ann.organization_id.as_str(), "Acme"));
        assert_eq!((found[0].join_mode(), found[0].join_request.as_ref()), (JoinMode::Automatic, None));
        let member = bob.tries_to_join(&ann.organization_id).await.expect("joined").member();
        assert_eq!((member.user_id.as_str(), member.email.as_str()), ("bob", "Bob@EXAMPLE.com"));
        assert_eq!((member.role.as_str(), member.display_name.as_str()), ("admin", "bob"));
        assert_eq!((member.join_time, member.invitation_id.as_str()), (Some(world.wire_time()), ""));
        assert_eq!(ann.member("bob").await, Ok(member));
        let payload = told(&world, &ann, "member.joined").await;
        assert_eq!((payload["domain"].as_str(), payload["invitation_id"].as_str()), (Some("example.com"), None));
        assert!(!payload.to_string().contains('@'), "no address in the log");
        assert_eq!(bob.joinable().await, []);
        let refused = bob.tries_to_join(&ann.organization_id).await.expect_err("a member by now");
        assert_eq!((refused.is(), refused.metadata["user_id"].as_str()), (MEMBER, "bob"));
        // Who is removed does not come back by the rule for everybody: they ask, and somebody decides.
        ann.tries_to_remove("bob").await.expect("removed");
        let asked = bob.tries_to_join(&ann.organization_id).await.expect("asked").request();
        ann.tries_to_approve(&asked.join_request_id, "admin").await.expect("approved");
        // Whoever joined acts with the role that they have.
        bob.acting_in(&ann.organization_id, "admin").invites(&["cas@elsewhere.com"], "member").await;
        let dee = world.person("dee");
        let refused = dee.tries_to_join(&ann.organization_id).await.expect_err("no seat");
        assert_eq!(refused.is(), FULL);
        // Figures are for members.
        assert!(refused.metadata.is_empty(), "{refused:?}");
        // The invitation expires, and its seat is free.
        world.pass(TimeDelta::days(7));
        dee.tries_to_join(&ann.organization_id).await.expect("joined");
        assert_eq!(ann.seats().await, "3 / 3 seats");
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn nobody_is_told_why_an_organization_is_not_open_to_them(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = world.person("bob");
        let closed = |outcome: Result<Joined, Refused>| {
            let refused = outcome.expect_err("closed");
            assert_eq!((refused.is(), refused.metadata.len()), (CLOSED, 0));
            refused
        };
        // No such organization; no domain; claimed; verified, and open to nobody; another's domain, or a part of it; deleted.
        let first = closed(bob.tries_to_join("0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70").await);
        assert_eq!(closed(bob.tries_to_join(&ann.organization_id).await), first);
        world.proves(&ann.tries_to_claim("example.com").await.expect("claimed"));
        assert_eq!(closed(bob.tries_to_join(&ann.organization_id).await), first);
        ann.tries_to_verify("example.com").await.expect("verified");
        assert_eq!(closed(bob.tries_to_join(&ann.organization_id).await), first);
        assert_eq!(bob.joinable().await, []);
        ann.tries_to_open_domain("example.com", JoinMode::Automatic, "member").await.expect("opened");
        for email in ["bob@elsewhere.com", "bob@eu.example.com", "bob@notexample.com", "bob@example.com.evil.com"] {
            let bob = bob.with_email(email);
            assert_eq!(closed(bob.tries_to_join(&ann.organization_id).await), first);
            assert_eq!(bob.joinable().await, []);
        }
        // A role that has left the role policy is given to nobody; nor is the top role, whatever the row says.
        for role in ["gone", "owner"] {
            world.tampers(&format!("UPDATE organization_domain SET join_role = '{role}'")).await;
            assert_eq!(closed(bob.tries_to_join(&ann.organization_id).await), first);
            assert_eq!(bob.joinable().await, []);
        }
        ann.tries_to_open_domain("example.com", JoinMode::Automatic, "member").await.expect("mended");
        ann.deletes_organization().await;
        assert_eq!(closed(bob.tries_to_join(&ann.organization_id).await), first);
        assert_eq!(bob.joinable().await, []);
        // Without a verified address nobody joins anything.
        let refused = bob.with_email("").tries_to_join(&ann.organization_id).await.expect_err("no address");
        assert_eq!(refused.is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        let request = pb::ListJoinableOrganizationsRequest {};
        let refused =
            answer(bob.with_email("").members().list_joinable_organizations(request).await).expect_err("none");
        assert_eq!(refused.is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        let refused = bob.tries_to_join("Acme").await.expect_err("no id");
        assert_eq!((refused.is(), refused.fields.join(" ").as_str()), (WRONG, "organization_id"));
        world.end().await;
    }

    async fn while_payment_is_overdue_nobody_joins(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = acme(&world, JoinMode::Automatic, "member").await;
        world.tampers("UPDATE subscription SET status = 'past_due'").await;
        let refused = world.person("bob").tries_to_join(&ann.organization_id).await.expect_err("overdue");
        // How the organization pays is no stranger's business.
        assert_eq!(refused.is(), (Code::FailedPrecondition, "JOINING_NOT_OPEN"));
        ann.tries_to_open_domain("example.com", JoinMode::Request, "member").await.expect("opened");
        let asked = world.person("bob").tries_to_join(&ann.organization_id).await.expect("a request takes no seat");
        let refused = ann.tries_to_approve(&asked.request().join_request_id, "").await.expect_err("overdue");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SUBSCRIPTION_PAST_DUE"));
        world.end().await;
    }

    async fn a_request_waits_for_whoever_may_invite_and_takes_its_seat_then(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(2)), ..Setup::default() }).await;
        let ann = acme(&world, JoinMode::Request, "member").await;
        let (bob, cas) = (world.person("bob"), world.person("cas"));
        let asked = bob.tries_to_join(&ann.organization_id).await.expect("asked").request();
        assert_eq!((asked.organization_id.as_str(), asked.user_id.as_str()), (ann.organization_id.as_str(), "bob"));
        assert_eq!((asked.email.as_str(), asked.display_name.as_str()), ("bob@example.com", "bob"));
        assert_eq!((asked.role.as_str(), asked.state()), ("member", JoinRequestState::Pending));
        assert_eq!((asked.create_time, asked.end_time), (Some(world.wire_time()), None));
        assert_eq!(ann.seats().await, "1 / 2 seats");
        // Asked again it is the same request, even when the door has been shut since.
        world.pass(TimeDelta::hours(1));
        assert_eq!(bob.tries_to_join(&ann.organization_id).await, Ok(Joined::Waiting(asked.clone())));
        assert_eq!(bob.joinable().await[0].join_request.as_ref(), Some(&asked));
        ann.tries_to_open_domain("example.com", JoinMode::Nobody, "").await.expect("shut");
        assert_eq!(bob.tries_to_join(&ann.organization_id).await, Ok(Joined::Waiting(asked.clone())));
        assert_eq!(cas.tries_to_join(&ann.organization_id).await.expect_err("shut").is(), CLOSED);
        ann.tries_to_open_domain("example.com", JoinMode::Request, "member").await.expect("opened");
        let second = cas.tries_to_join(&ann.organization_id).await.expect("asked").request();
        assert_eq!(ann.asking(&[JoinRequestState::Pending]).await, ["cas", "bob"]);

        let approved = ann.tries_to_approve(&asked.join_request_id, "").await.expect("approved");
        let member = approved.member.expect("a member");
        assert_eq!(
            (member.user_id.as_str(), member.role.as_str(), member.display_name.as_str()),
            ("bob", "member", "bob")
        );
        let request = approved.join_request.expect("a request");
        assert_eq!((request.state(), request.decider_user_id.as_str()), (JoinRequestState::Approved, "ann"));
        assert_eq!(request.end_time, Some(world.wire_time()));
        assert_eq!(bob.acting_in(&ann.organization_id, "member").member("bob").await, Ok(member));
        assert_eq!(told(&world, &ann, "member.joined").await["domain"], "example.com");
        let refused = ann.tries_to_approve(&asked.join_request_id, "").await.expect_err("twice");
        assert_eq!(refused.is(), ENDED);
        assert_eq!(
            (refused.metadata["state"].as_str(), &refused.metadata["join_request_id"]),
            ("APPROVED", &asked.join_request_id)
        );
        assert_eq!(ann.tries_to_turn_down(&asked.join_request_id).await.expect_err("too late").is(), ENDED);

        // There is no seat for another, who goes on waiting.
        assert_eq!(ann.tries_to_approve(&second.join_request_id, "").await.expect_err("full").is(), FULL);
        assert_eq!(ann.asking(&[JoinRequestState::Pending]).await, ["cas"]);
        let declined = ann.tries_to_turn_down(&second.join_request_id).await.expect("declined");
        assert_eq!((declined.state(), declined.decider_user_id.as_str()), (JoinRequestState::Declined, "ann"));
        assert_eq!(
            ann.tries_to_approve(&second.join_request_id, "").await.expect_err("declined").metadata["state"],
            "DECLINED"
        );
        // Who was declined may ask again, and take it back.
        let third = cas.tries_to_join(&ann.organization_id).await.expect("asked").request();
        assert_ne!(third.join_request_id, second.join_request_id);
        let withdrawn = cas.tries_to_withdraw(&ann.organization_id).await.expect("withdrawn");
        assert_eq!((withdrawn.state(), withdrawn.decider_user_id.as_str()), (JoinRequestState::Withdrawn, ""));
        assert_eq!(cas.tries_to_withdraw(&ann.organization_id).await.expect_err("nothing to withdraw").is(), UNKNOWN);
        assert_eq!(
            ann.tries_to_approve(&third.join_request_id, "").await.expect_err("withdrawn").metadata["state"],
            "WITHDRAWN"
        );
        let events = replay(&world, &ann.organization_id).await;
        let of_requests: Vec<&str> = events.iter().filter_map(|name| name.strip_prefix("join_request.")).collect();
        assert_eq!(of_requests, ["created", "created", "approved", "declined", "created", "withdrawn"]);
        world.end().await;
    }

    async fn requests_are_found_in_pages_and_by_state_and_only_in_their_organization(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = acme(&world, JoinMode::Request, "member").await;
        let mut ids = Vec::new();
        for name in ["bob", "cas", "dee", "eve", "fay"] {
            world.pass(TimeDelta::seconds(1));
            let asked = world.person(name).tries_to_join(&ann.organization_id).await.expect("asked");
            ids.push(asked.request().join_request_id);
        }
        ann.tries_to_turn_down(&ids[1]).await.expect("declined");
        ann.tries_to_approve(&ids[2], "").await.expect("approved");
        world.person("eve").tries_to_withdraw(&ann.organization_id).await.expect("withdrawn");
        assert_eq!(ann.asking(&[]).await, ["fay", "eve", "dee", "cas", "bob"]);
        assert_eq!(ann.asking(&[JoinRequestState::Pending]).await, ["fay", "bob"]);
        assert_eq!(ann.asking(&[JoinRequestState::Declined, JoinRequestState::Withdrawn]).await, ["eve", "cas"]);
        assert_eq!(ann.asking(&[JoinRequestState::Approved]).await, ["dee"]);
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let page = ann.tries_to_list_requests(&[], 2, &token).await.expect("a page");
            found.extend(page.join_requests.into_iter().map(|request| request.join_request_id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
            let refused =
                ann.tries_to_list_requests(&[JoinRequestState::Pending], 2, &token).await.expect_err("of another");
            assert_eq!(refused.is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
        }
        ids.reverse();
        assert_eq!(found, ids);
        let refused = ann.tries_to_list_requests(&[JoinRequestState::Unspecified], -1, "").await.expect_err("wrong");
        assert_eq!((refused.is(), refused.fields.join(" ").as_str()), (WRONG, "states[0] page_size"));
        // Another organization has none of these.
        let zed = world.person("zed").founds("Zeta").await;
        assert_eq!(zed.asking(&[]).await, [""; 0]);
        let refused = zed.tries_to_approve(&ids[0], "").await.expect_err("not Zeta's");
        assert_eq!((refused.is(), &refused.metadata["join_request_id"]), (UNKNOWN, &ids[0]));
        assert_eq!(zed.tries_to_turn_down(&ids[0]).await.expect_err("not Zeta's").is(), UNKNOWN);
        for refused in
            [ann.tries_to_approve("x", "emperor").await.map(drop), ann.tries_to_turn_down("x").await.map(drop)]
        {
            assert_eq!(refused.expect_err("wrong").is(), WRONG);
        }
        let service = Person { organization_id: ann.organization_id.clone(), ..world.service("directory") };
        assert_eq!(service.asking(&[JoinRequestState::Pending]).await, ["fay", "bob"]);
        world.end().await;
    }

    async fn who_decides_a_request_must_be_allowed_the_role(backend: Backend) {
        let setup = Setup { policy: "guarded-admin".into(), ..roomy() };
        let world = World::with(backend, setup).await;
        let ann = acme(&world, JoinMode::Request, "admin").await;
        let ada = ann.brings("ada", "admin").await;
        let max = ann.brings("max", "member").await;
        let ask = async |name: &str| {
            let asked = world.person(name).tries_to_join(&ann.organization_id).await.expect("asked");
            asked.request().join_request_id
        };
        let (bob, cas, dee) = (ask("bob").await, ask("cas").await, ask("dee").await);
        for refused in [max.tries_to_approve(&bob, "").await.map(drop), max.tries_to_turn_down(&bob).await.map(drop)] {
            assert_eq!(refused.expect_err("a member").is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        }
        let refused = ada.tries_to_approve(&bob, "").await.expect_err("as an admin");
        assert_eq!((refused.is(), refused.metadata["target_role"].as_str()), (ABOVE, "admin"));
        assert_eq!(ada.tries_to_turn_down(&bob).await.expect_err("nor turn down").is(), ABOVE);
        // Another role that she may give, she gives. Whether there is such a request she hears after that.
        let nowhere = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70";
        assert_eq!(ada.tries_to_approve(nowhere, "owner").await.expect_err("above").is(), ABOVE);
        let member = ada.tries_to_approve(&bob, "member").await.expect("approved").member.expect("a member");
        assert_eq!(member.role, "member");
        // What was offered is gone from the policy: who decides names another.
        world.tampers("UPDATE join_request SET role = 'gone' WHERE state = 'pending'").await;
        let refused = ann.tries_to_approve(&cas, "").await.expect_err("gone");
        assert_eq!((refused.is(), refused.fields.join(" ").as_str()), (WRONG, "role"));
        assert_eq!(ada.tries_to_approve(&cas, "").await.expect_err("gone").is(), WRONG);
        ann.tries_to_approve(&cas, "owner").await.expect("the owner may");
        assert_eq!(ann.tries_to_turn_down(&dee).await.expect("cleared").state(), JoinRequestState::Declined);
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn joining_accepts_the_invitation_that_waits_and_takes_no_further_seat(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(4)), ..Setup::default() }).await;
        for mode in [JoinMode::Automatic, JoinMode::Request] {
            let ann = world.person("ann").founds("Acme").await;
            world.opens(&ann, "example.com", mode, "member").await;
            let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "admin").await;
            assert_eq!(ann.seats().await, "4 / 4 seats");
            // Invited already, Bob waits for nobody's decision, and gets what he was invited to.
            let member = world.person("bob").tries_to_join(&ann.organization_id).await.expect("joined").member();
            assert_eq!((member.role.as_str(), member.invitation_id.as_str()), ("admin", id_of(&sent[0])));
            let invitation = ann.invitation(id_of(&sent[0])).await.expect("found");
            assert_eq!((invitation.state(), invitation.invitee_user_id.as_str()), (InvitationState::Accepted, "bob"));
            let payload = told(&world, &ann, "member.joined").await;
            assert_eq!((payload["invitation_id"].as_str(), payload["domain"].as_str()), (Some(id_of(&sent[0])), None));
            assert_eq!(ann.seats().await, "4 / 4 seats");
            let refused = world.person("bob").tries_to_accept(&sent[0].token).await.expect_err("accepted by joining");
            assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_NOT_PENDING"));
            // An invitation whose role cannot be given any more gives its seat at least, where one joins by oneself.
            world
                .tampers("UPDATE invitation SET inviter_role = 'gone' WHERE email_normalized = 'cas@example.com'")
                .await;
            match world.person("cas").tries_to_join(&ann.organization_id).await.expect("joined or asked") {
                Joined::Member(member) => assert_eq!((mode, member.role.as_str()), (JoinMode::Automatic, "member")),
                Joined::Waiting(request) => {
                    assert_eq!(mode, JoinMode::Request);
                    ann.tries_to_approve(&request.join_request_id, "").await.expect("by the seat of the invitation");
                }
            }
            assert_eq!(ann.invitations(&[InvitationState::Pending]).await, ["dee@example.com"]);
            assert_eq!(ann.seats().await, "4 / 4 seats");
            // One that has expired is none.
            world.pass(TimeDelta::days(7));
            match world.person("dee").tries_to_join(&ann.organization_id).await.expect("joined or asked") {
                Joined::Member(member) => {
                    assert_eq!((member.role.as_str(), member.invitation_id.as_str()), ("member", ""));
                }
                Joined::Waiting(request) => assert_eq!(request.role, "member"),
            }
            assert_eq!(ann.invitation(id_of(&sent[2])).await.expect("found").state(), InvitationState::Expired);
            replay(&world, &ann.organization_id).await;
            ann.tries_to_release("example.com").await.expect("released for the next");
        }
        world.end().await;
    }

    async fn a_request_ends_when_its_user_comes_in_by_another_way(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(4)), ..Setup::default() }).await;
        let ann = acme(&world, JoinMode::Request, "member").await;
        let asked = async |name: &str| {
            world.pass(TimeDelta::seconds(1));
            world.person(name).tries_to_join(&ann.organization_id).await.expect("asked").request()
        };
        let (bob, cas, dee) = (asked("bob").await, asked("cas").await, asked("dee").await);
        // By an invitation that is accepted.
        ann.brings("bob", "admin").await;
        assert_eq!(ann.asking(&[JoinRequestState::Pending]).await, ["dee", "cas"]);
        let refused = ann.tries_to_approve(&bob.join_request_id, "").await.expect_err("a member already");
        assert_eq!((refused.is(), refused.metadata["state"].as_str()), (ENDED, "APPROVED"));
        // By themselves, since the door has been opened.
        ann.tries_to_open_domain("example.com", JoinMode::Automatic, "member").await.expect("opened");
        world.person("cas").tries_to_join(&ann.organization_id).await.expect("joined").member();
        assert_eq!(ann.asking(&[JoinRequestState::Approved]).await, ["cas", "bob"]);
        let refused = ann.tries_to_turn_down(&cas.join_request_id).await.expect_err("a member already");
        assert_eq!((refused.is(), refused.metadata["state"].as_str()), (ENDED, "APPROVED"));
        // Invited while asking: the approval uses the seat that the invitation holds. There is no other.
        let sent = ann.invites(&["dee@example.com"], "admin").await;
        assert_eq!(ann.seats().await, "4 / 4 seats");
        let member = ann.tries_to_approve(&dee.join_request_id, "").await.expect("approved").member.expect("a member");
        assert_eq!((member.role.as_str(), member.invitation_id.as_str()), ("member", ""));
        assert_eq!(ann.invitation(id_of(&sent[0])).await.expect("found").state(), InvitationState::Accepted);
        assert_eq!(ann.seats().await, "4 / 4 seats");
        replay(&world, &ann.organization_id).await;
        // Put there by a hand that knows nothing of requests: no second membership comes of it.
        world.tampers("UPDATE join_request SET state = 'pending', ended_at = NULL WHERE user_id = 'bob'").await;
        let refused = ann.tries_to_approve(&bob.join_request_id, "").await.expect_err("a member");
        assert_eq!((refused.is(), refused.metadata["user_id"].as_str()), (MEMBER, "bob"));
        world.end().await;
    }

    async fn an_approval_ends_no_invitation_to_a_role_above_the_approver(backend: Backend) {
        let setup = Setup { policy: "guarded-admin".into(), ..roomy() };
        let world = World::with(backend, setup).await;
        let ann = acme(&world, JoinMode::Request, "member").await;
        let ada = ann.brings("ada", "admin").await;
        let asked = world.person("bob").tries_to_join(&ann.organization_id).await.expect("asked").request();
        ann.invites(&["bob@example.com"], "admin").await;
        let refused = ada.tries_to_approve(&asked.join_request_id, "").await.expect_err("an admin's invitation");
        assert_eq!((refused.is(), refused.metadata["target_role"].as_str()), (ABOVE, "admin"));
        ann.tries_to_approve(&asked.join_request_id, "").await.expect("the owner may");
        world.end().await;
    }

    async fn joining_and_approving_are_repeated_and_rehearsed(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = acme(&world, JoinMode::Automatic, "member").await;
        let request = pb::JoinOrganizationRequest {
            organization_id: ann.organization_id.clone(),
            request_id: "3f0a4c1e-8a6e-4c3b-9f5e-2b1d0c4e6f70".into(),
            ..Default::default()
        };
        let bob = world.person("bob");
        let rehearsal = pb::JoinOrganizationRequest { validate_only: true, ..request.clone() };
        bob.tries_to_join_by(rehearsal).await.expect("rehearsed").member();
        assert_eq!(ann.seats().await, "1 / 100 seats");
        let first = bob.tries_to_join_by(request.clone()).await.expect("joined");
        assert_eq!(bob.tries_to_join_by(request).await, Ok(first));
        ann.tries_to_open_domain("example.com", JoinMode::Request, "member").await.expect("opened");
        let asked = world.person("cas").tries_to_join(&ann.organization_id).await.expect("asked").request();
        let approval = pb::ApproveJoinRequestRequest {
            organization_id: ann.organization_id.clone(),
            join_request_id: asked.join_request_id,
            request_id: "4f0a4c1e-8a6e-4c3b-9f5e-2b1d0c4e6f70".into(),
            ..Default::default()
        };
        let rehearsal = pb::ApproveJoinRequestRequest { validate_only: true, ..approval.clone() };
        answer(ann.members().approve_join_request(rehearsal).await).expect("rehearsed");
        assert_eq!(ann.asking(&[JoinRequestState::Pending]).await, ["cas"]);
        let first = answer(ann.members().approve_join_request(approval.clone()).await).expect("approved");
        assert_eq!(answer(ann.members().approve_join_request(approval).await), Ok(first));
        assert_eq!(ann.seats().await, "3 / 100 seats");
        world.end().await;
    }

    async fn a_request_to_a_deleted_organization_cannot_be_taken_back_until_it_returns(backend: Backend) {
        let world = World::new(backend).await;
        let ann = acme(&world, JoinMode::Request, "member").await;
        let bob = world.person("bob");
        bob.tries_to_join(&ann.organization_id).await.expect("asked").request();
        ann.deletes_organization().await;
        assert_eq!(bob.tries_to_withdraw(&ann.organization_id).await.expect_err("deleted").is(), UNKNOWN);
        assert_eq!(
            bob.tries_to_withdraw("0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70").await.expect_err("none").is(),
            UNKNOWN
        );
        assert_eq!(bob.tries_to_withdraw("Acme").await.expect_err("no id").is(), WRONG);
        world.end().await;
    }

    async fn of_many_newcomers_at_once_as_many_join_as_there_are_seats(backend: Backend) {
        let world =
            World::with(backend, Setup { plans: Some(plans_with_seats(2)), servers: 2, ..Setup::default() }).await;
        let ann = acme(&world, JoinMode::Automatic, "member").await;
        for round in 0..4 {
            let calls = (0..6).map(|number| {
                let guest = spread(&world, &world.person(&format!("guest{round}-{number}")), number);
                let organization_id = ann.organization_id.clone();
                async move { guest.tries_to_join(&organization_id).await }
            });
            let outcomes = at_once(calls).await;
            assert_eq!(endings(&outcomes), BTreeMap::from([("OK", 1), ("SEAT_LIMIT_REACHED", 5)]));
            let won = outcomes.into_iter().find_map(Result::ok).expect("one").member();
            replay(&world, &ann.organization_id).await;
            ann.tries_to_remove(&won.user_id).await.expect("removed for the next round");
        }
        world.end().await;
    }

    async fn joining_twice_at_once_is_joining_once(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        let ann = acme(&world, JoinMode::Automatic, "member").await;
        let join = |name: &str, number: usize| {
            let (guest, organization_id) = (spread(&world, &world.person(name), number), ann.organization_id.clone());
            async move { guest.tries_to_join(&organization_id).await }
        };
        let outcomes = at_once((0..6).map(|number| join("bob", number))).await;
        assert_eq!(endings(&outcomes), BTreeMap::from([("OK", 1), ("ALREADY_MEMBER", 5)]));
        // Asking at once, all hear of the same request.
        ann.tries_to_open_domain("example.com", JoinMode::Request, "member").await.expect("opened");
        let outcomes = at_once((0..6).map(|number| join("cas", number))).await;
        let first = outcomes[0].clone().expect("asked").request();
        assert!(outcomes.into_iter().all(|outcome| outcome == Ok(Joined::Waiting(first.clone()))));
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn a_request_is_decided_once_however_many_decide_it_at_once(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        let ann = acme(&world, JoinMode::Request, "member").await;
        for round in 0..4 {
            let guest = world.person(&format!("guest{round}"));
            let id = guest.tries_to_join(&ann.organization_id).await.expect("asked").request().join_request_id;
            let calls = (0..6).map(|number| {
                let (owner, guest) = (spread(&world, &ann, number + round), spread(&world, &guest, number + round));
                let id = id.clone();
                async move {
                    match number {
                        0..4 => owner.tries_to_approve(&id, "").await.map(drop),
                        4 => owner.tries_to_turn_down(&id).await.map(drop),
                        _ => guest.tries_to_withdraw(&owner.organization_id).await.map(drop),
                    }
                }
            });
            let outcomes = at_once(calls).await;
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
            for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
                assert!([ENDED, UNKNOWN].contains(&refused.is()), "{refused:?}");
            }
            replay(&world, &ann.organization_id).await;
        }
        world.end().await;
    }

    async fn an_invitation_is_accepted_or_joined_by_once(backend: Backend) {
        let world =
            World::with(backend, Setup { plans: Some(plans_with_seats(2)), servers: 2, ..Setup::default() }).await;
        let ann = acme(&world, JoinMode::Automatic, "member").await;
        for round in 0..4 {
            let sent = ann.invites(&["bob@example.com"], "admin").await;
            let calls = (0..4).map(|number| {
                let bob = spread(&world, &world.person("bob"), number / 2 + round);
                let (token, organization_id) = (sent[0].token.clone(), ann.organization_id.clone());
                async move {
                    match number % 2 {
                        0 => bob.tries_to_accept(&token).await,
                        _ => bob.tries_to_join(&organization_id).await.map(Joined::member),
                    }
                }
            });
            let outcomes = at_once(calls).await;
            assert_eq!(endings(&outcomes)["OK"], 1, "{outcomes:?}");
            let won = outcomes.into_iter().find_map(Result::ok).expect("one");
            assert_eq!((won.role.as_str(), won.invitation_id.as_str()), ("admin", id_of(&sent[0])));
            replay(&world, &ann.organization_id).await;
            ann.tries_to_remove("bob").await.expect("removed for the next round");
        }
        world.end().await;
    }

    async fn whoever_has_the_token_sees_what_it_offers(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let logo = pb::Organization { logo_uri: "https://acme.example/logo.png".into(), ..Default::default() };
        ann.tries_to_update(&["logo_uri"], logo).await.expect("a logo");
        let sent = ann.invites(&["bob@example.com"], "admin").await;
        let token = sent[0].token.as_str();
        // The page on which one signs in, a user with another address, the invitee: all see the same.
        let seen = world.service("web").tries_to_look_behind(token).await.expect("seen");
        assert_eq!(seen.invitation, sent[0].invitation);
        assert_eq!(
            (seen.organization_name.as_str(), seen.organization_logo_uri.as_str()),
            ("Acme", "https://acme.example/logo.png")
        );
        for name in ["bob", "zed"] {
            assert_eq!(world.person(name).with_email("").tries_to_look_behind(token).await.as_ref(), Ok(&seen));
        }
        let state = async |token: &str| {
            let seen = world.person("bob").tries_to_look_behind(token).await?;
            Ok::<_, Refused>(seen.invitation.expect("an invitation").state())
        };
        let missing = (Code::NotFound, "INVITATION_NOT_FOUND");
        // A resend makes the old token worthless.
        let resent = ann.tries_to_resend(id_of(&sent[0])).await.expect("resent").token;
        assert_eq!(state(token).await.expect_err("replaced").is(), missing);
        assert_eq!(state(&resent).await, Ok(InvitationState::Pending));
        world.pass(TimeDelta::days(7));
        assert_eq!(state(&resent).await, Ok(InvitationState::Expired));
        let resent = ann.tries_to_resend(id_of(&sent[0])).await.expect("resent").token;
        world.person("bob").accepts(&resent).await;
        assert_eq!(state(&resent).await, Ok(InvitationState::Accepted));
        let other = ann.invites(&["cas@example.com", "dee@example.com"], "member").await;
        ann.tries_to_cancel(&[id_of(&other[0])]).await.expect("canceled");
        assert_eq!(state(&other[0].token).await, Ok(InvitationState::Canceled));
        // A token with a letter changed, of an organization that there is not, or none at all.
        let mut forged = other[1].token.clone().into_bytes();
        let last = forged.len() - 5;
        forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
        assert_eq!(state(&String::from_utf8(forged).unwrap()).await.expect_err("forged").is(), missing);
        assert_eq!(state(&"A".repeat(other[1].token.len())).await.expect_err("of nobody").is(), missing);
        for text in ["", "x", &other[1].token[1..]] {
            let refused = state(text).await.expect_err("no token");
            assert_eq!((refused.is(), refused.fields.join(" ").as_str()), (WRONG, "token"));
        }
        ann.deletes_organization().await;
        assert_eq!(state(&other[1].token).await.expect_err("deleted").is(), missing);
        world.end().await;
    }
}
