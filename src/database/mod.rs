//! The database behind everything: an SQLite file or PostgreSQL, through one interface.
//!
//! SQLite is opened twice: one connection that writes, so that writers wait in line instead of failing, and several that
//! read beside it. It serves one process, which a lock beside the file makes sure of. PostgreSQL serves any number.

mod pool;
mod transaction;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, IsolationLevel, RuntimeErr,
    SqliteTransactionMode, SqlxError, Statement, TransactionOptions, TransactionTrait as _,
};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::pool::Pool;
pub use self::pool::Reads;
pub use self::transaction::Transaction;
use crate::migration::MigrationError;

/// A connection that lay idle for this long is tested before a call gets it, so that a restart of PostgreSQL costs the calls
/// that ran through it and none after. In a busy service none lies idle that long, and nothing is tested.
const IDLE_BEFORE_TEST: Duration = Duration::from_secs(1);

/// How long it has to answer the test. What lies between may have forgotten a connection without telling either end.
const TEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a sign of life may take, and after how long without one the other end is taken to be gone.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(4);

/// How long a statement may take: PostgreSQL ends it earlier. Whoever hears nothing after that never will.
const STATEMENT_TIMEOUT: &str = "30s";
const NEVER: Duration = Duration::from_secs(35);

/// How long to wait before a database that is not there is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a migration waits for a table at a time, and how often again: five minutes in all.
const MIGRATION_WAITS: &str = "2s";
const MIGRATION_TRIES: u32 = 100;

/// Where the database is and how it is used.
#[derive(Clone)]
pub struct DatabaseSettings {
    /// `sqlite:` and a path, or `postgres://…`.
    pub url: String,
    /// The most connections that are held open.
    pub max_connections: u32,
    /// How long a call waits for a free connection.
    pub acquire_timeout: Duration,
}

impl DatabaseSettings {
    /// The defaults for a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), max_connections: 16, acquire_timeout: Duration::from_secs(5) }
    }
}

impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may have a password.
        formatter
            .debug_struct("DatabaseSettings")
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// Why there is no database to work with.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The URL is neither an SQLite file nor PostgreSQL.
    #[error("the database URL must be sqlite:PATH or postgres://…; an SQLite database in memory is not supported")]
    Url,
    /// Another process serves this file.
    #[error("{0} is in use by another process: an SQLite database serves one process; use PostgreSQL for more")]
    InUse(PathBuf),
    /// The file beside the database that says who uses it could not be made.
    #[error("could not lock {path}: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It could not be reached.
    #[error("could not connect to the database")]
    Connect(#[from] DbErr),
    /// It could not be brought to the newest schema.
    #[error("could not migrate the database")]
    Migrate(#[from] MigrationError),
}

/// A sign of life that was asked for.
#[derive(Debug)]
struct Ping {
    answer: JoinHandle<Result<(), SqlxError>>,
    /// Since when a connection that there is has not answered.
    since: Arc<OnceLock<Instant>>,
}

/// An open database.
#[derive(Debug)]
pub struct Database {
    backend: DbBackend,
    reader: Reads,
    writer: Arc<Pool>,
    /// A connection of its own for signs of life: readiness follows the database, not how busy this process is.
    probe: Arc<Pool>,
    /// One that ends what was given up.
    interrupter: Arc<Pool>,
    /// The sign of life that is waited for.
    asked: Mutex<Option<Ping>>,
    /// Whether it was silent, and has not been heard of since.
    is_left: AtomicBool,
    settings: DatabaseSettings,
    /// Held for as long as the process uses the SQLite file.
    _lock: Option<File>,
}

impl Database {
    /// Opens the database, making the SQLite file should it not be there.
    pub async fn connect(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        if settings.url.starts_with("postgres://") || settings.url.starts_with("postgresql://") {
            return Self::connect_postgres(settings).await;
        }
        if settings.url.starts_with("sqlite:") { Self::connect_sqlite(settings).await } else { Err(DatabaseError::Url) }
    }

    /// As [`Database::connect`], but a database that is away may come within `patience`: servers and their database often start together.
    /// What waiting does not mend, such as a wrong password, fails at once.
    pub async fn connect_patiently(settings: &DatabaseSettings, patience: Duration) -> Result<Self, DatabaseError> {
        let began = Instant::now();
        loop {
            match Self::connect(settings).await {
                Err(DatabaseError::Connect(error)) if is_away(&error) && began.elapsed() < patience => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the database is not there yet");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                connected => return connected,
            }
        }
    }

    async fn connect_postgres(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        // Read here first: what the ORM says of a URL that it cannot read quotes it, with the password.
        let target = PgConnectOptions::from_str(&settings.url).map_err(|_| DatabaseError::Url)?;
        let mut options = pool_options(settings, settings.max_connections);
        options
            .map_sqlx_postgres_pool_opts(|options| {
                options.after_connect(|connection, _| look_after_clients(connection))
            })
            .map_sqlx_postgres_opts(|options| {
                options.application_name("tenantry").statement_cache_capacity(200).options([
                    ("timezone", "UTC"),
                    ("default_transaction_isolation", "read committed"),
                    ("statement_timeout", STATEMENT_TIMEOUT),
                    // Shorter than the wait for a connection: who waits for another server's change holds one.
                    ("lock_timeout", "4s"),
                    // A client that went away in the middle of a transaction must not hold an organization's lock.
                    ("idle_in_transaction_session_timeout", "60s"),
                ])
            });
        let mut for_probe = options.clone();
        for_probe.max_connections(1).connect_lazy(true);
        // Not of the probe's, which is to notice.
        options.map_sqlx_postgres_before_acquire(|connection, lay| {
            Box::pin(async move { if lay.idle_for < IDLE_BEFORE_TEST { Ok(true) } else { tested(connection).await } })
        });
        let mut for_interrupter = options.clone();
        for_interrupter.max_connections(1).connect_lazy(true);
        let connection = match sea_orm::Database::connect(options.clone()).await {
            Ok(connection) => connection,
            // The pool tried for as long as a call may wait, and says only that. One more try says why.
            Err(error) => {
                return Err(DatabaseError::Connect(target.connect().await.err().map_or(error, said_by_driver)));
            }
        };
        let single = async |options: ConnectOptions| {
            let connection = sea_orm::Database::connect(options.clone()).await?;
            Ok::<_, DbErr>(Arc::new(Pool::new(connection, options)))
        };
        let (probe, interrupter) = (single(for_probe).await?, single(for_interrupter).await?);
        let writer = Arc::new(Pool::new(connection, options));
        let reader = Arc::clone(&writer);
        Ok(Self::of(DbBackend::Postgres, [reader, writer, probe, interrupter], settings, None))
    }

    async fn connect_sqlite(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        let lock = SqliteFile::of(&settings.url)?.lock()?;
        let opening = |read_only: bool| {
            let mut options = pool_options(settings, if read_only { settings.max_connections } else { 1 });
            options.map_sqlx_sqlite_opts(move |options| {
                options
                    .create_if_missing(!read_only)
                    .read_only(read_only)
                    .journal_mode(SqliteJournalMode::Wal)
                    // Full, because an acknowledged write must survive a power cut.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(Duration::from_secs(5))
                    .foreign_keys(true)
            });
            async { Ok::<_, DbErr>(Arc::new(Pool::new(sea_orm::Database::connect(options.clone()).await?, options))) }
        };
        // The writer first: it makes the file.
        let writer = opening(false).await?;
        let reader = opening(true).await?;
        let (probe, interrupter) = (Arc::clone(&reader), Arc::clone(&reader));
        Ok(Self::of(DbBackend::Sqlite, [reader, writer, probe, interrupter], settings, Some(lock)))
    }

    fn of(backend: DbBackend, pools: [Arc<Pool>; 4], settings: &DatabaseSettings, lock: Option<File>) -> Self {
        let [reader, writer, probe, interrupter] = pools;
        let reader = Reads::new(backend, reader, settings);
        let (asked, is_left, settings) = (Mutex::default(), AtomicBool::new(false), settings.clone());
        Self { backend, reader, writer, probe, interrupter, asked, is_left, settings, _lock: lock }
    }

    /// Brings it to the newest schema.
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        if self.backend == DbBackend::Sqlite {
            return Ok(crate::migration::migrate(&self.writer.now().connection).await?);
        }
        // On a connection of its own without the time-out of calls: a migration may take long. But whoever waits for a table keeps all
        // those waiting who come after: it does so for a moment, and then lets them by.
        let mut options = pool_options(&self.settings, 1);
        options.map_sqlx_postgres_opts(|options| {
            options.application_name("tenantry migration").options([("lock_timeout", MIGRATION_WAITS)])
        });
        let connection = sea_orm::Database::connect(options).await?;
        let mut waited = 0;
        let migrated = loop {
            match crate::migration::migrate(&connection).await {
                Err(error) if error.waited_for_table() && waited < MIGRATION_TRIES => waited += 1,
                // However long another server migrates.
                Err(error) if error.waited_for_turn() => {}
                migrated => break migrated,
            }
            tracing::info!("others are at the tables, or another server migrates: the migration is tried again");
            tokio::time::sleep(ASK_AGAIN).await;
        };
        connection.close().await?;
        Ok(migrated?)
    }

    /// For statements that only read, each on its own.
    #[must_use]
    pub fn reader(&self) -> &Reads {
        &self.reader
    }

    /// Begins to read one state of the database, whatever is changed meanwhile. Dropping it ends that.
    pub async fn snapshot(&self) -> Result<Transaction, DbErr> {
        let mut options = TransactionOptions::default();
        // SQLite shows no other to a transaction.
        if self.backend == DbBackend::Postgres {
            options.isolation_level = Some(IsolationLevel::RepeatableRead);
            options.access_mode = Some(AccessMode::ReadOnly);
        }
        begun(&self.reader.pool, options).await
    }

    /// Begins a transaction that will write. Dropping it rolls it back.
    pub async fn begin(&self) -> Result<Transaction, DbErr> {
        let mut options = TransactionOptions::default();
        if self.backend == DbBackend::Sqlite {
            // Taking the write lock at once is what makes read-then-write safe on SQLite.
            options.sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        }
        begun(&self.writer, options).await
    }

    /// How many connections are open, and how many of them idle.
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        let of = |pool: &Pool| {
            let connection = pool.now().connection;
            let (size, idle) = if self.backend == DbBackend::Postgres {
                let pool = connection.get_postgres_connection_pool();
                (pool.size(), pool.num_idle())
            } else {
                let pool = connection.get_sqlite_connection_pool();
                (pool.size(), pool.num_idle())
            };
            (size, u32::try_from(idle).unwrap_or(u32::MAX))
        };
        let (open, idle) = of(&self.reader.pool);
        // What waits for the next read is idle too, which the pool does not know.
        let idle = idle + u32::try_from(self.reader.count_kept()).unwrap_or_default();
        if Arc::ptr_eq(&self.reader.pool, &self.writer) {
            return (open, idle);
        }
        let (writer, idle_writer) = of(&self.writer);
        (open + writer, idle + idle_writer)
    }

    /// Whether the database gives a sign of life. Where a connection to it has not answered for a while its host may be gone, with nobody
    /// left to end the connections to it. The next ones are others then: they may lead to the one that took its place.
    pub async fn is_alive(&self) -> bool {
        self.reader.let_go();
        if self.backend != DbBackend::Postgres {
            let asked = self.probe.now().connection;
            let asked = asked.execute_unprepared("SELECT 1");
            return matches!(tokio::time::timeout(PING_TIMEOUT, asked).await, Ok(Ok(_)));
        }
        let mut asked = self.asked.lock().await;
        let ping = asked.get_or_insert_with(|| ping(self.probe.now().connection));
        if let Ok(answered) = tokio::time::timeout(PING_TIMEOUT, &mut ping.answer).await {
            *asked = None;
            let is_alive = matches!(answered, Ok(Ok(())));
            if is_alive {
                self.is_left.store(false, Ordering::Release);
            }
            return is_alive;
        }
        // One that is slow to be connected to is no silent one.
        if ping.since.get().is_some_and(|since| since.elapsed() > SILENCE) {
            ping.answer.abort();
            *asked = None;
            self.leave().await;
        }
        false
    }

    /// Leaves the connections that there are: all of them, and again only once it was heard of; else those of the probe.
    async fn leave(&self) {
        let is_left = self.is_left.swap(true, Ordering::AcqRel);
        if !is_left {
            tracing::warn!("the database says nothing: it is connected to anew");
            renew(&self.writer).await;
            renew(&self.interrupter).await;
        }
        renew(&self.probe).await;
    }

    /// Ends what the transaction of this name is waiting for or doing. Says whether that is done. Its connection must not be given back
    /// before: on it somebody else's work would be ended.
    pub async fn interrupt(&self, name: &str) -> Result<bool, DbErr> {
        if self.backend != DbBackend::Postgres {
            // Whoever waits on SQLite waits in this process, and has left with the call.
            return Ok(true);
        }
        let sql = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND usename = current_user";
        let statement = Statement::from_sql_and_values(self.backend, sql, [name.into()]);
        let interrupter = self.interrupter.now();
        Ok(interrupter.answers(interrupter.connection.query_one_raw(statement)).await?.is_some())
    }

    /// Listens to what is notified on a channel, by a connection of its own; nothing where the database notifies nobody.
    pub async fn listen(&self, channel: &str) -> Result<Option<Listener>, DatabaseError> {
        if self.backend != DbBackend::Postgres {
            return Ok(None);
        }
        let left = self.writer.now().left;
        let options = PgConnectOptions::from_str(&self.settings.url).map_err(|_| DatabaseError::Url)?;
        let options = options.application_name("tenantry listener");
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(self.settings.acquire_timeout);
        let listening = async {
            let mut listener = PgListener::connect_with(&pool.connect_lazy_with(options)).await?;
            listener.listen(channel).await?;
            Ok(Listener { listener, left })
        };
        let listening = tokio::time::timeout(self.settings.acquire_timeout, listening).await;
        Ok(Some(listening.unwrap_or(Err(SqlxError::PoolTimedOut)).map_err(said_by_driver)?))
    }

    /// Closes every connection.
    ///
    /// The last to go is the one that writes: on SQLite it moves what stands in the log beside the file into the file.
    pub async fn close(&self) -> Result<(), DbErr> {
        self.reader.let_all_go();
        self.probe.now().connection.close().await?;
        self.interrupter.now().connection.close().await?;
        self.reader.pool.now().connection.close().await?;
        self.writer.now().connection.close().await
    }
}

/// Hears what PostgreSQL notifies.
#[derive(Debug)]
pub struct Listener {
    listener: PgListener,
    left: CancellationToken,
}

impl Listener {
    /// Done when something was notified, or may have been while the connection was lost. It is made anew then.
    ///
    /// # Errors
    ///
    /// When the connection failed, or leads to nobody.
    pub async fn heard(&mut self) -> Result<(), DatabaseError> {
        let heard = tokio::select! {
            heard = self.listener.try_recv() => heard.map(|_| ()),
            () = self.left.cancelled() => Err(SqlxError::PoolClosed),
        };
        heard.map_err(said_by_driver).map_err(DatabaseError::Connect)
    }
}

fn said_by_driver(error: SqlxError) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)))
}

/// Begins a transaction in a task of its own, so that a caller who gives up cannot cancel that half-way: the driver would put the
/// connection back with the transaction open.
async fn begun(pool: &Pool, options: TransactionOptions) -> Result<Transaction, DbErr> {
    pool.on_current(|generation| async move {
        let pool = generation.connection.clone();
        let beginning = tokio::spawn(async move { pool.begin_with_options(options).await });
        // What is not waited for any more is rolled back when it has begun.
        let begun = async { beginning.await.unwrap_or_else(|panicked| Err(DbErr::Custom(panicked.to_string()))) };
        Ok(Transaction::new(generation.answers(begun).await?, generation))
    })
    .await
}

/// What is said of a statement that is not answered.
pub(crate) fn no_answer() -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(SqlxError::Io(std::io::ErrorKind::TimedOut.into()))))
}

async fn renew(pool: &Pool) {
    if let Err(error) = pool.renew().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the connections stay as they are");
    }
}

/// Asks for a sign of life.
fn ping(pool: DatabaseConnection) -> Ping {
    let since = Arc::new(OnceLock::new());
    let asked = Arc::clone(&since);
    let answer = tokio::spawn(async move {
        let mut connection = pool.get_postgres_connection_pool().acquire().await?;
        asked.get_or_init(Instant::now);
        connection.ping().await
    });
    Ping { answer, since }
}

/// Whether a connection answers.
async fn tested(connection: &mut PgConnection) -> Result<bool, SqlxError> {
    match tokio::time::timeout(TEST_TIMEOUT, connection.ping()).await {
        Ok(answered) => answered.map(|()| true),
        Err(silent) => Err(SqlxError::Io(silent.into())),
    }
}

/// Has PostgreSQL look, while it works, whether whom it works for is still there. Versions before 14 cannot, nor some systems.
fn look_after_clients(connection: &mut PgConnection) -> BoxFuture<'_, Result<(), SqlxError>> {
    let name = "client_connection_check_interval";
    let sql = format!("SELECT set_config('{name}', '1s', false) WHERE current_setting('{name}', true) IS NOT NULL");
    Box::pin(async move {
        match sea_orm::sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await {
            Err(SqlxError::Database(error)) => {
                tracing::debug!(%error, "PostgreSQL does not look after its clients");
                Ok(())
            }
            done => done.map(|_| ()),
        }
    })
}

fn pool_options(settings: &DatabaseSettings, max_connections: u32) -> ConnectOptions {
    // The ORM knows only one of the two schemes.
    let mut options = ConnectOptions::new(settings.url.replacen("postgresql://", "postgres://", 1));
    options
        .max_connections(max_connections)
        .acquire_timeout(settings.acquire_timeout)
        .sqlx_logging(false)
        .test_before_acquire(false);
    options
}

/// The file of an SQLite database.
#[derive(Debug)]
pub(crate) struct SqliteFile {
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl SqliteFile {
    /// The file that a URL names.
    pub(crate) fn of(url: &str) -> Result<Self, DatabaseError> {
        let is_sqlite = url.starts_with("sqlite:");
        let options = SqliteConnectOptions::from_str(url).ok().filter(|_| is_sqlite).ok_or(DatabaseError::Url)?;
        let path = options.get_filename().to_path_buf();
        let in_memory = url.contains(":memory:") || url.contains("mode=memory") || path.as_os_str().is_empty();
        if in_memory { Err(DatabaseError::Url) } else { Ok(Self { path }) }
    }

    /// Makes sure that no other process uses it, for as long as what is given back is held.
    pub(crate) fn lock(&self) -> Result<File, DatabaseError> {
        // One file has one lock, whatever link leads to it.
        lock(&self.path.canonicalize().unwrap_or_else(|_| self.path.clone()))
    }
}

fn lock(database: &Path) -> Result<File, DatabaseError> {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let failed = |source| DatabaseError::Lock { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DatabaseError::InUse(database.to_path_buf())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whether a database that could not be connected to may come by itself.
fn is_away(error: &DbErr) -> bool {
    let DbErr::Conn(RuntimeErr::SqlxError(source)) = error else { return matches!(error, DbErr::ConnectionAcquire(_)) };
    match &**source {
        SqlxError::Io(_) | SqlxError::PoolTimedOut => true,
        SqlxError::Database(database) => {
            let code = database.code().unwrap_or_default();
            // A fault of the protocol: a pooler that does not take what is said.
            code != "08P01" && code_failure(&code) == Failure::Unavailable
        }
        _ => false,
    }
}

/// What a failed statement means for the call that ran it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Lost against a transaction that ran at the same time: begin again.
    Conflict,
    /// The database is away, stopping, or has no connection to spare.
    Unavailable,
    /// A defect of ours.
    Defect,
}

/// Says what a failed statement means.
#[must_use]
pub fn failure(error: &DbErr) -> Failure {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Failure::Unavailable,
        DbErr::Exec(RuntimeErr::SqlxError(source)) | DbErr::Query(RuntimeErr::SqlxError(source)) => {
            sqlx_failure(source)
        }
        _ => Failure::Defect,
    }
}

fn sqlx_failure(error: &sea_orm::SqlxError) -> Failure {
    use sea_orm::SqlxError as E;
    match error {
        E::Database(database) => code_failure(database.code().as_deref().unwrap_or_default()),
        E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
            Failure::Unavailable
        }
        _ => Failure::Defect,
    }
}

fn code_failure(code: &str) -> Failure {
    // SQLite's codes are numbers whose low byte is the kind; PostgreSQL's are five letters and digits.
    if let Some(code) = code.parse::<u32>().ok().filter(|_| code.len() < 5) {
        return match code & 0xff {
            // Busy, locked.
            5 | 6 => Failure::Conflict,
            // Read-only, input or output, full, cannot be opened.
            8 | 10 | 13 | 14 => Failure::Unavailable,
            _ => Failure::Defect,
        };
    }
    match code {
        // Serialization failure, deadlock.
        "40001" | "40P01" => Failure::Conflict,
        // Statement or lock time-out, full disk or memory, too many connections, shutting down or starting up, idle for too long,
        // read-only.
        "57014" | "53100" | "53200" | "53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006" | "55P03" => {
            Failure::Unavailable
        }
        code if code.starts_with("08") => Failure::Unavailable,
        _ => Failure::Defect,
    }
}

/// Whether a statement failed because it would have broken the constraint of this name.
#[must_use]
pub fn violates(error: &DbErr, constraint: &str) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(source)) | DbErr::Query(RuntimeErr::SqlxError(source))) = error else {
        return false;
    };
    let Some(database) = source.as_database_error() else { return false };
    database.constraint() == Some(constraint) || sqlite_names(database.message(), constraint)
}

/// SQLite names a CHECK constraint in its message, and for a unique one only the columns.
fn sqlite_names(message: &str, constraint: &str) -> bool {
    let columns = match constraint {
        "organization_slug_unique" => "organization.slug",
        "organization_default_unique" => "organization.default_of_user_id",
        "stored_answer_once" => "stored_answer.organization_id, stored_answer.caller, stored_answer.request_key",
        "membership_one_per_user" => "membership.organization_id, membership.user_id",
        "workspace_room_slug_unique" => "workspace.slug",
        "custom_role_once" => "custom_role.organization_id, custom_role.role",
        "organization_domain_once" => "organization_domain.organization_id, organization_domain.domain",
        "organization_domain_verified_unique" => "organization_domain.domain",
        "join_request_open_unique" => "join_request.organization_id, join_request.user_id",
        "invitation_open_email_unique" => "invitation.organization_id, invitation.email_normalized",
        check => return message.ends_with(&format!("CHECK constraint failed: {check}")),
    };
    message.ends_with(&format!("UNIQUE constraint failed: {columns}"))
}
