//! The role policy: which roles there are, what each may do, and whom it may do it to.
//!
//! A deployment runs one policy, a preset or a file of the operator's own. It promises that what loaded is whole: every
//! permission says yes or no for every role, the top role may do all that any other may and can always be handed on,
//! and nobody can grant what they may not hold. A file that breaks any of this is refused with all its faults at once.
//!
//! It answers for roles only. Whether somebody holds a role, whether they are the last at the top, whether they act on
//! themselves: those are rules of the operations, which know the stored members.

mod check;
pub mod custom;
mod fault;
mod matrix;
mod parse;
mod role;
mod table;
#[cfg(test)]
mod tests;

use std::{fs, iter};

use crate::pb::Permission;

pub use fault::{Fault, PolicyError};
pub use matrix::{Excess, Right};
pub use role::{Power, RoleDefinition, RoleName};

const PRESETS: [(&str, &str); 4] = [
    ("owner-billing", include_str!("../presets/owner-billing.toml")),
    ("shared-billing", include_str!("../presets/shared-billing.toml")),
    ("split-admin", include_str!("../presets/split-admin.toml")),
    ("guarded-admin", include_str!("../presets/guarded-admin.toml")),
];

/// The names of the policies that come with the service, the default one first.
pub fn presets() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The roles of a deployment and all that they may do.
#[derive(Clone, Debug)]
pub struct RolePolicy {
    name: String,
    custom_roles: bool,
    top: RoleDefinition,
    others: Vec<RoleDefinition>,
}

impl RolePolicy {
    /// Loads a preset by its name, or else the TOML file at that path.
    pub fn load(choice: &str) -> Result<Self, PolicyError> {
        if let Some((name, toml)) = PRESETS.iter().find(|(name, _)| *name == choice) {
            return Self::parse(name, toml);
        }
        match fs::read_to_string(choice) {
            Ok(toml) => Self::parse(choice, &toml),
            Err(source) => Err(PolicyError::Unreadable { choice: choice.to_owned(), source }),
        }
    }

    /// Reads a policy from TOML, or says everything that is wrong with it.
    pub fn parse(source_name: &str, toml: &str) -> Result<Self, PolicyError> {
        let (draft, mut faults) = parse::read(toml);
        faults.extend(check::faults(&draft));
        faults.sort_by_key(|fault| fault.line);
        let mut roles = draft.roles.into_iter().map(|role| role.definition);
        match roles.next() {
            Some(top) if faults.is_empty() => {
                Ok(Self { name: draft.name, custom_roles: draft.custom_roles, top, others: roles.collect() })
            }
            _ => Err(PolicyError::Faulty { source_name: source_name.to_owned(), faults }),
        }
    }

    /// The policy's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether organizations may define roles of their own.
    pub fn custom_roles(&self) -> bool {
        self.custom_roles
    }

    /// Every role, the top role first.
    pub fn roles(&self) -> impl Iterator<Item = &RoleDefinition> {
        iter::once(&self.top).chain(&self.others)
    }

    /// The role that at least one active member must always hold.
    pub fn top_role(&self) -> &RoleDefinition {
        &self.top
    }

    /// What the holder of the top role takes by default when handing it on: the role after it, if the policy has another.
    pub fn default_successor(&self) -> &RoleDefinition {
        self.others.iter().find(|role| role.custom.is_none()).unwrap_or(&self.top)
    }

    /// The role with this identifier, or nothing when the policy does not know it.
    pub fn role(&self, role: &str) -> Option<&RoleDefinition> {
        self.roles().find(|definition| definition.name.as_str() == role)
    }

    /// What a request is told that names none of these roles. An organization's own are too many for a refusal, which travels
    /// in headers.
    pub fn one_of(&self, these: impl Fn(&RoleDefinition) -> bool) -> String {
        let presets = self.roles().filter(|role| role.custom.is_none() && these(role));
        let names: Vec<&str> = presets.map(|role| role.name.as_str()).collect();
        let own = if self.custom_roles { ", or one of the organization's own, see ListRoles" } else { "" };
        format!("must be one of {}{own}", names.join(", "))
    }

    /// Whether a role has a permission, or nothing when the policy does not know the role.
    pub fn allows(&self, role: &str, permission: Permission) -> Option<bool> {
        self.role(role).map(|definition| definition.allows(permission))
    }

    /// The roles that have a permission.
    pub fn roles_with(&self, permission: Permission) -> impl Iterator<Item = &RoleDefinition> {
        self.roles().filter(move |role| role.allows(permission))
    }

    /// The roles that may change a member's role `from` one `to` another; from none, those that may invite to it.
    ///
    /// Handing on the top role is not counted: it takes the holder's own place. A role that is gone only the top role changes.
    pub fn grantors(&self, from: Option<&str>, to: &str) -> impl Iterator<Item = &RoleDefinition> {
        let gone = from.is_some_and(|from| self.role(from).is_none());
        self.roles().filter(move |role| takes(role, from, gone) && gives(role, from, to))
    }

    /// The roles that each role may give to one who holds `from`, or to one who is no member: those of whose
    /// [`grantors`](Self::grantors) it is.
    pub fn grants(&self, from: Option<&str>) -> impl Iterator<Item = (&RoleDefinition, Vec<&RoleDefinition>)> {
        let gone = from.is_some_and(|from| self.role(from).is_none());
        let able = self.roles().filter(move |role| takes(role, from, gone));
        able.map(move |role| (role, self.roles().filter(|to| gives(role, from, to.name.as_str())).collect()))
    }
}

/// Whether a role may take a member out of another, which may be gone from the policy.
fn takes(role: &RoleDefinition, from: Option<&str>, gone: bool) -> bool {
    from.is_none_or(|from| role.changes(from) || gone && role.top)
}

/// Whether a role may put somebody into another: a member who holds `from`, or one who is none yet.
fn gives(role: &RoleDefinition, from: Option<&str>, to: &str) -> bool {
    if from.is_some() { role.changes(to) } else { role.invites(to) }
}
