//! Reading a line: by the rules that requests are read by, every fault of it being named at once.

use chrono::DateTime;
use uuid::Uuid;

use super::{ACCESSES, Invitation, Line, Member, Organization, Role, STATES, STATUSES, Subscription, Workspace};
use crate::auth::permission;
use crate::auth::policy::custom;
use crate::email::Email;
use crate::entity::workspace::RoomSettings;
use crate::entity::{invitation, subscription};
use crate::error::Violation;
use crate::fields::{Fields, parse_uuid};
use crate::transfer::object::Object;
use crate::workspace::rules::{MOST_ASSIGNMENTS, MOST_INVITED_TO, MOST_PARTICIPANTS};

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
        slug: object.required("slug", Fields::slug),
        description: object.optional("description", |f, key, text| f.paragraph(key, text, 1000)).unwrap_or_default(),
        logo_uri: object.optional("logo_uri", Fields::https_uri).unwrap_or_default(),
        time_zone: object.optional("time_zone", Fields::time_zone).unwrap_or_else(|| "UTC".to_owned()),
        default_of_user_id: object.optional("default_of_user_id", Fields::user_id),
        create_time: object.time("create_time"),
    }
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
        description: object.optional("description", |f, key, text| f.paragraph(key, text, 200)).unwrap_or_default(),
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
    let found = permission::all().find(|permission| permission::name(*permission) == text);
    match found {
        None => fields.fault(key, "is not a permission"),
        Some(found) if custom::NEVER.contains(&found) => {
            fields.fault(key, format!("{text} is for roles of the role policy only"));
        }
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
        slug: if room { Some(object.required("slug", Fields::slug)) } else { None },
        room_settings: if room { Some(object.inner("room_settings", settings).unwrap_or_default()) } else { None },
        create_time: object.time("create_time"),
    }
}

fn settings(object: &mut Object) -> RoomSettings {
    let maximum_participants = object.number("maximum_participants").unwrap_or_default();
    let maximum_participants =
        i32::try_from(maximum_participants).ok().filter(|most| (0..=MOST_PARTICIPANTS).contains(most));
    if maximum_participants.is_none() {
        object.fault("maximum_participants", format!("must be 0 to {MOST_PARTICIPANTS}"));
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
        workspace_ids: workspace_ids(object, MOST_ASSIGNMENTS),
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
        workspace_ids: workspace_ids(object, MOST_INVITED_TO),
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
