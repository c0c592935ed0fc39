//! CreateRole, UpdateRole and DeleteRole.

use super::roles;
use crate::app::App;
use crate::auth::permission;
use crate::auth::policy::custom::{self, CustomRole, Definition};
use crate::error::Error;
use crate::etag;
use crate::event::{Change, FieldChange};
use crate::fields::Fields;
use crate::membership::custom_roles::store::{self, Uses};
use crate::membership::custom_roles::{self, MOST_ROLES, Roles};
use crate::membership::rules;
use crate::operation::store::list_roles;
use crate::operation::{Command, Member, Unit};
use crate::pb::{self, Permission};
use crate::sql;

/// The most items that a list in a definition can have.
const MOST_LISTED: usize = 100;

/// What can be said of a role, in the order of the contract.
const PATHS: [&str; 7] = ["title", "description", "permissions", "invites", "changes", "removes", "managed_by"];

/// New values of some of the fields of a role.
#[derive(Default)]
struct Values {
    role: String,
    title: Option<String>,
    description: Option<String>,
    permissions: Option<Vec<String>>,
    /// By the names of the fields.
    lists: Vec<(&'static str, Vec<String>)>,
}

impl Values {
    /// Reads the fields in a mask.
    fn read(fields: &mut Fields, role: &pb::Role, mask: &[&str], app: &App) -> Self {
        let said = |path: &str| mask.contains(&path);
        let mut values = Self { role: name(fields, "role.role", &role.role), ..Self::default() };
        values.title = said("title").then(|| fields.line("role.title", &role.title, 1..=60));
        values.description = said("description").then(|| fields.paragraph("role.description", &role.description, 200));
        values.permissions = said("permissions").then(|| permissions(fields, &role.permissions));
        let lists = [
            ("invites", &role.invites),
            ("changes", &role.changes),
            ("removes", &role.removes),
            ("managed_by", &role.managed_by),
        ];
        for (key, list) in lists.into_iter().filter(|(key, _)| said(key)) {
            if key == "managed_by"
                && let Some(index) = list.iter().position(|name| *name == role.role)
            {
                let text = "names the role itself: list it in invites, changes and removes instead";
                fields.fault(format!("role.managed_by[{index}]"), text);
            }
            values.lists.push((key, listed(fields, key, list, app)));
        }
        values
    }

    /// The role with these values.
    fn apply(&self, role: &CustomRole) -> CustomRole {
        let mut role = role.clone();
        self.title.iter().for_each(|title| role.title.clone_from(title));
        self.description.iter().for_each(|description| role.description.clone_from(description));
        let definition = &mut role.definition;
        self.permissions.iter().for_each(|permissions| definition.permissions.clone_from(permissions));
        for (key, list) in &self.lists {
            let current = match *key {
                "invites" => &mut definition.invites,
                "changes" => &mut definition.changes,
                "removes" => &mut definition.removes,
                _ => &mut definition.managed_by,
            };
            current.clone_from(list);
        }
        role
    }
}

fn name(fields: &mut Fields, field: &str, role: &str) -> String {
    if !custom::is_name(role) {
        fields.fault(field, "must be org: and 1 to 36 lower case letters, digits and _, a letter first");
    }
    role.to_owned()
}

fn permissions(fields: &mut Fields, numbers: &[i32]) -> Vec<String> {
    let mut names = Vec::new();
    if numbers.len() > MOST_LISTED {
        fields.fault("role.permissions", format!("must have at most {MOST_LISTED} items"));
        return names;
    }
    for (index, number) in numbers.iter().enumerate() {
        let field = format!("role.permissions[{index}]");
        match Permission::try_from(*number) {
            Ok(Permission::Unspecified) | Err(_) => fields.fault(field, "must be a permission of the contract"),
            Ok(never) if custom::NEVER.contains(&never) => {
                fields.fault(field, format!("{} is for roles of the role policy only", permission::name(never)));
            }
            Ok(_) if numbers.iter().take(index).any(|earlier| earlier == number) => fields.fault(field, "stands twice"),
            Ok(permission) => names.push(permission::name(permission)),
        }
    }
    names
}

fn listed(fields: &mut Fields, key: &str, list: &[String], app: &App) -> Vec<String> {
    if list.len() > MOST_LISTED {
        fields.fault(format!("role.{key}"), format!("must have at most {MOST_LISTED} items"));
        return Vec::new();
    }
    for (index, name) in list.iter().enumerate() {
        let field = format!("role.{key}[{index}]");
        if app.policy.top_role().name == name.as_str() {
            let text = if key == "managed_by" { "manages every role anyway" } else { "can be in no reach but its own" };
            fields.fault(field, format!("{name} is the top role, which {text}"));
        } else if app.policy.role(name).is_none() && !custom::is_name(name) {
            fields.fault(field, "must be a role of the organization");
        } else if list.iter().take(index).any(|earlier| earlier == name) {
            fields.fault(field, "stands twice");
        }
    }
    list.to_vec()
}

fn enabled(app: &App) -> Result<(), Error> {
    if app.policy.custom_roles() { Ok(()) } else { Err(Error::CustomRolesDisabled) }
}

async fn own_roles(unit: &Unit<'_, Member>) -> Result<Vec<CustomRole>, Error> {
    list_roles(unit.transaction(), unit.scope().organization_id()).await
}

/// A role among the others as it is now.
fn shown(roles: &Roles<'_>, role: &CustomRole) -> Result<pb::Role, Error> {
    let policy = roles.policy.with_custom(&roles.with(role));
    policy.role(&role.role).map(roles::shown).ok_or(Error::defect("a role that was defined is not in the policy"))
}

pub(super) struct CreateRole(Values);

impl Command for CreateRole {
    type Request = pb::CreateRoleRequest;
    type Response = pb::CreateRoleResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let role = request.role.clone().unwrap_or_default();
        let values = Values::read(&mut fields, &role, &PATHS, app);
        fields.done(Self(values))
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        enabled(unit.app)?;
        let own = own_roles(unit).await?;
        let role = self.0.role.clone();
        let (namesakes, others): (Vec<_>, Vec<_>) = own.into_iter().partition(|own| own.role == role);
        let roles = Roles { policy: &unit.app.policy, own: &others };
        let nothing = CustomRole {
            role,
            title: String::new(),
            description: String::new(),
            definition: Definition::default(),
            version: 1,
        };
        let mut new = self.0.apply(&nothing);
        roles.may_define(unit.actor.role.name.as_str(), &new)?;
        if !namesakes.is_empty() {
            return Err(Error::RoleExists { role: new.role });
        }
        if others.len() >= MOST_ROLES {
            return Err(Error::LimitReached { of: "roles", maximum: MOST_ROLES });
        }
        new.definition = new.definition.in_order();
        store::insert(unit, &new).await?;
        let permissions = new.definition.permissions.clone();
        unit.record(Change::RoleCreated { role: new.role.clone(), permissions });
        Ok(pb::CreateRoleResponse { role: Some(shown(&roles, &new)?) })
    }
}

pub(super) struct UpdateRole {
    values: Values,
    etag: String,
}

impl Command for UpdateRole {
    type Request = pb::UpdateRoleRequest;
    type Response = pb::UpdateRoleResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let role = request.role.clone().unwrap_or_default();
        let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let mask: Vec<&str> = PATHS.into_iter().filter(|path| paths.iter().any(|said| said == path)).collect();
        if paths.is_empty() {
            fields.fault("update_mask", format!("must name at least one of {}", PATHS.join(", ")));
        } else if paths.iter().any(|path| !PATHS.contains(&path.as_str())) {
            fields.fault("update_mask", format!("can name {} only", PATHS.join(", ")));
        }
        let values = Values::read(&mut fields, &role, &mask, app);
        fields.done(Self { values, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        enabled(unit.app)?;
        let own = own_roles(unit).await?;
        let roles = Roles { policy: &unit.app.policy, own: &own };
        let caller = unit.actor.role.name.as_str();
        let before = roles.find(&self.values.role)?;
        roles.may_touch(caller, before)?;
        etag::check(&self.etag, before.version)?;
        let mut after = self.values.apply(before);
        let in_order = after.definition.clone().in_order();
        if in_order != before.definition {
            roles.may_define(caller, &after)?;
        }
        after.definition = in_order;
        let changes = changes(before, &after);
        if changes.is_empty() {
            return Ok(pb::UpdateRoleResponse { role: Some(shown(&roles, before)?) });
        }
        after.version += 1;
        store::update(unit, &after).await?;
        unit.record(Change::RoleUpdated { role: after.role.clone(), changes });
        Ok(pb::UpdateRoleResponse { role: Some(shown(&roles, &after)?) })
    }
}

/// The fields that were another before.
fn changes(before: &CustomRole, after: &CustomRole) -> Vec<FieldChange> {
    let texts = |role: &CustomRole| {
        let Definition { permissions, invites, changes, removes, managed_by } = &role.definition;
        let lists = [permissions, invites, changes, removes, managed_by].map(|list| list.join(","));
        [role.title.clone(), role.description.clone()].into_iter().chain(lists)
    };
    let values = PATHS.into_iter().zip(texts(before).zip(texts(after)));
    let changed = values.filter(|(_, (before, after))| before != after);
    changed.map(|(field, (before, after))| FieldChange { field: field.to_owned(), before, after }).collect()
}

pub(super) struct DeleteRole {
    role: String,
    replacement: Option<String>,
    etag: String,
}

impl Command for DeleteRole {
    type Request = pb::DeleteRoleRequest;
    type Response = pb::DeleteRoleResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let role = name(&mut fields, "role", &request.role);
        let replacement = (!request.replacement_role.is_empty())
            .then(|| roles::known_role(&mut fields, "replacement_role", &request.replacement_role, app));
        if replacement.as_deref() == Some(role.as_str()) {
            fields.fault("replacement_role", "must be another role than the one that is deleted");
        }
        if replacement.as_deref().is_some_and(|replacement| app.policy.top_role().name == replacement) {
            fields.fault("replacement_role", "must not be the top role");
        }
        fields.done(Self { role, replacement, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let own = own_roles(unit).await?;
        let roles = Roles { policy: &unit.app.policy, own: &own };
        let gone = roles.find(&self.role)?;
        roles.may_touch(unit.actor.role.name.as_str(), gone)?;
        let uses = store::uses(unit, &self.role).await?;
        self.may_replace(unit, &uses)?;
        etag::check(&self.etag, gone.version)?;
        let members = uses.members();
        let invitations = uses.invitations;
        if let Some(replacement) = &self.replacement {
            self.replace(unit, &uses, replacement).await?;
        }
        for role in custom_roles::without(roles.own, &self.role) {
            store::update(unit, &role).await?;
            let changes = changes(roles.find(&role.role)?, &role);
            unit.record(Change::RoleUpdated { role: role.role, changes });
        }
        store::delete(unit, &self.role).await?;
        let (role, replacement) = (self.role.clone(), self.replacement.clone());
        unit.record(Change::RoleDeleted { role, replacement, members, invitations });
        Ok(pb::DeleteRoleResponse { members, invitations })
    }
}

impl DeleteRole {
    /// Whether the caller may give the replacement to whoever has the role; nobody may have it when there is none.
    fn may_replace(&self, unit: &Unit<'_, Member>, uses: &Uses) -> Result<(), Error> {
        let Some(replacement) = &self.replacement else {
            if uses.is_none() {
                return Ok(());
            }
            return Err(Error::RoleInUse {
                role: self.role.clone(),
                members: uses.members(),
                invitations: uses.invitations + uses.sent,
                domains: sql::counted(uses.domains.len())?,
                join_requests: uses.join_requests,
            });
        };
        let actor = &unit.actor.role;
        roles::existing(&unit.policy, "replacement_role", replacement)?;
        if uses.members() > 0 {
            rules::may_change(&unit.policy, actor, &self.role, replacement)?;
        }
        if uses.is_offered() {
            rules::may_invite(&unit.policy, actor, &self.role)?;
            rules::may_invite(&unit.policy, actor, replacement)?;
        }
        Ok(())
    }

    async fn replace(&self, unit: &mut Unit<'_, Member>, uses: &Uses, replacement: &str) -> Result<(), Error> {
        let inviter_role = unit.actor.role.name.to_string();
        store::replace_held(unit, uses, &self.role, replacement).await?;
        store::replace_offered(unit, &self.role, replacement, &inviter_role).await?;
        store::replace_sent(unit, &self.role, replacement).await?;
        for domain in &uses.domains {
            let (before, after) = (self.role.clone(), replacement.to_owned());
            let changes = vec![FieldChange { field: "join_role".into(), before, after }];
            unit.record(Change::DomainUpdated { domain: domain.clone(), changes });
        }
        Ok(())
    }
}
