//! Subscriptions of organizations to plans.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `subscription`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subscription")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The plan, as the catalogue names it.
    pub plan_id: String,
    /// Where it stands.
    pub status: Status,
    /// The seats bought.
    pub seats: i64,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts the changes.
    pub version: i64,
}

/// Where a subscription stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Status {
    /// In its trial.
    Trialing,
    /// In force.
    Active,
    /// In force for a grace time, payment being overdue.
    PastDue,
    /// Out of its grace time.
    Unpaid,
    /// Ended.
    Canceled,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
