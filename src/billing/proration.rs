//! What a change within a period charges and credits: the one rule, in whole minor units.
//!
//! - A charge is price × quantity × what is left of the period ÷ the whole period.
//! - Whatever is charged is remembered as a [`Lot`]: how much, for how many, from when until when. A credit is figured from lots,
//!   the latest first, and never from a price: what was charged × the part of its quantity × the part of its time that is left.
//! - Each line is rounded once, half away from zero. What a credit leaves of a lot is what the lot was still worth less the
//!   credit, so that all credits of a lot together never come to more than was charged for it.
//!
//! No sequence of changes mints or burns anything: at every instant, the lines so far are what was used up and what the lots are
//! still worth.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::calendar::Span;
use super::money::{self, TooLarge};

/// What is paid for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// The plan.
    Plan,
    /// The seats beyond the included ones.
    Seats,
    /// An add-on.
    AddOn(String),
    /// What was used of a metered add-on beyond what is included.
    Usage(String),
}

/// How an amount is taxed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaxRate {
    /// The rate, in millionths.
    pub millionths: i64,
    /// Whether the amount includes it.
    pub included: bool,
}

/// A line of an invoice that is being collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What for.
    pub item: Item,
    /// In words.
    pub description: String,
    /// How many; none where there is one.
    pub quantity: Option<i64>,
    /// The price of one for a whole period.
    pub unit_price_minor: Option<i64>,
    /// The amount; below zero for credit.
    pub amount_minor: i64,
    /// For when.
    pub span: Span,
    /// Whether it is for a part of a period.
    pub prorated: bool,
    /// How what it gives back was taxed; none of what is taxed as the organization is when the invoice becomes open.
    pub tax: Option<TaxRate>,
}

/// Something that was charged in advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lot {
    /// What for.
    pub item: Item,
    /// For how many.
    pub quantity: i64,
    /// How much.
    pub amount_minor: i64,
    /// For when.
    pub span: Span,
    /// On which invoice.
    pub invoice_id: Uuid,
    /// How it was taxed; none while that invoice is being collected.
    pub tax: Option<TaxRate>,
}

impl Lot {
    /// What it is still worth at an instant: what was charged for the time that is left.
    fn worth(&self, left: i128, whole: i128) -> Result<i64, TooLarge> {
        if whole == 0 { Ok(0) } else { money::share(self.amount_minor, left, whole) }
    }

    /// Gives back this much of its quantity from an instant on, and says how much money that is.
    fn give_back(&mut self, quantity: i64, from: DateTime<Utc>) -> Result<i64, TooLarge> {
        let rest = Span { start: from.clamp(self.span.start, self.span.end), end: self.span.end };
        let (left, whole) = (rest.seconds(), self.span.seconds());
        let worth = self.worth(left, whole)?;
        let credit = if quantity == self.quantity || whole == 0 {
            worth
        } else {
            money::share(self.amount_minor, left * i128::from(quantity), whole * i128::from(self.quantity))?
        };
        self.quantity -= quantity;
        self.amount_minor = worth - credit;
        self.span = rest;
        Ok(credit)
    }
}

/// Something that is charged for a period or the rest of one.
#[derive(Clone, Debug)]
pub struct Purchase<'a> {
    /// What.
    pub item: Item,
    /// What people call it.
    pub title: &'a str,
    /// How many; none where there is one.
    pub quantity: Option<i64>,
    /// The price of one for a whole period.
    pub price_minor: i64,
    /// The whole period.
    pub period: Span,
    /// What is left of it.
    pub rest: Span,
    /// The invoice that collects it.
    pub invoice_id: Uuid,
}

impl Purchase<'_> {
    /// The line that charges it, and the lot that remembers it; nothing for what costs nothing.
    ///
    /// # Errors
    ///
    /// When it is more than can be charged.
    pub fn charge(self, lots: &mut Vec<Lot>) -> Result<Option<Line>, TooLarge> {
        let quantity = self.quantity.unwrap_or(1);
        if self.price_minor == 0 || quantity == 0 {
            return Ok(None);
        }
        let full = money::times(self.price_minor, quantity)?;
        let prorated = self.rest != self.period;
        let amount_minor =
            if prorated { money::share(full, self.rest.seconds(), self.period.seconds())? } else { full };
        let (invoice_id, span) = (self.invoice_id, self.rest);
        lots.push(Lot { item: self.item.clone(), quantity, amount_minor, span, invoice_id, tax: None });
        Ok(Some(Line {
            item: self.item,
            description: self.title.to_owned(),
            quantity: self.quantity,
            unit_price_minor: Some(self.price_minor),
            amount_minor,
            span,
            prorated,
            tax: None,
        }))
    }
}

/// Gives back this much of what was charged for an item, the latest first: one line for each lot that it touches.
///
/// # Errors
///
/// When an amount is larger than can be charged, which none is that was.
pub fn credit(
    lots: &mut Vec<Lot>,
    item: &Item,
    quantity: i64,
    from: DateTime<Utc>,
    title: &str,
) -> Result<Vec<Line>, TooLarge> {
    let mut lines = Vec::new();
    let mut left = quantity;
    for lot in lots.iter_mut().rev().filter(|lot| lot.item == *item) {
        let part = left.min(lot.quantity);
        if part == 0 {
            break;
        }
        left -= part;
        let counted = lot.quantity > 1 || *item == Item::Seats;
        let amount_minor = -lot.give_back(part, from)?;
        if amount_minor == 0 {
            continue;
        }
        lines.push(Line {
            item: item.clone(),
            description: format!("Unused time: {title}"),
            quantity: counted.then_some(part),
            unit_price_minor: None,
            amount_minor,
            span: lot.span,
            prorated: true,
            tax: lot.tax,
        });
    }
    lots.retain(|lot| lot.quantity > 0);
    Ok(lines)
}

/// Gives back all that was charged for an item.
///
/// # Errors
///
/// As [`credit`].
pub fn credit_all(lots: &mut Vec<Lot>, item: &Item, from: DateTime<Utc>, title: &str) -> Result<Vec<Line>, TooLarge> {
    credit(lots, item, i64::MAX, from, title)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn days(from: i64, until: i64) -> Span {
        Span { start: DateTime::UNIX_EPOCH + TimeDelta::days(from), end: DateTime::UNIX_EPOCH + TimeDelta::days(until) }
    }

    fn buy(lots: &mut Vec<Lot>, quantity: i64, price_minor: i64, period: Span, rest: Span) -> i64 {
        let purchase = Purchase {
            item: Item::Seats,
            title: "Seats",
            quantity: Some(quantity),
            price_minor,
            period,
            rest,
            invoice_id: Uuid::nil(),
        };
        purchase.charge(lots).unwrap().map_or(0, |line| line.amount_minor)
    }

    fn give_back(lots: &mut Vec<Lot>, quantity: i64, from: DateTime<Utc>) -> i64 {
        credit(lots, &Item::Seats, quantity, from, "Seats").unwrap().iter().map(|line| line.amount_minor).sum()
    }

    #[test]
    fn the_worked_examples_of_the_readme() {
        let period = days(0, 30);
        let mut lots = Vec::new();
        // Two seats at 10.00 with 10 of 30 days left: one line of 6.67, and not twice 3.33.
        assert_eq!(buy(&mut lots, 2, 1_000, period, days(20, 30)), 667);
        // A seat bought at 10.00 and given back at half time: 5.00, whatever the price is by then.
        let mut lots = Vec::new();
        buy(&mut lots, 1, 1_000, period, period);
        assert_eq!(give_back(&mut lots, 1, days(15, 30).start), -500);
        // 5.00 a month for 20.00 a month after one of 30 days: 4.83 back, 19.33 charged, 14.50 in all.
        let mut lots = Vec::new();
        buy(&mut lots, 1, 500, period, period);
        let back = give_back(&mut lots, 1, days(1, 30).start);
        assert_eq!((back, buy(&mut lots, 1, 2_000, period, days(1, 30))), (-483, 1_933));
    }

    #[test]
    fn giving_back_one_by_one_gives_no_more_than_all_at_once() {
        let mut lots = Vec::new();
        // Two seats of one cent each: half of the time of each is half a cent, which is rounded to one.
        buy(&mut lots, 2, 1, days(0, 30), days(0, 30));
        let half = days(15, 30).start;
        assert_eq!(give_back(&mut lots, 1, half) + give_back(&mut lots, 1, half), -1);
    }

    #[test]
    fn a_clock_that_goes_backwards_gives_back_what_was_charged_and_no_more() {
        let period = days(0, 30);
        let mut lots = Vec::new();
        buy(&mut lots, 2, 1_000, period, days(20, 30));
        // Before what was bought: all of it.
        assert_eq!(give_back(&mut lots, 2, days(5, 30).start), -667);
        // One was given back at half time; what that used up of the other does not come back.
        buy(&mut lots, 2, 1_000, period, period);
        assert_eq!(give_back(&mut lots, 1, days(15, 30).start), -500);
        assert_eq!(give_back(&mut lots, 1, days(3, 30).start), -500);
        assert!(lots.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Buy { quantity: i64, price: i64 },
        GiveBack { quantity: i64 },
    }

    fn deeds() -> impl Strategy<Value = Vec<(i64, Deed)>> {
        let deed = prop_oneof![
            (1..40i64, prop_oneof![0..5_000i64, 0..10_000_000_000i64])
                .prop_map(|(quantity, price)| Deed::Buy { quantity, price }),
            (1..60i64).prop_map(|quantity| Deed::GiveBack { quantity }),
        ];
        prop::collection::vec((0..400_000i64, deed), 1..40)
    }

    proptest! {
        #[test]
        fn nothing_is_minted_and_nothing_is_burned(deeds in deeds()) {
            let period = days(0, 31);
            let (mut now, mut lots, mut charged, mut credited, mut used_up) = (period.start, Vec::<Lot>::new(), 0, 0, 0);
            for (seconds, deed) in deeds {
                now = (now + TimeDelta::seconds(seconds)).min(period.end);
                let before: i64 = lots.iter().map(|lot| lot.amount_minor).sum();
                match deed {
                    Deed::Buy { quantity, price } => {
                        let rest = Span { start: now, end: period.end };
                        charged += buy(&mut lots, quantity, price, period, rest);
                        let after: i64 = lots.iter().map(|lot| lot.amount_minor).sum();
                        prop_assert_eq!(charged - used_up - credited, after);
                    }
                    Deed::GiveBack { quantity } => {
                        let credit = -give_back(&mut lots, quantity, now);
                        let after: i64 = lots.iter().map(|lot| lot.amount_minor).sum();
                        // Whatever is neither given back nor still there was used up, and never less than nothing.
                        let used = before - credit - after;
                        prop_assert!(credit >= 0 && used >= 0);
                        credited += credit;
                        used_up += used;
                    }
                }
                prop_assert!(credited <= charged);
                prop_assert!(lots.iter().all(|lot| lot.quantity > 0 && lot.amount_minor >= 0));
            }
            credited -= give_back(&mut lots, i64::MAX, period.end);
            prop_assert!(lots.is_empty() && credited <= charged);
        }

        #[test]
        fn up_and_down_at_one_instant_is_nothing(
            had in 1..50i64, more in 1..50i64, price in 0..1_000_000i64, old_price in 0..1_000_000i64, second in 0..2_678_400i64,
        ) {
            let period = days(0, 31);
            let mut lots = Vec::new();
            buy(&mut lots, had, old_price, period, period);
            let before = lots.clone();
            let now = period.start + TimeDelta::seconds(second);
            let up = buy(&mut lots, more, price, period, Span { start: now, end: period.end });
            // What costs nothing leaves nothing to give back.
            let down = if price > 0 { give_back(&mut lots, more, now) } else { 0 };
            prop_assert_eq!(up + down, 0);
            prop_assert_eq!(lots, before);
        }

        #[test]
        fn a_credit_is_the_part_of_what_was_charged_rounded_once(
            had in 1..100i64, part in 1..100i64, price in 0..1_000_000i64, second in 0..2_678_400i64,
        ) {
            prop_assume!(part <= had);
            let period = days(0, 31);
            let mut lots = Vec::new();
            let charged = buy(&mut lots, had, price, period, period);
            let credit = -give_back(&mut lots, part, period.start + TimeDelta::seconds(second));
            let (left, whole) = (i128::from(2_678_400 - second), period.seconds());
            let expected = money::share(charged, left * i128::from(part), whole * i128::from(had)).unwrap();
            prop_assert_eq!(credit, expected);
        }
    }
}
