//! Amounts as Stripe counts them, which for some currencies is not as ISO 4217 does.
//!
//! Source: <https://docs.stripe.com/currencies>, "Zero-decimal currencies", "Three-decimal currencies" and "Special cases".
//! What it says there of HUF and TWD is about payouts, which we make none of; both are charged with two decimals.

use crate::billing::money::Currency;
use crate::billing::provider::Grain;

/// What Stripe takes in whole units. ISO 4217 gives MGA two digits.
const WHOLE: [&str; 15] =
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"];

/// What Stripe takes in thousandths.
const THOUSANDTHS: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];

/// Had decimals once, and are taken in hundredths still, which must be 00.
const HUNDREDTHS_OF_WHOLE: [&str; 2] = ["ISK", "UGX"];

/// The least that Stripe collects, in minor units, where it says so: <https://docs.stripe.com/currencies>, "Minimum and maximum
/// charge amounts". It holds for an account that settles in the same currency, and is near it for others.
const LEAST: [(&str, i64); 29] = [
    ("AED", 200),
    ("AUD", 50),
    ("BGN", 100),
    ("BRL", 50),
    ("CAD", 50),
    ("CHF", 50),
    ("CZK", 1_500),
    ("DKK", 250),
    ("EUR", 50),
    ("GBP", 30),
    ("HKD", 400),
    ("HUF", 17_500),
    ("IDR", 1_000_000),
    ("INR", 50),
    ("JPY", 50),
    ("KRW", 1_000),
    ("KWD", 200),
    ("MXN", 1_000),
    ("MYR", 200),
    ("NOK", 300),
    ("NZD", 50),
    ("PHP", 3_000),
    ("PLN", 200),
    ("RON", 200),
    ("SEK", 300),
    ("SGD", 50),
    ("THB", 1_000),
    ("TWD", 2_000),
    ("USD", 50),
];

/// Why Stripe cannot collect an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountFault {
    /// Stripe does not have the currency with these minor units.
    #[error("amounts in {0} cannot be collected")]
    Currency(Currency),
    /// It has digits that Stripe does not take.
    #[error("amounts in {currency} must be multiples of {step} minor units")]
    TooFine {
        /// The currency.
        currency: Currency,
        /// What it must be a multiple of.
        step: i64,
    },
    /// It is nothing, or less.
    #[error("only amounts above zero can be collected")]
    NotPositive,
    /// It is more than can be said.
    #[error("the amount is too large")]
    TooLarge,
}

/// An amount in the minor units of ISO 4217 as Stripe takes it.
///
/// # Errors
///
/// When Stripe cannot collect it: it is never rounded, since the invoice says something else then.
pub fn stripe_amount(currency: Currency, minor: i64) -> Result<i64, AmountFault> {
    if minor <= 0 {
        return Err(AmountFault::NotPositive);
    }
    let (factor, divisor) = scale(currency).ok_or(AmountFault::Currency(currency))?;
    let step = step(currency).ok_or(AmountFault::Currency(currency))?;
    if minor % step != 0 {
        return Err(AmountFault::TooFine { currency, step });
    }
    (minor / divisor).checked_mul(factor).ok_or(AmountFault::TooLarge)
}

/// What amounts Stripe collects in a currency.
pub(in crate::billing::provider) fn grain(currency: Currency) -> Grain {
    let step_minor = step(currency).unwrap_or(1);
    let least = LEAST.iter().find(|(code, _)| *code == currency.code());
    Grain { least_minor: least.map_or(step_minor, |(_, least)| *least), step_minor }
}

/// The last digit of thousandths must be 0, because card networks have two.
fn step(currency: Currency) -> Option<i64> {
    let (_, divisor) = scale(currency)?;
    Some(if THOUSANDTHS.contains(&currency.code()) { 10 } else { divisor })
}

/// An amount of Stripe's in the minor units of ISO 4217. None of a currency that it cannot be in.
pub(super) fn minor_amount(currency: Currency, amount: i64) -> Option<i64> {
    let (factor, divisor) = scale(currency)?;
    (amount % factor == 0).then_some(amount / factor)?.checked_mul(divisor)
}

/// By what minor units are multiplied, and by what divided.
fn scale(currency: Currency) -> Option<(i64, i64)> {
    let code = currency.code();
    match currency.digits() {
        0 if WHOLE.contains(&code) => Some((1, 1)),
        0 if HUNDREDTHS_OF_WHOLE.contains(&code) => Some((100, 1)),
        2 if WHOLE.contains(&code) => Some((1, 100)),
        2 => Some((1, 1)),
        3 if THOUSANDTHS.contains(&code) => Some((1, 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn amounts_are_told_as_stripe_counts_them() {
        for (code, minor, told) in [
            ("EUR", 1_000, 1_000),
            ("USD", 1, 1),
            ("JPY", 500, 500),
            ("KRW", 500, 500),
            ("MGA", 500, 5),
            ("KWD", 5_120, 5_120),
            ("BHD", 10, 10),
            ("ISK", 5, 500),
            ("UGX", 5, 500),
            ("HUF", 1_045, 1_045),
            ("TWD", 80_045, 80_045),
        ] {
            assert_eq!(stripe_amount(currency(code), minor), Ok(told), "{code}");
            assert_eq!(minor_amount(currency(code), told), Some(minor), "{code}");
        }
    }

    #[test]
    fn what_can_be_collected_is_told_before_it_is_asked_for() {
        let told = |code| grain(currency(code));
        assert_eq!(told("EUR"), Grain { least_minor: 50, step_minor: 1 });
        assert_eq!(told("KWD"), Grain { least_minor: 200, step_minor: 10 });
        assert_eq!(told("MGA"), Grain { least_minor: 100, step_minor: 100 });
        assert_eq!(told("VND"), Grain { least_minor: 1, step_minor: 1 });
        for (code, least) in LEAST {
            assert!(stripe_amount(currency(code), least).is_ok(), "{code}");
        }
    }

    #[test]
    fn what_stripe_cannot_collect_is_said_and_not_rounded() {
        let fault = |code, minor| stripe_amount(currency(code), minor).unwrap_err();
        assert_eq!(fault("KWD", 5_124), AmountFault::TooFine { currency: currency("KWD"), step: 10 });
        assert_eq!(fault("MGA", 550), AmountFault::TooFine { currency: currency("MGA"), step: 100 });
        for code in ["IQD", "LYD", "CLF", "UYI"] {
            assert_eq!(fault(code, 1_000), AmountFault::Currency(currency(code)), "{code}");
        }
        assert_eq!(fault("EUR", 0), AmountFault::NotPositive);
        assert_eq!(fault("EUR", -1), AmountFault::NotPositive);
        assert_eq!(fault("ISK", i64::MAX), AmountFault::TooLarge);
        assert_eq!(minor_amount(currency("ISK"), 501), None);
        assert_eq!(minor_amount(currency("MGA"), i64::MAX), None);
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_is_heard(
            minor in 1..=crate::billing::money::MOST,
            code in prop::sample::select(vec!["EUR", "JPY", "MGA", "KWD", "ISK", "UGX", "HUF"]),
        ) {
            if let Ok(told) = stripe_amount(currency(code), minor) {
                prop_assert_eq!(minor_amount(currency(code), told), Some(minor));
            }
        }
    }
}
