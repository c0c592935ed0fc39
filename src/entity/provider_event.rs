//! What payment providers told, each once.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `provider_event`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "provider_event")]
pub struct Model {
    /// Who.
    #[sea_orm(primary_key, auto_increment = false)]
    pub provider: String,
    /// Their id of it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_id: String,
    /// When it came.
    pub created_at: DateTime<Utc>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
