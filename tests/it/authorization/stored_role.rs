//! The role that comes with a call only opens the gate. The stored one decides, at once and on everything.

use tenantry::pb;
use tonic::Code;

use crate::harness::methods::{Method, methods};
use crate::harness::person::{Person, answer};
use crate::harness::refused::{Refused, refused};
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};
use crate::invitation::policy_with_guests;

const ROLES: [&str; 3] = ["owner", "admin", "member"];

database_tests! {
    async fn a_demoted_member_is_refused_at_the_very_next_call(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        list_members(&bob).await.expect("an admin lists members");
        ann.tries_to_change_role("bob", "member").await.expect("demoted");
        let stale = |refused: &Refused, permission: &str| {
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_STALE"));
            let told = ["claimed_role", "role", "permission"].map(|key| refused.metadata[key].as_str());
            assert_eq!(told, ["admin", "member", permission]);
        };
        stale(&list_members(&bob).await.unwrap_err(), "members_list");
        stale(&bob.tries_to_invite(&["cas@example.com"], "member").await.unwrap_err(), "members_invite");
        stale(&bob.tries_to_change_role("bob", "owner").await.unwrap_err(), "members_change_role");
        // Nor does a faulty request tell more.
        stale(&bob.tries_to_invite(&[], "king").await.unwrap_err(), "members_invite");
        let bob = bob.acting_in(&ann.organization_id, "member");
        let refused = list_members(&bob).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        get_organization(&bob).await.expect("what a member may, they still may");
        assert_eq!(ann.seats().await, "2 / 4 seats");
        world.end().await;
    }

    async fn a_promoted_member_may_more_as_soon_as_they_say_so(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        ann.tries_to_change_role("bob", "admin").await.expect("promoted");
        let refused = list_members(&bob).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        assert_eq!(refused.metadata["role"], "member");
        list_members(&bob.acting_in(&ann.organization_id, "admin")).await.expect("an admin lists members");
        world.end().await;
    }

    async fn a_suspended_member_is_refused_everything_whatever_they_claim(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "owner").await;
        let (organization_id, user_id) = (ann.organization_id.clone(), bob.name.clone());
        let request = pb::SuspendMemberRequest { organization_id, user_id, ..Default::default() };
        ann.members().suspend_member(request).await.expect("suspended");
        for role in ROLES {
            is_refused_everything(&bob.acting_in(&ann.organization_id, role), "MEMBER_SUSPENDED").await;
        }
        // In the switcher they see that they are suspended.
        let mine = bob.organizations().list_organizations(pb::ListOrganizationsRequest::default()).await;
        let mine = mine.expect("their own organizations").into_inner().memberships;
        assert!(mine[0].suspended);
        world.end().await;
    }

    async fn a_removed_member_is_refused_everything_whatever_they_claim(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "owner").await;
        let cas = ann.brings("cas", "admin").await;
        ann.tries_to_remove("bob").await.expect("removed");
        cas.tries_to_leave().await.expect("left");
        for role in ROLES {
            is_refused_everything(&bob.acting_in(&ann.organization_id, role), "NOT_A_MEMBER").await;
            is_refused_everything(&cas.acting_in(&ann.organization_id, role), "NOT_A_MEMBER").await;
        }
        let mine = bob.organizations().list_organizations(pb::ListOrganizationsRequest::default()).await;
        assert!(mine.expect("their own organizations").into_inner().memberships.is_empty());
        world.end().await;
    }

    async fn whoever_handed_the_top_role_on_has_it_no_more(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let (organization_id, user_id) = (ann.organization_id.clone(), bob.name.clone());
        let request = pb::TransferOwnershipRequest { organization_id, user_id, ..Default::default() };
        let handed = answer(ann.members().transfer_ownership(request.clone()).await).expect("handed on");
        assert_eq!(handed.former_holder.expect("ann").role, "admin");
        let refused = answer(ann.members().transfer_ownership(request).await).unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_STALE"));
        // Ann still claims to be an owner, and the gate lets her through; bob is out of an admin's reach all the same.
        let refused = ann.tries_to_remove("bob").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
        assert_eq!((refused.metadata["role"].as_str(), refused.metadata["target_role"].as_str()), ("admin", "owner"));
        let bob = bob.acting_in(&ann.organization_id, "owner");
        assert_eq!(bob.tries_to_change_role("ann", "member").await.expect("bob is the owner now").role, "member");
        world.end().await;
    }

    async fn whom_one_may_touch_is_decided_by_the_stored_role_too(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await.acting_in(&ann.organization_id, "owner");
        for (what, refused) in [
            ("invites an owner", bob.tries_to_invite(&["cas@example.com"], "owner").await.unwrap_err()),
            ("demotes the owner", bob.tries_to_change_role("ann", "admin").await.unwrap_err()),
            ("removes the owner", bob.tries_to_remove("ann").await.unwrap_err()),
        ] {
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"), "{what}");
            assert_eq!(refused.metadata["role"], "admin", "{what}");
        }
        world.end().await;
    }

    async fn an_answer_is_not_repeated_to_who_may_not_hear_it_any_more(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        let request = pb::InviteMembersRequest {
            organization_id: ann.organization_id.clone(),
            emails: vec!["cas@example.com".into()],
            role: "member".into(),
            request_id: "0198c1d2-7b7e-7cc3-98c4-dc0c0c073981".into(),
            ..Default::default()
        };
        let sent = answer(bob.members().invite_members(request.clone()).await).expect("invited");
        let again = answer(bob.members().invite_members(request.clone()).await).expect("the same answer");
        assert_eq!(sent, again);
        ann.tries_to_change_role("bob", "member").await.expect("demoted");
        let refused = answer(bob.members().invite_members(request).await).unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_STALE"));
        world.end().await;
    }

    async fn an_identity_of_one_organization_opens_no_other_even_of_ones_own(backend: Backend) {
        let world = World::new(backend).await;
        let here = world.person("ann").founds("Here").await;
        let there = world.person("ann").founds("There").await;
        let crossing = Person { organization_id: there.organization_id.clone(), ..here.clone() };
        let refused = get_organization(&crossing).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ORGANIZATION_MISMATCH"));
        let refused = crossing.tries_to_invite(&["bob@example.com"], "member").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ORGANIZATION_MISMATCH"));
        get_organization(&there).await.expect("with the right identity");
        assert_eq!(there.seats().await, "1 / 4 seats");
        world.end().await;
    }

    async fn a_role_held_elsewhere_is_worth_nothing_here(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Here").await;
        ann.brings("bob", "member").await;
        let bob = world.person("bob").founds("There").await;
        let bob_here = bob.acting_in(&ann.organization_id, "owner");
        let refused = bob_here.tries_to_remove("ann").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_STALE"));
        assert_eq!(refused.metadata["role"], "member");
        // Somebody of one organization is nobody in another, also as an object.
        let refused = bob.tries_to_remove("ann").await.unwrap_err();
        assert_eq!(refused.is(), (Code::NotFound, "MEMBER_NOT_FOUND"));
        world.end().await;
    }

    async fn a_role_that_the_policy_does_not_know_opens_nothing(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        for claimed in ["king", "Owner", "OWNER", "owner;admin", "billing_admin"] {
            let caller = ann.acting_in(&ann.organization_id, claimed);
            for method in scoped() {
                let refused = call(&method, &caller).await.expect_err(claimed);
                assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_UNKNOWN"), "{claimed} {}", method.name());
                assert_eq!(refused.metadata["role"], claimed);
            }
            // What one does for oneself needs no role.
            let mine = caller.organizations().list_organizations(pb::ListOrganizationsRequest::default()).await;
            assert_eq!(mine.expect("their own organizations").into_inner().memberships.len(), 1);
        }
        world.end().await;
    }

    async fn a_stored_role_that_the_policy_dropped_opens_nothing(backend: Backend) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let file = directory.path().join("guests.toml");
        std::fs::write(&file, policy_with_guests()).expect("written");
        let setup = Setup { policy: file.display().to_string(), ..Setup::default() };
        let mut world = World::with(backend, setup).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "guest").await;
        // The operator starts again under a policy that has no such role.
        let server = world.servers.remove(0);
        server.stop.cancel();
        drop((server.channel, server.app));
        server.task.await.expect("no panic").expect("a clean end");
        let policy = std::mem::replace(&mut world.setup.policy, "owner-billing".into());
        world.start_server().await;
        let bob = bob.at(world.channel());
        for method in scoped() {
            let refused = call(&method, &bob).await.expect_err("refused");
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_UNKNOWN"), "claimed, {}", method.name());
        }
        let bob = bob.acting_in(&ann.organization_id, "owner");
        for method in scoped() {
            let refused = call(&method, &bob).await.expect_err("refused");
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_UNKNOWN"), "stored, {}", method.name());
            assert_eq!(refused.metadata["role"], "guest");
        }
        world.setup.policy = policy;
        world.end().await;
    }

    async fn another_users_permissions_are_for_who_may_list_members(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(9)), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let check = async |caller: &Person, user_id: &str| {
            let (organization_id, user_id) = (ann.organization_id.clone(), user_id.to_owned());
            let request = pb::CheckPermissionsRequest { organization_id, user_id, ..Default::default() };
            answer(caller.members().check_permissions(request).await)
        };
        assert_eq!(check(&bob, "").await.expect("about oneself").role, "member");
        assert_eq!(check(&bob, "bob").await.expect("about oneself, by name").role, "member");
        assert_eq!(check(&ann, "bob").await.expect("by who lists members").role, "member");
        assert_eq!(check(&world.service("backend"), "bob").await.expect("by a service").role, "member");
        for another in ["ann", "nobody"] {
            let refused = check(&bob, another).await.unwrap_err();
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"), "about {another}");
            assert_eq!(refused.metadata["permission"], "members_list");
        }
        // The claim opens no more than it does elsewhere.
        let refused = check(&bob.acting_in(&ann.organization_id, "owner"), "ann").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_STALE"));
        world.end().await;
    }
}

async fn list_members(caller: &Person) -> Result<pb::ListMembersResponse, Refused> {
    let request = pb::ListMembersRequest { organization_id: caller.organization_id.clone(), ..Default::default() };
    answer(caller.members().list_members(request).await)
}

async fn get_organization(caller: &Person) -> Result<pb::GetOrganizationResponse, Refused> {
    let request = pb::GetOrganizationRequest { organization_id: caller.organization_id.clone() };
    answer(caller.organizations().get_organization(request).await)
}

/// The RPCs that need a role.
fn scoped() -> Vec<Method> {
    let needs_role = |method: &Method| method.requires().is_some_and(|requires| requires.permission != 0);
    methods().into_iter().filter(needs_role).collect()
}

async fn call(method: &Method, caller: &Person) -> Result<(), Refused> {
    let organization_id = prost_reflect::Value::String(caller.organization_id.clone());
    let request = method.request(&[("organization_id", organization_id)]);
    method.call(caller, request).await.map_err(|status| refused(&status))
}

/// Everything that needs a role: the gate knows nothing yet and may say what the claimed role lacks, but nothing is done.
async fn is_refused_everything(caller: &Person, reason: &str) {
    for method in scoped() {
        let refused = call(&method, caller).await.expect_err(reason);
        assert_eq!(refused.code, Code::PermissionDenied, "{} as {}", method.name(), caller.role);
        let by_gate = refused.reason == "ROLE_LACKS_PERMISSION" && caller.role != "owner";
        assert!(refused.reason == reason || by_gate, "{} as {}: {refused:?}", method.name(), caller.role);
    }
}
