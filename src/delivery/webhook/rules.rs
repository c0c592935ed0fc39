//! When an endpoint is tried, and when it is left alone.

use chrono::TimeDelta;
use uuid::Uuid;

/// How often an event that the endpoint refuses is tried while those that come after it wait.
pub const TRIES_OF_REFUSED: i64 = 3;

/// How often one that finds no endpoint is: some six hours.
pub const TRIES_IN_LINE: i64 = 12;

/// How often an event is tried in all, while the endpoint takes others: for a day.
pub const MOST_TRIES: i64 = 12;

/// How often an endpoint has to fail, and for how long, with nothing taken in between, until it is disabled.
pub const MOST_FAILURES: i64 = 12;
/// See [`MOST_FAILURES`].
pub const FAILS_FOR: TimeDelta = TimeDelta::days(3);

/// How long an endpoint that asks for it is left alone at most (`Retry-After`).
pub const LONGEST_WISH: TimeDelta = TimeDelta::days(1);

/// How long an endpoint is left alone after it failed so many times, in seconds: the last as often as it goes on.
const PAUSES: [i64; 7] = [5, 30, 60, 300, 900, 1800, 3600];

/// How long an endpoint is left alone at most that is there and refuses: each of the events that it refuses holds up the others.
const LONGEST_OF_REFUSED: i64 = 60;

/// How long an endpoint is left alone after it failed this often with nothing taken in between, at last by refusing an event or not.
#[must_use]
pub fn pause(endpoint_id: Uuid, failures: i64, is_refused: bool) -> TimeDelta {
    let index = usize::try_from(failures.max(1) - 1).map_or(PAUSES.len() - 1, |index| index.min(PAUSES.len() - 1));
    let seconds = if is_refused { PAUSES[index].min(LONGEST_OF_REFUSED) } else { PAUSES[index] };
    about(seconds, endpoint_id, failures)
}

/// How long an event that was set aside is left alone after so many tries: 4 minutes after the third, then twice as long each time, and
/// at most 8 hours.
#[must_use]
pub fn wait(event_id: Uuid, tries: i64) -> TimeDelta {
    let exponent = u32::try_from(tries - 1).map_or(0, |exponent: u32| exponent.min(12));
    about((60 * (1_i64 << exponent)).min(8 * 3600), event_id, tries)
}

/// More or less by a tenth, so that what failed together is not tried together.
fn about(seconds: i64, id: Uuid, turn: i64) -> TimeDelta {
    // The last eight bytes are random.
    let byte = id.as_bytes()[8 + usize::try_from(turn).unwrap_or_default() % 8];
    TimeDelta::milliseconds(seconds * 1000 + seconds * 100 * (i64::from(byte) - 128) / 128)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The id by which nothing is more or less.
    const EVEN: Uuid = Uuid::from_bytes([128; 16]);

    #[test]
    fn an_endpoint_is_tried_soon_and_then_every_hour() {
        let pauses: Vec<i64> = (1..=9).map(|failures| pause(EVEN, failures, false).num_seconds()).collect();
        assert_eq!(pauses, [5, 30, 60, 300, 900, 1800, 3600, 3600, 3600]);
        assert_eq!(pause(EVEN, i64::MAX, false), TimeDelta::hours(1));
        assert_eq!(pause(EVEN, i64::MAX, true), TimeDelta::minutes(1));
        assert_eq!(pause(EVEN, 1, true), TimeDelta::seconds(5));
    }

    #[test]
    fn an_event_that_is_refused_is_tried_for_a_day() {
        let waits: Vec<i64> = (TRIES_OF_REFUSED..MOST_TRIES).map(|tries| wait(EVEN, tries).num_minutes()).collect();
        assert_eq!(waits, [4, 8, 16, 32, 64, 128, 256, 480, 480]);
        assert_eq!(waits.iter().sum::<i64>() / 60, 24);
    }

    proptest! {
        #[test]
        fn what_failed_together_is_tried_within_a_tenth_of_its_time(id in any::<u128>(), failures in 1_i64..1000) {
            let (even, pause) = (pause(EVEN, failures, false), pause(Uuid::from_u128(id), failures, false));
            prop_assert!((pause - even).abs() * 10 <= even, "{pause} {even}");
        }
    }
}
