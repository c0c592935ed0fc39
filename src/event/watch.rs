//! `WatchEvents`: what happened from a cursor on, and then what happens.
//!
//! A watch is pulled: the next events are read from the log when the one before has gone out, from where that ended. So whoever
//! reads slowly holds one message and no more, what is lost with a connection is read again from the cursor, and it does not
//! matter which server does it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::feed::{Waiting, last_position, place_recent};
use super::log::{self, Reading};
use super::shown;
use super::types;
use crate::app::App;
use crate::auth::caller::Caller;
use crate::auth::scope::{Authorized, Scope};
use crate::error::Error;
use crate::fields::Fields;
use crate::operation::{self, Query, Reader};
use crate::overload::Taken;
use crate::{page, pb};

/// What goes out of a watch.
pub(super) type Watched = BoxStream<'static, Result<pb::WatchEventsResponse, Status>>;

/// How long nothing is said when nothing happens. Then the cursor is, so that both sides know that the other is there.
const SILENCE: Duration = Duration::from_mins(1);

/// How many events one message has at most.
const AT_ONCE: u64 = 100;

/// How much of the log is looked through at once.
const WINDOW: i64 = 10_000;

/// Begins to watch.
pub(super) async fn watch(
    app: &Arc<App>,
    request: Request<pb::WatchEventsRequest>,
) -> Result<Response<Watched>, Status> {
    let authorized = operation::authorized(&request)?.clone();
    let place = app.overload.watch(authorized.caller())?;
    let begun = match (authorized.caller(), request.get_ref().organization_id.as_str()) {
        (Caller::Service(_), "") => WatchEvents::parse(request.get_ref(), app)?.of_all(app).await?,
        _ => operation::read::<WatchEvents>(app, request).await?.into_inner(),
    };
    let waiting = app.feed.watch(begun.reading.of.map(Scope::organization_id));
    let watch = Watch { app: Arc::clone(app), authorized, begun, waiting, is_first: true, _place: place };
    let messages = stream::try_unfold(watch, |mut watch| async move {
        let message = watch.next().await?;
        Ok(Some((message, watch)))
    });
    Ok(Response::new(messages.boxed()))
}

/// What is asked for.
struct WatchEvents {
    types: Vec<&'static str>,
    list: String,
    start: Start,
}

enum Start {
    /// After this place.
    Place(i64),
    /// With the first event that there is.
    Beginning,
    /// After all that has happened.
    Now,
}

/// A watch as it begins.
struct Begun {
    reading: Reading,
    /// What its cursors are of.
    list: String,
}

impl Query for WatchEvents {
    type Request = pb::WatchEventsRequest;
    type Response = Begun;
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let types = types(&mut fields, "types", &request.types);
        let start = pb::WatchStart::try_from(request.start);
        if start.is_err() {
            fields.fault("start", "must be a start of a watch");
        }
        if start.is_ok_and(|start| start != pb::WatchStart::Unspecified) && !request.cursor.is_empty() {
            fields.fault("start", "must be left out with a cursor, which says from where on");
        }
        // Another filter may go on from it: it is a place in the log.
        let list = format!("WatchEvents {}", request.organization_id.to_lowercase());
        let start = match (request.cursor.as_str(), start) {
            ("", Ok(pb::WatchStart::Beginning)) => Start::Beginning,
            ("", _) => Start::Now,
            (cursor, _) => {
                let place = page::position(&list, cursor).filter(|place| *place >= 0);
                Start::Place(place.ok_or(Error::CursorInvalid)?)
            }
        };
        fields.done(Self { types, list, start })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Begun, Error> {
        self.begin(reader.app, Some(reader.scope), reader.organization()?.last_event_number).await
    }
}

impl WatchEvents {
    /// Begins to watch all organizations.
    async fn of_all(&self, app: &App) -> Result<Begun, Error> {
        // What was committed before the call happened before now.
        place_recent(&app.database).await?;
        self.begin(app, None, last_position(app.database.reader()).await?).await
    }

    async fn begin(&self, app: &App, scope: Option<Scope>, last: i64) -> Result<Begun, Error> {
        let place = match self.start {
            Start::Now => last,
            Start::Beginning => log::forgotten(app.database.reader(), scope).await?.min(last),
            Start::Place(place) if place > last => return Err(Error::CursorInvalid),
            Start::Place(place) => place,
        };
        let types = self.types.iter().map(|name| (*name).to_owned()).collect();
        Ok(Begun { reading: Reading { of: scope, types, place }, list: self.list.clone() })
    }
}

/// A watch that goes on.
struct Watch {
    app: Arc<App>,
    authorized: Authorized,
    begun: Begun,
    waiting: Waiting,
    _place: Taken,
    /// Whether nothing was said yet.
    is_first: bool,
}

impl Watch {
    /// The next message: at once, where there are events or it is the first, and else when there are some or it was silent for
    /// long enough.
    async fn next(&mut self) -> Result<pb::WatchEventsResponse, Error> {
        let mut silence = pin!(tokio::time::sleep(SILENCE));
        loop {
            self.app.feed.goes_on()?;
            self.authorized.holds()?;
            self.waiting.catch_up();
            let (events, more) = self.read().await?;
            if !events.is_empty() || self.is_first || silence.is_elapsed() {
                self.is_first = false;
                let cursor = page::token(&self.begun.list, &self.begun.reading.place)?;
                return Ok(pb::WatchEventsResponse { events, cursor });
            }
            if more {
                continue;
            }
            tokio::select! {
                () = self.app.feed.ended() => {}
                () = self.authorized.is_over() => {}
                () = self.waiting.told() => {}
                () = silence.as_mut() => {}
            }
        }
    }

    /// Reads what has happened since, as far as it is looked for, if the caller still may. Says whether there may be more.
    async fn read(&mut self) -> Result<(Vec<pb::Event>, bool), Error> {
        let reading = &mut self.begun.reading;
        let last = match reading.of {
            Some(scope) => operation::standing(&self.app, &self.authorized, scope).await?.last_event_number,
            None => last_position(self.app.database.reader()).await?,
        };
        if last <= reading.place {
            return Ok((Vec::new(), false));
        }
        // Of what is seldom looked for, much may have to be passed over.
        let until = last.min(reading.place.saturating_add(WINDOW));
        let shown = |row| {
            let event = shown::event(row);
            let size = event.encoded_len();
            (event, size)
        };
        let events = reading.next(self.app.database.reader(), until, AT_ONCE, shown).await?;
        Ok((events, reading.place < last))
    }
}
