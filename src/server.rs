//! The server: services behind their layers, health, reflection, and how it starts and stops.
//!
//! Tests run this very server: it takes a bound listener, the parts, and a token that stops it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::{LayerExt as _, Routes};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::layer::util::Stack;

use crate::app::App;
use crate::auth::layer::{AuthorizationLayer, Gate};
use crate::billing::invariants::Watch;
use crate::billing::provider::http;
use crate::billing::provider::stripe::webhook::{Secret, TOLERANCE};
use crate::clock::Clock;
use crate::deadline::DeadlineLayer;
use crate::error::Error;
use crate::pb::billing_service_server::BillingServiceServer;
use crate::pb::delivery_service_server::DeliveryServiceServer;
use crate::pb::event_service_server::EventServiceServer;
use crate::pb::membership_service_server::MembershipServiceServer;
use crate::pb::monitoring_service_server::MonitoringServiceServer;
use crate::pb::organization_service_server::OrganizationServiceServer;
use crate::pb::testing::clock_service_server::ClockServiceServer;
use crate::pb::webhook_service_server::WebhookServiceServer;
use crate::pb::workspace_service_server::WorkspaceServiceServer;
use crate::receive::ReceiveLayer;
use crate::telemetry::RpcLogLayer;
use crate::{
    billing, delivery, event, membership, metrics, monitoring, organization, pb, plain_http, testing, worker, workspace,
};

/// How often the database is asked for a sign of life, on which readiness follows.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may take to give one.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// How often some organizations are recounted.
const WATCH_INTERVAL: Duration = Duration::from_mins(1);

/// By this name `grpc.health.v1` tells whether the books agree.
const BOOKS: &str = "invariants";

/// The largest request: a batch of 500 with the longest e-mail addresses is a third of it.
const LARGEST_REQUEST: usize = 1024 * 1024;

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
}

/// Where the payment provider's webhooks come.
#[derive(Debug)]
pub struct Webhooks {
    /// The listener.
    pub listener: TcpListener,
    /// The signing secrets.
    pub secrets: Vec<Secret>,
}

/// Serves until `stop`, then lets the calls under way end.
///
/// # Errors
///
/// When the listener fails, or the descriptors that reflection serves are not sound.
pub async fn serve(listener: TcpListener, parts: Parts, stop: CancellationToken) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("liveness", ServingStatus::Serving).await;
    // Nobody has looked yet.
    health.set_service_status(BOOKS, ServingStatus::Unknown).await;
    report(&health, ServingStatus::NotServing).await;
    let app = parts.app;
    // The gate before the body is read: it decides on the metadata. The deadline around both.
    let receive = Stack::new(ReceiveLayer { largest: LARGEST_REQUEST }, AuthorizationLayer(Arc::new(parts.gate)));
    let guard = Stack::new(receive, DeadlineLayer);

    let mut routes = Routes::new(health_service)
        .add_service(
            guard.named_layer(
                OrganizationServiceServer::new(organization::Service(Arc::clone(&app)))
                    .max_decoding_message_size(LARGEST_REQUEST),
            ),
        )
        .add_service(
            guard.named_layer(
                MembershipServiceServer::new(membership::Service(Arc::clone(&app)))
                    .max_decoding_message_size(LARGEST_REQUEST),
            ),
        )
        .add_service(
            guard.named_layer(
                WorkspaceServiceServer::new(workspace::Service(Arc::clone(&app)))
                    .max_decoding_message_size(LARGEST_REQUEST),
            ),
        )
        .add_service(
            guard.named_layer(
                MonitoringServiceServer::new(monitoring::Service(Arc::clone(&app)))
                    .max_decoding_message_size(LARGEST_REQUEST),
            ),
        )
        .add_service(guard.named_layer(
            BillingServiceServer::new(billing::Service(Arc::clone(&app))).max_decoding_message_size(LARGEST_REQUEST),
        ))
        .add_service(guard.named_layer(
            EventServiceServer::new(event::Service(Arc::clone(&app))).max_decoding_message_size(LARGEST_REQUEST),
        ))
        .add_service(guard.named_layer(
            DeliveryServiceServer::new(delivery::Service(Arc::clone(&app))).max_decoding_message_size(LARGEST_REQUEST),
        ))
        .add_service(
            guard.named_layer(
                WebhookServiceServer::new(delivery::webhook::Service(Arc::clone(&app)))
                    .max_decoding_message_size(LARGEST_REQUEST),
            ),
        );
    let mut descriptors = pb::RELEASED_DESCRIPTOR_SET;
    if let Clock::Manual(clock) = &app.clock {
        descriptors = pb::DESCRIPTOR_SET;
        health.set_service_status("tenantry.testing.v1.ClockService", ServingStatus::Serving).await;
        routes = routes.add_service(guard.named_layer(
            ClockServiceServer::new(testing::Service(clock.clone())).max_decoding_message_size(LARGEST_REQUEST),
        ));
    }
    if parts.reflection {
        routes = with_reflection(routes, descriptors)?;
    }
    // tonic's own answer where there is no service would be a refusal without a reason.
    let routes = Routes::from(routes.into_axum_router().fallback(no_such_method));
    let server = Server::builder().layer(RpcLogLayer).add_routes(routes);

    let background = CancellationToken::new();
    let readiness = tokio::spawn(follow_database(Arc::clone(&app), health.clone(), background.clone()));
    let working = tokio::spawn(worker::run(Arc::clone(&app), background.clone()));
    let watching = tokio::spawn(watch_books(Arc::clone(&app), health.clone(), background.clone()));
    let hearing = tokio::spawn(hear(parts.webhooks, Arc::clone(&app), background.clone()));
    let feeding = tokio::spawn(event::feed::run(Arc::clone(&app), background.clone()));
    let delivering = tokio::spawn(delivery::run(Arc::clone(&app), background.clone()));
    let measuring = tokio::spawn(tell_metrics(parts.metrics, Arc::clone(&app), background.clone()));
    let stopping = {
        let (stop, background, app) = (stop.clone(), background.clone(), Arc::clone(&app));
        async move {
            stop.cancelled().await;
            background.cancel();
            app.feed.end();
            // Whoever balances load hears it before the listener closes.
            report(&health, ServingStatus::NotServing).await;
            end_watches(health).await;
            tracing::info!("stopping: new calls are refused, those under way may end");
        }
    };
    tracing::info!(%address, "serving");
    // An answer is written in two pieces: without this, the second waits for the acknowledgement of the first, 40 ms.
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = server.serve_with_incoming_shutdown(connections, stopping);
    let outcome = within(serving, stop, parts.drain).await;
    background.cancel();
    // Each is at most one short step from its end, unless the database does not answer, or a server of e-mail is slow: a letter that it
    // takes after this is sent once more.
    let ends = async { tokio::join!(readiness, working, hearing, watching, feeding, delivering, measuring) };
    if tokio::time::timeout(PING_TIMEOUT, ends).await.is_err() {
        tracing::warn!("left the background work before its end");
    }
    if !matches!(tokio::time::timeout(PING_TIMEOUT, app.database.close()).await, Ok(Ok(()))) {
        tracing::warn!("the database was not closed properly");
    }
    outcome
}

/// Answers what services there are.
fn with_reflection(routes: Routes, descriptors: &'static [u8]) -> anyhow::Result<Routes> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // With these grpcurl shows what a refusal says, and not its bytes.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}

/// Recounts some organizations at a time, and lets the health of `invariants` and the metric follow. It is a detail: what drifts is worth
/// waking somebody, but serves.
async fn watch_books(app: Arc<App>, health: HealthReporter, stop: CancellationToken) {
    let mut watch = Watch::default();
    loop {
        match watch.look(&app.database, &app.policy).await {
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
        let answer = app.metrics.answer(&request);
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

/// Waits for the server to end and, once it was told to stop, no longer than the drain time.
async fn within(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    stop: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()> {
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = overdue => {
            tracing::warn!(seconds = drain.as_secs(), "calls were still under way at the end of the drain time");
            Ok(())
        }
    }
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

/// Lets readiness follow the database.
async fn follow_database(app: Arc<App>, health: HealthReporter, stop: CancellationToken) {
    let mut ready = None;
    loop {
        let answered = tokio::time::timeout(PING_TIMEOUT, app.database.ping()).await.is_ok_and(|ping| ping.is_ok());
        if stop.is_cancelled() {
            return;
        }
        if ready != Some(answered) {
            ready = Some(answered);
            if answered {
                tracing::info!("ready: the database answers");
            } else {
                tracing::warn!("not ready: the database does not answer");
            }
            report(&health, if answered { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
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
