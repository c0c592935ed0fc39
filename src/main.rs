//! The binary: settings → logs → database → serve.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tenantry::app::App;
use tenantry::auth::caller::{CallerReader, HeaderTrust};
use tenantry::auth::layer::Gate;
use tenantry::auth::policy::RolePolicy;
use tenantry::auth::token::source::{self, Source};
use tenantry::auth::token::{self, MintedClaims, TokenVerifier};
use tenantry::billing::catalogue::Catalogue;
use tenantry::clock::{Clock, ManualClock};
use tenantry::config::{self, Callers, Cli, ClockKind, Command, Serve};
use tenantry::database::Database;
use tenantry::delivery::mail::Mail;
use tenantry::delivery::mail::post::Post;
use tenantry::deployment;
use tenantry::event::feed::Feed;
use tenantry::lanes::Lanes;
use tenantry::metrics::Metrics;
use tenantry::operation::standing::Standings;
use tenantry::overload::Overload;
use tenantry::trace::Spans;
use tenantry::transfer::TransferError;
use tenantry::transfer::export::Output;
use tenantry::transfer::faults::{Faults, TOLD};
use tenantry::transfer::import::{Import, Outcome};
use tenantry::{backup, banner, server, telemetry, transfer, transport};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tenantry: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        None => serve(cli.serve).await,
        Some(Command::Serve(settings)) => serve(*settings).await,
        Some(Command::Migrate(settings)) => migrate(&settings).await,
        Some(Command::Import(settings)) => import(&settings).await,
        Some(Command::Export(settings)) => export(&settings).await,
        Some(Command::Backup(settings)) => back_up(&settings).await,
        Some(Command::Restore(settings)) => restore(&settings).await,
        Some(Command::Token(settings)) => mint(&settings),
        Some(Command::Health(settings)) => {
            server::check_health(settings.health_listen.unwrap_or(settings.listen), &settings.service).await
        }
    }
}

/// The error and its causes in one sentence. Drivers repeat a cause in the text of what it caused; it is said once.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        said if said.contains(&cause) => said.to_owned(),
        said => format!("{said}: {cause}"),
    })
}

/// How many files stay for the database, the metrics, health and what else is opened, where there may be so many.
const OTHER_FILES: usize = 512;

/// No more connections than there may be files open: with all of them taken, the database could not be reached any more, nor would
/// those be heard who ask for health.
fn affordable(limits: transport::Limits) -> transport::Limits {
    let limit = getrlimit(Resource::Nofile);
    // Many systems start processes with fewer than they allow.
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "the number of open files stays as it was");
    }
    let Some(files) = getrlimit(Resource::Nofile).current else { return limits };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let most = files - OTHER_FILES.min(files / 2);
    if limits.connections > most {
        tracing::warn!(
            asked = limits.connections,
            taken = most,
            files,
            "fewer connections than asked: too few files may be open"
        );
    }
    transport::Limits { connections: limits.connections.min(most), ..limits }
}

/// Serves, or stops while it starts: whoever asks it to then waits for nothing that could be lost.
async fn serve(settings: Serve) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let (listener, parts, spans) = tokio::select! {
        prepared = prepare(settings) => prepared?,
        () = stop.cancelled() => {
            tracing::info!("stopped while it started");
            return Ok(());
        }
    };
    let served = server::serve(listener, parts, stop).await;
    if let Some(spans) = spans {
        spans.end().await;
    }
    served
}

/// All that a server is made of, and who sends its spans.
async fn prepare(settings: Serve) -> anyhow::Result<(TcpListener, server::Parts, Option<Spans>)> {
    let spans = settings.otlp.as_deref().map(|url| Spans::begin(url, settings.trace_share)).transpose()?;
    telemetry::init(&settings.log, settings.log_format, spans.as_ref())?;
    let metrics = Metrics::default();
    let tls = settings.tls.open(metrics.tls.clone())?.map(Arc::new);
    let Callers { reader: callers, keys, is_exposed } =
        settings.identity.callers(settings.listen.ip(), !settings.tls.tls_services.is_empty())?;
    if is_exposed {
        tracing::warn!(listen = %settings.listen, "identity headers are believed from whoever can reach this address");
    }
    let policy = Arc::new(RolePolicy::load(&settings.role_policy)?);
    let catalogue = Catalogue::load(settings.plans.as_deref())?;
    let clock = match settings.clock {
        ClockKind::System => Clock::System,
        ClockKind::Manual => Clock::Manual(ManualClock::starting_now()),
    };
    let listener = bind(settings.listen).await?;
    let (provider, webhook_secrets) = settings.payment.provider()?;
    let webhooks = if provider.collects() {
        Some(server::Webhooks {
            listener: bind(settings.payment.stripe_webhook_listen).await?,
            secrets: webhook_secrets,
        })
    } else {
        None
    };
    let metrics_listener = bind_if(settings.metrics_listen).await?;
    let health_listener = bind_if(settings.health_listen).await?;
    let keys = match (keys, &callers.verifier) {
        (Some(source), Some(verifier)) => Some(first_keys(source, verifier, &metrics).await),
        _ => None,
    };
    let patience = Duration::from_secs(settings.database_wait_seconds);
    let database = Database::connect_patiently(&settings.database.settings(), patience).await?;
    database.migrate().await?;
    deployment::check(&database, &policy).await?;
    let (mail, webhooks_sent) = (settings.mail.open()?, settings.webhook.open()?);
    announce(&settings, &policy, &callers, tls.is_some(), mail.as_ref());
    for endpoint in &webhooks_sent.platform {
        tracing::info!(name = endpoint.name, endpoint = %endpoint.endpoint_id, "what happens in all organizations is posted to an endpoint");
    }
    if settings.reflection && tls.is_none() {
        // Without it grpcurl would need the protos, and with TLS an authority that this line does not know.
        banner::print(listener.local_addr()?, banner_identity(&callers, &settings.identity));
    }
    // Tokens are of the world outside, whatever the clock of this server says.
    let overload = Arc::new(Overload::new(&settings.limits.overload(), metrics.overload.clone()));
    let gate = Gate { callers, policy: Arc::clone(&policy), clock: Clock::System, overload: Arc::clone(&overload) };
    let invitation_lifetime = settings.invitation_lifetime();
    let (lanes, dns) = (Lanes::default(), settings.dns.clone());
    let database = Arc::new(database);
    let app = Arc::new(App {
        standings: Standings::new(Arc::clone(&database)),
        database,
        lanes,
        clock,
        policy,
        catalogue,
        dns,
        provider,
        invitation_lifetime,
        event_lifetime: settings.event_lifetime(),
        mail,
        webhooks: webhooks_sent,
        metrics,
        overload,
        feed: Feed::default(),
    });
    let parts = server::Parts {
        app,
        gate,
        reflection: settings.reflection,
        drain: settings.drain(),
        webhooks,
        metrics: metrics_listener,
        health: health_listener,
        tls,
        limits: affordable(settings.limits.transport()),
        deadline: settings.limits.deadline(),
        keys,
    };
    Ok((listener, parts, spans))
}

/// Looks at the keys of tokens before anybody calls. Where they cannot be had, the server starts and is not ready until they are.
async fn first_keys(source: Source, verifier: &TokenVerifier, metrics: &Metrics) -> (Source, Option<Duration>) {
    match source::look(verifier, &source, &metrics.keys).await {
        Ok(age) => (source, Some(age)),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "the key set could not be taken");
            (source, None)
        }
    }
}

async fn bind_if(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => Ok(Some(bind(address).await?)),
        None => Ok(None),
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// What somebody who looks at the log at night wants to know first.
fn announce(settings: &Serve, policy: &RolePolicy, callers: &CallerReader, tls: bool, mail: Option<&Mail>) {
    let identity = match (callers.verifier.is_some(), callers.headers != HeaderTrust::Refused) {
        (true, true) => "tokens and headers",
        (true, false) => "tokens",
        (false, true) => "headers",
        (false, false) => "certificates",
    };
    let database = settings.database.database_url.split(':').next().unwrap_or_default();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        database,
        role_policy = policy.name(),
        plans = settings.plans.as_deref().unwrap_or("embedded"),
        identity,
        tls,
        certified_services = settings.tls.tls_services.len(),
        payment = ?settings.payment.payment_provider,
        mail = mail.map_or("off", |mail| mail.post.kind()),
        "starting"
    );
    if settings.clock == ClockKind::Manual {
        tracing::warn!("the clock is a manual one: it stands still, and whoever may call moves it");
    }
    if let Some(Post::Folder(folder)) = mail.map(|mail| &mail.post) {
        tracing::warn!(folder = %folder.display(), "e-mail is written into a folder, and reaches nobody");
    }
}

fn banner_identity(callers: &CallerReader, identity: &config::Identity) -> banner::Identity {
    match identity.jwt_secret {
        _ if callers.headers != HeaderTrust::Refused => banner::Identity::Headers,
        Some(_) => banner::Identity::Secret,
        None => banner::Identity::Issuer,
    }
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}

async fn migrate(settings: &config::Database) -> anyhow::Result<()> {
    let database = Database::connect(&settings.settings()).await?;
    database.migrate().await?;
    database.close().await?;
    println!("the database has the newest schema");
    Ok(())
}

async fn import(settings: &config::Import) -> anyhow::Result<()> {
    let started = Instant::now();
    let policy = RolePolicy::load(&settings.role_policy)?;
    let catalogue = Catalogue::load(settings.plans.as_deref())?;
    let database = Database::connect(&settings.database.settings()).await?;
    database.migrate().await?;
    if settings.check {
        deployment::compare_only(&database, &policy).await?;
    } else {
        deployment::check(&database, &policy).await?;
    }
    let import = Import {
        file: &settings.file,
        database: &database,
        policy: &policy,
        catalogue: &catalogue,
        clock: &Clock::System,
        check: settings.check,
        batch_lines: settings.batch_lines,
    };
    let outcome = import.run().await?;
    database.close().await?;
    match outcome {
        Outcome::Faulty(faults) => return Err(told(&settings.file, faults).into()),
        Outcome::Sound(counts) => println!("the file has no fault: {counts}"),
        Outcome::DoneBefore(finished_at) => println!("the file was imported before, until {finished_at}"),
        Outcome::Done(counts) => println!("imported {counts} in {:.1} s", started.elapsed().as_secs_f64()),
    }
    Ok(())
}

/// Tells the faults of a file, and gives the refusal.
fn told(file: &Path, faults: Faults) -> TransferError {
    let count = faults.count();
    for fault in faults.told() {
        eprintln!("{}:{}: {}", file.display(), fault.line, fault.text);
    }
    if count > TOLD as u64 {
        eprintln!("… and {} more", count - TOLD as u64);
    }
    TransferError::Faulty(count)
}

async fn export(settings: &config::Export) -> anyhow::Result<()> {
    let started = Instant::now();
    let database = Database::connect(&settings.database.settings()).await?;
    let mut output = Output::open(settings.output.as_deref())?;
    let exported = transfer::export::export(&database, settings.organization, &mut output).await?;
    database.close().await?;
    // The standard output may be the export itself.
    eprintln!("exported {exported} in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

async fn back_up(settings: &config::Backup) -> anyhow::Result<()> {
    let started = Instant::now();
    let bytes = backup::backup(&settings.database_url, &settings.file).await?;
    println!("{}: {bytes} bytes in {:.1} s", settings.file.display(), started.elapsed().as_secs_f64());
    Ok(())
}

async fn restore(settings: &config::Restore) -> anyhow::Result<()> {
    let kept = backup::restore(&settings.database_url, &settings.file, settings.replace).await?;
    println!("{} is the database now", settings.file.display());
    if let Some(kept) = kept {
        println!("what was there is {}", kept.display());
    }
    Ok(())
}

fn mint(settings: &config::Token) -> anyhow::Result<()> {
    let claims = MintedClaims {
        sub: settings.subject.clone(),
        email: settings.email.clone(),
        org_id: settings.organization.clone(),
        org_role: settings.role.clone(),
        scope: settings.platform.then(|| "platform".to_owned()),
        act: settings.acting_service.clone(),
        issuer: settings.issuer.clone(),
        audience: settings.audience.clone(),
        ..MintedClaims::default()
    };
    let lifetime = chrono::TimeDelta::minutes(i64::from(settings.minutes));
    let minted = token::mint(settings.jwt_secret.as_bytes(), &claims, Clock::System.now(), lifetime)?;
    println!("{minted}");
    Ok(())
}
