//! ListJoinableOrganizations, JoinOrganization, WithdrawJoinRequest: what those do who come by the domain of their address.

use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::join_requests::shown_request;
use super::shown;
use crate::app::App;
use crate::auth::scope::Scope;
use crate::entity::join_request::{self, State};
use crate::entity::membership;
use crate::entity::organization_domain::JoinMode;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::membership::joining::{self, Entrance, Way};
use crate::membership::{Identity, Profile, rules, store};
use crate::operation::actor::NamesOrganization;
use crate::operation::{self, Command, Newcomer, Unit, store as entry};
use crate::organization::rpc::domains::shown_mode;
use crate::organization::{domains, settings};
use crate::pb::{self, join_organization_response::Outcome};

pub(super) async fn list_joinable(
    app: &App,
    request: Request<pb::ListJoinableOrganizationsRequest>,
) -> Result<Response<pb::ListJoinableOrganizationsResponse>, Status> {
    let (authorized, _) = operation::split(request)?;
    let identity = Identity::of(authorized.user()?)?;
    // A verified domain is one organization's alone, so there is at most one.
    let found = joinable(app, &identity).await?;
    Ok(Response::new(pb::ListJoinableOrganizationsResponse { organizations: found.into_iter().collect() }))
}

async fn joinable(app: &App, identity: &Identity) -> Result<Option<pb::JoinableOrganization>, Error> {
    let connection = app.database.reader();
    let Some(domain) = domains::store::find_verified(connection, identity.email.domain()).await? else {
        return Ok(None);
    };
    let scope = Scope::of_newcomer(domain.organization_id);
    let (organization, membership) = entry::find_with_member(connection, scope, &identity.user_id).await?;
    let Some(organization) = organization.filter(|found| found.deleted_at.is_none() && membership.is_none()) else {
        return Ok(None);
    };
    let policy = entry::policy_of(connection, &app.policy, Some(&organization)).await?;
    let was_member = store::was_member(connection, scope, &identity.user_id).await?;
    let join_mode = match joining::way_in(&policy, Some(&domain), None, was_member, app.clock.now()) {
        Way::Closed => return Ok(None),
        Way::Request(_) => JoinMode::Request,
        Way::Automatic(_) | Way::Invited(_) => domain.join_mode,
    };
    match settings::email_allowed(connection, &organization, &identity.email).await {
        Err(Error::EmailDomainNotAllowed { .. }) => return Ok(None),
        allowed => allowed?,
    }
    let request = joining::find_open(connection, scope, &identity.user_id).await?;
    Ok(Some(pb::JoinableOrganization {
        organization_id: organization.organization_id.to_string(),
        name: organization.name,
        logo_uri: organization.logo_uri,
        join_mode: shown_mode(join_mode).into(),
        join_request: request.as_ref().map(shown_request),
    }))
}

pub(super) struct JoinOrganization {
    organization_id: Uuid,
    profile: Profile,
}

impl NamesOrganization for JoinOrganization {
    fn organization_id(&self) -> Uuid {
        self.organization_id
    }
}

impl Command for JoinOrganization {
    type Request = pb::JoinOrganizationRequest;
    type Response = pb::JoinOrganizationResponse;
    type Actor = Newcomer;
    // `Newcomer` takes a deleted organization for one that is not there: a stranger is not told that there was one.
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let organization_id = fields.uuid("organization_id", &request.organization_id);
        let profile = Profile::read(&mut fields, "profile", request.profile.as_ref());
        fields.done(Self { organization_id, profile })
    }

    async fn run(&self, unit: &mut Unit<'_, Newcomer>) -> Result<Self::Response, Error> {
        let identity = Identity::of(&unit.actor.user)?;
        let organization = unit.actor.organization.clone().ok_or(Error::JoiningNotOpen)?;
        if store::find(unit.transaction(), unit.scope(), &identity.user_id).await?.is_some() {
            return Err(Error::AlreadyMember { user_id: identity.user_id });
        }
        let open = joining::find_open(unit.transaction(), unit.scope(), &identity.user_id).await?;
        let domain = domains::store::find(unit.transaction(), unit.scope(), identity.email.domain()).await?;
        let invitation = joining::find_invitation(unit, &identity.email.normalized).await?;
        let was_member = store::was_member(unit.transaction(), unit.scope(), &identity.user_id).await?;
        let way = joining::way_in(&unit.policy, domain.as_ref(), invitation.clone(), was_member, unit.now);
        let (role, invitation, invited) = match (way, open) {
            (Way::Closed, None) => return Err(Error::JoiningNotOpen),
            (Way::Closed | Way::Request(_), Some(open)) => return Ok(waiting(&open)),
            (Way::Request(role), None) => {
                settings::email_allowed(unit.transaction(), &organization, &identity.email).await?;
                return Ok(waiting(&joining::ask(unit, &identity, &self.profile, role).await?));
            }
            (Way::Invited(invitation), _) => (invitation.role.clone(), Some(*invitation), true),
            // An open one whose role cannot be given any more ends as well: its seat is theirs all the same.
            (Way::Automatic(role), _) => (role, invitation.filter(|found| rules::open(found, unit.now).is_ok()), false),
        };
        settings::email_allowed(unit.transaction(), &organization, &identity.email).await?;
        joining::settle(unit, &identity.user_id).await?;
        let entrance = Entrance { identity, profile: self.profile.clone(), role, invitation, invited };
        Ok(joined(&joining::enter(unit, entrance).await.map_err(to_stranger)?))
    }
}

/// Why somebody who is no member cannot come in, without figures that are for members.
fn to_stranger(error: Error) -> Error {
    match error {
        Error::SeatLimitReached { .. } => Error::SeatsTaken,
        Error::SubscriptionPastDue { .. } => Error::JoiningNotOpen,
        error => error,
    }
}

fn joined(member: &membership::Model) -> pb::JoinOrganizationResponse {
    pb::JoinOrganizationResponse { outcome: Some(Outcome::Member(shown(member))) }
}

fn waiting(request: &join_request::Model) -> pb::JoinOrganizationResponse {
    pb::JoinOrganizationResponse { outcome: Some(Outcome::JoinRequest(shown_request(request))) }
}

pub(super) struct WithdrawJoinRequest {
    organization_id: Uuid,
}

impl NamesOrganization for WithdrawJoinRequest {
    fn organization_id(&self) -> Uuid {
        self.organization_id
    }
}

impl Command for WithdrawJoinRequest {
    type Request = pb::WithdrawJoinRequestRequest;
    type Response = pb::WithdrawJoinRequestResponse;
    type Actor = Newcomer;
    // `Newcomer` takes a deleted organization for one that is not there: a stranger is not told that there was one.
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let organization_id = fields.uuid("organization_id", &request.organization_id);
        fields.done(Self { organization_id })
    }

    async fn run(&self, unit: &mut Unit<'_, Newcomer>) -> Result<Self::Response, Error> {
        let missing = || Error::JoinRequestNotFound { join_request_id: None };
        unit.actor.organization.as_ref().ok_or_else(missing)?;
        let user_id = unit.actor.user.user_id.as_str().to_owned();
        let found = joining::find_open(unit.transaction(), unit.scope(), &user_id).await?;
        let mut request = found.ok_or_else(missing)?;
        joining::end(unit, &mut request, State::Withdrawn, None).await?;
        unit.record(Change::JoinRequestWithdrawn { join_request_id: request.join_request_id, user_id });
        Ok(pb::WithdrawJoinRequestResponse { join_request: Some(shown_request(&request)) })
    }
}
