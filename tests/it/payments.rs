//! Payments that a service records, and what happens when none come: grace, reminders, the end; and the worker that sees to it.

use chrono::TimeDelta;
use tenantry::pb::{
    self, CancellationMode, ChangeInvoicing, ChangeTiming, InvoiceState, PaymentState, SubscriptionStatus,
};
use tonic::Code;

use crate::harness::billing::{PLANS, add_on, amounts, billed, moment, plan, seats};
use crate::harness::finance::{numbers, used};
use crate::harness::person::{Person, answer};
use crate::harness::race::{at_once, spread};
use crate::harness::tenant::id_of;
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

const CAME: PaymentState = PaymentState::Succeeded;
const FAILED: PaymentState = PaymentState::Failed;

/// Servers that end dunning in this way.
fn ending_by(end: &str) -> Setup {
    let plans = PLANS.replace("grace_days = 10\n", &format!("grace_days = 10\ndunning_end = \"{end}\"\n"));
    Setup { plans: Some(plans), ..billed() }
}

/// Somebody who founds an organization on the plan for teams, and their first invoice.
async fn on_team(world: &World, name: &str) -> (Person, pb::Invoice) {
    let ann = world.person(name).founds("Acme").await;
    ann.changes(plan("team")).await.expect("the plan");
    let invoice = ann.invoices().await.pop().expect("an invoice");
    (ann, invoice)
}

async fn status(person: &Person) -> SubscriptionStatus {
    person.subscription().await.expect("the subscription").status()
}

/// How often something happened to an organization.
async fn times(world: &World, person: &Person, event: &str) -> usize {
    world.events(&person.organization_id).await.iter().filter(|name| *name == event).count()
}

database_tests! {
    async fn what_was_to_begin_while_there_was_no_service_begins_when_there_is(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        world.passes(TimeDelta::days(10)).await;
        ann.changes(pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..plan("free") }).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { timing: ChangeTiming::PeriodEnd.into(), ..plan("team") }).await.unwrap();
        for days in [5, 11, 40] {
            world.passes(TimeDelta::days(days)).await;
        }
        assert_eq!(status(&ann).await, SubscriptionStatus::Unpaid);
        let invoices = ann.invoices().await;
        let paid = service.pays(&invoices[0]).await.subscription.unwrap();
        assert_eq!((paid.status(), paid.plan_id.as_str()), (SubscriptionStatus::Active, "team"));
        assert_eq!(moment(paid.current_period_start_time), world.clock.now());
        // The one month that begins, and none of those before.
        assert_eq!(ann.invoices().await.len(), invoices.len() + 1);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn an_invoice_is_paid_whole_or_in_parts(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        let part = service.records(&invoice, CAME, 1_200, "bank 1").await.unwrap();
        let (payment, partly) = (part.payment.unwrap(), part.invoice.unwrap());
        assert_eq!((payment.state(), payment.amount_minor, payment.provider.as_str(), payment.reference.as_str()), (CAME, 1_200, "manual", "bank 1"));
        assert_eq!((payment.currency_code.as_str(), payment.end_time, payment.failure.as_str()), ("EUR", Some(world.wire_time()), ""));
        assert_eq!((partly.state(), partly.paid_minor, partly.due_minor), (InvoiceState::Open, 1_200, 800));
        assert_eq!(partly.payments, [payment]);
        world.pass(TimeDelta::days(1));
        let whole = service.records(&invoice, CAME, 800, "bank 2").await.unwrap().invoice.unwrap();
        assert_eq!((whole.state(), whole.paid_minor, whole.due_minor, whole.close_time), (InvoiceState::Paid, 2_000, 0, Some(world.wire_time())));
        assert_eq!(whole.payments.iter().map(|payment| payment.reference.as_str()).collect::<Vec<_>>(), ["bank 1", "bank 2"]);
        let names = world.events(&ann.organization_id).await;
        let told: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.starts_with("payment.") || name.starts_with("invoice.")).collect();
        assert_eq!(told, ["invoice.finalized", "payment.succeeded", "payment.succeeded", "invoice.paid"]);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_is_wrong_with_a_payment_is_refused(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        let (bob, other) = on_team(&world, "bob").await;
        let refused = service.records(&invoice, CAME, 2_001, "bank 1").await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "PAYMENT_EXCEEDS_DUE"));
        assert_eq!((refused.metadata["due_minor"].as_str(), refused.metadata["amount_minor"].as_str()), ("2000", "2001"));
        let yen = pb::Invoice { currency_code: "JPY".into(), ..invoice.clone() };
        let refused = service.records(&yen, CAME, 2_000, "bank 1").await.unwrap_err();
        assert_eq!((refused.is(), refused.metadata["currency_code"].as_str()), ((Code::FailedPrecondition, "CURRENCY_MISMATCH"), "EUR"));
        let foreign = pb::Invoice { invoice_id: other.invoice_id.clone(), ..invoice.clone() };
        assert_eq!(service.records(&foreign, CAME, 2_000, "bank 1").await.unwrap_err().is(), (Code::NotFound, "INVOICE_NOT_FOUND"));
        assert_eq!(ann.records(&invoice, CAME, 2_000, "bank 1").await.unwrap_err().is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        let nothing = pb::RecordPaymentRequest { organization_id: ann.organization_id.clone(), ..Default::default() };
        let refused = answer(service.billing().record_payment(nothing).await).unwrap_err();
        assert_eq!(refused.fields, ["state", "amount_minor", "currency_code", "invoice_id", "reference"]);
        for (amount, state) in [(-5, CAME), (i64::MAX, CAME), (i64::MIN, FAILED), (0, FAILED)] {
            assert_eq!(service.records(&invoice, state, amount, "bank 1").await.unwrap_err().fields, ["amount_minor"]);
        }
        for state in [PaymentState::Pending, PaymentState::Unspecified] {
            assert_eq!(service.records(&invoice, state, 1, "bank 1").await.unwrap_err().fields, ["state"]);
        }
        // Nothing of all that was kept.
        assert_eq!(ann.invoices().await, [invoice]);
        assert_eq!(bob.invoices().await, [other]);
        world.end().await;
    }

    async fn only_an_open_invoice_can_be_paid(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        ann.changes(seats(6)).await.unwrap();
        let draft = ann.invoices().await.pop().unwrap();
        service.pays(&invoice).await;
        let (_, void) = on_team(&world, "bob").await;
        service.voids(&void).await.unwrap();
        for (closed, state) in [(draft, "DRAFT"), (invoice, "PAID"), (void, "VOID")] {
            for payment in [CAME, FAILED] {
                let refused = service.records(&closed, payment, 1, "another").await.unwrap_err();
                assert_eq!(refused.is(), (Code::FailedPrecondition, "INVOICE_NOT_OPEN"));
                assert_eq!(refused.metadata["state"], state);
            }
        }
        world.end().await;
    }

    async fn a_payment_is_recorded_once(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        let request = pb::RecordPaymentRequest {
            organization_id: invoice.organization_id.clone(),
            invoice_id: invoice.invoice_id.clone(),
            state: CAME.into(),
            amount_minor: 500,
            currency_code: "EUR".into(),
            reference: "bank 1".into(),
            request_id: "8f3b3a4e-5d0f-4a53-9d0f-0d5f2a7b1c11".into(),
            ..Default::default()
        };
        let rehearsed = pb::RecordPaymentRequest { validate_only: true, request_id: String::new(), ..request.clone() };
        assert_eq!(answer(service.billing().record_payment(rehearsed).await).unwrap().invoice.unwrap().paid_minor, 500);
        let first = answer(service.billing().record_payment(request.clone()).await).unwrap();
        let again = answer(service.billing().record_payment(request.clone()).await).unwrap();
        assert_eq!(first, again);
        let other = pb::RecordPaymentRequest { amount_minor: 501, ..request.clone() };
        assert_eq!(answer(service.billing().record_payment(other).await).unwrap_err().reason, "REQUEST_ID_REUSED");
        // Without the id of the request, the reference tells.
        let refused = service.records(&invoice, CAME, 500, "bank 1").await.unwrap_err();
        assert_eq!(refused.is(), (Code::AlreadyExists, "PAYMENT_REFERENCE_USED"));
        assert_eq!((refused.metadata["reference"].as_str(), refused.metadata["invoice_id"].as_str()), ("bank 1", invoice.invoice_id.as_str()));
        // For another invoice of the organization too; another organization has references of its own.
        ann.changes(pb::UpdateSubscriptionRequest { invoicing: ChangeInvoicing::Now.into(), ..seats(6) }).await.unwrap();
        let second = ann.invoices().await.pop().unwrap();
        assert_eq!(service.records(&second, CAME, 1_000, "bank 1").await.unwrap_err().metadata["invoice_id"], invoice.invoice_id);
        let (_, others) = on_team(&world, "bob").await;
        service.records(&others, CAME, 2_000, "bank 1").await.unwrap();
        assert_eq!(ann.invoice(&invoice.invoice_id).await.paid_minor, 500);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn one_request_to_two_servers_at_once_is_one_payment_and_one_answer(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..billed() }).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        let request = pb::RecordPaymentRequest {
            organization_id: invoice.organization_id.clone(),
            invoice_id: invoice.invoice_id.clone(),
            state: CAME.into(),
            amount_minor: 700,
            currency_code: "EUR".into(),
            reference: "bank 1".into(),
            request_id: "8f3b3a4e-5d0f-4a53-9d0f-0d5f2a7b1c12".into(),
            ..Default::default()
        };
        let calls = (0..8).map(|number| {
            let (service, request) = (spread(&world, &service, number), request.clone());
            async move { answer(service.billing().record_payment(request).await) }
        });
        let answers = at_once(calls).await;
        assert!(answers.iter().all(|answer| answer.is_ok() && *answer == answers[0]), "{answers:?}");
        assert_eq!(ann.invoice(&invoice.invoice_id).await.paid_minor, 700);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn of_payments_recorded_at_once_each_counts_once_and_no_more_than_is_due(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..billed() }).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        let calls = (0..12).map(|number| {
            let (service, invoice) = (spread(&world, &service, number), invoice.clone());
            // Each of six payments twice.
            async move { service.records(&invoice, CAME, 600, &format!("bank {}", number / 2)).await }
        });
        let outcomes = at_once(calls).await;
        let count = |reason: &str| outcomes.iter().filter(|outcome| outcome.as_ref().err().is_some_and(|refused| refused.reason == reason)).count();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
        assert_eq!((count("PAYMENT_REFERENCE_USED"), count("PAYMENT_EXCEEDS_DUE")), (3, 6));
        let invoice = ann.invoice(&invoice.invoice_id).await;
        assert_eq!((invoice.paid_minor, invoice.due_minor, invoice.payments.len()), (1_800, 200, 3));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }
}

database_tests! {
    async fn a_payment_that_failed_makes_the_subscription_past_due_and_the_next_one_brings_it_back(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        world.passes(TimeDelta::days(3)).await;
        let failed = service.records(&invoice, FAILED, 2_000, "bank 1").await.unwrap();
        let (payment, still) = (failed.payment.unwrap(), failed.invoice.unwrap());
        assert_eq!((payment.state(), payment.failure.as_str()), (FAILED, "not paid"));
        assert_eq!((still.state(), still.paid_minor, still.due_minor), (InvoiceState::Open, 0, 2_000));
        let overdue = failed.subscription.unwrap();
        assert_eq!((overdue.status(), overdue.past_due_time), (SubscriptionStatus::PastDue, Some(world.wire_time())));
        assert_eq!(overdue.grace_end_time, Some(world.wire_time_in(TimeDelta::days(10))));
        assert_eq!(overdue.next_payment_attempt_time, Some(world.wire_time_in(TimeDelta::days(2))));
        // A part is not enough.
        assert_eq!(service.records(&invoice, CAME, 1_999, "bank 2").await.unwrap().subscription.unwrap().status(), SubscriptionStatus::PastDue);
        let recovered = service.records(&invoice, CAME, 1, "bank 3").await.unwrap().subscription.unwrap();
        assert_eq!((recovered.status(), recovered.past_due_time, recovered.grace_end_time), (SubscriptionStatus::Active, None, None));
        assert_eq!(recovered.next_payment_attempt_time, None);
        let names = world.events(&ann.organization_id).await;
        let told: Vec<&str> = names.iter().map(String::as_str).skip_while(|name| *name != "payment.failed").collect();
        assert_eq!(told, ["payment.failed", "subscription.past_due", "payment.succeeded", "payment.succeeded", "invoice.paid", "subscription.recovered"]);
        world.passes(TimeDelta::days(40)).await;
        assert_eq!(times(&world, &ann, "subscription.payment_retried").await, 0);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_is_not_paid_by_its_date_is_past_due_from_that_moment(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (ann, invoice) = on_team(&world, "ann").await;
        world.passes(TimeDelta::days(14) - TimeDelta::seconds(1)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::Active);
        world.passes(TimeDelta::seconds(1)).await;
        assert_eq!(moment(invoice.due_time), world.clock.now());
        let overdue = ann.subscription().await.unwrap();
        assert_eq!((overdue.status(), overdue.past_due_time), (SubscriptionStatus::PastDue, Some(world.wire_time())));
        // Said once.
        world.sweeps().await;
        assert_eq!(times(&world, &ann, "subscription.past_due").await, 1);
        world.end().await;
    }

    async fn whoever_is_past_due_may_shrink_and_not_grow(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        ann.changes(seats(9)).await.unwrap();
        for name in ["bob", "cas", "dee", "eve"] {
            ann.brings(name, "member").await;
        }
        let dee = world.person("dee").acting_in(&ann.organization_id, "member");
        let waiting = ann.invites(&["fay@example.com", "gus@example.com"], "member").await;
        for (days, now) in [(14, SubscriptionStatus::PastDue), (10, SubscriptionStatus::Unpaid)] {
            world.passes(TimeDelta::days(days)).await;
            assert_eq!(status(&ann).await, now);
            let past_due = (Code::FailedPrecondition, "SUBSCRIPTION_PAST_DUE");
            let year = pb::UpdateSubscriptionRequest { billing_period: pb::BillingPeriod::Year.into(), ..plan("team") };
            let later = pb::UpdateSubscriptionRequest { timing: ChangeTiming::PeriodEnd.into(), ..seats(20) };
            for wish in [seats(10), plan("business"), year, later, crate::harness::billing::add_on("storage", 1)] {
                assert_eq!(ann.changes(wish.clone()).await.unwrap_err().is(), past_due, "{wish:?}");
                assert_eq!(ann.previews(wish).await.unwrap().blockers[0].reason, "SUBSCRIPTION_PAST_DUE");
            }
            assert_eq!(ann.tries_to_invite(&["hal@example.com"], "member").await.unwrap_err().is(), past_due);
            if now == SubscriptionStatus::PastDue {
                ann.tries_to_suspend("bob").await.unwrap();
                assert_eq!(ann.tries_to_reactivate("bob").await.unwrap_err().is(), past_due);
                ann.tries_to_cancel(&[id_of(&waiting[0])]).await.expect("its time is over, its row can be canceled all the same");
                ann.tries_to_remove("cas").await.unwrap();
                assert!(ann.changes(seats(8)).await.unwrap().subscription.unwrap().scheduled_change.is_some());
                let fewer = pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..seats(7) };
                assert_eq!(ann.changes(fewer).await.unwrap().subscription.unwrap().seats, 7);
            } else {
                dee.tries_to_leave().await.unwrap();
                let fewer = pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..seats(5) };
                assert_eq!(ann.changes(fewer).await.unwrap().subscription.unwrap().seats, 5);
            }
        }
        // Whoever pays grows again.
        for invoice in ann.invoices().await.into_iter().filter(|invoice| invoice.due_minor > 0) {
            service.pays(&invoice).await;
        }
        assert_eq!(ann.invoice(&invoice.invoice_id).await.state(), InvoiceState::Paid);
        assert_eq!(status(&ann).await, SubscriptionStatus::Active);
        ann.tries_to_reactivate("bob").await.unwrap();
        ann.changes(seats(10)).await.unwrap();
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn nothing_grows_by_a_back_door_while_payment_is_past_due(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        let later = |wish: pb::UpdateSubscriptionRequest| pb::UpdateSubscriptionRequest { timing: ChangeTiming::PeriodEnd.into(), ..wish };
        ann.changes(later(seats(50))).await.unwrap();
        world.passes(TimeDelta::days(23)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::PastDue);
        // An add-on that costs nothing yet; and from a year to a month that costs more.
        let refused = ann.changes(add_on("more_minutes", 1)).await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SUBSCRIPTION_PAST_DUE"));
        // What was scheduled before comes to nothing.
        world.passes(TimeDelta::days(8)).await;
        let renewed = ann.subscription().await.unwrap();
        assert_eq!((renewed.seats, renewed.scheduled_change), (5, None));
        assert_eq!(times(&world, &ann, "subscription.scheduled_change_dropped").await, 1);
        // Everything that stands against a change is told, not the first alone.
        let blocked = ann.previews(pb::UpdateSubscriptionRequest { seats: Some(251), ..add_on("parsecs", 1) }).await.unwrap();
        let reasons: Vec<&str> = blocked.blockers.iter().map(|blocker| blocker.reason.as_str()).collect();
        assert_eq!(reasons, ["SEATS_OUTSIDE_PLAN", "ADD_ON_NOT_FOUND", "SUBSCRIPTION_PAST_DUE"]);
        // What shrinks may still be scheduled.
        ann.changes(later(seats(2))).await.unwrap();
        assert_eq!(invoice.number, 1);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn a_smaller_plan_is_no_growth_whatever_seats_it_includes(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(3), ..plan("team") }).await.unwrap();
        ann.changes(plan("free")).await.unwrap();
        world.passes(TimeDelta::days(23)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::PastDue);
        // The free plan includes four, and there are three.
        world.passes(TimeDelta::days(8)).await;
        let free = ann.subscription().await.unwrap();
        assert_eq!((free.plan_id.as_str(), free.seats), ("free", 3));
        assert_eq!(ann.invoices().await.len(), 1);
        world.end().await;
    }

    async fn what_was_used_is_charged_when_dunning_ends_the_subscription(backend: Backend) {
        let world = World::with(backend, ending_by("cancel")).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        ann.changes(add_on("more_minutes", 1)).await.unwrap();
        service.records(&invoice, FAILED, 2_000, "bank 1").await.unwrap();
        world.passes(TimeDelta::days(1)).await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 101_000, world.clock.now())]).await.unwrap();
        world.passes(TimeDelta::days(21)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::Canceled);
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [70_000]);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn an_invitation_that_holds_its_seat_is_accepted_while_payment_is_past_due(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (ann, invoice) = on_team(&world, "ann").await;
        let sent = ann.invites(&["bob@example.com"], "member").await;
        world.service("billing").records(&invoice, FAILED, 2_000, "bank 1").await.unwrap();
        world.person("bob").accepts(&sent[0].token).await;
        assert_eq!(ann.seats().await, "2 / 5 seats");
        world.end().await;
    }

    async fn payment_is_asked_for_again_on_the_steps_of_the_ladder(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (ann, invoice) = on_team(&world, "ann").await;
        world.service("billing").records(&invoice, FAILED, 2_000, "bank 1").await.unwrap();
        let mut told = Vec::new();
        for day in 1..=40 {
            let before = times(&world, &ann, "subscription.payment_retried").await;
            world.passes(TimeDelta::days(1)).await;
            if times(&world, &ann, "subscription.payment_retried").await > before {
                told.push(day);
            }
            let expected = if day < 10 { SubscriptionStatus::PastDue } else { SubscriptionStatus::Unpaid };
            assert_eq!(status(&ann).await, expected, "on day {day}");
        }
        assert_eq!(told, [2, 7, 14, 21]);
        assert_eq!(times(&world, &ann, "subscription.unpaid").await, 1);
        // Whoever gets no service is charged no further period.
        assert_eq!(numbers(&ann.invoices().await), [1]);
        assert_eq!(world.service("billing").drifts().await, []);
        world.end().await;
    }

    async fn whoever_pays_within_the_period_goes_on_in_it_and_later_begins_a_new_one(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, "ann").await;
        let (bob, late) = on_team(&world, "bob").await;
        world.passes(TimeDelta::days(14)).await;
        world.passes(TimeDelta::days(11)).await;
        assert_eq!((status(&ann).await, status(&bob).await), (SubscriptionStatus::Unpaid, SubscriptionStatus::Unpaid));
        let back = service.pays(&first).await.subscription.unwrap();
        assert_eq!(back.status(), SubscriptionStatus::Active);
        assert_eq!(moment(back.current_period_end_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        world.passes(TimeDelta::days(20)).await;
        assert_eq!(numbers(&ann.invoices().await), [1, 2]);
        // Bob pays two weeks after his period is over: the time without service is not charged.
        assert_eq!(numbers(&bob.invoices().await), [1]);
        let paid = world.clock.now();
        let back = service.pays(&late).await.subscription.unwrap();
        assert_eq!(back.status(), SubscriptionStatus::Active);
        assert_eq!(moment(back.current_period_start_time), paid);
        assert_eq!(moment(back.current_period_end_time).to_rfc3339(), "2026-03-19T09:00:00+00:00");
        let invoices = bob.invoices().await;
        assert_eq!((numbers(&invoices), amounts(&invoices[1].lines)), (vec![1, 2], vec![2_000]));
        assert_eq!(moment(invoices[1].lines[0].period_start_time), paid);
        assert_eq!(times(&world, &bob, "subscription.recovered").await, 1);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn whoever_pays_all_that_is_overdue_is_past_due_no_more_though_the_next_invoice_is_open(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, "ann").await;
        service.records(&first, CAME, 1_000, "bank 1").await.unwrap();
        world.passes(TimeDelta::days(13)).await;
        service.corrects(&first, 999, pb::CreditNoteOutcome::CreditBalance).await.unwrap();
        world.passes(TimeDelta::days(1)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::PastDue);
        service.records(&first, CAME, 1, "bank 2").await.unwrap();
        world.passes(TimeDelta::days(15)).await;
        // Two days before the end of the period another payment goes wrong.
        ann.changes(pb::UpdateSubscriptionRequest { invoicing: ChangeInvoicing::Now.into(), ..seats(6) }).await.unwrap();
        let small = ann.invoices().await.pop().unwrap();
        service.records(&small, FAILED, small.due_minor, "bank 3").await.unwrap();
        world.passes(TimeDelta::days(3)).await;
        let renewed = ann.invoices().await.pop().unwrap();
        assert_eq!((renewed.number, renewed.state()), (3, InvoiceState::Open));
        assert_eq!(service.pays(&small).await.subscription.unwrap().status(), SubscriptionStatus::Active);
        // The next one is due when it is due.
        world.passes(TimeDelta::days(13)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::Active);
        world.passes(TimeDelta::days(1)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::PastDue);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn a_subscription_that_is_to_end_ends_though_it_is_unpaid(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (ann, _) = on_team(&world, "ann").await;
        ann.cancels(CancellationMode::PeriodEnd).await.unwrap();
        world.passes(TimeDelta::days(14)).await;
        world.passes(TimeDelta::days(10)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::Unpaid);
        world.passes(TimeDelta::days(7)).await;
        let ended = ann.subscription().await.unwrap();
        assert_eq!(ended.status(), SubscriptionStatus::Canceled);
        assert_eq!(moment(ended.end_time).to_rfc3339(), "2026-02-05T09:00:00+00:00");
        world.end().await;
    }

    async fn dunning_ends_the_subscription_and_what_is_owed_stays_owed(backend: Backend) {
        let world = World::with(backend, ending_by("cancel")).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        service.records(&invoice, FAILED, 2_000, "bank 1").await.unwrap();
        world.passes(TimeDelta::days(21)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::Unpaid);
        world.passes(TimeDelta::days(1)).await;
        let ended = ann.subscription().await.unwrap();
        assert_eq!((ended.status(), ended.seats), (SubscriptionStatus::Canceled, 4));
        // Still overdue, but with no service left to end, nor anything that is tried again.
        assert_eq!(ended.past_due_time, Some(world.wire_time_in(TimeDelta::days(-22))));
        assert_eq!((ended.grace_end_time, ended.next_payment_attempt_time), (None, None));
        assert_eq!(ann.invoice(&invoice.invoice_id).await.state(), InvoiceState::Open);
        // It can be paid, and another attempt can fail; neither begins anything.
        service.records(&invoice, FAILED, 2_000, "bank 2").await.unwrap();
        let refused = ann.changes(plan("team")).await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SUBSCRIPTION_PAST_DUE"));
        let paid = service.pays(&invoice).await;
        assert_eq!(ann.subscription().await.unwrap().past_due_time, None);
        assert_eq!((paid.invoice.unwrap().state(), paid.subscription.unwrap().status()), (InvoiceState::Paid, SubscriptionStatus::Canceled));
        world.passes(TimeDelta::days(60)).await;
        assert_eq!(numbers(&ann.invoices().await), [1]);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_is_owed_is_still_owed_when_a_subscription_begins_anew(backend: Backend) {
        let world = World::with(backend, ending_by("cancel")).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, "ann").await;
        world.passes(TimeDelta::days(10)).await;
        // Its time has not come yet.
        ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        world.passes(TimeDelta::days(4)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::PastDue);
        let second = ann.invoices().await.pop().unwrap();
        assert_eq!((second.number, second.state()), (2, InvoiceState::Open));
        service.pays(&second).await;
        assert_eq!(service.pays(&first).await.subscription.unwrap().status(), SubscriptionStatus::Active);
        world.end().await;
    }

    async fn to_end_and_begin_anew_is_no_way_around_what_is_overdue(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, "ann").await;
        let begins = async |wish: &str| ann.changes(plan(wish)).await.map_err(|refused| refused.reason);
        world.passes(TimeDelta::days(20)).await;
        assert_eq!(status(&ann).await, SubscriptionStatus::PastDue);
        ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap();
        for plan_id in ["team", "free"] {
            assert_eq!(begins(plan_id).await.unwrap_err(), "SUBSCRIPTION_PAST_DUE");
            assert_eq!(ann.previews(plan(plan_id)).await.unwrap().blockers[0].reason, "SUBSCRIPTION_PAST_DUE");
        }
        service.pays(&first).await;
        begins("team").await.unwrap();
        // Nor is it when the time came only afterwards, with nobody looking any more.
        ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap();
        world.passes(TimeDelta::days(14)).await;
        assert_eq!(begins("team").await.unwrap_err(), "SUBSCRIPTION_PAST_DUE");
        // What nobody expects to be paid any more stands in nobody's way.
        service.gives_up(&ann.invoices().await.pop().unwrap()).await.unwrap();
        begins("team").await.unwrap();
        assert_eq!(status(&ann).await, SubscriptionStatus::Active);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn dunning_that_writes_off_gives_up_all_that_is_owed(backend: Backend) {
        let world = World::with(backend, ending_by("write_off")).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, "ann").await;
        // What waits for the next invoice is owed too.
        ann.changes(seats(6)).await.unwrap();
        service.records(&invoice, FAILED, 2_000, "bank 1").await.unwrap();
        world.passes(TimeDelta::days(22)).await;
        let ended = ann.subscription().await.unwrap();
        assert_eq!((ended.status(), ended.seats), (SubscriptionStatus::Canceled, 4));
        let invoices = ann.invoices().await;
        assert_eq!(invoices.iter().map(|invoice| (invoice.number, invoice.state())).collect::<Vec<_>>(), [
            (1, InvoiceState::Uncollectible),
            (2, InvoiceState::Uncollectible),
        ]);
        assert_eq!(times(&world, &ann, "invoice.uncollectible").await, 2);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }
}

database_tests! {
    async fn a_worker_that_was_down_for_months_catches_up_period_by_period(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, "ann").await;
        service.pays(&first).await;
        world.pass(TimeDelta::days(3));
        ann.changes(seats(8)).await.unwrap();
        ann.changes(seats(6)).await.unwrap();
        // January's end, February's, March's and April's go by with nobody there.
        world.passes_to("2026-05-20T12:00:00Z").await;
        let invoices = ann.invoices().await;
        assert_eq!(numbers(&invoices), [1, 2, 3, 4, 5]);
        let starts: Vec<String> = invoices[1..].iter().map(|invoice| moment(invoice.lines.last().unwrap().period_start_time).to_rfc3339()).collect();
        assert_eq!(starts, ["2026-02-05T09:00:00+00:00", "2026-03-05T09:00:00+00:00", "2026-04-05T09:00:00+00:00", "2026-05-05T09:00:00+00:00"]);
        assert_eq!(amounts(&invoices[1].lines), [2_710, 2_000, 1_000]);
        assert!(invoices[2..].iter().all(|invoice| amounts(&invoice.lines) == [2_000, 1_000]));
        // Nobody could have paid them before: they are due from now on.
        assert!(invoices[1..].iter().all(|invoice| invoice.due_time == Some(world.wire_time_in(TimeDelta::days(14)))));
        assert_eq!(status(&ann).await, SubscriptionStatus::Active);
        assert_eq!(times(&world, &ann, "subscription.renewed").await, 4);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn who_calls_before_the_worker_has_come_finds_everything_done(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, "ann").await;
        service.pays(&first).await;
        world.pass(TimeDelta::days(31) + TimeDelta::hours(5));
        let foreseen = ann.previews(seats(6)).await.unwrap().outcome.unwrap();
        let made = ann.changes(seats(6)).await.unwrap().outcome.unwrap();
        assert_eq!(amounts(&foreseen.lines), amounts(&made.lines));
        assert_eq!(amounts(&made.lines), [993]);
        let invoices = ann.invoices().await;
        assert_eq!((numbers(&invoices), amounts(&invoices[1].lines)), (vec![1, 2, 0], vec![2_000]));
        world.sweeps().await;
        assert_eq!(ann.invoices().await, invoices);
        world.end().await;
    }

    async fn workers_that_sweep_at_once_do_each_thing_once(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..billed() }).await;
        let mut owners = Vec::new();
        for number in 0..12 {
            owners.push(on_team(&world, &format!("owner{number}")).await.0);
        }
        world.pass(TimeDelta::days(31));
        for _ in 0..3 {
            let sweeps = world.servers.iter().chain(&world.servers).map(|server| {
                let app = std::sync::Arc::clone(&server.app);
                async move { Box::pin(tenantry::worker::sweep(&app, &tokio_util::sync::CancellationToken::new())).await }
            });
            at_once(sweeps).await;
        }
        for ann in &owners {
            assert_eq!(numbers(&ann.invoices().await), [1, 2]);
            assert_eq!(times(&world, ann, "subscription.renewed").await, 1);
            assert_eq!(times(&world, ann, "subscription.past_due").await, 1);
        }
        assert_eq!(world.service("billing").drifts().await, []);
        world.end().await;
    }

    async fn a_poisoned_subscription_is_left_alone_longer_and_longer_and_stops_no_other(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (ann, _) = on_team(&world, "ann").await;
        let (bob, _) = on_team(&world, "bob").await;
        let (cas, paid) = on_team(&world, "cas").await;
        world.service("billing").pays(&paid).await;
        let kept = "CREATE TABLE kept AS SELECT organization_id, agreement FROM subscription";
        world.tampers(kept).await;
        for (person, poison) in [(&ann, "{}"), (&bob, "{\"x\":1}")] {
            let sql = format!("UPDATE subscription SET agreement = '{poison}' WHERE organization_id = {}", of(&world, person));
            world.tampers(&sql).await;
        }
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(numbers(&cas.invoices().await), [1, 2]);
        let failures = format!("SELECT failures FROM subscription WHERE organization_id = {}", of(&world, &ann));
        assert_eq!(world.number(&failures).await, 1);
        // One minute, two, four … a day at most.
        for (pause, failed) in [(59, 1), (1, 2), (60, 2), (60, 3), (240, 4), (479, 4), (1, 5)] {
            world.passes(TimeDelta::seconds(pause)).await;
            assert_eq!(world.number(&failures).await, failed, "after {pause} seconds more");
        }
        for _ in 0..12 {
            world.passes(TimeDelta::days(1)).await;
        }
        assert_eq!(world.number(&failures).await, 17);
        // A reader is told of a defect, and nothing of the inside.
        assert_eq!(ann.subscription().await.unwrap_err().is(), (Code::Internal, "INTERNAL"));
        assert_eq!(ann.seats().await, "1 / 5 seats");
        // Mended, it goes on where it stood.
        world.tampers("UPDATE subscription SET agreement = (SELECT kept.agreement FROM kept WHERE kept.organization_id = subscription.organization_id)").await;
        world.passes(TimeDelta::days(1)).await;
        for person in [&ann, &bob] {
            assert_eq!(numbers(&person.invoices().await), [1, 2]);
        }
        assert_eq!(world.number(&failures).await, 0);
        world.end().await;
    }
}

/// An organization's id as the database writes it.
fn of(world: &World, person: &Person) -> String {
    world.backend.id(&person.organization_id)
}
