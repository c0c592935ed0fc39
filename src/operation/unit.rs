//! The unit of work: one transaction with its books.
//!
//! A command writes rows through the stores and tells the unit what happened ([`Unit::record`]); stores that change members
//! and invitations tell it what that means for the counters. At the end the unit writes both: one conditional update of the
//! organization's row and one insert of all events, so that the database itself refuses what would break the rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::store::{self, RolesKept};
use crate::app::App;
use crate::auth::policy::RolePolicy;
use crate::auth::scope::{Author, Scope};
use crate::billing::seats::Usage;
use crate::database::Transaction;
use crate::entity::seat_entry::Cause;
use crate::entity::{organization, seat_entry};
use crate::error::{Error, OnConstraint as _};
use crate::event::{Change, log};
use crate::id;
use crate::idempotency::RequestKey;
use crate::organization::days::{self, Standing, Tally, Today};
use crate::sql;

/// One transaction, entered by right of `A`.
#[derive(Debug)]
pub struct Unit<'a, A> {
    /// The parts of the service.
    pub app: &'a App,
    /// By which right it was entered.
    pub actor: A,
    /// The instant at which it happens.
    pub now: DateTime<Utc>,
    /// The role policy of the organization, with the roles that it defined for itself.
    pub policy: Arc<RolePolicy>,
    transaction: &'a Transaction,
    author: Author,
    scope: Scope,
    opening: Opening,
    books: Books,
    /// The active members who came in each role, less those who went.
    members_by_role: BTreeMap<String, i64>,
    /// What happened besides what the changes say.
    activity: Tally,
    /// The invitations that had expired and are taken off the books.
    released: i64,
    /// Seats that were taken and given back.
    seat_moves: Vec<SeatMove>,
    changes: Vec<Change>,
    keep: bool,
}

/// How many seats a change took, and how many it gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeatCount {
    /// How many it took.
    pub taken: u64,
    /// How many it gave back.
    pub given_back: u64,
}

/// A seat that was taken or given back.
#[derive(Clone, Debug)]
struct SeatMove {
    cause: Cause,
    subject: String,
    taken: i64,
    added: i64,
    occurred_at: DateTime<Utc>,
}

/// How a transaction begins.
#[derive(Debug)]
pub(super) struct Entry<'a, 'o> {
    pub(super) transaction: &'a Transaction,
    pub(super) author: Author,
    pub(super) policy: Arc<RolePolicy>,
    /// The organization that is locked; none when one is made.
    pub(super) organization: Option<&'o organization::Model>,
    pub(super) now: DateTime<Utc>,
    /// Whether it will be committed.
    pub(super) keep: bool,
}

/// The counters as they were when the lock was granted.
#[derive(Clone, Debug, Default)]
struct Opening {
    seats_total: i64,
    members: i64,
    pending: i64,
    top_role_members: i64,
    last_event_number: i64,
    members_by_role: Option<BTreeMap<String, i64>>,
    today: Option<Today>,
    standing: Standing,
    time_zone: String,
    name: String,
}

impl Opening {
    fn of(row: &organization::Model) -> Result<Self, Error> {
        Ok(Self {
            seats_total: row.seats_total,
            members: row.active_members,
            pending: row.pending_invitations,
            top_role_members: row.top_role_members,
            last_event_number: row.last_event_number,
            standing: Standing::of(row),
            members_by_role: store::roles_kept(row)?,
            today: store::read_json(row.today.as_ref())?,
            time_zone: row.time_zone.clone(),
            name: row.name.clone(),
        })
    }
}

/// What the change means for the counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Books {
    /// Invitations that took a seat, less those that gave theirs back.
    pub pending: i64,
    /// The new number of seats, if it changes.
    pub seats_total: Option<i64>,
    /// Whether that may be fewer than are used: nobody is removed when a subscription ends.
    pub seats_cut: bool,
    /// Storage that is taken, less what is given back, in bytes.
    pub storage_bytes: i64,
    /// Recordings that came, less those that went.
    pub recordings: i64,
    /// Sessions that began, less those that ended.
    pub live_sessions: i64,
    /// Roles of its own that were defined, less those that were deleted.
    pub custom_roles: i64,
}

impl<'a, A> Unit<'a, A> {
    pub(super) fn new(app: &'a App, actor: A, entry: Entry<'a, '_>) -> Result<Self, Error> {
        let Entry { transaction, author, policy, organization, now, keep } = entry;
        let organization_id = organization.map_or_else(|| id::new(now), |found| found.organization_id);
        if organization.is_none() {
            // Of any other call the line that is logged says it already.
            tracing::Span::current().record("org", tracing::field::display(organization_id));
        }
        Ok(Self {
            app,
            actor,
            now,
            policy,
            transaction,
            author,
            scope: Scope::of_newcomer(organization_id),
            opening: organization.map(Opening::of).transpose()?.unwrap_or_default(),
            books: Books::default(),
            members_by_role: BTreeMap::new(),
            activity: Tally::default(),
            released: 0,
            seat_moves: Vec::new(),
            changes: Vec::new(),
            keep,
        })
    }

    /// Where to write.
    pub fn transaction(&self) -> &'a Transaction {
        self.transaction
    }

    /// The organization that is locked or being made.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// What the organization was called when it was locked.
    pub fn organization_name(&self) -> &str {
        &self.opening.name
    }

    /// Whether this is only asked, and nothing will be kept: then no secret is given either.
    pub fn is_rehearsal(&self) -> bool {
        !self.keep
    }

    /// The day that it is in the organization's time zone.
    pub fn today(&self) -> NaiveDate {
        days::day_of(self.now, &self.opening.time_zone)
    }

    /// The day that a moment is on in the organization's time zone.
    pub fn day_of(&self, moment: DateTime<Utc>) -> NaiveDate {
        days::day_of(moment, &self.opening.time_zone)
    }

    /// What happened.
    pub fn record(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// What happened besides what the changes say, for the day's tally.
    pub fn count_activity(&mut self, activity: Tally) {
        self.activity = self.activity.plus(activity);
    }

    /// What it means for the counters.
    pub fn count(&mut self, books: Books) {
        self.books.pending += books.pending;
        self.books.seats_total = books.seats_total.or(self.books.seats_total);
        self.books.seats_cut |= books.seats_cut;
        self.books.storage_bytes += books.storage_bytes;
        self.books.recordings += books.recordings;
        self.books.live_sessions += books.live_sessions;
        self.books.custom_roles += books.custom_roles;
    }

    /// This many active members came in a role or, below zero, went.
    pub fn count_members(&mut self, role: &str, members: i64) {
        *self.members_by_role.entry(role.to_owned()).or_default() += members;
    }

    /// A seat was taken or, below zero, given back: for the ledger.
    pub fn note_seat(&mut self, cause: Cause, subject: impl Into<String>, taken: i64) {
        let occurred_at = self.now;
        self.seat_moves.push(SeatMove { cause, subject: subject.into(), taken, added: 0, occurred_at });
    }

    /// The organization's row was written with its first members in its counters.
    pub fn founded(&mut self, row: &organization::Model) -> Result<(), Error> {
        self.opening = Opening::of(row)?;
        let (subject, occurred_at) = (String::new(), self.now);
        self.seat_moves.push(SeatMove {
            cause: Cause::SeatsChanged,
            subject,
            taken: 0,
            added: row.seats_total,
            occurred_at,
        });
        Ok(())
    }

    /// The active holders of the top role, as they would be now.
    pub fn top_role_members(&self) -> i64 {
        self.opening.top_role_members + self.top_role_growth()
    }

    fn top_role_growth(&self) -> i64 {
        self.members_by_role.get(self.policy.top_role().name.as_str()).copied().unwrap_or_default()
    }

    fn member_growth(&self) -> i64 {
        self.members_by_role.values().sum()
    }

    /// The seats as they would be now, with the invitations that expired since the last change taken off the books.
    pub async fn seats(&mut self) -> Result<Usage, Error> {
        let expired = store::release_expired(self.transaction, self.scope, self.now).await?;
        self.released += sql::counted(expired.len())?;
        self.seat_moves.extend(expired.into_iter().map(|(invitation_id, occurred_at)| SeatMove {
            cause: Cause::InvitationExpired,
            subject: invitation_id.to_string(),
            taken: -1,
            added: 0,
            occurred_at,
        }));
        Ok(self.usage())
    }

    fn usage(&self) -> Usage {
        Usage {
            total: self.books.seats_total.unwrap_or(self.opening.seats_total),
            members: self.opening.members + self.member_growth(),
            pending: self.opening.pending + self.books.pending - self.released,
        }
    }

    /// Writes the books and the events, and keeps the answer.
    pub(super) async fn finish(
        mut self,
        key: Option<&RequestKey>,
        answer: &impl prost::Message,
    ) -> Result<SeatCount, Error> {
        self.note_full();
        self.close_books().await?;
        self.write_ledger().await?;
        let number = self.opening.last_event_number;
        log::append(self.transaction, self.scope, &self.author, number, &self.changes, self.now).await?;
        if let Some(key) = key {
            key.store(self.transaction, answer, self.now).await?;
        }
        let mut seats = SeatCount::default();
        for one in &self.seat_moves {
            seats.taken += u64::try_from(one.taken).unwrap_or_default();
            seats.given_back += u64::try_from(-one.taken).unwrap_or_default();
        }
        Ok(seats)
    }

    /// Somebody has to know when the last free seat is taken, before the next invitation is refused.
    fn note_full(&mut self) {
        let (usage, opening) = (self.usage(), &self.opening);
        let was_free = opening.members + opening.pending - self.released < opening.seats_total;
        let grows = self.member_growth() + self.books.pending > 0;
        if grows && was_free && usage.available() == 0 {
            self.record(Change::SubscriptionSeatsFull { seats: usage.total });
        }
    }

    /// Writes the takes and releases of seats, and how things stand after all of them.
    async fn write_ledger(&self) -> Result<(), Error> {
        let usage = self.usage();
        let added = usage.total - self.opening.seats_total;
        let moved = (added != 0).then(|| SeatMove {
            cause: Cause::SeatsChanged,
            subject: String::new(),
            taken: 0,
            added,
            occurred_at: self.now,
        });
        let all: Vec<&SeatMove> = self.seat_moves.iter().chain(&moved).collect();
        let ids = id::new_in_order(self.now, all.len());
        let rows = ids.into_iter().zip(all).map(|(entry_id, moved)| seat_entry::Model {
            organization_id: self.scope.organization_id(),
            entry_id,
            occurred_at: moved.occurred_at,
            recorded_at: self.now,
            cause: moved.cause,
            subject: moved.subject.clone(),
            taken: moved.taken,
            added: moved.added,
            members_after: usage.members,
            pending_after: usage.pending,
            total_after: usage.total,
        });
        Ok(sql::insert_all(self.transaction, &rows.collect::<Vec<_>>()).await?)
    }

    async fn close_books(&self) -> Result<(), Error> {
        use organization::Column as C;
        let books = self.books;
        let events = sql::counted(self.changes.len())?;
        if events == 0 && !self.is_changed() {
            return Ok(());
        }
        let usage = self.usage();
        let (members, pending) = (self.member_growth(), books.pending - self.released);
        let today = self.close_day().await?;
        let mut update = organization::Entity::update_many()
            .filter(C::OrganizationId.eq(self.scope.organization_id()))
            .col_expr(C::SeatsTotal, Expr::val(usage.total))
            .col_expr(C::MembersByRole, Expr::value(self.roles_after(self.opening.last_event_number + events).await?))
            .col_expr(C::Today, Expr::value(store::write_json(&today)?));
        for (column, delta) in [
            (C::ActiveMembers, members),
            (C::PendingInvitations, pending),
            (C::TopRoleMembers, self.top_role_growth()),
            (C::LastEventNumber, events),
            (C::StorageBytes, books.storage_bytes),
            (C::Recordings, books.recordings),
            (C::LiveSessions, books.live_sessions),
            (C::CustomRoles, books.custom_roles),
        ] {
            update = update.col_expr(column, Expr::col(column).add(delta));
        }
        // The database's own word on the seat rule, besides the code's: whatever grows must end within the total. A seat that
        // passes from an invitation to its member is no growth, and a seat that an expiry gave back makes none good.
        let growth = members + books.pending;
        if growth > 0 || (books.seats_total.is_some() && !books.seats_cut) {
            let used = Expr::col(C::ActiveMembers).add(Expr::col(C::PendingInvitations));
            update = update.filter(used.add(members + pending).lte(usage.total));
        }
        let updated =
            update.exec(self.transaction).await.on_constraint("organization_keeps_a_top_role_member", || {
                Error::LastOwner { role: self.policy.top_role().name.to_string() }
            })?;
        match updated.rows_affected {
            1 => Ok(()),
            _ => Err(usage.full(growth)),
        }
    }

    /// Whether a counter changed. Each such change has its event, but for seats that expiries gave back.
    fn is_changed(&self) -> bool {
        let books = self.books;
        let moved = [
            books.pending - self.released,
            books.storage_bytes,
            books.recordings,
            books.live_sessions,
            books.custom_roles,
        ];
        let members = self.members_by_role.values().any(|delta| *delta != 0);
        members || moved.iter().any(|delta| *delta != 0) || books.seats_total.is_some()
    }

    /// The day that is under way after this, the one that ended by it being kept.
    async fn close_day(&self) -> Result<Today, Error> {
        let tally = Tally::of(&self.changes).plus(self.activity);
        let (today, ended) = days::count_on(self.opening.today.clone(), self.today(), tally);
        if let Some(ended) = ended {
            days::keep(self.transaction, self.scope.organization_id(), &ended, self.opening.standing).await?;
        }
        Ok(today)
    }

    /// The active members by role after this.
    async fn roles_after(&self, last_event_number: i64) -> Result<serde_json::Value, Error> {
        let roles = match self.opening.members_by_role.clone() {
            Some(mut roles) => {
                for (role, delta) in &self.members_by_role {
                    *roles.entry(role.clone()).or_default() += delta;
                }
                roles.retain(|_, members| *members != 0);
                roles
            }
            // Nobody has counted them yet; the rows are as they will be.
            None => store::count_roles(self.transaction, self.scope).await?,
        };
        store::write_json(&RolesKept { at: last_event_number, roles })
    }
}
