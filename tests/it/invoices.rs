//! Invoices: what they say and go on saying, their numbers, tax, credit and credit notes, and who may see them.

use chrono::TimeDelta;
use tenantry::pb::{self, CancellationMode, ChangeTiming, CreditCause, CreditNoteOutcome, InvoiceState};
use tonic::Code;

use crate::harness::billing::{PLANS, amounts, billed, moment, plan, seats, seats_now};
use crate::harness::finance::{numbers, on_top, within};
use crate::harness::person::{Person, answer};
use crate::harness::race::{at_once, spread};
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

const CREDIT: CreditNoteOutcome = CreditNoteOutcome::CreditBalance;
const BACK: CreditNoteOutcome = CreditNoteOutcome::PaidBack;

/// An owner on the plan for teams, with seats, who owes for the first month.
async fn on_team(world: &World, number: i64) -> (Person, pb::Invoice) {
    let ann = world.person("ann").founds("Acme").await;
    ann.changes(pb::UpdateSubscriptionRequest { seats: Some(number), ..plan("team") }).await.expect("the plan");
    let invoice = ann.invoices().await.pop().expect("an invoice");
    (ann, invoice)
}

/// What an invoice says for ever, once it is open.
fn said(invoice: &pb::Invoice) -> pb::Invoice {
    pb::Invoice {
        state: InvoiceState::Unspecified.into(),
        credit_applied_minor: 0,
        credited_minor: 0,
        given_back_minor: 0,
        unpaid_credit_minor: 0,
        paid_minor: 0,
        due_minor: 0,
        close_time: None,
        payments: Vec::new(),
        credit_notes: Vec::new(),
        ..invoice.clone()
    }
}

fn sum(lines: &[pb::InvoiceLine]) -> i64 {
    amounts(lines).iter().sum()
}

database_tests! {
    async fn an_invoice_is_collected_then_owed_then_paid(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 5).await;
        let paid = service.pays(&first).await.invoice.unwrap();
        assert_eq!((paid.state(), paid.paid_minor, paid.due_minor), (InvoiceState::Paid, 2_000, 0));
        assert_eq!(paid.close_time, Some(world.wire_time()));
        world.passes(TimeDelta::days(10)).await;
        let begun = world.wire_time();
        ann.changes(seats(6)).await.unwrap();
        let draft = ann.invoices().await.pop().unwrap();
        assert_eq!((draft.state(), draft.number, draft.printed_number.as_str()), (InvoiceState::Draft, 0, ""));
        assert_eq!((draft.total_minor, draft.due_minor, draft.recipient.is_some()), (677, 0, false));
        assert_eq!((draft.create_time, draft.finalize_time, draft.due_time), (Some(begun), None, None));
        world.passes(TimeDelta::days(21)).await;
        let open = ann.invoices().await.pop().unwrap();
        assert_eq!((open.invoice_id.as_str(), open.state(), open.number), (draft.invoice_id.as_str(), InvoiceState::Open, 2));
        assert_eq!(amounts(&open.lines), [677, 2_000, 1_000]);
        assert_eq!((open.total_minor, open.due_minor, open.close_time), (3_677, 3_677, None));
        assert_eq!((open.create_time, open.finalize_time), (Some(begun), Some(world.wire_time())));
        assert_eq!(open.due_time, Some(world.wire_time_in(TimeDelta::days(14))));
        assert!(open.printed_number.ends_with("-000002"), "{}", open.printed_number);
        assert_eq!(open.printed_number.split_once('-').unwrap().0, first.printed_number.split_once('-').unwrap().0);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_an_open_invoice_says_is_changed_by_nothing_that_comes_later(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        service.taxes(&ann.organization_id, Some(on_top(210_000))).await.unwrap();
        let named = |name: &str| pb::BillingProfile { name: name.into(), ..Default::default() };
        ann.tries_to_bill_to(&["name"], named("Acme B.V.")).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(7), ..plan("team") }).await.unwrap();
        world.passes(TimeDelta::days(3)).await;
        ann.changes(seats_now(9)).await.unwrap();
        let before = ann.invoices().await;
        assert_eq!(before.len(), 2);
        assert_eq!(before[0].recipient.as_ref().unwrap().name, "Acme B.V.");

        ann.tries_to_bill_to(&["name"], named("Acme N.V.")).await.unwrap();
        service.taxes(&ann.organization_id, Some(within(90_000))).await.unwrap();
        service.records(&before[0], pb::PaymentState::Succeeded, 100, "bank 1").await.unwrap();
        service.corrects(&before[0], 50, CREDIT).await.unwrap();
        ann.changes(seats_now(5)).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..plan("business") }).await.unwrap();
        ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
        let owed = ann.invoices().await.into_iter().filter(|invoice| invoice.state() == InvoiceState::Open);
        for invoice in owed.collect::<Vec<_>>() {
            service.gives_up(&invoice).await.unwrap();
        }
        let after = ann.invoices().await;
        assert!(after.len() > 2);
        assert_eq!(after[..2].iter().map(said).collect::<Vec<_>>(), before.iter().map(said).collect::<Vec<_>>());
        assert_eq!(after.last().unwrap().recipient.as_ref().unwrap().name, "Acme N.V.");
        // A void one says the same too.
        ann.changes(plan("team")).await.unwrap();
        ann.changes(seats_now(90)).await.unwrap();
        let open = ann.invoices().await.pop().unwrap();
        assert_eq!(said(&service.voids(&open).await.unwrap()), said(&open));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn numbers_have_no_gap_however_many_changes_come_at_once(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..billed() }).await;
        let (ann, first) = on_team(&world, 5).await;
        world.service("billing").pays(&first).await;
        world.passes(TimeDelta::days(10)).await;
        let calls = (0..30_i64).map(|number| {
            let person = spread(&world, &ann, usize::try_from(number).unwrap());
            let wish = match number % 3 {
                // Beyond what the plan takes: refused.
                0 if number % 2 == 0 => seats_now(251),
                // Only asked.
                0 => pb::UpdateSubscriptionRequest { validate_only: true, ..seats_now(100 + number) },
                _ => seats_now(10 + number),
            };
            async move { person.changes(wish).await }
        });
        let outcomes = at_once(calls).await;
        let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err().map(|refused| refused.reason.as_str()));
        assert_eq!(refused.collect::<Vec<_>>(), ["SEATS_OUTSIDE_PLAN"; 5]);
        let made: Vec<i64> = outcomes.iter().filter_map(|outcome| Some(outcome.as_ref().ok()?.outcome.as_ref()?.invoice.as_ref()?.number)).collect();
        assert_eq!(made.len(), 25);
        let invoices = ann.invoices().await;
        assert_eq!(numbers(&invoices), (1..=21).collect::<Vec<_>>());
        // All of them together charge what the last number of seats costs, but for each line's half cent.
        let seats = ann.subscription().await.unwrap().seats;
        let charged: i64 = invoices[1..].iter().map(|invoice| invoice.total_minor).sum();
        let lines = i64::try_from(invoices.iter().map(|invoice| invoice.lines.len()).sum::<usize>()).unwrap();
        assert!((charged - (seats - 5) * 1_000 * 21 / 31).abs() <= lines, "{charged} for {seats} seats");
        assert_eq!(world.service("billing").drifts().await, []);
        world.end().await;
    }

    async fn of_changes_at_once_of_what_all_have_read_one_is_made(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..billed() }).await;
        let (ann, _) = on_team(&world, 5).await;
        let etag = ann.subscription().await.unwrap().etag;
        let calls = (0..8_i64).map(|number| {
            let person = spread(&world, &ann, usize::try_from(number).unwrap());
            let wish = pb::UpdateSubscriptionRequest { etag: etag.clone(), ..seats_now(6 + number) };
            async move { person.changes(wish).await }
        });
        let outcomes = at_once(calls).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        }
        assert_eq!(numbers(&ann.invoices().await), [1, 2]);
        world.end().await;
    }

    async fn what_is_refused_or_only_asked_takes_no_number(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (ann, first) = on_team(&world, 5).await;
        let rehearsed = pb::UpdateSubscriptionRequest { validate_only: true, ..seats_now(9) };
        let made = ann.changes(rehearsed).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!((made.number, made.total_minor), (2, 4_000));
        assert_eq!(ann.changes(seats_now(251)).await.unwrap_err().reason, "SEATS_OUTSIDE_PLAN");
        let service = world.service("billing");
        let correction = pb::CreateCreditNoteRequest {
            organization_id: first.organization_id.clone(),
            invoice_id: first.invoice_id.clone(),
            amount_minor: 100,
            reason: "Only to see".into(),
            validate_only: true,
            ..Default::default()
        };
        assert_eq!(answer(service.billing().create_credit_note(correction).await).unwrap().credit_note.unwrap().number, 1);
        assert_eq!(ann.invoices().await, std::slice::from_ref(&first));
        assert_eq!(ann.changes(seats_now(6)).await.unwrap().outcome.unwrap().invoice.unwrap().number, 2);
        assert_eq!(service.corrects(&first, 100, CREDIT).await.unwrap().credit_note.unwrap().number, 1);
        // What fails in the middle of the write takes none either.
        world.tampers("ALTER TABLE event RENAME TO hidden").await;
        assert_eq!(ann.changes(seats_now(7)).await.unwrap_err().code, Code::Internal);
        world.tampers("ALTER TABLE hidden RENAME TO event").await;
        assert_eq!(ann.changes(seats_now(7)).await.unwrap().outcome.unwrap().invoice.unwrap().number, 3);
        assert_eq!(numbers(&ann.invoices().await), [1, 2, 3]);
        world.end().await;
    }

    async fn tax_comes_on_top_or_is_within_and_the_lines_are_the_total(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let wish = pb::UpdateSubscriptionRequest { seats: Some(6), ..plan("team") };
        for (treatment, expected, tax, total) in [
            (on_top(210_000), vec![2_000, 1_000, 630], 630, 3_630),
            (within(210_000), vec![2_000, 1_000], 521, 3_000),
            (on_top(0), vec![2_000, 1_000], 0, 3_000),
            (on_top(81_000), vec![2_000, 1_000, 243], 243, 3_243),
        ] {
            let ann = world.person("ann").founds("Acme").await;
            let profile = service.taxes(&ann.organization_id, Some(treatment.clone())).await.unwrap();
            assert_eq!(profile.tax_treatment.as_ref(), Some(&treatment));
            let foreseen = ann.previews(wish.clone()).await.unwrap().outcome.unwrap().invoice.unwrap();
            let made = ann.changes(wish.clone()).await.unwrap().outcome.unwrap().invoice.unwrap();
            let invoice = ann.invoices().await.pop().unwrap();
            for one in [&foreseen, &made, &invoice] {
                assert_eq!(amounts(&one.lines), expected, "{treatment:?}");
                assert_eq!((one.subtotal_minor, one.tax_minor, one.total_minor), (3_000, tax, total));
                assert_eq!(sum(&one.lines), one.total_minor);
                assert!(one.lines.iter().all(|line| line.tax_rate_millionths == treatment.rate_millionths));
            }
            if let Some(line) = invoice.lines.get(2) {
                let name = if tax == 630 { "VAT 21%" } else { "VAT 8.1%" };
                assert_eq!((line.kind(), line.description.as_str(), line.quantity), (pb::LineKind::Tax, name, None));
            }
            assert_eq!(invoice.recipient.unwrap().tax_treatment, Some(treatment));
        }
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_is_given_back_is_taxed_as_it_was_charged(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        service.taxes(&ann.organization_id, Some(on_top(210_000))).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(6), ..plan("team") }).await.unwrap();
        service.pays(&ann.invoices().await[0]).await;
        service.taxes(&ann.organization_id, Some(on_top(190_000))).await.unwrap();
        world.passes(TimeDelta::days(10)).await;
        let credited = ann.changes(seats_now(5)).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!((amounts(&credited.lines), credited.total_minor), (vec![-677, -142], -819));
        assert_eq!(credited.lines[0].tax_rate_millionths, 210_000);
        // More seats and fewer on one invoice: each at its own rate.
        ann.changes(seats(6)).await.unwrap();
        world.passes(TimeDelta::days(21)).await;
        let renewed = ann.invoices().await.pop().unwrap();
        // 677 + 2 000 + 1 000, and 19 % of it.
        assert_eq!(amounts(&renewed.lines), [677, 2_000, 1_000, 699]);
        assert_eq!((renewed.credit_applied_minor, renewed.due_minor), (819, 4_376 - 819));
        // Untaxed from now on; what was charged with tax is given back with it.
        service.taxes(&ann.organization_id, None).await.unwrap();
        let last = ann.cancels(CancellationMode::NowWithCredit).await.unwrap().invoice.unwrap();
        assert_eq!(last.total_minor, -(3_000 + 570));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn how_an_organization_is_taxed_is_for_services_to_say_and_for_nobody_to_say_wrong(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        let refused = ann.taxes(&ann.organization_id, Some(on_top(0))).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        let wrong = pb::TaxTreatment { rate_millionths: 1_000_001, note: "x".repeat(201), ..Default::default() };
        let refused = service.taxes(&ann.organization_id, Some(wrong)).await.unwrap_err();
        let fields = ["rate_millionths", "behavior", "label", "note"].map(|field| format!("tax_treatment.{field}"));
        assert_eq!((refused.reason.as_str(), refused.fields), ("INVALID_FIELDS", fields.to_vec()));
        let refused = service.taxes(&ann.organization_id, Some(on_top(-1))).await.unwrap_err();
        assert_eq!(refused.fields, ["tax_treatment.rate_millionths"]);
        let nobody = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6fff";
        assert_eq!(service.taxes(nobody, None).await.unwrap_err().is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        // What a member says of their profile leaves it as it is.
        service.taxes(&ann.organization_id, Some(on_top(210_000))).await.unwrap();
        let profile = pb::BillingProfile { tax_id: "NL1".into(), tax_treatment: Some(on_top(0)), ..Default::default() };
        let profile = ann.tries_to_bill_to(&["tax_id"], profile).await.unwrap();
        assert_eq!((profile.tax_id.as_str(), profile.tax_treatment), ("NL1", Some(on_top(210_000))));
        let refused = ann.tries_to_bill_to(&["tax_treatment"], pb::BillingProfile::default()).await.unwrap_err();
        assert_eq!(refused.reason, "INVALID_FIELDS");
        world.end().await;
    }

    async fn an_invoice_of_less_than_nothing_is_credit_that_pays_the_next(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 8).await;
        service.pays(&first).await;
        let negative = ann.changes(seats_now(6)).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!((negative.total_minor, negative.due_minor, negative.state()), (-2_000, 0, InvoiceState::Paid));
        assert_eq!(ann.subscription().await.unwrap().credit_balance_minor, 2_000);
        // A part of it pays for another seat, the rest a part of the next period.
        let small = ann.changes(seats_now(7)).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!((small.state(), small.credit_applied_minor, small.due_minor), (InvoiceState::Paid, 1_000, 0));
        world.passes(TimeDelta::days(31)).await;
        let next = ann.invoices().await.pop().unwrap();
        assert_eq!((next.total_minor, next.credit_applied_minor, next.due_minor), (4_000, 1_000, 3_000));
        assert_eq!(ann.credit().await, [
            (CreditCause::NegativeInvoice, 2_000, 2_000),
            (CreditCause::Applied, -1_000, 1_000),
            (CreditCause::Applied, -1_000, 0),
        ]);
        // Page by page, the latest first.
        let page = ann.credit_page(2, "").await;
        assert_eq!((page.balance_minor, page.currency_code.as_str()), (0, "EUR"));
        assert_eq!(page.credit_entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(page.credit_entries[0].invoice_id, next.invoice_id);
        let rest = ann.credit_page(2, &page.next_page_token).await;
        assert_eq!((rest.credit_entries[0].invoice_id.as_str(), rest.next_page_token.as_str()), (negative.invoice_id.as_str(), ""));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn credit_that_comes_pays_what_is_open_the_oldest_first(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 5).await;
        ann.changes(seats_now(6)).await.unwrap();
        ann.changes(seats_now(8)).await.unwrap();
        let owed = ann.invoices().await;
        assert_eq!(owed.iter().map(|invoice| invoice.due_minor).collect::<Vec<_>>(), [2_000, 1_000, 2_000]);
        ann.changes(seats_now(5)).await.unwrap();
        let owed = ann.invoices().await;
        assert_eq!(owed.iter().map(|invoice| invoice.due_minor).collect::<Vec<_>>(), [0, 0, 2_000, 0]);
        assert_eq!(owed[0].state(), InvoiceState::Paid);
        assert_eq!(owed[2].state(), InvoiceState::Open);
        assert_eq!(ann.credit().await, [
            (CreditCause::NegativeInvoice, 3_000, 3_000),
            (CreditCause::Applied, -2_000, 1_000),
            (CreditCause::Applied, -1_000, 0),
        ]);
        assert_eq!(first.number, 1);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }
}

database_tests! {
    async fn a_credit_note_lowers_what_is_due_of_an_open_invoice(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, 5).await;
        let corrected = service.corrects(&invoice, 500, CREDIT).await.unwrap();
        let (note, lowered) = (corrected.credit_note.unwrap(), corrected.invoice.unwrap());
        assert_eq!((note.number, note.amount_minor, note.off_due_minor, note.reason.as_str()), (1, 500, 500, "It was too much"));
        assert!(note.printed_number.ends_with("000001") && note.printed_number != invoice.printed_number, "{}", note.printed_number);
        assert_eq!((lowered.state(), lowered.credited_minor, lowered.due_minor, lowered.total_minor), (InvoiceState::Open, 500, 1_500, 2_000));
        // A part is paid; the note is for more than is left, and the rest becomes credit.
        service.records(&invoice, pb::PaymentState::Succeeded, 1_000, "bank 1").await.unwrap();
        let corrected = service.corrects(&invoice, 800, CREDIT).await.unwrap();
        let (note, closed) = (corrected.credit_note.unwrap(), corrected.invoice.unwrap());
        assert_eq!((note.number, note.off_due_minor), (2, 500));
        assert_eq!((closed.state(), closed.credited_minor, closed.paid_minor), (InvoiceState::Paid, 1_000, 1_000));
        assert_eq!(closed.credit_notes.len(), 2);
        assert_eq!(ann.credit().await, [(CreditCause::CreditNote, 300, 300)]);
        assert_eq!(ann.credit_page(1, "").await.credit_entries[0].credit_note_id, note.credit_note_id);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn a_credit_note_to_a_paid_invoice_becomes_credit_or_was_paid_back(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, 5).await;
        service.pays(&invoice).await;
        let back = service.corrects(&invoice, 300, BACK).await.unwrap().credit_note.unwrap();
        assert_eq!((back.off_due_minor, back.outcome()), (0, BACK));
        assert_eq!(ann.credit().await, []);
        let credit = service.corrects(&invoice, 1_700, CreditNoteOutcome::Unspecified).await.unwrap();
        assert_eq!(credit.credit_note.unwrap().outcome(), CREDIT);
        assert_eq!(credit.invoice.unwrap().state(), InvoiceState::Paid);
        assert_eq!(ann.credit().await, [(CreditCause::CreditNote, 1_700, 1_700)]);
        // There is nothing left of it to credit.
        let refused = service.corrects(&invoice, 1, CREDIT).await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "CREDIT_EXCEEDS_INVOICE"));
        assert_eq!(refused.metadata["creditable_minor"], "0");
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(ann.invoices().await.pop().unwrap().due_minor, 300);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn no_more_is_credited_than_an_invoice_came_to_however_many_notes_come_at_once(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..billed() }).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, 5).await;
        service.pays(&invoice).await;
        let calls = (0..10).map(|number| {
            let (service, invoice) = (spread(&world, &service, number), invoice.clone());
            async move { service.corrects(&invoice, 300, CREDIT).await }
        });
        let outcomes = at_once(calls).await;
        let mut made: Vec<i64> = outcomes.iter().filter_map(|outcome| Some(outcome.as_ref().ok()?.credit_note.as_ref()?.number)).collect();
        made.sort_unstable();
        assert_eq!(made, [1, 2, 3, 4, 5, 6]);
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!((refused.reason.as_str(), refused.metadata["creditable_minor"].as_str()), ("CREDIT_EXCEEDS_INVOICE", "200"));
        }
        assert_eq!(ann.subscription().await.unwrap().credit_balance_minor, 1_800);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn the_tax_of_all_credit_notes_is_the_tax_of_the_invoice(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        service.taxes(&ann.organization_id, Some(on_top(70_000))).await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        let invoice = ann.invoices().await.pop().unwrap();
        assert_eq!((invoice.tax_minor, invoice.total_minor), (140, 2_140));
        for amount in [713, 713, 713, 1] {
            service.corrects(&invoice, amount, CREDIT).await.unwrap();
        }
        let notes = ann.invoice(&invoice.invoice_id).await.credit_notes;
        assert_eq!(notes.iter().map(|note| note.tax_minor).sum::<i64>(), 140, "{notes:?}");
        world.end().await;
    }

    async fn what_a_credit_note_gave_back_is_not_given_back_again(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        // All of it, half of it, and half of it twice.
        for (notes, rest) in [(vec![4_000], 0), (vec![2_000], 2_000), (vec![2_000, 1_000], 1_000)] {
            let (ann, invoice) = on_team(&world, 7).await;
            service.pays(&invoice).await;
            for note in &notes {
                service.corrects(&invoice, *note, BACK).await.unwrap();
            }
            let fewer = ann.changes(seats_now(5)).await.unwrap().outcome.unwrap();
            assert_eq!(-sum(&fewer.lines), rest / 2, "{notes:?}");
            ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
            assert_eq!(ann.subscription().await.unwrap().credit_balance_minor, rest, "{notes:?}");
        }
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn what_cannot_be_corrected_is_not(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, 5).await;
        let refused = service.corrects(&invoice, 2_001, CREDIT).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.metadata["creditable_minor"].as_str()), ("CREDIT_EXCEEDS_INVOICE", "2000"));
        for amount in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(service.corrects(&invoice, amount, CREDIT).await.unwrap_err().fields, ["amount_minor"]);
        }
        let wrong = pb::CreateCreditNoteRequest { organization_id: ann.organization_id.clone(), invoice_id: "7".into(), outcome: 9, ..Default::default() };
        let refused = answer(service.billing().create_credit_note(wrong).await).unwrap_err();
        assert_eq!(refused.fields, ["invoice_id", "amount_minor", "reason", "outcome"]);
        assert_eq!(ann.corrects(&invoice, 1, CREDIT).await.unwrap_err().is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        ann.changes(seats(6)).await.unwrap();
        let draft = ann.invoices().await.pop().unwrap();
        let refused = service.corrects(&draft, 1, CREDIT).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.metadata["state"].as_str()), ("INVOICE_NOT_OPEN", "DRAFT"));
        service.voids(&invoice).await.unwrap();
        let refused = service.corrects(&invoice, 1, CREDIT).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.metadata["state"].as_str()), ("INVOICE_NOT_OPEN", "VOID"));
        // One of less than nothing has nothing that could be credited.
        let negative = ann.changes(seats_now(5)).await.unwrap().outcome.unwrap().invoice;
        assert_eq!(negative.unwrap().total_minor, 0);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn a_voided_invoice_is_not_owed_and_its_credit_comes_back(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 5).await;
        service.pays(&first).await;
        world.passes(TimeDelta::days(10)).await;
        ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        let invoice = ann.invoices().await.pop().unwrap();
        assert_eq!((invoice.credit_applied_minor, invoice.due_minor), (1_355, 645));
        let void = service.voids(&invoice).await.unwrap();
        assert_eq!((void.state(), void.number, void.due_minor, void.credit_applied_minor), (InvoiceState::Void, 3, 0, 0));
        assert_eq!((void.total_minor, void.close_time), (2_000, Some(world.wire_time())));
        assert_eq!(ann.credit().await, [
            (CreditCause::NegativeInvoice, 1_355, 1_355),
            (CreditCause::Applied, -1_355, 0),
            (CreditCause::InvoiceVoided, 1_355, 1_355),
        ]);
        // Nobody paid for the period, so nobody gets anything back for it.
        let canceled = ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
        assert_eq!((canceled.invoice, canceled.subscription.unwrap().credit_balance_minor), (None, 1_355));
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn credit_that_comes_back_pays_what_else_is_open(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 5).await;
        service.pays(&first).await;
        service.corrects(&first, 600, CREDIT).await.unwrap();
        ann.changes(seats_now(6)).await.unwrap();
        ann.changes(seats_now(7)).await.unwrap();
        let open = ann.invoices().await;
        assert_eq!(open[1..].iter().map(|invoice| invoice.due_minor).collect::<Vec<_>>(), [400, 1_000]);
        service.voids(&open[1]).await.unwrap();
        assert_eq!(ann.invoices().await[2].due_minor, 400);
        assert_eq!(ann.subscription().await.unwrap().credit_balance_minor, 0);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn only_an_open_invoice_of_which_nothing_is_paid_can_be_voided(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, 5).await;
        assert_eq!(ann.voids(&invoice).await.unwrap_err().is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        service.records(&invoice, pb::PaymentState::Succeeded, 1, "bank 1").await.unwrap();
        assert_eq!(service.voids(&invoice).await.unwrap_err().is(), (Code::FailedPrecondition, "INVOICE_PARTLY_PAID"));
        service.records(&invoice, pb::PaymentState::Succeeded, 1_999, "bank 2").await.unwrap();
        let refused = service.voids(&invoice).await.unwrap_err();
        assert_eq!((refused.is(), refused.metadata["state"].as_str()), ((Code::FailedPrecondition, "INVOICE_NOT_OPEN"), "PAID"));
        ann.changes(seats_now(6)).await.unwrap();
        let corrected = ann.invoices().await.pop().unwrap();
        service.corrects(&corrected, 1, CREDIT).await.unwrap();
        assert_eq!(service.voids(&corrected).await.unwrap_err().reason, "INVOICE_PARTLY_PAID");
        ann.changes(seats_now(7)).await.unwrap();
        let third = ann.invoices().await.pop().unwrap();
        service.voids(&third).await.unwrap();
        let refused = service.voids(&third).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.metadata["state"].as_str()), ("INVOICE_NOT_OPEN", "VOID"));
        ann.changes(seats(8)).await.unwrap();
        let draft = ann.invoices().await.pop().unwrap();
        for refused in [service.voids(&draft).await.unwrap_err(), service.gives_up(&draft).await.unwrap_err()] {
            assert_eq!((refused.reason.as_str(), refused.metadata["state"].as_str()), ("INVOICE_NOT_OPEN", "DRAFT"));
        }
        let download = pb::DownloadInvoiceRequest { organization_id: ann.organization_id.clone(), invoice_id: draft.invoice_id, ..Default::default() };
        let refused = answer(ann.billing().download_invoice(download).await).unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.metadata["state"].as_str()), ("INVOICE_NOT_OPEN", "DRAFT"));
        world.end().await;
    }

    async fn what_is_downloaded_says_what_the_invoice_said_when_it_became_open(backend: Backend) {
        let mut world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme Rockets").await;
        service.taxes(&ann.organization_id, Some(on_top(210_000))).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(6), ..plan("team") }).await.unwrap();
        let invoice = ann.invoices().await.pop().unwrap();
        let note = service.corrects(&invoice, 1_210, CREDIT).await.unwrap().credit_note.unwrap();
        // Everything changes afterwards: who sells, what the customer is called, how it is taxed.
        world.setup.plans = Some(PLANS.replace("Tenantry B.V.", "Somebody Else Ltd."));
        world.switches_policy_to("owner-billing").await;
        let (ann, service) = (ann.at(world.channel()), world.service("billing"));
        ann.tries_to_bill_to(&["name"], pb::BillingProfile { name: "Acme N.V.".into(), ..Default::default() }).await.unwrap();
        service.taxes(&ann.organization_id, None).await.unwrap();
        let download = async |credit_note_id: &str| {
            let request = pb::DownloadInvoiceRequest {
                organization_id: ann.organization_id.clone(),
                invoice_id: invoice.invoice_id.clone(),
                credit_note_id: credit_note_id.into(),
            };
            let file = answer(ann.billing().download_invoice(request).await).unwrap();
            assert_eq!(file.content_type, "application/pdf");
            let pdf = lopdf::Document::load_mem(&file.content).unwrap();
            let pages: Vec<u32> = pdf.get_pages().keys().copied().collect();
            (file.file_name, pdf.extract_text(&pages).unwrap().split_whitespace().collect::<String>())
        };
        let (name, text) = download("").await;
        assert_eq!(name, format!("{}.pdf", invoice.printed_number));
        for said in ["TenantryB.V.", "AcmeRockets", &invoice.printed_number, "Team", "Additionalseats", "20.00", "10.00", "VAT21%", "6.30", "EUR36.30"] {
            assert!(text.contains(said), "{said} is not in {text}");
        }
        let (name, text) = download(&note.credit_note_id).await;
        assert_eq!(name, format!("{}.pdf", note.printed_number));
        for said in ["TenantryB.V.", "AcmeRockets", &note.printed_number, &invoice.printed_number, "Itwastoomuch", "2.10", "12.10"] {
            assert!(text.contains(said), "{said} is not in {text}");
        }
        world.end().await;
    }

    async fn a_draft_says_what_it_would_come_to_by_now(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, _) = on_team(&world, 5).await;
        ann.changes(seats(6)).await.unwrap();
        for (treatment, total, rate) in [(Some(on_top(210_000)), 1_210, 210_000), (Some(within(90_000)), 1_000, 90_000), (None, 1_000, 0)] {
            service.taxes(&ann.organization_id, treatment).await.unwrap();
            let draft = ann.invoices().await.pop().unwrap();
            assert_eq!((draft.state(), draft.total_minor, sum(&draft.lines)), (InvoiceState::Draft, total, total));
            assert!(draft.lines.iter().all(|line| line.tax_rate_millionths == rate), "{draft:?}");
        }
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(amounts(&ann.invoices().await.pop().unwrap().lines), [1_000, 2_000, 1_000]);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn an_invoice_that_is_given_up_is_still_owed_but_waited_for_no_more(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, invoice) = on_team(&world, 5).await;
        world.passes(TimeDelta::days(14)).await;
        assert_eq!(ann.subscription().await.unwrap().status(), pb::SubscriptionStatus::PastDue);
        let given_up = service.gives_up(&invoice).await.unwrap();
        assert_eq!((given_up.state(), given_up.due_minor), (InvoiceState::Uncollectible, 2_000));
        assert_eq!(ann.subscription().await.unwrap().status(), pb::SubscriptionStatus::Active);
        for refused in [
            service.gives_up(&invoice).await.unwrap_err(),
            service.voids(&invoice).await.unwrap_err(),
            service.records(&invoice, pb::PaymentState::Failed, 2_000, "bank 1").await.unwrap_err(),
        ] {
            assert_eq!((refused.reason.as_str(), refused.metadata["state"].as_str()), ("INVOICE_NOT_OPEN", "UNCOLLECTIBLE"));
        }
        // What nobody paid for gives no credit.
        let canceled = ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
        assert_eq!((canceled.invoice, canceled.subscription.unwrap().credit_balance_minor), (None, 0));
        // It can be corrected: less is owed. And who pays it after all has paid it.
        assert_eq!(service.corrects(&invoice, 500, CREDIT).await.unwrap().invoice.unwrap().due_minor, 1_500);
        let part = service.records(&invoice, pb::PaymentState::Succeeded, 1_000, "bank 2").await.unwrap().invoice.unwrap();
        assert_eq!((part.state(), part.due_minor), (InvoiceState::Uncollectible, 500));
        let refused = service.records(&invoice, pb::PaymentState::Succeeded, 501, "bank 3").await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.metadata["due_minor"].as_str()), ("PAYMENT_EXCEEDS_DUE", "500"));
        let paid = service.records(&invoice, pb::PaymentState::Succeeded, 500, "bank 4").await.unwrap().invoice.unwrap();
        assert_eq!((paid.state(), paid.paid_minor, paid.close_time), (InvoiceState::Paid, 1_500, Some(world.wire_time())));
        assert_eq!(ann.credit().await, []);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }
}

database_tests! {
    async fn invoices_are_listed_the_latest_first_page_by_page_and_by_state(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, first) = on_team(&world, 5).await;
        service.pays(&first).await;
        for number in 6..=9 {
            ann.changes(seats_now(number)).await.unwrap();
        }
        ann.changes(seats(10)).await.unwrap();
        let all = ann.invoices().await;
        service.voids(&all[1]).await.unwrap();
        service.gives_up(&all[2]).await.unwrap();
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = ann.tries_to_list_invoices(&[], 1, &page_token).await.unwrap();
            assert!(page.invoices.len() <= 1);
            assert!(page.invoices.iter().all(|invoice| invoice.lines.is_empty()));
            seen.extend(numbers(&page.invoices));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, [0, 5, 4, 3, 2, 1]);
        for (states, expected) in [
            (vec![InvoiceState::Draft], vec![0]),
            (vec![InvoiceState::Open], vec![5, 4]),
            (vec![InvoiceState::Paid, InvoiceState::Void], vec![2, 1]),
            (vec![InvoiceState::Uncollectible, InvoiceState::Uncollectible], vec![3]),
        ] {
            let listed = ann.tries_to_list_invoices(&states, 0, "").await.unwrap();
            assert_eq!((numbers(&listed.invoices), listed.next_page_token.as_str()), (expected, ""), "{states:?}");
        }
        // A token is of its own list.
        let token = ann.tries_to_list_invoices(&[], 2, "").await.unwrap().next_page_token;
        assert_eq!(numbers(&ann.tries_to_list_invoices(&[], 2, &token).await.unwrap().invoices), [4, 3]);
        let refused = ann.tries_to_list_invoices(&[InvoiceState::Open], 2, &token).await.unwrap_err();
        assert_eq!(refused.is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
        let refused = ann.tries_to_list_invoices(&[InvoiceState::Open, InvoiceState::Unspecified], -1, "").await.unwrap_err();
        assert_eq!(refused.fields, ["states[1]", "page_size"]);
        world.end().await;
    }

    async fn another_organizations_invoice_is_not_to_be_had(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let (ann, own) = on_team(&world, 5).await;
        let bob = world.person("bob").founds("Beta").await;
        bob.changes(plan("team")).await.unwrap();
        let other = bob.invoices().await.pop().unwrap();
        let refused = ann.tries_to_get_invoice(&other.invoice_id).await.unwrap_err();
        assert_eq!((refused.is(), refused.metadata["invoice_id"].as_str()), ((Code::NotFound, "INVOICE_NOT_FOUND"), other.invoice_id.as_str()));
        let request = pb::GetInvoiceRequest { organization_id: bob.organization_id.clone(), invoice_id: other.invoice_id.clone() };
        let refused = answer(ann.billing().get_invoice(request.clone()).await).unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ORGANIZATION_MISMATCH"));
        let stranger = ann.acting_in(&bob.organization_id, "owner");
        assert_eq!(stranger.tries_to_get_invoice(&other.invoice_id).await.unwrap_err().is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        assert_eq!(answer(service.billing().get_invoice(request).await).unwrap().invoice, Some(other.clone()));
        // Nor is anything done to it by the name of another organization.
        let mixed = pb::Invoice { organization_id: own.organization_id.clone(), ..other.clone() };
        let refusals = [
            service.voids(&mixed).await.unwrap_err(),
            service.gives_up(&mixed).await.unwrap_err(),
            service.corrects(&mixed, 1, CREDIT).await.unwrap_err(),
            service.records(&mixed, pb::PaymentState::Succeeded, 1, "bank 1").await.unwrap_err(),
        ];
        for refused in refusals {
            assert_eq!(refused.is(), (Code::NotFound, "INVOICE_NOT_FOUND"));
        }
        assert_eq!(bob.invoices().await, [other]);
        world.end().await;
    }

    async fn only_roles_that_read_invoices_see_them(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let (ann, invoice) = on_team(&world, 5).await;
        for (name, role) in [("bob", "admin"), ("cas", "member")] {
            let person = ann.brings(name, role).await;
            let organization_id = person.organization_id.clone();
            let download = pb::DownloadInvoiceRequest { organization_id: organization_id.clone(), invoice_id: invoice.invoice_id.clone(), ..Default::default() };
            let credit = pb::ListCreditEntriesRequest { organization_id, ..Default::default() };
            let refusals = [
                person.tries_to_list_invoices(&[], 0, "").await.unwrap_err(),
                person.tries_to_get_invoice(&invoice.invoice_id).await.unwrap_err(),
                answer(person.billing().download_invoice(download).await).unwrap_err(),
                answer(person.billing().list_credit_entries(credit).await).unwrap_err(),
                person.tries_to_list_seats(None, 0, "").await.unwrap_err(),
            ];
            for refused in refusals {
                assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"), "{role}");
            }
        }
        let service = world.service("billing");
        let listed = pb::ListInvoicesRequest { organization_id: ann.organization_id.clone(), ..Default::default() };
        assert_eq!(numbers(&answer(service.billing().list_invoices(listed).await).unwrap().invoices), [1]);
        assert_eq!(moment(invoice.create_time), world.clock.now());
        world.end().await;
    }
}
