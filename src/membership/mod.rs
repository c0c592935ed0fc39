//! Members, their roles, and the invitations by which they come.

pub mod activity;
mod assigned;
pub mod custom_roles;
pub mod invitations;
pub mod joining;
pub mod listing;
pub mod rpc;
pub mod rules;
pub mod search;
pub mod store;
pub mod token;

use crate::fields::Fields;
use crate::pb;
use crate::text;

pub use crate::auth::identity::Identity;
pub use rpc::Service;

/// Texts in the form in which a search looks into them, so that each is found as it is shown, in any case and with or without
/// accents. A line each: nothing that is searched for has an end of line, so nothing is found across two of them.
pub(crate) fn searchable(texts: &[&str]) -> String {
    let mut lines: Vec<String> = texts.iter().map(|text| text::fold(text)).collect();
    lines.dedup();
    lines.join("\n")
}

/// How a user is shown to other members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The name.
    pub display_name: String,
    /// The picture.
    pub avatar_uri: String,
}

impl Profile {
    /// Reads a profile; an absent one is empty.
    pub fn read(fields: &mut Fields, field: &str, profile: Option<&pb::UserProfile>) -> Self {
        let Some(profile) = profile else { return Self::default() };
        Self {
            display_name: fields.line(&format!("{field}.display_name"), &profile.display_name, 0..=200),
            avatar_uri: fields.https_uri(&format!("{field}.avatar_uri"), &profile.avatar_uri),
        }
    }
}
