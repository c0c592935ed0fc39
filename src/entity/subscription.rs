//! Subscriptions of organizations to plans.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `subscription`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subscription")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The plan, as the catalogue names it.
    pub plan_id: String,
    /// Where it stands.
    pub status: Status,
    /// The seats bought.
    pub seats: i64,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts the changes.
    pub version: i64,
    /// What was agreed on and charged; none until billing first looks at one that an import or an older version wrote.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub agreement: Option<Json>,
    /// When billing has to look at it next.
    pub due_at: Option<DateTime<Utc>>,
    /// The currency in which the organization is billed, from its first invoice on.
    pub currency: Option<String>,
    /// The number of the latest invoice.
    pub last_invoice_number: i64,
    /// The number of the latest credit note.
    pub last_credit_note_number: i64,
    /// The number of the latest entry of the credit balance.
    pub last_credit_entry_number: i64,
    /// The credit balance.
    pub credit_minor: i64,
    /// Credit of invoices that were given up, as far as it is not made good yet.
    pub unpaid_credit_minor: i64,
    /// How often in a row billing failed at it.
    pub failures: i64,
    /// Until when billing leaves it alone for that.
    pub retry_at: Option<DateTime<Utc>>,
    /// The customer as the payment provider knows it.
    pub provider_customer: Option<String>,
}

impl Model {
    /// The subscription of an organization at its beginning, which billing looks at soon.
    #[must_use]
    pub fn beginning(organization_id: Uuid, plan_id: String, status: Status, seats: i64, at: DateTime<Utc>) -> Self {
        Self {
            organization_id,
            plan_id,
            status,
            seats,
            created_at: at,
            updated_at: at,
            version: 1,
            agreement: None,
            due_at: Some(DateTime::UNIX_EPOCH),
            currency: None,
            last_invoice_number: 0,
            last_credit_note_number: 0,
            last_credit_entry_number: 0,
            credit_minor: 0,
            unpaid_credit_minor: 0,
            failures: 0,
            retry_at: None,
            provider_customer: None,
        }
    }
}

/// Where a subscription stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Status {
    /// In its trial.
    Trialing,
    /// In force.
    Active,
    /// In force for a grace time, payment being overdue.
    PastDue,
    /// Out of its grace time.
    Unpaid,
    /// Ended.
    Canceled,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
