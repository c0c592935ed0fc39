//! The program's fonts, and text set in them: which glyphs, how wide, and where a line ends.
//!
//! Inter 4.001 under the SIL Open Font License, cut down to Latin, Greek and Cyrillic letters, punctuation and signs
//! of currency, with kerning, marks and tabular figures.

use std::ops::Range;

use harfrust::{Direction, Feature, FontRef, ShapeOptions, ShaperData, Tag, UnicodeBuffer};
use krilla::text::{Font, GlyphId, KrillaGlyph};
use unicode_normalization::UnicodeNormalization as _;

use super::DocumentError;

static REGULAR: &[u8] = include_bytes!("fonts/Inter-Regular.ttf");
static BOLD: &[u8] = include_bytes!("fonts/Inter-SemiBold.ttf");

/// What stands for a letter that the fonts do not have.
const MISSING: &str = "?";

/// How text is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Style {
    pub(super) bold: bool,
    pub(super) size: f32,
    /// Whether all figures are of one width, so that they stand below each other.
    pub(super) tabular: bool,
}

/// One line of text, set.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) style: Style,
    pub(super) text: String,
    pub(super) glyphs: Vec<KrillaGlyph>,
    /// In points, without the space that it may end with.
    pub(super) width: f32,
}

struct Cut {
    font: Font,
    reference: FontRef<'static>,
    shaping: ShaperData,
    missing: KrillaGlyph,
}

impl Cut {
    fn load(bytes: &'static [u8]) -> Result<Self, DocumentError> {
        let font = Font::new(bytes.into(), 0).ok_or(DocumentError::Font)?;
        let reference = FontRef::new(bytes).map_err(|_| DocumentError::Font)?;
        let shaping = ShaperData::new(&reference);
        let nothing = KrillaGlyph::new(GlyphId::new(0), 0.0, 0.0, 0.0, 0.0, 0..0, None);
        let mut cut = Self { font, reference, shaping, missing: nothing };
        cut.missing =
            cut.shape(MISSING, false).into_iter().find(|glyph| !is_missing(glyph)).ok_or(DocumentError::Font)?;
        Ok(cut)
    }

    /// The glyphs of a text from left to right, each with the bytes that it stands for.
    fn shape(&self, text: &str, tabular: bool) -> Vec<KrillaGlyph> {
        let mut buffer = UnicodeBuffer::new();
        buffer.push_str(text);
        buffer.guess_segment_properties();
        buffer.set_direction(Direction::LeftToRight);
        // A sign in front keeps its own width: it stands under nothing.
        let figures = text.find(|letter: char| letter.is_ascii_digit()).unwrap_or_default();
        let features = [Feature::new(Tag::new(b"tnum"), u32::from(tabular), figures..)];
        let shaper = self.shaping.shaper(&self.reference).build();
        let set = shaper.shape(buffer, ShapeOptions::new().features(&features));
        let unit = |value: i32| f32::from(i16::try_from(value).unwrap_or_default()) / self.font.units_per_em();
        let starts: Vec<usize> =
            set.glyph_infos().iter().map(|info| usize::try_from(info.cluster).unwrap_or(text.len())).collect();
        // Set from left to right, so they ascend.
        let end_of =
            |start: usize| starts.get(starts.partition_point(|next| *next <= start)).copied().unwrap_or(text.len());
        let glyphs = set.glyph_infos().iter().zip(set.glyph_positions()).zip(&starts);
        glyphs
            .map(|((info, at), start)| {
                let (advance, x, y) = (unit(at.x_advance), unit(at.x_offset), unit(at.y_offset));
                KrillaGlyph::new(GlyphId::new(info.glyph_id), advance, x, y, 0.0, *start..end_of(*start), None)
            })
            .collect()
    }

    /// As [`Self::shape`], with something to see for what the font lacks: the text stays what it was.
    fn shape_visibly(&self, text: &str, tabular: bool) -> Vec<KrillaGlyph> {
        let glyphs = self.shape(text, tabular);
        let clusters = glyphs.chunk_by(|one, next| one.text_range == next.text_range);
        clusters
            .flat_map(|cluster| match cluster {
                [first, ..] if cluster.iter().any(is_missing) => {
                    let range = &first.text_range;
                    self.instead(&text[range.clone()], range, tabular)
                }
                _ => cluster.to_vec(),
            })
            .collect()
    }

    fn instead(&self, text: &str, range: &Range<usize>, tabular: bool) -> Vec<KrillaGlyph> {
        let compatible = text.nfkd().collect::<String>();
        let usable = |glyphs: &Vec<KrillaGlyph>| !glyphs.is_empty() && !glyphs.iter().any(is_missing);
        let other = if compatible == text { None } else { Some(self.shape(&compatible, tabular)).filter(usable) };
        let mut glyphs = other.unwrap_or_else(|| vec![self.missing.clone()]);
        for glyph in &mut glyphs {
            glyph.text_range = range.clone();
        }
        glyphs
    }
}

fn is_missing(glyph: &KrillaGlyph) -> bool {
    glyph.glyph_id == GlyphId::new(0)
}

/// The fonts, ready to set text.
pub(super) struct Fonts {
    regular: Cut,
    bold: Cut,
}

impl Fonts {
    pub(super) fn load() -> Result<Self, DocumentError> {
        Ok(Self { regular: Cut::load(REGULAR)?, bold: Cut::load(BOLD)? })
    }

    pub(super) fn font(&self, style: Style) -> Font {
        self.cut(style).font.clone()
    }

    fn cut(&self, style: Style) -> &Cut {
        if style.bold { &self.bold } else { &self.regular }
    }

    /// The text on one line, however long.
    pub(super) fn line(&self, text: &str, style: Style) -> Run {
        let text = printable(text);
        let glyphs = self.cut(style).shape_visibly(&text, style.tabular);
        Run::new(style, text, glyphs)
    }

    /// The text in lines that are no wider than this, with the line breaks that it has: broken after spaces and, where a
    /// word alone is too wide, within it.
    pub(super) fn wrap(&self, text: &str, style: Style, width: f32) -> Vec<Run> {
        text.lines().flat_map(|line| wrapped(&self.line(line, style), width)).collect()
    }

    /// As [`Self::wrap`], cut off with an ellipsis after so many lines.
    pub(super) fn wrap_at_most(&self, text: &str, style: Style, width: f32, most: usize) -> Vec<Run> {
        let mut lines = self.wrap(text, style, width);
        if lines.len() > most
            && let Some(last) = most.checked_sub(1)
        {
            lines.truncate(most);
            lines[last] = self.cut_off(&lines[last], width);
        }
        lines
    }

    fn cut_off(&self, line: &Run, width: f32) -> Run {
        let mut text = line.text.trim_end().to_owned();
        loop {
            let shorter = self.line(&format!("{text}…"), line.style);
            if shorter.width <= width || text.pop().is_none() {
                return shorter;
            }
        }
    }
}

impl Run {
    fn new(style: Style, text: String, glyphs: Vec<KrillaGlyph>) -> Self {
        let solid = glyphs.iter().rposition(|glyph| !text[glyph.text_range.clone()].trim().is_empty());
        let width = advance(&glyphs[..solid.map_or(0, |last| last + 1)], style);
        Self { style, text, glyphs, width }
    }

    /// A part of it, by glyphs.
    fn part(&self, glyphs: Range<usize>) -> Self {
        let mut glyphs = self.glyphs[glyphs].to_vec();
        let from = glyphs.first().map_or(0, |glyph| glyph.text_range.start);
        let to = glyphs.last().map_or(from, |glyph| glyph.text_range.end);
        for glyph in &mut glyphs {
            glyph.text_range = glyph.text_range.start - from..glyph.text_range.end - from;
        }
        Self::new(self.style, self.text[from..to].to_owned(), glyphs)
    }

    fn is_space(&self, glyph: usize) -> bool {
        self.text[self.glyphs[glyph].text_range.clone()].chars().all(char::is_whitespace)
    }

    fn starts_cluster(&self, glyph: usize) -> bool {
        glyph == 0 || self.glyphs[glyph].text_range != self.glyphs[glyph - 1].text_range
    }
}

fn advance(glyphs: &[KrillaGlyph], style: Style) -> f32 {
    glyphs.iter().map(|glyph| glyph.x_advance * style.size).sum()
}

fn wrapped(run: &Run, width: f32) -> Vec<Run> {
    let mut lines = Vec::new();
    let (mut start, mut space, mut used) = (0, None, 0.0);
    let mut at = 0;
    while at < run.glyphs.len() {
        let step = run.glyphs[at].x_advance * run.style.size;
        let full = used + step > width && at > start && run.starts_cluster(at) && !run.is_space(at);
        if full {
            let end = space.unwrap_or(at);
            lines.push(run.part(start..end));
            (start, at, used, space) = (end, end, 0.0, None);
            continue;
        }
        used += step;
        at += 1;
        if run.is_space(at - 1) {
            space = Some(at);
        }
    }
    if start < run.glyphs.len() {
        lines.push(run.part(start..run.glyphs.len()));
    }
    lines
}

/// The text without what cannot be printed: controls are spaces, marks that turn the direction of writing are nothing, and
/// what has no meaning outside the program that wrote it is a letter that the fonts lack.
pub(super) fn printable(text: &str) -> String {
    let letters = text.chars().filter_map(|letter| match letter {
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => None,
        '\u{fffe}' | '\u{ffff}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'.. => Some(char::REPLACEMENT_CHARACTER),
        letter if letter.is_control() => Some(' '),
        letter => Some(letter),
    });
    letters.nfc().collect()
}
