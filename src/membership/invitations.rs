//! The rows of invitations. What changes them takes the unit of work and keeps its books.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, SimpleExpr};
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    JoinType, QueryFilter as _, QueryOrder as _, QuerySelect as _, RelationDef,
};
use uuid::Uuid;

use crate::auth::scope::Scope;
use crate::entity::invitation::{self, Column as C, State};
use crate::entity::seat_entry::Cause;
use crate::entity::{invitation_token, organization};
use crate::error::Error;
use crate::membership::token::Token;
use crate::operation::Unit;
use crate::operation::unit::Books;
use crate::sql;

fn of(scope: Scope) -> sea_orm::Select<invitation::Entity> {
    invitation::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()))
}

/// Written out, not bound: only so can PostgreSQL tell that a partial index has all the rows that are asked for.
pub(super) fn is_pending() -> SimpleExpr {
    Expr::cust("invitation.state = 'pending'")
}

/// The pending invitations of an organization, expired or not.
pub(super) fn pending(scope: Scope) -> sea_orm::Select<invitation::Entity> {
    of(scope).filter(is_pending())
}

/// Whether a pending invitation is open, as `rules::is_expired` has it.
pub(super) fn is_open(now: DateTime<Utc>) -> SimpleExpr {
    C::ExpiresAt.gt(now).and(Expr::cust("invitation.holds_seat"))
}

/// Whether a workspace is among those that were chosen for the invitee. Its id is looked for in the text of the list, in which
/// both databases write it alike.
pub(super) fn is_for_workspace(workspace_id: Uuid) -> SimpleExpr {
    Expr::col((invitation::Entity, C::WorkspaceIds)).cast_as("text").like(format!("%\"{workspace_id}\"%"))
}

/// Finds an invitation.
pub async fn find(
    connection: &impl ConnectionTrait,
    scope: Scope,
    invitation_id: Uuid,
) -> Result<Option<invitation::Model>, DbErr> {
    invitation::Entity::find_by_id((scope.organization_id(), invitation_id)).one(connection).await
}

/// Finds the invitations with these ids.
pub async fn list_by_ids(
    connection: &impl ConnectionTrait,
    scope: Scope,
    invitation_ids: &[Uuid],
) -> Result<Vec<invitation::Model>, DbErr> {
    of(scope).filter(C::InvitationId.is_in(sql::padded(invitation_ids.iter().copied()))).all(connection).await
}

/// Finds the pending invitations, expired or not, to these e-mail addresses, normalized.
pub async fn list_pending_by_emails(
    connection: &impl ConnectionTrait,
    scope: Scope,
    emails: &[&str],
) -> Result<Vec<invitation::Model>, DbErr> {
    of(scope)
        .filter(is_pending())
        .filter(C::EmailNormalized.is_in(sql::padded(emails.iter().copied())))
        .all(connection)
        .await
}

/// Writes invitations that are sent, for the first time or again: one statement for many.
///
/// `taken` says which of them need a seat that they did not hold.
pub async fn send<A>(unit: &mut Unit<'_, A>, rows: &[invitation::Model], taken: &[Uuid]) -> Result<(), Error> {
    let sent_again = OnConflict::columns([C::OrganizationId, C::InvitationId])
        .update_columns([
            C::Email,
            C::SearchText,
            C::Role,
            C::HoldsSeat,
            C::TokenHash,
            C::InviterUserId,
            C::InviterRole,
            C::SendCount,
            C::SentAt,
            C::ExpiresAt,
            C::WorkspaceIds,
        ])
        .to_owned();
    for rows in sql::blocks(rows) {
        let rows = rows.iter().cloned().map(invitation::Model::into_active_model);
        invitation::Entity::insert_many(rows)
            .on_conflict(sent_again.clone())
            .exec_without_returning(unit.transaction())
            .await?;
    }
    unit.count(Books { pending: sql::counted(taken.len())?, ..Books::default() });
    for invitation_id in taken {
        unit.note_seat(Cause::InvitationSent, invitation_id.to_string(), 1);
    }
    Ok(())
}

/// Whether a token is one of an invitation: that of the answer in which it was sent, or one of its e-mails.
pub async fn is_token_of(
    connection: &impl ConnectionTrait,
    token: &Token,
    row: &invitation::Model,
) -> Result<bool, DbErr> {
    if token.matches(&row.token_hash) {
        return Ok(true);
    }
    let key = (row.organization_id, row.invitation_id, token.hash());
    let found = invitation_token::Entity::find_by_id(key).one(connection).await?;
    // The links of e-mails before a resend are worthless.
    Ok(found.is_some_and(|found| found.sent_at == row.sent_at))
}

/// Ends pending invitations, and no others: the database itself looks at the state.
pub async fn end<A>(
    unit: &mut Unit<'_, A>,
    rows: &mut [&mut invitation::Model],
    state: State,
    invitee_user_id: Option<&str>,
) -> Result<(), Error> {
    let ended = invitation::Entity::update_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::InvitationId.is_in(sql::padded(rows.iter().map(|row| row.invitation_id))))
        .filter(is_pending())
        .col_expr(C::State, Expr::value(state.to_value()))
        .col_expr(C::HoldsSeat, Expr::value(false))
        .col_expr(C::InviteeUserId, Expr::value(invitee_user_id.map(str::to_owned)))
        .col_expr(C::EndedAt, Expr::value(Some(unit.now)))
        .exec(unit.transaction())
        .await?;
    if usize::try_from(ended.rows_affected) != Ok(rows.len()) {
        return Err(Error::Conflict);
    }
    for row in rows {
        let pending = -i64::from(row.holds_seat);
        row.state = state;
        row.holds_seat = false;
        row.invitee_user_id = invitee_user_id.map(str::to_owned);
        row.ended_at = Some(unit.now);
        unit.count(Books { pending, ..Books::default() });
        if pending != 0 {
            let cause = match state {
                State::Accepted => Cause::InvitationAccepted,
                State::Declined => Cause::InvitationDeclined,
                State::Pending | State::Canceled => Cause::InvitationCanceled,
            };
            unit.note_seat(cause, row.invitation_id.to_string(), pending);
        }
    }
    Ok(())
}

/// Where an invitation stands at an instant, its expiry figured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Open.
    Open,
    /// Pending, but its time is over.
    Expired,
    /// Accepted, declined or canceled.
    Ended(State),
}

/// The invitations in any of these standings.
fn in_any(standings: &[Standing], now: DateTime<Utc>) -> Condition {
    let pending = || Condition::all().add(is_pending());
    standings.iter().fold(Condition::any(), |any, standing| match standing {
        Standing::Open => any.add(pending().add(is_open(now))),
        Standing::Expired => any.add(pending().add(is_open(now).not())),
        Standing::Ended(state) => any.add(C::State.eq(*state)),
    })
}

/// Lists the invitations in any of these standings, all of them when none is said, the newest first: their ids are in the
/// order of their making.
pub async fn list(
    connection: &impl ConnectionTrait,
    scope: Scope,
    standings: &[Standing],
    now: DateTime<Utc>,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<invitation::Model>, DbErr> {
    let mut rows = of(scope);
    if !standings.is_empty() {
        rows = rows.filter(in_any(standings, now));
    }
    if let Some(after) = after {
        rows = rows.filter(C::InvitationId.lt(after));
    }
    rows.order_by_desc(C::OrganizationId).order_by_desc(C::InvitationId).limit(limit).all(connection).await
}

/// Where a page of received invitations begins.
pub type Received = (DateTime<Utc>, Uuid);

/// Lists the invitations that wait for an address in any organization that is not deleted, the newest first.
pub async fn list_received(
    connection: &impl ConnectionTrait,
    email: &str,
    now: DateTime<Utc>,
    after: Option<Received>,
    limit: u64,
) -> Result<Vec<(invitation::Model, Option<organization::Model>)>, DbErr> {
    let relation: RelationDef = invitation::Entity::belongs_to(organization::Entity)
        .from(C::OrganizationId)
        .to(organization::Column::OrganizationId)
        .into();
    let mut rows = invitation::Entity::find()
        .filter(C::EmailNormalized.eq(email))
        .filter(is_pending())
        .filter(is_open(now))
        .join(JoinType::InnerJoin, relation)
        .select_also(organization::Entity)
        .filter(organization::Column::DeletedAt.is_null())
        .order_by_desc(C::CreatedAt)
        .order_by_desc(C::InvitationId)
        .limit(limit);
    if let Some((created_at, invitation_id)) = after {
        let place = Expr::tuple([Expr::val(created_at), Expr::val(invitation_id)]);
        let row = Expr::tuple([
            Expr::col((invitation::Entity, C::CreatedAt)),
            Expr::col((invitation::Entity, C::InvitationId)),
        ]);
        rows = rows.filter(row.lt(place));
    }
    rows.all(connection).await
}
