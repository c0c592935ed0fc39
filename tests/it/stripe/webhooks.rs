//! Events, from the fake to our endpoint over HTTP, and what else may come there.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use ring::hmac;
use tenantry::billing::provider::http::{HandleError, WebhookEndpoint, serve};
use tenantry::billing::provider::stripe::webhook::{Event, EventKind, Payment, TOLERANCE};
use tenantry::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::harness::plain_http::{self, Answer};

const PATH: &str = "/webhooks/stripe";

/// What the handler says of the next events; of all others that they are handled.
type Verdicts = Arc<Mutex<Vec<HandleError>>>;

struct Endpoint {
    address: SocketAddr,
    events: mpsc::UnboundedReceiver<Event>,
    verdicts: Verdicts,
    /// While it is there, the handler waits for a notice.
    hold: Arc<Mutex<Option<Arc<Notify>>>>,
    stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Endpoint {
    async fn start(patience: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let (verdicts, hold) = (Verdicts::default(), Arc::<Mutex<Option<Arc<Notify>>>>::default());
        let handle = {
            let (verdicts, hold) = (Arc::clone(&verdicts), Arc::clone(&hold));
            Arc::new(move |event: Event| {
                let (verdict, pause) = (verdicts.lock().unwrap().pop(), hold.lock().unwrap().clone());
                let sender = sender.clone();
                async move {
                    sender.send(event).unwrap();
                    if let Some(pause) = pause {
                        pause.notified().await;
                    }
                    verdict.map_or(Ok(()), Err)
                }
                .boxed()
            })
        };
        let secrets = ["whsec_new", "whsec_old"].map(|secret| secret.to_owned().into()).into();
        let endpoint = WebhookEndpoint { secrets, tolerance: TOLERANCE, clock: Clock::System, patience, handle };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, endpoint, stop.clone()));
        Self { address, events, verdicts, hold, stop, serving }
    }

    async fn post(&self, body: &[u8], signature: Option<&str>) -> Answer {
        let header = signature.map(|signature| ("stripe-signature", signature));
        plain_http::request(self.address, "POST", PATH, header.as_slice(), body).await
    }
}

/// A header as Stripe makes it.
fn signed(secret: &str, body: &[u8]) -> String {
    let time = Clock::System.now().timestamp();
    let message = [format!("{time}.").as_bytes(), body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &message);
    let mut header = format!("v0=ignored,t={time},v1=");
    for byte in tag.as_ref() {
        write!(header, "{byte:02x}").unwrap();
    }
    header
}

fn ping(id: &str) -> Vec<u8> {
    format!(r#"{{"id":"{id}","created":1760000000,"type":"ping","data":{{"object":{{}}}}}}"#).into_bytes()
}

fn reason(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    json["error"].as_str().unwrap().to_owned()
}

/// A fake that tells an endpoint of ours, a customer there, and a client that speaks to it.
struct Told {
    fake: Localstripe,
    endpoint: Endpoint,
    provider: Provider,
    customer: String,
}

impl Told {
    async fn new() -> Self {
        // Its own: a fake tells everybody of everything.
        let fake = Localstripe::start();
        let endpoint = Endpoint::start(Duration::from_secs(30)).await;
        let form = format!("url=http://{}{PATH}&secret=whsec_old", endpoint.address);
        fake.ask("POST", "/_config/webhooks/ours", &form).await;
        let provider = client(fake.address, Duration::from_secs(30));
        let customer = Customer { organization_id: new_id(), name: "Acme", email: "a@example.com", known: None };
        let customer = provider.ensure_customer(&customer).await.unwrap();
        Self { fake, endpoint, provider, customer }
    }

    /// Collects with a new method, and says how that stands and what an event has to tell of it.
    async fn collect(&self, token: &str) -> (Collected, Payment) {
        let method = self.provider.add_payment_method(new_id(), &self.customer, token).await.unwrap();
        let (payment_id, currency) = (new_id(), Currency::parse("JPY").unwrap());
        let charge = Charge {
            payment_id,
            organization_id: new_id(),
            invoice_id: new_id(),
            invoice_number: "1",
            amount_minor: 700,
            currency,
            customer: &self.customer,
            payment_method: &method.reference,
            payment_method_kind: &method.kind,
        };
        let collected = self.provider.collect(&charge).await;
        let reference = self.fake.intents(payment_id).await[0]["id"].as_str().unwrap().to_owned();
        (collected, Payment { reference, payment_id: Some(payment_id), amount_minor: 700, currency })
    }

    /// The next event about a payment.
    async fn next(&mut self) -> EventKind {
        loop {
            match self.endpoint.events.recv().await.unwrap().kind {
                EventKind::Other(name) => assert!(name.starts_with("customer."), "{name}"),
                kind => return kind,
            }
        }
    }
}

#[tokio::test]
async fn what_the_fake_signs_comes_to_the_handler() {
    let mut told = Told::new().await;
    let (_, paid) = told.collect(&told.fake.card(GOOD).await).await;
    assert_eq!(told.next().await, EventKind::PaymentSucceeded(paid));
    let (_, unpaid) = told.collect(&told.fake.card(EMPTY).await).await;
    let EventKind::PaymentFailed { payment, code, hard, .. } = told.next().await else { panic!("it failed") };
    assert_eq!((payment, code.as_str(), hard), (unpaid, "card_declined", false));
}

#[tokio::test]
async fn a_bank_debit_is_processing_until_an_event_tells_its_outcome() {
    let mut told = Told::new().await;
    let (collected, unpaid) = told.collect(&told.fake.debit("DE62370400440532013001").await).await;
    let reference = unpaid.reference.clone();
    assert_eq!(collected, Collected::Processing { reference: reference.clone() });
    let EventKind::PaymentFailed { payment, .. } = told.next().await else { panic!("it failed") };
    assert_eq!(payment, unpaid);
    assert_eq!(declined(&told.provider.look_up(&reference).await.unwrap()), ("card_declined", false));
}

#[tokio::test]
async fn only_what_is_signed_is_handled() {
    let mut endpoint = Endpoint::start(Duration::from_secs(30)).await;
    let body = ping("evt_1");
    assert_eq!(reason(&endpoint.post(&body, None).await), "there is no signature");
    let other = signed("whsec_other", &body);
    let unread = signed("whsec_new", b"[]");
    for (body, header, told) in [
        (&body[..], "nonsense", "the signature cannot be read"),
        (&body, &other, "the signature does not hold"),
        (b"[]", &unread, "the event cannot be read"),
    ] {
        let answer = endpoint.post(body, Some(header)).await;
        assert_eq!((answer.status, reason(&answer).as_str()), (400, told));
    }
    for secret in ["whsec_new", "whsec_old"] {
        let answer = endpoint.post(&body, Some(&signed(secret, &body))).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(endpoint.events.try_recv().unwrap().id, "evt_1");
    }
    assert!(endpoint.events.try_recv().is_err(), "nothing else came to the handler");
}

#[tokio::test]
async fn what_is_not_handled_is_asked_for_again() {
    let endpoint = Endpoint::start(Duration::from_secs(30)).await;
    let body = ping("evt_1");
    let header = signed("whsec_new", &body);
    // The last is told first.
    *endpoint.verdicts.lock().unwrap() =
        vec![HandleError::Failed("a secret of ours".into()), HandleError::Unavailable("database".into())];
    for status in [503, 500, 200] {
        let answer = endpoint.post(&body, Some(&header)).await;
        assert_eq!(answer.status, status);
        assert!(status == 200 || reason(&answer) == "the event is not handled yet");
    }
}

#[tokio::test]
async fn nothing_else_is_served() {
    let endpoint = Endpoint::start(Duration::from_secs(30)).await;
    let get = plain_http::request(endpoint.address, "GET", PATH, &[], b"").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    for path in ["/", "/webhooks", "/webhooks/stripe/", "/webhooks/stripe/../stripe"] {
        assert_eq!(plain_http::request(endpoint.address, "POST", path, &[], b"").await.status, 404, "{path}");
    }
    let large = vec![b' '; 256 * 1024 + 1];
    assert_eq!(endpoint.post(&large, Some(&signed("whsec_new", &large))).await.status, 413);
    let mut largest = ping("evt_1");
    largest.resize(256 * 1024, b' ');
    assert_eq!(endpoint.post(&largest, Some(&signed("whsec_new", &largest))).await.status, 200);
}

#[tokio::test]
async fn whoever_dawdles_is_hung_up_on() {
    let endpoint = Endpoint::start(Duration::from_millis(100)).await;
    let said = async |text: &str| {
        let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    said("POST /webhooks/stripe HTTP/1.1\r\nhost: a\r\n").await;
    let answer = said("POST /webhooks/stripe HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");

    // As is whoever waits for a handler that does not end.
    *endpoint.hold.lock().unwrap() = Some(Arc::default());
    let body = ping("evt_1");
    assert_eq!(endpoint.post(&body, Some(&signed("whsec_new", &body))).await.status, 503);
}

#[tokio::test]
async fn what_is_under_way_ends_before_the_endpoint_does() {
    let mut endpoint = Endpoint::start(Duration::from_secs(30)).await;
    let held = Arc::new(Notify::new());
    *endpoint.hold.lock().unwrap() = Some(Arc::clone(&held));
    // Keeps its connection open.
    let idle = TcpStream::connect(endpoint.address).await.unwrap();
    let (address, body) = (endpoint.address, ping("evt_1"));
    let header = signed("whsec_new", &body);
    let posting = tokio::spawn(async move {
        plain_http::request(address, "POST", PATH, &[("stripe-signature", &header)], &body).await.status
    });
    assert_eq!(endpoint.events.recv().await.unwrap().id, "evt_1");
    endpoint.stop.cancel();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!endpoint.serving.is_finished());
    held.notify_one();
    assert_eq!(posting.await.unwrap(), 200);
    endpoint.serving.await.unwrap().unwrap();
    drop(idle);
}
