//! What is given back of what was charged: never more than came in, however it is given back.

use chrono::TimeDelta;
use tenantry::database::violates;
use tenantry::pb::{
    self, CancellationMode, ChangeInvoicing, ChangeTiming, CreditCause, CreditNoteOutcome, InvoiceState, PaymentState,
};
use tonic::Code;

use crate::harness::billing::{amounts, billed, plan, seats_at_once, seats_now};
use crate::harness::finance::{on_top, within};
use crate::harness::person::Person;
use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

const CREDIT: CreditNoteOutcome = CreditNoteOutcome::CreditBalance;

/// A change to a plan, on an invoice of its own.
fn plan_now(plan_id: &str, number: i64) -> pb::UpdateSubscriptionRequest {
    pb::UpdateSubscriptionRequest { plan_id: plan_id.into(), ..seats_now(number) }
}

/// An owner on the plan for teams, with seats, who owes for the first month.
async fn on_team(world: &World, number: i64) -> (Person, pb::Invoice) {
    let ann = world.person("ann").founds("Acme").await;
    ann.changes(pb::UpdateSubscriptionRequest { seats: Some(number), ..plan("team") }).await.expect("the plan");
    let invoice = ann.invoices().await.pop().expect("an invoice");
    (ann, invoice)
}

fn total(invoices: &[pb::Invoice]) -> i64 {
    invoices.iter().map(|invoice| invoice.total_minor).sum()
}

database_tests! {
    async fn seats_given_back_one_by_one_give_back_the_tax_that_was_paid_and_no_cent_more(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        // Of one seat it is half a cent or nearly so, and ten times half a cent is not ten cents.
        for treatment in [on_top(500), on_top(499), on_top(210_555), within(500), within(190_000)] {
            let ann = world.person("ann").founds("Acme").await;
            service.taxes(&ann.organization_id, Some(treatment.clone())).await.unwrap();
            ann.changes(plan("team")).await.unwrap();
            ann.changes(seats_now(15)).await.unwrap();
            let charged = ann.invoices().await.pop().unwrap();
            service.pays(&charged).await;
            for number in (5..15).rev() {
                let foreseen = ann.previews(seats_now(number)).await.unwrap().outcome.unwrap().invoice.unwrap();
                let made = ann.changes(seats_now(number)).await.unwrap().outcome.unwrap().invoice.unwrap();
                assert_eq!((foreseen.total_minor, amounts(&foreseen.lines)), (made.total_minor, amounts(&made.lines)));
            }
            let invoices = ann.invoices().await;
            assert_eq!(total(&invoices[1..]), 0, "{treatment:?}");
            assert_eq!(invoices[1..].iter().map(|invoice| invoice.tax_minor).sum::<i64>(), 0, "{treatment:?}");
            for credited in &invoices[2..] {
                assert_eq!(credited.lines[0].credited_invoice_id, charged.invoice_id);
                assert_eq!(credited.lines[0].returned_tax_minor, Some(credited.tax_minor));
                assert_eq!(amounts(&credited.lines).iter().sum::<i64>(), credited.total_minor);
            }
            assert_eq!(invoices[1].given_back_minor, charged.total_minor);
        }
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn a_credit_note_gives_back_no_more_than_what_is_left_of_a_charge(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        for ended in [false, true] {
            let (ann, invoice) = on_team(&world, 8).await;
            service.pays(&invoice).await;
            ann.changes(seats_at_once(6)).await.unwrap();
            // It waits on the invoice that is being collected, or has gone into the balance.
            if ended {
                ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
            }
            let left = if ended { 0 } else { 3_000 };
            let refused = service.corrects(&invoice, left + 1, CREDIT).await.unwrap_err();
            assert_eq!(refused.is(), (Code::FailedPrecondition, "CREDIT_EXCEEDS_INVOICE"));
            assert_eq!(refused.metadata["creditable_minor"], left.to_string());
            if left > 0 {
                service.corrects(&invoice, left, CREDIT).await.unwrap();
                assert_eq!(ann.invoice(&invoice.invoice_id).await.given_back_minor, 5_000);
            }
            // All that was paid has come back, and the period that follows changes nothing of that.
            world.passes(TimeDelta::days(31)).await;
            let refused = service.corrects(&invoice, 1, CREDIT).await.unwrap_err();
            assert_eq!(refused.metadata["creditable_minor"], "0");
        }
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn a_credit_note_to_an_upgrade_leaves_what_came_along_of_the_plan_before(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 10).await;
        service.pays(&first).await;
        let to_business = pb::UpdateSubscriptionRequest {
            timing: ChangeTiming::Now.into(),
            invoicing: ChangeInvoicing::Now.into(),
            ..plan("business")
        };
        let upgrade = ann.changes(to_business).await.unwrap().outcome.unwrap().invoice.unwrap();
        // 70.00 of the plan before paid 70.00 of the 100.00; 30.00 were to be paid, and come back.
        assert_eq!((amounts(&upgrade.lines), upgrade.total_minor), (vec![-2_000, -5_000, 10_000], 3_000));
        let upgrade = ann.invoice(&upgrade.invoice_id).await;
        service.pays(&upgrade).await;
        service.corrects(&upgrade, 3_000, CREDIT).await.unwrap();
        let last = ann.cancels(CancellationMode::NowWithCredit).await.unwrap().invoice.unwrap();
        assert_eq!(last.total_minor, -7_000);
        assert_eq!(ann.subscription().await.unwrap().credit_balance_minor, 10_000);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn of_an_invoice_that_is_voided_nothing_waits_to_be_given_back(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, 8).await;
        ann.changes(seats_at_once(6)).await.unwrap();
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [-2_000]);
        let void = service.voids(&invoice).await.unwrap();
        assert_eq!((void.state(), void.given_back_minor), (InvoiceState::Void, 0));
        // And there is no draft of nothing.
        assert_eq!(ann.invoices().await.len(), 1);
        world.passes(TimeDelta::days(31)).await;
        // The month that was not charged was free; the next is charged in full.
        let next = ann.invoices().await.pop().unwrap();
        assert_eq!((amounts(&next.lines), next.due_minor), (vec![2_000, 1_000], 3_000));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn an_invoice_is_not_voided_that_was_given_back_on_another(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 5).await;
        let more = ann.changes(seats_now(8)).await.unwrap().outcome.unwrap().invoice.unwrap();
        // It pays the older one, so that all of the newer is still due.
        ann.changes(seats_now(6)).await.unwrap();
        assert_eq!(ann.invoice(&first.invoice_id).await.state(), InvoiceState::Paid);
        let more = ann.invoice(&more.invoice_id).await;
        assert_eq!((more.due_minor, more.given_back_minor), (3_000, 2_000));
        let refused = service.voids(&more).await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "INVOICE_PARTLY_PAID"));
        // What is left of it can be credited; the rest is owed.
        service.corrects(&more, 1_000, CREDIT).await.unwrap();
        assert_eq!(ann.invoice(&more.invoice_id).await.due_minor, 2_000);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn of_an_invoice_that_is_given_up_only_what_was_used_is_lost(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, 8).await;
        ann.changes(seats_at_once(6)).await.unwrap();
        ann.changes(seats_at_once(7)).await.unwrap();
        let given_up = service.gives_up(&invoice).await.unwrap();
        assert_eq!((given_up.state(), given_up.credit_applied_minor, given_up.due_minor), (InvoiceState::Uncollectible, 2_000, 3_000));
        assert_eq!(ann.credit().await, [(CreditCause::NegativeInvoice, 2_000, 2_000), (CreditCause::Applied, -2_000, 0)]);
        // The seat that was bought again waits for the next invoice as before.
        let waits = ann.invoices().await.into_iter().find(|invoice| invoice.state() == InvoiceState::Draft).unwrap();
        assert_eq!(amounts(&waits.lines), [1_000]);
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [1_000, 2_000, 2_000]);
        assert_eq!(service.drifts().await, []);

        // What was paid of it, by money or by what was charged before, can still be given back.
        let (cas, first) = on_team(&world, 10).await;
        service.pays(&first).await;
        let to_business = pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), invoicing: ChangeInvoicing::Now.into(), ..plan("business") };
        let upgrade = cas.changes(to_business).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!(upgrade.total_minor, 3_000);
        service.gives_up(&upgrade).await.unwrap();
        assert_eq!(cas.cancels(CancellationMode::NowWithCredit).await.unwrap().invoice.unwrap().total_minor, -7_000);

        // Of one that was given back whole nothing is lost.
        let (bob, invoice) = on_team(&world, 8).await;
        service.records(&invoice, pb::PaymentState::Succeeded, 4_000, "bank bob").await.unwrap();
        bob.changes(seats_at_once(6)).await.unwrap();
        let paid = service.gives_up(&invoice).await.unwrap();
        assert_eq!((paid.state(), paid.credit_applied_minor), (InvoiceState::Paid, 1_000));
        assert_eq!(bob.subscription().await.unwrap().credit_balance_minor, 1_000);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_is_lost_with_an_invoice_is_not_given_back_by_the_one_that_its_credit_paid(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 13).await;
        assert_eq!(first.total_minor, 10_000);
        let to_business = pb::UpdateSubscriptionRequest {
            timing: ChangeTiming::Now.into(),
            invoicing: ChangeInvoicing::Now.into(),
            seats: Some(20),
            ..plan("business")
        };
        // All of the first, which nobody has paid, pays a half of the second.
        let second = ann.changes(pb::UpdateSubscriptionRequest { seats: Some(28), ..to_business }).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!((amounts(&second.lines), second.total_minor), (vec![-2_000, -8_000, 10_000, 9_600], 9_600));
        service.pays(&ann.invoice(&second.invoice_id).await).await;
        service.gives_up(&first).await.unwrap();
        let last = ann.cancels(CancellationMode::NowWithCredit).await.unwrap().invoice.unwrap();
        assert_eq!(last.total_minor, -19_600);
        assert_eq!(ann.subscription().await.unwrap().credit_balance_minor, 9_600);

        // And where nobody has paid the second either, nothing is left of both.
        let (bob, first) = on_team(&world, 13).await;
        let to_business = pb::UpdateSubscriptionRequest {
            timing: ChangeTiming::Now.into(),
            invoicing: ChangeInvoicing::Now.into(),
            seats: Some(28),
            ..plan("business")
        };
        let second = bob.changes(to_business).await.unwrap().outcome.unwrap().invoice.unwrap();
        service.gives_up(&first).await.unwrap();
        service.gives_up(&second).await.unwrap();
        let last = bob.cancels(CancellationMode::NowWithCredit).await.unwrap().invoice.unwrap();
        let last = bob.invoice(&last.invoice_id).await;
        assert_eq!((amounts(&last.lines), last.total_minor), (vec![-5_102, -4_898], -10_000));
        assert_eq!(bob.subscription().await.unwrap().credit_balance_minor, 0);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn credit_of_what_is_given_up_pays_that_before_anything_older(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, older) = on_team(&world, 5).await;
        let newer = ann.changes(seats_now(8)).await.unwrap().outcome.unwrap().invoice.unwrap();
        ann.changes(seats_at_once(6)).await.unwrap();
        let newer = service.gives_up(&ann.invoice(&newer.invoice_id).await).await.unwrap();
        assert_eq!((newer.state(), newer.credit_applied_minor, newer.due_minor), (InvoiceState::Uncollectible, 2_000, 1_000));
        assert_eq!(ann.invoice(&older.invoice_id).await.due_minor, 2_000);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_is_lost_is_lost_once_whatever_becomes_of_what_bears_it(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        for fate in ["given up", "void", "credited"] {
            let ann = world.person("ann").founds("Acme").await;
            ann.changes(pb::UpdateSubscriptionRequest { seats: Some(9), ..plan("team") }).await.unwrap();
            let upgraded = ann.changes(plan_now("business", 20)).await.unwrap().outcome.unwrap().invoice.unwrap();
            service.pays(&upgraded).await;
            let more = ann.changes(seats_now(26)).await.unwrap().outcome.unwrap().invoice.unwrap();
            assert_eq!((upgraded.total_minor, more.total_minor), (4_000, 7_200));
            // What the plan before charged nobody pays, and it has paid a part of what came after.
            let first = ann.invoices().await.remove(0);
            service.gives_up(&first).await.unwrap();
            match fate {
                "given up" => drop(service.gives_up(&more).await.unwrap()),
                "void" => drop(service.voids(&more).await.unwrap()),
                _ => drop(service.corrects(&more, 7_200, CREDIT).await.unwrap()),
            }
            // 4,000 is all that was ever paid.
            let last = ann.cancels(CancellationMode::NowWithCredit).await.unwrap().invoice.unwrap();
            assert_eq!(last.total_minor, -10_000, "{fate}");
            assert_eq!(ann.subscription().await.unwrap().credit_balance_minor, 4_000, "{fate}");
        }
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_is_lost_is_lost_also_where_it_waits_to_be_given_back_already(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 13).await;
        let upgraded = ann.changes(plan_now("business", 28)).await.unwrap().outcome.unwrap().invoice.unwrap();
        service.pays(&upgraded).await;
        ann.changes(pb::UpdateSubscriptionRequest { plan_id: "team".into(), ..seats_at_once(5) }).await.unwrap();
        service.gives_up(&first).await.unwrap();
        let draft = ann.invoices().await.pop().unwrap();
        assert_eq!((amounts(&draft.lines), draft.total_minor), (vec![-10_000, -9_600, 2_000], -17_600));
        // 9,600 is all that was ever paid.
        let last = ann.cancels(CancellationMode::NowWithCredit).await.unwrap().invoice.unwrap();
        let last = ann.invoice(&last.invoice_id).await;
        assert_eq!((amounts(&last.lines), last.total_minor), (vec![-10_000, -9_600, 2_000, -2_000], -19_600));
        assert_eq!(ann.subscription().await.unwrap().credit_balance_minor, 9_600);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_goes_back_with_its_tax_says_so_also_where_nothing_is_taxed_any_more(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        service.taxes(&ann.organization_id, Some(on_top(210_000))).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(6), ..plan("team") }).await.unwrap();
        service.pays(&ann.invoices().await[0]).await;
        service.taxes(&ann.organization_id, None).await.unwrap();
        let foreseen = ann.changes(seats_at_once(5)).await.unwrap().outcome.unwrap();
        assert_eq!(amounts(&foreseen.lines), [-1_000]);
        let draft = ann.invoices().await.pop().unwrap();
        assert_eq!((draft.state(), amounts(&draft.lines), draft.total_minor), (InvoiceState::Draft, vec![-1_000, -210], -1_210));
        world.passes(TimeDelta::days(31)).await;
        let opened = ann.invoice(&draft.invoice_id).await;
        assert_eq!((amounts(&opened.lines), opened.total_minor), (vec![-1_000, 2_000, -210], 790));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn a_credit_note_for_what_nobody_paid_takes_nothing_of_what_was(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("business")).await.unwrap();
        let invoice = ann.invoices().await.remove(0);
        service.records(&invoice, PaymentState::Succeeded, 4_000, "a part").await.unwrap();
        service.gives_up(&invoice).await.unwrap();
        service.corrects(&invoice, 6_000, CREDIT).await.unwrap();
        // And one beyond that of what was paid.
        service.corrects(&invoice, 1_000, CREDIT).await.unwrap();
        let last = ann.cancels(CancellationMode::NowWithCredit).await.unwrap().invoice.unwrap();
        assert_eq!(last.total_minor, -3_000);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn the_database_itself_refuses_to_give_back_more_than_was_charged(backend: Backend) {
        let world = World::with(backend, billed()).await;
        on_team(&world, 5).await;
        world.tampers("UPDATE invoice SET given_back_minor = 2000").await;
        let refused = world.execute("UPDATE invoice SET given_back_minor = 2001").await.unwrap_err();
        assert!(violates(&refused, "invoice_given_back_once"), "{refused}");
        world.end().await;
    }
}
