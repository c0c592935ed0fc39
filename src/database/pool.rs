//! A pool of connections that another can take the place of, and reading with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sea_orm::entity::prelude::async_trait;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres};
use sea_orm::{
    ConnAcquireErr, ConnectOptions, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult,
    RuntimeErr, SqlxError, Statement,
};
use sea_query_sqlx::SqlxValues;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{DatabaseSettings, IDLE_BEFORE_TEST, NEVER, no_answer};

/// How long a statement that nobody waits for any more may keep its connection. Most end by themselves before; and a connection costs
/// more than what is left of them.
const GIVEN_UP_ENDS: Duration = Duration::from_millis(250);

/// After how long PostgreSQL has noticed that a client left, and does nothing more for it: it looks every second.
const NOTICED: Duration = Duration::from_secs(1);

/// Which part of the connections reads may keep for one another.
const SHARES_KEPT: usize = 4;

/// A pool that another can take the place of.
#[derive(Debug)]
pub(super) struct Pool {
    now: RwLock<Generation>,
    options: ConnectOptions,
}

/// A pool until another takes its place.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) connection: DatabaseConnection,
    /// Ends when its connections lead to nobody.
    pub(super) left: CancellationToken,
}

impl Generation {
    /// Whatever waits for an answer hears that there will be none, when that is known.
    pub(super) async fn answers<T>(&self, waiting: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        tokio::select! {
            answered = tokio::time::timeout(NEVER, waiting) => answered.unwrap_or_else(|_| Err(no_answer())),
            () = self.left.cancelled() => Err(no_answer()),
        }
    }
}

impl Pool {
    /// This one, made with these options.
    pub(super) fn new(connection: DatabaseConnection, options: ConnectOptions) -> Self {
        Self { now: RwLock::new(Generation { connection, left: CancellationToken::new() }), options }
    }

    /// The pool as it is now.
    pub(super) fn now(&self) -> Generation {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something with the pool as it is; once more, when another took its place before there was a connection.
    pub(super) async fn on_current<T, F: Future<Output = Result<T, DbErr>>>(
        &self,
        run: impl Fn(Generation) -> F,
    ) -> Result<T, DbErr> {
        match run(self.now()).await {
            Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)) => run(self.now()).await,
            outcome => outcome,
        }
    }

    /// Puts a new pool in the place of the old one, whose connections lead to nobody.
    pub(super) async fn renew(&self) -> Result<(), DbErr> {
        let mut options = self.options.clone();
        options.connect_lazy(true);
        let new = Generation { connection: sea_orm::Database::connect(options).await?, left: CancellationToken::new() };
        let old = std::mem::replace(&mut *self.now.write().unwrap_or_else(PoisonError::into_inner), new);
        old.left.cancel();
        // It ends when the last of its connections was given up, which nobody has to wait for.
        tokio::spawn(old.connection.close());
        Ok(())
    }
}

/// For statements that only read, each on its own. One that is given up gives its connection back soon, and does not go on without end.
#[derive(Debug)]
pub struct Reads {
    backend: DbBackend,
    pub(super) pool: Arc<Pool>,
    /// As many as there may be connections. Of one that was closed with its statement under way, PostgreSQL has the other end for a while.
    ends: Arc<Semaphore>,
    acquire_timeout: Duration,
    /// Connections for the next statements: the pool asks whatever it is given back for a sign of life, which is another trip. None are
    /// kept any more once the pool is closed, which waits for all of them.
    kept: Mutex<Option<Vec<Kept>>>,
    /// How many of them. The others are for whoever changes something.
    most_kept: usize,
}

#[derive(Debug)]
struct Kept {
    connection: PoolConnection<Postgres>,
    generation: Generation,
    since: Instant,
}

impl Reads {
    pub(super) fn new(backend: DbBackend, pool: Arc<Pool>, settings: &DatabaseSettings) -> Self {
        let connections = usize::try_from(settings.max_connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            backend,
            pool,
            ends: Arc::new(Semaphore::new(connections)),
            acquire_timeout: settings.acquire_timeout,
            kept: Mutex::new(Some(Vec::new())),
            most_kept: connections / SHARES_KEPT,
        }
    }

    /// Finds rows by two arrays, on PostgreSQL.
    pub(crate) async fn rows(
        &self,
        sql: &'static str,
        (ids, texts): (Vec<Uuid>, Vec<String>),
    ) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.run(move |connection| {
            Box::pin(async move { sea_orm::sqlx::query(sql).bind(ids).bind(texts).fetch_all(connection).await })
        });
        Ok(rows.await?.into_iter().map(Into::into).collect())
    }

    /// Runs one statement on PostgreSQL.
    async fn run<T>(
        &self,
        run: impl for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, SqlxError>>,
    ) -> Result<T, DbErr> {
        let (mut lent, generation) = self.lend().await?;
        let Some(connection) = lent.connection.as_mut() else { return Err(no_answer()) };
        let answered = async { Ok(run(connection).await) };
        let answered = generation.answers(answered).await?;
        let connection = lent.connection.take();
        if let (Some(connection), Ok(_)) = (connection, &answered) {
            self.keep(Kept { connection, generation, since: Instant::now() });
        }
        answered.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(Arc::new(error))))
    }

    async fn lend(&self) -> Result<(Lent, Generation), DbErr> {
        let lending = async {
            let end = Arc::clone(&self.ends).acquire_owned().await.ok();
            self.let_go();
            let kept = self.kept().as_mut().and_then(Vec::pop);
            if let Some(Kept { connection, generation, .. }) = kept {
                return Ok((Lent { connection: Some(connection), end }, generation));
            }
            let acquired = self.pool.on_current(|generation| async move {
                let acquired = generation.connection.get_postgres_connection_pool().acquire().await;
                Ok((acquired.map_err(not_acquired)?, generation))
            });
            let (connection, generation) = acquired.await?;
            Ok((Lent { connection: Some(connection), end }, generation))
        };
        let lent = tokio::time::timeout(self.acquire_timeout, lending).await;
        lent.unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)))
    }

    fn kept(&self) -> MutexGuard<'_, Option<Vec<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, one: Kept) {
        if let Some(kept) = self.kept().as_mut()
            && kept.len() < self.most_kept
            && !one.generation.left.is_cancelled()
        {
            kept.push(one);
        }
    }

    /// Gives back the connections that nobody used for a while: the pool tests those before it lends them.
    pub(super) fn let_go(&self) {
        if let Some(kept) = self.kept().as_mut() {
            kept.retain(|one| one.since.elapsed() < IDLE_BEFORE_TEST && !one.generation.left.is_cancelled());
        }
    }

    /// Gives all of them back, and keeps none from now on.
    pub(super) fn let_all_go(&self) {
        *self.kept() = None;
    }

    /// How many connections wait for their next statement.
    pub(super) fn count_kept(&self) -> usize {
        self.kept().as_ref().map_or(0, Vec::len)
    }
}

/// A connection that a statement has. Dropped before it was taken out again, the statement was given up.
struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    end: Option<OwnedSemaphorePermit>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let (connection, end, runtime) = (self.connection.take(), self.end.take(), Handle::try_current());
        let (Some(mut connection), Ok(runtime)) = (connection, runtime) else { return };
        runtime.spawn(async move {
            // It answers when what it was doing is over.
            if !matches!(tokio::time::timeout(GIVEN_UP_ENDS, connection.ping()).await, Ok(Ok(()))) {
                connection.close_on_drop();
                drop(connection);
                tokio::time::sleep(NOTICED).await;
            }
            drop(end);
        });
    }
}

fn not_acquired(error: SqlxError) -> DbErr {
    match error {
        SqlxError::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        SqlxError::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        error => DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))),
    }
}

fn query(statement: &Statement) -> Query<'_, Postgres, SqlxValues> {
    let values = statement.values.clone().unwrap_or_else(|| sea_orm::Values(Vec::new()));
    sea_orm::sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
}

#[async_trait::async_trait]
impl ConnectionTrait for Reads {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.pool.now().connection.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.pool.now().connection.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        if self.backend != DbBackend::Postgres {
            return self.pool.now().connection.query_one_raw(statement).await;
        }
        let row = self.run(|connection| Box::pin(async move { query(&statement).fetch_optional(connection).await }));
        Ok(row.await?.map(Into::into))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        if self.backend != DbBackend::Postgres {
            return self.pool.now().connection.query_all_raw(statement).await;
        }
        let rows = self.run(|connection| Box::pin(async move { query(&statement).fetch_all(connection).await }));
        Ok(rows.await?.into_iter().map(Into::into).collect())
    }
}
