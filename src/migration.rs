//! Brings a database to the newest schema.
//!
//! The migrations are plain SQL, one text for both databases (`migrations/README.md` says how to write one), embedded in the
//! binary. sqlx's migrator runs them: it keeps checksums, and on PostgreSQL an advisory lock, so that any number of servers
//! may start at once on an empty database.

use std::borrow::Cow;

use sea_orm::{DatabaseConnection, DbBackend};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

/// Every migration, oldest first. Never changed once released; only added to.
const MIGRATIONS: [(i64, &str, &str); 12] = [
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
];

/// Brings the database behind `connection` to the newest schema.
///
/// # Errors
///
/// Says which migration failed, that a migration was edited after it was run, or that the database is newer than this
/// binary.
pub async fn migrate(connection: &DatabaseConnection) -> Result<(), sqlx::migrate::MigrateError> {
    let backend = connection.get_database_backend();
    let mut migrator = migrator(backend);
    migrator.dangerous_set_table_name("tenantry_migration");
    match backend {
        DbBackend::Postgres => migrator.run(connection.get_postgres_connection_pool()).await,
        _ => migrator.run(connection.get_sqlite_connection_pool()).await,
    }
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
