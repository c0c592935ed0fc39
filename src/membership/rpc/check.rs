//! CheckPermissions: what other backends ask at each of their requests.

use crate::app::App;
use crate::auth::permission;
use crate::auth::policy::{RoleDefinition, RolePolicy};
use crate::entity::membership;
use crate::error::Error;
use crate::fields::Fields;
use crate::membership::store;
use crate::operation::{Query, Reader};
use crate::pb::{self, DenialReason, Permission};

const MOST: usize = 100;

pub(super) struct CheckPermissions {
    /// The user, when it is said.
    user_id: Option<String>,
    permissions: Vec<Permission>,
}

impl Query for CheckPermissions {
    type Request = pb::CheckPermissionsRequest;
    type Response = pb::CheckPermissionsResponse;
    // Of a deleted organization, and of none, the answer is no, not an error.
    const ON_DELETED: bool = true;
    const ON_MISSING: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        if request.permissions.len() > MOST {
            return Err(Error::BatchTooLarge { field: "permissions", size: request.permissions.len(), maximum: MOST });
        }
        let mut fields = Fields::new();
        let user_id = (!request.user_id.is_empty()).then(|| fields.user_id("user_id", &request.user_id));
        let mut permissions = Vec::with_capacity(request.permissions.len());
        for (index, number) in request.permissions.iter().enumerate() {
            match Permission::try_from(*number) {
                Ok(permission) if permission != Permission::Unspecified => permissions.push(permission),
                _ => fields.fault(format!("permissions[{index}]"), "must be a permission of the contract"),
            }
        }
        if request.permissions.is_empty() {
            permissions.extend(permission::all());
        }
        fields.done(Self { user_id, permissions })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let caller = reader.authorized.user().ok().map(|user| user.user_id.as_str());
        let policy = &reader.policy;
        let closed = reader.organization().map_or(true, |found| found.deleted_at.is_some());
        let member = match (self.user_id.as_deref(), caller) {
            (Some(user_id), caller) if Some(user_id) != caller => {
                store::find(reader.connection(), reader.scope, user_id).await?
            }
            (_, Some(_)) => reader.membership.clone(),
            (_, None) => return Err(user_needed()),
        };
        let standing = Standing::of(policy, member.as_ref(), closed);
        let checks = self.permissions.iter().map(|permission| standing.check(policy, *permission));
        Ok(pb::CheckPermissionsResponse {
            role: member.as_ref().map(|member| member.role.clone()).unwrap_or_default(),
            checks: checks.collect(),
        })
    }
}

fn user_needed() -> Error {
    let mut fields = Fields::new();
    fields.fault("user_id", "must be said by a service: it is no user itself");
    match fields.done(()) {
        Err(error) => error,
        Ok(()) => Error::UserRequired,
    }
}

/// Where a user stands, before any permission is looked at.
enum Standing<'a> {
    Holds(&'a RoleDefinition),
    Barred { reason: DenialReason, role: Option<&'a str> },
}

impl<'a> Standing<'a> {
    fn of(policy: &'a RolePolicy, member: Option<&'a membership::Model>, closed: bool) -> Self {
        let Some(member) = member else { return Self::Barred { reason: DenialReason::NotAMember, role: None } };
        let barred = |reason| Self::Barred { reason, role: Some(member.role.as_str()) };
        if closed {
            return barred(DenialReason::OrganizationDeleted);
        }
        if member.suspended_at.is_some() {
            return barred(DenialReason::MemberSuspended);
        }
        policy.role(&member.role).map_or(barred(DenialReason::RoleUnknown), Self::Holds)
    }

    fn check(&self, policy: &RolePolicy, permission: Permission) -> pb::PermissionCheck {
        let (denial_reason, role) = match self {
            Self::Holds(role) if role.allows(permission) => {
                return pb::PermissionCheck { permission: permission.into(), allowed: true, ..Default::default() };
            }
            Self::Holds(role) => (DenialReason::RoleLacksPermission, Some(role.name.as_str())),
            Self::Barred { reason, role } => (*reason, *role),
        };
        let roles: Vec<&RoleDefinition> = policy.roles_with(permission).collect();
        // What stands in the way says who can clear it: a suspension, a deletion, or the want of a role.
        let grants = |grantor: &RoleDefinition| match denial_reason {
            DenialReason::MemberSuspended => {
                grantor.allows(Permission::MembersSuspend) && role.is_some_and(|role| grantor.removes(role))
            }
            DenialReason::OrganizationDeleted => grantor.allows(Permission::OrganizationDelete),
            _ => roles.iter().any(|to| policy.grantors(role, to.name.as_str()).any(|able| able.name == grantor.name)),
        };
        pb::PermissionCheck {
            permission: permission.into(),
            allowed: false,
            denial_reason: denial_reason.into(),
            roles: roles.iter().map(|role| role.name.to_string()).collect(),
            grantor_roles: policy.roles().filter(|role| grants(role)).map(|role| role.name.to_string()).collect(),
        }
    }
}
