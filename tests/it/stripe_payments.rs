//! Invoices that Stripe collects: from the payment method to the paid invoice, through whatever happens in between.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use chrono::TimeDelta;
use ring::hmac;
use sea_orm::EntityTrait as _;
use serde_json::json;
use tenantry::billing::provider::Provider;
use tenantry::billing::provider::stripe::{Settings, Stripe};
use tenantry::clock::Clock;
use tenantry::entity::payment_method;
use tenantry::pb::{self, CancellationMode, InvoiceState, PaymentState, SubscriptionStatus};
use tonic::Code;

use crate::harness::billing::{add_on, amounts, billed, moment, plan, seats};
use crate::harness::finance::used;
use crate::harness::localstripe::{self, Localstripe};
use crate::harness::person::{Person, answer};
use crate::harness::plain_http;
use crate::harness::race::{at_once, spread};
use crate::harness::refused::Refused;
use crate::harness::stripe_proxy::{Fault, StripeProxy};
use crate::harness::world::{Setup, WEBHOOK_SECRET, World};
use crate::harness::{Backend, database_tests};

const GOOD: &str = "4242424242424242";
/// It can be attached, and charging it is declined.
const EMPTY: &str = "4000000000000341";
/// Attaching it is declined.
const UNWANTED: &str = "4000000000000002";

/// A world whose servers collect by Stripe, and what stands between them and the fake.
struct Paying {
    world: World,
    fake: &'static Localstripe,
    proxy: StripeProxy,
    ann: Person,
}

impl Paying {
    async fn begin(backend: Backend, servers: usize) -> Self {
        let fake = localstripe::shared();
        let proxy = StripeProxy::start(fake.address).await;
        let mut settings = Settings::new("sk_test_hidden".to_owned().into());
        settings.base_url = format!("http://{}", proxy.address);
        settings.timeout = Duration::from_secs(2);
        let provider = Provider::Stripe(Stripe::new(&settings).unwrap());
        let world = World::with(backend, Setup { servers, provider, ..billed() }).await;
        let ann = world.person("ann").founds("Acme").await;
        Self { world, fake, proxy, ann }
    }

    /// Adds a card, or is refused.
    async fn adds(&self, number: &str, make_default: bool) -> Result<pb::PaymentMethod, Refused> {
        self.adds_token(self.fake.card(number).await, make_default).await
    }

    async fn adds_token(&self, provider_token: String, make_default: bool) -> Result<pb::PaymentMethod, Refused> {
        let organization_id = self.ann.organization_id.clone();
        let request =
            pb::AddPaymentMethodRequest { organization_id, provider_token, make_default, ..Default::default() };
        answer(self.ann.billing().add_payment_method(request).await).map(|added| added.payment_method.unwrap())
    }

    async fn methods(&self) -> Vec<pb::PaymentMethod> {
        let request = pb::ListPaymentMethodsRequest { organization_id: self.ann.organization_id.clone() };
        answer(self.ann.billing().list_payment_methods(request).await).unwrap().payment_methods
    }

    async fn status(&self) -> SubscriptionStatus {
        self.ann.subscription().await.unwrap().status()
    }

    /// How often the provider was asked to collect.
    fn collections(&self) -> usize {
        self.proxy.asked().iter().filter(|asked| *asked == "POST /v1/payment_intents").count()
    }

    /// The intents that the provider made for a payment.
    async fn intents(&self, payment: &pb::Payment) -> usize {
        self.fake.intents(payment.payment_id.parse().unwrap()).await.len()
    }

    /// The provider's name for the only payment method.
    async fn reference(&self) -> String {
        let database = self.world.database().await;
        let found = payment_method::Entity::find().one(&database).await.unwrap();
        database.close().await.unwrap();
        found.unwrap().reference
    }

    fn webhook_address(&self) -> SocketAddr {
        self.world.servers[0].webhook_address.unwrap()
    }

    /// Sends an event about a payment, and gives the status with which it is answered.
    async fn tells(&self, event_id: &str, kind: &str, payment: &pb::Payment, secret: &str, age: i64) -> u16 {
        let object = json!({
                "id": format!("pi_of_{}", payment.payment_id), "object": "payment_intent", "status": if kind.ends_with("succeeded") { "succeeded" } else { "requires_payment_method" },
                "amount": payment.amount_minor, "amount_received": payment.amount_minor, "currency": "eur",
                "metadata": { "payment_id": payment.payment_id },
                "last_payment_error": { "type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds", "message": "No." },
        });
        self.tells_of(event_id, kind, &object, secret, age).await
    }

    /// Sends an event about anything, and gives the status with which it is answered.
    async fn tells_of(&self, event_id: &str, kind: &str, object: &serde_json::Value, secret: &str, age: i64) -> u16 {
        let time = Clock::System.now().timestamp() - age;
        let event =
            json!({ "id": event_id, "object": "event", "created": time, "type": kind, "data": { "object": object } });
        let body = event.to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("{time}.{body}").as_bytes());
        let mut signature = format!("t={time},v1=");
        for byte in tag.as_ref() {
            write!(signature, "{byte:02x}").unwrap();
        }
        let headers = [("stripe-signature", signature.as_str()), ("content-type", "application/json")];
        let address = self.webhook_address();
        plain_http::request(address, "POST", "/webhooks/stripe", &headers, body.as_bytes()).await.status
    }
}

/// A change of the seats that is charged at once.
fn seats_now(number: i64) -> pb::UpdateSubscriptionRequest {
    pb::UpdateSubscriptionRequest { invoicing: pb::ChangeInvoicing::Now.into(), ..seats(number) }
}

database_tests! {
    async fn a_card_pays_what_becomes_due(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let card = paying.adds(GOOD, false).await.unwrap();
        assert_eq!((card.kind.as_str(), card.brand.as_str(), card.last4.as_str(), card.default), ("card", "visa", "4242", true));
        assert_eq!((card.expiry_month, card.expiry_year), (11, 2031));
        paying.ann.changes(plan("team")).await.unwrap();
        let invoice = paying.ann.invoices().await.pop().unwrap();
        assert_eq!((invoice.state(), invoice.payments[0].state()), (InvoiceState::Open, PaymentState::Pending));
        paying.world.sweeps().await;
        let invoice = paying.ann.invoices().await.pop().unwrap();
        assert_eq!((invoice.state(), invoice.paid_minor), (InvoiceState::Paid, 2_000));
        assert_eq!((invoice.payments[0].provider.as_str(), invoice.payments[0].state()), ("stripe", PaymentState::Succeeded));
        assert!(invoice.payments[0].reference.starts_with("pi_"));
        assert_eq!(paying.intents(&invoice.payments[0]).await, 1);
        // And so does every renewal.
        paying.world.passes(TimeDelta::days(31)).await;
        let invoice = paying.ann.invoices().await.pop().unwrap();
        assert_eq!((invoice.number, invoice.state()), (2, InvoiceState::Paid));
        assert_eq!(paying.world.service("billing").drifts().await, []);
        paying.world.end().await;
    }

    async fn a_declined_card_is_tried_again_by_the_ladder_and_another_at_once(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        paying.adds(EMPTY, false).await.unwrap();
        paying.ann.changes(plan("team")).await.unwrap();
        paying.world.sweeps().await;
        assert_eq!(paying.status().await, SubscriptionStatus::PastDue);
        let invoice = paying.ann.invoices().await.pop().unwrap();
        assert_eq!(invoice.payments[0].state(), PaymentState::Failed);
        assert!(!invoice.payments[0].failure.is_empty());
        assert_eq!(paying.ann.changes(seats(9)).await.unwrap_err().reason, "SUBSCRIPTION_PAST_DUE");
        let before = paying.collections();
        paying.world.passes(TimeDelta::days(2) - TimeDelta::microseconds(1)).await;
        assert_eq!(paying.collections(), before);
        paying.world.passes(TimeDelta::microseconds(1)).await;
        assert_eq!(paying.collections(), before + 1);
        paying.world.passes(TimeDelta::days(5)).await;
        assert_eq!(paying.collections(), before + 2);
        // Another card, at once.
        let good = paying.adds(GOOD, true).await.unwrap();
        assert!(good.default);
        paying.world.sweeps().await;
        assert_eq!(paying.status().await, SubscriptionStatus::Active);
        let invoice = paying.ann.invoices().await.pop().unwrap();
        assert_eq!((invoice.state(), invoice.payments.len()), (InvoiceState::Paid, 4));
        paying.world.end().await;
    }

    async fn an_unknown_outcome_is_asked_for_again_and_charged_once(backend: Backend) {
        let mut paying = Paying::begin(backend, 1).await;
        paying.adds(GOOD, false).await.unwrap();
        for fault in [Fault::KeepsSilent, Fault::Resets, Fault::Babbles, Fault::Answers(429)] {
            let ann = paying.world.person("ann").founds("Another").await;
            paying.ann = ann;
            paying.adds(GOOD, false).await.unwrap();
            paying.ann.changes(plan("team")).await.unwrap();
            paying.proxy.faults([fault]);
            paying.world.sweeps().await;
            let invoice = paying.ann.invoices().await.pop().unwrap();
            assert_eq!((invoice.state(), invoice.payments[0].state()), (InvoiceState::Open, PaymentState::Pending), "{fault:?}");
            assert_eq!(paying.status().await, SubscriptionStatus::Active);
            paying.world.passes(TimeDelta::minutes(2)).await;
            let invoice = paying.ann.invoices().await.pop().unwrap();
            assert_eq!((invoice.state(), invoice.payments.len()), (InvoiceState::Paid, 1), "{fault:?}");
            assert_eq!(paying.intents(&invoice.payments[0]).await, 1, "{fault:?}");
        }
        paying.world.end().await;
    }

    async fn when_the_key_may_be_forgotten_the_provider_is_asked_what_it_knows(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        paying.adds(GOOD, false).await.unwrap();
        paying.ann.changes(plan("team")).await.unwrap();
        paying.proxy.faults([Fault::KeepsSilent]);
        paying.world.sweeps().await;
        paying.proxy.forget();
        paying.world.passes(TimeDelta::days(2)).await;
        let invoice = paying.ann.invoices().await.pop().unwrap();
        assert_eq!(invoice.state(), InvoiceState::Paid);
        assert_eq!(paying.intents(&invoice.payments[0]).await, 1);
        paying.world.end().await;
    }

    async fn a_server_that_dies_in_the_middle_leaves_it_to_the_next(backend: Backend) {
        let mut paying = Paying::begin(backend, 1).await;
        paying.adds(GOOD, false).await.unwrap();
        paying.ann.changes(plan("team")).await.unwrap();
        // It has claimed the payment and asked for it when it dies: the claim stands, and nobody has heard the answer.
        paying.proxy.faults([Fault::KeepsSilent]);
        let app = std::sync::Arc::clone(&paying.world.servers[0].app);
        let executed = paying.proxy.asked().len();
        let dying = tokio::spawn(async move { tenantry::billing::collection::collect_some(&app).await.is_ok() });
        paying.proxy.has_executed(executed + 1).await;
        dying.abort();
        if backend == Backend::Postgres {
            paying.world.start_server().await;
        }
        paying.world.sweeps().await;
        assert_eq!(paying.ann.invoices().await[0].state(), InvoiceState::Open);
        paying.world.passes(TimeDelta::minutes(3)).await;
        let invoice = paying.ann.invoices().await.pop().unwrap();
        assert_eq!(invoice.state(), InvoiceState::Paid);
        assert_eq!(paying.intents(&invoice.payments[0]).await, 1);
        paying.world.end().await;
    }

    async fn webhooks_that_are_forged_late_doubled_or_out_of_order_do_no_harm(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        // A bank debit: the outcome comes by an event.
        let token = paying.fake.debit("DE89370400440532013000").await;
        paying.adds_token(token, false).await.unwrap();
        paying.ann.changes(plan("team")).await.unwrap();
        paying.proxy.faults([Fault::Answers(503)]);
        paying.world.sweeps().await;
        let payment = paying.ann.invoices().await[0].payments[0].clone();
        assert_eq!(payment.state(), PaymentState::Pending);
        let succeeded = "payment_intent.succeeded";
        assert_eq!(paying.tells("evt_1", succeeded, &payment, "whsec_of_somebody_else", 0).await, 400);
        assert_eq!(paying.tells("evt_1", succeeded, &payment, WEBHOOK_SECRET, 3_600).await, 400);
        assert_eq!(paying.ann.invoices().await[0].state(), InvoiceState::Open);
        assert_eq!(paying.tells("evt_2", succeeded, &payment, WEBHOOK_SECRET, 0).await, 200);
        let paid = paying.ann.invoices().await.pop().unwrap();
        assert_eq!((paid.state(), paid.payments[0].state()), (InvoiceState::Paid, PaymentState::Succeeded));
        let events = paying.world.events(&paying.ann.organization_id).await.len();
        // The same again, and a failure from before that comes after.
        assert_eq!(paying.tells("evt_2", succeeded, &payment, WEBHOOK_SECRET, 0).await, 200);
        assert_eq!(paying.tells("evt_0", "payment_intent.payment_failed", &payment, WEBHOOK_SECRET, 0).await, 200);
        assert_eq!(paying.ann.invoices().await.pop().unwrap(), paid);
        assert_eq!(paying.world.events(&paying.ann.organization_id).await.len(), events);
        assert_eq!(paying.status().await, SubscriptionStatus::Active);
        // Of a payment that nobody here knows.
        let stranger = pb::Payment { payment_id: "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70".into(), ..payment };
        assert_eq!(paying.tells("evt_3", succeeded, &stranger, WEBHOOK_SECRET, 0).await, 200);
        paying.world.end().await;
    }

    async fn what_is_paid_before_the_provider_was_asked_is_not_asked_for(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let service = paying.world.service("billing");
        paying.adds(GOOD, false).await.unwrap();
        paying.ann.changes(plan("team")).await.unwrap();
        service.pays(&paying.ann.invoices().await[0]).await;
        paying.world.sweeps().await;
        assert_eq!((paying.collections(), paying.ann.subscription().await.unwrap().credit_balance_minor), (0, 0));
        // Of what was paid in part, the rest.
        paying.ann.changes(seats_now(7)).await.unwrap();
        let second = paying.ann.invoices().await.pop().unwrap();
        service.records(&second, PaymentState::Succeeded, 1_500, "bank 2").await.unwrap();
        paying.world.sweeps().await;
        let second = paying.ann.invoices().await.pop().unwrap();
        assert_eq!((second.state(), second.paid_minor), (InvoiceState::Paid, 2_000));
        let mut amounts: Vec<i64> = second.payments.iter().map(|payment| payment.amount_minor).collect();
        amounts.sort_unstable();
        assert_eq!((amounts, paying.collections()), (vec![500, 1_500], 1));
        // Nor is what is void, or given up.
        for number in [8, 9] {
            paying.ann.changes(seats_now(number)).await.unwrap();
            let third = paying.ann.invoices().await.pop().unwrap();
            if number == 8 { service.voids(&third).await } else { service.gives_up(&third).await }.unwrap();
            paying.world.sweeps().await;
            assert_eq!(paying.ann.invoices().await.pop().unwrap().payments, []);
        }
        assert_eq!(paying.collections(), 1);
        assert_eq!(service.drifts().await, []);
        paying.world.end().await;
    }

    async fn money_that_comes_for_what_was_paid_meanwhile_becomes_credit(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        paying.adds(GOOD, false).await.unwrap();
        paying.ann.changes(plan("team")).await.unwrap();
        paying.proxy.faults([Fault::KeepsSilent]);
        paying.world.sweeps().await;
        let invoice = paying.ann.invoices().await.pop().unwrap();
        paying.world.service("billing").pays(&invoice).await;
        paying.world.passes(TimeDelta::minutes(2)).await;
        assert_eq!(paying.ann.subscription().await.unwrap().credit_balance_minor, 2_000);
        assert_eq!(paying.world.service("billing").drifts().await, []);
        paying.world.end().await;
    }

    async fn the_failure_of_a_card_says_nothing_of_the_one_that_took_its_place(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        paying.adds(EMPTY, false).await.unwrap();
        paying.ann.changes(plan("team")).await.unwrap();
        paying.proxy.faults([Fault::KeepsSilent]);
        paying.world.sweeps().await;
        // Nobody knows the outcome yet; then there is another card, and then the first is declined.
        let payment = paying.ann.invoices().await[0].payments[0].clone();
        paying.world.pass(TimeDelta::seconds(1));
        paying.adds(GOOD, true).await.unwrap();
        assert_eq!(paying.tells("evt_1", "payment_intent.payment_failed", &payment, WEBHOOK_SECRET, 0).await, 200);
        paying.world.sweeps().await;
        let invoice = paying.ann.invoices().await.pop().unwrap();
        let states: Vec<PaymentState> = invoice.payments.iter().map(pb::Payment::state).collect();
        assert_eq!((invoice.state(), states), (InvoiceState::Paid, vec![PaymentState::Failed, PaymentState::Succeeded]));
        assert_eq!(paying.status().await, SubscriptionStatus::Active);
        paying.world.end().await;
    }

    async fn money_that_comes_after_its_payment_had_failed_pays(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        paying.adds(EMPTY, false).await.unwrap();
        paying.ann.changes(plan("team")).await.unwrap();
        paying.world.sweeps().await;
        assert_eq!(paying.status().await, SubscriptionStatus::PastDue);
        let failed = paying.ann.invoices().await[0].payments[0].clone();
        assert_eq!(failed.state(), PaymentState::Failed);
        let told = async |event_id: &str, payment: &pb::Payment| {
            assert_eq!(paying.tells(event_id, "payment_intent.succeeded", payment, WEBHOOK_SECRET, 0).await, 200);
            paying.ann.invoices().await.remove(0)
        };
        // A part of it only, as it seems; then another says the same once more.
        let part = told("evt_1", &pb::Payment { amount_minor: 1_900, ..failed.clone() }).await;
        assert_eq!((part.state(), part.due_minor, part.payments[0].state()), (InvoiceState::Open, 100, PaymentState::Succeeded));
        assert_eq!((part.payments[0].amount_minor, part.payments[0].failure.as_str()), (1_900, ""));
        assert_eq!(told("evt_2", &failed).await, part);
        // The rest is paid by another card.
        paying.adds(GOOD, true).await.unwrap();
        paying.world.sweeps().await;
        assert_eq!(paying.ann.invoices().await[0].state(), InvoiceState::Paid);
        assert_eq!(paying.status().await, SubscriptionStatus::Active);
        assert_eq!(paying.world.service("billing").drifts().await, []);
        paying.world.end().await;
    }

    async fn the_last_payment_method_that_there_can_be_is_added_once(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        for _ in 1..10 {
            paying.adds(GOOD, false).await.unwrap();
        }
        let add = async |provider_token: String, request_id: &str| {
            let organization_id = paying.ann.organization_id.clone();
            let request = pb::AddPaymentMethodRequest { organization_id, provider_token, request_id: request_id.into(), ..Default::default() };
            answer(paying.ann.billing().add_payment_method(request).await)
        };
        let (token, request_id) = (paying.fake.card(GOOD).await, "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f01");
        let tenth = add(token.clone(), request_id).await.unwrap();
        // Whoever did not hear the answer hears it, and the next is one too many.
        assert_eq!(add(token, request_id).await.unwrap(), tenth);
        let asked = paying.proxy.asked().len();
        assert_eq!(add(paying.fake.card(GOOD).await, "").await.unwrap_err().reason, "LIMIT_REACHED");
        assert_eq!(paying.proxy.asked().len(), asked);
        assert_eq!(paying.methods().await.len(), 10);
        paying.world.end().await;
    }

    async fn the_same_request_id_in_two_organizations_is_two_calls(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let request_id = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f02";
        let mut references = Vec::new();
        for name in ["ann", "bob"] {
            let person = paying.world.person(name).founds("Acme").await;
            let provider_token = paying.fake.card(GOOD).await;
            let request = pb::AddPaymentMethodRequest { organization_id: person.organization_id.clone(), provider_token, request_id: request_id.into(), ..Default::default() };
            answer(person.billing().add_payment_method(request).await).unwrap();
            person.changes(plan("team")).await.unwrap();
            paying.world.sweeps().await;
            let invoice = person.invoices().await.pop().unwrap();
            assert_eq!(invoice.state(), InvoiceState::Paid);
            references.push(invoice.payments[0].reference.clone());
        }
        assert_ne!(references[0], references[1]);
        paying.world.end().await;
    }

    async fn what_is_too_little_to_be_collected_waits_for_the_next_invoice(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let (ann, service) = (&paying.ann, paying.world.service("billing"));
        paying.adds(GOOD, false).await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        paying.world.sweeps().await;
        // Eight hours before the end of the period a seat costs 0.11, and Stripe takes 0.50 at least.
        paying.world.passes(TimeDelta::days(31) - TimeDelta::hours(8)).await;
        let foreseen = ann.previews(seats_now(6)).await.unwrap().outcome.unwrap();
        let made = ann.changes(seats_now(6)).await.unwrap().outcome.unwrap();
        assert_eq!((foreseen.invoice, made.invoice.as_ref(), made.lines[0].amount_minor), (None, None, 11));
        assert_eq!(foreseen.next_invoice.unwrap().total_minor, 3_011);
        paying.world.sweeps().await;
        assert_eq!((paying.collections(), paying.status().await), (1, SubscriptionStatus::Active));
        paying.world.passes(TimeDelta::hours(8)).await;
        let renewed = ann.invoices().await.pop().unwrap();
        assert_eq!((renewed.state(), renewed.paid_minor), (InvoiceState::Paid, 3_011));
        // Credit leaves enough to be collected: 29.90 of 30.00 would leave 0.10.
        service.corrects(&renewed, 2_990, pb::CreditNoteOutcome::CreditBalance).await.unwrap();
        paying.world.passes(TimeDelta::days(28)).await;
        let next = ann.invoices().await.pop().unwrap();
        assert_eq!((next.state(), next.credit_applied_minor, next.paid_minor), (InvoiceState::Paid, 2_950, 50));
        assert_eq!(ann.subscription().await.unwrap().credit_balance_minor, 40);
        assert_eq!(service.drifts().await, []);
        paying.world.end().await;
    }

    async fn what_is_left_and_too_little_to_be_collected_holds_nobody_up(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let (ann, service) = (&paying.ann, paying.world.service("billing"));
        paying.adds(EMPTY, false).await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        paying.world.sweeps().await;
        assert_eq!(paying.status().await, SubscriptionStatus::PastDue);
        service.records(&ann.invoices().await[0], PaymentState::Succeeded, 1_970, "bank 1").await.unwrap();
        paying.world.passes(TimeDelta::days(2)).await;
        let invoice = ann.invoices().await.remove(0);
        assert_eq!((invoice.state(), invoice.due_minor), (InvoiceState::Uncollectible, 30));
        assert_eq!(paying.status().await, SubscriptionStatus::Active);
        assert_eq!(service.drifts().await, []);
        paying.world.end().await;
    }

    async fn the_last_invoice_is_not_waited_for_if_it_is_too_little(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let (ann, service) = (&paying.ann, paying.world.service("meetings"));
        paying.adds(GOOD, false).await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        ann.changes(add_on("more_minutes", 1)).await.unwrap();
        paying.world.passes(TimeDelta::days(1)).await;
        service.reports(&ann.organization_id, &[used("a", "minutes", 1_010, paying.world.clock.now())]).await.unwrap();
        let last = ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap().invoice.unwrap();
        assert_eq!((last.total_minor, last.state()), (7, InvoiceState::Uncollectible));
        paying.world.passes(TimeDelta::days(30)).await;
        assert_eq!(paying.collections(), 1);
        // It stands in nobody's way.
        ann.changes(plan("team")).await.unwrap();
        paying.world.sweeps().await;
        assert_eq!(ann.invoices().await.pop().unwrap().state(), InvoiceState::Paid);
        assert_eq!(service.drifts().await, []);
        paying.world.end().await;
    }

    async fn of_thousandths_what_cards_cannot_pay_is_carried_over(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let ann = &paying.ann;
        paying.adds(GOOD, false).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { currency_code: "KWD".into(), ..plan("team") }).await.unwrap();
        let first = ann.invoices().await.remove(0);
        // 6.125: five thousandths wait.
        assert_eq!((amounts(&first.lines), first.total_minor), (vec![6_125, -5], 6_120));
        paying.world.passes(TimeDelta::days(16)).await;
        assert_eq!(ann.invoices().await[0].state(), InvoiceState::Paid);
        let second = ann.changes(seats_now(6)).await.unwrap().outcome.unwrap().invoice.unwrap();
        assert_eq!((amounts(&second.lines), second.total_minor), (vec![5, 1_454, -9], 1_450));
        paying.world.sweeps().await;
        assert!(ann.invoices().await.iter().all(|invoice| invoice.state() != InvoiceState::Open));
        paying.world.passes(TimeDelta::days(15)).await;
        let third = ann.invoices().await.into_iter().find(|invoice| invoice.number == 3).unwrap();
        assert_eq!((amounts(&third.lines), third.total_minor, third.state()), (vec![9, 6_125, 3_005, -9], 9_130, InvoiceState::Paid));
        assert_eq!(paying.status().await, SubscriptionStatus::Active);
        assert_eq!(paying.world.service("billing").drifts().await, []);
        paying.world.end().await;
    }

    async fn what_was_carried_over_from_an_invoice_goes_with_it(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let ann = &paying.ann;
        paying.adds(GOOD, false).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { currency_code: "KWD".into(), ..plan("team") }).await.unwrap();
        let invoices = ann.invoices().await;
        assert_eq!((amounts(&invoices[0].lines), amounts(&invoices[1].lines)), (vec![6_125, -5], vec![5]));
        let service = paying.world.service("billing");
        service.voids(&invoices[0]).await.unwrap();
        let left: Vec<InvoiceState> = ann.invoices().await.iter().map(pb::Invoice::state).collect();
        assert_eq!(left, [InvoiceState::Void]);
        assert_eq!(service.drifts().await, []);
        paying.world.end().await;
    }

    async fn what_happens_to_a_payment_method_at_the_provider_happens_here(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        paying.adds(EMPTY, false).await.unwrap();
        paying.ann.changes(plan("team")).await.unwrap();
        paying.world.sweeps().await;
        assert_eq!(paying.status().await, SubscriptionStatus::PastDue);
        let collections = paying.collections();
        let reference = paying.reference().await;
        let card = json!({ "id": reference, "type": "card", "customer": null, "card": { "brand": "mastercard", "last4": "4444", "exp_month": 3, "exp_year": 2040 } });
        assert_eq!(paying.tells_of("evt_1", "payment_method.automatically_updated", &card, WEBHOOK_SECRET, 0).await, 200);
        let method = paying.methods().await.remove(0);
        assert_eq!((method.brand.as_str(), method.last4.as_str(), method.expiry_month, method.expiry_year), ("mastercard", "4444", 3, 2040));
        // The bank has given out another card: it is tried at once. As it is when somebody says again that it is to pay.
        paying.world.sweeps().await;
        assert_eq!(paying.collections(), collections + 1);
        let request = pb::SetDefaultPaymentMethodRequest { organization_id: paying.ann.organization_id.clone(), payment_method_id: method.payment_method_id, ..Default::default() };
        answer(paying.ann.billing().set_default_payment_method(request).await).unwrap();
        paying.world.sweeps().await;
        assert_eq!(paying.collections(), collections + 2);
        // The same event once more, and one about a card that nobody here knows.
        assert_eq!(paying.tells_of("evt_1", "payment_method.automatically_updated", &card, WEBHOOK_SECRET, 0).await, 200);
        let unknown = json!({ "id": "pm_unknown", "type": "card", "customer": null });
        assert_eq!(paying.tells_of("evt_2", "payment_method.detached", &unknown, WEBHOOK_SECRET, 0).await, 200);
        paying.world.sweeps().await;
        assert_eq!((paying.collections(), paying.methods().await.len()), (collections + 2, 1));
        assert_eq!(paying.tells_of("evt_3", "payment_method.detached", &card, WEBHOOK_SECRET, 0).await, 200);
        assert_eq!(paying.methods().await, []);
        assert!(paying.world.events(&paying.ann.organization_id).await.contains(&"payment_method.removed".to_owned()));
        paying.world.end().await;
    }

    async fn what_is_owed_after_the_end_is_asked_for_by_the_ladder(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let ann = &paying.ann;
        paying.adds(EMPTY, false).await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap();
        paying.world.sweeps().await;
        assert_eq!((paying.status().await, paying.collections()), (SubscriptionStatus::Canceled, 1));
        paying.world.passes(TimeDelta::days(2)).await;
        paying.world.passes(TimeDelta::days(5)).await;
        assert_eq!((paying.status().await, paying.collections()), (SubscriptionStatus::Canceled, 3));
        paying.world.passes(TimeDelta::days(60)).await;
        paying.world.passes(TimeDelta::days(60)).await;
        let tried = paying.collections();
        assert!((4..=5).contains(&tried), "{tried}");
        assert_eq!(ann.changes(plan("team")).await.unwrap_err().reason, "SUBSCRIPTION_PAST_DUE");
        paying.adds(GOOD, true).await.unwrap();
        paying.world.sweeps().await;
        ann.changes(plan("team")).await.unwrap();
        paying.world.end().await;
    }

    /// A period and a retry are due, and somebody calls before the worker comes.
    async fn one_payment_is_asked_for_though_two_reasons_come_together(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let ann = &paying.ann;
        paying.adds(EMPTY, false).await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        paying.world.passes(TimeDelta::days(30)).await;
        // Unpaid by now, so that it needs another month that is past due when it ends.
        paying.adds(GOOD, true).await.unwrap();
        paying.world.sweeps().await;
        assert_eq!(paying.status().await, SubscriptionStatus::Active);
        let end = moment(ann.subscription().await.unwrap().current_period_end_time);
        paying.world.passes(end - TimeDelta::days(1) - paying.world.clock.now()).await;
        paying.adds(EMPTY, true).await.unwrap();
        ann.changes(seats_now(9)).await.unwrap();
        paying.world.sweeps().await;
        assert_eq!(paying.status().await, SubscriptionStatus::PastDue);
        paying.world.pass(TimeDelta::days(2));
        ann.cancels(CancellationMode::PeriodEnd).await.unwrap();
        let renewed = ann.invoices().await.pop().unwrap();
        assert_eq!(renewed.payments.len(), 1);
        paying.world.end().await;
    }

    async fn payment_methods_are_kept_and_removed(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        assert_eq!(paying.adds(UNWANTED, false).await.unwrap_err().is(), (Code::FailedPrecondition, "PAYMENT_METHOD_REFUSED"));
        paying.proxy.faults([Fault::Answers(429)]);
        assert_eq!(paying.adds(GOOD, false).await.unwrap_err().is(), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
        let first = paying.adds(GOOD, false).await.unwrap();
        let second = paying.adds(GOOD, false).await.unwrap();
        assert!(first.default && !second.default);
        let organization_id = paying.ann.organization_id.clone();
        let remove = async |id: &str| {
            let request = pb::RemovePaymentMethodRequest { organization_id: organization_id.clone(), payment_method_id: id.into(), ..Default::default() };
            answer(paying.ann.billing().remove_payment_method(request).await)
        };
        assert_eq!(remove(&first.payment_method_id).await.unwrap_err().is(), (Code::FailedPrecondition, "PAYMENT_METHOD_IS_DEFAULT"));
        let request = pb::SetDefaultPaymentMethodRequest { organization_id: organization_id.clone(), payment_method_id: second.payment_method_id.clone(), ..Default::default() };
        assert!(answer(paying.ann.billing().set_default_payment_method(request).await).unwrap().payment_method.unwrap().default);
        remove(&first.payment_method_id).await.unwrap();
        assert_eq!(remove(&first.payment_method_id).await.unwrap_err().is(), (Code::NotFound, "PAYMENT_METHOD_NOT_FOUND"));
        assert_eq!(paying.methods().await.len(), 1);
        for _ in 1..10 {
            paying.adds(GOOD, false).await.unwrap();
        }
        assert_eq!(paying.adds(GOOD, false).await.unwrap_err().reason, "LIMIT_REACHED");
        paying.world.end().await;
    }

    async fn s3_line_18_the_step_of_the_payment_method_is_done_when_there_is_one(backend: Backend) {
        let paying = Paying::begin(backend, 1).await;
        let step = async || {
            let steps = paying.ann.overview().await.unwrap().setup.unwrap().steps;
            steps.into_iter().find(|step| step.kind() == pb::SetupStepKind::PaymentMethod).map(|step| step.done)
        };
        // Nothing is to be paid on the free plan.
        assert_eq!(step().await, None);
        paying.ann.changes(plan("team")).await.unwrap();
        assert_eq!(step().await, Some(false));
        paying.adds(GOOD, false).await.unwrap();
        assert_eq!(step().await, Some(true));
        paying.world.end().await;
    }

    async fn where_payment_is_manual_there_are_no_payment_methods(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        let request = pb::AddPaymentMethodRequest { organization_id: ann.organization_id.clone(), provider_token: "pm_card_visa".into(), ..Default::default() };
        let refused = answer(ann.billing().add_payment_method(request).await).unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "PAYMENT_METHODS_NOT_OFFERED"));
        world.end().await;
    }
}

/// However many servers look for it, a payment is asked for by one at a time, and the money comes once.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_collect_a_payment_once() {
    let paying = Paying::begin(Backend::Postgres, 2).await;
    paying.adds(GOOD, false).await.unwrap();
    for number in 0..5 {
        let ann = spread(&paying.world, &paying.ann, number);
        let wish = if number == 0 { plan("team") } else { seats_now(5 + i64::try_from(number).unwrap()) };
        ann.changes(wish).await.unwrap();
        let sweeps = (0..4).map(|number| {
            let app = std::sync::Arc::clone(&paying.world.servers[number % 2].app);
            async move { tenantry::billing::collection::collect_some(&app).await.unwrap() }
        });
        at_once(sweeps).await;
        paying.world.sweeps().await;
    }
    let invoices = paying.ann.invoices().await;
    assert_eq!(invoices.len(), 5);
    for invoice in &invoices {
        assert_eq!((invoice.state(), invoice.payments.len()), (InvoiceState::Paid, 1));
        assert_eq!(paying.intents(&invoice.payments[0]).await, 1);
    }
    assert_eq!(paying.collections(), 5);
    paying.world.end().await;
}

/// Nine payment methods, and several more at once: one of them is added.
#[tokio::test(flavor = "multi_thread")]
async fn of_payment_methods_added_at_once_no_more_stay_than_there_can_be() {
    let paying = Paying::begin(Backend::Postgres, 2).await;
    for _ in 1..10 {
        paying.adds(GOOD, false).await.unwrap();
    }
    let mut calls = Vec::new();
    for number in 0..4 {
        let (person, provider_token) = (spread(&paying.world, &paying.ann, number), paying.fake.card(GOOD).await);
        calls.push(async move {
            let organization_id = person.organization_id.clone();
            let request = pb::AddPaymentMethodRequest { organization_id, provider_token, ..Default::default() };
            answer(person.billing().add_payment_method(request).await)
        });
    }
    let outcomes = at_once(calls.into_iter()).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(refused.reason, "LIMIT_REACHED");
    }
    assert_eq!(paying.methods().await.len(), 10);
    paying.world.end().await;
}
