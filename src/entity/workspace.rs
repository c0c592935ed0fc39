//! Workspaces and rooms.

use std::fmt;

use chrono::{DateTime, Utc};
use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// A row of `workspace`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "workspace")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The workspace.
    #[sea_orm(primary_key, auto_increment = false)]
    pub workspace_id: Uuid,
    /// A workspace or a room.
    pub kind: Kind,
    /// What people call it.
    pub name: String,
    /// The name without case and accents.
    pub sort_name: String,
    /// What it is for.
    pub description: String,
    /// A room's name in its join link.
    pub slug: Option<String>,
    /// How a room behaves.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub room_settings: Option<RoomSettings>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its own fields last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts the changes.
    pub version: i64,
}

/// What a workspace is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Kind {
    /// A workspace.
    Workspace,
    /// A persistent meeting space with a join link of its own.
    Room,
}

/// How a room behaves, as its column says it. What a column does not say is as for a new room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(default)]
pub struct RoomSettings {
    /// Who may enter by the link.
    pub access: Access,
    /// Whether those who enter wait until a host lets them in.
    pub lobby: bool,
    /// Whether those who enter are muted.
    pub mute_on_entry: bool,
    /// Whether sessions are recorded from their start.
    pub automatic_recording: bool,
    /// How many may be in it at once; 0 for as many as the plan allows.
    pub maximum_participants: i32,
}

/// Who may enter a room by its link.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Every member of the organization.
    #[default]
    Members,
    /// Members who are assigned to it.
    Assigned,
    /// Whoever has the link.
    Anyone,
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Members => "members",
            Self::Assigned => "assigned",
            Self::Anyone => "anyone",
        })
    }
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
