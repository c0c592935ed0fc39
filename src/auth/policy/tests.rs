use std::{collections::BTreeSet, fmt::Write};

use proptest::prelude::*;

use super::*;
use crate::auth::permission;

fn preset(name: &str) -> RolePolicy {
    RolePolicy::load(name).unwrap()
}

/// The default preset with some of its text replaced.
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(PRESETS[0].1.to_owned(), |toml, (from, to)| {
        assert_eq!(toml.matches(from).count(), 1, "{from} should be there once");
        toml.replace(from, to)
    })
}

fn faults(toml: &str) -> Vec<Fault> {
    match RolePolicy::parse("mine.toml", toml) {
        Err(PolicyError::Faulty { faults, .. }) => faults,
        other => panic!("expected faults, not {other:?}"),
    }
}

fn texts(edits: &[(&str, &str)]) -> Vec<String> {
    faults(&edited(edits)).into_iter().map(|fault| fault.text).collect()
}

fn names<'a>(roles: impl Iterator<Item = &'a RoleDefinition>) -> Vec<&'a str> {
    roles.map(|role| role.name.as_str()).collect()
}

fn reach<'a>(roles: impl Iterator<Item = &'a RoleName>) -> Vec<&'a str> {
    roles.map(RoleName::as_str).collect()
}

/// Which of a policy's roles have a permission, as a row of the matrix.
fn row(policy: &RolePolicy, permission: Permission) -> Vec<&str> {
    names(policy.roles_with(permission))
}

const ROW_AUDIT: &str = "audit_log_read         = { owner = true,  admin = true,  member = false }";
const ROW_TRANSFER: &str = "ownership_transfer     = { owner = true,  admin = false, member = false }";
const ROW_LEAVE: &str = "organization_leave     = { owner = true,  admin = true,  member = true  }";
const INVITES: &str = "[invites]\nowner = [\"owner\", \"admin\", \"member\"]\nadmin = [\"admin\", \"member\"]";
const CHANGES: &str = "[changes]\nowner = [\"owner\", \"admin\", \"member\"]\nadmin = [\"admin\", \"member\"]";
const REMOVES: &str = "[removes]\nowner = [\"owner\", \"admin\", \"member\"]\nadmin = [\"admin\", \"member\"]";
const MEMBER: &str = "[[roles]]\nrole = \"member\"\ntitle = \"Member\"";

#[test]
fn every_preset_loads_under_its_own_name() {
    for name in presets() {
        let policy = preset(name);
        assert_eq!(policy.name(), name);
        assert!(policy.top_role().top);
        assert_eq!(policy.roles().filter(|role| role.top).count(), 1);
    }
    assert_eq!(presets().collect::<Vec<_>>(), ["owner-billing", "shared-billing", "split-admin", "guarded-admin"]);
}

#[test]
fn every_permission_has_a_bit_of_its_own() {
    let mut set = role::PermissionSet::default();
    for permission in permission::all() {
        assert!(!set.contains(permission), "{permission:?}");
        set.insert(permission);
    }
    assert!(!set.contains(Permission::Unspecified));
}

#[test]
fn in_owner_billing_the_admin_sees_only_the_state_of_billing() {
    let policy = preset("owner-billing");
    assert_eq!(names(policy.roles()), ["owner", "admin", "member"]);
    assert_eq!(row(&policy, Permission::BillingStatusRead), ["owner", "admin"]);
    for owners in [
        Permission::BillingProfileRead,
        Permission::BillingProfileUpdate,
        Permission::InvoicesRead,
        Permission::PaymentMethodsRead,
        Permission::PaymentMethodsManage,
        Permission::SubscriptionManage,
        Permission::SubscriptionCancel,
        Permission::OrganizationDelete,
        Permission::OwnershipTransfer,
    ] {
        assert_eq!(row(&policy, owners), ["owner"], "{owners:?}");
    }
    assert_eq!(row(&policy, Permission::OrganizationLeave), ["owner", "admin", "member"]);
    assert_eq!(names(policy.grantors(Some("owner"), "admin")), ["owner"], "an admin demotes no owner");
    assert_eq!(names(policy.grantors(Some("admin"), "owner")), ["owner"], "an admin promotes to no owner");
    let admin = policy.role("admin").unwrap();
    assert_eq!(reach(admin.invitable()), ["admin", "member"]);
    assert_eq!(reach(admin.changeable()), ["admin", "member"]);
    assert_eq!(reach(admin.removable()), ["admin", "member"]);
    assert_eq!(
        policy.role("member").unwrap().permissions().collect::<Vec<_>>(),
        [Permission::OrganizationRead, Permission::OrganizationLeave]
    );
}

#[test]
fn in_shared_billing_nobody_is_invited_as_owner() {
    let policy = preset("shared-billing");
    assert_eq!(names(policy.grantors(None, "owner")), Vec::<&str>::new());
    assert_eq!(names(policy.grantors(None, "admin")), ["owner", "admin"]);
    assert_eq!(names(policy.grantors(Some("admin"), "owner")), ["owner"]);
    assert_eq!(names(policy.grantors(Some("member"), "admin")), ["owner", "admin"]);
    assert!(policy.role("owner").unwrap().removes("owner"));
    assert!(!policy.role("admin").unwrap().removes("owner"));
    assert_eq!(row(&policy, Permission::SubscriptionCancel), ["owner", "admin"]);
    assert_eq!(row(&policy, Permission::OrganizationDelete), ["owner"]);
}

#[test]
fn in_split_admin_money_and_people_are_apart_and_nobody_leaves() {
    let policy = preset("split-admin");
    let (all, readers) = (["admin", "billing_admin", "user_admin", "member"], ["admin", "billing_admin", "user_admin"]);
    assert_eq!(names(policy.roles()), all);
    assert_eq!(row(&policy, Permission::OrganizationLeave), Vec::<&str>::new());
    assert_eq!(row(&policy, Permission::OrganizationRead), all);
    for read in [
        Permission::SettingsRead,
        Permission::OverviewRead,
        Permission::WorkspacesListAll,
        Permission::SeatsRead,
        Permission::BillingStatusRead,
        Permission::BillingProfileRead,
        Permission::AuditLogRead,
    ] {
        assert_eq!(row(&policy, read), readers, "{read:?}");
    }
    assert_eq!(row(&policy, Permission::OrganizationUpdate), ["admin"]);
    assert_eq!(row(&policy, Permission::SettingsUpdate), ["admin"]);
    assert_eq!(row(&policy, Permission::SubscriptionCancel), ["admin"]);
    assert_eq!(row(&policy, Permission::MembersChangeRole), ["admin"]);
    assert_eq!(row(&policy, Permission::SubscriptionManage), ["admin", "billing_admin"]);
    assert_eq!(row(&policy, Permission::InvoicesRead), ["admin", "billing_admin"]);
    assert_eq!(row(&policy, Permission::WorkspacesManage), ["admin", "user_admin"]);
    assert_eq!(row(&policy, Permission::MembersSuspend), ["admin", "user_admin"]);
    assert_eq!(reach(policy.role("user_admin").unwrap().invitable()), ["member"]);
    assert_eq!(reach(policy.role("user_admin").unwrap().removable()), ["member"]);
    assert_eq!(reach(policy.role("billing_admin").unwrap().invitable()), Vec::<&str>::new());
}

#[test]
fn in_guarded_admin_an_admin_touches_members_only() {
    let policy = preset("guarded-admin");
    let admin = policy.role("admin").unwrap();
    assert!(admin.allows(Permission::SubscriptionCancel));
    assert!(!admin.allows(Permission::MembersChangeRole));
    assert!(admin.invites("member") && !admin.invites("admin"));
    assert!(admin.removes("member") && !admin.removes("admin"));
    assert!(!admin.changes("member"));
    assert_eq!(names(policy.grantors(None, "owner")), ["owner"]);
    assert_eq!(names(policy.grantors(None, "member")), ["owner", "admin"]);
    assert_eq!(names(policy.grantors(Some("member"), "admin")), ["owner"]);
}

#[test]
fn a_role_that_the_policy_does_not_know_is_neither_allowed_nor_refused() {
    let policy = preset("split-admin");
    assert_eq!(policy.allows("owner", Permission::OrganizationRead), None);
    assert_eq!(policy.allows("member", Permission::OrganizationRead), Some(true));
    assert_eq!(policy.allows("member", Permission::AuditLogRead), Some(false));
    assert_eq!(policy.role("Admin"), None);
}

#[test]
fn who_hands_on_the_top_role_takes_the_next_one() {
    assert_eq!(preset("owner-billing").default_successor().name, "admin");
    assert_eq!(preset("split-admin").default_successor().name, "billing_admin");
}

#[test]
fn the_table_has_a_row_for_every_permission_and_power() {
    let table = preset("guarded-admin").table();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2 + permission::all().count() + 3);
    assert_eq!(lines[0], "|  | `owner` | `admin` | `member` |");
    assert_eq!(lines[1], "|---|---|---|---|");
    assert_eq!(lines[2], "| `organization_read` | yes | yes | yes |");
    assert!(lines.contains(&"| `organization_delete` | yes | – | – |"));
    assert!(lines.contains(&"| changes roles among | owner, admin, member | – | – |"));
    assert_eq!(lines[lines.len() - 1], "| removes, suspends, reactivates | owner, admin, member | member | – |");
}

#[test]
fn a_file_of_ones_own_loads_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.toml");
    std::fs::write(&path, edited(&[("name = \"owner-billing\"", "name = \"mine\"")])).unwrap();
    assert_eq!(RolePolicy::load(path.to_str().unwrap()).unwrap().name(), "mine");
}

#[test]
fn a_choice_that_cannot_be_read_is_told_the_presets() {
    let error = RolePolicy::load("owner-biling").unwrap_err();
    assert_eq!(
        error.to_string(),
        "role policy `owner-biling` is neither a preset (owner-billing, shared-billing, split-admin, guarded-admin) \
         nor a file that can be read"
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn all_faults_are_said_at_once_each_with_its_line() {
    let toml = edited(&[
        ("seats_read ", "seats_reed "),
        (ROW_AUDIT, "audit_log_read = { owner = false, admin = true, boss = true }"),
        ("title = \"Owner\"\n", ""),
    ]);
    let line = |text: &str| toml.lines().position(|line| line.starts_with(text)).unwrap() + 1;
    let (role, head, seats, audit) =
        (line("[[roles]]"), line("[permissions]"), line("seats_reed"), line("audit_log_read"));
    assert_eq!(
        RolePolicy::parse("mine.toml", &toml).unwrap_err().to_string(),
        format!(
            "role policy `mine.toml` cannot be used:\
             \n  line {role}: role `owner`: `title` is missing\
             \n  line {head}: permission `seats_read`: missing; say yes or no for every role\
             \n  line {seats}: permission `seats_reed`: unknown\
             \n  line {audit}: role `boss`, permission `audit_log_read`: unknown role\
             \n  line {audit}: role `member`, permission `audit_log_read`: not said\
             \n  line {audit}: role `owner`, permission `audit_log_read`: \
             is no, but `admin` has it and this is the top role"
        )
    );
}

#[test]
fn what_is_not_toml_says_so_and_where() {
    let found = faults(&edited(&[("name = \"owner-billing\"", "name = ")]));
    assert_eq!(found.len(), 1);
    assert!(found[0].text.starts_with("not TOML: "), "{}", found[0]);
    assert_eq!(found[0].line, 7);
    let twice = texts(&[(ROW_AUDIT, &format!("{ROW_AUDIT}\n{ROW_AUDIT}"))]);
    assert_eq!(twice, ["not TOML: duplicate key"]);
}

#[test]
fn an_empty_file_says_what_a_policy_needs() {
    let found: Vec<_> = faults("").iter().map(ToString::to_string).collect();
    assert_eq!(found, ["line 1: `name` is missing", "line 1: no role: say at least one in [[roles]]"]);
    let found: Vec<_> = faults("name = ''\nroles = 3").into_iter().map(|fault| fault.text).collect();
    assert_eq!(
        found,
        [
            "`name` must be a text that is not empty",
            "no role: say at least one in [[roles]]",
            "`roles` must be written as [[roles]]"
        ]
    );
}

#[test]
fn unknown_keys_are_faults() {
    assert_eq!(
        texts(&[("name = \"owner-billing\"", "name = \"x\"\nkind = 1"), (MEMBER, &format!("{MEMBER}\ntop = false"))]),
        [
            "unknown key `kind`; there are name, custom_roles, roles, permissions, invites, changes, removes",
            "role `member`: unknown key `top`; there are role, title, description"
        ]
    );
}

#[test]
fn roles_are_said_once_and_well_formed() {
    let again = format!("{MEMBER}\ndescription = \"Again.\"\n\n{MEMBER}");
    assert_eq!(texts(&[(MEMBER, &again)]), ["role `member`: said twice"]);

    let form = "malformed; a role is at most 40 lower case letters, digits and `_`, a letter first";
    let long = "a".repeat(41);
    let mut sketch = Sketch::of(&preset("owner-billing"));
    for name in ["Owner", "9lives", "_x", "billing-admin", "ö", " a", &long] {
        name.clone_into(&mut sketch.roles[1]);
        let found: Vec<_> = faults(&sketch.toml()).into_iter().map(|fault| fault.text).collect();
        assert_eq!(found, [format!("role `{name}`: {form}")]);
    }
    for name in ["a", "x_9", &long[1..]] {
        name.clone_into(&mut sketch.roles[1]);
        assert_eq!(RolePolicy::parse("", &sketch.toml()).unwrap().default_successor().name, name);
    }
}

#[test]
fn a_permission_says_yes_or_no_and_nothing_else() {
    assert_eq!(
        texts(&[
            (ROW_AUDIT, "audit_log_read = true"),
            (ROW_LEAVE, "organization_leave = { owner = true, admin = \"yes\", member = true }"),
        ]),
        [
            "role `admin`, permission `organization_leave`: must be true or false",
            "permission `audit_log_read`: must be { role = true or false }",
        ]
    );
    let missing = PRESETS[0].1.split("[permissions]").next().unwrap();
    assert_eq!(faults(missing)[0].text, "[permissions] is missing");
}

#[test]
fn lists_name_known_roles_once() {
    let invites =
        INVITES.replace("admin = [\"admin\", \"member\"]", "admin = [\"admin\", \"admin\", \"boss\", 3]\nchief = []");
    assert_eq!(
        texts(&[(INVITES, &invites)]),
        [
            "role `admin`, [invites]: lists `admin` twice",
            "role `admin`, [invites]: lists unknown role `boss`",
            "role `admin`, [invites]: must be a list of roles",
            "role `chief`, [invites]: unknown role",
        ]
    );
    let head = PRESETS[0].1.split("# The roles to which").next().unwrap();
    let found = faults(&head.replacen("name =", "invites = 1\nname =", 1));
    assert_eq!(found[0].text, "`invites` must be a table");
}

#[test]
fn a_power_and_its_permission_go_together() {
    assert_eq!(
        texts(&[
            (INVITES, &format!("{INVITES}\nmember = [\"member\"]")),
            (CHANGES, CHANGES.split("\nadmin").next().unwrap()),
            (REMOVES, &format!("{REMOVES}\nmember = [\"member\"]")),
        ]),
        [
            "role `admin`, permission `members_change_role`: is yes, but [changes] lists no role for it",
            "role `member`, [invites]: lists roles, but the role has no `members_invite`",
            "role `member`, [removes]: lists roles, but the role has no `members_remove` or `members_suspend`",
        ]
    );
    assert_eq!(
        texts(&[(REMOVES, REMOVES.split("\nadmin").next().unwrap())]),
        [
            "role `admin`, permission `members_remove`: is yes, but [removes] lists no role for it",
            "role `admin`, permission `members_suspend`: is yes, but [removes] lists no role for it",
        ]
    );
    let suspend = "members_suspend        = { owner = true,  admin = true,  member = false }";
    let only_removes = edited(&[(suspend, "members_suspend = { owner = true, admin = false, member = false }")]);
    assert!(RolePolicy::parse("", &only_removes).is_ok(), "a role may remove and not suspend");
}

#[test]
fn a_change_needs_two_roles() {
    let changes = CHANGES.replace("admin = [\"admin\", \"member\"]", "admin = [\"member\"]");
    assert_eq!(
        texts(&[(CHANGES, &changes)]),
        ["role `admin`, [changes]: lists one role, so there is nothing to change it to"]
    );
}

#[test]
fn the_top_role_lacks_nothing() {
    let invites = INVITES.replace("owner = [\"owner\", \"admin\", \"member\"]", "owner = [\"owner\", \"member\"]");
    assert_eq!(
        texts(&[(ROW_LEAVE, &ROW_LEAVE.replace("owner = true", "owner = false")), (INVITES, &invites)]),
        [
            "role `owner`, permission `organization_leave`: is no, but `admin` has it and this is the top role",
            "role `owner`, permission `organization_leave`: is no, but `member` has it and this is the top role",
            "role `owner`, [invites]: does not list `admin`, but `admin` does and this is the top role",
        ]
    );
}

#[test]
fn nobody_grants_what_they_may_not_hold() {
    assert_eq!(
        texts(&[(ROW_LEAVE, &ROW_LEAVE.replace("admin = true", "admin = false"))]),
        ["role `admin`, permission `organization_leave`: is no, but `member` has it and this role may grant `member`"]
    );
    // Members who invite admins, below admins who may not invite admins: each side would lift the other past itself.
    let toml = PRESETS[3].1.replace("[invites]", "[invites]\nmember = [\"admin\"]");
    let toml = toml.replace(
        "members_invite         = { owner = true,  admin = true,  member = false }",
        "members_invite = { owner = true, admin = true, member = true }",
    );
    let found: Vec<_> = faults(&toml).into_iter().map(|fault| fault.text).collect();
    for text in [
        "role `member`, permission `audit_log_read`: is no, but `admin` has it and this role may grant `admin`",
        "role `member`, [invites]: does not list `member`, but `admin` does and this role may grant `admin`",
        "role `member`, [removes]: does not list `member`, but `admin` does and this role may grant `admin`",
        "role `admin`, [invites]: does not list `admin`, but `member` does and this role may grant `member`",
    ] {
        assert!(found.contains(&text.to_owned()), "{text} is not in {found:#?}");
    }
}

#[test]
fn the_top_role_can_be_handed_on_and_by_nobody_else() {
    let never = ROW_TRANSFER.replace("owner = true", "owner = false");
    let stuck = |list: &str| list.replace("\"owner\", ", "");
    assert_eq!(
        texts(&[(ROW_TRANSFER, &never), (INVITES, &stuck(INVITES)), (CHANGES, &stuck(CHANGES))]),
        ["role `owner`, permission `ownership_transfer`: is no, and [invites] and [changes] do not list it for \
          itself, so nobody could ever take over"]
    );
    assert!(RolePolicy::parse("", &edited(&[(ROW_TRANSFER, &never)])).is_ok(), "promotion is a way too");
    assert_eq!(
        texts(&[(ROW_TRANSFER, &ROW_TRANSFER.replace("admin = false", "admin = true"))]),
        ["role `admin`, permission `ownership_transfer`: is yes, but only the top role hands itself on"]
    );
}

/// A policy as plain tables, to write variants of it.
#[derive(Clone, Debug)]
struct Sketch {
    roles: Vec<String>,
    yes: BTreeSet<(Permission, usize)>,
    reach: BTreeSet<(&'static str, usize, usize)>,
}

impl Sketch {
    fn of(policy: &RolePolicy) -> Self {
        let mut sketch = Self { roles: Vec::new(), yes: BTreeSet::new(), reach: BTreeSet::new() };
        for (at, role) in policy.roles().enumerate() {
            sketch.roles.push(role.name.to_string());
            sketch.yes.extend(role.permissions().map(|permission| (permission, at)));
            for (to, other) in policy.roles().enumerate() {
                let other = other.name.as_str();
                let reached = [
                    ("invites", role.invites(other)),
                    ("changes", role.changes(other)),
                    ("removes", role.removes(other)),
                ];
                sketch.reach.extend(reached.into_iter().filter(|(_, yes)| *yes).map(|(key, _)| (key, at, to)));
            }
        }
        sketch
    }

    fn toml(&self) -> String {
        let mut toml = "name = 'sketch'\n".to_owned();
        for role in &self.roles {
            write!(toml, "[[roles]]\nrole = '{role}'\ntitle = 'T'\ndescription = 'D'\n").unwrap();
        }
        for permission in permission::all() {
            writeln!(toml, "[permissions.{}]", permission::name(permission)).unwrap();
            for (at, role) in self.roles.iter().enumerate() {
                writeln!(toml, "'{role}' = {}", self.yes.contains(&(permission, at))).unwrap();
            }
        }
        for key in ["invites", "changes", "removes"] {
            writeln!(toml, "[{key}]").unwrap();
            for (at, role) in self.roles.iter().enumerate() {
                let reached = self.reach.iter().filter(|(power, from, _)| *power == key && *from == at);
                let reached: Vec<_> = reached.map(|(_, _, to)| &self.roles[*to]).collect();
                writeln!(toml, "'{role}' = {reached:?}").unwrap();
            }
        }
        toml
    }

    fn flip(&mut self, what: usize, from: usize, to: usize) {
        let (from, to) = (from % self.roles.len(), to % self.roles.len());
        let cells: Vec<_> = permission::all().collect();
        let powers = ["invites", "changes", "removes"];
        match cells.get(what) {
            Some(permission) => toggle(&mut self.yes, (*permission, from)),
            None => toggle(&mut self.reach, (powers[what % powers.len()], from, to)),
        }
    }
}

fn toggle<T: Ord>(set: &mut BTreeSet<T>, entry: T) {
    if let Some(entry) = set.replace(entry) {
        set.remove(&entry);
    }
}

/// Presets with a few cells turned: most of them just right or just wrong.
fn nearly_a_preset() -> impl Strategy<Value = Sketch> {
    let flips = prop::collection::vec((0..36_usize, 0..4_usize, 0..4_usize), 0..4);
    (0..PRESETS.len(), flips).prop_map(|(at, flips)| {
        let mut sketch = Sketch::of(&preset(PRESETS[at].0));
        for (what, from, to) in flips {
            sketch.flip(what, from, to);
        }
        sketch
    })
}

fn has_all_of(role: &RoleDefinition, other: &RoleDefinition) -> bool {
    let has = other.permissions().all(|permission| role.allows(permission));
    has && other.invitable().all(|name| role.invites(name.as_str()))
        && other.changeable().all(|name| role.changes(name.as_str()))
        && other.removable().all(|name| role.removes(name.as_str()))
}

proptest! {
    #[test]
    fn whoever_may_grant_a_role_has_all_of_it(sketch in nearly_a_preset()) {
        let Ok(policy) = RolePolicy::parse("", &sketch.toml()) else { return Ok(()) };
        for role in policy.roles() {
            for grantor in policy.grantors(None, role.name.as_str()) {
                prop_assert!(has_all_of(grantor, role));
            }
            for from in policy.roles() {
                for grantor in policy.grantors(Some(from.name.as_str()), role.name.as_str()) {
                    prop_assert!(has_all_of(grantor, role));
                }
            }
        }
    }

    #[test]
    fn the_top_role_has_all_that_any_role_has(sketch in nearly_a_preset()) {
        let Ok(policy) = RolePolicy::parse("", &sketch.toml()) else { return Ok(()) };
        prop_assert!(policy.roles().all(|role| has_all_of(policy.top_role(), role)));
    }

    #[test]
    fn what_loads_is_what_was_written(sketch in nearly_a_preset()) {
        let Ok(policy) = RolePolicy::parse("", &sketch.toml()) else { return Ok(()) };
        prop_assert_eq!(Sketch::of(&policy).toml(), sketch.toml());
    }

    #[test]
    fn roles_that_only_take_away_from_one_another_load(
        taken in prop::collection::vec((0..27_usize, 1..3_usize), 0..30),
    ) {
        let mut sketch = Sketch::of(&preset("shared-billing"));
        sketch.reach.retain(|(_, from, _)| *from == 0);
        let managing = [Permission::MembersInvite, Permission::MembersChangeRole, Permission::MembersRemove,
            Permission::MembersSuspend, Permission::OwnershipTransfer];
        sketch.yes.retain(|(permission, at)| *at == 0 || !managing.contains(permission));
        for (what, from) in taken {
            let permission = permission::all().nth(what).unwrap();
            sketch.yes.retain(|(other, at)| *other != permission || *at < from);
        }
        let loaded = RolePolicy::parse("", &sketch.toml());
        prop_assert!(loaded.is_ok(), "{}", loaded.unwrap_err());
    }

    #[test]
    fn no_text_makes_reading_fall_over(cut in 0..4000_usize, junk in "[\\PC\n]{0,30}") {
        let mut toml = PRESETS[0].1.to_owned();
        let at = (0..=cut.min(toml.len())).rev().find(|at| toml.is_char_boundary(*at)).unwrap_or(0);
        toml.insert_str(at, &junk);
        let _ = RolePolicy::parse("", &toml);
        let _ = RolePolicy::parse("", &junk);
    }
}

#[test]
fn every_preset_lets_organizations_define_roles_and_a_file_that_does_not_say_does_not() {
    for name in presets() {
        assert!(preset(name).custom_roles(), "{name}");
        let top = preset(name).top_role().name.to_string();
        assert_eq!(row(&preset(name), Permission::RolesManage), [top], "{name}");
    }
    let said = "custom_roles = true\n";
    assert!(!RolePolicy::parse("", &edited(&[(said, "")])).unwrap().custom_roles());
    assert!(!RolePolicy::parse("", &edited(&[(said, "custom_roles = false\n")])).unwrap().custom_roles());
    assert_eq!(texts(&[(said, "custom_roles = \"yes\"\n")]), ["`custom_roles` must be true or false"]);
}
