//! The workloads W1, W2, W4, W7, W9 and W10.

use std::time::{Duration, Instant};

use cerebelum_tests::{Database, Engine};

use crate::ceilings::{Commits, commits};
use crate::load::Client;
use crate::table::Table;

/// How often each figure is taken, unless `RUNS` says otherwise.
const RUNS: usize = 3;
const STRICT: &[(&str, &str)] = &[("RUN_AHEAD_EVENTS_MAX", "0")];

type Where = (&'static str, Database);

/// Runs the workloads on one database.
pub(crate) async fn run(table: &mut Table, database: Where, only: Option<&str>) -> anyhow::Result<()> {
    let wanted = |name: &str| only.is_none_or(|only| only.eq_ignore_ascii_case(name));
    let ceiling = commits(database.1).await?;
    let at = |workload| (workload, database.0);
    table.add(at("–"), "single_row_commits_per_s", vec![ceiling.single], None);
    table.add(at("–"), "rows_per_s_in_100_row_commits", vec![ceiling.hundred_rows], None);
    for (settings, is_strict) in [(&[][..], false), (STRICT, true)] {
        let engine = Engine::start_with(database.1, settings);
        engine.upload("test-guests");
        if wanted("W1") {
            w1(table, database.0, (&engine, &ceiling), is_strict).await?;
        }
        if wanted("W2") {
            w2(table, database.0, (&engine, &ceiling), is_strict).await?;
        }
        if wanted("W4") && !is_strict {
            w4(table, database.0, (&engine, &ceiling)).await?;
        }
    }
    if wanted("W7") {
        w7(table, database, &ceiling).await?;
    }
    if wanted("W9") {
        w9(table, database).await?;
    }
    if wanted("W10") {
        w10(table, database).await?;
    }
    Ok(())
}

/// One workflow, 500 sequential steps: milliseconds a step.
async fn w1(
    table: &mut Table,
    database: &'static str,
    (engine, ceiling): (&Engine, &Commits),
    is_strict: bool,
) -> anyhow::Result<()> {
    let client = Client::connect(engine, 1).await?;
    let mut runs = Vec::new();
    client.run("sequence", &steps(10)).await?;
    for _ in 0..runs_wanted() {
        let instances = engine.metric("cerebelum_guests_started_total");
        let began = Instant::now();
        let status = client.run("sequence", &steps(500)).await?;
        runs.push(began.elapsed().as_secs_f64() * 1_000.0 / 500.0);
        anyhow::ensure!(status.output.as_deref() == Some("500"), "the output of one step is the input of the next");
        let started = engine.metric("cerebelum_guests_started_total") - instances;
        anyhow::ensure!(started == 501, "each step has an instance of its own: {started}");
    }
    let (metric, ceiling) = match is_strict {
        true => ("ms_per_step_strict", Some(("one single-row commit, ms", 1_000.0 / ceiling.single))),
        false => ("ms_per_step", None),
    };
    table.add(("W1", database), metric, runs, ceiling);
    Ok(())
}

/// 200 workflows of 20 sequential steps at once: steps a second.
async fn w2(
    table: &mut Table,
    database: &'static str,
    (engine, ceiling): (&Engine, &Commits),
    is_strict: bool,
) -> anyhow::Result<()> {
    let client = Client::connect(engine, 8).await?;
    let mut runs = Vec::new();
    for _ in 0..runs_wanted() {
        let took = client.run_many("sequence", steps(20), (200, 200)).await?;
        runs.push(4_000.0 / took.as_secs_f64());
    }
    let metric = if is_strict { "steps_per_s_strict" } else { "steps_per_s" };
    table.add(("W2", database), metric, runs, Some(("rows in 100-row commits", ceiling.hundred_rows)));
    Ok(())
}

/// 2,000 one-step workflows through the API: finished a second, with many connections and with one.
async fn w4(table: &mut Table, database: &'static str, (engine, ceiling): (&Engine, &Commits)) -> anyhow::Result<()> {
    for (metric, connections, at_once, count) in
        [("finished_per_s", 8, 64, 2_000), ("finished_per_s_one_connection", 1, 1, 300)]
    {
        let client = Client::connect(engine, connections).await?;
        let mut runs = Vec::new();
        for _ in 0..runs_wanted() {
            let took = client.run_many("sequence", steps(1), (count, at_once)).await?;
            runs.push(f64::from(u32::try_from(count)?) / took.as_secs_f64());
        }
        table.add(("W4", database), metric, runs, Some(("single-row commits", ceiling.single)));
    }
    Ok(())
}

/// An empty workflow over the API, p50 in microseconds; and the first start after a restart with the artifact cached.
async fn w7(table: &mut Table, (name, database): Where, ceiling: &Commits) -> anyhow::Result<()> {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let client = Client::connect(&engine, 1).await?;
    let mut runs = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        client.run("sequence", &steps(0)).await?;
        runs.push(began.elapsed().as_secs_f64() * 1e6);
    }
    table.add(
        ("W7", name),
        "empty_workflow_us",
        vec![crate::table::median(&runs)],
        Some(("one single-row commit, µs", 1e6 / ceiling.single)),
    );
    let mut runs = Vec::new();
    for _ in 0..runs_wanted() {
        engine.kill_and_restart();
        let client = Client::connect(&engine, 1).await?;
        let began = Instant::now();
        client.run("sequence", &steps(0)).await?;
        runs.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    table.add(("W7", name), "first_start_ms", runs, None);
    Ok(())
}

/// Replay: recorded calls a second, from the rows to the first new call, by the slope from 100 to 10,000 calls.
async fn w9(table: &mut Table, (name, database): Where) -> anyhow::Result<()> {
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "100ms")]);
    engine.upload("test-guests");
    let mut runs = Vec::new();
    for _ in 0..runs_wanted() {
        let mut took = Vec::new();
        for calls in [100_u32, 10_000] {
            let client = Client::connect(&engine, 1).await?;
            let input = format!(r#"{{"steps":{calls},"signal":"go"}}"#);
            let id = client.start("sequence_then_signal", &input).await?;
            engine.wait_for(&id, &["waiting"]);
            // A fresh process: nothing is warm but the database.
            engine.kill_and_restart();
            let client = Client::connect(&engine, 1).await?;
            client.run("sequence", &steps(1)).await?;
            // After a kill everything unsettled is rerun at once; let it hibernate before it is measured.
            cerebelum_tests::until("it hibernates", || {
                (engine.metric("cerebelum_executions_in_memory") == 0).then_some(())
            });
            let began = Instant::now();
            client.signal(&id, "go").await?;
            client.wait(&id).await?;
            took.push(began.elapsed());
        }
        let slope: Duration = took[1].saturating_sub(took[0]);
        runs.push(9_900.0 / slope.as_secs_f64());
    }
    table.add(("W9", name), "rust_calls_per_s", runs, None);
    Ok(())
}

/// Python components on an engine that has compiled nothing yet: seconds from the beginning of the upload to the end of
/// the first execution, for the first component and for one that shares its large modules; then an empty workflow, p50.
async fn w10(table: &mut Table, (name, database): Where) -> anyhow::Result<()> {
    let (mut first, mut second, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs_wanted() {
        let mut engine = Engine::start(database);
        engine.kill();
        engine.forget_artifacts();
        engine.restart();
        let client = Client::connect(&engine, 1).await?;
        for (runs, component, workflow, input) in [
            (&mut first, "python-hello", "python-hello/hello", r#""Ada""#),
            (&mut second, "test-python", "test-python/nothing", "null"),
        ] {
            let began = Instant::now();
            engine.upload(component);
            client.run(workflow, input).await?;
            runs.push(began.elapsed().as_secs_f64());
        }
        for _ in 0..100 {
            let began = Instant::now();
            client.run("test-python/nothing", "null").await?;
            empty.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    table.add(("W10", name), "first_component_s", first, None);
    table.add(("W10", name), "s", second, None);
    table.add(("W7", name), "python_empty_workflow_us", vec![crate::table::median(&empty)], None);
    Ok(())
}

fn runs_wanted() -> usize {
    std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS)
}

fn steps(count: u32) -> String {
    format!(r#"{{"steps":{count}}}"#)
}
