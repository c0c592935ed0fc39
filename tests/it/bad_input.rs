//! Whatever a client sends, the answer is an answer: never INTERNAL, never UNKNOWN, and nothing in the books moves.
//!
//! The requests come from the descriptor, so that a new field is tested from the day it is there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};
use tenantry::pb;
use tonic::Code;

use crate::harness::billing::plan;
use crate::harness::domains::updating;
use crate::harness::person::{Identity, Person, answer};
use crate::harness::raw::{self, Answered};
use crate::harness::refused::{Refused, refused};
use crate::harness::webhooks::posting_here;
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};

/// What gRPC for Java and for C++ take of headers unless told otherwise.
const MOST_HEADER_BYTES: usize = 8192;

/// Those whom a valid request needs, and what another organization has.
struct Stage {
    world: World,
    owner: Person,
    invitee: Person,
    service: Person,
    /// Whose domain lets them ask to join, and who has.
    joiner: Person,
    invitation_id: String,
    token: String,
    room: pb::Workspace,
    join_request_id: String,
    mail_id: String,
    endpoint_id: String,
    invoice_id: String,
    payment_method_id: String,
    other: Other,
}

/// Where nobody takes a webhook.
const NOBODY: &str = "http://127.0.0.1:1/hooks";

/// Changes that leave what a sound request needs, so that they may be done and not only asked.
const DONE: [&str; 7] = [
    "CreateOrganizationRequest",
    "EnsureDefaultOrganizationRequest",
    "UpdateOrganizationRequest",
    "InviteMembersRequest",
    "UpdateMemberRoleRequest",
    "BatchUpdateMemberRolesRequest",
    "UpdateSubscriptionRequest",
];

/// A plan that costs something, and what can be added and reported.
const PAID: &str = r#"
[[plans]]
plan = "paid"
title = "Paid"
currency = "EUR"
period = "month"
base_price_minor = 1_000
seat_price_minor = 0
included_seats = 100_000
minimum_seats = 1

[[add_ons]]
add_on = "extra"
title = "Extra"
kind = "per_unit"
prices = [{ currency = "EUR", period = "month", unit_price_minor = 1 }]

[[meters]]
meter = "minutes"
title = "Minutes"
"#;

/// An open invoice and a payment method of this owner's organization.
async fn billed(world: &World, owner: &Person) -> (String, String) {
    owner.changes(plan("paid")).await.expect("a plan");
    let invoice_id = owner.invoices().await.remove(0).invoice_id;
    let payment_method_id = fresh_uuid();
    let id = |id: &str| world.backend.id(id);
    // There is no provider that would keep one.
    let columns = "organization_id, payment_method_id, provider, reference, kind, brand, last4, expiry_month, expiry_year, is_default, created_at";
    let sql = format!(
        "INSERT INTO payment_method ({columns}) VALUES ({}, {}, 'stripe', 'pm_1', 'card', 'visa', '4242', 1, 2030, false, '2026-01-05T09:00:00+00:00')",
        id(&owner.organization_id),
        id(&payment_method_id)
    );
    world.execute(&sql).await.expect("a payment method");
    (invoice_id, payment_method_id)
}

/// An e-mail of this owner's organization that is parked.
async fn parked(world: &World, owner: &Person) -> String {
    let mail_id = fresh_uuid();
    let id = |id: &str| world.backend.id(id);
    let columns =
        "organization_id, mail_id, event_number, recipient, kind, letter, state, created_at, due_at, ended_at";
    let at = "'2026-01-05T09:00:00+00:00'";
    let sql = format!(
        "INSERT INTO mail ({columns}) VALUES ({}, {}, 1, 'a@example.com', 'seats_full', '{{}}', 'parked', {at}, {at}, {at})",
        id(&owner.organization_id),
        id(&mail_id)
    );
    world.execute(&sql).await.expect("an e-mail");
    mail_id
}

/// A webhook endpoint of this owner's organization that was told its first event.
async fn told_once(world: &World, owner: &Person) -> String {
    let endpoint_id = owner.has_told(NOBODY, &["recording.deleted"]).await.endpoint.endpoint_id;
    let id = |id: &str| world.backend.id(id);
    let columns = "organization_id, endpoint_id, event_number, event_id, event_type, state, attempts, tries, created_at, ended_at";
    let at = "'2026-01-05T09:00:00+00:00'";
    let sql = format!(
        "INSERT INTO webhook_delivery ({columns}) VALUES ({}, {}, 1, {}, 'organization.created', 'delivered', 1, '[]', {at}, {at})",
        id(&owner.organization_id),
        id(&endpoint_id),
        id(&fresh_uuid()),
    );
    world.execute(&sql).await.expect("a delivery");
    endpoint_id
}

/// Another organization, whose owner and invitation nobody else may see.
struct Other {
    organization: String,
    owner: String,
    invitation: String,
    workspace: String,
}

impl Stage {
    async fn new(backend: Backend) -> Self {
        let plans = format!("{}{PAID}", plans_with_seats(100_000));
        let world = World::with(backend, posting_here(Setup { plans: Some(plans), ..Setup::default() })).await;
        let owner = world.person("ann").founds("Acme").await;
        owner.brings("bob", "member").await;
        // Without a second one, nobody could leave or hand on.
        owner.brings("otto", "owner").await;
        let sent = owner.invites(&["ivy@example.com"], "member").await.remove(0);
        let stranger = world.person("zed").founds("Other").await;
        let theirs = stranger.invites(&["yan@example.com"], "member").await.remove(0);
        let their_space = stranger.tries_to_make(pb::WorkspaceKind::Workspace, "Theirs").await.expect("a workspace");
        let service = world.service("gateway");
        let room = furnished(&owner, &service).await;
        let joiner = world.person("jay").with_email("jay@joiner.example");
        let join_request_id = asked_to_join(&world, &owner, &joiner).await;
        let (invoice_id, payment_method_id) = billed(&world, &owner).await;
        let mail_id = parked(&world, &owner).await;
        let endpoint_id = told_once(&world, &owner).await;
        Self {
            mail_id,
            endpoint_id,
            invoice_id,
            payment_method_id,
            invitee: world.person("ivy"),
            service,
            joiner,
            room,
            join_request_id,
            invitation_id: sent.invitation.expect("an invitation").invitation_id,
            token: sent.token,
            other: Other {
                organization: stranger.organization_id,
                owner: "zed".into(),
                invitation: theirs.invitation.expect("an invitation").invitation_id,
                workspace: their_space.workspace_id,
            },
            owner,
            world,
        }
    }

    /// By whom a method can be called with success.
    fn caller(&self, method: &MethodDescriptor) -> &Identity {
        match method.name() {
            "AcceptInvitation" | "DeclineInvitation" => &self.invitee.identity,
            "RecordSignIn"
            | "LookupRoom"
            | "RecordSessionStart"
            | "RecordSessionEnd"
            | "RegisterRecording"
            | "SetTaxTreatment"
            | "RecordPayment"
            | "VoidInvoice"
            | "MarkInvoiceUncollectible"
            | "CreateCreditNote"
            | "ReportUsage"
            | "CheckInvariants"
            | "ListMails"
            | "RetryMail" => &self.service.identity,
            "ListJoinableOrganizations" | "JoinOrganization" | "WithdrawJoinRequest" => &self.joiner.identity,
            _ => &self.owner.identity,
        }
    }

    async fn call(&self, method: &MethodDescriptor, message: &[u8]) -> Answered {
        raw::send(&self.world.channel(), &path(method), self.caller(method), message).await
    }

    /// A request that is as it should be.
    fn sound(&self, message: &MessageDescriptor) -> DynamicMessage {
        let mut request = DynamicMessage::new(message.clone());
        for field in message.fields() {
            if let Some(value) = self.sound_value(message, &field) {
                request.set_field(&field, value);
            }
        }
        request
    }

    #[expect(clippy::too_many_lines, reason = "a row for each field")]
    fn sound_value(&self, message: &MessageDescriptor, field: &FieldDescriptor) -> Option<Value> {
        let text = |text: &str| Some(Value::String(text.to_owned()));
        let texts =
            |texts: &[&str]| Some(Value::List(texts.iter().map(|text| Value::String((*text).into())).collect()));
        let unset = matches!(
            (message.name(), field.name()),
            ("InvitationReference", "name")
                | ("SetMemberWorkspacesRequest", "delta")
                | ("Organization", "update_time" | "create_time" | "delete_time" | "purge_time" | "state")
                | ("Workspace", "update_time" | "create_time" | "kind")
                | ("OrganizationSettings" | "BillingProfile", "update_time")
                | ("Domain", "state" | "create_time" | "verify_time" | "proof_record_name" | "proof_record_value")
                | (
                    "WebhookEndpoint",
                    "disable_reason"
                        | "disable_time"
                        | "reached_event_number"
                        | "failure_count"
                        | "failing_since_time"
                        | "last_failure"
                        | "last_success_time"
                        | "next_attempt_time"
                        | "old_secret_expire_time"
                        | "create_time"
                        | "update_time"
                )
                | ("UpdateWebhookEndpointRequest", "skip_missed")
                | ("Role", "top" | "custom" | "invites" | "changes" | "removes")
                | ("ListSeatEntriesRequest", "invoice_id" | "line")
                | ("BillingProfile", "tax_treatment")
                | (
                    _,
                    "credit_note_id"
                        | "latest_version"
                        | "skip_trial"
                        | "timing"
                        | "invoicing"
                        | "billing_period"
                        | "page_token"
                        | "cursor"
                        | "etag"
                        | "show_deleted"
                )
        );
        if unset {
            return None;
        }
        let paths = match (message.name(), field.name()) {
            ("UpdateOrganizationRequest", "update_mask") => "name slug description logo_uri time_zone",
            ("UpdateOrganizationSettingsRequest", "update_mask") => "branding security ai setup",
            ("UpdateWorkspaceRequest", "update_mask") => "name description slug room_settings",
            ("UpdateWebhookEndpointRequest", "update_mask") => "url description types disabled",
            ("UpdateDomainRequest", "update_mask") => "join_mode join_role",
            ("UpdateRoleRequest", "update_mask") => "title description permissions managed_by",
            ("UpdateBillingProfileRequest", "update_mask") => "name email address tax_id purchase_order_number",
            _ => "",
        };
        if let (false, Kind::Message(mask)) = (paths.is_empty(), field.kind()) {
            let paths = paths.split(' ').map(|path| Value::String(path.into())).collect();
            let mut mask = DynamicMessage::new(mask);
            mask.set_field_by_name("paths", Value::List(paths));
            return Some(Value::Message(mask));
        }
        if let (true, Kind::Message(role)) = (field.name() == "role", field.kind()) {
            let name = if message.name() == "CreateRoleRequest" { "org:new" } else { "org:helper" };
            let mut role = self.sound(&role);
            role.set_field_by_name("role", Value::String(name.into()));
            return Some(Value::Message(role));
        }
        match (message.name(), field.name()) {
            ("FieldMask", "paths") => texts(&["name"]),
            (_, "organization_id") => text(&self.owner.organization_id),
            (_, "invoice_id") => text(&self.invoice_id),
            (_, "mail_id") => text(&self.mail_id),
            (_, "endpoint_id") => text(&self.endpoint_id),
            (_, "event_numbers") => Some(Value::List(vec![Value::I64(1)])),
            ("CreateWebhookEndpointRequest" | "WebhookEndpoint", "url") => text(NOBODY),
            (_, "payment_method_id") => text(&self.payment_method_id),
            (_, "provider_token") => text("pm_card_visa"),
            (_, "plan_id") => text("paid"),
            (_, "add_on_id") => text("extra"),
            (_, "currency_code") => text("EUR"),
            (_, "types") => texts(&["member.*"]),
            ("WatchEventsRequest", "start") => Some(Value::EnumNumber(2)),
            (_, "actor_service") => text("billing"),
            (_, "meter" | "feature") => text("minutes"),
            (_, "report_id" | "reference" | "request_id") => Some(Value::String(fresh_uuid())),
            (_, "failure" | "reason" | "label" | "note") => text("So"),
            ("GetUsageRequest" | "GetSeatUsageRequest" | "UsageReport", "time") => {
                Some(seconds(field, 1_767_603_600, 0))
            }
            (_, "mode" | "behavior") => Some(Value::EnumNumber(1)),
            (_, "rate_millionths" | "amount_minor" | "quantity") => Some(whole(field, 1)),
            ("EventSubject", "id") | (_, "user_id" | "actor_user_id") => text("bob"),
            (_, "user_ids") => texts(&["bob"]),
            (_, "invitation_id") => text(&self.invitation_id),
            (_, "invitation_ids") => texts(&[&self.invitation_id]),
            (_, "token") => text(&self.token),
            (_, "validate_only") => Some(Value::Bool(!DONE.contains(&message.name()))),
            (_, "emails") => texts(&["new@example.com"]),
            (_, "email") => text("bob@example.com"),
            ("DeleteRoleRequest", "role") => text("org:helper"),
            ("EventSubject", "kind") | (_, "role" | "join_role" | "replacement_role") => text("member"),
            (_, "managed_by") => texts(&["admin"]),
            (_, "join_request_id") => text(&self.join_request_id),
            (_, "workspace_id") => text(&self.room.workspace_id),
            (_, "workspace_ids" | "add_workspace_ids" | "remove_workspace_ids") => texts(&[&self.room.workspace_id]),
            ("LookupRoomRequest", "slug") => text(&self.room.slug),
            (_, "kind" | "access" | "join_mode" | "granularity" | "safety_level" | "state" | "outcome") => {
                Some(Value::EnumNumber(2))
            }
            (_, "primary_color" | "accent_color") => text("#1a2b3c"),
            (_, "mail_language") => text("nl"),
            (_, "allowed_email_domains") => texts(&["example.com", "joiner.example"]),
            (_, "allowed_ip_ranges") => texts(&["192.0.2.0/24"]),
            (_, "allowed_models") => texts(&["small"]),
            (_, "default_model") => text("small"),
            (_, "domain") if field.kind() == Kind::String => text("joiner.example"),
            (_, "time_zone") => text("Europe/Amsterdam"),
            (_, "start_date" | "end_date") => text("2026-01-05"),
            (_, "session_id") => text("session"),
            (_, "recording_id") => text("recording"),
            (_, "host_user_id" | "owner_user_id") => text("ann"),
            (_, "title" | "line1" | "line2" | "postal_code" | "city" | "region" | "name" | "description") => {
                text("Acme")
            }
            (_, "tax_id" | "purchase_order_number") => text("NL123"),
            (_, "country_code") => text("NL"),
            (_, "start_time" | "record_time" | "sign_in_time") => Some(seconds(field, 1_767_600_000, 0)),
            (_, "end_time") => Some(seconds(field, 1_767_603_600, 0)),
            (_, "session_length" | "length") => Some(seconds(field, 3600, 0)),
            (_, "roles") => texts(&["member"]),
            (_, "own_role") => text("admin"),
            (_, "slug") => Some(Value::String(format!("slug-{}", fresh_uuid()))),
            (_, "display_name" | "search") => text("Acme "),
            (_, "logo_uri" | "avatar_uri") => text("https://example.com/a.png"),
            (_, "order_by") => text("display_name desc"),
            (_, "page_size" | "seats" | "participants" | "size_bytes" | "maximum_participants" | "retention_days") => {
                Some(whole(field, 10))
            }
            (_, "states" | "permissions" | "allowed_sign_in_methods" | "dismissed_steps") => {
                Some(Value::List(vec![Value::EnumNumber(1)]))
            }
            (_, "ttl") => Some(seconds(field, 2 * 86_400, 0)),
            (_, "duration") => Some(seconds(field, 0, 1_000)),
            _ => match field.kind() {
                Kind::Bool => Some(Value::Bool(true)),
                Kind::Message(inner) if field.is_list() => Some(Value::List(vec![Value::Message(self.sound(&inner))])),
                Kind::Message(inner) => Some(Value::Message(self.sound(&inner))),
                other => panic!("say what a sound {}.{} is: {other:?}", message.name(), field.name()),
            },
        }
    }

    /// A request that is as it should be but for one value, wherever it stands.
    fn spoilt(&self, message: &MessageDescriptor, path: &[FieldDescriptor], value: &Value) -> DynamicMessage {
        let mut request = self.sound(message);
        if let [field, rest @ ..] = path {
            let value = match field.kind() {
                Kind::Message(inner) if !rest.is_empty() => Value::Message(self.spoilt(&inner, rest, value)),
                _ => value.clone(),
            };
            let value = if field.is_list() && !rest.is_empty() { Value::List(vec![value]) } else { value };
            request.set_field(field, value);
        }
        request
    }
}

/// A room with a live session and a recording, a role of its own, in the organization of this owner.
async fn furnished(owner: &Person, service: &Person) -> pb::Workspace {
    let organization_id = owner.organization_id.clone();
    let room = owner.tries_to_make(pb::WorkspaceKind::Room, "Room").await.expect("a room");
    let begun = Some(prost_types::Timestamp { seconds: 1_767_600_000, nanos: 0 });
    let session = pb::RecordSessionStartRequest {
        organization_id: organization_id.clone(),
        session_id: "session".into(),
        workspace_id: room.workspace_id.clone(),
        host_user_id: "ann".into(),
        start_time: begun,
        ..Default::default()
    };
    answer(service.monitoring().record_session_start(session).await).expect("a session");
    let recording = pb::RegisterRecordingRequest {
        organization_id: organization_id.clone(),
        recording_id: "recording".into(),
        workspace_id: room.workspace_id.clone(),
        session_id: "session".into(),
        owner_user_id: "ann".into(),
        record_time: begun,
        ..Default::default()
    };
    answer(service.monitoring().register_recording(recording).await).expect("a recording");
    let role = pb::Role {
        role: "org:helper".into(),
        title: "Helper".into(),
        permissions: vec![pb::Permission::OrganizationRead.into()],
        ..Default::default()
    };
    let role = pb::CreateRoleRequest { organization_id, role: Some(role), ..Default::default() };
    answer(owner.members().create_role(role).await).expect("a role");
    room
}

/// Somebody has asked to join by a verified domain.
async fn asked_to_join(world: &World, owner: &Person, joiner: &Person) -> String {
    let organization_id = owner.organization_id.clone();
    let domain = String::from("joiner.example");
    let claim = pb::ClaimDomainRequest {
        organization_id: organization_id.clone(),
        domain: domain.clone(),
        ..Default::default()
    };
    answer(owner.organizations().claim_domain(claim).await).expect("claimed");
    // Whether it is theirs is another test's question.
    world.tampers("UPDATE organization_domain SET verified_at = created_at").await;
    let request = pb::UpdateDomainRequest {
        organization_id: organization_id.clone(),
        ..updating(&domain, &["join_mode"], pb::JoinMode::Request, "")
    };
    answer(owner.organizations().update_domain(request).await).expect("open");
    let request = pb::JoinOrganizationRequest { organization_id, ..Default::default() };
    let asked = answer(joiner.members().join_organization(request).await).expect("asked");
    match asked.outcome {
        Some(pb::join_organization_response::Outcome::JoinRequest(asked)) => asked.join_request_id,
        other => panic!("{other:?}"),
    }
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(pb::DESCRIPTOR_SET).expect("a sound descriptor set")
}

/// Every RPC of ours.
fn methods() -> Vec<MethodDescriptor> {
    let pool = pool();
    let own = pool.services().filter(|service| service.full_name().starts_with("tenantry."));
    own.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

fn fresh_uuid() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("00000000-0000-4000-8000-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn whole(field: &FieldDescriptor, number: i64) -> Value {
    match field.kind() {
        Kind::Int64 => Value::I64(number),
        _ => Value::I32(i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })),
    }
}

/// A Timestamp or Duration.
fn seconds(field: &FieldDescriptor, seconds: i64, nanos: i32) -> Value {
    let kind = field.kind();
    let mut time = DynamicMessage::new(kind.as_message().expect("a time").clone());
    time.set_field_by_name("seconds", Value::I64(seconds));
    time.set_field_by_name("nanos", Value::I32(nanos));
    Value::Message(time)
}

fn is_time(message: &MessageDescriptor) -> bool {
    matches!(message.full_name(), "google.protobuf.Timestamp" | "google.protobuf.Duration")
}

/// Every field that a request has, also within its messages.
fn places(message: &MessageDescriptor) -> Vec<Vec<FieldDescriptor>> {
    let mut places = Vec::new();
    for field in message.fields() {
        if let Kind::Message(inner) = field.kind()
            && !is_time(&inner)
        {
            let within = places_within(&field, &inner);
            places.extend(within);
        }
        places.push(vec![field]);
    }
    places
}

fn places_within(field: &FieldDescriptor, inner: &MessageDescriptor) -> Vec<Vec<FieldDescriptor>> {
    let deeper = places(inner).into_iter();
    deeper.map(|place| std::iter::once(field.clone()).chain(place).collect()).collect()
}

fn dotted(place: &[FieldDescriptor]) -> String {
    place.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
}

/// Text that no field takes, whatever it is for.
fn unkeepable() -> Vec<String> {
    let controls = ["\0", "a\0b", "a\u{1b}[31mb", "a\u{85}b"].map(str::to_owned);
    controls.into_iter().chain([2_001, 70_000].map(|length| "x".repeat(length))).collect()
}

/// Text that turns the direction of what follows, or that nobody sees. The ids of users are the identity provider's own.
const DISGUISED: [&str; 4] = ["gpj.exe\u{202e}", "\u{2066}a", "a\u{200b}b", "\u{feff}a"];

/// Text that may be taken here and there, but is a text like others wherever it is.
fn strange(other: &Other) -> Vec<String> {
    let texts = [
        "",
        " ",
        "\n",
        "'; DROP TABLE organization; --",
        "$1",
        "%_\\",
        "null",
        "*",
        "v1",
        "not-a-uuid",
        "00000000-0000-0000-0000-000000000000",
        "{00000000-0000-4000-8000-000000000001}",
        "a@b.c,d@e.f",
        "👩‍👩‍👧‍👦🦀",
        "Z\u{335}\u{321}\u{336}a\u{334}",
        "https://exa mple.com/",
        "javascript:alert(1)",
        "OWNER",
        "join_time desc desc",
        "AAAA",
    ];
    // One letter that Unicode takes apart into 18: what is stored for searching and sorting is far longer.
    let longest = ["ﷺ".repeat(100), "ﷺ".repeat(200)];
    let foreign = [&other.organization, &other.owner, &other.invitation].map(Clone::clone);
    texts.map(str::to_owned).into_iter().chain(longest).chain(foreign).collect()
}

/// Values that no sound request has in this field.
fn spoilers(stage: &Stage, field: &FieldDescriptor) -> Vec<Value> {
    let one = match field.kind() {
        Kind::String => {
            let disguised = DISGUISED.map(str::to_owned);
            unkeepable().into_iter().chain(disguised).chain(strange(&stage.other)).map(Value::String).collect()
        }
        Kind::Int32 | Kind::Int64 => {
            [0, -1, 1, 1_000_000, i64::from(i32::MIN), i64::from(i32::MAX), i64::MIN, i64::MAX]
                .map(|number| whole(field, number))
                .to_vec()
        }
        Kind::Enum(_) => [0, 99, -1, i32::MIN, i32::MAX].map(Value::EnumNumber).to_vec(),
        Kind::Bool => vec![Value::Bool(true)],
        Kind::Message(inner) if is_time(&inner) => TIMES.map(|(whole, nanos)| seconds(field, whole, nanos)).to_vec(),
        Kind::Message(inner) => vec![Value::Message(DynamicMessage::new(inner))],
        other => panic!("say what spoils {}: {other:?}", field.full_name()),
    };
    if !field.is_list() {
        return one;
    }
    let of = |item: &Value, count: usize| Value::List(vec![item.clone(); count]);
    let numbered = |count: usize| (0..count).map(|index| Value::String(format!("x{index}@example.com"))).collect();
    let mut lists: Vec<Value> = one.iter().map(|item| of(item, 1)).collect();
    lists.push(Value::List(Vec::new()));
    if let Some(item) = one.first() {
        lists.extend([500, 501, 10_000].map(|count| of(item, count)));
    }
    match field.kind() {
        Kind::String => {
            lists.extend([500, 501, 10_000].map(|count| Value::List(numbered(count))));
            lists.push(Value::List(one.iter().cycle().take(500).cloned().collect()));
        }
        Kind::Message(inner) => {
            let sound = Value::Message(stage.sound(&inner));
            lists.extend([500, 501, 10_000].map(|count| of(&sound, count)));
        }
        _ => {}
    }
    // Beyond a mebibyte the transport refuses, which is another test.
    lists.retain(|list| value_size(list) < 900_000);
    lists
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 4,
        Value::List(items) => items.iter().map(value_size).sum(),
        Value::Message(message) => message.encoded_len() + 4,
        _ => 8,
    }
}

const TIMES: [(i64, i32); 14] = [
    (i64::MIN, 0),
    (i64::MAX, 0),
    (i64::MIN, i32::MIN),
    (i64::MAX, i32::MAX),
    (0, 0),
    (0, -1),
    (-1, 0),
    (0, i32::MIN),
    (0, i32::MAX),
    (86_400, 1_000_000_000),
    // 1767599999 is the last second of a minute, where a second of 1.5 seconds could pass for a leap second.
    (1_767_599_999, 1_500_000_000),
    (253_402_300_799, 999_999_999),
    (253_402_300_800, 0),
    (-62_135_596_800, 0),
];

/// The promise that holds for every answer, whatever was asked.
fn decent(method: &MethodDescriptor, answered: &Answered) -> Result<Option<Refused>, String> {
    let Err(status) = &answered.outcome else { return Ok(None) };
    let defects =
        [Code::Internal, Code::Unknown, Code::DataLoss, Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
    if defects.contains(&status.code()) {
        return Err(format!("{:?}: {}", status.code(), status.message()));
    }
    if answered.header_bytes > MOST_HEADER_BYTES {
        return Err(format!("{} bytes of headers", answered.header_bytes));
    }
    let refusal = refused(status);
    if refusal.code == Code::InvalidArgument && refusal.fields.is_empty() {
        return Err(format!("INVALID_ARGUMENT without a field: {status:?}"));
    }
    let whole = |field: &str| field.is_empty() && refusal.message.starts_with("the request cannot be read");
    match refusal.fields.iter().find(|field| !whole(field) && !leads_somewhere(&method.input(), field)) {
        Some(field) => Err(format!("there is no field {field:?}")),
        None => Ok(Some(refusal)),
    }
}

/// Whether a dotted path leads to a field: `updates[3].role`.
fn leads_somewhere(message: &MessageDescriptor, path: &str) -> bool {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let (name, index) = step.split_once('[').map_or((step, None), |(name, index)| (name, Some(index)));
    let Some(field) = message.get_field_by_name(name) else {
        // Of a oneof that cannot be read, prost does not say which of its fields it was.
        let within = |field: FieldDescriptor| match (field.kind(), rest) {
            (_, None) => true,
            (Kind::Message(inner), Some(rest)) => leads_somewhere(&inner, rest),
            _ => false,
        };
        return message.oneofs().any(|oneof| oneof.name() == name && oneof.fields().any(within));
    };
    let indexed = index.is_none_or(|index| {
        field.is_list() && index.strip_suffix(']').is_some_and(|index| index.parse::<usize>().is_ok())
    });
    let kind = field.kind();
    indexed && rest.is_none_or(|rest| kind.as_message().is_some_and(|inner| leads_somewhere(inner, rest)))
}

/// Whether a value can be right in no field, or not in this one.
fn must_be_refused(place: &[FieldDescriptor], value: &Value) -> bool {
    let Value::String(text) = value else { return false };
    let Some(field) = place.last() else { return false };
    // The ids of users, sessions and recordings are their makers' own.
    let own = ["user_id", "host_user_id", "owner_user_id", "actor_user_id", "session_id", "recording_id"];
    let disguised = DISGUISED.contains(&text.as_str()) && !own.contains(&field.name());
    // What only the server says of a resource is not looked at in a request that carries the whole of it.
    let resources =
        ["Organization", "OrganizationSettings", "Workspace", "BillingProfile", "Domain", "WebhookEndpoint"];
    let told = ["organization_id", "workspace_id", "etag", "proof_record_name", "proof_record_value", "last_failure"];
    let of_services =
        |field: &FieldDescriptor| field.name() == "tax_treatment" && field.parent_message().name() == "BillingProfile";
    let ignored = resources.contains(&field.parent_message().name()) && told.contains(&field.name())
        || place.iter().any(of_services);
    (disguised || unkeepable().contains(text)) && !ignored
}

fn shortened(value: &Value) -> String {
    let text = format!("{value:?}");
    text.chars().take(120).collect()
}

/// Spoils every field of every request, one at a time.
async fn spoil_everything(stage: &Stage, methods: &[MethodDescriptor]) {
    let mut faults = Vec::new();
    for method in methods {
        let input = method.input();
        for place in places(&input) {
            let Some(field) = place.last() else { continue };
            for value in spoilers(stage, field) {
                let what = format!("{}.{} = {}", method.name(), dotted(&place), shortened(&value));
                let request = stage.spoilt(&input, &place, &value);
                let answered = stage.call(method, &request.encode_to_vec()).await;
                match decent(method, &answered) {
                    Err(fault) => faults.push(format!("{what}: {fault}")),
                    Ok(None) if must_be_refused(&place, &value) => faults.push(format!("{what}: was taken")),
                    Ok(_) => {}
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

database_tests! {
    async fn a_sound_request_is_sound_and_every_field_can_be_spoilt(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let methods = methods();
        for method in &methods {
            let answered = stage.call(method, &stage.sound(&method.input()).encode_to_vec()).await;
            match (method.name(), answered.outcome) {
                ("UndeleteOrganization", Err(status)) => {
                    assert_eq!(refused(&status).reason, "ORGANIZATION_NOT_DELETED");
                }
                ("DeleteOrganization", Err(status)) => {
                    assert_eq!(refused(&status).reason, "ORGANIZATION_HAS_BLOCKERS");
                }
                ("AddPaymentMethod", Err(status)) => {
                    assert_eq!(refused(&status).reason, "PAYMENT_METHODS_NOT_OFFERED");
                }
                (name, outcome) => assert!(outcome.is_ok(), "{name}: {outcome:?}"),
            }
        }
        spoil_everything(&stage, &methods).await;
        // What was taken can be read again by whoever could read before.
        for method in &methods {
            let reads = method.name().starts_with("List") || method.name().starts_with("Get");
            let answered = stage.call(method, &stage.sound(&method.input()).encode_to_vec()).await;
            assert!(!reads || answered.outcome.is_ok(), "{}: {:?}", method.name(), answered.outcome);
        }
        stage.world.end().await;
    }
}

/// A field of this wire type and number.
fn key(number: u8, wire_type: u8) -> u8 {
    number << 3 | wire_type
}

database_tests! {
    async fn a_body_that_cannot_be_read_is_the_clients_fault(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let refused_with = async |method: &str, body: &[u8]| {
            let answered = raw::send(&stage.world.channel(), method, &stage.owner.identity, body).await;
            let refusal = refused(&answered.outcome.expect_err("an unreadable body is refused"));
            assert_eq!(refusal.is(), (Code::InvalidArgument, "INVALID_FIELDS"), "{}", refusal.message);
            refusal.fields
        };
        let create = "/tenantry.v1.OrganizationService/CreateOrganization";
        let not_utf8 = [key(1, 2), 2, 0xff, 0xfe];
        assert_eq!(refused_with(create, &not_utf8).await, ["name"]);
        let within = [&[key(5, 2), 4, key(1, 2), 2], &not_utf8[2..]].concat();
        assert_eq!(refused_with(create, &within).await, ["profile.display_name"]);
        let cut_off = [key(1, 2), 200, b'a'];
        assert_eq!(refused_with(create, &cut_off).await, ["name"]);
        let number_for_text = [key(1, 0), 7];
        assert_eq!(refused_with(create, &number_for_text).await, ["name"]);
        let endless_number = [&[key(7, 0)], [0xff; 11].as_slice()].concat();
        assert_eq!(refused_with(create, &endless_number).await, ["validate_only"]);
        for nonsense in [b"{\"name\": \"Acme\"}".as_slice(), &[0], &[key(15, 7)], &[key(15, 4)], &[0xff; 40]] {
            assert_eq!(refused_with(create, nonsense).await, [""], "{nonsense:?}");
        }
        // Groups within groups, deeper than anybody may go.
        let deep = [vec![key(15, 3); 10_000], vec![key(15, 4); 10_000]].concat();
        assert_eq!(refused_with(create, &deep).await, [""]);
        assert_eq!(stage.world.number("SELECT count(*) FROM organization").await, 2);
        stage.world.end().await;
    }

    async fn a_body_that_is_no_message_is_the_clients_fault_too(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let sound = stage.sound(&methods()[0].input()).encode_to_vec();
        let whole = raw::framed(&sound);
        let of_flag = |flag: u8| [&[flag], &whole[1..]].concat();
        for method in methods() {
            let path = path(&method);
            let send = async |headers: &[(&str, &str)], body: Vec<u8>| {
                let identity = stage.caller(&method);
                let answered = raw::send_body(&stage.world.channel(), &path, identity, headers, body).await;
                let refusal = refused(&answered.outcome.expect_err("a body without a message is refused"));
                (refusal.code, refusal.reason)
            };
            let unreadable = (Code::InvalidArgument, "INVALID_FIELDS".to_owned());
            assert_eq!(send(&[], Vec::new()).await, unreadable, "{path}: no message");
            assert_eq!(send(&[], vec![0, 0, 0]).await, unreadable, "{path}: half a frame's head");
            assert_eq!(send(&[], whole[..whole.len() - 1].to_vec()).await, unreadable, "{path}: a frame cut off");
            assert_eq!(send(&[], of_flag(1)).await, unreadable, "{path}: compressed in no way that is said");
            assert_eq!(send(&[], of_flag(7)).await, unreadable, "{path}: a flag that does not exist");
            let compressed = (Code::Unimplemented, "COMPRESSION_UNKNOWN".to_owned());
            assert_eq!(send(&[("grpc-encoding", "gzip")], of_flag(1)).await, compressed, "{path}: gzip");
        }
        stage.world.end().await;
    }

    async fn a_request_of_a_mebibyte_is_read_and_a_larger_one_is_refused_as_grpc_has_it(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let channel = stage.world.channel();
        let sized = |size: usize| {
            let head = pb::CreateOrganizationRequest { name: "x".repeat(size), ..Default::default() }.encoded_len();
            let name = "x".repeat(size - (head - size));
            let request = pb::CreateOrganizationRequest { name, ..Default::default() }.encode_to_vec();
            assert_eq!(request.len(), size);
            request
        };
        let create = "/tenantry.v1.OrganizationService/CreateOrganization";
        let largest = 1024 * 1024;
        let read = raw::send(&channel, create, &stage.owner.identity, &sized(largest)).await;
        assert_eq!(refused(&read.outcome.unwrap_err()).fields, ["name"]);
        for size in [largest + 1, 8 * largest] {
            let answered = raw::send(&channel, create, &stage.owner.identity, &sized(size)).await;
            let refusal = refused(&answered.outcome.unwrap_err());
            assert_eq!(refusal.is(), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
            assert_eq!(refusal.metadata["maximum"], largest.to_string());
        }
        // A frame that says that it is of 4 GiB is refused by what it says.
        let lie = vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        for method in methods() {
            let identity = stage.caller(&method);
            let answered = raw::send_body(&channel, &path(&method), identity, &[], lie.clone()).await;
            assert_eq!(refused(&answered.outcome.unwrap_err()).reason, "MESSAGE_TOO_LARGE", "{}", path(&method));
        }
        stage.world.end().await;
    }

    async fn who_may_not_call_hears_that_before_what_is_wrong_with_the_body(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let member = stage.owner.brings("mia", "member").await;
        let update = "/tenantry.v1.OrganizationService/UpdateOrganization";
        let unreadable = [key(1, 2), 2, 0xff, 0xfe];
        let said = async |identity: &Identity| {
            let answered = raw::send(&stage.world.channel(), update, identity, &unreadable).await;
            refused(&answered.outcome.unwrap_err()).reason
        };
        assert_eq!(said(&Identity::default()).await, "IDENTITY_MISSING");
        assert_eq!(said(&member.identity).await, "ROLE_LACKS_PERMISSION");
        assert_eq!(said(&stage.owner.identity).await, "INVALID_FIELDS");
        stage.world.end().await;
    }

    async fn no_random_bytes_bring_down_any_rpc(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let methods = methods();
        let bodies = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80).prop_map(Body::Random),
            proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6).prop_map(Body::Bent),
            any::<proptest::sample::Index>().prop_map(Body::Cut),
        ];
        let config = Config { cases: 24 * u32::try_from(methods.len()).unwrap(), failure_persistence: None, ..Config::default() };
        let calls = (0..methods.len(), bodies);
        let runtime = tokio::runtime::Handle::current();
        let outcome = tokio::task::block_in_place(|| {
            TestRunner::new(config).run(&calls, |(index, body)| {
                let method = &methods[index];
                let body = body.of(&stage.sound(&method.input()).encode_to_vec());
                let answered = runtime.block_on(stage.call(method, &body));
                let told = |fault| TestCaseError::fail(format!("{}: {fault}", method.name()));
                decent(method, &answered).map(|_| ()).map_err(told)
            })
        });
        outcome.unwrap_or_else(|fault| panic!("{fault}"));
        stage.world.end().await;
    }
}

/// A body that is not what it should be.
#[derive(Clone, Debug)]
enum Body {
    /// Bytes.
    Random(Vec<u8>),
    /// A sound request with some bytes changed.
    Bent(Vec<(proptest::sample::Index, u8)>),
    /// A sound request, cut off.
    Cut(proptest::sample::Index),
}

impl Body {
    fn of(self, sound: &[u8]) -> Vec<u8> {
        let mut body = sound.to_vec();
        match self {
            Self::Random(bytes) => body = bytes,
            Self::Bent(bends) if !body.is_empty() => {
                for (index, byte) in bends {
                    let index = index.index(body.len());
                    body[index] = byte;
                }
            }
            Self::Cut(index) if !body.is_empty() => body.truncate(index.index(body.len())),
            Self::Bent(_) | Self::Cut(_) => {}
        }
        body
    }
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|_| fresh_uuid()).collect()
}

database_tests! {
    async fn an_id_of_another_organization_opens_nothing(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let other = &stage.other;
        let before = stage.world.events(&other.organization).await;
        let mut tried = BTreeSet::new();
        for method in methods() {
            let input = method.input();
            for place in places(&input) {
                let Some(field) = place.last() else { continue };
                // What only the server says of a resource is not looked at in a request that carries the whole of it.
                let told = ["Organization", "OrganizationSettings", "Workspace", "BillingProfile", "Domain", "WebhookEndpoint"];
                // A service may set what is of any organization, and recount any.
                let of_any = ["SetTaxTreatment", "ReportUsage", "CheckInvariants", "ListMails"];
                if of_any.contains(&method.name()) {
                    continue;
                }
                let told = told.contains(&field.parent_message().name());
                let foreign = match field.name() {
                    "organization_id" if !told => &other.organization,
                    "workspace_id" | "workspace_ids" | "add_workspace_ids" if !told => &other.workspace,
                    "user_id" | "user_ids" => &other.owner,
                    "invitation_id" | "invitation_ids" => &other.invitation,
                    _ => continue,
                };
                let value = Value::String(foreign.clone());
                let value = if field.is_list() { Value::List(vec![value]) } else { value };
                let request = stage.spoilt(&input, &place, &value);
                let answered = stage.call(&method, &request.encode_to_vec()).await;
                let what = format!("{}.{}", method.name(), dotted(&place));
                if what == "ListWorkspaces.user_id" {
                    let listed = pb::ListWorkspacesResponse::decode(answered.outcome.unwrap()).unwrap();
                    assert!(listed.workspaces.is_empty(), "{what}");
                } else if what == "ListMembers.workspace_id" {
                    let listed = pb::ListMembersResponse::decode(answered.outcome.unwrap()).unwrap();
                    assert!(listed.members.is_empty(), "{what}");
                } else if what == "ListSessions.workspace_id" {
                    let listed = pb::ListSessionsResponse::decode(answered.outcome.unwrap()).unwrap();
                    assert!(listed.sessions.is_empty(), "{what}");
                } else if what == "ListRecordings.workspace_id" {
                    let listed = pb::ListRecordingsResponse::decode(answered.outcome.unwrap()).unwrap();
                    assert!(listed.recordings.is_empty(), "{what}");
                } else if what == "CheckPermissions.user_id" {
                    let checked = pb::CheckPermissionsResponse::decode(answered.outcome.unwrap()).unwrap();
                    assert!(checked.role.is_empty() && checked.checks.iter().all(|check| !check.allowed));
                } else {
                    let refusal = refused(&answered.outcome.expect_err(&what));
                    let as_if_it_were_not = match (method.name(), field.name()) {
                        ("AcceptInvitation" | "DeclineInvitation", _) => "INVITATION_NOT_FOUND",
                        // A service may enter any organization, and finds there what is there.
                        // What is known under this id is of another room.
                        ("RecordSessionStart" | "RegisterRecording", "workspace_id") => "INVALID_FIELDS",
                        ("RecordSessionEnd", _) => "SESSION_NOT_FOUND",
                        ("RecordPayment" | "VoidInvoice" | "MarkInvoiceUncollectible" | "CreateCreditNote", _) => {
                            "INVOICE_NOT_FOUND"
                        }
                        ("RetryMail", _) => "MAIL_NOT_FOUND",
                        ("JoinOrganization", _) => "JOINING_NOT_OPEN",
                        ("WithdrawJoinRequest", _) => "JOIN_REQUEST_NOT_FOUND",
                        ("RecordSessionStart" | "RegisterRecording", _)
                        | (_, "workspace_id" | "workspace_ids" | "add_workspace_ids") => "WORKSPACE_NOT_FOUND",
                        ("RecordSignIn", _) | (_, "user_id" | "user_ids") => "MEMBER_NOT_FOUND",
                        (_, "invitation_id" | "invitation_ids") => "INVITATION_NOT_FOUND",
                        _ => "ORGANIZATION_MISMATCH",
                    };
                    assert_eq!(refusal.reason, as_if_it_were_not, "{what}");
                }
                tried.insert(what);
            }
        }
        assert!(tried.len() >= 42, "{tried:?}");
        assert_eq!(stage.world.events(&other.organization).await, before);
        stage.world.end().await;
    }

    async fn every_fault_of_a_large_batch_fits_into_the_headers_that_clients_take(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let organization_id = stage.owner.organization_id.clone();
        let update = |user_id: String| pb::MemberRoleUpdate { user_id, role: "admin".into(), ..Default::default() };
        let long = |index: usize| format!("{index:03}{}", "x".repeat(125));
        let calls = [
            ("CancelInvitations", pb::CancelInvitationsRequest { organization_id: organization_id.clone(), invitation_ids: ids(500), ..Default::default() }.encode_to_vec()),
            ("BatchRemoveMembers", pb::BatchRemoveMembersRequest { organization_id: organization_id.clone(), user_ids: (0..500).map(long).collect(), ..Default::default() }.encode_to_vec()),
            ("BatchUpdateMemberRoles", pb::BatchUpdateMemberRolesRequest { organization_id: organization_id.clone(), updates: (0..500).map(long).map(update).collect(), ..Default::default() }.encode_to_vec()),
        ];
        for (name, request) in calls {
            let path = format!("/tenantry.v1.MembershipService/{name}");
            let answered = raw::send(&stage.world.channel(), &path, &stage.owner.identity, &request).await;
            let refusal = refused(&answered.outcome.unwrap_err());
            assert_eq!(refusal.code, Code::NotFound);
            assert!(refusal.message.starts_with("500 items of "), "{}", refusal.message);
            assert!(refusal.violations.len() > 20, "{name} names {} faults", refusal.violations.len());
            assert!(answered.header_bytes <= MOST_HEADER_BYTES, "{name}: {} bytes of headers", answered.header_bytes);
        }
        stage.world.end().await;
    }
}

/// A page token as the service would write it, of a list of the test's choice: it is no secret how.
fn forged(list: &str, position: &str) -> String {
    use base64::Engine as _;
    let bound = [list.len().to_be_bytes().as_slice(), list.as_bytes(), position.as_bytes()].concat();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bound);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([&digest.as_ref()[..16], position.as_bytes()].concat())
}

/// The page of some members that comes with a token.
async fn members_page(owner: &Person, order_by: &str, page_token: &str) -> Result<pb::ListMembersResponse, Refused> {
    let request = pb::ListMembersRequest {
        organization_id: owner.organization_id.clone(),
        page_size: 1,
        page_token: page_token.into(),
        order_by: order_by.into(),
        ..Default::default()
    };
    answer(owner.members().list_members(request).await)
}

database_tests! {
    async fn a_page_is_of_any_size_that_is_not_negative_and_never_too_long(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        for method in methods().iter().filter(|method| method.input().get_field_by_name("page_size").is_some()) {
            let mut request = stage.sound(&method.input());
            for (size, taken) in [(0, true), (1, true), (1_000_000, true), (i32::MAX, true), (-1, false), (i32::MIN, false)] {
                request.set_field_by_name("page_size", Value::I32(size));
                let answered = stage.call(method, &request.encode_to_vec()).await;
                let refusal = decent(method, &answered).unwrap();
                assert_eq!(refusal.map(|refusal| refusal.fields), (!taken).then(|| vec!["page_size".to_owned()]), "{size}");
            }
        }
        let everybody: Vec<String> = (0..210).map(|index| format!("m{index:03}@example.com")).collect();
        let emails: Vec<&str> = everybody.iter().map(String::as_str).collect();
        stage.owner.invites(&emails, "member").await;
        let page = async |page_size: i32| {
            let request = pb::ListInvitationsRequest { organization_id: stage.owner.organization_id.clone(), page_size, ..Default::default() };
            stage.owner.members().list_invitations(request).await.unwrap().into_inner().invitations.len()
        };
        assert_eq!((page(0).await, page(1).await, page(1_000_000).await), (50, 1, 200));
        stage.world.end().await;
    }

    async fn a_page_token_is_of_its_own_list_or_refused(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let owner = &stage.owner;
        let token = members_page(owner, "email", "").await.unwrap().next_page_token;
        assert!(members_page(owner, "email", &token).await.is_ok());
        let half = &token[..token.len() / 2];
        let bent = format!("{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
        for wrong in [half, &bent, &format!("{token}A"), "AAAA", "💥", "\0", &"A".repeat(70_000)] {
            let refusal = members_page(owner, "email", wrong).await.unwrap_err();
            assert_eq!(refusal.is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
            assert_eq!(refusal.fields, ["page_token"]);
        }
        // The token of this list in another order, of another list, and of another organization's list.
        assert_eq!(members_page(owner, "email desc", &token).await.unwrap_err().reason, "PAGE_TOKEN_INVALID");
        let mut lists = vec![];
        for method in methods().iter().filter(|method| method.input().get_field_by_name("page_token").is_some()) {
            let mut request = stage.sound(&method.input());
            request.set_field_by_name("page_token", Value::String(token.clone()));
            let answered = stage.call(method, &request.encode_to_vec()).await;
            assert_eq!(refused(&answered.outcome.unwrap_err()).reason, "PAGE_TOKEN_INVALID", "{}", method.name());
            lists.push(method.name().to_owned());
        }
        assert!(lists.len() >= 9, "{lists:?}");
        stage.world.end().await;
    }

    async fn a_forged_page_token_is_a_place_in_the_list_or_refused(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let owner = &stage.owner;
        let organization_id = &owner.organization_id;
        let listing = |order_by: &str| format!(
            "ListMembers {organization_id} Listing {{ order_by: {order_by}, descending: false, search: \"\", roles: [], \
             active: true, suspended: true, workspace_id: None }} false"
        );
        let by_email = |position: &str| forged(&listing("Email"), position);
        let by_join = |position: &str| forged(&listing("JoinTime"), position);
        let sound = by_email(r#"{"key":{"Text":""},"expected":false,"id":"a"}"#);
        assert_eq!(members_page(owner, "email", &sound).await.unwrap().members.len(), 1, "the forgery is none");
        for (order_by, token) in [
            ("email", by_email(r#"{"key":{"Text":"a\u0000"},"expected":false,"id":"a"}"#)),
            ("email", by_email(r#"{"key":{"Text":"a"},"expected":false,"id":"a\u0000"}"#)),
            ("email", by_email(r#"{"key":{"Time":"2026-01-01T00:00:00Z"},"expected":false,"id":"a"}"#)),
            ("email", by_email(r#"{"key":{"Text":"a"},"expected":true,"id":"a"}"#)),
            ("join_time", by_join(r#"{"key":{"Text":"a"},"expected":false,"id":"a"}"#)),
            ("join_time", by_join(r#"{"key":{"Time":"-200000-01-01T00:00:00Z"},"expected":false,"id":"a"}"#)),
            ("join_time", by_join(r#"{"key":{"Time":"+262142-01-01T00:00:00Z"},"expected":false,"id":"a"}"#)),
        ] {
            if let Err(refusal) = members_page(owner, order_by, &token).await {
                assert_eq!(refusal.is(), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
            }
        }
        let ancient = forged("ListOrganizations false ann", r#"["-200000-01-01T00:00:00Z","00000000-0000-0000-0000-000000000000"]"#);
        let request = pb::ListOrganizationsRequest { page_token: ancient, ..Default::default() };
        if let Err(refusal) = answer(owner.organizations().list_organizations(request).await) {
            assert_eq!(refusal.reason, "PAGE_TOKEN_INVALID");
        }
        let ancient = forged("ListReceivedInvitations ann@example.com", r#"["-200000-01-01T00:00:00Z","00000000-0000-0000-0000-000000000000"]"#);
        let request = pb::ListReceivedInvitationsRequest { page_token: ancient, ..Default::default() };
        if let Err(refusal) = answer(owner.members().list_received_invitations(request).await) {
            assert_eq!(refusal.reason, "PAGE_TOKEN_INVALID");
        }
        stage.world.end().await;
    }

    async fn text_is_as_long_as_the_contract_says_in_any_script(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let owner = &stage.owner;
        let create = async |request: pb::CreateOrganizationRequest| {
            let request = pb::CreateOrganizationRequest { validate_only: true, ..request };
            answer(owner.organizations().create_organization(request).await).map_err(|refusal| refusal.fields).err()
        };
        let named = |name: String| pb::CreateOrganizationRequest { name, ..Default::default() };
        for letter in ["a", "é", "한", "🦀"] {
            let of = |count: usize| letter.repeat(count);
            let described = |description| pb::CreateOrganizationRequest { description, ..named("Acme".into()) };
            let profiled = |display_name| pb::CreateOrganizationRequest {
                profile: Some(pb::UserProfile { display_name, ..Default::default() }),
                ..named("Acme".into())
            };
            assert_eq!(create(named(of(100))).await, None);
            assert_eq!(create(named(of(101))).await, Some(vec!["name".to_owned()]));
            assert_eq!(create(described(of(1_000))).await, None);
            assert_eq!(create(described(of(1_001))).await, Some(vec!["description".to_owned()]));
            assert_eq!(create(profiled(of(200))).await, None);
            assert_eq!(create(profiled(of(201))).await, Some(vec!["profile.display_name".to_owned()]));
        }
        let slugged = |slug: &str| pb::CreateOrganizationRequest { slug: slug.into(), ..named("Acme".into()) };
        for (slug, taken) in [("abc", true), (&"a".repeat(63), true), ("a--b", true), ("ab", false), (&"a".repeat(64), false),
            ("-ab", false), ("ab-", false), ("Abc", false), ("a b", false), ("äbc", false), ("a.b", false), ("a_b", false)] {
            assert_eq!(create(slugged(slug)).await.is_none(), taken, "{slug}");
        }
        let with_logo = |logo_uri: &str| pb::CreateOrganizationRequest { logo_uri: logo_uri.into(), ..named("Acme".into()) };
        let of_length = |length: usize| format!("https://example.com/{}", "a".repeat(length - 20));
        for (uri, taken) in [
            (of_length(2_000).as_str(), true), (&of_length(2_001), false), ("https://example.com", true), ("HTTPS://example.com", false),
            ("http://example.com/a.png", false), ("https://", false), ("https:///a.png", false), ("//example.com/a.png", false),
            ("data:image/png;base64,AAAA", false), ("https://example.com/a b", false), ("https://example.com/\u{202e}gnp.a", false),
            ("https://example.com/\u{200b}", false), ("https://exämple.com/", false),
        ] {
            let outcome = create(with_logo(uri)).await;
            assert_eq!(outcome, (!taken).then(|| vec!["logo_uri".to_owned()]), "{uri}");
        }
        stage.world.end().await;
    }

    async fn a_time_that_protobuf_does_not_have_is_refused(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let sign_in = async |seconds: i64, nanos: i32| {
            let request = pb::RecordSignInRequest {
                organization_id: stage.owner.organization_id.clone(),
                user_id: "bob".into(),
                sign_in_time: Some(prost_types::Timestamp { seconds, nanos }),
                ..Default::default()
            };
            answer(stage.service.members().record_sign_in(request).await).map_err(|refusal| refusal.fields).err()
        };
        assert_eq!(sign_in(1_767_599_999, 999_999_999).await, None);
        for (seconds, nanos) in TIMES.into_iter().filter(|time| *time != (0, 0)) {
            assert_eq!(sign_in(seconds, nanos).await, Some(vec!["sign_in_time".to_owned()]), "{seconds} s and {nanos} ns");
        }
        stage.world.end().await;
    }

    async fn a_state_counts_wherever_it_stands_in_the_filter(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let (active, pending) = (pb::MemberState::Active.into(), pb::MemberState::Pending.into());
        let states = [vec![active; 150], vec![pending]].concat();
        let request = pb::ListMembersRequest { organization_id: stage.owner.organization_id.clone(), states, ..Default::default() };
        let listed = answer(stage.owner.members().list_members(request.clone()).await).unwrap().members;
        assert!(listed.iter().any(|member| member.state == pending), "the last of many states is not looked at");
        let mut request = request;
        request.states.push(99);
        assert_eq!(answer(stage.owner.members().list_members(request).await).unwrap_err().fields, ["states[151]"]);
        let (sent, ended) = (pb::InvitationState::Pending.into(), pb::InvitationState::Canceled.into());
        let states = [vec![ended; 150], vec![sent]].concat();
        let request = pb::ListInvitationsRequest { organization_id: stage.owner.organization_id.clone(), states, ..Default::default() };
        assert_eq!(answer(stage.owner.members().list_invitations(request).await).unwrap().invitations.len(), 1);
        stage.world.end().await;
    }

    async fn everything_that_is_wrong_is_said_at_once(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let owner = &stage.owner;
        let organization_id = owner.organization_id.clone();
        let wrong = |fields: Result<(), Refused>| {
            let refusal = fields.unwrap_err();
            assert_eq!(refusal.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
            refusal.fields
        };
        let profile = || Some(pb::UserProfile { display_name: "a\0".into(), avatar_uri: "ftp://a".into() });
        let request = pb::CreateOrganizationRequest {
            name: " ".into(), slug: "-".into(), description: "\0".into(), logo_uri: "x".into(), profile: profile(),
            request_id: "1".into(), validate_only: false, time_zone: "Europe/Atlantis".into(),
        };
        let said = wrong(answer(owner.organizations().create_organization(request).await).map(|_| ()));
        assert_eq!(said, ["name", "slug", "description", "logo_uri", "time_zone", "profile.display_name", "profile.avatar_uri", "request_id"]);

        let request = pb::UpdateOrganizationRequest {
            organization_id: organization_id.clone(),
            organization: Some(pb::Organization { slug: "A".into(), logo_uri: "x".into(), ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: ["name", "slug", "logo_uri", "etag"].map(str::to_owned).to_vec() }),
            request_id: "1".into(),
            ..Default::default()
        };
        let said = wrong(answer(owner.organizations().update_organization(request).await).map(|_| ()));
        assert_eq!(said, ["organization.name", "organization.slug", "organization.logo_uri", "update_mask", "request_id"]);

        let request = pb::InviteMembersRequest {
            organization_id: organization_id.clone(),
            emails: ["a", "fine@example.com", "b@"].map(str::to_owned).to_vec(),
            role: "king".into(),
            ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            request_id: "1".into(),
            ..Default::default()
        };
        let said = wrong(answer(owner.members().invite_members(request).await).map(|_| ()));
        assert_eq!(said, ["emails[0]", "emails[2]", "role", "ttl", "request_id"]);

        let update = |user_id: &str, role: &str| pb::MemberRoleUpdate { user_id: user_id.into(), role: role.into(), ..Default::default() };
        let request = pb::BatchUpdateMemberRolesRequest {
            organization_id: organization_id.clone(),
            updates: vec![update("", "king"), update("bob", "admin"), update("bob", "member")],
            ..Default::default()
        };
        let said = wrong(answer(owner.members().batch_update_member_roles(request).await).map(|_| ()));
        assert_eq!(said, ["updates[0].user_id", "updates[0].role", "updates[2].user_id"]);

        let request = pb::AcceptInvitationRequest { profile: profile(), request_id: "1".into(), ..Default::default() };
        let said = wrong(answer(stage.invitee.members().accept_invitation(request).await).map(|_| ()));
        assert_eq!(said, ["invitation", "profile.display_name", "profile.avatar_uri", "request_id"]);

        let request = pb::RecordSignInRequest {
            organization_id: "acme".into(), email: "a".into(), profile: profile(), request_id: "1".into(),
            sign_in_time: Some(prost_types::Timestamp { seconds: -1, nanos: 0 }), ..Default::default()
        };
        let said = wrong(answer(stage.service.members().record_sign_in(request).await).map(|_| ()));
        assert_eq!(said, ["organization_id", "user_id", "sign_in_time", "email", "profile.display_name", "profile.avatar_uri", "request_id"]);

        let request = pb::GetMemberRequest { organization_id: "acme".into(), user_id: String::new() };
        let said = wrong(answer(stage.service.members().get_member(request).await).map(|_| ()));
        assert_eq!(said, ["organization_id", "user_id"]);

        let request = pb::ListMembersRequest {
            organization_id, page_size: -1, order_by: "age".into(), search: "x".repeat(101), roles: vec!["k".repeat(41)],
            states: vec![0, 1, 9], ..Default::default()
        };
        let said = wrong(answer(owner.members().list_members(request).await).map(|_| ()));
        assert_eq!(said, ["order_by", "search", "roles[0]", "states[0]", "states[2]", "page_size"]);
        stage.world.end().await;
    }

    async fn who_may_not_is_told_first_then_what_is_wrong_then_what_is_not_there(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        let organization_id = stage.owner.organization_id.clone();
        let change = async |person: &Person, user_id: &str, role: &str| {
            let request = pb::UpdateMemberRoleRequest {
                organization_id: organization_id.clone(), user_id: user_id.into(), role: role.into(), ..Default::default()
            };
            answer(person.members().update_member_role(request).await).unwrap_err().reason
        };
        assert_eq!(change(&stage.owner, "nobody", "king").await, "INVALID_FIELDS");
        assert_eq!(change(&stage.owner, "nobody", "admin").await, "MEMBER_NOT_FOUND");
        let bob = stage.world.person("bob");
        assert_eq!(change(&bob.acting_in(&organization_id, "member"), "nobody", "king").await, "ROLE_LACKS_PERMISSION");
        // The role that came with the call opens the gate, and the stored one is asked before the fields are judged.
        assert_eq!(change(&bob.acting_in(&organization_id, "owner"), "nobody", "king").await, "ROLE_STALE");
        let stranger = stage.world.person("zed").acting_in(&organization_id, "owner");
        assert_eq!(change(&stranger, "nobody", "king").await, "NOT_A_MEMBER");
        let elsewhere = stage.world.person("zed").acting_in(&stage.other.organization, "owner");
        assert_eq!(change(&elsewhere, "", "").await, "ORGANIZATION_MISMATCH");
        let everybody = pb::ListMembersRequest { organization_id: organization_id.clone(), page_size: -1, ..Default::default() };
        let refusal = answer(stranger.members().list_members(everybody).await).unwrap_err();
        assert_eq!(refusal.reason, "NOT_A_MEMBER");
        // One without an e-mail address may found and accept nothing, whatever else is wrong.
        let mut nameless = stage.world.person("nemo");
        nameless.identity.0.retain(|(key, _)| *key != "x-user-email");
        let refusal = answer(nameless.organizations().create_organization(pb::CreateOrganizationRequest::default()).await);
        assert_eq!(refusal.unwrap_err().is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        let refusal = answer(nameless.members().accept_invitation(pb::AcceptInvitationRequest::default()).await);
        assert_eq!(refusal.unwrap_err().is(), (Code::PermissionDenied, "EMAIL_REQUIRED"));
        stage.world.end().await;
    }
}

database_tests! {
    async fn a_batch_of_more_than_the_maximum_is_refused_whole(backend: Backend) {
        let stage = Box::pin(Stage::new(backend)).await;
        for (rpc, field, maximum) in [
            ("InviteMembers", "emails", 500),
            ("CancelInvitations", "invitation_ids", 500),
            ("BatchRemoveMembers", "user_ids", 500),
            ("BatchUpdateMemberRoles", "updates", 500),
            ("CheckPermissions", "permissions", 100),
        ] {
            let method = methods().into_iter().find(|method| method.name() == rpc).expect(rpc);
            let mut request = stage.sound(&method.input());
            let items = request.get_field_by_name(field).expect(field).as_list().expect("a list").to_vec();
            // The same item again: as many as are taken count once.
            request.set_field_by_name(field, Value::List(items.iter().cycle().take(maximum).cloned().collect()));
            let answered = stage.call(&method, &request.encode_to_vec()).await;
            assert!(answered.outcome.is_ok(), "{rpc}: {:?}", answered.outcome);
            request.set_field_by_name(field, Value::List(items.iter().cycle().take(maximum + 1).cloned().collect()));
            let answered = stage.call(&method, &request.encode_to_vec()).await;
            let refusal = refused(&answered.outcome.expect_err(rpc));
            assert_eq!(refusal.is(), (Code::InvalidArgument, "BATCH_TOO_LARGE"));
            assert_eq!(refusal.fields, [field]);
            let told = ["field", "size", "maximum"].map(|key| refusal.metadata[key].as_str());
            assert_eq!(told, [field, &(maximum + 1).to_string(), &maximum.to_string()]);
        }
        stage.world.end().await;
    }
}
