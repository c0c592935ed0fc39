//! Members and their roles.

use chrono::TimeDelta;
use tenantry::pb::{self, DenialReason, MemberState, Permission};
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World, roomy};
use crate::harness::{Backend, database_tests};

const LAST_OWNER: (Code, &str) = (Code::FailedPrecondition, "LAST_OWNER");
const ABOVE: (Code, &str) = (Code::PermissionDenied, "ROLE_ABOVE_CALLER");
const MISSING: (Code, &str) = (Code::NotFound, "MEMBER_NOT_FOUND");
const ONESELF: (Code, &str) = (Code::FailedPrecondition, "SELF_CHANGE_FORBIDDEN");

fn under(policy: &str) -> Setup {
    Setup { policy: policy.into(), ..roomy() }
}

/// What a change leaves behind if it changes nothing.
async fn books(world: &World, person: &Person) -> (Vec<String>, Vec<pb::Member>) {
    let everybody = person.tries_to_list(&pb::ListMembersRequest::default()).await.expect("listed").members;
    (world.events(&person.organization_id).await, everybody)
}

fn faults(refused: &Refused) -> Vec<(&str, &str)> {
    refused.violations.iter().map(|(reason, item)| (reason.as_str(), item.as_str())).collect()
}

fn users(members: &[pb::Member]) -> Vec<(&str, &str)> {
    members.iter().map(|member| (member.user_id.as_str(), member.role.as_str())).collect()
}

/// The checks of a user's permissions; of the caller's own without a user.
async fn checks(
    asks: &Person,
    user_id: &str,
    permissions: &[Permission],
) -> Result<pb::CheckPermissionsResponse, Refused> {
    let request = pb::CheckPermissionsRequest {
        organization_id: asks.organization_id.clone(),
        user_id: user_id.into(),
        permissions: permissions.iter().map(|permission| i32::from(*permission)).collect(),
    };
    answer(asks.members().check_permissions(request).await)
}

database_tests! {
    async fn the_fifth_of_four_seats_is_refused(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        assert_eq!(ann.seats().await, "1 / 4 seats");
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        assert_eq!(ann.seats().await, "4 / 4 seats");
        let refused = ann.tries_to_invite(&["eve@example.com"], "member").await.expect_err("full");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        let bob = world.person("bob").accepts(&sent[0].token).await;
        assert_eq!(bob.role, "member");
        assert_eq!(ann.seats().await, "4 / 4 seats");
        world.end().await;
    }

    async fn members_get_themselves_and_others_only_if_they_may_list_them(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let zed = world.person("zed").founds("Zeta").await;
        assert_eq!(bob.member("bob").await, ann.member("bob").await);
        let refused = bob.member("ann").await.expect_err("Bob may not list members");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        assert_eq!(refused.metadata["permission"], "members_list");
        assert_eq!(bob.member("nobody").await.expect_err("nor learn who is there").is(), refused.is());
        let founder = ann.member("ann").await.expect("found");
        assert_eq!(
            (founder.role.as_str(), founder.state(), founder.invitation_id.as_str()),
            ("owner", MemberState::Active, "")
        );
        assert_eq!((founder.join_time, founder.last_sign_in_time), (Some(world.wire_time()), None));
        let refused = ann.member("zed").await.expect_err("of another organization");
        assert_eq!((refused.is(), refused.metadata["user_id"].as_str()), (MISSING, "zed"));
        let service = Person { organization_id: ann.organization_id.clone(), ..world.service("directory") };
        assert_eq!(service.member("ann").await, Ok(founder));
        assert_eq!(zed.member("zed").await.expect("found").organization_id, zed.organization_id);
        world.end().await;
    }

    async fn a_role_change_is_kept_and_the_role_already_held_is_no_change(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let before = ann.member("bob").await.expect("found");
        let changed = ann.tries_to_change_role("bob", "admin").await.expect("changed");
        assert_eq!(changed, pb::Member { role: "admin".into(), etag: changed.etag.clone(), ..before.clone() });
        assert_ne!(changed.etag, before.etag);
        assert_eq!(ann.member("bob").await.as_ref(), Ok(&changed));
        assert_eq!(world.events(&ann.organization_id).await.last().map(String::as_str), Some("member.role_changed"));
        // Bob's identity still says `member`, and the stored role decides.
        bob.acting_in(&ann.organization_id, "admin").invites(&["cas@example.com"], "member").await;
        let kept = books(&world, &ann).await;
        assert_eq!(ann.tries_to_change_role("bob", "admin").await, Ok(changed));
        assert_eq!(books(&world, &ann).await, kept);
        world.end().await;
    }

    async fn a_role_change_is_refused_for_what_is_stale_unknown_absent_above_or_oneself(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        ann.brings("bob", "member").await;
        let kept = books(&world, &ann).await;
        let request = pb::UpdateMemberRoleRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "bob".into(),
            role: "admin".into(),
            etag: "v7".into(),
            ..Default::default()
        };
        let refused = answer(ann.members().update_member_role(request.clone()).await).expect_err("stale");
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        let current = ann.member("bob").await.expect("found").etag;
        assert_eq!(refused.metadata["etag"], current);
        for (user, role, field) in
            [("bob", "emperor", "role"), ("bob", "", "role"), ("bob", "Admin", "role"), ("", "admin", "user_id")]
        {
            let refused = ann.tries_to_change_role(user, role).await.expect_err("wrong fields");
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
            assert_eq!(refused.fields, [field]);
        }
        assert_eq!(ann.tries_to_change_role("zed", "admin").await.expect_err("nobody").is(), MISSING);
        assert_eq!(ann.tries_to_change_role("ann", "admin").await.expect_err("herself").is(), ONESELF);
        assert_eq!(ann.tries_to_change_role("ann", "owner").await.expect_err("herself").is(), ONESELF);
        let refused = ada.tries_to_change_role("ann", "member").await.expect_err("an owner");
        assert_eq!((refused.is(), refused.metadata["target_role"].as_str()), (ABOVE, "owner"));
        let refused = ada.tries_to_change_role("bob", "owner").await.expect_err("to owner");
        assert_eq!((refused.is(), refused.metadata["target_role"].as_str()), (ABOVE, "owner"));
        assert_eq!(books(&world, &ann).await, kept);
        let fresh = pb::UpdateMemberRoleRequest { etag: current, ..request };
        answer(ann.members().update_member_role(fresh.clone()).await).expect("changed");
        let refused = answer(ann.members().update_member_role(fresh).await).expect_err("stale by now");
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        world.end().await;
    }

    async fn many_roles_are_changed_at_once_in_the_order_of_the_request(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        for (name, role) in [("bob", "member"), ("cas", "admin"), ("dee", "owner"), ("eve", "member")] {
            ann.brings(name, role).await;
        }
        let events = world.events(&ann.organization_id).await.len();
        // Eve and Dee change places: nobody is without an owner at the end.
        let updates = [("eve", "owner"), ("bob", "admin"), ("cas", "admin"), ("bob", "admin"), ("dee", "member")];
        let changed = ann.tries_to_change_roles(&updates).await.expect("changed");
        assert_eq!(users(&changed), [("eve", "owner"), ("bob", "admin"), ("cas", "admin"), ("dee", "member")]);
        for member in &changed {
            assert_eq!(ann.member(&member.user_id).await.as_ref(), Ok(member));
        }
        // Cas held the role already.
        assert_eq!(world.events(&ann.organization_id).await[events..], ["member.role_changed"; 3]);
        assert_eq!(world.number("SELECT top_role_members FROM organization").await, 2);
        world.end().await;
    }

    async fn a_batch_of_role_changes_names_every_fault_and_changes_nobody(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        ann.brings("bob", "member").await;
        let kept = books(&world, &ann).await;
        let updates = [("bob", "admin"), ("ann", "member"), ("ada", "member"), ("zed", "member"), ("bob", "admin")];
        let refused = ada.tries_to_change_roles(&updates).await.expect_err("three faults");
        // Who may not is told so before anything else.
        assert_eq!(refused.is(), ABOVE);
        assert_eq!((refused.metadata["field"].as_str(), refused.metadata["indexes"].as_str()), ("updates", "1-3"));
        let named = [
            ("ROLE_ABOVE_CALLER", "updates[1]"),
            ("SELF_CHANGE_FORBIDDEN", "updates[2]"),
            ("MEMBER_NOT_FOUND", "updates[3]"),
        ];
        assert_eq!(faults(&refused), named);
        // The index is that of the request, duplicates counted.
        let refused = ann
            .tries_to_change_roles(&[("bob", "admin"), ("bob", "admin"), ("zed", "admin")])
            .await
            .expect_err("nobody");
        assert_eq!((refused.is(), refused.metadata["indexes"].as_str()), (MISSING, "2"));
        let contradicting = [("bob", "admin"), ("ada", "member"), ("bob", "owner"), ("bob", "emperor")];
        let refused = ann.tries_to_change_roles(&contradicting).await.expect_err("what shall Bob be?");
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(refused.fields, ["updates[3].role", "updates[2].user_id", "updates[3].user_id"]);
        let refused = ann.tries_to_change_roles(&[]).await.expect_err("nothing to do");
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
        let stale = pb::BatchUpdateMemberRolesRequest {
            organization_id: ann.organization_id.clone(),
            updates: ["ada", "bob"]
                .map(|user_id| pb::MemberRoleUpdate {
                    user_id: user_id.into(),
                    role: "owner".into(),
                    etag: "v9".into(),
                })
                .into(),
            ..Default::default()
        };
        let refused = answer(ann.members().batch_update_member_roles(stale).await).expect_err("stale");
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(faults(&refused), [("ETAG_MISMATCH", "updates[0]"), ("ETAG_MISMATCH", "updates[1]")]);
        assert_eq!(books(&world, &ann).await, kept);
        world.end().await;
    }

    async fn a_batch_of_five_hundred_faults_still_tells_them(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let names: Vec<String> = (0..501).map(|number| format!("nobody-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let refused = ann.tries_to_remove_all(&names[..500]).await.expect_err("nobody is there");
        assert_eq!(refused.is(), MISSING);
        assert_eq!((refused.metadata["indexes"].as_str(), refused.metadata["reasons"].as_str()), ("0-499", "MEMBER_NOT_FOUND=0-499"));
        let refused = ann.tries_to_remove_all(&names).await.expect_err("too many");
        assert_eq!(refused.is(), (Code::InvalidArgument, "BATCH_TOO_LARGE"));
        assert_eq!(refused.metadata["maximum"], "500");
        world.end().await;
    }

    async fn who_is_removed_has_no_seat_no_access_and_may_come_again(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        let was = ann.member("bob").await.expect("found");
        assert_eq!(ann.tries_to_remove("bob").await, Ok(was));
        assert_eq!(ann.seats().await, "1 / 4 seats");
        assert_eq!(ann.member("bob").await.expect_err("gone").is(), MISSING);
        assert_eq!(ann.tries_to_remove("bob").await.expect_err("gone").is(), MISSING);
        let refused = bob.member("bob").await.expect_err("removed");
        assert_eq!(refused.is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        assert_eq!(world.events(&ann.organization_id).await.last().map(String::as_str), Some("member.removed"));
        assert_eq!(ann.brings("bob", "member").await.role, "member");
        world.end().await;
    }

    async fn a_removal_is_refused_for_what_is_stale_absent_above_or_oneself(backend: Backend) {
        let world = World::with(backend, under("guarded-admin")).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        ann.brings("abe", "admin").await;
        ann.brings("bob", "member").await;
        let kept = books(&world, &ann).await;
        assert_eq!(ada.tries_to_remove("ann").await.expect_err("an owner").is(), ABOVE);
        assert_eq!(ada.tries_to_remove("abe").await.expect_err("a fellow admin").is(), ABOVE);
        assert_eq!(ada.tries_to_remove("ada").await.expect_err("herself").is(), ONESELF);
        assert_eq!(ann.tries_to_remove("ann").await.expect_err("herself").is(), ONESELF);
        assert_eq!(ann.tries_to_remove("zed").await.expect_err("nobody").is(), MISSING);
        let request = pb::RemoveMemberRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "bob".into(),
            etag: "v0".into(),
            ..Default::default()
        };
        let refused = answer(ann.members().remove_member(request).await).expect_err("stale");
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        let refused = ada.tries_to_remove_all(&["bob", "abe", "bob", "zed", "ada"]).await.expect_err("three faults");
        assert_eq!(refused.is(), ABOVE);
        let named = [
            ("ROLE_ABOVE_CALLER", "user_ids[1]"),
            ("MEMBER_NOT_FOUND", "user_ids[3]"),
            ("SELF_CHANGE_FORBIDDEN", "user_ids[4]"),
        ];
        assert_eq!(faults(&refused), named);
        assert_eq!(refused.metadata["indexes"], "1,3-4");
        let reasons = "MEMBER_NOT_FOUND=3;ROLE_ABOVE_CALLER=1;SELF_CHANGE_FORBIDDEN=4";
        assert_eq!(refused.metadata["reasons"], reasons);
        assert_eq!(books(&world, &ann).await, kept);
        world.end().await;
    }

    async fn many_are_removed_at_once_each_once_in_the_order_of_the_request(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        for (name, role) in [("bob", "member"), ("cas", "admin"), ("dee", "owner"), ("eve", "member")] {
            ann.brings(name, role).await;
        }
        ann.tries_to_suspend("bob").await.expect("suspended");
        let removed = ann.tries_to_remove_all(&["dee", "bob", "dee", "cas"]).await.expect("removed");
        assert_eq!(users(&removed), [("dee", "owner"), ("bob", "member"), ("cas", "admin")]);
        assert_eq!(removed[1].state(), MemberState::Suspended, "as they were");
        assert_eq!(ann.seats().await, "2 / 100 seats");
        let events = world.events(&ann.organization_id).await;
        assert_eq!(
            events[events.len() - 4..],
            ["member.suspended", "member.removed", "member.removed", "member.removed"]
        );
        assert_eq!(users(&books(&world, &ann).await.1), [("ann", "owner"), ("eve", "member")]);
        world.end().await;
    }

    async fn a_suspended_member_has_neither_seat_nor_access_and_gets_both_back(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        world.pass(TimeDelta::hours(1));
        let active = ann.member("bob").await.expect("found");
        let suspended = ann.tries_to_suspend("bob").await.expect("suspended");
        let expected = pb::Member {
            state: MemberState::Suspended.into(),
            suspend_time: Some(world.wire_time()),
            etag: suspended.etag.clone(),
            ..active.clone()
        };
        assert_eq!(suspended, expected);
        assert_ne!(suspended.etag, active.etag);
        assert_eq!(ann.seats().await, "1 / 4 seats");
        let barred = (Code::PermissionDenied, "MEMBER_SUSPENDED");
        assert_eq!(bob.member("bob").await.expect_err("suspended").is(), barred);
        assert_eq!(bob.tries_to_invite(&["cas@example.com"], "member").await.expect_err("suspended").is(), barred);
        assert_eq!(bob.tries_to_leave().await.expect_err("suspended").is(), barred);
        // Twice is no change.
        world.pass(TimeDelta::hours(1));
        let kept = books(&world, &ann).await;
        assert_eq!(ann.tries_to_suspend("bob").await, Ok(suspended));
        assert_eq!(books(&world, &ann).await, kept);

        let back = ann.tries_to_reactivate("bob").await.expect("reactivated");
        assert_eq!(back, pb::Member { etag: back.etag.clone(), ..active });
        assert_eq!(ann.seats().await, "2 / 4 seats");
        let kept = books(&world, &ann).await;
        assert_eq!(ann.tries_to_reactivate("bob").await, Ok(back));
        assert_eq!(books(&world, &ann).await, kept);
        assert_eq!(kept.0[kept.0.len() - 2..], ["member.suspended", "member.reactivated"]);
        bob.invites(&["cas@example.com"], "member").await;
        world.end().await;
    }

    async fn a_reactivation_needs_a_free_seat_and_no_overdue_payment(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        ann.tries_to_suspend("bob").await.expect("suspended");
        ann.invites(&["cas@example.com", "dee@example.com", "eve@example.com"], "member").await;
        let refused = ann.tries_to_reactivate("bob").await.expect_err("full");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        let figures = ["total", "members", "pending", "requested"].map(|key| refused.metadata[key].as_str());
        assert_eq!(figures, ["4", "1", "3", "1"]);
        world.pass(TimeDelta::days(7));
        world.tampers("UPDATE subscription SET status = 'past_due'").await;
        let refused = ann.tries_to_reactivate("bob").await.expect_err("overdue");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SUBSCRIPTION_PAST_DUE"));
        world.tampers("UPDATE subscription SET status = 'active'").await;
        // The invitations have expired by now, so there are seats.
        ann.tries_to_reactivate("bob").await.expect("reactivated");
        assert_eq!(ann.seats().await, "2 / 4 seats");
        world.end().await;
    }

    async fn suspensions_are_refused_for_what_is_stale_absent_above_or_oneself(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        ann.brings("bob", "member").await;
        ann.brings("oz", "owner").await;
        ann.tries_to_suspend("oz").await.expect("suspended");
        let kept = books(&world, &ann).await;
        assert_eq!(ada.tries_to_suspend("ann").await.expect_err("an owner").is(), ABOVE);
        assert_eq!(ada.tries_to_reactivate("oz").await.expect_err("an owner").is(), ABOVE);
        assert_eq!(ada.tries_to_suspend("ada").await.expect_err("herself").is(), ONESELF);
        assert_eq!(ann.tries_to_reactivate("ann").await.expect_err("herself").is(), ONESELF);
        assert_eq!(ann.tries_to_suspend("zed").await.expect_err("nobody").is(), MISSING);
        assert_eq!(ann.tries_to_reactivate("zed").await.expect_err("nobody").is(), MISSING);
        let stale = (Code::Aborted, "ETAG_MISMATCH");
        let organization_id = ann.organization_id.clone();
        let suspend = pb::SuspendMemberRequest {
            organization_id: organization_id.clone(),
            user_id: "bob".into(),
            etag: "v0".into(),
            ..Default::default()
        };
        assert_eq!(answer(ann.members().suspend_member(suspend).await).expect_err("stale").is(), stale);
        let user_id = "oz".into();
        let reactivate =
            pb::ReactivateMemberRequest { organization_id, user_id, etag: "v1".into(), ..Default::default() };
        assert_eq!(answer(ann.members().reactivate_member(reactivate).await).expect_err("stale").is(), stale);
        assert_eq!(books(&world, &ann).await, kept);
        world.end().await;
    }

    async fn a_suspended_owner_is_no_owner_whom_an_organization_could_be_left_to(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let oz = ann.brings("oz", "owner").await;
        ann.tries_to_suspend("oz").await.expect("suspended");
        let refused = ann.tries_to_leave().await.expect_err("the last active owner");
        assert_eq!((refused.is(), refused.metadata["role"].as_str()), (LAST_OWNER, "owner"));
        // A suspended owner's role can change and change back, and none of it makes an active one.
        ann.tries_to_change_role("oz", "member").await.expect("changed");
        ann.tries_to_change_role("oz", "owner").await.expect("changed");
        assert_eq!(ann.tries_to_leave().await.expect_err("still the last").is(), LAST_OWNER);
        ann.tries_to_reactivate("oz").await.expect("reactivated");
        ann.tries_to_leave().await.expect("left");
        assert_eq!(oz.tries_to_leave().await.expect_err("the last").is(), LAST_OWNER);
        assert_eq!(oz.seats().await, "1 / 100 seats");
        world.end().await;
    }

    async fn where_admins_may_remove_owners_one_owner_always_stays(backend: Backend) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let file = directory.path().join("revolution.toml");
        let preset = include_str!("../../src/auth/presets/owner-billing.toml");
        let (rest, removes) = preset.split_once("[removes]").expect("a table of removals");
        let removes = removes.replace("admin = [\"admin\"", "admin = [\"owner\", \"admin\"");
        std::fs::write(&file, format!("{rest}[removes]{removes}")).expect("written");
        let world = World::with(backend, under(&file.display().to_string())).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        ann.brings("oz", "owner").await;
        ann.brings("bob", "member").await;
        let kept = books(&world, &ann).await;
        // The end of the whole batch is what counts, in whatever order.
        for batch in [["ann", "bob", "oz"], ["oz", "ann", "bob"]] {
            let refused = ada.tries_to_remove_all(&batch).await.expect_err("nobody would be owner");
            assert_eq!((refused.is(), refused.metadata["role"].as_str()), (LAST_OWNER, "owner"));
        }
        assert_eq!(books(&world, &ann).await, kept);
        ada.tries_to_suspend("oz").await.expect("suspended");
        assert_eq!(ada.tries_to_suspend("ann").await.expect_err("the last active one").is(), LAST_OWNER);
        assert_eq!(ada.tries_to_remove("ann").await.expect_err("the last active one").is(), LAST_OWNER);
        ada.tries_to_reactivate("oz").await.expect("reactivated");
        ada.tries_to_remove("ann").await.expect("removed");
        assert_eq!(ada.tries_to_remove("oz").await.expect_err("the last").is(), LAST_OWNER);
        assert_eq!(ada.seats().await, "3 / 100 seats");
        world.end().await;
    }

    async fn the_sole_owner_cannot_leave_and_everybody_else_can(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let was = bob.member("bob").await.expect("found");
        assert_eq!(ann.tries_to_leave().await.expect_err("the sole owner").is(), LAST_OWNER);
        assert_eq!(ann.member("ann").await.expect("still there").role, "owner");
        assert_eq!(bob.tries_to_leave().await, Ok(was));
        assert_eq!(ann.seats().await, "1 / 100 seats");
        assert_eq!(world.events(&ann.organization_id).await.last().map(String::as_str), Some("member.left"));
        let refused = bob.tries_to_leave().await.expect_err("gone already");
        assert_eq!(refused.is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        world.end().await;
    }

    async fn where_the_policy_has_nobody_leave_nobody_leaves(backend: Backend) {
        let world = World::with(backend, under("split-admin")).await;
        let ann = world.person("ann").founds("Acme").await;
        let oz = ann.brings("oz", "admin").await;
        let bob = ann.brings("bob", "member").await;
        for person in [&oz, &bob] {
            let refused = person.tries_to_leave().await.expect_err("in split-admin");
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
            assert_eq!(refused.metadata["permission"], "organization_leave");
        }
        assert_eq!(ann.seats().await, "3 / 100 seats");
        world.end().await;
    }

    async fn ownership_passes_to_another_in_one_step(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let events = world.events(&ann.organization_id).await.len();
        let transferred = ann.tries_to_transfer("bob", "").await.expect("transferred");
        let (holder, former) = (transferred.member.expect("one"), transferred.former_holder.expect("one"));
        assert_eq!(users(&[holder.clone(), former.clone()]), [("bob", "owner"), ("ann", "admin")]);
        let passed = ["member.role_changed", "member.role_changed", "ownership.transferred"];
        assert_eq!(world.events(&ann.organization_id).await[events..], passed);
        assert_eq!(world.number("SELECT top_role_members FROM organization").await, 1);
        // Ann's identity still says owner.
        let refused = ann.tries_to_transfer("ann", "").await.expect_err("no owner any more");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_STALE"));
        assert_eq!((refused.metadata["claimed_role"].as_str(), refused.metadata["role"].as_str()), ("owner", "admin"));

        let bob = bob.acting_in(&ann.organization_id, "owner");
        let back = bob.tries_to_transfer("ann", "member").await.expect("transferred");
        assert_eq!(
            users(&[back.member.expect("one"), back.former_holder.expect("one")]),
            [("ann", "owner"), ("bob", "member")]
        );
        assert_eq!(ann.member("bob").await.expect("found").role, "member");
        world.end().await;
    }

    async fn ownership_passes_to_a_fellow_owner_by_stepping_back(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("oz", "owner").await;
        let events = world.events(&ann.organization_id).await.len();
        ann.tries_to_transfer("oz", "").await.expect("transferred");
        assert_eq!(
            world.events(&ann.organization_id).await[events..],
            ["member.role_changed", "ownership.transferred"]
        );
        assert_eq!(world.number("SELECT top_role_members FROM organization").await, 1);
        world.end().await;
    }

    async fn ownership_does_not_pass_to_oneself_to_nobody_or_to_the_suspended(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        ann.brings("bob", "member").await;
        ann.invites(&["cas@example.com"], "member").await;
        ann.tries_to_suspend("bob").await.expect("suspended");
        let kept = books(&world, &ann).await;
        let refused = ann.tries_to_transfer("bob", "").await.expect_err("suspended");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "MEMBER_NOT_ACTIVE"));
        assert_eq!(refused.metadata["user_id"], "bob");
        assert_eq!(ann.tries_to_transfer("cas", "").await.expect_err("only invited").is(), MISSING);
        assert_eq!(ann.tries_to_transfer("ann", "").await.expect_err("herself").is(), ONESELF);
        for role in ["owner", "emperor"] {
            let refused = ann.tries_to_transfer("ada", role).await.expect_err("no such way");
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
            assert_eq!(refused.fields, ["own_role"]);
        }
        let refused = ada.tries_to_transfer("ada", "").await.expect_err("no owner");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        assert_eq!(books(&world, &ann).await, kept);
        world.end().await;
    }

    async fn a_sign_in_is_recorded_by_a_service_and_the_latest_counts(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        world.pass(TimeDelta::days(1));
        let login = world.service("login");
        let sign_in = pb::RecordSignInRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "ann".into(),
            ..Default::default()
        };
        let now = world.wire_time();
        let member = login.tries_to_record(sign_in.clone()).await.expect("recorded");
        assert_eq!(member.last_sign_in_time, Some(now));
        assert_eq!(ann.member("ann").await.as_ref(), Ok(&member));
        assert_eq!(world.events(&ann.organization_id).await.last().map(String::as_str), Some("member.signed_in"));

        let latest = world.wire_time_in(TimeDelta::milliseconds(30_500));
        let newer = pb::RecordSignInRequest {
            sign_in_time: Some(latest),
            email: "Ann.Lee@Example.com".into(),
            profile: Some(pb::UserProfile {
                display_name: "Ann Lee".into(),
                avatar_uri: "https://example.com/a.png".into(),
            }),
            ..sign_in.clone()
        };
        let member = login.tries_to_record(newer).await.expect("a clock that is half a minute ahead");
        // By this server's clock it is now.
        assert_eq!(member.last_sign_in_time, Some(world.wire_time()));
        let said = (member.email.as_str(), member.display_name.as_str(), member.avatar_uri.as_str());
        assert_eq!(said, ("Ann.Lee@Example.com", "Ann Lee", "https://example.com/a.png"));
        // What is told late says nothing about the member as they are now, but it happened.
        let late = pb::RecordSignInRequest {
            sign_in_time: Some(world.wire_time_in(-TimeDelta::hours(1))),
            email: "old@example.com".into(),
            profile: Some(pb::UserProfile { display_name: "Old".into(), avatar_uri: String::new() }),
            ..sign_in.clone()
        };
        assert_eq!(login.tries_to_record(late).await.as_ref(), Ok(&member));
        assert_eq!(ann.member("ann").await.as_ref(), Ok(&member));
        let events = world.events(&ann.organization_id).await;
        assert_eq!(events[2..], ["member.signed_in"; 3]);
        assert_eq!(
            world.number("SELECT count(*) FROM event WHERE actor_service = 'login' AND actor_user_id IS NULL").await,
            3
        );
        // Nobody is invited under the address that Ann has now, and Ann is found by it.
        let refused = ann.tries_to_invite(&["ann.lee@example.com"], "member").await.expect_err("Ann");
        assert_eq!(refused.is(), (Code::AlreadyExists, "ALREADY_MEMBER"));
        ann.invites(&["ann@example.com"], "member").await;
        world.end().await;
    }

    async fn a_sign_in_is_refused_from_users_from_the_future_and_of_nobody(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let login = world.service("login");
        let sign_in = pb::RecordSignInRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "ann".into(),
            ..Default::default()
        };
        let kept = books(&world, &ann).await;
        let refused = ann.tries_to_record(sign_in.clone()).await.expect_err("a user");
        assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        let second = world.wire_time().seconds;
        let times = [
            world.wire_time_in(TimeDelta::minutes(2)),
            prost_types::Timestamp { seconds: -1, nanos: 0 },
            prost_types::Timestamp { seconds: i64::MAX, nanos: 0 },
            prost_types::Timestamp { seconds: second, nanos: -1 },
            prost_types::Timestamp { seconds: second - 61, nanos: 1_000_000_000 },
            // chrono would take it for a leap second.
            prost_types::Timestamp { seconds: second - 61, nanos: 1_500_000_000 },
        ];
        for time in times {
            let sign_in = pb::RecordSignInRequest { sign_in_time: Some(time), ..sign_in.clone() };
            let refused = login.tries_to_record(sign_in).await.expect_err("no time for a sign-in");
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"), "{time:?}");
            assert_eq!(refused.fields, ["sign_in_time"]);
        }
        let wrong = pb::RecordSignInRequest {
            email: "nowhere".into(),
            profile: Some(pb::UserProfile { display_name: "x".repeat(201), avatar_uri: "http://example.com".into() }),
            ..sign_in.clone()
        };
        let refused = login.tries_to_record(wrong).await.expect_err("wrong fields");
        assert_eq!(refused.fields, ["email", "profile.display_name", "profile.avatar_uri"]);
        let nobody = pb::RecordSignInRequest { user_id: "zed".into(), ..sign_in.clone() };
        assert_eq!(login.tries_to_record(nobody).await.expect_err("nobody").is(), MISSING);
        let organization_id = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70".to_owned();
        let refused =
            login.tries_to_record(pb::RecordSignInRequest { organization_id, ..sign_in }).await.expect_err("nowhere");
        assert_eq!(refused.is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        assert_eq!(books(&world, &ann).await, kept);
        world.end().await;
    }

    async fn the_address_of_a_member_who_was_renamed_to_an_invited_one_gets_no_resend(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["lee@example.com"], "member").await.remove(0).invitation.expect("one");
        let sign_in = pb::RecordSignInRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "ann".into(),
            email: "lee@example.com".into(),
            ..Default::default()
        };
        world.service("login").tries_to_record(sign_in).await.expect("recorded");
        let refused = ann.tries_to_resend(&sent.invitation_id).await.expect_err("Ann's own");
        assert_eq!(
            (refused.is(), refused.metadata["user_id"].as_str()),
            ((Code::AlreadyExists, "ALREADY_MEMBER"), "ann")
        );
        ann.tries_to_cancel(&[&sent.invitation_id]).await.expect("canceled");
        world.end().await;
    }

    async fn a_member_whose_role_is_gone_is_still_in_the_hands_of_the_top_role(backend: Backend) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let file = directory.path().join("renamed.toml");
        let preset = include_str!("../../src/auth/presets/owner-billing.toml");
        std::fs::write(&file, preset.replace("member =", "colleague =").replace("\"member\"", "\"colleague\""))
            .expect("written");
        let mut world = World::with(backend, under(&file.display().to_string())).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let bob = ann.brings("bob", "colleague").await;
        for name in ["cas", "dee"] {
            ann.brings(name, "colleague").await;
        }
        world.switches_policy_to("owner-billing").await;
        let [ann, ada, bob] = [ann, ada, bob].map(|person| person.at(world.channel()));
        let refused =
            bob.acting_in(&ann.organization_id, "member").member("bob").await.expect_err("a role of no policy");
        assert_eq!(
            (refused.is(), refused.metadata["role"].as_str()),
            ((Code::PermissionDenied, "ROLE_UNKNOWN"), "colleague")
        );
        let check = checks(&ann, "bob", &[Permission::OrganizationRead]).await.expect("checked").checks.remove(0);
        assert_eq!((check.allowed, check.denial_reason()), (false, DenialReason::RoleUnknown));
        assert_eq!(check.grantor_roles, ["owner"]);
        assert_eq!(ada.tries_to_change_role("bob", "member").await.expect_err("who knows").is(), ABOVE);
        assert_eq!(ada.tries_to_remove("bob").await.expect_err("who knows").is(), ABOVE);
        assert_eq!(ann.tries_to_change_role("bob", "member").await.expect("changed").role, "member");
        ann.tries_to_suspend("cas").await.expect("suspended");
        ann.tries_to_remove_all(&["cas", "dee"]).await.expect("removed");
        assert_eq!(ann.seats().await, "3 / 100 seats");
        bob.acting_in(&ann.organization_id, "member").member("bob").await.expect("back at work");
        world.end().await;
    }

    async fn roles_are_listed_as_the_policy_in_force_has_them(backend: Backend) {
        for preset in tenantry::auth::policy::presets() {
            let world = World::with(backend, under(preset)).await;
            let ann = world.person("ann").founds("Acme").await;
            let member = ann.brings("bob", "member").await;
            let request = pb::ListRolesRequest { organization_id: ann.organization_id.clone() };
            let listed = answer(member.members().list_roles(request).await).expect("members too");
            let names: Vec<&str> = listed.roles.iter().map(|role| role.role.as_str()).collect();
            let tops: Vec<bool> = listed.roles.iter().map(|role| role.top).collect();
            let invites: Vec<String> = listed.roles.iter().map(|role| role.invites.join(" ")).collect();
            let changes: Vec<String> = listed.roles.iter().map(|role| role.changes.join(" ")).collect();
            let removes: Vec<String> = listed.roles.iter().map(|role| role.removes.join(" ")).collect();
            let everyone = "owner admin member";
            let three = ["owner", "admin", "member"];
            assert_eq!(listed.role_policy, preset);
            match preset {
                "owner-billing" => {
                    assert_eq!(names, three);
                    assert_eq!((&invites, &changes, &removes), (&removes, &invites, &changes));
                    assert_eq!(invites, [everyone, "admin member", ""]);
                }
                "shared-billing" => {
                    assert_eq!(names, three);
                    assert_eq!(invites, ["admin member", "admin member", ""]);
                    assert_eq!(changes, [everyone, "admin member", ""]);
                    assert_eq!(removes, [everyone, "admin member", ""]);
                }
                "split-admin" => {
                    let all = "admin billing_admin user_admin member";
                    assert_eq!(names.join(" "), all);
                    assert_eq!(invites, [all, "", "member", ""]);
                    assert_eq!(changes, [all, "", "", ""]);
                    assert_eq!(removes, [all, "", "member", ""]);
                }
                "guarded-admin" => {
                    assert_eq!(names, three);
                    assert_eq!(invites, [everyone, "member", ""]);
                    assert_eq!(changes, [everyone, "", ""]);
                    assert_eq!(removes, [everyone, "member", ""]);
                }
                other => panic!("a preset that nobody tests: {other}"),
            }
            assert!(tops[0] && tops[1..].iter().all(|top| !top));
            let top = &listed.roles[0];
            assert!(listed.roles.iter().all(|role| !role.title.is_empty() && !role.description.is_empty()));
            assert!(listed.roles.iter().flat_map(|role| &role.permissions).all(|one| top.permissions.contains(one)));
            let plain = listed.roles.last().expect("the plain member").permissions.clone();
            let leave = (preset != "split-admin").then_some(Permission::OrganizationLeave);
            let expected = [Some(Permission::OrganizationRead), leave].into_iter().flatten().map(i32::from);
            assert_eq!(plain, expected.collect::<Vec<_>>());
            world.end().await;
        }
    }

    async fn everybody_may_check_their_own_permissions_and_hears_who_could_grant_more(backend: Backend) {
        let world = World::with(backend, under("guarded-admin")).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let asked = [
            Permission::MembersInvite,
            Permission::OrganizationRead,
            Permission::OrganizationDelete,
            Permission::MembersInvite,
        ];
        for user_id in ["", "bob"] {
            let answered = checks(&bob, user_id, &asked).await.expect("his own");
            assert_eq!(answered.role, "member");
            let order: Vec<Permission> = answered.checks.iter().map(pb::PermissionCheck::permission).collect();
            assert_eq!(order, asked);
            let [invite, read, delete, again] = &answered.checks[..] else { panic!("four answers") };
            assert!(read.allowed && read.roles.is_empty() && read.grantor_roles.is_empty());
            assert_eq!(read.denial_reason(), DenialReason::Unspecified);
            assert!(!invite.allowed && !delete.allowed);
            assert_eq!(invite.denial_reason(), DenialReason::RoleLacksPermission);
            assert_eq!(
                (invite.roles.join(" ").as_str(), invite.grantor_roles.join(" ").as_str()),
                ("owner admin", "owner")
            );
            assert_eq!((delete.roles.join(" ").as_str(), delete.grantor_roles.join(" ").as_str()), ("owner", "owner"));
            assert_eq!(again, invite);
        }
        let refused = checks(&bob, "ann", &asked).await.expect_err("another's");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        assert_eq!(refused.metadata["permission"], "members_list");
        // Nothing asked: everything answered, in the order of the contract.
        let all = checks(&bob, "", &[]).await.expect("all of them").checks;
        assert!(all.iter().map(|check| check.permission).eq(1..=31));
        let allowed: Vec<Permission> =
            all.iter().filter(|check| check.allowed).map(pb::PermissionCheck::permission).collect();
        assert_eq!(allowed, [Permission::OrganizationRead, Permission::OrganizationLeave]);
        let all = checks(&ann, "", &[]).await.expect("all of them");
        assert!(all.role == "owner" && all.checks.len() == 31 && all.checks.iter().all(|check| check.allowed));
        world.end().await;
    }

    async fn a_service_and_whoever_lists_members_check_others(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let bob = ann.brings("bob", "admin").await;
        ann.tries_to_suspend("bob").await.expect("suspended");
        let zed = world.person("zed").founds("Zeta").await;
        let asked = [Permission::MembersInvite];
        let gateway = Person { organization_id: ann.organization_id.clone(), ..world.service("gateway") };
        for asks in [&gateway, &ada] {
            let allowed = checks(asks, "ann", &asked).await.expect("checked");
            assert_eq!((allowed.role.as_str(), allowed.checks[0].allowed), ("owner", true));
            let suspended = checks(asks, "bob", &asked).await.expect("checked");
            assert_eq!((suspended.role.as_str(), suspended.checks[0].allowed), ("admin", false));
            assert_eq!(suspended.checks[0].denial_reason(), DenialReason::MemberSuspended);
            // Somebody of another organization and somebody of none: an answer, and the same.
            for stranger in ["zed", "nobody"] {
                let answered = checks(asks, stranger, &asked).await.expect("an answer, not a refusal");
                assert_eq!((answered.role.as_str(), answered.checks[0].allowed), ("", false));
                assert_eq!(answered.checks[0].denial_reason(), DenialReason::NotAMember);
                assert_eq!(answered.checks[0].roles, ["owner", "admin"]);
                assert_eq!(answered.checks[0].grantor_roles, ["owner", "admin"], "who may invite as admin");
            }
        }
        // Who is suspended is refused at the very next call, whatever it asks.
        assert_eq!(
            checks(&bob, "", &asked).await.expect_err("suspended").is(),
            (Code::PermissionDenied, "MEMBER_SUSPENDED")
        );
        let stranger = zed.acting_in(&ann.organization_id, "owner");
        assert_eq!(
            checks(&stranger, "", &asked).await.expect_err("no member").is(),
            (Code::PermissionDenied, "NOT_A_MEMBER")
        );
        let refused = checks(&gateway, "", &asked).await.expect_err("a service is no user");
        assert_eq!(
            (refused.is(), refused.fields.join(" ")),
            ((Code::InvalidArgument, "INVALID_FIELDS"), "user_id".to_owned())
        );

        let hundred = [Permission::MembersList; 100];
        assert_eq!(checks(&ada, "", &hundred).await.expect("a hundred").checks.len(), 100);
        let refused = checks(&ada, "", &[Permission::MembersList; 101]).await.expect_err("too many");
        assert_eq!(refused.is(), (Code::InvalidArgument, "BATCH_TOO_LARGE"));
        assert_eq!((refused.metadata["size"].as_str(), refused.metadata["maximum"].as_str()), ("101", "100"));
        let request = pb::CheckPermissionsRequest {
            organization_id: ann.organization_id.clone(),
            permissions: vec![8, 0, 9999, -1],
            ..Default::default()
        };
        let refused = answer(ada.members().check_permissions(request).await).expect_err("no permissions");
        assert_eq!(refused.fields, ["permissions[1]", "permissions[2]", "permissions[3]"]);

        ann.deletes_organization().await;
        for asks in [&gateway, &ada] {
            let answered = checks(asks, "ann", &asked).await.expect("an answer still");
            assert_eq!((answered.role.as_str(), answered.checks[0].allowed), ("owner", false));
            assert_eq!(answered.checks[0].denial_reason(), DenialReason::OrganizationDeleted);
        }
        world.end().await;
    }

    async fn who_goes_gets_another_organization_of_their_own(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ensure = async |person: &Person| {
            let request = pb::EnsureDefaultOrganizationRequest::default();
            let ensured = answer(person.organizations().ensure_default_organization(request).await).expect("ensured");
            (ensured.organization.expect("one").organization_id, ensured.created)
        };
        let ann = world.person("ann");
        let (own, created) = ensure(&ann).await;
        assert!(created);
        assert_eq!(ensure(&ann).await, (own.clone(), false));
        let acting = ann.acting_in(&own, "owner");
        let oz = acting.brings("oz", "owner").await;
        // Suspended, it is still hers.
        oz.tries_to_suspend("ann").await.expect("suspended");
        assert_eq!(ensure(&ann).await, (own.clone(), false));
        oz.tries_to_remove("ann").await.expect("removed");
        let (second, created) = ensure(&ann).await;
        assert!(created && second != own);
        // The same when she leaves of her own will.
        ann.acting_in(&second, "owner").brings("bob", "owner").await;
        ann.acting_in(&second, "owner").tries_to_leave().await.expect("left");
        let (third, created) = ensure(&ann).await;
        assert!(created && third != second && third != own);
        world.end().await;
    }

    async fn a_rehearsal_of_any_change_of_members_changes_nothing(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("oz", "owner").await;
        ann.brings("bob", "member").await;
        ann.brings("cas", "member").await;
        ann.tries_to_suspend("cas").await.expect("suspended");
        let kept = books(&world, &ann).await;
        let organization_id = ann.organization_id.clone();
        macro_rules! rehearse {
            ($call:ident($request:ident { $($field:ident: $value:expr),* })) => {
                answer(ann.members().$call(pb::$request {
                    organization_id: organization_id.clone(),
                    validate_only: true,
                    request_id: uuid::Uuid::from_u128(1).to_string(),
                    $($field: $value,)*
                }).await)
            };
        }
        let (bob, none) = (|| "bob".to_owned(), String::new);
        let changed = rehearse!(update_member_role(UpdateMemberRoleRequest {
            user_id: bob(),
            role: "admin".into(),
            etag: none()
        }));
        assert_eq!(changed.expect("possible").member.expect("one").role, "admin");
        let update = pb::MemberRoleUpdate { user_id: bob(), role: "owner".into(), etag: String::new() };
        rehearse!(batch_update_member_roles(BatchUpdateMemberRolesRequest { updates: vec![update] }))
            .expect("possible");
        rehearse!(remove_member(RemoveMemberRequest { user_id: bob(), etag: none() })).expect("possible");
        rehearse!(batch_remove_members(BatchRemoveMembersRequest { user_ids: vec![bob(), "oz".into()] }))
            .expect("possible");
        rehearse!(suspend_member(SuspendMemberRequest { user_id: bob(), etag: none() })).expect("possible");
        rehearse!(reactivate_member(ReactivateMemberRequest { user_id: "cas".into(), etag: none() }))
            .expect("possible");
        rehearse!(transfer_ownership(TransferOwnershipRequest { user_id: bob(), own_role: none() })).expect("possible");
        rehearse!(leave_organization(LeaveOrganizationRequest {})).expect("possible");
        assert_eq!(books(&world, &ann).await, kept);
        ann.tries_to_remove("oz").await.expect("removed");
        let refused = rehearse!(leave_organization(LeaveOrganizationRequest {})).expect_err("the last owner");
        assert_eq!(refused.is(), LAST_OWNER);
        world.end().await;
    }
}
