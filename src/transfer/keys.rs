//! What tells lines from one another, in little memory: a million members are to fit.

use std::collections::HashMap;

use ring::digest::{Context, SHA256};
use uuid::Uuid;

/// The digest of a key, in words, because an aligned 128-bit number would take more room beside a line's number.
type Digest = [u32; 4];

/// Keys that stand once, each with the line where it does.
#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<Digest, u32>);

impl Keys {
    /// Takes a key; or says the line that has it already.
    pub(super) fn take(&mut self, organization_id: Uuid, key: &str, line: u32) -> Result<(), u32> {
        match self.0.entry(digest(organization_id, key)) {
            std::collections::hash_map::Entry::Occupied(taken) => Err(*taken.get()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(line);
                Ok(())
            }
        }
    }

    /// The line that has a key.
    pub(super) fn line(&self, organization_id: Uuid, key: &str) -> Option<u32> {
        self.0.get(&digest(organization_id, key)).copied()
    }
}

/// Half of a SHA-256, so that nobody finds, or happens on, two keys that seem one.
fn digest(organization_id: Uuid, key: &str) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(organization_id.as_bytes());
    context.update(key.as_bytes());
    let digest = context.finish();
    let mut words = Digest::default();
    for (word, bytes) in words.iter_mut().zip(digest.as_ref().chunks_exact(4)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    words
}
