//! Webhooks: what endpoints were told, the rows.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::ALL;
use crate::database::Transaction;
use crate::entity::webhook_delivery::{self, Column as D, State};
use crate::sql;

/// What is known of these events as an endpoint was told them: of which organization, and which number.
pub(super) async fn list_known(
    connection: &impl ConnectionTrait,
    endpoint_id: Uuid,
    events: &[(Uuid, i64)],
) -> Result<Vec<webhook_delivery::Model>, DbErr> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = || events.iter().map(|(_, number)| *number);
    let (first, last) = (numbers().min().unwrap_or_default(), numbers().max().unwrap_or_default());
    let among = Expr::tuple([Expr::col(D::OrganizationId), Expr::col(D::EventNumber)]);
    webhook_delivery::Entity::find()
        .filter(D::EndpointId.eq(endpoint_id))
        .filter(D::OrganizationId.is_in(sql::padded(events.iter().map(|(organization_id, _)| *organization_id))))
        .filter(D::EventNumber.between(first, last))
        .filter(among.in_tuples(sql::padded(events.iter().copied())))
        .all(connection)
        .await
}

/// Lists some deliveries of an endpoint that were set aside and are due, the longest first.
pub(super) async fn list_aside(
    connection: &impl ConnectionTrait,
    endpoint_id: Uuid,
    now: DateTime<Utc>,
    limit: u64,
) -> Result<Vec<webhook_delivery::Model>, DbErr> {
    webhook_delivery::Entity::find()
        .filter(D::EndpointId.eq(endpoint_id))
        .filter(D::DueAt.lte(now))
        .order_by_asc(D::DueAt)
        .order_by_asc(D::EventNumber)
        .limit(limit)
        .all(connection)
        .await
}

/// When the first of the deliveries of an endpoint that were set aside is due.
pub(super) async fn next_aside(
    connection: &impl ConnectionTrait,
    endpoint_id: Uuid,
) -> Result<Option<DateTime<Utc>>, DbErr> {
    webhook_delivery::Entity::find()
        .select_only()
        .column(D::DueAt)
        .filter(D::EndpointId.eq(endpoint_id))
        .filter(Expr::cust("webhook_delivery.due_at IS NOT NULL"))
        .order_by_asc(D::DueAt)
        .limit(1)
        .into_tuple()
        .one(connection)
        .await
}

/// The endpoint takes events again: what was set aside since it failed need not wait.
pub(super) async fn hasten(
    connection: &impl ConnectionTrait,
    endpoint_id: Uuid,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    webhook_delivery::Entity::update_many()
        .filter(D::EndpointId.eq(endpoint_id))
        .filter(D::DueAt.gt(now))
        .filter(D::CreatedAt.gte(since))
        .col_expr(D::DueAt, Expr::value(Some(now)))
        .exec(connection)
        .await
        .map(|_| ())
}

/// Writes deliveries, new ones and known ones.
pub(super) async fn save(transaction: &Transaction, rows: &[webhook_delivery::Model]) -> Result<(), DbErr> {
    let known = OnConflict::columns([D::OrganizationId, D::EndpointId, D::EventNumber])
        .update_columns([D::State, D::Attempts, D::Tries, D::DueAt, D::EndedAt])
        .action_and_where(Expr::cust("webhook_delivery.asked = excluded.asked"))
        .to_owned();
    for rows in sql::blocks(rows) {
        let rows = rows.iter().cloned().map(webhook_delivery::Model::into_active_model);
        let insert = webhook_delivery::Entity::insert_many(rows).on_conflict(known.clone());
        insert.exec_without_returning(transaction).await?;
    }
    Ok(())
}

/// Has deliveries of an endpoint sent again: these, or some of those that were given up. Gives the numbers of their events.
pub(super) async fn redeliver(
    connection: &impl ConnectionTrait,
    (organization_id, endpoint_id): (Uuid, Uuid),
    event_numbers: &[i64],
    limit: u64,
    now: DateTime<Utc>,
) -> Result<Vec<i64>, DbErr> {
    let of_it = || Condition::all().add(D::OrganizationId.eq(organization_id)).add(D::EndpointId.eq(endpoint_id));
    let which = if event_numbers.is_empty() {
        Expr::cust("webhook_delivery.state = 'failed'")
    } else {
        D::EventNumber.is_in(sql::padded(event_numbers.iter().copied()))
    };
    let found = webhook_delivery::Entity::find().select_only().column(D::EventNumber).filter(of_it()).filter(which);
    let found = found.order_by_asc(D::EventNumber).limit(limit);
    let numbers: Vec<i64> = found.into_tuple().all(connection).await?;
    if numbers.is_empty() {
        return Ok(numbers);
    }
    webhook_delivery::Entity::update_many()
        .filter(of_it())
        .filter(D::EventNumber.is_in(sql::padded(numbers.iter().copied())))
        // What is in line is sent in any case, and holds its place.
        .filter(Condition::any().add(D::State.ne(State::Retrying)).add(D::DueAt.is_not_null()))
        .col_expr(D::State, Expr::value(State::Retrying.to_value()))
        .col_expr(D::Attempts, Expr::value(0))
        .col_expr(D::Asked, Expr::col(D::Asked).add(1))
        .col_expr(D::DueAt, Expr::value(Some(now)))
        .col_expr(D::EndedAt, Expr::value(None::<DateTime<Utc>>))
        .exec(connection)
        .await?;
    Ok(numbers)
}

/// Gives up deliveries of an endpoint that wait.
pub(super) async fn give_up(
    connection: &impl ConnectionTrait,
    (organization_id, endpoint_id): (Uuid, Uuid),
    which: Condition,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    webhook_delivery::Entity::update_many()
        .filter(D::OrganizationId.eq(organization_id))
        .filter(D::EndpointId.eq(endpoint_id))
        .filter(D::State.eq(State::Retrying))
        .filter(which)
        .col_expr(D::State, Expr::value(State::Failed.to_value()))
        .col_expr(D::DueAt, Expr::value(None::<DateTime<Utc>>))
        .col_expr(D::EndedAt, Expr::value(Some(now)))
        .exec(connection)
        .await
        .map(|_| ())
}

/// Forgets what of an endpoint waits in line: what is told next is decided anew.
pub(super) async fn forget_line(
    connection: &impl ConnectionTrait,
    (organization_id, endpoint_id): (Uuid, Uuid),
) -> Result<(), DbErr> {
    let mut waiting = webhook_delivery::Entity::delete_many()
        .filter(D::EndpointId.eq(endpoint_id))
        .filter(Expr::cust("webhook_delivery.state <> 'delivered'"))
        .filter(D::State.eq(State::Retrying))
        .filter(D::DueAt.is_null());
    if organization_id != ALL {
        waiting = waiting.filter(D::OrganizationId.eq(organization_id));
    }
    waiting.exec(connection).await.map(|_| ())
}

/// Forgets some deliveries that ended before a time. Says how many.
pub(super) async fn forget_some(
    connection: &impl ConnectionTrait,
    before: DateTime<Utc>,
    limit: u64,
) -> Result<u64, DbErr> {
    let key = [D::OrganizationId, D::EndpointId, D::EventNumber];
    sql::delete_some::<webhook_delivery::Entity>(connection, &key, D::EndedAt.lt(before), limit).await
}
