//! The story of `s0-momentum-admin-center.txt`: an admin centre whose owners alone see to billing, on the preset `owner-billing`.
//!
//! The tests follow the document from its first line to its last; the numbers are its lines. `stories.md` has the rest.

use chrono::TimeDelta;
use tenantry::pb::{self, MemberState, Permission};
use tonic::Code;

use crate::harness::person::Person;
use crate::harness::tenant::id_of;
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

const DENIED: (Code, &str) = (Code::PermissionDenied, "ROLE_LACKS_PERMISSION");
const ABOVE: (Code, &str) = (Code::PermissionDenied, "ROLE_ABOVE_CALLER");

async fn momentum(backend: Backend) -> World {
    World::with(backend, Setup { policy: "owner-billing".into(), ..Setup::default() }).await
}

/// An owner, an admin and a member of one workspace.
async fn staff(world: &World) -> (Person, Person, Person) {
    let owner = world.person("olga").founds("Momentum").await;
    world.pass(TimeDelta::minutes(1));
    let admin = owner.brings("adam", "admin").await;
    world.pass(TimeDelta::minutes(1));
    let member = owner.brings("mia", "member").await;
    (owner, admin, member)
}

database_tests! {
    async fn lines_1_to_5_the_admin_center_shows_who_is_in_to_admins_and_owners_alone(backend: Backend) {
        let world = momentum(backend).await;
        let (owner, admin, member) = staff(&world).await;
        owner.invites(&["pia@example.com"], "member").await;
        // 2, 3: members, invitations and billing are managed in one place: who has access, who is expected, in which role.
        for person in [&owner, &admin] {
            let listed = person.finds("").await.expect("the list of members");
            let shown: Vec<_> = listed.iter().map(|it| (it.email.as_str(), it.role.as_str(), it.state())).collect();
            assert_eq!(shown, [
                ("olga@example.com", "owner", MemberState::Active),
                ("adam@example.com", "admin", MemberState::Active),
                ("mia@example.com", "member", MemberState::Active),
                ("pia@example.com", "member", MemberState::Pending),
            ]);
        }
        // 4: only admins and owners get in; members do not see it.
        assert_eq!(member.overview().await.expect_err("the overview").is(), DENIED);
        assert_eq!(member.finds("").await.expect_err("the members").is(), DENIED);
        assert_eq!(member.tries_to_invite(&["x@example.com"], "member").await.expect_err("inviting").is(), DENIED);
        assert_eq!(member.subscription().await.expect_err("billing").is(), DENIED);
        assert_eq!(member.settings().await.expect_err("settings").is(), DENIED);
        // 5: the overview with members, invitations and the state of billing.
        for person in [&owner, &admin] {
            let overview = person.overview().await.expect("the overview");
            let roles: Vec<_> = overview.members_by_role.iter().map(|it| (it.role.as_str(), it.members)).collect();
            assert_eq!(roles, [("owner", 1), ("admin", 1), ("member", 1)]);
            assert_eq!(overview.pending_invitations, 1);
            let state = overview.subscription.expect("the state of billing");
            assert_eq!((state.plan_id.as_str(), state.status()), ("free", pb::SubscriptionStatus::Active));
        }
        // The first steps leave out what an admin has no hand in: who pays.
        let pays = |overview: pb::OrganizationOverview| {
            let steps = overview.setup.expect("first steps").steps;
            steps.iter().any(|step| step.kind() == pb::SetupStepKind::BillingProfile)
        };
        assert!(pays(owner.overview().await.expect("the overview")));
        assert!(!pays(admin.overview().await.expect("the overview")));
        world.end().await;
    }

    async fn lines_6_to_8_colleagues_are_invited_and_given_the_role_of_member_admin_or_owner(backend: Backend) {
        let world = momentum(backend).await;
        let owner = world.person("olga").founds("Momentum").await;
        // 7, 8: each of the three roles can be set when inviting ...
        let admin = owner.brings("adam", "admin").await;
        let member = owner.brings("mia", "member").await;
        let second = owner.brings("otto", "owner").await;
        assert_eq!((admin.role.as_str(), member.role.as_str(), second.role.as_str()), ("admin", "member", "owner"));
        // ... and changed afterwards,
        assert_eq!(owner.tries_to_change_role("mia", "admin").await.expect("promoted").role, "admin");
        assert_eq!(owner.tries_to_change_role("mia", "owner").await.expect("promoted again").role, "owner");
        // by an admin among admins and members: whom an owner is, an admin does not decide.
        assert_eq!(owner.tries_to_change_role("mia", "member").await.expect("back").role, "member");
        assert_eq!(admin.tries_to_change_role("mia", "admin").await.expect("promoted by an admin").role, "admin");
        assert_eq!(admin.tries_to_change_role("mia", "owner").await.expect_err("to owner").is(), ABOVE);
        assert_eq!(admin.tries_to_invite(&["x@example.com"], "owner").await.expect_err("an owner").is(), ABOVE);
        world.end().await;
    }

    async fn lines_9_to_12_seats_are_the_admins_business_and_billing_the_owners(backend: Backend) {
        let world = momentum(backend).await;
        let (owner, admin, member) = staff(&world).await;
        let sent = owner.invites(&["pia@example.com"], "member").await;
        // 10: how many seats are in use; users are removed, open invitations canceled.
        assert_eq!(admin.seats().await, "4 / 4 seats");
        admin.tries_to_cancel(&[id_of(&sent[0])]).await.expect("canceled");
        admin.tries_to_remove(&member.name).await.expect("removed");
        assert_eq!(admin.tries_to_remove("olga").await.expect_err("an owner").is(), ABOVE);
        assert_eq!(admin.seats().await, "2 / 4 seats");
        // 11, 12: the number of seats is the owners' alone.
        assert_eq!(admin.tries_to_set_seats(6).await.expect_err("an admin").is(), DENIED);
        assert_eq!(owner.tries_to_set_seats(6).await.expect("an owner").seats, 6);
        // So are the plan, the invoices, and whatever else is of billing.
        let billing = [Permission::SubscriptionManage, Permission::SubscriptionCancel, Permission::InvoicesRead];
        assert_eq!(owner.may_of(&billing).await, [true; 3]);
        assert_eq!(admin.may_of(&billing).await, [false; 3]);
        let rest = [Permission::BillingProfileRead, Permission::BillingProfileUpdate, Permission::PaymentMethodsRead,
            Permission::PaymentMethodsManage];
        assert_eq!(owner.may_of(&rest).await, [true; 4]);
        assert_eq!(admin.may_of(&rest).await, [false; 4]);
        world.end().await;
    }

    async fn lines_13_to_22_an_open_invitation_takes_a_seat_and_there_are_three_ways_out_when_all_are_taken(backend: Backend) {
        let world = momentum(backend).await;
        let (owner, admin, member) = staff(&world).await;
        // 14: the line at the top.
        assert_eq!(admin.overview().await.expect("the overview").seat_usage.expect("seats").summary, "3 / 4 seats");
        // 16, 17: used by members and open invitations; and the capacity.
        let sent = admin.invites(&["pia@example.com"], "member").await;
        let usage = admin.overview().await.expect("the overview").seat_usage.expect("seats");
        assert_eq!((usage.members, usage.pending, usage.used, usage.total), (3, 1, 4, 4));
        // 18: it counts at once, and with all seats taken nobody can be invited,
        let full = admin.tries_to_invite(&["quin@example.com"], "member").await.expect_err("a fifth");
        assert_eq!(full.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        for way in ["remove a member", "cancel a pending invitation", "seats increased"] {
            assert!(full.message.contains(way), "{}", full.message);
        }
        // 19: until a user is removed,
        admin.tries_to_remove(&member.name).await.expect("removed");
        let quin = admin.invites(&["quin@example.com"], "member").await;
        // 20: or an open invitation is canceled,
        assert_eq!(admin.tries_to_invite(&["rob@example.com"], "member").await.expect_err("full").reason, "SEAT_LIMIT_REACHED");
        admin.tries_to_cancel(&[id_of(&sent[0])]).await.expect("canceled");
        admin.invites(&["rob@example.com"], "member").await;
        // 21: or an owner adds seats.
        assert_eq!(admin.tries_to_invite(&["sam@example.com"], "member").await.expect_err("full").reason, "SEAT_LIMIT_REACHED");
        owner.tries_to_set_seats(5).await.expect("one more");
        admin.invites(&["sam@example.com"], "member").await;
        assert_eq!(admin.seats().await, "5 / 5 seats");
        // 22: nothing is hidden: who accepts takes no further seat, and what expires gives its seat back.
        world.person("quin").accepts(&quin[0].token).await;
        assert_eq!(admin.seats().await, "5 / 5 seats");
        world.pass(TimeDelta::days(8));
        assert_eq!(admin.seats().await, "3 / 5 seats");
        world.end().await;
    }

    async fn lines_27_to_33_the_three_sections_of_the_admin_center(backend: Backend) {
        let world = momentum(backend).await;
        let (owner, admin, _) = staff(&world).await;
        // 28, 29: who is in the workspace, and which rights they have.
        let roles = pb::ListRolesRequest { organization_id: admin.organization_id.clone() };
        let roles = admin.members().list_roles(roles).await.expect("roles").into_inner().roles;
        assert_eq!(roles.iter().map(|role| role.role.as_str()).collect::<Vec<_>>(), ["owner", "admin", "member"]);
        assert!(roles.iter().all(|role| !role.title.is_empty() && !role.permissions.is_empty()));
        assert_eq!(admin.members_and_roles().await.len(), 3);
        // 30, 31: new invitations, and the open ones.
        let sent = admin.invites(&["pia@example.com"], "member").await;
        assert_eq!(admin.invitations(&[pb::InvitationState::Pending]).await, ["pia@example.com"]);
        assert!(!admin.tries_to_resend(id_of(&sent[0])).await.expect("resent").token.is_empty());
        // 32, 33: the subscription is seen by both, and seats are added by an owner.
        assert_eq!(admin.subscription().await.expect("the state").plan_id, "free");
        assert_eq!(owner.tries_to_set_seats(7).await.expect("more seats").seats, 7);
        world.end().await;
    }

    async fn lines_34_to_40_what_is_to_come_is_there(backend: Backend) {
        let world = momentum(backend).await;
        let (owner, admin, member) = staff(&world).await;
        // 36: an own logo and colours.
        let branding = pb::Branding {
            logo_uri: "https://cdn.example.com/logo.svg".into(),
            primary_color: "#102030".into(),
            accent_color: "#ff8800".into(),
            ..Default::default()
        };
        let chosen = pb::OrganizationSettings { branding: Some(branding.clone()), ..Default::default() };
        let settings = admin.tries_to_set(&["branding"], chosen.clone()).await.expect("branded");
        assert_eq!(settings.branding.as_ref(), Some(&branding));
        assert_eq!(owner.organization().await.logo_uri, "https://cdn.example.com/logo.svg");
        // 37: how one signs in, and access to data.
        let security = pb::SecuritySettings {
            allowed_sign_in_methods: vec![pb::SignInMethod::Passkey.into(), pb::SignInMethod::Saml.into()],
            mfa_required: true,
            allowed_ip_ranges: vec!["192.0.2.0/24".into()],
            ..Default::default()
        };
        let secured = pb::OrganizationSettings { security: Some(security.clone()), ..Default::default() };
        assert_eq!(owner.tries_to_set(&["security"], secured).await.expect("secured").security.as_ref(), Some(&security));
        // 38: defaults for models, privacy and safety.
        let ai = pb::AiSettings {
            allowed_models: vec!["small".into(), "large".into()],
            default_model: "small".into(),
            retention_days: Some(30),
            redact_personal_data: true,
            safety_level: pb::AiSafetyLevel::Strict.into(),
            ..Default::default()
        };
        let guided = pb::OrganizationSettings { ai: Some(ai.clone()), ..Default::default() };
        assert_eq!(admin.tries_to_set(&["ai"], guided).await.expect("guided").ai.as_ref(), Some(&ai));
        // 36 to 38: all three are kept, one beside the other,
        let kept = owner.settings().await.expect("what is kept");
        assert_eq!((kept.branding, kept.security, kept.ai), (Some(branding), Some(security), Some(ai)));
        // and what of 37 is Tenantry's own to enforce it does: which addresses may come in.
        let ours = pb::SecuritySettings { allowed_email_domains: vec!["example.com".into()], ..Default::default() };
        let ours = pb::OrganizationSettings { security: Some(ours), ..Default::default() };
        owner.tries_to_set(&["security.allowed_email_domains"], ours).await.expect("restricted");
        let outside = admin.tries_to_invite(&["eve@elsewhere.example"], "member").await.expect_err("another domain");
        assert_eq!(outside.is(), (Code::FailedPrecondition, "EMAIL_DOMAIN_NOT_ALLOWED"));
        // 39: use, adoption and activity over time.
        let request = pb::RecordSignInRequest {
            organization_id: owner.organization_id.clone(),
            user_id: "mia".into(),
            ..Default::default()
        };
        world.service("login").tries_to_record(request.clone()).await.expect("recorded");
        let days = admin.analytics(pb::AnalyticsGranularity::Day).await.expect("analytics");
        let today = days.last().expect("today");
        assert_eq!((today.members, today.active_members, today.sign_ins, today.invitations_accepted), (3, 1, 1, 2));
        world.pass(TimeDelta::days(1));
        world.service("login").tries_to_record(request).await.expect("recorded");
        let days = admin.analytics(pb::AnalyticsGranularity::Day).await.expect("analytics");
        let shown: Vec<_> = days.iter().map(|day| (day.sign_ins, day.seats_used, day.invitations_sent)).collect();
        assert_eq!(shown, [(1, 3, 2), (1, 3, 0)]);
        // 40: all of it in the admin centre, where a member does not come.
        assert_eq!(member.tries_to_set(&["branding"], chosen).await.expect_err("a member").is(), DENIED);
        assert_eq!(member.analytics(pb::AnalyticsGranularity::Day).await.expect_err("a member").is(), DENIED);
        world.end().await;
    }
}
