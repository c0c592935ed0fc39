//! A transaction and the turn in which it was begun, which end together.

use std::time::{Duration, Instant};

use sea_orm::{DatabaseTransaction, DbErr};

use super::Place;
use crate::app::App;
use crate::error::Error;
use crate::lanes::Turn;

/// How long a call waits for its turn: a line that is longer than that is more than the organization can be served.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A transaction that is under way.
#[derive(Debug)]
pub(super) struct Held {
    transaction: Option<DatabaseTransaction>,
    turn: Option<Turn>,
}

impl Held {
    /// Waits for the organization's turn, and begins.
    pub(super) async fn begin(app: &App, place: Place) -> Result<Self, Error> {
        let waiting = Instant::now();
        let turn = match place.organization {
            Some(scope) => {
                let turn = tokio::time::timeout(LONGEST_WAIT, app.lanes.short_turn(scope.organization_id())).await;
                Some(turn.ok().flatten().ok_or_else(|| app.overload.shed())?)
            }
            None => None,
        };
        let transaction = app.database.begin().await?;
        app.metrics.transaction_wait.observe(waiting.elapsed().as_secs_f64());
        Ok(Self { transaction: Some(transaction), turn })
    }

    /// The transaction, until it has ended.
    pub(super) fn transaction(&self) -> Result<&DatabaseTransaction, Error> {
        self.transaction.as_ref().ok_or(Error::defect("a transaction that has ended"))
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

async fn undo(transaction: DatabaseTransaction) {
    if let Err(error) = transaction.rollback().await {
        tracing::debug!(error = &error as &dyn std::error::Error, "a transaction ended without a rollback");
    }
}

impl Drop for Held {
    /// A call that is given up may still be waiting for the organization's lock, with its connection. Its turn ends when that
    /// is over: else the next one would wait with another connection, and the one after it, until there are none.
    fn drop(&mut self) {
        let (transaction, turn) = (self.transaction.take(), self.turn.take());
        if let (Some(transaction), Ok(runtime)) = (transaction, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                undo(transaction).await;
                drop(turn);
            });
        }
    }
}
