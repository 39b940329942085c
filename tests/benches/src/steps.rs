//! W1, W2, W3: steps one after the other, in many workflows at once, and in parallel.

use std::time::Instant;

use serde_json::json;
use test_engine::{Cloud, Engine};

use crate::load::Client;
use crate::runs_wanted;
use crate::table::Scene;

/// Each outcome is durable before it is delivered.
const STRICT: &[(&str, &str)] = &[("RUN_AHEAD_EVENTS_MAX", "0")];

/// The input of a workflow with this many steps.
pub(crate) fn steps(count: usize) -> String {
    json!({ "steps": count }).to_string()
}

fn engine(scene: &Scene<'_>, settings: &[(&str, &str)]) -> Engine {
    let engine = Engine::start_with(scene.database, settings);
    engine.upload("test-guests");
    engine
}

/// W1: one workflow, 500 sequential steps, milliseconds a step; pure, and strict.
pub(crate) async fn one_after_another(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for (metric, settings) in [("ms_per_step", &[][..]), ("ms_per_step_strict", STRICT)] {
        let engine = engine(scene, settings);
        let client = Client::connect(&engine, 1).await?;
        client.run("sequence", &steps(10)).await?;
        let mut runs = Vec::new();
        for _ in 0..runs_wanted() {
            let instances = engine.metric("cerebelum_guests_started_total");
            let began = Instant::now();
            let status = client.run("sequence", &steps(500)).await?;
            runs.push(began.elapsed().as_secs_f64() * 1_000.0 / 500.0);
            anyhow::ensure!(status.output.as_deref() == Some("500"), "the output of one step is the input of the next");
            let started = engine.metric("cerebelum_guests_started_total") - instances;
            anyhow::ensure!(started == 501, "each step has an instance of its own: {started}");
        }
        let is_strict = !settings.is_empty();
        let ceiling = is_strict.then(|| ("one single-row commit, ms", scene.ceilings.commit_ms()));
        scene.add("W1", metric, runs, ceiling);
    }
    Ok(())
}

/// W1 with one POST a step, to a server on this machine. The ceiling is a commit before it leaves and one after.
pub(crate) async fn with_effects(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    const STEPS: usize = 200;
    let (engine, cloud) = (engine(scene, &[]), Cloud::start());
    let client = Client::connect(&engine, 1).await?;
    let mut runs = Vec::new();
    let input = json!({ "base_url": cloud.url(), "paths": vec!["parts"; STEPS] }).to_string();
    for _ in 0..runs_wanted() {
        let began = Instant::now();
        client.run("posts", &input).await?;
        runs.push(began.elapsed().as_secs_f64() * 1_000.0 / STEPS as f64);
    }
    let asked = cloud.ledger().len();
    anyhow::ensure!(asked == runs.len() * STEPS, "each step asks once: {asked}");
    let ceiling = Some(("one single-row commit, ms", scene.ceilings.commit_ms()));
    scene.add("W1", "ms_per_step_effect", runs, ceiling);
    Ok(())
}

/// W2: 200 workflows of 20 sequential steps at once, steps a second; pure, and strict.
pub(crate) async fn many_at_once(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for (metric, settings) in [("steps_per_s", &[][..]), ("steps_per_s_strict", STRICT)] {
        let engine = engine(scene, settings);
        let client = Client::connect(&engine, 8).await?;
        let mut runs = Vec::new();
        client.run_many(("sequence", Some("20")), steps(20), (200, 200)).await?;
        for _ in 0..runs_wanted() {
            let took = client.run_many(("sequence", Some("20")), steps(20), (200, 200)).await?;
            runs.push(4_000.0 / took.as_secs_f64());
        }
        scene.add("W2", metric, runs, Some(("rows in 100-row commits", scene.ceilings.hundred_rows)));
    }
    Ok(())
}

/// W3: one workflow, 1,000 parallel steps, seconds.
pub(crate) async fn in_parallel(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let engine = engine(scene, &[]);
    let client = Client::connect(&engine, 1).await?;
    client.run("parallel", &steps(1_000)).await?;
    let mut runs = Vec::new();
    for _ in 0..runs_wanted() {
        let began = Instant::now();
        let status = client.run("parallel", &steps(1_000)).await?;
        runs.push(began.elapsed().as_secs_f64());
        anyhow::ensure!(status.output.as_deref() == Some("500500"), "each step counts: {:?}", status.output);
    }
    scene.add("W3", "s", runs, Some(("2,000 rows in 100-row commits, s", 2_000.0 / scene.ceilings.hundred_rows)));
    Ok(())
}
