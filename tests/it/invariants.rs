//! The recount: nothing drifts by what people and time do, and whatever drifts behind the server's back is found and named.

use chrono::TimeDelta;
use tenantry::billing::invariants::Watch;
use tenantry::pb::{self, CancellationMode, CreditNoteOutcome};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::billing::{add_on, billed, plan, seats, seats_now};
use crate::harness::finance::{on_top, used};
use crate::harness::person::{Person, answer};
use crate::harness::plain_http::request;
use crate::harness::refused::Refused;
use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

async fn checks(service: &Person, organization_id: &str) -> Result<Vec<pb::Drift>, Refused> {
    let request = pb::CheckInvariantsRequest { organization_id: organization_id.to_owned(), ..Default::default() };
    answer(service.billing().check_invariants(request).await).map(|answer| answer.drifts)
}

/// What should hold, what the rows add up to and what is kept.
fn told(drifts: &[pb::Drift]) -> Vec<(&str, &str, &str)> {
    drifts.iter().map(|drift| (drift.invariant.as_str(), drift.expected.as_str(), drift.found.as_str())).collect()
}

/// An organization in which most things have happened.
async fn busy(world: &World) -> Person {
    let service = world.service("billing");
    let ann = world.person("ann").founds("Acme").await;
    service.taxes(&ann.organization_id, Some(on_top(210_000))).await.unwrap();
    ann.changes(pb::UpdateSubscriptionRequest { seats: Some(9), ..plan("team") }).await.unwrap();
    ann.brings("bob", "owner").await;
    ann.brings("cas", "member").await;
    ann.invites(&["dee@example.com", "eve@example.com"], "member").await;
    service.pays(&ann.invoices().await[0]).await;
    ann.changes(add_on("storage", 2)).await.unwrap();
    world.passes(TimeDelta::days(9)).await;
    ann.tries_to_suspend("cas").await.unwrap();
    ann.changes(seats_now(6)).await.unwrap();
    ann.changes(seats_now(8)).await.unwrap();
    service.pays(&ann.invoices().await[2]).await;
    service.reports(&ann.organization_id, &[used("a", "minutes", 10, world.clock.now())]).await.unwrap();
    world.passes(TimeDelta::days(22)).await;
    let renewed = ann.invoices().await.pop().unwrap();
    service.corrects(&renewed, 300, CreditNoteOutcome::CreditBalance).await.unwrap();
    service.pays(&ann.invoice(&renewed.invoice_id).await).await;
    service.corrects(&renewed, 200, CreditNoteOutcome::CreditBalance).await.unwrap();
    ann.changes(seats_now(9)).await.unwrap();
    let voided = ann.invoices().await.pop().unwrap();
    service.voids(&voided).await.unwrap();
    ann.changes(seats(12)).await.unwrap();
    ann
}

database_tests! {
    async fn nothing_drifts_by_what_people_and_time_do(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = busy(&world).await;
        assert_eq!(checks(&service, &ann.organization_id).await, Ok(vec![]));
        world.passes(TimeDelta::days(100)).await;
        ann.cancels(CancellationMode::NowWithCredit).await.unwrap();
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn every_server_looks_by_itself_and_says_when_the_books_agree_again(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = busy(&world).await;
        let (app, mut watch) = (&world.servers[0].app, Watch::default());
        let mut agrees = async || watch.look(&app.database, &app.policy).await.unwrap() == 0;
        assert!(agrees().await);
        // Round and round: of two looks one is at the end of a round, where there is nothing to see.
        for (change, expected) in [("+ 5", false), ("- 5", true)] {
            world.tampers(&format!("UPDATE subscription SET credit_minor = credit_minor {change}")).await;
            agrees().await;
            assert_eq!(agrees().await, expected, "{}", ann.organization_id);
        }
        world.end().await;
    }

    async fn a_drift_is_seen_by_whoever_watches_the_health_and_by_whoever_reads_the_metrics(backend: Backend) {
        let mut world = World::with(backend, billed()).await;
        busy(&world).await;
        for (change, expected) in [("+ 5", (ServingStatus::NotServing, 1)), ("- 5", (ServingStatus::Serving, 0))] {
            world.tampers(&format!("UPDATE subscription SET credit_minor = credit_minor {change}")).await;
            // A server looks when it starts.
            world.switches_policy_to("owner-billing").await;
            let mut health = HealthClient::new(world.channel());
            let mut told = health.watch(HealthCheckRequest { service: "invariants".into() }).await.unwrap().into_inner();
            while told.message().await.unwrap().unwrap().status() != expected.0 {}
            let address = world.servers[0].metrics_address;
            let metrics = request(address, "GET", "/metrics", &[], b"").await;
            assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
            let metrics = String::from_utf8(metrics.body).unwrap();
            assert!(metrics.contains(&format!("\ntenantry_drifting_organizations {}\n", expected.1)), "{metrics}");
            assert_eq!(request(address, "GET", "/", &[], b"").await.status, 404);
            assert_eq!(request(address, "POST", "/metrics", &[], b"").await.status, 405);
        }
        world.end().await;
    }

    async fn every_drift_is_found_and_named(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = busy(&world).await;
        let sound = ann.organization().await;
        assert_eq!(checks(&service, &sound.organization_id).await, Ok(vec![]));
        // What is done behind the server's back, how it is undone, and what is found.
        for (wrong, right, expected) in [
            ("UPDATE organization SET active_members = active_members + 1", "UPDATE organization SET active_members = active_members - 1",
                vec![("active_members", "2", "3"), ("seat_ledger_used", "3", "2")]),
            ("UPDATE organization SET pending_invitations = 1", "UPDATE organization SET pending_invitations = 0",
                vec![("pending_invitations", "0", "1"), ("seat_ledger_used", "3", "2")]),
            ("UPDATE organization SET top_role_members = 1", "UPDATE organization SET top_role_members = 2",
                vec![("top_role_members", "2", "1")]),
            ("UPDATE organization SET seats_total = 13", "UPDATE organization SET seats_total = 12",
                vec![("seat_ledger_total", "13", "12"), ("seats_total", "12", "13")]),
            ("UPDATE organization SET last_event_number = last_event_number + 1", "UPDATE organization SET last_event_number = last_event_number - 1",
                vec![("event_numbers", "", "")]),
            ("UPDATE seat_entry SET taken = taken + 1 WHERE cause = 'member_suspended'", "UPDATE seat_entry SET taken = taken - 1 WHERE cause = 'member_suspended'",
                vec![("seat_ledger_used", "2", "3")]),
            ("UPDATE invoice SET number = 77 WHERE number = 4", "UPDATE invoice SET number = 4 WHERE number = 77",
                vec![("invoice_numbers", "true", "false")]),
            ("UPDATE subscription SET last_invoice_number = last_invoice_number + 1", "UPDATE subscription SET last_invoice_number = last_invoice_number - 1",
                vec![("last_invoice_number", "5", "6")]),
            ("UPDATE invoice_line SET amount_minor = amount_minor + 7 WHERE kind = 'plan' AND invoice_id = (SELECT invoice_id FROM invoice WHERE number = 1)",
                "UPDATE invoice_line SET amount_minor = amount_minor - 7 WHERE kind = 'plan' AND invoice_id = (SELECT invoice_id FROM invoice WHERE number = 1)",
                vec![("invoice_total", "7267", "7260"), ("invoice_tax", "1261", "1260")]),
            ("UPDATE invoice SET tax_minor = tax_minor - 1 WHERE number = 1", "UPDATE invoice SET tax_minor = tax_minor + 1 WHERE number = 1",
                vec![("invoice_tax", "1260", "1259")]),
            ("UPDATE invoice SET given_back_minor = given_back_minor + 1 WHERE number = 1", "UPDATE invoice SET given_back_minor = given_back_minor - 1 WHERE number = 1",
                vec![("invoice_given_back", "", "")]),
            ("UPDATE payment SET amount_minor = amount_minor - 1 WHERE invoice_id = (SELECT invoice_id FROM invoice WHERE number = 1)",
                "UPDATE payment SET amount_minor = amount_minor + 1 WHERE invoice_id = (SELECT invoice_id FROM invoice WHERE number = 1)",
                vec![("invoice_paid", "7259", "7260")]),
            ("UPDATE credit_note SET off_due_minor = off_due_minor + 1 WHERE number = 1", "UPDATE credit_note SET off_due_minor = off_due_minor - 1 WHERE number = 1",
                vec![("invoice_credited", "301", "300")]),
            ("UPDATE credit_entry SET invoice_id = (SELECT invoice_id FROM invoice WHERE number = 1) WHERE number = 2",
                "UPDATE credit_entry SET invoice_id = (SELECT invoice_id FROM invoice WHERE number = 3) WHERE number = 2",
                vec![("invoice_credit_applied", "", ""), ("invoice_credit_applied", "", "")]),
            ("UPDATE subscription SET credit_minor = credit_minor + 5", "UPDATE subscription SET credit_minor = credit_minor - 5",
                vec![("credit_balance", "", "")]),
            ("UPDATE subscription SET unpaid_credit_minor = unpaid_credit_minor + 1", "UPDATE subscription SET unpaid_credit_minor = unpaid_credit_minor - 1",
                vec![("unpaid_credit", "0", "1")]),
            ("UPDATE subscription SET last_credit_entry_number = last_credit_entry_number + 1", "UPDATE subscription SET last_credit_entry_number = last_credit_entry_number - 1",
                vec![("credit_entry_numbers", "", "")]),
            ("UPDATE credit_entry SET balance_minor = balance_minor + 1 WHERE number = 1", "UPDATE credit_entry SET balance_minor = balance_minor - 1 WHERE number = 1",
                vec![("credit_entry_balances", "true", "false")]),
            ("UPDATE credit_note SET number = 9 WHERE number = 2", "UPDATE credit_note SET number = 2 WHERE number = 9",
                vec![("credit_note_numbers", "true", "false")]),
            ("UPDATE subscription SET last_credit_note_number = 3", "UPDATE subscription SET last_credit_note_number = 2",
                vec![("last_credit_note_number", "2", "3")]),
            ("UPDATE membership SET suspended_at = NULL", "UPDATE membership SET suspended_at = joined_at WHERE user_id = 'cas'",
                vec![("active_members", "3", "2")]),
        ] {
            world.tampers(wrong).await;
            let drifts = checks(&service, &ann.organization_id).await.unwrap();
            assert!(drifts.iter().all(|drift| drift.organization_id == ann.organization_id));
            let found = told(&drifts);
            assert_eq!(found.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), expected.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), "{wrong}: {found:?}");
            for (found, expected) in found.iter().zip(&expected).filter(|(_, expected)| !expected.1.is_empty()) {
                assert_eq!(found, expected, "{wrong}");
            }
            world.tampers(right).await;
            assert_eq!(checks(&service, &ann.organization_id).await, Ok(vec![]), "{right}");
        }
        // A lost subscription is one too.
        world.tampers("CREATE TABLE kept AS SELECT * FROM subscription; DELETE FROM subscription").await;
        assert_eq!(told(&checks(&service, &ann.organization_id).await.unwrap()), [("subscription_exists", "1", "0")]);
        world.tampers("INSERT INTO subscription SELECT * FROM kept").await;
        assert_eq!(checks(&service, &ann.organization_id).await, Ok(vec![]));
        world.end().await;
    }

    async fn all_organizations_are_looked_at_page_by_page(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let mut ids = Vec::new();
        for number in 0..7 {
            ids.push(world.person(&format!("owner{number}")).founds("Acme").await.organization_id);
        }
        ids.sort();
        world.tampers("UPDATE organization SET seats_total = seats_total + 1").await;
        let (mut found, mut sizes, mut page_token) = (Vec::new(), Vec::new(), String::new());
        loop {
            let request = pb::CheckInvariantsRequest { page_size: 3, page_token, ..Default::default() };
            let page = answer(service.billing().check_invariants(request).await).unwrap();
            sizes.push(page.checked);
            found.extend(page.drifts.into_iter().filter(|drift| drift.invariant == "seats_total").map(|drift| drift.organization_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!((sizes, found), (vec![3, 3, 1], ids.clone()));
        let of_one = checks(&service, &ids[3]).await.unwrap();
        assert_eq!(told(&of_one), [("seat_ledger_total", "5", "4"), ("seats_total", "4", "5")]);
        world.tampers("UPDATE organization SET seats_total = seats_total - 1").await;
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn only_services_recount_and_only_what_is_there(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        assert_eq!(checks(&ann, &ann.organization_id).await.unwrap_err().is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        assert_eq!(checks(&ann, "").await.unwrap_err().is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        let nobody = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6fff";
        assert_eq!(checks(&service, nobody).await.unwrap_err().is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        assert_eq!(checks(&service, "7").await.unwrap_err().fields, ["organization_id"]);
        for (page_size, page_token, reason) in [(-1, "", "INVALID_FIELDS"), (0, "x", "PAGE_TOKEN_INVALID")] {
            let request = pb::CheckInvariantsRequest { page_size, page_token: page_token.into(), ..Default::default() };
            assert_eq!(answer(service.billing().check_invariants(request).await).unwrap_err().reason, reason);
        }
        world.end().await;
    }
}
