//! Measures the costs of Python guests: compiling a second component, loading it after a restart, warm starts, and the
//! memory of parked guests. Both components come from `componentize-py` and have a workflow that makes at least one
//! durable call.
//!
//! `cargo run --release -p cerebelum-sandbox --example python_costs FIRST.wasm SECOND.wasm WORKFLOW INPUT`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people to look at")]

use std::path::Path;
use std::time::{Duration, Instant};

use cerebelum_history::{Digest, Entry, GuestInput, Json, Timestamp};
use cerebelum_sandbox::{Config, Guest, Ledger, Program, Sandbox};

const MEASURED: Duration = Duration::from_secs(3);
const PARKED: usize = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second, workflow, input] = &arguments[..] else { panic!("FIRST.wasm SECOND.wasm WORKFLOW INPUT") };
    let data = std::env::temp_dir().join(format!("cerebelum-python-costs-{}", std::process::id()));
    let entry = (Entry::Workflow(workflow.clone()), Json::parse(input).unwrap());
    for threads in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
        runtime.block_on(measure(threads, &data, [first.as_ref(), second.as_ref()], &entry));
        std::fs::remove_dir_all(&data).unwrap();
    }
}

async fn measure(threads: usize, data: &Path, files: [&Path; 2], entry: &(Entry, Json)) {
    println!("{threads} thread(s)");
    let sandbox = Sandbox::new(Config::new(data)).unwrap();
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        let before = sandbox.modules_compiled();
        let began = Instant::now();
        sandbox.inspect(bytes).await.unwrap();
        let compiled = sandbox.modules_compiled() - before;
        println!("  upload of {}: {:.1?}, shared modules compiled: {compiled}", file.display(), began.elapsed());
        sandbox.kept().await;
        println!("    on disk after {:.1?}", began.elapsed());
    }
    drop(sandbox);
    let sandbox = Sandbox::new(Config::new(data)).unwrap();
    let mut programs = Vec::new();
    for file in files {
        let digest = Digest::of(&std::fs::read(file).unwrap());
        let began = Instant::now();
        programs.push(sandbox.load(&digest, async { Err::<Vec<u8>, _>("it is on disk") }).await.unwrap());
        println!("  load of {} after a restart: {:.1?}", file.display(), began.elapsed());
        let began = Instant::now();
        let guest = quiescent(&programs[programs.len() - 1], entry).await;
        println!("    its first guest, to its first call: {:.1?}", began.elapsed());
        drop(guest);
    }
    warm_starts(threads, &programs[1], entry).await;
    let before = parked(&programs[1], entry).await;
    drop(programs);
    sandbox.rest();
    sandbox.rest();
    println!("  {} KiB remain after a rest", private_bytes().saturating_sub(before) / 1024);
    for entry in std::fs::read_dir(data.join("artifacts")).unwrap() {
        let entry = entry.unwrap();
        let mib = entry.metadata().unwrap().len() >> 20;
        if mib > 0 {
            println!("  {mib} MiB on disk: {:.16}…", entry.file_name().display());
        }
    }
}

/// Starts guests, runs each until its first call and drops it, one after the other on each thread.
async fn warm_starts(threads: usize, program: &Program, entry: &(Entry, Json)) {
    let workers = (0..threads).map(|_| {
        let (program, entry) = (program.clone(), entry.clone());
        tokio::spawn(async move {
            let (mut took, first) = (Vec::new(), Instant::now());
            while first.elapsed() < MEASURED {
                let began = Instant::now();
                let guest = quiescent(&program, &entry).await;
                took.push(began.elapsed());
                drop(guest);
            }
            took
        })
    });
    let mut took: Vec<Duration> =
        futures::future::join_all(workers).await.into_iter().flat_map(|worker| worker.unwrap()).collect();
    took.sort();
    let at = |share: usize| took[took.len() * share / 100];
    let per_second = took.len() as f64 / MEASURED.as_secs_f64();
    println!(
        "  warm start to the first call: p50 {} µs, p90 {}, p99 {}; {per_second:.0} starts and drops per second",
        at(50).as_micros(),
        at(90).as_micros(),
        at(99).as_micros()
    );
}

/// Measures the memory of guests that wait.
async fn parked(program: &Program, entry: &(Entry, Json)) -> u64 {
    let before = private_bytes();
    let mut guests = Vec::new();
    for _ in 0..PARKED {
        guests.push(quiescent(program, entry).await);
    }
    let grown = private_bytes().saturating_sub(before);
    println!("  parked: {} KiB of private memory each", grown / PARKED as u64 / 1024);
    drop(guests);
    println!("  {} KiB remain when all {PARKED} are gone", private_bytes().saturating_sub(before) / 1024);
    before
}

async fn quiescent(program: &Program, (entry, input): &(Entry, Json)) -> Guest {
    let begin = GuestInput {
        entry: entry.clone(),
        input: input.clone(),
        clock: Timestamp(1_800_000_000_000),
        seed: [7; 32],
        execution: "costs".parse().unwrap(),
        workflow: "costs".into(),
        run: 1,
        attempt: 1,
        idempotency_key: String::new(),
    };
    let mut guest = program.start(begin, Ledger::new(1 << 30).account()).await.unwrap();
    let turn = guest.turn(None).await.unwrap();
    assert!(turn.end.is_none(), "the workflow must make a call: {turn:?}");
    guest
}

/// The private memory of this process: pages shared with another process or with the page cache do not count.
fn private_bytes() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let private = maps.lines().filter(|line| line.starts_with("Private_Dirty:"));
    private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024).sum()
}
