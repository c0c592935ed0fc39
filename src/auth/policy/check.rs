//! What must be true of a policy as a whole, beyond the form of its file.
//!
//! A permission that the file leaves unsaid is a fault already, so here it counts neither as a yes nor as a no.

use super::{
    fault::Fault,
    parse::{Draft, DraftRole},
    role::Power,
};
use crate::{
    auth::permission::{all, name},
    pb::Permission,
};

/// Every fault of a draft, in no order.
pub(super) fn faults(draft: &Draft) -> Vec<Fault> {
    let Some((top, others)) = draft.roles.split_first() else { return Vec::new() };
    let mut faults: Vec<Fault> = draft.roles.iter().flat_map(|role| powers_and_permissions(draft, role)).collect();
    faults.extend(succession(draft, top));
    for role in others {
        faults.extend(beyond(draft, top, role, "this is the top role"));
        faults.extend(usurpation(draft, role));
        for granted in draft.roles.iter().filter(|other| role.may_grant(other)) {
            faults.extend(beyond(draft, role, granted, &format!("this role may grant `{}`", granted.name())));
        }
    }
    faults
}

/// A power without its permission would never work, and a permission without its power would only look like one.
fn powers_and_permissions(draft: &Draft, role: &DraftRole) -> Vec<Fault> {
    let mut faults = Vec::new();
    for power in Power::ALL {
        let reach = role.definition.reach(power);
        let (key, line, needed) = (power.key(), role.line_of(power), power.permissions());
        if reach.is_empty() {
            for permission in needed.iter().filter(|permission| role.definition.allows(**permission)) {
                let text = format!("is yes, but [{key}] lists no role for it");
                faults.push(draft.permission_fault(role, *permission, &text));
            }
        } else if needed.iter().all(|permission| role.refused.contains(*permission)) {
            let needed: Vec<_> = needed.iter().map(|permission| format!("`{}`", name(*permission))).collect();
            let text =
                format!("role `{}`, [{key}]: lists roles, but the role has no {}", role.name(), needed.join(" or "));
            faults.push(Fault::new(line, text));
        }
        if power == Power::Changes && reach.len() == 1 {
            let text = format!("role `{}`, [{key}]: lists one role, so there is nothing to change it to", role.name());
            faults.push(Fault::new(line, text));
        }
    }
    faults
}

/// The top role must be able to pass to somebody, or an organization would die with its first holder.
fn succession(draft: &Draft, top: &DraftRole) -> Option<Fault> {
    let transfer = Permission::OwnershipTransfer;
    let lost = top.refused.contains(transfer) && !top.may_grant(top);
    let text = "is no, and [invites] and [changes] do not list it for itself, so nobody could ever take over";
    lost.then(|| draft.permission_fault(top, transfer, text))
}

/// Handing on the top role is its holder's own act: anybody else would grant what they do not hold.
fn usurpation(draft: &Draft, role: &DraftRole) -> Option<Fault> {
    let transfer = Permission::OwnershipTransfer;
    let text = "is yes, but only the top role hands itself on";
    role.definition.allows(transfer).then(|| draft.permission_fault(role, transfer, text))
}

/// All that `other` may do and `role` may not, when it should for the reason given.
fn beyond(draft: &Draft, role: &DraftRole, other: &DraftRole, reason: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let holder = other.name();
    for permission in all().filter(|permission| role.refused.contains(*permission)) {
        if other.definition.allows(permission) {
            let text = format!("is no, but `{holder}` has it and {reason}");
            faults.push(draft.permission_fault(role, permission, &text));
        }
    }
    for power in Power::ALL {
        for name in other.definition.reach(power).iter().filter(|name| draft.knows(name.as_str())) {
            if !role.definition.reaches(power, name.as_str()) {
                let subject = format!("role `{}`, [{}]", role.name(), power.key());
                let text = format!("{subject}: does not list `{name}`, but `{holder}` does and {reason}");
                faults.push(Fault::new(role.line_of(power), text));
            }
        }
    }
    faults
}
