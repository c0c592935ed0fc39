//! What was reported of the use of meters.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `usage_report`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_report")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The reporter's id of it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub report_id: String,
    /// The meter.
    pub meter: String,
    /// How much was used or, of a level, the level.
    pub quantity: i64,
    /// When.
    pub used_at: DateTime<Utc>,
    /// When it was reported.
    pub created_at: DateTime<Utc>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
