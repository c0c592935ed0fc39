//! EventService on the wire.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::export::{self, Exported};
use super::log::{self, Filter};
use super::shown;
use super::watch::{self, Watched};
use crate::app::App;
use crate::error::Error;
use crate::fields::Fields;
use crate::id::ServiceName;
use crate::operation::{self, Query, Reader};
use crate::page::Page;
use crate::pb;
use crate::pb::event_service_server::EventService;

/// The most types that one request names.
const MOST_TYPES: usize = 50;

/// The longest id of a subject, in bytes.
const LONGEST_SUBJECT: usize = 253;

/// EventService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

#[tonic::async_trait]
impl EventService for Service {
    type WatchEventsStream = Watched;
    type ExportEventsStream = Exported;

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        operation::read::<ListEvents>(&self.0, request).await
    }

    async fn watch_events(&self, request: Request<pb::WatchEventsRequest>) -> Result<Response<Watched>, Status> {
        watch::watch(&self.0, request).await
    }

    async fn export_events(&self, request: Request<pb::ExportEventsRequest>) -> Result<Response<Exported>, Status> {
        export::export(&self.0, request).await
    }
}

struct ListEvents {
    filter: Filter,
    page: Page<i64>,
}

impl Query for ListEvents {
    type Request = pb::ListEventsRequest;
    type Response = pb::ListEventsResponse;
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let filter = filter(&mut fields, request);
        let list = format!("ListEvents {} {filter:?}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, |number| *number > 0)?;
        fields.done(Self { filter, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let page = &self.page;
        let mut rows = log::list(reader.connection(), reader.scope, &self.filter, page.after, page.size + 1).await?;
        let next_page_token = page.cut(&mut rows, |row| row.number)?;
        Ok(pb::ListEventsResponse { events: rows.into_iter().map(shown::event).collect(), next_page_token })
    }
}

fn filter(fields: &mut Fields, request: &pb::ListEventsRequest) -> Filter {
    let subject = request.subject.clone().unwrap_or_default();
    if subject.kind.is_empty() && request.subject.is_some() {
        fields.fault("subject.kind", "must be said: `member`, `invoice`");
    }
    let (start, end) =
        (fields.time("start_time", request.start_time.as_ref()), fields.time("end_time", request.end_time.as_ref()));
    if start.zip(end).is_some_and(|(start, end)| start >= end) {
        fields.fault("end_time", "must be after start_time");
    }
    if !request.actor_user_id.is_empty() {
        fields.user_id("actor_user_id", &request.actor_user_id);
    }
    if !request.actor_service.is_empty()
        && let Err(fault) = ServiceName::parse(&request.actor_service)
    {
        fields.fault("actor_service", fault.to_string());
    }
    Filter {
        types: types(fields, "types", &request.types),
        actor_user_id: request.actor_user_id.clone(),
        actor_service: request.actor_service.clone(),
        subject_kind: fields.line("subject.kind", &subject.kind, 0..=40),
        subject_id: fields.line("subject.id", &subject.id, 0..=LONGEST_SUBJECT),
        start,
        end,
    }
}

/// The types that are named, in the order in which they are known, so that the same wish is the same list.
pub fn types(fields: &mut Fields, field: &str, said: &[String]) -> Vec<&'static str> {
    if said.len() > MOST_TYPES {
        fields.fault(field, format!("must be at most {MOST_TYPES}"));
        return Vec::new();
    }
    for (index, said) in said.iter().enumerate() {
        if super::types_of(said).is_empty() {
            fields.fault(
                format!("{field}[{index}]"),
                "must be a type of event, as `member.joined`, or of several, as `member.*`",
            );
        }
    }
    super::types_of_any(said)
}
