//! Billing as the wire shows it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::account::{Foreseen, Recipient, subscription_of};
use super::catalogue::{AddOn, AddOnKind, Catalogue, Grant, Period, Plan, Price, Proration};
use super::invoicing::{self, Tax, TaxTreatment, Taxable, label_of, rate_of};
use super::printing::taxable;
use super::proration::{Item, Line};
use super::seats::Usage;
use super::subscription::{Held, Scheduled, Status, Subscription};
use crate::app::App;
use crate::auth::scope::Scope;
use crate::entity::invoice::State;
use crate::entity::invoice_line::Kind;
use crate::entity::{
    credit_entry, credit_note, invoice, invoice_line, payment, payment_method, seat_entry, subscription,
};
use crate::error::Error;
use crate::etag;
use crate::fields::timestamp;
use crate::operation::store::read_json;
use crate::pb;

/// The number of an invoice or, with a mark, of something else, as it is printed: the organization's own series is told from
/// others by the end of its id.
#[must_use]
pub fn printed_number(organization_id: Uuid, mark: &str, number: i64) -> String {
    let [.., a, b, c, d] = organization_id.into_bytes();
    format!("{a:02X}{b:02X}{c:02X}{d:02X}-{mark}{number:06}")
}

/// The name of a state.
#[must_use]
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Draft => "DRAFT",
        State::Open => "OPEN",
        State::Paid => "PAID",
        State::Void => "VOID",
        State::Uncollectible => "UNCOLLECTIBLE",
    }
}

/// The seats of an organization.
#[must_use]
pub fn seat_usage(scope: Scope, usage: Usage) -> pb::SeatUsage {
    pb::SeatUsage {
        organization_id: scope.organization_id().to_string(),
        total: usage.total,
        used: usage.used(),
        members: usage.members,
        pending: usage.pending,
        available: usage.available(),
        summary: format!("{} / {} seats", usage.used(), usage.total),
    }
}

pub(super) fn period(period: Period) -> pb::BillingPeriod {
    match period {
        Period::Month => pb::BillingPeriod::Month,
        Period::Year => pb::BillingPeriod::Year,
    }
}

fn price(price: &Price) -> pb::PlanPrice {
    pb::PlanPrice {
        currency_code: price.currency.code().to_owned(),
        billing_period: period(price.period).into(),
        base_price_minor: price.base_price_minor,
        seat_price_minor: price.seat_price_minor,
    }
}

fn status(status: Status) -> pb::SubscriptionStatus {
    match status {
        Status::Trialing => pb::SubscriptionStatus::Trialing,
        Status::Active => pb::SubscriptionStatus::Active,
        Status::PastDue => pb::SubscriptionStatus::PastDue,
        Status::Unpaid => pb::SubscriptionStatus::Unpaid,
        Status::Canceled => pb::SubscriptionStatus::Canceled,
    }
}

/// A stored subscription. Of one whose plan is not in the catalogue, and which agreed on nothing yet, only what its row says.
///
/// # Errors
///
/// When what is stored cannot be read.
pub fn subscription(app: &App, row: &subscription::Model, now: DateTime<Utc>) -> Result<pb::Subscription, Error> {
    match subscription_of(row, &app.catalogue, now) {
        Ok(found) => Ok(shown(row, &found, &app.catalogue, now)),
        Err(Error::PlanUnknown { .. }) => Ok(of_row(row)),
        Err(error) => Err(error),
    }
}

fn of_row(row: &subscription::Model) -> pb::Subscription {
    pb::Subscription {
        organization_id: row.organization_id.to_string(),
        plan_id: row.plan_id.clone(),
        status: status(row.status).into(),
        seats: row.seats,
        create_time: Some(timestamp(row.created_at)),
        update_time: Some(timestamp(row.updated_at)),
        etag: etag::of(row.version),
        credit_balance_minor: row.credit_minor,
        unpaid_credit_minor: row.unpaid_credit_minor,
        ..pb::Subscription::default()
    }
}

/// A subscription, as it is or would be.
#[must_use]
pub fn shown(
    row: &subscription::Model,
    found: &Subscription,
    catalogue: &Catalogue,
    now: DateTime<Utc>,
) -> pb::Subscription {
    let agreement = &found.agreement;
    let current = found.period_at(now);
    let ended = found.status == Status::Canceled;
    let policy = &catalogue.policy;
    let end = agreement.ended_at.or(agreement.ends_with_period.then_some(agreement.period.end));
    pb::Subscription {
        plan_id: agreement.terms.plan_id.clone(),
        status: status(found.status).into(),
        seats: found.seats,
        plan_version: agreement.terms.version,
        price: Some(price(&agreement.terms.price)),
        add_ons: agreement.add_ons.iter().map(held).collect(),
        current_period_start_time: (!ended).then(|| timestamp(current.start)),
        current_period_end_time: (!ended).then(|| timestamp(current.end)),
        trial_end_time: agreement.trial_end.map(timestamp),
        cancel_at_period_end: agreement.ends_with_period,
        end_time: end.map(timestamp),
        scheduled_change: agreement.scheduled.as_ref().map(|change| scheduled(change, found.scheduled_at())),
        past_due_time: agreement.overdue.map(|overdue| timestamp(overdue.since)),
        grace_end_time: found.grace_end(policy).filter(|_| !ended).map(timestamp),
        next_payment_attempt_time: found.next_retry(policy).map(timestamp),
        ..of_row(row)
    }
}

fn held(held: &Held) -> pb::SubscribedAddOn {
    pb::SubscribedAddOn {
        add_on_id: held.terms.add_on_id.clone(),
        quantity: held.quantity,
        unit_price_minor: held.terms.unit_price_minor,
    }
}

fn scheduled(change: &Scheduled, at: DateTime<Utc>) -> pb::ScheduledChange {
    let quantity = |held: &Held| pb::AddOnQuantity { add_on_id: held.terms.add_on_id.clone(), quantity: held.quantity };
    pb::ScheduledChange {
        effective_time: Some(timestamp(at)),
        plan_id: change.terms.as_ref().map(|terms| terms.plan_id.clone()).unwrap_or_default(),
        price: change.terms.as_ref().map(|terms| price(&terms.price)),
        seats: change.seats,
        add_ons: change.add_ons.iter().map(quantity).collect(),
    }
}

fn grants(grants: &std::collections::BTreeMap<String, Grant>) -> Vec<pb::EntitlementGrant> {
    use pb::entitlement_grant::Grant as G;
    let shown = |(feature, grant): (&String, &Grant)| pb::EntitlementGrant {
        feature: feature.clone(),
        grant: Some(match grant {
            Grant::Enabled(enabled) => G::Enabled(*enabled),
            Grant::Limit(limit) => G::Limit(*limit),
            Grant::Unlimited(_) => G::Unlimited(true),
        }),
    };
    grants.iter().map(shown).collect()
}

/// A plan of the catalogue.
#[must_use]
pub fn plan(catalogue: &Catalogue, plan: &Plan) -> pb::Plan {
    let prices: Vec<pb::PlanPrice> = plan.prices.iter().map(price).collect();
    let first = prices.first().cloned().unwrap_or_default();
    let proration = match plan.proration {
        Proration::Second => pb::Proration::Second,
        Proration::Day => pb::Proration::Day,
    };
    pb::Plan {
        plan_id: plan.plan.clone(),
        title: plan.title.clone(),
        description: plan.description.clone(),
        currency_code: first.currency_code,
        billing_period: first.billing_period,
        base_price_minor: first.base_price_minor,
        seat_price_minor: first.seat_price_minor,
        included_seats: plan.included_seats,
        minimum_seats: plan.minimum_seats,
        maximum_seats: plan.maximum_seats,
        default: plan.default,
        version: plan.version,
        prices,
        trial_days: plan.trial_days.into(),
        proration: proration.into(),
        entitlements: grants(&plan.entitlements),
        add_ons: catalogue.add_ons_of(&plan.plan).map(add_on).collect(),
    }
}

fn add_on(add_on: &AddOn) -> pb::AddOn {
    let kind = match add_on.kind {
        AddOnKind::PerUnit => pb::AddOnKind::PerUnit,
        AddOnKind::Flat => pb::AddOnKind::Flat,
        AddOnKind::Metered => pb::AddOnKind::Metered,
    };
    let prices = add_on.prices.iter().map(|price| pb::AddOnPrice {
        currency_code: price.currency.code().to_owned(),
        billing_period: period(price.period).into(),
        unit_price_minor: price.unit_price_minor,
    });
    pb::AddOn {
        add_on_id: add_on.add_on.clone(),
        title: add_on.title.clone(),
        description: add_on.description.clone(),
        kind: kind.into(),
        prices: prices.collect(),
        maximum_quantity: add_on.maximum_quantity,
        entitlements: grants(&add_on.entitlements),
        meter: add_on.meter.clone().unwrap_or_default(),
        included: add_on.included,
        unit_size: if add_on.kind == AddOnKind::Metered { add_on.unit_size } else { 0 },
    }
}

/// A line that is not stored yet.
#[must_use]
pub fn line(line: &Line, treatment: Option<&TaxTreatment>) -> pb::InvoiceLine {
    let (kind, add_on_id) = match &line.item {
        Item::Plan => (pb::LineKind::Plan, ""),
        Item::Seats => (pb::LineKind::Seats, ""),
        Item::AddOn(add_on) => (pb::LineKind::AddOn, add_on.as_str()),
        Item::Usage(add_on) => (pb::LineKind::Usage, add_on.as_str()),
    };
    let rate = rate_of(line, treatment).map_or(0, |rate| rate.millionths);
    pb::InvoiceLine {
        kind: kind.into(),
        description: line.description.clone(),
        quantity: line.quantity,
        unit_price_minor: line.unit_price_minor,
        amount_minor: line.amount_minor,
        period_start_time: Some(timestamp(line.span.start)),
        period_end_time: Some(timestamp(line.span.end)),
        prorated: line.prorated,
        add_on_id: add_on_id.to_owned(),
        tax_rate_millionths: i32::try_from(rate).unwrap_or_default(),
        credited_invoice_id: of_invoice(line.returned.and_then(|returned| returned.invoice_id)),
        returned_tax_minor: line.returned.map(|returned| returned.tax_minor),
    }
}

fn of_invoice(invoice_id: Option<Uuid>) -> String {
    invoice_id.map(|id| id.to_string()).unwrap_or_default()
}

fn stored_line(row: &invoice_line::Model, recipient: &Recipient) -> pb::InvoiceLine {
    let kind = match row.kind {
        Kind::Plan => pb::LineKind::Plan,
        Kind::Seats => pb::LineKind::Seats,
        Kind::AddOn => pb::LineKind::AddOn,
        Kind::Usage => pb::LineKind::Usage,
        Kind::Tax => pb::LineKind::Tax,
    };
    let label = label_of(recipient.tax.as_ref());
    let rate = row.tax_rate.or(recipient.tax.as_ref().map(|tax| tax.rate.millionths)).unwrap_or_default();
    let description =
        if row.kind == Kind::Tax { format!("{label} {}", row.description) } else { row.description.clone() };
    pb::InvoiceLine {
        kind: kind.into(),
        description,
        quantity: row.quantity,
        unit_price_minor: row.unit_price_minor,
        amount_minor: row.amount_minor,
        period_start_time: Some(timestamp(row.period_start)),
        period_end_time: Some(timestamp(row.period_end)),
        prorated: row.prorated,
        add_on_id: row.add_on_id.clone().unwrap_or_default(),
        tax_rate_millionths: i32::try_from(rate).unwrap_or_default(),
        credited_invoice_id: of_invoice(row.credited_invoice_id),
        returned_tax_minor: row.returned_tax_minor,
    }
}

/// The taxes that come on top, as the lines that they will be.
fn tax_lines<'a>(taxes: &'a [Tax], label: &'a str) -> impl Iterator<Item = pb::InvoiceLine> + 'a {
    taxes.iter().filter(|tax| !tax.rate.included).map(move |tax| pb::InvoiceLine {
        kind: pb::LineKind::Tax.into(),
        description: format!("{label} {}", super::invoicing::percent(tax.rate.millionths)),
        amount_minor: tax.tax_minor,
        tax_rate_millionths: i32::try_from(tax.rate.millionths).unwrap_or_default(),
        ..pb::InvoiceLine::default()
    })
}

/// An invoice that is only foreseen.
#[must_use]
pub fn foreseen(
    scope: Scope,
    row: &subscription::Model,
    next: &Foreseen,
    treatment: Option<&TaxTreatment>,
) -> pb::Invoice {
    let totals = &next.totals;
    let mut lines: Vec<pb::InvoiceLine> = next.lines.iter().map(|one| line(one, treatment)).collect();
    lines.extend(tax_lines(&totals.taxes, label_of(treatment)));
    pb::Invoice {
        organization_id: scope.organization_id().to_string(),
        state: pb::InvoiceState::Draft.into(),
        currency_code: row.currency.clone().unwrap_or_default(),
        lines,
        subtotal_minor: totals.subtotal_minor,
        tax_minor: totals.tax_minor,
        total_minor: totals.total_minor,
        credit_applied_minor: next.credit_applied_minor,
        due_minor: (totals.total_minor - next.credit_applied_minor).max(0),
        finalize_time: Some(timestamp(next.at)),
        ..pb::Invoice::default()
    }
}

/// What an invoice keeps of its recipient.
///
/// # Errors
///
/// When it cannot be read.
pub fn recipient(row: &invoice::Model) -> Result<Recipient, Error> {
    Ok(read_json(row.recipient.as_ref())?.unwrap_or_default())
}

/// An invoice, without what belongs to it.
///
/// # Errors
///
/// When what is stored cannot be read.
pub fn invoice(row: &invoice::Model) -> Result<pb::Invoice, Error> {
    let state = match row.state {
        State::Draft => pb::InvoiceState::Draft,
        State::Open => pb::InvoiceState::Open,
        State::Paid => pb::InvoiceState::Paid,
        State::Void => pb::InvoiceState::Void,
        State::Uncollectible => pb::InvoiceState::Uncollectible,
    };
    let to = recipient(row)?;
    let printed = row.number.map(|number| printed_number(row.organization_id, "", number));
    Ok(pb::Invoice {
        organization_id: row.organization_id.to_string(),
        invoice_id: row.invoice_id.to_string(),
        number: row.number.unwrap_or_default(),
        printed_number: printed.unwrap_or_default(),
        state: state.into(),
        currency_code: row.currency.clone(),
        lines: Vec::new(),
        subtotal_minor: row.subtotal_minor,
        tax_minor: row.tax_minor,
        total_minor: row.total_minor,
        given_back_minor: row.given_back_minor,
        unpaid_credit_minor: row.unpaid_credit_minor,
        credit_applied_minor: row.credit_applied_minor,
        credited_minor: row.credited_minor,
        paid_minor: row.paid_minor,
        due_minor: row.due_minor(),
        create_time: Some(timestamp(row.created_at)),
        finalize_time: row.finalized_at.map(timestamp),
        due_time: row.due_at.map(timestamp),
        close_time: row.closed_at.map(timestamp),
        recipient: row.recipient.as_ref().map(|_| pb::BillingProfile {
            organization_id: row.organization_id.to_string(),
            tax_treatment: to.tax.as_ref().map(tax_treatment),
            ..to.profile.shown()
        }),
        payments: Vec::new(),
        credit_notes: Vec::new(),
    })
}

/// An invoice with its lines, payments and credit notes.
///
/// # Errors
///
/// When what is stored cannot be read.
pub fn whole_invoice(
    row: &invoice::Model,
    recipient: &Recipient,
    lines: &[invoice_line::Model],
    payments: &[payment::Model],
    credit_notes: &[credit_note::Model],
) -> Result<pb::Invoice, Error> {
    let figured = |line: &&invoice_line::Model| row.state == State::Draft && line.kind == Kind::Tax;
    let lines: Vec<&invoice_line::Model> = lines.iter().filter(|line| !figured(line)).collect();
    let mut shown: Vec<pb::InvoiceLine> = lines.iter().map(|line| stored_line(line, recipient)).collect();
    if row.state == State::Draft {
        // What comes on top becomes a line when the invoice becomes open; what goes back does also where nothing is taxed by now.
        let own = recipient.tax.as_ref().map(|treatment| treatment.rate);
        let parts = lines.iter().filter_map(|line| taxable(line));
        let taxes = invoicing::taxes(parts.map(|part| Taxable { rate: part.rate.or(own), ..part }))?;
        shown.extend(tax_lines(&taxes, label_of(recipient.tax.as_ref())));
    }
    Ok(pb::Invoice {
        lines: shown,
        payments: payments.iter().map(payment).collect(),
        credit_notes: credit_notes.iter().map(credit_note).collect(),
        ..invoice(row)?
    })
}

/// How an organization is taxed.
#[must_use]
pub fn tax_treatment(treatment: &TaxTreatment) -> pb::TaxTreatment {
    let behavior = if treatment.rate.included { pb::TaxBehavior::Inclusive } else { pb::TaxBehavior::Exclusive };
    pb::TaxTreatment {
        rate_millionths: i32::try_from(treatment.rate.millionths).unwrap_or_default(),
        behavior: behavior.into(),
        label: treatment.label.clone(),
        note: treatment.note.clone(),
    }
}

/// A payment.
#[must_use]
pub fn payment(row: &payment::Model) -> pb::Payment {
    let state = match row.state {
        payment::State::Pending => pb::PaymentState::Pending,
        payment::State::Succeeded => pb::PaymentState::Succeeded,
        payment::State::Failed => pb::PaymentState::Failed,
    };
    pb::Payment {
        payment_id: row.payment_id.to_string(),
        invoice_id: row.invoice_id.to_string(),
        state: state.into(),
        amount_minor: row.amount_minor,
        currency_code: row.currency.clone(),
        provider: row.provider.clone(),
        reference: row.reference.clone().unwrap_or_default(),
        failure: row.failure.clone(),
        create_time: Some(timestamp(row.created_at)),
        end_time: row.ended_at.map(timestamp),
    }
}

/// A credit note.
#[must_use]
pub fn credit_note(row: &credit_note::Model) -> pb::CreditNote {
    let outcome = match row.outcome {
        credit_note::Outcome::CreditBalance => pb::CreditNoteOutcome::CreditBalance,
        credit_note::Outcome::PaidBack => pb::CreditNoteOutcome::PaidBack,
    };
    pb::CreditNote {
        credit_note_id: row.credit_note_id.to_string(),
        invoice_id: row.invoice_id.to_string(),
        number: row.number,
        printed_number: printed_number(row.organization_id, "CN", row.number),
        amount_minor: row.amount_minor,
        tax_minor: row.tax_minor,
        reason: row.reason.clone(),
        off_due_minor: row.off_due_minor,
        outcome: outcome.into(),
        create_time: Some(timestamp(row.created_at)),
    }
}

/// An entry of the credit balance.
#[must_use]
pub fn credit_entry(row: &credit_entry::Model) -> pb::CreditEntry {
    let cause = match row.cause {
        credit_entry::Cause::NegativeInvoice => pb::CreditCause::NegativeInvoice,
        credit_entry::Cause::Applied => pb::CreditCause::Applied,
        credit_entry::Cause::InvoiceVoided => pb::CreditCause::InvoiceVoided,
        credit_entry::Cause::CreditNote => pb::CreditCause::CreditNote,
        credit_entry::Cause::Overpaid => pb::CreditCause::Overpaid,
        credit_entry::Cause::InvoiceUncollectible => pb::CreditCause::InvoiceUncollectible,
    };
    pb::CreditEntry {
        number: row.number,
        amount_minor: row.amount_minor,
        balance_minor: row.balance_minor,
        currency_code: row.currency.clone(),
        cause: cause.into(),
        invoice_id: row.invoice_id.to_string(),
        credit_note_id: row.credit_note_id.map(|id| id.to_string()).unwrap_or_default(),
        time: Some(timestamp(row.occurred_at)),
    }
}

/// A payment method.
#[must_use]
pub fn payment_method(row: &payment_method::Model) -> pb::PaymentMethod {
    pb::PaymentMethod {
        payment_method_id: row.payment_method_id.to_string(),
        kind: row.kind.clone(),
        brand: row.brand.clone(),
        last4: row.last4.clone(),
        expiry_month: row.expiry_month,
        expiry_year: row.expiry_year,
        default: row.is_default,
        create_time: Some(timestamp(row.created_at)),
    }
}

/// An entry of the ledger of seats.
#[must_use]
pub fn seat_entry(row: &seat_entry::Model) -> pb::SeatEntry {
    use seat_entry::Cause as C;
    let cause = match row.cause {
        C::InvitationSent => pb::SeatCause::InvitationSent,
        C::InvitationCanceled => pb::SeatCause::InvitationCanceled,
        C::InvitationDeclined => pb::SeatCause::InvitationDeclined,
        C::InvitationAccepted => pb::SeatCause::InvitationAccepted,
        C::InvitationExpired => pb::SeatCause::InvitationExpired,
        C::MemberJoined => pb::SeatCause::MemberJoined,
        C::MemberRemoved => pb::SeatCause::MemberRemoved,
        C::MemberSuspended => pb::SeatCause::MemberSuspended,
        C::MemberReactivated => pb::SeatCause::MemberReactivated,
        C::SeatsChanged => pb::SeatCause::SeatsChanged,
        C::OpeningBalance => pb::SeatCause::OpeningBalance,
    };
    pb::SeatEntry {
        entry_id: row.entry_id.to_string(),
        time: Some(timestamp(row.occurred_at)),
        cause: cause.into(),
        subject: row.subject.clone(),
        taken: row.taken,
        added: row.added,
    }
}
