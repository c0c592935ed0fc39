//! BillingService on the wire.

mod profile;

use std::future::{Ready, ready};
use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::app::App;
use crate::auth::scope::Scope;
use crate::billing::catalogue::{Period, Plan};
use crate::billing::seats::{self, Usage};
use crate::billing::store;
use crate::entity::subscription::{self, Status as SubscriptionStatus};
use crate::error::Error;
use crate::etag;
use crate::event::Change;
use crate::fields::{Fields, timestamp};
use crate::forward::forward;
use crate::operation::{self, Command, Member, Query, Reader, Unit};
use crate::pb;
use crate::pb::billing_service_server::BillingService;

/// BillingService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

forward! { BillingService:
    list_plans(ListPlansRequest) -> ListPlansResponse: list_plans;
    get_subscription(GetSubscriptionRequest) -> GetSubscriptionResponse: operation::read::<GetSubscription>;
    get_seat_usage(GetSeatUsageRequest) -> GetSeatUsageResponse: operation::read::<GetSeatUsage>;
    update_subscription(UpdateSubscriptionRequest) -> UpdateSubscriptionResponse: operation::change::<UpdateSubscription>;
    get_billing_profile(GetBillingProfileRequest) -> GetBillingProfileResponse: operation::read::<profile::GetBillingProfile>;
    update_billing_profile(UpdateBillingProfileRequest) -> UpdateBillingProfileResponse: operation::change::<profile::UpdateBillingProfile>;
}

fn list_plans(
    app: &App,
    request: Request<pb::ListPlansRequest>,
) -> Ready<Result<Response<pb::ListPlansResponse>, Status>> {
    let plans = app.catalogue.plans().iter().map(shown_plan).collect();
    let authorized = operation::split(request).map_err(Status::from);
    ready(authorized.map(|_| Response::new(pb::ListPlansResponse { plans })))
}

struct GetSubscription;

impl Query for GetSubscription {
    type Request = pb::GetSubscriptionRequest;
    type Response = pb::GetSubscriptionResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let subscription = store::load(reader.connection(), reader.scope).await?;
        Ok(pb::GetSubscriptionResponse { subscription: Some(shown_subscription(&subscription)) })
    }
}

struct GetSeatUsage;

impl Query for GetSeatUsage {
    type Request = pb::GetSeatUsageRequest;
    type Response = pb::GetSeatUsageResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let usage = seat_usage(reader).await?;
        Ok(pb::GetSeatUsageResponse { seat_usage: Some(shown_usage(reader.scope, usage)) })
    }
}

/// How the seats of an organization are used at this instant.
pub(crate) async fn seat_usage(reader: &Reader<'_>) -> Result<Usage, Error> {
    let organization = reader.organization()?;
    // One that has expired since the last change is still in the counter.
    let expired = match organization.pending_invitations {
        0 => 0,
        _ => operation::store::count_expired(reader.connection(), reader.scope, reader.now).await?,
    };
    Ok(Usage::of(organization, expired))
}

struct UpdateSubscription {
    seats: i64,
    etag: String,
}

impl Command for UpdateSubscription {
    type Request = pb::UpdateSubscriptionRequest;
    type Response = pb::UpdateSubscriptionResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let seats = request.seats.unwrap_or_default();
        if seats < 1 {
            fields.fault("seats", "must be said, and be at least 1");
        }
        fields.done(Self { seats, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut row = store::load(unit.transaction(), unit.scope()).await?;
        etag::check(&self.etag, row.version)?;
        let usage = unit.seats().await?;
        let plan = unit.app.catalogue.plan(&row.plan_id);
        let plan = plan.ok_or_else(|| Error::PlanUnknown { plan_id: row.plan_id.clone() })?;
        let before = row.seats;
        if before != self.seats {
            usage.change_total(plan, self.seats)?;
            if self.seats > before {
                seats::may_grow(row.status)?;
            }
            store::update_seats(unit, &mut row, self.seats).await?;
            unit.record(Change::SubscriptionSeatsChanged { before, after: self.seats });
        }
        Ok(pb::UpdateSubscriptionResponse {
            subscription: Some(shown_subscription(&row)),
            seat_usage: Some(shown_usage(unit.scope(), Usage { total: row.seats, ..usage })),
        })
    }
}

pub(crate) fn shown_usage(scope: Scope, usage: Usage) -> pb::SeatUsage {
    pb::SeatUsage {
        organization_id: scope.organization_id().to_string(),
        total: usage.total,
        used: usage.used(),
        members: usage.members,
        pending: usage.pending,
        available: usage.available(),
        summary: format!("{} / {} seats", usage.used(), usage.total),
    }
}

pub(crate) fn shown_subscription(row: &subscription::Model) -> pb::Subscription {
    let status = match row.status {
        SubscriptionStatus::Trialing => pb::SubscriptionStatus::Trialing,
        SubscriptionStatus::Active => pb::SubscriptionStatus::Active,
        SubscriptionStatus::PastDue => pb::SubscriptionStatus::PastDue,
        SubscriptionStatus::Unpaid => pb::SubscriptionStatus::Unpaid,
        SubscriptionStatus::Canceled => pb::SubscriptionStatus::Canceled,
    };
    pb::Subscription {
        organization_id: row.organization_id.to_string(),
        plan_id: row.plan_id.clone(),
        status: status.into(),
        seats: row.seats,
        create_time: Some(timestamp(row.created_at)),
        update_time: Some(timestamp(row.updated_at)),
        etag: etag::of(row.version),
    }
}

fn shown_plan(plan: &Plan) -> pb::Plan {
    let period = match plan.period {
        Period::Month => pb::BillingPeriod::Month,
        Period::Year => pb::BillingPeriod::Year,
    };
    pb::Plan {
        plan_id: plan.plan.clone(),
        title: plan.title.clone(),
        description: plan.description.clone(),
        currency_code: plan.currency.clone(),
        billing_period: period.into(),
        base_price_minor: plan.base_price_minor,
        seat_price_minor: plan.seat_price_minor,
        included_seats: plan.included_seats,
        minimum_seats: plan.minimum_seats,
        maximum_seats: plan.maximum_seats,
        default: plan.default,
    }
}
