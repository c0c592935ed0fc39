//! What holds of workspaces and assignments, as pure functions.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::auth::policy::RoleDefinition;
use crate::error::Error;
use crate::pb::Permission;

/// The most workspaces and rooms that an organization has.
pub const MOST_WORKSPACES: usize = 1000;

/// The most workspaces that a member is assigned to.
pub const MOST_ASSIGNMENTS: usize = 500;

/// The most workspaces that are chosen when inviting.
pub const MOST_INVITED_TO: usize = 10;

/// The most participants that a room can be limited to.
pub const MOST_PARTICIPANTS: i32 = 100_000;

/// Whether a role may say to which workspaces people are assigned.
pub fn may_assign(role: &RoleDefinition) -> Result<(), Error> {
    role.require(Permission::WorkspacesManage)
}

/// Whether there may be one more workspace.
pub fn room_for_another(workspaces: u64) -> Result<(), Error> {
    if usize::try_from(workspaces).is_ok_and(|workspaces| workspaces < MOST_WORKSPACES) {
        return Ok(());
    }
    Err(Error::LimitReached { of: "workspaces", maximum: MOST_WORKSPACES })
}

/// What becomes of a member's assignments, by ids in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moves {
    /// Those that are new.
    pub added: Vec<Uuid>,
    /// Those that end.
    pub removed: Vec<Uuid>,
    /// All that the member is assigned to then.
    pub end: BTreeSet<Uuid>,
}

/// Figures what really changes when a member is to be assigned to some workspaces besides, and to others no longer.
#[must_use]
pub fn moves(current: &BTreeSet<Uuid>, add: &BTreeSet<Uuid>, remove: &BTreeSet<Uuid>) -> Moves {
    let end: BTreeSet<Uuid> = current.union(add).filter(|id| !remove.contains(id)).copied().collect();
    Moves {
        added: end.difference(current).copied().collect(),
        removed: current.difference(&end).copied().collect(),
        end,
    }
}

/// Whether a member may be assigned to that many.
pub fn within_limit(end: &BTreeSet<Uuid>) -> Result<(), Error> {
    if end.len() <= MOST_ASSIGNMENTS {
        return Ok(());
    }
    Err(Error::LimitReached { of: "workspaces of one member", maximum: MOST_ASSIGNMENTS })
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = BTreeSet<Uuid>> {
        btree_set((0..12_u128).prop_map(Uuid::from_u128), 0..10)
    }

    proptest! {
        #[test]
        fn moves_lead_from_what_is_to_what_is_wished_and_no_further(current in ids(), add in ids(), remove in ids()) {
            let moves = moves(&current, &add, &remove);
            let mut end = current.clone();
            end.extend(moves.added.iter().copied());
            end.retain(|id| !moves.removed.contains(id));
            prop_assert_eq!(&end, &moves.end);
            prop_assert!(moves.end.iter().all(|id| current.contains(id) || add.contains(id)));
            prop_assert!(moves.added.iter().all(|id| !current.contains(id) && add.contains(id)));
            prop_assert!(moves.removed.iter().all(|id| current.contains(id) && remove.contains(id)));
            prop_assert!(moves.added.is_sorted() && moves.removed.is_sorted());
            let again = super::moves(&moves.end, &add, &remove);
            prop_assert!(again.added.is_empty() && again.removed.is_empty());
        }

        #[test]
        fn all_at_once_is_what_is_asked_whatever_was_before(current in ids(), all in ids()) {
            let others = current.difference(&all).copied().collect();
            prop_assert_eq!(moves(&current, &all, &others).end, all);
        }
    }

    #[test]
    fn the_limits_are_reached_and_not_passed() {
        assert!(
            room_for_another(999).is_ok() && room_for_another(1000).is_err() && room_for_another(u64::MAX).is_err()
        );
        let ids = |count: u128| (0..count).map(Uuid::from_u128).collect();
        assert!(within_limit(&ids(500)).is_ok() && within_limit(&ids(501)).is_err());
    }
}
