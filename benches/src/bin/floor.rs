//! The floors: tonic with nothing behind it, and with the minimal SQL of a call written by hand.

use std::str::FromStr;

use anyhow::Context as _;
use clap::Parser;
use sqlx::postgres::{PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row as _};
use tenantry_benches::floor::floor_server::{Floor, FloorServer};
use tenantry_benches::floor::{Key, Member, Members};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use uuid::Uuid;

#[derive(Parser)]
struct Settings {
    /// Where the same rows are.
    #[arg(long)]
    database: String,
}

#[derive(Clone)]
enum Database {
    Postgres(PgPool),
    Sqlite { reader: SqlitePool, writer: SqlitePool },
}

#[derive(Clone)]
struct Floors(Database);

const POINT: &str = "SELECT user_id, email, display_name, avatar_uri, role, joined_at, last_sign_in_at, suspended_at, version \
                     FROM membership WHERE organization_id = $1 AND user_id = $2";
const PAGE: &str = "SELECT user_id, email, display_name, avatar_uri, role, joined_at, last_sign_in_at, suspended_at, version \
                    FROM membership WHERE organization_id = $1 AND (joined_at, user_id) > ($2, $3) \
                    ORDER BY joined_at, user_id LIMIT 51";
const WRITE: &str = "INSERT INTO bench_write (id, said) VALUES ($1, $2)";

type Time = chrono::DateTime<chrono::Utc>;

macro_rules! member {
    ($name:ident, $row:ty) => {
        fn $name(row: &$row) -> Result<Member, sqlx::Error> {
            Ok(Member {
                user_id: row.try_get(0)?,
                email: row.try_get(1)?,
                display_name: row.try_get(2)?,
                avatar_uri: row.try_get(3)?,
                role: row.try_get(4)?,
                joined: row.try_get::<Time, _>(5)?.timestamp(),
                last_sign_in: row.try_get::<Time, _>(6)?.timestamp(),
                suspended: row.try_get::<Option<Time>, _>(7)?.is_some(),
                version: row.try_get(8)?,
            })
        }
    };
}
member!(of_postgres, PgRow);
member!(of_sqlite, SqliteRow);

fn failed(error: sqlx::Error) -> Status {
    Status::internal(error.to_string())
}

fn id(key: &Key) -> Result<Uuid, Status> {
    key.organization_id.parse().map_err(|_| Status::invalid_argument("organization_id"))
}

#[tonic::async_trait]
impl Floor for Floors {
    async fn echo(&self, request: Request<Key>) -> Result<Response<Key>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn point(&self, request: Request<Key>) -> Result<Response<Member>, Status> {
        let key = request.into_inner();
        let id = id(&key)?;
        let member = match &self.0 {
            Database::Postgres(pool) => {
                let row = sqlx::query(POINT).bind(id).bind(&key.user_id).fetch_one(pool).await.map_err(failed)?;
                of_postgres(&row)
            }
            Database::Sqlite { reader, .. } => {
                let row = sqlx::query(POINT).bind(id).bind(&key.user_id).fetch_one(reader).await.map_err(failed)?;
                of_sqlite(&row)
            }
        };
        Ok(Response::new(member.map_err(failed)?))
    }

    async fn page(&self, request: Request<Key>) -> Result<Response<Members>, Status> {
        let key = request.into_inner();
        let (id, after) = (id(&key)?, Time::UNIX_EPOCH);
        let members: Result<Vec<Member>, _> = match &self.0 {
            Database::Postgres(pool) => {
                let rows = sqlx::query(PAGE).bind(id).bind(after).bind(&key.user_id).fetch_all(pool).await;
                rows.map_err(failed)?.iter().take(50).map(of_postgres).collect()
            }
            Database::Sqlite { reader, .. } => {
                let rows = sqlx::query(PAGE).bind(id).bind(after).bind(&key.user_id).fetch_all(reader).await;
                rows.map_err(failed)?.iter().take(50).map(of_sqlite).collect()
            }
        };
        let members = members.map_err(failed)?;
        let next_page_token = members.last().map(|last| last.user_id.clone()).unwrap_or_default();
        Ok(Response::new(Members { members, next_page_token }))
    }

    async fn write(&self, request: Request<Key>) -> Result<Response<Key>, Status> {
        let key = request.into_inner();
        let id = Uuid::now_v7();
        match &self.0 {
            Database::Postgres(pool) => {
                sqlx::query(WRITE).bind(id).bind(&key.user_id).execute(pool).await.map_err(failed)?;
            }
            Database::Sqlite { writer, .. } => {
                sqlx::query(WRITE).bind(id).bind(&key.user_id).execute(writer).await.map_err(failed)?;
            }
        }
        Ok(Response::new(key))
    }
}

async fn open(url: &str) -> anyhow::Result<Database> {
    let table = "CREATE TABLE IF NOT EXISTS bench_write (id uuid PRIMARY KEY, said text NOT NULL)";
    if url.starts_with("sqlite:") {
        let options = SqliteConnectOptions::from_str(url)?
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::raw_sql(AssertSqlSafe(table)).execute(&writer).await?;
        let reader = SqlitePoolOptions::new().max_connections(16).connect_with(options.read_only(true)).await?;
        return Ok(Database::Sqlite { reader, writer });
    }
    // As many connections as the service has.
    let pool = PgPoolOptions::new().max_connections(16).connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(table)).execute(&pool).await?;
    Ok(Database::Postgres(pool))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let floors = Floors(open(&settings.database).await.context("the database of the floors")?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("serving {}", listener.local_addr()?);
    tonic::transport::Server::builder()
        .add_service(FloorServer::new(floors))
        // The builder's own setting is not for what it is given.
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}
