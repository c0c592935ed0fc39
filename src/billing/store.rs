//! The rows of subscriptions and billing profiles.

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};

use super::seats;
use crate::auth::scope::Scope;
use crate::entity::billing_profile;
use crate::entity::subscription::{self, Column as C};
use crate::error::Error;
use crate::operation::Unit;
use crate::operation::unit::Books;

/// Inserts the subscription of a new organization.
pub async fn insert(connection: &impl ConnectionTrait, row: subscription::Model) -> Result<(), DbErr> {
    subscription::Entity::insert(row.into_active_model()).exec_without_returning(connection).await.map(|_| ())
}

/// Loads the subscription, which every organization has.
pub async fn load(connection: &impl ConnectionTrait, scope: Scope) -> Result<subscription::Model, Error> {
    let found = subscription::Entity::find_by_id(scope.organization_id()).one(connection).await?;
    found.ok_or(Error::defect("an organization without a subscription"))
}

/// Whether this many more seats can be taken: that they are there, and that billing lets the organization grow.
pub async fn check_growth<A>(unit: &mut Unit<'_, A>, requested: i64) -> Result<(), Error> {
    unit.seats().await?.take(requested)?;
    seats::may_grow(load(unit.transaction(), unit.scope()).await?.status)
}

/// Writes the number of seats, of the subscription and of the organization.
pub async fn update_seats<A>(unit: &mut Unit<'_, A>, row: &mut subscription::Model, seats: i64) -> Result<(), Error> {
    row.seats = seats;
    row.updated_at = unit.now;
    row.version += 1;
    subscription::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .col_expr(C::Seats, Expr::value(row.seats))
        .col_expr(C::UpdatedAt, Expr::value(row.updated_at))
        .col_expr(C::Version, Expr::value(row.version))
        .exec(unit.transaction())
        .await?;
    unit.count(Books { seats_total: Some(seats), ..Books::default() });
    Ok(())
}

/// Finds the billing profile; none as long as nobody filled in anything.
pub async fn find_profile(
    connection: &impl ConnectionTrait,
    scope: Scope,
) -> Result<Option<billing_profile::Model>, DbErr> {
    billing_profile::Entity::find_by_id(scope.organization_id()).one(connection).await
}

/// Writes the billing profile, whether there was one or not.
pub async fn put_profile(connection: &impl ConnectionTrait, row: billing_profile::Model) -> Result<(), DbErr> {
    use billing_profile::Column as P;
    let there = OnConflict::column(P::OrganizationId).update_columns([P::Profile, P::UpdatedAt, P::Version]).to_owned();
    let insert = billing_profile::Entity::insert(row.into_active_model()).on_conflict(there);
    insert.exec_without_returning(connection).await.map(|_| ())
}
