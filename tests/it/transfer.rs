//! `tenantry import` and `tenantry export`, as an operator runs them: what is refused, what is written, what survives a kill.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Output};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, Statement};
use serde_json::{Value, json};
use tenantry::auth::policy::RolePolicy;
use tenantry::clock::Clock;
use tenantry::entity::{data_import, invitation, membership, organization, workspace_member};
use tenantry::pb;
use tenantry::pb::InvitationState as S;
use uuid::Uuid;

use crate::harness::binary::{Home, Process, finished, until};
use crate::harness::person::Person;
use crate::harness::world::recount;
use crate::harness::{Backend, database_tests};

const ACME: &str = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f01";
const BETA: &str = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f02";
const SALES: &str = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f11";
const LOBBY: &str = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f12";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn lines(lines: &[Value]) -> String {
    lines.iter().flat_map(|line| [line.to_string(), "\n".to_owned()]).collect()
}

fn in_days(days: i64) -> String {
    (Clock::System.now() + TimeDelta::days(days)).to_rfc3339()
}

fn organization(id: &str, slug: &str) -> Value {
    json!({"kind": "organization", "organization_id": id, "name": slug, "slug": slug, "create_time": "2020-02-29T12:00:00Z"})
}

fn member(id: &str, name: &str, role: &str) -> Value {
    json!({
        "kind": "member", "organization_id": id, "user_id": name, "email": format!("{name}@example.com"), "role": role,
        "join_time": "2021-03-04T05:06:07.891234Z",
    })
}

fn invitation(id: &str, name: &str, role: &str, expire_time: &str) -> Value {
    json!({
        "kind": "invitation", "organization_id": id, "email": format!("{name}@example.com"), "role": role,
        "create_time": "2025-12-01T00:00:00Z", "expire_time": expire_time,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "said where it is used, as json!")]
fn with(mut line: Value, more: Value) -> Value {
    let more = more.as_object().expect("an object").clone();
    line.as_object_mut().expect("an object").extend(more);
    line
}

/// An organization in which everything is that the format knows.
fn acme() -> Vec<Value> {
    let of_acme = |line: Value| with(line, json!({"organization_id": ACME}));
    vec![
        with(
            organization(ACME, "acme"),
            json!({"name": "Acme Ä", "description": "Makes\neverything", "logo_uri": "https://acme.example/l.png",
                   "time_zone": "Europe/Amsterdam", "default_of_user_id": "ann"}),
        ),
        of_acme(json!({"kind": "subscription", "plan_id": "team", "status": "trialing", "seats": 6,
                       "create_time": "2020-02-29T12:00:00Z"})),
        of_acme(json!({"kind": "role", "role": "org:helper", "title": "Helper", "description": "Helps\nwhere needed",
                       "permissions": ["organization_read"], "managed_by": ["admin"], "create_time": "2020-03-01T00:00:00Z"})),
        of_acme(
            json!({"kind": "workspace", "workspace_id": SALES, "name": "Sales", "create_time": "2020-03-01T00:00:00Z"}),
        ),
        of_acme(json!({"kind": "room", "workspace_id": LOBBY, "name": "Lobby", "slug": "acme-lobby",
                       "room_settings": {"access": "anyone", "lobby": true, "maximum_participants": 50},
                       "create_time": "2020-03-01T00:00:00Z"})),
        with(
            member(ACME, "bob", "org:helper"),
            json!({"display_name": "Bob Öst", "avatar_uri": "https://acme.example/bob.png", "workspace_ids": [LOBBY, SALES],
                   "last_sign_in_time": "2025-06-07T08:09:10Z"}),
        ),
        with(member(ACME, "cy", "owner"), json!({"suspend_time": "2024-01-01T00:00:00Z"})),
        with(member(ACME, "ann", "owner"), json!({"workspace_ids": [SALES]})),
        with(
            invitation(ACME, "dee", "member", &in_days(6)),
            json!({"workspace_ids": [SALES], "inviter_user_id": "ann"}),
        ),
        invitation(ACME, "eve", "admin", "2025-12-08T00:00:00Z"),
        with(
            invitation(ACME, "bob", "org:gone", "2025-12-08T00:00:00Z"),
            json!({"state": "accepted", "end_time": "2025-12-02T00:00:00Z", "invitee_user_id": "bob", "inviter_role": "admin",
                   "send_count": 3, "send_time": "2025-12-01T10:00:00Z"}),
        ),
    ]
}

/// An organization of so many members, each of whom is named by their number.
fn crowd(id: &str, slug: &str, members: usize) -> Vec<Value> {
    let mut file = vec![
        organization(id, slug),
        json!({"kind": "subscription", "organization_id": id, "plan_id": "business", "seats": members + members / 10 + 10,
               "create_time": "2020-02-29T12:00:00Z"}),
        json!({"kind": "workspace", "organization_id": id, "workspace_id": Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()),
               "name": "All", "create_time": "2020-02-29T12:00:00Z"}),
    ];
    for number in 0..members {
        // The one at the top stands in the middle.
        let role = if number == members / 2 { "owner" } else { "member" };
        let all = json!({"workspace_ids": [Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())]});
        file.push(with(member(id, &format!("{slug}{number}"), role), if number % 3 == 0 { all } else { json!({}) }));
        if number % 10 == 0 {
            file.push(invitation(id, &format!("guest{number}"), "member", "2099-01-01T00:00:00Z"));
        }
    }
    file
}

/// Two crowds, whose lines stand among one another.
fn two_crowds(members: usize) -> String {
    let (one, other) = (crowd(ACME, "acme", members), crowd(BETA, "beta", members));
    lines(&one.into_iter().zip(other).flat_map(|(one, other)| [one, other]).collect::<Vec<_>>())
}

fn put(home: &Home, name: &str, file: &str) {
    fs::write(home.directory.path().join(name), file).expect("a file can be written");
}

async fn runs(home: &Home, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = finished(home.tenantry(arguments)).await;
    assert!(status.success(), "{arguments:?}: {status}: {}", text(&stderr));
    text(&stdout)
}

async fn fails(home: &Home, arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = finished(home.tenantry(arguments)).await;
    assert_eq!(status.code(), Some(1), "{arguments:?}");
    text(&stderr)
}

async fn exported(home: &Home) -> Vec<String> {
    runs(home, &["export"]).await.lines().map(str::to_owned).collect()
}

/// Everything is in the books that is in the rows.
async fn books_are_right(home: &Home) {
    let database = home.database().await;
    let top_role = RolePolicy::load("owner-billing").expect("a preset").top_role().name.to_string();
    recount(&database, &top_role).await;
    database.close().await.expect("closed");
}

async fn number(home: &Home, sql: &str) -> i64 {
    let database = home.database().await;
    let row = database.query_one_raw(Statement::from_string(database.get_database_backend(), sql)).await;
    let number = row.expect("an answer").and_then(|row| row.try_get_by_index::<i64>(0).ok()).expect("a number");
    database.close().await.expect("closed");
    number
}

// === what is refused

database_tests! {
    async fn every_fault_is_told_with_its_line_and_nothing_is_written(backend: Backend) {
        let home = Home::new(backend).await;
        let missing = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6fff";
        let of_acme = |line: Value| with(line, json!({"organization_id": ACME}));
        let faulty = [
            lines(&[
                organization(ACME, "acme"),
                organization(BETA, "acme"),
                of_acme(json!({"kind": "subscription", "plan_id": "team", "seats": 251})),
                member(ACME, "ann", "owner"),
                with(member(ACME, "ann", "boss"), json!({"emial": "x", "email": "nobody"})),
                member(ACME, "ann", "boss"),
            ]),
            "{\"kind\": \"member\",\n\nno\u{0}\n".to_owned(),
            lines(&[
                member(missing, "bob", "member"),
                with(member(ACME, "bob", "member"), json!({"workspace_ids": [SALES]})),
                of_acme(json!({"kind": "workspace", "workspace_id": SALES, "name": "Sales"})),
                of_acme(json!({"kind": "room", "workspace_id": SALES, "name": "Room", "slug": "a"})),
                of_acme(json!({"kind": "role", "role": "org:x", "title": "X", "invites": ["org:y"], "permissions": ["fly", "roles_manage"]})),
                invitation(ACME, "bob", "member", "2099-01-01T00:00:00Z"),
                invitation(ACME, "cy", "member", "2099-01-01T00:00:00Z"),
                invitation(ACME, "CY", "org:z", "yesterday"),
                with(invitation(ACME, "CY", "org:z", "2099-01-01T00:00:00Z"), json!({"workspace_ids": [missing]})),
                member(ACME, "cy", "member"),
                json!({"kind": "member", "organization_id": "acme"}),
                json!({"kind": "membr", "organization_id": ACME}),
                json!([1]),
                with(organization("0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f03", "gamma"), json!({"default_of_user_id": "zoe"})),
                with(member("0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f03", "g", "owner"), json!({"suspend_time": "2020-01-01T00:00:00Z"})),
                json!({"kind": "subscription", "organization_id": BETA, "plan_id": "gold"}),
                json!({"kind": "subscription", "organization_id": BETA, "plan_id": "free", "seats": 1}),
                member(BETA, "a", "owner"),
                member(BETA, "b", "owner"),
            ]),
        ];
        put(&home, "f.jsonl", &faulty.concat());
        for arguments in [vec!["import", "f.jsonl"], vec!["import", "--check", "f.jsonl"]] {
            let told = fails(&home, &arguments).await;
            for expected in [
                "2: slug: is that of the organization on line 1 already",
                "3: seats: the plan `team` has 2 to 250 seats, not 251",
                "5: email: must have an @",
                "5: emial: is not a key",
                "6: user_id: is a member already, by line 4",
                "6: role: the role policy `owner-billing` has no `boss`",
                "7: is not JSON",
                "9: is not JSON",
                "10: organization_id: no line before this one is the organization's",
                "11: workspace_ids: no line before this one is workspace",
                "13: slug: must be 3 to 63",
                "14: permissions[0]: is not a permission",
                "14: permissions[1]: roles_manage is for roles of the role policy only",
                "17: expire_time: must be a time",
                "18: email: is invited already, by line 16",
                "18: role: no line before this one defines `org:z`",
                "18: workspace_ids: no line before this one is workspace",
                "20: organization_id: must be a UUID",
                "20: user_id: must be said",
                "21: kind: must be one of",
                "22: must be a JSON object",
                "23: default_of_user_id: is not a member of the organization",
                "23: no active member of the organization is in the top role `owner`",
                "25: plan_id: `gold` is not in the catalogue",
                "26: organization_id: has the subscription on line 25 already",
                "faults; nothing was written",
            ] {
                assert!(told.contains(expected), "{expected} is not in\n{told}");
            }
            // A member may have the address of somebody who is invited: addresses change when people sign in.
            assert!(["12: ", "15: ", "16: ", "19: "].iter().all(|sound| !told.contains(sound)), "{told}");
        }
        for table in ["organization", "membership", "data_import"] {
            assert_eq!(number(&home, &format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
        }
        home.end().await;
    }
}

database_tests! {
    async fn an_organization_needs_seats_for_all_who_have_one(backend: Backend) {
        let home = Home::new(backend).await;
        let people = |more: &[Value]| {
            let mut file = vec![organization(ACME, "acme"), member(ACME, "a", "owner"), member(ACME, "b", "member")];
            file.extend(more.iter().cloned());
            lines(&file)
        };
        // The default plan includes four. Who is suspended and what has expired has none.
        let free = [
            invitation(ACME, "c", "member", "2099-01-01T00:00:00Z"),
            invitation(ACME, "d", "member", "2099-01-01T00:00:00Z"),
            invitation(ACME, "e", "member", "2025-01-01T00:00:00Z"),
            with(member(ACME, "f", "member"), json!({"suspend_time": "2024-01-01T00:00:00Z"})),
        ];
        let one_more = invitation(ACME, "g", "member", "2099-01-01T00:00:00Z");
        put(&home, "many.jsonl", &people(&[free.as_slice(), &[one_more]].concat()));
        let told = fails(&home, &["import", "many.jsonl"]).await;
        assert!(told.contains("1: seats: there are 4, for 2 active members and 3 pending invitations"), "{told}");
        put(&home, "enough.jsonl", &people(&free));
        let printed = runs(&home, &["import", "--check", "enough.jsonl"]).await;
        assert!(printed.contains("no fault: 1 organizations, 3 members, 3 invitations"), "{printed}");
        assert_eq!(number(&home, "SELECT count(*) FROM organization").await, 0);
        runs(&home, &["import", "enough.jsonl"]).await;
        books_are_right(&home).await;
        home.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_has_no_more_than_the_contract_lets_it_have() {
    let home = Home::new(Backend::Sqlite).await;
    let role =
        |number| json!({"kind": "role", "organization_id": ACME, "role": format!("org:r{number}"), "title": "R"});
    let workspace = |number: usize| {
        let room = json!({"kind": "room", "slug": format!("room-{number}")});
        let id = Uuid::from_u128(number as u128 + 1);
        let line = json!({"kind": "workspace", "organization_id": ACME, "workspace_id": id, "name": "W"});
        if number.is_multiple_of(2) { line } else { with(line, room) }
    };
    let file = |roles: usize, workspaces: usize, assigned: usize, most: i64| {
        let ids: Vec<Uuid> = (0..assigned).map(|number| Uuid::from_u128(number as u128 + 1)).collect();
        let mut file = vec![organization(ACME, "acme")];
        file.extend((0..roles).map(role));
        file.extend((0..workspaces).map(workspace));
        file.push(with(
            workspace(1),
            json!({"workspace_id": SALES, "slug": "last", "room_settings": {"maximum_participants": most}}),
        ));
        file.push(with(member(ACME, "a", "owner"), json!({"workspace_ids": ids})));
        lines(&file)
    };
    put(&home, "over.jsonl", &file(51, 1000, 501, 100_001));
    let told = fails(&home, &["import", "over.jsonl"]).await;
    for expected in [
        "1: the organization has 51 roles of its own, and none can have more than 50",
        "1053: room_settings.maximum_participants: must be 0 to 100000",
        "1054: workspace_ids: must have at most 500 items",
        "3 faults; nothing was written",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
    put(&home, "over.jsonl", &file(50, 1000, 500, 100_000));
    let told = fails(&home, &["import", "over.jsonl"]).await;
    assert!(
        told.contains("1: the organization has 1001 workspaces and rooms, and none can have more than 1000"),
        "{told}"
    );
    assert!(told.contains("1 faults; nothing was written"), "{told}");
    put(&home, "most.jsonl", &file(50, 999, 500, 100_000));
    runs(&home, &["import", "most.jsonl"]).await;
    books_are_right(&home).await;
    home.end().await;
}

database_tests! {
    async fn what_is_taken_in_the_database_is_a_fault_and_the_same_file_again_is_done(backend: Backend) {
        let home = Home::new(backend).await;
        put(&home, "acme.jsonl", &lines(&acme()));
        runs(&home, &["import", "acme.jsonl"]).await;
        let before = exported(&home).await;
        let again = runs(&home, &["import", "acme.jsonl"]).await;
        assert!(again.contains("the file was imported before"), "{again}");

        let mut other = acme();
        other[0]["description"] = "another".into();
        put(&home, "other.jsonl", &lines(&other));
        let told = fails(&home, &["import", "other.jsonl"]).await;
        for expected in [
            "1: organization_id: is that of an organization in the database",
            "1: slug: is that of an organization in the database",
            "1: default_of_user_id: has an organization in the database",
            "5: slug: is that of a room in the database",
        ] {
            assert!(told.contains(expected), "{expected} is not in\n{told}");
        }
        assert!(told.contains("4 faults; nothing was written"), "{told}");
        assert_eq!(exported(&home).await, before);

        let wrong = fails(&home, &["import", "acme.jsonl", "--role-policy", "split-admin"]).await;
        assert!(wrong.contains("the top role of this database is `owner`"), "{wrong}");
        let none = fails(&home, &["import", "none.jsonl"]).await;
        assert!(none.contains("none.jsonl: No such file"), "{none}");
        home.end().await;
    }
}

// === what is written

database_tests! {
    async fn what_is_exported_is_what_was_imported_and_imports_again(backend: Backend) {
        let (home, second) = (Home::new(backend).await, Home::new(backend).await);
        put(&home, "acme.jsonl", &lines(&acme()));
        let printed = runs(&home, &["import", "acme.jsonl"]).await;
        assert!(printed.starts_with("imported 1 organizations, 3 members, 3 invitations and 2 workspaces"), "{printed}");
        books_are_right(&home).await;

        // A server's own doing is in it too.
        let mut server = Process::start(home.tenantry(&[])).await;
        let ann = Person::new(server.channel(), "ann").acting_in(ACME, "owner");
        let guest = ann.invites(&["fay@example.com"], "member").await;
        ann.tries_to_cancel(&[&guest[0].invitation.as_ref().expect("one").invitation_id]).await.expect("canceled");
        ann.brings("gus", "admin").await;
        Person::new(server.channel(), "hal").founds("Hal's").await.deletes_organization().await;
        Person::new(server.channel(), "ida").signs_in().await;
        server.stop().await;

        let written = exported(&home).await;
        let parsed: Vec<Value> = written.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let of = |kind: &str| parsed.iter().filter(|line| line["kind"] == kind).cloned().collect::<Vec<_>>();
        assert_eq!(of("organization").len(), 2);
        assert_eq!(of("organization")[0], acme()[0]);
        assert_eq!(of("subscription")[0], acme()[1]);
        assert_eq!(of("room")[0]["room_settings"]["access"], "anyone");
        assert_eq!(of("member").iter().find(|line| line["user_id"] == "bob"), Some(&with(acme()[5].clone(), json!({"workspace_ids": [SALES, LOBBY]}))));
        assert_eq!(of("invitation").len(), 5);
        let told = finished(home.tenantry(&["export", "--output", "e.jsonl"])).await;
        assert!(text(&told.stderr).contains("without 1 deleted organizations"), "{}", text(&told.stderr));
        let file = fs::read_to_string(home.directory.path().join("e.jsonl")).expect("the export");
        assert_eq!(file.lines().collect::<Vec<_>>(), written);

        put(&second, "e.jsonl", &file);
        runs(&second, &["import", "e.jsonl"]).await;
        assert_eq!(exported(&second).await, written);
        books_are_right(&second).await;

        let one = runs(&second, &["export", "--organization", ACME]).await;
        assert!(one.lines().all(|line| line.contains(ACME)) && one.lines().count() == written.len() - 3, "{one}");
        assert!(fails(&second, &["export", "--organization", BETA]).await.contains("there is no organization"));
        home.end().await;
        second.end().await;
    }
}

database_tests! {
    async fn the_service_works_with_what_was_imported(backend: Backend) {
        let home = Home::new(backend).await;
        put(&home, "acme.jsonl", &lines(&acme()));
        runs(&home, &["import", "acme.jsonl", "--batch-lines", "1"]).await;
        let mut server = Process::start(home.tenantry(&[])).await;
        let ann = Person::new(server.channel(), "ann").acting_in(ACME, "owner");
        let roles = [("ann", "owner"), ("bob", "org:helper"), ("cy", "owner")];
        let mut listed = ann.members_and_roles().await;
        listed.sort();
        assert_eq!(listed, roles.map(|(user, role)| (user.to_owned(), role.to_owned())));
        assert_eq!(ann.seats().await, "3 / 6 seats");
        assert_eq!(ann.invitations(&[S::Pending]).await, ["dee@example.com"]);
        assert_eq!(ann.invitations(&[S::Expired]).await, ["eve@example.com"]);
        let search = pb::ListMembersRequest { organization_id: ACME.into(), search: "ost".into(), ..Default::default() };
        assert_eq!(ann.tries_to_list(&search).await.expect("listed").members[0].user_id, "bob");
        // Sign-up has made an organization for ann before.
        let signed_in = ann.signs_in().await;
        assert!(!signed_in.created && signed_in.organization.expect("hers").slug == "acme");

        let dee = Person::new(server.channel(), "dee");
        let waiting = dee.received(0, "").await.invitations;
        let dees = waiting[0].invitation.clone().expect("an invitation");
        assert_eq!((dees.inviter_user_id.as_str(), dees.inviter_role.as_str()), ("ann", "owner"));
        dee.tries_to_accept_by_name(&dees).await.expect("accepted");
        let eves = ann.invites(&["eve@example.com"], "member").await;
        assert!(eves[0].resent && !eves[0].token.is_empty());
        Person::new(server.channel(), "eve").accepts(&eves[0].token).await;
        ann.tries_to_remove("bob").await.expect("removed");
        ann.tries_to_reactivate("cy").await.expect("reactivated");
        assert_eq!(ann.seats().await, "4 / 6 seats");
        server.stop().await;

        books_are_right(&home).await;
        let database = home.database().await;
        let events = tenantry::entity::event::Entity::find().all(&database).await.expect("events");
        let first = events.iter().find(|event| event.number == 1).expect("the first event");
        assert_eq!((first.r#type.as_str(), first.actor_service.as_deref()), ("organization.imported", Some("import")));
        assert_eq!(first.payload, json!({"members": 3, "invitations": 3, "workspaces": 2}));
        // One came with the import, the other with the invitation that was accepted.
        assert_eq!(workspace_member::Entity::find().all(&database).await.expect("rows").len(), 2);
        database.close().await.expect("closed");
        home.end().await;
    }
}

// === what survives

/// Starts an import and kills it when so many lines are written, or at any moment after.
async fn killed(home: &Home, after: i64) {
    let mut child: Child = home.tenantry(&["import", "f.jsonl", "--batch-lines", "16"]).spawn().expect("it runs");
    let database = home.database().await;
    until("some lines are written", async || {
        let rows = data_import::Entity::find().all(&database).await.unwrap_or_default();
        rows.iter().any(|row| row.lines_done >= after)
    })
    .await;
    child.kill().expect("killed");
    child.wait().expect("dead");
    database.close().await.expect("closed");
}

async fn lines_done(home: &Home) -> i64 {
    number(home, "SELECT lines_done FROM data_import").await
}

database_tests! {
    async fn an_import_that_is_killed_goes_on_and_comes_to_the_same(backend: Backend) {
        let (home, whole) = (Home::new(backend).await, Home::new(backend).await);
        let file = two_crowds(400);
        put(&home, "f.jsonl", &file);
        put(&whole, "f.jsonl", &file);
        runs(&home, &["migrate"]).await;
        runs(&whole, &["import", "f.jsonl"]).await;

        let mut seen = BTreeSet::new();
        for after in [1, 200, 450, 700] {
            killed(&home, after).await;
            seen.insert(lines_done(&home).await);
            books_are_right(&home).await;
            // A server of the version before knows nothing of them.
            if after == 200 {
                let sql = "UPDATE organization SET members_by_role = NULL WHERE slug = 'acme'";
                let database = home.database().await;
                database.execute_unprepared(sql).await.expect("forgotten");
                database.close().await.expect("closed");
            }
        }
        assert!(seen.len() == 4 && seen.iter().all(|lines| (1..890).contains(lines)), "{seen:?}");
        let printed = runs(&home, &["import", "f.jsonl"]).await;
        assert!(printed.contains("before were imported before"), "{printed}");
        assert_eq!(exported(&home).await, exported(&whole).await);
        books_are_right(&home).await;
        assert_eq!(number(&home, "SELECT count(*) FROM event").await, 2);
        assert_eq!(number(&home, "SELECT count(*) FROM organization WHERE members_by_role IS NULL AND slug = 'acme'").await, 1);
        assert_eq!(number(&home, "SELECT count(*) FROM membership").await, 800);
        assert_eq!(number(&home, "SELECT cast(sum(active_members) AS bigint) FROM organization WHERE last_event_number = 1").await, 800);
        home.end().await;
        whole.end().await;
    }
}

database_tests! {
    async fn seats_that_were_taken_meanwhile_stop_an_import_until_there_are_some_again(backend: Backend) {
        let home = Home::new(backend).await;
        put(&home, "f.jsonl", &lines(&crowd(ACME, "acme", 300)));
        runs(&home, &["migrate"]).await;
        killed(&home, 16).await;
        let free = number(&home, "SELECT seats_total - active_members - pending_invitations FROM organization").await;

        let mut server = Process::start(home.tenantry(&[])).await;
        let owner = Person::new(server.channel(), "acme150").acting_in(ACME, "owner");
        let greedy: Vec<String> = (0..free.min(200)).map(|number| format!("greedy{number}@example.com")).collect();
        let sent = owner.invites(&greedy.iter().map(String::as_str).collect::<Vec<_>>(), "member").await;
        server.stop().await;

        let told = fails(&home, &["import", "f.jsonl"]).await;
        assert!(told.contains("somebody took them meanwhile"), "{told}");
        books_are_right(&home).await;
        let mut server = Process::start(home.tenantry(&[])).await;
        let owner = owner.at(server.channel());
        let ids: Vec<&str> = sent.iter().map(|sent| sent.invitation.as_ref().expect("one").invitation_id.as_str()).collect();
        owner.tries_to_cancel(&ids).await.expect("canceled");
        server.stop().await;
        runs(&home, &["import", "f.jsonl"]).await;
        books_are_right(&home).await;
        assert_eq!(number(&home, "SELECT count(*) FROM membership").await, 300);
        home.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_postgres_goes_on_beside_an_import_and_two_imports_do_it_once() {
    let home = Home::new(Backend::Postgres).await;
    put(&home, "f.jsonl", &two_crowds(600));
    let mut server = Process::start(home.tenantry(&[])).await;
    let import = || {
        let mut command = home.tenantry(&["import", "f.jsonl", "--batch-lines", "8"]);
        std::thread::spawn(move || command.output().expect("it runs"))
    };
    let (one, other) = (import(), import());
    until("the organization is there", async || number(&home, "SELECT count(*) FROM organization").await > 0).await;
    let owner = Person::new(server.channel(), "acme300").acting_in(ACME, "owner");
    let (mut invited, mut removed) = (0, 0);
    while !(one.is_finished() && other.is_finished()) {
        let sent =
            owner.tries_to_invite(&[&format!("new{invited}@example.com")], "member").await.expect("a seat is free");
        let sent = sent[0].invitation.as_ref().expect("an invitation").invitation_id.clone();
        owner.tries_to_cancel(&[&sent]).await.expect("canceled");
        invited += 1;
        if owner.tries_to_remove(&format!("acme{invited}")).await.is_ok() {
            removed += 1;
        }
    }
    let outputs = [one.join().expect("ended"), other.join().expect("ended")];
    let (done, stopped): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.status.success());
    assert!(!done.is_empty(), "{outputs:?}");
    for stopped in stopped {
        let told = text(&stopped.stderr);
        assert!(told.contains("another process imports this file") || told.contains("in the database"), "{told}");
    }
    server.stop().await;
    assert!(invited > 0 && removed > 0);
    books_are_right(&home).await;
    assert_eq!(number(&home, "SELECT count(*) FROM membership").await, 1200 - removed);
    assert_eq!(number(&home, "SELECT count(*) FROM event WHERE type = 'organization.imported'").await, 2);
    home.end().await;
}

// === a snapshot

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_said_is_as_of_the_beginning_and_who_came_first_is_at_the_top() {
    let home = Home::new(Backend::Sqlite).await;
    let file = [
        json!({"kind": "organization", "organization_id": ACME, "name": "Acme", "slug": "acme", "description": null}),
        json!({"kind": "member", "organization_id": ACME, "user_id": "a", "email": " A@Example.com ", "role": "owner"}),
        json!({"kind": "invitation", "organization_id": ACME, "email": "b@x.com", "role": "member", "expire_time": in_days(1)}),
    ];
    put(&home, "f.jsonl", &lines(&file).replace('\n', "\r\n"));
    runs(&home, &["import", "f.jsonl"]).await;
    let database = home.database().await;
    let begun = data_import::Entity::find().one(&database).await.expect("read").expect("one").started_at;
    let row = organization::Entity::find().one(&database).await.expect("read").expect("one");
    assert_eq!((row.created_at, row.time_zone.as_str(), row.seats_total), (begun, "UTC", 4));
    let ann = membership::Entity::find().one(&database).await.expect("read").expect("one");
    assert_eq!(
        (ann.joined_at, ann.email.as_str(), ann.email_normalized.as_str()),
        (begun, "A@Example.com", "a@example.com")
    );
    assert_eq!(ann.last_sign_in_at, DateTime::<Utc>::UNIX_EPOCH);
    let sent = invitation::Entity::find().filter(invitation::Column::HoldsSeat.eq(true)).one(&database).await;
    let sent = sent.expect("read").expect("one");
    assert_eq!((sent.created_at, sent.sent_at, sent.send_count), (begun, begun, 1));
    assert_eq!((sent.inviter_role.as_str(), sent.token_hash.len()), ("owner", 0));
    database.close().await.expect("closed");
    home.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_the_server_has_the_file_to_itself() {
    let home = Home::new(Backend::Sqlite).await;
    put(&home, "acme.jsonl", &lines(&acme()));
    let mut server = Process::start(home.tenantry(&[])).await;
    for arguments in [vec!["import", "acme.jsonl"], vec!["export"], vec!["export", "--output", "e.jsonl"]] {
        assert!(fails(&home, &arguments).await.contains("in use by another process"));
    }
    server.stop().await;
    assert!(!home.directory.path().join("e.jsonl").exists());
    let help = runs(&home, &["export", "--help"]).await;
    assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains("on SQLite the server must be stopped"));
    home.end().await;
}
