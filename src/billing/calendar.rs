//! Billing periods: where they begin and end, by the instant from which they are counted.
//!
//! All of it is in UTC. A period ends as many months after the anchor as have gone by, on the same day of the month at the same
//! time; where a month is too short for the day, on its last one, and the next on the day itself again: 31 January, 28 February,
//! 31 March.

use chrono::{DateTime, Datelike as _, Months, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::catalogue::{Period, Proration};

/// From an instant until another, which is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its first instant.
    pub start: DateTime<Utc>,
    /// The first after it.
    pub end: DateTime<Utc>,
}

impl Span {
    /// How long it is, in seconds. A part of one does not count.
    #[must_use]
    pub fn seconds(self) -> i128 {
        i128::from((self.end - self.start).num_seconds())
    }
}

impl Period {
    fn months(self) -> u32 {
        match self {
            Self::Month => 1,
            Self::Year => 12,
        }
    }
}

/// The period counted from `anchor` that begins at `start`, or the one in which `start` is. None beyond the end of time.
#[must_use]
pub fn period_of(anchor: DateTime<Utc>, period: Period, start: DateTime<Utc>) -> Option<Span> {
    let whole = period.months();
    let apart = (start.year() - anchor.year()) * 12 + i32::try_from(start.month()).ok()?
        - i32::try_from(anchor.month()).ok()?;
    let mut count = u32::try_from(apart.max(0)).ok()? / whole;
    // The day of the month may not have come yet.
    if boundary(anchor, whole * count)? > start {
        count = count.checked_sub(1)?;
    }
    Some(Span { start: boundary(anchor, whole * count)?, end: boundary(anchor, whole * (count + 1))? })
}

fn boundary(anchor: DateTime<Utc>, months: u32) -> Option<DateTime<Utc>> {
    anchor.checked_add_months(Months::new(months))
}

/// From where on a change within a period counts, and how much of the period is left then: to the second, or from the beginning
/// of its day, counted from the beginning of the period.
#[must_use]
pub fn rest_of(period: Span, now: DateTime<Utc>, proration: Proration) -> Span {
    let now = now.clamp(period.start, period.end);
    let gone = now - period.start;
    let gone = match proration {
        Proration::Second => TimeDelta::seconds(gone.num_seconds()),
        Proration::Day => TimeDelta::days(gone.num_days()),
    };
    Span { start: period.start + gone, end: period.end }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("{text}T09:30:00Z").parse().unwrap()
    }

    fn ends(anchor: &str, period: Period, count: usize) -> Vec<String> {
        let mut start = at(anchor);
        let mut ends = Vec::new();
        for _ in 0..count {
            start = period_of(at(anchor), period, start).unwrap().end;
            ends.push(start.date_naive().to_string());
        }
        ends
    }

    #[test]
    fn the_last_days_of_months_fall_back_and_return() {
        assert_eq!(ends("2026-01-31", Period::Month, 4), ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]);
        assert_eq!(ends("2028-01-30", Period::Month, 3), ["2028-02-29", "2028-03-30", "2028-04-30"]);
        assert_eq!(ends("2026-12-29", Period::Month, 3), ["2027-01-29", "2027-02-28", "2027-03-29"]);
        assert_eq!(ends("2028-02-29", Period::Year, 4), ["2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]);
    }

    #[test]
    fn a_day_counts_as_a_whole_one_of_the_new_state() {
        let period = period_of(at("2026-04-01"), Period::Month, at("2026-04-01")).unwrap();
        let change = at("2026-04-02") + TimeDelta::hours(5);
        assert_eq!(rest_of(period, change, Proration::Day).start, at("2026-04-02"));
        assert_eq!(rest_of(period, change, Proration::Second).seconds(), period.seconds() - 29 * 3600);
    }

    #[test]
    fn a_clock_that_goes_wrong_leaves_no_more_than_the_period_and_no_less_than_nothing() {
        let period = period_of(at("2026-04-01"), Period::Month, at("2026-04-01")).unwrap();
        for proration in [Proration::Second, Proration::Day] {
            assert_eq!(rest_of(period, at("2026-03-20"), proration), period);
            assert_eq!(rest_of(period, at("2026-06-01"), proration).seconds(), 0);
        }
        assert_eq!(period_of(at("2026-04-01"), Period::Month, at("2026-03-20")), None);
    }

    proptest! {
        #[test]
        fn periods_follow_each_other_without_gap(day in 0..20_000i64, yearly: bool, later in 0..2_000i64, seconds in 0..86_400i64) {
            let anchor = DateTime::UNIX_EPOCH + TimeDelta::days(day) + TimeDelta::seconds(seconds);
            let period = if yearly { Period::Year } else { Period::Month };
            let now = anchor + TimeDelta::days(later);
            let span = period_of(anchor, period, now).unwrap();
            prop_assert!(span.start <= now && now < span.end);
            let next = period_of(anchor, period, span.end).unwrap();
            prop_assert_eq!(next.start, span.end);
            prop_assert_eq!(period_of(anchor, period, span.start), Some(span));
            let rest = rest_of(span, now, Proration::Day);
            prop_assert!(rest.start <= now && (now - rest.start) < TimeDelta::days(1));
        }
    }
}
