//! What an export reads, page by page, by keys.

use sea_orm::sea_query::{Expr, ExprTrait as _, SimpleExpr};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Value,
};
use uuid::Uuid;

use crate::entity::{custom_role, membership, organization, subscription, workspace_member};
use crate::sql;

/// The organizations after one, in the order of their ids; those that are deleted are left out.
pub(super) async fn organizations(
    connection: &impl ConnectionTrait,
    only: Option<Uuid>,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<organization::Model>, DbErr> {
    use organization::Column as C;
    let mut rows = organization::Entity::find().filter(C::DeletedAt.is_null());
    if let Some(only) = only {
        rows = rows.filter(C::OrganizationId.eq(only));
    }
    if let Some(after) = after {
        rows = rows.filter(C::OrganizationId.gt(after));
    }
    rows.order_by_asc(C::OrganizationId).limit(limit).all(connection).await
}

/// How many organizations are deleted and not purged yet.
pub(super) async fn count_deleted(connection: &impl ConnectionTrait) -> Result<u64, DbErr> {
    organization::Entity::find().filter(organization::Column::DeletedAt.is_not_null()).count(connection).await
}

pub(super) async fn subscriptions(
    connection: &impl ConnectionTrait,
    organization_ids: &[Uuid],
) -> Result<Vec<subscription::Model>, DbErr> {
    let ids = sql::padded(organization_ids.iter().copied());
    subscription::Entity::find().filter(subscription::Column::OrganizationId.is_in(ids)).all(connection).await
}

pub(super) async fn roles(
    connection: &impl ConnectionTrait,
    organization_ids: &[Uuid],
) -> Result<Vec<custom_role::Model>, DbErr> {
    use custom_role::Column as C;
    let ids = sql::padded(organization_ids.iter().copied());
    let rows = custom_role::Entity::find().filter(C::OrganizationId.is_in(ids));
    rows.order_by_asc(C::OrganizationId).order_by_asc(C::Role).all(connection).await
}

/// The rows of a table whose key is the organization and something of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyset<C> {
    pub(super) organization: C,
    pub(super) key: C,
}

impl<C: ColumnTrait> Keyset<C> {
    /// A page of the rows from one organization to another, after a key.
    pub(super) async fn page<E: EntityTrait<Column = C>>(
        self,
        connection: &impl ConnectionTrait,
        (first, last): (Uuid, Uuid),
        after: Option<(Uuid, Value)>,
        limit: u64,
    ) -> Result<Vec<E::Model>, DbErr> {
        let rows = E::find().filter(self.organization.lte(last));
        let rows = match after {
            Some(place) => rows.filter(self.place().gt(written(place))),
            None => rows.filter(self.organization.gte(first)),
        };
        rows.order_by_asc(self.organization).order_by_asc(self.key).limit(limit).all(connection).await
    }

    fn place(self) -> SimpleExpr {
        Expr::tuple([Expr::col(self.organization.as_column_ref()), Expr::col(self.key.as_column_ref())])
    }
}

fn written((organization_id, key): (Uuid, Value)) -> SimpleExpr {
    Expr::tuple([Expr::val(organization_id), Expr::val(key)])
}

/// The assignments of the members of a page.
pub(super) async fn assignments(
    connection: &impl ConnectionTrait,
    members: &[membership::Model],
) -> Result<Vec<workspace_member::Model>, DbErr> {
    use workspace_member::Column as C;
    let (Some(first), Some(last)) = (members.first(), members.last()) else { return Ok(Vec::new()) };
    let of = |row: &membership::Model| written((row.organization_id, row.user_id.clone().into()));
    let place = Keyset { organization: C::OrganizationId, key: C::UserId };
    workspace_member::Entity::find()
        .filter(place.place().gte(of(first)))
        .filter(place.place().lte(of(last)))
        .order_by_asc(C::OrganizationId)
        .order_by_asc(C::UserId)
        .order_by_asc(C::WorkspaceId)
        .all(connection)
        .await
}
