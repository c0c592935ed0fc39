//! Webhooks, as the tests tell of them.

use std::time::{Duration, Instant};

use sea_orm::{ColumnTrait as _, Condition, EntityTrait as _, PaginatorTrait as _, QueryFilter as _};
use tenantry::delivery::webhook::{ALL, Settings, store};
use tenantry::delivery::{self};
use tenantry::entity::webhook_endpoint::{self, Column as C};
use tenantry::entity::{event, event_consumer};
use tenantry::pb;
use tokio_util::sync::CancellationToken;

use super::person::{Person, answer};
use super::refused::Refused;
use super::world::{Setup, World};

/// Longer than all takes that is to be told.
const PATIENCE: Duration = Duration::from_secs(30);

/// What signs what the endpoint of the configuration is told, while one secret is replaced by the other.
pub(crate) const SECRETS: [&str; 2] =
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];

/// A configuration in which all that happens is posted to a URL on this machine.
pub(crate) fn endpoint_of_all(url: &str) -> String {
    format!("[[endpoints]]\nname = \"search\"\nurl = \"{url}\"\nsecrets = {SECRETS:?}\nnetworks = [\"127.0.0.0/8\"]\n")
}

/// Servers that post to this machine.
pub(crate) fn posting_here(setup: Setup) -> Setup {
    let networks = vec!["127.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")];
    Setup { webhooks: Settings { networks, ..Settings::default() }, ..setup }
}

impl World {
    /// Has all told that is due, by whichever server.
    pub(crate) async fn tells(&self) {
        let (database, begun) = (self.database().await, Instant::now());
        loop {
            for server in &self.servers {
                delivery::sweep(&server.app, &CancellationToken::new()).await.expect("a database that answers");
            }
            let consumer = event_consumer::Entity::find_by_id("webhook").one(&database).await.expect("a database");
            let place = consumer.expect("a reader").position;
            let unread = Condition::any().add(event::Column::Position.is_null()).add(event::Column::Position.gt(place));
            let unread = event::Entity::find()
                .filter(unread)
                .filter(store::concerns_an_endpoint(
                    self.servers[0].app.webhooks.platform.iter().map(|one| one.endpoint_id).collect(),
                ))
                .count(&database);
            let due = webhook_endpoint::Entity::find()
                .filter(C::DisabledAt.is_null())
                .filter(C::DueAt.lte(self.clock.now()))
                .count(&database);
            if unread.await.expect("a number") + due.await.expect("a number") == 0 {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "something is not told");
            // Another server has what is left.
            tokio::task::yield_now().await;
        }
        database.close().await.expect("a connection can be closed");
    }

    /// How an endpoint of the configuration stands.
    pub(crate) async fn endpoint_of_all(&self) -> webhook_endpoint::Model {
        let database = self.database().await;
        let found = webhook_endpoint::Entity::find().filter(C::OrganizationId.eq(ALL)).one(&database).await;
        database.close().await.expect("a connection can be closed");
        found.expect("a database").expect("an endpoint")
    }
}

/// An endpoint, and what its events are signed with.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) endpoint: pb::WebhookEndpoint,
    pub(crate) secret: String,
}

impl Made {
    pub(crate) fn id(&self) -> &str {
        &self.endpoint.endpoint_id
    }
}

impl Person {
    /// Makes an endpoint that is told of these types.
    pub(crate) async fn has_told(&self, url: &str, types: &[&str]) -> Made {
        self.tries_to_have_told(url, types).await.expect("an endpoint")
    }

    pub(crate) async fn tries_to_have_told(&self, url: &str, types: &[&str]) -> Result<Made, Refused> {
        let request = pb::CreateWebhookEndpointRequest {
            organization_id: self.organization_id.clone(),
            url: url.into(),
            types: types.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        let made = answer(self.webhooks().create_webhook_endpoint(request).await)?;
        Ok(Made { endpoint: made.endpoint.expect("an endpoint"), secret: made.secret })
    }

    pub(crate) async fn endpoints(&self) -> Vec<pb::WebhookEndpoint> {
        let request = pb::ListWebhookEndpointsRequest { organization_id: self.organization_id.clone() };
        answer(self.webhooks().list_webhook_endpoints(request).await).expect("endpoints").endpoints
    }

    /// The one endpoint.
    pub(crate) async fn endpoint(&self) -> pb::WebhookEndpoint {
        let endpoints = self.endpoints().await;
        assert_eq!(endpoints.len(), 1);
        endpoints.into_iter().next().expect("one")
    }

    /// Changes these fields of an endpoint.
    pub(crate) async fn changes_endpoint(
        &self,
        paths: &[&str],
        endpoint: pb::WebhookEndpoint,
    ) -> Result<pb::WebhookEndpoint, Refused> {
        self.changes_endpoint_by(pb::UpdateWebhookEndpointRequest {
            endpoint: Some(endpoint),
            update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
            ..Default::default()
        })
        .await
    }

    pub(crate) async fn changes_endpoint_by(
        &self,
        request: pb::UpdateWebhookEndpointRequest,
    ) -> Result<pb::WebhookEndpoint, Refused> {
        let request = pb::UpdateWebhookEndpointRequest { organization_id: self.organization_id.clone(), ..request };
        answer(self.webhooks().update_webhook_endpoint(request).await).map(|answer| answer.endpoint.expect("it"))
    }

    pub(crate) async fn rotates(&self, endpoint_id: &str, at_once: bool) -> Result<Made, Refused> {
        let (organization_id, endpoint_id) = (self.organization_id.clone(), endpoint_id.to_owned());
        let request = pb::RotateWebhookSecretRequest { organization_id, endpoint_id, at_once, ..Default::default() };
        let rotated = answer(self.webhooks().rotate_webhook_secret(request).await)?;
        Ok(Made { endpoint: rotated.endpoint.expect("an endpoint"), secret: rotated.secret })
    }

    pub(crate) async fn drops_endpoint(&self, endpoint_id: &str) -> Result<pb::WebhookEndpoint, Refused> {
        let (organization_id, endpoint_id) = (self.organization_id.clone(), endpoint_id.to_owned());
        let request = pb::DeleteWebhookEndpointRequest { organization_id, endpoint_id, ..Default::default() };
        answer(self.webhooks().delete_webhook_endpoint(request).await).map(|answer| answer.endpoint.expect("it"))
    }

    /// What an endpoint was told, the latest first.
    pub(crate) async fn deliveries(&self, endpoint_id: &str) -> Vec<pb::WebhookDelivery> {
        self.deliveries_in(endpoint_id, &[]).await.expect("deliveries")
    }

    pub(crate) async fn deliveries_in(
        &self,
        endpoint_id: &str,
        states: &[pb::WebhookDeliveryState],
    ) -> Result<Vec<pb::WebhookDelivery>, Refused> {
        let request = pb::ListWebhookDeliveriesRequest {
            organization_id: self.organization_id.clone(),
            endpoint_id: endpoint_id.into(),
            states: states.iter().map(|state| i32::from(*state)).collect(),
            ..Default::default()
        };
        answer(self.webhooks().list_webhook_deliveries(request).await).map(|answer| answer.deliveries)
    }

    pub(crate) async fn redelivers(&self, endpoint_id: &str, event_numbers: &[i64]) -> Result<i32, Refused> {
        let request = pb::RedeliverWebhooksRequest {
            organization_id: self.organization_id.clone(),
            endpoint_id: endpoint_id.into(),
            event_numbers: event_numbers.to_vec(),
            ..Default::default()
        };
        answer(self.webhooks().redeliver_webhooks(request).await).map(|answer| answer.event_count)
    }
}
