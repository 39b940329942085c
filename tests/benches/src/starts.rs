//! W4, W7, W10: the cost of a start, through the API and inside.

use std::io::Write;
use std::time::{Duration, Instant};

use cerebelum_history::{Digest, Entry, GuestInput, Json, Timestamp};
use cerebelum_sandbox::{Config, Program, Sandbox};
use test_engine::{Engine, component, scratch, until};

use crate::load::Client;
use crate::runs_wanted;
use crate::steps::steps;
use crate::table::{Scene, median};

/// W4: one-step workflows through the API, finished a second, with many connections and with one.
pub(crate) async fn finished(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let engine = Engine::start(scene.database);
    engine.upload("test-guests");
    for (metric, connections, at_once, count) in
        [("finished_per_s", 8, 64, 2_000), ("finished_per_s_one_connection", 1, 1, 300)]
    {
        let client = Client::connect(&engine, connections).await?;
        let mut runs = Vec::new();
        for _ in 0..runs_wanted() {
            let took = client.run_many(("sequence", Some("1")), steps(1), (count, at_once)).await?;
            runs.push(f64::from(u32::try_from(count)?) / took.as_secs_f64());
        }
        scene.add("W4", metric, runs, Some(("single-row commits", scene.ceilings.single)));
    }
    Ok(())
}

/// W7: an empty workflow over the API, p50; and the first start after a restart, with the artifact cached.
pub(crate) async fn empty(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut engine = Engine::start(scene.database);
    engine.upload("test-guests");
    let client = Client::connect(&engine, 1).await?;
    let ceiling = median(&client.empty_calls(300).await);
    scene.add("–", "empty_call_us", vec![ceiling], None);
    let mut took = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        client.run("sequence", &steps(0)).await?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let ceiling = 2.0 * ceiling + 1_000.0 * scene.ceilings.commit_ms();
    scene.add("W7", "empty_workflow_us", vec![median(&took)], Some(("two empty calls and a commit, µs", ceiling)));
    let mut runs = Vec::new();
    for _ in 0..runs_wanted() {
        engine.kill_and_restart();
        let client = Client::connect(&engine, 1).await?;
        let began = Instant::now();
        client.run("sequence", &steps(0)).await?;
        runs.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    scene.add("W7", "first_start_ms", runs, None);
    Ok(())
}

/// W7: a guest of a warm component, from its creation to its first call, p50 on one thread.
pub(crate) async fn guests(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let data = scratch();
    let sandbox = Sandbox::new(Config::new(&data.0)).map_err(|e| anyhow::anyhow!("{e}"))?;
    for (metric, file, workflow, input) in [
        ("rust_us", "test-guests", "sleeper", Json::of(&60_000)),
        ("python_us", "python-hello", "hello", Json::of(&"Ada")),
    ] {
        let bytes = std::fs::read(component(file))?;
        let digest = Digest::of(&bytes);
        let program = sandbox.load(&digest, async { Ok::<_, String>(bytes) }).await;
        let program = program.map_err(|e| anyhow::anyhow!("{e}"))?;
        sandbox.kept().await;
        let mut took = Vec::new();
        for _ in 0..500 {
            let began = Instant::now();
            first_call(&program, workflow, &input).await?;
            took.push(began.elapsed().as_secs_f64() * 1e6);
        }
        scene.add("W7", metric, vec![median(&took)], None);
    }
    Ok(())
}

async fn first_call(program: &Program, workflow: &str, input: &Json) -> anyhow::Result<()> {
    let begin = GuestInput {
        entry: Entry::Workflow(workflow.to_owned()),
        input: input.clone(),
        clock: Timestamp(1_800_000_000_000),
        seed: [7; 32],
        execution: "bench".parse()?,
        workflow: workflow.to_owned(),
        run: 1,
        attempt: 1,
        idempotency_key: String::new(),
    };
    let mut guest = program
        .start(begin, cerebelum_sandbox::Ledger::new(1 << 30).account())
        .await
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    let turn = guest.turn(None).await.map_err(|e| anyhow::anyhow!("{e}"))?;
    anyhow::ensure!(turn.end.is_none(), "{workflow} makes a call: {turn:?}");
    Ok(())
}

/// W10: Python components on an engine that has compiled nothing yet: seconds from the beginning of the upload to the end
/// of the first execution, for the first component and, once that is kept on disk, for one that shares its large modules;
/// then an empty workflow, p50.
pub(crate) async fn python(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (mut first, mut second, mut empty, mut written) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs_wanted() {
        let mut engine = Engine::start(scene.database);
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
            until("it is kept", || engine.has_artifact(component).then_some(()));
        }
        written.push(write_anew(&std::fs::read(component("test-python"))?)?);
        for _ in 0..100 {
            let began = Instant::now();
            client.run("test-python/nothing", "null").await?;
            empty.push(began.elapsed());
        }
    }
    scene.add("W10", "first_component_s", first, None);
    let ceiling = Some(("its bytes written to a new file, s", median(&written)));
    scene.add("W10", "s", second, ceiling);
    let empty: Vec<f64> = empty.iter().map(Duration::as_secs_f64).map(|seconds| seconds * 1e6).collect();
    scene.add("W7", "python_empty_workflow_us", vec![median(&empty)], None);
    Ok(())
}

/// The seconds to write these bytes to a new file and to the disk.
fn write_anew(bytes: &[u8]) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(began.elapsed().as_secs_f64())
}
