//! One round with an endpoint: what it is to be told, told, and what came of it noted.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use sea_orm::{ActiveEnum as _, EntityTrait as _, QuerySelect as _};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::Message;
use super::outcome::{Outcome, Task, Told, is_in_line};
use super::signature::sign;
use super::store::{self, Standing};
use super::{ALL, Target, deliveries};
use crate::app::App;
use crate::auth::scope::Scope;
use crate::clock::Clock;
use crate::entity::webhook_delivery::State;
use crate::entity::webhook_endpoint::DisableReason;
use crate::entity::{event, organization, webhook_delivery, webhook_endpoint};
use crate::error::Error;
use crate::event::feed::last_position;
use crate::event::log::{Reading, forgotten};
use crate::event::{Change, line};
use crate::operation::{self, Duty, Itself, Unit};

/// How many events one round tells.
const AT_ONCE: u64 = 50;

/// How far ahead one round looks for them.
const WINDOW: i64 = 10_000;

/// How many of the events that were set aside it tells besides.
const ASIDE_AT_ONCE: u64 = 10;

/// Of how many organizations events are told at the same time.
const LANES: usize = 8;

/// For how long a round begins to tell one more event. With the time that an event may take, it is less than a claim lasts.
const LONGEST: Duration = Duration::from_secs(10);

/// What a round has to do.
#[derive(Debug, Default)]
struct Agenda {
    tasks: Vec<Task>,
    /// The events that were read in line, in their order.
    line: Vec<Step>,
    /// The place when all of them are told.
    place: i64,
    /// Whether there is more than this.
    more: bool,
    /// Whether events were forgotten that it was not told yet.
    is_forgotten: bool,
    /// What was set aside, and of which the event is not there any more.
    lost: Vec<webhook_delivery::Model>,
}

/// An event in line.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The place when it is told.
    place: i64,
    /// Of which organization, and which number.
    event: (Uuid, i64),
    /// Whether it was told before, or set aside.
    is_done: bool,
}

/// Tells an endpoint some of what it is to be told, and notes how far it came.
pub(super) async fn round(app: &App, row: webhook_endpoint::Model, stop: &CancellationToken) -> Result<(), Error> {
    let Some(target) = app.webhooks.target(&row, app.clock.now())? else { return Ok(()) };
    let mut agenda = agenda(app, &row, &target.types).await?;
    let tasks = std::mem::take(&mut agenda.tasks);
    let told = tell(app, &row, &target, tasks, stop).await?;
    conclude(app, &row, &agenda, told).await
}

/// What there is to tell.
async fn agenda(app: &App, row: &webhook_endpoint::Model, types: &[String]) -> Result<Agenda, Error> {
    let reader = app.database.reader();
    let mut agenda = in_line(app, row, types).await?;
    // While it fails, one event is a probe: the next in line, for that holds up the others, or else what was set aside first.
    if row.failures == 0 || agenda.tasks.is_empty() {
        for known in deliveries::list_aside(reader, row.endpoint_id, app.clock.now(), ASIDE_AT_ONCE).await? {
            match event::Entity::find_by_id((known.organization_id, known.event_number)).one(reader).await? {
                Some(event) => agenda.tasks.push(Task { event, known: Some(known), in_line: false }),
                None => agenda.lost.push(known),
            }
        }
    }
    Ok(agenda)
}

/// What comes after the place that the endpoint has in the log.
async fn in_line(app: &App, row: &webhook_endpoint::Model, types: &[String]) -> Result<Agenda, Error> {
    let reader = app.database.reader();
    let is_of_all = row.organization_id == ALL;
    let until =
        if is_of_all { Some(last_position(reader).await?) } else { last_number(app, row.organization_id).await? };
    let last = until.unwrap_or(row.place).max(row.place);
    // However seldom there is something of these types, no statement looks through more than that.
    let until = last.min(row.place.saturating_add(WINDOW));
    let of = (!is_of_all).then(|| Scope::of_newcomer(row.organization_id));
    let mut reading = Reading { of, types: types.to_vec(), place: row.place };
    let sized = |event: event::Model| {
        let size = event.payload.to_string().len();
        (event, size)
    };
    let mut is_forgotten = false;
    let events = match reading.next(reader, until, AT_ONCE, sized).await {
        Err(Error::CursorExpired) => {
            is_forgotten = true;
            reading.place = forgotten(reader, of).await?.clamp(row.place, last);
            if row.place < last {
                tracing::warn!(org = %row.organization_id, endpoint = %row.endpoint_id, "events were forgotten before a webhook endpoint was told them");
            }
            Vec::new()
        }
        read => read?,
    };
    let keys: Vec<(Uuid, i64)> = events.iter().map(|event| (event.organization_id, event.number)).collect();
    let known = deliveries::list_known(reader, row.endpoint_id, &keys).await?;
    let mut known: HashMap<(Uuid, i64), webhook_delivery::Model> =
        known.into_iter().map(|known| ((known.organization_id, known.event_number), known)).collect();
    let mut agenda = Agenda { place: reading.place, more: reading.place < last, is_forgotten, ..Agenda::default() };
    for event in events {
        let place = if is_of_all { event.position.unwrap_or(row.place) } else { event.number };
        let key = (event.organization_id, event.number);
        let known = known.remove(&key);
        let is_done = known.as_ref().is_some_and(|known| !is_in_line(known));
        agenda.line.push(Step { place, event: key, is_done });
        if !is_done {
            agenda.tasks.push(Task { event, known, in_line: true });
        }
    }
    Ok(agenda)
}

async fn last_number(app: &App, organization_id: Uuid) -> Result<Option<i64>, Error> {
    let number = organization::Entity::find_by_id(organization_id)
        .select_only()
        .column(organization::Column::LastEventNumber)
        .into_tuple()
        .one(app.database.reader())
        .await?;
    Ok(number)
}

/// Tells events: those of an organization one after another, those of several at the same time. An endpoint that fails is told one,
/// or one of each of some organizations.
async fn tell(
    app: &App,
    row: &webhook_endpoint::Model,
    target: &Target<'_>,
    tasks: Vec<Task>,
    stop: &CancellationToken,
) -> Result<Vec<Told>, Error> {
    let started = Instant::now();
    let mut lanes: Vec<Vec<Task>> = Vec::new();
    let mut lane_of: HashMap<Uuid, usize> = HashMap::new();
    for task in tasks {
        if !task.in_line {
            lanes.push(vec![task]);
            continue;
        }
        let lane = *lane_of.entry(task.event.organization_id).or_insert_with(|| {
            lanes.push(Vec::new());
            lanes.len() - 1
        });
        lanes[lane].push(task);
    }
    let side_by_side = if row.organization_id == ALL { LANES } else { 1 };
    if row.failures > 0 {
        // Of the configuration's, one of each of some organizations: for it may be one's event alone that is refused.
        lanes.truncate(side_by_side);
        for lane in &mut lanes {
            lane.truncate(1);
        }
    }
    let told = futures::stream::iter(lanes).map(|lane| async {
        let mut told = Vec::with_capacity(lane.len());
        for task in lane {
            let is_over = stop.is_cancelled() || started.elapsed() > LONGEST;
            // What was changed meanwhile holds from the next event on.
            if is_over || !store::is_current(app.database.reader(), row).await? {
                break;
            }
            // What is under way when the server stops is told again by another.
            let one = tokio::select! {
                () = stop.cancelled() => break,
                one = tell_one(app, target, task) => one?,
            };
            let holds_up = !one.is_taken();
            told.push(one);
            if holds_up {
                break;
            }
        }
        Ok(told)
    });
    let told: Vec<Result<Vec<Told>, Error>> = told.buffer_unordered(side_by_side).collect().await;
    let mut all = Vec::new();
    for lane in told {
        all.extend(lane?);
    }
    Ok(all)
}

async fn tell_one(app: &App, target: &Target<'_>, task: Task) -> Result<Told, Error> {
    // Who checks it has the world's clock, whatever the clock of this server says.
    let signed_at = Clock::System.now();
    let message = Message { id: task.event.event_id.to_string(), body: body(&task.event)? };
    let signature = sign(&target.secrets, &message.id, signed_at.timestamp(), &message.body);
    let at = app.clock.now();
    let answered = target.poster.post(&target.url, message, &signature, signed_at).await;
    Ok(Told { task, at, answered })
}

/// What is posted, as Standard Webhooks has it.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    timestamp: DateTime<Utc>,
    /// As ExportEvents tells it.
    data: serde_json::Value,
}

fn body(event: &event::Model) -> Result<Vec<u8>, Error> {
    let body = Body { r#type: &event.r#type, timestamp: event.occurred_at, data: line(event) };
    serde_json::to_vec(&body)
        .map_err(|error| Error::Defect("an event could not be written as JSON", Some(error.into())))
}

/// Notes what came of a round, unless another server has taken the endpoint over: what was told is told again then.
async fn conclude(app: &App, row: &webhook_endpoint::Model, agenda: &Agenda, told: Vec<Told>) -> Result<(), Error> {
    let now = app.clock.now();
    let outcome = Outcome::of(row, &told, now);
    let mut rows = Vec::with_capacity(told.len());
    for one in told {
        rows.push(outcome.delivery(row, one, now)?);
    }
    for lost in &agenda.lost {
        rows.push(webhook_delivery::Model { state: State::Failed, due_at: None, ended_at: Some(now), ..lost.clone() });
    }
    let transaction = app.database.begin().await?;
    // Whoever changes an endpoint and what it is told locks it first.
    let locked = store::one(&[row.organization_id], row.endpoint_id).lock_exclusive().one(&transaction).await?;
    if locked.is_none_or(|locked| locked.claimed_until != row.claimed_until) {
        transaction.rollback().await?;
        tracing::debug!(org = %row.organization_id, endpoint = %row.endpoint_id, "a webhook endpoint was taken over, changed or deleted meanwhile");
        return Ok(());
    }
    deliveries::save(&transaction, &rows).await?;
    if let Some(since) = row.failing_since.filter(|_| outcome.has_recovered) {
        deliveries::hasten(&transaction, row.endpoint_id, since, now).await?;
    }
    if agenda.is_forgotten {
        deliveries::forget_line(&transaction, (row.organization_id, row.endpoint_id)).await?;
    }
    let place = reached(row, agenda, &rows);
    let due_at = match outcome.standing.paused_until {
        Some(until) => Some(until),
        None if agenda.more || place < agenda.place => Some(now),
        // Not before now: who was due long ago would come before everybody else.
        None => deliveries::next_aside(&transaction, row.endpoint_id).await?.map(|due_at| due_at.max(now)),
    };
    let mut standing = Standing { place, due_at, ..outcome.standing.clone() };
    if due_at.is_none() {
        // Nothing waits for it any more: how long it does nothing is not how long it fails.
        (standing.failures, standing.failing_since) = (0, None);
    }
    store::conclude(&transaction, row, &standing, now).await?;
    transaction.commit().await?;
    report(app, row, &outcome, &rows);
    match outcome.disables.filter(|_| row.organization_id != ALL) {
        Some(reason) => disable(app, row, reason).await,
        None => Ok(()),
    }
}

/// Up to where everything was told or set aside.
fn reached(row: &webhook_endpoint::Model, agenda: &Agenda, rows: &[webhook_delivery::Model]) -> i64 {
    let done = rows.iter().filter(|row| !is_in_line(row)).map(|row| (row.organization_id, row.event_number));
    let done: HashSet<(Uuid, i64)> = done.collect();
    let is_done = |step: &&Step| step.is_done || done.contains(&step.event);
    let told = agenda.line.iter().take_while(is_done);
    match (agenda.line.iter().all(|step| is_done(&step)), told.last()) {
        (true, _) => agenda.place,
        (false, Some(step)) => step.place,
        (false, None) => row.place,
    }
}

/// Says what is worth saying of a round.
fn report(app: &App, row: &webhook_endpoint::Model, outcome: &Outcome, rows: &[webhook_delivery::Model]) {
    let (org, endpoint) = (row.organization_id, row.endpoint_id);
    let count = |state: State| rows.iter().filter(|row| row.state == state).count() as u64;
    app.metrics.webhooks_delivered.inc_by(count(State::Delivered));
    app.metrics.webhooks_failed.inc_by(count(State::Failed));
    for given_up in rows.iter().filter(|row| row.state == State::Failed) {
        tracing::error!(%org, %endpoint, event = %given_up.event_id, "an event is not told a webhook endpoint any more: RedeliverWebhooks sends it again");
    }
    let Standing { failures, failure, .. } = &outcome.standing;
    if let Some(until) = outcome.standing.paused_until {
        tracing::warn!(%org, %endpoint, failures, failure, %until, "a webhook endpoint does not take what it is told, and is left alone for a while");
    } else if outcome.has_recovered {
        tracing::info!(%org, %endpoint, "a webhook endpoint takes again what it is told");
    }
}

struct Disable<'a> {
    row: &'a webhook_endpoint::Model,
    reason: DisableReason,
}

impl Duty for Disable<'_> {
    type Outcome = bool;

    async fn run(&self, unit: &mut Unit<'_, Itself>) -> Result<bool, Error> {
        let disabled = store::disable(unit.transaction(), self.row, self.reason, unit.now).await?;
        if disabled {
            let reason = self.reason.to_value();
            unit.record(Change::WebhookEndpointDisabled { endpoint_id: self.row.endpoint_id, reason });
        }
        Ok(disabled)
    }
}

async fn disable(app: &App, row: &webhook_endpoint::Model, reason: DisableReason) -> Result<(), Error> {
    let (org, endpoint) = (row.organization_id, row.endpoint_id);
    if operation::undertake(app, org, &Disable { row, reason }, true).await? == Some(true) {
        tracing::error!(%org, %endpoint, ?reason, "a webhook endpoint is disabled: UpdateWebhookEndpoint enables it again");
    }
    Ok(())
}
