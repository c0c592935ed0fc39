//! The letters that are to be sent: queued with the reading of the log, claimed, sent, tried again, parked.

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::letter::{self, Letter, TYPES};
use super::post::Undelivered;
use super::{Mail, write};
use crate::app::App;
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

/// How long one server has a letter for itself: longer than it may take to send it.
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
    consumer::read_some(app, CONSUMER, &TYPES, async |transaction, events| {
        for event in events {
            match queue(app, transaction, event).await {
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
    if app.mail.is_none() {
        consumer::skip_all(app, CONSUMER).await?;
    }
    Ok(false)
}

async fn queue(app: &App, transaction: &DatabaseTransaction, event: &event::Model) -> Result<(), Error> {
    let consequence = letter::consequence(app, transaction, event).await?;
    let now = app.clock.now();
    if let Some(invitation_id) = consequence.settles {
        mail::Entity::update_many()
            .filter(C::OrganizationId.eq(event.organization_id))
            .filter(C::InvitationId.eq(invitation_id))
            .filter(Expr::cust("mail.state = 'queued'"))
            .col_expr(C::State, Expr::value(State::Dropped.to_value()))
            .col_expr(C::EndedAt, Expr::value(Some(now)))
            .exec(transaction)
            .await?;
    }
    let Some((letter, to, due_at)) = consequence.told else { return Ok(()) };
    let ids = id::new_in_order(now, to.len());
    let mut rows = Vec::with_capacity(to.len());
    for (mail_id, recipient) in ids.into_iter().zip(to) {
        rows.push(mail::Model {
            organization_id: event.organization_id,
            mail_id,
            event_number: event.number,
            recipient,
            kind: letter.kind().to_owned(),
            letter: write_json(&letter)?,
            invitation_id: letter.invitation_id(),
            state: State::Queued,
            attempts: 0,
            created_at: now,
            due_at,
            claimed_until: None,
            ended_at: None,
            failure: String::new(),
        });
    }
    Ok(sql::insert_all(transaction, &rows).await?)
}

/// Sends some letters that are due. Says whether there may be more.
pub async fn send_some(app: &App) -> Result<bool, Error> {
    let Some(post) = &app.mail else { return Ok(false) };
    let due = list_due(app.database.reader(), app.clock.now()).await?;
    let more = due.len() as u64 == AT_ONCE;
    let sent = futures::stream::iter(due).map(|row| async move {
        let (org, mail) = (row.organization_id, row.mail_id);
        match guarded(Box::pin(send(app, post, row))).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %org, %mail, "an e-mail could not be sent now");
                false
            }
        }
    });
    let claimed: Vec<bool> = sent.buffer_unordered(SIDE_BY_SIDE).collect().await;
    Ok(more && claimed.contains(&true))
}

async fn list_due(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Vec<mail::Model>, DbErr> {
    mail::Entity::find()
        // Written out, not bound: only so can PostgreSQL tell that the partial index has all the rows that are asked for.
        .filter(Expr::cust("mail.state = 'queued'"))
        .filter(C::DueAt.lte(now))
        .filter(Condition::any().add(C::ClaimedUntil.is_null()).add(C::ClaimedUntil.lte(now)))
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
    let now = app.clock.now();
    if !claim(app, &row, now).await? {
        return Ok(false);
    }
    let letter: Option<Letter> = read_json(Some(&row.letter))?;
    let outcome = match letter {
        None => Outcome::Dropped,
        Some(letter) => match write::write(app, mail, &row, letter).await? {
            None => Outcome::Dropped,
            Some(Err(reason)) => Outcome::Undelivered(Undelivered { reason, for_good: false }),
            Some(Ok(message)) => match mail.post.send(row.mail_id, message).await {
                Ok(()) => Outcome::Sent,
                Err(undelivered) => Outcome::Undelivered(undelivered),
            },
        },
    };
    conclude(app, &row, outcome).await?;
    Ok(true)
}

/// Takes a letter for this server.
async fn claim(app: &App, row: &mail::Model, now: DateTime<Utc>) -> Result<bool, Error> {
    let transaction = app.database.begin().await?;
    let claimed = of(row)
        .filter(C::Attempts.eq(row.attempts))
        .filter(Condition::any().add(C::ClaimedUntil.is_null()).add(C::ClaimedUntil.lte(now)))
        .col_expr(C::ClaimedUntil, Expr::value(Some(now + CLAIM)))
        .col_expr(C::Attempts, Expr::col(C::Attempts).add(1))
        .exec(&transaction)
        .await?;
    transaction.commit().await?;
    Ok(claimed.rows_affected == 1)
}

async fn conclude(app: &App, row: &mail::Model, outcome: Outcome) -> Result<(), Error> {
    let (attempts, now) = (row.attempts + 1, app.clock.now());
    let (org, id, kind) = (row.organization_id, row.mail_id, row.kind.as_str());
    let update = of(row).col_expr(C::ClaimedUntil, Expr::value(None::<DateTime<Utc>>));
    let ended = |update: sea_orm::UpdateMany<mail::Entity>, state: State| {
        let update = update.col_expr(C::State, Expr::value(state.to_value()));
        update.col_expr(C::EndedAt, Expr::value(Some(now)))
    };
    let update = match outcome {
        Outcome::Sent => {
            tracing::info!(%org, mail = %id, kind, attempts, "an e-mail was sent");
            ended(update, State::Sent).col_expr(C::Failure, Expr::value(""))
        }
        Outcome::Dropped => ended(update, State::Dropped),
        Outcome::Undelivered(Undelivered { reason, for_good }) => {
            let update = update.col_expr(C::Failure, Expr::value(reason.as_str()));
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

/// A change of a letter that is still to be sent.
fn of(row: &mail::Model) -> sea_orm::UpdateMany<mail::Entity> {
    mail::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::MailId.eq(row.mail_id))
        .filter(Expr::cust("mail.state = 'queued'"))
}

/// Forgets some letters that ended long ago. Says whether there may be more.
pub async fn forget_some(app: &App, limit: u64) -> Result<bool, Error> {
    let before = app.clock.now() - KEPT;
    let old = || {
        Query::select()
            .columns([C::OrganizationId, C::MailId])
            .from(mail::Entity)
            .and_where(Expr::col(C::EndedAt).is_not_null())
            .and_where(Expr::col(C::EndedAt).lt(before))
            .limit(limit)
            .to_owned()
    };
    let found = mail::Entity::find().filter(C::EndedAt.is_not_null()).filter(C::EndedAt.lt(before)).limit(1);
    if found.one(app.database.reader()).await?.is_none() {
        return Ok(false);
    }
    let transaction = app.database.begin().await?;
    let row = Expr::tuple([Expr::col(C::OrganizationId), Expr::col(C::MailId)]);
    let forgotten = mail::Entity::delete_many().filter(row.in_subquery(old())).exec(&transaction).await?;
    transaction.commit().await?;
    Ok(forgotten.rows_affected == limit)
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
