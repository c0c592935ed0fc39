//! MonitoringService on the wire: a file for each RPC or family, and how sessions and recordings are shown.

mod delete;
mod end;
mod lists;
mod register;
mod start;
mod usage;

use std::sync::Arc;

use super::rules;
use crate::app::App;
use crate::entity::{recording, room_session};
use crate::fields::timestamp;
use crate::forward::forward;
use crate::operation;
use crate::pb;
use crate::pb::monitoring_service_server::MonitoringService;

/// The most characters of a title.
const TITLE_MAXIMUM: usize = 200;

/// MonitoringService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

forward! { MonitoringService:
    record_session_start(RecordSessionStartRequest) -> RecordSessionStartResponse: operation::change::<start::RecordSessionStart>;
    record_session_end(RecordSessionEndRequest) -> RecordSessionEndResponse: operation::change::<end::RecordSessionEnd>;
    list_sessions(ListSessionsRequest) -> ListSessionsResponse: operation::read::<lists::ListSessions>;
    end_session(EndSessionRequest) -> EndSessionResponse: operation::change::<end::EndSession>;
    register_recording(RegisterRecordingRequest) -> RegisterRecordingResponse: operation::change::<register::RegisterRecording>;
    list_recordings(ListRecordingsRequest) -> ListRecordingsResponse: operation::read::<lists::ListRecordings>;
    delete_recording(DeleteRecordingRequest) -> DeleteRecordingResponse: operation::change::<delete::DeleteRecording>;
    get_usage_summary(GetUsageSummaryRequest) -> GetUsageSummaryResponse: operation::read::<usage::GetUsageSummary>;
}

/// A session as the wire shows it.
fn shown_session(row: &room_session::Model) -> pb::Session {
    pb::Session {
        organization_id: row.organization_id.to_string(),
        session_id: row.session_id.clone(),
        workspace_id: row.workspace_id.to_string(),
        title: row.title.clone(),
        host_user_id: row.host_user_id.clone(),
        participants: row.participants,
        state: rules::state(row).into(),
        start_time: Some(timestamp(row.started_at)),
        end_request_time: row.end_requested_at.map(timestamp),
        end_requester_user_id: row.end_requested_by.clone().unwrap_or_default(),
        end_time: row.ended_at.map(timestamp),
    }
}

/// A recording as the wire shows it.
fn shown_recording(row: &recording::Model) -> pb::Recording {
    pb::Recording {
        organization_id: row.organization_id.to_string(),
        recording_id: row.recording_id.clone(),
        workspace_id: row.workspace_id.map(|id| id.to_string()).unwrap_or_default(),
        session_id: row.session_id.clone().unwrap_or_default(),
        owner_user_id: row.owner_user_id.clone(),
        title: row.title.clone(),
        size_bytes: row.size_bytes,
        length: Some(prost_types::Duration { seconds: row.length_seconds, nanos: 0 }),
        record_time: Some(timestamp(row.recorded_at)),
        create_time: Some(timestamp(row.created_at)),
    }
}
