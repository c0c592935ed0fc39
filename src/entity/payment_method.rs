//! Payment methods, as far as they may be known here.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `payment_method`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "payment_method")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Which.
    #[sea_orm(primary_key, auto_increment = false)]
    pub payment_method_id: Uuid,
    /// Who keeps it.
    pub provider: String,
    /// Under what it is known there.
    pub reference: String,
    /// Its kind.
    pub kind: String,
    /// Its brand.
    pub brand: String,
    /// Its last four digits.
    pub last4: String,
    /// The month in which it expires; 0 when it does not.
    pub expiry_month: i32,
    /// The year in which it expires; 0 when it does not.
    pub expiry_year: i32,
    /// Whether invoices are paid by it.
    pub is_default: bool,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
