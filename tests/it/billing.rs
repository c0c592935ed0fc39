//! Plans, subscriptions and seats, and what the database holds by itself.

use chrono::TimeDelta;
use sea_orm::DbErr;
use tenantry::database::violates;
use tenantry::pb::{self, SubscriptionStatus};
use tonic::Code;

use crate::harness::billing::plan;
use crate::harness::person::{Person, answer};
use crate::harness::refused::Refused;
use crate::harness::tenant::id_of;
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};

/// A catalogue of an operator's own, whose default plan is neither the first nor free.
const OWN_PLANS: &str = r#"
[[plans]]
plan = "solo"
title = "Solo"
currency = "SEK"
period = "year"
base_price_minor = 99_900
seat_price_minor = 0
included_seats = 1
minimum_seats = 1
maximum_seats = 1

[[plans]]
plan = "crew_2"
title = "Crew"
description = "For more than one."
currency = "JPY"
period = "month"
base_price_minor = 0
seat_price_minor = 1_500
included_seats = 3
minimum_seats = 3
default = true
"#;

async fn plans(person: &Person) -> Vec<pb::Plan> {
    answer(person.billing().list_plans(pb::ListPlansRequest {}).await).expect("plans").plans
}

async fn usage(person: &Person) -> pb::SeatUsage {
    let request = pb::GetSeatUsageRequest { organization_id: person.organization_id.clone(), time: None };
    answer(person.billing().get_seat_usage(request).await).expect("usage").seat_usage.expect("usage")
}

fn pairs(refused: &Refused, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| refused.metadata.get(*key).cloned().unwrap_or_default()).collect()
}

database_tests! {
    async fn a_plan_that_has_left_the_catalogue_is_kept_by_those_who_are_on_it(backend: Backend) {
        let mut world = World::with(backend, Setup { plans: Some(plans_with_seats(9)), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        // The operator starts again with plans that do not have it.
        world.setup.plans = None;
        world.switches_policy_to("owner-billing").await;
        let ann = ann.at(world.channel());
        assert_eq!(ann.tries_to_set_seats(12).await.expect("as it was agreed on").seats, 12);
        assert_eq!(ann.changes(plan("roomy")).await.expect("it is on it").subscription.expect("it").plan_id, "roomy");
        // One of which nothing was agreed on yet, as an older version wrote it, is told.
        world.execute("UPDATE subscription SET agreement = NULL").await.expect("written");
        let refused = ann.tries_to_set_seats(5).await.expect_err("who knows what the plan allows?");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "PLAN_UNKNOWN"));
        assert_eq!(ann.subscription().await.expect("what there is").plan_id, "roomy");
        assert_eq!(refused.metadata["plan_id"], "roomy");
        assert_eq!(ann.invites(&["bob@example.com"], "member").await.len(), 1);
        assert_eq!(ann.seats().await, "2 / 12 seats");
        world.end().await;
    }
}

database_tests! {
    async fn the_embedded_plans_are_listed_in_their_order(backend: Backend) {
        let world = World::new(backend).await;
        let listed = plans(&world.person("ann")).await;
        assert_eq!(listed.iter().map(|plan| plan.plan_id.as_str()).collect::<Vec<_>>(), ["free", "team", "business"]);
        assert_eq!(listed.iter().map(|plan| plan.default).collect::<Vec<_>>(), [true, false, false]);
        let expected = pb::Plan {
            plan_id: "team".into(),
            title: "Team".into(),
            description: "For a team that works together every day.".into(),
            currency_code: "EUR".into(),
            billing_period: pb::BillingPeriod::Month.into(),
            base_price_minor: 2_000,
            seat_price_minor: 800,
            included_seats: 5,
            minimum_seats: 2,
            maximum_seats: Some(250),
            default: false,
            version: 1,
            prices: vec![pb::PlanPrice {
                currency_code: "EUR".into(),
                billing_period: pb::BillingPeriod::Month.into(),
                base_price_minor: 2_000,
                seat_price_minor: 800,
            }],
            trial_days: 0,
            proration: pb::Proration::Second.into(),
            entitlements: Vec::new(),
            add_ons: Vec::new(),
        };
        assert_eq!(listed[1], expected);
        assert_eq!(listed[2].maximum_seats, None);
        assert_eq!(plans(&world.service("gateway")).await, listed);
        world.end().await;
    }

    async fn an_operators_own_plans_are_those_that_count(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(OWN_PLANS.into()), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let listed = plans(&ann).await;
        assert_eq!(listed.iter().map(|plan| plan.plan_id.as_str()).collect::<Vec<_>>(), ["solo", "crew_2"]);
        assert_eq!(listed[0].billing_period(), pb::BillingPeriod::Year);
        assert_eq!((listed[0].currency_code.as_str(), listed[0].base_price_minor), ("SEK", 99_900));
        assert!(listed[1].default && !listed[0].default);
        let subscription = ann.subscription().await.unwrap();
        assert_eq!((subscription.plan_id.as_str(), subscription.seats), ("crew_2", 3));
        assert_eq!(ann.seats().await, "1 / 3 seats");
        let refused = ann.tries_to_set_seats(2).await.unwrap_err();
        assert_eq!(refused.reason, "SEATS_OUTSIDE_PLAN");
        assert_eq!(pairs(&refused, &["plan_id", "requested", "minimum", "maximum"]), ["crew_2", "2", "3", ""]);
        world.end().await;
    }

    async fn a_subscription_tells_its_plan_state_and_seats_to_members_who_may_see_it_and_to_services(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let subscription = ann.subscription().await.unwrap();
        assert_eq!(subscription.organization_id, ann.organization_id);
        assert_eq!((subscription.plan_id.as_str(), subscription.seats), ("free", 4));
        assert_eq!(subscription.status(), SubscriptionStatus::Active);
        assert_eq!(subscription.create_time, subscription.update_time);
        assert_eq!(subscription.create_time.unwrap().seconds, world.clock.now().timestamp());
        for (stored, told) in [
            ("trialing", SubscriptionStatus::Trialing),
            ("past_due", SubscriptionStatus::PastDue),
            ("unpaid", SubscriptionStatus::Unpaid),
            ("canceled", SubscriptionStatus::Canceled),
        ] {
            world.execute(&format!("UPDATE subscription SET status = '{stored}'")).await.unwrap();
            assert_eq!(ann.subscription().await.unwrap().status(), told);
        }
        assert!(ann.brings("bob", "admin").await.subscription().await.is_ok());
        let refused = ann.brings("cas", "member").await.subscription().await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        let mut service = world.service("gateway");
        service.organization_id.clone_from(&ann.organization_id);
        assert!(service.subscription().await.is_ok());
        service.organization_id = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70".into();
        assert_eq!(service.subscription().await.unwrap_err().is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        world.end().await;
    }

    async fn used_seats_are_active_members_and_open_invitations_at_this_instant(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        ann.invites(&["cas@example.com"], "member").await;
        world.pass(TimeDelta::days(3));
        ann.invites(&["dee@example.com"], "member").await;
        let told = async || {
            let usage = usage(&ann).await;
            assert_eq!(usage.used, usage.members + usage.pending);
            (usage.total, usage.members, usage.pending, usage.available, usage.summary)
        };
        assert_eq!(told().await, (4, 2, 2, 0, "4 / 4 seats".into()));
        // Nothing runs when an invitation expires: the next look sees one fewer, to the instant.
        world.pass(TimeDelta::days(4) - TimeDelta::microseconds(1));
        assert_eq!(told().await.2, 2);
        world.pass(TimeDelta::microseconds(1));
        assert_eq!(told().await, (4, 2, 1, 1, "3 / 4 seats".into()));
        // Its seat is another's at once.
        ann.invites(&["eve@example.com"], "member").await;
        assert_eq!(told().await, (4, 2, 2, 0, "4 / 4 seats".into()));
        ann.tries_to_suspend("bob").await.unwrap();
        assert_eq!(told().await, (4, 1, 2, 1, "3 / 4 seats".into()));
        world.pass(TimeDelta::days(30));
        assert_eq!(told().await, (4, 1, 0, 3, "1 / 4 seats".into()));
        let mut service = world.service("gateway");
        service.organization_id.clone_from(&ann.organization_id);
        assert_eq!(usage(&service).await.summary, "1 / 4 seats");
        world.end().await;
    }

    async fn seats_are_raised_and_lowered_at_once(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let before = ann.subscription().await.unwrap();
        world.pass(TimeDelta::hours(1));
        let raised = ann.tries_to_set_seats(10).await.unwrap();
        assert_eq!(raised.seats, 10);
        assert_ne!(raised.etag, before.etag);
        assert_eq!(raised.update_time.unwrap().seconds, world.clock.now().timestamp());
        assert_eq!(raised.create_time, before.create_time);
        assert_eq!(ann.subscription().await.unwrap(), raised);
        assert_eq!(ann.seats().await, "1 / 10 seats");
        ann.invites(&["a@example.com", "b@example.com", "c@example.com", "d@example.com"], "member").await;
        let request = pb::UpdateSubscriptionRequest { organization_id: ann.organization_id.clone(), seats: Some(5), ..Default::default() };
        let lowered = answer(ann.billing().update_subscription(request).await).unwrap();
        assert_eq!(lowered.subscription.unwrap().seats, 5);
        let told = lowered.seat_usage.unwrap();
        assert_eq!((told.total, told.used, told.available, told.summary.as_str()), (5, 5, 0, "5 / 5 seats"));
        assert_eq!(world.events(&ann.organization_id).await.iter().filter(|name| *name == "subscription.seats_changed").count(), 2);
        world.end().await;
    }

    async fn seats_never_fall_below_what_is_used(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        ann.invites(&["cas@example.com"], "member").await;
        let refused = ann.tries_to_set_seats(2).await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEATS_BELOW_USED"));
        assert_eq!(pairs(&refused, &["requested", "used", "members", "pending"]), ["2", "3", "2", "1"]);
        assert_eq!(ann.seats().await, "3 / 4 seats");
        // One that has expired is used no more.
        world.pass(TimeDelta::days(7));
        ann.tries_to_set_seats(2).await.unwrap();
        assert_eq!(ann.seats().await, "2 / 2 seats");
        world.end().await;
    }

    async fn seats_stay_within_the_plan(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        for seats in [11, 1_000_000, i64::MAX] {
            let refused = ann.tries_to_set_seats(seats).await.unwrap_err();
            assert_eq!(refused.is(), (Code::FailedPrecondition, "SEATS_OUTSIDE_PLAN"));
            let expected = ["free", &seats.to_string(), "1", "10"];
            assert_eq!(pairs(&refused, &["plan_id", "requested", "minimum", "maximum"]), expected);
        }
        for seats in [0, -1, i64::MIN] {
            let refused = ann.tries_to_set_seats(seats).await.unwrap_err();
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
            assert_eq!(refused.fields, ["seats"]);
        }
        ann.tries_to_set_seats(10).await.unwrap();
        ann.tries_to_set_seats(1).await.unwrap();
        assert_eq!(ann.seats().await, "1 / 1 seats");
        world.end().await;
    }

    async fn a_plan_without_a_maximum_takes_any_number_that_there_is(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(3)), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        assert_eq!(ann.tries_to_set_seats(i64::MAX).await.unwrap().seats, i64::MAX);
        ann.invites(&["bob@example.com"], "member").await;
        let usage = usage(&ann).await;
        assert_eq!((usage.total, usage.used, usage.available), (i64::MAX, 2, i64::MAX - 2));
        ann.tries_to_set_seats(2).await.unwrap();
        world.end().await;
    }

    async fn the_same_number_of_seats_is_no_change_and_a_stale_reader_changes_nothing(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let read = ann.subscription().await.unwrap();
        world.pass(TimeDelta::hours(1));
        assert_eq!(ann.tries_to_set_seats(4).await.unwrap(), read);
        assert_eq!(world.events(&ann.organization_id).await.len(), 2);
        let set = async |seats: i64, etag: &str, validate_only: bool| {
            let organization_id = ann.organization_id.clone();
            let request = pb::UpdateSubscriptionRequest { organization_id, seats: Some(seats), etag: etag.into(), validate_only, ..Default::default() };
            answer(ann.billing().update_subscription(request).await)
        };
        let rehearsed = set(6, &read.etag, true).await.unwrap();
        assert_eq!(rehearsed.seat_usage.unwrap().summary, "1 / 6 seats");
        assert_eq!(ann.subscription().await.unwrap(), read);
        let current = set(6, &read.etag, false).await.unwrap().subscription.unwrap().etag;
        for seats in [7, 6] {
            let refused = set(seats, &read.etag, false).await.unwrap_err();
            assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
            assert_eq!(refused.metadata["etag"], current);
        }
        set(7, &current, false).await.unwrap();
        assert_eq!(ann.seats().await, "1 / 7 seats");
        world.end().await;
    }

    async fn who_may_change_the_number_of_seats_is_as_each_preset_says(backend: Backend) {
        let presets = [
            ("owner-billing", &["owner"][..], &["admin", "member"][..]),
            ("shared-billing", &["owner", "admin"], &["member"]),
            ("split-admin", &["admin", "billing_admin"], &["user_admin", "member"]),
            ("guarded-admin", &["owner", "admin"], &["member"]),
        ];
        for (policy, may, may_not) in presets {
            let setup = Setup { policy: policy.into(), plans: Some(plans_with_seats(20)), ..Setup::default() };
            let world = World::with(backend, setup).await;
            let founder = world.person("ann").founds("Acme").await;
            let everybody = async |role: &str| if founder.role == role { founder.clone() } else { founder.brings(&format!("the-{}", role.replace('_', "-")), role).await };
            for (seats, role) in (21..).zip(may) {
                assert_eq!(everybody(role).await.tries_to_set_seats(seats).await.unwrap().seats, seats, "{policy}: {role}");
            }
            for role in may_not {
                let refused = everybody(role).await.tries_to_set_seats(30).await.unwrap_err();
                assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"), "{policy}: {role}");
                assert_eq!(refused.metadata["permission"], "subscription_manage");
            }
            world.end().await;
        }
    }

    async fn a_full_organization_has_three_ways_to_room_and_each_of_them_works(backend: Backend) {
        // "3 / 4 seats" at the head of the admin center: two who work there, one who was invited.
        let world = World::new(backend).await;
        let owner = world.person("olga").founds("Momentum").await;
        let admin = owner.brings("adam", "admin").await;
        let sent = admin.invites(&["ines@example.com"], "member").await;
        assert_eq!(admin.seats().await, "3 / 4 seats");
        // A pending invitation counts at once, and accepting it takes no second seat.
        owner.brings("mia", "member").await;
        assert_eq!(admin.seats().await, "4 / 4 seats");
        let invite = async || admin.tries_to_invite(&["next@example.com"], "member").await;
        let refused = invite().await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        assert_eq!(pairs(&refused, &["total", "members", "pending", "requested"]), ["4", "3", "1", "1"]);
        for way in ["remove a member", "cancel a pending invitation", "seats increased"] {
            assert!(refused.message.contains(way), "{}", refused.message);
        }
        assert_eq!(refused.violations, [("SEAT_LIMIT_REACHED".to_owned(), String::new())]);

        admin.tries_to_remove("mia").await.unwrap();
        assert_eq!(admin.seats().await, "3 / 4 seats");
        let next = invite().await.unwrap();
        assert!(admin.tries_to_invite(&["another@example.com"], "member").await.is_err());

        admin.tries_to_cancel(&[id_of(&sent[0])]).await.unwrap();
        assert_eq!(admin.seats().await, "3 / 4 seats");
        admin.invites(&["another@example.com"], "member").await;
        assert!(admin.tries_to_invite(&["third@example.com"], "member").await.is_err());

        // Seats are the owner's to add.
        assert_eq!(admin.tries_to_set_seats(5).await.unwrap_err().reason, "ROLE_LACKS_PERMISSION");
        owner.tries_to_set_seats(5).await.unwrap();
        assert_eq!(admin.seats().await, "4 / 5 seats");
        admin.invites(&["third@example.com"], "member").await;
        assert_eq!(admin.seats().await, "5 / 5 seats");
        // Whoever was invited has a seat, full or not.
        assert_eq!(world.person("next").accepts(&next[0].token).await.role, "member");
        assert_eq!(admin.seats().await, "5 / 5 seats");
        world.end().await;
    }

    async fn while_payment_is_overdue_an_organization_shrinks_but_does_not_grow(backend: Backend) {
        for status in ["past_due", "unpaid"] {
            let world = World::with(backend, Setup { plans: Some(plans_with_seats(9)), ..Setup::default() }).await;
            let ann = world.person("ann").founds("Acme").await;
            for name in ["bob", "cas", "dee"] {
                ann.brings(name, "member").await;
            }
            ann.tries_to_suspend("bob").await.unwrap();
            let old = ann.invites(&["old@example.com"], "member").await;
            world.pass(TimeDelta::days(8));
            let open = ann.invites(&["eve@example.com", "fay@example.com", "gus@example.com"], "member").await;
            assert_eq!(ann.seats().await, "6 / 9 seats");
            world.execute(&format!("UPDATE subscription SET status = '{status}'")).await.unwrap();
            let events = world.events(&ann.organization_id).await;
            let grow = [
                ann.tries_to_invite(&["new@example.com"], "member").await.unwrap_err(),
                // All or nothing: the open one beside it is not resent either.
                ann.tries_to_invite(&["eve@example.com", "new@example.com"], "member").await.unwrap_err(),
                ann.tries_to_resend(id_of(&old[0])).await.unwrap_err(),
                ann.tries_to_reactivate("bob").await.unwrap_err(),
                ann.tries_to_set_seats(10).await.unwrap_err(),
            ];
            for refused in grow {
                assert_eq!(refused.is(), (Code::FailedPrecondition, "SUBSCRIPTION_PAST_DUE"), "{refused:?}");
                assert_eq!(refused.metadata["status"], status.to_uppercase());
            }
            assert_eq!(world.events(&ann.organization_id).await, events);
            assert_eq!(ann.seats().await, "6 / 9 seats");

            // An open invitation has its seat: it can be sent again, accepted, declined and canceled.
            let again = ann.tries_to_resend(id_of(&open[0])).await.unwrap();
            let resent = ann.invites(&["fay@example.com"], "member").await;
            world.person("eve").accepts(&again.token).await;
            world.person("fay").accepts(&resent[0].token).await;
            assert_eq!(ann.seats().await, "6 / 9 seats");
            ann.tries_to_cancel(&[id_of(&open[2])]).await.unwrap();
            ann.tries_to_suspend("cas").await.unwrap();
            ann.tries_to_remove("dee").await.unwrap();
            world.person("eve").acting_in(&ann.organization_id, "member").tries_to_leave().await.unwrap();
            assert_eq!(ann.seats().await, "2 / 9 seats");
            ann.tries_to_set_seats(2).await.unwrap();
            ann.tries_to_change_role("fay", "admin").await.unwrap();

            world.execute("UPDATE subscription SET status = 'active'").await.unwrap();
            ann.tries_to_set_seats(4).await.unwrap();
            ann.tries_to_reactivate("bob").await.unwrap();
            ann.tries_to_resend(id_of(&old[0])).await.unwrap();
            assert_eq!(ann.seats().await, "4 / 4 seats");
            world.end().await;
        }
    }
}

/// Asserts that a statement breaks the constraint of this name.
async fn breaks(world: &World, constraint: &str, sql: &str) {
    let error: DbErr = world.execute(sql).await.expect_err(sql);
    assert!(violates(&error, constraint), "{sql} was refused, but not by {constraint}: {error}");
}

database_tests! {
    async fn the_database_keeps_the_rules_without_the_code(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        ann.invites(&["cas@example.com"], "member").await;
        world.person("zed").signs_in().await;
        let of_acme = "(SELECT organization_id FROM organization WHERE slug = 'acme')";
        let acme = format!("WHERE organization_id = {of_acme}");

        // The top role, whoever goes and however.
        breaks(&world, "organization_keeps_a_top_role_member", "UPDATE organization SET top_role_members = top_role_members - 1").await;
        breaks(&world, "organization_top_role_members_are_active", "UPDATE organization SET active_members = 0").await;
        // Seats.
        breaks(&world, "organization_pending_invitations_not_negative", "UPDATE organization SET pending_invitations = -1").await;
        breaks(&world, "organization_seats_total_not_negative", "UPDATE organization SET seats_total = -1").await;
        breaks(&world, "subscription_seats_not_negative", "UPDATE subscription SET seats = -1").await;
        breaks(&world, "invitation_only_pending_holds_a_seat",
            "UPDATE invitation SET state = 'canceled', ended_at = created_at WHERE state = 'pending'").await;
        // One membership a user.
        let again = |changed: &str| format!(
            "INSERT INTO membership SELECT organization_id, {changed}, email, email_normalized, display_name, sort_name, \
             search_text, avatar_uri, role, invitation_id, joined_at, last_sign_in_at, suspended_at, version \
             FROM membership WHERE user_id = 'bob'"
        );
        breaks(&world, "membership_one_per_user", &again("user_id")).await;
        breaks(&world, "membership_user_id_said", &again("''")).await;
        breaks(&world, "membership_role_said", "UPDATE membership SET role = '' WHERE user_id = 'bob'").await;
        // One open invitation an address.
        let again = format!(
            "INSERT INTO invitation SELECT i.organization_id, m.organization_id, i.email, i.email_normalized, i.search_text, i.role, i.state, i.holds_seat, \
             i.token_hash, i.inviter_user_id, i.inviter_role, i.invitee_user_id, i.send_count, i.created_at, i.sent_at, i.expires_at, i.ended_at, i.workspace_ids \
             FROM invitation i JOIN membership m ON m.user_id = 'bob' AND m.organization_id = i.organization_id \
             WHERE i.state = 'pending' AND i.organization_id = {of_acme}"
        );
        breaks(&world, "invitation_open_email_unique", &again).await;
        // States, and what belongs to each.
        let pending = "WHERE state = 'pending'";
        breaks(&world, "invitation_state_known", &format!("UPDATE invitation SET state = 'lost', holds_seat = false, ended_at = created_at {pending}")).await;
        breaks(&world, "invitation_ended_unless_pending", &format!("UPDATE invitation SET ended_at = created_at {pending}")).await;
        breaks(&world, "invitation_ended_unless_pending", "UPDATE invitation SET ended_at = NULL WHERE state = 'accepted'").await;
        breaks(&world, "subscription_status_known", "UPDATE subscription SET status = 'fine'").await;
        breaks(&world, "organization_deleted_has_a_purge_time", "UPDATE organization SET deleted_at = created_at").await;
        breaks(&world, "organization_deleted_has_a_purge_time", "UPDATE organization SET purge_at = created_at").await;
        // Names and own organizations.
        breaks(&world, "organization_slug_unique", &format!("UPDATE organization SET slug = 'zed' {acme}")).await;
        breaks(&world, "organization_default_unique", &format!("UPDATE organization SET default_of_user_id = 'zed' {acme}")).await;
        // The log: no number twice, none before one, none without an actor.
        let first = format!("{acme} AND number = 1");
        breaks(&world, "event_number_from_one", &format!("UPDATE event SET number = 0 {first}")).await;
        breaks(&world, "event_has_an_actor", &format!("UPDATE event SET actor_user_id = NULL {first}")).await;
        let doubled = world.execute(&format!("UPDATE event SET number = 2 {first}")).await.expect_err("a number twice");
        assert!(doubled.to_string().contains(match backend {
            Backend::Sqlite => "event.organization_id, event.number",
            Backend::Postgres => "event_number_gap_free",
        }), "{doubled}");

        assert_eq!(ann.seats().await, "3 / 4 seats");
        world.end().await;
    }

    async fn what_belongs_to_an_organization_cannot_be_without_it(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.invites(&["cas@example.com"], "member").await;
        for table in ["membership", "invitation", "subscription", "event"] {
            // Of one that does not exist: an invitation's id is none of an organization's.
            let sql = format!("UPDATE {table} SET organization_id = (SELECT invitation_id FROM invitation)");
            assert!(world.execute(&sql).await.is_err(), "{table}");
        }
        world.end().await;
    }
}
