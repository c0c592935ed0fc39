//! What the service takes on at a time, and from whom how often.
//!
//! A server that takes on more than it can do does less: each call waits for the others, until its caller has given up and what was
//! done for it was for nothing. So what is too much is refused at once, before it costs anything: calls beyond a number, bytes of
//! requests beyond a number, calls of one caller or for one organization beyond a rate. Health is none of it: its service stands outside.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{Request, Response};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::auth::caller::Caller;
use crate::check::Check;
use crate::error::Error;

/// When to try again where there was no room.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// How many seconds' worth of calls may come at once.
const BURST_SECONDS: u32 = 2;

/// The part of the room for bytes that one caller may have, and how much at least: a request of the largest size, and another.
const SHARES: usize = 8;
const LEAST_SHARE: usize = 2 * 1024 * 1024 + 64;

/// How often those are forgotten of whom nothing came for a while.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// How much there may be at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls.
    pub calls: usize,
    /// Bytes of requests that are being read or served.
    pub bytes: usize,
    /// Calls in a second of one caller: a user, or a service under its own name; any number when absent.
    pub caller_rate: Option<NonZeroU32>,
    /// Calls in a second for one organization; any number when absent.
    pub organization_rate: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { calls: 256, bytes: 64 * 1024 * 1024, caller_rate: None, organization_rate: None }
    }
}

/// What is measured of refusals.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Calls that were refused because there were too many at a time.
    pub shed: Counter,
    /// Calls that were refused because their caller, or their organization, makes too many.
    pub limited: Counter,
}

/// What is taken on.
pub struct Overload {
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// How many of the bytes one caller may have.
    share: usize,
    /// How many each has.
    shares: Mutex<HashMap<CallerKey, usize>>,
    callers: Option<Rate<CallerKey>>,
    organizations: Option<Rate<Uuid>>,
    meter: Meter,
}

impl fmt::Debug for Overload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Overload")
            .field("free_calls", &self.calls.available_permits())
            .field("free_bytes", &self.bytes.available_permits())
            .finish_non_exhaustive()
    }
}

/// Who calls, as far as rates tell callers apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum CallerKey {
    User(String),
    Service(String),
}

impl CallerKey {
    fn of(caller: &Caller) -> Self {
        match caller {
            Caller::User(user) => Self::User(user.user_id.as_str().to_owned()),
            Caller::Service(service) => Self::Service(service.as_str().to_owned()),
        }
    }
}

struct Rate<K: Hash + Eq + Clone> {
    limiter: RateLimiter<
        K,
        DashMapStateStore<K>,
        DefaultClock,
        NoOpMiddleware<<DefaultClock as governor::clock::Clock>::Instant>,
    >,
    per_second: NonZeroU32,
    of: &'static str,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    fn new(per_second: NonZeroU32, of: &'static str) -> Self {
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1));
        let limiter = RateLimiter::dashmap(Quota::per_second(per_second).allow_burst(burst));
        Self { limiter, per_second, of }
    }

    fn take(&self, key: &K) -> Result<(), Error> {
        self.limiter.check_key(key).map_err(|not_until| Error::RateLimited {
            of: self.of,
            per_second: self.per_second.get(),
            retry_after: not_until.wait_time_from(DefaultClock::default().now()),
        })
    }

    fn forget(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl Overload {
    /// With these limits, nothing taken on yet.
    #[must_use]
    pub fn new(limits: &Limits, meter: Meter) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(limits.calls)),
            bytes: Arc::new(Semaphore::new(limits.bytes)),
            share: LEAST_SHARE.max(limits.bytes / SHARES),
            shares: Mutex::default(),
            callers: limits.caller_rate.map(|rate| Rate::new(rate, "caller")),
            organizations: limits.organization_rate.map(|rate| Rate::new(rate, "organization")),
            meter,
        }
    }

    /// Whether there is room for one more call.
    fn look(&self) -> Result<(), Error> {
        if self.calls.available_permits() == 0 { Err(self.shed()) } else { Ok(()) }
    }

    /// Room for one more call.
    pub fn call(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.calls).try_acquire_owned().map_err(|_| self.shed())
    }

    /// Room for a request of a caller, if there is one, that is about to be read.
    pub fn room(self: &Arc<Self>, caller: Option<&Caller>) -> Room {
        Room { overload: Arc::clone(self), key: caller.map(CallerKey::of), bytes: 0 }
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<CallerKey, usize>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call of a caller.
    pub fn of_caller(&self, caller: &Caller) -> Result<(), Error> {
        let Some(rate) = &self.callers else { return Ok(()) };
        rate.take(&CallerKey::of(caller)).inspect_err(|_| self.limited())
    }

    /// Counts a call for an organization.
    pub fn of_organization(&self, organization_id: Uuid) -> Result<(), Error> {
        let Some(rate) = &self.organizations else { return Ok(()) };
        rate.take(&organization_id).inspect_err(|_| self.limited())
    }

    /// The refusal of a call for which there is no room.
    pub fn shed(&self) -> Error {
        self.meter.shed.inc();
        Error::Overloaded { retry_after: TRY_AGAIN }
    }

    fn limited(&self) {
        self.meter.limited.inc();
    }

    /// Forgets, from time to time, those of whom nothing came for a while, until `stop`.
    pub async fn forget(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(FORGET_EVERY) => {}
            }
            self.callers.iter().for_each(Rate::forget);
            self.organizations.iter().for_each(Rate::forget);
        }
    }
}

/// What a request takes of the room that there is for bytes, until it is dropped.
#[derive(Debug)]
pub struct Room {
    overload: Arc<Overload>,
    key: Option<CallerKey>,
    bytes: usize,
}

impl Room {
    /// Takes so many bytes more: of what there is for all, and of what one caller may have of it. Whoever sends much and slowly
    /// would else leave no room for those who send little.
    pub fn grow(&mut self, count: usize) -> Result<(), Error> {
        let overload = &self.overload;
        let permits = u32::try_from(count).map_err(|_| overload.shed())?;
        let all = overload.bytes.try_acquire_many(permits).map_err(|_| overload.shed())?;
        if let Some(key) = self.key.as_ref().filter(|_| count > 0) {
            let mut shares = overload.shares();
            let has = shares.get(key).copied().unwrap_or_default().saturating_add(count);
            if has > overload.share {
                return Err(overload.shed());
            }
            shares.insert(key.clone(), has);
        }
        all.forget();
        self.bytes += count;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(key) = self.key.as_ref().filter(|_| self.bytes > 0) {
            let mut shares = self.overload.shares();
            let left = shares.get(key).copied().unwrap_or_default().saturating_sub(self.bytes);
            match left {
                0 => shares.remove(key),
                _ => shares.insert(key.clone(), left),
            };
        }
        self.overload.bytes.add_permits(self.bytes);
    }
}

/// Refuses calls while there is no room, before anything is done for them: not even who calls is looked at.
impl Check for Arc<Overload> {
    fn refusal<B>(&self, _: &mut Request<B>) -> Option<Response<()>> {
        self.look().err().map(|error| Status::from(error).into_http())
    }
}
