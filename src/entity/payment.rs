//! Payments of invoices, tried ones too.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `payment`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "payment")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Which. Also the key under which the provider is asked for it once.
    #[sea_orm(primary_key, auto_increment = false)]
    pub payment_id: Uuid,
    /// The invoice.
    pub invoice_id: Uuid,
    /// Where it stands.
    pub state: State,
    /// The amount.
    pub amount_minor: i64,
    /// Its currency.
    pub currency: String,
    /// Who collects it.
    pub provider: String,
    /// Under what it is known there.
    pub reference: Option<String>,
    /// Why it failed.
    pub failure: String,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When it succeeded or failed.
    pub ended_at: Option<DateTime<Utc>>,
    /// Until when the server that asks the provider for it has it for itself.
    pub claimed_until: Option<DateTime<Utc>>,
    /// With what the provider is asked for it.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub request: Option<Json>,
}

/// Where a payment stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum State {
    /// Nobody knows yet.
    Pending,
    /// The money has come.
    Succeeded,
    /// It has not.
    Failed,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
