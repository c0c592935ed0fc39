//! Sessions in rooms, recordings, and how much of what is paid for is used.

use chrono::TimeDelta;
use sea_orm::{EntityTrait as _, IntoActiveModel as _};
use serde_json::json;
use tenantry::entity::workspace::Kind;
use tenantry::entity::{custom_role, event, workspace};
use tenantry::pb::{self, SessionState};
use tonic::Code;
use uuid::Uuid;

use crate::harness::person::{Person, answer};
use crate::harness::race::{at_once, spread};
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World, roomy};
use crate::harness::{Backend, database_tests};

const FIELDS: (Code, &str) = (Code::InvalidArgument, "INVALID_FIELDS");
const NO_ROOM: (Code, &str) = (Code::NotFound, "WORKSPACE_NOT_FOUND");
const NO_SESSION: (Code, &str) = (Code::NotFound, "SESSION_NOT_FOUND");
const NOT_LIVE: (Code, &str) = (Code::FailedPrecondition, "SESSION_NOT_LIVE");
const NO_RECORDING: (Code, &str) = (Code::NotFound, "RECORDING_NOT_FOUND");
const LACKS: (Code, &str) = (Code::PermissionDenied, "ROLE_LACKS_PERMISSION");
const LIMIT: (Code, &str) = (Code::FailedPrecondition, "LIMIT_REACHED");

/// The meeting backend, speaking of an organization.
fn backend_of(world: &World, person: &Person) -> Person {
    Person { organization_id: person.organization_id.clone(), ..world.service("meetings") }
}

/// A workspace of an organization, put there behind the service's back.
async fn place(world: &World, person: &Person, kind: Kind, name: &str) -> String {
    let workspace_id = tenantry::id::new(world.clock.now());
    let row = workspace::Model {
        organization_id: Uuid::parse_str(&person.organization_id).expect("an id"),
        workspace_id,
        kind,
        name: name.into(),
        sort_name: name.into(),
        description: String::new(),
        slug: (kind == Kind::Room).then(|| workspace_id.to_string()),
        room_settings: None,
        created_at: world.clock.now(),
        updated_at: world.clock.now(),
        version: 1,
    };
    let database = world.database().await;
    workspace::Entity::insert(row.into_active_model()).exec_without_returning(&database).await.expect("inserted");
    database.close().await.expect("closed");
    workspace_id.to_string()
}

/// A role of the organization's own, put there behind the service's back.
async fn role(world: &World, person: &Person, role: &str, permissions: &[&str]) {
    let row = custom_role::Model {
        organization_id: Uuid::parse_str(&person.organization_id).expect("an id"),
        role: role.into(),
        title: role.into(),
        description: String::new(),
        definition: json!({
            "permissions": permissions, "invites": [], "changes": [], "removes": [], "managed_by": [],
        }),
        created_at: world.clock.now(),
        updated_at: world.clock.now(),
        version: 1,
    };
    let database = world.database().await;
    custom_role::Entity::insert(row.into_active_model()).exec_without_returning(&database).await.expect("inserted");
    database.close().await.expect("closed");
    world.tampers("UPDATE organization SET custom_roles = custom_roles + 1").await;
}

/// Type, subject and payload of the latest events of an organization.
async fn told(world: &World, person: &Person, latest: usize) -> Vec<(String, String, serde_json::Value)> {
    let database = world.database().await;
    let mut rows = event::Entity::find().all(&database).await.expect("the log can be read");
    database.close().await.expect("closed");
    rows.retain(|row| row.organization_id.to_string() == person.organization_id);
    rows.sort_by_key(|row| row.number);
    let beginning = rows.len() - latest;
    rows.drain(..beginning);
    rows.into_iter().map(|row| (row.r#type, row.subject_id, row.payload)).collect()
}

async fn events(world: &World, person: &Person) -> usize {
    world.events(&person.organization_id).await.len()
}

/// That these fields are wrong, and no others.
fn assert_faults(refused: &Refused, fields: &str) {
    assert_eq!((refused.is(), refused.fields.join(" ").as_str()), (FIELDS, fields));
}

impl Person {
    fn start(&self, session_id: &str, room: &str, host: &str) -> pb::RecordSessionStartRequest {
        pb::RecordSessionStartRequest {
            organization_id: self.organization_id.clone(),
            session_id: session_id.into(),
            workspace_id: room.into(),
            title: "Stand-up".into(),
            host_user_id: host.into(),
            participants: 1,
            ..Default::default()
        }
    }

    async fn starts(&self, request: pb::RecordSessionStartRequest) -> Result<pb::Session, Refused> {
        answer(self.monitoring().record_session_start(request).await).map(|answer| answer.session.expect("a session"))
    }

    async fn ends(&self, session_id: &str, at: Option<prost_types::Timestamp>) -> Result<pb::Session, Refused> {
        let request = pb::RecordSessionEndRequest {
            organization_id: self.organization_id.clone(),
            session_id: session_id.into(),
            end_time: at,
            ..Default::default()
        };
        answer(self.monitoring().record_session_end(request).await).map(|answer| answer.session.expect("a session"))
    }

    async fn asks_to_end(&self, session_id: &str) -> Result<pb::Session, Refused> {
        let request = pb::EndSessionRequest {
            organization_id: self.organization_id.clone(),
            session_id: session_id.into(),
            ..Default::default()
        };
        answer(self.monitoring().end_session(request).await).map(|answer| answer.session.expect("a session"))
    }

    fn sessions_request(&self) -> pb::ListSessionsRequest {
        pb::ListSessionsRequest { organization_id: self.organization_id.clone(), ..Default::default() }
    }

    async fn lists(&self, request: pb::ListSessionsRequest) -> Result<pb::ListSessionsResponse, Refused> {
        answer(self.monitoring().list_sessions(request).await)
    }

    /// The ids of the sessions, and of the recordings, that they are shown of a room.
    async fn sees_of(&self, room: &str, user: &str, live_only: bool) -> Result<[Vec<String>; 2], Refused> {
        let sessions = pb::ListSessionsRequest {
            workspace_id: room.into(),
            host_user_id: user.into(),
            live_only,
            ..self.sessions_request()
        };
        let recordings = pb::ListRecordingsRequest {
            organization_id: self.organization_id.clone(),
            workspace_id: room.into(),
            owner_user_id: user.into(),
            ..Default::default()
        };
        let sessions = self.lists(sessions).await?.sessions;
        let recordings = answer(self.monitoring().list_recordings(recordings).await)?.recordings;
        Ok([
            sessions.into_iter().map(|session| session.session_id).collect(),
            recordings.into_iter().map(|recording| recording.recording_id).collect(),
        ])
    }

    /// The ids of the sessions that they are shown.
    async fn sees(&self, host: &str, live_only: bool) -> Result<Vec<String>, Refused> {
        let request = pb::ListSessionsRequest { host_user_id: host.into(), live_only, ..self.sessions_request() };
        let sessions = self.lists(request).await?.sessions;
        Ok(sessions.into_iter().map(|session| session.session_id).collect())
    }

    fn recording(&self, recording_id: &str, owner: &str, size_bytes: i64) -> pb::RegisterRecordingRequest {
        pb::RegisterRecordingRequest {
            organization_id: self.organization_id.clone(),
            recording_id: recording_id.into(),
            owner_user_id: owner.into(),
            title: "Stand-up".into(),
            size_bytes,
            length: Some(prost_types::Duration { seconds: 60, nanos: 999_999_999 }),
            ..Default::default()
        }
    }

    async fn registers(&self, request: pb::RegisterRecordingRequest) -> Result<pb::Recording, Refused> {
        answer(self.monitoring().register_recording(request).await).map(|answer| answer.recording.expect("a recording"))
    }

    fn deletion(&self, recording_id: &str) -> pb::DeleteRecordingRequest {
        pb::DeleteRecordingRequest {
            organization_id: self.organization_id.clone(),
            recording_id: recording_id.into(),
            ..Default::default()
        }
    }

    async fn deletes(&self, recording_id: &str) -> Result<pb::Recording, Refused> {
        let answered = answer(self.monitoring().delete_recording(self.deletion(recording_id)).await);
        answered.map(|answer| answer.recording.expect("a recording"))
    }

    async fn lists_recordings(
        &self,
        owner: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListRecordingsResponse, Refused> {
        let request = pb::ListRecordingsRequest {
            organization_id: self.organization_id.clone(),
            page_size,
            page_token: page_token.into(),
            owner_user_id: owner.into(),
            ..Default::default()
        };
        answer(self.monitoring().list_recordings(request).await)
    }

    /// The ids of the recordings that they are shown.
    async fn sees_recordings(&self, owner: &str) -> Result<Vec<String>, Refused> {
        let recordings = self.lists_recordings(owner, 0, "").await?.recordings;
        Ok(recordings.into_iter().map(|recording| recording.recording_id).collect())
    }

    async fn usage(&self) -> Result<pb::UsageSummary, Refused> {
        let request = pb::GetUsageSummaryRequest { organization_id: self.organization_id.clone() };
        answer(self.monitoring().get_usage_summary(request).await).map(|answer| answer.usage.expect("usage"))
    }

    /// Storage, recordings and live sessions.
    async fn counters(&self) -> (i64, i64, i64) {
        let usage = self.usage().await.expect("usage");
        (usage.storage_bytes, usage.recordings, usage.live_sessions)
    }
}

database_tests! {
    async fn a_session_is_reported_from_its_start_to_its_end(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        let began = world.wire_time();
        let started = meetings.starts(meetings.start("s1", &room, "hal")).await.expect("started");
        let expected = pb::Session {
            organization_id: ann.organization_id.clone(),
            session_id: "s1".into(),
            workspace_id: room.clone(),
            title: "Stand-up".into(),
            host_user_id: "hal".into(),
            participants: 1,
            state: SessionState::Live.into(),
            start_time: Some(began),
            ..Default::default()
        };
        assert_eq!(started, expected);
        assert_eq!(ann.counters().await, (0, 0, 1));
        let payload = json!({"session_id": "s1", "workspace_id": room, "host_user_id": "hal"});
        assert_eq!(told(&world, &ann, 1).await, [("session.started".to_owned(), "s1".to_owned(), payload)]);

        // The same again, and how many are in it now: nothing that anybody is told of.
        let kept = events(&world, &ann).await;
        world.pass(TimeDelta::seconds(90));
        assert_eq!(meetings.starts(meetings.start("s1", &room, "hal")).await, Ok(started.clone()));
        let more = pb::RecordSessionStartRequest {
            participants: 7,
            title: "Retro".into(),
            start_time: Some(world.wire_time()),
            ..meetings.start("s1", &room, "hal")
        };
        let now = meetings.starts(more).await.expect("reported");
        assert_eq!(now, pb::Session { participants: 7, title: "Retro".into(), ..started });
        assert_eq!(ann.lists(ann.sessions_request()).await.expect("listed").sessions, std::slice::from_ref(&now));
        assert_eq!((events(&world, &ann).await, ann.counters().await), (kept, (0, 0, 1)));

        let ended = meetings.ends("s1", None).await.expect("ended");
        let end = Some(world.wire_time());
        assert_eq!(ended, pb::Session { state: SessionState::Ended.into(), end_time: end, ..now });
        let payload = json!({"session_id": "s1", "workspace_id": room, "length_seconds": 90});
        assert_eq!(told(&world, &ann, 1).await, [("session.ended".to_owned(), "s1".to_owned(), payload)]);
        // The same again changes nothing, whenever it says that the session ended.
        world.pass(TimeDelta::seconds(9));
        assert_eq!(meetings.ends("s1", None).await, Ok(ended.clone()));
        assert_eq!(meetings.ends("s1", Some(world.wire_time())).await, Ok(ended));
        assert_eq!((events(&world, &ann).await, ann.counters().await), (kept + 1, (0, 0, 0)));
        let refused = meetings.starts(meetings.start("s1", &room, "hal")).await.expect_err("over");
        assert_eq!((refused.is(), refused.metadata["session_id"].as_str()), (NOT_LIVE, "s1"));
        world.end().await;
    }

    async fn a_start_is_refused_for_what_is_wrong_absent_or_anothers(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let zed = world.person("zed").founds("Zeta").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        let other_room = place(&world, &ann, Kind::Room, "bridge").await;
        let team = place(&world, &ann, Kind::Workspace, "team").await;
        let foreign = place(&world, &zed, Kind::Room, "zoo").await;
        for absent in [&team, &foreign, &tenantry::id::new(world.clock.now()).to_string()] {
            let refused = meetings.starts(meetings.start("s1", absent, "ann")).await.expect_err("no room");
            assert_eq!((refused.is(), &refused.metadata["workspace_id"]), (NO_ROOM, absent));
        }
        let wrong = pb::RecordSessionStartRequest {
            session_id: " s".into(),
            workspace_id: "atrium".into(),
            title: "x".repeat(201),
            host_user_id: String::new(),
            participants: -1,
            start_time: Some(world.wire_time_in(TimeDelta::seconds(61))),
            ..meetings.start("", "", "")
        };
        let refused = meetings.starts(wrong).await.expect_err("all wrong");
        let all = "session_id workspace_id title host_user_id participants start_time";
        assert_faults(&refused, all);
        for id in ["", "a\nb", &"x".repeat(129)] {
            let refused = meetings.starts(meetings.start(id, &room, "ann")).await.expect_err("no id");
            assert_faults(&refused, "session_id");
            let refused = meetings.ends(id, None).await.expect_err("no id");
            assert_faults(&refused, "session_id");
            let refused = ann.asks_to_end(id).await.expect_err("no id");
            assert_faults(&refused, "session_id");
        }
        let refused = ann.starts(ann.start("s1", &room, "ann")).await.expect_err("Ann is no service");
        assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        let refused = ann.ends("s1", None).await.expect_err("Ann is no service");
        assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        assert_eq!(events(&world, &ann).await, 2, "what founding told");

        // One id, one session; and what another organization calls `s1` is another session.
        let id = "x".repeat(128);
        for session in ["s1", &id] {
            meetings.starts(meetings.start(session, &room, "ann")).await.expect("started");
        }
        let refused = meetings.starts(meetings.start("s1", &other_room, "bob")).await.expect_err("another");
        assert_faults(&refused, "workspace_id host_user_id");
        let elsewhere = backend_of(&world, &zed);
        elsewhere.starts(elsewhere.start("s1", &foreign, "zed")).await.expect("started");
        elsewhere.ends("s1", None).await.expect("ended");
        assert_eq!((ann.counters().await.2, zed.counters().await.2), (2, 0));
        // Rehearsals leave nothing.
        let rehearsal =
            pb::RecordSessionStartRequest { validate_only: true, ..meetings.start("s2", &room, "ann") };
        assert_eq!(meetings.starts(rehearsal).await.expect("would start").state(), SessionState::Live);
        assert_eq!(ann.counters().await.2, 2);
        world.end().await;
    }

    async fn a_session_does_not_end_before_it_began(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        let refused = meetings.ends("s1", None).await.expect_err("nobody heard of it");
        assert_eq!((refused.is(), refused.metadata["session_id"].as_str()), (NO_SESSION, "s1"));
        // The meeting backend's clock is a minute ahead.
        let ahead = Some(world.wire_time_in(TimeDelta::minutes(1)));
        for session in ["s1", "s2", "s3"] {
            let start = pb::RecordSessionStartRequest { start_time: ahead, ..meetings.start(session, &room, "ann") };
            assert_eq!(meetings.starts(start).await.expect("started").start_time, ahead);
        }
        for wrong in [TimeDelta::seconds(59), TimeDelta::seconds(61)] {
            let refused = meetings.ends("s1", Some(world.wire_time_in(wrong))).await.expect_err("not then");
            assert_faults(&refused, "end_time");
        }
        assert_eq!(meetings.ends("s1", ahead).await.expect("ended").end_time, ahead);
        assert_eq!(meetings.ends("s2", None).await.expect("ended").end_time, ahead);
        assert_eq!(told(&world, &ann, 1).await[0].2["length_seconds"], 0);
        world.pass(TimeDelta::minutes(2));
        let end = Some(world.wire_time_in(-TimeDelta::seconds(10)));
        assert_eq!(meetings.ends("s3", end).await.expect("ended").end_time, end);
        assert_eq!(told(&world, &ann, 1).await[0].2["length_seconds"], 50);
        // It may be wrong of an ended one too.
        let refused = meetings.ends("s3", Some(world.wire_time_in(-TimeDelta::hours(1)))).await.expect_err("wrong");
        assert_faults(&refused, "end_time");
        world.end().await;
    }

    async fn who_may_not_monitor_is_shown_only_the_sessions_that_they_host(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let bob = ann.brings("bob", "member").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        for (session, host) in [("a1", "ann"), ("b1", "bob"), ("a2", "ann"), ("b2", "bob"), ("x1", "guest")] {
            meetings.starts(meetings.start(session, &room, host)).await.expect("started");
            world.pass(TimeDelta::seconds(1));
        }
        for session in ["a1", "b2"] {
            meetings.ends(session, None).await.expect("ended");
        }
        let all = ["x1", "b2", "a2", "b1", "a1"];
        for everybody in [&ann, &ada, &meetings] {
            assert_eq!(everybody.sees("", false).await.expect("listed"), all);
            assert_eq!(everybody.sees("", true).await.expect("listed"), ["x1", "a2", "b1"]);
            assert_eq!(everybody.sees("bob", false).await.expect("listed"), ["b2", "b1"]);
            assert_eq!(everybody.sees("bob", true).await.expect("listed"), ["b1"]);
            assert_eq!(everybody.sees("nobody", false).await.expect("listed"), [""; 0]);
        }
        for bobs in ["", "bob"] {
            assert_eq!(bob.sees(bobs, false).await.expect("listed"), ["b2", "b1"]);
            assert_eq!(bob.sees(bobs, true).await.expect("listed"), ["b1"]);
        }
        for others in ["ann", "nobody"] {
            let refused = bob.sees(others, false).await.expect_err("not Bob's");
            assert_eq!((refused.is(), refused.metadata["permission"].as_str()), (LACKS, "monitoring_read"));
        }
        // The role that came with the call opens nothing more.
        let stale = bob.acting_in(&bob.organization_id, "owner");
        assert_eq!(stale.sees("", false).await.expect("listed"), ["b2", "b1"]);
        let refused = stale.sees("ann", false).await.expect_err("not Bob's");
        assert_eq!((refused.is(), refused.metadata["role"].as_str()), (LACKS, "member"));
        let refused = ann.sees(" bob", false).await.expect_err("no id");
        assert_faults(&refused, "host_user_id");
        world.end().await;
    }

    async fn lists_of_sessions_come_in_pages(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        for number in 0..7 {
            // Some begin at the same moment, some within a second.
            let host = if number % 2 == 0 { "bob" } else { "ann" };
            meetings.starts(meetings.start(&format!("s{number}"), &room, host)).await.expect("started");
            world.pass(TimeDelta::microseconds(i64::from(number % 3) * 400_000));
        }
        for (person, all) in [(&ann, vec!["s6", "s5", "s4", "s3", "s2", "s1", "s0"]), (&bob, vec!["s6", "s4", "s2", "s0"])]
        {
            for (size, live_only) in [(1, false), (2, true), (3, false), (7, true)] {
                let mut request = pb::ListSessionsRequest { page_size: size, live_only, ..person.sessions_request() };
                let mut seen = Vec::new();
                loop {
                    let page = person.lists(request.clone()).await.expect("a page");
                    seen.extend(page.sessions.into_iter().map(|session| session.session_id));
                    request.page_token = page.next_page_token;
                    if request.page_token.is_empty() {
                        break;
                    }
                }
                assert_eq!(seen, all, "{} by {size}", person.name);
            }
        }
        let first = pb::ListSessionsRequest { page_size: 2, ..ann.sessions_request() };
        let page_token = ann.lists(first.clone()).await.expect("a page").next_page_token;
        let again = pb::ListSessionsRequest { page_token, ..first };
        ann.lists(again.clone()).await.expect("a page");
        for other in [
            pb::ListSessionsRequest { live_only: true, ..again.clone() },
            pb::ListSessionsRequest { host_user_id: "ann".into(), ..again.clone() },
            pb::ListSessionsRequest { workspace_id: room.clone(), ..again.clone() },
            pb::ListSessionsRequest { page_token: "x".into(), ..again.clone() },
        ] {
            let refused = ann.lists(other).await.expect_err("of another list");
            assert_eq!(refused.is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
        }
        let refused = ann.lists_recordings("", 0, &again.page_token).await.expect_err("of another list");
        assert_eq!(refused.is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
        let refused = ann.lists(pb::ListSessionsRequest { page_size: -1, ..again }).await.expect_err("no size");
        assert_faults(&refused, "page_size");
        world.end().await;
    }

    async fn what_goes_on_in_one_room_is_listed(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let zed = world.person("zed").founds("Zeta").await;
        let meetings = backend_of(&world, &ann);
        let elsewhere = backend_of(&world, &zed);
        let atrium = place(&world, &ann, Kind::Room, "atrium").await;
        let bridge = place(&world, &ann, Kind::Room, "bridge").await;
        let zoo = place(&world, &zed, Kind::Room, "zoo").await;
        let happenings = [
            (&meetings, &atrium, "a1", "ann"),
            (&meetings, &bridge, "b1", "bob"),
            (&meetings, &atrium, "a2", "bob"),
            (&meetings, &atrium, "a3", "ann"),
            (&elsewhere, &zoo, "z1", "zed"),
        ];
        for (reporter, room, id, by) in happenings {
            reporter.starts(reporter.start(id, room, by)).await.expect("started");
            let recording =
                pb::RegisterRecordingRequest { workspace_id: room.clone(), ..reporter.recording(id, by, 1) };
            reporter.registers(recording).await.expect("registered");
            world.pass(TimeDelta::seconds(1));
        }
        meetings.registers(meetings.recording("nowhere", "ann", 1)).await.expect("registered");
        meetings.ends("a1", None).await.expect("ended");
        let of = |sessions: &[&str], recordings: &[&str]| {
            Ok([sessions, recordings].map(|ids| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()))
        };
        for everybody in [&ann, &meetings] {
            assert_eq!(everybody.sees_of(&atrium, "", false).await, of(&["a3", "a2", "a1"], &["a3", "a2", "a1"]));
            assert_eq!(everybody.sees_of(&atrium, "", true).await, of(&["a3", "a2"], &["a3", "a2", "a1"]));
            assert_eq!(everybody.sees_of(&atrium, "ann", true).await, of(&["a3"], &["a3", "a1"]));
            assert_eq!(everybody.sees_of(&bridge, "", false).await, of(&["b1"], &["b1"]));
            for nothing in [&zoo, &tenantry::id::new(world.clock.now()).to_string()] {
                assert_eq!(everybody.sees_of(nothing, "", false).await, of(&[], &[]));
            }
        }
        // A room opens nothing more to who may not monitor.
        assert_eq!(bob.sees_of(&atrium, "", false).await, of(&["a2"], &["a2"]));
        assert_eq!(bob.sees_of(&atrium, "ann", false).await.expect_err("not Bob's").is(), LACKS);
        for wrong in ["atrium", &atrium.replace('-', "")] {
            assert_faults(&ann.sees_of(wrong, "", false).await.expect_err("no id"), "workspace_id");
            let request = pb::ListRecordingsRequest {
                organization_id: ann.organization_id.clone(),
                workspace_id: wrong.into(),
                ..Default::default()
            };
            let refused = answer(ann.monitoring().list_recordings(request).await).expect_err("no id");
            assert_faults(&refused, "workspace_id");
        }

        // In pages; and of what was a room, when it is gone.
        ann.deletes("a2").await.expect("deleted");
        world.tampers("DELETE FROM workspace").await;
        let first = pb::ListRecordingsRequest {
            organization_id: ann.organization_id.clone(),
            workspace_id: atrium.clone(),
            page_size: 1,
            ..Default::default()
        };
        let page = answer(ann.monitoring().list_recordings(first.clone()).await).expect("a page");
        assert_eq!(page.recordings[0].recording_id, "a3");
        let next = pb::ListRecordingsRequest { page_token: page.next_page_token, ..first };
        let rest = answer(ann.monitoring().list_recordings(next.clone()).await).expect("a page");
        assert_eq!((rest.recordings[0].recording_id.as_str(), rest.next_page_token.as_str()), ("a1", ""));
        let other = pb::ListRecordingsRequest { workspace_id: bridge, ..next };
        let refused = answer(ann.monitoring().list_recordings(other).await).expect_err("of another list");
        assert_eq!(refused.is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
        let mut request = pb::ListSessionsRequest { workspace_id: atrium, page_size: 2, ..ann.sessions_request() };
        let page = ann.lists(request.clone()).await.expect("a page");
        request.page_token = page.next_page_token;
        let rest = ann.lists(request).await.expect("a page");
        assert_eq!((page.sessions[1].session_id.as_str(), rest.sessions[0].session_id.as_str()), ("a2", "a1"));
        world.end().await;
    }

    async fn an_administrator_ends_any_session_and_a_host_their_own(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let bob = ann.brings("bob", "member").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        for (session, host) in [("s1", "ann"), ("s2", "bob")] {
            meetings.starts(meetings.start(session, &room, host)).await.expect("started");
        }
        for absent in ["s1", "s9"] {
            let refused = bob.asks_to_end(absent).await.expect_err("not Bob's");
            assert_eq!((refused.is(), refused.metadata["session_id"].as_str()), (NO_SESSION, absent));
        }
        assert_eq!(ada.asks_to_end("s9").await.expect_err("absent").is(), NO_SESSION);
        let refused = meetings.asks_to_end("s1").await.expect_err("services report, they do not ask");
        assert_eq!(refused.is(), (Code::PermissionDenied, "USER_REQUIRED"));

        world.pass(TimeDelta::minutes(5));
        let ending = ada.asks_to_end("s1").await.expect("asked");
        assert_eq!((ending.state(), ending.end_requester_user_id.as_str()), (SessionState::Ending, "ada"));
        assert_eq!((ending.end_request_time, ending.end_time), (Some(world.wire_time()), None));
        let payload = json!({"session_id": "s1", "workspace_id": room});
        assert_eq!(told(&world, &ann, 1).await, [("session.end_requested".to_owned(), "s1".to_owned(), payload)]);
        // Asked twice, it was asked once.
        let kept = events(&world, &ann).await;
        world.pass(TimeDelta::seconds(5));
        assert_eq!(ann.asks_to_end("s1").await, Ok(ending.clone()));
        assert_eq!(events(&world, &ann).await, kept);
        // It is under way until the meeting backend says otherwise, who sees that it is to end.
        assert_eq!(ann.sees("", true).await.expect("listed"), ["s2", "s1"]);
        assert_eq!(ann.counters().await.2, 2);
        assert_eq!(meetings.starts(meetings.start("s1", &room, "ann")).await, Ok(ending.clone()));
        let ended = meetings.ends("s1", None).await.expect("ended");
        let end_time = Some(world.wire_time());
        assert_eq!(ended, pb::Session { state: SessionState::Ended.into(), end_time, ..ending });
        let refused = ada.asks_to_end("s1").await.expect_err("over");
        assert_eq!((refused.is(), refused.metadata["session_id"].as_str()), (NOT_LIVE, "s1"));

        let own = bob.asks_to_end("s2").await.expect("asked");
        assert_eq!((own.state(), own.end_requester_user_id.as_str()), (SessionState::Ending, "bob"));
        meetings.ends("s2", None).await.expect("ended");
        assert_eq!(bob.asks_to_end("s2").await.expect_err("over").is(), NOT_LIVE);
        assert_eq!(bob.asks_to_end("s1").await.expect_err("over, and not Bob's").is(), NO_SESSION);
        world.end().await;
    }

    async fn who_may_see_but_not_manage_is_told_so(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        role(&world, &ann, "org:auditor", &["organization_read", "monitoring_read"]).await;
        role(&world, &ann, "org:counter", &["organization_read", "monitoring_read", "seats_read"]).await;
        role(&world, &ann, "org:janitor", &["organization_read", "monitoring_manage"]).await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        for (name, role) in [("aud", "org:auditor"), ("jan", "org:janitor"), ("cas", "org:counter")] {
            ann.brings(name, "member").await;
            let held = format!("UPDATE membership SET role = '{role}' WHERE user_id = '{name}'");
            world.tampers(&held).await;
        }
        world.tampers("UPDATE organization SET members_by_role = NULL").await;
        let aud = world.person("aud").acting_in(&ann.organization_id, "org:auditor");
        let jan = world.person("jan").acting_in(&ann.organization_id, "org:janitor");
        for (id, owner) in [("1", "ann"), ("2", "aud"), ("3", "ann")] {
            meetings.starts(meetings.start(id, &room, owner)).await.expect("started");
            meetings.registers(meetings.recording(id, owner, 10)).await.expect("registered");
        }
        assert_eq!(aud.sees("", false).await.expect("listed"), ["3", "2", "1"]);
        assert_eq!(aud.sees_recordings("ann").await.expect("listed"), ["3", "1"]);
        // How many seats there are is another permission.
        let expected = pb::UsageSummary {
            organization_id: ann.organization_id.clone(),
            licenses: None,
            storage_bytes: 30,
            recordings: 3,
            live_sessions: 3,
        };
        assert_eq!(aud.usage().await, Ok(expected.clone()));
        let cas = world.person("cas").acting_in(&ann.organization_id, "org:counter");
        let licenses = cas.usage().await.expect("usage").licenses.expect("licenses");
        assert_eq!(licenses.summary, "4 / 100 seats");
        for sees_all in [&ann, &meetings] {
            let usage = sees_all.usage().await.expect("usage");
            assert_eq!(usage, pb::UsageSummary { licenses: Some(licenses.clone()), ..expected.clone() });
        }
        for refused in [aud.asks_to_end("1").await.expect_err("Ann's"), aud.deletes("1").await.expect_err("Ann's")] {
            assert_eq!((refused.is(), refused.metadata["permission"].as_str()), (LACKS, "monitoring_manage"));
            assert_eq!(refused.metadata["role"], "org:auditor");
        }
        assert_eq!(aud.asks_to_end("9").await.expect_err("absent").is(), NO_SESSION);
        assert_eq!(aud.deletes("9").await.expect_err("absent").is(), NO_RECORDING);
        aud.asks_to_end("2").await.expect("their own");
        aud.deletes("2").await.expect("their own");

        // Who may manage and not see does what they were told to.
        assert_eq!(jan.sees("", false).await.expect("listed"), [""; 0]);
        assert_eq!(jan.sees("ann", false).await.expect_err("not theirs").is(), LACKS);
        assert_eq!(jan.usage().await.expect_err("not theirs to know").is(), LACKS);
        jan.asks_to_end("1").await.expect("any");
        jan.deletes("1").await.expect("any");
        assert_eq!(ann.counters().await, (10, 1, 3));
        world.end().await;
    }

    async fn a_billing_admin_sees_what_goes_on_and_ends_nothing(backend: Backend) {
        let world = World::with(backend, Setup { policy: "split-admin".into(), ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let bill = ann.brings("bill", "billing_admin").await;
        let uma = ann.brings("uma", "user_admin").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        meetings.starts(meetings.start("s1", &room, "ann")).await.expect("started");
        meetings.registers(meetings.recording("r1", "ann", 10)).await.expect("registered");
        assert_eq!(bill.sees("", true).await.expect("listed"), ["s1"]);
        assert_eq!(bill.asks_to_end("s1").await.expect_err("Ann's").is(), LACKS);
        assert_eq!(bill.deletes("r1").await.expect_err("Ann's").is(), LACKS);
        uma.asks_to_end("s1").await.expect("asked");
        uma.deletes("r1").await.expect("deleted");
        world.end().await;
    }

    async fn a_recording_is_registered_and_corrected(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        let recorded = Some(world.wire_time_in(-TimeDelta::hours(1)));
        let request = pb::RegisterRecordingRequest {
            workspace_id: room.clone(),
            session_id: "s1".into(),
            record_time: recorded,
            ..meetings.recording("r1", "ann", 500)
        };
        let registered = meetings.registers(request.clone()).await.expect("registered");
        let created = Some(world.wire_time());
        let expected = pb::Recording {
            organization_id: ann.organization_id.clone(),
            recording_id: "r1".into(),
            workspace_id: room.clone(),
            session_id: "s1".into(),
            owner_user_id: "ann".into(),
            title: "Stand-up".into(),
            size_bytes: 500,
            length: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            record_time: recorded,
            create_time: created,
        };
        assert_eq!(registered, expected);
        let event = |size: i64, before: i64| {
            let payload =
                json!({"recording_id": "r1", "owner_user_id": "ann", "size_bytes": size, "size_bytes_before": before});
            ("recording.registered".to_owned(), "r1".to_owned(), payload)
        };
        assert_eq!(told(&world, &ann, 1).await, [event(500, 0)]);
        assert_eq!(ann.counters().await, (500, 1, 0));

        // The same again, also by somebody who does not know in which room it was.
        let kept = events(&world, &ann).await;
        world.pass(TimeDelta::minutes(1));
        assert_eq!(meetings.registers(request.clone()).await, Ok(registered.clone()));
        assert_eq!(meetings.registers(meetings.recording("r1", "ann", 500)).await, Ok(registered.clone()));
        assert_eq!((events(&world, &ann).await, ann.counters().await), (kept, (500, 1, 0)));
        let length = Some(prost_types::Duration { seconds: 31 * 86400, nanos: 0 });
        for (title, size_bytes, length, before) in
            [("Stand-up", 700, length, 500), ("Retro", 700, length, 700), ("Retro", 0, None, 700)]
        {
            let corrected =
                pb::RegisterRecordingRequest { title: title.into(), size_bytes, length, ..request.clone() };
            let corrected = meetings.registers(corrected).await.expect("corrected");
            assert_eq!((corrected.size_bytes, corrected.title.as_str()), (size_bytes, title));
            assert_eq!(corrected.length, Some(length.unwrap_or_default()));
            assert_eq!((corrected.record_time, corrected.create_time), (recorded, created));
            assert_eq!(told(&world, &ann, 1).await, [event(size_bytes, before)]);
            assert_eq!(ann.counters().await, (size_bytes, 1, 0));
            assert_eq!(ann.lists_recordings("", 0, "").await.expect("listed").recordings, [corrected]);
        }
        let other = place(&world, &ann, Kind::Workspace, "team").await;
        let another = pb::RegisterRecordingRequest {
            owner_user_id: "bob".into(),
            workspace_id: other,
            session_id: "s2".into(),
            ..request
        };
        let refused = meetings.registers(another).await.expect_err("another recording");
        assert_faults(&refused, "owner_user_id workspace_id session_id");
        assert_eq!((events(&world, &ann).await, ann.counters().await), (kept + 3, (0, 1, 0)));
        world.end().await;
    }

    async fn a_recording_is_refused_for_what_is_wrong_absent_or_too_much(backend: Backend) {
        const PETABYTE: i64 = 1_000_000_000_000_000;
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let zed = world.person("zed").founds("Zeta").await;
        let meetings = backend_of(&world, &ann);
        let foreign = place(&world, &zed, Kind::Room, "zoo").await;
        let team = place(&world, &ann, Kind::Workspace, "team").await;
        for absent in [&foreign, &tenantry::id::new(world.clock.now()).to_string()] {
            let request =
                pb::RegisterRecordingRequest { workspace_id: absent.clone(), ..meetings.recording("r1", "ann", 1) };
            let refused = meetings.registers(request).await.expect_err("absent");
            assert_eq!((refused.is(), &refused.metadata["workspace_id"]), (NO_ROOM, absent));
        }
        let wrong = pb::RegisterRecordingRequest {
            recording_id: String::new(),
            workspace_id: "team".into(),
            session_id: "s ".into(),
            owner_user_id: "\u{7}".into(),
            title: "a\nb".into(),
            size_bytes: PETABYTE + 1,
            length: Some(prost_types::Duration { seconds: 31 * 86400, nanos: 1 }),
            record_time: Some(world.wire_time_in(TimeDelta::seconds(61))),
            ..meetings.recording("", "", 0)
        };
        let refused = meetings.registers(wrong.clone()).await.expect_err("all wrong");
        let all = "recording_id workspace_id session_id owner_user_id title size_bytes length record_time";
        assert_faults(&refused, all);
        let negative = pb::RegisterRecordingRequest {
            size_bytes: -1,
            length: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            ..meetings.recording("r1", "ann", 0)
        };
        let refused = meetings.registers(negative).await.expect_err("negative");
        assert_faults(&refused, "size_bytes length");
        let refused = ann.registers(wrong).await.expect_err("Ann is no service");
        assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        assert_eq!(events(&world, &ann).await, 2, "what founding told");

        // 999 petabytes are there already.
        let request = pb::RegisterRecordingRequest { workspace_id: team, ..meetings.recording("r1", "ann", 0) };
        meetings.registers(request).await.expect("in a workspace of any kind");
        let most = 999 * PETABYTE;
        world.tampers(&format!("UPDATE recording SET size_bytes = {most}")).await;
        world.tampers(&format!("UPDATE organization SET storage_bytes = {most} WHERE recordings = 1")).await;
        meetings.registers(meetings.recording("r2", "ann", PETABYTE - 7)).await.expect("registered");
        let refused = meetings.registers(meetings.recording("r3", "ann", 8)).await.expect_err("too much");
        assert_eq!((refused.is(), refused.metadata["maximum"].as_str()), (LIMIT, "1000000000000000000"));
        let refused = meetings.registers(meetings.recording("r2", "ann", PETABYTE)).await;
        assert!(refused.is_ok(), "exactly as much as there can be: {refused:?}");
        assert_eq!(meetings.registers(meetings.recording("r3", "ann", 1)).await.expect_err("too much").is(), LIMIT);
        meetings.registers(meetings.recording("r4", "ann", 0)).await.expect("takes nothing");
        assert_eq!(meetings.registers(meetings.recording("r4", "ann", 1)).await.expect_err("grows").is(), LIMIT);
        meetings.registers(meetings.recording("r2", "ann", 8)).await.expect("shrinks");
        assert_eq!(ann.counters().await, (most + 8, 3, 0));
        world.end().await;
    }

    async fn recordings_are_listed_and_deleted_by_who_may(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let bob = ann.brings("bob", "member").await;
        let zed = world.person("zed").founds("Zeta").await;
        let meetings = backend_of(&world, &ann);
        let mut size = 1;
        for (recording, owner) in [("a1", "ann"), ("b1", "bob"), ("b2", "bob"), ("x1", "former"), ("a2", "ann")] {
            meetings.registers(meetings.recording(recording, owner, size)).await.expect("registered");
            size *= 10;
        }
        for everybody in [&ann, &ada, &meetings] {
            assert_eq!(everybody.sees_recordings("").await.expect("listed"), ["x1", "b2", "b1", "a2", "a1"]);
            assert_eq!(everybody.sees_recordings("bob").await.expect("listed"), ["b2", "b1"]);
        }
        let page = ann.lists_recordings("", 2, "").await.expect("a page");
        let rest = ann.lists_recordings("", 3, &page.next_page_token).await.expect("a page");
        assert_eq!((page.recordings.len(), rest.recordings.len(), rest.next_page_token.as_str()), (2, 3, ""));
        assert_eq!(rest.recordings[0].recording_id, "b1");
        assert_eq!(bob.sees_recordings("").await.expect("listed"), ["b2", "b1"]);
        assert_eq!(bob.sees_recordings("bob").await.expect("listed"), ["b2", "b1"]);
        let refused = bob.sees_recordings("ann").await.expect_err("not Bob's");
        assert_eq!((refused.is(), refused.metadata["permission"].as_str()), (LACKS, "monitoring_read"));
        let refused = ann.sees_recordings("a\tb").await.expect_err("no id");
        assert_faults(&refused, "owner_user_id");

        let kept = events(&world, &ann).await;
        for absent in ["a1", "r9"] {
            let refused = bob.deletes(absent).await.expect_err("not Bob's");
            assert_eq!((refused.is(), refused.metadata["recording_id"].as_str()), (NO_RECORDING, absent));
        }
        assert_eq!(zed.deletes("a1").await.expect_err("of another organization").is(), NO_RECORDING);
        assert_eq!(ada.deletes("").await.expect_err("no id").is(), FIELDS);
        let rehearsal = pb::DeleteRecordingRequest { validate_only: true, ..bob.deletion("b1") };
        answer(bob.monitoring().delete_recording(rehearsal).await).expect("would delete");
        assert_eq!((events(&world, &ann).await, ann.counters().await), (kept, (11111, 5, 0)));

        let deleted = bob.deletes("b1").await.expect("deleted");
        assert_eq!((deleted.recording_id.as_str(), deleted.size_bytes), ("b1", 10));
        let payload = json!({"recording_id": "b1", "owner_user_id": "bob", "size_bytes": 10});
        assert_eq!(told(&world, &ann, 1).await, [("recording.deleted".to_owned(), "b1".to_owned(), payload)]);
        assert_eq!(bob.deletes("b1").await.expect_err("deleted").is(), NO_RECORDING);
        // Whoever did not hear the answer hears it.
        let request_id = tenantry::id::new(world.clock.now()).to_string();
        let request = pb::DeleteRecordingRequest { request_id, ..ada.deletion("a1") };
        for _ in 0..2 {
            let answered = answer(ada.monitoring().delete_recording(request.clone()).await).expect("deleted");
            assert_eq!(answered.recording.expect("a recording").recording_id, "a1");
        }
        meetings.deletes("x1").await.expect("deleted");
        assert_eq!(ann.counters().await, (10100, 2, 0));
        assert_eq!(events(&world, &ann).await, kept + 3);
        world.end().await;
    }

    async fn a_deleted_recording_does_not_come_back(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let zed = world.person("zed").founds("Zeta").await;
        let meetings = backend_of(&world, &ann);
        for (recording, size) in [("rec-1", 500), ("rec-2", 7)] {
            meetings.registers(meetings.recording(recording, "bob", size)).await.expect("registered");
        }
        let deleted = ann.deletes("rec-1").await.expect("deleted");
        assert_eq!((deleted.title.as_str(), deleted.size_bytes), ("Stand-up", 500));
        assert_eq!(ann.counters().await, (7, 1, 0));
        let kept = events(&world, &ann).await;

        // The meeting backend, late, says how large it became: also in a rehearsal, and of another owner.
        world.pass(TimeDelta::minutes(5));
        for late in [
            meetings.recording("rec-1", "bob", 900),
            meetings.recording("rec-1", "bob", 500),
            meetings.recording("rec-1", "cas", 900),
            pb::RegisterRecordingRequest { validate_only: true, ..meetings.recording("rec-1", "bob", 900) },
        ] {
            let refused = meetings.registers(late).await.expect_err("deleted");
            assert_eq!((refused.is(), refused.metadata["recording_id"].as_str()), (NO_RECORDING, "rec-1"));
        }
        for person in [&ann, &bob, &meetings] {
            assert_eq!(person.deletes("rec-1").await.expect_err("deleted").is(), NO_RECORDING);
            assert_eq!(person.sees_recordings("").await.expect("listed"), ["rec-2"]);
            assert_eq!(person.sees_recordings("bob").await.expect("listed"), ["rec-2"]);
        }
        assert_eq!((events(&world, &ann).await, ann.counters().await), (kept, (7, 1, 0)));
        // What it was about is forgotten; what another organization calls by its id is another recording.
        assert_eq!(world.number("SELECT count(*) FROM recording WHERE title = ''").await, 1);
        let elsewhere = backend_of(&world, &zed);
        elsewhere.registers(elsewhere.recording("rec-1", "zed", 1)).await.expect("registered");
        assert_eq!(zed.counters().await, (1, 1, 0));
        world.end().await;
    }

    async fn what_went_on_stays_when_its_room_or_its_host_is_gone(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        meetings.starts(meetings.start("s1", &room, "bob")).await.expect("started");
        let request = pb::RegisterRecordingRequest { workspace_id: room.clone(), ..meetings.recording("r1", "bob", 5) };
        meetings.registers(request.clone()).await.expect("registered");
        world.tampers("DELETE FROM workspace").await;
        ann.tries_to_remove("bob").await.expect("removed");
        assert_eq!(bob.sees("", false).await.expect_err("gone").is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        assert_eq!(bob.deletes("r1").await.expect_err("gone").is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        assert_eq!(ann.sees("bob", true).await.expect("listed"), ["s1"]);
        assert_eq!(ann.sees_recordings("bob").await.expect("listed"), ["r1"]);
        // What is under way goes on; nothing new begins there.
        let more = pb::RecordSessionStartRequest { participants: 3, ..meetings.start("s1", &room, "bob") };
        assert_eq!(meetings.starts(more).await.expect("reported").participants, 3);
        assert_eq!(meetings.starts(meetings.start("s2", &room, "bob")).await.expect_err("no room").is(), NO_ROOM);
        meetings.ends("s1", None).await.expect("ended");
        meetings.registers(pb::RegisterRecordingRequest { size_bytes: 6, ..request }).await.expect("corrected");
        assert_eq!(ann.counters().await, (6, 1, 0));
        ann.deletes("r1").await.expect("deleted");
        world.end().await;
    }

    async fn usage_is_told_to_who_may_monitor(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let meetings = backend_of(&world, &ann);
        ann.invites(&["cas@example.com"], "member").await;
        let usage = ann.usage().await.expect("usage");
        let licenses = usage.licenses.clone().expect("licenses");
        assert_eq!((licenses.summary.as_str(), licenses.members, licenses.pending), ("3 / 100 seats", 2, 1));
        assert_eq!((usage.organization_id.as_str(), usage.recordings), (ann.organization_id.as_str(), 0));
        assert_eq!(meetings.usage().await, Ok(usage));
        let refused = bob.usage().await.expect_err("not for members");
        assert_eq!((refused.is(), refused.metadata["permission"].as_str()), (LACKS, "monitoring_read"));
        // An expired invitation holds no license.
        world.pass(TimeDelta::days(7));
        let licenses = ann.usage().await.expect("usage").licenses.expect("licenses");
        assert_eq!((licenses.summary.as_str(), licenses.pending), ("2 / 100 seats", 0));
        let nowhere = Person { organization_id: tenantry::id::new(world.clock.now()).to_string(), ..meetings };
        assert_eq!(nowhere.usage().await.expect_err("nowhere").is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        assert_eq!(nowhere.deletes("r1").await.expect_err("nowhere").is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        world.end().await;
    }

    async fn nothing_goes_on_in_a_deleted_organization(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        meetings.starts(meetings.start("s1", &room, "ann")).await.expect("started");
        meetings.registers(meetings.recording("r1", "ann", 10)).await.expect("registered");
        ann.tries_to_delete().await.expect("deleted");
        let closed = [
            meetings.starts(meetings.start("s1", &room, "ann")).await.expect_err("deleted"),
            meetings.ends("s1", None).await.expect_err("deleted"),
            ann.sees("", false).await.expect_err("deleted"),
            ann.asks_to_end("s1").await.expect_err("deleted"),
            meetings.registers(meetings.recording("r2", "ann", 10)).await.expect_err("deleted"),
            ann.sees_recordings("").await.expect_err("deleted"),
            meetings.deletes("r1").await.expect_err("deleted"),
            ann.usage().await.expect_err("deleted"),
        ];
        for refused in closed {
            assert_eq!(refused.is(), (Code::FailedPrecondition, "ORGANIZATION_DELETED"));
        }
        ann.tries_to_undelete().await.expect("undeleted");
        assert_eq!(ann.counters().await, (10, 1, 1));
        meetings.ends("s1", None).await.expect("ended");
        world.end().await;
    }

    async fn what_is_told_twice_at_once_is_counted_once(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let meetings = backend_of(&world, &ann);
        let room = place(&world, &ann, Kind::Room, "atrium").await;
        for round in 0..5 {
            let id = format!("s{round}");
            let kept = events(&world, &ann).await;
            let starts = at_once((0..6).map(|number| {
                let (meetings, request) = (spread(&world, &meetings, number), meetings.start(&id, &room, "ann"));
                async move { meetings.starts(request).await }
            }));
            let starts = starts.await;
            assert!(starts.iter().all(|start| start == &starts[0] && start.is_ok()), "{starts:?}");
            assert_eq!((events(&world, &ann).await, ann.counters().await.2), (kept + 1, 1));
            let asks = at_once((0..4).map(|number| {
                let (ann, id) = (spread(&world, &ann, number), id.clone());
                async move { ann.asks_to_end(&id).await }
            }));
            assert!(asks.await.iter().all(Result::is_ok));
            assert_eq!(events(&world, &ann).await, kept + 2);
            let ends = at_once((0..6).map(|number| {
                let (meetings, id) = (spread(&world, &meetings, number), id.clone());
                async move { meetings.ends(&id, None).await }
            }));
            assert!(ends.await.iter().all(Result::is_ok));
            assert_eq!((events(&world, &ann).await, ann.counters().await.2), (kept + 3, 0));
        }
        world.end().await;
    }

    async fn a_recording_deleted_twice_at_once_gives_its_storage_back_once(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let meetings = backend_of(&world, &ann);
        meetings.registers(meetings.recording("kept", "ann", 7)).await.expect("registered");
        for round in 0..5 {
            let id = format!("r{round}");
            let registered = at_once((0..4_i64).map(|number| {
                // Different sizes: whichever comes last is right.
                let meetings = spread(&world, &meetings, usize::try_from(number).expect("small"));
                let request = meetings.recording(&id, "ann", 100 + number);
                async move { meetings.registers(request).await }
            }));
            assert!(registered.await.iter().all(Result::is_ok));
            let (storage, recordings, _) = ann.counters().await;
            assert!((107..=110).contains(&storage) && recordings == 2, "{storage}");
            let deleted = at_once((0..6).map(|number| {
                let by = if number % 2 == 0 { &ann } else { &meetings };
                let (by, id) = (spread(&world, by, number / 2), id.clone());
                async move { by.deletes(&id).await }
            }));
            let deleted = deleted.await;
            assert_eq!(deleted.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{deleted:?}");
            assert!(deleted.iter().filter_map(|outcome| outcome.as_ref().err()).all(|e| e.is() == NO_RECORDING));
            assert_eq!(ann.counters().await, (7, 1, 0));
            world.recount().await;
        }
        world.end().await;
    }
}
