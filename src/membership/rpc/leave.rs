//! LeaveOrganization.

use super::{remove, shown};
use crate::app::App;
use crate::error::Error;
use crate::event::Change;
use crate::operation::{Command, Member, Unit};
use crate::pb;

pub(super) struct LeaveOrganization;

impl Command for LeaveOrganization {
    type Request = pb::LeaveOrganizationRequest;
    type Response = pb::LeaveOrganizationResponse;
    type Actor = Member;
    const ENDS_OWN_RIGHT: bool = true;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let own = unit.actor.membership.clone();
        let mut assigned = remove::end(unit, std::slice::from_ref(&own)).await?;
        unit.record(Change::MemberLeft {
            user_id: own.user_id.clone(),
            role: own.role.clone(),
            workspace_ids: assigned.remove(&own.user_id).unwrap_or_default(),
        });
        Ok(pb::LeaveOrganizationResponse { member: Some(shown(&own)) })
    }
}
