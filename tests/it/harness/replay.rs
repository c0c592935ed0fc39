//! Plays an organization's log from its first event, and looks whether that is what the tables say.
//!
//! Stricter than the service needs: every event must fit the state before it, and after each call the rules about seats
//! and the top role must hold at its instant. What races did to the books cannot hide from it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sea_orm::{ActiveEnum as _, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::Value;
use tenantry::auth::policy::RolePolicy;
use tenantry::entity::{event, invitation, membership, subscription, workspace, workspace_member};
use uuid::Uuid;

use super::world::World;

#[derive(Debug, Default)]
struct State {
    /// Role, and whether suspended.
    members: BTreeMap<String, (String, bool)>,
    /// State, role and expiry.
    invitations: BTreeMap<String, (&'static str, String, DateTime<Utc>)>,
    /// Who is assigned to each.
    workspaces: BTreeMap<String, BTreeSet<String>>,
    seats: i64,
    deleted: bool,
}

/// Plays the log of an organization and compares the end with its rows; gives the names of the events.
pub(crate) async fn replay(world: &World, organization_id: &str) -> Vec<String> {
    let id = Uuid::parse_str(organization_id).expect("an organization's id");
    let policy = RolePolicy::load(&world.setup.policy).expect("a sound role policy");
    let top_role = policy.top_role().name.to_string();
    let database = world.database().await;
    let log = event::Entity::find()
        .filter(event::Column::OrganizationId.eq(id))
        .order_by_asc(event::Column::Number)
        .all(&database)
        .await
        .expect("the log can be read");
    let members = membership::Entity::find().filter(membership::Column::OrganizationId.eq(id)).all(&database).await;
    let members = members.expect("the members can be read");
    let invited = invitation::Entity::find().filter(invitation::Column::OrganizationId.eq(id)).all(&database).await;
    let invited = invited.expect("the invitations can be read");
    let assigned =
        workspace_member::Entity::find().filter(workspace_member::Column::OrganizationId.eq(id)).all(&database);
    let assigned = assigned.await.expect("the assignments can be read");
    let workspaces = workspace::Entity::find().filter(workspace::Column::OrganizationId.eq(id)).all(&database).await;
    let workspaces = workspaces.expect("the workspaces can be read");
    let subscription = subscription::Entity::find_by_id(id).one(&database).await.expect("it can be read");
    database.close().await.expect("a connection can be closed");

    let mut state = State::default();
    for (index, event) in log.iter().enumerate() {
        assert_eq!(usize::try_from(event.number), Ok(index + 1), "the log has a gap");
        state.apply(event);
        let next = log.get(index + 1);
        assert!(next.is_none_or(|next| next.occurred_at >= event.occurred_at), "time goes backward at {event:?}");
        // Within one call the rules may be broken: they are judged on its end state.
        if next.is_none_or(|next| next.request_id != event.request_id) {
            state.holds(&top_role, event);
        }
    }
    let rows = members.into_iter().map(|row| (row.user_id, (row.role, row.suspended_at.is_some()))).collect();
    assert_eq!(state.members, rows, "the log tells of other members than there are");
    let told: BTreeMap<_, _> =
        state.invitations.iter().map(|(id, (state, role, _))| (id.clone(), (*state, role))).collect();
    let states: Vec<(String, String, String)> =
        invited.into_iter().map(|row| (row.invitation_id.to_string(), row.state.to_value(), row.role)).collect();
    let rows: BTreeMap<_, _> = states.iter().map(|(id, state, role)| (id.clone(), (state.as_str(), role))).collect();
    assert_eq!(told, rows, "the log tells of other invitations than there are");
    let mut rows: BTreeMap<String, BTreeSet<String>> =
        workspaces.into_iter().map(|row| (row.workspace_id.to_string(), BTreeSet::new())).collect();
    for row in assigned {
        rows.get_mut(&row.workspace_id.to_string()).expect("a workspace").insert(row.user_id);
    }
    assert_eq!(state.workspaces, rows, "the log tells of other assignments than there are");
    assert_eq!(subscription.map(|row| row.seats), Some(state.seats), "the log tells of other seats than there are");
    log.into_iter().map(|event| event.r#type).collect()
}

impl State {
    fn holds(&self, top_role: &str, after: &event::Model) {
        let active = || self.members.values().filter(|(_, suspended)| !suspended);
        assert!(active().any(|(role, _)| role == top_role), "nobody holds the top role after {after:?}");
        let open =
            |(state, _, expires): &&(&str, String, DateTime<Utc>)| *state == "pending" && *expires > after.occurred_at;
        let used = active().count() + self.invitations.values().filter(open).count();
        assert!(
            i64::try_from(used).is_ok_and(|used| used <= self.seats),
            "{used} of {} seats after {after:?}",
            self.seats
        );
    }

    fn apply(&mut self, event: &event::Model) {
        let text = |key: &str| match &event.payload[key] {
            Value::String(text) => text.clone(),
            other => panic!("{key} is {other} in {event:?}"),
        };
        let number = |key: &str| event.payload[key].as_i64().unwrap_or_else(|| panic!("no {key} in {event:?}"));
        let time =
            |key: &str| text(key).parse::<DateTime<Utc>>().unwrap_or_else(|_| panic!("no time {key} in {event:?}"));
        assert!(!self.deleted || event.r#type == "organization.undeleted", "changed while deleted: {event:?}");
        match event.r#type.as_str() {
            "organization.created" => self.seats = number("seats"),
            "organization.updated" | "settings.updated" | "billing_profile.updated" => {}
            of_joining if of_joining.starts_with("domain.") || of_joining.starts_with("join_request.") => {}
            "organization.deleted" => self.deleted = true,
            "organization.undeleted" => assert!(std::mem::take(&mut self.deleted), "not deleted at {event:?}"),
            "subscription.seats_changed" => {
                assert_eq!(std::mem::replace(&mut self.seats, number("after")), number("before"), "{event:?}");
            }
            "subscription.seats_full" => assert_eq!(number("seats"), self.seats, "{event:?}"),
            "invitation.created" => {
                let offer = ("pending", text("role"), time("expire_time"));
                assert!(self.invitations.insert(text("invitation_id"), offer).is_none(), "{event:?}");
            }
            "invitation.resent" => {
                let offer = self.pending(&text("invitation_id"), event);
                assert_eq!(offer.1, text("role_before"), "{event:?}");
                (offer.1, offer.2) = (text("role"), time("expire_time"));
            }
            "invitation.canceled" => self.pending(&text("invitation_id"), event).0 = "canceled",
            "invitation.declined" => self.open(&text("invitation_id"), event).0 = "declined",
            "invitation.accepted" => self.open(&text("invitation_id"), event).0 = "accepted",
            "member.joined" => {
                if let Value::String(id) = &event.payload["invitation_id"] {
                    let (state, role, _) = &self.invitations[id];
                    assert_eq!((*state, role), ("accepted", &text("role")), "{event:?}");
                }
                assert!(self.members.insert(text("user_id"), (text("role"), false)).is_none(), "{event:?}");
                self.assign(event, "workspace_ids");
            }
            "member.role_changed" => {
                let member = self.member(&text("user_id"), event);
                assert_eq!(std::mem::replace(&mut member.0, text("after")), text("before"), "{event:?}");
                assert_ne!(text("before"), text("after"), "no change: {event:?}");
            }
            "member.removed" | "member.left" => {
                let gone = self.members.remove(&text("user_id"));
                assert_eq!(gone.map(|(role, _)| role), Some(text("role")), "{event:?}");
                self.unassign(event, "workspace_ids");
                let left = self.workspaces.values().any(|members| members.contains(&text("user_id")));
                assert!(!left, "not all assignments are named: {event:?}");
            }
            "member.suspended" => {
                assert!(!std::mem::replace(&mut self.member(&text("user_id"), event).1, true), "{event:?}");
            }
            "member.reactivated" => {
                assert!(std::mem::replace(&mut self.member(&text("user_id"), event).1, false), "{event:?}");
            }
            "member.signed_in" => {
                self.member(&text("user_id"), event);
            }
            "ownership.transferred" => {
                let former = self.member(&text("from_user_id"), event).0.clone();
                assert_eq!(former, text("former_holder_role"), "{event:?}");
                self.member(&text("to_user_id"), event);
            }
            "workspace.created" => {
                assert!(self.workspaces.insert(text("workspace_id"), BTreeSet::new()).is_none(), "{event:?}");
            }
            "workspace.updated" => assert!(self.workspaces.contains_key(&text("workspace_id")), "{event:?}"),
            "workspace.deleted" => {
                let members = self.workspaces.remove(&text("workspace_id")).map(|members| members.len());
                assert_eq!(members, usize::try_from(number("unassigned_members")).ok(), "{event:?}");
            }
            "member.workspaces_changed" => {
                self.member(&text("user_id"), event);
                assert!(self.unassign(event, "removed") + self.assign(event, "added") > 0, "no change: {event:?}");
            }
            "role.created" | "role.updated" => {}
            "role.deleted" => {
                let (gone, replacement) = (text("role"), event.payload["replacement"].as_str());
                let held = self.members.values_mut().map(|(role, _)| role).filter(|role| **role == gone);
                let held = held.map(|role| replacement.expect("a replacement").clone_into(role)).count();
                let pending =
                    self.invitations.values_mut().filter(|(state, role, _)| *state == "pending" && *role == gone);
                let offered = pending.map(|(_, role, _)| replacement.expect("a replacement").clone_into(role)).count();
                assert_eq!(
                    (usize::try_from(number("members")), usize::try_from(number("invitations"))),
                    (Ok(held), Ok(offered)),
                    "{event:?}"
                );
            }
            unknown => panic!("the replay does not know {unknown}"),
        }
    }

    /// Assigns the member to the workspaces that the event names in a field, and says how many those are.
    fn assign(&mut self, event: &event::Model, field: &str) -> usize {
        self.in_each(event, field, BTreeSet::insert)
    }

    /// The same, the other way round.
    fn unassign(&mut self, event: &event::Model, field: &str) -> usize {
        self.in_each(event, field, |members, user_id| members.remove(&user_id))
    }

    fn in_each(
        &mut self,
        event: &event::Model,
        field: &str,
        change: impl Fn(&mut BTreeSet<String>, String) -> bool,
    ) -> usize {
        let named = event.payload[field].as_array().unwrap_or_else(|| panic!("no {field} in {event:?}"));
        for workspace_id in named {
            let user_id = event.payload["user_id"].as_str().expect("a user").to_owned();
            let members = workspace_id.as_str().and_then(|id| self.workspaces.get_mut(id));
            let members = members.unwrap_or_else(|| panic!("no workspace {workspace_id} at {event:?}"));
            assert!(change(members, user_id), "no change: {event:?}");
        }
        named.len()
    }

    fn member(&mut self, user_id: &str, event: &event::Model) -> &mut (String, bool) {
        self.members.get_mut(user_id).unwrap_or_else(|| panic!("{user_id} is no member at {event:?}"))
    }

    fn pending(&mut self, id: &str, event: &event::Model) -> &mut (&'static str, String, DateTime<Utc>) {
        let offer = self.invitations.get_mut(id).unwrap_or_else(|| panic!("no invitation {id} at {event:?}"));
        assert_eq!(offer.0, "pending", "{event:?}");
        offer
    }

    fn open(&mut self, id: &str, event: &event::Model) -> &mut (&'static str, String, DateTime<Utc>) {
        let offer = self.pending(id, event);
        assert!(offer.2 > event.occurred_at, "the invitation had expired: {event:?}");
        offer
    }
}
