//! Roles that organizations defined for themselves.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `custom_role`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "custom_role")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Its identifier, which begins with `org:`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub role: String,
    /// What people call it.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// What it may do, to whom, and by whom it is managed.
    #[sea_orm(column_type = "JsonBinary")]
    pub definition: Json,
    /// When it was defined.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts the changes.
    pub version: i64,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
