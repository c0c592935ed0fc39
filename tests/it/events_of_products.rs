//! What the log says of workspaces, roles, settings, domains, joining, sessions and recordings.

use std::collections::BTreeSet;

use serde_json::json;
use tenantry::pb::{self, WorkspaceKind};

use crate::events::{Log, Told, big_world, in_call, told};
use crate::harness::domains::updating;
use crate::harness::person::{Person, answer};
use crate::harness::product::masked;
use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

/// The RPCs whose events are told here.
pub(crate) const TOLD: &[&str] = &[
    "CreateWorkspace",
    "UpdateWorkspace",
    "DeleteWorkspace",
    "SetMemberWorkspaces",
    "CreateRole",
    "UpdateRole",
    "DeleteRole",
    "UpdateOrganizationSettings",
    "UpdateBillingProfile",
    "ClaimDomain",
    "VerifyDomain",
    "UpdateDomain",
    "ReleaseDomain",
    "JoinOrganization",
    "WithdrawJoinRequest",
    "ApproveJoinRequest",
    "DeclineJoinRequest",
    "RecordSessionStart",
    "RecordSessionEnd",
    "EndSession",
    "RegisterRecording",
    "DeleteRecording",
    "CreateWebhookEndpoint",
    "UpdateWebhookEndpoint",
    "RotateWebhookSecret",
    "DeleteWebhookEndpoint",
];

/// The log of one organization, and which RPCs it was told of.
struct Telling<'a> {
    log: Log<'a>,
    told: BTreeSet<&'static str>,
}

impl Telling<'_> {
    /// After a user's call of this name, which has it as its id, the log has exactly this more.
    async fn wrote(&mut self, user: &str, rpc: &'static str, expected: &[Told]) {
        assert_eq!(self.log.next(Some(user), None, rpc).await, expected, "{rpc}");
        self.told.insert(rpc);
    }

    /// The same of a service's call.
    async fn reported(&mut self, rpc: &'static str, expected: &[Told]) {
        assert_eq!(self.log.next(None, Some("meetings"), rpc).await, expected, "{rpc}");
        self.told.insert(rpc);
    }
}

/// Somebody with an address of the verified domain.
fn of_domain(world: &World, name: &str) -> Person {
    world.person(name).with_email(&format!("{name}@acme.example"))
}

async fn asks(person: &Person, organization_id: &str) -> String {
    let request = pb::JoinOrganizationRequest { organization_id: organization_id.into(), ..Default::default() };
    let asked = answer(in_call(person, "JoinOrganization").members().join_organization(request).await).expect("asked");
    match asked.outcome {
        Some(pb::join_organization_response::Outcome::JoinRequest(request)) => request.join_request_id,
        other => panic!("{other:?}"),
    }
}

fn change(field: &str, before: &str, after: &str) -> serde_json::Value {
    json!({"changes": [{"field": field, "before": before, "after": after}]})
}

fn with(mut payload: serde_json::Value, key: &str, value: &str) -> serde_json::Value {
    payload[key] = json!(value);
    payload
}

database_tests! {
    async fn workspaces_roles_and_settings_write_what_happened(backend: Backend) {
        let world = big_world(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let acme = ann.organization_id.clone();
        let mut telling = Telling { log: Log::of(&world, &acme), told: BTreeSet::new() };
        telling.log.read = world.events(&acme).await.len();
        let calling = |rpc: &str| in_call(&ann, rpc);

        let space = calling("CreateWorkspace").tries_to_make(WorkspaceKind::Workspace, "Sales").await.expect("made");
        let id = space.workspace_id.clone();
        let whole = json!({"workspace_id": id, "kind": "workspace", "name": "Sales"});
        telling.wrote("ann", "CreateWorkspace", &[told("workspace.created", whole)]).await;
        let request = pb::UpdateWorkspaceRequest {
            organization_id: acme.clone(),
            workspace_id: id.clone(),
            workspace: Some(pb::Workspace { name: "Trade".into(), ..Default::default() }),
            update_mask: Some(masked(&["name"])),
            ..Default::default()
        };
        answer(calling("UpdateWorkspace").workspaces().update_workspace(request).await).expect("renamed");
        let renamed = with(change("name", "Sales", "Trade"), "workspace_id", &id);
        telling.wrote("ann", "UpdateWorkspace", &[told("workspace.updated", renamed)]).await;
        calling("SetMemberWorkspaces").tries_to_put_in(&bob.name, &[&space]).await.expect("assigned");
        let assigned = json!({"user_id": "bob", "added": [id], "removed": []});
        telling.wrote("ann", "SetMemberWorkspaces", &[told("member.workspaces_changed", assigned)]).await;
        let request =
            pb::DeleteWorkspaceRequest { organization_id: acme.clone(), workspace_id: id.clone(), ..Default::default() };
        answer(calling("DeleteWorkspace").workspaces().delete_workspace(request).await).expect("deleted");
        let gone = json!({"workspace_id": id, "kind": "workspace", "name": "Trade", "unassigned_members": 1});
        telling.wrote("ann", "DeleteWorkspace", &[told("workspace.deleted", gone)]).await;

        let role = pb::Role {
            role: "org:helper".into(),
            title: "Helper".into(),
            permissions: vec![pb::Permission::OrganizationRead.into()],
            ..Default::default()
        };
        let request =
            pb::CreateRoleRequest { organization_id: acme.clone(), role: Some(role.clone()), ..Default::default() };
        answer(calling("CreateRole").members().create_role(request).await).expect("defined");
        let defined = json!({"role": "org:helper", "permissions": ["organization_read"]});
        telling.wrote("ann", "CreateRole", &[told("role.created", defined)]).await;
        let request = pb::UpdateRoleRequest {
            organization_id: acme.clone(),
            role: Some(pb::Role { title: "Aide".into(), ..role }),
            update_mask: Some(masked(&["title"])),
            ..Default::default()
        };
        answer(calling("UpdateRole").members().update_role(request).await).expect("changed");
        let changed = with(change("title", "Helper", "Aide"), "role", "org:helper");
        telling.wrote("ann", "UpdateRole", &[told("role.updated", changed)]).await;
        let request =
            pb::DeleteRoleRequest { organization_id: acme.clone(), role: "org:helper".into(), ..Default::default() };
        answer(calling("DeleteRole").members().delete_role(request).await).expect("deleted");
        let gone = json!({"role": "org:helper", "replacement": null, "members": 0, "invitations": 0});
        telling.wrote("ann", "DeleteRole", &[told("role.deleted", gone)]).await;

        let security = pb::SecuritySettings { mfa_required: true, ..Default::default() };
        let settings = pb::OrganizationSettings { security: Some(security), ..Default::default() };
        calling("UpdateOrganizationSettings").tries_to_set(&["security.mfa_required"], settings).await.expect("set");
        let changed = change("security.mfa_required", "false", "true");
        telling.wrote("ann", "UpdateOrganizationSettings", &[told("settings.updated", changed)]).await;
        let request = pb::UpdateBillingProfileRequest {
            organization_id: acme.clone(),
            billing_profile: Some(pb::BillingProfile { name: "Ann Lee".into(), ..Default::default() }),
            update_mask: Some(masked(&["name"])),
            ..Default::default()
        };
        answer(calling("UpdateBillingProfile").billing().update_billing_profile(request).await).expect("changed");
        // Who pays may be a person: what the profile says is not in the log.
        let changed = json!({"fields": ["name"]});
        telling.wrote("ann", "UpdateBillingProfile", &[told("billing_profile.updated", changed)]).await;
        let here = ["Workspace", "Workspaces", "Role", "Settings", "Profile"];
        assert!(TOLD.iter().filter(|rpc| here.iter().any(|end| rpc.ends_with(end))).all(|rpc| telling.told.contains(rpc)));
        world.end().await;
    }

    #[expect(clippy::too_many_lines, reason = "one story, in which every RPC that changes something has its place")]
    async fn domains_joining_sessions_and_recordings_write_what_happened(backend: Backend) {
        let world = big_world(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let acme = ann.organization_id.clone();
        let mut telling = Telling { log: Log::of(&world, &acme), told: BTreeSet::new() };
        telling.log.read = world.events(&acme).await.len();
        let calling = |rpc: &str| in_call(&ann, rpc);
        let domain = String::from("acme.example");
        let named = json!({"domain": "acme.example"});

        let request =
            pb::ClaimDomainRequest { organization_id: acme.clone(), domain: domain.clone(), ..Default::default() };
        let claimed = answer(calling("ClaimDomain").organizations().claim_domain(request).await).expect("claimed");
        telling.wrote("ann", "ClaimDomain", &[told("domain.claimed", named.clone())]).await;
        let claimed = claimed.domain.expect("a domain");
        world.sets_txt(&claimed.proof_record_name, &claimed.proof_record_value);
        let request =
            pb::VerifyDomainRequest { organization_id: acme.clone(), domain: domain.clone(), ..Default::default() };
        answer(calling("VerifyDomain").organizations().verify_domain(request).await).expect("verified");
        telling.wrote("ann", "VerifyDomain", &[told("domain.verified", named.clone())]).await;
        let request = pb::UpdateDomainRequest {
            organization_id: acme.clone(),
            ..updating(&domain, &["join_mode"], pb::JoinMode::Request, "")
        };
        answer(calling("UpdateDomain").organizations().update_domain(request).await).expect("opened");
        let opened = with(change("join_mode", "nobody", "request"), "domain", "acme.example");
        telling.wrote("ann", "UpdateDomain", &[told("domain.updated", opened)]).await;

        let dan = of_domain(&world, "dan");
        let first = asks(&dan, &acme).await;
        let asked = |id: &str, user: &str| json!({"join_request_id": id, "user_id": user, "role": "member"});
        let of = |id: &str, user: &str| json!({"join_request_id": id, "user_id": user});
        telling.wrote("dan", "JoinOrganization", &[told("join_request.created", asked(&first, "dan"))]).await;
        let request = pb::WithdrawJoinRequestRequest { organization_id: acme.clone(), ..Default::default() };
        answer(in_call(&dan, "WithdrawJoinRequest").members().withdraw_join_request(request).await).expect("withdrawn");
        telling.wrote("dan", "WithdrawJoinRequest", &[told("join_request.withdrawn", of(&first, "dan"))]).await;
        let again = asks(&dan, &acme).await;
        telling.wrote("dan", "JoinOrganization", &[told("join_request.created", asked(&again, "dan"))]).await;
        let request = pb::ApproveJoinRequestRequest {
            organization_id: acme.clone(),
            join_request_id: again.clone(),
            ..Default::default()
        };
        answer(calling("ApproveJoinRequest").members().approve_join_request(request).await).expect("approved");
        let joined = json!({
            "user_id": "dan", "role": "member", "invitation_id": null, "domain": "acme.example", "workspace_ids": []
        });
        telling.wrote("ann", "ApproveJoinRequest", &[
            told("join_request.approved", of(&again, "dan")),
            told("member.joined", joined),
        ]).await;
        let eve = of_domain(&world, "eve");
        let eves = asks(&eve, &acme).await;
        telling.wrote("eve", "JoinOrganization", &[told("join_request.created", asked(&eves, "eve"))]).await;
        let request = pb::DeclineJoinRequestRequest {
            organization_id: acme.clone(),
            join_request_id: eves.clone(),
            ..Default::default()
        };
        answer(calling("DeclineJoinRequest").members().decline_join_request(request).await).expect("declined");
        telling.wrote("ann", "DeclineJoinRequest", &[told("join_request.declined", of(&eves, "eve"))]).await;
        let request =
            pb::ReleaseDomainRequest { organization_id: acme.clone(), domain: domain.clone(), ..Default::default() };
        answer(calling("ReleaseDomain").organizations().release_domain(request).await).expect("released");
        telling.wrote("ann", "ReleaseDomain", &[told("domain.released", named)]).await;

        let room = calling("CreateWorkspace").tries_to_make(WorkspaceKind::Room, "Board").await.expect("a room");
        telling.log.read += 1;
        let backend = world.service("meetings");
        let meetings = |rpc: &str| in_call(&backend, rpc).monitoring();
        let request = pb::RecordSessionStartRequest {
            organization_id: acme.clone(),
            session_id: "s-1".into(),
            workspace_id: room.workspace_id.clone(),
            host_user_id: "ann".into(),
            ..Default::default()
        };
        answer(meetings("RecordSessionStart").record_session_start(request).await).expect("begun");
        let session = json!({"session_id": "s-1", "workspace_id": room.workspace_id});
        let begun = with(session.clone(), "host_user_id", "ann");
        telling.reported("RecordSessionStart", &[told("session.started", begun)]).await;
        let request =
            pb::EndSessionRequest { organization_id: acme.clone(), session_id: "s-1".into(), ..Default::default() };
        answer(calling("EndSession").monitoring().end_session(request).await).expect("asked to end");
        telling.wrote("ann", "EndSession", &[told("session.end_requested", session.clone())]).await;
        world.pass(chrono::TimeDelta::minutes(2));
        let request =
            pb::RecordSessionEndRequest { organization_id: acme.clone(), session_id: "s-1".into(), ..Default::default() };
        answer(meetings("RecordSessionEnd").record_session_end(request).await).expect("over");
        let mut over = session;
        over["length_seconds"] = json!(120);
        telling.reported("RecordSessionEnd", &[told("session.ended", over)]).await;
        let request = pb::RegisterRecordingRequest {
            organization_id: acme.clone(),
            recording_id: "r-1".into(),
            owner_user_id: "ann".into(),
            size_bytes: 700,
            ..Default::default()
        };
        answer(meetings("RegisterRecording").register_recording(request).await).expect("registered");
        let kept = json!({"recording_id": "r-1", "owner_user_id": "ann", "size_bytes": 700, "size_bytes_before": 0});
        telling.reported("RegisterRecording", &[told("recording.registered", kept)]).await;
        let request =
            pb::DeleteRecordingRequest { organization_id: acme.clone(), recording_id: "r-1".into(), ..Default::default() };
        answer(calling("DeleteRecording").monitoring().delete_recording(request).await).expect("deleted");
        let gone = json!({"recording_id": "r-1", "owner_user_id": "ann", "size_bytes": 700});
        telling.wrote("ann", "DeleteRecording", &[told("recording.deleted", gone)]).await;
        let here = ["Domain", "JoinOrganization", "JoinRequest", "Session", "SessionStart", "SessionEnd", "Recording"];
        assert!(TOLD.iter().filter(|rpc| here.iter().any(|end| rpc.ends_with(end))).all(|rpc| telling.told.contains(rpc)));
        world.end().await;
    }

    async fn what_is_done_to_webhook_endpoints_is_told_without_their_secrets(backend: Backend) {
        let world = big_world(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let calling = |rpc: &str| in_call(&ann, rpc);
        let mut telling = Telling { log: Log::of(&world, &ann.organization_id), told: BTreeSet::new() };
        telling.log.read = world.events(&ann.organization_id).await.len();
        let url = "https://hooks.example.com/secret?key=1";
        let made = calling("CreateWebhookEndpoint").has_told(url, &["member.*"]).await;
        let id = json!({"endpoint_id": made.endpoint.endpoint_id});
        let mut created = with(id.clone(), "host", "hooks.example.com");
        created["types"] = json!(["member.*"]);
        telling.wrote("ann", "CreateWebhookEndpoint", &[told("webhook_endpoint.created", created)]).await;
        let endpoint = pb::WebhookEndpoint {
            url: "https://new.example.com/secret".into(),
            types: vec!["member.left".into(), "role.*".into()],
            disabled: true,
            ..made.endpoint.clone()
        };
        let paths = ["url", "types", "disabled"];
        calling("UpdateWebhookEndpoint").changes_endpoint(&paths, endpoint).await.expect("changed");
        let mut updated = id.clone();
        updated["changes"] = json!([
            {"field": "url", "before": "hooks.example.com", "after": "new.example.com"},
            {"field": "types", "before": "member.*", "after": "member.left role.*"},
            {"field": "disabled", "before": "false", "after": "true"},
        ]);
        telling.wrote("ann", "UpdateWebhookEndpoint", &[told("webhook_endpoint.updated", updated)]).await;
        calling("RotateWebhookSecret").rotates(made.id(), true).await.expect("rotated");
        let mut rotated = id.clone();
        rotated["at_once"] = json!(true);
        telling.wrote("ann", "RotateWebhookSecret", &[told("webhook_endpoint.secret_rotated", rotated)]).await;
        calling("DeleteWebhookEndpoint").drops_endpoint(made.id()).await.expect("deleted");
        let deleted = with(id, "host", "new.example.com");
        telling.wrote("ann", "DeleteWebhookEndpoint", &[told("webhook_endpoint.deleted", deleted)]).await;
        assert!(TOLD.iter().filter(|rpc| rpc.contains("Webhook")).all(|rpc| telling.told.contains(rpc)));
        world.end().await;
    }
}
