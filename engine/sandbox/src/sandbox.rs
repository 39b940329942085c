//! The sandbox of a node: accepts components, keeps them ready, and counts their guests.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cerebelum_history::Digest;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::admission::Admission;
use crate::artifact_writer::Keeping;
use crate::cache::Cache;
use crate::compile_box::CompileError;
use crate::compile_pool::CompilePool;
use crate::engine_pair::EnginePair;
use crate::metrics::{SandboxMetrics, SandboxUsage};
use crate::program::{self, Program};
use crate::refusals::Refusals;
use crate::{Config, InspectError, LoadError, Manifest, SandboxError};

/// An upload may take this many times as long to compile as its structure lets expect.
const UPLOAD_PATIENCE: u64 = 3;
/// The same for a component that was accepted once, perhaps by a faster machine.
const WAKE_PATIENCE: u64 = 6;

/// Runs guests. Cheap to clone; all clones share their state.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
    programs: Arc<Mutex<ComponentCache>>,
}

/// The state that all programs and guests of a sandbox share. The [`ComponentCache`] is not part of it: the cache and
/// its programs would keep each other alive.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) engines: EnginePair,
    pub(crate) cache: Cache,
    pub(crate) admission: Arc<Admission>,
    /// Compiles uploads.
    uploads: CompilePool,
    /// Compiles components that executions wait for, so that they do not queue behind uploads.
    wakes: CompilePool,
    pub(crate) keeping: Keeping,
    refusals: Refusals,
    metrics: SandboxMetrics,
}

/// Why a component is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Somebody uploads it.
    Upload,
    /// It was accepted earlier, and an execution needs it.
    Wake,
}

impl Shared {
    fn pool(&self, purpose: Purpose) -> &CompilePool {
        match purpose {
            Purpose::Upload => &self.uploads,
            Purpose::Wake => &self.wakes,
        }
    }

    fn remember(&self, digest: &Digest, purpose: Purpose, cause: &str) {
        if purpose == Purpose::Upload {
            self.refusals.add(digest, cause);
        }
    }
}

/// An inspected component.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    /// Its content address.
    pub digest: Digest,
    /// The component's description of itself.
    pub manifest: Manifest,
}

impl Sandbox {
    /// Sets up both engines and the artifact cache.
    ///
    /// # Errors
    /// When the data folder cannot be used, or the machine cannot run guests as configured.
    pub fn new(config: Config) -> Result<Self, SandboxError> {
        let shared = Shared {
            engines: EnginePair::new(&config)?,
            cache: Cache::open(&config.data)?,
            admission: Admission::new(config.memory_bytes_max),
            uploads: CompilePool::new("upload", UPLOAD_PATIENCE)?,
            wakes: CompilePool::new("compile", WAKE_PATIENCE)?,
            keeping: Keeping::default(),
            refusals: Refusals::default(),
            metrics: SandboxMetrics::default(),
            config,
        };
        Ok(Self { shared: Arc::new(shared), programs: Arc::default() })
    }

    /// Inspects an uploaded component: checks it, compiles it and calls its `describe`.
    ///
    /// # Errors
    /// `Refused` with one line that names the component's fault; `HostError` when the fault is not the component's.
    pub async fn inspect(&self, bytes: impl Into<Bytes>) -> Result<Inspected, InspectError> {
        let bytes = bytes.into();
        let (digest, bytes) = blocking(move || (Digest::of(&bytes), bytes)).await?;
        let program = self.ready(&digest, Purpose::Upload, async { Ok(bytes) }).await.map_err(
            |error: LoadError<Infallible>| match error {
                LoadError::Inspect(error) => error,
                LoadError::Bytes(never) => match never {},
            },
        )?;
        Ok(Inspected { digest, manifest: program.manifest().clone() })
    }

    /// Prepares a component that was accepted earlier: from memory, from disk, or by compiling `bytes`, which are only
    /// requested then. Concurrent calls compile it once.
    ///
    /// # Errors
    /// `Bytes` when the bytes could not be read; `Inspect` when they do not match `digest` or are not acceptable.
    pub async fn load<E>(
        &self,
        digest: &Digest,
        bytes: impl Future<Output = Result<Vec<u8>, E>>,
    ) -> Result<Program, LoadError<E>> {
        let checked = async {
            let (expected, bytes) = (digest.clone(), Bytes::from(bytes.await.map_err(LoadError::Bytes)?));
            let (intact, bytes) = blocking(move || (Digest::of(&bytes) == expected, bytes)).await?;
            let damaged = || InspectError::HostError(format!("the stored bytes of component {digest} are damaged"));
            if intact { Ok(bytes) } else { Err(damaged().into()) }
        };
        self.ready(digest, Purpose::Wake, checked).await
    }

    /// Waits until everything compiled so far is on disk or could not be written. A component that is not on disk is
    /// compiled again after a restart.
    pub async fn kept(&self) {
        self.shared.keeping.done().await;
    }

    /// Removes the compiled form of a component from memory and disk. Guests that run it go on. A component that is
    /// being written at this moment reappears on disk, where it does no harm.
    pub fn forget(&self, digest: &Digest) {
        self.programs.lock().cells.remove(digest);
        self.shared.cache.forget(digest);
    }

    /// Removes the compiled forms of components that are not in `known` and were stored longer than `age` ago. They are
    /// left over from a process that died before it removed them.
    pub fn forget_others(&self, known: &BTreeSet<Digest>, age: Duration) {
        self.shared.cache.kept_before(age).difference(known).for_each(|digest| self.forget(digest));
    }

    /// Drops large programs that have no guest and were not used since the last call. They stay on disk. This frees the
    /// memory that the slots of their guests keep, about as much as each such guest has.
    pub fn rest(&self) {
        // Dropped outside the lock: unmapping takes milliseconds.
        let rested = self.programs.lock().rest();
        drop(rested);
    }

    /// The number of running guests.
    #[must_use]
    pub fn live(&self) -> usize {
        self.shared.admission.live()
    }

    /// The slots and the memory that guests have, and how many guests were started.
    #[must_use]
    pub fn usage(&self) -> SandboxUsage {
        let Shared { admission, config, .. } = &*self.shared;
        let ([small, large], memory_bytes) = admission.taken();
        SandboxUsage {
            small: (small, config.small_instances_max.into()),
            large: (large, config.large_instances_max.into()),
            memory_bytes,
            memory_bytes_max: config.memory_bytes_max,
            started: admission.started(),
        }
    }

    /// What this sandbox measures of itself.
    #[must_use]
    pub fn metrics(&self) -> SandboxMetrics {
        self.shared.metrics.clone()
    }

    /// How many components are being compiled, including those that no caller waits for any more.
    #[must_use]
    pub fn compiling(&self) -> usize {
        self.shared.uploads.busy() + self.shared.wakes.busy()
    }

    /// How many shared modules were compiled since the sandbox was created. A component whose modules are all available
    /// adds none.
    #[must_use]
    pub fn modules_compiled(&self) -> u64 {
        self.shared.engines.modules_compiled()
    }

    async fn ready<E>(
        &self,
        digest: &Digest,
        purpose: Purpose,
        bytes: impl Future<Output = Result<Bytes, LoadError<E>>>,
    ) -> Result<Program, LoadError<E>> {
        let cell = self.programs.lock().cell(digest, self.shared.config.programs_max);
        cell.get_or_try_init(|| self.prepare(digest, purpose, bytes)).await.cloned()
    }

    /// Executions do not lose their component because an upload of the same bytes was refused on a busy machine.
    fn not_refused(&self, digest: &Digest, purpose: Purpose) -> Result<(), InspectError> {
        let known = (purpose == Purpose::Upload).then(|| self.shared.refusals.find(digest)).flatten();
        known.map_or(Ok(()), |cause| Err(InspectError::Refused(cause)))
    }

    async fn prepare<E>(
        &self,
        digest: &Digest,
        purpose: Purpose,
        bytes: impl Future<Output = Result<Bytes, LoadError<E>>>,
    ) -> Result<Program, LoadError<E>> {
        let (shared, name) = (Arc::clone(&self.shared), digest.clone());
        if let Some(program) = blocking(move || program::recall(&shared, &name)).await? {
            self.shared.metrics.artifact_hits.inc();
            return Ok(program);
        }
        self.shared.metrics.artifact_misses.inc();
        let bytes = bytes.await?;
        let turn = self.shared.pool(purpose).turn().await;
        self.not_refused(digest, purpose)?;
        self.shared.keeping.has_room().await;
        let (shared, name) = (Arc::clone(&self.shared), digest.clone());
        let compiled = blocking(move || {
            let (pool, began) = (shared.pool(purpose), Instant::now());
            let compiled = pool.install(|| program::compile(&shared, &bytes, pool.patience));
            shared.metrics.compile_seconds.observe(began.elapsed().as_secs_f64());
            if let Err(CompileError::Invalid(cause) | CompileError::Refused(cause)) = &compiled {
                shared.remember(&name, purpose, cause);
            }
            // The permit is released when the work is done, even if the caller is gone by then.
            drop(turn);
            compiled
        });
        let compiled = compiled.await?.map_err(InspectError::from)?;
        let described = program::describe(&self.shared, digest, compiled).await;
        if let Err(InspectError::Refused(cause)) = &described {
            self.shared.remember(digest, purpose, cause);
        }
        Ok(described?)
    }
}

/// Runs a long computation outside the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, InspectError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| InspectError::HostError(format!("preparing a component broke off: {error}")))
}

/// Programs that are ready or being prepared. The least recently used one is evicted first.
#[derive(Default)]
struct ComponentCache {
    cells: HashMap<Digest, (u64, Arc<OnceCell<Program>>)>,
    uses: u64,
    /// The latest use before the last call of `rest`.
    rested: u64,
}

impl ComponentCache {
    /// Removes large idle programs that were not used since the previous call.
    fn rest(&mut self) -> Vec<Arc<OnceCell<Program>>> {
        let before = std::mem::replace(&mut self.rested, self.uses);
        let is_idle = |_: &Digest, (used, cell): &mut (u64, Arc<OnceCell<Program>>)| {
            *used <= before && cell.get().is_some_and(Program::is_large_and_idle)
        };
        self.cells.extract_if(is_idle).map(|(_, (_, cell))| cell).collect()
    }

    fn cell(&mut self, digest: &Digest, programs_max: usize) -> Arc<OnceCell<Program>> {
        self.uses += 1;
        let (used, cell) = self.cells.entry(digest.clone()).or_default();
        *used = self.uses;
        let cell = Arc::clone(cell);
        if self.cells.len() > programs_max.max(1) {
            let oldest = self.cells.iter().min_by_key(|(_, (used, _))| *used).map(|(digest, _)| digest.clone());
            self.cells.remove(&oldest.expect("a cache that is too full is not empty"));
        }
        cell
    }
}
