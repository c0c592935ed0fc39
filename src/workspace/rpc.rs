//! WorkspaceService on the wire.

use std::sync::Arc;

use crate::app::App;
use crate::forward::forward;
use crate::operation;
use crate::pb::workspace_service_server::WorkspaceService;

/// WorkspaceService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

forward! { WorkspaceService:
    create_workspace(CreateWorkspaceRequest) -> CreateWorkspaceResponse: operation::unwritten;
    get_workspace(GetWorkspaceRequest) -> GetWorkspaceResponse: operation::unwritten;
    lookup_room(LookupRoomRequest) -> LookupRoomResponse: operation::unwritten;
    list_workspaces(ListWorkspacesRequest) -> ListWorkspacesResponse: operation::unwritten;
    update_workspace(UpdateWorkspaceRequest) -> UpdateWorkspaceResponse: operation::unwritten;
    delete_workspace(DeleteWorkspaceRequest) -> DeleteWorkspaceResponse: operation::unwritten;
    list_workspace_members(ListWorkspaceMembersRequest) -> ListWorkspaceMembersResponse: operation::unwritten;
    set_member_workspaces(SetMemberWorkspacesRequest) -> SetMemberWorkspacesResponse: operation::unwritten;
}
