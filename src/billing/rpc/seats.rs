//! GetSeatUsage and ListSeatEntries.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::app::App;
use crate::billing::calendar::Span;
use crate::billing::seats::Usage;
use crate::billing::{ledger, shown, store};
use crate::entity::invoice_line::Kind;
use crate::error::{Billing, Error};
use crate::fields::Fields;
use crate::operation::{self, Query, Reader};
use crate::page::Page;
use crate::pb;

pub(super) struct GetSeatUsage {
    at: Option<DateTime<Utc>>,
}

impl Query for GetSeatUsage {
    type Request = pb::GetSeatUsageRequest;
    type Response = pb::GetSeatUsageResponse;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let at = fields.past_time("time", request.time.as_ref(), app.clock.now());
        fields.done(Self { at })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let usage = match self.at.filter(|at| *at < reader.now) {
            None => seat_usage(reader).await?,
            Some(at) => {
                let found = ledger::usage_at(reader.connection(), reader.scope, at).await?;
                found.ok_or_else(|| Error::of_field("time", "must not be before seats are accounted for"))?
            }
        };
        Ok(pb::GetSeatUsageResponse { seat_usage: Some(shown::seat_usage(reader.scope, usage)) })
    }
}

/// How the seats of an organization are used at this instant.
pub(crate) async fn seat_usage(reader: &Reader<'_>) -> Result<Usage, Error> {
    let organization = reader.organization()?;
    if organization.pending_invitations == 0 {
        return Ok(Usage { total: organization.seats_total, members: organization.active_members, pending: 0 });
    }
    // One that has expired since the last change is still in the counter.
    operation::store::find_usage(reader.connection(), reader.scope, reader.now).await
}

pub(super) struct ListSeatEntries {
    line: Option<(Uuid, i64)>,
    page: Page<(DateTime<Utc>, Uuid)>,
}

impl Query for ListSeatEntries {
    type Request = pb::ListSeatEntriesRequest;
    type Response = pb::ListSeatEntriesResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let line = if request.invoice_id.is_empty() && request.line == 0 {
            None
        } else {
            if request.line < 1 {
                fields.fault("line", "must be the number of a line of the invoice, from 1");
            }
            Some((fields.uuid("invoice_id", &request.invoice_id), i64::from(request.line)))
        };
        let list = format!("ListSeatEntries {} {line:?}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, |_| true)?;
        fields.done(Self { line, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let within = match self.line {
            None => None,
            Some((invoice_id, position)) => {
                let missing = || Billing::InvoiceNotFound { invoice_id: invoice_id.to_string() };
                let invoice = store::load_invoice(reader.connection(), reader.scope, invoice_id).await?;
                let lines = store::list_lines(reader.connection(), invoice.organization_id, invoice_id).await?;
                let line = lines.into_iter().find(|line| line.position == position).ok_or_else(missing)?;
                let seats = line.kind == Kind::Seats;
                // A line for a whole period charges what the number of seats had come to when it was charged: at the beginning
                // of the period, or when somebody came to it.
                seats
                    .then_some(if line.prorated {
                        ledger::Explained::Change(Span { start: line.period_start, end: line.period_end })
                    } else {
                        ledger::Explained::Until(invoice.finalized_at.unwrap_or(reader.now))
                    })
                    .map(Some)
                    .ok_or_else(missing)?
            }
        };
        let (connection, page) = (reader.connection(), &self.page);
        let mut rows = ledger::list(connection, reader.scope, within, page.after, page.size + 1).await?;
        let next_page_token = page.cut(&mut rows, |row| (row.recorded_at, row.entry_id))?;
        let seat_entries = rows.iter().map(shown::seat_entry).collect();
        Ok(pb::ListSeatEntriesResponse { seat_entries, next_page_token })
    }
}
