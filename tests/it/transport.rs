//! The transport: TLS and whom certificates name, and what a connection may cost.

use std::net::SocketAddr;
use std::time::Duration;

use tenantry::pb;
use tenantry::transport::Limits;
use tenantry::transport::tls::ClientAuth;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::harness::binary::until;
use crate::harness::certificates::Authority;
use crate::harness::lost::was_never_sent;
use crate::harness::person::{Identity, Person, answer};
use crate::harness::refused::{Refused, refused};
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

/// What an HTTP/2 client says first, with settings that are none.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const APP: &str = "spiffe://prod/ns/shop/sa/app";

async fn with_tls(backend: Backend, authority: &Authority, clients: Option<ClientAuth>) -> World {
    let services =
        vec![format!("{APP}=app").parse().expect("a service"), "billing.shop.svc=billing".parse().expect("a service")];
    let setup = Setup { tls: Some((authority.files(clients), services)), trust_metadata: false, ..Setup::default() };
    World::with(backend, setup).await
}

fn with_limits(limits: Limits) -> Setup {
    Setup { limits, ..Setup::default() }
}

async fn lists_plans(person: &Person) -> Result<(), Refused> {
    answer(person.billing().list_plans(pb::ListPlansRequest {}).await).map(drop)
}

fn caller(channel: Channel, keys: &[(&'static str, &str)]) -> Person {
    let identity = Identity(keys.iter().map(|(key, value)| (*key, (*value).to_owned())).collect());
    Person { identity, ..Person::new(channel, "somebody") }
}

/// Whether there is a connection at all. What a client says of one that breaks off depends on how far it had come.
async fn connects(channel: Channel) -> bool {
    match caller(channel, &[]).billing().list_plans(pb::ListPlansRequest {}).await {
        Ok(_) => true,
        // It came as far as being asked who it is.
        Err(status) => status.code() == Code::Unauthenticated,
    }
}

/// Reads until the other end closes the connection.
async fn closes(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    let closed = async { while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("the connection is closed");
}

async fn opens(address: SocketAddr, says: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(says).await.expect("written");
    stream
}

// === TLS

database_tests! {
    async fn a_server_with_a_certificate_speaks_tls_and_nothing_else(backend: Backend) {
        let (authority, another) = (Authority::new(), Authority::new());
        let world = with_tls(backend, &authority, None).await;
        let address = world.servers[0].address;
        assert!(connects(authority.channel(address, &[])).await);
        assert!(!connects(another.channel(address, &[])).await, "an authority that it is not of");
        assert!(!connects(world.channel()).await, "without TLS");
        let failed = &world.servers[0].app.metrics.connections.failed;
        until("it is counted", async || failed.get() >= 2).await;
        world.end().await;
    }

    async fn a_client_is_known_by_its_certificate(backend: Backend) {
        let (authority, another) = (Authority::new(), Authority::new());
        let world = with_tls(backend, &authority, Some(ClientAuth::Required)).await;
        let address = world.servers[0].address;
        assert!(!connects(authority.channel(address, &[])).await, "without a certificate");
        let (certificate, key) = another.signs(&[APP]);
        let tls = tonic::transport::ClientTlsConfig::new()
            .ca_certificate(tonic::transport::Certificate::from_pem(authority.pem()))
            .identity(tonic::transport::Identity::from_pem(certificate, key))
            .domain_name("localhost");
        let forged = Endpoint::from_shared(format!("https://{address}")).expect("a URL").tls_config(tls).expect("TLS");
        assert!(!connects(forged.connect_lazy()).await, "of another authority");

        // Under its own name it needs nothing more.
        let app = authority.channel(address, &[APP]);
        lists_plans(&caller(app.clone(), &[])).await.expect("the service app");
        lists_plans(&caller(app.clone(), &[("x-service", "app")])).await.expect("it may say so");
        let refused = lists_plans(&caller(app.clone(), &[("x-service", "billing")])).await.expect_err("another's name");
        assert_eq!(refused.is(), (Code::Unauthenticated, "METADATA_NOT_TRUSTED"));

        // For a user it acts under theirs, and the event names both.
        let ann = caller(app.clone(), &[("x-user-id", "ann"), ("x-user-email", "ann@example.com")]);
        let organization_id = ann.founds("Acme").await.organization_id;
        let itself = Person { organization_id, ..caller(app.clone(), &[]) };
        let events = itself.tries_to_list_events(pb::ListEventsRequest::default()).await.expect("the log");
        let actor = events.events[0].actor.as_ref().expect("an actor");
        assert_eq!((actor.user_id.as_str(), actor.service.as_str()), ("ann", "app"));

        // A certificate that names no service vouches for a connection, and for nobody.
        let other = authority.channel(address, &["somebody.example.com"]);
        let refused = lists_plans(&caller(other.clone(), &[])).await.expect_err("nobody");
        assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_MISSING"));
        let refused = lists_plans(&caller(other, &[("x-user-id", "ann")])).await.expect_err("not believed");
        assert_eq!(refused.is(), (Code::Unauthenticated, "METADATA_NOT_TRUSTED"));
        // The name must be whole.
        let longer = authority.channel(address, &[&format!("{APP}2"), "a.billing.shop.svc"]);
        assert!(lists_plans(&caller(longer, &[])).await.is_err());
        lists_plans(&caller(authority.channel(address, &["x.example.com", "billing.shop.svc"]), &[])).await.expect("billing");
        world.end().await;
    }

    async fn where_certificates_are_optional_others_say_otherwise_who_they_are(backend: Backend) {
        let authority = Authority::new();
        let world = with_tls(backend, &authority, Some(ClientAuth::Optional)).await;
        let address = world.servers[0].address;
        lists_plans(&caller(authority.channel(address, &[APP]), &[])).await.expect("the service app");
        let refused = lists_plans(&caller(authority.channel(address, &[]), &[("x-user-id", "ann")])).await;
        assert_eq!(refused.expect_err("not believed").is(), (Code::Unauthenticated, "METADATA_NOT_TRUSTED"));
        world.end().await;
    }

    async fn changed_certificates_are_taken_and_unusable_ones_are_not(backend: Backend) {
        let (authority, another) = (Authority::new(), Authority::new());
        let world = with_tls(backend, &authority, Some(ClientAuth::Required)).await;
        let server = &world.servers[0];
        let (address, tls) = (server.address, server.tls.as_ref().expect("TLS"));
        let expiry = server.app.metrics.tls.expiry.get();
        assert!(expiry > 0, "it is said when the certificate ends");
        let app = caller(authority.channel(address, &[APP]), &[]);
        lists_plans(&app).await.expect("the service app");

        // Half of a change: the key does not fit.
        let (certificate, key) = authority.signs(&["localhost"]);
        authority.writes("server.crt", &certificate);
        tls.look().expect_err("a key of another certificate");
        assert!(connects(authority.channel(address, &[APP])).await, "the one from before is in force");
        authority.writes("server.key", &key);
        tls.look().expect("the other half");
        lists_plans(&app).await.expect("a connection lasts beyond its certificate");
        for nonsense in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            authority.writes("server.crt", nonsense);
            tls.look().expect_err("no certificate");
            assert!(connects(authority.channel(address, &[APP])).await);
        }

        // Whom the authorities do not vouch for any more does not stay on.
        authority.writes("server.crt", &certificate);
        authority.writes("ca.crt", &another.pem());
        tls.look().expect("another authority");
        until("the client is out", async || lists_plans_status(&app).await.is_err()).await;
        world.end().await;
    }
}

/// As [`lists_plans`], where there may be no connection.
async fn lists_plans_status(person: &Person) -> Result<(), Status> {
    person.billing().list_plans(pb::ListPlansRequest {}).await.map(drop)
}

// === connections

#[tokio::test]
async fn connections_beyond_the_number_are_closed_at_once() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let world = World::with(Backend::Sqlite, with_limits(limits)).await;
    let address = world.servers[0].address;
    let metrics = &world.servers[0].app.metrics.connections;
    let mut open = Vec::new();
    for number in 1..=3 {
        open.push(opens(address, PREFACE).await);
        until("it is taken", async || metrics.open.get() == number).await;
    }
    let mut fourth = TcpStream::connect(address).await.expect("a connection");
    closes(&mut fourth).await;
    assert_eq!(metrics.refused.get(), 1);
    open.pop();
    until("there is room again", async || metrics.open.get() == 2).await;
    let ann = Person::new(world.channel(), "ann").founds("Acme").await;
    assert_eq!(ann.role, "owner");
    drop(open);
    world.end().await;
}

#[tokio::test]
async fn whoever_connects_and_says_nothing_is_closed() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let authority = Authority::new();
    let tls = Some((authority.files(None), Vec::new()));
    for tls in [None, tls] {
        let world = World::with(Backend::Sqlite, Setup { tls, ..with_limits(limits.clone()) }).await;
        for says in [b"".as_slice(), b"PRI * HTTP", b"\x16\x03\x01"] {
            closes(&mut opens(world.servers[0].address, says).await).await;
        }
        until("it is counted", async || world.servers[0].app.metrics.connections.failed.get() == 3).await;
        world.end().await;
    }
}

#[tokio::test]
async fn whoever_speaks_another_protocol_is_closed() {
    let world = World::new(Backend::Sqlite).await;
    for says in [
        "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
        "SSH-2.0-OpenSSH_9.2\r\n .............",
    ] {
        closes(&mut opens(world.servers[0].address, says.as_bytes()).await).await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_connection_whose_other_end_is_gone_is_closed() {
    let soon = Duration::from_millis(50);
    // Longer than whoever is there needs on a busy machine.
    let limits = Limits { keep_alive: soon, keep_alive_timeout: soon * 60, ..Limits::default() };
    let world = World::with(Backend::Sqlite, with_limits(limits)).await;
    // It says hello, and answers nothing.
    closes(&mut opens(world.servers[0].address, PREFACE).await).await;
    // Whoever answers stays.
    let ann = Person::new(world.channel(), "ann").founds("Acme").await;
    let mut watch = ann.watches(pb::WatchEventsRequest::default()).await.expect("watching");
    tokio::time::sleep(soon * 6).await;
    ann.invites(&["bob@example.com"], "member").await;
    assert_eq!(watch.next().await.expect("an event").r#type, "invitation.created");
    drop(watch);
    world.end().await;
}

#[tokio::test]
async fn a_connection_that_has_its_age_is_left_without_a_failed_call_and_one_that_does_not_leave_is_cut_off() {
    let soon = Duration::from_millis(100);
    let limits = Limits { age: soon, grace: soon * 2, ..Limits::default() };
    let world = World::with(Backend::Sqlite, with_limits(limits)).await;
    let metrics = &world.servers[0].app.metrics.connections;
    let mut rude = opens(world.servers[0].address, PREFACE).await;
    let ann = Person::new(world.channel(), "ann").founds("Acme").await;
    let began = tokio::time::Instant::now();
    let mut calls = 0;
    while began.elapsed() < soon * 10 {
        match lists_plans_status(&ann).await {
            Ok(()) => calls += 1,
            Err(status) => assert!(was_never_sent(&status), "{status:?}"),
        }
    }
    assert!(calls > 10, "{calls} calls");
    closes(&mut rude).await;
    drop(ann);
    until("none is left", async || metrics.open.get() <= 1).await;
    world.end().await;
}

#[tokio::test]
async fn a_connection_without_calls_is_left_and_one_with_a_stream_is_not() {
    let limits = Limits { idle: Duration::from_millis(100), ..Limits::default() };
    let world = World::with(Backend::Sqlite, with_limits(limits)).await;
    let metrics = &world.servers[0].app.metrics.connections;
    let ann = Person::new(world.channel(), "ann").founds("Acme").await;
    let mut watch = ann.watches(pb::WatchEventsRequest::default()).await.expect("watching");
    let endpoint = Endpoint::from_shared(format!("http://{}", world.servers[0].address)).expect("a URL");
    let other = endpoint.connect().await.expect("a connection");
    until("there are two", async || metrics.open.get() == 2).await;
    until("the idle one is left", async || metrics.open.get() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    Person::new(other, "ann").acting_in(&ann.organization_id, "owner").invites(&["bob@example.com"], "member").await;
    assert_eq!(
        watch.next().await.expect("an event").r#type,
        "invitation.created",
        "the stream was quiet, and is there"
    );
    drop(watch);
    world.end().await;
}

#[tokio::test]
async fn those_who_only_lie_there_leave_when_it_gets_crowded() {
    let limits = Limits { connections: 4, idle_in_a_crowd: Duration::from_millis(100), ..Limits::default() };
    let world = World::with(Backend::Sqlite, with_limits(limits)).await;
    let metrics = &world.servers[0].app.metrics.connections;
    let ann = Person::new(world.channel(), "ann").founds("Acme").await;
    let mut watch = ann.watches(pb::WatchEventsRequest::default()).await.expect("watching");
    let mut idle = [opens(world.servers[0].address, PREFACE).await, opens(world.servers[0].address, PREFACE).await];
    until("there are three", async || metrics.open.get() == 3).await;
    for idle in &mut idle {
        closes(idle).await;
    }
    until("there is the one that has a call", async || metrics.open.get() == 1).await;
    ann.invites(&["bob@example.com"], "member").await;
    assert_eq!(watch.next().await.expect("an event").r#type, "invitation.created");
    drop(watch);
    world.end().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_do_not_leave_and_have_no_calls() {
    let world = World::with(Backend::Sqlite, Setup::default()).await;
    let metrics = &world.servers[0].app.metrics.connections;
    let mut rude = opens(world.servers[0].address, PREFACE).await;
    until("it is there", async || metrics.open.get() == 1).await;
    let began = tokio::time::Instant::now();
    world.servers[0].stop.cancel();
    closes(&mut rude).await;
    assert!(began.elapsed() < Duration::from_secs(15), "half of the drain time");
    world.end().await;
}

/// As that of somebody whose token has expired.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_calls_are_all_refused_keeps_its_connection() {
    let world = World::with(Backend::Sqlite, Setup::default()).await;
    let nobody = caller(world.channel(), &[]);
    let calls = (0..16).map(|_| {
        let nobody = nobody.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                let refused = lists_plans(&nobody).await.expect_err("nobody knows who it is");
                assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_MISSING"));
            }
        })
    });
    for calls in calls.collect::<Vec<_>>() {
        calls.await.expect("each was refused for its own fault");
    }
    world.end().await;
}

// === what is no call

#[tokio::test]
async fn what_is_no_call_of_grpc_is_refused_in_the_words_of_http() {
    let world = World::new(Backend::Sqlite).await;
    let sends = async |method: http::Method, kind: Option<&str>| {
        let mut request = http::Request::builder().method(method).uri("/tenantry.v1.BillingService/ListPlans");
        request = request.header("x-user-id", "ann").header("te", "trailers");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let body = Body::new(http_body_util::Full::from(prost::bytes::Bytes::from_static(&[0; 5])));
        let answered = world.channel().oneshot(request.body(body).expect("a request")).await.expect("an answer");
        (answered.status().as_u16(), Status::from_header_map(answered.headers()).map(|status| refused(&status)))
    };
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc; charset=utf-8", "Application/gRPC"] {
        assert_eq!(sends(http::Method::POST, Some(kind)).await, (200, None), "{kind}");
    }
    for kind in [
        None,
        Some("text/plain"),
        Some("application/json"),
        Some("application/grpc-web"),
        Some("application/grpc+json"),
    ] {
        let (status, refusal) = sends(http::Method::POST, kind).await;
        let refusal = refusal.expect("a refusal");
        assert_eq!((status, refusal.is()), (415, (Code::InvalidArgument, "CONTENT_TYPE_UNKNOWN")), "{kind:?}");
    }
    for method in [http::Method::GET, http::Method::PUT, http::Method::OPTIONS, http::Method::DELETE] {
        let (status, refusal) = sends(method.clone(), Some("application/grpc")).await;
        let refusal = refusal.expect("a refusal");
        assert_eq!((status, refusal.is()), (405, (Code::Unimplemented, "METHOD_UNKNOWN")), "{method}");
    }
    world.end().await;
}
