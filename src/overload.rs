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
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::auth::caller::Caller;
use crate::check::Check;
use crate::error::Error;
use crate::seldom::Seldom;

/// When to try again where there was no room.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// How many seconds' worth of calls may come at once.
const BURST_SECONDS: u32 = 2;

/// The part of the room for bytes that one caller may have, and how much at least: a request of the largest size, and another.
const SHARES_OF_BYTES: usize = 8;
const LEAST_BYTES: usize = 2 * 1024 * 1024 + 64;

/// The part of the places that one user may have. Services may have them all: who calls through one is for it to say.
const SHARES_OF_CALLS: usize = 4;

/// How many watches there may be at a time, and how many of one user.
const WATCHES: usize = 2048;
const WATCHES_OF_A_USER: usize = 16;

/// How many calls at a time may wait for somebody outside, a name server or the payment provider, and how many of one user.
const OUTSIDE: usize = 64;
const OUTSIDE_OF_A_USER: usize = 4;

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
    /// Calls that were refused because their caller, or their organization, makes too many, or has too many at a time.
    pub limited: Counter,
}

/// What there is so much of, and no more.
#[derive(Clone, Copy, Debug)]
enum Good {
    Calls,
    Bytes,
    Watches,
    /// Calls that wait for somebody outside, longer than anything here takes.
    Outside,
}

/// How many goods there are.
const GOODS: usize = 4;

impl Good {
    /// What a caller hears of it.
    fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Bytes => "bytes of requests",
            Self::Watches => "watches",
            Self::Outside => "calls that ask outside",
        }
    }
}

/// One of them.
#[derive(Debug)]
struct Stock {
    free: Semaphore,
    /// How much one user may have.
    of_a_user: usize,
    /// How much one service may have.
    of_a_service: usize,
}

impl Stock {
    fn new(all: usize, of_a_user: usize, of_a_service: usize) -> Self {
        Self { free: Semaphore::new(all), of_a_user, of_a_service }
    }
}

/// What is taken on.
pub struct Overload {
    calls: Stock,
    bytes: Stock,
    watches: Stock,
    outside: Stock,
    /// What each caller has of them.
    shares: Mutex<HashMap<CallerKey, [usize; GOODS]>>,
    callers: Option<Rate<CallerKey>>,
    organizations: Option<Rate<Uuid>>,
    meter: Meter,
    /// That the log said so: a line for each would cost more than the refusal.
    said: Seldom,
}

impl fmt::Debug for Overload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Overload")
            .field("calls", &self.calls)
            .field("bytes", &self.bytes)
            .field("watches", &self.watches)
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
        let share_of_bytes = LEAST_BYTES.max(limits.bytes / SHARES_OF_BYTES);
        Self {
            calls: Stock::new(limits.calls, limits.calls.div_ceil(SHARES_OF_CALLS), limits.calls),
            bytes: Stock::new(limits.bytes, share_of_bytes, share_of_bytes),
            watches: Stock::new(WATCHES, WATCHES_OF_A_USER, WATCHES),
            outside: Stock::new(OUTSIDE, OUTSIDE_OF_A_USER, OUTSIDE),
            shares: Mutex::default(),
            callers: limits.caller_rate.map(|rate| Rate::new(rate, "caller")),
            organizations: limits.organization_rate.map(|rate| Rate::new(rate, "organization")),
            meter,
            said: Seldom::default(),
        }
    }

    /// Whether there is room for one more call.
    fn look(&self) -> Result<(), Error> {
        if self.calls.free.available_permits() == 0 { Err(self.shed()) } else { Ok(()) }
    }

    /// Room for one more call, of a caller if it has one.
    pub fn call(self: &Arc<Self>, caller: Option<&Caller>) -> Result<Taken, Error> {
        self.one(Good::Calls, caller)
    }

    /// Room for one more watch of a caller.
    pub fn watch(self: &Arc<Self>, caller: &Caller) -> Result<Taken, Error> {
        self.one(Good::Watches, Some(caller))
    }

    /// Room for one more call of a caller that waits for somebody outside.
    pub fn outside(self: &Arc<Self>, caller: &Caller) -> Result<Taken, Error> {
        self.one(Good::Outside, Some(caller))
    }

    /// Room for a request that is about to be read, none of it taken yet.
    pub fn request(self: &Arc<Self>, caller: Option<&Caller>) -> Taken {
        self.taken(Good::Bytes, caller)
    }

    fn one(self: &Arc<Self>, good: Good, caller: Option<&Caller>) -> Result<Taken, Error> {
        let mut taken = self.taken(good, caller);
        taken.more(1)?;
        Ok(taken)
    }

    fn taken(self: &Arc<Self>, good: Good, caller: Option<&Caller>) -> Taken {
        Taken { overload: Arc::clone(self), good, key: caller.map(CallerKey::of), count: 0 }
    }

    fn stock(&self, good: Good) -> &Stock {
        match good {
            Good::Calls => &self.calls,
            Good::Bytes => &self.bytes,
            Good::Watches => &self.watches,
            Good::Outside => &self.outside,
        }
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<CallerKey, [usize; GOODS]>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call of a caller.
    pub fn of_caller(&self, caller: &Caller) -> Result<(), Error> {
        let Some(rate) = &self.callers else { return Ok(()) };
        rate.take(&CallerKey::of(caller)).inspect_err(|_| self.limited())
    }

    /// Whether calls for an organization are counted.
    #[must_use]
    pub fn counts_organizations(&self) -> bool {
        self.organizations.is_some()
    }

    /// Counts a call for an organization.
    pub fn of_organization(&self, organization_id: Uuid) -> Result<(), Error> {
        let Some(rate) = &self.organizations else { return Ok(()) };
        rate.take(&organization_id).inspect_err(|_| self.limited())
    }

    /// The refusal of a call for which there is no room.
    pub fn shed(&self) -> Error {
        self.meter.shed.inc();
        if self.said.is_time() {
            tracing::warn!(refused = self.meter.shed.get(), "calls are refused for want of room");
        }
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

/// What was taken of something, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    overload: Arc<Overload>,
    good: Good,
    key: Option<CallerKey>,
    count: usize,
}

impl Taken {
    /// Takes so many more: of what there is for all, and of what one caller may have of it. Whoever sends much and slowly, or asks for
    /// much at once, would else leave no room for those who do not.
    pub fn more(&mut self, count: usize) -> Result<(), Error> {
        let (overload, good) = (&self.overload, self.good);
        let stock = overload.stock(good);
        let permits = u32::try_from(count).map_err(|_| overload.shed())?;
        let all = stock.free.try_acquire_many(permits).map_err(|_| overload.shed())?;
        if let Some(key) = self.key.as_ref().filter(|_| count > 0) {
            let most = match key {
                CallerKey::User(_) => stock.of_a_user,
                CallerKey::Service(_) => stock.of_a_service,
            };
            let mut shares = overload.shares();
            let exceeded = || {
                overload.limited();
                Error::ShareTaken { of: good.name(), at_a_time: most, retry_after: TRY_AGAIN }
            };
            match shares.get_mut(key).map(|share| &mut share[good as usize]) {
                Some(has) if has.saturating_add(count) > most => return Err(exceeded()),
                Some(has) => *has += count,
                None if count > most => return Err(exceeded()),
                None => {
                    let mut share = [0; GOODS];
                    share[good as usize] = count;
                    shares.insert(key.clone(), share);
                }
            }
        }
        all.forget();
        self.count += count;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(key) = self.key.as_ref().filter(|_| self.count > 0) {
            let mut shares = self.overload.shares();
            if let Some(share) = shares.get_mut(key) {
                share[self.good as usize] -= self.count;
                if *share == [0; GOODS] {
                    shares.remove(key);
                }
            }
        }
        self.overload.stock(self.good).free.add_permits(self.count);
    }
}

/// Refuses calls while there is no room, before anything is done for them: not even who calls is looked at.
impl Check for Arc<Overload> {
    fn refusal<B>(&self, _: &mut Request<B>) -> Option<Response<()>> {
        self.look().err().map(|error| Status::from(error).into_http())
    }
}
