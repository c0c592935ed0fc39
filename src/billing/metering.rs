//! The use of meters: each report once, in whatever order they come.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, JoinType,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, RelationDef,
};

use super::calendar::{self, Span};
use super::catalogue::{Aggregation, Catalogue, Period};
use super::money::MOST;
use super::subscription::{Held, Subscription};
use crate::auth::scope::Scope;
use crate::entity::{subscription, usage_report, usage_total};
use crate::error::{Billing, Error, OnConstraint as _};
use crate::operation::Unit;
use crate::sql;

/// No period is longer.
pub const LONGEST_PERIOD: TimeDelta = TimeDelta::days(366);

/// The billing period that an instant is in, also one before the period under way.
#[must_use]
pub fn period_at(subscription: &Subscription, at: DateTime<Utc>) -> Span {
    let agreement = &subscription.agreement;
    let current = subscription.period_at(at);
    if current.start <= at {
        return current;
    }
    // Before the first there was none; and none reaches into the one under way, whatever was counted by another anchor.
    let found = calendar::period_of(agreement.anchor, agreement.terms.price.period, at);
    let began = Some(agreement.period.start).filter(|start| at < *start).unwrap_or(agreement.anchor);
    let end = Ord::min(found.map_or(agreement.anchor, |found| found.end), began);
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
        .order_by_asc(U::PeriodEnd)
        .all(connection)
        .await
}

/// Loads the subscription, and what was used of a meter in the period under way, in one round trip.
pub async fn subscription_with_use(
    connection: &impl ConnectionTrait,
    scope: Scope,
    meter: &str,
    now: DateTime<Utc>,
) -> Result<(subscription::Model, Option<usage_total::Model>), Error> {
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
    found.ok_or(Error::defect("an organization without a subscription"))
}

/// Counts reports that are new.
pub async fn count<A>(
    unit: &Unit<'_, A>,
    subscription: &Subscription,
    reports: &[usage_report::Model],
    aggregations: &BTreeMap<&str, Aggregation>,
) -> Result<(), Error> {
    sql::insert_all(unit.transaction(), reports).await.on_constraint("usage_report_once", || Error::Conflict)?;
    let mut by_period: BTreeMap<(String, DateTime<Utc>), Counted> = BTreeMap::new();
    let Some(earliest) = reports.iter().map(|report| report.used_at).min() else { return Ok(()) };
    // Also those that have ended before, for none may overlap.
    let known = totals_after(unit.transaction(), unit.scope(), earliest - LONGEST_PERIOD).await?;
    let span = |total: usage_total::Model| (total.meter, Span { start: total.period_start, end: total.period_end });
    let mut known: Vec<(String, Span)> = known.into_iter().map(span).collect();
    // One after the other, whatever order they came in: what a report begins, those after it are counted in.
    let mut reports: Vec<&usage_report::Model> = reports.iter().collect();
    reports.sort_by_key(|report| report.used_at);
    for report in reports {
        let at = report.used_at;
        // A period that was counted keeps its bounds, even if periods are counted otherwise since.
        let found = known.iter().find(|(meter, span)| *meter == report.meter && span.start <= at && span.end > at);
        let period = if let Some((_, span)) = found {
            *span
        } else {
            let of_meter = known.iter().filter(|(meter, _)| *meter == report.meter).map(|(_, span)| *span);
            let period = between(of_meter, at, period_at(subscription, at), subscription.length());
            known.push((report.meter.clone(), period));
            period
        };
        let aggregation = aggregations.get(report.meter.as_str()).copied().unwrap_or_default();
        let empty = Counted { period, aggregation, free: 0, used: 0 };
        let counted = by_period.entry((report.meter.clone(), period.start)).or_insert(empty);
        // Late for the time before the add-on was had: counted, and not charged.
        let free = is_free(subscription, &report.meter, at);
        let sum = if free { &mut counted.free } else { &mut counted.used };
        *sum = aggregation.of(*sum, report.quantity);
    }
    for ((meter, _), counted) in by_period {
        add(unit, subscription, meter, counted).await?;
    }
    Ok(())
}

/// What of a period lies between what was counted of a meter before an instant and after it: no two counts overlap. Where a count
/// went on into the period, the next lasts a whole period from its end, so that to begin anew again and again makes no short ones.
fn between(known: impl Iterator<Item = Span>, at: DateTime<Utc>, period: Span, length: Period) -> Span {
    let (before, after): (Vec<Span>, Vec<Span>) = known.partition(|span| span.end <= at);
    let ended = before.iter().map(|span| span.end).max().filter(|ended| *ended > period.start);
    let span = match ended {
        Some(ended) if period.start > DateTime::UNIX_EPOCH => calendar::period_of(ended, length, at),
        Some(ended) => Some(Span { start: ended, ..period }),
        None => None,
    };
    let Span { start, end } = span.unwrap_or(period);
    Span { start, end: after.iter().map(|span| span.start).fold(end, Ord::min) }
}

/// What is counted anew of a meter in a period.
#[derive(Clone, Copy, Debug)]
struct Counted {
    period: Span,
    aggregation: Aggregation,
    /// Of the time before the add-on was had.
    free: i64,
    used: i64,
}

/// Whether what was used of a meter then is not charged: its add-ons are had only since.
fn is_free(subscription: &Subscription, meter: &str, at: DateTime<Utc>) -> bool {
    let mut of_meter =
        subscription.agreement.add_ons.iter().filter(|held| held.terms.meter.as_deref() == Some(meter)).peekable();
    of_meter.peek().is_some() && of_meter.all(|held| held.since.is_some_and(|since| at < since))
}

/// The add-on that charges a meter.
fn metered<'a>(subscription: &'a Subscription, meter: &str) -> Option<&'a Held> {
    subscription.agreement.add_ons.iter().find(|held| held.terms.meter.as_deref() == Some(meter))
}

/// The most of a meter that can be counted in a period: what costs more than can be charged would stop all billing.
fn most_of(subscription: &Subscription, catalogue: &Catalogue, meter: &str) -> i64 {
    /// The most that the use of one meter can cost in a period, so that many fit on an invoice, and at higher prices as well.
    const COST: i128 = MOST as i128 / 1_000;
    let held = metered(subscription, meter).map(|held| (held.terms.unit_price_minor, held.terms.unit_size));
    let offered = catalogue.add_ons_on(meter);
    let offered =
        offered.flat_map(|add_on| add_on.prices.iter().map(|price| (price.unit_price_minor, add_on.unit_size)));
    let fits = |(price, unit_size): (i64, i64)| (COST * i128::from(unit_size)).checked_div(price.into());
    let most = held.into_iter().chain(offered).filter_map(fits).filter_map(|most| i64::try_from(most).ok()).min();
    most.map_or(MOST, |most| Ord::min(most, MOST))
}

async fn add<A>(unit: &Unit<'_, A>, subscription: &Subscription, meter: String, counted: Counted) -> Result<(), Error> {
    use usage_total::Column as U;
    let organization_id = unit.scope().organization_id();
    let key = (organization_id, meter.clone(), counted.period.start);
    let before = usage_total::Entity::find_by_id(key).one(unit.transaction()).await?;
    let (had, billed, mut waived) = before.map_or((0, 0, 0), |total| (total.used, total.billed, total.waived));
    let with_free = counted.aggregation.of(had, counted.free);
    let used = counted.aggregation.of(with_free, counted.used);
    if used > most_of(subscription, &unit.app.catalogue, &meter) {
        return Err(Billing::AmountTooLarge.into());
    }
    if let Some(held) = metered(subscription, &meter) {
        waived += held.beyond(with_free) - held.beyond(had);
    }
    let Span { start: period_start, end: period_end } = counted.period;
    let row = usage_total::Model { organization_id, meter, period_start, period_end, used, billed, waived };
    let there = OnConflict::columns([U::OrganizationId, U::Meter, U::PeriodStart])
        .update_columns([U::Used, U::Waived])
        .to_owned();
    let insert = usage_total::Entity::insert(row.into_active_model()).on_conflict(there);
    insert.exec_without_returning(unit.transaction()).await?;
    Ok(())
}
