//! Changes of a subscription: what somebody wishes, what it means under the catalogue, when it takes effect and what it costs.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::calendar::{self, Span};
use super::catalogue::{AddOnKind, Catalogue, Period, Terms};
use super::money::Currency;
use super::proration::{self, Item, Line};
use super::seats::Usage;
use super::subscription::{self, Held, SEATS, Scheduled, Status, Subscription};
use crate::error::{Billing, Error};
use crate::event::{Change, FieldChange};

/// What somebody wishes.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The plan; as it is when absent.
    pub plan_id: Option<String>,
    /// Which of its prices, by the period.
    pub period: Option<Period>,
    /// Which of its prices, by the currency.
    pub currency: Option<Currency>,
    /// Whether to move to the newest version of the plan.
    pub latest_version: bool,
    /// The seats.
    pub seats: Option<i64>,
    /// The add-ons whose quantity shall change; 0 for none.
    pub add_ons: Vec<(String, i64)>,
    /// When.
    pub timing: Timing,
    /// Whether what it costs shall be charged at once.
    pub invoice_now: bool,
    /// Whether to begin to pay although there would be a trial.
    pub skip_trial: bool,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// What grows now, what shrinks at the end of the period.
    #[default]
    Usual,
    /// Now.
    Now,
    /// At the end of the period.
    PeriodEnd,
}

/// Under what it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The catalogue in force.
    pub catalogue: &'a Catalogue,
    /// The seats.
    pub seats: Usage,
    /// The currency in which the organization is billed, once it is.
    pub billed_in: Option<Currency>,
    /// The invoice that collects what is charged.
    pub invoice_id: Uuid,
    /// When.
    pub now: DateTime<Utc>,
}

/// What is decided.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The subscription after it.
    pub after: Subscription,
    /// What it charges and credits.
    pub lines: Vec<Line>,
    /// Whether that is invoiced now.
    pub invoice_now: bool,
    /// Whether what was used of meters is charged now, because the period ends by it.
    pub settles_usage: bool,
    /// When it takes effect; none when it changes nothing.
    pub effective_at: Option<DateTime<Utc>>,
    /// What happened.
    pub changes: Vec<Change>,
}

/// How a subscription shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    terms: Terms,
    seats: i64,
    add_ons: Vec<Held>,
}

impl Target {
    fn of(subscription: &Subscription) -> Self {
        let Subscription { seats, agreement, .. } = subscription;
        Self { terms: agreement.terms.clone(), seats: *seats, add_ons: agreement.add_ons.clone() }
    }

    fn yearly(&self) -> Result<i64, Error> {
        Ok(subscription::yearly(&self.terms, self.seats, &self.add_ons)?)
    }

    /// Whether it is more than another: it commits to a longer period or, with one as long, costs more.
    fn outgrows(&self, other: &Self) -> Result<bool, Error> {
        match (other.terms.price.period, self.terms.price.period) {
            (Period::Month, Period::Year) if other.is_charged() && self.is_charged() => Ok(true),
            (Period::Year, Period::Month) if other.is_charged() && self.is_charged() => Ok(false),
            _ => Ok(self.yearly()? > other.yearly()?),
        }
    }

    /// Whether anything of it is more than another has: seats, an add-on, or what it costs.
    fn grows_from(&self, other: &Self) -> Result<bool, Error> {
        let adds = self.add_ons.iter().any(|held| held.quantity > other.quantity(&held.terms.add_on_id));
        Ok(adds || self.seats > other.seats || self.outgrows(other)? || self.yearly()? > other.yearly()?)
    }

    fn is_charged(&self) -> bool {
        subscription::is_charged(&self.terms, &self.add_ons)
    }

    /// Whether it can be charged to whom is billed in a currency: in no other. A free plan alone has none to speak of, but what
    /// is added to it is charged in its currency.
    fn is_billable(&self, billed_in: Option<Currency>) -> Result<(), Error> {
        match billed_in.filter(|currency| self.is_charged() && *currency != self.terms.price.currency) {
            Some(currency) => Err(Billing::CurrencyFixed { currency_code: currency.code().to_owned() }.into()),
            None => Ok(()),
        }
    }

    fn quantity(&self, add_on_id: &str) -> i64 {
        quantity(&self.add_ons, add_on_id)
    }

    /// The other add-on that charges the same meter as this one: there may be none, for what is used is charged once.
    fn second_on_its_meter(&self, add_on_id: &str) -> Option<&str> {
        let own = self.add_ons.iter().find(|held| held.terms.add_on_id == add_on_id)?.terms.meter.as_ref()?;
        let mut others = self.add_ons.iter().filter(|held| held.terms.add_on_id != add_on_id);
        others.find(|other| other.terms.meter.as_ref() == Some(own)).map(|other| other.terms.add_on_id.as_str())
    }

    fn set(&mut self, held: Held) {
        self.add_ons.retain(|other| other.terms.add_on_id != held.terms.add_on_id);
        if held.quantity > 0 {
            self.add_ons.push(held);
        }
    }
}

fn quantity(add_ons: &[Held], add_on_id: &str) -> i64 {
    add_ons.iter().find(|held| held.terms.add_on_id == add_on_id).map_or(0, |held| held.quantity)
}

/// Everything that stands against a change.
#[must_use]
pub fn objections(before: &Subscription, wish: &Wish, at: Circumstances<'_>) -> Vec<Error> {
    consider(before, wish, at).1
}

/// What a wish comes to, as far as it comes to anything, and what stands against it.
fn consider(before: &Subscription, wish: &Wish, at: Circumstances<'_>) -> (Option<Target>, Vec<Error>) {
    let mut against = Vec::new();
    if before.agreement.ends_with_period && before.status != Status::Canceled {
        against.push(Billing::SubscriptionEnding { end_time: before.agreement.period.end }.into());
    }
    if before.status == Status::Canceled && wish.plan_id.is_none() {
        against.push(Billing::SubscriptionEnded.into());
        return (None, against);
    }
    let current = Target::of(before);
    let target = resolve(before, &current, wish, at, &mut against);
    let may_grow = |target: &Target| {
        if target.grows_from(&current)? { super::seats::may_grow(before.status) } else { Ok(()) }
    };
    against.extend(target.as_ref().and_then(|target| may_grow(target).err()));
    (target, against)
}

/// Decides a change.
///
/// # Errors
///
/// The first of what stands against it, as [`Error`].
pub fn decide(before: &Subscription, wish: &Wish, at: Circumstances<'_>) -> Result<Decision, Error> {
    let (target, against) = consider(before, wish, at);
    if let Some(objection) = against.into_iter().next() {
        return Err(objection);
    }
    let current = Target::of(before);
    let target = target.ok_or(Error::defect("a change that nothing stands against, and to nothing"))?;
    let mut decision = Decision {
        after: before.clone(),
        lines: Vec::new(),
        invoice_now: false,
        settles_usage: false,
        effective_at: None,
        changes: Vec::new(),
    };
    let (now, later) = split(before, &current, &target, wish.timing)?;
    if now != current || before.status == Status::Canceled {
        decision.effective_at = Some(at.now);
        apply(&mut decision, &current, &now, wish, at)?;
    }
    schedule(&mut decision, &now, later, wish, at);
    decision.invoice_now |= wish.invoice_now && !decision.lines.is_empty();
    Ok(decision)
}

/// What the wish comes to under the catalogue; nothing where there are no such terms.
fn resolve(
    before: &Subscription,
    current: &Target,
    wish: &Wish,
    at: Circumstances<'_>,
    against: &mut Vec<Error>,
) -> Option<Target> {
    let terms = resolve_terms(before, wish, at).map_err(|objection| against.push(objection)).ok()?;
    let mut target = Target { terms, ..current.clone() };
    let other_plan = target.terms.plan_id != current.terms.plan_id || before.status == Status::Canceled;
    target.seats = match wish.seats {
        Some(seats) => seats,
        None if other_plan => unsaid_seats(&target.terms, current, before.status, at.seats.used()),
        None => current.seats,
    };
    against.extend(at.seats.change_total(&target.terms, target.seats).err());
    if before.status == Status::Canceled {
        target.add_ons.clear();
    }
    if target.terms.plan_id != current.terms.plan_id || target.terms.price != current.terms.price {
        target.add_ons = moved(&target.add_ons, &current.terms, &target.terms, at.catalogue);
    }
    for (index, (add_on_id, quantity)) in wish.add_ons.iter().enumerate() {
        match wished(&target, add_on_id, *quantity, index, at) {
            Ok(held) => held.into_iter().for_each(|held| target.set(held)),
            Err(objection) => against.push(objection),
        }
    }
    for (index, (add_on_id, _)) in wish.add_ons.iter().enumerate() {
        against.extend(target.second_on_its_meter(add_on_id).map(|other| {
            let what = format!("charges what {other:?} charges, which is had: give that up by the same change");
            Error::of_field(format!("add_ons[{index}].add_on_id"), what)
        }));
    }
    // What it would cost must be something that can be charged.
    against.extend(target.yearly().err());
    against.extend(target.is_billable(at.billed_in).err());
    Some(target)
}

/// The seats with another plan where none are wished for: what it includes, or is used; while payment is overdue, no more than
/// there are, so that a smaller plan is not growth.
fn unsaid_seats(terms: &Terms, current: &Target, status: Status, used: i64) -> i64 {
    let most = if super::seats::may_grow(status).is_err() { current.seats.max(terms.minimum_seats) } else { i64::MAX };
    terms.included_seats.min(most).max(used)
}

/// An add-on in the quantity that is wished for; nothing where none is wished for of what is not had.
fn wished(
    target: &Target,
    add_on_id: &str,
    quantity: i64,
    index: usize,
    at: Circumstances<'_>,
) -> Result<Option<Held>, Error> {
    let held = target.add_ons.iter().find(|held| held.terms.add_on_id == add_on_id);
    let since = held.map_or(Some(at.now), |held| held.since);
    let plan_id = &target.terms.plan_id;
    let unknown = || Billing::AddOnNotFound { add_on_id: add_on_id.to_owned(), plan_id: plan_id.clone() };
    let terms = match held {
        Some(held) => held.terms.clone(),
        None if quantity == 0 => return Ok(None),
        None => {
            let add_on = at.catalogue.add_on(plan_id, add_on_id).ok_or_else(unknown)?;
            add_on.terms(&target.terms.price).ok_or_else(unknown)?
        }
    };
    if let Some(most) = terms.maximum_quantity.filter(|most| quantity > *most) {
        return Err(Error::of_field(format!("add_ons[{index}].quantity"), format!("must be at most {most}")));
    }
    Ok(Some(Held { terms, quantity, since }))
}

/// The add-ons that go along to other terms: at the prices that they have, where currency and period stay.
fn moved(add_ons: &[Held], from: &Terms, to: &Terms, catalogue: &Catalogue) -> Vec<Held> {
    let same = (to.price.currency, to.price.period) == (from.price.currency, from.price.period);
    let go_along = add_ons.iter().filter_map(|held| {
        let add_on = catalogue.add_on(&to.plan_id, &held.terms.add_on_id)?;
        let terms = if same { held.terms.clone() } else { add_on.terms(&to.price)? };
        Some(Held { terms, ..held.clone() })
    });
    go_along.collect()
}

fn resolve_terms(before: &Subscription, wish: &Wish, at: Circumstances<'_>) -> Result<Terms, Error> {
    let own = &before.agreement.terms;
    let same_plan = wish.plan_id.as_ref().is_none_or(|plan_id| *plan_id == own.plan_id);
    let same_price = wish.period.is_none_or(|period| period == own.price.period)
        && wish.currency.is_none_or(|currency| currency == own.price.currency);
    if same_plan && same_price && !wish.latest_version && before.status != Status::Canceled {
        return Ok(own.clone());
    }
    let plan_id = wish.plan_id.as_ref().unwrap_or(&own.plan_id);
    let unknown = || Error::from(Billing::PlanNotFound { plan_id: plan_id.clone() });
    let plan = at.catalogue.plan(plan_id).ok_or_else(unknown)?;
    let preferred_currency = wish.currency.or(at.billed_in).or(Some(own.price.currency));
    let preferred_period = wish.period.or(Some(own.price.period));
    // What was wished for is a must; what merely was is not.
    let found = [
        (preferred_currency, preferred_period),
        (preferred_currency, wish.period),
        (wish.currency, preferred_period),
        (wish.currency, wish.period),
    ]
    .into_iter()
    .find_map(|(currency, period)| plan.terms(currency, period));
    found.ok_or_else(unknown)
}

/// What of it takes effect now, and what at the end of the period.
fn split(
    before: &Subscription,
    current: &Target,
    target: &Target,
    timing: Timing,
) -> Result<(Target, Option<Target>), Error> {
    let at_once = !before.is_charged() || matches!(before.status, Status::Trialing | Status::Canceled);
    match timing {
        _ if before.status == Status::Canceled => Ok((target.clone(), None)),
        Timing::Now => Ok((target.clone(), None)),
        Timing::PeriodEnd => Ok((current.clone(), Some(target.clone()))),
        Timing::Usual if at_once => Ok((target.clone(), None)),
        Timing::Usual if target.terms != current.terms => {
            // What costs the same is done at once.
            if current.outgrows(target)? {
                Ok((current.clone(), Some(target.clone())))
            } else {
                Ok((target.clone(), None))
            }
        }
        Timing::Usual => {
            let mut now = current.clone();
            now.seats = now.seats.max(target.seats);
            for held in &target.add_ons {
                if held.quantity > current.quantity(&held.terms.add_on_id) {
                    now.set(held.clone());
                    // What it takes the place of goes at once: what is used is charged by one of them.
                    while let Some(other) = now.second_on_its_meter(&held.terms.add_on_id).map(str::to_owned) {
                        now.add_ons.retain(|held| held.terms.add_on_id != other);
                    }
                }
            }
            let later = (now != *target).then(|| target.clone());
            Ok((now, later))
        }
    }
}

/// Applies now what takes effect now.
fn apply(
    decision: &mut Decision,
    current: &Target,
    target: &Target,
    wish: &Wish,
    at: Circumstances<'_>,
) -> Result<(), Error> {
    let before = decision.after.clone();
    note(&mut decision.changes, current, target);
    let after = &mut decision.after;
    after.seats = target.seats;
    after.agreement.terms = target.terms.clone();
    after.agreement.add_ons.clone_from(&target.add_ons);
    if before.status == Status::Trialing {
        if !target.is_charged() {
            after.status = Status::Active;
            after.agreement.trial_end = Some(at.now);
            decision.changes.push(Change::SubscriptionTrialEnded {});
        }
        return Ok(());
    }
    let charged = before.is_charged() && before.status != Status::Canceled;
    let other_period = current.terms.price.period != target.terms.price.period;
    if charged && target.is_charged() && !other_period {
        return prorate(decision, current, target, at);
    }
    if charged {
        decision.lines = give_back(after, current, at.now)?;
        decision.settles_usage = true;
        decision.invoice_now = true;
    }
    if target.is_charged() {
        begin(decision, wish, at)?;
    } else if before.status == Status::Canceled {
        decision.after.status = Status::Active;
        decision.after.agreement.ended_at = None;
        decision.after.agreement.anchor = at.now;
    }
    Ok(())
}

/// Begins to pay, or to try.
fn begin(decision: &mut Decision, wish: &Wish, at: Circumstances<'_>) -> Result<(), Error> {
    let after = &mut decision.after;
    let trial_days = at.catalogue.plan(&after.agreement.terms.plan_id).map_or(0, |plan| plan.trial_days);
    // Whoever has tried before, or has paid before, knows it.
    let tries = trial_days > 0 && !wish.skip_trial && after.agreement.trial_end.is_none() && at.billed_in.is_none();
    after.agreement.ended_at = None;
    after.agreement.ends_with_period = false;
    if tries {
        start_trial(after, trial_days, at.now);
        decision.changes.push(Change::SubscriptionTrialStarted {
            trial_end_time: (at.now + TimeDelta::days(trial_days.into())).to_rfc3339(),
        });
        return Ok(());
    }
    if after.status == Status::Canceled {
        after.status = Status::Active;
    }
    let period = after.count_from(at.now).ok_or(Billing::AmountTooLarge)?;
    decision.lines.extend(after.begin_period(period, at.invoice_id)?);
    decision.invoice_now = true;
    Ok(())
}

/// Begins the trial.
pub fn start_trial(subscription: &mut Subscription, days: u16, now: DateTime<Utc>) {
    let end = now + TimeDelta::days(days.into());
    subscription.status = Status::Trialing;
    subscription.agreement.trial_end = Some(end);
    subscription.agreement.anchor = now;
    subscription.agreement.period = Span { start: now, end };
}

/// Charges and credits what changes within the period.
fn prorate(decision: &mut Decision, current: &Target, target: &Target, at: Circumstances<'_>) -> Result<(), Error> {
    let agreement = &mut decision.after.agreement;
    let period = agreement.period;
    let rest = calendar::rest_of(period, at.now, target.terms.proration);
    let (lots, lines) = (&mut agreement.lots, &mut decision.lines);
    if target.terms == current.terms {
        let (had, has) = (current.terms.charged_seats(current.seats), target.terms.charged_seats(target.seats));
        if has > had {
            lines.extend(
                subscription::seat_purchase(&target.terms, has - had, period, rest, at.invoice_id).charge(lots)?,
            );
        } else if has < had {
            lines.extend(proration::credit(lots, &Item::Seats, had - has, rest.start, SEATS)?);
        }
    } else {
        let left = calendar::rest_of(period, at.now, current.terms.proration).start;
        lines.extend(proration::credit_all(lots, &Item::Plan, left, &current.terms.title)?);
        lines.extend(proration::credit_all(lots, &Item::Seats, left, SEATS)?);
        for purchase in subscription::plan_purchases(&target.terms, target.seats, period, rest, at.invoice_id) {
            lines.extend(purchase.charge(lots)?);
        }
    }
    for held in &current.add_ons {
        let item = Item::AddOn(held.terms.add_on_id.clone());
        let kept = target.add_ons.iter().find(|other| other.terms.add_on_id == held.terms.add_on_id);
        match kept {
            Some(kept) if kept.terms == held.terms => {
                let fewer = held.quantity - kept.quantity;
                if fewer > 0 {
                    lines.extend(proration::credit(lots, &item, fewer, rest.start, &held.terms.title)?);
                }
            }
            _ => lines.extend(proration::credit_all(lots, &item, rest.start, &held.terms.title)?),
        }
        // What was used of it until now is charged, for afterwards nobody would.
        decision.settles_usage |= held.terms.kind == AddOnKind::Metered && kept.is_none();
    }
    for held in &target.add_ons {
        let same = current.add_ons.iter().find(|other| other.terms == held.terms);
        let more = held.quantity - same.map_or(0, |same| same.quantity);
        if more > 0
            && let Some(purchase) = subscription::add_on_purchase(held, more, period, rest, at.invoice_id)
        {
            lines.extend(purchase.charge(lots)?);
        }
    }
    Ok(())
}

/// Gives back what is left of everything that was charged.
fn give_back(after: &mut Subscription, current: &Target, now: DateTime<Utc>) -> Result<Vec<Line>, Error> {
    let agreement = &mut after.agreement;
    let left = calendar::rest_of(agreement.period, now, current.terms.proration).start;
    let mut lines = proration::credit_all(&mut agreement.lots, &Item::Plan, left, &current.terms.title)?;
    lines.extend(proration::credit_all(&mut agreement.lots, &Item::Seats, left, SEATS)?);
    for held in &current.add_ons {
        let item = Item::AddOn(held.terms.add_on_id.clone());
        lines.extend(proration::credit_all(&mut agreement.lots, &item, left, &held.terms.title)?);
    }
    agreement.lots.clear();
    Ok(lines)
}

/// Gives back what is left of everything that was charged, because the subscription ends.
///
/// # Errors
///
/// When an amount is larger than can be charged, which none is that was.
pub fn give_back_all(subscription: &mut Subscription, now: DateTime<Utc>) -> Result<Vec<Line>, Error> {
    let current = Target::of(subscription);
    give_back(subscription, &current, now)
}

/// What happened, from one state to another.
fn note(changes: &mut Vec<Change>, current: &Target, target: &Target) {
    if current.terms != target.terms {
        changes.push(Change::SubscriptionPlanChanged {
            before_plan_id: current.terms.plan_id.clone(),
            plan_id: target.terms.plan_id.clone(),
            plan_version: target.terms.version,
            currency_code: target.terms.price.currency.code().to_owned(),
            yearly: target.terms.price.period == Period::Year,
        });
    }
    if current.seats != target.seats {
        changes.push(Change::SubscriptionSeatsChanged { before: current.seats, after: target.seats });
    }
    let add_ons = add_on_changes(&current.add_ons, &target.add_ons);
    if !add_ons.is_empty() {
        changes.push(Change::SubscriptionAddOnsChanged { changes: add_ons });
    }
}

fn add_on_changes(before: &[Held], after: &[Held]) -> Vec<FieldChange> {
    let mut names: Vec<&String> = before.iter().chain(after).map(|held| &held.terms.add_on_id).collect();
    names.sort_unstable();
    names.dedup();
    let change = |name: &String| FieldChange {
        field: name.clone(),
        before: quantity(before, name).to_string(),
        after: quantity(after, name).to_string(),
    };
    names.into_iter().map(change).filter(|change| change.before != change.after).collect()
}

/// Schedules what takes effect later, in place of what a change says anew of what was scheduled before.
fn schedule(decision: &mut Decision, now: &Target, later: Option<Target>, wish: &Wish, at: Circumstances<'_>) {
    let before = decision.after.agreement.scheduled.clone();
    let mut scheduled = before.clone().unwrap_or_default();
    let plan_said = wish.plan_id.is_some() || wish.period.is_some() || wish.currency.is_some() || wish.latest_version;
    if plan_said {
        scheduled = Scheduled::default();
    }
    if wish.seats.is_some() {
        scheduled.seats = None;
    }
    scheduled.add_ons.retain(|held| wish.add_ons.iter().all(|(add_on_id, _)| *add_on_id != held.terms.add_on_id));
    if let Some(later) = later {
        if later.terms != now.terms {
            scheduled.terms = Some(later.terms.clone());
        }
        if later.seats != now.seats || (scheduled.terms.is_some() && wish.seats.is_some()) {
            scheduled.seats = Some(later.seats).filter(|_| wish.seats.is_some() || scheduled.terms.is_none());
        }
        for (add_on_id, quantity) in &wish.add_ons {
            let held = later.add_ons.iter().chain(&now.add_ons).find(|held| held.terms.add_on_id == *add_on_id);
            if let Some(held) = held.filter(|_| now.quantity(add_on_id) != *quantity) {
                scheduled.add_ons.push(Held { terms: held.terms.clone(), quantity: *quantity, since: None });
            }
        }
    }
    let free_until = scheduled.at.take();
    let mut scheduled = scheduled.some();
    if !decision.after.is_charged() && decision.after.status != Status::Trialing {
        // Nobody has charged a period that could end: the one that the anchor counts does.
        let end = free_until.unwrap_or(decision.after.period_at(at.now).end);
        if let Some(scheduled) = &mut scheduled {
            scheduled.at = Some(end);
        }
    }
    decision.after.agreement.scheduled.clone_from(&scheduled);
    if scheduled == before {
        return;
    }
    match &scheduled {
        None => decision.changes.push(Change::SubscriptionScheduledChangeCanceled {}),
        Some(scheduled) => {
            let effective = decision.after.scheduled_at();
            decision.effective_at = decision.effective_at.or(Some(effective));
            decision.changes.push(scheduled_change(scheduled, effective));
        }
    }
}

fn scheduled_change(scheduled: &Scheduled, effective: DateTime<Utc>) -> Change {
    Change::SubscriptionChangeScheduled {
        effective_time: effective.to_rfc3339(),
        plan_id: scheduled.terms.as_ref().map(|terms| terms.plan_id.clone()),
        seats: scheduled.seats,
        add_ons: scheduled.add_ons.iter().map(|held| format!("{}={}", held.terms.add_on_id, held.quantity)).collect(),
    }
}

/// Applies what was scheduled, at the end of the period, before the next begins: as many seats as are used then, if that is
/// more; and not at all where the plan does not take so many, is charged in another currency than everything since, a meter
/// would be charged twice, or it is growth while payment is overdue.
///
/// # Errors
///
/// When what it costs is more than can be charged.
pub fn apply_scheduled(
    subscription: &mut Subscription,
    used: i64,
    catalogue: &Catalogue,
    billed_in: Option<Currency>,
) -> Result<Vec<Change>, Error> {
    let at = subscription.scheduled_at();
    let Some(scheduled) = subscription.agreement.scheduled.take() else { return Ok(Vec::new()) };
    let current = Target::of(subscription);
    let mut target = current.clone();
    if let Some(terms) = scheduled.terms {
        target.seats = unsaid_seats(&terms, &current, subscription.status, used);
        target.add_ons = moved(&target.add_ons, &current.terms, &terms, catalogue);
        target.terms = terms;
    }
    let wished = scheduled.seats.unwrap_or(target.seats);
    target.seats = wished.max(used);
    for held in scheduled.add_ons {
        let own = current.add_ons.iter().find(|own| own.terms.add_on_id == held.terms.add_on_id);
        let since = own.map_or(Some(at), |own| own.since);
        target.set(Held { since, ..held });
    }
    let overdue = super::seats::may_grow(subscription.status).is_err() && target.grows_from(&current)?;
    let charged_twice = target.add_ons.iter().any(|held| target.second_on_its_meter(&held.terms.add_on_id).is_some());
    if overdue || charged_twice || !target.terms.takes(target.seats) || target.is_billable(billed_in).is_err() {
        let plan_id = target.terms.plan_id;
        return Ok(vec![Change::SubscriptionScheduledChangeDropped { plan_id, seats: target.seats }]);
    }
    let mut changes = Vec::new();
    if target.seats > wished {
        changes.push(Change::SubscriptionSeatsClamped { scheduled: wished, used });
    }
    note(&mut changes, &current, &target);
    subscription.seats = target.seats;
    subscription.agreement.terms = target.terms;
    subscription.agreement.add_ons = target.add_ons;
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::billing::subscription::Agreement;

    /// Prices of which hardly a share is whole; one plan counts days.
    const PLANS: &str = r#"
        plans = [
            { plan = "free", title = "Free", included_seats = 1, minimum_seats = 1, default = true, prices = [
                { currency = "EUR", period = "month", base_price_minor = 0, seat_price_minor = 0 } ] },
            { plan = "small", title = "Small", included_seats = 1, minimum_seats = 1, prices = [
                { currency = "EUR", period = "month", base_price_minor = 1_999, seat_price_minor = 333 },
                { currency = "EUR", period = "year", base_price_minor = 19_993, seat_price_minor = 3_331 } ] },
            { plan = "large", title = "Large", included_seats = 3, minimum_seats = 1, proration = "day", prices = [
                { currency = "EUR", period = "month", base_price_minor = 10_007, seat_price_minor = 1_211 } ] },
            { plan = "pennies", title = "Pennies", included_seats = 1, minimum_seats = 1, prices = [
                { currency = "EUR", period = "month", base_price_minor = 7, seat_price_minor = 1 } ] },
        ]
        add_ons = [
            { add_on = "storage", title = "Storage", kind = "per_unit", prices = [
                { currency = "EUR", period = "month", unit_price_minor = 499 },
                { currency = "EUR", period = "year", unit_price_minor = 4_999 } ] },
            { add_on = "support", title = "Support", kind = "flat", prices = [
                { currency = "EUR", period = "month", unit_price_minor = 4_900 } ] },
        ]
    "#;

    fn catalogue() -> Catalogue {
        Catalogue::parse("(test)", PLANS).unwrap()
    }

    fn start() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }

    fn at(catalogue: &Catalogue, now: DateTime<Utc>) -> Circumstances<'_> {
        let seats = Usage { total: 0, members: 1, pending: 0 };
        Circumstances { catalogue, seats, billed_in: Currency::parse("EUR"), invoice_id: Uuid::nil(), now }
    }

    /// A subscription that has just begun, and what it charged.
    fn begun(catalogue: &Catalogue, plan_id: &str, seats: i64, storage: i64) -> (Subscription, i64) {
        let terms = catalogue.default_plan().unwrap().terms(None, None).unwrap();
        let free = Subscription::beginning(Status::Active, terms, 1, start());
        let add_ons = vec![("storage".to_owned(), storage)];
        let wish = Wish { plan_id: Some(plan_id.to_owned()), seats: Some(seats), add_ons, ..Wish::default() };
        let decision = decide(&free, &wish, at(catalogue, start())).unwrap();
        let charged = sum(&decision.lines);
        (decision.after, charged)
    }

    fn sum(lines: &[Line]) -> i64 {
        lines.iter().map(|line| line.amount_minor).sum()
    }

    fn worth(subscription: &Subscription) -> i64 {
        subscription.agreement.lots.iter().map(|lot| lot.amount_minor).sum()
    }

    fn wishes() -> impl Strategy<Value = Wish> {
        let plan = prop::option::weighted(0.4, prop::sample::select(vec!["free", "small", "large", "pennies"]));
        let period = prop::option::weighted(0.2, prop::sample::select(vec![Period::Month, Period::Year]));
        let add_on = prop::option::weighted(
            0.4,
            prop_oneof![
                (0..5i64).prop_map(|units| ("storage".to_owned(), units)),
                (0..=1i64).prop_map(|units| ("support".to_owned(), units)),
            ],
        );
        let timing = prop::sample::select(vec![Timing::Usual, Timing::Now, Timing::Now, Timing::PeriodEnd]);
        (plan, period, prop::option::of(1..20i64), add_on, timing).prop_map(|(plan, period, seats, add_on, timing)| {
            Wish {
                plan_id: plan.map(str::to_owned),
                period,
                seats,
                add_ons: add_on.into_iter().collect(),
                timing,
                ..Wish::default()
            }
        })
    }

    proptest! {
        /// At every instant, the lines so far are what was used up and what the lots are still worth. What was used up never
        /// becomes less, so nothing is minted; and no change uses anything up at the instant of another, so nothing is burned.
        #[test]
        fn whatever_is_charged_is_used_up_or_still_there(wishes in prop::collection::vec((0..900_000i64, wishes()), 1..30)) {
            let catalogue = catalogue();
            let (mut subscription, mut lines) = begun(&catalogue, "small", 3, 1);
            let (mut now, mut used_up, mut charged, mut credited) = (start(), 0, lines, 0);
            for (seconds, wish) in wishes {
                now += TimeDelta::seconds(seconds);
                while subscription.is_charged() && subscription.agreement.period.end <= now {
                    let (end, length) = (subscription.agreement.period.end, subscription.agreement.terms.price.period);
                    apply_scheduled(&mut subscription, 1, &catalogue, Currency::parse("EUR")).unwrap();
                    if !subscription.is_charged() {
                        subscription.agreement.lots.clear();
                        break;
                    }
                    if subscription.agreement.terms.price.period != length {
                        subscription.agreement.anchor = end;
                    }
                    let Agreement { anchor, terms, period, .. } = &subscription.agreement;
                    let period = calendar::period_of(*anchor, terms.price.period, period.end).unwrap();
                    let renewed = sum(&subscription.begin_period(period, Uuid::nil()).unwrap());
                    (lines, charged) = (lines + renewed, charged + renewed);
                }
                for again in [false, true] {
                    let Ok(decision) = decide(&subscription, &wish, at(&catalogue, now)) else { continue };
                    subscription = decision.after;
                    lines += sum(&decision.lines);
                    for line in &decision.lines {
                        if line.amount_minor < 0 { credited -= line.amount_minor } else { charged += line.amount_minor }
                    }
                    let used = lines - worth(&subscription);
                    prop_assert!(used >= used_up, "{used_up} was used up, and then {used}");
                    prop_assert!(!again || used == used_up, "the second time at one instant, {} is gone", used - used_up);
                    prop_assert!(credited <= charged);
                    prop_assert!(subscription.agreement.lots.iter().all(|lot| lot.amount_minor >= 0 && lot.quantity > 0));
                    used_up = used;
                }
            }
        }

        /// To another plan and back at one instant is nothing, whether the plans count seconds or days, as long as each item
        /// was bought at once. It is not where seats were bought at several times: each purchase is credited by a line of its
        /// own, rounded by itself, and all are charged again by one. Nor is it by a period of another length, which begins anew.
        #[test]
        fn up_and_down_at_one_instant_is_nothing(
            plan in prop::sample::select(vec!["small", "large", "pennies"]),
            other in prop::sample::select(vec!["small", "large", "pennies"]),
            seats in 1..30i64, more in 1..30i64, storage in 0..9i64, units in 1..9i64, second in 0..2_600_000i64,
        ) {
            let catalogue = catalogue();
            let (before, _) = begun(&catalogue, plan, seats, storage);
            let now = start() + TimeDelta::seconds(second);
            let to = |seats: i64, units: i64, plan: &str| Wish {
                plan_id: Some(plan.to_owned()),
                seats: Some(seats),
                add_ons: vec![("storage".to_owned(), units)],
                timing: Timing::Now,
                ..Wish::default()
            };
            let up_and_down = |there: &Wish| {
                let up = decide(&before, there, at(&catalogue, now)).unwrap();
                let down = decide(&up.after, &to(seats, storage, plan), at(&catalogue, now)).unwrap();
                (sum(&up.lines) + sum(&down.lines), down.after)
            };
            // Seats and add-ons: even what was charged before is untouched.
            for there in [to(seats + more, storage, plan), to(seats, storage + units, plan), to(seats + more, storage + units, plan)] {
                let (sum, after) = up_and_down(&there);
                prop_assert_eq!(sum, 0);
                prop_assert_eq!(&after.agreement.lots, &before.agreement.lots);
            }
            let (sum, _) = up_and_down(&to(seats, storage, other));
            prop_assert_eq!(sum, 0);
        }
    }

    #[test]
    fn seats_of_several_purchases_may_differ_by_a_cent_each_when_a_plan_is_left_and_taken_again() {
        let catalogue = catalogue();
        let (mut subscription, _) = begun(&catalogue, "pennies", 2, 0);
        let step = |subscription: &Subscription, wish: &Wish, day: i64| {
            let now = start() + TimeDelta::days(day);
            decide(subscription, &Wish { timing: Timing::Now, ..wish.clone() }, at(&catalogue, now)).unwrap()
        };
        for seats in 3..=6 {
            let wish = Wish { seats: Some(seats), ..Wish::default() };
            subscription = step(&subscription, &wish, 1).after;
        }
        let to = |plan: &str| Wish { plan_id: Some(plan.to_owned()), seats: Some(6), ..Wish::default() };
        let up = step(&subscription, &to("small"), 20);
        let down = step(&up.after, &to("pennies"), 20);
        let off = sum(&up.lines) + sum(&down.lines);
        // Five purchases, each rounded by itself.
        assert!(off != 0 && off.abs() <= 5, "{off}");
    }
}
