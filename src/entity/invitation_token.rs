//! Hashes of the tokens of invitations that were sent by e-mail.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `invitation_token`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "invitation_token")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The invitation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub invitation_id: Uuid,
    /// SHA-256 of the token's secret.
    #[sea_orm(primary_key, auto_increment = false)]
    pub token_hash: Vec<u8>,
    /// When the invitation was sent that the letter tells of.
    pub sent_at: DateTime<Utc>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
