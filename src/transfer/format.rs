//! The lines of the format: one type for what is read and what is written.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::object::Object;
use crate::auth::permission;
use crate::auth::policy::custom;
use crate::email::Email;
use crate::entity::workspace::{Access, RoomSettings};
use crate::entity::{invitation, subscription};
use crate::error::Violation;
use crate::fields::{Fields, parse_uuid};
use crate::organization::rules;
use crate::pb::Permission;

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

/// The most workspaces that may be chosen when inviting.
const INVITED_TO: usize = 10;
/// The most workspaces of a member that a line says.
const ASSIGNED_TO: usize = 10_000;

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

/// A line that has faults, and what it is about as far as that can be told: others shall not seem wrong for its sake.
#[derive(Clone, Debug, PartialEq)]
pub struct Faulty {
    /// What is wrong with it.
    pub violations: Vec<Violation>,
    /// The organization that it is about.
    pub organization_id: Option<Uuid>,
    /// What other lines may name.
    pub names: Option<Named>,
}

/// What other lines may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// An organization.
    Organization,
    /// A workspace or a room.
    Workspace(Uuid),
    /// A role.
    Role(String),
}

impl Faulty {
    /// A line that is none at all.
    #[must_use]
    pub fn unreadable(description: &str) -> Self {
        Self::with(Violation { field: String::new(), description: description.to_owned() })
    }

    fn with(violation: Violation) -> Self {
        Self { violations: vec![violation], organization_id: None, names: None }
    }
}

/// Reads a line, or names everything that is wrong with it by itself.
pub fn read(line: &str) -> Result<Line, Faulty> {
    let mut object = Object::read(line).map_err(Faulty::with)?;
    let kind = object.required("kind", |_, _, text| text.to_owned());
    let organization_id = object.required("organization_id", |_, _, text| text.to_owned());
    let known = parse_uuid(&organization_id);
    if known.is_none() {
        object.fault("organization_id", "must be a UUID, as in 0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70");
    }
    let id = known.unwrap_or_default();
    let (line, names) = match kind.as_str() {
        "organization" => (Some(Line::Organization(organization(&mut object, id))), Some(Named::Organization)),
        "subscription" => (Some(Line::Subscription(subscription(&mut object, id))), None),
        "role" => named_role(&mut object, id),
        "workspace" => named_workspace(&mut object, id, false),
        "room" => named_workspace(&mut object, id, true),
        "member" => (member(&mut object, id).map(Line::Member), None),
        "invitation" => (invitation(&mut object, id).map(Line::Invitation), None),
        _ => {
            let mut faulty = Faulty::with(Violation {
                field: "kind".into(),
                description: "must be one of organization, subscription, role, workspace, room, member, invitation"
                    .into(),
            });
            faulty.organization_id = known;
            return Err(faulty);
        }
    };
    let violations = object.finish().violations();
    match line {
        Some(line) if violations.is_empty() => Ok(line),
        _ => Err(Faulty { violations, organization_id: known, names }),
    }
}

fn named_role(object: &mut Object, organization_id: Uuid) -> (Option<Line>, Option<Named>) {
    let role = role(object, organization_id);
    let named = Named::Role(role.role.clone());
    (Some(Line::Role(role)), Some(named))
}

fn named_workspace(object: &mut Object, organization_id: Uuid, room: bool) -> (Option<Line>, Option<Named>) {
    let workspace = workspace(object, organization_id, room);
    let named = Named::Workspace(workspace.workspace_id);
    (Some(if room { Line::Room(workspace) } else { Line::Workspace(workspace) }), Some(named))
}

fn organization(object: &mut Object, organization_id: Uuid) -> Organization {
    Organization {
        organization_id,
        name: object.required("name", |fields, key, text| fields.line(key, text, 1..=100)),
        slug: object.required("slug", slug),
        description: object.optional("description", |f, key, text| f.paragraph(key, text, 1000)).unwrap_or_default(),
        logo_uri: object.optional("logo_uri", Fields::https_uri).unwrap_or_default(),
        time_zone: object.optional("time_zone", Fields::time_zone).unwrap_or_else(|| "UTC".to_owned()),
        default_of_user_id: object.optional("default_of_user_id", Fields::user_id),
        create_time: object.time("create_time"),
    }
}

fn slug(fields: &mut Fields, key: &str, text: &str) -> String {
    if !rules::is_slug(text) {
        fields.fault(key, "must be 3 to 63 of a–z, 0–9 and hyphens, with no hyphen at either end");
    }
    text.to_owned()
}

fn subscription(object: &mut Object, organization_id: Uuid) -> Subscription {
    Subscription {
        organization_id,
        plan_id: object.required("plan_id", |_, _, text| text.to_owned()),
        status: object.word("status", &STATUSES).unwrap_or(subscription::Status::Active),
        seats: object.number("seats"),
        create_time: object.time("create_time"),
    }
}

fn role(object: &mut Object, organization_id: Uuid) -> Role {
    let name = |_: &mut Fields, _: &str, text: &str| text.to_owned();
    Role {
        organization_id,
        role: object.required("role", |fields, key, text| {
            if !custom::is_name(text) {
                fields.fault(key, "must be org: and 1 to 36 lower case letters, digits and _, a letter first");
            }
            text.to_owned()
        }),
        title: object.required("title", |fields, key, text| fields.line(key, text, 1..=60)),
        description: object.optional("description", |f, key, text| f.line(key, text, 0..=200)).unwrap_or_default(),
        definition: custom::Definition {
            permissions: object.list("permissions", grantable),
            invites: object.list("invites", name),
            changes: object.list("changes", name),
            removes: object.list("removes", name),
            managed_by: object.list("managed_by", name),
        },
        create_time: object.time("create_time"),
    }
}

/// A permission that a role of an organization's own may have.
fn grantable(fields: &mut Fields, key: &str, text: &str) -> String {
    let kept = [Permission::OwnershipTransfer, Permission::RolesManage];
    let found = permission::all().find(|permission| permission::name(*permission) == text);
    match found {
        None => fields.fault(key, "is not a permission"),
        Some(found) if kept.contains(&found) => fields.fault(key, "is of the top role alone"),
        Some(_) => {}
    }
    text.to_owned()
}

fn workspace(object: &mut Object, organization_id: Uuid, room: bool) -> Workspace {
    Workspace {
        organization_id,
        workspace_id: object.required("workspace_id", Fields::uuid),
        name: object.required("name", |fields, key, text| fields.line(key, text, 1..=100)),
        description: object.optional("description", |f, key, text| f.paragraph(key, text, 1000)).unwrap_or_default(),
        slug: if room { Some(object.required("slug", slug)) } else { None },
        room_settings: if room { Some(object.inner("room_settings", settings).unwrap_or_default()) } else { None },
        create_time: object.time("create_time"),
    }
}

fn settings(object: &mut Object) -> RoomSettings {
    let maximum_participants = object.number("maximum_participants").unwrap_or_default();
    let maximum_participants = i32::try_from(maximum_participants).ok().filter(|most| (0..=100_000).contains(most));
    if maximum_participants.is_none() {
        object.fault("maximum_participants", "must be 0 to 100,000");
    }
    RoomSettings {
        access: object.word("access", &ACCESSES).unwrap_or_default(),
        lobby: object.flag("lobby"),
        mute_on_entry: object.flag("mute_on_entry"),
        automatic_recording: object.flag("automatic_recording"),
        maximum_participants: maximum_participants.unwrap_or_default(),
    }
}

fn workspace_ids(object: &mut Object, most: usize) -> Vec<Uuid> {
    let mut ids = object.list("workspace_ids", Fields::uuid);
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > most {
        object.fault("workspace_ids", format!("must have at most {most} items"));
    }
    ids
}

/// None only with a fault.
fn member(object: &mut Object, organization_id: Uuid) -> Option<Member> {
    let email = object.required("email", Fields::email);
    let member = Member {
        organization_id,
        user_id: object.required("user_id", Fields::user_id),
        email: Email { written: String::new(), normalized: String::new() },
        display_name: object.optional("display_name", |f, key, text| f.line(key, text, 0..=200)).unwrap_or_default(),
        avatar_uri: object.optional("avatar_uri", Fields::https_uri).unwrap_or_default(),
        role: object.required("role", |_, _, text| text.to_owned()),
        join_time: object.time("join_time"),
        last_sign_in_time: object.time("last_sign_in_time").filter(|time| *time > DateTime::UNIX_EPOCH),
        suspend_time: object.time("suspend_time"),
        invitation_id: object.optional("invitation_id", Fields::uuid),
        workspace_ids: workspace_ids(object, ASSIGNED_TO),
    };
    email.map(|email| Member { email, ..member })
}

/// None only with a fault.
fn invitation(object: &mut Object, organization_id: Uuid) -> Option<Invitation> {
    let email = object.required("email", Fields::email);
    let expire_time = object.time("expire_time");
    let state = object.word("state", &STATES).unwrap_or(invitation::State::Pending);
    let end_time = object.time("end_time");
    let invitee_user_id = object.optional("invitee_user_id", Fields::user_id);
    if state == invitation::State::Pending && (end_time.is_some() || invitee_user_id.is_some()) {
        object.fault("state", "is pending, and a pending one has neither end_time nor invitee_user_id");
    }
    let send_count = i32::try_from(object.number("send_count").unwrap_or(1)).ok().filter(|count| *count >= 1);
    if send_count.is_none() {
        object.fault("send_count", "must be 1 or more");
    }
    let mut invitation = Invitation {
        organization_id,
        invitation_id: object.optional("invitation_id", Fields::uuid),
        email: Email { written: String::new(), normalized: String::new() },
        role: object.required("role", role_said),
        state,
        create_time: object.time("create_time"),
        send_time: object.time("send_time"),
        expire_time: expire_time.unwrap_or_default(),
        end_time,
        send_count: send_count.unwrap_or(1),
        inviter_user_id: object.optional("inviter_user_id", Fields::user_id).unwrap_or_default(),
        inviter_role: object.optional("inviter_role", role_said),
        invitee_user_id,
        workspace_ids: workspace_ids(object, INVITED_TO),
    };
    if expire_time.is_none() {
        object.fault("expire_time", "must be said");
    }
    invitation.email = email?;
    Some(invitation)
}

/// The name of a role, of which nothing but its form is judged here.
fn role_said(fields: &mut Fields, key: &str, text: &str) -> String {
    fields.line(key, text, 1..=64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70";

    fn faults(line: &str) -> Vec<String> {
        let faulty = read(line).unwrap_err();
        faulty.violations.iter().map(|fault| format!("{}: {}", fault.field, fault.description)).collect()
    }

    #[test]
    fn every_fault_of_a_line_is_told_at_once() {
        let told = faults(&format!(
            r#"{{"kind":"member","organization_id":"{ID}","user_id":" a","emial":"a@x.com","role":7,"email":"x","role":"b","join_time":"monday","workspace_ids":["1",2]}}"#
        ));
        for part in ["role: stands twice", "email: must have an @", "user_id: has white", "role: must be a text"] {
            assert!(told.iter().any(|fault| fault.contains(part)), "{part}: {told:?}");
        }
        for part in ["join_time:", "workspace_ids[0]:", "workspace_ids[1]:", "emial: is not a key"] {
            assert!(told.iter().any(|fault| fault.contains(part)), "{part}: {told:?}");
        }
        assert_eq!(told.len(), 8, "{told:?}");
    }

    #[test]
    fn a_key_within_an_object_is_read_as_strictly() {
        let told = faults(&format!(
            r#"{{"kind":"room","organization_id":"{ID}","workspace_id":"{ID}","name":"R","slug":"r1-","room_settings":{{"lobby":1,"loby":true}}}}"#
        ));
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().any(|fault| fault.starts_with("room_settings.loby: is not a key")), "{told:?}");
    }

    #[test]
    fn a_faulty_line_still_says_what_it_is_about() {
        let faulty = read(&format!(r#"{{"kind":"organization","organization_id":"{ID}","name":""}}"#)).unwrap_err();
        assert_eq!((faulty.organization_id, faulty.names), (parse_uuid(ID), Some(Named::Organization)));
    }

    fn times() -> impl Strategy<Value = Option<DateTime<Utc>>> {
        prop::option::of((1..4_000_000_000_000_000_i64).prop_filter_map("a time", DateTime::from_timestamp_micros))
    }

    fn members() -> impl Strategy<Value = Line> {
        let texts = ("[a-z|0-9ä]{1,20}", "[a-z]{1,8}@[a-z]{1,8}\\.com", "\\PC{0,30}");
        (texts, times(), times(), any::<Option<u128>>(), prop::collection::btree_set(any::<u128>(), 0..4)).prop_map(
            |((user_id, email, name), join_time, suspend_time, invited, workspaces)| {
                let name = if crate::text::has_control(&name) { String::new() } else { name.trim().to_owned() };
                Line::Member(Member {
                    organization_id: Uuid::from_u128(7),
                    user_id,
                    email: Email::parse(&email).unwrap(),
                    display_name: name,
                    avatar_uri: String::new(),
                    role: "member".into(),
                    join_time,
                    last_sign_in_time: join_time,
                    suspend_time,
                    invitation_id: invited.map(Uuid::from_u128),
                    workspace_ids: workspaces.into_iter().map(Uuid::from_u128).collect(),
                })
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(line in members()) {
            let written = serde_json::to_string(&line).unwrap();
            prop_assert_eq!(read(&written), Ok(line));
        }

        #[test]
        fn any_text_is_read_or_has_a_fault(text in "\\PC{0,200}") {
            prop_assert!(read(&text).map_or_else(|faulty| !faulty.violations.is_empty(), |_| true));
        }
    }
}
