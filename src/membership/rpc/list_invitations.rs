//! GetInvitation, ListInvitations, ListReceivedInvitations and GetReceivedInvitation.

use chrono::{DateTime, Utc};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::shown_invitation;
use crate::app::App;
use crate::auth::scope::Scope;
use crate::entity::invitation::{self, State};
use crate::entity::organization;
use crate::error::Error;
use crate::fields::{Fields, is_time};
use crate::membership::Identity;
use crate::membership::invitations::{self, Received, Standing};
use crate::membership::token::Token;
use crate::operation::{self, Query, Reader, store as entry};
use crate::page::Page;
use crate::pb::{self, InvitationState};

pub(super) struct GetInvitation {
    invitation_id: Uuid,
}

impl Query for GetInvitation {
    type Request = pb::GetInvitationRequest;
    type Response = pb::GetInvitationResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let invitation_id = fields.uuid("invitation_id", &request.invitation_id);
        fields.done(Self { invitation_id })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let found = invitations::find(reader.connection(), reader.scope, self.invitation_id).await?;
        let found = found.ok_or(Error::InvitationNotFound { invitation_id: Some(self.invitation_id) })?;
        Ok(pb::GetInvitationResponse { invitation: Some(shown_invitation(&found, reader.now)) })
    }
}

pub(super) struct ListInvitations {
    standings: Vec<Standing>,
    page: Page<Uuid>,
}

impl Query for ListInvitations {
    type Request = pb::ListInvitationsRequest;
    type Response = pb::ListInvitationsResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let standings = fields.states(&request.states, "must be a state of an invitation", |number| {
            Some(match InvitationState::try_from(number).ok()? {
                InvitationState::Pending => Standing::Open,
                InvitationState::Expired => Standing::Expired,
                InvitationState::Accepted => Standing::Ended(State::Accepted),
                InvitationState::Declined => Standing::Ended(State::Declined),
                InvitationState::Canceled => Standing::Ended(State::Canceled),
                InvitationState::Unspecified => return None,
            })
        });
        let list = format!("ListInvitations {} {standings:?}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, |_| true)?;
        fields.done(Self { standings, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let (connection, page) = (reader.connection(), &self.page);
        let rows = invitations::list(connection, reader.scope, &self.standings, reader.now, page.after, page.size + 1);
        let mut rows = rows.await?;
        let next_page_token = page.cut(&mut rows, |row| row.invitation_id)?;
        Ok(pb::ListInvitationsResponse {
            invitations: rows.iter().map(|row| shown_invitation(row, reader.now)).collect(),
            next_page_token,
        })
    }
}

pub(super) async fn list_received(
    app: &App,
    request: Request<pb::ListReceivedInvitationsRequest>,
) -> Result<Response<pb::ListReceivedInvitationsResponse>, Status> {
    let (authorized, request) = operation::split(request)?;
    let identity = Identity::of(authorized.user()?)?;
    Ok(Response::new(received(app, &identity, &request).await?))
}

async fn received(
    app: &App,
    identity: &Identity,
    request: &pb::ListReceivedInvitationsRequest,
) -> Result<pb::ListReceivedInvitationsResponse, Error> {
    let mut fields = Fields::new();
    let email = &identity.email.normalized;
    let list = format!("ListReceivedInvitations {email}");
    let place = |(created_at, _): &Received| is_time(created_at);
    let page = Page::read(&mut fields, request.page_size, &request.page_token, list, place)?;
    let page = fields.done(page)?;
    let now = app.clock.now();
    let mut rows = invitations::list_received(app.database.reader(), email, now, page.after, page.size + 1).await?;
    let next_page_token = page.cut(&mut rows, |(row, _)| (row.created_at, row.invitation_id))?;
    let invitations = rows.into_iter().filter_map(|(row, found)| Some(shown_received(&row, found?, now)));
    Ok(pb::ListReceivedInvitationsResponse { invitations: invitations.collect(), next_page_token })
}

/// GetReceivedInvitation: whoever has the token may see what it offers.
pub(super) async fn get_received(
    app: &App,
    request: Request<pb::GetReceivedInvitationRequest>,
) -> Result<Response<pb::GetReceivedInvitationResponse>, Status> {
    let (_, request) = operation::split(request)?;
    let invitation = Some(behind(app, &request.token).await?);
    Ok(Response::new(pb::GetReceivedInvitationResponse { invitation }))
}

async fn behind(app: &App, token: &str) -> Result<pb::ReceivedInvitation, Error> {
    let mut fields = Fields::new();
    let token = Token::read(token);
    if token.is_none() {
        fields.fault("token", "must be a token as the invitation's link has it");
    }
    let missing = || Error::InvitationNotFound { invitation_id: None };
    let token = fields.done(token)?.ok_or_else(missing)?;
    let (connection, scope) = (app.database.reader(), Scope::of_newcomer(token.organization_id));
    let found = invitations::find(connection, scope, token.invitation_id).await?;
    let invitation = found.ok_or_else(missing)?;
    if !invitations::is_token_of(connection, &token, &invitation).await? {
        return Err(missing());
    }
    let organization = entry::find(connection, scope).await?.filter(|found| found.deleted_at.is_none());
    Ok(shown_received(&invitation, organization.ok_or_else(missing)?, app.clock.now()))
}

/// An invitation as its invitee is shown it.
fn shown_received(
    row: &invitation::Model,
    organization: organization::Model,
    now: DateTime<Utc>,
) -> pb::ReceivedInvitation {
    pb::ReceivedInvitation {
        invitation: Some(shown_invitation(row, now)),
        organization_name: organization.name,
        organization_logo_uri: organization.logo_uri,
    }
}
