//! How an organization was used over time, told by day, week and month.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Datelike as _, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use tenantry::entity::event;
use tenantry::pb::{self, AnalyticsGranularity as By, AnalyticsPeriod};
use tenantry::worker;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::harness::person::{Person, answer};
use crate::harness::refused::Refused;
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};

fn roomy() -> Setup {
    Setup { plans: Some(plans_with_seats(500)), ..Setup::default() }
}

async fn tries_to_query(
    person: &Person,
    organization_id: &str,
    by: By,
    start: &str,
    end: &str,
) -> Result<pb::QueryAnalyticsResponse, Refused> {
    let request = pb::QueryAnalyticsRequest {
        organization_id: organization_id.into(),
        granularity: by.into(),
        start_date: start.into(),
        end_date: end.into(),
    };
    answer(person.organizations().query_analytics(request).await)
}

async fn periods(person: &Person, by: By, start: &str, end: &str) -> Vec<AnalyticsPeriod> {
    tries_to_query(person, &person.organization_id, by, start, end).await.expect("analytics").periods
}

/// First and last day of each period.
fn bounds(periods: &[AnalyticsPeriod]) -> Vec<(&str, &str)> {
    periods.iter().map(|period| (period.start_date.as_str(), period.end_date.as_str())).collect()
}

fn each<T>(periods: &[AnalyticsPeriod], value: impl Fn(&AnalyticsPeriod) -> T) -> Vec<T> {
    periods.iter().map(value).collect()
}

async fn moves_to(ann: &Person, time_zone: &str) {
    let organization = pb::Organization { time_zone: time_zone.into(), ..Default::default() };
    ann.tries_to_update(&["time_zone"], organization).await.expect("updated");
}

async fn signs_in(world: &World, ann: &Person, user_id: &str, ago: TimeDelta) {
    let request = pb::RecordSignInRequest {
        organization_id: ann.organization_id.clone(),
        user_id: user_id.into(),
        sign_in_time: Some(world.wire_time_in(-ago)),
        ..Default::default()
    };
    world.service("login").tries_to_record(request).await.expect("recorded");
}

fn passes_until(world: &World, time: &str) {
    let time: DateTime<Utc> = time.parse().expect("a time");
    world.pass(time - world.clock.now());
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }
}

/// What the log says of one day.
#[derive(Clone, Debug, Default)]
struct Recount {
    /// Changes of how things stand.
    members: i64,
    pending: i64,
    seats: i64,
    sign_ins: i64,
    active: HashSet<String>,
    joined: i64,
    left: i64,
    sent: i64,
    accepted: i64,
}

/// Reads the whole log, day by day.
async fn recounted(world: &World, ann: &Person, zone: Tz) -> BTreeMap<NaiveDate, Recount> {
    let database = world.database().await;
    let id: uuid::Uuid = ann.organization_id.parse().expect("an id");
    let log = event::Entity::find().filter(event::Column::OrganizationId.eq(id)).order_by_asc(event::Column::Number);
    let mut days = BTreeMap::<NaiveDate, Recount>::new();
    for event in log.all(&database).await.expect("the log") {
        let day = days.entry(event.occurred_at.with_timezone(&zone).date_naive()).or_default();
        let user = || event.payload["user_id"].as_str().expect("a user").to_owned();
        match event.r#type.as_str() {
            "organization.created" => day.seats += event.payload["seats"].as_i64().expect("seats"),
            "subscription.seats_changed" => {
                let [before, after] = ["before", "after"].map(|key| event.payload[key].as_i64().expect("seats"));
                day.seats += after - before;
            }
            "member.joined" => (day.members, day.joined) = (day.members + 1, day.joined + 1),
            "member.left" | "member.removed" => (day.members, day.left) = (day.members - 1, day.left + 1),
            "member.suspended" => day.members -= 1,
            "member.reactivated" => day.members += 1,
            "invitation.created" => (day.pending, day.sent) = (day.pending + 1, day.sent + 1),
            "invitation.resent" => day.sent += 1,
            "invitation.canceled" | "invitation.declined" => day.pending -= 1,
            "invitation.accepted" => (day.pending, day.accepted) = (day.pending - 1, day.accepted + 1),
            "member.signed_in" => {
                day.sign_ins += 1;
                day.active.insert(user());
            }
            other => panic!("{other} is no part of the story"),
        }
    }
    database.close().await.expect("closed");
    days
}

/// The period that the log makes of its days.
fn period(days: &BTreeMap<NaiveDate, Recount>, first: NaiveDate, last: NaiveDate) -> AnalyticsPeriod {
    let until = || days.range(..=last).map(|(_, day)| day);
    let within = || days.range(first..=last).map(|(_, day)| day);
    let members: i64 = until().map(|day| day.members).sum();
    let active: HashSet<&String> = within().flat_map(|day| &day.active).collect();
    AnalyticsPeriod {
        start_date: first.to_string(),
        end_date: last.to_string(),
        members,
        seats_used: members + until().map(|day| day.pending).sum::<i64>(),
        seats_total: until().map(|day| day.seats).sum(),
        active_members: i64::try_from(active.len()).expect("few"),
        sign_ins: within().map(|day| day.sign_ins).sum(),
        members_joined: within().map(|day| day.joined).sum(),
        members_left: within().map(|day| day.left).sum(),
        invitations_sent: within().map(|day| day.sent).sum(),
        invitations_accepted: within().map(|day| day.accepted).sum(),
        ..Default::default()
    }
}

/// What happens on one of the days of the story.
async fn a_day(world: &World, ann: &Person, dice: &mut Dice, people: &mut BTreeSet<String>, number: usize) {
    for turn in 0..dice.roll(5) {
        world.pass(TimeDelta::minutes(i64::try_from(dice.roll(200)).expect("minutes")));
        let some = people.iter().nth(dice.roll(people.len().max(1))).cloned();
        match (dice.roll(8), some) {
            (0 | 1, _) | (_, None) => {
                let name = format!("guest-{number}-{turn}");
                let sent = ann.invites(&[&format!("{name}@example.com")], "member").await.remove(0);
                if dice.roll(4) == 0 {
                    ann.tries_to_resend(&sent.invitation.expect("one").invitation_id).await.expect("resent");
                    continue;
                }
                world.person(&name).accepts(&sent.token).await;
                people.insert(name);
            }
            (2, Some(name)) => {
                ann.tries_to_remove(&name).await.expect("removed");
                people.remove(&name);
            }
            (3, Some(name)) => {
                ann.tries_to_suspend(&name).await.expect("suspended");
                if dice.roll(2) == 0 {
                    ann.tries_to_reactivate(&name).await.expect("reactivated");
                } else {
                    people.remove(&name);
                }
            }
            (4, _) => {
                ann.tries_to_set_seats(500 + i64::try_from(number).expect("a number")).await.expect("seats");
            }
            (_, Some(name)) => {
                signs_in(world, ann, &name, TimeDelta::zero()).await;
                signs_in(world, ann, "ann", TimeDelta::zero()).await;
            }
        }
    }
}

const AMSTERDAM: Tz = chrono_tz::Europe::Amsterdam;

database_tests! {
    async fn sixty_days_are_told_as_the_log_tells_them(backend: Backend) {
        let mut world = World::with(backend, roomy()).await;
        world.pass(TimeDelta::days(46));
        let mut ann = world.person("ann").founds("Acme").await;
        let first_day = world.clock.now().with_timezone(&AMSTERDAM).date_naive();
        assert_eq!(first_day.to_string(), "2026-02-20");
        moves_to(&ann, "Europe/Amsterdam").await;
        // The first event is no part of the recount: nothing is counted of it.
        world.execute("UPDATE event SET type = 'subscription.seats_changed', payload = '{\"before\":0,\"after\":0}' \
                       WHERE type = 'organization.updated'").await.expect("renamed");
        let mut dice = Dice(0x60DA_7500);
        let mut people = BTreeSet::new();
        // On 29 March the clocks of Amsterdam are turned, and the day has 23 hours.
        for number in 0..60usize {
            // A quarter past midnight there, in winter and in summer.
            let midnight = (first_day + Days::new(u64::try_from(number).expect("small"))).and_hms_opt(0, 15, 0).expect("a time");
            let begin = midnight.and_local_timezone(AMSTERDAM).single().expect("once").to_utc();
            world.pass((begin - world.clock.now()).max(TimeDelta::zero()));
            if dice.roll(3) > 0 {
                a_day(&world, &ann, &mut dice, &mut people, number).await;
            }
            if number == 33 {
                world.switches_policy_to("owner-billing").await;
                ann = ann.at(world.channel());
            }
            // Invitations that nobody accepts are canceled before they expire.
            if number % 5 == 4 {
                let open = pb::ListInvitationsRequest {
                    organization_id: ann.organization_id.clone(),
                    states: vec![pb::InvitationState::Pending.into()],
                    ..Default::default()
                };
                let open = answer(ann.members().list_invitations(open).await).expect("listed").invitations;
                let ids: Vec<&str> = open.iter().map(|invitation| invitation.invitation_id.as_str()).collect();
                if !ids.is_empty() {
                    ann.tries_to_cancel(&ids).await.expect("canceled");
                }
            }
        }
        let log = recounted(&world, &ann, AMSTERDAM).await;
        assert!(log.len() > 30 && log.len() < 60, "days of both kinds: {}", log.len());
        let today = world.clock.now().with_timezone(&AMSTERDAM).date_naive();
        let (start, end) = (first_day.to_string(), today.to_string());

        let days = periods(&ann, By::Day, &start, &end).await;
        let expected: Vec<_> = first_day.iter_days().take_while(|day| *day <= today).map(|day| period(&log, day, day)).collect();
        assert_eq!(days.len(), expected.len());
        for (told, expected) in days.iter().zip(&expected) {
            assert_eq!(told, expected);
        }
        let monday = first_day.week(chrono::Weekday::Mon).first_day();
        let expected: Vec<_> = monday
            .iter_weeks()
            .take_while(|monday| *monday <= today)
            .map(|monday| period(&log, monday, monday + Days::new(6)))
            .collect();
        assert_eq!(periods(&ann, By::Week, &start, &end).await, expected);
        let months = [("2026-02-01", "2026-02-28"), ("2026-03-01", "2026-03-31"), ("2026-04-01", "2026-04-30")];
        let expected = months.map(|(first, last)| period(&log, first.parse().expect("a day"), last.parse().expect("a day")));
        assert_eq!(periods(&ann, By::Month, &start, &end).await, expected);
        // A part of it says the same of its days, however they stood before.
        for from in 0..days.len() {
            let to = (from + from % 4).min(days.len() - 1);
            let part = periods(&ann, By::Day, &days[from].start_date, &days[to].start_date).await;
            assert_eq!(part, days[from..=to]);
        }
        // Unless said otherwise, the last thirty days, and all weeks and months that there were.
        assert_eq!(periods(&ann, By::Unspecified, "", "").await, days[days.len() - 30..]);
        assert_eq!(periods(&ann, By::Week, "", "").await.len(), 10);
        assert_eq!(periods(&ann, By::Month, "", "").await, expected);
        world.end().await;
    }

    async fn days_weeks_and_months_have_their_bounds_and_none_is_before_the_organization_or_after_today(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        passes_until(&world, "2026-01-28T09:00:00Z");
        let ann = world.person("ann").founds("Acme").await;
        passes_until(&world, "2026-02-03T09:00:00Z");
        let days = periods(&ann, By::Day, "2026-01-01", "").await;
        assert_eq!(days.len(), 7);
        assert_eq!((days[0].start_date.as_str(), days[6].end_date.as_str()), ("2026-01-28", "2026-02-03"));
        // A first day within a period counts the whole, and its bounds are those of the calendar.
        let weeks = periods(&ann, By::Week, "2026-01-30", "2026-02-03").await;
        assert_eq!(bounds(&weeks), [("2026-01-26", "2026-02-01"), ("2026-02-02", "2026-02-08")]);
        assert_eq!(each(&weeks, |week| week.members_joined), [1, 0]);
        let months = periods(&ann, By::Month, "2026-01-31", "2026-02-01").await;
        assert_eq!(bounds(&months), [("2026-01-01", "2026-01-31"), ("2026-02-01", "2026-02-28")]);
        assert_eq!(each(&months, |month| (month.members, month.seats_total)), [(1, 500), (1, 500)]);
        assert_eq!(periods(&ann, By::Day, "2026-01-01", "2026-01-27").await, []);
        assert_eq!(periods(&ann, By::Day, "0001-01-01", "0001-01-01").await, []);
        // A day on which nothing happened stands as the one before it.
        assert_eq!(each(&days, |day| (day.members, day.members_joined)), [(1, 1), (1, 0), (1, 0), (1, 0), (1, 0), (1, 0), (1, 0)]);
        world.end().await;
    }

    async fn everybody_counts_once_a_day_a_week_and_a_month(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        for name in ["bob", "cas"] {
            ann.brings(name, "member").await;
        }
        let now = TimeDelta::zero();
        // Monday: two, one of them often. Tuesday: one of them again. The Monday after: the third.
        for name in ["ann", "ann", "bob", "ann"] {
            signs_in(&world, &ann, name, now).await;
        }
        world.pass(TimeDelta::days(1));
        signs_in(&world, &ann, "ann", now).await;
        world.pass(TimeDelta::days(6));
        signs_in(&world, &ann, "cas", now).await;
        signs_in(&world, &ann, "bob", now).await;
        let days = periods(&ann, By::Day, "2026-01-05", "2026-01-12").await;
        assert_eq!(each(&days, |day| (day.active_members, day.sign_ins)), [(2, 4), (1, 1), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (2, 2)]);
        let weeks = periods(&ann, By::Week, "2026-01-05", "2026-01-12").await;
        assert_eq!(each(&weeks, |week| (week.active_members, week.sign_ins)), [(2, 5), (2, 2)]);
        let months = periods(&ann, By::Month, "", "").await;
        assert_eq!(each(&months, |month| (month.active_members, month.sign_ins)), [(3, 7)]);
        world.end().await;
    }

    async fn a_sign_in_that_is_told_late_makes_no_past_day_and_nobody_twice(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        world.pass(TimeDelta::days(1));
        // Yesterday's, told today: in its week and month, but in no day.
        signs_in(&world, &ann, "bob", TimeDelta::days(1)).await;
        let tuesday = periods(&ann, By::Day, "2026-01-06", "2026-01-06").await;
        assert_eq!(each(&tuesday, |day| (day.active_members, day.sign_ins)), [(0, 1)]);
        // Then today's: the first of its day, not of its week. And an older one again.
        signs_in(&world, &ann, "bob", TimeDelta::zero()).await;
        signs_in(&world, &ann, "bob", TimeDelta::hours(1)).await;
        signs_in(&world, &ann, "bob", TimeDelta::days(1)).await;
        let tuesday = periods(&ann, By::Day, "2026-01-06", "2026-01-06").await;
        assert_eq!(each(&tuesday, |day| (day.active_members, day.sign_ins)), [(1, 4)]);
        let week = periods(&ann, By::Week, "2026-01-06", "").await;
        assert_eq!(each(&week, |week| (week.active_members, week.sign_ins)), [(1, 4)]);
        // The clock of whoever tells is half a minute ahead, over midnight: it is still today, when Bob has been here, Ann not.
        passes_until(&world, "2026-01-06T23:59:50Z");
        for name in ["bob", "ann"] {
            signs_in(&world, &ann, name, -TimeDelta::seconds(30)).await;
        }
        let tuesday = periods(&ann, By::Day, "2026-01-06", "2026-01-06").await;
        assert_eq!(each(&tuesday, |day| (day.active_members, day.sign_ins)), [(2, 6)]);
        world.end().await;
    }

    async fn an_invitation_that_expires_counts_until_the_next_change_or_until_the_worker_sees_it(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.invites(&["bob@example.com"], "member").await;
        passes_until(&world, "2026-01-14T08:00:00Z");
        let used = |periods: &[AnalyticsPeriod]| each(periods, |day| day.seats_used);
        assert_eq!(used(&periods(&ann, By::Day, "", "").await), [2; 10]);
        worker::sweep(&world.servers[0].app, &CancellationToken::new()).await;
        // On the days before it was in use, whatever happens later.
        let expected = [2, 2, 2, 2, 2, 2, 2, 2, 2, 1];
        assert_eq!(used(&periods(&ann, By::Day, "", "").await), expected);
        passes_until(&world, "2026-01-15T08:00:00Z");
        ann.brings("cas", "member").await;
        passes_until(&world, "2026-01-16T08:00:00Z");
        ann.tries_to_remove("cas").await.expect("removed");
        assert_eq!(used(&periods(&ann, By::Day, "", "").await), [&expected[..], &[2, 1]].concat());
        world.end().await;
    }

    async fn an_organization_that_moves_keeps_its_days_in_order_and_loses_nothing(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        passes_until(&world, "2026-01-05T11:00:00Z");
        let ann = world.person("ann").founds("Acme").await;
        // Where it is tomorrow already; then where it is still today.
        moves_to(&ann, "Pacific/Kiritimati").await;
        signs_in(&world, &ann, "ann", TimeDelta::zero()).await;
        ann.brings("bob", "member").await;
        let told = tries_to_query(&ann, &ann.organization_id, By::Day, "", "").await.expect("analytics");
        assert_eq!(told.time_zone, "Pacific/Kiritimati");
        assert_eq!(bounds(&told.periods), [("2026-01-05", "2026-01-05"), ("2026-01-06", "2026-01-06")]);
        assert_eq!(each(&told.periods, |day| day.members_joined), [1, 1]);
        moves_to(&ann, "Pacific/Honolulu").await;
        ann.brings("cas", "member").await;
        for _ in 0..3 {
            world.pass(TimeDelta::hours(12));
            signs_in(&world, &ann, "bob", TimeDelta::zero()).await;
        }
        let told = tries_to_query(&ann, &ann.organization_id, By::Day, "", "").await.expect("analytics");
        assert_eq!(told.time_zone, "Pacific/Honolulu");
        assert_eq!(bounds(&told.periods), [("2026-01-05", "2026-01-05"), ("2026-01-06", "2026-01-06")]);
        assert_eq!(each(&told.periods, |day| day.members_joined), [1, 2]);
        assert_eq!(each(&told.periods, |day| day.sign_ins), [0, 4]);
        let kept = "SELECT count(*) FROM organization_day";
        assert_eq!(world.number(kept).await, 1);
        world.pass(TimeDelta::days(1));
        signs_in(&world, &ann, "bob", TimeDelta::zero()).await;
        assert_eq!(world.number(kept).await, 2);
        let days = periods(&ann, By::Day, "", "").await;
        assert_eq!(each(&days, |day| (day.members, day.sign_ins)), [(1, 0), (3, 4), (3, 1)]);
        world.end().await;
    }

    async fn questions_that_make_no_sense_are_refused(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let wrong = (Code::InvalidArgument, "INVALID_FIELDS");
        for (by, start, end, fields) in [
            (1, "2026-1-5", "today", &["start_date", "end_date"][..]),
            (9, "2026-02-30", "", &["granularity", "start_date"]),
            (-1, "", "", &["granularity"]),
            (1, "", "2026-01-06", &["end_date"]),
            (1, "2026-01-05", "2026-01-04", &["start_date"]),
            (1, "2026-02-01", "2026-01-06", &["end_date", "start_date"]),
            (1, "2024-12-01", "2026-01-05", &["start_date"]),
            (3, "1992-09-30", "2026-01-05", &["start_date"]),
            (1, " 2026-01-05", "2026-01-05T00:00", &["start_date", "end_date"]),
            (2, "+026-01-05", "99999-01-01", &["start_date", "end_date"]),
        ] {
            let request = pb::QueryAnalyticsRequest {
                organization_id: ann.organization_id.clone(),
                granularity: by,
                start_date: start.into(),
                end_date: end.into(),
            };
            let refused = answer(ann.organizations().query_analytics(request).await).expect_err("no sense");
            assert_eq!(refused.is(), wrong, "{start} {end}");
            assert_eq!(refused.fields, fields, "{start} {end}");
        }
        // Four hundred are not too many.
        assert_eq!(periods(&ann, By::Day, "2024-12-02", "2026-01-05").await.len(), 1);
        assert_eq!(periods(&ann, By::Month, "1992-10-31", "2026-01-05").await.len(), 1);
        let refused = tries_to_query(&bob, &ann.organization_id, By::Day, "x", "").await.expect_err("a member");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        let zed = world.person("zed").founds("Zeta").await;
        let refused = tries_to_query(&zed, &ann.organization_id, By::Day, "", "").await.expect_err("another's");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ORGANIZATION_MISMATCH"));
        let service = world.service("reports");
        let told = tries_to_query(&service, &ann.organization_id, By::Day, "", "").await.expect("a service may");
        assert_eq!(told.periods, periods(&ann, By::Day, "", "").await);
        let refused = tries_to_query(&service, "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70", By::Day, "", "").await.expect_err("nowhere");
        assert_eq!(refused.is(), (Code::NotFound, "ORGANIZATION_NOT_FOUND"));
        ann.deletes_organization().await;
        let refused = tries_to_query(&ann, &ann.organization_id, By::Day, "", "").await.expect_err("deleted");
        assert_eq!(refused.is(), (Code::FailedPrecondition, "ORGANIZATION_DELETED"));
        world.end().await;
    }

    async fn an_admin_of_last_year_is_told_by_the_month_of_this_one(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        for month in 0..26 {
            if month % 3 == 0 {
                ann.brings(&format!("guest-{month}"), "member").await;
            }
            let now = world.clock.now();
            let next = now.checked_add_months(chrono::Months::new(1)).expect("a month");
            world.pass(next - now);
        }
        let months = periods(&ann, By::Month, "2026-01-01", "").await;
        assert_eq!(months.len(), 27);
        let joined = |month: i64| i64::from(month % 3 == 0 && month < 26) + i64::from(month == 0);
        let expected: Vec<(i64, i64)> = (0..27).map(|month| (joined(month), (0..=month).map(joined).sum())).collect();
        assert_eq!(each(&months, |month| (month.members_joined, month.members)), expected);
        assert_eq!(periods(&ann, By::Month, "", "").await, months[15..]);
        let year = months[12].start_date.parse::<NaiveDate>().expect("a day").year();
        assert_eq!(year, 2027);
        world.end().await;
    }
}
