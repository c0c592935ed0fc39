//! RecordSessionStart.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{TITLE_MAXIMUM, shown_session};
use crate::app::App;
use crate::entity::room_session;
use crate::entity::workspace::Kind;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::monitoring::{rules, store};
use crate::operation::{Command, Trusted, Unit};
use crate::pb;

pub(super) struct RecordSessionStart {
    session_id: String,
    workspace_id: Uuid,
    title: String,
    host_user_id: String,
    participants: i64,
    start: Option<DateTime<Utc>>,
}

impl Command for RecordSessionStart {
    type Request = pb::RecordSessionStartRequest;
    type Response = pb::RecordSessionStartResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let session_id = fields.foreign_id("session_id", &request.session_id);
        let workspace_id = fields.uuid("workspace_id", &request.workspace_id);
        let title = fields.line("title", &request.title, 0..=TITLE_MAXIMUM);
        let host_user_id = fields.user_id("host_user_id", &request.host_user_id);
        let participants = request.participants;
        if participants < 0 {
            fields.fault("participants", "must not be negative");
        }
        let start = fields.past_time("start_time", request.start_time.as_ref(), app.clock.now());
        fields.done(Self { session_id, workspace_id, title, host_user_id, participants, start })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let session = match store::find_session(unit.transaction(), unit.scope(), &self.session_id).await? {
            None => self.begin(unit).await?,
            Some(found) => self.go_on(unit, found).await?,
        };
        Ok(pb::RecordSessionStartResponse { session: Some(shown_session(&session)) })
    }
}

impl RecordSessionStart {
    async fn begin(&self, unit: &mut Unit<'_, Trusted>) -> Result<room_session::Model, Error> {
        let kind = store::workspace_kind(unit.transaction(), unit.scope(), self.workspace_id).await?;
        if kind != Some(Kind::Room) {
            return Err(Error::WorkspaceNotFound { workspace_id: self.workspace_id.to_string() });
        }
        let row = room_session::Model {
            organization_id: unit.scope().organization_id(),
            session_id: self.session_id.clone(),
            workspace_id: self.workspace_id,
            title: self.title.clone(),
            host_user_id: self.host_user_id.clone(),
            participants: self.participants,
            started_at: self.start.unwrap_or(unit.now),
            end_requested_at: None,
            end_requested_by: None,
            ended_at: None,
        };
        store::insert_session(unit, row.clone()).await?;
        unit.record(Change::SessionStarted {
            session_id: row.session_id.clone(),
            workspace_id: row.workspace_id,
            host_user_id: row.host_user_id.clone(),
        });
        Ok(row)
    }

    /// Of a session that is known its room is not looked at again: it goes on when the room is deleted.
    async fn go_on(
        &self,
        unit: &Unit<'_, Trusted>,
        mut row: room_session::Model,
    ) -> Result<room_session::Model, Error> {
        rules::same_session(&row, self.workspace_id, &self.host_user_id)?;
        rules::under_way(&row)?;
        if row.participants != self.participants || row.title != self.title {
            row.participants = self.participants;
            row.title.clone_from(&self.title);
            store::update_report(unit, &row).await?;
        }
        Ok(row)
    }
}
