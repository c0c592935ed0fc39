//! Requests to join organizations, open and ended.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `join_request`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "join_request")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The request.
    #[sea_orm(primary_key, auto_increment = false)]
    pub join_request_id: Uuid,
    /// Who made it.
    pub user_id: String,
    /// Their e-mail address as it was written.
    pub email: String,
    /// Their e-mail address by which it is compared.
    pub email_normalized: String,
    /// Their name.
    pub display_name: String,
    /// Their picture.
    pub avatar_uri: String,
    /// The role that the domain's rule offered.
    pub role: String,
    /// Where it stands.
    pub state: State,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was decided or withdrawn.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who decided it.
    pub decided_by_user_id: Option<String>,
}

/// Where a request to join stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum State {
    /// Waiting.
    Pending,
    /// Approved.
    Approved,
    /// Declined.
    Declined,
    /// Withdrawn.
    Withdrawn,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
