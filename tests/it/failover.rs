//! The database dies in the middle of changes, and another takes its place: nothing that was acknowledged is lost, and nothing is done twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait as _;
use tenantry::database::{Database, DatabaseSettings};
use tenantry::pb;
use tonic::Code;
use uuid::Uuid;

use crate::harness::address::Address;
use crate::harness::binary::{Process, tenantry, until};
use crate::harness::health::is_ready;
use crate::harness::person::{Person, answer};
use crate::harness::postgres::Server;
use crate::harness::world::plans_with_seats;

/// An address with a database behind it, and the URL that leads there.
async fn addressed(postgres: &Server) -> (Address, String) {
    let [socket, _] = postgres.sockets();
    let name = postgres.create_database(None).await;
    let address = Address::of(socket).await;
    let url = format!("postgres://postgres@{}/{name}", address.at);
    (address, url)
}

/// Invites people until told to stop, each until it is acknowledged, and gives those who were.
async fn invites(ann: Person, name: String, stop: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let email = format!("{name}-{number}@example.com");
        let request = pb::InviteMembersRequest {
            organization_id: ann.organization_id.clone(),
            emails: vec![email.clone()],
            role: "member".into(),
            request_id: Uuid::new_v5(&Uuid::NAMESPACE_URL, email.as_bytes()).to_string(),
            ..Default::default()
        };
        // Whoever hears that the database is away asks again, with the same request_id.
        while let Err(refused) = answer(ann.members().invite_members(request.clone()).await) {
            assert!(matches!(refused.code, Code::Unavailable | Code::DeadlineExceeded | Code::Aborted), "{refused:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        acknowledged.insert(email);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_over_in_the_middle_of_changes_loses_none_that_was_acknowledged() {
    let postgres = Server::start_private();
    let [_, second] = postgres.sockets();
    let (database, url) = addressed(&postgres).await;
    let directory = tempfile::TempDir::new().expect("a directory");
    let plans = directory.path().join("plans.toml");
    std::fs::write(&plans, plans_with_seats(1_000_000)).expect("a file");
    let start = async || {
        let mut command = tenantry(directory.path());
        command.env("TENANTRY_DATABASE_URL", &url).env("TENANTRY_PLANS", &plans);
        Process::start(command).await
    };
    let mut servers = [start().await, start().await];
    postgres.follow().await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..6 {
        let server = &servers[number % 2];
        let ann = Person::new(server.channel(), &format!("ann{number}")).founds("Acme").await;
        let invites = tokio::spawn(invites(ann.clone(), format!("w{number}"), Arc::clone(&stop)));
        writers.push((ann, invites));
    }
    let seats = async |ann: &Person| {
        let request = pb::GetSeatUsageRequest { organization_id: ann.organization_id.clone(), time: None };
        answer(ann.billing().get_seat_usage(request).await).map(|answer| answer.seat_usage.expect("seats").used)
    };
    until("changes are under way", async || seats(&writers[0].0).await.is_ok_and(|used| used > 10)).await;
    postgres.fail_over().await;
    database.leads_to(second);
    let before = async || seats(&writers[0].0).await;
    until("the other one serves", async || before().await.is_ok()).await;
    let used = before().await.expect("it serves");
    until("changes go on", async || seats(&writers[0].0).await.is_ok_and(|now| now > used + 10)).await;
    stop.store(true, Ordering::Relaxed);

    for (ann, invites) in writers {
        let acknowledged = invites.await.expect("no other refusal");
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListInvitationsRequest {
                organization_id: ann.organization_id.clone(),
                page_size: 200,
                page_token,
                ..Default::default()
            };
            let page = ann.members().list_invitations(request).await.expect("a page").into_inner();
            listed.extend(page.invitations.into_iter().map(|invitation| invitation.email));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let there: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(listed.len(), there.len(), "nobody is invited twice");
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert_eq!(there.len(), acknowledged.len(), "each was asked for until it was acknowledged");
        assert!(acknowledged.len() > 10, "{} changes are hardly any", acknowledged.len());
    }
    for server in &mut servers {
        server.stop().await;
    }
}

/// Nobody ends the connections to a host that lost its power: TCP goes on asking for a quarter of an hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_falls_silent_is_left_for_the_one_that_takes_its_place() {
    let postgres = Server::start_private();
    let (database, url) = addressed(&postgres).await;
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut command = tenantry(directory.path());
    command.env("TENANTRY_DATABASE_URL", url).env("TENANTRY_DATABASE_CONNECTIONS", "4");
    let mut server = Process::start(command).await;
    let ann = Person::new(server.channel(), "ann").founds("Acme").await;
    let mut hurried = ann.clone();
    hurried.identity.0.push(("grpc-timeout", "500m".to_owned()));
    // Its own client may be the first to give it up.
    let reads = async |person: &Person| {
        let request = pb::GetSeatUsageRequest { organization_id: ann.organization_id.clone(), time: None };
        person.billing().get_seat_usage(request).await
    };
    let invites = async |email: String| {
        let organization_id = ann.organization_id.clone();
        let request = pb::InviteMembersRequest {
            organization_id,
            emails: vec![email],
            role: "member".into(),
            ..Default::default()
        };
        hurried.members().invite_members(request).await
    };
    for round in 0..2_usize {
        // As many as there are connections.
        let busy: Vec<_> = (0..4).map(|_| reads(&ann)).collect();
        futures::future::try_join_all(busy).await.expect("it serves");
        database.falls_silent();
        let fell = Instant::now();
        let (read, change) = tokio::join!(reads(&hurried), invites(format!("bob{round}@example.com")));
        assert!(read.is_err() && change.is_err(), "nobody answers");
        until("it was noticed", async || {
            server.log().iter().filter(|line| line.contains("says nothing")).count() > round
        })
        .await;
        until("it serves again", async || reads(&hurried).await.is_ok()).await;
        // One that went on before was told to begin anew.
        let mut watch = ann.watches(pb::WatchEventsRequest::default()).await.expect("watching");
        let tried = AtomicUsize::new(0);
        let somebody = || format!("cas{round}.{}@example.com", tried.fetch_add(1, Ordering::Relaxed));
        until("changes go on", async || invites(somebody()).await.is_ok()).await;
        assert!(fell.elapsed() < Duration::from_secs(15), "it took {:?}", fell.elapsed());
        until("it is ready", async || is_ready(&server.channel()).await).await;
        // What runs beside the calls goes on as well.
        assert_eq!(watch.types(1).await, ["invitation.created"], "and is told");
    }
    server.stop().await;
}

/// Also what nobody gave a deadline, in the middle of a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_database_fell_silent_ends() {
    let postgres = Server::start_private();
    let (address, url) = addressed(&postgres).await;
    let database = Database::connect(&DatabaseSettings::new(url)).await.expect("connected");
    assert!(database.is_alive().await);
    let begun = [database.begin().await.expect("begun"), database.begin().await.expect("begun")];
    for transaction in &begun {
        transaction.execute_unprepared("SELECT 1").await.expect("an answer");
    }
    let [changed, kept] = begun;
    let silence = Instant::now();
    address.falls_silent();
    let ends = async {
        let (executed, committed) = tokio::join!(changed.execute_unprepared("SELECT 2"), kept.commit());
        executed.expect_err("nobody answers");
        committed.expect_err("nobody answers");
        changed.rollback().await.expect_err("nor does anybody hear this");
    };
    let watched = async {
        until("it was left", async || !database.is_alive().await && silence.elapsed() > Duration::from_secs(4)).await;
        until("another is there", async || database.is_alive().await).await;
    };
    tokio::join!(ends, watched);
    assert!(silence.elapsed() < Duration::from_secs(15), "it took {:?}", silence.elapsed());
    database.begin().await.expect("another transaction").commit().await.expect("an answer");
}
