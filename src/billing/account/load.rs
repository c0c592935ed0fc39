//! Reads the account.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _};

use super::{Account, Draft, Kept};
use crate::app::App;
use crate::auth::scope::Scope;
use crate::billing::calendar::Span;
use crate::billing::catalogue::Catalogue;
use crate::billing::invoicing::TaxTreatment;
use crate::billing::metering::LONGEST_PERIOD;
use crate::billing::money::TooLarge;
use crate::billing::proration::{Item, Line, Returned, TaxRate};
use crate::billing::store;
use crate::billing::subscription::{Agreement, Subscription};
use crate::entity::invoice::State;
use crate::entity::invoice_line::{self, Kind};
use crate::entity::{invoice, payment_method, subscription, usage_total};
use crate::error::Error;
use crate::id;
use crate::operation::Unit;
use crate::operation::store::read_json;

/// How long after its period usage can still be reported.
const LATEST_USAGE: TimeDelta = TimeDelta::days(35);

impl<'a> Account<'a> {
    /// Reads the account of the organization that a unit of work has locked.
    ///
    /// # Errors
    ///
    /// As [`Account::load`].
    pub async fn of<A>(unit: &Unit<'a, A>) -> Result<Box<Self>, Error> {
        let mut account = Self::load(unit.transaction(), unit.app, unit.scope(), unit.now).await?;
        account.of_organization(unit.organization_name());
        Ok(account)
    }

    /// Reads the account of an organization.
    ///
    /// # Errors
    ///
    /// `PLAN_UNKNOWN` when nothing was agreed on yet, and the catalogue does not have the plan.
    pub async fn load(
        connection: &impl ConnectionTrait,
        app: &'a App,
        scope: Scope,
        now: DateTime<Utc>,
    ) -> Result<Box<Self>, Error> {
        let (catalogue, provider) = (&app.catalogue, &app.provider);
        let row = store::load(connection, scope).await?;
        let subscription = subscription_of(&row, catalogue, now)?;
        let mut account = Box::new(Self {
            catalogue,
            before: subscription.clone(),
            subscription,
            draft: None,
            invoices: Vec::new(),
            changes: Vec::new(),
            provider,
            default_method: None,
            stored: row.clone(),
            row,
            profile: None,
            organization_name: String::new(),
            treatment: None,
            usage: Vec::new(),
            usage_before: Vec::new(),
            credits: Vec::new(),
            payments: Vec::new(),
            given_back: Vec::new(),
            dropped_draft: None,
            asked: Vec::new(),
            next_invoice_id: id::new(now),
        });
        // Who was never billed has none of the rest.
        if account.row.currency.is_some() {
            account.load_invoices(connection).await?;
        }
        account.load_surroundings(connection, now).await?;
        Ok(account)
    }

    async fn load_invoices(&mut self, connection: &impl ConnectionTrait) -> Result<(), Error> {
        use invoice::Column as C;
        let of = self.row.organization_id;
        let rows = invoice::Entity::find()
            .filter(C::OrganizationId.eq(of))
            .filter(C::State.is_in([State::Draft, State::Open]))
            .order_by_asc(C::Number)
            .all(connection)
            .await?;
        let (drafts, open): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.state == State::Draft);
        let kept = |row| Kept { row, lines: Vec::new(), taxes: Vec::new(), changed: false };
        self.invoices = open.into_iter().map(kept).collect();
        if let Some(draft) = drafts.into_iter().next() {
            let lines = store::list_lines(connection, of, draft.invoice_id).await?;
            self.draft = Some(Draft {
                invoice_id: draft.invoice_id,
                // What comes on top is figured when it is needed.
                lines: lines.into_iter().filter(|row| row.kind != Kind::Tax).map(line).collect::<Result<_, _>>()?,
                created_at: draft.created_at,
                changed: false,
            });
        }
        Ok(())
    }

    async fn load_surroundings(&mut self, connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<(), Error> {
        use usage_total::Column as U;
        let scope = Scope::of_newcomer(self.row.organization_id);
        self.profile = store::find_profile(connection, scope).await?;
        self.treatment = read_json::<TaxTreatment>(self.profile.as_ref().and_then(|profile| profile.tax.as_ref()))?;
        self.usage = usage_total::Entity::find()
            .filter(U::OrganizationId.eq(self.row.organization_id))
            .filter(U::PeriodEnd.gte(now - LATEST_USAGE - LONGEST_PERIOD))
            .order_by_asc(U::PeriodStart)
            .order_by_asc(U::Meter)
            .all(connection)
            .await?;
        self.usage_before.clone_from(&self.usage);
        if self.row.provider_customer.is_some() {
            self.asked = store::list_pending(connection, self.row.organization_id).await?;
            self.default_method = payment_method::Entity::find()
                .filter(payment_method::Column::OrganizationId.eq(self.row.organization_id))
                .filter(payment_method::Column::IsDefault.eq(true))
                .one(connection)
                .await?;
        }
        Ok(())
    }
}

/// What a stored subscription is. One that an import or an older version wrote agreed on what the catalogue says now; what was
/// paid for the period under way was paid elsewhere, and periods are counted from its beginning.
pub fn subscription_of(
    row: &subscription::Model,
    catalogue: &Catalogue,
    now: DateTime<Utc>,
) -> Result<Subscription, Error> {
    if let Some(agreement) = read_json::<Agreement>(row.agreement.as_ref())? {
        return Ok(Subscription { status: row.status, seats: row.seats, agreement });
    }
    let plan = catalogue.plan(&row.plan_id);
    let terms = plan.and_then(|plan| plan.terms(None, None));
    let terms = terms.ok_or_else(|| Error::PlanUnknown { plan_id: row.plan_id.clone() })?;
    let mut subscription = Subscription::beginning(row.status, terms, row.seats, row.created_at);
    subscription.agreement.period = Span { start: row.created_at, end: row.created_at };
    subscription.agreement.period = subscription.period_at(now);
    Ok(subscription)
}

/// A line of the draft. Only of one that gives back is it known already how it is taxed.
fn line(row: invoice_line::Model) -> Result<Line, TooLarge> {
    let add_on = row.add_on_id.unwrap_or_default();
    let returned = match row.tax_rate.zip(row.tax_included) {
        None => None,
        Some((millionths, included)) => {
            let rate = TaxRate { millionths, included };
            let tax_minor = row.returned_tax_minor.map_or_else(|| rate.on(row.amount_minor), Ok)?;
            Some(Returned { invoice_id: row.credited_invoice_id, rate, tax_minor })
        }
    };
    Ok(Line {
        item: match row.kind {
            Kind::Plan | Kind::Tax => Item::Plan,
            Kind::Seats => Item::Seats,
            Kind::AddOn => Item::AddOn(add_on),
            Kind::Usage => Item::Usage(add_on),
        },
        description: row.description,
        quantity: row.quantity,
        unit_price_minor: row.unit_price_minor,
        amount_minor: row.amount_minor,
        span: Span { start: row.period_start, end: row.period_end },
        prorated: row.prorated,
        returned,
    })
}
