//! Meetings in rooms.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `room_session`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "room_session")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The session, as the meeting backend names it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_id: String,
    /// The room.
    pub workspace_id: Uuid,
    /// What it is about.
    pub title: String,
    /// Who hosts it.
    pub host_user_id: String,
    /// How many are in it.
    pub participants: i64,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was asked to end.
    pub end_requested_at: Option<DateTime<Utc>>,
    /// By whom.
    pub end_requested_by: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
