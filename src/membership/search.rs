//! Members by page, and the search among them.
//!
//! A page is read by walking the index of its order. A search walks on until the page is full, which is soon for a text that
//! many have. A text that few have is found by its trigrams, on PostgreSQL, where organizations may be large: which of the two
//! it is nobody knows before, and the planner's guess is worthless where those who match stand together in the order, as all
//! who are called Zoe do by name. So a search of a large organization walks a bounded way first.

use sea_orm::sea_query::{Asterisk, Expr, ExprTrait as _, Func, LikeExpr, Query, SelectStatement, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait as _, FromQueryResult as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _, Select,
};

use super::assigned;
use super::listing::{Listing, Position, beyond};
use crate::auth::scope::Scope;
use crate::database::Database;
use crate::entity::membership::{self, Column as C};
use crate::sql;

/// How many members a search looks at one by one before it asks the trigrams: about as long as they take for a text that one
/// in a hundred has.
const WALK: u64 = 5000;

/// The letters that make a trigram; a shorter text has none.
const TRIGRAM: usize = 3;

/// Lists members after a position. `size` says how many there are, more or less: by it is decided how they are searched.
pub async fn list(
    database: &Database,
    scope: Scope,
    size: i64,
    listing: &Listing,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<membership::Model>, DbErr> {
    if !listing.active && !listing.suspended {
        return Ok(Vec::new());
    }
    let connection = database.reader();
    let has_trigrams = listing.search.chars().count() >= TRIGRAM;
    let is_large = u64::try_from(size).is_ok_and(|size| size > WALK);
    let is_whole = listing.workspace_id.is_none();
    if connection.get_database_backend() == DbBackend::Postgres && has_trigrams && is_large && is_whole {
        let found = walk(connection, scope, listing, after, limit).await?;
        let filled = u64::try_from(found.len()).is_ok_and(|found| found >= limit);
        return if filled { Ok(found) } else { look_up(database, scope, listing, after, limit).await };
    }
    let mut rows = of(scope).filter(shown(listing));
    if !listing.search.is_empty() {
        rows = rows.filter(walks_to(connection, Expr::col(C::SearchText), &listing.search));
    }
    let (mut rows, [organization, key, user_id]) = assigned::only(connection, scope, listing, rows).await?;
    if let Some(after) = after {
        rows = rows.filter(beyond(listing, after, key.clone(), user_id.clone(), false));
    }
    let order = listing.order();
    let rows = rows.order_by(organization, order.clone()).order_by(key, order.clone()).order_by(user_id, order);
    rows.limit(limit).all(connection).await
}

fn of(scope: Scope) -> Select<membership::Entity> {
    membership::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()))
}

/// Searches the next few thousand members in the order of the list.
async fn walk(
    connection: &impl ConnectionTrait,
    scope: Scope,
    listing: &Listing,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<membership::Model>, DbErr> {
    let few = in_order(beyond_position(scope, listing, after), listing).limit(WALK);
    let among = outside(few.into_query(), listing, limit)
        .cond_where(shown(listing))
        .and_where(walks_to(connection, Expr::col(C::SearchText), &listing.search))
        .to_owned();
    found(connection, &among).await
}

/// Searches all members, by an index on what they are searched by.
async fn look_up(
    database: &Database,
    scope: Scope,
    listing: &Listing,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<membership::Model>, DbErr> {
    let pattern = Expr::col(C::SearchText).like(LikeExpr::new(sql::containing(&listing.search)));
    let matching = beyond_position(scope, listing, after).filter(shown(listing)).filter(pattern);
    // The offset keeps the order out of the choice of the index.
    let among = outside(matching.offset(0).into_query(), listing, limit);
    let transaction = database.begin().await?;
    // By the text and the organization that are asked for, not by the average ones: a plan for an organization of ten looks at
    // every member.
    transaction.execute_unprepared("SET LOCAL plan_cache_mode = force_custom_plan").await?;
    let members = found(&transaction, &among).await?;
    transaction.commit().await?;
    Ok(members)
}

async fn found(connection: &impl ConnectionTrait, query: &SelectStatement) -> Result<Vec<membership::Model>, DbErr> {
    let statement = connection.get_database_backend().build(query);
    membership::Model::find_by_statement(statement).all(connection).await
}

/// The first of some members in the order of the list.
fn outside(members: SelectStatement, listing: &Listing, limit: u64) -> SelectStatement {
    Query::select()
        .column(Asterisk)
        .from_subquery(members, membership::Entity)
        .order_by(listing.column(), listing.order())
        .order_by(C::UserId, listing.order())
        .limit(limit)
        .to_owned()
}

fn beyond_position(scope: Scope, listing: &Listing, after: Option<&Position>) -> Select<membership::Entity> {
    match after {
        Some(after) => {
            of(scope).filter(beyond(listing, after, Expr::col(listing.column()), Expr::col(C::UserId), false))
        }
        None => of(scope),
    }
}

/// Whether a member is one whom the list shows, but for the search.
fn shown(listing: &Listing) -> Condition {
    let mut shown = Condition::all();
    if !listing.roles.is_empty() {
        shown = shown.add(C::Role.is_in(sql::padded(listing.roles.clone())));
    }
    match (listing.active, listing.suspended) {
        (true, false) => shown.add(C::SuspendedAt.is_null()),
        (false, true) => shown.add(C::SuspendedAt.is_not_null()),
        _ => shown,
    }
}

/// The organization stands in the order too, so that the index by it and the column is walked, not sorted.
fn in_order(rows: Select<membership::Entity>, listing: &Listing) -> Select<membership::Entity> {
    rows.order_by(C::OrganizationId, listing.order())
        .order_by(listing.column(), listing.order())
        .order_by(C::UserId, listing.order())
}

/// Whether a column contains a text, told of each row that is walked to. PostgreSQL is asked so that it cannot take the index
/// of trigrams, which for a short text it would have to read whole.
pub(super) fn walks_to(connection: &impl ConnectionTrait, column: SimpleExpr, text: &str) -> SimpleExpr {
    match connection.get_database_backend() {
        DbBackend::Postgres => SimpleExpr::from(Func::cust("strpos").args([column, Expr::val(text.to_owned())])).gt(0),
        _ => column.like(LikeExpr::new(sql::containing(text)).escape('\\')),
    }
}
