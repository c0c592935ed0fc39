//! What a change within a period charges and credits: the one rule, in whole minor units.
//!
//! - A charge is price × quantity × what is left of the period ÷ the whole period.
//! - Whatever is charged is remembered as a [`Lot`]: how much, for how many, from when until when. A credit is figured from lots,
//!   the latest first, and never from a price: what was charged × the part of its quantity × the part of its time that is left.
//! - Each line is rounded once, half away from zero. What a credit leaves of a lot is what the lot was still worth less the
//!   credit, so that all credits of a lot together never come to more than was charged for it.
//! - A lot remembers its part of the tax as well, and a credit gives back the same share of it: figured anew from the rate, many
//!   small credits would round to more tax than was ever charged.
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

/// How an amount is taxed; not at all by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaxRate {
    /// The rate, in millionths.
    pub millionths: i64,
    /// Whether the amount includes it.
    pub included: bool,
}

impl TaxRate {
    fn whole(self) -> i64 {
        if self.included { 1_000_000 + self.millionths } else { 1_000_000 }
    }

    /// The tax on an amount, or in it: rounded half away from zero.
    ///
    /// # Errors
    ///
    /// When it is larger than can be charged.
    pub fn on(self, amount_minor: i64) -> Result<i64, TooLarge> {
        money::share(amount_minor, self.millionths.into(), self.whole().into())
    }

    /// The tax that an amount has surely had, where nobody remembers: rounded down, so that it is not more.
    fn floor(self, amount_minor: i64) -> Result<i64, TooLarge> {
        let tax = i128::from(amount_minor) * i128::from(self.millionths) / i128::from(self.whole());
        i64::try_from(tax).map_err(|_| TooLarge)
    }

    /// What an amount and its tax come to together.
    ///
    /// # Errors
    ///
    /// When it is larger than can be charged.
    pub fn gross(self, amount_minor: i64, tax_minor: i64) -> Result<i64, TooLarge> {
        if self.included { Ok(amount_minor) } else { money::sum([amount_minor, tax_minor]) }
    }
}

/// What a line gives back: a part of what an invoice charged before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// That invoice; none of a line that an older version wrote.
    pub invoice_id: Option<Uuid>,
    /// How it was taxed.
    pub rate: TaxRate,
    /// The tax that goes back with it: not above zero.
    pub tax_minor: i64,
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
    /// What it gives back; none of a charge, and of what was charged on this very invoice: they are taxed together, as the
    /// organization is when the invoice becomes open.
    pub returned: Option<Returned>,
}

impl Line {
    /// What of an invoice is too fine to be collected: carried over from it or, below zero, to the next.
    #[must_use]
    pub fn carried(description: &str, amount_minor: i64, at: DateTime<Utc>) -> Self {
        let span = Span { start: at, end: at };
        Self {
            item: Item::Plan,
            description: description.to_owned(),
            quantity: None,
            unit_price_minor: None,
            amount_minor,
            span,
            prorated: true,
            returned: Some(Returned { invoice_id: None, rate: TaxRate::default(), tax_minor: 0 }),
        }
    }

    /// Whether it was carried over from or to the invoice that became open then.
    #[must_use]
    pub fn is_carried_at(&self, at: DateTime<Utc>) -> bool {
        let of_none = self.returned.is_some_and(|returned| returned.invoice_id.is_none());
        of_none && self.span == Span { start: at, end: at }
    }

    /// How much of what invoice it gives back, with the tax on top; none of what gives nothing back.
    ///
    /// # Errors
    ///
    /// When it is larger than can be charged.
    pub fn gives_back(&self) -> Result<Option<(Uuid, i64)>, TooLarge> {
        let Some(Returned { invoice_id: Some(invoice_id), rate, tax_minor }) = self.returned else { return Ok(None) };
        Ok(Some((invoice_id, -rate.gross(self.amount_minor, tax_minor)?)))
    }
}

/// The tax of a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taxed {
    /// The rate.
    #[serde(flatten)]
    pub rate: TaxRate,
    /// How much; none where an older version did not say.
    #[serde(default)]
    pub tax_minor: Option<i64>,
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
    pub tax: Option<Taxed>,
}

impl Lot {
    /// What it is still worth at an instant: what was charged for the time that is left.
    fn worth(&self, left: i128, whole: i128) -> Result<i64, TooLarge> {
        if whole == 0 { Ok(0) } else { money::share(self.amount_minor, left, whole) }
    }

    /// Gives back this much of its quantity from an instant on, and says how much money that is, without its tax and with it.
    fn give_back(&mut self, quantity: i64, from: DateTime<Utc>) -> Result<(i64, Option<Returned>), TooLarge> {
        let rest = Span { start: from.clamp(self.span.start, self.span.end), end: self.span.end };
        let (left, whole) = (rest.seconds(), self.span.seconds());
        let worth = self.worth(left, whole)?;
        let credit = if quantity == self.quantity || whole == 0 {
            worth
        } else {
            money::share(self.amount_minor, left * i128::from(quantity), whole * i128::from(self.quantity))?
        };
        let returned = self.give_back_tax(worth, credit)?;
        self.quantity -= quantity;
        self.amount_minor = worth - credit;
        self.span = rest;
        Ok((credit, returned))
    }

    /// Is worth nothing any more.
    pub fn write_off(&mut self) {
        self.amount_minor = 0;
        if let Some(taxed) = self.tax.as_mut() {
            taxed.tax_minor = Some(0);
        }
    }

    /// Gives back the tax of a credit: the same share of it, of a lot that is worth so much.
    fn give_back_tax(&mut self, worth: i64, credit: i64) -> Result<Option<Returned>, TooLarge> {
        let Some(Taxed { rate, tax_minor }) = self.tax else { return Ok(None) };
        let tax = tax_minor.map_or_else(|| rate.floor(self.amount_minor), Ok)?;
        let whole = i128::from(self.amount_minor);
        let of = |part: i64| if whole == 0 { Ok(0) } else { money::share(tax, part.into(), whole) };
        let (still_there, back) = (of(worth)?, of(credit)?);
        self.tax = Some(Taxed { rate, tax_minor: Some(still_there - back) });
        Ok(Some(Returned { invoice_id: Some(self.invoice_id), rate, tax_minor: -back }))
    }
}

/// Makes lots worth less, by this part of a whole: together never rounded up, so that they are not worth more than the rest of
/// the whole.
///
/// # Errors
///
/// When the whole is nothing.
pub fn write_down<'a>(lots: impl Iterator<Item = &'a mut Lot>, part: i64, whole: i64) -> Result<(), TooLarge> {
    let rest = i128::from(whole) - i128::from(part);
    // By the sums until each, so that no more than one rounding is lost.
    let keep = |of: i64, (sum, kept): &mut (i128, i128)| {
        *sum += i128::from(of);
        let until = (*sum * rest).checked_div(whole.into()).ok_or(TooLarge)?;
        let own = i64::try_from(until - *kept).map_err(|_| TooLarge);
        *kept = until;
        own
    };
    let (mut amounts, mut taxes) = ((0, 0), (0, 0));
    for lot in lots {
        if let Some(Taxed { rate, tax_minor }) = lot.tax {
            let tax = tax_minor.map_or_else(|| rate.floor(lot.amount_minor), Ok)?;
            lot.tax = Some(Taxed { rate, tax_minor: Some(keep(tax, &mut taxes)?) });
        }
        lot.amount_minor = keep(lot.amount_minor, &mut amounts)?;
    }
    Ok(())
}

/// Shares the tax of an invoice among what it charged in advance, by amount: all of them together have no more than all of it.
///
/// # Errors
///
/// When an amount is larger than can be charged.
pub fn share_tax<'a>(
    lots: impl Iterator<Item = &'a mut Lot>,
    rate: TaxRate,
    charged_minor: i64,
    tax_minor: i64,
) -> Result<(), TooLarge> {
    let (mut amount, mut shared) = (0, 0);
    for lot in lots {
        amount += lot.amount_minor;
        let until = if charged_minor == 0 { 0 } else { money::share(tax_minor, amount.into(), charged_minor.into())? };
        lot.tax = Some(Taxed { rate, tax_minor: Some(until - shared) });
        shared = until;
    }
    Ok(())
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
            returned: None,
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
        let (credit, returned) = lot.give_back(part, from)?;
        if credit == 0 {
            continue;
        }
        lines.push(Line {
            item: item.clone(),
            description: format!("Unused time: {title}"),
            quantity: counted.then_some(part),
            unit_price_minor: None,
            amount_minor: -credit,
            span: lot.span,
            prorated: true,
            returned,
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
    fn many_small_credits_give_back_no_more_tax_than_was_charged() {
        // Ten seats of 2.50 with 21 %: 5.25, of each 0.525. Rounded one by one it would be 5.30.
        let mut lots = Vec::new();
        buy(&mut lots, 10, 250, days(0, 30), days(0, 30));
        share_tax(lots.iter_mut(), TaxRate { millionths: 210_000, included: false }, 2_500, 525).unwrap();
        let mut back = Vec::new();
        for _ in 0..10 {
            let lines = credit(&mut lots, &Item::Seats, 1, days(0, 30).start, "Seats").unwrap();
            back.extend(lines.iter().map(|line| line.returned.unwrap().tax_minor));
        }
        assert_eq!(back.iter().sum::<i64>(), -525, "{back:?}");
        assert!(back.iter().all(|tax| (-53..=-52).contains(tax)), "{back:?}");
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

        /// With tax, invoiced at any time, corrected by credit notes: of no invoice more comes back than it charged, and of one
        /// that is given back at once, all of it.
        #[test]
        fn no_invoice_gives_back_more_than_it_charged(
            deeds in deeds(),
            rate in prop_oneof![Just(0), Just(500), Just(210_000), 0..=1_000_000i64],
            included: bool,
            invoiced in prop::collection::vec(0..4usize, 40),
            notes in prop::collection::vec(prop::option::weighted(0.2, 1..=100i64), 40),
        ) {
            let (period, rate) = (days(0, 31), TaxRate { millionths: rate, included });
            let (mut now, mut lots) = (period.start, Vec::<Lot>::new());
            // Of each invoice: what it charged, and what is left of that.
            let mut invoices: std::collections::BTreeMap<Uuid, (i64, i64)> = std::collections::BTreeMap::new();
            let (mut number, mut waits) = (1_u128, 0);
            for (((seconds, deed), when), note) in deeds.into_iter().zip(invoiced).zip(notes) {
                now = (now + TimeDelta::seconds(seconds)).min(period.end);
                match deed {
                    Deed::Buy { quantity, price } => {
                        waits += buy(&mut lots, quantity, price, period, Span { start: now, end: period.end });
                        lots.iter_mut().filter(|lot| lot.tax.is_none()).for_each(|lot| lot.invoice_id = Uuid::from_u128(number));
                    }
                    Deed::GiveBack { quantity } => {
                        for line in credit(&mut lots, &Item::Seats, quantity, now, "Seats").unwrap() {
                            match line.gives_back().unwrap() {
                                None => waits += line.amount_minor,
                                Some((of, back)) => {
                                    prop_assert!(line.returned.unwrap().tax_minor <= 0 && back > 0);
                                    invoices.get_mut(&of).unwrap().1 -= back;
                                }
                            }
                        }
                    }
                }
                if when == 0 {
                    let tax = rate.on(waits).unwrap();
                    let of = Uuid::from_u128(number);
                    share_tax(lots.iter_mut().filter(|lot| lot.invoice_id == of), rate, waits, tax).unwrap();
                    let charged = rate.gross(waits, tax).unwrap();
                    invoices.insert(of, (charged, charged));
                    (number, waits) = (number + 1, 0);
                }
                if let (Some(percent), Some((of, (_, left)))) = (note, invoices.iter_mut().next_back()) {
                    let part = *left * percent / 100;
                    if part > 0 {
                        write_down(lots.iter_mut().filter(|lot| lot.invoice_id == *of), part, *left).unwrap();
                        *left -= part;
                    }
                }
                for (of, (_, left)) in &invoices {
                    let there = lots.iter().filter(|lot| lot.invoice_id == *of);
                    let there = there.map(|lot| rate.gross(lot.amount_minor, lot.tax.unwrap().tax_minor.unwrap()).unwrap());
                    prop_assert!(there.sum::<i64>() <= *left, "{of}: {lots:?} {invoices:?}");
                }
            }
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
