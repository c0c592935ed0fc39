//! Who was a member of an organization and is no longer.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `former_member`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "former_member")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The user.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    /// When their membership ended last.
    pub ended_at: DateTime<Utc>,
    /// Their address, until they are told by e-mail.
    pub email: Option<String>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
