//! Mistakes of the engine itself: a task that panics ends its call, and leaves an execution that can be ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cerebelum_history::{Digest, Failure, GuestInput, HttpRequest, HttpResponse, Status};
use cerebelum_sandbox::{
    Account, HostError, InspectError, Inspected, LoadError, Manifest, Sandbox, SandboxMetrics, SandboxUsage,
};
use cerebelum_worker::{
    AnswerPermit, Caller, ComponentLoader, Config, Engine, Env, Grants, Guest, HostHeaders, HttpClient, NoProgram,
    Operation, Program, Runtime, StartRequest, TenantEngine,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use test_engine::{Database, WATCHDOG, component, scratch};

on_both_databases!(a_request_that_panics_ends_its_call, an_activation_that_panics_can_be_ended);

/// The shortest possible lease, since an execution is parked only after some leases.
const LEASE: Duration = Duration::from_secs(3);

/// An HTTP client that panics.
struct Panicking(AtomicUsize);

impl HttpClient for Panicking {
    fn fetch<'a>(
        &'a self,
        _: HttpRequest,
        _: &'a HostHeaders,
        _: &'a Grants,
        _: &'a mut AnswerPermit,
    ) -> BoxFuture<'a, Result<HttpResponse, Failure>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        async { panic!("a mistake in the web") }.boxed()
    }
}

/// A component loader that panics, once it is told to.
struct Tricky {
    sandbox: Sandbox,
    panics: Arc<AtomicBool>,
}

struct TrickyProgram {
    program: Arc<dyn Program>,
    panics: Arc<AtomicBool>,
}

impl ComponentLoader for Tricky {
    fn inspect(&self, bytes: Bytes) -> BoxFuture<'_, Result<Inspected, InspectError>> {
        ComponentLoader::inspect(&self.sandbox, bytes)
    }

    fn load<'a>(
        &'a self,
        digest: &'a Digest,
        bytes: BoxFuture<'a, Result<Vec<u8>, NoProgram>>,
    ) -> BoxFuture<'a, Result<Arc<dyn Program>, LoadError<NoProgram>>> {
        async move {
            let program = ComponentLoader::load(&self.sandbox, digest, bytes).await?;
            Ok(Arc::new(TrickyProgram { program, panics: self.panics.clone() }) as Arc<dyn Program>)
        }
        .boxed()
    }

    fn rest(&self) {}

    fn forget(&self, digest: &Digest) {
        ComponentLoader::forget(&self.sandbox, digest);
    }

    fn forget_others(&self, known: &BTreeSet<Digest>, age: Duration) {
        ComponentLoader::forget_others(&self.sandbox, known, age);
    }

    fn kept(&self) -> BoxFuture<'_, ()> {
        ComponentLoader::kept(&self.sandbox)
    }

    fn usage(&self) -> SandboxUsage {
        ComponentLoader::usage(&self.sandbox)
    }

    fn metrics(&self) -> SandboxMetrics {
        ComponentLoader::metrics(&self.sandbox)
    }
}

impl Program for TrickyProgram {
    fn manifest(&self) -> &Manifest {
        assert!(!self.panics.load(Ordering::SeqCst), "a mistake in the activation");
        self.program.manifest()
    }

    fn start(&self, begin: GuestInput, account: Arc<Account>) -> BoxFuture<'_, Result<Box<dyn Guest>, HostError>> {
        self.program.start(begin, account)
    }

    fn admitted(&self, is_workflow: bool) -> u64 {
        self.program.admitted(is_workflow)
    }
}

struct Clock(Instant);

impl Runtime for Clock {
    fn boot_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn chance(&self) -> u64 {
        u64::from(std::process::id()) << 32 | u64::from(self.0.elapsed().subsec_nanos())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

/// Runs a test on an engine in this process, whose environment panics.
fn check<F: Future<Output = ()>>(database: Database, test: impl FnOnce(TenantEngine, Arc<AtomicBool>) -> F) {
    let data = scratch();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = match database {
            Database::Sqlite => format!("sqlite:{}", data.0.join("cerebelum.db").display()),
            Database::Postgres => test_postgres::database(),
        };
        let panics = Arc::new(AtomicBool::new(false));
        let sandbox = Sandbox::new(cerebelum_sandbox::Config::new(&data.0)).map_err(|e| e.to_string()).unwrap();
        let env = Env {
            store: cerebelum_store::open(&url).await.unwrap(),
            programs: Arc::new(Tricky { sandbox, panics: panics.clone() }),
            web: Arc::new(Panicking(AtomicUsize::new(0))),
            runtime: Arc::new(Clock(Instant::now())),
        };
        let config = Config { lease: LEASE, ..Config::new(&data.0) };
        let engine = Engine::open_on(config, env).await.unwrap();
        let bytes = std::fs::read(component("test-guests")).unwrap();
        let tenant = engine.of(&Caller::of_open_engine());
        tenant.upload(Some("test-guests".into()), "test-guests.wasm", bytes).await.unwrap();
        test(tenant, panics).await;
        engine.stop().await;
    });
}

async fn begun(engine: &TenantEngine) -> String {
    let started = engine.start(StartRequest {
        workflow: "asks".into(),
        input: r#"{"method": "GET", "url": "http://127.0.0.1:1/"}"#.into(),
        id: None,
        attributes: vec![],
        delay_ms: 0,
        deadline_ms: None,
    });
    started.await.unwrap().id.to_string()
}

async fn ended(engine: &TenantEngine, id: &str) -> cerebelum_worker::ExecutionStatus {
    let status = engine.wait(id, Some(WATCHDOG)).await.unwrap();
    assert!(status.summary.ended_at.is_some(), "{id} has not ended: {status:#?}");
    status
}

fn a_request_that_panics_ends_its_call(database: Database) {
    check(database, async |engine: TenantEngine, _| {
        let id = begun(&engine).await;
        let failure = ended(&engine, &id).await.failure.unwrap();
        assert_eq!(failure.kind, "engine-failure", "{failure}");
    });
}

fn an_activation_that_panics_can_be_ended(database: Database) {
    check(database, async |engine: TenantEngine, panics: Arc<AtomicBool>| {
        panics.store(true, Ordering::SeqCst);
        let (parked, resumed) = (begun(&engine).await, begun(&engine).await);
        for id in [&parked, &resumed] {
            let began = Instant::now();
            while engine.status(id).await.unwrap().summary.status != Status::Parked {
                assert!(began.elapsed() < WATCHDOG, "it is set aside after a few times");
                let _ = engine.wait(id, Some(Duration::from_millis(50))).await.unwrap();
            }
            let why = engine.status(id).await.unwrap().failure.unwrap();
            assert_eq!(why.kind, "engine-error", "{why}");
        }
        // While the execution is rebuilt again and again it is asked to end, and it ends when it is parked.
        let running = begun(&engine).await;
        for id in [&running, &parked] {
            engine.operate(id, &Operation::Terminate).await.unwrap();
            assert_eq!(ended(&engine, id).await.summary.status, Status::Cancelled);
        }
        panics.store(false, Ordering::SeqCst);
        engine.operate(&resumed, &Operation::Resume { force: false }).await.unwrap();
        assert_eq!(ended(&engine, &resumed).await.failure.unwrap().kind, "engine-failure");
    });
}
