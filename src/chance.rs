//! Chance, where it keeps servers and callers from doing the same at the same time. It is not for secrets.

use std::hash::{BuildHasher as _, RandomState};

/// A number between 0 and 1.
#[must_use]
pub fn chance() -> f64 {
    // The one source of it in the standard library: each state has keys of its own.
    let chance = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    f64::from(chance) / f64::from(u32::MAX)
}
