//! Webhooks: what happened, posted to the URLs of those who want to be told.
//!
//! An endpoint has a place in the log, as a watch has its cursor, and is told what comes after it. Who reads the log for all of them
//! ([`queue`]) only says which endpoints have something to be told; a server that finds one of these claims it, posts some events and
//! notes how far it came (`round`). So whatever is stopped and wherever, the next server goes on from the place that was noted, and
//! nothing has to be queued for each event and endpoint.

mod address;
pub mod client;
mod deliveries;
mod outcome;
pub mod platform;
pub mod queue;
mod round;
mod rpc;
pub mod rules;
pub mod signature;
pub mod store;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entity::webhook_endpoint;
use crate::error::Error;
use crate::operation::store::read_json;

use client::Poster;
use platform::PlatformEndpoint;
pub use rpc::Service;
use signature::Secret;

/// How many endpoints an organization has at most.
pub const MOST: usize = 10;

/// In the place of an organization: the endpoint is told what happens in all.
pub const ALL: Uuid = Uuid::nil();

/// Whom events are posted to, and how.
#[derive(Debug)]
pub struct Webhooks {
    /// Who posts to the endpoints of organizations.
    pub poster: Poster,
    /// The endpoints of the configuration.
    pub platform: Vec<PlatformEndpoint>,
}

/// How webhooks are set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file of endpoints that are told what happens in all organizations.
    pub platform: Option<PathBuf>,
    /// Networks that are not public and yet are posted to, for organizations.
    pub networks: Vec<IpNet>,
    /// A file with an authority besides the public ones.
    pub authority: Option<PathBuf>,
    /// How long an endpoint may take.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { platform: None, networks: Vec::new(), authority: None, patience: client::PATIENCE }
    }
}

impl Webhooks {
    /// Sets them up.
    ///
    /// # Errors
    ///
    /// When the file of endpoints or the authority is not as it should be.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let (authority, patience) = (settings.authority.as_deref(), settings.patience);
        let platform = match &settings.platform {
            None => Vec::new(),
            Some(path) => platform::load(path, authority, patience)?,
        };
        Ok(Self { poster: Poster::new(true, &settings.networks, authority, patience)?, platform })
    }

    /// The ids of the endpoints of the configuration.
    fn platform_ids(&self) -> Vec<Uuid> {
        self.platform.iter().map(|endpoint| endpoint.endpoint_id).collect()
    }

    /// The endpoint of the configuration that has this id.
    fn of_platform(&self, endpoint_id: Uuid) -> Option<&PlatformEndpoint> {
        self.platform.iter().find(|endpoint| endpoint.endpoint_id == endpoint_id)
    }

    /// What an endpoint is told, and how; nothing where it is not in the configuration any more.
    fn target(&self, row: &webhook_endpoint::Model, now: DateTime<Utc>) -> Result<Option<Target<'_>>, Error> {
        if row.organization_id == ALL {
            return Ok(self.of_platform(row.endpoint_id).map(|endpoint| Target {
                url: endpoint.url.clone(),
                types: endpoint.types.clone(),
                secrets: endpoint.secrets.clone(),
                poster: &endpoint.poster,
            }));
        }
        let types: Vec<String> = read_json(Some(&row.types))?.unwrap_or_default();
        let mut secrets = vec![Secret::of_bytes(row.secret.clone())];
        secrets.extend(OldSecret::of(row, now)?.iter().filter_map(|old| Secret::parse(&old.secret)));
        Ok(Some(Target { url: row.url.clone(), types, secrets, poster: &self.poster }))
    }
}

/// A secret that was replaced and still signs, as the database keeps it.
#[derive(Clone, Serialize, Deserialize)]
struct OldSecret {
    secret: String,
    until: DateTime<Utc>,
}

impl OldSecret {
    /// Those of an endpoint that still sign.
    fn of(row: &webhook_endpoint::Model, now: DateTime<Utc>) -> Result<Vec<Self>, Error> {
        let old: Vec<Self> = read_json(Some(&row.old_secrets))?.unwrap_or_default();
        Ok(old.into_iter().filter(|old| now < old.until).collect())
    }
}

/// What an endpoint is told, and how.
#[derive(Debug)]
struct Target<'a> {
    url: String,
    /// The types of events, by their names or `member.*`; all when empty.
    types: Vec<String>,
    secrets: Vec<Secret>,
    poster: &'a Poster,
}
