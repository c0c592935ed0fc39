//! What happened in an organization: one append-only log, audit trail and outbox in one.
//!
//! Names and payloads are a contract with everyone who reads the log: they are added to, never changed. No payload holds an
//! e-mail address or a token; ids lead to the rows that do, as long as those exist.

pub mod log;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
        /// By which invitation; none for the founder.
        invitation_id: Option<Uuid>,
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
    },
    /// A member left.
    #[serde(rename = "member.left")]
    MemberLeft {
        /// Who.
        user_id: String,
        /// The role they held.
        role: String,
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

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The organization itself.
    Organization,
    /// An invitation.
    Invitation(Uuid),
    /// A member, present or past.
    Member(String),
    /// The subscription.
    Subscription,
}

impl Subject {
    /// As the log is searched by it: a kind, and an id where there are many of the kind.
    pub fn columns(&self) -> (&'static str, String) {
        match self {
            Self::Organization => ("organization", String::new()),
            Self::Invitation(id) => ("invitation", id.to_string()),
            Self::Member(user_id) => ("member", user_id.clone()),
            Self::Subscription => ("subscription", String::new()),
        }
    }
}

impl Change {
    /// What it is about.
    pub fn subject(&self) -> Subject {
        match self {
            Self::OrganizationCreated { .. }
            | Self::OrganizationUpdated { .. }
            | Self::OrganizationDeleted { .. }
            | Self::OrganizationUndeleted {} => Subject::Organization,
            Self::InvitationCreated { invitation_id, .. }
            | Self::InvitationResent { invitation_id, .. }
            | Self::InvitationCanceled { invitation_id, .. }
            | Self::InvitationAccepted { invitation_id, .. }
            | Self::InvitationDeclined { invitation_id, .. } => Subject::Invitation(*invitation_id),
            Self::MemberJoined { user_id, .. }
            | Self::MemberRoleChanged { user_id, .. }
            | Self::MemberRemoved { user_id, .. }
            | Self::MemberLeft { user_id, .. }
            | Self::MemberSuspended { user_id, .. }
            | Self::MemberReactivated { user_id, .. }
            | Self::MemberSignedIn { user_id, .. }
            | Self::OwnershipTransferred { to_user_id: user_id, .. } => Subject::Member(user_id.clone()),
            Self::SubscriptionSeatsChanged { .. } => Subject::Subscription,
        }
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
            ("member.left", Change::MemberLeft { user_id: "ann".into(), role: "owner".into() }),
        ] {
            let kept = serde_json::to_value(&change).unwrap();
            assert_eq!(kept["type"], name);
            assert!(kept["payload"].is_object());
            assert_eq!(serde_json::from_value::<Change>(kept).unwrap(), change);
        }
    }
}
