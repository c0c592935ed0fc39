//! What each event is about.

use uuid::Uuid;

use super::Change;

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The organization itself.
    Organization,
    /// Its settings.
    Settings,
    /// An invitation.
    Invitation(Uuid),
    /// A member, present or past.
    Member(String),
    /// A workspace.
    Workspace(Uuid),
    /// A role of its own.
    Role(String),
    /// A domain.
    Domain(String),
    /// A request to join.
    JoinRequest(Uuid),
    /// A session.
    Session(String),
    /// A recording.
    Recording(String),
    /// The subscription.
    Subscription,
    /// The billing profile.
    BillingProfile,
    /// An invoice.
    Invoice(Uuid),
    /// A payment method.
    PaymentMethod(Uuid),
    /// A webhook endpoint.
    WebhookEndpoint(Uuid),
}

impl Subject {
    /// As the log is searched by it: a kind, and an id where there are many of the kind.
    pub fn columns(&self) -> (&'static str, String) {
        match self {
            Self::Organization => ("organization", String::new()),
            Self::Settings => ("settings", String::new()),
            Self::Invitation(id) => ("invitation", id.to_string()),
            Self::Member(user_id) => ("member", user_id.clone()),
            Self::Workspace(id) => ("workspace", id.to_string()),
            Self::Role(role) => ("role", role.clone()),
            Self::Domain(domain) => ("domain", domain.clone()),
            Self::JoinRequest(id) => ("join_request", id.to_string()),
            Self::Session(id) => ("session", id.clone()),
            Self::Recording(id) => ("recording", id.clone()),
            Self::Subscription => ("subscription", String::new()),
            Self::BillingProfile => ("billing_profile", String::new()),
            Self::Invoice(id) => ("invoice", id.to_string()),
            Self::PaymentMethod(id) => ("payment_method", id.to_string()),
            Self::WebhookEndpoint(id) => ("webhook_endpoint", id.to_string()),
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
            | Self::OrganizationUndeleted {}
            | Self::OrganizationImported { .. } => Subject::Organization,
            Self::SettingsUpdated { .. } => Subject::Settings,
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
            | Self::MemberWorkspacesChanged { user_id, .. }
            | Self::OwnershipTransferred { to_user_id: user_id, .. } => Subject::Member(user_id.clone()),
            Self::WorkspaceCreated { workspace_id, .. }
            | Self::WorkspaceUpdated { workspace_id, .. }
            | Self::WorkspaceDeleted { workspace_id, .. } => Subject::Workspace(*workspace_id),
            Self::RoleCreated { role, .. } | Self::RoleUpdated { role, .. } | Self::RoleDeleted { role, .. } => {
                Subject::Role(role.clone())
            }
            Self::DomainClaimed { domain }
            | Self::DomainVerified { domain }
            | Self::DomainUpdated { domain, .. }
            | Self::DomainReleased { domain } => Subject::Domain(domain.clone()),
            Self::JoinRequestCreated { join_request_id, .. }
            | Self::JoinRequestApproved { join_request_id, .. }
            | Self::JoinRequestDeclined { join_request_id, .. }
            | Self::JoinRequestWithdrawn { join_request_id, .. } => Subject::JoinRequest(*join_request_id),
            Self::SessionStarted { session_id, .. }
            | Self::SessionEndRequested { session_id, .. }
            | Self::SessionEnded { session_id, .. } => Subject::Session(session_id.clone()),
            Self::RecordingRegistered { recording_id, .. } | Self::RecordingDeleted { recording_id, .. } => {
                Subject::Recording(recording_id.clone())
            }
            Self::SubscriptionSeatsChanged { .. }
            | Self::SubscriptionSeatsFull { .. }
            | Self::SubscriptionPlanChanged { .. }
            | Self::SubscriptionAddOnsChanged { .. }
            | Self::SubscriptionChangeScheduled { .. }
            | Self::SubscriptionScheduledChangeCanceled {}
            | Self::SubscriptionScheduledChangeDropped { .. }
            | Self::SubscriptionSeatsClamped { .. }
            | Self::SubscriptionTrialStarted { .. }
            | Self::SubscriptionTrialEnded {}
            | Self::SubscriptionRenewed { .. }
            | Self::SubscriptionCancelScheduled { .. }
            | Self::SubscriptionResumed {}
            | Self::SubscriptionCanceled { .. }
            | Self::SubscriptionPastDue { .. }
            | Self::SubscriptionPaymentRetried { .. }
            | Self::SubscriptionUnpaid {}
            | Self::SubscriptionRecovered {} => Subject::Subscription,
            Self::InvoiceFinalized { invoice_id, .. }
            | Self::InvoicePaid { invoice_id, .. }
            | Self::InvoiceVoided { invoice_id, .. }
            | Self::InvoiceUncollectible { invoice_id, .. }
            | Self::CreditNoteCreated { invoice_id, .. }
            | Self::PaymentSucceeded { invoice_id, .. }
            | Self::PaymentFailed { invoice_id, .. } => Subject::Invoice(*invoice_id),
            Self::PaymentMethodAdded { payment_method_id, .. }
            | Self::PaymentMethodDefaultSet { payment_method_id }
            | Self::PaymentMethodRemoved { payment_method_id } => Subject::PaymentMethod(*payment_method_id),
            Self::BillingProfileUpdated { .. } => Subject::BillingProfile,
            Self::WebhookEndpointCreated { endpoint_id, .. }
            | Self::WebhookEndpointUpdated { endpoint_id, .. }
            | Self::WebhookEndpointSecretRotated { endpoint_id, .. }
            | Self::WebhookEndpointDisabled { endpoint_id, .. }
            | Self::WebhookEndpointDeleted { endpoint_id, .. } => Subject::WebhookEndpoint(*endpoint_id),
        }
    }
}
