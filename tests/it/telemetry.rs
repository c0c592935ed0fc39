//! What an operator sees: metrics, traces, and that what is deployed beside the service speaks of metrics that there are.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::harness::binary::{Home, Process, until};
use crate::harness::person::Person;
use crate::harness::plain_http::request;
use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

/// Takes spans.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (collector, address) = (Self::default(), listener.local_addr().expect("an address"));
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        (collector, address)
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().expect("no panic").clone()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|of| of.scope_spans);
        self.0.lock().expect("no panic").extend(spans.flat_map(|of| of.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// Somebody whose calls are part of a trace.
fn traced(person: &Person, flags: &str) -> Person {
    let mut traced = person.clone();
    traced.identity.0.push(("traceparent", format!("00-{TRACE}-{PARENT}-{flags}")));
    traced
}

database_tests! {
    async fn a_call_is_part_of_the_trace_that_it_came_with(backend: Backend) {
        let (collector, address) = Collector::start().await;
        let home = Home::new(backend).await;
        // Who has not decided is not traced.
        let settings = ["--otlp", &format!("http://{address}"), "--trace-share", "0", "--log-format", "json"];
        let mut server = Process::start(home.tenantry(&settings)).await;
        let ann = Person::new(server.channel(), "ann").founds("Acme").await;
        traced(&ann, "01").invites(&["bob@example.com"], "member").await;
        traced(&ann, "00").seats().await;
        traced(&ann, "01").tries_to_invite(&[], "member").await.expect_err("nobody");
        server.stop().await;

        let spans = collector.spans();
        let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        names.sort_unstable();
        let invite = "tenantry.v1.MembershipService/InviteMembers";
        assert_eq!(names, ["begin", "commit", invite, invite], "those of the traced calls, and what they did");
        assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
        let of_calls: Vec<_> = spans.iter().filter(|span| span.name == invite).collect();
        for span in &of_calls {
            assert_eq!(hex(&span.parent_span_id), PARENT);
            assert_eq!(span.kind, SpanKind::Server as i32);
        }
        let said = |key: &str| {
            let values = of_calls.iter().flat_map(|span| &span.attributes).filter(|said| said.key == key);
            format!("{:?}", values.map(|said| &said.value).collect::<Vec<_>>())
        };
        let codes = said("rpc.response.status_code");
        assert!(codes.contains("\"OK\"") && codes.contains("\"INVALID_ARGUMENT\""), "{codes}");
        let children = spans.iter().filter(|span| of_calls.iter().any(|call| call.span_id == span.parent_span_id));
        assert_eq!(children.count(), 2, "begin and commit are part of the call");
        for secret in ["bob@example.com", "ann@example.com"] {
            assert!(!format!("{spans:?}").contains(secret), "no address is told");
        }
        let lines = server.log().into_iter().filter(|line| line.contains(&format!("\"trace_id\":\"{TRACE}\""))).count();
        assert_eq!(lines, 3, "the log tells the trace, sent or not: {:#?}", server.log());
        home.end().await;
    }

    async fn calls_are_measured_by_name_and_code(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.invites(&["bob@example.com", "cat@example.com", "dan@example.com"], "member").await;
        ann.tries_to_invite(&["eve@example.com"], "member").await.expect_err("four seats");
        let told = async || {
            let told = request(world.servers[0].metrics_address, "GET", "/metrics", &[], b"").await;
            String::from_utf8(told.body).expect("text")
        };
        let call = |code: &str| {
            format!("tenantry_rpc_duration_seconds_count{{service=\"MembershipService\",method=\"InviteMembers\",code=\"{code}\"}} 1\n")
        };
        until("both calls are measured", async || told().await.contains(&call("FAILED_PRECONDITION"))).await;
        let text = told().await;
        for line in [
            call("OK").as_str(),
            "tenantry_refusals_total{reason=\"SEAT_LIMIT_REACHED\"} 1\n",
            "tenantry_seats_taken_total 4\n",
            "tenantry_connections 1\n",
            "tenantry_database_up 1\n",
            "tenantry_rpcs_under_way 0\n",
            "tenantry_build_info{version=",
            "tenantry_database_connections{state=\"idle\"}",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");

        // What clients make up has no line of its own.
        let lines = text.lines().count();
        for number in 0..50 {
            let path = format!("/tenantry.v1.OrganizationService/MadeUp{number}");
            let answered = crate::harness::raw::send(&world.channel(), &path, &ann.identity, b"").await;
            answered.outcome.expect_err("there is no such method");
        }
        let unknown = "service=\"unknown\",method=\"unknown\",code=\"UNIMPLEMENTED\"} 50\n";
        until("they are measured as one", async || told().await.contains(unknown)).await;
        assert!(told().await.lines().count() <= lines + 20, "one more name, and its reason");
        world.end().await;
    }
}

/// The metrics that a file speaks of.
fn spoken_of(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("tenantry_")).map(str::to_owned).collect()
}

#[tokio::test]
async fn dashboards_and_alerts_speak_of_metrics_that_there_are() {
    let world = World::new(Backend::Sqlite).await;
    let ann = world.person("ann").founds("Acme").await;
    ann.tries_to_invite(&[], "member").await.expect_err("nobody");
    let told = world.servers[0].app.metrics.told(&world.servers[0].app.database).expect("text");
    let there = spoken_of(&told);
    for file in ["deploy/prometheus/alerts.yaml", "deploy/grafana/tenantry.json"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let spoken_of = spoken_of(&std::fs::read_to_string(&path).expect("a file"));
        assert!(spoken_of.len() > 10, "{file} speaks of {spoken_of:?}");
        let missing: Vec<_> = spoken_of.difference(&there).collect();
        assert!(missing.is_empty(), "{file} speaks of {missing:?}, and there is {there:#?}");
    }
    world.end().await;
}
