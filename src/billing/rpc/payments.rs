//! RecordPayment, VoidInvoice and MarkInvoiceUncollectible.

use sea_orm::{EntityTrait as _, IntoActiveModel as _};
use uuid::Uuid;

use super::invoices::whole;
use crate::app::App;
use crate::billing::account::{Account, Paid};
use crate::billing::money::{Currency, MOST};
use crate::billing::{shown, store};
use crate::entity::payment::{self, State};
use crate::entity::{invoice_line, subscription};
use crate::error::{Billing, Error, OnConstraint as _};
use crate::fields::Fields;
use crate::id;
use crate::operation::{Command, Trusted, Unit};
use crate::pb;

/// What payments are recorded under that no provider collects.
const MANUAL: &str = "manual";

pub(super) struct RecordPayment {
    invoice_id: Uuid,
    succeeded: bool,
    amount_minor: i64,
    currency: Option<Currency>,
    reference: String,
    failure: String,
}

impl Command for RecordPayment {
    type Request = pb::RecordPaymentRequest;
    type Response = pb::RecordPaymentResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let state = pb::PaymentState::try_from(request.state).unwrap_or_default();
        let succeeded = state == pb::PaymentState::Succeeded;
        if !succeeded && state != pb::PaymentState::Failed {
            fields.fault("state", "must be PAYMENT_STATE_SUCCEEDED or PAYMENT_STATE_FAILED");
        }
        amount(&mut fields, request.amount_minor);
        let currency = Currency::parse(&request.currency_code);
        if currency.is_none() {
            fields.fault("currency_code", "must be an ISO 4217 code in upper case, as in EUR");
        }
        let invoice_id = fields.uuid("invoice_id", &request.invoice_id);
        let reference = fields.line("reference", &request.reference, 1..=200);
        let failure = fields.line("failure", &request.failure, 0..=200);
        fields.done(Self { invoice_id, succeeded, amount_minor: request.amount_minor, currency, reference, failure })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let row = store::load_invoice(unit.transaction(), unit.scope(), self.invoice_id).await?;
        if let Some(known) = store::find_payment(unit.transaction(), unit.scope(), MANUAL, &self.reference).await? {
            let (reference, invoice_id) = (self.reference.clone(), known.invoice_id);
            return Err(Billing::PaymentReferenceUsed { reference, invoice_id }.into());
        }
        if self.currency.is_none_or(|currency| currency.code() != row.currency) {
            return Err(Billing::CurrencyMismatch { currency_code: row.currency }.into());
        }
        let mut account = Account::of(unit).await?;
        let payment_id = id::new(unit.now);
        let failure = if self.failure.is_empty() && !self.succeeded { "not paid" } else { &self.failure };
        let paid = Paid {
            succeeded: self.succeeded,
            amount_minor: self.amount_minor,
            failure: failure.to_owned(),
            hard: false,
        };
        account.note_payment(&row, payment_id, &paid, unit.now)?;
        let payment = payment::Model {
            organization_id: row.organization_id,
            payment_id,
            invoice_id: row.invoice_id,
            state: if self.succeeded { State::Succeeded } else { State::Failed },
            amount_minor: self.amount_minor,
            currency: row.currency.clone(),
            provider: MANUAL.to_owned(),
            reference: Some(self.reference.clone()),
            failure: if self.succeeded { String::new() } else { failure.to_owned() },
            created_at: unit.now,
            ended_at: Some(unit.now),
            claimed_until: None,
            request: None,
        };
        let (reference, invoice_id) = (self.reference.clone(), row.invoice_id);
        payment::Entity::insert(payment.clone().into_active_model())
            .exec_without_returning(unit.transaction())
            .await
            .on_constraint("payment_reference_once", || Billing::PaymentReferenceUsed { reference, invoice_id }.into())?;
        let used = unit.seats().await?.used();
        account.catch_up(used, unit.now)?;
        let (subscription, invoice) = written(account, unit, self.invoice_id).await?;
        Ok(pb::RecordPaymentResponse {
            payment: Some(shown::payment(&payment)),
            invoice: Some(invoice),
            subscription: Some(shown::subscription(unit.app, &subscription, unit.now)?),
        })
    }
}

/// Writes the account, and gives the subscription and an invoice as they are then.
pub(super) async fn written<A>(
    account: Box<Account<'_>>,
    unit: &mut Unit<'_, A>,
    invoice_id: Uuid,
) -> Result<(subscription::Model, pb::Invoice), Error> {
    let subscription = account.save(unit).await?;
    let row = store::load_invoice(unit.transaction(), unit.scope(), invoice_id).await?;
    Ok((subscription, whole(unit.transaction(), &row).await?))
}

/// Reads an amount of money.
pub(super) fn amount(fields: &mut Fields, amount_minor: i64) {
    if !(1..=MOST).contains(&amount_minor) {
        fields.fault("amount_minor", "must be at least 1, and at most 10^15");
    }
}

pub(super) struct VoidInvoice {
    invoice_id: Uuid,
}

impl Command for VoidInvoice {
    type Request = pb::VoidInvoiceRequest;
    type Response = pb::VoidInvoiceResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let invoice_id = fields.uuid("invoice_id", &request.invoice_id);
        fields.done(Self { invoice_id })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let row = store::load_invoice(unit.transaction(), unit.scope(), self.invoice_id).await?;
        let lines = store::list_lines(unit.transaction(), row.organization_id, row.invoice_id).await?;
        let carries_over = |line: &invoice_line::Model| {
            line.credited_invoice_id.is_none()
                && line.returned_tax_minor.is_some()
                && line.period_start == line.period_end
        };
        if lines.iter().any(|line| line.amount_minor < 0 && !carries_over(line)) {
            // What the customer was given back on it would be lost.
            return Err(Billing::InvoicePartlyPaid { invoice_id: row.invoice_id }.into());
        }
        let mut account = Account::of(unit).await?;
        account.void(&row, unit.now)?;
        let (_, invoice) = written(account, unit, self.invoice_id).await?;
        Ok(pb::VoidInvoiceResponse { invoice: Some(invoice) })
    }
}

pub(super) struct MarkInvoiceUncollectible {
    invoice_id: Uuid,
}

impl Command for MarkInvoiceUncollectible {
    type Request = pb::MarkInvoiceUncollectibleRequest;
    type Response = pb::MarkInvoiceUncollectibleResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let invoice_id = fields.uuid("invoice_id", &request.invoice_id);
        fields.done(Self { invoice_id })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let row = store::load_invoice(unit.transaction(), unit.scope(), self.invoice_id).await?;
        let mut account = Account::of(unit).await?;
        account.give_up(&row, unit.now)?;
        let (_, invoice) = written(account, unit, self.invoice_id).await?;
        Ok(pb::MarkInvoiceUncollectibleResponse { invoice: Some(invoice) })
    }
}
