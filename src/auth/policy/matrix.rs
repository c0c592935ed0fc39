//! Who may do what and to whom, of all roles of an organization, as bits: every call of a member of an organization that has
//! roles of its own asks, and what one role may have depends on all others.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::RolePolicy;
use super::custom::CustomRole;
use super::role::{PermissionSet, Power, RoleDefinition, RoleName};
use crate::auth::permission;
use crate::pb::Permission;

/// The place of the top role.
const TOP: usize = 0;

/// Something that a role has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// A permission.
    Permission(Permission),
    /// A power over the holders of a role.
    Reach(Power, RoleName),
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permission(permission) => f.write_str(&permission::name(*permission)),
            Self::Reach(power, role) => write!(f, "{} {role}", power.key()),
        }
    }
}

/// Something that a role has and another, which may grant it, has not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excess {
    /// The role whose holders would grant it.
    pub granter: RoleName,
    /// The role that they may grant.
    pub granted: RoleName,
    /// What they have not themselves.
    pub right: Right,
}

/// A set of roles by their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places(Vec<u64>);

impl Places {
    fn insert(&mut self, place: usize) {
        if self.0.len() <= place / 64 {
            self.0.resize(place / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    fn remove(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 64) {
            *word &= !(1 << (place % 64));
        }
    }

    fn contains(&self, place: usize) -> bool {
        self.word(place / 64) & 1 << (place % 64) != 0
    }

    fn word(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().enumerate().all(|(at, word)| word & !other.word(at) == 0)
    }

    fn keep(&mut self, other: &Self) {
        for (at, word) in self.0.iter_mut().enumerate() {
            *word &= other.word(at);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rights {
    permissions: PermissionSet,
    invites: Places,
    changes: Places,
    removes: Places,
}

impl Rights {
    fn of(role: &RoleDefinition, places: &HashMap<&str, usize>) -> Self {
        let mut rights = Self { permissions: role.permissions, ..Self::default() };
        for power in Power::ALL {
            for place in role.reach(power).iter().filter_map(|name| places.get(name.as_str())) {
                rights.reach_mut(power).insert(*place);
            }
        }
        rights
    }

    fn reach(&self, power: Power) -> &Places {
        match power {
            Power::Invites => &self.invites,
            Power::Changes => &self.changes,
            Power::Removes => &self.removes,
        }
    }

    fn reach_mut(&mut self, power: Power) -> &mut Places {
        match power {
            Power::Invites => &mut self.invites,
            Power::Changes => &mut self.changes,
            Power::Removes => &mut self.removes,
        }
    }

    /// Gives a power over a role, if there is the permission for it.
    fn give(&mut self, power: Power, over: usize) {
        if power.permissions().iter().any(|permission| self.permissions.contains(*permission)) {
            self.reach_mut(power).insert(over);
        }
    }

    fn is_within(&self, other: &Self) -> bool {
        let reaches = Power::ALL.into_iter().all(|power| self.reach(power).is_within(other.reach(power)));
        reaches && self.permissions.is_within(other.permissions)
    }

    fn keep(&mut self, other: &Self) {
        self.permissions = self.permissions.common(other.permissions);
        for power in Power::ALL {
            self.reach_mut(power).keep(other.reach(power));
        }
    }

    fn grants(&self, role: usize) -> bool {
        self.invites.contains(role) || self.changes.contains(role)
    }
}

/// The roles of a policy in its order, the organization's own after them.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    names: Vec<RoleName>,
    /// How many of them are the policy's.
    presets: usize,
    rights: Vec<Rights>,
}

impl Matrix {
    /// As the definitions say it, right or wrong.
    pub(super) fn wished(policy: &RolePolicy, roles: &[CustomRole]) -> Self {
        let presets: Vec<&RoleDefinition> = policy.roles().filter(|role| role.custom.is_none()).collect();
        let own = roles.iter().map(|custom| RoleName::new(&custom.role));
        let names: Vec<RoleName> = presets.iter().map(|role| role.name.clone()).chain(own).collect();
        let places: HashMap<&str, usize> =
            names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        let mut rights: Vec<Rights> = presets.iter().map(|role| Rights::of(role, &places)).collect();
        for custom in roles {
            let mut own = Rights { permissions: custom.definition.permission_set(), ..Rights::default() };
            for power in Power::ALL {
                let listed = custom.definition.listed(power).iter().filter_map(|name| places.get(name.as_str()));
                listed.filter(|place| **place != TOP).for_each(|place| own.give(power, *place));
            }
            rights.push(own);
        }
        for (custom, place) in roles.iter().zip(presets.len()..) {
            let managers = custom.definition.managed_by.iter().filter_map(|name| places.get(name.as_str()));
            for manager in managers.copied().chain([TOP]) {
                for power in Power::ALL {
                    if let Some(rights) = rights.get_mut(manager) {
                        rights.give(power, place);
                    }
                }
            }
        }
        Self { presets: presets.len(), names, rights }
    }

    /// As much of it as leaves nobody with the power to grant what they have not.
    pub(super) fn settled(mut self) -> Self {
        if let Some((top, others)) = self.rights.split_first_mut() {
            others.iter_mut().skip(self.presets.saturating_sub(1)).for_each(|own| own.keep(top));
        }
        while self.drop_excess() {}
        self
    }

    /// Takes away what would grant too much, and says whether there was any. What one loses may be what another had from it.
    fn drop_excess(&mut self) -> bool {
        let mut dropped = false;
        for (granter, granted) in self.pairs() {
            let (Some(giver), Some(taker)) = (self.rights.get(granter), self.rights.get(granted)) else { continue };
            if !giver.grants(granted) || taker.is_within(giver) {
                continue;
            }
            // Between the policy's own nothing is in excess but power over an organization's role.
            let (place, mut less) = if granter < self.presets && granted < self.presets {
                let mut taker = taker.clone();
                taker.keep(giver);
                (granted, taker)
            } else {
                let mut giver = giver.clone();
                giver.invites.remove(granted);
                giver.changes.remove(granted);
                (granter, giver)
            };
            if let Some(rights) = self.rights.get_mut(place) {
                std::mem::swap(rights, &mut less);
                dropped |= *rights != less;
            }
        }
        dropped
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let all = self.rights.len();
        (0..all).flat_map(move |one| (0..all).filter(move |other| *other != one).map(move |other| (one, other)))
    }

    pub(super) fn names(&self) -> &[RoleName] {
        &self.names
    }

    pub(super) fn permissions(&self, place: usize) -> PermissionSet {
        self.rights.get(place).map(|rights| rights.permissions).unwrap_or_default()
    }

    /// The roles over which one has a power, with their places.
    pub(super) fn reach(&self, place: usize, power: Power) -> impl Iterator<Item = (usize, &RoleName)> {
        let reach = self.rights.get(place).map(|rights| rights.reach(power));
        self.names.iter().enumerate().filter(move |(over, _)| reach.is_some_and(|reach| reach.contains(*over)))
    }

    pub(super) fn excesses(&self) -> BTreeSet<Excess> {
        let mut excesses = BTreeSet::new();
        for (granter, granted) in self.pairs() {
            let (Some(giver), Some(taker)) = (self.rights.get(granter), self.rights.get(granted)) else { continue };
            let (Some(from), Some(to)) = (self.names.get(granter), self.names.get(granted)) else { continue };
            if giver.grants(granted) {
                let excess = |right| Excess { granter: from.clone(), granted: to.clone(), right };
                excesses.extend(self.lacks(giver, taker).into_iter().map(excess));
            }
        }
        excesses
    }

    /// What a role would have, and the holder of another has not when all is settled.
    pub(super) fn beyond(&self, holder: &str, role: &str) -> Vec<Right> {
        let settled = self.clone().settled();
        match (settled.find(holder), self.find(role)) {
            (Some(holder), Some(role)) => self.lacks(holder, role),
            (None, Some(role)) => self.lacks(&Rights::default(), role),
            (_, None) => Vec::new(),
        }
    }

    pub(super) fn idle(&self, role: &str) -> Vec<Permission> {
        let Some(rights) = self.find(role) else { return Vec::new() };
        let idle = Power::ALL.into_iter().filter(|power| rights.reach(*power).is_empty());
        let needed = idle.flat_map(|power| power.permissions().iter().copied());
        needed.filter(|permission| rights.permissions.contains(*permission)).collect()
    }

    fn find(&self, role: &str) -> Option<&Rights> {
        let place = self.names.iter().position(|name| name == role)?;
        self.rights.get(place)
    }

    /// What the second has and the first has not.
    fn lacks(&self, holder: &Rights, other: &Rights) -> Vec<Right> {
        let permissions = permission::all()
            .filter(|permission| other.permissions.contains(*permission) && !holder.permissions.contains(*permission));
        let mut lacks: Vec<Right> = permissions.map(Right::Permission).collect();
        for power in Power::ALL {
            let (has, needs) = (holder.reach(power), other.reach(power));
            let over =
                self.names.iter().enumerate().filter(|(place, _)| needs.contains(*place) && !has.contains(*place));
            lacks.extend(over.map(|(_, name)| Right::Reach(power, name.clone())));
        }
        lacks
    }
}
