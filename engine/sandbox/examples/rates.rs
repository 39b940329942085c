//! How fast the sandbox is here: starts, durable calls, on one thread and on two.
//!
//! `cargo run --release -p cerebelum-sandbox --example rates [COMPONENT.wasm WORKFLOW INPUT]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people to look at")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cerebelum_history::{Begin, Call, Delivery, Entry, Json, Outcome, Request, Timestamp};
use cerebelum_sandbox::{Config, Program, Sandbox};

const MEASURED: Duration = Duration::from_secs(2);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for threads in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
        runtime.block_on(measure(threads, &arguments));
    }
}

async fn measure(threads: usize, arguments: &[String]) {
    let data = std::env::temp_dir().join(format!("cerebelum-rates-{}", std::process::id()));
    let sandbox = Sandbox::new(Config::new(&data)).unwrap();
    let guest = load(&sandbox, &guest_file()).await;
    println!("{threads} thread(s)");
    rate(threads, "start, run and drop a step", 1, &guest, Entry::Step("echo".into()), "1").await;
    rate(threads, "a call, lowered asynchronously", 10_000, &guest, Entry::Workflow("sequential".into()), "10000")
        .await;
    rate(threads, "a call, lowered synchronously", 10_000, &guest, Entry::Workflow("blocking".into()), "10000").await;
    rate(threads, "a workflow of three calls", 1, &guest, Entry::Workflow("sequential".into()), "3").await;
    if let [file, workflow, input] = arguments {
        let other = load(&sandbox, Path::new(file)).await;
        rate(threads, "a run of the given component", 1, &other, Entry::Workflow(workflow.clone()), input).await;
    }
    std::fs::remove_dir_all(data).unwrap();
}

async fn load(sandbox: &Sandbox, file: &Path) -> Program {
    let started = Instant::now();
    let bytes = std::fs::read(file).unwrap();
    let digest = sandbox.inspect(bytes.clone()).await.unwrap().digest;
    let program = sandbox.load(&digest, async { Ok::<_, String>(bytes) }).await.unwrap();
    println!("compiled {} in {:?}", file.file_name().unwrap().display(), started.elapsed());
    program
}

fn guest_file() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let arguments = ["build", "--profile", "guest", "--target", "wasm32-wasip2", "-p", "sandbox-test-guest"];
    assert!(Command::new("cargo").args(arguments).current_dir(&root).status().unwrap().success());
    let executable = std::env::current_exe().unwrap();
    let target = executable.ancestors().nth(3).unwrap();
    target.join("wasm32-wasip2/guest/sandbox_test_guest.wasm")
}

async fn rate(threads: usize, what: &str, per_run: u32, program: &Program, entry: Entry, input: &str) {
    let workers = (0..threads).map(|_| {
        let (program, entry, input) = (program.clone(), entry.clone(), Json::parse(input).unwrap());
        tokio::spawn(async move {
            run(&program, &entry, &input).await;
            let started = Instant::now();
            let mut runs = 0_u32;
            while started.elapsed() < MEASURED {
                run(&program, &entry, &input).await;
                runs += 1;
            }
            (runs, started.elapsed())
        })
    });
    let mut per_second = 0.0;
    for worker in futures::future::join_all(workers).await {
        let (runs, took) = worker.unwrap();
        per_second += f64::from(runs) * f64::from(per_run) / took.as_secs_f64();
    }
    let each_us = threads as f64 * 1e6 / per_second;
    println!("  {what:32} {each_us:9.2} µs {per_second:12.0} /s");
}

async fn run(program: &Program, entry: &Entry, input: &Json) {
    let begin = Begin {
        entry: entry.clone(),
        input: input.clone(),
        clock: Timestamp(1_800_000_000_000),
        seed: [7; 32],
        execution: "rates".parse().unwrap(),
        workflow: "rates".into(),
        run: 1,
        attempt: 1,
        idempotency_key: String::new(),
    };
    let mut guest = program.start(begin).await.unwrap();
    let mut open = std::collections::VecDeque::new();
    let (mut clock, mut delivery) = (Timestamp(1_800_000_000_000), None);
    loop {
        let turn = guest.turn(delivery.take()).await.unwrap();
        if let Some(end) = turn.end {
            end.unwrap();
            return;
        }
        for request in turn.requests {
            if let Request::Call(ordinal, call) = request {
                open.push_back((ordinal, call));
            }
        }
        let (ordinal, call) = open.pop_front().unwrap();
        let (took, outcome) = match call {
            Call::Step(step, _) => (1, Outcome::Value(step.input)),
            Call::Sleep { duration_ms } => (duration_ms, Outcome::Slept),
            other => panic!("no answer to {other:?}"),
        };
        clock = clock.plus(took);
        delivery = Some(Delivery { ordinal, outcome, clock });
    }
}
