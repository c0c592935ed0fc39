//! The Stripe client against localstripe, over HTTP: customers, payment methods, payments.

mod faults;
mod webhooks;

use std::net::SocketAddr;
use std::time::Duration;

use tenantry::billing::money::Currency;
use tenantry::billing::provider::stripe::{Settings, Stripe};
use tenantry::billing::provider::{Card, Charge, Collected, Customer, Provider, ProviderError};
use uuid::Uuid;

use crate::harness::localstripe::{self, Localstripe};
use crate::harness::stripe_proxy::StripeProxy;

/// What every card is good for.
const GOOD: &str = "4242424242424242";
/// Attaching it is declined.
const UNWANTED: &str = "4000000000000002";
/// It can be attached, and charging it is declined.
const EMPTY: &str = "4000000000000341";
/// Its bank wants to see the customer.
const GUARDED: &str = "4000002500003155";

fn new_id() -> Uuid {
    Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext))
}

/// Our client as it is in production but for the address and how long it waits.
fn client(address: SocketAddr, timeout: Duration) -> Provider {
    let mut settings = Settings::new("sk_test_hidden".to_owned().into());
    settings.base_url = format!("http://{address}");
    settings.timeout = timeout;
    Provider::Stripe(Stripe::new(&settings).unwrap())
}

/// An organization with a customer, and a client that speaks to the fake through the proxy.
struct Bench {
    fake: &'static Localstripe,
    proxy: StripeProxy,
    provider: Provider,
    organization_id: Uuid,
    customer: String,
}

impl Bench {
    async fn new() -> Self {
        let fake = localstripe::shared();
        let proxy = StripeProxy::start(fake.address).await;
        let provider = client(proxy.address, Duration::from_secs(30));
        let organization_id = new_id();
        let mut bench = Self { fake, proxy, provider, organization_id, customer: String::new() };
        bench.customer = bench.ensure("Acme", None).await.unwrap();
        bench
    }

    async fn ensure(&self, name: &str, known: Option<&str>) -> Result<String, ProviderError> {
        let organization_id = self.organization_id;
        let customer = Customer { organization_id, name, email: "billing@example.com", known };
        self.provider.ensure_customer(&customer).await
    }

    async fn attach(&self, token: &str) -> Result<Card, ProviderError> {
        self.provider.add_payment_method(new_id(), &self.customer, token).await
    }

    async fn card(&self, number: &str) -> Card {
        self.attach(&self.fake.card(number).await).await.unwrap()
    }

    fn charge<'a>(&'a self, payment_id: Uuid, card: &'a Card) -> Charge<'a> {
        Charge {
            payment_id,
            organization_id: self.organization_id,
            invoice_id: self.organization_id,
            invoice_number: "ACME-0001",
            amount_minor: 12_345,
            currency: Currency::parse("EUR").unwrap(),
            customer: &self.customer,
            payment_method: &card.reference,
            payment_method_kind: &card.kind,
        }
    }
}

fn declined(collected: &Collected) -> (&str, bool) {
    let Collected::Declined { code, hard, message, .. } = collected else { panic!("{collected:?}") };
    assert!(!message.is_empty());
    (code, *hard)
}

#[tokio::test]
async fn an_organization_has_one_customer_however_often_it_is_asked_for() {
    let bench = Bench::new().await;
    assert_eq!(bench.ensure("Acme", None).await.as_ref(), Ok(&bench.customer));
    // A name that has changed between two tries is no other customer.
    assert_eq!(bench.ensure("Acme & Co", None).await.as_ref(), Ok(&bench.customer));
    assert_eq!(bench.ensure("Acme & Co", Some(&bench.customer)).await.as_ref(), Ok(&bench.customer));
    let customers = bench.fake.customers(bench.organization_id).await;
    assert_eq!(customers.len(), 1);
    assert_eq!(customers[0]["name"], "Acme & Co");
    assert_eq!(customers[0]["email"], "billing@example.com");

    // What is as it should be is not written again, and an earlier name is.
    let before = bench.proxy.asked().len();
    bench.ensure("Acme & Co", Some(&bench.customer)).await.unwrap();
    assert_eq!(bench.proxy.asked()[before..], [format!("GET /v1/customers/{}", bench.customer)]);
    bench.ensure("Acme", Some(&bench.customer)).await.unwrap();
    assert_eq!(bench.fake.customers(bench.organization_id).await[0]["name"], "Acme");
}

#[tokio::test]
async fn a_customer_that_was_deleted_is_replaced_once() {
    let bench = Bench::new().await;
    bench.fake.ask("DELETE", &format!("/v1/customers/{}", bench.customer), "").await;
    let new = bench.ensure("Acme", Some(&bench.customer)).await.unwrap();
    assert_ne!(new, bench.customer);
    assert_eq!(bench.ensure("Acme", Some(&bench.customer)).await, Ok(new.clone()));
    assert_eq!(bench.ensure("Acme", Some(&new)).await, Ok(new));
    assert_eq!(bench.fake.customers(bench.organization_id).await.len(), 1);
}

#[tokio::test]
async fn a_card_that_is_attached_says_what_may_be_shown_of_it() {
    let bench = Bench::new().await;
    let token = bench.fake.card(GOOD).await;
    let card = bench.attach(&token).await.unwrap();
    let expected = Card {
        reference: token.clone(),
        kind: "card".into(),
        brand: Some("visa".into()),
        last4: Some("4242".into()),
        expiry_month: Some(11),
        expiry_year: Some(2031),
    };
    assert_eq!(card, expected);
    assert_eq!(bench.fake.ask("GET", &format!("/v1/payment_methods/{token}"), "").await["customer"], bench.customer);

    // Stripe's own tokens for tests stand for a new method each time.
    assert_ne!(bench.attach("pm_card_visa").await.unwrap().reference, "pm_card_visa");

    let debit = bench.attach(&bench.fake.debit("DE89370400440532013000").await).await.unwrap();
    assert_eq!((debit.kind.as_str(), debit.brand, debit.last4.as_deref()), ("sepa_debit", None, Some("3000")));
    assert_eq!(debit.expiry_year, None);
}

#[tokio::test]
async fn a_method_that_cannot_be_attached_is_refused() {
    let bench = Bench::new().await;
    let refused = |outcome| match outcome {
        Err(ProviderError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(bench.attach(&bench.fake.card(UNWANTED).await).await), "card_declined");
    assert_eq!(refused(bench.attach("pm_nobody_made").await), "http_404");
    let before = bench.proxy.asked().len();
    assert_eq!(refused(bench.attach("../customers").await), "resource_missing");
    assert_eq!(bench.proxy.asked().len(), before, "nothing is asked of what is no id");
}

#[tokio::test]
async fn a_method_is_removed_however_often() {
    let bench = Bench::new().await;
    let card = bench.card(GOOD).await;
    let key = new_id();
    for _ in 0..2 {
        assert_eq!(bench.provider.remove_payment_method(key, &card.reference).await, Ok(()));
    }
    assert_eq!(bench.provider.remove_payment_method(new_id(), &card.reference).await, Ok(()));
    let path = format!("/v1/payment_methods/{}", card.reference);
    assert_eq!(bench.fake.ask("GET", &path, "").await["customer"], serde_json::Value::Null);

    bench.fake.ask("DELETE", &path, "").await;
    assert_eq!(bench.provider.remove_payment_method(new_id(), &card.reference).await, Ok(()));
    let refused = bench.proxy.asked().ends_with(&[format!("POST {path}/detach"), format!("GET {path}")]);
    assert!(refused, "what Stripe refuses to detach is looked at: {:?}", bench.proxy.asked());
}

#[tokio::test]
async fn a_payment_is_collected_with_what_it_is_for() {
    let bench = Bench::new().await;
    let (card, payment_id) = (bench.card(GOOD).await, new_id());
    let collected = bench.provider.collect(&bench.charge(payment_id, &card)).await;
    let Collected::Succeeded { reference } = &collected else { panic!("{collected:?}") };
    let intents = bench.fake.intents(payment_id).await;
    let [intent] = &intents[..] else { panic!("{intents:?}") };
    assert_eq!(intent["id"], reference.as_str());
    assert_eq!((&intent["amount"], &intent["currency"]), (&12_345.into(), &"eur".into()));
    assert_eq!((&intent["customer"], &intent["status"]), (&bench.customer.as_str().into(), &"succeeded".into()));
    assert_eq!(intent["metadata"]["organization_id"], bench.organization_id.to_string());
    assert_eq!(intent["metadata"]["invoice_id"], bench.organization_id.to_string());
    assert_eq!(intent["metadata"]["invoice_number"], "ACME-0001");
    assert_eq!(bench.provider.look_up(reference).await, Ok(collected.clone()));
    assert_eq!(bench.proxy.keys().last(), Some(&payment_id.to_string()));

    // Stripe counts these in hundredths, and this is whole.
    let payment_id = new_id();
    let mut charge = bench.charge(payment_id, &card);
    charge.currency = Currency::parse("ISK").unwrap();
    assert!(matches!(bench.provider.collect(&charge).await, Collected::Succeeded { .. }));
    assert_eq!(bench.fake.intents(payment_id).await[0]["amount"], 1_234_500);
}

#[tokio::test]
async fn a_payment_that_is_declined_says_why() {
    let bench = Bench::new().await;
    for (number, code) in [(EMPTY, "card_declined"), (GUARDED, "authentication_required")] {
        let (card, payment_id) = (bench.card(number).await, new_id());
        let charge = bench.charge(payment_id, &card);
        let collected = bench.provider.collect(&charge).await;
        assert_eq!(declined(&collected), (code, false));
        // The same outcome, and not another try.
        assert_eq!(bench.provider.collect(&charge).await, collected);
        let found = bench.provider.find(&bench.customer, payment_id).await.unwrap();
        assert_eq!(declined(&found.unwrap()), (code, false));
        assert_eq!(bench.fake.intents(payment_id).await.len(), 1);
    }
}

#[tokio::test]
async fn what_stripe_does_not_even_try_is_declined_for_good() {
    let bench = Bench::new().await;
    let card = bench.card(GOOD).await;
    let unknown = Card { reference: "pm_nobody_made".into(), ..card.clone() };
    assert!(declined(&bench.provider.collect(&bench.charge(new_id(), &unknown)).await).1);
    let before = bench.proxy.asked().len();
    for (code, amount_minor) in [("EUR", 0), ("KWD", 1_001), ("LYD", 1_000)] {
        let mut charge = bench.charge(new_id(), &card);
        (charge.currency, charge.amount_minor) = (Currency::parse(code).unwrap(), amount_minor);
        assert_eq!(declined(&bench.provider.collect(&charge).await), ("amount_not_collectable", true), "{code}");
    }
    assert_eq!(bench.proxy.asked().len(), before);
    let refused = bench.provider.look_up("pi_nobody_made").await;
    assert!(matches!(refused, Err(ProviderError::Refused { .. })), "{refused:?}");
    assert_eq!(bench.provider.find(&bench.customer, new_id()).await, Ok(None));
}
