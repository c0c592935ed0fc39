//! What billing does by itself when the time has come: periods, trials, overdue payment.
//!
//! One step at a time, each for its own period, however late: a server that was down for a month catches up period by period.

use chrono::{DateTime, Utc};

use super::Account;
use crate::billing::calendar;
use crate::billing::catalogue::{AddOnKind, DunningEnd, Period, TrialEnd};
use crate::billing::change;
use crate::billing::money;
use crate::billing::proration::{Item, Line};
use crate::billing::subscription::{Due, Held, Overdue, Status, Subscription};
use crate::entity::usage_total;
use crate::error::{Billing, Error};
use crate::event::Change;

impl Account<'_> {
    /// Does the next thing that is due, and says whether there was one.
    ///
    /// # Errors
    ///
    /// When it cannot be done; nothing of it is then.
    pub fn step(&mut self, used: i64, now: DateTime<Utc>) -> Result<bool, Error> {
        let due = self.subscription.next_due(&self.catalogue.policy).filter(|(at, _)| *at <= now);
        let Some((at, due)) = due else { return Ok(false) };
        match due {
            Due::TrialEnd | Due::PeriodEnd => self.begin_or_end(due, used, at, now)?,
            // From now on, and not from then: who was not told in time has the whole ladder before them.
            Due::Payment => self.overdue(false, now),
            Due::Retry => self.retry(now)?,
            Due::GraceEnd => {
                self.subscription.status = Status::Unpaid;
                self.changes.push(Change::SubscriptionUnpaid {});
            }
            Due::DunningEnd => {
                if self.catalogue.policy.dunning_end == DunningEnd::WriteOff {
                    self.settle_each(now)?;
                    if self.subscription.agreement.overdue.is_none() {
                        // That has paid it all.
                        return Ok(true);
                    }
                }
                let closed = self.subscription.clone();
                self.settle_usage(&closed, now, now)?;
                self.end("dunning", now, now)?;
                if self.catalogue.policy.dunning_end == DunningEnd::WriteOff {
                    self.write_off(now)?;
                    self.recover(now);
                }
            }
        }
        Ok(true)
    }

    /// Does everything that is due.
    ///
    /// # Errors
    ///
    /// When something cannot be done.
    pub fn catch_up(&mut self, used: i64, now: DateTime<Utc>) -> Result<(), Error> {
        while self.step(used, now)? {}
        Ok(())
    }

    /// Begins the period that follows, or ends the subscription if it is to end with this one.
    pub(super) fn begin_or_end(
        &mut self,
        due: Due,
        used: i64,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if self.subscription.agreement.ends_with_period {
            let closed = self.subscription.clone();
            self.settle_usage(&closed, at, now)?;
            return self.end("period_end", at, now);
        }
        let before = self.subscription.clone();
        if due == Due::TrialEnd {
            self.changes.push(Change::SubscriptionTrialEnded {});
            if before.agreement.terms.trial_end == TrialEnd::Cancel
                && self.default_method.is_none()
                && before.is_charged()
            {
                return self.end("trial_end", at, now);
            }
            self.subscription.status = Status::Active;
            self.subscription.agreement.anchor = at;
            for held in &mut self.subscription.agreement.add_ons {
                held.since = Some(at);
            }
        }
        let billed_in = self.billed_in();
        let mut applied = change::apply_scheduled(&mut self.subscription, used, self.catalogue, billed_in)?;
        self.changes.append(&mut applied);
        if due == Due::PeriodEnd {
            self.settle_usage(&before, at, now)?;
        }
        let invoice_id = self.invoice_id();
        let length = self.subscription.agreement.terms.price.period;
        let other_length = before.agreement.terms.price.period != length;
        if due == Due::TrialEnd || !before.is_charged() {
            self.close_usage(at);
        } else if other_length {
            self.shorten_counts(length, at);
        }
        // A count may go on into the period with which a scheduled add-on begins.
        self.waive_usage(&before, at);
        let after = &mut self.subscription;
        if other_length || !before.is_charged() {
            after.agreement.anchor = at;
        }
        if after.is_charged() {
            let (anchor, length) = (after.agreement.anchor, after.agreement.terms.price.period);
            let period = calendar::period_of(anchor, length, at).ok_or(Billing::AmountTooLarge)?;
            let lines = after.begin_period(period, invoice_id)?;
            self.changes.push(Change::SubscriptionRenewed {
                period_start_time: period.start.to_rfc3339(),
                period_end_time: period.end.to_rfc3339(),
            });
            self.add_lines(lines, now)?;
        } else {
            after.agreement.lots.clear();
        }
        let last = !self.subscription.is_charged();
        self.finalize(now, last).map(|_| ())
    }

    /// Ends the subscription. Nobody is removed; what is more than the seats that are left stays until it shrinks. What is
    /// overdue stays so: who begins anew pays it first.
    ///
    /// # Errors
    ///
    /// When the last invoice would come to more than can be charged.
    pub(super) fn end(&mut self, cause: &str, at: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), Error> {
        let fallback =
            self.catalogue.default_plan().filter(|plan| plan.is_free()).map_or(0, |plan| plan.included_seats);
        let after = &mut self.subscription;
        let before = after.seats;
        after.status = Status::Canceled;
        after.seats = fallback;
        let agreement = &mut after.agreement;
        agreement.lots.clear();
        agreement.add_ons.clear();
        agreement.scheduled = None;
        agreement.ends_with_period = false;
        agreement.ended_at = Some(at);
        if agreement.period.end > now {
            // What is free is counted by months, also in a year that was paid for.
            self.shorten_counts(Period::Month, now);
        }
        self.changes.push(Change::SubscriptionCanceled { cause: cause.to_owned(), seats: fallback });
        if before != fallback {
            self.changes.push(Change::SubscriptionSeatsChanged { before, after: fallback });
        }
        self.finalize(now, true)?;
        self.recover(now);
        Ok(())
    }

    /// Ends the subscription now, and says which invoice it made.
    ///
    /// # Errors
    ///
    /// When the last invoice would come to more than can be charged.
    pub fn cancel_now(&mut self, with_credit: bool, now: DateTime<Utc>) -> Result<Option<usize>, Error> {
        let known = self.invoices.len();
        let closed = self.subscription.clone();
        let lines = change::give_back_all(&mut self.subscription, now)?;
        if with_credit {
            self.add_lines(lines, now)?;
        }
        self.settle_usage(&closed, now, now)?;
        self.end("request", now, now)?;
        Ok((self.invoices.len() > known).then_some(known))
    }

    /// Charges what was used of meters beyond what is included: of every period that has ended by `at`, and of the one that a
    /// change ends then, what was not charged yet. What was used before the add-on was had, or within the trial, is not charged.
    pub(super) fn settle_usage(
        &mut self,
        closed: &Subscription,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if closed.status == Status::Trialing {
            return Ok(());
        }
        let mut lines: Vec<Line> = Vec::new();
        for held in closed.agreement.add_ons.iter().filter(|held| held.terms.kind == AddOnKind::Metered) {
            let meter = held.terms.meter.as_deref().unwrap_or_default();
            let charged = |total: &&mut usage_total::Model| {
                total.meter == meter
                    && total.period_start < at
                    && held.since.is_none_or(|since| total.period_end > since)
            };
            for total in self.usage.iter_mut().filter(charged) {
                let beyond = held.beyond(total.used) - total.waived - total.billed;
                if beyond <= 0 {
                    continue;
                }
                // However often it is charged, all of it comes to what it costs at once.
                let cost = |quantity: i64| {
                    money::share(held.terms.unit_price_minor, quantity.into(), held.terms.unit_size.into())
                };
                let amount_minor = cost(total.billed + beyond)? - cost(total.billed)?;
                total.billed += beyond;
                lines.push(Line {
                    item: Item::Usage(held.terms.add_on_id.clone()),
                    description: held.terms.title.clone(),
                    quantity: Some(beyond),
                    unit_price_minor: (held.terms.unit_size == 1).then_some(held.terms.unit_price_minor),
                    amount_minor,
                    span: calendar::Span {
                        start: total.period_start,
                        end: total.period_end.min(at.max(total.period_start)),
                    },
                    prorated: false,
                    returned: None,
                });
            }
        }
        self.add_lines(lines, now)
    }

    /// What was used before an add-on was had is not charged by it: of the count under way, what is beyond what is included by now
    /// and was not charged by the one before it. The count goes on, so that to give an add-on up and have it again gains nothing.
    pub(super) fn waive_usage(&mut self, before: &Subscription, now: DateTime<Utc>) {
        let had = |held: &Held| before.agreement.add_ons.iter().any(|had| had.terms == held.terms);
        for held in self.subscription.agreement.add_ons.iter().filter(|held| !had(held)) {
            let charged = |total: &&mut usage_total::Model| {
                held.terms.meter.as_deref() == Some(&total.meter) && is_under_way(total, now)
            };
            for total in self.usage.iter_mut().filter(charged) {
                total.waived = (held.beyond(total.used) - total.billed).max(0);
            }
        }
    }

    /// Another period begins before the one that was paid for has ended: what was counted of it counts on, so that to begin anew
    /// gains nothing, but for no longer than a period lasts now.
    pub(super) fn shorten_counts(&mut self, length: Period, now: DateTime<Utc>) {
        for total in self.usage.iter_mut().filter(|total| is_under_way(total, now)) {
            let counted = calendar::period_of(total.period_start, length, total.period_start);
            total.period_end = total.period_end.min(counted.map_or(now, |counted| counted.end.max(now)));
        }
    }

    /// What is used from now on is of another period.
    pub(super) fn close_usage(&mut self, now: DateTime<Utc>) {
        for total in self.usage.iter_mut().filter(|total| is_under_way(total, now)) {
            total.period_end = now;
        }
    }

    /// Payment is overdue from now on.
    pub(super) fn overdue(&mut self, hard: bool, now: DateTime<Utc>) {
        let runs = matches!(self.subscription.status, Status::Active);
        let overdue = self.subscription.agreement.overdue.get_or_insert(Overdue { since: now, retries: 0, hard });
        overdue.hard |= hard;
        if runs {
            self.subscription.status = Status::PastDue;
            let grace_end = self.subscription.grace_end(&self.catalogue.policy).unwrap_or(now);
            self.changes.push(Change::SubscriptionPastDue { grace_end_time: grace_end.to_rfc3339() });
        }
    }

    /// Tries or asks for payment again: once, however many times it should have been by now.
    fn retry(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        let Some(overdue) = self.subscription.agreement.overdue.as_mut() else { return Ok(()) };
        let reached = self.catalogue.policy.dunning_days.iter();
        let reached = reached.filter(|days| overdue.since + chrono::TimeDelta::days((**days).into()) <= now).count();
        overdue.retries = reached.max(overdue.retries + 1);
        let retry = i64::try_from(overdue.retries).unwrap_or(i64::MAX);
        let hard = overdue.hard;
        self.changes.push(Change::SubscriptionPaymentRetried { retry });
        if hard { Ok(()) } else { self.ask_for_all(now) }
    }
}

/// Whether a count has begun, and not ended.
fn is_under_way(total: &usage_total::Model, now: DateTime<Utc>) -> bool {
    total.period_start < now && total.period_end > now
}
