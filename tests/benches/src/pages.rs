//! Pages of much: a list of a million executions, and an execution with a long history, asked for as a browser does, and
//! shown in one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use test_engine::{Engine, component, within};
use test_pages::Browser;

use crate::table::{Scene, p95};

/// The executions of the list, unless `SLEEPERS` says otherwise.
const EXECUTIONS: usize = 1_000_000;
/// The steps of the long execution: two events each, below the limit of 50,000.
const STEPS: usize = 24_990;
/// How often each page is asked for.
const ASKED: usize = 40;
/// How often each page is shown in a browser.
const SHOWN: usize = 10;
/// More than any of it takes.
const PATIENCE: Duration = Duration::from_secs(1_200);
const MONTH_MS: u64 = 2_592_000_000;

/// The two workloads.
pub(crate) async fn pages(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    list(scene).await?;
    history(scene)
}

/// Lists of many executions, with filters by two attributes: both common, and the second one rare.
async fn list(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let executions = std::env::var("SLEEPERS").ok().and_then(|number| number.parse().ok()).unwrap_or(EXECUTIONS);
    let mut engine = Engine::start_with(scene.database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    models(&engine);
    within(PATIENCE, "nothing is in memory", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    engine.kill();
    let began = Instant::now();
    multiply(&engine, executions).await?;
    eprintln!("{executions} executions written in {:?}", began.elapsed());
    engine.restart();
    let common = "/executions?attribute=team%3Dteam-7%20%26%20region%3Dregion-1";
    let rare = "/executions?attribute=region%3Dregion-1%20%26%20team%3Drare";
    for (metric, path) in [
        ("list_first_ttfb_p95_ms", common.to_owned()),
        ("list_last_ttfb_p95_ms", format!("{common}&cursor={:x}", 6_000)),
        ("list_rare_ttfb_p95_ms", rare.to_owned()),
        ("list_all_ttfb_p95_ms", "/executions".to_owned()),
        ("list_status_ttfb_p95_ms", "/executions?status=failed".to_owned()),
        ("list_wait_ttfb_p95_ms", "/executions?waits_for=sleep".to_owned()),
        ("list_failure_ttfb_p95_ms", "/executions?failure=unknown".to_owned()),
        ("list_prefix_ttfb_p95_ms", "/executions?id_prefix=order-77777".to_owned()),
        ("list_time_ttfb_p95_ms", "/executions?since=1h&until=10m".to_owned()),
        ("overview_ttfb_p95_ms", "/".to_owned()),
    ] {
        let (times, page) = asked(&engine, &path)?;
        let rows = page.matches("<tr>").count();
        assert!(rows > 5, "{path} has {rows} rows: {page}");
        scene.add("pages", metric, vec![p95(&times)], None);
    }
    let before = engine.resident_bytes();
    let (rows, most) = exported(&engine)?;
    anyhow::ensure!(rows > executions, "{rows} rows");
    scene.add("pages", "export_more_mib", vec![(most.saturating_sub(before)) as f64 / f64::from(1 << 20)], None);
    let browser = Browser::open(1_280);
    let paints: Vec<f64> = (0..SHOWN).map(|_| painted(&browser, &engine, common)).collect();
    scene.add("pages", "list_paint_p95_ms", vec![p95(&paints)], None);
    Ok(())
}

/// One execution of each kind that a list has.
fn models(engine: &Engine) {
    let start = |id: &str, workflow: &str, input: &Value| {
        let input = input.to_string();
        engine.ok(&[
            "start",
            workflow,
            "--id",
            id,
            "--input",
            &input,
            "--attr",
            "team=team-0",
            "--attr",
            "region=region-0",
        ]);
    };
    start("model-0", "sequence", &json!({"steps": 3}));
    start("model-1", "hostile", &json!("no such"));
    start("model-2", "sleeper", &json!(MONTH_MS));
    start("model-3", "sleeper", &json!(MONTH_MS));
    engine.ok(&["cancel", "model-3"]);
    for (id, status) in
        [("model-0", "completed"), ("model-1", "failed"), ("model-2", "sleeping"), ("model-3", "cancelled")]
    {
        engine.wait_for(id, &[status]);
    }
}

/// Writes rows of executions behind the engine's back: of 20, 16 are completed, 2 sleep, 1 failed, 1 was cancelled.
async fn multiply(engine: &Engine, executions: usize) -> anyhow::Result<()> {
    let columns = "select group_concat(name) from pragma_table_info('executions') where name not in \
                   ('execution_no', 'id', 'attributes', 'started_at')";
    let of_postgres = "select string_agg(column_name, ',') from information_schema.columns \
                       where table_name = 'executions' and table_schema = current_schema() \
                       and column_name not in ('execution_no', 'id', 'attributes', 'started_at')";
    let is_sqlite = engine.database().starts_with("sqlite:");
    let columns = one(engine, if is_sqlite { columns } else { of_postgres }).await?;
    let of_model: String = columns.split(',').map(|column| format!(", e.{column}")).collect();
    let team = "case when i % 100000 = 7 then 'rare' else 'team-' || (i % 20) end";
    let region = "'region-' || (case when i % 100000 = 7 then 1 else i % 3 end)";
    let all = [
        format!(
            "insert into executions (id, attributes, started_at, {columns})
            with recursive numbers (i) as (select 1 union all select i + 1 from numbers where i < {executions})
            select 'order-' || i, '{{\"region\":\"' || {region} || '\",\"team\":\"' || {team} || '\"}}', e.started_at - {executions} + i {of_model}
            from numbers
            join executions e on e.id = 'model-' || (case i % 20 when 19 then 1 when 18 then 3 when 17 then 2 when 16 then 2 else 0 end)
            order by i"
        ),
        format!(
            "insert into attributes (tenant_id, execution_no, name, value)
            select tenant_id, execution_no, '\"team\"', '\"' || ({team}) || '\"'
            from (select tenant_id, execution_no, cast(substr(id, 7) as integer) as i from executions where id like 'order-%') o"
        ),
        format!(
            "insert into attributes (tenant_id, execution_no, name, value)
            select tenant_id, execution_no, '\"region\"', '\"' || {region} || '\"'
            from (select tenant_id, execution_no, cast(substr(id, 7) as integer) as i from executions where id like 'order-%') o"
        ),
        // The database does this itself after such a change, at some time.
        "analyze".to_owned(),
    ];
    for statement in all.iter().take(if is_sqlite { 3 } else { 4 }) {
        one(engine, statement).await?;
    }
    Ok(())
}

/// Runs a statement; the first column of its first row.
async fn one(engine: &Engine, statement: &str) -> anyhow::Result<String> {
    let statement = AssertSqlSafe(statement.to_owned());
    if engine.database().starts_with("sqlite:") {
        let mut connection = sqlx::SqliteConnection::connect(engine.database()).await?;
        let row = connection.fetch_optional(sqlx::query(statement)).await?;
        Ok(row.map(|row| row.get(0)).unwrap_or_default())
    } else {
        let mut connection = sqlx::PgConnection::connect(engine.database()).await?;
        let row = connection.fetch_optional(sqlx::query(statement)).await?;
        Ok(row.map(|row| row.get(0)).unwrap_or_default())
    }
}

/// The pages of an execution with a long history, after a restart and then again.
fn history(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut engine = Engine::start_with(scene.database, &[("HIBERNATE_AFTER", "100ms")]);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests"]);
    let input = json!({"steps": STEPS, "signal": "go"}).to_string();
    engine.ok(&["start", "guests/sequence_then_signal", "--id", "long", "--input", &input]);
    within(PATIENCE, "it waits", || (engine.status("long")["status"] == "waiting").then_some(()));
    let events = engine.status("long")["events"].as_u64().unwrap_or_default();
    let middle = events / 2;
    let pages = [
        ("overview", String::new()),
        ("history_start", "/history?after=0".to_owned()),
        ("history_middle", format!("/history?to={middle}")),
        ("history_end", "/history".to_owned()),
        ("event", format!("/events/{middle}")),
        ("at_middle", format!("/at/{middle}")),
        ("at_end", format!("/at/{events}")),
        ("timeline", "/timeline".to_owned()),
        ("graph", "/graph".to_owned()),
    ];
    let browser = Browser::open(1_280);
    for (name, end) in pages {
        let path = format!("/executions/long{end}");
        engine.kill_and_restart();
        let (cold, ..) = get(&engine, &path)?;
        let (warm, page) = asked(&engine, &path)?;
        let paints: Vec<f64> = (0..SHOWN).map(|_| painted(&browser, &engine, &path)).collect();
        let nodes = browser.run("return document.querySelectorAll('*').length", &[]);
        let named = |figure: &str| -> &'static str { format!("long_{name}_{figure}").leak() };
        scene.add("pages", named("cold_ms"), vec![cold], None);
        scene.add("pages", named("warm_p95_ms"), vec![p95(&warm)], None);
        scene.add("pages", named("kb"), vec![page.len() as f64 / 1e3], None);
        scene.add("pages", named("paint_p95_ms"), vec![p95(&paints)], None);
        scene.add("pages", named("elements"), vec![nodes.as_f64().unwrap_or(f64::NAN)], None);
    }
    // What the pages before have left behind is not what this one holds.
    browser.cdp("HeapProfiler.collectGarbage", &json!({}));
    browser.cdp("Performance.enable", &json!({}));
    let told = browser.cdp("Performance.getMetrics", &json!({}));
    let heap = told["metrics"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "JSHeapUsedSize"));
    let heap = heap.and_then(|one| one["value"].as_f64()).unwrap_or(f64::NAN) / 1e6;
    scene.add("pages", "heap_mb", vec![heap], None);
    browser.cdp("Emulation.setCPUThrottlingRate", &json!({"rate": 4}));
    let paints: Vec<f64> = (0..SHOWN).map(|_| painted(&browser, &engine, "/executions/long/history")).collect();
    scene.add("pages", "long_slow_paint_p95_ms", vec![p95(&paints)], None);
    Ok(())
}

/// The rows of the file of all executions, and the most memory that the engine had meanwhile.
fn exported(engine: &Engine) -> anyhow::Result<(usize, u64)> {
    let url = format!("{}/executions.csv?columns=team,region", engine.url());
    let mut curl = Command::new("curl").args(["-sS", "--fail", &url]).stdout(Stdio::piped()).spawn()?;
    let (mut rows, mut most) = (0, 0);
    for line in BufReader::new(curl.stdout.take().expect("it is piped")).lines() {
        line?;
        rows += 1;
        if rows % 10_000 == 0 {
            most = most.max(engine.resident_bytes());
        }
    }
    anyhow::ensure!(curl.wait()?.success(), "the file was cut off");
    Ok((rows, most))
}

/// The times to the first byte of a page, in milliseconds, and the page. The first time is left out: it is the cold one.
fn asked(engine: &Engine, path: &str) -> anyhow::Result<(Vec<f64>, String)> {
    get(engine, path)?;
    let (mut times, mut page) = (Vec::new(), String::new());
    for _ in 0..ASKED {
        let (time, body) = get(engine, path)?;
        times.push(time);
        page = body;
    }
    Ok((times, page))
}

/// The time to the first byte of a page on a new connection, in milliseconds, and the answer.
fn get(engine: &Engine, path: &str) -> anyhow::Result<(f64, String)> {
    let host = engine.url().trim_start_matches("http://");
    let began = Instant::now();
    let mut connection = TcpStream::connect(host)?;
    write!(connection, "GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\nconnection: close\r\n\r\n")?;
    let mut answer = vec![0];
    connection.read_exact(&mut answer)?;
    let time = began.elapsed().as_secs_f64() * 1e3;
    connection.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    Ok((time, answer))
}

/// The time to the first paint of a page's content in a browser whose cache is empty, in milliseconds.
fn painted(browser: &Browser, engine: &Engine, path: &str) -> f64 {
    browser.cdp("Network.clearBrowserCache", &json!({}));
    browser.page(engine, path);
    within(PATIENCE, "it is painted", || {
        let script = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0";
        browser.run(script, &[]).as_f64().filter(|at| *at > 0.0)
    })
}
