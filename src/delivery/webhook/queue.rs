//! Which endpoints have something to be told, and who tells them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::TimeDelta;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use super::store::Whose;
use super::{ALL, deliveries, store};
use crate::app::App;
use crate::delivery::consumer;
use crate::entity::webhook_endpoint;
use crate::error::Error;
use crate::event::feed::last_position;
use crate::sql;
use crate::worker::guarded;

use super::round::round;

/// By this name it is read for webhooks what happened.
const CONSUMER: &str = "webhook";

/// How many endpoints of organizations are told something at the same time.
const SIDE_BY_SIDE: usize = 64;

/// How many of them are one organization's at most, but for those that are claimed at once.
const MOST_OF_ONE: usize = 3;

/// For how long no other server tells an endpoint that one tells: longer than a round may take.
const CLAIM: TimeDelta = TimeDelta::minutes(1);

/// For how long it is known what an endpoint was told.
const KEPT: TimeDelta = TimeDelta::days(30);

/// Says of some events which endpoints have something to be told. Says whether there may be more.
pub async fn wake_some(app: &App) -> Result<bool, Error> {
    let interest = store::concerns_an_endpoint(app.webhooks.platform_ids());
    consumer::read_some(app, CONSUMER, interest, async |transaction, events| {
        let organizations: BTreeSet<Uuid> = events.iter().map(|event| event.organization_id).collect();
        let organizations: Vec<Uuid> = organizations.into_iter().collect();
        Ok(store::wake(transaction, &organizations, app.clock.now()).await?)
    })
    .await
}

/// Sees to it that the endpoints of the configuration have their rows: they are told what happens from their first start on.
pub async fn prepare(app: &App) -> Result<(), Error> {
    if app.webhooks.platform.is_empty() {
        return Ok(());
    }
    let (transaction, now) = (app.database.begin().await?, app.clock.now());
    let place = last_position(&transaction).await?;
    for endpoint in &app.webhooks.platform {
        let row = store::new(ALL, endpoint.endpoint_id, place, now);
        store::insert_unless_there(&transaction, row).await?;
    }
    // They may be others than before.
    store::hurry(&transaction, ALL, app.webhooks.platform_ids(), now).await?;
    for endpoint_id in app.webhooks.platform_ids() {
        deliveries::forget_line(&transaction, (ALL, endpoint_id)).await?;
    }
    Ok(transaction.commit().await?)
}

/// Claims some endpoints for which something is to be done.
async fn claim_some(app: &App, whose: &Whose, limit: usize) -> Result<Vec<webhook_endpoint::Model>, Error> {
    let limit = u64::try_from(limit).unwrap_or_default();
    // Mostly there is nothing to do, and no reason to keep others from writing.
    let now = app.clock.now();
    if store::list_due(app.database.reader(), whose, now, 1, false).await?.is_empty() {
        return Ok(Vec::new());
    }
    let transaction = app.database.begin().await?;
    let now = app.clock.now();
    let mut due = store::list_due(&transaction, whose, now, limit, true).await?;
    store::claim(&transaction, &mut due, now + CLAIM).await?;
    transaction.commit().await?;
    Ok(due)
}

/// Tells endpoints what they have to be told, many at a time. One that is slow takes one place of them, and one organization few; those of
/// the configuration take none of them.
#[derive(Debug, Default)]
pub struct Tellers {
    under_way: JoinSet<Uuid>,
    of_organization: HashMap<Uuid, usize>,
}

impl Tellers {
    /// Begins to tell as many endpoints as there is room for. Says whether it found any.
    pub async fn begin_some(&mut self, app: &Arc<App>, stop: &CancellationToken) -> Result<bool, Error> {
        while let Some(ended) = self.under_way.try_join_next() {
            self.note(ended);
        }
        if stop.is_cancelled() {
            return Ok(false);
        }
        let mut found = false;
        if !app.webhooks.platform.is_empty() {
            let these = app.webhooks.platform_ids();
            let limit = these.len();
            let claimed = claim_some(app, &Whose::Platform(these), limit).await?;
            found |= self.begin(app, claimed, stop);
        }
        let platform = self.of_organization.get(&ALL).copied().unwrap_or_default();
        let room = SIDE_BY_SIDE.saturating_sub(self.under_way.len() - platform);
        if room > 0 {
            let busy = self.of_organization.iter().filter(|(_, count)| **count >= MOST_OF_ONE);
            let but = busy.map(|(organization_id, _)| *organization_id).collect();
            let claimed = claim_some(app, &Whose::Organizations { but }, room).await?;
            found |= self.begin(app, claimed, stop);
        }
        Ok(found)
    }

    /// Says whether there are any.
    fn begin(&mut self, app: &Arc<App>, claimed: Vec<webhook_endpoint::Model>, stop: &CancellationToken) -> bool {
        let found = !claimed.is_empty();
        for row in claimed {
            let (app, stop) = (Arc::clone(app), stop.clone());
            *self.of_organization.entry(row.organization_id).or_default() += 1;
            let span = tracing::info_span!("webhook", org = %row.organization_id, endpoint = %row.endpoint_id);
            let telling = async move {
                let org = row.organization_id;
                app.metrics.webhooks_under_way.inc();
                if let Err(error) = guarded(Box::pin(round(&app, row, &stop))).await {
                    // Tried again when the claim is over.
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "a webhook endpoint could not be told now");
                }
                app.metrics.webhooks_under_way.dec();
                org
            };
            self.under_way.spawn(telling.instrument(span));
        }
        found
    }

    fn note(&mut self, ended: Result<Uuid, JoinError>) {
        match ended {
            Ok(organization_id) => {
                if let Some(count) = self.of_organization.get_mut(&organization_id) {
                    *count = count.saturating_sub(1);
                }
                self.of_organization.retain(|_, count| *count > 0);
            }
            // None panics, being guarded, and none is aborted but with all of them.
            Err(error) => tracing::error!(%error, "the telling of a webhook endpoint broke off"),
        }
    }

    /// Done when one more has been told; never, when none is being.
    pub async fn one_ended(&mut self) {
        match self.under_way.join_next().await {
            Some(ended) => self.note(ended),
            None => std::future::pending::<()>().await,
        }
    }

    /// Done when all have been told.
    pub async fn all_ended(&mut self) {
        while let Some(ended) = self.under_way.join_next().await {
            self.note(ended);
        }
    }
}

/// Counts the endpoints that do not take what they are told, for whoever is to look after them.
pub async fn count_ill(app: &App) -> Result<bool, Error> {
    let (failing, disabled) = store::count_ill(app.database.reader(), app.webhooks.platform_ids()).await?;
    app.metrics.webhook_endpoints_failing.set(sql::counted(failing)?);
    app.metrics.webhook_endpoints_disabled.set(sql::counted(disabled)?);
    Ok(false)
}

/// Forgets some deliveries that ended long ago, or of endpoints that are deleted. Says whether there may be more.
pub async fn forget_some(app: &App, limit: u64) -> Result<bool, Error> {
    let transaction = app.database.begin().await?;
    let forgotten = deliveries::forget_some(&transaction, app.clock.now() - KEPT, limit).await? > 0;
    let forgotten = store::forget_deleted(&transaction, limit).await? || forgotten;
    transaction.commit().await?;
    Ok(forgotten)
}
