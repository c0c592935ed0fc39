//! ListPlans.

use std::future::{Ready, ready};

use tonic::{Request, Response, Status};

use crate::app::App;
use crate::billing::shown;
use crate::operation;
use crate::pb;

pub(super) fn list_plans(
    app: &App,
    request: Request<pb::ListPlansRequest>,
) -> Ready<Result<Response<pb::ListPlansResponse>, Status>> {
    let plans = app.catalogue.plans().iter().map(|plan| shown::plan(&app.catalogue, plan)).collect();
    let authorized = operation::split(request).map_err(Status::from);
    ready(authorized.map(|_| Response::new(pb::ListPlansResponse { plans })))
}
