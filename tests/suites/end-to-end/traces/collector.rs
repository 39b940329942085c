//! A collector of our own: the OTLP service, which keeps all spans.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use test_engine::until;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What a collector has taken so far.
#[derive(Default)]
struct Taken {
    spans: Mutex<Vec<Span>>,
    /// The text of each request, with its headers.
    requests: Mutex<Vec<String>>,
}

struct Service(Arc<Taken>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.requests.lock().unwrap().push(format!("{request:?}"));
        let sent = request.into_inner().resource_spans.into_iter().flat_map(|of_resource| of_resource.scope_spans);
        self.0.spans.lock().unwrap().extend(sent.flat_map(|of_scope| of_scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on a port of this machine.
pub(crate) struct Collector {
    url: String,
    taken: Arc<Taken>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let taken = Arc::<Taken>::default();
        let service = TraceServiceServer::new(Service(taken.clone()));
        let incoming = {
            let _inside = runtime.enter();
            TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let url = format!("http://{}", incoming.local_addr().unwrap());
        runtime.spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { url, taken, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.taken.spans.lock().unwrap().clone()
    }

    /// The requests so far, as texts that have everything in them.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.taken.requests.lock().unwrap().clone()
    }

    /// The spans of an execution, once one of them has this name.
    pub(crate) fn spans_until(&self, execution: &str, name: &str) -> Vec<Span> {
        until(&format!("the collector has `{name}`"), || {
            let spans: Vec<Span> = self.spans().into_iter().filter(|span| execution_of(span) == execution).collect();
            spans.iter().any(|span| span.name == name).then_some(spans)
        })
    }
}

/// An attribute as text.
pub(crate) fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => panic!("an attribute is a text or a number, not {other:?}"),
    })
}

pub(crate) fn execution_of(span: &Span) -> String {
    attribute(&span.attributes, "cerebelum.execution.id").unwrap_or_default()
}

/// Spans by id; each id is there once.
pub(crate) fn by_id(spans: &[Span]) -> BTreeMap<Vec<u8>, Span> {
    let found: BTreeMap<Vec<u8>, Span> = spans.iter().map(|span| (span.span_id.clone(), span.clone())).collect();
    assert_eq!(found.len(), spans.len(), "a span was sent twice: {spans:#?}");
    found
}
