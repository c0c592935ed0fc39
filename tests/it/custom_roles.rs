//! Roles that organizations define for themselves: what they give, who may define them, and that nobody rises by them.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use prost::Message as _;
use sea_orm::ConnectionTrait as _;
use tempfile::TempDir;
use tenantry::auth::permission;
use tenantry::pb::{self, DenialReason, Permission as P};
use tonic::Code;

use crate::harness::methods::{Method, methods};
use crate::harness::person::{Person, answer};
use crate::harness::race::{at_once, spread};
use crate::harness::raw;
use crate::harness::refused::{Refused, refused};
use crate::harness::replay::replay;
use crate::harness::tenant::id_of;
use crate::harness::world::{Setup, World, roomy};
use crate::harness::{Backend, database_tests};

const FIELDS: (Code, &str) = (Code::InvalidArgument, "INVALID_FIELDS");
const ABOVE: (Code, &str) = (Code::PermissionDenied, "ROLE_ABOVE_CALLER");
const LACKS: (Code, &str) = (Code::PermissionDenied, "ROLE_LACKS_PERMISSION");
const STALE: (Code, &str) = (Code::PermissionDenied, "ROLE_STALE");
const UNKNOWN: (Code, &str) = (Code::PermissionDenied, "ROLE_UNKNOWN");
const MISSING: (Code, &str) = (Code::NotFound, "ROLE_NOT_FOUND");
const EXISTS: (Code, &str) = (Code::AlreadyExists, "ROLE_EXISTS");
const IN_USE: (Code, &str) = (Code::FailedPrecondition, "ROLE_IN_USE");
const DISABLED: (Code, &str) = (Code::FailedPrecondition, "CUSTOM_ROLES_DISABLED");
const LIMIT: (Code, &str) = (Code::FailedPrecondition, "LIMIT_REACHED");
const NOT_GRANTABLE: (Code, &str) = (Code::FailedPrecondition, "INVITATION_ROLE_NOT_GRANTABLE");
const ETAG: (Code, &str) = (Code::Aborted, "ETAG_MISMATCH");

const LISTS: [&str; 5] = ["permissions", "invites", "changes", "removes", "managed_by"];

fn under(policy: &str) -> Setup {
    Setup { policy: policy.into(), ..roomy() }
}

/// A role as a request says it.
fn role(name: &str, permissions: &[P]) -> pb::Role {
    pb::Role {
        role: name.into(),
        title: "A role".into(),
        permissions: permissions.iter().map(|permission| i32::from(*permission)).collect(),
        ..Default::default()
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// A role with what it lists: invites, changes, removes, managed by.
fn listing(name: &str, permissions: &[P], lists: [&[&str]; 4]) -> pb::Role {
    let [invites, changes, removes, managed_by] = lists.map(texts);
    pb::Role { invites, changes, removes, managed_by, ..role(name, permissions) }
}

impl Person {
    async fn tries_to_define(&self, role: pb::Role) -> Result<pb::Role, Refused> {
        let request = pb::CreateRoleRequest {
            organization_id: self.organization_id.clone(),
            role: Some(role),
            ..Default::default()
        };
        answer(self.members().create_role(request).await).map(|answer| answer.role.expect("a role"))
    }

    async fn defines(&self, role: pb::Role) -> pb::Role {
        self.tries_to_define(role).await.expect("defined")
    }

    async fn tries_to_redefine(&self, mask: &[&str], role: pb::Role) -> Result<pb::Role, Refused> {
        let request = pb::UpdateRoleRequest {
            organization_id: self.organization_id.clone(),
            etag: role.etag.clone(),
            role: Some(role),
            update_mask: Some(prost_types::FieldMask { paths: texts(mask) }),
            ..Default::default()
        };
        answer(self.members().update_role(request).await).map(|answer| answer.role.expect("a role"))
    }

    async fn tries_to_drop(&self, role: &str, replacement: &str) -> Result<(i64, i64), Refused> {
        let request = pb::DeleteRoleRequest {
            organization_id: self.organization_id.clone(),
            role: role.into(),
            replacement_role: replacement.into(),
            ..Default::default()
        };
        answer(self.members().delete_role(request).await).map(|answer| (answer.members, answer.invitations))
    }

    async fn roles(&self) -> Vec<pb::Role> {
        let request = pb::ListRolesRequest { organization_id: self.organization_id.clone() };
        answer(self.members().list_roles(request).await).expect("the roles").roles
    }

    async fn role_named(&self, name: &str) -> pb::Role {
        self.roles().await.into_iter().find(|role| role.role == name).expect("the role")
    }

    async fn checks(&self, user_id: &str, asked: &[P]) -> pb::CheckPermissionsResponse {
        let request = pb::CheckPermissionsRequest {
            organization_id: self.organization_id.clone(),
            user_id: user_id.into(),
            permissions: asked.iter().map(|permission| i32::from(*permission)).collect(),
        };
        answer(self.members().check_permissions(request).await).expect("checked")
    }

    /// Whether the list of members is shown.
    async fn lists_members(&self) -> Result<usize, Refused> {
        self.tries_to_list(&pb::ListMembersRequest::default()).await.map(|listed| listed.members.len())
    }
}

/// The policy under which admins, who are guarded, may define roles as well.
fn stewards() -> (TempDir, Setup) {
    let toml = include_str!("../../src/auth/presets/guarded-admin.toml").replace(
        "roles_manage           = { owner = true,  admin = false, member = false }",
        "roles_manage           = { owner = true,  admin = true, member = false }",
    );
    policy_file(&toml)
}

fn policy_file(toml: &str) -> (TempDir, Setup) {
    let directory = TempDir::new().expect("a directory for the policy");
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, toml).expect("the policy can be written");
    let setup = under(&path.display().to_string());
    (directory, setup)
}

/// The last event's name and payload.
async fn last_event(world: &World, organization_id: &str) -> (String, serde_json::Value) {
    use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
    use tenantry::entity::event;
    let database = world.database().await;
    let id = uuid::Uuid::parse_str(organization_id).expect("an organization's id");
    let of = event::Entity::find().filter(event::Column::OrganizationId.eq(id));
    let last = of.order_by_desc(event::Column::Number).one(&database).await.expect("the log").expect("an event");
    database.close().await.expect("a connection can be closed");
    (last.r#type, last.payload)
}

fn expect_fields(refused: Result<pb::Role, Refused>, fields: &[&str]) {
    let refused = refused.expect_err("wrong fields");
    assert_eq!(
        (refused.is(), refused.fields.iter().map(String::as_str).collect::<Vec<_>>()),
        (FIELDS, fields.to_vec())
    );
}

/// The RPCs that need a role.
fn scoped() -> Vec<Method> {
    methods().into_iter().filter(|method| method.requires().is_some_and(|requires| requires.permission != 0)).collect()
}

/// What the caller hears who says as little as can be said; nothing when it is done or only the request is at fault.
async fn denial(method: &Method, caller: &Person) -> Option<Refused> {
    let fields = [
        ("organization_id", prost_reflect::Value::String(caller.organization_id.clone())),
        ("validate_only", prost_reflect::Value::Bool(true)),
        ("user_id", prost_reflect::Value::String(caller.name.clone())),
    ];
    // Of a member's own affairs nothing is to be done to anybody.
    let told = if method.requires().is_some_and(|requires| requires.permission_for_others != 0) { 3 } else { 2 };
    let refusal = refused(&method.call(caller, method.request(&fields[..told])).await.err()?);
    match refusal.code {
        Code::PermissionDenied | Code::Unauthenticated => Some(refusal),
        // Not there before all of this issue is written.
        Code::Unimplemented | Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition => None,
        _ => panic!("{}: {refusal:?}", method.name()),
    }
}

/// The permissions and the four lists of a role that is not sound, and the fields that are told of it.
type Unsound<'a> = (&'a [P], [&'a [&'a str]; 4], &'a [&'a str]);

database_tests! {
    async fn an_owner_defines_a_role_and_it_is_used_as_any_other(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let asked = pb::Role {
            title: " Recruiter ".into(),
            description: "Brings people.".into(),
            ..listing("org:recruiter", &[P::MembersList, P::OrganizationRead, P::OrganizationLeave, P::MembersInvite], [&["member"], &[], &[], &["admin"]])
        };
        let made = ann.defines(asked).await;
        assert_eq!(made, pb::Role {
            role: "org:recruiter".into(),
            title: "Recruiter".into(),
            description: "Brings people.".into(),
            permissions: [P::OrganizationRead, P::OrganizationLeave, P::MembersList, P::MembersInvite].map(i32::from).into(),
            invites: texts(&["member"]),
            managed_by: texts(&["admin"]),
            custom: true,
            etag: "v1".into(),
            ..Default::default()
        });
        let permissions = ["organization_read", "organization_leave", "members_list", "members_invite"];
        assert_eq!(last_event(&world, &ann.organization_id).await, (
            "role.created".to_owned(),
            serde_json::json!({"role": "org:recruiter", "permissions": permissions}),
        ));
        ann.defines(role("org:auditor", &[P::OrganizationRead, P::AuditLogRead])).await;
        let listed = ann.roles().await;
        let names: Vec<(&str, bool)> = listed.iter().map(|role| (role.role.as_str(), role.custom)).collect();
        assert_eq!(names, [("owner", false), ("admin", false), ("member", false), ("org:auditor", true), ("org:recruiter", true)]);
        assert_eq!(listed[4], made);
        assert_eq!(listed[1].invites, ["admin", "member", "org:recruiter"], "who manages it has power over it");
        assert_eq!(listed[0].removes, ["owner", "admin", "member", "org:auditor", "org:recruiter"]);
        assert_eq!((listed[0].etag.as_str(), listed[0].managed_by.len()), ("", 0));

        // Invited to it, by an admin; as a holder they do what it says and no more.
        let ada = ann.brings("ada", "admin").await;
        let bob = ada.brings("bob", "org:recruiter").await;
        assert_eq!(bob.role, "org:recruiter");
        assert_eq!(bob.lists_members().await, Ok(3));
        let cas = bob.brings("cas", "member").await;
        let refused = bob.tries_to_invite(&["dee@example.com"], "admin").await.expect_err("above");
        assert_eq!(refused.is(), ABOVE);
        assert_eq!((refused.metadata["role"].as_str(), refused.metadata["target_role"].as_str()), ("org:recruiter", "admin"));
        assert_eq!(bob.tries_to_invite(&["dee@example.com"], "org:recruiter").await.expect_err("nor to their own").is(), ABOVE);
        let refused = bob.tries_to_remove("cas").await.expect_err("no such permission");
        assert_eq!((refused.is(), refused.metadata["role"].as_str()), (LACKS, "org:recruiter"));
        assert_eq!(cas.lists_members().await.expect_err("a member").is(), LACKS);

        // Changed to it and from it, listed by it, suspended, reactivated, handed the top role, removed.
        let refused = ada.tries_to_change_role("cas", "org:auditor").await.expect_err("admins do not manage that");
        assert_eq!((refused.is(), refused.metadata["target_role"].as_str()), (ABOVE, "org:auditor"));
        ada.tries_to_change_role("cas", "org:recruiter").await.expect("changed");
        let holders = pb::ListMembersRequest { roles: texts(&["org:recruiter"]), order_by: "email".into(), ..Default::default() };
        let holders = ann.tries_to_list(&holders).await.expect("listed").members;
        assert_eq!(holders.iter().map(|member| member.user_id.as_str()).collect::<Vec<_>>(), ["bob", "cas"]);
        ada.tries_to_suspend("cas").await.expect("suspended");
        ada.tries_to_reactivate("cas").await.expect("reactivated");
        ada.tries_to_remove("cas").await.expect("removed");
        let changed = ann.tries_to_change_roles(&[("bob", "org:auditor"), ("ada", "org:recruiter")]).await.expect("changed");
        assert_eq!(changed.iter().map(|member| member.role.as_str()).collect::<Vec<_>>(), ["org:auditor", "org:recruiter"]);
        let handed = ann.tries_to_transfer("bob", "org:recruiter").await.expect("handed on");
        assert_eq!(handed.former_holder.expect("Ann").role, "org:recruiter");
        let bob = bob.acting_in(&ann.organization_id, "owner");
        assert_eq!(bob.member("ann").await.expect("found").role, "org:recruiter");
        // Of those who hold it, the role lets one leave.
        ann.acting_in(&ann.organization_id, "org:recruiter").tries_to_leave().await.expect("left");
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn what_one_may_and_who_could_grant_it_is_told_by_the_organizations_roles(backend: Backend) {
        let world = World::with(backend, under("guarded-admin")).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.defines(listing("org:desk", &[P::OrganizationRead, P::InvoicesRead], [&[], &[], &[], &["admin"]])).await;
        let bob = ann.brings("bob", "org:desk").await;
        let told = bob.checks("", &[P::InvoicesRead, P::AnalyticsRead]).await;
        assert_eq!(told.role, "org:desk");
        assert!(told.checks[0].allowed);
        assert_eq!(told.checks[1].denial_reason(), DenialReason::RoleLacksPermission);
        assert_eq!((told.checks[1].roles.clone(), told.checks[1].grantor_roles.clone()), (texts(&["owner", "admin"]), texts(&["owner"])));
        // A stranger could be invited to it by those who manage it.
        let told = world.service("crm");
        let told = Person { organization_id: ann.organization_id.clone(), ..told }.checks("zed", &[P::InvoicesRead]).await;
        assert_eq!(told.checks[0].roles, ["owner", "admin", "org:desk"]);
        assert_eq!(told.checks[0].grantor_roles, ["owner", "admin"]);
        // A suspended holder is brought back by those who manage them.
        ann.tries_to_suspend("bob").await.expect("suspended");
        let told = ann.checks("bob", &[P::InvoicesRead]).await;
        assert_eq!(told.checks[0].denial_reason(), DenialReason::MemberSuspended);
        assert_eq!(told.checks[0].grantor_roles, ["owner", "admin"]);
        // A service that acts for a user needs to know no role.
        let via = |name: &str| {
            let mut person = world.person(name);
            person.identity.0.extend([("x-service", "crm".to_owned()), ("x-org-id", ann.organization_id.clone())]);
            Person { organization_id: ann.organization_id.clone(), ..person }
        };
        ann.tries_to_reactivate("bob").await.expect("reactivated");
        assert!(via("bob").checks("", &[P::InvoicesRead]).await.checks[0].allowed);
        assert_eq!(via("bob").lists_members().await.expect_err("not in the role").is(), LACKS);
        via("ann").defines(role("org:by_proxy", &[P::OrganizationRead])).await;
        world.end().await;
    }

    async fn a_definition_that_is_not_sound_is_refused_with_all_its_faults(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.defines(role("org:there", &[P::OrganizationRead])).await;
        let events = world.events(&ann.organization_id).await;
        let refused = ann.tries_to_define(pb::Role {
            role: "auditor".into(),
            title: String::new(),
            description: "x".repeat(201),
            permissions: vec![0, 1, 99, 1, P::OwnershipTransfer.into(), P::RolesManage.into(), -1],
            invites: texts(&["king", "owner", "member", "member", "org:Bad"]),
            managed_by: texts(&["owner", "auditor"]),
            ..Default::default()
        });
        expect_fields(refused.await, &[
            "role.role", "role.title", "role.description", "role.permissions[0]", "role.permissions[2]", "role.permissions[3]",
            "role.permissions[4]", "role.permissions[5]", "role.permissions[6]", "role.invites[0]", "role.invites[1]", "role.invites[3]",
            "role.invites[4]", "role.managed_by[1]", "role.managed_by[0]", "role.managed_by[1]",
        ]);
        for name in ["", "org:", "org:A", "org:1", "owner", &format!("org:{}", "a".repeat(37)), "org:a\n"] {
            expect_fields(ann.tries_to_define(role(name, &[])).await, &["role.role"]);
        }
        let many = pb::Role { permissions: vec![1; 101], removes: vec!["org:x".into(); 101], ..role("org:x", &[]) };
        let refused = ann.tries_to_define(many).await.expect_err("too many");
        assert!(refused.fields.contains(&"role.permissions".into()) && refused.fields.contains(&"role.removes".into()));
        let request = pb::CreateRoleRequest { organization_id: ann.organization_id.clone(), ..Default::default() };
        assert_eq!(answer(ann.members().create_role(request).await).expect_err("no role").is(), FIELDS);

        let (read, leave, invite, change, remove) =
            (P::OrganizationRead, P::OrganizationLeave, P::MembersInvite, P::MembersChangeRole, P::MembersRemove);
        let cases: [Unsound<'_>; 9] = [
            (&[read], [&["org:none"], &[], &[], &["org:none"]], &["role.invites[0]", "role.managed_by[0]", "role.invites"]),
            (&[read], [&["member"], &["member", "org:there"], &["member"], &[]], &["role.invites", "role.changes", "role.removes"]),
            (&[read, invite, change, remove], [&[]; 4], &["role.permissions[1]", "role.permissions[2]", "role.permissions[3]"]),
            (&[read, leave, change], [&[], &["member"], &[], &[]], &["role.changes"]),
            // To admin: the way up.
            (&[read, leave, invite], [&["admin"], &[], &[], &[]], &["role.invites[0]"]),
            (&[read, leave, change], [&[], &["member", "admin"], &[], &[]], &["role.changes[1]"]),
            // Members may leave, who is here to invite them may not.
            (&[read, invite], [&["org:there", "member"], &[], &[], &[]], &["role.invites[1]"]),
            // Admins would give what they have not.
            (&[P::InvoicesRead], [&[], &[], &[], &["member", "admin"]], &["role.managed_by[1]"]),
            (&[P::OrganizationDelete], [&[], &[], &[], &["admin"]], &["role.managed_by[0]"]),
        ];
        for (permissions, lists, fields) in cases {
            expect_fields(ann.tries_to_define(listing("org:x", permissions, lists)).await, fields);
        }
        // As strong as an admin, and then it may; also what it grants itself.
        let strong: Vec<P> = permission::all().filter(|permission| ann_admin().contains(permission)).collect();
        let lists: [&[&str]; 4] = [&["admin", "member", "org:deputy"], &["admin", "member"], &["admin", "member"], &[]];
        ann.defines(listing("org:deputy", &strong, lists)).await;
        let refused = ann.tries_to_define(role("org:there", &[read])).await.expect_err("twice");
        assert_eq!((refused.is(), refused.metadata["role"].as_str()), (EXISTS, "org:there"));
        let written = world.events(&ann.organization_id).await;
        assert_eq!(written[events.len()..], ["role.created"]);
        world.end().await;
    }

    async fn what_the_callers_role_has_not_is_refused_and_named(backend: Backend) {
        // Nobody leaves in this policy, so nobody can define that.
        let world = World::with(backend, under("split-admin")).await;
        let ann = world.person("ann").founds("Acme").await;
        let refused = ann.tries_to_define(role("org:x", &[P::OrganizationRead, P::OrganizationLeave])).await.expect_err("beyond");
        assert_eq!(refused.is(), ABOVE);
        let named = ["role", "target_role", "permissions"].map(|key| refused.metadata[key].as_str());
        assert_eq!(named, ["admin", "org:x", "organization_leave"]);
        let uma = ann.brings("uma", "user_admin").await;
        let refused = uma.tries_to_define(role("org:x", &[P::OrganizationRead])).await.expect_err("no roles_manage");
        assert_eq!((refused.is(), refused.metadata["permission"].as_str()), (LACKS, "roles_manage"));
        assert_eq!(uma.tries_to_redefine(&["title"], role("org:x", &[])).await.expect_err("nor change").is(), LACKS);
        assert_eq!(uma.tries_to_drop("org:x", "").await.expect_err("nor delete").is(), LACKS);
        // Who may not hears that before anything is said of the request.
        assert_eq!(uma.tries_to_define(role("?", &[])).await.expect_err("may not").is(), LACKS);
        world.end().await;

        let (_directory, setup) = stewards();
        let world = World::with(backend, setup).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        ann.defines(role("org:theirs", &[P::OrganizationRead])).await;
        let lists: [&[&str]; 4] = [&["admin", "member"], &["member", "org:theirs"], &["org:theirs"], &["admin"]];
        let all = [P::OrganizationRead, P::OrganizationDelete, P::MembersInvite, P::MembersChangeRole, P::MembersRemove];
        let refused = ada.tries_to_define(listing("org:x", &all, lists)).await.expect_err("beyond an admin");
        assert_eq!(refused.is(), ABOVE);
        let named = ["role", "target_role", "permissions", "invites", "changes", "removes"];
        assert_eq!(named.map(|key| refused.metadata[key].as_str()), [
            "admin", "org:x", "organization_delete,members_change_role", "admin", "member,org:theirs", "org:theirs",
        ]);
        world.end().await;
    }

    async fn who_is_below_the_top_role_rises_by_no_definition(backend: Backend) {
        let (_directory, setup) = stewards();
        let world = World::with(backend, setup).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        ann.defines(role("org:finance", &[P::OrganizationRead, P::InvoicesRead])).await;
        ann.defines(listing("org:chief", &[P::OrganizationRead, P::OrganizationDelete], [&[], &[], &[], &[]])).await;
        ann.brings("fin", "org:finance").await;
        let kept = ann.roles().await;
        // Power over roles that others made: not by naming oneself their manager, nor by deleting them.
        let mine = |name: &str| listing(name, &[P::OrganizationRead], [&[], &[], &[], &["admin"]]);
        for theirs in ["org:finance", "org:chief"] {
            for mask in [&["managed_by"][..], &["permissions"], &["title"], &LISTS] {
                let refused = ada.tries_to_redefine(mask, mine(theirs)).await.expect_err("not hers");
                assert_eq!((refused.is(), refused.metadata["target_role"].as_str()), (ABOVE, theirs));
            }
            assert_eq!(ada.tries_to_drop(theirs, "member").await.expect_err("not hers").is(), ABOVE);
        }
        // The policy's own are nobody's to define.
        for preset in ["admin", "owner", "member"] {
            expect_fields(ada.tries_to_redefine(&["permissions"], role(preset, &[])).await, &["role.role"]);
            assert_eq!(ada.tries_to_drop(preset, "").await.expect_err("a preset's").fields, ["role"]);
        }
        // Her own she defines and changes, within what she has.
        ada.defines(mine("org:helper")).await;
        let refused = ada.tries_to_redefine(&["permissions"], role("org:helper", &[P::OrganizationDelete])).await;
        assert_eq!(refused.expect_err("beyond").metadata["permissions"], "organization_delete");
        let reaching = |to: &[&str]| listing("org:helper", &[P::OrganizationRead, P::MembersInvite], [to, &[], &[], &["admin"]]);
        for to in ["admin", "org:finance"] {
            let refused = ada.tries_to_redefine(&LISTS, reaching(&[to])).await.expect_err("beyond her reach");
            assert_eq!((refused.is(), refused.metadata["invites"].as_str()), (ABOVE, to));
        }
        expect_fields(ada.tries_to_redefine(&LISTS, reaching(&["owner"])).await, &["role.invites[0]"]);
        let bob = ada.brings("bob", "org:helper").await;
        // Whoever holds it changes nothing of it: no such role can have that permission.
        expect_fields(ada.tries_to_redefine(&["permissions"], role("org:helper", &[P::RolesManage])).await, &["role.permissions[0]"]);
        assert_eq!(bob.tries_to_redefine(&["title"], mine("org:helper")).await.expect_err("a holder").is(), LACKS);
        assert_eq!(bob.acting_in(&ann.organization_id, "owner").tries_to_drop("org:helper", "").await.expect_err("a holder").is(), STALE);
        // Deleting hers, she moves nobody to where she could not, nor gives another power over what she does not manage.
        assert_eq!(ada.tries_to_drop("org:helper", "admin").await.expect_err("to admin").is(), ABOVE);
        assert_eq!(ada.tries_to_drop("org:helper", "org:finance").await.expect_err("to finance").is(), ABOVE);
        let refused = ada.tries_to_drop("org:helper", "owner").await.expect_err("to owner");
        assert_eq!((refused.is(), refused.fields.clone()), (FIELDS, vec!["replacement_role".to_owned()]));
        // When the owner makes more of it than she has, it is not hers any more.
        ann.tries_to_redefine(&["permissions", "managed_by"], role("org:helper", &[P::OrganizationDelete])).await.expect("grown");
        assert_eq!(ada.tries_to_redefine(&["title"], mine("org:helper")).await.expect_err("not hers").is(), ABOVE);
        let now = ann.roles().await;
        assert_eq!(now.iter().find(|role| role.role == "org:finance"), kept.iter().find(|role| role.role == "org:finance"));
        assert_eq!(ann.member("bob").await.expect("found").role, "org:helper");
        world.end().await;
    }

    async fn a_role_that_grows_lifts_nobody_who_was_to_come_by_a_lower_one(backend: Backend) {
        let world = World::with(backend, under("guarded-admin")).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        ann.defines(listing("org:desk", &[P::OrganizationRead], [&[], &[], &[], &["admin"]])).await;
        let sent = ada.invites(&["bob@example.com"], "org:desk").await;
        let owners = ann.invites(&["cas@example.com"], "org:desk").await;
        // Not while admins manage it.
        let grown = || role("org:desk", &[P::OrganizationRead, P::OrganizationDelete]);
        expect_fields(ann.tries_to_redefine(&["permissions"], grown()).await, &["role.managed_by[0]"]);
        let before = ann.role_named("org:desk").await;
        let after = ann.tries_to_redefine(&["permissions", "managed_by"], grown()).await.expect("grown");
        assert_ne!(after.etag, before.etag);
        assert_eq!(last_event(&world, &ann.organization_id).await, ("role.updated".to_owned(), serde_json::json!({
            "role": "org:desk",
            "changes": [
                {"field": "permissions", "before": "organization_read", "after": "organization_read,organization_delete"},
                {"field": "managed_by", "before": "admin", "after": ""},
            ],
        })));
        let refused = world.person("bob").tries_to_accept(&sent[0].token).await.expect_err("by right of an admin");
        assert_eq!((refused.is(), refused.metadata["role"].as_str()), (NOT_GRANTABLE, "org:desk"));
        assert_eq!(ada.tries_to_resend(id_of(&sent[0])).await.expect_err("nor again").is(), ABOVE);
        assert_eq!(ada.tries_to_cancel(&[id_of(&sent[0])]).await.expect_err("nor taken back").is(), ABOVE);
        world.person("cas").accepts(&owners[0].token).await;
        let again = ann.tries_to_resend(id_of(&sent[0])).await.expect("by an owner");
        let bob = world.person("bob").accepts(&again.token).await;
        // And it is used at once, and lost at once.
        assert!(bob.checks("", &[P::OrganizationDelete]).await.checks[0].allowed);
        ann.tries_to_redefine(&["permissions"], role("org:desk", &[P::OrganizationRead])).await.expect("shrunk");
        assert_eq!(bob.tries_to_delete().await.expect_err("not any more").is(), LACKS);
        world.end().await;
    }

    async fn a_role_is_changed_field_by_field(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let made = ann.defines(role("org:desk", &[P::OrganizationRead, P::SeatsRead])).await;
        let events = world.events(&ann.organization_id).await;
        let new = pb::Role { title: "Desk".into(), permissions: vec![], ..made.clone() };
        let changed = ann.tries_to_redefine(&["title"], new.clone()).await.expect("changed");
        assert_eq!(changed, pb::Role { title: "Desk".into(), etag: "v2".into(), ..made.clone() });
        assert_eq!(ann.role_named("org:desk").await, changed);
        let refused = ann.tries_to_redefine(&["title"], new.clone()).await.expect_err("stale");
        assert_eq!((refused.is(), refused.metadata["etag"].as_str()), (ETAG, "v2"));
        // What is so already is no change, in whatever order it is said.
        let same = pb::Role { permissions: vec![P::SeatsRead.into(), P::OrganizationRead.into()], ..changed.clone() };
        assert_eq!(ann.tries_to_redefine(&["permissions", "title", "description"], same).await, Ok(changed.clone()));
        assert_eq!(world.events(&ann.organization_id).await[events.len()..], ["role.updated"]);
        expect_fields(ann.tries_to_redefine(&[], changed.clone()).await, &["update_mask"]);
        expect_fields(ann.tries_to_redefine(&["title", "custom", "etag"], changed.clone()).await, &["update_mask"]);
        expect_fields(ann.tries_to_redefine(&["title"], pb::Role { title: " ".into(), ..changed }).await, &["role.title"]);
        let refused = ann.tries_to_redefine(&["title"], role("org:none", &[])).await.expect_err("not there");
        assert_eq!((refused.is(), refused.metadata["role"].as_str()), (MISSING, "org:none"));
        assert_eq!(ann.tries_to_drop("org:none", "").await.expect_err("not there").is(), MISSING);
        // Of another organization nothing is there.
        let zed = world.person("zed").founds("Zeta").await;
        assert_eq!(zed.tries_to_redefine(&["title"], role("org:desk", &[])).await.expect_err("not theirs").is(), MISSING);
        assert_eq!(zed.roles().await.len(), 3);
        let refused = zed.tries_to_invite(&["yan@example.com"], "org:desk").await.expect_err("not theirs");
        assert_eq!((refused.is(), refused.fields.clone()), (FIELDS, texts(&["role"])));
        zed.defines(role("org:desk", &[P::AuditLogRead])).await;
        assert_eq!(ann.role_named("org:desk").await.permissions, [P::OrganizationRead, P::SeatsRead].map(i32::from));
        world.end().await;
    }

    async fn a_role_that_is_in_use_is_deleted_only_with_a_replacement(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let acme = ann.organization_id.clone();
        ann.defines(role("org:temp", &[P::OrganizationRead])).await;
        ann.defines(listing("org:lead", &[P::OrganizationRead, P::MembersInvite], [&["org:temp"], &[], &[], &[]])).await;
        ann.defines(role("org:crew", &[P::OrganizationRead])).await;
        let bob = ann.brings("bob", "org:temp").await;
        ann.brings("cas", "org:temp").await;
        let lea = ann.brings("lea", "org:lead").await;
        ann.tries_to_suspend("cas").await.expect("suspended");
        let old = lea.invites(&["old@example.com"], "org:temp").await;
        world.pass(TimeDelta::days(8));
        let new = ann.invites(&["new@example.com", "gone@example.com"], "org:temp").await;
        ann.tries_to_cancel(&[id_of(&new[1])]).await.expect("canceled");
        offers_by_domain(&world, &acme, "org:temp").await;
        let refused = ann.tries_to_drop("org:temp", "").await.expect_err("in use");
        assert_eq!(refused.is(), IN_USE);
        let counts = ["role", "members", "invitations", "domains", "join_requests"].map(|key| refused.metadata[key].as_str());
        assert_eq!(counts, ["org:temp", "2", "2", "1", "1"]);
        for (replacement, fields) in [("org:temp", "replacement_role"), ("owner", "replacement_role"), ("king", "replacement_role"), ("org:none", "replacement_role")] {
            let refused = ann.tries_to_drop("org:temp", replacement).await.expect_err("no replacement");
            assert_eq!((refused.is(), refused.fields.clone()), (FIELDS, texts(&[fields])), "{replacement}");
        }
        let etag = ann.member("bob").await.expect("found").etag;
        let stale = pb::DeleteRoleRequest {
            organization_id: acme.clone(), role: "org:temp".into(), replacement_role: "org:crew".into(), etag: "v9".into(),
            request_id: "0198c1d2-7b7e-7cc3-98c4-dc0c0c073981".into(), validate_only: false,
        };
        assert_eq!(answer(ann.members().delete_role(stale.clone()).await).expect_err("stale").is(), ETAG);
        let events = world.events(&acme).await;
        let rehearsed = pb::DeleteRoleRequest { etag: "v1".into(), validate_only: true, ..stale.clone() };
        let told = answer(ann.members().delete_role(rehearsed).await).expect("could be");
        assert_eq!(world.events(&acme).await, events);
        let request = pb::DeleteRoleRequest { etag: "v1".into(), ..stale };
        let deleted = answer(ann.members().delete_role(request.clone()).await).expect("deleted");
        assert_eq!((deleted.members, deleted.invitations), (2, 2));
        assert_eq!(told, deleted);
        assert_eq!(answer(ann.members().delete_role(request).await), Ok(deleted), "the same request again");
        assert_eq!(world.events(&acme).await[events.len()..], ["domain.updated", "role.updated", "role.deleted"]);
        assert_eq!(last_event(&world, &acme).await.1, serde_json::json!({
            "role": "org:temp", "replacement": "org:crew", "members": 2, "invitations": 2,
        }));
        for (user, role) in [("bob", "org:crew"), ("cas", "org:crew"), ("lea", "org:lead")] {
            assert_eq!(ann.member(user).await.expect("found").role, role);
        }
        assert_ne!(ann.member("bob").await.expect("found").etag, etag, "whoever has read the member hears of it");
        // Who led those led nobody of the crew before, and does not from now on.
        assert!(ann.role_named("org:lead").await.invites.is_empty());
        assert_eq!(lea.tries_to_invite(&["zed@example.com"], "org:crew").await.expect_err("never hers").is(), ABOVE);
        for table in ["organization_domain WHERE join_role", "join_request WHERE role"] {
            assert_eq!(world.number(&format!("SELECT count(*) FROM {table} = 'org:crew'")).await, 1, "{table}");
        }
        assert_eq!(ann.invitation(id_of(&new[1])).await.expect("found").role, "org:temp", "what has ended is history");
        // Bob's identity still claims what is gone; his stored role decides.
        assert_eq!(bob.checks("", &[P::OrganizationRead]).await.role, "org:crew");
        assert_eq!(bob.lists_members().await.expect_err("stale").is(), STALE);
        assert_eq!(world.person("new").accepts(&new[0].token).await.role, "org:crew");
        let again = ann.tries_to_resend(id_of(&old[0])).await.expect("resent");
        assert_eq!(world.person("old").accepts(&again.token).await.role, "org:crew");
        // What one in the role has sent is by right of the role that they have now.
        let kim = ann.defines(listing("org:kim", &[P::OrganizationRead, P::MembersInvite], [&["org:crew"], &[], &[], &[]])).await;
        ann.tries_to_change_role("bob", &kim.role).await.expect("changed");
        let sent = bob.acting_in(&acme, "org:kim").invites(&["x@example.com", "y@example.com"], "org:crew").await;
        assert_eq!(ann.tries_to_drop("org:kim", "admin").await, Ok((1, 0)));
        assert_eq!(ann.invitation(id_of(&sent[0])).await.expect("found").inviter_role, "admin");
        assert_eq!(world.person("x").tries_to_accept(&sent[0].token).await.expect_err("admins do not manage it").is(), NOT_GRANTABLE);
        // Unused, it just goes, and with it the power over it.
        ann.tries_to_cancel(&[id_of(&sent[0]), id_of(&sent[1])]).await.expect("canceled");
        ann.tries_to_remove_all(&["cas", "new", "old"]).await.expect("removed");
        world.execute("DELETE FROM organization_domain").await.expect("behind the scenes");
        world.execute("DELETE FROM join_request").await.expect("behind the scenes");
        assert_eq!(ann.tries_to_drop("org:crew", "").await, Ok((0, 0)));
        assert!(ann.role_named("org:lead").await.invites.is_empty());
        world.end().await;
    }

    async fn what_was_sent_by_right_of_a_role_keeps_it_or_goes_by_its_replacement(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let inviting = |name: &str, to: &[&str]| listing(name, &[P::OrganizationRead, P::MembersInvite], [to, &[], &[], &[]]);
        for name in ["org:crew", "org:desk", "org:rest"] {
            ann.defines(role(name, &[P::OrganizationRead])).await;
        }
        ann.defines(inviting("org:temp", &["org:crew", "org:desk", "org:rest"])).await;
        ann.defines(inviting("org:lead", &["org:crew", "org:desk"])).await;
        let bob = ann.brings("bob", "org:temp").await;
        let crew = bob.invites(&["cas@example.com"], "org:crew").await.remove(0);
        let desk = bob.invites(&["dee@example.com"], "org:desk").await.remove(0);
        let rest = bob.invites(&["eve@example.com"], "org:rest").await.remove(0);
        ann.tries_to_change_role("bob", "member").await.expect("changed");
        // Nobody holds it, but three may still come by its right.
        let refused = ann.tries_to_drop("org:temp", "").await.expect_err("in use");
        assert_eq!((refused.is(), refused.metadata["members"].as_str(), refused.metadata["invitations"].as_str()), (IN_USE, "0", "3"));
        // One of them not any more; the replacement could send it, but nobody in it has.
        ann.tries_to_redefine(&["invites"], inviting("org:temp", &["org:crew", "org:rest"])).await.expect("less");
        assert_eq!(world.person("dee").tries_to_accept(&desk.token).await.expect_err("not any more").is(), NOT_GRANTABLE);
        assert_eq!(ann.tries_to_drop("org:temp", "org:lead").await, Ok((0, 0)));
        assert_eq!(world.person("cas").accepts(&crew.token).await.role, "org:crew");
        assert_eq!(world.person("dee").tries_to_accept(&desk.token).await.expect_err("still not").is(), NOT_GRANTABLE);
        assert_eq!(world.person("eve").tries_to_accept(&rest.token).await.expect_err("not by the replacement").is(), NOT_GRANTABLE);
        let right = |sent: &pb::InvitedMember| sent.invitation.as_ref().expect("an invitation").invitation_id.clone();
        assert_eq!(ann.invitation(&right(&desk)).await.expect("found").inviter_role, "org:temp");
        assert_eq!(ann.invitation(&right(&rest)).await.expect("found").inviter_role, "org:lead");
        // Ann sends it anew, by her own right.
        let again = ann.tries_to_resend(&right(&desk)).await.expect("resent");
        assert_eq!(world.person("dee").accepts(&again.token).await.role, "org:desk");
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn members_and_invitations_are_shown_only_to_roles_that_list_them(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let berlin = ann.tries_to_make(pb::WorkspaceKind::Workspace, "Berlin").await.expect("made").workspace_id;
        ann.defines(role("org:rooms", &[P::OrganizationRead, P::WorkspacesListAll])).await;
        ann.defines(role("org:people", &[P::OrganizationRead, P::MembersList])).await;
        ann.defines(role("org:both", &[P::OrganizationRead, P::WorkspacesListAll, P::MembersList, P::InvitationsList])).await;
        let rex = ann.brings("rex", "org:rooms").await;
        let pam = ann.brings("pam", "org:people").await;
        let bea = ann.brings("bea", "org:both").await;
        ann.invites(&["cas@example.com"], "member").await;
        let crm = Person { organization_id: ann.organization_id.clone(), ..world.service("crm") };
        for id in [berlin.as_str(), "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70"] {
            let refused = rex.tries_to_list_workspace_members(id, 0, "").await.expect_err("no members for rex");
            assert_eq!((refused.is(), refused.metadata["permission"].as_str(), refused.metadata["role"].as_str()), (LACKS, "members_list", "org:rooms"));
        }
        for caller in [&bea, &crm] {
            caller.tries_to_list_workspace_members(&berlin, 0, "").await.expect("listed");
        }
        let pending = |states: &[pb::MemberState]| pb::ListMembersRequest {
            states: states.iter().map(|state| i32::from(*state)).collect(),
            ..Default::default()
        };
        let (active, expected) = (pb::MemberState::Active, pb::MemberState::Pending);
        for states in [&[expected][..], &[active, expected]] {
            let refused = pam.tries_to_list(&pending(states)).await.expect_err("no invitations for pam");
            assert_eq!((refused.is(), refused.metadata["permission"].as_str(), refused.metadata["role"].as_str()), (LACKS, "invitations_list", "org:people"));
            for caller in [&bea, &crm] {
                assert_eq!(caller.tries_to_list(&pending(states)).await.expect("listed").members.len(), if states.len() == 1 { 1 } else { 5 });
            }
        }
        assert_eq!(pam.tries_to_list(&pending(&[active])).await.expect("listed").members.len(), 4);
        world.end().await;
    }

    async fn a_refusal_fits_the_headers_however_many_roles_there_are(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        for number in 0..50 {
            ann.defines(role(&format!("org:{}{number:02}", "r".repeat(34)), &[P::OrganizationRead])).await;
        }
        let updates = ["one", "two", "three"].map(|name| pb::MemberRoleUpdate {
            user_id: name.into(), role: format!("org:{name}"), ..Default::default()
        });
        let request = pb::BatchUpdateMemberRolesRequest {
            organization_id: ann.organization_id.clone(), updates: updates.into(), ..Default::default()
        };
        let path = "/tenantry.v1.MembershipService/BatchUpdateMemberRoles";
        let answered = raw::send(&world.channel(), path, &ann.identity, &request.encode_to_vec()).await;
        assert!(answered.header_bytes <= 8192, "{} bytes of headers", answered.header_bytes);
        let refused = self::refused(&answered.outcome.expect_err("unknown roles"));
        assert_eq!((refused.is(), refused.fields.len()), (FIELDS, 3));
        assert!(refused.message.contains("must be one of owner, admin, member, or one of the organization's own"), "{}", refused.message);
        // Admins would grant fifty powers that they have not: some are named, and how many there are.
        let names: Vec<String> = ann.roles().await.into_iter().filter(|role| role.custom).map(|role| role.role).collect();
        let strong = pb::Role { removes: names, managed_by: texts(&["admin", "member"]), ..role("org:strong", &[P::MembersRemove]) };
        ann.tries_to_drop(&strong.removes[0], "").await.expect("deleted");
        let strong = pb::Role { removes: strong.removes[1..].to_vec(), ..strong };
        let request = pb::CreateRoleRequest { organization_id: ann.organization_id.clone(), role: Some(strong), ..Default::default() };
        let path = "/tenantry.v1.MembershipService/CreateRole";
        let answered = raw::send(&world.channel(), path, &ann.identity, &request.encode_to_vec()).await;
        assert!(answered.header_bytes <= 8192, "{} bytes of headers", answered.header_bytes);
        let refused = self::refused(&answered.outcome.expect_err("beyond admins"));
        assert_eq!((refused.is(), refused.fields.clone()), (FIELDS, texts(&["role.managed_by[0]"])));
        world.end().await;
    }

    async fn what_another_may_is_told_by_their_role_as_it_is_when_they_hold_it(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.defines(role("org:desk", &[P::OrganizationRead, P::AuditLogRead])).await;
        ann.brings("bob", "member").await;
        let crm = Person { organization_id: ann.organization_id.clone(), ..world.service("crm") };
        if let Backend::Postgres = backend {
            // The memberships are locked, so that the role shrinks and Bob takes it while the service's question waits for his.
            let database = world.database().await;
            database.execute_unprepared("BEGIN").await.expect("begun");
            database.execute_unprepared("LOCK TABLE membership IN ACCESS EXCLUSIVE MODE").await.expect("locked");
            let asking = tokio::spawn({
                let crm = crm.clone();
                async move { crm.checks("bob", &[P::AuditLogRead]).await }
            });
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            while world.number(waiting).await == 0 {
                tokio::task::yield_now().await;
            }
            let shrunk = r#"UPDATE custom_role SET definition = '{"permissions":["organization_read"],"invites":[],"changes":[],"removes":[],"managed_by":[]}'"#;
            database.execute_unprepared(shrunk).await.expect("shrunk");
            database.execute_unprepared("UPDATE membership SET role = 'org:desk' WHERE user_id = 'bob'").await.expect("given");
            database.execute_unprepared("COMMIT").await.expect("committed");
            database.close().await.expect("a connection can be closed");
            let told = asking.await.expect("asked");
            assert!(told.role == "org:desk" && !told.checks[0].allowed, "he never had it: {told:?}");
            // The books know nothing of this.
            world.execute("UPDATE membership SET role = 'member' WHERE user_id = 'bob'").await.expect("taken back");
        }
        ann.tries_to_redefine(&["permissions"], role("org:desk", &[P::OrganizationRead])).await.expect("shrunk");
        ann.tries_to_change_role("bob", "org:desk").await.expect("changed");
        for caller in [&ann, &crm] {
            let told = caller.checks("bob", &[P::AuditLogRead, P::OrganizationRead, P::AuditLogRead]).await;
            assert_eq!(told.checks.iter().map(|check| check.allowed).collect::<Vec<_>>(), [false, true, false]);
            assert_eq!((told.checks[0].roles.clone(), &told.checks[0]), (texts(&["owner", "admin"]), &told.checks[2]));
        }
        world.end().await;
    }

    async fn the_log_tells_who_took_the_replacement(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.defines(role("org:temp", &[P::OrganizationRead])).await;
        for name in ["bob", "cas", "dee"] {
            ann.brings(name, "org:temp").await;
        }
        ann.tries_to_suspend("dee").await.expect("suspended");
        ann.invites(&["eve@example.com"], "org:temp").await;
        assert_eq!(ann.tries_to_drop("org:temp", "member").await, Ok((3, 1)));
        ann.tries_to_reactivate("dee").await.expect("reactivated");
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn an_organization_has_at_most_fifty_roles_of_its_own(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        for number in 0..50 {
            ann.defines(role(&format!("org:r{number}"), &[P::OrganizationRead])).await;
        }
        let refused = ann.tries_to_define(role("org:more", &[])).await.expect_err("too many");
        assert_eq!((refused.is(), refused.metadata["maximum"].as_str(), refused.metadata["of"].as_str()), (LIMIT, "50", "roles"));
        assert_eq!(ann.tries_to_define(role("org:r1", &[])).await.expect_err("there").is(), EXISTS);
        assert_eq!(ann.roles().await.len(), 53);
        ann.tries_to_drop("org:r7", "").await.expect("deleted");
        ann.defines(role("org:more", &[])).await;
        world.end().await;
    }

    async fn a_role_is_made_once_however_often_it_is_asked_for(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let request = pb::CreateRoleRequest {
            organization_id: ann.organization_id.clone(),
            role: Some(role("org:desk", &[P::OrganizationRead])),
            request_id: "0198c1d2-7b7e-7cc3-98c4-dc0c0c073982".into(),
            validate_only: true,
        };
        let told = answer(ann.members().create_role(request.clone()).await).expect("could be");
        assert_eq!(ann.roles().await.len(), 3);
        let request = pb::CreateRoleRequest { validate_only: false, ..request };
        let made = answer(ann.members().create_role(request.clone()).await).expect("made");
        assert_eq!(made, told);
        assert_eq!(answer(ann.members().create_role(request).await), Ok(made));
        assert_eq!(ann.roles().await.len(), 4);
        world.end().await;
    }

    async fn a_role_that_is_not_there_is_an_unknown_one_in_every_request(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        let unknown = |refused: Refused, fields: &[&str]| {
            assert_eq!((refused.is(), refused.fields.clone()), (FIELDS, texts(fields)), "{refused:?}");
            assert!(refused.message.contains("must be one of owner, admin, member"), "{}", refused.message);
        };
        for name in ["org:none", "org:?", "king"] {
            unknown(ann.tries_to_invite(&["cas@example.com"], name).await.expect_err(name), &["role"]);
            unknown(ann.tries_to_change_role("bob", name).await.expect_err(name), &["role"]);
            unknown(ann.tries_to_change_roles(&[("bob", "admin"), ("cas", name)]).await.expect_err(name), &["updates[1].role"]);
            unknown(ann.tries_to_transfer("bob", name).await.expect_err(name), &["own_role"]);
        }
        let both = ann.tries_to_change_roles(&[("bob", "org:one"), ("cas", "org:two")]).await.expect_err("both");
        unknown(both, &["updates[0].role", "updates[1].role"]);
        // A list may ask for those who hold a role that is gone.
        let filter = pb::ListMembersRequest { roles: texts(&["org:none"]), ..Default::default() };
        assert!(ann.tries_to_list(&filter).await.expect("nobody").members.is_empty());
        world.end().await;
    }

    async fn a_claimed_role_opens_the_gate_and_the_stored_one_decides(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mix = [P::OrganizationRead, P::MembersList, P::WorkspacesManage, P::SeatsRead, P::AuditLogRead, P::MonitoringRead];
        ann.defines(role("org:mix", &mix)).await;
        let bob = ann.brings("bob", "member").await;
        let mia = ann.brings("mia", "org:mix").await;
        let stranger = world.person("stranger");
        let member = [P::OrganizationRead, P::OrganizationLeave];
        let everything: Vec<P> = permission::all().collect();
        let stored: [(&Person, &str, &[P]); 3] = [(&ann, "owner", &everything), (&bob, "member", &member), (&mia, "org:mix", &mix)];
        for method in scoped() {
            let needed = P::try_from(method.requires().expect("said").permission).expect("a permission");
            for (person, role, permissions) in stored {
                for claimed in ["org:none", "org:mix"] {
                    let caller = person.acting_in(&ann.organization_id, claimed);
                    let what = format!("{} by {} as {claimed}", method.name(), person.name);
                    match denial(&method, &caller).await {
                        None => assert!(permissions.contains(&needed) || is_unwritten(&method, &caller).await, "{what}"),
                        Some(refused) => {
                            assert!(!permissions.contains(&needed), "{what}: {refused:?}");
                            assert_eq!(refused.is(), if role == claimed { LACKS } else { STALE }, "{what}");
                            assert_eq!((refused.metadata["role"].as_str(), refused.metadata["permission"].clone()), (role, permission::name(needed)), "{what}");
                        }
                    }
                }
            }
            // Stronger claims do not help who holds a custom role; weaker ones close the gate.
            let refused = denial(&method, &mia.acting_in(&ann.organization_id, "owner")).await;
            assert_eq!(refused.as_ref().map(Refused::is), (!mix.contains(&needed) && !is_unwritten(&method, &mia).await).then_some(STALE), "{}", method.name());
            let claiming = stranger.acting_in(&ann.organization_id, "org:mix");
            if !is_unwritten(&method, &claiming).await {
                let refused = denial(&method, &claiming).await.expect("a stranger");
                assert_eq!(refused.is(), (Code::PermissionDenied, "NOT_A_MEMBER"), "{}", method.name());
            }
            for claimed in ["org:", "org:Mix", "org:mix ", "org:mix;owner", "xorg:mix"].map(str::trim).into_iter().filter(|name| *name != "org:mix") {
                let refused = denial(&method, &ann.acting_in(&ann.organization_id, claimed)).await.expect("no role's name");
                assert_eq!(refused.is(), UNKNOWN, "{} as {claimed}", method.name());
            }
        }
        world.end().await;
    }

    async fn with_the_switch_off_custom_roles_open_nothing_and_are_cleared_up(backend: Backend) {
        let mut world = World::with(backend, under("owner-billing")).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.defines(role("org:temp", &[P::OrganizationRead, P::MembersList])).await;
        ann.defines(role("org:other", &[P::OrganizationRead])).await;
        let bob = ann.brings("bob", "org:temp").await;
        ann.brings("cas", "org:temp").await;
        let sent = ann.invites(&["dee@example.com", "eve@example.com"], "org:temp").await;
        let directory = TempDir::new().expect("a directory");
        let file = directory.path().join("off.toml");
        let toml = include_str!("../../src/auth/presets/owner-billing.toml").replace("custom_roles = true", "custom_roles = false");
        std::fs::write(&file, toml).expect("written");
        world.switches_policy_to(&file.display().to_string()).await;
        let (ann, bob) = (ann.at(world.channel()), bob.at(world.channel()));
        for claimed in ["org:temp", "owner", "member"] {
            for method in scoped() {
                let caller = bob.acting_in(&ann.organization_id, claimed);
                let Some(refused) = denial(&method, &caller).await else {
                    assert!(is_unwritten(&method, &caller).await, "{} as {claimed}", method.name());
                    continue;
                };
                // The gate may have said that the claimed role lacks it.
                assert!(refused.is() == UNKNOWN || refused.is() == LACKS && claimed == "member", "{claimed}: {refused:?}");
            }
        }
        assert_eq!(ann.roles().await.len(), 3);
        assert_eq!(ann.tries_to_define(role("org:new", &[])).await.expect_err("off").is(), DISABLED);
        assert_eq!(ann.tries_to_redefine(&["title"], role("org:temp", &[])).await.expect_err("off").is(), DISABLED);
        for name in ["org:temp", "org:new"] {
            assert_eq!(ann.tries_to_invite(&["zed@example.com"], name).await.expect_err("off").is(), FIELDS);
            assert_eq!(ann.tries_to_change_role("cas", name).await.expect_err("off").is(), FIELDS);
        }
        let dee = world.person("dee").tries_to_accept(&sent[0].token).await.expect_err("off");
        assert_eq!(dee.is(), NOT_GRANTABLE);
        let told = ann.checks("bob", &[P::OrganizationRead]).await;
        assert_eq!((told.checks[0].denial_reason(), told.checks[0].grantor_roles.clone()), (DenialReason::RoleUnknown, texts(&["owner"])));
        ann.brings("ada", "admin").await;
        // The top role moves the holders, one by one or all at once.
        assert_eq!(ann.tries_to_change_role("bob", "member").await.expect("cleared").role, "member");
        assert_eq!(ann.tries_to_drop("org:temp", "org:other").await.expect_err("that is off too").is(), FIELDS);
        assert_eq!(ann.tries_to_drop("org:temp", "").await.expect_err("in use").is(), IN_USE);
        assert_eq!(ann.tries_to_drop("org:temp", "member").await, Ok((1, 2)));
        assert_eq!(world.person("dee").accepts(&sent[0].token).await.role, "member");
        world.end().await;
    }

    async fn under_another_policy_a_definition_gives_nobody_more_than_they_hold(backend: Backend) {
        // Under this one an admin does not see bills; whoever may invite admins need not either.
        let mut world = World::with(backend, under("owner-billing")).await;
        let ann = world.person("ann").founds("Acme").await;
        let strong: Vec<P> = ann_admin();
        ann.defines(listing("org:deputy", &strong, [&["admin", "member"], &["admin", "member"], &["admin", "member"], &[]])).await;
        let bob = ann.brings("bob", "org:deputy").await;
        let sent = bob.invites(&["cas@example.com"], "admin").await;
        world.switches_policy_to("shared-billing").await;
        let (ann, bob) = (ann.at(world.channel()), bob.at(world.channel()));
        // Here admins look after the bills, which the deputy would hand out without having them.
        let refused = bob.tries_to_invite(&["dee@example.com"], "admin").await.expect_err("not any more");
        assert_eq!(refused.is(), ABOVE);
        assert_eq!(world.person("cas").tries_to_accept(&sent[0].token).await.expect_err("nor what was sent").is(), NOT_GRANTABLE);
        bob.brings("eve", "member").await;
        assert_eq!(bob.tries_to_change_role("eve", "admin").await.expect_err("nor so").is(), ABOVE);
        assert_eq!(ann.role_named("org:deputy").await.invites, ["member"]);
        // What it is called can be changed as it stands; what it may do only to what fits.
        ann.tries_to_redefine(&["title"], pb::Role { title: "Vice".into(), ..role("org:deputy", &[]) }).await.expect("changed");
        let more: Vec<P> = strong.iter().copied().filter(|permission| *permission != P::AnalyticsRead).collect();
        let refused = ann.tries_to_redefine(&["permissions"], role("org:deputy", &more)).await.expect_err("beyond");
        assert_eq!((refused.is(), refused.fields.clone()), (FIELDS, texts(&["role.invites[0]"])));
        ann.tries_to_redefine(&["invites", "changes", "removes", "permissions"], listing("org:deputy",
            &[P::OrganizationRead, P::OrganizationLeave, P::MembersInvite], [&["member"], &[], &[], &[]])).await.expect("fits");
        world.end().await;
    }

    async fn of_two_who_define_one_role_one_does(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let calls = (0..8).map(|number| {
            let person = spread(&world, &ann, number);
            async move { person.tries_to_define(role("org:desk", &[P::OrganizationRead])).await }
        });
        let mut endings: BTreeMap<String, usize> = BTreeMap::new();
        for outcome in at_once(calls).await {
            *endings.entry(outcome.map_or_else(|refused| refused.reason, |_| "OK".into())).or_default() += 1;
        }
        assert_eq!(endings, BTreeMap::from([("OK".to_owned(), 1), ("ROLE_EXISTS".to_owned(), 7)]));
        // And the fiftieth is one, whoever comes first.
        for number in 1..48 {
            ann.defines(role(&format!("org:r{number}"), &[])).await;
        }
        let calls = (0..6).map(|number| {
            let person = spread(&world, &ann, number);
            async move { person.tries_to_define(role(&format!("org:last{number}"), &[])).await }
        });
        let made = at_once(calls).await.into_iter().flatten().count();
        assert_eq!(made, 2);
        world.end().await;
    }

    async fn nobody_comes_into_a_role_that_is_being_deleted(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        for round in 0..6 {
            let ann = world.person("ann").founds("Acme").await;
            ann.defines(role("org:temp", &[P::OrganizationRead])).await;
            for name in ["bob", "cas", "dee"] {
                ann.brings(name, "member").await;
            }
            let sent = ann.invites(&["eve@example.com"], "org:temp").await;
            let token = sent[0].token.clone();
            let act = |number: usize| {
                let (ann, token) = (spread(&world, &ann, number), token.clone());
                let eve = Person { channel: ann.channel.clone(), ..world.person("eve") };
                async move {
                    let reason = |refused: Refused| refused.reason;
                    match (number + round) % 6 {
                        0 => ann.tries_to_drop("org:temp", "member").await.map(|_| ()).map_err(reason),
                        1 => ann.tries_to_invite(&["fay@example.com"], "org:temp").await.map(|_| ()).map_err(reason),
                        2 => ann.tries_to_change_role("bob", "org:temp").await.map(|_| ()).map_err(reason),
                        3 => ann.tries_to_change_roles(&[("cas", "org:temp"), ("dee", "org:temp")]).await.map(|_| ()).map_err(reason),
                        4 => eve.tries_to_accept(&token).await.map(|_| ()).map_err(reason),
                        _ => ann.tries_to_drop("org:temp", "").await.map(|_| ()).map_err(reason),
                    }
                }
            };
            for outcome in at_once((0..6).map(act)).await {
                let expected = ["INVALID_FIELDS", "ROLE_NOT_FOUND", "ROLE_IN_USE"];
                assert!(outcome.as_ref().err().is_none_or(|reason| expected.contains(&reason.as_str())), "{outcome:?}");
            }
            assert_eq!(ann.roles().await.len(), 3);
            for (user, role) in ann.members_and_roles().await {
                assert!(!role.starts_with("org:"), "{user} is left in {role}");
            }
            let left = "SELECT count(*) FROM invitation WHERE state = 'pending' AND role LIKE 'org:%'";
            assert_eq!(world.number(left).await, 0);
            replay(&world, &ann.organization_id).await;
        }
        world.end().await;
    }

    async fn who_acts_while_their_role_changes_has_the_one_or_the_other(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        let inviting = || listing("org:desk", &[P::OrganizationRead, P::OrganizationLeave, P::MembersList, P::MembersInvite], [&["member"], &[], &[], &[]]);
        let reading = || role("org:desk", &[P::OrganizationRead, P::OrganizationLeave, P::MembersList]);
        ann.defines(inviting()).await;
        let bob = ann.brings("bob", "org:desk").await;
        for round in 0..8 {
            let act = |number: usize| {
                let (ann, bob) = (spread(&world, &ann, number), spread(&world, &bob, number));
                async move {
                    let refused = |refused: Refused| refused.reason;
                    match number {
                        0 => {
                            let changed = if round % 2 == 0 { reading() } else { inviting() };
                            ann.tries_to_redefine(&LISTS, changed).await.map(|_| ()).map_err(refused)
                        }
                        1 | 2 => {
                            let address = format!("guest{round}-{number}@example.com");
                            bob.tries_to_invite(&[&address], "member").await.map(|_| ()).map_err(refused)
                        }
                        // What both have is never refused.
                        _ => bob.lists_members().await.map(|_| ()).map_err(|refused| format!("read: {}", refused.reason)),
                    }
                }
            };
            for outcome in at_once((0..7).map(act)).await {
                assert!(outcome.as_ref().err().is_none_or(|reason| reason == "ROLE_LACKS_PERMISSION"), "{outcome:?}");
            }
            let may = bob.tries_to_invite(&[&format!("last{round}@example.com")], "member").await;
            assert_eq!(may.is_ok(), round % 2 == 1, "{may:?}");
        }
        // Nor is anybody refused for want of a role in the moment in which it is deleted, or has what they never had: first
        // Bob loses the role, and then it grows.
        for round in 0..8 {
            let name = format!("org:x{round}");
            ann.defines(role(&name, &[P::OrganizationRead])).await;
            ann.tries_to_change_role("bob", &name).await.expect("changed");
            let bob = bob.acting_in(&ann.organization_id, &name);
            let act = |number: usize| {
                let (ann, bob, name) = (spread(&world, &ann, number), spread(&world, &bob, number), name.clone());
                async move {
                    if number == 0 && round % 2 == 0 {
                        ann.tries_to_drop(&name, "member").await.expect("deleted");
                    } else if number == 0 {
                        ann.tries_to_change_role("bob", "member").await.expect("changed");
                        ann.tries_to_redefine(&["permissions"], role(&name, &[P::OrganizationRead, P::MembersList])).await.expect("grown");
                    } else if number.is_multiple_of(2) {
                        assert!(!bob.checks("", &[P::MembersList]).await.checks[0].allowed);
                    } else {
                        let refused = bob.lists_members().await.expect_err("never his");
                        assert!(refused.is() == LACKS || refused.is() == STALE, "{refused:?}");
                    }
                }
            };
            at_once((0..8).map(act)).await;
        }
        world.end().await;
    }
}

/// What an admin has in `owner-billing`.
fn ann_admin() -> Vec<P> {
    let policy = tenantry::auth::policy::RolePolicy::load("owner-billing").expect("a preset");
    policy.role("admin").expect("a role").permissions().collect()
}

/// Whether nobody has written the RPC yet.
async fn is_unwritten(method: &Method, caller: &Person) -> bool {
    let organization_id = prost_reflect::Value::String(caller.organization_id.clone());
    let outcome = method
        .call(
            caller,
            method
                .request(&[("organization_id", organization_id), ("validate_only", prost_reflect::Value::Bool(true))]),
        )
        .await;
    outcome.is_err_and(|status| status.code() == Code::Unimplemented)
}

/// A domain and an open request to join that offer a role, put there behind the scenes.
async fn offers_by_domain(world: &World, organization_id: &str, role: &str) {
    use sea_orm::{EntityTrait, IntoActiveModel};
    use tenantry::entity::{join_request, organization_domain};
    let organization_id = uuid::Uuid::parse_str(organization_id).expect("an organization's id");
    let now = world.clock.now();
    let domain = organization_domain::Model {
        organization_id,
        domain: "example.com".into(),
        proof: "p".into(),
        verified_at: Some(now),
        join_mode: organization_domain::JoinMode::Request,
        join_role: role.into(),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    let request = join_request::Model {
        organization_id,
        join_request_id: uuid::Uuid::from_u128(7),
        user_id: "zoe".into(),
        email: "zoe@example.com".into(),
        email_normalized: "zoe@example.com".into(),
        display_name: String::new(),
        avatar_uri: String::new(),
        role: role.into(),
        state: join_request::State::Pending,
        created_at: now,
        ended_at: None,
        decided_by_user_id: None,
    };
    let database = world.database().await;
    organization_domain::Entity::insert(domain.into_active_model()).exec(&database).await.expect("a domain");
    join_request::Entity::insert(request.into_active_model()).exec(&database).await.expect("a request");
    database.close().await.expect("a connection can be closed");
}
