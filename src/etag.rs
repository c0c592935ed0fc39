//! Etags: which version of a resource a caller has read.

use crate::error::Error;

/// The etag of a version.
#[must_use]
pub fn of(version: i64) -> String {
    format!("v{version}")
}

/// Whether the caller's etag is still the current one. An absent one always is (AIP-154).
pub fn check(given: &str, version: i64) -> Result<(), Error> {
    let current = of(version);
    if given.is_empty() || given == current { Ok(()) } else { Err(Error::EtagMismatch { current }) }
}
