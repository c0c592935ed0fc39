//! What services and owners do about invoices, credit, usage and seats, in words for the tests of them.

use chrono::{DateTime, Utc};
use tenantry::fields::timestamp;
use tenantry::pb;

use super::person::{Person, answer};
use super::refused::Refused;

/// Tax of this rate that comes on top of prices.
pub(crate) fn on_top(rate_millionths: i32) -> pb::TaxTreatment {
    let behavior = pb::TaxBehavior::Exclusive.into();
    pb::TaxTreatment { rate_millionths, behavior, label: "VAT".into(), note: String::new() }
}

/// Tax of this rate that prices include.
pub(crate) fn within(rate_millionths: i32) -> pb::TaxTreatment {
    pb::TaxTreatment { behavior: pb::TaxBehavior::Inclusive.into(), ..on_top(rate_millionths) }
}

/// A report of usage at a moment.
pub(crate) fn used(report_id: &str, meter: &str, quantity: i64, at: DateTime<Utc>) -> pb::UsageReport {
    pb::UsageReport { report_id: report_id.into(), meter: meter.into(), quantity, time: Some(timestamp(at)) }
}

/// The numbers of invoices.
pub(crate) fn numbers(invoices: &[pb::Invoice]) -> Vec<i64> {
    invoices.iter().map(|invoice| invoice.number).collect()
}

impl Person {
    /// Voids an invoice, being a service; or is refused.
    pub(crate) async fn voids(&self, invoice: &pb::Invoice) -> Result<pb::Invoice, Refused> {
        let request = pb::VoidInvoiceRequest {
            organization_id: invoice.organization_id.clone(),
            invoice_id: invoice.invoice_id.clone(),
            ..Default::default()
        };
        answer(self.billing().void_invoice(request).await).map(|answer| answer.invoice.expect("an invoice"))
    }

    /// Gives an invoice up, being a service; or is refused.
    pub(crate) async fn gives_up(&self, invoice: &pb::Invoice) -> Result<pb::Invoice, Refused> {
        let request = pb::MarkInvoiceUncollectibleRequest {
            organization_id: invoice.organization_id.clone(),
            invoice_id: invoice.invoice_id.clone(),
            ..Default::default()
        };
        answer(self.billing().mark_invoice_uncollectible(request).await)
            .map(|answer| answer.invoice.expect("an invoice"))
    }

    /// Corrects an invoice by a credit note, being a service; or is refused.
    pub(crate) async fn corrects(
        &self,
        invoice: &pb::Invoice,
        amount_minor: i64,
        outcome: pb::CreditNoteOutcome,
    ) -> Result<pb::CreateCreditNoteResponse, Refused> {
        let request = pb::CreateCreditNoteRequest {
            organization_id: invoice.organization_id.clone(),
            invoice_id: invoice.invoice_id.clone(),
            amount_minor,
            reason: "It was too much".into(),
            outcome: outcome.into(),
            ..Default::default()
        };
        answer(self.billing().create_credit_note(request).await)
    }

    /// Says how an organization is taxed, being a service; or is refused.
    pub(crate) async fn taxes(
        &self,
        organization_id: &str,
        tax_treatment: Option<pb::TaxTreatment>,
    ) -> Result<pb::BillingProfile, Refused> {
        let organization_id = organization_id.to_owned();
        let request = pb::SetTaxTreatmentRequest { organization_id, tax_treatment, ..Default::default() };
        answer(self.billing().set_tax_treatment(request).await).map(|answer| answer.billing_profile.expect("a profile"))
    }

    /// A page of the credit balance's entries.
    pub(crate) async fn credit_page(&self, page_size: i32, page_token: &str) -> pb::ListCreditEntriesResponse {
        let organization_id = self.organization_id.clone();
        let request = pb::ListCreditEntriesRequest { organization_id, page_size, page_token: page_token.into() };
        answer(self.billing().list_credit_entries(request).await).expect("entries")
    }

    /// What was put into the credit balance and taken out of it with why and the balance after it, the oldest first.
    pub(crate) async fn credit(&self) -> Vec<(pb::CreditCause, i64, i64)> {
        let page = self.credit_page(200, "").await;
        let entries = page.credit_entries.iter().rev();
        entries.map(|entry| (entry.cause(), entry.amount_minor, entry.balance_minor)).collect()
    }

    /// A page of invoices, or is refused.
    pub(crate) async fn tries_to_list_invoices(
        &self,
        states: &[pb::InvoiceState],
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListInvoicesResponse, Refused> {
        let request = pb::ListInvoicesRequest {
            organization_id: self.organization_id.clone(),
            states: states.iter().map(|state| i32::from(*state)).collect(),
            page_size,
            page_token: page_token.into(),
        };
        answer(self.billing().list_invoices(request).await)
    }

    /// An invoice of the organization that this one acts in, or is refused.
    pub(crate) async fn tries_to_get_invoice(&self, invoice_id: &str) -> Result<pb::Invoice, Refused> {
        let organization_id = self.organization_id.clone();
        let request = pb::GetInvoiceRequest { organization_id, invoice_id: invoice_id.into() };
        answer(self.billing().get_invoice(request).await).map(|answer| answer.invoice.expect("an invoice"))
    }

    /// Reports usage of an organization, being a service: how many reports were counted now, and how many had been; or is
    /// refused.
    pub(crate) async fn reports(
        &self,
        organization_id: &str,
        reports: &[pb::UsageReport],
    ) -> Result<(i32, i32), Refused> {
        let request = pb::ReportUsageRequest {
            organization_id: organization_id.into(),
            reports: reports.to_vec(),
            ..Default::default()
        };
        answer(self.billing().report_usage(request).await).map(|answer| (answer.counted, answer.known))
    }

    /// What was used in the period that a moment is in, now when none is said; or is refused.
    pub(crate) async fn tries_to_get_usage(&self, at: Option<DateTime<Utc>>) -> Result<pb::GetUsageResponse, Refused> {
        let organization_id = self.organization_id.clone();
        answer(self.billing().get_usage(pb::GetUsageRequest { organization_id, time: at.map(timestamp) }).await)
    }

    /// How much of a meter was used, and how much of it was billed.
    pub(crate) async fn metered_use(&self, meter: &str, at: Option<DateTime<Utc>>) -> (i64, i64) {
        let usage = self.tries_to_get_usage(at).await.expect("usage");
        let of = usage.meters.iter().find(|one| one.meter == meter).expect("a meter");
        (of.used, of.billed)
    }

    /// Whether the organization is entitled to so much more of a feature.
    pub(crate) async fn entitled(&self, feature: &str, quantity: i64) -> pb::CheckEntitlementResponse {
        let organization_id = self.organization_id.clone();
        let request = pb::CheckEntitlementRequest { organization_id, feature: feature.into(), quantity };
        answer(self.billing().check_entitlement(request).await).expect("an answer")
    }

    /// How the seats were used at a moment, or is refused.
    pub(crate) async fn seats_at(&self, at: DateTime<Utc>) -> Result<String, Refused> {
        let organization_id = self.organization_id.clone();
        let request = pb::GetSeatUsageRequest { organization_id, time: Some(timestamp(at)) };
        answer(self.billing().get_seat_usage(request).await).map(|answer| answer.seat_usage.expect("usage").summary)
    }

    /// A page of the ledger of seats, of what explains a line of an invoice if one is said; or is refused.
    pub(crate) async fn tries_to_list_seats(
        &self,
        line: Option<(&str, i32)>,
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListSeatEntriesResponse, Refused> {
        let (invoice_id, line) = line.unwrap_or_default();
        let request = pb::ListSeatEntriesRequest {
            organization_id: self.organization_id.clone(),
            invoice_id: invoice_id.into(),
            line,
            page_size,
            page_token: page_token.into(),
        };
        answer(self.billing().list_seat_entries(request).await)
    }

    /// The ledger of seats: why, how many were taken and how many were added, the oldest first.
    pub(crate) async fn seat_ledger(&self) -> Vec<(pb::SeatCause, i64, i64)> {
        let page = self.tries_to_list_seats(None, 200, "").await.expect("the ledger");
        page.seat_entries.iter().rev().map(|entry| (entry.cause(), entry.taken, entry.added)).collect()
    }
}
