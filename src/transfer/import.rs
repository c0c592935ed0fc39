//! `tenantry import`: fingerprint → how far it is already → check the whole file → write what is left of it.

use std::fmt;
use std::path::Path;

use chrono::{DateTime, Utc};

use super::TransferError;
use super::batch::{self, Batch, Builder};
use super::check::{Checker, Plans, Rules};
use super::conflicts::Conflicts;
use super::faults::Faults;
use super::format::{self, Faulty};
use super::progress::Progress;
use super::source::{Fingerprint, Source};
use super::write::{self, Writer};
use crate::auth::policy::RolePolicy;
use crate::billing::catalogue::Catalogue;
use crate::clock::Clock;
use crate::database::Database;

/// How many lines one transaction writes unless told otherwise.
pub const BATCH_LINES: u32 = 4096;

/// An import that is to be done.
#[derive(Debug)]
pub struct Import<'a> {
    /// The file.
    pub file: &'a Path,
    /// Where to.
    pub database: &'a Database,
    /// Who may do what.
    pub policy: &'a RolePolicy,
    /// What can be subscribed to.
    pub catalogue: &'a Catalogue,
    /// The time.
    pub clock: &'a Clock,
    /// Whether to check alone, and write nothing.
    pub check: bool,
    /// How many lines one transaction writes.
    pub batch_lines: u32,
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// The file has faults, and nothing was written.
    Faulty(Faults),
    /// The file has none, and nothing was written, because nothing was to be.
    Sound(Counts),
    /// It was imported before.
    DoneBefore(DateTime<Utc>),
    /// It is imported.
    Done(Counts),
}

/// What was written, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The lines.
    pub lines: u32,
    /// The lines that an interrupted import had written before, which the other counts leave out.
    pub lines_before: u32,
    /// The organizations.
    pub organizations: usize,
    /// The members.
    pub members: usize,
    /// The invitations.
    pub invitations: usize,
    /// The workspaces and rooms.
    pub workspaces: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, lines_before, organizations, members, invitations, workspaces } = self;
        write!(formatter, "{organizations} organizations, {members} members, {invitations} invitations and ")?;
        write!(formatter, "{workspaces} workspaces from {} lines", lines - lines_before)?;
        match lines_before {
            0 => Ok(()),
            before => write!(formatter, " (the {before} before were imported before)"),
        }
    }
}

impl Counts {
    fn add(&mut self, batch: &Batch) {
        self.organizations += batch.organizations.len();
        self.members += batch.members.len();
        self.invitations += batch.invitations.len();
        self.workspaces += batch.workspaces.len();
    }
}

impl Import<'_> {
    /// Does it.
    pub async fn run(&self) -> Result<Outcome, TransferError> {
        let file = Fingerprint::take(self.file)?;
        let begun = write::begun(self.database, &file.digest).await?;
        if let Some(finished_at) = begun.as_ref().and_then(|begun| begun.finished_at) {
            return Ok(Outcome::DoneBefore(finished_at));
        }
        let now = begun.as_ref().map_or_else(|| self.clock.now(), |begun| begun.started_at);
        let lines_before = begun.as_ref().map_or(0, |begun| u32::try_from(begun.lines_done).unwrap_or(u32::MAX));
        let rules = Rules { policy: self.policy, catalogue: self.catalogue, now };
        let (plans, faults) = self.validate(rules, &file, lines_before).await?;
        if faults.count() > 0 {
            return Ok(Outcome::Faulty(faults));
        }
        if !self.check && begun.is_none() {
            write::begin(self.database, &file, now).await?;
        }
        let counts = self.batches(rules, &plans, &file, lines_before).await?;
        if !self.check {
            write::sort_in(self.database).await?;
        }
        Ok(if self.check { Outcome::Sound(counts) } else { Outcome::Done(counts) })
    }

    /// Reads the whole file. What this import wrote before is no conflict.
    async fn validate(
        &self,
        rules: Rules<'_>,
        file: &Fingerprint,
        lines_before: u32,
    ) -> Result<(Plans, Faults), TransferError> {
        let mut source = Source::open(self.file)?;
        let (mut checker, mut conflicts) = (Checker::new(rules), Conflicts::default());
        let mut progress = Progress::begin("checking", Some(file.lines.into()));
        while let Some((at, text)) = source.next_line()? {
            let read = match text {
                Ok("") => continue,
                Ok(text) => format::read(text),
                Err(fault) => Err(Faulty::unreadable(fault)),
            };
            checker.line(at, &read);
            if at.line > lines_before
                && let Ok(line) = &read
            {
                conflicts.line(at.line, line);
            }
            if conflicts.are_many() {
                conflicts.ask(self.database, &mut checker).await?;
            }
            progress.done(at.line.into());
        }
        conflicts.ask(self.database, &mut checker).await?;
        file.still_of(self.file)?;
        Ok(checker.finish())
    }

    /// Goes through the lines that are left, and writes them unless it is only asked.
    async fn batches(
        &self,
        rules: Rules<'_>,
        plans: &Plans,
        file: &Fingerprint,
        lines_before: u32,
    ) -> Result<Counts, TransferError> {
        let (database, clock, digest) = (self.database, self.clock, file.digest.as_str());
        let top_role = self.policy.top_role().name.as_str();
        let writer = Writer { database, clock, top_role, digest };
        let mut builder = Builder { rules, plans, digest, again: Source::open(self.file)? };
        let mut source = Source::open(self.file)?;
        let mut counts = Counts { lines: file.lines, lines_before, ..Counts::default() };
        let mut batch = Batch::from(lines_before.saturating_add(1));
        let mut progress = Progress::begin(if self.check { "counting" } else { "writing" }, Some(file.lines.into()));
        while let Some((at, text)) = source.next_line()? {
            if at.line <= lines_before {
                continue;
            }
            batch.to = at.line;
            if text != Ok("") {
                builder.add(&mut batch, at, batch::read(text)?)?;
            }
            if at.line - batch.from + 1 < self.batch_lines && at.line < file.lines {
                continue;
            }
            self.write(&writer, file, &batch).await?;
            counts.add(&batch);
            progress.done(at.line.into());
            batch = Batch::from(at.line + 1);
        }
        if file.lines == 0 {
            self.write(&writer, file, &batch).await?;
        }
        Ok(counts)
    }

    async fn write(&self, writer: &Writer<'_>, file: &Fingerprint, batch: &Batch) -> Result<(), TransferError> {
        file.still_of(self.file)?;
        if self.check {
            return Ok(());
        }
        let (from, to) = (batch.from, batch.to);
        let written = writer.write(batch, to == file.lines).await;
        written.map_err(|source| TransferError::Lines { from, to, source: Box::new(source) })
    }
}
