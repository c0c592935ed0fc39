//! ListSessions and ListRecordings.

use uuid::Uuid;

use super::{shown_recording, shown_session};
use crate::app::App;
use crate::error::Error;
use crate::fields::{Fields, is_time};
use crate::id::UserId;
use crate::monitoring::store::{Position, Recordings, Sessions};
use crate::monitoring::{rules, store};
use crate::operation::{Query, Reader};
use crate::page::Page;
use crate::pb;

pub(super) struct ListSessions {
    host_user_id: String,
    workspace_id: Option<Uuid>,
    live_only: bool,
    page: Page<Position>,
}

impl Query for ListSessions {
    type Request = pb::ListSessionsRequest;
    type Response = pb::ListSessionsResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let host_user_id = user(&mut fields, "host_user_id", &request.host_user_id);
        let workspace_id = room(&mut fields, &request.workspace_id);
        let live_only = request.live_only;
        let list = format!("ListSessions {} {live_only} {host_user_id:?} {workspace_id:?}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, is_place)?;
        fields.done(Self { host_user_id, workspace_id, live_only, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let host_user_id = listed_of(reader, &self.host_user_id)?;
        let (workspace_id, live_only, page) = (self.workspace_id, self.live_only, &self.page);
        let sessions = Sessions { host_user_id, workspace_id, live_only };
        let rows =
            store::list_sessions(reader.connection(), reader.scope, &sessions, page.after.as_ref(), page.size + 1);
        let mut rows = rows.await?;
        let next_page_token = page.cut(&mut rows, |row| (row.started_at, row.session_id.clone()))?;
        Ok(pb::ListSessionsResponse { sessions: rows.iter().map(shown_session).collect(), next_page_token })
    }
}

pub(super) struct ListRecordings {
    owner_user_id: String,
    workspace_id: Option<Uuid>,
    page: Page<Position>,
}

impl Query for ListRecordings {
    type Request = pb::ListRecordingsRequest;
    type Response = pb::ListRecordingsResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let owner_user_id = user(&mut fields, "owner_user_id", &request.owner_user_id);
        let workspace_id = room(&mut fields, &request.workspace_id);
        let list = format!("ListRecordings {} {owner_user_id:?} {workspace_id:?}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, is_place)?;
        fields.done(Self { owner_user_id, workspace_id, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let owner_user_id = listed_of(reader, &self.owner_user_id)?;
        let (recordings, page) = (Recordings { owner_user_id, workspace_id: self.workspace_id }, &self.page);
        let rows =
            store::list_recordings(reader.connection(), reader.scope, &recordings, page.after.as_ref(), page.size + 1);
        let mut rows = rows.await?;
        let next_page_token = page.cut(&mut rows, |row| (row.recorded_at, row.recording_id.clone()))?;
        Ok(pb::ListRecordingsResponse { recordings: rows.iter().map(shown_recording).collect(), next_page_token })
    }
}

/// The user to whom a list is narrowed; nobody when empty.
fn user(fields: &mut Fields, field: &str, value: &str) -> String {
    if value.is_empty() { String::new() } else { fields.user_id(field, value) }
}

/// The room to which a list is narrowed, if to any. It need not be there any more: what went on in it stays.
fn room(fields: &mut Fields, value: &str) -> Option<Uuid> {
    (!value.is_empty()).then(|| fields.uuid("workspace_id", value))
}

fn is_place((at, id): &Position) -> bool {
    is_time(at) && UserId::parse(id).is_ok()
}

/// Of which user the caller is shown what is theirs.
fn listed_of(reader: &Reader<'_>, asked: &str) -> Result<Option<String>, Error> {
    let member = reader.role.zip(reader.membership.as_ref());
    rules::listed_of(member.map(|(role, membership)| (role, membership.user_id.as_str())), asked)
}
