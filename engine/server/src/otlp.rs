//! Sends spans to a collector: OTLP over gRPC.

use std::sync::OnceLock;
use std::time::Duration;

use cerebelum_worker::{AttributeValue, Exporting, Span, SpanExporter, SpanKind, SpanLink};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as WireSpan, Status};
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// How long a connection to the collector may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Sends spans to one collector.
pub struct OtlpExporter {
    endpoint: Endpoint,
    headers: MetadataMap,
    resource: Resource,
    /// Made with the first spans, and connected again by itself.
    client: OnceLock<TraceServiceClient<Channel>>,
}

impl OtlpExporter {
    /// Spans for the collector at this address. The headers go with each request, and the attributes say which service
    /// sends.
    ///
    /// # Errors
    /// One line for a person, when the address or a header is not valid.
    pub fn new(url: &str, headers: &[(String, String)], attributes: &[(String, String)]) -> Result<Self, String> {
        let is_tls = url.starts_with("https://");
        let wrong =
            || format!("the collector's address `{url}` is not valid: write http://HOST:PORT or https://HOST:PORT");
        if !is_tls && !url.starts_with("http://") {
            return Err(wrong());
        }
        let mut endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?.connect_timeout(CONNECT_MAX);
        if is_tls {
            let tls = ClientTlsConfig::new().with_enabled_roots();
            endpoint = endpoint.tls_config(tls).map_err(|e| format!("TLS to the collector at {url}: {e}"))?;
        }
        let mut sent = MetadataMap::new();
        for (name, value) in headers {
            let invalid = || format!("`{name}` is not a valid header for the collector, or its value is not");
            let key = MetadataKey::<Ascii>::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| invalid())?;
            let mut value = value.parse::<MetadataValue<Ascii>>().map_err(|_| invalid())?;
            value.set_sensitive(true);
            sent.insert(key, value);
        }
        let attributes = attributes.iter().map(|(key, value)| attribute(key, Value::StringValue(value.clone())));
        let resource = Resource { attributes: attributes.collect(), ..Resource::default() };
        Ok(Self { endpoint, headers: sent, resource, client: OnceLock::new() })
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "cerebelum".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = spans.into_iter().map(wire).collect();
        let spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let resource = Some(self.resource.clone());
        let spans = ResourceSpans { resource, scope_spans: vec![spans], ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![spans] }
    }
}

impl SpanExporter for OtlpExporter {
    fn export(&self, spans: Vec<Span>) -> Exporting<'_> {
        Box::pin(async move {
            let client = self.client.get_or_init(|| TraceServiceClient::new(self.endpoint.connect_lazy()));
            let mut request = tonic::Request::new(self.request(spans));
            request.metadata_mut().clone_from(&self.headers);
            let answer = client.clone().export(request).await.map_err(|status| line_of(&status))?.into_inner();
            let refused = answer.partial_success.filter(|refused| refused.rejected_spans > 0);
            refused.map_or(Ok(()), |refused| {
                Err(format!("the collector refused {} spans: {}", refused.rejected_spans, refused.error_message))
            })
        })
    }
}

/// What the collector, or the way to it, says.
fn line_of(status: &tonic::Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("{}: {cause}", status.code()).replace('\n', " ")
}

fn wire(span: Span) -> WireSpan {
    let flags = |is_sampled: bool| u32::from(is_sampled);
    let mut attributes: Vec<KeyValue> =
        span.attributes.into_iter().map(|(key, value)| attribute(key, wire_value(value))).collect();
    attributes.extend(span.failure.as_ref().map(|kind| attribute("error.type", Value::StringValue(kind.clone()))));
    let kind = match span.kind {
        SpanKind::Internal => opentelemetry_proto::tonic::trace::v1::span::SpanKind::Internal,
        SpanKind::Client => opentelemetry_proto::tonic::trace::v1::span::SpanKind::Client,
    };
    let link = |link: SpanLink| Link {
        trace_id: link.context.trace.to_vec(),
        span_id: link.context.span.to_vec(),
        attributes: vec![attribute("cerebelum.link", Value::StringValue(link.what.to_owned()))],
        flags: flags(link.context.is_sampled),
        ..Link::default()
    };
    WireSpan {
        trace_id: span.context.trace.to_vec(),
        span_id: span.context.span.to_vec(),
        trace_state: span.state.unwrap_or_default(),
        parent_span_id: span.parent.map(Vec::from).unwrap_or_default(),
        flags: flags(span.context.is_sampled),
        name: span.name,
        kind: kind.into(),
        start_time_unix_nano: nanoseconds(span.began.0),
        end_time_unix_nano: nanoseconds(span.ended.0),
        attributes,
        links: span.links.into_iter().map(link).collect(),
        status: span.failure.map(|_| Status { message: String::new(), code: StatusCode::Error.into() }),
        ..WireSpan::default()
    }
}

fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn wire_value(value: AttributeValue) -> Value {
    match value {
        AttributeValue::Text(text) => Value::StringValue(text.to_string()),
        AttributeValue::Integer(number) => Value::IntValue(number),
        AttributeValue::Seconds(seconds) => Value::DoubleValue(seconds),
    }
}
