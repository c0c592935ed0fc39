//! The rows by which an operation is entered: the organization with its lock and its counters, and the caller's membership.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType, Query};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, JoinType, PaginatorTrait as _,
    QueryFilter as _, QuerySelect as _, RelationDef,
};
use uuid::Uuid;

use crate::auth::scope::Scope;
use crate::entity::{invitation, membership, organization};
use crate::error::Error;

/// Finds the organization.
pub async fn find(connection: &impl ConnectionTrait, scope: Scope) -> Result<Option<organization::Model>, DbErr> {
    organization::Entity::find_by_id(scope.organization_id()).one(connection).await
}

/// Finds the organization and a user's membership of it, in one round trip.
pub async fn find_with_member(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_id: &str,
) -> Result<(Option<organization::Model>, Option<membership::Model>), DbErr> {
    let found = organization::Entity::find_by_id(scope.organization_id())
        .join(JoinType::LeftJoin, membership_of(user_id.to_owned()))
        .select_also(membership::Entity)
        .one(connection)
        .await?;
    Ok(found.map_or((None, None), |(organization, membership)| (Some(organization), membership)))
}

/// The join of an organization with a user's membership of it.
pub fn membership_of(user_id: String) -> RelationDef {
    let relation: RelationDef = organization::Entity::belongs_to(membership::Entity)
        .from(organization::Column::OrganizationId)
        .to(membership::Column::OrganizationId)
        .into();
    relation.on_condition(move |_, members| {
        Condition::all().add(Expr::col((members, membership::Column::UserId)).eq(user_id.clone()))
    })
}

/// Locks the organization until the end of the transaction. Every change of it begins with this: one lock, one order. (On
/// SQLite the transaction itself is the lock.)
pub async fn lock(connection: &impl ConnectionTrait, scope: Scope) -> Result<Option<organization::Model>, DbErr> {
    organization::Entity::find_by_id(scope.organization_id()).lock(LockType::Update).one(connection).await
}

/// Finds a member.
pub async fn find_member(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_id: &str,
) -> Result<Option<membership::Model>, DbErr> {
    membership::Entity::find_by_id((scope.organization_id(), user_id.to_owned())).one(connection).await
}

/// Takes the invitations that have expired out of the count of seats, and says how many those were. Only one who holds the
/// organization's lock may.
pub async fn release_expired(
    connection: &impl ConnectionTrait,
    scope: Scope,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    use invitation::Column as C;
    let released = invitation::Entity::update_many()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .filter(expired_with_seat(now))
        .col_expr(C::HoldsSeat, Expr::value(false))
        .exec(connection)
        .await?;
    counted(released.rows_affected)
}

/// An organization that has invitations which have expired and are still counted as holding a seat.
pub async fn find_with_expired(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Option<Uuid>, DbErr> {
    invitation::Entity::find()
        .select_only()
        .column(invitation::Column::OrganizationId)
        .filter(expired_with_seat(now))
        .limit(1)
        .into_tuple()
        .one(connection)
        .await
}

/// Takes some of the expired invitations of an organization off the books, both rows and counter. Only one who holds the
/// organization's lock may.
pub async fn release_some(
    connection: &impl ConnectionTrait,
    scope: Scope,
    now: DateTime<Utc>,
    limit: u64,
) -> Result<(), Error> {
    use {invitation::Column as I, organization::Column as O};
    let organization_id = scope.organization_id();
    let some = Query::select()
        .column(I::InvitationId)
        .from(invitation::Entity)
        .and_where(I::OrganizationId.eq(organization_id))
        .cond_where(expired_with_seat(now))
        .limit(limit)
        .to_owned();
    let released = invitation::Entity::update_many()
        .filter(I::OrganizationId.eq(organization_id))
        .filter(I::InvitationId.in_subquery(some))
        .col_expr(I::HoldsSeat, Expr::value(false))
        .exec(connection)
        .await?;
    organization::Entity::update_many()
        .filter(O::OrganizationId.eq(organization_id))
        .col_expr(O::PendingInvitations, Expr::col(O::PendingInvitations).sub(counted(released.rows_affected)?))
        .exec(connection)
        .await?;
    Ok(())
}

/// Counts the invitations that have expired and are still counted as holding a seat: for readers, who take no lock.
pub async fn count_expired(connection: &impl ConnectionTrait, scope: Scope, now: DateTime<Utc>) -> Result<i64, Error> {
    use invitation::Column as C;
    let count = invitation::Entity::find()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .filter(expired_with_seat(now))
        .count(connection)
        .await?;
    counted(count)
}

/// Whether an invitation has expired and is still counted as holding a seat.
fn expired_with_seat(now: DateTime<Utc>) -> Condition {
    // Written out, not bound: only so can PostgreSQL tell that the partial index has all the rows that are asked for.
    Condition::all().add(Expr::cust("invitation.holds_seat")).add(invitation::Column::ExpiresAt.lte(now))
}

fn counted(rows: u64) -> Result<i64, Error> {
    i64::try_from(rows).map_err(|_| Error::defect("more invitations than can be counted"))
}
