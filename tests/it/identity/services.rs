//! Trusted services: what they may for themselves, and what they may only for a user.

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use tenantry::entity::event;
use tenantry::pb;
use tonic::Code;

use super::{creates_organization, gets_organization, is_known, with};
use crate::harness::methods::methods;
use crate::harness::person::{Person, answer};
use crate::harness::refused::{Refused, refused};
use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

const NOWHERE: &str = "0198c1d2-7b7e-7cc3-98c4-dc0c0c07398f";

database_tests! {
    async fn a_service_reads_every_organization(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = world.person("bob").founds("Brio").await;
        let backend = world.service("backend");
        for organization_id in [&ann.organization_id, &bob.organization_id] {
            gets_organization(&backend, organization_id).await.expect("a service reads");
        }
        let refused = gets_organization(&backend, NOWHERE).await.unwrap_err();
        assert_eq!(refused.is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"), "it may know that there is none");
        let refused = gets_organization(&backend, "acme").await.unwrap_err();
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(refused.fields, ["organization_id"]);
        world.end().await;
    }

    async fn a_service_without_a_user_changes_nothing(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let backend = world.service("backend");
        let events = world.events(&ann.organization_id).await;
        let organization_id = prost_reflect::Value::String(ann.organization_id.clone());
        let mut tried = 0;
        // What the contract lets a service change: what it reports of people, rooms, payments and usage, what is
        // delivered, and the clock of tests.
        let for_services = [
            "MembershipService/RecordSignIn",
            "MonitoringService/RecordSessionStart",
            "MonitoringService/RecordSessionEnd",
            "MonitoringService/RegisterRecording",
            "MonitoringService/DeleteRecording",
            "BillingService/SetTaxTreatment",
            "BillingService/RecordPayment",
            "BillingService/VoidInvoice",
            "BillingService/MarkInvoiceUncollectible",
            "BillingService/CreateCreditNote",
            "BillingService/ReportUsage",
            "DeliveryService/RetryMail",
            "WebhookService/CreateWebhookEndpoint",
            "WebhookService/UpdateWebhookEndpoint",
            "WebhookService/DeleteWebhookEndpoint",
            "WebhookService/RotateWebhookSecret",
            "WebhookService/RedeliverWebhooks",
            "ClockService/AdvanceTime",
        ];
        for method in methods().iter().filter(|method| !method.reads() && !for_services.contains(&method.name().as_str())) {
            let request = method.request(&[("organization_id", organization_id.clone())]);
            let status = method.call(&backend, request).await.expect_err("refused");
            assert_eq!(refused(&status).is(), (Code::PermissionDenied, "USER_REQUIRED"), "{}", method.name());
            tried += 1;
        }
        assert!(tried > 15, "only {tried} RPCs change something?");
        assert_eq!(world.events(&ann.organization_id).await, events);
        world.end().await;
    }

    async fn what_a_service_does_for_a_user_names_both(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let organization_id = ann.organization_id.as_str();
        // It knows neither the role nor the address.
        let keys = [("x-service", "backend"), ("x-user-id", "ann"), ("x-org-id", organization_id)];
        let proxy = Person { organization_id: organization_id.to_owned(), ..with(world.channel(), &keys) };
        proxy.invites(&["bob@example.com"], "member").await;
        ann.invites(&["cas@example.com"], "member").await;
        records_sign_in(&world.service("identity"), organization_id, "ann").await.expect("recorded");
        let expected = [
            ("organization.created", Some("ann"), None),
            ("member.joined", Some("ann"), None),
            ("invitation.created", Some("ann"), Some("backend")),
            ("invitation.created", Some("ann"), None),
            ("member.signed_in", None, Some("identity")),
        ];
        let owned = |name: Option<&str>| name.map(str::to_owned);
        let expected = expected.map(|(what, user, service)| (what.to_owned(), owned(user), owned(service)));
        assert_eq!(actors(&world, organization_id).await, expected);
        world.end().await;
    }

    async fn a_service_may_no_more_than_the_user_for_whom_it_acts(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        let organization_id = ann.organization_id.as_str();
        let acting = |user: &'static str, role: Option<&'static str>| {
            let mut keys = vec![("x-service", "backend"), ("x-user-id", user), ("x-org-id", organization_id)];
            keys.extend(role.map(|role| ("x-org-role", role)));
            Person { organization_id: organization_id.to_owned(), ..with(world.channel(), &keys) }
        };
        let invites = async |proxy: &Person| proxy.tries_to_invite(&["cas@example.com"], "member").await.unwrap_err();
        let refused = invites(&acting("bob", None)).await;
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        assert_eq!(refused.metadata["role"], "member", "the stored one");
        assert_eq!(invites(&acting("bob", Some("owner"))).await.is(), (Code::PermissionDenied, "ROLE_STALE"));
        assert_eq!(invites(&acting("dee", None)).await.is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        assert_eq!(invites(&acting("dee", Some("owner"))).await.is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        // Its own right to read everything is not the user's.
        let proxy = with(world.channel(), &[("x-service", "backend"), ("x-user-id", "ann")]);
        let refused = gets_organization(&proxy, organization_id).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "ORGANIZATION_REQUIRED"));
        let refused = records_sign_in(&acting("ann", Some("owner")), organization_id, "bob").await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        world.end().await;
    }

    async fn a_user_records_no_sign_in(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        for caller in [&ann, &world.person("ann")] {
            let refused = records_sign_in(caller, &ann.organization_id, "ann").await.unwrap_err();
            assert_eq!(refused.is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        }
        let backend = world.service("backend");
        records_sign_in(&backend, &ann.organization_id, "ann").await.expect("a service does");
        let refused = records_sign_in(&backend, &ann.organization_id, "bob").await.unwrap_err();
        assert_eq!(refused.is(), (Code::NotFound, "MEMBER_NOT_FOUND"));
        let refused = records_sign_in(&backend, NOWHERE, "ann").await.unwrap_err();
        assert_eq!(refused.is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        world.end().await;
    }

    async fn a_service_is_no_user(backend: Backend) {
        let world = World::new(backend).await;
        let backend = world.service("backend");
        is_known(&backend).await.expect("it lists plans");
        let refused = creates_organization(&backend).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "USER_REQUIRED"));
        let mine = answer(backend.organizations().list_organizations(pb::ListOrganizationsRequest::default()).await);
        assert_eq!(mine.unwrap_err().is(), (Code::PermissionDenied, "USER_REQUIRED"));
        // It asks what somebody may, but it has no permissions of its own to ask for.
        let ann = world.person("ann").founds("Acme").await;
        let request = pb::CheckPermissionsRequest { organization_id: ann.organization_id.clone(), ..Default::default() };
        let refused = answer(backend.members().check_permissions(request).await).unwrap_err();
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(refused.fields, ["user_id"]);
        world.end().await;
    }
}

async fn records_sign_in(caller: &Person, organization_id: &str, user_id: &str) -> Result<(), Refused> {
    let (organization_id, user_id) = (organization_id.to_owned(), user_id.to_owned());
    let request = pb::RecordSignInRequest { organization_id, user_id, ..Default::default() };
    answer(caller.members().record_sign_in(request).await).map(drop)
}

/// What happened, by which user and by which service.
pub(super) async fn actors(world: &World, organization_id: &str) -> Vec<(String, Option<String>, Option<String>)> {
    let database = world.database().await;
    let id = uuid::Uuid::parse_str(organization_id).expect("an organization's id");
    let rows = event::Entity::find()
        .filter(event::Column::OrganizationId.eq(id))
        .order_by_asc(event::Column::Number)
        .all(&database)
        .await
        .expect("the log can be read");
    database.close().await.expect("a connection can be closed");
    rows.into_iter().map(|row| (row.r#type, row.actor_user_id, row.actor_service)).collect()
}
