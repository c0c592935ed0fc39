//! Answers kept for repeated requests.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `stored_answer`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "stored_answer")]
pub struct Model {
    /// The organization or, for calls that concern none yet, a UUID figured from the user.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Who called.
    #[sea_orm(primary_key, auto_increment = false)]
    pub caller: String,
    /// SHA-256 of the `request_id`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_key: Vec<u8>,
    /// SHA-256 of the method and the request.
    pub payload_hash: Vec<u8>,
    /// The answer, readable only with the `request_id`.
    pub sealed_answer: Vec<u8>,
    /// When it was given.
    pub created_at: DateTime<Utc>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
