//! People and services, as the tests tell of them: each has an identity and speaks to a server with it.

use tenantry::pb;
use tenantry::pb::billing_service_client::BillingServiceClient;
use tenantry::pb::delivery_service_client::DeliveryServiceClient;
use tenantry::pb::event_service_client::EventServiceClient;
use tenantry::pb::membership_service_client::MembershipServiceClient;
use tenantry::pb::monitoring_service_client::MonitoringServiceClient;
use tenantry::pb::organization_service_client::OrganizationServiceClient;
use tenantry::pb::webhook_service_client::WebhookServiceClient;
use tenantry::pb::workspace_service_client::WorkspaceServiceClient;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::refused::{Refused, refused};
use super::watch::Watch;

/// Adds the identity to each call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity(pub(crate) Vec<(&'static str, String)>);

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (key, value) in &self.0 {
            let value: MetadataValue<Ascii> = value.parse().expect("a value that metadata can carry");
            request.metadata_mut().append(MetadataKey::from_static(key), value);
        }
        Ok(request)
    }
}

type Identified = InterceptedService<Channel, Identity>;

/// Somebody who calls.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) channel: Channel,
    /// The user's id, or the service's name.
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) organization_id: String,
    pub(crate) role: String,
    /// What comes with each call.
    pub(crate) identity: Identity,
}

impl Person {
    /// A user acting for themselves.
    pub(crate) fn new(channel: Channel, name: &str) -> Self {
        let email = format!("{name}@example.com");
        let identity = Identity(vec![("x-user-id", name.to_owned()), ("x-user-email", email.clone())]);
        Self { channel, name: name.to_owned(), email, organization_id: String::new(), role: String::new(), identity }
    }

    /// A trusted service.
    pub(crate) fn service(channel: Channel, name: &str) -> Self {
        let identity = Identity(vec![("x-service", name.to_owned())]);
        let (email, organization_id, role) = (String::new(), String::new(), String::new());
        Self { channel, name: name.to_owned(), email, organization_id, role, identity }
    }

    /// The same user acting in an organization, with the role that their identity claims.
    pub(crate) fn acting_in(&self, organization_id: &str, role: &str) -> Self {
        let mut person = Self::new(self.channel.clone(), &self.name);
        person.email.clone_from(&self.email);
        person.identity.0[1].1.clone_from(&self.email);
        person.identity.0.push(("x-org-id", organization_id.to_owned()));
        person.identity.0.push(("x-org-role", role.to_owned()));
        organization_id.clone_into(&mut person.organization_id);
        role.clone_into(&mut person.role);
        person
    }

    /// The same identity, speaking to another server.
    pub(crate) fn at(&self, channel: Channel) -> Self {
        Self { channel, ..self.clone() }
    }

    pub(crate) fn organizations(&self) -> OrganizationServiceClient<Identified> {
        OrganizationServiceClient::with_interceptor(self.channel.clone(), self.identity.clone())
    }

    pub(crate) fn members(&self) -> MembershipServiceClient<Identified> {
        MembershipServiceClient::with_interceptor(self.channel.clone(), self.identity.clone())
    }

    pub(crate) fn workspaces(&self) -> WorkspaceServiceClient<Identified> {
        WorkspaceServiceClient::with_interceptor(self.channel.clone(), self.identity.clone())
    }

    pub(crate) fn monitoring(&self) -> MonitoringServiceClient<Identified> {
        MonitoringServiceClient::with_interceptor(self.channel.clone(), self.identity.clone())
    }

    pub(crate) fn billing(&self) -> BillingServiceClient<Identified> {
        BillingServiceClient::with_interceptor(self.channel.clone(), self.identity.clone())
    }

    pub(crate) fn delivery(&self) -> DeliveryServiceClient<Identified> {
        DeliveryServiceClient::with_interceptor(self.channel.clone(), self.identity.clone())
    }

    pub(crate) fn webhooks(&self) -> WebhookServiceClient<Identified> {
        WebhookServiceClient::with_interceptor(self.channel.clone(), self.identity.clone())
    }

    pub(crate) fn log(&self) -> EventServiceClient<Identified> {
        EventServiceClient::with_interceptor(self.channel.clone(), self.identity.clone())
    }

    /// A page of the log, or is refused.
    pub(crate) async fn tries_to_list_events(
        &self,
        request: pb::ListEventsRequest,
    ) -> Result<pb::ListEventsResponse, Refused> {
        let request = pb::ListEventsRequest { organization_id: self.organization_id.clone(), ..request };
        answer(self.log().list_events(request).await)
    }

    /// Watches the organization, or is refused; the first message has come then.
    pub(crate) async fn watches(&self, request: pb::WatchEventsRequest) -> Result<Watch, Refused> {
        Watch::begin(self, pb::WatchEventsRequest { organization_id: self.organization_id.clone(), ..request }).await
    }

    /// Creates an organization, and acts in it from then on with the top role.
    pub(crate) async fn founds(&self, name: &str) -> Self {
        let request = pb::CreateOrganizationRequest { name: name.into(), ..Default::default() };
        let answer = self.organizations().create_organization(request).await.expect("founded").into_inner();
        let organization = answer.organization.expect("an organization");
        self.acting_in(&organization.organization_id, &answer.role)
    }

    /// Invites addresses to a role, and gives what was sent.
    pub(crate) async fn invites(&self, emails: &[&str], role: &str) -> Vec<pb::InvitedMember> {
        self.tries_to_invite(emails, role).await.expect("invited")
    }

    /// Invites addresses to a role, or is refused.
    pub(crate) async fn tries_to_invite(&self, emails: &[&str], role: &str) -> Result<Vec<pb::InvitedMember>, Refused> {
        let request = pb::InviteMembersRequest {
            organization_id: self.organization_id.clone(),
            emails: emails.iter().map(|email| (*email).to_owned()).collect(),
            role: role.into(),
            ..Default::default()
        };
        answer(self.members().invite_members(request).await).map(|answer| answer.invited)
    }

    /// Accepts by token, and acts in the organization from then on.
    pub(crate) async fn accepts(&self, token: &str) -> Self {
        let member = self.tries_to_accept(token).await.expect("accepted");
        self.acting_in(&member.organization_id, &member.role)
    }

    /// Accepts by token, or is refused.
    pub(crate) async fn tries_to_accept(&self, token: &str) -> Result<pb::Member, Refused> {
        let request = pb::AcceptInvitationRequest { invitation: Some(by_token(token)), ..Default::default() };
        let accepted = answer(self.members().accept_invitation(request).await)?;
        Ok(accepted.member.expect("a member"))
    }

    /// Invites somebody and has them accept: the short way to a member.
    pub(crate) async fn brings(&self, name: &str, role: &str) -> Self {
        let guest = Self::new(self.channel.clone(), name);
        let invited = self.invites(&[&guest.email], role).await;
        guest.accepts(&invited[0].token).await
    }

    /// "3 / 4 seats".
    pub(crate) async fn seats(&self) -> String {
        let request = pb::GetSeatUsageRequest { organization_id: self.organization_id.clone(), time: None };
        let usage = self.billing().get_seat_usage(request).await.expect("seats").into_inner();
        usage.seat_usage.expect("usage").summary
    }

    /// Gives a member another role, or is refused.
    pub(crate) async fn tries_to_change_role(&self, user_id: &str, role: &str) -> Result<pb::Member, Refused> {
        let request = pb::UpdateMemberRoleRequest {
            organization_id: self.organization_id.clone(),
            user_id: user_id.into(),
            role: role.into(),
            ..Default::default()
        };
        answer(self.members().update_member_role(request).await).map(|answer| answer.member.expect("a member"))
    }

    /// Removes a member, or is refused.
    pub(crate) async fn tries_to_remove(&self, user_id: &str) -> Result<pb::Member, Refused> {
        let request = pb::RemoveMemberRequest {
            organization_id: self.organization_id.clone(),
            user_id: user_id.into(),
            ..Default::default()
        };
        answer(self.members().remove_member(request).await).map(|answer| answer.member.expect("a member"))
    }

    /// Leaves, or is refused.
    pub(crate) async fn tries_to_leave(&self) -> Result<pb::Member, Refused> {
        let request =
            pb::LeaveOrganizationRequest { organization_id: self.organization_id.clone(), ..Default::default() };
        answer(self.members().leave_organization(request).await).map(|answer| answer.member.expect("a member"))
    }
}

/// The reference of an invitation by its token.
pub(crate) fn by_token(token: &str) -> pb::InvitationReference {
    use pb::invitation_reference::Reference;
    pb::InvitationReference { reference: Some(Reference::Token(token.to_owned())) }
}

/// The answer, or what the refusal says. A refusal that is not well formed ends the test.
pub(crate) fn answer<T>(result: Result<Response<T>, Status>) -> Result<T, Refused> {
    result.map(Response::into_inner).map_err(|status| refused(&status))
}
