//! The costs of an idle engine, and of executions that are only stored.

use std::time::{Duration, Instant};

use cerebelum_server::proto::ListRequest;
use sqlx::Connection;
use test_engine::{Database, Engine, component};

use crate::load::Client;
use crate::steps::steps;
use crate::table::{Scene, median};
use crate::waits::{allow_millions, database_bytes};

/// How long an idle engine is observed.
const IDLE: Duration = Duration::from_secs(10);

/// An engine with 100 components: start-up, memory, processor and database load while nothing happens; and the size of a
/// trivial step in the database.
pub(crate) async fn idle(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut engine = Engine::start(scene.database);
    for number in 0..100 {
        engine.ok(&["upload", &component("hello"), "--name", &format!("hello-{number}")]);
    }
    engine.upload("test-guests");
    let mut ready = Vec::new();
    for _ in 0..5 {
        engine.kill();
        let began = Instant::now();
        engine.restart();
        ready.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    scene.add("idle", "ready_ms_100_components", ready, None);
    let mut server = match scene.database {
        Database::Sqlite => None,
        Database::Postgres => Some(sqlx::PgConnection::connect(engine.database()).await?),
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let first = transactions(server.as_mut(), &engine).await?;
    let (cpu, before) = (cpu_ms(&engine), transactions(server.as_mut(), &engine).await?);
    tokio::time::sleep(IDLE).await;
    let seconds = IDLE.as_secs_f64();
    scene.add("idle", "cpu_percent", vec![(cpu_ms(&engine) - cpu) / seconds / 10.0], None);
    // Reading the metrics costs some as well.
    let more = transactions(server.as_mut(), &engine).await? - before - (before - first);
    scene.add("idle", "transactions_per_s", vec![more / seconds], None);
    scene.add("idle", "rss_mib", vec![engine.resident_bytes() as f64 / f64::from(1 << 20)], None);
    let client = Client::connect(&engine, 8).await?;
    let mut marks = Vec::new();
    for _ in 0..2 {
        client.run_many(("sequence", Some("100")), steps(100), (200, 50)).await?;
        marks.push(database_bytes(scene.database, &engine).await? as f64);
    }
    scene.add("idle", "db_bytes_per_step", vec![(marks[1] - marks[0]) / 20_000.0], None);
    Ok(())
}

/// Processor time of the engine so far.
pub(crate) fn cpu_ms(engine: &Engine) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", engine.pid())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    // A hundred ticks a second.
    (ticks(11) + ticks(12)) * 10.0
}

/// Transactions that the server has seen; for SQLite, the engine's own count.
async fn transactions(server: Option<&mut sqlx::PgConnection>, engine: &Engine) -> anyhow::Result<f64> {
    let Some(server) = server else { return Ok(engine.metric("cerebelum_database_seconds_count") as f64) };
    let count: i64 = sqlx::query_scalar(
        "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()",
    )
    .fetch_one(server)
    .await?;
    Ok(count as f64)
}

/// The cost of stored executions: an empty workflow, a status, a list and a start-up beside 1,000, 100,000 and a
/// million sleeping ones, each in a fresh process.
pub(crate) async fn growth(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut engine = Engine::start(scene.database);
    engine.upload("test-guests");
    allow_millions(&engine);
    let mut count = 0;
    for (stored, metrics) in [
        (1_000, ["empty_workflow_us_beside_1k", "list_us_beside_1k", "ready_ms_beside_1k"]),
        (100_000, ["empty_workflow_us_beside_100k", "list_us_beside_100k", "ready_ms_beside_100k"]),
        (1_000_000, ["empty_workflow_us_beside_1m", "list_us_beside_1m", "ready_ms_beside_1m"]),
    ] {
        let client = Client::connect(&engine, 1).await?;
        while count < stored {
            let now = (stored - count).min(10_000);
            client.start_many("sleeper", "2592000000", now).await?;
            count += now;
        }
        engine.kill();
        let began = Instant::now();
        engine.restart();
        let ready = began.elapsed().as_secs_f64() * 1_000.0;
        let client = Client::connect(&engine, 1).await?;
        client.run("sequence", &steps(0)).await?;
        let (mut empty, mut list) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let began = Instant::now();
            client.run("sequence", &steps(0)).await?;
            empty.push(began.elapsed().as_secs_f64() * 1e6);
            let began = Instant::now();
            client.page(ListRequest::default()).await?;
            list.push(began.elapsed().as_secs_f64() * 1e6);
        }
        for (metric, figure) in metrics.into_iter().zip([median(&empty), median(&list), ready]) {
            scene.add("growth", metric, vec![figure], None);
        }
    }
    Ok(())
}
