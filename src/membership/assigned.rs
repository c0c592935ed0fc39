//! Those of one workspace in the lists of members: the same pages, and none that costs a look at everybody.
//!
//! By the time they joined, the assignments themselves are walked, which are in this order. In any other order it depends on
//! how many there are: few are looked up and sorted; of many, one meets some soon in the list of all.

use sea_orm::sea_query::{Expr, ExprTrait as _, Func, Query, SimpleExpr, SubQueryStatement};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, JoinType, QueryFilter as _,
    QuerySelect as _, RelationDef, Select,
};
use uuid::Uuid;

use super::listing::{Listing, OrderBy};
use crate::auth::scope::Scope;
use crate::entity::membership::Column as C;
use crate::entity::workspace_member::Column as W;
use crate::entity::{membership, workspace_member};
use crate::sql;
use crate::workspace::assignments;

/// Up to how many members of a workspace are looked up one by one.
const FEW: usize = 512;

/// The columns that say where a row stands in a list: organization, key, user.
pub(super) type Order = [SimpleExpr; 3];

fn column(column: C) -> SimpleExpr {
    Expr::col((membership::Entity, column))
}

fn of_assignment(column: W) -> SimpleExpr {
    Expr::col((workspace_member::Entity, column))
}

/// Leaves only those whom the list shows by the workspace that it names, if it names one, and says by which columns they
/// are in its order.
pub(super) async fn only(
    connection: &impl ConnectionTrait,
    scope: Scope,
    listing: &Listing,
    rows: Select<membership::Entity>,
) -> Result<(Select<membership::Entity>, Order), DbErr> {
    let order = [column(C::OrganizationId), column(listing.column()), column(C::UserId)];
    let Some(workspace_id) = listing.workspace_id else { return Ok((rows, order)) };
    if listing.order_by == OrderBy::JoinTime {
        let rows = rows
            .join(JoinType::InnerJoin, assignment())
            .filter(W::OrganizationId.eq(scope.organization_id()))
            .filter(W::WorkspaceId.eq(workspace_id));
        return Ok((rows, [W::OrganizationId, W::JoinedAt, W::UserId].map(of_assignment)));
    }
    let limit = u64::try_from(FEW + 1).unwrap_or(u64::MAX);
    let user_ids = assignments::list_members(connection, scope, workspace_id, limit).await?;
    if user_ids.len() > FEW {
        return Ok((rows.filter(is_assigned(scope, workspace_id)), order));
    }
    let [organization, key, user_id] = order;
    Ok((rows.filter(C::UserId.is_in(sql::padded(user_ids))), [organization, of_no_index(key), user_id]))
}

/// The same value in a form that no index is in the order of. By one SQLite would walk all members, to sort none.
fn of_no_index(key: SimpleExpr) -> SimpleExpr {
    Func::coalesce([key.clone(), key]).into()
}

fn assignment() -> RelationDef {
    let relation: RelationDef =
        membership::Entity::belongs_to(workspace_member::Entity).from(C::OrganizationId).to(W::OrganizationId).into();
    relation.on_condition(|members, assigned| {
        Condition::all().add(Expr::col((members, C::UserId)).equals((assigned, W::UserId)))
    })
}

/// Whether a member is assigned. A value to be looked up for each row: of a condition the databases would make a join, and
/// walk whichever side they take for the shorter one.
fn is_assigned(scope: Scope, workspace_id: Uuid) -> SimpleExpr {
    let assigned = Query::select()
        .expr(of_assignment(W::WorkspaceId))
        .from(workspace_member::Entity)
        .and_where(of_assignment(W::OrganizationId).eq(scope.organization_id()))
        .and_where(of_assignment(W::WorkspaceId).eq(workspace_id))
        .and_where(of_assignment(W::UserId).equals((membership::Entity, C::UserId)))
        .to_owned();
    SimpleExpr::SubQuery(None, Box::new(SubQueryStatement::SelectStatement(assigned))).is_not_null()
}
