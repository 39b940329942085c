//! The flood: what one tenant can take from another. The times of small workflows of a quiet tenant, from start to finish,
//! while a second tenant does nothing, and while it does its worst.
//!
//! The second tenant's client is a process of its own with the lowest priority, as if it ran on another machine.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_engine::{Engine, component, scratch};

use crate::load::Client;
use crate::steps::steps;
use crate::table::{Scene, median, p99};

/// How long each attack lasts.
const LASTS: Duration = Duration::from_secs(10);
/// The variable that makes this program the client of the second tenant: the attack, the engine's URL and the token.
const ATTACK: &str = "FLOOD_ATTACK";

/// The attacks, and the names of each one's figures.
const ATTACKS: [(&str, [&str; 4]); 6] = [
    ("starts", ["starts_p50_us", "starts_p99_us", "starts_p99_ratio", "starts_rss_mib"]),
    ("computing", ["computing_p50_us", "computing_p99_us", "computing_p99_ratio", "computing_rss_mib"]),
    ("uploads", ["uploads_p50_us", "uploads_p99_us", "uploads_p99_ratio", "uploads_rss_mib"]),
    ("signals", ["signals_p50_us", "signals_p99_us", "signals_p99_ratio", "signals_rss_mib"]),
    ("polls", ["polls_p50_us", "polls_p99_us", "polls_p99_ratio", "polls_rss_mib"]),
    ("all", ["all_p50_us", "all_p99_us", "all_p99_ratio", "all_rss_mib"]),
];

/// Measures the quiet tenant's times beside each attack.
pub(crate) async fn flood(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for (attack, names) in ATTACKS {
        beside(scene, attack, names).await?;
    }
    Ok(())
}

/// An engine of its own for each attack, which leaves work behind.
async fn beside(
    scene: &mut Scene<'_>,
    attack: &str,
    [p50_us, p99_us, ratio, mib]: [&'static str; 4],
) -> anyhow::Result<()> {
    let engine = Engine::start(scene.database);
    let admin = token(&engine, &["--role", "admin", "--name", "admin"]);
    let of_tenant = |name: &str| {
        engine.ok(&["tenant", "create", name, "--token", &admin]);
        let arguments = ["--tenant", name, "--role", "admin", "--name", name, "--token", &admin];
        let token = token(&engine, &arguments);
        engine.ok(&["upload", &component("test-guests"), "--token", &token]);
        token
    };
    let (quiet, loud) = (of_tenant("quiet"), of_tenant("loud"));
    let client = Client::connect_to(engine.url(), 1, Some(&quiet)).await?;
    for _ in 0..200 {
        client.run("sequence", &steps(2)).await?;
    }
    let usual = times(&client).await?;
    let attacker = Attacker::begin(attack, &engine, &loud)?;
    let beside = times(&client).await?;
    drop(attacker);
    scene.add("flood", p50_us, vec![median(&beside)], Some(("quiet, µs", median(&usual))));
    scene.add("flood", p99_us, vec![p99(&beside)], Some(("quiet, µs", p99(&usual))));
    scene.add("flood", ratio, vec![p99(&beside) / p99(&usual)], None);
    scene.add("flood", mib, vec![engine.resident_bytes() as f64 / f64::from(1 << 20)], None);
    Ok(())
}

fn token(engine: &Engine, arguments: &[&str]) -> String {
    let said = engine.ok(&[&["token", "create", "--json"], arguments].concat());
    let created: Value = serde_json::from_str(&said).expect("the command prints JSON");
    created["token"].as_str().expect("a token is text").to_owned()
}

/// The microseconds of one workflow after the other, each with two steps.
pub(crate) async fn times(client: &Client) -> anyhow::Result<Vec<f64>> {
    let (mut took, began) = (Vec::new(), Instant::now());
    while began.elapsed() < LASTS {
        let one = Instant::now();
        client.run("sequence", &steps(2)).await?;
        took.push(one.elapsed().as_secs_f64() * 1e6);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(took)
}

/// The second tenant's client. It ends when this is dropped.
struct Attacker(Child);

impl Attacker {
    fn begin(attack: &str, engine: &Engine, token: &str) -> anyhow::Result<Self> {
        let order = json!([attack, engine.url(), token]).to_string();
        let program = std::env::current_exe()?;
        let mut nice = Command::new("nice");
        nice.args(["-n", "19"]).arg(program).env(ATTACK, order).stdin(Stdio::null());
        Ok(Self(nice.spawn()?))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Linux shares the processor between sessions first, and looks at priorities only within one (`sched_autogroup(7)`): in the
/// session of the quiet client, this process would take from the engine what that client leaves.
fn become_weakest() -> anyhow::Result<()> {
    rustix::process::setsid()?;
    match std::fs::write("/proc/self/autogroup", "19") {
        // A kernel without such groups.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        written => Ok(written?),
    }
}

/// Whether this program is the client of the second tenant: then it attacks until it is killed.
pub(crate) async fn attack() -> anyhow::Result<bool> {
    let Ok(order) = std::env::var(ATTACK) else { return Ok(false) };
    become_weakest()?;
    let [attack, url, token]: [String; 3] = serde_json::from_str(&order)?;
    let client = Client::connect_to(&url, 8, Some(&token)).await?;
    let is = |wanted: &str| attack == wanted || attack == "all";
    let mut attacks = tokio::task::JoinSet::new();
    if is("starts") {
        for _ in 0..512 {
            attacks.spawn(start_for_ever(client.clone()));
        }
    }
    if is("computing") {
        for _ in 0..50 {
            attacks.spawn(compute_for_ever(client.clone()));
        }
    }
    if is("uploads") {
        attacks.spawn(upload_bombs(url, token));
    }
    if is("signals") {
        let id = client.start("load", r#"{"what":"hold","count":1}"#).await?;
        for _ in 0..64 {
            attacks.spawn(signal_for_ever(client.clone(), id.clone()));
        }
    }
    if is("polls") {
        attacks.spawn(poll_and_continue(client));
    }
    attacks.join_all().await;
    Ok(true)
}

/// What is refused is tried again at once.
async fn start_for_ever(client: Client) {
    loop {
        let _ = client.start("sequence", &steps(1)).await;
    }
}

async fn compute_for_ever(client: Client) {
    loop {
        if let Ok(id) = client.start("hostile_step", r#""loop""#).await {
            let _ = client.wait(&id).await;
        }
    }
}

async fn signal_for_ever(client: Client, id: String) {
    loop {
        let _ = client.signal(&id, "not-awaited").await;
    }
}

/// Polls each millisecond and endless chains, all of them within a moment.
async fn poll_and_continue(client: Client) {
    let poll = json!({ "base_url": "", "ready_at": 1, "every_ms": 1, "attempts": 1_000_000_000 }).to_string();
    let chain = json!({ "what": "chain", "count": 1_000_000_000 }).to_string();
    for number in 0..1_900 {
        let (workflow, input) = if number % 5 == 0 { ("load", &chain) } else { ("polling_in_vain", &poll) };
        let _ = client.start(workflow, input).await;
    }
}

/// One bomb a second, no two alike.
async fn upload_bombs(url: String, token: String) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let (bomb, folder) = (Arc::new(bomb()), scratch());
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file: PathBuf = folder.0.join(format!("bomb-{number}.wasm"));
        let mut bytes = bomb.as_ref().clone();
        // A custom section makes another component of it.
        bytes.extend([0, 9, 4, b's', b'a', b'l', b't']);
        bytes.extend(u32::try_from(number).unwrap_or(0).to_le_bytes());
        let _ = std::fs::write(&file, bytes);
        let mut upload = Command::new(test_engine::program("cerebelum"));
        upload.args(["--url", &url, "--token", &token, "upload"]).arg(&file);
        let _ = upload.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

/// A component that takes seconds to compile and stays below every limit on structure.
fn bomb() -> Vec<u8> {
    let functions = format!("(func {})\n", "(loop)".repeat(1_500)).repeat(60);
    wat::parse_str(format!("(component (core module (memory 1) {functions}))")).expect("it is a component")
}
