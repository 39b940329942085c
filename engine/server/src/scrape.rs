//! `/metrics`: what the server measures of requests, and the formats in which all metrics are read.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cerebelum_worker::{Engine, InFlight, METRICS_PREFIX};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::access::{ACTIONS, grpc_code};
use crate::guard::PROBES;
use crate::proto::engine_server::SERVICE_NAME;
use crate::rest::PREFIX;

const SECONDS: [f64; 11] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The interfaces of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Rest,
    Pages,
    Probes,
}

impl Protocol {
    const ALL: [Self; 4] = [Self::Grpc, Self::Rest, Self::Pages, Self::Probes];

    const fn word(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
            Self::Pages => "pages",
            Self::Probes => "probes",
        }
    }
}

/// What matches no method or route. What strangers make up is no label.
const OTHER: &str = "other";

/// Histograms by one label.
type Histograms = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// What the server measures of requests. Clones measure the same.
#[derive(Debug, Clone)]
pub(crate) struct RequestMetrics {
    requests: Family<[(&'static str, String); 3], Counter>,
    seconds: Histograms,
    in_flight: Family<[(&'static str, &'static str); 1], Gauge>,
    /// In the order of [`Protocol::ALL`].
    of_protocol: [(Histogram, Gauge); Protocol::ALL.len()],
}

impl Default for RequestMetrics {
    fn default() -> Self {
        let new: fn() -> Histogram = || Histogram::new(SECONDS);
        let (seconds, in_flight) = (Family::new_with_constructor(new), Family::<_, Gauge>::default());
        let of_protocol = Protocol::ALL.map(|protocol| {
            let label = [("protocol", protocol.word())];
            (Family::get_or_create_owned(&seconds, &label), in_flight.get_or_create_owned(&label))
        });
        Self { requests: Family::default(), seconds, in_flight, of_protocol }
    }
}

impl RequestMetrics {
    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix(METRICS_PREFIX);
        registry.register("requests", "Requests to the port that were answered", self.requests.clone());
        let help = "Time from a request to its answer; of a stream, to its beginning";
        registry.register_with_unit("request", help, Unit::Seconds, self.seconds.clone());
        let help = "Requests to the port that have no answer yet";
        registry.register("requests_in_flight", help, self.in_flight.clone());
        registry
    }
}

/// Measures a request, refused ones included.
pub(crate) async fn measure(State(metrics): State<RequestMetrics>, request: Request, next: Next) -> Response {
    let (protocol, method) = named(&request);
    let (seconds, in_flight) = &metrics.of_protocol[protocol as usize];
    let (began, is_in_flight) = (Instant::now(), InFlight::new(in_flight));
    let answer = next.run(request).await;
    drop(is_in_flight);
    seconds.observe(began.elapsed().as_secs_f64());
    let code = code(protocol, &answer);
    let labels = [("protocol", protocol.word().to_owned()), ("method", method), ("code", code)];
    metrics.requests.get_or_create(&labels).inc();
    answer
}

/// The interface and the method of a request.
fn named(request: &Request) -> (Protocol, String) {
    let path = request.uri().path();
    let content = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], header::HeaderValue::as_bytes);
    if content.starts_with(b"application/grpc") {
        let method = path.strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME));
        let method = method.and_then(|method| method.strip_prefix('/')).unwrap_or_default();
        let known = ACTIONS.iter().find(|(name, _)| *name == method);
        return (Protocol::Grpc, known.map_or(OTHER, |(name, _)| name).to_owned());
    }
    let protocol = match path {
        _ if PROBES.contains(&path) => Protocol::Probes,
        _ if path.starts_with(PREFIX) => Protocol::Rest,
        _ => Protocol::Pages,
    };
    let verbs = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD];
    let verb = verbs.iter().find(|verb| *verb == request.method());
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let method = verb.zip(route).map_or_else(|| OTHER.to_owned(), |(verb, route)| format!("{verb} {route}"));
    (protocol, method)
}

/// The status of HTTP, or the code of gRPC. A stream that is refused later has begun well.
fn code(protocol: Protocol, answer: &Response) -> String {
    match (protocol, grpc_code(answer)) {
        (Protocol::Grpc, Some(code)) => format!("{:?}", tonic::Code::from_i32(code)),
        (Protocol::Grpc, None) if answer.status().is_success() => format!("{:?}", tonic::Code::Ok),
        _ => answer.status().as_str().to_owned(),
    }
}

/// Answers with all metrics.
pub(crate) async fn metrics(
    State((engine, requests)): State<(Engine, RequestMetrics)>,
    headers: HeaderMap,
) -> Response {
    let text = engine.metrics(&requests.registry()).await;
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    if accepted.contains("text/plain") && !accepted.contains("openmetrics") {
        return ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], plain(&text)).into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

/// The same metrics in the older format of Prometheus, which has no units, no traces and no end, and where the type of a
/// counter has the name of its value.
fn plain(text: &str) -> String {
    let counters: std::collections::HashSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|kind| Some((kind, line.strip_prefix(kind)?)));
        match described.and_then(|(kind, rest)| Some((kind, rest.split_once(' ')?))) {
            Some((kind, (name, rest))) if counters.contains(name) => {
                plain.extend([kind, name, "_total ", rest, "\n"]);
            }
            None if line.starts_with("# UNIT ") || line == "# EOF" => {}
            _ => plain.extend([untraced(line), "\n"]),
        }
    }
    plain
}

/// The sample of a line without the trace that a bucket names behind it. The labels of a bucket are none of a user's words.
fn untraced(line: &str) -> &str {
    let is_bucket = line.split_once('{').is_some_and(|(name, _)| name.ends_with("_bucket"));
    line.split_once(" # {").filter(|_| is_bucket).map_or(line, |(sample, _)| sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_counters_in_full_and_has_no_units_and_traces() {
        let text = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total 3\n\
            # HELP c_seconds Time.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 1.5\n\
            d_bucket{le=\"1\"} 2 # {trace_id=\"4bf9\"} 0.5\n# EOF\n";
        let expected = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total 3\n\
            # HELP c_seconds Time.\n# TYPE c_seconds gauge\nc_seconds 1.5\nd_bucket{le=\"1\"} 2\n";
        assert_eq!(plain(text), expected);
    }

    #[test]
    fn a_method_is_one_of_ours_or_other() {
        let of = |verb: &str, path: &str, content: &str| {
            let request = Request::builder().method(verb).uri(path).header("content-type", content);
            let (protocol, method) = named(&request.body(axum::body::Body::empty()).unwrap());
            format!("{} {method}", protocol.word())
        };
        assert_eq!(of("POST", "/cerebelum.v1.Engine/Start", "application/grpc"), "grpc Start");
        assert_eq!(of("POST", "/cerebelum.v1.Engine/Steal", "application/grpc"), "grpc other");
        assert_eq!(of("POST", "/grpc.health.v1.Health/Check", "application/grpc+proto"), "grpc other");
        assert_eq!(of("GET", "/v1/a-made-up-path", "application/json"), "rest other");
        assert_eq!(of("BREW", "/coffee", ""), "pages other");
        assert_eq!(of("GET", "/healthz", ""), "probes other");
    }
}
