//! More than a server can do, and more than a caller may: what is too much is refused at once, with a reason, and costs the others nothing.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Frame;
use prost::bytes::Bytes;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use tenantry::deadline::DeadlineLayer;
use tenantry::{overload, pb};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer as _, ServiceExt as _};

use crate::harness::binary::until;
use crate::harness::health::is_ready;
use crate::harness::person::{Person, answer};
use crate::harness::refused::{Refused, refused};
use crate::harness::world::{Setup, World, roomy};
use crate::harness::{Backend, database_tests};

fn limited(overload: overload::Limits) -> Setup {
    Setup { overload, ..roomy() }
}

/// So many calls in a second for one organization.
fn counted(rate: u32) -> Setup {
    limited(overload::Limits { organization_rate: NonZeroU32::new(rate), ..overload::Limits::default() })
}

async fn reads(person: &Person) -> Result<pb::GetSeatUsageResponse, Refused> {
    let request = pb::GetSeatUsageRequest { organization_id: person.organization_id.clone(), time: None };
    answer(person.billing().get_seat_usage(request).await)
}

async fn joins(person: &Person) -> Result<pb::JoinOrganizationResponse, Refused> {
    let request = pb::JoinOrganizationRequest { organization_id: person.organization_id.clone(), ..Default::default() };
    answer(person.members().join_organization(request).await)
}

/// A body of which the rest never comes.
struct Unfinished(Option<Bytes>);

impl http_body::Body for Unfinished {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

database_tests! {
    async fn a_caller_who_calls_too_often_is_refused_and_nobody_else(backend: Backend) {
        let rate = NonZeroU32::new(2);
        let world = World::with(backend, limited(overload::Limits { caller_rate: rate, ..overload::Limits::default() })).await;
        let (ann, zoe) = (world.person("ann").founds("Acme").await, world.person("zoe").founds("Zoo").await);
        let mut refusal = None;
        // Twice the rate may come at once, and of those one is spent.
        for _ in 0..8 {
            refusal = reads(&ann).await.err().or(refusal);
        }
        let refusal = refusal.expect("more than there may be");
        assert_eq!(refusal.is(), (Code::ResourceExhausted, "RATE_LIMITED"));
        assert_eq!((refusal.metadata["of"].as_str(), refusal.metadata["per_second"].as_str()), ("caller", "2"));
        assert!(refusal.retry, "it is said when to try again");
        assert!(reads(&zoe).await.is_ok());
        // A service that calls for many calls under many names; under its own it is one more caller.
        let service = world.service("portal");
        let request = pb::GetSeatUsageRequest { organization_id: ann.organization_id.clone(), time: None };
        assert!(service.billing().get_seat_usage(request).await.is_ok());
        world.end().await;
    }

    async fn an_organization_that_is_called_for_too_often_is_refused_whoever_calls(backend: Backend) {
        let world = World::with(backend, counted(2)).await;
        let (ann, zoe) = (world.person("ann").founds("Acme").await, world.person("zoe").founds("Zoo").await);
        let asks = async |service: &str| {
            let request = pb::GetSeatUsageRequest { organization_id: ann.organization_id.clone(), time: None };
            answer(world.service(service).billing().get_seat_usage(request).await)
        };
        let mut refusal = None;
        for number in 0..8 {
            refusal = asks(&format!("portal-{number}")).await.err().or(refusal);
        }
        let refusal = refusal.expect("more than there may be");
        assert_eq!((refusal.is(), refusal.metadata["of"].as_str()), ((Code::ResourceExhausted, "RATE_LIMITED"), "organization"));
        let refused = ann.tries_to_invite(&["bob@example.com"], "member").await.expect_err("changes count as well");
        assert_eq!(refused.is(), (Code::ResourceExhausted, "RATE_LIMITED"));
        assert!(reads(&zoe).await.is_ok());
        world.end().await;
    }

    async fn whoever_does_not_belong_to_an_organization_uses_up_none_of_its_rate(backend: Backend) {
        let world = World::with(backend, counted(2)).await;
        let ann = world.person("ann").founds("Acme").await;
        let eve = world.person("eve").acting_in(&ann.organization_id, "owner");
        for number in 0..8 {
            let read = reads(&eve).await.expect_err("a stranger");
            let invited = eve.tries_to_invite(&[&format!("e{number}@example.com")], "member").await.expect_err("a stranger");
            assert_eq!([read.is(), invited.is()], [(Code::PermissionDenied, "NOT_A_MEMBER"); 2]);
            let joined = joins(&eve).await.expect_err("nothing is open to her");
            assert_ne!(joined.is().1, "RATE_LIMITED");
        }
        assert_eq!(ann.invites(&["bob@example.com"], "member").await.len(), 1);
        assert!(reads(&ann).await.is_ok());
        world.end().await;
    }

    async fn who_left_hears_so_again_also_where_calls_are_counted(backend: Backend) {
        let world = World::with(backend, counted(1000)).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let request = pb::LeaveOrganizationRequest {
            organization_id: ann.organization_id.clone(),
            request_id: uuid::Uuid::from_u128(7).to_string(),
            ..Default::default()
        };
        for _ in 0..2 {
            answer(bob.members().leave_organization(request.clone()).await).expect("he left, and his first answer may be lost");
        }
        let again = pb::LeaveOrganizationRequest { request_id: String::new(), ..request };
        let refused = answer(bob.members().leave_organization(again).await).expect_err("he is no member any more");
        assert_eq!(refused.is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        world.end().await;
    }

    async fn one_user_may_have_a_quarter_of_the_places(backend: Backend) {
        let world = World::with(backend, limited(overload::Limits { calls: 8, ..overload::Limits::default() })).await;
        let (ann, zoe) = (world.person("ann").founds("Acme").await, world.person("zoe").founds("Zoo").await);
        let database = world.database().await;
        let held = database.begin().await.expect("a transaction");
        held.execute_unprepared("UPDATE organization SET version = version").await.expect("the organizations are held");
        let invites = |number: usize| {
            let ann = ann.clone();
            tokio::spawn(async move { ann.tries_to_invite(&[&format!("p{number}@example.com")], "member").await })
        };
        let waiting = [invites(0), invites(1)];
        let metrics = &world.servers[0].app.metrics;
        until("two are under way", async || metrics.rpcs_under_way.get() >= 2 && reads(&ann).await.is_err()).await;
        let refusal = reads(&ann).await.expect_err("she has her share");
        assert_eq!((refusal.is(), refusal.metadata["at_a_time"].as_str()), ((Code::ResourceExhausted, "RATE_LIMITED"), "2"));
        assert!(refusal.retry, "it is said when to try again");
        assert_eq!(metrics.overload.shed.get(), 0, "nobody is to be woken for it");
        assert!(reads(&zoe).await.is_ok(), "there is room for others");
        // Who calls for many has more.
        let request = pb::GetSeatUsageRequest { organization_id: ann.organization_id.clone(), time: None };
        assert!(world.service("portal").billing().get_seat_usage(request).await.is_ok());
        held.rollback().await.expect("let go");
        for waiting in waiting {
            waiting.await.expect("no panic").expect("what was under way is done");
        }
        assert!(reads(&ann).await.is_ok(), "what was taken was given back");
        database.close().await.expect("closed");
        world.end().await;
    }

    async fn strangers_do_not_fill_the_line_of_an_organization(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let database = world.database().await;
        let held = database.begin().await.expect("a transaction");
        held.execute_unprepared("UPDATE organization SET version = version").await.expect("the organizations are held");
        // More of them than may stand in a line, each with the places that one user may have at most.
        let mut strangers = tokio::task::JoinSet::new();
        for number in 0..150 {
            let name = format!("eve{}", number % 5);
            let eve = world.person(&name).acting_in(&ann.organization_id, "owner");
            strangers.spawn(async move { eve.tries_to_invite(&["eve@example.com"], "member").await });
        }
        let mut turned_away = 0;
        let newcomer = world.person("zed").acting_in(&ann.organization_id, "owner");
        while turned_away < 80 {
            let refused = strangers.join_next().await.expect("more than half a line").expect("no panic").expect_err("a stranger");
            assert_eq!(refused.is(), (Code::PermissionDenied, "NOT_A_MEMBER"), "while the organization is held");
            turned_away += 1;
        }
        let refused = joins(&newcomer).await.expect_err("whoever is not there yet comes later");
        assert_eq!(refused.is(), (Code::Unavailable, "OVERLOADED"));
        let waiting = tokio::spawn({
            let ann = ann.clone();
            async move { ann.tries_to_invite(&["bob@example.com"], "member").await }
        });
        held.rollback().await.expect("let go");
        waiting.await.expect("no panic").expect("there is room in the line for a member");
        while let Some(refused) = strangers.join_next().await {
            assert_eq!(refused.expect("no panic").expect_err("a stranger").is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        }
        database.close().await.expect("closed");
        world.end().await;
    }

    async fn calls_beyond_the_number_are_shed_and_health_is_not(backend: Backend) {
        let world = World::with(backend, limited(overload::Limits { calls: 1, ..overload::Limits::default() })).await;
        let ann = world.person("ann").founds("Acme").await;
        let database = world.database().await;
        let held = database.begin().await.expect("a transaction");
        held.execute_unprepared("UPDATE organization SET version = version").await.expect("the organizations are held");
        let waiting = tokio::spawn({
            let ann = ann.clone();
            async move { ann.tries_to_invite(&["bob@example.com"], "member").await }
        });
        let metrics = &world.servers[0].app.metrics;
        until("the change is under way", async || metrics.rpcs_under_way.get() > 0 && reads(&ann).await.is_err()).await;
        let refusal = reads(&ann).await.expect_err("there is room for one");
        assert_eq!(refusal.is(), (Code::Unavailable, "OVERLOADED"));
        assert!(refusal.retry, "it is said when to try again");
        assert!(is_ready(&world.channel()).await, "health is never shed");
        assert!(metrics.overload.shed.get() > 0);
        held.rollback().await.expect("let go");
        waiting.await.expect("no panic").expect("what was under way is done");
        assert!(reads(&ann).await.is_ok());
        database.close().await.expect("closed");
        world.end().await;
    }

    async fn whoever_sends_slowly_takes_nobodys_place(backend: Backend) {
        let world = World::with(backend, limited(overload::Limits { calls: 1, ..overload::Limits::default() })).await;
        let ann = world.person("ann").founds("Acme").await;
        let sends = || {
            let mut request = http::Request::post("/tenantry.v1.BillingService/GetSeatUsage")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("grpc-timeout", "20S");
            for (key, value) in &ann.identity.0 {
                request = request.header(*key, value);
            }
            let body = Body::new(Unfinished(Some(Bytes::from_static(&[0, 0, 0, 0, 40, 10]))));
            world.channel().oneshot(request.body(body).expect("a request"))
        };
        let slow: Vec<_> = (0..20).map(|_| tokio::spawn(sends())).collect();
        let metrics = &world.servers[0].app.metrics;
        until("all of them are under way", async || metrics.rpcs_under_way.get() >= 20).await;
        for _ in 0..20 {
            assert!(reads(&ann).await.is_ok());
        }
        assert!(slow.iter().all(|slow| !slow.is_finished()), "they are still at it");
        slow.iter().for_each(tokio::task::JoinHandle::abort);
        until("they are gone", async || metrics.rpcs_under_way.get() == 0).await;
        world.end().await;
    }

    async fn there_is_room_for_so_many_bytes_of_requests(backend: Backend) {
        let limits = overload::Limits { bytes: 2000, ..overload::Limits::default() };
        let world = World::with(backend, limited(limits)).await;
        let ann = world.person("ann").founds("Acme").await;
        let emails: Vec<_> = (0..100).map(|number| format!("somebody-{number}@example.com")).collect();
        let emails: Vec<_> = emails.iter().map(String::as_str).collect();
        let refusal = ann.tries_to_invite(&emails, "member").await.expect_err("larger than all the room there is");
        assert_eq!(refusal.is(), (Code::Unavailable, "OVERLOADED"));
        assert_eq!(ann.invites(&emails[..20], "member").await.len(), 20, "what was taken was given back");
        world.end().await;
    }
}

#[tokio::test]
async fn a_call_has_the_usual_time_unless_it_says_and_never_more_than_the_longest() {
    let (short, long) = (Duration::from_millis(20), Duration::from_hours(1));
    for (said, usual, longest) in [(None, short, long), (Some("20m"), long, long), (Some("1H"), long, short)] {
        let never = tower::service_fn(|_: http::Request<()>| {
            std::future::pending::<Result<http::Response<Body>, std::convert::Infallible>>()
        });
        let mut request = http::Request::post("/");
        if let Some(said) = said {
            request = request.header("grpc-timeout", said);
        }
        let answering = DeadlineLayer { usual, longest }.layer(never).oneshot(request.body(()).expect("a request"));
        let answered =
            tokio::time::timeout(Duration::from_mins(1), answering).await.expect("in time").expect("an answer");
        let status = Status::from_header_map(answered.headers()).expect("a refusal");
        assert_eq!(refused(&status).is(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{said:?}");
    }
}
