use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: i64 = 1_760_000_000;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn secret(text: &str) -> Secret {
    text.to_owned().into()
}

fn header(secret_text: &str, time: i64, payload: &[u8]) -> String {
    format!("t={time},v1={}", signature(&secret(secret_text), &time.to_string(), payload))
}

fn event(kind: &str, object: &Value) -> Vec<u8> {
    json!({"id": "evt_1", "created": NOW - 5, "type": kind, "data": {"object": object}}).to_string().into_bytes()
}

fn verified(payload: &[u8], header: &str) -> Result<Event, WebhookError> {
    verify(payload, header, &[secret("whsec_new"), secret("whsec_old")], now(), TOLERANCE)
}

/// The kind of an event that is signed as it must be.
fn kind_of(name: &str, object: &Value) -> Result<EventKind, WebhookError> {
    let payload = event(name, object);
    verified(&payload, &header("whsec_new", NOW, &payload)).map(|event| event.kind)
}

#[test]
fn the_signature_is_the_one_that_stripe_makes() {
    // Made with `openssl dgst -sha256 -hmac whsec_test` over `1760000000.{"a":1}`.
    let expected = "f495e119a46eb6023c06ab057f70eee20b42a99ccba7a692b6af681055bfadd9";
    assert_eq!(signature(&secret("whsec_test"), "1760000000", br#"{"a":1}"#), expected);
}

#[test]
fn any_of_the_secrets_and_any_of_the_signatures_will_do() {
    let payload = event("ping", &json!({}));
    for of in ["whsec_new", "whsec_old"] {
        let event = verified(&payload, &header(of, NOW, &payload)).unwrap();
        assert_eq!(event.id, "evt_1");
        assert_eq!(event.created.timestamp(), NOW - 5);
        assert_eq!(event.kind, EventKind::Other("ping".into()));
    }
    let (good, other) = (header("whsec_new", NOW, &payload), signature(&secret("whsec_x"), "1", b""));
    let several = good.replace("v1=", &format!("v1={other},v0={other},v1="));
    assert!(verified(&payload, &several).is_ok());
    assert!(verified(&payload, &format!("{good},v1=short,v2=")).is_ok());
}

#[test]
fn what_nobody_signed_is_refused() {
    let payload = event("ping", &json!({}));
    let good = header("whsec_new", NOW, &payload);
    assert_eq!(verified(&payload, &header("whsec_other", NOW, &payload)), Err(WebhookError::Signature));
    assert_eq!(verified(b"{}", &good), Err(WebhookError::Signature));
    assert_eq!(verified(&payload, &good.replace("v1=", "v0=")), Err(WebhookError::Header));
    assert_eq!(verified(&payload, &good.replace("t=1760000000", "t=1760000001")), Err(WebhookError::Signature));
    for header in ["", "t=1", "v1=", "t=1,v1", &good.replace("t=", "t=+"), &format!("t=1,{good}"), &format!("{good},")]
    {
        assert_eq!(verified(&payload, header), Err(WebhookError::Header), "{header:?}");
    }
    assert_eq!(verify(&payload, &good, &[], now(), TOLERANCE), Err(WebhookError::Signature));
    // An unset secret must not be one that everybody knows.
    let signed_by_nobody = header("", NOW, &payload);
    assert_eq!(verify(&payload, &signed_by_nobody, &[secret("")], now(), TOLERANCE), Err(WebhookError::Signature));
}

#[test]
fn the_time_of_a_signature_is_near_to_ours() {
    let payload = event("ping", &json!({}));
    let at = |offset: i64| verified(&payload, &header("whsec_new", NOW + offset, &payload)).map(|_| ());
    assert_eq!(at(-300), Ok(()));
    assert_eq!(at(300), Ok(()));
    assert_eq!(at(-301), Err(WebhookError::TooOld));
    assert_eq!(at(301), Err(WebhookError::TooNew));
    assert_eq!(at(i64::MAX - NOW), Err(WebhookError::Header));
}

#[test]
fn what_is_signed_and_no_event_is_refused() {
    let text = |payload: &[u8]| verified(payload, &header("whsec_new", NOW, payload));
    for payload in [&b""[..], b"{}", b"\xff", br#"{"id":"evt_1","created":"now","type":"a","data":{"object":{}}}"#] {
        assert_eq!(text(payload), Err(WebhookError::Payload));
    }
    assert_eq!(kind_of("payment_intent.succeeded", &json!({"id": "pi_1"})), Err(WebhookError::Payload));
    assert_eq!(kind_of("payment_method.detached", &json!({"id": "pm_1"})), Err(WebhookError::Payload));
}

#[test]
fn payments_are_read_in_minor_units() {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"payment");
    let intent = |currency: &str, amount: i64, received: i64| {
        json!({"id": "pi_1", "status": "succeeded", "amount": amount, "amount_received": received, "currency": currency,
               "metadata": {"payment_id": id.to_string()},
               "last_payment_error": {"code": "card_declined", "decline_code": "lost_card", "message": "Lost."}})
    };
    let payment = |code: &str, amount_minor: i64| Payment {
        reference: "pi_1".into(),
        payment_id: Some(id),
        amount_minor,
        currency: Currency::parse(code).unwrap(),
    };
    let succeeded = |json: &Value| kind_of("payment_intent.succeeded", json).unwrap();
    assert_eq!(succeeded(&intent("eur", 1_000, 900)), EventKind::PaymentSucceeded(payment("EUR", 900)));
    assert_eq!(succeeded(&intent("isk", 500, 500)), EventKind::PaymentSucceeded(payment("ISK", 5)));
    // Of somebody else who uses the account.
    assert!(matches!(succeeded(&intent("iqd", 500, 500)), EventKind::Other(_)));
    let mut foreign = intent("eur", 1, 1);
    foreign["metadata"] = json!({"payment_id": "of ours"});
    assert!(matches!(succeeded(&foreign), EventKind::PaymentSucceeded(Payment { payment_id: None, .. })));

    let failed = kind_of("payment_intent.payment_failed", &intent("eur", 1_000, 0)).unwrap();
    let (code, message) = ("lost_card".into(), "Lost.".into());
    assert_eq!(failed, EventKind::PaymentFailed { payment: payment("EUR", 1_000), code, message, hard: true });
    let canceled = kind_of("payment_intent.canceled", &intent("eur", 1_000, 0)).unwrap();
    assert!(matches!(canceled, EventKind::PaymentFailed { code, hard: false, .. } if code == "canceled"));
}

#[test]
fn payment_methods_are_read() {
    let method = json!({"id": "pm_1", "type": "card", "customer": null,
                        "card": {"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2030}});
    let removed = kind_of("payment_method.detached", &method).unwrap();
    assert_eq!(removed, EventKind::PaymentMethodRemoved { reference: "pm_1".into() });
    for name in ["payment_method.updated", "payment_method.automatically_updated"] {
        let EventKind::PaymentMethodUpdated(card) = kind_of(name, &method).unwrap() else { panic!("{name}") };
        assert_eq!((card.brand.as_deref(), card.last4.as_deref()), (Some("visa"), Some("4242")));
        assert_eq!((card.expiry_month, card.expiry_year), (Some(12), Some(2030)));
    }
}

proptest! {
    #[test]
    fn no_byte_can_be_another(
        text in "[ -~]{0,64}",
        place in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        in_header in any::<bool>(),
    ) {
        let payload = event("ping", &json!({"text": text}));
        let good = header("whsec_new", NOW, &payload);
        prop_assert!(verified(&payload, &good).is_ok());
        let mut changed = if in_header { good.clone().into_bytes() } else { payload.clone() };
        let place = place.index(changed.len());
        changed[place] ^= flip;
        if in_header {
            if let Ok(changed) = String::from_utf8(changed) {
                prop_assert!(verified(&payload, &changed).is_err(), "{}", changed);
            }
        } else {
            prop_assert!(verified(&changed, &good).is_err());
        }
    }
}
