//! OrganizationService on the wire: a file for each RPC or family, and how an organization is shown.

mod create;
mod delete;
mod list;
mod update;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::app::App;
use crate::entity::organization;
use crate::error::Error;
use crate::etag;
use crate::fields::timestamp;
use crate::operation::{self, Query, Reader};
use crate::pb;
use crate::pb::organization_service_server::OrganizationService;

/// OrganizationService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

#[tonic::async_trait]
impl OrganizationService for Service {
    async fn create_organization(
        &self,
        request: Request<pb::CreateOrganizationRequest>,
    ) -> Result<Response<pb::CreateOrganizationResponse>, Status> {
        operation::change::<create::CreateOrganization>(&self.0, request).await
    }

    async fn ensure_default_organization(
        &self,
        request: Request<pb::EnsureDefaultOrganizationRequest>,
    ) -> Result<Response<pb::EnsureDefaultOrganizationResponse>, Status> {
        create::ensure_default(&self.0, request).await
    }

    async fn get_organization(
        &self,
        request: Request<pb::GetOrganizationRequest>,
    ) -> Result<Response<pb::GetOrganizationResponse>, Status> {
        operation::read::<GetOrganization>(&self.0, request).await
    }

    async fn list_organizations(
        &self,
        request: Request<pb::ListOrganizationsRequest>,
    ) -> Result<Response<pb::ListOrganizationsResponse>, Status> {
        list::list_organizations(&self.0, request).await
    }

    async fn update_organization(
        &self,
        request: Request<pb::UpdateOrganizationRequest>,
    ) -> Result<Response<pb::UpdateOrganizationResponse>, Status> {
        operation::change::<update::UpdateOrganization>(&self.0, request).await
    }

    async fn delete_organization(
        &self,
        request: Request<pb::DeleteOrganizationRequest>,
    ) -> Result<Response<pb::DeleteOrganizationResponse>, Status> {
        operation::change::<delete::DeleteOrganization>(&self.0, request).await
    }

    async fn undelete_organization(
        &self,
        request: Request<pb::UndeleteOrganizationRequest>,
    ) -> Result<Response<pb::UndeleteOrganizationResponse>, Status> {
        operation::change::<delete::UndeleteOrganization>(&self.0, request).await
    }
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
    }
}
