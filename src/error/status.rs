//! The one mapping from refusals to what the wire says of them: code, reason, message and metadata.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tonic::Code;

use super::{Error, Violation};
use crate::auth::permission;
use crate::auth::policy::Right;
use crate::database::{Failure, failure};
use crate::pb::ErrorReason;

/// What the wire says of an error.
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) reason: ErrorReason,
    pub(super) message: String,
    pub(super) metadata: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(super) fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), metadata: Vec::new() }
    }

    pub(super) fn with(mut self, key: &'static str, value: impl std::fmt::Display) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }
}

impl Error {
    #[expect(clippy::too_many_lines, reason = "one row for each refusal, all of them in one place")]
    pub(super) fn refusal(&self) -> Refusal {
        use Code as C;
        use ErrorReason as R;
        match self {
            Self::Fields(violations) => {
                Refusal::new(C::InvalidArgument, R::InvalidFields, fields_message(violations))
                    .with("violations", violations.len())
            }
            Self::RequestIdReused => Refusal::new(
                C::InvalidArgument,
                R::RequestIdReused,
                "this request_id was used before for another request; use a fresh UUID",
            ),
            Self::BatchTooLarge { field, size, maximum } => Refusal::new(
                C::InvalidArgument,
                R::BatchTooLarge,
                format!("{field} has {size} items, at most {maximum} are taken; split the request"),
            )
            .with("field", field)
            .with("size", size)
            .with("maximum", maximum),
            Self::PageTokenInvalid => Refusal::new(
                C::InvalidArgument,
                R::PageTokenInvalid,
                "the page_token is not one of this list with this filter and order; start again without it",
            ),
            Self::CursorInvalid => Refusal::new(
                C::InvalidArgument,
                R::CursorInvalid,
                "the cursor is not one of what is watched, or is beyond its end; read what there is anew and watch from there",
            ),
            Self::CursorExpired => Refusal::new(
                C::FailedPrecondition,
                R::CursorExpired,
                "events after the cursor are forgotten for their age; read what there is anew and watch from there",
            ),
            Self::Unreadable { field, fault } => {
                let place = if field.is_empty() { "the request" } else { field };
                Refusal::new(C::InvalidArgument, R::InvalidFields, format!("{place} cannot be read: {fault}"))
                    .with("violations", 1)
            }
            Self::Identity(fault) => {
                let code = if fault.reason == R::KeysUnavailable { C::Unavailable } else { C::Unauthenticated };
                let refusal = Refusal::new(code, fault.reason, &fault.message);
                match &fault.key {
                    Some(key) => refusal.with("key", key),
                    None => refusal,
                }
            }
            Self::RoleLacksPermission { permission, role } => {
                let permission = permission::name(*permission);
                Refusal::new(
                    C::PermissionDenied,
                    R::RoleLacksPermission,
                    format!("the role {role} does not have the permission {permission}"),
                )
                .with("permission", permission)
                .with("role", role)
            }
            Self::ClaimedRoleLacksPermission { permission, role } => {
                let permission = permission::name(*permission);
                Refusal::new(
                    C::PermissionDenied,
                    R::RoleLacksPermission,
                    format!(
                        "the role {role}, which came with the call, does not have the permission {permission}; if it was \
                         changed lately, refresh the identity"
                    ),
                )
                .with("permission", permission)
                .with("role", role)
                .with("claimed_role", role)
            }
            Self::RoleUnknown { role } => Refusal::new(
                C::PermissionDenied,
                R::RoleUnknown,
                format!("the role policy in force has no role {role}"),
            )
            .with("role", role),
            Self::OrganizationMismatch => Refusal::new(
                C::PermissionDenied,
                R::OrganizationMismatch,
                "the request is for another organization than the one that the caller acts in (or it does not exist)",
            ),
            Self::OrganizationRequired => Refusal::new(
                C::PermissionDenied,
                R::OrganizationRequired,
                "the caller acts in no organization; name it and the role in the identity",
            ),
            Self::NotAMember => Refusal::new(
                C::PermissionDenied,
                R::NotAMember,
                "the caller is not a member of the organization (or it does not exist)",
            ),
            Self::MemberSuspended => {
                Refusal::new(C::PermissionDenied, R::MemberSuspended, "the caller's membership is suspended")
            }
            Self::RoleStale { permission, claimed, stored } => Refusal::new(
                C::PermissionDenied,
                R::RoleStale,
                format!(
                    "the caller came with the role {claimed} but holds {stored}, which does not have the permission {}; \
                     refresh the identity",
                    permission::name(*permission)
                ),
            )
            .with("claimed_role", claimed)
            .with("role", stored)
            .with("permission", permission::name(*permission)),
            Self::RoleAboveCaller { role, target_role } => Refusal::new(
                C::PermissionDenied,
                R::RoleAboveCaller,
                format!("the role {role} may not do this with the role {target_role}"),
            )
            .with("role", role)
            .with("target_role", target_role),
            Self::RoleBeyondCaller { role, target_role, beyond } => beyond_caller(role, target_role, beyond),
            Self::InvitationEmailMismatch => Refusal::new(
                C::PermissionDenied,
                R::InvitationEmailMismatch,
                "the invitation was sent to another e-mail address than the caller's",
            ),
            Self::UserRequired => Refusal::new(
                C::PermissionDenied,
                R::UserRequired,
                "only a user may call this; a service calls it under a user's identity",
            ),
            Self::ServiceRequired => {
                Refusal::new(C::PermissionDenied, R::ServiceRequired, "only a trusted service may call this, under its own name and for no user")
            }
            Self::EmailRequired => Refusal::new(
                C::PermissionDenied,
                R::EmailRequired,
                "this needs the caller's verified e-mail address in the identity, as in name@example.com",
            ),
            Self::OrganizationNotFound { organization_id } => {
                Refusal::new(C::NotFound, R::OrganizationNotFound, "there is no such organization")
                    .with("organization_id", organization_id)
            }
            Self::MemberNotFound { user_id } => {
                Refusal::new(C::NotFound, R::MemberNotFound, "the organization has no such member")
                    .with("user_id", user_id)
            }
            Self::InvitationNotFound { invitation_id } => {
                let refusal = Refusal::new(
                    C::NotFound,
                    R::InvitationNotFound,
                    "there is no such invitation, or its token was replaced by a resend",
                );
                match invitation_id {
                    Some(id) => refusal.with("invitation_id", id),
                    None => refusal,
                }
            }
            Self::AlreadyMember { user_id } => {
                Refusal::new(C::AlreadyExists, R::AlreadyMember, "a member of the organization already")
                    .with("user_id", user_id)
            }
            Self::SlugTaken { slug } => Refusal::new(
                C::AlreadyExists,
                R::SlugTaken,
                format!("the slug {slug} is taken, perhaps by a deleted organization; choose another"),
            )
            .with("slug", slug),
            Self::SeatLimitReached { total, members, pending, requested } => Refusal::new(
                C::FailedPrecondition,
                R::SeatLimitReached,
                format!(
                    "{} / {total} seats are in use ({members} members, {pending} pending invitations) and {requested} more \
                     would be needed; remove a member, cancel a pending invitation, or have the seats increased",
                    members + pending
                ),
            )
            .with("total", total)
            .with("members", members)
            .with("pending", pending)
            .with("requested", requested),
            Self::SeatsTaken => Refusal::new(
                C::FailedPrecondition,
                R::SeatLimitReached,
                "all seats of the organization are taken; ask those who manage it",
            ),
            Self::LastOwner { role } => Refusal::new(
                C::FailedPrecondition,
                R::LastOwner,
                format!("the organization must keep an active member who holds the role {role}; give it to another first"),
            )
            .with("role", role),
            Self::SelfChangeForbidden { instead } => Refusal::new(
                C::FailedPrecondition,
                R::SelfChangeForbidden,
                format!("nobody does this to themselves; {instead}"),
            ),
            Self::InvitationNotPending { invitation_id, state } => Refusal::new(
                C::FailedPrecondition,
                R::InvitationNotPending,
                format!("the invitation was {} already", state.to_ascii_lowercase()),
            )
            .with("invitation_id", invitation_id)
            .with("state", state),
            Self::InvitationExpired { invitation_id, expired_at } => Refusal::new(
                C::FailedPrecondition,
                R::InvitationExpired,
                format!("the invitation expired at {}; ask for it to be resent", expired_at.to_rfc3339()),
            )
            .with("invitation_id", invitation_id)
            .with("expire_time", expired_at.to_rfc3339()),
            Self::InvitationRoleNotGrantable { role } => Refusal::new(
                C::FailedPrecondition,
                R::InvitationRoleNotGrantable,
                format!("the role policy does not let the role {role} be granted by this invitation any more; have it sent anew"),
            )
            .with("role", role),
            Self::SeatsBelowUsed { requested, members, pending } => Refusal::new(
                C::FailedPrecondition,
                R::SeatsBelowUsed,
                format!(
                    "{requested} seats are fewer than the {} in use ({members} members, {pending} pending invitations); \
                     remove members or cancel pending invitations first",
                    members + pending
                ),
            )
            .with("requested", requested)
            .with("used", members + pending)
            .with("members", members)
            .with("pending", pending),
            Self::SeatsOutsidePlan { plan_id, requested, minimum, maximum } => {
                let range = maximum.map_or(format!("at least {minimum}"), |maximum| format!("{minimum} to {maximum}"));
                let refusal = Refusal::new(
                    C::FailedPrecondition,
                    R::SeatsOutsidePlan,
                    format!("the plan {plan_id} takes {range} seats, not {requested}"),
                )
                .with("plan_id", plan_id)
                .with("requested", requested)
                .with("minimum", minimum);
                match maximum {
                    Some(maximum) => refusal.with("maximum", maximum),
                    None => refusal,
                }
            }
            Self::PlanUnknown { plan_id } => Refusal::new(
                C::FailedPrecondition,
                R::PlanUnknown,
                format!("the plan catalogue in force does not have the plan {plan_id}; the operator must put it back"),
            )
            .with("plan_id", plan_id),
            Self::SubscriptionPastDue { status } => Refusal::new(
                C::FailedPrecondition,
                R::SubscriptionPastDue,
                "payment is overdue; settle it before the organization grows or begins anew",
            )
            .with("status", status),
            Self::OrganizationHasBlockers { blockers } => Refusal::new(
                C::FailedPrecondition,
                R::OrganizationHasBlockers,
                format!("{} thing(s) must end before the organization can be deleted", blockers.len()),
            )
            .with("blockers", blockers.iter().map(|blocker| blocker.kind).collect::<Vec<_>>().join(",")),
            Self::OrganizationDeleted { purge_at } => {
                let refusal = Refusal::new(C::FailedPrecondition, R::OrganizationDeleted, "the organization is deleted");
                match purge_at {
                    Some(at) => refusal.with("purge_time", at.to_rfc3339()),
                    None => refusal,
                }
            }
            Self::OrganizationNotDeleted => {
                Refusal::new(C::FailedPrecondition, R::OrganizationNotDeleted, "the organization is not deleted")
            }
            Self::MemberNotActive { user_id } => Refusal::new(
                C::FailedPrecondition,
                R::MemberNotActive,
                "the member is suspended; reactivate them first",
            )
            .with("user_id", user_id),
            Self::WorkspaceNotFound { workspace_id } => Refusal::new(C::NotFound, R::WorkspaceNotFound, "the organization has no such workspace, or it is not yours to see")
            .with("workspace_id", workspace_id),
            Self::MailNotFound { mail_id } => Refusal::new(C::NotFound, R::MailNotFound, "the organization has no such e-mail, or it ended long ago")
            .with("mail_id", mail_id),
            Self::MailNotParked { mail_id, state } => Refusal::new(C::FailedPrecondition, R::MailNotParked, "the e-mail is not parked: it waits already, or has ended")
            .with("mail_id", mail_id)
            .with("state", state),
            Self::WebhookEndpointNotFound { endpoint_id } => Refusal::new(C::NotFound, R::WebhookEndpointNotFound, "the organization has no such webhook endpoint")
            .with("endpoint_id", endpoint_id),
            Self::WebhookEndpointDisabled { endpoint_id, cause } => Refusal::new(C::FailedPrecondition, R::WebhookEndpointDisabled, "the webhook endpoint is disabled; enable it first")
            .with("endpoint_id", endpoint_id)
            .with("disable_reason", cause),
            Self::WebhookDeliveryNotFound { event_number } => Refusal::new(C::NotFound, R::WebhookDeliveryNotFound, format!("the webhook endpoint was not told event {event_number} in the last 30 days"))
            .with("event_number", event_number),
            Self::RoomNotFound { slug } => {
                Refusal::new(C::NotFound, R::WorkspaceNotFound, "no room has this join slug").with("slug", slug)
            }
            Self::RoleNotFound { role } => Refusal::new(C::NotFound, R::RoleNotFound, "the organization has no such role of its own")
            .with("role", role),
            Self::DomainNotFound { domain } => Refusal::new(C::NotFound, R::DomainNotFound, "the organization has not claimed this domain")
            .with("domain", domain),
            Self::JoinRequestNotFound { join_request_id } => {
                let refusal = Refusal::new(C::NotFound, R::JoinRequestNotFound, "there is no such request to join");
                match join_request_id {
                    Some(id) => refusal.with("join_request_id", id),
                    None => refusal,
                }
            }
            Self::SessionNotFound { session_id } => Refusal::new(C::NotFound, R::SessionNotFound, "the organization has no such session, or it is not yours to see")
            .with("session_id", session_id),
            Self::RecordingNotFound { recording_id } => Refusal::new(C::NotFound, R::RecordingNotFound, "the organization has no such recording, or it is not yours to see")
            .with("recording_id", recording_id),
            Self::RoomSlugTaken { slug } => Refusal::new(C::AlreadyExists, R::RoomSlugTaken, format!("the join slug {slug} is another room's; choose another"))
            .with("slug", slug),
            Self::RoleExists { role } => Refusal::new(C::AlreadyExists, R::RoleExists, format!("the organization has a role {role} already"))
            .with("role", role),
            Self::DomainTaken { domain } => Refusal::new(C::AlreadyExists, R::DomainTaken, format!("another organization has proved the domain {domain} to be its own"))
            .with("domain", domain),
            Self::EmailDomainNotAllowed { domain } => Refusal::new(C::FailedPrecondition, R::EmailDomainNotAllowed, format!("the organization's settings do not allow e-mail addresses of {domain}; use another, or have the settings changed"))
            .with("domain", domain),
            Self::RoleInUse { role, members, invitations, domains, join_requests } => Refusal::new(
                C::FailedPrecondition,
                R::RoleInUse,
                format!(
                    "the role {role} is held by {members} members, offered by (or the right of) {invitations} invitations, and \
                     offered by {domains} domains and {join_requests} requests to join; name the role that they take instead"
                ),
            )
            .with("role", role)
            .with("members", members)
            .with("invitations", invitations)
            .with("domains", domains)
            .with("join_requests", join_requests),
            Self::CustomRolesDisabled => Refusal::new(C::FailedPrecondition, R::CustomRolesDisabled, "the role policy in force lets organizations define no roles of their own"),
            Self::LimitReached { of, maximum } => Refusal::new(C::FailedPrecondition, R::LimitReached, format!("there can be at most {maximum} {of}"))
            .with("of", of)
            .with("maximum", maximum),
            Self::DomainNotVerified { domain } => Refusal::new(C::FailedPrecondition, R::DomainNotVerified, "the domain is not verified yet; set its TXT record and verify it first")
            .with("domain", domain),
            Self::DomainProofNotFound { domain, record_name, record_value } => Refusal::new(C::FailedPrecondition, R::DomainProofNotFound, format!("there is no TXT record {record_name} that says {record_value}; set it, and try again when it can be seen"))
            .with("domain", domain)
            .with("record_name", record_name)
            .with("record_value", record_value),
            Self::JoiningNotOpen => Refusal::new(C::FailedPrecondition, R::JoiningNotOpen, "no verified domain of the organization lets this e-mail address in (or there is no such organization); ask to be invited"),
            Self::JoinRequestNotPending { join_request_id, state } => Refusal::new(C::FailedPrecondition, R::JoinRequestNotPending, format!("the request to join was {} already", state.to_ascii_lowercase()))
            .with("join_request_id", join_request_id)
            .with("state", state),
            Self::SessionNotLive { session_id } => Refusal::new(C::FailedPrecondition, R::SessionNotLive, "the session has ended")
            .with("session_id", session_id),
            Self::DnsUnavailable => Refusal::new(C::Unavailable, R::DnsUnavailable, "the domain name system did not answer; try again"),
            Self::Billing(refused) => refused.refusal(),
            Self::EtagMismatch { current } => Refusal::new(
                C::Aborted,
                R::EtagMismatch,
                "the resource has changed since it was read; read it again and decide anew",
            )
            .with("etag", current),
            Self::Conflict => conflict(),
            Self::DeadlineExceeded => Refusal::new(
                C::DeadlineExceeded,
                R::DeadlineExceeded,
                "the time for this call is over; the same request with the same request_id tells what became of it",
            ),
            Self::Items { field, faults } => items(field, faults),
            Self::Database(error) => match failure(error) {
                Failure::Conflict => conflict(),
                Failure::Unavailable => Refusal::new(
                    C::Unavailable,
                    R::DatabaseUnavailable,
                    "the database cannot be reached at the moment; try again with the same request_id",
                ),
                Failure::Defect => internal(),
            },
            Self::ServerStopping => Refusal::new(
                C::Unavailable,
                R::ServerStopping,
                "this server stops; watch on at another, from the latest cursor",
            ),
            Self::Overloaded { .. } => Refusal::new(
                C::Unavailable,
                R::Overloaded,
                "this server has more to do than it can; nothing was done, try again a little later or at another",
            ),
            Self::RateLimited { of, per_second, .. } => Refusal::new(
                C::ResourceExhausted,
                R::RateLimited,
                format!("more than {per_second} calls in a second of one {of}; nothing was done, try again a little later"),
            )
            .with("of", of)
            .with("per_second", per_second),
            Self::ShareTaken { of, at_a_time, .. } => Refusal::new(
                C::ResourceExhausted,
                R::RateLimited,
                format!("more than {at_a_time} {of} at a time of one caller; nothing was done, try again when others have ended"),
            )
            .with("of", "caller")
            .with("at_a_time", at_a_time),
            Self::Defect(..) => internal(),
            Self::MessageTooLarge { maximum } => Refusal::new(
                C::ResourceExhausted,
                R::MessageTooLarge,
                format!("the request is larger than {maximum} bytes; split it"),
            )
            .with("maximum", maximum),
            Self::MethodUnknown => Refusal::new(C::Unimplemented, R::MethodUnknown, "there is no such method"),
            Self::ContentTypeUnknown => Refusal::new(
                C::InvalidArgument,
                R::ContentTypeUnknown,
                "the content-type must be application/grpc or application/grpc+proto",
            ),
            Self::CompressionUnknown => Refusal::new(
                C::Unimplemented,
                R::CompressionUnknown,
                "the request is compressed in a way that this server does not read; send it as it is",
            ),
        }
    }

    /// Logs what must not be told to the client: the source of a failure that is ours, once.
    pub(super) fn log(&self) {
        match self {
            Self::Database(error) if failure(error) != Failure::Defect => {
                tracing::warn!(error = error as &dyn std::error::Error, "the database failed");
            }
            Self::Database(error) => tracing::error!(error = error as &dyn std::error::Error, "a statement failed"),
            Self::Defect(what, source) => {
                let source = source.as_deref().map(|source| source as &dyn std::error::Error);
                tracing::error!(error = source, "{what}");
            }
            _ => {}
        }
    }
}

fn conflict() -> Refusal {
    Refusal::new(
        Code::Aborted,
        ErrorReason::Conflict,
        "lost against changes that ran at the same time; nothing was done, try again",
    )
}

fn internal() -> Refusal {
    Refusal::new(Code::Internal, ErrorReason::Internal, "a defect of the service; its log says more")
}

/// Names what a role would have and the caller's has not: the permissions, and the roles for each power.
fn beyond_caller(role: &str, target_role: &str, beyond: &[Right]) -> Refusal {
    /// A status travels in headers, of which clients and proxies take 8 KiB. There are not that many permissions.
    const MOST_NAMED: usize = 32;
    let told: Vec<String> = beyond.iter().take(3).map(ToString::to_string).collect();
    let more = if beyond.len() > 3 { format!("; and {} more", beyond.len() - 3) } else { String::new() };
    let message = format!("the role {role} has not all that {target_role} would have: {}{more}", told.join("; "));
    let mut kinds: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for right in beyond.iter().take(MOST_NAMED) {
        let (kind, name) = match right {
            Right::Permission(permission) => ("permissions", permission::name(*permission)),
            Right::Reach(power, over) => (power.key(), over.to_string()),
        };
        kinds.entry(kind).or_default().push(name);
    }
    let refusal = Refusal::new(Code::PermissionDenied, ErrorReason::RoleAboveCaller, message)
        .with("role", role)
        .with("target_role", target_role);
    kinds.into_iter().fold(refusal, |refusal, (kind, names)| refusal.with(kind, names.join(",")))
}

/// The most bytes of what is wrong with one field: the message tells of three, and stands in the headers twice.
const MOST_DESCRIBED_BYTES: usize = 200;

/// As much of a description as there is room for.
pub(super) fn brief(description: &str) -> Cow<'_, str> {
    if description.len() <= MOST_DESCRIBED_BYTES {
        return Cow::Borrowed(description);
    }
    let end = description.floor_char_boundary(MOST_DESCRIBED_BYTES);
    let (told, _) = description.split_at(end);
    Cow::Owned(format!("{told}…"))
}

fn fields_message(violations: &[Violation]) -> String {
    let told = violations.iter().take(3);
    let named = told.map(|violation| format!("{}: {}", violation.field, brief(&violation.description)));
    let message = named.collect::<Vec<_>>().join("; ");
    if violations.len() > 3 { format!("{message}; and {} more", violations.len() - 3) } else { message }
}

/// A batch is refused with the gravest of its faults: who may not is told so before what is not there, and that before
/// what does not fit.
fn items(field: &'static str, faults: &[(usize, Error)]) -> Refusal {
    let gravity = |code: Code| match code {
        Code::PermissionDenied => 0,
        Code::NotFound => 1,
        Code::AlreadyExists => 2,
        _ => 3,
    };
    let told: Vec<(usize, Refusal)> = faults.iter().map(|(index, fault)| (*index, fault.refusal())).collect();
    let indexes = ranges(told.iter().map(|(index, _)| *index));
    let mut by_reason: BTreeMap<&'static str, Vec<usize>> = BTreeMap::new();
    for (index, refusal) in &told {
        by_reason.entry(reason_name(refusal.reason)).or_default().push(*index);
    }
    let gravest = told.into_iter().min_by_key(|(_, refusal)| gravity(refusal.code));
    let Some((index, mut refusal)) = gravest else { return internal() };
    if faults.len() > 1 {
        refusal.message =
            format!("{} items of {field} are refused; among them {field}[{index}]: {}", faults.len(), refusal.message);
    }
    let reasons = by_reason.iter().map(|(reason, indexes)| format!("{reason}={}", ranges(indexes.iter().copied())));
    refusal.with("field", field).with("indexes", indexes).with("reasons", reasons.collect::<Vec<_>>().join(";"))
}

/// Ascending numbers, those that follow one another as a range: `0,3-7`.
fn ranges(numbers: impl Iterator<Item = usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last == number || *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text =
        |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

/// The name of a reason, as `ErrorInfo` has it.
pub fn reason_name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}
