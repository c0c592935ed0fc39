//! The rows that say who is assigned to which workspace.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::store;
use crate::auth::scope::Scope;
use crate::entity::membership;
use crate::entity::workspace_member::{self, Column as C};
use crate::error::Error;
use crate::operation::Unit;
use crate::sql;

fn of(scope: Scope) -> sea_orm::Select<workspace_member::Entity> {
    workspace_member::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()))
}

/// The workspaces that a member is assigned to.
pub async fn list_of_member(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_id: &str,
) -> Result<BTreeSet<Uuid>, DbErr> {
    let rows = of(scope).select_only().column(C::WorkspaceId).filter(C::UserId.eq(user_id));
    let workspace_ids: Vec<Uuid> = rows.into_tuple().all(connection).await?;
    Ok(workspace_ids.into_iter().collect())
}

/// The workspaces that each of these members is assigned to, in the order of their ids.
pub async fn list_of_members(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_ids: &[&str],
) -> Result<HashMap<String, Vec<Uuid>>, DbErr> {
    let rows = of(scope)
        .select_only()
        .column(C::UserId)
        .column(C::WorkspaceId)
        .filter(C::UserId.is_in(sql::padded(user_ids.iter().copied())))
        .order_by_asc(C::WorkspaceId);
    let rows: Vec<(String, Uuid)> = rows.into_tuple().all(connection).await?;
    let mut assigned: HashMap<String, Vec<Uuid>> = HashMap::new();
    for (user_id, workspace_id) in rows {
        assigned.entry(user_id).or_default().push(workspace_id);
    }
    Ok(assigned)
}

/// The members who are assigned to a workspace, at most so many of them, in no order.
pub async fn list_members(
    connection: &impl ConnectionTrait,
    scope: Scope,
    workspace_id: Uuid,
    limit: u64,
) -> Result<Vec<String>, DbErr> {
    let rows = of(scope).select_only().column(C::UserId).filter(C::WorkspaceId.eq(workspace_id)).limit(limit);
    rows.into_tuple().all(connection).await
}

/// Assigns a member to workspaces that there are, and that they are not assigned to.
pub async fn insert<A>(unit: &Unit<'_, A>, member: &membership::Model, workspace_ids: &[Uuid]) -> Result<(), DbErr> {
    let rows = workspace_ids.iter().map(|workspace_id| workspace_member::Model {
        organization_id: unit.scope().organization_id(),
        workspace_id: *workspace_id,
        user_id: member.user_id.clone(),
        assigned_at: unit.now,
        joined_at: member.joined_at,
    });
    sql::insert_all(unit.transaction(), &rows.collect::<Vec<_>>()).await
}

/// Assigns one who joins to the workspaces that were chosen for them, as far as there still are any, and gives these.
pub async fn insert_chosen<A>(
    unit: &Unit<'_, A>,
    member: &membership::Model,
    mut chosen: Vec<Uuid>,
) -> Result<Vec<Uuid>, DbErr> {
    let existing = store::list_existing(unit.transaction(), unit.scope(), &chosen).await?;
    chosen.retain(|workspace_id| existing.contains(workspace_id));
    insert(unit, member, &chosen).await?;
    Ok(chosen)
}

/// Ends assignments of a member.
pub async fn delete<A>(unit: &Unit<'_, A>, user_id: &str, workspace_ids: &[Uuid]) -> Result<(), DbErr> {
    workspace_member::Entity::delete_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::UserId.eq(user_id))
        .filter(C::WorkspaceId.is_in(sql::padded(workspace_ids.iter().copied())))
        .exec(unit.transaction())
        .await
        .map(|_| ())
}

/// Ends all assignments to a workspace, and says how many those were.
pub async fn delete_of_workspace<A>(unit: &Unit<'_, A>, workspace_id: Uuid) -> Result<i64, Error> {
    let deleted = workspace_member::Entity::delete_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::WorkspaceId.eq(workspace_id))
        .exec(unit.transaction())
        .await?;
    sql::counted(deleted.rows_affected)
}
