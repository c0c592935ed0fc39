//! The plan catalogue: what organizations can subscribe to, as data that is validated whole before the server starts.
//!
//! A subscription keeps the [`Terms`] of the plan as they were when it was made or moved: whatever the operator writes into the
//! catalogue later, nobody pays another price for it.

mod file;

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use super::document::Logo;
use super::money::Currency;
pub use file::CatalogueError;

/// The catalogue that is compiled in.
const DEFAULT: &str = include_str!("catalogue.toml");

/// Everything that can be subscribed to, in the order of the file, and how it is billed.
#[derive(Clone, Debug)]
pub struct Catalogue {
    plans: Vec<Plan>,
    default: usize,
    add_ons: Vec<AddOn>,
    meters: Vec<Meter>,
    /// How overdue payment is dealt with.
    pub policy: Policy,
    /// Who writes the invoices.
    pub seller: Seller,
    /// The picture at the head of them.
    pub logo: Option<Logo>,
}

/// A plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its identifier.
    pub plan: String,
    /// Counts its changes.
    pub version: i32,
    /// What people call it.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// What it costs: at least one price, each for another currency or period.
    pub prices: Vec<Price>,
    /// The seats with which a subscription starts.
    pub included_seats: i64,
    /// The fewest seats.
    pub minimum_seats: i64,
    /// The most seats; no limit when absent.
    pub maximum_seats: Option<i64>,
    /// Whether organizations start on it.
    pub default: bool,
    /// How many days it can be tried; 0 for none.
    pub trial_days: u16,
    /// What becomes of a trial at its end, if there is no payment method.
    pub trial_end: TrialEnd,
    /// By what unused time is figured.
    pub proration: Proration,
    /// What it entitles to.
    pub entitlements: BTreeMap<String, Grant>,
}

/// What a plan costs in one currency for one length of the period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The currency.
    pub currency: Currency,
    /// How long a billing period is.
    pub period: Period,
    /// The price of a period, in minor units.
    pub base_price_minor: i64,
    /// The price of a seat beyond the included ones, in minor units.
    pub seat_price_minor: i64,
}

impl Price {
    /// Whether it costs nothing, however many seats.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.base_price_minor == 0 && self.seat_price_minor == 0
    }
}

/// How long a billing period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A month.
    Month,
    /// A year.
    Year,
}

/// By what unused time is figured when something changes within a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proration {
    /// To the second.
    #[default]
    Second,
    /// By whole days of the period.
    Day,
}

/// What becomes of a trial at its end, if there is no payment method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialEnd {
    /// The first invoice is sent all the same.
    #[default]
    Invoice,
    /// The subscription ends.
    Cancel,
}

/// How much of a feature somebody is entitled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Grant {
    /// It is there or not.
    Enabled(bool),
    /// So much of it.
    Limit(i64),
    /// Without limit.
    Unlimited(Unlimited),
}

/// The word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unlimited {
    /// Written `"unlimited"`.
    #[serde(rename = "unlimited")]
    Unlimited,
}

/// Something that can be added to plans.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddOn {
    /// Its identifier.
    pub add_on: String,
    /// What people call it.
    pub title: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// How it is charged.
    pub kind: AddOnKind,
    /// The plans that it can be added to; all when absent.
    pub plans: Option<Vec<String>>,
    /// Its prices.
    pub prices: Vec<AddOnPrice>,
    /// The most units; no limit when absent.
    pub maximum_quantity: Option<i64>,
    /// What it entitles to, for each unit.
    #[serde(default)]
    pub entitlements: BTreeMap<String, Grant>,
    /// Of a metered one, the meter.
    pub meter: Option<String>,
    /// Of a metered one, how much is included in a period.
    #[serde(default)]
    pub included: i64,
    /// Of a metered one, for how much the price is.
    #[serde(default = "one")]
    pub unit_size: i64,
}

fn one() -> i64 {
    1
}

/// What an add-on costs in one currency for one length of the period.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddOnPrice {
    /// The currency.
    pub currency: Currency,
    /// How long a billing period is.
    pub period: Period,
    /// The price, in minor units.
    pub unit_price_minor: i64,
}

/// How an add-on is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddOnKind {
    /// For each unit, in advance.
    PerUnit,
    /// Once for all of it, in advance.
    Flat,
    /// For what was used beyond what is included, afterwards.
    Metered,
}

/// Something whose use is reported.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// Its identifier.
    pub meter: String,
    /// What people call it.
    pub title: String,
    /// What reports of one period come to.
    #[serde(default)]
    pub aggregation: Aggregation,
}

/// What the reports of one period come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Their sum.
    #[default]
    Sum,
    /// The highest: for levels, as storage.
    Maximum,
}

impl Aggregation {
    /// What it comes to with another quantity.
    #[must_use]
    pub fn of(self, sum: i64, quantity: i64) -> i64 {
        match self {
            Self::Sum => sum.saturating_add(quantity),
            Self::Maximum => sum.max(quantity),
        }
    }
}

/// How overdue payment is dealt with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How long after its date an invoice is to be paid, where it is not collected, in days.
    pub payment_terms_days: u16,
    /// How long service goes on after the first failure, in days.
    pub grace_days: u16,
    /// When payment is tried or asked for again, in days from the first failure, rising.
    pub dunning_days: Vec<u16>,
    /// What happens after the last of them.
    pub dunning_end: DunningEnd,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            payment_terms_days: 14,
            grace_days: 14,
            dunning_days: vec![2, 7, 14, 21],
            dunning_end: DunningEnd::default(),
        }
    }
}

/// What happens when payment was asked for the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DunningEnd {
    /// The subscription stays unpaid until somebody pays.
    #[default]
    Unpaid,
    /// It ends; what is owed stays owed.
    Cancel,
    /// It ends, and what is owed is given up.
    WriteOff,
}

/// Who writes the invoices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seller {
    /// The name.
    pub name: String,
    /// The postal address, line by line.
    pub address: Vec<String>,
    /// An e-mail address for questions.
    pub email: String,
    /// The number under which it is taxed.
    pub tax_id: String,
    /// What stands at the foot of every invoice: the bank account.
    pub notes: Vec<String>,
    /// The path of a picture, PNG or JPEG.
    pub logo: Option<String>,
    /// The colour of the headings, as in `#1f4fd8`.
    pub accent: Option<String>,
}

impl Seller {
    /// The red, green and blue of the headings.
    #[must_use]
    pub fn accent(&self) -> Option<(u8, u8, u8)> {
        self.accent.as_deref().and_then(file::color)
    }
}

/// What a subscription agreed on: a plan at one of its prices, as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The plan.
    pub plan_id: String,
    /// Its version.
    pub version: i32,
    /// What people call it.
    pub title: String,
    /// What it costs.
    pub price: Price,
    /// The seats that the base price includes.
    pub included_seats: i64,
    /// The fewest seats.
    pub minimum_seats: i64,
    /// The most seats.
    pub maximum_seats: Option<i64>,
    /// By what unused time is figured.
    pub proration: Proration,
    /// What becomes of a trial at its end, if there is no payment method.
    pub trial_end: TrialEnd,
    /// What it entitles to.
    pub entitlements: BTreeMap<String, Grant>,
}

/// Whether a plan that has these bounds takes this many seats.
fn takes(minimum: i64, maximum: Option<i64>, seats: i64) -> bool {
    seats >= minimum && maximum.is_none_or(|maximum| seats <= maximum)
}

impl Terms {
    /// Whether a subscription to it can have this many seats.
    #[must_use]
    pub fn takes(&self, seats: i64) -> bool {
        takes(self.minimum_seats, self.maximum_seats, seats)
    }

    /// The seats that are paid for, of so many.
    #[must_use]
    pub fn charged_seats(&self, seats: i64) -> i64 {
        seats.saturating_sub(self.included_seats).max(0)
    }
}

/// What a subscription agreed on for an add-on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOnTerms {
    /// The add-on.
    pub add_on_id: String,
    /// What people call it.
    pub title: String,
    /// How it is charged.
    pub kind: AddOnKind,
    /// Its price.
    pub unit_price_minor: i64,
    /// The most units.
    pub maximum_quantity: Option<i64>,
    /// What it entitles to, for each unit.
    pub entitlements: BTreeMap<String, Grant>,
    /// Of a metered one, the meter.
    pub meter: Option<String>,
    /// Of a metered one, how much is included in a period.
    pub included: i64,
    /// Of a metered one, for how much the price is.
    pub unit_size: i64,
}

impl Plan {
    /// Whether it costs nothing in any currency, however many seats.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.prices.iter().all(Price::is_free)
    }

    /// Whether a subscription to it can have this many seats.
    #[must_use]
    pub fn takes(&self, seats: i64) -> bool {
        takes(self.minimum_seats, self.maximum_seats, seats)
    }

    /// What is agreed on by choosing it at the first price of this currency and this period.
    #[must_use]
    pub fn terms(&self, currency: Option<Currency>, period: Option<Period>) -> Option<Terms> {
        let fits = |price: &&Price| {
            currency.is_none_or(|currency| price.currency == currency)
                && period.is_none_or(|period| price.period == period)
        };
        let price = *self.prices.iter().find(fits)?;
        Some(Terms {
            plan_id: self.plan.clone(),
            version: self.version,
            title: self.title.clone(),
            price,
            included_seats: self.included_seats,
            minimum_seats: self.minimum_seats,
            maximum_seats: self.maximum_seats,
            proration: self.proration,
            trial_end: self.trial_end,
            entitlements: self.entitlements.clone(),
        })
    }
}

impl AddOn {
    /// Whether it can be added to a plan.
    #[must_use]
    pub fn fits(&self, plan_id: &str) -> bool {
        self.plans.as_ref().is_none_or(|plans| plans.iter().any(|plan| plan == plan_id))
    }

    /// What is agreed on by adding it to a plan at this price.
    #[must_use]
    pub fn terms(&self, price: &Price) -> Option<AddOnTerms> {
        let found = self.prices.iter().find(|own| own.currency == price.currency && own.period == price.period)?;
        Some(AddOnTerms {
            add_on_id: self.add_on.clone(),
            title: self.title.clone(),
            kind: self.kind,
            unit_price_minor: found.unit_price_minor,
            maximum_quantity: if self.kind == AddOnKind::PerUnit { self.maximum_quantity } else { Some(1) },
            entitlements: self.entitlements.clone(),
            meter: self.meter.clone(),
            included: self.included,
            unit_size: self.unit_size,
        })
    }
}

impl Catalogue {
    /// The catalogue of the file, or the one that is compiled in.
    pub fn load(path: Option<&str>) -> Result<Self, CatalogueError> {
        match path {
            None => Self::parse("(embedded)", DEFAULT),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|source| CatalogueError::Read { path: path.to_owned(), source })?;
                Self::parse(path, &text)
            }
        }
    }

    /// Reads and validates a catalogue.
    pub fn parse(name: &str, text: &str) -> Result<Self, CatalogueError> {
        file::parse(name, text)
    }

    /// Every plan.
    #[must_use]
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// The plan on which organizations start.
    #[must_use]
    pub fn default_plan(&self) -> Option<&Plan> {
        self.plans.get(self.default)
    }

    /// The plan of this identifier.
    #[must_use]
    pub fn plan(&self, plan: &str) -> Option<&Plan> {
        self.plans.iter().find(|candidate| candidate.plan == plan)
    }

    /// What charges the use of a meter.
    pub fn add_ons_on(&self, meter: &str) -> impl Iterator<Item = &AddOn> {
        self.add_ons.iter().filter(move |add_on| add_on.meter.as_deref() == Some(meter))
    }

    /// What can be added to a plan.
    pub fn add_ons_of(&self, plan_id: &str) -> impl Iterator<Item = &AddOn> {
        self.add_ons.iter().filter(move |add_on| add_on.fits(plan_id))
    }

    /// The add-on of this identifier, if it can be added to the plan.
    #[must_use]
    pub fn add_on(&self, plan_id: &str, add_on: &str) -> Option<&AddOn> {
        self.add_ons_of(plan_id).find(|candidate| candidate.add_on == add_on)
    }

    /// Every meter.
    #[must_use]
    pub fn meters(&self) -> &[Meter] {
        &self.meters
    }

    /// The meter of this identifier.
    #[must_use]
    pub fn meter(&self, meter: &str) -> Option<&Meter> {
        self.meters.iter().find(|candidate| candidate.meter == meter)
    }
}
