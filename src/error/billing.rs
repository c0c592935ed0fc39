//! Refusals about plans, invoices, payments and usage, and what the wire says of them.

use chrono::{DateTime, Utc};
use tonic::Code as C;
use uuid::Uuid;

use super::status::Refusal;
use crate::pb::ErrorReason as R;

/// Why something about billing is refused.
#[expect(missing_docs, reason = "each is documented where clients read it: as an ErrorReason in the proto")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Billing {
    #[error("no such plan")]
    PlanNotFound { plan_id: String },
    #[error("no such add-on")]
    AddOnNotFound { add_on_id: String, plan_id: String },
    #[error("no such invoice")]
    InvoiceNotFound { invoice_id: String },
    #[error("no such payment method")]
    PaymentMethodNotFound { payment_method_id: String },
    #[error("no such meter")]
    MeterNotFound { meter: String },
    #[error("the payment was recorded")]
    PaymentReferenceUsed { reference: String, invoice_id: Uuid },
    #[error("the report was counted otherwise")]
    UsageReportReused { report_id: String },
    #[error("the subscription ends with its period")]
    SubscriptionEnding { end_time: DateTime<Utc> },
    #[error("the subscription has ended")]
    SubscriptionEnded,
    #[error("billed in another currency")]
    CurrencyFixed { currency_code: String },
    #[error("more than can be charged")]
    AmountTooLarge,
    #[error("the invoice is in another state")]
    InvoiceNotOpen { invoice_id: Uuid, state: &'static str },
    #[error("a part of the invoice is paid")]
    InvoicePartlyPaid { invoice_id: Uuid },
    #[error("more than is due")]
    PaymentExceedsDue { due_minor: i64, amount_minor: i64 },
    #[error("the invoice is in another currency")]
    CurrencyMismatch { currency_code: String },
    #[error("more than the invoice came to")]
    CreditExceedsInvoice { creditable_minor: i64 },
    #[error("no payment methods are kept")]
    PaymentMethodsNotOffered,
    #[error("the payment method was refused")]
    PaymentMethodRefused { code: String },
    #[error("invoices are paid by the payment method")]
    PaymentMethodIsDefault,
    #[error("the payment provider does not answer")]
    ProviderUnavailable,
}

impl Billing {
    /// What it is about: the kind of thing, and which; nothing where it is about no single thing.
    pub(super) fn resource(&self) -> (&'static str, String) {
        match self {
            Self::PlanNotFound { plan_id } => ("plan", plan_id.clone()),
            Self::AddOnNotFound { add_on_id, .. } => ("add_on", add_on_id.clone()),
            Self::InvoiceNotFound { invoice_id } => ("invoice", invoice_id.clone()),
            Self::PaymentMethodNotFound { payment_method_id } => ("payment_method", payment_method_id.clone()),
            Self::MeterNotFound { meter } => ("meter", meter.clone()),
            Self::PaymentReferenceUsed { reference, .. } => ("payment", reference.clone()),
            Self::UsageReportReused { report_id } => ("usage_report", report_id.clone()),
            _ => ("", String::new()),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one row for each refusal, all of them in one place")]
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::PlanNotFound { plan_id } => Refusal::new(
                C::NotFound,
                R::PlanNotFound,
                "the plan catalogue has no such plan, or no such price of it".to_owned(),
            )
            .with("plan_id", plan_id),
            Self::AddOnNotFound { add_on_id, plan_id } => Refusal::new(
                C::NotFound,
                R::AddOnNotFound,
                format!("the plan {plan_id} has no such add-on, or it has no price in the currency and period"),
            )
            .with("add_on_id", add_on_id)
            .with("plan_id", plan_id),
            Self::InvoiceNotFound { invoice_id } => Refusal::new(
                C::NotFound,
                R::InvoiceNotFound,
                "the organization has no such invoice, or the invoice has not what was asked for".to_owned(),
            )
            .with("invoice_id", invoice_id),
            Self::PaymentMethodNotFound { payment_method_id } => Refusal::new(
                C::NotFound,
                R::PaymentMethodNotFound,
                "the organization has no such payment method".to_owned(),
            )
            .with("payment_method_id", payment_method_id),
            Self::MeterNotFound { meter } => {
                Refusal::new(C::NotFound, R::MeterNotFound, "the plan catalogue has no such meter".to_owned())
                    .with("meter", meter)
            }
            Self::PaymentReferenceUsed { reference, invoice_id } => Refusal::new(
                C::AlreadyExists,
                R::PaymentReferenceUsed,
                "a payment with this reference was recorded already".to_owned(),
            )
            .with("reference", reference)
            .with("invoice_id", invoice_id),
            Self::UsageReportReused { report_id } => Refusal::new(
                C::AlreadyExists,
                R::UsageReportReused,
                "a report with this id was counted, of another meter, quantity or time; use another id".to_owned(),
            )
            .with("report_id", report_id),
            Self::SubscriptionEnding { end_time } => Refusal::new(
                C::FailedPrecondition,
                R::SubscriptionEnding,
                "the subscription ends with its period; resume it first".to_owned(),
            )
            .with("end_time", end_time.to_rfc3339()),
            Self::SubscriptionEnded => Refusal::new(
                C::FailedPrecondition,
                R::SubscriptionEnded,
                "the subscription has ended; choose a plan to begin anew".to_owned(),
            ),
            Self::CurrencyFixed { currency_code } => Refusal::new(
                C::FailedPrecondition,
                R::CurrencyFixed,
                format!("the organization is billed in {currency_code} and cannot change that"),
            )
            .with("currency_code", currency_code),
            Self::AmountTooLarge => Refusal::new(
                C::FailedPrecondition,
                R::AmountTooLarge,
                "the amount would be larger than can be charged".to_owned(),
            ),
            Self::InvoiceNotOpen { invoice_id, state } => {
                Refusal::new(C::FailedPrecondition, R::InvoiceNotOpen, format!("the invoice is in the state {state}"))
                    .with("invoice_id", invoice_id)
                    .with("state", state)
            }
            Self::InvoicePartlyPaid { invoice_id } => Refusal::new(
                C::FailedPrecondition,
                R::InvoicePartlyPaid,
                "a part of the invoice is paid or was given back; correct it by a credit note".to_owned(),
            )
            .with("invoice_id", invoice_id),
            Self::PaymentExceedsDue { due_minor, amount_minor } => Refusal::new(
                C::FailedPrecondition,
                R::PaymentExceedsDue,
                format!("{amount_minor} was paid, and {due_minor} is due; record what is due, and give the rest back"),
            )
            .with("due_minor", due_minor)
            .with("amount_minor", amount_minor),
            Self::CurrencyMismatch { currency_code } => {
                Refusal::new(C::FailedPrecondition, R::CurrencyMismatch, format!("the invoice is in {currency_code}"))
                    .with("currency_code", currency_code)
            }
            Self::CreditExceedsInvoice { creditable_minor } => Refusal::new(
                C::FailedPrecondition,
                R::CreditExceedsInvoice,
                format!("at most {creditable_minor} of the invoice can still be credited"),
            )
            .with("creditable_minor", creditable_minor),
            Self::PaymentMethodsNotOffered => Refusal::new(
                C::FailedPrecondition,
                R::PaymentMethodsNotOffered,
                "the payment provider of this deployment keeps no payment methods; payments are recorded by a service"
                    .to_owned(),
            ),
            Self::PaymentMethodRefused { code } => Refusal::new(
                C::FailedPrecondition,
                R::PaymentMethodRefused,
                "the payment provider refused the payment method; try another".to_owned(),
            )
            .with("code", code),
            Self::PaymentMethodIsDefault => Refusal::new(
                C::FailedPrecondition,
                R::PaymentMethodIsDefault,
                "invoices are paid by this payment method; choose another one first".to_owned(),
            ),
            Self::ProviderUnavailable => Refusal::new(
                C::Unavailable,
                R::ProviderUnavailable,
                "the payment provider did not answer; try again with the same request_id".to_owned(),
            ),
        }
    }
}
