//! Components of the simulation: each is a program, run by a native guest.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use cerebelum_history::{Delivery, Digest, Entry, GuestInput, StepOptions, Turn};
use cerebelum_sandbox::{
    Account, HostError, InspectError, Inspected, LoadError, Manifest, SandboxMetrics, SandboxUsage, StepInfo,
    WorkflowInfo,
};
use cerebelum_worker::{ComponentLoader, Guest, NoProgram, Program};
use futures::FutureExt;
use futures::future::BoxFuture;
use test_programs::{CHECK_RETRY, Node, Stay};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clockwork::Clockwork;
use crate::report::Report;
use crate::world::World;

/// Every program by the digest of its component, and what guests find in the outside world.
pub(crate) struct Library {
    clockwork: Clockwork,
    report: Report,
    programs: BTreeMap<Digest, Arc<Node>>,
    /// Executions whose broken steps were repaired.
    pub(crate) mended: Mutex<BTreeSet<String>>,
    /// The keys of a poll's rounds in the order in which they came, by execution and path.
    rounds: Mutex<BTreeMap<(String, String), Vec<String>>>,
}

impl Library {
    pub(crate) fn new(clockwork: Clockwork, report: Report, programs: &[Node]) -> Self {
        let programs = programs.iter().enumerate();
        let programs = programs.map(|(number, program)| (Digest::of(&bytes(number)), Arc::new(program.clone())));
        Self { clockwork, report, programs: programs.collect(), mended: Mutex::default(), rounds: Mutex::default() }
    }

    /// The number of a round, which is known by its unique key (L3).
    fn round(&self, begin: &GuestInput) -> u32 {
        let mut rounds = self.rounds.lock().expect("nobody panics here");
        let place = (begin.execution.to_string(), begin.input.to_string());
        let keys = rounds.entry(place).or_default();
        if !keys.contains(&begin.idempotency_key) {
            keys.push(begin.idempotency_key.clone());
        }
        let index = keys.iter().position(|key| *key == begin.idempotency_key);
        u32::try_from(index.expect("it was just put there") + 1).expect("not that many rounds")
    }
}

/// The bytes of a component: they only have to be unique.
pub(crate) fn bytes(number: usize) -> Vec<u8> {
    format!("program {number}").into_bytes()
}

/// The manifest of every component.
pub(crate) fn manifest() -> Manifest {
    let step = |name: &str, options| StepInfo {
        name: name.to_owned(),
        input_schema: None,
        output_schema: None,
        summary: None,
        options,
    };
    let workflow = WorkflowInfo {
        name: "w".to_owned(),
        input_schema: None,
        output_schema: None,
        summary: None,
        cancel_grace_ms: None,
    };
    Manifest {
        sdk: "simulation".to_owned(),
        workflows: vec![workflow],
        steps: vec![
            step("step", StepOptions::default()),
            step("check", StepOptions { retry: Some(CHECK_RETRY), ..StepOptions::default() }),
        ],
        hosts: vec!["world".to_owned()],
        secrets: Vec::new(),
    }
}

/// The components that one node has loaded.
pub(crate) struct Shelf {
    node: Home,
    loaded: Mutex<BTreeSet<Digest>>,
}

/// The node on which guests live.
#[derive(Clone)]
struct Home {
    world: Weak<World>,
    node: usize,
    library: Arc<Library>,
    /// Places for guests, and the share of them that workflows may have, as in the sandbox.
    places: Arc<Semaphore>,
    workflows: Arc<Semaphore>,
    /// How many steps and workflows have got a place so far.
    admitted: Arc<[AtomicU64; 2]>,
}

impl Shelf {
    /// With places for this many guests.
    pub(crate) fn new(world: &Arc<World>, node: usize, guests_max: u32) -> Self {
        let places = |count: u32| Arc::new(Semaphore::new(count as usize));
        let node = Home {
            world: Arc::downgrade(world),
            node,
            library: world.library.clone(),
            places: places(guests_max),
            workflows: places(guests_max - guests_max / 4),
            admitted: Arc::default(),
        };
        Self { node, loaded: Mutex::default() }
    }
}

impl ComponentLoader for Shelf {
    fn inspect(&self, bytes: Bytes) -> BoxFuture<'_, Result<Inspected, InspectError>> {
        let inspected = Inspected { digest: Digest::of(&bytes), manifest: manifest() };
        std::future::ready(Ok(inspected)).boxed()
    }

    fn load<'a>(
        &'a self,
        digest: &'a Digest,
        bytes: BoxFuture<'a, Result<Vec<u8>, NoProgram>>,
    ) -> BoxFuture<'a, Result<Arc<dyn Program>, LoadError<NoProgram>>> {
        async move {
            let is_new = !self.loaded.lock().expect("nobody panics here").contains(digest);
            if is_new {
                bytes.await.map_err(LoadError::Bytes)?;
                self.loaded.lock().expect("nobody panics here").insert(digest.clone());
            }
            let program = self.node.library.programs[digest].clone();
            Ok(Arc::new(Loaded { home: self.node.clone(), program, manifest: manifest() }) as Arc<dyn Program>)
        }
        .boxed()
    }

    fn rest(&self) {}

    fn forget(&self, digest: &Digest) {
        self.loaded.lock().expect("nobody panics here").remove(digest);
    }

    fn forget_others(&self, _: &BTreeSet<Digest>, _: Duration) {}

    fn kept(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn usage(&self) -> SandboxUsage {
        SandboxUsage::default()
    }

    fn metrics(&self) -> SandboxMetrics {
        SandboxMetrics::default()
    }
}

struct Loaded {
    home: Home,
    program: Arc<Node>,
    manifest: Manifest,
}

impl Program for Loaded {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn start(&self, begin: GuestInput, _: Arc<Account>) -> BoxFuture<'_, Result<Box<dyn Guest>, HostError>> {
        async move {
            let take = async |places: &Arc<Semaphore>| places.clone().acquire_owned().await.expect("nobody closes it");
            let is_workflow = matches!(begin.entry, Entry::Workflow(_));
            let as_workflow = if is_workflow { Some(take(&self.home.workflows).await) } else { None };
            let place = (take(&self.home.places).await, as_workflow);
            let library = &self.home.library;
            let mended = library.mended.lock().expect("nobody panics here").contains(begin.execution.as_str());
            let stay = Stay { attempt: begin.attempt, round: library.round(&begin), mended };
            let guest = test_programs::Guest::begin(self.program.clone(), begin, stay);
            self.home.admitted[usize::from(is_workflow)].fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(NativeGuest { home: self.home.clone(), guest, _place: place }) as Box<dyn Guest>)
        }
        .boxed()
    }

    fn admitted(&self, is_workflow: bool) -> u64 {
        self.home.admitted[usize::from(is_workflow)].load(Ordering::Relaxed)
    }
}

/// The memory that a guest reports.
pub(crate) const GUEST_BYTES: u64 = 1 << 20;

struct NativeGuest {
    home: Home,
    guest: test_programs::Guest,
    _place: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl Guest for NativeGuest {
    fn memory_bytes(&self) -> u64 {
        GUEST_BYTES
    }

    fn turn(&mut self, delivery: Option<Delivery>, _: bool) -> BoxFuture<'_, Result<Turn, HostError>> {
        async move {
            let library = &self.home.library;
            let clockwork = &library.clockwork;
            if self.home.world.upgrade().is_some_and(|world| world.crashes_now(self.home.node)) {
                // The node has crashed: the guest goes no further.
                std::future::pending::<()>().await;
            }
            if clockwork.permille(100) {
                clockwork.sleep_ms(clockwork.below(8)).await;
            }
            if clockwork.permille(5) {
                // Another guest needs its place.
                return Err(HostError::Displaced);
            }
            // A panic of a guest reports a broken law; it is not the guest's failure.
            catch_unwind(AssertUnwindSafe(|| self.guest.turn(delivery))).map_err(|cause| {
                library.report.violation(format!("a guest complains: {}", words(&*cause)));
                HostError::Ended
            })
        }
        .boxed()
    }
}

fn words(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
