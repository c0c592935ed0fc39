//! What people do with an organization and its subscription.

use tenantry::pb;

use super::person::{Person, answer};
use super::refused::Refused;

impl Person {
    /// Creates an organization, or is refused.
    pub(crate) async fn tries_to_create(
        &self,
        request: pb::CreateOrganizationRequest,
    ) -> Result<pb::CreateOrganizationResponse, Refused> {
        answer(self.organizations().create_organization(request).await)
    }

    /// Signs up or in: gets their own organization.
    pub(crate) async fn signs_in(&self) -> pb::EnsureDefaultOrganizationResponse {
        let request = pb::EnsureDefaultOrganizationRequest::default();
        answer(self.organizations().ensure_default_organization(request).await).expect("an organization")
    }

    /// Gets the organization, or is refused.
    pub(crate) async fn tries_to_get(&self) -> Result<pb::Organization, Refused> {
        let request = pb::GetOrganizationRequest { organization_id: self.organization_id.clone() };
        let answered = answer(self.organizations().get_organization(request).await)?;
        Ok(answered.organization.expect("an organization"))
    }

    /// The organization.
    pub(crate) async fn organization(&self) -> pb::Organization {
        self.tries_to_get().await.expect("the organization")
    }

    /// The switcher: slug and role of each organization.
    pub(crate) async fn switcher(&self) -> Vec<(String, String)> {
        let listed = self.memberships(false).await.into_iter();
        listed.map(|listed| (listed.organization.expect("an organization").slug, listed.role)).collect()
    }

    /// Everything that the switcher tells.
    pub(crate) async fn memberships(&self, show_deleted: bool) -> Vec<pb::OrganizationMembership> {
        let request = pb::ListOrganizationsRequest { show_deleted, ..Default::default() };
        answer(self.organizations().list_organizations(request).await).expect("organizations").memberships
    }

    /// Changes the fields of a mask, or is refused.
    pub(crate) async fn tries_to_update(
        &self,
        mask: &[&str],
        organization: pb::Organization,
    ) -> Result<pb::Organization, Refused> {
        let paths = mask.iter().map(|path| (*path).to_owned()).collect();
        let request = pb::UpdateOrganizationRequest {
            organization_id: self.organization_id.clone(),
            etag: organization.etag.clone(),
            organization: Some(organization),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        let answered = answer(self.organizations().update_organization(request).await)?;
        Ok(answered.organization.expect("an organization"))
    }

    /// Deletes the organization, or is refused.
    pub(crate) async fn tries_to_delete(&self) -> Result<pb::Organization, Refused> {
        let request =
            pb::DeleteOrganizationRequest { organization_id: self.organization_id.clone(), ..Default::default() };
        let answered = answer(self.organizations().delete_organization(request).await)?;
        Ok(answered.organization.expect("an organization"))
    }

    /// Takes the deletion back, or is refused.
    pub(crate) async fn tries_to_undelete(&self) -> Result<pb::Organization, Refused> {
        let request =
            pb::UndeleteOrganizationRequest { organization_id: self.organization_id.clone(), ..Default::default() };
        let answered = answer(self.organizations().undelete_organization(request).await)?;
        Ok(answered.organization.expect("an organization"))
    }

    /// The subscription, or a refusal.
    pub(crate) async fn subscription(&self) -> Result<pb::Subscription, Refused> {
        let request = pb::GetSubscriptionRequest { organization_id: self.organization_id.clone() };
        let answered = answer(self.billing().get_subscription(request).await)?;
        Ok(answered.subscription.expect("a subscription"))
    }

    /// Changes the number of seats, or is refused.
    pub(crate) async fn tries_to_set_seats(&self, seats: i64) -> Result<pb::Subscription, Refused> {
        let request = pb::UpdateSubscriptionRequest {
            organization_id: self.organization_id.clone(),
            seats: Some(seats),
            ..Default::default()
        };
        let answered = answer(self.billing().update_subscription(request).await)?;
        Ok(answered.subscription.expect("a subscription"))
    }

    /// Everybody whom the list of members names, by id and role.
    pub(crate) async fn members_and_roles(&self) -> Vec<(String, String)> {
        let request = pb::ListMembersRequest { organization_id: self.organization_id.clone(), ..Default::default() };
        let listed = answer(self.members().list_members(request).await).expect("members").members;
        listed.into_iter().map(|member| (member.user_id, member.role)).collect()
    }
}

/// The id of an invitation that was sent.
pub(crate) fn id_of(invited: &pb::InvitedMember) -> &str {
    &invited.invitation.as_ref().expect("an invitation").invitation_id
}
