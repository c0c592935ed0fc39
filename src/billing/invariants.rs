//! Recounts what is kept in counters and sums, and tells what does not agree.
//!
//! Each organization is read in one transaction that sees one state of the database, so that a change in between is no drift.

use std::collections::{HashMap, HashSet};

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use uuid::Uuid;

use super::invoicing;
use super::printing::taxable;
use crate::auth::policy::RolePolicy;
use crate::auth::scope::Scope;
use crate::database::Database;
use crate::entity::credit_entry::Cause;
use crate::entity::invoice::State;
use crate::entity::{
    credit_entry, credit_note, event, invitation, invoice, invoice_line, membership, organization, payment, seat_entry,
    subscription,
};
use crate::error::Error;
use crate::event::log;
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
        let transaction = database.snapshot().await?;
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
        money(connection, &billed, &mut drifts).await?;
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
    // What is forgotten for its age was the earliest.
    let scope = Scope::of_newcomer(row.organization_id);
    let forgotten = Ord::min(log::forgotten(connection, Some(scope)).await?, row.last_event_number);
    let events = sql::counted(events.count(connection).await?)?;
    drifts.compare("event_numbers", forgotten + events, row.last_event_number);
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

/// Invoices and the credit balance, each table of them read once.
async fn money(
    connection: &impl ConnectionTrait,
    billed: &subscription::Model,
    drifts: &mut Recount,
) -> Result<(), Error> {
    use payment::Column as P;
    use {credit_entry::Column as E, credit_note::Column as N, invoice::Column as I, invoice_line::Column as L};
    let id = billed.organization_id;
    let invoices = invoice::Entity::find().filter(I::OrganizationId.eq(id)).order_by_asc(I::Number);
    let invoices = invoices.all(connection).await?;
    let entries = credit_entry::Entity::find().filter(E::OrganizationId.eq(id)).order_by_asc(E::Number);
    let entries = entries.all(connection).await?;
    let notes = credit_note::Entity::find().filter(N::OrganizationId.eq(id)).order_by_asc(N::Number);
    let notes = notes.all(connection).await?;
    let lines = invoice_line::Entity::find().filter(L::OrganizationId.eq(id)).order_by_asc(L::InvoiceId);
    let lines = lines.all(connection).await?;
    let paid = payment::Entity::find().filter(P::OrganizationId.eq(id)).filter(P::State.eq(payment::State::Succeeded));
    let paid = paid.all(connection).await?;
    let mut taxes = HashMap::new();
    let mut given_back: Vec<(Uuid, i64)> = notes.iter().map(|note| (note.invoice_id, note.amount_minor)).collect();
    for invoice in lines.chunk_by(|one, next| one.invoice_id == next.invoice_id) {
        let by_rate = invoicing::taxes(invoice.iter().filter_map(taxable))?;
        taxes.extend(invoice.first().map(|line| (line.invoice_id, by_rate.iter().map(|tax| tax.tax_minor).sum())));
        for line in invoice {
            let tax = line.returned_tax_minor.unwrap_or_default();
            let gross = if line.tax_included == Some(true) { line.amount_minor } else { line.amount_minor + tax };
            given_back.extend(line.credited_invoice_id.map(|credited| (credited, -gross)));
        }
    }
    let given_back = by_invoice(given_back.into_iter());
    let taken = entries.iter().filter(|entry| entry.cause == Cause::InvoiceUncollectible);
    let taken: i64 = taken.map(|entry| -entry.amount_minor).sum();
    let unpaid: i64 = invoices.iter().map(|row| row.unpaid_credit_minor).sum();
    drifts.compare("unpaid_credit", unpaid - taken, billed.unpaid_credit_minor);
    let lines = by_invoice(lines.iter().map(|line| (line.invoice_id, line.amount_minor)));
    let paid = by_invoice(paid.iter().map(|payment| (payment.invoice_id, payment.amount_minor)));
    let credited = by_invoice(notes.iter().map(|note| (note.invoice_id, note.off_due_minor)));
    let of_cause = |causes: &[Cause]| {
        let entries = entries.iter().filter(|entry| causes.contains(&entry.cause));
        by_invoice(entries.map(|entry| (entry.invoice_id, entry.amount_minor)))
    };
    let (overpaid, applied) = (of_cause(&[Cause::Overpaid]), of_cause(&[Cause::Applied, Cause::InvoiceVoided]));
    let numbers: Vec<i64> = invoices.iter().filter_map(|row| row.number).collect();
    drifts.compare("invoice_numbers", true, gap_free(numbers.iter().copied()));
    drifts.compare("last_invoice_number", sql::counted(numbers.len())?, billed.last_invoice_number);
    for row in &invoices {
        let of = |sums: &HashMap<Uuid, i64>| sums.get(&row.invoice_id).copied().unwrap_or_default();
        if row.state != State::Draft {
            drifts.compare("invoice_total", of(&lines), row.total_minor);
            drifts.compare("invoice_tax", of(&taxes), row.tax_minor);
        }
        if row.charged_minor.is_some() {
            drifts.compare("invoice_given_back", of(&given_back), row.given_back_minor);
        }
        drifts.compare("invoice_paid", of(&paid) - of(&overpaid), row.paid_minor);
        drifts.compare("invoice_credited", of(&credited), row.credited_minor);
        drifts.compare("invoice_credit_applied", -of(&applied), row.credit_applied_minor);
        let settled = row.credit_applied_minor + row.credited_minor + row.paid_minor;
        if row.state == State::Paid && row.total_minor > 0 {
            drifts.compare("paid_invoice_settled", row.total_minor, settled);
        }
    }
    drifts.compare("credit_entry_numbers", sql::counted(entries.len())?, billed.last_credit_entry_number);
    let mut balance = 0;
    let mut sound = gap_free(entries.iter().map(|entry| entry.number));
    for entry in &entries {
        balance += entry.amount_minor;
        sound &= entry.balance_minor == balance;
    }
    drifts.compare("credit_entry_balances", true, sound);
    drifts.compare("credit_balance", balance, billed.credit_minor);
    drifts.compare("credit_note_numbers", true, gap_free(notes.iter().map(|note| note.number)));
    drifts.compare("last_credit_note_number", sql::counted(notes.len())?, billed.last_credit_note_number);
    Ok(())
}

/// What amounts come to, invoice by invoice.
fn by_invoice(amounts: impl Iterator<Item = (Uuid, i64)>) -> HashMap<Uuid, i64> {
    let mut sums = HashMap::new();
    for (invoice_id, amount_minor) in amounts {
        *sums.entry(invoice_id).or_default() += amount_minor;
    }
    sums
}

/// Whether numbers are 1, 2, 3 …
fn gap_free(numbers: impl Iterator<Item = i64>) -> bool {
    numbers.zip(1..).all(|(number, expected)| number == expected)
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
    /// Looks at the next organizations, and says at how many something does not agree, as far as it was looked at.
    ///
    /// # Errors
    ///
    /// When the database cannot be asked.
    pub async fn look(&mut self, database: &Database, policy: &RolePolicy) -> Result<usize, Error> {
        /// Few enough that nobody notices.
        const AT_ONCE: u64 = 50;
        let after = self.after;
        let ids = organizations(database.reader(), after, AT_ONCE).await?;
        let last = ids.last().copied();
        self.after = last;
        let checked = check(database, policy, &ids).await?;
        // Also those that are gone since.
        self.drifting.retain(|id| Some(*id) <= after || last.is_some_and(|last| *id > last));
        for drift in checked.found {
            tracing::error!(org = %drift.organization_id, invariant = drift.invariant, expected = drift.expected, found = drift.found, "books that do not agree");
            self.drifting.insert(drift.organization_id);
        }
        Ok(self.drifting.len())
    }
}
