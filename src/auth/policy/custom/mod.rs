//! Roles that an organization defines for itself, beside those of the policy.
//!
//! An organization's policy is the deployment's with these added, so that everything that asks a policy treats them alike.
//! Their names begin with `org:`, which no role of a policy file can: a later policy never gives one another meaning.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::RolePolicy;
use super::matrix::{Excess, Matrix, Right};
use super::role::{PermissionSet, Power, RoleDefinition, RoleName};
use crate::auth::permission;
use crate::pb::Permission;

/// How the name of every custom role begins.
pub const PREFIX: &str = "org:";

/// What no custom role may do, whoever defines it: whoever could change roles could give themselves the rest.
pub const NEVER: [Permission; 2] = [Permission::OwnershipTransfer, Permission::RolesManage];

/// Whether a text has the form of a custom role's name: `org:` and 1 to 36 lower case letters, digits and `_`, a letter first.
#[must_use]
pub fn is_name(role: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    role.strip_prefix(PREFIX).is_some_and(|rest| {
        rest.len() <= 36 && rest.starts_with(|first: char| first.is_ascii_lowercase()) && rest.bytes().all(known)
    })
}

/// What a custom role may do, to whom, and by whom it is managed; as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The names of its permissions.
    pub permissions: Vec<String>,
    /// The roles that its holders may invite to.
    pub invites: Vec<String>,
    /// The roles among which they may change members.
    pub changes: Vec<String>,
    /// The roles whose holders they may remove, suspend and reactivate.
    pub removes: Vec<String>,
    /// The roles besides the top role that have each of these powers over its own holders, as far as they have it at all.
    pub managed_by: Vec<String>,
}

impl Definition {
    /// The roles that it lists for a power.
    #[must_use]
    pub fn listed(&self, power: Power) -> &[String] {
        match power {
            Power::Invites => &self.invites,
            Power::Changes => &self.changes,
            Power::Removes => &self.removes,
        }
    }

    /// Whether it says that its holders have a permission.
    #[must_use]
    pub fn allows(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission::name(permission))
    }

    /// Its lists of roles.
    pub fn lists_mut(&mut self) -> [&mut Vec<String>; 4] {
        [&mut self.invites, &mut self.changes, &mut self.removes, &mut self.managed_by]
    }

    /// The same, every list in its order and without what it says twice: what means the same is written the same.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        let names = permission::all().map(permission::name);
        self.permissions = names.filter(|name| self.permissions.contains(name)).collect();
        for list in self.lists_mut() {
            list.sort();
            list.dedup();
        }
        self
    }

    pub(super) fn permission_set(&self) -> PermissionSet {
        let mut set = PermissionSet::default();
        for permission in permission::all() {
            if self.allows(permission) && !NEVER.contains(&permission) {
                set.insert(permission);
            }
        }
        set
    }
}

/// A role that an organization defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomRole {
    /// Its name.
    pub role: String,
    /// What people call it.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// What it may do.
    pub definition: Definition,
    /// Counts its changes.
    pub version: i64,
}

/// What only a custom role has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// The roles besides the top role that manage it.
    pub managed_by: Vec<String>,
    /// Counts its changes.
    pub version: i64,
}

impl RolePolicy {
    /// The policy of an organization: this one with the organization's own roles.
    ///
    /// It keeps what every policy promises, whatever the definitions say: they were judged when they were written, but the
    /// policy may be another by now. What they name that is not there any more they do not have; nor what the top role has
    /// not; and nobody has a power by which they would grant more than they hold.
    #[must_use]
    pub fn with_custom(&self, roles: &[CustomRole]) -> Self {
        let matrix = Matrix::wished(self, roles).settled();
        let mut policy = self.clone();
        policy.others.retain(|role| role.custom.is_none());
        let presets = 1 + policy.others.len();
        let known = |name: &String| matrix.names().iter().any(|known| known.as_str() == name.as_str());
        policy.others.extend(roles.iter().map(|custom| {
            let managed_by = custom.definition.managed_by.iter().filter(|name| known(name)).cloned().collect();
            definition(custom, Custom { managed_by, version: custom.version })
        }));
        for (place, role) in std::iter::once(&mut policy.top).chain(&mut policy.others).enumerate() {
            role.permissions = matrix.permissions(place);
            for power in Power::ALL {
                // Those of the policy stand as its file has them; what is added comes after.
                let added = matrix.reach(place, power).filter(|(over, _)| place >= presets || *over >= presets);
                role.reach_mut(power).retain(|name| !name.as_str().starts_with(PREFIX));
                role.reach_mut(power).extend(added.map(|(_, name)| name.clone()));
            }
        }
        policy
    }

    /// Where somebody would grant more than they hold, if these roles had all that their definitions say.
    #[must_use]
    pub fn excesses(&self, roles: &[CustomRole]) -> BTreeSet<Excess> {
        Matrix::wished(self, roles).excesses()
    }

    /// What a role would have by its definition, and another of these roles or of the policy has not.
    #[must_use]
    pub fn beyond(&self, roles: &[CustomRole], holder: &str, role: &str) -> Vec<Right> {
        Matrix::wished(self, roles).beyond(holder, role)
    }

    /// The permissions of a role that mean nothing, because it would have power over nobody.
    #[must_use]
    pub fn idle(&self, roles: &[CustomRole], role: &str) -> Vec<Permission> {
        Matrix::wished(self, roles).idle(role)
    }
}

fn definition(custom: &CustomRole, only: Custom) -> RoleDefinition {
    RoleDefinition {
        name: RoleName::new(&custom.role),
        title: custom.title.clone(),
        description: custom.description.clone(),
        top: false,
        permissions: PermissionSet::default(),
        invites: Vec::new(),
        changes: Vec::new(),
        removes: Vec::new(),
        custom: Some(only),
    }
}
