//! What can be wrong with a role policy, said so that its operator can mend the file in one go.

use std::{fmt, io};

use super::presets;

/// Why a role policy did not load.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The choice names no preset, and no file that can be read.
    #[error("role policy `{choice}` is neither a preset ({}) nor a file that can be read", list(presets()))]
    Unreadable {
        /// The preset name or path that was asked for.
        choice: String,
        /// What the file system answered.
        source: io::Error,
    },
    /// The policy was read and is not whole.
    #[error("role policy `{source_name}` cannot be used:{}", lines(faults))]
    Faulty {
        /// The preset name or path that it was read from.
        source_name: String,
        /// Everything that is wrong, in the order of the file.
        faults: Vec<Fault>,
    },
}

/// One thing that is wrong with a role policy, and the line of the file to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line to look at, counted from 1; where something is missing, the line of what it is missing from.
    pub line: usize,
    /// What is wrong, with the role and the permission that it concerns.
    pub text: String,
}

impl Fault {
    pub(super) fn new(line: usize, text: impl Into<String>) -> Self {
        Self { line, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// Names in a sentence: `a, b, c`.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect::<Vec<_>>().concat()
}
