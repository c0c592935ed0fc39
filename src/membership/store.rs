//! The rows of members. What changes them takes the unit of work and keeps its books, so that no member comes, goes or
//! changes without the counters knowing.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};
use uuid::Uuid;

use super::{Identity, Profile};
use crate::auth::scope::Scope;
use crate::entity::former_member;
use crate::entity::membership::{self, Column as C};
use crate::entity::seat_entry::Cause;
use crate::error::{Error, OnConstraint as _};
use crate::operation::Unit;
pub use crate::operation::store::find_member as find;
use crate::{sql, text};

/// The row of somebody who joins.
#[must_use]
pub fn joining(
    scope: Scope,
    identity: &Identity,
    profile: &Profile,
    role: &str,
    invitation_id: Option<Uuid>,
    now: DateTime<Utc>,
) -> membership::Model {
    let mut row = membership::Model {
        organization_id: scope.organization_id(),
        user_id: identity.user_id.clone(),
        email: identity.email.written.clone(),
        email_normalized: identity.email.normalized.clone(),
        display_name: profile.display_name.clone(),
        sort_name: String::new(),
        search_text: String::new(),
        avatar_uri: profile.avatar_uri.clone(),
        role: role.to_owned(),
        invitation_id,
        joined_at: now,
        last_sign_in_at: DateTime::UNIX_EPOCH,
        suspended_at: None,
        version: 1,
    };
    index(&mut row);
    row
}

/// Figures the columns by which a member is sorted and found.
pub fn index(row: &mut membership::Model) {
    row.sort_name = text::fold(&row.display_name);
    row.search_text = super::searchable(&[&row.display_name, &row.email, &row.email_normalized]);
}

/// Finds the members with these ids.
pub async fn list_by_ids(
    connection: &impl ConnectionTrait,
    scope: Scope,
    user_ids: &[&str],
) -> Result<Vec<membership::Model>, DbErr> {
    of(scope).filter(C::UserId.is_in(sql::padded(user_ids.iter().copied()))).all(connection).await
}

/// Finds the members with these e-mail addresses, normalized.
pub async fn list_by_emails(
    connection: &impl ConnectionTrait,
    scope: Scope,
    emails: &[&str],
) -> Result<Vec<membership::Model>, DbErr> {
    of(scope).filter(C::EmailNormalized.is_in(sql::padded(emails.iter().copied()))).all(connection).await
}

fn of(scope: Scope) -> sea_orm::Select<membership::Entity> {
    membership::Entity::find().filter(C::OrganizationId.eq(scope.organization_id()))
}

/// Inserts the founder, whom the organization's counters knew from its beginning.
pub async fn insert_founder<A>(unit: &mut Unit<'_, A>, row: membership::Model) -> Result<(), Error> {
    unit.note_seat(Cause::MemberJoined, &row.user_id, 1);
    membership::Entity::insert(row.into_active_model()).exec_without_returning(unit.transaction()).await?;
    Ok(())
}

/// Inserts an active member. That there is a seat the caller has seen to: an invitation gave its own up, or one was free.
pub async fn insert_joining<A>(unit: &mut Unit<'_, A>, row: membership::Model) -> Result<(), Error> {
    let (user_id, role) = (row.user_id.clone(), row.role.clone());
    let member = user_id.clone();
    membership::Entity::insert(row.into_active_model())
        .exec_without_returning(unit.transaction())
        .await
        .on_constraint("membership_one_per_user", || Error::AlreadyMember { user_id })?;
    unit.count_members(&role, 1);
    unit.note_seat(Cause::MemberJoined, member, 1);
    Ok(())
}

/// Gives members another role: one statement, whoever they are.
pub async fn update_roles<A>(
    unit: &mut Unit<'_, A>,
    rows: &mut [&mut membership::Model],
    role: &str,
) -> Result<(), Error> {
    let user_ids: Vec<String> = rows.iter().map(|row| row.user_id.clone()).collect();
    membership::Entity::update_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::UserId.is_in(sql::padded(user_ids)))
        .col_expr(C::Role, Expr::value(role))
        .col_expr(C::Version, Expr::col(C::Version).add(1))
        .exec(unit.transaction())
        .await?;
    for row in rows {
        if row.suspended_at.is_none() {
            unit.count_members(&row.role, -1);
            unit.count_members(role, 1);
        }
        role.clone_into(&mut row.role);
        row.version += 1;
    }
    Ok(())
}

/// Whether a user was a member before, and is no longer or was once.
pub async fn was_member(connection: &impl ConnectionTrait, scope: Scope, user_id: &str) -> Result<bool, DbErr> {
    let key = (scope.organization_id(), user_id.to_owned());
    Ok(former_member::Entity::find_by_id(key).one(connection).await?.is_some())
}

/// Remembers that memberships end: who is no longer a member does not come back by a rule for everybody.
async fn remember<A>(unit: &Unit<'_, A>, rows: &[&membership::Model]) -> Result<(), DbErr> {
    use former_member::Column as F;
    let again = OnConflict::columns([F::OrganizationId, F::UserId]).update_columns([F::EndedAt, F::Email]).to_owned();
    for rows in sql::blocks(rows) {
        let rows = rows.iter().map(|row| former_member::Model {
            organization_id: row.organization_id,
            user_id: row.user_id.clone(),
            ended_at: unit.now,
            email: unit.app.mail.as_ref().map(|_| row.email.clone()),
        });
        former_member::Entity::insert_many(rows.map(former_member::Model::into_active_model))
            .on_conflict(again.clone())
            .exec_without_returning(unit.transaction())
            .await?;
    }
    Ok(())
}

/// Deletes members; the log remembers them.
pub async fn delete<A>(unit: &mut Unit<'_, A>, rows: &[&membership::Model]) -> Result<(), Error> {
    membership::Entity::delete_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::UserId.is_in(sql::padded(rows.iter().map(|row| row.user_id.clone()))))
        .exec(unit.transaction())
        .await?;
    for row in rows {
        if row.suspended_at.is_none() {
            unit.count_members(&row.role, -1);
            unit.note_seat(Cause::MemberRemoved, &row.user_id, -1);
        }
    }
    remember(unit, rows).await?;
    Ok(())
}

/// Suspends an active member, or reactivates a suspended one.
pub async fn update_suspension<A>(
    unit: &mut Unit<'_, A>,
    row: &mut membership::Model,
    suspended_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    let members = i64::from(suspended_at.is_none()) - i64::from(row.suspended_at.is_none());
    row.suspended_at = suspended_at;
    row.version += 1;
    membership::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::UserId.eq(row.user_id.clone()))
        .col_expr(C::SuspendedAt, Expr::value(suspended_at))
        .col_expr(C::Version, Expr::value(row.version))
        .exec(unit.transaction())
        .await?;
    unit.count_members(&row.role, members);
    match members {
        0 => {}
        taken if taken > 0 => unit.note_seat(Cause::MemberReactivated, &row.user_id, taken),
        taken => unit.note_seat(Cause::MemberSuspended, &row.user_id, taken),
    }
    Ok(())
}

/// Writes what the identity provider says of a member.
pub async fn update_profile<A>(unit: &Unit<'_, A>, row: &membership::Model) -> Result<(), Error> {
    membership::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::UserId.eq(row.user_id.clone()))
        .col_expr(C::Email, Expr::value(row.email.clone()))
        .col_expr(C::EmailNormalized, Expr::value(row.email_normalized.clone()))
        .col_expr(C::DisplayName, Expr::value(row.display_name.clone()))
        .col_expr(C::SortName, Expr::value(row.sort_name.clone()))
        .col_expr(C::SearchText, Expr::value(row.search_text.clone()))
        .col_expr(C::AvatarUri, Expr::value(row.avatar_uri.clone()))
        .col_expr(C::Version, Expr::value(row.version))
        .exec(unit.transaction())
        .await?;
    Ok(())
}

/// Writes when a member last signed in: alone, because each index that has a written column in it is written too.
pub async fn update_last_sign_in<A>(unit: &Unit<'_, A>, row: &membership::Model) -> Result<(), Error> {
    membership::Entity::update_many()
        .filter(C::OrganizationId.eq(row.organization_id))
        .filter(C::UserId.eq(row.user_id.clone()))
        .col_expr(C::LastSignInAt, Expr::value(row.last_sign_in_at))
        .exec(unit.transaction())
        .await?;
    Ok(())
}
