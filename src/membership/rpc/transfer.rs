//! TransferOwnership.

use super::{roles, shown};
use crate::app::App;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::membership::{rules, store};
use crate::operation::{Command, Member, Unit};
use crate::pb;

pub(super) struct TransferOwnership {
    user_id: String,
    own_role: String,
}

impl Command for TransferOwnership {
    type Request = pb::TransferOwnershipRequest;
    type Response = pb::TransferOwnershipResponse;
    type Actor = Member;
    const ENDS_OWN_RIGHT: bool = true;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let user_id = fields.user_id("user_id", &request.user_id);
        let own_role = match request.own_role.as_str() {
            "" => app.policy.default_successor().name.to_string(),
            role => roles::known_role(&mut fields, "own_role", role, app),
        };
        if app.policy.top_role().name == own_role.as_str() {
            fields.fault("own_role", "must be another role than the one that is handed on");
        }
        fields.done(Self { user_id, own_role })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        roles::existing(&unit.policy, "own_role", &self.own_role)?;
        let mut own = unit.actor.membership.clone();
        rules::not_oneself(&own, &self.user_id, "name another member")?;
        let missing = || Error::MemberNotFound { user_id: self.user_id.clone() };
        let mut holder = store::find(unit.transaction(), unit.scope(), &self.user_id).await?.ok_or_else(missing)?;
        if holder.suspended_at.is_some() {
            return Err(Error::MemberNotActive { user_id: holder.user_id });
        }
        let top_role = unit.policy.top_role().name.to_string();
        if holder.role != top_role {
            let (user_id, before) = (holder.user_id.clone(), holder.role.clone());
            store::update_roles(unit, &mut [&mut holder], &top_role).await?;
            unit.record(Change::MemberRoleChanged { user_id, before, after: top_role.clone() });
        }
        store::update_roles(unit, &mut [&mut own], &self.own_role).await?;
        rules::keeps_top_role(unit.top_role_members(), &top_role)?;
        unit.record(Change::MemberRoleChanged {
            user_id: own.user_id.clone(),
            before: top_role,
            after: self.own_role.clone(),
        });
        unit.record(Change::OwnershipTransferred {
            from_user_id: own.user_id.clone(),
            to_user_id: holder.user_id.clone(),
            former_holder_role: self.own_role.clone(),
        });
        Ok(pb::TransferOwnershipResponse { member: Some(shown(&holder)), former_holder: Some(shown(&own)) })
    }
}
