//! What each day of an organization was like, counted as it happens.
//!
//! The day that is under way stands in the organization's own row, which every change writes anyway; the first change of a
//! later day moves it to `organization_day`. So analytics cost a change nothing but one insert a day, and a question about a
//! year reads at most 366 rows.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use sea_orm::sea_query::{Expr, ExprTrait as _, Func, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::scope::Scope;
use crate::entity::{organization, organization_day};
use crate::error::Error;
use crate::event::Change;
use crate::operation::store::read_json;

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

impl Standing {
    /// How it stands by its counters.
    #[must_use]
    pub fn of(row: &organization::Model) -> Self {
        Self {
            members: row.active_members,
            seats_used: row.active_members + row.pending_invitations,
            seats_total: row.seats_total,
            storage_bytes: row.storage_bytes,
            recordings: row.recordings,
        }
    }

    /// How it stood at the end of a day that was kept.
    #[must_use]
    pub fn of_day(row: &organization_day::Model) -> Self {
        Self {
            members: row.members,
            seats_used: row.seats_used,
            seats_total: row.seats_total,
            storage_bytes: row.storage_bytes,
            recordings: row.recordings,
        }
    }
}

impl Tally {
    /// What happened on a day that was kept.
    #[must_use]
    pub fn of_day(row: &organization_day::Model) -> Self {
        Self {
            sign_ins: row.sign_ins,
            active_members: row.active_members,
            active_first_in_week: row.active_first_in_week,
            active_first_in_month: row.active_first_in_month,
            members_joined: row.members_joined,
            members_left: row.members_left,
            invitations_sent: row.invitations_sent,
            invitations_accepted: row.invitations_accepted,
            sessions: row.sessions,
            session_seconds: row.session_seconds,
        }
    }

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

/// The time zone of a name; UTC should it be none.
#[must_use]
pub fn zone_of(time_zone: &str) -> Tz {
    time_zone.parse().unwrap_or(Tz::UTC)
}

/// The day that it is at a moment in a time zone.
#[must_use]
pub fn day_of(moment: DateTime<Utc>, time_zone: &str) -> NaiveDate {
    moment.with_timezone(&zone_of(time_zone)).date_naive()
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

/// Counts on in an organization's row as it was read: gives the day that is under way then, and keeps one that ended as the row
/// says that the organization stood.
pub async fn turn(
    connection: &impl ConnectionTrait,
    row: &organization::Model,
    now: DateTime<Utc>,
    tally: Tally,
) -> Result<Today, Error> {
    let (today, ended) = count_on(read_json(row.today.as_ref())?, day_of(now, &row.time_zone), tally);
    if let Some(ended) = ended {
        keep(connection, row.organization_id, &ended, Standing::of(row)).await?;
    }
    Ok(today)
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

/// The days that were kept from `first` to `last`, and the last one before: by it is known how things stood in the beginning.
pub async fn list(
    connection: &impl ConnectionTrait,
    scope: Scope,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<Vec<organization_day::Model>, DbErr> {
    use organization_day::Column as C;
    let before = Query::select()
        .expr(Expr::col(C::Day).max())
        .from(organization_day::Entity)
        .and_where(C::OrganizationId.eq(scope.organization_id()))
        .and_where(C::Day.lt(first))
        .to_owned();
    let begin = Func::coalesce([SimpleExpr::from(before), Expr::val(first)]);
    organization_day::Entity::find()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .filter(Expr::col(C::Day).gte(begin))
        .filter(C::Day.lte(last))
        .order_by_asc(C::OrganizationId)
        .order_by_asc(C::Day)
        .all(connection)
        .await
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

#[cfg(test)]
mod tests {
    use chrono::{Days, TimeDelta};
    use proptest::prelude::*;

    use super::*;

    const ZONES: [&str; 5] = ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/Amsterdam", "America/St_Johns"];

    proptest! {
        /// What happens at which moments, the clock of another server being somewhat behind, in zones that change.
        #[test]
        fn the_days_that_are_kept_only_ever_get_later_and_lose_nothing(
            happens in prop::collection::vec((-90..200_000i64, prop::sample::select(&ZONES[..]), 0..3i64), 1..80),
        ) {
            let mut now: DateTime<Utc> = "2026-03-27T20:00:00Z".parse().unwrap();
            let mut under_way = None;
            let mut kept: Vec<Today> = Vec::new();
            let mut sign_ins = 0;
            for (passed, zone, signed_in) in happens {
                now += TimeDelta::seconds(passed);
                let tally = Tally { sign_ins: signed_in, ..Tally::default() };
                let (today, ended) = count_on(under_way, day_of(now, zone), tally);
                prop_assert!(today.day >= day_of(now, zone));
                // No further ahead than two places on Earth can be.
                prop_assert!(today.day <= day_of(now, zone) + Days::new(2));
                kept.extend(ended);
                under_way = Some(today);
                sign_ins += signed_in;
            }
            let days: Vec<Today> = kept.into_iter().chain(under_way).collect();
            prop_assert!(days.is_sorted_by(|one, next| one.day < next.day));
            prop_assert_eq!(days.iter().map(|day| day.tally.sign_ins).sum::<i64>(), sign_ins);
        }
    }

    #[test]
    fn a_day_begins_when_it_does_in_the_zone_also_where_clocks_are_turned() {
        let day = |moment: &str, zone| day_of(moment.parse().unwrap(), zone).to_string();
        // At night the clocks of Amsterdam go from 02:00 to 03:00, and in autumn from 03:00 to 02:00.
        assert_eq!(day("2026-03-28T22:59:59Z", "Europe/Amsterdam"), "2026-03-28");
        assert_eq!(day("2026-03-28T23:00:00Z", "Europe/Amsterdam"), "2026-03-29");
        assert_eq!(day("2026-03-29T21:59:59Z", "Europe/Amsterdam"), "2026-03-29");
        assert_eq!(day("2026-03-29T22:00:00Z", "Europe/Amsterdam"), "2026-03-30");
        assert_eq!(day("2026-10-25T22:59:59Z", "Europe/Amsterdam"), "2026-10-25");
        assert_eq!(day("2026-10-25T23:00:00Z", "Europe/Amsterdam"), "2026-10-26");
    }
}
