//! That `stories.md` leaves out no line of the four documents, names no test that is not there, and leaves nothing to others that
//! the README does not name.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The documents: the head of each one's table, and how many lines it has.
const DOCUMENTS: [(&str, u32); 4] = [("## S0:", 40), ("## S1:", 44), ("## S2:", 92), ("## S3:", 48)];

const STORIES: &str = include_str!("stories.md");

const README: &str = include_str!("../../README.md");

/// The rows of a document's table: its lines, and what holds Tenantry to them.
fn rows(head: &str) -> Vec<(BTreeSet<u32>, String)> {
    let start = STORIES.find(head).unwrap_or_else(|| panic!("no table {head}"));
    let section = STORIES[start..].lines().skip(1).take_while(|line| !line.starts_with("## "));
    let cells = section.filter(|line| line.starts_with("| ")).skip(1).map(|line| line.trim_matches('|').split('|'));
    let rows = cells.map(|mut cells| {
        let lines = cells.next().expect("lines").trim().to_owned();
        let held_by = cells.nth(1).unwrap_or_else(|| panic!("{lines}: held by nothing")).trim().to_owned();
        let (first, last) = lines.split_once('–').unwrap_or((&lines, &lines));
        let number = |text: &str| text.parse::<u32>().unwrap_or_else(|_| panic!("{text:?} is no line"));
        ((number(first)..=number(last)).collect(), held_by)
    });
    rows.collect()
}

/// The lines that the README's table of "The four products" leaves to others, each with the head of its document.
fn named_in_the_readme() -> BTreeSet<(String, u32)> {
    let section = README.split("## The four products").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("a section");
    let (mut named, mut document) = (BTreeSet::new(), String::new());
    for cell in section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()) {
        let Some((_, cited)) = cell.rsplit_once('(') else { continue };
        for citation in cited.trim_end_matches(')').split(", ") {
            let lines = citation.split_once(' ').map_or(citation, |(of, lines)| {
                document = format!("## {of}:");
                lines
            });
            let (first, last) = lines.split_once('–').unwrap_or((lines, lines));
            let number = |text: &str| text.parse::<u32>().unwrap_or_else(|_| panic!("{text:?} is no line: {cell}"));
            named.extend((number(first)..=number(last)).map(|line| (document.clone(), line)));
        }
    }
    named
}

#[test]
fn what_is_left_to_others_is_named_in_the_readme() {
    let named = named_in_the_readme();
    for (head, _) in DOCUMENTS {
        let left = rows(head).into_iter().filter(|(_, by)| by.contains("*elsewhere*") || by.contains("*billing*"));
        for line in left.flat_map(|(lines, _)| lines) {
            assert!(named.contains(&(head.to_owned(), line)), "{head} {line}: not in the README");
        }
    }
}

#[test]
fn no_line_of_a_document_is_left_out() {
    for (head, lines) in DOCUMENTS {
        let told: BTreeSet<u32> = rows(head).into_iter().flat_map(|(lines, _)| lines).collect();
        assert_eq!(told, (1..=lines).collect(), "{head}");
    }
}

#[test]
fn every_statement_has_a_test_that_exists_or_a_reason() {
    let tests = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it"));
    let mut sources = String::new();
    for entry in fs::read_dir(tests).expect("the tests") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
    let exists =
        |name: &str| sources.contains(&format!("async fn {name}(")) || tests.join(format!("{name}.rs")).exists();
    for (head, _) in DOCUMENTS {
        for (lines, held_by) in rows(head) {
            let named: Vec<&str> = held_by.split('`').skip(1).step_by(2).filter(|name| !name.contains(' ')).collect();
            for name in &named {
                assert!(exists(name), "{head} {lines:?}: there is no test {name}");
            }
            let elsewhere = held_by.contains("*elsewhere*: ");
            assert!(!named.is_empty() || elsewhere, "{head} {lines:?}: neither a test nor a reason");
        }
    }
}
