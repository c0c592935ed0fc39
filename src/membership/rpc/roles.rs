//! ListRoles, and how requests name roles.

use crate::app::App;
use crate::auth::policy::RoleDefinition;
use crate::error::Error;
use crate::etag;
use crate::fields::Fields;
use crate::operation::{Query, Reader};
use crate::pb;

/// Reads a role that the policy in force has.
pub(super) fn known_role(fields: &mut Fields, field: &str, role: &str, app: &App) -> String {
    if app.policy.role(role).is_none() {
        let known: Vec<&str> = app.policy.roles().map(|role| role.name.as_str()).collect();
        fields.fault(field, format!("must be one of {}", known.join(", ")));
    }
    role.to_owned()
}

pub(super) struct ListRoles;

impl Query for ListRoles {
    type Request = pb::ListRolesRequest;
    type Response = pb::ListRolesResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let policy = &reader.policy;
        Ok(pb::ListRolesResponse { role_policy: policy.name().to_owned(), roles: policy.roles().map(shown).collect() })
    }
}

fn shown(role: &RoleDefinition) -> pb::Role {
    let names =
        |roles: &mut dyn Iterator<Item = &crate::auth::policy::RoleName>| roles.map(ToString::to_string).collect();
    pb::Role {
        role: role.name.to_string(),
        title: role.title.clone(),
        description: role.description.clone(),
        top: role.top,
        permissions: role.permissions().map(i32::from).collect(),
        invites: names(&mut role.invitable()),
        changes: names(&mut role.changeable()),
        removes: names(&mut role.removable()),
        custom: role.custom.is_some(),
        managed_by: role.custom.as_ref().map(|custom| custom.managed_by.clone()).unwrap_or_default(),
        etag: role.custom.as_ref().map(|custom| etag::of(custom.version)).unwrap_or_default(),
    }
}
