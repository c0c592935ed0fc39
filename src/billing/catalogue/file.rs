//! The file of a catalogue: its shape, and everything that can be wrong with it.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use serde::Deserialize;

use super::{AddOn, AddOnKind, Catalogue, Grant, Meter, Period, Plan, Policy, Price, Proration, Seller, TrialEnd};
use crate::billing::document::Logo;
use crate::billing::money::{Currency, MOST};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    plans: Vec<PlanTable>,
    #[serde(default)]
    add_ons: Vec<AddOn>,
    #[serde(default)]
    meters: Vec<Meter>,
    #[serde(default)]
    billing: Policy,
    #[serde(default)]
    seller: Seller,
}

/// A plan as it is written: with one price among its own keys, or with a list of prices.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanTable {
    plan: String,
    #[serde(default = "first")]
    version: i32,
    title: String,
    #[serde(default)]
    description: String,
    currency: Option<String>,
    period: Option<Period>,
    base_price_minor: Option<i64>,
    seat_price_minor: Option<i64>,
    #[serde(default)]
    prices: Vec<PriceTable>,
    included_seats: i64,
    minimum_seats: i64,
    maximum_seats: Option<i64>,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    trial_days: u16,
    #[serde(default)]
    trial_end: TrialEnd,
    #[serde(default)]
    proration: Proration,
    #[serde(default)]
    entitlements: BTreeMap<String, Grant>,
}

fn first() -> i32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceTable {
    currency: String,
    period: Period,
    base_price_minor: i64,
    seat_price_minor: i64,
}

/// Why a catalogue is not taken: every fault, each naming the plan and the key.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file could not be read.
    #[error("the plan catalogue {path} could not be read")]
    Read {
        /// Which file.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is not TOML of the right shape.
    #[error("the plan catalogue {name} is not one: {source}")]
    Shape {
        /// Which catalogue.
        name: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Its plans make no sense.
    #[error("the plan catalogue {name} has faults:\n{}", faults.join("\n"))]
    Faults {
        /// Which catalogue.
        name: String,
        /// What is wrong.
        faults: Vec<String>,
    },
}

pub(super) fn parse(name: &str, text: &str) -> Result<Catalogue, CatalogueError> {
    let file: File = toml::from_str(text)
        .map_err(|source| CatalogueError::Shape { name: name.to_owned(), source: Box::new(source) })?;
    let mut faults = Vec::new();
    let plans: Vec<Plan> = file.plans.into_iter().map(|table| plan(table, &mut faults)).collect();
    twice("plan", plans.iter().map(|plan| plan.plan.as_str()), &mut faults);
    twice("meter", file.meters.iter().map(|meter| meter.meter.as_str()), &mut faults);
    twice("add-on", file.add_ons.iter().map(|add_on| add_on.add_on.as_str()), &mut faults);
    for meter in &file.meters {
        let fault = |key: &str, what: &str| format!("meter {:?}: {key}: {what}", meter.meter);
        if !is_identifier(&meter.meter) {
            faults.push(fault("meter", IDENTIFIER));
        }
    }
    for add_on in &file.add_ons {
        check_add_on(add_on, &plans, &file.meters, &mut faults);
    }
    check_meters(&file.add_ons, &mut faults);
    check_policy(&file.billing, &mut faults);
    if file.seller.accent.as_deref().is_some_and(|accent| color(accent).is_none()) {
        faults.push("seller: accent: must be a colour as in \"#1f4fd8\"".to_owned());
    }
    let logo = file.seller.logo.as_deref().and_then(|path| logo(path, &mut faults));
    let defaults: Vec<usize> =
        plans.iter().enumerate().filter(|(_, plan)| plan.default).map(|(index, _)| index).collect();
    match defaults.as_slice() {
        [default] if faults.is_empty() => {
            return Ok(Catalogue {
                default: *default,
                plans,
                add_ons: file.add_ons,
                meters: file.meters,
                policy: file.billing,
                seller: file.seller,
                logo,
            });
        }
        [_] => {}
        [] => faults.push("no plan has default = true, on which organizations start".into()),
        _ => faults.push("more than one plan has default = true".into()),
    }
    Err(CatalogueError::Faults { name: name.to_owned(), faults })
}

const IDENTIFIER: &str = "must be 1 to 40 of a–z, 0–9 and _, beginning with a letter";

fn is_identifier(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// The red, green and blue of a colour.
pub(super) fn color(text: &str) -> Option<(u8, u8, u8)> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let part = |from: usize| u8::from_str_radix(digits.get(from..from + 2)?, 16).ok();
    Some((part(0)?, part(2)?, part(4)?))
}

/// The picture at a path.
fn logo(path: &str, faults: &mut Vec<String>) -> Option<Logo> {
    let read = fs::read(path).map_err(|error| error.to_string());
    let parsed = read.and_then(|bytes| Logo::parse(bytes).map_err(|error| error.to_string()));
    parsed.map_err(|error| faults.push(format!("seller: logo: {path} cannot be drawn: {error}"))).ok()
}

fn twice<'a>(what: &str, names: impl Iterator<Item = &'a str>, faults: &mut Vec<String>) {
    let mut seen = HashSet::new();
    faults.extend(names.filter(|name| !seen.insert(*name)).map(|name| format!("{what} {name:?}: stands twice")));
}

/// Each of these that is not so, as a fault of the thing.
fn check(thing: &str, rules: &[(bool, &str)], faults: &mut Vec<String>) {
    faults.extend(rules.iter().filter(|(sound, _)| !sound).map(|(_, fault)| format!("{thing}: {fault}")));
}

fn plan(table: PlanTable, faults: &mut Vec<String>) -> Plan {
    let thing = format!("plan {:?}", table.plan);
    let own = PriceTable {
        currency: table.currency.clone().unwrap_or_default(),
        period: table.period.unwrap_or(Period::Month),
        base_price_minor: table.base_price_minor.unwrap_or_default(),
        seat_price_minor: table.seat_price_minor.unwrap_or_default(),
    };
    let said = [
        (table.currency.is_some(), "currency"),
        (table.period.is_some(), "period"),
        (table.base_price_minor.is_some(), "base_price_minor"),
        (table.seat_price_minor.is_some(), "seat_price_minor"),
    ];
    let tables = match (table.prices.is_empty(), said.iter().any(|(said, _)| *said)) {
        (false, false) => table.prices,
        (false, true) => {
            faults.push(format!(
                "{thing}: prices: stand beside a price among the plan's own keys; move that one into the list"
            ));
            Vec::new()
        }
        (true, _) => {
            let missing = said.iter().filter(|(said, _)| !said);
            faults.extend(missing.map(|(_, key)| format!("{thing}: {key}: is missing, and so is a list of prices")));
            vec![own]
        }
    };
    let mut prices: Vec<Price> = Vec::new();
    for table in tables {
        let Some(currency) = Currency::parse(&table.currency) else {
            faults.push(format!(
                "{thing}: currency: must be an ISO 4217 code, as in \"EUR\", and not {:?}",
                table.currency
            ));
            continue;
        };
        let PriceTable { period, base_price_minor, seat_price_minor, .. } = table;
        let amount = |minor: i64| (0..=MOST).contains(&minor);
        let other = prices.iter().all(|price| (price.currency, price.period) != (currency, period));
        check(
            &thing,
            &[
                (amount(base_price_minor), "base_price_minor: must not be negative, and at most 10^15"),
                (amount(seat_price_minor), "seat_price_minor: must not be negative, and at most 10^15"),
                (other, "prices: one currency and period stand twice"),
            ],
            faults,
        );
        prices.push(Price { currency, period, base_price_minor, seat_price_minor });
    }
    let maximum = table.maximum_seats.unwrap_or(i64::MAX);
    check(
        &thing,
        &[
            (is_identifier(&table.plan), &format!("plan: {IDENTIFIER}")),
            (table.version >= 1, "version: must be at least 1"),
            (!table.title.trim().is_empty(), "title: must not be empty"),
            (table.minimum_seats >= 1, "minimum_seats: must be at least 1"),
            (table.minimum_seats <= maximum, "maximum_seats: must not be below minimum_seats"),
            (
                (table.minimum_seats..=maximum).contains(&table.included_seats),
                "included_seats: must be from minimum_seats to maximum_seats",
            ),
            (table.trial_days <= 730, "trial_days: must be at most 730"),
            (
                table.trial_days == 0 || !prices.iter().all(Price::is_free),
                "trial_days: a plan that costs nothing needs no trial",
            ),
        ],
        faults,
    );
    check_grants(&thing, &table.entitlements, faults);
    Plan {
        plan: table.plan,
        version: table.version,
        title: table.title,
        description: table.description,
        prices,
        included_seats: table.included_seats,
        minimum_seats: table.minimum_seats,
        maximum_seats: table.maximum_seats,
        default: table.default,
        trial_days: table.trial_days,
        trial_end: table.trial_end,
        proration: table.proration,
        entitlements: table.entitlements,
    }
}

fn check_grants(thing: &str, grants: &BTreeMap<String, Grant>, faults: &mut Vec<String>) {
    for (feature, grant) in grants {
        let sound = !matches!(grant, Grant::Limit(limit) if !(0..=MOST).contains(limit));
        check(
            thing,
            &[
                (is_identifier(feature), &format!("entitlements.{feature}: {IDENTIFIER}")),
                (feature != "seats", "entitlements.seats: the number of seats is said by the plan's own keys"),
                (sound, &format!("entitlements.{feature}: a limit must not be negative, and at most 10^15")),
            ],
            faults,
        );
    }
}

fn check_add_on(add_on: &AddOn, plans: &[Plan], meters: &[Meter], faults: &mut Vec<String>) {
    let thing = format!("add-on {:?}", add_on.add_on);
    let metered = add_on.kind == AddOnKind::Metered;
    let meter_known = add_on.meter.as_ref().is_some_and(|name| meters.iter().any(|meter| meter.meter == *name));
    let plans_known = add_on.plans.iter().flatten().all(|name| plans.iter().any(|plan| plan.plan == *name));
    let mut seen = Vec::new();
    let distinct = add_on.prices.iter().all(|price| {
        let key = (price.currency, price.period);
        let new = !seen.contains(&key);
        seen.push(key);
        new
    });
    check(
        &thing,
        &[
            (is_identifier(&add_on.add_on), &format!("add_on: {IDENTIFIER}")),
            (!add_on.title.trim().is_empty(), "title: must not be empty"),
            (plans_known, "plans: names a plan that there is not"),
            (!add_on.prices.is_empty(), "prices: must have one"),
            (distinct, "prices: one currency and period stand twice"),
            (
                add_on.prices.iter().all(|price| (0..=MOST).contains(&price.unit_price_minor)),
                "unit_price_minor: must not be negative, and at most 10^15",
            ),
            (add_on.maximum_quantity.is_none_or(|most| most >= 1), "maximum_quantity: must be at least 1"),
            (metered == add_on.meter.is_some(), "meter: is for those of kind \"metered\", which need one"),
            (!metered || meter_known, "meter: names a meter that there is not"),
            ((0..=MOST).contains(&add_on.included), "included: must not be negative, and at most 10^15"),
            ((1..=MOST).contains(&add_on.unit_size), "unit_size: must be at least 1, and at most 10^15"),
        ],
        faults,
    );
    check_grants(&thing, &add_on.entitlements, faults);
}

/// What is used is charged once: a plan has no two add-ons that charge the same meter.
fn check_meters(add_ons: &[AddOn], faults: &mut Vec<String>) {
    for (index, add_on) in add_ons.iter().enumerate() {
        let share_a_plan = |other: &&AddOn| match (&add_on.plans, &other.plans) {
            (Some(own), Some(others)) => own.iter().any(|plan| others.contains(plan)),
            _ => true,
        };
        let mut before =
            add_ons.iter().take(index).filter(|other| add_on.meter.is_some() && other.meter == add_on.meter);
        if let Some(other) = before.find(share_a_plan) {
            let other = &other.add_on;
            let name = &add_on.add_on;
            faults.push(format!("add-on {name:?}: meter: {other:?} charges it on the same plan: one add-on may"));
        }
    }
}

fn check_policy(policy: &Policy, faults: &mut Vec<String>) {
    check(
        "billing",
        &[
            (policy.payment_terms_days <= 365, "payment_terms_days: must be at most 365"),
            (policy.grace_days <= 365, "grace_days: must be at most 365"),
            (!policy.dunning_days.is_empty(), "dunning_days: must have one"),
            (
                policy.dunning_days.iter().all(|days| (1..=365).contains(days))
                    && policy.dunning_days.windows(2).all(|pair| pair[0] < pair[1]),
                "dunning_days: must be from 1 to 365, and rise",
            ),
        ],
        faults,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalogue_is_sound_and_starts_free() {
        let catalogue = Catalogue::load(None).unwrap();
        let names: Vec<_> = catalogue.plans().iter().map(|plan| plan.plan.as_str()).collect();
        assert_eq!(names, ["free", "team", "business"]);
        let default = catalogue.default_plan().unwrap();
        assert!(default.plan == "free" && default.is_free() && default.included_seats == 4);
    }

    #[test]
    fn every_fault_is_named_at_once_with_its_plan_and_key() {
        let plan = |name: &str, more: &str| {
            format!("[[plans]]\nplan = {name:?}\ntitle = \"T\"\nperiod = \"month\"\nseat_price_minor = 0\n{more}\n")
        };
        let text = plan(
            "Bad",
            "currency = \"eur\"\nbase_price_minor = -1\nincluded_seats = 9\nminimum_seats = 1\nmaximum_seats = 5\n\
             entitlements = { Sso = true, minutes = -1, seats = 3 }",
        ) + &plan("fine", "currency = \"EUR\"\nbase_price_minor = 1\nincluded_seats = 1\nminimum_seats = 1")
            + &plan("fine", "currency = \"EUR\"\nbase_price_minor = -1\nincluded_seats = 1\nminimum_seats = 1")
            + &plan("half", "included_seats = 1\nminimum_seats = 1\ntrial_days = 3")
            + "[[meters]]\nmeter = \"calls\"\ntitle = \"Calls\"\n[[add_ons]]\nadd_on = \"more\"\ntitle = \"\"\nkind = \"metered\"\n\
               meter = \"talks\"\nplans = [\"gone\"]\nprices = []\nunit_size = 0\n[[add_ons]]\nadd_on = \"again\"\ntitle = \"Again\"\n\
               kind = \"metered\"\nmeter = \"talks\"\nprices = []\n[billing]\ndunning_days = [7, 2]\n\
               [seller]\naccent = \"blue\"\nlogo = \"/nowhere.png\"\n";
        let faults = Catalogue::parse("test", &text).unwrap_err().to_string();
        for expected in [
            "plan \"Bad\": plan:",
            "plan \"Bad\": currency:",
            "plan \"Bad\": included_seats:",
            "plan \"Bad\": entitlements.Sso:",
            "plan \"Bad\": entitlements.minutes:",
            "plan \"Bad\": entitlements.seats:",
            "plan \"fine\": base_price_minor:",
            "plan \"fine\": stands twice",
            "plan \"half\": currency: is missing",
            "plan \"half\": base_price_minor: is missing",
            "add-on \"more\": title:",
            "add-on \"more\": plans:",
            "add-on \"more\": prices:",
            "add-on \"more\": meter:",
            "add-on \"more\": unit_size:",
            "add-on \"again\": meter: \"more\"",
            "billing: dunning_days:",
            "seller: accent:",
            "seller: logo: /nowhere.png",
            "no plan has default = true",
        ] {
            assert!(faults.contains(expected), "{expected} is not in {faults}");
        }
        let shape = Catalogue::parse("test", "[[plans]]\nplan = \"a\"\nprice = 3").unwrap_err().to_string();
        assert!(shape.contains("line 3") && shape.contains("price"), "{shape}");
    }
}
