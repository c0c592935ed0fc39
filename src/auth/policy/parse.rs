//! Reads a policy's file into a draft, noting every fault of form with its line.
//!
//! It goes by hand through the parsed TOML, because a derived reader stops at the first surprise.

use std::{collections::BTreeMap, ops::Range};

use toml::de::{DeTable, DeValue};

use super::{
    fault::{Fault, list},
    role::{PermissionSet, Power, RoleDefinition, RoleName},
};
use crate::{
    auth::permission::{all, name},
    pb::Permission,
};

const KEYS: [&str; 7] = ["name", "custom_roles", "roles", "permissions", "invites", "changes", "removes"];
const ROLE_KEYS: [&str; 3] = ["role", "title", "description"];
const MAX_ROLE_NAME: usize = 40;

/// What a file says, right or wrong.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) custom_roles: bool,
    pub(super) roles: Vec<DraftRole>,
    permission_lines: BTreeMap<Permission, usize>,
}

impl Draft {
    pub(super) fn knows(&self, role: &str) -> bool {
        self.roles.iter().any(|known| known.name() == role)
    }

    pub(super) fn permission_fault(&self, role: &DraftRole, permission: Permission, text: &str) -> Fault {
        let line = self.permission_lines.get(&permission).copied().unwrap_or(role.line);
        Fault::new(line, format!("role `{}`, permission `{}`: {text}", role.name(), name(permission)))
    }
}

/// A role as the file says it, with what it says no to and the lines where it says so.
pub(super) struct DraftRole {
    pub(super) definition: RoleDefinition,
    pub(super) refused: PermissionSet,
    line: usize,
    power_lines: BTreeMap<Power, usize>,
}

impl DraftRole {
    pub(super) fn name(&self) -> &str {
        self.definition.name.as_str()
    }

    pub(super) fn line_of(&self, power: Power) -> usize {
        self.power_lines.get(&power).copied().unwrap_or(self.line)
    }

    /// Whether its holders may make anybody a holder of the other role.
    pub(super) fn may_grant(&self, other: &Self) -> bool {
        self.definition.invites(other.name()) || self.definition.changes(other.name())
    }
}

/// The draft that a file holds and its faults of form; of a file that is not TOML, no draft and only that.
pub(super) fn read(toml: &str) -> (Draft, Vec<Fault>) {
    let mut reader = Reader { toml, draft: Draft::default(), faults: Vec::new() };
    let (root, errors) = DeTable::parse_recoverable(toml);
    for error in &errors {
        reader.fault(&error.span().unwrap_or_default(), format!("not TOML: {}", error.message()));
    }
    if errors.is_empty() {
        reader.root(root.get_ref());
    }
    (reader.draft, reader.faults)
}

struct Reader<'a> {
    toml: &'a str,
    draft: Draft,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        self.toml.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    }

    fn fault(&mut self, span: &Range<usize>, text: impl Into<String>) {
        self.faults.push(Fault::new(self.line(span), text));
    }

    fn root(&mut self, root: &DeTable) {
        self.only_keys(root, &KEYS, "");
        self.draft.name = self.text(root, "name", &(0..0), "");
        self.draft.custom_roles = self.custom_roles(root);
        self.roles(root);
        // Without roles every other line would be at fault, and none of them is the reason.
        if self.draft.roles.is_empty() {
            return self.fault(&(0..0), "no role: say at least one in [[roles]]");
        }
        self.permissions(root);
        for power in Power::ALL {
            self.power(root, power);
        }
    }

    fn only_keys(&mut self, table: &DeTable, known: &[&str], subject: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let known = list(known.iter().copied());
            self.fault(&key.span(), format!("{subject}unknown key `{}`; there are {known}", key.get_ref()));
        }
    }

    fn text(&mut self, table: &DeTable, key: &str, place: &Range<usize>, subject: &str) -> String {
        let Some(value) = table.get(key) else {
            self.fault(place, format!("{subject}`{key}` is missing"));
            return String::new();
        };
        let text = value.get_ref().as_str().unwrap_or_default();
        if text.trim().is_empty() {
            self.fault(&value.span(), format!("{subject}`{key}` must be a text that is not empty"));
        }
        text.to_owned()
    }

    /// A policy that does not say lets nobody define roles.
    fn custom_roles(&mut self, root: &DeTable) -> bool {
        let Some(value) = root.get("custom_roles") else { return false };
        let said = value.get_ref().as_bool();
        if said.is_none() {
            self.fault(&value.span(), "`custom_roles` must be true or false");
        }
        said.unwrap_or_default()
    }

    fn roles(&mut self, root: &DeTable) {
        let Some(value) = root.get("roles") else { return };
        let Some(roles) = value.get_ref().as_array() else {
            return self.fault(&value.span(), "`roles` must be written as [[roles]]");
        };
        for role in roles {
            match role.get_ref() {
                DeValue::Table(table) => self.role(table, &role.span()),
                _ => self.fault(&role.span(), "`roles` must be written as [[roles]]"),
            }
        }
    }

    fn role(&mut self, table: &DeTable, place: &Range<usize>) {
        let role = self.text(table, "role", place, "[[roles]]: ");
        let subject = format!("role `{role}`: ");
        self.only_keys(table, &ROLE_KEYS, &subject);
        let title = self.text(table, "title", place, &subject);
        let description = self.text(table, "description", place, &subject);
        if role.is_empty() {
            return;
        }
        if !is_role_name(&role) {
            let form = format!("at most {MAX_ROLE_NAME} lower case letters, digits and `_`, a letter first");
            self.fault(place, format!("{subject}malformed; a role is {form}"));
        }
        if self.draft.knows(&role) {
            return self.fault(place, format!("{subject}said twice"));
        }
        let definition = RoleDefinition {
            name: RoleName::new(&role),
            title,
            description,
            top: self.draft.roles.is_empty(),
            permissions: PermissionSet::default(),
            invites: Vec::new(),
            changes: Vec::new(),
            removes: Vec::new(),
            custom: None,
        };
        let (refused, line, power_lines) = (PermissionSet::default(), self.line(place), BTreeMap::new());
        self.draft.roles.push(DraftRole { definition, refused, line, power_lines });
    }

    fn permissions(&mut self, root: &DeTable) {
        let Some((key, value)) = root.get_key_value("permissions") else {
            return self.fault(&(0..0), "[permissions] is missing");
        };
        let Some(table) = value.get_ref().as_table() else {
            return self.fault(&value.span(), "`permissions` must be a table");
        };
        for (key, row) in table {
            match all().find(|permission| name(*permission) == key.get_ref().as_ref()) {
                Some(permission) => self.permission(permission, &key.span(), row.get_ref()),
                None => self.fault(&key.span(), format!("permission `{}`: unknown", key.get_ref())),
            }
        }
        for permission in all().filter(|permission| !table.contains_key(name(*permission).as_str())) {
            self.fault(
                &key.span(),
                format!("permission `{}`: missing; say yes or no for every role", name(permission)),
            );
        }
    }

    fn permission(&mut self, permission: Permission, place: &Range<usize>, row: &DeValue) {
        let Some(row) = row.as_table() else {
            return self.fault(place, format!("permission `{}`: must be {{ role = true or false }}", name(permission)));
        };
        self.draft.permission_lines.insert(permission, self.line(place));
        for (role, value) in row {
            let subject = format!("role `{}`, permission `{}`", role.get_ref(), name(permission));
            let known = self.draft.roles.iter_mut().find(|known| known.name() == role.get_ref());
            match (known, value.get_ref().as_bool()) {
                (Some(known), Some(true)) => known.definition.permissions.insert(permission),
                (Some(known), Some(false)) => known.refused.insert(permission),
                (Some(_), None) => self.fault(&value.span(), format!("{subject}: must be true or false")),
                (None, _) => self.fault(&role.span(), format!("{subject}: unknown role")),
            }
        }
        let unsaid = |role: &&DraftRole| !row.contains_key(role.name());
        let unsaid: Vec<_> = self.draft.roles.iter().filter(unsaid).map(|role| role.name().to_owned()).collect();
        for role in unsaid {
            self.fault(place, format!("role `{role}`, permission `{}`: not said", name(permission)));
        }
    }

    /// A table that is absent gives nobody the power; that the permissions agree is checked with the rest.
    fn power(&mut self, root: &DeTable, power: Power) {
        let key = power.key();
        let Some(value) = root.get(key) else { return };
        let Some(table) = value.get_ref().as_table() else {
            return self.fault(&value.span(), format!("`{key}` must be a table"));
        };
        for (role, reach) in table {
            let subject = format!("role `{}`, [{key}]", role.get_ref());
            let Some(at) = self.draft.roles.iter().position(|known| known.name() == role.get_ref()) else {
                self.fault(&role.span(), format!("{subject}: unknown role"));
                continue;
            };
            let names = self.reach(reach.get_ref(), &role.span(), &subject);
            let line = self.line(&role.span());
            if let Some(known) = self.draft.roles.get_mut(at) {
                known.power_lines.insert(power, line);
                *known.definition.reach_mut(power) = names;
            }
        }
    }

    /// The names of a list; unknown ones stay in it, so that one wrong name is one fault and not a missing power too.
    fn reach(&mut self, list: &DeValue, place: &Range<usize>, subject: &str) -> Vec<RoleName> {
        let mut names: Vec<RoleName> = Vec::new();
        let Some(list) = list.as_array() else {
            self.fault(place, format!("{subject}: must be a list of roles"));
            return names;
        };
        for entry in list {
            let Some(role) = entry.get_ref().as_str() else {
                self.fault(&entry.span(), format!("{subject}: must be a list of roles"));
                continue;
            };
            if names.iter().any(|name| name == role) {
                self.fault(&entry.span(), format!("{subject}: lists `{role}` twice"));
            } else if !self.draft.knows(role) {
                self.fault(&entry.span(), format!("{subject}: lists unknown role `{role}`"));
            }
            names.push(RoleName::new(role));
        }
        names
    }
}

fn is_role_name(role: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    role.len() <= MAX_ROLE_NAME && role.starts_with(|first: char| first.is_ascii_lowercase()) && role.bytes().all(known)
}
