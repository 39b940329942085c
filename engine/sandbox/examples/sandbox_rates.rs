//! Measures the speed of the sandbox on this machine: starts and durable calls, on one thread and on two.
//!
//! `cargo run --release -p cerebelum-sandbox --example sandbox_rates [COMPONENT.wasm WORKFLOW INPUT]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people to look at")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cerebelum_history::{Call, Delivery, Entry, GuestInput, Json, Outcome, Request, Timestamp};
use cerebelum_sandbox::{Config, Ledger, Program, Sandbox};

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
    println!("{threads} thread(s): µs of one thread, of them CPU, per second");
    let workflow = |name: &str| Entry::Workflow(name.into());
    rate(threads, ("start, run and drop a step", 1), &guest, (Entry::Step("echo".into()), "1")).await;
    rate(threads, ("a call, lowered asynchronously", 10_000), &guest, (workflow("sequential"), "10000")).await;
    rate(threads, ("a call, lowered synchronously", 10_000), &guest, (workflow("blocking"), "10000")).await;
    rate(threads, ("a workflow of three calls", 1), &guest, (workflow("sequential"), "3")).await;
    if let [file, name, input] = arguments {
        let other = load(&sandbox, Path::new(file)).await;
        rate(threads, ("a run of the given component", 1), &other, (workflow(name), input)).await;
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

/// Measures one kind of run. Each run counts as `per_run` of the measured operation.
async fn rate(threads: usize, (what, per_run): (&str, u32), program: &Program, (entry, input): (Entry, &str)) {
    let cpu_began = process_cpu();
    let workers = (0..threads).map(|_| {
        let (program, entry, input) = (program.clone(), entry.clone(), Json::parse(input).unwrap());
        tokio::spawn(async move {
            let started = Instant::now();
            let mut runs = 0_u32;
            while started.elapsed() < MEASURED {
                run(&program, &entry, &input).await;
                runs += 1;
            }
            (f64::from(runs) * f64::from(per_run), started.elapsed().as_secs_f64())
        })
    });
    let (mut count, mut per_second) = (0.0, 0.0);
    for worker in futures::future::join_all(workers).await {
        let (done, took_s) = worker.unwrap();
        count += done;
        per_second += done / took_s;
    }
    let each_us = threads as f64 * 1e6 / per_second;
    let cpu_us = (process_cpu() - cpu_began).as_secs_f64() * 1e6 / count;
    println!("  {what:32} {each_us:9.2} {cpu_us:9.2} {per_second:10.0}");
}

fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

async fn run(program: &Program, entry: &Entry, input: &Json) {
    let begin = GuestInput {
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
    let mut guest = program.start(begin, Ledger::new(1 << 30).account()).await.unwrap();
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
