//! PostgreSQL for the tests: one throw-away cluster for the test process, a database for each test.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use sea_orm::{ConnectOptions, ConnectionTrait, Database};
use tokio::sync::OnceCell;

/// The server that all tests share: the one of `TENANTRY_TEST_POSTGRES_URL`, or a cluster that lives as long as this
/// process, however it ends.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match setting("TENANTRY_TEST_POSTGRES_URL") {
        Some(url) => Server { url, cluster: None, template: OnceCell::new() },
        None => Server::start_private(),
    })
}

/// A PostgreSQL server.
pub(crate) struct Server {
    url: String,
    cluster: Option<Arc<Mutex<Cluster>>>,
    template: OnceCell<String>,
}

impl Server {
    /// A cluster for one test alone, which ends when this value is dropped.
    pub(crate) fn start_private() -> Self {
        let (cluster, directory) = Cluster::start();
        Self {
            url: format!("postgres://postgres@localhost:5432/postgres?host={directory}"),
            cluster: Some(Arc::new(Mutex::new(cluster))),
            template: OnceCell::new(),
        }
    }

    /// Where to connect to make databases.
    pub(crate) fn admin_url(&self) -> String {
        self.url.clone()
    }

    /// Where to connect to a database.
    pub(crate) fn url(&self, database: &str) -> String {
        let (address, parameters) = self
            .url
            .split_once('?')
            .map_or((self.url.as_str(), String::new()), |(url, rest)| (url, format!("?{rest}")));
        let host = address.find("://").expect("the URL of a server has a scheme") + "://".len();
        let end = address[host..].find('/').map_or(address.len(), |slash| host + slash);
        format!("{}/{database}{parameters}", &address[..end])
    }

    /// Makes a database, empty or as a copy of another one that nobody is connected to, and gives its name.
    pub(crate) async fn create_database(&self, template: Option<&str>) -> String {
        // Unlike any name of another process that uses the same server.
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tenantry_test_{:016x}_{}", *PROCESS, COUNT.fetch_add(1, Ordering::Relaxed));
        let template = template.unwrap_or("template0");
        self.execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        name
    }

    /// Drops a database, whoever is connected to it.
    pub(crate) async fn drop_database(&self, name: &str) {
        self.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }

    /// The name of the migrated database that tests copy. The first caller's `migrate` makes it, given its URL; it must
    /// have closed its connections when it is done.
    pub(crate) async fn template<M, F>(&self, migrate: M) -> &str
    where
        M: FnOnce(String) -> F,
        F: Future<Output = ()>,
    {
        self.template
            .get_or_init(|| async {
                let name = self.create_database(None).await;
                migrate(self.url(&name)).await;
                name
            })
            .await
    }

    /// Stops a private cluster: its connections break, its data stays.
    pub(crate) async fn stop(&self) {
        self.order("stop", "down").await;
    }

    /// Starts a stopped cluster again under the URL it had.
    pub(crate) async fn start(&self) {
        self.order("start", "up").await;
    }

    /// Lets a second server follow, without which nothing is acknowledged from then on.
    pub(crate) async fn follow(&self) {
        self.order("follow", "followed").await;
    }

    /// Has the first server die, and the second take its place.
    pub(crate) async fn fail_over(&self) {
        self.order("fail_over", "failed_over").await;
    }

    /// The sockets of the first and of the second server.
    pub(crate) fn sockets(&self) -> [PathBuf; 2] {
        let (_, directory) = self.url.split_once("?host=").expect("a cluster of our own");
        [5432, 5433].map(|port| Path::new(directory).join(format!(".s.PGSQL.{port}")))
    }

    async fn order(&self, order: &'static str, answer: &'static str) {
        let cluster = Arc::clone(self.cluster.as_ref().expect("only a cluster of our own stops and starts"));
        let obey = move || cluster.lock().expect("no order failed before").order(order, answer);
        tokio::task::spawn_blocking(obey).await.expect("the cluster obeys");
    }

    /// Over a connection of its own, since a pool would belong to the runtime of the test that opened it.
    async fn execute(&self, sql: &str) {
        let mut options = ConnectOptions::new(self.admin_url());
        options.max_connections(1).sqlx_logging(false);
        let database = Database::connect(options).await.expect("the PostgreSQL server of the tests can be reached");
        database.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        database.close().await.expect("a connection can be closed");
    }
}

/// A cluster as its keeper, the script `postgres.sh`, is talked to.
struct Cluster {
    keeper: Child,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    fn start() -> (Self, String) {
        let programs = programs().unwrap_or_else(|| {
            panic!(
                "no PostgreSQL server in /usr/lib/postgresql/*/bin or PATH: run tests/run, which installs one, \
                 or set TENANTRY_TEST_POSTGRES_URL"
            )
        });
        // The server refuses to run as root.
        let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        let mut command = Command::new(if root { "setpriv" } else { "sh" });
        if root {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "sh"]);
        }
        let mut keeper = command
            .args(["-c", include_str!("postgres.sh"), "sh"])
            .arg(programs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The interrupt key is for the tests; the keeper has to outlive them for a moment.
            .process_group(0)
            .spawn()
            .expect("sh, and setpriv for root, can be run");
        let answers = BufReader::new(keeper.stdout.take().expect("its stdout is a pipe"));
        let mut cluster = Self { keeper, answers };
        let directory = cluster.answer();
        assert_eq!(cluster.answer(), "up");
        (cluster, directory)
    }

    fn order(&mut self, order: &str, answer: &str) {
        let orders = self.keeper.stdin.as_mut().expect("its stdin is a pipe");
        writeln!(orders, "{order}").expect("the keeper of the cluster listens");
        assert_eq!(self.answer(), answer);
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the keeper of the cluster writes text");
        assert!(line.ends_with('\n'), "PostgreSQL did not do as told; its log is in this output");
        line.trim_end().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Which closes the pipe first; the keeper cleans up then.
        drop(self.keeper.wait());
    }
}

/// The directory of the newest server in Debian's place, or else of the one in PATH.
fn programs() -> Option<PathBuf> {
    let complete = |directory: &Path| ["initdb", "postgres", "pg_ctl"].iter().all(|name| directory.join(name).exists());
    let newest = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, directory)| complete(directory))
        .max();
    newest.map(|(_, directory)| directory).or_else(|| {
        std::env::split_paths(&setting("PATH")?)
            .filter_map(|directory| fs::canonicalize(directory.join("initdb")).ok())
            .filter_map(|initdb| initdb.parent().map(Path::to_path_buf))
            .find(|directory| complete(directory))
    })
}

#[expect(clippy::disallowed_methods, reason = "what the tests are told is no setting of the service")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

mod tests {
    use sea_orm::{DatabaseConnection, DbErr};

    use super::*;
    use crate::harness::{Backend, database_tests};

    async fn connect(url: String) -> Result<DatabaseConnection, DbErr> {
        Database::connect(ConnectOptions::new(url).max_connections(1).sqlx_logging(false).to_owned()).await
    }

    async fn migrate(url: String) {
        let database = connect(url).await.expect("the new database is there");
        database.execute_unprepared("CREATE TABLE kept (id bigint PRIMARY KEY)").await.expect("a table can be made");
        database.close().await.expect("the connection can be closed");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_is_copied_from_the_template_and_dropped() {
        let server = Server::start_private();
        let template = server.template(migrate).await;
        assert_eq!(template, server.template(|_| async { panic!("migrated twice") }).await);

        let (first, second) =
            tokio::join!(server.create_database(Some(template)), server.create_database(Some(template)));
        assert_ne!(first, second);
        let database = connect(server.url(&first)).await.expect("the copy is there");
        database.execute_unprepared("INSERT INTO kept VALUES (1)").await.expect("the copy has the template's table");

        // With the connection still open.
        server.drop_database(&first).await;
        assert!(connect(server.url(&first)).await.is_err());
        assert!(connect(server.url(&second)).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_private_cluster_goes_away_and_returns_under_the_same_url() {
        let server = Server::start_private();
        let name = server.create_database(None).await;
        let url = server.url(&name);
        migrate(url.clone()).await;

        server.stop().await;
        assert!(connect(url.clone()).await.is_err());

        server.start().await;
        let database = connect(url).await.expect("the cluster is back");
        database.execute_unprepared("INSERT INTO kept VALUES (1)").await.expect("its data is what it was");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cluster_leaves_nothing_behind() {
        let server = Server::start_private();
        let directory = server.url.split_once("host=").map(|(_, directory)| PathBuf::from(directory));
        let directory = directory.expect("a cluster of our own has a directory");
        assert!(directory.join("data/postmaster.pid").exists());
        // All that the keeper sees of a process that was killed is the same: its pipe closes.
        drop(server);
        assert!(!directory.exists());
    }

    #[test]
    fn a_url_names_its_database_whatever_else_it_holds() {
        for (server, expected) in [
            ("postgres://a:b@host:1/postgres?sslmode=disable", "postgres://a:b@host:1/it?sslmode=disable"),
            ("postgres://host/postgres", "postgres://host/it"),
            ("postgres://host", "postgres://host/it"),
            ("postgres:///?host=/run/sockets", "postgres:///it?host=/run/sockets"),
        ] {
            let server = Server { url: server.into(), cluster: None, template: OnceCell::new() };
            assert_eq!(server.url("it"), expected);
        }
    }

    database_tests! {
        async fn each_database_gets_its_own_test(backend: Backend) {
            let name = std::thread::current().name().map(str::to_owned);
            let suffix = match backend {
                Backend::Sqlite => "::sqlite",
                Backend::Postgres => {
                    let name = server().create_database(None).await;
                    server().drop_database(&name).await;
                    "::postgres"
                }
            };
            assert!(name.is_some_and(|name| name.ends_with(suffix)));
        }
    }
}
