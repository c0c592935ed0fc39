//! Money: whole minor units of a currency, and how they are rounded and written.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most that any amount can be, in minor units, below zero as well as above: so that no product of an amount, a number of
/// seats and a time in seconds leaves 128 bits.
pub const MOST: i64 = 1_000_000_000_000_000;

/// A currency of ISO 4217, with its minor units: two digits for most, none for JPY, three for KWD.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// Reads a code in upper case; none of a currency that has no minor units to speak of, as gold.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let currency = iso_currency::Currency::from_code(code)?;
        currency.exponent().is_some().then_some(Self(currency))
    }

    /// Its code: `EUR`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// How many digits its minor unit has.
    #[must_use]
    pub fn digits(self) -> usize {
        self.0.exponent().unwrap_or_default().into()
    }

    /// An amount as people read it: `EUR 1,234.50`, `JPY 1,234`, `-KWD 0.005`.
    #[must_use]
    pub fn written(self, minor: i64) -> String {
        format!("{}{} {}", sign(minor), self.code(), self.magnitude(minor))
    }

    /// An amount where the currency is named beside it, as in the column of a table: `1,234.50`, `-0.005`.
    #[must_use]
    pub fn figures(self, minor: i64) -> String {
        format!("{}{}", sign(minor), self.magnitude(minor))
    }

    fn magnitude(self, minor: i64) -> String {
        let digits = self.digits();
        let padded = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
        let (major, fraction) = padded.split_at(padded.len() - digits);
        let point = if digits > 0 { "." } else { "" };
        format!("{}{point}{fraction}", in_thousands(major))
    }
}

/// A number of things as people read it: `1,234`.
#[must_use]
pub fn count(number: i64) -> String {
    format!("{}{}", sign(number), in_thousands(&number.unsigned_abs().to_string()))
}

fn sign(number: i64) -> &'static str {
    if number < 0 { "-" } else { "" }
}

fn in_thousands(digits: &str) -> String {
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::parse(&code)
            .ok_or_else(|| D::Error::custom(format!("{code:?} is no ISO 4217 code with minor units, as in \"EUR\"")))
    }
}

/// An amount is beyond [`MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount is larger than can be charged")]
pub struct TooLarge;

/// `amount × numerator ÷ denominator`, rounded half away from zero.
///
/// # Errors
///
/// When it, or the product, is larger than an amount can be.
pub fn share(amount: i64, numerator: i128, denominator: i128) -> Result<i64, TooLarge> {
    let product = i128::from(amount).checked_mul(numerator).ok_or(TooLarge)?;
    bounded(round_half_away(product, denominator).ok_or(TooLarge)?)
}

/// `price × quantity`.
///
/// # Errors
///
/// When it is larger than an amount can be.
pub fn times(price: i64, quantity: i64) -> Result<i64, TooLarge> {
    bounded(i128::from(price) * i128::from(quantity))
}

/// The sum of amounts.
///
/// # Errors
///
/// When it is larger than an amount can be.
pub fn sum(amounts: impl IntoIterator<Item = i64>) -> Result<i64, TooLarge> {
    amounts.into_iter().try_fold(0, |sum, amount| bounded(i128::from(sum) + i128::from(amount)))
}

fn bounded(amount: i128) -> Result<i64, TooLarge> {
    i64::try_from(amount).ok().filter(|amount| (-MOST..=MOST).contains(amount)).ok_or(TooLarge)
}

/// The quotient, rounded half away from zero. None when nothing is divided by.
fn round_half_away(numerator: i128, denominator: i128) -> Option<i128> {
    let (quotient, rest) = (numerator.checked_div(denominator)?, numerator.checked_rem(denominator)?);
    // The rest has the sign of the numerator and is smaller than the denominator, so its double fits.
    let away = if (numerator < 0) == (denominator < 0) { 1 } else { -1 };
    Some(if rest.unsigned_abs() * 2 >= denominator.unsigned_abs() { quotient + away } else { quotient })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_written_with_the_digits_of_their_currency() {
        let written = |code: &str, minor| Currency::parse(code).unwrap().written(minor);
        assert_eq!(written("EUR", 123_450), "EUR 1,234.50");
        assert_eq!(written("EUR", 5), "EUR 0.05");
        assert_eq!(written("USD", -100), "-USD 1.00");
        assert_eq!(written("JPY", 1_234_567), "JPY 1,234,567");
        assert_eq!(written("KWD", -5), "-KWD 0.005");
        assert_eq!(written("EUR", i64::MIN), "-EUR 92,233,720,368,547,758.08");
        let figures = |code: &str, minor| Currency::parse(code).unwrap().figures(minor);
        assert_eq!(figures("EUR", -123_450), "-1,234.50");
        assert_eq!(figures("JPY", 1_234_567), "1,234,567");
        assert_eq!(figures("KWD", 5), "0.005");
        assert_eq!(count(i64::MIN), "-9,223,372,036,854,775,808");
        assert_eq!(count(999), "999");
        for code in ["eur", "EURO", "", "XAU", "XXX", "ABC"] {
            assert_eq!(Currency::parse(code), None, "{code}");
        }
    }

    #[test]
    fn half_a_cent_goes_away_from_zero() {
        assert_eq!(share(1, 1, 2), Ok(1));
        assert_eq!(share(-1, 1, 2), Ok(-1));
        assert_eq!(share(1, 1, 3), Ok(0));
        assert_eq!(share(2_000, 10, 30), Ok(667));
        assert_eq!(share(500, 29, 30), Ok(483));
        assert_eq!(share(2_000, 29, 30), Ok(1_933));
        assert_eq!(share(1, 1, 0), Err(TooLarge));
        assert_eq!(share(MOST, 2, 1), Err(TooLarge));
        assert_eq!(share(i64::MAX, i128::MAX, 1), Err(TooLarge));
        assert_eq!(times(MOST, -1), Ok(-MOST));
        assert_eq!(times(i64::MAX, i64::MIN), Err(TooLarge));
        assert_eq!(sum([MOST, 1]), Err(TooLarge));
        assert_eq!(sum([i64::MAX, i64::MIN]), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn a_share_is_the_nearest_and_the_same_below_zero(amount in -MOST..=MOST, part in 0..=31_622_400_i128, whole in 1..=31_622_400_i128) {
            prop_assume!(part <= whole);
            let share = share(amount, part, whole).unwrap();
            let off = (i128::from(share) * whole - i128::from(amount) * part).abs();
            prop_assert!(off * 2 <= whole);
            prop_assert_eq!(super::share(-amount, part, whole), Ok(-share));
        }
    }
}
