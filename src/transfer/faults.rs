//! What is wrong with a file, line by line.

use crate::error::Violation;

/// The most faults that are told; of the others there is the count.
pub const TOLD: usize = 1000;

/// Something wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub text: String,
}

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Faults {
    told: Vec<Fault>,
    count: u64,
}

impl Faults {
    /// Notes a fault of a line.
    pub fn note(&mut self, line: u32, text: impl Into<String>) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(Fault { line, text: text.into() });
        }
    }

    /// Notes a fault of a key.
    pub(super) fn violation(&mut self, line: u32, violation: &Violation) {
        match violation.field.as_str() {
            "" => self.note(line, &violation.description),
            field => self.note(line, format!("{field}: {}", violation.description)),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first of them, in the order of the lines.
    #[must_use]
    pub fn told(mut self) -> Vec<Fault> {
        self.told.sort();
        self.told
    }
}
