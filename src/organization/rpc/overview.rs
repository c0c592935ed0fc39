//! GetOrganizationOverview.

use super::shown;
use crate::app::App;
use crate::billing::profile::Profile;
use crate::billing::rpc::{shown_subscription, shown_usage};
use crate::billing::seats::Usage;
use crate::entity::organization;
use crate::error::Error;
use crate::operation::store::{members_by_role, read_json};
use crate::operation::{Query, Reader};
use crate::organization::overview::{Head, by_role, head};
use crate::organization::settings::Settings;
use crate::organization::setup::{Facts, checklist};
use crate::pb::{self, Permission};

pub(super) struct GetOrganizationOverview;

impl Query for GetOrganizationOverview {
    type Request = pb::GetOrganizationOverviewRequest;
    type Response = pb::GetOrganizationOverviewResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let organization = reader.organization()?;
        let head = head(reader.connection(), reader.scope, reader.now).await?;
        let members = members_by_role(reader.connection(), organization).await?;
        let sees_billing = reader.sees(Permission::BillingStatusRead);
        let usage = Usage::of(organization, head.expired_invitations);
        let sees_profile = reader.sees(Permission::BillingProfileRead);
        let facts = facts(reader.app, organization, &head, sees_billing, sees_profile)?;
        let settings = Settings::of_document(head.settings.as_ref())?;
        let overview = pb::OrganizationOverview {
            organization: Some(shown(organization)),
            seat_usage: reader.sees(Permission::SeatsRead).then(|| shown_usage(reader.scope, usage)),
            members_by_role: by_role(reader.policy, members),
            suspended_members: head.suspended_members,
            pending_invitations: usage.pending,
            pending_join_requests: head.pending_join_requests,
            subscription: sees_billing.then(|| shown_subscription(&head.subscription)),
            setup: Some(checklist(facts, &settings.setup)),
        };
        Ok(pb::GetOrganizationOverviewResponse { overview: Some(overview) })
    }
}

fn facts(
    app: &App,
    organization: &organization::Model,
    head: &Head,
    sees_billing: bool,
    sees_profile: bool,
) -> Result<Facts, Error> {
    let profile: Option<Profile> = read_json(head.billing_profile.as_ref())?;
    // A plan that is gone from the catalogue may cost something.
    let costs = app.catalogue.plan(&head.subscription.plan_id).is_none_or(|plan| !plan.is_free());
    Ok(Facts {
        described: !organization.description.is_empty(),
        has_logo: !organization.logo_uri.is_empty(),
        top_role_members: organization.top_role_members,
        invited: head.some_invitations > 0 || organization.active_members + head.suspended_members > 1,
        // Whoever may not see the profile hears nothing of it, and could not take the step.
        has_billing_profile: sees_profile.then(|| profile.is_some_and(|profile| !profile.name.is_empty())),
        // The step would tell whoever may not see the plan that it costs something.
        pays: costs && sees_billing,
    })
}
