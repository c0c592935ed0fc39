//! CreateWorkspace.

use super::settings::SettingsUpdate;
use super::{kind_name, shown};
use crate::app::App;
use crate::entity::workspace::{self, Kind, RoomSettings};
use crate::error::{Error, OnConstraint as _};
use crate::event::Change;
use crate::fields::Fields;
use crate::operation::{Command, Member, Unit};
use crate::organization::rules::slug_like;
use crate::workspace::{rules, store};
use crate::{id, pb, text};

/// What a new workspace is to be.
pub(super) struct CreateWorkspace {
    kind: Kind,
    name: String,
    description: String,
    /// None when it is to be made from the name, if it is a room.
    slug: Option<String>,
    settings: SettingsUpdate,
}

impl Command for CreateWorkspace {
    type Request = pb::CreateWorkspaceRequest;
    type Response = pb::CreateWorkspaceResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let kind = super::kind(&mut fields, request.kind).unwrap_or(Kind::Workspace);
        let name = fields.line("name", &request.name, 1..=100);
        let description = fields.paragraph("description", &request.description, 1000);
        let (mut room_slug, mut settings) = (None, SettingsUpdate::default());
        if kind == Kind::Room {
            room_slug = (!request.slug.is_empty()).then(|| fields.slug("slug", &request.slug));
            if let Some(new) = &request.room_settings {
                settings = SettingsUpdate::all(&mut fields, "room_settings", new);
            }
        } else {
            for (field, given) in
                [("slug", !request.slug.is_empty()), ("room_settings", request.room_settings.is_some())]
            {
                if given {
                    fields.fault(field, "is for rooms: leave it out, or say WORKSPACE_KIND_ROOM");
                }
            }
        }
        fields.done(Self { kind, name, description, slug: room_slug, settings })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        rules::room_for_another(store::count(unit.transaction(), unit.scope()).await?)?;
        let slug = match (self.kind, &self.slug) {
            (Kind::Workspace, _) => None,
            (Kind::Room, Some(slug)) => Some(slug.clone()),
            (Kind::Room, None) => Some(free_slug(unit, &self.name).await?),
        };
        let row = self.row(unit, slug);
        store::insert(unit.transaction(), row.clone()).await.on_constraint("workspace_room_slug_unique", || {
            match &self.slug {
                Some(slug) => Error::RoomSlugTaken { slug: slug.clone() },
                // Another call took the one that was free a moment ago; there are others.
                None => Error::Conflict,
            }
        })?;
        unit.record(Change::WorkspaceCreated {
            workspace_id: row.workspace_id,
            kind: kind_name(row.kind),
            name: row.name.clone(),
        });
        Ok(pb::CreateWorkspaceResponse { workspace: Some(shown(&row)) })
    }
}

impl CreateWorkspace {
    fn row(&self, unit: &Unit<'_, Member>, slug: Option<String>) -> workspace::Model {
        let room_settings = (self.kind == Kind::Room).then(|| {
            let mut settings = RoomSettings::default();
            self.settings.apply(&mut settings, &mut Vec::new());
            settings
        });
        workspace::Model {
            organization_id: unit.scope().organization_id(),
            workspace_id: id::new(unit.now),
            kind: self.kind,
            sort_name: text::fold(&self.name),
            name: self.name.clone(),
            description: self.description.clone(),
            slug,
            room_settings,
            created_at: unit.now,
            updated_at: unit.now,
            version: 1,
        }
    }
}

/// A join slug like the name that no room has, with a suffix if it must be.
async fn free_slug(unit: &Unit<'_, Member>, name: &str) -> Result<String, Error> {
    let slug = slug_like(name, "room");
    if !store::slug_exists(unit.transaction(), &slug).await? {
        return Ok(slug);
    }
    let suffix = id::random_suffix().ok_or(Error::defect("no random numbers"))?;
    Ok(format!("{slug}-{suffix}"))
}
