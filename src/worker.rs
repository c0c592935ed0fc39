//! What runs beside the calls: forgets old answers, purges organizations whose time has come.
//!
//! Safe on any number of replicas: each claims what it works on, and skips what another has claimed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::idempotency;
use crate::organization::store;

/// How often it looks for work.
const INTERVAL: Duration = Duration::from_mins(1);

/// How many organizations one transaction purges.
const PURGED_AT_ONCE: u64 = 10;

/// Works until told to stop.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    loop {
        if let Err(error) = sweep(&app).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the worker will try again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Does all that is due.
pub async fn sweep(app: &App) -> Result<(), sea_orm::DbErr> {
    let forgotten = {
        let transaction = app.database.begin().await?;
        let forgotten = idempotency::prune(&transaction, app.clock.now()).await?;
        transaction.commit().await?;
        forgotten
    };
    if forgotten > 0 {
        tracing::debug!(answers = forgotten, "forgot answers that were kept for a day");
    }
    while purge(app).await? > 0 {}
    Ok(())
}

async fn purge(app: &App) -> Result<usize, sea_orm::DbErr> {
    let transaction = app.database.begin().await?;
    let due = store::lock_purgeable(&transaction, app.clock.now(), PURGED_AT_ONCE).await?;
    for organization_id in &due {
        store::delete(&transaction, *organization_id).await?;
        tracing::info!(org = %organization_id, "purged an organization that was deleted 30 days ago");
    }
    transaction.commit().await?;
    Ok(due.len())
}
