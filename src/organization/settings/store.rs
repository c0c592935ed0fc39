//! The rows of settings.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _};

use super::Settings;
use crate::auth::scope::Scope;
use crate::entity::organization;
use crate::entity::organization_settings::{self, Column as C};
use crate::error::Error;
use crate::operation::store::write_json;

/// Finds the settings; none as long as nobody chose anything.
pub async fn find(
    connection: &impl ConnectionTrait,
    scope: Scope,
) -> Result<Option<organization_settings::Model>, DbErr> {
    organization_settings::Entity::find_by_id(scope.organization_id()).one(connection).await
}

/// Writes the settings, whether there were any or not.
pub async fn put(connection: &impl ConnectionTrait, row: organization_settings::Model) -> Result<(), DbErr> {
    let there =
        OnConflict::column(C::OrganizationId).update_columns([C::Settings, C::UpdatedAt, C::Version]).to_owned();
    let insert = organization_settings::Entity::insert(row.into_active_model()).on_conflict(there);
    insert.exec_without_returning(connection).await.map(|_| ())
}

/// The logo, which the settings show, was changed with the organization: who has read them before has read another state.
pub async fn touch(connection: &impl ConnectionTrait, organization: &organization::Model) -> Result<(), Error> {
    let row = organization_settings::Model {
        organization_id: organization.organization_id,
        settings: write_json(&Settings::default())?,
        updated_at: organization.updated_at,
        version: 1,
    };
    let there = OnConflict::column(C::OrganizationId)
        .update_column(C::UpdatedAt)
        .value(C::Version, Expr::col((organization_settings::Entity, C::Version)).add(1))
        .to_owned();
    let insert = organization_settings::Entity::insert(row.into_active_model()).on_conflict(there);
    insert.exec_without_returning(connection).await?;
    Ok(())
}
