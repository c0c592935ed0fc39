//! A refusal on the wire: the status with the details of google.rpc that help its reader.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation, StatusExt as _};

use super::Error;
use super::status::{Refusal, brief, reason_name};
use crate::pb::ErrorReason;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "tenantry";

/// The reason in a status that is one of ours.
pub fn reason_of(status: &Status) -> Option<&'static str> {
    let info = status.get_details_error_info()?;
    let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))?;
    Some(reason_name(reason))
}

/// How many bytes of faults a status names. It travels in headers, of which clients and proxies take 8 KiB; the metadata
/// say how many faults there are in all, and the indexes of all items of a batch that are at fault.
const MOST_NAMED_BYTES: usize = 3000;

/// The first faults, as many as there is room for.
fn that_fit<T>(faults: impl Iterator<Item = T>, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut room = MOST_NAMED_BYTES;
    faults
        .take_while(|fault| {
            let fits = size(fault) <= room;
            room = room.saturating_sub(size(fault));
            fits
        })
        .collect()
}

/// What is missing, or stands in the way: its kind and its name.
fn resource(error: &Error) -> Option<(&'static str, String)> {
    let unless_unknown = |id: &Option<uuid::Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    Some(match error {
        Error::OrganizationNotFound { organization_id } => ("organization", organization_id.to_string()),
        Error::SlugTaken { slug } => ("organization", slug.clone()),
        Error::MemberNotFound { user_id } | Error::AlreadyMember { user_id } => ("member", user_id.clone()),
        Error::InvitationNotFound { invitation_id } => ("invitation", unless_unknown(invitation_id)),
        Error::WorkspaceNotFound { workspace_id } => ("workspace", workspace_id.clone()),
        Error::RoomNotFound { slug } | Error::RoomSlugTaken { slug } => ("room", slug.clone()),
        Error::RoleNotFound { role } | Error::RoleExists { role } => ("role", role.clone()),
        Error::DomainNotFound { domain } | Error::DomainTaken { domain } => ("domain", domain.clone()),
        Error::JoinRequestNotFound { join_request_id } => ("join_request", unless_unknown(join_request_id)),
        Error::SessionNotFound { session_id } => ("session", session_id.clone()),
        Error::RecordingNotFound { recording_id } => ("recording", recording_id.clone()),
        Error::MailNotFound { mail_id } => ("mail", mail_id.to_string()),
        Error::WebhookEndpointNotFound { endpoint_id } => ("webhook_endpoint", endpoint_id.to_string()),
        Error::WebhookDeliveryNotFound { event_number } => ("webhook_delivery", event_number.to_string()),
        _ => return None,
    })
}

/// The details that belong to an error besides its `ErrorInfo`.
fn add_details(details: &mut ErrorDetails, error: &Error, refusal: &Refusal) {
    match error {
        Error::Fields(violations) => {
            let named = violations.iter().map(|fault| FieldViolation::new(&fault.field, brief(&fault.description)));
            details.set_bad_request(that_fit(named, |named| named.field.len() + named.description.len()));
        }
        Error::Unreadable { field, .. } => {
            details.set_bad_request(vec![FieldViolation::new(field, refusal.message.clone())]);
        }
        Error::BatchTooLarge { field, .. } => {
            details.set_bad_request(vec![FieldViolation::new(*field, refusal.message.clone())]);
        }
        Error::PageTokenInvalid => {
            details.set_bad_request(vec![FieldViolation::new("page_token", refusal.message.clone())]);
        }
        Error::CursorInvalid => {
            details.set_bad_request(vec![FieldViolation::new("cursor", refusal.message.clone())]);
        }
        Error::RequestIdReused => {
            details.set_bad_request(vec![FieldViolation::new("request_id", refusal.message.clone())]);
        }
        Error::Items { field, faults } => {
            let named = faults.iter().map(|(index, fault)| {
                let refusal = fault.refusal();
                PreconditionViolation::new(reason_name(refusal.reason), format!("{field}[{index}]"), refusal.message)
            });
            let size =
                |named: &PreconditionViolation| named.r#type.len() + named.subject.len() + named.description.len();
            details.set_precondition_failure(that_fit(named, size));
        }
        Error::OrganizationHasBlockers { blockers } => {
            let named = blockers.iter().map(|blocker| {
                PreconditionViolation::new(blocker.kind, blocker.subject.clone(), blocker.description.clone())
            });
            details.set_precondition_failure(named.collect::<Vec<_>>());
        }
        Error::Billing(refused) if refusal.code == Code::NotFound || refusal.code == Code::AlreadyExists => {
            let (kind, name) = refused.resource();
            details.set_resource_info(kind, name, "", refusal.message.clone());
        }
        _ if refusal.code == Code::FailedPrecondition => {
            details.set_precondition_failure(vec![PreconditionViolation::new(
                reason_name(refusal.reason),
                "",
                refusal.message.clone(),
            )]);
        }
        _ => {}
    }
    if let Some((kind, name)) = resource(error) {
        details.set_resource_info(kind, name, "", refusal.message.clone());
    }
    if let Error::RateLimited { of, .. } | Error::ShareTaken { of, .. } = error {
        details.set_quota_failure(vec![QuotaViolation::new(*of, refusal.message.clone())]);
    }
    if let Error::Overloaded { retry_after }
    | Error::RateLimited { retry_after, .. }
    | Error::ShareTaken { retry_after, .. } = error
    {
        details.set_retry_info(Some(*retry_after));
    }
    let retry_after = match refusal.reason {
        ErrorReason::Conflict => Some(Duration::from_millis(50)),
        ErrorReason::DatabaseUnavailable
        | ErrorReason::DnsUnavailable
        | ErrorReason::ProviderUnavailable
        | ErrorReason::KeysUnavailable
        | ErrorReason::ServerStopping => Some(Duration::from_secs(1)),
        _ => None,
    };
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.log();
        let refusal = error.refusal();
        let reason = reason_name(refusal.reason);
        // The line that the telemetry layer writes for this call says the reason too.
        tracing::Span::current().record("reason", reason);
        let metadata: HashMap<String, String> =
            refusal.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        add_details(&mut details, &error, &refusal);
        Status::with_error_details(refusal.code, refusal.message, details)
    }
}
