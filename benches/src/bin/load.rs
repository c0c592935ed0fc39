//! Calls a server for a while, so many calls at a time or so many a second, and tells as JSON what came of it.
//!
//! Every answer with a status other than zero is an error, unless the call is one that must be refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use tenantry_benches::floor::Key;
use tenantry_benches::floor::floor_client::FloorClient;
use tenantry_benches::tenantry::membership_service_client::MembershipServiceClient;
use tenantry_benches::tenantry::organization_service_client::OrganizationServiceClient;
use tenantry_benches::tenantry::{self as pb, Permission};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// How many calls at a time one connection carries.
const CALLS_OF_A_CONNECTION: usize = 16;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Call {
    /// The floor: nothing.
    Echo,
    /// The floor: a row by key.
    Point,
    /// The floor: fifty rows after a key.
    Page,
    /// The floor: a row written.
    Write,
    /// A call that the interceptor refuses.
    Refused,
    Check,
    GetMember,
    ListMembers,
    Search,
    Invite,
    UpdateRole,
    /// Founds organizations and prints their ids.
    Found,
}

#[derive(Parser)]
struct Settings {
    #[arg(long)]
    address: String,
    #[arg(long)]
    call: Call,
    /// Calls at a time.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Calls in a second, whether or not those before were answered; as fast as they are answered when absent.
    #[arg(long)]
    rate: Option<u64>,
    /// How long each call may take, in seconds; any time when absent.
    #[arg(long)]
    deadline: Option<f64>,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// For how long before it is measured, in seconds.
    #[arg(long, default_value_t = 0.5)]
    warm: f64,
    /// The organizations, one in a line: its id, and how many members u1, u2 … it has besides its owner.
    #[arg(long)]
    organizations: Option<std::path::PathBuf>,
    /// E-mail addresses in one invitation; how many organizations to found.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// What new e-mail addresses begin with, so that none comes twice.
    #[arg(long, default_value = "a")]
    prefix: String,
}

struct Organization {
    id: String,
    members: u64,
}

/// What a call needs.
struct Context {
    call: Call,
    organizations: Vec<Organization>,
    count: usize,
    prefix: String,
    number: AtomicU64,
}

/// A cheap sequence that looks like chance, the same in every run.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn value(text: &str) -> anyhow::Result<AsciiMetadataValue> {
    text.parse().context("metadata")
}

fn identify(metadata: &mut MetadataMap, user: &str, organization: &str, role: &str) -> anyhow::Result<()> {
    metadata.insert("x-user-id", value(user)?);
    metadata.insert("x-user-email", value(&format!("{user}@example.com"))?);
    metadata.insert("x-org-id", value(organization)?);
    metadata.insert("x-org-role", value(role)?);
    Ok(())
}

impl Context {
    async fn call(&self, channel: &Channel) -> anyhow::Result<Result<(), Status>> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let chance = mixed(number);
        let organization = self.organizations.get(usize::try_from(chance % self.organizations.len().max(1) as u64)?);
        let (id, members) = organization.map_or(("", 0), |found| (found.id.as_str(), found.members));
        let member = format!("u{}", 1 + (chance >> 20) % members.max(1));
        let organization_id = id.to_owned();
        let as_member = |metadata: &mut MetadataMap| identify(metadata, &member, id, "member");
        let as_owner = |metadata: &mut MetadataMap| identify(metadata, "owner", id, "owner");
        let mut floor = FloorClient::new(channel.clone());
        let mut membership = MembershipServiceClient::new(channel.clone());
        let key = || -> anyhow::Result<Request<Key>> {
            let mut request = Request::new(Key { organization_id: organization_id.clone(), user_id: member.clone() });
            as_member(request.metadata_mut())?;
            Ok(request)
        };
        let check = || pb::CheckPermissionsRequest {
            organization_id: organization_id.clone(),
            user_id: String::new(),
            permissions: vec![Permission::MembersInvite.into()],
        };
        Ok(match self.call {
            Call::Echo => floor.echo(key()?).await.map(drop),
            Call::Point => floor.point(key()?).await.map(drop),
            Call::Page => floor.page(key()?).await.map(drop),
            Call::Write => floor.write(key()?).await.map(drop),
            Call::Refused => {
                let mut request = Request::new(check());
                as_member(request.metadata_mut())?;
                // Two users: nobody.
                request.metadata_mut().append("x-user-id", value("another")?);
                match membership.check_permissions(request).await {
                    Err(status) if status.code() == Code::Unauthenticated => Ok(()),
                    Err(status) => Err(status),
                    Ok(_) => Err(Status::internal("it was not refused")),
                }
            }
            Call::Check => {
                let mut request = Request::new(check());
                as_member(request.metadata_mut())?;
                membership.check_permissions(request).await.map(drop)
            }
            Call::GetMember => {
                let mut request = Request::new(pb::GetMemberRequest { organization_id, user_id: member.clone() });
                as_owner(request.metadata_mut())?;
                membership.get_member(request).await.map(drop)
            }
            Call::ListMembers | Call::Search => {
                let somebody = 1 + (chance >> 20) % members.max(1);
                let search = if matches!(self.call, Call::Search) { format!("member {somebody}") } else { String::new() };
                let listed =
                    pb::ListMembersRequest { organization_id, page_size: 50, search, ..pb::ListMembersRequest::default() };
                let mut request = Request::new(listed);
                as_owner(request.metadata_mut())?;
                membership.list_members(request).await.map(drop)
            }
            Call::Invite => {
                let emails = (0..self.count).map(|one| format!("{}{number}-{one}@example.com", self.prefix)).collect();
                let role = "member".to_owned();
                let invited = pb::InviteMembersRequest { organization_id, emails, role, ..Default::default() };
                let mut request = Request::new(invited);
                as_owner(request.metadata_mut())?;
                membership.invite_members(request).await.map(drop)
            }
            Call::UpdateRole => {
                // Each member in turn, and the other role the next time.
                let users = members.min(1000);
                let user_id = format!("u{}", 1 + number % users);
                let role = if (number / users).is_multiple_of(2) { "admin" } else { "member" }.to_owned();
                let updated = pb::UpdateMemberRoleRequest { organization_id, user_id, role, ..Default::default() };
                let mut request = Request::new(updated);
                as_owner(request.metadata_mut())?;
                membership.update_member_role(request).await.map(drop)
            }
            Call::Found => {
                let mut organizations = OrganizationServiceClient::new(channel.clone());
                let name = format!("{} {number}", self.prefix);
                let mut request = Request::new(pb::CreateOrganizationRequest { name, ..Default::default() });
                request.metadata_mut().insert("x-user-id", value("owner")?);
                request.metadata_mut().insert("x-user-email", value("owner@example.com")?);
                organizations.create_organization(request).await.map(|answer| {
                    println!("{}", answer.into_inner().organization.unwrap_or_default().organization_id);
                })
            }
        })
    }
}

#[derive(Default, Serialize)]
struct Told {
    calls: usize,
    errors: usize,
    /// Refused for want of room, which is no error where more is sent than can be served.
    shed: usize,
    /// Given up by their caller, or by the server for them, because their time was over.
    late: usize,
    per_second: f64,
    p50_us: u32,
    p99_us: u32,
    /// The time in which half of the refusals came.
    shed_p50_us: u32,
    shed_p99_us: u32,
    first_error: Option<String>,
}

#[derive(Default)]
struct Tally {
    good: Vec<u32>,
    shed: Vec<u32>,
    late: usize,
    errors: usize,
    first_error: Option<String>,
}

impl Tally {
    fn count(&mut self, began: Instant, outcome: Result<(), Status>) {
        let took = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
        match outcome {
            Ok(()) => self.good.push(took),
            Err(status) if status.code() == Code::Unavailable && status.message().contains("more to do than it can") => {
                self.shed.push(took);
            }
            // The client says that it canceled what it gave up itself.
            Err(status) if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => self.late += 1,
            Err(status) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| {
                    let causes = std::iter::successors(std::error::Error::source(&status), |cause| cause.source());
                    let causes: Vec<String> = causes.map(ToString::to_string).collect();
                    format!("{:?}: {} {causes:?}", status.code(), status.message())
                });
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.good.extend(other.good);
        self.shed.extend(other.shed);
        self.late += other.late;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    fn told(mut self, seconds: f64) -> Told {
        let share = |of: &mut Vec<u32>, part: usize| {
            of.sort_unstable();
            of.get((of.len() * part / 100).min(of.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        let (good, shed) = (&mut self.good, &mut self.shed);
        let times = [share(good, 50), share(good, 99), share(shed, 50), share(shed, 99)];
        #[expect(clippy::cast_precision_loss, reason = "no run makes so many calls")]
        let per_second = good.len() as f64 / seconds;
        Told {
            calls: good.len() + shed.len() + self.late + self.errors,
            errors: self.errors,
            shed: shed.len(),
            late: self.late,
            per_second,
            p50_us: times[0],
            p99_us: times[1],
            shed_p50_us: times[2],
            shed_p99_us: times[3],
            first_error: self.first_error,
        }
    }
}

/// So many at a time.
async fn closed(settings: &Settings, context: &Arc<Context>, channels: &[Channel]) -> anyhow::Result<Told> {
    let began = Instant::now();
    let (from, until) = (began + Duration::from_secs_f64(settings.warm), settings.warm + settings.seconds);
    let until = began + Duration::from_secs_f64(until);
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..settings.in_flight {
        let (context, channel) = (Arc::clone(context), channels[worker % channels.len()].clone());
        tasks.spawn(async move {
            let mut tally = Tally::default();
            loop {
                let began = Instant::now();
                if began >= until {
                    return anyhow::Ok(tally);
                }
                let outcome = context.call(&channel).await?;
                let ended = Instant::now();
                if outcome.is_err() || (ended >= from && ended < until) {
                    tally.count(began, outcome);
                }
            }
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = tasks.join_next().await {
        all.add(tally??);
    }
    Ok(all.told(settings.seconds))
}

/// So many a second.
async fn open(settings: &Settings, rate: u64, context: &Arc<Context>, channels: &[Channel]) -> anyhow::Result<Told> {
    let (began, mut tasks) = (Instant::now(), tokio::task::JoinSet::new());
    let (from, last) = (began + Duration::from_secs_f64(settings.warm), settings.warm + settings.seconds);
    let mut all = Tally::default();
    let mut sent = 0_u64;
    while began.elapsed().as_secs_f64() < last {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        while sent < due {
            let (context, channel) = (Arc::clone(context), channels[usize::try_from(sent)? % channels.len()].clone());
            sent += 1;
            tasks.spawn(async move {
                let began = Instant::now();
                anyhow::Ok((began, context.call(&channel).await?))
            });
        }
        while let Some(done) = tasks.try_join_next() {
            let (began, outcome) = done??;
            if began >= from {
                all.count(began, outcome);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What comes after the end was not done in the time that it is divided by.
    let mut after = Tally::default();
    while let Some(done) = tasks.join_next().await {
        let (began, outcome) = done??;
        after.count(began, outcome);
    }
    all.late += after.late + after.good.len();
    all.shed.append(&mut after.shed);
    all.errors += after.errors;
    all.first_error = all.first_error.take().or(after.first_error);
    Ok(all.told(settings.seconds))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let organizations = match &settings.organizations {
        Some(path) => std::fs::read_to_string(path)?
            .lines()
            .map(|line| {
                let (id, members) = line.split_once(' ').context("an id and a number")?;
                Ok(Organization { id: id.to_owned(), members: members.parse()? })
            })
            .collect::<anyhow::Result<_>>()?,
        None => Vec::new(),
    };
    let number = AtomicU64::new(0);
    let (call, count, prefix) = (settings.call, settings.count, settings.prefix.clone());
    let context = Arc::new(Context { call, organizations, count, prefix, number });
    let mut channels = Vec::new();
    let connections = if settings.rate.is_some() { 16 } else { settings.in_flight.div_ceil(CALLS_OF_A_CONNECTION) };
    for _ in 0..connections {
        let mut endpoint = Endpoint::from_shared(format!("http://{}", settings.address))?.tcp_nodelay(true);
        if let Some(deadline) = settings.deadline {
            endpoint = endpoint.timeout(Duration::from_secs_f64(deadline));
        }
        channels.push(endpoint.connect().await?);
    }
    if matches!(call, Call::Found) {
        for _ in 0..count {
            context.call(&channels[0]).await??;
        }
        return Ok(());
    }
    let told = match settings.rate {
        Some(rate) => open(&settings, rate, &context, &channels).await?,
        None => closed(&settings, &context, &channels).await?,
    };
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}
