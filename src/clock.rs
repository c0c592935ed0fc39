//! The one source of time.
//!
//! Rules take the time as an argument; whoever calls them asks this clock. A server that is started with a manual clock
//! lets tests and integrators watch invitations expire without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SubsecRound, Utc};
use tokio::sync::Notify;

/// Where the time comes from. Clones share one clock.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that moves only when told to.
    Manual(ManualClock),
}

impl Clock {
    /// The time, in whole microseconds: what both databases keep exactly.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System => system_now(),
            Self::Manual(clock) => clock.now(),
        }
    }

    /// Waits until it is told that the clock was moved; for ever, where it is the machine's.
    pub async fn moved(&self) {
        match self {
            Self::System => std::future::pending().await,
            Self::Manual(clock) => clock.moved.notified().await,
        }
    }
}

/// A clock that moves only when told to, and only forward.
#[derive(Clone, Debug)]
pub struct ManualClock {
    micros: Arc<AtomicI64>,
    moved: Arc<Notify>,
}

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        Self { micros: Arc::new(AtomicI64::new(start.timestamp_micros())), moved: Arc::new(Notify::new()) }
    }

    /// A clock that stands at the machine's present time.
    #[must_use]
    pub fn starting_now() -> Self {
        Self::starting_at(system_now())
    }

    /// Where it stands.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros.load(Ordering::SeqCst)).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Tells those who wait for it that it was moved.
    pub fn announce(&self) {
        self.moved.notify_waiters();
    }

    /// Moves it forward and says where it stands then; nothing when that is beyond what a date can say.
    #[must_use]
    pub fn advance(&self, micros: u64) -> Option<DateTime<Utc>> {
        let step = i64::try_from(micros).ok()?;
        let moved = self.micros.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |stands| {
            stands.checked_add(step).filter(|moved| *moved <= LATEST_MICROS)
        });
        moved.ok().and_then(|stood| DateTime::from_timestamp_micros(stood + step))
    }
}

/// 9999-12-31: the end of what a protobuf timestamp can say.
const LATEST_MICROS: i64 = 253_402_300_799_000_000;

#[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
fn system_now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
