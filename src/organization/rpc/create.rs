//! CreateOrganization and EnsureDefaultOrganization.

use std::collections::BTreeMap;

use tonic::{Request, Response, Status};

use super::shown;
use crate::app::App;
use crate::auth::policy::RoleName;
use crate::billing::catalogue::Plan;
use crate::billing::subscription::Subscription;
use crate::billing::{change, store as subscriptions};
use crate::entity::{membership, organization, subscription};
use crate::error::{Error, OnConstraint as _};
use crate::event::Change;
use crate::fields::Fields;
use crate::id;
use crate::membership::store as members;
use crate::membership::{Identity, Profile};
use crate::operation::store::{RolesKept, write_json};
use crate::operation::{self, Command, Founder, Unit};
use crate::organization::{rules, store};
use crate::pb;

/// What a new organization is to be.
pub(super) struct CreateOrganization {
    name: String,
    /// None when it is to be made from the name.
    slug: Option<String>,
    description: String,
    logo_uri: String,
    time_zone: String,
    profile: Profile,
}

impl Command for CreateOrganization {
    type Request = pb::CreateOrganizationRequest;
    type Response = pb::CreateOrganizationResponse;
    type Actor = Founder;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let name = fields.line("name", &request.name, 1..=100);
        let slug = (!request.slug.is_empty()).then(|| fields.slug("slug", &request.slug));
        let description = fields.paragraph("description", &request.description, 1000);
        let logo_uri = fields.https_uri("logo_uri", &request.logo_uri);
        let time_zone = match request.time_zone.as_str() {
            "" => "UTC".to_owned(),
            zone => fields.time_zone("time_zone", zone),
        };
        let profile = Profile::read(&mut fields, "profile", request.profile.as_ref());
        fields.done(Self { name, slug, description, logo_uri, time_zone, profile })
    }

    async fn run(&self, unit: &mut Unit<'_, Founder>) -> Result<Self::Response, Error> {
        let organization = found(unit, self, None).await?;
        Ok(pb::CreateOrganizationResponse {
            organization: Some(shown(&organization)),
            role: unit.policy.top_role().name.to_string(),
        })
    }
}

/// Writes the organization, its founder's membership and its subscription.
async fn found(
    unit: &mut Unit<'_, Founder>,
    new: &CreateOrganization,
    default_of_user_id: Option<String>,
) -> Result<organization::Model, Error> {
    let identity = Identity::of(&unit.actor.user)?;
    let plan = unit.app.catalogue.default_plan().ok_or(Error::defect("the catalogue has no default plan"))?;
    let slug = match &new.slug {
        Some(slug) => slug.clone(),
        None => free_slug(unit, &new.name).await?,
    };
    let organization = organization::Model {
        organization_id: unit.scope().organization_id(),
        name: new.name.clone(),
        slug: slug.clone(),
        description: new.description.clone(),
        logo_uri: new.logo_uri.clone(),
        default_of_user_id,
        created_at: unit.now,
        updated_at: unit.now,
        deleted_at: None,
        purge_at: None,
        version: 1,
        seats_total: plan.included_seats,
        active_members: 1,
        pending_invitations: 0,
        top_role_members: 1,
        last_event_number: 0,
        time_zone: new.time_zone.clone(),
        members_by_role: Some(write_json(&founder_alone(&unit.policy.top_role().name))?),
        today: None,
        custom_roles: 0,
        restricts_email_domains: false,
        storage_bytes: 0,
        recordings: 0,
        live_sessions: 0,
    };
    // A slug of our own making may collide with one that was taken in between: begin again with another.
    let taken = || if new.slug.is_some() { Error::SlugTaken { slug } } else { Error::Conflict };
    store::insert(unit.transaction(), organization.clone())
        .await
        .on_constraint("organization_default_unique", || Error::Conflict)
        .on_constraint("organization_slug_unique", taken)?;
    unit.founded(&organization)?;
    let top_role = unit.policy.top_role().name.to_string();
    let founder = members::joining(unit.scope(), &identity, &new.profile, &top_role, None, unit.now);
    members::insert_founder(unit, founder).await?;
    subscriptions::insert(unit.transaction(), starting_on(unit, plan)?).await?;
    unit.record(Change::OrganizationCreated {
        name: organization.name.clone(),
        slug: organization.slug.clone(),
        plan_id: plan.plan.clone(),
        seats: plan.included_seats,
    });
    unit.record(Change::MemberJoined {
        user_id: identity.user_id,
        role: top_role,
        invitation_id: None,
        domain: None,
        workspace_ids: Vec::new(),
    });
    Ok(organization)
}

fn founder_alone(top_role: &RoleName) -> RolesKept {
    RolesKept { at: 0, roles: BTreeMap::from([(top_role.to_string(), 1)]) }
}

fn starting_on(unit: &Unit<'_, Founder>, plan: &Plan) -> Result<subscription::Model, Error> {
    let terms = plan.terms(None, None).ok_or(Error::defect("a plan without a price"))?;
    let mut subscription = Subscription::beginning(subscription::Status::Active, terms, plan.included_seats, unit.now);
    if plan.trial_days > 0 {
        change::start_trial(&mut subscription, plan.trial_days, unit.now);
    }
    let id = unit.scope().organization_id();
    let row = subscription::Model::beginning(id, plan.plan.clone(), subscription.status, subscription.seats, unit.now);
    Ok(subscription::Model {
        agreement: Some(write_json(&subscription.agreement)?),
        due_at: subscription.next_due(&unit.app.catalogue.policy).map(|(at, _)| at),
        ..row
    })
}

/// A slug like the name that nobody has, with a suffix if it must be.
async fn free_slug(unit: &Unit<'_, Founder>, name: &str) -> Result<String, Error> {
    let slug = rules::slug_of(name);
    if !store::slug_exists(unit.transaction(), &slug).await? {
        return Ok(slug);
    }
    let suffix = id::random_suffix().ok_or(Error::defect("no random numbers"))?;
    Ok(format!("{slug}-{suffix}"))
}

/// The user's own organization, at sign-up and at every sign-in after it.
struct EnsureDefault {
    /// None when it is to be made from what is known of the user.
    name: Option<String>,
    profile: Profile,
}

impl Command for EnsureDefault {
    type Request = pb::EnsureDefaultOrganizationRequest;
    type Response = pb::EnsureDefaultOrganizationResponse;
    type Actor = Founder;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let name = (!request.name.is_empty()).then(|| fields.line("name", &request.name, 1..=100));
        let profile = Profile::read(&mut fields, "profile", request.profile.as_ref());
        fields.done(Self { name, profile })
    }

    async fn run(&self, unit: &mut Unit<'_, Founder>) -> Result<Self::Response, Error> {
        // Somebody else's call may have made it since this one looked.
        let user_id = unit.actor.user.user_id.as_str().to_owned();
        if let Some((organization, membership)) = store::find_default_of(unit.transaction(), &user_id).await? {
            return Ok(existing(&organization, membership));
        }
        let new = CreateOrganization {
            name: self.name.clone().unwrap_or_else(|| self.own_name(unit)),
            slug: None,
            description: String::new(),
            logo_uri: String::new(),
            time_zone: "UTC".to_owned(),
            profile: self.profile.clone(),
        };
        let organization = found(unit, &new, Some(user_id)).await?;
        Ok(pb::EnsureDefaultOrganizationResponse {
            organization: Some(shown(&organization)),
            role: unit.policy.top_role().name.to_string(),
            created: true,
            suspended: false,
        })
    }
}

impl EnsureDefault {
    fn own_name(&self, unit: &Unit<'_, Founder>) -> String {
        let email = unit.actor.user.email.as_deref().unwrap_or_default();
        let local = email.split('@').next().unwrap_or_default();
        let name = if self.profile.display_name.is_empty() { local } else { &self.profile.display_name };
        let name: String = name.chars().take(100).collect();
        if name.trim().is_empty() { "My organization".into() } else { name.trim().to_owned() }
    }
}

fn existing(
    organization: &organization::Model,
    membership: Option<membership::Model>,
) -> pb::EnsureDefaultOrganizationResponse {
    pb::EnsureDefaultOrganizationResponse {
        organization: Some(shown(organization)),
        suspended: membership.as_ref().is_some_and(|membership| membership.suspended_at.is_some()),
        role: membership.map(|membership| membership.role).unwrap_or_default(),
        created: false,
    }
}

/// EnsureDefaultOrganization: called at every sign-in, so it looks before it takes a transaction.
pub(super) async fn ensure_default(
    app: &App,
    request: Request<pb::EnsureDefaultOrganizationRequest>,
) -> Result<Response<pb::EnsureDefaultOrganizationResponse>, Status> {
    // A call with a request_id may be a repeated one, which hears the answer that it was given first.
    let looked = if request.get_ref().request_id.is_empty() { look(app, &request).await? } else { None };
    match looked {
        Some(answer) => Ok(Response::new(answer)),
        None => operation::change::<EnsureDefault>(app, request).await,
    }
}

async fn look(
    app: &App,
    request: &Request<pb::EnsureDefaultOrganizationRequest>,
) -> Result<Option<pb::EnsureDefaultOrganizationResponse>, Error> {
    EnsureDefault::parse(request.get_ref(), app)?;
    let user = operation::authorized(request)?.user()?;
    let found = store::find_default_of(app.database.reader(), user.user_id.as_str()).await?;
    Ok(found.map(|(organization, membership)| existing(&organization, membership)))
}
