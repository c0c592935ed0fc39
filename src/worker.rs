//! What runs beside the calls: bills, takes expired invitations off the books, forgets old answers and e-mail, purges
//! organizations whose time has come.
//!
//! Safe on any number of replicas: each claims what it works on, and skips what another has claimed. It works in small
//! transactions, however much there is to do, and stops between any two of them.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::auth::scope::Scope;
use crate::clock::Clock;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::operation::store as entry;
use crate::organization::store;
use crate::{billing, delivery, event, idempotency};

/// How often it looks for work.
const INTERVAL: Duration = Duration::from_mins(1);

/// How long after its time an organization is purged: longer than the clocks of two servers differ, so that none still
/// undeletes what another has begun to purge.
const AFTER_PURGE_TIME: TimeDelta = TimeDelta::hours(1);

/// How many rows one transaction deletes: none may be long, for calls wait for it on SQLite.
const ROWS_AT_ONCE: u64 = 2000;

/// Works until told to stop.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    loop {
        let is_done = sweep(&app, &stop).await;
        app.metrics.worker_sweeps.inc();
        if is_done {
            app.metrics.worker_swept.set(Clock::System.now().timestamp());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
            () = app.clock.moved() => {}
        }
    }
}

/// Does all that is due. What fails is logged and tried again the next time, and keeps nothing else from being done. Says
/// whether nothing did.
pub async fn sweep(app: &App, stop: &CancellationToken) -> bool {
    let mut is_done = true;
    is_done &= until_done(&app.metrics, "billing", stop, || billing::worker::step_some(app)).await;
    is_done &= until_done(&app.metrics, "collecting payments", stop, || billing::collection::collect_some(app)).await;
    is_done &= until_done(&app.metrics, "forgetting the provider's events", stop, || {
        billing::collection::forget_some(app, ROWS_AT_ONCE)
    })
    .await;
    is_done &= until_done(&app.metrics, "taking expired invitations off the books", stop, || release(app)).await;
    is_done &= until_done(&app.metrics, "forgetting old answers", stop, || forget(app)).await;
    if let Some(lifetime) = app.event_lifetime {
        let before = app.clock.now() - lifetime;
        let some = || event::feed::forget_some(&app.database, before, ROWS_AT_ONCE);
        is_done &= until_done(&app.metrics, "forgetting old events", stop, some).await;
    }
    is_done &=
        until_done(&app.metrics, "counting parked e-mail", stop, || delivery::mail::queue::count_parked(app)).await;
    is_done &= until_done(&app.metrics, "forgetting old e-mail", stop, || {
        delivery::mail::queue::forget_some(app, ROWS_AT_ONCE)
    })
    .await;
    is_done &=
        until_done(&app.metrics, "counting webhook endpoints", stop, || delivery::webhook::queue::count_ill(app)).await;
    let some = || delivery::webhook::queue::forget_some(app, ROWS_AT_ONCE);
    is_done &= until_done(&app.metrics, "forgetting old webhook deliveries", stop, some).await;
    is_done &= until_done(&app.metrics, "purging deleted organizations", stop, || purge(app)).await;
    is_done
}

/// Repeats a step as long as there is something left to do. Says whether it did not fail.
pub async fn until_done<F: Future<Output = Result<bool, Error>>>(
    metrics: &Metrics,
    what: &str,
    stop: &CancellationToken,
    work: impl Fn() -> F,
) -> bool {
    while !stop.is_cancelled() {
        match guarded(Box::pin(work())).await {
            Ok(true) => {}
            Ok(false) => return true,
            Err(error) => {
                metrics.worker_failures.inc();
                tracing::warn!(error = &error as &dyn std::error::Error, what, "the worker will try again");
                return false;
            }
        }
    }
    true
}

/// What panics has failed, and no more than that: the worker goes on.
pub async fn guarded<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(Error::defect("a step of the worker panicked")))
}

/// Takes some expired invitations of one organization off the books, so that the next change which needs a seat finds few to
/// do so itself. Says whether there may be more.
async fn release(app: &App) -> Result<bool, Error> {
    let found = entry::find_with_expired(app.database.reader(), app.clock.now()).await?;
    let Some(organization_id) = found else { return Ok(false) };
    let _turn = app.lanes.turn(organization_id).await;
    let transaction = app.database.begin().await?;
    let scope = Scope::of_newcomer(organization_id);
    if let Some(organization) = entry::lock(&transaction, scope, None).await? {
        entry::release_some(&transaction, &organization, app.clock.now(), ROWS_AT_ONCE).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Forgets some of the answers that were kept for a day. Says whether there may be more.
async fn forget(app: &App) -> Result<bool, Error> {
    let transaction = app.database.begin().await?;
    let forgotten = idempotency::prune(&transaction, app.clock.now(), ROWS_AT_ONCE).await?;
    transaction.commit().await?;
    Ok(forgotten > 0)
}

/// Purges some rows of an organization whose time has come and, when there are none left, the organization itself. Says
/// whether there was anything to do.
async fn purge(app: &App) -> Result<bool, Error> {
    let due = app.clock.now() - AFTER_PURGE_TIME;
    let transaction = app.database.begin().await?;
    let Some(organization_id) = store::lock_purgeable(&transaction, due).await? else { return Ok(false) };
    if store::delete_rows(&transaction, organization_id, ROWS_AT_ONCE).await? == 0 {
        store::delete(&transaction, organization_id).await?;
        tracing::info!(org = %organization_id, "purged an organization that was deleted 30 days ago");
    }
    transaction.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_step_that_panics_is_tried_again_the_next_time_and_ends_nothing() {
        let steps = Cell::new(0);
        let work = || async {
            steps.set(steps.get() + 1);
            assert_ne!(steps.get(), 2, "the second step panics");
            Ok(steps.get() < 4)
        };
        let (stop, metrics) = (CancellationToken::new(), Metrics::default());
        until_done(&metrics, "counting", &stop, work).await;
        assert_eq!((steps.get(), metrics.worker_failures.get()), (2, 1));
        until_done(&metrics, "counting", &stop, work).await;
        assert_eq!(steps.get(), 4);
    }
}
