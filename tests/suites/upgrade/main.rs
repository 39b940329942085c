//! An upgrade without a pause: an engine of the version before works under load on one PostgreSQL, and an engine of this
//! version starts beside it, brings the schema up to date and takes over. `make upgrade` builds the version before.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, assert_one_writer, until};

/// How long both work under load, once one is there beside the other.
const BESIDE: Duration = Duration::from_secs(10);
/// How long one works alone, before and after that.
const ALONE: Duration = Duration::from_secs(3);
/// Clients that start executions, each one after the other.
const CLIENTS: usize = 3;
/// Executions that sleep until the other engine cancels them.
const SLEEPERS: usize = 20;

/// The executions that clients start, on whichever engines there are.
#[derive(Default)]
struct Load {
    started: Mutex<Vec<String>>,
    next: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    /// Starts executions on these engines until the load is over.
    fn run(&self, engines: &[&Engine], cloud: &str) {
        while !self.is_over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let (workflow, input) = match number % 3 {
                0 => ("naps", json!({"base_url": cloud, "sleep_ms": 300, "naps": 10})),
                1 => ("posts", json!({"base_url": cloud, "paths": ["notes/a", "slow/400/b", "notes/c"]})),
                _ => ("countdown", json!(5)),
            };
            let id = engines[number % engines.len()].begin(workflow, &input);
            self.started.lock().unwrap().push(id);
        }
    }

    /// Runs clients against these engines while something is done.
    fn beside<T>(&self, engines: &[&Engine], cloud: &str, doing: impl FnOnce() -> T) -> T {
        self.is_over.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| self.run(engines, cloud));
            }
            let done = doing();
            self.is_over.store(true, Ordering::Relaxed);
            done
        })
    }
}

fn pass(time: Duration) {
    let began = Instant::now();
    until("the time has passed", || (began.elapsed() > time).then_some(()));
}

fn schema(engine: &Engine) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(engine.database()).await.unwrap();
        sqlx::query_scalar("select max(version) from _sqlx_migrations").fetch_one(&mut connection).await.unwrap()
    })
}

#[test]
fn the_version_before_works_on_while_this_one_starts_beside_it_and_takes_over() {
    let program =
        std::env::var_os("EARLIER").expect("EARLIER is the program of the version before: run `make upgrade`");
    let (cloud, load) = (Cloud::start(), Load::default());
    let mut earlier = Engine::start_version(PathBuf::from(program), Database::Postgres, &[("LEASE", "3s")]);
    earlier.upload("test-guests");
    let sleepers: Vec<String> = (0..SLEEPERS).map(|_| earlier.begin("sleeper", &json!(600_000))).collect();
    load.beside(&[&earlier], cloud.url(), || pass(ALONE));
    let before = schema(&earlier);

    let this = load.beside(&[&earlier], cloud.url(), || Engine::beside(&earlier));
    assert!(schema(&this) > before, "the versions do not differ in their schema: both have {before}");
    load.beside(&[&earlier, &this], cloud.url(), || {
        for (number, id) in sleepers.iter().enumerate() {
            [&earlier, &this][number % 2].ok(&["cancel", id]);
        }
        pass(BESIDE);
    });
    let begun_by = |engine: &Engine| engine.metric("cerebelum_executions_started_total");
    assert!(begun_by(&earlier) > 0 && begun_by(&this) > 0, "both work");
    let said = earlier.log();
    for word in [" ERROR ", "panicked at", "parked"] {
        assert!(!said.contains(word), "the version before is in trouble:\n{said}");
    }

    load.beside(&[&this], cloud.url(), || {
        earlier.kill();
        pass(ALONE);
    });
    assert!(!earlier.launch(&[]), "the version before does not know this schema");
    let last = earlier.log().lines().last().unwrap_or_default().to_owned();
    assert!(last.contains("use the engine that wrote it, or a newer one"), "{last}");

    let started = load.started.into_inner().unwrap();
    for id in &started {
        assert_eq!(this.wait_for_end(id)["status"], "completed", "{id}");
        assert_one_writer(&this.history(id));
    }
    for id in &sleepers {
        assert_eq!(this.wait_for_end(id)["status"], "cancelled", "{id}");
    }
    assert_alike(&cloud.ledger());
    eprintln!("schema {before} to {}: {} executions, none lost", schema(&this), started.len() + sleepers.len());
}

/// Asserts that requests with one key are alike: a request that a kill cut off is repeated as it was.
fn assert_alike(requests: &[Value]) {
    let mut first = std::collections::HashMap::new();
    for request in requests {
        let seen = (&request["path"], &request["body"]);
        let known = first.entry(request["idempotency_key"].to_string()).or_insert(seen);
        assert_eq!(*known, seen, "{request:#}");
    }
}
