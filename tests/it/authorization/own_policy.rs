//! A role policy of the operator's own, from its file to the refusals that it makes.

use std::collections::HashSet;
use std::fmt::Write as _;

use tempfile::TempDir;
use tenantry::auth::permission;
use tenantry::pb::{self, Permission};
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

/// A ship: the captain may everything, the mate musters deckhands but suspends nobody, and deckhands cannot leave.
fn policy() -> String {
    use Permission as P;
    let mate = HashSet::from([
        P::OrganizationRead,
        P::OrganizationLeave,
        P::MembersList,
        P::MembersInvite,
        P::MembersRemove,
        P::InvitationsList,
    ]);
    let mut policy = "name = \"ship\"\n".to_owned();
    for (role, title) in [("captain", "Captain"), ("mate", "Mate"), ("deckhand", "Deckhand")] {
        write!(policy, "[[roles]]\nrole = \"{role}\"\ntitle = \"{title}\"\ndescription = \"Aboard.\"\n")
            .expect("written");
    }
    policy.push_str("[permissions]\n");
    for granted in permission::all() {
        let (name, mate, deckhand) =
            (permission::name(granted), mate.contains(&granted), granted == P::OrganizationRead);
        writeln!(policy, "{name} = {{ captain = true, mate = {mate}, deckhand = {deckhand} }}").expect("written");
    }
    policy.push_str(
        "[invites]\ncaptain = [\"mate\", \"deckhand\"]\nmate = [\"deckhand\"]\n\
         [changes]\ncaptain = [\"captain\", \"mate\", \"deckhand\"]\n\
         [removes]\ncaptain = [\"mate\", \"deckhand\"]\nmate = [\"deckhand\"]\n",
    );
    policy
}

database_tests! {
    async fn a_policy_of_the_operators_own_rules_everything(backend: Backend) {
        let directory = TempDir::new().expect("a directory for the policy");
        let path = directory.path().join("ship.toml");
        std::fs::write(&path, policy()).expect("the policy can be written");
        let setup = Setup { policy: path.display().to_string(), ..Setup::default() };
        let world = World::with(backend, setup).await;

        let ann = world.person("ann").founds("Pequod").await;
        assert_eq!(ann.role, "captain");
        let bob = ann.brings("bob", "mate").await;
        let cas = bob.brings("cas", "deckhand").await;
        published(&cas).await;

        lacks(&cas.tries_to_leave().await.unwrap_err(), "organization_leave", "deckhand");
        lacks(&suspends(&bob, "cas").await.unwrap_err(), "members_suspend", "mate");
        lacks(&bob.tries_to_change_role("cas", "mate").await.unwrap_err(), "members_change_role", "mate");
        above(&bob.tries_to_invite(&["dee@example.com"], "mate").await.unwrap_err(), "mate", "mate");
        above(&ann.tries_to_invite(&["dee@example.com"], "captain").await.unwrap_err(), "captain", "captain");
        let refused = ann.tries_to_invite(&["dee@example.com"], "owner").await.unwrap_err();
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"), "owner is no role here");
        assert_eq!(refused.fields, ["role"]);

        // The captain is this policy's top role, so the last one stays.
        let refused = ann.tries_to_leave().await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "LAST_OWNER"));
        assert_eq!(refused.metadata["role"], "captain");
        ann.tries_to_change_role("bob", "captain").await.expect("promoted");
        ann.tries_to_leave().await.expect("somebody else is captain");
        let bob = bob.acting_in(&ann.organization_id, "captain");
        suspends(&bob, "cas").await.expect("a captain suspends");
        bob.tries_to_remove("cas").await.expect("removed");
        assert_eq!(bob.seats().await, "1 / 4 seats");
        world.end().await;
    }

    async fn who_could_grant_it_is_told_by_the_policy_in_force(backend: Backend) {
        let directory = TempDir::new().expect("a directory for the policy");
        let path = directory.path().join("ship.toml");
        std::fs::write(&path, policy()).expect("the policy can be written");
        let setup = Setup { policy: path.display().to_string(), ..Setup::default() };
        let world = World::with(backend, setup).await;
        let ann = world.person("ann").founds("Pequod").await;
        let cas = ann.brings("cas", "deckhand").await;
        let request = pb::CheckPermissionsRequest {
            organization_id: cas.organization_id.clone(),
            permissions: vec![Permission::OrganizationRead.into(), Permission::MembersInvite.into()],
            ..Default::default()
        };
        let answer = answer(cas.members().check_permissions(request).await).expect("about oneself");
        assert_eq!(answer.role, "deckhand");
        let [read, invite] = answer.checks.as_slice() else { panic!("two answers: {:?}", answer.checks) };
        assert!(read.allowed && read.roles.is_empty());
        assert!(!invite.allowed);
        assert_eq!(invite.denial_reason(), pb::DenialReason::RoleLacksPermission);
        assert_eq!(invite.roles, ["captain", "mate"]);
        assert_eq!(invite.grantor_roles, ["captain"]);
        world.end().await;
    }
}

/// What ListRoles says of it.
async fn published(caller: &Person) {
    let request = pb::ListRolesRequest { organization_id: caller.organization_id.clone() };
    let listed = answer(caller.members().list_roles(request).await).expect("the roles");
    assert_eq!(listed.role_policy, "ship");
    let names: Vec<(&str, bool)> = listed.roles.iter().map(|role| (role.role.as_str(), role.top)).collect();
    assert_eq!(names, [("captain", true), ("mate", false), ("deckhand", false)]);
    let mate = &listed.roles[1];
    assert_eq!((mate.title.as_str(), mate.description.as_str()), ("Mate", "Aboard."));
    assert_eq!((mate.invites.as_slice(), mate.changes.len()), (["deckhand".to_owned()].as_slice(), 0));
    assert_eq!(mate.removes, ["deckhand"]);
    assert_eq!(listed.roles[0].permissions.len(), permission::all().count());
    assert_eq!(listed.roles[2].permissions, [i32::from(Permission::OrganizationRead)]);
}

async fn suspends(caller: &Person, user_id: &str) -> Result<(), Refused> {
    let (organization_id, user_id) = (caller.organization_id.clone(), user_id.to_owned());
    let request = pb::SuspendMemberRequest { organization_id, user_id, ..Default::default() };
    answer(caller.members().suspend_member(request).await).map(drop)
}

fn lacks(refused: &Refused, permission: &str, role: &str) {
    assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"), "{refused:?}");
    assert_eq!((refused.metadata["permission"].as_str(), refused.metadata["role"].as_str()), (permission, role));
}

fn above(refused: &Refused, role: &str, target: &str) {
    assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"), "{refused:?}");
    assert_eq!((refused.metadata["role"].as_str(), refused.metadata["target_role"].as_str()), (role, target));
}
