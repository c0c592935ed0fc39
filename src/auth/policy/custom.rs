//! Roles that an organization defines for itself, beside those of the policy.
//!
//! An organization's policy is the deployment's with these added, so that everything that asks a policy treats them alike.
//! Their names begin with `org:`, which no role of a policy file can: a later policy never gives one another meaning.

use serde::{Deserialize, Serialize};

use super::RolePolicy;
use super::role::{PermissionSet, Power, RoleDefinition, RoleName};
use crate::auth::permission;

/// How the name of every custom role begins.
pub const PREFIX: &str = "org:";

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
    /// The policy of an organization: this one with the organization's own roles. What they name that is not there, or not any
    /// more, they do not have.
    #[must_use]
    pub fn with_custom(&self, roles: &[CustomRole]) -> Self {
        let mut policy = self.clone();
        policy.others.extend(roles.iter().map(definition));
        let names: Vec<RoleName> = policy.roles().map(|role| role.name.clone()).collect();
        for custom in roles {
            let reach = &custom.definition;
            for (power, listed) in
                [(Power::Invites, &reach.invites), (Power::Changes, &reach.changes), (Power::Removes, &reach.removes)]
            {
                let known = names.iter().filter(|name| listed.iter().any(|listed| *name == listed.as_str()));
                for name in known.cloned().collect::<Vec<_>>() {
                    policy.give(&custom.role, power, &name);
                }
            }
        }
        let top = policy.top.name.clone();
        for custom in roles {
            let name = RoleName::new(&custom.role);
            for manager in custom.definition.managed_by.iter().map(String::as_str).chain([top.as_str()]) {
                for power in Power::ALL {
                    policy.give(manager, power, &name);
                }
            }
        }
        policy
    }

    /// Gives a role a power over another, if it has the permission for it.
    fn give(&mut self, role: &str, power: Power, over: &RoleName) {
        let definitions = std::iter::once(&mut self.top).chain(&mut self.others);
        for definition in definitions.filter(|definition| definition.name.as_str() == role) {
            let permitted = power.permissions().iter().any(|permission| definition.allows(*permission));
            if permitted && !definition.reaches(power, over.as_str()) {
                definition.reach_mut(power).push(over.clone());
            }
        }
    }
}

fn definition(custom: &CustomRole) -> RoleDefinition {
    let mut permissions = PermissionSet::default();
    for permission in permission::all() {
        let name = permission::name(permission);
        if custom.definition.permissions.contains(&name) {
            permissions.insert(permission);
        }
    }
    RoleDefinition {
        name: RoleName::new(&custom.role),
        title: custom.title.clone(),
        description: custom.description.clone(),
        top: false,
        permissions,
        invites: Vec::new(),
        changes: Vec::new(),
        removes: Vec::new(),
        custom: Some(Custom { managed_by: custom.definition.managed_by.clone(), version: custom.version }),
    }
}
