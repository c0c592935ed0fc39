//! The ledger of seats: how they were used at any instant, and what explains a line of an invoice.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use uuid::Uuid;

use super::calendar::Span;
use super::seats::Usage;
use crate::auth::scope::Scope;
use crate::entity::invitation;
use crate::entity::seat_entry::{self, Cause, Column as C};
use crate::error::Error;
use crate::sql;

/// Which entries explain a line of an invoice.
#[derive(Clone, Copy, Debug)]
pub enum Explained {
    /// The changes of the number of seats until an instant.
    Until(DateTime<Utc>),
    /// The changes of the number of seats at the beginning of what a prorated line is for: within its second or, of a plan that
    /// counts days, within its day.
    Change(Span),
}

/// How the seats were used at an instant in the past; none from before the ledger begins.
///
/// An invitation gave its seat back when it expired, but that is written when a seat is next asked for: what was written later,
/// and had happened by then, is not used any more.
pub async fn usage_at(
    connection: &impl ConnectionTrait,
    scope: Scope,
    at: DateTime<Utc>,
) -> Result<Option<Usage>, Error> {
    let of = || seat_entry::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()));
    let last = of()
        .filter(C::RecordedAt.lte(at))
        .order_by_desc(C::RecordedAt)
        .order_by_desc(C::EntryId)
        .limit(1)
        .one(connection)
        .await?;
    let Some(last) = last else { return Ok(None) };
    let written_later = of()
        .filter(C::Cause.eq(Cause::InvitationExpired))
        .filter(C::RecordedAt.gt(last.recorded_at))
        .filter(C::OccurredAt.lte(at))
        .count(connection)
        .await?;
    let not_written = invitation::Entity::find()
        .filter(invitation::Column::OrganizationId.eq(scope.organization_id()))
        .filter(crate::operation::store::expired_with_seat(at))
        .count(connection)
        .await?;
    let expired = sql::counted(written_later)? + sql::counted(not_written)?;
    let (total, members) = (last.total_after, last.members_after);
    Ok(Some(Usage { total, members, pending: Ord::max(last.pending_after - expired, 0) }))
}

/// Lists entries, the latest first.
pub async fn list(
    connection: &impl ConnectionTrait,
    scope: Scope,
    explained: Option<Explained>,
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: u64,
) -> Result<Vec<seat_entry::Model>, DbErr> {
    let mut rows = seat_entry::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()));
    if let Some(explained) = explained {
        rows = rows.filter(C::Added.ne(0));
        rows = match explained {
            Explained::Until(at) => rows.filter(C::RecordedAt.lte(at)),
            Explained::Change(span) => {
                // A plan that counts days counts from the beginning of one; what is left of the period is whole days then.
                let by_day = span.seconds() % 86_400 == 0;
                let within = if by_day { TimeDelta::days(1) } else { TimeDelta::seconds(1) };
                rows.filter(C::RecordedAt.gte(span.start)).filter(C::RecordedAt.lt(span.start + within))
            }
        };
    }
    if let Some((recorded_at, entry_id)) = after {
        let place = Expr::tuple([Expr::val(recorded_at), Expr::val(entry_id)]);
        rows = rows.filter(Expr::tuple([Expr::col(C::RecordedAt), Expr::col(C::EntryId)]).lt(place));
    }
    rows.order_by_desc(C::OrganizationId)
        .order_by_desc(C::RecordedAt)
        .order_by_desc(C::EntryId)
        .limit(limit)
        .all(connection)
        .await
}
