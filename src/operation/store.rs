//! The rows by which an operation is entered: the organization with its lock and its counters, and the caller's membership.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, JoinType, PaginatorTrait as _,
    QueryFilter as _, QuerySelect as _, RelationDef,
};

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
        .filter(holds_seat())
        .filter(C::ExpiresAt.lte(now))
        .col_expr(C::HoldsSeat, Expr::value(false))
        .exec(connection)
        .await?;
    i64::try_from(released.rows_affected).map_err(|_| Error::defect("more invitations than can be counted"))
}

/// Counts the invitations that have expired and are still counted as holding a seat: for readers, who take no lock.
pub async fn count_expired(connection: &impl ConnectionTrait, scope: Scope, now: DateTime<Utc>) -> Result<i64, Error> {
    use invitation::Column as C;
    let count = invitation::Entity::find()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .filter(holds_seat())
        .filter(C::ExpiresAt.lte(now))
        .count(connection)
        .await?;
    i64::try_from(count).map_err(|_| Error::defect("more invitations than can be counted"))
}

/// Written out, not bound: only so can PostgreSQL tell that the partial index has all the rows that are asked for.
fn holds_seat() -> SimpleExpr {
    Expr::cust("invitation.holds_seat")
}
