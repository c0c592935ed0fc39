//! RecordSessionEnd and EndSession.

use chrono::{DateTime, Utc};

use super::shown_session;
use crate::app::App;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::monitoring::{rules, store};
use crate::operation::{Command, Member, Trusted, Unit};
use crate::pb;

pub(super) struct RecordSessionEnd {
    session_id: String,
    end: Option<DateTime<Utc>>,
}

impl Command for RecordSessionEnd {
    type Request = pb::RecordSessionEndRequest;
    type Response = pb::RecordSessionEndResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let session_id = fields.foreign_id("session_id", &request.session_id);
        let end = fields.past_time("end_time", request.end_time.as_ref(), app.clock.now());
        fields.done(Self { session_id, end })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let found = store::find_session(unit.transaction(), unit.scope(), &self.session_id).await?;
        let mut row = found.ok_or_else(|| Error::SessionNotFound { session_id: self.session_id.clone() })?;
        let end = rules::end(&row, self.end, unit.now)?;
        if row.ended_at.is_none() {
            store::end_session(unit, &mut row, end).await?;
            unit.record(Change::SessionEnded {
                session_id: row.session_id.clone(),
                workspace_id: row.workspace_id,
                length_seconds: (end - row.started_at).num_seconds(),
            });
        }
        Ok(pb::RecordSessionEndResponse { session: Some(shown_session(&row)) })
    }
}

pub(super) struct EndSession {
    session_id: String,
}

impl Command for EndSession {
    type Request = pb::EndSessionRequest;
    type Response = pb::EndSessionResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let session_id = fields.foreign_id("session_id", &request.session_id);
        fields.done(Self { session_id })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let missing = || Error::SessionNotFound { session_id: self.session_id.clone() };
        let found = store::find_session(unit.transaction(), unit.scope(), &self.session_id).await?;
        let mut row = found.ok_or_else(missing)?;
        let user_id = unit.actor.membership.user_id.as_str();
        rules::may_manage(&unit.actor.role, user_id, &row.host_user_id, missing)?;
        rules::under_way(&row)?;
        if row.end_requested_at.is_none() {
            store::request_end(unit, &mut row, user_id).await?;
            let (session_id, workspace_id) = (row.session_id.clone(), row.workspace_id);
            unit.record(Change::SessionEndRequested { session_id, workspace_id });
        }
        Ok(pb::EndSessionResponse { session: Some(shown_session(&row)) })
    }
}
