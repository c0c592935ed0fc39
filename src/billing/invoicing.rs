//! What the lines of an invoice come to: tax by rate, subtotal and total.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::money::{self, TooLarge};
use super::proration::{Line, TaxRate};

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

/// The tax of all lines that are taxed at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tax {
    /// The rate.
    pub rate: TaxRate,
    /// What the lines come to.
    pub taxable_minor: i64,
    /// The tax on it, or in it.
    pub tax_minor: i64,
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

/// The rate of a line: how what it gives back was taxed, or as the organization is taxed now.
#[must_use]
pub fn rate_of(line: &Line, treatment: Option<&TaxTreatment>) -> Option<TaxRate> {
    line.tax.or(treatment.map(|treatment| treatment.rate))
}

/// What lines come to. Tax is figured once for each rate, on the sum of its lines, and rounded half away from zero.
///
/// # Errors
///
/// When the total is larger than can be charged.
pub fn totals(lines: &[Line], treatment: Option<&TaxTreatment>) -> Result<Totals, TooLarge> {
    let mut by_rate: BTreeMap<TaxRate, i64> = BTreeMap::new();
    for line in lines {
        if let Some(rate) = rate_of(line, treatment).filter(|rate| rate.millionths > 0) {
            let sum = by_rate.entry(rate).or_default();
            *sum = money::sum([*sum, line.amount_minor])?;
        }
    }
    let mut taxes = Vec::with_capacity(by_rate.len());
    for (rate, taxable_minor) in by_rate {
        taxes.push(Tax { rate, taxable_minor, tax_minor: tax(taxable_minor, rate)? });
    }
    let subtotal_minor = money::sum(lines.iter().map(|line| line.amount_minor))?;
    let on_top = taxes.iter().filter(|tax| !tax.rate.included).map(|tax| tax.tax_minor);
    let total_minor = money::sum(on_top.chain([subtotal_minor]))?;
    let tax_minor = money::sum(taxes.iter().map(|tax| tax.tax_minor))?;
    Ok(Totals { subtotal_minor, taxes, tax_minor, total_minor })
}

/// The tax on an amount, or in it.
///
/// # Errors
///
/// When it is larger than can be charged.
pub fn tax(amount_minor: i64, rate: TaxRate) -> Result<i64, TooLarge> {
    let whole = if rate.included { 1_000_000 + rate.millionths } else { 1_000_000 };
    money::share(amount_minor, rate.millionths.into(), whole.into())
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

    fn line(amount_minor: i64, tax: Option<TaxRate>) -> Line {
        let span = Span { start: DateTime::UNIX_EPOCH, end: DateTime::UNIX_EPOCH };
        Line {
            item: Item::Plan,
            description: String::new(),
            quantity: None,
            unit_price_minor: None,
            amount_minor,
            span,
            prorated: false,
            tax,
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
        // What is given back is taxed as it was charged.
        let old = TaxRate { millionths: 190_000, included: false };
        let mixed = totals(&[line(1_000, None), line(-1_000, Some(old))], Some(&treatment(210_000, false))).unwrap();
        assert_eq!((mixed.taxes.len(), mixed.tax_minor, mixed.total_minor), (2, 20, 20));
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
