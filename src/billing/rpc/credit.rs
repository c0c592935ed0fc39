//! CreateCreditNote and ListCreditEntries.

use sea_orm::{EntityTrait as _, IntoActiveModel as _};
use uuid::Uuid;

use super::payments::{amount, written};
use crate::app::App;
use crate::billing::account::Account;
use crate::billing::money;
use crate::billing::{shown, store};
use crate::entity::credit_note::{self, Outcome};
use crate::error::Error;
use crate::fields::Fields;
use crate::operation::{Command, Query, Reader, Trusted, Unit};
use crate::page::Page;
use crate::pb;

pub(super) struct CreateCreditNote {
    invoice_id: Uuid,
    amount_minor: i64,
    reason: String,
    outcome: Outcome,
}

impl Command for CreateCreditNote {
    type Request = pb::CreateCreditNoteRequest;
    type Response = pb::CreateCreditNoteResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let invoice_id = fields.uuid("invoice_id", &request.invoice_id);
        amount(&mut fields, request.amount_minor);
        let reason = fields.line("reason", &request.reason, 1..=200);
        let outcome = match pb::CreditNoteOutcome::try_from(request.outcome) {
            Ok(pb::CreditNoteOutcome::Unspecified | pb::CreditNoteOutcome::CreditBalance) => Outcome::CreditBalance,
            Ok(pb::CreditNoteOutcome::PaidBack) => Outcome::PaidBack,
            Err(_) => {
                fields.fault("outcome", "must be an outcome of a credit note");
                Outcome::CreditBalance
            }
        };
        fields.done(Self { invoice_id, amount_minor: request.amount_minor, reason, outcome })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let row = store::load_invoice(unit.transaction(), unit.scope(), self.invoice_id).await?;
        let known = store::list_credit_notes(unit.transaction(), &row).await?;
        let credited = money::sum(known.iter().map(|note| note.amount_minor))?;
        let mut account = Account::of(unit).await?;
        let note = account.credit_note(&row, credited, self.amount_minor, &self.reason, self.outcome, unit.now)?;
        credit_note::Entity::insert(note.clone().into_active_model())
            .exec_without_returning(unit.transaction())
            .await?;
        let (_, invoice) = written(account, unit, self.invoice_id).await?;
        let credit_note = Some(shown::credit_note(&note));
        Ok(pb::CreateCreditNoteResponse { credit_note, invoice: Some(invoice) })
    }
}

pub(super) struct ListCreditEntries {
    page: Page<i64>,
}

impl Query for ListCreditEntries {
    type Request = pb::ListCreditEntriesRequest;
    type Response = pb::ListCreditEntriesResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let list = format!("ListCreditEntries {}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, |number| *number > 0)?;
        fields.done(Self { page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let (connection, page) = (reader.connection(), &self.page);
        let subscription = store::load(connection, reader.scope).await?;
        let mut rows = store::list_credit_entries(connection, reader.scope, page.after, page.size + 1).await?;
        let next_page_token = page.cut(&mut rows, |row| row.number)?;
        Ok(pb::ListCreditEntriesResponse {
            credit_entries: rows.iter().map(shown::credit_entry).collect(),
            next_page_token,
            balance_minor: subscription.credit_minor,
            currency_code: subscription.currency.unwrap_or_default(),
        })
    }
}
