//! The rows of workspaces and rooms.

use std::collections::HashSet;

use sea_orm::sea_query::{Expr, ExprTrait as _, LikeExpr, Query};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, JoinType, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, RelationDef,
};
use uuid::Uuid;

use crate::auth::scope::Scope;
use crate::entity::workspace::{self, Column as C, Kind};
use crate::entity::{organization, workspace_member};
use crate::sql;

fn of(scope: Scope) -> sea_orm::Select<workspace::Entity> {
    workspace::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()))
}

/// Those that a user is assigned to; all of them without a user.
fn assigned_to(
    rows: sea_orm::Select<workspace::Entity>,
    scope: Scope,
    user_id: Option<&str>,
) -> sea_orm::Select<workspace::Entity> {
    use workspace_member::Column as W;
    let Some(user_id) = user_id else { return rows };
    let assigned = Query::select()
        .column(W::WorkspaceId)
        .from(workspace_member::Entity)
        .and_where(W::OrganizationId.eq(scope.organization_id()))
        .and_where(W::UserId.eq(user_id))
        .to_owned();
    rows.filter(C::WorkspaceId.in_subquery(assigned))
}

/// Finds a workspace, if it is one that the user is assigned to, when one is named.
pub async fn find(
    connection: &impl ConnectionTrait,
    scope: Scope,
    workspace_id: Uuid,
    user_id: Option<&str>,
) -> Result<Option<workspace::Model>, DbErr> {
    assigned_to(of(scope).filter(C::WorkspaceId.eq(workspace_id)), scope, user_id).one(connection).await
}

/// Finds a room by its join slug, in any organization that is not deleted: who has a join link does not know whose room it is.
pub async fn find_room(connection: &impl ConnectionTrait, slug: &str) -> Result<Option<workspace::Model>, DbErr> {
    let relation: RelationDef = workspace::Entity::belongs_to(organization::Entity)
        .from(C::OrganizationId)
        .to(organization::Column::OrganizationId)
        .into();
    workspace::Entity::find()
        .filter(C::Slug.eq(slug))
        .join(JoinType::InnerJoin, relation)
        .filter(organization::Column::DeletedAt.is_null())
        .one(connection)
        .await
}

/// Which workspaces a list shows.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Only those that this user is assigned to.
    pub user_id: Option<String>,
    /// Only those of this kind.
    pub kind: Option<Kind>,
    /// Folded text that the name contains.
    pub search: String,
}

/// Where a page of workspaces begins: the folded name and the id of the last one before.
pub type Place = (String, Uuid);

/// Lists workspaces by their names.
pub async fn list(
    connection: &impl ConnectionTrait,
    scope: Scope,
    listing: &Listing,
    after: Option<&Place>,
    limit: u64,
) -> Result<Vec<workspace::Model>, DbErr> {
    let mut rows = assigned_to(of(scope), scope, listing.user_id.as_deref());
    if let Some(kind) = listing.kind {
        rows = rows.filter(C::Kind.eq(kind));
    }
    if !listing.search.is_empty() {
        rows = rows.filter(C::SortName.like(LikeExpr::new(sql::containing(&listing.search)).escape('\\')));
    }
    if let Some((sort_name, workspace_id)) = after {
        let row = Expr::tuple([Expr::col(C::SortName), Expr::col(C::WorkspaceId)]);
        rows = rows.filter(row.gt(Expr::tuple([Expr::val(sort_name.clone()), Expr::val(*workspace_id)])));
    }
    rows.order_by_asc(C::OrganizationId)
        .order_by_asc(C::SortName)
        .order_by_asc(C::WorkspaceId)
        .limit(limit)
        .all(connection)
        .await
}

/// Of these workspaces, the ones that there are.
pub async fn list_existing(
    connection: &impl ConnectionTrait,
    scope: Scope,
    workspace_ids: &[Uuid],
) -> Result<HashSet<Uuid>, DbErr> {
    if workspace_ids.is_empty() {
        return Ok(HashSet::new());
    }
    let found: Vec<Uuid> = of(scope)
        .select_only()
        .column(C::WorkspaceId)
        .filter(C::WorkspaceId.is_in(sql::padded(workspace_ids.iter().copied())))
        .into_tuple()
        .all(connection)
        .await?;
    Ok(found.into_iter().collect())
}

/// How many workspaces the organization has.
pub async fn count(connection: &impl ConnectionTrait, scope: Scope) -> Result<u64, DbErr> {
    of(scope).count(connection).await
}

/// Whether any room, of any organization, has this join slug.
pub async fn slug_exists(connection: &impl ConnectionTrait, slug: &str) -> Result<bool, DbErr> {
    let found = workspace::Entity::find()
        .select_only()
        .column(C::WorkspaceId)
        .filter(C::Slug.eq(slug))
        .into_tuple::<Uuid>()
        .one(connection)
        .await?;
    Ok(found.is_some())
}

/// Inserts a workspace.
pub async fn insert(connection: &impl ConnectionTrait, row: workspace::Model) -> Result<(), DbErr> {
    workspace::Entity::insert(row.into_active_model()).exec_without_returning(connection).await.map(|_| ())
}

/// Writes the fields that can change.
pub async fn update_fields(connection: &impl ConnectionTrait, row: &workspace::Model) -> Result<(), DbErr> {
    workspace::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::WorkspaceId.eq(row.workspace_id))
        .col_expr(C::Name, Expr::value(row.name.clone()))
        .col_expr(C::SortName, Expr::value(row.sort_name.clone()))
        .col_expr(C::Description, Expr::value(row.description.clone()))
        .col_expr(C::Slug, Expr::value(row.slug.clone()))
        .col_expr(C::RoomSettings, Expr::value(row.room_settings.clone()))
        .col_expr(C::UpdatedAt, Expr::value(row.updated_at))
        .col_expr(C::Version, Expr::value(row.version))
        .exec(connection)
        .await
        .map(|_| ())
}

/// Deletes a workspace, to which nobody is assigned any more.
pub async fn delete(connection: &impl ConnectionTrait, row: &workspace::Model) -> Result<(), DbErr> {
    workspace::Entity::delete_by_id((row.organization_id, row.workspace_id)).exec(connection).await.map(|_| ())
}
