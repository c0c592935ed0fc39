//! Webhooks: the endpoints, the rows.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait as _, LockBehavior, LockType, OnConflict, Query, SimpleExpr};
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
};
use serde_json::json;
use uuid::Uuid;

use super::{ALL, MOST};
use crate::auth::scope::Scope;
use crate::entity::event;
use crate::entity::webhook_delivery::{self, Column as D};
use crate::entity::webhook_endpoint::{self, Column as C, DisableReason};
use crate::error::Error;
use crate::sql;

/// The endpoint of this id that one of these organizations has, [`ALL`] standing for the configuration.
pub fn one(of: &[Uuid], endpoint_id: Uuid) -> Select<webhook_endpoint::Entity> {
    webhook_endpoint::Entity::find()
        .filter(C::OrganizationId.is_in(of.iter().copied()))
        .filter(C::EndpointId.eq(endpoint_id))
        .filter(C::DeletedAt.is_null())
}

/// An endpoint that was told nothing yet, and of which nothing is said.
#[must_use]
pub fn new(organization_id: Uuid, endpoint_id: Uuid, place: i64, now: DateTime<Utc>) -> webhook_endpoint::Model {
    webhook_endpoint::Model {
        organization_id,
        endpoint_id,
        url: String::new(),
        description: String::new(),
        types: json!([]),
        secret: Vec::new(),
        old_secrets: json!([]),
        created_at: now,
        updated_at: now,
        version: 1,
        disabled_at: None,
        disable_reason: None,
        deleted_at: None,
        place,
        due_at: None,
        paused_until: None,
        wakes: 0,
        claimed_until: None,
        failures: 0,
        failing_since: None,
        failure: String::new(),
        succeeded_at: None,
    }
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

/// Endpoints for which something is to be done, and by nobody yet.
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

/// Has endpoints told at once what they are to be told.
pub async fn hurry(
    connection: &impl ConnectionTrait,
    organization_id: Uuid,
    endpoint_ids: Vec<Uuid>,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    webhook_endpoint::Entity::update_many()
        .filter(C::OrganizationId.eq(organization_id))
        .filter(C::EndpointId.is_in(endpoint_ids))
        .col_expr(C::DueAt, Expr::value(Some(now)))
        .col_expr(C::PausedUntil, Expr::value(None::<DateTime<Utc>>))
        .col_expr(C::Wakes, Expr::col(C::Wakes).add(1))
        .exec(connection)
        .await
        .map(|_| ())
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
