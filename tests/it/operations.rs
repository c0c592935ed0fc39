//! Operations: health, reflection, the graceful stop, a database that goes away and returns, calls that are given up.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, Statement, TransactionTrait as _};
use tenantry::auth::policy::RolePolicy;
use tenantry::database::{Database, DatabaseError, DatabaseSettings};
use tenantry::deadline::DeadlineLayer;
use tenantry::pb;
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};
use tower::{Layer as _, ServiceExt as _};

use crate::harness::binary::{Home, Process, finished, tenantry, until};
use crate::harness::health::health;
use crate::harness::person::{Person, answer};
use crate::harness::postgres::Server;
use crate::harness::refused::refused;
use crate::harness::world::{World, roomy};
use crate::harness::{Backend, database_tests};

/// By these names health tells what follows the database.
const READINESS: [&str; 10] = [
    "",
    "readiness",
    "tenantry.v1.OrganizationService",
    "tenantry.v1.MembershipService",
    "tenantry.v1.WorkspaceService",
    "tenantry.v1.MonitoringService",
    "tenantry.v1.BillingService",
    "tenantry.v1.EventService",
    "tenantry.v1.DeliveryService",
    "tenantry.v1.WebhookService",
];

async fn until_health(channel: &Channel, service: &str, expected: ServingStatus) {
    let what = format!("`{service}` is {}", expected.as_str_name());
    until(&what, async || health(channel, service).await.is_ok_and(|status| status == expected)).await;
}

/// A transaction that holds every organization's lock.
async fn holding(database: &DatabaseConnection) -> DatabaseTransaction {
    let held = database.begin().await.expect("a transaction");
    held.execute_unprepared("UPDATE organization SET version = version").await.expect("the organizations are held");
    held
}

// === health

database_tests! {
    async fn health_is_told_by_name(backend: Backend) {
        let world = World::new(backend).await;
        let channel = world.channel();
        for service in READINESS.into_iter().chain(["liveness"]) {
            until_health(&channel, service, ServingStatus::Serving).await;
        }
        let status = health(&channel, "tenantry.v1.NoService").await.expect_err("refused");
        assert_eq!(status.code(), Code::NotFound);
        world.end().await;
    }
}

// === reflection

/// What a list of services must be, in order.
const SERVICES: [&str; 12] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "tenantry.testing.v1.ClockService",
    "tenantry.v1.BillingService",
    "tenantry.v1.DeliveryService",
    "tenantry.v1.EventService",
    "tenantry.v1.MembershipService",
    "tenantry.v1.MonitoringService",
    "tenantry.v1.OrganizationService",
    "tenantry.v1.WebhookService",
    "tenantry.v1.WorkspaceService",
];

/// Asks one version of reflection for the services, or is refused.
macro_rules! services {
    ($version:ident, $channel:expr) => {{
        use $version::server_reflection_client::ServerReflectionClient;
        use $version::server_reflection_request::MessageRequest;
        use $version::server_reflection_response::MessageResponse;
        let request = $version::ServerReflectionRequest {
            message_request: Some(MessageRequest::ListServices(String::new())),
            ..Default::default()
        };
        match ServerReflectionClient::new($channel).server_reflection_info(tokio_stream::iter([request])).await {
            Err(status) => Err(status.code()),
            Ok(answers) => {
                let answer = answers.into_inner().next().await.expect("an answer").expect("no refusal");
                let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                    panic!("another answer: {answer:?}");
                };
                let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
                names.sort();
                Ok(names)
            }
        }
    }};
}

#[tokio::test]
async fn reflection_names_the_services_in_both_versions() {
    let world = World::new(Backend::Sqlite).await;
    let expected: Vec<_> = SERVICES.into_iter().filter(|name| !name.contains("reflection")).collect();
    for named in [services!(v1, world.channel()), services!(v1alpha, world.channel())] {
        let named = named.expect("a list");
        let named: Vec<_> = named.iter().filter(|name| !name.contains("reflection")).collect();
        assert_eq!(named, expected);
    }
    world.end().await;
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
    let home = Home::new(Backend::Sqlite).await;
    let mut server = Process::start(home.tenantry(&["--reflection", "false"])).await;
    assert_eq!(services!(v1, server.channel()), Err(Code::Unimplemented));
    assert_eq!(services!(v1alpha, server.channel()), Err(Code::Unimplemented));
    Person::new(server.channel(), "ann").founds("Acme").await;
    server.stop().await;
    // Lines for grpcurl would not work.
    assert_eq!(server.printed(), Vec::<String>::new());
}

// === the id of a call

database_tests! {
    async fn every_answer_and_every_refusal_tells_the_id_of_its_call(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let asking = |id: Option<&'static str>| {
            let mut request = Request::new(pb::GetSeatUsageRequest { organization_id: ann.organization_id.clone(), time: None });
            if let Some(id) = id {
                request.metadata_mut().insert("x-request-id", id.parse().expect("ascii"));
            }
            request
        };
        let told = |metadata: &tonic::metadata::MetadataMap| {
            let mut ids = metadata.get_all("x-request-id").iter();
            let id = ids.next().expect("an id").to_str().expect("text").to_owned();
            assert_eq!(ids.next(), None, "one id");
            id
        };
        let answered = ann.billing().get_seat_usage(asking(Some("my-own-id"))).await.expect("seats");
        assert_eq!(told(answered.metadata()), "my-own-id");

        let stranger = ann.acting_in("0198c1d2-7b7e-7cc3-98c4-dc0c0c07398f", "owner");
        let status = stranger.billing().get_seat_usage(asking(Some("another-id"))).await.expect_err("refused");
        assert_eq!(refused(&status).reason, "ORGANIZATION_MISMATCH");
        assert_eq!(told(status.metadata()), "another-id");
        let nobody = Person { identity: crate::harness::person::Identity::default(), ..ann.clone() };
        let status = nobody.billing().get_seat_usage(asking(Some("a-third-id"))).await.expect_err("refused");
        assert_eq!(refused(&status).reason, "IDENTITY_MISSING");
        assert_eq!(told(status.metadata()), "a-third-id");

        let made = told(ann.billing().get_seat_usage(asking(None)).await.expect("seats").metadata());
        uuid::Uuid::parse_str(&made).expect("an id of the server's own making");
        let again = told(ann.billing().get_seat_usage(asking(None)).await.expect("seats").metadata());
        assert_ne!(made, again);

        // One that would forge a line of the log, or fill it, is not taken.
        for bad in ["two words", "tab\there", Box::leak("x".repeat(129).into_boxed_str())] {
            let replaced = told(ann.billing().get_seat_usage(asking(Some(bad))).await.expect("seats").metadata());
            uuid::Uuid::parse_str(&replaced).expect("an id of the server's own making");
        }
        world.end().await;
    }

    async fn events_know_the_id_of_their_call(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann");
        let mut request = Request::new(pb::CreateOrganizationRequest { name: "Acme".into(), ..Default::default() });
        request.metadata_mut().insert("x-request-id", "the-founding".parse().expect("ascii"));
        answer(ann.organizations().create_organization(request).await).expect("founded");
        assert_eq!(world.number("SELECT count(*) FROM event WHERE request_id = 'the-founding'").await, 2);
        assert_eq!(world.number("SELECT count(*) FROM event").await, 2);
        world.end().await;
    }
}

// === the stop

database_tests! {
    async fn a_stop_lets_the_call_under_way_finish_and_refuses_new_ones(backend: Backend) {
        let mut world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let channel = world.channel();
        until_health(&channel, "readiness", ServingStatus::Serving).await;
        let watching = HealthCheckRequest { service: "readiness".into() };
        let mut watched = HealthClient::new(channel.clone()).watch(watching).await.expect("a stream").into_inner();
        assert_eq!(watched.message().await.expect("a status").map(|told| told.status()), Some(ServingStatus::Serving));

        let database = world.database().await;
        let held = holding(&database).await;
        let mut inviting = pin!(ann.tries_to_invite(&["bob@example.com"], "member"));
        tokio::select! {
            biased;
            outcome = &mut inviting => panic!("it did not wait for the lock: {outcome:?}"),
            // Sent after it on the same connection: when this is answered, that is under way.
            _ = ann.seats() => {}
        }
        let server = world.servers.pop().expect("a server");
        server.stop.cancel();
        // Whoever watches hears it first, and does not hold up the stop.
        let hearing = async {
            let told = watched.message().await.expect("a status").map(|told| told.status());
            (told, watched.message().await.expect("an end"))
        };
        let heard = tokio::time::timeout(Duration::from_secs(10), hearing).await.expect("the stream ends");
        assert_eq!(heard, (Some(ServingStatus::NotServing), None));
        until("new connections are refused", async || TcpStream::connect(server.address).await.is_err()).await;
        assert!(!server.task.is_finished(), "it did not wait for the call under way");

        held.rollback().await.expect("let go");
        assert_eq!(inviting.await.expect("the call under way finished").len(), 1);
        let stopped = Instant::now();
        server.task.await.expect("no panic").expect("no failure");
        assert!(stopped.elapsed() < Duration::from_secs(5), "it took {:?} with nothing to do", stopped.elapsed());
        database.close().await.expect("closed");
        world.end().await;
    }
}

database_tests! {
    async fn a_database_keeps_the_top_role_that_it_was_begun_with(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let database = &world.servers[0].app.database;
        for preset in ["owner-billing", "shared-billing", "guarded-admin"] {
            let policy = RolePolicy::load(preset).expect("a preset");
            tenantry::deployment::check(database, &policy).await.expect("their top role is the same");
        }
        let other = RolePolicy::load("split-admin").expect("a preset");
        let refused = tenantry::deployment::check(database, &other).await.expect_err("who is admin would be the top role");
        let told = refused.to_string();
        assert!(told.contains("`owner`") && told.contains("`split-admin` is `admin`"), "{told}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_whole_when_its_server_has_stopped() {
    let home = Home::new(Backend::Sqlite).await;
    let mut server = Process::start(home.tenantry(&[])).await;
    Person::new(server.channel(), "ann").founds("Acme").await;
    server.stop().await;
    // The file alone, without what stood beside it while the server ran.
    let (file, copy) = (home.directory.path().join("tenantry.db"), home.directory.path().join("copy.db"));
    std::fs::copy(file, &copy).expect("copied");
    let copied = sea_orm::Database::connect(format!("sqlite:{}", copy.display())).await.expect("the copy");
    assert_eq!(rows(&copied, "SELECT 1 FROM organization").await, 1);
    copied.close().await.expect("closed");
    home.end().await;
}

#[tokio::test]
async fn a_file_serves_one_server() {
    let world = World::new(Backend::Sqlite).await;
    let settings = DatabaseSettings::new(&world.url);
    let second = Database::connect(&settings).await.expect_err("refused");
    assert!(matches!(second, DatabaseError::InUse(_)), "{second:?}");
    let said = second.to_string();
    assert!(said.contains("test.db") && said.contains("in use by another process"), "{said}");
    world.end().await;
}

// === calls that are given up

async fn rows(database: &DatabaseConnection, sql: &str) -> usize {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    database.query_all_raw(statement).await.expect("a statement that both databases know").len()
}

/// How many calls are made to be given up: more than there are connections.
const GIVEN_UP: usize = 20;

database_tests! {
    async fn a_call_that_is_given_up_leaves_nothing_behind(backend: Backend) {
        let home = Home::new(backend).await;
        let mut server = Process::start(home.tenantry(&[])).await;
        let ann = Person::new(server.channel(), "ann").founds("Acme").await;
        let zoe = Person::new(server.channel(), "zoe").founds("Zoo").await;
        let (database, behind) = (home.database().await, home.database().await);
        let held = holding(&database).await;
        let emails: Vec<_> = (0..GIVEN_UP).map(|number| format!("p{number}@example.com")).collect();
        let calls = || futures::future::join_all(emails.iter().map(async |email| ann.tries_to_invite(&[email], "member").await));
        // The server hears of it a moment later, and says so in its log: as a call that was cancelled or, when the request itself
        // had not all come, as one without a message.
        let given_up = async |times: usize| {
            let ended = || server.log().iter().filter(|line| line.contains("/InviteMembers") && line.contains("code=")).count();
            until("the server has heard", async || ended() == times * GIVEN_UP).await;
        };
        // Given up as soon as they have come, whatever they are at.
        for times in 1..=5 {
            tokio::select! {
                biased;
                outcomes = calls() => panic!("they did not wait for the lock: {outcomes:?}"),
                () = answers(&ann) => {}
            }
            given_up(times).await;
        }
        // Given up while they wait for the lock.
        if backend == Backend::Postgres {
            let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            tokio::select! {
                biased;
                outcomes = calls() => panic!("they did not wait for the lock: {outcomes:?}"),
                () = async {
                    // All of them have come: one that never left would never be given up.
                    answers(&ann).await;
                    until("a call waits for the lock", async || rows(&behind, waiting).await > 0).await;
                } => {}
            }
            given_up(6).await;
        }
        held.rollback().await.expect("let go");

        assert_eq!(ann.invites(&["bob@example.com"], "member").await.len(), 1);
        assert_eq!(ann.seats().await, "2 / 4 seats");
        assert_eq!(zoe.invites(&["yan@example.com"], "member").await.len(), 1);
        assert_eq!(rows(&behind, "SELECT 1 FROM invitation").await, 2);
        // Of each organization: that it was created, its founder, its one invitation.
        assert_eq!(rows(&behind, "SELECT 1 FROM event").await, 6);
        if backend == Backend::Postgres {
            // The calls are over for the database, too: no transaction of theirs is left open.
            let open = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                        AND xact_start IS NOT NULL";
            until("no transaction is open", async || rows(&behind, open).await == 0).await;
        }
        behind.close().await.expect("closed");
        database.close().await.expect("closed");
        server.stop().await;
        home.end().await;
    }
}

/// In front of a service that never answers: a client of gRPC would end the call itself, at about the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline_with_a_reason() {
    let never = tower::service_fn(|_: http::Request<()>| {
        std::future::pending::<Result<http::Response<Body>, std::convert::Infallible>>()
    });
    let request = http::Request::post("/").header("grpc-timeout", "30m").body(()).expect("a request");
    let answered = DeadlineLayer::default().layer(never).oneshot(request).await.expect("an answer");
    let status = Status::from_header_map(answered.headers()).expect("a refusal");
    assert_eq!(refused(&status).is(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
}

/// Every call that is given up while it waits for the lock still holds its connection for a while.
#[tokio::test]
async fn a_call_that_is_given_up_waits_for_no_lock_any_more() {
    let world = World::new(Backend::Postgres).await;
    let ann = world.person("ann").founds("Acme").await;
    let database = world.database().await;
    let held = holding(&database).await;
    let watching = world.database().await;
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let named = format!("{waiting} AND application_name LIKE 'tenantry %'");
    for number in 0..10 {
        let email = format!("p{number}@example.com");
        let mut hurried = ann.clone();
        // It gives up by its deadline, or because its client goes away.
        if number % 2 == 0 {
            hurried.identity.0.push(("grpc-timeout", "300m".to_owned()));
        }
        let request = invitation(&ann, &email);
        let inviting = tokio::spawn(async move { hurried.members().invite_members(request).await });
        until("it waits, under a name of its own", async || rows(&watching, &named).await == 1).await;
        if number % 2 == 0 {
            inviting.await.expect("no panic").expect_err("its time is over");
        } else {
            inviting.abort();
        }
        let given_up = Instant::now();
        until("it waits no more", async || rows(&watching, waiting).await == 0).await;
        // The time-out of locks is four seconds.
        assert!(given_up.elapsed() < Duration::from_secs(2), "it took {:?}", given_up.elapsed());
    }
    held.rollback().await.expect("let go");
    assert_eq!(ann.seats().await, "1 / 4 seats", "nothing came of any");
    assert_eq!(ann.invites(&["bob@example.com"], "member").await.len(), 1);
    database.close().await.expect("closed");
    watching.close().await.expect("closed");
    world.end().await;
}

/// A read that takes long, as one may that somebody has not thought of.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_given_up_is_ended_and_leaves_its_connection_to_others() {
    let home = Home::new(Backend::Postgres).await;
    let mut server = Process::start(home.tenantry(&["--database-connections", "2"])).await;
    let ann = Person::new(server.channel(), "ann").founds("Acme").await;
    let database = home.database().await;
    let slow = "ALTER TABLE membership RENAME TO kept; \
                CREATE VIEW membership AS SELECT * FROM kept WHERE (SELECT pg_sleep(20)) IS NOT NULL";
    database.execute_unprepared(slow).await.expect("reading takes long");
    let under_way = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'";
    let mut reads = Vec::new();
    for number in 0..4 {
        let mut hurried = ann.clone();
        // It gives up by its deadline, or because its client goes away.
        if number % 2 == 0 {
            hurried.identity.0.push(("grpc-timeout", "400m".to_owned()));
        }
        let request = pb::GetSeatUsageRequest { organization_id: ann.organization_id.clone(), time: None };
        reads.push(tokio::spawn(async move { hurried.billing().get_seat_usage(request).await }));
    }
    until("they read", async || rows(&database, under_way).await == 2).await;
    for (number, read) in reads.into_iter().enumerate() {
        if number % 2 == 0 {
            drop(read.await);
        } else {
            read.abort();
        }
    }
    let given_up = Instant::now();
    // Of the two connections none is left to those who gave up: this needs one, and reads no membership.
    let portal = Person::service(server.channel(), "portal");
    let request = pb::GetSeatUsageRequest { organization_id: ann.organization_id.clone(), time: None };
    portal.billing().get_seat_usage(request).await.expect("a service needs no membership");
    assert!(given_up.elapsed() < Duration::from_secs(3), "it took {:?}", given_up.elapsed());
    until("nothing is read any more", async || rows(&database, under_way).await == 0).await;
    assert!(given_up.elapsed() < Duration::from_secs(8), "it took {:?}", given_up.elapsed());
    database
        .execute_unprepared("DROP VIEW membership; ALTER TABLE kept RENAME TO membership")
        .await
        .expect("as before");
    assert_eq!(ann.seats().await, "1 / 4 seats");
    database.close().await.expect("closed");
    server.stop().await;
    home.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_busy_organization_that_are_given_up_take_no_connections_from_the_others() {
    let home = Home::new(Backend::Postgres).await;
    let mut server = Process::start(home.tenantry(&["--database-connections", "4"])).await;
    let ann = Person::new(server.channel(), "ann").founds("Acme").await;
    let zoe = Person::new(server.channel(), "zoe").founds("Zoo").await;
    let database = home.database().await;
    let held = database.begin().await.expect("a transaction");
    held.execute_unprepared("UPDATE organization SET version = version WHERE slug = 'acme'").await.expect("held");
    for number in 0..6 {
        let email = format!("p{number}@example.com");
        let mut hurried = ann.clone();
        hurried.identity.0.push(("grpc-timeout", "150m".to_owned()));
        let outcome = hurried.members().invite_members(invitation(&ann, &email)).await;
        assert!(outcome.is_err(), "the lock is held");
    }
    let others = async {
        assert_eq!(zoe.invites(&["yan@example.com"], "member").await.len(), 1);
        assert_eq!(zoe.seats().await, "2 / 4 seats");
    };
    tokio::time::timeout(Duration::from_secs(3), others).await.expect("nobody waits for the busy organization");
    held.rollback().await.expect("let go");
    assert_eq!(ann.invites(&["bob@example.com"], "member").await.len(), 1);
    database.close().await.expect("closed");
    server.stop().await;
    home.end().await;
}

fn invitation(inviter: &Person, email: &str) -> pb::InviteMembersRequest {
    pb::InviteMembersRequest {
        organization_id: inviter.organization_id.clone(),
        emails: vec![email.to_owned()],
        role: "member".into(),
        ..Default::default()
    }
}

/// SQLite has one writer for all; what is told here is about the connections to PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_organization_leaves_connections_to_the_others() {
    let world = World::with(Backend::Postgres, roomy()).await;
    let ann = world.person("ann").founds("Acme").await;
    let zoe = world.person("zoe").founds("Zoo").await;
    let database = world.database().await;
    let held = database.begin().await.expect("a transaction");
    held.execute_unprepared("UPDATE organization SET version = version WHERE slug = 'acme'").await.expect("held");
    // More than a server has connections.
    let emails: Vec<_> = (0..40).map(|number| format!("p{number}@example.com")).collect();
    let waiting =
        futures::future::join_all(emails.iter().map(async |email| ann.tries_to_invite(&[email], "member").await));
    let others = async {
        for number in 0..20 {
            assert_eq!(zoe.invites(&[&format!("q{number}@example.com")], "member").await.len(), 1);
            // Reading takes no lock, whoever changes what.
            assert_eq!(ann.seats().await, "1 / 100 seats");
        }
        held.rollback().await.expect("let go");
    };
    let (waited, ()) = tokio::join!(waiting, others);
    assert!(waited.iter().all(Result::is_ok), "{waited:?}");
    assert_eq!(ann.seats().await, "41 / 100 seats");
    database.close().await.expect("closed");
    world.end().await;
}

database_tests! {
    async fn a_transaction_that_is_given_up_at_any_moment_of_its_beginning_is_not_left_open(backend: Backend) {
        let world = World::new(backend).await;
        let behind = world.database().await;
        let database = &world.servers[0].app.database;
        for polls in 0..5 {
            let (mut begin, mut left) = (Box::pin(database.begin()), polls);
            std::future::poll_fn(|context| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                begin.as_mut().poll(context).map(drop)
            })
            .await;
            drop(begin);
            if backend == Backend::Postgres {
                // Looked at each time, because the next one might end what this one left.
                let open = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
                until("no transaction is open", async || rows(&behind, open).await == 0).await;
            }
        }
        // SQLite has one that writes: this would wait for it.
        holding(&behind).await.rollback().await.expect("let go");
        behind.close().await.expect("closed");
        world.end().await;
    }
}

/// What needs no database is answered.
async fn answers(person: &Person) {
    answer(person.billing().list_plans(pb::ListPlansRequest {}).await).expect("plans");
}

// === a database that goes away and returns

/// Well below the 30 seconds that a statement may take.
const PROMPT: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_server_that_starts_before_its_database_waits_for_it() {
    let postgres = Server::start_private();
    let name = postgres.create_database(None).await;
    postgres.stop().await;
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut command = tenantry(directory.path());
    command.env("TENANTRY_DATABASE_URL", postgres.url(&name)).env("TENANTRY_DATABASE_WAIT_SECONDS", "60");
    let (mut server, ()) = tokio::join!(Process::start(command), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        postgres.start().await;
    });
    assert!(server.log().iter().any(|line| line.contains("the database is not there yet")), "{:#?}", server.log());
    Person::new(server.channel(), "ann").founds("Acme").await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_waits_for_its_database_can_be_stopped() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut command = tenantry(directory.path());
    command
        .env("TENANTRY_DATABASE_URL", format!("postgres://a@{closed}/b"))
        .env("TENANTRY_DATABASE_WAIT_SECONDS", "600");
    let mut child = command.args(["--listen", "127.0.0.1:0"]).spawn().expect("it can be run");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let kill = format!("kill -TERM {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().expect("sh").success());
    let ended = std::cell::RefCell::new(&mut child);
    until("it ends", async || ended.borrow_mut().try_wait().expect("a child can be asked").is_some()).await;
    assert!(child.wait().expect("ended").success());
}

// === schemas of other versions

database_tests! {
    async fn a_version_serves_a_newer_schema_unless_that_has_taken_something_away(backend: Backend) {
        let home = Home::new(backend).await;
        Process::start(home.tenantry(&[])).await.stop().await;
        let database = home.database().await;
        let newer = "INSERT INTO tenantry_migration (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'of a newer version', true, 'x', 0)";
        database.execute_unprepared(newer).await.expect("a newer version was here");
        let mut server = Process::start(home.tenantry(&[])).await;
        server.logged("the database has migrations of a newer version").await;
        Person::new(server.channel(), "ann").founds("Acme").await;
        server.stop().await;
        database.execute_unprepared("UPDATE schema_floor SET oldest = 9999").await.expect("it took something away");
        database.close().await.expect("closed");
        let refused = finished(home.tenantry(&["--listen", "127.0.0.1:0"])).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("serves versions from migration 9999 on"), "{said}");
        home.end().await;
    }
}

#[tokio::test]
async fn whoever_serves_a_schema_needs_no_right_to_change_it() {
    let home = Home::new(Backend::Postgres).await;
    let mut migrating = home.tenantry(&[]);
    migrating.arg("migrate");
    assert!(finished(migrating).await.status.success());
    let database = home.database().await;
    let role = format!("reader_{}", std::process::id());
    for statement in [
        format!("CREATE ROLE {role} LOGIN"),
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned(),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"),
        format!("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"),
    ] {
        database.execute_unprepared(&statement).await.expect("granted");
    }
    let mut command = home.tenantry(&[]);
    command.env("TENANTRY_DATABASE_URL", home.url.replace("postgres://postgres@", &format!("postgres://{role}@")));
    let mut server = Process::start(command).await;
    Person::new(server.channel(), "ann").founds("Acme").await.invites(&["bob@example.com"], "member").await;
    server.stop().await;
    database.execute_unprepared(&format!("DROP OWNED BY {role}")).await.expect("dropped");
    database.execute_unprepared(&format!("DROP ROLE {role}")).await.expect("dropped");
    database.close().await.expect("closed");
    home.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_told_at_once_and_found_again() {
    let postgres = Server::start_private();
    let name = postgres.create_database(None).await;
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut command = tenantry(directory.path());
    command.env("TENANTRY_DATABASE_URL", postgres.url(&name));
    let mut server = Process::start(command).await;
    let channel = server.channel();
    let ann = Person::new(channel.clone(), "ann").founds("Acme").await;
    // Of as many organizations as there are connections, for those of one wait in line with a single one.
    let mut owners = vec![ann.clone()];
    for number in 1..20 {
        owners.push(Person::new(channel.clone(), &format!("owner{number}")).founds("Acme").await);
    }
    let owners = &owners;
    let inviting =
        || futures::future::join_all(owners.iter().map(|owner| owner.tries_to_invite(&["bob@example.com"], "member")));
    until_health(&channel, "readiness", ServingStatus::Serving).await;
    // Every connection that there may be is open, to be stale after the restart.
    let behind = sea_orm::Database::connect(postgres.url(&name)).await.expect("the database");
    let held = holding(&behind).await;
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let release = async {
        until("all wait for the lock", async || rows(&behind, waiting).await == 16).await;
        held.rollback().await.expect("let go");
    };
    let (outcomes, ()) = tokio::join!(inviting(), release);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    behind.close().await.expect("closed");

    postgres.stop().await;
    let asked = Instant::now();
    let invited = ann.tries_to_invite(&["bob@example.com"], "member").await.expect_err("refused");
    assert_eq!(invited.is(), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
    let request = pb::GetSeatUsageRequest { organization_id: ann.organization_id.clone(), time: None };
    let read = answer(ann.billing().get_seat_usage(request).await).expect_err("refused");
    assert_eq!(read.is(), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
    assert!(invited.retry && read.retry, "it says when to try again");
    assert!(asked.elapsed() < PROMPT, "two calls took {:?}", asked.elapsed());
    answers(&ann).await;
    for service in READINESS {
        until_health(&channel, service, ServingStatus::NotServing).await;
    }
    assert_eq!(health(&channel, "liveness").await.expect("a status"), ServingStatus::Serving);

    // Connections that lay idle for a second are tested; this outage shall not be shorter.
    tokio::time::sleep(Duration::from_secs(1)).await;
    postgres.start().await;
    let outcomes = inviting().await;
    assert!(outcomes.iter().all(Result::is_ok), "nothing is wrong any more: {outcomes:?}");
    let returned = Instant::now();
    until_health(&channel, "readiness", ServingStatus::Serving).await;
    assert!(returned.elapsed() < PROMPT, "it took {:?} to be ready", returned.elapsed());
    assert_eq!(ann.seats().await, "2 / 4 seats");
    assert_eq!(health(&channel, "liveness").await.expect("a status"), ServingStatus::Serving);
    let told: Vec<_> = server.log().into_iter().filter(|line| line.contains("ready: ")).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    server.stop().await;
}
