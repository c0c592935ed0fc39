//! The rules that a file as a whole must keep, checked line by line; what is kept of it is what writing it needs to know.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::faults::Faults;
use super::format::{self, Faulty, Line, Named};
use super::keys::Keys;
use super::source::At;
use crate::auth::policy::{RolePolicy, custom};
use crate::billing::catalogue::{Catalogue, Plan};
use crate::entity::invitation::State;
use crate::membership::custom_roles::MOST_ROLES;
use crate::workspace::rules::MOST_WORKSPACES;

/// What the rules are about besides the file.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The role policy.
    pub policy: &'a RolePolicy,
    /// The plans.
    pub catalogue: &'a Catalogue,
    /// The instant for which the file is read: what is not said is then, what has expired has done so by then.
    pub now: DateTime<Utc>,
}

/// An organization of the file.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its id.
    pub organization_id: Uuid,
    /// Where its own line is.
    pub line: u32,
    /// The last line that is about it.
    pub last_line: u32,
    /// Its first active member in the top role.
    pub founder: Option<At>,
    /// Its subscription.
    pub subscription: Option<At>,
    /// How many members it has.
    pub members: i64,
    /// How many invitations.
    pub invitations: i64,
    /// How many workspaces and rooms.
    pub workspaces: i64,
    roles: i64,
    active: i64,
    pending: i64,
    seats: Option<i64>,
    /// Whether a line of it has a fault, so that what it seems to lack may stand there.
    faulty: bool,
}

/// The organizations of a file.
#[derive(Debug, Default)]
pub struct Plans {
    tenants: Vec<Tenant>,
    places: HashMap<Uuid, usize>,
}

impl Plans {
    /// The organization with this id.
    #[must_use]
    pub fn tenant(&self, organization_id: Uuid) -> Option<&Tenant> {
        self.places.get(&organization_id).and_then(|place| self.tenants.get(*place))
    }

    fn tenant_mut(&mut self, organization_id: Uuid) -> Option<&mut Tenant> {
        self.places.get(&organization_id).and_then(|place| self.tenants.get_mut(*place))
    }
}

/// Reads a file's lines in their order.
#[derive(Debug)]
pub struct Checker<'a> {
    rules: Rules<'a>,
    faults: Faults,
    plans: Plans,
    slugs: Keys,
    defaults: Keys,
    room_slugs: Keys,
    roles: Keys,
    workspaces: Keys,
    users: Keys,
    /// The addresses of pending invitations. A member may have one of them too: addresses change when people sign in.
    invited: Keys,
    invitation_ids: Keys,
    /// Roles that custom roles name, which may stand on later lines.
    named_roles: Vec<(u32, Uuid, String)>,
    /// Members for whom sign-up made an organization, who stand on later lines.
    named_members: Vec<(u32, Uuid, String)>,
}

impl<'a> Checker<'a> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(rules: Rules<'a>) -> Self {
        Self {
            rules,
            faults: Faults::default(),
            plans: Plans::default(),
            slugs: Keys::default(),
            defaults: Keys::default(),
            room_slugs: Keys::default(),
            roles: Keys::default(),
            workspaces: Keys::default(),
            users: Keys::default(),
            invited: Keys::default(),
            invitation_ids: Keys::default(),
            named_roles: Vec::new(),
            named_members: Vec::new(),
        }
    }

    /// Notes a fault that was found elsewhere.
    pub fn fault(&mut self, line: u32, text: impl Into<String>) {
        self.faults.note(line, text);
    }

    /// Reads a line.
    pub fn line(&mut self, at: At, read: &Result<Line, Faulty>) {
        let line = at.line;
        match read {
            Err(faulty) => self.faulty(line, faulty),
            Ok(Line::Organization(organization)) => self.organization(line, organization),
            Ok(Line::Subscription(subscription)) => self.subscription(at, subscription),
            Ok(Line::Role(role)) => self.role(line, role),
            Ok(Line::Workspace(workspace) | Line::Room(workspace)) => self.workspace(line, workspace),
            Ok(Line::Member(member)) => self.member(at, member),
            Ok(Line::Invitation(invitation)) => self.invitation(line, invitation),
        }
    }

    /// Ends the file: the organizations, and everything that is wrong.
    #[must_use]
    pub fn finish(mut self) -> (Plans, Faults) {
        for (line, organization_id, role) in std::mem::take(&mut self.named_roles) {
            if self.rules.policy.role(&role).is_none() && self.roles.line(organization_id, &role).is_none() {
                self.faults.note(line, format!("`{role}` is neither a role of the policy nor of the organization"));
            }
        }
        for (line, organization_id, user_id) in std::mem::take(&mut self.named_members) {
            if self.users.line(organization_id, &user_id).is_none() {
                self.faults.note(line, "default_of_user_id: is not a member of the organization");
            }
        }
        for tenant in &self.plans.tenants {
            whole(&mut self.faults, self.rules, tenant);
        }
        (self.plans, self.faults)
    }

    fn faulty(&mut self, line: u32, faulty: &Faulty) {
        for violation in &faulty.violations {
            self.faults.violation(line, violation);
        }
        let Some(organization_id) = faulty.organization_id else { return };
        // Taken as said, so that the lines which name it are not told to be wrong for its sake.
        let _already = match &faulty.names {
            Some(Named::Organization) if self.plans.tenant(organization_id).is_none() => {
                self.open(line, organization_id);
                Ok(())
            }
            Some(Named::Workspace(id)) => self.workspaces.take(organization_id, &id.to_string(), line),
            Some(Named::Role(role)) => self.roles.take(organization_id, role, line),
            _ => Ok(()),
        };
        if let Some(tenant) = self.plans.tenant_mut(organization_id) {
            tenant.faulty = true;
            tenant.last_line = line;
        }
    }

    fn open(&mut self, line: u32, organization_id: Uuid) {
        let tenant = Tenant {
            organization_id,
            line,
            last_line: line,
            founder: None,
            subscription: None,
            members: 0,
            invitations: 0,
            workspaces: 0,
            roles: 0,
            active: 0,
            pending: 0,
            seats: None,
            faulty: false,
        };
        self.plans.places.insert(organization_id, self.plans.tenants.len());
        self.plans.tenants.push(tenant);
    }

    fn organization(&mut self, line: u32, organization: &format::Organization) {
        let organization_id = organization.organization_id;
        if let Some(earlier) = self.plans.tenant(organization_id) {
            let text = format!("organization_id: is that of the organization on line {} already", earlier.line);
            return self.faults.note(line, text);
        }
        self.open(line, organization_id);
        if let Err(earlier) = self.slugs.take(Uuid::nil(), &organization.slug, line) {
            self.faults.note(line, format!("slug: is that of the organization on line {earlier} already"));
        }
        let Some(user_id) = &organization.default_of_user_id else { return };
        if let Err(earlier) = self.defaults.take(Uuid::nil(), user_id, line) {
            self.faults.note(line, format!("default_of_user_id: has the organization on line {earlier} already"));
        }
        self.named_members.push((line, organization_id, user_id.clone()));
    }

    /// The organization that a line is in.
    fn tenant(&mut self, line: u32, organization_id: Uuid) -> Option<&mut Tenant> {
        let Some(tenant) = self.plans.tenant_mut(organization_id) else {
            self.faults.note(line, "organization_id: no line before this one is the organization's");
            return None;
        };
        tenant.last_line = line;
        Some(tenant)
    }

    fn subscription(&mut self, at: At, subscription: &format::Subscription) {
        let plan = self.rules.catalogue.plan(&subscription.plan_id);
        let seats = subscription.seats.or(plan.map(|plan| plan.included_seats));
        if self.tenant(at.line, subscription.organization_id).is_none() {
            return;
        }
        match plan {
            None => self.faults.note(at.line, format!("plan_id: `{}` is not in the catalogue", subscription.plan_id)),
            Some(plan) => seats_allowed(&mut self.faults, at.line, plan, seats.unwrap_or_default()),
        }
        let Some(tenant) = self.plans.tenant_mut(subscription.organization_id) else { return };
        if let Some(earlier) = tenant.subscription {
            let text = format!("organization_id: has the subscription on line {} already", earlier.line);
            return self.faults.note(at.line, text);
        }
        tenant.subscription = Some(at);
        tenant.seats = seats;
    }

    fn role(&mut self, line: u32, role: &format::Role) {
        let organization_id = role.organization_id;
        let Some(tenant) = self.tenant(line, organization_id) else { return };
        tenant.roles += 1;
        if !self.rules.policy.custom_roles() {
            self.faults.note(line, "kind: the role policy does not let organizations have roles of their own");
        }
        if let Err(earlier) = self.roles.take(organization_id, &role.role, line) {
            self.faults.note(line, format!("role: is defined on line {earlier} already"));
        }
        let definition = &role.definition;
        for list in [&definition.invites, &definition.changes, &definition.removes, &definition.managed_by] {
            self.named_roles.extend(list.iter().map(|name| (line, organization_id, name.clone())));
        }
    }

    fn workspace(&mut self, line: u32, workspace: &format::Workspace) {
        let Some(tenant) = self.tenant(line, workspace.organization_id) else { return };
        tenant.workspaces += 1;
        let id = workspace.workspace_id.to_string();
        if let Err(earlier) = self.workspaces.take(workspace.organization_id, &id, line) {
            self.faults.note(line, format!("workspace_id: is that of line {earlier} already"));
        }
        let Some(slug) = &workspace.slug else { return };
        if let Err(earlier) = self.room_slugs.take(Uuid::nil(), slug, line) {
            self.faults.note(line, format!("slug: is that of the room on line {earlier} already"));
        }
    }

    fn member(&mut self, at: At, member: &format::Member) {
        let (line, organization_id) = (at.line, member.organization_id);
        let founds = member.suspend_time.is_none() && self.rules.policy.top_role().name == member.role.as_str();
        let Some(tenant) = self.tenant(line, organization_id) else { return };
        tenant.members += 1;
        tenant.active += i64::from(member.suspend_time.is_none());
        if founds && tenant.founder.is_none() {
            tenant.founder = Some(at);
        }
        if let Err(earlier) = self.users.take(organization_id, &member.user_id, line) {
            self.faults.note(line, format!("user_id: is a member already, by line {earlier}"));
        }
        self.known_role(line, organization_id, &member.role);
        self.known_workspaces(line, organization_id, &member.workspace_ids);
    }

    fn invitation(&mut self, line: u32, invitation: &format::Invitation) {
        let organization_id = invitation.organization_id;
        let holds_seat = holds_seat(invitation, self.rules.now);
        let Some(tenant) = self.tenant(line, organization_id) else { return };
        tenant.invitations += 1;
        tenant.pending += i64::from(holds_seat);
        if let Some(id) = invitation.invitation_id
            && let Err(earlier) = self.invitation_ids.take(organization_id, &id.to_string(), line)
        {
            self.faults.note(line, format!("invitation_id: is that of line {earlier} already"));
        }
        // What has ended is history: the role and the workspaces may have gone since.
        if invitation.state != State::Pending {
            return;
        }
        if let Err(earlier) = self.invited.take(organization_id, &invitation.email.normalized, line) {
            self.faults.note(line, format!("email: is invited already, by line {earlier}"));
        }
        // One that has expired waits for nothing but being sent again, which judges its role.
        if !holds_seat {
            return;
        }
        self.known_role(line, organization_id, &invitation.role);
        if invitation.inviter_role.is_none() && inviter_role(self.rules.policy, &invitation.role).is_none() {
            self.faults.note(line, format!("role: nobody may invite to `{}`", invitation.role));
        }
        self.known_workspaces(line, organization_id, &invitation.workspace_ids);
    }

    fn known_role(&mut self, line: u32, organization_id: Uuid, role: &str) {
        if self.rules.policy.role(role).is_some() || self.roles.line(organization_id, role).is_some() {
            return;
        }
        let policy = self.rules.policy.name();
        let text = if role.starts_with(custom::PREFIX) {
            format!("role: no line before this one defines `{role}`")
        } else {
            format!("role: the role policy `{policy}` has no `{role}`")
        };
        self.faults.note(line, text);
    }

    fn known_workspaces(&mut self, line: u32, organization_id: Uuid, workspace_ids: &[Uuid]) {
        for id in workspace_ids.iter().map(Uuid::to_string) {
            if self.workspaces.line(organization_id, &id).is_none() {
                self.faults.note(line, format!("workspace_ids: no line before this one is workspace {id}"));
            }
        }
    }
}

/// What must be true of an organization as a whole.
fn whole(faults: &mut Faults, rules: Rules<'_>, tenant: &Tenant) {
    if tenant.founder.is_none() && !tenant.faulty {
        let top_role = &rules.policy.top_role().name;
        faults.note(tenant.line, format!("no active member of the organization is in the top role `{top_role}`"));
    }
    for (of, counted, most) in
        [("roles of its own", tenant.roles, MOST_ROLES), ("workspaces and rooms", tenant.workspaces, MOST_WORKSPACES)]
    {
        if usize::try_from(counted).is_ok_and(|counted| counted > most) {
            faults
                .note(tenant.line, format!("the organization has {counted} {of}, and none can have more than {most}"));
        }
    }
    let seats = tenant.seats.or_else(|| Some(rules.catalogue.default_plan()?.included_seats));
    let (used, seats) = (tenant.active + tenant.pending, seats.unwrap_or_default());
    if used > seats && !(tenant.faulty && tenant.subscription.is_none()) {
        let line = tenant.subscription.map_or(tenant.line, |at| at.line);
        let (active, pending) = (tenant.active, tenant.pending);
        let text = format!("seats: there are {seats}, for {active} active members and {pending} pending invitations");
        faults.note(line, text);
    }
}

fn seats_allowed(faults: &mut Faults, line: u32, plan: &Plan, seats: i64) {
    if !plan.takes(seats) {
        let most = plan.maximum_seats.map_or_else(|| "any number".to_owned(), |maximum| maximum.to_string());
        let text = format!("seats: the plan `{}` has {} to {most} seats, not {seats}", plan.plan, plan.minimum_seats);
        faults.note(line, text);
    }
}

/// Whether an invitation holds a seat.
#[must_use]
pub fn holds_seat(invitation: &format::Invitation, now: DateTime<Utc>) -> bool {
    invitation.state == State::Pending && invitation.expire_time > now
}

/// The role by whose right an invitation was sent of which that is not known: the highest that may invite to it. A role of the
/// organization's own the top role may always invite to.
#[must_use]
pub fn inviter_role<'a>(policy: &'a RolePolicy, role: &str) -> Option<&'a str> {
    let top = policy.top_role();
    if role.starts_with(custom::PREFIX) {
        return Some(top.name.as_str());
    }
    policy.roles().find(|inviter| inviter.invites(role)).map(|inviter| inviter.name.as_str())
}
