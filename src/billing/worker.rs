//! What billing does by itself: one step of one organization at a time.
//!
//! Safe on any number of replicas: whoever holds the organization's lock looks at what is due then, and another who comes to it
//! passes on. A subscription at which billing fails is left alone for a while, longer each time, and stops no other.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use uuid::Uuid;

use super::account::Account;
use crate::app::App;
use crate::entity::subscription::{self, Column as S};
use crate::error::Error;
use crate::operation::{self, Duty, Itself, Unit};
use crate::worker::guarded;

/// How many subscriptions one look finds.
const AT_ONCE: u64 = 50;

/// How long a subscription at which billing failed is left alone at first, and at most.
const FIRST_PAUSE: TimeDelta = TimeDelta::minutes(1);
const LONGEST_PAUSE: TimeDelta = TimeDelta::days(1);

struct Step;

impl Duty for Step {
    type Outcome = bool;

    async fn run(&self, unit: &mut Unit<'_, Itself>) -> Result<bool, Error> {
        let mut account = Account::of(unit).await?;
        let used = unit.seats().await?.used();
        let stepped = account.step(used, unit.now)?;
        account.save(unit).await?;
        Ok(stepped)
    }
}

struct Pause;

impl Duty for Pause {
    type Outcome = ();

    async fn run(&self, unit: &mut Unit<'_, Itself>) -> Result<(), Error> {
        let row = super::store::load(unit.transaction(), unit.scope()).await?;
        let failures = row.failures.saturating_add(1);
        subscription::Entity::update_many()
            .filter(S::OrganizationId.eq(row.organization_id))
            .col_expr(S::Failures, Expr::value(failures))
            .col_expr(S::RetryAt, Expr::value(Some(unit.now + pause(failures))))
            .exec(unit.transaction())
            .await?;
        Ok(())
    }
}

/// How long a subscription is left alone after so many failures.
fn pause(failures: i64) -> TimeDelta {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    LONGEST_PAUSE.min(FIRST_PAUSE * 2_i32.pow(doublings))
}

/// Does one step of each of some subscriptions that are due. Says whether there may be more.
pub async fn step_some(app: &App) -> Result<bool, Error> {
    let due = list_due(app.database.reader(), app.clock.now()).await?;
    let mut more = false;
    for organization_id in due {
        match guarded(Box::pin(operation::undertake(app, organization_id, &Step, false))).await {
            Ok(Some(_)) => more = true,
            Ok(None) => {}
            Err(error) if error.is_conflict() => {}
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    org = %organization_id,
                    "billing failed at a subscription and leaves it alone for a while"
                );
                operation::undertake(app, organization_id, &Pause, true).await?;
            }
        }
    }
    Ok(more)
}

/// Lists organizations whose subscription billing has to look at, the longest due first.
async fn list_due(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Vec<Uuid>, DbErr> {
    subscription::Entity::find()
        .select_only()
        .column(S::OrganizationId)
        .filter(S::DueAt.lte(now))
        .filter(Condition::any().add(S::RetryAt.is_null()).add(S::RetryAt.lte(now)))
        .order_by_asc(S::DueAt)
        .limit(AT_ONCE)
        .into_tuple()
        .all(connection)
        .await
}
