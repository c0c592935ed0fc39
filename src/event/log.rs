//! Appends to the log.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, EntityTrait as _, IntoActiveModel as _};

use super::Change;
use crate::auth::caller::Caller;
use crate::auth::scope::{Authorized, Scope};
use crate::entity::event;
use crate::error::Error;
use crate::id::{self, ServiceName};

/// How many rows one statement inserts: SQLite binds at most 32,766 values.
const ROWS_A_STATEMENT: usize = 1000;

/// Appends what happened, numbered on from the organization's latest event. The caller holds the organization's lock and
/// moves its counter on by as many.
pub async fn append(
    connection: &impl ConnectionTrait,
    scope: Scope,
    authorized: &Authorized,
    last_number: i64,
    changes: &[Change],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let (user, service) = match authorized.caller() {
        Caller::User(user) => (Some(user.user_id.as_str()), user.via.as_ref().map(ServiceName::as_str)),
        Caller::Service(service) => (None, Some(service.as_str())),
    };
    let mut rows = Vec::with_capacity(changes.len());
    for (number, change) in (last_number + 1..).zip(changes) {
        let payload = serde_json::to_value(change)
            .map_err(|error| Error::Defect("an event could not be written as JSON", Some(error.into())))?;
        rows.push(event::Model {
            organization_id: scope.organization_id(),
            number,
            event_id: id::new(now),
            r#type: change.name().to_owned(),
            occurred_at: now,
            actor_user_id: user.map(str::to_owned),
            actor_service: service.map(str::to_owned),
            request_id: authorized.request_id().to_owned(),
            payload,
        });
    }
    for rows in rows.chunks(ROWS_A_STATEMENT) {
        let rows = rows.iter().cloned().map(event::Model::into_active_model);
        event::Entity::insert_many(rows).exec_without_returning(connection).await?;
    }
    Ok(())
}
