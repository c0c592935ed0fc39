//! Domains that organizations claim.

use std::fmt;

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `organization_domain`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "organization_domain")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The domain in its ASCII form.
    #[sea_orm(primary_key, auto_increment = false)]
    pub domain: String,
    /// What its TXT record has to say.
    pub proof: String,
    /// When it was proved.
    pub verified_at: Option<DateTime<Utc>>,
    /// What those may do whose e-mail address is of it.
    pub join_mode: JoinMode,
    /// The role in which they join.
    pub join_role: String,
    /// When it was claimed.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts the changes.
    pub version: i64,
}

/// What those may do whose e-mail address is of a verified domain.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum JoinMode {
    /// Nothing.
    Nobody,
    /// Request to join.
    Request,
    /// Join by themselves.
    Automatic,
}

/// As the log of events says it.
impl fmt::Display for JoinMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::Request => "request",
            Self::Automatic => "automatic",
        })
    }
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
