//! ListRoles, and how requests name roles.

use crate::app::App;
use crate::auth::policy::{RoleDefinition, RoleName, RolePolicy, custom};
use crate::error::Error;
use crate::etag;
use crate::fields::Fields;
use crate::operation::{Query, Reader};
use crate::pb;

/// Which roles of a policy a field can name.
type Fits = fn(&RoleDefinition) -> bool;

const ANY: Fits = |_| true;

/// Reads a role by its name: one that the policy in force has, or one that the organization may have defined, which
/// [`existing`] tells once its roles are known.
pub(super) fn known_role(fields: &mut Fields, field: &str, role: &str, app: &App) -> String {
    known_role_that(ANY, fields, field, role, app)
}

/// Reads a role by its name where not every role will do.
pub(crate) fn known_role_that(fits: Fits, fields: &mut Fields, field: &str, role: &str, app: &App) -> String {
    let own = app.policy.custom_roles() && custom::is_name(role);
    if !own && !app.policy.role(role).is_some_and(fits) {
        fields.fault(field, app.policy.one_of(fits));
    }
    role.to_owned()
}

/// Whether the policy of an organization has a role that a request names.
pub(crate) fn existing(policy: &RolePolicy, field: &str, role: &str) -> Result<(), Error> {
    existing_that(ANY, policy, field, role)
}

/// Whether the policy of an organization has a role that a request names where not every role will do.
pub(crate) fn existing_that(fits: Fits, policy: &RolePolicy, field: &str, role: &str) -> Result<(), Error> {
    if policy.role(role).is_some_and(fits) { Ok(()) } else { Err(Error::of_field(field, policy.one_of(fits))) }
}

/// Whether the policy of an organization has all roles that a request names.
pub(super) fn all_existing<'a>(
    policy: &RolePolicy,
    roles: impl IntoIterator<Item = (String, &'a str)>,
) -> Result<(), Error> {
    let mut fields = Fields::new();
    for (field, _) in roles.into_iter().filter(|(_, role)| policy.role(role).is_none()) {
        fields.fault(field, policy.one_of(ANY));
    }
    fields.done(())
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

/// A role as the wire shows it: of a custom one, with the powers that others give it by their `managed_by`.
pub(super) fn shown(role: &RoleDefinition) -> pb::Role {
    let names = |roles: &mut dyn Iterator<Item = &RoleName>| roles.map(ToString::to_string).collect();
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
