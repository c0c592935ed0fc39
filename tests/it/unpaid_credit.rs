//! Credit that came from invoices which nobody paid: it is worth nothing, wherever it went.

use chrono::TimeDelta;
use tenantry::pb::{
    self, CancellationMode, ChangeInvoicing, ChangeTiming, CreditCause, CreditNoteOutcome, InvoiceState, PaymentState,
};
use tonic::Code;

use crate::harness::billing::{PLANS, amounts, billed, plan, seats_at_once, seats_now};
use crate::harness::chance::Chance;
use crate::harness::finance::{on_top, within};
use crate::harness::person::Person;
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

/// A change to a plan, on an invoice of its own.
fn plan_now(plan_id: &str, number: i64) -> pb::UpdateSubscriptionRequest {
    let (timing, invoicing) = (ChangeTiming::Now.into(), ChangeInvoicing::Now.into());
    pb::UpdateSubscriptionRequest { timing, invoicing, seats: Some(number), ..plan(plan_id) }
}

/// An owner whose first invoice, of 50.00, is open and was paid with 40.00 of credit from one that was given up then.
async fn owes_back(world: &World) -> (Person, pb::Invoice, pb::Invoice) {
    let service = world.service("billing");
    let ann = world.person("ann").founds("Acme").await;
    ann.changes(pb::UpdateSubscriptionRequest { seats: Some(8), ..plan("team") }).await.expect("the plan");
    let first = ann.invoices().await.remove(0);
    let more =
        ann.changes(seats_now(12)).await.expect("seats").outcome.expect("an outcome").invoice.expect("an invoice");
    ann.changes(seats_now(8)).await.expect("fewer seats");
    let given_up = service.gives_up(&more).await.expect("it is open");
    assert_eq!((given_up.due_minor, given_up.unpaid_credit_minor), (4_000, 4_000));
    let first = ann.invoice(&first.invoice_id).await;
    assert_eq!((first.state(), first.credit_applied_minor, first.due_minor), (InvoiceState::Open, 4_000, 1_000));
    assert_eq!(balance(&ann).await, (0, 4_000));
    (ann, first, given_up)
}

/// The same owner a month later, when the first invoice is paid and the next is open.
async fn renews(world: &World) -> (Person, pb::Invoice) {
    let (ann, first, _) = owes_back(world).await;
    world.service("billing").pays(&first).await;
    world.passes(TimeDelta::days(31)).await;
    let renewed = ann.invoices().await.pop().expect("an invoice");
    (ann, renewed)
}

/// The credit balance, and what is left of credit to come makes good.
async fn balance(owner: &Person) -> (i64, i64) {
    let subscription = owner.subscription().await.expect("a subscription");
    (subscription.credit_balance_minor, subscription.unpaid_credit_minor)
}

database_tests! {
    async fn what_paid_an_invoice_that_is_voided_or_credited_makes_good_what_it_came_from(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        for (how, came) in [("voided", CreditCause::InvoiceVoided), ("credited", CreditCause::CreditNote)] {
            let (ann, first, _) = owes_back(&world).await;
            match how {
                "voided" => drop(service.voids(&first).await.unwrap()),
                _ => drop(service.corrects(&first, 5_000, CreditNoteOutcome::CreditBalance).await.unwrap()),
            }
            assert_eq!(balance(&ann).await, (0, 0), "{how}");
            let entries = ann.credit().await;
            assert_eq!(entries[2..], [(came, 4_000, 4_000), (CreditCause::InvoiceUncollectible, -4_000, 0)], "{how}");
            // Nobody ever paid anything, and nothing is left to be given back.
            assert_eq!(ann.cancels(CancellationMode::NowWithCredit).await.unwrap().invoice, None, "{how}");
        }
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_is_left_of_credit_makes_it_good_also_periods_later_and_nobody_is_asked_for_it(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, renewed) = renews(&world).await;
        assert_eq!((renewed.total_minor, balance(&ann).await), (5_000, (0, 4_000)));
        // As long as something is open, credit pays that.
        let made = ann.changes(seats_now(7)).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!(balance(&ann).await, (0, 4_000));
        let renewed = ann.invoice(&renewed.invoice_id).await;
        assert_eq!(renewed.credit_applied_minor, -made.total_minor);
        service.pays(&renewed).await;
        let made = ann.changes(seats_now(5)).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!(balance(&ann).await, (0, 4_000 + made.total_minor));
        let entries = ann.credit().await;
        assert_eq!(entries.last(), Some(&(CreditCause::InvoiceUncollectible, made.total_minor, 0)));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn who_pays_it_after_all_owes_nothing_back(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first, given_up) = owes_back(&world).await;
        service.records(&given_up, PaymentState::Succeeded, 1_500, "a part").await.unwrap();
        assert_eq!((balance(&ann).await, ann.invoice(&given_up.invoice_id).await.unpaid_credit_minor), ((0, 2_500), 2_500));
        // Credit that is left pays what is open.
        service.voids(&first).await.unwrap();
        assert_eq!(balance(&ann).await, (1_500, 0));
        ann.changes(plan_now("business", 20)).await.unwrap();
        let open = ann.invoices().await.pop().unwrap();
        assert_eq!((open.state(), open.credit_applied_minor), (InvoiceState::Open, 1_500));
        service.records(&given_up, PaymentState::Succeeded, 2_500, "the rest").await.unwrap();
        let (given_up, open) = (ann.invoice(&given_up.invoice_id).await, ann.invoice(&open.invoice_id).await);
        assert_eq!((given_up.state(), given_up.unpaid_credit_minor), (InvoiceState::Paid, 0));
        assert_eq!((open.credit_applied_minor, balance(&ann).await), (4_000, (0, 0)));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_is_undone_while_nobody_has_paid_it_pays_itself_and_nothing_is_asked_for(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first, _) = owes_back(&world).await;
        service.pays(&first).await;
        let more = ann.changes(seats_now(12)).await.unwrap().outcome.unwrap().invoice.unwrap();
        let undone = ann.changes(seats_now(8)).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!((amounts(&undone.lines), undone.total_minor), (vec![-4_000], -4_000));
        assert_eq!((ann.invoice(&more.invoice_id).await.state(), balance(&ann).await), (InvoiceState::Paid, (0, 4_000)));
        // Where it waits for that, it pays what is given up as well, so that nothing is.
        let more = ann.changes(seats_now(9)).await.unwrap().outcome.unwrap().invoice.unwrap();
        ann.changes(seats_at_once(8)).await.unwrap();
        let paid = service.gives_up(&ann.invoice(&more.invoice_id).await).await.unwrap();
        assert_eq!((paid.state(), paid.credit_applied_minor, balance(&ann).await), (InvoiceState::Paid, 1_000, (0, 4_000)));
        // Nor by an upgrade, which costs what it costs, and can be undone as well.
        let upgraded = ann.changes(plan_now("business", 20)).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!((upgraded.total_minor, balance(&ann).await), (5_000, (0, 4_000)));
        ann.changes(plan_now("team", 8)).await.unwrap();
        assert_eq!((ann.invoice(&upgraded.invoice_id).await.state(), balance(&ann).await), (InvoiceState::Paid, (0, 4_000)));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn credit_that_comes_back_pays_what_is_open_before_it_makes_anything_good(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, renewed) = renews(&world).await;
        let more = ann.changes(seats_now(12)).await.unwrap().outcome.unwrap().invoice.unwrap();
        ann.changes(seats_now(8)).await.unwrap();
        let renewed = ann.invoice(&renewed.invoice_id).await;
        assert_eq!((renewed.credit_applied_minor, renewed.due_minor), (more.total_minor, 5_000 - more.total_minor));
        service.voids(&renewed).await.unwrap();
        assert_eq!((ann.invoice(&more.invoice_id).await.state(), balance(&ann).await), (InvoiceState::Paid, (0, 4_000)));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn the_end_of_dunning_gives_up_only_what_its_own_credit_does_not_pay(backend: Backend) {
        let plans = PLANS.replace("grace_days = 10\n", "grace_days = 10\ndunning_end = \"write_off\"\n");
        let world = World::with(backend, Setup { plans: Some(plans), ..billed() }).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(8), ..plan("team") }).await.unwrap();
        let first = ann.invoices().await.remove(0);
        let more = ann.changes(seats_now(12)).await.unwrap().outcome.unwrap().invoice.unwrap();
        ann.changes(seats_at_once(8)).await.unwrap();
        service.records(&first, PaymentState::Failed, 5_000, "1").await.unwrap();
        for _ in 0..8 {
            world.passes(TimeDelta::days(5)).await;
        }
        let state = async |id: &str| ann.invoice(id).await.state();
        let states = (state(&more.invoice_id).await, state(&first.invoice_id).await);
        assert_eq!((states, balance(&ann).await), ((InvoiceState::Paid, InvoiceState::Uncollectible), (0, 0)));
        assert_eq!(ann.subscription().await.unwrap().status(), pb::SubscriptionStatus::Canceled);
        // Where that pays all that is owed, nothing ends.
        let bob = world.person("bob").founds("Bob's").await;
        bob.changes(pb::UpdateSubscriptionRequest { seats: Some(8), ..plan("team") }).await.unwrap();
        let invoice = bob.invoices().await.remove(0);
        service.records(&invoice, PaymentState::Succeeded, 2_500, "2").await.unwrap();
        service.records(&invoice, PaymentState::Failed, 2_500, "3").await.unwrap();
        bob.changes(seats_at_once(5)).await.unwrap();
        for _ in 0..6 {
            world.passes(TimeDelta::days(5)).await;
        }
        assert_ne!(bob.subscription().await.unwrap().status(), pb::SubscriptionStatus::Canceled);
        assert_eq!(bob.invoice(&invoice.invoice_id).await.state(), InvoiceState::Paid);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn whatever_is_done_at_one_instant_exactly_what_was_paid_is_there_in_the_end(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        for number in 0..24_u64 {
            let mut chance = Chance(number.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x7e4a);
            let ann = world.person("ann").founds("Acme").await;
            let treatment = chance.one(&[None, Some(210_000), Some(-190_000)]);
            let treatment = treatment.map(|rate: i32| if rate < 0 { within(-rate) } else { on_top(rate) });
            service.taxes(&ann.organization_id, treatment).await.unwrap();
            let (mut story, mut money, mut paid_late) = (Vec::new(), 0, 0);
            ann.changes(pb::UpdateSubscriptionRequest { seats: Some(chance.of(5, 14)), ..plan("team") }).await.unwrap();
            for step in 0..16 {
                let invoices = ann.invoices().await;
                let of_state = |state| invoices.iter().filter(|one| one.state() == state).cloned().collect::<Vec<_>>();
                let (open, given_up) = (of_state(InvoiceState::Open), of_state(InvoiceState::Uncollectible));
                let is_team = ann.subscription().await.unwrap().plan_id == "team";
                let seats = if is_team { chance.of(5, 18) } else { chance.of(20, 30) };
                let what = chance.of(0, 12);
                story.push((what, seats));
                let done = match what {
                    0..=2 => ann.changes(seats_now(seats)).await.map(drop),
                    3 => ann.changes(seats_at_once(seats)).await.map(drop),
                    4 | 5 if is_team => ann.changes(plan_now("business", seats + 15)).await.map(drop),
                    4 => ann.changes(plan_now("team", 5)).await.map(drop),
                    5 => ann.changes(pb::UpdateSubscriptionRequest { invoicing: 0, ..plan_now("team", 9) }).await.map(drop),
                    6 | 7 if !open.is_empty() => {
                        let invoice = &open[usize::try_from(chance.of(0, 99)).unwrap() % open.len()];
                        let part = if chance.percent(40) { chance.of(1, invoice.due_minor) } else { invoice.due_minor };
                        money += part;
                        service.records(invoice, PaymentState::Succeeded, part, &format!("{number} {step}")).await.map(drop)
                    }
                    8 | 9 if !open.is_empty() => service.gives_up(&open[open.len() - 1]).await.map(drop),
                    10 if !open.is_empty() => service.voids(&open[0]).await.map(drop),
                    11 => {
                        let invoice = &invoices[usize::try_from(chance.of(0, 99)).unwrap() % invoices.len()];
                        let outcome = chance.one(&[CreditNoteOutcome::CreditBalance, CreditNoteOutcome::PaidBack]);
                        let amount = chance.of(1, 2_000);
                        let corrected = service.corrects(invoice, amount, outcome).await;
                        if let (Ok(corrected), CreditNoteOutcome::PaidBack) = (&corrected, outcome) {
                            let note = corrected.credit_note.as_ref().unwrap();
                            money -= note.amount_minor - note.off_due_minor;
                        }
                        corrected.map(drop)
                    }
                    12 if !given_up.is_empty() => {
                        let invoice = &given_up[0];
                        let part = chance.of(1, invoice.due_minor);
                        let owed_back = invoice.unpaid_credit_minor.min(part);
                        money += owed_back;
                        paid_late += part - owed_back;
                        service.records(invoice, PaymentState::Succeeded, part, &format!("{number} {step}")).await.map(drop)
                    }
                    _ => Ok(()),
                };
                if let Err(refused) = done {
                    assert_eq!(refused.is().0, Code::FailedPrecondition, "{number}: {story:?} {refused:?}");
                }
            }
            ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
            let (credit, unpaid) = balance(&ann).await;
            let owed: i64 = ann.invoices().await.iter().filter(|one| one.state() == InvoiceState::Open).map(|one| one.due_minor).sum();
            let there = credit - unpaid - owed;
            // A cent or so of each line may be rounded away. Who paid what was given up has paid it, unless a credit note says otherwise.
            let sound = money - 16..=money + paid_late + 16;
            assert!(sound.contains(&there), "{number}: {there} of {money} (and {paid_late}) after {story:?}");
        }
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }
}
