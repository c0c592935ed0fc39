//! Invoices and credit notes on paper: what their rows say, as a document says it.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::account::{Issuer, Recipient};
use super::catalogue::Catalogue;
use super::document::{Document, Kind, Line, Party, Status, Tax, render};
use super::invoicing::{self, Taxable, label_of, percent};
use super::money::Currency;
use super::profile::{Address, Profile};
use super::proration::TaxRate;
use super::shown;
use crate::entity::invoice::State;
use crate::entity::invoice_line::Kind as LineKind;
use crate::entity::{credit_note, invoice, invoice_line};
use crate::error::Error;

/// What an invoice that is not a draft looks like.
///
/// # Errors
///
/// When what is stored cannot be read.
pub fn invoice(catalogue: &Catalogue, row: &invoice::Model, lines: &[invoice_line::Model]) -> Result<Document, Error> {
    let recipient = shown::recipient(row)?;
    let charged = || lines.iter().filter(|line| line.kind != LineKind::Tax);
    let first = charged().map(|line| line.period_start).min();
    let last = charged().map(|line| line.period_end).max();
    let number = shown::printed_number(row.organization_id, "", row.number.unwrap_or_default());
    let mut document = blank(catalogue, row, &recipient, number)?;
    document.status = match row.state {
        State::Draft | State::Open => Status::Open,
        State::Paid => Status::Paid,
        State::Void => Status::Void,
        State::Uncollectible => Status::Uncollectible,
    };
    document.due_on = row.due_at.map(|at| at.date_naive());
    document.period = first.zip(last).map(|(first, last)| (first.date_naive(), last_day(last)));
    document.lines = charged().map(line).collect();
    document.taxes = taxes(lines, &recipient)?;
    document.subtotal_minor = row.subtotal_minor;
    document.total_minor = row.total_minor;
    // What a credit note took off stands with what credit paid: neither is to be paid any more.
    document.credit_applied_minor = row.credit_applied_minor + row.credited_minor;
    document.paid_minor = row.paid_minor;
    document.due_minor = row.due_minor();
    Ok(document)
}

/// What a credit note looks like.
///
/// # Errors
///
/// When what is stored cannot be read.
pub fn credit_note(catalogue: &Catalogue, row: &invoice::Model, note: &credit_note::Model) -> Result<Document, Error> {
    let recipient = shown::recipient(row)?;
    let number = shown::printed_number(row.organization_id, "CN", note.number);
    let mut document = blank(catalogue, row, &recipient, number)?;
    let included = recipient.tax.as_ref().is_some_and(|tax| tax.rate.included);
    let net = note.amount_minor - note.tax_minor;
    document.kind = Kind::CreditNote;
    document.status = Status::Issued;
    document.issued_on = note.created_at.date_naive();
    document.refers_to = Some(shown::printed_number(row.organization_id, "", row.number.unwrap_or_default()));
    document.subtotal_minor = if included { note.amount_minor } else { net };
    let amount_minor = document.subtotal_minor;
    document.lines = vec![Line { description: note.reason.clone(), amount_minor, ..Line::default() }];
    if note.tax_minor != 0 {
        let label = label_of(recipient.tax.as_ref()).to_owned();
        let taxable_minor = if included { note.amount_minor } else { net };
        document.taxes = vec![Tax { label, taxable_minor, tax_minor: note.tax_minor, included }];
    }
    document.total_minor = note.amount_minor;
    let rest = note.amount_minor - note.off_due_minor;
    match note.outcome {
        credit_note::Outcome::CreditBalance => document.credit_applied_minor = rest,
        credit_note::Outcome::PaidBack => document.paid_minor = rest,
    }
    if note.off_due_minor > 0 {
        let off = document.currency.written(note.off_due_minor);
        document.notes.insert(0, format!("{off} of it was taken off what was due on the invoice."));
    }
    Ok(document)
}

/// What both have in common.
fn blank(
    catalogue: &Catalogue,
    row: &invoice::Model,
    recipient: &Recipient,
    number: String,
) -> Result<Document, Error> {
    let currency = Currency::parse(&row.currency).ok_or(Error::defect("an invoice in no currency"))?;
    let seller = &recipient.seller.clone().unwrap_or_else(|| Issuer::from(&catalogue.seller));
    let mut notes: Vec<String> = recipient.tax.iter().map(|tax| tax.note.clone()).collect();
    notes.retain(|note| !note.is_empty());
    notes.extend(seller.notes.iter().cloned());
    Ok(Document {
        kind: Kind::Invoice,
        number,
        status: Status::Open,
        issued_on: row.finalized_at.unwrap_or(row.created_at).date_naive(),
        due_on: None,
        period: None,
        seller: party_of_seller(seller),
        customer: party_of(&recipient.profile),
        purchase_order_number: recipient.profile.purchase_order_number.clone(),
        refers_to: None,
        logo: catalogue.logo.clone(),
        accent: catalogue.seller.accent(),
        currency,
        lines: Vec::new(),
        taxes: Vec::new(),
        subtotal_minor: 0,
        total_minor: 0,
        credit_applied_minor: 0,
        paid_minor: 0,
        due_minor: 0,
        notes,
    })
}

fn line(row: &invoice_line::Model) -> Line {
    let (first, last) = (row.period_start.date_naive(), last_day(row.period_end.max(row.period_start)));
    let written = |day: NaiveDate| day.format("%-d %B %Y").to_string();
    let detail = if last > first { format!("{} – {}", written(first), written(last)) } else { written(first) };
    Line {
        description: row.description.clone(),
        detail,
        quantity: row.quantity,
        unit_price_minor: row.unit_price_minor,
        amount_minor: row.amount_minor,
    }
}

/// The last day of a period that ends before an instant.
fn last_day(end: DateTime<Utc>) -> NaiveDate {
    (end - TimeDelta::microseconds(1)).date_naive()
}

/// The tax of each rate: what stands in a line of its own where it comes on top, and what is in the lines otherwise.
fn taxes(lines: &[invoice_line::Model], recipient: &Recipient) -> Result<Vec<Tax>, Error> {
    let label = label_of(recipient.tax.as_ref());
    let taxed = invoicing::taxes(lines.iter().filter_map(taxable))?.into_iter().map(|tax| Tax {
        label: format!("{label} {}", percent(tax.rate.millionths)),
        taxable_minor: tax.taxable_minor,
        tax_minor: tax.tax_minor,
        included: tax.rate.included,
    });
    Ok(taxed.collect())
}

/// What of a line of an invoice is taxed; none of the lines that are tax.
pub(super) fn taxable(line: &invoice_line::Model) -> Option<Taxable> {
    let rate = line.tax_rate.zip(line.tax_included).map(|(millionths, included)| TaxRate { millionths, included });
    let of = Taxable { amount_minor: line.amount_minor, rate, returned_minor: line.returned_tax_minor };
    (line.kind != LineKind::Tax).then_some(of)
}

fn party_of_seller(seller: &Issuer) -> Party {
    Party {
        name: seller.name.clone(),
        address_lines: seller.address.clone(),
        email: seller.email.clone(),
        tax_id: seller.tax_id.clone(),
    }
}

fn party_of(profile: &Profile) -> Party {
    let Address { line1, line2, postal_code, city, region, country_code } = &profile.address;
    let place = [postal_code.as_str(), city.as_str()].join(" ").trim().to_owned();
    let mut address_lines = vec![line1.clone(), line2.clone(), place, region.clone(), country_code.clone()];
    address_lines.retain(|line| !line.is_empty());
    Party { name: profile.name.clone(), address_lines, email: profile.email.clone(), tax_id: profile.tax_id.clone() }
}

/// Draws a document.
///
/// # Errors
///
/// When it cannot be drawn, which is not to be expected of any.
pub async fn draw(document: Document) -> Result<Vec<u8>, Error> {
    // Hundreds of lines take a while, in which the thread would answer nobody else.
    let drawn = tokio::task::spawn_blocking(move || render(&document)).await;
    let drawn = drawn.map_err(|error| Error::Defect("a document was not drawn", Some(error.into())))?;
    drawn.map_err(|error| Error::Defect("a document could not be drawn", Some(error.into())))
}
