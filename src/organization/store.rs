//! The rows of organizations.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, JoinType, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, RelationDef,
};
use uuid::Uuid;

use crate::auth::scope::Scope;
use crate::entity::{
    event, former_member, invitation, join_request, mail, membership, organization, recording, room_session,
    webhook_delivery, webhook_endpoint, workspace_member,
};
pub use crate::operation::store::find;
use crate::operation::store::membership_of;
use crate::sql;

/// Inserts an organization.
pub async fn insert(connection: &impl ConnectionTrait, row: organization::Model) -> Result<(), DbErr> {
    organization::Entity::insert(row.into_active_model()).exec_without_returning(connection).await.map(|_| ())
}

/// The fields of its own that an organization can change, what its settings say in its row, and its deletion.
pub async fn update_fields(connection: &impl ConnectionTrait, row: &organization::Model) -> Result<(), DbErr> {
    use organization::Column as C;
    organization::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .col_expr(C::Name, Expr::value(row.name.clone()))
        .col_expr(C::Slug, Expr::value(row.slug.clone()))
        .col_expr(C::Description, Expr::value(row.description.clone()))
        .col_expr(C::LogoUri, Expr::value(row.logo_uri.clone()))
        .col_expr(C::TimeZone, Expr::value(row.time_zone.clone()))
        .col_expr(C::DefaultOfUserId, Expr::value(row.default_of_user_id.clone()))
        .col_expr(C::RestrictsEmailDomains, Expr::value(row.restricts_email_domains))
        .col_expr(C::UpdatedAt, Expr::value(row.updated_at))
        .col_expr(C::DeletedAt, Expr::value(row.deleted_at))
        .col_expr(C::PurgeAt, Expr::value(row.purge_at))
        .col_expr(C::Version, Expr::value(row.version))
        .exec(connection)
        .await
        .map(|_| ())
}

/// Whether any organization has this slug.
pub async fn slug_exists(connection: &impl ConnectionTrait, slug: &str) -> Result<bool, DbErr> {
    let count = organization::Entity::find()
        .select_only()
        .column(organization::Column::OrganizationId)
        .filter(organization::Column::Slug.eq(slug))
        .limit(1)
        .into_tuple::<Uuid>()
        .one(connection)
        .await?;
    Ok(count.is_some())
}

/// Finds the organization that sign-up made for a user, with their membership of it.
pub async fn find_default_of(
    connection: &impl ConnectionTrait,
    user_id: &str,
) -> Result<Option<(organization::Model, Option<membership::Model>)>, DbErr> {
    organization::Entity::find()
        .filter(organization::Column::DefaultOfUserId.eq(user_id))
        .filter(organization::Column::DeletedAt.is_null())
        .join(JoinType::LeftJoin, membership_of(user_id.to_owned()))
        .select_also(membership::Entity)
        .one(connection)
        .await
}

/// Where a page of a user's organizations begins.
pub type Joined = (DateTime<Utc>, Uuid);

/// Lists a user's memberships with their organizations, the oldest first. The only list that crosses organizations by
/// design: it is the user's own.
pub async fn list_of_user(
    connection: &impl ConnectionTrait,
    user_id: &str,
    deleted_until: Option<DateTime<Utc>>,
    after: Option<Joined>,
    limit: u64,
) -> Result<Vec<(membership::Model, Option<organization::Model>)>, DbErr> {
    use membership::Column as M;
    let relation: RelationDef = membership::Entity::belongs_to(organization::Entity)
        .from(M::OrganizationId)
        .to(organization::Column::OrganizationId)
        .into();
    let shown = Condition::any().add(organization::Column::DeletedAt.is_null());
    let shown = match deleted_until {
        Some(now) => shown.add(organization::Column::PurgeAt.gt(now)),
        None => shown,
    };
    let mut list = membership::Entity::find()
        .filter(M::UserId.eq(user_id))
        .join(JoinType::InnerJoin, relation)
        .select_also(organization::Entity)
        .filter(shown)
        .order_by_asc(M::JoinedAt)
        .order_by_asc(M::OrganizationId)
        .limit(limit);
    if let Some((joined_at, organization_id)) = after {
        let position =
            Expr::tuple([Expr::col(M::JoinedAt.as_column_ref()), Expr::col(M::OrganizationId.as_column_ref())]);
        list = list.filter(position.gt(Expr::tuple([Expr::val(joined_at), Expr::val(organization_id)])));
    }
    list.all(connection).await
}

/// An organization whose purge time has come, locked for whoever purges it; one that another replica is purging is skipped.
pub async fn lock_purgeable(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Option<Uuid>, DbErr> {
    organization::Entity::find()
        .select_only()
        .column(organization::Column::OrganizationId)
        .filter(organization::Column::PurgeAt.lte(now))
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_tuple()
        .one(connection)
        .await
}

/// Deletes some of the rows of which an organization may have many, and says how many those were.
pub async fn delete_rows(connection: &impl ConnectionTrait, organization_id: Uuid, limit: u64) -> Result<u64, DbErr> {
    use former_member::Column as F;
    use {event::Column as E, invitation::Column as I, join_request::Column as J, membership::Column as M};
    use {recording::Column as R, room_session::Column as S, workspace_member::Column as W};
    use {webhook_delivery::Column as D, webhook_endpoint::Column as P};
    let (id, most) = (organization_id, limit);
    let assigned = [W::WorkspaceId, W::UserId];
    let assigned = delete_some::<workspace_member::Entity>(connection, W::OrganizationId, &assigned, id, most).await?;
    if assigned > 0 {
        // A member would take theirs along, however many those are.
        return Ok(assigned);
    }
    let events = delete_some::<event::Entity>(connection, E::OrganizationId, &[E::Number], id, most).await?;
    let members = delete_some::<membership::Entity>(connection, M::OrganizationId, &[M::UserId], id, most).await?;
    let invited =
        delete_some::<invitation::Entity>(connection, I::OrganizationId, &[I::InvitationId], id, most).await?;
    let sessions =
        delete_some::<room_session::Entity>(connection, S::OrganizationId, &[S::SessionId], id, most).await?;
    let recorded = delete_some::<recording::Entity>(connection, R::OrganizationId, &[R::RecordingId], id, most).await?;
    let gone = delete_some::<former_member::Entity>(connection, F::OrganizationId, &[F::UserId], id, most).await?;
    let letters =
        delete_some::<mail::Entity>(connection, mail::Column::OrganizationId, &[mail::Column::MailId], id, most)
            .await?;
    let asked =
        delete_some::<join_request::Entity>(connection, J::OrganizationId, &[J::JoinRequestId], id, most).await?;
    let endpoints =
        delete_some::<webhook_endpoint::Entity>(connection, P::OrganizationId, &[P::EndpointId], id, most).await?;
    let told = [D::EndpointId, D::EventNumber];
    let told = delete_some::<webhook_delivery::Entity>(connection, D::OrganizationId, &told, id, most).await?;
    Ok(events + members + invited + sessions + recorded + letters + asked + gone + told + endpoints)
}

/// Deletes some rows of an organization; `key` is what tells them apart in it.
async fn delete_some<E: EntityTrait>(
    connection: &impl ConnectionTrait,
    organization: E::Column,
    key: &[E::Column],
    organization_id: Uuid,
    limit: u64,
) -> Result<u64, DbErr> {
    let key: Vec<E::Column> = std::iter::once(organization).chain(key.iter().copied()).collect();
    sql::delete_some::<E>(connection, &key, organization.eq(organization_id), limit).await
}

/// Deletes an organization for good, with everything that belongs to it.
pub async fn delete(connection: &impl ConnectionTrait, organization_id: Uuid) -> Result<(), DbErr> {
    organization::Entity::delete_by_id(organization_id).exec(connection).await.map(|_| ())
}

/// The user for whom sign-up made it has gone.
pub async fn forget_default(connection: &impl ConnectionTrait, scope: Scope) -> Result<(), DbErr> {
    organization::Entity::update_many()
        .filter(organization::Column::OrganizationId.eq(scope.organization_id()))
        .col_expr(organization::Column::DefaultOfUserId, Expr::value(None::<String>))
        .exec(connection)
        .await
        .map(|_| ())
}
