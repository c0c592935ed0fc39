//! Payment methods: kept by the payment provider, and known here by what may be shown of them.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};
use uuid::Uuid;

use crate::app::App;
use crate::auth::scope::Scope;
use crate::billing::account::Account;
use crate::billing::collection::{STRIPE, expiry};
use crate::billing::profile::Profile;
use crate::billing::provider::{Card, Customer, ProviderError};
use crate::billing::{shown, store};
use crate::entity::payment_method::{self, Column as M};
use crate::entity::subscription;
use crate::error::{Billing, Error, OnConstraint as _};
use crate::event::Change;
use crate::fields::Fields;
use crate::id;
use crate::operation::store::read_json;
use crate::operation::{Command, Member, Place, Query, Reader, Unit};
use crate::pb;

/// The most payment methods of an organization.
const MOST: usize = 10;

/// What a failure of the provider means for who asked.
fn refused(error: &ProviderError) -> Error {
    match error {
        ProviderError::NotOffered => Billing::PaymentMethodsNotOffered.into(),
        ProviderError::Refused { code, .. } => Billing::PaymentMethodRefused { code: code.clone() }.into(),
        ProviderError::Unavailable { why } => {
            tracing::warn!(why, "the payment provider did not answer");
            Billing::ProviderUnavailable.into()
        }
    }
}

/// Where a command of one organization takes place.
fn scope_of(place: Place) -> Result<Scope, Error> {
    place.organization.ok_or(Error::defect("a member's command without an organization"))
}

pub(super) struct AddPaymentMethod {
    token: String,
    make_default: bool,
    validate_only: bool,
    /// Under which the provider is asked once, however often this request comes.
    key: Option<Uuid>,
    /// What the provider made of it: the customer and the payment method.
    added: Option<(String, Card)>,
}

impl Command for AddPaymentMethod {
    type Request = pb::AddPaymentMethodRequest;
    type Response = pb::AddPaymentMethodResponse;
    type Actor = Member;
    const PREPARES: bool = true;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let token = fields.line("provider_token", &request.provider_token, 1..=200);
        // One of another organization, or with another token, is another call, whatever its caller names it.
        let call =
            [&request.organization_id, &request.request_id, &request.provider_token].map(String::as_str).join(" ");
        let said = (!request.request_id.is_empty()).then(|| id::of_call(&call));
        fields.done(Self {
            token,
            make_default: request.make_default,
            validate_only: request.validate_only,
            key: said.or_else(|| Some(id::new(app.clock.now()))),
            added: None,
        })
    }

    async fn prepare(&mut self, app: &App, place: Place) -> Result<(), Error> {
        if !app.provider.collects() {
            return Err(Billing::PaymentMethodsNotOffered.into());
        }
        let scope = scope_of(place)?;
        let known = store::list_payment_methods(app.database.reader(), scope).await?;
        if known.len() >= MOST || self.validate_only {
            // A repeated request, perhaps, which hears its answer; whoever is one too many is refused in a moment.
            return Ok(());
        }
        let row = store::load(app.database.reader(), scope).await?;
        let profile = store::find_profile(app.database.reader(), scope).await?;
        let profile: Profile = read_json(profile.as_ref().map(|row| &row.profile))?.unwrap_or_default();
        let customer = Customer {
            organization_id: scope.organization_id(),
            name: &profile.name,
            email: &profile.email,
            known: row.provider_customer.as_deref(),
        };
        let customer = app.provider.ensure_customer(&customer).await.map_err(|error| refused(&error))?;
        let key = self.key.ok_or(Error::defect("a call without a key"))?;
        let card = app.provider.add_payment_method(key, &customer, &self.token).await;
        self.added = Some((customer, card.map_err(|error| refused(&error))?));
        Ok(())
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let known = store::list_payment_methods(unit.transaction(), unit.scope()).await?;
        let full = known.len() >= MOST;
        let limit = || Error::LimitReached { of: "payment methods", maximum: MOST };
        let Some((customer, card)) = &self.added else {
            // Only asked, or one too many when it was looked at.
            let only_asked = self.validate_only && !full;
            return if only_asked { Ok(pb::AddPaymentMethodResponse::default()) } else { Err(limit()) };
        };
        let mut row = match known.iter().find(|row| row.provider == STRIPE && row.reference == card.reference) {
            Some(row) => row.clone(),
            None if full => return Err(limit()),
            None => insert(unit, customer, card).await?,
        };
        if known.is_empty() || (self.make_default && !row.is_default) {
            row = make_default(unit, row).await?;
        }
        Ok(pb::AddPaymentMethodResponse { payment_method: Some(shown::payment_method(&row)) })
    }
}

async fn insert(unit: &mut Unit<'_, Member>, customer: &str, card: &Card) -> Result<payment_method::Model, Error> {
    let (expiry_month, expiry_year) = expiry(card);
    let row = payment_method::Model {
        organization_id: unit.scope().organization_id(),
        payment_method_id: id::new(unit.now),
        provider: STRIPE.to_owned(),
        reference: card.reference.clone(),
        kind: card.kind.clone(),
        brand: card.brand.clone().unwrap_or_default(),
        last4: card.last4.clone().unwrap_or_default(),
        expiry_month,
        expiry_year,
        is_default: false,
        created_at: unit.now,
    };
    payment_method::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(unit.transaction())
        .await
        .on_constraint("payment_method_once", || Error::Conflict)?;
    subscription::Entity::update_many()
        .filter(subscription::Column::OrganizationId.eq(row.organization_id))
        .col_expr(subscription::Column::ProviderCustomer, Expr::value(Some(customer.to_owned())))
        .exec(unit.transaction())
        .await?;
    unit.record(Change::PaymentMethodAdded { payment_method_id: row.payment_method_id, kind: row.kind.clone() });
    Ok(row)
}

pub(super) struct ListPaymentMethods;

impl Query for ListPaymentMethods {
    type Request = pb::ListPaymentMethodsRequest;
    type Response = pb::ListPaymentMethodsResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let rows = store::list_payment_methods(reader.connection(), reader.scope).await?;
        let payment_methods = rows.iter().map(shown::payment_method).collect();
        Ok(pb::ListPaymentMethodsResponse { payment_methods })
    }
}

/// Has invoices paid by a payment method from now on, what is overdue at once.
async fn make_default(
    unit: &mut Unit<'_, Member>,
    mut row: payment_method::Model,
) -> Result<payment_method::Model, Error> {
    for (is_default, chosen) in [(false, M::IsDefault.eq(true)), (true, M::PaymentMethodId.eq(row.payment_method_id))] {
        payment_method::Entity::update_many()
            .filter(M::OrganizationId.eq(row.organization_id))
            .filter(chosen)
            .col_expr(M::IsDefault, Expr::value(is_default))
            .exec(unit.transaction())
            .await?;
    }
    row.is_default = true;
    unit.record(Change::PaymentMethodDefaultSet { payment_method_id: row.payment_method_id });
    let mut account = Account::of(unit).await?;
    account.payment_method_changed(unit.now)?;
    account.save(unit).await?;
    Ok(row)
}

/// The payment method of an organization.
async fn load(
    connection: &impl sea_orm::ConnectionTrait,
    scope: Scope,
    payment_method_id: Uuid,
) -> Result<payment_method::Model, Error> {
    let key = (scope.organization_id(), payment_method_id);
    let found = payment_method::Entity::find_by_id(key).one(connection).await?;
    let missing = || Billing::PaymentMethodNotFound { payment_method_id: payment_method_id.to_string() };
    Ok(found.ok_or_else(missing)?)
}

pub(super) struct SetDefaultPaymentMethod {
    payment_method_id: Uuid,
}

impl Command for SetDefaultPaymentMethod {
    type Request = pb::SetDefaultPaymentMethodRequest;
    type Response = pb::SetDefaultPaymentMethodResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let payment_method_id = fields.uuid("payment_method_id", &request.payment_method_id);
        fields.done(Self { payment_method_id })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut row = load(unit.transaction(), unit.scope(), self.payment_method_id).await?;
        if row.is_default {
            // Whoever says so again wants to be tried again.
            let mut account = Account::of(unit).await?;
            account.payment_method_changed(unit.now)?;
            account.save(unit).await?;
        } else {
            row = make_default(unit, row).await?;
        }
        Ok(pb::SetDefaultPaymentMethodResponse { payment_method: Some(shown::payment_method(&row)) })
    }
}

pub(super) struct RemovePaymentMethod {
    payment_method_id: Uuid,
    validate_only: bool,
}

impl RemovePaymentMethod {
    /// The payment method, if it can be removed.
    async fn removable(
        &self,
        connection: &impl sea_orm::ConnectionTrait,
        scope: Scope,
    ) -> Result<payment_method::Model, Error> {
        let row = load(connection, scope, self.payment_method_id).await?;
        if row.is_default && store::list_payment_methods(connection, scope).await?.len() > 1 {
            return Err(Billing::PaymentMethodIsDefault.into());
        }
        Ok(row)
    }
}

impl Command for RemovePaymentMethod {
    type Request = pb::RemovePaymentMethodRequest;
    type Response = pb::RemovePaymentMethodResponse;
    type Actor = Member;
    const PREPARES: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let payment_method_id = fields.uuid("payment_method_id", &request.payment_method_id);
        fields.done(Self { payment_method_id, validate_only: request.validate_only })
    }

    /// At the provider first: what is gone there and still known here is removed by the next try, but not the other way round.
    async fn prepare(&mut self, app: &App, place: Place) -> Result<(), Error> {
        let row = match self.removable(app.database.reader(), scope_of(place)?).await {
            // A repeated request, perhaps, which hears its answer.
            Err(Error::Billing(Billing::PaymentMethodNotFound { .. })) => return Ok(()),
            row => row?,
        };
        if self.validate_only || !app.provider.collects() {
            return Ok(());
        }
        let removed = app.provider.remove_payment_method(row.payment_method_id, &row.reference).await;
        removed.map_err(|error| refused(&error))
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let row = self.removable(unit.transaction(), unit.scope()).await?;
        payment_method::Entity::delete_by_id((row.organization_id, row.payment_method_id))
            .exec(unit.transaction())
            .await?;
        unit.record(Change::PaymentMethodRemoved { payment_method_id: row.payment_method_id });
        Ok(pb::RemovePaymentMethodResponse {})
    }
}
