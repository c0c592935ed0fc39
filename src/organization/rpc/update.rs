//! UpdateOrganization.

use super::shown;
use crate::app::App;
use crate::entity::organization;
use crate::error::{Error, OnConstraint as _};
use crate::etag;
use crate::event::{Change, FieldChange, set};
use crate::fields::Fields;
use crate::operation::{Command, Member, Unit};
use crate::organization::{settings, store};
use crate::pb;

/// The new values of the fields in the mask.
#[derive(Default)]
pub(super) struct UpdateOrganization {
    name: Option<String>,
    slug: Option<String>,
    description: Option<String>,
    logo_uri: Option<String>,
    time_zone: Option<String>,
    etag: String,
}

impl Command for UpdateOrganization {
    type Request = pb::UpdateOrganizationRequest;
    type Response = pb::UpdateOrganizationResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let new = request.organization.clone().unwrap_or_default();
        let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let mut update = Self { etag: request.etag.clone(), ..Self::default() };
        if paths.is_empty() {
            fields.fault("update_mask", "must name at least one of name, slug, description, logo_uri, time_zone");
        }
        for path in paths.iter().take(10) {
            match path.as_str() {
                "name" => update.name = Some(fields.line("organization.name", &new.name, 1..=100)),
                "slug" => update.slug = Some(fields.slug("organization.slug", &new.slug)),
                "description" => {
                    update.description = Some(fields.paragraph("organization.description", &new.description, 1000));
                }
                "logo_uri" => update.logo_uri = Some(fields.https_uri("organization.logo_uri", &new.logo_uri)),
                "time_zone" => update.time_zone = Some(fields.time_zone("organization.time_zone", &new.time_zone)),
                _ => fields.fault("update_mask", "can name name, slug, description, logo_uri and time_zone only"),
            }
        }
        if paths.len() > 10 {
            fields.fault("update_mask", "has more than 10 paths");
        }
        fields.done(update)
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut organization = unit.actor.organization.clone();
        etag::check(&self.etag, organization.version)?;
        let changes = self.apply(&mut organization);
        if changes.is_empty() {
            return Ok(pb::UpdateOrganizationResponse { organization: Some(shown(&organization)) });
        }
        organization.updated_at = unit.now;
        organization.version += 1;
        store::update_fields(unit.transaction(), &organization)
            .await
            .on_constraint("organization_slug_unique", || Error::SlugTaken { slug: organization.slug.clone() })?;
        if changes.iter().any(|change| change.field == "logo_uri") {
            settings::store::touch(unit.transaction(), &organization).await?;
        }
        unit.record(Change::OrganizationUpdated { changes });
        Ok(pb::UpdateOrganizationResponse { organization: Some(shown(&organization)) })
    }
}

impl UpdateOrganization {
    /// Sets the fields, and gives those that were another before.
    fn apply(&self, organization: &mut organization::Model) -> Vec<FieldChange> {
        let fields = [
            ("name", &self.name, &mut organization.name),
            ("slug", &self.slug, &mut organization.slug),
            ("description", &self.description, &mut organization.description),
            ("logo_uri", &self.logo_uri, &mut organization.logo_uri),
            ("time_zone", &self.time_zone, &mut organization.time_zone),
        ];
        let mut changes = Vec::new();
        for (name, new, current) in fields {
            set(&mut changes, name, new.as_ref(), current);
        }
        changes
    }
}
