//! A reader of the log of all organizations, of which there is one in the deployment, on whichever server.

use sea_orm::sea_query::{Expr, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Select,
};

use crate::app::App;
use crate::database::Transaction;
use crate::entity::event;
use crate::entity::event_consumer::{self, Column as C};
use crate::error::Error;
use crate::event::feed::last_position;

/// How many events are read at once: calls wait meanwhile on SQLite.
const AT_ONCE: u64 = 50;

/// How far it need not be noted that nothing of interest has happened: it is looked at again, which costs less than to write.
const UNNOTED: i64 = 1000;

/// Reads some events of interest that were not read yet, and does something about them in the transaction that notes that they
/// were. Says whether there may be more. Where another server is doing so, there is nothing to do.
pub async fn read_some(
    app: &App,
    consumer: &'static str,
    interest: Condition,
    work: impl AsyncFnOnce(&Transaction, &[event::Model]) -> Result<(), Error>,
) -> Result<bool, Error> {
    let reader = app.database.reader();
    let (last, reached) = (last_position(reader).await?, reached(reader, consumer).await?);
    if reached >= last {
        return Ok(false);
    }
    let is_near = last - reached < UNNOTED;
    if is_near && some(reached, last, interest.clone()).limit(1).one(reader).await?.is_none() {
        return Ok(false);
    }
    let transaction = app.database.begin().await?;
    let cursor = event_consumer::Entity::find_by_id(consumer)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .one(&transaction)
        .await?;
    let Some(cursor) = cursor else { return Ok(false) };
    let events = some(cursor.position, last, interest).limit(AT_ONCE).all(&transaction).await?;
    let more = events.len() as u64 == AT_ONCE;
    let reached = events.last().and_then(|event| event.position).filter(|_| more).unwrap_or(last);
    if !events.is_empty() {
        work(&transaction, &events).await?;
    }
    move_to(&transaction, consumer, reached).await?;
    transaction.commit().await?;
    Ok(more)
}

/// The events of interest after a position and until another, in their order.
fn some(after: i64, until: i64, interest: Condition) -> Select<event::Entity> {
    use event::Column as E;
    event::Entity::find()
        .filter(E::Position.gt(after))
        .filter(E::Position.lte(until))
        .filter(interest)
        .order_by_asc(E::Position)
}

/// Passes over all that has happened.
pub async fn skip_all(app: &App, consumer: &'static str) -> Result<(), Error> {
    let reader = app.database.reader();
    let (last, reached) = (last_position(reader).await?, reached(reader, consumer).await?);
    if last > reached {
        let transaction = app.database.begin().await?;
        move_to(&transaction, consumer, last).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Until which position a reader has come.
async fn reached(connection: &impl ConnectionTrait, consumer: &str) -> Result<i64, Error> {
    let cursor = event_consumer::Entity::find_by_id(consumer).one(connection).await?;
    Ok(cursor.ok_or(Error::defect("a reader of the log without a place in it"))?.position)
}

/// Only forward: another server may have come further.
async fn move_to(connection: &impl ConnectionTrait, consumer: &str, position: i64) -> Result<(), DbErr> {
    event_consumer::Entity::update_many()
        .filter(C::Consumer.eq(consumer))
        .filter(C::Position.lt(position))
        .col_expr(C::Position, Expr::value(position))
        .exec(connection)
        .await
        .map(|_| ())
}
