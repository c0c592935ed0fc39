//! Appends to the log.

use chrono::{DateTime, Utc};
use sea_orm::ConnectionTrait;

use super::Change;
use crate::auth::scope::{Author, Scope};
use crate::entity::event;
use crate::error::Error;
use crate::{id, sql};

/// A change as its row has it.
#[derive(serde::Deserialize)]
struct Kept {
    r#type: String,
    payload: serde_json::Value,
}

/// Appends what happened, numbered on from the organization's latest event. The caller holds the organization's lock and
/// moves its counter on by as many.
pub async fn append(
    connection: &impl ConnectionTrait,
    scope: Scope,
    author: &Author,
    last_number: i64,
    changes: &[Change],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut rows = Vec::with_capacity(changes.len());
    for (number, change) in (last_number + 1..).zip(changes) {
        rows.push(row(scope, author, number, change, now)?);
    }
    Ok(sql::insert_all(connection, &rows).await?)
}

/// What happened, as the log keeps it.
pub fn row(
    scope: Scope,
    author: &Author,
    number: i64,
    change: &Change,
    now: DateTime<Utc>,
) -> Result<event::Model, Error> {
    let kept = serde_json::to_value(change).and_then(serde_json::from_value::<Kept>);
    let kept = kept.map_err(|error| Error::Defect("an event could not be written as JSON", Some(error.into())))?;
    let (subject_kind, subject_id) = change.subject().columns();
    Ok(event::Model {
        organization_id: scope.organization_id(),
        number,
        event_id: id::new(now),
        r#type: kept.r#type,
        subject_kind: subject_kind.to_owned(),
        subject_id,
        occurred_at: now,
        actor_user_id: author.user_id.clone(),
        actor_service: author.service.clone(),
        request_id: author.call_id.clone(),
        payload: kept.payload,
    })
}
