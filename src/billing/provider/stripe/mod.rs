//! Stripe: customers, payment methods and PaymentIntents. Its subscriptions and invoices are not used.

pub(in crate::billing::provider) mod amount;
mod call;
mod decline;
pub mod webhook;
mod wire;

use std::time::Duration;

use secrecy::SecretString;
use uuid::Uuid;

use super::{Card, Charge, Collected, Customer, ProviderError};
use crate::http_client::TlsError;
use call::{Caller, Failure};
use decline::Decline;

pub use amount::{AmountFault, stripe_amount};

/// How many intents one page has; Stripe gives no more.
const PAGE: &str = "100";

/// How many pages are read in search of a payment: nobody has so many payments that are worth asking for.
const PAGES: usize = 20;

/// How Stripe is called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The secret key, `sk_…`, or a restricted one, `rk_…`, that may write customers, payment methods and PaymentIntents.
    pub secret_key: SecretString,
    /// Where the API is; without TLS on a loopback address only.
    pub base_url: String,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a call may take in all.
    pub timeout: Duration,
}

impl Settings {
    /// Stripe itself, with 5 seconds for a connection and 20 for a call.
    #[must_use]
    pub fn new(secret_key: SecretString) -> Self {
        Self {
            secret_key,
            base_url: "https://api.stripe.com".into(),
            connect_timeout: call::CONNECT_TIMEOUT,
            timeout: call::TIMEOUT,
        }
    }
}

/// Why Stripe cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The address is none.
    #[error("the address of Stripe's API must be https://HOST[:PORT]")]
    Url,
    /// The key would go over a network in plain.
    #[error("Stripe's API is called without TLS on a loopback address only")]
    Plain,
    /// The key is none.
    #[error("Stripe's secret key must begin with sk_ or rk_")]
    Key,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// A client of Stripe's API. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Stripe(Caller);

impl Stripe {
    /// A client; nothing is called yet.
    ///
    /// # Errors
    ///
    /// When the settings are not sound.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        Caller::new(settings).map(Self)
    }

    pub(super) async fn ensure_customer(&self, wanted: &Customer<'_>) -> Result<String, ProviderError> {
        let customer = match self.known_customer(wanted).await? {
            Some(customer) => customer,
            None => self.new_customer(wanted).await?,
        };
        if customer.name.as_deref() != Some(wanted.name) || customer.email.as_deref() != Some(wanted.email) {
            let form = [("name", wanted.name), ("email", wanted.email)];
            // A key of its own each time: back to an earlier name is not the earlier call. Doing it twice does no harm.
            let key = crate::id::new(crate::clock::Clock::System.now());
            self.0.post::<wire::Customer>(&key.to_string(), &["customers", &customer.id], &form).await?;
        }
        Ok(customer.id)
    }

    async fn known_customer(&self, wanted: &Customer<'_>) -> Result<Option<wire::Customer>, ProviderError> {
        let Some(known) = wanted.known else { return Ok(None) };
        match self.0.get::<wire::Customer>(&["customers", known], &[]).await {
            Ok(customer) => Ok(Some(customer).filter(|customer| !customer.deleted)),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Nothing in the form may change between two tries, which a name does: it follows in a call of its own.
    async fn new_customer(&self, wanted: &Customer<'_>) -> Result<wire::Customer, ProviderError> {
        let organization = wanted.organization_id.to_string();
        // A customer in place of one that was deleted is another one, and has another key.
        let after = wanted.known.unwrap_or("none");
        let key = Uuid::new_v5(&wanted.organization_id, format!("stripe customer after {after}").as_bytes());
        let form = [("metadata[organization_id]", organization.as_str())];
        Ok(self.0.post(&key.to_string(), &["customers"], &form).await?)
    }

    pub(super) async fn add_payment_method(
        &self,
        key: Uuid,
        customer: &str,
        token: &str,
    ) -> Result<Card, ProviderError> {
        let path = ["payment_methods", token, "attach"];
        let method: wire::PaymentMethod = self.0.post(&key.to_string(), &path, &[("customer", customer)]).await?;
        Ok(method.into())
    }

    pub(super) async fn remove_payment_method(&self, key: Uuid, reference: &str) -> Result<(), ProviderError> {
        let path = ["payment_methods", reference, "detach"];
        let refused = match self.0.post::<wire::PaymentMethod>(&key.to_string(), &path, &[]).await {
            Ok(_) => return Ok(()),
            Err(failure @ Failure::Lost { .. }) => return Err(failure.into()),
            Err(refused) => refused,
        };
        // Stripe refuses to detach what is not attached: what the method is now tells that from any other refusal.
        match self.0.get::<wire::PaymentMethod>(&["payment_methods", reference], &[]).await {
            Ok(method) if method.customer.is_none() => Ok(()),
            Ok(_) => Err(refused.into()),
            Err(failure) if failure.is_missing() => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) async fn collect(&self, charge: &Charge<'_>) -> Collected {
        let amount = match stripe_amount(charge.currency, charge.amount_minor) {
            Ok(amount) => amount.to_string(),
            Err(fault) => {
                return Decline { code: "amount_not_collectable".into(), message: fault.to_string(), hard: true }
                    .of(None);
            }
        };
        let currency = charge.currency.code().to_ascii_lowercase();
        let [organization, invoice, payment] =
            [charge.organization_id, charge.invoice_id, charge.payment_id].map(|id| id.to_string());
        let form = [
            ("amount", amount.as_str()),
            ("currency", &currency),
            ("customer", charge.customer),
            ("payment_method", charge.payment_method),
            // Without it the account's settings say what is accepted, and methods that redirect want an address to return to.
            ("payment_method_types[]", charge.payment_method_kind),
            ("off_session", "true"),
            ("confirm", "true"),
            ("metadata[organization_id]", &organization),
            ("metadata[invoice_id]", &invoice),
            ("metadata[invoice_number]", charge.invoice_number),
            ("metadata[payment_id]", &payment),
        ];
        match self.0.post::<wire::Intent>(&payment, &["payment_intents"], &form).await {
            Ok(intent) => intent.outcome(),
            Err(Failure::Lost { why }) => Collected::Unknown { why },
            Err(Failure::Refused { status, mut error }) => {
                let reference = error.payment_intent.take().map(|intent| intent.id);
                let decline = if status == 402 { Decline::of_error(Some(&error)) } else { Decline::of_request(&error) };
                decline.of(reference)
            }
        }
    }

    pub(super) async fn look_up(&self, reference: &str) -> Result<Collected, ProviderError> {
        let intent: wire::Intent = self.0.get(&["payment_intents", reference], &[]).await?;
        Ok(intent.outcome())
    }

    /// By a list and not by a search, which does not have what was made a moment ago
    /// (<https://docs.stripe.com/search#data-freshness>).
    pub(super) async fn find(&self, customer: &str, payment_id: Uuid) -> Result<Option<Collected>, ProviderError> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..PAGES {
            let mut parameters = vec![("customer", customer), ("limit", PAGE)];
            parameters.extend(after.as_deref().map(|id| ("starting_after", id)));
            let page: wire::Page<wire::Intent> = self.0.get(&["payment_intents"], &parameters).await?;
            after = page.data.last().map(|intent| intent.id.clone());
            let is_its = |intent: &wire::Intent| intent.payment_id() == Some(payment_id);
            found.extend(page.data.into_iter().filter(is_its).map(wire::Intent::outcome));
            if !page.has_more || after.is_none() {
                // There is more than one only if a key was sent again after Stripe forgot it: money that was taken counts.
                return Ok(found.into_iter().min_by_key(|outcome| match outcome {
                    Collected::Succeeded { .. } => 0,
                    Collected::Processing { .. } => 1,
                    Collected::Unknown { .. } => 2,
                    Collected::Declined { .. } => 3,
                }));
            }
        }
        Err(ProviderError::Unavailable { why: format!("{customer} has more payments than are searched") })
    }
}
