//! What Stripe answers and sends, as far as it is read. Whatever else there is may change without notice.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use uuid::Uuid;

use super::decline::Decline;
use crate::billing::provider::{Card, Collected};

/// The key of the metadata that names the payment.
pub(super) const PAYMENT_ID: &str = "payment_id";

/// <https://docs.stripe.com/api/customers/object>
#[derive(Debug, Deserialize)]
pub(super) struct Customer {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) email: Option<String>,
    /// All that is left of a customer that was deleted.
    #[serde(default)]
    pub(super) deleted: bool,
}

/// <https://docs.stripe.com/api/payment_methods/object>
#[derive(Debug, Deserialize)]
pub(super) struct PaymentMethod {
    pub(super) id: String,
    #[serde(rename = "type")]
    kind: String,
    pub(super) customer: Option<IgnoredAny>,
    /// What there is to say of a method stands under the name of its kind.
    #[serde(flatten)]
    details: HashMap<String, Value>,
}

impl From<PaymentMethod> for Card {
    fn from(method: PaymentMethod) -> Self {
        let detail = |name: &str| method.details.get(&method.kind).and_then(|details| details.get(name));
        let text = |name: &str| detail(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| detail(name).and_then(Value::as_u64).and_then(|number| number.try_into().ok());
        Self {
            brand: text("brand"),
            last4: text("last4"),
            expiry_month: number("exp_month"),
            expiry_year: number("exp_year"),
            reference: method.id,
            kind: method.kind,
        }
    }
}

/// <https://docs.stripe.com/api/payment_intents/object>
#[derive(Debug, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) amount: i64,
    pub(super) amount_received: Option<i64>,
    pub(super) currency: String,
    #[serde(default)]
    pub(super) metadata: HashMap<String, String>,
    pub(super) last_payment_error: Option<Box<ApiError>>,
}

impl Intent {
    pub(super) fn payment_id(&self) -> Option<Uuid> {
        self.metadata.get(PAYMENT_ID)?.parse().ok()
    }

    /// How it stands. <https://docs.stripe.com/payments/paymentintents/lifecycle>
    pub(super) fn outcome(self) -> Collected {
        match self.status.as_str() {
            "succeeded" => Collected::Succeeded { reference: self.id },
            "processing" => Collected::Processing { reference: self.id },
            // Somebody would have to come and prove who they are, and nobody is there. The secret by which they could is
            // never handed out, so it cannot succeed later.
            "requires_action" => Decline::authentication_required().of(Some(self.id)),
            "requires_payment_method" => Decline::of_error(self.last_payment_error.as_deref()).of(Some(self.id)),
            "canceled" => Decline::canceled().of(Some(self.id)),
            status => Collected::Unknown { why: format!("{} is {status}", self.id) },
        }
    }
}

/// <https://docs.stripe.com/api/pagination>
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    #[serde(default)]
    pub(super) has_more: bool,
}

/// What stands around every error.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Failed {
    #[serde(default)]
    pub(super) error: ApiError,
}

/// <https://docs.stripe.com/api/errors>
#[derive(Debug, Default, Deserialize)]
pub(super) struct ApiError {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) decline_code: Option<String>,
    pub(super) advice_code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) payment_intent: Option<Intent>,
}

/// <https://docs.stripe.com/api/events/object>
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) created: i64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) data: EventData,
}

#[derive(Debug, Deserialize)]
pub(super) struct EventData {
    pub(super) object: Value,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(intent: Value) -> Collected {
        serde_json::from_value::<Intent>(intent).unwrap().outcome()
    }

    #[test]
    fn every_status_of_an_intent_has_its_outcome() {
        let of = |status: &str| outcome(json!({"id": "pi_1", "status": status, "amount": 1, "currency": "eur"}));
        assert_eq!(of("succeeded"), Collected::Succeeded { reference: "pi_1".into() });
        assert_eq!(of("processing"), Collected::Processing { reference: "pi_1".into() });
        for (status, expected) in [
            ("requires_action", "authentication_required"),
            ("requires_payment_method", "declined"),
            ("canceled", "canceled"),
        ] {
            let Collected::Declined { reference, code, hard, .. } = of(status) else { panic!("{status}") };
            assert_eq!((reference.as_deref(), code.as_str(), hard), (Some("pi_1"), expected, false), "{status}");
        }
        for status in ["requires_confirmation", "requires_capture", "something_new"] {
            assert!(matches!(of(status), Collected::Unknown { .. }), "{status}");
        }
    }

    #[test]
    fn a_payment_method_says_what_its_kind_has() {
        let card = |method: Value| Card::from(serde_json::from_value::<PaymentMethod>(method).unwrap());
        let debit =
            card(json!({"id": "pm_1", "type": "sepa_debit", "customer": null, "sepa_debit": {"last4": "3000"}}));
        assert_eq!((debit.kind.as_str(), debit.last4.as_deref(), debit.brand), ("sepa_debit", Some("3000"), None));
        let new = card(json!({"id": "pm_2", "type": "invention", "customer": "cus_1"}));
        assert_eq!((new.last4, new.expiry_month), (None, None));
    }
}
