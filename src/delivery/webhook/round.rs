//! One round with an endpoint: what it is to be told, told, and what came of it noted.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use http::StatusCode;
use sea_orm::{EntityTrait as _, QuerySelect as _};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::{Answered, Message, is_refusal};
use super::rules::{FAILS_FOR, MOST_FAILURES, MOST_TRIES, TRIES_IN_LINE, TRIES_OF_REFUSED, pause, wait};
use super::signature::sign;
use super::store::{self, Standing};
use super::{ALL, Target};
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
use crate::operation::store::{read_json, write_json};
use crate::operation::{self, Duty, Itself, Unit};
use crate::sql;

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

/// How many tries are kept of each delivery.
const TRIES_KEPT: usize = 12;

/// A try to tell an event, as the database keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Try {
    pub(super) at: DateTime<Utc>,
    pub(super) status: u16,
    pub(super) failure: String,
    pub(super) took_ms: i64,
}

/// An event that is to be told.
#[derive(Clone, Debug)]
struct Task {
    event: event::Model,
    known: Option<webhook_delivery::Model>,
    /// Whether what comes after it waits.
    in_line: bool,
}

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

/// An event that was told, or not.
#[derive(Debug)]
struct Told {
    task: Task,
    at: DateTime<Utc>,
    answered: Answered,
}

impl Told {
    fn is_taken(&self) -> bool {
        self.answered.fault.is_none()
    }
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
        for known in store::list_aside(reader, row.endpoint_id, app.clock.now(), ASIDE_AT_ONCE).await? {
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
    let known = store::list_known(reader, row.endpoint_id, &keys).await?;
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

/// Whether what comes after an event waits for it.
fn is_in_line(known: &webhook_delivery::Model) -> bool {
    known.state == State::Retrying && known.due_at.is_none()
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
    let answered = target.poster.post(&target.url, &message, &signature, signed_at).await;
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
    let is_any_taken = told.iter().any(Told::is_taken);
    let mut rows = Vec::with_capacity(told.len());
    for one in told {
        rows.push(delivery(row, one, is_any_taken, outcome.probe_after, now)?);
    }
    for lost in &agenda.lost {
        rows.push(webhook_delivery::Model { state: State::Failed, due_at: None, ended_at: Some(now), ..lost.clone() });
    }
    let transaction = app.database.begin().await?;
    // Whoever changes an endpoint and what it is told locks it first.
    let locked = store::lock(&transaction, row.organization_id, row.endpoint_id).await?;
    if locked.is_none_or(|locked| locked.claimed_until != row.claimed_until) {
        transaction.rollback().await?;
        tracing::debug!(org = %row.organization_id, endpoint = %row.endpoint_id, "a webhook endpoint was taken over, changed or deleted meanwhile");
        return Ok(());
    }
    store::save(&transaction, &rows).await?;
    if let Some(since) = row.failing_since.filter(|_| outcome.has_recovered) {
        store::hasten(&transaction, row.endpoint_id, since, now).await?;
    }
    if agenda.is_forgotten {
        store::forget_line(&transaction, (row.organization_id, row.endpoint_id)).await?;
    }
    let place = reached(row, agenda, &rows);
    let due_at = match outcome.standing.paused_until {
        Some(until) => Some(until),
        None if agenda.more || place < agenda.place => Some(now),
        // Not before now: who was due long ago would come before everybody else.
        None => store::next_aside(&transaction, row.endpoint_id).await?.map(|due_at| due_at.max(now)),
    };
    let mut standing = Standing { place, due_at, ..outcome.standing.clone() };
    if due_at.is_none() {
        // Nothing waits for it any more: how long it does nothing is not how long it fails.
        (standing.failures, standing.failing_since) = (0, None);
    }
    store::conclude(&transaction, row, &standing, now).await?;
    transaction.commit().await?;
    outcome.report(app, row, &rows);
    match outcome.disables.filter(|_| row.organization_id != ALL) {
        Some(reason) => disable(app, row, reason).await,
        None => Ok(()),
    }
}

/// A delivery after a try.
fn delivery(
    row: &webhook_endpoint::Model,
    told: Told,
    is_any_taken: bool,
    probe_after: Option<TimeDelta>,
    now: DateTime<Utc>,
) -> Result<webhook_delivery::Model, Error> {
    let (is_taken, is_refused) = (told.is_taken(), told.answered.is_refused());
    // Nobody gives up an event because the endpoint is away.
    let is_away = !is_any_taken && row.failures > 0;
    let Told { task: Task { event, known, in_line }, at, answered } = told;
    let known_attempts = known.as_ref().map_or(0, |known| known.attempts);
    let mut tries: Vec<Try> = read_json(known.as_ref().map(|known| &known.tries))?.unwrap_or_default();
    tries.push(Try {
        at,
        status: answered.status.map_or(0, |status| status.as_u16()),
        failure: answered.fault.unwrap_or_default(),
        took_ms: i64::try_from(answered.took.as_millis()).unwrap_or(i64::MAX),
    });
    let superfluous = tries.len().saturating_sub(TRIES_KEPT);
    tries.drain(..superfluous);
    let refusals = sql::counted(tries.iter().filter(|one| is_refusal(one.status)).count())?;
    // Where others are taken, no organization waits for the event of another.
    let is_anothers = row.organization_id == ALL && is_any_taken && is_refused;
    let (state, attempts, due_at) = if is_taken {
        (State::Delivered, known_attempts + 1, None)
    } else if in_line && !is_anothers && refusals < TRIES_OF_REFUSED && known_attempts + 1 < TRIES_IN_LINE {
        (State::Retrying, known_attempts + 1, None)
    } else if in_line {
        // That the endpoint was away counts no more.
        (State::Retrying, refusals, Some(now + wait(event.event_id, refusals)))
    } else {
        let attempts = if is_away { known_attempts } else { known_attempts + 1 };
        let is_given_up = attempts >= MOST_TRIES && !is_away;
        let wait = wait(event.event_id, attempts);
        // While nothing is taken it is by this that it is seen when something is again.
        let wait = probe_after.filter(|_| is_away).map_or(wait, |probe_after| wait.min(probe_after));
        let due_at = (!is_given_up).then(|| now + wait);
        (if is_given_up { State::Failed } else { State::Retrying }, attempts, due_at)
    };
    Ok(webhook_delivery::Model {
        organization_id: event.organization_id,
        endpoint_id: row.endpoint_id,
        event_number: event.number,
        event_id: event.event_id,
        event_type: event.r#type,
        state,
        attempts,
        asked: known.as_ref().map_or(0, |known| known.asked),
        tries: write_json(&tries)?,
        created_at: known.map_or(at, |known| known.created_at),
        due_at,
        ended_at: (state != State::Retrying).then_some(now),
    })
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

/// What a round means for the endpoint.
#[derive(Clone, Debug)]
struct Outcome {
    standing: Standing,
    /// How long what was set aside is left alone at most, because nothing is taken.
    probe_after: Option<TimeDelta>,
    has_recovered: bool,
    disables: Option<DisableReason>,
}

impl Outcome {
    fn of(row: &webhook_endpoint::Model, told: &[Told], now: DateTime<Utc>) -> Self {
        let mut standing = Standing {
            place: row.place,
            failures: row.failures,
            failing_since: row.failing_since,
            failure: row.failure.clone(),
            succeeded_at: row.succeeded_at,
            paused_until: None,
            due_at: None,
        };
        let is_any_taken = told.iter().any(Told::is_taken);
        if is_any_taken {
            (standing.failures, standing.failing_since) = (0, None);
            standing.failure.clear();
            standing.succeeded_at = Some(now);
        }
        let is_gone = told.iter().any(|one| one.answered.status == Some(StatusCode::GONE));
        let mut disables = is_gone.then_some(DisableReason::Gone);
        // That an event which was set aside is not taken again says nothing of an endpoint that takes others; nor that one of an
        // organization is not, where those of others are.
        let is_anothers = |one: &Told| row.organization_id == ALL && is_any_taken && one.answered.is_refused();
        let holds_up = |one: &Told| one.task.in_line && !is_anothers(one);
        let is_away = |one: &Told| !is_any_taken && (standing.failures > 0 || !one.answered.is_refused());
        let counts = |one: &&Told| !one.is_taken() && (holds_up(one) || is_away(one));
        let failed: Vec<&Told> = told.iter().filter(counts).collect();
        let mut probe_after = None;
        if let Some(first) = failed.iter().min_by_key(|one| one.at) {
            standing.failures += 1;
            let since = *standing.failing_since.get_or_insert(first.at);
            standing.failure = first.answered.fault.clone().unwrap_or_default();
            let wish = failed.iter().filter_map(|one| one.answered.retry_after).max();
            let is_refused = failed.iter().all(|one| one.answered.is_refused());
            // What was set aside holds up nothing: what happens meanwhile is told at once.
            if wish.is_some() || failed.iter().any(|one| one.task.in_line) {
                let pause = pause(row.endpoint_id, standing.failures, is_refused);
                standing.paused_until = Some(now + pause.max(wish.unwrap_or_else(TimeDelta::zero)));
            }
            probe_after = Some(pause(row.endpoint_id, standing.failures, false));
            if standing.failures >= MOST_FAILURES && now - since >= FAILS_FOR {
                disables = disables.or(Some(DisableReason::Failing));
            }
        }
        Self { has_recovered: row.failures > 0 && standing.failures == 0, standing, probe_after, disables }
    }

    fn report(&self, app: &App, row: &webhook_endpoint::Model, rows: &[webhook_delivery::Model]) {
        let (org, endpoint) = (row.organization_id, row.endpoint_id);
        let count = |state: State| rows.iter().filter(|row| row.state == state).count() as u64;
        app.metrics.webhooks_delivered.inc_by(count(State::Delivered));
        app.metrics.webhooks_failed.inc_by(count(State::Failed));
        for given_up in rows.iter().filter(|row| row.state == State::Failed) {
            tracing::error!(%org, %endpoint, event = %given_up.event_id, "an event is not told a webhook endpoint any more: RedeliverWebhooks sends it again");
        }
        let Standing { failures, failure, .. } = &self.standing;
        if let Some(until) = self.standing.paused_until {
            tracing::warn!(%org, %endpoint, failures, failure, %until, "a webhook endpoint does not take what it is told, and is left alone for a while");
        } else if self.has_recovered {
            tracing::info!(%org, %endpoint, "a webhook endpoint takes again what it is told");
        }
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
            let reason = if self.reason == DisableReason::Gone { "gone" } else { "failing" };
            unit.record(Change::WebhookEndpointDisabled { endpoint_id: self.row.endpoint_id, reason: reason.into() });
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
