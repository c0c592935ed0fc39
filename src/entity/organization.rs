//! Organizations, with the counters that the rules about seats and the top role are decided on.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `organization`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "organization")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// What people call it.
    pub name: String,
    /// Its name in links.
    pub slug: String,
    /// What it is.
    pub description: String,
    /// Its logo.
    pub logo_uri: String,
    /// The user for whom sign-up made it, while they are a member of it.
    pub default_of_user_id: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its own fields last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// Until when it can be undeleted.
    pub purge_at: Option<DateTime<Utc>>,
    /// Counts the changes of its own fields.
    pub version: i64,
    /// The seats there are.
    pub seats_total: i64,
    /// The members that are not suspended.
    pub active_members: i64,
    /// The invitations that are counted as holding a seat, some of which may have expired since.
    pub pending_invitations: i64,
    /// The active members that hold the top role.
    pub top_role_members: i64,
    /// The number of the latest event.
    pub last_event_number: i64,
    /// The time zone in which its days begin, as the IANA names it.
    pub time_zone: String,
    /// The active members by role; unknown until the first change since the column is there.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub members_by_role: Option<Json>,
    /// What happened today.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub today: Option<Json>,
    /// How many roles of its own it has.
    pub custom_roles: i64,
    /// Whether its settings say from which domains members' e-mail addresses may be.
    pub restricts_email_domains: bool,
    /// The storage in use, in bytes.
    pub storage_bytes: i64,
    /// The recordings.
    pub recordings: i64,
    /// The sessions that are under way.
    pub live_sessions: i64,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
