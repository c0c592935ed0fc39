//! Domains that organizations claim: the rows.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
};

use super::MOST;
use crate::auth::scope::Scope;
use crate::entity::organization_domain::{self, Column as C};
use crate::error::{Error, OnConstraint as _};

/// Finds a domain that the organization has claimed.
pub async fn find(
    connection: &impl ConnectionTrait,
    scope: Scope,
    domain: &str,
) -> Result<Option<organization_domain::Model>, DbErr> {
    organization_domain::Entity::find_by_id((scope.organization_id(), domain.to_owned())).one(connection).await
}

/// Finds the domain as the one organization has it that proved it.
pub async fn find_verified(
    connection: &impl ConnectionTrait,
    domain: &str,
) -> Result<Option<organization_domain::Model>, DbErr> {
    organization_domain::Entity::find()
        .filter(C::Domain.eq(domain))
        .filter(Expr::cust("organization_domain.verified_at IS NOT NULL"))
        .one(connection)
        .await
}

/// Lists what an organization has claimed, by name.
pub async fn list(connection: &impl ConnectionTrait, scope: Scope) -> Result<Vec<organization_domain::Model>, DbErr> {
    organization_domain::Entity::find()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .order_by_asc(C::Domain)
        .all(connection)
        .await
}

/// Whether the organization can claim one more.
pub async fn check_room(connection: &impl ConnectionTrait, scope: Scope) -> Result<(), Error> {
    let claimed = organization_domain::Entity::find()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .count(connection)
        .await?;
    if usize::try_from(claimed).is_ok_and(|claimed| claimed < MOST) {
        return Ok(());
    }
    Err(Error::LimitReached { of: "domains", maximum: MOST })
}

/// Inserts a claim.
pub async fn insert(connection: &impl ConnectionTrait, row: organization_domain::Model) -> Result<(), Error> {
    organization_domain::Entity::insert(row.into_active_model())
        .exec_without_returning(connection)
        .await
        .on_constraint("organization_domain_once", || Error::Conflict)
        .map(|_| ())
}

/// Writes what can change of a claim.
pub async fn update(connection: &impl ConnectionTrait, row: &organization_domain::Model) -> Result<(), Error> {
    organization_domain::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::Domain.eq(row.domain.clone()))
        .col_expr(C::VerifiedAt, Expr::value(row.verified_at))
        .col_expr(C::JoinMode, Expr::value(row.join_mode.to_value()))
        .col_expr(C::JoinRole, Expr::value(row.join_role.clone()))
        .col_expr(C::UpdatedAt, Expr::value(row.updated_at))
        .col_expr(C::Version, Expr::value(row.version))
        .exec(connection)
        .await
        .on_constraint("organization_domain_verified_unique", || Error::DomainTaken { domain: row.domain.clone() })
        .map(|_| ())
}

/// Deletes a claim.
pub async fn delete(connection: &impl ConnectionTrait, scope: Scope, domain: &str) -> Result<(), DbErr> {
    let id = (scope.organization_id(), domain.to_owned());
    organization_domain::Entity::delete_by_id(id).exec(connection).await.map(|_| ())
}
