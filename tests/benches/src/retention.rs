//! The cost of background deletion for the work beside it.

use std::time::{Duration, Instant};

use test_engine::{Engine, until};

use crate::load::Client;
use crate::steps::steps;
use crate::table::{Scene, median, p99};

/// Executions of five steps that have ended before.
const ENDED: usize = 40_000;
/// How long the load is measured.
const MEASURED: Duration = Duration::from_secs(3);

/// `keep_ended`: empty workflows over one connection without and beside the deletion of 40,000 executions, and the
/// number of deletions per second.
pub(crate) async fn deleting(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut engine = Engine::start(scene.database);
    engine.upload("test-guests");
    let client = Client::connect(&engine, 8).await?;
    client.run_many(("sequence", Some("5")), steps(5), (ENDED, 64)).await?;
    engine.kill_and_restart();
    let quiet = load(&engine).await?;
    engine.kill();
    engine.restart_with(&[("CEREBELUM_KEEP_ENDED", "1s")]);
    let deleted = || engine.metric("cerebelum_executions_deleted_total");
    until("the first ones go", || (deleted() > 0).then_some(()));
    let (before, began) = (deleted(), Instant::now());
    let busy = load(&engine).await?;
    let after = deleted();
    anyhow::ensure!(after < ENDED as u64, "nothing was left to be deleted: {after}");
    let gone = (after - before) as f64 / began.elapsed().as_secs_f64();
    let quietly = |figure: f64| Some(("the same while nothing is deleted", figure));
    scene.add("retention", "empty_workflow_us", vec![median(&busy)], quietly(median(&quiet)));
    scene.add("retention", "empty_workflow_p99_us", vec![p99(&busy)], quietly(p99(&quiet)));
    scene.add("retention", "deleted_per_s", vec![gone], None);
    Ok(())
}

/// Runs empty workflows one after the other and returns how many microseconds each took.
async fn load(engine: &Engine) -> anyhow::Result<Vec<f64>> {
    let client = Client::connect(engine, 1).await?;
    let (mut took, first) = (Vec::new(), Instant::now());
    while first.elapsed() < MEASURED {
        let began = Instant::now();
        client.run("sequence", &steps(0)).await?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}
