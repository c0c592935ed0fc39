//! The use of meters: each report once, in whatever order they come.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, JoinType,
    QueryFilter as _, QuerySelect as _, RelationDef,
};

use super::calendar::{self, Span};
use super::catalogue::{Aggregation, Catalogue};
use super::money::MOST;
use super::subscription::Subscription;
use crate::auth::scope::Scope;
use crate::entity::{subscription, usage_report, usage_total};
use crate::error::{Billing, Error, OnConstraint as _};
use crate::operation::Unit;
use crate::sql;

/// The time in which the use of a meter is counted together with what is used of it at an instant: the billing period, but for
/// that what was used before an add-on of the meter was had is not of one count with what is used since.
#[must_use]
pub fn counted_at(subscription: &Subscription, meter: &str, at: DateTime<Utc>) -> Span {
    let whole = period_at(subscription, at);
    let mut period = whole;
    let of_meter = subscription.agreement.add_ons.iter().filter(|held| held.terms.meter.as_deref() == Some(meter));
    let within = |since: &DateTime<Utc>| whole.start < *since && *since < whole.end;
    for since in of_meter.filter_map(|held| held.since).filter(within) {
        if at < since {
            period.end = Ord::min(period.end, since);
        } else {
            period.start = Ord::max(period.start, since);
        }
    }
    period
}

/// The billing period that an instant is in, also one before the period under way.
#[must_use]
pub fn period_at(subscription: &Subscription, at: DateTime<Utc>) -> Span {
    let agreement = &subscription.agreement;
    if at >= agreement.period.start {
        return subscription.period_at(at);
    }
    // Before the first there was none; and none reaches into the one under way, whatever was counted by another anchor.
    let found = calendar::period_of(agreement.anchor, agreement.terms.price.period, at);
    let end = Ord::min(found.map_or(agreement.anchor, |found| found.end), agreement.period.start);
    let start = found.map_or(DateTime::UNIX_EPOCH, |found| found.start);
    Span { start, end }
}

/// Finds the reports with these ids.
pub async fn find_reports(
    connection: &impl ConnectionTrait,
    scope: Scope,
    report_ids: &[&str],
) -> Result<Vec<usage_report::Model>, DbErr> {
    use usage_report::Column as R;
    usage_report::Entity::find()
        .filter(R::OrganizationId.eq(scope.organization_id()))
        .filter(R::ReportId.is_in(sql::padded(report_ids.iter().copied())))
        .all(connection)
        .await
}

/// Finds what was used of every meter in the period that an instant is in.
pub async fn totals_at(
    connection: &impl ConnectionTrait,
    scope: Scope,
    at: DateTime<Utc>,
) -> Result<Vec<usage_total::Model>, DbErr> {
    let mut totals = totals_after(connection, scope, at).await?;
    totals.retain(|total| total.period_start <= at);
    Ok(totals)
}

/// Finds what was used of every meter in the periods that end after an instant.
async fn totals_after(
    connection: &impl ConnectionTrait,
    scope: Scope,
    at: DateTime<Utc>,
) -> Result<Vec<usage_total::Model>, DbErr> {
    use usage_total::Column as U;
    usage_total::Entity::find()
        .filter(U::OrganizationId.eq(scope.organization_id()))
        .filter(U::PeriodEnd.gt(at))
        .all(connection)
        .await
}

/// Loads the subscription, and what was used of a meter in the period under way, in one round trip.
pub async fn subscription_with_use(
    connection: &impl ConnectionTrait,
    scope: Scope,
    meter: &str,
    now: DateTime<Utc>,
) -> Result<(subscription::Model, Option<i64>), Error> {
    use usage_total::Column as U;
    let relation: RelationDef = subscription::Entity::belongs_to(usage_total::Entity)
        .from(subscription::Column::OrganizationId)
        .to(U::OrganizationId)
        .into();
    let meter = meter.to_owned();
    let found = subscription::Entity::find_by_id(scope.organization_id())
        .join(
            JoinType::LeftJoin,
            relation.on_condition(move |_, totals| {
                Condition::all()
                    .add(Expr::col((totals.clone(), U::Meter)).eq(meter.clone()))
                    .add(Expr::col((totals.clone(), U::PeriodStart)).lte(now))
                    .add(Expr::col((totals, U::PeriodEnd)).gt(now))
            }),
        )
        .select_also(usage_total::Entity)
        .one(connection)
        .await?;
    let (subscription, total) = found.ok_or(Error::defect("an organization without a subscription"))?;
    Ok((subscription, total.map(|total| total.used)))
}

/// Counts reports that are new.
pub async fn count<A>(
    unit: &Unit<'_, A>,
    subscription: &Subscription,
    reports: &[usage_report::Model],
    aggregations: &BTreeMap<&str, Aggregation>,
) -> Result<(), Error> {
    sql::insert_all(unit.transaction(), reports).await.on_constraint("usage_report_once", || Error::Conflict)?;
    let mut by_period: BTreeMap<(String, DateTime<Utc>), (Span, i64)> = BTreeMap::new();
    let Some(earliest) = reports.iter().map(|report| report.used_at).min() else { return Ok(()) };
    let known = totals_after(unit.transaction(), unit.scope(), earliest).await?;
    for report in reports {
        let at = report.used_at;
        let of_period = |total: &&usage_total::Model| {
            total.meter == report.meter && total.period_start <= at && total.period_end > at
        };
        // A period that was counted keeps its bounds, even if periods are counted otherwise since.
        let period = known.iter().find(of_period).map_or_else(
            || counted_at(subscription, &report.meter, at),
            |total| Span { start: total.period_start, end: total.period_end },
        );
        let (_, used) = by_period.entry((report.meter.clone(), period.start)).or_insert((period, 0));
        *used = match aggregations.get(report.meter.as_str()).copied().unwrap_or_default() {
            Aggregation::Sum => used.saturating_add(report.quantity),
            Aggregation::Maximum => Ord::max(*used, report.quantity),
        };
    }
    for ((meter, _), (period, used)) in by_period {
        let aggregation = aggregations.get(meter.as_str()).copied().unwrap_or_default();
        let most = most_of(subscription, &unit.app.catalogue, &meter);
        add(unit, meter, period, used, aggregation, most).await?;
    }
    Ok(())
}

/// The most of a meter that can be counted in a period: what costs more than can be charged would stop all billing.
fn most_of(subscription: &Subscription, catalogue: &Catalogue, meter: &str) -> i64 {
    /// The most that the use of one meter can cost in a period, so that many fit on an invoice, and at higher prices as well.
    const COST: i128 = MOST as i128 / 1_000;
    let held = subscription
        .agreement
        .add_ons
        .iter()
        .map(|held| &held.terms)
        .filter(|terms| terms.meter.as_deref() == Some(meter));
    let held = held.map(|terms| (terms.unit_price_minor, terms.unit_size));
    let offered = catalogue.add_ons_on(meter);
    let offered =
        offered.flat_map(|add_on| add_on.prices.iter().map(|price| (price.unit_price_minor, add_on.unit_size)));
    let fits = |(price, unit_size): (i64, i64)| (COST * i128::from(unit_size)).checked_div(price.into());
    let most = held.chain(offered).filter_map(fits).filter_map(|most| i64::try_from(most).ok()).min();
    most.map_or(MOST, |most| Ord::min(most, MOST))
}

async fn add<A>(
    unit: &Unit<'_, A>,
    meter: String,
    period: Span,
    used: i64,
    aggregation: Aggregation,
    most: i64,
) -> Result<(), Error> {
    use usage_total::Column as U;
    let organization_id = unit.scope().organization_id();
    let key = (organization_id, meter.clone(), period.start);
    let before = usage_total::Entity::find_by_id(key).one(unit.transaction()).await?;
    let (had, billed) = before.map_or((0, 0), |total| (total.used, total.billed));
    let used = match aggregation {
        Aggregation::Sum => had.saturating_add(used),
        Aggregation::Maximum => Ord::max(had, used),
    };
    if used > most {
        return Err(Billing::AmountTooLarge.into());
    }
    let row =
        usage_total::Model { organization_id, meter, period_start: period.start, period_end: period.end, used, billed };
    let there = OnConflict::columns([U::OrganizationId, U::Meter, U::PeriodStart]).update_column(U::Used).to_owned();
    let insert = usage_total::Entity::insert(row.into_active_model()).on_conflict(there);
    insert.exec_without_returning(unit.transaction()).await?;
    Ok(())
}
