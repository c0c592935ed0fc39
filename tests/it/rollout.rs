//! Another release in the place of the one that runs, while callers call: none of them notices.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

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
