//! To whom invoices are written.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `billing_profile`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "billing_profile")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The profile.
    #[sea_orm(column_type = "JsonBinary")]
    pub profile: Json,
    /// How the organization is taxed, if a service said.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub tax: Option<Json>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts the changes.
    pub version: i64,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
