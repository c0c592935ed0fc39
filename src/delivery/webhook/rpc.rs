//! WebhookService on the wire.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use tonic::{Request, Response, Status};
use url::Url;
use uuid::Uuid;

use super::outcome::Try;
use super::signature::Secret;
use super::{ALL, OldSecret, deliveries, store};
use crate::app::App;
use crate::auth::caller::Caller;
use crate::entity::webhook_delivery::{self, Column as D, State};
use crate::entity::webhook_endpoint::{self, DisableReason};
use crate::error::Error;
use crate::event::{self, Change, FieldChange, set};
use crate::fields::{Fields, timestamp};
use crate::operation::store::{read_json, write_json};
use crate::operation::{self, Command, MemberOrService, Query, Reader, Unit};
use crate::page::Page;
use crate::pb::Permission;
use crate::pb::webhook_service_server::WebhookService;
use crate::{etag, id, pb};

/// The longest description, in characters.
const LONGEST_DESCRIPTION: usize = 200;

/// For how long a secret signs after it was replaced.
const OVERLAP: TimeDelta = TimeDelta::hours(24);

/// How many replaced secrets sign beside the latest one.
const MOST_OLD_SECRETS: usize = 4;

/// How many events are sent again by one call that names none.
const MOST_REDELIVERED: u64 = 2000;

/// What is told is what the log says: who may not read that has none of it sent anywhere either.
const SENT: Permission = Permission::AuditLogRead;

/// WebhookService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

#[tonic::async_trait]
impl WebhookService for Service {
    async fn create_webhook_endpoint(
        &self,
        request: Request<pb::CreateWebhookEndpointRequest>,
    ) -> Result<Response<pb::CreateWebhookEndpointResponse>, Status> {
        operation::change::<CreateWebhookEndpoint>(&self.0, request).await
    }

    async fn list_webhook_endpoints(
        &self,
        request: Request<pb::ListWebhookEndpointsRequest>,
    ) -> Result<Response<pb::ListWebhookEndpointsResponse>, Status> {
        operation::read::<ListWebhookEndpoints>(&self.0, request).await
    }

    async fn update_webhook_endpoint(
        &self,
        request: Request<pb::UpdateWebhookEndpointRequest>,
    ) -> Result<Response<pb::UpdateWebhookEndpointResponse>, Status> {
        operation::change::<UpdateWebhookEndpoint>(&self.0, request).await
    }

    async fn delete_webhook_endpoint(
        &self,
        request: Request<pb::DeleteWebhookEndpointRequest>,
    ) -> Result<Response<pb::DeleteWebhookEndpointResponse>, Status> {
        operation::change::<DeleteWebhookEndpoint>(&self.0, request).await
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<pb::RotateWebhookSecretRequest>,
    ) -> Result<Response<pb::RotateWebhookSecretResponse>, Status> {
        operation::change::<RotateWebhookSecret>(&self.0, request).await
    }

    async fn list_webhook_deliveries(
        &self,
        request: Request<pb::ListWebhookDeliveriesRequest>,
    ) -> Result<Response<pb::ListWebhookDeliveriesResponse>, Status> {
        operation::read::<ListWebhookDeliveries>(&self.0, request).await
    }

    async fn redeliver_webhooks(
        &self,
        request: Request<pb::RedeliverWebhooksRequest>,
    ) -> Result<Response<pb::RedeliverWebhooksResponse>, Status> {
        operation::change::<RedeliverWebhooks>(&self.0, request).await
    }
}

fn read_url(fields: &mut Fields, field: &str, url: &str, app: &App) -> String {
    if let Err(fault) = app.webhooks.poster.url(url) {
        fields.fault(field, fault);
    }
    url.to_owned()
}

/// The types as they were said, each once.
fn read_types(fields: &mut Fields, field: &str, said: &[String]) -> Vec<String> {
    event::types(fields, field, said);
    let mut seen = BTreeSet::new();
    said.iter().filter(|said| seen.insert(said.as_str())).cloned().collect()
}

/// What of a URL may be told: what follows the host is a secret with some.
fn host(url: &str) -> String {
    let url = url.parse::<Url>().ok();
    url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

/// The endpoint, which is the organization's.
async fn own(unit: &Unit<'_, MemberOrService>, endpoint_id: Uuid) -> Result<webhook_endpoint::Model, Error> {
    let found =
        store::one(&[unit.scope().organization_id()], endpoint_id).lock_exclusive().one(unit.transaction()).await?;
    found.ok_or(Error::WebhookEndpointNotFound { endpoint_id })
}

/// Whose an endpoint can be that is told of an organization: its own or, for services, the configuration's.
fn whose(app: &App, organization_id: Uuid, endpoint_id: Uuid, is_service: bool) -> Vec<Uuid> {
    let platform = Some(ALL).filter(|_| is_service && app.webhooks.of_platform(endpoint_id).is_some());
    std::iter::once(organization_id).chain(platform).collect()
}

struct CreateWebhookEndpoint {
    url: String,
    description: String,
    types: Vec<String>,
}

impl Command for CreateWebhookEndpoint {
    type Request = pb::CreateWebhookEndpointRequest;
    type Response = pb::CreateWebhookEndpointResponse;
    type Actor = MemberOrService;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let url = read_url(&mut fields, "url", &request.url, app);
        let description = fields.line("description", &request.description, 0..=LONGEST_DESCRIPTION);
        let types = read_types(&mut fields, "types", &request.types);
        fields.done(Self { url, description, types })
    }

    async fn run(&self, unit: &mut Unit<'_, MemberOrService>) -> Result<Self::Response, Error> {
        unit.actor.needs(SENT)?;
        store::check_room(unit.transaction(), unit.scope()).await?;
        let secret = Secret::new().ok_or(Error::defect("no random numbers"))?;
        let endpoint_id = id::new(unit.now);
        // What this change itself writes to the log comes after it.
        let place = unit.actor.organization().last_event_number;
        let row = webhook_endpoint::Model {
            url: self.url.clone(),
            description: self.description.clone(),
            types: write_json(&self.types)?,
            secret: secret.clone().into_bytes(),
            ..store::new(unit.scope().organization_id(), endpoint_id, place, unit.now)
        };
        let (host, types) = (host(&row.url), self.types.clone());
        unit.record(Change::WebhookEndpointCreated { endpoint_id, host, types });
        store::insert(unit.transaction(), row.clone()).await?;
        let secret = if unit.is_rehearsal() { String::new() } else { secret.text() };
        Ok(pb::CreateWebhookEndpointResponse { endpoint: Some(shown(&row, unit.now)?), secret })
    }
}

struct ListWebhookEndpoints;

impl Query for ListWebhookEndpoints {
    type Request = pb::ListWebhookEndpointsRequest;
    type Response = pb::ListWebhookEndpointsResponse;
    const ON_DELETED: bool = true;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let rows = store::list(reader.connection(), reader.scope).await?;
        let endpoints = rows.iter().map(|row| shown(row, reader.now)).collect::<Result<_, _>>()?;
        Ok(pb::ListWebhookEndpointsResponse { endpoints })
    }
}

/// What an update can change.
const PATHS: [&str; 4] = ["url", "description", "types", "disabled"];

struct UpdateWebhookEndpoint {
    endpoint_id: Uuid,
    url: Option<String>,
    description: Option<String>,
    types: Option<Vec<String>>,
    disabled: Option<bool>,
    skip_missed: bool,
    etag: String,
}

impl Command for UpdateWebhookEndpoint {
    type Request = pb::UpdateWebhookEndpointRequest;
    type Response = pb::UpdateWebhookEndpointResponse;
    type Actor = MemberOrService;
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let new = request.endpoint.clone().unwrap_or_default();
        let endpoint_id = fields.uuid("endpoint.endpoint_id", &new.endpoint_id);
        let paths = fields.mask(request.update_mask.as_ref(), &PATHS);
        let has = |path: &str| paths.contains(&path);
        let url = has("url").then(|| read_url(&mut fields, "endpoint.url", &new.url, app));
        let description =
            has("description").then(|| fields.line("endpoint.description", &new.description, 0..=LONGEST_DESCRIPTION));
        let types = has("types").then(|| read_types(&mut fields, "endpoint.types", &new.types));
        let disabled = has("disabled").then_some(new.disabled);
        if request.skip_missed && disabled != Some(false) {
            fields
                .fault("skip_missed", "is for an endpoint that is enabled: `disabled` must be in the mask, and false");
        }
        let (skip_missed, etag) = (request.skip_missed, request.etag.clone());
        fields.done(Self { endpoint_id, url, description, types, disabled, skip_missed, etag })
    }

    async fn run(&self, unit: &mut Unit<'_, MemberOrService>) -> Result<Self::Response, Error> {
        unit.actor.needs(SENT)?;
        let mut row = own(unit, self.endpoint_id).await?;
        etag::check(&self.etag, row.version)?;
        let was_told = row.url.clone();
        let (changes, enables) = self.apply(&mut row, unit)?;
        if !changes.is_empty() {
            // Another URL is tried at once, too.
            let afresh = enables || row.url != was_told;
            if afresh {
                (row.failures, row.failing_since, row.paused_until) = (0, None, None);
                row.failure.clear();
                row.due_at = Some(unit.now);
            }
            row.updated_at = unit.now;
            row.version += 1;
            let of_it = (row.organization_id, row.endpoint_id);
            if let Some(types) = self.types.as_ref().filter(|_| changes.iter().any(|change| change.field == "types")) {
                deliveries::forget_line(unit.transaction(), of_it).await?;
                if !types.is_empty() {
                    let others = event::log::of_types(D::EventType, types).not();
                    deliveries::give_up(unit.transaction(), of_it, others, unit.now).await?;
                }
            }
            if enables && self.skip_missed {
                deliveries::give_up(unit.transaction(), of_it, Condition::all(), unit.now).await?;
            }
            store::update(unit.transaction(), &row, afresh).await?;
            unit.record(Change::WebhookEndpointUpdated { endpoint_id: row.endpoint_id, changes });
        }
        Ok(pb::UpdateWebhookEndpointResponse { endpoint: Some(shown(&row, unit.now)?) })
    }
}

impl UpdateWebhookEndpoint {
    /// Sets the fields, and gives those that were another before; and whether the endpoint is told again what happens.
    fn apply(
        &self,
        row: &mut webhook_endpoint::Model,
        unit: &Unit<'_, MemberOrService>,
    ) -> Result<(Vec<FieldChange>, bool), Error> {
        let mut changes = Vec::new();
        if let Some(url) = self.url.as_ref().filter(|url| **url != row.url) {
            let (before, after) = (host(&row.url), host(url));
            changes.push(FieldChange { field: "url".to_owned(), before, after });
            row.url.clone_from(url);
        }
        set(&mut changes, "description", self.description.as_ref(), &mut row.description);
        if let Some(types) = &self.types {
            let before: Vec<String> = read_json(Some(&row.types))?.unwrap_or_default();
            set(&mut changes, "types", Some(&types.join(" ")), &mut before.join(" "));
            row.types = write_json(types)?;
        }
        let was_disabled = row.disabled_at.is_some();
        set(&mut changes, "disabled", self.disabled.as_ref(), &mut row.disabled_at.is_some());
        let enables = self.disabled == Some(false) && was_disabled;
        if enables {
            (row.disabled_at, row.disable_reason) = (None, None);
            if self.skip_missed {
                row.place = unit.actor.organization().last_event_number;
            }
        } else if self.disabled == Some(true) && !was_disabled {
            (row.disabled_at, row.disable_reason) = (Some(unit.now), Some(DisableReason::Requested));
        }
        Ok((changes, enables))
    }
}

struct DeleteWebhookEndpoint {
    endpoint_id: Uuid,
    etag: String,
}

impl Command for DeleteWebhookEndpoint {
    type Request = pb::DeleteWebhookEndpointRequest;
    type Response = pb::DeleteWebhookEndpointResponse;
    type Actor = MemberOrService;
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let endpoint_id = fields.uuid("endpoint_id", &request.endpoint_id);
        fields.done(Self { endpoint_id, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, MemberOrService>) -> Result<Self::Response, Error> {
        let row = own(unit, self.endpoint_id).await?;
        etag::check(&self.etag, row.version)?;
        store::delete(unit.transaction(), (row.organization_id, row.endpoint_id), unit.now).await?;
        unit.record(Change::WebhookEndpointDeleted { endpoint_id: row.endpoint_id, host: host(&row.url) });
        Ok(pb::DeleteWebhookEndpointResponse { endpoint: Some(shown(&row, unit.now)?) })
    }
}

struct RotateWebhookSecret {
    endpoint_id: Uuid,
    at_once: bool,
}

impl Command for RotateWebhookSecret {
    type Request = pb::RotateWebhookSecretRequest;
    type Response = pb::RotateWebhookSecretResponse;
    type Actor = MemberOrService;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let endpoint_id = fields.uuid("endpoint_id", &request.endpoint_id);
        fields.done(Self { endpoint_id, at_once: request.at_once })
    }

    async fn run(&self, unit: &mut Unit<'_, MemberOrService>) -> Result<Self::Response, Error> {
        unit.actor.needs(SENT)?;
        let mut row = own(unit, self.endpoint_id).await?;
        let secret = Secret::new().ok_or(Error::defect("no random numbers"))?;
        let mut old = if self.at_once { Vec::new() } else { OldSecret::of(&row, unit.now)? };
        if !self.at_once {
            if old.len() >= MOST_OLD_SECRETS {
                return Err(Error::LimitReached { of: "replaced secrets that still sign", maximum: MOST_OLD_SECRETS });
            }
            let secret = Secret::of_bytes(row.secret.clone()).text();
            old.push(OldSecret { secret, until: unit.now + OVERLAP });
        }
        (row.secret, row.old_secrets) = (secret.clone().into_bytes(), write_json(&old)?);
        row.updated_at = unit.now;
        row.version += 1;
        store::update(unit.transaction(), &row, false).await?;
        let (endpoint_id, at_once) = (row.endpoint_id, self.at_once);
        unit.record(Change::WebhookEndpointSecretRotated { endpoint_id, at_once });
        let secret = if unit.is_rehearsal() { String::new() } else { secret.text() };
        Ok(pb::RotateWebhookSecretResponse { endpoint: Some(shown(&row, unit.now)?), secret })
    }
}

struct ListWebhookDeliveries {
    endpoint_id: Uuid,
    states: Vec<State>,
    page: Page<i64>,
}

impl Query for ListWebhookDeliveries {
    type Request = pb::ListWebhookDeliveriesRequest;
    type Response = pb::ListWebhookDeliveriesResponse;
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let endpoint_id = fields.uuid("endpoint_id", &request.endpoint_id);
        let states = fields.states(&request.states, "must be a state of a delivery", |number| {
            Some(match pb::WebhookDeliveryState::try_from(number).ok()? {
                pb::WebhookDeliveryState::Retrying => State::Retrying,
                pb::WebhookDeliveryState::Delivered => State::Delivered,
                pb::WebhookDeliveryState::Failed => State::Failed,
                pb::WebhookDeliveryState::Unspecified => return None,
            })
        });
        let list = format!("ListWebhookDeliveries {} {endpoint_id} {states:?}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, |number| *number > 0)?;
        fields.done(Self { endpoint_id, states, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        reader.needs(SENT)?;
        let (organization_id, endpoint_id) = (reader.scope.organization_id(), self.endpoint_id);
        let is_service = matches!(reader.authorized.caller(), Caller::Service(_));
        let whose = whose(reader.app, organization_id, endpoint_id, is_service);
        let found = store::one(&whose, endpoint_id).one(reader.connection()).await?;
        found.ok_or(Error::WebhookEndpointNotFound { endpoint_id })?;
        let page = &self.page;
        let mut rows = webhook_delivery::Entity::find()
            .filter(D::OrganizationId.eq(organization_id))
            .filter(D::EndpointId.eq(endpoint_id));
        if !self.states.is_empty() {
            rows = rows.filter(D::State.is_in(self.states.iter().copied()));
            if !self.states.contains(&State::Delivered) {
                // Written out, so that it can be told that the partial index has them all.
                rows = rows.filter(Expr::cust("webhook_delivery.state <> 'delivered'"));
            }
        }
        if let Some(after) = page.after {
            rows = rows.filter(D::EventNumber.lt(after));
        }
        let rows = rows.order_by_desc(D::EventNumber).limit(page.size + 1);
        let mut rows = rows.all(reader.connection()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.event_number)?;
        let deliveries = rows.iter().map(shown_delivery).collect::<Result<_, _>>()?;
        Ok(pb::ListWebhookDeliveriesResponse { deliveries, next_page_token })
    }
}

struct RedeliverWebhooks {
    endpoint_id: Uuid,
    event_numbers: Vec<i64>,
}

impl Command for RedeliverWebhooks {
    type Request = pb::RedeliverWebhooksRequest;
    type Response = pb::RedeliverWebhooksResponse;
    type Actor = MemberOrService;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let endpoint_id = fields.uuid("endpoint_id", &request.endpoint_id);
        if !request.event_numbers.is_empty() {
            fields.batch("event_numbers", request.event_numbers.len())?;
        }
        for (index, number) in request.event_numbers.iter().enumerate() {
            if *number < 1 {
                fields.fault(format!("event_numbers[{index}]"), "must be the number of an event: 1 or more");
            }
        }
        let event_numbers: BTreeSet<i64> = request.event_numbers.iter().copied().collect();
        fields.done(Self { endpoint_id, event_numbers: event_numbers.into_iter().collect() })
    }

    async fn run(&self, unit: &mut Unit<'_, MemberOrService>) -> Result<Self::Response, Error> {
        unit.actor.needs(SENT)?;
        let (organization_id, endpoint_id) = (unit.scope().organization_id(), self.endpoint_id);
        let is_service = matches!(unit.actor, MemberOrService::Service(_));
        let whose = whose(unit.app, organization_id, endpoint_id, is_service);
        let found = store::one(&whose, endpoint_id).lock_exclusive().one(unit.transaction()).await?;
        let row = found.ok_or(Error::WebhookEndpointNotFound { endpoint_id })?;
        if let Some(reason) = row.disable_reason {
            return Err(Error::WebhookEndpointDisabled { endpoint_id, cause: reason_of(Some(reason)).as_str_name() });
        }
        let of_it = (organization_id, endpoint_id);
        let (events, most) = (&self.event_numbers, MOST_REDELIVERED);
        let numbers = deliveries::redeliver(unit.transaction(), of_it, events, most, unit.now).await?;
        if let Some(unknown) = self.event_numbers.iter().find(|number| !numbers.contains(number)) {
            return Err(Error::WebhookDeliveryNotFound { event_number: *unknown });
        }
        if !numbers.is_empty() {
            store::hurry(unit.transaction(), row.organization_id, vec![endpoint_id], unit.now).await?;
        }
        Ok(pb::RedeliverWebhooksResponse { event_count: i32::try_from(numbers.len()).unwrap_or(i32::MAX) })
    }
}

fn reason_of(reason: Option<DisableReason>) -> pb::WebhookDisableReason {
    match reason {
        None => pb::WebhookDisableReason::Unspecified,
        Some(DisableReason::Requested) => pb::WebhookDisableReason::Requested,
        Some(DisableReason::Failing) => pb::WebhookDisableReason::Failing,
        Some(DisableReason::Gone) => pb::WebhookDisableReason::Gone,
    }
}

/// An endpoint as the wire shows it.
fn shown(row: &webhook_endpoint::Model, now: DateTime<Utc>) -> Result<pb::WebhookEndpoint, Error> {
    let old_secrets = OldSecret::of(row, now)?;
    let is_enabled = row.disabled_at.is_none();
    Ok(pb::WebhookEndpoint {
        organization_id: row.organization_id.to_string(),
        endpoint_id: row.endpoint_id.to_string(),
        url: row.url.clone(),
        description: row.description.clone(),
        types: read_json(Some(&row.types))?.unwrap_or_default(),
        disabled: !is_enabled,
        disable_reason: reason_of(row.disable_reason).into(),
        disable_time: row.disabled_at.map(timestamp),
        reached_event_number: row.place,
        failure_count: i32::try_from(row.failures).unwrap_or(i32::MAX),
        failing_since_time: row.failing_since.map(timestamp),
        last_failure: row.failure.clone(),
        last_success_time: row.succeeded_at.map(timestamp),
        next_attempt_time: row.due_at.filter(|_| is_enabled).map(timestamp),
        old_secret_expire_time: old_secrets.iter().map(|old| old.until).max().map(timestamp),
        create_time: Some(timestamp(row.created_at)),
        update_time: Some(timestamp(row.updated_at)),
        etag: etag::of(row.version),
    })
}

fn shown_delivery(row: &webhook_delivery::Model) -> Result<pb::WebhookDelivery, Error> {
    let tries: Vec<Try> = read_json(Some(&row.tries))?.unwrap_or_default();
    let state = match row.state {
        State::Retrying => pb::WebhookDeliveryState::Retrying,
        State::Delivered => pb::WebhookDeliveryState::Delivered,
        State::Failed => pb::WebhookDeliveryState::Failed,
    };
    Ok(pb::WebhookDelivery {
        organization_id: row.organization_id.to_string(),
        endpoint_id: row.endpoint_id.to_string(),
        event_number: row.event_number,
        event_id: row.event_id.to_string(),
        event_type: row.event_type.clone(),
        state: state.into(),
        attempt_count: i32::try_from(row.attempts).unwrap_or(i32::MAX),
        attempts: tries.into_iter().map(shown_try).collect(),
        create_time: Some(timestamp(row.created_at)),
        next_attempt_time: row.due_at.map(timestamp),
        end_time: row.ended_at.map(timestamp),
    })
}

fn shown_try(one: Try) -> pb::WebhookAttempt {
    let nanos = i32::try_from(one.took_ms % 1000 * 1_000_000).unwrap_or_default();
    pb::WebhookAttempt {
        attempt_time: Some(timestamp(one.at)),
        status_code: one.status.into(),
        failure: one.failure,
        duration: Some(prost_types::Duration { seconds: one.took_ms / 1000, nanos }),
    }
}
