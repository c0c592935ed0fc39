//! Webhooks: the rows.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait as _, LockBehavior, LockType, OnConflict, Query, SimpleExpr};
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use serde_json::json;
use uuid::Uuid;

use super::{ALL, MOST};
use crate::auth::scope::Scope;
use crate::entity::event;
use crate::entity::webhook_delivery::{self, Column as D, State};
use crate::entity::webhook_endpoint::{self, Column as C, DisableReason};
use crate::error::Error;
use crate::sql;

/// Finds an endpoint of an organization, or with [`ALL`] one of the configuration.
pub async fn find(
    connection: &impl ConnectionTrait,
    organization_id: Uuid,
    endpoint_id: Uuid,
) -> Result<Option<webhook_endpoint::Model>, DbErr> {
    webhook_endpoint::Entity::find_by_id((organization_id, endpoint_id))
        .filter(C::DeletedAt.is_null())
        .one(connection)
        .await
}

/// Lists the endpoints of an organization, the oldest first.
pub async fn list(connection: &impl ConnectionTrait, scope: Scope) -> Result<Vec<webhook_endpoint::Model>, DbErr> {
    webhook_endpoint::Entity::find()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .filter(C::DeletedAt.is_null())
        .order_by_asc(C::EndpointId)
        .all(connection)
        .await
}

/// Whether the organization can have one more.
pub async fn check_room(connection: &impl ConnectionTrait, scope: Scope) -> Result<(), Error> {
    let endpoints = webhook_endpoint::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()));
    let made = endpoints.filter(C::DeletedAt.is_null()).count(connection).await?;
    if usize::try_from(made).is_ok_and(|made| made < MOST) {
        return Ok(());
    }
    Err(Error::LimitReached { of: "webhook endpoints", maximum: MOST })
}

/// Inserts an endpoint.
pub async fn insert(connection: &impl ConnectionTrait, row: webhook_endpoint::Model) -> Result<(), DbErr> {
    let insert = webhook_endpoint::Entity::insert(row.into_active_model());
    insert.exec_without_returning(connection).await.map(|_| ())
}

/// Inserts an endpoint of the configuration, unless it is there.
pub async fn insert_unless_there(connection: &impl ConnectionTrait, row: webhook_endpoint::Model) -> Result<(), DbErr> {
    let once = OnConflict::columns([C::OrganizationId, C::EndpointId]).do_nothing().to_owned();
    let insert = webhook_endpoint::Entity::insert(row.into_active_model()).on_conflict(once);
    insert.exec_without_returning(connection).await.map(|_| ())
}

/// A change of an endpoint.
fn of(organization_id: Uuid, endpoint_id: Uuid) -> sea_orm::UpdateMany<webhook_endpoint::Entity> {
    let of_it = webhook_endpoint::Entity::update_many().filter(C::OrganizationId.eq(organization_id));
    of_it.filter(C::EndpointId.eq(endpoint_id))
}

/// Writes what somebody can change of an endpoint; with `afresh` also where it stands, and has it told at once. Whoever is telling it
/// notes nothing more: what was told by what held before is told again.
pub async fn update(
    connection: &impl ConnectionTrait,
    row: &webhook_endpoint::Model,
    afresh: bool,
) -> Result<(), DbErr> {
    let mut update = of(row.organization_id, row.endpoint_id)
        .col_expr(C::Url, Expr::value(row.url.as_str()))
        .col_expr(C::Description, Expr::value(row.description.as_str()))
        .col_expr(C::Types, Expr::value(row.types.clone()))
        .col_expr(C::Secret, Expr::value(row.secret.clone()))
        .col_expr(C::OldSecrets, Expr::value(row.old_secrets.clone()))
        .col_expr(C::UpdatedAt, Expr::value(row.updated_at))
        .col_expr(C::Version, Expr::value(row.version))
        .col_expr(C::DisabledAt, Expr::value(row.disabled_at))
        .col_expr(C::DisableReason, Expr::value(row.disable_reason.map(|reason| reason.to_value())))
        .col_expr(C::ClaimedUntil, Expr::value(None::<DateTime<Utc>>))
        .col_expr(C::Wakes, Expr::col(C::Wakes).add(1));
    if afresh {
        update = update
            .col_expr(C::Place, Expr::value(row.place))
            .col_expr(C::Failures, Expr::value(row.failures))
            .col_expr(C::FailingSince, Expr::value(row.failing_since))
            .col_expr(C::Failure, Expr::value(row.failure.as_str()))
            .col_expr(C::DueAt, Expr::value(row.due_at))
            .col_expr(C::PausedUntil, Expr::value(row.paused_until));
    }
    update.exec(connection).await.map(|_| ())
}

/// Finds an endpoint that is told what happens in an organization: its own or, if so it is, one of the configuration.
pub async fn find_told(
    connection: &impl ConnectionTrait,
    organization_id: Uuid,
    endpoint_id: Uuid,
    or_of_platform: bool,
) -> Result<Option<webhook_endpoint::Model>, DbErr> {
    match find(connection, organization_id, endpoint_id).await? {
        None if or_of_platform => find(connection, ALL, endpoint_id).await,
        found => Ok(found),
    }
}

/// The same, locked.
pub async fn lock_told(
    transaction: &DatabaseTransaction,
    organization_id: Uuid,
    endpoint_id: Uuid,
    or_of_platform: bool,
) -> Result<Option<webhook_endpoint::Model>, DbErr> {
    match lock(transaction, organization_id, endpoint_id).await? {
        None if or_of_platform => lock(transaction, ALL, endpoint_id).await,
        found => Ok(found),
    }
}

/// Deletes an endpoint: it is told nothing more, and its secrets are gone. What it was told follows in small steps.
pub async fn delete(
    connection: &impl ConnectionTrait,
    (organization_id, endpoint_id): (Uuid, Uuid),
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    of(organization_id, endpoint_id)
        .col_expr(C::DeletedAt, Expr::value(Some(now)))
        .col_expr(C::DisabledAt, Expr::value(Some(now)))
        .col_expr(C::DisableReason, Expr::value(Some(DisableReason::Requested.to_value())))
        .col_expr(C::ClaimedUntil, Expr::value(None::<DateTime<Utc>>))
        .col_expr(C::Url, Expr::value(""))
        .col_expr(C::Secret, Expr::value(Vec::<u8>::new()))
        .col_expr(C::OldSecrets, Expr::value(json!([])))
        .col_expr(C::Version, Expr::col(C::Version).add(1))
        .exec(connection)
        .await
        .map(|_| ())
}

/// Forgets some of what an endpoint was told that is deleted and, when there is nothing left, the endpoint itself. Says whether there
/// was anything to do.
pub async fn forget_deleted(connection: &impl ConnectionTrait, limit: u64) -> Result<bool, DbErr> {
    let deleted = webhook_endpoint::Entity::find().filter(C::DeletedAt.is_not_null()).order_by_asc(C::DeletedAt);
    // Another server at the same one would find nothing left, before it is so.
    let deleted = deleted.limit(1).lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    let Some(row) = deleted.one(connection).await? else { return Ok(false) };
    let told = D::OrganizationId.eq(row.organization_id).and(D::EndpointId.eq(row.endpoint_id));
    let key = [D::OrganizationId, D::EndpointId, D::EventNumber];
    if sql::delete_some::<webhook_delivery::Entity>(connection, &key, told, limit).await? == 0 {
        webhook_endpoint::Entity::delete_by_id((row.organization_id, row.endpoint_id)).exec(connection).await?;
    }
    Ok(true)
}

/// Whether an endpoint is as it was read by whoever claimed it: not changed, disabled, deleted or taken over since.
pub async fn is_current(connection: &impl ConnectionTrait, row: &webhook_endpoint::Model) -> Result<bool, DbErr> {
    let same = webhook_endpoint::Entity::find_by_id((row.organization_id, row.endpoint_id))
        .filter(C::Version.eq(row.version))
        .filter(C::ClaimedUntil.eq(row.claimed_until));
    Ok(same.count(connection).await? > 0)
}

/// Whether an event is one that an endpoint may have to be told: its organization's or, of the configuration, any of these.
pub fn concerns_an_endpoint(platform: Vec<Uuid>) -> Condition {
    let endpoint = |column: C| Expr::col((webhook_endpoint::Entity, column));
    let of_all = endpoint(C::OrganizationId).eq(ALL).and(endpoint(C::EndpointId).is_in(platform));
    let told = Query::select()
        .expr(Expr::val(1))
        .from(webhook_endpoint::Entity)
        .and_where(endpoint(C::DisabledAt).is_null())
        .and_where(endpoint(C::OrganizationId).equals((event::Entity, event::Column::OrganizationId)).or(of_all))
        .to_owned();
    Condition::all().add(Expr::exists(told))
}

/// Says that the endpoints of these organizations have something to be told, and those of the configuration.
pub async fn wake(connection: &impl ConnectionTrait, of: &[Uuid], now: DateTime<Utc>) -> Result<(), DbErr> {
    let organizations = of.iter().copied().chain([ALL]);
    webhook_endpoint::Entity::update_many()
        .filter(C::OrganizationId.is_in(sql::padded(organizations)))
        .filter(C::DisabledAt.is_null())
        .col_expr(C::DueAt, soon(now))
        .col_expr(C::Wakes, Expr::col(C::Wakes).add(1))
        .exec(connection)
        .await
        .map(|_| ())
}

/// Now or, if it is left alone for a while, when that is over; whoever waits for their turn keeps their place.
fn soon(now: DateTime<Utc>) -> SimpleExpr {
    CaseStatement::new()
        .case(C::PausedUntil.gt(now), Expr::col(C::PausedUntil))
        .case(C::DueAt.lte(now), Expr::col(C::DueAt))
        .finally(Expr::value(Some(now)))
        .into()
}

/// Endpoints for which something is to be done, and by nobody yet; of the configuration's, only these.
fn due(now: DateTime<Utc>) -> Condition {
    let unclaimed = Condition::any().add(C::ClaimedUntil.is_null()).add(C::ClaimedUntil.lte(now));
    // Written out, so that PostgreSQL can tell that the partial index has them all.
    Condition::all().add(Expr::cust("webhook_endpoint.disabled_at IS NULL")).add(C::DueAt.lte(now)).add(unclaimed)
}

/// Lists some endpoints for which something is to be done, the longest due first: of the configuration these, or those of
/// organizations, but for these. If so it is, none that another looks at, and nobody else looks at them.
pub async fn list_due(
    connection: &impl ConnectionTrait,
    whose: &Whose,
    now: DateTime<Utc>,
    limit: u64,
    locked: bool,
) -> Result<Vec<webhook_endpoint::Model>, DbErr> {
    let whose = match whose {
        Whose::Platform(these) => C::OrganizationId.eq(ALL).and(C::EndpointId.is_in(these.iter().copied())),
        Whose::Organizations { but } => C::OrganizationId.is_not_in(sql::padded(but.iter().copied().chain([ALL]))),
    };
    let rows = webhook_endpoint::Entity::find().filter(due(now)).filter(whose).order_by_asc(C::DueAt).limit(limit);
    if locked {
        return rows.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked).all(connection).await;
    }
    rows.all(connection).await
}

/// Whose endpoints are looked for.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Those of the configuration that have these ids.
    Platform(Vec<Uuid>),
    /// Those of all organizations but these.
    Organizations {
        /// Of which enough are being told.
        but: Vec<Uuid>,
    },
}

/// Claims endpoints that are locked until a time.
pub async fn claim(
    connection: &impl ConnectionTrait,
    rows: &mut [webhook_endpoint::Model],
    until: DateTime<Utc>,
) -> Result<(), DbErr> {
    for row in rows {
        let claim = of(row.organization_id, row.endpoint_id).col_expr(C::ClaimedUntil, Expr::value(Some(until)));
        claim.exec(connection).await?;
        row.claimed_until = Some(until);
    }
    Ok(())
}

/// How an endpoint stands after a round.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Up to where it was told what happens.
    pub place: i64,
    /// How often it failed since it last took an event, since when, and why.
    pub failures: i64,
    /// See `failures`.
    pub failing_since: Option<DateTime<Utc>>,
    /// See `failures`.
    pub failure: String,
    /// When it took an event last.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// Until when it is left alone, because it failed.
    pub paused_until: Option<DateTime<Utc>>,
    /// When it is to be told something next, unless there is more by now.
    pub due_at: Option<DateTime<Utc>>,
}

/// Locks an endpoint of an organization, or with [`ALL`] one of the configuration.
pub async fn lock(
    transaction: &DatabaseTransaction,
    organization_id: Uuid,
    endpoint_id: Uuid,
) -> Result<Option<webhook_endpoint::Model>, DbErr> {
    webhook_endpoint::Entity::find_by_id((organization_id, endpoint_id))
        .filter(C::DeletedAt.is_null())
        .lock_exclusive()
        .one(transaction)
        .await
}

/// Notes how an endpoint stands, for whoever claimed it and has locked it, and gives it up.
pub async fn conclude(
    connection: &impl ConnectionTrait,
    row: &webhook_endpoint::Model,
    standing: &Standing,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let due_at: SimpleExpr = match standing.paused_until {
        Some(until) => Expr::value(Some(until)),
        // Somebody may have said that there is more.
        None => CaseStatement::new()
            .case(C::Wakes.eq(row.wakes), Expr::value(standing.due_at))
            .finally(Expr::value(Some(now)))
            .into(),
    };
    of(row.organization_id, row.endpoint_id)
        .col_expr(C::ClaimedUntil, Expr::value(None::<DateTime<Utc>>))
        .col_expr(C::Place, Expr::value(standing.place))
        .col_expr(C::Failures, Expr::value(standing.failures))
        .col_expr(C::FailingSince, Expr::value(standing.failing_since))
        .col_expr(C::Failure, Expr::value(standing.failure.as_str()))
        .col_expr(C::SucceededAt, Expr::value(standing.succeeded_at))
        .col_expr(C::PausedUntil, Expr::value(standing.paused_until))
        .col_expr(C::DueAt, due_at)
        .exec(connection)
        .await
        .map(|_| ())
}

/// Disables an endpoint that is not. Says whether it was not.
pub async fn disable(
    connection: &impl ConnectionTrait,
    row: &webhook_endpoint::Model,
    reason: DisableReason,
    now: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let disabled = of(row.organization_id, row.endpoint_id)
        .filter(C::DisabledAt.is_null())
        // It is still the one that failed.
        .filter(C::Version.eq(row.version))
        .col_expr(C::DisabledAt, Expr::value(Some(now)))
        .col_expr(C::DisableReason, Expr::value(Some(reason.to_value())))
        .col_expr(C::UpdatedAt, Expr::value(now))
        .col_expr(C::Version, Expr::col(C::Version).add(1))
        .exec(connection)
        .await?;
    Ok(disabled.rows_affected == 1)
}

/// What is known of these events as an endpoint was told them: of which organization, and which number.
pub async fn list_known(
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
pub async fn list_aside(
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
pub async fn next_aside(connection: &impl ConnectionTrait, endpoint_id: Uuid) -> Result<Option<DateTime<Utc>>, DbErr> {
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
pub async fn hasten(
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
pub async fn save(transaction: &DatabaseTransaction, rows: &[webhook_delivery::Model]) -> Result<(), DbErr> {
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
pub async fn redeliver(
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
pub async fn give_up(
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

/// Has an endpoint told at once what it is to be told.
pub async fn hurry(
    connection: &impl ConnectionTrait,
    row: &webhook_endpoint::Model,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    of(row.organization_id, row.endpoint_id)
        .col_expr(C::DueAt, Expr::value(Some(now)))
        .col_expr(C::PausedUntil, Expr::value(None::<DateTime<Utc>>))
        .col_expr(C::Wakes, Expr::col(C::Wakes).add(1))
        .exec(connection)
        .await
        .map(|_| ())
}

/// Has the endpoints of the configuration told at once: they may be others than before.
pub async fn begin_afresh(
    connection: &impl ConnectionTrait,
    platform: Vec<Uuid>,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    webhook_endpoint::Entity::update_many()
        .filter(C::OrganizationId.eq(ALL))
        .filter(C::EndpointId.is_in(platform))
        .col_expr(C::DueAt, Expr::value(Some(now)))
        .col_expr(C::PausedUntil, Expr::value(None::<DateTime<Utc>>))
        .col_expr(C::Wakes, Expr::col(C::Wakes).add(1))
        .exec(connection)
        .await
        .map(|_| ())
}

/// Forgets what of an endpoint waits in line: what is told next is decided anew.
pub async fn forget_line(
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
pub async fn forget_some(connection: &impl ConnectionTrait, before: DateTime<Utc>, limit: u64) -> Result<u64, DbErr> {
    let key = [D::OrganizationId, D::EndpointId, D::EventNumber];
    sql::delete_some::<webhook_delivery::Entity>(connection, &key, D::EndedAt.lt(before), limit).await
}

/// How many endpoints fail, and how many are disabled because they did not take what they were told.
pub async fn count_ill(connection: &impl ConnectionTrait, platform: Vec<Uuid>) -> Result<(u64, u64), DbErr> {
    let is_there = Condition::any().add(C::OrganizationId.ne(ALL)).add(C::EndpointId.is_in(platform));
    // Written out, so that PostgreSQL can tell that the partial index has them all.
    let failing = Expr::cust("webhook_endpoint.failures > 0 AND webhook_endpoint.disabled_at IS NULL");
    let failing = Condition::all().add(failing).add(is_there);
    let disabled = Expr::cust(
        "webhook_endpoint.disabled_at IS NOT NULL AND webhook_endpoint.disable_reason IN ('failing', 'gone') \
         AND webhook_endpoint.deleted_at IS NULL",
    );
    let failing = webhook_endpoint::Entity::find().filter(failing).count(connection).await?;
    Ok((failing, webhook_endpoint::Entity::find().filter(disabled).count(connection).await?))
}
