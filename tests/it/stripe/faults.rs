//! What must not be collected twice, while everything breaks.

use super::*;
use crate::harness::stripe_proxy::Fault;

/// So short that only an answer that never comes is waited for.
const HASTE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn the_same_payment_is_collected_once() {
    let bench = Bench::new().await;
    let (card, payment_id) = (bench.card(GOOD).await, new_id());
    let charge = bench.charge(payment_id, &card);
    let first = bench.provider.collect(&charge).await;
    assert!(matches!(first, Collected::Succeeded { .. }), "{first:?}");
    assert_eq!(bench.provider.collect(&charge).await, first);
    assert_eq!(bench.fake.intents(payment_id).await.len(), 1);

    // The same payment for another amount is a defect, and nobody's card is to blame.
    let other = Charge { amount_minor: 1, ..charge };
    let collected = bench.provider.collect(&other).await;
    assert!(matches!(collected, Collected::Unknown { .. }), "{collected:?}");
    assert_eq!(bench.fake.intents(payment_id).await.len(), 1);
}

#[tokio::test]
async fn an_outcome_that_was_lost_is_heard_by_the_same_call_and_collected_once() {
    for fault in [Fault::KeepsSilent, Fault::Stalls, Fault::Resets, Fault::Floods, Fault::Babbles] {
        let bench = Bench::new().await;
        let (card, payment_id) = (bench.card(GOOD).await, new_id());
        let charge = bench.charge(payment_id, &card);
        let waits = matches!(fault, Fault::KeepsSilent | Fault::Stalls);
        let before = bench.proxy.asked().len();
        bench.proxy.faults([fault]);
        let lost = if waits {
            client(bench.proxy.address, HASTE).collect(&charge).await
        } else {
            bench.provider.collect(&charge).await
        };
        assert!(matches!(lost, Collected::Unknown { .. }), "{fault:?}: {lost:?}");
        bench.proxy.has_executed(before + 1).await;
        let intents = bench.fake.intents(payment_id).await;
        assert_eq!(intents.len(), 1, "{fault:?}: it was done");

        let heard = bench.provider.collect(&charge).await;
        let reference = intents[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(heard, Collected::Succeeded { reference }, "{fault:?}");
        assert_eq!(bench.fake.intents(payment_id).await.len(), 1, "{fault:?}: and once only");
        let keys = bench.proxy.keys();
        assert_eq!(keys[keys.len() - 2..], [payment_id.to_string(), payment_id.to_string()], "{fault:?}");
    }
}

#[tokio::test]
async fn what_was_refused_for_the_moment_is_collected_by_the_same_call() {
    // 400 and 404 without what Stripe says with them are of somebody on the way.
    for status in [409, 424, 429, 503, 401, 403, 400, 404] {
        let bench = Bench::new().await;
        let (card, payment_id) = (bench.card(GOOD).await, new_id());
        let charge = bench.charge(payment_id, &card);
        bench.proxy.faults([Fault::Answers(status)]);
        let refused = bench.provider.collect(&charge).await;
        let Collected::Unknown { why } = &refused else { panic!("{status}: {refused:?}") };
        assert!(why.contains(&status.to_string()) && why.contains("req_test"), "{why}");
        assert!(bench.fake.intents(payment_id).await.is_empty());
        assert!(matches!(bench.provider.collect(&charge).await, Collected::Succeeded { .. }), "{status}");
        assert_eq!(bench.fake.intents(payment_id).await.len(), 1);
    }
}

#[tokio::test]
async fn a_payment_whose_reference_was_never_heard_is_found() {
    let bench = Bench::new().await;
    let (card, payment_id) = (bench.card(GOOD).await, new_id());
    let charge = bench.charge(payment_id, &card);
    // More than one page of them.
    for _ in 0..4 {
        bench.provider.collect(&bench.charge(new_id(), &card)).await;
    }
    assert_eq!(bench.provider.find(&bench.customer, payment_id).await, Ok(None));
    bench.proxy.faults([Fault::Resets]);
    assert!(matches!(bench.provider.collect(&charge).await, Collected::Unknown { .. }));

    // A day later the same call would be another one.
    bench.proxy.forget();
    let found = bench.provider.find(&bench.customer, payment_id).await.unwrap();
    assert!(matches!(found, Some(Collected::Succeeded { .. })), "{found:?}");
    assert_eq!(bench.provider.find("cus_somebody_else", payment_id).await, Ok(None));
    assert_eq!(bench.fake.intents(payment_id).await.len(), 1);
}

#[tokio::test]
async fn a_500_that_stripe_keeps_for_the_key_stays_unknown_until_it_is_found() {
    let bench = Bench::new().await;
    let (card, payment_id) = (bench.card(GOOD).await, new_id());
    let charge = bench.charge(payment_id, &card);
    bench.proxy.faults([Fault::Answers(500)]);
    for _ in 0..2 {
        assert!(matches!(bench.provider.collect(&charge).await, Collected::Unknown { .. }));
    }
    assert_eq!(bench.provider.find(&bench.customer, payment_id).await, Ok(None));
}

#[tokio::test]
async fn a_customer_whose_making_was_not_heard_of_is_made_once() {
    let bench = Bench::new().await;
    let organization_id = new_id();
    let of_it = |name| Customer { organization_id, name, email: "a@example.com", known: None };
    let before = bench.proxy.asked().len();
    bench.proxy.faults([Fault::KeepsSilent]);
    let lost = client(bench.proxy.address, HASTE).ensure_customer(&of_it("Old")).await;
    assert!(matches!(lost, Err(ProviderError::Unavailable { .. })), "{lost:?}");
    bench.proxy.has_executed(before + 1).await;
    let made = bench.provider.ensure_customer(&of_it("New")).await.unwrap();
    let customers = bench.fake.customers(organization_id).await;
    assert_eq!(customers.len(), 1);
    assert_eq!((&customers[0]["id"], &customers[0]["name"]), (&made.into(), &"New".into()));
}

#[tokio::test]
async fn methods_are_attached_and_removed_by_the_same_call_when_the_first_was_lost() {
    let bench = Bench::new().await;
    let (token, key) = (bench.fake.card(GOOD).await, new_id());
    bench.proxy.faults([Fault::Resets]);
    let attach = || bench.provider.add_payment_method(key, &bench.customer, &token);
    assert!(matches!(attach().await, Err(ProviderError::Unavailable { .. })));
    assert_eq!(attach().await.unwrap().reference, token);
    let key = new_id();
    bench.proxy.faults([Fault::Answers(503)]);
    let remove = || bench.provider.remove_payment_method(key, &token);
    assert!(matches!(remove().await, Err(ProviderError::Unavailable { .. })));
    assert_eq!(remove().await, Ok(()));
}

#[tokio::test]
async fn nobody_listening_is_no_decline() {
    let bench = Bench::new().await;
    let card = bench.card(GOOD).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = client(free, Duration::from_secs(30));
    let collected = nobody.collect(&bench.charge(new_id(), &card)).await;
    let Collected::Unknown { why } = &collected else { panic!("{collected:?}") };
    assert!(!why.contains("http://") && !why.contains("hidden"), "{why}");
    assert!(matches!(nobody.look_up("pi_1").await, Err(ProviderError::Unavailable { .. })));
}
