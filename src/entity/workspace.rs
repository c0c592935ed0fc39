//! Workspaces and rooms.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

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
    pub room_settings: Option<Json>,
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

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
