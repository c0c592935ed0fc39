//! Settings: flags, or environment variables of the same names. Their comments are the manual that `--help` prints.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use lettre::Address;
use lettre::message::Mailbox;
use uuid::Uuid;

use crate::auth::caller::{CallerReader, HeaderTrust};
use crate::auth::token::source::{Source, SourceError};
use crate::auth::token::{TokenSettings, TokenSettingsError, TokenVerifier};
use crate::billing::provider::stripe::webhook::Secret;
use crate::billing::provider::{Provider, stripe};
use crate::database::DatabaseSettings;
use crate::deadline::DeadlineLayer;
use crate::delivery::mail::post::{Post, Sender};
use crate::delivery::mail::templates::Templates;
use crate::delivery::mail::{Mail, TOKEN};
use crate::delivery::webhook::{self, Webhooks};
use crate::dns::Dns;
use crate::telemetry::LogFormat;
use crate::transfer::format::MANUAL as MANUAL_OF_FORMAT;
use crate::transfer::import::BATCH_LINES;
use crate::transport::tls::{self, ClientAuth, NamedService, Tls};
use crate::{overload, transport};

/// What `--help` says after the settings.
const MANUAL: &str = "\
WHO CALLS
  A token (authorization: Bearer JWT) with sub, email, org_id and org_role, or scope `platform` for a service; or, where they \
   are trusted, the headers x-user-id, x-user-email, x-org-id and x-org-role, or x-service. Never both.

ROLE POLICY AND PLANS
  TOML files, checked whole at start: every fault is named with its line or key. The presets are in src/auth/presets of the \
   repository, the embedded catalogue is src/billing/catalogue/catalogue.toml; both say how to write one's own. A database keeps the top \
   role that it was begun with.

DATABASE
  sqlite:PATH is relative to the working directory, and serves one process. postgres://USER:PASSWORD@HOST/DATABASE serves any \
   number. Migrations run at start under a lock, or beforehand by `tenantry migrate`.

HEALTH
  grpc.health.v1 knows `liveness` (the process runs), `readiness` (the database answers), `invariants` (the books agree, as far as \
   they were recounted) and each service by its full name; `tenantry health` asks.

SIGNALS
  SIGTERM and SIGINT: health turns to NOT_SERVING, calls under way end, the process exits with 0.

EXIT STATUS
  0 when stopped or done, 1 when it cannot start or the answer is no, 2 when a setting is not one.";

/// Organizations, members, invitations, seats and subscriptions behind one gRPC service.
///
/// Without a subcommand it serves. Every setting is a flag or an environment variable.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_long_help = MANUAL)]
pub struct Cli {
    /// What to do; serve, when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings of the server.
    #[command(flatten)]
    pub serve: Serve,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve. The same as no subcommand.
    Serve(Box<Serve>),
    /// Bring the database to the newest schema and exit.
    Migrate(Database),
    /// Bring organizations with all their people in from a file of JSON lines.
    ///
    /// The whole file is checked first, and every fault is told with its line; nothing is written while there is one. Then it is
    /// written in the order of its lines, in transactions of some thousand. An import that was interrupted, in whatever way, goes on
    /// when it is run again with the same file; one that is done does nothing. Roles and plans are checked by the role policy and the
    /// plans that are given here: give those of the server. The database is brought to the newest schema, as the server does. On
    /// PostgreSQL servers may run meanwhile; on SQLite the server must be stopped.
    ///
    /// Nobody gets an e-mail, and imported invitations have no token: they are accepted by their name (ListReceivedInvitations), or
    /// sent again. Each organization's log begins with organization.imported.
    #[command(after_long_help = MANUAL_OF_FORMAT)]
    Import(Box<Import>),
    /// Write organizations with all their people as JSON lines.
    ///
    /// Everything as it is at one instant, in the format that `tenantry import` reads and in an order in which it does. On
    /// PostgreSQL servers may run meanwhile; on SQLite the server must be stopped, for its file serves one process.
    ///
    /// Not in it: organizations that are deleted and not purged yet, the tokens of invitations, etags and update times, since when
    /// somebody is assigned to a workspace, settings, domains and requests to join, billing profiles, sessions and recordings,
    /// analytics, the log.
    #[command(after_long_help = MANUAL_OF_FORMAT)]
    Export(Box<Export>),
    /// Write an SQLite database as it is now into a new file, while a server serves it.
    ///
    /// The file is a database itself, checked page by page before it bears its name. For PostgreSQL use pg_basebackup with an archive
    /// of the log, or pg_dump.
    Backup(Backup),
    /// Put a backup in the place of an SQLite database, while no server serves it.
    ///
    /// It is checked first; nothing is changed unless it is sound and this version can serve it. What happened after the backup is gone: e-mail
    /// that was sent then is not sent again, but invitations and events of that time do not exist, and numbers of invoices and events are
    /// given anew.
    Restore(Restore),
    /// Mint a token for development, signed with TENANTRY_JWT_SECRET, and print it.
    Token(Box<Token>),
    /// Ask a running server whether it is healthy; the exit status says so.
    Health(Health),
}

/// The settings of the server.
#[derive(Debug, Args)]
pub struct Serve {
    /// The address to listen on.
    #[arg(long, env = "TENANTRY_LISTEN", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// The address on which health alone is answered, without TLS: what Kubernetes probes, for its probes speak none, and what no number of
    /// callers can keep it from; nowhere when absent.
    #[arg(long, env = "TENANTRY_HEALTH_LISTEN")]
    pub health_listen: Option<SocketAddr>,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsSettings,
    /// What connections and calls may cost.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// The database.
    #[command(flatten)]
    pub database: Database,
    /// How long to wait at start for a database that is not there yet, in seconds.
    #[arg(long, env = "TENANTRY_DATABASE_WAIT_SECONDS", default_value_t = 30)]
    pub database_wait_seconds: u64,
    /// The role policy: owner-billing, shared-billing, split-admin, guarded-admin, or a TOML file of your own.
    #[arg(long, env = "TENANTRY_ROLE_POLICY", default_value = "owner-billing")]
    pub role_policy: String,
    /// The plan catalogue, a TOML file; the embedded one when absent.
    #[arg(long, env = "TENANTRY_PLANS")]
    pub plans: Option<String>,
    /// Who collects what is due.
    #[command(flatten)]
    pub payment: Payment,
    /// E-mail.
    #[command(flatten)]
    pub mail: MailSettings,
    /// Webhooks.
    #[command(flatten)]
    pub webhook: WebhookSettings,
    /// Who callers are.
    #[command(flatten)]
    pub identity: Identity,
    /// How long an invitation lives unless the call says otherwise, in days (1 to 30).
    #[arg(long, env = "TENANTRY_INVITATION_DAYS", default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..=30))]
    pub invitation_days: u8,
    /// How long the audit log goes back, in days (at least 30); to its beginning when absent.
    #[arg(long, env = "TENANTRY_EVENT_DAYS", value_parser = clap::value_parser!(u16).range(30..))]
    pub event_days: Option<u16>,
    /// Who is asked for the TXT records that prove domains: `system` (the name servers of /etc/resolv.conf), the ADDRESS, with or
    /// without :PORT, of a name server, or zone:FILE, a zone file that is read anew each time.
    #[arg(long, env = "TENANTRY_DNS", default_value = "system", value_name = "WHO")]
    pub dns: Dns,
    /// The clock. A manual one moves only by ClockService; it is for tests.
    #[arg(long, env = "TENANTRY_CLOCK", value_enum, default_value_t = ClockKind::System)]
    pub clock: ClockKind,
    /// Whether to answer reflection, by which grpcurl knows the services.
    #[arg(long, env = "TENANTRY_REFLECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub reflection: bool,
    /// How long calls may go on after the signal to stop, in seconds.
    #[arg(long, env = "TENANTRY_DRAIN_SECONDS", default_value_t = 30)]
    pub drain_seconds: u64,
    /// The address on which Prometheus reads the metrics, as GET /metrics by HTTP/1.1; nowhere when absent.
    #[arg(long, env = "TENANTRY_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
    /// The collector that spans are sent to, by OTLP over gRPC: http://localhost:4317; nobody when absent. Whoever calls may bring the trace that
    /// the call is part of (traceparent), and webhooks carry it on.
    #[arg(long, env = "TENANTRY_OTLP", value_name = "URL")]
    pub otlp: Option<String>,
    /// Which share of the calls is traced whose caller has not decided, from 0 to 1.
    #[arg(long, env = "TENANTRY_TRACE_SHARE", default_value_t = 0.1, value_parser = share)]
    pub trace_share: f64,
    /// What is logged: a level, or a filter as tracing-subscriber's EnvFilter reads it.
    #[arg(long, env = "TENANTRY_LOG", default_value = "info")]
    pub log: String,
    /// How it is logged.
    #[arg(long, env = "TENANTRY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// TLS.
#[derive(Debug, Args)]
pub struct TlsSettings {
    /// A file with the server's certificate, and what leads to its authority, in PEM. Without it there is no TLS. This file, the key and
    /// the authorities are read again when they change.
    #[arg(long, env = "TENANTRY_TLS_CERTIFICATE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// A file with its key, in PEM.
    #[arg(long, env = "TENANTRY_TLS_KEY", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// A file with the authorities, in PEM, that vouch for clients. Without it no client is asked for a certificate.
    #[arg(long, env = "TENANTRY_TLS_CLIENT_CA", requires = "tls_certificate")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients need a certificate.
    #[arg(long, env = "TENANTRY_TLS_CLIENT_AUTH", value_enum, default_value_t = ClientAuth::Required)]
    pub tls_client_auth: ClientAuth,
    /// Which clients are which trusted services: NAME=SERVICE, separated by commas, where NAME is a DNS name or URI among the subject
    /// alternative names of their certificate, whole: spiffe://prod/ns/shop/sa/app=app. Such a client calls as that service, and the
    /// identity headers that it sends are believed.
    #[arg(
        long,
        env = "TENANTRY_TLS_SERVICES",
        requires = "tls_client_ca",
        value_delimiter = ',',
        value_name = "NAME=SERVICE"
    )]
    pub tls_services: Vec<NamedService>,
}

impl TlsSettings {
    /// TLS, if there is any.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used.
    pub fn open(&self, meter: tls::Meter) -> anyhow::Result<Option<Tls>> {
        let (Some(certificate), Some(key)) = (self.tls_certificate.clone(), self.tls_key.clone()) else {
            return Ok(None);
        };
        let client_authority = self.tls_client_ca.clone().map(|path| (path, self.tls_client_auth));
        let files = tls::Files { certificate, key, client_authority };
        Tls::open(files, &self.tls_services, meter).context("TLS").map(Some)
    }
}

/// What connections and calls may cost.
#[derive(Debug, Args)]
pub struct LimitSettings {
    /// The most connections at a time; those beyond are closed at once. The process needs as many open files, and some hundred.
    #[arg(long, env = "TENANTRY_CONNECTIONS", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// The most calls that one connection has under way.
    #[arg(long, env = "TENANTRY_CONNECTION_STREAMS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub connection_streams: u32,
    /// How long a connection lives, in seconds, give or take a tenth; then its client makes another, perhaps to another server. Calls
    /// under way end, but no later than after the longest deadline.
    #[arg(long, env = "TENANTRY_CONNECTION_AGE_SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u32).range(1..))]
    pub connection_age_seconds: u32,
    /// How long a connection without calls is kept, in seconds.
    #[arg(long, env = "TENANTRY_CONNECTION_IDLE_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub connection_idle_seconds: u32,
    /// How long a call may take that names no deadline, in seconds.
    #[arg(long, env = "TENANTRY_DEADLINE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub deadline_seconds: u32,
    /// How long any call may take, in seconds, whatever deadline it names.
    #[arg(long, env = "TENANTRY_DEADLINE_MAX_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub deadline_max_seconds: u32,
    /// The most calls that are served at a time; those beyond are refused at once with UNAVAILABLE.
    #[arg(long, env = "TENANTRY_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub concurrency: u32,
    /// The most calls in a second of one caller, a user or a service under its own name, twice as many at once; any number when absent.
    #[arg(long, env = "TENANTRY_CALLER_RATE")]
    pub caller_rate: Option<NonZeroU32>,
    /// The most calls in a second for one organization, twice as many at once; any number when absent. Each server counts for itself.
    #[arg(long, env = "TENANTRY_ORGANIZATION_RATE")]
    pub organization_rate: Option<NonZeroU32>,
}

impl LimitSettings {
    /// As the transport takes them.
    #[must_use]
    pub fn transport(&self) -> transport::Limits {
        transport::Limits {
            connections: self.connections.try_into().unwrap_or(usize::MAX),
            streams: self.connection_streams,
            age: Duration::from_secs(self.connection_age_seconds.into()),
            idle: Duration::from_secs(self.connection_idle_seconds.into()),
            grace: Duration::from_secs(self.deadline_max_seconds.into()),
            ..transport::Limits::default()
        }
    }

    /// How long calls may take.
    #[must_use]
    pub fn deadline(&self) -> DeadlineLayer {
        DeadlineLayer {
            usual: Duration::from_secs(self.deadline_seconds.into()),
            longest: Duration::from_secs(self.deadline_max_seconds.into()),
        }
    }

    /// What is taken on at a time.
    #[must_use]
    pub fn overload(&self) -> overload::Limits {
        overload::Limits {
            calls: self.concurrency.try_into().unwrap_or(usize::MAX),
            caller_rate: self.caller_rate,
            organization_rate: self.organization_rate,
            ..overload::Limits::default()
        }
    }
}

/// The database.
#[derive(Clone, Debug, Args)]
pub struct Database {
    /// The database: sqlite:PATH for one process, postgres://… for any number.
    #[arg(long, env = "TENANTRY_DATABASE_URL", default_value = "sqlite:tenantry.db", hide_env_values = true)]
    pub database_url: String,
    /// The most connections that this process holds to it.
    #[arg(long, env = "TENANTRY_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_connections: u32,
}

impl Database {
    /// As the database module takes it.
    #[must_use]
    pub fn settings(&self) -> DatabaseSettings {
        let mut settings = DatabaseSettings::new(self.database_url.clone());
        settings.max_connections = self.database_connections;
        settings
    }
}

/// Who collects what is due.
#[derive(Args)]
pub struct Payment {
    /// Who collects what is due: nobody (a service records payments), or Stripe.
    #[arg(long, env = "TENANTRY_PAYMENT_PROVIDER", value_enum, default_value_t = PaymentProvider::Manual)]
    pub payment_provider: PaymentProvider,
    /// The secret key of the Stripe account.
    #[arg(long, env = "TENANTRY_STRIPE_SECRET_KEY", hide_env_values = true)]
    pub stripe_secret_key: Option<String>,
    /// The signing secrets of the webhook endpoint, separated by commas: several, while one is replaced by another.
    #[arg(long, env = "TENANTRY_STRIPE_WEBHOOK_SECRETS", hide_env_values = true, value_delimiter = ',')]
    pub stripe_webhook_secrets: Vec<String>,
    /// Where Stripe's API is.
    #[arg(long, env = "TENANTRY_STRIPE_URL", default_value = "https://api.stripe.com")]
    pub stripe_url: String,
    /// The address on which Stripe's webhooks come, as POST /webhooks/stripe by HTTP/1.1; behind a proxy that ends TLS.
    #[arg(long, env = "TENANTRY_STRIPE_WEBHOOK_LISTEN", default_value = "127.0.0.1:50052")]
    pub stripe_webhook_listen: SocketAddr,
}

/// Who collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PaymentProvider {
    /// Nobody.
    Manual,
    /// Stripe.
    Stripe,
}

impl std::fmt::Debug for Payment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Payment")
            .field("payment_provider", &self.payment_provider)
            .field("stripe_secret_key", &self.stripe_secret_key.as_ref().map(|_| "…"))
            .field("stripe_webhook_secrets", &self.stripe_webhook_secrets.len())
            .field("stripe_url", &self.stripe_url)
            .field("stripe_webhook_listen", &self.stripe_webhook_listen)
            .finish()
    }
}

impl Payment {
    /// The provider, and the signing secrets of its webhooks if it has any.
    ///
    /// # Errors
    ///
    /// When Stripe is chosen and a setting of it is missing or is none.
    pub fn provider(&self) -> anyhow::Result<(Provider, Vec<Secret>)> {
        if self.payment_provider == PaymentProvider::Manual {
            return Ok((Provider::Manual, Vec::new()));
        }
        let key = self.stripe_secret_key.clone().context("Stripe needs TENANTRY_STRIPE_SECRET_KEY")?;
        anyhow::ensure!(
            !self.stripe_webhook_secrets.is_empty(),
            "Stripe needs TENANTRY_STRIPE_WEBHOOK_SECRETS: without them nobody knows whose webhooks are"
        );
        let mut settings = stripe::Settings::new(key.into());
        settings.base_url.clone_from(&self.stripe_url);
        let secrets = self.stripe_webhook_secrets.iter().map(|secret| secret.clone().into()).collect();
        Ok((Provider::Stripe(stripe::Stripe::new(&settings)?), secrets))
    }
}

/// E-mail.
#[derive(Args)]
pub struct MailSettings {
    /// Who sends e-mail: smtps://USER:PASSWORD@HOST:PORT, or smtp://HOST:PORT with ?tls=required for STARTTLS; folder:PATH, into which
    /// letters are written as .eml files that nobody sends; off, where the caller delivers the tokens of invitations. The same on
    /// all servers of a database.
    #[arg(
        long,
        env = "TENANTRY_MAIL",
        default_value = "folder:tenantry-mail",
        hide_env_values = true,
        value_name = "WHO"
    )]
    pub mail: String,
    /// A file with the certificate, in PEM, of the authority that vouches for the SMTP server, besides the public ones.
    #[arg(long, env = "TENANTRY_MAIL_CA")]
    pub mail_ca: Option<PathBuf>,
    /// From whom e-mail is: `Product <address>`, with the name of the product.
    #[arg(long, env = "TENANTRY_MAIL_FROM", value_parser = mailbox)]
    pub mail_from: Option<Mailbox>,
    /// The page of the product on which invitations are accepted, with {token} where the token goes.
    #[arg(long, env = "TENANTRY_INVITATION_URL")]
    pub invitation_url: Option<String>,
    /// The language of e-mail to organizations that chose none: en, nl, or a folder of TENANTRY_MAIL_TEMPLATES.
    #[arg(long, env = "TENANTRY_MAIL_LANGUAGE", default_value = "en")]
    pub mail_language: String,
    /// A folder of templates of your own: LANGUAGE/KIND.txt, whose first line is `Subject: …`, and LANGUAGE/KIND.html, in the language
    /// of Jinja. Those that come along are in src/delivery/mail/templates of the repository.
    #[arg(long, env = "TENANTRY_MAIL_TEMPLATES")]
    pub mail_templates: Option<PathBuf>,
}

impl std::fmt::Debug for MailSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MailSettings")
            .field("mail", &self.mail.parse::<Sender>())
            .field("mail_ca", &self.mail_ca)
            .field("mail_from", &self.mail_from)
            .field("invitation_url", &self.invitation_url)
            .field("mail_language", &self.mail_language)
            .field("mail_templates", &self.mail_templates)
            .finish()
    }
}

fn share(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or("must be from 0 to 1")
}

fn mailbox(text: &str) -> Result<Mailbox, &'static str> {
    text.parse().map_err(|_| "must be an e-mail address with a name before it, as in `Product <no-reply@example.com>`")
}

impl MailSettings {
    /// How e-mail is sent; nothing where none is.
    ///
    /// # Errors
    ///
    /// When it could not be sent as it is set, or letters could not be written.
    pub fn open(&self) -> anyhow::Result<Option<Mail>> {
        // What would be wrong once e-mail is on is wrong now.
        let templates = Templates::load(self.mail_templates.as_deref())?;
        let language = self.mail_language.clone();
        anyhow::ensure!(
            templates.has(&language),
            "TENANTRY_MAIL_LANGUAGE is {language:?}, in which there are no letters: there are {}",
            templates.languages()
        );
        let sender: Sender = self.mail.parse()?;
        let Some(post) = Post::open(&sender, self.mail_ca.as_deref())? else { return Ok(None) };
        let (from, url) = (self.mail_from.clone(), self.invitation_url.clone());
        let (from, invitation_url) = if let Sender::Smtp(_) = sender {
            let from = from.context("e-mail by SMTP needs TENANTRY_MAIL_FROM: `Product <address>`")?;
            (from, url.context("e-mail by SMTP needs TENANTRY_INVITATION_URL: where invitations are accepted")?)
        } else {
            // Nobody gets these; who tries the service out sees what there would be.
            let nobody =
                Address::new("no-reply", "localhost").map(|address| Mailbox::new(Some("Tenantry".into()), address))?;
            (from.unwrap_or(nobody), url.unwrap_or_else(|| format!("http://localhost:3000/invitation?token={TOKEN}")))
        };
        let is_link = invitation_url.starts_with("https://") || invitation_url.starts_with("http://");
        anyhow::ensure!(
            is_link && invitation_url.contains(TOKEN),
            "TENANTRY_INVITATION_URL must be an http or https URL with {TOKEN} in it, where the token of the invitation goes"
        );
        Ok(Some(Mail { post, from, templates, invitation_url, language }))
    }
}

/// What to import.
#[derive(Debug, Args)]
pub struct Import {
    /// The file.
    pub file: PathBuf,
    /// The database.
    #[command(flatten)]
    pub database: Database,
    /// The role policy, as the server has it.
    #[arg(long, env = "TENANTRY_ROLE_POLICY", default_value = "owner-billing")]
    pub role_policy: String,
    /// The plan catalogue, as the server has it; the embedded one when absent.
    #[arg(long, env = "TENANTRY_PLANS")]
    pub plans: Option<String>,
    /// Check the file alone, against the database too, and import nothing.
    #[arg(long)]
    pub check: bool,
    /// How many lines one transaction writes.
    #[arg(long, default_value_t = BATCH_LINES, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch_lines: u32,
}

/// What to back up.
#[derive(Debug, Args)]
pub struct Backup {
    /// The file to write. It must not be there.
    pub file: PathBuf,
    /// The database.
    #[arg(long, env = "TENANTRY_DATABASE_URL", default_value = "sqlite:tenantry.db", hide_env_values = true)]
    pub database_url: String,
}

/// What to restore.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// The database.
    #[arg(long, env = "TENANTRY_DATABASE_URL", default_value = "sqlite:tenantry.db", hide_env_values = true)]
    pub database_url: String,
    /// Whether a database that is there may be moved away.
    #[arg(long)]
    pub replace: bool,
}

/// What to export.
#[derive(Debug, Args)]
pub struct Export {
    /// The database.
    #[command(flatten)]
    pub database: Database,
    /// The one organization to export; all of them when absent.
    #[arg(long)]
    pub organization: Option<Uuid>,
    /// The file to write; the standard output when absent.
    #[arg(long)]
    pub output: Option<PathBuf>,
}

/// Webhooks.
#[derive(Debug, Args)]
pub struct WebhookSettings {
    /// A TOML file of endpoints that are told what happens in all organizations. The README says how to write one.
    #[arg(long, env = "TENANTRY_WEBHOOKS")]
    pub webhooks: Option<PathBuf>,
    /// Networks that are not of the public internet and to which the webhooks of organizations are sent all the same, also without
    /// TLS, separated by commas: 10.20.0.0/16. Whoever may manage webhooks can have requests sent to what is in them.
    #[arg(long, env = "TENANTRY_WEBHOOK_NETWORKS", value_delimiter = ',', value_name = "NETWORKS")]
    pub webhook_networks: Vec<IpNet>,
    /// A file with the certificate, in PEM, of an authority that vouches for endpoints, besides the public ones.
    #[arg(long, env = "TENANTRY_WEBHOOK_CA")]
    pub webhook_ca: Option<PathBuf>,
}

impl WebhookSettings {
    /// Whom events are posted to, and how.
    ///
    /// # Errors
    ///
    /// When a file is not as it should be.
    pub fn open(&self) -> anyhow::Result<Webhooks> {
        Webhooks::open(&webhook::Settings {
            platform: self.webhooks.clone(),
            networks: self.webhook_networks.clone(),
            authority: self.webhook_ca.clone(),
            ..webhook::Settings::default()
        })
    }
}

/// Who callers are.
#[derive(Args)]
pub struct Identity {
    /// The secret by which tokens are signed (HS256), at least 32 bytes.
    #[arg(long, env = "TENANTRY_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,
    /// Where the key set (JWKS) is with the keys by which tokens are signed: a file (EdDSA, ES256, RS256, HS256), or an https URL (without
    /// HS256). Changes are followed.
    #[arg(long, env = "TENANTRY_JWKS", value_name = "FILE or URL")]
    pub jwks: Option<String>,
    /// A file with the certificate, in PEM, of an authority that vouches for that URL, besides the public ones.
    #[arg(long, env = "TENANTRY_JWKS_CA")]
    pub jwks_ca: Option<PathBuf>,
    /// How far the clocks of the issuer and of this server may differ, in seconds.
    #[arg(long, env = "TENANTRY_JWT_LEEWAY_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(0..=300))]
    pub jwt_leeway_seconds: u16,
    /// The issuer that tokens must name. When absent, whoever has a key may issue.
    #[arg(long, env = "TENANTRY_JWT_ISSUER")]
    pub jwt_issuer: Option<String>,
    /// The audience that tokens must name. When absent, tokens that name one are refused.
    #[arg(long, env = "TENANTRY_JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// Whether to believe the identity headers x-user-id, x-user-email, x-org-id, x-org-role, x-service and x-user-address. Only right
    /// behind a gateway that sets them and strips them from what clients send. When absent: yes on a loopback address
    /// without token keys and trusted certificates, except of calls that came through a proxy; no otherwise.
    #[arg(long, env = "TENANTRY_TRUST_METADATA")]
    pub trust_metadata: Option<bool>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("jwt_secret", &self.jwt_secret.as_ref().map(|_| "…"))
            .field("jwks", &self.jwks)
            .field("jwt_issuer", &self.jwt_issuer)
            .field("jwt_audience", &self.jwt_audience)
            .field("trust_metadata", &self.trust_metadata)
            .finish_non_exhaustive()
    }
}

/// Why nobody could be let in.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The keys are not sound.
    #[error("the token keys are not sound: {0}")]
    Keys(#[from] TokenSettingsError),
    /// The key set is nowhere that it could be fetched from.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is no way to know who calls.
    #[error(
        "nobody could call this server: set TENANTRY_JWKS or TENANTRY_JWT_SECRET to verify tokens, or, behind a gateway \
         that sets the identity headers, TENANTRY_TRUST_METADATA=true; or name the services that certificates stand for in \
         TENANTRY_TLS_SERVICES"
    )]
    NoIdentity,
}

/// How callers are known.
#[derive(Debug)]
pub struct Callers {
    /// Who reads them.
    pub reader: CallerReader,
    /// Where keys are followed, if there are any to follow.
    pub keys: Option<Source>,
    /// Whether headers are believed of others than this machine.
    pub is_exposed: bool,
}

impl Identity {
    /// How callers are known on an address; `has_services` when certificates name trusted services.
    pub fn callers(&self, listen: IpAddr, has_services: bool) -> Result<Callers, IdentityError> {
        let has_keys = self.jwt_secret.is_some() || self.jwks.is_some();
        let headers = match self.trust_metadata {
            Some(true) => HeaderTrust::Believed,
            None if listen.is_loopback() && !has_keys && !has_services => HeaderTrust::Unforwarded,
            _ => HeaderTrust::Refused,
        };
        if !has_keys && !has_services && headers == HeaderTrust::Refused {
            return Err(IdentityError::NoIdentity);
        }
        let keys = self.jwks.as_deref().map(|jwks| Source::of(jwks, self.jwks_ca.as_deref())).transpose()?;
        let verifier = if has_keys {
            Some(Arc::new(TokenVerifier::new(&TokenSettings {
                secret: self.jwt_secret.as_ref().map(|secret| secret.clone().into_bytes()),
                jwks: keys.clone(),
                leeway: Some(TimeDelta::seconds(self.jwt_leeway_seconds.into())),
                issuer: self.jwt_issuer.clone(),
                audience: self.jwt_audience.clone(),
                ..TokenSettings::default()
            })?))
        } else {
            None
        };
        let is_exposed = headers != HeaderTrust::Refused && !listen.is_loopback();
        Ok(Callers { reader: CallerReader { verifier, headers }, keys, is_exposed })
    }
}

/// Where the time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClockKind {
    /// The machine's clock.
    System,
    /// One that moves only by ClockService.
    Manual,
}

/// Whom to mint a token for.
#[derive(Args)]
pub struct Token {
    /// The secret to sign with, at least 32 bytes.
    #[arg(long, env = "TENANTRY_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: String,
    /// The user's id or, with --platform, the service's name.
    #[arg(long)]
    pub subject: String,
    /// The user's e-mail address.
    #[arg(long)]
    pub email: Option<String>,
    /// The organization that the user acts in.
    #[arg(long, requires = "role")]
    pub organization: Option<String>,
    /// The user's role there.
    #[arg(long, requires = "organization")]
    pub role: Option<String>,
    /// The token is a trusted service's own.
    #[arg(long, conflicts_with_all = ["email", "organization", "role"])]
    pub platform: bool,
    /// The trusted service that acts for the user; events name both.
    #[arg(long, conflicts_with = "platform")]
    pub acting_service: Option<String>,
    /// The issuer to name.
    #[arg(long, env = "TENANTRY_JWT_ISSUER")]
    pub issuer: Option<String>,
    /// The audience to name.
    #[arg(long, env = "TENANTRY_JWT_AUDIENCE")]
    pub audience: Option<String>,
    /// How long it holds, in minutes.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub minutes: u32,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Token").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Which server to ask.
#[derive(Debug, Args)]
pub struct Health {
    /// The server's address.
    #[arg(long, env = "TENANTRY_LISTEN", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// The address on which it answers health alone; it is asked there, if it does.
    #[arg(long, env = "TENANTRY_HEALTH_LISTEN")]
    pub health_listen: Option<SocketAddr>,
    /// `liveness`, `readiness`, or a service by its full name.
    #[arg(long, default_value = "readiness")]
    pub service: String,
}

impl Serve {
    /// How long an invitation lives.
    #[must_use]
    pub fn invitation_lifetime(&self) -> TimeDelta {
        TimeDelta::days(i64::from(self.invitation_days))
    }

    /// How long the log of events goes back; to its beginning when absent.
    #[must_use]
    pub fn event_lifetime(&self) -> Option<TimeDelta> {
        self.event_days.map(|days| TimeDelta::days(days.into()))
    }

    /// How long calls may go on after the signal to stop.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}
