//! Key sets that are fetched: keys come and go while the server runs, and their server is away at times.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tenantry::auth::token::TokenSettings;
use tenantry::auth::token::source::Source;
use tokio::net::TcpListener;
use tonic::Code;

use super::{is_known, with};
use crate::harness::binary::until;
use crate::harness::health::is_ready;
use crate::harness::plain_http::{Answer, Request};
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

/// An identity provider that publishes keys.
struct Provider {
    url: String,
    says: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<usize>>,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
        let (says, asked) = (Arc::new(Mutex::new(Answer::new(503, ""))), Arc::new(Mutex::new(0)));
        let (answer, count) = (Arc::clone(&says), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if Request::read(&mut stream).await.is_some() {
                    *count.lock().expect("no panic") += 1;
                    let bytes = answer.lock().expect("no panic").bytes();
                    drop(tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await);
                }
            }
        });
        Self { url, says, asked }
    }

    fn publishes(&self, keys: &[Value]) {
        self.answers(Answer::new(200, json!({ "keys": keys }).to_string()));
    }

    fn answers(&self, answer: Answer) {
        *self.says.lock().expect("no panic") = answer;
    }

    fn asked(&self) -> usize {
        *self.asked.lock().expect("no panic")
    }
}

struct Signer {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let seed = [kid.len().to_le_bytes()[0].wrapping_add(kid.as_bytes()[0]); 32];
        Self { kid, pair: Ed25519KeyPair::from_seed_unchecked(&seed).expect("a key") }
    }

    fn published(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({ "kid": self.kid, "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": x })
    }

    fn token(&self, world: &World) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": "EdDSA", "kid": self.kid });
        let exp = world.clock.now().timestamp() + 600;
        let message = format!("{}.{}", encode(&header), encode(&json!({ "sub": "ann", "exp": exp })));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes())))
    }
}

async fn world(backend: Backend, provider: &Provider, between_looks: Duration) -> World {
    let tokens = TokenSettings {
        jwks: Some(Source::of(&provider.url, None).expect("a URL on this machine")),
        between_looks: Some(between_looks),
        ..TokenSettings::default()
    };
    World::with(backend, Setup { tokens: Some(tokens), trust_metadata: false, ..Setup::default() }).await
}

async fn comes(world: &World, signer: &Signer) -> Result<(), Refused> {
    is_known(&with(world.channel(), &[("authorization", &format!("Bearer {}", signer.token(world)))])).await
}

database_tests! {
    async fn a_server_without_its_keys_is_not_ready_and_becomes_so_by_itself(backend: Backend) {
        let (provider, one) = (Provider::start().await, Signer::new("one"));
        let world = world(backend, &provider, Duration::ZERO).await;
        until("it was asked in vain", async || provider.asked() > 0).await;
        assert!(!is_ready(&world.channel()).await);
        let refused = comes(&world, &one).await.expect_err("there are no keys");
        assert_eq!(refused.is(), (Code::Unavailable, "KEYS_UNAVAILABLE"), "nobody's token is called bad for that");
        assert!(refused.retry);
        provider.publishes(&[one.published()]);
        until("the keys are there", async || comes(&world, &one).await.is_ok()).await;
        until("it is ready", async || is_ready(&world.channel()).await).await;
        world.end().await;
    }

    async fn a_new_key_is_found_when_the_first_token_names_it_and_an_old_one_is_gone(backend: Backend) {
        let (provider, one, two) = (Provider::start().await, Signer::new("one"), Signer::new("two!"));
        provider.publishes(&[one.published()]);
        let world = world(backend, &provider, Duration::ZERO).await;
        until("the keys are there", async || comes(&world, &one).await.is_ok()).await;
        provider.publishes(&[two.published()]);
        let refused = comes(&world, &two).await.expect_err("not known yet");
        assert_eq!(refused.is(), (Code::Unavailable, "KEYS_UNAVAILABLE"));
        until("the new key is there", async || comes(&world, &two).await.is_ok()).await;
        until("the old one is gone", async || comes(&world, &one).await.is_err()).await;
        world.end().await;
    }

    async fn keys_stay_in_force_while_nobody_answers_or_answers_nonsense(backend: Backend) {
        let (provider, one, two) = (Provider::start().await, Signer::new("one"), Signer::new("two!"));
        provider.publishes(&[one.published()]);
        let world = world(backend, &provider, Duration::ZERO).await;
        until("the keys are there", async || comes(&world, &one).await.is_ok()).await;
        let secret = json!({ "kid": "two!", "kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32]) });
        let failures = &world.servers[0].app.metrics.keys.failures;
        for nonsense in [
            Answer::new(500, ""),
            Answer::new(200, "<html>"),
            Answer::new(200, json!({ "keys": [] }).to_string()),
            Answer::new(200, json!({ "keys": [secret] }).to_string()),
            Answer::new(200, "x".repeat(2 * 1024 * 1024)),
        ] {
            let before = failures.get();
            provider.answers(nonsense);
            // Who names a key that is not there has it looked for.
            until("it was looked at in vain", async || comes(&world, &two).await.is_err() && failures.get() > before).await;
            comes(&world, &one).await.expect("the keys from before");
        }
        world.end().await;
    }

    async fn whoever_makes_up_keys_has_nobody_asked(backend: Backend) {
        let (provider, one, two) = (Provider::start().await, Signer::new("one"), Signer::new("two!"));
        provider.publishes(&[one.published()]);
        let world = world(backend, &provider, Duration::from_hours(1)).await;
        until("the keys are there", async || comes(&world, &one).await.is_ok()).await;
        let asked = provider.asked();
        for _ in 0..50 {
            let refused = comes(&world, &two).await.expect_err("made up");
            assert_eq!(refused.is(), (Code::Unauthenticated, "TOKEN_INVALID"));
        }
        assert_eq!(provider.asked(), asked);
        world.end().await;
    }
}
