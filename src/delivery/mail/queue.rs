//! The letters that are to be sent: queued with the reading of the log, claimed, sent, tried again, parked.

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use sea_orm::sea_query::{Expr, OnConflict, SimpleExpr};
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::letter::{self, Letter, TYPES};
use super::post::Undelivered;
use super::{Mail, write};
use crate::app::App;
use crate::auth::scope::Scope;
use crate::database::Transaction;
use crate::delivery::consumer;
use crate::entity::event;
use crate::entity::mail::{self, Column as C, State};
use crate::error::Error;
use crate::operation::store::{read_json, write_json};
use crate::worker::guarded;
use crate::{id, sql};

/// By this name e-mail reads the log.
const CONSUMER: &str = "mail";

/// How many letters one look finds.
const AT_ONCE: u64 = 40;

/// How many letters are sent at the same time.
const SIDE_BY_SIDE: usize = 4;

/// For how long no other server tries a letter that one tries: longer than that may take.
const CLAIM: TimeDelta = TimeDelta::minutes(2);

/// How often a letter is tried: the last time a day and a half after the first.
pub const MOST_ATTEMPTS: i64 = 12;

/// How long it is known to whom a letter was sent.
const KEPT: TimeDelta = TimeDelta::days(30);

/// Queues what some events mean. Says whether there may be more.
pub async fn queue_some(app: &App) -> Result<bool, Error> {
    if app.mail.is_none() {
        return Ok(false);
    }
    let interest = Condition::all().add(event::Column::Type.is_in(TYPES));
    consumer::read_some(app, CONSUMER, interest, async |transaction, events| {
        for event in events {
            match guarded(Box::pin(queue(app, transaction, event))).await {
                // What cannot be understood is told to nobody, and keeps nothing else from being told.
                Err(error @ Error::Defect(..)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, org = %event.organization_id, number = event.number, "no e-mail tells of an event");
                }
                queued => queued?,
            }
        }
        Ok(())
    })
    .await
}

/// Where there is no e-mail, passes over what has happened: it is not told later.
pub async fn pass_over(app: &App) -> Result<bool, Error> {
    consumer::skip_all(app, CONSUMER).await?;
    Ok(false)
}

async fn queue(app: &App, transaction: &Transaction, event: &event::Model) -> Result<(), Error> {
    let consequence = letter::consequence(app, transaction, event).await?;
    let now = app.clock.now();
    if let Some(invitation_id) = consequence.settles {
        mail::Entity::update_many()
            .filter(C::OrganizationId.eq(event.organization_id))
            .filter(C::InvitationId.eq(invitation_id))
            .filter(is_queued())
            .col_expr(C::State, Expr::value(State::Dropped.to_value()))
            .col_expr(C::EndedAt, Expr::value(Some(now)))
            .exec(transaction)
            .await?;
    }
    let Some((letter, to, due_at)) = consequence.told else { return Ok(()) };
    insert(transaction, (event.organization_id, event.number), &letter, to, due_at, now).await
}

/// Queues a letter to each of these addresses.
async fn insert(
    connection: &impl ConnectionTrait,
    (organization_id, event_number): (Uuid, i64),
    letter: &Letter,
    to: Vec<String>,
    due_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let ids = id::new_in_order(now, to.len());
    let mut rows = Vec::with_capacity(to.len());
    for (mail_id, recipient) in ids.into_iter().zip(to) {
        rows.push(mail::Model {
            organization_id,
            mail_id,
            event_number,
            recipient,
            kind: letter.kind().to_owned(),
            letter: write_json(letter)?,
            invitation_id: letter.invitation_id(),
            state: State::Queued,
            attempts: 0,
            created_at: now,
            due_at,
            ended_at: None,
            failure: String::new(),
        });
    }
    // What is queued is queued; nothing stands in the way of what comes after.
    let once = OnConflict::columns([C::OrganizationId, C::EventNumber, C::Recipient]).do_nothing().to_owned();
    for rows in sql::blocks(&rows) {
        let rows = rows.iter().cloned().map(mail::Model::into_active_model);
        mail::Entity::insert_many(rows).on_conflict(once.clone()).exec_without_returning(connection).await?;
    }
    Ok(())
}

/// Sends some letters that are due, until told to stop. Says whether there may be more.
pub async fn send_some(app: &App, stop: &CancellationToken) -> Result<bool, Error> {
    let Some(mail) = &app.mail else { return Ok(false) };
    let due = list_due(app.database.reader(), app.clock.now()).await?;
    let more = due.len() as u64 == AT_ONCE;
    let sent = futures::stream::iter(due).map(|row| async move {
        // What is under way when the server stops may be sent once more by another.
        if stop.is_cancelled() {
            return false;
        }
        let (org, id) = (row.organization_id, row.mail_id);
        app.metrics.mails_under_way.inc();
        let sent = send(app, mail, row).await;
        app.metrics.mails_under_way.dec();
        match sent {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %org, mail = %id, "an e-mail could not be sent now");
                false
            }
        }
    });
    let claimed: Vec<bool> = sent.buffer_unordered(SIDE_BY_SIDE).collect().await;
    Ok(more && claimed.contains(&true))
}

async fn list_due(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Vec<mail::Model>, DbErr> {
    mail::Entity::find()
        .filter(is_queued())
        .filter(C::DueAt.lte(now))
        .order_by_asc(C::DueAt)
        .limit(AT_ONCE)
        .all(connection)
        .await
}

/// What became of a letter.
enum Outcome {
    Sent,
    /// There is nothing to tell any more.
    Dropped,
    Undelivered(Undelivered),
}

/// Sends a letter, unless another server does. Says whether it was this one.
async fn send(app: &App, mail: &Mail, row: mail::Model) -> Result<bool, Error> {
    if row.attempts >= MOST_ATTEMPTS {
        // The last attempt came to no end that anybody heard of.
        let reason = if row.failure.is_empty() { "it could not be sent".to_owned() } else { row.failure.clone() };
        conclude(app, &row, Outcome::Undelivered(Undelivered { reason, for_good: true })).await?;
        return Ok(true);
    }
    let Some(row) = claim(app, row).await? else { return Ok(false) };
    let outcome = match guarded(Box::pin(attempt(app, mail, &row))).await {
        Ok(outcome) => outcome,
        // It is tried again when the claim is over.
        Err(error @ (Error::Database(_) | Error::Conflict)) => return Err(error),
        Err(error) => {
            // It says nothing that could not be told.
            let reason = error.to_string();
            tracing::error!(error = &error as &dyn std::error::Error, org = %row.organization_id, mail = %row.mail_id, "an e-mail could not be written");
            Outcome::Undelivered(Undelivered { reason, for_good: false })
        }
    };
    conclude(app, &row, outcome).await?;
    Ok(true)
}

async fn attempt(app: &App, mail: &Mail, row: &mail::Model) -> Result<Outcome, Error> {
    let letter: Option<Letter> = read_json(Some(&row.letter))?;
    let Some(letter) = letter else { return Ok(Outcome::Dropped) };
    if row.recipient.is_empty() {
        address(app, row, &letter).await?;
        return Ok(Outcome::Dropped);
    }
    Ok(match write::write(app, mail, row, letter).await? {
        None => Outcome::Dropped,
        Some(Err(undelivered)) => Outcome::Undelivered(undelivered),
        Some(Ok(message)) => match mail.post.send(row.mail_id, message).await {
            Ok(()) => Outcome::Sent,
            Err(undelivered) => Outcome::Undelivered(undelivered),
        },
    })
}

/// Puts letters to everybody to whom it goes in the place of one that is due.
async fn address(app: &App, row: &mail::Model, letter: &Letter) -> Result<(), Error> {
    let transaction = app.database.begin().await?;
    let to = letter::payers(app, &transaction, Scope::of_newcomer(row.organization_id)).await?;
    let now = app.clock.now();
    mail::Entity::delete_by_id((row.organization_id, row.mail_id)).exec(&transaction).await?;
    insert(&transaction, (row.organization_id, row.event_number), letter, to, now, now).await?;
    transaction.commit().await?;
    Ok(())
}

/// Takes a letter for this server, by putting off when it is tried again; nothing when another did.
async fn claim(app: &App, row: mail::Model) -> Result<Option<mail::Model>, Error> {
    let attempts = row.attempts + 1;
    let transaction = app.database.begin().await?;
    let claimed = of(&row)
        .filter(is_queued())
        .filter(C::Attempts.eq(row.attempts))
        .filter(C::DueAt.eq(row.due_at))
        .col_expr(C::DueAt, Expr::value(app.clock.now() + CLAIM.max(wait(row.mail_id, attempts))))
        .col_expr(C::Attempts, Expr::value(attempts))
        .exec(&transaction)
        .await?;
    transaction.commit().await?;
    Ok((claimed.rows_affected == 1).then_some(mail::Model { attempts, ..row }))
}

async fn conclude(app: &App, row: &mail::Model, outcome: Outcome) -> Result<(), Error> {
    let (attempts, now) = (row.attempts, app.clock.now());
    let (org, id, kind) = (row.organization_id, row.mail_id, row.kind.as_str());
    let ended = |update: sea_orm::UpdateMany<mail::Entity>, state: State| {
        let update = update.col_expr(C::State, Expr::value(state.to_value()));
        update.col_expr(C::EndedAt, Expr::value(Some(now)))
    };
    // Nobody else has tried it since, and nothing else was decided of it.
    let own = || of(row).filter(is_queued()).filter(C::Attempts.eq(attempts));
    let update = match outcome {
        Outcome::Sent => {
            tracing::info!(%org, mail = %id, kind, attempts, "an e-mail was sent");
            // Whatever was decided meanwhile, it is sent.
            ended(of(row), State::Sent).col_expr(C::Failure, Expr::value(""))
        }
        Outcome::Dropped => ended(own(), State::Dropped),
        Outcome::Undelivered(Undelivered { reason, for_good }) => {
            let update = own().col_expr(C::Failure, Expr::value(reason.as_str()));
            if for_good || attempts >= MOST_ATTEMPTS {
                tracing::error!(%org, mail = %id, kind, attempts, reason, "an e-mail is parked: RetryMail tries it again");
                ended(update, State::Parked)
            } else {
                let due_at = now + wait(row.mail_id, attempts);
                tracing::warn!(%org, mail = %id, kind, attempts, reason, %due_at, "an e-mail was not sent, and is tried again");
                update.col_expr(C::DueAt, Expr::value(due_at))
            }
        }
    };
    let transaction = app.database.begin().await?;
    update.exec(&transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// How long it is waited after so many attempts: a minute, and twice as long each time; more or less by a tenth, so that what failed
/// together is not tried together.
fn wait(mail_id: Uuid, attempts: i64) -> TimeDelta {
    let exponent = u32::try_from(attempts - 1).map_or(0, |exponent: u32| std::cmp::min(exponent, 12));
    let seconds = 60 * (1_i64 << exponent);
    let [.., last] = mail_id.into_bytes();
    TimeDelta::seconds(seconds + seconds * (i64::from(last) - 128) / 1280)
}

/// Written out, not bound: only so can PostgreSQL tell that a partial index has all the rows that are asked for.
fn is_queued() -> SimpleExpr {
    Expr::cust("mail.state = 'queued'")
}

/// A change of a letter.
fn of(row: &mail::Model) -> sea_orm::UpdateMany<mail::Entity> {
    let of_it = mail::Entity::update_many().filter(C::OrganizationId.eq(row.organization_id));
    of_it.filter(C::MailId.eq(row.mail_id))
}

/// Counts the letters that are parked, for whoever is to look after them.
pub async fn count_parked(app: &App) -> Result<bool, Error> {
    let parked = mail::Entity::find().filter(Expr::cust("mail.state = 'parked'")).count(app.database.reader()).await?;
    app.metrics.mails_parked.set(sql::counted(parked)?);
    Ok(false)
}

/// Forgets some letters that ended long ago. Says whether there may be more.
pub async fn forget_some(app: &App, limit: u64) -> Result<bool, Error> {
    let key = [C::OrganizationId, C::MailId];
    let transaction = app.database.begin().await?;
    let forgotten =
        sql::delete_some::<mail::Entity>(&transaction, &key, C::EndedAt.lt(app.clock.now() - KEPT), limit).await?;
    transaction.commit().await?;
    Ok(forgotten > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_tried_for_a_day_and_a_half_and_ever_more_seldom() {
        let waits: Vec<i64> =
            (1..MOST_ATTEMPTS).map(|attempts| wait(Uuid::from_u128(128), attempts).num_minutes()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]);
        let (short, long) = (wait(Uuid::from_u128(0), 5), wait(Uuid::from_u128(255), 5));
        assert!(short >= TimeDelta::seconds(864) && long <= TimeDelta::seconds(1056) && short < long);
    }
}
