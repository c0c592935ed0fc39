//! What can be bought in the simulation: as tables, from which the server's catalogue is written and by which the model counts.

/// A plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) id: &'static str,
    pub(super) prices: &'static [Price],
    pub(super) included: i64,
    pub(super) minimum: i64,
    pub(super) maximum: i64,
    pub(super) by_day: bool,
    pub(super) trial_days: i64,
    pub(super) ends_with_trial: bool,
}

/// What a plan costs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Price {
    pub(super) currency: &'static str,
    pub(super) months: i64,
    pub(super) base: i64,
    pub(super) seat: i64,
}

/// How an add-on is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    PerUnit,
    Flat,
    /// Above what is included, for every so many units.
    Metered {
        meter: &'static str,
        included: i64,
        unit_size: i64,
    },
}

/// An add-on.
#[derive(Debug)]
pub(super) struct AddOn {
    pub(super) id: &'static str,
    pub(super) kind: Kind,
    pub(super) plans: &'static [&'static str],
    pub(super) maximum: i64,
    /// Currency, months of the period, price.
    pub(super) prices: &'static [(&'static str, i64, i64)],
}

const fn price(currency: &'static str, months: i64, base: i64, seat: i64) -> Price {
    Price { currency, months, base, seat }
}

const fn plan(id: &'static str, prices: &'static [Price], seats: [i64; 3]) -> Plan {
    let [included, minimum, maximum] = seats;
    Plan { id, prices, included, minimum, maximum, by_day: false, trial_days: 0, ends_with_trial: false }
}

/// The first is the one on which organizations start. Prices are such that hardly a share of them is whole.
pub(super) const PLANS: &[Plan] = &[
    plan("free", &[price("EUR", 1, 0, 0)], [4, 1, 10]),
    plan(
        "team",
        &[price("EUR", 1, 2_000, 1_000), price("EUR", 12, 20_000, 9_999), price("JPY", 1, 3_001, 1_499)],
        [5, 2, 250],
    ),
    plan("odd", &[price("EUR", 1, 1_999, 333), price("EUR", 12, 19_993, 3_331)], [1, 1, 100]),
    plan("pennies", &[price("EUR", 1, 7, 1)], [2, 1, 100]),
    Plan {
        by_day: true,
        ..plan("business", &[price("EUR", 1, 10_007, 1_211), price("EUR", 12, 99_991, 11_113)], [8, 3, 100])
    },
    Plan { trial_days: 14, ..plan("tried", &[price("EUR", 1, 3_000, 517), price("JPY", 1, 4_000, 611)], [3, 1, 60]) },
    Plan {
        trial_days: 9,
        ends_with_trial: true,
        by_day: true,
        ..plan("tasted", &[price("EUR", 1, 4_409, 701)], [2, 1, 60])
    },
];

pub(super) const ADD_ONS: &[AddOn] = &[
    AddOn {
        id: "storage",
        kind: Kind::PerUnit,
        plans: &["team", "odd", "business", "tried"],
        maximum: 50,
        prices: &[("EUR", 1, 499), ("EUR", 12, 4_999), ("JPY", 1, 77)],
    },
    AddOn {
        id: "support",
        kind: Kind::Flat,
        plans: &["team", "business", "pennies"],
        maximum: 1,
        prices: &[("EUR", 1, 4_900)],
    },
    AddOn {
        id: "minutes",
        kind: Kind::Metered { meter: "minutes", included: 1_000, unit_size: 10 },
        plans: &["team", "odd", "tried"],
        maximum: 1,
        prices: &[("EUR", 1, 7), ("EUR", 12, 6), ("JPY", 1, 3)],
    },
    AddOn {
        id: "level",
        kind: Kind::Metered { meter: "level", included: 100, unit_size: 1 },
        plans: &["team", "business"],
        maximum: 1,
        prices: &[("EUR", 1, 3)],
    },
];

/// The level is the highest that was reported, the minutes are added up.
pub(super) fn is_level(meter: &str) -> bool {
    meter == "level"
}

/// Days from the date of an invoice until it is to be paid; and from the first failure until service stops.
pub(super) const PAYMENT_DAYS: i64 = 14;
pub(super) const GRACE_DAYS: i64 = 10;
pub(super) const DUNNING_DAYS: [i64; 4] = [2, 7, 14, 21];

fn period(months: i64) -> &'static str {
    if months == 12 { "year" } else { "month" }
}

/// The catalogue of the server.
pub(super) fn catalogue() -> String {
    let mut text = vec![format!(
        "[billing]\npayment_terms_days = {PAYMENT_DAYS}\ngrace_days = {GRACE_DAYS}\ndunning_days = {DUNNING_DAYS:?}\n\n"
    )];
    for (index, plan) in PLANS.iter().enumerate() {
        let Plan { id, included, minimum, maximum, trial_days, .. } = plan;
        text.push(format!(
            "[[plans]]\nplan = \"{id}\"\ntitle = \"{id}\"\nincluded_seats = {included}\nminimum_seats = {minimum}\n\
             maximum_seats = {maximum}\ndefault = {}\nproration = \"{}\"\n",
            index == 0,
            if plan.by_day { "day" } else { "second" },
        ));
        if *trial_days > 0 {
            let end = if plan.ends_with_trial { "cancel" } else { "invoice" };
            text.push(format!("trial_days = {trial_days}\ntrial_end = \"{end}\"\n"));
        }
        for Price { currency, months, base, seat } in plan.prices {
            text.push(format!(
                "[[plans.prices]]\ncurrency = \"{currency}\"\nperiod = \"{}\"\nbase_price_minor = {base}\n\
                 seat_price_minor = {seat}\n",
                period(*months)
            ));
        }
    }
    for add_on in ADD_ONS {
        let AddOn { id, plans, maximum, .. } = add_on;
        text.push(format!("[[add_ons]]\nadd_on = \"{id}\"\ntitle = \"{id}\"\nplans = {plans:?}\n"));
        text.push(match add_on.kind {
            Kind::PerUnit => format!("kind = \"per_unit\"\nmaximum_quantity = {maximum}\n"),
            Kind::Flat => "kind = \"flat\"\n".to_owned(),
            Kind::Metered { meter, included, unit_size } => {
                format!("kind = \"metered\"\nmeter = \"{meter}\"\nincluded = {included}\nunit_size = {unit_size}\n")
            }
        });
        for (currency, months, price) in add_on.prices {
            text.push(format!(
                "[[add_ons.prices]]\ncurrency = \"{currency}\"\nperiod = \"{}\"\nunit_price_minor = {price}\n",
                period(*months)
            ));
        }
    }
    text.concat()
        + "[[meters]]\nmeter = \"minutes\"\ntitle = \"Minutes\"\n[[meters]]\nmeter = \"level\"\ntitle = \"Level\"\n\
            aggregation = \"maximum\"\n"
}
