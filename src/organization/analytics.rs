//! How an organization was used over time: the days that were kept, put together to periods.

use chrono::{Datelike as _, Days, Months, NaiveDate, Weekday};

use super::days::{Standing, Tally, Today};
use crate::entity::organization_day;

/// The most periods that one answer has.
pub const MOST_PERIODS: i64 = 400;

/// How long periods are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// A day.
    #[default]
    Day,
    /// A week, from Monday.
    Week,
    /// A month.
    Month,
}

impl Granularity {
    /// The first day of the period in which a day lies.
    #[must_use]
    pub fn first_day(self, day: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => day,
            Self::Week => day.week(Weekday::Mon).checked_first_day().unwrap_or(day),
            Self::Month => day.with_day(1).unwrap_or(day),
        }
    }

    /// The last day of the period in which a day lies.
    #[must_use]
    pub fn last_day(self, day: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => day,
            Self::Week => day.week(Weekday::Mon).checked_last_day().unwrap_or(day),
            Self::Month => {
                let next = self.first_day(day).checked_add_months(Months::new(1));
                next.and_then(|next| next.pred_opt()).unwrap_or(day)
            }
        }
    }

    /// How many periods there are from the one of a day to the one of a later day.
    #[must_use]
    pub fn count(self, first: NaiveDate, last: NaiveDate) -> i64 {
        let days = (self.first_day(last) - self.first_day(first)).num_days();
        let months = |day: NaiveDate| i64::from(day.year()) * 12 + i64::from(day.month0());
        1 + match self {
            Self::Day => days,
            Self::Week => days / 7,
            Self::Month => months(last) - months(first),
        }
    }

    /// Where a question begins that does not say it: 29 days, 11 weeks or 11 months before its last day.
    #[must_use]
    pub fn usual_start(self, last: NaiveDate) -> NaiveDate {
        let start = match self {
            Self::Day => last.checked_sub_days(Days::new(29)),
            Self::Week => last.checked_sub_days(Days::new(7 * 11)),
            Self::Month => last.checked_sub_months(Months::new(11)),
        };
        start.unwrap_or(last)
    }
}

/// The days of which something is known.
#[derive(Debug)]
pub struct Known<'a> {
    /// The days that were kept, in their order: those that are asked for, and the last one before.
    pub kept: &'a [organization_day::Model],
    /// The last day on which something changed, if any did: it is under way, or has ended and is not kept yet.
    pub under_way: Option<&'a Today>,
    /// How things stand now, and stood ever since the last change.
    pub present: Standing,
}

impl Known<'_> {
    /// How things stood at the end of a day: as at the end of the last day before it on which something changed.
    fn standing(&self, day: NaiveDate) -> Standing {
        if self.under_way.is_none_or(|last_change| last_change.day <= day) {
            return self.present;
        }
        let until = self.kept.partition_point(|row| row.day <= day);
        // Before the first day of which something is known there was nothing.
        self.kept.get(..until).and_then(|rows| rows.last()).map(Standing::of_day).unwrap_or_default()
    }

    /// What happened from one day to another.
    fn tally(&self, first: NaiveDate, last: NaiveDate) -> Tally {
        let kept = self.kept.iter().map(|row| (row.day, Tally::of_day(row)));
        let days = kept.skip(self.kept.partition_point(|row| row.day < first)).take_while(|(day, _)| *day <= last);
        let under_way = self.under_way.filter(|today| (first..=last).contains(&today.day));
        days.map(|(_, tally)| tally).chain(under_way.map(|today| today.tally)).fold(Tally::default(), Tally::plus)
    }

    /// The first day of which something is known, of those that were read.
    pub fn first_day(&self) -> Option<NaiveDate> {
        self.kept.first().map(|row| row.day).or(self.under_way.map(|today| today.day))
    }
}

/// One period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first day.
    pub first: NaiveDate,
    /// Its last day.
    pub last: NaiveDate,
    /// How things stood at its end, or stand now.
    pub standing: Standing,
    /// What happened.
    pub tally: Tally,
    /// The members who signed in, each once.
    pub active_members: i64,
}

/// The periods from the one of a day to the one of another, without a gap.
#[must_use]
pub fn periods(granularity: Granularity, start: NaiveDate, end: NaiveDate, known: &Known<'_>) -> Vec<Period> {
    let mut periods = Vec::new();
    let mut first = granularity.first_day(start);
    while first <= end {
        let last = granularity.last_day(first);
        let tally = known.tally(first, last);
        let active_members = match granularity {
            Granularity::Day => tally.active_members,
            Granularity::Week => tally.active_first_in_week,
            Granularity::Month => tally.active_first_in_month,
        };
        periods.push(Period { first, last, standing: known.standing(last), tally, active_members });
        match last.succ_opt() {
            Some(next) => first = next,
            None => break,
        }
    }
    periods
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::days;
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn standing(members: i64) -> Standing {
        Standing { members, ..Standing::default() }
    }

    fn day(date: NaiveDate, members: i64, sign_ins: i64) -> organization_day::Model {
        let tally = Tally { sign_ins, ..Tally::default() };
        days::row(Uuid::nil(), &Today { day: date, tally }, standing(members))
    }

    const EACH: [Granularity; 3] = [Granularity::Day, Granularity::Week, Granularity::Month];

    proptest! {
        #[test]
        fn periods_follow_one_another_and_lose_nothing(
            changes in prop::collection::btree_map(0..200u64, (0..50i64, 0..9i64), 0..60),
            (start, length) in (0..200u64, 0..200u64),
            granularity in prop::sample::select(&EACH[..]),
        ) {
            let at = |number| date("2025-11-20") + Days::new(number);
            let mut rows: Vec<_> =
                changes.iter().map(|(number, (members, sign_ins))| day(at(*number), *members, *sign_ins)).collect();
            let last = rows.pop();
            let present = standing(last.as_ref().map_or(7, |row| row.members));
            let under_way = last.as_ref().map(|row| Today { day: row.day, tally: Tally::of_day(row) });
            let known = Known { kept: &rows, under_way: under_way.as_ref(), present };
            let (start, end) = (at(start), at(start + length));
            let periods = periods(granularity, start, end, &known);

            prop_assert_eq!(i64::try_from(periods.len()).unwrap(), granularity.count(start, end));
            prop_assert!(periods.windows(2).all(|two| two[0].last.succ_opt() == Some(two[1].first)));
            let (earliest, latest) = (periods[0], periods[periods.len() - 1]);
            prop_assert!((earliest.first..=earliest.last).contains(&start) && (latest.first..=latest.last).contains(&end));
            let all = rows.iter().chain(&last);
            let within = all.clone().filter(|row| (earliest.first..=latest.last).contains(&row.day));
            let told: i64 = periods.iter().map(|period| period.tally.sign_ins).sum();
            prop_assert_eq!(told, within.map(|row| row.sign_ins).sum::<i64>());
            for period in &periods {
                let before = all.clone().rfind(|row| row.day <= period.last);
                let unknown = if changes.is_empty() { 7 } else { 0 };
                prop_assert_eq!(period.standing.members, before.map_or(unknown, |row| row.members));
            }
        }
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_their_first() {
        let of = |granularity: Granularity, day: &str| {
            (granularity.first_day(date(day)).to_string(), granularity.last_day(date(day)).to_string())
        };
        assert_eq!(of(Granularity::Week, "2026-01-01"), ("2025-12-29".into(), "2026-01-04".into()));
        assert_eq!(of(Granularity::Week, "2026-01-05"), ("2026-01-05".into(), "2026-01-11".into()));
        assert_eq!(of(Granularity::Month, "2024-02-29"), ("2024-02-01".into(), "2024-02-29".into()));
        assert_eq!(of(Granularity::Month, "2025-12-31"), ("2025-12-01".into(), "2025-12-31".into()));
        assert_eq!(Granularity::Month.usual_start(date("2026-12-31")), date("2026-01-31"));
        assert_eq!(Granularity::Month.count(date("2025-12-31"), date("2026-01-01")), 2);
        assert_eq!(Granularity::Week.count(date("2026-01-04"), date("2026-01-05")), 2);
        assert_eq!(Granularity::Day.usual_start(date("2026-01-30")), date("2026-01-01"));
    }
}
