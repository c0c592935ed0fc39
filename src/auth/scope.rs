//! Proof that a caller may enter an organization, as types.
//!
//! [`Authorized`] is what the layer leaves with a request it let through; a caller's [`Scope`] is made from it alone, and only
//! for the organization that they act in. The engine makes the others: of an organization that is being made, and of the one
//! that an invitation leads to. No tenant data is read or written without a `Scope`, and what a member may do is
//! decided on the role that is *stored*, by [`Authorized::admit`].

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use super::caller::{Caller, IdentityFault, UserCaller};
use super::permission::Requirement;
use super::policy::{RoleDefinition, RolePolicy};
use crate::entity::{membership, organization};
use crate::error::Error;
use crate::fields::parse_uuid;
use crate::id;
use crate::pb::Permission;

/// A call that the layer let through: who makes it and what the RPC requires.
#[derive(Clone, Debug)]
pub struct Authorized {
    pub(super) caller: Caller,
    pub(super) requirement: Requirement,
    pub(super) request_id: Arc<str>,
    pub(super) address: Option<IpAddr>,
    pub(super) until: Option<Instant>,
}

impl Authorized {
    /// Who makes the call.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The id under which the logs know the call.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Refuses when the time is over of the identity with which the call was made: calls that go on end with it.
    pub fn holds(&self) -> Result<(), Error> {
        let is_over = self.until.is_some_and(|until| until <= Instant::now());
        if is_over { Err(Error::Identity(IdentityFault::expired())) } else { Ok(()) }
    }

    /// Done when the time of that identity is over, if it ever is.
    pub async fn is_over(&self) {
        match self.until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    /// The same call, with another id for the log of events if its own is also its idempotency key: that key opens the
    /// stored answer, and must not stand in the database.
    #[must_use]
    pub fn hiding(&self, key: &str) -> Self {
        let mut hidden = self.clone();
        if !key.is_empty() && self.request_id.eq_ignore_ascii_case(key) {
            hidden.request_id = Arc::from(id::of_call(key).to_string());
        }
        hidden
    }

    /// The user, for RPCs that users call for themselves.
    pub fn user(&self) -> Result<&UserCaller, Error> {
        match &self.caller {
            Caller::User(user) => Ok(user),
            Caller::Service(_) => Err(Error::UserRequired),
        }
    }

    /// Enters the organization of the request, if it is the one that the caller acts in. A service may enter any. For a
    /// user the refusal is the same whether that organization exists, or is the name of anything at all.
    pub fn scope(&self, organization_id: &str) -> Result<Scope, Error> {
        let requested = parse_uuid(organization_id);
        match &self.caller {
            Caller::User(user) => {
                let claim = user.organization.as_ref().ok_or(Error::OrganizationRequired)?;
                if requested != Some(claim.id) {
                    return Err(Error::OrganizationMismatch);
                }
                Ok(Scope { organization_id: claim.id })
            }
            Caller::Service(_) => {
                let organization_id = requested.ok_or_else(|| Error::of_field("organization_id", "must be a UUID"))?;
                // The line that is logged for this call says it; a user's claim said it before.
                tracing::Span::current().record("org", tracing::field::display(organization_id));
                Ok(Scope { organization_id })
            }
        }
    }

    /// The stored membership decides: gives the role on which the caller may go on.
    ///
    /// `about` is the user whom the call is about, where that may be another one.
    pub fn admit<'p>(
        &self,
        policy: &'p RolePolicy,
        organization: Option<&organization::Model>,
        membership: Option<&membership::Model>,
        about: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<&'p RoleDefinition, Error> {
        let user = self.user()?;
        let organization = organization.filter(|found| exists(found, now)).ok_or(Error::NotAMember)?;
        let membership = membership.filter(|found| found.organization_id == organization.organization_id);
        let membership = membership.ok_or(Error::NotAMember)?;
        if membership.suspended_at.is_some() {
            return Err(Error::MemberSuspended);
        }
        let role = policy.role(&membership.role).ok_or_else(|| Error::RoleUnknown { role: membership.role.clone() })?;
        let permission = self.needed(about.is_some_and(|about| about != user.user_id.as_str()))?;
        if !role.allows(permission) {
            let claimed = user.organization.as_ref().and_then(|claim| claim.role.clone());
            return Err(match claimed {
                Some(claimed) if claimed != membership.role => {
                    Error::RoleStale { permission, claimed, stored: membership.role.clone() }
                }
                _ => Error::RoleLacksPermission { permission, role: membership.role.clone() },
            });
        }
        Ok(role)
    }

    fn needed(&self, about_another: bool) -> Result<Permission, Error> {
        let for_others = self.requirement.permission_for_others.filter(|_| about_another);
        for_others
            .or(self.requirement.permission)
            .ok_or_else(|| Error::defect("an RPC without a permission has members"))
    }
}

/// In whose name something is written, and under which id the logs know the occasion.
#[derive(Clone, Debug)]
pub struct Author {
    /// The user whose doing it is.
    pub user_id: Option<String>,
    /// The service that makes the call.
    pub service: Option<String>,
    /// The id of the call.
    pub call_id: String,
    /// The address from which it came.
    pub address: Option<String>,
}

impl Author {
    /// The author of what a call changes.
    pub fn of(authorized: &Authorized) -> Self {
        let (user_id, service) = match authorized.caller() {
            Caller::User(user) => (Some(user.user_id.to_string()), user.via.as_ref().map(ToString::to_string)),
            Caller::Service(service) => (None, Some(service.to_string())),
        };
        let address = authorized.address.map(|address| address.to_string());
        Self { user_id, service, call_id: authorized.request_id().to_owned(), address }
    }
}

/// The organization that a caller was let into. The only key to an organization's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    organization_id: Uuid,
}

impl Scope {
    /// The organization.
    pub fn organization_id(self) -> Uuid {
        self.organization_id
    }

    /// The scope of an organization that is being made, or that an invitation leads to: those who come by either have no
    /// membership there yet, and what they may do is decided by the operation.
    pub(crate) fn of_newcomer(organization_id: Uuid) -> Self {
        Self { organization_id }
    }
}

/// Whether an organization is there: a deleted one is until its purge time.
pub fn exists(organization: &organization::Model, now: DateTime<Utc>) -> bool {
    organization.purge_at.is_none_or(|purge_at| now < purge_at)
}
