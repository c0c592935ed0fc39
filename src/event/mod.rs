//! What happened in an organization: one append-only log, audit trail and outbox in one.
//!
//! Names and payloads are a contract with everyone who reads the log: they are added to, never changed. No payload holds an
//! e-mail address or a token; ids lead to the rows that do, as long as those exist.

pub mod log;

use serde::Serialize;
use uuid::Uuid;

/// Something that happened, with what it was before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Change {
    /// An organization began, with its founder as the first member.
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
    OrganizationUpdated {
        /// The fields that changed.
        fields: Vec<&'static str>,
        /// Their values before, in that order.
        before: Vec<String>,
        /// Their values after, in that order.
        after: Vec<String>,
    },
    /// The organization was deleted, and can be undeleted until a time.
    OrganizationDeleted {
        /// Until when, RFC 3339.
        purge_time: String,
    },
    /// The organization's deletion was taken back.
    OrganizationUndeleted {},
    /// Somebody was invited.
    InvitationCreated {
        /// The invitation.
        invitation_id: Uuid,
        /// The role offered.
        role: String,
        /// When it expires, RFC 3339.
        expire_time: String,
    },
    /// An invitation was sent again, its old token being worthless from then on.
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
    InvitationCanceled {
        /// The invitation.
        invitation_id: Uuid,
        /// The role that it offered.
        role: String,
    },
    /// An invitation was accepted.
    InvitationAccepted {
        /// The invitation.
        invitation_id: Uuid,
        /// By whom.
        user_id: String,
    },
    /// An invitation was declined.
    InvitationDeclined {
        /// The invitation.
        invitation_id: Uuid,
        /// By whom.
        user_id: String,
    },
    /// Somebody became a member.
    MemberJoined {
        /// Who.
        user_id: String,
        /// In which role.
        role: String,
        /// By which invitation; none for the founder.
        invitation_id: Option<Uuid>,
    },
    /// A member's role changed.
    MemberRoleChanged {
        /// Whose.
        user_id: String,
        /// The role before.
        before: String,
        /// The role after.
        after: String,
    },
    /// A member was removed by another.
    MemberRemoved {
        /// Who.
        user_id: String,
        /// The role they held.
        role: String,
    },
    /// A member left.
    MemberLeft {
        /// Who.
        user_id: String,
        /// The role they held.
        role: String,
    },
    /// A member was suspended.
    MemberSuspended {
        /// Who.
        user_id: String,
        /// The role they hold.
        role: String,
    },
    /// A member's suspension ended.
    MemberReactivated {
        /// Who.
        user_id: String,
        /// The role they hold.
        role: String,
    },
    /// A member signed in to the product.
    MemberSignedIn {
        /// Who.
        user_id: String,
        /// When, RFC 3339.
        sign_in_time: String,
    },
    /// The top role passed from one member to another.
    OwnershipTransferred {
        /// From whom.
        from_user_id: String,
        /// To whom.
        to_user_id: String,
        /// The role that the former holder took.
        former_holder_role: String,
    },
    /// The number of seats changed.
    SubscriptionSeatsChanged {
        /// The seats before.
        before: i64,
        /// The seats after.
        after: i64,
    },
}

impl Change {
    /// The event's stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OrganizationCreated { .. } => "organization.created",
            Self::OrganizationUpdated { .. } => "organization.updated",
            Self::OrganizationDeleted { .. } => "organization.deleted",
            Self::OrganizationUndeleted {} => "organization.undeleted",
            Self::InvitationCreated { .. } => "invitation.created",
            Self::InvitationResent { .. } => "invitation.resent",
            Self::InvitationCanceled { .. } => "invitation.canceled",
            Self::InvitationAccepted { .. } => "invitation.accepted",
            Self::InvitationDeclined { .. } => "invitation.declined",
            Self::MemberJoined { .. } => "member.joined",
            Self::MemberRoleChanged { .. } => "member.role_changed",
            Self::MemberRemoved { .. } => "member.removed",
            Self::MemberLeft { .. } => "member.left",
            Self::MemberSuspended { .. } => "member.suspended",
            Self::MemberReactivated { .. } => "member.reactivated",
            Self::MemberSignedIn { .. } => "member.signed_in",
            Self::OwnershipTransferred { .. } => "ownership.transferred",
            Self::SubscriptionSeatsChanged { .. } => "subscription.seats_changed",
        }
    }
}
