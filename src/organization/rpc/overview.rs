//! GetOrganizationOverview.

use chrono::{DateTime, Utc};

use super::shown;
use crate::app::App;
use crate::billing::account::subscription_of;
use crate::billing::profile::Profile;
use crate::billing::rpc::seat_usage;
use crate::billing::shown as billing_shown;
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
        let head = head(reader.connection(), reader.scope).await?;
        let members = members_by_role(reader.connection(), organization).await?;
        let sees_billing = reader.sees(Permission::BillingStatusRead);
        let usage = seat_usage(reader).await?;
        let sees_profile = reader.sees(Permission::BillingProfileRead);
        let facts = facts(reader.app, organization, &head, sees_billing, sees_profile, reader.now)?;
        let settings = Settings::of_document(head.settings.as_ref())?;
        let overview = pb::OrganizationOverview {
            organization: Some(shown(organization)),
            seat_usage: reader.sees(Permission::SeatsRead).then(|| billing_shown::seat_usage(reader.scope, usage)),
            members_by_role: by_role(reader.policy, members),
            suspended_members: head.suspended_members,
            pending_invitations: usage.pending,
            pending_join_requests: head.pending_join_requests,
            subscription: sees_billing
                .then(|| billing_shown::subscription(reader.app, &head.subscription, reader.now))
                .transpose()?,
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
    now: DateTime<Utc>,
) -> Result<Facts, Error> {
    let profile: Option<Profile> = read_json(head.billing_profile.as_ref())?;
    // A plan that is gone from the catalogue may cost something.
    let costs = subscription_of(&head.subscription, &app.catalogue, now).map_or(true, |found| found.is_charged());
    Ok(Facts {
        described: !organization.description.is_empty(),
        has_logo: !organization.logo_uri.is_empty(),
        top_role_members: organization.top_role_members,
        invited: head.some_invitations > 0 || organization.active_members + head.suspended_members > 1,
        // Whoever may not see the profile hears nothing of it, and could not take the step.
        has_billing_profile: sees_profile.then(|| profile.is_some_and(|profile| !profile.name.is_empty())),
        // The step would tell whoever may not see the plan that it costs something.
        has_payment_method: (costs && sees_billing && app.provider.collects()).then_some(head.some_payment_methods > 0),
    })
}
