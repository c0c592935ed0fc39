//! What the head of an admin centre shows: the rows in one statement, and the members by role.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, Order, Query, SelectStatement};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait, FromQueryResult, JoinType, QueryResult, QuerySelect as _,
    RelationDef,
};

use crate::auth::policy::RolePolicy;
use crate::auth::scope::Scope;
use crate::entity::{
    billing_profile, invitation, join_request, membership, organization_settings, payment_method, subscription,
};
use crate::error::Error;
use crate::membership::joining;
use crate::pb;

/// What stands in other rows than the organization's own, at an instant.
#[derive(Clone, Debug)]
pub struct Head {
    /// The subscription.
    pub subscription: subscription::Model,
    /// The settings, if anybody chose any.
    pub settings: Option<serde_json::Value>,
    /// The billing profile, if there is one.
    pub billing_profile: Option<serde_json::Value>,
    /// How many members are suspended.
    pub suspended_members: i64,
    /// How many requests to join wait.
    pub pending_join_requests: i64,
    /// How many invitations there ever were: none, or some.
    pub some_invitations: i64,
    /// How many payment methods there are.
    pub some_payment_methods: i64,
}

impl FromQueryResult for Head {
    fn from_query_result(row: &QueryResult, pre: &str) -> Result<Self, sea_orm::DbErr> {
        Ok(Self {
            subscription: subscription::Model::from_query_result(row, pre)?,
            settings: row.try_get(pre, "settings")?,
            billing_profile: row.try_get(pre, "profile")?,
            suspended_members: row.try_get(pre, "suspended_members")?,
            pending_join_requests: row.try_get(pre, "pending_join_requests")?,
            some_invitations: row.try_get(pre, "some_invitations")?,
            some_payment_methods: row.try_get(pre, "some_payment_methods")?,
        })
    }
}

/// Reads all of it in one round trip. Each count walks a partial index that has just the rows that are counted.
pub async fn head(connection: &impl ConnectionTrait, scope: Scope) -> Result<Head, Error> {
    use {join_request::Column as J, membership::Column as M};
    let id = scope.organization_id();
    let of = subscription::Column::OrganizationId;
    let settings: RelationDef = subscription::Entity::belongs_to(organization_settings::Entity)
        .from(of)
        .to(organization_settings::Column::OrganizationId)
        .into();
    let profile: RelationDef = subscription::Entity::belongs_to(billing_profile::Entity)
        .from(of)
        .to(billing_profile::Column::OrganizationId)
        .into();
    let suspended = count_of(membership::Entity).and_where(M::OrganizationId.eq(id)).to_owned();
    let waiting = count_of(join_request::Entity).and_where(J::OrganizationId.eq(id)).to_owned();
    let found = subscription::Entity::find_by_id(id)
        .join(JoinType::LeftJoin, settings)
        .join(JoinType::LeftJoin, profile)
        .column_as(organization_settings::Column::Settings, "settings")
        .column_as(billing_profile::Column::Profile, "profile")
        // Written out, not bound: only so can PostgreSQL tell that the partial indexes have all the rows that are asked for.
        .expr_as(
            counted(suspended.clone().and_where(Expr::cust("membership.suspended_at IS NOT NULL"))),
            "suspended_members",
        )
        .expr_as(counted(waiting.clone().and_where(joining::is_pending())), "pending_join_requests")
        .expr_as(counted(&one_invitation(scope)), "some_invitations")
        .expr_as(
            counted(count_of(payment_method::Entity).and_where(payment_method::Column::OrganizationId.eq(id))),
            "some_payment_methods",
        )
        .into_model::<Head>()
        .one(connection)
        .await?;
    found.ok_or(Error::defect("an organization without a subscription"))
}

/// Counts the invitations to one, whatever became of it.
fn one_invitation(scope: Scope) -> SelectStatement {
    use invitation::Column as I;
    let first = Query::select()
        .column(I::InvitationId)
        .from(invitation::Entity)
        .and_where(I::OrganizationId.eq(scope.organization_id()))
        // In the order of the key, so that it is walked and not the table, where other organizations may have the most rows.
        .order_by(I::OrganizationId, Order::Asc)
        .order_by(I::InvitationId, Order::Asc)
        .limit(1)
        .to_owned();
    Query::select().expr(Expr::cust("count(*)")).from_subquery(first, "first").to_owned()
}

fn count_of(entity: impl EntityTrait) -> SelectStatement {
    Query::select().expr(Expr::cust("count(*)")).from(entity).to_owned()
}

fn counted(statement: &SelectStatement) -> Expr {
    Expr::SubQuery(None, Box::new(statement.clone().into()))
}

/// The active members of each role in the order of the policy, those that nobody holds among them, and after these the roles
/// that the policy does not have any more.
#[must_use]
pub fn by_role(policy: &RolePolicy, mut members: BTreeMap<String, i64>) -> Vec<pb::RoleCount> {
    let mut counts: Vec<pb::RoleCount> = policy
        .roles()
        .map(|role| pb::RoleCount {
            role: role.name.to_string(),
            title: role.title.clone(),
            members: members.remove(role.name.as_str()).unwrap_or_default(),
        })
        .collect();
    let gone = members.into_iter().filter(|(_, members)| *members != 0);
    counts.extend(gone.map(|(role, members)| pb::RoleCount { role, title: String::new(), members }));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_counted_in_the_order_of_the_policy() {
        let policy = RolePolicy::load("owner-billing").unwrap();
        let members = [("member", 7), ("viewer", 2), ("owner", 1), ("auditor", 3), ("gone", 0)];
        let members = members.map(|(role, members)| (role.to_owned(), members));
        let counts = by_role(&policy, BTreeMap::from(members));
        let counts: Vec<(&str, &str, i64)> =
            counts.iter().map(|count| (count.role.as_str(), count.title.as_str(), count.members)).collect();
        let policys = [("owner", "Owner", 1), ("admin", "Admin", 0), ("member", "Member", 7)];
        assert_eq!(counts[..3], policys);
        assert_eq!(counts[3..], [("auditor", "", 3), ("viewer", "", 2)]);
    }
}
