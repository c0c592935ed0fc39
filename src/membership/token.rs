//! The secret of an invitation.
//!
//! A token names the invitation and carries 256 random bits. Only a hash of these is stored, so that nobody who reads the
//! database can accept for another; a resend replaces it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

const SECRET_BYTES: usize = 32;
const UUID_BYTES: usize = 16;

/// A token, read or made. It has no `Debug`: it appears nowhere but in the answer.
pub struct Token {
    /// The organization that invites.
    pub organization_id: Uuid,
    /// The invitation.
    pub invitation_id: Uuid,
    secret: [u8; SECRET_BYTES],
}

impl Token {
    /// Makes a new one. None if the machine has no random numbers.
    #[must_use]
    pub fn make(organization_id: Uuid, invitation_id: Uuid) -> Option<Self> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).ok()?;
        Some(Self { organization_id, invitation_id, secret })
    }

    /// Reads one; none if it has not the form of a token.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (organization_id, rest) = bytes.split_at_checked(UUID_BYTES)?;
        let (invitation_id, secret) = rest.split_at_checked(UUID_BYTES)?;
        Some(Self {
            organization_id: Uuid::from_slice(organization_id).ok()?,
            invitation_id: Uuid::from_slice(invitation_id).ok()?,
            secret: secret.try_into().ok()?,
        })
    }

    /// As it stands in a link.
    #[must_use]
    pub fn write(&self) -> String {
        let ids = [*self.organization_id.as_bytes(), *self.invitation_id.as_bytes()].concat();
        URL_SAFE_NO_PAD.encode([ids.as_slice(), &self.secret].concat())
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        digest(&SHA256, &self.secret).as_ref().to_vec()
    }

    /// Whether it is the one of which this hash was stored.
    #[must_use]
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.hash().ct_eq(stored).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_no_two_are_alike() {
        let (organization_id, invitation_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let token = Token::make(organization_id, invitation_id).unwrap();
        let again = Token::read(&token.write()).unwrap();
        assert!(again.matches(&token.hash()));
        assert_eq!((again.organization_id, again.invitation_id), (organization_id, invitation_id));
        assert!(!Token::make(organization_id, invitation_id).unwrap().matches(&token.hash()));
        assert!(Token::read(&token.write()[1..]).is_none() && Token::read("").is_none());
    }
}
