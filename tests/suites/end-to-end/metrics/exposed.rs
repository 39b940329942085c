//! What is exposed: exactly the metrics of the page with their labels, clean for `promtool`, few and quick.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cerebelum_server::proto::StartRequest;
use cerebelum_server::proto::engine_client::EngineClient;
use serde_json::json;
use test_engine::{Cloud, Database, Engine, root, until};

use test_postgres::Wire;

use super::scrapes::{alerts, asked, exposed, run_promtool, scrape};
use crate::tenants::token;

on_both_databases!(
    the_engine_exposes_what_the_page_lists_label_by_label,
    five_hundred_workflows_have_few_series_and_a_quick_scrape,
);

/// The most series that an engine with 500 workflows may have.
const SERIES_MAX: usize = 2_000;
/// The longest that a scrape may take; the median of several.
const SCRAPE_MAX: Duration = Duration::from_millis(50);
const SCRAPES: usize = 9;
/// Longer than a token is trusted as it was read.
const TRUSTED: Duration = Duration::from_secs(5);

/// The type and the labels of each metric.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The metrics of the page.
fn listed() -> Metrics {
    let page = std::fs::read_to_string(root().join("docs/observability.md")).unwrap();
    let rows = page.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let metric = |cells: Vec<&str>| {
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        let is_metric = cells.len() == 6 && (name.starts_with("cerebelum_") || name.starts_with("process_"));
        let labels = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        is_metric.then(|| (name.to_owned(), (cells[2].to_owned(), labels)))
    };
    rows.filter_map(metric).collect()
}

/// The metrics of a scrape in the older format.
fn metrics(text: &str) -> Metrics {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut found: Metrics = types.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new()))).collect();
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = sample.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let bases = ["", "_bucket", "_sum", "_count"].into_iter().filter_map(|suffix| name.strip_suffix(suffix));
        let base = bases.into_iter().find(|base| found.contains_key(*base)).unwrap_or_else(|| panic!("{sample}"));
        let base = base.to_owned();
        let names = labels.split("=\"").filter_map(|before| before.rsplit([',', '"', '{']).next());
        let names = names.filter(|name| !name.is_empty() && *name != "}" && *name != "le");
        found.get_mut(&base).unwrap().1.extend(names.map(str::to_owned));
    }
    found
}

fn the_engine_exposes_what_the_page_lists_label_by_label(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start_with(database, &[]);
    engine.upload("test-guests");
    assert_eq!(engine.run("posts", &json!({"base_url": cloud.url(), "paths": ["notes/1"]}))["output"], json!(1));
    // A request for metrics counts among the requests of the next one.
    exposed(&engine, "text/plain").unwrap();
    let text = exposed(&engine, "text/plain").unwrap();
    let (is_content, said) = run_promtool(&["check", "metrics"], &text);
    assert!(is_content && said.trim().is_empty(), "promtool check metrics: {said}");
    let (is_content, said) = run_promtool(&["check", "rules", &alerts().display().to_string()], "");
    assert!(is_content && said.contains("SUCCESS"), "promtool check rules: {said}");
    assert_eq!(metrics(&text), listed());
    // The other format has the same series.
    let open = exposed(&engine, "application/openmetrics-text; version=1.0.0, text/plain;q=0.5").unwrap();
    assert!(open.ends_with("# EOF\n") && !text.contains("# EOF"), "{open}");
    let series = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let (text, open) = (series(&text), series(&open));
    let differ: Vec<&String> = text.symmetric_difference(&open).collect();
    assert!(differ.is_empty(), "{differ:?}");
}

/// 500 workflows: twenty of the guests' in each of 25 components.
const WORKFLOWS: [(&str, &str); 20] = [
    ("sequence", r#"{"steps":2}"#),
    ("parallel", r#"{"steps":2}"#),
    ("echo", "1"),
    ("sleeper", "1"),
    ("std_sleeper", "1"),
    ("observe", "1"),
    ("telling", "1"),
    ("descend", "0"),
    ("swallowing", r#""x""#),
    ("countdown", "1"),
    ("nested", "1"),
    ("brood", "1"),
    ("hostile", r#""unknown""#),
    ("hostile_step", r#""unknown""#),
    ("listening", r#"{"names":[]}"#),
    ("posts", r#"{"base_url":"","paths":[]}"#),
    ("posts_at_once", r#"{"base_url":"","paths":[]}"#),
    ("load", r#"{"what":"unknown","count":0}"#),
    ("naps", r#"{"base_url":"","sleep_ms":1,"naps":0}"#),
    ("padded_sleeper", r#"{"sleep_ms":1,"padding":""}"#),
];
const COMPONENTS: usize = 25;

/// Whether all of these were started. On a busy machine the database may not answer for all at once.
fn all_started(engine: &Engine, requests: Vec<StartRequest>) -> bool {
    use cerebelum_server::proto::start_many_response::result::Result::Refused;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = runtime.block_on(async {
        let mut client = EngineClient::connect(engine.url().to_owned()).await.unwrap();
        client.start_many(futures::stream::iter(requests)).await.unwrap().into_inner().results
    });
    let refused: Vec<_> =
        answers.into_iter().filter_map(|answer| answer.result).filter(|one| matches!(one, Refused(_))).collect();
    let is_later = |one: &_| matches!(one, Refused(refused) if refused.code == tonic::Code::Unavailable as i32);
    assert!(refused.iter().all(is_later), "{refused:?}");
    refused.is_empty()
}

fn five_hundred_workflows_have_few_series_and_a_quick_scrape(database: Database) {
    let engine = Engine::start(database);
    let component = test_engine::component("test-guests");
    for number in 0..COMPONENTS {
        engine.ok(&["upload", &component, "--name", &format!("c{number}")]);
    }
    let start = |number: usize, (workflow, input): (&str, &str)| StartRequest {
        workflow: format!("c{number}/{workflow}"),
        input: input.to_owned(),
        execution_id: Some(format!("{number}-{workflow}")),
        ..StartRequest::default()
    };
    for number in 0..COMPONENTS {
        let requests = || WORKFLOWS.map(|workflow| start(number, workflow)).to_vec();
        until("all are started", || all_started(&engine, requests()).then_some(()));
    }
    let ended = || engine.metric("cerebelum_executions_ended_total");
    until("all have ended", || (ended() >= (COMPONENTS * WORKFLOWS.len()) as u64).then_some(()));
    let series = scrape(&engine).unwrap();
    let of = |name: &str| series.keys().filter(|series| series.starts_with(name)).count();
    assert_eq!(of("cerebelum_executions_started_total{"), 201, "200 of their own, and `other`");
    let other: f64 = series["cerebelum_executions_started_total{workflow=\"other\"}"];
    assert!((other - 300.0).abs() < 0.5, "the other 300: {other}");
    let failed = series.iter().filter(|(series, count)| series.contains("outcome=\"failed\"") && **count > 0.0);
    assert!(failed.count() > 1, "some of them fail");
    let mut took: Vec<Duration> = (0..SCRAPES)
        .map(|_| {
            let began = Instant::now();
            exposed(&engine, "application/openmetrics-text").unwrap();
            began.elapsed()
        })
        .collect();
    took.sort();
    let median = took[SCRAPES / 2];
    eprintln!("{database:?}: {} series, a scrape takes {median:.1?} (median of {SCRAPES})", series.len());
    assert!(series.len() <= SERIES_MAX, "{} series", series.len());
    assert!(median <= SCRAPE_MAX, "{took:?}");
}

/// While the database does not answer, who reads the metrics is who read them lately. Nothing else is answered.
#[test]
fn a_known_token_reads_the_metrics_while_the_database_is_away() {
    let wire = Wire::to(&test_postgres::database());
    let engine = Engine::start_at(wire.url(), &[]);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let viewer = token(&engine, &admin, &["--role", "viewer", "--name", "prometheus"]);
    let approver = token(&engine, &admin, &["--role", "approver", "--name", "bob"]);
    let revoked = token(&engine, &admin, &["--role", "viewer", "--name", "eve"]);
    let status = |token: &str| asked(&engine, &format!("Authorization: Bearer {token}")).unwrap().0;
    let all = || [&viewer, &approver, &revoked].map(|token| status(token));
    assert_eq!(all(), [200, 403, 200]);
    let id = revoked.split('_').nth(1).unwrap();
    let said = engine.cli(&["--token", &admin, "token", "revoke", id]);
    assert_eq!(said.code, 0, "{said:?}");
    until("it is revoked", || (all() == [200, 403, 401]).then_some(()));
    wire.take_down();
    let away = Instant::now();
    until("no token is trusted as it was read", || (away.elapsed() > TRUSTED).then_some(()));
    let unknown = format!("{}{}", &viewer[..viewer.len() - 8], "00000000");
    assert_eq!((all(), status(&unknown)), ([200, 403, 503], 503));
    let (code, metrics) = asked(&engine, &format!("Authorization: Bearer {viewer}")).unwrap();
    assert!(code == 200 && metrics.contains("\ncerebelum_ready "), "{metrics}");
    let said = engine.cli(&["--token", &viewer, "list"]);
    assert_eq!(said.code, 4, "only the metrics are answered: {said:?}");
}
