//! How every operation runs: the part that is the same for all of them, said once.
//!
//! A [`Query`] reads; a [`Command`] changes. Both are the request, parsed; their `run` decides and does what is theirs. The
//! rest is here, in this order, and cannot be forgotten:
//!
//! - *query*: parse → scope → load the organization and the caller's stored membership → admit → run
//! - *command*: parse → wait in the organization's line → begin → lock the organization → admit on the stored role → answer a repeated request → run → write
//!   counters and events → keep the answer → commit; again from the start when it lost against a concurrent change
//!
//! Authorization is decided before a fault of the request is told, so that a stranger learns nothing.

pub mod actor;
mod held;
pub mod standing;
pub mod store;
pub mod unit;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost::Message;
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::app::App;
use crate::auth::policy::{RoleDefinition, RolePolicy};
use crate::auth::scope::{self, Author, Authorized, Scope};
use crate::chance::chance;
use crate::database::{Reads, Transaction};
use crate::entity::{membership, organization};
use crate::error::Error;
use crate::idempotency::{self, RequestKey};
use crate::pb::{MutationRequest, OrganizationRequest, Permission};

use actor::Actor;
pub use actor::{Founder, Member, MemberOrService, Newcomer, Trusted};
use held::Held;
use standing::Standing;
use unit::Entry;
pub use unit::{SeatCount, Unit};

/// How often a change is begun again when it loses against others, before the caller is told.
const ATTEMPTS: u32 = 5;

/// How long it waits before the second at most, before the third twice as long, and so on.
const PAUSE: Duration = Duration::from_millis(10);

/// A change: the request of a mutating RPC, parsed.
pub trait Command: Sized + Send + Sync {
    /// The request on the wire.
    type Request: Message + MutationRequest + Sync + 'static;
    /// The answer on the wire.
    type Response: Message + Default;
    /// By which right the caller enters.
    type Actor: Actor<Self>;

    /// Whether it can be done to an organization that is deleted and not yet purged.
    const ON_DELETED: bool = false;
    /// Whether a repeated request is answered even if the caller's right to make it has ended since, because it is this
    /// very change that ends it: who has left and did not hear the answer shall hear it.
    const ENDS_OWN_RIGHT: bool = false;
    /// Whether `prepare` has something to do.
    const PREPARES: bool = false;

    /// Reads the request and names everything that is wrong with it.
    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error>;

    /// Asks the world outside, for whoever may make this change, before a transaction is begun: nothing slow runs inside one.
    /// What it hears `run` judges.
    fn prepare(&mut self, _app: &App, _place: Place) -> impl Future<Output = Result<(), Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Decides and does it, inside the transaction that holds the organization's lock.
    fn run(&self, unit: &mut Unit<'_, Self::Actor>) -> impl Future<Output = Result<Self::Response, Error>> + Send;
}

/// Something to read about one organization.
pub trait Query: Sized + Send + Sync {
    /// The request on the wire.
    type Request: OrganizationRequest + Sync;
    /// The answer on the wire.
    type Response;

    /// Whether a deleted organization that is not yet purged shows it.
    const ON_DELETED: bool = false;
    /// Whether it has an answer also where there is no such organization. Only services can ask so.
    const ON_MISSING: bool = false;

    /// Reads the request and names everything that is wrong with it.
    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error>;

    /// A member whom it reads besides the caller: found with the caller's own membership, as [`Reader::other`].
    fn other(&self) -> Option<&str> {
        None
    }

    /// Reads it.
    fn run(&self, reader: &Reader<'_>) -> impl Future<Output = Result<Self::Response, Error>> + Send;
}

/// What a query reads with.
#[derive(Debug)]
pub struct Reader<'a> {
    /// The parts of the service.
    pub app: &'a App,
    /// Proof that the caller may read this organization.
    pub scope: Scope,
    /// The call.
    pub authorized: &'a Authorized,
    /// The role policy of the organization, with the roles that it defined for itself.
    pub policy: &'a RolePolicy,
    organization: Option<Arc<organization::Model>>,
    /// The caller's stored membership; none for a service.
    pub membership: Option<membership::Model>,
    /// The membership of [`Query::other`], where there is one.
    pub other: Option<membership::Model>,
    /// The caller's stored role; none for a service.
    pub role: Option<&'a RoleDefinition>,
    /// The instant for which it is read.
    pub now: DateTime<Utc>,
}

impl Reader<'_> {
    /// Where to read.
    pub fn connection(&self) -> &Reads {
        self.app.database.reader()
    }

    /// Whether the caller sees what a permission besides the one of the RPC itself shows. Services see everything.
    pub fn sees(&self, permission: Permission) -> bool {
        self.role.is_none_or(|role| role.allows(permission))
    }

    /// Refuses unless the caller has a permission besides the one that the RPC itself needs. Services need none.
    pub fn needs(&self, permission: Permission) -> Result<(), Error> {
        self.role.map_or(Ok(()), |role| role.require(permission))
    }

    /// The organization; refused only where there is none, which queries that are asked there have to expect.
    pub fn organization(&self) -> Result<&organization::Model, Error> {
        let organization_id = self.scope.organization_id();
        self.organization.as_deref().ok_or(Error::OrganizationNotFound { organization_id })
    }
}

/// Runs a query.
pub async fn read<Q: Query>(app: &App, request: Request<Q::Request>) -> Result<Response<Q::Response>, Status> {
    let (authorized, request) = split(request)?;
    let answer = query::<Q>(app, &authorized, &request).await?;
    Ok(Response::new(answer))
}

async fn query<Q: Query>(app: &App, authorized: &Authorized, request: &Q::Request) -> Result<Q::Response, Error> {
    let scope = authorized.scope(request.organization_id());
    // Its faults are told once it is known that the caller may.
    let parsed = Q::parse(request, app);
    let scope = match scope {
        Ok(scope) => scope,
        Err(refusal) => return all_faults(Err(refusal), parsed.map(|_| ())),
    };
    let other = parsed.as_ref().ok().and_then(Q::other);
    let user_id = authorized.user().ok().map(|user| user.user_id.as_str().to_owned());
    let now = app.clock.now();
    let (standing, policy) = if let Some(user_id) = &user_id {
        store::find_standing(app, scope, user_id, other.filter(|other| other != user_id)).await?
    } else {
        let reader = app.database.reader();
        let found = store::find(reader, scope).await?;
        let policy = store::policy_of(reader, &app.policy, found.as_ref()).await?;
        let other = match other {
            Some(other) => store::find_member(reader, scope, other).await?,
            None => None,
        };
        (Standing { organization: found.map(Arc::new), membership: None, other }, policy)
    };
    let Standing { organization, membership, other } = standing;
    let found = organization.filter(|organization| scope::exists(organization, now));
    let role = match user_id {
        Some(_) => {
            let about = request.about();
            Some(authorized.admit(&policy, found.as_deref(), membership.as_ref(), about, now)?)
        }
        None => None,
    };
    // Counted once it is known that the caller may: whoever does not belong there uses none of it up.
    app.overload.of_organization(scope.organization_id())?;
    let query = parsed?;
    if !Q::ON_DELETED {
        found.as_deref().map_or(Ok(()), not_deleted)?;
    }
    let reader = Reader { app, scope, authorized, policy: &policy, organization: found, membership, other, role, now };
    if !Q::ON_MISSING {
        reader.organization()?;
    }
    query.run(&reader).await
}

/// The organization, if who was let in is still to be: for calls that go on.
pub async fn standing(app: &App, authorized: &Authorized, scope: Scope) -> Result<Arc<organization::Model>, Error> {
    let now = app.clock.now();
    let found = match authorized.user() {
        Ok(user) => {
            let (standing, policy) = store::find_standing(app, scope, user.user_id.as_str(), None).await?;
            authorized.admit(&policy, standing.organization.as_deref(), standing.membership.as_ref(), None, now)?;
            standing.organization
        }
        Err(_) => store::find(app.database.reader(), scope).await?.map(Arc::new),
    };
    let organization_id = scope.organization_id();
    found.filter(|found| scope::exists(found, now)).ok_or(Error::OrganizationNotFound { organization_id })
}

/// Runs a command.
pub async fn change<C: Command>(app: &App, request: Request<C::Request>) -> Result<Response<C::Response>, Status> {
    let (authorized, request) = split(request)?;
    let answer = command::<C>(app, &authorized, &request).await?;
    Ok(Response::new(answer))
}

async fn command<C: Command>(app: &App, authorized: &Authorized, request: &C::Request) -> Result<C::Response, Error> {
    let parsed = all_faults(C::parse(request, app), idempotency::request_id(request).map(|_| ()));
    let place = match C::Actor::place(authorized, request, &parsed) {
        Ok(place) => place,
        Err(refusal) => return all_faults(Err(refusal), parsed.map(|_| ())),
    };
    // Who may not hears only that, and a faulty request takes no lock. Nor does anybody fill an organization's line, or use up its rate,
    // who does not belong there.
    let organization_id = place.organization.map(Scope::organization_id);
    let is_busy = organization_id.is_some_and(|id| app.lanes.is_busy(id));
    let is_counted = C::Actor::BELONGS && app.overload.counts_organizations();
    // A rehearsal neither hears an earlier answer nor leaves one.
    let key = || {
        if request.validate_only() { Ok(None) } else { RequestKey::of(request, authorized.caller(), place.answers_in) }
    };
    if (parsed.is_err() || C::PREPARES || is_busy || is_counted)
        && let Err(refusal) = C::Actor::glance(app, authorized, place).await
    {
        // Who gave up their right by this very request hears its answer again.
        let may_be_repeated = C::ENDS_OWN_RIGHT && parsed.is_ok() && !matches!(refusal, Error::Database(_));
        return match if may_be_repeated { key()? } else { None } {
            Some(key) => kept::<C>(app, &key).await?.ok_or(refusal),
            None => Err(refusal),
        };
    }
    if is_busy && !C::Actor::BELONGS {
        return Err(app.overload.shed());
    }
    if let Some(organization_id) = organization_id.filter(|_| is_counted) {
        app.overload.of_organization(organization_id)?;
    }
    let mut parsed = parsed?;
    if C::PREPARES {
        let _place = app.overload.outside(authorized.caller())?;
        parsed.prepare(app, place).await?;
    }
    let key = key()?;
    let authorized = &authorized.hiding(request.request_id());
    let attempt =
        Attempt { app, authorized, command: &parsed, key: key.as_ref(), place, keep: !request.validate_only() };
    let mut attempts = 1;
    loop {
        match attempt.run().await {
            Err(error) if error.is_conflict() && attempts < ATTEMPTS => {
                // So that those who met do not meet again.
                tokio::time::sleep(PAUSE.mul_f64(f64::from(attempts) * chance())).await;
                attempts += 1;
            }
            Err(error) if error.is_conflict() => return Err(Error::Conflict),
            Err(refusal) => return attempt.answer_of_twin().await?.ok_or(refusal),
            Ok(answer) => return Ok(answer),
        }
    }
}

/// The answer that was kept under a key.
async fn kept<C: Command>(app: &App, key: &RequestKey) -> Result<Option<C::Response>, Error> {
    let transaction = app.database.begin().await?;
    key.find(&transaction, app.clock.now()).await
}

/// Where a command takes place.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The organization to lock; none when the command makes one.
    pub organization: Option<Scope>,
    /// Under which key its answer is kept.
    pub answers_in: Uuid,
}

impl Place {
    /// The organization that a request names, as far as the caller may name it.
    fn named(authorized: &Authorized, request: &impl OrganizationRequest) -> Result<Self, Error> {
        let scope = authorized.scope(request.organization_id())?;
        Ok(Self { organization: Some(scope), answers_in: scope.organization_id() })
    }
}

struct Attempt<'a, C> {
    app: &'a App,
    authorized: &'a Authorized,
    command: &'a C,
    key: Option<&'a RequestKey>,
    place: Place,
    /// Whether to commit.
    keep: bool,
}

impl<C: Command> Attempt<'_, C> {
    async fn run(&self) -> Result<C::Response, Error> {
        let held = Held::begin(self.app, self.place).instrument(info_span!("begin")).await?;
        let worked = self.work(held.transaction()?, held.name()).await;
        match worked {
            Ok((answer, seats)) if self.keep => {
                held.commit().instrument(info_span!("commit")).await?;
                self.app.feed.committed();
                self.app.metrics.moved(seats);
                Ok(answer)
            }
            // A rehearsal leaves nothing, once the database has had its say; nor does a refusal.
            worked => {
                held.rollback().await;
                worked.map(|(answer, _)| answer)
            }
        }
    }

    async fn work(&self, transaction: &Transaction, name: &str) -> Result<(C::Response, SeatCount), Error> {
        let organization = match self.place.organization {
            Some(scope) => store::lock(transaction, scope, Some(name)).await?,
            None => None,
        };
        // Read under the lock, so that the times of an organization's events follow their order.
        let now = self.app.clock.now();
        if C::ENDS_OWN_RIGHT
            && let Some(answer) = self.stored(transaction, now).await?
        {
            return Ok((answer, SeatCount::default()));
        }
        let organization = organization.filter(|found| scope::exists(found, now));
        let policy = store::policy_of(transaction, &self.app.policy, organization.as_ref()).await?;
        let (place, found) = (self.place, organization.as_ref());
        let actor = C::Actor::enter(transaction, &policy, self.authorized, place, found, now).await?;
        if !C::ENDS_OWN_RIGHT
            && let Some(answer) = self.stored(transaction, now).await?
        {
            return Ok((answer, SeatCount::default()));
        }
        if !C::ON_DELETED {
            organization.as_ref().map_or(Ok(()), not_deleted)?;
        }
        let author = Author::of(self.authorized);
        let entry = Entry { transaction, author, policy, organization: organization.as_ref(), now, keep: self.keep };
        let mut unit = Unit::new(self.app, actor, entry)?;
        let answer = self.command.run(&mut unit).await?;
        let seats = unit.finish(self.key, &answer).await?;
        Ok((answer, seats))
    }

    /// The answer of the same request sent twice, which a call that waits for no organization's lock may have been refused
    /// for: the slug that it wants is taken, by itself.
    async fn answer_of_twin(&self) -> Result<Option<C::Response>, Error> {
        match self.key {
            Some(key) if self.place.organization.is_none() => kept::<C>(self.app, key).await,
            _ => Ok(None),
        }
    }

    async fn stored(&self, transaction: &Transaction, now: DateTime<Utc>) -> Result<Option<C::Response>, Error> {
        match self.key {
            Some(key) => key.find(transaction, now).await,
            None => Ok(None),
        }
    }
}

/// Something that the service does of its own accord when the time has come.
pub trait Duty: Send + Sync {
    /// What comes of it.
    type Outcome: Send;

    /// Does it, inside the transaction that holds the organization's lock.
    fn run(&self, unit: &mut Unit<'_, Itself>) -> impl Future<Output = Result<Self::Outcome, Error>> + Send;
}

/// The right of the service to do what it has to.
#[derive(Clone, Copy, Debug)]
pub struct Itself;

/// Does something to an organization; nothing when it is gone, or somebody else is changing it and `patiently` is not said.
pub async fn undertake<D: Duty>(
    app: &App,
    organization_id: Uuid,
    duty: &D,
    patiently: bool,
) -> Result<Option<D::Outcome>, Error> {
    let scope = Scope::of_newcomer(organization_id);
    let held = Held::begin_patiently(app, scope).await?;
    match fulfil(app, scope, held.transaction()?, duty, patiently).await {
        Ok(fulfilled) => {
            held.commit().await?;
            app.feed.committed();
            Ok(fulfilled.map(|(outcome, seats)| {
                app.metrics.moved(seats);
                outcome
            }))
        }
        Err(error) => {
            held.rollback().await;
            Err(error)
        }
    }
}

async fn fulfil<D: Duty>(
    app: &App,
    scope: Scope,
    transaction: &Transaction,
    duty: &D,
    patiently: bool,
) -> Result<Option<(D::Outcome, SeatCount)>, Error> {
    let organization = if patiently {
        store::lock(transaction, scope, None).await?
    } else {
        store::lock_unless_held(transaction, scope).await?
    };
    let Some(organization) = organization else { return Ok(None) };
    let policy = store::policy_of(transaction, &app.policy, Some(&organization)).await?;
    let (service, call_id) = (Some("tenantry".to_owned()), "worker".to_owned());
    let author = Author { user_id: None, service, call_id, address: None };
    let now = app.clock.now();
    let entry = Entry { transaction, author, policy, organization: Some(&organization), now, keep: true };
    let mut unit = Unit::new(app, Itself, entry)?;
    let outcome = duty.run(&mut unit).await?;
    let seats = unit.finish(None, &()).await?;
    Ok(Some((outcome, seats)))
}

fn not_deleted(organization: &organization::Model) -> Result<(), Error> {
    match organization.deleted_at {
        None => Ok(()),
        Some(_) => Err(Error::OrganizationDeleted { purge_at: organization.purge_at }),
    }
}

/// Both results, or the faults of both at once.
fn all_faults<T>(first: Result<T, Error>, second: Result<(), Error>) -> Result<T, Error> {
    match (first, second) {
        (Err(Error::Fields(mut faults)), Err(Error::Fields(more))) => {
            faults.extend(more);
            Err(Error::Fields(faults))
        }
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(value), Ok(())) => Ok(value),
    }
}

/// Looks at the proof that the authorization layer left with the request.
pub fn authorized<R>(request: &Request<R>) -> Result<&Authorized, Error> {
    request.extensions().get::<Authorized>().ok_or(Error::defect("a call came past the authorization layer"))
}

/// Takes the proof that the authorization layer left with the request. Without it there is no access, whatever went wrong.
pub fn split<R>(request: Request<R>) -> Result<(Authorized, R), Error> {
    let (_, mut extensions, request) = request.into_parts();
    let authorized =
        extensions.remove::<Authorized>().ok_or(Error::defect("a call came past the authorization layer"))?;
    Ok((authorized, request))
}
