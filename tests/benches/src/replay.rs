//! W9: replay, from the rows of the database to the first new call.

use std::time::{Duration, Instant};

use serde_json::json;
use test_engine::{Engine, until};

use crate::load::Client;
use crate::runs_wanted;
use crate::table::Scene;

/// W9: recorded calls a second, by the slope between 100 and 10,000 calls; and whether it is the same slope from 1,000 on.
pub(crate) async fn replay(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for (metric, component, calls_max) in
        [("rust_calls_per_s", "test-guests", 10_000), ("python_calls_per_s", "test-python", 10_000_u32)]
    {
        let mut engine = Engine::start_with(scene.database, &[("HIBERNATE_AFTER", "100ms")]);
        engine.upload("test-guests");
        engine.upload("test-python");
        let (mut runs, mut shares) = (Vec::new(), Vec::new());
        for _ in 0..runs_wanted() {
            let mut took = Vec::new();
            for calls in [100, calls_max / 10, calls_max] {
                took.push(rerun(&mut engine, component, calls).await?);
            }
            let whole = took[2].saturating_sub(took[0]).as_secs_f64();
            runs.push(f64::from(calls_max - 100) / whole);
            let tail = took[2].saturating_sub(took[1]).as_secs_f64() / f64::from(calls_max - calls_max / 10);
            shares.push(tail / (whole / f64::from(calls_max - 100)));
        }
        scene.add("W9", metric, runs, None);
        let slope = if component == "test-python" { "python_slope_1000_to_10000" } else { "rust_slope_1000_to_10000" };
        scene.add("W9", slope, shares, Some(("the slope from 100 on", 1.0)));
    }
    Ok(())
}

/// The time from a signal to the end of an execution with this many recorded calls, in a fresh process.
async fn rerun(engine: &mut Engine, component: &str, calls: u32) -> anyhow::Result<Duration> {
    let client = Client::connect(engine, 1).await?;
    let is_python = component == "test-python";
    let input = if is_python { json!(calls) } else { json!({ "steps": calls, "signal": "go" }) };
    let name = format!("{component}/sequence_then_signal");
    let id = client.start(&name, &input.to_string()).await?;
    engine.wait_for(&id, &["waiting"]);
    // In a fresh process only the database is warm.
    engine.kill_and_restart();
    let client = Client::connect(engine, 1).await?;
    let (warm, input) = match is_python {
        true => (format!("{component}/nothing"), json!(null)),
        false => (format!("{component}/sequence"), json!({ "steps": 1 })),
    };
    client.run(&warm, &input.to_string()).await?;
    // After a kill everything unsettled is rerun at once. The execution has to hibernate before it is measured.
    until("it hibernates", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    let began = Instant::now();
    client.signal(&id, "go").await?;
    client.wait(&id).await?;
    Ok(began.elapsed())
}
