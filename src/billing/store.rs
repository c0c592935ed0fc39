//! The rows of subscriptions, invoices, payments and credit.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::seats;
use crate::auth::scope::Scope;
use crate::entity::{
    billing_profile, credit_entry, credit_note, invoice, invoice_line, payment, payment_method, subscription,
};
use crate::error::{Billing, Error};
use crate::operation::Unit;

/// Inserts the subscription of a new organization.
pub async fn insert(connection: &impl ConnectionTrait, row: subscription::Model) -> Result<(), DbErr> {
    subscription::Entity::insert(row.into_active_model()).exec_without_returning(connection).await.map(|_| ())
}

/// Loads the subscription, which every organization has.
pub async fn load(connection: &impl ConnectionTrait, scope: Scope) -> Result<subscription::Model, Error> {
    let found = subscription::Entity::find_by_id(scope.organization_id()).one(connection).await?;
    found.ok_or(Error::defect("an organization without a subscription"))
}

/// Whether this many more seats can be taken: that they are there, and that billing lets the organization grow.
pub async fn check_growth<A>(unit: &mut Unit<'_, A>, requested: i64) -> Result<(), Error> {
    unit.seats().await?.take(requested)?;
    seats::may_grow(load(unit.transaction(), unit.scope()).await?.status)
}

/// Lists the lines of an invoice.
pub async fn list_lines(
    connection: &impl ConnectionTrait,
    organization_id: Uuid,
    invoice_id: Uuid,
) -> Result<Vec<invoice_line::Model>, DbErr> {
    use invoice_line::Column as L;
    invoice_line::Entity::find()
        .filter(L::OrganizationId.eq(organization_id))
        .filter(L::InvoiceId.eq(invoice_id))
        .order_by_asc(L::Position)
        .all(connection)
        .await
}

/// Loads an invoice of an organization.
pub async fn load_invoice(
    connection: &impl ConnectionTrait,
    scope: Scope,
    invoice_id: Uuid,
) -> Result<invoice::Model, Error> {
    let found = invoice::Entity::find_by_id((scope.organization_id(), invoice_id)).one(connection).await?;
    found.ok_or_else(|| Billing::InvoiceNotFound { invoice_id: invoice_id.to_string() }.into())
}

/// Lists invoices in any of these states, all when none is said, the latest first.
pub async fn list_invoices(
    connection: &impl ConnectionTrait,
    scope: Scope,
    states: &[invoice::State],
    after: Option<i64>,
    limit: u64,
) -> Result<Vec<invoice::Model>, DbErr> {
    use invoice::Column as I;
    let mut rows = invoice::Entity::find().filter(I::OrganizationId.eq(scope.organization_id()));
    if !states.is_empty() {
        rows = rows.filter(I::State.is_in(states.iter().copied()));
    }
    let mut found = match after {
        Some(_) => Vec::new(),
        // The one draft has no number yet, and is the latest.
        None => rows.clone().filter(I::State.eq(invoice::State::Draft)).all(connection).await?,
    };
    let numbered = rows
        .filter(I::Number.lt(after.unwrap_or(i64::MAX)))
        .order_by_desc(I::OrganizationId)
        .order_by_desc(I::Number)
        .limit(limit)
        .all(connection)
        .await?;
    found.extend(numbered);
    Ok(found)
}

/// Lists the payments of an invoice, the earliest first.
pub async fn list_payments(
    connection: &impl ConnectionTrait,
    row: &invoice::Model,
) -> Result<Vec<payment::Model>, DbErr> {
    use payment::Column as P;
    payment::Entity::find()
        .filter(P::OrganizationId.eq(row.organization_id))
        .filter(P::InvoiceId.eq(row.invoice_id))
        .order_by_asc(P::CreatedAt)
        .order_by_asc(P::PaymentId)
        .all(connection)
        .await
}

/// Lists the invoices of an organization that a provider is being asked to collect.
pub async fn list_pending(connection: &impl ConnectionTrait, organization_id: Uuid) -> Result<Vec<Uuid>, DbErr> {
    use payment::Column as P;
    payment::Entity::find()
        .select_only()
        .column(P::InvoiceId)
        .filter(P::OrganizationId.eq(organization_id))
        .filter(P::State.eq(payment::State::Pending))
        .into_tuple()
        .all(connection)
        .await
}

/// Finds a payment by its provider's word for it.
pub async fn find_payment(
    connection: &impl ConnectionTrait,
    scope: Scope,
    provider: &str,
    reference: &str,
) -> Result<Option<payment::Model>, DbErr> {
    use payment::Column as P;
    payment::Entity::find()
        .filter(P::OrganizationId.eq(scope.organization_id()))
        .filter(P::Provider.eq(provider))
        .filter(P::Reference.eq(reference))
        .one(connection)
        .await
}

/// Lists the credit notes to an invoice, the earliest first.
pub async fn list_credit_notes(
    connection: &impl ConnectionTrait,
    row: &invoice::Model,
) -> Result<Vec<credit_note::Model>, DbErr> {
    use credit_note::Column as N;
    credit_note::Entity::find()
        .filter(N::OrganizationId.eq(row.organization_id))
        .filter(N::InvoiceId.eq(row.invoice_id))
        .order_by_asc(N::Number)
        .all(connection)
        .await
}

/// Lists the entries of the credit balance, the latest first.
pub async fn list_credit_entries(
    connection: &impl ConnectionTrait,
    scope: Scope,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<credit_entry::Model>, DbErr> {
    use credit_entry::Column as E;
    let mut rows = credit_entry::Entity::find().filter(E::OrganizationId.eq(scope.organization_id()));
    if let Some(before) = before {
        rows = rows.filter(E::Number.lt(before));
    }
    rows.order_by_desc(E::OrganizationId).order_by_desc(E::Number).limit(limit).all(connection).await
}

/// Lists the payment methods, the oldest first.
pub async fn list_payment_methods(
    connection: &impl ConnectionTrait,
    scope: Scope,
) -> Result<Vec<payment_method::Model>, DbErr> {
    use payment_method::Column as M;
    payment_method::Entity::find()
        .filter(M::OrganizationId.eq(scope.organization_id()))
        .order_by_asc(M::PaymentMethodId)
        .all(connection)
        .await
}

/// Finds the billing profile; none as long as nobody filled in anything.
pub async fn find_profile(
    connection: &impl ConnectionTrait,
    scope: Scope,
) -> Result<Option<billing_profile::Model>, DbErr> {
    billing_profile::Entity::find_by_id(scope.organization_id()).one(connection).await
}

/// Writes the billing profile, whether there was one or not.
pub async fn put_profile(connection: &impl ConnectionTrait, row: billing_profile::Model) -> Result<(), DbErr> {
    use billing_profile::Column as P;
    let there =
        OnConflict::column(P::OrganizationId).update_columns([P::Profile, P::Tax, P::UpdatedAt, P::Version]).to_owned();
    let insert = billing_profile::Entity::insert(row.into_active_model()).on_conflict(there);
    insert.exec_without_returning(connection).await.map(|_| ())
}
