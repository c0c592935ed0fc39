use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::auth::policy::presets;

/// The presets, each read once: properties ask for them very often.
static PRESETS: LazyLock<Vec<RolePolicy>> =
    LazyLock::new(|| presets().map(|name| RolePolicy::load(name).unwrap()).collect());

fn preset(name: &str) -> &'static RolePolicy {
    PRESETS.iter().find(|preset| preset.name() == name).unwrap()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn custom(role: &str, permissions: &[Permission], definition: Definition) -> CustomRole {
    let permissions = permissions.iter().map(|permission| permission::name(*permission)).collect();
    CustomRole {
        role: role.into(),
        title: "T".into(),
        description: "D".into(),
        definition: Definition { permissions, ..definition },
        version: 3,
    }
}

fn reach(role: &RoleDefinition) -> [Vec<&str>; 3] {
    Power::ALL.map(|power| role.reach(power).iter().map(RoleName::as_str).collect())
}

#[test]
fn a_name_is_org_and_a_short_identifier() {
    let longest = format!("org:{}", "a".repeat(36));
    for name in ["org:a", "org:hr", "org:tier_2", longest.as_str()] {
        assert!(is_name(name), "{name}");
    }
    let too_long = format!("{longest}a");
    for name in [
        "",
        "org",
        "org:",
        "hr",
        "org:Hr",
        "org:2",
        "org:_a",
        "org:a-b",
        "org:a b",
        "org:é",
        "ORG:a",
        "org:org:a",
        " org:a",
        "org:a\n",
        too_long.as_str(),
    ] {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn no_policy_file_can_have_a_role_of_that_name() {
    let toml = include_str!("../../presets/owner-billing.toml").replace("role = \"member\"", "role = \"org:member\"");
    assert!(RolePolicy::parse("mine.toml", &toml).is_err());
}

#[test]
fn a_custom_role_has_what_it_says_and_the_top_role_and_its_managers_have_power_over_it() {
    let policy = preset("guarded-admin");
    let (invite, remove) = (Permission::MembersInvite, Permission::MembersRemove);
    let helper =
        Definition { invites: texts(&["member"]), managed_by: texts(&["admin", "member"]), ..Definition::default() };
    let helper = custom("org:helper", &[Permission::OrganizationRead, Permission::OrganizationLeave, invite], helper);
    let whole = policy.with_custom(&[helper]);
    let role = whole.role("org:helper").unwrap();
    assert_eq!(
        role.permissions().collect::<Vec<_>>(),
        [Permission::OrganizationRead, Permission::OrganizationLeave, invite]
    );
    assert!(!role.allows(remove) && !role.top);
    assert_eq!(reach(role), [vec!["member"], vec![], vec![]]);
    assert_eq!(role.custom, Some(Custom { managed_by: texts(&["admin", "member"]), version: 3 }));
    let all = vec!["owner", "admin", "member", "org:helper"];
    assert_eq!(reach(whole.top_role()), [all.clone(), all.clone(), all]);
    // An admin of this policy changes nobody's role.
    assert_eq!(
        reach(whole.role("admin").unwrap()),
        [vec!["member", "org:helper"], vec![], vec!["member", "org:helper"]]
    );
    assert_eq!(reach(whole.role("member").unwrap()), [vec![""; 0], vec![], vec![]]);
    let names: Vec<&str> = whole.roles().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ["owner", "admin", "member", "org:helper"]);
    assert_eq!(whole.default_successor().name, "admin");
    assert_eq!(whole.with_custom(&[]).roles().count(), 3, "the organization's own are not a policy's");
    assert_eq!(reach(whole.with_custom(&[]).top_role()), reach(policy.top_role()));
}

#[test]
fn what_is_gone_from_the_policy_the_definition_no_longer_has() {
    let policy = preset("owner-billing");
    let lists = || texts(&["guest", "member", "org:gone", "owner"]);
    let definition = Definition {
        invites: lists(),
        changes: lists(),
        removes: lists(),
        managed_by: lists(),
        ..Definition::default()
    };
    let all: Vec<Permission> = permission::all().collect();
    let mut role = custom("org:x", &all, definition);
    role.definition.permissions.push("time_travel".into());
    let whole = policy.with_custom(&[role]);
    let role = whole.role("org:x").unwrap();
    assert_eq!(reach(role), [vec!["member"], vec!["member"], vec!["member"]], "nor is anybody given the top role");
    assert!(!role.allows(Permission::OwnershipTransfer) && !role.allows(Permission::RolesManage));
    assert_eq!(role.custom.as_ref().unwrap().managed_by, ["member", "owner"]);
}

#[test]
fn nobody_has_what_the_top_role_has_not() {
    // Nobody leaves in this policy, whatever an organization defines.
    let policy = preset("split-admin");
    let role = custom("org:x", &[Permission::OrganizationRead, Permission::OrganizationLeave], Definition::default());
    let whole = policy.with_custom(std::slice::from_ref(&role));
    assert!(!whole.role("org:x").unwrap().allows(Permission::OrganizationLeave));
    let beyond = [Right::Permission(Permission::OrganizationLeave)];
    assert_eq!(policy.beyond(&[role], "admin", "org:x"), beyond);
    // And nobody is invited as owner in this one.
    let policy = preset("shared-billing");
    assert!(!policy.top_role().invites("owner"));
}

#[test]
fn a_power_that_would_grant_more_than_its_holder_has_is_none() {
    let policy = preset("owner-billing");
    let invite = Permission::MembersInvite;
    let invites = |list: &[&str]| Definition { invites: texts(list), ..Definition::default() };
    let recruiter = custom("org:recruiter", &[Permission::OrganizationRead, invite], invites(&["admin", "member"]));
    let whole = policy.with_custom(std::slice::from_ref(&recruiter));
    // A member may leave, which the recruiter may not.
    assert_eq!(reach(whole.role("org:recruiter").unwrap()), [vec![""; 0], vec![], vec![]]);
    let excess = |granted: &str, right| Excess {
        granter: RoleName::new("org:recruiter"),
        granted: RoleName::new(granted),
        right,
    };
    let excesses = policy.excesses(&[recruiter]);
    assert!(excesses.contains(&excess("member", Right::Permission(Permission::OrganizationLeave))));
    assert!(excesses.contains(&excess("admin", Right::Reach(Power::Removes, RoleName::new("admin")))));

    // An admin does not make people what is more than an admin.
    let accountant = Definition { managed_by: texts(&["admin"]), ..Definition::default() };
    let accountant = custom("org:accountant", &[Permission::OrganizationRead, Permission::InvoicesRead], accountant);
    let whole = policy.with_custom(&[accountant]);
    let admin = whole.role("admin").unwrap();
    assert!(!admin.invites("org:accountant") && !admin.changes("org:accountant"));
    assert!(admin.removes("org:accountant"), "taking it away grants nothing");
    assert!(whole.top_role().invites("org:accountant"));
}

#[test]
fn a_role_that_is_managed_below_another_takes_nothing_from_the_policys_own() {
    // Billing admins would have power over a role that admins, who may make billing admins, have anyway; but user admins, who
    // make members, would not have what members get here.
    let toml = include_str!("../../presets/split-admin.toml")
        .replace(
            "members_invite         = { admin = true,  billing_admin = false, user_admin = true,  member = false }",
            "members_invite = { admin = true, billing_admin = false, user_admin = true, member = true }",
        )
        .replace("[invites]\n", "[invites]\nmember = [\"member\"]\n");
    let policy = RolePolicy::parse("mine.toml", &toml).unwrap();
    let guest = Definition { managed_by: texts(&["member"]), ..Definition::default() };
    let guest = custom("org:guest", &[Permission::OrganizationRead], guest);
    assert!(!policy.excesses(std::slice::from_ref(&guest)).is_empty());
    let whole = policy.with_custom(&[guest]);
    assert!(whole.role("user_admin").unwrap().invites("member"), "as the policy's file has it");
    assert!(!whole.role("member").unwrap().invites("org:guest"));
}

/// Names that definitions may say: of the policy, of one another, and of nothing.
const NAMES: [&str; 10] =
    ["owner", "admin", "member", "billing_admin", "user_admin", "gone", "org:a", "org:b", "org:c", "org:gone"];

fn some_names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 0..4)
        .prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

fn some_role(name: &'static str) -> impl Strategy<Value = CustomRole> {
    // Rights come as a policy's roles have them, less a few, more a few: most are just right or just wrong.
    let base = (0..4_usize, 0..4_usize);
    let turned = prop::collection::vec(1..31_i32, 0..4);
    let lists = [some_names(), some_names(), some_names(), some_names()];
    (base, turned, lists).prop_map(move |((at, like), turned, [invites, changes, removes, managed_by])| {
        let policy = &PRESETS[at];
        let mut permissions: BTreeSet<Permission> =
            policy.roles().nth(like % policy.roles().count()).unwrap().permissions().collect();
        for permission in turned.into_iter().filter_map(|number| Permission::try_from(number).ok()) {
            if !permissions.remove(&permission) {
                permissions.insert(permission);
            }
        }
        let permissions: Vec<Permission> = permissions.into_iter().collect();
        custom(name, &permissions, Definition { permissions: Vec::new(), invites, changes, removes, managed_by })
    })
}

fn some_roles() -> impl Strategy<Value = Vec<CustomRole>> {
    (some_role("org:a"), some_role("org:b"), some_role("org:c"), 0..4_usize)
        .prop_map(|(a, b, c, most)| [a, b, c].into_iter().take(most).collect())
}

fn has_all_of(role: &RoleDefinition, other: &RoleDefinition) -> bool {
    let reaches = |power| other.reach(power).iter().all(|name| role.reaches(power, name.as_str()));
    other.permissions().all(|permission| role.allows(permission)) && Power::ALL.into_iter().all(reaches)
}

proptest! {
    #[test]
    fn whatever_is_defined_whoever_may_grant_a_role_has_all_of_it(at in 0..4_usize, roles in some_roles()) {
        let whole = PRESETS[at].with_custom(&roles);
        for role in whole.roles() {
            prop_assert!(has_all_of(whole.top_role(), role), "the top role has not all of {}", role.name);
            for granted in whole.roles().filter(|other| role.invites(other.name.as_str()) || role.changes(other.name.as_str())) {
                prop_assert!(has_all_of(role, granted), "{} grants {}", role.name, granted.name);
            }
        }
    }

    #[test]
    fn whatever_is_defined_the_policys_own_are_to_one_another_as_they_were(at in 0..4_usize, roles in some_roles()) {
        let policy = &PRESETS[at];
        let whole = policy.with_custom(&roles);
        prop_assert_eq!(whole.roles().count(), policy.roles().count() + roles.len());
        for role in policy.roles() {
            let now = whole.role(role.name.as_str()).unwrap();
            prop_assert_eq!(now.permissions, role.permissions);
            for power in Power::ALL {
                let kept: Vec<&RoleName> = now.reach(power).iter().filter(|name| policy.role(name.as_str()).is_some()).collect();
                prop_assert_eq!(kept, role.reach(power).iter().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_custom_role_has_no_more_than_is_said_of_it(at in 0..4_usize, roles in some_roles()) {
        let whole = PRESETS[at].with_custom(&roles);
        for custom in &roles {
            let role = whole.role(&custom.role).unwrap();
            for permission in role.permissions() {
                prop_assert!(custom.definition.allows(permission) && !NEVER.contains(&permission));
            }
            for power in Power::ALL {
                for over in role.reach(power) {
                    let managed = roles.iter().any(|other| over == other.role.as_str() && other.definition.managed_by.contains(&custom.role));
                    prop_assert!(managed || custom.definition.listed(power).iter().any(|name| over == name.as_str()));
                    prop_assert!(over != whole.top_role().name.as_str());
                    prop_assert!(power.permissions().iter().any(|permission| role.allows(*permission)));
                }
            }
        }
    }

    #[test]
    fn what_nobody_grants_in_excess_is_had_whole(at in 0..4_usize, roles in some_roles()) {
        let policy = &PRESETS[at];
        if policy.excesses(&roles).is_empty() {
            let whole = policy.with_custom(&roles);
            for custom in &roles {
                prop_assert_eq!(whole.role(&custom.role).unwrap().permissions, custom.definition.permission_set());
                for manager in custom.definition.managed_by.iter().filter_map(|manager| whole.role(manager)) {
                    for power in Power::ALL {
                        let able = power.permissions().iter().any(|permission| manager.allows(*permission));
                        prop_assert_eq!(manager.reaches(power, &custom.role) || !able, true);
                    }
                }
            }
        }
        // And what is left after that is in excess of nothing, seen from outside.
        let beyond = |custom: &CustomRole| policy.beyond(&roles, policy.top_role().name.as_str(), &custom.role);
        prop_assert!(!policy.excesses(&roles).is_empty() || roles.iter().all(|custom| beyond(custom).is_empty()));
    }

    #[test]
    fn a_definition_in_order_means_the_same(role in some_role("org:a")) {
        let policy = preset("owner-billing");
        let ordered = CustomRole { definition: role.definition.clone().in_order(), ..role.clone() };
        prop_assert_eq!(ordered.definition.clone().in_order(), ordered.definition.clone());
        let (one, other) = (policy.with_custom(&[role]), policy.with_custom(&[ordered]));
        for (one, other) in one.roles().zip(other.roles()) {
            prop_assert_eq!(one.permissions, other.permissions);
            prop_assert_eq!(reach(one), reach(other));
        }
    }
}
