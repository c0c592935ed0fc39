//! What each day of an organization was like, counted as it happens.
//!
//! The day that is under way stands in the organization's own row, which every change writes anyway; the first change of a
//! later day moves it to `organization_day`. So analytics cost a change nothing but one insert a day, and a question about a
//! year reads at most 366 rows.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use sea_orm::{ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entity::organization_day;
use crate::event::Change;

/// What happened on a day, or on a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the columns of organization_day, documented there")]
pub struct Tally {
    pub sign_ins: i64,
    pub active_members: i64,
    pub active_first_in_week: i64,
    pub active_first_in_month: i64,
    pub members_joined: i64,
    pub members_left: i64,
    pub invitations_sent: i64,
    pub invitations_accepted: i64,
    pub sessions: i64,
    pub session_seconds: i64,
}

/// A day that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Today {
    /// The day.
    pub day: NaiveDate,
    /// What happened on it so far.
    #[serde(flatten)]
    pub tally: Tally,
}

/// How an organization stands: what a day is remembered by at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of organization_day, documented there")]
pub struct Standing {
    pub members: i64,
    pub seats_used: i64,
    pub seats_total: i64,
    pub storage_bytes: i64,
    pub recordings: i64,
}

impl Tally {
    /// What changes come to. Which members were active is not in them: that needs to know when each signed in before.
    #[must_use]
    pub fn of(changes: &[Change]) -> Self {
        changes.iter().fold(Self::default(), |mut tally, change| {
            match change {
                Change::MemberSignedIn { .. } => tally.sign_ins += 1,
                Change::MemberJoined { .. } => tally.members_joined += 1,
                Change::MemberRemoved { .. } | Change::MemberLeft { .. } => tally.members_left += 1,
                Change::InvitationCreated { .. } | Change::InvitationResent { .. } => tally.invitations_sent += 1,
                Change::InvitationAccepted { .. } => tally.invitations_accepted += 1,
                Change::SessionEnded { length_seconds, .. } => {
                    tally.sessions += 1;
                    tally.session_seconds += length_seconds;
                }
                _ => {}
            }
            tally
        })
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            sign_ins: self.sign_ins + other.sign_ins,
            active_members: self.active_members + other.active_members,
            active_first_in_week: self.active_first_in_week + other.active_first_in_week,
            active_first_in_month: self.active_first_in_month + other.active_first_in_month,
            members_joined: self.members_joined + other.members_joined,
            members_left: self.members_left + other.members_left,
            invitations_sent: self.invitations_sent + other.invitations_sent,
            invitations_accepted: self.invitations_accepted + other.invitations_accepted,
            sessions: self.sessions + other.sessions,
            session_seconds: self.session_seconds + other.session_seconds,
        }
    }
}

/// The day that it is at a moment in a time zone; in UTC should the name be none.
#[must_use]
pub fn day_of(moment: DateTime<Utc>, time_zone: &str) -> NaiveDate {
    let zone: Tz = time_zone.parse().unwrap_or(Tz::UTC);
    moment.with_timezone(&zone).date_naive()
}

/// Counts on: the day that is under way after `tally` happened on `day`, and the day that ended by it. A day never goes back:
/// an organization that moves west counts on until its new day has caught up.
#[must_use]
pub fn count_on(under_way: Option<Today>, day: NaiveDate, tally: Tally) -> (Today, Option<Today>) {
    match under_way {
        Some(under_way) if under_way.day >= day => {
            (Today { day: under_way.day, tally: under_way.tally.plus(tally) }, None)
        }
        ended => (Today { day, tally }, ended),
    }
}

/// Keeps a day that ended.
pub async fn keep(
    connection: &impl ConnectionTrait,
    organization_id: Uuid,
    ended: &Today,
    standing: Standing,
) -> Result<(), DbErr> {
    let row = row(organization_id, ended, standing);
    organization_day::Entity::insert(row.into_active_model()).exec_without_returning(connection).await.map(|_| ())
}

/// A day as its row has it.
#[must_use]
pub fn row(organization_id: Uuid, today: &Today, standing: Standing) -> organization_day::Model {
    let tally = today.tally;
    organization_day::Model {
        organization_id,
        day: today.day,
        members: standing.members,
        seats_used: standing.seats_used,
        seats_total: standing.seats_total,
        storage_bytes: standing.storage_bytes,
        recordings: standing.recordings,
        sign_ins: tally.sign_ins,
        active_members: tally.active_members,
        active_first_in_week: tally.active_first_in_week,
        active_first_in_month: tally.active_first_in_month,
        members_joined: tally.members_joined,
        members_left: tally.members_left,
        invitations_sent: tally.invitations_sent,
        invitations_accepted: tally.invitations_accepted,
        sessions: tally.sessions,
        session_seconds: tally.session_seconds,
    }
}
