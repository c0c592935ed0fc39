//! Events as an endpoint was told them.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `webhook_delivery`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_delivery")]
pub struct Model {
    /// Whose event it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The endpoint.
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: Uuid,
    /// The number of the event.
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_number: i64,
    /// Its id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Where it stands.
    pub state: State,
    /// How often it was tried since it was to be sent.
    pub attempts: i64,
    /// How often somebody had it sent again.
    pub asked: i64,
    /// The latest tries.
    #[sea_orm(column_type = "JsonBinary")]
    pub tries: Json,
    /// When it was tried first.
    pub created_at: DateTime<Utc>,
    /// When it is tried again by itself.
    pub due_at: Option<DateTime<Utc>>,
    /// When it was delivered or given up.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Where a delivery stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum State {
    /// It failed, and is tried again.
    Retrying,
    /// The endpoint has taken it.
    Delivered,
    /// It failed too often.
    Failed,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
