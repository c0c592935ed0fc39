//! What each RPC of billing writes into the log.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use tenantry::pb::{self, CancellationMode};

use crate::harness::billing::{add_on, billed, plan, seats};
use crate::harness::person::answer;
use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

/// The RPCs that are told of here or, where payment methods are, in `stripe_payments`. Usage has its own table, and no events.
pub(crate) const TOLD: [&str; 14] = [
    "CancelScheduledChange",
    "CancelSubscription",
    "ResumeSubscription",
    "SetTaxTreatment",
    "RecordPayment",
    "VoidInvoice",
    "MarkInvoiceUncollectible",
    "CreateCreditNote",
    "ReportUsage",
    "AddPaymentMethod",
    "SetDefaultPaymentMethod",
    "RemovePaymentMethod",
    "UpdateSubscription",
    "UpdateBillingProfile",
];

database_tests! {
    async fn every_change_of_billing_is_in_the_log(backend: Backend) {
        let world = World::with(backend, billed()).await;
        let ann = world.person("ann").founds("Acme").await;
        let service = world.service("billing");
        let id = ann.organization_id.clone();
        let mut read = 2;
        let mut told = BTreeSet::new();
        let mut wrote = async |rpc: &'static str, expected: &[&str]| {
            let events = world.events(&id).await;
            assert_eq!(events[read..], *expected, "{rpc}");
            read = events.len();
            told.insert(rpc);
        };
        ann.changes(plan("team")).await.unwrap();
        wrote("UpdateSubscription", &["subscription.plan_changed", "subscription.seats_changed", "invoice.finalized"]).await;
        ann.changes(add_on("support", 1)).await.unwrap();
        wrote("UpdateSubscription", &["subscription.add_ons_changed"]).await;
        ann.changes(seats(9)).await.unwrap();
        wrote("UpdateSubscription", &["subscription.seats_changed"]).await;
        ann.changes(seats(6)).await.unwrap();
        wrote("UpdateSubscription", &["subscription.change_scheduled"]).await;
        let request = pb::CancelScheduledChangeRequest { organization_id: id.clone(), ..Default::default() };
        answer(ann.billing().cancel_scheduled_change(request).await).unwrap();
        wrote("CancelScheduledChange", &["subscription.scheduled_change_canceled"]).await;
        ann.cancels(CancellationMode::PeriodEnd).await.unwrap();
        wrote("CancelSubscription", &["subscription.cancel_scheduled"]).await;
        ann.resumes().await.unwrap();
        wrote("ResumeSubscription", &["subscription.resumed"]).await;
        let treatment = pb::TaxTreatment { rate_millionths: 210_000, behavior: pb::TaxBehavior::Exclusive.into(), label: "VAT".into(), ..Default::default() };
        let request = pb::SetTaxTreatmentRequest { organization_id: id.clone(), tax_treatment: Some(treatment), ..Default::default() };
        answer(service.billing().set_tax_treatment(request).await).unwrap();
        wrote("SetTaxTreatment", &["billing_profile.updated"]).await;
        let invoice = ann.invoices().await.remove(0);
        service.records(&invoice, pb::PaymentState::Failed, 2_000, "try").await.unwrap();
        wrote("RecordPayment", &["payment.failed", "subscription.past_due"]).await;
        service.pays(&invoice).await;
        wrote("RecordPayment", &["payment.succeeded", "invoice.paid", "subscription.recovered"]).await;
        let request = pb::CreateCreditNoteRequest { organization_id: id.clone(), invoice_id: invoice.invoice_id, amount_minor: 100, reason: "A gift".into(), ..Default::default() };
        answer(service.billing().create_credit_note(request).await).unwrap();
        wrote("CreateCreditNote", &["credit_note.created"]).await;
        world.passes(TimeDelta::days(31)).await;
        wrote("UpdateSubscription", &["subscription.renewed", "invoice.finalized"]).await;
        let second = ann.invoices().await.pop().unwrap();
        let request = pb::VoidInvoiceRequest { organization_id: id.clone(), invoice_id: second.invoice_id, ..Default::default() };
        answer(service.billing().void_invoice(request).await).unwrap();
        wrote("VoidInvoice", &["invoice.voided"]).await;
        world.passes(TimeDelta::days(28)).await;
        wrote("UpdateSubscription", &["subscription.renewed", "invoice.finalized"]).await;
        let third = ann.invoices().await.pop().unwrap();
        let request = pb::MarkInvoiceUncollectibleRequest { organization_id: id.clone(), invoice_id: third.invoice_id, ..Default::default() };
        answer(service.billing().mark_invoice_uncollectible(request).await).unwrap();
        wrote("MarkInvoiceUncollectible", &["invoice.uncollectible"]).await;
        ann.cancels(CancellationMode::NowWithoutCredit).await.unwrap();
        wrote("CancelSubscription", &["subscription.canceled", "subscription.seats_changed"]).await;
        assert!(told.iter().all(|rpc| TOLD.contains(rpc)));
        world.end().await;
    }
}
