//! Usage of meters, what is charged for it, and what an organization is entitled to.

use chrono::{DateTime, TimeDelta, Utc};
use tenantry::fields::timestamp;
use tenantry::pb::{self, CancellationMode, ChangeTiming, EntitlementDenial, SubscriptionStatus};
use tonic::Code;

use crate::harness::billing::{PLANS, add_on, amounts, billed, moment, plan, wish};
use crate::harness::finance::used;
use crate::harness::person::{Person, answer};
use crate::harness::race::{at_once, spread};
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

/// An owner on the plan for teams, paid for, with the add-on by which minutes beyond the included ones are charged.
async fn metered(world: &World) -> Person {
    let ann = world.person("ann").founds("Acme").await;
    ann.changes(plan("team")).await.expect("the plan");
    ann.changes(add_on("more_minutes", 1)).await.expect("the add-on");
    world.service("billing").pays(&ann.invoices().await[0]).await;
    ann
}

/// The plans with dearer minutes on the plan for businesses.
fn with_dear_minutes() -> String {
    let dear = r#"
[[add_ons]]
add_on = "dear_minutes"
title = "Minutes for businesses"
kind = "metered"
plans = ["business"]
meter = "minutes"
included = 100
unit_size = 1
prices = [{ currency = "EUR", period = "month", unit_price_minor = 3 }]

[[meters]]"#;
    PLANS.replacen("[[meters]]", dear, 1)
}

/// The plans with minutes that can be had with a year, too.
fn with_yearly_minutes() -> String {
    let month = r#"prices = [{ currency = "EUR", period = "month", unit_price_minor = 7 }]"#;
    let both = r#"prices = [{ currency = "EUR", period = "month", unit_price_minor = 7 }, { currency = "EUR", period = "year", unit_price_minor = 7 }]"#;
    PLANS.replace(month, both)
}

/// What of these invoices is charged for usage, line by line.
fn charged_for_usage(invoices: &[pb::Invoice]) -> Vec<i64> {
    let lines = invoices.iter().flat_map(|invoice| &invoice.lines);
    lines.filter(|line| line.kind() == pb::LineKind::Usage).map(|line| line.amount_minor).collect()
}

/// A moment of 2026.
fn on(day: &str) -> DateTime<Utc> {
    format!("2026-{day}T12:00:00Z").parse().expect("a moment")
}

/// Whether it is allowed, how much the limit is, how much is left, and from where.
fn told(answer: &pb::CheckEntitlementResponse) -> (bool, Option<i64>, Option<i64>, &str) {
    (answer.allowed, answer.limit, answer.remaining, &answer.source)
}

database_tests! {
    async fn a_report_is_counted_once_in_whatever_order_they_come(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("meetings");
        let ann = metered(&world).await;
        world.passes_to("2026-01-20T12:00:00Z").await;
        let late = used("b", "minutes", 30, on("01-18"));
        assert_eq!(service.reports(&ann.organization_id, std::slice::from_ref(&late)).await, Ok((1, 0)));
        let early = used("a", "minutes", 12, on("01-07"));
        let without_time = pb::UsageReport { time: None, ..used("c", "minutes", 5, on("01-20")) };
        let batch = [early.clone(), late.clone(), without_time.clone(), early.clone()];
        assert_eq!(service.reports(&ann.organization_id, &batch).await, Ok((2, 2)));
        world.passes(TimeDelta::hours(1)).await;
        assert_eq!(service.reports(&ann.organization_id, &batch).await, Ok((0, 4)));
        assert_eq!(ann.metered_use("minutes", None).await, (47, 0));
        // What a database cannot keep of a time makes no other report of it.
        let mut fine = used("d", "minutes", 1, on("01-19"));
        fine.time.as_mut().unwrap().nanos = 123_456_789;
        assert_eq!(service.reports(&ann.organization_id, std::slice::from_ref(&fine)).await, Ok((1, 0)));
        assert_eq!(service.reports(&ann.organization_id, &[fine]).await, Ok((0, 1)));
        // Only asked: nothing is counted.
        let asked = pb::ReportUsageRequest {
            organization_id: ann.organization_id.clone(),
            reports: vec![used("e", "minutes", 9, on("01-19"))],
            validate_only: true,
            ..Default::default()
        };
        assert_eq!(answer(service.billing().report_usage(asked).await).unwrap().counted, 1);
        assert_eq!(ann.metered_use("minutes", None).await, (48, 0));
        // Another organization has ids of its own.
        let bob = world.person("bob").founds("Beta").await;
        assert_eq!(service.reports(&bob.organization_id, &[used("a", "minutes", 1, world.clock.now())]).await, Ok((1, 0)));
        world.end().await;
    }

    async fn what_is_wrong_with_a_report_is_refused_and_nothing_of_its_batch_counted(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("meetings");
        let ann = metered(&world).await;
        world.passes_to("2026-03-01T12:00:00Z").await;
        let (good, now) = (used("good", "minutes", 1, on("03-01")), world.clock.now());
        let wrong = [
            good.clone(),
            used("", "minutes", -1, now - TimeDelta::days(35) - TimeDelta::seconds(1)),
            used(&"x".repeat(101), "minutes", i64::MAX, now + TimeDelta::minutes(2)),
        ];
        let refused = service.reports(&ann.organization_id, &wrong).await.unwrap_err();
        let fields = ["[1].report_id", "[1].quantity", "[1].time", "[2].report_id", "[2].quantity", "[2].time"];
        assert_eq!((refused.reason.as_str(), refused.fields), ("INVALID_FIELDS", fields.map(|field| format!("reports{field}")).to_vec()));
        // The oldest that is taken, and one by a clock that goes a little before ours.
        let edges = [used("old", "minutes", 1, now - TimeDelta::days(35)), used("new", "minutes", 1, now + TimeDelta::seconds(59))];
        assert_eq!(service.reports(&ann.organization_id, &edges).await, Ok((2, 0)));
        let unknown = [good.clone(), used("far", "parsecs", 1, now)];
        let refused = service.reports(&ann.organization_id, &unknown).await.unwrap_err();
        assert_eq!(refused.is(), (Code::NotFound, "METER_NOT_FOUND"));
        assert_eq!((refused.metadata["meter"].as_str(), refused.metadata["indexes"].as_str()), ("parsecs", "1"));
        let known = used("known", "minutes", 7, now);
        service.reports(&ann.organization_id, std::slice::from_ref(&known)).await.unwrap();
        for other in [
            pb::UsageReport { quantity: 8, ..known.clone() },
            pb::UsageReport { meter: "storage_gb".into(), ..known.clone() },
            used("known", "minutes", 7, now - TimeDelta::seconds(1)),
        ] {
            let refused = service.reports(&ann.organization_id, &[good.clone(), other]).await.unwrap_err();
            assert_eq!(refused.is(), (Code::AlreadyExists, "USAGE_REPORT_REUSED"));
            assert_eq!((refused.metadata["report_id"].as_str(), refused.metadata["indexes"].as_str()), ("known", "1"));
        }
        let twice = [used("twice", "minutes", 1, now), used("twice", "minutes", 2, now)];
        assert_eq!(service.reports(&ann.organization_id, &twice).await.unwrap_err().reason, "USAGE_REPORT_REUSED");
        let many: Vec<pb::UsageReport> = (0..501).map(|number| used(&number.to_string(), "minutes", 1, now)).collect();
        assert_eq!(service.reports(&ann.organization_id, &many).await.unwrap_err().is(), (Code::InvalidArgument, "BATCH_TOO_LARGE"));
        assert_eq!(service.reports(&ann.organization_id, &[]).await.unwrap_err().fields, ["reports"]);
        assert_eq!(ann.reports(&ann.organization_id, &[good]).await.unwrap_err().is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        assert_eq!(ann.metered_use("minutes", None).await, (8, 0));
        // As many as there can be, and not more than can be counted.
        assert_eq!(service.reports(&ann.organization_id, &many[..500]).await, Ok((500, 0)));
        let most = |id: &str| used(id, "storage_gb", 1_000_000_000_000_000, now);
        assert_eq!(service.reports(&ann.organization_id, &[most("one"), most("two")]).await, Ok((2, 0)));
        let most = |id: &str| used(id, "minutes", 1_000_000_000_000_000, now);
        assert_eq!(service.reports(&ann.organization_id, &[most("three")]).await.unwrap_err().reason, "AMOUNT_TOO_LARGE");
        world.end().await;
    }

    async fn of_a_level_the_highest_counts_and_a_new_period_begins_at_nothing(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("storage");
        let ann = metered(&world).await;
        world.passes(TimeDelta::days(1)).await;
        let now = world.clock.now();
        for (id, level) in [("a", 5), ("b", 9), ("c", 7)] {
            service.reports(&ann.organization_id, &[used(id, "storage_gb", level, now)]).await.unwrap();
        }
        assert_eq!(ann.metered_use("storage_gb", None).await, (9, 0));
        service.reports(&ann.organization_id, &[used("d", "storage_gb", 3, now), used("e", "storage_gb", 11, now), used("f", "storage_gb", 2, now)]).await.unwrap();
        assert_eq!(ann.metered_use("storage_gb", None).await, (11, 0));
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(ann.metered_use("storage_gb", None).await, (0, 0));
        assert_eq!(ann.metered_use("storage_gb", Some(now)).await, (11, 0));
        world.end().await;
    }

    async fn the_same_reports_to_two_servers_at_once_count_once(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..billed() }).await;
        let ann = metered(&world).await;
        let reports: Vec<pb::UsageReport> = (0..20).map(|number| used(&format!("r{number}"), "minutes", 3, world.clock.now())).collect();
        let calls = (0..12).map(|number| {
            let service = spread(&world, &world.service("meetings"), number);
            let (organization_id, mut reports) = (ann.organization_id.clone(), reports.clone());
            // Each in another order, and not all of them.
            reports.rotate_left(number);
            reports.truncate(15);
            async move { service.reports(&organization_id, &reports).await }
        });
        let outcomes = at_once(calls).await;
        let counted: i32 = outcomes.iter().map(|outcome| outcome.as_ref().expect("counted").0).sum();
        assert_eq!(counted, 20);
        assert_eq!(ann.metered_use("minutes", None).await, (60, 0));
        world.end().await;
    }
}

database_tests! {
    async fn what_is_used_beyond_what_is_included_is_on_the_next_invoice(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = metered(&world).await;
        world.passes_to("2026-01-20T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 1_500, on("01-10"))]).await.unwrap();
        // What is not known yet is not foreseen.
        let foreseen = ann.previews(crate::harness::billing::wish()).await.unwrap().outcome.unwrap().next_invoice.unwrap();
        assert_eq!(amounts(&foreseen.lines), [2_000]);
        world.passes_to("2026-02-05T09:00:00Z").await;
        let invoice = ann.invoices().await.pop().unwrap();
        assert_eq!(amounts(&invoice.lines), [350, 2_000]);
        let line = &invoice.lines[0];
        assert_eq!((line.kind(), line.add_on_id.as_str(), line.quantity), (pb::LineKind::Usage, "more_minutes", Some(500)));
        assert_eq!(moment(line.period_start_time).to_rfc3339(), "2026-01-05T09:00:00+00:00");
        assert_eq!(moment(line.period_end_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        assert_eq!(ann.metered_use("minutes", Some(on("01-20"))).await, (1_500, 500));
        billing.pays(&invoice).await;
        // What comes late for January is on February's end's invoice, and nothing of it twice: 605 of ten cost 424, less 350.
        world.passes_to("2026-02-10T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("b", "minutes", 105, on("01-20")), used("c", "minutes", 1_001, on("02-08"))]).await.unwrap();
        assert_eq!(ann.metered_use("minutes", None).await, (1_001, 0));
        world.passes_to("2026-03-05T09:00:00Z").await;
        let invoice = ann.invoices().await.pop().unwrap();
        assert_eq!(amounts(&invoice.lines), [74, 1, 2_000]);
        assert_eq!(moment(invoice.lines[0].period_start_time).to_rfc3339(), "2026-01-05T09:00:00+00:00");
        assert_eq!(moment(invoice.lines[1].period_start_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        assert_eq!(ann.metered_use("minutes", Some(on("01-20"))).await, (1_605, 605));
        billing.pays(&invoice).await;
        world.passes_to("2026-04-05T09:00:00Z").await;
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [2_000]);
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn parts_of_a_unit_are_charged_by_what_they_are_and_come_to_the_whole(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = metered(&world).await;
        world.passes_to("2026-01-20T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 1_005, on("01-20"))]).await.unwrap();
        world.passes_to("2026-02-05T09:00:00Z").await;
        // Half of ten for 7: 3.5, rounded away from zero.
        let first = ann.invoices().await.pop().unwrap();
        assert_eq!(amounts(&first.lines), [4, 2_000]);
        billing.pays(&first).await;
        world.passes_to("2026-02-06T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("b", "minutes", 5, on("01-20"))]).await.unwrap();
        world.passes_to("2026-03-05T09:00:00Z").await;
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [3, 2_000]);
        world.end().await;
    }

    async fn what_was_used_before_an_add_on_was_had_is_not_charged_by_it(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = world.person("ann").founds("Acme").await;
        service.reports(&ann.organization_id, &[used("free", "minutes", 4_000, world.clock.now())]).await.unwrap();
        world.passes_to("2026-01-10T09:00:00Z").await;
        ann.changes(plan("team")).await.unwrap();
        billing.pays(&ann.invoices().await[0]).await;
        service.reports(&ann.organization_id, &[used("january", "minutes", 3_000, world.clock.now())]).await.unwrap();
        world.passes_to("2026-02-10T09:00:00Z").await;
        billing.pays(&ann.invoices().await[1]).await;
        world.passes_to("2026-02-20T12:00:00Z").await;
        ann.changes(add_on("more_minutes", 1)).await.unwrap();
        // Late for the time before it: not charged either.
        service.reports(&ann.organization_id, &[used("late", "minutes", 500, on("02-05")), used("february", "minutes", 1_100, on("02-20"))]).await.unwrap();
        world.passes_to("2026-03-10T09:00:00Z").await;
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [70, 2_000]);
        assert_eq!(ann.metered_use("minutes", Some(on("01-20"))).await, (3_500, 0));
        world.end().await;
    }

    async fn nor_is_what_was_used_before_it_within_the_same_period(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        billing.pays(&ann.invoices().await[0]).await;
        world.passes_to("2026-01-10T12:00:00Z").await;
        let report = async |id: &str, quantity: i64, at: &str| {
            service.reports(&ann.organization_id, &[used(id, "minutes", quantity, on(at)), used(&format!("{id} level"), "storage_gb", quantity, on(at))]).await.unwrap();
        };
        report("before", 4_000, "01-10").await;
        world.passes_to("2026-01-12T12:00:00Z").await;
        ann.changes(add_on("more_minutes", 1)).await.unwrap();
        // Of the one count of the period; a report from before that comes late is not charged either.
        assert_eq!(ann.metered_use("minutes", None).await, (4_000, 0));
        world.passes_to("2026-01-15T12:00:00Z").await;
        report("late", 500, "01-11").await;
        report("since", 200, "01-15").await;
        assert_eq!(ann.metered_use("minutes", None).await, (4_700, 0));
        assert_eq!(ann.entitled("minutes", 1).await.used, Some(4_700));
        // Given up and had again: what was used since is charged, what was used in between is not, and what is used again is.
        world.passes_to("2026-01-20T12:00:00Z").await;
        let now = |quantity: i64| pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..add_on("more_minutes", quantity) };
        ann.changes(now(0)).await.unwrap();
        world.passes_to("2026-01-22T12:00:00Z").await;
        report("between", 9_000, "01-22").await;
        ann.changes(now(1)).await.unwrap();
        world.passes_to("2026-01-25T12:00:00Z").await;
        report("again", 10, "01-25").await;
        world.passes_to("2026-02-05T09:00:00Z").await;
        // 200, and 10: 200 ÷ 10 × 7 and 10 ÷ 10 × 7.
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [140, 7, 2_000]);
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn to_give_an_add_on_up_and_have_it_again_gains_nothing(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = metered(&world).await;
        let now = |quantity: i64| pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..add_on("more_minutes", quantity) };
        for round in 0..10 {
            world.passes(TimeDelta::hours(1)).await;
            service.reports(&ann.organization_id, &[used(&format!("r{round}"), "minutes", 1_000, world.clock.now())]).await.unwrap();
            ann.changes(now(0)).await.unwrap();
            // The limit of the plan is as used up as it was.
            assert_eq!(told(&ann.entitled("minutes", 1).await), (false, Some(1_000), Some(0), "plan:team"));
            ann.changes(now(1)).await.unwrap();
        }
        world.passes_to("2026-02-05T09:00:00Z").await;
        let charged: i64 = charged_for_usage(&ann.invoices().await[1..]).iter().sum();
        assert_eq!(charged, 6_300);
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn what_is_reported_before_the_worker_has_come_is_of_the_period_that_has_begun(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("meetings");
        let ann = metered(&world).await;
        let yearly = pb::UpdateSubscriptionRequest { billing_period: pb::BillingPeriod::Year.into(), timing: ChangeTiming::PeriodEnd.into(), ..plan("team") };
        ann.changes(yearly).await.unwrap();
        world.pass(on("02-06") - world.clock.now());
        service.reports(&ann.organization_id, &[used("a", "minutes", 700, world.clock.now())]).await.unwrap();
        world.passes(TimeDelta::days(90)).await;
        assert_eq!(ann.metered_use("minutes", None).await, (700, 0));
        assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(300));
        world.end().await;
    }

    async fn to_end_a_subscription_and_begin_another_gains_nothing_either(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = metered(&world).await;
        for round in 0..3 {
            world.passes(TimeDelta::hours(1)).await;
            service.reports(&ann.organization_id, &[used(&format!("r{round}"), "minutes", 1_000, world.clock.now())]).await.unwrap();
            ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
            ann.changes(pb::UpdateSubscriptionRequest { add_ons: add_on("more_minutes", 1).add_ons, ..plan("team") }).await.unwrap();
            assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(0));
        }
        // 3,000 used, 1,000 included, at 7 for 10: all of it charged when each ended.
        let charged: i64 = charged_for_usage(&ann.invoices().await).iter().sum();
        assert_eq!(charged, 1_400);
        // What was paid for has ended by then: a new count.
        world.passes_to("2026-02-06T12:00:00Z").await;
        assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(1_000));
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn an_add_on_of_another_plan_takes_the_place_of_the_one_that_charges_its_meter(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(with_dear_minutes()), ..billed() }).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = metered(&world).await;
        world.passes_to("2026-01-10T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 1_100, on("01-10"))]).await.unwrap();
        let to = |plan_id: &str, quantities: &[(&str, i64)]| pb::UpdateSubscriptionRequest {
            add_ons: quantities.iter().flat_map(|(add_on_id, quantity)| add_on(add_on_id, *quantity).add_ons).collect(),
            timing: ChangeTiming::Now.into(),
            ..plan(plan_id)
        };
        // 100 beyond the 1,000 that were included are charged as they were used; that only 100 are included now says nothing of them.
        ann.changes(to("business", &[("dear_minutes", 1)])).await.unwrap();
        world.passes_to("2026-01-12T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("b", "minutes", 30, on("01-12"))]).await.unwrap();
        // And back: what would have been charged goes on to be.
        ann.changes(to("team", &[("more_minutes", 1)])).await.unwrap();
        world.passes_to("2026-01-14T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("c", "minutes", 50, on("01-14"))]).await.unwrap();
        world.passes_to("2026-02-05T09:00:00Z").await;
        assert_eq!(charged_for_usage(&ann.invoices().await), [70, 90, 35]);
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn two_add_ons_that_charge_one_meter_cannot_be_had(backend: Backend) {
        let mut world = World::with(backend, billed()).await;
        let ann = metered(&world).await;
        // The one that is had is not offered any more, another on its meter is.
        world.setup.plans = Some(PLANS.replace("\"more_minutes\"", "\"new_minutes\""));
        world.switches_policy_to("owner-billing").await;
        let ann = ann.at(world.channel());
        let refused = ann.changes(add_on("new_minutes", 1)).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.fields), ("INVALID_FIELDS", vec!["add_ons[0].add_on_id".to_owned()]));
        // The one takes the place of the other at once, also where a reduction would wait for the end of the period.
        let mut instead = add_on("new_minutes", 1);
        instead.add_ons.extend(add_on("more_minutes", 0).add_ons);
        let had = ann.changes(instead).await.unwrap().subscription.unwrap();
        assert_eq!(had.add_ons.iter().map(|held| held.add_on_id.as_str()).collect::<Vec<_>>(), ["new_minutes"]);
        assert_eq!(had.scheduled_change, None);
        world.end().await;
    }

    async fn what_was_charged_before_an_add_on_with_more_included_is_not_waived_when_the_first_is_had_again(backend: Backend) {
        let plans = with_dear_minutes().replace("included = 100\n", "included = 2_000\n");
        let world = World::with(backend, Setup { plans: Some(plans), ..billed() }).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = metered(&world).await;
        world.passes_to("2026-01-10T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 1_500, on("01-10"))]).await.unwrap();
        for (plan_id, add_on_id) in [("business", "dear_minutes"), ("team", "more_minutes")] {
            ann.changes(pb::UpdateSubscriptionRequest { add_ons: add_on(add_on_id, 1).add_ons, timing: ChangeTiming::Now.into(), ..plan(plan_id) }).await.unwrap();
        }
        world.passes_to("2026-01-12T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("b", "minutes", 500, on("01-12"))]).await.unwrap();
        world.passes_to("2026-02-05T09:00:00Z").await;
        assert_eq!(charged_for_usage(&ann.invoices().await), [350, 350]);
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn to_begin_anew_makes_no_short_counts(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = metered(&world).await;
        world.passes(TimeDelta::minutes(30)).await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 1, world.clock.now())]).await.unwrap();
        world.passes(TimeDelta::minutes(30)).await;
        ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { add_ons: add_on("more_minutes", 1).add_ons, ..plan("team") }).await.unwrap();
        billing.pays_all(&ann).await;
        // The count goes on until the fifth at nine; the period that has begun ends an hour later.
        world.passes_to("2026-02-05T09:30:00Z").await;
        service.reports(&ann.organization_id, &[used("b", "minutes", 1_000, world.clock.now())]).await.unwrap();
        world.passes_to("2026-02-06T12:00:00Z").await;
        let told = ann.entitled("minutes", 1).await;
        assert_eq!((told.remaining, moment(told.reset_time).to_rfc3339().as_str()), (Some(0), "2026-03-05T09:00:00+00:00"));
        service.reports(&ann.organization_id, &[used("c", "minutes", 100, world.clock.now())]).await.unwrap();
        billing.pays_all(&ann).await;
        world.passes_to("2026-03-06T12:00:00Z").await;
        let last = ann.invoices().await.pop().unwrap();
        assert_eq!(last.lines.iter().find(|line| line.kind() == pb::LineKind::Usage).unwrap().amount_minor, 70);
        assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(1_000));
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn a_count_that_goes_on_is_not_charged_for_what_was_before_a_scheduled_add_on(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        service.reports(&ann.organization_id, &[used("a", "minutes", 1, world.clock.now())]).await.unwrap();
        world.passes_to("2026-01-20T12:00:00Z").await;
        ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
        billing.pays_all(&ann).await;
        ann.changes(plan("team")).await.unwrap();
        billing.pays_all(&ann).await;
        world.passes_to("2026-02-10T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("b", "minutes", 1_500, on("02-10"))]).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { timing: ChangeTiming::PeriodEnd.into(), ..add_on("more_minutes", 1) }).await.unwrap();
        world.passes_to("2026-02-25T12:00:00Z").await;
        billing.pays_all(&ann).await;
        // In one batch and in no order, of the count that goes on and of the next.
        service.reports(&ann.organization_id, &[used("d", "minutes", 10, on("02-25")), used("c", "minutes", 20, on("02-22"))]).await.unwrap();
        world.passes_to("2026-03-21T12:00:00Z").await;
        let last = ann.invoices().await.pop().unwrap();
        assert_eq!(charged_for_usage(&[last]), [21]);
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn reports_of_one_batch_begin_no_two_counts(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = metered(&world).await;
        world.passes(TimeDelta::minutes(30)).await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 1, world.clock.now())]).await.unwrap();
        world.passes_to("2026-01-20T12:00:00Z").await;
        ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { add_ons: add_on("more_minutes", 1).add_ons, ..plan("team") }).await.unwrap();
        billing.pays_all(&ann).await;
        world.passes_to("2026-02-21T12:00:00Z").await;
        let both = [used("c", "minutes", 1_000, on("02-21")), used("b", "minutes", 1_000, on("02-10"))];
        service.reports(&ann.organization_id, &both).await.unwrap();
        let told = ann.entitled("minutes", 1).await;
        assert_eq!((told.used, moment(told.reset_time).to_rfc3339().as_str()), (Some(2_000), "2026-03-05T09:00:00+00:00"));
        world.end().await;
    }

    async fn to_end_what_is_free_and_begin_it_again_begins_no_new_count(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("meetings");
        let ann = world.person("ann").founds("Acme").await;
        world.passes_to("2026-01-10T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 100, on("01-10"))]).await.unwrap();
        for _ in 0..2 {
            ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
            assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(0));
            ann.changes(plan("free")).await.unwrap();
            assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(0));
        }
        world.end().await;
    }

    async fn of_what_is_free_a_late_report_is_of_the_time_in_which_it_was(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("meetings");
        let ann = world.person("ann").founds("Acme").await;
        for day in ["2026-01-10T12:00:00Z", "2026-01-15T12:00:00Z"] {
            world.passes_to(day).await;
            ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
            ann.changes(plan("free")).await.unwrap();
            if day < "2026-01-15" {
                service.reports(&ann.organization_id, &[used("a", "minutes", 10, on("01-10"))]).await.unwrap();
            }
        }
        world.passes_to("2026-01-16T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("late", "minutes", 7, on("01-07"))]).await.unwrap();
        service.reports(&ann.organization_id, &[used("now", "minutes", 5, on("01-16"))]).await.unwrap();
        assert_eq!(ann.metered_use("minutes", Some(on("01-07"))).await, (7, 0));
        // The count of the tenth goes on until its end.
        assert_eq!(ann.metered_use("minutes", None).await, (15, 0));
        assert_eq!(ann.entitled("minutes", 1).await.used, Some(15));
        world.end().await;
    }

    async fn of_a_year_that_was_paid_for_a_month_begins_a_new_count(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(with_yearly_minutes()), ..billed() }).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = world.person("ann").founds("Acme").await;
        let every = |period: pb::BillingPeriod| pb::UpdateSubscriptionRequest {
            billing_period: period.into(),
            timing: ChangeTiming::Now.into(),
            ..plan("team")
        };
        ann.changes(every(pb::BillingPeriod::Year)).await.unwrap();
        ann.changes(add_on("more_minutes", 1)).await.unwrap();
        billing.pays(&ann.invoices().await[0]).await;
        world.passes_to("2026-01-15T12:00:00Z").await;
        let report = async |id: &str, quantity: i64| service.reports(&ann.organization_id, &[used(id, "minutes", quantity, world.clock.now())]).await.unwrap();
        report("a", 900).await;
        ann.changes(every(pb::BillingPeriod::Month)).await.unwrap();
        // Within the first month, the count goes on until that is over: the included minutes come once a month.
        let told = ann.entitled("minutes", 1).await;
        assert_eq!((told.remaining, moment(told.reset_time).to_rfc3339().as_str()), (Some(100), "2026-02-05T09:00:00+00:00"));
        world.passes_to("2026-02-06T12:00:00Z").await;
        report("b", 300).await;
        let told = ann.entitled("minutes", 1).await;
        assert_eq!((told.remaining, moment(told.reset_time).to_rfc3339().as_str()), (Some(700), "2026-03-05T09:00:00+00:00"));
        let counted = ann.tries_to_get_usage(None).await.unwrap();
        assert_eq!(moment(counted.period_start_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        // After it, a new count begins at once.
        billing.pays_all(&ann).await;
        ann.changes(every(pb::BillingPeriod::Year)).await.unwrap();
        billing.pays(&ann.invoices().await.pop().unwrap()).await;
        world.passes_to("2026-05-10T12:00:00Z").await;
        report("c", 950).await;
        assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(50));
        ann.changes(every(pb::BillingPeriod::Month)).await.unwrap();
        let told = ann.entitled("minutes", 1).await;
        assert_eq!((told.remaining, moment(told.reset_time).to_rfc3339().as_str()), (Some(1_000), "2026-06-10T12:00:00+00:00"));
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn what_is_free_is_counted_by_months_also_in_a_year_that_was_paid_for(backend: Backend) {
        for canceled in [true, false] {
            let world = World::with(backend, billed()).await;
            let service = world.service("meetings");
            let ann = world.person("ann").founds("Acme").await;
            ann.changes(pb::UpdateSubscriptionRequest { billing_period: pb::BillingPeriod::Year.into(), ..plan("team") }).await.unwrap();
            world.service("billing").pays(&ann.invoices().await[0]).await;
            world.passes_to("2026-03-15T12:00:00Z").await;
            service.reports(&ann.organization_id, &[used("a", "minutes", 900, on("03-15"))]).await.unwrap();
            if canceled {
                ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
            } else {
                ann.changes(pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..plan("free") }).await.unwrap();
            }
            assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(100));
            service.reports(&ann.organization_id, &[used("b", "minutes", 60, on("03-15"))]).await.unwrap();
            let told = ann.entitled("minutes", 1).await;
            assert_eq!((told.remaining, moment(told.reset_time).to_rfc3339().as_str()), (Some(40), "2026-04-15T12:00:00+00:00"));
            world.passes_to("2026-04-16T12:00:00Z").await;
            assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(100));
            world.end().await;
        }
    }

    async fn what_a_free_period_counted_says_nothing_of_one_that_is_paid_for_though_something_was_scheduled(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("meetings");
        let ann = world.person("ann").founds("Acme").await;
        world.passes_to("2026-01-15T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 80, on("01-15"))]).await.unwrap();
        let later = pb::UpdateSubscriptionRequest { seats: Some(6), timing: ChangeTiming::PeriodEnd.into(), ..wish() };
        let scheduled = ann.changes(later).await.unwrap().subscription.unwrap().scheduled_change.unwrap();
        assert_eq!(moment(scheduled.effective_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        ann.changes(plan("team")).await.unwrap();
        assert_eq!(ann.entitled("minutes", 1).await.remaining, Some(1_000));
        world.end().await;
    }

    async fn no_report_can_be_of_so_much_that_it_could_not_be_charged(backend: Backend) {
        let plans = PLANS.replace("unit_size = 10\nprices = [{ currency = \"EUR\", period = \"month\", unit_price_minor = 7 }]", "unit_size = 10\nprices = [{ currency = \"EUR\", period = \"month\", unit_price_minor = 900_000_000 }]");
        assert_ne!(plans, PLANS);
        let world = World::with(backend, Setup { plans: Some(plans), ..billed() }).await;
        let service = world.service("meetings");
        let bob = world.person("bob").founds("Beta").await;
        let ann = metered(&world).await;
        let now = world.clock.now();
        // Whether the add-on is had or might be.
        for person in [&ann, &bob] {
            let refused = service.reports(&person.organization_id, &[used("absurd", "minutes", 11_112, now)]).await.unwrap_err();
            assert_eq!(refused.is(), (Code::FailedPrecondition, "AMOUNT_TOO_LARGE"));
            service.reports(&person.organization_id, &[used("much", "minutes", 11_111, now)]).await.unwrap();
            let refused = service.reports(&person.organization_id, &[used("more", "minutes", 1, now)]).await.unwrap_err();
            assert_eq!(refused.reason, "AMOUNT_TOO_LARGE");
        }
        // It is billed, and the subscription can end.
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [909_990_000_000, 2_000]);
        ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
        assert_eq!(world.service("billing").drifts().await, []);
        world.end().await;
    }

    async fn an_add_on_that_is_scheduled_charges_what_is_used_from_then_on(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        billing.pays(&ann.invoices().await[0]).await;
        let later = pb::UpdateSubscriptionRequest { timing: ChangeTiming::PeriodEnd.into(), ..add_on("more_minutes", 1) };
        ann.changes(later).await.unwrap();
        world.passes_to("2026-01-20T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 2_000, on("01-20"))]).await.unwrap();
        world.passes_to("2026-02-06T12:00:00Z").await;
        let invoice = ann.invoices().await.pop().unwrap();
        assert_eq!(amounts(&invoice.lines), [2_000]);
        billing.pays(&invoice).await;
        service.reports(&ann.organization_id, &[used("b", "minutes", 1_010, on("02-06"))]).await.unwrap();
        world.passes_to("2026-03-05T09:00:00Z").await;
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [7, 2_000]);
        world.end().await;
    }

    async fn what_is_used_within_a_trial_is_free(backend: Backend) {
        let plans = PLANS.replace("kind = \"metered\"\nplans = [\"team\"]", "kind = \"metered\"");
        let world = World::with(backend, Setup { plans: Some(plans), ..billed() }).await;
        let service = world.service("meetings");
        let ann = world.person("ann").founds("Acme").await;
        let wish = pb::UpdateSubscriptionRequest { add_ons: add_on("more_minutes", 1).add_ons, ..plan("tried") };
        assert_eq!(ann.changes(wish).await.unwrap().subscription.unwrap().status(), SubscriptionStatus::Trialing);
        service.reports(&ann.organization_id, &[used("a", "minutes", 5_000, world.clock.now())]).await.unwrap();
        world.passes_to("2026-01-19T09:00:00Z").await;
        let first = ann.invoices().await.pop().unwrap();
        assert_eq!(amounts(&first.lines), [3_000]);
        world.service("billing").pays(&first).await;
        service.reports(&ann.organization_id, &[used("b", "minutes", 1_010, world.clock.now())]).await.unwrap();
        world.passes_to("2026-02-19T09:00:00Z").await;
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [7, 3_000]);
        world.end().await;
    }

    async fn what_was_used_is_charged_when_the_add_on_goes_or_the_subscription_ends(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = metered(&world).await;
        world.passes_to("2026-01-20T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 1_100, on("01-20"))]).await.unwrap();
        let gone = pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..add_on("more_minutes", 0) };
        ann.changes(gone).await.unwrap();
        service.reports(&ann.organization_id, &[used("b", "minutes", 900, on("01-20"))]).await.unwrap();
        world.passes_to("2026-02-05T09:00:00Z").await;
        let invoice = ann.invoices().await.pop().unwrap();
        assert_eq!(amounts(&invoice.lines), [70, 2_000]);
        billing.pays(&invoice).await;
        ann.changes(add_on("more_minutes", 1)).await.unwrap();
        world.passes_to("2026-02-10T09:00:00Z").await;
        service.reports(&ann.organization_id, &[used("c", "minutes", 1_200, world.clock.now())]).await.unwrap();
        let last = ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap().invoice.unwrap();
        assert_eq!(last.total_minor, 140);
        assert_eq!(billing.drifts().await, []);
        world.end().await;
    }

    async fn a_period_that_was_paid_for_counts_on_until_its_end_though_another_has_begun(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("meetings");
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        world.service("billing").pays(&ann.invoices().await[0]).await;
        world.passes_to("2026-01-20T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 700, on("01-10"))]).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { billing_period: pb::BillingPeriod::Year.into(), ..plan("team") }).await.unwrap();
        assert_eq!(ann.metered_use("minutes", None).await, (700, 0));
        world.passes_to("2026-01-21T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("b", "minutes", 5, on("01-21")), used("late", "minutes", 6, on("01-11"))]).await.unwrap();
        assert_eq!(ann.metered_use("minutes", None).await, (711, 0));
        let earlier = ann.tries_to_get_usage(Some(on("01-15"))).await.unwrap();
        assert_eq!(moment(earlier.period_end_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        // The month is over, and what is used now is of the year.
        world.passes_to("2026-02-06T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("c", "minutes", 3, on("02-06")), used("d", "minutes", 4, on("01-22"))]).await.unwrap();
        assert_eq!(ann.metered_use("minutes", None).await, (3, 0));
        assert_eq!(ann.metered_use("minutes", Some(on("01-15"))).await, (715, 0));
        world.end().await;
    }

    async fn what_was_used_before_the_first_period_is_in_no_later_one(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("meetings");
        let ann = metered(&world).await;
        world.passes_to("2026-02-06T12:00:00Z").await;
        // The organization began on the fifth; somebody's clock said the third.
        service.reports(&ann.organization_id, &[used("a", "minutes", 50, on("01-03"))]).await.unwrap();
        service.reports(&ann.organization_id, &[used("b", "minutes", 70, on("01-10"))]).await.unwrap();
        assert_eq!(ann.metered_use("minutes", Some(on("01-10"))).await, (70, 0));
        assert_eq!(ann.metered_use("minutes", Some(on("01-03"))).await, (50, 0));
        let period = ann.tries_to_get_usage(Some(on("01-10"))).await.unwrap();
        assert_eq!(moment(period.period_start_time).to_rfc3339(), "2026-01-05T09:00:00+00:00");
        world.end().await;
    }

    async fn usage_is_told_of_the_period_under_way_and_of_those_before(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("meetings");
        let ann = metered(&world).await;
        let now = ann.tries_to_get_usage(None).await.unwrap();
        assert_eq!(moment(now.period_start_time).to_rfc3339(), "2026-01-05T09:00:00+00:00");
        assert_eq!(moment(now.period_end_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        let names: Vec<(&str, &str)> = now.meters.iter().map(|meter| (meter.meter.as_str(), meter.title.as_str())).collect();
        assert_eq!(names, [("minutes", "Minutes of meetings"), ("storage_gb", "Storage in GB")]);
        let refused = ann.tries_to_get_usage(Some(world.clock.now() + TimeDelta::minutes(2))).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.fields), ("INVALID_FIELDS", vec!["time".to_owned()]));
        world.passes_to("2026-03-20T12:00:00Z").await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 3, on("03-20")), used("b", "minutes", 4, on("02-20"))]).await.unwrap();
        assert_eq!(ann.metered_use("minutes", None).await.0, 3);
        assert_eq!(ann.metered_use("minutes", Some(on("02-20"))).await.0, 4);
        assert_eq!(ann.metered_use("minutes", Some(on("01-20"))).await.0, 0);
        let bob = ann.brings("bob", "admin").await;
        assert_eq!(bob.metered_use("minutes", None).await.0, 3);
        let cas = ann.brings("cas", "member").await;
        assert_eq!(cas.tries_to_get_usage(None).await.unwrap_err().is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        let request = pb::GetUsageRequest { organization_id: ann.organization_id.clone(), time: Some(timestamp(on("02-20"))) };
        assert_eq!(answer(service.billing().get_usage(request).await).unwrap().meters[0].used, 4);
        world.end().await;
    }
}

database_tests! {
    async fn a_plan_and_its_add_ons_say_what_an_organization_may(backend: Backend) {
        let plans = PLANS.replace("workspaces = 20 }", "workspaces = 20, storage_gb = 50 }");
        let world = World::with(backend, Setup { plans: Some(plans), ..billed() }).await;
        let service = world.service("meetings");
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        // There or not.
        let sso = ann.entitled("sso", 0).await;
        assert_eq!((told(&sso), sso.limited, sso.denial()), ((false, None, None, ""), false, EntitlementDenial::NotIncluded));
        let unknown = ann.entitled("teleport", 1).await;
        assert_eq!((told(&unknown), unknown.limited, unknown.denial()), ((false, None, None, ""), false, EntitlementDenial::NotIncluded));
        // So much of it, and what nobody counts for us.
        let workspaces = ann.entitled("workspaces", 20).await;
        assert_eq!((told(&workspaces), workspaces.used, workspaces.reset_time), ((true, Some(20), Some(20), "plan:team"), None, None));
        let workspaces = ann.entitled("workspaces", 21).await;
        assert_eq!((workspaces.allowed, workspaces.denial()), (false, EntitlementDenial::LimitReached));
        // What a meter counts begins anew with each period.
        service.reports(&ann.organization_id, &[used("a", "minutes", 990, world.clock.now())]).await.unwrap();
        let minutes = ann.entitled("minutes", 10).await;
        assert_eq!((told(&minutes), minutes.used, minutes.overage, minutes.limited), ((true, Some(1_000), Some(10), "plan:team"), Some(990), false, true));
        assert_eq!(moment(minutes.reset_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        let minutes = ann.entitled("minutes", 11).await;
        assert_eq!((minutes.allowed, minutes.denial()), (false, EntitlementDenial::LimitReached));
        // What goes beyond is charged with the add-on, and not refused.
        ann.changes(add_on("more_minutes", 1)).await.unwrap();
        let minutes = ann.entitled("minutes", 5_000).await;
        assert_eq!((told(&minutes), minutes.overage, minutes.denial()), ((true, Some(1_000), Some(10), "plan:team"), true, EntitlementDenial::Unspecified));
        // An add-on's is on top of the plan's, for each unit.
        ann.changes(add_on("storage", 3)).await.unwrap();
        let storage = ann.entitled("storage_gb", 350).await;
        assert_eq!((told(&storage), storage.used), ((true, Some(350), Some(350), "plan:team,add_on:storage"), Some(0)));
        assert!(!ann.entitled("storage_gb", 351).await.allowed);
        ann.changes(add_on("support", 1)).await.unwrap();
        assert_eq!(told(&ann.entitled("telephone_support", 0).await), (true, None, None, "add_on:support"));
        // Without limit.
        ann.changes(plan("business")).await.unwrap();
        let minutes = ann.entitled("minutes", i64::MAX).await;
        assert_eq!((told(&minutes), minutes.limited, minutes.used), ((true, None, None, "plan:business"), true, Some(990)));
        assert_eq!(told(&ann.entitled("sso", 1).await), (true, None, None, "plan:business"));
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(ann.entitled("minutes", 1).await.used, Some(0));
        world.end().await;
    }

    async fn seats_are_something_to_be_entitled_to(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        ann.invites(&["cas@example.com"], "member").await;
        let seats = ann.entitled("seats", 1).await;
        assert_eq!((told(&seats), seats.used, seats.limited), ((true, Some(4), Some(1), "plan:free"), Some(3), true));
        let seats = ann.entitled("seats", 2).await;
        assert_eq!((seats.allowed, seats.denial()), (false, EntitlementDenial::LimitReached));
        // The invitation expires.
        world.pass(TimeDelta::days(7));
        assert_eq!(told(&ann.entitled("seats", 2).await), (true, Some(4), Some(2), "plan:free"));
        ann.changes(plan("team")).await.unwrap();
        world.passes(TimeDelta::days(14)).await;
        let seats = ann.entitled("seats", 1).await;
        assert_eq!((seats.allowed, seats.remaining, seats.denial()), (false, Some(3), EntitlementDenial::SubscriptionInactive));
        world.end().await;
    }

    async fn whoever_is_past_due_has_what_the_plan_says_and_whoever_is_unpaid_what_the_free_plan_says(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (service, billing) = (world.service("meetings"), world.service("billing"));
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(pb::UpdateSubscriptionRequest { add_ons: add_on("more_minutes", 1).add_ons, ..plan("team") }).await.unwrap();
        service.reports(&ann.organization_id, &[used("a", "minutes", 60, world.clock.now())]).await.unwrap();
        world.passes(TimeDelta::days(14)).await;
        assert_eq!(ann.subscription().await.unwrap().status(), SubscriptionStatus::PastDue);
        assert_eq!(told(&ann.entitled("workspaces", 1).await), (true, Some(20), Some(20), "plan:team"));
        assert!(ann.entitled("minutes", 2_000).await.overage);
        world.passes(TimeDelta::days(10)).await;
        for status in [SubscriptionStatus::Unpaid, SubscriptionStatus::Canceled] {
            if status == SubscriptionStatus::Canceled {
                ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap();
            }
            assert_eq!(ann.subscription().await.unwrap().status(), status);
            let minutes = ann.entitled("minutes", 40).await;
            assert_eq!((told(&minutes), minutes.overage), ((true, Some(100), Some(40), "plan:free"), false), "{status:?}");
            let minutes = ann.entitled("minutes", 41).await;
            assert_eq!((minutes.allowed, minutes.denial()), (false, EntitlementDenial::SubscriptionInactive));
            let workspaces = ann.entitled("workspaces", 1).await;
            assert_eq!((told(&workspaces), workspaces.denial()), ((false, None, None, ""), EntitlementDenial::SubscriptionInactive));
        }
        let open: Vec<pb::Invoice> = ann.invoices().await.into_iter().filter(|invoice| invoice.due_minor > 0).collect();
        for invoice in &open {
            billing.pays(invoice).await;
        }
        ann.changes(plan("team")).await.unwrap();
        assert_eq!(told(&ann.entitled("workspaces", 1).await), (true, Some(20), Some(20), "plan:team"));
        world.end().await;
    }

    async fn everybody_in_an_organization_and_every_service_may_ask(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        let cas = ann.brings("cas", "member").await;
        assert_eq!(told(&cas.entitled("minutes", 0).await), (true, Some(100), Some(100), "plan:free"));
        let ask = |feature: &str, quantity| pb::CheckEntitlementRequest { organization_id: ann.organization_id.clone(), feature: feature.into(), quantity };
        let service = world.service("meetings");
        assert!(answer(service.billing().check_entitlement(ask("minutes", 100)).await).unwrap().allowed);
        let refused = answer(service.billing().check_entitlement(ask("", -1)).await).unwrap_err();
        assert_eq!(refused.fields, ["quantity", "feature"]);
        let bob = world.person("bob").founds("Beta").await;
        let refused = answer(bob.billing().check_entitlement(ask("minutes", 1)).await).unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ORGANIZATION_MISMATCH"));
        let nobody = pb::CheckEntitlementRequest { organization_id: "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6fff".into(), ..ask("minutes", 1) };
        assert_eq!(answer(service.billing().check_entitlement(nobody).await).unwrap_err().is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        world.end().await;
    }
}
