//! What was put into credit balances and taken out of them.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `credit_entry`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_entry")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Its number in the organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// What was put in or, below zero, taken out.
    pub amount_minor: i64,
    /// The balance after it.
    pub balance_minor: i64,
    /// Its currency.
    pub currency: String,
    /// Why.
    pub cause: Cause,
    /// The invoice that it came from or went to.
    pub invoice_id: Uuid,
    /// The credit note that it came from.
    pub credit_note_id: Option<Uuid>,
    /// When.
    pub occurred_at: DateTime<Utc>,
}

/// Why a credit balance changed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Cause {
    /// An invoice came to less than nothing.
    NegativeInvoice,
    /// It was applied to an invoice.
    Applied,
    /// The invoice to which it was applied was voided.
    InvoiceVoided,
    /// A credit note was made to what was paid.
    CreditNote,
    /// More was collected than was due by then.
    Overpaid,
    /// It came from an invoice that was given up; put back, if that was paid after all.
    InvoiceUncollectible,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
