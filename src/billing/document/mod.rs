//! An invoice or a credit note as a PDF: what a customer files, and an auditor asks for years later.
//!
//! It promises that nothing is left out, whatever the length of a name or the size of an amount: text wraps, tables run over
//! as many A4 pages as they need, and the same [`Document`] gives the same bytes. The file is tagged and made as PDF/A-3a and
//! PDF/UA-1, so that it can be archived, read aloud and copied from.
//!
//! It refuses to compute: what it is given is what it prints, and no clock, setting or font outside the program is asked.
//!
//! Its fonts have Latin, Greek and Cyrillic letters. A letter of another script is printed as what Unicode takes for
//! compatible with it or, failing that, as a question mark; whoever copies or searches the text finds the letter itself.

mod compose;
mod flow;
mod fonts;
mod logo;
mod paint;
mod table;
#[cfg(test)]
mod tests;
mod totals;

use chrono::NaiveDate;

use super::money::Currency;
pub use logo::{Logo, LogoError};

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a customer owes.
    Invoice,
    /// What is taken back of an invoice.
    CreditNote,
}

/// Where a document stands, as a word beside its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// To be paid.
    Open,
    /// Paid in full.
    Paid,
    /// No longer owed, as if it had not been issued.
    Void,
    /// Given up.
    Uncollectible,
    /// In force: a credit note has nothing else to become.
    Issued,
}

/// Who sells or buys. Nothing is printed for what is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// The legal name.
    pub name: String,
    /// The postal address as it stands on an envelope, the country last.
    pub address_lines: Vec<String>,
    /// Where questions are sent.
    pub email: String,
    /// The number under which the party pays taxes, as `NL000099998B57`.
    pub tax_id: String,
}

/// One thing that is charged or credited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// What it is.
    pub description: String,
    /// What is said about it in smaller letters below: most often its period.
    pub detail: String,
    /// How many, where that can be said.
    pub quantity: Option<i64>,
    /// What one costs, where that can be said.
    pub unit_price_minor: Option<i64>,
    /// What all of it costs.
    pub amount_minor: i64,
}

/// What is owed by one rate of a tax.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tax {
    /// Its name and rate: `VAT 21%`.
    pub label: String,
    /// What it is computed from.
    pub taxable_minor: i64,
    /// What it comes to.
    pub tax_minor: i64,
    /// Whether the total has it already in the prices of the lines, rather than on top of them.
    pub included: bool,
}

/// Everything that the pages say.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is.
    pub kind: Kind,
    /// Its number in the seller's books.
    pub number: String,
    /// Where it stands.
    pub status: Status,
    /// The day on it, which the file has for its day of creation too.
    pub issued_on: NaiveDate,
    /// The last day of payment.
    pub due_on: Option<NaiveDate>,
    /// The first and the last day of what is charged.
    pub period: Option<(NaiveDate, NaiveDate)>,
    /// Who issues it.
    pub seller: Party,
    /// Who it is issued to.
    pub customer: Party,
    /// The customer's own reference, if any.
    pub purchase_order_number: String,
    /// The number of the invoice that a credit note corrects.
    pub refers_to: Option<String>,
    /// What stands at the top in place of the seller's name.
    pub logo: Option<Logo>,
    /// The colour of rules and of the bar at the top, in red, green and blue. No text is in it, so any can be read.
    pub accent: Option<(u8, u8, u8)>,
    /// What all amounts are in.
    pub currency: Currency,
    /// What is charged or credited.
    pub lines: Vec<Line>,
    /// The taxes, rate by rate.
    pub taxes: Vec<Tax>,
    /// The sum of the lines.
    pub subtotal_minor: i64,
    /// The sum with taxes.
    pub total_minor: i64,
    /// What of it the customer's credit settled or, on a credit note, was added to that credit. Not printed when zero.
    pub credit_applied_minor: i64,
    /// What of it was paid or, on a credit note, paid back. Not printed when zero.
    pub paid_minor: i64,
    /// What is left to pay or, on a credit note, to pay back: then not printed when zero.
    pub due_minor: i64,
    /// What stands below: terms of payment, a bank account, a remark on reverse charge. Line breaks are kept.
    pub notes: Vec<String>,
}

/// Why there is no PDF. None of it is to be expected of any document: the fonts are the program's own, and a logo was drawn once
/// before it became a [`Logo`].
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// A font of the program cannot be read.
    #[error("a font of the program cannot be read")]
    Font,
    /// The standards that the file follows do not go together.
    #[error("the standards of the PDF do not go together: {0:?}")]
    Standards(krilla::configure::ConfigurationError),
    /// The file cannot be written as the standards want it.
    #[error("the PDF cannot be written: {0:?}")]
    Write(krilla::error::KrillaError),
}

/// The document as the bytes of a PDF.
///
/// # Errors
///
/// When the PDF cannot be written: see [`DocumentError`].
pub fn render(document: &Document) -> Result<Vec<u8>, DocumentError> {
    let fonts = fonts::Fonts::load()?;
    paint::file(document, &compose::pages(document, &fonts), &fonts)
}
