//! E-mail: which letters there are, how they are queued, written and sent.

pub mod letter;
pub mod post;
pub mod queue;
pub mod templates;
mod write;

use lettre::message::Mailbox;

use post::Post;
use templates::Templates;

/// What stands for the token in the link of an invitation.
pub const TOKEN: &str = "{token}";

/// How e-mail is sent.
#[derive(Debug)]
pub struct Mail {
    /// By whom.
    pub post: Post,
    /// From whom. The name is that of the product.
    pub from: Mailbox,
    /// What letters look like.
    pub templates: Templates,
    /// The link of an invitation, with `{token}` where its token goes.
    pub invitation_url: String,
    /// The language of those who chose no other.
    pub language: String,
}

impl Mail {
    /// What people call the product.
    fn product(&self) -> &str {
        self.from.name.as_deref().unwrap_or_else(|| self.from.email.domain())
    }
}
