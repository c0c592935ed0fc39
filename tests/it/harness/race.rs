//! Calls made at the same moment, and what people do in them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tenantry::pb;
use tokio::sync::Barrier;

use super::person::{Person, answer, by_token};
use super::refused::Refused;
use super::world::World;

/// No call may take longer, however many it races against. (A machine under load is slow; a deadlock is for ever.)
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts all of these at the same moment and gives what came of each, in their order.
pub(crate) async fn at_once<T, F>(calls: impl IntoIterator<Item = F>) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let calls: Vec<F> = calls.into_iter().collect();
    let start = Arc::new(Barrier::new(calls.len()));
    let running: Vec<_> = calls
        .into_iter()
        .map(|call| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                tokio::time::timeout(PATIENCE, call).await.expect("a call ends within bounded time")
            })
        })
        .collect();
    let mut outcomes = Vec::with_capacity(running.len());
    for call in running {
        outcomes.push(call.await.expect("a call that does not panic"));
    }
    outcomes
}

/// The same person, speaking to one server or another by this number.
pub(crate) fn spread(world: &World, person: &Person, number: usize) -> Person {
    person.at(world.servers[number % world.servers.len()].channel.clone())
}

/// Something that somebody does.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Invites these addresses to a role, for this many days.
    Invite(Vec<String>, &'static str, i64),
    /// Resends an invitation, for this many days.
    Resend(String, i64),
    Cancel(Vec<String>),
    /// Accepts by token.
    Accept(String),
    /// Declines by token.
    Decline(String),
    ChangeRole(String, &'static str),
    ChangeRoles(Vec<(String, &'static str)>),
    Remove(String),
    RemoveAll(Vec<String>),
    Suspend(String),
    Reactivate(String),
    Leave,
    Transfer(String),
    Seats(i64),
    Delete,
    Undelete,
    /// Records the sign-in of a user. Only services can.
    SignIn(String),
}

/// An invitation that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) invitation_id: String,
    pub(crate) email: String,
    pub(crate) token: String,
    pub(crate) resent: bool,
}

fn days(days: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: days * 24 * 3600, nanos: 0 }
}

fn sent(invitation: Option<pb::Invitation>, token: String, resent: bool) -> Sent {
    let invitation = invitation.expect("an invitation");
    Sent { invitation_id: invitation.invitation_id, email: invitation.email, token, resent }
}

impl Person {
    /// Does it, or is refused; gives the invitations that it sent, if that is what it was.
    pub(crate) async fn does(&self, deed: Deed) -> Result<Vec<Sent>, Refused> {
        let organization_id = self.organization_id.clone();
        let (mut members, mut organizations) = (self.members(), self.organizations());
        let nothing = |()| Vec::new();
        match deed {
            Deed::Invite(emails, role, ttl) => {
                let role = role.to_owned();
                let request = pb::InviteMembersRequest {
                    organization_id,
                    emails,
                    role,
                    ttl: Some(days(ttl)),
                    ..Default::default()
                };
                let invited = answer(members.invite_members(request).await)?.invited;
                Ok(invited.into_iter().map(|one| sent(one.invitation, one.token, one.resent)).collect())
            }
            Deed::Resend(invitation_id, ttl) => {
                let request = pb::ResendInvitationRequest {
                    organization_id,
                    invitation_id,
                    ttl: Some(days(ttl)),
                    ..Default::default()
                };
                let resent = answer(members.resend_invitation(request).await)?;
                Ok(vec![sent(resent.invitation, resent.token, true)])
            }
            Deed::Cancel(invitation_ids) => {
                let request = pb::CancelInvitationsRequest { organization_id, invitation_ids, ..Default::default() };
                answer(members.cancel_invitations(request).await).map(drop).map(nothing)
            }
            Deed::Accept(token) => self.tries_to_accept(&token).await.map(drop).map(nothing),
            Deed::Decline(token) => {
                let request = pb::DeclineInvitationRequest { invitation: Some(by_token(&token)), ..Default::default() };
                answer(members.decline_invitation(request).await).map(drop).map(nothing)
            }
            Deed::ChangeRole(user_id, role) => self.tries_to_change_role(&user_id, role).await.map(drop).map(nothing),
            Deed::ChangeRoles(changes) => {
                let update = |(user_id, role): (String, &str)| pb::MemberRoleUpdate {
                    user_id,
                    role: role.to_owned(),
                    ..Default::default()
                };
                let updates = changes.into_iter().map(update).collect();
                let request = pb::BatchUpdateMemberRolesRequest { organization_id, updates, ..Default::default() };
                answer(members.batch_update_member_roles(request).await).map(drop).map(nothing)
            }
            Deed::Remove(user_id) => self.tries_to_remove(&user_id).await.map(drop).map(nothing),
            Deed::RemoveAll(user_ids) => {
                let request = pb::BatchRemoveMembersRequest { organization_id, user_ids, ..Default::default() };
                answer(members.batch_remove_members(request).await).map(drop).map(nothing)
            }
            Deed::Suspend(user_id) => {
                let request = pb::SuspendMemberRequest { organization_id, user_id, ..Default::default() };
                answer(members.suspend_member(request).await).map(drop).map(nothing)
            }
            Deed::Reactivate(user_id) => {
                let request = pb::ReactivateMemberRequest { organization_id, user_id, ..Default::default() };
                answer(members.reactivate_member(request).await).map(drop).map(nothing)
            }
            Deed::Leave => self.tries_to_leave().await.map(drop).map(nothing),
            Deed::Transfer(user_id) => {
                let request = pb::TransferOwnershipRequest { organization_id, user_id, ..Default::default() };
                answer(members.transfer_ownership(request).await).map(drop).map(nothing)
            }
            Deed::Seats(seats) => {
                let request =
                    pb::UpdateSubscriptionRequest { organization_id, seats: Some(seats), ..Default::default() };
                answer(self.billing().update_subscription(request).await).map(drop).map(nothing)
            }
            Deed::Delete => {
                let request = pb::DeleteOrganizationRequest { organization_id, ..Default::default() };
                answer(organizations.delete_organization(request).await).map(drop).map(nothing)
            }
            Deed::Undelete => {
                let request = pb::UndeleteOrganizationRequest { organization_id, ..Default::default() };
                answer(organizations.undelete_organization(request).await).map(drop).map(nothing)
            }
            Deed::SignIn(user_id) => {
                let request = pb::RecordSignInRequest { organization_id, user_id, ..Default::default() };
                answer(members.record_sign_in(request).await).map(drop).map(nothing)
            }
        }
    }
}
