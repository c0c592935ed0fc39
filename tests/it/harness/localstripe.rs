//! localstripe: a stateful fake of Stripe's API, from PyPI (<https://github.com/adrienverge/localstripe>).

use std::net::SocketAddr;
use std::sync::OnceLock;

use serde_json::Value;
use uuid::Uuid;

use super::plain_http::{self, Answer};
use super::python::PythonServer;

/// The one that tests share which tell their payments from those of others.
pub(crate) fn shared() -> &'static Localstripe {
    static SHARED: OnceLock<Localstripe> = OnceLock::new();
    SHARED.get_or_init(Localstripe::start)
}

/// A fake of its own, which ends when this value is dropped or the process ends.
pub(crate) struct Localstripe {
    pub(crate) address: SocketAddr,
    _server: PythonServer,
}

impl Localstripe {
    pub(crate) fn start() -> Self {
        let server = PythonServer::start(include_str!("localstripe.py"), "localstripe", "localstripe/server.py", &[]);
        Self { address: SocketAddr::from(([127, 0, 0, 1], server.port)), _server: server }
    }

    /// Asks it without our client.
    pub(crate) async fn ask(&self, method: &str, path: &str, form: &str) -> Value {
        let headers =
            [("authorization", "Bearer sk_test_harness"), ("content-type", "application/x-www-form-urlencoded")];
        let Answer { status, body, .. } =
            plain_http::request(self.address, method, path, &headers, form.as_bytes()).await;
        assert_eq!(status, 200, "{method} {path}: {}", String::from_utf8_lossy(&body));
        // What configures it answers nothing.
        serde_json::from_slice(&body).unwrap_or_default()
    }

    /// What Stripe's form in a browser makes of a card's number: the token of a payment method.
    pub(crate) async fn card(&self, number: &str) -> String {
        let form = format!("type=card&card[number]={number}&card[exp_month]=11&card[exp_year]=2031&card[cvc]=123");
        self.made(&form).await
    }

    /// The same of an account.
    pub(crate) async fn debit(&self, iban: &str) -> String {
        self.made(&format!("type=sepa_debit&sepa_debit[iban]={iban}")).await
    }

    async fn made(&self, form: &str) -> String {
        let method = self.ask("POST", "/v1/payment_methods", form).await;
        method["id"].as_str().expect("an id").to_owned()
    }

    /// Every intent for a payment.
    pub(crate) async fn intents(&self, payment_id: Uuid) -> Vec<Value> {
        self.having("payment_intents", "payment_id", payment_id).await
    }

    /// Every customer for an organization.
    pub(crate) async fn customers(&self, organization_id: Uuid) -> Vec<Value> {
        self.having("customers", "organization_id", organization_id).await
    }

    async fn having(&self, kind: &str, key: &str, id: Uuid) -> Vec<Value> {
        let list = self.ask("GET", &format!("/v1/{kind}?limit=100000"), "").await;
        let all = list["data"].as_array().expect("a list").iter();
        all.filter(|one| one["metadata"][key] == id.to_string()).cloned().collect()
    }
}
