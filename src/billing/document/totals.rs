//! What the lines come to: taxes, what is settled and what is left.

use super::flow::{self, BODY, Band, Column, Flow, INK, MUTED, NodeId, RIGHT, Role, TINT, Written};
use super::fonts::{Run, Style};
use super::{Document, Kind, Tax};

const TEXT: Style = flow::regular(9.0);
const STRONG: Style = flow::bold(9.5);
const LAST: Style = flow::bold(11.0);
const WIDTH: f32 = 250.0;
const NARROWEST_LABEL: f32 = 130.0;
const GAP: f32 = 16.0;
const ABOVE: f32 = 8.0;

struct Total {
    label: String,
    amount: String,
    style: Style,
    quiet: bool,
}

/// The rows, to be written after the table that they belong to.
pub(super) fn bands(flow: &mut Flow, document: &Document, table: NodeId) -> Vec<Band> {
    let totals = totals(document);
    let amounts: Vec<Run> =
        totals.iter().map(|total| flow.fonts.line(&total.amount, flow::tabular(total.style))).collect();
    let widest = amounts.iter().map(|run| run.width).fold(0.0, f32::max);
    let label = (WIDTH - widest - GAP).max(NARROWEST_LABEL);
    let left = RIGHT - widest - GAP - label;
    let mut bands = Vec::new();
    for (total, run) in totals.iter().zip(amounts) {
        let row = flow.node(Role::Row, Some(table));
        bands.push(band(flow, total, run, row, left, label));
    }
    bands
}

/// How much room they want on one page, or none when they would not fit on any.
pub(super) fn height(bands: &[Band]) -> f32 {
    let height = ABOVE + bands.iter().map(Band::height).sum::<f32>();
    if height > BODY { 0.0 } else { height }
}

/// Writes them, on one page if any can hold them.
pub(super) fn write(flow: &mut Flow, bands: &[Band]) {
    flow.keep(height(bands));
    flow.y += ABOVE;
    for band in bands {
        flow.keep(band.height());
        flow.band(band);
    }
}

fn band(flow: &mut Flow, total: &Total, run: Run, row: NodeId, left: f32, width: f32) -> Band {
    let colour = if total.quiet { MUTED } else { INK };
    let node = flow.node(Role::RowHeading, Some(row));
    let label = flow.paragraph(&total.label, total.style, colour, width, node);
    let node = flow.node(Role::Cell, Some(row));
    let amount = vec![Written { run, colour, node }];
    let last = total.style == LAST;
    Band {
        columns: vec![Column::left(left, label), Column::right(RIGHT, amount)],
        above: if last { 7.0 } else { 2.5 },
        below: if last { 7.0 } else { 2.5 },
        background: last.then_some((left, TINT)),
        rule: None,
    }
}

fn totals(document: &Document) -> Vec<Total> {
    let figures = |minor| document.currency.figures(minor);
    let plain =
        |label: &str, minor| Total { label: label.to_owned(), amount: figures(minor), style: TEXT, quiet: false };
    let tax = |tax: &Tax| {
        let label = format!("{} on {}", tax.label, figures(tax.taxable_minor));
        Total {
            label: if tax.included { format!("Includes {label}") } else { label },
            quiet: tax.included,
            ..plain("", tax.tax_minor)
        }
    };
    let (total, credit, paid, due) = words(document.kind);
    let written = |minor| document.currency.written(minor);
    let mut totals = vec![plain("Subtotal", document.subtotal_minor)];
    totals.extend(document.taxes.iter().filter(|tax| !tax.included).map(tax));
    totals.push(Total { label: total.to_owned(), amount: written(document.total_minor), style: STRONG, quiet: false });
    totals.extend(document.taxes.iter().filter(|tax| tax.included).map(tax));
    for (label, minor) in [(credit, document.credit_applied_minor), (paid, document.paid_minor)] {
        // What is subtracted from an invoice is where a credit note goes.
        let minor = if document.kind == Kind::Invoice { minor.saturating_neg() } else { minor };
        totals.extend((minor != 0).then(|| plain(label, minor)));
    }
    if document.kind == Kind::Invoice || document.due_minor != 0 {
        totals.push(Total { label: due.to_owned(), amount: written(document.due_minor), style: LAST, quiet: false });
    }
    totals
}

fn words(kind: Kind) -> (&'static str, &'static str, &'static str, &'static str) {
    match kind {
        Kind::Invoice => ("Total", "Credit applied", "Paid", "Amount due"),
        Kind::CreditNote => ("Total credit", "Added to your credit", "Paid back", "Left to pay back"),
    }
}
