//! DeliveryService on the wire.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::app::App;
use crate::entity::mail::{self, Column as C, State};
use crate::error::Error;
use crate::fields::{Fields, timestamp};
use crate::operation::{self, Command, Query, Reader, Trusted, Unit};
use crate::page::Page;
use crate::pb;
use crate::pb::delivery_service_server::DeliveryService;

/// DeliveryService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

#[tonic::async_trait]
impl DeliveryService for Service {
    async fn list_mails(
        &self,
        request: Request<pb::ListMailsRequest>,
    ) -> Result<Response<pb::ListMailsResponse>, Status> {
        operation::read::<ListMails>(&self.0, request).await
    }

    async fn retry_mail(
        &self,
        request: Request<pb::RetryMailRequest>,
    ) -> Result<Response<pb::RetryMailResponse>, Status> {
        operation::change::<RetryMail>(&self.0, request).await
    }
}

struct ListMails {
    states: Vec<State>,
    page: Page<Uuid>,
}

impl Query for ListMails {
    type Request = pb::ListMailsRequest;
    type Response = pb::ListMailsResponse;
    const ON_DELETED: bool = true;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let states = fields.states(&request.states, "must be a state of an e-mail", |number| {
            Some(match pb::MailState::try_from(number).ok()? {
                pb::MailState::Queued => State::Queued,
                pb::MailState::Sent => State::Sent,
                pb::MailState::Parked => State::Parked,
                pb::MailState::Dropped => State::Dropped,
                pb::MailState::Unspecified => return None,
            })
        });
        let list = format!("ListMails {} {states:?}", request.organization_id);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, |_| true)?;
        fields.done(Self { states, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let page = &self.page;
        let mut rows = mail::Entity::find().filter(C::OrganizationId.eq(reader.scope.organization_id()));
        if !self.states.is_empty() {
            rows = rows.filter(C::State.is_in(self.states.iter().copied()));
        }
        if let Some(after) = page.after {
            rows = rows.filter(C::MailId.lt(after));
        }
        let rows = rows.order_by_desc(C::OrganizationId).order_by_desc(C::MailId).limit(page.size + 1);
        let mut rows = rows.all(reader.connection()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.mail_id)?;
        Ok(pb::ListMailsResponse { mails: rows.iter().map(shown).collect(), next_page_token })
    }
}

struct RetryMail {
    mail_id: Uuid,
}

impl Command for RetryMail {
    type Request = pb::RetryMailRequest;
    type Response = pb::RetryMailResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let mail_id = fields.uuid("mail_id", &request.mail_id);
        fields.done(Self { mail_id })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let mail_id = self.mail_id;
        let key = (unit.scope().organization_id(), mail_id);
        let found = mail::Entity::find_by_id(key).one(unit.transaction()).await?;
        let mut row = found.ok_or(Error::MailNotFound { mail_id })?;
        let retried = mail::Entity::update_many()
            .filter(C::OrganizationId.eq(row.organization_id))
            .filter(C::MailId.eq(mail_id))
            .filter(C::State.eq(State::Parked))
            .col_expr(C::State, Expr::value(State::Queued.to_value()))
            .col_expr(C::Attempts, Expr::value(0))
            .col_expr(C::DueAt, Expr::value(unit.now))
            .col_expr(C::EndedAt, Expr::value(None::<DateTime<Utc>>))
            .exec(unit.transaction())
            .await?;
        if retried.rows_affected == 0 {
            return Err(Error::MailNotParked { mail_id, state: state(row.state).as_str_name() });
        }
        (row.state, row.attempts, row.due_at, row.ended_at) = (State::Queued, 0, unit.now, None);
        Ok(pb::RetryMailResponse { mail: Some(shown(&row)) })
    }
}

fn state(state: State) -> pb::MailState {
    match state {
        State::Queued => pb::MailState::Queued,
        State::Sent => pb::MailState::Sent,
        State::Parked => pb::MailState::Parked,
        State::Dropped => pb::MailState::Dropped,
    }
}

fn shown(row: &mail::Model) -> pb::Mail {
    pb::Mail {
        organization_id: row.organization_id.to_string(),
        mail_id: row.mail_id.to_string(),
        kind: row.kind.clone(),
        recipient: row.recipient.clone(),
        state: state(row.state).into(),
        attempts: i32::try_from(row.attempts).unwrap_or(i32::MAX),
        failure: row.failure.clone(),
        event_number: row.event_number,
        create_time: Some(timestamp(row.created_at)),
        next_attempt_time: (row.state == State::Queued).then(|| timestamp(row.due_at)),
        end_time: row.ended_at.map(timestamp),
    }
}
