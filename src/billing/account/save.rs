//! Writes what has become different.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
};
use serde::{Deserialize, Serialize};

use super::{Account, Draft, Kept};
use crate::billing::catalogue::Seller;
use crate::billing::invoicing::{self, TaxTreatment, percent};
use crate::billing::profile::Profile;
use crate::billing::proration::{Item, Line, TaxRate};
use crate::billing::subscription::{Status, Subscription};
use crate::entity::invoice::{self, State};
use crate::entity::invoice_line::{self, Kind};
use crate::entity::{subscription, usage_total};
use crate::error::Error;
use crate::operation::Unit;
use crate::operation::store::{read_json, write_json};
use crate::operation::unit::Books;
use crate::sql;

/// To whom an invoice is written, by whom and how it is taxed, as it is kept with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The billing profile.
    pub profile: Profile,
    /// How the organization is taxed.
    pub tax: Option<TaxTreatment>,
    /// Who wrote it; none where an older version did not say.
    #[serde(default)]
    pub seller: Option<Issuer>,
}

/// Who wrote an invoice. Whatever a later version knows of them besides, this one can read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Issuer {
    /// The name.
    pub name: String,
    /// The postal address, line by line.
    pub address: Vec<String>,
    /// An e-mail address for questions.
    pub email: String,
    /// The number under which it is taxed.
    pub tax_id: String,
    /// What stands at the foot.
    pub notes: Vec<String>,
}

impl From<&Seller> for Issuer {
    fn from(seller: &Seller) -> Self {
        let Seller { name, address, email, tax_id, notes, .. } = seller.clone();
        Self { name, address, email, tax_id, notes }
    }
}

impl Account<'_> {
    /// What an invoice that becomes open now has to keep.
    pub(super) fn recipient(&self) -> Result<serde_json::Value, Error> {
        let mut profile: Profile = read_json(self.profile.as_ref().map(|row| &row.profile))?.unwrap_or_default();
        if profile.name.is_empty() {
            // Nobody filled it in; an invoice to nobody is none.
            profile.name.clone_from(&self.organization_name);
        }
        write_json(&Recipient {
            profile,
            tax: self.treatment.clone(),
            seller: Some(Issuer::from(&self.catalogue.seller)),
        })
    }

    /// Writes what has become different, tells the unit of work what happened, and gives the subscription as it is stored then.
    ///
    /// # Errors
    ///
    /// When the database fails, or lost against another change.
    pub async fn save<A>(mut self: Box<Self>, unit: &mut Unit<'_, A>) -> Result<subscription::Model, Error> {
        let usage = std::mem::take(&mut self.usage);
        for row in usage.into_iter().filter(|row| !self.usage_before.contains(row)) {
            put_usage(unit, row).await?;
        }
        if let Some(invoice_id) = self.dropped_draft {
            let key = (self.row.organization_id, invoice_id);
            invoice::Entity::delete_by_id(key).exec(unit.transaction()).await?;
        }
        let mut written = std::mem::take(&mut self.invoices);
        written.retain(|kept| kept.changed);
        for kept in &written {
            put_invoice(unit, kept).await?;
        }
        // Only now: an organization has one draft, and the one that is stored may just have become open.
        if let Some(draft) = self.draft.take().filter(|draft| draft.changed) {
            self.put_draft(unit, &draft).await?;
        }
        for (invoice_id, amount_minor) in std::mem::take(&mut self.given_back) {
            put_given_back(unit, invoice_id, amount_minor).await?;
        }
        sql::insert_all(unit.transaction(), &self.credits).await?;
        sql::insert_all(unit.transaction(), &self.payments).await?;
        self.put_subscription(unit).await
    }

    async fn put_subscription<A>(mut self: Box<Self>, unit: &mut Unit<'_, A>) -> Result<subscription::Model, Error> {
        let Subscription { status, seats, agreement } = &self.subscription;
        let before = self.stored.clone();
        self.row.status = *status;
        self.row.seats = *seats;
        self.row.plan_id.clone_from(&agreement.terms.plan_id);
        self.row.agreement = Some(write_json(agreement)?);
        self.row.due_at = self.subscription.next_due(&self.catalogue.policy).map(|(at, _)| at);
        self.row.failures = 0;
        self.row.retry_at = None;
        if self.before != self.subscription || !self.changes.is_empty() {
            self.row.updated_at = unit.now;
            self.row.version += 1;
        }
        if self.row != before || before.agreement.is_none() {
            let row = self.row.clone().into_active_model();
            subscription::Entity::update(row.reset_all()).exec(unit.transaction()).await?;
        }
        if *seats != before.seats {
            let forced = *status == Status::Canceled;
            unit.count(Books { seats_total: Some(*seats), seats_cut: forced, ..Books::default() });
        }
        for change in self.changes {
            unit.record(change);
        }
        Ok(self.row)
    }

    async fn put_draft<A>(&self, unit: &Unit<'_, A>, draft: &Draft) -> Result<(), Error> {
        let totals = invoicing::totals(&draft.lines, self.treatment.as_ref())?;
        let row = invoice::Model {
            organization_id: self.row.organization_id,
            invoice_id: draft.invoice_id,
            number: None,
            state: State::Draft,
            currency: self.row.currency.clone().unwrap_or_default(),
            subtotal_minor: totals.subtotal_minor,
            tax_minor: totals.tax_minor,
            total_minor: totals.total_minor,
            charged_minor: None,
            given_back_minor: 0,
            unpaid_credit_minor: 0,
            credit_applied_minor: 0,
            credited_minor: 0,
            paid_minor: 0,
            recipient: None,
            created_at: draft.created_at,
            finalized_at: None,
            due_at: None,
            closed_at: None,
        };
        put(unit, row).await?;
        let lines: Vec<(Line, Option<TaxRate>)> =
            draft.lines.iter().map(|line| (line.clone(), line.returned.map(|returned| returned.rate))).collect();
        put_lines(unit, draft.invoice_id, &lines, &[]).await
    }
}

async fn put_usage<A>(unit: &Unit<'_, A>, row: usage_total::Model) -> Result<(), Error> {
    use usage_total::Column as U;
    let written = usage_total::Entity::update_many()
        .filter(U::OrganizationId.eq(row.organization_id))
        .filter(U::Meter.eq(row.meter.clone()))
        .filter(U::PeriodStart.eq(row.period_start))
        .filter(
            Condition::any()
                .add(U::Billed.ne(row.billed))
                .add(U::Waived.ne(row.waived))
                .add(U::PeriodEnd.ne(row.period_end)),
        )
        .col_expr(U::Billed, Expr::value(row.billed))
        .col_expr(U::Waived, Expr::value(row.waived))
        .col_expr(U::PeriodEnd, Expr::value(row.period_end));
    written.exec(unit.transaction()).await?;
    Ok(())
}

/// The database refuses what would give back more than was charged.
async fn put_given_back<A>(unit: &Unit<'_, A>, invoice_id: uuid::Uuid, amount_minor: i64) -> Result<(), Error> {
    use invoice::Column as C;
    invoice::Entity::update_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::InvoiceId.eq(invoice_id))
        .col_expr(C::GivenBackMinor, Expr::col(C::GivenBackMinor).add(amount_minor))
        .exec(unit.transaction())
        .await?;
    Ok(())
}

async fn put_invoice<A>(unit: &Unit<'_, A>, kept: &Kept) -> Result<(), Error> {
    put(unit, kept.row.clone()).await?;
    // Of one that was open before, the lines are what they were.
    if kept.lines.is_empty() { Ok(()) } else { put_lines(unit, kept.row.invoice_id, &kept.lines, &kept.taxes).await }
}

async fn put<A>(unit: &Unit<'_, A>, row: invoice::Model) -> Result<(), Error> {
    use invoice::Column as C;
    let there = OnConflict::columns([C::OrganizationId, C::InvoiceId])
        .update_columns([
            C::Number,
            C::State,
            C::SubtotalMinor,
            C::TaxMinor,
            C::TotalMinor,
            C::ChargedMinor,
            C::UnpaidCreditMinor,
            C::CreditAppliedMinor,
            C::CreditedMinor,
            C::PaidMinor,
            C::Recipient,
            C::FinalizedAt,
            C::DueAt,
            C::ClosedAt,
        ])
        .to_owned();
    let insert = invoice::Entity::insert(row.into_active_model()).on_conflict(there);
    insert.exec_without_returning(unit.transaction()).await?;
    Ok(())
}

/// Writes the lines of an invoice that is or just was a draft, in place of those that it had.
async fn put_lines<A>(
    unit: &Unit<'_, A>,
    invoice_id: uuid::Uuid,
    lines: &[(Line, Option<TaxRate>)],
    taxes: &[invoicing::Tax],
) -> Result<(), Error> {
    use invoice_line::Column as C;
    let organization_id = unit.scope().organization_id();
    invoice_line::Entity::delete_many()
        .filter(C::OrganizationId.eq(organization_id))
        .filter(C::InvoiceId.eq(invoice_id))
        .exec(unit.transaction())
        .await?;
    let mut rows: Vec<invoice_line::Model> = Vec::with_capacity(lines.len() + taxes.len());
    for (position, (line, rate)) in (1..).zip(lines) {
        let (kind, add_on_id) = match &line.item {
            Item::Plan => (Kind::Plan, None),
            Item::Seats => (Kind::Seats, None),
            Item::AddOn(add_on) => (Kind::AddOn, Some(add_on.clone())),
            Item::Usage(add_on) => (Kind::Usage, Some(add_on.clone())),
        };
        rows.push(invoice_line::Model {
            organization_id,
            invoice_id,
            position,
            kind,
            description: line.description.clone(),
            quantity: line.quantity,
            unit_price_minor: line.unit_price_minor,
            amount_minor: line.amount_minor,
            period_start: line.span.start,
            period_end: line.span.end,
            prorated: line.prorated,
            add_on_id,
            tax_rate: rate.map(|rate| rate.millionths),
            tax_included: rate.map(|rate| rate.included),
            credited_invoice_id: line.returned.and_then(|returned| returned.invoice_id),
            returned_tax_minor: line.returned.map(|returned| returned.tax_minor),
        });
    }
    let first = sql::counted(lines.len())? + 1;
    for (position, tax) in (first..).zip(taxes) {
        rows.push(invoice_line::Model {
            organization_id,
            invoice_id,
            position,
            kind: Kind::Tax,
            description: percent(tax.rate.millionths),
            quantity: None,
            unit_price_minor: None,
            amount_minor: tax.tax_minor,
            period_start: unit.now,
            period_end: unit.now,
            prorated: false,
            add_on_id: None,
            tax_rate: Some(tax.rate.millionths),
            tax_included: Some(false),
            credited_invoice_id: None,
            returned_tax_minor: None,
        });
    }
    Ok(sql::insert_all(unit.transaction(), &rows).await?)
}
