//! What people do with members and invitations, in words for the tests of them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tenantry::pb;

use super::person::{Person, answer, by_token};
use super::refused::Refused;
use super::world::World;

impl World {
    /// Stops the servers and starts one with another role policy on the same database.
    pub(crate) async fn switches_policy_to(&mut self, policy: &str) {
        for server in self.servers.drain(..) {
            server.stop.cancel();
            drop(server.channel);
            let stopped = tokio::time::timeout(Duration::from_secs(20), server.task).await;
            stopped.expect("a server that stops").expect("no panic").expect("no failure");
        }
        policy.clone_into(&mut self.setup.policy);
        self.start_server().await;
    }

    /// Changes rows behind the service's back.
    pub(crate) async fn tampers(&self, sql: &str) {
        self.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The time on the wire.
    pub(crate) fn wire_time(&self) -> prost_types::Timestamp {
        wire(self.clock.now())
    }

    /// The time on the wire, so much later.
    pub(crate) fn wire_time_in(&self, time: TimeDelta) -> prost_types::Timestamp {
        wire(self.clock.now() + time)
    }
}

fn wire(time: DateTime<Utc>) -> prost_types::Timestamp {
    tenantry::fields::timestamp(time)
}

/// The reference of an invitation by its ids.
pub(crate) fn by_name(invitation: &pb::Invitation) -> pb::InvitationReference {
    use pb::invitation_reference::Reference;
    let name = pb::InvitationName {
        organization_id: invitation.organization_id.clone(),
        invitation_id: invitation.invitation_id.clone(),
    };
    pb::InvitationReference { reference: Some(Reference::Name(name)) }
}

impl Person {
    /// The same user with another verified address; with none when it is empty.
    pub(crate) fn with_email(&self, email: &str) -> Self {
        let mut person = self.clone();
        email.clone_into(&mut person.email);
        person.identity.0.retain(|(key, _)| *key != "x-user-email");
        if !email.is_empty() {
            person.identity.0.insert(1, ("x-user-email", email.to_owned()));
        }
        person
    }

    /// One invitation, looked up.
    pub(crate) async fn invitation(&self, invitation_id: &str) -> Result<pb::Invitation, Refused> {
        let request = pb::GetInvitationRequest {
            organization_id: self.organization_id.clone(),
            invitation_id: invitation_id.into(),
        };
        answer(self.members().get_invitation(request).await).map(|answer| answer.invitation.expect("an invitation"))
    }

    /// The addresses of the invitations in these states, newest first.
    pub(crate) async fn invitations(&self, states: &[pb::InvitationState]) -> Vec<String> {
        let request = pb::ListInvitationsRequest {
            organization_id: self.organization_id.clone(),
            states: states.iter().map(|state| i32::from(*state)).collect(),
            ..Default::default()
        };
        let answer = answer(self.members().list_invitations(request).await).expect("listed");
        answer.invitations.into_iter().map(|invitation| invitation.email).collect()
    }

    /// Resends an invitation, or is refused.
    pub(crate) async fn tries_to_resend(&self, invitation_id: &str) -> Result<pb::ResendInvitationResponse, Refused> {
        let request = pb::ResendInvitationRequest {
            organization_id: self.organization_id.clone(),
            invitation_id: invitation_id.into(),
            ..Default::default()
        };
        answer(self.members().resend_invitation(request).await)
    }

    /// Cancels invitations, or is refused.
    pub(crate) async fn tries_to_cancel(&self, invitation_ids: &[&str]) -> Result<Vec<pb::Invitation>, Refused> {
        let request = pb::CancelInvitationsRequest {
            organization_id: self.organization_id.clone(),
            invitation_ids: invitation_ids.iter().map(|id| (*id).to_owned()).collect(),
            ..Default::default()
        };
        answer(self.members().cancel_invitations(request).await).map(|answer| answer.invitations)
    }

    /// Accepts by the invitation's ids, or is refused.
    pub(crate) async fn tries_to_accept_by_name(&self, invitation: &pb::Invitation) -> Result<pb::Member, Refused> {
        let request = pb::AcceptInvitationRequest { invitation: Some(by_name(invitation)), ..Default::default() };
        answer(self.members().accept_invitation(request).await).map(|answer| answer.member.expect("a member"))
    }

    /// Declines by token, or is refused.
    pub(crate) async fn tries_to_decline(&self, token: &str) -> Result<pb::Invitation, Refused> {
        let request = pb::DeclineInvitationRequest { invitation: Some(by_token(token)), ..Default::default() };
        answer(self.members().decline_invitation(request).await).map(|answer| answer.invitation.expect("an invitation"))
    }

    /// A page of the invitations that wait for this user.
    pub(crate) async fn received(&self, page_size: i32, page_token: &str) -> pb::ListReceivedInvitationsResponse {
        let request = pb::ListReceivedInvitationsRequest { page_size, page_token: page_token.into() };
        answer(self.members().list_received_invitations(request).await).expect("listed")
    }

    /// Gets a member, or is refused.
    pub(crate) async fn member(&self, user_id: &str) -> Result<pb::Member, Refused> {
        let request = pb::GetMemberRequest { organization_id: self.organization_id.clone(), user_id: user_id.into() };
        answer(self.members().get_member(request).await).map(|answer| answer.member.expect("a member"))
    }

    /// Gives many members other roles, or is refused.
    pub(crate) async fn tries_to_change_roles(&self, updates: &[(&str, &str)]) -> Result<Vec<pb::Member>, Refused> {
        let update = |(user_id, role): &(&str, &str)| pb::MemberRoleUpdate {
            user_id: (*user_id).to_owned(),
            role: (*role).to_owned(),
            etag: String::new(),
        };
        let request = pb::BatchUpdateMemberRolesRequest {
            organization_id: self.organization_id.clone(),
            updates: updates.iter().map(update).collect(),
            ..Default::default()
        };
        answer(self.members().batch_update_member_roles(request).await).map(|answer| answer.members)
    }

    /// Removes many members, or is refused.
    pub(crate) async fn tries_to_remove_all(&self, user_ids: &[&str]) -> Result<Vec<pb::Member>, Refused> {
        let request = pb::BatchRemoveMembersRequest {
            organization_id: self.organization_id.clone(),
            user_ids: user_ids.iter().map(|id| (*id).to_owned()).collect(),
            ..Default::default()
        };
        answer(self.members().batch_remove_members(request).await).map(|answer| answer.members)
    }

    /// Suspends a member, or is refused.
    pub(crate) async fn tries_to_suspend(&self, user_id: &str) -> Result<pb::Member, Refused> {
        let request = pb::SuspendMemberRequest {
            organization_id: self.organization_id.clone(),
            user_id: user_id.into(),
            ..Default::default()
        };
        answer(self.members().suspend_member(request).await).map(|answer| answer.member.expect("a member"))
    }

    /// Reactivates a member, or is refused.
    pub(crate) async fn tries_to_reactivate(&self, user_id: &str) -> Result<pb::Member, Refused> {
        let request = pb::ReactivateMemberRequest {
            organization_id: self.organization_id.clone(),
            user_id: user_id.into(),
            ..Default::default()
        };
        answer(self.members().reactivate_member(request).await).map(|answer| answer.member.expect("a member"))
    }

    /// Hands the top role on, or is refused.
    pub(crate) async fn tries_to_transfer(
        &self,
        user_id: &str,
        own_role: &str,
    ) -> Result<pb::TransferOwnershipResponse, Refused> {
        let request = pb::TransferOwnershipRequest {
            organization_id: self.organization_id.clone(),
            user_id: user_id.into(),
            own_role: own_role.into(),
            ..Default::default()
        };
        answer(self.members().transfer_ownership(request).await)
    }

    /// Says, being a service, that a member signed in; or is refused.
    pub(crate) async fn tries_to_record(&self, sign_in: pb::RecordSignInRequest) -> Result<pb::Member, Refused> {
        answer(self.members().record_sign_in(sign_in).await).map(|answer| answer.member.expect("a member"))
    }

    /// A page of members, or is refused.
    pub(crate) async fn tries_to_list(
        &self,
        request: &pb::ListMembersRequest,
    ) -> Result<pb::ListMembersResponse, Refused> {
        let request = pb::ListMembersRequest { organization_id: self.organization_id.clone(), ..request.clone() };
        answer(self.members().list_members(request).await)
    }

    /// Deletes the organization.
    pub(crate) async fn deletes_organization(&self) {
        let request =
            pb::DeleteOrganizationRequest { organization_id: self.organization_id.clone(), ..Default::default() };
        answer(self.organizations().delete_organization(request).await).expect("deleted");
    }
}
