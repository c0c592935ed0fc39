//! UpdateMemberRole and BatchUpdateMemberRoles: one is a batch of one.

use std::collections::BTreeMap;

use super::{by_user_id, roles, shown, single};
use crate::app::App;
use crate::entity::membership;
use crate::error::Error;
use crate::etag;
use crate::event::Change;
use crate::fields::Fields;
use crate::membership::{rules, store};
use crate::operation::{Command, Member, Unit};
use crate::pb;

const INSTEAD: &str = "another member does it, or TransferOwnership hands the top role on";

pub(super) struct UpdateMemberRole(pb::MemberRoleUpdate);

impl Command for UpdateMemberRole {
    type Request = pb::UpdateMemberRoleRequest;
    type Response = pb::UpdateMemberRoleResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let update = pb::MemberRoleUpdate {
            user_id: fields.user_id("user_id", &request.user_id),
            role: roles::known_role(&mut fields, "role", &request.role, app),
            etag: request.etag.clone(),
        };
        fields.done(Self(update))
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        roles::existing(&unit.policy, "role", &self.0.role)?;
        let member = single(update_roles(unit, &[(0, self.0.clone())]).await)?;
        Ok(pb::UpdateMemberRoleResponse { member: Some(member) })
    }
}

pub(super) struct BatchUpdateMemberRoles {
    /// Each once, with the index at which it came first.
    updates: Vec<(usize, pb::MemberRoleUpdate)>,
}

impl Command for BatchUpdateMemberRoles {
    type Request = pb::BatchUpdateMemberRolesRequest;
    type Response = pb::BatchUpdateMemberRolesResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        fields.batch("updates", request.updates.len())?;
        for (index, update) in request.updates.iter().enumerate() {
            fields.user_id(&format!("updates[{index}].user_id"), &update.user_id);
            roles::known_role(&mut fields, &format!("updates[{index}].role"), &update.role, app);
        }
        let same = |update: &pb::MemberRoleUpdate| (update.user_id.clone(), update.role.clone(), update.etag.clone());
        let updates = Fields::distinct(request.updates.iter().cloned(), same);
        let mut users = std::collections::HashSet::new();
        for (index, update) in &updates {
            if !users.insert(update.user_id.as_str()) {
                fields.fault(format!("updates[{index}].user_id"), "stands twice, with two different changes");
            }
        }
        fields.done(Self { updates })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let named = self.updates.iter().map(|(index, update)| (format!("updates[{index}].role"), update.role.as_str()));
        roles::all_existing(&unit.policy, named)?;
        Ok(pb::BatchUpdateMemberRolesResponse { members: update_roles(unit, &self.updates).await? })
    }
}

/// Judges all of them, then writes all of them, and answers in their order. The top role is judged on the end state, so
/// that two holders may be exchanged in one batch.
async fn update_roles(
    unit: &mut Unit<'_, Member>,
    updates: &[(usize, pb::MemberRoleUpdate)],
) -> Result<Vec<pb::Member>, Error> {
    let user_ids: Vec<&str> = updates.iter().map(|(_, update)| update.user_id.as_str()).collect();
    let mut found = by_user_id(store::list_by_ids(unit.transaction(), unit.scope(), &user_ids).await?);
    let (mut rows, mut faults) = (Vec::with_capacity(updates.len()), Vec::new());
    for (index, update) in updates {
        let judged = judge(unit, update, found.remove(&update.user_id));
        match judged {
            Ok(row) => rows.push(row),
            Err(fault) => faults.push((*index, fault)),
        }
    }
    Error::refuse_items("updates", faults)?;
    let mut by_role: BTreeMap<&str, Vec<&mut membership::Model>> = BTreeMap::new();
    for ((_, update), row) in updates.iter().zip(&mut rows) {
        // The role that the member has already is no change, and no event.
        if row.role != update.role {
            let (user_id, before, after) = (row.user_id.clone(), row.role.clone(), update.role.clone());
            unit.record(Change::MemberRoleChanged { user_id, before, after });
            by_role.entry(update.role.as_str()).or_default().push(row);
        }
    }
    for (role, mut rows) in by_role {
        store::update_roles(unit, &mut rows, role).await?;
    }
    rules::keeps_top_role(unit.top_role_members(), unit.policy.top_role().name.as_str())?;
    Ok(rows.iter().map(shown).collect())
}

fn judge(
    unit: &Unit<'_, Member>,
    update: &pb::MemberRoleUpdate,
    found: Option<membership::Model>,
) -> Result<membership::Model, Error> {
    rules::not_oneself(&unit.actor.membership, &update.user_id, INSTEAD)?;
    let row = found.ok_or(Error::MemberNotFound { user_id: update.user_id.clone() })?;
    rules::may_change(&unit.policy, &unit.actor.role, &row.role, &update.role)?;
    etag::check(&update.etag, row.version)?;
    Ok(row)
}
