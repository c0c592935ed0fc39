//! The caller in a verified token.

use super::{Caller, OrganizationClaim, UserCaller, email, organization_id, role};
use crate::{
    auth::token::Claims,
    id::{ServiceName, UserId},
};

/// The caller, or what is wrong with the claims.
pub(super) fn caller(claims: &Claims) -> Result<Caller, String> {
    if claims.is_platform() { service(claims).map(Caller::Service) } else { user(claims).map(Caller::User) }
}

/// A token is a service's or a user's. One that is half of each would have the rights of the service with the identity of
/// the user.
fn service(claims: &Claims) -> Result<ServiceName, String> {
    let of_users =
        [("org_id", claims.org_id.is_some()), ("org_role", claims.org_role.is_some()), ("act", claims.act.is_some())];
    if let Some((claim, _)) = of_users.into_iter().find(|(_, present)| *present) {
        return Err(format!("its scope has platform, which is for services, but it has {claim}, which is for users"));
    }
    ServiceName::parse(&claims.sub).map_err(|fault| format!("its scope has platform, but its sub {fault}"))
}

fn user(claims: &Claims) -> Result<UserCaller, String> {
    let user_id = UserId::parse(&claims.sub).map_err(|fault| format!("its sub {fault}"))?;
    let via = claims.act.as_ref().map(|act| ServiceName::parse(&act.sub)).transpose();
    let via = via.map_err(|fault| format!("the sub of its act {fault}"))?;
    let email = claims.usable_email().map(email).transpose().map_err(|fault| format!("its email {fault}"))?;
    let id = claims.org_id.as_deref().map(organization_id).transpose();
    let role = claims.org_role.as_deref().map(role).transpose();
    let id = id.map_err(|fault| format!("its org_id {fault}"))?;
    let organization = match (id, role.map_err(|fault| format!("its org_role {fault}"))?) {
        (None, None) => None,
        (None, Some(_)) => return Err("it has org_role without org_id".to_owned()),
        (Some(_), None) if via.is_none() => return Err("it has org_id without org_role".to_owned()),
        (Some(id), role) => Some(OrganizationClaim { id, role }),
    };
    Ok(UserCaller { user_id, email, via, organization })
}
