//! Traces: a real engine, a collector of our own, and kills in between.

mod collector;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use cerebelum_history::{Seed, SpanContext};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use serde_json::json;
use test_engine::{Cloud, Database, Engine, FAILPOINT, Server, program, until};

use crate::metrics::scrapes::exposed;
use crate::rest::curl;
use crate::sql;
use collector::{Collector, attribute, by_id, execution_of};

on_both_databases!(
    spans_make_one_tree_and_kills_change_no_id,
    a_kill_in_the_middle_of_a_waking_leaves_no_span_without_its_parent,
    a_trace_goes_in_with_the_start_and_out_with_the_requests,
    a_long_wait_begins_a_new_trace_with_links_back,
    a_long_history_goes_on_in_a_new_trace,
    what_ended_a_wait_is_linked_to_it,
    a_collector_that_is_away_changes_nothing_but_a_counter,
    of_an_execution_that_is_not_sampled_only_a_failure_is_told,
);

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// An engine whose spans go to this collector, with these further variables.
struct Traced {
    engine: Engine,
    variables: Vec<(String, String)>,
}

impl Traced {
    fn start(database: Database, collector: &str, more: &[(&str, &str)]) -> Self {
        let mut engine = Engine::start(database);
        engine.upload("test-guests");
        engine.kill();
        let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.to_owned())];
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut traced = Self { engine, variables };
        traced.restart(&[]);
        traced
    }

    fn restart(&mut self, more: &[(&str, &str)]) {
        let mut variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        variables.extend(more);
        self.engine.restart_with(&variables);
    }

    fn kill_and_restart(&mut self) {
        self.engine.kill();
        self.restart(&[]);
    }

    /// The seed from which the ids of an execution's spans come.
    fn seed(&self, id: &str) -> Seed {
        let hex = if self.engine.database().starts_with("sqlite:") { "hex(seed)" } else { "encode(seed, 'hex')" };
        let found = sql(&self.engine, &format!("select {hex} from executions where id = '{id}'")).remove(0).remove(0);
        let byte = |at: usize| u8::from_str_radix(&found[at * 2..at * 2 + 2], 16).unwrap();
        Seed(std::array::from_fn(byte))
    }
}

/// The names of spans under this seed, by their ids.
fn names(seed: &Seed) -> BTreeMap<Vec<u8>, String> {
    let mut names = vec!["start".to_owned()];
    let paths: Vec<String> = std::iter::once(String::new()).chain((1..10).map(|call| format!("{call}@1/"))).collect();
    for waking in 0..10 {
        names.extend([format!("activation {waking}"), format!("end {waking}")]);
        for path in &paths {
            names.push(format!("step {waking} {path}"));
            names.extend((1..10).flat_map(|ordinal| {
                [format!("wait {waking} {path} {ordinal}"), format!("fetch {waking} {path} {ordinal}")]
            }));
        }
    }
    names.into_iter().map(|name| (seed.span_id(1, format_args!("{name}")).to_vec(), name)).collect()
}

/// The names of these spans under the seed, each of which has one; with the names of their parents.
fn named(spans: &[Span], seed: &Seed) -> BTreeMap<String, Option<String>> {
    let names = names(seed);
    let name = |id: &Vec<u8>| names.get(id).cloned();
    let of = |span: &Span| {
        let own = name(&span.span_id).unwrap_or_else(|| panic!("an id that is not made of names: {span:#?}"));
        assert_eq!(own.split(' ').next(), Some(word(span)), "{span:#?}");
        (own, Some(&span.parent_span_id).filter(|id| !id.is_empty()).and_then(name))
    };
    by_id(spans).values().map(of).collect()
}

/// What a span is, as its name in its id says.
fn word(span: &Span) -> &str {
    let word = span.name.split(' ').next().unwrap();
    if word == "POST" || word == "GET" { "fetch" } else { word }
}

/// Asserts that all spans lie within their parents, and that those that may have no parent are the only ones.
fn assert_nested(spans: &[Span]) {
    let found = by_id(spans);
    for span in spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:#?}");
        let Some(parent) = found.get(&span.parent_span_id) else {
            assert_eq!(word(span), "start", "a span without its parent: {span:#?}\n{spans:#?}");
            continue;
        };
        assert_eq!(parent.trace_id, span.trace_id);
        // A start is over when it is durable, and what it began goes on.
        if word(parent) != "start" {
            let lies_within = parent.start_time_unix_nano <= span.start_time_unix_nano
                && span.end_time_unix_nano <= parent.end_time_unix_nano;
            assert!(lies_within, "{span:#?} in {parent:#?}");
        }
    }
}

const NAPS: [(&str, &str); 1] = [("CEREBELUM_HIBERNATE_AFTER", "10ms")];

/// The same workflow with kills in its sleeps and without: the spans have the same names, and so the same ids.
fn spans_make_one_tree_and_kills_change_no_id(database: Database) {
    for workflow in ["naps", "naps_in_a_step"] {
        let (collector, cloud) = (Collector::start(), Cloud::start());
        let mut traced = Traced::start(database, collector.url(), &NAPS);
        let input = json!({"base_url": cloud.url(), "sleep_ms": 1_500, "naps": 2});
        let calm = traced.engine.begin(workflow, &input);
        let end = format!("end test-guests/{workflow}");
        let spans = collector.spans_until(&calm, &end);
        let expected = named(&spans, &traced.seed(&calm));
        assert_nested(&spans);
        let wakings: BTreeSet<&str> = expected.keys().filter_map(|name| name.strip_prefix("activation ")).collect();
        assert_eq!(wakings, BTreeSet::from(["0", "1", "2"]), "{expected:#?}");

        let killed = traced.engine.begin(workflow, &input);
        for waking in 0..2 {
            until("the spans of the waking have arrived", || {
                let activation = format!("activation test-guests/{workflow}");
                let there = collector.spans().into_iter().filter(|span| execution_of(span) == killed);
                (there.filter(|span| span.name == activation).count() > waking).then_some(())
            });
            traced.kill_and_restart();
        }
        assert_eq!(traced.engine.wait_for_end(&killed)["status"], "completed");
        let spans = collector.spans_until(&killed, &end);
        assert_nested(&spans);
        assert_eq!(named(&spans, &traced.seed(&killed)), expected, "{workflow}");
    }
}

/// The engine dies after a request has left, and before its answer is recorded. What it had not sent is lost; all other
/// spans are those of a run without a kill.
fn a_kill_in_the_middle_of_a_waking_leaves_no_span_without_its_parent(database: Database) {
    let (collector, cloud) = (Collector::start(), Cloud::start());
    let mut traced = Traced::start(database, collector.url(), &[]);
    let input = json!({"base_url": cloud.url(), "paths": ["notes/a", "slow/600/b", "notes/c"]});
    let end = "end test-guests/posts";
    let calm = traced.engine.begin("posts", &input);
    let expected = named(&collector.spans_until(&calm, end), &traced.seed(&calm));
    assert_eq!(expected.keys().filter(|name| name.starts_with("fetch")).count(), 3, "{expected:#?}");

    traced.engine.kill();
    // The first request has long been answered and its span exported when the slow one has left.
    traced.restart(&[(FAILPOINT, "effect-sent:2")]);
    let killed = traced.engine.begin("posts", &input);
    traced.engine.wait_for_death();
    traced.restart(&[]);
    assert_eq!(traced.engine.wait_for_end(&killed)["status"], "completed");
    let spans = collector.spans_until(&killed, end);
    let found = named(&spans, &traced.seed(&killed));
    let strange: Vec<_> = found.iter().filter(|(name, parent)| expected.get(*name) != Some(parent)).collect();
    assert!(strange.is_empty(), "{strange:?} are not in {expected:#?}");
    for name in ["start", "activation 0", "fetch 0 1@1/ 1", "step 0 1@1/", "step 0 3@1/", "end 0"] {
        assert!(found.contains_key(name), "no {name} in {found:#?}");
    }
    assert_nested(&spans);
    let activation = spans.iter().find(|span| word(span) == "activation").unwrap();
    assert_eq!(attribute(&activation.attributes, "cerebelum.wake.cause").as_deref(), Some("takeover"));
}

/// The header of a request that really left.
fn header(head: &str, name: &str) -> Option<String> {
    let lower = head.to_ascii_lowercase();
    lower.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
}

/// In: a header of REST, metadata of gRPC, a variable of the command line. Out: the span of the request.
fn a_trace_goes_in_with_the_start_and_out_with_the_requests(database: Database) {
    let (collector, server) = (Collector::start(), Server::start(3, Duration::ZERO));
    let auth = [("OTEL_EXPORTER_OTLP_HEADERS", "x-key=sesame"), ("OTEL_SERVICE_NAME", "the-engine")];
    let traced = Traced::start(database, collector.url(), &auth);
    let engine = &traced.engine;
    let secretive = |path: &str| json!({"method": "GET", "url": server.url(&format!("/private-{path}?word=private")), "headers": [["x-private", "private"]]});

    // By the command line, which sends metadata.
    let started = Command::new(program("cerebelum"))
        .args(["--url", engine.url(), "start", "asks", "--json", "--wait", "--input", &secretive("1").to_string()])
        .envs([("TRACEPARENT", PARENT), ("TRACESTATE", "vendor=1")])
        .output()
        .unwrap();
    let said: serde_json::Value = serde_json::from_slice(&started.stdout).unwrap();
    let cli = said["execution_id"].as_str().unwrap().to_owned();
    let spans = collector.spans_until(&cli, "end test-guests/asks");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == PARENT[3..35] && span.trace_state == "vendor=1"));
    let start = spans.iter().find(|span| word(span) == "start").unwrap();
    assert_eq!(hex(&start.parent_span_id), PARENT[36..52]);
    let fetch = spans.iter().find(|span| word(span) == "fetch").unwrap();
    let head = &server.requests()[0];
    let told = format!("00-{}-{}-01", hex(&fetch.trace_id), hex(&fetch.span_id));
    assert_eq!((header(head, "traceparent"), header(head, "tracestate")), (Some(told), Some("vendor=1".to_owned())));
    let has = |key: &str| attribute(&fetch.attributes, key);
    assert_eq!(has("http.response.status_code").as_deref(), Some("200"));
    assert_eq!(
        (has("server.address").as_deref(), has("server.port")),
        (Some("127.0.0.1"), Some(server.port().to_string()))
    );

    // By REST; the guest's own header goes before.
    let mut asking = secretive("2");
    asking["headers"] = json!([["traceparent", "own"]]);
    let body = json!({"workflow": "asks", "input": asking}).to_string();
    let rest = |parent: &str| {
        let header = format!("traceparent: {parent}");
        let typed = ["-H", "content-type: application/json", "-H", &header];
        let told = curl(engine, ("POST", "/v1/executions?wait=30s"), &typed, body.as_bytes()).json();
        collector.spans_until(told["execution_id"].as_str().unwrap(), "end test-guests/asks")
    };
    assert!(rest(PARENT).iter().all(|span| hex(&span.trace_id) == PARENT[3..35]));
    assert_eq!(header(&server.requests()[1], "traceparent").as_deref(), Some("own"));
    // An invalid one is as good as none.
    let alone = rest("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7");
    assert!(alone.iter().all(|span| hex(&span.trace_id) != PARENT[3..35]));

    let requests = collector.requests().concat();
    assert!(requests.contains("sesame") && requests.contains("the-engine"), "what the collector wants is there");
    assert!(!requests.contains("private"), "a value left the engine: {requests}");
}

/// Each waking after a long wait is a trace of its own.
fn a_long_wait_begins_a_new_trace_with_links_back(database: Database) {
    let (collector, cloud) = (Collector::start(), Cloud::start());
    let more = [
        NAPS[0],
        ("CEREBELUM_TRACE_SEGMENT_AFTER", "300ms"),
        ("CEREBELUM_TRACE_URL", "https://tempo.example.com/t/{trace_id}?a=1&b"),
    ];
    let traced = Traced::start(database, collector.url(), &more);
    let input = json!({"base_url": cloud.url(), "sleep_ms": 1_000, "naps": 2});
    let id = traced.engine.begin("naps", &input);
    let spans = collector.spans_until(&id, "end test-guests/naps");
    let (seed, names) = (traced.seed(&id), names(&traced.seed(&id)));
    let traces: BTreeSet<&Vec<u8>> = spans.iter().map(|span| &span.trace_id).collect();
    assert_eq!(traces, (0..3).map(|segment| seed.trace_id(1, segment).to_vec()).collect::<Vec<_>>().iter().collect());
    for segment in 1..3_u32 {
        let roots =
            spans.iter().filter(|span| span.trace_id == seed.trace_id(1, segment) && span.parent_span_id.is_empty());
        let [root] = roots.collect::<Vec<_>>()[..] else { panic!("one root a trace: {spans:#?}") };
        assert_eq!(names[&root.span_id], format!("activation {segment}"));
        let links: Vec<_> = root
            .links
            .iter()
            .map(|link| {
                (
                    attribute(&link.attributes, "cerebelum.link").unwrap(),
                    names[&link.span_id].clone(),
                    link.trace_id.clone(),
                )
            })
            .collect();
        let start = ("start".to_owned(), "start".to_owned(), seed.trace_id(1, 0).to_vec());
        let before = segment - 1;
        let previous = ("previous".to_owned(), format!("activation {before}"), seed.trace_id(1, before).to_vec());
        assert_eq!(links, [start, previous]);
        // No span is older than its trace, and the wait says how long it was.
        let wait = spans.iter().find(|span| word(span) == "wait" && span.trace_id == root.trace_id).unwrap();
        assert!(wait.start_time_unix_nano >= root.start_time_unix_nano);
        let waited: f64 = attribute(&wait.attributes, "cerebelum.wait_seconds").unwrap().parse().unwrap();
        assert!((1.0..30.0).contains(&waited), "{waited}");
    }
    let ids = (0..3).map(|segment| seed.trace_id(1, segment).iter().map(|byte| format!("{byte:02x}")).collect());
    let ids: Vec<String> = ids.collect();
    // The metrics name the trace in which the execution, or its last step, ended, where their format can.
    let metrics = exposed(&traced.engine, "application/openmetrics-text").unwrap();
    for (name, segment) in [("execution_duration_seconds_bucket{", 2), ("step_duration_seconds_bucket{", 1)] {
        let named = format!(" # {{trace_id=\"{}\"}} ", ids[segment]);
        let is_named = |line: &&str| line.starts_with(&format!("cerebelum_{name}")) && line.contains(&named);
        assert_eq!(metrics.lines().filter(is_named).count(), 1, "{name}{named}: {metrics}");
    }
    assert!(!exposed(&traced.engine, "text/plain").unwrap().contains("trace_id"));
    // The page leads to each of them, the oldest first.
    assert_eq!(traced.engine.json(&["status", &id])["trace_ids"], json!(ids));
    let page = curl(&traced.engine, ("GET", &format!("/executions/{id}")), &[], b"").body;
    let link = |id: &String| format!("href=\"https://tempo.example.com/t/{id}?a=1&amp;b\" rel=\"noreferrer\"");
    let at: Vec<_> =
        ids.iter().map(|id| page.find(&link(id)).unwrap_or_else(|| panic!("{}: {page}", link(id)))).collect();
    assert!(at.is_sorted(), "{page}");
}

/// Signals, approvals and rejections of clients that have a trace, and the end of a child. The signal is received by an
/// engine that did not take it.
fn what_ended_a_wait_is_linked_to_it(database: Database) {
    let collector = Collector::start();
    let mut traced = Traced::start(database, collector.url(), &[]);
    let typed = |traced: &Traced, arguments: &[&str], parent: &str| {
        let command = [&["--url", traced.engine.url()], arguments].concat();
        let said = Command::new(program("cerebelum")).args(command).env("TRACEPARENT", parent).output().unwrap();
        assert!(said.status.success(), "{said:?}");
    };
    let cause_of = |id: &str, what: &str, workflow: &str| {
        let spans = collector.spans_until(id, &format!("end test-guests/{workflow}"));
        let wait = spans.iter().find(|span| span.name == format!("wait {what}")).unwrap().clone();
        let cause = |link: &&Link| attribute(&link.attributes, "cerebelum.link").as_deref() == Some("cause");
        wait.links.iter().find(cause).map(|link| (link.trace_id.clone(), link.span_id.clone()))
    };
    let parent: SpanContext = PARENT.parse().unwrap();
    let parent = (parent.trace.to_vec(), parent.span.to_vec());

    let id = traced.engine.begin("listening", &json!({"names": ["go"]}));
    traced.engine.wait_for(&id, &["waiting"]);
    traced.engine.ok(&["pause", &id]);
    traced.engine.wait_for(&id, &["paused"]);
    typed(&traced, &["signal", &id, "go"], PARENT);
    traced.kill_and_restart();
    traced.engine.ok(&["resume", &id]);
    assert_eq!(cause_of(&id, "signal", "listening"), Some(parent.clone()));

    for (verb, traceparent, cause) in [
        ("approve", PARENT.to_owned(), Some(parent.clone())),
        ("reject", PARENT.to_owned(), Some(parent)),
        // A client whose trace is not recorded.
        ("approve", PARENT.replace("-01", "-00"), None),
    ] {
        let id = traced.engine.begin("asking", &json!({"title": "Go?"}));
        traced.engine.wait_for(&id, &["waiting-for-approval"]);
        typed(&traced, &[verb, &id], &traceparent);
        assert_eq!(cause_of(&id, "approval", "asking"), cause, "{verb} {traceparent}");
    }

    let id = traced.engine.begin("family", &json!({"children": 1, "awaited": true}));
    let cause = cause_of(&id, "child", "family").expect("the child has a trace");
    let end = until("the end of the child has arrived", || {
        collector.spans().into_iter().find(|span| (&span.trace_id, &span.span_id) == (&cause.0, &cause.1))
    });
    assert!(word(&end) == "end" && execution_of(&end) != id, "{end:#?}");
}

/// So many events that one trace would be too long, without a wait.
fn a_long_history_goes_on_in_a_new_trace(database: Database) {
    let collector = Collector::start();
    let traced = Traced::start(database, collector.url(), &[]);
    let done = traced.engine.run("sequence", &json!({"steps": 1_200}));
    assert_eq!(done["output"], json!(1_200));
    let id = done["execution_id"].as_str().unwrap();
    let spans = collector.spans_until(id, "end test-guests/sequence");
    assert_eq!(traced.engine.metric("cerebelum_spans_dropped_total"), 0);
    let (found, seed) = (by_id(&spans), traced.seed(id));
    let (first, second) = (seed.trace_id(1, 0).to_vec(), seed.trace_id(1, 1).to_vec());
    for trace in [&first, &second] {
        let inside: Vec<&Span> = spans.iter().filter(|span| span.trace_id == *trace).collect();
        assert!((100..1_100).contains(&inside.len()), "{} spans", inside.len());
        let roots = inside.iter().filter(|span| span.parent_span_id.is_empty());
        assert_eq!(roots.count(), 1);
        let is_there = |span: &&Span| {
            let parent = found.get(&span.parent_span_id);
            span.parent_span_id.is_empty() || parent.is_some_and(|parent| parent.trace_id == span.trace_id)
        };
        assert!(inside.iter().all(is_there), "a span without its parent");
    }
    assert!(spans.iter().all(|span| span.trace_id == first || span.trace_id == second));
    let steps: BTreeSet<String> = spans
        .iter()
        .filter(|span| word(span) == "step")
        .filter_map(|span| attribute(&span.attributes, "cerebelum.ordinal"))
        .collect();
    assert_eq!(steps.len(), 1_200, "no step is missing");
}

fn a_collector_that_is_away_changes_nothing_but_a_counter(database: Database) {
    let cloud = Cloud::start();
    // This port has no listener any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut traced = Traced::start(database, &format!("http://{gone}"), &[]);
    let input = json!({"base_url": cloud.url(), "paths": ["notes/a", "notes/b", "notes/c"]});
    let done = traced.engine.run("posts", &input);
    assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!(3)));
    until("the spans are counted as lost", || {
        (traced.engine.metric("cerebelum_spans_dropped_total") >= 9).then_some(())
    });
    assert_eq!(traced.engine.metric("cerebelum_spans_exported_total"), 0);
    assert_eq!(traced.engine.metric("cerebelum_ready"), 1);
    assert_eq!(traced.engine.log().matches("the collector takes no spans").count(), 1, "{}", traced.engine.log());
    traced.engine.put_away();
}

fn of_an_execution_that_is_not_sampled_only_a_failure_is_told(database: Database) {
    let (collector, cloud) = (Collector::start(), Cloud::start());
    let more = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")];
    let traced = Traced::start(database, collector.url(), &more);
    let good = traced.engine.run("posts", &json!({"base_url": cloud.url(), "paths": ["notes/a"]}));
    assert_eq!(good["status"], "completed");
    let bad = traced.engine.run("sleeper", &json!(400_u64 * 86_400_000));
    assert_eq!(bad["status"], "failed", "{bad:#}");
    let spans = collector.spans_until(bad["execution_id"].as_str().unwrap(), "end test-guests/sleeper");
    assert_eq!(attribute(&spans[0].attributes, "error.type").as_deref(), Some("invalid-argument"));
    assert_eq!(collector.spans().len(), 1, "{:#?}", collector.spans());
}
