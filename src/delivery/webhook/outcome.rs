//! What comes of a round: for the endpoint, and for each event that it was told. Pure: the time and the answers come from outside.

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::ALL;
use super::client::{Answered, is_refusal};
use super::rules::{FAILS_FOR, MOST_FAILURES, MOST_TRIES, TRIES_IN_LINE, TRIES_OF_REFUSED, pause, wait};
use super::store::Standing;
use crate::entity::webhook_delivery::State;
use crate::entity::webhook_endpoint::DisableReason;
use crate::entity::{event, webhook_delivery, webhook_endpoint};
use crate::error::Error;
use crate::operation::store::{read_json, write_json};
use crate::sql;

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
pub(super) struct Task {
    pub(super) event: event::Model,
    pub(super) known: Option<webhook_delivery::Model>,
    /// Whether what comes after it waits.
    pub(super) in_line: bool,
}

/// An event that was told, or not.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) task: Task,
    pub(super) at: DateTime<Utc>,
    pub(super) answered: Answered,
}

impl Told {
    pub(super) fn is_taken(&self) -> bool {
        self.answered.fault.is_none()
    }
}

/// Whether what comes after an event waits for it.
pub(super) fn is_in_line(known: &webhook_delivery::Model) -> bool {
    known.state == State::Retrying && known.due_at.is_none()
}

/// What a round means for the endpoint.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Whether an event was taken.
    is_any_taken: bool,
    pub(super) standing: Standing,
    /// How long what was set aside is left alone at most, because nothing is taken.
    probe_after: Option<TimeDelta>,
    pub(super) has_recovered: bool,
    pub(super) disables: Option<DisableReason>,
}

impl Outcome {
    pub(super) fn of(row: &webhook_endpoint::Model, told: &[Told], now: DateTime<Utc>) -> Self {
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
        let holds_up = |one: &Told| one.task.in_line && !is_anothers(row, &one.answered, is_any_taken);
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
        let has_recovered = row.failures > 0 && standing.failures == 0;
        Self { is_any_taken, standing, probe_after, has_recovered, disables }
    }

    /// A delivery after a try.
    pub(super) fn delivery(
        &self,
        row: &webhook_endpoint::Model,
        told: Told,
        now: DateTime<Utc>,
    ) -> Result<webhook_delivery::Model, Error> {
        let (is_taken, is_anothers) = (told.is_taken(), is_anothers(row, &told.answered, self.is_any_taken));
        // Nobody gives up an event because the endpoint is away.
        let is_away = !self.is_any_taken && row.failures > 0;
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
            let wait = self.probe_after.filter(|_| is_away).map_or(wait, |probe_after| wait.min(probe_after));
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
}

/// Whether an event is refused while others of several organizations are taken: no organization waits for another.
fn is_anothers(row: &webhook_endpoint::Model, answered: &Answered, is_any_taken: bool) -> bool {
    row.organization_id == ALL && is_any_taken && answered.is_refused()
}
