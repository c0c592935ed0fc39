//! What every operation has at hand.

use std::sync::Arc;

use chrono::TimeDelta;

use crate::auth::policy::RolePolicy;
use crate::billing::catalogue::Catalogue;
use crate::billing::provider::Provider;
use crate::clock::Clock;
use crate::database::Database;
use crate::delivery::mail::Mail;
use crate::delivery::webhook::Webhooks;
use crate::dns::Dns;
use crate::event::feed::Feed;
use crate::lanes::Lanes;
use crate::metrics::Metrics;
use crate::operation::standing::Standings;
use crate::overload::Overload;

/// The parts of a running service, shared by all calls.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub database: Arc<Database>,
    /// Who stands where in it.
    pub standings: Standings,
    /// Where the changes of an organization wait for one another.
    pub lanes: Lanes,
    /// The time.
    pub clock: Clock,
    /// Who may do what.
    pub policy: Arc<RolePolicy>,
    /// What can be subscribed to.
    pub catalogue: Catalogue,
    /// Who is asked for the records that prove domains.
    pub dns: Dns,
    /// Who collects what is due.
    pub provider: Provider,
    /// How long an invitation lives unless the call says otherwise.
    pub invitation_lifetime: TimeDelta,
    /// How long the log of events goes back; to its beginning when absent.
    pub event_lifetime: Option<TimeDelta>,
    /// How e-mail is sent; not at all when absent.
    pub mail: Option<Mail>,
    /// Whom events are posted to, and how.
    pub webhooks: Webhooks,
    /// What is measured.
    pub metrics: Metrics,
    /// What is taken on at a time.
    pub overload: Arc<Overload>,
    /// Who watches what happens.
    pub feed: Feed,
}
