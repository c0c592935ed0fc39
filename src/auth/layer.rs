//! The authorization layer: one tower layer in front of every service of ours.
//!
//! path → what the RPC requires → who calls → does the role policy let this role? It decides without the database and
//! before the body is read. A tonic interceptor could not do it: it does not see the method.

use std::sync::Arc;

use http::{Request, Response};
use tokio::time::Instant;
use tonic::Status;

use super::caller::{Caller, CallerReader, UserCaller};
use super::permission::{Requirement, requirement};
use super::policy::{RolePolicy, custom};
use super::scope::Authorized;
use crate::check::Check;
use crate::clock::Clock;
use crate::error::Error;
use crate::overload::Overload;
use crate::pb::Permission;
use crate::telemetry::RequestId;
use crate::transport::{Known, Peer};

/// What the gate decides on. Shared by all services.
#[derive(Debug)]
pub struct Gate {
    /// Reads who calls.
    pub callers: CallerReader,
    /// What each role may do.
    pub policy: Arc<RolePolicy>,
    /// By which tokens expire.
    pub clock: Clock,
    /// Who calls too often.
    pub overload: Arc<Overload>,
}

impl Gate {
    fn decide<B>(&self, request: &Request<B>) -> Result<Authorized, Error> {
        let requirement = requirement(request.uri().path()).ok_or(Error::MethodUnknown)?;
        let peer = request.extensions().get::<Peer>();
        let certified = peer.and_then(|peer| peer.service.as_ref());
        let read = self.callers.read(request.headers(), certified, self.clock.now());
        let (caller, lasts) = read.map_err(Error::Identity)?;
        record(&caller);
        self.overload.of_caller(&caller)?;
        match &caller {
            Caller::Service(_) if !requirement.service => return Err(Error::UserRequired),
            Caller::Service(_) => {}
            Caller::User(user) => self.admit(user, requirement)?,
        }
        let request_id = request.extensions().get::<RequestId>().map(|id| Arc::clone(&id.0));
        // Behind a service or a gateway that says whose call it makes, the connection is only theirs.
        let address = self.callers.address(request.headers(), &caller).map_err(Error::Identity)?;
        let address = address.or(peer.map(|peer| peer.address));
        let request_id = request_id.unwrap_or_else(|| Arc::from(""));
        // One that is never over is none: of what is so far away, nobody will be there.
        let until = lasts.and_then(|lasts| Instant::now().checked_add(lasts));
        Ok(Authorized { caller, requirement, request_id, address, until })
    }

    fn admit(&self, user: &UserCaller, requirement: Requirement) -> Result<(), Error> {
        let Some(permission) = requirement.permission else {
            return if requirement.user { Ok(()) } else { Err(Error::ServiceRequired) };
        };
        let claim = user.organization.as_ref().ok_or(Error::OrganizationRequired)?;
        match claim.role.as_deref() {
            Some(role) => self.allow(role, permission),
            // A service that acts for a user need not know the role. The stored one decides anyway.
            None if user.via.is_some() => Ok(()),
            // The reader of identities has refused it already.
            None => Err(Error::OrganizationRequired),
        }
    }

    fn allow(&self, role: &str, permission: Permission) -> Result<(), Error> {
        match self.policy.allows(role, permission) {
            Some(true) => Ok(()),
            Some(false) => Err(Error::ClaimedRoleLacksPermission { permission, role: role.to_owned() }),
            // What an organization's own role may do stands in the database, where each operation looks.
            None if self.policy.custom_roles() && custom::is_name(role) => Ok(()),
            None => Err(Error::RoleUnknown { role: role.to_owned() }),
        }
    }
}

/// Tells the line that is logged for this call who made it.
fn record(caller: &Caller) {
    let span = tracing::Span::current();
    match caller {
        Caller::Service(service) => {
            span.record("service", service.as_str());
        }
        Caller::User(user) => {
            span.record("user", user.user_id.as_str());
            if let Some(service) = &user.via {
                span.record("service", service.as_str());
            }
            if let Some(claim) = &user.organization {
                span.record("org", tracing::field::display(claim.id));
                span.record("role", claim.role.as_deref());
            }
        }
    }
}

/// Lets calls through with the proof of what was decided.
impl Check for Arc<Gate> {
    fn refusal<B>(&self, request: &mut Request<B>) -> Option<Response<()>> {
        match self.decide(request) {
            Ok(authorized) => {
                if let Some(known) = request.extensions().get::<Known>() {
                    known.note();
                }
                request.extensions_mut().insert(authorized);
                None
            }
            Err(error) => Some(Status::from(error).into_http()),
        }
    }
}
