//! Lines of invoices.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `invoice_line`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "invoice_line")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The invoice.
    #[sea_orm(primary_key, auto_increment = false)]
    pub invoice_id: Uuid,
    /// Its number in the invoice, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    /// What for.
    pub kind: Kind,
    /// In words.
    pub description: String,
    /// How many.
    pub quantity: Option<i64>,
    /// The price of one for a whole period.
    pub unit_price_minor: Option<i64>,
    /// The amount.
    pub amount_minor: i64,
    /// From when it is for.
    pub period_start: DateTime<Utc>,
    /// Until when.
    pub period_end: DateTime<Utc>,
    /// Whether it is for a part of a period.
    pub prorated: bool,
    /// The add-on.
    pub add_on_id: Option<String>,
    /// The rate of its tax, in millionths.
    pub tax_rate: Option<i64>,
    /// Whether the amount includes the tax.
    pub tax_included: Option<bool>,
    /// Of one that gives back: the invoice on which it was charged.
    pub credited_invoice_id: Option<Uuid>,
    /// Of one that gives back: the tax that goes back with it.
    pub returned_tax_minor: Option<i64>,
}

/// What a line is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Kind {
    /// The plan.
    Plan,
    /// Seats beyond the included ones.
    Seats,
    /// An add-on.
    AddOn,
    /// Usage beyond what is included.
    Usage,
    /// Tax that comes on top.
    Tax,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
