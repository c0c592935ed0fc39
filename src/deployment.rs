//! What a database was begun with and cannot be changed under it.
//!
//! Counters and constraints are about holders of the top role, by the name that it has in the role policy. Another policy
//! with another top role would take power from those who have it and give it to others, silently; so the name is written
//! down at the first start, and every later one compares.

use sea_orm::sea_query::OnConflict;
use sea_orm::{DbErr, EntityTrait as _, IntoActiveModel as _};

use crate::auth::policy::RolePolicy;
use crate::database::Database;
use crate::entity::deployment;

const TOP_ROLE: &str = "top_role";

/// Why a server cannot work on a database.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// The role policy has another top role.
    #[error(
        "the top role of this database is `{stored}`, and that of the role policy `{policy}` is `{top_role}`: name the role \
         policy that this database is used with in TENANTRY_ROLE_POLICY"
    )]
    TopRole {
        /// The top role of the database.
        stored: String,
        /// The role policy.
        policy: String,
        /// Its top role.
        top_role: String,
    },
    /// The database could not be asked.
    #[error("the database could not be asked for its top role")]
    Database(#[from] DbErr),
}

/// Compares the role policy with what the database was begun with, and leaves a new one as it is.
pub async fn compare_only(database: &Database, policy: &RolePolicy) -> Result<(), DeploymentError> {
    match deployment::Entity::find_by_id(TOP_ROLE).one(database.reader()).await? {
        Some(found) => compare(found.value, policy, policy.top_role().name.to_string()),
        None => Ok(()),
    }
}

/// Compares the role policy with what the database was begun with, and writes it down in a new one.
pub async fn check(database: &Database, policy: &RolePolicy) -> Result<(), DeploymentError> {
    let top_role = policy.top_role().name.to_string();
    if let Some(found) = deployment::Entity::find_by_id(TOP_ROLE).one(database.reader()).await? {
        return compare(found.value, policy, top_role);
    }
    let row = deployment::Model { name: TOP_ROLE.to_owned(), value: top_role.clone() };
    let transaction = database.begin().await?;
    let unless_there = OnConflict::column(deployment::Column::Name).do_nothing().to_owned();
    deployment::Entity::insert(row.into_active_model())
        .on_conflict(unless_there)
        .exec_without_returning(&transaction)
        .await?;
    transaction.commit().await?;
    // Another server may have been first.
    match deployment::Entity::find_by_id(TOP_ROLE).one(database.reader()).await? {
        Some(found) => compare(found.value, policy, top_role),
        None => Ok(()),
    }
}

fn compare(stored: String, policy: &RolePolicy, top_role: String) -> Result<(), DeploymentError> {
    if stored == top_role {
        return Ok(());
    }
    Err(DeploymentError::TopRole { stored, policy: policy.name().to_owned(), top_role })
}
