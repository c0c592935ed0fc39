//! Somebody who watches what happens.

use std::collections::VecDeque;
use std::time::Duration;

use tenantry::pb;
use tonic::Streaming;

use super::person::{Person, answer};
use super::refused::{Refused, refused};

/// Longer than anything that has happened takes to be told.
const PATIENCE: Duration = Duration::from_secs(20);

/// A watch that is under way.
pub(crate) struct Watch {
    stream: Streaming<pb::WatchEventsResponse>,
    waiting: VecDeque<pb::Event>,
    /// After everything that has come.
    pub(crate) cursor: String,
}

impl Watch {
    /// Watches what a request asks for; the first message has come then.
    pub(crate) async fn begin(person: &Person, request: pb::WatchEventsRequest) -> Result<Self, Refused> {
        let stream = answer(person.log().watch_events(request).await)?;
        let mut watch = Self { stream, waiting: VecDeque::new(), cursor: String::new() };
        watch.hears().await?;
        Ok(watch)
    }

    /// Waits for the next message, and says with what there is none any more.
    async fn hears(&mut self) -> Result<(), Refused> {
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await.expect("something is told");
        let message = message.map_err(|status| refused(&status))?.expect("a watch has no end of its own");
        assert!(message.events.len() <= 100, "{} events at once", message.events.len());
        self.cursor = message.cursor;
        self.waiting.extend(message.events);
        Ok(())
    }

    /// The next event, or with what the watch ends.
    pub(crate) async fn next(&mut self) -> Result<pb::Event, Refused> {
        loop {
            match self.waiting.pop_front() {
                Some(event) => return Ok(event),
                None => self.hears().await?,
            }
        }
    }

    /// So many more events, by their types.
    pub(crate) async fn types(&mut self, count: usize) -> Vec<String> {
        let mut types = Vec::with_capacity(count);
        for _ in 0..count {
            types.push(self.next().await.expect("an event").r#type);
        }
        types
    }

    /// Whether everything that came was asked for.
    pub(crate) fn is_heard(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Person {
    /// The log as JSON lines of these types, and in how many messages it came.
    pub(crate) async fn exports(&self, types: &[&str]) -> (Vec<serde_json::Value>, usize) {
        let types = types.iter().map(|name| (*name).to_owned()).collect();
        let request = pb::ExportEventsRequest { organization_id: self.organization_id.clone(), types };
        let mut stream = self.log().export_events(request).await.expect("an export").into_inner();
        let (mut lines, mut messages) = (Vec::new(), 0);
        while let Some(message) = stream.message().await.expect("it goes on") {
            lines.extend(message.lines);
            messages += 1;
        }
        let lines = String::from_utf8(lines).expect("text");
        (lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(), messages)
    }
}
