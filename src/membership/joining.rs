//! Requests to join, and the way in by a verified domain: the rules, and the rows.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::{Identity, Profile, invitations, rules, store};
use crate::auth::policy::RolePolicy;
use crate::auth::scope::Scope;
use crate::billing::store as subscriptions;
use crate::entity::invitation::{self, State as InvitationState};
use crate::entity::join_request::{self, Column as C, State};
use crate::entity::membership;
use crate::entity::organization_domain::{self, JoinMode};
use crate::error::{Error, OnConstraint as _};
use crate::event::Change;
use crate::operation::Unit;
use crate::organization::domains;
use crate::workspace::assignments;
use crate::{id, sql};

/// The way in that an organization leaves open to somebody who knocks.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// The invitation that waits for their address: whoever sent it has said yes already, and it has a seat.
    Invited(Box<invitation::Model>),
    /// By themselves, in this role.
    Automatic(String),
    /// By a request that somebody decides, which offers this role.
    Request(String),
    /// None.
    Closed,
}

/// Which way in there is by a domain, for somebody for whose address an invitation may be waiting.
#[must_use]
pub fn way_in(
    policy: &RolePolicy,
    domain: Option<&organization_domain::Model>,
    invitation: Option<invitation::Model>,
    was_member: bool,
    now: DateTime<Utc>,
) -> Way {
    let Some(domain) = domain.filter(|domain| domains::lets_in(domain)) else { return Way::Closed };
    let good = |invitation: &invitation::Model| {
        rules::open(invitation, now).is_ok() && rules::still_grantable(policy, invitation).is_ok()
    };
    if let Some(invitation) = invitation.filter(good) {
        return Way::Invited(Box::new(invitation));
    }
    let role = domain.join_role.clone();
    match domain.join_mode {
        // Whoever removed them, or took a role from them before they left, is not undone by a rule for everybody.
        JoinMode::Automatic if was_member => Way::Request(role),
        JoinMode::Automatic if domains::gives(policy, &role) => Way::Automatic(role),
        // Whoever decides a request can name another role than one that is gone; nobody can for those who join by themselves.
        JoinMode::Request => Way::Request(role),
        JoinMode::Automatic | JoinMode::Nobody => Way::Closed,
    }
}

/// Whether a request can still be decided.
pub fn pending(request: &join_request::Model) -> Result<(), Error> {
    let state = match request.state {
        State::Pending => return Ok(()),
        State::Approved => "APPROVED",
        State::Declined => "DECLINED",
        State::Withdrawn => "WITHDRAWN",
    };
    Err(Error::JoinRequestNotPending { join_request_id: request.join_request_id, state })
}

/// Somebody who comes in.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// Who.
    pub identity: Identity,
    /// How they are shown to others.
    pub profile: Profile,
    /// In which role.
    pub role: String,
    /// The open invitation that waits for their address, which ends with this: it gives them its seat.
    pub invitation: Option<invitation::Model>,
    /// Whether it is by this invitation that they come, and not by the domain of their address.
    pub invited: bool,
}

/// Lets them in: they are a member from now on, and whatever waited for them has ended.
pub async fn enter<A>(unit: &mut Unit<'_, A>, entrance: Entrance) -> Result<membership::Model, Error> {
    let Entrance { identity, profile, role, mut invitation, invited } = entrance;
    let user_id = identity.user_id.clone();
    let invitation_id = invitation.as_ref().filter(|_| invited).map(|invitation| invitation.invitation_id);
    match &mut invitation {
        Some(invitation) => {
            invitations::end(unit, &mut [invitation], InvitationState::Accepted, Some(&user_id)).await?;
            let (invitation_id, user_id) = (invitation.invitation_id, user_id.clone());
            unit.record(Change::InvitationAccepted { invitation_id, user_id });
        }
        None => subscriptions::check_growth(unit, 1).await?,
    }
    let member = store::joining(unit.scope(), &identity, &profile, &role, invitation_id, unit.now);
    store::insert_joining(unit, member.clone()).await?;
    // Whoever invited them had these in mind for them, by whichever door they come.
    let chosen = invitation.and_then(|invitation| invitation.workspace_ids).map(|chosen| chosen.0).unwrap_or_default();
    let workspace_ids = assignments::insert_chosen(unit, &member, chosen).await?;
    unit.record(Change::MemberJoined {
        user_id,
        role,
        invitation_id,
        domain: (!invited).then(|| identity.email.domain().to_owned()),
        workspace_ids,
    });
    Ok(member)
}

/// Ends the request of somebody who has become a member otherwise: what they asked for they have.
pub async fn settle<A>(unit: &mut Unit<'_, A>, user_id: &str) -> Result<(), Error> {
    let Some(mut request) = find_open(unit.transaction(), unit.scope(), user_id).await? else { return Ok(()) };
    end(unit, &mut request, State::Approved, None).await?;
    unit.record(Change::JoinRequestApproved { join_request_id: request.join_request_id, user_id: user_id.to_owned() });
    Ok(())
}

/// Finds the invitation, expired or not, that waits for an address.
pub async fn find_invitation<A>(unit: &Unit<'_, A>, email: &str) -> Result<Option<invitation::Model>, DbErr> {
    let found = invitations::list_pending_by_emails(unit.transaction(), unit.scope(), &[email]).await?;
    Ok(found.into_iter().next())
}

/// Written out, not bound: only so can PostgreSQL tell that a partial index has all the rows that are asked for.
pub(crate) fn is_pending() -> SimpleExpr {
    Expr::cust("join_request.state = 'pending'")
}

/// Finds a request.
pub async fn find(
    connection: &impl ConnectionTrait,
    scope: Scope,
    join_request_id: Uuid,
) -> Result<Option<join_request::Model>, DbErr> {
    join_request::Entity::find_by_id((scope.organization_id(), join_request_id)).one(connection).await
}

/// Finds a user's open request.
pub async fn find_open(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_id: &str,
) -> Result<Option<join_request::Model>, DbErr> {
    join_request::Entity::find()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .filter(C::UserId.eq(user_id))
        .filter(is_pending())
        .one(connection)
        .await
}

/// Inserts a request, and says what it is.
pub async fn ask<A>(
    unit: &mut Unit<'_, A>,
    identity: &Identity,
    profile: &Profile,
    role: String,
) -> Result<join_request::Model, Error> {
    let row = join_request::Model {
        organization_id: unit.scope().organization_id(),
        join_request_id: id::new(unit.now),
        user_id: identity.user_id.clone(),
        email: identity.email.written.clone(),
        email_normalized: identity.email.normalized.clone(),
        display_name: profile.display_name.clone(),
        avatar_uri: profile.avatar_uri.clone(),
        role,
        state: State::Pending,
        created_at: unit.now,
        ended_at: None,
        decided_by_user_id: None,
    };
    join_request::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(unit.transaction())
        .await
        .on_constraint("join_request_open_unique", || Error::Conflict)?;
    unit.record(Change::JoinRequestCreated {
        join_request_id: row.join_request_id,
        user_id: row.user_id.clone(),
        role: row.role.clone(),
    });
    Ok(row)
}

/// Ends a pending request, and no other: the database itself looks at the state.
pub async fn end<A>(
    unit: &Unit<'_, A>,
    row: &mut join_request::Model,
    state: State,
    decided_by_user_id: Option<&str>,
) -> Result<(), Error> {
    row.state = state;
    row.ended_at = Some(unit.now);
    row.decided_by_user_id = decided_by_user_id.map(str::to_owned);
    let ended = join_request::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::JoinRequestId.eq(row.join_request_id))
        .filter(is_pending())
        .col_expr(C::State, Expr::value(state.to_value()))
        .col_expr(C::EndedAt, Expr::value(row.ended_at))
        .col_expr(C::DecidedByUserId, Expr::value(row.decided_by_user_id.clone()))
        .exec(unit.transaction())
        .await?;
    if ended.rows_affected == 1 { Ok(()) } else { Err(Error::Conflict) }
}

/// Lists the requests in any of these states, all of them when none is said, the newest first: their ids are in the order of
/// their making.
pub async fn list(
    connection: &impl ConnectionTrait,
    scope: Scope,
    states: &[State],
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<join_request::Model>, DbErr> {
    let mut rows = join_request::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()));
    match states {
        [] => {}
        [State::Pending] => rows = rows.filter(is_pending()),
        states => rows = rows.filter(C::State.is_in(sql::padded(states.iter().copied()))),
    }
    if let Some(after) = after {
        rows = rows.filter(C::JoinRequestId.lt(after));
    }
    rows.order_by_desc(C::OrganizationId).order_by_desc(C::JoinRequestId).limit(limit).all(connection).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain(verified: bool, join_mode: JoinMode, join_role: &str) -> organization_domain::Model {
        organization_domain::Model {
            organization_id: Uuid::nil(),
            domain: "example.com".into(),
            proof: "proof".into(),
            verified_at: verified.then_some(DateTime::UNIX_EPOCH),
            join_mode,
            join_role: join_role.into(),
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
            version: 1,
        }
    }

    fn invitation(role: &str, inviter_role: &str, open: bool) -> invitation::Model {
        let expires_at = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(if open { 2 } else { 1 });
        invitation::Model {
            organization_id: Uuid::nil(),
            invitation_id: Uuid::nil(),
            email: "ann@example.com".into(),
            email_normalized: "ann@example.com".into(),
            search_text: String::new(),
            role: role.into(),
            state: InvitationState::Pending,
            holds_seat: true,
            token_hash: Vec::new(),
            inviter_user_id: "bob".into(),
            inviter_role: inviter_role.into(),
            invitee_user_id: None,
            send_count: 1,
            created_at: DateTime::UNIX_EPOCH,
            sent_at: DateTime::UNIX_EPOCH,
            expires_at,
            ended_at: None,
            workspace_ids: None,
        }
    }

    fn any_mode() -> impl Strategy<Value = JoinMode> {
        prop_oneof![Just(JoinMode::Nobody), Just(JoinMode::Request), Just(JoinMode::Automatic)]
    }

    fn any_role() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("owner"), Just("admin"), Just("member"), Just("gone"), Just("org:gone")]
    }

    proptest! {
        #[test]
        fn nobody_comes_in_but_as_the_organization_has_said(
            verified in any::<bool>(),
            mode in any_mode(),
            role in any_role(),
            invited in proptest::option::of((any_role(), any_role(), any::<bool>())),
            was_member in any::<bool>(),
        ) {
            let policy = RolePolicy::load("owner-billing").unwrap();
            let now = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(1);
            let rule = domain(verified, mode, role);
            let waiting = invited.map(|(role, by, open)| invitation(role, by, open));
            let way = way_in(&policy, Some(&rule), waiting.clone(), was_member, now);
            let open = verified && mode != JoinMode::Nobody;
            prop_assert_eq!(way_in(&policy, None, waiting, was_member, now), Way::Closed);
            match way {
                Way::Closed => {
                    prop_assert!(!open || !was_member && mode == JoinMode::Automatic && !["admin", "member"].contains(&role));
                }
                Way::Automatic(given) => {
                    prop_assert!(open && mode == JoinMode::Automatic && given == role && !was_member);
                    prop_assert!(policy.role(&given).is_some_and(|role| !role.top));
                }
                Way::Request(given) => prop_assert!(open && (mode == JoinMode::Request || was_member) && given == role),
                Way::Invited(invitation) => {
                    let (role, by, live) = invited.unwrap();
                    prop_assert!(open && live && invitation.role == role);
                    prop_assert!(policy.role(by).unwrap().invites(role));
                }
            }
        }
    }
}
