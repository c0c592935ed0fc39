//! BillingService on the wire.

mod credit;
mod invariants;
mod invoices;
mod methods;
mod payments;
mod plans;
mod profile;
mod seats;
mod subscription;
mod usage;

use std::sync::Arc;

use crate::app::App;
use crate::forward::forward;
use crate::operation;
use crate::pb::billing_service_server::BillingService;

pub(crate) use seats::seat_usage;

/// BillingService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

forward! { BillingService:
    list_plans(ListPlansRequest) -> ListPlansResponse: plans::list_plans;
    get_subscription(GetSubscriptionRequest) -> GetSubscriptionResponse: operation::read::<subscription::GetSubscription>;
    get_seat_usage(GetSeatUsageRequest) -> GetSeatUsageResponse: operation::read::<seats::GetSeatUsage>;
    list_seat_entries(ListSeatEntriesRequest) -> ListSeatEntriesResponse: operation::read::<seats::ListSeatEntries>;
    preview_subscription_change(PreviewSubscriptionChangeRequest) -> PreviewSubscriptionChangeResponse: operation::read::<subscription::Preview>;
    update_subscription(UpdateSubscriptionRequest) -> UpdateSubscriptionResponse: operation::change::<subscription::UpdateSubscription>;
    cancel_scheduled_change(CancelScheduledChangeRequest) -> CancelScheduledChangeResponse: operation::change::<subscription::CancelScheduledChange>;
    cancel_subscription(CancelSubscriptionRequest) -> CancelSubscriptionResponse: operation::change::<subscription::CancelSubscription>;
    resume_subscription(ResumeSubscriptionRequest) -> ResumeSubscriptionResponse: operation::change::<subscription::ResumeSubscription>;
    get_billing_profile(GetBillingProfileRequest) -> GetBillingProfileResponse: operation::read::<profile::GetBillingProfile>;
    update_billing_profile(UpdateBillingProfileRequest) -> UpdateBillingProfileResponse: operation::change::<profile::UpdateBillingProfile>;
    set_tax_treatment(SetTaxTreatmentRequest) -> SetTaxTreatmentResponse: operation::change::<profile::SetTaxTreatment>;
    list_invoices(ListInvoicesRequest) -> ListInvoicesResponse: operation::read::<invoices::ListInvoices>;
    get_invoice(GetInvoiceRequest) -> GetInvoiceResponse: operation::read::<invoices::GetInvoice>;
    download_invoice(DownloadInvoiceRequest) -> DownloadInvoiceResponse: operation::read::<invoices::DownloadInvoice>;
    record_payment(RecordPaymentRequest) -> RecordPaymentResponse: operation::change::<payments::RecordPayment>;
    void_invoice(VoidInvoiceRequest) -> VoidInvoiceResponse: operation::change::<payments::VoidInvoice>;
    mark_invoice_uncollectible(MarkInvoiceUncollectibleRequest) -> MarkInvoiceUncollectibleResponse: operation::change::<payments::MarkInvoiceUncollectible>;
    create_credit_note(CreateCreditNoteRequest) -> CreateCreditNoteResponse: operation::change::<credit::CreateCreditNote>;
    list_credit_entries(ListCreditEntriesRequest) -> ListCreditEntriesResponse: operation::read::<credit::ListCreditEntries>;
    add_payment_method(AddPaymentMethodRequest) -> AddPaymentMethodResponse: operation::change::<methods::AddPaymentMethod>;
    list_payment_methods(ListPaymentMethodsRequest) -> ListPaymentMethodsResponse: operation::read::<methods::ListPaymentMethods>;
    set_default_payment_method(SetDefaultPaymentMethodRequest) -> SetDefaultPaymentMethodResponse: operation::change::<methods::SetDefaultPaymentMethod>;
    remove_payment_method(RemovePaymentMethodRequest) -> RemovePaymentMethodResponse: operation::change::<methods::RemovePaymentMethod>;
    report_usage(ReportUsageRequest) -> ReportUsageResponse: operation::change::<usage::ReportUsage>;
    get_usage(GetUsageRequest) -> GetUsageResponse: operation::read::<usage::GetUsage>;
    check_entitlement(CheckEntitlementRequest) -> CheckEntitlementResponse: operation::read::<usage::CheckEntitlement>;
    check_invariants(CheckInvariantsRequest) -> CheckInvariantsResponse: invariants::check_invariants;
}
