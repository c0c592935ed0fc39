//! A server that is attacked while somebody else goes on with their work: what became of both is told in a line.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenantry::pb;
use tonic::transport::{Channel, Endpoint};

use super::Backend;
use super::binary::{Home, Process, until};
use super::person::{Person, answer};
use super::plain_http;
use super::world::plans_with_seats;

/// By how much a server may grow under attack.
const MOST_GROWTH: u64 = 150 * 1024 * 1024;

/// How often somebody calls at least, however short the attack is.
const AT_LEAST: usize = 25;

/// How long somebody waits between two calls who works by hand, more or less.
const PAUSE: Duration = Duration::from_millis(5);

/// A server as a process, and somebody who works with it on a connection of their own.
#[derive(Debug)]
pub(crate) struct Siege {
    pub(crate) server: Process,
    pub(crate) victim: Person,
    /// On which nothing was said yet.
    fresh: Channel,
    metrics: SocketAddr,
    home: Home,
}

/// What became of somebody's work.
#[derive(Debug, Default)]
struct Work {
    times: Vec<Duration>,
    failures: Vec<String>,
}

impl Siege {
    /// Starts a server with more flags.
    pub(crate) async fn begin(flags: &[&str]) -> Self {
        let home = Home::new(Backend::Sqlite).await;
        let plans = home.directory.path().join("plans.toml");
        std::fs::write(&plans, plans_with_seats(1000)).expect("a file");
        let mut command = home.tenantry(flags);
        command.args(["--metrics-listen", "127.0.0.1:0", "--plans"]).arg(plans);
        Self::start(home, command).await
    }

    /// Waits for a server that is started in a way of the test's own.
    pub(crate) async fn start(home: Home, command: Command) -> Self {
        Self::start_with(home, command, Process::channel).await
    }

    /// The same, of a server that is not spoken to as others are.
    pub(crate) async fn start_with(home: Home, command: Command, channel: impl Fn(&Process) -> Channel) -> Self {
        let server = Process::start(command).await;
        let line = server.logged("listening by HTTP").await;
        let (_, rest) = line.split_once("address=").expect("an address");
        let metrics = rest.split(' ').next().and_then(|address| address.parse().ok()).expect("an address");
        let victim = Person::new(channel(&server), "ann").founds("Acme").await;
        let siege = Self { fresh: channel(&server), server, victim, metrics, home };
        // What it needs for its ordinary work, it has before it is measured.
        let work = work(siege.victim.clone(), Arc::new(AtomicBool::new(true)), 100..100).await;
        assert!(work.failures.is_empty(), "{:?}", work.failures);
        siege
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Somebody else, on the connection of the victim.
    pub(crate) fn somebody(&self, name: &str) -> Person {
        Person::new(self.victim.channel.clone(), name)
    }

    /// An attack while the victim works. It fails nobody but the attacker, and costs no more than there is.
    /// What became of the attacker, the attack itself says.
    pub(crate) async fn withstands(&self, what: &str, attack: impl Future<Output = String>) {
        let before = self.memory("VmRSS");
        self.forgets_peak();
        let over = Arc::new(AtomicBool::new(false));
        let work = {
            let (victim, over) = (self.victim.clone(), Arc::clone(&over));
            tokio::spawn(work(victim, over, AT_LEAST..usize::MAX))
        };
        let began = Instant::now();
        let fate = attack.await;
        let took = began.elapsed();
        over.store(true, Ordering::Release);
        let Work { mut times, failures } = work.await.expect("the victim did not panic");
        times.sort();
        let (peak, after) = (self.memory("VmHWM"), self.memory("VmRSS"));
        let time = |at: usize| times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        let mebibytes = |bytes: u64| bytes / (1024 * 1024);
        let (median, longest) = (time(times.len() / 2), time(times.len().saturating_sub(1)));
        let calls = times.len() + failures.len();
        // The name of the test stands before the first.
        eprintln!(
            "\n| {what} | {:.1} s | {fate} | {calls} calls, {} failed; median {median:.1} ms, longest {longest:.0} ms | {} → {} → {} MiB |",
            took.as_secs_f64(),
            failures.len(),
            mebibytes(before),
            mebibytes(peak),
            mebibytes(after)
        );
        assert!(failures.is_empty(), "{what}: the victim's calls failed: {:#?}", failures.iter().take(5));
        assert!(peak < before + MOST_GROWTH, "{what}: it grew from {before} to {peak} bytes");
        self.has_no_defect(what);
    }

    /// Waits until the server has nothing left of those who attacked it, serves whoever comes anew, and stops it.
    pub(crate) async fn ends(mut self) {
        until("nothing is under way any more", async || self.metric("rpcs_under_way").await == 0.0).await;
        until("the attackers' connections are gone", async || self.metric("connections").await <= 1.0).await;
        let bob = Person::new(self.fresh.clone(), "bob").founds("Bob's").await;
        assert_eq!(bob.role, "owner");
        drop(bob);
        self.server.stop().await;
        self.has_no_defect("the stop");
        self.home.end().await;
    }

    /// That nothing in the log tells of a defect.
    fn has_no_defect(&self, what: &str) {
        let tells = |line: &&String| {
            ["panicked", "code=Internal", "code=Unknown", " ERROR "].iter().any(|word| line.contains(word))
        };
        let log = self.server.log();
        let told: Vec<_> = log.iter().filter(tells).take(5).collect();
        assert!(told.is_empty(), "{what}: {told:#?}");
    }

    /// A metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let name = format!("tenantry_{name} ");
        let told = self.metrics().await;
        let value = told.lines().find_map(|line| line.strip_prefix(&name));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {told}"))
    }

    /// All metrics.
    pub(crate) async fn metrics(&self) -> String {
        let answer = plain_http::request(self.metrics, "GET", "/metrics", &[], &[]).await;
        String::from_utf8(answer.body).expect("text")
    }

    /// How many bytes of memory the server has (`VmRSS`), or has had (`VmHWM`).
    pub(crate) fn memory(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/status", self.server.pid());
        let status = std::fs::read_to_string(path).expect("the server lives");
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).expect("told by Linux");
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kibibytes * 1024
    }

    fn forgets_peak(&self) {
        // Where that is forbidden, the peak is of all attacks up to now.
        drop(std::fs::write(format!("/proc/{}/clear_refs", self.server.pid()), "5"));
    }
}

/// Reads and changes, one after the other, until it is over, but so many times at least and at most.
async fn work(victim: Person, over: Arc<AtomicBool>, calls: Range<usize>) -> Work {
    let mut work = Work::default();
    for number in 0..calls.end {
        if number >= calls.start && over.load(Ordering::Acquire) {
            break;
        }
        let began = Instant::now();
        let done = if number % 4 == 3 {
            let mut name = String::from("Acme");
            write!(name, " {number}").expect("a text takes text");
            let organization = pb::Organization { name, ..Default::default() };
            victim.tries_to_update(&["name"], organization).await.map(drop)
        } else {
            let request = pb::GetSeatUsageRequest { organization_id: victim.organization_id.clone(), time: None };
            answer(victim.billing().get_seat_usage(request).await).map(drop)
        };
        match done {
            Ok(()) => work.times.push(began.elapsed()),
            Err(refused) => work.failures.push(format!("call {number}: {refused:?}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
    work
}

/// Whether a connection is taken and answers.
pub(crate) async fn takes_connections(address: SocketAddr) -> bool {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    endpoint.connect_timeout(Duration::from_secs(10)).connect().await.is_ok()
}
