//! What happens is posted to those who want to be told: in its order, signed, until it is taken, and to nobody behind the firewall.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use tenantry::delivery::webhook::Settings;
use tenantry::pb;
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::receiver::{Does, Posted, Receiver};
use crate::harness::webhooks::{Made, SECRETS, endpoint_of_all, posting_here};
use crate::harness::world::{Setup, World, roomy};
use crate::harness::{Backend, database_tests};

async fn posting(backend: Backend) -> World {
    World::with(backend, posting_here(roomy())).await
}

fn kinds(posted: &[Posted]) -> Vec<String> {
    posted.iter().map(Posted::kind).collect()
}

fn numbers(posted: &[Posted]) -> Vec<i64> {
    posted.iter().map(Posted::number).collect()
}

fn of(made: &Made, endpoint: pb::WebhookEndpoint) -> pb::WebhookEndpoint {
    pb::WebhookEndpoint { endpoint_id: made.endpoint.endpoint_id.clone(), ..endpoint }
}

/// Lets an endpoint fail and waits for its next try, until it does no more or is told often enough.
async fn pass_until_tried(world: &World, ann: &Person) {
    let next = ann.endpoint().await.next_attempt_time.expect("it is tried again");
    let next = chrono::DateTime::from_timestamp(next.seconds, u32::try_from(next.nanos).expect("nanoseconds"));
    let wait = next.expect("a time") - world.clock.now();
    world.pass(wait.max(TimeDelta::zero()));
    world.tells().await;
}

database_tests! {
    async fn what_happens_is_posted_in_its_order_and_signed(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        ann.invites(&["before@example.com"], "member").await;
        let made = ann.has_told(&receiver.url(), &[]).await;
        for name in ["bob", "cas", "dan"] {
            ann.brings(name, "member").await;
        }
        world.tells().await;
        let posted = receiver.posted();
        let log = world.events(&ann.organization_id).await;
        let first = log.iter().position(|name| name == "webhook_endpoint.created").expect("it was made");
        assert_eq!(kinds(&posted), log[first..]);
        assert_eq!(posted[0].path, "/hooks");
        assert!(posted.iter().all(|one| one.is_signed_by(&made.secret)));
        let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert!(!posted.iter().any(|one| one.is_signed_by(other)));
        // The same as ListEvents and ExportEvents tell of it.
        let listed = ann.tries_to_list_events(pb::ListEventsRequest::default()).await.unwrap().events;
        let last = posted.last().unwrap();
        let (body, event) = (last.json(), &listed[0]);
        assert_eq!(last.headers["webhook-id"], event.event_id);
        assert_eq!(last.headers["content-type"], "application/json");
        assert_eq!((body["type"].as_str(), body["data"]["event_id"].as_str()), (Some(&*event.r#type), Some(&*event.event_id)));
        assert_eq!(body["timestamp"], body["data"]["time"]);
        assert_eq!(body["data"]["organization_id"].as_str(), Some(&*ann.organization_id));
        assert_eq!(body["data"]["subject"]["id"].as_str(), Some("dan"));
        let (exported, _) = ann.exports(&[]).await;
        assert_eq!(body["data"], *exported.last().unwrap());
        // And so it is known.
        let deliveries = ann.deliveries(made.id()).await;
        assert_eq!(deliveries.len(), posted.len());
        assert!(deliveries.iter().all(|one| one.state() == pb::WebhookDeliveryState::Delivered && one.attempt_count == 1));
        assert_eq!(deliveries[0].attempts[0].status_code, 204);
        let endpoint = ann.endpoint().await;
        assert_eq!(endpoint.reached_event_number, event.number);
        assert!(endpoint.last_success_time.is_some() && endpoint.next_attempt_time.is_none());
        world.end().await;
    }

    async fn an_endpoint_is_told_what_it_chose_and_what_is_its_organizations(backend: Backend) {
        let (world, receiver, other) = (posting(backend).await, Receiver::start().await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let zed = world.person("zed").founds("Other").await;
        let made = ann.has_told(&receiver.url(), &["member.*", "invitation.canceled", "member.*"]).await;
        assert_eq!(made.endpoint.types, ["member.*", "invitation.canceled"]);
        zed.has_told(&other.url(), &["member.joined"]).await;
        ann.brings("bob", "member").await;
        zed.brings("yan", "member").await;
        world.tells().await;
        assert_eq!(kinds(&receiver.posted()), ["member.joined"]);
        assert_eq!(other.posted()[0].json()["data"]["subject"]["id"], "yan");
        assert_eq!(other.posted().len(), 1);
        // Another choice is for what comes after.
        let types = pb::WebhookEndpoint { types: vec!["invitation.*".into()], ..Default::default() };
        ann.changes_endpoint(&["types"], of(&made, types)).await.unwrap();
        ann.invites(&["cas@example.com"], "member").await;
        world.tells().await;
        assert_eq!(kinds(&receiver.posted()), ["member.joined", "invitation.created"]);
        world.end().await;
    }

    async fn what_is_not_taken_is_told_again_and_what_comes_after_waits(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        receiver.does(|_| Does::Answers(503));
        ann.invites(&["a@example.com", "b@example.com"], "member").await;
        world.tells().await;
        let endpoint = ann.endpoint().await;
        assert_eq!((endpoint.failure_count, &*endpoint.last_failure), (1, "answered 503 Service Unavailable"));
        let waiting = ann.deliveries(made.id()).await;
        assert_eq!((waiting.len(), waiting[0].state(), waiting[0].attempt_count), (1, pb::WebhookDeliveryState::Retrying, 1));
        assert!(waiting[0].next_attempt_time.is_none(), "it is tried when the endpoint is");
        // What happens meanwhile hastens nothing.
        ann.invites(&["c@example.com"], "member").await;
        world.tells().await;
        assert_eq!(receiver.posted().len(), 1);
        pass_until_tried(&world, &ann).await;
        assert_eq!(ann.endpoint().await.failure_count, 2);
        receiver.does(|_| Does::Answers(200));
        pass_until_tried(&world, &ann).await;
        let posted = receiver.posted();
        let first = posted[0].number();
        assert_eq!(numbers(&posted), [first, first, first, first + 1, first + 2]);
        let ids: Vec<_> = posted.iter().take(3).map(|one| &one.headers["webhook-id"]).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "it is known by its id");
        let endpoint = ann.endpoint().await;
        assert_eq!((endpoint.failure_count, endpoint.last_failure.as_str()), (0, ""));
        assert!(endpoint.failing_since_time.is_none());
        let delivered = ann.deliveries(made.id()).await;
        let tries: Vec<_> = delivered[2].attempts.iter().map(|one| (one.status_code, one.failure.is_empty())).collect();
        assert_eq!(tries, [(503, false), (503, false), (200, true)]);
        world.end().await;
    }

    async fn an_event_that_is_never_taken_is_set_aside_and_holds_up_nothing(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.*"]).await;
        receiver.does(|posted| Does::Answers(if posted.kind() == "invitation.created" { 500 } else { 200 }));
        let sent = ann.invites(&["a@example.com"], "member").await.remove(0);
        let invitation_id = sent.invitation.unwrap().invitation_id;
        ann.tries_to_cancel(&[&invitation_id]).await.unwrap();
        world.tells().await;
        for _ in 0..3 {
            pass_until_tried(&world, &ann).await;
        }
        // What comes after it is told after three tries; and that the endpoint takes it is a reason to try the other once more.
        let told = kinds(&receiver.posted());
        assert_eq!(told.iter().position(|kind| kind == "invitation.canceled"), Some(3));
        assert_eq!(told.len(), 5);
        let aside = ann.deliveries_in(made.id(), &[pb::WebhookDeliveryState::Retrying]).await.unwrap();
        assert_eq!((aside.len(), aside[0].attempt_count), (1, 4));
        assert_eq!(ann.endpoint().await.failure_count, 0, "it takes others");
        // It is tried on, ever more seldom, for a day.
        let begun = world.clock.now();
        for _ in 0..7 {
            assert_eq!(ann.deliveries_in(made.id(), &[pb::WebhookDeliveryState::Failed]).await.unwrap().len(), 0);
            pass_until_tried(&world, &ann).await;
        }
        pass_until_tried(&world, &ann).await;
        let failed = ann.deliveries_in(made.id(), &[pb::WebhookDeliveryState::Failed]).await.unwrap();
        assert_eq!((failed.len(), failed[0].attempt_count, failed[0].attempts.len()), (1, 12, 12));
        let took = world.clock.now() - begun;
        assert!(took > TimeDelta::hours(20) && took < TimeDelta::hours(28), "{took}");
        assert!(ann.endpoint().await.next_attempt_time.is_none());
        world.pass(TimeDelta::days(3));
        world.tells().await;
        assert_eq!(receiver.posted().len(), 13, "nothing is tried any more");
        // Until somebody asks for it.
        receiver.does(|_| Does::Answers(200));
        assert_eq!(ann.redelivers(made.id(), &[]).await.unwrap(), 1);
        world.tells().await;
        assert_eq!(receiver.posted().len(), 14);
        let delivered = ann.deliveries(made.id()).await;
        assert!(delivered.iter().all(|one| one.state() == pb::WebhookDeliveryState::Delivered));
        assert_eq!(ann.redelivers(made.id(), &[]).await.unwrap(), 0);
        world.end().await;
    }

    async fn a_server_that_stalls_or_lies_is_one_that_fails_and_no_more(backend: Backend) {
        let mut setup = posting_here(roomy());
        setup.webhooks.patience = Duration::from_millis(1500);
        let (world, receiver, elsewhere) = (World::with(backend, setup).await, Receiver::start().await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        let (there, count) = (elsewhere.url(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&count);
        receiver.does(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Does::Stalls,
            1 => Does::Closes,
            2 => Does::Babbles,
            3 => Does::AnswersWith(307, "Location", there.clone()),
            // These have said that they took it.
            4 => Does::Lies,
            _ => Does::Drones,
        });
        ann.invites(&["a@example.com", "b@example.com", "c@example.com"], "member").await;
        world.tells().await;
        let mut failures = vec![ann.endpoint().await.last_failure];
        for _ in 0..3 {
            pass_until_tried(&world, &ann).await;
            failures.push(ann.endpoint().await.last_failure);
        }
        assert_eq!(failures[0], "no answer in time");
        assert!(failures[1..3].iter().all(|failure| failure.starts_with("error sending request")), "{failures:?}");
        assert_eq!(failures[3], "answered 307 Temporary Redirect: redirects are not followed");
        pass_until_tried(&world, &ann).await;
        assert_eq!(elsewhere.posted().len(), 0);
        let first = receiver.posted()[0].number();
        assert_eq!(numbers(&receiver.posted())[..5], [first, first, first, first, first]);
        let states: BTreeMap<i64, pb::WebhookDeliveryState> =
            ann.deliveries(made.id()).await.iter().map(|one| (one.event_number - first, one.state())).collect();
        assert_eq!((states[&1], states[&2]), (pb::WebhookDeliveryState::Delivered, pb::WebhookDeliveryState::Delivered));
        world.end().await;
    }

    async fn an_endpoint_that_only_fails_is_disabled_after_three_days_and_misses_nothing(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        receiver.does(|_| Does::Closes);
        let emails: Vec<String> = (0..40).map(|number| format!("p{number}@example.com")).collect();
        let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
        ann.invites(&emails, "member").await;
        world.tells().await;
        let begun = world.clock.now();
        while !ann.endpoint().await.disabled {
            assert!(world.clock.now() - begun < TimeDelta::hours(74), "it goes on");
            pass_until_tried(&world, &ann).await;
        }
        assert!(world.clock.now() - begun >= TimeDelta::days(3));
        let endpoint = ann.endpoint().await;
        assert_eq!(endpoint.disable_reason(), pb::WebhookDisableReason::Failing);
        assert!(endpoint.failure_count > 70 && endpoint.next_attempt_time.is_none());
        assert_eq!(world.events(&ann.organization_id).await.last().unwrap(), "webhook_endpoint.disabled");
        world.sweeps().await;
        assert_eq!(world.servers[0].app.metrics.webhook_endpoints_disabled.get(), 1);
        let refused = ann.redelivers(made.id(), &[]).await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "WEBHOOK_ENDPOINT_DISABLED"));
        assert_eq!(refused.metadata["disable_reason"], "WEBHOOK_DISABLE_REASON_FAILING");
        // What happens meanwhile waits.
        ann.invites(&["late@example.com"], "member").await;
        world.pass(TimeDelta::days(1));
        world.tells().await;
        receiver.forgets();
        receiver.does(|_| Does::Answers(200));
        let endpoint = pb::WebhookEndpoint::default();
        let endpoint = ann.changes_endpoint(&["disabled"], of(&made, endpoint)).await.unwrap();
        assert!(!endpoint.disabled && endpoint.disable_time.is_none());
        world.tells().await;
        let told: std::collections::BTreeSet<i64> = numbers(&receiver.posted()).into_iter().collect();
        assert_eq!((told.len(), receiver.posted().len()), (41, 41), "each once");
        world.sweeps().await;
        assert_eq!(world.servers[0].app.metrics.webhook_endpoints_disabled.get(), 0);
        world.end().await;
    }

    async fn who_enables_an_endpoint_may_skip_what_it_missed(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        receiver.does(|_| Does::Closes);
        ann.invites(&["a@example.com"], "member").await;
        world.tells().await;
        let off = pb::WebhookEndpoint { disabled: true, ..Default::default() };
        let endpoint = ann.changes_endpoint(&["disabled"], of(&made, off)).await.unwrap();
        assert_eq!(endpoint.disable_reason(), pb::WebhookDisableReason::Requested);
        world.pass(TimeDelta::hours(1));
        ann.invites(&["b@example.com"], "member").await;
        world.tells().await;
        receiver.does(|_| Does::Answers(200));
        assert_eq!(receiver.posted().len(), 1, "nothing is told while it is disabled");
        let request = |skip_missed| pb::UpdateWebhookEndpointRequest {
            endpoint: Some(of(&made, pb::WebhookEndpoint::default())),
            update_mask: Some(prost_types::FieldMask { paths: vec!["disabled".into()] }),
            skip_missed,
            ..Default::default()
        };
        ann.changes_endpoint_by(request(true)).await.unwrap();
        ann.invites(&["c@example.com"], "member").await;
        world.tells().await;
        let posted = receiver.posted();
        assert_eq!(posted.len(), 2);
        assert_eq!(ann.deliveries_in(made.id(), &[pb::WebhookDeliveryState::Failed]).await.unwrap().len(), 1);
        // To disable is not to skip.
        let mut wrong = request(true);
        wrong.endpoint = Some(of(&made, pb::WebhookEndpoint { disabled: true, ..Default::default() }));
        let refused = ann.changes_endpoint_by(wrong).await.unwrap_err();
        assert_eq!(refused.fields, ["skip_missed"]);
        world.end().await;
    }

    async fn an_endpoint_that_is_gone_is_disabled_at_once_and_one_that_is_busy_is_left_alone(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        ann.has_told(&receiver.url(), &["invitation.created"]).await;
        receiver.does(|_| Does::AnswersWith(429, "Retry-After", "7200".into()));
        ann.invites(&["a@example.com"], "member").await;
        world.tells().await;
        let wish = ann.endpoint().await.next_attempt_time.unwrap().seconds - world.clock.now().timestamp();
        assert_eq!(wish, 7200);
        receiver.does(|_| Does::Answers(410));
        pass_until_tried(&world, &ann).await;
        let endpoint = ann.endpoint().await;
        assert_eq!((endpoint.disabled, endpoint.disable_reason()), (true, pb::WebhookDisableReason::Gone));
        let last = ann.tries_to_list_events(pb::ListEventsRequest::default()).await.unwrap().events.remove(0);
        assert_eq!((&*last.r#type, &*last.actor.unwrap().service), ("webhook_endpoint.disabled", "tenantry"));
        world.end().await;
    }

    async fn a_secret_is_replaced_while_the_old_one_still_signs(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        let unheard = ann.rotates(made.id(), false).await.unwrap();
        let next = ann.rotates(made.id(), false).await.unwrap();
        assert_ne!(next.secret, made.secret);
        assert!(next.endpoint.old_secret_expire_time.is_some());
        let told = async |email: &str| {
            receiver.forgets();
            ann.invites(&[email], "member").await;
            world.tells().await;
            receiver.posted().remove(0)
        };
        let both = told("a@example.com").await;
        assert!([&made, &unheard, &next].iter().all(|one| both.is_signed_by(&one.secret)), "none is cut off by the next");
        world.pass(TimeDelta::hours(24));
        let one = told("b@example.com").await;
        assert!(!one.is_signed_by(&made.secret) && one.is_signed_by(&next.secret));
        // One that somebody has who should not signs no more at once.
        let last = ann.rotates(made.id(), true).await.unwrap();
        let one = told("c@example.com").await;
        assert!(!one.is_signed_by(&next.secret) && one.is_signed_by(&last.secret));
        assert!(ann.endpoint().await.old_secret_expire_time.is_none());
        for _ in 0..4 {
            ann.rotates(made.id(), false).await.unwrap();
        }
        let refused = ann.rotates(made.id(), false).await.unwrap_err();
        assert_eq!((refused.is(), &*refused.metadata["maximum"]), ((Code::FailedPrecondition, "LIMIT_REACHED"), "4"));
        // It is told once, and stands in no log.
        let secrets = [&made.secret, &next.secret, &last.secret].map(|secret| secret.trim_start_matches("whsec_").to_owned());
        let log = format!("{:?}", ann.tries_to_list_events(pb::ListEventsRequest::default()).await.unwrap());
        assert!(secrets.iter().all(|secret| !log.contains(secret)) && log.contains("127.0.0.1") && !log.contains("hooks"));
        world.end().await;
    }

    async fn nothing_is_posted_behind_the_firewall(backend: Backend) {
        let receiver = Receiver::start_with_tls().await;
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        for (url, fault) in [
            (receiver.url(), "https URL"),
            (receiver.url().replace("http:", "https:"), "public internet"),
            ("https://169.254.169.254/latest/meta-data".into(), "public internet"),
            ("https://[::ffff:10.0.0.1]/".into(), "public internet"),
            ("https://ann:secret@hooks.example.com/".into(), "no user"),
            ("https://hooks.example.com/a\0b".into(), "https URL"),
            ("https://hooks.example.com/\n".into(), "https URL"),
        ] {
            let refused = ann.tries_to_have_told(&url, &[]).await.unwrap_err();
            assert_eq!((refused.is(), refused.fields.clone()), ((Code::InvalidArgument, "INVALID_FIELDS"), vec!["url".to_owned()]));
            assert!(refused.message.contains(fault), "{url}: {}", refused.message);
        }
        // What a name leads to is seen when it is to be told something.
        let named = format!("https://localhost:{}/hooks", receiver.address.port());
        let made = ann.has_told(&named, &[]).await;
        world.tells().await;
        let delivery = ann.deliveries(made.id()).await.remove(0);
        assert!(delivery.attempts[0].failure.contains("no address to which webhooks are sent"), "{delivery:?}");
        assert!(!format!("{delivery:?}").contains("127.0.0.1"), "nobody is told where names lead");
        assert_eq!(receiver.posted().len(), 0);
        world.end().await;
    }

    async fn by_tls_only_who_is_vouched_for_is_told(backend: Backend) {
        let receiver = Receiver::start_with_tls().await;
        let url = format!("https://localhost:{}/hooks", receiver.address.port());
        let trusting = |authority: Option<_>| {
            let mut setup = posting_here(roomy());
            setup.webhooks.authority = authority;
            setup
        };
        let world = World::with(backend, trusting(None)).await;
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&url, &[]).await;
        world.tells().await;
        let failure = ann.deliveries(made.id()).await.remove(0).attempts.remove(0).failure;
        assert!(failure.contains("certificate"), "{failure}");
        assert_eq!(receiver.posted().len(), 0);
        world.end().await;
        let world = World::with(backend, trusting(receiver.authority.clone())).await;
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&url, &[]).await;
        world.tells().await;
        assert!(receiver.posted()[0].is_signed_by(&made.secret));
        world.end().await;
    }

    async fn the_platform_is_told_of_all_organizations(backend: Backend) {
        let receiver = Receiver::start().await;
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("{}types = [\"invitation.created\"]\n", endpoint_of_all(&receiver.url()));
        std::fs::write(file.path(), text).unwrap();
        let webhooks = Settings { platform: Some(file.path().to_owned()), ..Settings::default() };
        let world = World::with(backend, Setup { webhooks, servers: 2, ..roomy() }).await;
        let mut owners = Vec::new();
        for name in ["ann", "zed", "kim"] {
            owners.push(world.person(name).founds("Acme").await);
        }
        for number in 0..5 {
            for owner in &owners {
                owner.invites(&[&format!("p{number}@example.com")], "member").await;
            }
        }
        world.tells().await;
        let told = |posted: Vec<Posted>, owner: &Person| {
            let own = posted.into_iter().filter(|one| one.json()["data"]["organization_id"] == *owner.organization_id);
            own.map(|one| one.number()).collect::<Vec<_>>()
        };
        assert_eq!(receiver.posted().len(), 15);
        for owner in &owners {
            let numbers = told(receiver.posted(), owner);
            assert!(numbers.is_sorted() && numbers.len() == 5, "{numbers:?}");
        }
        let posted = receiver.posted();
        assert!(posted.iter().all(|one| SECRETS.iter().all(|secret| one.is_signed_by(secret))));
        // It fails at one organization's event: the others' may come before, and each comes.
        receiver.forgets();
        let poison = owners[1].organization_id.clone();
        receiver.does(move |one| Does::Answers(if one.json()["data"]["organization_id"] == *poison { 500 } else { 200 }));
        for owner in &owners {
            owner.invites(&["last@example.com"], "member").await;
        }
        world.tells().await;
        assert_eq!(told(receiver.posted(), &owners[0]).len(), 1);
        assert_eq!(told(receiver.posted(), &owners[2]).len(), 1);
        // Services see what it was told of an organization, and can have it told again; nobody else knows of it.
        let mut service = world.service("ops");
        service.organization_id.clone_from(&owners[1].organization_id);
        let endpoint_id = world.endpoint_of_all().await.endpoint_id.to_string();
        let deliveries = service.deliveries(&endpoint_id).await;
        assert_eq!((deliveries.len(), deliveries[0].state()), (6, pb::WebhookDeliveryState::Retrying));
        receiver.does(|_| Does::Answers(200));
        assert_eq!(service.redelivers(&endpoint_id, &[deliveries[0].event_number]).await.unwrap(), 1);
        world.tells().await;
        assert_eq!(service.deliveries(&endpoint_id).await[0].state(), pb::WebhookDeliveryState::Delivered);
        let refused = owners[1].deliveries_in(&endpoint_id, &[]).await.unwrap_err();
        assert_eq!(refused.is(), (Code::NotFound, "WEBHOOK_ENDPOINT_NOT_FOUND"));
        assert_eq!(owners[1].redelivers(&endpoint_id, &[]).await.unwrap_err().reason, "WEBHOOK_ENDPOINT_NOT_FOUND");
        assert!(service.endpoints().await.is_empty());
        world.end().await;
    }

    async fn two_servers_tell_each_event_once(backend: Backend) {
        let receiver = Receiver::start().await;
        let world = World::with(backend, posting_here(Setup { servers: 2, ..roomy() })).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.has_told(&receiver.url(), &[]).await;
        for number in 0..30 {
            let person = ann.at(world.servers[number % world.servers.len()].channel.clone());
            person.invites(&[&format!("p{number}@example.com")], "member").await;
        }
        world.tells().await;
        let numbers = numbers(&receiver.posted());
        assert_eq!(numbers.len(), 31);
        assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
        world.end().await;
    }

    async fn what_a_server_was_at_when_it_died_another_tells_a_minute_later(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        world.tells().await;
        // As one that died in the middle of it leaves it.
        let until = (world.clock.now() + TimeDelta::minutes(1)).to_rfc3339();
        let id = world.backend.id(made.id());
        world.execute(&format!("UPDATE webhook_endpoint SET claimed_until = '{until}' WHERE endpoint_id = {id}")).await.unwrap();
        ann.invites(&["a@example.com"], "member").await;
        for _ in 0..3 {
            for server in &world.servers {
                tenantry::delivery::sweep(&server.app, &tokio_util::sync::CancellationToken::new()).await.unwrap();
            }
        }
        assert_eq!(receiver.posted().len(), 0, "nobody else takes it");
        world.pass(TimeDelta::minutes(1));
        world.tells().await;
        assert_eq!(receiver.posted().len(), 1);
        world.end().await;
    }

    async fn what_is_forgotten_before_it_is_told_is_passed_over(backend: Backend) {
        let receiver = Receiver::start().await;
        let setup = Setup { event_lifetime: Some(TimeDelta::days(30)), ..posting_here(roomy()) };
        let world = World::with(backend, setup).await;
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        world.tells().await;
        let off = pb::WebhookEndpoint { disabled: true, ..Default::default() };
        ann.changes_endpoint(&["disabled"], of(&made, off)).await.unwrap();
        ann.invites(&["a@example.com"], "member").await;
        world.delivers().await;
        world.pass(TimeDelta::days(31));
        world.sweeps().await;
        ann.invites(&["b@example.com"], "member").await;
        ann.changes_endpoint(&["disabled"], of(&made, pb::WebhookEndpoint::default())).await.unwrap();
        world.tells().await;
        assert_eq!(receiver.posted().len(), 1);
        let last = ann.tries_to_list_events(pb::ListEventsRequest::default()).await.unwrap().events.remove(0);
        assert_eq!(ann.endpoint().await.reached_event_number, last.number);
        world.end().await;
    }

    async fn who_manages_endpoints_hears_of_every_fault(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let zed = world.person("zed").founds("Other").await;
        let request = pb::CreateWebhookEndpointRequest {
            organization_id: ann.organization_id.clone(),
            url: "ftp://hooks.example.com".into(),
            description: "x".repeat(201),
            types: vec!["member.*".into(), "comet.seen".into()],
            ..Default::default()
        };
        let refused = answer(ann.webhooks().create_webhook_endpoint(request).await).unwrap_err();
        assert_eq!(refused.fields, ["url", "description", "types[1]"]);
        // A rehearsal makes nothing, and gives no secret.
        let request = pb::CreateWebhookEndpointRequest {
            organization_id: ann.organization_id.clone(),
            url: receiver.url(),
            validate_only: true,
            ..Default::default()
        };
        let rehearsed = answer(ann.webhooks().create_webhook_endpoint(request.clone()).await).unwrap();
        assert_eq!(rehearsed.secret, "");
        assert!(ann.endpoints().await.is_empty());
        // The same request twice makes one, and gives the same secret.
        let request = pb::CreateWebhookEndpointRequest {
            request_id: "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70".into(),
            validate_only: false,
            ..request
        };
        let made = answer(ann.webhooks().create_webhook_endpoint(request.clone()).await).unwrap();
        let again = answer(ann.webhooks().create_webhook_endpoint(request).await).unwrap();
        assert_eq!((&made.secret, ann.endpoints().await.len()), (&again.secret, 1));
        let id = made.endpoint.clone().unwrap().endpoint_id;
        // Another organization's is nobody's.
        assert_eq!(zed.drops_endpoint(&id).await.unwrap_err().is(), (Code::NotFound, "WEBHOOK_ENDPOINT_NOT_FOUND"));
        assert_eq!(zed.rotates(&id, true).await.unwrap_err().reason, "WEBHOOK_ENDPOINT_NOT_FOUND");
        assert_eq!(zed.deliveries_in(&id, &[]).await.unwrap_err().reason, "WEBHOOK_ENDPOINT_NOT_FOUND");
        // Who has read an older version changes nothing.
        let endpoint = pb::WebhookEndpoint { endpoint_id: id.clone(), description: "new".into(), ..Default::default() };
        let stale = pb::UpdateWebhookEndpointRequest {
            endpoint: Some(endpoint.clone()),
            update_mask: Some(prost_types::FieldMask { paths: vec!["description".into()] }),
            etag: "v7".into(),
            ..Default::default()
        };
        assert_eq!(ann.changes_endpoint_by(stale).await.unwrap_err().reason, "ETAG_MISMATCH");
        let changed = ann.changes_endpoint(&["description"], endpoint.clone()).await.unwrap();
        assert_eq!((&*changed.description, &*changed.etag), ("new", "v2"));
        let same = ann.changes_endpoint(&["description"], endpoint).await.unwrap();
        assert_eq!(same.etag, "v2", "nothing changed");
        let unknown = ann.changes_endpoint(&["secret"], changed.clone()).await.unwrap_err();
        assert_eq!(unknown.reason, "INVALID_FIELDS");
        // What was never told cannot be told again.
        let refused = ann.redelivers(&id, &[1]).await.unwrap_err();
        assert_eq!((refused.is(), &*refused.metadata["event_number"]), ((Code::NotFound, "WEBHOOK_DELIVERY_NOT_FOUND"), "1"));
        assert_eq!(ann.redelivers(&id, &[0, -1]).await.unwrap_err().fields, ["event_numbers[0]", "event_numbers[1]"]);
        for _ in 1..10 {
            ann.has_told(&receiver.url(), &[]).await;
        }
        let refused = ann.tries_to_have_told(&receiver.url(), &[]).await.unwrap_err();
        assert_eq!((refused.is(), &*refused.metadata["maximum"]), ((Code::FailedPrecondition, "LIMIT_REACHED"), "10"));
        assert_eq!(ann.drops_endpoint(&id).await.unwrap().endpoint_id, id);
        assert_eq!(ann.endpoints().await.len(), 9);
        world.end().await;
    }

    async fn another_url_is_tried_at_once_and_what_is_deleted_is_told_nothing(backend: Backend) {
        let (world, broken, receiver) = (posting(backend).await, Receiver::start().await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&broken.url(), &["invitation.created"]).await;
        broken.does(|_| Does::Answers(500));
        ann.invites(&["a@example.com"], "member").await;
        world.tells().await;
        let endpoint = pb::WebhookEndpoint { url: receiver.url(), ..Default::default() };
        let endpoint = ann.changes_endpoint(&["url"], of(&made, endpoint)).await.unwrap();
        assert_eq!((endpoint.failure_count, endpoint.url), (0, receiver.url()));
        world.tells().await;
        assert_eq!((broken.posted().len(), receiver.posted().len()), (1, 1));
        // What was told once can be told again.
        let number = receiver.posted()[0].number();
        assert_eq!(ann.redelivers(made.id(), &[number, number]).await.unwrap(), 1);
        world.tells().await;
        assert_eq!(numbers(&receiver.posted()), [number, number]);
        ann.drops_endpoint(made.id()).await.unwrap();
        ann.invites(&["b@example.com"], "member").await;
        world.tells().await;
        assert_eq!(receiver.posted().len(), 2);
        assert!(ann.endpoints().await.is_empty());
        world.sweeps().await;
        assert_eq!(world.number("SELECT COUNT(*) FROM webhook_delivery").await, 0);
        assert_eq!(world.number("SELECT COUNT(*) FROM webhook_endpoint").await, 0);
        let log = world.events(&ann.organization_id).await;
        let own: Vec<_> = log.iter().filter(|name| name.starts_with("webhook_endpoint.")).collect();
        assert_eq!(own, ["webhook_endpoint.created", "webhook_endpoint.updated", "webhook_endpoint.deleted"]);
        world.end().await;
    }

    async fn a_purge_takes_endpoints_and_what_they_were_told(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        ann.has_told(&receiver.url(), &[]).await;
        ann.tries_to_delete().await.unwrap();
        world.tells().await;
        assert_eq!(kinds(&receiver.posted()).last().unwrap(), "organization.deleted", "also the last is told");
        world.pass(TimeDelta::days(31));
        world.sweeps().await;
        assert_eq!(world.number("SELECT COUNT(*) FROM webhook_delivery").await, 0);
        assert_eq!(world.number("SELECT COUNT(*) FROM webhook_endpoint").await, 0);
        world.end().await;
    }

    async fn what_was_told_is_known_for_a_month(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &[]).await;
        world.tells().await;
        world.pass(TimeDelta::days(30));
        world.sweeps().await;
        assert_eq!(ann.deliveries(made.id()).await.len(), 1);
        world.pass(TimeDelta::seconds(1));
        world.sweeps().await;
        assert_eq!(ann.deliveries(made.id()).await.len(), 0);
        world.end().await;
    }

    async fn while_an_endpoint_is_away_nothing_changes_its_order_and_nothing_is_given_up(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        receiver.does(|_| Does::Answers(503));
        for email in ["a@example.com", "b@example.com", "c@example.com"] {
            ann.invites(&[email], "member").await;
        }
        world.tells().await;
        // For some hours: more than it takes to give up one that is refused.
        for _ in 0..8 {
            pass_until_tried(&world, &ann).await;
        }
        receiver.forgets();
        receiver.does(|_| Does::Answers(200));
        pass_until_tried(&world, &ann).await;
        let told = numbers(&receiver.posted());
        assert!(told.len() == 3 && told.is_sorted(), "{told:?}");
        // Nor is the only one given up that there is, for days.
        receiver.does(|_| Does::Closes);
        ann.invites(&["d@example.com"], "member").await;
        world.tells().await;
        let begun = world.clock.now();
        while world.clock.now() - begun < TimeDelta::days(2) {
            pass_until_tried(&world, &ann).await;
        }
        assert_eq!(ann.deliveries(made.id()).await[0].state(), pb::WebhookDeliveryState::Retrying);
        receiver.forgets();
        receiver.does(|_| Does::Answers(200));
        pass_until_tried(&world, &ann).await;
        assert_eq!(receiver.posted().len(), 1);
        world.end().await;
    }

    async fn what_changes_while_an_event_is_told_holds_for_the_next_and_skips_none(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        let (begun, goes_on) = (Arc::new(tokio::sync::Notify::new()), Arc::new(std::sync::Barrier::new(2)));
        let (first, (begins, waits)) = (AtomicUsize::new(0), (Arc::clone(&begun), Arc::clone(&goes_on)));
        receiver.does(move |_| {
            if first.fetch_add(1, Ordering::SeqCst) == 0 {
                begins.notify_one();
                tokio::task::block_in_place(|| waits.wait());
            }
            Does::Answers(200)
        });
        ann.invites(&["a@example.com", "b@example.com"], "member").await;
        begun.notified().await;
        // The first is under way. The secret before anything else: a change has the endpoint told on at once, by whatever it has then.
        let rotated = ann.rotates(made.id(), true).await.unwrap();
        let types = vec!["invitation.created".into(), "member.joined".into()];
        ann.changes_endpoint(&["types"], of(&made, pb::WebhookEndpoint { types, ..Default::default() })).await.unwrap();
        ann.brings("bob", "member").await;
        tokio::task::block_in_place(|| goes_on.wait());
        world.tells().await;
        let posted = receiver.posted();
        let told: std::collections::BTreeSet<String> =
            posted.iter().map(|one| format!("{} {}", one.kind(), one.number())).collect();
        let log = world.events(&ann.organization_id).await;
        let wanted: std::collections::BTreeSet<String> = (1..)
            .zip(&log)
            .skip(2)
            .filter(|(_, kind)| matches!(kind.as_str(), "invitation.created" | "member.joined"))
            .map(|(number, kind)| format!("{kind} {number}"))
            .collect();
        assert_eq!(told, wanted);
        assert!(posted[0].is_signed_by(&made.secret));
        let signed: Vec<_> = posted
            .iter()
            .map(|one| (one.number(), one.is_signed_by(&made.secret), one.is_signed_by(&rotated.secret)))
            .collect();
        assert!(signed[1..].iter().all(|(_, old, new)| *new && !*old), "{signed:?}");
        world.end().await;
    }

    async fn who_may_not_read_the_log_has_none_of_it_sent(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &[]).await;
        let role = pb::Role {
            role: "org:hooks".into(),
            title: "Hooks".into(),
            permissions: vec![pb::Permission::OrganizationRead.into(), pb::Permission::WebhooksManage.into()],
            ..Default::default()
        };
        let organization_id = ann.organization_id.clone();
        let request = pb::CreateRoleRequest { organization_id, role: Some(role), ..Default::default() };
        answer(ann.members().create_role(request).await).unwrap();
        let bob = ann.brings("bob", "org:hooks").await;
        let lacks = |refused: crate::harness::refused::Refused| {
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
            assert_eq!(refused.metadata["permission"], "audit_log_read");
        };
        lacks(bob.tries_to_have_told(&receiver.url(), &[]).await.unwrap_err());
        lacks(bob.rotates(made.id(), true).await.unwrap_err());
        lacks(bob.redelivers(made.id(), &[]).await.unwrap_err());
        lacks(bob.deliveries_in(made.id(), &[]).await.unwrap_err());
        let endpoint = pb::WebhookEndpoint { url: receiver.url() + "/other", ..Default::default() };
        lacks(bob.changes_endpoint(&["url"], of(&made, endpoint)).await.unwrap_err());
        // To see that there are some, and to have an end of one, tells nothing.
        assert_eq!(bob.endpoints().await.len(), 1);
        bob.drops_endpoint(made.id()).await.unwrap();
        world.end().await;
    }

    async fn one_that_is_never_answered_delays_no_other_for_long_and_is_given_up(backend: Backend) {
        let (world, receiver) = (posting(backend).await, Receiver::start().await);
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.has_told(&receiver.url(), &["invitation.created"]).await;
        let poison = ann.endpoint().await.reached_event_number + 2;
        receiver.does(move |one| if one.number() == poison { Does::Answers(503) } else { Does::Answers(200) });
        ann.invites(&["a@example.com"], "member").await;
        world.tells().await;
        for _ in 0..11 {
            pass_until_tried(&world, &ann).await;
        }
        assert!(receiver.posted().iter().all(|one| one.number() == poison), "it may be that nobody is there");
        for number in 0..40 {
            world.pass(TimeDelta::hours(9));
            world.tells().await;
            let before = receiver.posted().iter().filter(|one| one.number() != poison).count();
            ann.invites(&[&format!("p{number}@example.com")], "member").await;
            world.tells().await;
            let after = receiver.posted().iter().filter(|one| one.number() != poison).count();
            assert_eq!(after, before + 1, "what happens is told at once");
            if ann.deliveries_in(made.id(), &[pb::WebhookDeliveryState::Failed]).await.unwrap().len() == 1 {
                world.end().await;
                return;
            }
        }
        panic!("it is never given up");
    }
}
