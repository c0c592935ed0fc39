//! Where a user stands: the organization and their membership of it, which every call asks for.
//!
//! On PostgreSQL those who ask at the same time share a statement. A statement costs both sides a trip, which is most of what so small
//! a read costs; what it finds of each more is one step in two indexes. Nobody waits for that: whoever comes while fewer statements
//! are under way than there may be has one at once, and only those who come meanwhile go together in the next. What is found is as it
//! was after it was asked for, as with a statement of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, FromQueryResult as _, Iterable as _, QueryResult};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::store;
use crate::auth::scope::Scope;
use crate::database::{Database, no_answer};
use crate::entity::{membership, organization};

/// How many statements may be under way, but for slow ones.
const LANES: usize = 2;

/// How many may share one.
const MOST: usize = 128;

/// After what time a statement is slow: others do not wait for it any more, and it goes on only for as long as anybody waits.
const SLOW: Duration = Duration::from_millis(250);

/// Who was asked for, all as they stood at one moment, as far as there are any.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The organization.
    pub organization: Option<Arc<organization::Model>>,
    /// The user's membership of it.
    pub membership: Option<membership::Model>,
    /// That of the other user whom the call is about.
    pub other: Option<membership::Model>,
}

/// Finds where users stand.
#[derive(Clone, Debug)]
pub struct Standings(Arc<Line>);

#[derive(Debug)]
struct Line {
    database: Arc<Database>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Nobody waits unless all lanes are taken.
    waiting: Vec<Asked>,
    lanes: usize,
}

/// Whom somebody asks for.
#[derive(Debug)]
struct Question {
    organization_id: Uuid,
    user_id: String,
    other: Option<String>,
}

#[derive(Debug)]
struct Asked {
    question: Question,
    answer: oneshot::Sender<Result<Standing, DbErr>>,
}

impl Standings {
    /// In this database.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self(Arc::new(Line { database, state: Mutex::default() }))
    }

    /// Finds the organization, a user's membership of it, and another's.
    pub async fn find(&self, scope: Scope, user_id: &str, other: Option<&str>) -> Result<Standing, DbErr> {
        let reader = self.0.database.reader();
        if reader.get_database_backend() != DbBackend::Postgres {
            let (organization, membership) = store::find_with_member(reader, scope, user_id).await?;
            let other = match other {
                Some(other) => store::find_member(reader, scope, other).await?,
                None => None,
            };
            return Ok(Standing { organization: organization.map(Arc::new), membership, other });
        }
        let (user_id, other) = (user_id.to_owned(), other.map(str::to_owned));
        match self.0.enter(Question { organization_id: scope.organization_id(), user_id, other }) {
            Entered::First(lane, question) => {
                let (still, rows) = statement(lane, &[&question], std::future::pending::<()>()).await;
                drop(still);
                Ok(found(&[&question], &rows?)?.pop().unwrap_or_default())
            }
            Entered::After(answered) => answered.await.unwrap_or_else(|_| Err(no_answer())),
        }
    }
}

enum Entered {
    /// A statement of its own.
    First(Lane, Question),
    /// One together with others, when there is room for it.
    After(oneshot::Receiver<Result<Standing, DbErr>>),
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, question: Question) -> Entered {
        let mut state = self.state();
        if state.lanes < LANES {
            state.lanes += 1;
            return Entered::First(Lane(Arc::clone(self)), question);
        }
        let (answer, answered) = oneshot::channel();
        state.waiting.push(Asked { question, answer });
        Entered::After(answered)
    }
}

/// The right to send statements, one after another. Whoever waits when it ends has it next.
#[derive(Debug)]
struct Lane(Arc<Line>);

impl Lane {
    /// Sends one statement after another for as long as anybody waits.
    async fn run(self) {
        let mut lane = self;
        while let Some(asked) = lane.next() {
            let (questions, mut answers): (Vec<_>, Vec<_>) =
                asked.into_iter().map(|one| (one.question, one.answer)).unzip();
            let questions: Vec<&Question> = questions.iter().collect();
            let given_up = join_all(answers.iter_mut().map(oneshot::Sender::closed));
            let (still, rows) = statement(lane, &questions, given_up).await;
            match rows.and_then(|rows| found(&questions, &rows)) {
                Ok(found) => tell(answers, found.into_iter().map(Ok)),
                Err(error) => tell(answers, std::iter::repeat_with(|| Err(error.clone()))),
            }
            match still {
                Some(still) => lane = still,
                None => return,
            }
        }
    }

    fn next(&self) -> Option<Vec<Asked>> {
        let mut state = self.0.state();
        let count = state.waiting.len().min(MOST);
        (count > 0).then(|| state.waiting.drain(..count).collect())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.0.state();
        match Handle::try_current() {
            Ok(runtime) if !state.waiting.is_empty() => {
                runtime.spawn(Self(Arc::clone(&self.0)).run());
            }
            _ => state.lanes -= 1,
        }
    }
}

/// Asks, and tells whether the lane is still there for the next: a statement that turns out to be slow leaves it, and ends when
/// everybody has given up who waits for it.
async fn statement(
    lane: Lane,
    questions: &[&Question],
    given_up: impl Future,
) -> (Option<Lane>, Result<Vec<QueryResult>, DbErr>) {
    let (ids, users) = questions.iter().flat_map(|question| question.keys()).unzip();
    let database = Arc::clone(&lane.0.database);
    let rows = database.reader().rows(SELECT.as_str(), (ids, users));
    tokio::pin!(rows);
    if let Ok(rows) = tokio::time::timeout(SLOW, &mut rows).await {
        return (Some(lane), rows);
    }
    drop(lane);
    let rows = tokio::select! {
        rows = rows => rows,
        _ = given_up => Err(no_answer()),
    };
    (None, rows)
}

fn tell(
    answers: Vec<oneshot::Sender<Result<Standing, DbErr>>>,
    standings: impl Iterator<Item = Result<Standing, DbErr>>,
) {
    for (answer, standing) in answers.into_iter().zip(standings) {
        // Who is gone does not hear it.
        let _ = answer.send(standing);
    }
}

/// What was found for each question.
fn found(questions: &[&Question], rows: &[QueryResult]) -> Result<Vec<Standing>, DbErr> {
    // Those who ask at once often ask of the same organization.
    let mut organizations: HashMap<Uuid, Arc<organization::Model>> = HashMap::new();
    // For which question a row is, and whether it is for the other user of it.
    let asked: Vec<(usize, bool)> = questions
        .iter()
        .enumerate()
        .flat_map(|(number, question)| question.keys().enumerate().map(move |(key, _)| (number, key > 0)))
        .collect();
    let mut found = vec![Standing::default(); questions.len()];
    for row in rows {
        let place: i64 = row.try_get("", PLACE)?;
        let asked = usize::try_from(place - 1).ok().and_then(|place| asked.get(place));
        let Some((number, is_other)) = asked.copied() else { continue };
        let (Some(standing), Some(question)) = (found.get_mut(number), questions.get(number)) else { continue };
        let membership = membership::Model::from_query_result_optional(row, "B_")?;
        if is_other {
            standing.other = membership;
            continue;
        }
        standing.membership = membership;
        standing.organization = Some(match organizations.entry(question.organization_id) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(place) => {
                Arc::clone(place.insert(Arc::new(organization::Model::from_query_result(row, "A_")?)))
            }
        });
    }
    Ok(found)
}

impl Question {
    /// The organization with the user, and then with the other.
    fn keys(&self) -> impl Iterator<Item = (Uuid, String)> {
        let users = [Some(&self.user_id), self.other.as_ref()];
        users.into_iter().flatten().map(|user_id| (self.organization_id, user_id.clone()))
    }
}

/// Which of those who asked a row is for, counted from one.
const PLACE: &str = "place";

/// The arrays are selected so that the planner cannot know how many there are: else it would find, each time anew and for longer than it
/// takes to find the rows, that a plan made for just so many is a little cheaper than the one that it has.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    let columns = |table: &str, prefix: &str, names: Vec<&'static str>| {
        names.iter().map(|name| format!("{table}.\"{name}\" AS \"{prefix}{name}\"")).collect::<Vec<_>>().join(", ")
    };
    let organization = organization::Column::iter().map(|column| sea_orm::IdenStatic::as_str(&column)).collect();
    let membership = membership::Column::iter().map(|column| sea_orm::IdenStatic::as_str(&column)).collect();
    format!(
        "SELECT asked.{PLACE}, {}, {} FROM unnest((SELECT $1::uuid[]), (SELECT $2::text[])) WITH ORDINALITY AS asked (organization_id, user_id, {PLACE}) \
         JOIN organization ON organization.organization_id = asked.organization_id \
         LEFT JOIN membership ON membership.organization_id = asked.organization_id AND membership.user_id = asked.user_id",
        columns("organization", "A_", organization),
        columns("membership", "B_", membership),
    )
});
