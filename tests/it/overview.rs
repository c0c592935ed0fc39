//! What stands at the head of an admin centre, and the first steps of setting up.

use chrono::TimeDelta;
use tenantry::pb::{self, SetupStepKind};
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::world::{Setup, World, roomy};
use crate::harness::{Backend, database_tests};

impl Person {
    /// The steps, those that are done with `+`, those that are put away in brackets; `closed` at the end when nothing is left.
    async fn steps(&self) -> String {
        let setup = self.overview().await.expect("the overview").setup.expect("the first steps");
        let done = setup.steps.iter().filter(|step| step.done).count();
        assert_eq!(usize::try_from(setup.done), Ok(done));
        let mut steps: Vec<String> = setup.steps.iter().copied().map(step).collect();
        steps.extend(setup.closed.then(|| "closed".to_owned()));
        steps.join(" ")
    }

    /// Puts steps away, or all of the checklist.
    async fn dismisses(&self, dismissed: bool, steps: &[SetupStepKind]) {
        let dismissed_steps = steps.iter().map(|step| i32::from(*step)).collect();
        let request = pb::UpdateOrganizationSettingsRequest {
            organization_id: self.organization_id.clone(),
            settings: Some(pb::OrganizationSettings {
                setup: Some(pb::SetupSettings { dismissed, dismissed_steps }),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["setup".into()] }),
            ..Default::default()
        };
        answer(self.organizations().update_organization_settings(request).await).expect("dismissed");
    }
}

fn step(step: pb::SetupStep) -> String {
    let name = match step.kind() {
        SetupStepKind::Unspecified => "?",
        SetupStepKind::Profile => "profile",
        SetupStepKind::Logo => "logo",
        SetupStepKind::SecondTopRoleMember => "second",
        SetupStepKind::FirstInvitation => "invite",
        SetupStepKind::BillingProfile => "billing",
        SetupStepKind::PaymentMethod => "payment",
    };
    let name = if step.done { format!("+{name}") } else { name.to_owned() };
    if step.dismissed { format!("({name})") } else { name }
}

fn roles(overview: &pb::OrganizationOverview) -> Vec<(&str, &str, i64)> {
    let counts = overview.members_by_role.iter();
    counts.map(|count| (count.role.as_str(), count.title.as_str(), count.members)).collect()
}

/// Makes a member hold a role of the organization's own, which may do this and nothing else.
async fn give_own_role(world: &World, user_id: &str, permissions: &str, members_by_role: &str) {
    let definition = format!(
        "{{\"permissions\": {permissions}, \"invites\": [], \"changes\": [], \"removes\": [], \"managed_by\": []}}"
    );
    world
        .tampers(&format!(
            "INSERT INTO custom_role (organization_id, role, title, description, definition, created_at, updated_at, version) \
             SELECT organization_id, 'org:desk', 'Front desk', '', '{definition}', created_at, created_at, 1 FROM organization"
        ))
        .await;
    let kept = format!("'{{\"at\": ' || last_event_number || ', \"roles\": {members_by_role}}}'");
    let kept = if world.backend == Backend::Postgres { format!("({kept})::jsonb") } else { kept };
    world.tampers(&format!("UPDATE organization SET custom_roles = 1, members_by_role = {kept}")).await;
    world.tampers(&format!("UPDATE membership SET role = 'org:desk' WHERE user_id = '{user_id}'")).await;
}

database_tests! {
    async fn three_of_four_seats_and_who_holds_them(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let overview = ann.overview().await.expect("the overview");
        assert_eq!(overview.organization, Some(ann.organization().await));
        assert_eq!(overview.seat_usage.as_ref().unwrap().summary, "1 / 4 seats");
        assert_eq!(roles(&overview), [("owner", "Owner", 1), ("admin", "Admin", 0), ("member", "Member", 0)]);
        assert_eq!(overview.subscription, Some(ann.subscription().await.unwrap()));
        let counts = (overview.suspended_members, overview.pending_invitations, overview.pending_join_requests);
        assert_eq!(counts, (0, 0, 0));

        let bob = ann.brings("bob", "admin").await;
        ann.brings("cas", "member").await;
        ann.tries_to_suspend("cas").await.unwrap();
        ann.invites(&["dee@example.com"], "member").await;
        let overview = bob.overview().await.expect("the overview");
        assert_eq!(overview.seat_usage.as_ref().unwrap().summary, "3 / 4 seats");
        assert_eq!(roles(&overview), [("owner", "Owner", 1), ("admin", "Admin", 1), ("member", "Member", 0)]);
        assert_eq!((overview.suspended_members, overview.pending_invitations), (1, 1));
        assert_eq!(overview.subscription.as_ref().unwrap().plan_id, "free");

        // An invitation that has expired is none, with no job run and no change made.
        world.pass(TimeDelta::days(8));
        let overview = bob.overview().await.expect("the overview");
        assert_eq!((overview.seat_usage.unwrap().summary.as_str(), overview.pending_invitations), ("2 / 4 seats", 0));
        world.end().await;
    }

    async fn requests_to_join_wait_until_they_are_decided(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let other = world.person("zed").founds("Other").await;
        for (user, state, ended) in [("eve", "pending", "NULL"), ("fay", "pending", "NULL"), ("gus", "declined", "created_at")] {
            let id = format!("(SELECT event_id FROM event WHERE event.organization_id = organization.organization_id ORDER BY number LIMIT 1 OFFSET {})", i32::from(user == "fay"));
            let id = if user == "gus" { "organization_id".to_owned() } else { id };
            world.tampers(&format!(
                "INSERT INTO join_request (organization_id, join_request_id, user_id, email, email_normalized, display_name, \
                 avatar_uri, role, state, created_at, ended_at) SELECT organization_id, {id}, '{user}', '', '', '', '', 'member', \
                 '{state}', created_at, {ended} FROM organization WHERE name = 'Acme'"
            )).await;
        }
        assert_eq!(ann.overview().await.expect("the overview").pending_join_requests, 2);
        assert_eq!(other.overview().await.expect("the overview").pending_join_requests, 0);
        world.end().await;
    }

    async fn each_role_sees_what_it_may_and_a_service_everything(backend: Backend) {
        let world = World::with(backend, Setup { policy: "split-admin".into(), ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let whole = ann.overview().await.expect("the overview");
        assert!(whole.seat_usage.is_some() && whole.subscription.is_some());
        let mia = ann.brings("mia", "member").await;
        assert_eq!(mia.overview().await.unwrap_err().is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        let uma = ann.brings("uma", "user_admin").await;
        let overview = uma.overview().await.expect("the overview");
        assert_eq!(Ok(overview.clone()), ann.overview().await);
        let expected = [("admin", "Admin", 1), ("billing_admin", "Billing admin", 0), ("user_admin", "User admin", 1), ("member", "Member", 1)];
        assert_eq!(roles(&overview), expected);
        let mut product = world.service("product");
        product.organization_id.clone_from(&ann.organization_id);
        assert_eq!(product.overview().await, Ok(overview));
        ann.deletes_organization().await;
        assert_eq!(ann.overview().await.unwrap_err().is(), (Code::FailedPrecondition, "ORGANIZATION_DELETED"));
        product.organization_id = uuid::Uuid::nil().to_string();
        assert_eq!(product.overview().await.unwrap_err().is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        world.end().await;
    }

    async fn a_role_of_the_organizations_own_sees_no_more_than_it_says(backend: Backend) {
        let paid = "[[plans]]\nplan = \"pro\"\ntitle = \"Pro\"\ncurrency = \"EUR\"\nperiod = \"month\"\nbase_price_minor = 900\n\
                    seat_price_minor = 0\nincluded_seats = 9\nminimum_seats = 1\ndefault = true\n";
        let world = World::with(backend, Setup { plans: Some(paid.into()), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        give_own_role(&world, "bob", "[\"organization_read\", \"overview_read\"]", "{\"owner\": 1, \"org:desk\": 1}").await;
        let bob = world.person("bob").acting_in(&ann.organization_id, "org:desk");
        let overview = bob.overview().await.expect("the overview");
        assert_eq!((overview.seat_usage.clone(), overview.subscription.clone()), (None, None));
        let expected = [("owner", "Owner", 1), ("admin", "Admin", 0), ("member", "Member", 0), ("org:desk", "Front desk", 1)];
        assert_eq!(roles(&overview), expected);
        // Whether the plan costs something is the state of billing too, and the profile is not for them.
        assert_eq!(bob.steps().await, "profile logo second +invite");
        // Where nobody collects payments, there is no payment method to add.
        assert_eq!(ann.steps().await, "profile logo second +invite billing");
        world.end().await;
    }

    async fn roles_are_counted_also_before_anybody_has_kept_count_and_after_they_are_gone(backend: Backend) {
        let mut world = World::with(backend, Setup { policy: "split-admin".into(), ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bill", "billing_admin").await;
        ann.brings("uma", "user_admin").await;
        ann.brings("mia", "member").await;
        ann.tries_to_suspend("mia").await.unwrap();
        let kept = ann.overview().await.expect("the overview");
        world.tampers("UPDATE organization SET members_by_role = NULL").await;
        assert_eq!(ann.overview().await, Ok(kept.clone()));
        ann.tries_to_reactivate("mia").await.unwrap();
        assert_eq!(roles(&ann.overview().await.expect("the overview")).last(), Some(&("member", "Member", 1)));
        // Under another policy with the same top role.
        let file = tempfile::NamedTempFile::new().expect("a file");
        let smaller = include_str!("../../src/auth/presets/split-admin.toml").lines();
        let smaller: Vec<String> = without_role(smaller, "billing_admin");
        std::fs::write(file.path(), smaller.join("\n")).expect("a policy");
        world.switches_policy_to(&file.path().display().to_string()).await;
        let ann = world.person("ann").acting_in(&ann.organization_id, "admin");
        let expected = [("admin", "Admin", 1), ("user_admin", "User admin", 1), ("member", "Member", 1), ("billing_admin", "", 1)];
        assert_eq!(roles(&ann.overview().await.expect("the overview")), expected);
        world.end().await;
    }

    async fn the_first_steps_are_figured_from_what_was_done(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        assert_eq!(ann.steps().await, "profile logo second invite billing");
        let described = pb::Organization { description: "We make things.".into(), ..Default::default() };
        ann.tries_to_update(&["description"], described).await.unwrap();
        assert_eq!(ann.steps().await, "+profile logo second invite billing");
        let logo = pb::Organization { logo_uri: "https://acme.example/logo.svg".into(), ..Default::default() };
        ann.tries_to_update(&["logo_uri"], logo).await.unwrap();
        // An address alone is nobody.
        let email = pb::BillingProfile { email: "invoices@acme.example".into(), ..Default::default() };
        ann.tries_to_bill_to(&["email"], email).await.unwrap();
        assert_eq!(ann.steps().await, "+profile +logo second invite billing");
        let name = pb::BillingProfile { name: "Acme B.V.".into(), ..Default::default() };
        ann.tries_to_bill_to(&["name"], name).await.unwrap();
        assert_eq!(ann.steps().await, "+profile +logo second invite +billing");
        // An invitation was the first one, whatever becomes of it.
        let sent = ann.invites(&["bob@example.com"], "owner").await;
        ann.tries_to_cancel(&[&sent[0].invitation.as_ref().unwrap().invitation_id]).await.unwrap();
        assert_eq!(ann.steps().await, "+profile +logo second +invite +billing");
        ann.brings("bob", "owner").await;
        assert_eq!(ann.steps().await, "+profile +logo +second +invite +billing closed");
        // It is undone when it is undone.
        ann.tries_to_suspend("bob").await.unwrap();
        assert_eq!(ann.steps().await, "+profile +logo second +invite +billing");
        world.end().await;
    }

    async fn steps_are_put_away_one_by_one_or_all(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.dismisses(false, &[SetupStepKind::Logo, SetupStepKind::Profile]).await;
        assert_eq!(ann.steps().await, "(profile) (logo) second invite billing");
        ann.dismisses(true, &[]).await;
        assert_eq!(ann.steps().await, "profile logo second invite billing closed");
        ann.dismisses(false, &[SetupStepKind::Logo, SetupStepKind::Profile, SetupStepKind::SecondTopRoleMember, SetupStepKind::BillingProfile]).await;
        assert_eq!(ann.steps().await, "(profile) (logo) (second) invite (billing)");
        ann.invites(&["bob@example.com"], "member").await;
        assert_eq!(ann.steps().await, "(profile) (logo) (second) +invite (billing) closed");
        world.end().await;
    }
}

/// A policy file without one of its roles.
fn without_role<'a>(lines: impl Iterator<Item = &'a str>, role: &str) -> Vec<String> {
    let text = lines.collect::<Vec<_>>().join("\n");
    let sections = text.split("[[roles]]").collect::<Vec<_>>();
    let (head, roles) = sections.split_first().expect("roles");
    let mut kept = (*head).to_owned();
    for section in roles.iter().filter(|section| !section.contains(&format!("role = \"{role}\"\n"))) {
        kept = format!("{kept}[[roles]]{section}");
    }
    let without = |line: &str| {
        let entry = [" = true,", " = false,"]
            .iter()
            .fold(line.to_owned(), |line, value| line.split(&format!("{role}{value}")).collect::<Vec<_>>().join(""));
        entry.replace(&format!("\"{role}\", "), "").replace(&format!(", \"{role}\""), "")
    };
    kept.lines().filter(|line| !line.trim_start().starts_with(&format!("{role} "))).map(without).collect()
}
