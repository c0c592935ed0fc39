//! The binary itself: its manual, its subcommands, what it refuses to start with, its signals and its logs.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use clap::CommandFactory as _;
use prost_types::Duration;
use sea_orm::{ConnectionTrait as _, Statement, TransactionTrait as _};
use serde_json::Value;
use tempfile::TempDir;
use tenantry::config::Cli;
use tenantry::pb;
use tenantry::pb::testing::clock_service_client::ClockServiceClient;
use tenantry::pb::testing::{AdvanceTimeRequest, GetTimeRequest};
use tokio::net::TcpStream;
use tonic::{Code, Request};

use crate::harness::binary::{Home, Process, finished, tenantry, until};
use crate::harness::person::{Identity, Person, answer};
use crate::harness::{Backend, database_tests, postgres};

const SECRET: &str = "a secret that nobody would guess, of course";

/// Names that DESIGN fixes.
const FIXED: [&str; 11] = [
    "TENANTRY_LISTEN",
    "TENANTRY_DATABASE_URL",
    "TENANTRY_ROLE_POLICY",
    "TENANTRY_PLANS",
    "TENANTRY_JWT_SECRET",
    "TENANTRY_JWKS",
    "TENANTRY_JWT_ISSUER",
    "TENANTRY_JWT_AUDIENCE",
    "TENANTRY_TRUST_METADATA",
    "TENANTRY_CLOCK",
    "TENANTRY_LOG",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

async fn printed(command: Command) -> String {
    let Output { status, stdout, stderr } = finished(command).await;
    assert!(status.success(), "{status}: {}", text(&stderr));
    text(&stdout)
}

// === the manual

#[tokio::test]
async fn help_documents_every_setting_with_its_flag_and_its_variable() {
    let directory = TempDir::new().expect("a directory");
    let mut cli = Cli::command();
    cli.build();
    let commands = cli.get_subcommands().filter(|command| command.get_name() != "help").cloned();
    let commands: Vec<_> = std::iter::once((Vec::new(), cli.clone()))
        .chain(commands.map(|command| (vec![command.get_name().to_owned()], command)))
        .collect();
    assert_eq!(commands.len(), 9);
    for (words, command) in commands {
        let mut help = tenantry(directory.path());
        help.args(&words).arg("--help");
        // The lines are wrapped to the width of a terminal.
        let help = printed(help).await.split_whitespace().collect::<Vec<_>>().join(" ");
        for argument in
            command.get_arguments().filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
        {
            let said = argument.get_help().expect("a setting has a help text").to_string();
            assert!(help.contains(&said.split_whitespace().collect::<Vec<_>>().join(" ")), "{words:?}: {said}");
            let name = argument.get_long().map_or_else(|| "<FILE>".to_owned(), |flag| format!("--{flag}"));
            assert!(help.contains(&name), "{words:?}: {argument:?}");
            if let Some(variable) = argument.get_env() {
                let variable = variable.to_str().expect("text");
                assert!(help.contains(&format!("[env: {variable}")), "{words:?}: {variable}");
            } else {
                assert!(
                    ["import", "export", "backup", "restore", "token", "health"].contains(&words[0].as_str()),
                    "a setting without a variable: {argument:?}"
                );
            }
        }
        if words.is_empty() || words == ["serve"] {
            for fixed in FIXED {
                assert!(help.contains(&format!("[env: {fixed}")), "{words:?}: {fixed}");
            }
        }
    }
}

#[tokio::test]
async fn help_does_not_show_the_secrets_that_are_set() {
    let directory = TempDir::new().expect("a directory");
    for words in [vec!["--help"], vec!["token", "--help"], vec!["migrate", "--help"]] {
        let mut help = tenantry(directory.path());
        help.args(words).env("TENANTRY_JWT_SECRET", SECRET).env("TENANTRY_DATABASE_URL", "postgres://a:hunter2@b/c");
        let help = printed(help).await;
        assert!(!help.contains(SECRET) && !help.contains("hunter2"), "{help}");
    }
}

// === migrate, token, health

database_tests! {
    async fn migrate_migrates_and_exits_and_can_be_repeated(backend: Backend) {
        let home = Home::new(backend).await;
        for _ in 0..2 {
            printed(home.tenantry(&["migrate"])).await;
            let database = home.database().await;
            for table in ["organization", "membership", "invitation", "subscription", "event", "stored_answer"] {
                let count = Statement::from_string(database.get_database_backend(), format!("SELECT count(*) FROM {table}"));
                let row = database.query_one_raw(count).await.expect("the table is there").expect("a row");
                assert_eq!(row.try_get_by_index::<i64>(0), Ok(0));
            }
            database.close().await.expect("closed");
        }
        home.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_start_at_once_on_an_empty_database_both_serve() {
    let home = Home::new(Backend::Postgres).await;
    let (mut first, mut second) = tokio::join!(Process::start(home.tenantry(&[])), Process::start(home.tenantry(&[])));
    let ann = Person::new(first.channel(), "ann").founds("Acme").await;
    let bob = ann.at(second.channel()).brings("bob", "member").await;
    assert_eq!(ann.seats().await, "2 / 4 seats");
    bob.at(first.channel()).tries_to_leave().await.expect("left");
    assert_eq!(ann.at(second.channel()).seats().await, "1 / 4 seats");
    tokio::join!(first.stop(), second.stop());
    home.end().await;
}

async fn token(directory: &TempDir, arguments: &[&str]) -> String {
    let mut command = tenantry(directory.path());
    command.arg("token").args(arguments).env("TENANTRY_JWT_SECRET", SECRET);
    command.env("TENANTRY_JWT_ISSUER", "https://id.example.com").env("TENANTRY_JWT_AUDIENCE", "tenantry");
    let token = printed(command).await;
    assert_eq!(token.lines().count(), 1, "{token}");
    token.trim_end().to_owned()
}

fn bearing(process: &Process, token: &str) -> Person {
    let mut person = Person::new(process.channel(), "ann");
    person.identity = Identity(vec![("authorization", format!("Bearer {token}"))]);
    person
}

#[tokio::test]
async fn a_minted_token_opens_the_server_that_has_its_secret() {
    let home = Home::new(Backend::Sqlite).await;
    let mut command = home.tenantry(&["--jwt-issuer", "https://id.example.com", "--jwt-audience", "tenantry"]);
    command.env("TENANTRY_JWT_SECRET", SECRET);
    let mut server = Process::start(command).await;

    let own = token(&home.directory, &["--subject", "ann", "--email", "ann@example.com"]).await;
    let acme = bearing(&server, &own).founds("Acme").await.organization_id;
    let acting = [
        "--subject",
        "ann",
        "--email",
        "ann@example.com",
        "--organization",
        &acme,
        "--role",
        "owner",
        "--minutes",
        "5",
    ];
    let mut ann = bearing(&server, &token(&home.directory, &acting).await);
    ann.organization_id.clone_from(&acme);
    assert_eq!(ann.invites(&["bob@example.com"], "member").await.len(), 1);

    let gateway = bearing(&server, &token(&home.directory, &["--subject", "gateway", "--platform"]).await);
    let request = pb::RecordSignInRequest { organization_id: acme, user_id: "ann".into(), ..Default::default() };
    answer(gateway.members().record_sign_in(request.clone()).await).expect("a service may record a sign-in");
    let refused = answer(ann.members().record_sign_in(request).await).expect_err("refused");
    assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));

    let mut mint = tenantry(home.directory.path());
    mint.args(["token", "--subject", "ann", "--jwt-secret", "another secret that nobody would guess"]);
    mint.args(["--issuer", "https://id.example.com", "--audience", "tenantry"]);
    let forger = bearing(&server, printed(mint).await.trim_end());
    let refused = answer(forger.billing().list_plans(pb::ListPlansRequest {}).await).expect_err("refused");
    assert_eq!(refused.is(), (Code::Unauthenticated, "TOKEN_INVALID"));

    let trusting = Person::new(server.channel(), "ann");
    let refused = answer(trusting.billing().list_plans(pb::ListPlansRequest {}).await).expect_err("refused");
    assert_eq!(refused.is(), (Code::Unauthenticated, "METADATA_NOT_TRUSTED"));
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_not_minted_for_half_a_membership_or_with_a_short_secret() {
    let directory = TempDir::new().expect("a directory");
    let mint = |arguments: &[&str]| {
        let mut command = tenantry(directory.path());
        command.args(["token", "--subject", "ann"]).args(arguments);
        command
    };
    refuses(mint(&["--jwt-secret", "short"]), &["the token secret is shorter than 32 bytes"]).await;
    refuses(mint(&["--jwt-secret", SECRET, "--role", "owner"]), &["--organization"]).await;
    refuses(mint(&["--jwt-secret", SECRET, "--platform", "--email", "a@example.com"]), &["--platform", "--email"])
        .await;
    refuses(mint(&[]), &["--jwt-secret"]).await;
}

#[tokio::test]
async fn the_exit_status_of_health_says_whether_a_server_is_healthy() {
    let home = Home::new(Backend::Sqlite).await;
    let mut server = Process::start(home.tenantry(&[])).await;
    server.logged("ready: the database answers").await;
    let address = server.address.to_string();
    let health = |arguments: &[&str]| {
        let mut command = tenantry(home.directory.path());
        command.arg("health").args(arguments).env("TENANTRY_LISTEN", &address);
        command
    };
    printed(health(&[])).await;
    for service in ["liveness", "readiness", "", "tenantry.v1.MembershipService"] {
        printed(health(&["--service", service])).await;
    }
    refuses(health(&["--service", "tenantry.v1.NoService"]), &["not registered"]).await;
    server.stop().await;
    refuses(health(&[]), &["Connection refused"]).await;
}

// === what it does not start with

/// It ends with a failure and says why, in words for people.
async fn refuses(command: Command, said: &[&str]) {
    let asked = format!("{command:?}");
    let Output { status, stdout, stderr } = finished(command).await;
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.code().is_some_and(|code| code != 0), "{asked}: {status}");
    assert_eq!(stdout, "", "{asked}");
    for part in said {
        assert!(stderr.contains(part), "{asked} does not say {part}: {stderr}");
    }
    for inside in ["backtrace", "panicked", "RUST_BACKTRACE", "Caused by", "Error {", "hunter2", SECRET] {
        assert!(!stderr.contains(inside), "{asked}: {stderr}");
    }
}

async fn refuses_to_start(arguments: &[&str], said: &[&str]) {
    let home = Home::new(Backend::Sqlite).await;
    let mut command = home.tenantry(&["--listen", "127.0.0.1:0"]);
    // The later of two settings would be an error of its own.
    if arguments.contains(&"--listen") {
        command = home.tenantry(&[]);
    }
    command.args(arguments);
    refuses(command, said).await;
    let left = fs::read_dir(home.directory.path()).expect("the directory").count();
    assert_eq!(left, 0, "{arguments:?}: it left something behind");
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_an_identity() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let ways = ["TENANTRY_JWKS", "TENANTRY_JWT_SECRET", "TENANTRY_TRUST_METADATA=true"];
        refuses_to_start(&["--listen", address], &ways).await;
    }
    refuses_to_start(&["--trust-metadata", "false"], &["nobody could call this server"]).await;
}

#[tokio::test]
async fn a_faulty_role_policy_names_line_role_and_permission() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("policy.toml");
    let whole = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/auth/presets/owner-billing.toml"));
    let lines = whole.expect("the preset").lines().map(str::to_owned).collect::<Vec<_>>();
    let row = lines.iter().position(|line| line.starts_with("seats_read")).expect("a row");
    let mut faulty = lines.clone();
    faulty[row] = "seats_read = { owner = false, admin = true, membr = false }".into();
    fs::write(&path, faulty.join("\n")).expect("written");
    let path = path.to_str().expect("text");
    let line = format!("line {}", row + 1);
    let said = [path, &line, "`seats_read`", "role `owner`", "role `member`", "`membr`"];
    refuses_to_start(&["--role-policy", path], &said).await;
    refuses_to_start(&["--role-policy", "owner-biling"], &["owner-biling", "owner-billing", "split-admin"]).await;
}

#[tokio::test]
async fn a_faulty_catalogue_says_what_is_wrong_with_it() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("plans.toml");
    let good = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/billing/catalogue/catalogue.toml"))
        .expect("there");
    fs::write(&path, good.replace("plan = \"team\"\ntitle", "plan = \"free\"\ntitle")).expect("written");
    let path = path.to_str().expect("text");
    refuses_to_start(&["--plans", path], &[path, "free"]).await;
    fs::write(path, "[[plans]]\nplan = \"x\"\n").expect("written");
    refuses_to_start(&["--plans", path], &[path, "line 1", "title"]).await;
    refuses_to_start(&["--plans", "nowhere.toml"], &["nowhere.toml", "No such file"]).await;
}

#[tokio::test]
async fn token_keys_must_be_sound() {
    refuses_to_start(&["--jwt-secret", "short"], &["shorter than 32 bytes"]).await;
    refuses_to_start(&["--jwks", "nowhere.json"], &["nowhere.json", "No such file"]).await;
    refuses_to_start(&["--jwks", "nowhere.json", "--jwt-secret", SECRET], &["not with both"]).await;
}

#[tokio::test]
async fn a_database_url_must_be_a_file_or_postgres() {
    let urls = ["mysql://a:hunter2@b/c", "tenantry.db", "postgres://a:hunter2@[::/c", "sqlite::memory:"];
    for url in urls.into_iter().chain(["sqlite://:memory:", "sqlite:x.db?mode=memory", "sqlite:"]) {
        refuses_to_start(&["--database-url", url], &["must be sqlite:PATH or postgres://"]).await;
    }
    refuses_to_start(&["--database-url", "sqlite:no/such/place.db"], &["no/such/place.db", "No such file"]).await;
}

#[tokio::test]
async fn a_postgres_that_cannot_be_reached_says_why() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    for scheme in ["postgres", "postgresql"] {
        let url = format!("{scheme}://a:hunter2@{closed}/c");
        let settings = ["--database-url", &url, "--database-wait-seconds", "0"];
        refuses_to_start(&settings, &["could not connect to the database", "Connection refused"]).await;
    }
    let nowhere = postgres::server().url("no_such_database");
    refuses_to_start(&["--database-url", &nowhere], &["could not connect", "no_such_database"]).await;
}

#[tokio::test]
async fn other_nonsense_is_told_too() {
    refuses_to_start(&["--log", "==="], &["the log filter `===`"]).await;
    refuses_to_start(&["--clock", "sundial"], &["sundial", "system", "manual"]).await;
    refuses_to_start(&["--invitation-days", "31"], &["31", "1..=30"]).await;
    refuses_to_start(&["--listen", "localhost"], &["localhost", "--listen"]).await;
}

#[tokio::test]
async fn an_address_in_use_is_told_before_the_database_is_touched() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    let said = format!("cannot listen on {address}: Address already in use");
    refuses_to_start(&["--listen", &address], &[&said]).await;
}

#[tokio::test]
async fn a_file_in_use_is_refused_by_whatever_name_until_its_server_ends() {
    let home = Home::new(Backend::Sqlite).await;
    let mut server = Process::start(home.tenantry(&[])).await;
    let absolute = format!("sqlite:{}/tenantry.db", home.directory.path().display());
    std::os::unix::fs::symlink("tenantry.db", home.directory.path().join("link.db")).expect("a link");
    for url in ["sqlite:tenantry.db", "sqlite://./tenantry.db", &absolute, "sqlite:link.db"] {
        for words in [vec!["--listen", "127.0.0.1:0"], vec!["migrate"]] {
            let mut command = tenantry(home.directory.path());
            command.args(words).env("TENANTRY_DATABASE_URL", url);
            refuses(command, &["in use by another process", "PostgreSQL"]).await;
        }
    }
    // However it ends.
    server.signal("KILL");
    assert!(!server.ended().await.success());
    Process::start(home.tenantry(&[])).await.stop().await;
}

#[tokio::test]
async fn trusted_headers_on_an_address_that_others_can_reach_are_warned_of() {
    let home = Home::new(Backend::Sqlite).await;
    let mut command = home.tenantry(&[]);
    command.env("TENANTRY_LISTEN", "0.0.0.0:0").env("TENANTRY_TRUST_METADATA", "true");
    let mut open = Process::start_where_told(command).await;
    let warning = open.logged("identity headers are believed").await;
    assert!(warning.contains("WARN") && warning.contains("0.0.0.0:0"), "{warning}");
    open.stop().await;

    let mut folder = Process::start(home.tenantry(&[])).await;
    folder.logged("e-mail is written into a folder, and reaches nobody").await;
    folder.stop().await;
    let mut quiet = Process::start(home.tenantry(&["--mail", "off"])).await;
    quiet.stop().await;
    assert!(!quiet.log().iter().any(|line| line.contains("WARN")), "{:#?}", quiet.log());
}

// === signals

database_tests! {
    async fn sigterm_lets_the_call_under_way_finish(backend: Backend) {
        stops(backend, "TERM").await;
    }

    async fn sigint_lets_the_call_under_way_finish(backend: Backend) {
        stops(backend, "INT").await;
    }
}

async fn stops(backend: Backend, signal: &str) {
    let home = Home::new(backend).await;
    let mut server = Process::start(home.tenantry(&[])).await;
    let ann = Person::new(server.channel(), "ann").founds("Acme").await;
    let database = home.database().await;
    let held = database.begin().await.expect("a transaction");
    held.execute_unprepared("UPDATE organization SET version = version").await.expect("the organization is held");

    let mut inviting = std::pin::pin!(ann.tries_to_invite(&["bob@example.com"], "member"));
    tokio::select! {
        biased;
        outcome = &mut inviting => panic!("it did not wait for the lock: {outcome:?}"),
        // Sent after it on the same connection: when this is answered, that is under way.
        _ = ann.seats() => {}
    }
    server.signal(signal);
    server.logged("stopping").await;
    until("new connections are refused", async || TcpStream::connect(server.address).await.is_err()).await;
    held.rollback().await.expect("let go");
    let invited = inviting.await.expect("the call under way finished");
    assert_eq!(invited.len(), 1);
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{:#?}", server.log());
    database.close().await.expect("closed");
    home.end().await;
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_time_does_not_hold_up_the_end() {
    let home = Home::new(Backend::Postgres).await;
    let mut server = Process::start(home.tenantry(&["--drain-seconds", "0"])).await;
    let ann = Person::new(server.channel(), "ann").founds("Acme").await;
    let database = home.database().await;
    let held = database.begin().await.expect("a transaction");
    held.execute_unprepared("UPDATE organization SET version = version").await.expect("the organization is held");
    let mut inviting = std::pin::pin!(ann.tries_to_invite(&["bob@example.com"], "member"));
    tokio::select! {
        biased;
        outcome = &mut inviting => panic!("it did not wait for the lock: {outcome:?}"),
        _ = ann.seats() => {}
    }
    server.stop().await;
    server.logged("cut off what was left at the end of the drain time").await;
    held.rollback().await.expect("let go");
    database.close().await.expect("closed");
    home.end().await;
}

// === logs

/// Makes calls of every kind, and gives what must never be logged.
async fn calls(server: &Process, secret: &str) -> Vec<String> {
    let claims = ["--subject", "ann", "--email", "ann@example.com"];
    let directory = TempDir::new().expect("a directory");
    let minted = token(&directory, &claims).await;
    bearing(server, &minted).founds("Acme by token").await;

    let ann = Person::new(server.channel(), "ann").founds("Acme").await;
    let sent = ann.invites(&["bob.secret@example.com", "cas.secret@example.com"], "member").await;
    let mut bob = Person::new(server.channel(), "bob");
    bob.email = "bob.secret@example.com".into();
    bob.identity.0[1].1.clone_from(&bob.email);
    let bob = bob.accepts(&sent[0].token).await;
    let mut request =
        Request::new(pb::GetSeatUsageRequest { organization_id: bob.organization_id.clone(), time: None });
    request.metadata_mut().insert("x-request-id", "told-by-bob".parse().expect("ascii"));
    let refused = answer(bob.billing().get_seat_usage(request).await).expect_err("refused");
    assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
    let full = ann
        .tries_to_invite(&["dee.secret@example.com", "eve.secret@example.com"], "member")
        .await
        .expect_err("refused");
    assert_eq!(full.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
    let wrong = ann.tries_to_invite(&["not an address of secret@"], "member").await.expect_err("refused");
    assert_eq!(wrong.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
    bob.tries_to_accept(&sent[1].token).await.expect_err("somebody else's");
    let forged = format!("{minted}x");
    let refused =
        answer(bearing(server, &forged).billing().list_plans(pb::ListPlansRequest {}).await).expect_err("refused");
    assert_eq!(refused.is(), (Code::Unauthenticated, "TOKEN_INVALID"));
    let gateway = Person::service(server.channel(), "gateway");
    let request =
        pb::RecordSignInRequest { organization_id: ann.organization_id, user_id: "ann".into(), ..Default::default() };
    answer(gateway.members().record_sign_in(request).await).expect("recorded");
    let mut never: Vec<_> = sent.into_iter().map(|invited| invited.token).collect();
    never.extend([minted, "@".into(), secret.into(), "hunter2".into()]);
    never
}

/// How many calls those are.
const CALLS: usize = 10;

async fn logging(home: &Home, arguments: &[&str]) -> Process {
    let mut command = home.tenantry(arguments);
    // One database takes any password for its user; the other has none.
    command.env("TENANTRY_DATABASE_URL", home.url.replace("postgres@", "postgres:hunter2@"));
    command.env("TENANTRY_JWT_SECRET", SECRET).env("TENANTRY_TRUST_METADATA", "true");
    command.env("TENANTRY_JWT_ISSUER", "https://id.example.com").env("TENANTRY_JWT_AUDIENCE", "tenantry");
    Process::start(command).await
}

database_tests! {
    async fn the_log_has_one_line_a_call_and_no_secrets(backend: Backend) {
        let home = Home::new(backend).await;
        let mut server = logging(&home, &["--log-format", "json"]).await;
        let never = calls(&server, SECRET).await;
        server.stop().await;

        let log = server.log();
        for secret in never {
            assert!(!log.iter().any(|line| line.contains(&secret)), "{secret} is in the log: {log:#?}");
        }
        let lines: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
        let calls: Vec<_> = lines.iter().filter(|line| line["message"] == "rpc").collect();
        assert_eq!(calls.len(), CALLS, "{log:#?}");
        for call in &calls {
            let span = &call["span"];
            assert!(span["method"].as_str().is_some_and(|path| path.starts_with("/tenantry.v1.")), "{call}");
            assert!(span["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{call}");
            assert!(call["duration_ms"].as_f64().is_some_and(|time| time > 0.0), "{call}");
            assert_eq!(call["code"] == "Ok", span.get("reason").is_none(), "{call}");
        }
        let told = calls.iter().find(|call| call["span"]["request_id"] == "told-by-bob").expect("bob's own id");
        assert_eq!(told["code"], "PermissionDenied");
        let span = &told["span"];
        assert_eq!(span["method"], "/tenantry.v1.BillingService/GetSeatUsage");
        assert_eq!((&span["user"], &span["role"], &span["reason"]), (&"bob".into(), &"member".into(), &"ROLE_LACKS_PERMISSION".into()));
        assert!(span["org"].as_str().is_some_and(|id| id.len() == 36), "{told}");
        let service = calls.iter().find(|call| call["span"]["service"] == "gateway").expect("the service's call");
        assert_eq!(service["code"], "Ok");
        home.end().await;
    }
}

#[tokio::test]
async fn the_log_for_people_says_the_same_and_no_secrets_even_when_it_says_more() {
    let home = Home::new(Backend::Sqlite).await;
    let mut server = logging(&home, &["--log", "debug"]).await;
    let never = calls(&server, SECRET).await;
    server.stop().await;
    let log = server.log();
    for secret in never {
        let found: Vec<_> = log.iter().filter(|line| line.contains(&secret)).collect();
        assert!(found.is_empty(), "{secret} is in the log: {found:#?}");
    }
    let calls: Vec<_> = log.iter().filter(|line| line.contains(": rpc code=")).collect();
    assert_eq!(calls.len(), CALLS, "{calls:#?}");
    let told = calls.iter().find(|line| line.contains("told-by-bob")).expect("bob's own id");
    let parts = [
        r#"method="/tenantry.v1.BillingService/GetSeatUsage""#,
        r#"user="bob""#,
        r#"role="member""#,
        r#"reason="ROLE_LACKS_PERMISSION""#,
        "code=PermissionDenied",
        "duration_ms=",
        "org=",
    ];
    for part in parts {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

// === the clock

#[tokio::test]
async fn the_clock_can_be_moved_only_where_it_was_started_so() {
    let home = Home::new(Backend::Sqlite).await;
    let mut server = Process::start(home.tenantry(&[])).await;
    let ann = Person::new(server.channel(), "ann");
    let mut clock = ClockServiceClient::with_interceptor(server.channel(), ann.identity);
    let status = clock.get_time(GetTimeRequest {}).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unimplemented);
    server.stop().await;

    let mut command = home.tenantry(&[]);
    command.env("TENANTRY_CLOCK", "manual");
    let mut server = Process::start(command).await;
    let ann = Person::new(server.channel(), "ann").founds("Acme").await;
    let sent = ann.invites(&["bob@example.com"], "member").await;
    assert_eq!(ann.seats().await, "2 / 4 seats");
    let mut clock = ClockServiceClient::with_interceptor(server.channel(), ann.identity.clone());
    let before = clock.get_time(GetTimeRequest {}).await.expect("told").into_inner().time.expect("a time");
    let again = clock.get_time(GetTimeRequest {}).await.expect("told").into_inner().time.expect("a time");
    assert_eq!(before, again, "it stands still");
    let week = Duration { seconds: 7 * 24 * 3600, nanos: 0 };
    let request = AdvanceTimeRequest { duration: Some(week) };
    let after = clock.advance_time(request).await.expect("moved").into_inner().time.expect("a time");
    assert_eq!(after.seconds - before.seconds, week.seconds);
    assert_eq!(ann.seats().await, "1 / 4 seats");
    let refused = Person::new(server.channel(), "bob").tries_to_accept(&sent[0].token).await.expect_err("refused");
    assert_eq!(refused.is(), (Code::FailedPrecondition, "INVITATION_EXPIRED"));
    server.stop().await;
}
