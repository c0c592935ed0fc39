//! MonitoringService on the wire.

use std::sync::Arc;

use crate::app::App;
use crate::forward::forward;
use crate::operation;
use crate::pb::monitoring_service_server::MonitoringService;

/// MonitoringService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

forward! { MonitoringService:
    record_session_start(RecordSessionStartRequest) -> RecordSessionStartResponse: operation::unwritten;
    record_session_end(RecordSessionEndRequest) -> RecordSessionEndResponse: operation::unwritten;
    list_sessions(ListSessionsRequest) -> ListSessionsResponse: operation::unwritten;
    end_session(EndSessionRequest) -> EndSessionResponse: operation::unwritten;
    register_recording(RegisterRecordingRequest) -> RegisterRecordingResponse: operation::unwritten;
    list_recordings(ListRecordingsRequest) -> ListRecordingsResponse: operation::unwritten;
    delete_recording(DeleteRecordingRequest) -> DeleteRecordingResponse: operation::unwritten;
    get_usage_summary(GetUsageSummaryRequest) -> GetUsageSummaryResponse: operation::unwritten;
}
