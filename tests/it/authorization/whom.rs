//! Who may touch whom: the roles that each role may grant, change and remove, on every path there is.

use std::collections::HashMap;

use tenantry::pb;
use tonic::Code;

use super::design::{GUARDED_ADMIN, OWNER_BILLING, Preset, SHARED_BILLING, SPLIT_ADMIN};
use crate::harness::person::{Person, answer};
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};

database_tests! {
    async fn in_owner_billing_everybody_touches_whom_they_may(backend: Backend) {
        everybody_touches_whom_they_may(backend, OWNER_BILLING).await;
    }

    async fn in_shared_billing_everybody_touches_whom_they_may(backend: Backend) {
        everybody_touches_whom_they_may(backend, SHARED_BILLING).await;
    }

    async fn in_split_admin_everybody_touches_whom_they_may(backend: Backend) {
        everybody_touches_whom_they_may(backend, SPLIT_ADMIN).await;
    }

    async fn in_guarded_admin_everybody_touches_whom_they_may(backend: Backend) {
        everybody_touches_whom_they_may(backend, GUARDED_ADMIN).await;
    }

    async fn an_owner_makes_an_owner_by_promotion_only(backend: Backend) {
        let world = world_of(backend, &SHARED_BILLING).await;
        let ann = world.person("ann").founds("Acme").await;
        let refused = ann.tries_to_invite(&["bob@example.com"], "owner").await.unwrap_err();
        assert_above(&refused, "owner", "owner");
        let bob = ann.brings("bob", "admin").await;
        assert_above(&bob.tries_to_change_role("ann", "member").await.unwrap_err(), "admin", "owner");
        ann.tries_to_change_role("bob", "owner").await.expect("promoted");
        let bob = bob.acting_in(&ann.organization_id, "owner");
        assert_eq!(bob.tries_to_change_role("ann", "admin").await.expect("demoted").role, "admin");
        world.end().await;
    }

    async fn a_user_admin_invites_and_removes_only_members(backend: Backend) {
        let world = world_of(backend, &SPLIT_ADMIN).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "user_admin").await;
        let cas = bob.brings("cas", "member").await;
        for role in ["admin", "billing_admin", "user_admin"] {
            let refused = bob.tries_to_invite(&["dee@example.com"], role).await.unwrap_err();
            assert_above(&refused, "user_admin", role);
        }
        let refused = bob.tries_to_change_role("cas", "user_admin").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        assert_eq!(refused.metadata["permission"], "members_change_role");
        assert_above(&bob.tries_to_remove("ann").await.unwrap_err(), "user_admin", "admin");
        assert_eq!(bob.tries_to_remove("cas").await.expect("removed").user_id, cas.name);
        assert_eq!(ann.seats().await, "2 / 100 seats");
        world.end().await;
    }

    async fn in_split_admin_nobody_leaves_but_an_admin_lets_them_go(backend: Backend) {
        let world = world_of(backend, &SPLIT_ADMIN).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut people = vec![ann.clone()];
        for (name, role) in [("bob", "admin"), ("cas", "billing_admin"), ("dee", "user_admin"), ("eve", "member")] {
            people.push(ann.brings(name, role).await);
        }
        for person in &people {
            let refused = person.tries_to_leave().await.unwrap_err();
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"), "{}", person.role);
            assert_eq!(refused.metadata["permission"], "organization_leave");
        }
        for person in &people[1..] {
            ann.tries_to_remove(&person.name).await.expect("removed");
        }
        assert_eq!(ann.seats().await, "1 / 100 seats");
        world.end().await;
    }

    async fn a_guarded_admin_touches_members_only(backend: Backend) {
        let world = world_of(backend, &GUARDED_ADMIN).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        ann.brings("cas", "admin").await;
        bob.brings("dee", "member").await;
        assert_above(&bob.tries_to_remove("cas").await.unwrap_err(), "admin", "admin");
        assert_above(&bob.tries_to_remove("ann").await.unwrap_err(), "admin", "owner");
        assert_above(&bob.tries_to_invite(&["eve@example.com"], "admin").await.unwrap_err(), "admin", "admin");
        let refused = bob.tries_to_change_role("dee", "admin").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        bob.tries_to_remove("dee").await.expect("removed");
        ann.tries_to_remove("cas").await.expect("removed");
        world.end().await;
    }

    async fn nobody_does_to_themselves_what_the_admin_calls_do(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        // There is a second owner, so that it is not the last one's protection that refuses.
        ann.brings("cas", "owner").await;
        for person in [&ann, &bob] {
            let reach = Reach { actor: person, target: &person.name, to: "member" };
            for (path, outcome) in [
                ("a role change", reach.change(false).await),
                ("a removal", reach.remove(false).await),
                ("a suspension", reach.suspend().await),
                ("a reactivation", reach.reactivate().await),
            ] {
                let refused = outcome.unwrap_err();
                assert_eq!(refused.is(), (Code::FailedPrecondition, "SELF_CHANGE_FORBIDDEN"), "{path} by {}", person.name);
            }
            for (path, outcome) in
                [("role changes", reach.change(true).await), ("removals", reach.remove(true).await)]
            {
                let refused = outcome.unwrap_err();
                assert_eq!(refused.is(), (Code::FailedPrecondition, "SELF_CHANGE_FORBIDDEN"), "{path} by {}", person.name);
                assert_eq!(refused.metadata["indexes"], "0", "{path}");
            }
        }
        world.end().await;
    }

    async fn one_out_of_reach_refuses_the_whole_batch(backend: Backend) {
        let world = world_of(backend, &OWNER_BILLING).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        let cas = ann.brings("cas", "member").await;
        let events = world.events(&ann.organization_id).await;
        let organization_id = || ann.organization_id.clone();
        let update = |user_id: &str, role: &str| pb::MemberRoleUpdate {
            user_id: user_id.into(),
            role: role.into(),
            ..Default::default()
        };
        let request = pb::BatchUpdateMemberRolesRequest {
            organization_id: organization_id(),
            updates: vec![update("cas", "admin"), update("ann", "member"), update("cas", "admin")],
            ..Default::default()
        };
        let refused = answer(bob.members().batch_update_member_roles(request).await).unwrap_err();
        assert_above(&refused, "admin", "owner");
        assert_eq!(refused.violations, [("ROLE_ABOVE_CALLER".to_owned(), "updates[1]".to_owned())]);
        let request = pb::BatchRemoveMembersRequest {
            organization_id: organization_id(),
            user_ids: vec!["cas".into(), "ann".into()],
            ..Default::default()
        };
        let refused = answer(bob.members().batch_remove_members(request).await).unwrap_err();
        assert_above(&refused, "admin", "owner");
        assert_eq!(refused.violations, [("ROLE_ABOVE_CALLER".to_owned(), "user_ids[1]".to_owned())]);
        assert_eq!(world.events(&ann.organization_id).await, events, "nothing happened");
        assert_eq!(cas.tries_to_leave().await.expect("still there").role, "member");
        world.end().await;
    }

    async fn an_invitation_above_oneself_is_not_lowered_by_inviting_again(backend: Backend) {
        let world = world_of(backend, &OWNER_BILLING).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        let sent = ann.invites(&["cas@example.com"], "owner").await;
        let refused = bob.tries_to_invite(&["dee@example.com", "CAS@example.com"], "member").await.unwrap_err();
        assert_above(&refused, "admin", "owner");
        assert_eq!(refused.violations, [("ROLE_ABOVE_CALLER".to_owned(), "emails[1]".to_owned())]);
        assert_eq!(ann.seats().await, "3 / 100 seats");
        // Bob's attempt has not worn out the link that ann sent.
        assert_eq!(world.person("cas").accepts(&sent[0].token).await.role, "owner");
        world.end().await;
    }
}

async fn world_of(backend: Backend, preset: &Preset) -> World {
    let setup = Setup { policy: preset.name.into(), plans: Some(plans_with_seats(100)), ..Setup::default() };
    World::with(backend, setup).await
}

fn assert_above(refused: &Refused, role: &str, target: &str) {
    assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"), "{refused:?}");
    assert_eq!((refused.metadata["role"].as_str(), refused.metadata["target_role"].as_str()), (role, target));
}

/// Somebody who tries to touch somebody. Nothing is kept of it, so that everything can be tried.
struct Reach<'a> {
    actor: &'a Person,
    /// A user, an invitation or an address.
    target: &'a str,
    /// The role that they are to have.
    to: &'a str,
}

impl Reach<'_> {
    fn organization_id(&self) -> String {
        self.actor.organization_id.clone()
    }

    async fn invite(&self) -> Result<(), Refused> {
        let (organization_id, emails) = (self.organization_id(), vec![self.target.to_owned()]);
        let role = self.to.to_owned();
        let request =
            pb::InviteMembersRequest { organization_id, emails, role, validate_only: true, ..Default::default() };
        answer(self.actor.members().invite_members(request).await).map(drop)
    }

    async fn resend(&self) -> Result<(), Refused> {
        let (organization_id, invitation_id) = (self.organization_id(), self.target.to_owned());
        let request =
            pb::ResendInvitationRequest { organization_id, invitation_id, validate_only: true, ..Default::default() };
        answer(self.actor.members().resend_invitation(request).await).map(drop)
    }

    async fn cancel(&self) -> Result<(), Refused> {
        let (organization_id, invitation_ids) = (self.organization_id(), vec![self.target.to_owned()]);
        let request =
            pb::CancelInvitationsRequest { organization_id, invitation_ids, validate_only: true, ..Default::default() };
        answer(self.actor.members().cancel_invitations(request).await).map(drop)
    }

    async fn change(&self, as_batch: bool) -> Result<(), Refused> {
        let (organization_id, user_id, role) = (self.organization_id(), self.target.to_owned(), self.to.to_owned());
        let mut members = self.actor.members();
        if as_batch {
            let updates = vec![pb::MemberRoleUpdate { user_id, role, etag: String::new() }];
            let (validate_only, request_id) = (true, String::new());
            let request = pb::BatchUpdateMemberRolesRequest { organization_id, updates, request_id, validate_only };
            return answer(members.batch_update_member_roles(request).await).map(drop);
        }
        let request =
            pb::UpdateMemberRoleRequest { organization_id, user_id, role, validate_only: true, ..Default::default() };
        answer(members.update_member_role(request).await).map(drop)
    }

    async fn remove(&self, as_batch: bool) -> Result<(), Refused> {
        let (organization_id, user_id) = (self.organization_id(), self.target.to_owned());
        let mut members = self.actor.members();
        if as_batch {
            let user_ids = vec![user_id];
            let (validate_only, request_id) = (true, String::new());
            let request = pb::BatchRemoveMembersRequest { organization_id, user_ids, request_id, validate_only };
            return answer(members.batch_remove_members(request).await).map(drop);
        }
        let request = pb::RemoveMemberRequest { organization_id, user_id, validate_only: true, ..Default::default() };
        answer(members.remove_member(request).await).map(drop)
    }

    async fn suspend(&self) -> Result<(), Refused> {
        let (organization_id, user_id) = (self.organization_id(), self.target.to_owned());
        let request = pb::SuspendMemberRequest { organization_id, user_id, validate_only: true, ..Default::default() };
        answer(self.actor.members().suspend_member(request).await).map(drop)
    }

    async fn reactivate(&self) -> Result<(), Refused> {
        let (organization_id, user_id) = (self.organization_id(), self.target.to_owned());
        let request =
            pb::ReactivateMemberRequest { organization_id, user_id, validate_only: true, ..Default::default() };
        answer(self.actor.members().reactivate_member(request).await).map(drop)
    }
}

/// Every role tries every path on every role, and on every pair of roles where there are two.
async fn everybody_touches_whom_they_may(backend: Backend, preset: Preset) {
    let world = world_of(backend, &preset).await;
    let cast = Cast::gather(&world, &preset).await;
    let roles: Vec<&str> = preset.roles().collect();
    for role in &roles {
        let actor = &cast.actors[role];
        for target in &roles {
            cast.invitations(&preset, actor, target).await;
            cast.departures(&preset, actor, target).await;
            for to in &roles {
                cast.changes(&preset, actor, target, to).await;
            }
        }
    }
    world.end().await;
}

/// Somebody in each role who acts, somebody who is acted upon, somebody who is suspended, and somebody who is invited.
struct Cast {
    actors: HashMap<&'static str, Person>,
    invitations: HashMap<&'static str, String>,
}

impl Cast {
    async fn gather(world: &World, preset: &Preset) -> Self {
        let founder = world.person("founder").founds("Acme").await;
        let mut actors = HashMap::from([(preset.top(), founder.clone())]);
        let mut invitations = HashMap::new();
        for role in preset.roles() {
            let mut names = vec![target_of(role), suspended_of(role)];
            names.extend((role != preset.top()).then(|| actor_of(role)));
            for name in &names {
                founder.brings(name, "member").await;
                founder.tries_to_change_role(name, role).await.expect("the role changed");
            }
            if role != preset.top() {
                let actor = world.person(&actor_of(role)).acting_in(&founder.organization_id, role);
                actors.insert(role, actor);
            }
            let (organization_id, user_id) = (founder.organization_id.clone(), suspended_of(role));
            let request = pb::SuspendMemberRequest { organization_id, user_id, ..Default::default() };
            founder.members().suspend_member(request).await.expect("suspended");
            if preset.invites(preset.top()).contains(&role) {
                let sent = founder.invites(&[&email_of(role)], role).await;
                let invitation = sent[0].invitation.clone().expect("an invitation");
                invitations.insert(role, invitation.invitation_id);
            }
        }
        Self { actors, invitations }
    }

    async fn invitations(&self, preset: &Preset, actor: &Person, target: &str) {
        let may = preset.invites(&actor.role);
        let judge_on = |path: &str, roles: &[&str], outcome| judge(path, actor, &may, roles, "members_invite", outcome);
        let newcomer = Reach { actor, target: "newcomer@example.com", to: target };
        judge_on("an invitation", &[target], newcomer.invite().await);
        let Some(invitation_id) = self.invitations.get(target) else {
            assert_eq!((preset.name, target), ("shared-billing", "owner"), "only there, nobody is invited as owner");
            return;
        };
        let open = Reach { actor, target: invitation_id, to: target };
        judge_on("a resend", &[target], open.resend().await);
        judge_on("a cancellation", &[target], open.cancel().await);
        // The role that is asked for is judged first, then the one that the invitation has already.
        for to in preset.roles() {
            let again = Reach { actor, target: &email_of(target), to };
            let path = format!("another invitation, as {to},");
            judge_on(&path, &[to, target], again.invite().await);
        }
    }

    async fn departures(&self, preset: &Preset, actor: &Person, target: &str) {
        let may = preset.removes(&actor.role);
        for user_id in [target_of(target), suspended_of(target)] {
            let reach = Reach { actor, target: &user_id, to: "" };
            for (path, outcome) in [("a removal", reach.remove(false).await), ("removals", reach.remove(true).await)] {
                judge(path, actor, &may, &[target], "members_remove", outcome);
            }
            for (path, outcome) in [("a suspension", reach.suspend().await), ("an end of it", reach.reactivate().await)]
            {
                judge(path, actor, &may, &[target], "members_suspend", outcome);
            }
        }
    }

    async fn changes(&self, preset: &Preset, actor: &Person, from: &str, to: &str) {
        let may = preset.changes(&actor.role);
        for user_id in [target_of(from), suspended_of(from)] {
            let reach = Reach { actor, target: &user_id, to };
            for as_batch in [false, true] {
                let path = format!("a change to {to}");
                judge(&path, actor, &may, &[from, to], "members_change_role", reach.change(as_batch).await);
            }
        }
    }
}

/// Whether it came out as it must: the caller may touch all of the roles in question, or hears of the first that they may
/// not, or of the permission if they may touch none at all.
fn judge(path: &str, actor: &Person, may: &[&str], roles: &[&str], permission: &str, outcome: Result<(), Refused>) {
    let what = format!("{path} of {} by a {}: {outcome:?}", roles.join(" "), actor.role);
    let forbidden = roles.iter().find(|role| !may.contains(role));
    match (outcome, forbidden) {
        (Ok(()), None) => {}
        (Err(refused), Some(_)) if may.is_empty() => {
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"), "{what}");
            assert_eq!(refused.metadata["permission"], permission, "{what}");
        }
        (Err(refused), Some(forbidden)) => {
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"), "{what}");
            assert_eq!(refused.metadata["target_role"], *forbidden, "{what}");
            assert_eq!(refused.metadata["role"], actor.role, "{what}");
        }
        _ => panic!("{what}"),
    }
}

// Names that are e-mail addresses too have no underscore, so that they read well.
fn actor_of(role: &str) -> String {
    format!("acting-{}", role.replace('_', "-"))
}

fn target_of(role: &str) -> String {
    format!("touched-{}", role.replace('_', "-"))
}

fn suspended_of(role: &str) -> String {
    format!("suspended-{}", role.replace('_', "-"))
}

fn email_of(role: &str) -> String {
    format!("invited-{}@example.com", role.replace('_', "-"))
}
