//! ReportUsage, GetUsage and CheckEntitlement.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use crate::app::App;
use crate::billing::account::{Account, subscription_of};
use crate::billing::catalogue::{Aggregation, Terms};
use crate::billing::money::MOST;
use crate::billing::subscription::{self, Granted, Held, Status, Subscription};
use crate::billing::{metering, store};
use crate::entity::usage_report;
use crate::error::{Billing, Error};
use crate::fields::{Fields, timestamp};
use crate::operation::{Command, Query, Reader, Trusted, Unit};
use crate::pb;

/// How long ago usage can have been that is reported.
const OLDEST: TimeDelta = TimeDelta::days(35);

struct Report {
    id: String,
    meter: String,
    aggregation: Aggregation,
    quantity: i64,
    /// None for now.
    used_at: Option<DateTime<Utc>>,
}

pub(super) struct ReportUsage {
    reports: Vec<Report>,
}

impl Command for ReportUsage {
    type Request = pb::ReportUsageRequest;
    type Response = pb::ReportUsageResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        fields.batch("reports", request.reports.len())?;
        let now = app.clock.now();
        let (mut reports, mut unknown) = (Vec::with_capacity(request.reports.len()), Vec::new());
        for (index, said) in request.reports.iter().enumerate() {
            let name = |field: &str| format!("reports[{index}].{field}");
            let id = fields.line(&name("report_id"), &said.report_id, 1..=100);
            if !(0..=MOST).contains(&said.quantity) {
                fields.fault(name("quantity"), "must not be negative, and at most 10^15");
            }
            let used_at = fields.past_time(&name("time"), said.time.as_ref(), now);
            if used_at.is_some_and(|at| at < now - OLDEST) {
                fields.fault(name("time"), "must be at most 35 days ago");
            }
            fields.line(&name("meter"), &said.meter, 1..=40);
            match app.catalogue.meter(&said.meter) {
                Some(meter) => {
                    let (meter, aggregation) = (said.meter.clone(), meter.aggregation);
                    reports.push(Report { id, meter, aggregation, quantity: said.quantity, used_at });
                }
                None => unknown.push((index, Billing::MeterNotFound { meter: said.meter.clone() }.into())),
            }
        }
        let parsed = fields.done(Self { reports })?;
        Error::refuse_items("reports", unknown)?;
        Ok(parsed)
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let mut row = store::load(unit.transaction(), unit.scope()).await?;
        if row.due_at.is_some_and(|due_at| due_at <= unit.now) {
            // What is used now is of the period that has begun, whether the worker has come by or not.
            let mut account = Account::of(unit).await?;
            let used = unit.seats().await?.used();
            account.catch_up(used, unit.now)?;
            row = account.save(unit).await?;
        }
        let subscription = subscription_of(&row, &unit.app.catalogue, unit.now)?;
        let ids: Vec<&str> = self.reports.iter().map(|report| report.id.as_str()).collect();
        let known = metering::find_reports(unit.transaction(), unit.scope(), &ids).await?;
        let mut counted: HashMap<&str, usage_report::Model> = HashMap::new();
        let (mut repeated, mut faults) = (0, Vec::new());
        for (index, report) in self.reports.iter().enumerate() {
            let id = report.id.as_str();
            let earlier = known.iter().find(|row| row.report_id == id).or_else(|| counted.get(id));
            match earlier {
                Some(earlier) if !is_same(earlier, report) => {
                    faults.push((index, Billing::UsageReportReused { report_id: id.to_owned() }.into()));
                }
                Some(_) => repeated += 1,
                None => {
                    counted.insert(id, stored(unit, report));
                }
            }
        }
        Error::refuse_items("reports", faults)?;
        let rows: Vec<usage_report::Model> = counted.into_values().collect();
        let aggregations: BTreeMap<&str, Aggregation> =
            self.reports.iter().map(|report| (report.meter.as_str(), report.aggregation)).collect();
        metering::count(unit, &subscription, &rows, &aggregations).await?;
        let counted = i32::try_from(rows.len()).unwrap_or(i32::MAX);
        Ok(pb::ReportUsageResponse { counted, known: repeated })
    }
}

fn is_same(earlier: &usage_report::Model, report: &Report) -> bool {
    earlier.meter == report.meter
        && earlier.quantity == report.quantity
        && report.used_at.is_none_or(|used_at| used_at == earlier.used_at)
}

fn stored(unit: &Unit<'_, Trusted>, report: &Report) -> usage_report::Model {
    usage_report::Model {
        organization_id: unit.scope().organization_id(),
        report_id: report.id.clone(),
        meter: report.meter.clone(),
        quantity: report.quantity,
        used_at: report.used_at.unwrap_or(unit.now).min(unit.now),
        created_at: unit.now,
    }
}

pub(super) struct GetUsage {
    at: Option<DateTime<Utc>>,
}

impl Query for GetUsage {
    type Request = pb::GetUsageRequest;
    type Response = pb::GetUsageResponse;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let at = fields.past_time("time", request.time.as_ref(), app.clock.now());
        fields.done(Self { at })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let row = store::load(reader.connection(), reader.scope).await?;
        let subscription = subscription_of(&row, &reader.app.catalogue, reader.now)?;
        let at = self.at.unwrap_or(reader.now);
        let known = metering::totals_at(reader.connection(), reader.scope, at).await?;
        let period = known.first().map_or_else(
            || metering::period_at(&subscription, at),
            |total| crate::billing::calendar::Span { start: total.period_start, end: total.period_end },
        );
        let of: BTreeMap<&str, (i64, i64)> =
            known.iter().map(|total| (total.meter.as_str(), (total.used, total.billed))).collect();
        let meters = reader.app.catalogue.meters().iter().map(|meter| {
            let (used, billed) = of.get(meter.meter.as_str()).copied().unwrap_or_default();
            pb::MeterUsage { meter: meter.meter.clone(), title: meter.title.clone(), used, billed }
        });
        Ok(pb::GetUsageResponse {
            period_start_time: Some(timestamp(period.start)),
            period_end_time: Some(timestamp(period.end)),
            meters: meters.collect(),
        })
    }
}

pub(super) struct CheckEntitlement {
    feature: String,
    quantity: i64,
}

impl Query for CheckEntitlement {
    type Request = pb::CheckEntitlementRequest;
    type Response = pb::CheckEntitlementResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        if request.quantity < 0 {
            fields.fault("quantity", "must not be negative");
        }
        let feature = fields.line("feature", &request.feature, 1..=40);
        fields.done(Self { feature, quantity: request.quantity.max(1) })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        if self.feature == "seats" {
            return self.of_seats(reader).await;
        }
        let (row, counted) =
            metering::subscription_with_use(reader.connection(), reader.scope, &self.feature, reader.now).await?;
        let subscription = subscription_of(&row, &reader.app.catalogue, reader.now)?;
        let is_meter = reader.app.catalogue.meter(&self.feature).is_some();
        let (granted, inactive) = in_force(reader.app, &subscription, &self.feature);
        let overage = !inactive && metered(&subscription.agreement.add_ons, &self.feature);
        let used = is_meter.then(|| counted.as_ref().map_or(0, |counted| counted.used));
        let remaining = granted.limit.map(|limit| limit.saturating_sub(used.unwrap_or_default()).max(0));
        let fits = remaining.is_none_or(|remaining| self.quantity <= remaining);
        let enabled = granted.enabled || overage;
        let allowed = enabled && (fits || overage);
        let denial = match (allowed, enabled) {
            (true, _) => pb::EntitlementDenial::Unspecified,
            (false, _) if inactive => pb::EntitlementDenial::SubscriptionInactive,
            (false, true) => pb::EntitlementDenial::LimitReached,
            (false, false) => pb::EntitlementDenial::NotIncluded,
        };
        // What was counted may count on although another period has begun, and is over before that.
        let reset = counted.map_or_else(|| subscription.period_at(reader.now).end, |counted| counted.period_end);
        let reset = Some(reset).filter(|_| is_meter);
        Ok(pb::CheckEntitlementResponse {
            allowed,
            limited: granted.counted,
            limit: granted.limit,
            used,
            remaining,
            reset_time: reset.map(timestamp),
            source: granted.sources.join(","),
            overage,
            denial: denial.into(),
        })
    }
}

impl CheckEntitlement {
    async fn of_seats(&self, reader: &Reader<'_>) -> Result<pb::CheckEntitlementResponse, Error> {
        let usage = super::seat_usage(reader).await?;
        let row = store::load(reader.connection(), reader.scope).await?;
        let inactive = crate::billing::seats::may_grow(row.status).is_err();
        let fits = self.quantity <= usage.available();
        let denial = match (fits, inactive) {
            (_, true) => pb::EntitlementDenial::SubscriptionInactive,
            (false, false) => pb::EntitlementDenial::LimitReached,
            (true, false) => pb::EntitlementDenial::Unspecified,
        };
        Ok(pb::CheckEntitlementResponse {
            allowed: fits && !inactive,
            limited: true,
            limit: Some(usage.total),
            used: Some(usage.used()),
            remaining: Some(usage.available()),
            reset_time: None,
            source: format!("plan:{}", row.plan_id),
            overage: false,
            denial: denial.into(),
        })
    }
}

/// What is granted of a feature by what is in force: what was agreed on or, when that has ended or is unpaid, the free plan on
/// which organizations start. Says also whether it is the latter.
fn in_force(app: &App, subscription: &Subscription, feature: &str) -> (Granted, bool) {
    let agreement = &subscription.agreement;
    if !matches!(subscription.status, Status::Canceled | Status::Unpaid) {
        return (subscription::granted(&agreement.terms, &agreement.add_ons, feature), false);
    }
    let free = app.catalogue.default_plan().filter(|plan| plan.is_free());
    let terms: Option<Terms> = free.and_then(|plan| plan.terms(None, None));
    (terms.map(|terms| subscription::granted(&terms, &[], feature)).unwrap_or_default(), true)
}

/// Whether what goes beyond is charged and not refused.
fn metered(add_ons: &[Held], meter: &str) -> bool {
    add_ons.iter().any(|held| held.terms.meter.as_deref() == Some(meter))
}
