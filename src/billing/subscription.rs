//! What a subscription is: what was agreed on, what was charged for the period under way, what is to come and when.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::calendar::{self, Span};
use super::catalogue::{AddOnKind, AddOnTerms, DunningEnd, Grant, Period, Policy, Terms};
use super::money::{self, TooLarge};
use super::proration::{Item, Line, Lot, Purchase};
pub use crate::entity::subscription::Status;

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Where it stands.
    pub status: Status,
    /// The seats.
    pub seats: i64,
    /// What was agreed on.
    pub agreement: Agreement,
}

/// What was agreed on, and what came of it so far; as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// The plan, as it was when it was chosen.
    pub terms: Terms,
    /// The add-ons.
    pub add_ons: Vec<Held>,
    /// From when on periods are counted.
    pub anchor: DateTime<Utc>,
    /// The period under way or, while nothing is paid for, the last one that was.
    pub period: Span,
    /// What was charged in advance for it.
    pub lots: Vec<Lot>,
    /// What changes at its end.
    pub scheduled: Option<Scheduled>,
    /// When the trial ends, or ended. An organization has one.
    pub trial_end: Option<DateTime<Utc>>,
    /// Whether it ends with the period.
    pub ends_with_period: bool,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// That payment is overdue.
    pub overdue: Option<Overdue>,
    /// When the earliest invoice that nobody collects is to be paid.
    pub payment_due_at: Option<DateTime<Utc>>,
}

/// An add-on that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What was agreed on.
    pub terms: AddOnTerms,
    /// How many units.
    pub quantity: i64,
    /// Since when: what was used of a meter before is not charged. None since the subscription began, or while it is only to
    /// come.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
}

impl Held {
    /// How much of what was used is beyond what is included.
    #[must_use]
    pub fn beyond(&self, used: i64) -> i64 {
        (used - self.terms.included).max(0)
    }
}

/// What changes at the end of the period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// The plan from then on, as it was when it was chosen.
    pub terms: Option<Terms>,
    /// The seats.
    pub seats: Option<i64>,
    /// The add-ons whose quantity changes, with their quantity; 0 for none.
    pub add_ons: Vec<Held>,
    /// When, while nothing is paid for: there is no period that could end.
    #[serde(default)]
    pub at: Option<DateTime<Utc>>,
}

impl Scheduled {
    /// Nothing, if it says nothing.
    #[must_use]
    pub fn some(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

/// Payment that is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// Since when.
    pub since: DateTime<Utc>,
    /// How often it was tried or asked for again.
    pub retries: usize,
    /// Whether trying the same payment method again is of no use.
    pub hard: bool,
}

/// What billing has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// An invoice that nobody collects was to be paid by now.
    Payment,
    /// Payment is to be tried or asked for again.
    Retry,
    /// Service has gone on long enough without payment.
    GraceEnd,
    /// Payment was asked for long enough.
    DunningEnd,
    /// The trial ends.
    TrialEnd,
    /// The period ends.
    PeriodEnd,
}

/// How long after the last retry payment is given up: its outcome may take a while to be known.
const AFTER_LAST_RETRY: TimeDelta = TimeDelta::days(1);

fn days(days: u16) -> TimeDelta {
    TimeDelta::days(days.into())
}

impl Subscription {
    /// A subscription that begins, with nothing charged yet.
    #[must_use]
    pub fn beginning(status: Status, terms: Terms, seats: i64, at: DateTime<Utc>) -> Self {
        let agreement = Agreement {
            terms,
            add_ons: Vec::new(),
            anchor: at,
            period: Span { start: at, end: at },
            lots: Vec::new(),
            scheduled: None,
            trial_end: None,
            ends_with_period: false,
            ended_at: None,
            overdue: None,
            payment_due_at: None,
        };
        Self { status, seats, agreement }
    }

    /// Whether periods are paid for.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        is_charged(&self.agreement.terms, &self.agreement.add_ons)
    }

    /// The billing period that an instant is in: of what is paid for, the one that was charged; else as the anchor counts them.
    #[must_use]
    pub fn period_at(&self, now: DateTime<Utc>) -> Span {
        let Agreement { period, anchor, trial_end, .. } = &self.agreement;
        if self.is_charged() && self.status != Status::Canceled && (period.start..period.end).contains(&now) {
            return *period;
        }
        // A trial that nobody has ended yet is followed by a period that is counted from its end.
        let anchor = trial_end.filter(|_| self.status == Status::Trialing).unwrap_or(*anchor);
        calendar::period_of(anchor, self.length(), now.max(anchor)).unwrap_or(*period)
    }

    /// How long periods are: what is free after the end is counted by months.
    #[must_use]
    pub fn length(&self) -> Period {
        if self.status == Status::Canceled { Period::Month } else { self.agreement.terms.price.period }
    }

    /// Until when service goes on although payment is overdue.
    #[must_use]
    pub fn grace_end(&self, policy: &Policy) -> Option<DateTime<Utc>> {
        self.agreement.overdue.map(|overdue| overdue.since + days(policy.grace_days))
    }

    /// When payment is tried or asked for again.
    #[must_use]
    pub fn next_retry(&self, policy: &Policy) -> Option<DateTime<Utc>> {
        let overdue = self.agreement.overdue?;
        policy.dunning_days.get(overdue.retries).map(|after| overdue.since + days(*after))
    }

    fn dunning_end(&self, policy: &Policy) -> Option<DateTime<Utc>> {
        let overdue = self.agreement.overdue.filter(|_| policy.dunning_end != DunningEnd::Unpaid)?;
        let last = policy.dunning_days.last().filter(|_| overdue.retries >= policy.dunning_days.len())?;
        Some(overdue.since + days(*last) + AFTER_LAST_RETRY)
    }

    /// What billing has to do next, and when.
    #[must_use]
    pub fn next_due(&self, policy: &Policy) -> Option<(DateTime<Utc>, Due)> {
        let agreement = &self.agreement;
        let not_overdue = agreement.overdue.is_none();
        // What is owed is asked for also after the end.
        let goes_on = self.status != Status::Canceled;
        [
            (agreement.payment_due_at.filter(|_| not_overdue), Due::Payment),
            (self.next_retry(policy), Due::Retry),
            (self.grace_end(policy).filter(|_| self.status == Status::PastDue), Due::GraceEnd),
            (self.dunning_end(policy).filter(|_| goes_on), Due::DunningEnd),
        ]
        .into_iter()
        .filter_map(|(at, due)| at.map(|at| (at, due)))
        .chain(self.next_period_due())
        .min()
    }

    /// When what is scheduled takes effect.
    #[must_use]
    pub fn scheduled_at(&self) -> DateTime<Utc> {
        let free = self.agreement.scheduled.as_ref().and_then(|scheduled| scheduled.at);
        free.unwrap_or(self.agreement.period.end)
    }

    /// When the trial or the period ends, if another begins then, or the subscription ends.
    #[must_use]
    pub fn next_period_due(&self) -> Option<(DateTime<Utc>, Due)> {
        let agreement = &self.agreement;
        let goes_on = self.is_charged() || agreement.scheduled.is_some() || agreement.ends_with_period;
        match self.status {
            Status::Trialing => agreement.trial_end.map(|at| (at, Due::TrialEnd)),
            Status::Active | Status::PastDue if goes_on => Some((self.scheduled_at(), Due::PeriodEnd)),
            // Nothing follows what is not paid for, but it ends all the same.
            Status::Unpaid if agreement.ends_with_period => Some((agreement.period.end, Due::PeriodEnd)),
            Status::Active | Status::PastDue | Status::Unpaid | Status::Canceled => None,
        }
    }

    /// Begins a period, and says what it charges in advance.
    ///
    /// # Errors
    ///
    /// When it is more than can be charged.
    pub fn begin_period(&mut self, period: Span, invoice_id: Uuid) -> Result<Vec<Line>, TooLarge> {
        let agreement = &mut self.agreement;
        agreement.period = period;
        agreement.lots.clear();
        let Agreement { terms, add_ons, lots, .. } = agreement;
        let mut lines: Vec<Option<Line>> = Vec::new();
        for purchase in purchases(terms, self.seats, add_ons, period, period, invoice_id) {
            lines.push(purchase.charge(lots)?);
        }
        Ok(lines.into_iter().flatten().collect())
    }

    /// Begins to count periods from an instant.
    #[must_use]
    pub fn count_from(&mut self, at: DateTime<Utc>) -> Option<Span> {
        self.agreement.anchor = at;
        calendar::period_of(at, self.agreement.terms.price.period, at)
    }
}

/// Whether periods of it are paid for.
#[must_use]
pub fn is_charged(terms: &Terms, add_ons: &[Held]) -> bool {
    !terms.price.is_free() || add_ons.iter().any(|held| held.terms.unit_price_minor > 0)
}

/// What is charged in advance for a period, or the rest of one.
pub(super) fn purchases<'a>(
    terms: &'a Terms,
    seats: i64,
    add_ons: &'a [Held],
    period: Span,
    rest: Span,
    invoice_id: Uuid,
) -> impl Iterator<Item = Purchase<'a>> {
    let plan = plan_purchases(terms, seats, period, rest, invoice_id);
    plan.into_iter()
        .chain(add_ons.iter().filter_map(move |held| add_on_purchase(held, held.quantity, period, rest, invoice_id)))
}

pub(super) fn plan_purchases(
    terms: &Terms,
    seats: i64,
    period: Span,
    rest: Span,
    invoice_id: Uuid,
) -> [Purchase<'_>; 2] {
    let base = Purchase {
        item: Item::Plan,
        title: &terms.title,
        quantity: None,
        price_minor: terms.price.base_price_minor,
        period,
        rest,
        invoice_id,
    };
    [base, seat_purchase(terms, terms.charged_seats(seats), period, rest, invoice_id)]
}

pub(super) fn seat_purchase(terms: &Terms, seats: i64, period: Span, rest: Span, invoice_id: Uuid) -> Purchase<'_> {
    Purchase {
        item: Item::Seats,
        title: SEATS,
        quantity: Some(seats),
        price_minor: terms.price.seat_price_minor,
        period,
        rest,
        invoice_id,
    }
}

pub(super) fn add_on_purchase(
    held: &Held,
    quantity: i64,
    period: Span,
    rest: Span,
    invoice_id: Uuid,
) -> Option<Purchase<'_>> {
    let quantity = match held.terms.kind {
        AddOnKind::PerUnit => Some(quantity),
        AddOnKind::Flat => None,
        AddOnKind::Metered => return None,
    };
    Some(Purchase {
        item: Item::AddOn(held.terms.add_on_id.clone()),
        title: &held.terms.title,
        quantity,
        price_minor: held.terms.unit_price_minor,
        period,
        rest,
        invoice_id,
    })
}

/// What lines call the seats beyond the included ones.
pub(super) const SEATS: &str = "Additional seats";

/// What a year of it costs, usage aside: by this, changes go up or down.
///
/// # Errors
///
/// When it is more than can be charged.
pub fn yearly(terms: &Terms, seats: i64, add_ons: &[Held]) -> Result<i64, TooLarge> {
    let mut parts =
        vec![terms.price.base_price_minor, money::times(terms.price.seat_price_minor, terms.charged_seats(seats))?];
    for held in add_ons.iter().filter(|held| held.terms.kind != AddOnKind::Metered) {
        parts.push(money::times(held.terms.unit_price_minor, held.quantity)?);
    }
    let periods = match terms.price.period {
        Period::Month => 12,
        Period::Year => 1,
    };
    money::times(money::sum(parts)?, periods)
}

/// What is granted of a feature, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Whether there is any.
    pub enabled: bool,
    /// Up to how much; none without limit, and where it is there or not.
    pub limit: Option<i64>,
    /// Whether it is counted.
    pub counted: bool,
    /// Where it comes from.
    pub sources: Vec<String>,
}

/// What a plan with its add-ons grants of a feature: limits of both add up.
#[must_use]
pub fn granted(terms: &Terms, add_ons: &[Held], feature: &str) -> Granted {
    let of_plan = terms.entitlements.get(feature).map(|grant| (*grant, 1, format!("plan:{}", terms.plan_id)));
    let of_add_ons = add_ons.iter().filter_map(|held| {
        let grant = *held.terms.entitlements.get(feature)?;
        Some((grant, held.quantity, format!("add_on:{}", held.terms.add_on_id)))
    });
    let mut granted = Granted::default();
    let (mut sum, mut unlimited) = (0_i64, false);
    for (grant, quantity, source) in of_plan.into_iter().chain(of_add_ons) {
        match grant {
            Grant::Enabled(false) => continue,
            Grant::Enabled(true) => granted.enabled = true,
            Grant::Limit(limit) => {
                granted.counted = true;
                sum = sum.saturating_add(limit.saturating_mul(quantity));
            }
            Grant::Unlimited(_) => (granted.counted, unlimited) = (true, true),
        }
        granted.sources.push(source);
    }
    granted.limit = (granted.counted && !unlimited).then_some(sum);
    granted.enabled |= granted.counted;
    granted
}
