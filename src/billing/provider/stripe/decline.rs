//! Why a payment was declined, and whether the same payment method is worth another try.

use super::wire::ApiError;
use crate::billing::provider::Collected;

/// Declines after which another try with the same payment method is pointless. Every other one is soft: `expired_card` too, since
/// card networks tell Stripe of the new card, which then has the same reference.
const HARD: [&str; 19] = [
    // What Stripe itself does not try again, but for `authentication_required`: the customer can come and authenticate.
    // <https://docs.stripe.com/billing/revenue-recovery/smart-retries#non-retryable-decline-codes>
    "highest_risk_level",
    "incorrect_number",
    "lost_card",
    "pickup_card",
    "revocation_of_all_authorizations",
    "revocation_of_authorization",
    "stolen_card",
    "transaction_not_allowed",
    // What is wrong with the card for whatever we collect, and no time mends. <https://docs.stripe.com/declines/codes>
    "card_not_supported",
    "currency_not_supported",
    "do_not_try_again",
    "invalid_account",
    "invalid_number",
    "live_mode_test_card",
    "testmode_decline",
    // What banks answer to a debit of an account that is not there, or that nobody allowed.
    // <https://docs.stripe.com/error-codes>
    "account_closed",
    "debit_not_authorized",
    "invalid_account_number",
    "no_account",
];

/// The issuer's own word for it (<https://docs.stripe.com/declines/card>, "advice codes").
const NEVER_AGAIN: &str = "do_not_try_again";

/// Why a payment was declined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decline {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) hard: bool,
}

impl Decline {
    /// As Stripe tells it, of a payment that was tried.
    pub(super) fn of_error(error: Option<&ApiError>) -> Self {
        let code =
            error.and_then(|error| error.decline_code.as_deref().or(error.code.as_deref())).unwrap_or("declined");
        let message = error.and_then(|error| error.message.as_deref()).unwrap_or("The payment was declined.");
        let advice = error.and_then(|error| error.advice_code.as_deref());
        let hard = HARD.contains(&code) || advice == Some(NEVER_AGAIN);
        Self { code: code.into(), message: message.into(), hard }
    }

    /// As Stripe tells it, of a request that it did not even try: the method is gone, or the amount out of bounds, which says
    /// nothing of the method.
    pub(super) fn of_request(error: &ApiError) -> Self {
        let decline = Self::of_error(Some(error));
        Self { hard: !decline.code.starts_with("amount_"), ..decline }
    }

    /// The customer has to be there, and is not.
    pub(super) fn authentication_required() -> Self {
        let message = "The bank wants the customer to authenticate this payment.";
        Self { code: "authentication_required".into(), message: message.into(), hard: false }
    }

    /// Somebody cancelled it at Stripe.
    pub(super) fn canceled() -> Self {
        Self { code: "canceled".into(), message: "The payment was cancelled.".into(), hard: false }
    }

    /// It as an outcome.
    pub(super) fn of(self, reference: Option<String>) -> Collected {
        Collected::Declined { reference, code: self.code, message: self.message, hard: self.hard }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decline(json: serde_json::Value) -> Decline {
        Decline::of_error(Some(&serde_json::from_value(json).unwrap()))
    }

    #[test]
    fn a_decline_is_hard_when_the_method_is_done_for() {
        for code in ["lost_card", "stolen_card", "pickup_card", "invalid_account", "incorrect_number"] {
            let decline = decline(serde_json::json!({"code": "card_declined", "decline_code": code, "message": "No."}));
            assert_eq!(decline, Decline { code: code.into(), message: "No.".into(), hard: true });
        }
        for code in [
            "do_not_honor",
            "generic_decline",
            "insufficient_funds",
            "authentication_required",
            "expired_card",
            "try_again_later",
            "something_new",
        ] {
            let decline = decline(serde_json::json!({"code": "card_declined", "decline_code": code}));
            assert_eq!((decline.code.as_str(), decline.hard), (code, false));
        }
    }

    #[test]
    fn the_advice_of_the_issuer_makes_a_soft_decline_hard() {
        let advised =
            |advice: &str| decline(serde_json::json!({"decline_code": "do_not_honor", "advice_code": advice}));
        assert!(advised("do_not_try_again").hard);
        assert!(!advised("try_again_later").hard);
        assert!(!advised("confirm_card_data").hard);
    }

    #[test]
    fn a_decline_always_has_words() {
        assert_eq!(decline(serde_json::json!({"code": "card_declined"})).code, "card_declined");
        let silent = Decline::of_error(None);
        assert_eq!((silent.code.as_str(), silent.hard), ("declined", false));
        assert!(!silent.message.is_empty());
    }
}
