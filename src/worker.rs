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

/// How many rows of an organization one transaction purges: none may be long, however large the organization was.
const ROWS_AT_ONCE: u64 = 5000;

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
    while purge(app).await? {}
    Ok(())
}

/// Purges some rows of an organization whose time has come and, when there are none left, the organization itself. Says
/// whether there was anything to do.
async fn purge(app: &App) -> Result<bool, sea_orm::DbErr> {
    let transaction = app.database.begin().await?;
    let Some(organization_id) = store::lock_purgeable(&transaction, app.clock.now()).await? else { return Ok(false) };
    if store::delete_rows(&transaction, organization_id, ROWS_AT_ONCE).await? == 0 {
        store::delete(&transaction, organization_id).await?;
        tracing::info!(org = %organization_id, "purged an organization that was deleted 30 days ago");
    }
    transaction.commit().await?;
    Ok(true)
}
