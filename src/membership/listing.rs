//! Lists of members, and of those who are expected among them, in one order.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, SimpleExpr};
use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, Order, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{invitations, search};
use crate::auth::scope::Scope;
use crate::entity::membership::Column as C;
use crate::entity::{invitation, membership};
use crate::fields::{is_time, parse_uuid};
use crate::id::UserId;
use crate::sql;

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
    fn bound(&self) -> SimpleExpr {
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
    /// Only those who are assigned to this workspace.
    pub workspace_id: Option<Uuid>,
}

impl Listing {
    pub(super) fn order(&self) -> Order {
        if self.descending { Order::Desc } else { Order::Asc }
    }

    pub(super) fn column(&self) -> C {
        match self.order_by {
            OrderBy::JoinTime => C::JoinedAt,
            OrderBy::DisplayName => C::SortName,
            OrderBy::Email => C::EmailNormalized,
            OrderBy::LastSignInTime => C::LastSignInAt,
        }
    }

    /// Whether a position can be one in this list, of a member or of somebody who is expected.
    #[must_use]
    pub fn has_place(&self, position: &Position) -> bool {
        let timed = matches!(self.order_by, OrderBy::JoinTime | OrderBy::LastSignInTime);
        let key = match &position.key {
            Key::Time(time) => timed && is_time(time),
            Key::Text(text) => !timed && !text.contains('\0'),
        };
        let id = &position.id;
        key && if position.expected { parse_uuid(id).is_some() } else { UserId::parse(id).is_ok() }
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

/// Where somebody who is expected stands in a list of members.
pub fn position_of_expected(listing: &Listing, row: &invitation::Model) -> Position {
    let key = match listing.order_by {
        OrderBy::JoinTime => Key::Time(row.created_at),
        // An expected one is listed under the address: there is no name yet.
        OrderBy::DisplayName | OrderBy::Email => Key::Text(row.email_normalized.clone()),
        OrderBy::LastSignInTime => Key::Time(DateTime::UNIX_EPOCH),
    };
    Position { key, expected: true, id: row.invitation_id.to_string() }
}

/// Lists those who are expected, for a list of members, after a position in it.
pub async fn list_expected(
    connection: &impl ConnectionTrait,
    scope: Scope,
    listing: &Listing,
    now: DateTime<Utc>,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<invitation::Model>, DbErr> {
    use invitation::Column as I;
    let key = match listing.order_by {
        OrderBy::JoinTime => Expr::col(I::CreatedAt),
        OrderBy::DisplayName | OrderBy::Email => Expr::col(I::EmailNormalized),
        OrderBy::LastSignInTime => Expr::val(DateTime::<Utc>::UNIX_EPOCH),
    };
    let mut rows = invitations::pending(scope).filter(invitations::is_open(now));
    if let Some(workspace_id) = listing.workspace_id {
        rows = rows.filter(invitations::is_for_workspace(workspace_id));
    }
    if !listing.roles.is_empty() {
        rows = rows.filter(I::Role.is_in(sql::padded(listing.roles.clone())));
    }
    if !listing.search.is_empty() {
        rows = rows.filter(search::walks_to(connection, Expr::col(I::SearchText), &listing.search));
    }
    if let Some(after) = after {
        rows = rows.filter(beyond(listing, after, key.clone(), Expr::col(I::InvitationId), true));
    }
    rows = rows.order_by(I::OrganizationId, listing.order());
    if listing.order_by != OrderBy::LastSignInTime {
        rows = rows.order_by(key, listing.order());
    }
    rows.order_by(I::InvitationId, listing.order()).limit(limit).all(connection).await
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
