//! The rows of some lines, and what they come to in the books of their organizations.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::TransferError;
use super::check::{Plans, Rules, Tenant};
use super::format::{self, Line, Member};
use super::rows;
use super::source::{At, Source, Text};
use crate::entity::{custom_role, invitation, membership, organization, subscription, workspace, workspace_member};
use crate::error::Error;
use crate::event::Change;
use crate::id;

/// What is written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// Its first line.
    pub from: u32,
    /// Its last line so far.
    pub to: u32,
    pub(super) organizations: Vec<organization::Model>,
    pub(super) subscriptions: Vec<subscription::Model>,
    pub(super) roles: Vec<custom_role::Model>,
    pub(super) workspaces: Vec<workspace::Model>,
    pub(super) members: Vec<membership::Model>,
    pub(super) invitations: Vec<invitation::Model>,
    pub(super) assignments: Vec<workspace_member::Model>,
    /// What comes to each organization, be it new or there.
    pub(super) books: BTreeMap<Uuid, Entry>,
}

/// What comes to an organization.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Active members by role.
    pub(super) members: BTreeMap<String, i64>,
    /// Invitations that hold a seat.
    pub(super) pending: i64,
    /// Roles of its own.
    pub(super) roles: i64,
    /// What is told of the organization when its last line is written.
    pub(super) told: Option<Change>,
}

impl Entry {
    /// The active members.
    pub(super) fn active(&self) -> i64 {
        self.members.values().sum()
    }

    /// The active members in a role.
    pub(super) fn active_in(&self, role: &str) -> i64 {
        self.members.get(role).copied().unwrap_or_default()
    }
}

impl Batch {
    /// One that begins with a line.
    #[must_use]
    pub fn from(line: u32) -> Self {
        Self { from: line, to: line.saturating_sub(1), ..Self::default() }
    }

    fn entry(&mut self, organization_id: Uuid) -> &mut Entry {
        self.books.entry(organization_id).or_default()
    }

    fn member(&mut self, row: membership::Model) {
        if row.suspended_at.is_none() {
            *self.entry(row.organization_id).members.entry(row.role.clone()).or_default() += 1;
        }
        self.members.push(row);
    }
}

/// Makes batches of the lines of a file that was found sound.
#[derive(Debug)]
pub struct Builder<'a> {
    /// What the file was checked by.
    pub rules: Rules<'a>,
    /// Its organizations.
    pub plans: &'a Plans,
    /// Its digest.
    pub digest: &'a str,
    /// The file once more, for the lines that an organization begins with wherever they stand.
    pub again: Source,
}

impl Builder<'_> {
    /// Adds a line to a batch.
    pub fn add(&mut self, batch: &mut Batch, at: At, line: Line) -> Result<(), TransferError> {
        let now = self.rules.now;
        let (plans, organization_id) = (self.plans, line.organization_id());
        let tenant = plans.tenant(organization_id).ok_or(TransferError::Changed)?;
        match line {
            Line::Organization(line) => self.begin(batch, tenant, line)?,
            // Written with its organization.
            Line::Subscription(_) => {}
            Line::Role(line) => {
                batch.roles.push(rows::role(line, now)?);
                batch.entry(organization_id).roles += 1;
            }
            Line::Workspace(line) | Line::Room(line) => batch.workspaces.push(rows::workspace(line, now)),
            Line::Member(line) => {
                // The founder was written with the organization, before the workspaces.
                if tenant.founder.is_none_or(|founder| founder.line != at.line) {
                    batch.member(rows::member(&line, now));
                }
                batch.assignments.extend(rows::assignments(&line, now));
            }
            Line::Invitation(line) => {
                let source = format!("tenantry import {} {}", self.digest, at.line);
                let row = rows::invitation(line, |made_at| id::derived(made_at, &source), self.rules.policy, now);
                batch.entry(organization_id).pending += i64::from(row.holds_seat);
                batch.invitations.push(row);
            }
        }
        if at.line == tenant.last_line {
            batch.entry(organization_id).told = Some(told(tenant));
        }
        Ok(())
    }

    /// Begins an organization: with its subscription and its founder, without whom there is none.
    fn begin(&mut self, batch: &mut Batch, tenant: &Tenant, line: format::Organization) -> Result<(), TransferError> {
        let now = self.rules.now;
        let subscription = self.subscription(tenant)?;
        let mut row = rows::organization(line, now);
        row.seats_total = subscription.seats;
        let founder = self.founder(tenant)?;
        batch.organizations.push(row);
        batch.subscriptions.push(subscription);
        batch.member(rows::member(&founder, now));
        Ok(())
    }

    fn subscription(&mut self, tenant: &Tenant) -> Result<subscription::Model, TransferError> {
        let line = if let Some(at) = tenant.subscription {
            match self.read_again(at)? {
                Line::Subscription(line) => line,
                _ => return Err(TransferError::Changed),
            }
        } else {
            let plan = self.rules.catalogue.default_plan();
            let plan = plan.ok_or(Error::defect("the catalogue has no default plan"))?;
            format::Subscription {
                organization_id: tenant.organization_id,
                plan_id: plan.plan.clone(),
                status: subscription::Status::Active,
                seats: None,
                create_time: None,
            }
        };
        let included = self.rules.catalogue.plan(&line.plan_id).map(|plan| plan.included_seats);
        let seats = line.seats.or(included).ok_or(TransferError::Changed)?;
        Ok(rows::subscription(line, seats, self.rules.now))
    }

    fn founder(&mut self, tenant: &Tenant) -> Result<Member, TransferError> {
        match self.read_again(tenant.founder.ok_or(TransferError::Changed)?)? {
            Line::Member(line) => Ok(line),
            _ => Err(TransferError::Changed),
        }
    }

    fn read_again(&mut self, at: At) -> Result<Line, TransferError> {
        let (_, text) = self.again.line_at(at)?.ok_or(TransferError::Changed)?;
        read(text)
    }
}

/// Reads a line that was found sound.
pub(super) fn read(text: Text<'_>) -> Result<Line, TransferError> {
    format::read(text.map_err(|_| TransferError::Changed)?).map_err(|_| TransferError::Changed)
}

fn told(tenant: &Tenant) -> Change {
    Change::OrganizationImported {
        members: tenant.members,
        invitations: tenant.invitations,
        workspaces: tenant.workspaces,
    }
}
