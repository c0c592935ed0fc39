//! One waiting line for each organization, inside the process.
//!
//! Changes of one organization wait for one another anyway, on its row's lock. Whoever waits there holds a connection, so a
//! busy organization would take them all and everybody else would wait too. Here they wait without one. It is a courtesy, not
//! a rule: what must not run at once is kept apart by the database, across all replicas.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Line, OwnedMutexGuard};
use uuid::Uuid;

/// How many may stand in a line: half of those whom a server serves at a time by default, so that one organization does not take all
/// the places. A change takes a few milliseconds.
const LONGEST_LINE: usize = 128;

/// The lines of all organizations that somebody is changing. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Lanes(Arc<Mutex<HashMap<Uuid, Arc<Line<()>>>>>);

impl Lanes {
    /// As [`Lanes::turn`], unless the line is too long already: then nobody who joins it would wait for less than too long.
    pub async fn short_turn(&self, organization_id: Uuid) -> Option<Turn> {
        let is_long = self.are_more_than(LONGEST_LINE, organization_id);
        if is_long { None } else { Some(self.turn(organization_id).await) }
    }

    /// Whether the line is so long that who joins it should be known to belong there.
    #[must_use]
    pub fn is_busy(&self, organization_id: Uuid) -> bool {
        self.are_more_than(LONGEST_LINE / 2, organization_id)
    }

    fn are_more_than(&self, many: usize, organization_id: Uuid) -> bool {
        self.lines().get(&organization_id).is_some_and(|line| Arc::strong_count(line) > many)
    }

    /// Waits until it is the caller's turn; it ends when what is given back is dropped.
    pub async fn turn(&self, organization_id: Uuid) -> Turn {
        let line = Arc::clone(self.lines().entry(organization_id).or_default());
        // Before the wait, so that the line is cleared away also when the caller gives up.
        let mut turn = Turn { lanes: self.clone(), organization_id, guard: None };
        turn.guard = Some(line.lock_owned().await);
        turn
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<Line<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place at the head of a line, or in it.
#[derive(Debug)]
pub struct Turn {
    lanes: Lanes,
    organization_id: Uuid,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.lanes.lines();
        self.guard = None;
        // Only the map knows the line any more: nobody stands in it, and who comes now comes through the map, which is locked.
        if lines.get(&self.organization_id).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.organization_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn one_at_a_time_in_each_line_and_no_line_is_left_behind() {
        let (lanes, inside) = (Lanes::default(), Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200_u128 {
            let (lanes, inside) = (lanes.clone(), Arc::clone(&inside));
            tasks.spawn(async move {
                let which = usize::from(number % 2 == 1);
                let turn = lanes.turn(Uuid::from_u128(number % 2));
                if number % 7 == 0 {
                    // Somebody gives up, waiting or not.
                    let _ = tokio::time::timeout(std::time::Duration::ZERO, turn).await;
                    return;
                }
                let _turn = turn.await;
                assert_eq!(inside[which].fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                inside[which].fetch_sub(1, Ordering::SeqCst);
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        assert!(lanes.lines().is_empty());
    }
}
