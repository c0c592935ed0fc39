//! The identity headers that a gateway sets. Whether to believe them was decided before.

use std::fmt::Display;

use http::{HeaderMap, HeaderValue};

use super::{
    Caller, IdentityFault, ORG_ID, ORG_ROLE, OrganizationClaim, SERVICE, USER_EMAIL, USER_ID, UserCaller, email,
    organization_id, role, single,
};
use crate::id::{ServiceName, UserId};
use crate::pb::ErrorReason;

pub(super) struct TrustedKeys<'a> {
    user_id: Option<&'a HeaderValue>,
    user_email: Option<&'a HeaderValue>,
    org_id: Option<&'a HeaderValue>,
    org_role: Option<&'a HeaderValue>,
    service: Option<&'a HeaderValue>,
}

impl<'a> TrustedKeys<'a> {
    /// The identity headers, if there is any.
    pub(super) fn find(headers: &'a HeaderMap) -> Result<Option<Self>, IdentityFault> {
        let keys = Self {
            user_id: single(headers, USER_ID)?,
            user_email: single(headers, USER_EMAIL)?,
            org_id: single(headers, ORG_ID)?,
            org_role: single(headers, ORG_ROLE)?,
            service: single(headers, SERVICE)?,
        };
        Ok(keys.first().is_some().then_some(keys))
    }

    /// The first of the keys that came; `x-service` only when it came alone.
    pub(super) fn first(&self) -> Option<&'static str> {
        let keys = [
            (USER_ID, self.user_id),
            (USER_EMAIL, self.user_email),
            (ORG_ID, self.org_id),
            (ORG_ROLE, self.org_role),
            (SERVICE, self.service),
        ];
        keys.into_iter().find_map(|(key, value)| value.map(|_| key))
    }

    /// Who calls; `certified` is the service that the connection's certificate names, and for no other can it speak.
    pub(super) fn read(&self, certified: Option<&ServiceName>) -> Result<Caller, IdentityFault> {
        let said = parsed(SERVICE, self.service, ServiceName::parse)?;
        if let (Some(said), Some(certified)) = (&said, certified)
            && said != certified
        {
            return Err(IdentityFault {
                reason: ErrorReason::MetadataNotTrusted,
                message: format!("`{SERVICE}` names another service than the client's certificate; leave it out."),
                key: Some(SERVICE.to_owned()),
            });
        }
        let service = said.or_else(|| certified.cloned());
        let user_id = parsed(USER_ID, self.user_id, UserId::parse)?;
        match (user_id, service) {
            (Some(user_id), via) => self.user(user_id, via).map(Caller::User),
            (None, service) => self.alone(service),
        }
    }

    fn user(&self, user_id: UserId, via: Option<ServiceName>) -> Result<UserCaller, IdentityFault> {
        let role = parsed(ORG_ROLE, self.org_role, role)?;
        let organization = match (parsed(ORG_ID, self.org_id, organization_id)?, role) {
            (None, None) => None,
            (None, Some(_)) => return Err(IdentityFault::malformed(ORG_ROLE, "needs `x-org-id` beside it")),
            // A service does not know the user's role, and the stored one decides anyway.
            (Some(_), None) if via.is_none() => {
                return Err(IdentityFault::malformed(ORG_ID, "needs `x-org-role` beside it"));
            }
            (Some(id), role) => Some(OrganizationClaim { id, role }),
        };
        Ok(UserCaller { user_id, email: parsed(USER_EMAIL, self.user_email, email)?, via, organization })
    }

    /// Without a user, only a service's name can stand, and only alone.
    fn alone(&self, service: Option<ServiceName>) -> Result<Caller, IdentityFault> {
        match (self.first(), service) {
            (Some(SERVICE) | None, Some(service)) => Ok(Caller::Service(service)),
            (key, _) => {
                Err(IdentityFault::malformed(key.unwrap_or(USER_ID), "describes a user; send `x-user-id` beside it"))
            }
        }
    }
}

/// The fault of `parse` reads on after the key.
fn parsed<T, F: Display>(
    key: &str,
    value: Option<&HeaderValue>,
    parse: impl FnOnce(&str) -> Result<T, F>,
) -> Result<Option<T>, IdentityFault> {
    let Some(value) = value else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| IdentityFault::malformed(key, "is not ASCII text"))?;
    parse(text).map(Some).map_err(|fault| IdentityFault::malformed(key, &format!("{fault}")))
}
