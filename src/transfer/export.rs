//! `tenantry export`: everything in one snapshot, in an order in which it can be imported.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use sea_orm::{ConnectionTrait as _, DbBackend};
use uuid::Uuid;

use super::TransferError;
use super::format::{self, Line};
use super::pages::{self, Keyset};
use super::progress::Progress;
use super::source::failed;
use crate::database::{Database, Transaction};
use crate::email::Email;
use crate::entity::{custom_role, invitation, membership, organization, subscription, workspace, workspace_member};
use crate::error::Error;
use crate::operation::store::read_json;

/// How many organizations are read at once.
const ORGANIZATIONS: u64 = 256;
/// How many members, invitations and workspaces.
const ROWS: u64 = 1000;

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The lines.
    pub lines: u64,
    /// The organizations.
    pub organizations: u64,
    /// The members.
    pub members: u64,
    /// The invitations.
    pub invitations: u64,
    /// The workspaces and rooms.
    pub workspaces: u64,
    /// The organizations that are deleted and not purged, which were left out.
    pub deleted: u64,
}

impl fmt::Display for Exported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, organizations, members, invitations, workspaces, deleted } = self;
        write!(formatter, "{organizations} organizations, {members} members, {invitations} invitations and ")?;
        write!(formatter, "{workspaces} workspaces in {lines} lines")?;
        match deleted {
            0 => Ok(()),
            deleted => write!(formatter, ", without {deleted} deleted organizations that are not purged yet"),
        }
    }
}

/// Exports every organization, or one.
pub async fn export(database: &Database, only: Option<Uuid>, output: &mut Output) -> Result<Exported, TransferError> {
    let snapshot = snapshot(database).await?;
    let mut exporter =
        Exporter { snapshot, output, told: Exported::default(), progress: Progress::begin("exporting", None) };
    exporter.told.deleted = match only {
        None => pages::count_deleted(&exporter.snapshot).await?,
        Some(_) => 0,
    };
    let mut after = None;
    loop {
        let rows = pages::organizations(&exporter.snapshot, only, after, ORGANIZATIONS).await?;
        let Some(last) = rows.last().map(|row| row.organization_id) else { break };
        exporter.chapter(rows).await?;
        after = Some(last);
    }
    if let Some(only) = only.filter(|_| exporter.told.organizations == 0) {
        return Err(TransferError::Missing(only));
    }
    exporter.snapshot.rollback().await?;
    exporter.output.end()?;
    Ok(exporter.told)
}

async fn snapshot(database: &Database) -> Result<Transaction, TransferError> {
    let snapshot = database.snapshot().await?;
    if snapshot.get_database_backend() == DbBackend::Postgres {
        // Whoever reads the output may take their time.
        snapshot.execute_unprepared("SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    }
    Ok(snapshot)
}

struct Exporter<'a> {
    snapshot: Transaction,
    output: &'a mut Output,
    told: Exported,
    progress: Progress,
}

impl Exporter<'_> {
    fn write(&mut self, line: &Line) -> Result<(), TransferError> {
        self.output.line(line)?;
        self.told.lines += 1;
        self.progress.done(self.told.lines);
        Ok(())
    }

    /// Some organizations with all that is in them: each kind of line of all of them, then the next kind.
    async fn chapter(&mut self, rows: Vec<organization::Model>) -> Result<(), TransferError> {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.organization_id).collect();
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(()) };
        let range = (*first, *last);
        self.told.organizations += rows.len() as u64;
        for row in rows {
            self.write(&Line::Organization(organization(row)))?;
        }
        for row in pages::subscriptions(&self.snapshot, &ids).await? {
            self.write(&Line::Subscription(subscription(row)))?;
        }
        for row in pages::roles(&self.snapshot, &ids).await? {
            self.write(&Line::Role(role(row)?))?;
        }
        let ids: HashSet<Uuid> = ids.into_iter().collect();
        let workspaces = self.workspaces(&ids, range).await?;
        self.members(&ids, range).await?;
        self.invitations(&ids, range, &workspaces).await
    }

    /// Writes the workspaces, and gives their ids: invitations may name some that are gone.
    async fn workspaces(&mut self, ids: &HashSet<Uuid>, range: (Uuid, Uuid)) -> Result<HashSet<Uuid>, TransferError> {
        use workspace::Column as C;
        let keyset = Keyset { organization: C::OrganizationId, key: C::WorkspaceId };
        let (mut after, mut known) = (None, HashSet::new());
        loop {
            let page = keyset.page::<workspace::Entity>(&self.snapshot, range, after, ROWS).await?;
            let Some(last) = page.last() else { return Ok(known) };
            after = Some((last.organization_id, last.workspace_id.into()));
            for row in page.into_iter().filter(|row| ids.contains(&row.organization_id)) {
                known.insert(row.workspace_id);
                self.told.workspaces += 1;
                let room = row.kind == workspace::Kind::Room;
                let line = workspace(row);
                self.write(&if room { Line::Room(line) } else { Line::Workspace(line) })?;
            }
        }
    }

    async fn members(&mut self, ids: &HashSet<Uuid>, range: (Uuid, Uuid)) -> Result<(), TransferError> {
        use membership::Column as C;
        let keyset = Keyset { organization: C::OrganizationId, key: C::UserId };
        let mut after = None;
        loop {
            let page = keyset.page::<membership::Entity>(&self.snapshot, range, after, ROWS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.organization_id, last.user_id.clone().into()));
            let mut assigned: HashMap<(Uuid, String), Vec<Uuid>> = HashMap::new();
            for row in pages::assignments(&self.snapshot, &page).await? {
                let workspace_member::Model { organization_id, user_id, workspace_id, .. } = row;
                assigned.entry((organization_id, user_id)).or_default().push(workspace_id);
            }
            for row in page.into_iter().filter(|row| ids.contains(&row.organization_id)) {
                let mut workspace_ids =
                    assigned.remove(&(row.organization_id, row.user_id.clone())).unwrap_or_default();
                workspace_ids.sort_unstable();
                self.told.members += 1;
                self.write(&Line::Member(member(row, workspace_ids)))?;
            }
        }
    }

    async fn invitations(
        &mut self,
        ids: &HashSet<Uuid>,
        range: (Uuid, Uuid),
        workspaces: &HashSet<Uuid>,
    ) -> Result<(), TransferError> {
        use invitation::Column as C;
        let keyset = Keyset { organization: C::OrganizationId, key: C::InvitationId };
        let mut after = None;
        loop {
            let page = keyset.page::<invitation::Entity>(&self.snapshot, range, after, ROWS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.organization_id, last.invitation_id.into()));
            for row in page.into_iter().filter(|row| ids.contains(&row.organization_id)) {
                self.told.invitations += 1;
                self.write(&Line::Invitation(invitation(row, workspaces)))?;
            }
        }
    }
}

fn organization(row: organization::Model) -> format::Organization {
    format::Organization {
        organization_id: row.organization_id,
        name: row.name,
        slug: row.slug,
        description: row.description,
        logo_uri: row.logo_uri,
        time_zone: row.time_zone,
        default_of_user_id: row.default_of_user_id,
        create_time: Some(row.created_at),
    }
}

fn subscription(row: subscription::Model) -> format::Subscription {
    format::Subscription {
        organization_id: row.organization_id,
        plan_id: row.plan_id,
        status: row.status,
        seats: Some(row.seats),
        create_time: Some(row.created_at),
    }
}

fn role(row: custom_role::Model) -> Result<format::Role, Error> {
    Ok(format::Role {
        organization_id: row.organization_id,
        role: row.role,
        title: row.title,
        description: row.description,
        definition: read_json(Some(&row.definition))?.unwrap_or_default(),
        create_time: Some(row.created_at),
    })
}

fn workspace(row: workspace::Model) -> format::Workspace {
    format::Workspace {
        organization_id: row.organization_id,
        workspace_id: row.workspace_id,
        name: row.name,
        description: row.description,
        room_settings: row.slug.is_some().then(|| row.room_settings.unwrap_or_default()),
        slug: row.slug,
        create_time: Some(row.created_at),
    }
}

fn member(row: membership::Model, workspace_ids: Vec<Uuid>) -> format::Member {
    format::Member {
        organization_id: row.organization_id,
        user_id: row.user_id,
        email: Email { written: row.email, normalized: row.email_normalized },
        display_name: row.display_name,
        avatar_uri: row.avatar_uri,
        role: row.role,
        join_time: Some(row.joined_at),
        last_sign_in_time: Some(row.last_sign_in_at).filter(|time| *time > DateTime::UNIX_EPOCH),
        suspend_time: row.suspended_at,
        invitation_id: row.invitation_id,
        workspace_ids,
    }
}

fn invitation(row: invitation::Model, workspaces: &HashSet<Uuid>) -> format::Invitation {
    let mut workspace_ids: Vec<Uuid> = row.workspace_ids.map(|chosen| chosen.0).unwrap_or_default();
    // One that is to be accepted would not lead to those that are gone either.
    workspace_ids.retain(|id| row.state != invitation::State::Pending || workspaces.contains(id));
    workspace_ids.sort_unstable();
    format::Invitation {
        organization_id: row.organization_id,
        invitation_id: Some(row.invitation_id),
        email: Email { written: row.email, normalized: row.email_normalized },
        role: row.role,
        state: row.state,
        create_time: Some(row.created_at),
        send_time: Some(row.sent_at),
        expire_time: row.expires_at,
        end_time: row.ended_at,
        send_count: row.send_count,
        inviter_user_id: row.inviter_user_id,
        inviter_role: Some(row.inviter_role),
        invitee_user_id: row.invitee_user_id,
        workspace_ids,
    }
}

/// Where an export is written to.
#[derive(Debug)]
pub struct Output {
    writer: BufWriter<Destination>,
    /// The name under which a file is written, and the one that it gets when it is whole.
    names: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug)]
enum Destination {
    Standard(io::Stdout),
    File(File),
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(stdout) => stdout.flush(),
            Self::File(file) => file.sync_all(),
        }
    }
}

impl Output {
    /// To a file, or to the standard output. A file is written under another name until it is whole, so that half an export
    /// never looks like one; nobody else may read it, for it is full of people's addresses.
    pub fn open(path: Option<&Path>) -> Result<Self, TransferError> {
        let Some(path) = path else {
            return Ok(Self { writer: BufWriter::new(Destination::Standard(io::stdout())), names: None });
        };
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let file = file.map_err(failed(&partial))?;
        Ok(Self {
            writer: BufWriter::with_capacity(1 << 16, Destination::File(file)),
            names: Some((partial, path.to_owned())),
        })
    }

    fn named(&self) -> &Path {
        self.names.as_ref().map_or(Path::new("(standard output)"), |(partial, _)| partial)
    }

    fn line(&mut self, line: &Line) -> Result<(), TransferError> {
        let written = serde_json::to_writer(&mut self.writer, line).map_err(io::Error::from);
        let written = written.and_then(|()| self.writer.write_all(b"\n"));
        written.map_err(failed(self.named()))
    }

    fn end(&mut self) -> Result<(), TransferError> {
        self.writer.flush().map_err(failed(self.named()))?;
        match &self.names {
            Some((partial, path)) => fs::rename(partial, path).map_err(failed(path)),
            None => Ok(()),
        }
    }
}
