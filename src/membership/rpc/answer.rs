//! AcceptInvitation and DeclineInvitation: what an invitee answers.

use sea_orm::{ConnectionTrait, DbErr};
use uuid::Uuid;

use super::{shown, shown_invitation};
use crate::app::App;
use crate::entity::invitation::{self, State};
use crate::entity::organization;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::membership::joining::Entrance;
use crate::membership::token::Token;
use crate::membership::{Identity, Profile, invitations, joining, rules, store};
use crate::operation::actor::NamesOrganization;
use crate::operation::{Command, Newcomer, Unit};
use crate::organization::settings;
use crate::{organization as organizations, pb};

/// Which invitation is answered.
enum Reference {
    Token(Token),
    Name { organization_id: Uuid, invitation_id: Uuid },
}

impl Reference {
    fn read(fields: &mut Fields, reference: Option<&pb::InvitationReference>) -> Self {
        use pb::invitation_reference::Reference as R;
        match reference.and_then(|reference| reference.reference.as_ref()) {
            Some(R::Token(text)) => match Token::read(text) {
                Some(token) => return Self::Token(token),
                None => fields.fault("invitation.token", "must be a token as the invitation's link has it"),
            },
            Some(R::Name(name)) => {
                return Self::Name {
                    organization_id: fields.uuid("invitation.name.organization_id", &name.organization_id),
                    invitation_id: fields.uuid("invitation.name.invitation_id", &name.invitation_id),
                };
            }
            None => fields.fault("invitation", "must say a token, or a name with organization_id and invitation_id"),
        }
        Self::Name { organization_id: Uuid::nil(), invitation_id: Uuid::nil() }
    }

    fn organization_id(&self) -> Uuid {
        match self {
            Self::Token(token) => token.organization_id,
            Self::Name { organization_id, .. } => *organization_id,
        }
    }

    fn invitation_id(&self) -> Uuid {
        match self {
            Self::Token(token) => token.invitation_id,
            Self::Name { invitation_id, .. } => *invitation_id,
        }
    }

    async fn opens(&self, connection: &impl ConnectionTrait, invitation: &invitation::Model) -> Result<bool, DbErr> {
        match self {
            Self::Token(token) => invitations::is_token_of(connection, token, invitation).await,
            Self::Name { .. } => Ok(true),
        }
    }
}

/// Finds the open invitation that the caller may answer. Who is not meant learns nothing about one that they only know by
/// name; who has the token hears that it is for another address.
async fn answerable(
    unit: &Unit<'_, Newcomer>,
    reference: &Reference,
) -> Result<(organization::Model, invitation::Model, Identity), Error> {
    let identity = Identity::of(&unit.actor.user)?;
    let missing = || Error::InvitationNotFound { invitation_id: None };
    let organization = unit.actor.organization.clone().ok_or_else(missing)?;
    let found = invitations::find(unit.transaction(), unit.scope(), reference.invitation_id()).await?;
    let invitation = found.ok_or_else(missing)?;
    if !reference.opens(unit.transaction(), &invitation).await? {
        return Err(missing());
    }
    if invitation.email_normalized != identity.email.normalized {
        return Err(match reference {
            Reference::Token(_) => Error::InvitationEmailMismatch,
            Reference::Name { .. } => missing(),
        });
    }
    rules::open(&invitation, unit.now)?;
    Ok((organization, invitation, identity))
}

pub(super) struct AcceptInvitation {
    reference: Reference,
    profile: Profile,
}

impl NamesOrganization for AcceptInvitation {
    fn organization_id(&self) -> Uuid {
        self.reference.organization_id()
    }
}

impl Command for AcceptInvitation {
    type Request = pb::AcceptInvitationRequest;
    type Response = pb::AcceptInvitationResponse;
    type Actor = Newcomer;
    // `Newcomer` takes a deleted organization for one that is not there: a stranger is not told that there was one.
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let reference = Reference::read(&mut fields, request.invitation.as_ref());
        let profile = Profile::read(&mut fields, "profile", request.profile.as_ref());
        fields.done(Self { reference, profile })
    }

    async fn run(&self, unit: &mut Unit<'_, Newcomer>) -> Result<Self::Response, Error> {
        let (organization, invitation, identity) = answerable(unit, &self.reference).await?;
        rules::still_grantable(&unit.policy, &invitation)?;
        if store::find(unit.transaction(), unit.scope(), &identity.user_id).await?.is_some() {
            return Err(Error::AlreadyMember { user_id: identity.user_id });
        }
        settings::email_allowed(unit.transaction(), &organization, &identity.email).await?;
        joining::settle(unit, &identity.user_id).await?;
        let (role, profile) = (invitation.role.clone(), self.profile.clone());
        let entrance = Entrance { identity, profile, role, invitation: Some(invitation), invited: true };
        let member = joining::enter(unit, entrance).await?;
        Ok(pb::AcceptInvitationResponse {
            member: Some(shown(&member)),
            organization: Some(organizations::rpc::shown(&organization)),
        })
    }
}

pub(super) struct DeclineInvitation {
    reference: Reference,
}

impl NamesOrganization for DeclineInvitation {
    fn organization_id(&self) -> Uuid {
        self.reference.organization_id()
    }
}

impl Command for DeclineInvitation {
    type Request = pb::DeclineInvitationRequest;
    type Response = pb::DeclineInvitationResponse;
    type Actor = Newcomer;
    // `Newcomer` takes a deleted organization for one that is not there: a stranger is not told that there was one.
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let reference = Reference::read(&mut fields, request.invitation.as_ref());
        fields.done(Self { reference })
    }

    async fn run(&self, unit: &mut Unit<'_, Newcomer>) -> Result<Self::Response, Error> {
        let (_, mut invitation, identity) = answerable(unit, &self.reference).await?;
        invitations::end(unit, &mut [&mut invitation], State::Declined, Some(&identity.user_id)).await?;
        unit.record(Change::InvitationDeclined { invitation_id: invitation.invitation_id, user_id: identity.user_id });
        Ok(pb::DeclineInvitationResponse { invitation: Some(shown_invitation(&invitation, unit.now)) })
    }
}
