//! A line as it stands: an object with its keys in their order, from which one is taken after the other, every fault being
//! noted. Reading straight into a struct would tell one fault of each line, and hide a key that stands twice.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::Violation;
use crate::fields::{Fields, is_time};

/// A value of JSON.
#[derive(Debug)]
pub(super) enum Json {
    Null,
    Flag(bool),
    /// None when it is not a whole number of 64 bits.
    Number(Option<i64>),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Flag(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(Some(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(i64::try_from(value).ok()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number(None))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}

/// An object that is being read.
#[derive(Debug)]
pub(super) struct Object {
    /// What stands before its keys in faults: nothing, or `room_settings.`.
    prefix: String,
    entries: Vec<(String, Json)>,
    fields: Fields,
}

impl Object {
    /// Reads a line.
    pub(super) fn read(line: &str) -> Result<Self, Violation> {
        let fault = |description: String| Violation { field: String::new(), description };
        match serde_json::from_str(line) {
            Ok(Json::Object(entries)) => Ok(Self::of(String::new(), entries, Fields::new())),
            Ok(_) => Err(fault("must be a JSON object".into())),
            // The text says `at line 1 column 7`, and the line it means is its own only one.
            Err(error) => {
                Err(fault(format!("is not JSON: {}", error.to_string().replace("at line 1 column", "at column"))))
            }
        }
    }

    fn of(prefix: String, entries: Vec<(String, Json)>, mut fields: Fields) -> Self {
        let mut distinct: Vec<(String, Json)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if distinct.iter().any(|(earlier, _)| *earlier == key) {
                fields.fault(format!("{prefix}{key}"), "stands twice");
            } else {
                distinct.push((key, value));
            }
        }
        Self { prefix, entries: distinct, fields }
    }

    /// Every fault of it: those noted, and the keys that nobody took.
    pub(super) fn finish(mut self) -> Fields {
        for (key, _) in std::mem::take(&mut self.entries) {
            self.fault(&key, "is not a key of this kind of line");
        }
        self.fields
    }

    /// Notes a fault.
    pub(super) fn fault(&mut self, key: &str, description: impl Into<String>) {
        self.fields.fault(format!("{}{key}", self.prefix), description);
    }

    fn take(&mut self, key: &str) -> Option<Json> {
        let place = self.entries.iter().position(|(name, _)| name == key)?;
        match self.entries.swap_remove(place).1 {
            Json::Null => None,
            value => Some(value),
        }
    }

    /// A text, as `read` has it; nothing when it is not said.
    pub(super) fn optional<T>(&mut self, key: &str, read: impl FnOnce(&mut Fields, &str, &str) -> T) -> Option<T> {
        let Json::Text(text) = self.take(key)? else {
            self.fault(key, "must be a text");
            return None;
        };
        Some(read(&mut self.fields, &format!("{}{key}", self.prefix), &text))
    }

    /// A text, as `read` has it, who says of an empty one what is missing.
    pub(super) fn required<T: Default>(&mut self, key: &str, read: impl FnOnce(&mut Fields, &str, &str) -> T) -> T {
        match self.take(key) {
            Some(Json::Text(text)) => read(&mut self.fields, &format!("{}{key}", self.prefix), &text),
            Some(_) => {
                self.fault(key, "must be a text");
                T::default()
            }
            None => {
                self.fault(key, "must be said");
                T::default()
            }
        }
    }

    /// One of the words for something.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let said = self.optional(key, |_, _, text| text.to_owned())?;
        let found = words.iter().find(|(word, _)| *word == said).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.fault(key, format!("must be one of {}", words.join(", ")));
        }
        found
    }

    /// A moment, in whole microseconds.
    pub(super) fn time(&mut self, key: &str) -> Option<DateTime<Utc>> {
        self.optional(key, |fields, key, text| {
            let time = DateTime::parse_from_rfc3339(text).ok();
            let time = time.and_then(|time| DateTime::from_timestamp_micros(time.timestamp_micros())).filter(is_time);
            if time.is_none() {
                fields.fault(key, "must be a time from 1970 to 9999 as RFC 3339 has it: 2026-01-31T09:00:00Z");
            }
            time
        })
        .flatten()
    }

    /// A whole number.
    pub(super) fn number(&mut self, key: &str) -> Option<i64> {
        let Json::Number(Some(number)) = self.take(key)? else {
            self.fault(key, "must be a whole number");
            return None;
        };
        Some(number)
    }

    /// Yes or no; no when it is not said.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        match self.take(key) {
            Some(Json::Flag(flag)) => flag,
            None => false,
            Some(_) => {
                self.fault(key, "must be true or false");
                false
            }
        }
    }

    /// A list of texts, each as `read` has it; empty when it is not said.
    pub(super) fn list<T>(&mut self, key: &str, mut read: impl FnMut(&mut Fields, &str, &str) -> T) -> Vec<T> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Json::List(items) = value else {
            self.fault(key, "must be a list of texts");
            return Vec::new();
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let key = format!("{key}[{index}]");
            match item {
                Json::Text(text) => list.push(read(&mut self.fields, &format!("{}{key}", self.prefix), &text)),
                _ => self.fault(&key, "must be a text"),
            }
        }
        list
    }

    /// What `read` makes of an object within this one; nothing when it is not said.
    pub(super) fn inner<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let Json::Object(entries) = self.take(key)? else {
            self.fault(key, "must be an object");
            return None;
        };
        let fields = std::mem::take(&mut self.fields);
        let mut inner = Self::of(format!("{}{key}.", self.prefix), entries, fields);
        let made = read(&mut inner);
        self.fields = inner.finish();
        Some(made)
    }
}
