//! The rows of an organization's own roles, and of all that names one of them. What changes them takes the unit of work.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use crate::auth::policy::custom::CustomRole;
use crate::entity::{custom_role, invitation, join_request, membership, organization_domain};
use crate::error::{Error, OnConstraint as _};
use crate::membership::{invitations, joining};
use crate::operation::Unit;
use crate::operation::store::write_json;
use crate::operation::unit::Books;
use crate::sql;

/// Writes a new role.
pub async fn insert<A>(unit: &mut Unit<'_, A>, role: &CustomRole) -> Result<(), Error> {
    let row = custom_role::Model {
        organization_id: unit.scope().organization_id(),
        role: role.role.clone(),
        title: role.title.clone(),
        description: role.description.clone(),
        definition: write_json(&role.definition)?,
        created_at: unit.now,
        updated_at: unit.now,
        version: role.version,
    };
    custom_role::Entity::insert(row.into_active_model())
        .exec_without_returning(unit.transaction())
        .await
        .on_constraint("custom_role_once", || Error::RoleExists { role: role.role.clone() })?;
    unit.count(Books { custom_roles: 1, ..Books::default() });
    Ok(())
}

/// Writes a role that changed.
pub async fn update<A>(unit: &Unit<'_, A>, role: &CustomRole) -> Result<(), Error> {
    use custom_role::Column as C;
    custom_role::Entity::update_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::Role.eq(role.role.as_str()))
        .col_expr(C::Title, Expr::value(role.title.clone()))
        .col_expr(C::Description, Expr::value(role.description.clone()))
        .col_expr(C::Definition, Expr::value(write_json(&role.definition)?))
        .col_expr(C::UpdatedAt, Expr::value(unit.now))
        .col_expr(C::Version, Expr::value(role.version))
        .exec(unit.transaction())
        .await?;
    Ok(())
}

/// Deletes a role.
pub async fn delete<A>(unit: &mut Unit<'_, A>, role: &str) -> Result<(), Error> {
    let key = (unit.scope().organization_id(), role.to_owned());
    custom_role::Entity::delete_by_id(key).exec(unit.transaction()).await?;
    unit.count(Books { custom_roles: -1, ..Books::default() });
    Ok(())
}

/// What has a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// The active members who hold it.
    pub active: i64,
    /// The suspended members who hold it.
    pub suspended: i64,
    /// The pending invitations that offer it, expired or not.
    pub invitations: i64,
    /// The pending invitations to other roles that were sent by right of it, expired or not.
    pub sent: i64,
    /// The domains by which people join in it.
    pub domains: Vec<String>,
    /// The open requests to join that are offered it.
    pub join_requests: i64,
}

impl Uses {
    /// Everybody who holds it.
    #[must_use]
    pub fn members(&self) -> i64 {
        self.active + self.suspended
    }

    /// Whether it is offered to anybody.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.invitations > 0 || !self.domains.is_empty() || self.join_requests > 0
    }

    /// Whether nothing has to do with it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.members() == 0 && self.sent == 0 && !self.is_offered()
    }
}

/// Finds what has a role, under the organization's lock.
pub async fn uses<A>(unit: &Unit<'_, A>, role: &str) -> Result<Uses, Error> {
    use {
        invitation::Column as I, join_request::Column as J, membership::Column as M, organization_domain::Column as D,
    };
    let (id, connection) = (unit.scope().organization_id(), unit.transaction());
    let holders = membership::Entity::find().filter(M::OrganizationId.eq(id)).filter(M::Role.eq(role));
    let active = holders.clone().filter(M::SuspendedAt.is_null()).count(connection).await?;
    let suspended = holders.filter(Expr::cust("membership.suspended_at IS NOT NULL")).count(connection).await?;
    let offers = invitation::Entity::find().filter(I::OrganizationId.eq(id)).filter(invitations::is_pending());
    let sent = offers.clone().filter(I::InviterRole.eq(role)).filter(I::Role.ne(role)).count(connection).await?;
    let invitations = offers.filter(I::Role.eq(role)).count(connection).await?;
    let domains = organization_domain::Entity::find()
        .select_only()
        .column(D::Domain)
        .filter(D::OrganizationId.eq(id))
        .filter(D::JoinRole.eq(role))
        .order_by_asc(D::Domain)
        .into_tuple()
        .all(connection)
        .await?;
    let requests = join_request::Entity::find().filter(J::OrganizationId.eq(id)).filter(joining::is_pending());
    let join_requests = requests.filter(J::Role.eq(role)).count(connection).await?;
    Ok(Uses {
        active: sql::counted(active)?,
        suspended: sql::counted(suspended)?,
        invitations: sql::counted(invitations)?,
        sent: sql::counted(sent)?,
        domains,
        join_requests: sql::counted(join_requests)?,
    })
}

/// Gives everybody who holds a role another: one statement, however many they are.
pub async fn replace_held<A>(unit: &mut Unit<'_, A>, uses: &Uses, role: &str, replacement: &str) -> Result<(), Error> {
    use membership::Column as C;
    let replaced = membership::Entity::update_many()
        .filter(C::OrganizationId.eq(unit.scope().organization_id()))
        .filter(C::Role.eq(role))
        .col_expr(C::Role, Expr::value(replacement))
        .col_expr(C::Version, Expr::col(C::Version).add(1))
        .exec(unit.transaction())
        .await?;
    if sql::counted(replaced.rows_affected)? != uses.members() {
        return Err(Error::Conflict);
    }
    unit.count_members(role, -uses.active);
    unit.count_members(replacement, uses.active);
    Ok(())
}

/// Has whatever offers a role offer another, from now on by right of the role in which this is done.
pub async fn replace_offered<A>(
    unit: &Unit<'_, A>,
    role: &str,
    replacement: &str,
    inviter_role: &str,
) -> Result<(), Error> {
    use {invitation::Column as I, join_request::Column as J, organization_domain::Column as D};
    let (id, connection) = (unit.scope().organization_id(), unit.transaction());
    invitation::Entity::update_many()
        .filter(I::OrganizationId.eq(id))
        .filter(invitations::is_pending())
        .filter(I::Role.eq(role))
        .col_expr(I::Role, Expr::value(replacement))
        .col_expr(I::InviterRole, Expr::value(inviter_role))
        .exec(connection)
        .await?;
    organization_domain::Entity::update_many()
        .filter(D::OrganizationId.eq(id))
        .filter(D::JoinRole.eq(role))
        .col_expr(D::JoinRole, Expr::value(replacement))
        .col_expr(D::UpdatedAt, Expr::value(unit.now))
        .col_expr(D::Version, Expr::col(D::Version).add(1))
        .exec(connection)
        .await?;
    join_request::Entity::update_many()
        .filter(J::OrganizationId.eq(id))
        .filter(joining::is_pending())
        .filter(J::Role.eq(role))
        .col_expr(J::Role, Expr::value(replacement))
        .exec(connection)
        .await?;
    Ok(())
}

/// Has what was sent by right of a role, and could be granted by it just now, be judged by its replacement. What could not be
/// keeps the name of the one that is gone: the replacement may be stronger, and nobody meant to send it so.
pub async fn replace_sent<A>(unit: &Unit<'_, A>, role: &str, replacement: &str) -> Result<(), Error> {
    use invitation::Column as I;
    let (id, connection) = (unit.scope().organization_id(), unit.transaction());
    let offered: Vec<String> = invitation::Entity::find()
        .select_only()
        .column(I::Role)
        .distinct()
        .filter(I::OrganizationId.eq(id))
        .filter(invitations::is_pending())
        .filter(I::InviterRole.eq(role))
        .into_tuple()
        .all(connection)
        .await?;
    let gone = unit.policy.role(role);
    let good: Vec<String> = offered.into_iter().filter(|to| gone.is_some_and(|gone| gone.invites(to))).collect();
    if good.is_empty() {
        return Ok(());
    }
    invitation::Entity::update_many()
        .filter(I::OrganizationId.eq(id))
        .filter(invitations::is_pending())
        .filter(I::InviterRole.eq(role))
        .filter(I::Role.is_in(sql::padded(good)))
        .col_expr(I::InviterRole, Expr::value(replacement))
        .exec(connection)
        .await?;
    Ok(())
}
