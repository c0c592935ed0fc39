//! E-mail as those who get it read it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_parser::{HeaderValue, MessageParser};
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _};
use tenantry::config::MailSettings;
use tenantry::delivery;
use tenantry::delivery::mail::letter::TYPES;
use tenantry::entity::{event, event_consumer, mail};
use tenantry::pb;
use tokio_util::sync::CancellationToken;

use super::person::{Person, answer};
use super::refused::Refused;
use super::world::{Setup, World};

/// Longer than anything takes to be sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// A letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) id: String,
    pub(crate) automatic: bool,
    pub(crate) text: String,
    pub(crate) html: String,
}

impl Letter {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let message = MessageParser::default().parse(bytes).expect("a letter");
        let address = |address: Option<&mail_parser::Address<'_>>| {
            let first = address.and_then(|address| address.first()).expect("an address");
            match first.name() {
                Some(name) => format!("{name} <{}>", first.address().expect("an address")),
                None => first.address().expect("an address").to_owned(),
            }
        };
        let automatic = message.header("Auto-Submitted").and_then(HeaderValue::as_text) == Some("auto-generated");
        Self {
            from: address(message.from()),
            to: address(message.to()),
            subject: message.subject().expect("a subject").to_owned(),
            id: message.message_id().expect("an id").to_owned(),
            automatic,
            text: message.body_text(0).expect("text").replace("\r\n", "\n"),
            html: message.body_html(0).expect("markup").into_owned(),
        }
    }

    /// The token in its link.
    pub(crate) fn token(&self) -> String {
        let (_, rest) = self.text.split_once("https://app.example.com/join?t=").expect("a link");
        let token = rest.split_whitespace().next().expect("a token").to_owned();
        assert!(self.html.contains(&token), "the link is in the markup as well");
        token
    }
}

/// Settings of servers that send e-mail so.
pub(crate) fn settings(mail: &str) -> MailSettings {
    MailSettings {
        mail: mail.to_owned(),
        mail_ca: None,
        mail_from: Some("AI Hub <hello@hub.example.com>".parse().expect("an address")),
        invitation_url: Some("https://app.example.com/join?t={token}".into()),
        mail_language: "en".into(),
        mail_templates: None,
    }
}

/// Servers that write e-mail into a folder.
pub(crate) fn into_folder(folder: &Path, setup: Setup) -> Setup {
    Setup { mail: Some(Arc::new(settings(&format!("folder:{}", folder.display())))), ..setup }
}

/// What was written into a folder, the earliest first.
pub(crate) fn letters(folder: &Path) -> Vec<Letter> {
    let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|suffix| suffix == "eml")).collect();
    files.sort();
    files.iter().map(|path| Letter::read(&std::fs::read(path).expect("a file"))).collect()
}

impl World {
    /// Has everything sent that is due, on whichever server.
    pub(crate) async fn delivers(&self) {
        let (database, begun) = (self.database().await, Instant::now());
        loop {
            for server in &self.servers {
                delivery::sweep(&server.app, &CancellationToken::new()).await.expect("a database that answers");
            }
            let unplaced = event::Entity::find().filter(event::Column::Position.is_null()).count(&database);
            let consumer = event_consumer::Entity::find_by_id("mail").one(&database).await.expect("a reader");
            let unread = event::Entity::find()
                .filter(event::Column::Position.gt(consumer.expect("a reader").position))
                .filter(event::Column::Type.is_in(TYPES))
                .count(&database);
            let due = mail::Entity::find()
                .filter(mail::Column::State.eq(mail::State::Queued))
                .filter(mail::Column::DueAt.lte(self.clock.now()))
                .count(&database);
            let (unplaced, unread, due) = (unplaced.await, unread.await, due.await);
            let is_off = self.setup.mail.is_none();
            let is_idle = || self.servers.iter().all(|server| server.app.metrics.mails_under_way.get() == 0);
            if unplaced.expect("a number") + due.expect("a number") == 0
                && (is_off || unread.expect("a number") == 0)
                && is_idle()
            {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "something is not sent");
            // Another server has what is left.
            tokio::task::yield_now().await;
        }
        database.close().await.expect("a connection can be closed");
    }
}

impl Person {
    /// The e-mails of an organization, the latest first; or is refused.
    pub(crate) async fn mails(
        &self,
        organization_id: &str,
        states: &[pb::MailState],
    ) -> Result<Vec<pb::Mail>, Refused> {
        let request = pb::ListMailsRequest {
            organization_id: organization_id.into(),
            states: states.iter().map(|state| i32::from(*state)).collect(),
            ..Default::default()
        };
        answer(self.delivery().list_mails(request).await).map(|answer| answer.mails)
    }

    /// Has a parked e-mail tried again, or is refused.
    pub(crate) async fn retries(&self, mail: &pb::Mail) -> Result<pb::Mail, Refused> {
        let request = pb::RetryMailRequest {
            organization_id: mail.organization_id.clone(),
            mail_id: mail.mail_id.clone(),
            ..Default::default()
        };
        answer(self.delivery().retry_mail(request).await).map(|answer| answer.mail.expect("an e-mail"))
    }
}
