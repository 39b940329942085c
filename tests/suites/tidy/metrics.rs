//! The metrics: what the page documents is what the dashboard and the alerts use, label by label, and each alert leads to
//! its section. What the engine exposes is compared with the page by `tests/suites/end-to-end/metrics`.

use std::collections::{BTreeMap, BTreeSet};

use crate::complain;
use crate::sources::read;

const PAGE: &str = "docs/observability.md";
const DASHBOARD: &str = "deploy/grafana/cerebelum.json";
const ALERTS: &str = "deploy/prometheus/alerts.yml";
/// Labels that Prometheus adds, or that belong to every histogram.
const OF_ALL: [&str; 3] = ["job", "instance", "le"];
/// What Prometheus itself says of each engine.
const OF_PROMETHEUS: &str = "up";

/// A metric of the table: its type and its labels.
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

/// The metrics of the page, by name.
fn documented() -> BTreeMap<String, Metric> {
    let mut found = BTreeMap::new();
    for line in read(PAGE).lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1).and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
        if let (Some(name), true) = (name.filter(|name| is_metric(name)), cells.len() == 6) {
            let labels = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let twice = found.insert(name.to_owned(), Metric { kind: cells[2].to_owned(), labels });
            assert!(twice.is_none(), "{name} is documented twice");
        }
    }
    found
}

fn is_metric(word: &str) -> bool {
    word.starts_with("cerebelum_") || word.starts_with("process_")
}

/// The queries of the dashboard and the conditions of the alerts.
fn queries() -> Vec<String> {
    let dashboard = read(DASHBOARD);
    let of_panel = |line: &str| {
        let query = line.trim().trim_end_matches(',').strip_prefix("\"expr\": \"")?.strip_suffix('"')?.to_owned();
        Some(query.replace("\\\"", "\""))
    };
    let mut found: Vec<String> = dashboard.lines().filter_map(of_panel).collect();
    let alerts = read(ALERTS);
    let rules = alerts.split("- alert: ").skip(1);
    let expressions = rules.filter_map(|rule| rule.split_once("expr: ")?.1.split_once("labels:"));
    found.extend(expressions.map(|(expression, _)| {
        let lines = expression.lines().map(str::trim).filter(|line| !line.starts_with("for:") && *line != ">-");
        lines.collect::<Vec<_>>().join(" ")
    }));
    found
}

/// The metric that a series belongs to: series of histograms have a suffix.
fn metric_of<'a>(series: &'a str, documented: &BTreeMap<String, Metric>) -> &'a str {
    let bases = ["_bucket", "_sum", "_count"].into_iter().filter_map(|suffix| series.strip_suffix(suffix));
    let is_histogram = |base: &&str| documented.get(*base).is_some_and(|metric| metric.kind == "histogram");
    let mut histograms = bases.filter(is_histogram);
    histograms.next().unwrap_or(series)
}

/// The series of a query, each with the labels by which it selects.
fn series(query: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let word: String =
            rest[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || "_:".contains(*c)).collect();
        rest = &rest[start + word.len()..];
        if is_metric(&word) || word == OF_PROMETHEUS {
            let selectors = rest.strip_prefix('{').and_then(|selectors| selectors.split_once('}'));
            let labels = selectors.map(|(inside, _)| inside.split(',').map(label).collect()).unwrap_or_default();
            rest = selectors.map_or(rest, |(_, rest)| rest);
            found.push((word, labels));
        }
    }
    found
}

/// The label of one selector.
fn label(selector: &str) -> String {
    selector.trim().split(['=', '!']).next().unwrap_or_default().to_owned()
}

/// The labels by which a query groups.
fn grouped(query: &str) -> Vec<String> {
    let groups = query.split("by (").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    groups.flat_map(|labels| labels.split(',').map(|label| label.trim().to_owned())).collect()
}

#[test]
fn what_is_documented_is_used_and_nothing_else() {
    let documented = documented();
    let mut used = BTreeSet::new();
    let mut problems = Vec::new();
    for query in queries() {
        let mut known: BTreeSet<String> = OF_ALL.map(str::to_owned).into();
        for (name, labels) in series(&query) {
            if name == OF_PROMETHEUS {
                continue;
            }
            let metric = metric_of(&name, &documented).to_owned();
            let Some(Metric { kind, labels: its }) = documented.get(&metric) else {
                problems.push(format!("`{name}` is used and not documented: {query}"));
                continue;
            };
            if (kind == "histogram") != (metric != name) {
                problems.push(format!("`{name}` is a {kind} and no series: {query}"));
            }
            known.extend(its.iter().cloned());
            let has = |label: &&String| its.contains(*label) || OF_ALL.contains(&label.as_str());
            problems.extend(
                labels.iter().filter(|label| !has(label)).map(|label| format!("{name} has no `{label}`: {query}")),
            );
            used.insert(metric);
        }
        let strange = grouped(&query).into_iter().filter(|label| !known.contains(label));
        problems.extend(strange.map(|label| format!("no metric has `{label}`: {query}")));
    }
    let idle = documented.keys().filter(|name| !used.contains(*name));
    problems.extend(idle.map(|name| format!("{name} is documented, and neither a panel nor an alert uses it")));
    assert!(used.len() > 60, "the page, the dashboard and the alerts can be read: {}", used.len());
    complain(&problems);
}

#[test]
fn counters_and_only_counters_end_in_total() {
    let wrong =
        documented().into_iter().filter(|(name, metric)| name.ends_with("_total") != (metric.kind == "counter"));
    complain(&wrong.map(|(name, metric)| format!("{name} is a {}", metric.kind)).collect::<Vec<_>>());
}

#[test]
fn each_alert_leads_to_its_section_and_each_section_has_an_alert() {
    let (alerts, page) = (read(ALERTS), read(PAGE));
    let mut named = BTreeSet::new();
    let mut problems = Vec::new();
    for rule in alerts.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap_or_default().trim();
        let runbook = rule.lines().find_map(|line| line.trim().strip_prefix("runbook: ")).unwrap_or_default();
        if runbook != format!("{PAGE}#{}", name.to_lowercase()) || !page.contains(&format!("\n### {name}\n")) {
            problems.push(format!("{name} leads to `{runbook}`, where nothing is about it"));
        }
        named.insert(name.to_owned());
    }
    let sections = page.split("\n## Alerts\n").nth(1).unwrap_or_default();
    let sections = sections.lines().filter_map(|line| line.strip_prefix("### "));
    problems.extend(sections.filter(|name| !named.contains(*name)).map(|name| format!("there is no alert {name}")));
    assert!(named.len() >= 10, "the alerts can be read: {named:?}");
    complain(&problems);
}

#[test]
fn a_query_is_read_as_prometheus_reads_it() {
    let query =
        r#"sum by (job, le) (rate(cerebelum_a_bucket{job=~"$job", status!="x"}[5m])) / process_b and up{job="c"} == 0"#;
    let found = series(query);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["cerebelum_a_bucket", "process_b", "up"]);
    assert_eq!(found[0].1, ["job", "status"]);
    assert_eq!(grouped(query), ["job", "le"]);
}
