//! GetBillingProfile, UpdateBillingProfile and SetTaxTreatment.

use crate::app::App;
use crate::auth::scope::Scope;
use crate::billing::account::Account;
use crate::billing::invoicing::TaxTreatment;
use crate::billing::profile::{PATHS, Profile};
use crate::billing::proration::TaxRate;
use crate::billing::{shown as billing_shown, store};
use crate::entity::billing_profile;
use crate::error::Error;
use crate::etag;
use crate::event::Change;
use crate::fields::{Fields, timestamp};
use crate::operation::store::{read_json, write_json};
use crate::operation::{Command, Member, Query, Reader, Trusted, Unit};
use crate::pb;

pub(super) struct GetBillingProfile;

impl Query for GetBillingProfile {
    type Request = pb::GetBillingProfileRequest;
    type Response = pb::GetBillingProfileResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let row = store::find_profile(reader.connection(), reader.scope).await?;
        let profile = of(row.as_ref())?;
        Ok(pb::GetBillingProfileResponse { billing_profile: Some(shown(reader.scope, profile, row.as_ref())?) })
    }
}

/// The new values, and the fields of the mask.
pub(super) struct UpdateBillingProfile {
    new: pb::BillingProfile,
    paths: Vec<&'static str>,
    etag: String,
}

impl Command for UpdateBillingProfile {
    type Request = pb::UpdateBillingProfileRequest;
    type Response = pb::UpdateBillingProfileResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let paths = fields.mask(request.update_mask.as_ref(), &PATHS);
        let new = request.billing_profile.clone().unwrap_or_default();
        Profile::default().set(&paths, &new, &mut fields);
        fields.done(Self { new, paths, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let row = store::find_profile(unit.transaction(), unit.scope()).await?;
        etag::check(&self.etag, version(row.as_ref()))?;
        let mut profile = of(row.as_ref())?;
        // The faults of the values were told when they were parsed.
        let changed = profile.set(&self.paths, &self.new, &mut Fields::new());
        if changed.is_empty() {
            let billing_profile = Some(shown(unit.scope(), profile, row.as_ref())?);
            return Ok(pb::UpdateBillingProfileResponse { billing_profile });
        }
        let row = billing_profile::Model {
            organization_id: unit.scope().organization_id(),
            profile: write_json(&profile)?,
            tax: row.as_ref().and_then(|row| row.tax.clone()),
            updated_at: unit.now,
            version: version(row.as_ref()) + 1,
        };
        store::put_profile(unit.transaction(), row.clone()).await?;
        let fields = changed.into_iter().map(str::to_owned).collect();
        unit.record(Change::BillingProfileUpdated { fields });
        Ok(pb::UpdateBillingProfileResponse { billing_profile: Some(shown(unit.scope(), profile, Some(&row))?) })
    }
}

fn of(row: Option<&billing_profile::Model>) -> Result<Profile, Error> {
    Ok(read_json(row.map(|row| &row.profile))?.unwrap_or_default())
}

/// While there is no row, nothing has changed yet.
fn version(row: Option<&billing_profile::Model>) -> i64 {
    row.map_or(0, |row| row.version)
}

fn shown(scope: Scope, profile: Profile, row: Option<&billing_profile::Model>) -> Result<pb::BillingProfile, Error> {
    let tax: Option<TaxTreatment> = read_json(row.and_then(|row| row.tax.as_ref()))?;
    Ok(pb::BillingProfile {
        organization_id: scope.organization_id().to_string(),
        update_time: row.map(|row| timestamp(row.updated_at)),
        etag: etag::of(version(row)),
        tax_treatment: tax.as_ref().map(billing_shown::tax_treatment),
        ..profile.shown()
    })
}

pub(super) struct SetTaxTreatment {
    treatment: Option<TaxTreatment>,
}

impl Command for SetTaxTreatment {
    type Request = pb::SetTaxTreatmentRequest;
    type Response = pb::SetTaxTreatmentResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let treatment = request.tax_treatment.as_ref().map(|said| {
            let millionths = i64::from(said.rate_millionths);
            if !(0..=1_000_000).contains(&millionths) {
                fields.fault("tax_treatment.rate_millionths", "must be 0 to 1000000: 210000 for 21 %");
            }
            let behavior = pb::TaxBehavior::try_from(said.behavior).unwrap_or_default();
            if behavior == pb::TaxBehavior::Unspecified {
                fields.fault("tax_treatment.behavior", "must say whether prices include the tax");
            }
            TaxTreatment {
                rate: TaxRate { millionths, included: behavior == pb::TaxBehavior::Inclusive },
                label: fields.line("tax_treatment.label", &said.label, 1..=40),
                note: fields.line("tax_treatment.note", &said.note, 0..=200),
            }
        });
        fields.done(Self { treatment })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let row = store::find_profile(unit.transaction(), unit.scope()).await?;
        let profile = of(row.as_ref())?;
        let known: Option<TaxTreatment> = read_json(row.as_ref().and_then(|row| row.tax.as_ref()))?;
        if known == self.treatment {
            let billing_profile = Some(shown(unit.scope(), profile, row.as_ref())?);
            return Ok(pb::SetTaxTreatmentResponse { billing_profile });
        }
        let row = billing_profile::Model {
            organization_id: unit.scope().organization_id(),
            profile: write_json(&profile)?,
            tax: self.treatment.as_ref().map(write_json).transpose()?,
            updated_at: unit.now,
            version: version(row.as_ref()) + 1,
        };
        store::put_profile(unit.transaction(), row.clone()).await?;
        unit.record(Change::BillingProfileUpdated { fields: vec!["tax_treatment".to_owned()] });
        let mut account = Account::of(unit).await?;
        account.refigure();
        account.save(unit).await?;
        Ok(pb::SetTaxTreatmentResponse { billing_profile: Some(shown(unit.scope(), profile, Some(&row))?) })
    }
}
