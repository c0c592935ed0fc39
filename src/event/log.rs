//! Appends to the log, and reads it.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use super::{Change, feed};
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
    insert(connection, rows).await
}

/// Writes rows of the log. SQLite has one writer at a time, which places them among those of all organizations: what is committed
/// later is placed later. On PostgreSQL that is done after the commit ([`super::feed`]).
pub async fn insert(connection: &impl ConnectionTrait, mut rows: Vec<event::Model>) -> Result<(), Error> {
    if connection.get_database_backend() == DbBackend::Sqlite && !rows.is_empty() {
        let first = feed::take_positions(connection, sql::counted(rows.len())?).await?;
        for (position, row) in (first..).zip(&mut rows) {
            row.position = Some(position);
        }
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
        actor_address: author.address.clone(),
        request_id: author.call_id.clone(),
        payload: kept.payload,
        position: None,
    })
}

/// What of the log is looked for: what is empty or absent narrows nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Events of any of these types.
    pub types: Vec<&'static str>,
    /// What this user did, or what was done for them.
    pub actor_user_id: String,
    /// What came by this service's calls.
    pub actor_service: String,
    /// What is about something of this kind.
    pub subject_kind: String,
    /// Which of that kind.
    pub subject_id: String,
    /// What happened then or later.
    pub start: Option<DateTime<Utc>>,
    /// What happened before.
    pub end: Option<DateTime<Utc>>,
}

/// Lists events, the latest first.
pub async fn list(
    connection: &impl ConnectionTrait,
    scope: Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<event::Model>, DbErr> {
    use event::Column as E;
    let mut rows = event::Entity::find().filter(E::OrganizationId.eq(scope.organization_id()));
    if !filter.types.is_empty() {
        rows = rows.filter(E::Type.is_in(sql::padded(filter.types.iter().copied())));
    }
    for (column, wished) in [
        (E::ActorUserId, &filter.actor_user_id),
        (E::ActorService, &filter.actor_service),
        (E::SubjectKind, &filter.subject_kind),
        (E::SubjectId, &filter.subject_id),
    ] {
        if !wished.is_empty() {
            rows = rows.filter(column.eq(wished));
        }
    }
    if let Some(start) = filter.start {
        rows = rows.filter(E::OccurredAt.gte(start));
    }
    if let Some(end) = filter.end {
        rows = rows.filter(E::OccurredAt.lt(end));
    }
    if let Some(before) = before {
        rows = rows.filter(E::Number.lt(before));
    }
    rows.order_by_desc(E::OrganizationId).order_by_desc(E::Number).limit(limit).all(connection).await
}

/// What of the log is read on, the earliest first.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Of which organization, by the numbers of its events; of all, by their positions, when absent.
    pub of: Option<Scope>,
    /// Only events of any of these types, by their names or `member.*`; of all when empty.
    pub types: Vec<String>,
    /// The place that was reached.
    pub place: i64,
}

/// How large a message may become by one more event: clients take 4 MiB, unless told otherwise.
const LARGEST: usize = 1024 * 1024;

impl Reading {
    /// Reads on until a place, at most so many events, each as it goes out and with how many bytes that takes. It has reached that
    /// place then, or the last of these events if there may be more.
    ///
    /// # Errors
    ///
    /// `CURSOR_EXPIRED` when events were forgotten that were not read.
    pub async fn next<T>(
        &mut self,
        connection: &impl ConnectionTrait,
        until: i64,
        limit: u64,
        shown: impl Fn(event::Model) -> (T, usize),
    ) -> Result<Vec<T>, Error> {
        use event::Column as E;
        let from = self.place;
        let (rows, place) = match self.of {
            Some(scope) => (event::Entity::find().filter(E::OrganizationId.eq(scope.organization_id())), E::Number),
            None => (event::Entity::find(), E::Position),
        };
        let mut rows = rows.filter(place.gt(from)).filter(place.lte(until));
        if !self.types.is_empty() {
            rows = rows.filter(of_types(E::Type, &self.types));
        }
        let rows = rows.order_by_asc(place).limit(limit).all(connection).await?;
        // Looked at after the rows, so that none can have gone in between unseen.
        if forgotten(connection, self.of).await? > from {
            return Err(Error::CursorExpired);
        }
        let (mut events, mut bytes) = (Vec::with_capacity(rows.len()), 0);
        let mut is_all = (rows.len() as u64) < limit;
        for row in rows {
            let reached = if self.of.is_some() { Some(row.number) } else { row.position };
            let (event, size) = shown(row);
            bytes += size;
            if bytes > LARGEST && !events.is_empty() {
                is_all = false;
                break;
            }
            self.place = reached.unwrap_or(until);
            events.push(event);
        }
        if is_all {
            self.place = until;
        }
        Ok(events)
    }
}

/// Whether a type is one of these, by their names or `member.*`: also one that only a newer version knows.
pub fn of_types(column: impl ColumnTrait, said: &[String]) -> Condition {
    let (kinds, names): (Vec<&String>, Vec<&String>) = said.iter().partition(|said| said.ends_with(".*"));
    let mut any = Condition::any();
    if !names.is_empty() {
        any = any.add(column.is_in(sql::padded(names)));
    }
    for kind in kinds {
        // Compared byte by byte: `/` comes right after `.`.
        let kind = kind.trim_end_matches(".*");
        any = any.add(Condition::all().add(column.gte(format!("{kind}."))).add(column.lt(format!("{kind}/"))));
    }
    any
}

/// Until which place events are forgotten for their age, of an organization or of all.
pub async fn forgotten(connection: &impl ConnectionTrait, of: Option<Scope>) -> Result<i64, Error> {
    use event::Column as E;
    let position = feed::forgotten_position(connection).await?;
    let Some(scope) = of.filter(|_| position > 0) else { return Ok(position) };
    let numbers = event::Entity::find().filter(E::OrganizationId.eq(scope.organization_id())).order_by_asc(E::Number);
    let first = numbers.select_only().column(E::Number).limit(1).into_tuple::<i64>().one(connection).await?;
    // Where there is none any more, all are.
    Ok(first.map_or(i64::MAX, |first| first - 1))
}
