//! `ExportEvents`: the log of an organization as JSON lines.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::log::{self, Reading};
use super::types;
use crate::app::App;
use crate::auth::scope::{Authorized, Scope};
use crate::entity::event;
use crate::error::Error;
use crate::fields::Fields;
use crate::operation::{self, Query, Reader};
use crate::pb;

/// What goes out of an export.
pub(super) type Exported = BoxStream<'static, Result<pb::ExportEventsResponse, Status>>;

/// How many events one message has at most.
const AT_ONCE: u64 = 500;

/// Begins to export.
pub(super) async fn export(
    app: &Arc<App>,
    request: Request<pb::ExportEventsRequest>,
) -> Result<Response<Exported>, Status> {
    let authorized = operation::authorized(&request)?.clone();
    let rest = operation::read::<ExportEvents>(app, request).await?.into_inner();
    let export = Export { app: Arc::clone(app), authorized, rest };
    let messages = stream::try_unfold(export, |mut export| async move {
        let message = export.next().await?;
        Ok(message.map(|message| (message, export)))
    });
    Ok(Response::new(messages.boxed()))
}

/// What is asked for.
struct ExportEvents {
    types: Vec<&'static str>,
}

/// What is not exported yet.
struct Rest {
    scope: Scope,
    reading: Reading,
    until: i64,
}

impl Query for ExportEvents {
    type Request = pb::ExportEventsRequest;
    type Response = Rest;
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let types = types(&mut fields, "types", &request.types);
        fields.done(Self { types })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Rest, Error> {
        let (scope, until) = (reader.scope, reader.organization()?.last_event_number);
        let place = log::forgotten(reader.connection(), Some(scope)).await?.min(until);
        let types = self.types.iter().map(|name| (*name).to_owned()).collect();
        Ok(Rest { scope, reading: Reading { of: Some(scope), types, place }, until })
    }
}

/// An export that goes on.
struct Export {
    app: Arc<App>,
    authorized: Authorized,
    rest: Rest,
}

impl Export {
    /// The next lines; none when all is told. Whoever lost the right to them is told no more.
    async fn next(&mut self) -> Result<Option<pb::ExportEventsResponse>, Error> {
        let Rest { scope, reading, until } = &mut self.rest;
        if reading.place >= *until {
            return Ok(None);
        }
        self.app.feed.goes_on()?;
        self.authorized.holds()?;
        operation::standing(&self.app, &self.authorized, *scope).await?;
        let shown = |row| {
            let line = line(&row).to_string() + "\n";
            let size = line.len();
            (line, size)
        };
        let lines = reading.next(self.app.database.reader(), *until, AT_ONCE, shown).await?;
        Ok(Some(pb::ExportEventsResponse { lines: lines.concat().into() }))
    }
}

/// An event as others read it in JSON.
pub fn line(row: &event::Model) -> Value {
    json!({
        "event_id": row.event_id,
        "organization_id": row.organization_id,
        "number": row.number,
        "type": row.r#type,
        "time": row.occurred_at,
        "actor": { "user_id": row.actor_user_id, "service": row.actor_service, "address": row.actor_address },
        "subject": { "kind": row.subject_kind, "id": row.subject_id },
        "request_id": row.request_id,
        "payload": row.payload,
    })
}
