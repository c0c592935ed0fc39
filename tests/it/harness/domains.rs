//! What people do with domains and by them.

use tenantry::pb::join_organization_response::Outcome;
use tenantry::pb::{self, JoinMode};

use super::person::{Person, answer};
use super::product::masked;
use super::refused::Refused;
use super::world::World;

/// What came of joining.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Joined {
    Member(pb::Member),
    Waiting(pb::JoinRequest),
}

impl Joined {
    pub(crate) fn member(self) -> pb::Member {
        match self {
            Self::Member(member) => member,
            Self::Waiting(request) => panic!("a request, no member: {request:?}"),
        }
    }

    pub(crate) fn request(self) -> pb::JoinRequest {
        match self {
            Self::Member(member) => panic!("a member, no request: {member:?}"),
            Self::Waiting(request) => request,
        }
    }
}

/// A request to change these fields of a domain's rule.
pub(crate) fn updating(domain: &str, mask: &[&str], mode: JoinMode, role: &str) -> pb::UpdateDomainRequest {
    let new =
        pb::Domain { domain: domain.into(), join_mode: mode.into(), join_role: role.into(), ..Default::default() };
    pb::UpdateDomainRequest { domain: Some(new), update_mask: Some(masked(mask)), ..Default::default() }
}

impl World {
    /// Sets the record that proves a claim.
    pub(crate) fn proves(&self, domain: &pb::Domain) {
        self.sets_txt(&domain.proof_record_name, &domain.proof_record_value);
    }

    /// Claims and proves a domain, and says how its people join.
    pub(crate) async fn opens(&self, owner: &Person, domain: &str, join_mode: JoinMode, role: &str) -> pb::Domain {
        self.proves(&owner.tries_to_claim(domain).await.expect("claimed"));
        owner.tries_to_verify(domain).await.expect("verified");
        owner.tries_to_open_domain(domain, join_mode, role).await.expect("opened")
    }
}

impl Person {
    /// Claims a domain, or is refused.
    pub(crate) async fn tries_to_claim(&self, domain: &str) -> Result<pb::Domain, Refused> {
        let request = pb::ClaimDomainRequest {
            organization_id: self.organization_id.clone(),
            domain: domain.into(),
            ..Default::default()
        };
        answer(self.organizations().claim_domain(request).await).map(|answer| answer.domain.expect("a domain"))
    }

    /// Verifies a domain, or is refused.
    pub(crate) async fn tries_to_verify(&self, domain: &str) -> Result<pb::Domain, Refused> {
        let request = pb::VerifyDomainRequest {
            organization_id: self.organization_id.clone(),
            domain: domain.into(),
            ..Default::default()
        };
        answer(self.organizations().verify_domain(request).await).map(|answer| answer.domain.expect("a domain"))
    }

    /// Says how the people of a domain join, and in which role unless it shall stay as it is, or is refused.
    pub(crate) async fn tries_to_open_domain(
        &self,
        domain: &str,
        mode: JoinMode,
        role: &str,
    ) -> Result<pb::Domain, Refused> {
        let mask: &[&str] = if role.is_empty() { &["join_mode"] } else { &["join_mode", "join_role"] };
        self.tries_to_update_domain(updating(domain, mask, mode, role)).await
    }

    /// Changes a domain's rule, or is refused.
    pub(crate) async fn tries_to_update_domain(&self, request: pb::UpdateDomainRequest) -> Result<pb::Domain, Refused> {
        let request = pb::UpdateDomainRequest { organization_id: self.organization_id.clone(), ..request };
        answer(self.organizations().update_domain(request).await).map(|answer| answer.domain.expect("a domain"))
    }

    /// Gives a domain up, or is refused.
    pub(crate) async fn tries_to_release(&self, domain: &str) -> Result<pb::Domain, Refused> {
        self.tries_to_release_as_of(domain, "").await
    }

    /// Gives a domain up if it still has this etag, or is refused.
    pub(crate) async fn tries_to_release_as_of(&self, domain: &str, etag: &str) -> Result<pb::Domain, Refused> {
        let request = pb::ReleaseDomainRequest {
            organization_id: self.organization_id.clone(),
            domain: domain.into(),
            etag: etag.into(),
            ..Default::default()
        };
        answer(self.organizations().release_domain(request).await).map(|answer| answer.domain.expect("a domain"))
    }

    /// The domains that the organization has claimed, or a refusal.
    pub(crate) async fn domains(&self) -> Result<Vec<pb::Domain>, Refused> {
        let request = pb::ListDomainsRequest { organization_id: self.organization_id.clone() };
        answer(self.organizations().list_domains(request).await).map(|answer| answer.domains)
    }

    /// The organizations that this user could join.
    pub(crate) async fn joinable(&self) -> Vec<pb::JoinableOrganization> {
        let request = pb::ListJoinableOrganizationsRequest {};
        answer(self.members().list_joinable_organizations(request).await).expect("organizations").organizations
    }

    /// Joins an organization by the domain of their address, or is refused.
    pub(crate) async fn tries_to_join(&self, organization_id: &str) -> Result<Joined, Refused> {
        let profile = pb::UserProfile { display_name: self.name.clone(), avatar_uri: String::new() };
        let request = pb::JoinOrganizationRequest {
            organization_id: organization_id.into(),
            profile: Some(profile),
            ..Default::default()
        };
        self.tries_to_join_by(request).await
    }

    /// Joins by this very request, or is refused.
    pub(crate) async fn tries_to_join_by(&self, request: pb::JoinOrganizationRequest) -> Result<Joined, Refused> {
        let joined = answer(self.members().join_organization(request).await)?;
        Ok(match joined.outcome.expect("an outcome") {
            Outcome::Member(member) => Joined::Member(member),
            Outcome::JoinRequest(request) => Joined::Waiting(request),
        })
    }

    /// Takes the request to join back, or is refused.
    pub(crate) async fn tries_to_withdraw(&self, organization_id: &str) -> Result<pb::JoinRequest, Refused> {
        let request = pb::WithdrawJoinRequestRequest { organization_id: organization_id.into(), ..Default::default() };
        let answered = answer(self.members().withdraw_join_request(request).await)?;
        Ok(answered.join_request.expect("a request"))
    }

    /// A page of the requests to join, or a refusal.
    pub(crate) async fn tries_to_list_requests(
        &self,
        states: &[pb::JoinRequestState],
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListJoinRequestsResponse, Refused> {
        let request = pb::ListJoinRequestsRequest {
            organization_id: self.organization_id.clone(),
            page_size,
            page_token: page_token.into(),
            states: states.iter().map(|state| i32::from(*state)).collect(),
        };
        answer(self.members().list_join_requests(request).await)
    }

    /// Who asks to join, in these states, the newest first.
    pub(crate) async fn asking(&self, states: &[pb::JoinRequestState]) -> Vec<String> {
        let listed = self.tries_to_list_requests(states, 0, "").await.expect("requests").join_requests;
        listed.into_iter().map(|request| request.user_id).collect()
    }

    /// Approves a request to join, or is refused.
    pub(crate) async fn tries_to_approve(
        &self,
        join_request_id: &str,
        role: &str,
    ) -> Result<pb::ApproveJoinRequestResponse, Refused> {
        let request = pb::ApproveJoinRequestRequest {
            organization_id: self.organization_id.clone(),
            join_request_id: join_request_id.into(),
            role: role.into(),
            ..Default::default()
        };
        answer(self.members().approve_join_request(request).await)
    }

    /// Declines a request to join, or is refused.
    pub(crate) async fn tries_to_turn_down(&self, join_request_id: &str) -> Result<pb::JoinRequest, Refused> {
        let request = pb::DeclineJoinRequestRequest {
            organization_id: self.organization_id.clone(),
            join_request_id: join_request_id.into(),
            ..Default::default()
        };
        let answered = answer(self.members().decline_join_request(request).await)?;
        Ok(answered.join_request.expect("a request"))
    }

    /// What the invitation behind a token offers, or a refusal.
    pub(crate) async fn tries_to_look_behind(&self, token: &str) -> Result<pb::ReceivedInvitation, Refused> {
        let request = pb::GetReceivedInvitationRequest { token: token.into() };
        let answered = answer(self.members().get_received_invitation(request).await)?;
        Ok(answered.invitation.expect("an invitation"))
    }
}
