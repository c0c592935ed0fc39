//! A pool of connections that another can take the place of, and reading with it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sea_orm::entity::prelude::async_trait;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, Postgres};
use sea_orm::{
    ConnAcquireErr, ConnectOptions, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult,
    RuntimeErr, SqlxError, Statement,
};
use sea_query_sqlx::SqlxValues;

/// How long a statement that nobody waits for any more may keep its connection. Most end by themselves before; and a connection costs
/// more than what is left of them.
const GIVEN_UP_ENDS: Duration = Duration::from_millis(250);

/// A pool that another can take the place of.
#[derive(Debug)]
pub(super) struct Pool {
    now: RwLock<DatabaseConnection>,
    options: ConnectOptions,
}

impl Pool {
    /// This one, made with these options.
    pub(super) fn new(connection: DatabaseConnection, options: ConnectOptions) -> Self {
        Self { now: RwLock::new(connection), options }
    }

    /// The pool as it is now.
    pub(super) fn now(&self) -> DatabaseConnection {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new pool in the place of the old one, whose connections lead to nobody. Who waits for one of those hears so; who has one
    /// keeps it until they give up.
    pub(super) async fn renew(&self) -> Result<(), DbErr> {
        let mut options = self.options.clone();
        options.connect_lazy(true);
        let new = sea_orm::Database::connect(options).await?;
        let old = std::mem::replace(&mut *self.now.write().unwrap_or_else(PoisonError::into_inner), new);
        // It ends when the last of its connections was given up, which nobody has to wait for.
        tokio::spawn(old.close());
        Ok(())
    }
}

/// For statements that only read, each on its own. One that is given up gives its connection back soon, and does not go on without end.
#[derive(Debug)]
pub struct Reads(pub(super) Arc<Pool>);

impl Reads {
    /// Runs one statement on PostgreSQL.
    async fn run<T>(
        pool: &DatabaseConnection,
        statement: &Statement,
        run: impl AsyncFnOnce(Query<'_, Postgres, SqlxValues>, &mut PoolConnection<Postgres>) -> Result<T, SqlxError>,
    ) -> Result<T, DbErr> {
        let mut lent = Lent(Some(pool.get_postgres_connection_pool().acquire().await.map_err(not_acquired)?));
        let Some(connection) = lent.0.as_mut() else { return Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) };
        let values = statement.values.clone().unwrap_or_else(|| sea_orm::Values(Vec::new()));
        let query = sea_orm::sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values));
        let done = run(query, connection).await;
        drop(lent.0.take());
        done.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(Arc::new(error))))
    }
}

/// A connection that a statement has. Dropped before it was taken out again, the statement was given up.
struct Lent(Option<PoolConnection<Postgres>>);

impl Drop for Lent {
    fn drop(&mut self) {
        let (Some(mut connection), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            // It answers when what it was doing is over.
            if !matches!(tokio::time::timeout(GIVEN_UP_ENDS, connection.ping()).await, Ok(Ok(()))) {
                // PostgreSQL looks after its clients every second, and does nothing more for one that left.
                connection.close_on_drop();
            }
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

#[async_trait::async_trait]
impl ConnectionTrait for Reads {
    fn get_database_backend(&self) -> DbBackend {
        self.0.now().get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.now().execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.now().execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let pool = self.0.now();
        if pool.get_database_backend() != DbBackend::Postgres {
            return pool.query_one_raw(statement).await;
        }
        let row = Self::run(&pool, &statement, async |query, connection| query.fetch_optional(&mut **connection).await);
        Ok(row.await?.map(Into::into))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let pool = self.0.now();
        if pool.get_database_backend() != DbBackend::Postgres {
            return pool.query_all_raw(statement).await;
        }
        let rows = Self::run(&pool, &statement, async |query, connection| query.fetch_all(&mut **connection).await);
        Ok(rows.await?.into_iter().map(Into::into).collect())
    }
}
