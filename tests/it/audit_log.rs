//! The audit log: who did what, when, and to what; and who may read it.

use chrono::TimeDelta;
use tenantry::pb::event::Payload;
use tenantry::pb::{self, CancellationMode};
use tonic::Code;

use crate::harness::billing::{billed, plan};
use crate::harness::person::Person;
use crate::harness::world::{World, roomy};
use crate::harness::{Backend, database_tests};

fn asking() -> pb::ListEventsRequest {
    pb::ListEventsRequest::default()
}

fn about(kind: &str, id: &str) -> pb::EventSubject {
    pb::EventSubject { kind: kind.into(), id: id.into() }
}

/// The types of the events that are asked for, the latest first.
async fn types(person: &Person, request: pb::ListEventsRequest) -> Vec<String> {
    let page = person.tries_to_list_events(pb::ListEventsRequest { page_size: 200, ..request }).await.expect("a page");
    page.events.into_iter().map(|event| event.r#type).collect()
}

database_tests! {
    async fn the_log_says_who_did_what_to_whom_when_and_how_it_was_before(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        world.pass(TimeDelta::hours(1));
        ann.brings("bob", "member").await;
        world.pass(TimeDelta::hours(1));
        let changed = world.clock.now();
        ann.tries_to_change_role("bob", "admin").await.unwrap();
        let page = ann.tries_to_list_events(pb::ListEventsRequest { page_size: 1, ..asking() }).await.unwrap();
        let event = page.events[0].clone();
        assert_eq!((event.r#type.as_str(), event.organization_id.as_str()), ("member.role_changed", ann.organization_id.as_str()));
        assert_eq!(event.event_time, Some(tenantry::fields::timestamp(changed)));
        assert_eq!(event.actor, Some(pb::EventActor { user_id: "ann".into(), service: String::new(), address: "127.0.0.1".into() }));
        assert_eq!(event.subject, Some(about("member", "bob")));
        let (before, after) = ("member".to_owned(), "admin".to_owned());
        assert_eq!(event.payload, Some(Payload::MemberRoleChanged(pb::MemberRoleChanged { user_id: "bob".into(), before, after })));
        assert!(!event.event_id.is_empty() && !event.request_id.is_empty());
        // Backwards without a gap to the beginning, page by page.
        let (mut numbers, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = ann.tries_to_list_events(pb::ListEventsRequest { page_size: 2, page_token, ..asking() }).await.unwrap();
            assert!(page.events.len() <= 2);
            numbers.extend(page.events.iter().map(|event| event.number));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(numbers, (1..=event.number).rev().collect::<Vec<_>>());
        world.end().await;
    }

    async fn the_log_says_from_where(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let from = |person: &Person, address: &str| {
            let mut person = person.clone();
            person.identity.0.push(("x-user-address", address.parse().unwrap()));
            person
        };
        from(&ann, "203.0.113.7").invites(&["a@example.com"], "member").await;
        from(&ann, "::ffff:203.0.113.8").invites(&["b@example.com"], "member").await;
        from(&ann, "2001:db8::1").invites(&["c@example.com"], "member").await;
        let page = ann.tries_to_list_events(asking()).await.unwrap();
        let addresses: Vec<String> = page.events.into_iter().map(|event| event.actor.unwrap().address).collect();
        assert_eq!(addresses, ["2001:db8::1", "203.0.113.8", "203.0.113.7", "127.0.0.1", "127.0.0.1"]);
        let refused = from(&ann, "localhost").tries_to_invite(&["d@example.com"], "member").await.unwrap_err();
        assert_eq!(refused.is(), (Code::Unauthenticated, "IDENTITY_MALFORMED"));
        assert_eq!(refused.metadata["key"], "x-user-address");
        world.end().await;
    }

    async fn a_service_is_named_beside_the_user_for_whom_it_calls(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("team")).await.unwrap();
        let service = world.service("bookkeeping");
        service.pays(&ann.invoices().await[0]).await;
        let by_service = pb::ListEventsRequest { actor_service: "bookkeeping".into(), ..asking() };
        assert_eq!(types(&ann, by_service.clone()).await, ["invoice.paid", "payment.succeeded"]);
        let page = ann.tries_to_list_events(by_service).await.unwrap();
        assert_eq!(page.events[0].actor, Some(pb::EventActor { user_id: String::new(), service: "bookkeeping".into(), address: "127.0.0.1".into() }));
        // What the service does of its own accord.
        world.passes(TimeDelta::days(31)).await;
        let own = pb::ListEventsRequest { actor_service: "tenantry".into(), ..asking() };
        assert_eq!(types(&ann, own).await, ["invoice.finalized", "subscription.renewed"]);
        // And a service may read every log.
        let of = pb::ListEventsRequest { organization_id: ann.organization_id.clone(), ..asking() };
        assert!(service.log().list_events(of).await.unwrap().into_inner().events.len() > 5);
        world.end().await;
    }

    async fn the_log_is_searched_by_type_actor_subject_and_time(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "admin").await;
        world.pass(TimeDelta::days(1));
        let second_day = world.wire_time();
        let bob = world.person("bob").acting_in(&ann.organization_id, "admin");
        bob.brings("cas", "member").await;
        world.pass(TimeDelta::days(1));
        let third_day = world.wire_time();
        ann.tries_to_remove("cas").await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap();

        let of_types = |types: &[&str]| pb::ListEventsRequest { types: types.iter().map(|name| (*name).to_owned()).collect(), ..asking() };
        assert_eq!(types(&ann, of_types(&["member.removed"])).await, ["member.removed"]);
        assert_eq!(types(&ann, of_types(&["member.*"])).await, ["member.removed", "member.joined", "member.joined", "member.joined"]);
        assert_eq!(types(&ann, of_types(&["member.removed", "organization.*"])).await, ["member.removed", "organization.created"]);
        assert_eq!(types(&ann, pb::ListEventsRequest { actor_user_id: "bob".into(), ..asking() }).await, ["invitation.created", "member.joined", "invitation.accepted"]);
        assert_eq!(types(&ann, pb::ListEventsRequest { subject: Some(about("member", "cas")), ..asking() }).await, ["member.removed", "member.joined"]);
        assert_eq!(types(&ann, pb::ListEventsRequest { subject: Some(about("invitation", "")), ..asking() }).await, ["invitation.accepted", "invitation.created", "invitation.accepted", "invitation.created"]);
        let between = pb::ListEventsRequest { start_time: Some(second_day), end_time: Some(third_day), ..asking() };
        assert_eq!(types(&ann, between.clone()).await, ["member.joined", "invitation.accepted", "invitation.created"]);
        assert_eq!(types(&ann, pb::ListEventsRequest { actor_user_id: "cas".into(), ..between }).await, ["member.joined", "invitation.accepted"]);
        assert_eq!(types(&ann, pb::ListEventsRequest { start_time: Some(third_day), types: vec!["invitation.*".into()], ..asking() }).await, Vec::<String>::new());
        world.end().await;
    }

    async fn the_log_is_for_those_who_may_read_it_and_outlives_the_deletion(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        let bob = world.person("bob").acting_in(&ann.organization_id, "member");
        let refused = bob.tries_to_list_events(asking()).await.unwrap_err();
        assert_eq!(refused.code, Code::PermissionDenied);
        assert_eq!(refused.metadata["permission"], "audit_log_read");
        let eve = world.person("eve").founds("Elsewhere").await;
        let other = pb::ListEventsRequest { organization_id: ann.organization_id.clone(), ..asking() };
        assert_eq!(eve.log().list_events(other).await.unwrap_err().code(), Code::PermissionDenied);
        ann.deletes_organization().await;
        assert_eq!(types(&ann, asking()).await[0], "organization.deleted");
        world.end().await;
    }

    async fn what_is_wrong_with_a_search_is_told(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        let now = Some(world.wire_time());
        let wrong = pb::ListEventsRequest {
            page_size: -1,
            types: vec!["member.joined".into(), "member.jumped".into(), "*".into(), "member".into()],
            actor_user_id: " ann".into(),
            actor_service: "No Service".into(),
            subject: Some(about("", "bob")),
            start_time: now,
            end_time: now,
            ..asking()
        };
        let refused = ann.tries_to_list_events(wrong).await.unwrap_err();
        let mut fields = refused.fields.clone();
        fields.sort_unstable();
        assert_eq!(refused.reason, "INVALID_FIELDS");
        assert_eq!(fields, ["actor_service", "actor_user_id", "end_time", "page_size", "subject.kind", "types[1]", "types[2]", "types[3]"]);
        let many = pb::ListEventsRequest { types: vec!["member.*".into(); 51], ..asking() };
        assert_eq!(ann.tries_to_list_events(many).await.unwrap_err().fields, ["types"]);
        // A token is of one search, in one organization.
        let page = ann.tries_to_list_events(pb::ListEventsRequest { page_size: 1, ..asking() }).await.unwrap();
        let page_token = page.next_page_token;
        let elsewhere = pb::ListEventsRequest { types: vec!["member.*".into()], page_token: page_token.clone(), ..asking() };
        assert_eq!(ann.tries_to_list_events(elsewhere).await.unwrap_err().reason, "PAGE_TOKEN_INVALID");
        let eve = world.person("eve").founds("Elsewhere").await;
        assert_eq!(eve.tries_to_list_events(pb::ListEventsRequest { page_token, ..asking() }).await.unwrap_err().reason, "PAGE_TOKEN_INVALID");
        world.end().await;
    }
}
