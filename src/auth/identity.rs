//! Who a caller is to others: a user with an e-mail address.

use super::caller::UserCaller;
use crate::email::Email;
use crate::error::Error;

/// A user who can become a member: one with an address.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user.
    pub user_id: String,
    /// Their verified e-mail address.
    pub email: Email,
}

impl Identity {
    /// The identity of a caller.
    pub fn of(user: &UserCaller) -> Result<Self, Error> {
        let email = user.email.as_deref().and_then(|email| Email::parse(email).ok()).ok_or(Error::EmailRequired)?;
        Ok(Self { user_id: user.user_id.as_str().to_owned(), email })
    }
}
