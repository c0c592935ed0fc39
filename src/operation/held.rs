//! A transaction and the turn in which it was begun, which end together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::DbErr;

use super::Place;
use crate::app::App;
use crate::auth::scope::Scope;
use crate::clock::Clock;
use crate::database::{Database, Transaction};
use crate::error::Error;
use crate::id;
use crate::lanes::Turn;

/// How long a call waits for its turn: a line that is longer than that is more than the organization can be served.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long the end of a transaction that is given up may keep the next in line waiting. The time-out of locks is four seconds.
const LONGEST_END: Duration = Duration::from_secs(5);

/// How often, and how far apart, a transaction that is given up is looked for.
const LOOKS: usize = 2;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// A transaction that is under way.
#[derive(Debug)]
pub(super) struct Held {
    database: Arc<Database>,
    /// What the transaction is called once it waits for the organization's lock.
    name: String,
    transaction: Option<Transaction>,
    turn: Option<Turn>,
}

impl Held {
    /// Waits for the organization's turn, for as long as it takes, and begins: what the service itself has to do is not refused.
    pub(super) async fn begin_patiently(app: &App, scope: Scope) -> Result<Self, Error> {
        Self::of(app, async { Ok(Some(app.lanes.turn(scope.organization_id()).await)) }).await
    }

    /// Waits for the organization's turn, and begins.
    pub(super) async fn begin(app: &App, place: Place) -> Result<Self, Error> {
        let turn = async {
            let Some(scope) = place.organization else { return Ok(None) };
            let turn = tokio::time::timeout(LONGEST_WAIT, app.lanes.short_turn(scope.organization_id())).await;
            turn.ok().flatten().map(Some).ok_or_else(|| app.overload.shed())
        };
        Self::of(app, turn).await
    }

    async fn of(app: &App, turn: impl Future<Output = Result<Option<Turn>, Error>>) -> Result<Self, Error> {
        let waiting = Instant::now();
        let turn = turn.await?;
        let transaction = app.database.begin().await?;
        app.metrics.transaction_wait.observe(waiting.elapsed().as_secs_f64());
        let name = format!("tenantry {}", id::new(Clock::System.now()));
        Ok(Self { database: Arc::clone(&app.database), name, transaction: Some(transaction), turn })
    }

    /// The transaction, until it has ended.
    pub(super) fn transaction(&self) -> Result<&Transaction, Error> {
        self.transaction.as_ref().ok_or(Error::defect("a transaction that has ended"))
    }

    /// What the transaction is to be called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn commit(mut self) -> Result<(), DbErr> {
        match self.transaction.take() {
            Some(transaction) => transaction.commit().await,
            None => Ok(()),
        }
    }

    /// Takes everything back. That the database did not hear of it changes nothing: it does so by itself.
    pub(super) async fn rollback(mut self) {
        if let Some(transaction) = self.transaction.take() {
            undo(transaction).await;
        }
    }
}

async fn undo(transaction: Transaction) {
    if let Err(error) = transaction.rollback().await {
        tracing::debug!(error = &error as &dyn std::error::Error, "a transaction ended without a rollback");
    }
}

/// Ends what a transaction is waiting for. Its statement may not have reached the database yet; then it is looked for once more. If it is
/// not found, its wait ends by the time-out of locks.
async fn interrupt(database: &Database, name: &str) {
    for _ in 0..LOOKS {
        match database.interrupt(name).await {
            Ok(false) => tokio::time::sleep(BETWEEN_LOOKS).await,
            Ok(true) => return,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a transaction was not interrupted");
                return;
            }
        }
    }
}

impl Drop for Held {
    /// A call that is given up may still be waiting for the organization's lock, with its connection. That wait is ended; and its turn
    /// only then: else the next one would wait with another connection, and the one after it, until there are none.
    fn drop(&mut self) {
        let (transaction, turn) = (self.transaction.take(), self.turn.take());
        if let (Some(transaction), Ok(runtime)) = (transaction, tokio::runtime::Handle::try_current()) {
            let (database, name) = (Arc::clone(&self.database), std::mem::take(&mut self.name));
            runtime.spawn(async move {
                // A database that says nothing any more must not hold up the organization: it gives up its lock by itself.
                if tokio::time::timeout(LONGEST_END, interrupt(&database, &name)).await.is_err() {
                    tracing::debug!("a transaction was not interrupted in time");
                }
                let undoing = tokio::spawn(undo(transaction));
                if tokio::time::timeout(LONGEST_END, undoing).await.is_err() {
                    tracing::debug!("a transaction was not rolled back in time");
                }
                drop(turn);
            });
        }
    }
}
