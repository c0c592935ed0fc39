//! What each RPC needs of its caller, as the proto says it.

use crate::pb::Permission;

/// What an RPC needs of its caller: the option `(tenantry.v1.requires)` of its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The names of the service and of its method.
    pub rpc: (&'static str, &'static str),
    /// The permission that the caller's role must have in the organization of the request.
    pub permission: Option<Permission>,
    /// The permission that is needed instead when the call is about another user than the caller.
    pub permission_for_others: Option<Permission>,
    /// Any user may call it, acting for themselves.
    pub user: bool,
    /// A trusted service may call it under its own name.
    pub service: bool,
    /// Its answer is a stream that has no end of its own.
    pub streams: bool,
}

/// The requirement of the RPC at a path, or nothing when there is no such RPC.
#[must_use]
pub fn requirement(path: &str) -> Option<Requirement> {
    include!(concat!(env!("OUT_DIR"), "/requirements.rs"))
}

/// Every permission that can be granted, in the order of the contract.
pub fn all() -> impl Iterator<Item = Permission> {
    (1..).map_while(|number| Permission::try_from(number).ok())
}

/// The permission's name in role policies, logs and error metadata: `members_change_role`.
#[must_use]
pub fn name(permission: Permission) -> String {
    permission.as_str_name().trim_start_matches("PERMISSION_").to_ascii_lowercase()
}
