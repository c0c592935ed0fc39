//! E-mail that is to be sent, and what became of it.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `mail`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mail")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Which.
    #[sea_orm(primary_key, auto_increment = false)]
    pub mail_id: Uuid,
    /// The number of the event that it tells of.
    pub event_number: i64,
    /// To whom; empty where that is only known when it is due.
    pub recipient: String,
    /// What kind of letter.
    pub kind: String,
    /// What it has to say.
    #[sea_orm(column_type = "JsonBinary")]
    pub letter: Json,
    /// The invitation, if it is one.
    pub invitation_id: Option<Uuid>,
    /// Where it stands.
    pub state: State,
    /// How often it was tried.
    pub attempts: i64,
    /// When it was queued.
    pub created_at: DateTime<Utc>,
    /// When it is sent or tried again.
    pub due_at: DateTime<Utc>,
    /// When it was sent, parked or dropped.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it was not sent, the last time.
    pub failure: String,
}

/// Where a mail stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum State {
    /// It is to be sent.
    Queued,
    /// It was handed over.
    Sent,
    /// It failed too often, and waits for somebody.
    Parked,
    /// There is nothing to tell any more.
    Dropped,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
