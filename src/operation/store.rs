//! The rows by which an operation is entered: the organization with its lock and its counters, and the caller's membership.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, LockBehavior, LockType, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait as _, JoinType, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, RelationDef, Select,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::standing::Standing;
use crate::app::App;
use crate::auth::policy::RolePolicy;
use crate::auth::policy::custom::CustomRole;
use crate::auth::scope::Scope;
use crate::billing::seats::Usage;
use crate::entity::{custom_role, invitation, membership, organization, seat_entry};
use crate::error::Error;
use crate::organization::days::{self, Tally};
use crate::{id, sql};

/// Finds the organization.
pub async fn find(connection: &impl ConnectionTrait, scope: Scope) -> Result<Option<organization::Model>, DbErr> {
    organization::Entity::find_by_id(scope.organization_id()).one(connection).await
}

/// Finds the organization and a user's membership of it, in one round trip.
pub async fn find_with_member(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_id: &str,
) -> Result<(Option<organization::Model>, Option<membership::Model>), DbErr> {
    let found = organization::Entity::find_by_id(scope.organization_id())
        .join(JoinType::LeftJoin, membership_of(user_id.to_owned()))
        .select_also(membership::Entity)
        .one(connection)
        .await?;
    Ok(found.map_or((None, None), |(organization, membership)| (Some(organization), membership)))
}

/// The join of an organization with a user's membership of it.
pub fn membership_of(user_id: String) -> RelationDef {
    let relation: RelationDef = organization::Entity::belongs_to(membership::Entity)
        .from(organization::Column::OrganizationId)
        .to(membership::Column::OrganizationId)
        .into();
    relation.on_condition(move |_, members| {
        Condition::all().add(Expr::col((members, membership::Column::UserId)).eq(user_id.clone()))
    })
}

/// Locks the organization until the end of the transaction. Every change of it begins with this: one lock, one order. (On
/// SQLite the transaction itself is the lock.)
///
/// `name` is what the transaction is called from then on, so that whoever gives up waiting can have the wait ended
/// ([`Database::interrupt`](crate::database::Database::interrupt)). It costs no round trip: PostgreSQL takes the name before it waits.
pub async fn lock(
    connection: &impl ConnectionTrait,
    scope: Scope,
    name: Option<&str>,
) -> Result<Option<organization::Model>, DbErr> {
    let mut select = organization::Entity::find_by_id(scope.organization_id()).lock(LockType::Update);
    if let Some(name) = name.filter(|_| connection.get_database_backend() == DbBackend::Postgres) {
        select = select.expr_as(Expr::cust_with_values("set_config('application_name', $1, true)", [name]), "named");
    }
    select.one(connection).await
}

/// Locks the organization, unless somebody else has: then there is nothing to wait for.
pub async fn lock_unless_held(
    connection: &impl ConnectionTrait,
    scope: Scope,
) -> Result<Option<organization::Model>, DbErr> {
    organization::Entity::find_by_id(scope.organization_id())
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .one(connection)
        .await
}

/// The organization, a user's membership of it and its role policy, as they stand together at one moment.
///
/// The roles that it defined are read together with the membership: were one older than the other, a member who was given
/// another role while the old one changed could have the new rights of the old one.
pub async fn find_standing(
    app: &App,
    scope: Scope,
    user_id: &str,
    other: Option<&str>,
) -> Result<(Standing, Arc<RolePolicy>), Error> {
    const ATTEMPTS: usize = 3;
    let policy = &app.policy;
    for _ in 0..ATTEMPTS {
        let mut standing = app.standings.find(scope, user_id, other).await?;
        if !defines_roles(policy, standing.organization.as_deref()) {
            return Ok((standing, Arc::clone(policy)));
        }
        let rows = roles_of(scope.organization_id())
            .join(JoinType::LeftJoin, membership_beside_role(user_id.to_owned()))
            .select_also(membership::Entity)
            .all(app.database.reader())
            .await?;
        // The last of its roles was deleted in between.
        let Some((_, membership)) = rows.first().cloned() else { continue };
        let roles: Result<Vec<CustomRole>, Error> = rows.into_iter().map(|(row, _)| defined_role(row)).collect();
        standing.membership = membership;
        return Ok((standing, Arc::new(policy.with_custom(&roles?))));
    }
    Err(Error::Conflict)
}

/// The role policy of an organization that is locked, or that nobody acts in as a member: the deployment's, with the roles
/// that it defined for itself.
pub async fn policy_of(
    connection: &impl ConnectionTrait,
    policy: &Arc<RolePolicy>,
    organization: Option<&organization::Model>,
) -> Result<Arc<RolePolicy>, Error> {
    match organization {
        Some(found) if defines_roles(policy, organization) => {
            Ok(Arc::new(policy.with_custom(&list_roles(connection, found.organization_id).await?)))
        }
        _ => Ok(Arc::clone(policy)),
    }
}

fn defines_roles(policy: &RolePolicy, organization: Option<&organization::Model>) -> bool {
    policy.custom_roles() && organization.is_some_and(|found| found.custom_roles > 0)
}

/// The roles that an organization defined for itself, by name, whether the policy in force lets it or not.
pub async fn list_roles(connection: &impl ConnectionTrait, organization_id: Uuid) -> Result<Vec<CustomRole>, Error> {
    roles_of(organization_id).all(connection).await?.into_iter().map(defined_role).collect()
}

fn roles_of(organization_id: Uuid) -> Select<custom_role::Entity> {
    custom_role::Entity::find()
        .filter(custom_role::Column::OrganizationId.eq(organization_id))
        .order_by_asc(custom_role::Column::OrganizationId)
        .order_by_asc(custom_role::Column::Role)
}

fn membership_beside_role(user_id: String) -> RelationDef {
    let relation: RelationDef = custom_role::Entity::belongs_to(membership::Entity)
        .from(custom_role::Column::OrganizationId)
        .to(membership::Column::OrganizationId)
        .into();
    relation.on_condition(move |_, members| {
        Condition::all().add(Expr::col((members, membership::Column::UserId)).eq(user_id.clone()))
    })
}

fn defined_role(row: custom_role::Model) -> Result<CustomRole, Error> {
    let definition = serde_json::from_value(row.definition)
        .map_err(|error| Error::Defect("a custom role could not be read", Some(error.into())))?;
    Ok(CustomRole { role: row.role, title: row.title, description: row.description, definition, version: row.version })
}

/// Finds a member.
pub async fn find_member(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_id: &str,
) -> Result<Option<membership::Model>, DbErr> {
    membership::Entity::find_by_id((scope.organization_id(), user_id.to_owned())).one(connection).await
}

/// Takes the invitations that have expired out of the count of seats, and says which those were and when. Only one who holds
/// the organization's lock may.
pub async fn release_expired(
    connection: &impl ConnectionTrait,
    scope: Scope,
    now: DateTime<Utc>,
) -> Result<Vec<(Uuid, DateTime<Utc>)>, Error> {
    use invitation::Column as C;
    let released = invitation::Entity::update_many()
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .filter(expired_with_seat(now))
        .col_expr(C::HoldsSeat, Expr::value(false))
        .exec_with_returning(connection)
        .await?;
    Ok(released.into_iter().map(|row| (row.invitation_id, row.expires_at)).collect())
}

/// An organization that has invitations which have expired and are still counted as holding a seat.
pub async fn find_with_expired(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Option<Uuid>, DbErr> {
    invitation::Entity::find()
        .select_only()
        .column(invitation::Column::OrganizationId)
        .filter(expired_with_seat(now))
        .limit(1)
        .into_tuple()
        .one(connection)
        .await
}

/// Takes some of the expired invitations of an organization off the books, both rows and counter. Only one who holds the
/// organization's lock may, and has read it since.
pub async fn release_some(
    connection: &impl ConnectionTrait,
    organization: &organization::Model,
    now: DateTime<Utc>,
    limit: u64,
) -> Result<(), Error> {
    use {invitation::Column as I, organization::Column as O};
    let organization_id = organization.organization_id;
    // A day that has ended is remembered with the seats that were in use then.
    let today = days::turn(connection, organization, now, Tally::default()).await?;
    let some = Query::select()
        .column(I::InvitationId)
        .from(invitation::Entity)
        .and_where(I::OrganizationId.eq(organization_id))
        .cond_where(expired_with_seat(now))
        .limit(limit)
        .to_owned();
    let released = invitation::Entity::update_many()
        .filter(I::OrganizationId.eq(organization_id))
        .filter(I::InvitationId.in_subquery(some))
        .col_expr(I::HoldsSeat, Expr::value(false))
        .exec_with_returning(connection)
        .await?;
    let count = sql::counted(released.len())?;
    let ids = id::new_in_order(now, released.len());
    let entries = ids.into_iter().zip(released).map(|(entry_id, row)| seat_entry::Model {
        organization_id,
        entry_id,
        occurred_at: row.expires_at,
        recorded_at: now,
        cause: seat_entry::Cause::InvitationExpired,
        subject: row.invitation_id.to_string(),
        taken: -1,
        added: 0,
        members_after: organization.active_members,
        pending_after: organization.pending_invitations - count,
        total_after: organization.seats_total,
    });
    sql::insert_all(connection, &entries.collect::<Vec<_>>()).await?;
    organization::Entity::update_many()
        .filter(O::OrganizationId.eq(organization_id))
        .col_expr(O::Today, Expr::value(write_json(&today)?))
        .col_expr(O::PendingInvitations, Expr::col(O::PendingInvitations).sub(count))
        .exec(connection)
        .await?;
    Ok(())
}

/// How the seats of an organization are used, for readers, who take no lock: counters and what has expired of them in one
/// statement, so that nobody takes an invitation off the books in between.
pub async fn find_usage(connection: &impl ConnectionTrait, scope: Scope, now: DateTime<Utc>) -> Result<Usage, Error> {
    use {invitation::Column as I, organization::Column as O};
    let expired = Query::select()
        .expr(Expr::cust("count(*)"))
        .from(invitation::Entity)
        .and_where(I::OrganizationId.eq(scope.organization_id()))
        .cond_where(expired_with_seat(now))
        .to_owned();
    let found: Option<(i64, i64, i64, i64)> = organization::Entity::find_by_id(scope.organization_id())
        .select_only()
        .columns([O::SeatsTotal, O::ActiveMembers, O::PendingInvitations])
        .expr_as(SimpleExpr::SubQuery(None, Box::new(expired.into())), "expired")
        .into_tuple()
        .one(connection)
        .await?;
    let organization_id = scope.organization_id();
    let (total, members, pending, expired) = found.ok_or(Error::OrganizationNotFound { organization_id })?;
    Ok(Usage { total, members, pending: pending - expired })
}

/// Whether an invitation has expired and is still counted as holding a seat.
pub(crate) fn expired_with_seat(now: DateTime<Utc>) -> Condition {
    // Written out, not bound: only so can PostgreSQL tell that the partial index has all the rows that are asked for.
    Condition::all().add(Expr::cust("invitation.holds_seat")).add(invitation::Column::ExpiresAt.lte(now))
}

/// Counts the active members of each role from their rows.
pub async fn count_roles(connection: &impl ConnectionTrait, scope: Scope) -> Result<BTreeMap<String, i64>, DbErr> {
    use membership::Column as C;
    let counts: Vec<(String, i64)> = membership::Entity::find()
        .select_only()
        .column(C::Role)
        .column_as(C::UserId.count(), "members")
        .filter(C::OrganizationId.eq(scope.organization_id()))
        .filter(C::SuspendedAt.is_null())
        .group_by(C::Role)
        .into_tuple()
        .all(connection)
        .await?;
    Ok(counts.into_iter().collect())
}

/// The active members of each role, as `organization.members_by_role` says them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolesKept {
    /// The number of the event up to which they are counted.
    pub at: i64,
    /// How many hold each role.
    pub roles: BTreeMap<String, i64>,
}

/// The active members of each role as the organization's row has them; nothing when it was changed since by a server of the
/// version before, which knows nothing of them: each such change has its event.
pub fn roles_kept(row: &organization::Model) -> Result<Option<BTreeMap<String, i64>>, Error> {
    let kept: Option<RolesKept> = read_json(row.members_by_role.as_ref())?;
    Ok(kept.filter(|kept| kept.at == row.last_event_number).map(|kept| kept.roles))
}

/// The active members of each role: as they are kept or, where nobody has kept count, counted.
pub async fn members_by_role(
    connection: &impl ConnectionTrait,
    row: &organization::Model,
) -> Result<BTreeMap<String, i64>, Error> {
    match roles_kept(row)? {
        Some(kept) => Ok(kept),
        None => Ok(count_roles(connection, Scope::of_newcomer(row.organization_id)).await?),
    }
}

/// Reads what a column of JSON says.
pub fn read_json<T: DeserializeOwned>(column: Option<&serde_json::Value>) -> Result<Option<T>, Error> {
    column
        .map(|value| T::deserialize(value))
        .transpose()
        .map_err(|error| Error::Defect("a column of JSON could not be read", Some(error.into())))
}

/// Writes what a column of JSON is to say.
pub fn write_json<T: Serialize>(value: &T) -> Result<serde_json::Value, Error> {
    serde_json::to_value(value)
        .map_err(|error| Error::Defect("a column of JSON could not be written", Some(error.into())))
}
