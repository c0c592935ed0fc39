//! DeleteOrganization and UndeleteOrganization.

use super::shown;
use crate::app::App;
use crate::billing::account::Account;
use crate::billing::store as subscriptions;
use crate::error::{Error, OnConstraint as _};
use crate::etag;
use crate::event::Change;
use crate::operation::{Command, Member, Unit};
use crate::organization::{rules, store};
use crate::pb;

pub(super) struct DeleteOrganization {
    etag: String,
}

impl Command for DeleteOrganization {
    type Request = pb::DeleteOrganizationRequest;
    type Response = pb::DeleteOrganizationResponse;
    type Actor = Member;
    // Once deleted, deleting it is refused; whoever did not hear the answer shall hear it.
    const ENDS_OWN_RIGHT: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self { etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut organization = unit.actor.organization.clone();
        etag::check(&self.etag, organization.version)?;
        let row = subscriptions::load(unit.transaction(), unit.scope()).await?;
        let account = match Account::of(unit).await {
            Ok(account) => Some(account),
            Err(Error::PlanUnknown { .. }) => None,
            Err(error) => return Err(error),
        };
        // What a plan costs that is not in the catalogue nobody can say.
        let (charged, unpaid) =
            account.as_ref().map_or((true, 0), |account| (account.subscription.is_charged(), account.unpaid()));
        let blockers = rules::deletion_blockers(&row.plan_id, row.status, charged, unpaid);
        if !blockers.is_empty() {
            return Err(Error::OrganizationHasBlockers { blockers });
        }
        if let Some(mut account) = account
            && account.cancel_scheduled()
        {
            // Nothing is charged to who is not there.
            account.save(unit).await?;
        }
        let purge_at = unit.now + rules::UNDELETE_WITHIN;
        organization.deleted_at = Some(unit.now);
        organization.purge_at = Some(purge_at);
        organization.updated_at = unit.now;
        organization.version += 1;
        store::update_fields(unit.transaction(), &organization).await?;
        unit.record(Change::OrganizationDeleted { purge_time: purge_at.to_rfc3339() });
        Ok(pb::DeleteOrganizationResponse { organization: Some(shown(&organization)) })
    }
}

pub(super) struct UndeleteOrganization;

impl Command for UndeleteOrganization {
    type Request = pb::UndeleteOrganizationRequest;
    type Response = pb::UndeleteOrganizationResponse;
    type Actor = Member;
    const ON_DELETED: bool = true;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut organization = unit.actor.organization.clone();
        if organization.deleted_at.is_none() {
            return Err(Error::OrganizationNotDeleted);
        }
        // Sign-up may have made its user another organization meanwhile; that one is their own now.
        if let Some(user_id) = organization.default_of_user_id.as_deref()
            && store::find_default_of(unit.transaction(), user_id).await?.is_some()
        {
            organization.default_of_user_id = None;
        }
        organization.deleted_at = None;
        organization.purge_at = None;
        organization.updated_at = unit.now;
        organization.version += 1;
        store::update_fields(unit.transaction(), &organization)
            .await
            .on_constraint("organization_default_unique", || Error::Conflict)?;
        unit.record(Change::OrganizationUndeleted {});
        Ok(pb::UndeleteOrganizationResponse { organization: Some(shown(&organization)) })
    }
}
