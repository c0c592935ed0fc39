//! What is asked of the payment provider: outside any transaction, as often as it takes, and done once.
//!
//! A payment is written as pending in the transaction that decides on it. Whoever claims it then asks the provider, under the
//! payment's own id as the key, and writes what came of it. A server that dies in between leaves a pending payment, which
//! another asks for again by the same key; when the provider may have forgotten the key, it is asked first what it knows.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::account::{Account, Asked, Paid};
use super::money::Currency;
use super::provider::http::HandleError;
use super::provider::stripe::webhook::{Event, EventKind, Payment};
use super::provider::{Card, Charge, Collected, Provider};
use super::store;
use crate::app::App;
use crate::entity::payment::{self, Column as P, State};
use crate::entity::payment_method::{self, Column as M};
use crate::entity::{invoice, provider_event};
use crate::error::{Error, OnConstraint as _};
use crate::event::Change;
use crate::operation::store::read_json;
use crate::operation::{self, Duty, Itself, Unit};
use crate::sql;
use crate::worker::guarded;

/// By this name the database knows the provider.
pub const STRIPE: &str = "stripe";

/// How long one server has a payment for itself: longer than a call to the provider takes.
const CLAIM: TimeDelta = TimeDelta::minutes(2);

/// How long one waits that the provider works on, or about which nothing was heard, before it is asked again: its events come
/// sooner.
const WAIT: TimeDelta = TimeDelta::hours(1);

/// How many payments one look finds.
const AT_ONCE: u64 = 20;

/// How long the events of the provider are remembered; it repeats them for days.
const EVENTS_KEPT: TimeDelta = TimeDelta::days(35);

/// Asks the provider for some payments that are pending. Says whether there may be more.
pub async fn collect_some(app: &App) -> Result<bool, Error> {
    if !app.provider.collects() {
        return Ok(false);
    }
    let mut more = false;
    for (organization_id, payment_id) in list_claimable(app.database.reader(), app.clock.now()).await? {
        match guarded(Box::pin(collect(app, organization_id, payment_id))).await {
            Ok(claimed) => more |= claimed,
            Err(error) if error.is_conflict() => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, org = %organization_id, payment = %payment_id, "a payment could not be collected now");
            }
        }
    }
    Ok(more)
}

/// Asks the provider for a payment, unless another server does. Says whether anything came of it.
async fn collect(app: &App, organization_id: Uuid, payment_id: Uuid) -> Result<bool, Error> {
    match operation::undertake(app, organization_id, &Claim { payment_id }, false).await? {
        None => Ok(false),
        // It is no more due as it was: what is due instead may be next.
        Some(None) => Ok(true),
        Some(Some(row)) => {
            let collected = ask(app, &row).await;
            operation::undertake(app, organization_id, &Conclude { payment_id, collected }, true).await?;
            Ok(true)
        }
    }
}

async fn list_claimable(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Vec<(Uuid, Uuid)>, DbErr> {
    payment::Entity::find()
        .select_only()
        .columns([P::OrganizationId, P::PaymentId])
        // Written out, not bound: only so can PostgreSQL tell that the partial index has all the rows that are asked for.
        .filter(Expr::cust("payment.state = 'pending'"))
        .filter(Condition::any().add(P::ClaimedUntil.is_null()).add(P::ClaimedUntil.lte(now)))
        .order_by_asc(P::ClaimedUntil)
        .limit(AT_ONCE)
        .into_tuple()
        .all(connection)
        .await
}

async fn find(unit: &Unit<'_, Itself>, payment_id: Uuid) -> Result<Option<payment::Model>, DbErr> {
    let key = (unit.scope().organization_id(), payment_id);
    payment::Entity::find_by_id(key).one(unit.transaction()).await
}

async fn find_pending(unit: &Unit<'_, Itself>, payment_id: Uuid) -> Result<Option<payment::Model>, DbErr> {
    Ok(find(unit, payment_id).await?.filter(|row| row.state == State::Pending))
}

/// Takes a pending payment for this server.
struct Claim {
    payment_id: Uuid,
}

impl Duty for Claim {
    type Outcome = Option<payment::Model>;

    async fn run(&self, unit: &mut Unit<'_, Itself>) -> Result<Self::Outcome, Error> {
        let Some(row) = find_pending(unit, self.payment_id).await? else { return Ok(None) };
        if row.claimed_until.is_some_and(|until| until > unit.now) {
            return Ok(None);
        }
        if !is_still_due(unit, &row).await? {
            return Ok(None);
        }
        claim_until(unit, &row, unit.now + CLAIM).await?;
        Ok(Some(row))
    }
}

/// Whether a payment is still to be asked for as it is. One for which nobody was asked yet, and of which not as much is due any
/// more, is forgotten; what is due instead is asked for anew.
async fn is_still_due(unit: &mut Unit<'_, Itself>, row: &payment::Model) -> Result<bool, Error> {
    let asked = row.reference.is_some() || row.claimed_until.is_some_and(|until| until > row.created_at);
    if asked {
        return Ok(true);
    }
    let invoice = store::load_invoice(unit.transaction(), unit.scope(), row.invoice_id).await?;
    if invoice.state == invoice::State::Open && invoice.due_minor() >= row.amount_minor {
        return Ok(true);
    }
    payment::Entity::delete_by_id((row.organization_id, row.payment_id)).exec(unit.transaction()).await?;
    let mut account = Account::of(unit).await?;
    account.ask_again(row.invoice_id, unit.now)?;
    account.save(unit).await?;
    Ok(false)
}

async fn claim_until(unit: &Unit<'_, Itself>, row: &payment::Model, until: DateTime<Utc>) -> Result<(), Error> {
    payment::Entity::update_many()
        .filter(P::OrganizationId.eq(row.organization_id))
        .filter(P::PaymentId.eq(row.payment_id))
        .col_expr(P::ClaimedUntil, Expr::value(Some(until)))
        .exec(unit.transaction())
        .await?;
    Ok(())
}

/// Asks the provider for a payment, or what became of it.
async fn ask(app: &App, row: &payment::Model) -> Collected {
    let unknown = |why: &str| Collected::Unknown { why: why.to_owned() };
    let asked: Result<Option<Asked>, Error> = read_json(row.request.as_ref());
    let (Ok(Some(asked)), Some(currency)) = (asked, Currency::parse(&row.currency)) else {
        return unknown("what was asked for cannot be read");
    };
    // What the provider works on is not asked for again, only after.
    if let Some(reference) = &row.reference {
        return app.provider.look_up(reference).await.unwrap_or_else(|error| unknown(&error.to_string()));
    }
    if row.created_at + Provider::KEYS_LAST <= app.clock.now() {
        match app.provider.find(&asked.customer, row.payment_id).await {
            Ok(Some(collected)) => return collected,
            Ok(None) => {}
            Err(error) => return unknown(&error.to_string()),
        }
    }
    let charge = Charge {
        payment_id: row.payment_id,
        organization_id: row.organization_id,
        invoice_id: row.invoice_id,
        invoice_number: &asked.invoice_number,
        amount_minor: row.amount_minor,
        currency,
        customer: &asked.customer,
        payment_method: &asked.payment_method,
        payment_method_kind: &asked.payment_method_kind,
    };
    app.provider.collect(&charge).await
}

/// Writes what came of a payment.
struct Conclude {
    payment_id: Uuid,
    collected: Collected,
}

impl Duty for Conclude {
    type Outcome = ();

    async fn run(&self, unit: &mut Unit<'_, Itself>) -> Result<(), Error> {
        // A webhook may have told already.
        let Some(row) = find_pending(unit, self.payment_id).await? else { return Ok(()) };
        match &self.collected {
            Collected::Succeeded { reference } => conclude(unit, &row, Some(reference), None).await,
            Collected::Declined { reference, code, hard, .. } => {
                conclude(unit, &row, reference.as_ref(), Some((code, *hard))).await
            }
            Collected::Processing { reference } => {
                payment::Entity::update_many()
                    .filter(P::OrganizationId.eq(row.organization_id))
                    .filter(P::PaymentId.eq(row.payment_id))
                    .col_expr(P::Reference, Expr::value(Some(reference.clone())))
                    .exec(unit.transaction())
                    .await?;
                claim_until(unit, &row, unit.now + WAIT).await
            }
            Collected::Unknown { why } => {
                tracing::warn!(org = %row.organization_id, payment = %row.payment_id, why, "nobody knows whether a payment succeeded; it is asked for again");
                // Soon at first, and less often the longer it takes.
                let wait = (unit.now - row.created_at).clamp(TimeDelta::minutes(1), WAIT);
                claim_until(unit, &row, unit.now + wait).await
            }
        }
    }
}

/// Ends a payment: it succeeded or, with a reason, did not.
async fn conclude(
    unit: &mut Unit<'_, Itself>,
    row: &payment::Model,
    reference: Option<&String>,
    failure: Option<(&str, bool)>,
) -> Result<(), Error> {
    let succeeded = failure.is_none();
    let (why, hard) = failure.unwrap_or_default();
    let reference = reference.or(row.reference.as_ref()).cloned();
    payment::Entity::update_many()
        .filter(P::OrganizationId.eq(row.organization_id))
        .filter(P::PaymentId.eq(row.payment_id))
        .col_expr(P::State, Expr::value(if succeeded { "succeeded" } else { "failed" }))
        .col_expr(P::AmountMinor, Expr::value(row.amount_minor))
        .col_expr(P::Reference, Expr::value(reference))
        .col_expr(P::Failure, Expr::value(why))
        .col_expr(P::EndedAt, Expr::value(Some(unit.now)))
        .exec(unit.transaction())
        .await
        .on_constraint("payment_reference_once", || Error::Conflict)?;
    let invoice = store::load_invoice(unit.transaction(), unit.scope(), row.invoice_id).await?;
    let mut account = Account::of(unit).await?;
    let paid = Paid { succeeded, amount_minor: row.amount_minor, failure: why.to_owned(), hard };
    let asked: Option<Asked> = read_json(row.request.as_ref())?;
    let method = asked.map(|asked| asked.payment_method);
    account.note_collected(&invoice, row.payment_id, &paid, method.as_deref(), unit.now)?;
    account.save(unit).await?;
    Ok(())
}

/// Does what an event of the provider says. Each is done once, whatever order they come in.
///
/// # Errors
///
/// When it could not be done now: the provider sends it again.
pub async fn handle(app: &App, event: Event) -> Result<(), HandleError> {
    let outcome = dispatch(app, event).await;
    outcome.map_err(|error| {
        let away = matches!(&error, Error::Database(_)) || error.is_conflict();
        let error: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
        if away { HandleError::Unavailable(error) } else { HandleError::Failed(error) }
    })
}

async fn dispatch(app: &App, event: Event) -> Result<(), Error> {
    match &event.kind {
        EventKind::PaymentSucceeded(payment) => of_payment(app, &event.id, payment, None).await,
        EventKind::PaymentFailed { payment, code, hard, .. } => {
            of_payment(app, &event.id, payment, Some((code.clone(), *hard))).await
        }
        EventKind::PaymentMethodRemoved { reference } => {
            of_method(app, &event.id, reference, MethodChange::Removed).await
        }
        EventKind::PaymentMethodUpdated(card) => {
            of_method(app, &event.id, &card.reference, MethodChange::Updated(card.clone())).await
        }
        EventKind::Other(_) => Ok(()),
    }
}

async fn of_payment(app: &App, event_id: &str, told: &Payment, failure: Option<(String, bool)>) -> Result<(), Error> {
    let mut rows = payment::Entity::find().filter(P::Provider.eq(STRIPE));
    rows = match told.payment_id {
        Some(payment_id) => rows.filter(P::PaymentId.eq(payment_id)),
        None => rows.filter(P::Reference.eq(told.reference.clone())),
    };
    // One that is of nobody here is another's who shares the account.
    let Some(row) = rows.one(app.database.reader()).await? else { return Ok(()) };
    let duty = Told {
        event_id: event_id.to_owned(),
        payment_id: row.payment_id,
        reference: told.reference.clone(),
        amount_minor: told.amount_minor,
        failure,
    };
    operation::undertake(app, row.organization_id, &duty, true).await?;
    Ok(())
}

/// What an event tells of a payment.
struct Told {
    event_id: String,
    payment_id: Uuid,
    reference: String,
    amount_minor: i64,
    failure: Option<(String, bool)>,
}

impl Duty for Told {
    type Outcome = ();

    async fn run(&self, unit: &mut Unit<'_, Itself>) -> Result<(), Error> {
        if !remember(unit, &self.event_id).await? {
            return Ok(());
        }
        let Some(mut row) = find(unit, self.payment_id).await? else { return Ok(()) };
        let Some((code, hard)) = &self.failure else {
            // Money that comes after all, although it was given up, is money.
            return match row.state {
                State::Succeeded => Ok(()),
                State::Pending | State::Failed => {
                    if self.amount_minor != row.amount_minor {
                        tracing::error!(org = %row.organization_id, payment = %row.payment_id, asked = row.amount_minor, came = self.amount_minor, "the provider collected another amount than it was asked for; what came is noted");
                        row.amount_minor = self.amount_minor;
                    }
                    conclude(unit, &row, Some(&self.reference), None).await
                }
            };
        };
        if row.state != State::Pending {
            // A failure that comes late was of an earlier try of the same payment.
            return Ok(());
        }
        conclude(unit, &row, Some(&self.reference), Some((code, *hard))).await
    }
}

/// Remembers an event, and says whether it is new.
async fn remember(unit: &Unit<'_, Itself>, event_id: &str) -> Result<bool, Error> {
    let key = (STRIPE.to_owned(), event_id.to_owned());
    if provider_event::Entity::find_by_id(key).one(unit.transaction()).await?.is_some() {
        return Ok(false);
    }
    let row =
        provider_event::Model { provider: STRIPE.to_owned(), event_id: event_id.to_owned(), created_at: unit.now };
    provider_event::Entity::insert(row.into_active_model())
        .exec_without_returning(unit.transaction())
        .await
        .on_constraint("provider_event_once", || Error::Conflict)?;
    Ok(true)
}

/// Forgets some of the events that were remembered long enough. Says whether there may be more.
pub async fn forget_some(app: &App, limit: u64) -> Result<bool, Error> {
    use provider_event::Column as E;
    let old = E::CreatedAt.lte(app.clock.now() - EVENTS_KEPT);
    let transaction = app.database.begin().await?;
    let key = [E::Provider, E::EventId];
    let forgotten = sql::delete_some::<provider_event::Entity>(&transaction, &key, old, limit).await?;
    transaction.commit().await?;
    Ok(forgotten > 0)
}

enum MethodChange {
    Removed,
    Updated(Card),
}

async fn of_method(app: &App, event_id: &str, reference: &str, change: MethodChange) -> Result<(), Error> {
    let found = payment_method::Entity::find()
        .filter(M::Provider.eq(STRIPE))
        .filter(M::Reference.eq(reference))
        .one(app.database.reader())
        .await?;
    let Some(row) = found else { return Ok(()) };
    let duty = MethodTold { event_id: event_id.to_owned(), payment_method_id: row.payment_method_id, change };
    operation::undertake(app, row.organization_id, &duty, true).await?;
    Ok(())
}

/// What an event tells of a payment method.
struct MethodTold {
    event_id: String,
    payment_method_id: Uuid,
    change: MethodChange,
}

impl Duty for MethodTold {
    type Outcome = ();

    async fn run(&self, unit: &mut Unit<'_, Itself>) -> Result<(), Error> {
        if !remember(unit, &self.event_id).await? {
            return Ok(());
        }
        let key = (unit.scope().organization_id(), self.payment_method_id);
        match &self.change {
            MethodChange::Removed => {
                let gone = payment_method::Entity::delete_by_id(key).exec(unit.transaction()).await?;
                if gone.rows_affected > 0 {
                    unit.record(Change::PaymentMethodRemoved { payment_method_id: self.payment_method_id });
                }
            }
            MethodChange::Updated(card) => {
                let (month, year) = expiry(card);
                payment_method::Entity::update_many()
                    .filter(M::OrganizationId.eq(key.0))
                    .filter(M::PaymentMethodId.eq(key.1))
                    .col_expr(M::Brand, Expr::value(card.brand.clone().unwrap_or_default()))
                    .col_expr(M::Last4, Expr::value(card.last4.clone().unwrap_or_default()))
                    .col_expr(M::ExpiryMonth, Expr::value(month))
                    .col_expr(M::ExpiryYear, Expr::value(year))
                    .exec(unit.transaction())
                    .await?;
                // The bank has given out another card, perhaps one that pays.
                let mut account = Account::of(unit).await?;
                if account.default_method.as_ref().is_some_and(|method| method.payment_method_id == key.1) {
                    account.payment_method_changed(unit.now)?;
                    account.save(unit).await?;
                }
            }
        }
        Ok(())
    }
}

/// Month and year in which a card expires; 0 when it does not.
pub(super) fn expiry(card: &Card) -> (i32, i32) {
    let part = |part: Option<u32>| part.and_then(|part| i32::try_from(part).ok()).unwrap_or_default();
    (part(card.expiry_month), part(card.expiry_year))
}
