use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::pb::Permission as P;

/// The preset in which admins are guarded, but for its admins being allowed to define roles.
static POLICY: LazyLock<RolePolicy> = LazyLock::new(|| {
    let toml = include_str!("../../auth/presets/guarded-admin.toml");
    let toml = toml.replace(
        "roles_manage           = { owner = true,  admin = false, member = false }",
        "roles_manage           = { owner = true,  admin = true, member = false }",
    );
    let policy = RolePolicy::parse("mine.toml", &toml).unwrap();
    assert!(policy.role("admin").unwrap().allows(P::RolesManage));
    policy
});

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn role(name: &str, permissions: &[P], lists: [&[&str]; 4]) -> CustomRole {
    let [invites, changes, removes, managed_by] = lists.map(texts);
    let permissions = permissions.iter().map(|permission| permission::name(*permission)).collect();
    CustomRole {
        role: name.into(),
        title: "T".into(),
        description: String::new(),
        definition: Definition { permissions, invites, changes, removes, managed_by },
        version: 1,
    }
}

/// The fields at fault.
fn faults(outcome: Result<(), Error>) -> Vec<String> {
    match outcome {
        Err(Error::Fields(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
        other => panic!("expected faults, not {other:?}"),
    }
}

fn beyond(outcome: Result<(), Error>) -> Vec<String> {
    match outcome {
        Err(Error::RoleBeyondCaller { beyond, .. }) => beyond.iter().map(ToString::to_string).collect(),
        other => panic!("expected what is beyond the caller, not {other:?}"),
    }
}

const READ: P = P::OrganizationRead;
const LEAVE: P = P::OrganizationLeave;
const INVITE: P = P::MembersInvite;
const CHANGE: P = P::MembersChangeRole;

#[test]
fn a_power_needs_its_permission_and_a_permission_its_power() {
    let policy = &*POLICY;
    let roles = Roles { policy, own: &[] };
    let defines = |permissions: &[P], lists| roles.may_define("owner", &role("org:x", permissions, lists));
    assert_eq!(
        faults(defines(&[READ], [&["member"], &["member", "admin"], &["member"], &[]])),
        ["role.invites", "role.changes", "role.removes"]
    );
    assert_eq!(faults(defines(&[READ, INVITE], [&[], &[], &[], &[]])), ["role.permissions[1]"]);
    assert_eq!(faults(defines(&[P::MembersSuspend], [&[], &[], &[], &[]])), ["role.permissions[0]"]);
    assert_eq!(faults(defines(&[LEAVE, READ, CHANGE], [&[], &["member"], &[], &[]])), ["role.changes"]);
    defines(&[LEAVE, READ, CHANGE], [&[], &["member", "org:x"], &[], &[]]).unwrap();
    assert_eq!(
        faults(defines(&[READ], [&[], &[], &[], &["king", "org:none", "admin"]])),
        ["role.managed_by[0]", "role.managed_by[1]"]
    );
}

#[test]
fn nobody_comes_to_grant_more_than_they_hold() {
    let policy = &*POLICY;
    let roles = Roles { policy, own: &[] };
    let defines = |permissions: &[P], lists| roles.may_define("owner", &role("org:x", permissions, lists));
    // By the role itself.
    assert_eq!(faults(defines(&[READ, INVITE], [&["member"], &[], &[], &[]])), ["role.invites[0]"]);
    assert_eq!(faults(defines(&[READ, LEAVE, INVITE], [&["member", "admin"], &[], &[], &[]])), ["role.invites[1]"]);
    defines(&[READ, LEAVE, INVITE], [&["member"], &[], &[], &[]]).unwrap();
    // By its managers.
    assert_eq!(
        faults(defines(&[P::OrganizationDelete], [&[], &[], &[], &["member", "admin"]])),
        ["role.managed_by[1]"]
    );
    defines(&[P::InvoicesRead], [&[], &[], &[], &["member", "admin"]]).unwrap();
    // By another role of the organization that may grant it, when it grows.
    let small = role("org:small", &[READ], [&[], &[], &[], &[]]);
    let agent = role("org:agent", &[READ, INVITE], [&["org:small"], &[], &[], &[]]);
    let own = [agent.clone(), small];
    let roles = Roles { policy, own: &own };
    let grown = role("org:small", &[READ, P::AuditLogRead], [&[], &[], &[], &[]]);
    assert_eq!(faults(roles.may_define("owner", &grown)), ["role.permissions"]);
    roles
        .may_define("owner", &role("org:agent", &[READ, INVITE, P::AuditLogRead], [&["org:small"], &[], &[], &[]]))
        .unwrap();
    // And by way of a third: admins could make agents, who manage what admins do not.
    let agent = role("org:agent", &[READ, INVITE], [&["org:agent"], &[], &[], &["admin"]]);
    let own = [agent];
    let roles = Roles { policy, own: &own };
    let left_out = role("org:y", &[READ], [&[], &[], &[], &["org:agent"]]);
    assert_eq!(faults(roles.may_define("owner", &left_out)), ["role.managed_by"]);
    roles.may_define("owner", &role("org:y", &[READ], [&[], &[], &[], &["org:agent", "admin"]])).unwrap();
}

#[test]
fn who_is_below_the_top_role_defines_what_is_within_their_own() {
    let policy = &*POLICY;
    let mine = role("org:mine", &[READ], [&[], &[], &[], &["admin"]]);
    let theirs = role("org:theirs", &[READ], [&[], &[], &[], &[]]);
    let strong = role("org:strong", &[READ, P::OrganizationDelete], [&[], &[], &[], &[]]);
    let own = [mine.clone(), strong.clone(), theirs.clone()];
    let roles = Roles { policy, own: &own };
    assert_eq!(
        beyond(roles.may_define("admin", &role("org:x", &[READ, P::OrganizationDelete], [&[]; 4]))),
        ["organization_delete"]
    );
    assert_eq!(
        beyond(
            roles.may_define("admin", &role("org:x", &[READ, LEAVE, CHANGE], [&[], &["member", "org:x"], &[], &[]]))
        ),
        ["members_change_role", "changes member", "changes org:x"]
    );
    assert_eq!(
        beyond(
            roles
                .may_define("admin", &role("org:x", &[READ, INVITE], [&["admin", "org:theirs"], &[], &[], &["admin"]]))
        ),
        ["invites admin", "invites org:theirs"]
    );
    roles.may_define("admin", &role("org:x", &[READ, INVITE], [&["org:mine"], &[], &[], &["admin"]])).unwrap();
    for (caller, role, may) in [
        ("owner", &mine, true),
        ("owner", &theirs, true),
        ("admin", &mine, true),
        ("admin", &theirs, false),
        ("admin", &strong, false),
        ("member", &mine, false),
        ("gone", &mine, false),
    ] {
        assert_eq!(roles.may_touch(caller, role).is_ok(), may, "{caller} and {}", role.role);
    }
    let strong = role("org:strong", &[READ, P::OrganizationDelete], [&[], &[], &[], &["admin"]]);
    let own = [strong.clone()];
    let roles = Roles { policy, own: &own };
    assert!(roles.may_touch("admin", &strong).is_err(), "it has what they have not, though they manage it");
}

#[test]
fn a_deleted_role_leaves_the_lists_of_others_and_nothing_takes_its_place() {
    let agent = role("org:agent", &[READ, INVITE], [&["org:gone", "org:other"], &[], &["org:gone"], &[]]);
    let gone = role("org:gone", &[READ], [&["org:gone"], &[], &[], &[]]);
    let mover = role("org:mover", &[READ, CHANGE], [&[], &["org:gone", "org:other"], &[], &["admin", "org:gone"]]);
    let other = role("org:other", &[READ], [&[]; 4]);
    let own = [agent, gone, mover, other];
    let agent = CustomRole { version: 2, ..role("org:agent", &[READ, INVITE], [&["org:other"], &[], &[], &[]]) };
    let mover = CustomRole { version: 2, ..role("org:mover", &[READ, CHANGE], [&[], &[], &[], &["admin"]]) };
    assert_eq!(without(&own, "org:gone"), [agent, mover]);
    assert!(without(&own, "org:agent").is_empty());
}

const NAMES: [&str; 7] = ["owner", "admin", "member", "gone", "org:a", "org:b", "org:c"];

fn attempt() -> impl Strategy<Value = (bool, CustomRole)> {
    let names = || prop::collection::vec(prop::sample::select(&NAMES[1..]), 0..3);
    let turned = prop::collection::vec(1..31_i32, 0..3);
    (any::<bool>(), 0..3_usize, 0..3_usize, turned, (names(), names(), names(), names())).prop_map(
        |(by_top, name, like, turned, (invites, changes, removes, managed_by))| {
            let policy = &*POLICY;
            let mut permissions: BTreeSet<P> = policy.roles().nth(like).unwrap().permissions().collect();
            for permission in turned.into_iter().filter_map(|number| P::try_from(number).ok()) {
                permissions.remove(&permission);
            }
            permissions.remove(&P::OwnershipTransfer);
            permissions.remove(&P::RolesManage);
            // A power without a permission, or the other way, would be the only thing that most of these are refused for.
            for (permission, needs) in [
                (INVITE, invites.is_empty()),
                (CHANGE, changes.len() < 2),
                (P::MembersRemove, removes.is_empty()),
                (P::MembersSuspend, removes.is_empty()),
            ] {
                if needs {
                    permissions.remove(&permission);
                } else {
                    permissions.insert(permission);
                }
            }
            let changes = if changes.len() < 2 { Vec::new() } else { changes };
            let permissions: Vec<P> = permissions.into_iter().collect();
            (by_top, role(NAMES[4 + name], &permissions, [&invites, &changes, &removes, &managed_by]))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever owners and admins try one after another: what is let through leaves nobody with the power to grant what they do
    /// not hold, gives nobody what the one who defined it has not, and lets nobody but the top role touch what is not theirs.
    #[test]
    fn whatever_is_tried_nobody_rises(attempts in prop::collection::vec(attempt(), 1..12), deleted in 0..3_usize) {
        let policy = &*POLICY;
        let mut own: Vec<CustomRole> = Vec::new();
        for (by_top, new) in attempts {
            let caller = if by_top { "owner" } else { "admin" };
            let roles = Roles { policy, own: &own };
            let mut new = new;
            new.definition = new.definition.in_order();
            new.definition.managed_by.retain(|manager| *manager != new.role);
            if let Ok(before) = roles.find(&new.role) && roles.may_touch(caller, before).is_err() {
                continue;
            }
            if roles.may_define(caller, &new).is_err() {
                continue;
            }
            own = roles.with(&new);
            prop_assert_eq!(policy.excesses(&own), BTreeSet::new());
            let whole = policy.with_custom(&own);
            let (holder, made) = (whole.role(caller).unwrap(), whole.role(&new.role).unwrap());
            prop_assert!(made.permissions().all(|permission| holder.allows(permission)));
            prop_assert!(made.invitable().all(|name| holder.invites(name.as_str())));
            prop_assert!(made.changeable().all(|name| holder.changes(name.as_str())));
            prop_assert!(made.removable().all(|name| holder.removes(name.as_str())));
            prop_assert!(!made.invites("owner") && !made.changes("owner") && !made.removes("owner"));
        }
        let gone = NAMES[4 + deleted];
        let changed = without(&own, gone);
        let mut left: Vec<CustomRole> = own.iter().filter(|role| role.role != gone).cloned().collect();
        for role in &mut left {
            let before = role.clone();
            if let Some(changed) = changed.iter().find(|changed| changed.role == role.role) {
                role.clone_from(changed);
            }
            prop_assert!(!role.names(gone) && role.definition.changes.len() != 1);
            for ((_, now), (_, then)) in lists(&role.definition).into_iter().zip(lists(&before.definition)) {
                prop_assert!(now.iter().all(|name| then.contains(name)), "no list grows");
            }
        }
        prop_assert_eq!(policy.excesses(&left), BTreeSet::new());
    }
}
