//! SuspendMember and ReactivateMember.

use super::shown;
use crate::app::App;
use crate::billing::store as subscriptions;
use crate::entity::membership;
use crate::error::Error;
use crate::etag;
use crate::event::Change;
use crate::fields::Fields;
use crate::membership::{rules, store};
use crate::operation::{Command, Member, Unit};
use crate::pb;

/// Finds the member whom the caller may suspend and reactivate.
async fn target(unit: &Unit<'_, Member>, user_id: &str, etag: &str) -> Result<membership::Model, Error> {
    rules::not_oneself(&unit.actor.membership, user_id, "another member does it")?;
    let missing = || Error::MemberNotFound { user_id: user_id.to_owned() };
    let row = store::find(unit.transaction(), unit.scope(), user_id).await?.ok_or_else(missing)?;
    rules::may_remove(&unit.app.policy, &unit.actor.role, &row.role)?;
    etag::check(etag, row.version)?;
    Ok(row)
}

pub(super) struct SuspendMember {
    user_id: String,
    etag: String,
}

impl Command for SuspendMember {
    type Request = pb::SuspendMemberRequest;
    type Response = pb::SuspendMemberResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let user_id = fields.user_id("user_id", &request.user_id);
        fields.done(Self { user_id, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut row = target(unit, &self.user_id, &self.etag).await?;
        if row.suspended_at.is_none() {
            let suspended_at = Some(unit.now);
            store::update_suspension(unit, &mut row, suspended_at).await?;
            rules::keeps_top_role(unit.top_role_members(), unit.app.policy.top_role().name.as_str())?;
            unit.record(Change::MemberSuspended { user_id: row.user_id.clone(), role: row.role.clone() });
        }
        Ok(pb::SuspendMemberResponse { member: Some(shown(&row)) })
    }
}

pub(super) struct ReactivateMember {
    user_id: String,
    etag: String,
}

impl Command for ReactivateMember {
    type Request = pb::ReactivateMemberRequest;
    type Response = pb::ReactivateMemberResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let user_id = fields.user_id("user_id", &request.user_id);
        fields.done(Self { user_id, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut row = target(unit, &self.user_id, &self.etag).await?;
        if row.suspended_at.is_some() {
            subscriptions::check_growth(unit, 1).await?;
            store::update_suspension(unit, &mut row, None).await?;
            unit.record(Change::MemberReactivated { user_id: row.user_id.clone(), role: row.role.clone() });
        }
        Ok(pb::ReactivateMemberResponse { member: Some(shown(&row)) })
    }
}
