//! GetWorkspace, LookupRoom and ListWorkspaces.

use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{find_seen, missing, only_of, shown};
use crate::app::App;
use crate::entity::workspace;
use crate::error::Error;
use crate::fields::Fields;
use crate::operation::{self, Query, Reader};
use crate::page::Page;
use crate::workspace::store::{self, Listing, Place};
use crate::{pb, text};

pub(super) struct GetWorkspace {
    workspace_id: Uuid,
}

impl Query for GetWorkspace {
    type Request = pb::GetWorkspaceRequest;
    type Response = pb::GetWorkspaceResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let workspace_id = fields.uuid("workspace_id", &request.workspace_id);
        fields.done(Self { workspace_id })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let found = find_seen(reader, self.workspace_id).await?.ok_or_else(|| missing(self.workspace_id))?;
        Ok(pb::GetWorkspaceResponse { workspace: Some(shown(&found)) })
    }
}

pub(super) async fn lookup_room(
    app: &App,
    request: Request<pb::LookupRoomRequest>,
) -> Result<Response<pb::LookupRoomResponse>, Status> {
    let (_, request) = operation::split(request)?;
    let room = room(app, &request.slug).await?;
    Ok(Response::new(pb::LookupRoomResponse { workspace: Some(shown(&room)) }))
}

async fn room(app: &App, text: &str) -> Result<workspace::Model, Error> {
    let mut fields = Fields::new();
    let slug = fields.slug("slug", text);
    let slug = fields.done(slug)?;
    let found = store::find_room(app.database.reader(), &slug).await?;
    found.ok_or(Error::RoomNotFound { slug })
}

pub(super) struct ListWorkspaces {
    listing: Listing,
    page: Page<Place>,
}

impl Query for ListWorkspaces {
    type Request = pb::ListWorkspacesRequest;
    type Response = pb::ListWorkspacesResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let user_id = (!request.user_id.is_empty()).then(|| fields.user_id("user_id", &request.user_id));
        let kind = super::kind(&mut fields, request.kind);
        let search = text::fold(&fields.line("search", &request.search, 0..=100));
        let listing = Listing { user_id, kind, search };
        let list = format!("ListWorkspaces {} {listing:?}", request.organization_id);
        let place = |(sort_name, _): &Place| !sort_name.contains('\0');
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, place)?;
        fields.done(Self { listing, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let mut listing = self.listing.clone();
        if let Some(own) = only_of(reader) {
            // Another user is refused before this, by the permission that the contract asks for it.
            listing.user_id = Some(own.to_owned());
        }
        let (after, limit) = (self.page.after.as_ref(), self.page.size + 1);
        let mut rows = store::list(reader.connection(), reader.scope, &listing, after, limit).await?;
        let next_page_token = self.page.cut(&mut rows, |row| (row.sort_name.clone(), row.workspace_id))?;
        Ok(pb::ListWorkspacesResponse { workspaces: rows.iter().map(shown).collect(), next_page_token })
    }
}
