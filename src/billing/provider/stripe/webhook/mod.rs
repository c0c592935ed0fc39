//! Events that Stripe sends, and the proof that Stripe sent them.
//!
//! Source: <https://docs.stripe.com/webhooks#verify-manually>.

use chrono::{DateTime, TimeDelta, Utc};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::amount::minor_amount;
use super::decline::Decline;
use super::wire;
use crate::billing::money::Currency;
use crate::billing::provider::Card;

/// The signing secret of a webhook endpoint, `whsec_…`.
pub type Secret = SecretString;

/// How far the time of a signature may be from ours; what Stripe's own libraries take.
pub const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Why what came is no event of Stripe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The header is not `t=…,v1=…`.
    #[error("the signature cannot be read")]
    Header,
    /// No secret made any of the signatures over this payload.
    #[error("the signature does not hold")]
    Signature,
    /// It was signed too long ago, as a recording of an earlier event is.
    #[error("the signature is too old")]
    TooOld,
    /// It is signed for a time to come: one of the clocks is wrong.
    #[error("the signature is from the future")]
    TooNew,
    /// It is signed, and no event as we know them.
    #[error("the event cannot be read")]
    Payload,
}

/// Something that happened at Stripe.
///
/// Stripe may send it more than once, and events in any order (<https://docs.stripe.com/webhooks#best-practices>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The same each time that it is sent.
    pub id: String,
    /// When it happened.
    pub created: DateTime<Utc>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened at Stripe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// An amount was collected.
    PaymentSucceeded(Payment),
    /// An amount could not be collected, or was cancelled. It may succeed later only if somebody tries it again at Stripe.
    PaymentFailed {
        /// What was to be collected.
        payment: Payment,
        /// Why not, as a word of Stripe's.
        code: String,
        /// Why not, for the customer to read.
        message: String,
        /// Whether another try with the same payment method is pointless.
        hard: bool,
    },
    /// A payment method was detached.
    PaymentMethodRemoved {
        /// The method's [`Card::reference`].
        reference: String,
    },
    /// A payment method has changed: its network told of a new card, for example.
    PaymentMethodUpdated(Card),
    /// Nothing that matters here, by Stripe's name for it.
    Other(String),
}

/// What an event about a payment says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Stripe's name for the collection.
    pub reference: String,
    /// The payment; none if it was made by somebody else who uses the account.
    pub payment_id: Option<Uuid>,
    /// How much was collected or, of one that failed, was to be, in minor units.
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
}

/// Reads an event after having proved that somebody signed it who has one of the `secrets`: several, while one is replaced by
/// another.
///
/// `payload` is the body as it came, byte by byte, and `header` is `Stripe-Signature`.
///
/// # Errors
///
/// When there is no such proof, its time is further from `now` than `tolerance`, or what was signed is no event.
pub fn verify(
    payload: &[u8],
    header: &str,
    secrets: &[Secret],
    now: DateTime<Utc>,
    tolerance: TimeDelta,
) -> Result<Event, WebhookError> {
    let (time, signatures) = parts(header)?;
    let signed = |secret: &Secret| {
        let signature = signature(secret, time, payload);
        signatures.iter().any(|given| bool::from(signature.as_bytes().ct_eq(given.as_bytes())))
    };
    // Anybody can sign with no secret at all.
    let mut secrets = secrets.iter().filter(|secret| !secret.expose_secret().is_empty());
    if !secrets.any(signed) {
        return Err(WebhookError::Signature);
    }
    let time = time.parse().ok().and_then(|time| DateTime::from_timestamp(time, 0)).ok_or(WebhookError::Header)?;
    if now.signed_duration_since(time) > tolerance {
        return Err(WebhookError::TooOld);
    }
    if time.signed_duration_since(now) > tolerance {
        return Err(WebhookError::TooNew);
    }
    read(payload).ok_or(WebhookError::Payload)
}

/// The time as it is written, which is what was signed, and the signatures. Those of other schemes than `v1` count for nothing.
fn parts(header: &str) -> Result<(&str, Vec<&str>), WebhookError> {
    let (mut times, mut signatures) = (Vec::new(), Vec::new());
    for part in header.split(',') {
        match part.split_once('=').ok_or(WebhookError::Header)? {
            ("t", time) => times.push(time),
            ("v1", signature) => signatures.push(signature),
            _ => {}
        }
    }
    match times[..] {
        [time] if !signatures.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()) => Ok((time, signatures)),
        _ => Err(WebhookError::Header),
    }
}

/// As the header has it: in hexadecimal digits, small letters.
fn signature(secret: &Secret, time: &str, payload: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()));
    context.update(time.as_bytes());
    context.update(b".");
    context.update(payload);
    let digits = b"0123456789abcdef";
    let tag = context.sign();
    tag.as_ref()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15].map(|half| char::from(digits[usize::from(half)])))
        .collect()
}

fn read(payload: &[u8]) -> Option<Event> {
    let event: wire::Event = serde_json::from_slice(payload).ok()?;
    let created = DateTime::from_timestamp(event.created, 0)?;
    Some(Event { id: event.id, created, kind: kind(event.kind, event.data.object)? })
}

fn kind(name: String, object: Value) -> Option<EventKind> {
    let kind = match name.as_str() {
        "payment_intent.succeeded" => payment(object)?.0.map(EventKind::PaymentSucceeded),
        "payment_intent.payment_failed" | "payment_intent.canceled" => {
            let (payment, tried) = payment(object)?;
            let decline = if name == "payment_intent.canceled" { Decline::canceled() } else { tried };
            let Decline { code, message, hard } = decline;
            payment.map(|payment| EventKind::PaymentFailed { payment, code, message, hard })
        }
        "payment_method.detached" => Some(EventKind::PaymentMethodRemoved { reference: method(object)?.reference }),
        "payment_method.updated" | "payment_method.automatically_updated" => {
            Some(EventKind::PaymentMethodUpdated(method(object)?))
        }
        _ => None,
    };
    Some(kind.unwrap_or(EventKind::Other(name)))
}

/// The payment, unless it is in a currency that we never charge, and why it was declined if it was.
fn payment(object: Value) -> Option<(Option<Payment>, Decline)> {
    let intent: wire::Intent = serde_json::from_value(object).ok()?;
    let decline = Decline::of_error(intent.last_payment_error.as_deref());
    let payment_id = intent.payment_id();
    // Nothing is received of what failed.
    let amount = intent.amount_received.filter(|received| *received > 0).unwrap_or(intent.amount);
    let currency = Currency::parse(&intent.currency.to_ascii_uppercase());
    let payment = currency.and_then(|currency| {
        let amount_minor = minor_amount(currency, amount)?;
        Some(Payment { reference: intent.id, payment_id, amount_minor, currency })
    });
    Some((payment, decline))
}

fn method(object: Value) -> Option<Card> {
    serde_json::from_value::<wire::PaymentMethod>(object).ok().map(Card::from)
}

#[cfg(test)]
mod tests;
