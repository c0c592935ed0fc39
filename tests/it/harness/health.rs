//! What a server says of its health.

use tonic::Status;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

pub(crate) async fn health(channel: &Channel, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(channel.clone()).check(request).await.map(|answer| answer.into_inner().status())
}

/// Whether it takes calls.
pub(crate) async fn is_ready(channel: &Channel) -> bool {
    health(channel, "readiness").await.is_ok_and(|status| status == ServingStatus::Serving)
}
