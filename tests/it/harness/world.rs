//! A world for one test: a database of its own, a clock that stands still, one or more servers on it, and people.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tempfile::TempDir;
use tenantry::app::App;
use tenantry::auth::caller::{CallerReader, HeaderTrust};
use tenantry::auth::layer::Gate;
use tenantry::auth::policy::RolePolicy;
use tenantry::auth::token::{TokenSettings, TokenVerifier};
use tenantry::billing::catalogue::Catalogue;
use tenantry::billing::provider::Provider;
use tenantry::clock::{Clock, ManualClock};
use tenantry::config::MailSettings;
use tenantry::database::{Database, DatabaseSettings};
use tenantry::deadline::DeadlineLayer;
use tenantry::delivery::webhook::{self, Webhooks as Posted};
use tenantry::deployment;
use tenantry::dns::{Dns, Source};
use tenantry::event::feed::Feed;
use tenantry::lanes::Lanes;
use tenantry::metrics::Metrics;
use tenantry::operation::standing::Standings;
use tenantry::overload::{self, Overload};
use tenantry::server::{self, Parts, Webhooks};
use tenantry::transport::{self, tls, tls::Tls};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::binary::until;
use super::person::Person;
use super::{Backend, postgres};

/// How the servers of a world are set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// A preset, or the path of a policy.
    pub(crate) policy: String,
    /// The plan catalogue; the embedded one when absent.
    pub(crate) plans: Option<String>,
    /// Whether identity headers are believed.
    pub(crate) trust_metadata: bool,
    /// How tokens are verified; not at all when absent.
    pub(crate) tokens: Option<TokenSettings>,
    /// How many servers there are. SQLite has one, whatever is asked.
    pub(crate) servers: usize,
    /// Who collects what is due.
    pub(crate) provider: Provider,
    /// How long the log of events goes back.
    pub(crate) event_lifetime: Option<TimeDelta>,
    /// How e-mail is sent; not at all when absent.
    pub(crate) mail: Option<Arc<MailSettings>>,
    /// How webhooks are set up.
    pub(crate) webhooks: webhook::Settings,
    /// Who is asked for TXT records; the zone file that [`World::sets_txt`] writes when absent.
    pub(crate) dns: Option<Dns>,
    /// What is taken on at a time.
    pub(crate) overload: overload::Limits,
    /// What connections may cost.
    pub(crate) limits: transport::Limits,
    /// How long calls may take.
    pub(crate) deadline: DeadlineLayer,
    /// Where certificates are, and which clients are which services; no TLS when absent.
    pub(crate) tls: Option<(tls::Files, Vec<tls::NamedService>)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: "owner-billing".into(),
            plans: None,
            trust_metadata: true,
            tokens: None,
            servers: 1,
            provider: Provider::Manual,
            event_lifetime: None,
            mail: None,
            webhooks: webhook::Settings::default(),
            dns: None,
            overload: overload::Limits::default(),
            limits: transport::Limits::default(),
            deadline: DeadlineLayer::default(),
            tls: None,
        }
    }
}

/// A catalogue whose default plan has this many seats, and no maximum.
pub(crate) fn plans_with_seats(seats: i64) -> String {
    format!(
        "[[plans]]\nplan = \"roomy\"\ntitle = \"Roomy\"\ncurrency = \"EUR\"\nperiod = \"month\"\nbase_price_minor = 0\n\
         seat_price_minor = 0\nincluded_seats = {seats}\nminimum_seats = 1\ndefault = true\n"
    )
}

/// Servers whose organizations have a hundred seats.
pub(crate) fn roomy() -> Setup {
    Setup { plans: Some(plans_with_seats(100)), ..Setup::default() }
}

/// What the payment provider signs its webhooks with.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_of_the_tests";

/// One server of a world.
pub(crate) struct RunningServer {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) webhook_address: Option<std::net::SocketAddr>,
    pub(crate) metrics_address: std::net::SocketAddr,
    pub(crate) channel: Channel,
    pub(crate) app: Arc<App>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

/// Everything that one test has. It ends with [`World::end`], which recounts the books.
pub(crate) struct World {
    pub(crate) backend: Backend,
    pub(crate) clock: ManualClock,
    pub(crate) setup: Setup,
    pub(crate) servers: Vec<RunningServer>,
    pub(crate) url: String,
    database_name: Option<String>,
    directory: TempDir,
    ended: bool,
}

impl World {
    /// One server with the defaults.
    pub(crate) async fn new(backend: Backend) -> Self {
        Self::with(backend, Setup::default()).await
    }

    /// Servers set up otherwise.
    pub(crate) async fn with(backend: Backend, setup: Setup) -> Self {
        let directory = TempDir::new().expect("a directory for the test");
        let (url, database_name) = match backend {
            Backend::Sqlite => (format!("sqlite:{}/test.db", directory.path().display()), None),
            Backend::Postgres => {
                let server = postgres::server();
                let template = server.template(migrated).await.to_owned();
                let name = server.create_database(Some(&template)).await;
                (server.url(&name), Some(name))
            }
        };
        let start = DateTime::parse_from_rfc3339("2026-01-05T09:00:00Z").expect("a time").to_utc();
        let clock = ManualClock::starting_at(start);
        let mut world =
            Self { backend, clock, setup, servers: Vec::new(), url, database_name, directory, ended: false };
        world.writes_zone("");
        let servers = if backend == Backend::Sqlite { 1 } else { world.setup.servers };
        for _ in 0..servers {
            world.start_server().await;
        }
        world
    }

    /// Starts another server on the same database.
    pub(crate) async fn start_server(&mut self) {
        let database = Database::connect(&DatabaseSettings::new(&self.url)).await.expect("the database can be opened");
        database.migrate().await.expect("the database can be migrated");
        let policy = Arc::new(RolePolicy::load(&self.setup.policy).expect("a sound role policy"));
        deployment::check(&database, &policy).await.expect("the role policy of this database");
        let catalogue = match &self.setup.plans {
            Some(plans) => Catalogue::parse("(test)", plans).expect("a sound catalogue"),
            None => Catalogue::load(None).expect("the embedded catalogue"),
        };
        let clock = Clock::Manual(self.clock.clone());
        let verifier = self.setup.tokens.as_ref().map(|tokens| TokenVerifier::new(tokens).expect("sound token keys"));
        let headers = if self.setup.trust_metadata { HeaderTrust::Believed } else { HeaderTrust::Refused };
        let callers = CallerReader { verifier: verifier.map(Arc::new), headers };
        let keys = self.setup.tokens.as_ref().and_then(|tokens| tokens.jwks.clone());
        let metrics = Metrics::default();
        let tls = self.setup.tls.as_ref().map(|(files, services)| {
            let tls = Tls::open(files.clone(), services, metrics.tls.clone()).expect("sound certificates");
            Arc::new(tls)
        });
        let overload = Arc::new(Overload::new(&self.setup.overload, metrics.overload.clone()));
        let gate = Gate { callers, policy: Arc::clone(&policy), clock: clock.clone(), overload: Arc::clone(&overload) };
        let database = Arc::new(database);
        let app = Arc::new(App {
            standings: Standings::new(Arc::clone(&database)),
            database,
            lanes: Lanes::default(),
            clock,
            policy,
            catalogue,
            dns: self.setup.dns.clone().unwrap_or(Source::Zone(self.zone()).into()),
            provider: self.setup.provider.clone(),
            invitation_lifetime: TimeDelta::days(7),
            event_lifetime: self.setup.event_lifetime,
            mail: self.setup.mail.as_ref().map(|mail| mail.open().expect("sound settings").expect("e-mail")),
            webhooks: Posted::open(&self.setup.webhooks).expect("sound settings"),
            metrics,
            overload,
            feed: Feed::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let mut webhook_address = None;
        let webhooks = if self.setup.provider.collects() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            webhook_address = Some(listener.local_addr().expect("an address"));
            Some(Webhooks { listener, secrets: vec![WEBHOOK_SECRET.to_owned().into()] })
        } else {
            None
        };
        let metrics = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let metrics_address = metrics.local_addr().expect("an address");
        let (reflection, drain, metrics) = (true, Duration::from_secs(20), Some(metrics));
        let parts = Parts {
            app: Arc::clone(&app),
            gate,
            reflection,
            drain,
            webhooks,
            metrics,
            health: None,
            tls: tls.clone(),
            limits: self.setup.limits.clone(),
            deadline: self.setup.deadline,
            keys: keys.map(|keys| (keys, None)),
        };
        let task = tokio::spawn(server::serve(listener, parts, stop.clone()));
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("a URL").connect_lazy();
        // What it does at its start would else come upon what the test has only begun.
        until("the worker has begun", async || app.metrics.worker_sweeps.get() > 0).await;
        let server = RunningServer { address, webhook_address, metrics_address, channel, app, tls, stop, task };
        self.servers.push(server);
    }

    /// The file in which the domain name system of this world stands.
    fn zone(&self) -> PathBuf {
        self.directory.path().join("zone")
    }

    /// Says everything that there is in the domain name system.
    pub(crate) fn writes_zone(&self, zone: &str) {
        std::fs::write(self.zone(), zone).expect("the zone file can be written");
    }

    /// Adds a TXT record to the domain name system.
    pub(crate) fn sets_txt(&self, name: &str, value: &str) {
        let zone = std::fs::read_to_string(self.zone()).expect("the zone file can be read");
        self.writes_zone(&format!("{zone}{name}. 60 IN TXT \"{value}\"\n"));
    }

    /// A channel to the first server.
    pub(crate) fn channel(&self) -> Channel {
        self.servers[0].channel.clone()
    }

    /// Somebody whom the identity provider knows as `name`, with the address `name@example.com`, acting for themselves.
    pub(crate) fn person(&self, name: &str) -> Person {
        Person::new(self.channel(), name)
    }

    /// A trusted service.
    pub(crate) fn service(&self, name: &str) -> Person {
        Person::service(self.channel(), name)
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: TimeDelta) -> DateTime<Utc> {
        let micros = u64::try_from(time.num_microseconds().expect("a short time")).expect("time passes forward");
        self.clock.advance(micros).expect("a time that a date can say")
    }

    /// A connection for looking behind the scenes.
    pub(crate) async fn database(&self) -> DatabaseConnection {
        let mut options = sea_orm::ConnectOptions::new(self.url.clone());
        options.max_connections(1).sqlx_logging(false);
        sea_orm::Database::connect(options).await.expect("the database of the test")
    }

    /// The one number that a statement answers.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let database = self.database().await;
        let number = number(&database, sql).await;
        database.close().await.expect("a connection can be closed");
        number
    }

    /// Runs a statement behind the scenes.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), sea_orm::DbErr> {
        let database = self.database().await;
        let outcome = database.execute_unprepared(sql).await;
        database.close().await.expect("a connection can be closed");
        outcome.map(|_| ())
    }

    /// The event names of an organization, in the order of their numbers.
    pub(crate) async fn events(&self, organization_id: &str) -> Vec<String> {
        use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
        use tenantry::entity::event;
        let database = self.database().await;
        let id = uuid::Uuid::parse_str(organization_id).expect("an organization's id");
        let rows = event::Entity::find()
            .filter(event::Column::OrganizationId.eq(id))
            .order_by_asc(event::Column::Number)
            .all(&database)
            .await
            .expect("the log can be read");
        database.close().await.expect("a connection can be closed");
        rows.into_iter().map(|row| row.r#type).collect()
    }

    /// Ends the world: recounts every counter from the rows and looks for a gap in any log, then stops the servers.
    pub(crate) async fn end(mut self) {
        self.recount().await;
        self.ended = true;
        for server in self.servers.drain(..) {
            server.stop.cancel();
            drop(server.channel);
            let stopped = tokio::time::timeout(Duration::from_secs(20), server.task).await.expect("a server stops");
            stopped.expect("a server does not panic").expect("a server stops without an error");
        }
        if let Some(name) = &self.database_name {
            postgres::server().drop_database(name).await;
        }
    }

    /// What must never break, counted anew from the rows.
    pub(crate) async fn recount(&self) {
        let policy = RolePolicy::load(&self.setup.policy).expect("a sound role policy");
        let database = self.database().await;
        recount(&database, policy.top_role().name.as_str()).await;
        database.close().await.expect("a connection can be closed");
    }
}

/// What must never break in a database, counted anew from the rows.
pub(crate) async fn recount(database: &DatabaseConnection, top: &str) {
    let checks = [
        (
            "an organization whose counter of active members is wrong",
            "SELECT count(*) FROM organization o WHERE active_members <> (SELECT count(*) FROM membership m \
                 WHERE m.organization_id = o.organization_id AND m.suspended_at IS NULL)"
                .to_owned(),
        ),
        (
            "an organization whose counter of pending invitations is wrong",
            "SELECT count(*) FROM organization o WHERE pending_invitations <> (SELECT count(*) FROM invitation i \
                 WHERE i.organization_id = o.organization_id AND i.holds_seat)"
                .to_owned(),
        ),
        (
            "an organization whose counter of top role holders is wrong, or that has none",
            format!(
                "SELECT count(*) FROM organization o WHERE top_role_members < 1 OR top_role_members <> (SELECT count(*) \
                     FROM membership m WHERE m.organization_id = o.organization_id AND m.suspended_at IS NULL \
                     AND m.role = '{top}')"
            ),
        ),
        (
            "an organization whose counters of recordings or of their storage are wrong",
            "SELECT count(*) FROM organization o WHERE recordings <> (SELECT count(*) FROM recording r \
                 WHERE r.organization_id = o.organization_id AND r.deleted_at IS NULL) OR storage_bytes <> \
                 (SELECT coalesce(sum(size_bytes), 0) FROM recording r \
                 WHERE r.organization_id = o.organization_id AND r.deleted_at IS NULL)"
                .to_owned(),
        ),
        (
            "an organization whose counter of live sessions is wrong",
            "SELECT count(*) FROM organization o WHERE live_sessions <> (SELECT count(*) FROM room_session s \
                 WHERE s.organization_id = o.organization_id AND s.ended_at IS NULL)"
                .to_owned(),
        ),
        (
            "an organization whose counter of its own roles is wrong",
            "SELECT count(*) FROM organization o WHERE custom_roles <> (SELECT count(*) FROM custom_role r \
                 WHERE r.organization_id = o.organization_id)"
                .to_owned(),
        ),
        (
            "an organization with more seats used than there are",
            "SELECT count(*) FROM organization WHERE active_members + pending_invitations > seats_total".to_owned(),
        ),
        (
            "an organization whose seats are not its subscription's",
            "SELECT count(*) FROM organization o JOIN subscription s ON s.organization_id = o.organization_id \
                 WHERE s.seats <> o.seats_total"
                .to_owned(),
        ),
        (
            "an organization whose log has a gap",
            // What is forgotten for its age was the earliest, and may be all.
            "SELECT count(*) FROM organization o LEFT JOIN (SELECT organization_id, count(*) AS events, min(number) AS first, \
                 max(number) AS last FROM event GROUP BY organization_id) e ON e.organization_id = o.organization_id \
                 CROSS JOIN event_feed f WHERE coalesce(e.last, CASE WHEN f.forgotten_position > 0 THEN \
                 o.last_event_number ELSE 0 END) <> o.last_event_number OR coalesce(e.last - e.first + 1, 0) <> \
                 coalesce(e.events, 0) OR (f.forgotten_position = 0 AND coalesce(e.first, 1) <> 1)"
                .to_owned(),
        ),
    ];
    for (what, sql) in checks {
        assert_eq!(number(database, &sql).await, 0, "{what}");
    }
    recount_roles(database).await;
}

/// The active members of each role, counted anew.
async fn recount_roles(database: &DatabaseConnection) {
    use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
    use tenantry::entity::{membership, organization};
    for row in organization::Entity::find().all(database).await.expect("organizations can be read") {
        let mut counted = std::collections::BTreeMap::<String, i64>::new();
        let members = membership::Entity::find().filter(membership::Column::OrganizationId.eq(row.organization_id));
        for member in members.all(database).await.expect("members can be read") {
            *counted.entry(member.role).or_default() += i64::from(member.suspended_at.is_none());
        }
        counted.retain(|_, members| *members > 0);
        // A test that put rows there behind the server's back has not counted them.
        if row.active_members == counted.values().sum::<i64>()
            && let Some(kept) = tenantry::operation::store::roles_kept(&row).expect("a count of roles")
        {
            assert_eq!(kept, counted, "an organization whose members by role are wrong");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        assert!(self.ended || std::thread::panicking(), "a test must end its world, so that the books are recounted");
    }
}

async fn number(database: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let row = database.query_one_raw(statement).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    row.and_then(|row| row.try_get_by_index::<i64>(0).ok()).unwrap_or_else(|| panic!("{sql}: no number"))
}

async fn migrated(url: String) {
    let database = Database::connect(&DatabaseSettings::new(url)).await.expect("the template can be opened");
    database.migrate().await.expect("the template can be migrated");
    database.close().await.expect("the template can be closed");
}
