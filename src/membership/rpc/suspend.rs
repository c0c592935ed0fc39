//! SuspendMember and ReactivateMember.

use super::{Target, shown};
use crate::app::App;
use crate::billing::store as subscriptions;
use crate::entity::membership;
use crate::error::Error;
use crate::etag;
use crate::event::Change;
use crate::membership::{rules, store};
use crate::operation::{Command, Member, Unit};
use crate::pb;

/// Finds the member whom the caller may suspend and reactivate.
async fn target(unit: &Unit<'_, Member>, Target { user_id, etag }: &Target) -> Result<membership::Model, Error> {
    rules::not_oneself(&unit.actor.membership, user_id, "another member does it")?;
    let missing = || Error::MemberNotFound { user_id: user_id.clone() };
    let row = store::find(unit.transaction(), unit.scope(), user_id).await?.ok_or_else(missing)?;
    rules::may_remove(&unit.policy, &unit.actor.role, &row.role)?;
    etag::check(etag, row.version)?;
    Ok(row)
}

pub(super) struct SuspendMember(Target);

impl Command for SuspendMember {
    type Request = pb::SuspendMemberRequest;
    type Response = pb::SuspendMemberResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self(Target::read(&request.user_id, &request.etag)?))
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut row = target(unit, &self.0).await?;
        if row.suspended_at.is_none() {
            let suspended_at = Some(unit.now);
            store::update_suspension(unit, &mut row, suspended_at).await?;
            rules::keeps_top_role(unit.top_role_members(), unit.policy.top_role().name.as_str())?;
            unit.record(Change::MemberSuspended { user_id: row.user_id.clone(), role: row.role.clone() });
        }
        Ok(pb::SuspendMemberResponse { member: Some(shown(&row)) })
    }
}

pub(super) struct ReactivateMember(Target);

impl Command for ReactivateMember {
    type Request = pb::ReactivateMemberRequest;
    type Response = pb::ReactivateMemberResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self(Target::read(&request.user_id, &request.etag)?))
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut row = target(unit, &self.0).await?;
        if row.suspended_at.is_some() {
            subscriptions::check_growth(unit, 1).await?;
            store::update_suspension(unit, &mut row, None).await?;
            unit.record(Change::MemberReactivated { user_id: row.user_id.clone(), role: row.role.clone() });
        }
        Ok(pb::ReactivateMemberResponse { member: Some(shown(&row)) })
    }
}
