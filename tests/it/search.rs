//! The search for members: what a person would call good, in organizations of any size.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};
use tenantry::database::{Database, DatabaseSettings};
use tenantry::entity::{membership, organization};
use tenantry::membership::store::index;
use tenantry::pb::{self, ListMembersRequest, MemberState};

use crate::harness::person::{Person, answer, by_token};
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests, postgres};

const EVERYBODY: [i32; 3] = [MemberState::Active as i32, MemberState::Suspended as i32, MemberState::Pending as i32];

/// Everybody who is found, page by page: the user or, while pending, the address.
async fn finds(who: &Person, request: &ListMembersRequest, most: usize) -> Vec<String> {
    let mut request = request.clone();
    let mut found = Vec::new();
    loop {
        let page = who.tries_to_list(&request).await.expect("listed");
        found.extend(
            page.members.into_iter().map(
                |member| {
                    if member.user_id.is_empty() { member.email } else { member.user_id }
                },
            ),
        );
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || found.len() >= most {
            return found;
        }
    }
}

async fn joins(world: &World, ann: &Person, user: &str, name: &str, email: &str) {
    let sent = ann.invites(&[email], "member").await.remove(0);
    let profile = pb::UserProfile { display_name: name.into(), ..Default::default() };
    let request = pb::AcceptInvitationRequest {
        invitation: Some(by_token(&sent.token)),
        profile: Some(profile),
        ..Default::default()
    };
    answer(world.person(user).with_email(email).members().accept_invitation(request).await).expect("accepted");
}

/// A member of the large organization.
fn face(organization_id: uuid::Uuid, number: usize, start: DateTime<Utc>) -> membership::Model {
    // Those who are called Zoe stand together by name; one in fifty has another domain, one in a thousand is rare.
    let first = ["Anna", "Bj\u{f6}rn", "Carl", "Zo\u{eb}"][(number * 7 / 3) % 4];
    let last = match number {
        n if n % 1000 == 7 => "Needle_100%".to_owned(),
        n => format!("Van{:x}berg", n.wrapping_mul(2_654_435_761) % 4096),
    };
    let domain = if number % 50 == 3 { "partner.example" } else { "example.com" };
    let email = format!("{}.{number}@{domain}", first.to_lowercase().replace(|c: char| !c.is_ascii(), "o"));
    let time = start + TimeDelta::seconds(i64::try_from((number * 7919) % 10_007).expect("small"));
    let mut row = membership::Model {
        organization_id,
        user_id: format!("user-{number:05}"),
        email: email.clone(),
        email_normalized: email,
        display_name: format!("{first} {last}"),
        sort_name: String::new(),
        search_text: String::new(),
        avatar_uri: String::new(),
        role: if number % 11 == 5 { "admin" } else { "member" }.into(),
        invitation_id: None,
        joined_at: time,
        last_sign_in_at: if number.is_multiple_of(2) { DateTime::UNIX_EPOCH } else { time },
        suspended_at: (number % 13 == 1).then_some(time),
        version: 1,
    };
    index(&mut row);
    row
}

/// Fills the organization behind the service's back, as an import does.
async fn crowd(world: &World, ann: &Person, size: usize) -> Vec<membership::Model> {
    let database = world.database().await;
    let organization_id: uuid::Uuid = ann.organization_id.parse().expect("an id");
    let mut faces: Vec<_> = (0..size).map(|number| face(organization_id, number, world.clock.now())).collect();
    for rows in faces.chunks(500) {
        let rows = rows.iter().cloned().map(membership::Model::into_active_model);
        membership::Entity::insert_many(rows).exec_without_returning(&database).await.expect("inserted");
    }
    let everybody = membership::Entity::find().filter(membership::Column::OrganizationId.eq(organization_id));
    // Ann, who founded it, among them.
    let ann = everybody.filter(membership::Column::UserId.eq("ann")).one(&database).await.expect("asked");
    faces.extend(ann);
    let active = faces.iter().filter(|row| row.suspended_at.is_none()).count();
    organization::Entity::update_many()
        .filter(organization::Column::OrganizationId.eq(organization_id))
        .col_expr(organization::Column::ActiveMembers, Expr::value(i64::try_from(active).expect("few")))
        .col_expr(organization::Column::MembersByRole, Expr::value(None::<sea_orm::JsonValue>))
        .exec(&database)
        .await
        .expect("counted");
    database.close().await.expect("closed");
    faces
}

const ORDERS: [&str; 8] = [
    "join_time",
    "join_time desc",
    "display_name",
    "display_name desc",
    "email",
    "email desc",
    "last_sign_in_time",
    "last_sign_in_time desc",
];

/// Whom a list shows, found by looking at everybody.
fn looked_at(faces: &[membership::Model], request: &ListMembersRequest, folded: &str) -> Vec<String> {
    let mut found: Vec<_> = faces
        .iter()
        .filter(|row| row.search_text.contains(folded))
        .filter(|row| request.roles.is_empty() || request.roles.contains(&row.role))
        .filter(|row| match request.states[..] {
            [] => true,
            [state] => row.suspended_at.is_some() == (state == i32::from(MemberState::Suspended)),
            _ => panic!("one state or none"),
        })
        .collect();
    let key = |row: &membership::Model| match request.order_by.split(' ').next() {
        Some("join_time") => (Some(row.joined_at), String::new()),
        Some("display_name") => (None, row.sort_name.clone()),
        Some("email") => (None, row.email_normalized.clone()),
        _ => (Some(row.last_sign_in_at), String::new()),
    };
    found.sort_by_key(|row| (key(row), row.user_id.clone()));
    if request.order_by.ends_with("desc") {
        found.reverse();
    }
    found.into_iter().map(|row| row.user_id.clone()).collect()
}

database_tests! {
    async fn a_search_of_a_large_organization_finds_whom_a_look_at_everybody_finds(backend: Backend) {
        const SIZE: usize = 6500;
        let setup = Setup { plans: Some(plans_with_seats(20_000)), ..Setup::default() };
        let world = World::with(backend, setup).await;
        let ann = world.person("ann").founds("Acme").await;
        let faces = crowd(&world, &ann, SIZE).await;
        // A neighbour whose members are nobody else's.
        let zed = world.person("zed").founds("Zeta").await;
        joins(&world, &zed, "needle", "Zo\u{eb} Needle_100%", "needle@partner.example").await;
        let texts = [
            // Rare, spread; together by name; frequent; short; nobody.
            ("needle_100%", "needle_100%"), ("ZO\u{cb}", "zoe"), ("partner.ex", "partner.ex"), ("example.c", "example.c"),
            ("oe", "oe"), ("_1", "_1"), ("nee%le", "nee%le"), ("nobody at all", "nobody at all"), ("e\\", "e\\"),
        ];
        for (number, order_by) in ORDERS.iter().enumerate() {
            for (asked, folded) in texts {
                let (roles, states) = match number % 4 {
                    1 => (vec!["member".to_owned()], vec![]),
                    2 => (vec![], vec![MemberState::Suspended.into()]),
                    3 => (vec!["admin".to_owned(), "owner".to_owned()], vec![MemberState::Active.into()]),
                    _ => (vec![], vec![]),
                };
                let request = ListMembersRequest {
                    order_by: (*order_by).into(), search: asked.into(), roles, states, page_size: 150, ..Default::default()
                };
                let expected = looked_at(&faces, &request, folded);
                let found = finds(&ann, &request, 600).await;
                assert_eq!(found.len(), expected.len().min(600), "{request:?}");
                assert_eq!(found, expected[..found.len()], "{request:?}");
            }
        }
        // Small pages of a rare text meet at no seam.
        let request = ListMembersRequest {
            order_by: "display_name".into(), search: "needle".into(), page_size: 2, ..Default::default()
        };
        assert_eq!(finds(&ann, &request, SIZE).await, looked_at(&faces, &request, "needle"));
        assert_eq!(finds(&zed, &request, SIZE).await, ["needle"]);
        // Who is expected is found among them.
        ann.invites(&["new-needle@example.com"], "member").await;
        let request = ListMembersRequest { states: EVERYBODY.to_vec(), order_by: "email".into(), ..request };
        let found = finds(&ann, &request, SIZE).await;
        assert_eq!(found.iter().filter(|who| *who == "new-needle@example.com").count(), 1);
        assert_eq!(found.len(), looked_at(&faces, &ListMembersRequest { states: vec![], ..request }, "needle").len() + 1);
        world.end().await;
    }

    async fn letters_that_others_do_not_have_on_their_keyboard_are_found_by_those_that_they_have(backend: Backend) {
        let setup = Setup { plans: Some(plans_with_seats(100)), ..Setup::default() };
        let world = World::with(backend, setup).await;
        let ann = world.person("ann").founds("Acme").await;
        for (user, name, email) in [
            ("lukasz", "\u{141}ukasz Wi\u{15b}niewski", "l.w+work@example.com"),
            ("soren", "S\u{f8}ren \u{c6}gir", "sa@firma.dk.example"),
            ("strauss", "Johann Strau\u{df}", "JOHANN@Example.com"),
            ("odysseus", "\u{39f}\u{3b4}\u{3c5}\u{3c3}\u{3c3}\u{3ad}\u{3c5}\u{3c2}", "o@example.com"),
            ("nihon", "\u{5c71}\u{7530} \u{592a}\u{90ce}", "taro@example.com"),
            ("back", "A\\B_C%D", "o'hara-smith@example.com"),
        ] {
            joins(&world, &ann, user, name, email).await;
        }
        ann.invites(&["Ren\u{e9}e@example.com"], "member").await;
        let found: [(&str, &[&str]); 22] = [
            ("lukasz", &["lukasz"]),
            ("\u{141}UKASZ", &["lukasz"]),
            ("sz wis", &["lukasz"]),
            ("w+work@", &["lukasz"]),
            ("soren ae", &["soren"]),
            ("S\u{d8}REN", &["soren"]),
            (".dk.", &["soren"]),
            ("strauss", &["strauss"]),
            ("STRAU\u{1e9e}", &["strauss"]),
            ("johann@example", &["strauss"]),
            ("\u{39f}\u{394}\u{3a5}\u{3a3}\u{3a3}\u{395}\u{3a5}\u{3a3}", &["odysseus"]),
            ("\u{7530} \u{592a}", &["nihon"]),
            ("\u{592a}", &["nihon"]),
            ("a\\b", &["back"]),
            ("\\b_c%d", &["back"]),
            ("b%c", &[]),
            ("a_b", &[]),
            ("'hara-", &["back"]),
            ("renee@", &["Ren\u{e9}e@example.com"]),
            ("ren\u{c9}", &["Ren\u{e9}e@example.com"]),
            ("ohara", &[]),
            ("* OR 1=1", &[]),
        ];
        for (search, expected) in found {
            for order_by in ORDERS {
                let request = ListMembersRequest {
                    search: search.into(), states: EVERYBODY.to_vec(), order_by: order_by.into(), ..Default::default()
                };
                assert_eq!(finds(&ann, &request, 9).await, expected, "{search:?} by {order_by}");
            }
        }
        world.end().await;
    }
}

/// A migration by somebody who may make tables but no extensions: everything works but the speed.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_owner_may_make_no_extensions_is_migrated_all_the_same() {
    let server = postgres::server();
    let name = server.create_database(None).await;
    let admin = sea_orm::Database::connect(server.url(&name)).await.expect("connected");
    let run = async |sql: &str| {
        use sea_orm::ConnectionTrait as _;
        admin.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    let role = format!("plain_{name}");
    run(&format!("CREATE ROLE \"{role}\"")).await;
    run(&format!("GRANT USAGE, CREATE ON SCHEMA public TO \"{role}\"")).await;
    let base = server.url(&name);
    let separator = if base.contains('?') { '&' } else { '?' };
    let url = format!("{base}{separator}options=-c%20role%3D{role}");
    let database = Database::connect(&DatabaseSettings::new(url)).await.expect("connected");
    database.migrate().await.expect("migrated");
    let count = async |sql: &str| {
        use sea_orm::{ConnectionTrait as _, Statement};
        let row = admin.query_one_raw(Statement::from_string(sea_orm::DbBackend::Postgres, sql)).await.expect("asked");
        row.and_then(|row| row.try_get_by_index::<i64>(0).ok()).expect("a number")
    };
    assert_eq!(count("SELECT count(*) FROM pg_extension WHERE extname IN ('pg_trgm', 'btree_gin')").await, 0);
    assert_eq!(count("SELECT count(*) FROM pg_indexes WHERE indexname = 'membership_search'").await, 0);
    let owner = format!("SELECT count(*) FROM pg_tables WHERE tablename = 'membership' AND tableowner = '{role}'");
    assert_eq!(count(&owner).await, 1);
    database.close().await.expect("closed");
    run(&format!("DROP OWNED BY \"{role}\"")).await;
    run(&format!("DROP ROLE \"{role}\"")).await;
    admin.close().await.expect("closed");
    server.drop_database(&name).await;
}
