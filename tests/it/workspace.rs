//! Workspaces and rooms, who is assigned to them, and who sees what of it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use serde_json::{Value, json};
use tenantry::entity::event;
use tenantry::pb::{self, CreateWorkspaceRequest, ListWorkspacesRequest, MemberState, RoomAccess, WorkspaceKind};
use tenantry::worker;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::race::{at_once, spread};
use crate::harness::refused::Refused;
use crate::harness::replay::replay;
use crate::harness::world::{Setup, World, plans_with_seats, roomy};
use crate::harness::{Backend, database_tests};

const MISSING: (Code, &str) = (Code::NotFound, "WORKSPACE_NOT_FOUND");
const LACKS: (Code, &str) = (Code::PermissionDenied, "ROLE_LACKS_PERMISSION");
const INVALID: (Code, &str) = (Code::InvalidArgument, "INVALID_FIELDS");
const LIMIT: (Code, &str) = (Code::FailedPrecondition, "LIMIT_REACHED");
const TAKEN: (Code, &str) = (Code::AlreadyExists, "ROOM_SLUG_TAKEN");
const EVENT: &str = "member.workspaces_changed";
const NOBODYS: &str = "01234567-89ab-7cde-8f01-23456789abcd";

/// A call of one kind or another.
type Call = std::pin::Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>;

/// The events of these types, each with its payload, in their order.
async fn told(world: &World, organization_id: &str, types: &[&str]) -> Vec<(String, Value)> {
    let database = world.database().await;
    let id = uuid::Uuid::parse_str(organization_id).expect("an id");
    let rows = event::Entity::find().filter(event::Column::OrganizationId.eq(id)).order_by_asc(event::Column::Number);
    let rows = rows.all(&database).await.expect("the log can be read");
    let told = rows.into_iter().filter(|row| types.contains(&row.r#type.as_str()));
    told.map(|row| (row.r#type, row.payload)).collect()
}

async fn last(world: &World, organization_id: &str, r#type: &str) -> Value {
    told(world, organization_id, &[r#type]).await.pop().unwrap_or_else(|| panic!("no {type}")).1
}

async fn number_of_events(world: &World) -> i64 {
    world.number("SELECT count(*) FROM event").await
}

fn users(members: &[pb::Member]) -> Vec<&str> {
    members.iter().map(|member| member.user_id.as_str()).collect()
}

fn sorted(ids: &[&str]) -> Vec<String> {
    let ids: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    ids.into_iter().collect()
}

fn searching(search: &str) -> ListWorkspacesRequest {
    ListWorkspacesRequest { search: search.into(), ..Default::default() }
}

async fn names(person: &Person, request: &ListWorkspacesRequest) -> Vec<String> {
    let listed = person.tries_to_list_workspaces(request).await.expect("listed");
    listed.workspaces.into_iter().map(|workspace| workspace.name).collect()
}

async fn members_of(person: &Person, workspace_id: &str) -> Vec<String> {
    let listed = person.tries_to_list_workspace_members(workspace_id, 0, "").await.expect("listed");
    listed.members.into_iter().map(|member| member.user_id).collect()
}

fn in_workspace(workspace_id: &str, states: &[MemberState]) -> pb::ListMembersRequest {
    pb::ListMembersRequest {
        workspace_id: workspace_id.into(),
        states: states.iter().map(|state| i32::from(*state)).collect(),
        ..Default::default()
    }
}

/// Ids of workspaces that there are not.
fn strange_ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("01234567-89ab-7cde-8f01-{number:012}")).collect()
}

fn borrowed(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

/// A role of the organization's own that may do this, invite members among it; and makes `name` hold it.
async fn holds_own_role(world: &World, person: &Person, permissions: &[&str]) -> Person {
    let definition = json!({
        "permissions": permissions, "invites": ["member"], "changes": [], "removes": [], "managed_by": []
    });
    world
        .tampers(&format!(
            "INSERT INTO custom_role SELECT organization_id, 'org:own', 'Own', '', '{definition}', created_at, created_at, 1 \
             FROM organization"
        ))
        .await;
    world.tampers("UPDATE organization SET custom_roles = 1, members_by_role = NULL").await;
    world.tampers(&format!("UPDATE membership SET role = 'org:own' WHERE user_id = '{}'", person.name)).await;
    person.acting_in(&person.organization_id, "org:own")
}

/// Two servers where the database can have them, and seats enough.
async fn contested(backend: Backend) -> World {
    let setup = Setup { plans: Some(plans_with_seats(100)), servers: 2, ..Setup::default() };
    World::with(backend, setup).await
}

fn endings<T>(outcomes: &[Result<T, Refused>]) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for outcome in outcomes {
        let ending = outcome.as_ref().map_or_else(|refused| refused.reason.clone(), |_| "OK".to_owned());
        *count.entry(ending).or_default() += 1;
    }
    count
}

database_tests! {
    async fn a_workspace_from_its_making_to_its_end(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let request = CreateWorkspaceRequest {
            name: "  Sales Team ".into(),
            description: "Everybody who sells.".into(),
            ..Default::default()
        };
        let made = ann.tries_to_open(request).await.expect("created");
        assert_eq!((made.kind(), made.name.as_str(), made.slug.as_str()), (WorkspaceKind::Workspace, "Sales Team", ""));
        assert_eq!((made.room_settings, made.etag.as_str()), (None, "v1"));
        assert_eq!((made.create_time, made.update_time), (Some(world.wire_time()), Some(world.wire_time())));
        assert_eq!(ann.workspace(&made.workspace_id).await.as_ref(), Ok(&made));
        let id = made.workspace_id.clone();
        assert_eq!(
            last(&world, &ann.organization_id, "workspace.created").await,
            json!({"workspace_id": id, "kind": "workspace", "name": "Sales Team"})
        );

        world.pass(TimeDelta::minutes(1));
        let wish = pb::Workspace { name: "Sales".into(), description: "Nobody".into(), ..made.clone() };
        let changed = ann.tries_to_update_workspace(&["name"], wish.clone()).await.expect("changed");
        let expected = pb::Workspace {
            name: "Sales".into(),
            update_time: Some(world.wire_time()),
            etag: "v2".into(),
            ..made.clone()
        };
        assert_eq!(changed, expected, "only what the mask names");
        assert_eq!(
            last(&world, &ann.organization_id, "workspace.updated").await,
            json!({"workspace_id": id, "changes": [{"field": "name", "before": "Sales Team", "after": "Sales"}]})
        );
        let refused = ann.tries_to_update_workspace(&["name"], wish).await.expect_err("read before the change");
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(refused.metadata["etag"], "v2");
        let before = number_of_events(&world).await;
        world.pass(TimeDelta::minutes(1));
        assert_eq!(ann.tries_to_update_workspace(&["name", "description"], changed.clone()).await, Ok(changed.clone()));
        assert_eq!(number_of_events(&world).await, before, "what changes nothing is no event");

        let stale = pb::DeleteWorkspaceRequest {
            organization_id: ann.organization_id.clone(),
            workspace_id: id.clone(),
            etag: "v1".into(),
            ..Default::default()
        };
        let refused = answer(ann.workspaces().delete_workspace(stale.clone()).await).expect_err("stale");
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        let rehearsed = pb::DeleteWorkspaceRequest { validate_only: true, etag: "v2".into(), ..stale };
        answer(ann.workspaces().delete_workspace(rehearsed).await).expect("would be deleted");
        ann.tries_to_assign("ann", &[&id]).await.expect("assigned, oneself");
        assert_eq!(ann.tries_to_close(&id).await, Ok(1));
        assert_eq!(
            last(&world, &ann.organization_id, "workspace.deleted").await,
            json!({"workspace_id": id, "kind": "workspace", "name": "Sales", "unassigned_members": 1})
        );
        for refused in [
            ann.workspace(&id).await.expect_err("gone"),
            ann.tries_to_close(&id).await.expect_err("gone"),
            ann.tries_to_update_workspace(&["name"], changed).await.expect_err("gone"),
            ann.tries_to_list_workspace_members(&id, 0, "").await.expect_err("gone"),
        ] {
            assert_eq!((refused.is(), refused.metadata["workspace_id"].as_str()), (MISSING, id.as_str()));
        }
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn a_room_has_a_join_slug_of_its_own_that_can_change(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let zed = world.person("zed").founds("Zeta").await;
        let meetings = world.service("meetings");
        let daily = ann.tries_to_open_room("Daily Stand-up", "").await.expect("created");
        assert_eq!((daily.kind(), daily.slug.as_str()), (WorkspaceKind::Room, "daily-stand-up"));
        let settings = daily.room_settings.expect("settings");
        assert_eq!(settings, pb::RoomSettings { access: RoomAccess::Members.into(), ..Default::default() });
        assert_eq!(ann.tries_to_open_room("日本", "").await.expect("created").slug, "room");
        let other = zed.tries_to_open_room("Daily stand-up!", "").await.expect("another organization's");
        assert!(other.slug.starts_with("daily-stand-up-") && other.slug.len() == 23, "{}", other.slug);
        let refused = zed.tries_to_open_room("Mine", "daily-stand-up").await.expect_err("taken");
        assert_eq!((refused.is(), refused.metadata["slug"].as_str()), (TAKEN, "daily-stand-up"));

        assert_eq!(meetings.tries_to_look_up("daily-stand-up").await.as_ref(), Ok(&daily));
        let renamed = pb::Workspace { slug: "standup".into(), ..daily.clone() };
        let renamed = ann.tries_to_update_workspace(&["slug"], renamed).await.expect("renamed");
        assert_eq!(
            last(&world, &ann.organization_id, "workspace.updated").await["changes"],
            json!([{"field": "slug", "before": "daily-stand-up", "after": "standup"}])
        );
        let refused = meetings.tries_to_look_up("daily-stand-up").await.expect_err("free again");
        assert_eq!((refused.is(), refused.metadata["slug"].as_str()), (MISSING, "daily-stand-up"));
        assert_eq!(meetings.tries_to_look_up("standup").await, Ok(renamed));
        let wish = pb::Workspace { slug: "standup".into(), ..other.clone() };
        let refused = zed.tries_to_update_workspace(&["slug"], wish).await.expect_err("taken");
        assert_eq!(refused.is(), TAKEN);
        zed.tries_to_open_room("Mine", "daily-stand-up").await.expect("free again");

        // Only services ask without saying whose room it is, and those of a deleted organization are nobody's.
        let refused = ann.tries_to_look_up("standup").await.expect_err("a user");
        assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        assert_eq!(meetings.tries_to_look_up("No Slug").await.expect_err("no slug").fields, ["slug"]);
        ann.deletes_organization().await;
        assert_eq!(meetings.tries_to_look_up("standup").await.expect_err("deleted").is(), MISSING);
        let refused = zed.tries_to_open_room("Mine", "standup").await.expect_err("it may come back");
        assert_eq!(refused.is(), TAKEN);
        let refused = ann.tries_to_open_room("More", "").await.expect_err("deleted");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "ORGANIZATION_DELETED"));
        ann.tries_to_undelete().await.expect("undeleted");
        assert_eq!(meetings.tries_to_look_up("standup").await.expect("back").workspace_id, daily.workspace_id);
        ann.tries_to_close(&daily.workspace_id).await.expect("deleted");
        zed.tries_to_open_room("Mine", "standup").await.expect("free again");
        world.end().await;
    }

    async fn how_a_room_behaves_is_set_whole_or_field_by_field(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let settings = pb::RoomSettings {
            access: RoomAccess::Anyone.into(),
            lobby: true,
            maximum_participants: 100_000,
            ..Default::default()
        };
        let request = CreateWorkspaceRequest {
            kind: WorkspaceKind::Room.into(),
            name: "Town hall".into(),
            room_settings: Some(settings),
            ..Default::default()
        };
        let room = ann.tries_to_open(request).await.expect("created");
        assert_eq!(room.room_settings, Some(settings));
        let wish = pb::RoomSettings { mute_on_entry: true, ..Default::default() };
        let wish = |etag: &str| pb::Workspace { room_settings: Some(wish), etag: etag.into(), ..room.clone() };
        let mask = ["room_settings.mute_on_entry", "room_settings.maximum_participants"];
        let changed = ann.tries_to_update_workspace(&mask, wish("")).await.expect("changed");
        let expected = pb::RoomSettings { mute_on_entry: true, maximum_participants: 0, ..settings };
        assert_eq!(changed.room_settings, Some(expected));
        assert_eq!(
            last(&world, &ann.organization_id, "workspace.updated").await["changes"],
            json!([
                {"field": "room_settings.mute_on_entry", "before": "false", "after": "true"},
                {"field": "room_settings.maximum_participants", "before": "100000", "after": "0"}
            ])
        );
        let changed = ann.tries_to_update_workspace(&["room_settings"], wish("v2")).await.expect("changed");
        let expected =
            pb::RoomSettings { access: RoomAccess::Members.into(), mute_on_entry: true, ..Default::default() };
        assert_eq!(changed.room_settings, Some(expected), "as a new room, but for what was said");
        assert_eq!(
            last(&world, &ann.organization_id, "workspace.updated").await["changes"],
            json!([
                {"field": "room_settings.access", "before": "anyone", "after": "members"},
                {"field": "room_settings.lobby", "before": "true", "after": "false"}
            ])
        );
        let gone = pb::Workspace { room_settings: None, etag: String::new(), ..room.clone() };
        let changed = ann.tries_to_update_workspace(&["room_settings"], gone).await.expect("changed");
        assert!(!changed.room_settings.expect("settings").mute_on_entry);
        assert_eq!(ann.workspace(&room.workspace_id).await, Ok(changed));
        world.end().await;
    }

    async fn every_fault_of_a_workspace_is_named_at_once(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let settings = pb::RoomSettings { access: 9, maximum_participants: 100_001, ..Default::default() };
        let request = |kind: WorkspaceKind| CreateWorkspaceRequest {
            kind: kind.into(),
            name: " ".into(),
            description: "x".repeat(1001),
            slug: "-no-".into(),
            room_settings: Some(settings),
            ..Default::default()
        };
        let refused = ann.tries_to_open(request(WorkspaceKind::Room)).await.expect_err("faulty");
        let faults = ["name", "description", "slug", "room_settings.access", "room_settings.maximum_participants"];
        assert_eq!((refused.is(), refused.fields.as_slice()), (INVALID, faults.map(str::to_owned).as_slice()));
        let refused = ann.tries_to_open(request(WorkspaceKind::Unspecified)).await.expect_err("faulty");
        assert_eq!(refused.fields, ["name", "description", "slug", "room_settings"]);
        let unknown = CreateWorkspaceRequest { kind: 7, name: "A".into(), ..Default::default() };
        assert_eq!(ann.tries_to_open(unknown).await.expect_err("faulty").fields, ["kind"]);

        let id = ann.opens("Sales").await;
        let sales = ann.workspace(&id).await.expect("found");
        for mask in [&[][..], &["name", "kind"], &["room_settings.none"], &["room_settings."], &["name"; 11]] {
            let refused = ann.tries_to_update_workspace(mask, sales.clone()).await.expect_err("faulty");
            assert_eq!((refused.is(), refused.fields.clone()), (INVALID, vec!["update_mask".to_owned()]), "{mask:?}");
        }
        for mask in ["slug", "room_settings", "room_settings.lobby"] {
            let wish = pb::Workspace { slug: "sales".into(), etag: "v9".into(), ..sales.clone() };
            let refused = ann.tries_to_update_workspace(&["name", mask], wish).await.expect_err("no room");
            assert_eq!((refused.is(), refused.fields.clone()), (INVALID, vec!["update_mask".to_owned()]), "{mask}");
        }
        let wish = pb::Workspace { workspace_id: "x".into(), name: String::new(), ..sales.clone() };
        let refused = ann.tries_to_update_workspace(&["name", "slug"], wish).await.expect_err("faulty");
        assert_eq!(refused.fields, ["workspace_id", "workspace.name", "workspace.slug"]);
        assert_eq!(ann.workspace(&id).await, Ok(sales));
        let wrong = ListWorkspacesRequest {
            kind: 5,
            user_id: "\n".into(),
            search: "x".repeat(101),
            page_size: -1,
            ..Default::default()
        };
        let refused = ann.tries_to_list_workspaces(&wrong).await.expect_err("faulty");
        assert_eq!(refused.fields, ["user_id", "kind", "search", "page_size"]);
        let refused = ann.tries_to_list_workspace_members("?", 0, "").await.expect_err("faulty");
        assert_eq!(refused.fields, ["workspace_id"]);
        world.end().await;
    }

    async fn managers_list_all_workspaces_and_members_their_own(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let cas = ann.brings("cas", "member").await;
        for name in ["Émile", "berlin", "Amsterdam", "100%", "a_b"] {
            ann.opens(name).await;
        }
        ann.tries_to_open_room("Atrium", "").await.expect("created");
        assert_eq!(ann.workspace_names().await, ["100%", "a_b", "Amsterdam", "Atrium", "berlin", "Émile"]);
        assert_eq!(names(&ann, &searching("EM")).await, ["Émile"]);
        assert_eq!(names(&ann, &searching("%")).await, ["100%"]);
        assert_eq!(names(&ann, &searching("_")).await, ["a_b"]);
        let rooms = ListWorkspacesRequest { kind: WorkspaceKind::Room.into(), ..Default::default() };
        assert_eq!(names(&ann, &rooms).await, ["Atrium"]);
        // Pages of two, whose tokens are of this list alone.
        let mut request = ListWorkspacesRequest { page_size: 2, ..Default::default() };
        let mut seen = Vec::new();
        loop {
            let page = ann.tries_to_list_workspaces(&request).await.expect("listed");
            seen.extend(page.workspaces.into_iter().map(|workspace| workspace.name));
            if page.next_page_token.is_empty() {
                break;
            }
            let other = ListWorkspacesRequest { page_token: page.next_page_token.clone(), ..searching("a") };
            let refused = ann.tries_to_list_workspaces(&other).await.expect_err("of another list");
            assert_eq!(refused.is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen, ann.workspace_names().await);

        let all = ann.tries_to_list_workspaces(&ListWorkspacesRequest::default()).await.expect("listed").workspaces;
        let id = |name: &str| all.iter().find(|one| one.name == name).expect("there").workspace_id.clone();
        ann.tries_to_assign("bob", &[&id("berlin"), &id("Atrium")]).await.expect("assigned");
        assert_eq!(bob.workspace_names().await, ["Atrium", "berlin"]);
        assert!(cas.workspace_names().await.is_empty());
        assert_eq!(names(&bob, &searching("a")).await, ["Atrium"]);
        let of = |user_id: &str| ListWorkspacesRequest { user_id: user_id.into(), ..Default::default() };
        assert_eq!(names(&bob, &of("bob")).await, ["Atrium", "berlin"]);
        assert_eq!(names(&ann, &of("bob")).await, ["Atrium", "berlin"]);
        assert!(names(&ann, &of("nobody")).await.is_empty());
        let refused = bob.tries_to_list_workspaces(&of("ann")).await.expect_err("another's");
        assert_eq!((refused.is(), refused.metadata["permission"].as_str()), (LACKS, "workspaces_list_all"));
        assert_eq!(bob.workspace(&id("berlin")).await.expect("their own").name, "berlin");
        for (who, whose) in [(&bob, id("Amsterdam")), (&cas, id("berlin")), (&bob, NOBODYS.to_owned())] {
            assert_eq!(who.workspace(&whose).await.expect_err("not theirs").is(), MISSING);
        }
        let refused = bob.tries_to_list_workspace_members(&id("berlin"), 0, "").await.expect_err("not for members");
        assert_eq!(refused.is(), LACKS);
        let directory = Person { organization_id: ann.organization_id.clone(), ..world.service("directory") };
        assert_eq!(directory.workspace_names().await.len(), 6);
        assert_eq!(names(&directory, &of("bob")).await, ["Atrium", "berlin"]);
        assert_eq!(directory.workspace(&id("Amsterdam")).await.expect("found").name, "Amsterdam");
        assert_eq!(members_of(&directory, &id("berlin")).await, ["bob"]);
        // What is another organization's is not there.
        let zed = world.person("zed").founds("Zeta").await;
        assert!(zed.workspace_names().await.is_empty());
        assert_eq!(zed.workspace(&id("berlin")).await.expect_err("of another").is(), MISSING);
        assert_eq!(zed.tries_to_close(&id("berlin")).await.expect_err("of another").is(), MISSING);
        let refused = zed.tries_to_assign("zed", &[&id("berlin")]).await.expect_err("of another");
        assert_eq!(refused.is(), MISSING);
        world.end().await;
    }

    async fn who_may_not_manage_workspaces_changes_none(backend: Backend) {
        let world = World::with(backend, Setup { policy: "split-admin".into(), ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let id = ann.opens("Sales").await;
        let sales = ann.workspace(&id).await.expect("found");
        for (name, role) in [("bill", "billing_admin"), ("mia", "member")] {
            let person = ann.brings(name, role).await;
            let before = number_of_events(&world).await;
            // Before anything else: neither what is wrong nor what is there is told.
            for refused in [
                person.tries_to_open(CreateWorkspaceRequest::default()).await.expect_err("may not"),
                person.tries_to_update_workspace(&[], sales.clone()).await.expect_err("may not"),
                person.tries_to_close("?").await.expect_err("may not"),
                person.tries_to_move(name, None).await.expect_err("may not"),
            ] {
                assert_eq!((refused.is(), refused.metadata["permission"].as_str()), (LACKS, "workspaces_manage"));
            }
            let pretending = person.acting_in(&ann.organization_id, "admin");
            let refused = pretending.tries_to_close(&id).await.expect_err("not any more");
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_STALE"));
            assert_eq!(number_of_events(&world).await, before);
        }
        // A user admin assigns anybody, an admin and themselves among them.
        let una = ann.brings("una", "user_admin").await;
        for name in ["ann", "una", "bill"] {
            assert_eq!(una.tries_to_assign(name, &[&id]).await, Ok(vec![id.clone()]));
        }
        assert_eq!(members_of(&una, &id).await, ["ann", "bill", "una"]);
        world.end().await;
    }

    async fn a_member_is_assigned_to_all_at_once_or_more_and_less(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        let (a, b, c) = (&ann.opens("A").await, &ann.opens("B").await, &ann.opens("C").await);
        let changed = |added: &[&str], removed: &[&str]| {
            json!({"user_id": "bob", "added": sorted(added), "removed": sorted(removed)})
        };
        assert_eq!(ann.tries_to_assign("bob", &[b, a, b]).await, Ok(sorted(&[a, b])));
        assert_eq!(last(&world, &ann.organization_id, EVENT).await, changed(&[a, b], &[]));
        assert_eq!(ann.tries_to_assign("bob", &[b, c]).await, Ok(sorted(&[b, c])));
        assert_eq!(last(&world, &ann.organization_id, EVENT).await, changed(&[c], &[a]));
        assert_eq!(ann.tries_to_shift("bob", &[a, b], &[c, NOBODYS]).await, Ok(sorted(&[a, b])));
        assert_eq!(last(&world, &ann.organization_id, EVENT).await, changed(&[a], &[c]));
        let before = number_of_events(&world).await;
        assert_eq!(ann.tries_to_shift("bob", &[a], &[c]).await, Ok(sorted(&[a, b])));
        assert_eq!(ann.tries_to_shift("bob", &[], &[]).await, Ok(sorted(&[a, b])));
        assert_eq!(ann.tries_to_assign("bob", &[a, b]).await, Ok(sorted(&[a, b])));
        assert_eq!(number_of_events(&world).await, before, "what changes nothing is no event");
        // Suspended members keep what they have, and are assigned like others.
        ann.tries_to_suspend("bob").await.expect("suspended");
        assert_eq!(ann.tries_to_shift("bob", &[c], &[]).await, Ok(sorted(&[a, b, c])));
        let rehearsed = pb::SetMemberWorkspacesRequest {
            organization_id: ann.organization_id.clone(),
            user_id: "bob".into(),
            change: Some(pb::set_member_workspaces_request::Change::All(pb::WorkspaceIds::default())),
            validate_only: true,
            ..Default::default()
        };
        let answered = answer(ann.workspaces().set_member_workspaces(rehearsed).await).expect("would be");
        assert!(answered.workspace_ids.is_empty());
        assert_eq!(members_of(&ann, a).await, ["bob"]);
        assert_eq!(ann.tries_to_assign("bob", &[]).await, Ok(vec![]));
        assert_eq!(last(&world, &ann.organization_id, EVENT).await, changed(&[], &[a, b, c]));
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn assignments_that_cannot_be_are_refused_whole(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let id = &ann.opens("A").await;
        let strange = strange_ids(501);
        let strange = borrowed(&strange);
        let refused = ann.tries_to_assign("ann", &[strange[0], id, strange[1], strange[0], strange[2]]).await;
        let refused = refused.expect_err("unknown");
        assert_eq!((refused.is(), refused.metadata["indexes"].as_str()), (MISSING, "0,2,4"));
        assert_eq!(refused.metadata["field"], "all.workspace_ids");
        let named = |index: usize| ("WORKSPACE_NOT_FOUND".to_owned(), format!("all.workspace_ids[{index}]"));
        assert_eq!(refused.violations, [named(0), named(2), named(4)]);
        let refused = ann.tries_to_shift("ann", &[strange[7]], &[]).await.expect_err("unknown");
        assert_eq!((refused.is(), refused.metadata["field"].as_str()), (MISSING, "delta.add_workspace_ids"));
        let refused = ann.tries_to_assign("nobody", &[id]).await.expect_err("no member");
        assert_eq!(refused.is(), (Code::NotFound, "MEMBER_NOT_FOUND"));
        let refused = ann.tries_to_move("\t", None).await.expect_err("faulty");
        assert_eq!((refused.is(), refused.fields.clone()), (INVALID, vec!["user_id".to_owned(), "change".to_owned()]));
        let refused = ann.tries_to_shift("ann", &["?", id], &["!", id]).await.expect_err("faulty");
        let faults =
            ["delta.add_workspace_ids[0]", "delta.remove_workspace_ids[0]", "delta.remove_workspace_ids[1]"];
        assert!(faults.iter().all(|fault| refused.fields.iter().any(|field| field == fault)), "{refused:?}");
        for refused in [
            ann.tries_to_assign("ann", &strange).await.expect_err("too many"),
            ann.tries_to_shift("ann", &strange, &[]).await.expect_err("too many"),
            ann.tries_to_shift("ann", &[], &strange).await.expect_err("too many"),
        ] {
            assert_eq!(refused.is(), (Code::InvalidArgument, "BATCH_TOO_LARGE"));
        }
        assert!(members_of(&ann, id).await.is_empty());
        world.end().await;
    }

    async fn a_thousand_workspaces_and_five_hundred_of_one_member_are_the_most(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.opens("Workspace 0").await;
        // The others are put there behind the service's back: a thousand calls take their time.
        let database = world.database().await;
        let first = tenantry::entity::workspace::Entity::find().one(&database).await.expect("read").expect("there");
        let rows = (1..1000).map(|number: u128| {
            let mut row = first.clone();
            row.workspace_id = uuid::Uuid::from_u128(first.workspace_id.as_u128() + number);
            sea_orm::IntoActiveModel::into_active_model(row)
        });
        let rows = tenantry::entity::workspace::Entity::insert_many(rows);
        rows.exec_without_returning(&database).await.expect("written");
        database.close().await.expect("closed");
        let refused = ann.tries_to_open_room("One more", "").await.expect_err("too many");
        assert_eq!((refused.is(), refused.metadata["maximum"].as_str()), (LIMIT, "1000"));
        assert_eq!(refused.metadata["of"], "workspaces");
        ann.tries_to_close(&first.workspace_id.to_string()).await.expect("deleted");
        ann.tries_to_open_room("One more", "").await.expect("there is room again");

        let ids: Vec<String> = (1..=501)
            .map(|number: u128| uuid::Uuid::from_u128(first.workspace_id.as_u128() + number).to_string())
            .collect();
        let ids = borrowed(&ids);
        assert_eq!(ann.tries_to_assign("ann", &ids[..500]).await.expect("assigned").len(), 500);
        let refused = ann.tries_to_shift("ann", &ids[500..], &[]).await.expect_err("too many");
        assert_eq!((refused.is(), refused.metadata["maximum"].as_str()), (LIMIT, "500"));
        ann.tries_to_shift("ann", &ids[500..], &ids[..1]).await.expect("one for another");
        let request = ListWorkspacesRequest { user_id: "ann".into(), page_size: 200, ..Default::default() };
        assert_eq!(names(&ann, &request).await.len(), 200);
        world.end().await;
    }

    async fn workspaces_are_chosen_when_inviting_and_assigned_on_acceptance(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let (a, b, c) = (&ann.opens("A").await, &ann.opens("B").await, &ann.opens("C").await);
        let sent = ann.tries_to_invite_to(&["bob@example.com", "cas@example.com"], &[c, a, b, c]).await.expect("sent");
        let shown = |invited: &pb::InvitedMember| invited.invitation.clone().expect("an invitation");
        assert_eq!(shown(&sent[0]).workspace_ids, [c.clone(), a.clone(), b.clone()], "as they were chosen");
        let read = ann.invitation(&shown(&sent[0]).invitation_id).await.expect("found");
        assert_eq!(read, shown(&sent[0]));
        assert_eq!(world.person("bob").received(0, "").await.invitations[0].invitation.as_ref(), Some(&read));
        // What is deleted until then is left out.
        ann.tries_to_close(a).await.expect("deleted");
        let bob = world.person("bob").accepts(&sent[0].token).await;
        let joined = last(&world, &ann.organization_id, "member.joined").await;
        assert_eq!((&joined["user_id"], &joined["workspace_ids"]), (&json!("bob"), &json!([c, b])));
        assert_eq!(bob.workspace_names().await, ["B", "C"]);
        assert_eq!(ann.invitation(&read.invitation_id).await.expect("found").workspace_ids.len(), 3, "history");

        // A resend keeps them, and so does a new invitation that names none; one that names some replaces them.
        let cas = shown(&sent[1]).invitation_id;
        let resent = ann.tries_to_resend(&cas).await.expect("resent").invitation.expect("an invitation");
        assert_eq!(resent.workspace_ids, shown(&sent[1]).workspace_ids);
        let again = ann.tries_to_invite_to(&["cas@example.com"], &[b]).await.expect("sent");
        assert_eq!((shown(&again[0]).invitation_id.as_str(), shown(&again[0]).workspace_ids), (cas.as_str(), vec![b.clone()]));
        let again = ann.invites(&["cas@example.com"], "member").await;
        assert_eq!(ann.invitation(&cas).await.expect("found").workspace_ids, std::slice::from_ref(b));
        let cas = world.person("cas").accepts(&again[0].token).await;
        assert_eq!(cas.workspace_names().await, ["B"]);
        assert_eq!(last(&world, &ann.organization_id, "member.joined").await["workspace_ids"], json!([b]));
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn who_invites_to_workspaces_may_manage_them_and_names_ten_that_there_are(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let id = ann.opens("Sales").await;
        let strange = strange_ids(11);
        let strange = borrowed(&strange);
        let refused = ann.tries_to_invite_to(&["bob@example.com"], &strange).await.expect_err("too many");
        assert_eq!((refused.is(), refused.fields.clone()), (INVALID, vec!["workspace_ids".to_owned()]));
        let refused = ann.tries_to_invite_to(&["bob"], &[&id, "?"]).await.expect_err("faulty");
        assert_eq!(refused.fields, ["emails[0]", "workspace_ids[1]"]);
        let refused = ann.tries_to_invite_to(&["bob@example.com"], &[strange[0], &id, strange[1]]).await;
        let refused = refused.expect_err("unknown");
        assert_eq!((refused.is(), refused.metadata["indexes"].as_str()), (MISSING, "0,2"));
        let upper = id.to_ascii_uppercase();
        let many: Vec<&str> = [id.as_str(), upper.as_str()].into_iter().cycle().take(40).collect();
        let sent = ann.tries_to_invite_to(&["bob@example.com"], &many).await.expect("the same one counts once");
        assert_eq!(sent[0].invitation.as_ref().expect("sent").workspace_ids, std::slice::from_ref(&id));
        let bob = world.person("bob").accepts(&sent[0].token).await;
        // A role of the organization's own that invites, and manages no workspaces.
        let bob = holds_own_role(&world, &bob, &["organization_read", "organization_leave", "members_list", "members_invite"]).await;
        for ids in [&[id.as_str()][..], &[NOBODYS]] {
            let refused = bob.tries_to_invite_to(&["cas@example.com"], ids).await.expect_err("may not");
            assert_eq!((refused.is(), refused.metadata["permission"].as_str()), (LACKS, "workspaces_manage"));
        }
        bob.tries_to_invite_to(&["cas@example.com"], &[]).await.expect("to none");
        world.end().await;
    }

    async fn whoever_goes_is_assigned_no_more_and_the_log_names_to_what(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let (a, b) = (&ann.opens("A").await, &ann.opens("B").await);
        let mut people = BTreeMap::new();
        for (name, ids) in [("bob", vec![b, a]), ("cas", vec![]), ("dee", vec![b]), ("eve", vec![a]), ("fay", vec![a])] {
            people.insert(name, ann.brings(name, "member").await);
            let ids: Vec<&str> = ids.into_iter().map(String::as_str).collect();
            ann.tries_to_assign(name, &ids).await.expect("assigned");
        }
        ann.tries_to_remove("bob").await.expect("removed");
        let gone = |user_id: &str, ids: &[&str]| {
            json!({"user_id": user_id, "role": "member", "workspace_ids": sorted(ids)})
        };
        assert_eq!(last(&world, &ann.organization_id, "member.removed").await, gone("bob", &[a, b]));
        ann.tries_to_remove_all(&["dee", "cas", "fay"]).await.expect("removed");
        let removed = told(&world, &ann.organization_id, &["member.removed"]).await;
        let removed: Vec<&Value> = removed[1..].iter().map(|(_, payload)| payload).collect();
        assert_eq!(removed, [&gone("dee", &[b]), &gone("cas", &[]), &gone("fay", &[a])]);
        people["eve"].tries_to_leave().await.expect("left");
        assert_eq!(last(&world, &ann.organization_id, "member.left").await, gone("eve", &[a]));
        assert_eq!(world.number("SELECT count(*) FROM workspace_member").await, 0);
        assert_eq!(ann.tries_to_close(a).await, Ok(0));
        // Who comes back comes with nothing.
        let bob = ann.brings("bob", "member").await;
        assert!(bob.workspace_names().await.is_empty());
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn the_members_of_a_workspace_are_listed_in_every_order_and_state(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let (id, other) = (&ann.opens("Sales").await, &ann.opens("Other").await);
        // Those who join last are first by name.
        for name in ["gus", "fay", "eve", "dee", "cas", "bob"] {
            world.pass(TimeDelta::seconds(1));
            ann.brings(name, "member").await;
            if !["eve", "bob"].contains(&name) {
                ann.tries_to_assign(name, &[id]).await.expect("assigned");
            }
        }
        ann.tries_to_suspend("dee").await.expect("suspended");
        ann.tries_to_invite_to(&["zoe@example.com", "yan@example.com"], &[id, other]).await.expect("invited");
        ann.tries_to_invite_to(&["xia@example.com"], &[other]).await.expect("invited");
        ann.invites(&["wim@example.com"], "member").await;

        assert_eq!(members_of(&ann, id).await, ["gus", "fay", "dee", "cas"]);
        assert!(members_of(&ann, other).await.is_empty());
        let first = ann.tries_to_list_workspace_members(id, 3, "").await.expect("listed");
        assert_eq!(users(&first.members), ["gus", "fay", "dee"]);
        let next = ann.tries_to_list_workspace_members(id, 3, &first.next_page_token).await.expect("listed");
        assert_eq!((users(&next.members), next.next_page_token.as_str()), (vec!["cas"], ""));
        let refused = ann.tries_to_list_workspace_members(other, 3, &first.next_page_token).await;
        assert_eq!(refused.expect_err("of another list").is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
        assert_eq!(ann.tries_to_list_workspace_members(NOBODYS, 0, "").await.expect_err("none").is(), MISSING);

        let everybody = [MemberState::Active, MemberState::Suspended, MemberState::Pending];
        for (order_by, expected) in [
            ("join_time", ["gus", "fay", "dee", "cas", "yan@example.com", "zoe@example.com"]),
            ("email", ["cas", "dee", "fay", "gus", "yan@example.com", "zoe@example.com"]),
            ("last_sign_in_time", ["cas", "dee", "fay", "gus", "zoe@example.com", "yan@example.com"]),
        ] {
            for descending in [false, true] {
                let mut request = in_workspace(id, &everybody);
                request.order_by = if descending { format!("{order_by} desc") } else { order_by.to_owned() };
                let mut expected = expected.to_vec();
                if order_by == "join_time" {
                    // Those of one call are in the order of their ids.
                    expected[4..].reverse();
                }
                if descending {
                    expected.reverse();
                }
                let mut seen = Vec::new();
                request.page_size = 2;
                loop {
                    let page = ann.tries_to_list(&request).await.expect("listed");
                    seen.extend(page.members.iter().map(|member| match member.user_id.as_str() {
                        "" => member.email.clone(),
                        user_id => user_id.to_owned(),
                    }));
                    request.page_token = page.next_page_token;
                    if request.page_token.is_empty() {
                        break;
                    }
                }
                assert_eq!(seen, expected, "{}", request.order_by);
            }
        }
        let listed = |request: pb::ListMembersRequest| {
            let ann = ann.clone();
            async move { ann.tries_to_list(&request).await.expect("listed").members.len() }
        };
        assert_eq!(listed(in_workspace(id, &[])).await, 4);
        assert_eq!(listed(in_workspace(id, &[MemberState::Suspended])).await, 1);
        assert_eq!(listed(in_workspace(id, &[MemberState::Pending])).await, 2);
        assert_eq!(listed(pb::ListMembersRequest { search: "GUS".into(), ..in_workspace(id, &everybody) }).await, 1);
        assert_eq!(listed(pb::ListMembersRequest { search: "eve".into(), ..in_workspace(id, &everybody) }).await, 0);
        let owners = pb::ListMembersRequest { roles: vec!["owner".into()], ..in_workspace(id, &everybody) };
        assert_eq!(listed(owners).await, 0);
        assert_eq!(listed(in_workspace(NOBODYS, &everybody)).await, 0);
        let refused = ann.tries_to_list(&in_workspace("?", &[])).await.expect_err("faulty");
        assert_eq!((refused.is(), refused.fields.clone()), (INVALID, vec!["workspace_id".to_owned()]));
        ann.tries_to_close(other).await.expect("deleted");
        assert_eq!(listed(in_workspace(other, &everybody)).await, 0, "though invitations name it");
        world.end().await;
    }

    async fn who_sees_only_their_own_workspaces_finds_nobody_by_others(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let (own, other) = (&ann.opens("Own").await, &ann.opens("Other").await);
        let bob = ann.brings("bob", "member").await;
        ann.tries_to_assign("bob", &[own]).await.expect("assigned");
        ann.tries_to_assign("ann", &[own, other]).await.expect("assigned");
        let bob = holds_own_role(&world, &bob, &["organization_read", "organization_leave", "members_list", "members_invite"]).await;
        let listed = |id: &str| {
            let (bob, request) = (bob.clone(), in_workspace(id, &[]));
            async move { bob.tries_to_list(&request).await.expect("listed").members.len() }
        };
        assert_eq!((listed(own).await, listed(other).await), (2, 0));
        assert_eq!(bob.workspace(other).await.expect_err("not theirs").is(), MISSING);
        world.end().await;
    }

    async fn in_a_large_workspace_every_order_shows_its_members_and_no_others(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(10_000)), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let id = &ann.opens("Large").await;
        crowd(&world, &ann, 4200).await;
        // Every other one: more than are looked up one by one.
        world
            .tampers(
                "INSERT INTO workspace_member SELECT m.organization_id, w.workspace_id, m.user_id, w.created_at, m.joined_at \
                 FROM membership m JOIN workspace w ON w.organization_id = m.organization_id \
                 WHERE m.user_id LIKE '%0' OR m.user_id LIKE '%2' OR m.user_id LIKE '%4' OR m.user_id LIKE '%6' \
                 OR m.user_id LIKE '%8'",
            )
            .await;
        for order_by in ["join_time", "display_name", "email desc", "last_sign_in_time"] {
            let mut request = pb::ListMembersRequest {
                order_by: order_by.into(),
                page_size: 200,
                ..in_workspace(id, &[])
            };
            let mut seen = BTreeSet::new();
            loop {
                let page = ann.tries_to_list(&request).await.expect("listed");
                for member in page.members {
                    assert!(seen.insert(member.user_id.clone()), "{} twice by {order_by}", member.user_id);
                }
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            assert!(seen.len() == 2100 && seen.iter().all(|user_id| user_id.ends_with(['0', '2', '4', '6', '8'])));
        }
        assert_eq!(ann.tries_to_close(id).await, Ok(2100));
        world.end().await;
    }

    async fn a_purge_leaves_nothing_of_workspaces_sessions_and_recordings(backend: Backend) {
        let world = World::with(backend, Setup { plans: Some(plans_with_seats(10_000)), ..Setup::default() }).await;
        let ann = world.person("ann").founds("Acme").await;
        for name in ["A", "B", "C"] {
            ann.opens(name).await;
        }
        crowd(&world, &ann, 1500).await;
        // More than one transaction of the worker takes, of each.
        world
            .tampers(
                "INSERT INTO workspace_member SELECT m.organization_id, w.workspace_id, m.user_id, w.created_at, m.joined_at \
                 FROM membership m JOIN workspace w ON w.organization_id = m.organization_id",
            )
            .await;
        world
            .tampers(
                "INSERT INTO room_session SELECT m.organization_id, m.user_id || w.name, w.workspace_id, '', m.user_id, 0, \
                 m.joined_at, NULL, NULL, m.joined_at FROM membership m JOIN workspace w ON true",
            )
            .await;
        world
            .tampers(
                "INSERT INTO recording (organization_id, recording_id, workspace_id, session_id, owner_user_id, title, size_bytes, \
                 length_seconds, recorded_at, created_at) SELECT organization_id, session_id, workspace_id, session_id, host_user_id, '', 0, 0, \
                 started_at, started_at FROM room_session",
            )
            .await;
        let zed = world.person("zed").founds("Zeta").await;
        let kept = zed.opens("Kept").await;
        zed.tries_to_assign("zed", &[&kept]).await.expect("assigned");
        ann.deletes_organization().await;
        world.pass(TimeDelta::days(31));
        worker::sweep(&world.servers[0].app, &CancellationToken::new()).await;
        for table in ["organization", "workspace", "workspace_member"] {
            assert_eq!(world.number(&format!("SELECT count(*) FROM {table}")).await, 1, "{table}");
        }
        for table in ["room_session", "recording"] {
            assert_eq!(world.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
        }
        world.end().await;
    }

    async fn of_many_who_want_a_join_slug_one_gets_it_and_who_wants_any_gets_another(backend: Backend) {
        let world = contested(backend).await;
        let mut owners = Vec::new();
        for number in 0..8 {
            let person = spread(&world, &world.person(&format!("owner{number}")), number);
            owners.push(person.founds(&format!("Acme {number}")).await);
        }
        let calls = owners.iter().cloned().map(|owner| async move { owner.tries_to_open_room("Daily", "daily").await });
        let outcomes = at_once(calls).await;
        assert_eq!(endings(&outcomes), BTreeMap::from([("OK".to_owned(), 1), ("ROOM_SLUG_TAKEN".to_owned(), 7)]));
        // Nobody chose these: they differ, and everybody has one.
        let calls = owners.iter().cloned().map(|owner| async move { owner.tries_to_open_room("Weekly", "").await });
        let rooms = at_once(calls).await;
        let slugs: BTreeSet<String> = rooms.into_iter().map(|room| room.expect("a room").slug).collect();
        assert!(slugs.len() == 8 && slugs.contains("weekly"), "{slugs:?}");
        // Two who exchange theirs for one that both want.
        let calls = owners.iter().cloned().map(|owner| async move {
            let own = owner.tries_to_list_workspaces(&searching("weekly")).await?.workspaces.remove(0);
            owner.tries_to_update_workspace(&["slug"], pb::Workspace { slug: "monthly".into(), ..own }).await
        });
        let outcomes = at_once(calls).await;
        assert_eq!(endings(&outcomes), BTreeMap::from([("OK".to_owned(), 1), ("ROOM_SLUG_TAKEN".to_owned(), 7)]));
        for owner in &owners {
            replay(&world, &owner.organization_id).await;
        }
        world.end().await;
    }

    async fn a_workspace_is_deleted_while_people_come_to_it_and_go(backend: Backend) {
        let world = contested(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut seen = BTreeMap::new();
        for round in 0..6 {
            let (doomed, other) = (ann.opens("Doomed").await, ann.opens("Other").await);
            let (dee, eve, fay) = (format!("dee{round}"), format!("eve{round}"), format!("fay{round}"));
            ann.brings(&dee, "member").await;
            let leaver = ann.brings(&eve, "member").await;
            ann.tries_to_assign(&eve, &[&doomed, &other]).await.expect("assigned");
            let sent = ann.tries_to_invite_to(&[&format!("{fay}@example.com")], &[&doomed, &other]).await.expect("sent");
            let token = sent[0].token.clone();
            let guest = world.person(&fay);
            let by = |person: &Person, number: usize| spread(&world, person, number);
            let (one, two, three, four) = (by(&ann, round), by(&ann, round + 1), by(&guest, round), by(&leaver, round + 1));
            let (id, to) = (doomed.clone(), doomed.clone());
            let calls: Vec<Call> = vec![
                Box::pin(async move { one.tries_to_close(&id).await.map(drop) }),
                Box::pin(async move { two.tries_to_shift(&dee, &[&to], &[]).await.map(drop) }),
                Box::pin(async move { three.tries_to_accept(&token).await.map(drop) }),
                Box::pin(async move { four.tries_to_leave().await.map(drop) }),
            ];
            let outcomes = at_once(calls).await;
            assert!(outcomes[0].is_ok() && outcomes[2].is_ok() && outcomes[3].is_ok(), "{outcomes:?}");
            let assigned = outcomes[1].as_ref().map_or_else(|refused| refused.reason.clone(), |()| "OK".to_owned());
            assert!(["OK", "WORKSPACE_NOT_FOUND"].contains(&assigned.as_str()), "{assigned}");
            *seen.entry(assigned).or_insert(0) += 1;
            assert_eq!(ann.workspace(&doomed).await.expect_err("gone").is(), MISSING);
            assert_eq!(members_of(&ann, &other).await, [fay]);
            // Which looks at each assignment that the log tells of.
            replay(&world, &ann.organization_id).await;
            ann.tries_to_close(&other).await.expect("deleted");
        }
        assert_eq!(seen.values().sum::<i32>(), 6);
        world.end().await;
    }

    async fn a_member_is_removed_while_they_are_assigned(backend: Backend) {
        let world = contested(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let id = ann.opens("Sales").await;
        for round in 0..8 {
            let name = format!("bob{round}");
            ann.brings(&name, "member").await;
            let (one, two) = (spread(&world, &ann, round), spread(&world, &ann, round + 1));
            let calls = [(one, true), (two, false)].map(|(person, removes)| {
                let (name, id) = (name.clone(), id.clone());
                async move {
                    if removes {
                        person.tries_to_remove(&name).await.map(drop)
                    } else {
                        person.tries_to_assign(&name, &[&id]).await.map(drop)
                    }
                }
            });
            let outcomes = at_once(calls).await;
            assert!(outcomes[0].is_ok(), "{outcomes:?}");
            match &outcomes[1] {
                Ok(()) => {
                    let gone = last(&world, &ann.organization_id, "member.removed").await;
                    assert_eq!(gone["workspace_ids"], json!([id]), "assigned first, then removed");
                }
                Err(refused) => assert_eq!(refused.is(), (Code::NotFound, "MEMBER_NOT_FOUND")),
            }
            assert!(members_of(&ann, &id).await.is_empty());
        }
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn a_repeated_request_makes_one_workspace(backend: Backend) {
        let world = contested(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let request = CreateWorkspaceRequest {
            kind: WorkspaceKind::Room.into(),
            name: "Daily".into(),
            request_id: "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70".into(),
            ..Default::default()
        };
        let calls = (0..6).map(|number| {
            let (person, request) = (spread(&world, &ann, number), request.clone());
            async move { person.tries_to_open(request).await.expect("a room") }
        });
        let rooms = at_once(calls).await;
        assert!(rooms.iter().all(|room| *room == rooms[0] && room.slug == "daily"), "{rooms:?}");
        assert_eq!(ann.workspace_names().await, ["Daily"]);
        let other = CreateWorkspaceRequest { name: "Weekly".into(), ..request };
        let refused = ann.tries_to_open(other).await.expect_err("another request");
        assert_eq!(refused.is(), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
        world.end().await;
    }
}

/// Puts members beside the founder behind the service's back, `user1` and so on, and has the books say so.
async fn crowd(world: &World, founder: &Person, count: usize) {
    use sea_orm::IntoActiveModel as _;
    use tenantry::entity::membership;
    let database = world.database().await;
    let id = uuid::Uuid::parse_str(&founder.organization_id).expect("an id");
    let found = membership::Entity::find().filter(membership::Column::OrganizationId.eq(id)).one(&database).await;
    let first = found.expect("read").expect("the founder");
    let rows: Vec<_> = (1..=count)
        .map(|number| membership::Model {
            user_id: format!("user{number}"),
            email_normalized: format!("user{number}@example.com"),
            sort_name: format!("name {}", number * 7919 % 4243),
            role: "member".into(),
            joined_at: first.joined_at + TimeDelta::milliseconds(i64::try_from(number).expect("few") / 3),
            ..first.clone()
        })
        .map(membership::Model::into_active_model)
        .collect();
    for rows in rows.chunks(500) {
        let rows = membership::Entity::insert_many(rows.to_vec());
        rows.exec_without_returning(&database).await.expect("written");
    }
    database.close().await.expect("closed");
    world
        .tampers(&format!(
            "UPDATE organization SET active_members = active_members + {count}, members_by_role = NULL \
             WHERE slug = '{}'",
            founder.organization().await.slug
        ))
        .await;
}
