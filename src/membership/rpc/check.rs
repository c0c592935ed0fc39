//! CheckPermissions: what other backends ask at each of their requests.

use std::collections::BTreeMap;

use crate::app::App;
use crate::auth::permission;
use crate::auth::policy::{RoleDefinition, RolePolicy};
use crate::entity::membership;
use crate::error::Error;
use crate::fields::Fields;
use crate::operation::store::find_standing;
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
        let closed = reader.organization().map_or(true, |found| found.deleted_at.is_some());
        let others;
        let (policy, member) = match (self.user_id.as_deref(), caller) {
            (Some(user_id), caller) if Some(user_id) != caller => {
                // Read together: by an older definition of the role that they hold by now they could have what they never had.
                others = find_standing(reader.app, reader.scope, user_id, None).await?;
                (&*others.1, others.0.membership.as_ref())
            }
            (_, Some(_)) => (reader.policy, reader.membership.as_ref()),
            (_, None) => return Err(user_needed()),
        };
        Ok(pb::CheckPermissionsResponse {
            role: member.map(|member| member.role.clone()).unwrap_or_default(),
            checks: checks(policy, member, closed, &self.permissions),
        })
    }
}

fn user_needed() -> Error {
    Error::of_field("user_id", "must be said by a service: it is no user itself")
}

/// The answer for each permission that is asked for, figured once however often it is.
fn checks(
    policy: &RolePolicy,
    member: Option<&membership::Model>,
    closed: bool,
    asked: &[Permission],
) -> Vec<pb::PermissionCheck> {
    let standing = Standing::of(policy, member, closed);
    let clearing = standing.clearing(policy);
    let mut figured = BTreeMap::new();
    let checks = asked.iter().map(|permission| {
        let check = figured.entry(*permission).or_insert_with(|| standing.check(policy, &clearing, *permission));
        check.clone()
    });
    checks.collect()
}

/// Who can clear what stands in a user's way.
enum Clearing<'a> {
    /// These, whatever the permission is.
    By(Vec<&'a RoleDefinition>),
    /// Those who can give a role that has it: each with the roles that it can give.
    Granting(Vec<(&'a RoleDefinition, Vec<&'a RoleDefinition>)>),
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

    /// What stands in the way says who can clear it: a suspension, a deletion, or the want of a role.
    fn clearing(&self, policy: &'a RolePolicy) -> Clearing<'a> {
        let (reason, role) = self.denial();
        match reason {
            DenialReason::MemberSuspended => {
                let able = policy.roles_with(Permission::MembersSuspend);
                Clearing::By(able.filter(|able| role.is_some_and(|role| able.removes(role))).collect())
            }
            DenialReason::OrganizationDeleted => {
                Clearing::By(policy.roles_with(Permission::OrganizationDelete).collect())
            }
            _ => Clearing::Granting(policy.grants(role).collect()),
        }
    }

    /// Why what is denied is denied, and the role that the user holds.
    fn denial(&self) -> (DenialReason, Option<&str>) {
        match self {
            Self::Holds(role) => (DenialReason::RoleLacksPermission, Some(role.name.as_str())),
            Self::Barred { reason, role } => (*reason, *role),
        }
    }

    fn check(&self, policy: &RolePolicy, clearing: &Clearing<'_>, permission: Permission) -> pb::PermissionCheck {
        if let Self::Holds(role) = self
            && role.allows(permission)
        {
            return pb::PermissionCheck { permission: permission.into(), allowed: true, ..Default::default() };
        }
        let names =
            |roles: &mut dyn Iterator<Item = &RoleDefinition>| roles.map(|role| role.name.to_string()).collect();
        let grantor_roles = match clearing {
            Clearing::By(able) => names(&mut able.iter().copied()),
            Clearing::Granting(able) => {
                let able = able.iter().filter(|(_, given)| given.iter().any(|role| role.allows(permission)));
                names(&mut able.map(|(role, _)| *role))
            }
        };
        pb::PermissionCheck {
            permission: permission.into(),
            allowed: false,
            denial_reason: self.denial().0.into(),
            roles: names(&mut policy.roles_with(permission)),
            grantor_roles,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::auth::policy::custom::{CustomRole, Definition};

    const NAMES: [&str; 7] = ["owner", "admin", "member", "org:a", "org:b", "org:c", "gone"];

    /// The contract, role by role.
    fn expected(policy: &RolePolicy, standing: &Standing<'_>, permission: Permission) -> pb::PermissionCheck {
        let (reason, role) = standing.denial();
        if matches!(standing, Standing::Holds(role) if role.allows(permission)) {
            return pb::PermissionCheck { permission: permission.into(), allowed: true, ..Default::default() };
        }
        let roles: Vec<&RoleDefinition> = policy.roles_with(permission).collect();
        let clears = |able: &RoleDefinition| match reason {
            DenialReason::MemberSuspended => {
                able.allows(Permission::MembersSuspend) && role.is_some_and(|role| able.removes(role))
            }
            DenialReason::OrganizationDeleted => able.allows(Permission::OrganizationDelete),
            _ => roles.iter().any(|to| match role {
                Some(from) => {
                    (able.changes(from) || policy.role(from).is_none() && able.top) && able.changes(to.name.as_str())
                }
                None => able.invites(to.name.as_str()),
            }),
        };
        pb::PermissionCheck {
            permission: permission.into(),
            allowed: false,
            denial_reason: reason.into(),
            roles: roles.iter().map(|role| role.name.to_string()).collect(),
            grantor_roles: policy.roles().filter(|role| clears(role)).map(|role| role.name.to_string()).collect(),
        }
    }

    fn member(role: &str, suspended: bool) -> membership::Model {
        let never = DateTime::UNIX_EPOCH;
        membership::Model {
            organization_id: uuid::Uuid::nil(),
            user_id: "bob".into(),
            email: String::new(),
            email_normalized: String::new(),
            display_name: String::new(),
            sort_name: String::new(),
            search_text: String::new(),
            avatar_uri: String::new(),
            role: role.into(),
            invitation_id: None,
            joined_at: never,
            last_sign_in_at: never,
            suspended_at: suspended.then_some(never),
            version: 1,
        }
    }

    fn own_role() -> impl Strategy<Value = CustomRole> {
        let names = || prop::collection::vec(prop::sample::select(&NAMES[1..]), 0..4);
        let permissions = prop::collection::vec(prop::sample::select(permission::all().collect::<Vec<_>>()), 0..12);
        (3..6_usize, permissions, names(), names(), names(), names()).prop_map(
            |(name, permissions, invites, changes, removes, managed_by)| {
                let [invites, changes, removes, managed_by] = [invites, changes, removes, managed_by]
                    .map(|names| names.into_iter().map(str::to_owned).collect::<Vec<String>>());
                let permissions = permissions.into_iter().map(permission::name).collect();
                CustomRole {
                    role: NAMES[name].into(),
                    title: String::new(),
                    description: String::new(),
                    definition: Definition { permissions, invites, changes, removes, managed_by }.in_order(),
                    version: 1,
                }
            },
        )
    }

    proptest! {
        /// In whatever roles there are, wherever the user stands, and in whatever order and how often it is asked.
        #[test]
        fn each_answer_is_as_the_contract_has_it_role_by_role(
            mut own in prop::collection::vec(own_role(), 0..4),
            preset in prop::sample::select(crate::auth::policy::presets().collect::<Vec<_>>()),
            held in prop::option::of((prop::sample::select(&NAMES[..]), any::<bool>())),
            closed in any::<bool>(),
            asked in prop::collection::vec(prop::sample::select(permission::all().collect::<Vec<_>>()), 1..60),
        ) {
            own.sort_by(|one, other| one.role.cmp(&other.role));
            own.dedup_by(|one, other| one.role == other.role);
            let policy = RolePolicy::load(preset).unwrap().with_custom(&own);
            let member = held.map(|(role, suspended)| member(role, suspended));
            let standing = Standing::of(&policy, member.as_ref(), closed);
            let expected: Vec<_> = asked.iter().map(|asked| expected(&policy, &standing, *asked)).collect();
            prop_assert_eq!(checks(&policy, member.as_ref(), closed, &asked), expected);
        }
    }
}
