//! The pages as a file: drawn, tagged and with what a file says about itself.

use std::num::NonZeroU16;

use chrono::Datelike as _;
use krilla::Document as File;
use krilla::SerializeSettings;
use krilla::color::rgb;
use krilla::configure::{Accessibility, Archival, ConfigurationBuilder};
use krilla::destination::XyzDestination;
use krilla::geom::{Path, PathBuilder, Point, Rect, Size, Transform};
use krilla::metadata::{DateTime, Metadata};
use krilla::outline::{Outline, OutlineNode};
use krilla::page::PageSettings;
use krilla::paint::Fill;
use krilla::surface::Surface;
use krilla::tagging::{
    Artifact, ArtifactType, ContentTag, Identifier, Node as Tagged, SpanTag, TableHeaderScope, Tag, TagGroup, TagKind,
    TagTree,
};

use super::flow::{Colour, Flow, Item, Node, NodeId, PAGE, Role};
use super::fonts::{Fonts, printable};
use super::logo::Logo;
use super::{Document, DocumentError};

const LANGUAGE: &str = "en";
/// The most of a name that is put among what a file says about itself: the standard has a limit, and readers show no more.
const LONGEST_PROPERTY: usize = 500;

/// Writes the file.
pub(super) fn file(document: &Document, flow: &Flow, fonts: &Fonts) -> Result<Vec<u8>, DocumentError> {
    let mut file = start()?;
    let mut content: Vec<Vec<Identifier>> = vec![Vec::new(); flow.nodes.len()];
    for items in &flow.pages {
        let mut page = file.start_page_with(sheet());
        let mut surface = page.surface();
        for item in items {
            if let Some((node, identifier)) = draw(&mut surface, item, fonts) {
                content[node].push(identifier);
            }
        }
        surface.finish();
        page.finish();
    }
    file.set_tag_tree(tree(&flow.nodes, content));
    file.set_metadata(metadata(document));
    file.set_outline(outline(document));
    file.finish().map_err(DocumentError::Write)
}

/// Draws a logo alone, for what only shows then.
pub(super) fn proof(logo: &Logo) -> Result<(), DocumentError> {
    let nodes = [Node { role: Role::Picture("Logo".to_owned()), parent: None }];
    let mut file = start()?;
    let mut page = file.start_page_with(sheet());
    let mut surface = page.surface();
    let (width, height) = logo.within(100.0, 100.0);
    let identifier = picture(&mut surface, logo, Point::from_xy(0.0, 0.0), Size::from_wh(width, height));
    surface.finish();
    page.finish();
    file.set_tag_tree(tree(&nodes, vec![vec![identifier]]));
    let date = DateTime::new(2000).month(1).day(1);
    file.set_metadata(Metadata::new().title("Logo".to_owned()).language(LANGUAGE.to_owned()).creation_date(date));
    file.set_outline(entry("Logo"));
    file.finish().map(|_| ()).map_err(DocumentError::Write)
}

fn start() -> Result<File, DocumentError> {
    let configuration = ConfigurationBuilder::new()
        .with_archival_validator(Archival::A3_A)
        .with_accessibility_validator(Accessibility::UA1)
        .finish()
        .map_err(DocumentError::Standards)?;
    Ok(File::new_with(SerializeSettings { configuration, ..SerializeSettings::default() }))
}

fn sheet() -> PageSettings {
    PageSettings::from_wh(PAGE.0, PAGE.1).unwrap_or_default()
}

fn draw(surface: &mut Surface, item: &Item, fonts: &Fonts) -> Option<(NodeId, Identifier)> {
    match item {
        Item::Text { run, x, baseline, colour, node } => {
            let tag = match node {
                Some(_) => ContentTag::Span(SpanTag::empty()),
                None => ContentTag::Artifact(Artifact::with_kind(ArtifactType::PaginationOther)),
            };
            let identifier = surface.start_tagged(tag);
            surface.set_fill(Some(fill(*colour)));
            let (start, font) = (Point::from_xy(*x, *baseline), fonts.font(run.style));
            surface.draw_glyphs(start, &run.glyphs, font, &run.text, run.style.size, false);
            surface.end_tagged();
            node.map(|node| (node, identifier))
        }
        Item::Fill { x, y, width, height, radius, colour } => {
            let path = rounded(*x, *y, *width, *height, *radius)?;
            surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(ArtifactType::Layout)));
            surface.set_fill(Some(fill(*colour)));
            surface.draw_path(&path);
            surface.end_tagged();
            None
        }
        Item::Picture { logo, x, y, width, height, node } => {
            Some((*node, picture(surface, logo, Point::from_xy(*x, *y), Size::from_wh(*width, *height))))
        }
    }
}

fn picture(surface: &mut Surface, logo: &Logo, at: Point, size: Option<Size>) -> Identifier {
    let identifier = surface.start_tagged(ContentTag::Other);
    if let Some(size) = size {
        surface.push_transform(&Transform::from_translate(at.x, at.y));
        surface.draw_image(logo.image(), size);
        surface.pop();
    }
    surface.end_tagged();
    identifier
}

fn fill((red, green, blue): Colour) -> Fill {
    Fill { paint: rgb::Color::new(red, green, blue).into(), ..Fill::default() }
}

fn rounded(x: f32, y: f32, width: f32, height: f32, radius: f32) -> Option<Path> {
    let mut path = PathBuilder::new();
    if radius <= 0.0 {
        path.push_rect(Rect::from_xywh(x, y, width, height)?);
        return path.finish();
    }
    let (right, bottom) = (x + width, y + height);
    path.move_to(x + radius, y);
    path.line_to(right - radius, y);
    path.quad_to(right, y, right, y + radius);
    path.line_to(right, bottom - radius);
    path.quad_to(right, bottom, right - radius, bottom);
    path.line_to(x + radius, bottom);
    path.quad_to(x, bottom, x, bottom - radius);
    path.line_to(x, y + radius);
    path.quad_to(x, y, x + radius, y);
    path.close();
    path.finish()
}

/// What a screen reader follows. A node comes after its parent, so the last can be put into theirs first.
fn tree(nodes: &[Node], content: Vec<Vec<Identifier>>) -> TagTree {
    let mut groups: Vec<Vec<Tagged>> =
        content.into_iter().map(|own| own.into_iter().map(Tagged::from).collect()).collect();
    let mut roots = Vec::new();
    for (id, node) in nodes.iter().enumerate().rev() {
        let mut children = std::mem::take(&mut groups[id]);
        if children.is_empty() {
            continue;
        }
        // Nodes below this one were put into it from the last to the first; text of its own, where it has any, is all it has.
        if matches!(children.first(), Some(Tagged::Group(_))) {
            children.reverse();
        }
        let group = Tagged::Group(TagGroup::with_children(kind(&node.role), children));
        match node.parent {
            Some(parent) => groups[parent].push(group),
            None => roots.push(group),
        }
    }
    let mut tree = TagTree::new().with_lang(Some(LANGUAGE.to_owned()));
    roots.into_iter().rev().for_each(|group| tree.push(group));
    tree
}

fn kind(role: &Role) -> TagKind {
    match role {
        Role::Title(title) => Tag::Hn(NonZeroU16::MIN, Some(title.clone())).into(),
        Role::Paragraph => Tag::P.into(),
        Role::Division => Tag::Div.into(),
        Role::Table => Tag::Table.into(),
        Role::Row => Tag::TR.into(),
        Role::ColumnHeading => Tag::TH(TableHeaderScope::Column).into(),
        Role::RowHeading => Tag::TH(TableHeaderScope::Row).into(),
        Role::Cell => Tag::TD.into(),
        Role::Picture(what) => Tag::Figure(Some(what.clone())).into(),
    }
}

fn metadata(document: &Document) -> Metadata {
    let day = document.issued_on;
    let small = |number: u32| u8::try_from(number).unwrap_or(1);
    let date =
        DateTime::new(u16::try_from(day.year()).unwrap_or_default()).month(small(day.month())).day(small(day.day()));
    Metadata::new()
        .title(headline(document))
        .authors(vec![property(&document.seller.name)])
        .creator("Tenantry".to_owned())
        .language(LANGUAGE.to_owned())
        .creation_date(date.hour(0).minute(0).second(0).utc_offset_hour(0).utc_offset_minute(0))
}

fn outline(document: &Document) -> Outline {
    entry(&headline(document))
}

fn entry(text: &str) -> Outline {
    let mut outline = Outline::new();
    outline.push_child(OutlineNode::new(text.to_owned(), XyzDestination::new(0, Point::from_xy(0.0, 0.0))));
    outline
}

fn headline(document: &Document) -> String {
    property(&format!("{} {}", document.title(), document.number))
}

fn property(text: &str) -> String {
    printable(text).chars().take(LONGEST_PROPERTY).collect()
}
