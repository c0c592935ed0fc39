//! InviteMembers and ResendInvitation: two ways to send an invitation, one way to write it.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{chosen, shown_invitation, single};
use crate::app::App;
use crate::billing::store as subscriptions;
use crate::email::Email;
use crate::entity::invitation::{self, State, WorkspaceIds};
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::id;
use crate::membership::token::Token;
use crate::membership::{invitations, rules, searchable, store};
use crate::operation::{Command, Member, Unit};
use crate::organization::settings::AllowedDomains;
use crate::pb;
use crate::sql;
use crate::workspace::rpc::refuse_unknown;
use crate::workspace::rules as workspace_rules;
use crate::workspace::rules::MOST_INVITED_TO;

const SHORTEST: TimeDelta = TimeDelta::days(1);
const LONGEST: TimeDelta = TimeDelta::days(30);

fn lifetime(fields: &mut Fields, ttl: Option<&prost_types::Duration>, app: &App) -> TimeDelta {
    fields.duration("ttl", ttl, SHORTEST..=LONGEST).unwrap_or(app.invitation_lifetime)
}

const WORKSPACES: &str = "workspace_ids";

/// Reads the workspaces that are chosen, each once with the index at which it came first.
fn workspaces(fields: &mut Fields, ids: &[String]) -> Vec<(usize, Uuid)> {
    let distinct = Fields::distinct(ids.iter(), |id| id.to_ascii_lowercase());
    if distinct.len() > MOST_INVITED_TO {
        fields.fault(WORKSPACES, format!("must name at most {MOST_INVITED_TO} workspaces; assign others later"));
    }
    let read = distinct.into_iter().take(MOST_INVITED_TO);
    read.map(|(index, id)| (index, fields.uuid(&format!("{WORKSPACES}[{index}]"), id))).collect()
}

/// Addresses, each once with the index at which it came first, and what they are offered.
pub(super) struct InviteMembers {
    emails: Vec<(usize, Email)>,
    role: String,
    lifetime: TimeDelta,
    /// The workspaces that are chosen, each once, with the index at which it came first.
    workspaces: Vec<(usize, Uuid)>,
}

impl Command for InviteMembers {
    type Request = pb::InviteMembersRequest;
    type Response = pb::InviteMembersResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        fields.batch("emails", request.emails.len())?;
        let emails: Vec<(usize, Email)> = request
            .emails
            .iter()
            .enumerate()
            .filter_map(|(index, email)| Some((index, fields.email(&format!("emails[{index}]"), email)?)))
            .collect();
        let emails = Fields::distinct(emails, |(_, email)| email.normalized.clone());
        let role = super::roles::known_role(&mut fields, "role", &request.role, app);
        let lifetime = lifetime(&mut fields, request.ttl.as_ref(), app);
        let workspaces = workspaces(&mut fields, &request.workspace_ids);
        fields.done(Self { emails: emails.into_iter().map(|(_, item)| item).collect(), role, lifetime, workspaces })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        super::roles::existing(&unit.policy, "role", &self.role)?;
        rules::may_invite(&unit.policy, &unit.actor.role, &self.role)?;
        if !self.workspaces.is_empty() {
            workspace_rules::may_assign(&unit.actor.role)?;
            refuse_unknown(unit.transaction(), unit.scope(), WORKSPACES, &self.workspaces).await?;
        }
        let addresses: Vec<&str> = self.emails.iter().map(|(_, email)| email.normalized.as_str()).collect();
        let pending = invitations::list_pending_by_emails(unit.transaction(), unit.scope(), &addresses).await?;
        let mut pending: HashMap<String, invitation::Model> =
            pending.into_iter().map(|row| (row.email_normalized.clone(), row)).collect();
        let outgoing = self.emails.iter().map(|(index, email)| {
            let earlier = pending.remove(&email.normalized);
            // Who names no workspaces takes none away from what somebody chose before.
            let kept = earlier.as_ref().filter(|_| self.workspaces.is_empty()).map(|row| chosen(row).to_vec());
            let workspace_ids = kept.unwrap_or_else(|| self.workspaces.iter().map(|(_, id)| *id).collect());
            Outgoing { index: *index, email: email.clone(), role: self.role.clone(), earlier, workspace_ids }
        });
        let invited = send(unit, outgoing.collect(), "emails", self.lifetime).await?;
        Ok(pb::InviteMembersResponse { invited })
    }
}

pub(super) struct ResendInvitation {
    invitation_id: Uuid,
    lifetime: TimeDelta,
}

impl Command for ResendInvitation {
    type Request = pb::ResendInvitationRequest;
    type Response = pb::ResendInvitationResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let invitation_id = fields.uuid("invitation_id", &request.invitation_id);
        let lifetime = lifetime(&mut fields, request.ttl.as_ref(), app);
        fields.done(Self { invitation_id, lifetime })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let invitation_id = self.invitation_id;
        let missing = Error::InvitationNotFound { invitation_id: Some(invitation_id) };
        let earlier = invitations::find(unit.transaction(), unit.scope(), invitation_id).await?.ok_or(missing)?;
        rules::pending(&earlier)?;
        rules::may_invite(&unit.policy, &unit.actor.role, &earlier.role)?;
        if unit.policy.role(&earlier.role).is_none() {
            return Err(Error::InvitationRoleNotGrantable { role: earlier.role });
        }
        let outgoing = Outgoing {
            index: 0,
            email: Email { written: earlier.email.clone(), normalized: earlier.email_normalized.clone() },
            role: earlier.role.clone(),
            workspace_ids: chosen(&earlier).to_vec(),
            earlier: Some(earlier),
        };
        let sent = single(send(unit, vec![outgoing], "invitation_id", self.lifetime).await)?;
        Ok(pb::ResendInvitationResponse { invitation: sent.invitation, token: sent.token })
    }
}

/// An invitation that is to be sent.
struct Outgoing {
    index: usize,
    email: Email,
    role: String,
    /// The pending one to this address, which is then sent again.
    earlier: Option<invitation::Model>,
    workspace_ids: Vec<Uuid>,
}

/// Judges all of them, then writes all of them: seats, rows and events.
async fn send(
    unit: &mut Unit<'_, Member>,
    outgoing: Vec<Outgoing>,
    field: &'static str,
    lifetime: TimeDelta,
) -> Result<Vec<pb::InvitedMember>, Error> {
    judge(unit, &outgoing, field).await?;
    let needed = sql::counted(outgoing.iter().filter(|item| !holds_seat(item.earlier.as_ref(), unit.now)).count())?;
    if needed > 0 {
        subscriptions::check_growth(unit, needed).await?;
    }
    let mut rows = Vec::with_capacity(outgoing.len());
    let mut invited = Vec::with_capacity(outgoing.len());
    let new_ids = id::new_in_order(unit.now, outgoing.len());
    let mut new_seats = Vec::new();
    for (item, new_id) in outgoing.into_iter().zip(new_ids) {
        let is_new = !holds_seat(item.earlier.as_ref(), unit.now);
        let resent = item.earlier.is_some();
        let role_before = item.earlier.as_ref().map(|earlier| earlier.role.clone());
        let (row, secret) = written(unit, item, new_id, lifetime)?;
        record(unit, &row, role_before);
        let token = if unit.is_rehearsal() { String::new() } else { secret.write() };
        invited.push(pb::InvitedMember { invitation: Some(shown_invitation(&row, unit.now)), resent, token });
        if is_new {
            new_seats.push(row.invitation_id);
        }
        rows.push(row);
    }
    invitations::send(unit, &rows, &new_seats).await?;
    Ok(invited)
}

/// Whether an address has a seat already. An expired invitation has lost its own, and needs one like a new one.
fn holds_seat(earlier: Option<&invitation::Model>, now: DateTime<Utc>) -> bool {
    earlier.is_some_and(|row| !rules::is_expired(row, now))
}

/// Finds every item at fault: an address that is a member's or of a domain that the settings leave out, an invitation to a role that the caller may not touch.
async fn judge(unit: &Unit<'_, Member>, outgoing: &[Outgoing], field: &'static str) -> Result<(), Error> {
    let addresses: Vec<&str> = outgoing.iter().map(|item| item.email.normalized.as_str()).collect();
    let members = store::list_by_emails(unit.transaction(), unit.scope(), &addresses).await?;
    let members: HashMap<&str, &str> =
        members.iter().map(|member| (member.email_normalized.as_str(), member.user_id.as_str())).collect();
    let domains = AllowedDomains::of(unit.transaction(), &unit.actor.organization).await?;
    let mut faults = Vec::new();
    for item in outgoing {
        if let Some(user_id) = members.get(item.email.normalized.as_str()) {
            faults.push((item.index, Error::AlreadyMember { user_id: (*user_id).to_owned() }));
        } else if let Err(fault) = domains.check(&item.email) {
            faults.push((item.index, fault));
        }
        // Resending changes the earlier invitation, so the caller must be allowed that one's role as well.
        let role = item.earlier.as_ref().map_or(item.role.as_str(), |earlier| earlier.role.as_str());
        if let Err(fault) = rules::may_invite(&unit.policy, &unit.actor.role, role) {
            faults.push((item.index, fault));
        }
    }
    Error::refuse_items(field, faults)
}

fn written(
    unit: &Unit<'_, Member>,
    item: Outgoing,
    new_id: Uuid,
    lifetime: TimeDelta,
) -> Result<(invitation::Model, Token), Error> {
    let organization_id = unit.scope().organization_id();
    let invitation_id = item.earlier.as_ref().map_or(new_id, |earlier| earlier.invitation_id);
    let token = Token::make(organization_id, invitation_id).ok_or(Error::defect("no random numbers"))?;
    let row = invitation::Model {
        organization_id,
        invitation_id,
        search_text: searchable(&[&item.email.written, &item.email.normalized]),
        email: item.email.written,
        email_normalized: item.email.normalized,
        role: item.role,
        state: State::Pending,
        holds_seat: true,
        token_hash: token.hash(),
        inviter_user_id: unit.actor.membership.user_id.clone(),
        inviter_role: unit.actor.membership.role.clone(),
        invitee_user_id: None,
        send_count: item.earlier.as_ref().map_or(0, |earlier| earlier.send_count).saturating_add(1),
        created_at: item.earlier.as_ref().map_or(unit.now, |earlier| earlier.created_at),
        sent_at: unit.now,
        expires_at: unit.now + lifetime,
        ended_at: None,
        workspace_ids: (!item.workspace_ids.is_empty()).then_some(WorkspaceIds(item.workspace_ids)),
    };
    Ok((row, token))
}

fn record(unit: &mut Unit<'_, Member>, row: &invitation::Model, role_before: Option<String>) {
    let (invitation_id, role) = (row.invitation_id, row.role.clone());
    let expire_time = row.expires_at.to_rfc3339();
    unit.record(match role_before {
        None => Change::InvitationCreated { invitation_id, role, expire_time },
        Some(role_before) => Change::InvitationResent { invitation_id, role_before, role, expire_time },
    });
}
