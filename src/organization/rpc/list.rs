//! ListOrganizations: the switcher.

use tonic::{Request, Response, Status};

use super::shown;
use crate::app::App;
use crate::error::Error;
use crate::fields::{Fields, is_time, timestamp};
use crate::operation;
use crate::organization::store::{self, Joined};
use crate::page::Page;
use crate::pb;

pub(super) async fn list_organizations(
    app: &App,
    request: Request<pb::ListOrganizationsRequest>,
) -> Result<Response<pb::ListOrganizationsResponse>, Status> {
    let (authorized, request) = operation::split(request)?;
    let user_id = authorized.user()?.user_id.as_str();
    let answer = list(app, user_id, &request).await?;
    Ok(Response::new(answer))
}

async fn list(
    app: &App,
    user_id: &str,
    request: &pb::ListOrganizationsRequest,
) -> Result<pb::ListOrganizationsResponse, Error> {
    let mut fields = Fields::new();
    let list = format!("ListOrganizations {} {user_id}", request.show_deleted);
    let place = |(joined_at, _): &Joined| is_time(joined_at);
    let page = Page::read(&mut fields, request.page_size, &request.page_token, list, place)?;
    let page = fields.done(page)?;
    let deleted_until = request.show_deleted.then(|| app.clock.now());
    let connection = app.database.reader();
    let mut rows = store::list_of_user(connection, user_id, deleted_until, page.after, page.size + 1).await?;
    let next_page_token = page.cut(&mut rows, |(membership, _)| (membership.joined_at, membership.organization_id))?;
    let memberships = rows.into_iter().filter_map(|(membership, organization)| {
        Some(pb::OrganizationMembership {
            organization: Some(shown(&organization?)),
            role: membership.role,
            suspended: membership.suspended_at.is_some(),
            join_time: Some(timestamp(membership.joined_at)),
        })
    });
    Ok(pb::ListOrganizationsResponse { memberships: memberships.collect(), next_page_token })
}
