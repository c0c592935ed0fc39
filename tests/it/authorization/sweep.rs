//! Every RPC, called by everybody. The RPCs come from the contract itself, so that none can be forgotten.
//!
//! What the server really did with the roles of each preset is a golden file, `tests/it/snapshots/permissions-*.txt`, so
//! that a change of it is seen in review. `TENANTRY_BLESS=1` writes it anew.

use std::fmt::Write as _;
use std::{env, fs};

use prost_reflect::Value;
use tonic::{Code, Status};

use super::design::{GUARDED_ADMIN, Need, OWNER_BILLING, Preset, SHARED_BILLING, SPLIT_ADMIN, need};
use crate::harness::methods::{Method, methods};
use crate::harness::person::{Identity, Person};
use crate::harness::refused::{Refused, refused};
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};
use tenantry::pb;

const NOWHERE: &str = "0198c1d2-7b7e-7cc3-98c4-dc0c0c07398f";

database_tests! {
    async fn owner_billing_lets_everybody_do_what_they_may_and_no_more(backend: Backend) {
        sweep(backend, OWNER_BILLING).await;
    }

    async fn shared_billing_lets_everybody_do_what_they_may_and_no_more(backend: Backend) {
        sweep(backend, SHARED_BILLING).await;
    }

    async fn split_admin_lets_everybody_do_what_they_may_and_no_more(backend: Backend) {
        sweep(backend, SPLIT_ADMIN).await;
    }

    async fn guarded_admin_lets_everybody_do_what_they_may_and_no_more(backend: Backend) {
        sweep(backend, GUARDED_ADMIN).await;
    }
}

async fn sweep(backend: Backend, preset: Preset) {
    let stage = Stage::set(backend, preset).await;
    let did = stage.table().await;
    compare(&stage.preset, &did);
    stage.every_claim_beside_every_stored_role().await;
    stage.no_role_claimed_by_a_service_that_acts_for_a_user().await;
    stage.no_organization_in_the_identity().await;
    stage.another_organization_than_the_own_one().await;
    stage.an_organization_that_one_is_no_member_of().await;
    stage.services_and_nobody().await;
    stage.world.end().await;
}

/// An RPC, or one about oneself, or one about another.
struct Procedure {
    method: Method,
    /// The user whom it is about, where the RPC needs more of who asks about others.
    about: Option<About>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Oneself,
    Another,
}

fn procedures() -> Vec<Procedure> {
    let mut procedures = Vec::new();
    for method in methods() {
        let requires = method.requires().unwrap_or_else(|| panic!("{} needs nothing of its caller?", method.name()));
        if requires.permission_for_others == 0 {
            procedures.push(Procedure { method, about: None });
        } else {
            assert!(method.takes("user_id"), "{}: whom is it about?", method.name());
            procedures.push(Procedure { method: method.clone(), about: Some(About::Oneself) });
            procedures.push(Procedure { method, about: Some(About::Another) });
        }
    }
    procedures.sort_by_key(Procedure::name);
    procedures
}

impl Procedure {
    fn name(&self) -> String {
        let suffix = if self.about == Some(About::Another) { " of another" } else { "" };
        format!("{}{suffix}", self.method.name())
    }

    /// Whether it concerns one organization, in which the caller acts.
    fn is_scoped(&self) -> bool {
        self.method.takes("organization_id") && need(&self.name()).0 != Need::User
    }

    /// As little as can be said: whoever may call it hears what is missing, and nothing is changed.
    fn request(&self, caller: &Person, organization_id: &str) -> Vec<u8> {
        let mut fields =
            vec![("organization_id", Value::String(organization_id.to_owned())), ("validate_only", Value::Bool(true))];
        let user_id = match self.about {
            None => "",
            Some(About::Oneself) => &caller.name,
            Some(About::Another) => "somebody-else",
        };
        if !user_id.is_empty() {
            fields.push(("user_id", Value::String(user_id.to_owned())));
        }
        self.method.request(&fields)
    }

    async fn call(&self, caller: &Person, organization_id: &str) -> Result<(), Status> {
        self.method.call(caller, self.request(caller, organization_id)).await
    }

    /// Why the caller may not, if that is so. Any refusal for another reason means that they may.
    async fn denial(&self, caller: &Person, organization_id: &str) -> Option<Refused> {
        let refusal = refused(&self.call(caller, organization_id).await.err()?);
        match refusal.code {
            Code::PermissionDenied | Code::Unauthenticated => Some(refusal),
            Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition => None,
            _ => panic!("{}: {refusal:?}", self.name()),
        }
    }
}

/// An organization with somebody in each role, and others that are none of their business.
struct Stage {
    world: World,
    preset: Preset,
    /// By role, the top role first.
    people: Vec<Person>,
    ours: String,
    /// Another organization, one that is deleted, and one that never was.
    foreign: [String; 3],
    procedures: Vec<Procedure>,
}

impl Stage {
    async fn set(backend: Backend, preset: Preset) -> Self {
        let setup = Setup { policy: preset.name.into(), plans: Some(plans_with_seats(20)), ..Setup::default() };
        let world = World::with(backend, setup).await;
        let founder = world.person("founder").founds("Ours").await;
        assert_eq!(founder.role, preset.top());
        let mut people = vec![founder.clone()];
        for role in preset.roles().skip(1) {
            let newcomer = founder.brings(&role.replace('_', "-"), "member").await;
            if role != "member" {
                founder.tries_to_change_role(&newcomer.name, role).await.expect("the role changed");
            }
            people.push(newcomer.acting_in(&founder.organization_id, role));
        }
        let stranger = world.person("stranger");
        let theirs = stranger.founds("Theirs").await.organization_id;
        let deleted = stranger.founds("Deleted").await;
        let request =
            pb::DeleteOrganizationRequest { organization_id: deleted.organization_id.clone(), ..Default::default() };
        deleted.organizations().delete_organization(request).await.expect("deleted");
        let foreign = [theirs, deleted.organization_id, NOWHERE.to_owned()];
        Self { world, preset, people, ours: founder.organization_id, foreign, procedures: procedures() }
    }

    /// What the server really does, RPC by RPC and role by role.
    async fn table(&self) -> String {
        let nowhere: Vec<Person> = vec![
            self.world.person("founder"),
            self.world.service("backend"),
            Person { identity: Identity::default(), ..self.world.person("nobody") },
        ];
        let heads = ["no organization", "service", "nobody"];
        let mut table = format!("{:<48}", "");
        for head in self.preset.roles().chain(heads) {
            write!(table, " {head:<15}").expect("written");
        }
        for procedure in &self.procedures {
            table.truncate(table.trim_end().len());
            write!(table, "\n{:<48}", procedure.name()).expect("written");
            for caller in self.people.iter().chain(&nowhere) {
                let denial = procedure.denial(caller, &self.ours).await;
                write!(table, " {:<15}", if denial.is_none() { "yes" } else { "-" }).expect("written");
            }
        }
        format!("{}\n", table.trim_end())
    }

    /// A role may only open the gate; the stored one must allow it too, and it is the stored one that counts.
    async fn every_claim_beside_every_stored_role(&self) {
        for procedure in &self.procedures {
            let name = procedure.name();
            for person in &self.people {
                for claimed in self.preset.roles() {
                    let caller = person.acting_in(&self.ours, claimed);
                    let denial = procedure.denial(&caller, &self.ours).await;
                    let what = format!("{name} by a {} who claims {claimed}: {denial:?}", person.role);
                    // The gate asks only for what everybody needs who calls it about anybody.
                    let gate = self.preset.allows(claimed, &procedure.method.name());
                    let stored = self.preset.allows(&person.role, &name);
                    let Some(denial) = denial else {
                        assert!(gate && stored, "{what}");
                        continue;
                    };
                    assert_eq!(denial.code, Code::PermissionDenied, "{what}");
                    let told = (denial.reason.as_str(), denial.metadata.get("role").map(String::as_str));
                    match need(&name).0 {
                        Need::User => panic!("{what}"),
                        Need::Service => assert_eq!(told, ("SERVICE_REQUIRED", None), "{what}"),
                        _ if !gate => assert_eq!(told, ("ROLE_LACKS_PERMISSION", Some(claimed)), "{what}"),
                        _ if claimed == person.role => {
                            assert!(!stored, "{what}");
                            assert_eq!(told, ("ROLE_LACKS_PERMISSION", Some(claimed)), "{what}");
                        }
                        _ => {
                            assert!(!stored, "{what}");
                            assert_eq!(told, ("ROLE_STALE", Some(person.role.as_str())), "{what}");
                            assert_eq!(denial.metadata["claimed_role"], claimed, "{what}");
                        }
                    }
                }
            }
        }
    }

    /// Who acts for somebody else need not know the role; the stored one decides alone.
    async fn no_role_claimed_by_a_service_that_acts_for_a_user(&self) {
        for person in &self.people {
            let mut caller = person.clone();
            caller.identity.0.retain(|(key, _)| *key != "x-org-role");
            caller.identity.0.push(("x-service", "backend".into()));
            for procedure in &self.procedures {
                let denial = procedure.denial(&caller, &self.ours).await;
                let what = format!("{} for a {}: {denial:?}", procedure.name(), person.role);
                let allowed = self.preset.allows(&person.role, &procedure.name());
                assert_eq!(denial.is_none(), allowed, "{what}");
                let reason = denial.map(|denial| denial.reason);
                match need(&procedure.name()).0 {
                    _ if allowed => {}
                    Need::Service => assert_eq!(reason.as_deref(), Some("SERVICE_REQUIRED"), "{what}"),
                    _ => assert_eq!(reason.as_deref(), Some("ROLE_LACKS_PERMISSION"), "{what}"),
                }
            }
        }
    }

    async fn no_organization_in_the_identity(&self) {
        let caller = self.world.person("founder");
        for procedure in &self.procedures {
            let denial = procedure.denial(&caller, &self.ours).await.map(|denial| denial.reason);
            let expected = match need(&procedure.name()).0 {
                Need::User => None,
                Need::Service => Some("SERVICE_REQUIRED"),
                Need::Whole(_) | Need::Part(_) | Need::Any(..) => Some("ORGANIZATION_REQUIRED"),
            };
            assert_eq!(denial.as_deref(), expected, "{}", procedure.name());
        }
    }

    /// The identity is of one's own organization, the request names another: whatever that may be, the answer is the same.
    async fn another_organization_than_the_own_one(&self) {
        let garbage = ["", "acme", "00000000-0000-0000-0000-000000000000"].map(str::to_owned);
        for (rank, caller) in self.people.iter().enumerate() {
            for procedure in self.procedures.iter().filter(|procedure| procedure.is_scoped()) {
                let mut answers = Vec::new();
                for foreign in self.foreign.iter().chain(garbage.iter().filter(|_| rank == 0)) {
                    let status = procedure.call(caller, foreign).await.expect_err(foreign);
                    answers.push((foreign, bytes(&status)));
                }
                let (_, first) = &answers[0];
                let what = format!("{} by a {}: {:?}", procedure.name(), caller.role, first.0);
                let gate = self.preset.allows(&caller.role, &procedure.method.name());
                let expected = match need(&procedure.name()).0 {
                    Need::Service => "SERVICE_REQUIRED",
                    _ if gate => "ORGANIZATION_MISMATCH",
                    _ => "ROLE_LACKS_PERMISSION",
                };
                assert_eq!(first.0.is(), (Code::PermissionDenied, expected), "{what}");
                for (foreign, other) in &answers[1..] {
                    assert_eq!(first, other, "{what}, and the answer for {foreign:?} tells them apart");
                }
            }
        }
    }

    /// The identity itself is of another organization, with its top role: the stored membership is missing there.
    async fn an_organization_that_one_is_no_member_of(&self) {
        for procedure in self.procedures.iter().filter(|procedure| procedure.is_scoped()) {
            let mut answers = Vec::new();
            for foreign in &self.foreign {
                let caller = self.people[0].acting_in(foreign, self.preset.top());
                let status = procedure.call(&caller, foreign).await.expect_err(foreign);
                answers.push(bytes(&status));
            }
            let first = &answers[0];
            let name = procedure.name();
            let expected = match need(&name).0 {
                Need::Service => "SERVICE_REQUIRED",
                _ if self.preset.allows(self.preset.top(), &name) => "NOT_A_MEMBER",
                _ => "ROLE_LACKS_PERMISSION",
            };
            assert_eq!(first.0.is(), (Code::PermissionDenied, expected), "{name}");
            for other in &answers[1..] {
                assert_eq!(first, other, "{name} tells what exists from what does not");
            }
        }
    }

    async fn services_and_nobody(&self) {
        let service = self.world.service("backend");
        let nobody = Person { identity: Identity::default(), ..self.world.person("nobody") };
        for procedure in &self.procedures {
            let name = procedure.name();
            for organization_id in [&self.ours, &self.foreign[0], &self.foreign[2]] {
                let denial = procedure.denial(&service, organization_id).await;
                let expected = (!need(&name).1).then_some((Code::PermissionDenied, "USER_REQUIRED"));
                assert_eq!(denial.as_ref().map(Refused::is), expected, "{name} by a service");
            }
            let denial = procedure.denial(&nobody, &self.ours).await;
            let expected = (Code::Unauthenticated, "IDENTITY_MISSING");
            assert_eq!(denial.as_ref().map(Refused::is), Some(expected), "{name} by nobody");
        }
    }
}

/// All of a refusal that a client can see, save what differs from call to call without a meaning: the call's own id, the
/// time of day, and the order of the entries of a map.
fn bytes(status: &Status) -> (Refused, Vec<u8>, Vec<String>) {
    let headers = status.metadata().clone().into_headers();
    let told = headers.iter().filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()));
    let mut told: Vec<String> = told.map(|header| format!("{header:?}")).collect();
    told.sort();
    let mut details = status.details().to_vec();
    details.sort_unstable();
    (refused(status), details, told)
}

/// The table is the golden one, and the golden one is what DESIGN.md says.
fn compare(preset: &Preset, did: &str) {
    let path = format!("{}/tests/it/snapshots/permissions-{}.txt", env!("CARGO_MANIFEST_DIR"), preset.name);
    if env::var_os("TENANTRY_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, did).expect("the golden file can be written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(did, golden, "{path} says otherwise than the server did; TENANTRY_BLESS=1 writes it anew");
    let mut lines = golden.lines();
    let roles: Vec<&str> = lines.next().expect("a head").split_whitespace().take(preset.roles().count()).collect();
    assert_eq!(roles, preset.roles().collect::<Vec<_>>());
    for line in lines {
        let (name, cells) = line.split_at(48);
        let (name, mut cells) = (name.trim(), cells.split_whitespace());
        for role in &roles {
            let expected = if preset.allows(role, name) { "yes" } else { "-" };
            assert_eq!(cells.next(), Some(expected), "{}: {name} by a {role}, as DESIGN.md wants it", preset.name);
        }
        let (need, service) = need(name);
        let expected = [need == Need::User, service, false].map(|yes| if yes { "yes" } else { "-" });
        assert_eq!(cells.collect::<Vec<_>>(), expected, "{}: {name} without a role", preset.name);
    }
}
