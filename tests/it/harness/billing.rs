//! What people and services do about billing, and the plans of the tests.

use chrono::{DateTime, TimeDelta, Utc};
use tenantry::pb;
use tenantry::worker;
use tokio_util::sync::CancellationToken;

use super::person::{Person, answer};
use super::refused::Refused;
use super::world::{Setup, World};

/// Plans in several currencies and periods, with a trial, entitlements, add-ons and meters.
pub(crate) const PLANS: &str = r##"
[billing]
payment_terms_days = 14
grace_days = 10
dunning_days = [2, 7, 14, 21]

[seller]
name = "Tenantry B.V."
address = ["Keizersgracht 1", "1015 CJ Amsterdam", "Netherlands"]
email = "billing@tenantry.example"
tax_id = "NL000000000B01"
notes = ["Please pay to NL00 BANK 0000 0000 00."]
accent = "#1f4fd8"

[[plans]]
plan = "free"
title = "Free"
currency = "EUR"
period = "month"
base_price_minor = 0
seat_price_minor = 0
included_seats = 4
minimum_seats = 1
maximum_seats = 10
default = true
entitlements = { minutes = 100 }

[[plans]]
plan = "team"
title = "Team"
included_seats = 5
minimum_seats = 2
maximum_seats = 250
entitlements = { minutes = 1_000, sso = false, workspaces = 20 }
[[plans.prices]]
currency = "EUR"
period = "month"
base_price_minor = 2_000
seat_price_minor = 1_000
[[plans.prices]]
currency = "EUR"
period = "year"
base_price_minor = 20_000
seat_price_minor = 10_000
[[plans.prices]]
currency = "JPY"
period = "month"
base_price_minor = 3_000
seat_price_minor = 1_500
[[plans.prices]]
currency = "KWD"
period = "month"
base_price_minor = 6_125
seat_price_minor = 3_005

[[plans]]
plan = "business"
title = "Business"
currency = "EUR"
period = "month"
base_price_minor = 10_000
seat_price_minor = 1_200
included_seats = 20
minimum_seats = 10
proration = "day"
entitlements = { minutes = "unlimited", sso = true, workspaces = "unlimited" }

[[plans]]
plan = "tried"
title = "Tried"
currency = "EUR"
period = "month"
base_price_minor = 3_000
seat_price_minor = 500
included_seats = 3
minimum_seats = 1
trial_days = 14

[[plans]]
plan = "huge"
title = "Huge"
currency = "EUR"
period = "month"
base_price_minor = 900_000_000_000_000
seat_price_minor = 90_000_000_000_000
included_seats = 1
minimum_seats = 1

[[add_ons]]
add_on = "storage"
title = "100 GB of storage"
kind = "per_unit"
plans = ["team", "business"]
maximum_quantity = 50
entitlements = { storage_gb = 100 }
prices = [
  { currency = "EUR", period = "month", unit_price_minor = 500 },
  { currency = "EUR", period = "year", unit_price_minor = 5_000 },
]

[[add_ons]]
add_on = "support"
title = "Support by telephone"
kind = "flat"
plans = ["team", "business"]
entitlements = { telephone_support = true }
prices = [{ currency = "EUR", period = "month", unit_price_minor = 4_900 }]

[[add_ons]]
add_on = "more_minutes"
title = "Minutes beyond the included ones"
kind = "metered"
plans = ["team"]
meter = "minutes"
included = 1_000
unit_size = 10
prices = [{ currency = "EUR", period = "month", unit_price_minor = 7 }]

[[meters]]
meter = "minutes"
title = "Minutes of meetings"

[[meters]]
meter = "storage_gb"
title = "Storage in GB"
aggregation = "maximum"
"##;

/// Servers with these plans.
pub(crate) fn billed() -> Setup {
    Setup { plans: Some(PLANS.into()), ..Setup::default() }
}

/// A change of the seats that takes effect at once and waits for the next invoice.
pub(crate) fn seats_at_once(number: i64) -> pb::UpdateSubscriptionRequest {
    pb::UpdateSubscriptionRequest { timing: pb::ChangeTiming::Now.into(), ..seats(number) }
}

/// The same, on an invoice of its own.
pub(crate) fn seats_now(number: i64) -> pb::UpdateSubscriptionRequest {
    pb::UpdateSubscriptionRequest { invoicing: pb::ChangeInvoicing::Now.into(), ..seats_at_once(number) }
}

/// A change of a subscription that asks for nothing yet.
pub(crate) fn wish() -> pb::UpdateSubscriptionRequest {
    pb::UpdateSubscriptionRequest::default()
}

/// A change to a plan.
pub(crate) fn plan(plan_id: &str) -> pb::UpdateSubscriptionRequest {
    pb::UpdateSubscriptionRequest { plan_id: plan_id.into(), ..wish() }
}

/// A change of the number of seats.
pub(crate) fn seats(seats: i64) -> pb::UpdateSubscriptionRequest {
    pb::UpdateSubscriptionRequest { seats: Some(seats), ..wish() }
}

/// A change of an add-on.
pub(crate) fn add_on(add_on_id: &str, quantity: i64) -> pb::UpdateSubscriptionRequest {
    let add_ons = vec![pb::AddOnQuantity { add_on_id: add_on_id.into(), quantity }];
    pb::UpdateSubscriptionRequest { add_ons, ..wish() }
}

/// The amounts of lines.
pub(crate) fn amounts(lines: &[pb::InvoiceLine]) -> Vec<i64> {
    lines.iter().map(|line| line.amount_minor).collect()
}

/// The moment that a time on the wire is.
pub(crate) fn moment(time: Option<prost_types::Timestamp>) -> DateTime<Utc> {
    let time = time.expect("a time");
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).expect("a time")).expect("a time")
}

impl Person {
    /// Changes the subscription, or is refused.
    pub(crate) async fn changes(
        &self,
        wish: pb::UpdateSubscriptionRequest,
    ) -> Result<pb::UpdateSubscriptionResponse, Refused> {
        let request = pb::UpdateSubscriptionRequest { organization_id: self.organization_id.clone(), ..wish };
        answer(self.billing().update_subscription(request).await)
    }

    /// Asks what a change would come to.
    pub(crate) async fn previews(
        &self,
        wish: pb::UpdateSubscriptionRequest,
    ) -> Result<pb::PreviewSubscriptionChangeResponse, Refused> {
        let request = pb::PreviewSubscriptionChangeRequest {
            organization_id: self.organization_id.clone(),
            plan_id: wish.plan_id,
            billing_period: wish.billing_period,
            currency_code: wish.currency_code,
            seats: wish.seats,
            add_ons: wish.add_ons,
            timing: wish.timing,
            invoicing: wish.invoicing,
            latest_version: wish.latest_version,
            skip_trial: wish.skip_trial,
        };
        answer(self.billing().preview_subscription_change(request).await)
    }

    /// Ends the subscription, or is refused.
    pub(crate) async fn cancels(&self, mode: pb::CancellationMode) -> Result<pb::CancelSubscriptionResponse, Refused> {
        let organization_id = self.organization_id.clone();
        let request = pb::CancelSubscriptionRequest { organization_id, mode: mode.into(), ..Default::default() };
        answer(self.billing().cancel_subscription(request).await)
    }

    /// Takes back that the subscription ends, or is refused.
    pub(crate) async fn resumes(&self) -> Result<pb::Subscription, Refused> {
        let organization_id = self.organization_id.clone();
        let request = pb::ResumeSubscriptionRequest { organization_id, ..Default::default() };
        answer(self.billing().resume_subscription(request).await).map(|answer| answer.subscription.expect("one"))
    }

    /// Every invoice with its lines, the oldest first.
    pub(crate) async fn invoices(&self) -> Vec<pb::Invoice> {
        let organization_id = self.organization_id.clone();
        let request =
            pb::ListInvoicesRequest { organization_id: organization_id.clone(), page_size: 200, ..Default::default() };
        let listed = answer(self.billing().list_invoices(request).await).expect("invoices").invoices;
        let mut invoices = Vec::new();
        for invoice in listed.into_iter().rev() {
            invoices.push(self.invoice(&invoice.invoice_id).await);
        }
        invoices
    }

    /// An invoice with everything that belongs to it.
    pub(crate) async fn invoice(&self, invoice_id: &str) -> pb::Invoice {
        let organization_id = self.organization_id.clone();
        let request = pb::GetInvoiceRequest { organization_id, invoice_id: invoice_id.into() };
        answer(self.billing().get_invoice(request).await).expect("an invoice").invoice.expect("an invoice")
    }

    /// Has what is recorded that somebody paid of an invoice: only services can.
    pub(crate) async fn records(
        &self,
        invoice: &pb::Invoice,
        state: pb::PaymentState,
        amount_minor: i64,
        reference: &str,
    ) -> Result<pb::RecordPaymentResponse, Refused> {
        let request = pb::RecordPaymentRequest {
            organization_id: invoice.organization_id.clone(),
            invoice_id: invoice.invoice_id.clone(),
            state: state.into(),
            amount_minor,
            currency_code: invoice.currency_code.clone(),
            reference: reference.into(),
            ..Default::default()
        };
        answer(self.billing().record_payment(request).await)
    }

    /// Records that all of an invoice was paid.
    pub(crate) async fn pays(&self, invoice: &pb::Invoice) -> pb::RecordPaymentResponse {
        let reference = format!("bank {}", invoice.printed_number);
        let paid = self.records(invoice, pb::PaymentState::Succeeded, invoice.due_minor, &reference).await;
        paid.expect("the payment is recorded")
    }

    /// Records payments of all that an organization owes.
    pub(crate) async fn pays_all(&self, owner: &Person) {
        for invoice in owner.invoices().await.iter().filter(|invoice| invoice.state() == pb::InvoiceState::Open) {
            self.pays(invoice).await;
        }
    }

    /// Every drift that a recount of all organizations finds: only services can.
    pub(crate) async fn drifts(&self) -> Vec<pb::Drift> {
        let (mut drifts, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::CheckInvariantsRequest { page_size: 200, page_token, ..Default::default() };
            let mut found = answer(self.billing().check_invariants(request).await).expect("a recount");
            drifts.append(&mut found.drifts);
            page_token = found.next_page_token;
            if page_token.is_empty() {
                return drifts;
            }
        }
    }
}

impl World {
    /// Has the workers of all servers do what is due.
    pub(crate) async fn sweeps(&self) {
        for server in &self.servers {
            Box::pin(worker::sweep(&server.app, &CancellationToken::new())).await;
        }
    }

    /// Lets time pass, and has everything done that is due then.
    pub(crate) async fn passes(&self, time: TimeDelta) -> DateTime<Utc> {
        let now = self.pass(time);
        self.sweeps().await;
        now
    }

    /// Lets time pass until a moment.
    pub(crate) async fn passes_to(&self, moment: &str) {
        let moment: DateTime<Utc> = moment.parse().expect("a moment");
        self.passes(moment - self.clock.now()).await;
    }
}
