//! The table of what is charged, over as many pages as it takes.

use super::flow::{self, BODY, Band, Colour, Column, Flow, HAIRLINE, INK, LEFT, MUTED, NodeId, RIGHT, Role, Written};
use super::fonts::{Run, Style};
use super::{Document, Line};
use crate::billing::money;

const GAP: f32 = 16.0;
const TEXT: Style = flow::regular(9.0);
const DETAIL: Style = flow::regular(8.0);
const FIGURES: Style = flow::tabular(TEXT);
const HEADING: Style = flow::bold(8.0);

/// The right edges of the columns of figures, and the width that they leave to the description.
struct Edges {
    figures: [f32; 3],
    description: f32,
}

/// Writes the table. Its last line goes to a new page together with the totals, so that these do not stand there alone.
pub(super) fn write(flow: &mut Flow, document: &Document, table: NodeId, accent: Colour, totals: f32) {
    let headings = headings(document);
    let cells: Vec<[Run; 3]> =
        document.lines.iter().map(|line| figures(document, line).map(|text| flow.fonts.line(&text, FIGURES))).collect();
    let edges = edges(flow, &headings, &cells);
    let header = header(flow, table, &headings, &edges, accent);
    let mut rows = Vec::new();
    for (line, cells) in document.lines.iter().zip(cells) {
        rows.push(row(flow, table, line, cells, &edges));
    }
    // A heading with nothing below it says nothing.
    flow.keep(header.height() + rows.first().map_or(0.0, Band::height));
    flow.repeated(&header);
    let last = rows.len().saturating_sub(1);
    for (index, row) in rows.iter().enumerate() {
        let together = row.height() + totals;
        let alone = index < last || together > BODY - header.height();
        flow.keep(if alone { row.height() } else { together });
        flow.band(row);
    }
    flow.repeat_nothing();
}

fn headings(document: &Document) -> [String; 3] {
    let currency = document.currency.code();
    ["Quantity".to_owned(), format!("Unit price ({currency})"), format!("Amount ({currency})")]
}

fn figures(document: &Document, line: &Line) -> [String; 3] {
    let amount = |minor| document.currency.figures(minor);
    // An empty cell is still a cell: a space keeps it in the structure.
    let or_empty = |text: Option<String>| text.unwrap_or_else(|| " ".to_owned());
    [or_empty(line.quantity.map(money::count)), or_empty(line.unit_price_minor.map(amount)), amount(line.amount_minor)]
}

fn edges(flow: &Flow, headings: &[String; 3], cells: &[[Run; 3]]) -> Edges {
    let mut figures = [RIGHT; 3];
    let mut edge = RIGHT;
    for column in (0..3).rev() {
        figures[column] = edge;
        let heading = flow.fonts.line(&headings[column], HEADING).width;
        let widest = cells.iter().map(|cells| cells[column].width).fold(heading, f32::max);
        edge -= widest + GAP;
    }
    Edges { figures, description: edge - LEFT }
}

fn header(flow: &mut Flow, table: NodeId, headings: &[String; 3], edges: &Edges, accent: Colour) -> Band {
    let row = flow.node(Role::Row, Some(table));
    let mut cell = |text: &str| {
        let node = flow.node(Role::ColumnHeading, Some(row));
        vec![Written { run: flow.fonts.line(text, HEADING), colour: INK, node }]
    };
    let mut columns = vec![Column::left(LEFT, cell("Description"))];
    for (heading, edge) in headings.iter().zip(edges.figures) {
        columns.push(Column::right(edge, cell(heading)));
    }
    Band { columns, below: 5.0, rule: Some((LEFT, 1.2, accent)), ..Band::default() }
}

fn row(flow: &mut Flow, table: NodeId, line: &Line, cells: [Run; 3], edges: &Edges) -> Band {
    let row = flow.node(Role::Row, Some(table));
    let description = flow.node(Role::Cell, Some(row));
    let node = flow.node(Role::Paragraph, Some(description));
    let mut lines = flow.paragraph(&line.description, TEXT, INK, edges.description, node);
    let node = flow.node(Role::Paragraph, Some(description));
    lines.extend(flow.paragraph(&line.detail, DETAIL, MUTED, edges.description, node));
    let mut columns = vec![Column::left(LEFT, lines)];
    for (run, edge) in cells.into_iter().zip(edges.figures) {
        let node = flow.node(Role::Cell, Some(row));
        columns.push(Column::right(edge, vec![Written { run, colour: INK, node }]));
    }
    Band { columns, above: 6.0, below: 6.0, rule: Some((LEFT, 0.5, HAIRLINE)), ..Band::default() }
}
