//! RegisterRecording.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{TITLE_MAXIMUM, shown_recording};
use crate::app::App;
use crate::entity::recording;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::monitoring::{rules, store};
use crate::operation::{Command, Trusted, Unit};
use crate::pb;

/// The largest recording, in bytes.
const SIZE_MAXIMUM: i64 = 1_000_000_000_000_000;
const LENGTH_MAXIMUM: TimeDelta = TimeDelta::days(31);

pub(super) struct RegisterRecording {
    recording_id: String,
    workspace_id: Option<Uuid>,
    session_id: Option<String>,
    owner_user_id: String,
    title: String,
    size_bytes: i64,
    length_seconds: i64,
    recorded: Option<DateTime<Utc>>,
}

impl Command for RegisterRecording {
    type Request = pb::RegisterRecordingRequest;
    type Response = pb::RegisterRecordingResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let recording_id = fields.foreign_id("recording_id", &request.recording_id);
        let (room, session) = (request.workspace_id.as_str(), request.session_id.as_str());
        let workspace_id = (!room.is_empty()).then(|| fields.uuid("workspace_id", room));
        let session_id = (!session.is_empty()).then(|| fields.foreign_id("session_id", session));
        let owner_user_id = fields.user_id("owner_user_id", &request.owner_user_id);
        let title = fields.line("title", &request.title, 0..=TITLE_MAXIMUM);
        let size_bytes = request.size_bytes;
        if !(0..=SIZE_MAXIMUM).contains(&size_bytes) {
            fields.fault("size_bytes", format!("must be 0 to {SIZE_MAXIMUM}"));
        }
        let length = fields.duration("length", request.length.as_ref(), TimeDelta::zero()..=LENGTH_MAXIMUM);
        let length_seconds = length.unwrap_or_default().num_seconds();
        let recorded = fields.past_time("record_time", request.record_time.as_ref(), app.clock.now());
        fields.done(Self {
            recording_id,
            workspace_id,
            session_id,
            owner_user_id,
            title,
            size_bytes,
            length_seconds,
            recorded,
        })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let recording = match store::find_recording(unit.transaction(), unit.scope(), &self.recording_id).await? {
            None => self.register(unit).await?,
            Some(found) => self.correct(unit, found).await?,
        };
        Ok(pb::RegisterRecordingResponse { recording: Some(shown_recording(&recording)) })
    }
}

impl RegisterRecording {
    async fn register(&self, unit: &mut Unit<'_, Trusted>) -> Result<recording::Model, Error> {
        if let Some(workspace_id) = self.workspace_id {
            let kind = store::workspace_kind(unit.transaction(), unit.scope(), workspace_id).await?;
            kind.ok_or_else(|| Error::WorkspaceNotFound { workspace_id: workspace_id.to_string() })?;
        }
        rules::may_store(unit.actor.organization.storage_bytes, self.size_bytes)?;
        let row = recording::Model {
            organization_id: unit.scope().organization_id(),
            recording_id: self.recording_id.clone(),
            workspace_id: self.workspace_id,
            session_id: self.session_id.clone(),
            owner_user_id: self.owner_user_id.clone(),
            title: self.title.clone(),
            size_bytes: self.size_bytes,
            length_seconds: self.length_seconds,
            recorded_at: self.recorded.unwrap_or(unit.now),
            created_at: unit.now,
            deleted_at: None,
        };
        store::insert_recording(unit, row.clone()).await?;
        unit.record(registered(&row, 0));
        Ok(row)
    }

    /// Of a recording that is known its room is not looked at again: the recording stays when the room is deleted.
    async fn correct(&self, unit: &mut Unit<'_, Trusted>, found: recording::Model) -> Result<recording::Model, Error> {
        rules::kept(&found)?;
        rules::same_recording(&found, &self.owner_user_id, self.workspace_id, self.session_id.as_deref())?;
        let row = recording::Model {
            title: self.title.clone(),
            size_bytes: self.size_bytes,
            length_seconds: self.length_seconds,
            ..found.clone()
        };
        if row != found {
            rules::may_store(unit.actor.organization.storage_bytes, row.size_bytes - found.size_bytes)?;
            store::update_recording(unit, &row, found.size_bytes).await?;
            unit.record(registered(&row, found.size_bytes));
        }
        Ok(row)
    }
}

fn registered(row: &recording::Model, size_bytes_before: i64) -> Change {
    Change::RecordingRegistered {
        recording_id: row.recording_id.clone(),
        owner_user_id: row.owner_user_id.clone(),
        size_bytes: row.size_bytes,
        size_bytes_before,
    }
}
