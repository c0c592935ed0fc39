//! The billing profile: to whom invoices are written.

use serde::{Deserialize, Serialize};

use super::countries;
use crate::fields::Fields;
use crate::pb;

/// Every field that a mask can name.
pub const PATHS: [&str; 10] = [
    "name",
    "email",
    "address.line1",
    "address.line2",
    "address.postal_code",
    "address.city",
    "address.region",
    "address.country_code",
    "tax_id",
    "purchase_order_number",
];

/// The profile, as it is stored. A field that nobody filled in is empty.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The name on invoices.
    pub name: String,
    /// Where invoices are sent.
    pub email: String,
    /// The postal address.
    pub address: Address,
    /// The number under which it is taxed.
    pub tax_id: String,
    /// The number that invoices have to say.
    pub purchase_order_number: String,
}

/// A postal address.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Address {
    /// Street and number.
    pub line1: String,
    /// What the first line has no room for.
    pub line2: String,
    /// The postal code.
    pub postal_code: String,
    /// The city.
    pub city: String,
    /// The state, province or region.
    pub region: String,
    /// The country.
    pub country_code: String,
}

/// It is about people: what is shown for debugging has nothing of it.
impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").finish_non_exhaustive()
    }
}

impl Profile {
    /// Sets the fields of a mask to their new values and gives those that were another before. What is wrong with a value is
    /// noted.
    pub fn set(&mut self, paths: &[&'static str], new: &pb::BillingProfile, fields: &mut Fields) -> Vec<&'static str> {
        let mut changed = Vec::new();
        for path in paths {
            let before = self.clone();
            self.set_one(path, new, fields);
            if *self != before {
                changed.push(*path);
            }
        }
        changed
    }

    fn set_one(&mut self, path: &str, new: &pb::BillingProfile, fields: &mut Fields) {
        let name = format!("billing_profile.{path}");
        let name = name.as_str();
        let no_address = pb::PostalAddress::default();
        let (to, address) = (&mut self.address, new.address.as_ref().unwrap_or(&no_address));
        match path {
            "name" => self.name = fields.line(name, &new.name, 0..=200),
            "email" => self.email = email(fields, name, &new.email),
            "address.line1" => to.line1 = fields.line(name, &address.line1, 0..=200),
            "address.line2" => to.line2 = fields.line(name, &address.line2, 0..=200),
            "address.postal_code" => to.postal_code = fields.line(name, &address.postal_code, 0..=20),
            "address.city" => to.city = fields.line(name, &address.city, 0..=100),
            "address.region" => to.region = fields.line(name, &address.region, 0..=100),
            "address.country_code" => to.country_code = country(fields, name, &address.country_code),
            "tax_id" => self.tax_id = fields.line(name, &new.tax_id, 0..=40),
            "purchase_order_number" => {
                self.purchase_order_number = fields.line(name, &new.purchase_order_number, 0..=60);
            }
            _ => {}
        }
    }

    /// The profile as the wire shows it, but for what the row says of itself.
    #[must_use]
    pub fn shown(self) -> pb::BillingProfile {
        let Self { name, email, address, tax_id, purchase_order_number } = self;
        let Address { line1, line2, postal_code, city, region, country_code } = address;
        let address = pb::PostalAddress { line1, line2, postal_code, city, region, country_code };
        let address = Some(address);
        pb::BillingProfile { name, email, address, tax_id, purchase_order_number, ..pb::BillingProfile::default() }
    }
}

/// An address to send to, or none.
fn email(fields: &mut Fields, name: &str, value: &str) -> String {
    if value.trim().is_empty() {
        return String::new();
    }
    fields.email(name, value).map(|email| email.written).unwrap_or_default()
}

fn country(fields: &mut Fields, name: &str, value: &str) -> String {
    let code = value.trim().to_ascii_uppercase();
    if !code.is_empty() && !countries::is_code(&code) {
        fields.fault(name, "must be a country's ISO 3166-1 alpha-2 code, as in NL");
    }
    code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_itself_and_only_the_mask_changes(
            texts in prop::array::uniform8("[ a-zA-Zéß0-9]{0,20}"),
            email in "([a-z]{1,8}@[a-z]{1,8}\\.com)?",
            country in prop::sample::select(vec!["", "nl", "DE", "us"]),
            chosen in prop::collection::vec(any::<bool>(), PATHS.len()),
        ) {
            let [name, line1, line2, postal_code, city, region, tax_id, purchase_order_number] = texts;
            let address = pb::PostalAddress { line1, line2, postal_code, city, region, country_code: country.into() };
            let given = pb::BillingProfile { name, email, address: Some(address), tax_id, purchase_order_number, ..Default::default() };
            let (mut whole, mut fields) = (Profile::default(), Fields::new());
            whole.set(&PATHS, &given, &mut fields);
            prop_assert!(whole.clone().set(&PATHS, &whole.clone().shown(), &mut fields).is_empty());
            let paths: Vec<&'static str> = PATHS.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(path, _)| *path).collect();
            let mut part = Profile::default();
            let changed = part.set(&paths, &given, &mut fields);
            prop_assert!(changed.iter().all(|path| paths.contains(path)));
            // What is left makes it whole.
            let rest: Vec<&'static str> = PATHS.into_iter().filter(|path| !paths.contains(path)).collect();
            part.set(&rest, &given, &mut fields);
            prop_assert!(part == whole);
            prop_assert!(fields.done(()).is_ok());
        }
    }
}
