//! E-mail addresses: what is one, and when two are the same.

use std::str::FromStr as _;

use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization as _;

use crate::text;

/// RFC 5321's limit of a path, less its angle brackets.
const MOST_BYTES: usize = 254;

/// An e-mail address. Two that are the same mailbox for every provider we know compare equal by `normalized`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// As it was written, without the white space around it.
    pub written: String,
    /// By which it is compared: Unicode composed, lower case, the domain in its ASCII form. Dots and `+tags` stay: whether
    /// they matter is the provider's secret.
    pub normalized: String,
}

impl Email {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, in words for the caller.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let written = text.trim();
        if written.is_empty() {
            return Err("must not be empty");
        }
        if written.len() > MOST_BYTES {
            return Err("must have at most 254 bytes");
        }
        if text::has_control(written) || written.contains(text::is_joiner) {
            return Err("must not contain control or direction characters");
        }
        let (local, domain) = written.rsplit_once('@').ok_or("must have an @, as in name@example.com")?;
        let domain = idna::domain_to_ascii_strict(domain).map_err(|_| "must have a valid domain after the @")?;
        let local: String = local.nfc().flat_map(char::to_lowercase).nfc().collect();
        let normalized = format!("{local}@{domain}");
        // Quoted local parts are legal and used by nobody; they would let white space and a second @ in.
        let options = Options::default().without_display_text().without_domain_literal().with_required_tld();
        let valid = !local.contains('"')
            && EmailAddress::parse_with_options(&normalized, options).is_ok()
            && EmailAddress::from_str(&normalized).is_ok();
        if !valid {
            return Err("must be an e-mail address, as in name@example.com");
        }
        if normalized.len() > MOST_BYTES {
            return Err("must have at most 254 bytes");
        }
        Ok(Self { written: written.to_owned(), normalized })
    }

    /// The domain by which it is compared.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.normalized.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

/// Reads a domain as that of an e-mail address is compared: in its ASCII form.
///
/// # Errors
///
/// When no e-mail address can have it.
pub fn parse_domain(text: &str) -> Result<String, &'static str> {
    // What addresses have after the @ is decided in one place.
    let email = Email::parse(&format!("a@{}", text.trim()));
    email
        .map(|email| email.domain().to_owned())
        .map_err(|_| "must be the domain of e-mail addresses, as in example.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_spellings_are_one_address() {
        let one = Email::parse("Zoë.Ångström@Bücher.example").unwrap().normalized;
        for spelling in ["zoë.ångström@bücher.example", " ZOE\u{308}.A\u{30a}NGSTRO\u{308}M@xn--bcher-kva.EXAMPLE\t"]
        {
            assert_eq!(Email::parse(spelling).unwrap().normalized, one, "{spelling}");
        }
        assert_ne!(Email::parse("a.b@x.com").unwrap().normalized, Email::parse("ab@x.com").unwrap().normalized);
        // Letters that only look alike may be somebody else's mailbox.
        assert_ne!(Email::parse("\u{ff41}nn@x.com").unwrap().normalized, Email::parse("ann@x.com").unwrap().normalized);
        let (cyrillic, latin) =
            (Email::parse("\u{430}nn@\u{430}pple.com").unwrap(), Email::parse("ann@apple.com").unwrap());
        assert_ne!(cyrillic.normalized, latin.normalized);
        assert!(
            cyrillic.domain().starts_with("xn--"),
            "who reads the domain sees that it is another: {}",
            cyrillic.domain()
        );
        assert_ne!(Email::parse("a+1@x.com").unwrap().normalized, Email::parse("a@x.com").unwrap().normalized);
    }

    #[test]
    fn a_domain_is_read_as_that_of_an_address_is() {
        for text in ["Bücher.example", " xn--bcher-kva.EXAMPLE\n"] {
            assert_eq!(parse_domain(text).unwrap(), Email::parse("ann@bücher.example").unwrap().domain());
        }
        for text in
            ["", " ", "example", "@example.com", "ann@example.com", "*.example.com", "example.com.", "a b.com", "[::1]"]
        {
            assert!(parse_domain(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            " ",
            "a",
            "@",
            "a@",
            "@x.com",
            "a@b",
            "a b@x.com",
            "a@x..com",
            "a@x.com.",
            "a@-x.com",
            "a@[127.0.0.1]",
            "\"a b\"@x.com",
            "Ann <a@x.com>",
            "a@x.com,b@x.com",
            "a\0@x.com",
            "a\u{202e}@x.com",
            "a\u{200d}@x.com",
            "a@x@y.com",
            ".a@x.com",
        ] {
            assert!(Email::parse(text).is_err(), "{text:?} was taken");
        }
        let long = |count: usize| Email::parse(&format!("{}@example.com", "a".repeat(count)));
        assert!(long(64).is_ok(), "RFC 5321 section 4.5.3.1.1");
        for count in [65, 250, 100_000] {
            assert!(long(count).is_err(), "{count} letters before the @");
        }
    }
}
