//! One role of a policy: its permissions and its power over other roles.

use std::{fmt, sync::Arc};

use super::custom::Custom;
use crate::{auth::permission, error::Error, pb::Permission};

/// The identifier of a role that the policy in force knows: `billing_admin`.
///
/// Only a policy makes one, so holding it proves that the role exists; what comes from outside is a `&str` until
/// [`RolePolicy::role`](super::RolePolicy::role) has found it. Cloning it is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(Arc<str>);

impl RoleName {
    pub(super) fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The identifier as it stands in metadata, requests and the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for RoleName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for RoleName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for RoleName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the holders of a role may do, and to the holders of which roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDefinition {
    /// The role's identifier.
    pub name: RoleName,
    /// What people call it.
    pub title: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// Whether it is the top role.
    pub top: bool,
    pub(super) permissions: PermissionSet,
    pub(super) invites: Vec<RoleName>,
    pub(super) changes: Vec<RoleName>,
    pub(super) removes: Vec<RoleName>,
    /// What only a role has that an organization defined for itself; none for the policy's.
    pub custom: Option<Custom>,
}

impl RoleDefinition {
    /// Whether it has a permission.
    pub fn allows(&self, permission: Permission) -> bool {
        self.permissions.contains(permission)
    }

    /// Refuses unless it has a permission.
    pub fn require(&self, permission: Permission) -> Result<(), Error> {
        if self.allows(permission) {
            return Ok(());
        }
        Err(Error::RoleLacksPermission { permission, role: self.name.to_string() })
    }

    /// Whether it may invite people to a role, and resend and cancel their invitations.
    pub fn invites(&self, role: &str) -> bool {
        self.reaches(Power::Invites, role)
    }

    /// Whether a role is among those that it may change members from and to.
    pub fn changes(&self, role: &str) -> bool {
        self.reaches(Power::Changes, role)
    }

    /// Whether it may remove, suspend and reactivate the holders of a role, as far as it has each of these permissions.
    pub fn removes(&self, role: &str) -> bool {
        self.reaches(Power::Removes, role)
    }

    /// Its permissions, in the order of the contract.
    pub fn permissions(&self) -> impl Iterator<Item = Permission> {
        permission::all().filter(|permission| self.allows(*permission))
    }

    /// The roles that it may invite people to.
    pub fn invitable(&self) -> impl Iterator<Item = &RoleName> {
        self.invites.iter()
    }

    /// The roles that it may change members from and to.
    pub fn changeable(&self) -> impl Iterator<Item = &RoleName> {
        self.changes.iter()
    }

    /// The roles whose holders it may remove, suspend and reactivate.
    pub fn removable(&self) -> impl Iterator<Item = &RoleName> {
        self.removes.iter()
    }

    pub(super) fn reach(&self, power: Power) -> &[RoleName] {
        match power {
            Power::Invites => &self.invites,
            Power::Changes => &self.changes,
            Power::Removes => &self.removes,
        }
    }

    pub(super) fn reach_mut(&mut self, power: Power) -> &mut Vec<RoleName> {
        match power {
            Power::Invites => &mut self.invites,
            Power::Changes => &mut self.changes,
            Power::Removes => &mut self.removes,
        }
    }

    pub(super) fn reaches(&self, power: Power, role: &str) -> bool {
        self.reach(power).iter().any(|name| name == role)
    }
}

/// A kind of power over the holders of roles, each a table of its own in the policy's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Power {
    /// Inviting people to them.
    Invites,
    /// Changing members from and to them.
    Changes,
    /// Removing, suspending and reactivating their holders.
    Removes,
}

impl Power {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Invites, Self::Changes, Self::Removes];

    /// The name of its table in the file, and of its list in a custom role.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Invites => "invites",
            Self::Changes => "changes",
            Self::Removes => "removes",
        }
    }

    /// The permissions that mean nothing without it, and it without them.
    #[must_use]
    pub fn permissions(self) -> &'static [Permission] {
        match self {
            Self::Invites => &[Permission::MembersInvite],
            Self::Changes => &[Permission::MembersChangeRole],
            Self::Removes => &[Permission::MembersRemove, Permission::MembersSuspend],
        }
    }
}

/// Permissions as bits, because every request asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PermissionSet(u64);

impl PermissionSet {
    pub(super) fn insert(&mut self, permission: Permission) {
        self.0 |= Self::bit(permission);
    }

    pub(super) fn contains(self, permission: Permission) -> bool {
        self.0 & Self::bit(permission) != 0
    }

    pub(super) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(super) fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn bit(permission: Permission) -> u64 {
        1 << permission as i32
    }
}
