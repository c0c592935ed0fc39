//! What happens by the thousand, and is worth a line of the log now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often at most.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// When something was last said.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is to be said now: then it has been.
    pub fn is_time(&self) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = said.is_none_or(|said| said.elapsed() > SAY_AGAIN);
        if is_time {
            *said = Some(Instant::now());
        }
        is_time
    }
}
