//! ClaimDomain, VerifyDomain, ListDomains, UpdateDomain and ReleaseDomain.

use crate::app::App;
use crate::entity::organization_domain::{self, JoinMode};
use crate::error::Error;
use crate::etag;
use crate::event::{Change, FieldChange, set};
use crate::fields::{Fields, timestamp};
use crate::membership::rpc::roles;
use crate::membership::rules;
use crate::operation::{Command, Member, Place, Query, Reader, Unit};
use crate::organization::domains;
use crate::pb;

/// Reads the domain that a request is about, and nothing else.
fn read(text: &str) -> Result<String, Error> {
    let mut fields = Fields::new();
    let domain = read_domain(&mut fields, "domain", text);
    fields.done(domain)
}

/// Reads a domain; empty when it is wrong.
fn read_domain(fields: &mut Fields, field: &str, text: &str) -> String {
    domains::parse(text).unwrap_or_else(|fault| {
        fields.fault(field, fault);
        String::new()
    })
}

/// The domain, which the organization has claimed.
async fn claimed(unit: &Unit<'_, Member>, domain: &str) -> Result<organization_domain::Model, Error> {
    let found = domains::store::find(unit.transaction(), unit.scope(), domain).await?;
    found.ok_or_else(|| Error::DomainNotFound { domain: domain.to_owned() })
}

pub(super) struct ClaimDomain {
    domain: String,
}

impl Command for ClaimDomain {
    type Request = pb::ClaimDomainRequest;
    type Response = pb::ClaimDomainResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self { domain: read(&request.domain)? })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        if let Some(found) = domains::store::find(unit.transaction(), unit.scope(), &self.domain).await? {
            return Ok(pb::ClaimDomainResponse { domain: Some(shown(&found)) });
        }
        domains::store::check_room(unit.transaction(), unit.scope()).await?;
        let mut row = organization_domain::Model {
            organization_id: unit.scope().organization_id(),
            domain: self.domain.clone(),
            proof: domains::new_proof().ok_or(Error::defect("no random numbers"))?,
            verified_at: None,
            join_mode: JoinMode::Nobody,
            join_role: domains::default_role(&unit.app.policy).to_owned(),
            created_at: unit.now,
            updated_at: unit.now,
            version: 1,
        };
        domains::store::insert(unit.transaction(), row.clone()).await?;
        unit.record(Change::DomainClaimed { domain: self.domain.clone() });
        if unit.is_rehearsal() {
            // Nobody shall set a record that will never prove anything.
            row.proof.clear();
        }
        Ok(pb::ClaimDomainResponse { domain: Some(shown(&row)) })
    }
}

/// What the domain name system says of a domain.
enum Heard {
    /// It was not asked: there was nothing to prove.
    Nothing,
    /// What the records say that there are.
    Records(Vec<String>),
    /// It did not answer.
    NoAnswer,
}

pub(super) struct VerifyDomain {
    domain: String,
    heard: Heard,
}

impl Command for VerifyDomain {
    type Request = pb::VerifyDomainRequest;
    type Response = pb::VerifyDomainResponse;
    type Actor = Member;
    const PREPARES: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self { domain: read(&request.domain)?, heard: Heard::Nothing })
    }

    async fn prepare(&mut self, app: &App, place: Place) -> Result<(), Error> {
        let scope = place.organization.ok_or(Error::defect("a member's command without an organization"))?;
        let found = domains::store::find(app.database.reader(), scope, &self.domain).await?;
        // Only what is claimed is asked for: this service is nobody's way to query the domain name system.
        if found.is_none_or(|found| found.verified_at.is_some()) {
            return Ok(());
        }
        self.heard = match app.dns.txt(&domains::record_name(&self.domain)).await {
            Ok(records) => Heard::Records(records),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the domain name system does not answer");
                Heard::NoAnswer
            }
        };
        Ok(())
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let mut row = claimed(unit, &self.domain).await?;
        if row.verified_at.is_some() {
            return Ok(pb::VerifyDomainResponse { domain: Some(shown(&row)) });
        }
        // A claim that was made after the question has a proof that no record could say yet.
        let proved = match &self.heard {
            Heard::NoAnswer => return Err(Error::DnsUnavailable),
            Heard::Nothing => false,
            Heard::Records(records) => domains::proves(records, &row.proof),
        };
        if !proved {
            let record_name = domains::record_name(&row.domain);
            return Err(Error::DomainProofNotFound { domain: row.domain, record_name, record_value: row.proof });
        }
        row.verified_at = Some(unit.now);
        row.updated_at = unit.now;
        row.version += 1;
        domains::store::update(unit.transaction(), &row).await?;
        unit.record(Change::DomainVerified { domain: row.domain.clone() });
        Ok(pb::VerifyDomainResponse { domain: Some(shown(&row)) })
    }
}

pub(super) struct ListDomains;

impl Query for ListDomains {
    type Request = pb::ListDomainsRequest;
    type Response = pb::ListDomainsResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let rows = domains::store::list(reader.connection(), reader.scope).await?;
        Ok(pb::ListDomainsResponse { domains: rows.iter().map(shown).collect() })
    }
}

/// What an update can change.
const PATHS: [&str; 2] = ["join_mode", "join_role"];

/// The new values of the fields in the mask.
pub(super) struct UpdateDomain {
    domain: String,
    join_mode: Option<JoinMode>,
    join_role: Option<String>,
    etag: String,
}

impl Command for UpdateDomain {
    type Request = pb::UpdateDomainRequest;
    type Response = pb::UpdateDomainResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let new = request.domain.clone().unwrap_or_default();
        let domain = read_domain(&mut fields, "domain.domain", &new.domain);
        let paths = fields.mask(request.update_mask.as_ref(), &PATHS);
        let mut update = Self { domain, join_mode: None, join_role: None, etag: request.etag.clone() };
        if paths.contains(&"join_mode") {
            update.join_mode = read_mode(&mut fields, new.join_mode);
        }
        if paths.contains(&"join_role") {
            let role = roles::known_role_that(domains::is_given, &mut fields, JOIN_ROLE, &new.join_role, app);
            update.join_role = Some(role);
        }
        fields.done(update)
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        if let Some(role) = &self.join_role {
            may_let_in(unit, role)?;
        }
        let mut row = claimed(unit, &self.domain).await?;
        etag::check(&self.etag, row.version)?;
        let changes = self.apply(&mut row);
        // That nobody may join needs no right over the role: shutting a door lets no one in.
        if row.join_mode != JoinMode::Nobody {
            may_let_in(unit, &row.join_role)?;
            if row.verified_at.is_none() {
                return Err(Error::DomainNotVerified { domain: row.domain });
            }
        }
        if !changes.is_empty() {
            row.updated_at = unit.now;
            row.version += 1;
            domains::store::update(unit.transaction(), &row).await?;
            unit.record(Change::DomainUpdated { domain: row.domain.clone(), changes });
        }
        Ok(pb::UpdateDomainResponse { domain: Some(shown(&row)) })
    }
}

impl UpdateDomain {
    /// Sets the fields, and gives those that were another before.
    fn apply(&self, row: &mut organization_domain::Model) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        set(&mut changes, "join_mode", self.join_mode.as_ref(), &mut row.join_mode);
        set(&mut changes, "join_role", self.join_role.as_ref(), &mut row.join_role);
        changes
    }
}

const JOIN_ROLE: &str = "domain.join_role";

/// Whether the caller may have people join in a role, which there must be.
fn may_let_in(unit: &Unit<'_, Member>, role: &str) -> Result<(), Error> {
    roles::existing_that(domains::is_given, &unit.policy, JOIN_ROLE, role)?;
    rules::may_invite(&unit.policy, &unit.actor.role, role)
}

fn read_mode(fields: &mut Fields, join_mode: i32) -> Option<JoinMode> {
    match pb::JoinMode::try_from(join_mode) {
        Ok(pb::JoinMode::Nobody) => Some(JoinMode::Nobody),
        Ok(pb::JoinMode::Request) => Some(JoinMode::Request),
        Ok(pb::JoinMode::Automatic) => Some(JoinMode::Automatic),
        Ok(pb::JoinMode::Unspecified) | Err(_) => {
            fields.fault("domain.join_mode", "must be NOBODY, REQUEST or AUTOMATIC");
            None
        }
    }
}

pub(super) struct ReleaseDomain {
    domain: String,
    etag: String,
}

impl Command for ReleaseDomain {
    type Request = pb::ReleaseDomainRequest;
    type Response = pb::ReleaseDomainResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self { domain: read(&request.domain)?, etag: request.etag.clone() })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let row = claimed(unit, &self.domain).await?;
        etag::check(&self.etag, row.version)?;
        domains::store::delete(unit.transaction(), unit.scope(), &row.domain).await?;
        unit.record(Change::DomainReleased { domain: row.domain.clone() });
        Ok(pb::ReleaseDomainResponse { domain: Some(shown(&row)) })
    }
}

/// A domain as the wire shows it.
fn shown(row: &organization_domain::Model) -> pb::Domain {
    let state = match row.verified_at {
        None => pb::DomainState::Pending,
        Some(_) => pb::DomainState::Verified,
    };
    pb::Domain {
        organization_id: row.organization_id.to_string(),
        domain: row.domain.clone(),
        state: state.into(),
        proof_record_name: domains::record_name(&row.domain),
        proof_record_value: row.proof.clone(),
        join_mode: shown_mode(row.join_mode).into(),
        join_role: row.join_role.clone(),
        create_time: Some(timestamp(row.created_at)),
        verify_time: row.verified_at.map(timestamp),
        etag: etag::of(row.version),
    }
}

/// How people join, as the wire shows it.
pub(crate) fn shown_mode(join_mode: JoinMode) -> pb::JoinMode {
    match join_mode {
        JoinMode::Nobody => pb::JoinMode::Nobody,
        JoinMode::Request => pb::JoinMode::Request,
        JoinMode::Automatic => pb::JoinMode::Automatic,
    }
}
