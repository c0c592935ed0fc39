//! Invoices, the one that is being collected among them.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `invoice`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "invoice")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Which.
    #[sea_orm(primary_key, auto_increment = false)]
    pub invoice_id: Uuid,
    /// Its number in the organization; none of a draft.
    pub number: Option<i64>,
    /// Where it stands.
    pub state: State,
    /// Its currency.
    pub currency: String,
    /// The sum of its lines without tax that comes on top.
    pub subtotal_minor: i64,
    /// The tax, on top or included.
    pub tax_minor: i64,
    /// The total.
    pub total_minor: i64,
    /// What it charges, tax on top included, whatever it gives back of others; none of a draft, and of what an older version
    /// wrote.
    pub charged_minor: Option<i64>,
    /// What was given back of that since, by lines of later invoices and by credit notes.
    pub given_back_minor: i64,
    /// How much credit came from it, of one that was given up, that nobody paid for.
    pub unpaid_credit_minor: i64,
    /// What the credit balance paid of it.
    pub credit_applied_minor: i64,
    /// What credit notes took off what was due.
    pub credited_minor: i64,
    /// What was paid.
    pub paid_minor: i64,
    /// To whom it is written and how it is taxed, from when it became open.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub recipient: Option<Json>,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When it became open.
    pub finalized_at: Option<DateTime<Utc>>,
    /// Until when it is to be paid.
    pub due_at: Option<DateTime<Utc>>,
    /// When it was paid, voided or given up.
    pub closed_at: Option<DateTime<Utc>>,
}

/// Where an invoice stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum State {
    /// It is still collected.
    Draft,
    /// It is due.
    Open,
    /// Nothing is due any more.
    Paid,
    /// It is not owed.
    Void,
    /// It is owed, but nobody expects it to be paid.
    Uncollectible,
}

impl Model {
    /// What is due.
    #[must_use]
    pub fn due_minor(&self) -> i64 {
        match self.state {
            State::Open | State::Uncollectible => {
                (self.total_minor - self.credit_applied_minor - self.credited_minor - self.paid_minor).max(0)
            }
            State::Draft | State::Paid | State::Void => 0,
        }
    }
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
