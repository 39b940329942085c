//! Scrapes of a real engine, and `promtool`, which reads them as Prometheus does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use test_engine::{Engine, root, scratch};

/// How long Prometheus waits for a scrape by default.
const SCRAPE_MAX: Duration = Duration::from_secs(10);

/// One scrape: the value of each series; none when the engine could not be reached.
pub(crate) type Scrape = Option<BTreeMap<String, f64>>;

/// What the engine exposes, in the format that this header accepts.
pub(crate) fn exposed(engine: &Engine, accept: &str) -> std::io::Result<String> {
    let (status, body) = asked(engine, &format!("Accept: {accept}"))?;
    assert_eq!(status, 200, "{body}");
    Ok(body)
}

/// The status and the body of the answer to a request for the metrics with this header.
pub(crate) fn asked(engine: &Engine, header: &str) -> std::io::Result<(u16, String)> {
    let host = engine.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(SCRAPE_MAX))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {host}\r\n{header}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.expect("an answer has a status"), body.to_owned()))
}

/// Scrapes the engine as Prometheus does.
pub(crate) fn scrape(engine: &Engine) -> Scrape {
    let text = exposed(engine, "text/plain").ok()?;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        (series.to_owned(), value.parse().expect("a value is a number"))
    };
    Some(samples.map(sample).collect())
}

/// `promtool`, which `make setup` installs.
fn promtool() -> Command {
    let own = root().join("target/tools/bin/promtool");
    if own.exists() { Command::new(own) } else { Command::new("promtool") }
}

/// Runs `promtool` with this input, and returns what it says and whether it is content.
pub(crate) fn run_promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let begun = promtool().args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = begun.expect("promtool is needed: run `make setup` (Debian has it in the package prometheus)");
    // It may have ended before it has read everything.
    let _ = child.stdin.take().expect("its input is piped").write_all(input.as_bytes());
    let done = child.wait_with_output().expect("promtool ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.success(), text(&done.stdout) + &text(&done.stderr))
}

/// The file with the alerts.
pub(crate) fn alerts() -> std::path::PathBuf {
    root().join("deploy/prometheus/alerts.yml")
}

/// The names of metrics that an alert's condition mentions.
fn names_in(alert: &str) -> BTreeSet<String> {
    let rules = std::fs::read_to_string(alerts()).expect("there is a file with alerts");
    let rule = rules.split("- alert: ").find(|rule| rule.lines().next() == Some(alert));
    let condition = rule.unwrap_or_else(|| panic!("there is no alert {alert}")).split("labels:").next().unwrap();
    let words = condition.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("cerebelum_") || *word == "up").map(str::to_owned).collect()
}

/// Scrapes with the minutes at which Prometheus would have made them: an axis of its own, since an alert that waits for ten
/// minutes is not waited for.
#[derive(Default)]
pub(crate) struct Timeline {
    scrapes: Vec<(u32, Scrape)>,
}

impl Timeline {
    /// The minute of the last scrape.
    pub(crate) fn end(&self) -> u32 {
        self.scrapes.last().map_or(0, |(minute, _)| *minute)
    }

    /// Adds a scrape, this many minutes after the one before. In between, the state before lasts.
    pub(crate) fn add(&mut self, minutes_later: u32, scrape: Scrape) {
        let minute = if self.scrapes.is_empty() { 0 } else { self.end() + minutes_later };
        self.scrapes.push((minute, scrape));
    }

    /// The values that the last scrape has of this metric.
    pub(crate) fn last(&self, name: &str) -> Vec<f64> {
        let last = self.scrapes.last().and_then(|(_, scrape)| scrape.as_ref()).expect("the engine was reached");
        let is_it = |series: &&String| series.split('{').next() == Some(name);
        last.iter().filter(|(series, _)| is_it(series)).map(|(_, value)| *value).collect()
    }

    /// The values of one series, minute by minute up to the last one, as `promtool` wants them.
    fn values(&self, series: &str, until: u32) -> String {
        let value = |scrape: &Scrape| match (scrape, series) {
            (scrape, "up") => if scrape.is_some() { "1" } else { "0" }.to_owned(),
            (Some(scrape), _) => scrape.get(series).map_or("_".to_owned(), f64::to_string),
            (None, _) => "_".to_owned(),
        };
        let mut values = Vec::new();
        for (at, (minute, scrape)) in self.scrapes.iter().enumerate() {
            let next = self.scrapes.get(at + 1).map_or(until + 1, |(next, _)| *next);
            let value = value(scrape);
            values.extend((*minute..next).map(|_| value.clone()));
        }
        values.join(" ")
    }

    /// Asserts that the alert does not fire at the minute `calm`, and does at the minute `trouble`.
    pub(crate) fn assert_fires(&self, alert: &str, calm: u32, trouble: u32) {
        let names = names_in(alert);
        let name = |series: &str| series.split('{').next().unwrap_or_default().to_owned();
        let all: BTreeSet<&str> = self
            .scrapes
            .iter()
            .filter_map(|(_, scrape)| scrape.as_ref())
            .flatten()
            .map(|(series, _)| &**series)
            .collect();
        let wanted = all.into_iter().filter(|series| names.contains(&name(series)));
        let wanted: Vec<&str> = wanted.chain(names.contains("up").then_some("up")).collect();
        assert!(!wanted.is_empty(), "{alert} looks at {names:?}, of which nothing was scraped");
        let mut text = format!("rule_files: [{:?}]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n", alerts());
        text.push_str("  input_series:\n");
        for series in wanted {
            let labels = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            let (name, comma) = (name(series), if labels.is_empty() { "" } else { "," });
            let series_now = format!("{name}{{job=\"cerebelum\",instance=\"engine\"{comma}{labels}}}");
            let values = self.values(series, trouble.max(self.end()));
            text.push_str(&format!("  - series: '{series_now}'\n    values: '{values}'\n"));
        }
        text.push_str("  promql_expr_test:\n");
        let firing = format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}) > bool 0");
        for (minute, samples) in [(calm, "[]"), (trouble, "[{ labels: '{}', value: 1 }]")] {
            let wanted = format!("eval_time: {minute}m\n    exp_samples: {samples}\n");
            text.push_str(&format!("  - expr: '{firing}'\n    {wanted}"));
        }
        let folder = scratch();
        let file = folder.0.join("test.yml");
        std::fs::write(&file, &text).expect("a file can be written in a new folder");
        let (is_content, said) = run_promtool(&["test", "rules", &file.display().to_string()], "");
        assert!(is_content, "{alert}, calm at {calm} and in trouble at {trouble}:\n{said}\n{text}");
    }
}
