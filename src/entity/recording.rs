//! Recordings of sessions.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `recording`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "recording")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The recording, as the meeting backend names it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub recording_id: String,
    /// The room.
    pub workspace_id: Option<Uuid>,
    /// The session.
    pub session_id: Option<String>,
    /// Whose recording it is.
    pub owner_user_id: String,
    /// What it is about.
    pub title: String,
    /// Its size in bytes.
    pub size_bytes: i64,
    /// How long it is, in seconds.
    pub length_seconds: i64,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was deleted; its id is not given again.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
