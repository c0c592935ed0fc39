//! The billing account of an organization, whole and in memory: the subscription, the invoice that is being collected, what is
//! open, credit and usage.
//!
//! Whatever billing does, it does to this: a change, a renewal, a payment. Then [`Account::save`] writes what has become
//! different, under the organization's lock; or nobody does, and it was a preview: the same code without the write.

mod collect;
mod load;
mod save;
mod steps;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::catalogue::Catalogue;
use super::change::{self, Circumstances, Decision, Wish};
use super::invoicing::{self, TaxTreatment, Totals};
use super::money::{self, Currency};
use super::proration::{self, Line, TaxRate};
use super::provider::{Grain, Provider};
use super::seats::Usage;
use super::subscription::{Status, Subscription};
use crate::entity::credit_entry::{self, Cause};
use crate::entity::invoice::{self, State};
use crate::entity::{billing_profile, payment, payment_method, subscription, usage_total};
use crate::error::Error;
use crate::event::Change;
use crate::id;

pub use collect::{Asked, Paid, not_open};
pub use load::subscription_of;
pub use save::{Issuer, Recipient};

/// The billing account of an organization.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    /// The catalogue in force.
    pub catalogue: &'a Catalogue,
    /// The subscription.
    pub subscription: Subscription,
    /// The invoice that is being collected.
    pub draft: Option<Draft>,
    /// The invoices that are open, the oldest first, and those that became something else by what was done.
    pub invoices: Vec<Kept>,
    /// What has happened to it.
    pub changes: Vec<Change>,
    /// Who collects what is due.
    pub provider: &'a Provider,
    /// How invoices are paid, where a provider collects them.
    pub default_method: Option<payment_method::Model>,
    row: subscription::Model,
    stored: subscription::Model,
    before: Subscription,
    profile: Option<billing_profile::Model>,
    organization_name: String,
    treatment: Option<TaxTreatment>,
    usage: Vec<usage_total::Model>,
    usage_before: Vec<usage_total::Model>,
    credits: Vec<credit_entry::Model>,
    payments: Vec<payment::Model>,
    /// What is given back of which invoice; below zero, that it is not after all.
    given_back: Vec<(Uuid, i64)>,
    /// The stored draft, when it has no lines any more.
    dropped_draft: Option<Uuid>,
    /// The invoices that are being asked for already.
    asked: Vec<Uuid>,
    next_invoice_id: Uuid,
}

/// The invoice that is being collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Which.
    pub invoice_id: Uuid,
    /// Its lines.
    pub lines: Vec<Line>,
    created_at: DateTime<Utc>,
    /// Whether it has become different from what is stored.
    changed: bool,
}

/// An invoice that is no draft any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What is stored of it.
    pub row: invoice::Model,
    /// Its lines with the treatment of their tax, if it has just become open.
    pub lines: Vec<(Line, Option<TaxRate>)>,
    /// The taxes on top, if it has just become open.
    pub taxes: Vec<invoicing::Tax>,
    changed: bool,
}

/// What somebody is shown of a draft, or of an invoice that is only foreseen.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// Its lines.
    pub lines: Vec<Line>,
    /// What they come to.
    pub totals: Totals,
    /// What the credit balance would pay of it.
    pub credit_applied_minor: i64,
    /// When it will become open.
    pub at: DateTime<Utc>,
}

impl Kept {
    /// What somebody is shown of one that has just become open.
    #[must_use]
    pub fn told(&self, at: DateTime<Utc>) -> Foreseen {
        Foreseen {
            lines: self.lines.iter().map(|(line, _)| line.clone()).collect(),
            totals: Totals {
                subtotal_minor: self.row.subtotal_minor,
                taxes: self.taxes.clone(),
                tax_minor: self.row.tax_minor,
                total_minor: self.row.total_minor,
            },
            credit_applied_minor: self.row.credit_applied_minor,
            at,
        }
    }
}

impl Account<'_> {
    /// The subscription as it is stored.
    #[must_use]
    pub fn row(&self) -> &subscription::Model {
        &self.row
    }

    /// Says what the organization is called: invoices are written to it where nobody filled in a name.
    pub fn of_organization(&mut self, name: &str) {
        name.clone_into(&mut self.organization_name);
    }

    /// Has the invoice that is being collected figured anew.
    pub fn refigure(&mut self) {
        if let Some(draft) = self.draft.as_mut() {
            draft.changed = true;
        }
    }

    /// How the organization is taxed.
    #[must_use]
    pub fn treatment(&self) -> Option<&TaxTreatment> {
        self.treatment.as_ref()
    }

    /// The currency in which the organization is billed, once it is.
    #[must_use]
    pub fn billed_in(&self) -> Option<Currency> {
        self.row.currency.as_deref().and_then(Currency::parse)
    }

    /// How many invoices are open.
    #[must_use]
    pub fn unpaid(&self) -> usize {
        self.invoices.iter().filter(|kept| kept.row.state == State::Open).count()
    }

    /// Whether something was to be paid by now.
    fn owes(&self, now: DateTime<Utc>) -> bool {
        let late = |row: &invoice::Model| row.state == State::Open && row.due_at.is_some_and(|at| at <= now);
        self.subscription.agreement.overdue.is_some() || self.invoices.iter().any(|kept| late(&kept.row))
    }

    fn invoice_id(&self) -> Uuid {
        self.draft.as_ref().map_or(self.next_invoice_id, |draft| draft.invoice_id)
    }

    fn circumstances(&self, seats: Usage, now: DateTime<Utc>) -> Circumstances<'_> {
        let (billed_in, invoice_id) = (self.billed_in(), self.invoice_id());
        Circumstances { catalogue: self.catalogue, seats, billed_in, invoice_id, now }
    }

    /// Everything that stands against a change.
    #[must_use]
    pub fn objections(&self, wish: &Wish, seats: Usage, now: DateTime<Utc>) -> Vec<Error> {
        let mut objections = change::objections(&self.subscription, wish, self.circumstances(seats, now));
        objections.extend(self.may_begin_anew(now).err());
        objections
    }

    /// To end and begin anew would else be a way to begin the time of grace anew.
    fn may_begin_anew(&self, now: DateTime<Utc>) -> Result<(), Error> {
        let owes = self.subscription.status == Status::Canceled && self.owes(now);
        if owes { Err(Error::SubscriptionPastDue { status: "CANCELED" }) } else { Ok(()) }
    }

    /// Changes the subscription, and says what was decided and which invoice it made.
    ///
    /// # Errors
    ///
    /// The first of what stands against the change.
    pub fn change(
        &mut self,
        wish: &Wish,
        seats: Usage,
        now: DateTime<Utc>,
    ) -> Result<(Decision, Option<usize>), Error> {
        let mut decision = change::decide(&self.subscription, wish, self.circumstances(seats, now))?;
        self.may_begin_anew(now)?;
        let before = std::mem::replace(&mut self.subscription, decision.after.clone());
        self.changes.append(&mut decision.changes);
        self.add_lines(decision.lines.clone(), now)?;
        if decision.settles_usage {
            self.settle_usage(&before, now, now)?;
        }
        let ends = before.status != Status::Canceled && before.is_charged() && !self.subscription.is_charged();
        if ends || before.agreement.period.start != self.subscription.agreement.period.start {
            if before.agreement.period.end > now {
                self.shorten_counts(self.subscription.agreement.terms.price.period, now);
            } else {
                self.close_usage(now);
            }
        }
        self.waive_usage(&before, now);
        let last = !self.subscription.is_charged();
        let invoice = if decision.invoice_now { self.finalize(now, last)? } else { None };
        if before.status == Status::Canceled {
            // What is still owed of the time before is due as it was.
            self.recover(now);
        }
        Ok((decision, invoice))
    }

    /// Takes back what was scheduled, and says whether anything was.
    pub fn cancel_scheduled(&mut self) -> bool {
        let scheduled = self.subscription.agreement.scheduled.take().is_some();
        if scheduled {
            self.changes.push(Change::SubscriptionScheduledChangeCanceled {});
        }
        scheduled
    }

    /// Puts lines on the invoice that is being collected.
    fn add_lines(&mut self, lines: Vec<Line>, now: DateTime<Utc>) -> Result<(), Error> {
        if lines.is_empty() {
            return Ok(());
        }
        for line in &lines {
            self.given_back.extend(line.gives_back()?);
        }
        let currency = self.subscription.agreement.terms.price.currency;
        self.row.currency.get_or_insert_with(|| currency.code().to_owned());
        let invoice_id = self.invoice_id();
        let empty = Draft { invoice_id, lines: Vec::new(), created_at: now, changed: true };
        let draft = self.draft.get_or_insert(empty);
        draft.lines.extend(lines);
        draft.changed = true;
        Ok(())
    }

    /// What amounts are collected of the organization: any, where nobody collects.
    fn grain(&self) -> Grain {
        let currency = self.billed_in().filter(|_| self.is_collecting());
        currency.map(|currency| self.provider.grain(currency)).unwrap_or_default()
    }

    /// How much of what is due the credit balance pays: as much as it can, but so that the rest can be collected.
    fn applicable(&self, due_minor: i64) -> i64 {
        let all = self.row.credit_minor.clamp(0, due_minor.max(0));
        let rest = due_minor - all;
        let Grain { least_minor, step_minor } = self.grain();
        let lack = match rest {
            ..=0 => 0,
            _ if rest < least_minor => least_minor - rest,
            _ => (step_minor - rest % step_minor) % step_minor,
        };
        (all - lack).max(0)
    }

    /// Carries what is too fine to be collected over to the next invoice, or forgets it when there is none.
    fn carry_over(&mut self, draft: &mut Draft, last: bool, now: DateTime<Utc>) -> Result<Option<Line>, Error> {
        let total_minor = invoicing::totals(&draft.lines, self.treatment.as_ref())?.total_minor;
        let fine = if total_minor > 0 { total_minor % self.grain().step_minor } else { 0 };
        if fine == 0 {
            return Ok(None);
        }
        draft.lines.push(Line::carried("Too little to be collected, carried over", -fine, now));
        Ok((!last).then(|| Line::carried("Carried over from the invoice before", fine, now)))
    }

    /// Opens the invoice that is being collected, if it has a line, and says which of `invoices` it is. Credit pays what it can
    /// of it; of one that comes to less than nothing, the rest becomes credit. What is too little to be collected waits for the
    /// next invoice, unless this is the last.
    fn finalize(&mut self, now: DateTime<Utc>, last: bool) -> Result<Option<usize>, Error> {
        let Some(mut draft) = self.draft.take() else { return Ok(None) };
        let carried = self.carry_over(&mut draft, last, now)?;
        let totals = invoicing::totals(&draft.lines, self.treatment.as_ref())?;
        let applied = self.applicable(totals.total_minor);
        let due_minor = totals.total_minor - applied;
        let carries_all = carried.is_some() && totals.total_minor == 0;
        if !last && (carries_all || (1..self.grain().least_minor).contains(&due_minor)) {
            draft.lines.truncate(draft.lines.len() - usize::from(carried.is_some()));
            self.draft = Some(draft);
            return Ok(None);
        }
        let charged = invoicing::charged(&draft.lines, self.treatment.as_ref())?;
        self.row.last_invoice_number += 1;
        let due_at = now + TimeDelta::days(self.catalogue.policy.payment_terms_days.into());
        let row = invoice::Model {
            organization_id: self.row.organization_id,
            invoice_id: draft.invoice_id,
            number: Some(self.row.last_invoice_number),
            state: State::Open,
            currency: self.row.currency.clone().unwrap_or_default(),
            subtotal_minor: totals.subtotal_minor,
            tax_minor: totals.tax_minor,
            total_minor: totals.total_minor,
            charged_minor: Some(charged.total_minor),
            given_back_minor: 0,
            unpaid_credit_minor: 0,
            credit_applied_minor: applied,
            credited_minor: 0,
            paid_minor: 0,
            recipient: Some(self.recipient()?),
            created_at: draft.created_at,
            finalized_at: Some(now),
            due_at: Some(due_at),
            closed_at: None,
        };
        let untaxed = TaxRate::default();
        let rate = |line: &Line| Some(invoicing::rate_of(line, self.treatment.as_ref()).unwrap_or(untaxed));
        let lines = draft.lines.into_iter().map(|line| (line.clone(), rate(&line))).collect();
        let of_treatment = self.treatment.as_ref().map_or(untaxed, |treatment| treatment.rate);
        // Whatever is given back of it is taxed as it was.
        let lots = self.subscription.agreement.lots.iter_mut().filter(|lot| lot.invoice_id == row.invoice_id);
        proration::share_tax(lots, of_treatment, charged.amount_minor, charged.tax_minor)?;
        self.changes.push(Change::InvoiceFinalized {
            invoice_id: row.invoice_id,
            number: self.row.last_invoice_number,
            total_minor: row.total_minor,
            due_minor: row.due_minor(),
            currency_code: row.currency.clone(),
        });
        let taxes = totals.on_top();
        let (invoice_id, total) = (row.invoice_id, row.total_minor);
        self.invoices.push(Kept { row, lines, taxes, changed: true });
        let index = self.invoices.len() - 1;
        self.next_invoice_id = id::new(now);
        if applied > 0 {
            self.move_credit(-applied, Cause::Applied, invoice_id, None, now)?;
        } else if total < 0 {
            self.give_credit(-total, Cause::NegativeInvoice, invoice_id, None, now)?;
        }
        self.close_if_paid(index, now);
        self.ask_for(index, now)?;
        self.add_lines(carried.into_iter().collect(), now)?;
        Ok(Some(index))
    }

    /// Puts credit into the balance or, below zero, takes it out.
    fn move_credit(
        &mut self,
        amount_minor: i64,
        cause: Cause,
        invoice_id: Uuid,
        credit_note_id: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        self.row.credit_minor = money::sum([self.row.credit_minor, amount_minor])?;
        self.row.last_credit_entry_number += 1;
        self.credits.push(credit_entry::Model {
            organization_id: self.row.organization_id,
            number: self.row.last_credit_entry_number,
            amount_minor,
            balance_minor: self.row.credit_minor,
            currency: self.row.currency.clone().unwrap_or_default(),
            cause,
            invoice_id,
            credit_note_id,
            occurred_at: now,
        });
        Ok(())
    }

    /// Puts credit into the balance, which pays what is open. What is left of it makes good what came from invoices that nobody
    /// paid: only what could else be had back or pay for what is to come.
    fn give_credit(
        &mut self,
        amount_minor: i64,
        cause: Cause,
        invoice_id: Uuid,
        credit_note_id: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        self.move_credit(amount_minor, cause, invoice_id, credit_note_id, now)?;
        self.apply_credit(now)?;
        let made_good = self.row.unpaid_credit_minor.min(amount_minor).min(self.row.credit_minor);
        if made_good > 0 {
            self.row.unpaid_credit_minor -= made_good;
            self.move_credit(-made_good, Cause::InvoiceUncollectible, invoice_id, None, now)?;
        }
        Ok(())
    }

    /// Pays what is open from the credit balance, the oldest first.
    fn apply_credit(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        for index in 0..self.invoices.len() {
            let due_minor = self.invoices.get(index).filter(|kept| kept.row.state == State::Open);
            let applied = due_minor.map_or(0, |kept| self.applicable(kept.row.due_minor()));
            if let Some(kept) = self.invoices.get_mut(index).filter(|_| applied > 0) {
                kept.row.credit_applied_minor += applied;
                kept.changed = true;
                let invoice_id = kept.row.invoice_id;
                self.move_credit(-applied, Cause::Applied, invoice_id, None, now)?;
                self.close_if_paid(index, now);
            }
        }
        self.recover(now);
        Ok(())
    }

    /// The invoice as it would be if it became open now.
    ///
    /// # Errors
    ///
    /// When it would come to more than can be charged.
    pub fn foresee(&self, at: DateTime<Utc>) -> Result<Option<Foreseen>, Error> {
        let Some(draft) = &self.draft else { return Ok(None) };
        let totals = invoicing::totals(&draft.lines, self.treatment.as_ref())?;
        let credit_applied_minor = self.applicable(totals.total_minor);
        Ok(Some(Foreseen { lines: draft.lines.clone(), totals, credit_applied_minor, at }))
    }

    /// The next invoice, as it stands: what waits, and what the next period costs, but for what will be used.
    ///
    /// # Errors
    ///
    /// When it would come to more than can be charged.
    pub fn next_invoice(&self, used: i64) -> Result<Option<Foreseen>, Error> {
        let mut next = self.clone();
        let Some((at, due)) = next.subscription.next_period_due() else {
            return self.foresee(self.subscription.agreement.period.end);
        };
        // What is used until now is not what will have been used.
        next.usage.clear();
        let known = next.invoices.len();
        next.begin_or_end(due, used, at, at)?;
        match next.invoices.get(known) {
            Some(kept) => Ok(Some(kept.told(at))),
            // Too little to be collected yet.
            None => next.foresee(at),
        }
    }
}
