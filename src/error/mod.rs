//! Everything that a call can be refused for, and what the wire says of it.
//!
//! One enum, named after what happened in the domain; one mapping to a status (`status.rs`). Nothing else in the crate
//! builds a `Status`, so no SQL and no internals can reach a client by another way.

mod billing;
mod details;
mod status;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::DbErr;
use uuid::Uuid;

use crate::auth::caller::IdentityFault;
use crate::auth::policy::Right;
use crate::pb::Permission;

pub use billing::Billing;
pub use details::{DOMAIN, reason_of};
pub use status::reason_name;

/// Why a call is refused.
#[expect(missing_docs, reason = "each is documented where clients read it: as an ErrorReason in the proto")]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // INVALID_ARGUMENT
    #[error("fields are wrong")]
    Fields(Vec<Violation>),
    #[error("the request_id was used for another request")]
    RequestIdReused,
    #[error("{field} has {size} items, at most {maximum} are taken")]
    BatchTooLarge { field: &'static str, size: usize, maximum: usize },
    #[error("the page token is not one of this list")]
    PageTokenInvalid,
    #[error("the cursor is not one of what is watched")]
    CursorInvalid,
    #[error("events after the cursor are forgotten")]
    CursorExpired,
    #[error("the request cannot be read")]
    Unreadable { field: String, fault: String },

    // UNAUTHENTICATED
    #[error("the identity does not hold")]
    Identity(IdentityFault),

    // PERMISSION_DENIED
    #[error("the role lacks the permission")]
    RoleLacksPermission { permission: Permission, role: String },
    #[error("the claimed role lacks the permission")]
    ClaimedRoleLacksPermission { permission: Permission, role: String },
    #[error("the role policy does not know the role")]
    RoleUnknown { role: String },
    #[error("the request is for another organization")]
    OrganizationMismatch,
    #[error("the caller acts in no organization")]
    OrganizationRequired,
    #[error("the caller is not a member")]
    NotAMember,
    #[error("the caller is suspended")]
    MemberSuspended,
    #[error("the claimed role is not the stored one any more")]
    RoleStale { permission: Permission, claimed: String, stored: String },
    #[error("the role may not manage that role")]
    RoleAboveCaller { role: String, target_role: String },
    #[error("the role would have what the caller's has not")]
    RoleBeyondCaller { role: String, target_role: String, beyond: Vec<Right> },
    #[error("the invitation is for another e-mail address")]
    InvitationEmailMismatch,
    #[error("only a user may call this")]
    UserRequired,
    #[error("only a trusted service may call this")]
    ServiceRequired,
    #[error("the caller has no verified e-mail address")]
    EmailRequired,

    // NOT_FOUND
    #[error("no such organization")]
    OrganizationNotFound { organization_id: Uuid },
    #[error("no such member")]
    MemberNotFound { user_id: String },
    #[error("no such invitation")]
    InvitationNotFound { invitation_id: Option<Uuid> },
    #[error("no such workspace")]
    WorkspaceNotFound { workspace_id: String },
    #[error("no such e-mail")]
    MailNotFound { mail_id: Uuid },
    #[error("the e-mail is not parked")]
    MailNotParked { mail_id: Uuid, state: &'static str },
    #[error("no such webhook endpoint")]
    WebhookEndpointNotFound { endpoint_id: Uuid },
    #[error("the webhook endpoint is disabled")]
    WebhookEndpointDisabled { endpoint_id: Uuid, cause: &'static str },
    #[error("no such delivery of a webhook")]
    WebhookDeliveryNotFound { event_number: i64 },
    #[error("no such room")]
    RoomNotFound { slug: String },
    #[error("no such custom role")]
    RoleNotFound { role: String },
    #[error("no such domain")]
    DomainNotFound { domain: String },
    #[error("no such request to join")]
    JoinRequestNotFound { join_request_id: Option<Uuid> },
    #[error("no such session")]
    SessionNotFound { session_id: String },
    #[error("no such recording")]
    RecordingNotFound { recording_id: String },

    // ALREADY_EXISTS
    #[error("a member already")]
    AlreadyMember { user_id: String },
    #[error("the slug is taken")]
    SlugTaken { slug: String },
    #[error("the room's slug is taken")]
    RoomSlugTaken { slug: String },
    #[error("the role exists")]
    RoleExists { role: String },
    #[error("the domain is another organization's")]
    DomainTaken { domain: String },

    // FAILED_PRECONDITION
    #[error("not enough free seats")]
    SeatLimitReached { total: i64, members: i64, pending: i64, requested: i64 },
    /// As [`Error::SeatLimitReached`], to somebody who is no member and hears no figures.
    #[error("no seat is free")]
    SeatsTaken,
    #[error("nobody would hold the top role")]
    LastOwner { role: String },
    #[error("not on oneself")]
    SelfChangeForbidden { instead: &'static str },
    #[error("the invitation has ended")]
    InvitationNotPending { invitation_id: Uuid, state: &'static str },
    #[error("the invitation has expired")]
    InvitationExpired { invitation_id: Uuid, expired_at: DateTime<Utc> },
    #[error("the role of the invitation is gone")]
    InvitationRoleNotGrantable { role: String },
    #[error("fewer seats than are used")]
    SeatsBelowUsed { requested: i64, members: i64, pending: i64 },
    #[error("the plan does not allow that many seats")]
    SeatsOutsidePlan { plan_id: String, requested: i64, minimum: i64, maximum: Option<i64> },
    #[error("the catalogue does not have the plan")]
    PlanUnknown { plan_id: String },
    #[error("payment is overdue")]
    SubscriptionPastDue { status: &'static str },
    #[error("something must end first")]
    OrganizationHasBlockers { blockers: Vec<Blocker> },
    #[error("the organization is deleted")]
    OrganizationDeleted { purge_at: Option<DateTime<Utc>> },
    #[error("the organization is not deleted")]
    OrganizationNotDeleted,
    #[error("the member is suspended")]
    MemberNotActive { user_id: String },
    #[error("the settings do not allow the domain of the e-mail address")]
    EmailDomainNotAllowed { domain: String },
    #[error("the role is in use")]
    RoleInUse { role: String, members: i64, invitations: i64, domains: i64, join_requests: i64 },
    #[error("the role policy allows no custom roles")]
    CustomRolesDisabled,
    #[error("as many as there can be")]
    LimitReached { of: &'static str, maximum: usize },
    #[error("the domain is not verified")]
    DomainNotVerified { domain: String },
    #[error("the domain does not have the record")]
    DomainProofNotFound { domain: String, record_name: String, record_value: String },
    #[error("the domain of the address lets nobody in")]
    JoiningNotOpen,
    #[error("the request to join has ended")]
    JoinRequestNotPending { join_request_id: Uuid, state: &'static str },
    #[error("the session has ended")]
    SessionNotLive { session_id: String },

    /// A refusal about plans, invoices, payments or usage.
    #[error("{0}")]
    Billing(#[from] Billing),

    // ABORTED
    #[error("the resource has changed")]
    EtagMismatch { current: String },
    #[error("lost against concurrent changes")]
    Conflict,

    #[error("the domain name system does not answer")]
    DnsUnavailable,
    #[error("the deadline has passed")]
    DeadlineExceeded,

    /// Several items of a batch are refused, each for its own reason.
    #[error("items of the batch are refused")]
    Items { field: &'static str, faults: Vec<(usize, Error)> },

    /// The database failed: away, lost against a concurrent change, or a defect.
    #[error("the database failed")]
    Database(#[from] DbErr),
    /// A defect of the service.
    #[error("the server stops")]
    ServerStopping,
    #[error("{0}")]
    Defect(&'static str, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),

    #[error("the server has too much to do")]
    Overloaded { retry_after: Duration },

    // RESOURCE_EXHAUSTED
    #[error("too many calls of one {of}")]
    RateLimited { of: &'static str, per_second: u32, retry_after: Duration },
    #[error("too many {of} at a time of one caller")]
    ShareTaken { of: &'static str, at_a_time: usize, retry_after: Duration },
    #[error("the request is larger than {maximum} bytes")]
    MessageTooLarge { maximum: usize },

    #[error("not a call of gRPC")]
    ContentTypeUnknown,

    // UNIMPLEMENTED
    #[error("no such method")]
    MethodUnknown,
    #[error("the request is compressed in an unknown way")]
    CompressionUnknown,
}

impl Error {
    /// A defect that has no source.
    pub fn defect(what: &'static str) -> Self {
        Self::Defect(what, None)
    }

    /// Whether beginning the transaction again may help.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Database(error) => crate::database::failure(error) == crate::database::Failure::Conflict,
            Self::Conflict => true,
            _ => false,
        }
    }

    /// The refusal of a request that has one fault.
    pub fn of_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Fields(vec![Violation { field: field.into(), description: description.into() }])
    }

    /// What a refusal says: its reason, without the prefix, and its message.
    #[must_use]
    pub fn told(&self) -> (&'static str, String) {
        let refusal = self.refusal();
        (status::reason_name(refusal.reason), refusal.message)
    }

    /// Whether it is about the state of things and not about the request or the caller.
    #[must_use]
    pub fn is_precondition(&self) -> bool {
        matches!(self.refusal().code, tonic::Code::FailedPrecondition | tonic::Code::NotFound)
    }

    /// Nothing, or the refusal that names every item of a batch that is at fault.
    pub fn refuse_items(field: &'static str, faults: Vec<(usize, Self)>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self::Items { field, faults }) }
    }
}

impl From<crate::billing::money::TooLarge> for Error {
    fn from(_: crate::billing::money::TooLarge) -> Self {
        Self::Billing(Billing::AmountTooLarge)
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as a dotted path: `emails[3]`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub description: String,
}

/// Something that must end before an organization can be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Its kind: `LIVE_SUBSCRIPTION`.
    pub kind: &'static str,
    /// What it is about.
    pub subject: String,
    /// What to do about it.
    pub description: String,
}

/// Turns the violation of a named constraint into what it means for the domain, and leaves every other failure as it is.
pub trait OnConstraint<T> {
    /// If `constraint` was violated, the error that `meaning` gives.
    fn on_constraint(self, constraint: &str, meaning: impl FnOnce() -> Error) -> Result<T, Error>;
}

impl<T> OnConstraint<T> for Result<T, DbErr> {
    fn on_constraint(self, constraint: &str, meaning: impl FnOnce() -> Error) -> Result<T, Error> {
        self.map_err(Error::Database).on_constraint(constraint, meaning)
    }
}

impl<T> OnConstraint<T> for Result<T, Error> {
    fn on_constraint(self, constraint: &str, meaning: impl FnOnce() -> Error) -> Result<T, Error> {
        self.map_err(|error| match error {
            Error::Database(error) if crate::database::violates(&error, constraint) => meaning(),
            error => error,
        })
    }
}
