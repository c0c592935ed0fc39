//! The file as another program reads it, and the pages as they were laid out.

use proptest::prelude::*;

use super::flow::{Item, PAGE};
use super::*;

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}

fn party(name: &str) -> Party {
    Party {
        name: name.to_owned(),
        address_lines: vec!["Prinsengracht 123".to_owned(), "1015 DX Amsterdam".to_owned()],
        email: "billing@northwind.example".to_owned(),
        tax_id: "NL000099998B57".to_owned(),
    }
}

fn line(description: &str, amount_minor: i64) -> Line {
    Line {
        description: description.to_owned(),
        detail: "1 May 2026 – 31 May 2026".to_owned(),
        quantity: Some(1_025),
        unit_price_minor: Some(1_204),
        amount_minor,
    }
}

fn invoice() -> Document {
    Document {
        kind: Kind::Invoice,
        number: "INV-000123".to_owned(),
        status: Status::Open,
        issued_on: day(2026, 5, 1),
        due_on: Some(day(2026, 5, 31)),
        period: Some((day(2026, 4, 1), day(2026, 4, 30))),
        seller: party("Northwind B.V."),
        customer: party("Żółta Łódź"),
        purchase_order_number: "PO-4500".to_owned(),
        refers_to: None,
        logo: None,
        accent: None,
        currency: currency("EUR"),
        lines: vec![line("Team plan", 1_234_100), line("Discount", -4_377)],
        taxes: vec![Tax { label: "VAT 21%".to_owned(), taxable_minor: 1_229_723, tax_minor: 258_242, included: false }],
        subtotal_minor: 1_229_723,
        total_minor: 1_487_965,
        credit_applied_minor: 5_000,
        paid_minor: 100_000,
        due_minor: 1_382_965,
        notes: vec!["IBAN NL91 ABNA 0417 1643 00".to_owned()],
    }
}

fn read(document: &Document) -> lopdf::Document {
    lopdf::Document::load_mem(&render(document).unwrap()).unwrap()
}

/// The text of every page, without the spaces and line breaks that a reader guesses.
fn texts(document: &Document) -> Vec<String> {
    let file = read(document);
    let text = |page: &u32| file.extract_text(&[*page]).unwrap();
    file.get_pages().keys().map(|page| squeezed(&text(page))).collect()
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

#[track_caller]
fn assert_says(text: &str, sought: &[&str]) {
    for sought in sought {
        assert!(text.contains(&squeezed(sought)), "{sought:?} is not in {text}");
    }
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgba);
    let pixels = vec![128; usize::try_from(width * height * 4).unwrap()];
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

#[test]
fn an_invoice_says_everything_that_it_is_given() {
    let [page] = texts(&invoice()).try_into().unwrap();
    assert_says(&page, &["Invoice", "INV-000123", "Open", "1 May 2026", "31 May 2026", "1 April 2026 – 30 April 2026"]);
    assert_says(&page, &["Northwind B.V.", "Żółta Łódź", "Prinsengracht 123", "Tax ID NL000099998B57", "PO-4500"]);
    assert_says(&page, &["Team plan", "1 May 2026 – 31 May 2026", "1,025", "12.04", "12,341.00", "Discount", "-43.77"]);
    assert_says(&page, &["Subtotal 12,297.23", "VAT 21% on 12,297.23 2,582.42", "Total EUR 14,879.65"]);
    assert_says(&page, &["Credit applied -50.00", "Paid -1,000.00", "Amount due EUR 13,829.65"]);
    assert_says(&page, &["IBAN NL91 ABNA 0417 1643 00", "Page 1 of 1"]);
}

#[test]
fn a_credit_note_names_its_invoice_and_where_the_money_went() {
    let mut note = Document { kind: Kind::CreditNote, refers_to: Some("INV-000099".to_owned()), ..invoice() };
    (note.status, note.due_minor, note.due_on) = (Status::Issued, 0, None);
    let [page] = texts(&note).try_into().unwrap();
    assert_says(&page, &["Credit note", "Issued", "Corrects invoice", "INV-000099", "Credited to"]);
    assert_says(&page, &["Total credit EUR 14,879.65", "Added to your credit 50.00", "Paid back 1,000.00"]);
    assert!(!page.contains("due") && !page.contains("Left"), "{page}");
}

#[test]
fn amounts_have_the_digits_of_their_currency() {
    let said = |code| texts(&Document { currency: currency(code), ..invoice() }).concat();
    assert_says(&said("JPY"), &["Unit price (JPY)", "1,204", "1,234,100", "Amount due JPY 1,382,965"]);
    assert_says(&said("KWD"), &["Unit price (KWD)", "1.204", "1,234.100", "Amount due KWD 1,382.965"]);
}

#[test]
fn taxes_within_the_prices_stand_below_the_total() {
    let mut invoice = invoice();
    invoice.taxes[0].included = true;
    assert_says(
        &texts(&invoice).concat(),
        &["Subtotal 12,297.23 Total EUR 14,879.65 Includes VAT 21% on 12,297.23 2,582.42"],
    );
}

#[test]
fn a_hundred_and_twenty_lines_take_five_pages_that_each_start_with_the_heading() {
    let mut long = invoice();
    long.lines =
        (1..=120).map(|number| Line { detail: String::new(), ..line(&format!("Seat No. {number};"), 100) }).collect();
    let pages = texts(&long);
    assert_eq!(pages.len(), 5);
    for (index, page) in pages.iter().enumerate() {
        assert_says(page, &["Description Quantity Unit price (EUR) Amount (EUR)", &format!("Page {} of 5", index + 1)]);
    }
    let all = pages.concat();
    for number in 1..=120 {
        assert_says(&all, &[&format!("Seat No. {number};")]);
    }
    assert_says(&pages[4], &["Seat No. 120;", "Subtotal", "Total EUR 14,879.65", "Amount due EUR 13,829.65"]);
}

#[test]
fn the_totals_stay_together_and_with_the_last_line_wherever_the_page_ends() {
    for count in 6..=18 {
        let mut invoice = invoice();
        invoice.lines = (1..=count).map(|number| line(&format!("Seat No. {number};"), 100)).collect();
        let pages = texts(&invoice);
        let page = pages.iter().find(|page| page.contains("Subtotal")).unwrap();
        assert_says(page, &[&format!("Seat No. {count};"), "Amount due EUR 13,829.65"]);
    }
}

#[test]
fn a_line_longer_than_a_page_goes_on_on_the_next() {
    let mut invoice = invoice();
    invoice.lines[0].description = (0..2_000).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ");
    let pages = texts(&invoice);
    assert!(pages.len() > 2);
    let all = pages.concat();
    assert_says(&all, &["word0word1", "word1998", "word1999", "Amount due"]);
}

#[test]
fn the_same_document_gives_the_same_bytes() {
    let mut invoice = invoice();
    invoice.logo = Some(Logo::parse(png(30, 10)).unwrap());
    let file = render(&invoice).unwrap();
    assert_eq!(file, render(&invoice.clone()).unwrap());
    invoice.lines[0].amount_minor += 1;
    assert_ne!(file, render(&invoice).unwrap());
}

#[test]
fn the_file_says_what_it_is_and_when_it_was_made() {
    let file = String::from_utf8_lossy(&render(&invoice()).unwrap()).into_owned();
    for sought in ["Invoice INV-000123", "Northwind B.V.", "D:20260501000000Z", "pdfaid:part>3", "pdfuaid:part>1"] {
        assert!(file.contains(sought), "{sought}");
    }
}

#[test]
fn what_the_fonts_lack_can_be_seen_and_is_still_what_is_copied() {
    let mut invoice = invoice();
    invoice.customer.name = "株式会社 ①\u{e000}\u{0}\u{202e}x".to_owned();
    invoice.seller.name = "Ελλάς Україна Ştefan Việt".to_owned();
    let fonts = fonts::Fonts::load().unwrap();
    let set = |text: &str| fonts.line(text, flow::regular(9.0));
    assert_eq!(set("①").glyphs[0].glyph_id, set("1").glyphs[0].glyph_id);
    assert_eq!(set("株").glyphs[0].glyph_id, set("?").glyphs[0].glyph_id);
    assert_eq!(set("株").text, "株");
    assert!(
        set("Ελλάς Україна Ştefan Việt ẞ €₺₴")
            .glyphs
            .iter()
            .all(|glyph| { glyph.glyph_id != set("?").glyphs[0].glyph_id && glyph.glyph_id.to_u32() != 0 })
    );
    assert_says(&texts(&invoice).concat(), &["Ελλάς Україна Ştefan Việt"]);
}

#[test]
fn a_logo_takes_the_place_of_the_name_at_the_top() {
    let mut invoice = invoice();
    invoice.logo = Some(Logo::parse(png(300, 100)).unwrap());
    let with = texts(&invoice).concat();
    let without = texts(&super::Document { logo: None, ..invoice }).concat();
    assert_eq!(without.matches("NorthwindB.V.").count(), with.matches("NorthwindB.V.").count() + 1);
}

#[test]
fn what_cannot_be_drawn_is_no_logo() {
    let whole = png(20, 20);
    assert!(Logo::parse(whole.clone()).is_ok());
    assert!(matches!(Logo::parse(whole[..whole.len() / 2].to_vec()), Err(LogoError::Undrawable(_))));
    assert_eq!(Logo::parse(b"GIF89a".to_vec()).unwrap_err(), LogoError::Format);
    assert_eq!(Logo::parse(Vec::new()).unwrap_err(), LogoError::Format);
    assert_eq!(Logo::parse(png(5_000, 1)).unwrap_err(), LogoError::Large);
    assert_eq!(Logo::parse(vec![0; (1 << 20) + 1]).unwrap_err(), LogoError::Heavy);
    assert!(matches!(Logo::parse(b"\xff\xd8\xff\xe0 not a JPEG".to_vec()), Err(LogoError::Undrawable(_))));
}

#[test]
fn a_logo_can_be_handed_from_thread_to_thread() {
    fn shared<T: Send + Sync>() {}
    shared::<Logo>();
    shared::<Document>();
}

/// Whether all that is drawn is on the paper, and no two figures of a row run into each other.
fn fits(document: &Document) -> Result<(), String> {
    let fonts = fonts::Fonts::load().unwrap();
    for page in &compose::pages(document, &fonts).pages {
        let mut spans: Vec<(f32, f32, f32, &str)> = Vec::new();
        for item in page {
            match item {
                Item::Text { run, x, baseline, .. } => spans.push((*baseline, *x, *x + run.width, &run.text)),
                Item::Fill { x, y, width, height, .. } | Item::Picture { x, y, width, height, .. } => {
                    let inside = *x >= 0.0 && *y >= 0.0 && x + width <= PAGE.0 + 0.1 && y + height <= PAGE.1 + 0.1;
                    (inside && *height >= 0.0).then_some(()).ok_or_else(|| format!("{item:?}"))?;
                }
            }
        }
        spans.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
        for span in &spans {
            let inside = span.0 <= PAGE.1 - 30.0 && span.1 >= flow::LEFT - 0.1 && span.2 <= flow::RIGHT + 0.1;
            inside.then_some(()).ok_or_else(|| format!("{span:?}"))?;
        }
        for pair in spans.windows(2) {
            let clear = (pair[0].0 - pair[1].0).abs() > 0.01 || pair[0].2 <= pair[1].1 + 0.1;
            clear.then_some(()).ok_or_else(|| format!("{pair:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn the_largest_amounts_and_the_longest_names_stay_on_the_paper() {
    for code in ["EUR", "JPY", "KWD"] {
        let mut huge = Document { currency: currency(code), number: "N".repeat(200), ..invoice() };
        huge.seller.name = "W".repeat(200);
        huge.customer.name = "Name of a company and ".repeat(10);
        huge.customer.address_lines = vec!["A street that does not end ".repeat(20); 30];
        huge.purchase_order_number = "PO/4500".repeat(20);
        for line in &mut huge.lines {
            line.description = "Supercalifragilisticexpialidocious".repeat(15);
            (line.quantity, line.unit_price_minor, line.amount_minor) = (Some(i64::MIN), Some(i64::MIN), i64::MIN);
        }
        huge.taxes = vec![
            Tax {
                label: "VAT of a place with a long name ".repeat(5),
                taxable_minor: i64::MIN,
                tax_minor: i64::MIN,
                included: false
            };
            90
        ];
        (huge.subtotal_minor, huge.total_minor, huge.due_minor) = (i64::MIN, i64::MIN, i64::MIN);
        (huge.credit_applied_minor, huge.paid_minor) = (i64::MIN, i64::MAX);
        huge.notes = vec!["A note of many words. ".repeat(300); 2];
        assert_eq!(fits(&huge), Ok(()));
        assert_says(&texts(&huge).concat(), &[&huge.currency.figures(i64::MIN), &huge.currency.written(i64::MIN)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_text_can_be_printed(name in any::<String>(), note in any::<String>(), text in "\\PC{0,300}", lines in 0..12_usize) {
        let mut invoice = invoice();
        invoice.number.clone_from(&name);
        (invoice.seller.name, invoice.customer.name) = (name, note.clone());
        invoice.notes = vec![note];
        invoice.lines = vec![line(&text, 100); lines];
        prop_assert_eq!(fits(&invoice), Ok(()));
        render(&invoice).map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}
