//! The rows of sessions and recordings. What changes them takes the unit of work and keeps its books.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, IntoColumnRef, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use crate::auth::scope::Scope;
use crate::entity::recording::{self, Column as R};
use crate::entity::room_session::{self, Column as S};
use crate::entity::workspace::{self, Kind};
use crate::error::Error;
use crate::operation::Unit;
use crate::operation::unit::Books;

/// A place in a list of sessions or recordings: when it was, and its id.
pub type Position = (DateTime<Utc>, String);

/// Which sessions a list shows.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// Only those that this user hosts.
    pub host_user_id: Option<String>,
    /// Only those of this room.
    pub workspace_id: Option<Uuid>,
    /// Only those under way.
    pub live_only: bool,
}

/// Which recordings a list shows.
#[derive(Clone, Debug)]
pub struct Recordings {
    /// Only those of this user.
    pub owner_user_id: Option<String>,
    /// Only those of this room or workspace.
    pub workspace_id: Option<Uuid>,
}

/// Written out, not bound: only so can PostgreSQL tell that a partial index has all the rows that are asked for.
fn is_under_way() -> SimpleExpr {
    Expr::cust("room_session.ended_at IS NULL")
}

/// Written out, not bound, for the same reason.
fn is_kept() -> SimpleExpr {
    Expr::cust("recording.deleted_at IS NULL")
}

/// Whether a row stands beyond a position in a list that begins with the latest.
fn beyond(at: impl IntoColumnRef, id: impl IntoColumnRef, after: &Position) -> SimpleExpr {
    let place = Expr::tuple([Expr::val(after.0), Expr::val(after.1.clone())]);
    Expr::tuple([Expr::col(at), Expr::col(id)]).lt(place)
}

/// What kind of workspace this is; nothing when the organization has no such workspace.
pub async fn workspace_kind(
    connection: &impl ConnectionTrait,
    scope: Scope,
    workspace_id: Uuid,
) -> Result<Option<Kind>, DbErr> {
    workspace::Entity::find_by_id((scope.organization_id(), workspace_id))
        .select_only()
        .column(workspace::Column::Kind)
        .into_tuple()
        .one(connection)
        .await
}

/// Finds a session.
pub async fn find_session(
    connection: &impl ConnectionTrait,
    scope: Scope,
    session_id: &str,
) -> Result<Option<room_session::Model>, DbErr> {
    room_session::Entity::find_by_id((scope.organization_id(), session_id.to_owned())).one(connection).await
}

/// Inserts a session that is under way.
pub async fn insert_session<A>(unit: &mut Unit<'_, A>, row: room_session::Model) -> Result<(), Error> {
    room_session::Entity::insert(row.into_active_model()).exec_without_returning(unit.transaction()).await?;
    unit.count(Books { live_sessions: 1, ..Books::default() });
    Ok(())
}

/// Writes what the meeting backend says of a session that is under way.
pub async fn update_report<A>(unit: &Unit<'_, A>, row: &room_session::Model) -> Result<(), Error> {
    room_session::Entity::update_many()
        .filter(S::OrganizationId.eq(row.organization_id))
        .filter(S::SessionId.eq(row.session_id.clone()))
        .col_expr(S::Title, Expr::value(row.title.clone()))
        .col_expr(S::Participants, Expr::value(row.participants))
        .exec(unit.transaction())
        .await?;
    Ok(())
}

/// Writes by whom a session was asked to end, and when.
pub async fn request_end<A>(unit: &Unit<'_, A>, row: &mut room_session::Model, by: &str) -> Result<(), Error> {
    row.end_requested_at = Some(unit.now);
    row.end_requested_by = Some(by.to_owned());
    room_session::Entity::update_many()
        .filter(S::OrganizationId.eq(row.organization_id))
        .filter(S::SessionId.eq(row.session_id.clone()))
        .col_expr(S::EndRequestedAt, Expr::value(row.end_requested_at))
        .col_expr(S::EndRequestedBy, Expr::value(row.end_requested_by.clone()))
        .exec(unit.transaction())
        .await?;
    Ok(())
}

/// Ends a session that is under way, and no other: the database itself looks.
pub async fn end_session<A>(
    unit: &mut Unit<'_, A>,
    row: &mut room_session::Model,
    ended_at: DateTime<Utc>,
) -> Result<(), Error> {
    row.ended_at = Some(ended_at);
    let ended = room_session::Entity::update_many()
        .filter(S::OrganizationId.eq(row.organization_id))
        .filter(S::SessionId.eq(row.session_id.clone()))
        .filter(is_under_way())
        .col_expr(S::EndedAt, Expr::value(row.ended_at))
        .exec(unit.transaction())
        .await?;
    if ended.rows_affected != 1 {
        return Err(Error::Conflict);
    }
    unit.count(Books { live_sessions: -1, ..Books::default() });
    Ok(())
}

/// Lists sessions after a position, the latest first.
pub async fn list_sessions(
    connection: &impl ConnectionTrait,
    scope: Scope,
    sessions: &Sessions,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<room_session::Model>, DbErr> {
    let mut rows = room_session::Entity::find().filter(S::OrganizationId.eq(scope.organization_id()));
    if let Some(host_user_id) = &sessions.host_user_id {
        rows = rows.filter(S::HostUserId.eq(host_user_id.clone()));
    }
    if let Some(workspace_id) = sessions.workspace_id {
        rows = rows.filter(S::WorkspaceId.eq(workspace_id));
    }
    if sessions.live_only {
        rows = rows.filter(is_under_way());
    }
    if let Some(after) = after {
        rows = rows.filter(beyond(S::StartedAt, S::SessionId, after));
    }
    // The organization stands in the order too, so that the index by it and the start is walked, not sorted.
    rows.order_by_desc(S::OrganizationId)
        .order_by_desc(S::StartedAt)
        .order_by_desc(S::SessionId)
        .limit(limit)
        .all(connection)
        .await
}

/// Finds a recording, also one that was deleted.
pub async fn find_recording(
    connection: &impl ConnectionTrait,
    scope: Scope,
    recording_id: &str,
) -> Result<Option<recording::Model>, DbErr> {
    recording::Entity::find_by_id((scope.organization_id(), recording_id.to_owned())).one(connection).await
}

/// Inserts a recording.
pub async fn insert_recording<A>(unit: &mut Unit<'_, A>, row: recording::Model) -> Result<(), Error> {
    let storage_bytes = row.size_bytes;
    recording::Entity::insert(row.into_active_model()).exec_without_returning(unit.transaction()).await?;
    unit.count(Books { recordings: 1, storage_bytes, ..Books::default() });
    Ok(())
}

/// Writes what changed of a recording, whose size was another before.
pub async fn update_recording<A>(
    unit: &mut Unit<'_, A>,
    row: &recording::Model,
    size_bytes_before: i64,
) -> Result<(), Error> {
    recording::Entity::update_many()
        .filter(R::OrganizationId.eq(row.organization_id))
        .filter(R::RecordingId.eq(row.recording_id.clone()))
        .col_expr(R::Title, Expr::value(row.title.clone()))
        .col_expr(R::SizeBytes, Expr::value(row.size_bytes))
        .col_expr(R::LengthSeconds, Expr::value(row.length_seconds))
        .exec(unit.transaction())
        .await?;
    unit.count(Books { storage_bytes: row.size_bytes - size_bytes_before, ..Books::default() });
    Ok(())
}

/// Deletes a recording and gives its storage back, once. Its id stays, without what people wrote.
pub async fn delete_recording<A>(unit: &mut Unit<'_, A>, row: &recording::Model) -> Result<(), Error> {
    let deleted = recording::Entity::update_many()
        .filter(R::OrganizationId.eq(row.organization_id))
        .filter(R::RecordingId.eq(row.recording_id.clone()))
        .filter(is_kept())
        .col_expr(R::DeletedAt, Expr::value(unit.now))
        .col_expr(R::Title, Expr::value(""))
        .exec(unit.transaction())
        .await?;
    if deleted.rows_affected != 1 {
        return Err(Error::Conflict);
    }
    unit.count(Books { recordings: -1, storage_bytes: -row.size_bytes, ..Books::default() });
    Ok(())
}

/// Lists recordings that were not deleted, after a position, the latest first.
pub async fn list_recordings(
    connection: &impl ConnectionTrait,
    scope: Scope,
    recordings: &Recordings,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<recording::Model>, DbErr> {
    let mut rows = recording::Entity::find().filter(R::OrganizationId.eq(scope.organization_id())).filter(is_kept());
    if let Some(owner_user_id) = &recordings.owner_user_id {
        rows = rows.filter(R::OwnerUserId.eq(owner_user_id.clone()));
    }
    if let Some(workspace_id) = recordings.workspace_id {
        rows = rows.filter(R::WorkspaceId.eq(workspace_id));
    }
    if let Some(after) = after {
        rows = rows.filter(beyond(R::RecordedAt, R::RecordingId, after));
    }
    rows.order_by_desc(R::OrganizationId)
        .order_by_desc(R::RecordedAt)
        .order_by_desc(R::RecordingId)
        .limit(limit)
        .all(connection)
        .await
}
