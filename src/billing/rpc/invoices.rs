//! ListInvoices, GetInvoice and DownloadInvoice.

use uuid::Uuid;

use crate::app::App;
use crate::auth::scope::Scope;
use crate::billing::account::not_open;
use crate::billing::{printing, shown, store};
use crate::entity::invoice::{self, State};
use crate::error::{Billing, Error};
use crate::fields::Fields;
use crate::operation::store::read_json;
use crate::operation::{Query, Reader};
use crate::page::Page;
use crate::pb::{self, InvoiceState};

pub(super) struct ListInvoices {
    states: Vec<State>,
    page: Page<i64>,
}

impl Query for ListInvoices {
    type Request = pb::ListInvoicesRequest;
    type Response = pb::ListInvoicesResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let states = fields.states(&request.states, "must be a state of an invoice", |number| {
            Some(match InvoiceState::try_from(number).ok()? {
                InvoiceState::Draft => State::Draft,
                InvoiceState::Open => State::Open,
                InvoiceState::Paid => State::Paid,
                InvoiceState::Void => State::Void,
                InvoiceState::Uncollectible => State::Uncollectible,
                InvoiceState::Unspecified => return None,
            })
        });
        let list = format!("ListInvoices {} {states:?}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, |_| true)?;
        fields.done(Self { states, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let page = &self.page;
        let rows = store::list_invoices(reader.connection(), reader.scope, &self.states, page.after, page.size + 1);
        let mut rows = rows.await?;
        let next_page_token = page.cut(&mut rows, |row| row.number.unwrap_or(i64::MAX))?;
        let invoices = rows.iter().map(shown::invoice).collect::<Result<_, _>>()?;
        Ok(pb::ListInvoicesResponse { invoices, next_page_token })
    }
}

pub(super) struct GetInvoice {
    invoice_id: Uuid,
}

impl Query for GetInvoice {
    type Request = pb::GetInvoiceRequest;
    type Response = pb::GetInvoiceResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let invoice_id = fields.uuid("invoice_id", &request.invoice_id);
        fields.done(Self { invoice_id })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let row = store::load_invoice(reader.connection(), reader.scope, self.invoice_id).await?;
        let invoice = Some(whole(reader.connection(), &row).await?);
        Ok(pb::GetInvoiceResponse { invoice })
    }
}

/// An invoice with everything that belongs to it.
pub(super) async fn whole(
    connection: &impl sea_orm::ConnectionTrait,
    row: &invoice::Model,
) -> Result<pb::Invoice, Error> {
    let lines = store::list_lines(connection, row.organization_id, row.invoice_id).await?;
    let payments = store::list_payments(connection, row).await?;
    let credit_notes = store::list_credit_notes(connection, row).await?;
    let mut recipient = shown::recipient(row)?;
    if row.state == State::Draft {
        // It is taxed as the organization is by now.
        let profile = store::find_profile(connection, Scope::of_newcomer(row.organization_id)).await?;
        recipient.tax = read_json(profile.as_ref().and_then(|profile| profile.tax.as_ref()))?;
    }
    shown::whole_invoice(row, &recipient, &lines, &payments, &credit_notes)
}

pub(super) struct DownloadInvoice {
    invoice_id: Uuid,
    credit_note_id: Option<Uuid>,
}

impl Query for DownloadInvoice {
    type Request = pb::DownloadInvoiceRequest;
    type Response = pb::DownloadInvoiceResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let invoice_id = fields.uuid("invoice_id", &request.invoice_id);
        let said = Some(request.credit_note_id.as_str()).filter(|id| !id.is_empty());
        let credit_note_id = said.map(|id| fields.uuid("credit_note_id", id));
        fields.done(Self { invoice_id, credit_note_id })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let connection = reader.connection();
        let row = store::load_invoice(connection, reader.scope, self.invoice_id).await?;
        let lines = store::list_lines(connection, row.organization_id, row.invoice_id).await?;
        let catalogue = &reader.app.catalogue;
        let document = match self.credit_note_id {
            None if row.state == State::Draft => {
                return Err(not_open(&row));
            }
            None => printing::invoice(catalogue, &row, &lines)?,
            Some(credit_note_id) => {
                let credit_notes = store::list_credit_notes(connection, &row).await?;
                let found = credit_notes.into_iter().find(|note| note.credit_note_id == credit_note_id);
                let missing = || Billing::InvoiceNotFound { invoice_id: self.invoice_id.to_string() };
                printing::credit_note(catalogue, &row, &found.ok_or_else(missing)?)?
            }
        };
        Ok(pb::DownloadInvoiceResponse {
            file_name: format!("{}.pdf", document.number),
            content_type: "application/pdf".to_owned(),
            content: printing::draw(document).await?,
        })
    }
}
