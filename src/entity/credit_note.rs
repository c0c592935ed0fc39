//! Corrections of invoices.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `credit_note`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_note")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Which.
    #[sea_orm(primary_key, auto_increment = false)]
    pub credit_note_id: Uuid,
    /// The invoice that it corrects.
    pub invoice_id: Uuid,
    /// Its number in the organization.
    pub number: i64,
    /// The amount with tax.
    pub amount_minor: i64,
    /// The tax in it.
    pub tax_minor: i64,
    /// How much of it lowered what was due.
    pub off_due_minor: i64,
    /// Why.
    pub reason: String,
    /// What became of the rest.
    pub outcome: Outcome,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// What becomes of a credit note's amount that lowers nothing that is due.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Outcome {
    /// It goes to the credit balance.
    CreditBalance,
    /// It was paid back, by another way.
    PaidBack,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
