//! Invitations, open and ended.

use chrono::{DateTime, Utc};
use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// A row of `invitation`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "invitation")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The invitation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub invitation_id: Uuid,
    /// The e-mail address as it was written last.
    pub email: String,
    /// The e-mail address by which it is compared.
    pub email_normalized: String,
    /// The e-mail address without case and accents.
    pub search_text: String,
    /// The role that it offers.
    pub role: String,
    /// Where it stands; expiry is figured from `expires_at`.
    pub state: State,
    /// Whether it is counted as holding a seat.
    pub holds_seat: bool,
    /// SHA-256 of the token's secret.
    pub token_hash: Vec<u8>,
    /// The user who sent it last.
    pub inviter_user_id: String,
    /// The role in which they sent it.
    pub inviter_role: String,
    /// The user who accepted or declined it.
    pub invitee_user_id: Option<String>,
    /// How often it was sent.
    pub send_count: i32,
    /// When it was first sent.
    pub created_at: DateTime<Utc>,
    /// When it was last sent.
    pub sent_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// When it was accepted, declined or canceled.
    pub ended_at: Option<DateTime<Utc>>,
    /// The workspaces that were chosen for the invitee; none when there are none.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub workspace_ids: Option<WorkspaceIds>,
}

/// Workspaces by their ids, in the order in which they were chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct WorkspaceIds(pub Vec<Uuid>);

/// Where an invitation stands in the database. Only a pending one moves.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum State {
    /// Open or expired, by its time.
    Pending,
    /// Accepted.
    Accepted,
    /// Declined.
    Declined,
    /// Canceled.
    Canceled,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
