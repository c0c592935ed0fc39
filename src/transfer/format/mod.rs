//! The lines of the format: one type for what is read and what is written.

mod read;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use uuid::Uuid;

pub use self::read::{Faulty, Named, read};
use crate::auth::policy::custom;
use crate::email::Email;
use crate::entity::workspace::{Access, RoomSettings};
use crate::entity::{invitation, subscription};

/// The format, for `--help`.
pub const MANUAL: &str = "\
FORMAT
  JSON lines: an object a line, UTF-8; empty lines are skipped. `kind` says what it is; the other keys are those of the contract. \
   Times are RFC 3339 (2026-01-31T09:00:00Z). A key with ? may be missing or null. A key that is not listed is a fault.

  organization  organization_id (UUID), name, slug, description?, logo_uri?, time_zone? (UTC), default_of_user_id? (the member \
   for whom sign-up made it), create_time? (now)
  subscription  organization_id, plan_id, status? (active; trialing, past_due, unpaid, canceled), seats? (those the plan \
   includes), create_time? (now). Without one, the default plan
  role          organization_id, role (org:…), title, description?, permissions?, invites?, changes?, removes?, managed_by? \
   (lists), create_time? (now)
  workspace     organization_id, workspace_id (UUID), name, description?, create_time? (now)
  room          as workspace, with slug and room_settings? (access? members, assigned or anyone; lobby?, mute_on_entry?, \
   automatic_recording?, maximum_participants?)
  member        organization_id, user_id, email, display_name?, avatar_uri?, role, join_time? (now), last_sign_in_time?, \
   suspend_time?, invitation_id?, workspace_ids?
  invitation    organization_id, invitation_id? (made), email, role, state? (pending; accepted, declined, canceled), \
   create_time? (now), send_time? (create_time), expire_time, end_time? (send_time; of an ended one), send_count? (1), \
   inviter_user_id?, inviter_role? (one that may invite to the role), invitee_user_id?, workspace_ids? (at most 10)

  An organization's line comes before those of what is in it; its roles and workspaces before whoever holds or is in them. \
   Each organization needs an active member in the top role, and seats for its active members and its pending invitations that \
   have not expired.";

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// An organization.
    Organization(Organization),
    /// Its subscription.
    Subscription(Subscription),
    /// A role of its own.
    Role(Role),
    /// A workspace in it.
    Workspace(Workspace),
    /// A room in it.
    Room(Workspace),
    /// A member of it.
    Member(Member),
    /// An invitation to it.
    Invitation(Invitation),
}

impl Line {
    /// The organization that it is about.
    #[must_use]
    pub fn organization_id(&self) -> Uuid {
        match self {
            Self::Organization(line) => line.organization_id,
            Self::Subscription(line) => line.organization_id,
            Self::Role(line) => line.organization_id,
            Self::Workspace(line) | Self::Room(line) => line.organization_id,
            Self::Member(line) => line.organization_id,
            Self::Invitation(line) => line.organization_id,
        }
    }
}

/// An organization.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the contract's message of this name")]
pub struct Organization {
    pub organization_id: Uuid,
    pub name: String,
    pub slug: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub logo_uri: String,
    pub time_zone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_of_user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<DateTime<Utc>>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the contract's message of this name")]
pub struct Subscription {
    pub organization_id: Uuid,
    pub plan_id: String,
    #[serde(serialize_with = "status")]
    pub status: subscription::Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seats: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<DateTime<Utc>>,
}

/// A role of an organization's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the contract's message of this name")]
pub struct Role {
    pub organization_id: Uuid,
    pub role: String,
    pub title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(flatten)]
    pub definition: custom::Definition,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<DateTime<Utc>>,
}

/// A workspace or a room.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the contract's message of this name")]
pub struct Workspace {
    pub organization_id: Uuid,
    pub workspace_id: Uuid,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_settings: Option<RoomSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<DateTime<Utc>>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the contract's message of this name")]
pub struct Member {
    pub organization_id: Uuid,
    pub user_id: String,
    #[serde(serialize_with = "written")]
    pub email: Email,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub avatar_uri: String,
    pub role: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_time: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sign_in_time: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend_time: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invitation_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workspace_ids: Vec<Uuid>,
}

/// An invitation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the contract's message of this name")]
pub struct Invitation {
    pub organization_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invitation_id: Option<Uuid>,
    #[serde(serialize_with = "written")]
    pub email: Email,
    pub role: String,
    #[serde(serialize_with = "state")]
    pub state: invitation::State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_time: Option<DateTime<Utc>>,
    pub expire_time: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<DateTime<Utc>>,
    pub send_count: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub inviter_user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inviter_role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invitee_user_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workspace_ids: Vec<Uuid>,
}

const STATUSES: [(&str, subscription::Status); 5] = [
    ("active", subscription::Status::Active),
    ("trialing", subscription::Status::Trialing),
    ("past_due", subscription::Status::PastDue),
    ("unpaid", subscription::Status::Unpaid),
    ("canceled", subscription::Status::Canceled),
];
const STATES: [(&str, invitation::State); 4] = [
    ("pending", invitation::State::Pending),
    ("accepted", invitation::State::Accepted),
    ("declined", invitation::State::Declined),
    ("canceled", invitation::State::Canceled),
];
const ACCESSES: [(&str, Access); 3] =
    [("members", Access::Members), ("assigned", Access::Assigned), ("anyone", Access::Anyone)];

fn word<T: PartialEq, S: Serializer>(words: &[(&str, T)], value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let word = words.iter().find(|(_, meaning)| meaning == value).map(|(word, _)| *word);
    serializer.serialize_str(word.ok_or_else(|| serde::ser::Error::custom("a value without a word"))?)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn status<S: Serializer>(value: &subscription::Status, serializer: S) -> Result<S::Ok, S::Error> {
    word(&STATUSES, value, serializer)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn state<S: Serializer>(value: &invitation::State, serializer: S) -> Result<S::Ok, S::Error> {
    word(&STATES, value, serializer)
}

fn written<S: Serializer>(email: &Email, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&email.written)
}
