//! What the contract promises of itself: each RPC says what it needs, each refusal has a reason that is documented and
//! tested, and requests of one kind look alike.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tenantry::auth::permission::{Requirement, requirement};
use tenantry::pb::{ErrorReason, Permission};

use crate::harness::methods::{Method, POOL, comment, methods, reasons};

/// The table that the build made of the options, as it stands in the gate.
const TABLE: &str = include_str!(concat!(env!("OUT_DIR"), "/requirements.rs"));

/// The reasons that no test can call forth yet, and why. At present every one can.
const BEYOND_TESTS: &[(&str, &str)] = &[];

#[test]
fn every_rpc_says_what_it_needs_and_the_gate_asks_for_just_that() {
    for method in methods() {
        let said = method.requires().unwrap_or_else(|| panic!("{} says nothing", method.name()));
        let permission = |number: i32| (number != 0).then(|| Permission::try_from(number).expect("a permission"));
        let path = method.path();
        let (service, name) = path.rsplit_once('/').expect("a path of two parts");
        let expected = Requirement {
            rpc: (service.rsplit('.').next().expect("a name").to_owned().leak(), name.to_owned().leak()),
            permission: permission(said.permission),
            permission_for_others: permission(said.permission_for_others),
            user: said.user,
            service: said.service,
            streams: method.streams(),
        };
        assert_eq!(requirement(&method.path()), Some(expected), "{}", method.name());
        assert!(said.permission != 0 || said.user || said.service, "{}: nobody could call it", method.name());
        assert!(said.user || !said.newcomer, "{}: a newcomer is a user", method.name());
    }
    assert_eq!(TABLE.matches("=> Some(Requirement").count(), methods().len(), "the gate has an RPC too many");
    assert_eq!(requirement("/tenantry.v1.OrganizationService/Nothing"), None);
}

#[test]
fn the_rpcs_of_the_design_are_there() {
    let there: BTreeSet<String> = methods().iter().map(Method::name).collect();
    let of_design = [
        (
            "OrganizationService",
            "CreateOrganization EnsureDefaultOrganization GetOrganization ListOrganizations UpdateOrganization \
             DeleteOrganization UndeleteOrganization GetOrganizationSettings UpdateOrganizationSettings \
             GetOrganizationOverview QueryAnalytics",
        ),
        (
            "WorkspaceService",
            "CreateWorkspace GetWorkspace ListWorkspaces UpdateWorkspace DeleteWorkspace ListWorkspaceMembers \
             SetMemberWorkspaces",
        ),
        (
            "MembershipService",
            "InviteMembers GetInvitation ListInvitations ResendInvitation CancelInvitations AcceptInvitation \
             DeclineInvitation ListReceivedInvitations GetMember ListMembers UpdateMemberRole BatchUpdateMemberRoles \
             RemoveMember BatchRemoveMembers SuspendMember ReactivateMember LeaveOrganization TransferOwnership \
             RecordSignIn ListRoles CheckPermissions",
        ),
        (
            "BillingService",
            "ListPlans GetSubscription GetSeatUsage PreviewSubscriptionChange UpdateSubscription CancelScheduledChange \
             CancelSubscription ResumeSubscription GetBillingProfile UpdateBillingProfile AddPaymentMethod \
             ListPaymentMethods SetDefaultPaymentMethod RemovePaymentMethod ListInvoices GetInvoice DownloadInvoice \
             RecordPayment ReportUsage GetUsage CheckEntitlement",
        ),
        ("ClockService", "GetTime AdvanceTime"),
    ];
    for (service, names) in of_design {
        for name in names.split_whitespace() {
            assert!(there.contains(&format!("{service}/{name}")), "{service}/{name} is missing");
        }
    }
}

#[test]
fn requests_of_one_kind_look_alike() {
    for method in methods() {
        let (name, input) = (method.name(), method.0.input());
        let said = method.requires().unwrap_or_else(|| panic!("{name} says nothing"));
        let concerns_one = input.get_field(1).is_some_and(|field| field.name() == "organization_id");
        assert_eq!(concerns_one, method.takes("organization_id"), "{name}: it is field 1");
        // Those of services alone may be about one: to find out which is what some of them are for.
        if said.permission != 0 || said.user {
            assert_eq!(concerns_one, said.permission != 0 || said.newcomer, "{name}");
        }
        // The clock of tests is no resource: it moves as often as it is told.
        let changes = !method.reads() && name != "ClockService/AdvanceTime";
        for field in ["request_id", "validate_only"] {
            assert_eq!(method.takes(field), changes, "{name}: {field}");
        }
        // What the operator has configured is a handful, and so is what has a maximum.
        let handful = [
            "MembershipService/ListRoles",
            "MembershipService/ListJoinableOrganizations",
            "OrganizationService/ListDomains",
            "BillingService/ListPlans",
            "BillingService/ListPaymentMethods",
            "WebhookService/ListWebhookEndpoints",
        ];
        // A recount of all organizations goes on page by page, too.
        let pages = method.0.name().starts_with("List") && !handful.contains(&name.as_str())
            || name == "BillingService/CheckInvariants";
        for field in ["page_size", "page_token"] {
            assert_eq!(method.takes(field), pages, "{name}: {field}");
        }
        let tokens = method.0.output().get_field_by_name("next_page_token").is_some();
        assert_eq!(tokens, pages, "{name}: next_page_token");
    }
}

#[test]
fn every_reason_is_documented_with_the_code_that_it_comes_with() {
    let documented = reasons();
    for value in POOL.get_enum_by_name("tenantry.v1.ErrorReason").expect("the reasons").values() {
        let reason = value.name().strip_prefix("ERROR_REASON_").expect("a name by the rules");
        assert_eq!(documented.contains_key(reason), value.number() != 0, "{reason} says with which code it comes");
        assert!(reason.len() <= 63, "{reason} is too long for ErrorInfo");
        assert_eq!(ErrorReason::try_from(value.number()).expect("a reason").as_str_name(), value.name());
    }
}

#[test]
fn what_an_rpc_says_to_refuse_with_is_a_reason() {
    let documented = reasons();
    let mut named = 0;
    for method in methods() {
        let comment = comment(&method.0.parent_file(), method.0.path());
        let Some((_, refusals)) = comment.split_once("Refuses ") else { continue };
        let shouted = |word: &&str| word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        for word in refusals.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(shouted) {
            assert!(documented.contains_key(word), "{}: there is no reason {word}", method.name());
            named += 1;
        }
    }
    assert!(named > 50, "the comments are not where they are looked for: {named}");
}

#[test]
fn every_reason_is_called_forth_by_a_test() {
    let mut sources = String::new();
    read_all(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")), &mut sources);
    let tested = |reason: &str| sources.contains(&format!("\"{reason}\""));
    let beyond: Vec<&str> = BEYOND_TESTS.iter().map(|(reason, _)| *reason).collect();
    let documented = reasons();
    let missing: Vec<&String> =
        documented.keys().filter(|reason| !tested(reason) && !beyond.contains(&reason.as_str())).collect();
    assert!(missing.is_empty(), "no test asserts {missing:?}");
    for reason in beyond {
        assert!(documented.contains_key(reason), "{reason} is no reason any more");
        assert!(!tested(reason), "a test asserts {reason}, so it is not beyond them: take it out of the list");
    }
}

/// All the tests' sources but this one, which names reasons without calling them forth.
fn read_all(directory: &Path, sources: &mut String) {
    for entry in fs::read_dir(directory).expect("the tests' sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("contract.rs") {
            sources.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}
