//! What happened in an organization: one append-only log, audit trail and outbox in one.
//!
//! Names and payloads are a contract with everyone who reads the log: they are added to, never changed. No payload holds an
//! e-mail address or a token; ids lead to the rows that do, as long as those exist.

mod export;
pub mod feed;
pub mod log;
mod rpc;
mod shown;
mod subject;
mod watch;

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use export::line;
pub use rpc::{Service, types};
pub use subject::Subject;

use crate::entity::event;

/// The types of events that a word names: one by its name, several by `member.*`.
pub fn types_of(said: &str) -> Vec<&'static str> {
    let is_of = |name: &&str| match said.strip_suffix(".*") {
        Some(kind) => name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.')),
        None => *name == said,
    };
    shown::TYPES.into_iter().filter(is_of).collect()
}

/// The types that any of these words names, in the order in which they are known.
pub fn types_of_any(said: &[String]) -> Vec<&'static str> {
    let named: Vec<_> = said.iter().flat_map(|said| types_of(said)).collect();
    shown::TYPES.into_iter().filter(|name| named.contains(name)).collect()
}

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
    /// The subscription is on another plan, or on other terms of it.
    #[serde(rename = "subscription.plan_changed")]
    SubscriptionPlanChanged {
        /// The plan before.
        before_plan_id: String,
        /// The plan after.
        plan_id: String,
        /// Its version.
        plan_version: i32,
        /// The currency.
        currency_code: String,
        /// Whether its period is a year, and not a month.
        yearly: bool,
    },
    /// The quantities of add-ons changed.
    #[serde(rename = "subscription.add_ons_changed")]
    SubscriptionAddOnsChanged {
        /// The add-ons, each with its quantities.
        changes: Vec<FieldChange>,
    },
    /// Something will change at the end of the period.
    #[serde(rename = "subscription.change_scheduled")]
    SubscriptionChangeScheduled {
        /// When, RFC 3339.
        effective_time: String,
        /// The plan from then on.
        plan_id: Option<String>,
        /// The seats from then on.
        seats: Option<i64>,
        /// The add-ons with their quantities from then on: `storage=2`.
        add_ons: Vec<String>,
    },
    /// What was scheduled was taken back.
    #[serde(rename = "subscription.scheduled_change_canceled")]
    SubscriptionScheduledChangeCanceled {},
    /// What was scheduled could not be: the plan does not take as many seats as are used.
    #[serde(rename = "subscription.scheduled_change_dropped")]
    SubscriptionScheduledChangeDropped {
        /// The plan.
        plan_id: String,
        /// The seats that it would have had to take.
        seats: i64,
    },
    /// Fewer seats were scheduled than are used, which it has instead.
    #[serde(rename = "subscription.seats_clamped")]
    SubscriptionSeatsClamped {
        /// The seats that were scheduled.
        scheduled: i64,
        /// The seats that are used.
        used: i64,
    },
    /// A trial began.
    #[serde(rename = "subscription.trial_started")]
    SubscriptionTrialStarted {
        /// When it ends, RFC 3339.
        trial_end_time: String,
    },
    /// The trial ended.
    #[serde(rename = "subscription.trial_ended")]
    SubscriptionTrialEnded {},
    /// A billing period began.
    #[serde(rename = "subscription.renewed")]
    SubscriptionRenewed {
        /// When, RFC 3339.
        period_start_time: String,
        /// When it ends, RFC 3339.
        period_end_time: String,
    },
    /// The subscription will end with its period.
    #[serde(rename = "subscription.cancel_scheduled")]
    SubscriptionCancelScheduled {
        /// When, RFC 3339.
        end_time: String,
    },
    /// That the subscription ends was taken back.
    #[serde(rename = "subscription.resumed")]
    SubscriptionResumed {},
    /// The subscription ended.
    #[serde(rename = "subscription.canceled")]
    SubscriptionCanceled {
        /// `request`, `period_end`, `trial_end` or `dunning`.
        cause: String,
        /// The seats that there are without it.
        seats: i64,
    },
    /// Payment is overdue.
    #[serde(rename = "subscription.past_due")]
    SubscriptionPastDue {
        /// Until when service goes on, RFC 3339.
        grace_end_time: String,
    },
    /// Payment was tried or asked for again.
    #[serde(rename = "subscription.payment_retried")]
    SubscriptionPaymentRetried {
        /// How often by now.
        retry: i64,
    },
    /// Service has gone on long enough without payment.
    #[serde(rename = "subscription.unpaid")]
    SubscriptionUnpaid {},
    /// Nothing is overdue any more.
    #[serde(rename = "subscription.recovered")]
    SubscriptionRecovered {},
    /// An invoice became open.
    #[serde(rename = "invoice.finalized")]
    InvoiceFinalized {
        /// Which.
        invoice_id: Uuid,
        /// Its number.
        number: i64,
        /// Its total, in minor units.
        total_minor: i64,
        /// What is due of it.
        due_minor: i64,
        /// Its currency.
        currency_code: String,
    },
    /// Nothing is due of an invoice any more.
    #[serde(rename = "invoice.paid")]
    InvoicePaid {
        /// Which.
        invoice_id: Uuid,
        /// Its number.
        number: i64,
    },
    /// An invoice was voided.
    #[serde(rename = "invoice.voided")]
    InvoiceVoided {
        /// Which.
        invoice_id: Uuid,
        /// Its number.
        number: i64,
    },
    /// An invoice was given up.
    #[serde(rename = "invoice.uncollectible")]
    InvoiceUncollectible {
        /// Which.
        invoice_id: Uuid,
        /// Its number.
        number: i64,
    },
    /// An invoice was corrected.
    #[serde(rename = "credit_note.created")]
    CreditNoteCreated {
        /// The credit note.
        credit_note_id: Uuid,
        /// The invoice.
        invoice_id: Uuid,
        /// The number of the credit note.
        number: i64,
        /// Its amount, in minor units.
        amount_minor: i64,
    },
    /// An invoice was paid, in whole or in part.
    #[serde(rename = "payment.succeeded")]
    PaymentSucceeded {
        /// The payment.
        payment_id: Uuid,
        /// The invoice.
        invoice_id: Uuid,
        /// The amount, in minor units.
        amount_minor: i64,
        /// Its currency.
        currency_code: String,
    },
    /// A payment failed.
    #[serde(rename = "payment.failed")]
    PaymentFailed {
        /// The payment.
        payment_id: Uuid,
        /// The invoice.
        invoice_id: Uuid,
        /// Why.
        failure: String,
    },
    /// A payment method was added.
    #[serde(rename = "payment_method.added")]
    PaymentMethodAdded {
        /// Which.
        payment_method_id: Uuid,
        /// Its kind.
        kind: String,
    },
    /// Another payment method pays invoices.
    #[serde(rename = "payment_method.default_set")]
    PaymentMethodDefaultSet {
        /// Which.
        payment_method_id: Uuid,
    },
    /// A payment method was removed.
    #[serde(rename = "payment_method.removed")]
    PaymentMethodRemoved {
        /// Which.
        payment_method_id: Uuid,
    },
    /// The number of seats changed.
    #[serde(rename = "subscription.seats_changed")]
    SubscriptionSeatsChanged {
        /// The seats before.
        before: i64,
        /// The seats after.
        after: i64,
    },
    /// The last free seat was taken.
    #[serde(rename = "subscription.seats_full")]
    SubscriptionSeatsFull {
        /// How many there are.
        seats: i64,
    },
    /// A webhook endpoint was made. What follows the host in its URL may be secret.
    #[serde(rename = "webhook_endpoint.created")]
    WebhookEndpointCreated {
        /// Which.
        endpoint_id: Uuid,
        /// The host that is told.
        host: String,
        /// The types of events that it is told; all when empty.
        types: Vec<String>,
    },
    /// A webhook endpoint was changed.
    #[serde(rename = "webhook_endpoint.updated")]
    WebhookEndpointUpdated {
        /// Which.
        endpoint_id: Uuid,
        /// The fields that changed, each with its values; of a URL, its host.
        changes: Vec<FieldChange>,
    },
    /// A webhook endpoint has a new secret.
    #[serde(rename = "webhook_endpoint.secret_rotated")]
    WebhookEndpointSecretRotated {
        /// Which.
        endpoint_id: Uuid,
        /// Whether the old one signs nothing any more.
        at_once: bool,
    },
    /// A webhook endpoint is told nothing any more, because it did not take what it was told.
    #[serde(rename = "webhook_endpoint.disabled")]
    WebhookEndpointDisabled {
        /// Which.
        endpoint_id: Uuid,
        /// `failing` or `gone`.
        reason: String,
    },
    /// A webhook endpoint was deleted.
    #[serde(rename = "webhook_endpoint.deleted")]
    WebhookEndpointDeleted {
        /// Which.
        endpoint_id: Uuid,
        /// The host that was told.
        host: String,
    },
}

impl Change {
    /// What an event of the log says.
    ///
    /// # Errors
    ///
    /// When a newer version wrote it.
    pub fn read(row: &event::Model) -> Result<Self, serde_json::Error> {
        serde_json::from_value(serde_json::json!({ "type": row.r#type, "payload": row.payload }))
    }
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
