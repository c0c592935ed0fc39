//! OrganizationService on the wire: a file for each RPC or family, and how an organization is shown.

mod analytics;
mod create;
mod delete;
pub(crate) mod domains;
mod list;
mod overview;
mod settings;
mod update;

use std::sync::Arc;

use crate::app::App;
use crate::entity::organization;
use crate::error::Error;
use crate::etag;
use crate::fields::timestamp;
use crate::forward::forward;
use crate::operation::{self, Query, Reader};
use crate::pb;
use crate::pb::organization_service_server::OrganizationService;

/// OrganizationService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

forward! { OrganizationService:
    create_organization(CreateOrganizationRequest) -> CreateOrganizationResponse: operation::change::<create::CreateOrganization>;
    ensure_default_organization(EnsureDefaultOrganizationRequest) -> EnsureDefaultOrganizationResponse: create::ensure_default;
    get_organization(GetOrganizationRequest) -> GetOrganizationResponse: operation::read::<GetOrganization>;
    list_organizations(ListOrganizationsRequest) -> ListOrganizationsResponse: list::list_organizations;
    update_organization(UpdateOrganizationRequest) -> UpdateOrganizationResponse: operation::change::<update::UpdateOrganization>;
    delete_organization(DeleteOrganizationRequest) -> DeleteOrganizationResponse: operation::change::<delete::DeleteOrganization>;
    undelete_organization(UndeleteOrganizationRequest) -> UndeleteOrganizationResponse: operation::change::<delete::UndeleteOrganization>;
    get_organization_settings(GetOrganizationSettingsRequest) -> GetOrganizationSettingsResponse: operation::read::<settings::GetOrganizationSettings>;
    update_organization_settings(UpdateOrganizationSettingsRequest) -> UpdateOrganizationSettingsResponse: operation::change::<settings::UpdateOrganizationSettings>;
    get_organization_overview(GetOrganizationOverviewRequest) -> GetOrganizationOverviewResponse: operation::read::<overview::GetOrganizationOverview>;
    query_analytics(QueryAnalyticsRequest) -> QueryAnalyticsResponse: operation::read::<analytics::QueryAnalytics>;
    claim_domain(ClaimDomainRequest) -> ClaimDomainResponse: operation::change::<domains::ClaimDomain>;
    verify_domain(VerifyDomainRequest) -> VerifyDomainResponse: operation::change::<domains::VerifyDomain>;
    list_domains(ListDomainsRequest) -> ListDomainsResponse: operation::read::<domains::ListDomains>;
    update_domain(UpdateDomainRequest) -> UpdateDomainResponse: operation::change::<domains::UpdateDomain>;
    release_domain(ReleaseDomainRequest) -> ReleaseDomainResponse: operation::change::<domains::ReleaseDomain>;
}

struct GetOrganization;

impl Query for GetOrganization {
    type Request = pb::GetOrganizationRequest;
    type Response = pb::GetOrganizationResponse;
    const ON_DELETED: bool = true;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        Ok(pb::GetOrganizationResponse { organization: Some(shown(reader.organization()?)) })
    }
}

/// The organization as the wire shows it.
pub(crate) fn shown(organization: &organization::Model) -> pb::Organization {
    let state = match organization.deleted_at {
        None => pb::OrganizationState::Active,
        Some(_) => pb::OrganizationState::Deleted,
    };
    pb::Organization {
        organization_id: organization.organization_id.to_string(),
        name: organization.name.clone(),
        slug: organization.slug.clone(),
        description: organization.description.clone(),
        logo_uri: organization.logo_uri.clone(),
        state: state.into(),
        create_time: Some(timestamp(organization.created_at)),
        update_time: Some(timestamp(organization.updated_at)),
        delete_time: organization.deleted_at.map(timestamp),
        purge_time: organization.purge_at.map(timestamp),
        etag: etag::of(organization.version),
        time_zone: organization.time_zone.clone(),
    }
}
