//! Which endpoints have something to be told, and who tells them.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{ALL, store};
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

/// How many endpoints are told something at the same time.
pub const SIDE_BY_SIDE: usize = 32;

/// For how long no other server tells an endpoint that one tells: longer than a round may take.
const CLAIM: TimeDelta = TimeDelta::minutes(1);

/// For how long it is known what an endpoint was told.
const KEPT: TimeDelta = TimeDelta::days(30);

/// Says of some events which endpoints have something to be told. Says whether there may be more.
pub async fn wake_some(app: &App) -> Result<bool, Error> {
    consumer::read_some(app, CONSUMER, store::concerns_an_endpoint(), async |transaction, events| {
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
        let row = webhook_endpoint::Model {
            organization_id: ALL,
            endpoint_id: endpoint.endpoint_id,
            url: String::new(),
            description: String::new(),
            types: json!([]),
            secret: Vec::new(),
            old_secret: None,
            old_secret_until: None,
            created_at: now,
            updated_at: now,
            version: 1,
            disabled_at: None,
            disable_reason: None,
            place,
            due_at: None,
            paused_until: None,
            wakes: 0,
            claimed_until: None,
            failures: 0,
            failing_since: None,
            failure: String::new(),
            succeeded_at: None,
        };
        store::insert_unless_there(&transaction, row).await?;
    }
    Ok(transaction.commit().await?)
}

/// Claims some endpoints for which something is to be done.
async fn claim_some(app: &App, limit: usize) -> Result<Vec<webhook_endpoint::Model>, Error> {
    let now = app.clock.now();
    let platform = app.webhooks.platform.iter().map(|endpoint| endpoint.endpoint_id).collect();
    let limit = u64::try_from(limit).unwrap_or_default();
    let mut due = store::list_due(app.database.reader(), platform, now, limit).await?;
    if due.is_empty() {
        return Ok(due);
    }
    let transaction = app.database.begin().await?;
    let until = now + CLAIM;
    let mut claimed = Vec::with_capacity(due.len());
    for mut row in due.drain(..) {
        if store::claim(&transaction, &row, now, until).await? {
            row.claimed_until = Some(until);
            claimed.push(row);
        }
    }
    transaction.commit().await?;
    Ok(claimed)
}

/// Tells endpoints what they have to be told, many at a time. An endpoint that is slow takes one place of them, and no more.
#[derive(Debug, Default)]
pub struct Tellers {
    under_way: JoinSet<()>,
}

impl Tellers {
    /// Begins to tell as many endpoints as there is room for. Says whether it found any.
    pub async fn begin_some(&mut self, app: &Arc<App>, stop: &CancellationToken) -> Result<bool, Error> {
        while self.under_way.try_join_next().is_some() {}
        let room = SIDE_BY_SIDE - self.under_way.len();
        if room == 0 || stop.is_cancelled() {
            return Ok(false);
        }
        let claimed = claim_some(app, room).await?;
        let found = !claimed.is_empty();
        for row in claimed {
            let (app, stop) = (Arc::clone(app), stop.clone());
            self.under_way.spawn(async move {
                let (org, endpoint) = (row.organization_id, row.endpoint_id);
                app.metrics.webhooks_under_way.inc();
                if let Err(error) = guarded(Box::pin(round(&app, row, &stop))).await {
                    // Tried again when the claim is over.
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, %org, %endpoint, "a webhook endpoint could not be told now");
                }
                app.metrics.webhooks_under_way.dec();
            });
        }
        Ok(found)
    }

    /// Done when one more has been told; never, when none is being.
    pub async fn one_ended(&mut self) {
        if self.under_way.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Done when all have been told.
    pub async fn all_ended(&mut self) {
        while self.under_way.join_next().await.is_some() {}
    }
}

/// Counts the endpoints that do not take what they are told, for whoever is to look after them.
pub async fn count_ill(app: &App) -> Result<bool, Error> {
    let (failing, disabled) = store::count_ill(app.database.reader()).await?;
    app.metrics.webhook_endpoints_failing.set(sql::counted(failing)?);
    app.metrics.webhook_endpoints_disabled.set(sql::counted(disabled)?);
    Ok(false)
}

/// Forgets some deliveries that ended long ago. Says whether there may be more.
pub async fn forget_some(app: &App, limit: u64) -> Result<bool, Error> {
    let transaction = app.database.begin().await?;
    let forgotten = store::forget_some(&transaction, app.clock.now() - KEPT, limit).await?;
    transaction.commit().await?;
    Ok(forgotten > 0)
}
