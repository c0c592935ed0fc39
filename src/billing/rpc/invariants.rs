//! CheckInvariants.

use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::app::App;
use crate::auth::caller::Caller;
use crate::billing::invariants;
use crate::error::Error;
use crate::fields::Fields;
use crate::operation;
use crate::page::Page;
use crate::pb;

pub(super) async fn check_invariants(
    app: &App,
    request: Request<pb::CheckInvariantsRequest>,
) -> Result<Response<pb::CheckInvariantsResponse>, Status> {
    let (authorized, request) = operation::split(request)?;
    match authorized.caller() {
        Caller::Service(_) => {}
        Caller::User(_) => return Err(Error::ServiceRequired.into()),
    }
    Ok(Response::new(check(app, &request).await?))
}

async fn check(app: &App, request: &pb::CheckInvariantsRequest) -> Result<pb::CheckInvariantsResponse, Error> {
    let mut fields = Fields::new();
    let said = Some(request.organization_id.as_str()).filter(|id| !id.is_empty());
    let one = said.map(|id| fields.uuid("organization_id", id));
    let list = format!("CheckInvariants {one:?}");
    let page: Page<Uuid> = Page::read(&mut fields, request.page_size, &request.page_token, list, |_| true)?;
    let page = fields.done(page)?;
    let mut checked = match one {
        Some(organization_id) => vec![organization_id],
        None => invariants::organizations(app.database.reader(), page.after, page.size + 1).await?,
    };
    let next_page_token = page.cut(&mut checked, |id| *id)?;
    let drifts = invariants::check(&app.database, &app.policy, &checked).await?;
    if let (Some(organization_id), 0) = (one, drifts.checked) {
        return Err(Error::OrganizationNotFound { organization_id });
    }
    let shown = |drift: invariants::Drift| pb::Drift {
        organization_id: drift.organization_id.to_string(),
        invariant: drift.invariant.to_owned(),
        expected: drift.expected,
        found: drift.found,
    };
    Ok(pb::CheckInvariantsResponse {
        drifts: drifts.found.into_iter().map(shown).collect(),
        checked: i32::try_from(drifts.checked).unwrap_or(i32::MAX),
        next_page_token,
    })
}
