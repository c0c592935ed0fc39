//! Events as the wire shows them.

use chrono::DateTime;
use prost_types::Timestamp;
use uuid::Uuid;

use super::{Change, FieldChange};
use crate::entity::event;
use crate::fields::timestamp;
use crate::pb;
use crate::pb::event::Payload as P;

/// The names of all events.
pub(super) const TYPES: [&str; 73] = [
    "organization.created",
    "organization.updated",
    "organization.deleted",
    "organization.undeleted",
    "invitation.created",
    "invitation.resent",
    "invitation.canceled",
    "invitation.accepted",
    "invitation.declined",
    "member.joined",
    "member.role_changed",
    "member.removed",
    "member.left",
    "member.suspended",
    "member.reactivated",
    "member.signed_in",
    "ownership.transferred",
    "organization.imported",
    "settings.updated",
    "workspace.created",
    "workspace.updated",
    "workspace.deleted",
    "member.workspaces_changed",
    "role.created",
    "role.updated",
    "role.deleted",
    "domain.claimed",
    "domain.verified",
    "domain.updated",
    "domain.released",
    "join_request.created",
    "join_request.approved",
    "join_request.declined",
    "join_request.withdrawn",
    "session.started",
    "session.end_requested",
    "session.ended",
    "recording.registered",
    "recording.deleted",
    "billing_profile.updated",
    "subscription.plan_changed",
    "subscription.add_ons_changed",
    "subscription.change_scheduled",
    "subscription.scheduled_change_canceled",
    "subscription.scheduled_change_dropped",
    "subscription.seats_clamped",
    "subscription.trial_started",
    "subscription.trial_ended",
    "subscription.renewed",
    "subscription.cancel_scheduled",
    "subscription.resumed",
    "subscription.canceled",
    "subscription.past_due",
    "subscription.payment_retried",
    "subscription.unpaid",
    "subscription.recovered",
    "invoice.finalized",
    "invoice.paid",
    "invoice.voided",
    "invoice.uncollectible",
    "credit_note.created",
    "payment.succeeded",
    "payment.failed",
    "payment_method.added",
    "payment_method.default_set",
    "payment_method.removed",
    "subscription.seats_changed",
    "subscription.seats_full",
    "webhook_endpoint.created",
    "webhook_endpoint.updated",
    "webhook_endpoint.secret_rotated",
    "webhook_endpoint.disabled",
    "webhook_endpoint.deleted",
];

/// An event of the log. One that a newer version wrote is shown without what only that version can read.
#[must_use]
pub(super) fn event(row: event::Model) -> pb::Event {
    let change = Change::read(&row);
    pb::Event {
        organization_id: row.organization_id.to_string(),
        number: row.number,
        event_id: row.event_id.to_string(),
        r#type: row.r#type,
        event_time: Some(timestamp(row.occurred_at)),
        actor: Some(pb::EventActor {
            user_id: row.actor_user_id.unwrap_or_default(),
            service: row.actor_service.unwrap_or_default(),
            address: row.actor_address.unwrap_or_default(),
        }),
        subject: Some(pb::EventSubject { kind: row.subject_kind, id: row.subject_id }),
        request_id: row.request_id,
        payload: change.ok().map(payload),
    }
}

fn time(written: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(written).ok().map(|time| timestamp(time.to_utc()))
}

fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

fn fields(changes: Vec<FieldChange>) -> Vec<pb::FieldChange> {
    let shown =
        |change: FieldChange| pb::FieldChange { field: change.field, before: change.before, after: change.after };
    changes.into_iter().map(shown).collect()
}

#[expect(clippy::too_many_lines, reason = "one arm for each event, all of them in one place")]
fn payload(change: Change) -> P {
    match change {
        Change::OrganizationCreated { name, slug, plan_id, seats } => {
            P::OrganizationCreated(pb::OrganizationCreated { name, slug, plan_id, seats })
        }
        Change::OrganizationUpdated { changes } => {
            P::OrganizationUpdated(pb::OrganizationUpdated { changes: fields(changes) })
        }
        Change::OrganizationDeleted { purge_time } => {
            P::OrganizationDeleted(pb::OrganizationDeleted { purge_time: time(&purge_time) })
        }
        Change::OrganizationUndeleted {} => P::OrganizationUndeleted(pb::OrganizationUndeleted {}),
        Change::InvitationCreated { invitation_id, role, expire_time } => P::InvitationCreated(pb::InvitationCreated {
            invitation_id: invitation_id.to_string(),
            role,
            expire_time: time(&expire_time),
        }),
        Change::InvitationResent { invitation_id, role_before, role, expire_time } => {
            P::InvitationResent(pb::InvitationResent {
                invitation_id: invitation_id.to_string(),
                role_before,
                role,
                expire_time: time(&expire_time),
            })
        }
        Change::InvitationCanceled { invitation_id, role } => {
            P::InvitationCanceled(pb::InvitationCanceled { invitation_id: invitation_id.to_string(), role })
        }
        Change::InvitationAccepted { invitation_id, user_id } => {
            P::InvitationAccepted(pb::InvitationAccepted { invitation_id: invitation_id.to_string(), user_id })
        }
        Change::InvitationDeclined { invitation_id, user_id } => {
            P::InvitationDeclined(pb::InvitationDeclined { invitation_id: invitation_id.to_string(), user_id })
        }
        Change::MemberJoined { user_id, role, invitation_id, domain, workspace_ids } => {
            P::MemberJoined(pb::MemberJoined {
                user_id,
                role,
                invitation_id: invitation_id.map(|id| id.to_string()),
                domain,
                workspace_ids: texts(&workspace_ids),
            })
        }
        Change::MemberRoleChanged { user_id, before, after } => {
            P::MemberRoleChanged(pb::MemberRoleChanged { user_id, before, after })
        }
        Change::MemberRemoved { user_id, role, workspace_ids } => {
            P::MemberRemoved(pb::MemberRemoved { user_id, role, workspace_ids: texts(&workspace_ids) })
        }
        Change::MemberLeft { user_id, role, workspace_ids } => {
            P::MemberLeft(pb::MemberLeft { user_id, role, workspace_ids: texts(&workspace_ids) })
        }
        Change::MemberSuspended { user_id, role } => P::MemberSuspended(pb::MemberSuspended { user_id, role }),
        Change::MemberReactivated { user_id, role } => P::MemberReactivated(pb::MemberReactivated { user_id, role }),
        Change::MemberSignedIn { user_id, sign_in_time, changed } => {
            P::MemberSignedIn(pb::MemberSignedIn { user_id, sign_in_time: time(&sign_in_time), changed })
        }
        Change::OwnershipTransferred { from_user_id, to_user_id, former_holder_role } => {
            P::OwnershipTransferred(pb::OwnershipTransferred { from_user_id, to_user_id, former_holder_role })
        }
        Change::OrganizationImported { members, invitations, workspaces } => {
            P::OrganizationImported(pb::OrganizationImported { members, invitations, workspaces })
        }
        Change::SettingsUpdated { changes } => P::SettingsUpdated(pb::SettingsUpdated { changes: fields(changes) }),
        Change::WorkspaceCreated { workspace_id, kind, name } => {
            P::WorkspaceCreated(pb::WorkspaceCreated { workspace_id: workspace_id.to_string(), kind, name })
        }
        Change::WorkspaceUpdated { workspace_id, changes } => P::WorkspaceUpdated(pb::WorkspaceUpdated {
            workspace_id: workspace_id.to_string(),
            changes: fields(changes),
        }),
        Change::WorkspaceDeleted { workspace_id, kind, name, unassigned_members } => {
            P::WorkspaceDeleted(pb::WorkspaceDeleted {
                workspace_id: workspace_id.to_string(),
                kind,
                name,
                unassigned_members,
            })
        }
        Change::MemberWorkspacesChanged { user_id, added, removed } => {
            P::MemberWorkspacesChanged(pb::MemberWorkspacesChanged {
                user_id,
                added: texts(&added),
                removed: texts(&removed),
            })
        }
        Change::RoleCreated { role, permissions } => P::RoleCreated(pb::RoleCreated { role, permissions }),
        Change::RoleUpdated { role, changes } => P::RoleUpdated(pb::RoleUpdated { role, changes: fields(changes) }),
        Change::RoleDeleted { role, replacement, members, invitations } => {
            P::RoleDeleted(pb::RoleDeleted { role, replacement, members, invitations })
        }
        Change::DomainClaimed { domain } => P::DomainClaimed(pb::DomainClaimed { domain }),
        Change::DomainVerified { domain } => P::DomainVerified(pb::DomainVerified { domain }),
        Change::DomainUpdated { domain, changes } => {
            P::DomainUpdated(pb::DomainUpdated { domain, changes: fields(changes) })
        }
        Change::DomainReleased { domain } => P::DomainReleased(pb::DomainReleased { domain }),
        Change::JoinRequestCreated { join_request_id, user_id, role } => {
            P::JoinRequestCreated(pb::JoinRequestCreated {
                join_request_id: join_request_id.to_string(),
                user_id,
                role,
            })
        }
        Change::JoinRequestApproved { join_request_id, user_id } => {
            P::JoinRequestApproved(pb::JoinRequestApproved { join_request_id: join_request_id.to_string(), user_id })
        }
        Change::JoinRequestDeclined { join_request_id, user_id } => {
            P::JoinRequestDeclined(pb::JoinRequestDeclined { join_request_id: join_request_id.to_string(), user_id })
        }
        Change::JoinRequestWithdrawn { join_request_id, user_id } => {
            P::JoinRequestWithdrawn(pb::JoinRequestWithdrawn { join_request_id: join_request_id.to_string(), user_id })
        }
        Change::SessionStarted { session_id, workspace_id, host_user_id } => {
            P::SessionStarted(pb::SessionStarted { session_id, workspace_id: workspace_id.to_string(), host_user_id })
        }
        Change::SessionEndRequested { session_id, workspace_id } => {
            P::SessionEndRequested(pb::SessionEndRequested { session_id, workspace_id: workspace_id.to_string() })
        }
        Change::SessionEnded { session_id, workspace_id, length_seconds } => {
            P::SessionEnded(pb::SessionEnded { session_id, workspace_id: workspace_id.to_string(), length_seconds })
        }
        Change::RecordingRegistered { recording_id, owner_user_id, size_bytes, size_bytes_before } => {
            P::RecordingRegistered(pb::RecordingRegistered {
                recording_id,
                owner_user_id,
                size_bytes,
                size_bytes_before,
            })
        }
        Change::RecordingDeleted { recording_id, owner_user_id, size_bytes } => {
            P::RecordingDeleted(pb::RecordingDeleted { recording_id, owner_user_id, size_bytes })
        }
        Change::BillingProfileUpdated { fields } => P::BillingProfileUpdated(pb::BillingProfileUpdated { fields }),
        Change::SubscriptionPlanChanged { before_plan_id, plan_id, plan_version, currency_code, yearly } => {
            P::SubscriptionPlanChanged(pb::SubscriptionPlanChanged {
                before_plan_id,
                plan_id,
                plan_version,
                currency_code,
                yearly,
            })
        }
        Change::SubscriptionAddOnsChanged { changes } => {
            P::SubscriptionAddOnsChanged(pb::SubscriptionAddOnsChanged { changes: fields(changes) })
        }
        Change::SubscriptionChangeScheduled { effective_time, plan_id, seats, add_ons } => {
            P::SubscriptionChangeScheduled(pb::SubscriptionChangeScheduled {
                effective_time: time(&effective_time),
                plan_id,
                seats,
                add_ons,
            })
        }
        Change::SubscriptionScheduledChangeCanceled {} => {
            P::SubscriptionScheduledChangeCanceled(pb::SubscriptionScheduledChangeCanceled {})
        }
        Change::SubscriptionScheduledChangeDropped { plan_id, seats } => {
            P::SubscriptionScheduledChangeDropped(pb::SubscriptionScheduledChangeDropped { plan_id, seats })
        }
        Change::SubscriptionSeatsClamped { scheduled, used } => {
            P::SubscriptionSeatsClamped(pb::SubscriptionSeatsClamped { scheduled, used })
        }
        Change::SubscriptionTrialStarted { trial_end_time } => {
            P::SubscriptionTrialStarted(pb::SubscriptionTrialStarted { trial_end_time: time(&trial_end_time) })
        }
        Change::SubscriptionTrialEnded {} => P::SubscriptionTrialEnded(pb::SubscriptionTrialEnded {}),
        Change::SubscriptionRenewed { period_start_time, period_end_time } => {
            P::SubscriptionRenewed(pb::SubscriptionRenewed {
                period_start_time: time(&period_start_time),
                period_end_time: time(&period_end_time),
            })
        }
        Change::SubscriptionCancelScheduled { end_time } => {
            P::SubscriptionCancelScheduled(pb::SubscriptionCancelScheduled { end_time: time(&end_time) })
        }
        Change::SubscriptionResumed {} => P::SubscriptionResumed(pb::SubscriptionResumed {}),
        Change::SubscriptionCanceled { cause, seats } => {
            P::SubscriptionCanceled(pb::SubscriptionCanceled { cause, seats })
        }
        Change::SubscriptionPastDue { grace_end_time } => {
            P::SubscriptionPastDue(pb::SubscriptionPastDue { grace_end_time: time(&grace_end_time) })
        }
        Change::SubscriptionPaymentRetried { retry } => {
            P::SubscriptionPaymentRetried(pb::SubscriptionPaymentRetried { retry })
        }
        Change::SubscriptionUnpaid {} => P::SubscriptionUnpaid(pb::SubscriptionUnpaid {}),
        Change::SubscriptionRecovered {} => P::SubscriptionRecovered(pb::SubscriptionRecovered {}),
        Change::InvoiceFinalized { invoice_id, number, total_minor, due_minor, currency_code } => {
            P::InvoiceFinalized(pb::InvoiceFinalized {
                invoice_id: invoice_id.to_string(),
                number,
                total_minor,
                due_minor,
                currency_code,
            })
        }
        Change::InvoicePaid { invoice_id, number } => {
            P::InvoicePaid(pb::InvoicePaid { invoice_id: invoice_id.to_string(), number })
        }
        Change::InvoiceVoided { invoice_id, number } => {
            P::InvoiceVoided(pb::InvoiceVoided { invoice_id: invoice_id.to_string(), number })
        }
        Change::InvoiceUncollectible { invoice_id, number } => {
            P::InvoiceUncollectible(pb::InvoiceUncollectible { invoice_id: invoice_id.to_string(), number })
        }
        Change::CreditNoteCreated { credit_note_id, invoice_id, number, amount_minor } => {
            P::CreditNoteCreated(pb::CreditNoteCreated {
                credit_note_id: credit_note_id.to_string(),
                invoice_id: invoice_id.to_string(),
                number,
                amount_minor,
            })
        }
        Change::PaymentSucceeded { payment_id, invoice_id, amount_minor, currency_code } => {
            P::PaymentSucceeded(pb::PaymentSucceeded {
                payment_id: payment_id.to_string(),
                invoice_id: invoice_id.to_string(),
                amount_minor,
                currency_code,
            })
        }
        Change::PaymentFailed { payment_id, invoice_id, failure } => P::PaymentFailed(pb::PaymentFailed {
            payment_id: payment_id.to_string(),
            invoice_id: invoice_id.to_string(),
            failure,
        }),
        Change::PaymentMethodAdded { payment_method_id, kind } => {
            P::PaymentMethodAdded(pb::PaymentMethodAdded { payment_method_id: payment_method_id.to_string(), kind })
        }
        Change::PaymentMethodDefaultSet { payment_method_id } => {
            P::PaymentMethodDefaultSet(pb::PaymentMethodDefaultSet { payment_method_id: payment_method_id.to_string() })
        }
        Change::PaymentMethodRemoved { payment_method_id } => {
            P::PaymentMethodRemoved(pb::PaymentMethodRemoved { payment_method_id: payment_method_id.to_string() })
        }
        Change::SubscriptionSeatsChanged { before, after } => {
            P::SubscriptionSeatsChanged(pb::SubscriptionSeatsChanged { before, after })
        }
        Change::SubscriptionSeatsFull { seats } => P::SubscriptionSeatsFull(pb::SubscriptionSeatsFull { seats }),
        Change::WebhookEndpointCreated { endpoint_id, host, types } => {
            P::WebhookEndpointCreated(pb::WebhookEndpointCreated { endpoint_id: endpoint_id.to_string(), host, types })
        }
        Change::WebhookEndpointUpdated { endpoint_id, changes } => {
            P::WebhookEndpointUpdated(pb::WebhookEndpointUpdated {
                endpoint_id: endpoint_id.to_string(),
                changes: fields(changes),
            })
        }
        Change::WebhookEndpointSecretRotated { endpoint_id, at_once } => {
            P::WebhookEndpointSecretRotated(pb::WebhookEndpointSecretRotated {
                endpoint_id: endpoint_id.to_string(),
                at_once,
            })
        }
        Change::WebhookEndpointDisabled { endpoint_id, reason } => {
            P::WebhookEndpointDisabled(pb::WebhookEndpointDisabled { endpoint_id: endpoint_id.to_string(), reason })
        }
        Change::WebhookEndpointDeleted { endpoint_id, host } => {
            P::WebhookEndpointDeleted(pb::WebhookEndpointDeleted { endpoint_id: endpoint_id.to_string(), host })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn every_event_has_a_payload_of_its_name_on_the_wire() {
        let pool = DescriptorPool::decode(pb::DESCRIPTOR_SET).unwrap();
        let message = pool.get_message_by_name("tenantry.v1.Event").unwrap();
        let payload = message.oneofs().find(|oneof| oneof.name() == "payload").unwrap();
        let fields: BTreeSet<String> = payload.fields().map(|field| field.name().to_owned()).collect();
        assert_eq!(fields, TYPES.iter().map(|name| name.replace('.', "_")).collect());
    }

    #[test]
    fn what_a_newer_version_wrote_is_shown_as_far_as_it_is_understood() {
        let row = event::Model {
            organization_id: Uuid::nil(),
            number: 7,
            event_id: Uuid::nil(),
            r#type: "comet.seen".into(),
            subject_kind: "comet".into(),
            subject_id: "67P".into(),
            occurred_at: DateTime::UNIX_EPOCH,
            actor_user_id: None,
            actor_service: Some("tenantry".into()),
            actor_address: None,
            request_id: "call".into(),
            payload: serde_json::json!({ "tail": 3 }),
            position: None,
        };
        let shown = event(row.clone());
        assert_eq!((shown.r#type.as_str(), shown.number, shown.payload), ("comet.seen", 7, None));
        let known = event(event::Model {
            r#type: "invoice.paid".into(),
            payload: serde_json::json!({ "invoice_id": Uuid::nil(), "number": 3, "new": true }),
            ..row
        });
        assert_eq!(
            known.payload,
            Some(P::InvoicePaid(pb::InvoicePaid { invoice_id: Uuid::nil().to_string(), number: 3 }))
        );
    }
}
