//! GetOrganizationSettings and UpdateOrganizationSettings.

use crate::app::App;
use crate::auth::scope::Scope;
use crate::entity::{organization, organization_settings};
use crate::error::Error;
use crate::etag;
use crate::event::{Change, FieldChange};
use crate::fields::{Fields, timestamp};
use crate::operation::store::write_json;
use crate::operation::{Command, Member, Query, Reader, Unit};
use crate::organization::settings::fields::{New, PATHS};
use crate::organization::settings::{self, Settings};
use crate::organization::store;
use crate::pb;

pub(super) struct GetOrganizationSettings;

impl Query for GetOrganizationSettings {
    type Request = pb::GetOrganizationSettingsRequest;
    type Response = pb::GetOrganizationSettingsResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let row = settings::store::find(reader.connection(), reader.scope).await?;
        let settings = Settings::of(reader.organization()?, row.as_ref())?;
        Ok(pb::GetOrganizationSettingsResponse { settings: Some(shown(reader.scope, settings, row.as_ref())) })
    }
}

/// The new values, and the fields of the mask.
pub(super) struct UpdateOrganizationSettings {
    new: New,
    paths: Vec<&'static str>,
    etag: String,
}

impl Command for UpdateOrganizationSettings {
    type Request = pb::UpdateOrganizationSettingsRequest;
    type Response = pb::UpdateOrganizationSettingsResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let paths = fields.mask(request.update_mask.as_ref(), &PATHS);
        let new = New::of(request.settings.clone());
        new.set(&mut Settings::default(), &paths, &mut fields);
        fields.done(Self { new, paths, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut organization = unit.actor.organization.clone();
        let row = settings::store::find(unit.transaction(), unit.scope()).await?;
        etag::check(&self.etag, version(row.as_ref()))?;
        let mut settings = Settings::of(&organization, row.as_ref())?;
        // The faults of the values were told when they were parsed.
        let changes = self.new.set(&mut settings, &self.paths, &mut Fields::new());
        settings.check()?;
        if changes.is_empty() {
            let settings = Some(shown(unit.scope(), settings, row.as_ref()));
            return Ok(pb::UpdateOrganizationSettingsResponse { settings });
        }
        let row = organization_settings::Model {
            organization_id: organization.organization_id,
            settings: write_json(&settings)?,
            updated_at: unit.now,
            version: version(row.as_ref()) + 1,
        };
        settings::store::put(unit.transaction(), row.clone()).await?;
        write_organization(unit, &mut organization, &settings, &changes).await?;
        unit.record(Change::SettingsUpdated { changes });
        Ok(pb::UpdateOrganizationSettingsResponse { settings: Some(shown(unit.scope(), settings, Some(&row))) })
    }
}

/// Writes what the organization's own row has of the settings. The logo is its own field: who follows the organization hears
/// of it as if it had been changed there.
async fn write_organization(
    unit: &mut Unit<'_, Member>,
    organization: &mut organization::Model,
    settings: &Settings,
    changes: &[FieldChange],
) -> Result<(), Error> {
    let logo = changes.iter().find(|change| change.field == "branding.logo_uri");
    let restricts = !settings.security.allowed_email_domains.is_empty();
    if logo.is_none() && organization.restricts_email_domains == restricts {
        return Ok(());
    }
    organization.restricts_email_domains = restricts;
    if let Some(logo) = logo {
        organization.logo_uri.clone_from(&settings.branding.logo_uri);
        organization.updated_at = unit.now;
        organization.version += 1;
        let changes = vec![FieldChange { field: "logo_uri".into(), ..logo.clone() }];
        unit.record(Change::OrganizationUpdated { changes });
    }
    store::update_fields(unit.transaction(), organization).await?;
    Ok(())
}

/// While there is no row, nothing has changed yet.
fn version(row: Option<&organization_settings::Model>) -> i64 {
    row.map_or(0, |row| row.version)
}

fn shown(scope: Scope, settings: Settings, row: Option<&organization_settings::Model>) -> pb::OrganizationSettings {
    pb::OrganizationSettings {
        organization_id: scope.organization_id().to_string(),
        update_time: row.map(|row| timestamp(row.updated_at)),
        etag: etag::of(version(row)),
        ..settings.shown()
    }
}
