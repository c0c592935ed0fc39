//! Domains: claimed, proved by a record in the domain name system, opened to those who have an address of them, given up.

use std::time::Duration;

use tenantry::dns::{Dns, Source};
use tenantry::pb::{self, DomainState, JoinMode};
use tonic::Code;

use crate::harness::domains::{Joined, updating};
use crate::harness::name_server::{Manner, NameServer};
use crate::harness::person::{Person, answer};
use crate::harness::race::{at_once, spread};
use crate::harness::refused::Refused;
use crate::harness::replay::replay;
use crate::harness::world::{Setup, World, roomy};
use crate::harness::{Backend, database_tests};

const MISSING: (Code, &str) = (Code::NotFound, "DOMAIN_NOT_FOUND");
const UNPROVED: (Code, &str) = (Code::FailedPrecondition, "DOMAIN_PROOF_NOT_FOUND");
const TAKEN: (Code, &str) = (Code::AlreadyExists, "DOMAIN_TAKEN");
const AWAY: (Code, &str) = (Code::Unavailable, "DNS_UNAVAILABLE");
const WRONG: (Code, &str) = (Code::InvalidArgument, "INVALID_FIELDS");

async fn log(world: &World, owner: &Person) -> Vec<String> {
    world.events(&owner.organization_id).await.into_iter().filter(|name| name.starts_with("domain.")).collect()
}

database_tests! {
    async fn a_domain_is_claimed_proved_opened_and_given_up(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let claimed = ann.tries_to_claim(" Acme.EXAMPLE ").await.expect("claimed");
        assert_eq!(claimed.organization_id, ann.organization_id);
        assert_eq!((claimed.domain.as_str(), claimed.state()), ("acme.example", DomainState::Pending));
        assert_eq!(claimed.proof_record_name, "_tenantry-challenge.acme.example");
        assert!(claimed.proof_record_value.starts_with("tenantry-verification="), "{claimed:?}");
        assert_eq!((claimed.join_mode(), claimed.join_role.as_str()), (JoinMode::Nobody, "member"));
        assert_eq!((claimed.create_time, claimed.verify_time), (Some(world.wire_time()), None));
        // Claimed again, in another spelling, it is the same claim.
        assert_eq!(ann.tries_to_claim("ACME.example").await.as_ref(), Ok(&claimed));
        assert_eq!(log(&world, &ann).await, ["domain.claimed"]);

        let refused = ann.tries_to_verify("acme.example").await.expect_err("no record yet");
        assert_eq!(refused.is(), UNPROVED);
        assert_eq!(refused.metadata["domain"], "acme.example");
        assert_eq!(refused.metadata["record_name"], claimed.proof_record_name);
        assert_eq!(refused.metadata["record_value"], claimed.proof_record_value);
        world.sets_txt(&claimed.proof_record_name, "tenantry-verification=something-else");
        assert_eq!(ann.tries_to_verify("acme.example").await.expect_err("another record").is(), UNPROVED);
        world.sets_txt("acme.example", &claimed.proof_record_value);
        assert_eq!(ann.tries_to_verify("acme.example").await.expect_err("another name").is(), UNPROVED);
        world.pass(chrono::TimeDelta::hours(1));
        world.proves(&claimed);
        let verified = ann.tries_to_verify("Acme.Example").await.expect("verified");
        assert_eq!((verified.state(), verified.verify_time), (DomainState::Verified, Some(world.wire_time())));
        assert_ne!(verified.etag, claimed.etag);

        // Once verified it stays so, whatever becomes of the record.
        world.writes_zone("");
        assert_eq!(ann.tries_to_verify("acme.example").await.as_ref(), Ok(&verified));
        assert_eq!(ann.tries_to_claim("acme.example").await.as_ref(), Ok(&verified));
        let opened = ann.tries_to_open_domain("acme.example", JoinMode::Automatic, "admin").await.expect("opened");
        assert_eq!((opened.join_mode(), opened.join_role.as_str()), (JoinMode::Automatic, "admin"));
        assert_eq!(ann.tries_to_open_domain("acme.example", JoinMode::Automatic, "admin").await.as_ref(), Ok(&opened));
        assert_eq!(ann.domains().await.as_deref(), Ok([opened.clone()].as_slice()));

        assert_eq!(ann.tries_to_release("acme.example").await, Ok(opened));
        assert_eq!(ann.tries_to_release("acme.example").await.expect_err("gone").is(), MISSING);
        assert_eq!(ann.domains().await, Ok(Vec::new()));
        let again = ann.tries_to_claim("acme.example").await.expect("claimed anew");
        assert_ne!(again.proof_record_value, claimed.proof_record_value);
        let told = ["claimed", "verified", "updated", "released", "claimed"].map(|name| format!("domain.{name}"));
        assert_eq!(log(&world, &ann).await, told);
        replay(&world, &ann.organization_id).await;
        world.end().await;
    }

    async fn what_is_no_domain_is_refused_everywhere(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        for domain in ["", "localhost", "127.0.0.1", "a@b.com", "https://acme.example", "acme.example.", "a\0.com"] {
            for (refused, field) in [
                (ann.tries_to_claim(domain).await, "domain"),
                (ann.tries_to_verify(domain).await, "domain"),
                (ann.tries_to_open_domain(domain, JoinMode::Nobody, "").await, "domain.domain"),
                (ann.tries_to_release(domain).await, "domain"),
            ] {
                let refused = refused.expect_err(domain);
                assert_eq!((refused.is(), refused.fields.join(" ").as_str()), (WRONG, field), "{domain:?}");
            }
        }
        for refused in [
            ann.tries_to_verify("acme.example").await,
            ann.tries_to_open_domain("acme.example", JoinMode::Request, "").await,
            ann.tries_to_release("acme.example").await,
        ] {
            let refused = refused.expect_err("not claimed");
            assert_eq!((refused.is(), refused.metadata["domain"].as_str()), (MISSING, "acme.example"));
        }
        let both = ["join_mode", "join_role"];
        let wrong = |mask: &[&str], role: &str| {
            let mut request = updating("nonsense", mask, JoinMode::Unspecified, role);
            request.domain.as_mut().unwrap().join_mode = 77;
            request
        };
        let named = |mask: &[&str], mode: JoinMode, role: &str| updating("acme.example", mask, mode, role);
        for (request, faults) in [
            (wrong(&both, "emperor"), "domain.domain domain.join_mode domain.join_role"),
            (wrong(&[], "emperor"), "domain.domain update_mask"),
            (pb::UpdateDomainRequest::default(), "domain.domain update_mask"),
            (named(&both, JoinMode::Unspecified, ""), "domain.join_mode domain.join_role"),
            (named(&["join_role"], JoinMode::Unspecified, "owner"), "domain.join_role"),
            (named(&["join_mode", "state"], JoinMode::Request, ""), "update_mask"),
            (named(&["*"], JoinMode::Request, "member"), "update_mask"),
        ] {
            let told = format!("{request:?}");
            let refused = ann.tries_to_update_domain(request).await.expect_err(&told);
            assert_eq!((refused.is(), refused.fields.join(" ").as_str()), (WRONG, faults), "{told}");
        }
        assert_eq!(log(&world, &ann).await, [""; 0]);
        world.end().await;
    }

    async fn fifty_domains_are_claimed_and_listed_by_name(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        for number in (0..50).rev() {
            ann.tries_to_claim(&format!("d{number:02}.example")).await.expect("claimed");
        }
        let refused = ann.tries_to_claim("d50.example").await.expect_err("one too many");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "LIMIT_REACHED"));
        assert_eq!((refused.metadata["of"].as_str(), refused.metadata["maximum"].as_str()), ("domains", "50"));
        ann.tries_to_claim("d07.example").await.expect("claimed before");
        let names: Vec<String> = ann.domains().await.expect("listed").into_iter().map(|found| found.domain).collect();
        assert_eq!(names, (0..50).map(|number| format!("d{number:02}.example")).collect::<Vec<_>>());
        ann.tries_to_release("d07.example").await.expect("released");
        ann.tries_to_claim("d50.example").await.expect("room again");
        // Another organization has room of its own, and sees none of these.
        let zed = world.person("zed").founds("Zeta").await;
        zed.tries_to_claim("d00.example").await.expect("claimed by both");
        assert_eq!(zed.domains().await.expect("listed").len(), 1);
        world.end().await;
    }

    async fn many_claim_a_domain_and_it_is_of_the_one_that_proves_it_first(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let zed = world.person("zed").founds("Zeta").await;
        for owner in [&ann, &zed] {
            world.proves(&owner.tries_to_claim("acme.example").await.expect("claimed"));
        }
        ann.tries_to_verify("acme.example").await.expect("first");
        let refused = zed.tries_to_verify("acme.example").await.expect_err("second");
        assert_eq!((refused.is(), refused.metadata["domain"].as_str()), (TAKEN, "acme.example"));
        assert_eq!(zed.domains().await.expect("listed")[0].state(), DomainState::Pending);
        assert_eq!(log(&world, &zed).await, ["domain.claimed"]);
        // Given up, it is free.
        ann.tries_to_release("acme.example").await.expect("released");
        zed.tries_to_verify("acme.example").await.expect("verified now");
        ann.tries_to_claim("acme.example").await.expect("claimed again");
        assert_eq!(ann.tries_to_verify("acme.example").await.expect_err("by a new proof").is(), UNPROVED);
        world.end().await;
    }

    async fn only_a_verified_domain_opens_and_only_with_a_role_that_one_may_invite_to(backend: Backend) {
        let setup = Setup { policy: "guarded-admin".into(), ..roomy() };
        let world = World::with(backend, setup).await;
        let ann = world.person("ann").founds("Acme").await;
        let ada = ann.brings("ada", "admin").await;
        let bob = ann.brings("bob", "member").await;
        let claimed = ada.tries_to_claim("acme.example").await.expect("claimed");
        for mode in [JoinMode::Request, JoinMode::Automatic] {
            let refused = ada.tries_to_open_domain("acme.example", mode, "member").await.expect_err("not verified");
            assert_eq!(refused.is(), (Code::FailedPrecondition, "DOMAIN_NOT_VERIFIED"));
            assert_eq!(refused.metadata["domain"], "acme.example");
        }
        world.proves(&claimed);
        ada.tries_to_verify("acme.example").await.expect("verified");
        // Nobody joins in the top role; an admin of this policy invites members only.
        for by in [&ann, &ada] {
            let refused = by.tries_to_open_domain("acme.example", JoinMode::Request, "owner").await.expect_err("the top role");
            assert_eq!((refused.is(), refused.fields.join(" ").as_str()), (WRONG, "domain.join_role"));
        }
        for mode in [JoinMode::Nobody, JoinMode::Request, JoinMode::Automatic] {
            let refused = ada.tries_to_open_domain("acme.example", mode, "admin").await.expect_err("above");
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
            assert_eq!(refused.metadata["target_role"], "admin");
        }
        let opened = ada.tries_to_open_domain("acme.example", JoinMode::Automatic, "").await.expect("the last role");
        assert_eq!(opened.join_role, "member");
        ann.tries_to_open_domain("acme.example", JoinMode::Request, "admin").await.expect("the owner may");
        // To shut the door needs no right over the role that it was open with; to open it again does, said or not.
        let shut = ada.tries_to_open_domain("acme.example", JoinMode::Nobody, "").await.expect("shut");
        assert_eq!((shut.join_mode(), shut.join_role.as_str()), (JoinMode::Nobody, "admin"));
        for mode in [JoinMode::Request, JoinMode::Automatic] {
            let refused = ada.tries_to_open_domain("acme.example", mode, "").await.expect_err("above");
            assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_ABOVE_CALLER"));
            assert_eq!(refused.metadata["target_role"], "admin");
        }
        let both = ["join_mode", "join_role"];
        let fresh = updating("acme.example", &both, JoinMode::Request, "member");
        let stale = pb::UpdateDomainRequest { etag: opened.etag.clone(), ..fresh };
        let refused = ada.tries_to_update_domain(stale.clone()).await.expect_err("stale");
        assert_eq!(
            (refused.is(), refused.metadata["etag"].as_str()),
            ((Code::Aborted, "ETAG_MISMATCH"), shut.etag.as_str())
        );
        ada.tries_to_update_domain(pb::UpdateDomainRequest { etag: shut.etag, ..stale }).await.expect("fresh");
        let refused = ada.tries_to_release_as_of("acme.example", &opened.etag).await.expect_err("stale");
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        // A member may do none of it.
        for refused in [
            bob.tries_to_claim("x.example").await,
            bob.tries_to_verify("acme.example").await,
            bob.tries_to_open_domain("acme.example", JoinMode::Nobody, "").await,
            bob.tries_to_release("acme.example").await,
            bob.domains().await.map(|_| pb::Domain::default()),
        ] {
            assert_eq!(refused.expect_err("a member").is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        }
        let service = Person { organization_id: ann.organization_id.clone(), ..world.service("directory") };
        assert_eq!(service.domains().await, ann.domains().await);
        world.end().await;
    }

    async fn what_the_mask_does_not_name_stays(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let first = world.opens(&ann, "acme.example", JoinMode::Automatic, "admin").await;
        let rule = |domain: &pb::Domain| (domain.join_mode(), domain.join_role.clone());
        let update = async |mask: &[&str], mode: JoinMode, role: &str| {
            ann.tries_to_update_domain(updating("ACME.example", mask, mode, role)).await
        };
        let asked = update(&["join_mode"], JoinMode::Request, "member").await.expect("the mode");
        assert_eq!(rule(&asked), (JoinMode::Request, "admin".into()));
        let lower = update(&["join_role"], JoinMode::Nobody, "member").await.expect("the role");
        assert_eq!(rule(&lower), (JoinMode::Request, "member".into()));
        assert!(first.etag != asked.etag && asked.etag != lower.etag);
        assert_eq!(update(&["join_role", "join_mode"], JoinMode::Request, "member").await, Ok(lower.clone()));
        assert_eq!(log(&world, &ann).await[2..], ["domain.updated"; 3]);
        // A role that has left the role policy since opens nothing, and need not be named to shut the door.
        world.tampers("UPDATE organization_domain SET join_role = 'gone'").await;
        for mode in [JoinMode::Request, JoinMode::Automatic] {
            let refused = update(&["join_mode"], mode, "member").await.expect_err("gone");
            assert_eq!((refused.is(), refused.fields.join(" ").as_str()), (WRONG, "domain.join_role"));
        }
        let shut = update(&["join_mode"], JoinMode::Nobody, "").await.expect("shut");
        assert_eq!(rule(&shut), (JoinMode::Nobody, "gone".into()));
        update(&["join_role"], JoinMode::Automatic, "member").await.expect("mended");
        let open = update(&["join_mode"], JoinMode::Automatic, "").await.expect("open");
        assert_eq!(rule(&open), (JoinMode::Automatic, "member".into()));
        assert_eq!(ann.tries_to_release_as_of("acme.example", &open.etag).await, Ok(open));
        world.end().await;
    }

    async fn a_repeated_request_hears_its_first_answer_and_a_rehearsal_leaves_nothing(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let rehearsal = pb::ClaimDomainRequest {
            organization_id: ann.organization_id.clone(),
            domain: "acme.example".into(),
            validate_only: true,
            ..Default::default()
        };
        let rehearsed = answer(ann.organizations().claim_domain(rehearsal).await).expect("rehearsed").domain.unwrap();
        assert_eq!(rehearsed.proof_record_value, "", "a proof that is not kept proves nothing");
        assert_eq!(ann.domains().await, Ok(Vec::new()));
        let claimed = ann.tries_to_claim("acme.example").await.expect("claimed");
        world.proves(&claimed);
        let request = pb::VerifyDomainRequest {
            organization_id: ann.organization_id.clone(),
            domain: "acme.example".into(),
            validate_only: true,
            ..Default::default()
        };
        let rehearsed = answer(ann.organizations().verify_domain(request.clone()).await).expect("rehearsed");
        assert_eq!(rehearsed.domain.unwrap().state(), DomainState::Verified);
        assert_eq!(ann.domains().await.as_deref(), Ok([claimed].as_slice()));
        let request = pb::VerifyDomainRequest {
            validate_only: false,
            request_id: "3f0a4c1e-8a6e-4c3b-9f5e-2b1d0c4e6f70".into(),
            ..request
        };
        let first = answer(ann.organizations().verify_domain(request.clone()).await).expect("verified");
        // Released and claimed anew since, and no name server to ask: the same request has had its answer.
        ann.tries_to_release("acme.example").await.expect("released");
        ann.tries_to_claim("acme.example").await.expect("claimed");
        world.writes_zone("not a zone");
        assert_eq!(answer(ann.organizations().verify_domain(request).await), Ok(first));
        world.end().await;
    }

    async fn a_domain_name_system_that_is_away_is_no_proof_and_no_disproof(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let claimed = ann.tries_to_claim("acme.example").await.expect("claimed");
        world.writes_zone("this is (no zone");
        let refused = ann.tries_to_verify("acme.example").await.expect_err("away");
        assert_eq!((refused.is(), refused.retry), (AWAY, true));
        // What needs no look does not care.
        assert_eq!(ann.tries_to_verify("other.example").await.expect_err("not claimed").is(), MISSING);
        world.writes_zone("");
        assert_eq!(ann.tries_to_verify("acme.example").await.expect_err("there again").is(), UNPROVED);
        world.proves(&claimed);
        ann.tries_to_verify("acme.example").await.expect("proved");
        world.end().await;
    }

    async fn two_organizations_prove_one_domain_at_once_and_one_has_it(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..Setup::default() }).await;
        for round in 0..6 {
            let domain = format!("d{round}.example");
            let mut calls = Vec::new();
            for (number, name) in ["ann", "bob", "cas", "dee"].into_iter().enumerate() {
                let owner = world.person(name).founds(&format!("Of {name}")).await;
                world.proves(&owner.tries_to_claim(&domain).await.expect("claimed"));
                let (owner, domain) = (spread(&world, &owner, number + round), domain.clone());
                calls.push(async move { owner.tries_to_verify(&domain).await });
            }
            let outcomes = at_once(calls).await;
            let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            let lost = outcomes.iter().filter(|outcome| outcome.as_ref().is_err_and(|lost| lost.is() == TAKEN)).count();
            assert_eq!((won, lost), (1, 3), "{outcomes:?}");
        }
        assert_eq!(world.number("SELECT count(*) FROM organization_domain WHERE verified_at IS NOT NULL").await, 6);
        world.end().await;
    }

    async fn the_domains_of_a_deleted_organization_rest_with_it(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        world.opens(&ann, "example.com", JoinMode::Automatic, "member").await;
        ann.deletes_organization().await;
        for refused in [ann.tries_to_claim("x.example").await, ann.tries_to_verify("example.com").await] {
            assert_eq!(refused.expect_err("deleted").is(), (Code::FailedPrecondition, "ORGANIZATION_DELETED"));
        }
        let zed = world.person("zed").founds("Zeta").await;
        world.proves(&zed.tries_to_claim("example.com").await.expect("claimed"));
        assert_eq!(zed.tries_to_verify("example.com").await.expect_err("it may come back").is(), TAKEN);
        let ann = world.person("ann").acting_in(&ann.organization_id, "owner");
        let request =
            pb::UndeleteOrganizationRequest { organization_id: ann.organization_id.clone(), ..Default::default() };
        answer(ann.organizations().undelete_organization(request).await).expect("undeleted");
        assert!(matches!(world.person("bob").tries_to_join(&ann.organization_id).await, Ok(Joined::Member(_))));
        world.end().await;
    }
}

/// A world whose servers ask this name server, briefly.
async fn asking(server: &NameServer) -> World {
    let dns = Dns { source: Source::Server(server.address), patience: Duration::from_millis(900) };
    World::with(Backend::Sqlite, Setup { dns: Some(dns), ..Setup::default() }).await
}

async fn verifies(owner: &Person) -> Result<DomainState, Refused> {
    owner.tries_to_verify("acme.example").await.map(|domain| domain.state())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_is_asked_for_the_record_and_nothing_is_kept_of_what_it_says() {
    let server = NameServer::start(Manner::KnowsNothing).await;
    let world = asking(&server).await;
    let ann = world.person("ann").founds("Acme").await;
    let claimed = ann.tries_to_claim("acme.example").await.expect("claimed");
    assert_eq!(verifies(&ann).await.expect_err("no such name").is(), UNPROVED);
    server.turns(Manner::HasNoSuchRecord);
    assert_eq!(verifies(&ann).await.expect_err("no such record").is(), UNPROVED);
    let knows = |strings: &[&str]| {
        let strings = strings.iter().map(|text| (*text).to_owned()).collect();
        Manner::Knows(vec![(claimed.proof_record_name.clone(), strings)])
    };
    server.turns(knows(&["something else"]));
    assert_eq!(verifies(&ann).await.expect_err("something else").is(), UNPROVED);
    // The strings of one record are one text.
    let (head, tail) = claimed.proof_record_value.split_at(30);
    server.turns(knows(&[head, tail]));
    assert_eq!(verifies(&ann).await, Ok(DomainState::Verified));
    assert_eq!(server.asked(), ["_tenantry-challenge.acme.example TXT"; 4], "once each, and no other name");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_does_not_answer_is_away() {
    let server = NameServer::start(Manner::Fails).await;
    let world = asking(&server).await;
    let ann = world.person("ann").founds("Acme").await;
    ann.tries_to_claim("acme.example").await.expect("claimed");
    for manner in [Manner::Fails, Manner::Refuses, Manner::Babbles, Manner::KeepsSilent] {
        server.turns(manner.clone());
        let call = tokio::time::timeout(Duration::from_secs(10), verifies(&ann)).await.expect("an answer in time");
        let refused = call.expect_err("no answer");
        assert_eq!((refused.is(), refused.retry), (AWAY, true), "{manner:?}");
    }
    // Nobody listens at all.
    drop(server);
    assert_eq!(verifies(&ann).await.expect_err("nobody there").is(), AWAY);
    world.end().await;
}
