//! GetSubscription, PreviewSubscriptionChange and everything that changes a subscription.

use std::collections::HashSet;

use crate::app::App;
use crate::auth::scope::Scope;
use crate::billing::account::Account;
use crate::billing::catalogue::Period;
use crate::billing::change::{Decision, Timing, Wish};
use crate::billing::money::Currency;
use crate::billing::seats::Usage;
use crate::billing::subscription::Status;
use crate::billing::{shown, store};
use crate::error::{Billing, Error};
use crate::etag;
use crate::event::Change;
use crate::fields::{Fields, timestamp};
use crate::operation::{Command, Member, Query, Reader, Unit};
use crate::pb;

/// The longest identifier of a plan or an add-on.
const LONGEST_NAME: usize = 40;

/// The most add-ons that one request changes.
const MOST_ADD_ONS: usize = 50;

pub(super) struct GetSubscription;

impl Query for GetSubscription {
    type Request = pb::GetSubscriptionRequest;
    type Response = pb::GetSubscriptionResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let row = store::load(reader.connection(), reader.scope).await?;
        let subscription = Some(shown::subscription(reader.app, &row, reader.now)?);
        Ok(pb::GetSubscriptionResponse { subscription })
    }
}

/// What is wished for, as both requests say it.
struct Said<'a> {
    plan_id: &'a str,
    billing_period: i32,
    currency_code: &'a str,
    seats: Option<i64>,
    add_ons: &'a [pb::AddOnQuantity],
    timing: i32,
    invoicing: i32,
    latest_version: bool,
    skip_trial: bool,
}

/// What either request says: they have the same fields.
macro_rules! said {
    ($request:ident) => {
        Said {
            plan_id: &$request.plan_id,
            billing_period: $request.billing_period,
            currency_code: &$request.currency_code,
            seats: $request.seats,
            add_ons: &$request.add_ons,
            timing: $request.timing,
            invoicing: $request.invoicing,
            latest_version: $request.latest_version,
            skip_trial: $request.skip_trial,
        }
    };
}

impl Said<'_> {
    fn read(&self, fields: &mut Fields) -> Wish {
        use pb::{BillingPeriod as P, ChangeInvoicing as I, ChangeTiming as T};
        if self.seats.is_some_and(|seats| seats < 1) {
            fields.fault("seats", "must be at least 1");
        }
        let period = match P::try_from(self.billing_period) {
            Ok(P::Unspecified) => None,
            Ok(P::Month) => Some(Period::Month),
            Ok(P::Year) => Some(Period::Year),
            Err(_) => {
                fields.fault("billing_period", "must be a billing period");
                None
            }
        };
        let currency = Currency::parse(self.currency_code);
        if !self.currency_code.is_empty() && currency.is_none() {
            fields.fault("currency_code", "must be an ISO 4217 code in upper case, as in EUR");
        }
        let timing = match T::try_from(self.timing) {
            Ok(T::Unspecified) => Timing::Usual,
            Ok(T::Now) => Timing::Now,
            Ok(T::PeriodEnd) => Timing::PeriodEnd,
            Err(_) => {
                fields.fault("timing", "must be a timing");
                Timing::Usual
            }
        };
        let invoicing = I::try_from(self.invoicing);
        if invoicing.is_err() {
            fields.fault("invoicing", "must be a way of invoicing");
        }
        let plan_id = fields.line("plan_id", self.plan_id, 0..=LONGEST_NAME);
        Wish {
            plan_id: (!plan_id.is_empty()).then_some(plan_id),
            period,
            currency,
            latest_version: self.latest_version,
            seats: self.seats,
            add_ons: self.read_add_ons(fields),
            timing,
            invoice_now: invoicing == Ok(I::Now),
            skip_trial: self.skip_trial,
        }
    }

    fn read_add_ons(&self, fields: &mut Fields) -> Vec<(String, i64)> {
        if self.add_ons.len() > MOST_ADD_ONS {
            fields.fault("add_ons", format!("must be at most {MOST_ADD_ONS}"));
            return Vec::new();
        }
        let mut seen = HashSet::new();
        for (index, add_on) in self.add_ons.iter().enumerate() {
            fields.line(&format!("add_ons[{index}].add_on_id"), &add_on.add_on_id, 1..=LONGEST_NAME);
            if add_on.quantity < 0 {
                fields.fault(format!("add_ons[{index}].quantity"), "must not be negative");
            }
            if !seen.insert(add_on.add_on_id.as_str()) {
                fields.fault(format!("add_ons[{index}].add_on_id"), "stands twice");
            }
        }
        self.add_ons.iter().map(|add_on| (add_on.add_on_id.clone(), add_on.quantity)).collect()
    }
}

/// Whether it wishes for anything.
fn says_something(wish: &Wish) -> bool {
    wish.plan_id.is_some()
        || wish.period.is_some()
        || wish.currency.is_some()
        || wish.latest_version
        || wish.seats.is_some()
        || !wish.add_ons.is_empty()
}

pub(super) struct Preview {
    wish: Wish,
}

impl Query for Preview {
    type Request = pb::PreviewSubscriptionChangeRequest;
    type Response = pb::PreviewSubscriptionChangeResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let wish = said!(request).read(&mut fields);
        fields.done(Self { wish })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let catalogue = &reader.app.catalogue;
        let mut account = Account::load(reader.connection(), reader.app, reader.scope, reader.now).await?;
        let seats = super::seat_usage(reader).await?;
        account.of_organization(&reader.organization()?.name);
        account.catch_up(seats.used(), reader.now)?;
        let seats = Usage { total: account.subscription.seats, ..seats };
        let mut changed = account.clone();
        let (mut decided, mut objections) = (None, Vec::new());
        if says_something(&self.wish) {
            objections = account.objections(&self.wish, seats, reader.now);
            if objections.is_empty() {
                match changed.change(&self.wish, seats, reader.now) {
                    Ok(done) => decided = Some(done),
                    Err(objection) => objections.push(objection),
                }
            }
        }
        if let Some(fault) = objections.iter().position(|objection| !objection.is_precondition()) {
            return Err(objections.swap_remove(fault));
        }
        if !objections.is_empty() {
            changed = account;
        }
        let blockers = objections.iter().map(|objection| {
            let (reason, message) = objection.told();
            pb::ChangeBlocker { reason: reason.to_owned(), message }
        });
        let blockers = blockers.collect();
        let outcome = outcome(&changed, decided.as_ref(), seats.used(), reader.scope)?;
        let subscription = shown::shown(changed.row(), &changed.subscription, catalogue, reader.now);
        Ok(pb::PreviewSubscriptionChangeResponse { subscription: Some(subscription), outcome: Some(outcome), blockers })
    }
}

/// What a change came to, as far as it has.
fn outcome(
    account: &Account<'_>,
    decided: Option<&(Decision, Option<usize>)>,
    used: i64,
    scope: Scope,
) -> Result<pb::ChangeOutcome, Error> {
    let treatment = account.treatment();
    let (lines, effective_at, made) = match decided {
        Some((decision, made)) => (decision.lines.as_slice(), decision.effective_at, *made),
        None => (&[][..], None, None),
    };
    let invoice = match made.and_then(|index| account.invoices.get(index)) {
        Some(kept) => {
            let made = kept.told(kept.row.finalized_at.unwrap_or(kept.row.created_at));
            let lines = shown::foreseen(scope, account.row(), &made, treatment).lines;
            Some(pb::Invoice { lines, ..shown::invoice(&kept.row)? })
        }
        None => None,
    };
    let next = account.next_invoice(used)?;
    Ok(pb::ChangeOutcome {
        effective_time: effective_at.map(timestamp),
        lines: lines.iter().map(|line| shown::line(line, treatment)).collect(),
        invoice,
        next_invoice: next.map(|next| shown::foreseen(scope, account.row(), &next, treatment)),
    })
}

/// Reads the account, brought up to now, if the caller has read this state of it.
async fn opened<'a>(unit: &mut Unit<'a, Member>, etag: &str) -> Result<Box<Account<'a>>, Error> {
    let mut account = Account::of(unit).await?;
    etag::check(etag, account.row().version)?;
    let used = unit.seats().await?.used();
    account.catch_up(used, unit.now)?;
    Ok(account)
}

pub(super) struct UpdateSubscription {
    wish: Wish,
    etag: String,
}

impl Command for UpdateSubscription {
    type Request = pb::UpdateSubscriptionRequest;
    type Response = pb::UpdateSubscriptionResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let wish = said!(request).read(&mut fields);
        if !says_something(&wish) {
            fields.fault("seats", "must be said, or a plan_id, add_ons, a billing_period or latest_version");
        }
        fields.done(Self { wish, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut account = opened(unit, &self.etag).await?;
        let seats = Usage { total: account.subscription.seats, ..unit.seats().await? };
        let decided = account.change(&self.wish, seats, unit.now)?;
        let outcome = outcome(&account, Some(&decided), seats.used(), unit.scope())?;
        let row = account.save(unit).await?;
        Ok(pb::UpdateSubscriptionResponse {
            subscription: Some(shown::subscription(unit.app, &row, unit.now)?),
            seat_usage: Some(shown::seat_usage(unit.scope(), unit.seats().await?)),
            outcome: Some(outcome),
        })
    }
}

pub(super) struct CancelScheduledChange {
    etag: String,
}

impl Command for CancelScheduledChange {
    type Request = pb::CancelScheduledChangeRequest;
    type Response = pb::CancelScheduledChangeResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self { etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut account = opened(unit, &self.etag).await?;
        account.cancel_scheduled();
        let row = account.save(unit).await?;
        let subscription = Some(shown::subscription(unit.app, &row, unit.now)?);
        Ok(pb::CancelScheduledChangeResponse { subscription })
    }
}

pub(super) struct CancelSubscription {
    mode: pb::CancellationMode,
    etag: String,
}

impl Command for CancelSubscription {
    type Request = pb::CancelSubscriptionRequest;
    type Response = pb::CancelSubscriptionResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let mode = pb::CancellationMode::try_from(request.mode).unwrap_or_default();
        if mode == pb::CancellationMode::Unspecified {
            fields.fault("mode", "must be said: at the end of the period, or now with or without credit");
        }
        fields.done(Self { mode, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut account = opened(unit, &self.etag).await?;
        if account.subscription.status == Status::Canceled {
            return Err(Billing::SubscriptionEnded.into());
        }
        // While nothing is paid for, or service has stopped, there is no end to wait for.
        let runs = account.subscription.is_charged() && account.subscription.status != Status::Unpaid;
        let made = match self.mode {
            pb::CancellationMode::PeriodEnd if runs => {
                let agreement = &mut account.subscription.agreement;
                agreement.scheduled = None;
                if !agreement.ends_with_period {
                    agreement.ends_with_period = true;
                    let end_time = agreement.period.end.to_rfc3339();
                    account.changes.push(Change::SubscriptionCancelScheduled { end_time });
                }
                None
            }
            mode => account.cancel_now(mode == pb::CancellationMode::NowWithCredit, unit.now)?,
        };
        let made =
            made.and_then(|index| account.invoices.get(index)).map(|kept| shown::invoice(&kept.row)).transpose()?;
        let row = account.save(unit).await?;
        let subscription = Some(shown::subscription(unit.app, &row, unit.now)?);
        Ok(pb::CancelSubscriptionResponse { subscription, invoice: made })
    }
}

pub(super) struct ResumeSubscription {
    etag: String,
}

impl Command for ResumeSubscription {
    type Request = pb::ResumeSubscriptionRequest;
    type Response = pb::ResumeSubscriptionResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self { etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut account = opened(unit, &self.etag).await?;
        if account.subscription.status == Status::Canceled {
            return Err(Billing::SubscriptionEnded.into());
        }
        if std::mem::take(&mut account.subscription.agreement.ends_with_period) {
            account.changes.push(Change::SubscriptionResumed {});
        }
        let row = account.save(unit).await?;
        let subscription = Some(shown::subscription(unit.app, &row, unit.now)?);
        Ok(pb::ResumeSubscriptionResponse { subscription })
    }
}
