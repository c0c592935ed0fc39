//! Where what happens is told, and how that fares.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `webhook_endpoint`.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_endpoint")]
pub struct Model {
    /// The organization whose events it is told; nil of one that is told those of all.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Which.
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: Uuid,
    /// Where events are posted; empty where the configuration says it, as are the next three.
    pub url: String,
    /// What it is for.
    pub description: String,
    /// The types of events that it is told.
    #[sea_orm(column_type = "JsonBinary")]
    pub types: Json,
    /// What signs.
    pub secret: Vec<u8>,
    /// What signs too, and until when.
    #[sea_orm(column_type = "JsonBinary")]
    pub old_secrets: Json,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When somebody changed it last.
    pub updated_at: DateTime<Utc>,
    /// Counts such changes.
    pub version: i64,
    /// Since when it is told nothing.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Why.
    pub disable_reason: Option<DisableReason>,
    /// Since when it is deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// Up to where it was told what happens.
    pub place: i64,
    /// When something is to be done for it.
    pub due_at: Option<DateTime<Utc>>,
    /// Until when it is left alone, because it failed.
    pub paused_until: Option<DateTime<Utc>>,
    /// Counts who said so.
    pub wakes: i64,
    /// Until when a server does it.
    pub claimed_until: Option<DateTime<Utc>>,
    /// How often it failed since it last took an event.
    pub failures: i64,
    /// Since when.
    pub failing_since: Option<DateTime<Utc>>,
    /// Why, the last time.
    pub failure: String,
    /// When it took an event last.
    pub succeeded_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for Model {
    /// Which it is: there are secrets in the rest.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { organization_id, endpoint_id, .. } = self;
        formatter.debug_struct("webhook_endpoint").field("of", organization_id).field("id", endpoint_id).finish()
    }
}

/// Why an endpoint is told nothing.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum DisableReason {
    /// Somebody disabled it.
    Requested,
    /// It did nothing but fail.
    Failing,
    /// It said that it wants no more.
    Gone,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
