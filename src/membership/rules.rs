//! Who may do what to whom, and where an invitation stands: pure functions of values.

use chrono::{DateTime, Utc};

use crate::auth::policy::{RoleDefinition, RolePolicy};
use crate::entity::invitation::{self, State};
use crate::entity::membership;
use crate::error::Error;

/// Whether a role may invite to another, and resend and cancel invitations to it.
pub fn may_invite(policy: &RolePolicy, actor: &RoleDefinition, to: &str) -> Result<(), Error> {
    permit(actor.invites(to) || clears(policy, actor, to), actor, to)
}

/// Whether a role may turn a member who holds `from` into one who holds `to`.
pub fn may_change(policy: &RolePolicy, actor: &RoleDefinition, from: &str, to: &str) -> Result<(), Error> {
    permit(actor.changes(from) || clears(policy, actor, from), actor, from)?;
    permit(actor.changes(to), actor, to)
}

/// Whether a role may remove, suspend and reactivate a member who holds another.
pub fn may_remove(policy: &RolePolicy, actor: &RoleDefinition, target: &str) -> Result<(), Error> {
    permit(actor.removes(target) || clears(policy, actor, target), actor, target)
}

/// Whether a role may clear up after one that is gone from the policy. No policy can list that role any more, so but for
/// this nobody could ever free the seats of its holders and invitations; what it was worth only the top role is sure to be.
fn clears(policy: &RolePolicy, actor: &RoleDefinition, gone: &str) -> bool {
    actor.top && policy.role(gone).is_none()
}

fn permit(permitted: bool, actor: &RoleDefinition, target: &str) -> Result<(), Error> {
    if permitted {
        return Ok(());
    }
    Err(Error::RoleAboveCaller { role: actor.name.to_string(), target_role: target.to_owned() })
}

/// Nobody does to themselves what the admin calls do.
pub fn not_oneself(actor: &membership::Model, user_id: &str, instead: &'static str) -> Result<(), Error> {
    if actor.user_id == user_id { Err(Error::SelfChangeForbidden { instead }) } else { Ok(()) }
}

/// Whether the top role keeps an active holder.
pub fn keeps_top_role(holders: i64, top_role: &str) -> Result<(), Error> {
    if holders >= 1 { Ok(()) } else { Err(Error::LastOwner { role: top_role.to_owned() }) }
}

/// Whether an invitation can be accepted or declined.
pub fn open(invitation: &invitation::Model, now: DateTime<Utc>) -> Result<(), Error> {
    pending(invitation)?;
    if is_expired(invitation, now) {
        return Err(Error::InvitationExpired {
            invitation_id: invitation.invitation_id,
            expired_at: invitation.expires_at,
        });
    }
    Ok(())
}

/// Whether the role that an invitation offers can still be granted by right of the role that sent it. The role policy may
/// have changed since; that the sender has changed or gone takes nothing back.
pub fn still_grantable(policy: &RolePolicy, invitation: &invitation::Model) -> Result<(), Error> {
    let inviter = policy.role(&invitation.inviter_role);
    if policy.role(&invitation.role).is_some() && inviter.is_some_and(|inviter| inviter.invites(&invitation.role)) {
        return Ok(());
    }
    Err(Error::InvitationRoleNotGrantable { role: invitation.role.clone() })
}

/// Whether an invitation can be resent or canceled: also an expired one can.
pub fn pending(invitation: &invitation::Model) -> Result<(), Error> {
    let state = match invitation.state {
        State::Pending => return Ok(()),
        State::Accepted => "ACCEPTED",
        State::Declined => "DECLINED",
        State::Canceled => "CANCELED",
    };
    Err(Error::InvitationNotPending { invitation_id: invitation.invitation_id, state })
}

/// Whether an invitation's time is over. At the very instant it is. One that has lost its seat is over too: another server,
/// whose clock is ahead, has seen it expire and may have given the seat away.
#[must_use]
pub fn is_expired(invitation: &invitation::Model, now: DateTime<Utc>) -> bool {
    invitation.state == State::Pending && (invitation.expires_at <= now || !invitation.holds_seat)
}
