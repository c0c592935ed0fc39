//! Lines of text down one page after another, each with its place in the structure that a screen reader follows.

use super::fonts::{Fonts, Run, Style};
use super::logo::Logo;

/// A4, in points.
pub(super) const PAGE: (f32, f32) = (595.28, 841.89);
pub(super) const LEFT: f32 = 50.0;
pub(super) const RIGHT: f32 = PAGE.0 - LEFT;
const TOP: f32 = 50.0;
/// Where the body ends: the foot of the page is below.
const BOTTOM: f32 = PAGE.1 - 66.0;
/// How far a background stands out, so that text on it is in line with text that is not.
const OUTSTAND: f32 = 8.0;
/// The most that fits on one page.
pub(super) const BODY: f32 = BOTTOM - TOP;

pub(super) type Colour = (u8, u8, u8);
pub(super) const INK: Colour = (17, 24, 39);
/// Still seven times as dark as the paper, as those need it who see little.
pub(super) const MUTED: Colour = (75, 85, 99);
pub(super) const HAIRLINE: Colour = (222, 226, 232);
pub(super) const TINT: Colour = (243, 245, 248);

pub(super) const fn regular(size: f32) -> Style {
    Style { bold: false, size, tabular: false }
}

pub(super) const fn bold(size: f32) -> Style {
    Style { bold: true, size, tabular: false }
}

pub(super) const fn tabular(style: Style) -> Style {
    Style { tabular: true, ..style }
}

/// What a node of the structure is.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Title(String),
    Paragraph,
    Division,
    Table,
    Row,
    ColumnHeading,
    RowHeading,
    Cell,
    Picture(String),
}

pub(super) type NodeId = usize;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) role: Role,
    pub(super) parent: Option<NodeId>,
}

/// What is drawn. Without a node it is an ornament, or a repetition, that a screen reader passes over.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Text { run: Run, x: f32, baseline: f32, colour: Colour, node: Option<NodeId> },
    Fill { x: f32, y: f32, width: f32, height: f32, radius: f32, colour: Colour },
    Picture { logo: Logo, x: f32, y: f32, width: f32, height: f32, node: NodeId },
}

impl Item {
    fn lowered(mut self, by: f32) -> Self {
        match &mut self {
            Self::Text { baseline, .. } => *baseline += by,
            Self::Fill { y, .. } | Self::Picture { y, .. } => *y += by,
        }
        self
    }

    fn unread(mut self) -> Self {
        if let Self::Text { node, .. } = &mut self {
            *node = None;
        }
        self
    }
}

/// One line of text that has its style but not yet its place.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) run: Run,
    pub(super) colour: Colour,
    pub(super) node: NodeId,
}

impl Written {
    fn leading(&self) -> f32 {
        self.run.style.size * 1.45
    }
}

/// Lines one below the other, from an edge or up to it.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) x: f32,
    /// Whether the lines end at `x` rather than start there.
    pub(super) flush_right: bool,
    pub(super) lines: Vec<Written>,
}

impl Column {
    pub(super) fn left(x: f32, lines: Vec<Written>) -> Self {
        Self { x, flush_right: false, lines }
    }

    pub(super) fn right(x: f32, lines: Vec<Written>) -> Self {
        Self { x, flush_right: true, lines }
    }
}

/// Columns beside each other whose lines keep to common baselines.
#[derive(Clone, Debug, Default)]
pub(super) struct Band {
    pub(super) columns: Vec<Column>,
    pub(super) above: f32,
    pub(super) below: f32,
    /// A background that stands out by [`OUTSTAND`] on both sides, from the left edge of its text.
    pub(super) background: Option<(f32, Colour)>,
    /// The left edge, thickness and colour of a rule along the lower side.
    pub(super) rule: Option<(f32, f32, Colour)>,
}

impl Band {
    pub(super) fn height(&self) -> f32 {
        self.above + (0..self.rows()).map(|row| self.leading(row)).sum::<f32>() + self.below
    }

    fn rows(&self) -> usize {
        self.columns.iter().map(|column| column.lines.len()).max().unwrap_or_default()
    }

    fn leading(&self, row: usize) -> f32 {
        self.columns.iter().filter_map(|column| column.lines.get(row)).map(Written::leading).fold(0.0, f32::max)
    }
}

/// The pages so far.
pub(super) struct Flow<'a> {
    pub(super) fonts: &'a Fonts,
    pub(super) pages: Vec<Vec<Item>>,
    pub(super) nodes: Vec<Node>,
    /// How far down the current page is written.
    pub(super) y: f32,
    /// What every further page starts with, drawn from its upper edge, and how high it is.
    repeated: Option<(Vec<Item>, f32)>,
}

impl<'a> Flow<'a> {
    pub(super) fn new(fonts: &'a Fonts) -> Self {
        Self { fonts, pages: vec![Vec::new()], nodes: Vec::new(), y: TOP, repeated: None }
    }

    pub(super) fn node(&mut self, role: Role, parent: Option<NodeId>) -> NodeId {
        self.nodes.push(Node { role, parent });
        self.nodes.len() - 1
    }

    pub(super) fn draw(&mut self, item: Item) {
        if let Some(page) = self.pages.last_mut() {
            page.push(item);
        }
    }

    /// Text in lines of this width that are read as one.
    pub(super) fn paragraph(&self, text: &str, style: Style, colour: Colour, width: f32, node: NodeId) -> Vec<Written> {
        self.fonts.wrap(text, style, width).into_iter().map(|run| Written { run, colour, node }).collect()
    }

    /// Goes on to the next page unless so much is left of this one. What is higher than a page starts where it is.
    pub(super) fn keep(&mut self, height: f32) {
        let start = TOP + self.repeated.as_ref().map_or(0.0, |(_, height)| *height);
        if self.y + height > BOTTOM && self.y > start && start + height <= BOTTOM {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.pages.push(Vec::new());
        self.y = TOP;
        if let Some((items, height)) = self.repeated.clone() {
            for item in items {
                self.draw(item.lowered(TOP));
            }
            self.y += height;
        }
    }

    /// Writes a band, and starts every further page with it until [`Self::repeat_nothing`].
    pub(super) fn repeated(&mut self, band: &Band) {
        self.keep(band.height());
        let (page, top) = (self.pages.len() - 1, self.y);
        let first = self.pages[page].len();
        self.band(band);
        let items = self.pages[page][first..].iter().cloned();
        self.repeated = Some((items.map(|item| item.lowered(-top).unread()).collect(), self.y - top));
    }

    pub(super) fn repeat_nothing(&mut self) {
        self.repeated = None;
    }

    /// Writes a band, from one page to the next where it is too high for what is left.
    pub(super) fn band(&mut self, band: &Band) {
        if let Some((x, colour)) = band.background {
            self.keep(band.height());
            let height = band.height().min(BOTTOM - self.y);
            let (x, width) = (x - OUTSTAND, RIGHT - x + 2.0 * OUTSTAND);
            self.draw(Item::Fill { x, y: self.y, width, height, radius: 3.0, colour });
        }
        self.y += band.above;
        for row in 0..band.rows() {
            let leading = band.leading(row);
            if self.y + leading > BOTTOM {
                self.turn();
            }
            self.row(band, row, leading);
            self.y += leading;
        }
        self.y += band.below;
        if let Some((x, thickness, colour)) = band.rule {
            let y = self.y - thickness;
            self.draw(Item::Fill { x, y, width: RIGHT - x, height: thickness, radius: 0.0, colour });
        }
    }

    fn row(&mut self, band: &Band, row: usize, leading: f32) {
        for column in &band.columns {
            let Some(Written { run, colour, node }) = column.lines.get(row).cloned() else { continue };
            let x = if column.flush_right { column.x - run.width } else { column.x };
            // The middle of the small letters is put in the middle of the line.
            let baseline = self.y + leading * 0.72;
            self.draw(Item::Text { run, x, baseline, colour, node: Some(node) });
        }
    }
}
