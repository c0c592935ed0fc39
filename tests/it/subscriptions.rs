//! Subscriptions and what they cost: plans, seats, add-ons, periods, trials, cancellation.

use chrono::TimeDelta;
use tenantry::pb::{self, CancellationMode, ChangeInvoicing, ChangeTiming, SubscriptionStatus};
use tonic::Code;

use crate::harness::billing::{PLANS, add_on, amounts, billed, moment, plan, seats};
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

database_tests! {
    async fn a_paid_plan_begins_a_period_that_is_charged_at_once(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        let previewed = ann.previews(pb::UpdateSubscriptionRequest { seats: Some(7), ..plan("team") }).await.unwrap();
        assert!(previewed.blockers.is_empty());
        let changed = ann.changes(pb::UpdateSubscriptionRequest { seats: Some(7), ..plan("team") }).await.unwrap();
        let subscription = changed.subscription.unwrap();
        assert_eq!((subscription.plan_id.as_str(), subscription.seats, subscription.status()), ("team", 7, SubscriptionStatus::Active));
        assert_eq!(moment(subscription.current_period_start_time).to_rfc3339(), "2026-01-05T09:00:00+00:00");
        assert_eq!(moment(subscription.current_period_end_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        let outcome = changed.outcome.unwrap();
        assert_eq!(amounts(&outcome.lines), [2_000, 2_000]);
        assert_eq!(previewed.outcome.as_ref().unwrap().lines, outcome.lines);
        assert_eq!(previewed.outcome.unwrap().invoice.unwrap().total_minor, 4_000);
        let invoices = ann.invoices().await;
        assert_eq!(invoices.len(), 1);
        assert_eq!((invoices[0].number, invoices[0].total_minor, invoices[0].due_minor), (1, 4_000, 4_000));
        assert_eq!(invoices[0].state(), pb::InvoiceState::Open);
        assert_eq!(amounts(&invoices[0].lines), [2_000, 2_000]);
        assert_eq!(ann.seats().await, "1 / 7 seats");
        assert_eq!(world.service("billing").drifts().await, []);
        world.end().await;
    }

    async fn a_change_within_the_period_waits_for_the_next_invoice_unless_it_is_asked_for(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        world.service("billing").pays(&ann.invoices().await[0]).await;
        // Ten of thirty-one days are left.
        world.passes(TimeDelta::days(21)).await;
        let wish = seats(7);
        let previewed = ann.previews(wish.clone()).await.unwrap().outcome.unwrap();
        let outcome = ann.changes(wish).await.unwrap().outcome.unwrap();
        assert_eq!(previewed, outcome);
        assert_eq!(amounts(&outcome.lines), [645]);
        assert!(outcome.invoice.is_none());
        assert_eq!(outcome.next_invoice.unwrap().total_minor, 645 + 2_000 + 2_000);
        let invoices = ann.invoices().await;
        assert_eq!((invoices.len(), invoices[1].state(), invoices[1].number), (2, pb::InvoiceState::Draft, 0));
        // At the same instant back again: nothing was charged.
        let back = pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..seats(5) };
        assert_eq!(amounts(&ann.changes(back).await.unwrap().outcome.unwrap().lines), [-645]);
        // And up again, to be charged now.
        let now = pb::UpdateSubscriptionRequest { invoicing: ChangeInvoicing::Now.into(), ..seats(7) };
        let invoice = ann.changes(now).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!((invoice.number, invoice.total_minor, amounts(&invoice.lines)), (2, 645, vec![645, -645, 645]));
        world.passes(TimeDelta::days(10)).await;
        let invoices = ann.invoices().await;
        assert_eq!(invoices.iter().map(|invoice| invoice.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(invoices[2].total_minor, 4_000);
        world.end().await;
    }

    async fn what_shrinks_does_so_at_the_end_of_the_period_and_no_further_than_what_is_used_then(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(10), ..plan("team") }).await.unwrap();
        world.passes(TimeDelta::days(3)).await;
        let changed = ann.changes(seats(5)).await.unwrap();
        assert_eq!(changed.outcome.unwrap().lines, []);
        let scheduled = changed.subscription.unwrap().scheduled_change.unwrap();
        assert_eq!((scheduled.seats, moment(scheduled.effective_time).to_rfc3339()), (Some(5), "2026-02-05T09:00:00+00:00".into()));
        assert_eq!(ann.seats().await, "1 / 10 seats");
        // A second thought replaces it; the number that it has clears it.
        assert_eq!(ann.changes(seats(6)).await.unwrap().subscription.unwrap().scheduled_change.unwrap().seats, Some(6));
        assert_eq!(ann.changes(seats(10)).await.unwrap().subscription.unwrap().scheduled_change, None);
        ann.changes(seats(5)).await.unwrap();
        for name in ["bob", "cas", "dee", "eve", "fay", "gil"] {
            ann.brings(name, "member").await;
        }
        world.passes(TimeDelta::days(28)).await;
        assert_eq!(ann.seats().await, "7 / 7 seats");
        assert!(world.events(&ann.organization_id).await.contains(&"subscription.seats_clamped".to_owned()));
        assert_eq!(ann.invoices().await[1].total_minor, 2_000 + 2 * 1_000);
        world.end().await;
    }

    async fn another_plan_is_paid_for_by_what_is_left_of_the_first(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        // One of thirty-one days is gone, and some hours that the day-wise plan does not count.
        world.passes(TimeDelta::days(1) + TimeDelta::hours(6)).await;
        let changed = ann.changes(plan("business")).await.unwrap();
        let lines = amounts(&changed.outcome.unwrap().lines);
        let whole = 31 * 24;
        assert_eq!(lines, [-(2_000 * (whole - 30) + whole / 2) / whole, (10_000 * 30 + 15) / 31]);
        assert_eq!(changed.subscription.as_ref().unwrap().seats, 20);
        // Down again takes effect at the end of the period.
        let changed = ann.changes(plan("team")).await.unwrap();
        assert_eq!(changed.subscription.as_ref().unwrap().plan_id, "business");
        assert_eq!(changed.subscription.unwrap().scheduled_change.unwrap().plan_id, "team");
        world.passes(TimeDelta::days(31)).await;
        let subscription = ann.subscription().await.unwrap();
        assert_eq!((subscription.plan_id.as_str(), subscription.seats), ("team", 5));
        assert_eq!(amounts(&ann.invoices().await[1].lines)[2..], [2_000]);
        world.end().await;
    }

    async fn a_year_instead_of_a_month_begins_anew_and_credits_the_rest(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(6), ..plan("team") }).await.unwrap();
        world.passes(TimeDelta::days(10)).await;
        let year = pb::UpdateSubscriptionRequest { billing_period: pb::BillingPeriod::Year.into(), ..plan("team") };
        let invoice = ann.changes(year).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!(amounts(&invoice.lines), [-1_355, -677, 20_000, 10_000]);
        let subscription = ann.subscription().await.unwrap();
        assert_eq!(moment(subscription.current_period_end_time).to_rfc3339(), "2027-01-15T09:00:00+00:00");
        world.passes(TimeDelta::days(365)).await;
        assert_eq!(ann.invoices().await.last().unwrap().total_minor, 30_000);
        world.end().await;
    }

    async fn the_last_day_of_a_month_returns_after_a_shorter_one(backend: Backend) {
        let world = World::with(backend, billed()).await;
        world.passes_to("2026-01-31T23:30:00Z").await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        world.passes_to("2026-06-10T00:00:00Z").await;
        let starts: Vec<String> = ann.invoices().await.iter().map(|invoice| moment(invoice.lines[0].period_start_time).date_naive().to_string()).collect();
        assert_eq!(starts, ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]);
        world.end().await;
    }

    async fn a_trial_is_free_and_had_once(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        let subscription = ann.changes(plan("tried")).await.unwrap().subscription.unwrap();
        assert_eq!(subscription.status(), SubscriptionStatus::Trialing);
        assert_eq!(moment(subscription.trial_end_time).to_rfc3339(), "2026-01-19T09:00:00+00:00");
        assert_eq!(ann.invoices().await, []);
        // More seats within the trial cost nothing yet.
        assert_eq!(ann.changes(seats(8)).await.unwrap().outcome.unwrap().lines, []);
        world.passes(TimeDelta::days(14)).await;
        let subscription = ann.subscription().await.unwrap();
        assert_eq!(subscription.status(), SubscriptionStatus::Active);
        assert_eq!(moment(subscription.current_period_end_time).to_rfc3339(), "2026-02-19T09:00:00+00:00");
        let invoices = ann.invoices().await;
        assert_eq!(amounts(&invoices[0].lines), [3_000, 2_500]);
        let names = world.events(&ann.organization_id).await;
        for name in ["subscription.trial_started", "subscription.trial_ended", "invoice.finalized"] {
            assert!(names.contains(&name.to_owned()), "{name}");
        }
        // Once it has ended, there is no other.
        world.service("billing").pays(&invoices[0]).await;
        ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap();
        assert_eq!(ann.changes(plan("tried")).await.unwrap().subscription.unwrap().status(), SubscriptionStatus::Active);
        world.end().await;
    }

    async fn a_trial_can_be_ended_at_its_end_and_that_be_taken_back(backend: Backend) {
        let world = World::with(backend, billed()).await;
        for taken_back in [true, false] {
            let ann = world.person("ann").founds("Acme").await;
            ann.changes(plan("tried")).await.unwrap();
            let ending = ann.cancels(CancellationMode::PeriodEnd).await.unwrap().subscription.unwrap();
            assert_eq!((ending.status(), ending.end_time), (SubscriptionStatus::Trialing, ending.trial_end_time));
            assert!(ending.cancel_at_period_end);
            if taken_back {
                assert!(!ann.resumes().await.unwrap().cancel_at_period_end);
            }
            world.passes(TimeDelta::days(14)).await;
            let (status, invoices) = (ann.subscription().await.unwrap().status(), ann.invoices().await.len());
            let expected = if taken_back { (SubscriptionStatus::Active, 1) } else { (SubscriptionStatus::Canceled, 0) };
            assert_eq!((status, invoices), expected);
        }
        world.end().await;
    }

    async fn a_new_price_is_paid_from_when_somebody_moves_to_it(backend: Backend) {
        let mut world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(6), ..plan("team") }).await.unwrap();
        // The operator starts again with other prices, as the second version of the plan.
        let dearer = PLANS.replacen("title = \"Team\"\n", "title = \"Team\"\nversion = 2\n", 1).replacen("base_price_minor = 2_000\nseat_price_minor = 1_000", "base_price_minor = 2_500\nseat_price_minor = 1_200", 1);
        world.setup.plans = Some(dearer);
        world.switches_policy_to("owner-billing").await;
        let (ann, service) = (ann.at(world.channel()), world.service("billing"));
        service.pays(&ann.invoices().await[0]).await;
        // It renews, and has more seats, at the price that was agreed on.
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(amounts(&ann.invoices().await[1].lines), [2_000, 1_000]);
        service.pays(&ann.invoices().await[1]).await;
        let more = ann.changes(seats(7)).await.unwrap();
        assert_eq!((amounts(&more.outcome.unwrap().lines), more.subscription.unwrap().plan_version), (vec![1_000], 1));
        // Until it is moved: what was paid for is given back as it was charged.
        let newest = pb::UpdateSubscriptionRequest { latest_version: true, ..plan("team") };
        let moved = ann.changes(newest).await.unwrap();
        assert_eq!(amounts(&moved.outcome.unwrap().lines), [-2_000, -1_000, -1_000, 2_500, 2_400]);
        assert_eq!(moved.subscription.unwrap().plan_version, 2);
        world.passes(TimeDelta::days(28)).await;
        assert_eq!(amounts(&ann.invoices().await[2].lines)[6..], [2_500, 2_400]);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn a_cancellation_can_be_taken_back_until_the_period_ends(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        let subscription = ann.cancels(CancellationMode::PeriodEnd).await.unwrap().subscription.unwrap();
        assert!(subscription.cancel_at_period_end);
        assert_eq!(moment(subscription.end_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        assert_eq!(ann.changes(seats(9)).await.unwrap_err().reason, "SUBSCRIPTION_ENDING");
        let blocked = ann.previews(seats(9)).await.unwrap();
        assert_eq!(blocked.blockers[0].reason, "SUBSCRIPTION_ENDING");
        assert!(!ann.resumes().await.unwrap().cancel_at_period_end);
        ann.cancels(CancellationMode::PeriodEnd).await.unwrap();
        for name in ["bob", "cas", "dee", "eve"] {
            ann.brings(name, "member").await;
        }
        world.passes(TimeDelta::days(31)).await;
        let subscription = ann.subscription().await.unwrap();
        assert_eq!(subscription.status(), SubscriptionStatus::Canceled);
        // Nobody is removed, and nobody comes.
        assert_eq!(ann.seats().await, "5 / 4 seats");
        assert_eq!(ann.tries_to_invite(&["gus@example.com"], "member").await.unwrap_err().reason, "SEAT_LIMIT_REACHED");
        assert_eq!(ann.resumes().await.unwrap_err().reason, "SUBSCRIPTION_ENDED");
        assert_eq!(ann.changes(seats(9)).await.unwrap_err().is(), (Code::FailedPrecondition, "SUBSCRIPTION_ENDED"));
        assert_eq!(ann.cancels(CancellationMode::PeriodEnd).await.unwrap_err().reason, "SUBSCRIPTION_ENDED");
        assert_eq!(ann.invoices().await.len(), 1);
        // It begins anew with a plan, when what was had before is paid.
        assert_eq!(ann.changes(plan("team")).await.unwrap_err().reason, "SUBSCRIPTION_PAST_DUE");
        world.service("billing").pays(&ann.invoices().await[0]).await;
        let subscription = ann.changes(plan("team")).await.unwrap().subscription.unwrap();
        assert_eq!((subscription.status(), subscription.seats), (SubscriptionStatus::Active, 5));
        assert_eq!(ann.invoices().await.len(), 2);
        world.end().await;
    }

    async fn who_cancels_now_gets_credit_or_none(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        for (mode, credit) in [(CancellationMode::NowWithCredit, 1_355), (CancellationMode::NowWithoutCredit, 0)] {
            let ann = world.person("ann").founds("Acme").await;
            ann.changes(plan("team")).await.unwrap();
            service.pays(&ann.invoices().await[0]).await;
            world.passes(TimeDelta::days(10)).await;
            let canceled = ann.cancels(mode).await.unwrap();
            assert_eq!(canceled.subscription.unwrap().credit_balance_minor, credit);
            assert_eq!(canceled.invoice.map(|invoice| invoice.total_minor), (credit > 0).then_some(-credit));
            // What is there pays what comes.
            ann.changes(plan("team")).await.unwrap();
            let invoice = ann.invoices().await.pop().unwrap();
            assert_eq!((invoice.credit_applied_minor, invoice.due_minor), (credit, 2_000 - credit));
        }
        world.end().await;
    }

    async fn add_ons_are_charged_by_the_unit_or_once(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        assert_eq!(ann.changes(add_on("storage", 1)).await.unwrap_err().is(), (Code::NotFound, "ADD_ON_NOT_FOUND"));
        ann.changes(plan("team")).await.unwrap();
        let changed = ann.changes(add_on("storage", 3)).await.unwrap();
        assert_eq!(amounts(&changed.outcome.unwrap().lines), [1_500]);
        assert_eq!(changed.subscription.unwrap().add_ons[0].quantity, 3);
        let refused = ann.changes(add_on("storage", 51)).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.fields.as_slice()), ("INVALID_FIELDS", &["add_ons[0].quantity".to_owned()][..]));
        ann.changes(add_on("support", 1)).await.unwrap();
        // Fewer at the end of the period.
        let later = ann.changes(add_on("storage", 1)).await.unwrap().subscription.unwrap().scheduled_change.unwrap();
        assert_eq!((later.add_ons[0].add_on_id.as_str(), later.add_ons[0].quantity), ("storage", 1));
        world.passes(TimeDelta::days(31)).await;
        let invoice = ann.invoices().await.pop().unwrap();
        assert_eq!(amounts(&invoice.lines), [1_500, 4_900, 2_000, 4_900, 500]);
        assert_eq!(ann.subscription().await.unwrap().add_ons.len(), 2);
        world.end().await;
    }

    async fn what_stands_against_a_change_is_told_by_the_preview_too(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        for name in ["bob", "cas"] {
            ann.brings(name, "member").await;
        }
        for (wish, code, reason) in [
            (plan("gold"), Code::NotFound, "PLAN_NOT_FOUND"),
            (pb::UpdateSubscriptionRequest { currency_code: "SEK".into(), ..plan("team") }, Code::NotFound, "PLAN_NOT_FOUND"),
            (pb::UpdateSubscriptionRequest { seats: Some(2), ..plan("team") }, Code::FailedPrecondition, "SEATS_BELOW_USED"),
            (pb::UpdateSubscriptionRequest { seats: Some(251), ..plan("team") }, Code::FailedPrecondition, "SEATS_OUTSIDE_PLAN"),
            (pb::UpdateSubscriptionRequest { seats: Some(i64::MAX), ..plan("huge") }, Code::FailedPrecondition, "AMOUNT_TOO_LARGE"),
        ] {
            assert_eq!(ann.changes(wish.clone()).await.unwrap_err().is(), (code, reason));
            let previewed = ann.previews(wish).await.unwrap();
            assert_eq!(previewed.blockers[0].reason, reason);
            assert_eq!(previewed.subscription.unwrap().plan_id, "free");
        }
        for seats in [0, -1, i64::MIN] {
            let wish = pb::UpdateSubscriptionRequest { seats: Some(seats), ..plan("team") };
            assert_eq!(ann.previews(wish).await.unwrap_err().fields, ["seats"]);
        }
        // Billed in euros once, always in euros.
        ann.changes(plan("team")).await.unwrap();
        let yen = pb::UpdateSubscriptionRequest { currency_code: "JPY".into(), ..plan("team") };
        let refused = ann.changes(yen).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.metadata["currency_code"].as_str()), ("CURRENCY_FIXED", "EUR"));
        assert_eq!(ann.invoices().await.len(), 1);
        world.end().await;
    }

    async fn a_free_plan_of_another_currency_is_no_way_into_that_currency(backend: Backend) {
        let more = r#"
[[plans]]
plan = "gratis"
title = "Gratis"
currency = "JPY"
period = "month"
base_price_minor = 0
seat_price_minor = 0
included_seats = 5
minimum_seats = 1

[[add_ons]]
add_on = "badge"
title = "A badge"
kind = "flat"
plans = ["free", "gratis"]
prices = [
  { currency = "EUR", period = "month", unit_price_minor = 100 },
  { currency = "JPY", period = "month", unit_price_minor = 100 },
]

[[meters]]"#;
        let plans = PLANS.replacen("[[meters]]", more, 1);
        let world = World::with(backend, Setup { plans: Some(plans), ..billed() }).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        service.pays(&ann.invoices().await[0]).await;
        let now = pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..plan("gratis") };
        assert_eq!(ann.changes(now).await.unwrap().subscription.unwrap().price.unwrap().currency_code, "JPY");
        let refused = ann.changes(add_on("badge", 1)).await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "CURRENCY_FIXED"));
        assert_eq!(refused.metadata["currency_code"], "EUR");
        assert_eq!(ann.previews(add_on("badge", 1)).await.unwrap().blockers[0].reason, "CURRENCY_FIXED");
        // Scheduled in one, and billed in another before its time came.
        let bob = world.person("bob").founds("Beta").await;
        let yen = pb::UpdateSubscriptionRequest { currency_code: "JPY".into(), timing: ChangeTiming::PeriodEnd.into(), ..plan("team") };
        bob.changes(yen).await.unwrap();
        bob.changes(add_on("badge", 1)).await.unwrap();
        world.passes(TimeDelta::days(32)).await;
        let kept = bob.subscription().await.unwrap();
        assert_eq!((kept.plan_id.as_str(), kept.scheduled_change), ("free", None));
        assert!(world.events(&bob.organization_id).await.contains(&"subscription.scheduled_change_dropped".to_owned()));
        assert!(bob.invoices().await.iter().all(|invoice| invoice.currency_code == "EUR"));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn a_deleted_organization_is_charged_for_nothing_that_was_scheduled(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        let later = pb::UpdateSubscriptionRequest { timing: ChangeTiming::PeriodEnd.into(), ..plan("team") };
        ann.changes(later).await.unwrap();
        ann.deletes_organization().await;
        world.passes(TimeDelta::days(29)).await;
        world.passes(TimeDelta::hours(20)).await;
        ann.tries_to_undelete().await.unwrap();
        let kept = ann.subscription().await.unwrap();
        assert_eq!((kept.plan_id.as_str(), kept.scheduled_change), ("free", None));
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(ann.invoices().await, []);
        let events = world.events(&ann.organization_id).await;
        assert!(events.contains(&"subscription.scheduled_change_canceled".to_owned()), "{events:?}");
        world.end().await;
    }

    async fn currencies_without_and_with_three_digits_are_charged_as_they_are(backend: Backend) {
        let world = World::with(backend, billed()).await;
        for (currency, charged, prorated) in [("JPY", 4_500, 726), ("KWD", 9_130, 1_454)] {
            let ann = world.person("ann").founds("Acme").await;
            let wish = pb::UpdateSubscriptionRequest { currency_code: currency.into(), seats: Some(6), ..plan("team") };
            ann.changes(wish).await.unwrap();
            assert_eq!(ann.invoices().await[0].total_minor, charged);
            assert_eq!(ann.invoices().await[0].currency_code, currency);
            world.service("billing").pays(&ann.invoices().await[0]).await;
            world.passes(TimeDelta::days(16)).await;
            assert_eq!(amounts(&ann.changes(seats(7)).await.unwrap().outcome.unwrap().lines), [prorated]);
        }
        world.end().await;
    }
}
