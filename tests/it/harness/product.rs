//! What the back end of a product does with Tenantry beyond members and invitations, in words for the stories of products.

use tenantry::pb::{self, Permission};

use super::person::{Person, answer};
use super::refused::Refused;

impl Person {
    /// The head of the admin centre, or a refusal.
    pub(crate) async fn overview(&self) -> Result<pb::OrganizationOverview, Refused> {
        let request = pb::GetOrganizationOverviewRequest { organization_id: self.organization_id.clone() };
        answer(self.organizations().get_organization_overview(request).await)
            .map(|it| it.overview.expect("an overview"))
    }

    /// The settings, or a refusal.
    pub(crate) async fn settings(&self) -> Result<pb::OrganizationSettings, Refused> {
        let request = pb::GetOrganizationSettingsRequest { organization_id: self.organization_id.clone() };
        answer(self.organizations().get_organization_settings(request).await).map(|it| it.settings.expect("settings"))
    }

    /// Changes the settings that the mask names, or is refused.
    pub(crate) async fn tries_to_set(
        &self,
        mask: &[&str],
        settings: pb::OrganizationSettings,
    ) -> Result<pb::OrganizationSettings, Refused> {
        let request = pb::UpdateOrganizationSettingsRequest {
            organization_id: self.organization_id.clone(),
            settings: Some(settings),
            update_mask: Some(masked(mask)),
            ..Default::default()
        };
        let answered = answer(self.organizations().update_organization_settings(request).await)?;
        Ok(answered.settings.expect("settings"))
    }

    /// How the organization was used by day, or a refusal.
    pub(crate) async fn analytics(
        &self,
        granularity: pb::AnalyticsGranularity,
    ) -> Result<Vec<pb::AnalyticsPeriod>, Refused> {
        let request = pb::QueryAnalyticsRequest {
            organization_id: self.organization_id.clone(),
            granularity: granularity.into(),
            ..Default::default()
        };
        answer(self.organizations().query_analytics(request).await).map(|it| it.periods)
    }

    /// Makes a workspace or room, or is refused.
    pub(crate) async fn tries_to_make(&self, kind: pb::WorkspaceKind, name: &str) -> Result<pb::Workspace, Refused> {
        let request = pb::CreateWorkspaceRequest {
            organization_id: self.organization_id.clone(),
            kind: kind.into(),
            name: name.into(),
            ..Default::default()
        };
        answer(self.workspaces().create_workspace(request).await).map(|it| it.workspace.expect("a workspace"))
    }

    /// The names of the workspaces that this person sees, or that a user is assigned to; or a refusal.
    pub(crate) async fn workspaces_of(&self, user_id: &str) -> Result<Vec<String>, Refused> {
        let request = pb::ListWorkspacesRequest {
            organization_id: self.organization_id.clone(),
            user_id: user_id.into(),
            ..Default::default()
        };
        let listed = answer(self.workspaces().list_workspaces(request).await)?;
        Ok(listed.workspaces.into_iter().map(|workspace| workspace.name).collect())
    }

    /// Assigns a member to these workspaces and no others, or is refused.
    pub(crate) async fn tries_to_put_in(
        &self,
        user_id: &str,
        workspaces: &[&pb::Workspace],
    ) -> Result<Vec<String>, Refused> {
        use pb::set_member_workspaces_request::Change;
        let workspace_ids = workspaces.iter().map(|workspace| workspace.workspace_id.clone()).collect();
        let request = pb::SetMemberWorkspacesRequest {
            organization_id: self.organization_id.clone(),
            user_id: user_id.into(),
            change: Some(Change::All(pb::WorkspaceIds { workspace_ids })),
            ..Default::default()
        };
        answer(self.workspaces().set_member_workspaces(request).await).map(|it| it.workspace_ids)
    }

    /// Invites one address to a role and workspaces, or is refused.
    pub(crate) async fn tries_to_invite_into(
        &self,
        email: &str,
        role: &str,
        workspaces: &[&pb::Workspace],
    ) -> Result<pb::InvitedMember, Refused> {
        let request = pb::InviteMembersRequest {
            organization_id: self.organization_id.clone(),
            emails: vec![email.into()],
            role: role.into(),
            workspace_ids: workspaces.iter().map(|workspace| workspace.workspace_id.clone()).collect(),
            ..Default::default()
        };
        answer(self.members().invite_members(request).await).map(|mut it| it.invited.remove(0))
    }

    /// Whether Tenantry says that this person may do something.
    pub(crate) async fn may(&self, permission: Permission) -> bool {
        let request = pb::CheckPermissionsRequest {
            organization_id: self.organization_id.clone(),
            permissions: vec![permission.into()],
            ..Default::default()
        };
        let checked = answer(self.members().check_permissions(request).await).expect("checked");
        checked.checks[0].allowed
    }

    /// Which of these permissions this person has.
    pub(crate) async fn may_of(&self, permissions: &[Permission]) -> Vec<bool> {
        let mut allowed = Vec::new();
        for permission in permissions {
            allowed.push(self.may(*permission).await);
        }
        allowed
    }

    /// The list of users, pending ones among them, with what a search finds; or a refusal.
    pub(crate) async fn finds(&self, search: &str) -> Result<Vec<pb::Member>, Refused> {
        use pb::MemberState::{Active, Pending, Suspended};
        let request = pb::ListMembersRequest {
            search: search.into(),
            states: [Active, Suspended, Pending].map(i32::from).to_vec(),
            ..Default::default()
        };
        self.tries_to_list(&request).await.map(|it| it.members)
    }
}

/// A mask of these paths.
pub(crate) fn masked(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}
