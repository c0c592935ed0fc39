//! The rules about sessions and recordings: pure, decided on values, with the time passed in.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::auth::policy::RoleDefinition;
use crate::entity::{recording, room_session};
use crate::error::{Error, Violation};
use crate::pb::{Permission, SessionState};

/// The most bytes that the recordings of one organization may take together: far from where the counter would overflow.
pub const MOST_STORAGE: i64 = 1_000_000_000_000_000_000;

/// Of which user a list shows what is theirs; of everybody when of none. `viewer` is the member who asks, with their role; a
/// service sees all. `asked` names the user whom they want to see, nobody when empty.
pub fn listed_of(viewer: Option<(&RoleDefinition, &str)>, asked: &str) -> Result<Option<String>, Error> {
    let named = Some(asked).filter(|asked| !asked.is_empty()).map(str::to_owned);
    let Some((role, user_id)) = viewer else { return Ok(named) };
    if !role.allows(Permission::MonitoringRead) && (asked.is_empty() || asked == user_id) {
        return Ok(Some(user_id.to_owned()));
    }
    role.require(Permission::MonitoringRead)?;
    Ok(named)
}

/// Whether a member may end the session, or delete the recording, of `owner`. Who may not even see it is told that it is not
/// there.
pub fn may_manage(
    role: &RoleDefinition,
    user_id: &str,
    owner: &str,
    missing: impl FnOnce() -> Error,
) -> Result<(), Error> {
    if user_id == owner {
        return Ok(());
    }
    if !role.allows(Permission::MonitoringManage) && !role.allows(Permission::MonitoringRead) {
        return Err(missing());
    }
    role.require(Permission::MonitoringManage)
}

/// Where a session stands.
#[must_use]
pub fn state(session: &room_session::Model) -> SessionState {
    match (session.ended_at, session.end_requested_at) {
        (Some(_), _) => SessionState::Ended,
        (None, Some(_)) => SessionState::Ending,
        (None, None) => SessionState::Live,
    }
}

/// Whether a session is under way, asked to end or not.
pub fn under_way(session: &room_session::Model) -> Result<(), Error> {
    match session.ended_at {
        None => Ok(()),
        Some(_) => Err(Error::SessionNotLive { session_id: session.session_id.clone() }),
    }
}

/// Whether a report is about the session that has its id: the same room, the same host.
pub fn same_session(session: &room_session::Model, workspace_id: Uuid, host_user_id: &str) -> Result<(), Error> {
    same(
        "session",
        [
            ("workspace_id", session.workspace_id == workspace_id),
            ("host_user_id", session.host_user_id == host_user_id),
        ],
    )
}

/// Whether a recording is still there. One that was deleted is not there for anybody, and does not come back.
pub fn kept(recording: &recording::Model) -> Result<(), Error> {
    match recording.deleted_at {
        None => Ok(()),
        Some(_) => Err(Error::RecordingNotFound { recording_id: recording.recording_id.clone() }),
    }
}

/// Whether a report is about the recording that has its id: the same owner and, where it says them, the same room and session.
pub fn same_recording(
    recording: &recording::Model,
    owner_user_id: &str,
    workspace_id: Option<Uuid>,
    session_id: Option<&str>,
) -> Result<(), Error> {
    let unless_said = |said: bool, same: bool| !said || same;
    same(
        "recording",
        [
            ("owner_user_id", recording.owner_user_id == owner_user_id),
            ("workspace_id", unless_said(workspace_id.is_some(), recording.workspace_id == workspace_id)),
            ("session_id", unless_said(session_id.is_some(), recording.session_id.as_deref() == session_id)),
        ],
    )
}

fn same<const N: usize>(what: &str, fields: [(&str, bool); N]) -> Result<(), Error> {
    let others = fields.into_iter().filter(|(_, same)| !same);
    let violations: Vec<Violation> = others
        .map(|(field, _)| Violation {
            field: field.to_owned(),
            description: format!(
                "is another one than that of the {what} that has this id; give each {what} its own id"
            ),
        })
        .collect();
    if violations.is_empty() { Ok(()) } else { Err(Error::Fields(violations)) }
}

/// When a session ended that is reported to have ended at a time or, if none is said, now. A session that began at a clock that
/// is ahead of this one does not end before its start.
pub fn end(
    session: &room_session::Model,
    reported: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, Error> {
    match reported {
        Some(end) if end < session.started_at => {
            let start = session.started_at.to_rfc3339();
            Err(Error::of_field("end_time", format!("must not be before the session's start, {start}")))
        }
        Some(end) => Ok(end),
        None => Ok(now.max(session.started_at)),
    }
}

/// Whether the recordings of an organization may take this much more, or less.
pub fn may_store(taken: i64, more: i64) -> Result<(), Error> {
    if more <= 0 || taken.checked_add(more).is_some_and(|after| after <= MOST_STORAGE) {
        return Ok(());
    }
    Err(Error::LimitReached { of: "bytes of recordings", maximum: usize::try_from(MOST_STORAGE).unwrap_or(usize::MAX) })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::auth::policy::{RolePolicy, presets};

    fn session(started_at: DateTime<Utc>) -> room_session::Model {
        room_session::Model {
            organization_id: Uuid::nil(),
            session_id: "s".into(),
            workspace_id: Uuid::nil(),
            title: String::new(),
            host_user_id: "hal".into(),
            participants: 0,
            started_at,
            end_requested_at: None,
            end_requested_by: None,
            ended_at: None,
        }
    }

    fn every_role(check: impl Fn(&RoleDefinition)) {
        for preset in presets() {
            RolePolicy::load(preset).unwrap().roles().for_each(&check);
        }
    }

    #[test]
    fn who_may_not_monitor_sees_and_manages_only_what_is_theirs() {
        every_role(|role| {
            let (reads, manages) = (role.allows(Permission::MonitoringRead), role.allows(Permission::MonitoringManage));
            for (asked, everybodys, own) in
                [("", None, Some("ann")), ("ann", Some("ann"), Some("ann")), ("bob", Some("bob"), None)]
            {
                let listed = listed_of(Some((role, "ann")), asked).ok();
                let expected =
                    if reads { Some(everybodys.map(str::to_owned)) } else { own.map(|own| Some(own.to_owned())) };
                assert_eq!(listed, expected, "{} asks for {asked:?}", role.name);
            }
            let missing = || Error::RecordingNotFound { recording_id: "r".into() };
            assert!(may_manage(role, "ann", "ann", missing).is_ok());
            let others = may_manage(role, "ann", "bob", missing);
            assert_eq!(others.is_ok(), manages);
            if let Err(refusal) = others {
                assert_eq!(matches!(refusal, Error::RecordingNotFound { .. }), !reads, "{}: {refusal:?}", role.name);
            }
        });
        assert_eq!(listed_of(None, "").unwrap(), None);
        assert_eq!(listed_of(None, "bob").unwrap().as_deref(), Some("bob"));
    }

    #[test]
    fn an_id_stands_for_one_session_and_one_recording() {
        let faults = |outcome: Result<(), Error>| match outcome {
            Err(Error::Fields(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
            other => vec![format!("{other:?}")],
        };
        let (room, other) = (Uuid::nil(), Uuid::max());
        let session = session(DateTime::UNIX_EPOCH);
        assert!(same_session(&session, room, "hal").is_ok());
        assert_eq!(faults(same_session(&session, other, "ida")), ["workspace_id", "host_user_id"]);
        let mut recording = recording::Model {
            organization_id: Uuid::nil(),
            recording_id: "r".into(),
            workspace_id: Some(room),
            session_id: Some("s".into()),
            owner_user_id: "ann".into(),
            title: String::new(),
            size_bytes: 0,
            length_seconds: 0,
            recorded_at: DateTime::UNIX_EPOCH,
            created_at: DateTime::UNIX_EPOCH,
            deleted_at: None,
        };
        assert!(same_recording(&recording, "ann", Some(room), Some("s")).is_ok());
        assert!(same_recording(&recording, "ann", None, None).is_ok());
        let all = ["owner_user_id", "workspace_id", "session_id"];
        assert_eq!(faults(same_recording(&recording, "bob", Some(other), Some("t"))), all);
        assert!(kept(&recording).is_ok());
        (recording.workspace_id, recording.session_id) = (None, None);
        assert_eq!(faults(same_recording(&recording, "ann", Some(room), Some("s"))), all[1..]);
        recording.deleted_at = Some(DateTime::UNIX_EPOCH);
        assert!(matches!(kept(&recording), Err(Error::RecordingNotFound { recording_id }) if recording_id == "r"));
    }

    proptest! {
        #[test]
        fn storage_never_passes_its_limit_and_always_shrinks(taken in 0..=MOST_STORAGE, more in any::<i64>()) {
            let stored = may_store(taken, more).is_ok();
            prop_assert_eq!(stored, i128::from(taken) + i128::from(more) <= i128::from(MOST_STORAGE));
            prop_assert!(stored || more > 0);
        }

        #[test]
        fn no_session_ends_before_its_start(start in 0..1000i64, reported in prop::option::of(0..1000i64), now in 0..1000i64) {
            let at = |second| DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
            match end(&session(at(start)), reported.map(at), at(now)) {
                Ok(end) => prop_assert!(end >= at(start) && reported.is_none_or(|reported| end == at(reported))),
                Err(_) => prop_assert!(reported.is_some_and(|reported| reported < start)),
            }
        }
    }
}
