//! The order of all events of the deployment, and who is told when it goes on.
//!
//! Events of one organization are in the order of their numbers, committed one after another under its lock. Those of different
//! organizations are committed at once, so that no number which they were given before would say which of them can be read first:
//! whoever had read the later one would never see the earlier. So they are placed after the commit, by one server at a time: each
//! position is one more than that of the event before, and what is placed later stands after all that was placed earlier.
//!
//! Each server places what it has committed at once, and looks now and then for what one that died has left. By a notification of
//! PostgreSQL the others hear of it, and by asking now and then should that get lost.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbBackend, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Statement,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::App;
use crate::database::{Database, DatabaseError};
use crate::entity::{event, event_feed};
use crate::error::Error;

/// There is one feed.
const FEED: i16 = 1;

/// The channel on which PostgreSQL tells that events were placed.
const CHANNEL: &str = "tenantry_event";

/// How often it is asked for what nobody told.
const INTERVAL: Duration = Duration::from_secs(2);

/// How many events are placed at once.
const AT_ONCE: i64 = 1000;

/// How many new events are looked through for whom they are of interest to; when there are more, everybody looks.
const FEW: i64 = 1000;

/// Who watches what happens, and waits to be told that there is more.
#[derive(Debug, Default)]
pub struct Feed {
    committed: Notify,
    watched: Mutex<HashMap<Option<Uuid>, watch::Sender<()>>>,
    followed: watch::Sender<()>,
    stopping: CancellationToken,
}

/// Waits for what happens in one organization or in all.
#[derive(Debug)]
pub struct Waiting(watch::Receiver<()>);

impl Feed {
    /// Says that something was committed here.
    pub fn committed(&self) {
        self.committed.notify_one();
    }

    /// Ends all watches.
    pub fn end(&self) {
        self.stopping.cancel();
    }

    /// Done when all watches end.
    pub async fn ended(&self) {
        self.stopping.cancelled().await;
    }

    /// Refuses when all watches end.
    pub fn goes_on(&self) -> Result<(), Error> {
        if self.stopping.is_cancelled() { Err(Error::ServerStopping) } else { Ok(()) }
    }

    /// Waits for what happens in an organization, or in all.
    #[must_use]
    pub fn watch(&self, organization_id: Option<Uuid>) -> Waiting {
        let mut watched = self.watched();
        Waiting(watched.entry(organization_id).or_insert_with(|| watch::Sender::new(())).subscribe())
    }

    /// Waits for what happens in any organization, on the service's own behalf.
    #[must_use]
    pub fn follow(&self) -> Waiting {
        Waiting(self.followed.subscribe())
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<Option<Uuid>, watch::Sender<()>>> {
        // Nothing that holds it panics half-way.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many watch; what nobody watches any more is forgotten.
    fn count(&self) -> usize {
        let mut watched = self.watched();
        watched.retain(|_, told| told.receiver_count() > 0);
        watched.values().map(watch::Sender::receiver_count).sum()
    }

    /// Tells those who watch one of these organizations, or all; everybody, when it is not known which.
    fn tell(&self, organizations: Option<&HashSet<Uuid>>) {
        self.followed.send_modify(|()| {});
        for (watched, told) in self.watched().iter() {
            let is_among = |id: Uuid| organizations.is_none_or(|among| among.contains(&id));
            if watched.is_none_or(is_among) {
                told.send_modify(|()| {});
            }
        }
    }
}

impl Waiting {
    /// Forgets what was told until now: whoever reads after this reads it.
    pub fn catch_up(&mut self) {
        self.0.mark_unchanged();
    }

    /// Done when there is more.
    pub async fn told(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Places events and tells who watches, until told to stop.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    tokio::join!(place_and_tell(&app, &stop), listen(&app, &stop));
}

async fn place_and_tell(app: &App, stop: &CancellationToken) {
    let (mut told, mut fails) = (None, false);
    while !stop.is_cancelled() {
        match go_on(app, &mut told).await {
            Ok(true) => continue,
            Ok(false) => fails = false,
            // Said once: what is wrong with the database, readiness tells.
            Err(_) if fails => {}
            Err(error) => {
                fails = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "events could not be placed: tried again until they are"
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.feed.committed.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Has it looked whenever PostgreSQL tells that events were placed, or may have. Where it cannot be listened to, asking has to do.
async fn listen(app: &App, stop: &CancellationToken) {
    let listening = async {
        loop {
            match hear(app).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "PostgreSQL cannot be listened to now");
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = listening => {}
    }
}

/// Hears until the connection fails; nothing where there is nobody to hear.
async fn hear(app: &App) -> Result<(), DatabaseError> {
    let Some(mut listener) = app.database.listen(CHANNEL).await? else { return Ok(()) };
    loop {
        listener.heard().await?;
        app.feed.committed();
    }
}

/// Places some of what is not placed yet, and tells who watches how far it goes; `told` is how far they know. Says whether there may
/// be more to place.
async fn go_on(app: &App, told: &mut Option<i64>) -> Result<bool, Error> {
    let more = place_some(&app.database).await?;
    let watching = app.feed.count();
    app.metrics.event_watches.set(i64::try_from(watching).unwrap_or(i64::MAX));
    if watching == 0 && app.feed.followed.receiver_count() == 0 {
        *told = None;
        return Ok(more);
    }
    let last = last_position(app.database.reader()).await?;
    match *told {
        Some(known) if known == last => {}
        Some(known) if (1..=FEW).contains(&(last - known)) => {
            app.feed.tell(Some(&organizations_of(app.database.reader(), known, last).await?));
        }
        _ => app.feed.tell(None),
    }
    *told = Some(last);
    Ok(more)
}

/// The position of the event that was placed last.
pub async fn last_position(connection: &impl ConnectionTrait) -> Result<i64, Error> {
    Ok(there(event_feed::Entity::find_by_id(FEED).one(connection).await?)?.last_position)
}

/// Until which position events are forgotten for their age.
pub(super) async fn forgotten_position(connection: &impl ConnectionTrait) -> Result<i64, Error> {
    Ok(there(event_feed::Entity::find_by_id(FEED).one(connection).await?)?.forgotten_position)
}

/// The feed, which every database has.
fn there(feed: Option<event_feed::Model>) -> Result<event_feed::Model, Error> {
    feed.ok_or(Error::defect("a database without a feed of events"))
}

/// Forgets some of the events that happened before a time: those that were placed first, so that what is left of each
/// organization is the latest. Says whether there may be more.
pub async fn forget_some(database: &Database, before: DateTime<Utc>, limit: u64) -> Result<bool, Error> {
    use event::Column as E;
    use event_feed::Column as F;
    let oldest = event::Entity::find().filter(E::Position.is_not_null()).order_by_asc(E::Position);
    let old: Vec<i64> = oldest
        .select_only()
        .column(E::Position)
        .column(E::OccurredAt)
        .limit(limit)
        .into_tuple::<(i64, DateTime<Utc>)>()
        .all(database.reader())
        .await?
        .into_iter()
        .take_while(|(_, occurred_at)| *occurred_at < before)
        .map(|(position, _)| position)
        .collect();
    let Some(last) = old.last().copied() else { return Ok(false) };
    let transaction = database.begin().await?;
    // Whoever reads from before it is told so from then on.
    event_feed::Entity::update_many()
        .filter(F::Feed.eq(FEED))
        .filter(F::ForgottenPosition.lt(last))
        .col_expr(F::ForgottenPosition, Expr::value(last))
        .exec(&transaction)
        .await?;
    event::Entity::delete_many().filter(E::Position.lte(last)).exec(&transaction).await?;
    transaction.commit().await?;
    Ok(old.len() >= usize::try_from(limit).unwrap_or(usize::MAX))
}

async fn organizations_of(connection: &impl ConnectionTrait, after: i64, until: i64) -> Result<HashSet<Uuid>, DbErr> {
    use event::Column as E;
    let ids: Vec<Uuid> = event::Entity::find()
        .select_only()
        .column(E::OrganizationId)
        .distinct()
        .filter(E::Position.gt(after))
        .filter(E::Position.lte(until))
        .into_tuple()
        .all(connection)
        .await?;
    Ok(ids.into_iter().collect())
}

/// Takes as many positions as there are events to be written, for whoever alone writes, and gives the first.
pub(super) async fn take_positions(connection: &impl ConnectionTrait, count: i64) -> Result<i64, Error> {
    move_on(connection, count).await?;
    Ok(last_position(connection).await? - count + 1)
}

async fn move_on(connection: &impl ConnectionTrait, count: i64) -> Result<(), DbErr> {
    use event_feed::Column as F;
    event_feed::Entity::update_many()
        .filter(F::Feed.eq(FEED))
        .col_expr(F::LastPosition, Expr::col(F::LastPosition).add(count))
        .exec(connection)
        .await
        .map(|_| ())
}

/// Places what is committed and not placed yet; of a long backlog, the first part.
pub(super) async fn place_recent(database: &Database) -> Result<(), Error> {
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        if !place_some(database).await? {
            break;
        }
    }
    Ok(())
}

/// Places some of the events that are not placed yet, those of an organization in the order of their numbers. Says whether there
/// may be more.
async fn place_some(database: &Database) -> Result<bool, Error> {
    /// The builder of statements knows no UPDATE that reads from a query.
    const PLACE: &str = "\
        WITH placed AS ( \
            UPDATE event SET position = chosen.position FROM ( \
                SELECT organization_id, number, $1 + ROW_NUMBER() OVER (ORDER BY organization_id, number) AS position \
                FROM event WHERE position IS NULL ORDER BY organization_id, number LIMIT $2 \
            ) AS chosen WHERE event.organization_id = chosen.organization_id AND event.number = chosen.number \
            RETURNING event.position \
        ) SELECT MAX(position) AS last FROM placed";
    use event::Column as E;
    if database.reader().get_database_backend() != DbBackend::Postgres {
        // Its one writer has placed them.
        return Ok(false);
    }
    let unplaced = event::Entity::find().select_only().column(E::Number).filter(E::Position.is_null()).limit(1);
    if unplaced.into_tuple::<i64>().one(database.reader()).await?.is_none() {
        return Ok(false);
    }
    let transaction = database.begin().await?;
    // One at a time until the commit. A statement of its own: the next must see what the one before has placed.
    let last = there(event_feed::Entity::find_by_id(FEED).lock_exclusive().one(&transaction).await?)?.last_position;
    let place = Statement::from_sql_and_values(DbBackend::Postgres, PLACE, [last.into(), AT_ONCE.into()]);
    let row = transaction.query_one_raw(place).await?;
    // Not as many as were placed: of those that were chosen, some may have been purged meanwhile.
    let reached: Option<i64> = row.map(|row| row.try_get("", "last")).transpose()?.flatten();
    if let Some(reached) = reached {
        move_on(&transaction, reached - last).await?;
        // Heard when this is committed, by every server.
        transaction.execute_unprepared(&format!("NOTIFY {CHANNEL}")).await?;
    }
    transaction.commit().await?;
    Ok(reached.is_some())
}
