//! UpdateWorkspace.

use uuid::Uuid;

use super::settings::SettingsUpdate;
use super::{missing, shown};
use crate::app::App;
use crate::entity::workspace;
use crate::error::{Error, OnConstraint as _};
use crate::event::{Change, FieldChange, set};
use crate::fields::Fields;
use crate::operation::{Command, Member, Unit};
use crate::workspace::store;
use crate::{etag, pb, text};

const MOST_PATHS: usize = 10;

/// The new values of the fields in the mask.
#[derive(Default)]
pub(super) struct UpdateWorkspace {
    workspace_id: Uuid,
    name: Option<String>,
    description: Option<String>,
    slug: Option<String>,
    settings: SettingsUpdate,
    /// Whether the mask names a field that only rooms have.
    for_rooms: bool,
    etag: String,
}

impl Command for UpdateWorkspace {
    type Request = pb::UpdateWorkspaceRequest;
    type Response = pb::UpdateWorkspaceResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let workspace_id = fields.uuid("workspace_id", &request.workspace_id);
        let mut update = Self { workspace_id, etag: request.etag.clone(), ..Self::default() };
        let new = request.workspace.clone().unwrap_or_default();
        let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        if paths.is_empty() {
            fields.fault("update_mask", "must name at least one of name, description, slug, room_settings");
        }
        if paths.len() > MOST_PATHS {
            fields.fault("update_mask", "has more than 10 paths");
        }
        for path in paths.iter().take(MOST_PATHS) {
            update.read(&mut fields, path, &new);
        }
        fields.done(update)
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let found = store::find(unit.transaction(), unit.scope(), self.workspace_id, None).await?;
        let mut row = found.ok_or_else(|| missing(self.workspace_id))?;
        self.check_kind(&row)?;
        etag::check(&self.etag, row.version)?;
        let changes = self.apply(&mut row);
        if changes.is_empty() {
            return Ok(pb::UpdateWorkspaceResponse { workspace: Some(shown(&row)) });
        }
        row.updated_at = unit.now;
        row.version += 1;
        store::update_fields(unit.transaction(), &row).await.on_constraint("workspace_room_slug_unique", || {
            Error::RoomSlugTaken { slug: row.slug.clone().unwrap_or_default() }
        })?;
        unit.record(Change::WorkspaceUpdated { workspace_id: row.workspace_id, changes });
        Ok(pb::UpdateWorkspaceResponse { workspace: Some(shown(&row)) })
    }
}

impl UpdateWorkspace {
    /// Reads the field of `new` that a path of the mask names.
    fn read(&mut self, fields: &mut Fields, path: &str, new: &pb::Workspace) {
        let settings = new.room_settings.unwrap_or_default();
        self.for_rooms |= path.starts_with("room_settings") || path == "slug";
        match path {
            "name" => self.name = Some(fields.line("workspace.name", &new.name, 1..=100)),
            "description" => {
                self.description = Some(fields.paragraph("workspace.description", &new.description, 1000));
            }
            "slug" => self.slug = Some(fields.slug("workspace.slug", &new.slug)),
            "room_settings" => self.settings = SettingsUpdate::all(fields, "workspace.room_settings", &settings),
            path => {
                let name = path.strip_prefix("room_settings.").unwrap_or_default();
                if !self.settings.read(fields, "workspace.room_settings", name, &settings) {
                    let description =
                        "can name name, description, slug, room_settings and fields of room_settings only";
                    fields.fault("update_mask", description);
                }
            }
        }
    }

    /// A kind never changes, so that what only a room has is as wrong of a workspace as a field that there is not.
    fn check_kind(&self, row: &workspace::Model) -> Result<(), Error> {
        if self.for_rooms && row.kind != workspace::Kind::Room {
            let description = "can name name and description only: this is a workspace, not a room";
            return Err(Error::of_field("update_mask", description));
        }
        Ok(())
    }

    /// Sets the fields, and gives those that were another before.
    fn apply(&self, row: &mut workspace::Model) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        set(&mut changes, "name", self.name.as_ref(), &mut row.name);
        row.sort_name = text::fold(&row.name);
        set(&mut changes, "description", self.description.as_ref(), &mut row.description);
        if let Some(slug) = &mut row.slug {
            set(&mut changes, "slug", self.slug.as_ref(), slug);
        }
        if let Some(settings) = &mut row.room_settings {
            self.settings.apply(settings, &mut changes);
        }
        changes
    }
}
