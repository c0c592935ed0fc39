//! What stands where: the head, the parties, the dates, the table, the totals, the notes and the foot of every page.

use chrono::NaiveDate;

use super::flow::{self, Band, Colour, Column, Flow, HAIRLINE, INK, Item, LEFT, MUTED, RIGHT, Role, Written};
use super::fonts::Fonts;
use super::{Document, Kind, Party, Status, table, totals};

const DEFAULT_ACCENT: Colour = (38, 70, 140);
const GUTTER: f32 = 24.0;
const LABEL: f32 = 7.5;
const TEXT: f32 = 9.0;

/// The document, laid out.
pub(super) fn pages<'a>(document: &Document, fonts: &'a Fonts) -> Flow<'a> {
    let mut flow = Flow::new(fonts);
    let accent = document.accent.unwrap_or(DEFAULT_ACCENT);
    flow.draw(Item::Fill { x: 0.0, y: 0.0, width: flow::PAGE.0, height: 6.0, radius: 0.0, colour: accent });
    head(&mut flow, document);
    parties(&mut flow, document);
    facts(&mut flow, document);
    // In the order in which they are read; the second is measured before the first is written.
    let (lines, sums) = (flow.node(Role::Table, None), flow.node(Role::Table, None));
    let totals = totals::bands(&mut flow, document, sums);
    table::write(&mut flow, document, lines, accent, totals::height(&totals));
    totals::write(&mut flow, &totals);
    notes(&mut flow, &document.notes);
    feet(&mut flow, document);
    flow
}

impl Document {
    pub(super) fn title(&self) -> &'static str {
        match self.kind {
            Kind::Invoice => "Invoice",
            Kind::CreditNote => "Credit note",
        }
    }
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Paid => "Paid",
            Self::Void => "Void",
            Self::Uncollectible => "Uncollectible",
            Self::Issued => "Issued",
        }
    }

    /// The background and the letters of the word.
    fn colours(self) -> (Colour, Colour) {
        match self {
            Self::Open | Self::Issued => ((224, 234, 252), (30, 64, 140)),
            Self::Paid => ((220, 243, 228), (22, 88, 48)),
            Self::Void => ((229, 231, 235), (55, 65, 81)),
            Self::Uncollectible => ((252, 228, 226), (140, 28, 24)),
        }
    }
}

fn head(flow: &mut Flow, document: &Document) {
    let top = flow.y;
    let middle = LEFT + (RIGHT - LEFT) * 0.55;
    let mut lowest = top;
    if let Some(logo) = &document.logo {
        let (width, height) = logo.within(170.0, 60.0);
        let node = flow.node(Role::Picture(super::fonts::printable(&document.seller.name)), None);
        flow.draw(Item::Picture { logo: logo.clone(), x: LEFT, y: top, width, height, node });
        lowest = top + height;
    } else {
        let node = flow.node(Role::Paragraph, None);
        // The whole name stands again among the parties.
        let runs = flow.fonts.wrap_at_most(&document.seller.name, flow::bold(16.0), middle - LEFT - GUTTER, 3);
        let lines = runs.into_iter().map(|run| Written { run, colour: INK, node }).collect();
        flow.band(&Band { columns: vec![Column::left(LEFT, lines)], ..Band::default() });
        lowest = lowest.max(flow.y);
    }
    flow.y = top;
    title(flow, document);
    let node = flow.node(Role::Paragraph, None);
    let runs = flow.fonts.wrap_at_most(&document.number, flow::regular(11.0), RIGHT - middle, 3);
    let lines = runs.into_iter().map(|run| Written { run, colour: MUTED, node }).collect();
    flow.band(&Band { columns: vec![Column::right(RIGHT, lines)], ..Band::default() });
    flow.y = flow.y.max(lowest) + 26.0;
}

fn title(flow: &mut Flow, document: &Document) {
    let (background, letters) = document.status.colours();
    let word = flow.fonts.line(document.status.word(), flow::bold(8.5));
    let title = flow.fonts.line(document.title(), flow::bold(22.0));
    let baseline = flow.y + 20.0;
    let chip = word.width + 14.0;
    let start = RIGHT - chip - 10.0 - title.width;
    let node = flow.node(Role::Title(document.title().to_owned()), None);
    flow.draw(Item::Text { run: title, x: start, baseline, colour: INK, node: Some(node) });
    let (x, y) = (RIGHT - chip, baseline - 14.5);
    flow.draw(Item::Fill { x, y, width: chip, height: 16.0, radius: 4.0, colour: background });
    let node = flow.node(Role::Paragraph, None);
    flow.draw(Item::Text { run: word, x: x + 7.0, baseline: baseline - 3.4, colour: letters, node: Some(node) });
    flow.y = baseline + 9.0;
}

fn parties(flow: &mut Flow, document: &Document) {
    let width = (RIGHT - LEFT - GUTTER) / 2.0;
    let to = match document.kind {
        Kind::Invoice => "Billed to",
        Kind::CreditNote => "Credited to",
    };
    let columns = vec![
        Column::left(LEFT, party(flow, "From", &document.seller, width)),
        Column::left(LEFT + width + GUTTER, party(flow, to, &document.customer, width)),
    ];
    flow.band(&Band { columns, below: 20.0, ..Band::default() });
}

fn party(flow: &mut Flow, label: &str, party: &Party, width: f32) -> Vec<Written> {
    let within = flow.node(Role::Division, None);
    let mut lines = Vec::new();
    let mut say = |text: &str, style, colour| {
        if !text.is_empty() {
            let node = flow.node(Role::Paragraph, Some(within));
            lines.extend(flow.paragraph(text, style, colour, width, node));
        }
    };
    say(label, flow::regular(LABEL), MUTED);
    say(&party.name, flow::bold(10.0), INK);
    for line in &party.address_lines {
        say(line, flow::regular(TEXT), INK);
    }
    say(&party.email, flow::regular(TEXT), INK);
    if !party.tax_id.is_empty() {
        say(&format!("Tax ID {}", party.tax_id), flow::regular(TEXT), INK);
    }
    lines
}

/// Days, and what refers to other papers.
fn facts(flow: &mut Flow, document: &Document) {
    let mut facts = vec![("Issue date", written(document.issued_on))];
    facts.extend(document.due_on.map(|day| ("Due date", written(day))));
    facts.extend(document.period.map(|(first, last)| ("Period", format!("{} – {}", written(first), written(last)))));
    facts.extend(document.refers_to.clone().map(|number| ("Corrects invoice", number)));
    if !document.purchase_order_number.is_empty() {
        facts.push(("Purchase order", document.purchase_order_number.clone()));
    }
    let share = |text: &str| if text.chars().count() > 20 { 1.7 } else { 1.0 };
    let shares: f32 = facts.iter().map(|(_, text)| share(text)).sum();
    let mut x = LEFT;
    let mut columns = Vec::new();
    for (label, text) in &facts {
        let width = (RIGHT - LEFT) * share(text) / shares;
        let within = flow.node(Role::Paragraph, None);
        let mut lines = flow.paragraph(label, flow::regular(LABEL), MUTED, width - 12.0, within);
        lines.extend(flow.paragraph(text, flow::bold(TEXT), INK, width - 12.0, within));
        columns.push(Column::left(x, lines));
        x += width;
    }
    flow.y += 1.0;
    let y = flow.y;
    flow.draw(Item::Fill { x: LEFT, y, width: RIGHT - LEFT, height: 0.7, radius: 0.0, colour: HAIRLINE });
    flow.band(&Band { columns, above: 8.0, below: 8.0, rule: Some((LEFT, 0.7, HAIRLINE)), ..Band::default() });
    flow.y += 18.0;
}

fn written(day: NaiveDate) -> String {
    day.format("%-d %B %Y").to_string()
}

fn notes(flow: &mut Flow, notes: &[String]) {
    flow.y += 22.0;
    for note in notes {
        let node = flow.node(Role::Paragraph, None);
        let lines = flow.paragraph(note, flow::regular(8.5), MUTED, RIGHT - LEFT, node);
        let band = Band { columns: vec![Column::left(LEFT, lines)], below: 7.0, ..Band::default() };
        flow.keep(band.height());
        flow.band(&band);
    }
}

/// What every page ends with: known only now that the pages can be counted.
fn feet(flow: &mut Flow, document: &Document) {
    let (style, baseline) = (flow::regular(LABEL), flow::PAGE.1 - 34.0);
    let count = flow.pages.len();
    let named = format!("{} {} · {}", document.title(), document.number, document.seller.name).replace('\n', " ");
    let widest = flow.fonts.line(&format!("Page {count} of {count}"), style).width;
    let named = flow.fonts.wrap_at_most(&named, style, RIGHT - LEFT - widest - GUTTER, 1);
    for (index, page) in flow.pages.iter_mut().enumerate() {
        let number = flow.fonts.line(&format!("Page {} of {count}", index + 1), style);
        let x = RIGHT - number.width;
        page.push(Item::Fill {
            x: LEFT,
            y: baseline - 16.0,
            width: RIGHT - LEFT,
            height: 0.7,
            radius: 0.0,
            colour: HAIRLINE,
        });
        for run in named.iter().cloned() {
            page.push(Item::Text { run, x: LEFT, baseline, colour: MUTED, node: None });
        }
        page.push(Item::Text { run: number, x, baseline, colour: MUTED, node: None });
    }
}
