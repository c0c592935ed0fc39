//! The rows of members. What changes them takes the unit of work and keeps its books, so that no member comes, goes or
//! changes without the counters knowing.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, Order, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Identity, Profile};
use crate::auth::scope::Scope;
use crate::entity::membership::{self, Column as C};
use crate::error::{Error, OnConstraint as _};
use crate::operation::Unit;
use crate::operation::unit::Books;
use crate::text;

/// The row of somebody who joins.
#[must_use]
pub fn joining(
    scope: Scope,
    identity: &Identity,
    profile: &Profile,
    role: &str,
    invitation_id: Option<Uuid>,
    now: DateTime<Utc>,
) -> membership::Model {
    let mut row = membership::Model {
        organization_id: scope.organization_id(),
        user_id: identity.user_id.clone(),
        email: identity.email.written.clone(),
        email_normalized: identity.email.normalized.clone(),
        display_name: profile.display_name.clone(),
        sort_name: String::new(),
        search_text: String::new(),
        avatar_uri: profile.avatar_uri.clone(),
        role: role.to_owned(),
        invitation_id,
        joined_at: now,
        last_sign_in_at: DateTime::UNIX_EPOCH,
        suspended_at: None,
        version: 1,
    };
    index(&mut row);
    row
}

/// Figures the columns by which a member is sorted and found.
pub fn index(row: &mut membership::Model) {
    row.sort_name = text::fold(&row.display_name);
    row.search_text = text::fold(&format!("{} {}", row.display_name, row.email_normalized));
}

/// Finds a member.
pub async fn find(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_id: &str,
) -> Result<Option<membership::Model>, DbErr> {
    membership::Entity::find_by_id((scope.organization_id(), user_id.to_owned())).one(connection).await
}

/// Finds the members with these ids.
pub async fn list_by_ids(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_ids: &[&str],
) -> Result<Vec<membership::Model>, DbErr> {
    of(scope).filter(C::UserId.is_in(user_ids.iter().copied())).all(connection).await
}

/// Finds the members with these e-mail addresses, normalized.
pub async fn list_by_emails(
    connection: &impl ConnectionTrait,
    scope: Scope,
    emails: &[&str],
) -> Result<Vec<membership::Model>, DbErr> {
    of(scope).filter(C::EmailNormalized.is_in(emails.iter().copied())).all(connection).await
}

fn of(scope: Scope) -> sea_orm::Select<membership::Entity> {
    membership::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()))
}

/// Inserts the founder, whom the organization's counters knew from its beginning.
pub async fn insert_founder<A>(unit: &Unit<'_, A>, row: membership::Model) -> Result<(), Error> {
    membership::Entity::insert(row.into_active_model()).exec_without_returning(unit.transaction()).await?;
    Ok(())
}

/// Inserts a member whose seat the invitation held.
pub async fn insert_invited<A>(unit: &mut Unit<'_, A>, row: membership::Model) -> Result<(), Error> {
    let top = top_role_share(unit, &row);
    let user_id = row.user_id.clone();
    membership::Entity::insert(row.into_active_model())
        .exec_without_returning(unit.transaction())
        .await
        .on_constraint("membership_one_per_user", || Error::AlreadyMember { user_id })?;
    unit.count(Books { members: 1, top_role_members: top, ..Books::default() });
    Ok(())
}

/// Gives members another role: one statement, whoever they are.
pub async fn update_roles<A>(
    unit: &mut Unit<'_, A>,
    rows: &mut [&mut membership::Model],
    role: &str,
) -> Result<(), Error> {
    let user_ids: Vec<String> = rows.iter().map(|row| row.user_id.clone()).collect();
    membership::Entity::update_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::UserId.is_in(user_ids))
        .col_expr(C::Role, Expr::value(role))
        .col_expr(C::Version, Expr::col(C::Version).add(1))
        .exec(unit.transaction())
        .await?;
    for row in rows {
        let before = top_role_share(unit, row);
        role.clone_into(&mut row.role);
        row.version += 1;
        let top_role_members = top_role_share(unit, row) - before;
        unit.count(Books { top_role_members, ..Books::default() });
    }
    Ok(())
}

/// Deletes members; the log remembers them.
pub async fn delete<A>(unit: &mut Unit<'_, A>, rows: &[&membership::Model]) -> Result<(), Error> {
    membership::Entity::delete_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::UserId.is_in(rows.iter().map(|row| row.user_id.clone())))
        .exec(unit.transaction())
        .await?;
    for row in rows {
        let members = i64::from(row.suspended_at.is_none());
        let top_role_members = -top_role_share(unit, row);
        unit.count(Books { members: -members, top_role_members, ..Books::default() });
    }
    Ok(())
}

/// Suspends an active member, or reactivates a suspended one.
pub async fn update_suspension<A>(
    unit: &mut Unit<'_, A>,
    row: &mut membership::Model,
    suspended_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    let before = top_role_share(unit, row);
    let members = i64::from(suspended_at.is_none()) - i64::from(row.suspended_at.is_none());
    row.suspended_at = suspended_at;
    row.version += 1;
    membership::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::UserId.eq(row.user_id.clone()))
        .col_expr(C::SuspendedAt, Expr::value(suspended_at))
        .col_expr(C::Version, Expr::value(row.version))
        .exec(unit.transaction())
        .await?;
    let top_role_members = top_role_share(unit, row) - before;
    unit.count(Books { members, top_role_members, taken: members.clamp(0, 1), ..Books::default() });
    Ok(())
}

/// Writes what the identity provider says of a member.
pub async fn update_profile<A>(unit: &Unit<'_, A>, row: &membership::Model) -> Result<(), Error> {
    membership::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::UserId.eq(row.user_id.clone()))
        .col_expr(C::Email, Expr::value(row.email.clone()))
        .col_expr(C::EmailNormalized, Expr::value(row.email_normalized.clone()))
        .col_expr(C::DisplayName, Expr::value(row.display_name.clone()))
        .col_expr(C::SortName, Expr::value(row.sort_name.clone()))
        .col_expr(C::SearchText, Expr::value(row.search_text.clone()))
        .col_expr(C::AvatarUri, Expr::value(row.avatar_uri.clone()))
        .col_expr(C::LastSignInAt, Expr::value(row.last_sign_in_at))
        .col_expr(C::Version, Expr::value(row.version))
        .exec(unit.transaction())
        .await?;
    Ok(())
}

/// 1 for an active holder of the top role, 0 for anybody else.
fn top_role_share<A>(unit: &Unit<'_, A>, row: &membership::Model) -> i64 {
    i64::from(row.suspended_at.is_none() && unit.app.policy.top_role().name == row.role.as_str())
}

/// By what a list of members is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// When they joined.
    JoinTime,
    /// Their name, folded.
    DisplayName,
    /// Their e-mail address.
    Email,
    /// When they last signed in.
    LastSignInTime,
}

/// A place in a list of members and of those who are expected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The value that the list is ordered by.
    pub key: Key,
    /// Members before the expected ones with the same key.
    pub expected: bool,
    /// The user or invitation.
    pub id: String,
}

/// A value that lists are ordered by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// A moment.
    Time(DateTime<Utc>),
    /// Bytes of text.
    Text(String),
}

impl Key {
    /// As SQL binds it.
    pub(super) fn bound(&self) -> SimpleExpr {
        match self {
            Self::Time(time) => Expr::val(*time),
            Self::Text(text) => Expr::val(text.clone()),
        }
    }
}

/// Which members a list shows.
#[derive(Clone, Debug)]
pub struct Listing {
    /// By what it is ordered.
    pub order_by: OrderBy,
    /// From the last to the first.
    pub descending: bool,
    /// Folded text that the name or address contains.
    pub search: String,
    /// Roles; any when empty.
    pub roles: Vec<String>,
    /// Whether active members are shown.
    pub active: bool,
    /// Whether suspended members are shown.
    pub suspended: bool,
}

impl Listing {
    pub(super) fn order(&self) -> Order {
        if self.descending { Order::Desc } else { Order::Asc }
    }

    fn column(&self) -> C {
        match self.order_by {
            OrderBy::JoinTime => C::JoinedAt,
            OrderBy::DisplayName => C::SortName,
            OrderBy::Email => C::EmailNormalized,
            OrderBy::LastSignInTime => C::LastSignInAt,
        }
    }

    /// Where a member stands in the list.
    #[must_use]
    pub fn position(&self, row: &membership::Model) -> Position {
        let key = match self.order_by {
            OrderBy::JoinTime => Key::Time(row.joined_at),
            OrderBy::DisplayName => Key::Text(row.sort_name.clone()),
            OrderBy::Email => Key::Text(row.email_normalized.clone()),
            OrderBy::LastSignInTime => Key::Time(row.last_sign_in_at),
        };
        Position { key, expected: false, id: row.user_id.clone() }
    }
}

/// Lists members after a position.
pub async fn list(
    connection: &impl ConnectionTrait,
    scope: Scope,
    listing: &Listing,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<membership::Model>, DbErr> {
    let column = listing.column();
    let mut rows = of(scope);
    if !listing.roles.is_empty() {
        rows = rows.filter(C::Role.is_in(listing.roles.clone()));
    }
    match (listing.active, listing.suspended) {
        (true, true) => {}
        (true, false) => rows = rows.filter(C::SuspendedAt.is_null()),
        (false, true) => rows = rows.filter(C::SuspendedAt.is_not_null()),
        (false, false) => return Ok(Vec::new()),
    }
    if !listing.search.is_empty() {
        rows = rows.filter(contains(Expr::col(C::SearchText), &listing.search));
    }
    if let Some(after) = after {
        rows = rows.filter(beyond(listing, after, Expr::col(column), Expr::col(C::UserId), false));
    }
    // The organization stands in the order too, so that the index by it and the column is walked, not sorted.
    rows.order_by(C::OrganizationId, listing.order())
        .order_by(column, listing.order())
        .order_by(C::UserId, listing.order())
        .limit(limit)
        .all(connection)
        .await
}

/// Whether a column contains a text, `%` and `_` being letters like others.
pub(super) fn contains(column: SimpleExpr, text: &str) -> SimpleExpr {
    use sea_orm::sea_query::LikeExpr;
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    column.like(LikeExpr::new(format!("%{escaped}%")).escape('\\'))
}

/// Whether a row of the organization stands beyond a position. Both databases enter an index that begins with the
/// organization, the key and the id at this very place, however many rows lie before it.
pub(super) fn beyond(
    listing: &Listing,
    after: &Position,
    key: SimpleExpr,
    id: SimpleExpr,
    expected: bool,
) -> SimpleExpr {
    if expected != after.expected {
        // At the same key members come before the expected ones; from the last to the first it is the other way round.
        let with_same_key = expected != listing.descending;
        return match (listing.descending, with_same_key) {
            (false, false) => key.gt(after.key.bound()),
            (false, true) => key.gte(after.key.bound()),
            (true, false) => key.lt(after.key.bound()),
            (true, true) => key.lte(after.key.bound()),
        };
    }
    let id_bound = match Uuid::try_parse(&after.id) {
        Ok(invitation_id) if expected => Expr::val(invitation_id),
        _ => Expr::val(after.id.clone()),
    };
    let (row, place) = (Expr::tuple([key, id]), Expr::tuple([after.key.bound(), id_bound]));
    if listing.descending { row.lt(place) } else { row.gt(place) }
}
