//! The fields of settings: how each is read from a request, told in an event, and shown.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use chrono::TimeDelta;
use ipnet::IpNet;

use super::Settings;
use crate::email;
use crate::event::FieldChange;
use crate::fields::Fields;
use crate::pb;

/// Every field that a mask can name.
pub const PATHS: [&str; 18] = [
    "branding.logo_uri",
    "branding.primary_color",
    "branding.accent_color",
    "branding.mail_language",
    "security.allowed_sign_in_methods",
    "security.mfa_required",
    "security.session_length",
    "security.allowed_email_domains",
    "security.allowed_ip_ranges",
    "security.external_sharing_allowed",
    "ai.allowed_models",
    "ai.default_model",
    "ai.training_allowed",
    "ai.retention_days",
    "ai.redact_personal_data",
    "ai.safety_level",
    "setup.dismissed",
    "setup.dismissed_steps",
];

/// The most items of a list.
const MOST_ITEMS: usize = 100;
const SHORTEST_SESSION: TimeDelta = TimeDelta::minutes(5);
const LONGEST_SESSION: TimeDelta = TimeDelta::days(365);
const LONGEST_RETENTION: i32 = 3650;

/// The values that a request brings, with the defaults of what it leaves out.
#[derive(Clone, Debug, Default)]
pub struct New {
    branding: pb::Branding,
    security: pb::SecuritySettings,
    ai: pb::AiSettings,
    setup: pb::SetupSettings,
}

impl New {
    /// Reads a request.
    #[must_use]
    pub fn of(settings: Option<pb::OrganizationSettings>) -> Self {
        let settings = settings.unwrap_or_default();
        Self {
            branding: settings.branding.unwrap_or_default(),
            security: settings.security.unwrap_or_default(),
            ai: settings.ai.unwrap_or_default(),
            setup: settings.setup.unwrap_or_default(),
        }
    }

    /// Sets fields to these values and gives those that were another before. What is wrong with a value is noted.
    pub fn set(&self, settings: &mut Settings, paths: &[&'static str], fields: &mut Fields) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        for path in paths {
            let before = settings.clone();
            self.set_one(settings, path, fields);
            if *settings != before {
                let (before, after) = (before.text(path), settings.text(path));
                changes.push(FieldChange { field: (*path).to_owned(), before, after });
            }
        }
        changes
    }

    fn set_one(&self, to: &mut Settings, path: &str, fields: &mut Fields) {
        let Self { branding, security, setup, .. } = self;
        let name = format!("settings.{path}");
        let name = name.as_str();
        match path {
            "branding.logo_uri" => to.branding.logo_uri = fields.https_uri(name, &branding.logo_uri),
            "branding.primary_color" => to.branding.primary_color = color(fields, name, &branding.primary_color),
            "branding.accent_color" => to.branding.accent_color = color(fields, name, &branding.accent_color),
            "branding.mail_language" => to.branding.mail_language = language(fields, name, &branding.mail_language),
            "security.allowed_sign_in_methods" => {
                let known = |method| pb::SignInMethod::try_from(method).is_ok();
                to.security.allowed_sign_in_methods = choices(fields, name, &security.allowed_sign_in_methods, known);
            }
            "security.mfa_required" => to.security.mfa_required = security.mfa_required,
            "security.session_length" => {
                let length = security.session_length.as_ref();
                let length = fields.duration(name, length, SHORTEST_SESSION..=LONGEST_SESSION);
                to.security.session_length_micros = length.and_then(|length| length.num_microseconds());
            }
            "security.allowed_email_domains" => {
                to.security.allowed_email_domains = set_of(fields, name, &security.allowed_email_domains, domain);
            }
            "security.allowed_ip_ranges" => {
                to.security.allowed_ip_ranges = set_of(fields, name, &security.allowed_ip_ranges, network);
            }
            "security.external_sharing_allowed" => {
                to.security.external_sharing_allowed = security.external_sharing_allowed;
            }
            "setup.dismissed" => to.setup.dismissed = setup.dismissed,
            "setup.dismissed_steps" => {
                let known = |step| pb::SetupStepKind::try_from(step).is_ok();
                to.setup.dismissed_steps = choices(fields, name, &setup.dismissed_steps, known);
            }
            _ => self.set_ai(to, path, name, fields),
        }
    }

    fn set_ai(&self, to: &mut Settings, path: &str, name: &str, fields: &mut Fields) {
        let ai = &self.ai;
        match path {
            "ai.allowed_models" => {
                let model = |fields: &mut Fields, name: &str, model: &str| Some(fields.line(name, model, 1..=100));
                to.ai.allowed_models = list(fields, name, &ai.allowed_models, model);
            }
            "ai.default_model" => to.ai.default_model = fields.line(name, &ai.default_model, 0..=100),
            "ai.training_allowed" => to.ai.training_allowed = ai.training_allowed,
            "ai.retention_days" => to.ai.retention_days = retention(fields, name, ai.retention_days),
            "ai.redact_personal_data" => to.ai.redact_personal_data = ai.redact_personal_data,
            "ai.safety_level" => to.ai.safety_level = safety_level(fields, name, ai.safety_level),
            _ => {}
        }
    }
}

fn color(fields: &mut Fields, name: &str, value: &str) -> String {
    let color = value.trim().to_ascii_lowercase();
    let digits = color.strip_prefix('#').unwrap_or_default();
    if !color.is_empty() && (digits.len() != 6 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
        fields.fault(name, "must be a colour, as in #1a2b3c");
    }
    color
}

fn domain(fields: &mut Fields, name: &str, value: &str) -> Option<String> {
    email::parse_domain(value).map_err(|fault| fields.fault(name, fault)).ok()
}

/// A network in its shortest form, without the bits that tell its hosts apart.
fn network(fields: &mut Fields, name: &str, value: &str) -> Option<String> {
    let value = value.trim();
    // The library takes an octet with leading zeros, which some read as octal, for a decimal one.
    let address = value.split_once('/').and_then(|(address, _)| address.parse::<IpAddr>().ok());
    let network = address.and_then(|_| value.parse::<IpNet>().ok());
    if network.is_none() {
        fields.fault(name, "must be a network in CIDR notation, as in 192.0.2.0/24 or 2001:db8::/32");
    }
    network.map(|network| network.trunc().to_string())
}

fn retention(fields: &mut Fields, name: &str, days: Option<i32>) -> Option<i32> {
    if days.is_some_and(|days| !(0..=LONGEST_RETENTION).contains(&days)) {
        fields.fault(name, format!("must be 0 to {LONGEST_RETENTION}"));
    }
    days
}

fn safety_level(fields: &mut Fields, name: &str, level: i32) -> i32 {
    if pb::AiSafetyLevel::try_from(level).is_err() {
        fields.fault(name, "must be one of AiSafetyLevel");
    }
    level
}

/// A list of which each item is kept once.
fn list(
    fields: &mut Fields,
    name: &str,
    items: &[String],
    read: fn(&mut Fields, &str, &str) -> Option<String>,
) -> Vec<String> {
    let distinct = Fields::distinct(items.iter(), |item| item.trim().to_owned());
    if distinct.len() > MOST_ITEMS {
        fields.fault(name, format!("must have at most {MOST_ITEMS} items, has {}", distinct.len()));
        return Vec::new();
    }
    let items = distinct.into_iter().filter_map(|(index, item)| read(fields, &format!("{name}[{index}]"), item));
    Fields::distinct(items.collect::<Vec<_>>(), Clone::clone).into_iter().map(|(_, item)| item).collect()
}

/// A list in which the order says nothing: the same in another order is no change.
fn set_of(
    fields: &mut Fields,
    name: &str,
    items: &[String],
    read: fn(&mut Fields, &str, &str) -> Option<String>,
) -> Vec<String> {
    let mut items = list(fields, name, items, read);
    items.sort_unstable();
    items
}

/// A language as folders of templates are named: `nl`, `pt-BR`. Whether there are letters in it is the deployment's affair.
fn language(fields: &mut Fields, name: &str, text: &str) -> String {
    let is_tag = text
        .split('-')
        .all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if !text.is_empty() && (!is_tag || text.len() > 35) {
        fields.fault(name, "must be the tag of a language, as `nl` or `pt-BR`, or empty");
    }
    text.to_owned()
}

/// Values of an enum, each once and in the order of the contract.
fn choices(fields: &mut Fields, name: &str, values: &[i32], known: fn(i32) -> bool) -> Vec<i32> {
    let mut choices: Vec<i32> =
        Fields::distinct(values.iter().copied(), |value| *value).into_iter().map(|(_, value)| value).collect();
    if !choices.iter().all(|value| *value != 0 && known(*value)) {
        fields.fault(name, "must have known values only, and none that is unspecified");
    }
    choices.sort_unstable();
    choices
}

impl Settings {
    /// A field as an event tells it.
    fn text(&self, path: &str) -> String {
        let Self { branding, security, ai, setup } = self;
        match path {
            "branding.logo_uri" => branding.logo_uri.clone(),
            "branding.primary_color" => branding.primary_color.clone(),
            "branding.accent_color" => branding.accent_color.clone(),
            "branding.mail_language" => branding.mail_language.clone(),
            "security.allowed_sign_in_methods" => names(&security.allowed_sign_in_methods, |method| {
                pb::SignInMethod::try_from(method).ok().map(|method| method.as_str_name())
            }),
            "security.mfa_required" => security.mfa_required.to_string(),
            "security.session_length" => {
                security.session_length_micros.map(|micros| shown_duration(micros).to_string()).unwrap_or_default()
            }
            "security.allowed_email_domains" => security.allowed_email_domains.join(", "),
            "security.allowed_ip_ranges" => security.allowed_ip_ranges.join(", "),
            "security.external_sharing_allowed" => security.external_sharing_allowed.to_string(),
            "ai.allowed_models" => ai.allowed_models.join(", "),
            "ai.default_model" => ai.default_model.clone(),
            "ai.training_allowed" => ai.training_allowed.to_string(),
            "ai.retention_days" => ai.retention_days.map(|days| days.to_string()).unwrap_or_default(),
            "ai.redact_personal_data" => ai.redact_personal_data.to_string(),
            "ai.safety_level" => names(&[ai.safety_level], |level| {
                pb::AiSafetyLevel::try_from(level).ok().map(|level| level.as_str_name())
            }),
            "setup.dismissed" => setup.dismissed.to_string(),
            "setup.dismissed_steps" => names(&setup.dismissed_steps, |step| {
                pb::SetupStepKind::try_from(step).ok().map(|step| step.as_str_name())
            }),
            _ => String::new(),
        }
    }

    /// The settings as the wire shows them, but for what the row says of itself.
    #[must_use]
    pub fn shown(self) -> pb::OrganizationSettings {
        let Self { branding, security, ai, setup } = self;
        pb::OrganizationSettings {
            branding: Some(pb::Branding {
                logo_uri: branding.logo_uri,
                primary_color: branding.primary_color,
                accent_color: branding.accent_color,
                mail_language: branding.mail_language,
            }),
            security: Some(pb::SecuritySettings {
                allowed_sign_in_methods: security.allowed_sign_in_methods,
                mfa_required: security.mfa_required,
                session_length: security.session_length_micros.map(shown_duration),
                allowed_email_domains: security.allowed_email_domains,
                allowed_ip_ranges: security.allowed_ip_ranges,
                external_sharing_allowed: security.external_sharing_allowed,
            }),
            ai: Some(pb::AiSettings {
                allowed_models: ai.allowed_models,
                default_model: ai.default_model,
                training_allowed: ai.training_allowed,
                retention_days: ai.retention_days,
                redact_personal_data: ai.redact_personal_data,
                safety_level: ai.safety_level,
            }),
            setup: Some(pb::SetupSettings { dismissed: setup.dismissed, dismissed_steps: setup.dismissed_steps }),
            ..pb::OrganizationSettings::default()
        }
    }
}

/// Enum values by their names in the contract; those of a later version by their numbers.
fn names(values: &[i32], name: fn(i32) -> Option<&'static str>) -> String {
    let names = values.iter().map(|value| name(*value).map_or_else(|| value.to_string(), str::to_owned));
    names.collect::<Vec<_>>().join(", ")
}

fn shown_duration(micros: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or_default(),
    }
}
