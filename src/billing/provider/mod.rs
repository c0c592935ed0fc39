//! Who collects the money: nobody (invoices are paid by transfer), or a payment provider.
//!
//! Tenantry makes its invoices itself. A provider holds customers and their payment methods, and collects amounts. An enum
//! stands for it, not a trait: both kinds are known here, and tests run the real client against a fake of the provider.
//!
//! # Repeating
//!
//! Every call that changes something carries a key, and the same key is the same change however often it is sent. A
//! collection whose outcome is not known is repeated with the same payment, for as long as [`Provider::KEYS_LAST`]. After that
//! the provider has forgotten the key and would collect a second time: ask [`Provider::find`] first.

pub mod http;
pub mod stripe;

use chrono::TimeDelta;
use uuid::Uuid;

use super::money::Currency;
use stripe::Stripe;

/// Who collects.
#[derive(Clone, Debug)]
pub enum Provider {
    /// Nobody: payments are told to Tenantry by whoever sees them on the bank account.
    Manual,
    /// Stripe.
    Stripe(Stripe),
}

/// Whom amounts are collected from.
#[derive(Clone, Copy, Debug)]
pub struct Customer<'a> {
    /// The organization; it has one customer.
    pub organization_id: Uuid,
    /// The name that the provider shows and writes to.
    pub name: &'a str,
    /// Where the provider writes to.
    pub email: &'a str,
    /// The customer that was made before.
    pub known: Option<&'a str>,
}

/// A payment method, with what may be shown of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The provider's name for it.
    pub reference: String,
    /// What it is, in the provider's words: `card`, `sepa_debit`.
    pub kind: String,
    /// The network of a card: `visa`.
    pub brand: Option<String>,
    /// The last four characters of its number.
    pub last4: Option<String>,
    /// The last month in which a card is good, 1 to 12.
    pub expiry_month: Option<u32>,
    /// The year of that month, in full.
    pub expiry_year: Option<u32>,
}

/// What amounts can be collected, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grain {
    /// The least.
    pub least_minor: i64,
    /// What they must be multiples of.
    pub step_minor: i64,
}

impl Default for Grain {
    fn default() -> Self {
        Self { least_minor: 1, step_minor: 1 }
    }
}

/// An amount to collect. All of it must be the same when it is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The payment; its id is the key of the call.
    pub payment_id: Uuid,
    /// Whose payment.
    pub organization_id: Uuid,
    /// What is paid.
    pub invoice_id: Uuid,
    /// The number by which people know the invoice.
    pub invoice_number: &'a str,
    /// How much, in minor units of the currency; above zero.
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
    /// The provider's customer.
    pub customer: &'a str,
    /// The payment method's [`Card::reference`].
    pub payment_method: &'a str,
    /// The payment method's [`Card::kind`].
    pub payment_method_kind: &'a str,
}

/// How a collection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collected {
    /// The money is collected.
    Succeeded {
        /// The provider's name for the collection.
        reference: String,
    },
    /// The provider works on it, for days when it is a bank debit, and tells the outcome by an event.
    Processing {
        /// The provider's name for the collection.
        reference: String,
    },
    /// Nothing is collected, and nothing will be under this payment.
    Declined {
        /// The provider's name for the collection, if it began one.
        reference: Option<String>,
        /// Why, as a word of the provider's: `insufficient_funds`.
        code: String,
        /// Why, for the customer to read.
        message: String,
        /// Whether another try with the same payment method is pointless.
        hard: bool,
    },
    /// The money may be collected or not: repeat the call, all of it the same.
    Unknown {
        /// Why, for the log.
        why: String,
    },
}

/// Why a provider did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// There is no provider that could.
    #[error("no payment provider is set up")]
    NotOffered,
    /// It refuses, and will when it is asked again.
    #[error("the payment provider refuses: {message} ({code})")]
    Refused {
        /// Why, as a word of the provider's.
        code: String,
        /// Why, for whoever asked.
        message: String,
    },
    /// It could not be reached, does not know, or refuses for a reason that lies with the operator and not with this call.
    /// What was asked for may be done or not: repeat with the same key.
    #[error("the payment provider is not available: {why}")]
    Unavailable {
        /// Why, for the log.
        why: String,
    },
}

impl Provider {
    /// How long after the first try the same key is still the same change; Stripe keeps keys for 24 hours at least
    /// (<https://docs.stripe.com/api/idempotent_requests>). An hour less, for clocks that differ.
    pub const KEYS_LAST: TimeDelta = TimeDelta::hours(23);

    /// What amounts it collects in a currency.
    #[must_use]
    pub fn grain(&self, currency: Currency) -> Grain {
        match self {
            Self::Manual => Grain::default(),
            Self::Stripe(_) => stripe::amount::grain(currency),
        }
    }

    /// Whether it collects at all.
    #[must_use]
    pub fn collects(&self) -> bool {
        !matches!(self, Self::Manual)
    }

    /// The customer of an organization, made when there is none, with this name and e-mail address.
    ///
    /// However often it is asked for, it is one; only after [`Provider::KEYS_LAST`] without the answer having been kept
    /// there may be another one, which nothing is attached to.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn ensure_customer(&self, customer: &Customer<'_>) -> Result<String, ProviderError> {
        match self {
            Self::Manual => Err(ProviderError::NotOffered),
            Self::Stripe(stripe) => stripe.ensure_customer(customer).await,
        }
    }

    /// Attaches the payment method that a `token` of the provider's form stands for.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; a card that its bank declines is refused.
    pub async fn add_payment_method(&self, key: Uuid, customer: &str, token: &str) -> Result<Card, ProviderError> {
        match self {
            Self::Manual => Err(ProviderError::NotOffered),
            Self::Stripe(stripe) => stripe.add_payment_method(key, customer, token).await,
        }
    }

    /// Detaches a payment method; one that is gone already is as good as removed.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn remove_payment_method(&self, key: Uuid, reference: &str) -> Result<(), ProviderError> {
        match self {
            Self::Manual => Err(ProviderError::NotOffered),
            Self::Stripe(stripe) => stripe.remove_payment_method(key, reference).await,
        }
    }

    /// Collects an amount, without the customer being there.
    pub async fn collect(&self, charge: &Charge<'_>) -> Collected {
        match self {
            Self::Manual => Collected::Declined {
                reference: None,
                code: "not_offered".into(),
                message: ProviderError::NotOffered.to_string(),
                hard: true,
            },
            Self::Stripe(stripe) => stripe.collect(charge).await,
        }
    }

    /// How an earlier collection stands.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; a reference that it does not know is refused.
    pub async fn look_up(&self, reference: &str) -> Result<Collected, ProviderError> {
        match self {
            Self::Manual => Err(ProviderError::NotOffered),
            Self::Stripe(stripe) => stripe.look_up(reference).await,
        }
    }

    /// How the collection of a payment stands, when its reference was never heard; none if it was never begun.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn find(&self, customer: &str, payment_id: Uuid) -> Result<Option<Collected>, ProviderError> {
        match self {
            Self::Manual => Err(ProviderError::NotOffered),
            Self::Stripe(stripe) => stripe.find(customer, payment_id).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_payment_is_manual_nothing_is_collected() {
        let manual = Provider::Manual;
        assert!(!manual.collects());
        let customer = Customer { organization_id: Uuid::nil(), name: "Acme", email: "a@example.com", known: None };
        assert_eq!(manual.ensure_customer(&customer).await, Err(ProviderError::NotOffered));
        assert_eq!(manual.add_payment_method(Uuid::nil(), "c", "t").await, Err(ProviderError::NotOffered));
        assert_eq!(manual.remove_payment_method(Uuid::nil(), "r").await, Err(ProviderError::NotOffered));
        assert_eq!(manual.look_up("r").await, Err(ProviderError::NotOffered));
        assert_eq!(manual.find("c", Uuid::nil()).await, Err(ProviderError::NotOffered));
        let charge = Charge {
            payment_id: Uuid::nil(),
            organization_id: Uuid::nil(),
            invoice_id: Uuid::nil(),
            invoice_number: "1",
            amount_minor: 1,
            currency: Currency::parse("EUR").unwrap(),
            customer: "c",
            payment_method: "r",
            payment_method_kind: "card",
        };
        assert!(matches!(manual.collect(&charge).await, Collected::Declined { hard: true, .. }));
    }
}
