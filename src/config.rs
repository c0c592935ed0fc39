//! Settings: flags, or environment variables of the same names. Their comments are the manual that `--help` prints.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use lettre::Address;
use lettre::message::Mailbox;
use uuid::Uuid;

use crate::auth::caller::CallerReader;
use crate::auth::token::{TokenSettings, TokenSettingsError, TokenVerifier};
use crate::billing::provider::stripe::webhook::Secret;
use crate::billing::provider::{Provider, stripe};
use crate::database::DatabaseSettings;
use crate::delivery::mail::post::{Post, Sender};
use crate::delivery::mail::templates::Templates;
use crate::delivery::mail::{Mail, TOKEN};
use crate::delivery::webhook::{self, Webhooks};
use crate::dns::Dns;
use crate::telemetry::LogFormat;
use crate::transfer::format::MANUAL as MANUAL_OF_FORMAT;
use crate::transfer::import::BATCH_LINES;

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
    /// The database.
    #[command(flatten)]
    pub database: Database,
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
    /// What is logged: a level, or a filter as tracing-subscriber's EnvFilter reads it.
    #[arg(long, env = "TENANTRY_LOG", default_value = "info")]
    pub log: String,
    /// How it is logged.
    #[arg(long, env = "TENANTRY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
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
    /// A JWKS file with the keys by which tokens are signed (EdDSA, ES256, RS256, HS256). It is read at start.
    #[arg(long, env = "TENANTRY_JWKS")]
    pub jwks: Option<PathBuf>,
    /// The issuer that tokens must name. When absent, whoever has a key may issue.
    #[arg(long, env = "TENANTRY_JWT_ISSUER")]
    pub jwt_issuer: Option<String>,
    /// The audience that tokens must name. When absent, tokens that name one are refused.
    #[arg(long, env = "TENANTRY_JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// Whether to believe the identity headers x-user-id, x-user-email, x-org-id, x-org-role, x-service and x-user-address. Only right
    /// behind a gateway that sets them and strips them from what clients send. When absent: yes on a loopback address
    /// without token keys, no otherwise.
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
            .finish()
    }
}

/// Why nobody could be let in.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The keys are not sound.
    #[error("the token keys are not sound: {0}")]
    Keys(#[from] TokenSettingsError),
    /// A key set is to be fetched.
    #[error("TENANTRY_JWKS must be a file: this version fetches no key sets")]
    JwksUrl,
    /// There is no way to know who calls.
    #[error(
        "nobody could call this server: set TENANTRY_JWKS or TENANTRY_JWT_SECRET to verify tokens, or, behind a gateway \
         that sets the identity headers, TENANTRY_TRUST_METADATA=true"
    )]
    NoIdentity,
}

impl Identity {
    /// How callers are known on an address, and whether that deserves a warning.
    pub fn reader(&self, listen: IpAddr) -> Result<(CallerReader, bool), IdentityError> {
        let has_keys = self.jwt_secret.is_some() || self.jwks.is_some();
        let trust_metadata = self.trust_metadata.unwrap_or(listen.is_loopback() && !has_keys);
        if !has_keys && !trust_metadata {
            return Err(IdentityError::NoIdentity);
        }
        if self.jwks.as_ref().is_some_and(|jwks| jwks.to_string_lossy().contains("://")) {
            return Err(IdentityError::JwksUrl);
        }
        let verifier = if has_keys {
            Some(TokenVerifier::new(&TokenSettings {
                secret: self.jwt_secret.as_ref().map(|secret| secret.clone().into_bytes()),
                jwks: self.jwks.as_ref().map(|path| path.display().to_string()),
                issuer: self.jwt_issuer.clone(),
                audience: self.jwt_audience.clone(),
            })?)
        } else {
            None
        };
        Ok((CallerReader { verifier, trust_metadata }, trust_metadata && !listen.is_loopback()))
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
