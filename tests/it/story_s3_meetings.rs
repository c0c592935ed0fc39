//! The story of `s3-meetings-admin-guide.txt`: a meeting product whose admins manage everything but each other, on the preset
//! `guarded-admin`.
//!
//! The tests follow the document from its first line to its last; the numbers are its lines. `stories.md` has the rest.

use chrono::TimeDelta;
use tenantry::pb::{self, Permission, SetupStepKind, WorkspaceKind};
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::product::masked;
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};

const DENIED: (Code, &str) = (Code::PermissionDenied, "ROLE_LACKS_PERMISSION");
const ABOVE: (Code, &str) = (Code::PermissionDenied, "ROLE_ABOVE_CALLER");

async fn meetings(backend: Backend) -> World {
    let plans = Some(plans_with_seats(20));
    World::with(backend, Setup { policy: "guarded-admin".into(), plans, ..Setup::default() }).await
}

/// The meeting backend reports that a session began.
async fn starts(world: &World, room: &pb::Workspace, session_id: &str, host: &str) -> pb::Session {
    let request = pb::RecordSessionStartRequest {
        organization_id: room.organization_id.clone(),
        session_id: session_id.into(),
        workspace_id: room.workspace_id.clone(),
        title: "Weekly".into(),
        host_user_id: host.into(),
        participants: 4,
        ..Default::default()
    };
    let backend = world.service("meetings");
    answer(backend.monitoring().record_session_start(request).await).expect("recorded").session.expect("a session")
}

async fn records(world: &World, room: &pb::Workspace, recording_id: &str, owner: &str, size_bytes: i64) {
    let request = pb::RegisterRecordingRequest {
        organization_id: room.organization_id.clone(),
        recording_id: recording_id.into(),
        workspace_id: room.workspace_id.clone(),
        owner_user_id: owner.into(),
        title: "Weekly".into(),
        size_bytes,
        length: Some(prost_types::Duration { seconds: 1800, nanos: 0 }),
        ..Default::default()
    };
    answer(world.service("meetings").monitoring().register_recording(request).await).expect("registered");
}

async fn live(person: &Person) -> Vec<String> {
    let request = pb::ListSessionsRequest {
        organization_id: person.organization_id.clone(),
        live_only: true,
        ..Default::default()
    };
    let listed = answer(person.monitoring().list_sessions(request).await).expect("sessions").sessions;
    listed.into_iter().map(|session| session.session_id).collect()
}

async fn recordings(person: &Person) -> Vec<String> {
    let request = pb::ListRecordingsRequest { organization_id: person.organization_id.clone(), ..Default::default() };
    let listed = answer(person.monitoring().list_recordings(request).await).expect("recordings").recordings;
    listed.into_iter().map(|recording| recording.recording_id).collect()
}

async fn tries_to_end(person: &Person, session_id: &str) -> Result<pb::Session, Refused> {
    let request = pb::EndSessionRequest {
        organization_id: person.organization_id.clone(),
        session_id: session_id.into(),
        ..Default::default()
    };
    answer(person.monitoring().end_session(request).await).map(|it| it.session.expect("a session"))
}

async fn tries_to_delete_recording(person: &Person, recording_id: &str) -> Result<(), Refused> {
    let request = pb::DeleteRecordingRequest {
        organization_id: person.organization_id.clone(),
        recording_id: recording_id.into(),
        ..Default::default()
    };
    answer(person.monitoring().delete_recording(request).await).map(|_| ())
}

async fn usage(person: &Person) -> Result<pb::UsageSummary, Refused> {
    let request = pb::GetUsageSummaryRequest { organization_id: person.organization_id.clone() };
    answer(person.monitoring().get_usage_summary(request).await).map(|it| it.usage.expect("a summary"))
}

/// The steps of the checklist that are done.
async fn steps_done(person: &Person) -> Vec<SetupStepKind> {
    let setup = person.overview().await.expect("the overview").setup.expect("the checklist");
    setup.steps.iter().filter(|step| step.done).map(pb::SetupStep::kind).collect()
}

database_tests! {
    async fn lines_1_to_15_owners_and_admins_manage_and_members_have_what_is_their_own(backend: Backend) {
        let world = meetings(backend).await;
        let owner = world.person("olga").founds("Meetings").await;
        let admin = owner.brings("adam", "admin").await;
        let other_admin = owner.brings("ada", "admin").await;
        let member = owner.brings("mia", "member").await;
        let room = owner.tries_to_make(WorkspaceKind::Room, "Stand-up").await.expect("a room");
        // 5: in the app, everybody has their own meetings and recordings, admins too.
        starts(&world, &room, "of-mia", "mia").await;
        starts(&world, &room, "of-adam", "adam").await;
        records(&world, &room, "rec-mia", "mia", 10).await;
        records(&world, &room, "rec-adam", "adam", 20).await;
        assert_eq!(live(&member).await, ["of-mia"]);
        assert_eq!(recordings(&member).await, ["rec-mia"]);
        // 6, 9, 14: the admin panel is the owners' and the admins'; of a member's reach is only what is their own.
        for person in [&owner, &admin] {
            person.overview().await.expect("the panel");
        }
        assert_eq!(member.overview().await.expect_err("the panel").is(), DENIED);
        assert_eq!(usage(&member).await.expect_err("the panel").is(), DENIED);
        assert_eq!(tries_to_end(&member, "of-adam").await.expect_err("another's").is(), (Code::NotFound, "SESSION_NOT_FOUND"));
        assert_eq!(tries_to_delete_recording(&member, "rec-adam").await.expect_err("another's").is(),
            (Code::NotFound, "RECORDING_NOT_FOUND"));
        tries_to_end(&member, "of-mia").await.expect("their own meeting");
        tries_to_delete_recording(&member, "rec-mia").await.expect("their own recording");
        assert_eq!(member.finds("").await.expect_err("the members").is(), DENIED);
        assert_eq!(member.settings().await.expect_err("settings").is(), DENIED);
        assert_eq!(member.tries_to_make(WorkspaceKind::Room, "Mine").await.expect_err("a room").is(), DENIED);
        assert_eq!(member.tries_to_set_seats(30).await.expect_err("licenses").is(), DENIED);
        // 12: an owner manages everything, other admins too; 13: an admin everything but other admins.
        assert_eq!(admin.tries_to_remove(&other_admin.name).await.expect_err("another admin").is(), ABOVE);
        assert_eq!(admin.tries_to_invite(&["x@example.com"], "admin").await.expect_err("another admin").is(), ABOVE);
        assert_eq!(admin.tries_to_change_role("mia", "admin").await.expect_err("a new admin").is(), DENIED);
        assert_eq!(admin.tries_to_remove(&owner.name).await.expect_err("the owner").is(), ABOVE);
        owner.tries_to_change_role("mia", "admin").await.expect("a new admin");
        owner.tries_to_change_role("mia", "member").await.expect("no more");
        owner.tries_to_remove(&other_admin.name).await.expect("an admin");
        // 13: rooms, settings and billing are the admin's too.
        admin.tries_to_make(WorkspaceKind::Room, "Retrospective").await.expect("a room");
        admin.tries_to_set_seats(25).await.expect("licenses");
        // The organization's end is the owner's alone.
        assert_eq!(admin.tries_to_delete().await.expect_err("the organization").is(), DENIED);
        world.end().await;
    }

    async fn line_15_finer_roles_are_defined_by_the_owner(backend: Backend) {
        let world = meetings(backend).await;
        let owner = world.person("olga").founds("Meetings").await;
        let admin = owner.brings("adam", "admin").await;
        let room = owner.tries_to_make(WorkspaceKind::Room, "Stand-up").await.expect("a room");
        let role = |role: &str, permissions: &[Permission]| pb::CreateRoleRequest {
            organization_id: owner.organization_id.clone(),
            role: Some(pb::Role {
                role: role.into(),
                title: "Moderator".into(),
                permissions: permissions.iter().map(|permission| i32::from(*permission)).collect(),
                managed_by: vec!["admin".into()],
                ..Default::default()
            }),
            ..Default::default()
        };
        let moderation = [Permission::OrganizationRead, Permission::MonitoringRead, Permission::MonitoringManage];
        answer(owner.members().create_role(role("org:moderator", &moderation)).await).expect("defined");
        let refused = answer(admin.members().create_role(role("org:boss", &moderation)).await).expect_err("an admin");
        assert_eq!(refused.is(), DENIED);
        // Used like any other: invited to by an admin, who is named as its manager.
        let mod_ = admin.brings("max", "org:moderator").await;
        starts(&world, &room, "long", "olga").await;
        assert_eq!(live(&mod_).await, ["long"]);
        tries_to_end(&mod_, "long").await.expect("ended");
        assert_eq!(mod_.tries_to_invite(&["x@example.com"], "member").await.expect_err("more").is(), DENIED);
        assert_eq!(mod_.overview().await.expect_err("more").is(), DENIED);
        world.end().await;
    }

    async fn lines_16_to_20_first_steps_and_the_identity_of_the_organization(backend: Backend) {
        let world = meetings(backend).await;
        let owner = world.person("olga").founds("Meetings").await;
        // 18: a checklist for whoever is new to it, figured from how things are.
        assert!(steps_done(&owner).await.is_empty());
        // 20: name, logo and description.
        let new = pb::Organization {
            name: "Meetings Ltd".into(),
            description: "We meet.".into(),
            logo_uri: "https://cdn.example.com/logo.png".into(),
            ..Default::default()
        };
        let changed = owner.tries_to_update(&["name", "description", "logo_uri"], new).await.expect("configured");
        assert_eq!(changed.name, "Meetings Ltd");
        assert_eq!(steps_done(&owner).await, [SetupStepKind::Profile, SetupStepKind::Logo]);
        owner.invites(&["mia@example.com"], "member").await;
        let second = owner.brings("otto", "owner").await;
        assert_eq!(steps_done(&second).await, [SetupStepKind::Profile, SetupStepKind::Logo,
            SetupStepKind::SecondTopRoleMember, SetupStepKind::FirstInvitation]);
        // It can be put away.
        let setup = pb::SetupSettings { dismissed: true, ..Default::default() };
        let settings = pb::OrganizationSettings { setup: Some(setup), ..Default::default() };
        owner.tries_to_set(&["setup.dismissed"], settings).await.expect("put away");
        assert!(owner.overview().await.expect("the overview").setup.expect("the checklist").closed);
        world.end().await;
    }

    async fn lines_21_to_24_a_team_and_rooms_with_their_own_links_and_settings(backend: Backend) {
        let world = meetings(backend).await;
        let owner = world.person("olga").founds("Meetings").await;
        // 22: members are invited; what the roles may do can be read.
        let member = owner.brings("mia", "member").await;
        let request = pb::ListRolesRequest { organization_id: member.organization_id.clone() };
        assert_eq!(answer(member.members().list_roles(request).await).expect("roles").roles.len(), 3);
        // 24: a room has a link of its own, which can be changed,
        let room = owner.tries_to_make(WorkspaceKind::Room, "Board room").await.expect("a room");
        assert_eq!(room.slug, "board-room");
        let update = |mask: &[&str], room: pb::Workspace| pb::UpdateWorkspaceRequest {
            organization_id: owner.organization_id.clone(),
            workspace_id: room.workspace_id.clone(),
            workspace: Some(room),
            update_mask: Some(masked(mask)),
            ..Default::default()
        };
        let renamed = pb::Workspace { slug: "board".into(), ..room.clone() };
        answer(owner.workspaces().update_workspace(update(&["slug"], renamed)).await).expect("another link");
        let lookup = |slug: &str| pb::LookupRoomRequest { slug: slug.into() };
        let meetings = world.service("meetings");
        let found = answer(meetings.workspaces().lookup_room(lookup("board")).await).expect("found").workspace;
        assert_eq!(found.expect("the room").workspace_id, room.workspace_id);
        let old = answer(meetings.workspaces().lookup_room(lookup("board-room")).await).expect_err("the old link");
        assert_eq!(old.is(), (Code::NotFound, "WORKSPACE_NOT_FOUND"));
        // and settings of its own.
        let settings = pb::RoomSettings { access: pb::RoomAccess::Anyone.into(), lobby: true, ..Default::default() };
        let changed = pb::Workspace { room_settings: Some(settings), ..room.clone() };
        let changed = answer(owner.workspaces().update_workspace(update(&["room_settings"], changed)).await).expect("set");
        assert!(changed.workspace.expect("the room").room_settings.expect("settings").lobby);
        // No two rooms have one link.
        let request = pb::CreateWorkspaceRequest {
            organization_id: owner.organization_id.clone(),
            kind: WorkspaceKind::Room.into(),
            name: "Other".into(),
            slug: "board".into(),
            ..Default::default()
        };
        let taken = answer(owner.workspaces().create_workspace(request).await).expect_err("taken");
        assert_eq!(taken.is(), (Code::AlreadyExists, "ROOM_SLUG_TAKEN"));
        world.end().await;
    }

    async fn lines_25_to_26_and_35_to_36_licenses_active_meetings_and_recordings_are_watched(backend: Backend) {
        let world = meetings(backend).await;
        let owner = world.person("olga").founds("Meetings").await;
        let admin = owner.brings("adam", "admin").await;
        let room = owner.tries_to_make(WorkspaceKind::Room, "Stand-up").await.expect("a room");
        starts(&world, &room, "long", "olga").await;
        records(&world, &room, "rec-1", "olga", 1_000).await;
        records(&world, &room, "rec-2", "adam", 500).await;
        // 26, 35: how many licenses are used, and the storage.
        let summary = usage(&admin).await.expect("a summary");
        assert_eq!(summary.licenses.expect("licenses").summary, "2 / 20 seats");
        assert_eq!((summary.storage_bytes, summary.recordings, summary.live_sessions), (1_500, 2, 1));
        // 26: the active meetings; 36: one that runs too long is ended: the meeting backend is asked to ...
        assert_eq!(live(&admin).await, ["long"]);
        world.pass(TimeDelta::hours(3));
        let ending = tries_to_end(&admin, "long").await.expect("asked to end");
        assert_eq!(ending.state(), pb::SessionState::Ending);
        assert_eq!(world.events(&owner.organization_id).await.last().map(String::as_str), Some("session.end_requested"));
        // ... which the meeting backend hears at its next report.
        assert_eq!(starts(&world, &room, "long", "olga").await.state(), pb::SessionState::Ending);
        let over = pb::RecordSessionEndRequest {
            organization_id: owner.organization_id.clone(),
            session_id: "long".into(),
            ..Default::default()
        };
        let over = answer(world.service("meetings").monitoring().record_session_end(over).await).expect("over");
        assert_eq!(over.session.expect("the session").state(), pb::SessionState::Ended);
        assert!(live(&admin).await.is_empty());
        // 26: the recordings of the whole organization.
        tries_to_delete_recording(&admin, "rec-1").await.expect("deleted");
        assert_eq!(recordings(&admin).await, ["rec-2"]);
        assert_eq!(usage(&admin).await.expect("a summary").storage_bytes, 500);
        world.end().await;
    }

    async fn lines_29_to_39_the_quick_tasks_are_each_a_call(backend: Backend) {
        let world = meetings(backend).await;
        let owner = world.person("olga").founds("Meetings").await;
        let admin = owner.brings("adam", "admin").await;
        // 33: somebody is invited; 34: a room is made; 35: licenses are counted.
        admin.invites(&["mia@example.com"], "member").await;
        admin.tries_to_make(WorkspaceKind::Room, "Weekly").await.expect("a room");
        assert_eq!(usage(&admin).await.expect("a summary").licenses.expect("licenses").used, 3);
        // 37: the logo is changed.
        let branding = pb::Branding { logo_uri: "https://cdn.example.com/new.png".into(), ..Default::default() };
        let settings = pb::OrganizationSettings { branding: Some(branding), ..Default::default() };
        admin.tries_to_set(&["branding.logo_uri"], settings).await.expect("a logo");
        assert_eq!(owner.organization().await.logo_uri, "https://cdn.example.com/new.png");
        // 38: licenses are added.
        assert_eq!(admin.tries_to_set_seats(30).await.expect("licenses").seats, 30);
        assert!(admin.may(Permission::SubscriptionManage).await);
        world.end().await;
    }

    async fn lines_40_to_46_every_user_has_an_organization_and_can_be_in_many(backend: Backend) {
        let world = meetings(backend).await;
        // 41: signing up makes one, once.
        let first = world.person("olga").signs_in().await;
        let again = world.person("olga").signs_in().await;
        assert!(first.created && !again.created);
        let own = first.organization.expect("an organization");
        assert_eq!(own.organization_id, again.organization.expect("the same").organization_id);
        let olga = world.person("olga").acting_in(&own.organization_id, "owner");
        // 44: one user in several organizations, in another role in each.
        world.pass(TimeDelta::minutes(1));
        let acme = world.person("ann").founds("Acme").await;
        let guest = acme.brings("olga", "member").await;
        let roles: Vec<String> = world.person("olga").switcher().await.into_iter().map(|(_, role)| role).collect();
        assert_eq!(roles, ["owner", "member"]);
        // 43, 45, 46: licenses, rooms and recordings are the organization's: what one sees is of the one that one acts in.
        let room = acme.tries_to_make(WorkspaceKind::Room, "Stand-up").await.expect("a room");
        records(&world, &room, "rec", "ann", 700).await;
        assert_eq!(usage(&acme).await.expect("a summary").storage_bytes, 700);
        let here = usage(&olga).await.expect("a summary");
        assert_eq!((here.storage_bytes, here.licenses.expect("licenses").used), (0, 1));
        acme.tries_to_set_seats(25).await.expect("more");
        let seats = (acme.subscription().await.expect("its plan").seats, olga.subscription().await.expect("her plan").seats);
        assert_eq!(seats, (25, 20));
        assert_eq!(olga.members_and_roles().await, [("olga".to_owned(), "owner".to_owned())]);
        assert!(olga.workspaces_of("").await.expect("rooms").is_empty());
        assert!(recordings(&olga).await.is_empty());
        let refused = tries_to_delete_recording(&olga, "rec").await.expect_err("not here");
        assert_eq!(refused.is(), (Code::NotFound, "RECORDING_NOT_FOUND"));
        assert_eq!(guest.overview().await.expect_err("there a member").is(), DENIED);
        assert_eq!(olga.overview().await.expect("here the owner").seat_usage.expect("seats").summary, "1 / 20 seats");
        world.end().await;
    }
}
