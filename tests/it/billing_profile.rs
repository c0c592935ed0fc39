//! To whom invoices are written.

use chrono::TimeDelta;
use serde_json::json;
use tenantry::pb;
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::race::{at_once, spread};
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World, roomy};
use crate::harness::{Backend, database_tests};

impl Person {
    /// Gets the billing profile, or is refused.
    async fn tries_to_get_profile(&self) -> Result<pb::BillingProfile, Refused> {
        let request = pb::GetBillingProfileRequest { organization_id: self.organization_id.clone() };
        Ok(answer(self.billing().get_billing_profile(request).await)?.billing_profile.expect("a profile"))
    }

    async fn profile(&self) -> pb::BillingProfile {
        self.tries_to_get_profile().await.expect("the profile")
    }

    /// Changes the fields of a mask, or is refused.
    pub(crate) async fn tries_to_bill_to(
        &self,
        mask: &[&str],
        profile: pb::BillingProfile,
    ) -> Result<pb::BillingProfile, Refused> {
        let request = pb::UpdateBillingProfileRequest {
            organization_id: self.organization_id.clone(),
            etag: profile.etag.clone(),
            billing_profile: Some(profile),
            update_mask: Some(prost_types::FieldMask { paths: mask.iter().map(|path| (*path).to_owned()).collect() }),
            ..Default::default()
        };
        Ok(answer(self.billing().update_billing_profile(request).await)?.billing_profile.expect("a profile"))
    }
}

const WHOLE: [&str; 5] = ["name", "email", "address", "tax_id", "purchase_order_number"];

fn acme() -> pb::BillingProfile {
    pb::BillingProfile {
        name: " Acme B.V. ".into(),
        email: "Invoices@Acme.Example".into(),
        address: Some(pb::PostalAddress {
            line1: "Keizersgracht 1".into(),
            line2: "2nd floor".into(),
            postal_code: "1015 CN".into(),
            city: "Amsterdam".into(),
            region: "Noord-Holland".into(),
            country_code: "nl".into(),
        }),
        tax_id: "NL123456789B01".into(),
        purchase_order_number: "PO-7".into(),
        ..Default::default()
    }
}

database_tests! {
    async fn the_profile_is_filled_in_and_changed_field_by_field(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let before = ann.profile().await;
        let empty = pb::BillingProfile {
            organization_id: ann.organization_id.clone(),
            address: Some(pb::PostalAddress::default()),
            etag: "v0".into(),
            ..Default::default()
        };
        assert_eq!(before, empty);
        world.pass(TimeDelta::hours(1));
        let whole = ann.tries_to_bill_to(&WHOLE, pb::BillingProfile { etag: before.etag.clone(), ..acme() }).await.unwrap();
        let address = pb::PostalAddress { country_code: "NL".into(), ..acme().address.unwrap() };
        assert_eq!(whole, pb::BillingProfile {
            organization_id: ann.organization_id.clone(),
            name: "Acme B.V.".into(),
            address: Some(address.clone()),
            update_time: Some(world.wire_time()),
            etag: "v1".into(),
            ..acme()
        });
        assert_eq!(ann.profile().await, whole);
        // The same again is no change.
        assert_eq!(ann.tries_to_bill_to(&WHOLE, acme()).await.unwrap(), whole);
        // One field of the address, and the address whole.
        let moved = pb::BillingProfile {
            address: Some(pb::PostalAddress { city: "Utrecht".into(), ..Default::default() }),
            ..Default::default()
        };
        let moved_within = ann.tries_to_bill_to(&["address.city", "tax_id"], moved.clone()).await.unwrap();
        assert_eq!(moved_within.address, Some(pb::PostalAddress { city: "Utrecht".into(), ..address }));
        assert_eq!((moved_within.tax_id.as_str(), moved_within.name.as_str()), ("", "Acme B.V."));
        let replaced = ann.tries_to_bill_to(&["address"], moved.clone()).await.unwrap();
        assert_eq!(replaced.address, moved.address);
        let refused = ann.tries_to_bill_to(&["name"], pb::BillingProfile { etag: whole.etag, ..acme() }).await.unwrap_err();
        assert_eq!(refused.is(), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(refused.metadata["etag"], replaced.etag);
        // The log names the fields, and nothing that they say: it may be about a person.
        let told = told(&world, &ann.organization_id).await;
        assert_eq!(told, [
            json!({ "fields": ["name", "email", "address.line1", "address.line2", "address.postal_code", "address.city", "address.region", "address.country_code", "tax_id", "purchase_order_number"] }),
            json!({ "fields": ["address.city", "tax_id"] }),
            json!({ "fields": ["address.line1", "address.line2", "address.postal_code", "address.region", "address.country_code"] }),
        ]);
        world.end().await;
    }

    async fn what_is_no_profile_is_refused(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let wrong = pb::BillingProfile {
            name: "x".repeat(201),
            email: "invoices".into(),
            address: Some(pb::PostalAddress {
                line1: "x".repeat(201),
                line2: "a\nb".into(),
                postal_code: "1".repeat(21),
                city: "x".repeat(101),
                region: "x".repeat(101),
                country_code: "UK".into(),
            }),
            tax_id: "1".repeat(41),
            purchase_order_number: "1".repeat(61),
            ..Default::default()
        };
        let refused = ann.tries_to_bill_to(&WHOLE, wrong).await.unwrap_err();
        assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(refused.fields, [
            "billing_profile.name",
            "billing_profile.email",
            "billing_profile.address.line1",
            "billing_profile.address.line2",
            "billing_profile.address.postal_code",
            "billing_profile.address.city",
            "billing_profile.address.region",
            "billing_profile.address.country_code",
            "billing_profile.tax_id",
            "billing_profile.purchase_order_number",
        ]);
        for mask in [&[][..], &["iban"], &["address.planet"], &["organization_id"], &["update_time", "name"]] {
            let refused = ann.tries_to_bill_to(mask, acme()).await.unwrap_err();
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
            assert_eq!(refused.fields, ["update_mask"], "{mask:?}");
        }
        assert_eq!(ann.profile().await.etag, "v0");
        world.end().await;
    }

    async fn who_may_see_the_profile_and_who_may_change_it(backend: Backend) {
        for (policy, roles) in [
            ("owner-billing", &[("admin", false, false), ("member", false, false)][..]),
            ("split-admin", &[("billing_admin", true, true), ("user_admin", true, false), ("member", false, false)]),
        ] {
            let world = World::with(backend, Setup { policy: policy.into(), ..roomy() }).await;
            let ann = world.person("ann").founds("Acme").await;
            ann.tries_to_bill_to(&WHOLE, acme()).await.unwrap();
            for (role, sees, changes) in roles {
                let person = ann.brings(role, role).await;
                let seen = person.tries_to_get_profile().await;
                let changed = person.tries_to_bill_to(&["name"], pb::BillingProfile { name: (*role).into(), ..acme() }).await;
                for (may, outcome) in [(sees, seen), (changes, changed)] {
                    let ended = outcome.map_or_else(|refused| refused.reason, |_| "OK".into());
                    assert_eq!(ended, if *may { "OK" } else { "ROLE_LACKS_PERMISSION" }, "{role} of {policy}");
                }
            }
            let mut invoicing = world.service("invoicing");
            invoicing.organization_id.clone_from(&ann.organization_id);
            assert_eq!(invoicing.profile().await, ann.profile().await);
            let refused = invoicing.tries_to_bill_to(&["name"], acme()).await.unwrap_err();
            assert_eq!(refused.is(), (Code::PermissionDenied, "USER_REQUIRED"));
            world.end().await;
        }
    }

    async fn of_two_who_have_read_the_same_profile_one_changes_it(backend: Backend) {
        let world = World::with(backend, Setup { servers: 2, ..roomy() }).await;
        let ann = world.person("ann").founds("Acme").await;
        for round in 0..5 {
            let etag = ann.profile().await.etag;
            let calls = (0..4).map(|number| {
                let person = spread(&world, &ann, number);
                let new = pb::BillingProfile { name: format!("Acme {round}.{number}"), etag: etag.clone(), ..Default::default() };
                async move { person.tries_to_bill_to(&["name"], new).await }
            });
            let outcomes = at_once(calls).await;
            let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
            assert!(lost.map(Refused::is).eq([(Code::Aborted, "ETAG_MISMATCH"); 3]));
            assert_eq!(Some(ann.profile().await), outcomes.into_iter().find_map(Result::ok));
        }
        world.end().await;
    }
}

/// What the events of the profile say.
async fn told(world: &World, organization_id: &str) -> Vec<serde_json::Value> {
    use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
    use tenantry::entity::event;
    let database = world.database().await;
    let id = uuid::Uuid::parse_str(organization_id).expect("an organization's id");
    let rows = event::Entity::find()
        .filter(event::Column::OrganizationId.eq(id))
        .filter(event::Column::Type.eq("billing_profile.updated"))
        .order_by_asc(event::Column::Number)
        .all(&database)
        .await
        .expect("the log");
    database.close().await.expect("a connection can be closed");
    rows.into_iter().map(|row| row.payload).collect()
}
