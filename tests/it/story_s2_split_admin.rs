//! The story of `s2-split-admin-settings.txt`: administration split between people and money, on the preset `split-admin`.
//!
//! The tests follow the document from its first line to its last; the numbers are its lines. `stories.md` has the rest.

use chrono::TimeDelta;
use tenantry::pb::{self, MemberState, Permission, WorkspaceKind};
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};

const DENIED: (Code, &str) = (Code::PermissionDenied, "ROLE_LACKS_PERMISSION");
const ABOVE: (Code, &str) = (Code::PermissionDenied, "ROLE_ABOVE_CALLER");

/// An organization with one of each role.
struct Stage {
    world: World,
    admin: Person,
    billing: Person,
    users: Person,
    member: Person,
}

impl Stage {
    async fn set(backend: Backend) -> Self {
        let plans = Some(plans_with_seats(20));
        let world = World::with(backend, Setup { policy: "split-admin".into(), plans, ..Setup::default() }).await;
        let admin = world.person("ada").founds("Split").await;
        let billing = admin.brings("bill", "billing_admin").await;
        let users = admin.brings("uma", "user_admin").await;
        let member = admin.brings("mia", "member").await;
        Self { world, admin, billing, users, member }
    }

    fn all(&self) -> [&Person; 4] {
        [&self.admin, &self.billing, &self.users, &self.member]
    }
}

/// Which of them have a permission: admin, billing admin, user admin, member.
async fn who_may(stage: &Stage, permission: Permission) -> [bool; 4] {
    let mut allowed = [false; 4];
    for (place, person) in stage.all().into_iter().enumerate() {
        allowed[place] = person.may(permission).await;
    }
    allowed
}

fn branded(color: &str) -> pb::OrganizationSettings {
    let branding = pb::Branding { primary_color: color.into(), ..Default::default() };
    pb::OrganizationSettings { branding: Some(branding), ..Default::default() }
}

async fn profile(person: &Person) -> Result<pb::BillingProfile, crate::harness::refused::Refused> {
    let request = pb::GetBillingProfileRequest { organization_id: person.organization_id.clone() };
    answer(person.billing().get_billing_profile(request).await).map(|it| it.billing_profile.expect("a profile"))
}

async fn tries_to_rename_payer(person: &Person, name: &str) -> Result<(), crate::harness::refused::Refused> {
    let request = pb::UpdateBillingProfileRequest {
        organization_id: person.organization_id.clone(),
        billing_profile: Some(pb::BillingProfile { name: name.into(), ..Default::default() }),
        update_mask: Some(crate::harness::product::masked(&["name"])),
        ..Default::default()
    };
    answer(person.billing().update_billing_profile(request).await).map(|_| ())
}

database_tests! {
    async fn lines_1_to_12_four_roles_reach_general_users_spaces_and_billing_as_the_table_says(backend: Backend) {
        let stage = Stage::set(backend).await;
        let Stage { admin, billing, users, member, .. } = &stage;
        // 1: admins of each kind get in, and nobody else.
        for person in [admin, billing, users] {
            person.overview().await.expect("the settings' front page");
        }
        assert_eq!(member.overview().await.expect_err("a member").is(), DENIED);
        // 8 to 11, general settings: changed by the admin; seen, and no more (the limit of the starred cells), by the others.
        assert_eq!(who_may(&stage, Permission::SettingsUpdate).await, [true, false, false, false]);
        assert_eq!(who_may(&stage, Permission::SettingsRead).await, [true, true, true, false]);
        assert_eq!(who_may(&stage, Permission::OrganizationUpdate).await, [true, false, false, false]);
        // Users: all three see them; the admin manages all, the user admin members, the billing admin nobody.
        assert_eq!(who_may(&stage, Permission::MembersList).await, [true, true, true, false]);
        assert_eq!(who_may(&stage, Permission::MembersInvite).await, [true, false, true, false]);
        assert_eq!(who_may(&stage, Permission::MembersRemove).await, [true, false, true, false]);
        // Spaces: managed by admin and user admin, seen by the billing admin; a member only has their own.
        assert_eq!(who_may(&stage, Permission::WorkspacesManage).await, [true, false, true, false]);
        assert_eq!(who_may(&stage, Permission::WorkspacesListAll).await, [true, true, true, false]);
        // Billing: admin and billing admin.
        assert_eq!(who_may(&stage, Permission::SubscriptionManage).await, [true, true, false, false]);
        assert_eq!(who_may(&stage, Permission::InvoicesRead).await, [true, true, false, false]);
        stage.world.end().await;
    }

    async fn lines_13_to_24_the_admin_does_everything_and_there_is_always_one(backend: Backend) {
        let stage = Stage::set(backend).await;
        let Stage { admin, member, .. } = &stage;
        // 15: all settings; 16: the organization's information.
        admin.tries_to_set(&["branding"], branded("#112233")).await.expect("settings");
        let new = pb::Organization { name: "Split Ltd".into(), ..Default::default() };
        assert_eq!(admin.tries_to_update(&["name"], new).await.expect("information").name, "Split Ltd");
        // 17: the billing information.
        tries_to_rename_payer(admin, "Split Limited").await.expect("billing information");
        // 18: every user, of every role.
        for role in ["billing_admin", "user_admin", "admin", "member"] {
            admin.tries_to_change_role(&member.name, role).await.expect(role);
        }
        // 19: every workspace.
        let space = admin.tries_to_make(WorkspaceKind::Workspace, "Sales").await.expect("a workspace");
        admin.tries_to_put_in(&member.name, &[&space]).await.expect("assigned");
        let renamed = pb::Workspace { name: "Selling".into(), ..space.clone() };
        assert_eq!(admin.tries_to_update_workspace(&["name"], renamed).await.expect("renamed").name, "Selling");
        admin.tries_to_close(&space.workspace_id).await.expect("deleted");
        // 20: the subscription; 21: its end.
        admin.tries_to_set_seats(21).await.expect("the subscription");
        assert!(admin.may(Permission::SubscriptionCancel).await);
        // 23: at least one admin, by any path: nobody can remove or leave the last one.
        let own = admin.tries_to_change_role(&admin.name, "member").await.expect_err("oneself");
        assert_eq!(own.is(), (Code::FailedPrecondition, "SELF_CHANGE_FORBIDDEN"));
        let own = admin.tries_to_suspend(&admin.name).await.expect_err("oneself");
        assert_eq!(own.is(), (Code::FailedPrecondition, "SELF_CHANGE_FORBIDDEN"));
        let own = admin.tries_to_remove(&admin.name).await.expect_err("oneself");
        assert_eq!(own.is(), (Code::FailedPrecondition, "SELF_CHANGE_FORBIDDEN"));
        assert_eq!(admin.tries_to_leave().await.expect_err("nobody leaves").is(), DENIED);
        // More than one is recommended: the first steps say so until there is.
        let second = |overview: pb::OrganizationOverview| {
            let steps = overview.setup.expect("first steps").steps;
            steps.into_iter().find(|step| step.kind() == pb::SetupStepKind::SecondTopRoleMember).expect("the step").done
        };
        assert!(!second(admin.overview().await.expect("the overview")));
        let other = admin.brings("ann", "admin").await;
        assert!(second(admin.overview().await.expect("the overview")));
        other.tries_to_remove(&admin.name).await.expect("one of two");
        // 24: security settings.
        let security = pb::SecuritySettings { mfa_required: true, ..Default::default() };
        let secured = pb::OrganizationSettings { security: Some(security), ..Default::default() };
        other.tries_to_set(&["security.mfa_required"], secured).await.expect("security");
        // 22: and the organization itself.
        other.tries_to_delete().await.expect("deleted");
        stage.world.end().await;
    }

    async fn lines_25_to_34_the_billing_admin_sees_all_and_changes_the_money_alone(backend: Backend) {
        let stage = Stage::set(backend).await;
        let Stage { admin, billing, .. } = &stage;
        let space = admin.tries_to_make(WorkspaceKind::Workspace, "Sales").await.expect("a workspace");
        // 27, 28: the settings and the organization's information are theirs to see, not to change.
        billing.settings().await.expect("seen");
        assert_eq!(billing.tries_to_set(&["branding"], branded("#112233")).await.expect_err("changed").is(), DENIED);
        assert_eq!(billing.organization().await.name, "Split");
        let new = pb::Organization { name: "Mine".into(), ..Default::default() };
        assert_eq!(billing.tries_to_update(&["name"], new).await.expect_err("changed").is(), DENIED);
        // 25, 29: the billing information, the payment details and the invoices.
        tries_to_rename_payer(billing, "Split Limited").await.expect("billing information");
        assert_eq!(profile(billing).await.expect("billing information").name, "Split Limited");
        let money = [Permission::PaymentMethodsManage, Permission::PaymentMethodsRead, Permission::InvoicesRead];
        assert_eq!(billing.may_of(&money).await, [true; 3]);
        // 30: all users; 31: all workspaces.
        assert_eq!(billing.finds("").await.expect("users").len(), 4);
        assert_eq!(billing.workspaces_of("").await.expect("workspaces"), ["Sales"]);
        assert_eq!(billing.tries_to_put_in("mia", &[&space]).await.expect_err("assigned").is(), DENIED);
        let renamed = pb::Workspace { name: "Money".into(), ..space.clone() };
        let refused = billing.tries_to_update_workspace(&["name"], renamed).await.expect_err("only seen");
        assert_eq!(refused.is(), DENIED);
        assert_eq!(billing.tries_to_close(&space.workspace_id).await.expect_err("only seen").is(), DENIED);
        // 32: the subscription;
        assert_eq!(billing.tries_to_set_seats(25).await.expect("the subscription").seats, 25);
        // 33: not its end; 34: not the organization's.
        assert!(!billing.may(Permission::SubscriptionCancel).await);
        assert_eq!(billing.tries_to_delete().await.expect_err("deleted").is(), DENIED);
        stage.world.end().await;
    }

    async fn lines_35_to_48_the_user_admin_manages_members_and_workspaces(backend: Backend) {
        let stage = Stage::set(backend).await;
        let Stage { admin, users, member, .. } = &stage;
        // 37: the settings are seen, as the starred cells of the table say, and never changed; 38: the organization's information is theirs to see.
        users.settings().await.expect("seen, not changed");
        assert_eq!(users.tries_to_set(&["branding"], branded("#112233")).await.expect_err("changed").is(), DENIED);
        assert_eq!(users.organization().await.name, "Split");
        // 39: so is the billing information, and no more than see.
        profile(users).await.expect("seen");
        assert_eq!(tries_to_rename_payer(users, "Mine").await.expect_err("changed").is(), DENIED);
        // 41: members are added, and nobody of another role;
        users.invites(&["new@example.com"], "member").await;
        for role in ["admin", "billing_admin", "user_admin"] {
            assert_eq!(users.tries_to_invite(&["x@example.com"], role).await.expect_err(role).is(), ABOVE);
        }
        // 42: members are deleted, and nobody of another role.
        for name in ["ada", "bill"] {
            assert_eq!(users.tries_to_remove(name).await.expect_err(name).is(), ABOVE);
        }
        // 43, 44: every workspace, and the assignments of all users, whatever their role.
        let space = users.tries_to_make(WorkspaceKind::Workspace, "Support").await.expect("a workspace");
        for person in [admin, member] {
            users.tries_to_put_in(&person.name, &[&space]).await.expect("assigned");
        }
        // also those that somebody else made: seen, renamed, deleted.
        let board = admin.tries_to_make(WorkspaceKind::Workspace, "Board").await.expect("another workspace");
        let pilot = admin.tries_to_make(WorkspaceKind::Workspace, "Pilot").await.expect("a third one");
        assert_eq!(users.workspaces_of("").await.expect("all"), ["Board", "Pilot", "Support"]);
        let renamed = pb::Workspace { name: "Directors".into(), ..board.clone() };
        assert_eq!(users.tries_to_update_workspace(&["name"], renamed.clone()).await.expect("renamed").name, "Directors");
        users.tries_to_close(&pilot.workspace_id).await.expect("deleted");
        assert_eq!(users.workspaces_of("").await.expect("all"), ["Directors", "Support"]);
        // 45 to 47: nothing of the subscription, nor of the organization's end.
        assert_eq!(users.tries_to_set_seats(25).await.expect_err("seats").is(), DENIED);
        assert!(!users.may(Permission::SubscriptionCancel).await);
        assert_eq!(users.tries_to_delete().await.expect_err("deleted").is(), DENIED);
        // 48 (and 11): a member has the workspaces that they were granted, and no settings.
        assert_eq!(member.workspaces_of("").await.expect("their own"), ["Support"]);
        assert_eq!(member.tries_to_update_workspace(&["name"], renamed).await.expect_err("a member").is(), DENIED);
        assert_eq!(member.tries_to_close(&space.workspace_id).await.expect_err("a member").is(), DENIED);
        assert_eq!(member.settings().await.expect_err("settings").is(), DENIED);
        users.tries_to_remove(&member.name).await.expect("a member");
        stage.world.end().await;
    }

    async fn lines_49_to_53_the_list_of_users_shows_profile_last_sign_in_and_who_is_pending_and_is_searched(backend: Backend) {
        let stage = Stage::set(backend).await;
        let Stage { world, billing, users, .. } = &stage;
        users.invites(&["zoe@example.com"], "member").await;
        world.pass(TimeDelta::hours(1));
        let seen = world.wire_time();
        let profile = pb::UserProfile { display_name: "Mía Müller".into(), avatar_uri: "https://cdn.example.com/mia.png".into() };
        let request = pb::RecordSignInRequest {
            organization_id: users.organization_id.clone(),
            user_id: "mia".into(),
            profile: Some(profile),
            ..Default::default()
        };
        world.service("login").tries_to_record(request).await.expect("recorded");
        // 50: avatar, display name, role and address; 51: when they last signed in.
        let found = billing.finds("mia muller").await.expect("a search");
        let [mia] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((mia.display_name.as_str(), mia.role.as_str(), mia.email.as_str()), ("Mía Müller", "member", "mia@example.com"));
        assert_eq!(mia.avatar_uri, "https://cdn.example.com/mia.png");
        assert_eq!(mia.last_sign_in_time, Some(seen));
        // 49: who has not accepted is pending instead.
        let found = billing.finds("zoe@").await.expect("a search");
        let [zoe] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((zoe.state(), zoe.last_sign_in_time), (MemberState::Pending, None));
        // 53: a search finds by any part of the name.
        assert_eq!(users.finds("ULLE").await.expect("a search").len(), 1);
        stage.world.end().await;
    }

    async fn lines_54_to_70_a_user_is_added_with_a_role_and_up_to_ten_workspaces(backend: Backend) {
        let stage = Stage::set(backend).await;
        let Stage { world, admin, billing, users, .. } = &stage;
        let mut spaces = Vec::new();
        for number in 0..11 {
            spaces.push(admin.tries_to_make(WorkspaceKind::Workspace, &format!("Space {number:02}")).await.expect("a workspace"));
        }
        let spaces: Vec<&pb::Workspace> = spaces.iter().collect();
        // 54: only admins and user admins add users.
        assert_eq!(billing.tries_to_invite(&["x@example.com"], "member").await.expect_err("a billing admin").is(), DENIED);
        // 60 to 63: an address, and the access of the new user; 64: a user admin gives that of a member alone.
        assert_eq!(users.tries_to_invite(&["x@example.com"], "user_admin").await.expect_err("more").is(), ABOVE);
        // 68 to 70: workspaces are chosen with it, at most ten;
        let refused = users.tries_to_invite_into("nia@example.com", "member", &spaces).await.expect_err("eleven");
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(refused.fields, ["workspace_ids"]);
        let sent = users.tries_to_invite_into("nia@example.com", "member", &spaces[..10]).await.expect("ten");
        let chosen = sent.invitation.expect("an invitation").workspace_ids;
        // 67: the link in the e-mail gives access to them, also when it was sent again with no word of workspaces.
        let again = users.invites(&["nia@example.com"], "member").await;
        assert!(again[0].resent);
        assert_eq!(again[0].invitation.as_ref().expect("an invitation").workspace_ids, chosen);
        let nia = world.person("nia").accepts(&again[0].token).await;
        assert_eq!(nia.workspaces_of("").await.expect("their own").len(), 10);
        // 70: to more they are assigned later;
        users.tries_to_put_in("nia", &spaces).await.expect("eleven");
        assert_eq!(nia.workspaces_of("").await.expect("their own").len(), 11);
        // 69: and the step can be skipped.
        let ole = users.brings("ole", "member").await;
        assert!(ole.workspaces_of("").await.expect("their own").is_empty());
        stage.world.end().await;
    }

    async fn lines_71_to_79_a_user_is_edited_by_the_admin_alone(backend: Backend) {
        let stage = Stage::set(backend).await;
        let Stage { admin, billing, users, .. } = &stage;
        // 74, 76: found by name, and changed.
        let found = admin.finds("mia").await.expect("a search");
        assert_eq!(admin.tries_to_change_role(&found[0].user_id, "user_admin").await.expect("changed").role, "user_admin");
        admin.tries_to_change_role("mia", "member").await.expect("and back");
        // 78: a billing admin only looks; 79: a user admin neither promotes nor demotes.
        for person in [billing, users] {
            assert_eq!(person.tries_to_change_role("mia", "billing_admin").await.expect_err("changed").is(), DENIED);
        }
        stage.world.end().await;
    }

    async fn lines_80_to_91_a_user_is_deleted_by_another_and_leaves_every_workspace(backend: Backend) {
        let stage = Stage::set(backend).await;
        let Stage { world, admin, users, member, .. } = &stage;
        let sales = admin.tries_to_make(WorkspaceKind::Workspace, "Sales").await.expect("a workspace");
        let support = admin.tries_to_make(WorkspaceKind::Workspace, "Support").await.expect("a workspace");
        users.tries_to_put_in("mia", &[&sales, &support]).await.expect("assigned");
        // 80: nobody deletes themselves.
        let own = users.tries_to_remove("uma").await.expect_err("oneself");
        assert_eq!(own.is(), (Code::FailedPrecondition, "SELF_CHANGE_FORBIDDEN"));
        assert_eq!(member.tries_to_leave().await.expect_err("leaving").is(), DENIED);
        // 85: a user admin deletes members, and nobody else.
        assert_eq!(users.tries_to_remove("bill").await.expect_err("a billing admin").is(), ABOVE);
        // 84, 87: found, and deleted.
        users.tries_to_remove("mia").await.expect("deleted");
        // 88, 89: without any workspace from then on, and the log names those in which their contacts are free now.
        assert_eq!(member.workspaces_of("").await.expect_err("gone").is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        assert!(admin.workspaces_of("mia").await.expect("listed").is_empty());
        let payload = last_payload(world, "member.removed").await;
        let mut expected = [sales.workspace_id.as_str(), support.workspace_id.as_str()];
        expected.sort_unstable();
        let named: Vec<&str> = payload["workspace_ids"].as_array().expect("a list").iter().filter_map(|id| id.as_str()).collect();
        assert_eq!(named, expected);
        // 90, 91: another address is a new user with the same access; the old one goes.
        let sent = admin.tries_to_invite_into("mia.new@example.com", "member", &[&sales, &support]).await.expect("invited");
        let mia = world.person("mia-new").with_email("mia.new@example.com").accepts(&sent.token).await;
        assert_eq!(mia.role, "member");
        assert_eq!(mia.workspaces_of("").await.expect("the same access"), ["Sales", "Support"]);
        stage.world.end().await;
    }
}

/// What the latest event of a name says.
async fn last_payload(world: &World, name: &str) -> serde_json::Value {
    use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
    use tenantry::entity::event;
    let database = world.database().await;
    let found = event::Entity::find()
        .filter(event::Column::Type.eq(name))
        .order_by_desc(event::Column::Number)
        .one(&database)
        .await
        .expect("the log");
    database.close().await.expect("closed");
    found.expect("such an event").payload
}
