//! The append-only log of what happened.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `event`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Its place in the organization's log: 1, 2, 3 … without a gap.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// The event's id in the whole deployment.
    pub event_id: Uuid,
    /// What happened: `member.joined`.
    pub r#type: String,
    /// The kind of thing that it is about: `member`.
    pub subject_kind: String,
    /// Which of that kind; empty where there is one in each organization.
    pub subject_id: String,
    /// When.
    pub occurred_at: DateTime<Utc>,
    /// The user whose doing it was.
    pub actor_user_id: Option<String>,
    /// The service that made the call.
    pub actor_service: Option<String>,
    /// The address from which the call came; none of what the service did by itself.
    pub actor_address: Option<String>,
    /// The id under which the logs know the call.
    pub request_id: String,
    /// What changed.
    #[sea_orm(column_type = "JsonBinary")]
    pub payload: Json,
    /// Its place among the events of all organizations; none until it is placed.
    pub position: Option<i64>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
