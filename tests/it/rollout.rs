//! Another release in the place of the one that runs, while callers call: none of them notices.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Statement, TransactionTrait as _};
use tenantry::pb;
use tonic::transport::{Channel, Endpoint};

use crate::harness::Backend;
use crate::harness::binary::{Home, Process, until};
use crate::harness::health::is_ready;
use crate::harness::lost::was_never_sent;
use crate::harness::person::Person;

/// The servers that callers are told of, as a Service of Kubernetes tells them.
type Endpoints = Arc<RwLock<Vec<SocketAddr>>>;

fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy()
}

/// A caller that uses one server for as long as it can, and goes to another when it was told to leave or cannot reach it.
struct Caller {
    endpoints: Endpoints,
    at: SocketAddr,
    person: Person,
}

impl Caller {
    fn moves(&mut self) {
        let endpoints = self.endpoints.read().expect("no panic");
        let next = endpoints.iter().find(|address| **address != self.at).or(endpoints.first()).expect("a server");
        self.at = *next;
        self.person = self.person.at(channel(self.at));
    }

    /// Invites somebody and looks at the seats. A call that was never sent is made again; any other fault is one.
    async fn calls(&mut self, number: usize, moved: &AtomicUsize) {
        let request = pb::InviteMembersRequest {
            organization_id: self.person.organization_id.clone(),
            emails: vec![format!("p{number}@example.com")],
            role: "member".into(),
            ..Default::default()
        };
        while let Err(status) = self.person.members().invite_members(request.clone()).await {
            assert!(was_never_sent(&status), "a change was lost: {status:?}");
            moved.fetch_add(1, Ordering::Relaxed);
            self.moves();
        }
        let request = pb::GetSeatUsageRequest { organization_id: request.organization_id, time: None };
        while let Err(status) = self.person.billing().get_seat_usage(request.clone()).await {
            assert!(was_never_sent(&status), "an answer was lost: {status:?}");
            moved.fetch_add(1, Ordering::Relaxed);
            self.moves();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_replaced_one_by_one_under_load_and_no_call_is_lost() {
    let home = Home::new(Backend::Postgres).await;
    let plans = home.directory.path().join("plans.toml");
    std::fs::write(&plans, crate::harness::world::plans_with_seats(100_000)).expect("a file");
    let plans = plans.display().to_string();
    let start = async || Process::start(home.tenantry(&["--plans", &plans, "--drain-seconds", "20"])).await;
    let mut servers = vec![start().await, start().await];
    let endpoints: Endpoints = Arc::new(RwLock::new(servers.iter().map(|server| server.address).collect()));
    let (stop, moved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for number in 0..6 {
        let at = servers[number % 2].address;
        let person = Person::new(channel(at), &format!("owner{number}")).founds("Acme").await;
        let mut caller = Caller { endpoints: Arc::clone(&endpoints), at, person };
        let (stop, moved) = (Arc::clone(&stop), Arc::clone(&moved));
        callers.push(tokio::spawn(async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                caller.calls(calls, &moved).await;
                calls += 1;
            }
            caller.moves();
            (caller, calls)
        }));
    }
    // Twice around.
    for _ in 0..4 {
        let new = start().await;
        until("the new one is ready", async || is_ready(&channel(new.address)).await).await;
        let mut old = servers.remove(0);
        {
            let mut endpoints = endpoints.write().expect("no panic");
            endpoints.push(new.address);
            endpoints.retain(|address| *address != old.address);
        }
        servers.push(new);
        old.stop().await;
        let log = old.log();
        assert!(!log.iter().any(|line| line.contains("cut off what was left")), "{log:#?}");
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let (caller, calls) = caller.await.expect("no call was lost");
        assert!(calls > 5, "{calls} changes are hardly load");
        assert_eq!(caller.person.seats().await, format!("{} / 100000 seats", calls + 1), "every change is there, once");
    }
    assert!(moved.load(Ordering::Relaxed) > 0, "callers had to move");
    for server in &mut servers {
        server.stop().await;
    }
    home.end().await;
}

/// Whoever waits for a table keeps all those waiting who come after, calls among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_has_to_wait_steps_back_and_tries_again() {
    let home = Home::new(Backend::Postgres).await;
    let mut first = Process::start(home.tenantry(&[])).await;
    first.stop().await;
    let database = home.database().await;
    database
        .execute_unprepared("DELETE FROM tenantry_migration WHERE version = 13; DROP TABLE schema_floor")
        .await
        .expect("as the version before it was");
    let watching = home.database().await;
    let held = database.begin().await.expect("a transaction");
    held.execute_unprepared("LOCK TABLE tenantry_migration IN SHARE MODE").await.expect("others may read it");
    let starting = tokio::spawn(Process::start(home.tenantry(&[])));
    let waits = async || {
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let waiting = Statement::from_string(watching.get_database_backend(), waiting);
        watching.query_one_raw(waiting).await.expect("an answer").is_some()
    };
    for _ in 0..2 {
        until("it waits", waits).await;
        until("it steps back", async || !waits().await).await;
    }
    assert!(!starting.is_finished(), "it does not serve before its time");
    held.rollback().await.expect("let go");
    let mut server = starting.await.expect("it serves");
    server.logged("the migration is tried again").await;
    server.stop().await;
    database.close().await.expect("closed");
    watching.close().await.expect("closed");
    home.end().await;
}
