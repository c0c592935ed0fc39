//! The story of `s1-aihub-user-management.txt`: users invited, promoted and removed one by one and in bulk, by owners and
//! admins who also share billing, on the preset `shared-billing`.
//!
//! The tests follow the document from its first line to its last; the numbers are its lines. `stories.md` has the rest.

use tenantry::pb::{self, InvitationState, MemberState, Permission};
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};

const DENIED: (Code, &str) = (Code::PermissionDenied, "ROLE_LACKS_PERMISSION");

async fn ai_hub(backend: Backend) -> World {
    let plans = Some(plans_with_seats(20));
    World::with(backend, Setup { policy: "shared-billing".into(), plans, ..Setup::default() }).await
}

/// What whoever has the link of an invitation sees.
async fn acceptance_page(visitor: &Person, token: &str) -> pb::ReceivedInvitation {
    let request = pb::GetReceivedInvitationRequest { token: token.into() };
    let page = answer(visitor.members().get_received_invitation(request).await).expect("the page");
    page.invitation.expect("an invitation")
}

database_tests! {
    async fn lines_1_to_11_several_are_invited_at_once_and_are_pending_in_the_list(backend: Backend) {
        let world = ai_hub(backend).await;
        let owner = world.person("olga").founds("AI Hub").await;
        let admin = owner.brings("adam", "admin").await;
        // 2: users are invited and removed, and roles assigned and revoked, by those who manage: not by members.
        let member = owner.brings("mia", "member").await;
        assert_eq!(member.tries_to_invite(&["x@example.com"], "member").await.expect_err("a member").is(), DENIED);
        // 7, 8: a list of addresses; 9: one role for all of them, admin or member.
        let sent = admin.invites(&["ben@example.com", "cas@example.com", "dee@example.com"], "admin").await;
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|it| it.invitation.as_ref().is_some_and(|invitation| invitation.role == "admin")));
        let above = owner.tries_to_invite(&["eve@example.com"], "owner").await.expect_err("to owner");
        assert_eq!(above.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
        // 10: each gets a link of their own.
        let tokens: std::collections::BTreeSet<_> = sent.iter().map(|it| it.token.as_str()).collect();
        assert_eq!(tokens.len(), 3);
        // 11, 12: they are in the list of users, as pending.
        let listed = admin.finds("").await.expect("the list");
        let pending: Vec<_> = listed.iter().filter(|it| it.state() == MemberState::Pending).collect();
        assert_eq!(pending.iter().map(|it| it.email.as_str()).collect::<Vec<_>>(),
            ["ben@example.com", "cas@example.com", "dee@example.com"]);
        world.end().await;
    }

    async fn lines_13_to_20_an_invitation_is_accepted_on_its_page_or_ignored_or_sent_again(backend: Backend) {
        let world = ai_hub(backend).await;
        let owner = world.person("olga").founds("AI Hub").await;
        let sent = owner.invites(&["ben@example.com", "cas@example.com"], "admin").await;
        // 14, 15: the link leads to a page that says what is offered, and there it is accepted.
        let ben = world.person("ben");
        let page = acceptance_page(&ben, &sent[0].token).await;
        assert_eq!(page.organization_name, "AI Hub");
        assert_eq!(page.invitation.expect("an invitation").state(), InvitationState::Pending);
        // 20: with the rights that were set when inviting.
        let ben = ben.accepts(&sent[0].token).await;
        assert_eq!(ben.role, "admin");
        assert!(ben.may(Permission::MembersInvite).await);
        // 18: who ignores one is no member, and nothing happens.
        assert_eq!(owner.member("cas").await.expect_err("cas").is(), (Code::NotFound, "MEMBER_NOT_FOUND"));
        assert_eq!(owner.invitations(&[InvitationState::Pending]).await, ["cas@example.com"]);
        // 19: adding the same address again sends it again: one invitation, another link.
        let again = owner.invites(&["cas@example.com"], "member").await;
        assert!(again[0].resent);
        assert_eq!(owner.invitations(&[InvitationState::Pending]).await, ["cas@example.com"]);
        let old = world.person("cas").tries_to_accept(&sent[1].token).await.expect_err("the old link");
        assert_eq!(old.is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        assert_eq!(world.person("cas").accepts(&again[0].token).await.role, "member");
        world.end().await;
    }

    async fn lines_21_to_28_there_are_three_roles_and_each_may_what_the_table_says(backend: Backend) {
        let world = ai_hub(backend).await;
        let owner = world.person("olga").founds("AI Hub").await;
        let admin = owner.brings("adam", "admin").await;
        let member = owner.brings("mia", "member").await;
        // 23: three roles.
        let request = pb::ListRolesRequest { organization_id: owner.organization_id.clone() };
        let roles = answer(owner.members().list_roles(request).await).expect("roles").roles;
        assert_eq!(roles.iter().map(|role| role.role.as_str()).collect::<Vec<_>>(), ["owner", "admin", "member"]);
        // 26, 27: general settings, users, admin roles, plan and billing are the owner's and the admin's ...
        for person in [&owner, &admin] {
            let color = if person.role == "owner" { "#102030" } else { "#302010" };
            let branding = pb::Branding { primary_color: color.into(), ..Default::default() };
            let settings = pb::OrganizationSettings { branding: Some(branding), ..Default::default() };
            person.tries_to_set(&["branding.primary_color"], settings).await.expect("general settings");
            assert_eq!(owner.settings().await.expect("kept").branding.expect("branding").primary_color, color);
            let new = pb::Organization { name: format!("Hub of {}", person.name), ..Default::default() };
            person.tries_to_update(&["name"], new).await.expect("general settings");
            assert_eq!(owner.organization().await.name, format!("Hub of {}", person.name));
            let invited = person.invites(&["temp@example.com"], "member").await;
            assert!(!invited[0].token.is_empty());
            person.tries_to_change_role("mia", "admin").await.expect("an admin role assigned");
            person.tries_to_change_role("mia", "member").await.expect("an admin role revoked");
            let seats = person.subscription().await.expect("the subscription").seats;
            person.tries_to_set_seats(seats + 1).await.expect("the subscription changed");
            let billing = [Permission::SubscriptionManage, Permission::SubscriptionCancel, Permission::InvoicesRead,
                Permission::PaymentMethodsManage, Permission::BillingProfileUpdate];
            assert_eq!(person.may_of(&billing).await, [true; 5]);
        }
        // ... and deleting the organization is the owner's alone.
        assert_eq!(admin.tries_to_delete().await.expect_err("an admin").is(), DENIED);
        // 22, 28: a member has no authority over the organization.
        assert_eq!(member.overview().await.expect_err("the console").is(), DENIED);
        assert_eq!(member.settings().await.expect_err("the console").is(), DENIED);
        assert_eq!(member.finds("").await.expect_err("the console").is(), DENIED);
        assert!(member.may(Permission::OrganizationRead).await);
        owner.tries_to_delete().await.expect("an owner");
        owner.tries_to_undelete().await.expect("and back");
        world.end().await;
    }

    async fn lines_29_to_35_roles_change_one_by_one_and_in_bulk_and_show_at_once(backend: Backend) {
        let world = ai_hub(backend).await;
        let owner = world.person("olga").founds("AI Hub").await;
        let admin = owner.brings("adam", "admin").await;
        for name in ["ben", "cas", "dee"] {
            owner.brings(name, "member").await;
        }
        // 30, 31: one user's role; the list shows it at once.
        assert_eq!(admin.tries_to_change_role("ben", "admin").await.expect("changed").role, "admin");
        assert!(owner.members_and_roles().await.contains(&("ben".into(), "admin".into())));
        // 33, 34: several at once,
        let changed = admin.tries_to_change_roles(&[("cas", "admin"), ("dee", "admin")]).await.expect("changed");
        assert_eq!(changed.iter().map(|it| it.role.as_str()).collect::<Vec<_>>(), ["admin", "admin"]);
        // 35: and the list shows all of them at once.
        let roles = owner.members_and_roles().await;
        assert_eq!(roles.iter().filter(|(_, role)| role == "admin").count(), 4);
        // All or none: with one who may not be touched among them nothing changes, and it says which.
        let refused = admin.tries_to_change_roles(&[("cas", "member"), ("olga", "member")]).await.expect_err("an owner");
        assert_eq!((refused.reason.as_str(), refused.metadata["indexes"].as_str()), ("ROLE_ABOVE_CALLER", "1"));
        assert!(owner.members_and_roles().await.contains(&("cas".into(), "admin".into())));
        world.end().await;
    }

    async fn lines_36_to_44_users_are_removed_one_by_one_and_several_at_once(backend: Backend) {
        let world = ai_hub(backend).await;
        let owner = world.person("olga").founds("AI Hub").await;
        let admin = owner.brings("adam", "admin").await;
        let mut leaving = Vec::new();
        for name in ["ben", "cas", "dee"] {
            leaving.push(owner.brings(name, "member").await);
        }
        // 37 to 40: one.
        admin.tries_to_remove("ben").await.expect("removed");
        // 41 to 44: several.
        let removed = admin.tries_to_remove_all(&["cas", "dee"]).await.expect("removed");
        assert_eq!(removed.len(), 2);
        let left: std::collections::BTreeMap<_, _> = owner.members_and_roles().await.into_iter().collect();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["adam", "olga"]);
        // Who is removed is out at the very next call, whatever their token says.
        for person in &leaving {
            assert_eq!(person.tries_to_get().await.expect_err("gone").is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        }
        // The highest administrator is not removed by an admin.
        let refused = admin.tries_to_remove("olga").await.expect_err("the owner");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
        world.end().await;
    }
}
