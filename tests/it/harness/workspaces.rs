//! What people do with workspaces and rooms.

use tenantry::pb::{self, WorkspaceKind};

use super::person::{Person, answer};
use super::refused::Refused;

impl Person {
    /// Creates a workspace or a room, or is refused.
    pub(crate) async fn tries_to_open(&self, request: pb::CreateWorkspaceRequest) -> Result<pb::Workspace, Refused> {
        let request = pb::CreateWorkspaceRequest { organization_id: self.organization_id.clone(), ..request };
        let created = answer(self.workspaces().create_workspace(request).await)?;
        Ok(created.workspace.expect("a workspace"))
    }

    /// Creates a workspace, and gives its id.
    pub(crate) async fn opens(&self, name: &str) -> String {
        let request = pb::CreateWorkspaceRequest { name: name.into(), ..Default::default() };
        self.tries_to_open(request).await.expect("created").workspace_id
    }

    /// Creates a room with this join slug, made from the name when it is empty; or is refused.
    pub(crate) async fn tries_to_open_room(&self, name: &str, slug: &str) -> Result<pb::Workspace, Refused> {
        let kind = WorkspaceKind::Room.into();
        let (name, slug) = (name.into(), slug.into());
        self.tries_to_open(pb::CreateWorkspaceRequest { kind, name, slug, ..Default::default() }).await
    }

    /// Gets a workspace, or is refused.
    pub(crate) async fn workspace(&self, workspace_id: &str) -> Result<pb::Workspace, Refused> {
        let organization_id = self.organization_id.clone();
        let request = pb::GetWorkspaceRequest { organization_id, workspace_id: workspace_id.into() };
        let found = answer(self.workspaces().get_workspace(request).await)?;
        Ok(found.workspace.expect("a workspace"))
    }

    /// Finds a room by its join slug, being a service; or is refused.
    pub(crate) async fn tries_to_look_up(&self, slug: &str) -> Result<pb::Workspace, Refused> {
        let found = answer(self.workspaces().lookup_room(pb::LookupRoomRequest { slug: slug.into() }).await)?;
        Ok(found.workspace.expect("a room"))
    }

    /// A page of workspaces, or a refusal.
    pub(crate) async fn tries_to_list_workspaces(
        &self,
        request: &pb::ListWorkspacesRequest,
    ) -> Result<pb::ListWorkspacesResponse, Refused> {
        let organization_id = self.organization_id.clone();
        let request = pb::ListWorkspacesRequest { organization_id, ..request.clone() };
        answer(self.workspaces().list_workspaces(request).await)
    }

    /// The names of the workspaces that this person is shown.
    pub(crate) async fn workspace_names(&self) -> Vec<String> {
        let listed = self.tries_to_list_workspaces(&pb::ListWorkspacesRequest::default()).await.expect("listed");
        listed.workspaces.into_iter().map(|workspace| workspace.name).collect()
    }

    /// Changes the fields of a mask, or is refused. The etag and the id are those of `workspace`.
    pub(crate) async fn tries_to_update_workspace(
        &self,
        mask: &[&str],
        workspace: pb::Workspace,
    ) -> Result<pb::Workspace, Refused> {
        let paths = mask.iter().map(|path| (*path).to_owned()).collect();
        let request = pb::UpdateWorkspaceRequest {
            organization_id: self.organization_id.clone(),
            workspace_id: workspace.workspace_id.clone(),
            etag: workspace.etag.clone(),
            workspace: Some(workspace),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        let updated = answer(self.workspaces().update_workspace(request).await)?;
        Ok(updated.workspace.expect("a workspace"))
    }

    /// Deletes a workspace and says how many were assigned to it, or is refused.
    pub(crate) async fn tries_to_close(&self, workspace_id: &str) -> Result<i64, Refused> {
        let request = pb::DeleteWorkspaceRequest {
            organization_id: self.organization_id.clone(),
            workspace_id: workspace_id.into(),
            ..Default::default()
        };
        answer(self.workspaces().delete_workspace(request).await).map(|answer| answer.unassigned_members)
    }

    /// Assigns a member to these workspaces and no others, or is refused.
    pub(crate) async fn tries_to_assign(&self, user_id: &str, ids: &[&str]) -> Result<Vec<String>, Refused> {
        use pb::set_member_workspaces_request::Change;
        self.tries_to_move(user_id, Some(Change::All(pb::WorkspaceIds { workspace_ids: owned(ids) }))).await
    }

    /// Assigns a member to some workspaces more and to others no longer, or is refused.
    pub(crate) async fn tries_to_shift(
        &self,
        user_id: &str,
        add: &[&str],
        remove: &[&str],
    ) -> Result<Vec<String>, Refused> {
        use pb::set_member_workspaces_request::Change;
        let delta = pb::WorkspaceDelta { add_workspace_ids: owned(add), remove_workspace_ids: owned(remove) };
        self.tries_to_move(user_id, Some(Change::Delta(delta))).await
    }

    /// Changes a member's assignments, or is refused.
    pub(crate) async fn tries_to_move(
        &self,
        user_id: &str,
        change: Option<pb::set_member_workspaces_request::Change>,
    ) -> Result<Vec<String>, Refused> {
        let request = pb::SetMemberWorkspacesRequest {
            organization_id: self.organization_id.clone(),
            user_id: user_id.into(),
            change,
            ..Default::default()
        };
        answer(self.workspaces().set_member_workspaces(request).await).map(|answer| answer.workspace_ids)
    }

    /// A page of the members of a workspace, or a refusal.
    pub(crate) async fn tries_to_list_workspace_members(
        &self,
        workspace_id: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListWorkspaceMembersResponse, Refused> {
        let request = pb::ListWorkspaceMembersRequest {
            organization_id: self.organization_id.clone(),
            workspace_id: workspace_id.into(),
            page_size,
            page_token: page_token.into(),
        };
        answer(self.workspaces().list_workspace_members(request).await)
    }

    /// Invites addresses to be members, and of these workspaces; or is refused.
    pub(crate) async fn tries_to_invite_to(
        &self,
        emails: &[&str],
        workspace_ids: &[&str],
    ) -> Result<Vec<pb::InvitedMember>, Refused> {
        let request = pb::InviteMembersRequest {
            organization_id: self.organization_id.clone(),
            emails: owned(emails),
            role: "member".into(),
            workspace_ids: owned(workspace_ids),
            ..Default::default()
        };
        answer(self.members().invite_members(request).await).map(|answer| answer.invited)
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
