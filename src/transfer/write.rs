//! Writes batches, each in a transaction of its own: rows, books, and how far the file is written.
//!
//! A server may run beside it on PostgreSQL. So an organization that is there already is locked as every change locks it, and
//! its books are moved on by exactly what the batch inserts; at every commit they are right.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType, OnConflict};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::TransferError;
use super::batch::{Batch, Entry};
use super::source::Fingerprint;
use crate::auth::scope::{Author, Scope};
use crate::clock::Clock;
use crate::database::{Database, Transaction};
use crate::entity::{data_import, event, organization, seat_entry};
use crate::error::Error;
use crate::event::log;
use crate::operation::store::write_json;
use crate::organization::days::{self, Tally, Today};
use crate::{id, sql};

/// How often a batch is begun again when it loses against a server's changes.
const ATTEMPTS: u32 = 5;

/// How far a file is written, as the database has it.
pub async fn begun(database: &Database, digest: &str) -> Result<Option<data_import::Model>, DbErr> {
    data_import::Entity::find_by_id(digest).one(database.reader()).await
}

/// Notes that a file is begun. What its lines do not say is as of `now`, also when the import is resumed another day.
pub async fn begin(database: &Database, file: &Fingerprint, now: DateTime<Utc>) -> Result<(), TransferError> {
    let row = data_import::Model {
        digest: file.digest.clone(),
        lines: file.lines.into(),
        lines_done: 0,
        started_at: now,
        finished_at: None,
    };
    let transaction = database.begin().await?;
    let unless_there = OnConflict::column(data_import::Column::Digest).do_nothing().to_owned();
    let inserted = data_import::Entity::insert(row.into_active_model())
        .on_conflict(unless_there)
        .exec_without_returning(&transaction)
        .await?;
    transaction.commit().await?;
    if inserted == 1 { Ok(()) } else { Err(TransferError::Rival) }
}

/// Lets PostgreSQL gather more before it sorts it into the index for searching, which is the dearest part of an import: the more
/// at once, the more of it goes to the same pages.
async fn gather(transaction: &Transaction) -> Result<(), DbErr> {
    if transaction.get_database_backend() == DbBackend::Postgres {
        transaction.execute_unprepared("SET LOCAL gin_pending_list_limit = '64MB'").await?;
    }
    Ok(())
}

/// Sorts in what was gathered: the next change of a server would wait for it. Who does not own the index may not, and leaves it to
/// the autovacuum.
pub async fn sort_in(database: &Database) -> Result<(), DbErr> {
    const SORT_IN: &str = "SELECT gin_clean_pending_list(found.oid) FROM pg_class found JOIN pg_am ON pg_am.oid = found.relam \
        WHERE found.oid = to_regclass('membership_search') AND pg_am.amname = 'gin' AND pg_has_role(found.relowner, 'USAGE')";
    if database.reader().get_database_backend() == DbBackend::Postgres {
        database.reader().execute_unprepared(SORT_IN).await?;
    }
    Ok(())
}

/// Writes the batches of one file.
#[derive(Debug)]
pub struct Writer<'a> {
    /// Where to.
    pub database: &'a Database,
    /// The time, for events.
    pub clock: &'a Clock,
    /// The name of the top role.
    pub top_role: &'a str,
    /// The digest of the file.
    pub digest: &'a str,
}

impl Writer<'_> {
    /// Writes a batch; the last one ends the import.
    pub async fn write(&self, batch: &Batch, last: bool) -> Result<(), TransferError> {
        let mut attempts = 1;
        loop {
            match self.attempt(batch, last).await {
                Err(error) if attempts < ATTEMPTS && is_conflict(&error) => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self, batch: &Batch, last: bool) -> Result<(), TransferError> {
        let transaction = self.database.begin().await?;
        let now = self.clock.now();
        gather(&transaction).await?;
        self.move_on(&transaction, batch, last.then_some(now)).await?;
        let mut events = Vec::new();
        let mut organizations = Vec::with_capacity(batch.organizations.len());
        let mut seats = Vec::with_capacity(batch.organizations.len());
        for row in &batch.organizations {
            let entry = batch.books.get(&row.organization_id).ok_or(Error::defect("an organization without books"))?;
            events.extend(self.event(row, entry, now)?);
            let opened = self.opened(row.clone(), entry, now)?;
            seats.push(seat_entry(&opened, entry.active() + entry.pending, opened.seats_total, now));
            organizations.push(opened);
        }
        events.extend(self.add_to_known(&transaction, batch, now).await?);
        sql::insert_all(&transaction, &organizations).await?;
        sql::insert_all(&transaction, &batch.subscriptions).await?;
        sql::insert_all(&transaction, &batch.roles).await?;
        sql::insert_all(&transaction, &batch.workspaces).await?;
        sql::insert_all(&transaction, &batch.members).await?;
        sql::insert_all(&transaction, &batch.invitations).await?;
        sql::insert_all(&transaction, &batch.assignments).await?;
        log::insert(&transaction, events).await?;
        sql::insert_all(&transaction, &seats).await?;
        Ok(transaction.commit().await?)
    }

    /// Notes how far the file is written, unless another process has done so meanwhile.
    async fn move_on(
        &self,
        transaction: &Transaction,
        batch: &Batch,
        finished_at: Option<DateTime<Utc>>,
    ) -> Result<(), TransferError> {
        use data_import::Column as C;
        let moved = data_import::Entity::update_many()
            .filter(C::Digest.eq(self.digest))
            .filter(C::LinesDone.eq(i64::from(batch.from) - 1))
            .filter(C::FinishedAt.is_null())
            .col_expr(C::LinesDone, Expr::value(i64::from(batch.to)))
            .col_expr(C::FinishedAt, Expr::value(finished_at))
            .exec(transaction)
            .await?;
        if moved.rows_affected == 1 { Ok(()) } else { Err(TransferError::Rival) }
    }

    /// A new organization with its books.
    fn opened(
        &self,
        mut row: organization::Model,
        entry: &Entry,
        now: DateTime<Utc>,
    ) -> Result<organization::Model, Error> {
        row.active_members = entry.active();
        row.top_role_members = entry.active_in(self.top_role);
        row.pending_invitations = entry.pending;
        row.custom_roles = entry.roles;
        // Counted by the first that asks: batches follow one another without events, by which the count would be known to be old.
        row.members_by_role = None;
        row.last_event_number = i64::from(entry.told.is_some());
        let today = Today { day: days::day_of(now, &row.time_zone), tally: Tally::default() };
        row.today = Some(write_json(&today)?);
        Ok(row)
    }

    /// Adds to the books of organizations that are there already. One order of locks, so that two imports do not wait for
    /// each other.
    async fn add_to_known(
        &self,
        transaction: &Transaction,
        batch: &Batch,
        now: DateTime<Utc>,
    ) -> Result<Vec<event::Model>, TransferError> {
        let new: HashSet<Uuid> = batch.organizations.iter().map(|row| row.organization_id).collect();
        let known: Vec<Uuid> = batch.books.keys().copied().filter(|id| !new.contains(id)).collect();
        let mut events = Vec::new();
        for ids in sql::blocks(&known) {
            let rows = lock(transaction, ids).await?;
            for organization_id in ids {
                let row = rows.get(organization_id).ok_or(TransferError::Gone(*organization_id))?;
                let Some(entry) = batch.books.get(organization_id) else { continue };
                self.add(transaction, row, entry, now).await?;
                events.extend(self.event(row, entry, now)?);
            }
        }
        Ok(events)
    }

    async fn add(
        &self,
        transaction: &Transaction,
        row: &organization::Model,
        entry: &Entry,
        now: DateTime<Utc>,
    ) -> Result<(), TransferError> {
        use organization::Column as C;
        let today = days::turn(transaction, row, now, Tally::default()).await?;
        let mut update = organization::Entity::update_many()
            .filter(C::OrganizationId.eq(row.organization_id))
            .col_expr(C::MembersByRole, Expr::value(None::<serde_json::Value>))
            .col_expr(C::Today, Expr::value(write_json(&today)?));
        for (column, more) in [
            (C::ActiveMembers, entry.active()),
            (C::TopRoleMembers, entry.active_in(self.top_role)),
            (C::PendingInvitations, entry.pending),
            (C::CustomRoles, entry.roles),
            (C::LastEventNumber, i64::from(entry.told.is_some())),
        ] {
            update = update.col_expr(column, Expr::col(column).add(more));
        }
        let growth = entry.active() + entry.pending;
        if growth > 0 {
            let used = Expr::col(C::ActiveMembers).add(Expr::col(C::PendingInvitations));
            update = update.filter(used.add(growth).lte(Expr::col(C::SeatsTotal)));
        }
        let mut after = row.clone();
        after.active_members += entry.active();
        after.pending_invitations += entry.pending;
        if growth != 0 {
            sql::insert_all(transaction, &[seat_entry(&after, growth, 0, now)]).await?;
        }
        match update.exec(transaction).await?.rows_affected {
            1 => Ok(()),
            _ => Err(TransferError::SeatsTaken(row.organization_id)),
        }
    }

    /// The one event of an import, when all of the organization is there.
    fn event(
        &self,
        row: &organization::Model,
        entry: &Entry,
        now: DateTime<Utc>,
    ) -> Result<Option<event::Model>, Error> {
        let Some(change) = &entry.told else { return Ok(None) };
        let occasion: String = self.digest.chars().take(16).collect();
        let author = Author {
            user_id: None,
            service: Some("import".to_owned()),
            call_id: format!("import-{occasion}"),
            address: None,
        };
        let scope = Scope::of_newcomer(row.organization_id);
        log::row(scope, &author, row.last_event_number + 1, change, now).map(Some)
    }
}

/// What an import brings is an opening balance of the ledger of seats.
fn seat_entry(after: &organization::Model, taken: i64, added: i64, now: DateTime<Utc>) -> seat_entry::Model {
    seat_entry::Model {
        organization_id: after.organization_id,
        entry_id: id::new(now),
        occurred_at: now,
        recorded_at: now,
        cause: seat_entry::Cause::OpeningBalance,
        subject: String::new(),
        taken,
        added,
        members_after: after.active_members,
        pending_after: after.pending_invitations,
        total_after: after.seats_total,
    }
}

async fn lock(
    transaction: &Transaction,
    organization_ids: &[Uuid],
) -> Result<HashMap<Uuid, organization::Model>, DbErr> {
    let rows = organization::Entity::find()
        .filter(organization::Column::OrganizationId.is_in(sql::padded(organization_ids.iter().copied())))
        .order_by_asc(organization::Column::OrganizationId)
        .lock(LockType::Update)
        .all(transaction)
        .await?;
    Ok(rows.into_iter().map(|row| (row.organization_id, row)).collect())
}

fn is_conflict(error: &TransferError) -> bool {
    match error {
        TransferError::Database(error) => crate::database::failure(error) == crate::database::Failure::Conflict,
        TransferError::Store(error) => error.is_conflict(),
        _ => false,
    }
}
