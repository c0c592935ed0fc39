//! What happened in an organization: one append-only log, audit trail and outbox in one.
//!
//! Names and payloads are a contract with everyone who reads the log: they are added to, never changed. No payload holds an
//! e-mail address or a token; ids lead to the rows that do, as long as those exist.

pub mod log;
mod subject;

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use subject::Subject;

/// Something that happened, with what it was before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub enum Change {
    /// An organization began, with its founder as the first member.
    #[serde(rename = "organization.created")]
    OrganizationCreated {
        /// Its name.
        name: String,
        /// Its slug.
        slug: String,
        /// Its first plan.
        plan_id: String,
        /// Its first seats.
        seats: i64,
    },
    /// Fields of the organization changed.
    #[serde(rename = "organization.updated")]
    OrganizationUpdated {
        /// The fields that changed, each with its values.
        changes: Vec<FieldChange>,
    },
    /// The organization was deleted, and can be undeleted until a time.
    #[serde(rename = "organization.deleted")]
    OrganizationDeleted {
        /// Until when, RFC 3339.
        purge_time: String,
    },
    /// The organization's deletion was taken back.
    #[serde(rename = "organization.undeleted")]
    OrganizationUndeleted {},
    /// Somebody was invited.
    #[serde(rename = "invitation.created")]
    InvitationCreated {
        /// The invitation.
        invitation_id: Uuid,
        /// The role offered.
        role: String,
        /// When it expires, RFC 3339.
        expire_time: String,
    },
    /// An invitation was sent again, its old token being worthless from then on.
    #[serde(rename = "invitation.resent")]
    InvitationResent {
        /// The invitation.
        invitation_id: Uuid,
        /// The role offered before.
        role_before: String,
        /// The role offered.
        role: String,
        /// When it expires, RFC 3339.
        expire_time: String,
    },
    /// An invitation was canceled.
    #[serde(rename = "invitation.canceled")]
    InvitationCanceled {
        /// The invitation.
        invitation_id: Uuid,
        /// The role that it offered.
        role: String,
    },
    /// An invitation was accepted.
    #[serde(rename = "invitation.accepted")]
    InvitationAccepted {
        /// The invitation.
        invitation_id: Uuid,
        /// By whom.
        user_id: String,
    },
    /// An invitation was declined.
    #[serde(rename = "invitation.declined")]
    InvitationDeclined {
        /// The invitation.
        invitation_id: Uuid,
        /// By whom.
        user_id: String,
    },
    /// Somebody became a member.
    #[serde(rename = "member.joined")]
    MemberJoined {
        /// Who.
        user_id: String,
        /// In which role.
        role: String,
        /// By which invitation, if by one; none for the founder.
        invitation_id: Option<Uuid>,
        /// By the rule of which verified domain, if by one.
        #[serde(default)]
        domain: Option<String>,
        /// The workspaces to which they are assigned from the beginning.
        #[serde(default)]
        workspace_ids: Vec<Uuid>,
    },
    /// A member's role changed.
    #[serde(rename = "member.role_changed")]
    MemberRoleChanged {
        /// Whose.
        user_id: String,
        /// The role before.
        before: String,
        /// The role after.
        after: String,
    },
    /// A member was removed by another.
    #[serde(rename = "member.removed")]
    MemberRemoved {
        /// Who.
        user_id: String,
        /// The role they held.
        role: String,
        /// The workspaces to which they were assigned until then, so that what they had there can be given to others.
        #[serde(default)]
        workspace_ids: Vec<Uuid>,
    },
    /// A member left.
    #[serde(rename = "member.left")]
    MemberLeft {
        /// Who.
        user_id: String,
        /// The role they held.
        role: String,
        /// The workspaces to which they were assigned until then, so that what they had there can be given to others.
        #[serde(default)]
        workspace_ids: Vec<Uuid>,
    },
    /// A member was suspended.
    #[serde(rename = "member.suspended")]
    MemberSuspended {
        /// Who.
        user_id: String,
        /// The role they hold.
        role: String,
    },
    /// A member's suspension ended.
    #[serde(rename = "member.reactivated")]
    MemberReactivated {
        /// Who.
        user_id: String,
        /// The role they hold.
        role: String,
    },
    /// A member signed in to the product.
    #[serde(rename = "member.signed_in")]
    MemberSignedIn {
        /// Who.
        user_id: String,
        /// When, RFC 3339.
        sign_in_time: String,
        /// What the identity provider said anew of them: `email`, `display_name`, `avatar_uri`.
        changed: Vec<String>,
    },
    /// The top role passed from one member to another.
    #[serde(rename = "ownership.transferred")]
    OwnershipTransferred {
        /// From whom.
        from_user_id: String,
        /// To whom.
        to_user_id: String,
        /// The role that the former holder took.
        former_holder_role: String,
    },
    /// An organization came from an older system, with all its people.
    #[serde(rename = "organization.imported")]
    OrganizationImported {
        /// How many members.
        members: i64,
        /// How many invitations.
        invitations: i64,
        /// How many workspaces.
        workspaces: i64,
    },
    /// Settings of the organization changed.
    #[serde(rename = "settings.updated")]
    SettingsUpdated {
        /// The fields that changed, each with its values.
        changes: Vec<FieldChange>,
    },
    /// A workspace or room was made.
    #[serde(rename = "workspace.created")]
    WorkspaceCreated {
        /// Which.
        workspace_id: Uuid,
        /// `workspace` or `room`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Fields of a workspace changed.
    #[serde(rename = "workspace.updated")]
    WorkspaceUpdated {
        /// Which.
        workspace_id: Uuid,
        /// The fields that changed, each with its values.
        changes: Vec<FieldChange>,
    },
    /// A workspace was deleted, and nobody is assigned to it any more.
    #[serde(rename = "workspace.deleted")]
    WorkspaceDeleted {
        /// Which.
        workspace_id: Uuid,
        /// `workspace` or `room`.
        kind: String,
        /// Its name.
        name: String,
        /// How many members were assigned to it.
        unassigned_members: i64,
    },
    /// A member was assigned to workspaces, or no longer.
    #[serde(rename = "member.workspaces_changed")]
    MemberWorkspacesChanged {
        /// Who.
        user_id: String,
        /// The workspaces to which they are assigned now.
        added: Vec<Uuid>,
        /// The workspaces to which they are assigned no longer.
        removed: Vec<Uuid>,
    },
    /// A role of the organization's own was defined.
    #[serde(rename = "role.created")]
    RoleCreated {
        /// Which.
        role: String,
        /// What its holders may do.
        permissions: Vec<String>,
    },
    /// A role of the organization's own changed.
    #[serde(rename = "role.updated")]
    RoleUpdated {
        /// Which.
        role: String,
        /// The fields that changed, each with its values.
        changes: Vec<FieldChange>,
    },
    /// A role of the organization's own was deleted.
    #[serde(rename = "role.deleted")]
    RoleDeleted {
        /// Which.
        role: String,
        /// The role that its holders took.
        replacement: Option<String>,
        /// How many members took it.
        members: i64,
        /// How many invitations offer it now.
        invitations: i64,
    },
    /// A domain was claimed.
    #[serde(rename = "domain.claimed")]
    DomainClaimed {
        /// Which.
        domain: String,
    },
    /// A domain was proved to be the organization's.
    #[serde(rename = "domain.verified")]
    DomainVerified {
        /// Which.
        domain: String,
    },
    /// What those may do whose address is of a domain changed.
    #[serde(rename = "domain.updated")]
    DomainUpdated {
        /// Which.
        domain: String,
        /// The fields that changed, each with its values.
        changes: Vec<FieldChange>,
    },
    /// A domain was given up.
    #[serde(rename = "domain.released")]
    DomainReleased {
        /// Which.
        domain: String,
    },
    /// Somebody asked to join by the domain of their address.
    #[serde(rename = "join_request.created")]
    JoinRequestCreated {
        /// The request.
        join_request_id: Uuid,
        /// Who.
        user_id: String,
        /// The role that the domain's rule offers.
        role: String,
    },
    /// A request to join was approved.
    #[serde(rename = "join_request.approved")]
    JoinRequestApproved {
        /// The request.
        join_request_id: Uuid,
        /// Whose.
        user_id: String,
    },
    /// A request to join was declined.
    #[serde(rename = "join_request.declined")]
    JoinRequestDeclined {
        /// The request.
        join_request_id: Uuid,
        /// Whose.
        user_id: String,
    },
    /// A request to join was taken back.
    #[serde(rename = "join_request.withdrawn")]
    JoinRequestWithdrawn {
        /// The request.
        join_request_id: Uuid,
        /// Whose.
        user_id: String,
    },
    /// A session began in a room.
    #[serde(rename = "session.started")]
    SessionStarted {
        /// Which.
        session_id: String,
        /// The room.
        workspace_id: Uuid,
        /// Who hosts it.
        host_user_id: String,
    },
    /// A session is to end: the meeting backend acts on it.
    #[serde(rename = "session.end_requested")]
    SessionEndRequested {
        /// Which.
        session_id: String,
        /// The room.
        workspace_id: Uuid,
    },
    /// A session ended.
    #[serde(rename = "session.ended")]
    SessionEnded {
        /// Which.
        session_id: String,
        /// The room.
        workspace_id: Uuid,
        /// How long it was.
        length_seconds: i64,
    },
    /// A recording was registered, or what is known of it changed.
    #[serde(rename = "recording.registered")]
    RecordingRegistered {
        /// Which.
        recording_id: String,
        /// Whose.
        owner_user_id: String,
        /// Its size in bytes.
        size_bytes: i64,
        /// The size that it had before; 0 for a new one.
        size_bytes_before: i64,
    },
    /// A recording was deleted: the meeting backend acts on it.
    #[serde(rename = "recording.deleted")]
    RecordingDeleted {
        /// Which.
        recording_id: String,
        /// Whose.
        owner_user_id: String,
        /// Its size in bytes.
        size_bytes: i64,
    },
    /// The billing profile changed. What it says is not in the log: it may be about a person.
    #[serde(rename = "billing_profile.updated")]
    BillingProfileUpdated {
        /// The fields that changed.
        fields: Vec<String>,
    },
    /// The number of seats changed.
    #[serde(rename = "subscription.seats_changed")]
    SubscriptionSeatsChanged {
        /// The seats before.
        before: i64,
        /// The seats after.
        after: i64,
    },
}

/// A field that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field.
    pub field: String,
    /// Its value before.
    pub before: String,
    /// Its value after.
    pub after: String,
}

/// Sets a field to its new value, if it has one, and notes it if it was another before.
pub fn set<T: Clone + PartialEq + fmt::Display>(
    changes: &mut Vec<FieldChange>,
    field: &str,
    new: Option<&T>,
    current: &mut T,
) {
    if let Some(new) = new.filter(|new| *new != current) {
        let before = std::mem::replace(current, new.clone()).to_string();
        changes.push(FieldChange { field: field.to_owned(), before, after: new.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_keeps_can_be_read_back() {
        let changes = vec![FieldChange { field: "name".into(), before: "A".into(), after: "B".into() }];
        for (name, change) in [
            ("organization.updated", Change::OrganizationUpdated { changes }),
            ("organization.undeleted", Change::OrganizationUndeleted {}),
            (
                "member.left",
                Change::MemberLeft { user_id: "ann".into(), role: "owner".into(), workspace_ids: Vec::new() },
            ),
        ] {
            let kept = serde_json::to_value(&change).unwrap();
            assert_eq!(kept["type"], name);
            assert!(kept["payload"].is_object());
            assert_eq!(serde_json::from_value::<Change>(kept).unwrap(), change);
        }
    }
}
