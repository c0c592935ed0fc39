//! Watching what happens: in order, without a gap or a repeat, on whatever server, until the right to it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, TransactionTrait as _};
use tempfile::TempDir;
use tenantry::auth::token::{MintedClaims, TokenSettings, mint};
use tenantry::entity::{event, invitation};
use tenantry::membership::token::Token;
use tenantry::pb::{self, WatchStart};
use tonic::Code;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::harness::binary::{Process, tenantry, until};

use crate::harness::mail::letters;
use crate::harness::person::Person;
use crate::harness::plain_http::request;
use crate::harness::postgres::Server;
use crate::harness::race::{at_once, spread};
use crate::harness::receiver::Receiver;
use crate::harness::watch::Watch;
use crate::harness::webhooks::endpoint_of_all;
use crate::harness::world::{Setup, World, plans_with_seats, roomy};
use crate::harness::{Backend, database_tests};

fn from_beginning() -> pb::WatchEventsRequest {
    pb::WatchEventsRequest { start: WatchStart::Beginning.into(), ..Default::default() }
}

fn from_now() -> pb::WatchEventsRequest {
    pb::WatchEventsRequest::default()
}

fn from(cursor: &str) -> pb::WatchEventsRequest {
    pb::WatchEventsRequest { cursor: cursor.into(), ..Default::default() }
}

fn of(types: &[&str], request: pb::WatchEventsRequest) -> pb::WatchEventsRequest {
    pb::WatchEventsRequest { types: types.iter().map(|name| (*name).to_owned()).collect(), ..request }
}

/// A server whose organizations have seats for all that a test invites.
fn very_roomy() -> Setup {
    Setup { plans: Some(plans_with_seats(2_000)), ..Setup::default() }
}

/// Two servers, where the database takes them.
fn two_servers() -> Setup {
    Setup { servers: 2, ..roomy() }
}

/// Everything that a service hears of all organizations until it has heard so many events of each.
async fn hears_all(watch: &mut Watch, expected: &BTreeMap<String, i64>) -> Vec<pb::Event> {
    let mut heard = Vec::new();
    let mut seen: BTreeMap<String, i64> = BTreeMap::new();
    while expected.iter().any(|(id, last)| seen.get(id).is_none_or(|number| number < last)) {
        let event = watch.next().await.expect("an event");
        seen.insert(event.organization_id.clone(), event.number);
        heard.push(event);
    }
    heard
}

/// Whether the numbers of each organization are 1, 2, 3 …
fn is_in_order(events: &[pb::Event]) -> bool {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    events.iter().all(|event| last.insert(&event.organization_id, event.number).unwrap_or_default() + 1 == event.number)
}

database_tests! {
    async fn a_user_may_watch_so_often_at_a_time_and_no_more(backend: Backend) {
        let world = World::new(backend).await;
        let (ann, zoe) = (world.person("ann").founds("Acme").await, world.person("zoe").founds("Zoo").await);
        let mut watches = Vec::new();
        for _ in 0..16 {
            watches.push(ann.watches(from_now()).await.unwrap());
        }
        let refused = ann.watches(from_now()).await.err().expect("one too many");
        assert_eq!((refused.is(), refused.metadata["at_a_time"].as_str()), ((Code::ResourceExhausted, "RATE_LIMITED"), "16"));
        zoe.watches(from_now()).await.expect("hers are her own");
        watches.pop();
        until("there is room for one again", async || ann.watches(from_now()).await.is_ok()).await;
        world.end().await;
    }

    async fn what_happened_is_told_and_then_what_happens_by_whatever_server(backend: Backend) {
        let world = World::with(backend, two_servers()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut watch = spread(&world, &ann, 1).watches(from_beginning()).await.unwrap();
        assert_eq!(watch.types(2).await, ["organization.created", "member.joined"]);
        ann.invites(&["bob@example.com"], "member").await;
        let invited = watch.next().await.unwrap();
        assert_eq!((invited.r#type.as_str(), invited.number), ("invitation.created", 3));
        // As the audit log has it.
        let listed = ann.tries_to_list_events(pb::ListEventsRequest { page_size: 1, ..Default::default() }).await.unwrap();
        assert_eq!(listed.events, [invited]);
        // Without a cursor, from now on.
        let mut later = ann.watches(from_now()).await.unwrap();
        ann.invites(&["eve@example.com"], "member").await;
        assert_eq!(later.next().await.unwrap().number, 4);
        world.end().await;
    }

    async fn from_a_cursor_a_watch_goes_on_without_a_gap_or_a_repeat(backend: Backend) {
        let mut world = World::with(backend, two_servers()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut watch = ann.watches(from_beginning()).await.unwrap();
        watch.types(2).await;
        assert!(watch.is_heard());
        let cursor = watch.cursor.clone();
        drop(watch);
        ann.invites(&["a@example.com", "b@example.com"], "member").await;
        // The servers are others by then.
        world.switches_policy_to("owner-billing").await;
        let ann = ann.at(world.channel());
        let mut watch = ann.watches(from(&cursor)).await.unwrap();
        assert_eq!([watch.next().await.unwrap().number, watch.next().await.unwrap().number], [3, 4]);
        // With a cursor that is older, what was heard is heard again; with the latest, nothing is.
        let mut again = ann.watches(of(&["invitation.*"], from(&cursor))).await.unwrap();
        assert_eq!(again.next().await.unwrap().number, 3);
        let latest = ann.watches(from(&watch.cursor)).await.unwrap();
        assert!(latest.is_heard());
        world.end().await;
    }

    async fn only_what_is_asked_for_is_told_and_the_cursor_passes_the_rest(backend: Backend) {
        let world = World::with(backend, very_roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut watch = ann.watches(of(&["member.*"], from_beginning())).await.unwrap();
        assert_eq!(watch.types(1).await, ["member.joined"]);
        for number in 0..150 {
            ann.invites(&[&format!("{number}@example.com")], "member").await;
        }
        ann.brings("bob", "member").await;
        assert_eq!(watch.next().await.unwrap().number, 155);
        let mut rest = ann.watches(from(&watch.cursor)).await.unwrap();
        ann.tries_to_change_role("bob", "admin").await.unwrap();
        assert_eq!(rest.types(1).await, ["member.role_changed"]);
        world.end().await;
    }

    async fn a_service_watches_all_organizations_each_in_its_order(backend: Backend) {
        let world = World::with(backend, two_servers()).await;
        let services = [world.service("search"), spread(&world, &world.service("billing"), 1)];
        let mut early = Watch::begin(&services[0], from_beginning()).await.unwrap();
        let founders = at_once((0..8).map(|number| {
            let person = spread(&world, &world.person(&format!("p{number}")), number);
            async move { person.founds(&format!("Company {number}")).await }
        }))
        .await;
        let inviting: Vec<_> = (0..40)
            .map(|number| {
                let person = spread(&world, &founders[number % founders.len()], number);
                async move { person.invites(&[&format!("{number}@example.com")], "member").await }
            })
            .collect();
        let inviting = tokio::spawn(at_once(inviting));
        let mut heard = Vec::new();
        while heard.len() < 8 * 2 + 40 {
            heard.push(early.next().await.unwrap());
        }
        inviting.await.unwrap();
        let expected = founders.iter().map(|person| (person.organization_id.clone(), 7)).collect();
        assert!(is_in_order(&heard) && early.is_heard());
        // Everybody hears it in the same order, also who comes later and to another server.
        let mut late = Watch::begin(&services[1], from_beginning()).await.unwrap();
        assert_eq!(hears_all(&mut late, &expected).await, heard);
        // And from the middle on.
        let mut rest = Watch::begin(&services[1], from(&early.cursor)).await.unwrap();
        founders[0].invites(&["last@example.com"], "member").await;
        assert_eq!(rest.next().await.unwrap().number, 8);
        world.end().await;
    }

    async fn who_is_cut_off_again_and_again_while_much_happens_hears_all_of_it_once(backend: Backend) {
        let world = World::with(backend, two_servers()).await;
        let service = world.service("search");
        let founders = at_once((0..4).map(|number| {
            let person = world.person(&format!("p{number}"));
            async move { person.founds(&format!("Company {number}")).await }
        }))
        .await;
        let mut writing = Vec::new();
        for (lane, founder) in founders.iter().enumerate() {
            let person = spread(&world, founder, lane);
            writing.push(tokio::spawn(async move {
                for number in 0..60 {
                    person.invites(&[&format!("{number}@example.com")], "member").await;
                }
            }));
        }
        let (mut heard, mut cursor, mut times) = (Vec::new(), String::new(), 0);
        while heard.len() < 4 * 62 {
            let asked = if cursor.is_empty() { from_beginning() } else { from(&cursor) };
            let mut watch = Watch::begin(&spread(&world, &service, times), asked).await.unwrap();
            // A message, and what comes with it.
            heard.push(watch.next().await.unwrap());
            while !watch.is_heard() {
                heard.push(watch.next().await.unwrap());
            }
            (cursor, times) = (watch.cursor.clone(), times + 1);
        }
        for writer in writing {
            writer.await.unwrap();
        }
        assert!(is_in_order(&heard), "cut off {times} times");
        let expected = founders.iter().map(|person| (person.organization_id.clone(), 62)).collect();
        let mut whole = Watch::begin(&service, from_beginning()).await.unwrap();
        assert_eq!(hears_all(&mut whole, &expected).await, heard);
        world.end().await;
    }

    async fn who_reads_slowly_misses_nothing(backend: Backend) {
        let world = World::with(backend, very_roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut slow = ann.watches(from_beginning()).await.unwrap();
        let mut quick = ann.watches(from_beginning()).await.unwrap();
        for batch in 0..12 {
            let emails: Vec<String> = (0..100).map(|number| format!("{batch}-{number}@example.com")).collect();
            let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
            ann.invites(&emails, "member").await;
        }
        let last = ann.tries_to_list_events(pb::ListEventsRequest { page_size: 1, ..Default::default() }).await.unwrap();
        let last = last.events[0].number;
        for watch in [&mut quick, &mut slow] {
            for number in 1..=last {
                assert_eq!(watch.next().await.unwrap().number, number);
            }
        }
        world.end().await;
    }

    async fn a_watch_ends_with_the_right_to_it(backend: Backend) {
        let world = World::with(backend, two_servers()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "admin").await;
        let eve = ann.brings("eve", "admin").await;
        let [mut of_bob, mut of_eve] =
            [bob.watches(from_now()).await.unwrap(), spread(&world, &eve, 1).watches(from_now()).await.unwrap()];
        ann.tries_to_remove("bob").await.unwrap();
        assert_eq!(of_bob.next().await.unwrap_err().is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        assert_eq!(of_eve.types(1).await, ["member.removed"]);
        ann.tries_to_change_role("eve", "member").await.unwrap();
        assert_eq!(of_eve.next().await.unwrap_err().code, Code::PermissionDenied);
        let member = Person { role: "member".into(), ..eve };
        assert_eq!(member.watches(from_now()).await.err().unwrap().code, Code::PermissionDenied);
        world.end().await;
    }

    async fn only_services_watch_all_organizations(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let refused = Watch::begin(&ann, from_beginning()).await.err().unwrap();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ORGANIZATION_MISMATCH"));
        let service = world.service("search");
        let nowhere = pb::WatchEventsRequest { organization_id: "0198c1d2-7b7e-7cc3-98c4-dc0c0c07398f".into(), ..from_now() };
        assert_eq!(Watch::begin(&service, nowhere).await.err().unwrap().is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        let of_ann = pb::WatchEventsRequest { organization_id: ann.organization_id.clone(), ..from_beginning() };
        assert_eq!(Watch::begin(&service, of_ann).await.unwrap().types(1).await, ["organization.created"]);
        world.end().await;
    }

    async fn a_cursor_is_of_what_was_watched_and_not_beyond_its_end(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let (ann, bob) = (world.person("ann").founds("Acme").await, world.person("bob").founds("Beta").await);
        let service = world.service("search");
        let of_ann = ann.watches(from_now()).await.unwrap().cursor;
        let of_all = Watch::begin(&service, from_now()).await.unwrap().cursor;
        let mut faults = Vec::new();
        faults.push(bob.watches(from(&of_ann)).await.err().unwrap());
        faults.push(ann.watches(from(&of_all)).await.err().unwrap());
        faults.push(Watch::begin(&service, from(&of_ann)).await.err().unwrap());
        faults.push(ann.watches(from("nonsense")).await.err().unwrap());
        // The database was restored from a backup, which is older.
        world.tampers("DELETE FROM event").await;
        world.tampers("UPDATE organization SET last_event_number = 0").await;
        world.tampers("UPDATE event_feed SET last_position = 0").await;
        faults.push(ann.watches(from(&of_ann)).await.err().unwrap());
        faults.push(Watch::begin(&service, from(&of_all)).await.err().unwrap());
        for fault in faults {
            assert_eq!((fault.is(), fault.fields.as_slice()), ((Code::InvalidArgument, "CURSOR_INVALID"), &["cursor".to_owned()][..]));
        }
        let both = pb::WatchEventsRequest { start: WatchStart::Beginning.into(), types: vec!["nothing".into()], ..from(&of_ann) };
        assert_eq!(ann.watches(both).await.err().unwrap().fields, ["types[0]", "start"]);
        world.end().await;
    }

    async fn watches_end_with_their_server_and_are_counted_as_long(backend: Backend) {
        let mut world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut watch = ann.watches(from_now()).await.unwrap();
        let mut of_all = Watch::begin(&world.service("search"), from_now()).await.unwrap();
        ann.invites(&["bob@example.com"], "member").await;
        watch.types(1).await;
        let metrics = request(world.servers[0].metrics_address, "GET", "/metrics", &[], b"").await;
        let metrics = String::from_utf8(metrics.body).unwrap();
        assert!(metrics.contains("\ntenantry_event_watches 2\n"), "{metrics}");
        of_all.types(1).await;
        let stopping = tokio::spawn(async move {
            world.switches_policy_to("owner-billing").await;
            world
        });
        for ending in [watch.next().await, of_all.next().await] {
            let ended = ending.unwrap_err();
            assert_eq!((ended.is(), ended.retry), ((Code::Unavailable, "SERVER_STOPPING"), true));
        }
        let world = tokio::time::timeout(Duration::from_secs(10), stopping).await.expect("nothing holds up the stop").unwrap();
        world.end().await;
    }

    async fn a_log_that_is_as_old_as_it_may_be_is_forgotten_from_its_beginning_on(backend: Backend) {
        let setup = Setup { event_lifetime: Some(TimeDelta::days(30)), ..two_servers() };
        let world = World::with(backend, setup).await;
        let (ann, bob) = (world.person("ann").founds("Acme").await, world.person("bob").founds("Beta").await);
        let service = world.service("search");
        let of_ann = ann.watches(from_beginning()).await.unwrap().cursor;
        let of_all = Watch::begin(&service, from_beginning()).await.unwrap().cursor;
        ann.invites(&["a@example.com"], "member").await;
        let [seen_of_ann, seen_of_all] =
            [ann.watches(from_now()).await.unwrap().cursor, Watch::begin(&service, from_now()).await.unwrap().cursor];
        world.passes(TimeDelta::days(20)).await;
        ann.invites(&["b@example.com"], "member").await;
        world.passes(TimeDelta::days(11)).await;
        let numbers = async |person: &Person| {
            let page = person.tries_to_list_events(pb::ListEventsRequest::default()).await.unwrap();
            page.events.iter().map(|event| event.number).collect::<Vec<_>>()
        };
        assert_eq!((numbers(&ann).await, numbers(&bob).await), (vec![4], vec![]));
        // Who has seen all that is forgotten goes on; who has not is told.
        assert_eq!(ann.watches(from(&seen_of_ann)).await.unwrap().next().await.unwrap().number, 4);
        assert_eq!(Watch::begin(&service, from(&seen_of_all)).await.unwrap().next().await.unwrap().number, 4);
        for expired in [ann.watches(from(&of_ann)).await, Watch::begin(&service, from(&of_all)).await] {
            assert_eq!(expired.err().unwrap().is(), (Code::FailedPrecondition, "CURSOR_EXPIRED"));
        }
        // The beginning is where it begins now.
        assert_eq!(ann.watches(from_beginning()).await.unwrap().next().await.unwrap().number, 4);
        bob.invites(&["c@example.com"], "member").await;
        assert_eq!(bob.watches(from_beginning()).await.unwrap().next().await.unwrap().number, 3);
        assert_eq!(service.drifts().await, []);
        world.end().await;
    }

    async fn the_log_is_exported_as_lines_of_json(backend: Backend) {
        let world = World::with(backend, very_roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let emails: Vec<String> = (0..1_100).map(|number| format!("{number}@example.com")).collect();
        for emails in emails.chunks(500) {
            ann.invites(&emails.iter().map(String::as_str).collect::<Vec<_>>(), "member").await;
        }
        let exported = async |types: &[&str]| ann.exports(types).await;
        let (lines, messages) = exported(&[]).await;
        assert_eq!((lines.len(), messages), (1_102, 3));
        assert!(lines.iter().zip(1..).all(|(line, number)| line["number"] == number));
        let joined = &lines[1];
        assert_eq!((joined["type"].as_str(), joined["payload"]["user_id"].as_str()), (Some("member.joined"), Some("ann")));
        assert_eq!(joined["actor"], serde_json::json!({ "user_id": "ann", "service": null, "address": "127.0.0.1" }));
        assert_eq!(joined["subject"], serde_json::json!({ "kind": "member", "id": "ann" }));
        assert_eq!(joined["time"], "2026-01-05T09:00:00Z");
        // The same events as the log shows.
        let listed = ann.tries_to_list_events(pb::ListEventsRequest { page_size: 1, ..Default::default() }).await.unwrap();
        assert_eq!(lines[1_101]["event_id"], listed.events[0].event_id);
        assert_eq!(exported(&["organization.*"]).await.0, lines[..1]);
        world.end().await;
    }

    async fn what_is_told_at_once_is_no_more_than_clients_take(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let emails: Vec<String> = (0..60).map(|number| format!("{number}@example.com")).collect();
        ann.invites(&emails.iter().map(String::as_str).collect::<Vec<_>>(), "member").await;
        // Events of 100 kB each: sixty of them are more than the 4 MiB that a client takes unless told otherwise.
        let database = world.database().await;
        let role = "x".repeat(100_000);
        let payload = serde_json::json!({ "invitation_id": ann.organization_id, "role": role, "expire_time": "2026-01-12T09:00:00Z" });
        event::Entity::update_many()
            .filter(event::Column::Type.eq("invitation.created"))
            .col_expr(event::Column::Payload, Expr::value(payload))
            .exec(&database)
            .await
            .unwrap();
        database.close().await.unwrap();
        let watches = [
            ann.watches(from_beginning()).await.unwrap(),
            Watch::begin(&world.service("search"), from_beginning()).await.unwrap(),
        ];
        for mut watch in watches {
            for number in 1..=62 {
                assert_eq!(watch.next().await.unwrap().number, number);
            }
        }
        let request = pb::ExportEventsRequest { organization_id: ann.organization_id.clone(), types: Vec::new() };
        let mut stream = ann.log().export_events(request).await.unwrap().into_inner();
        let mut lines = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            lines.extend(message.lines);
        }
        assert_eq!(String::from_utf8(lines).unwrap().lines().count(), 62);
        world.end().await;
    }

    async fn what_is_seldom_is_found_behind_much_that_is_not_looked_for(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(30_000)), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        for batch in 0..26 {
            let emails: Vec<String> = (0..400).map(|number| format!("{batch}-{number}@example.com")).collect();
            ann.invites(&emails.iter().map(String::as_str).collect::<Vec<_>>(), "member").await;
        }
        let renamed = pb::Organization { name: "Acme Rockets".into(), ..ann.organization().await };
        ann.tries_to_update(&["name"], renamed).await.unwrap();
        let mut watch = Watch::begin(&world.service("search"), of(&["organization.updated"], from_beginning())).await.unwrap();
        assert_eq!(watch.next().await.unwrap().number, 2 + 26 * 400 + 1);
        world.end().await;
    }

    async fn a_watch_ends_with_the_token_that_it_was_begun_with(backend: Backend) {
        const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";
        let tokens = TokenSettings { secret: Some(SECRET.to_vec()), ..TokenSettings::default() };
        let world = World::with(backend, Setup { tokens: Some(tokens), ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let claims = MintedClaims { sub: "search".into(), scope: Some("platform".into()), ..MintedClaims::default() };
        let token = mint(SECRET, &claims, world.clock.now(), TimeDelta::seconds(2)).unwrap();
        let mut service = world.service("search");
        service.identity.0 = vec![("authorization", format!("Bearer {token}"))];
        let mut watch = Watch::begin(&service, from_beginning()).await.unwrap();
        assert_eq!(watch.types(2).await, ["organization.created", "member.joined"]);
        drop(ann);
        assert_eq!(watch.next().await.unwrap_err().is(), (Code::Unauthenticated, "TOKEN_EXPIRED"));
        world.end().await;
    }
}

/// What a purge takes away while events are being placed leaves no trace in the places of the others.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_placed_also_while_those_of_others_are_purged() {
    let world = World::with(Backend::Postgres, two_servers()).await;
    let (ann, bob) = (world.person("ann").founds("Acme").await, world.person("bob").founds("Beta").await);
    ann.invites(&["a@example.com"], "member").await;
    let connections = [world.database().await, world.database().await];
    let of_ann = format!("organization_id = '{}'", ann.organization_id);
    // Nobody places anything until all of it is unplaced and Ann's is about to go.
    let held = connections[0].begin().await.unwrap();
    held.execute_unprepared("SELECT 1 FROM event_feed FOR UPDATE").await.unwrap();
    connections[1].execute_unprepared("UPDATE event SET position = NULL").await.unwrap();
    let purge = connections[1].begin().await.unwrap();
    purge.execute_unprepared(&format!("DELETE FROM event WHERE {of_ann}")).await.unwrap();
    held.rollback().await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'WITH placed%'";
    until("the placing waits for the purge", async || world.number(waiting).await >= 1).await;
    purge.commit().await.unwrap();
    // Hers are gone with her, and Bob's come and go on coming.
    world.tampers(&format!("DELETE FROM organization WHERE {of_ann}")).await;
    let mut watch = Watch::begin(&world.service("search"), from_beginning()).await.unwrap();
    assert_eq!(watch.types(2).await, ["organization.created", "member.joined"]);
    bob.invites(&["b@example.com"], "member").await;
    assert_eq!(watch.types(1).await, ["invitation.created"]);
    let beyond = "SELECT count(*) FROM event, event_feed WHERE position IS NULL OR position > last_position";
    assert_eq!(world.number(beyond).await, 0);
    for connection in connections {
        connection.close().await.unwrap();
    }
    world.end().await;
}

/// What one of the servers that are killed and started again answers to.
#[derive(Clone)]
struct Servers(Arc<Mutex<Vec<Channel>>>);

impl Servers {
    fn any(&self, number: usize) -> Channel {
        let channels = self.0.lock().expect("nobody panics");
        channels[number % channels.len()].clone()
    }

    fn replace(&self, index: usize, channel: Channel) {
        self.0.lock().expect("nobody panics")[index] = channel;
    }
}

/// Invites somebody at one server after another until one has said that it is done.
async fn invites_at_last(person: &Person, servers: &Servers, number: usize) {
    let request = pb::InviteMembersRequest {
        organization_id: person.organization_id.clone(),
        emails: vec![format!("{number}@example.com")],
        role: "member".into(),
        request_id: format!("00000000-0000-4000-8000-{number:012x}"),
        ..Default::default()
    };
    let attempts = AtomicUsize::new(number);
    until("somebody is invited", async || {
        let channel = servers.any(attempts.fetch_add(1, Ordering::SeqCst));
        person.at(channel).members().invite_members(request.clone()).await.is_ok()
    })
    .await;
}

/// Watches everything at one server after another, from the latest cursor, and gives what came.
async fn hears_at_last(servers: &Servers, heard: &Mutex<Vec<pb::Event>>) {
    let (mut cursor, mut attempts) = (String::new(), 0);
    loop {
        attempts += 1;
        let service = Person::service(servers.any(attempts), "search");
        let asked = if cursor.is_empty() { from_beginning() } else { from(&cursor) };
        let Ok(stream) = service.log().watch_events(asked).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut stream = stream.into_inner();
        while let Ok(Some(message)) = stream.message().await {
            cursor = message.cursor;
            heard.lock().expect("nobody panics").extend(message.events);
        }
    }
}

/// What a server was telling an endpoint when it was killed no other tells for a minute, of which some seconds have to do here.
const FREE_ENDPOINTS: &str =
    "UPDATE webhook_endpoint SET claimed_until = NULL WHERE claimed_until < now() + interval '55 seconds'";

/// What was posted, each event when it came first.
fn first_posts(receiver: &Receiver) -> Vec<pb::Event> {
    let mut seen = BTreeSet::new();
    let events = receiver.posted().into_iter().map(|one| pb::Event {
        organization_id: one.json()["data"]["organization_id"].as_str().expect("an id").to_owned(),
        number: one.number(),
        event_id: one.headers["webhook-id"].clone(),
        ..Default::default()
    });
    events.filter(|event| seen.insert(event.event_id.clone())).collect()
}

/// A thousand changes of four organizations at two servers, which are killed one after the other all the time, and their database
/// besides: who watches hears every change that was committed, once, and those of each organization in their order; a webhook is told all
/// of them in that order, and a mailbox has every invitation.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_what_was_committed_is_told_once() {
    const CHANGES: usize = 250;
    let postgres = Server::start_private();
    let name = postgres.create_database(None).await;
    let directory = TempDir::new().expect("a directory");
    let plans = directory.path().join("plans.toml");
    std::fs::write(&plans, plans_with_seats(2_000)).expect("a file");
    let (receiver, webhooks) = (Receiver::start().await, directory.path().join("webhooks.toml"));
    std::fs::write(&webhooks, endpoint_of_all(&receiver.url())).expect("a file");
    let started = async || {
        let mut command = tenantry(directory.path());
        command.env("TENANTRY_DATABASE_URL", postgres.url(&name)).env("TENANTRY_PLANS", &plans);
        command.env("TENANTRY_INVITATION_URL", "https://app.example.com/join?t={token}");
        command.env("TENANTRY_WEBHOOKS", &webhooks);
        Process::start(command).await
    };
    let mut running = vec![started().await, started().await];
    let servers = Servers(Arc::new(Mutex::new(running.iter().map(Process::channel).collect())));
    let heard: Arc<Mutex<Vec<pb::Event>>> = Arc::default();
    let watching = {
        let (servers, heard) = (servers.clone(), Arc::clone(&heard));
        tokio::spawn(async move { hears_at_last(&servers, &heard).await })
    };
    let done = Arc::new(AtomicUsize::new(0));
    let mut writing = Vec::new();
    for number in 0..4 {
        let person = Person::new(servers.any(number), &format!("p{number}")).founds("Acme").await;
        let (servers, done) = (servers.clone(), Arc::clone(&done));
        writing.push(tokio::spawn(async move {
            for change in 0..CHANGES {
                invites_at_last(&person, &servers, change).await;
                done.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for (round, reached) in (50..4 * CHANGES).step_by(100).enumerate() {
        until("some is done", async || done.load(Ordering::SeqCst) >= reached).await;
        running[round % 2].signal("KILL");
        running[round % 2].ended().await;
        if round == 4 {
            postgres.stop().await;
            postgres.start().await;
        }
        running[round % 2] = started().await;
        servers.replace(round % 2, running[round % 2].channel());
        let database = sea_orm::Database::connect(postgres.url(&name)).await.expect("the database");
        database.execute_unprepared(FREE_ENDPOINTS).await.expect("a statement");
        database.close().await.expect("closed");
    }
    for writer in writing {
        writer.await.expect("a writer does not panic");
    }
    let database = sea_orm::Database::connect(postgres.url(&name)).await.expect("the database");
    let rows = event::Entity::find().all(&database).await.expect("the log");
    // Each change once, whatever broke off: its request was the same each time.
    assert_eq!(rows.len(), 4 * (CHANGES + 2));
    until("all is heard", async || heard.lock().expect("nobody panics").len() >= rows.len()).await;
    watching.abort();
    let heard = heard.lock().expect("nobody panics").clone();
    assert!(is_in_order(&heard));
    let sorted = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<_>>();
    let committed = sorted(rows.iter().map(|row| row.event_id.to_string()).collect());
    let heard_once = sorted(heard.iter().map(|event| event.event_id.clone()).collect());
    assert_eq!((heard.len(), &heard_once), (rows.len(), &committed));
    let posted = || sorted(receiver.posted().into_iter().map(|one| one.headers["webhook-id"].clone()).collect());
    until("every event is posted", async || {
        database.execute_unprepared(FREE_ENDPOINTS).await.expect("a statement");
        posted().is_superset(&committed)
    })
    .await;
    assert_eq!(posted(), committed, "nothing else is posted");
    assert!(is_in_order(&first_posts(&receiver)));
    // What a server was sending when it was killed no other tries for two minutes, which are over now.
    database.execute_unprepared("UPDATE mail SET due_at = created_at").await.expect("a statement");
    let invited: BTreeSet<Uuid> = invitation::Entity::find()
        .all(&database)
        .await
        .expect("invitations")
        .into_iter()
        .map(|row| row.invitation_id)
        .collect();
    let folder = directory.path().join("tenantry-mail");
    let mailed = || -> BTreeSet<Uuid> {
        letters(&folder).iter().map(|letter| Token::read(&letter.token()).expect("a token").invitation_id).collect()
    };
    until("every invitation is sent", async || mailed().is_superset(&invited)).await;
    assert_eq!(mailed(), invited, "nobody else is told");
    for mut server in running {
        server.stop().await;
    }
}
