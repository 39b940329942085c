//! W6: the cost of a kill.

use std::time::{Duration, Instant};

use futures::StreamExt;
use test_engine::Engine;

use crate::load::Client;
use crate::steps::steps;
use crate::table::Scene;

/// Executions, and steps of each.
const EXECUTIONS: usize = 6_000;
const STEPS: usize = 50;
/// Clients that wait for an end at once.
const WAITS: usize = 64;

/// W6: the engine is killed at 20 to 80 % of ten seconds of work and started again: how much longer it takes than
/// undisturbed right before and right after, and how many step bodies run again. Nothing may be missing.
pub(crate) async fn killed(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut undisturbed = vec![work(scene, None).await?.0.as_secs_f64()];
    let (mut extra, mut rerun) = (Vec::new(), Vec::new());
    for share in [0.2, 0.35, 0.5, 0.65, 0.8] {
        let before = undisturbed[undisturbed.len() - 1];
        let (took, again) = work(scene, Some(Duration::from_secs_f64(before * share))).await?;
        let after = work(scene, None).await?.0.as_secs_f64();
        extra.push(took.as_secs_f64() - before.midpoint(after));
        rerun.push(again);
        undisturbed.push(after);
    }
    scene.add("W6", "undisturbed_s", undisturbed, None);
    scene.add("W6", "extra_s", extra, None);
    scene.add("W6", "steps_rerun", rerun, None);
    Ok(())
}

/// How long the work takes, and how many guests were started beyond those that an undisturbed run needs. If a time is
/// given, the engine dies after it.
async fn work(scene: &Scene<'_>, dies_after: Option<Duration>) -> anyhow::Result<(Duration, f64)> {
    let mut engine = Engine::start(scene.database);
    engine.upload("test-guests");
    let client = Client::connect(&engine, 8).await?;
    let began = Instant::now();
    let starting = tokio::spawn(start_all(client));
    let mut started = 0;
    if let Some(after) = dies_after {
        tokio::time::sleep(after).await;
        started = engine.metric("cerebelum_guests_started_total");
        engine.kill_and_restart();
        // Starts without an answer are sent again: the same ids are the same executions.
        let _ = starting.await?;
        start_all(Client::connect(&engine, 8).await?).await?;
    } else {
        starting.await??;
    }
    let client = Client::connect(&engine, 8).await?;
    let wait = async |number| (number, client.wait(&id(number)).await);
    let mut ends = futures::stream::iter(0..EXECUTIONS).map(wait).buffer_unordered(WAITS);
    while let Some((number, status)) = ends.next().await {
        anyhow::ensure!(status?.output.as_deref() == Some(STEPS.to_string().as_str()), "{number} lost something");
    }
    let took = began.elapsed();
    let started = started + engine.metric("cerebelum_guests_started_total");
    let listed = client.count("completed").await?;
    anyhow::ensure!(listed == EXECUTIONS, "{listed} executions of {EXECUTIONS} are there");
    Ok((took, started as f64 - (EXECUTIONS * (STEPS + 1)) as f64))
}

fn id(number: usize) -> String {
    format!("work-{number}")
}

async fn start_all(client: Client) -> anyhow::Result<()> {
    let ids: Vec<String> = (0..EXECUTIONS).map(id).collect();
    for some in ids.chunks(500) {
        client.start_these("sequence", &steps(STEPS), some).await?;
    }
    Ok(())
}
