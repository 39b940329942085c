//! A bulk job on many executions: how long counting and the job take, over a kill, and what it takes from a bystander.

use std::time::{Duration, Instant};

use serde_json::Value;
use test_engine::{Engine, component, within};

use crate::flood::times;
use crate::load::Client;
use crate::steps::steps;
use crate::table::{Scene, median, p99};

/// The executions that the job cancels, unless `SLEEPERS` says otherwise.
const EXECUTIONS: usize = 100_000;
/// More than the job needs.
const PATIENCE: Duration = Duration::from_secs(1_200);
const MONTH: &str = "2592000000";

/// Cancels many sleeping executions by one job, whose engine is killed meanwhile.
pub(crate) async fn bulk(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let executions = std::env::var("SLEEPERS").ok().and_then(|number| number.parse().ok()).unwrap_or(EXECUTIONS);
    let mut engine = Engine::start(scene.database);
    engine.ok(&["upload", &component("test-guests")]);
    let client = Client::connect(&engine, 1).await?;
    client.start_many("sleeper", MONTH, executions).await?;
    within(PATIENCE, "they sleep", || (number(&engine, &["--status", "sleeping"]) == executions as u64).then_some(()));
    let mut counting = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        number(&engine, &["--workflow", "sleeper"]);
        counting.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let quiet = bystander(&engine).await?;
    let (began, at_most) = (Instant::now(), executions.to_string());
    engine.ok(&["bulk", "cancel", "--workflow", "sleeper", "--at-most", &at_most, "--id", "bench"]);
    let beside = bystander(&engine).await?;
    engine.kill_and_restart();
    let job = within(PATIENCE, "the job has ended", || {
        let job = engine.json(&["bulk", "show", "bench"]);
        (job["state"] == "done").then_some(job)
    });
    let took = began.elapsed().as_secs_f64();
    assert_eq!((&job["done"], &job["refused"]), (&Value::from(executions), &Value::from(0)), "{job}");
    within(PATIENCE, "all are cancelled", || {
        (number(&engine, &["--status", "cancelled"]) == executions as u64).then_some(())
    });
    scene.add("bulk", "count_ms", counting, None);
    scene.add("bulk", "executions_per_second", vec![executions as f64 / took], None);
    scene.add("bulk", "bystander_p50_us", vec![median(&beside)], Some(("quiet, µs", median(&quiet))));
    scene.add("bulk", "bystander_p99_us", vec![p99(&beside)], Some(("quiet, µs", p99(&quiet))));
    Ok(())
}

/// The number of executions that match, as the command line counts them.
fn number(engine: &Engine, filter: &[&str]) -> u64 {
    let counted = engine.json(&[&["bulk", "cancel", "--dry-run"], filter].concat());
    counted["executions"].as_u64().unwrap_or_default()
}

/// The times of a small workflow, once the engine is warm.
async fn bystander(engine: &Engine) -> anyhow::Result<Vec<f64>> {
    let client = Client::connect(engine, 1).await?;
    for _ in 0..100 {
        client.run("sequence", &steps(2)).await?;
    }
    times(&client).await
}
