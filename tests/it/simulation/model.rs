//! The independent calculation: what ought to be invoiced, figured without a function of `tenantry::billing`.
//!
//! Time is in microseconds, the calendar and the rounding are its own. It is written by the rules of the README, an organization
//! at a time:
//!
//! - A charge is price × quantity × seconds left ÷ seconds of the period; by-day plans count whole days from the beginning of
//!   the period, and the day under way belongs to the new state.
//! - A credit is what was charged × part of its quantity × time left ÷ time it was charged for, the latest charge first; what
//!   is left of a charge is what it was worth then, less the credit.
//! - Each line is rounded once, half away from zero; so is the tax of each rate, on the sum of what is charged at it.
//! - The tax of an invoice is shared by amount among what it charged in advance; a credit takes the same share of the tax of its
//!   charge as of its amount.
//! - A credit note takes its share of what is left of an invoice from its charges, what remains of them rounded down together.

use std::collections::BTreeMap;

use super::prices::{ADD_ONS, AddOn, DUNNING_DAYS, GRACE_DAYS, Kind, PAYMENT_DAYS, PLANS, Plan, Price, is_level};

/// Microseconds since 1970.
pub(super) type Time = i64;

pub(super) const SECOND: Time = 1_000_000;
pub(super) const DAY: Time = 86_400 * SECOND;

/// The quotient, to the nearest whole number, a half away from zero.
pub(super) fn rounded(numerator: i128, denominator: i128) -> i64 {
    assert!(denominator > 0, "a share of nothing");
    let size = (2 * numerator.abs() + denominator) / (2 * denominator);
    i64::try_from(size * numerator.signum()).expect("an amount")
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day of a number of days since 1970, counted up year by year.
fn date(mut days: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    loop {
        let whole = if leap(year) { 366 } else { 365 };
        if days < whole {
            break;
        }
        (days, year) = (days - whole, year + 1);
    }
    let mut month = 1;
    while days >= days_of(year, month) {
        (days, month) = (days - days_of(year, month), month + 1);
    }
    (year, month, days + 1)
}

fn days_until(year: i64, month: i64, day: i64) -> i64 {
    let years: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    years + months + day - 1
}

/// So many months later, on the same day of the month or, where there is none, on the last.
pub(super) fn months_after(anchor: Time, months: i64) -> Time {
    let (year, month, day) = date(anchor.div_euclid(DAY));
    let count = year * 12 + month - 1 + months;
    let (year, month) = (count.div_euclid(12), count.rem_euclid(12) + 1);
    days_until(year, month, day.min(days_of(year, month))) * DAY + anchor.rem_euclid(DAY)
}

/// The period counted from the anchor that an instant is in.
fn counted(anchor: Time, months: i64, at: Time) -> (Time, Time) {
    let mut count = 0;
    while months_after(anchor, (count + 1) * months) <= at {
        count += 1;
    }
    (months_after(anchor, count * months), months_after(anchor, (count + 1) * months))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Trialing,
    Active,
    PastDue,
    Unpaid,
    Canceled,
}

/// A plan at one of its prices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) plan: &'static Plan,
    pub(super) price: &'static Price,
}

impl PartialEq for Terms {
    fn eq(&self, other: &Self) -> bool {
        self.plan.id == other.plan.id && self.price == other.price
    }
}

impl Terms {
    fn is_free(self) -> bool {
        self.price.base == 0 && self.price.seat == 0
    }

    fn paid_seats(self, seats: i64) -> i64 {
        (seats - self.plan.included).max(0)
    }
}

/// An add-on that is held, at its price.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) add_on: &'static AddOn,
    price: i64,
    pub(super) quantity: i64,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        (self.add_on.id, self.price, self.quantity) == (other.add_on.id, other.price, other.quantity)
    }
}

/// What is had, or shall be.
#[derive(Clone, Debug, PartialEq)]
struct State {
    terms: Terms,
    seats: i64,
    add_ons: Vec<Held>,
}

impl State {
    fn is_paid(&self) -> bool {
        !self.terms.is_free() || self.add_ons.iter().any(|held| held.price > 0)
    }

    fn quantity(&self, id: &str) -> i64 {
        self.add_ons.iter().find(|held| held.add_on.id == id).map_or(0, |held| held.quantity)
    }

    fn set(&mut self, held: Held) {
        self.add_ons.retain(|other| other.add_on.id != held.add_on.id);
        if held.quantity > 0 {
            self.add_ons.push(held);
        }
    }

    /// What a year of it costs, usage aside.
    fn a_year(&self) -> i64 {
        let Terms { plan: _, price } = self.terms;
        let add_ons = self.add_ons.iter().filter(|held| !matches!(held.add_on.kind, Kind::Metered { .. }));
        let add_ons: i64 = add_ons.map(|held| held.price * held.quantity).sum();
        (price.base + price.seat * self.terms.paid_seats(self.seats) + add_ons) * (12 / price.months)
    }

    /// Whether anything of it is more than another has.
    fn grows_from(&self, other: &Self) -> bool {
        self.seats > other.seats
            || self.is_more_than(other)
            || self.a_year() > other.a_year()
            || self.add_ons.iter().any(|held| held.quantity > other.quantity(held.add_on.id))
    }

    /// Whether it is more than another.
    fn is_more_than(&self, other: &Self) -> bool {
        let (own, others) = (self.terms.price.months, other.terms.price.months);
        if own != others && self.is_paid() && other.is_paid() { own > others } else { self.a_year() > other.a_year() }
    }
}

/// What is charged for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Plan,
    Seats,
    AddOn(&'static str),
    Usage(&'static str),
}

/// A rate in millionths, and whether prices include it.
pub(super) type Rate = (i64, bool);

/// A line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) item: Item,
    pub(super) amount: i64,
    pub(super) span: (Time, Time),
    /// Of a credit, how its charge was taxed, the tax that it takes back, and the position of the invoice.
    back: Option<(Rate, i64, usize)>,
}

/// Something charged in advance, as far as it is not given back.
#[derive(Clone, Debug)]
struct Charged {
    item: Item,
    quantity: i64,
    amount: i64,
    span: (Time, Time),
    /// By the position among the invoices that it will have.
    invoice: usize,
    rate: Option<Rate>,
    tax: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Open,
    Paid,
    Void,
    Uncollectible,
}

/// An invoice that became open.
#[derive(Clone, Debug)]
pub(super) struct Invoice {
    pub(super) standing: Standing,
    pub(super) lines: Vec<Line>,
    /// Tax on top, by the rate.
    pub(super) taxes: Vec<(i64, i64)>,
    pub(super) subtotal: i64,
    pub(super) tax: i64,
    pub(super) total: i64,
    /// What it charged, tax and all, and what is left of that after all that was given back of it.
    charge: i64,
    left: i64,
    /// What was given back of it that nobody had paid, of one that was given up.
    pub(super) owed_back: i64,
    pub(super) applied: i64,
    /// What credit notes took off what was due, and what they came to.
    pub(super) credited: i64,
    pub(super) noted: i64,
    pub(super) paid: i64,
    pub(super) made: Time,
    due_at: Time,
}

impl Invoice {
    /// What a credit note can be for at most.
    pub(super) fn creditable(&self) -> i64 {
        (self.total - self.noted).min(self.left).max(0)
    }

    pub(super) fn due(&self) -> i64 {
        match self.standing {
            Standing::Open | Standing::Uncollectible => (self.total - self.applied - self.credited - self.paid).max(0),
            Standing::Paid | Standing::Void => 0,
        }
    }
}

/// What shall change at the end of the period.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Later {
    pub(super) terms: Option<Terms>,
    pub(super) seats: Option<i64>,
    pub(super) add_ons: Vec<Held>,
    /// When instead, while nothing is paid for.
    free_until: Option<Time>,
}

/// What was used of a meter in a period.
#[derive(Clone, Debug)]
struct Use {
    meter: &'static str,
    span: (Time, Time),
    used: i64,
    billed: i64,
    /// Beyond what is included, and not charged.
    free: i64,
}

#[derive(Clone, Copy, Debug)]
struct Overdue {
    since: Time,
    asked: usize,
}

/// What somebody wishes.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    pub(super) plan: Option<&'static str>,
    pub(super) months: Option<i64>,
    pub(super) currency: Option<&'static str>,
    pub(super) seats: Option<i64>,
    pub(super) add_ons: Vec<(&'static str, i64)>,
    pub(super) timing: Timing,
    pub(super) invoice_now: bool,
    pub(super) skip_trial: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Timing {
    #[default]
    Usual,
    Now,
    PeriodEnd,
}

/// An organization's account.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) status: Status,
    state: State,
    anchor: Time,
    period: (Time, Time),
    charged: Vec<Charged>,
    pub(super) later: Option<Later>,
    pub(super) trial_end: Option<Time>,
    pub(super) ends: bool,
    overdue: Option<Overdue>,
    pay_by: Option<Time>,
    /// What waits for the next invoice.
    waiting: Vec<Line>,
    pub(super) invoices: Vec<Invoice>,
    pub(super) credit: i64,
    /// What credit to come makes good first.
    pub(super) owed_back: i64,
    /// The invoice that credit pays before all others.
    first: Option<usize>,
    pub(super) rate: Option<Rate>,
    pub(super) currency: Option<&'static str>,
    /// Members, and when each invitation under way expires.
    pub(super) members: i64,
    pub(super) invited: Vec<Time>,
    uses: Vec<Use>,
    /// Since when usage of a metered add-on is paid for.
    metered_since: BTreeMap<&'static str, Time>,
}

type Refusal = &'static str;

impl Account {
    /// An organization that somebody has just founded.
    pub(super) fn founded(now: Time) -> Self {
        let plan = &PLANS[0];
        let terms = Terms { plan, price: &plan.prices[0] };
        Self {
            status: Status::Active,
            state: State { terms, seats: plan.included, add_ons: Vec::new() },
            anchor: now,
            period: (now, now),
            charged: Vec::new(),
            later: None,
            trial_end: None,
            ends: false,
            overdue: None,
            pay_by: None,
            waiting: Vec::new(),
            invoices: Vec::new(),
            credit: 0,
            owed_back: 0,
            first: None,
            rate: None,
            currency: None,
            members: 1,
            invited: Vec::new(),
            uses: Vec::new(),
            metered_since: BTreeMap::new(),
        }
    }

    pub(super) fn terms(&self) -> Terms {
        self.state.terms
    }

    pub(super) fn seats(&self) -> i64 {
        self.state.seats
    }

    pub(super) fn add_ons(&self) -> &[Held] {
        &self.state.add_ons
    }

    pub(super) fn anchor(&self) -> Time {
        self.anchor
    }

    pub(super) fn used(&self, now: Time) -> i64 {
        let invited = self.invited.iter().filter(|expires| **expires > now).count();
        self.members + i64::try_from(invited).expect("a few")
    }

    /// The period under way.
    pub(super) fn period_at(&self, now: Time) -> (Time, Time) {
        if self.state.is_paid() && self.status != Status::Canceled && (self.period.0..self.period.1).contains(&now) {
            return self.period;
        }
        // Who has not been seen to since the trial ended has begun to pay then.
        let anchor = self.trial_end.filter(|_| self.status == Status::Trialing).unwrap_or(self.anchor);
        counted(anchor, self.months(), now.max(anchor))
    }

    /// How long periods are: what is free after the end is counted by months.
    fn months(&self) -> i64 {
        if self.status == Status::Canceled { 1 } else { self.state.terms.price.months }
    }

    // ---- What comes by itself -------------------------------------------------------------------------------------------

    /// What is due next, and when: what is to be paid, what is asked for again, the end of service, of the trial, of the period.
    fn next_due(&self) -> Option<(Time, u8)> {
        let mut due = Vec::new();
        match self.overdue {
            None => due.extend(self.pay_by.map(|at| (at, 0))),
            Some(overdue) => {
                due.extend(DUNNING_DAYS.get(overdue.asked).map(|days| (overdue.since + days * DAY, 1)));
                if self.status == Status::PastDue {
                    due.push((overdue.since + GRACE_DAYS * DAY, 2));
                }
            }
        }
        due.extend(self.next_end());
        due.into_iter().min()
    }

    /// When what waits for the end of the period is done: while nothing is paid for, there is none that could end.
    fn later_at(&self) -> Time {
        self.later.as_ref().and_then(|later| later.free_until).unwrap_or(self.period.1)
    }

    fn next_end(&self) -> Option<(Time, u8)> {
        match self.status {
            Status::Trialing => self.trial_end.map(|at| (at, 4)),
            Status::Active | Status::PastDue if self.state.is_paid() || self.later.is_some() || self.ends => {
                Some((self.later_at(), 5))
            }
            _ => None,
        }
    }

    /// Does everything that is due.
    pub(super) fn catch_up(&mut self, now: Time) {
        while let Some((at, what)) = self.next_due().filter(|(at, _)| *at <= now) {
            match what {
                0 => self.is_overdue(now),
                1 => {
                    let overdue = self.overdue.as_mut().expect("something overdue");
                    let reached = DUNNING_DAYS.iter().filter(|days| overdue.since + **days * DAY <= now).count();
                    overdue.asked = reached.max(overdue.asked + 1);
                    for index in 0..self.invoices.len() {
                        self.wait_for(index);
                    }
                }
                2 => self.status = Status::Unpaid,
                _ => self.begin_or_end(what == 4, at, self.used(now), now),
            }
        }
    }

    fn is_overdue(&mut self, now: Time) {
        // Who has ended has nothing that could be cut off, but owes.
        self.overdue.get_or_insert(Overdue { since: now, asked: 0 });
        if self.status == Status::Active {
            self.status = Status::PastDue;
        }
    }

    fn wait_for(&mut self, index: usize) {
        let invoice = &self.invoices[index];
        if invoice.standing == Standing::Open {
            self.pay_by = Some(self.pay_by.map_or(invoice.due_at, |at| at.min(invoice.due_at)));
        }
    }

    fn begin_or_end(&mut self, trial: bool, at: Time, used: i64, now: Time) {
        if self.ends {
            let add_ons = self.state.add_ons.clone();
            self.settle(&add_ons, at);
            return self.end(now);
        }
        let before = self.state.clone();
        if trial {
            if self.state.terms.plan.ends_with_trial && before.is_paid() {
                return self.end(now);
            }
            self.status = Status::Active;
            self.anchor = at;
            // The trial was free, all of it.
            for since in self.metered_since.values_mut() {
                *since = at;
            }
        }
        self.apply_later(used);
        if !trial {
            self.settle(&before.add_ons, at);
        }
        self.note_metered(at);
        if before.terms.price.months != self.state.terms.price.months || !before.is_paid() {
            self.anchor = at;
        }
        if self.state.is_paid() {
            let period = counted(self.anchor, self.state.terms.price.months, at);
            self.begin(period);
        } else {
            self.charged.clear();
        }
        self.invoice(now);
    }

    /// Charges a whole period in advance.
    fn begin(&mut self, period: (Time, Time)) {
        self.period = period;
        self.charged.clear();
        let State { terms, seats, add_ons } = self.state.clone();
        self.charge(Item::Plan, terms.price.base, 1, period);
        self.charge(Item::Seats, terms.price.seat, terms.paid_seats(seats), period);
        for held in add_ons {
            self.charge_add_on(held, held.quantity, period);
        }
    }

    fn apply_later(&mut self, used: i64) {
        let Some(later) = self.later.take() else { return };
        let mut state = self.state.clone();
        if let Some(terms) = later.terms {
            state.seats = self.unsaid_seats(terms.plan, used);
            let (own, other) = (state.terms.price, terms.price);
            let other_price = (own.currency, own.months) != (other.currency, other.months);
            move_add_ons(&mut state.add_ons, terms, other_price);
            state.terms = terms;
        }
        state.seats = later.seats.unwrap_or(state.seats).max(used);
        for held in later.add_ons {
            state.set(held);
        }
        let blocked = self.status == Status::PastDue && state.grows_from(&self.state);
        if !blocked && (state.terms.plan.minimum..=state.terms.plan.maximum).contains(&state.seats) {
            self.state = state;
        }
    }

    fn end(&mut self, now: Time) {
        self.status = Status::Canceled;
        if self.period.1 > now {
            self.end_uses(1, now);
        }
        self.state.seats = PLANS[0].included;
        self.state.add_ons.clear();
        self.metered_since.clear();
        self.charged.clear();
        self.later = None;
        self.ends = false;
        self.invoice(now);
        self.recover(now);
    }

    // ---- Charges, credits, invoices -------------------------------------------------------------------------------------

    /// From when on a change counts.
    fn counts_from(&self, terms: Terms, now: Time) -> Time {
        let (start, end) = self.period;
        let gone = now.clamp(start, end) - start;
        let unit = if terms.plan.by_day { DAY } else { SECOND };
        start + gone / unit * unit
    }

    fn charge_add_on(&mut self, held: Held, quantity: i64, span: (Time, Time)) {
        let quantity = match held.add_on.kind {
            Kind::PerUnit => quantity,
            Kind::Flat => 1,
            Kind::Metered { .. } => return,
        };
        self.charge(Item::AddOn(held.add_on.id), held.price, quantity, span);
    }

    fn charge(&mut self, item: Item, price: i64, quantity: i64, span: (Time, Time)) {
        if price == 0 || quantity == 0 {
            return;
        }
        let share = i128::from(seconds(span)) * i128::from(price) * i128::from(quantity);
        let amount = rounded(share, seconds(self.period).into());
        let invoice = self.invoices.len();
        self.charged.push(Charged { item: item.clone(), quantity, amount, span, invoice, rate: None, tax: 0 });
        self.add(vec![Line { item, amount, span, back: None }]);
    }

    fn add(&mut self, lines: Vec<Line>) {
        if !lines.is_empty() {
            self.currency.get_or_insert(self.state.terms.price.currency);
            for line in &lines {
                if let Some(((_, included), tax, index)) = line.back {
                    self.invoices[index].left += line.amount + if included { 0 } else { tax };
                }
            }
            self.waiting.extend(lines);
        }
    }

    /// Gives back so much of what was charged for an item, the latest first.
    fn give_back(&mut self, item: &Item, mut quantity: i64, from: Time) -> Vec<Line> {
        let mut lines = Vec::new();
        for charged in self.charged.iter_mut().rev().filter(|charged| charged.item == *item) {
            let part = quantity.min(charged.quantity);
            if part == 0 {
                break;
            }
            quantity -= part;
            let (start, end) = charged.span;
            let rest = (from.clamp(start, end), end);
            let (left, whole) = (i128::from(seconds(rest)), i128::from(seconds(charged.span)));
            let (mut worth, mut credit) = (0, 0);
            if whole > 0 {
                let amount = i128::from(charged.amount);
                worth = rounded(amount * left, whole);
                credit = rounded(amount * left * i128::from(part), whole * i128::from(charged.quantity));
            }
            let of_tax = |part: i64| match charged.amount {
                0 => 0,
                amount => rounded(i128::from(charged.tax) * i128::from(part), amount.into()),
            };
            let (tax_worth, tax_back) = (of_tax(worth), of_tax(credit));
            charged.quantity -= part;
            charged.amount = worth - credit;
            charged.tax = tax_worth - tax_back;
            charged.span = rest;
            if credit != 0 {
                let back = charged.rate.map(|rate| (rate, -tax_back, charged.invoice));
                lines.push(Line { item: item.clone(), amount: -credit, span: rest, back });
            }
        }
        self.charged.retain(|charged| charged.quantity > 0);
        lines
    }

    fn give_back_everything(&mut self, now: Time) -> Vec<Line> {
        let from = self.counts_from(self.state.terms, now);
        let mut lines = self.give_back(&Item::Plan, i64::MAX, from);
        lines.extend(self.give_back(&Item::Seats, i64::MAX, from));
        for held in self.state.add_ons.clone() {
            lines.extend(self.give_back(&Item::AddOn(held.add_on.id), i64::MAX, from));
        }
        self.charged.clear();
        lines
    }

    /// Makes an invoice of what waits.
    fn invoice(&mut self, now: Time) -> Option<usize> {
        if self.waiting.is_empty() {
            return None;
        }
        let lines = std::mem::take(&mut self.waiting);
        let own: i64 = lines.iter().filter(|line| line.back.is_none()).map(|line| line.amount).sum();
        let (own_rate, own_included) = self.rate.unwrap_or((0, false));
        let whole = if own_included { 1_000_000 + own_rate } else { 1_000_000 };
        let own_tax = rounded(i128::from(own) * i128::from(own_rate), whole.into());
        let mut by_rate: BTreeMap<Rate, i64> = BTreeMap::new();
        if lines.iter().any(|line| line.back.is_none()) {
            by_rate.insert((own_rate, own_included), own_tax);
        }
        for (rate, tax, _) in lines.iter().filter_map(|line| line.back) {
            *by_rate.entry(rate).or_default() += tax;
        }
        let (mut taxes, mut tax, mut on_top) = (Vec::new(), 0, 0);
        for ((rate, included), part) in by_rate.into_iter().filter(|((rate, _), _)| *rate > 0) {
            tax += part;
            if !included {
                on_top += part;
                taxes.push((rate, part));
            }
        }
        let subtotal = lines.iter().map(|line| line.amount).sum();
        let total = subtotal + on_top;
        let applied = self.credit.min(total).max(0);
        let index = self.invoices.len();
        let (mut before, mut shared) = (0, 0);
        for charged in self.charged.iter_mut().filter(|charged| charged.invoice == index) {
            before += charged.amount;
            let until = if own == 0 { 0 } else { rounded(i128::from(own_tax) * i128::from(before), own.into()) };
            (charged.rate, charged.tax) = (Some((own_rate, own_included)), until - shared);
            shared = until;
        }
        let charge = own + if own_included { 0 } else { own_tax };
        let due_at = now + PAYMENT_DAYS * DAY;
        let (standing, credited, noted, paid, made) = (Standing::Open, 0, 0, 0, now);
        self.invoices.push(Invoice {
            standing,
            lines,
            taxes,
            subtotal,
            tax,
            total,
            charge,
            left: charge,
            owed_back: 0,
            applied,
            credited,
            noted,
            paid,
            made,
            due_at,
        });
        self.credit -= applied;
        if total < 0 {
            self.comes_back(-total, now);
        }
        self.close_if_paid(index);
        self.wait_for(index);
        Some(index)
    }

    fn close_if_paid(&mut self, index: usize) {
        let invoice = &mut self.invoices[index];
        if matches!(invoice.standing, Standing::Open | Standing::Uncollectible) && invoice.due() == 0 {
            invoice.standing = Standing::Paid;
        }
    }

    /// Pays what is open by credit, the oldest first.
    fn use_credit(&mut self, now: Time) {
        let first: Vec<usize> = self.first.into_iter().collect();
        for index in first.into_iter().chain(0..self.invoices.len()) {
            if self.invoices[index].standing == Standing::Open {
                let part = self.invoices[index].due().min(self.credit);
                self.invoices[index].applied += part;
                self.credit -= part;
                if part > 0 {
                    self.close_if_paid(index);
                }
            }
        }
        self.recover(now);
    }

    /// If nothing is owed any more, service goes on; after an interruption by a new period.
    fn recover(&mut self, now: Time) {
        let open = self.invoices.iter().filter(|invoice| invoice.standing == Standing::Open && invoice.due() > 0);
        let pay_by = open.map(|invoice| invoice.due_at).min();
        self.pay_by = pay_by;
        let Some(since) = self.overdue.map(|overdue| overdue.since) else { return };
        // What became open later and is to be paid later is not overdue yet.
        let open = self.invoices.iter().filter(|invoice| invoice.standing == Standing::Open && invoice.due() > 0);
        if open.into_iter().any(|invoice| invoice.made <= since || invoice.due_at <= now) {
            return;
        }
        self.overdue = None;
        let stopped = self.status == Status::Unpaid;
        if matches!(self.status, Status::PastDue | Status::Unpaid) {
            self.status = Status::Active;
        }
        if let Some(end) = self.later.as_mut().and_then(|later| later.free_until.as_mut()).filter(|_| stopped) {
            *end = now.max(*end);
        }
        if stopped && self.state.is_paid() && self.period.1 <= now {
            self.period.1 = now;
            self.anchor = now;
        }
    }

    // ---- Usage ----------------------------------------------------------------------------------------------------------

    /// Counts usage in the period in which it was.
    pub(super) fn report(&mut self, meter: &'static str, quantity: i64, at: Time) {
        let within = |of: &Use| of.meter == meter && of.span.0 <= at && at < of.span.1;
        let span = match self.uses.iter().find(|of| within(of)) {
            Some(of) => of.span,
            None if self.period_at(at).0 <= at => self.period_at(at),
            None => {
                let (start, end) = counted(self.anchor, self.state.terms.price.months, at);
                (
                    if start > at { 0 } else { start },
                    end.min(if at < self.period.0 { self.period.0 } else { self.anchor }),
                )
            }
        };
        // No two overlap, and what follows one that went on into a period lasts as long as a period.
        let others = || self.uses.iter().filter(|of| of.meter == meter && !within(of));
        let ended = others().map(|of| of.span.1).filter(|end| *end <= at).max().filter(|end| *end > span.0);
        let span = match ended {
            _ if self.uses.iter().any(within) => span,
            Some(end) if span.0 > 0 => counted(end, self.months(), at),
            Some(end) => (end, span.1),
            None => span,
        };
        let span = (span.0, others().map(|of| of.span.0).filter(|start| *start > at).fold(span.1, Time::min));
        if !self.uses.iter().any(|of| of.meter == meter && of.span.0 == span.0) {
            self.uses.push(Use { meter, span, used: 0, billed: 0, free: 0 });
            self.uses.sort_by_key(|of| of.span.0);
        }
        let of = self.uses.iter_mut().find(|of| of.meter == meter && of.span.0 == span.0).expect("just put there");
        let before = of.used;
        of.used = if is_level(meter) { of.used.max(quantity) } else { of.used + quantity };
        // Late for the time before the add-on was had.
        let held = self.metered_since.iter().find(|(id, _)| metered(id).is_some_and(|(own, _)| own == meter));
        if let Some((id, _)) = held.filter(|(_, since)| at < **since) {
            let (_, included) = metered(id).expect("a metered add-on");
            of.free += (of.used - included).max(0) - (before - included).max(0);
        }
    }

    /// Charges what was used beyond what is included, of every period that began before and in which the add-on was held.
    fn settle(&mut self, add_ons: &[Held], at: Time) {
        let mut lines = Vec::new();
        for held in add_ons {
            let Kind::Metered { meter, included, unit_size } = held.add_on.kind else { continue };
            let since = self.metered_since.get(held.add_on.id).copied().unwrap_or(Time::MAX);
            let uses = self.uses.iter_mut().filter(|of| of.meter == meter && of.span.0 < at && of.span.1 > since);
            for of in uses {
                let beyond = (of.used - included).max(0) - of.free - of.billed;
                if beyond > 0 {
                    of.billed += beyond;
                    let amount = rounded(i128::from(held.price) * i128::from(beyond), unit_size.into());
                    let span = (of.span.0, of.span.1.min(at));
                    lines.push(Line { item: Item::Usage(held.add_on.id), amount, span, back: None });
                }
            }
        }
        self.add(lines);
    }

    /// Remembers since when metered add-ons are had.
    fn note_metered(&mut self, at: Time) {
        let held: Vec<&'static str> = self.state.add_ons.iter().map(|held| held.add_on.id).collect();
        self.metered_since.retain(|id, _| held.contains(id));
        for id in held {
            if self.metered_since.insert(id, *self.metered_since.get(id).unwrap_or(&at)).is_none()
                && let Some((meter, included)) = metered(id)
            {
                // What is beyond what is included by now is free, but for what was charged.
                for of in self.uses.iter_mut().filter(|of| meter == of.meter && of.span.0 < at && of.span.1 > at) {
                    of.free = ((of.used - included).max(0) - of.billed).max(0);
                }
            }
        }
    }

    // ---- What people do -------------------------------------------------------------------------------------------------

    /// What a wish comes to.
    fn resolve(&self, wish: &Wish, used: i64) -> Result<State, Refusal> {
        let own = self.state.terms;
        let same_price = wish.months.is_none_or(|months| months == own.price.months)
            && wish.currency.is_none_or(|currency| currency == own.price.currency);
        let canceled = self.status == Status::Canceled;
        let mut state = self.state.clone();
        if canceled || wish.plan.is_some_and(|plan| plan != own.plan.id) || !same_price {
            state.terms = self.choose(wish)?;
        }
        let Terms { plan, price } = state.terms;
        state.seats = match wish.seats {
            Some(seats) => seats,
            None if canceled || plan.id != own.plan.id => self.unsaid_seats(plan, used),
            None => state.seats,
        };
        if !(plan.minimum..=plan.maximum).contains(&state.seats) {
            return Err("SEATS_OUTSIDE_PLAN");
        }
        if state.seats < used {
            return Err("SEATS_BELOW_USED");
        }
        if state.terms != own {
            let other_price = (price.currency, price.months) != (own.price.currency, own.price.months);
            move_add_ons(&mut state.add_ons, state.terms, other_price);
        }
        for (id, quantity) in &wish.add_ons {
            let had = state.add_ons.iter().find(|held| held.add_on.id == *id).copied();
            if had.is_none() && *quantity == 0 {
                continue;
            }
            let held = had.or_else(|| offered(state.terms, id)).ok_or("ADD_ON_NOT_FOUND")?;
            if *quantity > held.add_on.maximum {
                return Err("INVALID_FIELDS");
            }
            state.set(Held { quantity: *quantity, ..held });
        }
        if self.currency.is_some_and(|currency| currency != price.currency) && state.is_paid() {
            return Err("CURRENCY_FIXED");
        }
        Ok(state)
    }

    /// The seats with another plan where none are wished for; no growth while payment is overdue.
    fn unsaid_seats(&self, plan: &Plan, used: i64) -> i64 {
        let overdue = matches!(self.status, Status::PastDue | Status::Unpaid);
        let most = if overdue { self.state.seats.max(plan.minimum) } else { i64::MAX };
        plan.included.min(most).max(used)
    }

    fn choose(&self, wish: &Wish) -> Result<Terms, Refusal> {
        let own = self.state.terms;
        let id = wish.plan.unwrap_or(own.plan.id);
        let plan = PLANS.iter().find(|plan| plan.id == id).expect("a plan");
        let currency = wish.currency.or(self.currency).unwrap_or(own.price.currency);
        let months = wish.months.unwrap_or(own.price.months);
        let find = |currency: Option<&str>, months: Option<i64>| {
            plan.prices.iter().find(|price| {
                currency.is_none_or(|currency| price.currency == currency)
                    && months.is_none_or(|months| price.months == months)
            })
        };
        let price = find(Some(currency), Some(months))
            .or_else(|| find(Some(currency), wish.months))
            .or_else(|| find(wish.currency, Some(months)))
            .or_else(|| find(wish.currency, wish.months))
            .ok_or("PLAN_NOT_FOUND")?;
        Ok(Terms { plan, price })
    }

    /// Changes the subscription: the lines of the change, and the invoice that it makes.
    pub(super) fn change(&mut self, wish: &Wish, now: Time) -> Result<(Vec<Line>, Option<usize>), Refusal> {
        self.catch_up(now);
        if self.ends && self.status != Status::Canceled {
            return Err("SUBSCRIPTION_ENDING");
        }
        if self.status == Status::Canceled && wish.plan.is_none() {
            return Err("SUBSCRIPTION_ENDED");
        }
        let current = self.state.clone();
        let target = self.resolve(wish, self.used(now))?;
        if target.grows_from(&current) && matches!(self.status, Status::PastDue | Status::Unpaid) {
            return Err("SUBSCRIPTION_PAST_DUE");
        }
        let late = |invoice: &Invoice| invoice.standing == Standing::Open && invoice.due_at <= now;
        if self.status == Status::Canceled && (self.overdue.is_some() || self.invoices.iter().any(late)) {
            return Err("SUBSCRIPTION_PAST_DUE");
        }
        let (at_once, later) = self.split(&current, &target, wish.timing);
        let waited = self.waiting.len();
        let (mut invoice_now, mut settles) = (false, false);
        let begins_anew = self.status == Status::Canceled;
        if at_once != current || begins_anew {
            (invoice_now, settles) = self.apply(&current, &at_once, wish, now);
        }
        self.schedule(&at_once, later, wish, now);
        let lines = self.waiting[waited..].to_vec();
        if settles {
            self.settle(&current.add_ons, now);
        }
        self.note_metered(now);
        let invoice = if invoice_now || wish.invoice_now && !lines.is_empty() { self.invoice(now) } else { None };
        if begins_anew {
            // What is still owed of the time before is due as it was.
            self.recover(now);
        }
        Ok((lines, invoice))
    }

    /// What is done now, and what at the end of the period.
    fn split(&self, current: &State, target: &State, timing: Timing) -> (State, Option<State>) {
        let nothing_paid = !current.is_paid() || matches!(self.status, Status::Trialing | Status::Canceled);
        if self.status == Status::Canceled || timing == Timing::Now || timing == Timing::Usual && nothing_paid {
            return (target.clone(), None);
        }
        if timing == Timing::PeriodEnd {
            return (current.clone(), Some(target.clone()));
        }
        if target.terms != current.terms {
            return if current.is_more_than(target) {
                (current.clone(), Some(target.clone()))
            } else {
                (target.clone(), None)
            };
        }
        let mut now = current.clone();
        now.seats = now.seats.max(target.seats);
        for held in &target.add_ons {
            if held.quantity > current.quantity(held.add_on.id) {
                now.set(*held);
            }
        }
        let later = (now != *target).then(|| target.clone());
        (now, later)
    }

    /// Does it now, and says whether that is invoiced at once and whether it ends a period, or a metered add-on.
    fn apply(&mut self, current: &State, target: &State, wish: &Wish, now: Time) -> (bool, bool) {
        if self.status == Status::Trialing {
            self.state = target.clone();
            if !target.is_paid() {
                self.status = Status::Active;
                self.trial_end = Some(now);
            }
            return (false, false);
        }
        let paid = current.is_paid() && self.status != Status::Canceled;
        if paid && target.is_paid() && current.terms.price.months == target.terms.price.months {
            return (false, self.prorate(current, target, now));
        }
        if paid {
            let lines = self.give_back_everything(now);
            self.add(lines);
        }
        self.state = target.clone();
        if target.is_paid() {
            return (self.start(wish, now) || paid, paid);
        }
        if paid {
            self.end_uses(target.terms.price.months, now);
        }
        if self.status == Status::Canceled {
            self.status = Status::Active;
            self.anchor = now;
        }
        (paid, paid)
    }

    /// Begins to pay, or to try. Says whether something was charged.
    fn start(&mut self, wish: &Wish, now: Time) -> bool {
        let days = self.state.terms.plan.trial_days;
        let was_billed = self.currency.is_some();
        let months = self.state.terms.price.months;
        self.end_uses(months, now);
        if days > 0 && !wish.skip_trial && self.trial_end.is_none() && !was_billed {
            self.status = Status::Trialing;
            self.trial_end = Some(now + days * DAY);
            self.anchor = now;
            self.period = (now, now + days * DAY);
            return false;
        }
        if self.status == Status::Canceled {
            self.status = Status::Active;
        }
        self.anchor = now;
        self.begin(counted(now, months, now));
        true
    }

    /// What is used from now on is of another period: but the count of one that was paid for goes on until its end, for as many
    /// months as a period lasts now.
    fn end_uses(&mut self, months: i64, now: Time) {
        let goes_on = self.period.1 > now;
        for of in self.uses.iter_mut().filter(|of| of.span.0 < now && of.span.1 > now) {
            let end = if goes_on { counted(of.span.0, months, of.span.0).1.max(now) } else { now };
            of.span.1 = of.span.1.min(end);
        }
    }

    /// Charges and credits a change within the period. Says whether a metered add-on ends by it.
    fn prorate(&mut self, current: &State, target: &State, now: Time) -> bool {
        let rest = (self.counts_from(target.terms, now), self.period.1);
        let (had, has) = (current.terms.paid_seats(current.seats), target.terms.paid_seats(target.seats));
        self.state = target.clone();
        if target.terms != current.terms {
            let from = self.counts_from(current.terms, now);
            let mut lines = self.give_back(&Item::Plan, i64::MAX, from);
            lines.extend(self.give_back(&Item::Seats, i64::MAX, from));
            self.add(lines);
            self.charge(Item::Plan, target.terms.price.base, 1, rest);
            self.charge(Item::Seats, target.terms.price.seat, has, rest);
        } else if has > had {
            self.charge(Item::Seats, target.terms.price.seat, has - had, rest);
        } else if has < had {
            let lines = self.give_back(&Item::Seats, had - has, rest.0);
            self.add(lines);
        }
        let mut settles = false;
        for held in &current.add_ons {
            let fewer = held.quantity - target.quantity(held.add_on.id);
            if fewer > 0 {
                let lines = self.give_back(&Item::AddOn(held.add_on.id), fewer, rest.0);
                self.add(lines);
            }
            settles |= matches!(held.add_on.kind, Kind::Metered { .. }) && target.quantity(held.add_on.id) == 0;
        }
        for held in &target.add_ons {
            let more = held.quantity - current.quantity(held.add_on.id);
            if more > 0 {
                self.charge_add_on(*held, more, rest);
            }
        }
        settles
    }

    fn schedule(&mut self, now_is: &State, target: Option<State>, wish: &Wish, now: Time) {
        let mut later = self.later.clone().unwrap_or_default();
        if wish.plan.is_some() || wish.months.is_some() || wish.currency.is_some() {
            later = Later::default();
        }
        if wish.seats.is_some() {
            later.seats = None;
        }
        later.add_ons.retain(|held| wish.add_ons.iter().all(|(id, _)| *id != held.add_on.id));
        if let Some(target) = target {
            if target.terms != now_is.terms {
                later.terms = Some(target.terms);
            }
            if let Some(seats) = wish.seats.filter(|seats| *seats != now_is.seats || later.terms.is_some()) {
                later.seats = Some(seats);
            }
            for (id, quantity) in &wish.add_ons {
                let mut held = target.add_ons.iter().chain(&now_is.add_ons).filter(|held| held.add_on.id == *id);
                if let Some(held) = held.next().filter(|_| now_is.quantity(id) != *quantity) {
                    later.add_ons.push(Held { quantity: *quantity, ..*held });
                }
            }
        }
        let free_until = later.free_until.take();
        self.later = (later != Later::default()).then_some(later);
        let end = self.period_at(now).1;
        if let Some(later) = self.later.as_mut().filter(|_| !self.state.is_paid() && self.status != Status::Trialing) {
            later.free_until = Some(free_until.unwrap_or(end));
        }
    }

    pub(super) fn forget_later(&mut self, now: Time) {
        self.catch_up(now);
        self.later = None;
    }

    /// Ends it at the end of the period, or now, with credit or without.
    pub(super) fn cancel(&mut self, at_period_end: bool, credit: bool, now: Time) -> Result<Option<usize>, Refusal> {
        self.catch_up(now);
        if self.status == Status::Canceled {
            return Err("SUBSCRIPTION_ENDED");
        }
        let runs = self.state.is_paid() && self.status != Status::Unpaid;
        if at_period_end && runs {
            self.later = None;
            self.ends = true;
            return Ok(None);
        }
        let known = self.invoices.len();
        let lines = self.give_back_everything(now);
        if credit {
            self.add(lines);
        }
        if self.status != Status::Trialing {
            let add_ons = self.state.add_ons.clone();
            self.settle(&add_ons, now);
        }
        self.end(now);
        Ok((self.invoices.len() > known).then_some(known))
    }

    pub(super) fn resume(&mut self, now: Time) -> Result<(), Refusal> {
        self.catch_up(now);
        if self.status == Status::Canceled {
            return Err("SUBSCRIPTION_ENDED");
        }
        self.ends = false;
        Ok(())
    }

    pub(super) fn pay(&mut self, index: usize, amount: i64, now: Time) {
        self.invoices[index].paid += amount;
        if self.invoices[index].standing == Standing::Uncollectible {
            self.owe_back(index);
            self.use_credit(now);
        }
        self.close_if_paid(index);
        self.recover(now);
        self.catch_up(now);
    }

    pub(super) fn fail(&mut self, now: Time) {
        self.is_overdue(now);
        self.catch_up(now);
    }

    /// Whether nothing of an invoice was given back on another.
    pub(super) fn is_whole(&self, index: usize) -> bool {
        let waiting = self.waiting.iter().filter_map(|line| line.back.map(|back| (line.amount, back)));
        let waiting = waiting.filter(|(_, (_, _, of))| *of == index);
        let waiting: i64 =
            waiting.map(|(amount, ((_, included), tax, _))| amount + if included { 0 } else { tax }).sum();
        self.invoices[index].charge - self.invoices[index].left == -waiting
    }

    /// Whoever voids or gives up an invoice does not look at what else is due.
    pub(super) fn close(&mut self, index: usize, standing: Standing, now: Time) {
        let (credits, waiting): (Vec<Line>, Vec<Line>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|line| line.back.is_some_and(|(_, _, of)| of == index));
        if standing == Standing::Uncollectible && !credits.is_empty() {
            // What waits to be given back is invoiced by itself, and pays what it can.
            let next = self.invoices.len();
            let waits: Vec<usize> = (0..self.charged.len()).filter(|at| self.charged[*at].invoice == next).collect();
            for at in &waits {
                self.charged[*at].invoice = usize::MAX;
            }
            self.waiting = credits;
            self.first = Some(index);
            self.invoice(now);
            self.first = None;
            for at in waits {
                self.charged[at].invoice = self.invoices.len();
            }
            if self.invoices[index].standing != Standing::Open {
                self.waiting = waiting;
                return;
            }
        }
        self.waiting = waiting;
        let invoice = &mut self.invoices[index];
        invoice.standing = standing;
        let applied = if standing == Standing::Void { std::mem::take(&mut invoice.applied) } else { 0 };
        // What nobody paid cannot be given back; what was paid of one that is given up can.
        let (unpaid, left) = (invoice.due(), invoice.left.max(0));
        self.lose(index, if standing == Standing::Uncollectible { unpaid } else { left }, left);
        self.owe_back(index);
        if applied > 0 {
            self.comes_back(applied, now);
        }
        self.recover(now);
    }

    /// What an invoice charged is worth less by a part of what is left of it.
    fn lose(&mut self, index: usize, part: i64, left: i64) {
        let kept = (left - part).max(0);
        lower(self.charged.iter_mut().filter(|charged| charged.invoice == index), kept, left);
    }

    /// Of one that is given up, what was given back beyond what anybody paid is owed back: by the balance, then by credit to come.
    fn owe_back(&mut self, index: usize) {
        let invoice = &mut self.invoices[index];
        let owed = match invoice.standing {
            Standing::Uncollectible => (invoice.due() - invoice.left.max(0)).max(0),
            _ => 0,
        };
        let more = owed - std::mem::replace(&mut invoice.owed_back, owed);
        if more > 0 {
            let from_balance = self.credit.min(more);
            self.credit -= from_balance;
            self.owed_back += more - from_balance;
        } else {
            let still_owed = self.owed_back.min(-more);
            self.owed_back -= still_owed;
            self.credit += -more - still_owed;
        }
    }

    /// Credit comes and pays what is open; what is left of it goes to what is owed back.
    fn comes_back(&mut self, amount: i64, now: Time) {
        self.credit += amount;
        self.use_credit(now);
        let owed = self.owed_back.min(self.credit.min(amount));
        self.owed_back -= owed;
        self.credit -= owed;
    }

    /// Corrects an invoice: what was charged by it is worth less by the same part.
    pub(super) fn credit_note(&mut self, index: usize, amount: i64, to_balance: bool, now: Time) {
        let invoice = &mut self.invoices[index];
        let left = invoice.left;
        let off_due = amount.min(invoice.due());
        // What is due of one that was given up is worth nothing already.
        let gone = if invoice.standing == Standing::Uncollectible { invoice.due() } else { 0 };
        invoice.credited += off_due;
        invoice.noted += amount;
        invoice.left -= amount;
        self.lose(index, amount - off_due.min(gone), left - gone);
        if to_balance && amount > off_due {
            self.comes_back(amount - off_due, now);
        }
        self.close_if_paid(index);
        self.recover(now);
    }

    /// What the next invoice will come to, but for usage: what waits, and the next period.
    pub(super) fn next_invoice(&self, now: Time) -> Option<i64> {
        let mut next = self.clone();
        let Some((at, what)) = next.next_end() else {
            let at = next.invoice(now)?;
            return Some(next.invoices[at].total);
        };
        next.uses.clear();
        let known = next.invoices.len();
        next.begin_or_end(what == 4, at, self.used(now), at);
        next.invoices.get(known).map(|invoice| invoice.total)
    }
}

/// Lowers charges to a part of a whole: amounts and taxes each rounded down, by the sums until each.
fn lower<'a>(charges: impl Iterator<Item = &'a mut Charged>, part: i64, whole: i64) {
    let (mut sums, mut kept) = ((0, 0), (0, 0));
    for charged in charges {
        sums = (sums.0 + charged.amount, sums.1 + charged.tax);
        let of = |sum: i64| match whole {
            0 => 0,
            _ => i64::try_from(i128::from(sum) * i128::from(part) / i128::from(whole)).expect("an amount"),
        };
        let until = (of(sums.0), of(sums.1));
        (charged.amount, charged.tax) = (until.0 - kept.0, until.1 - kept.1);
        kept = until;
    }
}

/// Whole seconds.
fn seconds((start, end): (Time, Time)) -> i64 {
    (end - start) / SECOND
}

/// The meter that an add-on charges, and how much of it is included.
fn metered(id: &str) -> Option<(&'static str, i64)> {
    ADD_ONS.iter().find(|add_on| add_on.id == id).and_then(|add_on| match add_on.kind {
        Kind::Metered { meter, included, .. } => Some((meter, included)),
        Kind::PerUnit | Kind::Flat => None,
    })
}

/// An add-on as it is offered with a plan at its price.
fn offered(terms: Terms, id: &str) -> Option<Held> {
    let add_on = ADD_ONS.iter().find(|add_on| add_on.id == id && add_on.plans.contains(&terms.plan.id))?;
    let of =
        |(currency, months, _): &&(&str, i64, i64)| *currency == terms.price.currency && *months == terms.price.months;
    add_on.prices.iter().find(of).map(|(_, _, price)| Held { add_on, price: *price, quantity: 0 })
}

/// What is kept of add-ons with another plan: those that it has, at its prices if they are others.
fn move_add_ons(add_ons: &mut Vec<Held>, terms: Terms, other_price: bool) {
    let kept = add_ons.iter().filter_map(|held| {
        if !held.add_on.plans.contains(&terms.plan.id) {
            return None;
        }
        let price = if other_price { offered(terms, held.add_on.id)?.price } else { held.price };
        Some(Held { price, ..*held })
    });
    *add_ons = kept.collect();
}
