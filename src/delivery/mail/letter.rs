//! Which events are told by e-mail, and to whom.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::App;
use crate::auth::scope::Scope;
use crate::billing::profile::Profile;
use crate::entity::{billing_profile, event, former_member, invitation, membership};
use crate::error::Error;
use crate::event::Change;
use crate::membership::invitations;
use crate::operation::store::{self, read_json};
use crate::pb::Permission;
use crate::sql;

/// How long before its end somebody is told of a trial.
const BEFORE_TRIAL_END: TimeDelta = TimeDelta::days(3);

/// How many holders of a permission are told: more would be a mailing.
const MOST_HOLDERS: u64 = 20;

/// Every kind of letter, as its templates are named.
pub const KINDS: [&str; 7] = [
    "invitation",
    "invitation_accepted",
    "role_changed",
    "member_removed",
    "seats_full",
    "trial_ending",
    "payment_failed",
];

/// The types of events that mean anything for e-mail.
pub const TYPES: [&str; 11] = [
    "invitation.created",
    "invitation.resent",
    "invitation.canceled",
    "invitation.accepted",
    "invitation.declined",
    "member.role_changed",
    "member.removed",
    "member.left",
    "subscription.seats_full",
    "subscription.trial_started",
    "payment.failed",
];

/// What a letter has to say, beyond what is looked up when it is sent; as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Letter {
    /// Somebody is invited, for the first time or again.
    Invitation {
        /// By which.
        invitation_id: Uuid,
        /// When it was sent. One that was sent again since has another letter.
        sent_at: DateTime<Utc>,
    },
    /// Somebody accepted an invitation.
    InvitationAccepted {
        /// Who.
        user_id: String,
    },
    /// A member's role changed.
    RoleChanged {
        /// Whose.
        user_id: String,
        /// From which.
        before: String,
        /// To which.
        after: String,
        /// By whom, if by a member.
        by: Option<String>,
    },
    /// A member was removed.
    MemberRemoved {
        /// Who.
        user_id: String,
        /// By whom, if by a member.
        by: Option<String>,
    },
    /// Every seat is taken.
    SeatsFull {
        /// How many there are.
        seats: i64,
    },
    /// A trial ends soon.
    TrialEnding {
        /// When.
        trial_end: DateTime<Utc>,
    },
    /// A payment failed.
    PaymentFailed {
        /// Of which invoice.
        invoice_id: Uuid,
        /// Why.
        failure: String,
    },
}

impl Letter {
    /// What kind it is, as its templates are named.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invitation { .. } => "invitation",
            Self::InvitationAccepted { .. } => "invitation_accepted",
            Self::RoleChanged { .. } => "role_changed",
            Self::MemberRemoved { .. } => "member_removed",
            Self::SeatsFull { .. } => "seats_full",
            Self::TrialEnding { .. } => "trial_ending",
            Self::PaymentFailed { .. } => "payment_failed",
        }
    }

    /// The invitation, if it is one.
    #[must_use]
    pub fn invitation_id(&self) -> Option<Uuid> {
        match self {
            Self::Invitation { invitation_id, .. } => Some(*invitation_id),
            _ => None,
        }
    }
}

/// What an event means for e-mail.
#[derive(Debug, Default)]
pub struct Consequence {
    /// What is to be told, to these addresses, not before a time.
    pub told: Option<(Letter, Vec<String>, DateTime<Utc>)>,
    /// The invitation of which there is no more to be told than that.
    pub settles: Option<Uuid>,
}

/// What an event means for e-mail.
pub async fn consequence(
    app: &App,
    connection: &impl ConnectionTrait,
    row: &event::Model,
) -> Result<Consequence, Error> {
    let change = Change::read(row).map_err(|error| Error::Defect("an event could not be read", Some(error.into())))?;
    let scope = Scope::of_newcomer(row.organization_id);
    let at = row.occurred_at;
    let by = row.actor_user_id.clone();
    let settles = match &change {
        Change::InvitationResent { invitation_id, .. }
        | Change::InvitationCanceled { invitation_id, .. }
        | Change::InvitationAccepted { invitation_id, .. }
        | Change::InvitationDeclined { invitation_id, .. } => Some(*invitation_id),
        _ => None,
    };
    let told = match change {
        Change::InvitationCreated { invitation_id, .. } | Change::InvitationResent { invitation_id, .. } => {
            let found = invitations::find(connection, scope, invitation_id).await?;
            // One that was sent again meanwhile is told of by that.
            let found = found.filter(|found| found.state == invitation::State::Pending && found.sent_at == at);
            let to = found.map(|found| found.email).into_iter().collect();
            Some((Letter::Invitation { invitation_id, sent_at: at }, to, at))
        }
        Change::InvitationAccepted { invitation_id, user_id } => {
            let found = invitations::find(connection, scope, invitation_id).await?;
            let to = match found {
                Some(found) => address_of(connection, scope, &found.inviter_user_id).await?,
                None => None,
            };
            Some((Letter::InvitationAccepted { user_id }, to.into_iter().collect(), at))
        }
        Change::MemberRoleChanged { user_id, before, after } if by.as_ref() != Some(&user_id) => {
            let to = address_of(connection, scope, &user_id).await?;
            Some((Letter::RoleChanged { user_id, before, after, by }, to.into_iter().collect(), at))
        }
        Change::MemberRemoved { user_id, .. } => {
            let to = take_former_address(connection, scope, &user_id).await?;
            Some((Letter::MemberRemoved { user_id, by }, to.into_iter().collect(), at))
        }
        Change::MemberLeft { user_id, .. } => {
            take_former_address(connection, scope, &user_id).await?;
            None
        }
        Change::SubscriptionSeatsFull { seats } => {
            let to = holders(app, connection, scope, Permission::SubscriptionManage).await?;
            Some((Letter::SeatsFull { seats }, to, at))
        }
        Change::SubscriptionTrialStarted { trial_end_time } => {
            let Ok(trial_end) = DateTime::parse_from_rfc3339(&trial_end_time) else {
                return Ok(Consequence::default());
            };
            let trial_end = trial_end.to_utc();
            // Whom it is told to is known when it is.
            Some((Letter::TrialEnding { trial_end }, vec![String::new()], at.max(trial_end - BEFORE_TRIAL_END)))
        }
        Change::PaymentFailed { invoice_id, failure, .. } => {
            let to = payers(app, connection, scope).await?;
            Some((Letter::PaymentFailed { invoice_id, failure }, to, at))
        }
        _ => None,
    };
    Ok(Consequence { told, settles })
}

/// The address of an active member.
async fn address_of(connection: &impl ConnectionTrait, scope: Scope, user_id: &str) -> Result<Option<String>, DbErr> {
    let member = store::find_member(connection, scope, user_id).await?;
    Ok(member.filter(|member| member.suspended_at.is_none()).map(|member| member.email))
}

/// The address of whose membership has ended, which is forgotten by this.
async fn take_former_address(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_id: &str,
) -> Result<Option<String>, DbErr> {
    use former_member::Column as F;
    let key = (scope.organization_id(), user_id.to_owned());
    let found = former_member::Entity::find_by_id(key).one(connection).await?;
    former_member::Entity::update_many()
        .filter(F::OrganizationId.eq(scope.organization_id()))
        .filter(F::UserId.eq(user_id))
        .col_expr(F::Email, Expr::value(None::<String>))
        .exec(connection)
        .await?;
    Ok(found.and_then(|found| found.email))
}

/// The addresses of active members whose role has a permission, those who joined first.
async fn holders(
    app: &App,
    connection: &impl ConnectionTrait,
    scope: Scope,
    permission: Permission,
) -> Result<Vec<String>, Error> {
    use membership::Column as M;
    let organization = store::find(connection, scope).await?;
    let policy = store::policy_of(connection, &app.policy, organization.as_ref()).await?;
    let roles: Vec<String> =
        policy.roles().filter(|role| role.allows(permission)).map(|role| role.name.to_string()).collect();
    let addresses = membership::Entity::find()
        .select_only()
        .column(M::Email)
        .filter(M::OrganizationId.eq(scope.organization_id()))
        .filter(M::Role.is_in(sql::padded(roles)))
        .filter(M::SuspendedAt.is_null())
        .order_by_asc(M::JoinedAt)
        .order_by_asc(M::UserId)
        .limit(MOST_HOLDERS);
    let mut addresses: Vec<String> = addresses.into_tuple().all(connection).await?;
    // Nobody is told twice.
    let mut known = HashSet::new();
    addresses.retain(|address| known.insert(address.to_lowercase()));
    Ok(addresses)
}

/// Those who manage the subscription, and where invoices are sent.
pub(super) async fn payers(app: &App, connection: &impl ConnectionTrait, scope: Scope) -> Result<Vec<String>, Error> {
    let mut addresses = holders(app, connection, scope, Permission::SubscriptionManage).await?;
    let profile = billing_profile::Entity::find_by_id(scope.organization_id()).one(connection).await?;
    let profile: Option<Profile> = read_json(profile.as_ref().map(|row| &row.profile))?;
    let invoices = profile.map(|profile| profile.email).filter(|email| !email.is_empty());
    addresses
        .extend(invoices.filter(|email| !addresses.iter().any(|known| known.to_lowercase() == email.to_lowercase())));
    Ok(addresses)
}
