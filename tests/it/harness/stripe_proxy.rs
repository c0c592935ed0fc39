//! What localstripe lacks of Stripe, in front of it: keys that make a repeated call the same call
//! (<https://docs.stripe.com/api/idempotent_requests>), lists by customer, and the faults of a network.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::plain_http::{self, Answer, Request};

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done, and nothing is answered.
    KeepsSilent,
    /// It is done, and the connection is reset.
    Resets,
    /// It is done, and the answer stops half-way.
    Stalls,
    /// It is done, and the answer has no end.
    Floods,
    /// It is done, and the answer is none.
    Babbles,
    /// It is not done, and this status is answered; one of a server's own faults is kept for the key, as Stripe does.
    Answers(u16),
}

/// The proxy, until it is dropped; then it makes sure that every request was one that Stripe takes.
pub(crate) struct StripeProxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    executed: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    faults: VecDeque<Fault>,
    seen: Vec<Request>,
    under_way: HashSet<String>,
    /// By key: what was asked, and what was answered.
    kept: HashMap<String, (String, Answer)>,
}

struct Backend {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    executed: watch::Sender<usize>,
}

impl StripeProxy {
    pub(crate) async fn start(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (executed, count) = watch::channel(0);
        let state = Arc::<Mutex<State>>::default();
        let backend = Arc::new(Backend { address: backend, state: Arc::clone(&state), executed });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A request goes on when its client has gone.
                tokio::spawn(serve(stream, Arc::clone(&backend)));
            }
        });
        Self { address, state, executed: count, task }
    }

    /// The next requests have these faults, in this order.
    pub(crate) fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// What was asked, as `POST /v1/customers`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.lock().seen.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// The keys of what was posted.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.lock().seen.iter().filter_map(|request| request.header("idempotency-key")).map(str::to_owned).collect()
    }

    /// Forgets every key, as Stripe does after a day.
    pub(crate) fn forget(&self) {
        self.lock().kept.clear();
    }

    /// Waits until so many requests in all have been done.
    pub(crate) async fn has_executed(&self, count: usize) {
        self.executed.clone().wait_for(|executed| *executed >= count).await.expect("the proxy runs");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a state")
    }
}

impl Drop for StripeProxy {
    fn drop(&mut self) {
        self.task.abort();
        if std::thread::panicking() {
            return;
        }
        for request in &self.lock().seen {
            let (asked, key) = (format!("{} {}", request.method, request.path), request.header("idempotency-key"));
            assert_eq!(key.is_some(), request.method == "POST", "{asked}: posts have a key, and nothing else has");
            assert!(request.header("stripe-version").is_some(), "{asked}: the version is pinned");
            assert_eq!(request.header("authorization"), Some("Bearer sk_test_hidden"), "{asked}");
        }
    }
}

async fn serve(mut stream: TcpStream, backend: Arc<Backend>) {
    let Some(request) = Request::read(&mut stream).await else { return };
    let fault = {
        let mut state = backend.state.lock().expect("a state");
        state.seen.push(request.clone());
        state.faults.pop_front()
    };
    let answer = match fault {
        Some(Fault::Answers(status)) => {
            let answer = Answer::new(status, json!({"error": {"type": "api_error", "message": "Told."}}).to_string());
            if status == 500 {
                backend.keep(&request, &answer);
            }
            answer
        }
        _ => backend.execute(&request).await,
    };
    let bytes = answer.bytes();
    match fault {
        None | Some(Fault::Answers(_)) => drop(stream.write_all(&bytes).await),
        Some(Fault::KeepsSilent) => gone(&mut stream).await,
        Some(Fault::Resets) => stream.set_zero_linger().expect("a socket can be told"),
        Some(Fault::Stalls) => {
            drop(stream.write_all(&bytes[..bytes.len() - answer.body.len() / 2]).await);
            gone(&mut stream).await;
        }
        Some(Fault::Floods) => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await);
            while stream.write_all(&[b' '; 16_384]).await.is_ok() {}
        }
        Some(Fault::Babbles) => drop(stream.write_all(&Answer::new(200, "<html>").bytes()).await),
    }
}

/// Waits until the client hangs up.
async fn gone(stream: &mut TcpStream) {
    while stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {}
}

/// What has to be the same when a key comes again.
fn fingerprint(request: &Request) -> String {
    format!("{} {} {}", request.method, request.path, String::from_utf8_lossy(&request.body))
}

impl Backend {
    /// Does what is asked, unless it was done before under its key.
    async fn execute(&self, request: &Request) -> Answer {
        let key = request.header("idempotency-key").map(str::to_owned);
        if let Some(key) = &key {
            let mut state = self.state.lock().expect("a state");
            if let Some((fingerprint_then, answer)) = state.kept.get(key) {
                let same = *fingerprint_then == fingerprint(request);
                let other = || refusal(400, "idempotency_error", "Keys are for one request.");
                return if same { answer.clone() } else { other() };
            }
            if !state.under_way.insert(key.clone()) {
                return refusal(409, "idempotency_key_in_use", "The key is in use.");
            }
        }
        let answer = self.forward(request).await;
        self.keep(request, &answer);
        if let Some(key) = &key {
            self.state.lock().expect("a state").under_way.remove(key);
        }
        self.executed.send_modify(|count| *count += 1);
        answer
    }

    fn keep(&self, request: &Request, answer: &Answer) {
        if let Some(key) = request.header("idempotency-key") {
            let kept = (fingerprint(request), answer.clone());
            self.state.lock().expect("a state").kept.insert(key.to_owned(), kept);
        }
    }

    async fn forward(&self, request: &Request) -> Answer {
        let headers: Vec<_> = ["authorization", "content-type"]
            .into_iter()
            .filter_map(|name| Some((name, request.header(name)?)))
            .collect();
        let mut answer =
            plain_http::request(self.address, &request.method, &path_of(request), &headers, &request.body).await;
        if let (Some(customer), Ok(list)) = (parameter(request, "customer"), serde_json::from_slice(&answer.body)) {
            answer.body = page(list, customer, parameter(request, "starting_after")).to_string().into_bytes();
        }
        answer
    }
}

/// Where it goes. localstripe knows no list of intents by customer: it gives all, and [`page`] makes one of it.
fn path_of(request: &Request) -> String {
    match request.path.split_once('?') {
        Some((path, _)) if parameter(request, "customer").is_some() => format!("{path}?limit=100000"),
        _ => request.path.clone(),
    }
}

fn parameter<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let (_, query) = request.path.split_once('?')?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The part of a list that is a customer's and comes after an id: no more than two, so that nobody gets along with one page.
fn page(list: Value, customer: &str, after: Option<&str>) -> Value {
    let Value::Array(all) = &list["data"] else { return list };
    let of_it: Vec<_> = all.iter().filter(|one| one["customer"] == customer).collect();
    let start = after.map_or(0, |id| of_it.iter().position(|one| one["id"] == id).map_or(of_it.len(), |at| at + 1));
    let data: Vec<_> = of_it[start..].iter().take(2).collect();
    json!({"data": data, "has_more": start + data.len() < of_it.len()})
}

fn refusal(status: u16, kind: &str, message: &str) -> Answer {
    Answer::new(status, json!({"error": {"type": kind, "message": message}}).to_string())
}
