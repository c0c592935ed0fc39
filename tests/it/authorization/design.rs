//! What DESIGN.md section 5 says, copied by hand, so that a preset that says otherwise is noticed.

/// The matrix as it stands there.
const MATRIX: &str = "
| | S0 O | S0 A | S0 M | S1 O | S1 A | S1 M | S2 A | S2 B | S2 U | S2 M | S3 O | S3 A | S3 M |
| see the organization's name, logo, description | Y | Y | Y | Y | Y | Y | Y | Y | Y | Y | Y | Y | Y |
| edit them; view and edit settings | Y | Y | – | Y | Y | – | Y | view | view | – | Y | Y | – |
| overview, list and search members, list invitations | Y | Y | – | Y | Y | – | Y | Y | Y | – | Y | Y | – |
| invite; resend and cancel invitations: to roles | all | A M | – | A M | A M | – | all | – | M | – | all | M | – |
| change roles among | all | A M | – | all | A M | – | all | – | – | – | all | – | – |
| remove, suspend, reactivate: members with roles | all | A M | – | all | A M | – | all | – | M | – | all | M | – |
| transfer the top role | Y | – | – | Y | – | – | Y | – | – | – | Y | – | – |
| leave | Y | Y | Y | Y | Y | Y | – | – | – | – | Y | Y | Y |
| list all workspaces (members: their own) | Y | Y | own | Y | Y | own | Y | Y | Y | own | Y | Y | own |
| create, edit, delete workspaces; assign anyone | Y | Y | – | Y | Y | – | Y | – | Y | – | Y | Y | – |
| seats used / total | Y | Y | – | Y | Y | – | Y | Y | Y | – | Y | Y | – |
| billing status and profile | Y | status | – | Y | Y | – | Y | Y | view | – | Y | Y | – |
| invoices, payment methods | Y | – | – | Y | Y | – | Y | Y | – | – | Y | Y | – |
| change plan, seats, add-ons, billing profile | Y | – | – | Y | Y | – | Y | Y | – | – | Y | Y | – |
| cancel or resume the subscription | Y | – | – | Y | Y | – | Y | – | – | – | Y | Y | – |
| delete, undelete the organization | Y | – | – | Y | – | – | Y | – | – | – | Y | – | – |
| audit log, analytics | Y | Y | – | Y | Y | – | Y | Y | Y | – | Y | Y | – |
";

/// What the contract says nothing about, as the four documents would have it: roles of the organization's own are its top
/// role's (S3 promises them to no lesser one), and who runs the rooms sees and ends what goes on in them (S3's monitoring);
/// who changes settings and reads the log may have it sent somewhere.
const BESIDES: &str = "
| define roles | Y | – | – | Y | – | – | Y | – | – | – | Y | – | – |
| see what goes on in rooms | Y | Y | – | Y | Y | – | Y | Y | Y | – | Y | Y | – |
| have what happens sent to URLs | Y | Y | – | Y | Y | – | Y | – | – | – | Y | Y | – |
| end sessions, delete recordings | Y | Y | – | Y | Y | – | Y | – | Y | – | Y | Y | – |
";

const SEE: &str = "see the organization's name, logo, description";
const EDIT: &str = "edit them; view and edit settings";
const LIST: &str = "overview, list and search members, list invitations";
const INVITE: &str = "invite; resend and cancel invitations: to roles";
const CHANGE: &str = "change roles among";
const REMOVE: &str = "remove, suspend, reactivate: members with roles";
const TRANSFER: &str = "transfer the top role";
const LEAVE: &str = "leave";
const SEATS: &str = "seats used / total";
const BILLING_STATUS: &str = "billing status and profile";
const CHANGE_PLAN: &str = "change plan, seats, add-ons, billing profile";
const CANCEL: &str = "cancel or resume the subscription";
const INVOICES: &str = "invoices, payment methods";
const DELETE: &str = "delete, undelete the organization";
const WORKSPACES: &str = "list all workspaces (members: their own)";
const MANAGE_WORKSPACES: &str = "create, edit, delete workspaces; assign anyone";
const ANALYTICS: &str = "audit log, analytics";
const ROLES: &str = "define roles";
const MONITOR: &str = "see what goes on in rooms";
const WEBHOOKS: &str = "have what happens sent to URLs";

/// A preset as the matrix knows it.
#[derive(Debug)]
pub(super) struct Preset {
    pub(super) name: &'static str,
    source: &'static str,
    /// Its roles by their letters, the top role first.
    letters: &'static [(&'static str, &'static str)],
}

const OWNER_ADMIN_MEMBER: &[(&str, &str)] = &[("O", "owner"), ("A", "admin"), ("M", "member")];

pub(super) const OWNER_BILLING: Preset = Preset { name: "owner-billing", source: "S0", letters: OWNER_ADMIN_MEMBER };
pub(super) const SHARED_BILLING: Preset = Preset { name: "shared-billing", source: "S1", letters: OWNER_ADMIN_MEMBER };
pub(super) const SPLIT_ADMIN: Preset = Preset {
    name: "split-admin",
    source: "S2",
    letters: &[("A", "admin"), ("B", "billing_admin"), ("U", "user_admin"), ("M", "member")],
};
pub(super) const GUARDED_ADMIN: Preset = Preset { name: "guarded-admin", source: "S3", letters: OWNER_ADMIN_MEMBER };

/// What an RPC needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To be a user.
    User,
    /// To be a trusted service.
    Service,
    /// To hold a role whose cell in this row is `Y`.
    Whole(&'static str),
    /// To hold a role whose cell in this row is anything but `–`.
    Part(&'static str),
    /// To hold a role whose cell in this row is one of these.
    Any(&'static str, &'static [&'static str]),
}

/// What an RPC needs of a user, and whether a trusted service may call it for itself.
#[expect(clippy::too_many_lines, reason = "a row for each RPC")]
pub(super) fn need(procedure: &str) -> (Need, bool) {
    #[expect(clippy::match_same_arms, reason = "arms by what they are about")]
    match procedure {
        "OrganizationService/CreateOrganization"
        | "OrganizationService/EnsureDefaultOrganization"
        | "OrganizationService/ListOrganizations"
        | "MembershipService/AcceptInvitation"
        | "MembershipService/DeclineInvitation"
        | "MembershipService/ListReceivedInvitations"
        | "MembershipService/ListJoinableOrganizations"
        | "MembershipService/JoinOrganization"
        | "MembershipService/WithdrawJoinRequest" => (Need::User, false),
        "BillingService/ListPlans"
        | "MembershipService/GetReceivedInvitation"
        | "ClockService/GetTime"
        | "ClockService/AdvanceTime" => (Need::User, true),
        "MembershipService/RecordSignIn"
        | "WorkspaceService/LookupRoom"
        | "MonitoringService/RecordSessionStart"
        | "MonitoringService/RecordSessionEnd"
        | "MonitoringService/RegisterRecording"
        | "BillingService/SetTaxTreatment"
        | "BillingService/RecordPayment"
        | "BillingService/VoidInvoice"
        | "BillingService/MarkInvoiceUncollectible"
        | "BillingService/CreateCreditNote"
        | "BillingService/ReportUsage"
        | "BillingService/CheckInvariants"
        | "DeliveryService/ListMails"
        | "DeliveryService/RetryMail" => (Need::Service, true),
        // Everybody has a part in these: what they are assigned to, host or own. More, the operation decides.
        "WorkspaceService/GetWorkspace"
        | "WorkspaceService/ListWorkspaces"
        | "MonitoringService/ListSessions"
        | "MonitoringService/ListRecordings"
        | "MonitoringService/DeleteRecording" => (Need::Whole(SEE), true),
        "MonitoringService/EndSession" => (Need::Whole(SEE), false),
        "WorkspaceService/ListWorkspaces of another" | "WorkspaceService/ListWorkspaceMembers" => {
            (Need::Whole(WORKSPACES), true)
        }
        "WorkspaceService/CreateWorkspace"
        | "WorkspaceService/UpdateWorkspace"
        | "WorkspaceService/DeleteWorkspace"
        | "WorkspaceService/SetMemberWorkspaces" => (Need::Whole(MANAGE_WORKSPACES), false),
        "WebhookService/CreateWebhookEndpoint"
        | "WebhookService/ListWebhookEndpoints"
        | "WebhookService/UpdateWebhookEndpoint"
        | "WebhookService/DeleteWebhookEndpoint"
        | "WebhookService/RotateWebhookSecret"
        | "WebhookService/ListWebhookDeliveries"
        | "WebhookService/RedeliverWebhooks" => (Need::Whole(WEBHOOKS), true),
        "MonitoringService/GetUsageSummary" => (Need::Whole(MONITOR), true),
        "OrganizationService/GetOrganizationSettings" | "OrganizationService/ListDomains" => (Need::Part(EDIT), true),
        "OrganizationService/UpdateOrganizationSettings"
        | "OrganizationService/ClaimDomain"
        | "OrganizationService/VerifyDomain"
        | "OrganizationService/UpdateDomain"
        | "OrganizationService/ReleaseDomain" => (Need::Whole(EDIT), false),
        "OrganizationService/GetOrganizationOverview" | "MembershipService/ListJoinRequests" => {
            (Need::Whole(LIST), true)
        }
        "OrganizationService/QueryAnalytics"
        | "EventService/ListEvents"
        | "EventService/WatchEvents"
        | "EventService/ExportEvents" => (Need::Whole(ANALYTICS), true),
        "MembershipService/CreateRole" | "MembershipService/UpdateRole" | "MembershipService/DeleteRole" => {
            (Need::Whole(ROLES), false)
        }
        "BillingService/GetBillingProfile" => (Need::Any(BILLING_STATUS, &["Y", "view"]), true),
        "BillingService/UpdateBillingProfile" => (Need::Whole(CHANGE_PLAN), false),
        "OrganizationService/GetOrganization"
        | "MembershipService/ListRoles"
        | "MembershipService/GetMember"
        | "MembershipService/CheckPermissions" => (Need::Whole(SEE), true),
        "MembershipService/GetInvitation"
        | "MembershipService/ListInvitations"
        | "MembershipService/ListMembers"
        | "MembershipService/GetMember of another"
        | "MembershipService/CheckPermissions of another" => (Need::Whole(LIST), true),
        "OrganizationService/UpdateOrganization" => (Need::Whole(EDIT), false),
        "OrganizationService/DeleteOrganization" | "OrganizationService/UndeleteOrganization" => {
            (Need::Whole(DELETE), false)
        }
        "MembershipService/InviteMembers"
        | "MembershipService/ResendInvitation"
        | "MembershipService/ApproveJoinRequest"
        | "MembershipService/DeclineJoinRequest"
        | "MembershipService/CancelInvitations" => (Need::Part(INVITE), false),
        "MembershipService/UpdateMemberRole" | "MembershipService/BatchUpdateMemberRoles" => {
            (Need::Part(CHANGE), false)
        }
        "MembershipService/RemoveMember"
        | "MembershipService/BatchRemoveMembers"
        | "MembershipService/SuspendMember"
        | "MembershipService/ReactivateMember" => (Need::Part(REMOVE), false),
        "MembershipService/LeaveOrganization" => (Need::Whole(LEAVE), false),
        "MembershipService/TransferOwnership" => (Need::Whole(TRANSFER), false),
        "BillingService/GetSubscription" => (Need::Part(BILLING_STATUS), true),
        "BillingService/GetSeatUsage" => (Need::Whole(SEATS), true),
        "BillingService/UpdateSubscription"
        | "BillingService/PreviewSubscriptionChange"
        | "BillingService/CancelScheduledChange"
        | "BillingService/AddPaymentMethod"
        | "BillingService/SetDefaultPaymentMethod"
        | "BillingService/RemovePaymentMethod" => (Need::Whole(CHANGE_PLAN), false),
        "BillingService/CancelSubscription" | "BillingService/ResumeSubscription" => (Need::Whole(CANCEL), false),
        "BillingService/ListInvoices"
        | "BillingService/GetInvoice"
        | "BillingService/DownloadInvoice"
        | "BillingService/ListCreditEntries"
        | "BillingService/ListSeatEntries"
        | "BillingService/ListPaymentMethods" => (Need::Whole(INVOICES), true),
        "BillingService/GetUsage" => (Need::Part(BILLING_STATUS), true),
        "BillingService/CheckEntitlement" => (Need::Whole(SEE), true),
        unknown => panic!("{unknown}: say here what DESIGN.md section 5 wants of its caller"),
    }
}

impl Preset {
    /// Its roles, the top role first.
    pub(super) fn roles(&self) -> impl Iterator<Item = &'static str> {
        self.letters.iter().map(|(_, role)| *role)
    }

    /// The role that the founder of an organization holds.
    pub(super) fn top(&self) -> &'static str {
        self.letters[0].1
    }

    /// Whether the holders of a role have what an RPC needs.
    pub(super) fn allows(&self, role: &str, procedure: &str) -> bool {
        match need(procedure).0 {
            Need::User => true,
            Need::Service => false,
            Need::Whole(row) => self.cell(row, role) == "Y",
            Need::Part(row) => self.cell(row, role) != "–",
            Need::Any(row, cells) => cells.contains(&self.cell(row, role)),
        }
    }

    /// The roles to which a role invites.
    pub(super) fn invites(&self, role: &str) -> Vec<&'static str> {
        self.named(self.cell(INVITE, role))
    }

    /// The roles among which a role changes.
    pub(super) fn changes(&self, role: &str) -> Vec<&'static str> {
        self.named(self.cell(CHANGE, role))
    }

    /// The roles that a role removes, suspends and reactivates.
    pub(super) fn removes(&self, role: &str) -> Vec<&'static str> {
        self.named(self.cell(REMOVE, role))
    }

    fn named(&self, cell: &str) -> Vec<&'static str> {
        match cell {
            "all" => self.roles().collect(),
            "–" => Vec::new(),
            letters => letters.split(' ').map(|letter| self.role(letter)).collect(),
        }
    }

    fn role(&self, letter: &str) -> &'static str {
        let found = self.letters.iter().find(|(known, _)| *known == letter);
        found.map_or_else(|| panic!("{}: no role {letter}", self.name), |(_, role)| *role)
    }

    fn cell(&self, row: &str, role: &str) -> &'static str {
        let letter = self.letters.iter().find(|(_, known)| *known == role).expect("a role of this preset").0;
        let column = format!("{} {letter}", self.source);
        let mut lines = MATRIX.trim().lines().map(|line| line.trim_matches('|').split('|').map(str::trim));
        let head = lines.next().expect("a head");
        let column = head.enumerate().find(|(_, name)| *name == column).expect("a column").0;
        let besides = BESIDES.trim().lines().map(|line| line.trim_matches('|').split('|').map(str::trim));
        let row = lines.chain(besides).find(|line| line.clone().next() == Some(row)).expect("a row");
        row.clone().nth(column).expect("a cell")
    }
}
