//! The growth of costs with size: processor time of the engine at several sizes, and the exponent of its growth. 1 is
//! in proportion, 2 is quadratic.

use std::time::{Duration, Instant};

use serde_json::json;
use test_engine::{Cloud, Database, Engine, component, within};

use crate::growth::cpu_ms;
use crate::load::Client;
use crate::steps::steps;
use crate::table::Scene;

/// How long one size may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The workloads by name, and the sizes of each.
pub(crate) const SLOPES: [(&str, [usize; 4]); 8] = [
    ("growth-open-calls", [1_250, 2_500, 5_000, 10_000]),
    ("growth-signals", [500, 1_000, 2_000, 4_000]),
    ("growth-attributes", [500, 1_000, 2_000, 4_000]),
    ("growth-runs", [250, 500, 1_000, 2_000]),
    ("growth-children", [125, 250, 500, 1_000]),
    ("growth-history", [2_500, 5_000, 10_000, 20_000]),
    ("growth-components", [25, 50, 100, 200]),
    ("growth-executions", [1_250, 2_500, 5_000, 10_000]),
];

/// Measures one of [`SLOPES`]: the cost of each size and the exponent; if a kill makes a difference, also after one.
pub(crate) async fn measure(scene: &mut Scene<'_>, workload: &'static str) -> anyhow::Result<()> {
    let sizes = SLOPES.iter().find(|(name, _)| *name == workload).map(|(_, sizes)| *sizes).unwrap_or_default();
    let (mut live, mut killed) = (Vec::new(), Vec::new());
    for size in sizes {
        let took = cost(scene.database, workload, size).await?;
        live.push((size, took.live_ms));
        killed.extend(took.killed_ms.map(|ms| (size, ms)));
    }
    for (points, what) in [(live, ["cpu_ms", "exponent"]), (killed, ["cpu_ms_after_kill", "exponent_after_kill"])] {
        if points.is_empty() {
            continue;
        }
        for (size, ms) in &points {
            scene.add(workload, name_of(what[0], *size), vec![*ms], None);
        }
        scene.add(workload, what[1], vec![exponent(&points)], None);
    }
    Ok(())
}

fn name_of(what: &str, size: usize) -> &'static str {
    // The leak is small: a handful of names for the whole run.
    Box::leak(format!("{what}_{size}").into_boxed_str())
}

/// The cost of one size, in milliseconds of processor time.
struct Cost {
    live_ms: f64,
    /// The cost of the rest after a kill half-way.
    killed_ms: Option<f64>,
}

async fn cost(database: Database, workload: &str, size: usize) -> anyhow::Result<Cost> {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    Client::connect(&engine, 1).await?.run("sequence", &steps(1)).await?;
    let before = cpu_ms(&engine);
    let client = Client::connect(&engine, 8).await?;
    let mut killed_ms = None;
    match workload {
        "growth-open-calls" => return fan_out(engine, size).await,
        "growth-signals" => {
            let id = client.start("listening", &json!({ "names": vec!["go"; size] }).to_string()).await?;
            for _ in 0..size {
                client.signal(&id, "go").await?;
            }
            client.wait(&id).await?;
        }
        "growth-attributes" => drop(client.run("labels", &json!([size, 32]).to_string()).await?),
        "growth-runs" => drop(client.run("countdown", &size.to_string()).await?),
        "growth-children" => drop(client.run("brood", &size.to_string()).await?),
        "growth-history" => {
            let input = json!({ "steps": size, "signal": "go" }).to_string();
            let id = client.start("sequence_then_signal", &input).await?;
            within(PATIENCE, "all steps are done", || (engine.status(&id)["status"] == "waiting").then_some(()));
            let live_ms = cpu_ms(&engine) - before;
            engine.kill_and_restart();
            let (client, before) = (Client::connect(&engine, 1).await?, cpu_ms(&engine));
            client.signal(&id, "go").await?;
            client.wait(&id).await?;
            return Ok(Cost { live_ms, killed_ms: Some(cpu_ms(&engine) - before) });
        }
        "growth-components" => {
            for number in 0..size {
                engine.ok(&["upload", &component("hello"), "--name", &format!("hello-{number}")]);
                client.run("test-guests/sequence", &steps(1)).await?;
            }
        }
        "growth-executions" => {
            let half = size / 2;
            client.run_many(("sequence", Some("2")), steps(2), (half, 64)).await?;
            let live_ms = cpu_ms(&engine) - before;
            client.start_many("sleeper", "30000", half).await?;
            engine.kill_and_restart();
            let (client, before) = (Client::connect(&engine, 8).await?, cpu_ms(&engine));
            while client.count("completed").await? < size {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            killed_ms = Some(cpu_ms(&engine) - before);
            return Ok(Cost { live_ms, killed_ms });
        }
        other => anyhow::bail!("there is no workload `{other}`"),
    }
    Ok(Cost { live_ms: cpu_ms(&engine) - before, killed_ms })
}

/// Steps all at once with a request each: undisturbed, and then killed when half of the requests have been answered.
async fn fan_out(mut engine: Engine, size: usize) -> anyhow::Result<Cost> {
    let cloud = Cloud::start();
    let input = json!({ "base_url": cloud.url(), "paths": vec!["parts"; size] }).to_string();
    let before = cpu_ms(&engine);
    Client::connect(&engine, 1).await?.run("posts_at_once", &input).await?;
    let live_ms = cpu_ms(&engine) - before;
    let id = Client::connect(&engine, 1).await?.start("posts_at_once", &input).await?;
    let began = Instant::now();
    let asked = cloud.ledger().len();
    while cloud.ledger().len() < asked + size / 2 {
        anyhow::ensure!(began.elapsed() < PATIENCE, "half of the requests took too long");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    engine.kill_and_restart();
    let (client, before) = (Client::connect(&engine, 1).await?, cpu_ms(&engine));
    client.wait(&id).await?;
    Ok(Cost { live_ms, killed_ms: Some(cpu_ms(&engine) - before) })
}

/// The exponent of a growth: the slope of the straight line that fits the logarithms best.
fn exponent(points: &[(usize, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(size, cost)| ((*size as f64).ln(), cost.max(1.0).ln())).collect();
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = logs.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = logs.iter().map(|point| (point.0 - x).powi(2)).sum();
    above / below
}
