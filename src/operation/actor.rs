//! By which right somebody changes something.
//!
//! Each command names one of these as a type, so that a command for members cannot be run for an invitee, and none runs
//! without the check that belongs to its kind.

use std::future::Future;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Command, Place, store};
use crate::app::App;
use crate::auth::caller::{Caller, UserCaller};
use crate::auth::identity::Identity;
use crate::auth::policy::{RoleDefinition, RolePolicy};
use crate::auth::scope::{Authorized, Scope};
use crate::database::Transaction;
use crate::entity::{membership, organization};
use crate::error::Error;
use crate::id;
use crate::pb::{OrganizationRequest, Permission};

/// A right to change something.
pub trait Actor<C: Command>: Sized + Send + Sync {
    /// Whether [`Actor::glance`] lets only those through who belong to the organization.
    const BELONGS: bool;

    /// Where the command takes place.
    fn place(authorized: &Authorized, request: &C::Request, parsed: &Result<C, Error>) -> Result<Place, Error>;

    /// Whether the caller may, without a lock: asked before the faults of a request are told.
    fn glance(app: &App, authorized: &Authorized, place: Place) -> impl Future<Output = Result<(), Error>> + Send;

    /// Enters, under the lock.
    fn enter(
        transaction: &Transaction,
        policy: &RolePolicy,
        authorized: &Authorized,
        place: Place,
        organization: Option<&organization::Model>,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<Self, Error>> + Send;
}

/// A member whose stored role allows it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Their membership.
    pub membership: membership::Model,
    /// Their role.
    pub role: RoleDefinition,
    /// The organization as it was locked.
    pub organization: organization::Model,
}

impl<C: Command> Actor<C> for Member
where
    C::Request: OrganizationRequest,
{
    const BELONGS: bool = true;

    fn place(authorized: &Authorized, request: &C::Request, _: &Result<C, Error>) -> Result<Place, Error> {
        Place::named(authorized, request)
    }

    async fn glance(app: &App, authorized: &Authorized, place: Place) -> Result<(), Error> {
        let scope = place.organization.ok_or(Error::defect("a member's command without an organization"))?;
        let user_id = authorized.user()?.user_id.as_str();
        let (standing, policy) = store::find_standing(app, scope, user_id, None).await?;
        let (found, membership) = (standing.organization.as_deref(), standing.membership.as_ref());
        authorized.admit(&policy, found, membership, None, app.clock.now())?;
        Ok(())
    }

    async fn enter(
        transaction: &Transaction,
        policy: &RolePolicy,
        authorized: &Authorized,
        place: Place,
        organization: Option<&organization::Model>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        // A statement of its own after the lock was granted: one that waited for the lock would still see the membership
        // as it was before.
        let user_id = authorized.user()?.user_id.as_str();
        let scope = place.organization.ok_or(Error::defect("a member's command without an organization"))?;
        let membership = store::find_member(transaction, scope, user_id).await?;
        let role = authorized.admit(policy, organization, membership.as_ref(), None, now)?.clone();
        match (membership, organization) {
            (Some(membership), Some(organization)) => Ok(Self { membership, role, organization: organization.clone() }),
            _ => Err(Error::NotAMember),
        }
    }
}

/// A trusted service under its own name.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// The organization as it was locked.
    pub organization: organization::Model,
}

impl<C: Command> Actor<C> for Trusted
where
    C::Request: OrganizationRequest,
{
    const BELONGS: bool = true;

    fn place(authorized: &Authorized, request: &C::Request, _: &Result<C, Error>) -> Result<Place, Error> {
        match authorized.caller() {
            Caller::User(_) => Err(Error::ServiceRequired),
            Caller::Service(_) => Place::named(authorized, request),
        }
    }

    async fn glance(_: &App, _: &Authorized, _: Place) -> Result<(), Error> {
        Ok(())
    }

    async fn enter(
        _: &Transaction,
        _: &RolePolicy,
        _: &Authorized,
        place: Place,
        organization: Option<&organization::Model>,
        _: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let organization_id = place.organization.map(Scope::organization_id).unwrap_or_default();
        Ok(Self { organization: organization.ok_or(Error::OrganizationNotFound { organization_id })?.clone() })
    }
}

/// A member whose stored role allows it, or a trusted service under its own name.
#[derive(Clone, Debug)]
pub enum MemberOrService {
    /// The member.
    Member(Box<Member>),
    /// The service.
    Service(Box<Trusted>),
}

impl MemberOrService {
    /// The organization as it was locked.
    pub fn organization(&self) -> &organization::Model {
        match self {
            Self::Member(member) => &member.organization,
            Self::Service(service) => &service.organization,
        }
    }

    /// Refuses unless it has a permission besides the one that the RPC itself needs. Services need none.
    pub fn needs(&self, permission: Permission) -> Result<(), Error> {
        match self {
            Self::Member(member) => member.role.require(permission),
            Self::Service(_) => Ok(()),
        }
    }
}

impl<C: Command> Actor<C> for MemberOrService
where
    C::Request: OrganizationRequest,
{
    const BELONGS: bool = true;

    fn place(authorized: &Authorized, request: &C::Request, _: &Result<C, Error>) -> Result<Place, Error> {
        Place::named(authorized, request)
    }

    async fn glance(app: &App, authorized: &Authorized, place: Place) -> Result<(), Error> {
        match authorized.caller() {
            Caller::User(_) => <Member as Actor<C>>::glance(app, authorized, place).await,
            Caller::Service(_) => Ok(()),
        }
    }

    async fn enter(
        transaction: &Transaction,
        policy: &RolePolicy,
        authorized: &Authorized,
        place: Place,
        organization: Option<&organization::Model>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        match authorized.caller() {
            Caller::User(_) => {
                let entered = <Member as Actor<C>>::enter(transaction, policy, authorized, place, organization, now);
                Ok(Self::Member(Box::new(entered.await?)))
            }
            Caller::Service(_) => {
                let entered = <Trusted as Actor<C>>::enter(transaction, policy, authorized, place, organization, now);
                Ok(Self::Service(Box::new(entered.await?)))
            }
        }
    }
}

/// A user who makes an organization.
#[derive(Clone, Debug)]
pub struct Founder {
    /// The user.
    pub user: UserCaller,
}

impl<C: Command> Actor<C> for Founder {
    const BELONGS: bool = false;

    fn place(authorized: &Authorized, _: &C::Request, _: &Result<C, Error>) -> Result<Place, Error> {
        Ok(Place { organization: None, answers_in: id::of_user(authorized.user()?.user_id.as_str()) })
    }

    async fn glance(_: &App, authorized: &Authorized, _: Place) -> Result<(), Error> {
        Identity::of(authorized.user()?).map(|_| ())
    }

    async fn enter(
        _: &Transaction,
        _: &RolePolicy,
        authorized: &Authorized,
        _: Place,
        _: Option<&organization::Model>,
        _: DateTime<Utc>,
    ) -> Result<Self, Error> {
        Ok(Self { user: authorized.user()?.clone() })
    }
}

/// A user who wishes to enter an organization, by an invitation or by the domain of their address. That they may, the command
/// checks: it knows by what.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// The user.
    pub user: UserCaller,
    /// The organization, as it was locked; none when it does not exist.
    pub organization: Option<organization::Model>,
}

/// A command of a newcomer that names the organization.
pub trait NamesOrganization {
    /// The organization, as the token or the request says.
    fn organization_id(&self) -> Uuid;
}

impl<C: Command + NamesOrganization> Actor<C> for Newcomer {
    const BELONGS: bool = false;

    fn place(authorized: &Authorized, _: &C::Request, parsed: &Result<C, Error>) -> Result<Place, Error> {
        let user = authorized.user()?;
        let organization = parsed.as_ref().ok().map(|command| Scope::of_newcomer(command.organization_id()));
        if let Some(scope) = organization {
            tracing::Span::current().record("org", tracing::field::display(scope.organization_id()));
        }
        // Not under the organization: whoever can guess its id must not be able to fill its rows.
        Ok(Place { organization, answers_in: id::of_user(user.user_id.as_str()) })
    }

    async fn glance(_: &App, authorized: &Authorized, _: Place) -> Result<(), Error> {
        Identity::of(authorized.user()?).map(|_| ())
    }

    async fn enter(
        _: &Transaction,
        _: &RolePolicy,
        authorized: &Authorized,
        _: Place,
        organization: Option<&organization::Model>,
        _: DateTime<Utc>,
    ) -> Result<Self, Error> {
        // Nobody enters a deleted organization, or is told that there was one.
        let organization = organization.filter(|found| found.deleted_at.is_none()).cloned();
        Ok(Self { user: authorized.user()?.clone(), organization })
    }
}
