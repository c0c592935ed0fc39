//! What was used of a meter in a billing period.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `usage_total`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_total")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The meter.
    #[sea_orm(primary_key, auto_increment = false)]
    pub meter: String,
    /// When the period began.
    #[sea_orm(primary_key, auto_increment = false)]
    pub period_start: DateTime<Utc>,
    /// When it ends.
    pub period_end: DateTime<Utc>,
    /// How much was used.
    pub used: i64,
    /// How much of it was billed.
    pub billed: i64,
    /// How much beyond what is included is not charged: what was used before the add-on was had.
    pub waived: i64,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
