//! Roles that an organization defines for itself: whether a definition is sound, and whose it is to change.
//!
//! Pure functions of the roles as they stand and as they would stand. What the definitions come to is figured by
//! [`crate::auth::policy`], which also keeps them within bounds when the role policy changes under them.

pub mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::auth::permission;
use crate::auth::policy::custom::{CustomRole, Definition};
use crate::auth::policy::{Excess, Power, Right, RoleName, RolePolicy};
use crate::error::Error;
use crate::fields::Fields;

/// How many roles of its own an organization can have. Every call of a member figures with all of them.
pub const MOST_ROLES: usize = 50;

/// How many rights are named that one would grant and has not: a refusal travels in headers, which clients bound.
const MOST_TOLD: usize = 2;

/// The roles of an organization: those of the deployment's policy, and its own.
#[derive(Clone, Copy, Debug)]
pub struct Roles<'a> {
    /// The policy.
    pub policy: &'a RolePolicy,
    /// Its own.
    pub own: &'a [CustomRole],
}

impl<'a> Roles<'a> {
    /// A role of its own.
    pub fn find(&self, role: &str) -> Result<&'a CustomRole, Error> {
        let found = self.own.iter().find(|own| own.role == role);
        found.ok_or_else(|| Error::RoleNotFound { role: role.to_owned() })
    }

    fn has(&self, role: &str) -> bool {
        self.policy.role(role).is_some() || self.own.iter().any(|own| own.role == role)
    }

    fn is_top(&self, role: &str) -> bool {
        self.policy.top_role().name == role
    }

    /// Whether a role may change or delete another as it stands. The top role may any; one that is below it only what it
    /// manages and could do itself: roles that others made are not there for taking.
    pub fn may_touch(&self, caller: &str, role: &CustomRole) -> Result<(), Error> {
        let manages = role.definition.managed_by.iter().any(|manager| manager == caller);
        if self.is_top(caller) || manages && self.policy.beyond(self.own, caller, &role.role).is_empty() {
            return Ok(());
        }
        Err(Error::RoleAboveCaller { role: caller.to_owned(), target_role: role.role.clone() })
    }

    /// The roles as they are when one of them has been made or changed.
    #[must_use]
    pub fn with(&self, new: &CustomRole) -> Vec<CustomRole> {
        let mut own: Vec<CustomRole> = self.own.iter().filter(|own| own.role != new.role).cloned().collect();
        own.push(new.clone());
        own.sort_by(|one, other| one.role.cmp(&other.role));
        own
    }

    /// Whether a role may make another be so, new or changed. What it names must be there, a power and its permissions go
    /// together, it has nothing that the caller's role has not, and when it stands nobody grants more than they hold.
    pub fn may_define(&self, caller: &str, new: &CustomRole) -> Result<(), Error> {
        let earlier = self.own.iter().find(|own| own.role == new.role);
        let own = self.with(new);
        let after = Roles { policy: self.policy, own: &own };
        let beyond = self.policy.beyond(&own, caller, &new.role);
        if !beyond.is_empty() {
            let (role, target_role) = (caller.to_owned(), new.role.clone());
            return Err(Error::RoleBeyondCaller { role, target_role, beyond });
        }
        let mut fields = Fields::new();
        after.names(&mut fields, earlier, new);
        after.powers(&mut fields, new);
        self.excesses(&mut fields, &after, new);
        fields.done(())
    }

    /// What it names must be there; but for what it named before, which may have gone with another role policy.
    fn names(&self, fields: &mut Fields, earlier: Option<&CustomRole>, new: &CustomRole) {
        for (key, list) in lists(&new.definition) {
            let before = earlier.map(|earlier| lists(&earlier.definition));
            let before = before.into_iter().flatten().find(|(before, _)| *before == key).map(|(_, list)| list);
            if before == Some(list) {
                continue;
            }
            for (index, name) in list.iter().enumerate().filter(|(_, name)| !self.has(name)) {
                fields.fault(format!("role.{key}[{index}]"), format!("there is no role {name}"));
            }
        }
    }

    /// A power without its permission would never work, and a permission without its power would only look like one.
    fn powers(&self, fields: &mut Fields, new: &CustomRole) {
        for power in Power::ALL {
            let (key, listed) = (power.key(), new.definition.listed(power));
            let needed = power.permissions();
            if !listed.is_empty() && !needed.iter().any(|permission| new.definition.allows(*permission)) {
                let needed: Vec<String> = needed.iter().map(|permission| permission::name(*permission)).collect();
                fields
                    .fault(format!("role.{key}"), format!("lists roles, but the role has no {}", needed.join(" or ")));
            }
            if power == Power::Changes && listed.len() == 1 {
                fields.fault("role.changes", "lists one role, so there is nothing to change it to");
            }
        }
        for permission in self.policy.idle(self.own, &new.role) {
            let name = permission::name(permission);
            let powers = Power::ALL.into_iter().filter(|power| power.permissions().contains(&permission));
            let lists: Vec<String> = powers.map(|power| format!("role.{}", power.key())).collect();
            let index = new.definition.permissions.iter().position(|listed| *listed == name).unwrap_or_default();
            let text = format!("{name} does nothing, because {} lists no role for it", lists.join(", "));
            fields.fault(format!("role.permissions[{index}]"), text);
        }
    }

    /// Nobody may come to grant what they do not hold. What was so before, because the role policy has changed, is no fault
    /// of a role that it is not about: nobody has that power anyway.
    fn excesses(&self, fields: &mut Fields, after: &Roles<'_>, new: &CustomRole) {
        let before: BTreeSet<Excess> = self.policy.excesses(self.own);
        let mut pairs: BTreeMap<(RoleName, RoleName), Vec<Right>> = BTreeMap::new();
        for excess in after.policy.excesses(after.own) {
            let about_it = excess.granter == new.role.as_str() || excess.granted == new.role.as_str();
            if about_it || !before.contains(&excess) {
                pairs.entry((excess.granter, excess.granted)).or_default().push(excess.right);
            }
        }
        for ((granter, role), rights) in pairs {
            let told: Vec<String> = rights.iter().take(MOST_TOLD).map(ToString::to_string).collect();
            let more = rights.len().saturating_sub(MOST_TOLD);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let text = format!("{granter} could grant {role}, but has not itself: {}{more}", told.join(", "));
            fields.fault(field_of(new, granter.as_str(), role.as_str()), text);
        }
    }
}

/// The lists of roles in a definition, by their names on the wire.
fn lists(definition: &Definition) -> [(&'static str, &Vec<String>); 4] {
    [
        ("invites", &definition.invites),
        ("changes", &definition.changes),
        ("removes", &definition.removes),
        ("managed_by", &definition.managed_by),
    ]
}

/// The field by which a role lets one grant another.
fn field_of(new: &CustomRole, granter: &str, role: &str) -> String {
    let named = if granter == new.role { role } else { granter };
    let all = lists(&new.definition).into_iter();
    let mut searched = all.filter(|(key, _)| (*key == "managed_by") == (granter != new.role) && *key != "removes");
    let found = searched.find_map(|(key, list)| Some((key, list.iter().position(|listed| listed == named)?)));
    match found {
        Some((key, index)) => format!("role.{key}[{index}]"),
        // By the definition of another role, or by way of a third one.
        None if granter != new.role && role != new.role => "role.managed_by".to_owned(),
        None => "role.permissions".to_owned(),
    }
}

/// The other roles as they are when one is deleted: those that changed. Where they list it they list nothing in its place. Also
/// not the role that its holders take: others hold that one already, over whom nobody shall come to power by this.
#[must_use]
pub fn without(own: &[CustomRole], gone: &str) -> Vec<CustomRole> {
    let listing = own.iter().filter(|own| own.role != gone && own.names(gone));
    listing.map(|own| own.less(gone)).collect()
}

impl CustomRole {
    fn names(&self, other: &str) -> bool {
        lists(&self.definition).iter().any(|(_, list)| list.iter().any(|name| name == other))
    }

    /// The same without a role in its lists. Two roles are needed to change a member from one to the other.
    fn less(&self, gone: &str) -> Self {
        let mut changed = self.clone();
        for list in changed.definition.lists_mut() {
            list.retain(|name| name != gone);
        }
        if changed.definition.changes.len() == 1 {
            changed.definition.changes.clear();
        }
        changed.version += 1;
        changed
    }
}
