//! What the lines are in the database. What a line does not say is as it would be for one of now.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::check;
use super::format::{Invitation, Member, Organization, Role, Subscription, Workspace};
use crate::auth::policy::RolePolicy;
use crate::auth::scope::Scope;
use crate::entity::workspace::Kind;
use crate::entity::{custom_role, invitation, membership, organization, subscription, workspace, workspace_member};
use crate::error::Error;
use crate::membership::{Identity, Profile, searchable, store};
use crate::operation::store::write_json;
use crate::text;

/// An organization, of which nothing is counted yet.
pub(super) fn organization(line: Organization, now: DateTime<Utc>) -> organization::Model {
    let created_at = line.create_time.unwrap_or(now);
    organization::Model {
        organization_id: line.organization_id,
        name: line.name,
        slug: line.slug,
        description: line.description,
        logo_uri: line.logo_uri,
        default_of_user_id: line.default_of_user_id,
        created_at,
        updated_at: created_at,
        deleted_at: None,
        purge_at: None,
        version: 1,
        seats_total: 0,
        active_members: 0,
        pending_invitations: 0,
        top_role_members: 0,
        last_event_number: 0,
        time_zone: line.time_zone,
        members_by_role: None,
        today: None,
        custom_roles: 0,
        restricts_email_domains: false,
        storage_bytes: 0,
        recordings: 0,
        live_sessions: 0,
    }
}

pub(super) fn subscription(line: Subscription, seats: i64, now: DateTime<Utc>) -> subscription::Model {
    let created_at = line.create_time.unwrap_or(now);
    subscription::Model::beginning(line.organization_id, line.plan_id, line.status, seats, created_at)
}

pub(super) fn role(line: Role, now: DateTime<Utc>) -> Result<custom_role::Model, Error> {
    let created_at = line.create_time.unwrap_or(now);
    Ok(custom_role::Model {
        organization_id: line.organization_id,
        role: line.role,
        title: line.title,
        description: line.description,
        definition: write_json(&line.definition.in_order())?,
        created_at,
        updated_at: created_at,
        version: 1,
    })
}

pub(super) fn workspace(line: Workspace, now: DateTime<Utc>) -> workspace::Model {
    let created_at = line.create_time.unwrap_or(now);
    workspace::Model {
        organization_id: line.organization_id,
        workspace_id: line.workspace_id,
        kind: if line.slug.is_some() { Kind::Room } else { Kind::Workspace },
        sort_name: text::fold(&line.name),
        name: line.name,
        description: line.description,
        slug: line.slug,
        room_settings: line.room_settings,
        created_at,
        updated_at: created_at,
        version: 1,
    }
}

pub(super) fn member(line: &Member, now: DateTime<Utc>) -> membership::Model {
    let identity = Identity { user_id: line.user_id.clone(), email: line.email.clone() };
    let profile = Profile { display_name: line.display_name.clone(), avatar_uri: line.avatar_uri.clone() };
    let scope = Scope::of_newcomer(line.organization_id);
    let joined_at = line.join_time.unwrap_or(now);
    let mut row = store::joining(scope, &identity, &profile, &line.role, line.invitation_id, joined_at);
    row.last_sign_in_at = line.last_sign_in_time.unwrap_or(DateTime::UNIX_EPOCH);
    row.suspended_at = line.suspend_time;
    row
}

pub(super) fn assignments(line: &Member, now: DateTime<Utc>) -> impl Iterator<Item = workspace_member::Model> {
    let assigned_at = line.join_time.unwrap_or(now);
    line.workspace_ids.iter().map(move |workspace_id| workspace_member::Model {
        organization_id: line.organization_id,
        workspace_id: *workspace_id,
        user_id: line.user_id.clone(),
        assigned_at,
        joined_at: assigned_at,
    })
}

/// An invitation. Nobody has a token of it: it is accepted by its name, or sent again.
pub(super) fn invitation(
    line: Invitation,
    made_id: impl FnOnce(DateTime<Utc>) -> Uuid,
    policy: &RolePolicy,
    now: DateTime<Utc>,
) -> invitation::Model {
    let created_at = line.create_time.unwrap_or(now);
    let sent_at = line.send_time.unwrap_or(created_at);
    let inviter_role = || check::inviter_role(policy, &line.role).unwrap_or(policy.top_role().name.as_str()).to_owned();
    invitation::Model {
        organization_id: line.organization_id,
        invitation_id: line.invitation_id.unwrap_or_else(|| made_id(created_at)),
        holds_seat: check::holds_seat(&line, now),
        search_text: searchable(&[&line.email.written, &line.email.normalized]),
        inviter_role: line.inviter_role.clone().unwrap_or_else(inviter_role),
        email: line.email.written,
        email_normalized: line.email.normalized,
        role: line.role,
        state: line.state,
        token_hash: Vec::new(),
        inviter_user_id: line.inviter_user_id,
        invitee_user_id: line.invitee_user_id,
        send_count: line.send_count,
        created_at,
        sent_at,
        expires_at: line.expire_time,
        ended_at: (line.state != invitation::State::Pending).then(|| line.end_time.unwrap_or(sent_at)),
        workspace_ids: Some(invitation::WorkspaceIds(line.workspace_ids)).filter(|chosen| !chosen.0.is_empty()),
    }
}
