//! W5, W8: sleeping executions, and the lateness of their timers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use test_engine::{Bystander, Database, Engine, until};

use crate::load::Client;
use crate::table::{Scene, median, p99};

/// Thirty days.
const LONG_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// W5: sleeping executions with an input of 100 bytes, created in bulk through the API: memory and database bytes each,
/// by the slope between a tenth of them and all of them. All tables, indexes and the log file are counted.
pub(crate) async fn sleepers(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let wanted: usize = std::env::var("SLEEPERS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let engine = Engine::start(scene.database);
    engine.upload("test-guests");
    allow_millions(&engine);
    let client = Client::connect(&engine, 1).await?;
    let input = json!({ "sleep_ms": LONG_MS, "padding": "x".repeat(64) }).to_string();
    anyhow::ensure!(input.len() == 100, "an input of {} bytes", input.len());
    let mut marks = Vec::new();
    let began = Instant::now();
    for until_count in [wanted / 10, wanted] {
        let mut count = marks.last().map_or(0, |(count, ..): &(usize, f64, f64)| *count);
        while count < until_count {
            let now = (until_count - count).min(10_000);
            client.start_many("padded_sleeper", &input, now).await?;
            count += now;
        }
        until("they sleep in the database", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
        // Memory that only the creation needed is given back to the system within a few seconds.
        tokio::time::sleep(Duration::from_secs(5)).await;
        marks.push((count, engine.resident_bytes() as f64, database_bytes(scene.database, &engine).await? as f64));
    }
    let took = began.elapsed().as_secs_f64();
    let asleep = engine.metric("cerebelum_executions{status=\"sleeping\"}");
    anyhow::ensure!(asleep == wanted as u64, "{asleep} of {wanted} sleep");
    let ((few, few_rss, few_bytes), (many, many_rss, many_bytes)) = (marks[0], marks[1]);
    let more = (many - few) as f64;
    scene.add("W5", "rss_bytes_each", vec![(many_rss - few_rss) / more], None);
    scene.add("W5", "rss_mib", vec![many_rss / f64::from(1 << 20)], None);
    scene.add("W5", "db_bytes_each", vec![(many_bytes - few_bytes) / more], None);
    scene.add("W5", "started_per_s", vec![wanted as f64 / took], None);
    Ok(())
}

/// Lets the tenant have more open executions than by default.
pub(crate) fn allow_millions(engine: &Engine) {
    engine.ok(&["tenant", "set-quota", "default", "open-executions=10000000"]);
}

/// The size of a database with everything that belongs to it.
pub(crate) async fn database_bytes(database: Database, engine: &Engine) -> anyhow::Result<u64> {
    let address = engine.database();
    Ok(match database {
        Database::Sqlite => {
            let file = address.trim_start_matches("sqlite:");
            ["", "-wal"]
                .iter()
                .filter_map(|end| std::fs::metadata(format!("{file}{end}")).ok())
                .map(|it| it.len())
                .sum()
        }
        Database::Postgres => {
            let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(address).await?;
            let bytes: i64 =
                sqlx::query_scalar("select pg_database_size(current_database())").fetch_one(&mut connection).await?;
            u64::try_from(bytes)?
        }
    })
}

/// W8: timers that are due at 1,000 a second, with hibernated guests: how late they fire, and that none is early.
pub(crate) async fn timers(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    const TIMERS: u64 = 5_000;
    let engine = Engine::start_with(scene.database, &[("HIBERNATE_AFTER", "10ms"), ("HIBERNATE_AT_ONCE", "100ms")]);
    engine.upload("test-guests");
    let client = Client::connect(&engine, 8).await?;
    let began = Instant::now();
    let mut starts = futures::stream::iter((0..TIMERS).map(|number| {
        let (client, since) = (client.clone(), began.elapsed());
        async move {
            // The first timer is due when all of them have been started.
            let due_ms = 6_000 + number;
            let left = due_ms.saturating_sub(u64::try_from((since.max(began.elapsed())).as_millis())?);
            client.start("sleeper", &left.to_string()).await
        }
    }))
    .buffer_unordered(64);
    let mut ids = Vec::new();
    while let Some(id) = starts.next().await {
        ids.push(id?);
    }
    let bystander = Bystander::begin();
    anyhow::ensure!(began.elapsed() < Duration::from_secs(6), "the starts took too long: {:?}", began.elapsed());
    for id in &ids {
        client.wait(id).await?;
    }
    let held_up = bystander.end().as_secs_f64() * 1_000.0;
    let mut late = Vec::new();
    for id in &ids {
        let times: HashMap<String, (f64, Value)> = client.history(id).await?;
        let (started, fields) = &times["SleepStarted"];
        let duration = fields["duration_ms"].as_f64().unwrap_or(f64::NAN);
        late.push(times["SleepCompleted"].0 - started - duration);
    }
    scene.add("W8", "late_p50_ms", vec![median(&late)], None);
    scene.add("W8", "late_p99_ms", vec![p99(&late)], Some(("the longest that a bystander was held up, ms", held_up)));
    scene.add("W8", "early_max_ms", vec![-late.iter().copied().fold(f64::INFINITY, f64::min)], None);
    Ok(())
}
