//! What an organization has chosen for its product, and what of it Tenantry enforces: the domains of e-mail addresses.
//!
//! The product reads the rest and enforces it. Everything stands in one document; only the logo is the organization's own
//! field, and whether domains are restricted stands in its row too, so that only those that restrict pay for the look.

pub mod fields;
pub mod store;

use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};

use crate::auth::scope::Scope;
use crate::email::Email;
use crate::entity::{organization, organization_settings};
use crate::error::Error;
use crate::operation::store::read_json;

/// The settings; as they are stored, but for the logo.
///
/// Enums are kept as their numbers in the contract, which never change: what a later version wrote is shown, and not lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How the organization looks.
    pub branding: Branding,
    /// How its members sign in, and who may be one.
    pub security: Security,
    /// How its members use AI.
    pub ai: Ai,
    /// The checklist of first steps.
    pub setup: Setup,
}

/// How an organization looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Branding {
    /// The logo, which stands in the organization's row.
    #[serde(skip)]
    pub logo_uri: String,
    /// The main colour.
    pub primary_color: String,
    /// The colour that stands out.
    pub accent_color: String,
    /// The language of e-mail to its members and invitees; the deployment's when empty.
    pub mail_language: String,
}

/// How members sign in, and who may be one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// The ways to sign in, in the order of the contract; any when empty.
    pub allowed_sign_in_methods: Vec<i32>,
    /// Whether a second factor is required.
    pub mfa_required: bool,
    /// After how many microseconds members sign in again.
    pub session_length_micros: Option<i64>,
    /// The domains that e-mail addresses of new members may have, in ASCII and sorted; any when empty.
    pub allowed_email_domains: Vec<String>,
    /// The networks from which the product may be used, sorted; any when empty.
    pub allowed_ip_ranges: Vec<String>,
    /// Whether members may share with people outside.
    pub external_sharing_allowed: bool,
}

/// How members use AI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ai {
    /// The models that may be used, as they were listed; any when empty.
    pub allowed_models: Vec<String>,
    /// The model that is used unless another is chosen.
    pub default_model: String,
    /// Whether what members write may be used to train models.
    pub training_allowed: bool,
    /// For how many days conversations are kept.
    pub retention_days: Option<i32>,
    /// Whether personal data is taken out.
    pub redact_personal_data: bool,
    /// How strictly answers are filtered.
    pub safety_level: i32,
}

/// What people decided about the checklist of first steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Setup {
    /// Whether all of it is put away.
    pub dismissed: bool,
    /// The steps that are put away, in the order of the contract.
    pub dismissed_steps: Vec<i32>,
}

impl Settings {
    /// What the rows say. While there is none of settings, everything has its default.
    pub fn of(organization: &organization::Model, row: Option<&organization_settings::Model>) -> Result<Self, Error> {
        let mut settings = Self::of_document(row.map(|row| &row.settings))?;
        settings.branding.logo_uri.clone_from(&organization.logo_uri);
        Ok(settings)
    }

    /// What the document says: all but the logo.
    pub fn of_document(document: Option<&serde_json::Value>) -> Result<Self, Error> {
        Ok(read_json(document)?.unwrap_or_default())
    }

    /// What no field says by itself: a default model that may not be used is none.
    pub fn check(&self) -> Result<(), Error> {
        let Ai { allowed_models, default_model, .. } = &self.ai;
        if default_model.is_empty() || allowed_models.is_empty() || allowed_models.contains(default_model) {
            return Ok(());
        }
        Err(Error::of_field("settings.ai.default_model", "must be one of ai.allowed_models, as both will be"))
    }
}

/// The domains that e-mail addresses of new members may have. Who is a member already stays, whatever their address.
#[derive(Clone, Debug, Default)]
pub struct AllowedDomains {
    /// Any when empty.
    domains: Vec<String>,
}

impl AllowedDomains {
    /// What an organization's settings say; no look at them where they restrict nothing. In a change, the organization is the
    /// row that was locked.
    pub async fn of(connection: &impl ConnectionTrait, organization: &organization::Model) -> Result<Self, Error> {
        if !organization.restricts_email_domains {
            return Ok(Self::default());
        }
        let row = store::find(connection, Scope::of_newcomer(organization.organization_id)).await?;
        let settings = Settings::of(organization, row.as_ref())?;
        Ok(Self { domains: settings.security.allowed_email_domains })
    }

    /// Whether a new member may have this address. A subdomain is another domain.
    ///
    /// # Errors
    ///
    /// [`Error::EmailDomainNotAllowed`].
    pub fn check(&self, email: &Email) -> Result<(), Error> {
        let domain = email.domain();
        if self.domains.is_empty() || self.domains.iter().any(|allowed| allowed == domain) {
            return Ok(());
        }
        Err(Error::EmailDomainNotAllowed { domain: domain.to_owned() })
    }
}

/// Whether a new member of an organization may have this address.
///
/// # Errors
///
/// [`Error::EmailDomainNotAllowed`].
pub async fn email_allowed(
    connection: &impl ConnectionTrait,
    organization: &organization::Model,
    email: &Email,
) -> Result<(), Error> {
    AllowedDomains::of(connection, organization).await?.check(email)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_or_a_later_version_wrote_is_read() {
        let earlier = serde_json::json!({ "security": { "mfa_required": true } });
        let read: Settings = read_json(Some(&earlier)).unwrap().unwrap();
        assert!(read.security.mfa_required && read.ai == Ai::default());
        let later = serde_json::json!({ "ai": { "safety_level": 99, "mood": "calm" }, "weather": {} });
        let read: Settings = read_json(Some(&later)).unwrap().unwrap();
        assert_eq!(read.ai.safety_level, 99);
    }

    #[test]
    fn the_default_model_is_one_that_may_be_used() {
        let ai = |allowed: &[&str], default: &str| {
            let allowed_models = allowed.iter().map(|model| (*model).to_owned()).collect();
            let ai = Ai { allowed_models, default_model: default.into(), ..Ai::default() };
            Settings { ai, ..Settings::default() }.check().is_ok()
        };
        assert!(ai(&[], "") && ai(&[], "large") && ai(&["large"], "") && ai(&["small", "large"], "large"));
        assert!(!ai(&["small"], "large"));
    }

    #[test]
    fn only_the_domains_that_are_listed_are_allowed() {
        let allows = |domains: &[&str], email: &str| {
            let domains = domains.iter().map(|domain| crate::email::parse_domain(domain).unwrap()).collect();
            AllowedDomains { domains }.check(&Email::parse(email).unwrap()).is_ok()
        };
        assert!(allows(&[], "ann@anywhere.com"));
        assert!(allows(&["acme.com", "bücher.example"], "ann@XN--BCHER-KVA.example"));
        for email in ["ann@eu.acme.com", "ann@notacme.com", "ann@acme.com.example", "acme.com@other.com"] {
            assert!(!allows(&["acme.com"], email), "{email}");
        }
    }
}
