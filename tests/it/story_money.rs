//! What the four documents say of plans, invoices, payment methods and add-ons, each on its own preset.

use tenantry::pb::{self, CancellationMode, SetupStepKind, SubscriptionStatus};
use tonic::Code;

use crate::harness::billing::{add_on, billed, plan, seats};
use crate::harness::person::{Person, answer};
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World};
use crate::harness::{Backend, database_tests};

const DENIED: (Code, &str) = (Code::PermissionDenied, "ROLE_LACKS_PERMISSION");

async fn product(backend: Backend, policy: &str) -> World {
    World::with(backend, Setup { policy: policy.into(), ..billed() }).await
}

/// Who may not change the plan may not even ask what it would cost.
async fn may_not_change_the_plan(person: &Person) {
    assert_eq!(person.changes(plan("business")).await.expect_err("the plan").is(), DENIED);
    assert_eq!(person.previews(plan("business")).await.expect_err("the plan").is(), DENIED);
}

async fn lists_invoices(person: &Person) -> Result<Vec<pb::Invoice>, Refused> {
    let organization_id = person.organization_id.clone();
    let request = pb::ListInvoicesRequest { organization_id, ..Default::default() };
    answer(person.billing().list_invoices(request).await).map(|listed| listed.invoices)
}

async fn lists_payment_methods(person: &Person) -> Result<usize, Refused> {
    let request = pb::ListPaymentMethodsRequest { organization_id: person.organization_id.clone() };
    answer(person.billing().list_payment_methods(request).await).map(|listed| listed.payment_methods.len())
}

/// Whether somebody may add a payment method. Where payment is manual there are none, for whoever may.
async fn may_add_a_payment_method(person: &Person) -> bool {
    let organization_id = person.organization_id.clone();
    let request =
        pb::AddPaymentMethodRequest { organization_id, provider_token: "pm_card_visa".into(), ..Default::default() };
    let refused = answer(person.billing().add_payment_method(request).await).expect_err("none are kept");
    refused.reason == "PAYMENT_METHODS_NOT_OFFERED"
}

database_tests! {
    async fn s0_lines_11_to_12_and_32_to_33_owners_alone_change_the_plan_and_see_invoices(backend: Backend) {
        let world = product(backend, "owner-billing").await;
        let owner = world.person("olga").founds("Momentum").await;
        let admin = owner.brings("adam", "admin").await;
        owner.changes(plan("team")).await.expect("the plan");
        owner.changes(seats(8)).await.expect("seats");
        assert_eq!(lists_invoices(&owner).await.expect("invoices").len(), 2);
        assert!(may_add_a_payment_method(&owner).await);
        may_not_change_the_plan(&admin).await;
        assert_eq!(lists_invoices(&admin).await.expect_err("invoices").is(), DENIED);
        assert_eq!(lists_payment_methods(&admin).await.expect_err("payment methods").is(), DENIED);
        assert!(!may_add_a_payment_method(&admin).await);
        assert_eq!(admin.cancels(CancellationMode::PeriodEnd).await.expect_err("the end").is(), DENIED);
        // The state of billing is the admin's to see.
        assert_eq!(admin.subscription().await.expect("its state").plan_id, "team");
        world.end().await;
    }

    async fn s1_lines_26_to_27_owners_and_admins_manage_plan_invoices_and_payments(backend: Backend) {
        let world = product(backend, "shared-billing").await;
        let owner = world.person("olga").founds("AI Hub").await;
        let admin = owner.brings("adam", "admin").await;
        let member = owner.brings("mia", "member").await;
        owner.changes(plan("team")).await.expect("the plan");
        admin.changes(plan("business")).await.expect("the plan");
        for person in [&owner, &admin] {
            assert_eq!(lists_invoices(person).await.expect("invoices").len(), 2);
            assert_eq!(lists_payment_methods(person).await.expect("payment methods"), 0);
            assert!(may_add_a_payment_method(person).await);
        }
        may_not_change_the_plan(&member).await;
        assert_eq!(lists_invoices(&member).await.expect_err("invoices").is(), DENIED);
        admin.cancels(CancellationMode::PeriodEnd).await.expect("the end");
        owner.resumes().await.expect("taken back");
        world.end().await;
    }

    async fn s2_lines_20_to_46_the_billing_admin_changes_the_subscription_and_the_admin_alone_ends_it(backend: Backend) {
        let world = product(backend, "split-admin").await;
        let admin = world.person("olga").founds("Split").await;
        let billing = admin.brings("bill", "billing_admin").await;
        let users = admin.brings("ursula", "user_admin").await;
        // 32: the billing admin changes the subscription, 25: edits payment details and views invoices,
        billing.changes(plan("team")).await.expect("the subscription");
        billing.changes(add_on("support", 1)).await.expect("the subscription");
        assert!(may_add_a_payment_method(&billing).await);
        assert_eq!(lists_invoices(&billing).await.expect("invoices").len(), 2);
        // 33: and does not end it.
        for mode in [CancellationMode::PeriodEnd, CancellationMode::NowWithCredit] {
            assert_eq!(billing.cancels(mode).await.expect_err("the end").is(), DENIED);
        }
        // 45, 46: nor does a user admin, who changes nothing of it.
        may_not_change_the_plan(&users).await;
        assert_eq!(users.cancels(CancellationMode::PeriodEnd).await.expect_err("the end").is(), DENIED);
        // 20, 21: the admin does both.
        admin.changes(plan("business")).await.expect("the subscription");
        let ended = admin.cancels(CancellationMode::NowWithCredit).await.expect("the end");
        assert_eq!(ended.subscription.expect("it").status(), SubscriptionStatus::Canceled);
        world.end().await;
    }

    async fn s3_lines_27_to_28_and_38_plans_licenses_and_add_ons_are_managed(backend: Backend) {
        let world = product(backend, "guarded-admin").await;
        let owner = world.person("olga").founds("Meetings").await;
        let admin = owner.brings("adam", "admin").await;
        let member = owner.brings("mia", "member").await;
        // 38: upgrade the plan or add licenses;
        admin.changes(plan("team")).await.expect("the plan");
        assert_eq!(admin.changes(seats(9)).await.expect("licenses").subscription.expect("it").seats, 9);
        // 28: configure add-ons.
        owner.changes(add_on("storage", 2)).await.expect("an add-on");
        assert_eq!(owner.subscription().await.expect("it").add_ons[0].quantity, 2);
        may_not_change_the_plan(&member).await;
        // 18: where nobody collects, there is no payment method to add.
        let steps = owner.overview().await.expect("the overview").setup.expect("first steps").steps;
        assert!(steps.iter().all(|step| step.kind() != SetupStepKind::PaymentMethod));
        world.end().await;
    }

    async fn s3_line_47_a_subscription_that_came_wrongly_is_put_right(backend: Backend) {
        let world = product(backend, "guarded-admin").await;
        let owner = world.person("olga").founds("Meetings").await;
        // As an import writes it, on the wrong plan.
        world.execute("UPDATE subscription SET plan_id = 'team', agreement = NULL, due_at = '1970-01-01T00:00:00+00:00'").await.expect("written");
        assert_eq!(owner.subscription().await.expect("it").plan_id, "team");
        let right = pb::UpdateSubscriptionRequest { timing: pb::ChangeTiming::Now.into(), ..plan("free") };
        let subscription = owner.changes(right).await.expect("put right").subscription.expect("it");
        assert_eq!((subscription.plan_id.as_str(), subscription.credit_balance_minor), ("free", 0));
        // What was paid elsewhere is not charged here, and what was never charged is not credited.
        assert!(lists_invoices(&owner).await.expect("invoices").is_empty());
        world.end().await;
    }
}
