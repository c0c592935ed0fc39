//! QueryAnalytics.

use chrono::{Days, NaiveDate};

use crate::app::App;
use crate::error::Error;
use crate::fields::Fields;
use crate::operation::store::read_json;
use crate::operation::{Query, Reader};
use crate::organization::analytics::{self, Granularity, Known, MOST_PERIODS, Period};
use crate::organization::days::{self, Standing, Today};
use crate::pb::{self, AnalyticsGranularity};

pub(super) struct QueryAnalytics {
    granularity: Granularity,
    start: Option<NaiveDate>,
    end: Option<NaiveDate>,
}

impl Query for QueryAnalytics {
    type Request = pb::QueryAnalyticsRequest;
    type Response = pb::QueryAnalyticsResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let granularity = match AnalyticsGranularity::try_from(request.granularity) {
            Ok(AnalyticsGranularity::Unspecified | AnalyticsGranularity::Day) => Granularity::Day,
            Ok(AnalyticsGranularity::Week) => Granularity::Week,
            Ok(AnalyticsGranularity::Month) => Granularity::Month,
            Err(_) => {
                fields.fault("granularity", "must be ANALYTICS_GRANULARITY_DAY, _WEEK or _MONTH");
                Granularity::default()
            }
        };
        let start = date(&mut fields, "start_date", &request.start_date);
        let end = date(&mut fields, "end_date", &request.end_date);
        fields.done(Self { granularity, start, end })
    }

    /// One statement besides the one by which the organization is entered.
    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let organization = reader.organization()?;
        let zone = &organization.time_zone;
        let under_way: Option<Today> = read_json(organization.today.as_ref())?;
        let now = days::day_of(reader.now, zone);
        // An organization that moved west is still in the day that it had reached in the east.
        let today = under_way.as_ref().map_or(now, |under_way| under_way.day.max(now));
        let (start, end) = self.range(today)?;
        let created = days::day_of(organization.created_at, zone);
        // Where it was made it may have been an earlier day.
        let earliest = created.checked_sub_days(Days::new(2)).unwrap_or(created);
        let first = self.granularity.first_day(start).max(earliest);
        let kept = days::list(reader.connection(), reader.scope, first, self.granularity.last_day(end)).await?;
        let known = Known { kept: &kept, under_way: under_way.as_ref(), present: Standing::of(organization) };
        let begun = known.first_day().map_or(created, |day| day.min(created));
        let periods = analytics::periods(self.granularity, start.max(begun), end, &known);
        Ok(pb::QueryAnalyticsResponse { time_zone: zone.clone(), periods: periods.iter().map(shown).collect() })
    }
}

impl QueryAnalytics {
    /// The first and the last day that are asked for.
    fn range(&self, today: NaiveDate) -> Result<(NaiveDate, NaiveDate), Error> {
        let mut fields = Fields::new();
        let end = self.end.unwrap_or(today);
        let start = self.start.unwrap_or_else(|| self.granularity.usual_start(end));
        if end > today {
            fields.fault("end_date", format!("must not be after today, {today}"));
        }
        if start > end {
            fields.fault("start_date", format!("must not be after the last day, {end}"));
        }
        let periods = self.granularity.count(start, end);
        if periods > MOST_PERIODS {
            fields.fault("start_date", format!("must be at most {MOST_PERIODS} periods before the end, is {periods}"));
        }
        fields.done((start, end))
    }
}

/// A day, as in `2026-01-31` and in no other form; nothing when empty or wrong.
fn date(fields: &mut Fields, field: &str, value: &str) -> Option<NaiveDate> {
    if value.is_empty() {
        return None;
    }
    let digits = value.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let day = (value.len() == 10 && digits).then(|| value.parse().ok()).flatten();
    if day.is_none() {
        fields.fault(field, "must be a day, as in 2026-01-31");
    }
    day
}

fn shown(period: &Period) -> pb::AnalyticsPeriod {
    let Period { first, last, standing, tally, active_members } = *period;
    pb::AnalyticsPeriod {
        start_date: first.to_string(),
        end_date: last.to_string(),
        members: standing.members,
        seats_used: standing.seats_used,
        seats_total: standing.seats_total,
        storage_bytes: standing.storage_bytes,
        recordings: standing.recordings,
        active_members,
        sign_ins: tally.sign_ins,
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
    use super::*;

    #[test]
    fn a_day_is_written_in_one_form() {
        let read = |text: &str| {
            let mut fields = Fields::new();
            let day = date(&mut fields, "start_date", text);
            fields.done(day).ok().flatten().map(|day| day.to_string())
        };
        for day in ["2026-01-31", "2024-02-29", "0001-01-01", "9999-12-31"] {
            assert_eq!(read(day).as_deref(), Some(day));
        }
        for text in ["2026-1-31", "2025-02-29", "2026-01-31 ", "+026-01-31", "20260131", "2026-01-32", "２026-01-1"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
