//! Brings a database to the newest schema.
//!
//! The migrations are plain SQL, one text for both databases (`migrations/README.md` says how to write one), embedded in the
//! binary. sqlx's migrator runs them: it keeps checksums, and on PostgreSQL an advisory lock, so that any number of servers
//! may start at once on an empty database.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, RuntimeErr, Statement};
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

/// Every migration, oldest first. Never changed once released; only added to.
const MIGRATIONS: [(i64, &str, &str); 13] = [
    (1, "foundation", include_str!("../migrations/0001_foundation.sql")),
    (2, "products", include_str!("../migrations/0002_products.sql")),
    (3, "search", include_str!("../migrations/0003_search.sql")),
    (4, "billing", include_str!("../migrations/0004_billing.sql")),
    (5, "given_back", include_str!("../migrations/0005_given_back.sql")),
    (6, "event_filters", include_str!("../migrations/0006_event_filters.sql")),
    (7, "event_feed", include_str!("../migrations/0007_event_feed.sql")),
    (8, "event_origin", include_str!("../migrations/0008_event_origin.sql")),
    (9, "event_positions", include_str!("../migrations/0009_event_positions.sql")),
    (10, "unpaid_credit", include_str!("../migrations/0010_unpaid_credit.sql")),
    (11, "mail", include_str!("../migrations/0011_mail.sql")),
    (12, "webhooks", include_str!("../migrations/0012_webhooks.sql")),
    (13, "schema_floor", include_str!("../migrations/0013_schema_floor.sql")),
];

/// Where sqlx notes which of them were run.
const TABLE: &str = "tenantry_migration";

/// The number of the newest of them.
const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// What PostgreSQL says when a lock was waited for too long, or by two for each other.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const DEADLOCK_DETECTED: &str = "40P01";

/// Why a database cannot be brought to the newest schema.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A migration failed, or was edited after it was run.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// What was run could not be read.
    #[error("could not read which migrations were run")]
    Read(#[from] DbErr),
    /// A newer version has taken something away that this one needs.
    #[error(
        "the database was migrated by a newer version, and serves versions from migration {oldest} on: this one knows {NEWEST}"
    )]
    TooOld {
        /// What a version must know.
        oldest: i64,
    },
}

impl MigrationError {
    /// Whether somebody else was at a table for longer than it waits.
    pub(crate) fn waited_for_table(&self) -> bool {
        matches!(self, Self::Migrate(MigrateError::ExecuteMigration(error, _)) if lost(error))
    }

    /// Whether another server migrated for longer than it waits.
    pub(crate) fn waited_for_turn(&self) -> bool {
        match self {
            Self::Migrate(MigrateError::Execute(error)) => lost(error),
            Self::Read(DbErr::Query(RuntimeErr::SqlxError(error)) | DbErr::Exec(RuntimeErr::SqlxError(error))) => {
                lost(error)
            }
            _ => false,
        }
    }
}

/// Whether a lock was waited for too long, or by two for each other.
fn lost(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| [LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED].contains(&&*code))
}

/// Brings the database behind `connection` to the newest schema. One that is newer serves as well, as long as nothing was taken away that
/// this version needs. One that is there already is only read: whoever serves it needs no right to change it.
///
/// # Errors
///
/// Says which migration failed, that one was edited after it was run, or that the database is too new for this binary.
pub async fn migrate(connection: &DatabaseConnection) -> Result<(), MigrationError> {
    let backend = connection.get_database_backend();
    let mut migrator = migrator(backend);
    let applied = applied(connection).await?;
    let is_applied = |migration: &Migration| applied.get(&migration.version) == Some(&migration.checksum.to_vec());
    if !migrator.iter().all(is_applied) {
        migrator.dangerous_set_table_name(TABLE);
        // A newer version was here, and this one was started again beside it.
        migrator.set_ignore_missing(true);
        match backend {
            DbBackend::Postgres => migrator.run(connection.get_postgres_connection_pool()).await?,
            _ => migrator.run(connection.get_sqlite_connection_pool()).await?,
        }
    }
    let newer = applied.keys().filter(|version| **version > NEWEST).count();
    if newer > 0 {
        tracing::warn!(newer, "the database has migrations of a newer version");
    }
    check_floor(connection).await
}

/// Refuses a schema from which something was taken away that this version needs.
pub(crate) async fn check_floor(connection: &impl ConnectionTrait) -> Result<(), MigrationError> {
    if !is_there(connection, "schema_floor").await? {
        return Ok(());
    }
    let floor = connection.query_one_raw(of(connection, "SELECT oldest FROM schema_floor".into())).await?;
    let oldest = floor.map(|row| row.try_get_by_index::<i64>(0)).transpose()?;
    match oldest.filter(|oldest| *oldest > NEWEST) {
        Some(oldest) => Err(MigrationError::TooOld { oldest }),
        None => Ok(()),
    }
}

/// Whether a database was ever migrated by this service.
pub(crate) async fn is_ours(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    is_there(connection, TABLE).await
}

async fn is_there(connection: &impl ConnectionTrait, table: &str) -> Result<bool, DbErr> {
    let sql = match connection.get_database_backend() {
        DbBackend::Postgres => format!("SELECT 1 WHERE to_regclass('{table}') IS NOT NULL"),
        _ => format!("SELECT 1 FROM sqlite_master WHERE name = '{table}'"),
    };
    Ok(connection.query_one_raw(of(connection, sql)).await?.is_some())
}

/// The migrations that were run to their end, with the checksums of their texts; none on an empty database.
async fn applied(connection: &impl ConnectionTrait) -> Result<BTreeMap<i64, Vec<u8>>, DbErr> {
    if !is_ours(connection).await? {
        return Ok(BTreeMap::new());
    }
    let rows = of(connection, format!("SELECT version, checksum FROM {TABLE} WHERE success"));
    let rows = connection.query_all_raw(rows).await?;
    rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
}

fn of(connection: &impl ConnectionTrait, sql: String) -> Statement {
    Statement::from_string(connection.get_database_backend(), sql)
}

fn migrator(backend: DbBackend) -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, description, sql)| {
        let sql = AssertSqlSafe(dialect(sql, backend)).into_sql_str();
        Migration::new(*version, Cow::Borrowed(description), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// The text of a migration as one database takes it.
fn dialect(sql: &str, backend: DbBackend) -> String {
    let (bytewise, own, others) = match backend {
        DbBackend::Postgres => ("COLLATE \"C\"", "{postgres} ", "{sqlite} "),
        _ => ("COLLATE BINARY", "{sqlite} ", "{postgres} "),
    };
    let lines = sql.lines().filter(|line| !line.starts_with(others));
    let lines = lines.map(|line| line.strip_prefix(own).unwrap_or(line).replace("{bytewise}", bytewise) + "\n");
    lines.collect()
}
