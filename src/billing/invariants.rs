//! Recounts what is kept in counters and sums, and tells what does not agree.
//!
//! Each organization is read in one transaction that sees one state of the database, so that a change in between is no drift.

use std::collections::HashSet;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbBackend, DbErr, EntityTrait as _, IsolationLevel, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, TransactionTrait as _,
};
use uuid::Uuid;

use crate::auth::policy::RolePolicy;
use crate::database::Database;
use crate::entity::credit_entry::Cause;
use crate::entity::invoice::State;
use crate::entity::{
    credit_entry, credit_note, event, invitation, invoice, invoice_line, membership, organization, payment, seat_entry,
    subscription,
};
use crate::error::Error;
use crate::sql;

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Whose.
    pub organization_id: Uuid,
    /// What should hold.
    pub invariant: &'static str,
    /// What the rows add up to.
    pub expected: String,
    /// What is kept.
    pub found: String,
}

/// What came of looking.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// How many organizations there were to look at.
    pub checked: usize,
    /// What does not agree.
    pub found: Vec<Drift>,
}

/// The organizations after one, in the order of their ids.
pub async fn organizations(
    connection: &impl ConnectionTrait,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<Uuid>, DbErr> {
    use organization::Column as O;
    let mut ids = organization::Entity::find().select_only().column(O::OrganizationId);
    if let Some(after) = after {
        ids = ids.filter(O::OrganizationId.gt(after));
    }
    ids.order_by_asc(O::OrganizationId).limit(limit).into_tuple().all(connection).await
}

/// Recounts these organizations.
pub async fn check(database: &Database, policy: &RolePolicy, ids: &[Uuid]) -> Result<Checked, Error> {
    let mut all = Checked::default();
    for id in ids {
        // One state of the database: SQLite shows no other to a transaction.
        let isolation = match database.reader().get_database_backend() {
            DbBackend::Postgres => Some(IsolationLevel::RepeatableRead),
            _ => None,
        };
        let transaction = database.reader().begin_with_config(isolation, None).await?;
        let found = recount(&transaction, policy, *id).await;
        transaction.rollback().await?;
        if let Some(mut found) = found? {
            all.checked += 1;
            all.found.append(&mut found);
        }
    }
    Ok(all)
}

struct Recount {
    organization_id: Uuid,
    drifts: Vec<Drift>,
}

impl Recount {
    fn compare<T: PartialEq + ToString + Copy>(&mut self, invariant: &'static str, expected: T, found: T) {
        if expected != found {
            let (expected, found) = (expected.to_string(), found.to_string());
            self.drifts.push(Drift { organization_id: self.organization_id, invariant, expected, found });
        }
    }
}

async fn recount(
    connection: &impl ConnectionTrait,
    policy: &RolePolicy,
    id: Uuid,
) -> Result<Option<Vec<Drift>>, Error> {
    let Some(row) = organization::Entity::find_by_id(id).one(connection).await? else { return Ok(None) };
    let mut drifts = Recount { organization_id: id, drifts: Vec::new() };
    members(connection, policy, &row, &mut drifts).await?;
    let billed = subscription::Entity::find_by_id(id).one(connection).await?;
    if let Some(billed) = billed {
        drifts.compare("seats_total", billed.seats, row.seats_total);
        invoices(connection, &billed, &mut drifts).await?;
        credit(connection, &billed, &mut drifts).await?;
    } else {
        drifts.compare("subscription_exists", 1, 0);
    }
    Ok(Some(drifts.drifts))
}

/// Seats, holders of the top role, the log and the ledger of seats.
async fn members(
    connection: &impl ConnectionTrait,
    policy: &RolePolicy,
    row: &organization::Model,
    drifts: &mut Recount,
) -> Result<(), Error> {
    use {invitation::Column as I, membership::Column as M};
    let active =
        membership::Entity::find().filter(M::OrganizationId.eq(row.organization_id)).filter(M::SuspendedAt.is_null());
    let members = sql::counted(active.clone().count(connection).await?)?;
    drifts.compare("active_members", members, row.active_members);
    let top = active.filter(M::Role.eq(policy.top_role().name.as_str())).count(connection).await?;
    drifts.compare("top_role_members", sql::counted(top)?, row.top_role_members);
    let pending = invitation::Entity::find()
        .filter(I::OrganizationId.eq(row.organization_id))
        .filter(Expr::cust("invitation.holds_seat"))
        .count(connection)
        .await?;
    drifts.compare("pending_invitations", sql::counted(pending)?, row.pending_invitations);
    let events = event::Entity::find().filter(event::Column::OrganizationId.eq(row.organization_id));
    drifts.compare("event_numbers", sql::counted(events.count(connection).await?)?, row.last_event_number);
    let (taken, added): (Option<i64>, Option<i64>) = seat_entry::Entity::find()
        .select_only()
        .column_as(Expr::col(seat_entry::Column::Taken).sum().cast_as("bigint"), "taken")
        .column_as(Expr::col(seat_entry::Column::Added).sum().cast_as("bigint"), "added")
        .filter(seat_entry::Column::OrganizationId.eq(row.organization_id))
        .into_tuple()
        .one(connection)
        .await?
        .unwrap_or_default();
    drifts.compare("seat_ledger_used", row.active_members + row.pending_invitations, taken.unwrap_or_default());
    drifts.compare("seat_ledger_total", row.seats_total, added.unwrap_or_default());
    Ok(())
}

/// Invoices: their numbers, their sums, what was paid of them.
async fn invoices(
    connection: &impl ConnectionTrait,
    billed: &subscription::Model,
    drifts: &mut Recount,
) -> Result<(), Error> {
    let id = billed.organization_id;
    let rows = invoice::Entity::find()
        .filter(invoice::Column::OrganizationId.eq(id))
        .order_by_asc(invoice::Column::Number)
        .all(connection)
        .await?;
    let numbers: Vec<i64> = rows.iter().filter_map(|row| row.number).collect();
    let gap_free = numbers.iter().zip(1..).all(|(number, expected)| *number == expected);
    drifts.compare("invoice_numbers", true, gap_free);
    drifts.compare("last_invoice_number", sql::counted(numbers.len())?, billed.last_invoice_number);
    let notes = credit_note::Entity::find().filter(credit_note::Column::OrganizationId.eq(id)).all(connection).await?;
    let entries =
        credit_entry::Entity::find().filter(credit_entry::Column::OrganizationId.eq(id)).all(connection).await?;
    for row in &rows {
        let lines = invoice_line::Entity::find()
            .filter(invoice_line::Column::OrganizationId.eq(id))
            .filter(invoice_line::Column::InvoiceId.eq(row.invoice_id))
            .all(connection)
            .await?;
        if row.state != State::Draft {
            drifts.compare("invoice_total", lines.iter().map(|line| line.amount_minor).sum::<i64>(), row.total_minor);
        }
        let paid: i64 = payment::Entity::find()
            .filter(payment::Column::OrganizationId.eq(id))
            .filter(payment::Column::InvoiceId.eq(row.invoice_id))
            .filter(payment::Column::State.eq(payment::State::Succeeded))
            .all(connection)
            .await?
            .iter()
            .map(|payment| payment.amount_minor)
            .sum();
        let overpaid =
            entries.iter().filter(|entry| entry.invoice_id == row.invoice_id && entry.cause == Cause::Overpaid);
        let overpaid: i64 = overpaid.map(|entry| entry.amount_minor).sum();
        drifts.compare("invoice_paid", paid - overpaid, row.paid_minor);
        let of_notes = notes.iter().filter(|note| note.invoice_id == row.invoice_id);
        drifts.compare("invoice_credited", of_notes.map(|note| note.off_due_minor).sum::<i64>(), row.credited_minor);
        let applied = entries.iter().filter(|entry| {
            entry.invoice_id == row.invoice_id && matches!(entry.cause, Cause::Applied | Cause::InvoiceVoided)
        });
        let applied = -applied.map(|entry| entry.amount_minor).sum::<i64>();
        drifts.compare("invoice_credit_applied", applied, row.credit_applied_minor);
        let settled = row.credit_applied_minor + row.credited_minor + row.paid_minor;
        if row.state == State::Paid && row.total_minor > 0 {
            drifts.compare("paid_invoice_settled", row.total_minor, settled);
        }
    }
    Ok(())
}

/// The credit balance and its entries, and credit notes.
async fn credit(
    connection: &impl ConnectionTrait,
    billed: &subscription::Model,
    drifts: &mut Recount,
) -> Result<(), Error> {
    let id = billed.organization_id;
    let entries = credit_entry::Entity::find()
        .filter(credit_entry::Column::OrganizationId.eq(id))
        .order_by_asc(credit_entry::Column::Number)
        .all(connection)
        .await?;
    drifts.compare("credit_entry_numbers", sql::counted(entries.len())?, billed.last_credit_entry_number);
    let mut balance = 0;
    let mut sound = true;
    for (entry, number) in entries.iter().zip(1..) {
        balance += entry.amount_minor;
        sound &= entry.number == number && entry.balance_minor == balance;
    }
    drifts.compare("credit_entry_balances", true, sound);
    drifts.compare("credit_balance", balance, billed.credit_minor);
    let notes = credit_note::Entity::find()
        .filter(credit_note::Column::OrganizationId.eq(id))
        .order_by_asc(credit_note::Column::Number)
        .all(connection)
        .await?;
    let gap_free = notes.iter().zip(1..).all(|(note, expected)| note.number == expected);
    drifts.compare("credit_note_numbers", true, gap_free);
    drifts.compare("last_credit_note_number", sql::counted(notes.len())?, billed.last_credit_note_number);
    Ok(())
}

/// A look at all organizations, page by page, round and round.
#[derive(Debug, Default)]
pub struct Watch {
    /// The last organization that was looked at.
    after: Option<Uuid>,
    /// Those at which something did not agree when they were last looked at.
    drifting: HashSet<Uuid>,
}

impl Watch {
    /// Looks at the next organizations, and says whether everything agrees as far as it was looked at.
    ///
    /// # Errors
    ///
    /// When the database cannot be asked.
    pub async fn look(&mut self, database: &Database, policy: &RolePolicy) -> Result<bool, Error> {
        /// Few enough that nobody notices.
        const AT_ONCE: u64 = 50;
        let ids = organizations(database.reader(), self.after, AT_ONCE).await?;
        self.after = ids.last().copied();
        let checked = check(database, policy, &ids).await?;
        for id in &ids {
            self.drifting.remove(id);
        }
        for drift in checked.found {
            tracing::error!(org = %drift.organization_id, invariant = drift.invariant, expected = drift.expected, found = drift.found, "books that do not agree");
            self.drifting.insert(drift.organization_id);
        }
        Ok(self.drifting.is_empty())
    }
}
