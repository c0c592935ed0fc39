//! Where there is no RPC, there is nothing; and what everybody may ask: health and reflection.

use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::with;
use crate::harness::methods::{call, methods};
use crate::harness::refused::refused;
use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

database_tests! {
    async fn there_is_nothing_where_there_is_no_rpc(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let nobody = with(world.channel(), &[]);
        for path in [
            "/tenantry.v1.OrganizationService/Nothing",
            "/tenantry.v1.OrganizationService/getOrganization",
            "/tenantry.v1.OrganizationService/GetOrganization/",
            "/tenantry.v1.OrganizationService//GetOrganization",
            "/tenantry.v1.OrganizationService/Get%4frganization",
            "/tenantry.v1.OrganizationService/GetMember",
            "/tenantry.v1.OrganizationService/",
            "/tenantry.v1.OrganizationService",
            "/tenantry.v1.Nothing/GetOrganization",
            "/tenantry.v2.OrganizationService/GetOrganization",
            "/TENANTRY.V1.ORGANIZATIONSERVICE/GETORGANIZATION",
            "/OrganizationService/GetOrganization",
            "/GetOrganization",
            "/nothing",
            "/",
        ] {
            for caller in [&ann, &nobody] {
                let status = call(caller, path, Vec::new(), false).await.expect_err(path);
                assert_eq!(status.code(), Code::Unimplemented, "{path}");
                assert_eq!(refused(&status).reason, "METHOD_UNKNOWN", "{path}");
            }
        }
        world.end().await;
    }

    async fn health_and_reflection_need_no_identity(backend: Backend) {
        let world = World::new(backend).await;
        let request = HealthCheckRequest { service: "liveness".into() };
        let health = HealthClient::new(world.channel()).check(request).await.expect("an answer").into_inner();
        assert_eq!(health.status, 1, "serving");
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { message_request, ..Default::default() };
        let answers = ServerReflectionClient::new(world.channel())
            .server_reflection_info(tokio_stream::once(request))
            .await
            .expect("an answer");
        let answer = answers.into_inner().next().await.expect("one answer").expect("no refusal");
        let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
            panic!("no services: {answer:?}")
        };
        let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
        for method in methods() {
            let service = method.0.parent_service().full_name().to_owned();
            assert!(names.contains(&service), "{service} is not among {names:?}");
        }
        world.end().await;
    }
}
