//! Two years of a few hundred subscriptions, in which people do whatever they do, against an independent calculation of what
//! ought to be invoiced: to the minor unit, for every invoice of every organization.
//!
//! What the model leaves out, and what the simulation for that reason does not do:
//! - Usage is reported of times since periods are counted as they are now, and not while an organization is unpaid or has ended.
//! - Nobody collects: there is no payment provider, as payments come in by RecordPayment.
//! - The catalogue stays as it is: no new versions of plans. Organizations are not deleted.

mod model;
mod prices;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use tenantry::pb::{self, InvoiceState, LineKind, SubscriptionStatus};
use tenantry::worker;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::harness::billing::{add_on, amounts, moment, plan, seats};
use crate::harness::chance::Chance;
use crate::harness::person::{Person, answer};
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};
use model::{Account, DAY, Invoice, Item, Line, SECOND, Standing, Status, Time, Timing, Wish};
use prices::{ADD_ONS, PLANS};

/// Where chance begins.
const SEED: u64 = 0x7e4a_4271;

/// How long servers run before others replace them: when the workers work anyway, and even if they should not.
const LONG_UP: Duration = Duration::from_secs(20);
const LONGEST_UP: Duration = Duration::from_secs(45);

/// The plans that cost something.
const PAID_PLANS: [&str; 6] = ["team", "odd", "pennies", "business", "tried", "tasted"];

const HOUR: Time = 3_600 * SECOND;

/// How many organizations are seen to at a time.
const AT_ONCE: usize = 8;

/// How somebody pays.
#[derive(Clone, Copy, Debug)]
enum Payer {
    Punctual,
    Sloppy,
    Hardly,
}

/// An organization, as it is and as it should be.
struct Simulated {
    owner: Person,
    service: Person,
    channels: Vec<Channel>,
    account: Account,
    chance: Chance,
    payer: Payer,
    guests: Vec<String>,
    invoice_ids: Vec<String>,
    /// Each invoice as it was when it was first seen.
    seen: Vec<pb::Invoice>,
    /// What was done, for whoever has to find out what went wrong.
    log: Vec<String>,
    counter: usize,
    changes: usize,
}

fn micros(time: Option<prost_types::Timestamp>) -> Time {
    moment(time).timestamp_micros()
}

fn readable(time: Time) -> String {
    DateTime::<Utc>::from_timestamp_micros(time).expect("a time").to_rfc3339()
}

fn timestamp(time: Time) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.rem_euclid(SECOND) * 1_000).expect("less than a second");
    prost_types::Timestamp { seconds: time.div_euclid(SECOND), nanos }
}

fn count<T>(many: &[T]) -> i64 {
    i64::try_from(many.len()).expect("a few")
}

/// A line as it is compared: what for, the amount, from when until when.
type Told = (LineKind, String, i64, Time, Time);

fn told(line: &pb::InvoiceLine) -> Told {
    let (start, end) = (micros(line.period_start_time), micros(line.period_end_time));
    (line.kind(), line.add_on_id.clone(), line.amount_minor, start, end)
}

fn expected(line: &Line) -> Told {
    let (kind, add_on) = match line.item {
        Item::Plan => (LineKind::Plan, ""),
        Item::Seats => (LineKind::Seats, ""),
        Item::AddOn(id) => (LineKind::AddOn, id),
        Item::Usage(id) => (LineKind::Usage, id),
    };
    (kind, add_on.to_owned(), line.amount, line.span.0, line.span.1)
}

fn state(standing: Standing) -> InvoiceState {
    match standing {
        Standing::Open => InvoiceState::Open,
        Standing::Paid => InvoiceState::Paid,
        Standing::Void => InvoiceState::Void,
        Standing::Uncollectible => InvoiceState::Uncollectible,
    }
}

/// What never changes of an invoice that is open.
fn frozen(invoice: &pb::Invoice) -> pb::Invoice {
    pb::Invoice {
        state: 0,
        unpaid_credit_minor: 0,
        credit_applied_minor: 0,
        credited_minor: 0,
        given_back_minor: 0,
        paid_minor: 0,
        due_minor: 0,
        close_time: None,
        payments: Vec::new(),
        credit_notes: Vec::new(),
        ..invoice.clone()
    }
}

/// An outcome but for the ids of invoices, which a preview cannot know: its own, and that of a renewal that is due by now.
fn nameless(outcome: Option<pb::ChangeOutcome>) -> pb::ChangeOutcome {
    let mut outcome = outcome.expect("an outcome");
    let invoices = [outcome.invoice.as_mut(), outcome.next_invoice.as_mut()].into_iter().flatten();
    let lines = invoices.flat_map(|invoice| {
        invoice.invoice_id.clear();
        &mut invoice.lines
    });
    for line in lines.chain(&mut outcome.lines).filter(|line| !line.credited_invoice_id.is_empty()) {
        line.credited_invoice_id = "one".into();
    }
    outcome
}

impl Simulated {
    /// Fails with everything that was done.
    #[expect(clippy::needless_pass_by_value, reason = "what is compared is made where it is compared")]
    fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, found: T, expected: T) {
        assert!(
            found == expected,
            "{what} of {}:\n   found {found:?}\nexpected {expected:?}\n{}\n{:#?}",
            self.owner.organization_id,
            self.log.join("\n"),
            self.account
        );
    }

    fn notes(&mut self, now: Time, what: impl std::fmt::Debug) {
        self.log.push(format!("{} {what:?}", readable(now)));
    }

    /// Somebody speaks to one of the servers.
    fn person(&mut self) -> Person {
        let channel = usize::try_from(self.chance.of(0, count(&self.channels) - 1)).expect("a few");
        self.owner.at(self.channels[channel].clone())
    }

    fn backend(&mut self) -> Person {
        let channel = usize::try_from(self.chance.of(0, count(&self.channels) - 1)).expect("a few");
        self.service.at(self.channels[channel].clone())
    }

    fn unique(&mut self) -> usize {
        self.counter += 1;
        self.counter
    }

    fn compare(&self, subscription: Option<&pb::Subscription>, now: Time) {
        let (found, model) = (subscription.expect("a subscription"), &self.account);
        let status = match model.status {
            Status::Trialing => SubscriptionStatus::Trialing,
            Status::Active => SubscriptionStatus::Active,
            Status::PastDue => SubscriptionStatus::PastDue,
            Status::Unpaid => SubscriptionStatus::Unpaid,
            Status::Canceled => SubscriptionStatus::Canceled,
        };
        self.same("status", found.status(), status);
        let price = found.price.as_ref().expect("a price");
        let terms = model.terms();
        let length = if terms.price.months == 12 { pb::BillingPeriod::Year } else { pb::BillingPeriod::Month };
        self.same(
            "terms",
            (found.plan_id.as_str(), price.currency_code.as_str(), price.billing_period()),
            (terms.plan.id, terms.price.currency, length),
        );
        self.same("seats", found.seats, model.seats());
        self.same("credit", (found.credit_balance_minor, found.unpaid_credit_minor), (model.credit, model.owed_back));
        let add_ons = |add_ons: &[model::Held]| -> Vec<(String, i64)> {
            add_ons.iter().map(|held| (held.add_on.id.to_owned(), held.quantity)).collect()
        };
        let found_add_ons = found.add_ons.iter().map(|held| (held.add_on_id.clone(), held.quantity)).collect();
        self.same("add-ons", found_add_ons, add_ons(model.add_ons()));
        self.same("whether it ends", found.cancel_at_period_end, model.ends);
        self.same("trial", found.trial_end_time.map(|time| micros(Some(time))), model.trial_end);
        let later = found.scheduled_change.as_ref();
        let found_later = later.map(|later| {
            let add_ons = later.add_ons.iter().map(|held| (held.add_on_id.clone(), held.quantity)).collect();
            (later.plan_id.clone(), later.seats, add_ons)
        });
        let later = model.later.as_ref().map(|later| {
            let plan = later.terms.map(|terms| terms.plan.id).unwrap_or_default();
            (plan.to_owned(), later.seats, add_ons(&later.add_ons))
        });
        self.same("scheduled change", found_later, later);
        if model.status != Status::Canceled {
            let found = (micros(found.current_period_start_time), micros(found.current_period_end_time));
            self.same("period", (readable(found.0), readable(found.1)), {
                let (start, end) = model.period_at(now);
                (readable(start), readable(end))
            });
        }
    }

    /// Something that somebody may do.
    async fn acts(&mut self, now: Time) {
        let status = self.account.status;
        match self.chance.of(0, 99) {
            0..=54 => self.changes_something(now).await,
            55..=67 => self.members_come_and_go(now).await,
            68..=83 if !matches!(status, Status::Canceled | Status::Unpaid) => self.reports_usage(now).await,
            84..=87 => self.is_taxed(now).await,
            88..=91 => self.is_corrected(now).await,
            92..=94 => self.cancels(now).await,
            95..=97 => self.resumes(now).await,
            98 => self.forgets_what_is_scheduled(now).await,
            _ => self.goes_up_and_down(now).await,
        }
    }

    fn wish(&mut self, now: Time) -> Wish {
        let (terms, seats) = (self.account.terms(), self.account.seats());
        let (used, unbilled) = (self.account.used(now), self.account.currency.is_none());
        let chance = &mut self.chance;
        let begins = self.account.status == Status::Canceled || terms.plan.id == "free";
        let mut wish = Wish {
            timing: chance.one(&[Timing::Usual, Timing::Usual, Timing::Now, Timing::PeriodEnd]),
            ..Wish::default()
        };
        wish.invoice_now = chance.percent(20);
        if begins || chance.percent(25) {
            let plan = if chance.percent(7) { "free" } else { chance.one(&PAID_PLANS) };
            wish.plan = Some(plan);
            wish.months = chance.percent(40).then(|| chance.one(&[1, 12]));
            wish.skip_trial = chance.percent(25);
            if unbilled && chance.percent(15) {
                wish.currency = Some("JPY");
            }
            if begins && chance.percent(80) {
                wish.timing = Timing::Usual;
            }
            let least = PLANS.iter().find(|other| other.id == plan).expect("a plan").minimum.max(used);
            wish.seats = chance.percent(50).then(|| chance.of(least, least + 6));
        } else if chance.percent(55) {
            wish.seats = Some((seats + chance.of(-4, 4)).max(1));
        }
        if chance.percent(30) || wish.plan.is_none() && wish.seats.is_none() {
            let id = chance.one(ADD_ONS.iter().map(|add_on| add_on.id).collect::<Vec<_>>().as_slice());
            let most = if id == "storage" { 6 } else { 1 };
            wish.add_ons.push((id, chance.of(0, most)));
        }
        wish
    }

    fn request(&self, wish: &Wish) -> pb::UpdateSubscriptionRequest {
        let length = match wish.months {
            Some(12) => pb::BillingPeriod::Year,
            Some(_) => pb::BillingPeriod::Month,
            None => pb::BillingPeriod::Unspecified,
        };
        let timing = match wish.timing {
            Timing::Usual => pb::ChangeTiming::Unspecified,
            Timing::Now => pb::ChangeTiming::Now,
            Timing::PeriodEnd => pb::ChangeTiming::PeriodEnd,
        };
        let invoicing = if wish.invoice_now { pb::ChangeInvoicing::Now } else { pb::ChangeInvoicing::Unspecified };
        let add_on = |(id, quantity): &(&str, i64)| pb::AddOnQuantity { add_on_id: (*id).into(), quantity: *quantity };
        pb::UpdateSubscriptionRequest {
            organization_id: self.owner.organization_id.clone(),
            plan_id: wish.plan.unwrap_or_default().into(),
            billing_period: length.into(),
            currency_code: wish.currency.unwrap_or_default().into(),
            seats: wish.seats,
            add_ons: wish.add_ons.iter().map(add_on).collect(),
            timing: timing.into(),
            invoicing: invoicing.into(),
            skip_trial: wish.skip_trial,
            ..pb::UpdateSubscriptionRequest::default()
        }
    }

    async fn changes_something(&mut self, now: Time) {
        let wish = self.wish(now);
        self.changes_to(wish, now).await;
    }

    /// Changes the subscription by a wish. Some ask before what it would cost, some rehearse it, some send it twice.
    async fn changes_to(&mut self, wish: Wish, now: Time) -> Option<i64> {
        self.notes(now, &wish);
        let request = self.request(&wish);
        let before = if self.chance.percent(30) { Some(self.person().previews(request.clone()).await) } else { None };
        let rehearsed = if self.chance.percent(10) {
            let rehearsal = pb::UpdateSubscriptionRequest { validate_only: true, ..request.clone() };
            Some(self.person().changes(rehearsal).await)
        } else {
            None
        };
        let twice = self.chance.percent(10);
        let request_id = if twice { self.chance.request_id() } else { String::new() };
        let request = pb::UpdateSubscriptionRequest { request_id, ..request };
        let changed = self.person().changes(request.clone()).await;
        let mut model = self.account.clone();
        let outcome = model.change(&wish, now);
        let changed = match (changed, outcome) {
            (Ok(changed), Ok((lines, invoice))) => {
                self.account = model;
                let outcome = changed.outcome.as_ref().expect("an outcome");
                let found = outcome.lines.iter().map(told).collect::<Vec<_>>();
                self.same("lines of a change", found, lines.iter().map(expected).collect());
                let made = outcome.invoice.as_ref().map(|made| (made.number, made.total_minor, made.due_minor));
                let invoice = invoice.map(|index| {
                    let invoice = &self.account.invoices[index];
                    (i64::try_from(index).expect("a few") + 1, invoice.total, invoice.due())
                });
                self.same("invoice of a change", made, invoice);
                let next = outcome.next_invoice.as_ref().map(|next| next.total_minor);
                self.same("next invoice", next, self.account.next_invoice(now));
                self.compare(changed.subscription.as_ref(), now);
                changed
            }
            (Err(refused), outcome) => {
                self.same("refusal", Err(refused.reason.as_str()), outcome.map(|_| "accepted"));
                if let Some(Ok(previewed)) = before {
                    let reason = previewed.blockers.first().map(|blocker| blocker.reason.clone());
                    self.same("blocker", reason, Some(refused.reason.clone()));
                }
                if let Some(rehearsed) = rehearsed {
                    self.same("rehearsal", rehearsed.map(|_| ()), Err(refused));
                }
                return None;
            }
            (Ok(_), Err(reason)) => {
                self.same("refusal", "accepted", reason);
                return None;
            }
        };
        self.changes += 1;
        let outcome = nameless(changed.outcome.clone());
        if let Some(previewed) = before {
            self.same("preview", nameless(previewed.expect("a preview").outcome), outcome.clone());
        }
        if let Some(rehearsed) = rehearsed {
            self.same("rehearsal", nameless(rehearsed.expect("a rehearsal").outcome), outcome.clone());
        }
        if twice {
            let again = self.person().changes(request).await;
            self.same("answer to a repeated request", again, Ok(changed));
        }
        Some(outcome.lines.iter().map(|line| line.amount_minor).sum())
    }

    /// More seats and as many fewer at one instant are nothing.
    async fn goes_up_and_down(&mut self, now: Time) {
        let mut caught_up = self.account.clone();
        caught_up.catch_up(now);
        let seats = caught_up.seats();
        let more = self.chance.of(1, 5);
        let to = |seats| Wish { seats: Some(seats), timing: Timing::Now, ..Wish::default() };
        if let Some(up) = self.changes_to(to(seats + more), now).await
            && let Some(down) = self.changes_to(to(self.account.seats() - more), now).await
        {
            self.same("up and down", up + down, 0);
        }
    }

    async fn members_come_and_go(&mut self, now: Time) {
        if !self.guests.is_empty() && self.chance.percent(45) {
            let guest = self.guests.remove(0);
            self.notes(now, format!("{guest} is removed"));
            self.person().tries_to_remove(&guest).await.expect("anybody but the last owner can be removed");
            self.account.members -= 1;
            return;
        }
        let number = self.unique();
        let guest = format!("{}guest{number}", self.owner.name);
        let stays = self.chance.percent(70);
        self.notes(now, format!("{guest} is invited, and accepts: {stays}"));
        let owner = self.person();
        let invited = owner.tries_to_invite(&[&format!("{guest}@example.com")], "member").await;
        let fits = self.account.used(now) < self.account.seats();
        self.same("whether somebody can be invited", invited.as_ref().map(|_| ()).map_err(|no| no.reason.as_str()), {
            match self.account.status {
                _ if !fits => Err("SEAT_LIMIT_REACHED"),
                Status::PastDue | Status::Unpaid => Err("SUBSCRIPTION_PAST_DUE"),
                _ => Ok(()),
            }
        });
        let Ok(invited) = invited else { return };
        if stays {
            Person::new(owner.channel.clone(), &guest).accepts(&invited[0].token).await;
            self.account.members += 1;
            self.guests.push(guest);
        } else {
            self.account.invited.push(now + 7 * DAY);
        }
    }

    async fn reports_usage(&mut self, now: Time) {
        self.account.catch_up(now);
        let oldest = self.account.anchor().max(now - 34 * DAY);
        let mut reports = Vec::new();
        for _ in 0..self.chance.of(1, 3) {
            let meter = self.chance.one(&["minutes", "level"]);
            let late = if self.chance.percent(60) { 0 } else { self.chance.of(0, now - oldest) };
            let quantity = self.chance.of(0, if meter == "level" { 180 } else { 1_500 });
            let report_id = format!("report {}", self.unique());
            self.account.report(meter, quantity, now - late);
            let time = Some(timestamp(now - late));
            reports.push(pb::UsageReport { report_id, meter: meter.into(), quantity, time });
        }
        let told: Vec<_> = reports.iter().map(|one| (&one.meter, one.quantity, readable(micros(one.time)))).collect();
        let told = format!("{told:?}");
        self.notes(now, told);
        let counted = i32::try_from(reports.len()).expect("a few");
        let organization_id = self.owner.organization_id.clone();
        let request = pb::ReportUsageRequest { organization_id, reports, ..Default::default() };
        let answered = answer(self.backend().billing().report_usage(request.clone()).await).expect("usage is counted");
        self.same("reports counted", (answered.counted, answered.known), (counted, 0));
        if self.chance.percent(20) {
            let answered = answer(self.backend().billing().report_usage(request).await).expect("usage is known");
            self.same("reports counted again", (answered.counted, answered.known), (0, counted));
        }
    }

    async fn is_taxed(&mut self, now: Time) {
        let rate = self.chance.one(&[None, Some((210_000, false)), Some((81_000, false)), Some((190_000, true))]);
        self.notes(now, ("tax", rate));
        let treatment = rate.map(|(rate_millionths, included)| {
            let behavior = if included { pb::TaxBehavior::Inclusive } else { pb::TaxBehavior::Exclusive };
            pb::TaxTreatment { rate_millionths, behavior: behavior.into(), label: "VAT".into(), note: String::new() }
        });
        let request = pb::SetTaxTreatmentRequest {
            organization_id: self.owner.organization_id.clone(),
            tax_treatment: treatment,
            ..Default::default()
        };
        answer(self.backend().billing().set_tax_treatment(request).await).expect("a treatment");
        self.account.rate = rate.map(|(rate, included)| (i64::from(rate), included));
    }

    async fn cancels(&mut self, now: Time) {
        use pb::CancellationMode as Mode;
        let mode = self.chance.one(&[Mode::PeriodEnd, Mode::PeriodEnd, Mode::NowWithCredit, Mode::NowWithoutCredit]);
        self.notes(now, mode);
        let mut model = self.account.clone();
        let outcome = model.cancel(mode == Mode::PeriodEnd, mode == Mode::NowWithCredit, now);
        match self.person().cancels(mode).await {
            Ok(canceled) => {
                self.account = model;
                let last = canceled.invoice.as_ref().map(|last| last.total_minor);
                let expected = outcome.map(|made| made.map(|index| self.account.invoices[index].total));
                self.same("last invoice", Ok(last), expected);
                self.compare(canceled.subscription.as_ref(), now);
            }
            Err(refused) => self.same("refusal", Err(refused.reason.as_str()), outcome.map(|_| "accepted")),
        }
    }

    async fn resumes(&mut self, now: Time) {
        self.notes(now, "resumes");
        let mut model = self.account.clone();
        let outcome = model.resume(now);
        match self.person().resumes().await {
            Ok(subscription) => {
                self.account = model;
                self.compare(Some(&subscription), now);
            }
            Err(refused) => self.same("refusal", Err(refused.reason.as_str()), outcome.map(|()| "accepted")),
        }
    }

    async fn forgets_what_is_scheduled(&mut self, now: Time) {
        self.notes(now, "cancels the scheduled change");
        let organization_id = self.owner.organization_id.clone();
        let request = pb::CancelScheduledChangeRequest { organization_id, ..Default::default() };
        let answered =
            answer(self.person().billing().cancel_scheduled_change(request).await).expect("nothing scheduled");
        self.account.forget_later(now);
        self.compare(answered.subscription.as_ref(), now);
    }

    /// The id of an invoice, by its position.
    async fn invoice_id(&mut self, index: usize) -> String {
        if self.invoice_ids.len() <= index {
            let listed = self.listed().await;
            self.invoice_ids = listed.into_iter().map(|invoice| invoice.invoice_id).collect();
        }
        self.invoice_ids[index].clone()
    }

    /// Every invoice that became open, the first first, without its lines.
    async fn listed(&mut self) -> Vec<pb::Invoice> {
        let (person, mut all, mut page_token) = (self.person(), Vec::new(), String::new());
        loop {
            let organization_id = self.owner.organization_id.clone();
            let request = pb::ListInvoicesRequest { organization_id, page_size: 200, page_token, ..Default::default() };
            let mut listed = answer(person.billing().list_invoices(request).await).expect("invoices");
            all.append(&mut listed.invoices);
            page_token = listed.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        all.retain(|invoice| invoice.state() != InvoiceState::Draft);
        all.reverse();
        all
    }

    /// Pays what is open: in time, in parts, late, or hardly ever.
    async fn pays(&mut self, now: Time) {
        // Now and then also what was given up.
        let given_up = self.chance.percent(10);
        let standing = if given_up { Standing::Uncollectible } else { Standing::Open };
        let open = |invoice: &Invoice| invoice.standing == standing && invoice.due() > 0;
        let Some(index) = self.account.invoices.iter().position(open) else { return };
        let invoice = &self.account.invoices[index];
        let (age, due) = ((now - invoice.made) / DAY, invoice.due());
        let (pays, parts, fails) = match self.payer {
            Payer::Punctual => (age >= 1 && self.chance.percent(60), 3, 1),
            Payer::Sloppy => (self.chance.percent(if age < 14 { 15 } else { 30 }), 30, 15),
            Payer::Hardly => (age > 20 && self.chance.percent(8), 40, 30),
        };
        if !pays {
            return;
        }
        let fails = self.chance.percent(fails) && !given_up;
        let amount = if self.chance.percent(parts) && due > 1 { self.chance.of(1, due - 1) } else { due };
        self.notes(now, ("pays", index + 1, amount, due, !fails));
        let state = if fails { pb::PaymentState::Failed } else { pb::PaymentState::Succeeded };
        let request = pb::RecordPaymentRequest {
            organization_id: self.owner.organization_id.clone(),
            invoice_id: self.invoice_id(index).await,
            state: state.into(),
            amount_minor: amount,
            currency_code: self.account.currency.expect("who has invoices has a currency").into(),
            reference: format!("payment {}", self.unique()),
            ..Default::default()
        };
        let recorded = answer(self.backend().billing().record_payment(request).await).expect("a payment");
        if fails {
            self.account.fail(now);
        } else {
            self.account.pay(index, amount, now);
        }
        let found = recorded.invoice.as_ref().map(|invoice| invoice.due_minor);
        self.same("due after a payment", found, Some(self.account.invoices[index].due()));
        self.compare(recorded.subscription.as_ref(), now);
    }

    /// An invoice is voided, given up, or corrected by a credit note.
    async fn is_corrected(&mut self, now: Time) {
        if self.account.invoices.is_empty() {
            return;
        }
        let index = usize::try_from(self.chance.of(0, count(&self.account.invoices) - 1)).expect("a few");
        let (organization_id, invoice_id) = (self.owner.organization_id.clone(), self.invoice_id(index).await);
        let invoice = &self.account.invoices[index];
        let (standing, creditable) = (invoice.standing, invoice.creditable());
        // What is credited on an invoice would be lost with it.
        let credits = invoice.lines.iter().any(|line| line.amount < 0);
        let untouched = invoice.paid == 0 && invoice.credited == 0 && !credits && self.account.is_whole(index);
        let how = self.chance.of(0, 9);
        self.notes(now, ("corrects", index + 1, how));
        let request_id = String::new();
        if standing == Standing::Open && untouched && how < 4 {
            let request = pb::VoidInvoiceRequest { organization_id, invoice_id, request_id, validate_only: false };
            answer(self.backend().billing().void_invoice(request).await).expect("an open invoice can be voided");
            self.account.close(index, Standing::Void, now);
        } else if standing == Standing::Open && how < 6 {
            let request =
                pb::MarkInvoiceUncollectibleRequest { organization_id, invoice_id, request_id, validate_only: false };
            answer(self.backend().billing().mark_invoice_uncollectible(request).await).expect("an open one can be");
            self.account.close(index, Standing::Uncollectible, now);
        } else if standing != Standing::Void && creditable > 0 {
            let amount_minor = if self.chance.percent(30) { creditable } else { self.chance.of(1, creditable) };
            let to_balance = self.chance.percent(60);
            self.notes(now, ("credit note", amount_minor, to_balance));
            let outcome = if to_balance { pb::CreditNoteOutcome::Unspecified } else { pb::CreditNoteOutcome::PaidBack };
            let request = pb::CreateCreditNoteRequest {
                organization_id,
                invoice_id,
                amount_minor,
                reason: "a correction".into(),
                outcome: outcome.into(),
                request_id,
                validate_only: false,
            };
            answer(self.backend().billing().create_credit_note(request).await).expect("a credit note");
            self.account.credit_note(index, amount_minor, to_balance, now);
        }
    }

    /// Compares every invoice with what it should be: those that were not seen before line by line, at the end all of them.
    async fn is_audited(&mut self, now: Time, whole: bool) {
        let listed = self.listed().await;
        self.invoice_ids = listed.iter().map(|invoice| invoice.invoice_id.clone()).collect();
        let numbers: Vec<i64> = listed.iter().map(|invoice| invoice.number).collect();
        self.same("numbers of invoices", numbers, (1..=count(&self.account.invoices)).collect());
        let organization_id = self.owner.organization_id.clone();
        let request = pb::GetSubscriptionRequest { organization_id };
        let found = answer(self.person().billing().get_subscription(request).await).expect("a subscription");
        self.compare(found.subscription.as_ref(), now);
        for (index, listed) in listed.iter().enumerate() {
            let model = &self.account.invoices[index];
            self.same(
                "where an invoice stands",
                (
                    index + 1,
                    listed.state(),
                    listed.total_minor,
                    listed.credit_applied_minor,
                    listed.credited_minor,
                    listed.paid_minor,
                    listed.due_minor,
                ),
                (index + 1, state(model.standing), model.total, model.applied, model.credited, model.paid, model.due()),
            );
            if !whole && index < self.seen.len() {
                continue;
            }
            let found = self.person().invoice(&listed.invoice_id).await;
            self.compare_invoice(index, &found);
            match self.seen.get(index) {
                Some(seen) => self.same("what a finalized invoice says", frozen(&found), seen.clone()),
                None => self.seen.push(frozen(&found)),
            }
        }
    }

    fn compare_invoice(&self, index: usize, found: &pb::Invoice) {
        let model = &self.account.invoices[index];
        let (taxes, lines): (Vec<_>, Vec<_>) = found.lines.iter().partition(|line| line.kind() == LineKind::Tax);
        let lines: Vec<Told> = lines.into_iter().map(told).collect();
        self.same(&format!("lines of invoice {}", index + 1), lines, model.lines.iter().map(expected).collect());
        let taxes = taxes.iter().map(|line| (i64::from(line.tax_rate_millionths), line.amount_minor)).collect();
        self.same(&format!("taxes of invoice {}", index + 1), taxes, model.taxes.clone());
        self.same(
            &format!("sums of invoice {}", index + 1),
            (found.subtotal_minor, found.tax_minor, found.total_minor, micros(found.finalize_time)),
            (model.subtotal, model.tax, model.total, model.made),
        );
        let sum: i64 = found.lines.iter().map(|line| line.amount_minor).sum();
        self.same("sum of lines", sum, found.total_minor);
    }

    async fn founded(number: usize, world: &World, now: Time) -> Self {
        let mut chance = Chance(SEED ^ (u64::try_from(number).expect("a few") + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let channels: Vec<Channel> = world.servers.iter().map(|server| server.channel.clone()).collect();
        let owner = world.person(&format!("owner{number}")).founds(&format!("Organization {number}")).await;
        let payer = match chance.of(0, 99) {
            0..=74 => Payer::Punctual,
            75..=92 => Payer::Sloppy,
            _ => Payer::Hardly,
        };
        Self {
            owner,
            service: world.service("billing"),
            channels,
            account: Account::founded(now),
            chance,
            payer,
            guests: Vec::new(),
            invoice_ids: Vec::new(),
            seen: Vec::new(),
            log: vec![format!("{} founded, pays: {payer:?}", readable(now))],
            counter: 0,
            changes: 0,
        }
    }
}

/// Everything that is simulated.
struct Simulation {
    world: World,
    organizations: Vec<Simulated>,
    chance: Chance,
    begin: Time,
    end: Time,
    /// Since when the servers run that run now.
    up_since: Instant,
}

impl Simulation {
    fn now(&self) -> Time {
        self.world.clock.now().timestamp_micros()
    }

    /// All have come when two thirds of the time are over.
    async fn some_are_founded(&mut self, many: usize) {
        let (now, length) = (self.now(), self.end - self.begin);
        let share = ((now - self.begin) * 3 / 2 + 20 * DAY).min(length);
        let wanted = i128::from(share) * i128::try_from(many).expect("a few") / i128::from(length);
        while i128::try_from(self.organizations.len()).expect("a few") < wanted {
            let number = self.organizations.len();
            self.organizations.push(Simulated::founded(number, &self.world, now).await);
        }
    }

    async fn everybody_does_something(&mut self) {
        let now = self.now();
        futures::stream::iter(self.organizations.iter_mut())
            .for_each_concurrent(AT_ONCE, |one| async move {
                if one.chance.percent(8) {
                    one.acts(now).await;
                    if one.chance.percent(30) {
                        one.acts(now).await;
                    }
                }
                one.pays(now).await;
            })
            .await;
    }

    /// Lets time pass, and has the workers work unless they are down. Says whether they did.
    async fn time_passes(&mut self) -> bool {
        let wait = TimeDelta::microseconds(step(&mut self.chance));
        let now = self.world.pass(wait).timestamp_micros();
        // Twice for longer than a month.
        let down = [200..237, 500..545].iter().any(|days| days.contains(&((now - self.begin) / DAY)));
        let works = !down && self.chance.percent(85);
        // Each server has a worker of its own, which works when the server starts and once in a minute of the machine's time.
        // So that it never does so while it is to be down, the servers are replaced by others before a minute is over.
        let up = self.up_since.elapsed();
        if up > LONGEST_UP || works && up > LONG_UP {
            self.servers_are_replaced().await;
        } else if !works {
            return false;
        }
        // The workers of all servers at the same time: each thing is done once.
        futures::future::join_all(self.world.servers.iter().map(|server| {
            let stop = CancellationToken::new();
            async move { worker::sweep(&server.app, &stop).await }
        }))
        .await;
        for one in &mut self.organizations {
            one.account.catch_up(now);
        }
        true
    }

    async fn servers_are_replaced(&mut self) {
        for _ in 0..self.world.servers.len() {
            let server = self.world.servers.remove(0);
            server.stop.cancel();
            drop(server.channel);
            server.task.await.expect("a server does not panic").expect("a server stops without an error");
            drop(server.app);
            self.world.start_server().await;
        }
        self.up_since = Instant::now();
        let channels: Vec<Channel> = self.world.servers.iter().map(|server| server.channel.clone()).collect();
        for one in &mut self.organizations {
            one.channels.clone_from(&channels);
        }
        // Who answers has begun its first round of work.
        for channel in channels {
            let service = self.world.service("billing").at(channel);
            answer(service.billing().list_plans(pb::ListPlansRequest {}).await).expect("plans");
        }
        self.world.sweeps().await;
    }

    /// Compares everything, and recounts.
    async fn is_audited(&mut self, whole: bool) {
        let now = self.now();
        futures::stream::iter(self.organizations.iter_mut())
            .for_each_concurrent(AT_ONCE, |one| one.is_audited(now, whole))
            .await;
        assert_eq!(self.world.service("billing").drifts().await, []);
    }

    /// Compares the sums of everything, and tells them.
    fn is_summed_up(&self) -> String {
        let mut invoiced: BTreeMap<&str, (usize, i64, i64)> = BTreeMap::new();
        for one in &self.organizations {
            let Some(currency) = one.account.currency else { continue };
            let (count, found, expected) = invoiced.entry(currency).or_default();
            *count += one.seen.len();
            *found += one.seen.iter().map(|invoice| invoice.total_minor).sum::<i64>();
            *expected += one.account.invoices.iter().map(|invoice| invoice.total).sum::<i64>();
        }
        let told = invoiced.iter().map(|(currency, (invoices, found, expected))| {
            assert_eq!(found, expected, "the sum of everything invoiced in {currency}");
            format!("{invoices} invoices of {found} minor units of {currency}")
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// Who has ended may have more members than seats; the recount at the end of the world takes that for an oversight.
    async fn ends(mut self) {
        self.world.passes(TimeDelta::days(8)).await;
        for one in &mut self.organizations {
            let used = |one: &Simulated| one.account.members - one.account.seats();
            while used(one) > 0 {
                let guest = one.guests.pop().expect("a member");
                one.person().tries_to_remove(&guest).await.expect("removed");
                one.account.members -= 1;
            }
        }
        self.world.end().await;
    }
}

/// The next step of time: hours, days or, rarely, more than a week.
fn step(chance: &mut Chance) -> Time {
    match chance.of(0, 99) {
        0..=34 => chance.of(1, 20 * HOUR),
        35..=79 => chance.of(DAY, 6 * DAY),
        _ => chance.of(5 * DAY, 11 * DAY) / SECOND * SECOND,
    }
}

async fn simulate(backend: Backend, many: usize) {
    let started = Instant::now();
    let setup = Setup { plans: Some(prices::catalogue()), servers: 2, ..Setup::default() };
    let world = World::with(backend, setup).await;
    let begin = world.clock.now().timestamp_micros();
    let end = model::months_after(begin, 24);
    let (organizations, chance, up_since) = (Vec::new(), Chance(SEED), Instant::now());
    let mut simulation = Simulation { world, organizations, chance, begin, end, up_since };
    let (mut steps, mut audits) = (0, 0);
    while simulation.now() < end {
        simulation.some_are_founded(many).await;
        simulation.everybody_does_something().await;
        let worked = simulation.time_passes().await;
        steps += 1;
        let thirds = (simulation.now() - begin) * 3 / (end - begin);
        if worked && thirds > audits && thirds < 3 {
            audits = thirds;
            simulation.is_audited(false).await;
        }
    }
    simulation.servers_are_replaced().await;
    let now = simulation.now();
    for one in &mut simulation.organizations {
        one.account.catch_up(now);
    }
    simulation.is_audited(true).await;
    let changes: usize = simulation.organizations.iter().map(|one| one.changes).sum();
    let acts: usize = simulation.organizations.iter().map(|one| one.log.len()).sum();
    println!(
        "{backend:?}, seed {SEED:#x}: {many} subscriptions, {steps} steps of time, {acts} acts, {changes} of them changes \
         of a subscription; {}; {:?}",
        simulation.is_summed_up(),
        started.elapsed()
    );
    simulation.ends().await;
}

database_tests! {
    async fn two_years_of_many_subscriptions_are_invoiced_as_an_independent_calculation_says(backend: Backend) {
        let many = match backend {
            Backend::Postgres => 200,
            Backend::Sqlite => 80,
        };
        simulate(backend, many).await;
    }

    async fn a_change_that_first_catches_up_can_begin_a_new_draft(backend: Backend) {
        let (world, ann) = founded(backend).await;
        ann.changes(plan("team")).await.unwrap();
        world.service("billing").pays(&ann.invoices().await[0]).await;
        world.pass(TimeDelta::days(20));
        ann.changes(seats(6)).await.unwrap();
        // Nobody has seen to it since the period ended.
        world.pass(TimeDelta::days(15));
        assert_eq!(ann.changes(seats(7)).await.unwrap().outcome.unwrap().lines.len(), 1);
        let states: Vec<InvoiceState> = ann.invoices().await.iter().map(pb::Invoice::state).collect();
        assert_eq!(states, [InvoiceState::Paid, InvoiceState::Open, InvoiceState::Draft]);
        world.end().await;
    }

    async fn usage_is_charged_of_periods_in_which_the_add_on_was_there(backend: Backend) {
        let (world, ann) = founded(backend).await;
        ann.changes(plan("team")).await.unwrap();
        uses(&world, &ann, 5_000).await;
        world.passes(TimeDelta::days(40)).await;
        for invoice in ann.invoices().await {
            world.service("billing").pays(&invoice).await;
        }
        ann.changes(add_on("minutes", 1)).await.unwrap();
        uses(&world, &ann, 1_010).await;
        world.passes(TimeDelta::days(31)).await;
        let charged: Vec<i64> = ann.invoices().await.iter().flat_map(usage).collect();
        assert_eq!(charged, [7]);
        world.end().await;
    }

    async fn usage_of_a_trial_is_never_charged(backend: Backend) {
        let (world, ann) = founded(backend).await;
        ann.changes(pb::UpdateSubscriptionRequest { add_ons: add_on("minutes", 1).add_ons, ..plan("tried") }).await.unwrap();
        uses(&world, &ann, 5_000).await;
        // What comes after the trial is of the first period, even if nobody has ended the trial yet.
        world.pass(TimeDelta::days(15));
        uses(&world, &ann, 1_010).await;
        world.passes(TimeDelta::days(40)).await;
        assert_eq!(ann.invoices().await.iter().flat_map(usage).collect::<Vec<i64>>(), [7]);
        let bob = world.person("bob").founds("Other").await;
        bob.changes(pb::UpdateSubscriptionRequest { add_ons: add_on("minutes", 1).add_ons, ..plan("tried") }).await.unwrap();
        uses(&world, &bob, 5_000).await;
        world.passes(TimeDelta::days(3)).await;
        bob.cancels(pb::CancellationMode::NowWithCredit).await.unwrap();
        assert_eq!(bob.invoices().await, []);
        world.end().await;
    }

    async fn a_payment_that_fails_after_the_end_is_made_good_before_anything_begins_anew_and_does_not_burden_it(backend: Backend) {
        let (world, ann) = founded(backend).await;
        ann.changes(plan("team")).await.unwrap();
        ann.cancels(pb::CancellationMode::NowWithoutCredit).await.unwrap();
        let invoice = ann.invoices().await.remove(0);
        world.service("billing").records(&invoice, pb::PaymentState::Failed, 1, "failed").await.unwrap();
        assert_eq!(ann.changes(plan("team")).await.unwrap_err().reason, "SUBSCRIPTION_PAST_DUE");
        world.passes(TimeDelta::days(30)).await;
        world.service("billing").pays(&invoice).await;
        let subscription = ann.changes(plan("team")).await.unwrap().subscription.unwrap();
        assert_eq!((subscription.status(), subscription.past_due_time), (SubscriptionStatus::Active, None));
        world.end().await;
    }

    async fn a_scheduled_plan_in_another_currency_has_its_add_ons_at_prices_of_that_currency(backend: Backend) {
        let (world, ann) = founded(backend).await;
        let add_ons = add_on("storage", 1).add_ons;
        ann.changes(pb::UpdateSubscriptionRequest { add_ons, currency_code: "JPY".into(), ..plan("tried") }).await.unwrap();
        let timing = pb::ChangeTiming::PeriodEnd.into();
        ann.changes(pb::UpdateSubscriptionRequest { timing, currency_code: "EUR".into(), ..plan("team") }).await.unwrap();
        world.passes(TimeDelta::days(14)).await;
        assert_eq!(amounts(&ann.invoices().await[0].lines), [2_000, 499]);
        world.end().await;
    }
}

async fn founded(backend: Backend) -> (World, Person) {
    let world = World::with(backend, Setup { plans: Some(prices::catalogue()), ..Setup::default() }).await;
    let ann = world.person("ann").founds("Acme").await;
    (world, ann)
}

/// Reports that so many minutes are used now.
async fn uses(world: &World, person: &Person, quantity: i64) {
    let report_id = world.clock.now().to_rfc3339();
    let reports = vec![pb::UsageReport { report_id, meter: "minutes".into(), quantity, time: None }];
    let request =
        pb::ReportUsageRequest { organization_id: person.organization_id.clone(), reports, ..Default::default() };
    answer(world.service("billing").billing().report_usage(request).await).expect("usage is counted");
}

/// What an invoice charges for usage.
fn usage(invoice: &pb::Invoice) -> Vec<i64> {
    invoice.lines.iter().filter(|line| line.kind() == LineKind::Usage).map(|line| line.amount_minor).collect()
}
