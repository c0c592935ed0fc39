//! What the lines of an invoice come to: tax by rate, subtotal and total.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::money::{self, TooLarge};
use super::proration::{Line, Returned, TaxRate};

/// How an organization is taxed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaxTreatment {
    /// The rate.
    pub rate: TaxRate,
    /// What it is called.
    pub label: String,
    /// What invoices have to say of it.
    #[serde(default)]
    pub note: String,
}

/// What tax is called, also where nothing is taxed any more.
#[must_use]
pub fn label_of(treatment: Option<&TaxTreatment>) -> &str {
    treatment.map_or("Tax", |treatment| treatment.label.as_str())
}

/// The tax of all lines that are taxed at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tax {
    /// The rate.
    pub rate: TaxRate,
    /// What the lines come to.
    pub taxable_minor: i64,
    /// The tax on it, or in it: of what is charged, and less what goes back.
    pub tax_minor: i64,
}

/// What of a line is taxed.
#[derive(Clone, Copy, Debug)]
pub struct Taxable {
    /// The amount.
    pub amount_minor: i64,
    /// Its rate; none of what is not taxed.
    pub rate: Option<TaxRate>,
    /// Of what gives back, the tax that goes back with it.
    pub returned_minor: Option<i64>,
}

/// What the lines come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// The sum of the lines.
    pub subtotal_minor: i64,
    /// The tax, rate by rate.
    pub taxes: Vec<Tax>,
    /// All of it.
    pub tax_minor: i64,
    /// The sum of the lines, and the tax that comes on top.
    pub total_minor: i64,
}

impl Totals {
    /// The taxes that come on top: each is a line.
    #[must_use]
    pub fn on_top(&self) -> Vec<Tax> {
        self.taxes.iter().filter(|tax| !tax.rate.included).copied().collect()
    }
}

/// What an invoice charges, whatever it gives back of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charged {
    /// Without tax that comes on top.
    pub amount_minor: i64,
    /// The tax.
    pub tax_minor: i64,
    /// All of it.
    pub total_minor: i64,
}

/// The rate of a line: how what it gives back was taxed, or as the organization is taxed now.
#[must_use]
pub fn rate_of(line: &Line, treatment: Option<&TaxTreatment>) -> Option<TaxRate> {
    line.returned.map(|returned| returned.rate).or(treatment.map(|treatment| treatment.rate))
}

/// The tax of lines: figured once for each rate, on the sum of what is charged at it, and rounded half away from zero; less
/// what goes back of tax that was charged before.
///
/// # Errors
///
/// When it is larger than can be charged.
pub fn taxes(lines: impl Iterator<Item = Taxable>) -> Result<Vec<Tax>, TooLarge> {
    let mut by_rate: BTreeMap<TaxRate, (i64, i64, i64)> = BTreeMap::new();
    for line in lines {
        let Some(rate) = line.rate.filter(|rate| rate.millionths > 0) else { continue };
        let (charged, credited, returned) = by_rate.entry(rate).or_default();
        match line.returned_minor {
            None => *charged = money::sum([*charged, line.amount_minor])?,
            Some(tax) => {
                *credited = money::sum([*credited, line.amount_minor])?;
                *returned = money::sum([*returned, tax])?;
            }
        }
    }
    let tax = |(rate, (charged, credited, returned)): (TaxRate, (i64, i64, i64))| {
        Ok(Tax {
            rate,
            taxable_minor: money::sum([charged, credited])?,
            tax_minor: money::sum([rate.on(charged)?, returned])?,
        })
    };
    by_rate.into_iter().map(tax).collect()
}

/// What lines come to.
///
/// # Errors
///
/// When the total is larger than can be charged.
pub fn totals(lines: &[Line], treatment: Option<&TaxTreatment>) -> Result<Totals, TooLarge> {
    let taxes = taxes(lines.iter().map(|line| Taxable {
        amount_minor: line.amount_minor,
        rate: rate_of(line, treatment),
        returned_minor: line.returned.map(|Returned { tax_minor, .. }| tax_minor),
    }))?;
    let subtotal_minor = money::sum(lines.iter().map(|line| line.amount_minor))?;
    let on_top = taxes.iter().filter(|tax| !tax.rate.included).map(|tax| tax.tax_minor);
    let total_minor = money::sum(on_top.chain([subtotal_minor]))?;
    let tax_minor = money::sum(taxes.iter().map(|tax| tax.tax_minor))?;
    Ok(Totals { subtotal_minor, taxes, tax_minor, total_minor })
}

/// What lines charge, whatever they give back of other invoices.
///
/// # Errors
///
/// When it is larger than can be charged.
pub fn charged(lines: &[Line], treatment: Option<&TaxTreatment>) -> Result<Charged, TooLarge> {
    let own = lines.iter().filter(|line| line.returned.is_none());
    let amount_minor = money::sum(own.map(|line| line.amount_minor))?;
    let Some(TaxTreatment { rate, .. }) = treatment else {
        return Ok(Charged { amount_minor, tax_minor: 0, total_minor: amount_minor });
    };
    let tax_minor = rate.on(amount_minor)?;
    Ok(Charged { amount_minor, tax_minor, total_minor: rate.gross(amount_minor, tax_minor)? })
}

/// A rate as people read it: `21%`, `8.1%`.
#[must_use]
pub fn percent(millionths: i64) -> String {
    let (whole, fraction) = (millionths / 10_000, millionths % 10_000);
    let fraction = format!("{fraction:04}");
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{whole}%") } else { format!("{whole}.{fraction}%") }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::billing::calendar::Span;
    use crate::billing::proration::Item;

    fn line(amount_minor: i64, returned: Option<Returned>) -> Line {
        let span = Span { start: DateTime::UNIX_EPOCH, end: DateTime::UNIX_EPOCH };
        Line {
            item: Item::Plan,
            description: String::new(),
            quantity: None,
            unit_price_minor: None,
            amount_minor,
            span,
            prorated: false,
            returned,
        }
    }

    fn treatment(millionths: i64, included: bool) -> TaxTreatment {
        TaxTreatment { rate: TaxRate { millionths, included }, label: "VAT".into(), note: String::new() }
    }

    #[test]
    fn tax_comes_on_top_or_is_in_it() {
        let on_top = totals(&[line(1_000, None), line(999, None)], Some(&treatment(210_000, false))).unwrap();
        assert_eq!((on_top.subtotal_minor, on_top.tax_minor, on_top.total_minor), (1_999, 420, 2_419));
        let within = totals(&[line(12_100, None)], Some(&treatment(210_000, true))).unwrap();
        assert_eq!((within.subtotal_minor, within.tax_minor, within.total_minor), (12_100, 2_100, 12_100));
        assert_eq!(totals(&[line(5, None)], None).unwrap().tax_minor, 0);
        // What is given back is taxed as it was charged, at its rate and to its cent.
        let rate = TaxRate { millionths: 190_000, included: false };
        let old = Returned { invoice_id: None, rate, tax_minor: -189 };
        let mixed = totals(&[line(1_000, None), line(-1_000, Some(old))], Some(&treatment(210_000, false))).unwrap();
        assert_eq!((mixed.taxes.len(), mixed.tax_minor, mixed.total_minor), (2, 21, 21));
        let charged = charged(&[line(1_000, None), line(-1_000, Some(old))], Some(&treatment(210_000, false))).unwrap();
        assert_eq!(charged, Charged { amount_minor: 1_000, tax_minor: 210, total_minor: 1_210 });
        assert_eq!(totals(&[line(money::MOST, None), line(1, None)], None), Err(TooLarge));
    }

    #[test]
    fn rates_read_as_percentages() {
        assert_eq!([0, 210_000, 81_000, 1, 1_000_000].map(percent), ["0%", "21%", "8.1%", "0.0001%", "100%"]);
    }

    proptest! {
        #[test]
        fn the_total_is_what_its_parts_are(amounts in prop::collection::vec(-100_000..100_000i64, 0..20), rate in 0..=1_000_000i64, included: bool) {
            let lines: Vec<Line> = amounts.iter().map(|amount| line(*amount, None)).collect();
            let totals = totals(&lines, Some(&treatment(rate, included))).unwrap();
            let on_top = if included { 0 } else { totals.tax_minor };
            prop_assert_eq!(totals.total_minor, amounts.iter().sum::<i64>() + on_top);
            prop_assert!(totals.tax_minor.abs() <= totals.total_minor.abs());
        }
    }
}
