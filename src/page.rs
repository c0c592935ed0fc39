//! Pages of lists: how long they are and where the next one begins.
//!
//! A page token is the position of the last item, bound to the list, the organization, the filter and the order by a
//! digest, so that a token of another list is refused and not misread. It is no secret and grants nothing: whose rows a
//! list shows is decided anew for each page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::fields::Fields;

const DEFAULT_SIZE: u64 = 50;
const MAXIMUM_SIZE: u64 = 200;
const DIGEST_BYTES: usize = 16;

/// Which page of a list is asked for.
#[derive(Clone, Debug)]
pub struct Page<P> {
    /// How many items it has at most.
    pub size: u64,
    /// The last item of the page before.
    pub after: Option<P>,
    list: String,
}

impl<P: Serialize + DeserializeOwned> Page<P> {
    /// Reads `page_size` and `page_token`. `list` names the list with everything that determines it but the page: method,
    /// organization, filter, order. `is_place` says whether a position can be one in it: whoever knows how tokens are
    /// written can write one that says anything.
    ///
    /// # Errors
    ///
    /// At once when the token is not one of this list.
    pub fn read(
        fields: &mut Fields,
        size: i32,
        token: &str,
        list: String,
        is_place: impl FnOnce(&P) -> bool,
    ) -> Result<Self, Error> {
        let size = match u64::try_from(size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MAXIMUM_SIZE),
            Err(_) => {
                fields.fault("page_size", format!("must be 0 (for {DEFAULT_SIZE}) to {MAXIMUM_SIZE}; more is capped"));
                DEFAULT_SIZE
            }
        };
        let after = match token {
            "" => None,
            token => Some(position(&list, token).filter(is_place).ok_or(Error::PageTokenInvalid)?),
        };
        Ok(Self { size, after, list })
    }

    /// Cuts the row that was read beyond the page, and gives the token of the next page if there was one.
    pub fn cut<T>(&self, rows: &mut Vec<T>, position: impl Fn(&T) -> P) -> Result<String, Error> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return Ok(String::new());
        }
        rows.truncate(size);
        match rows.last() {
            Some(last) => token(&self.list, &position(last)),
            None => Ok(String::new()),
        }
    }
}

/// Writes a place in a list as a token that is of this list alone.
pub fn token<P: Serialize>(list: &str, position: &P) -> Result<String, Error> {
    let position = serde_json::to_vec(position)
        .map_err(|error| Error::Defect("a page token could not be written", Some(error.into())))?;
    let mut bytes = binding(list, &position);
    bytes.extend(position);
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Reads the place in a list that a token names, if it is one of it.
pub fn position<P: DeserializeOwned>(list: &str, token: &str) -> Option<P> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (digest, position) = bytes.split_at_checked(DIGEST_BYTES)?;
    (binding(list, position) == digest).then(|| serde_json::from_slice(position).ok()).flatten()
}

fn binding(list: &str, position: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(8 + list.len() + position.len());
    bound.extend(list.len().to_be_bytes());
    bound.extend(list.as_bytes());
    bound.extend(position);
    digest(&SHA256, &bound).as_ref().iter().take(DIGEST_BYTES).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_its_own_list_and_whole() {
        let token = token("ListMembers a", &("name".to_owned(), 7)).unwrap();
        assert_eq!(position::<(String, i32)>("ListMembers a", &token), Some(("name".to_owned(), 7)));
        assert_eq!(position::<(String, i32)>("ListMembers b", &token), None);
        for index in 0..token.len() {
            let mut tampered = token.clone().into_bytes();
            tampered[index] = if tampered[index] == b'A' { b'B' } else { b'A' };
            let tampered = String::from_utf8(tampered).unwrap();
            assert_eq!(position::<(String, i32)>("ListMembers a", &tampered), None, "at {index}");
        }
    }
}
