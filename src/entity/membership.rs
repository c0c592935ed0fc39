//! Memberships of users in organizations.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `membership`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "membership")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The user, as the identity provider names them.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    /// The e-mail address as it was written.
    pub email: String,
    /// The e-mail address by which it is compared.
    pub email_normalized: String,
    /// The name shown to others.
    pub display_name: String,
    /// The name without case and accents.
    pub sort_name: String,
    /// Name and address without case and accents.
    pub search_text: String,
    /// The picture.
    pub avatar_uri: String,
    /// The role.
    pub role: String,
    /// The invitation by which the member came.
    pub invitation_id: Option<Uuid>,
    /// When they joined.
    pub joined_at: DateTime<Utc>,
    /// When they last signed in; 1970-01-01 for never.
    pub last_sign_in_at: DateTime<Utc>,
    /// When they were suspended.
    pub suspended_at: Option<DateTime<Utc>>,
    /// Counts the changes.
    pub version: i64,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
