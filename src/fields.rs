//! Reads the fields of a request and collects everything that is wrong with them, so that the caller hears it all at once.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::email::Email;
use crate::error::{Error, Violation};
use crate::id::UserId;
use crate::organization::rules::is_slug;
use crate::text;

/// The most items that any batch takes.
pub const BATCH_MAXIMUM: usize = 500;

/// How far ahead of this server's clock a moment that has been may be.
const CLOCK_LEEWAY: TimeDelta = TimeDelta::minutes(1);

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    /// Nothing is wrong yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the parsed request, unless something was wrong.
    pub fn done<T>(self, parsed: T) -> Result<T, Error> {
        if self.violations.is_empty() { Ok(parsed) } else { Err(Error::Fields(self.violations)) }
    }

    /// Everything that was wrong.
    #[must_use]
    pub fn violations(self) -> Vec<Violation> {
        self.violations
    }

    /// Notes a fault.
    pub fn fault(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.violations.push(Violation { field: field.into(), description: description.into() });
    }

    /// A line of text with this many characters.
    pub fn line(&mut self, field: &str, value: &str, length: RangeInclusive<usize>) -> String {
        let value = value.trim();
        let characters = value.chars().count();
        if !length.contains(&characters) {
            self.fault(field, format!("must have {} to {} characters, has {characters}", length.start(), length.end()));
        }
        if text::has_control(value) {
            self.fault(field, "must not contain control or direction characters");
        }
        value.to_owned()
    }

    /// Text of several lines with at most this many characters.
    pub fn paragraph(&mut self, field: &str, value: &str, most: usize) -> String {
        let value = value.trim();
        let characters = value.chars().count();
        if characters > most {
            self.fault(field, format!("must have at most {most} characters, has {characters}"));
        }
        if value.split(['\n', '\r', '\t']).any(text::has_control) {
            self.fault(field, "must not contain control or direction characters");
        }
        value.to_owned()
    }

    /// An https URI, or nothing.
    pub fn https_uri(&mut self, field: &str, value: &str) -> String {
        let sound = value.is_empty()
            || (value.len() <= 2000
                && value.is_ascii()
                && value.starts_with("https://")
                && value.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty())));
        if !sound {
            self.fault(field, "must be an https URI of at most 2,000 bytes, as in https://example.com/logo.png");
        }
        value.to_owned()
    }

    /// A slug.
    pub fn slug(&mut self, field: &str, value: &str) -> String {
        if !is_slug(value) {
            self.fault(field, "must be 3 to 63 of a–z, 0–9 and hyphens, with no hyphen at either end");
        }
        value.to_owned()
    }

    /// A time zone, as the IANA names it.
    pub fn time_zone(&mut self, field: &str, value: &str) -> String {
        if value.parse::<chrono_tz::Tz>().is_err() {
            self.fault(field, "must be a time zone as the IANA names it, as in Europe/Amsterdam");
        }
        value.to_owned()
    }

    /// A UUID.
    pub fn uuid(&mut self, field: &str, value: &str) -> Uuid {
        parse_uuid(value).unwrap_or_else(|| {
            self.fault(field, "must be a UUID, as in 0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70");
            Uuid::nil()
        })
    }

    /// A user's id; empty when it is wrong.
    pub fn user_id(&mut self, field: &str, value: &str) -> String {
        if let Err(fault) = UserId::parse(value) {
            self.fault(field, fault.to_string());
        }
        value.to_owned()
    }

    /// The id that another system gave something, by the rules for user ids; empty when it is wrong.
    pub fn foreign_id(&mut self, field: &str, value: &str) -> String {
        self.user_id(field, value)
    }

    /// An e-mail address; nothing when it is wrong.
    pub fn email(&mut self, field: &str, value: &str) -> Option<Email> {
        Email::parse(value).map_err(|fault| self.fault(field, fault)).ok()
    }

    /// Whether a batch has a size that is taken.
    ///
    /// # Errors
    ///
    /// At once when it has too many items: nobody wants to hear what is wrong with each of a million.
    pub fn batch(&mut self, field: &'static str, size: usize) -> Result<(), Error> {
        if size == 0 {
            self.fault(field, format!("must have 1 to {BATCH_MAXIMUM} items"));
        }
        if size > BATCH_MAXIMUM {
            return Err(Error::BatchTooLarge { field, size, maximum: BATCH_MAXIMUM });
        }
        Ok(())
    }

    /// A length of time within bounds, in whole microseconds; nothing when unset or wrong.
    pub fn duration(
        &mut self,
        field: &str,
        value: Option<&prost_types::Duration>,
        bounds: RangeInclusive<TimeDelta>,
    ) -> Option<TimeDelta> {
        let value = value?;
        let length = u32::try_from(value.nanos).ok().and_then(|nanos| TimeDelta::new(value.seconds, nanos));
        let length = length.filter(|length| bounds.contains(length));
        if length.is_none() {
            self.fault(
                field,
                match bounds.start().num_seconds() {
                    0 if bounds.start().is_zero() => format!("must be 0 to {} seconds", bounds.end().num_seconds()),
                    0 => format!("must be more than nothing, and at most {} seconds", bounds.end().num_seconds()),
                    least => format!("must be {least} to {} seconds", bounds.end().num_seconds()),
                },
            );
        }
        // What is added to a time of the clock must give one that both databases keep exactly.
        length.and_then(|length| length.num_microseconds()).map(TimeDelta::microseconds)
    }

    /// A moment; nothing when unset or wrong.
    pub fn time(&mut self, field: &str, value: Option<&prost_types::Timestamp>) -> Option<DateTime<Utc>> {
        let value = value?;
        // More nanoseconds than a second has would be read as a leap second, which no Timestamp can say.
        let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let time = nanos.and_then(|nanos| DateTime::from_timestamp(value.seconds, nanos / 1000 * 1000));
        let time = time.filter(is_time);
        if time.is_none() {
            self.fault(field, "must be a time from 1970 to 9999");
        }
        time
    }

    /// A moment that has been, or nearly so: two machines never agree to the second. Nothing when unset or wrong.
    pub fn past_time(
        &mut self,
        field: &str,
        value: Option<&prost_types::Timestamp>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let time = self.time(field, value)?;
        if time > now + CLOCK_LEEWAY {
            self.fault(field, "must not be in the future");
        }
        Some(time)
    }

    /// The fields that a mask names, in the order in which they are known; a path that others go on from names all of these.
    pub fn mask(&mut self, mask: Option<&prost_types::FieldMask>, known: &[&'static str]) -> Vec<&'static str> {
        let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let names = |path: &str, field: &str| {
            field.strip_prefix(path).is_some_and(|rest| !path.is_empty() && (rest.is_empty() || rest.starts_with('.')))
        };
        if paths.is_empty() || paths.len() > 100 {
            self.fault("update_mask", "must name 1 to 100 fields");
            return Vec::new();
        }
        if !paths.iter().all(|path| known.iter().any(|field| names(path, field))) {
            self.fault("update_mask", format!("can name these only, or what they begin with: {}", known.join(", ")));
        }
        known.iter().copied().filter(|field| paths.iter().any(|path| names(path, field))).collect()
    }

    /// The states that a list is narrowed to, each once. `known` gives what a number of the contract stands for.
    pub fn states<T>(&mut self, numbers: &[i32], must_be: &str, known: impl Fn(i32) -> Option<T>) -> Vec<T> {
        let mut states = Vec::new();
        // Of more different ones than there are states, some are wrong; nobody wants to hear of each.
        for (index, number) in Self::distinct(numbers.iter().copied(), |number| *number).into_iter().take(100) {
            match known(number) {
                Some(state) => states.push(state),
                None => self.fault(format!("states[{index}]"), must_be),
            }
        }
        states
    }

    /// Every item of a batch once, with the index at which it came first.
    pub fn distinct<T, K: std::hash::Hash + Eq>(
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> K,
    ) -> Vec<(usize, T)> {
        let mut seen = HashSet::new();
        items.into_iter().enumerate().filter(|(_, item)| seen.insert(key(item))).collect()
    }
}

/// Whether a time is one that requests and page tokens may say: from 1970 to 9999, which both databases keep.
#[must_use]
pub fn is_time(time: &DateTime<Utc>) -> bool {
    (DateTime::UNIX_EPOCH..=LATEST).contains(time)
}

const LATEST: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
    Some(latest) => latest,
    None => DateTime::<Utc>::MAX_UTC,
};

/// A UUID in its usual form, with hyphens. The other forms that the library knows would make two names of one thing.
#[must_use]
pub fn parse_uuid(value: &str) -> Option<Uuid> {
    (value.len() == 36).then(|| Uuid::try_parse(value).ok()).flatten()
}

/// A time as the wire says it.
#[must_use]
pub fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}
