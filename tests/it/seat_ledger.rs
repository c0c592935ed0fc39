//! The ledger of seats: every take and release with its cause, how seats were used at any instant, and what explains an invoice.

use chrono::TimeDelta;
use serde_json::json;
use tenantry::clock::Clock;
use tenantry::pb::{self, CancellationMode, ChangeTiming, SeatCause as C};
use tonic::Code;

use crate::harness::billing::{add_on, amounts, billed, plan, seats};
use crate::harness::binary::{Home, Process, finished};
use crate::harness::person::Person;
use crate::harness::race::Deed;
use crate::harness::tenant::id_of;
use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

/// An instant just before this one.
const BEFORE: TimeDelta = TimeDelta::seconds(1);

database_tests! {
    async fn every_take_and_release_of_a_seat_is_written_with_its_cause(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut known = 0;
        let mut next = async |expected: &[(C, i64, i64)]| {
            // Each at its own instant, so that they are in their order.
            world.pass(TimeDelta::microseconds(1));
            let ledger = ann.seat_ledger().await;
            assert_eq!(&ledger[known..], expected);
            known = ledger.len();
        };
        next(&[(C::SeatsChanged, 0, 4), (C::MemberJoined, 1, 0)]).await;
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        next(&[(C::InvitationSent, 1, 0), (C::InvitationSent, 1, 0), (C::InvitationSent, 1, 0)]).await;
        let bob = world.person("bob").accepts(&sent[0].token).await;
        next(&[(C::InvitationAccepted, -1, 0), (C::MemberJoined, 1, 0)]).await;
        world.person("cas").tries_to_decline(&sent[1].token).await.unwrap();
        next(&[(C::InvitationDeclined, -1, 0)]).await;
        ann.tries_to_cancel(&[id_of(&sent[2])]).await.unwrap();
        next(&[(C::InvitationCanceled, -1, 0)]).await;
        ann.tries_to_suspend("bob").await.unwrap();
        next(&[(C::MemberSuspended, -1, 0)]).await;
        ann.tries_to_reactivate("bob").await.unwrap();
        next(&[(C::MemberReactivated, 1, 0)]).await;
        bob.tries_to_leave().await.unwrap();
        next(&[(C::MemberRemoved, -1, 0)]).await;
        let sent = ann.invites(&["eve@example.com"], "member").await;
        next(&[(C::InvitationSent, 1, 0)]).await;
        let eve = world.person("eve").accepts(&sent[0].token).await;
        next(&[(C::InvitationAccepted, -1, 0), (C::MemberJoined, 1, 0)]).await;
        ann.tries_to_remove(&eve.name).await.unwrap();
        next(&[(C::MemberRemoved, -1, 0)]).await;
        // A suspended member has no seat that could be given back.
        ann.brings("fay", "member").await;
        ann.tries_to_suspend("fay").await.unwrap();
        let known = ann.seat_ledger().await.len();
        ann.tries_to_remove("fay").await.unwrap();
        assert_eq!(ann.seat_ledger().await.len(), known);
        assert_eq!(world.service("billing").drifts().await, []);
        world.end().await;
    }

    async fn who_or_what_took_a_seat_and_when_is_written_with_it(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        world.passes(TimeDelta::hours(1)).await;
        let sent = ann.invites(&["bob@example.com"], "member").await;
        let at_sending = world.wire_time();
        world.passes(TimeDelta::hours(1)).await;
        world.person("bob").accepts(&sent[0].token).await;
        let entries = ann.tries_to_list_seats(None, 3, "").await.unwrap().seat_entries;
        let told: Vec<_> = entries.iter().map(|entry| (entry.cause(), entry.subject.as_str(), entry.time)).collect();
        assert_eq!(told, [
            (C::MemberJoined, "bob", Some(world.wire_time())),
            (C::InvitationAccepted, id_of(&sent[0]), Some(world.wire_time())),
            (C::InvitationSent, id_of(&sent[0]), Some(at_sending)),
        ]);
        world.end().await;
    }

    async fn seats_that_are_bought_given_up_and_taken_away_are_written(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        let added = async || -> Vec<i64> {
            ann.seat_ledger().await.into_iter().filter(|(cause, ..)| *cause == C::SeatsChanged).map(|(_, _, added)| added).collect()
        };
        let fewer = pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..seats(8) };
        for wish in [plan("team"), seats(9), fewer] {
            world.pass(TimeDelta::microseconds(1));
            ann.changes(wish).await.unwrap();
        }
        // What changes nothing, or only later, is not written.
        ann.changes(seats(6)).await.unwrap();
        ann.changes(add_on("storage", 1)).await.unwrap();
        ann.changes(pb::UpdateSubscriptionRequest { validate_only: true, ..seats(20) }).await.unwrap();
        assert_eq!(added().await, [4, 1, 4, -1]);
        world.service("billing").pays(&ann.invoices().await[0]).await;
        world.passes(TimeDelta::days(31)).await;
        assert_eq!(added().await, [4, 1, 4, -1, -2]);
        for name in ["bob", "cas", "dee", "eve"] {
            ann.brings(name, "member").await;
        }
        ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap();
        assert_eq!(ann.seats().await, "5 / 4 seats");
        assert_eq!(added().await, [4, 1, 4, -1, -2, -2]);
        assert_eq!(world.service("billing").drifts().await, []);
        ann.tries_to_remove("eve").await.unwrap();
        world.end().await;
    }

    async fn an_expiry_happened_when_it_did_though_it_is_written_later(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        world.pass(TimeDelta::seconds(1));
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        let expired = world.clock.now() + TimeDelta::days(7);
        world.pass(TimeDelta::days(9));
        // Nobody has written it yet.
        for _ in 0..2 {
            assert_eq!(ann.seats_at(expired - BEFORE).await.unwrap(), "4 / 4 seats");
            assert_eq!(ann.seats_at(expired).await.unwrap(), "1 / 4 seats");
            assert_eq!(ann.seats_at(world.clock.now() - BEFORE).await.unwrap(), "1 / 4 seats");
            // Now somebody has.
            world.sweeps().await;
        }
        let entries = ann.tries_to_list_seats(None, 3, "").await.unwrap().seat_entries;
        assert!(entries.iter().all(|entry| entry.cause() == C::InvitationExpired && entry.taken == -1));
        assert!(entries.iter().all(|entry| entry.time == Some(tenantry::fields::timestamp(expired))));
        // Sent again, it takes a seat anew.
        world.pass(TimeDelta::days(1));
        ann.does(Deed::Resend(id_of(&sent[0]).to_owned(), 7)).await.unwrap();
        assert_eq!(ann.seat_ledger().await.last(), Some(&(C::InvitationSent, 1, 0)));
        assert_eq!(ann.seats_at(expired + TimeDelta::days(2)).await.unwrap(), "1 / 4 seats");
        assert_eq!(ann.seats().await, "2 / 4 seats");
        assert_eq!(world.service("billing").drifts().await, []);
        world.end().await;
    }

    async fn what_had_expired_when_it_was_sent_again_or_canceled_was_no_seat_in_between(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        world.pass(TimeDelta::seconds(1));
        let sent = ann.invites(&["bob@example.com", "cas@example.com"], "member").await;
        let expired = world.clock.now() + TimeDelta::days(7);
        world.pass(TimeDelta::days(8));
        assert_eq!(ann.seats_at(expired + TimeDelta::hours(1)).await.unwrap(), "1 / 4 seats");
        ann.does(Deed::Resend(id_of(&sent[0]).to_owned(), 7)).await.unwrap();
        ann.tries_to_cancel(&[id_of(&sent[1])]).await.unwrap();
        world.pass(TimeDelta::hours(1));
        assert_eq!(ann.seats_at(expired + TimeDelta::hours(1)).await.unwrap(), "1 / 4 seats");
        assert_eq!(ann.seats_at(expired - TimeDelta::hours(1)).await.unwrap(), "3 / 4 seats");
        assert_eq!(ann.seats().await, "2 / 4 seats");
        let ledger = ann.seat_ledger().await;
        assert_eq!(ledger.iter().filter(|(cause, ..)| *cause == C::InvitationExpired).count(), 2);
        assert_eq!(world.service("billing").drifts().await, []);
        // The same where only the canceling found it expired.
        let bob = world.person("bob").founds("Beta").await;
        world.pass(TimeDelta::seconds(1));
        let alone = bob.invites(&["cas@example.com"], "member").await;
        let expired = world.clock.now() + TimeDelta::days(7);
        world.pass(TimeDelta::days(8));
        bob.tries_to_cancel(&[id_of(&alone[0])]).await.unwrap();
        world.pass(TimeDelta::hours(1));
        assert_eq!(bob.seats_at(expired + TimeDelta::hours(1)).await.unwrap(), "1 / 4 seats");
        assert_eq!(bob.seat_ledger().await.last(), Some(&(C::InvitationExpired, -1, 0)));
        world.end().await;
    }

    async fn how_seats_were_used_can_be_asked_of_any_instant_in_the_past(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let founded = world.clock.now();
        let ann = world.person("ann").founds("Acme").await;
        let mut known = Vec::new();
        for step in 0..6 {
            world.passes(TimeDelta::hours(1)).await;
            match step {
                0 => drop(ann.brings("bob", "member").await),
                1 => drop(ann.changes(plan("team")).await.unwrap()),
                2 => drop(ann.invites(&["cas@example.com", "dee@example.com"], "member").await),
                3 => drop(ann.changes(seats(12)).await.unwrap()),
                4 => drop(ann.tries_to_suspend("bob").await.unwrap()),
                _ => drop(ann.tries_to_reactivate("bob").await.unwrap()),
            }
            known.push((world.clock.now(), ann.seats().await));
        }
        let expected = ["2 / 4 seats", "2 / 5 seats", "4 / 5 seats", "4 / 12 seats", "3 / 12 seats", "4 / 12 seats"];
        assert_eq!(known.iter().map(|(_, usage)| usage.as_str()).collect::<Vec<_>>(), expected);
        world.pass(TimeDelta::days(100));
        for (index, (at, usage)) in known.iter().enumerate() {
            assert_eq!(&ann.seats_at(*at).await.unwrap(), usage);
            assert_eq!(&ann.seats_at(*at + TimeDelta::minutes(59)).await.unwrap(), usage);
            let before = if index == 0 { "1 / 4 seats" } else { expected[index - 1] };
            assert_eq!(ann.seats_at(*at - TimeDelta::microseconds(1)).await.unwrap(), before);
        }
        assert_eq!(ann.seats_at(founded).await.unwrap(), "1 / 4 seats");
        for wrong in [founded - BEFORE, world.clock.now() + TimeDelta::minutes(2)] {
            let refused = ann.seats_at(wrong).await.unwrap_err();
            assert_eq!((refused.reason.as_str(), refused.fields), ("INVALID_FIELDS", vec!["time".to_owned()]));
        }
        // Those who see how seats are used see how they were.
        let cas = ann.brings("cas", "member").await;
        assert_eq!(cas.seats_at(founded).await.unwrap_err().is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        assert_eq!(ann.brings("dee", "admin").await.seats_at(founded).await.unwrap(), "1 / 4 seats");
        world.end().await;
    }

    async fn what_an_import_brings_is_the_opening_balance(backend: Backend) {
        let home = Home::new(backend).await;
        let id = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f01";
        let begun = "2025-12-01T00:00:00Z";
        let invitation = |email: &str, expire_time: String| {
            json!({"kind": "invitation", "organization_id": id, "email": email, "role": "member", "create_time": begun, "expire_time": expire_time})
        };
        let lines = [
            json!({"kind": "organization", "organization_id": id, "name": "Acme", "slug": "acme", "create_time": begun}),
            json!({"kind": "subscription", "organization_id": id, "plan_id": "team", "status": "active", "seats": 6, "create_time": begun}),
            json!({"kind": "member", "organization_id": id, "user_id": "ann", "email": "ann@example.com", "role": "owner", "join_time": begun}),
            invitation("bob@example.com", (Clock::System.now() + TimeDelta::days(3)).to_rfc3339()),
        ];
        let file = lines.map(|line| format!("{line}\n")).concat();
        std::fs::write(home.directory.path().join("acme.jsonl"), file).expect("a file can be written");
        let imported = finished(home.tenantry(&["import", "acme.jsonl"])).await;
        assert!(imported.status.success(), "{imported:?}");
        let mut server = Process::start(home.tenantry(&[])).await;
        let ann = Person::new(server.channel(), "ann").acting_in(id, "owner");
        assert_eq!(ann.seats().await, "2 / 6 seats");
        let ledger = ann.seat_ledger().await;
        assert!(ledger.iter().all(|(cause, ..)| *cause == C::OpeningBalance), "{ledger:?}");
        let sum = |of: fn(&(C, i64, i64)) -> i64| ledger.iter().map(of).sum::<i64>();
        assert_eq!((sum(|entry| entry.1), sum(|entry| entry.2)), (2, 6));
        let billing = Person::service(server.channel(), "billing");
        assert_eq!(billing.drifts().await, []);
        server.stop().await;
        home.end().await;
    }

    async fn the_ledger_is_listed_the_latest_first_page_by_page(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.invites(&["bob@example.com", "cas@example.com"], "member").await;
        world.passes(TimeDelta::days(8)).await;
        ann.brings("dee", "member").await;
        let all = ann.tries_to_list_seats(None, 200, "").await.unwrap().seat_entries;
        assert_eq!(all.len(), 9);
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = ann.tries_to_list_seats(None, 2, &page_token).await.unwrap();
            seen.extend(page.seat_entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, all);
        assert_eq!(ann.tries_to_list_seats(None, 2, "x").await.unwrap_err().is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
        assert_eq!(ann.tries_to_list_seats(None, -1, "").await.unwrap_err().fields, ["page_size"]);
        world.end().await;
    }
}

database_tests! {
    async fn a_seat_line_of_an_invoice_is_explained_by_the_ledger(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(8), ..plan("team") }).await.unwrap();
        let first = ann.invoices().await.pop().unwrap();
        service.pays(&first).await;
        let explained = async |invoice: &pb::Invoice, line: i32| -> Vec<i64> {
            let page = ann.tries_to_list_seats(Some((&invoice.invoice_id, line)), 0, "").await.unwrap();
            assert!(page.seat_entries.iter().all(|entry| entry.cause() == C::SeatsChanged));
            page.seat_entries.iter().map(|entry| entry.added).collect()
        };
        // Three seats beyond the five that are included, of eight: the four that there were and four more.
        assert_eq!(first.lines[1].quantity, Some(3));
        assert_eq!(explained(&first, 2).await, [4, 4]);
        world.passes(TimeDelta::days(10)).await;
        ann.brings("bob", "member").await;
        ann.changes(seats(10)).await.unwrap();
        world.passes(TimeDelta::days(5)).await;
        ann.changes(pb::UpdateSubscriptionRequest { timing: ChangeTiming::Now.into(), ..seats(9) }).await.unwrap();
        ann.changes(seats(7)).await.unwrap();
        // The worker is late by two hours.
        world.passes(TimeDelta::days(16) + TimeDelta::hours(2)).await;
        let second = ann.invoices().await.pop().unwrap();
        assert_eq!(amounts(&second.lines), [1_355, -516, 2_000, 2_000]);
        assert_eq!(explained(&second, 1).await, [2]);
        assert_eq!(explained(&second, 2).await, [-1]);
        // Two beyond the included ones: the sum of all until then is seven.
        assert_eq!(second.lines[3].quantity, Some(2));
        assert_eq!(explained(&second, 4).await, [-2, -1, 2, 4, 4]);
        // What comes later explains nothing before it.
        world.pass(TimeDelta::seconds(1));
        ann.changes(seats(11)).await.unwrap();
        world.passes(TimeDelta::days(1)).await;
        ann.changes(seats(12)).await.unwrap();
        assert_eq!(explained(&second, 4).await, [-2, -1, 2, 4, 4]);
        assert_eq!(explained(&first, 2).await, [4, 4]);
        // The draft's lines are explained too.
        let draft = ann.invoices().await.pop().unwrap();
        assert_eq!(explained(&draft, 2).await, [1]);
        world.end().await;
    }

    async fn seats_bought_on_the_first_day_of_a_period_by_days_explain_their_line(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("business")).await.unwrap();
        world.passes(TimeDelta::hours(5)).await;
        // A day counts whole, so the line is for the whole period.
        ann.changes(seats(23)).await.unwrap();
        let draft = ann.invoices().await.pop().unwrap();
        assert_eq!((amounts(&draft.lines), draft.lines[0].prorated), (vec![3_600], false));
        let page = ann.tries_to_list_seats(Some((&draft.invoice_id, 1)), 0, "").await.unwrap();
        assert_eq!(page.seat_entries[0].added, 3);
        world.end().await;
    }

    async fn only_a_seat_line_of_an_own_invoice_can_be_explained(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(pb::UpdateSubscriptionRequest { seats: Some(8), ..plan("team") }).await.unwrap();
        let invoice = ann.invoices().await.pop().unwrap();
        let bob = world.person("bob").founds("Beta").await;
        bob.changes(pb::UpdateSubscriptionRequest { seats: Some(8), ..plan("team") }).await.unwrap();
        let other = bob.invoices().await.pop().unwrap();
        for line in [(invoice.invoice_id.as_str(), 1), (&invoice.invoice_id, 3), (&other.invoice_id, 2)] {
            let refused = ann.tries_to_list_seats(Some(line), 0, "").await.unwrap_err();
            assert_eq!(refused.is(), (Code::NotFound, "INVOICE_NOT_FOUND"));
            assert_eq!(refused.metadata["invoice_id"], line.0);
        }
        for (line, field) in [((invoice.invoice_id.as_str(), 0), "line"), ((&invoice.invoice_id, -1), "line"), (("", 2), "invoice_id")] {
            assert_eq!(ann.tries_to_list_seats(Some(line), 0, "").await.unwrap_err().fields, [field]);
        }
        // A token of one line's list is none of another's.
        let token = ann.tries_to_list_seats(Some((&invoice.invoice_id, 2)), 1, "").await.unwrap().next_page_token;
        assert_eq!(ann.tries_to_list_seats(Some((&invoice.invoice_id, 2)), 1, &token).await.unwrap().seat_entries[0].added, 4);
        assert_eq!(ann.tries_to_list_seats(None, 1, &token).await.unwrap_err().reason, "PAGE_TOKEN_INVALID");
        world.end().await;
    }
}
