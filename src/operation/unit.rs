//! The unit of work: one transaction with its books.
//!
//! A command writes rows through the stores and tells the unit what happened ([`Unit::record`]); stores that change members
//! and invitations tell it what that means for the counters. At the end the unit writes both: one conditional update of the
//! organization's row and one insert of all events, so that the database itself refuses what would break the rules.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _};

use super::store;
use crate::app::App;
use crate::auth::scope::{Author, Scope};
use crate::billing::seats::Usage;
use crate::entity::organization;
use crate::error::{Error, OnConstraint as _};
use crate::event::{Change, log};
use crate::id;
use crate::idempotency::RequestKey;

/// One transaction, entered by right of `A`.
#[derive(Debug)]
pub struct Unit<'a, A> {
    /// The parts of the service.
    pub app: &'a App,
    /// By which right it was entered.
    pub actor: A,
    /// The instant at which it happens.
    pub now: DateTime<Utc>,
    transaction: &'a DatabaseTransaction,
    author: Author,
    scope: Scope,
    opening: Opening,
    books: Books,
    /// The invitations that had expired and are taken off the books.
    released: i64,
    changes: Vec<Change>,
    keep: bool,
}

/// The counters as they were when the lock was granted.
#[derive(Clone, Copy, Debug, Default)]
struct Opening {
    seats_total: i64,
    members: i64,
    pending: i64,
    top_role_members: i64,
    last_event_number: i64,
}

impl Opening {
    fn of(row: &organization::Model) -> Self {
        Self {
            seats_total: row.seats_total,
            members: row.active_members,
            pending: row.pending_invitations,
            top_role_members: row.top_role_members,
            last_event_number: row.last_event_number,
        }
    }
}

/// What the change means for the counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Books {
    /// Active members who came, less those who went.
    pub members: i64,
    /// Invitations that took a seat, less those that gave theirs back.
    pub pending: i64,
    /// Active holders of the top role who came, less those who went.
    pub top_role_members: i64,
    /// The new number of seats, if it changes.
    pub seats_total: Option<i64>,
}

impl<'a, A> Unit<'a, A> {
    pub(super) fn new(
        app: &'a App,
        transaction: &'a DatabaseTransaction,
        author: Author,
        actor: A,
        organization: Option<&organization::Model>,
        now: DateTime<Utc>,
        keep: bool,
    ) -> Self {
        let organization_id = organization.map_or_else(|| id::new(now), |found| found.organization_id);
        tracing::Span::current().record("org", tracing::field::display(organization_id));
        Self {
            app,
            actor,
            now,
            transaction,
            author,
            scope: Scope::of_newcomer(organization_id),
            opening: organization.map(Opening::of).unwrap_or_default(),
            books: Books::default(),
            released: 0,
            changes: Vec::new(),
            keep,
        }
    }

    /// Where to write.
    pub fn transaction(&self) -> &'a DatabaseTransaction {
        self.transaction
    }

    /// The organization that is locked or being made.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether this is only asked, and nothing will be kept: then no secret is given either.
    pub fn is_rehearsal(&self) -> bool {
        !self.keep
    }

    /// What happened.
    pub fn record(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// What it means for the counters.
    pub fn count(&mut self, books: Books) {
        self.books.members += books.members;
        self.books.pending += books.pending;
        self.books.top_role_members += books.top_role_members;
        self.books.seats_total = books.seats_total.or(self.books.seats_total);
    }

    /// The organization's row was written with its first member in its counters.
    pub fn founded(&mut self, row: &organization::Model) {
        self.opening = Opening::of(row);
    }

    /// The active holders of the top role, as they would be now.
    pub fn top_role_members(&self) -> i64 {
        self.opening.top_role_members + self.books.top_role_members
    }

    /// The seats as they would be now, with the invitations that expired since the last change taken off the books.
    pub async fn seats(&mut self) -> Result<Usage, Error> {
        self.released += store::release_expired(self.transaction, self.scope, self.now).await?;
        Ok(self.usage())
    }

    fn usage(&self) -> Usage {
        Usage {
            total: self.books.seats_total.unwrap_or(self.opening.seats_total),
            members: self.opening.members + self.books.members,
            pending: self.opening.pending + self.books.pending - self.released,
        }
    }

    /// Writes the books and the events, and keeps the answer.
    pub(super) async fn finish(self, key: Option<&RequestKey>, answer: &impl prost::Message) -> Result<(), Error> {
        self.close_books().await?;
        let number = self.opening.last_event_number;
        log::append(self.transaction, self.scope, &self.author, number, &self.changes, self.now).await?;
        match key {
            Some(key) => key.store(self.transaction, answer, self.now).await,
            None => Ok(()),
        }
    }

    async fn close_books(&self) -> Result<(), Error> {
        use organization::Column as C;
        let books = self.books;
        let events = i64::try_from(self.changes.len()).map_err(|_| Error::defect("more events than can be counted"))?;
        let (members, pending) = (books.members, books.pending - self.released);
        let unchanged = members == 0 && pending == 0 && books.top_role_members == 0;
        if unchanged && events == 0 && books.seats_total.is_none() {
            return Ok(());
        }
        let usage = self.usage();
        let plus = |column: C, delta: i64| Expr::col(column).add(delta);
        let mut update = organization::Entity::update_many()
            .filter(C::OrganizationId.eq(self.scope.organization_id()))
            .col_expr(C::ActiveMembers, plus(C::ActiveMembers, members))
            .col_expr(C::PendingInvitations, plus(C::PendingInvitations, pending))
            .col_expr(C::TopRoleMembers, plus(C::TopRoleMembers, books.top_role_members))
            .col_expr(C::SeatsTotal, Expr::val(usage.total))
            .col_expr(C::LastEventNumber, plus(C::LastEventNumber, events));
        // The database's own word on the seat rule, besides the code's: whatever grows must end within the total. A seat that
        // passes from an invitation to its member is no growth, and a seat that an expiry gave back makes none good.
        let growth = books.members + books.pending;
        if growth > 0 || books.seats_total.is_some() {
            let used = Expr::col(C::ActiveMembers).add(Expr::col(C::PendingInvitations));
            update = update.filter(used.add(members + pending).lte(usage.total));
        }
        let updated =
            update.exec(self.transaction).await.on_constraint("organization_keeps_a_top_role_member", || {
                Error::LastOwner { role: self.app.policy.top_role().name.to_string() }
            })?;
        match updated.rows_affected {
            1 => Ok(()),
            _ => Err(usage.full(growth)),
        }
    }
}
