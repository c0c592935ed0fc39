//! What each day of an organization was like.

use chrono::NaiveDate;
use sea_orm::entity::prelude::*;

/// A row of `organization_day`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "organization_day")]
pub struct Model {
    /// The organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The day, in the organization's time zone.
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: NaiveDate,
    /// The active members at its end.
    pub members: i64,
    /// The seats in use at its end.
    pub seats_used: i64,
    /// The seats there were at its end.
    pub seats_total: i64,
    /// The storage in use at its end.
    pub storage_bytes: i64,
    /// The recordings at its end.
    pub recordings: i64,
    /// The sign-ins.
    pub sign_ins: i64,
    /// The members who signed in.
    pub active_members: i64,
    /// Of these, those who had not yet in its week.
    pub active_first_in_week: i64,
    /// Of these, those who had not yet in its month.
    pub active_first_in_month: i64,
    /// Who became a member.
    pub members_joined: i64,
    /// Who left or was removed.
    pub members_left: i64,
    /// The invitations sent.
    pub invitations_sent: i64,
    /// The invitations accepted.
    pub invitations_accepted: i64,
    /// The sessions that ended.
    pub sessions: i64,
    /// How long they were in all.
    pub session_seconds: i64,
}

/// Relations are followed by explicit joins on the organization's id.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
