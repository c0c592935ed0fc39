//! Which members were active: what a sign-in adds to the day's tally.

use chrono::{Datelike as _, NaiveDate};

use crate::organization::days::Tally;

/// What a sign-in adds to the tally of today, besides itself: the member counts once in each day, week and month that is
/// under way. `last` is the day of their last sign-in before, `day` that of this one, which is no earlier.
///
/// A sign-in of an earlier day, told late, cannot count in that day any more, but does in its week and month as long as those
/// are under way: else the member's next one would be taken for their second.
#[must_use]
pub fn of_sign_in(last: NaiveDate, day: NaiveDate, today: NaiveDate) -> Tally {
    let week = |day: NaiveDate| (day.iso_week().year(), day.iso_week().week());
    let month = |day: NaiveDate| (day.year(), day.month());
    Tally {
        active_members: i64::from(day == today && last < today),
        active_first_in_week: i64::from(week(day) == week(today) && week(last) < week(today)),
        active_first_in_month: i64::from(month(day) == month(today) && month(last) < month(today)),
        ..Tally::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use chrono::Days;
    use proptest::prelude::*;

    use super::*;

    /// A day near the turn of a year whose last week is the next one's first.
    fn day(number: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 11, 20).unwrap() + Days::new(number)
    }

    fn never() -> NaiveDate {
        NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()
    }

    proptest! {
        /// Who signs in, on which day, and how many days later it is told.
        #[test]
        fn each_week_and_month_counts_everybody_once_who_signed_in(
            mut told in prop::collection::vec((0..5usize, 0..90u64, prop_oneof![4 => Just(0u64), 1 => 0..9u64]), 0..120),
        ) {
            told.sort_by_key(|(_, signed_in, delay)| signed_in + delay);
            let mut last = [never(); 5];
            let mut tallies = Vec::new();
            let (mut of_days, mut of_weeks, mut of_months) = (HashSet::new(), HashSet::new(), HashSet::new());
            for (member, signed_in, delay) in told {
                let (signed_in, today) = (day(signed_in), day(signed_in + delay));
                // One that is older than the last one known says nothing, as RecordSignIn has it.
                if signed_in < last[member] {
                    continue;
                }
                tallies.push((today, of_sign_in(last[member], signed_in, today)));
                last[member] = signed_in;
                if signed_in == today {
                    of_days.insert((member, today));
                }
                if signed_in.iso_week() == today.iso_week() {
                    of_weeks.insert((member, today.iso_week()));
                }
                if (signed_in.year(), signed_in.month()) == (today.year(), today.month()) {
                    of_months.insert((member, today.month()));
                }
            }
            for number in 0..100 {
                let today = day(number);
                let sum = |of: &dyn Fn(&Tally) -> i64, within: &dyn Fn(NaiveDate) -> bool| -> i64 {
                    tallies.iter().filter(|(day, _)| within(*day)).map(|(_, tally)| of(tally)).sum()
                };
                let in_day = of_days.iter().filter(|(_, day)| *day == today).count();
                prop_assert_eq!(sum(&|tally| tally.active_members, &|day| day == today), i64::try_from(in_day).unwrap());
                let week = today.iso_week();
                let in_week = of_weeks.iter().filter(|(_, of)| *of == week).count();
                let counted = sum(&|tally| tally.active_first_in_week, &|day| day.iso_week() == week);
                prop_assert_eq!(counted, i64::try_from(in_week).unwrap());
                let in_month = of_months.iter().filter(|(_, of)| *of == today.month()).count();
                let counted = sum(&|tally| tally.active_first_in_month, &|day| day.month() == today.month());
                prop_assert_eq!(counted, i64::try_from(in_month).unwrap());
            }
        }
    }

    #[test]
    fn a_sign_in_that_is_told_late_counts_in_what_is_still_under_way() {
        let date = |text: &str| text.parse::<NaiveDate>().unwrap();
        let counted = |last, day, today| {
            let tally = of_sign_in(date(last), date(day), date(today));
            (tally.active_members, tally.active_first_in_week, tally.active_first_in_month)
        };
        assert_eq!(counted("1970-01-01", "2026-01-07", "2026-01-07"), (1, 1, 1));
        assert_eq!(counted("2026-01-07", "2026-01-07", "2026-01-07"), (0, 0, 0));
        assert_eq!(counted("2026-01-07", "2026-01-08", "2026-01-08"), (1, 0, 0));
        // Of yesterday; then of last week, and of last month.
        assert_eq!(counted("1970-01-01", "2026-01-07", "2026-01-08"), (0, 1, 1));
        assert_eq!(counted("1970-01-01", "2026-01-11", "2026-01-12"), (0, 0, 1));
        assert_eq!(counted("1970-01-01", "2026-01-31", "2026-02-01"), (0, 1, 0));
        // The last days of 2025 are in the first week of 2026.
        assert_eq!(counted("2025-12-31", "2026-01-01", "2026-01-01"), (1, 0, 1));
    }
}
