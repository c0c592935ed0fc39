//! WorkspaceService on the wire: a file for each family, and how workspaces are named and shown.

mod assign;
mod create;
mod delete;
mod read;
mod settings;
mod update;

use std::sync::Arc;

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::store;
use crate::app::App;
use crate::auth::scope::Scope;
use crate::entity::workspace::{self, Kind};
use crate::error::Error;
use crate::etag;
use crate::fields::{Fields, timestamp};
use crate::forward::forward;
use crate::operation::{self, Reader};
use crate::pb;
use crate::pb::workspace_service_server::WorkspaceService;

/// WorkspaceService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

forward! { WorkspaceService:
    create_workspace(CreateWorkspaceRequest) -> CreateWorkspaceResponse: operation::change::<create::CreateWorkspace>;
    get_workspace(GetWorkspaceRequest) -> GetWorkspaceResponse: operation::read::<read::GetWorkspace>;
    lookup_room(LookupRoomRequest) -> LookupRoomResponse: read::lookup_room;
    list_workspaces(ListWorkspacesRequest) -> ListWorkspacesResponse: operation::read::<read::ListWorkspaces>;
    update_workspace(UpdateWorkspaceRequest) -> UpdateWorkspaceResponse: operation::change::<update::UpdateWorkspace>;
    delete_workspace(DeleteWorkspaceRequest) -> DeleteWorkspaceResponse: operation::change::<delete::DeleteWorkspace>;
    list_workspace_members(ListWorkspaceMembersRequest) -> ListWorkspaceMembersResponse: operation::read::<assign::ListWorkspaceMembers>;
    set_member_workspaces(SetMemberWorkspacesRequest) -> SetMemberWorkspacesResponse: operation::change::<assign::SetMemberWorkspaces>;
}

/// The workspace as the wire shows it.
fn shown(row: &workspace::Model) -> pb::Workspace {
    let kind = match row.kind {
        Kind::Workspace => pb::WorkspaceKind::Workspace,
        Kind::Room => pb::WorkspaceKind::Room,
    };
    pb::Workspace {
        organization_id: row.organization_id.to_string(),
        workspace_id: row.workspace_id.to_string(),
        kind: kind.into(),
        name: row.name.clone(),
        description: row.description.clone(),
        slug: row.slug.clone().unwrap_or_default(),
        room_settings: row.room_settings.as_ref().map(settings::shown),
        create_time: Some(timestamp(row.created_at)),
        update_time: Some(timestamp(row.updated_at)),
        etag: etag::of(row.version),
    }
}

/// As the log names it.
fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Workspace => "workspace".to_owned(),
        Kind::Room => "room".to_owned(),
    }
}

/// Reads a kind; none when it is unspecified or wrong.
fn kind(fields: &mut Fields, number: i32) -> Option<Kind> {
    match pb::WorkspaceKind::try_from(number) {
        Ok(pb::WorkspaceKind::Workspace) => Some(Kind::Workspace),
        Ok(pb::WorkspaceKind::Room) => Some(Kind::Room),
        Ok(pb::WorkspaceKind::Unspecified) => None,
        Err(_) => {
            fields.fault("kind", "must be WORKSPACE_KIND_WORKSPACE or WORKSPACE_KIND_ROOM");
            None
        }
    }
}

fn missing(workspace_id: Uuid) -> Error {
    Error::WorkspaceNotFound { workspace_id: workspace_id.to_string() }
}

/// The user whose workspaces alone the caller sees; none for who sees all.
fn only_of<'a>(reader: &'a Reader<'_>) -> Option<&'a str> {
    let own = reader.membership.as_ref().map(|own| own.user_id.as_str());
    own.filter(|_| !reader.sees(pb::Permission::WorkspacesListAll))
}

/// Finds a workspace that the caller may see.
pub(crate) async fn find_seen(reader: &Reader<'_>, workspace_id: Uuid) -> Result<Option<workspace::Model>, Error> {
    Ok(store::find(reader.connection(), reader.scope, workspace_id, only_of(reader)).await?)
}

/// Refuses workspaces that there are not, all of them at once by their indexes in the field.
pub(crate) async fn refuse_unknown(
    connection: &impl ConnectionTrait,
    scope: Scope,
    field: &'static str,
    named: &[(usize, Uuid)],
) -> Result<(), Error> {
    let ids: Vec<Uuid> = named.iter().map(|(_, id)| *id).collect();
    let existing = store::list_existing(connection, scope, &ids).await?;
    let unknown = named.iter().filter(|(_, id)| !existing.contains(id));
    let faults: Vec<(usize, Error)> = unknown.map(|(index, id)| (*index, missing(*id))).collect();
    Error::refuse_items(field, faults)
}
