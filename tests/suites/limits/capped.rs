//! An engine whose resident memory is capped: a watchdog checks it all the time and kills it when it has too much.
//! (`RLIMIT_AS` cannot be that cap: guests reserve far more address space than they use.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::{Value, json};
use test_engine::{Database, Engine, Pace};

/// The memory that the engine may have, in bytes.
pub(crate) const RESIDENT_BYTES_MAX: u64 = 1 << 30;

/// An engine with its watchdog.
pub(crate) struct Capped {
    pub(crate) engine: Engine,
    watchdog: Option<Watchdog>,
    others: Pace,
}

impl Capped {
    /// Starts an engine that knows the cap, and measures how long other executions usually take.
    pub(crate) fn start(database: Database) -> Self {
        // Linux enforces nothing by this limit. The engine takes it for what it may have, as it does with the limit of a
        // container, and has the settings that it has by default there.
        let limit = Rlimit { current: Some(RESIDENT_BYTES_MAX), maximum: Some(RESIDENT_BYTES_MAX) };
        setrlimit(Resource::Rss, limit).expect("a process may lower its own limits");
        let engine = Engine::start_with(database, &[]);
        engine.upload("test-guests");
        let watchdog = Some(Watchdog::begin(engine.pid()));
        let others = Pace::of(|| serve_another(&engine));
        Self { engine, watchdog, others }
    }

    fn watch(&mut self) {
        self.watchdog = Some(Watchdog::begin(self.engine.pid()));
    }

    /// Serves others while something goes on; returns when it is over.
    pub(crate) fn serves_others_while(&mut self, mut goes_on: impl FnMut(&Engine) -> bool) {
        while goes_on(&self.engine) || self.others.count() < 3 {
            self.others.again(|| serve_another(&self.engine));
            self.is_alive();
        }
    }

    /// Kills the engine in the middle of the work and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        self.watchdog.take().expect("it is watched").end();
        self.engine.kill_and_restart();
        self.watch();
    }

    fn is_alive(&self) {
        let watchdog = self.watchdog.as_ref().unwrap();
        let most = watchdog.shared.most.load(Ordering::Relaxed);
        assert!(most <= RESIDENT_BYTES_MAX, "the engine had {} MiB and was killed", most >> 20);
    }

    /// Checks that others were served about as fast as ever, and that the memory never exceeded the cap.
    pub(crate) fn end(mut self, what: &str) {
        self.is_alive();
        let most = self.watchdog.take().unwrap().end();
        eprintln!("{what}: at most {} MiB", most >> 20);
        self.others.assert_kept();
    }
}

/// Runs an execution of another component. While those who attack have all that their tenant may have, others of the
/// same tenant are told to try again, and do; that takes its time.
fn serve_another(engine: &Engine) {
    loop {
        let said = engine.cli(&["start", "sequence", "--input", "{\"steps\":2}", "--wait", "--json"]);
        if said.code == 5 && said.err.contains("try again in a moment") {
            continue;
        }
        let told: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}\n{}", engine.log()));
        assert_eq!(told["output"], json!(2), "others are served: {said:?}");
        return;
    }
}

/// Watches a process until this is dropped.
struct Watchdog {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    most: AtomicU64,
}

impl Watchdog {
    fn begin(pid: u32) -> Self {
        let shared = Arc::new(Shared::default());
        let there = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !there.over.load(Ordering::Relaxed) {
                let resident = resident_bytes(pid).unwrap_or(0);
                there.most.fetch_max(resident, Ordering::Relaxed);
                if resident > RESIDENT_BYTES_MAX {
                    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).unwrap();
                    // The process may have ended already.
                    let _ = rustix::process::kill_process(pid, test_engine::Signal::KILL);
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { shared, thread }
    }

    fn end(self) -> u64 {
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.shared.most.load(Ordering::Relaxed)
    }
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}
