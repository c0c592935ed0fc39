//! DeleteWorkspace.

use uuid::Uuid;

use super::{kind_name, missing};
use crate::app::App;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::operation::{Command, Member, Unit};
use crate::workspace::{assignments, store};
use crate::{etag, pb};

pub(super) struct DeleteWorkspace {
    workspace_id: Uuid,
    etag: String,
}

impl Command for DeleteWorkspace {
    type Request = pb::DeleteWorkspaceRequest;
    type Response = pb::DeleteWorkspaceResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let workspace_id = fields.uuid("workspace_id", &request.workspace_id);
        fields.done(Self { workspace_id, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let found = store::find(unit.transaction(), unit.scope(), self.workspace_id, None).await?;
        let row = found.ok_or_else(|| missing(self.workspace_id))?;
        etag::check(&self.etag, row.version)?;
        let unassigned_members = assignments::delete_of_workspace(unit, row.workspace_id).await?;
        store::delete(unit.transaction(), &row).await?;
        unit.record(Change::WorkspaceDeleted {
            workspace_id: row.workspace_id,
            kind: kind_name(row.kind),
            name: row.name,
            unassigned_members,
        });
        Ok(pb::DeleteWorkspaceResponse { unassigned_members })
    }
}
