//! The policy as people read it: a Markdown table.

use std::iter;

use super::{
    RolePolicy,
    fault::list,
    role::{Power, RoleDefinition, RoleName},
};
use crate::auth::permission;

impl RolePolicy {
    /// The policy as a Markdown table: a row per permission and per power over other roles, a column per role.
    pub fn table(&self) -> String {
        let head = self.row("", |role| format!("`{}`", role.name));
        let rule = format!("|{}\n", "---|".repeat(self.roles().count() + 1));
        let permissions = permission::all().map(|permission| {
            self.row(&format!("`{}`", permission::name(permission)), |role| yes_or_no(role.allows(permission)))
        });
        let powers = Power::ALL.into_iter().map(|power| self.row(words(power), |role| names(role.reach(power))));
        iter::once(head).chain([rule]).chain(permissions).chain(powers).collect()
    }

    fn row(&self, subject: &str, cell: impl Fn(&RoleDefinition) -> String) -> String {
        let cells: Vec<_> = self.roles().map(cell).collect();
        format!("| {subject} | {} |\n", cells.join(" | "))
    }
}

fn words(power: Power) -> &'static str {
    match power {
        Power::Invites => "invites to",
        Power::Changes => "changes roles among",
        Power::Removes => "removes, suspends, reactivates",
    }
}

fn yes_or_no(allowed: bool) -> String {
    if allowed { "yes" } else { "–" }.to_owned()
}

fn names(roles: &[RoleName]) -> String {
    if roles.is_empty() { yes_or_no(false) } else { list(roles.iter().map(RoleName::as_str)) }
}
