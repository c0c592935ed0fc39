//! ListJoinRequests, ApproveJoinRequest and DeclineJoinRequest: what an organization does with those who ask to join.

use uuid::Uuid;

use super::{roles, shown};
use crate::app::App;
use crate::email::Email;
use crate::entity::join_request::{self, State};
use crate::error::Error;
use crate::event::Change;
use crate::fields::{Fields, timestamp};
use crate::membership::joining::{self, Entrance};
use crate::membership::{Identity, Profile, rules, store};
use crate::operation::{Command, Member, Query, Reader, Unit};
use crate::organization::settings;
use crate::page::Page;
use crate::pb::{self, JoinRequestState};

pub(super) struct ListJoinRequests {
    states: Vec<State>,
    page: Page<Uuid>,
}

impl Query for ListJoinRequests {
    type Request = pb::ListJoinRequestsRequest;
    type Response = pb::ListJoinRequestsResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let states = fields.states(&request.states, "must be a state of a request to join", |number| {
            Some(match JoinRequestState::try_from(number).ok()? {
                JoinRequestState::Pending => State::Pending,
                JoinRequestState::Approved => State::Approved,
                JoinRequestState::Declined => State::Declined,
                JoinRequestState::Withdrawn => State::Withdrawn,
                JoinRequestState::Unspecified => return None,
            })
        });
        let list = format!("ListJoinRequests {} {states:?}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, |_| true)?;
        fields.done(Self { states, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let (connection, page) = (reader.connection(), &self.page);
        let mut rows = joining::list(connection, reader.scope, &self.states, page.after, page.size + 1).await?;
        let next_page_token = page.cut(&mut rows, |row| row.join_request_id)?;
        Ok(pb::ListJoinRequestsResponse { join_requests: rows.iter().map(shown_request).collect(), next_page_token })
    }
}

/// The request, which the organization has.
async fn found(unit: &Unit<'_, Member>, join_request_id: Uuid) -> Result<join_request::Model, Error> {
    let found = joining::find(unit.transaction(), unit.scope(), join_request_id).await?;
    found.ok_or(Error::JoinRequestNotFound { join_request_id: Some(join_request_id) })
}

pub(super) struct ApproveJoinRequest {
    join_request_id: Uuid,
    /// The role that is named, if one is.
    role: Option<String>,
}

impl Command for ApproveJoinRequest {
    type Request = pb::ApproveJoinRequestRequest;
    type Response = pb::ApproveJoinRequestResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let join_request_id = fields.uuid("join_request_id", &request.join_request_id);
        let role = Some(request.role.as_str()).filter(|role| !role.is_empty());
        let role = role.map(|role| roles::known_role(&mut fields, "role", role, app));
        fields.done(Self { join_request_id, role })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        if let Some(role) = &self.role {
            may_give(unit, role)?;
        }
        let mut request = found(unit, self.join_request_id).await?;
        let role = self.role.clone().unwrap_or_else(|| request.role.clone());
        may_give(unit, &role)?;
        joining::pending(&request)?;
        let user_id = request.user_id.clone();
        if store::find(unit.transaction(), unit.scope(), &user_id).await?.is_some() {
            return Err(Error::AlreadyMember { user_id });
        }
        let email = Email { written: request.email.clone(), normalized: request.email_normalized.clone() };
        let invitation = joining::find_invitation(unit, &email.normalized).await?;
        let invitation = invitation.filter(|found| rules::open(found, unit.now).is_ok());
        if let Some(invitation) = &invitation {
            // It ends with this, so the caller must be allowed its role as well.
            rules::may_invite(&unit.policy, &unit.actor.role, &invitation.role)?;
        }
        settings::email_allowed(unit.transaction(), &unit.actor.organization, &email).await?;
        let decider = unit.actor.membership.user_id.clone();
        joining::end(unit, &mut request, State::Approved, Some(&decider)).await?;
        unit.record(Change::JoinRequestApproved { join_request_id: request.join_request_id, user_id: user_id.clone() });
        let profile = Profile { display_name: request.display_name.clone(), avatar_uri: request.avatar_uri.clone() };
        let identity = Identity { user_id, email };
        let member = joining::enter(unit, Entrance { identity, profile, role, invitation, invited: false }).await?;
        Ok(pb::ApproveJoinRequestResponse { member: Some(shown(&member)), join_request: Some(shown_request(&request)) })
    }
}

/// Whether the caller may let somebody in with a role, which there must be.
fn may_give(unit: &Unit<'_, Member>, role: &str) -> Result<(), Error> {
    roles::existing(&unit.policy, "role", role)?;
    rules::may_invite(&unit.policy, &unit.actor.role, role)
}

pub(super) struct DeclineJoinRequest {
    join_request_id: Uuid,
}

impl Command for DeclineJoinRequest {
    type Request = pb::DeclineJoinRequestRequest;
    type Response = pb::DeclineJoinRequestResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let join_request_id = fields.uuid("join_request_id", &request.join_request_id);
        fields.done(Self { join_request_id })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut request = found(unit, self.join_request_id).await?;
        rules::may_invite(&unit.policy, &unit.actor.role, &request.role)?;
        joining::pending(&request)?;
        let decider = unit.actor.membership.user_id.clone();
        joining::end(unit, &mut request, State::Declined, Some(&decider)).await?;
        unit.record(Change::JoinRequestDeclined {
            join_request_id: request.join_request_id,
            user_id: request.user_id.clone(),
        });
        Ok(pb::DeclineJoinRequestResponse { join_request: Some(shown_request(&request)) })
    }
}

/// A request as the wire shows it.
pub(super) fn shown_request(row: &join_request::Model) -> pb::JoinRequest {
    let state = match row.state {
        State::Pending => JoinRequestState::Pending,
        State::Approved => JoinRequestState::Approved,
        State::Declined => JoinRequestState::Declined,
        State::Withdrawn => JoinRequestState::Withdrawn,
    };
    pb::JoinRequest {
        organization_id: row.organization_id.to_string(),
        join_request_id: row.join_request_id.to_string(),
        user_id: row.user_id.clone(),
        email: row.email.clone(),
        display_name: row.display_name.clone(),
        avatar_uri: row.avatar_uri.clone(),
        role: row.role.clone(),
        state: state.into(),
        create_time: Some(timestamp(row.created_at)),
        end_time: row.ended_at.map(timestamp),
        decider_user_id: row.decided_by_user_id.clone().unwrap_or_default(),
    }
}
