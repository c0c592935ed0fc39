//! The plan catalogue: what organizations can subscribe to, as data that is validated whole before the server starts.

use std::collections::HashSet;
use std::fs;

use serde::Deserialize;

/// The catalogue that is compiled in.
const DEFAULT: &str = include_str!("catalogue.toml");

/// Every plan, in the order of the file.
#[derive(Clone, Debug)]
pub struct Catalogue {
    plans: Vec<Plan>,
    default: usize,
}

/// A plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its identifier.
    pub plan: String,
    /// What people call it.
    pub title: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Its currency, an ISO 4217 code.
    pub currency: String,
    /// How long a billing period is.
    pub period: Period,
    /// The price of a period, in minor units.
    pub base_price_minor: i64,
    /// The price of a seat beyond the included ones, in minor units.
    pub seat_price_minor: i64,
    /// The seats with which a subscription starts.
    pub included_seats: i64,
    /// The fewest seats.
    pub minimum_seats: i64,
    /// The most seats; no limit when absent.
    pub maximum_seats: Option<i64>,
    /// Whether organizations start on it.
    #[serde(default)]
    pub default: bool,
}

/// How long a billing period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Plan {
    /// Whether it costs nothing, however many seats.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.base_price_minor == 0 && self.seat_price_minor == 0
    }

    /// Whether a subscription to it can have this many seats.
    #[must_use]
    pub fn takes(&self, seats: i64) -> bool {
        seats >= self.minimum_seats && self.maximum_seats.is_none_or(|maximum| seats <= maximum)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    plans: Vec<Plan>,
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
        let file: File = toml::from_str(text)
            .map_err(|source| CatalogueError::Shape { name: name.to_owned(), source: Box::new(source) })?;
        let mut faults: Vec<String> = file.plans.iter().flat_map(plan_faults).collect();
        let mut seen = HashSet::new();
        faults.extend(
            file.plans
                .iter()
                .filter(|plan| !seen.insert(plan.plan.as_str()))
                .map(|plan| format!("plan {:?}: stands twice", plan.plan)),
        );
        let defaults: Vec<usize> =
            file.plans.iter().enumerate().filter(|(_, plan)| plan.default).map(|(index, _)| index).collect();
        match defaults.as_slice() {
            [default] if faults.is_empty() => return Ok(Self { plans: file.plans, default: *default }),
            [_] => {}
            [] => faults.push("no plan has default = true, on which organizations start".into()),
            _ => faults.push("more than one plan has default = true".into()),
        }
        Err(CatalogueError::Faults { name: name.to_owned(), faults })
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
}

fn plan_faults(plan: &Plan) -> Vec<String> {
    let identifier = |text: &str| {
        (1..=40).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
    };
    let code = plan.currency.len() == 3 && plan.currency.chars().all(|letter| letter.is_ascii_uppercase());
    let maximum = plan.maximum_seats.unwrap_or(i64::MAX);
    [
        (identifier(&plan.plan), "plan: must be 1 to 40 of a–z, 0–9 and _, beginning with a letter"),
        (!plan.title.trim().is_empty(), "title: must not be empty"),
        (code, "currency: must be an ISO 4217 code, as in \"EUR\""),
        (plan.base_price_minor >= 0, "base_price_minor: must not be negative"),
        (plan.seat_price_minor >= 0, "seat_price_minor: must not be negative"),
        (plan.minimum_seats >= 1, "minimum_seats: must be at least 1"),
        (plan.minimum_seats <= maximum, "maximum_seats: must not be below minimum_seats"),
        (
            (plan.minimum_seats..=maximum).contains(&plan.included_seats),
            "included_seats: must be from minimum_seats to maximum_seats",
        ),
    ]
    .iter()
    .filter(|(sound, _)| !sound)
    .map(|(_, fault)| format!("plan {:?}: {fault}", plan.plan))
    .collect()
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
            "currency = \"eur\"\nbase_price_minor = -1\nincluded_seats = 9\nminimum_seats = 1\nmaximum_seats = 5",
        ) + &plan("fine", "currency = \"EUR\"\nbase_price_minor = 1\nincluded_seats = 1\nminimum_seats = 1")
            + &plan("fine", "currency = \"EUR\"\nbase_price_minor = 1\nincluded_seats = 1\nminimum_seats = 1");
        let faults = Catalogue::parse("test", &text).unwrap_err().to_string();
        for expected in [
            "plan \"Bad\": plan:",
            "plan \"Bad\": currency:",
            "plan \"Bad\": base_price_minor:",
            "plan \"Bad\": included_seats:",
            "plan \"fine\": stands twice",
            "no plan has default = true",
        ] {
            assert!(faults.contains(expected), "{expected} is not in {faults}");
        }
        let shape = Catalogue::parse("test", "[[plans]]\nplan = \"a\"\nprice = 3").unwrap_err().to_string();
        assert!(shape.contains("line 3") && shape.contains("price"), "{shape}");
    }
}
