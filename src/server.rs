//! The server: services behind their layers, health, reflection, and how it starts and stops.
//!
//! Tests run this very server: it takes a bound listener, the parts, and a token that stops it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::{LayerExt as _, Routes};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Layer as _;
use tower::layer::util::Stack;

use crate::app::App;
use crate::auth::layer::Gate;
use crate::auth::token::TokenVerifier;
use crate::auth::token::source::{self, Source};
use crate::billing::invariants::Watch;
use crate::billing::provider::http;
use crate::billing::provider::stripe::webhook::{Secret, TOLERANCE};
use crate::check::{CheckLayer, Checked};
use crate::clock::Clock;
use crate::deadline::DeadlineLayer;
use crate::error::Error;
use crate::overload::{self, Overload};
use crate::pb::billing_service_server::BillingServiceServer;
use crate::pb::delivery_service_server::DeliveryServiceServer;
use crate::pb::event_service_server::EventServiceServer;
use crate::pb::membership_service_server::MembershipServiceServer;
use crate::pb::monitoring_service_server::MonitoringServiceServer;
use crate::pb::organization_service_server::OrganizationServiceServer;
use crate::pb::testing::clock_service_server::ClockServiceServer;
use crate::pb::webhook_service_server::WebhookServiceServer;
use crate::pb::workspace_service_server::WorkspaceServiceServer;
use crate::receive::{GrpcOnly, ReceiveLayer};
use crate::scarce::ScarceLayer;
use crate::telemetry::{RpcLog, RpcLogLayer};
use crate::transport::tls::Tls;
use crate::transport::{self, Transport};
use crate::{
    billing, delivery, event, membership, metrics, monitoring, organization, pb, plain_http, testing, worker, workspace,
};

/// How often the database is asked for a sign of life, on which readiness follows.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How long those may take who stop last.
const LAST_STEPS: Duration = Duration::from_secs(2);

/// How often some organizations are recounted.
const WATCH_INTERVAL: Duration = Duration::from_mins(1);

/// By this name `grpc.health.v1` tells whether the books agree.
const BOOKS: &str = "invariants";

/// How many may ask for health at a time where nothing else is answered.
const MOST_PROBES: usize = 64;

/// The largest request: a batch of 500 with the longest e-mail addresses is a third of it.
const LARGEST_REQUEST: usize = 1024 * 1024;

/// The largest request for health: the name of a service.
const LARGEST_PROBE: usize = 1024;

/// The largest request of reflection: the name of a file or of what is in it.
const LARGEST_QUESTION: usize = 4 * 1024;

/// How many may ask reflection at a time: each answer is a file of the contract.
const MOST_QUESTIONS: usize = 32;

/// By these names `grpc.health.v1` tells what follows the database; `liveness` alone does not.
const READINESS: [&str; 10] = [
    "",
    "readiness",
    "tenantry.v1.OrganizationService",
    "tenantry.v1.MembershipService",
    "tenantry.v1.WorkspaceService",
    "tenantry.v1.MonitoringService",
    "tenantry.v1.BillingService",
    "tenantry.v1.EventService",
    "tenantry.v1.DeliveryService",
    "tenantry.v1.WebhookService",
];

/// What a server is made of.
#[derive(Debug)]
pub struct Parts {
    /// What operations have at hand.
    pub app: Arc<App>,
    /// The gate in front of them.
    pub gate: Gate,
    /// Whether to answer reflection.
    pub reflection: bool,
    /// How long calls may go on after the signal to stop.
    pub drain: Duration,
    /// Where the payment provider's webhooks come, if there are any.
    pub webhooks: Option<Webhooks>,
    /// Where the metrics are read, if anywhere.
    pub metrics: Option<TcpListener>,
    /// Where health alone is answered, if anywhere.
    pub health: Option<TcpListener>,
    /// TLS, if there is any.
    pub tls: Option<Arc<Tls>>,
    /// What connections may cost.
    pub limits: transport::Limits,
    /// How long calls may take.
    pub deadline: DeadlineLayer,
    /// Where the keys of tokens are followed, if they are, and after how long first.
    pub keys: Option<(Source, Option<Duration>)>,
}

/// Where the payment provider's webhooks come.
#[derive(Debug)]
pub struct Webhooks {
    /// The listener.
    pub listener: TcpListener,
    /// The signing secrets.
    pub secrets: Vec<Secret>,
}

/// What answers calls, with all that stands before the services.
type Answering = RpcLog<Checked<axum::Router, GrpcOnly>>;

/// Serves until `stop`, then lets the calls under way end.
///
/// # Errors
///
/// When the listener is none, or the descriptors that reflection serves are not sound.
pub async fn serve(listener: TcpListener, parts: Parts, stop: CancellationToken) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("liveness", ServingStatus::Serving).await;
    // Nobody has looked yet.
    health.set_service_status(BOOKS, ServingStatus::Unknown).await;
    report(&health, ServingStatus::NotServing).await;
    let app = parts.app;
    let gate = Arc::new(parts.gate);
    let health_service = probed(parts.deadline).named_layer(health_service);
    let health_alone = Routes::new(health_service.clone());
    let mut routes = guarded(&app, &gate, parts.deadline, Routes::new(health_service));
    if matches!(app.clock, Clock::Manual(_)) {
        health.set_service_status("tenantry.testing.v1.ClockService", ServingStatus::Serving).await;
    }
    if parts.reflection {
        routes = with_reflection(routes, descriptors(&app.clock), &app.overload)?;
    }
    let service = |routes: Routes| -> Answering {
        // tonic's own answer where there is no service would be a refusal without a reason.
        let routes = routes.into_axum_router().fallback(no_such_method);
        RpcLogLayer(Arc::clone(&app)).layer(CheckLayer(GrpcOnly).layer(routes))
    };
    let meter = app.metrics.connections.clone();
    let transport = Transport { service: service(routes), limits: parts.limits, tls: parts.tls.clone(), meter };

    let background = CancellationToken::new();
    let verifier = gate.callers.verifier.clone();
    let readiness =
        tokio::spawn(follow_database(Arc::clone(&app), verifier.clone(), health.clone(), background.clone()));
    let working = tokio::spawn(worker::run(Arc::clone(&app), background.clone()));
    let watching = tokio::spawn(watch_books(Arc::clone(&app), health.clone(), background.clone()));
    let hearing = tokio::spawn(hear(parts.webhooks, Arc::clone(&app), background.clone()));
    let feeding = tokio::spawn(event::feed::run(Arc::clone(&app), background.clone()));
    let delivering = tokio::spawn(delivery::run(Arc::clone(&app), background.clone()));
    // These go on to the very end: somebody looks at them while the rest stops.
    let end = CancellationToken::new();
    let measuring = tokio::spawn(tell_metrics(parts.metrics, Arc::clone(&app), end.clone()));
    let probing = tokio::spawn(answer_health(parts.health, service(health_alone), end.clone()));
    let following = tokio::spawn(follow(verifier, parts.keys, parts.tls, Arc::clone(&app), end.clone()));
    let closing = CancellationToken::new();
    let stopping = {
        let (stop, closing, background, app) = (stop, closing.clone(), background, Arc::clone(&app));
        tokio::spawn(async move {
            stop.cancelled().await;
            background.cancel();
            app.feed.end();
            // Whoever balances load hears it before the listener closes.
            report(&health, ServingStatus::NotServing).await;
            end_watches(health).await;
            tracing::info!("stopping: new calls are refused, those under way may end");
            closing.cancel();
        })
    };
    tracing::info!(%address, "serving");
    transport.serve(listener, closing, parts.drain).await;
    // Each is at most one short step from its end, unless the database does not answer, or a server of e-mail is slow: a letter that it
    // takes after this is sent once more.
    let ends = async { tokio::join!(stopping, readiness, working, hearing, watching, feeding, delivering) };
    if tokio::time::timeout(LAST_STEPS, ends).await.is_err() {
        tracing::warn!("left the background work before its end");
    }
    end.cancel();
    if tokio::time::timeout(LAST_STEPS, async { tokio::join!(measuring, probing, following) }).await.is_err() {
        tracing::warn!("left those who look at health and metrics before their end");
    }
    if !matches!(tokio::time::timeout(LAST_STEPS, app.database.close()).await, Ok(Ok(()))) {
        tracing::warn!("the database was not closed properly");
    }
    Ok(())
}

/// Answers health, and nothing else.
async fn answer_health(listener: Option<TcpListener>, service: Answering, stop: CancellationToken) {
    let Some(listener) = listener else { return };
    let limits = transport::Limits { connections: MOST_PROBES, ..transport::Limits::default() };
    let transport = Transport { service, limits, tls: None, meter: transport::Meter::default() };
    transport.serve(listener, stop, LAST_STEPS).await;
}

/// Follows what changes outside: the keys of tokens, certificates; and forgets those who call no more.
async fn follow(
    verifier: Option<Arc<TokenVerifier>>,
    keys: Option<(Source, Option<Duration>)>,
    tls: Option<Arc<Tls>>,
    app: Arc<App>,
    stop: CancellationToken,
) {
    let keys = async {
        if let (Some(verifier), Some((source, next))) = (verifier, keys) {
            source::follow(verifier, source, app.metrics.keys.clone(), next, stop.clone()).await;
        }
    };
    let tls = async {
        if let Some(tls) = tls {
            tls.follow(stop.clone()).await;
        }
    };
    tokio::join!(keys, tls, app.overload.forget(stop.clone()));
}

/// What stands before health, which nobody is kept from by what others call: a probe is read whole, in time, and is small.
fn probed(deadline: DeadlineLayer) -> Stack<ReceiveLayer, DeadlineLayer> {
    let no_end = Semaphore::MAX_PERMITS;
    let limits = overload::Limits { calls: no_end, bytes: no_end, caller_rate: None, organization_rate: None };
    let overload = Arc::new(Overload::new(&limits, overload::Meter::default()));
    Stack::new(ReceiveLayer { largest: LARGEST_PROBE, overload }, deadline)
}

/// Adds the services, each behind its layers.
fn guarded(app: &Arc<App>, gate: &Arc<Gate>, deadline: DeadlineLayer, routes: Routes) -> Routes {
    // The gate before the body is read: it decides on the metadata. The deadline around both, and before everything whether there is room.
    let receive = ReceiveLayer { largest: LARGEST_REQUEST, overload: Arc::clone(&app.overload) };
    let receive = Stack::new(receive, CheckLayer(Arc::clone(gate)));
    let guard = Stack::new(Stack::new(receive, deadline), CheckLayer(Arc::clone(&app.overload)));

    let routes = routes
        .add_service(
            guard.named_layer(
                OrganizationServiceServer::new(organization::Service(Arc::clone(app)))
                    .max_decoding_message_size(LARGEST_REQUEST),
            ),
        )
        .add_service(
            guard.named_layer(
                MembershipServiceServer::new(membership::Service(Arc::clone(app)))
                    .max_decoding_message_size(LARGEST_REQUEST),
            ),
        )
        .add_service(guard.named_layer(
            WorkspaceServiceServer::new(workspace::Service(Arc::clone(app))).max_decoding_message_size(LARGEST_REQUEST),
        ))
        .add_service(
            guard.named_layer(
                MonitoringServiceServer::new(monitoring::Service(Arc::clone(app)))
                    .max_decoding_message_size(LARGEST_REQUEST),
            ),
        )
        .add_service(guard.named_layer(
            BillingServiceServer::new(billing::Service(Arc::clone(app))).max_decoding_message_size(LARGEST_REQUEST),
        ))
        .add_service(guard.named_layer(
            EventServiceServer::new(event::Service(Arc::clone(app))).max_decoding_message_size(LARGEST_REQUEST),
        ))
        .add_service(guard.named_layer(
            DeliveryServiceServer::new(delivery::Service(Arc::clone(app))).max_decoding_message_size(LARGEST_REQUEST),
        ))
        .add_service(
            guard.named_layer(
                WebhookServiceServer::new(delivery::webhook::Service(Arc::clone(app)))
                    .max_decoding_message_size(LARGEST_REQUEST),
            ),
        );
    match &app.clock {
        Clock::Manual(clock) => routes.add_service(guard.named_layer(
            ClockServiceServer::new(testing::Service(clock.clone())).max_decoding_message_size(LARGEST_REQUEST),
        )),
        Clock::System => routes,
    }
}

/// What reflection tells.
fn descriptors(clock: &Clock) -> &'static [u8] {
    match clock {
        Clock::Manual(_) => pb::DESCRIPTOR_SET,
        Clock::System => pb::RELEASED_DESCRIPTOR_SET,
    }
}

/// Answers what services there are.
fn with_reflection(routes: Routes, descriptors: &'static [u8], overload: &Arc<Overload>) -> anyhow::Result<Routes> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // With these grpcurl shows what a refusal says, and not its bytes.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let few = ScarceLayer { places: Arc::new(Semaphore::new(MOST_QUESTIONS)), overload: Arc::clone(overload) };
    Ok(routes
        .add_service(few.named_layer(reflection().build_v1()?.max_decoding_message_size(LARGEST_QUESTION)))
        .add_service(few.named_layer(reflection().build_v1alpha()?.max_decoding_message_size(LARGEST_QUESTION))))
}

/// Recounts some organizations at a time, and lets the health of `invariants` and the metric follow. It is a detail: what drifts is worth
/// waking somebody, but serves.
async fn watch_books(app: Arc<App>, health: HealthReporter, stop: CancellationToken) {
    let mut watch = Watch::default();
    loop {
        match worker::guarded(watch.look(&app.database, &app.policy)).await {
            Ok(drifting) => {
                app.metrics.drifting_organizations.set(i64::try_from(drifting).unwrap_or(i64::MAX));
                let status = if drifting == 0 { ServingStatus::Serving } else { ServingStatus::NotServing };
                health.set_service_status(BOOKS, status).await;
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the books could not be looked at");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
}

/// Hears the payment provider's webhooks.
async fn hear(webhooks: Option<Webhooks>, app: Arc<App>, stop: CancellationToken) {
    let Some(Webhooks { listener, secrets }) = webhooks else { return };
    let handle: http::Handle = Arc::new(move |event| {
        let app = Arc::clone(&app);
        Box::pin(async move { billing::collection::handle(&app, event).await })
    });
    // Signatures are of the world outside, whatever the clock of this server says.
    let (tolerance, clock, patience) = (TOLERANCE, Clock::System, http::PATIENCE);
    let endpoint = http::WebhookEndpoint { secrets, tolerance, clock, patience, handle };
    if let Err(error) = http::serve(listener, endpoint, stop).await {
        tracing::error!(%error, "webhooks are not heard any more");
    }
}

/// Tells the metrics to whoever reads them.
async fn tell_metrics(listener: Option<TcpListener>, app: Arc<App>, stop: CancellationToken) {
    let Some(listener) = listener else { return };
    let answer = move |request: ::http::Request<hyper::body::Incoming>| {
        let answer = app.metrics.answer(&request, &app.database);
        async move { answer }
    };
    if let Err(error) = plain_http::serve(listener, "metrics", metrics::PATIENCE, answer, stop).await {
        tracing::error!(%error, "metrics are not told any more");
    }
}

/// Where there is not even a service.
async fn no_such_method() -> ::http::Response<Body> {
    Status::from(Error::MethodUnknown).into_http()
}

async fn report(health: &HealthReporter, status: ServingStatus) {
    for service in READINESS {
        health.set_service_status(service, status).await;
    }
}

/// Ends the streams of those who watch a status, once they have heard it: they would hold up the stop until the end of the
/// drain time.
async fn end_watches(mut health: HealthReporter) {
    let others = [("liveness", ServingStatus::Serving), (BOOKS, ServingStatus::Unknown)];
    for (service, status) in READINESS.map(|service| (service, ServingStatus::NotServing)).into_iter().chain(others) {
        health.clear_service_status(service).await;
        health.set_service_status(service, status).await;
    }
}

/// Lets readiness follow the database and, until there are any, the keys of tokens.
async fn follow_database(
    app: Arc<App>,
    verifier: Option<Arc<TokenVerifier>>,
    health: HealthReporter,
    stop: CancellationToken,
) {
    let mut ready = None;
    loop {
        let answered = app.database.is_alive().await;
        app.metrics.database_up.set(answered.into());
        let has_keys = verifier.as_ref().is_none_or(|verifier| verifier.has_keys());
        if stop.is_cancelled() {
            return;
        }
        if ready != Some((answered, has_keys)) {
            ready = Some((answered, has_keys));
            match (answered, has_keys) {
                (true, true) => tracing::info!("ready: the database answers"),
                (false, _) => tracing::warn!("not ready: the database does not answer"),
                (true, false) => tracing::warn!("not ready: there are no keys yet to verify tokens with"),
            }
            let status = if answered && has_keys { ServingStatus::Serving } else { ServingStatus::NotServing };
            report(&health, status).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PING_INTERVAL) => {}
        }
    }
}

/// Asks the server at an address whether a service of it is healthy.
///
/// # Errors
///
/// When it cannot be reached, or is not.
pub async fn check_health(address: SocketAddr, service: &str) -> anyhow::Result<()> {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Wire;
    use tonic_health::pb::health_client::HealthClient;

    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(2))
        .connect()
        .await?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await?.into_inner();
    anyhow::ensure!(answer.status() == Wire::Serving, "{service} is {}", answer.status().as_str_name());
    Ok(())
}
