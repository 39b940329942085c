//! Pages that are open: how soon they show what has happened, and what four hundred of them cost.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use test_engine::Engine;
use test_pages::Browser;

use crate::load::Client;
use crate::steps::steps;
use crate::table::Scene;

/// How many signals a page is watched over.
const SIGNALS: usize = 60;
/// The time between two of them.
const PAUSE: Duration = Duration::from_secs(1);
/// How many pages are open beside the work: as many connections as one tenant may have, but for some.
const PAGES: usize = 400;
/// How often the work is done without and with them.
const ROUNDS: usize = 5;

/// Both workloads.
pub(crate) async fn live(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    visible(scene).await?;
    streams(scene).await
}

/// The time from when an event happened, which is before its commit, until the history of a page has it, p99.
async fn visible(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let engine = Engine::start(scene.database);
    engine.upload("test-guests");
    let client = Client::connect(&engine, 1).await?;
    let input = json!({ "names": vec!["go"; SIGNALS] }).to_string();
    let id = client.start("listening", &input).await?;
    let browser = Browser::open(1_280);
    browser.page(&engine, &format!("/executions/{id}/history"));
    browser.sees("#live", "Live");
    let script = "window.seen = new Map(); \
        const note = () => { for (const row of document.querySelectorAll('.events tbody tr')) { \
            const time = row.querySelector('time'); const key = row.querySelector('th, td').textContent; \
            if (time && !seen.has(key)) seen.set(key, Date.now() - new Date(time.dateTime).getTime()); } }; \
        for (const row of document.querySelectorAll('.events tbody tr')) seen.set(row.querySelector('th, td').textContent, 0); \
        new MutationObserver(note).observe(document.body, { childList: true, subtree: true })";
    browser.run(script, &[]);
    for _ in 0..SIGNALS {
        client.signal(&id, "go").await?;
        tokio::time::sleep(PAUSE).await;
    }
    browser.sees("#live", "Ended");
    let told = browser.run("return [...seen.values()].filter((ms) => ms > 0)", &[]);
    let mut times: Vec<f64> = told.as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64).collect();
    times.sort_by(f64::total_cmp);
    anyhow::ensure!(times.len() >= SIGNALS, "{} events were seen to come", times.len());
    scene.add("live", "visible_p50_ms", vec![times[times.len() / 2]], None);
    scene.add("live", "visible_p99_ms", vec![times[times.len() * 99 / 100]], None);
    Ok(())
}

/// Steps a second without open pages and beside four hundred, in turn: half of the pages are of an execution that moves
/// all the time, the others of one that sleeps.
async fn streams(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let engine = Engine::start(scene.database);
    engine.upload("test-guests");
    let client = Client::connect(&engine, 8).await?;
    let asleep = client.start("sleeper", "2592000000").await?;
    let chain = json!({ "what": "chain", "count": 1_000_000_000 }).to_string();
    let moves = client.start("load", &chain).await?;
    let work = async || -> anyhow::Result<f64> {
        let took = client.run_many(("sequence", Some("20")), steps(20), (200, 200)).await?;
        Ok(4_000.0 / took.as_secs_f64())
    };
    work().await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(work().await?);
        let streams = (0..PAGES).map(|number| open(&engine, if number % 2 == 0 { &asleep } else { &moves }));
        let streams = streams.collect::<anyhow::Result<Vec<_>>>()?;
        with.push(work().await?);
        drop(streams);
    }
    let ratios = with.iter().zip(&without).map(|(with, without)| with / without).collect();
    scene.add("live", "steps_per_s", without, None);
    scene.add("live", "steps_per_s_beside_400_pages", with, None);
    scene.add("live", "steps_ratio_beside_400_pages", ratios, None);
    Ok(())
}

/// Opens the stream of a page.
fn open(engine: &Engine, id: &str) -> anyhow::Result<TcpStream> {
    let host = engine.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(host)?;
    write!(stream, "GET /executions/{id}/changes HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n")?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    anyhow::ensure!(line.starts_with("HTTP/1.1 200"), "{line}");
    Ok(stream)
}
