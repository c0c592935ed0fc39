//! Files that were imported, and how far.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `data_import`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "data_import")]
pub struct Model {
    /// The digest of the file.
    #[sea_orm(primary_key, auto_increment = false)]
    pub digest: String,
    /// How many lines it has.
    pub lines: i64,
    /// How many of them are in the database.
    pub lines_done: i64,
    /// When it was begun.
    pub started_at: DateTime<Utc>,
    /// When it was done.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
