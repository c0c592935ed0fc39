//! RemoveMember and BatchRemoveMembers: one is a batch of one.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Target, by_user_id, shown, single};
use crate::app::App;
use crate::entity::membership;
use crate::error::Error;
use crate::etag;
use crate::event::Change;
use crate::fields::Fields;
use crate::membership::{rules, store};
use crate::operation::{Command, Member, Unit};
use crate::workspace::assignments;
use crate::{organization as organizations, pb};

const INSTEAD: &str = "another member does it, or LeaveOrganization where the role policy has it";

pub(super) struct RemoveMember(Target);

impl Command for RemoveMember {
    type Request = pb::RemoveMemberRequest;
    type Response = pb::RemoveMemberResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self(Target::read(&request.user_id, &request.etag)?))
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let removed = remove(unit, &[(0, self.0.user_id.clone())], &self.0.etag).await;
        Ok(pb::RemoveMemberResponse { member: Some(single(removed)?) })
    }
}

pub(super) struct BatchRemoveMembers {
    /// Each once, with the index at which it came first.
    user_ids: Vec<(usize, String)>,
}

impl Command for BatchRemoveMembers {
    type Request = pb::BatchRemoveMembersRequest;
    type Response = pb::BatchRemoveMembersResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        fields.batch("user_ids", request.user_ids.len())?;
        let ids = request.user_ids.iter().enumerate();
        let ids: Vec<String> = ids.map(|(index, id)| fields.user_id(&format!("user_ids[{index}]"), id)).collect();
        fields.done(Self { user_ids: Fields::distinct(ids, Clone::clone) })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        Ok(pb::BatchRemoveMembersResponse { members: remove(unit, &self.user_ids, "").await? })
    }
}

async fn remove(
    unit: &mut Unit<'_, Member>,
    user_ids: &[(usize, String)],
    etag: &str,
) -> Result<Vec<pb::Member>, Error> {
    let ids: Vec<&str> = user_ids.iter().map(|(_, id)| id.as_str()).collect();
    let mut found = by_user_id(store::list_by_ids(unit.transaction(), unit.scope(), &ids).await?);
    let (mut rows, mut faults) = (Vec::with_capacity(ids.len()), Vec::new());
    for (index, user_id) in user_ids {
        match judge(unit, user_id, etag, found.remove(user_id)) {
            Ok(row) => rows.push(row),
            Err(fault) => faults.push((*index, fault)),
        }
    }
    Error::refuse_items("user_ids", faults)?;
    let mut assigned = end(unit, &rows).await?;
    for row in &rows {
        unit.record(Change::MemberRemoved {
            user_id: row.user_id.clone(),
            role: row.role.clone(),
            workspace_ids: assigned.remove(&row.user_id).unwrap_or_default(),
        });
    }
    Ok(rows.iter().map(shown).collect())
}

fn judge(
    unit: &Unit<'_, Member>,
    user_id: &str,
    etag: &str,
    found: Option<membership::Model>,
) -> Result<membership::Model, Error> {
    rules::not_oneself(&unit.actor.membership, user_id, INSTEAD)?;
    let row = found.ok_or(Error::MemberNotFound { user_id: user_id.to_owned() })?;
    rules::may_remove(&unit.policy, &unit.actor.role, &row.role)?;
    etag::check(etag, row.version)?;
    Ok(row)
}

/// Ends memberships, by whatever call: the one path on which members go. Gives the workspaces that each was assigned to until
/// then; the database ends these assignments with the memberships.
pub(super) async fn end(
    unit: &mut Unit<'_, Member>,
    rows: &[membership::Model],
) -> Result<HashMap<String, Vec<Uuid>>, Error> {
    let user_ids: Vec<&str> = rows.iter().map(|row| row.user_id.as_str()).collect();
    let assigned = assignments::list_of_members(unit.transaction(), unit.scope(), &user_ids).await?;
    store::delete(unit, &rows.iter().collect::<Vec<_>>()).await?;
    rules::keeps_top_role(unit.top_role_members(), unit.policy.top_role().name.as_str())?;
    // Sign-up made this organization for one who goes: it is not their own any more, and they shall get another.
    let own = unit.actor.organization.default_of_user_id.as_deref();
    if own.is_some_and(|own| rows.iter().any(|row| row.user_id == own)) {
        organizations::store::forget_default(unit.transaction(), unit.scope()).await?;
    }
    Ok(assigned)
}
