//! The ledger of seats.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A row of `seat_entry`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "seat_entry")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Which, in the order in which they were written.
    #[sea_orm(primary_key, auto_increment = false)]
    pub entry_id: Uuid,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it was written.
    pub recorded_at: DateTime<Utc>,
    /// Why.
    pub cause: Cause,
    /// Who or what: a user's id or an invitation's.
    pub subject: String,
    /// How many seats it took or, below zero, gave back.
    pub taken: i64,
    /// How many more seats there are since or, below zero, fewer.
    pub added: i64,
    /// The active members after everything that was written together with it.
    pub members_after: i64,
    /// The invitations with a seat after it.
    pub pending_after: i64,
    /// The seats that there are after it.
    pub total_after: i64,
}

/// Why a seat was taken or given back.
#[derive(Copy, Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Cause {
    /// An invitation was sent.
    InvitationSent,
    /// One was canceled.
    InvitationCanceled,
    /// One was declined.
    InvitationDeclined,
    /// One was accepted, and its seat passed to the member.
    InvitationAccepted,
    /// One expired.
    InvitationExpired,
    /// Somebody became a member.
    MemberJoined,
    /// A member was removed or left.
    MemberRemoved,
    /// A member was suspended.
    MemberSuspended,
    /// A member was reactivated.
    MemberReactivated,
    /// The number of seats changed.
    SeatsChanged,
    /// What was there when accounting began, or came by an import.
    OpeningBalance,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
