//! DeleteRecording.

use super::shown_recording;
use crate::app::App;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::monitoring::{rules, store};
use crate::operation::{Command, MemberOrService, Unit};
use crate::pb;

pub(super) struct DeleteRecording {
    recording_id: String,
}

impl Command for DeleteRecording {
    type Request = pb::DeleteRecordingRequest;
    type Response = pb::DeleteRecordingResponse;
    type Actor = MemberOrService;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let recording_id = fields.foreign_id("recording_id", &request.recording_id);
        fields.done(Self { recording_id })
    }

    async fn run(&self, unit: &mut Unit<'_, MemberOrService>) -> Result<Self::Response, Error> {
        let missing = || Error::RecordingNotFound { recording_id: self.recording_id.clone() };
        let found = store::find_recording(unit.transaction(), unit.scope(), &self.recording_id).await?;
        let row = found.ok_or_else(missing)?;
        rules::kept(&row)?;
        if let MemberOrService::Member(member) = &unit.actor {
            rules::may_manage(&member.role, &member.membership.user_id, &row.owner_user_id, missing)?;
        }
        store::delete_recording(unit, &row).await?;
        unit.record(Change::RecordingDeleted {
            recording_id: row.recording_id.clone(),
            owner_user_id: row.owner_user_id.clone(),
            size_bytes: row.size_bytes,
        });
        Ok(pb::DeleteRecordingResponse { recording: Some(shown_recording(&row)) })
    }
}
