//! Payment: what comes in, what fails, and what is asked of the payment provider.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Account, Draft, Kept};
use crate::billing::money;
use crate::billing::proration::{self, Line, Lot};
use crate::billing::provider::Grain;
use crate::billing::shown;
use crate::billing::subscription::Status;
use crate::entity::credit_entry::Cause;
use crate::entity::invoice::{self, State};
use crate::entity::{credit_note, payment, subscription};
use crate::error::{Billing, Error};
use crate::event::Change;
use crate::id;
use crate::operation::store::write_json;

/// With what the payment provider is asked for a payment: kept with it, so that it is asked alike each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The customer.
    pub customer: String,
    /// The payment method.
    pub payment_method: String,
    /// What kind of one it is.
    pub payment_method_kind: String,
    /// The invoice's printed number.
    pub invoice_number: String,
}

/// A payment that came, or did not.
#[derive(Clone, Debug)]
pub struct Paid {
    /// Whether it came.
    pub succeeded: bool,
    /// How much.
    pub amount_minor: i64,
    /// Why it did not.
    pub failure: String,
    /// Whether trying the same payment method again is of no use.
    pub hard: bool,
}

/// The refusal of what an invoice would have to be in another state for.
#[must_use]
pub fn not_open(row: &invoice::Model) -> Error {
    Billing::InvoiceNotOpen { invoice_id: row.invoice_id, state: shown::state_name(row.state) }.into()
}

impl Account<'_> {
    /// The open invoice of this id.
    ///
    /// # Errors
    ///
    /// When it is not open; the caller has seen that it is there.
    fn open(&mut self, row: &invoice::Model) -> Result<usize, Error> {
        let found = self.invoices.iter().position(|kept| kept.row.invoice_id == row.invoice_id);
        found.ok_or_else(|| not_open(row))
    }

    /// The invoice of this id, if it is open or was given up: who pays it after all may.
    fn payable(&mut self, row: &invoice::Model) -> Result<usize, Error> {
        if row.state != State::Uncollectible {
            return self.open(row);
        }
        self.invoices.push(Kept { row: row.clone(), lines: Vec::new(), taxes: Vec::new(), changed: false });
        Ok(self.invoices.len() - 1)
    }

    /// Notes a payment of an invoice that is open or was given up, which came; or of an open one, which did not.
    ///
    /// # Errors
    ///
    /// When the invoice is in another state, or more was paid than is due.
    pub fn note_payment(
        &mut self,
        row: &invoice::Model,
        payment_id: Uuid,
        paid: &Paid,
        now: DateTime<Utc>,
    ) -> Result<usize, Error> {
        let invoice_id = row.invoice_id;
        let index = if paid.succeeded { self.payable(row)? } else { self.open(row)? };
        if !paid.succeeded {
            self.changes.push(Change::PaymentFailed { payment_id, invoice_id, failure: paid.failure.clone() });
            self.overdue(paid.hard, now);
            return Ok(index);
        }
        let Some(kept) = self.invoices.get_mut(index) else { return Ok(index) };
        let due_minor = kept.row.due_minor();
        if paid.amount_minor > due_minor {
            return Err(Billing::PaymentExceedsDue { due_minor, amount_minor: paid.amount_minor }.into());
        }
        kept.row.paid_minor += paid.amount_minor;
        kept.changed = true;
        let given_up = Some(kept.row.unpaid_credit_minor).filter(|_| kept.row.state == State::Uncollectible);
        let currency_code = kept.row.currency.clone();
        let amount_minor = paid.amount_minor;
        self.changes.push(Change::PaymentSucceeded { payment_id, invoice_id, amount_minor, currency_code });
        if let Some(unpaid_credit) = given_up {
            self.take_back(index, unpaid_credit, now)?;
            self.apply_credit(now)?;
        }
        self.close_if_paid(index, now);
        self.give_up_if_little(index, now)?;
        self.recover(now);
        Ok(index)
    }

    /// Notes what came of a payment that a provider was asked for, with a payment method. Money that has come is money, also when
    /// the invoice was paid, credited or given up meanwhile: what is more than is due becomes credit. If there is another payment
    /// method by now, the failure of the one before says nothing of it, and it is tried at once.
    ///
    /// # Errors
    ///
    /// When the credit would be larger than there can be.
    pub fn note_collected(
        &mut self,
        row: &invoice::Model,
        payment_id: Uuid,
        paid: &Paid,
        method: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if !paid.succeeded {
            if row.state != State::Open {
                let (invoice_id, failure) = (row.invoice_id, paid.failure.clone());
                self.changes.push(Change::PaymentFailed { payment_id, invoice_id, failure });
                return Ok(());
            }
            let other = self.default_method.as_ref().is_some_and(|now| Some(now.reference.as_str()) != method);
            let paid = Paid { hard: paid.hard && !other, ..paid.clone() };
            let index = self.note_payment(row, payment_id, &paid, now)?;
            return if other { self.ask_for(index, now) } else { Ok(()) };
        }
        let due_minor = row.due_minor();
        if paid.amount_minor <= due_minor {
            return self.note_payment(row, payment_id, paid, now).map(|_| ());
        }
        let more = paid.amount_minor - due_minor;
        if due_minor > 0 {
            let part = Paid { amount_minor: due_minor, ..paid.clone() };
            self.note_payment(row, payment_id, &part, now)?;
        }
        let (invoice_id, currency_code) = (row.invoice_id, row.currency.clone());
        self.changes.push(Change::PaymentSucceeded { payment_id, invoice_id, amount_minor: more, currency_code });
        self.move_credit(more, Cause::Overpaid, invoice_id, None, now)?;
        self.apply_credit(now)
    }

    /// An invoice of which nothing is due is paid.
    pub(super) fn close_if_paid(&mut self, index: usize, now: DateTime<Utc>) {
        let unpaid = |kept: &&mut Kept| matches!(kept.row.state, State::Open | State::Uncollectible);
        let Some(kept) = self.invoices.get_mut(index).filter(unpaid) else { return };
        if kept.row.due_minor() == 0 {
            kept.row.state = State::Paid;
            kept.row.closed_at = Some(now);
            kept.changed = true;
            let (invoice_id, number) = (kept.row.invoice_id, kept.row.number.unwrap_or_default());
            self.changes.push(Change::InvoicePaid { invoice_id, number });
        }
    }

    /// If nothing is overdue any more, service goes on. Whoever had none for a while begins a new period.
    pub(super) fn recover(&mut self, now: DateTime<Utc>) {
        let open = self.invoices.iter().filter(|kept| kept.row.state == State::Open && kept.row.due_minor() > 0);
        let collecting = self.is_collecting();
        let uncollected = open.clone().filter(|_| !collecting).filter_map(|kept| kept.row.due_at).min();
        let since = self.subscription.agreement.overdue.map(|overdue| overdue.since);
        // What became open later and is to be paid later is not overdue yet; whether it can be collected, its payment tells.
        let waits =
            |kept: &&Kept| collecting || kept.row.finalized_at <= since || kept.row.due_at.is_none_or(|at| at <= now);
        let none_overdue = !open.clone().any(|kept| waits(&kept));
        let agreement = &mut self.subscription.agreement;
        agreement.payment_due_at = uncollected;
        if !none_overdue || agreement.overdue.is_none() {
            return;
        }
        agreement.overdue = None;
        let had_no_service = self.subscription.status == Status::Unpaid;
        if matches!(self.subscription.status, Status::PastDue | Status::Unpaid) {
            self.subscription.status = Status::Active;
            self.changes.push(Change::SubscriptionRecovered {});
        }
        if let Some(at) =
            agreement.scheduled.as_mut().and_then(|scheduled| scheduled.at.as_mut()).filter(|_| had_no_service)
        {
            // Nor is that what was to begin within it.
            *at = now.max(*at);
        }
        if had_no_service && self.subscription.is_charged() && self.subscription.agreement.period.end <= now {
            // The time without service is not charged.
            self.subscription.agreement.period.end = now;
            self.subscription.agreement.anchor = now;
        }
    }

    /// Whether a payment provider collects what is due.
    pub(super) fn is_collecting(&self) -> bool {
        self.provider.collects() && self.default_method.is_some()
    }

    /// Has an invoice collected or, where nobody does that, waits for its date; gives up what is too little to be collected.
    pub(super) fn ask_for(&mut self, index: usize, now: DateTime<Utc>) -> Result<(), Error> {
        let Some(kept) = self.invoices.get(index) else { return Ok(()) };
        let asks = self.payments.iter().map(|payment| &payment.invoice_id).chain(&self.asked);
        if kept.row.state != State::Open || asks.into_iter().any(|asked| *asked == kept.row.invoice_id) {
            return Ok(());
        }
        let method = self.default_method.clone().filter(|_| self.provider.collects());
        let Some((method, customer)) = method.zip(self.row.provider_customer.clone()) else {
            let due_at = &mut self.subscription.agreement.payment_due_at;
            *due_at = due_at.iter().copied().chain(kept.row.due_at).min();
            return Ok(());
        };
        let Some(amount_minor) = self.collectable(kept.row.due_minor()) else { return self.give_up_little(index, now) };
        let number = kept.row.number.unwrap_or_default();
        let asked = Asked {
            customer,
            payment_method: method.reference,
            payment_method_kind: method.kind,
            invoice_number: shown::printed_number(kept.row.organization_id, "", number),
        };
        self.payments.push(payment::Model {
            organization_id: kept.row.organization_id,
            payment_id: id::new(now),
            invoice_id: kept.row.invoice_id,
            state: payment::State::Pending,
            amount_minor,
            currency: kept.row.currency.clone(),
            provider: method.provider,
            reference: None,
            failure: String::new(),
            created_at: now,
            ended_at: None,
            claimed_until: Some(now),
            request: Some(write_json(&asked)?),
        });
        Ok(())
    }

    /// How much can be collected of what is due; none where that is too little.
    fn collectable(&self, due_minor: i64) -> Option<i64> {
        let Grain { least_minor, step_minor } = self.grain();
        Some(due_minor - due_minor % step_minor).filter(|amount| *amount >= least_minor)
    }

    /// Gives up an invoice, if what is left of it to be paid is too little to be collected.
    fn give_up_if_little(&mut self, index: usize, now: DateTime<Utc>) -> Result<(), Error> {
        let open = self.invoices.get(index).filter(|kept| kept.row.state == State::Open);
        let is_little = open.is_some_and(|kept| self.collectable(kept.row.due_minor()).is_none());
        if is_little { self.give_up_little(index, now) } else { Ok(()) }
    }

    /// Gives up an invoice of which too little is due to be collected.
    fn give_up_little(&mut self, index: usize, now: DateTime<Utc>) -> Result<(), Error> {
        self.settle_by_itself(index, now)?;
        if self.invoices.get(index).is_some_and(|kept| kept.row.state == State::Open) {
            self.close(index, State::Uncollectible, now)?;
        }
        self.recover(now);
        Ok(())
    }

    /// Has an invoice collected for what is due of it by now.
    ///
    /// # Errors
    ///
    /// When what is asked cannot be written.
    pub fn ask_again(&mut self, invoice_id: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
        let index = self.invoices.iter().position(|kept| kept.row.invoice_id == invoice_id);
        index.map_or(Ok(()), |index| self.ask_for(index, now))
    }

    /// Has everything collected that is due.
    ///
    /// # Errors
    ///
    /// When what is asked cannot be written.
    pub fn ask_for_all(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        for index in 0..self.invoices.len() {
            self.ask_for(index, now)?;
        }
        Ok(())
    }

    /// Tries again at once what is overdue: there is another payment method.
    ///
    /// # Errors
    ///
    /// When what is asked cannot be written.
    pub fn payment_method_changed(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        if let Some(overdue) = self.subscription.agreement.overdue.as_mut() {
            overdue.hard = false;
        }
        self.ask_for_all(now)
    }

    /// Voids an open invoice, of which nothing is paid. Credit that was applied to it is given back, what it charged in advance
    /// is worth nothing any more, and what of it waits to be given back or was carried over is not.
    ///
    /// # Errors
    ///
    /// When it is not open, or a part of it is paid or was given back on another invoice.
    pub fn void(&mut self, row: &invoice::Model, now: DateTime<Utc>) -> Result<usize, Error> {
        let index = self.open(row)?;
        for line in self.take_credit_of(row.invoice_id) {
            if let Some((invoice_id, amount_minor)) = line.gives_back()? {
                self.given_back.push((invoice_id, -amount_minor));
            }
        }
        if let Some(finalized_at) = row.finalized_at {
            self.take_lines(|line| line.is_carried_at(finalized_at));
        }
        if row.paid_minor > 0 || row.credited_minor > 0 || self.given_back_of(row) > 0 {
            return Err(Billing::InvoicePartlyPaid { invoice_id: row.invoice_id }.into());
        }
        let applied = row.credit_applied_minor;
        self.close(index, State::Void, now)?;
        if applied > 0 {
            self.give_credit(applied, Cause::InvoiceVoided, row.invoice_id, None, now)?;
        }
        self.recover(now);
        Ok(index)
    }

    /// Gives an open invoice up. What of it waits to be given back becomes credit first: that pays what is open, and only the
    /// rest is lost.
    ///
    /// # Errors
    ///
    /// When it is not open.
    pub fn give_up(&mut self, row: &invoice::Model, now: DateTime<Utc>) -> Result<usize, Error> {
        let index = self.open(row)?;
        self.settle_by_itself(index, now)?;
        if self.invoices.get(index).is_some_and(|kept| kept.row.state == State::Open) {
            self.close(index, State::Uncollectible, now)?;
            self.recover(now);
        }
        Ok(index)
    }

    /// Has what waits to be given back of an invoice become credit, by an invoice of its own, which pays that one first.
    fn settle_by_itself(&mut self, index: usize, now: DateTime<Utc>) -> Result<(), Error> {
        let Some(of) = self.invoices.get(index).map(|kept| kept.row.invoice_id) else { return Ok(()) };
        let lines = self.take_credit_of(of);
        if lines.is_empty() {
            return Ok(());
        }
        let kept = self.invoices.remove(index);
        self.invoices.insert(0, kept);
        let (waits, invoice_id) = (self.draft.take(), id::new(now));
        self.draft = Some(Draft { invoice_id, lines, created_at: now, changed: true });
        self.finalize(now, true)?;
        self.draft = waits;
        let kept = self.invoices.remove(0);
        self.invoices.insert(index, kept);
        Ok(())
    }

    /// Takes what gives back of an invoice off the one that is being collected.
    fn take_credit_of(&mut self, invoice_id: Uuid) -> Vec<Line> {
        self.take_lines(|line| line.returned.is_some_and(|returned| returned.invoice_id == Some(invoice_id)))
    }

    /// Takes lines off the invoice that is being collected.
    fn take_lines(&mut self, which: impl Fn(&Line) -> bool) -> Vec<Line> {
        let Some(draft) = self.draft.as_mut() else { return Vec::new() };
        let taken: Vec<Line> = draft.lines.extract_if(.., |line| which(line)).collect();
        draft.changed |= !taken.is_empty();
        if draft.lines.is_empty() {
            self.dropped_draft = self.draft.take().map(|draft| draft.invoice_id);
        }
        taken
    }

    /// Has what waits to be given back of each open invoice pay that one first.
    pub(super) fn settle_each(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        for index in 0..self.invoices.len() {
            if self.invoices.get(index).is_some_and(|kept| kept.row.state == State::Open) {
                self.settle_by_itself(index, now)?;
            }
        }
        Ok(())
    }

    /// Gives up everything that is open.
    pub(super) fn write_off(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        for index in 0..self.invoices.len() {
            if self.invoices.get(index).is_some_and(|kept| kept.row.state == State::Open) {
                self.close(index, State::Uncollectible, now)?;
            }
        }
        Ok(())
    }

    /// Closes an invoice that nobody will pay: as far as it is not paid, what it charged in advance cannot become credit, and what of
    /// it has is taken back.
    fn close(&mut self, index: usize, state: State, now: DateTime<Utc>) -> Result<(), Error> {
        let left = self.invoices.get(index).map_or(0, |kept| self.left_of(&kept.row));
        let Some(kept) = self.invoices.get_mut(index) else { return Ok(()) };
        let row = &kept.row;
        let unpaid = if state == State::Uncollectible { row.due_minor() } else { left };
        kept.row.state = state;
        kept.row.closed_at = Some(now);
        kept.changed = true;
        let (invoice_id, number) = (kept.row.invoice_id, kept.row.number.unwrap_or_default());
        self.changes.push(if state == State::Void {
            kept.row.credit_applied_minor = 0;
            Change::InvoiceVoided { invoice_id, number }
        } else {
            Change::InvoiceUncollectible { invoice_id, number }
        });
        // Nor is it asked for, if it was about to be.
        self.payments.retain(|payment| payment.invoice_id != invoice_id);
        // What was paid of it, by money or by what was charged before, is worth what it was.
        self.write_down(invoice_id, unpaid, left)?;
        self.take_back(index, i64::MAX, now)
    }

    /// Makes what an invoice charged worth less, by a part of what is left of it; nothing, where that is all.
    fn write_down(&mut self, invoice_id: Uuid, part: i64, left: i64) -> Result<(), Error> {
        let own = self.subscription.agreement.lots.iter_mut().filter(|lot| lot.invoice_id == invoice_id);
        if part < left {
            return Ok(proration::write_down(own, part, left)?);
        }
        own.for_each(Lot::write_off);
        Ok(())
    }

    /// Takes back what became credit of an invoice that was given up, beyond what was paid of it: from the balance and, where that is
    /// gone, from what will be given back. Once it is paid after all, the other way round: `most` is what it is at most then.
    fn take_back(&mut self, index: usize, most: i64, now: DateTime<Utc>) -> Result<(), Error> {
        let found = self.invoices.get(index).filter(|kept| kept.row.charged_minor.is_some());
        let Some((left, given_back)) = found.map(|kept| (self.left_of(&kept.row), self.given_back_of(&kept.row)))
        else {
            // Of one that an older version wrote, nobody knows what was given back of it.
            return Ok(());
        };
        let Some(kept) = self.invoices.get_mut(index) else { return Ok(()) };
        let row = &mut kept.row;
        let unpaid = if row.state == State::Uncollectible { row.due_minor() - left } else { 0 };
        // What was carried over to it came from no credit.
        let unpaid = unpaid.min(given_back).clamp(0, most);
        let before = std::mem::replace(&mut row.unpaid_credit_minor, unpaid);
        kept.changed |= before != unpaid;
        let invoice_id = row.invoice_id;
        let Self { row: subscription::Model { credit_minor, unpaid_credit_minor, .. }, .. } = self;
        let moved = if unpaid > before {
            let taken = (unpaid - before).min(*credit_minor);
            *unpaid_credit_minor += unpaid - before - taken;
            -taken
        } else {
            let still_owed = (before - unpaid).min(*unpaid_credit_minor);
            *unpaid_credit_minor -= still_owed;
            before - unpaid - still_owed
        };
        if moved == 0 { Ok(()) } else { self.move_credit(moved, Cause::InvoiceUncollectible, invoice_id, None, now) }
    }

    /// What is left of what an invoice charged, after all that was given back of it. Of one that an older version wrote, all of it is
    /// taken to be.
    fn left_of(&self, row: &invoice::Model) -> i64 {
        let left = row.charged_minor.map(|charged| charged - self.given_back_of(row));
        left.unwrap_or(row.total_minor - row.credited_minor).max(0)
    }

    /// What was given back of an invoice, now and before.
    fn given_back_of(&self, row: &invoice::Model) -> i64 {
        let of_it = self.given_back.iter().filter(|(invoice_id, _)| *invoice_id == row.invoice_id);
        row.given_back_minor + of_it.map(|(_, amount_minor)| amount_minor).sum::<i64>()
    }

    /// Corrects an invoice by a credit note: what is due becomes less, and what is beyond that becomes credit or was paid back.
    ///
    /// # Errors
    ///
    /// When the invoice is a draft or void, or more would be credited than it came to.
    pub fn credit_note(
        &mut self,
        row: &invoice::Model,
        credited_before: i64,
        amount_minor: i64,
        reason: &str,
        outcome: credit_note::Outcome,
        now: DateTime<Utc>,
    ) -> Result<credit_note::Model, Error> {
        if matches!(row.state, State::Draft | State::Void) {
            return Err(not_open(row));
        }
        // Neither more than it came to, nor more than is left of what it charged.
        let left_minor =
            row.charged_minor.map_or(row.total_minor - credited_before, |charged| charged - row.given_back_minor);
        let creditable_minor = left_minor.min(row.total_minor - credited_before).max(0);
        if amount_minor > creditable_minor {
            return Err(Billing::CreditExceedsInvoice { creditable_minor }.into());
        }
        let known = self.invoices.iter().position(|kept| kept.row.invoice_id == row.invoice_id);
        let index = known.unwrap_or_else(|| {
            self.invoices.push(Kept { row: row.clone(), lines: Vec::new(), taxes: Vec::new(), changed: false });
            self.invoices.len() - 1
        });
        let off_due_minor = amount_minor.min(row.due_minor());
        if let Some(kept) = self.invoices.get_mut(index).filter(|_| off_due_minor > 0) {
            kept.row.credited_minor += off_due_minor;
            kept.changed = true;
        }
        // What was credited of a charge is not there to be given back a second time; what nobody would pay is not there already.
        let written_off = if row.state == State::Uncollectible { row.due_minor() } else { 0 };
        let part = amount_minor - off_due_minor.min(written_off);
        if part > 0 {
            self.write_down(row.invoice_id, part, left_minor - written_off)?;
        }
        self.given_back.push((row.invoice_id, amount_minor));
        // The tax of all notes together is that of what they credit.
        let tax_of = |credited: i64| money::share(row.tax_minor, credited.into(), i128::from(row.total_minor).max(1));
        let tax_minor = tax_of(credited_before + amount_minor)? - tax_of(credited_before)?;
        self.row.last_credit_note_number += 1;
        let credit_note = credit_note::Model {
            organization_id: row.organization_id,
            credit_note_id: id::new(now),
            invoice_id: row.invoice_id,
            number: self.row.last_credit_note_number,
            amount_minor,
            tax_minor,
            off_due_minor,
            reason: reason.to_owned(),
            outcome,
            created_at: now,
        };
        self.changes.push(Change::CreditNoteCreated {
            credit_note_id: credit_note.credit_note_id,
            invoice_id: row.invoice_id,
            number: credit_note.number,
            amount_minor,
        });
        let rest = amount_minor - off_due_minor;
        if rest > 0 && outcome == credit_note::Outcome::CreditBalance {
            self.give_credit(rest, Cause::CreditNote, row.invoice_id, Some(credit_note.credit_note_id), now)?;
        }
        self.close_if_paid(index, now);
        self.give_up_if_little(index, now)?;
        self.recover(now);
        Ok(credit_note)
    }
}
