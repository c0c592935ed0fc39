//! Endpoints that are told what happens in all organizations, as the operator's file says.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use serde::Deserialize;
use uuid::Uuid;

use super::client::Poster;
use super::signature::Secret;
use crate::event;
use crate::id::{self, ServiceName};

/// An endpoint that is told what happens in all organizations.
#[derive(Clone)]
pub struct PlatformEndpoint {
    /// Which: figured from its name, on every server the same.
    pub endpoint_id: Uuid,
    /// Its name.
    pub name: String,
    /// Where events are posted.
    pub url: String,
    /// The types of events that it is told; all when empty.
    pub types: Vec<String>,
    /// What signs: several while one is replaced by another.
    pub secrets: Vec<Secret>,
    /// Who posts.
    pub poster: Poster,
}

impl std::fmt::Debug for PlatformEndpoint {
    /// Which it is: its URL may be a secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("PlatformEndpoint").field(&self.name).finish()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    endpoints: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    url: String,
    #[serde(default)]
    types: Vec<String>,
    /// Read by hand: what serde says of a wrong value repeats it.
    secrets: Option<toml::Value>,
    #[serde(default)]
    networks: Vec<String>,
}

/// Reads the endpoints of a file.
///
/// # Errors
///
/// Names every fault, none of them with a secret in it.
pub fn load(path: &Path, authority: Option<&Path>, patience: Duration) -> anyhow::Result<Vec<PlatformEndpoint>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("TENANTRY_WEBHOOKS: {}", path.display()))?;
    parse(&text, authority, patience).with_context(|| format!("TENANTRY_WEBHOOKS: {}", path.display()))
}

/// Reads the endpoints of a text.
///
/// # Errors
///
/// See [`load`].
pub fn parse(text: &str, authority: Option<&Path>, patience: Duration) -> anyhow::Result<Vec<PlatformEndpoint>> {
    // What toml shows of a line that it cannot read may be a secret: only where it stands is told, and why.
    let file: File = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        anyhow::anyhow!("line {line}: {}", error.message())
    })?;
    let mut faults = Vec::new();
    let mut endpoints: Vec<PlatformEndpoint> = Vec::new();
    for entry in file.endpoints {
        let mut fault = |text: String| faults.push(format!("endpoint {:?}: {text}", entry.name));
        if let Err(wrong) = ServiceName::parse(&entry.name) {
            fault(format!("name {wrong}"));
        }
        if endpoints.iter().any(|endpoint| endpoint.name == entry.name) {
            fault("there is another one of this name".into());
        }
        let networks: Vec<IpNet> = entry
            .networks
            .iter()
            .filter_map(|text| {
                let network = text.parse().ok();
                if network.is_none() {
                    fault(format!("networks: {text:?} is no network, as 10.0.0.0/8 is one"));
                }
                network
            })
            .collect();
        for said in &entry.types {
            if event::types_of(said).is_empty() {
                fault(format!("types: there is no event {said:?}"));
            }
        }
        let secrets = read_secrets(entry.secrets.as_ref()).unwrap_or_else(|| {
            fault("secrets must be a list of at least one, each `whsec_` and 24 to 64 bytes in base64".into());
            Vec::new()
        });
        let poster = Poster::new(true, &networks, authority, patience)?;
        if let Err(wrong) = poster.url(&entry.url) {
            fault(format!("url {wrong}; `networks` names others that are allowed"));
        }
        let (endpoint_id, types) = (id::of_webhook(&entry.name), entry.types);
        endpoints.push(PlatformEndpoint { endpoint_id, name: entry.name, url: entry.url, types, secrets, poster });
    }
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(endpoints)
}

fn read_secrets(said: Option<&toml::Value>) -> Option<Vec<Secret>> {
    let said = said?.as_array().filter(|said| !said.is_empty())?;
    said.iter().map(|text| Secret::parse(text.as_str()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::webhook::client::PATIENCE;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn read(text: &str) -> Result<Vec<PlatformEndpoint>, String> {
        parse(text, None, PATIENCE).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn an_endpoint_has_the_same_id_everywhere() {
        let text = format!(
            "[[endpoints]]\nname = \"search\"\nurl = \"http://10.0.0.5:8080/hooks\"\ntypes = [\"member.*\"]\n\
             secrets = [\"{SECRET}\"]\nnetworks = [\"10.0.0.0/8\"]\n\n\
             [[endpoints]]\nname = \"crm\"\nurl = \"https://crm.example.com\"\nsecrets = [\"{SECRET}\"]\n"
        );
        let (one, other) = (read(&text).unwrap(), read(&text).unwrap());
        assert_eq!(one.len(), 2);
        assert_eq!(one[0].endpoint_id, other[0].endpoint_id);
        assert_ne!(one[0].endpoint_id, one[1].endpoint_id);
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn every_fault_is_named_and_no_secret() {
        let entry = |url: &str, more: &str| format!("[[endpoints]]\nname = \"a b\"\nurl = \"{url}\"\n{more}\n");
        let refused = read(&entry(
            "http://10.0.0.5",
            "types = [\"comet.*\"]\nsecrets = [\"whsec_hidden\"]\nnetworks = [\"ten\"]",
        ))
        .unwrap_err();
        for part in ["\"a b\"", "name may have only", "comet.*", "`whsec_`", "\"ten\"", "url must be"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        assert!(!refused.contains("hidden"), "{refused}");
        let twice =
            format!("{0}{0}", entry("https://a.example", &format!("secrets = [\"{SECRET}\"]"))).replace("a b", "ab");
        assert!(read(&twice).unwrap_err().contains("another one"));
        let unknown =
            read(&entry("https://a.example", "secrets = [\"whsec_hidden\"]\nsecret = \"whsec_hidden\"")).unwrap_err();
        assert!(unknown.contains("line 5") && unknown.contains("secret") && !unknown.contains("hidden"), "{unknown}");
        for secrets in ["", "secrets = []", "secrets = \"whsec_hidden\"", "secrets = [7]"] {
            let refused = read(&entry("https://a.example", secrets)).unwrap_err();
            assert!(refused.contains("secrets must be") && !refused.contains("hidden"), "{refused}");
        }
    }
}
