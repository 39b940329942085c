//! The two WebAssembly engines of a node, one tuned for small guests and one for large ones, and their epoch timer.

use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures};

use crate::admission::Slots;
use crate::limits::{
    BACKTRACE_FRAMES_MAX, FIBER_STACK_BYTES, FIBERS_PER_GUEST, LARGE_KEEP_RESIDENT_BYTES, SMALL_KEEP_RESIDENT_BYTES,
    WASM_STACK_BYTES, structure,
};
use crate::module_cache::ModuleCache;
use crate::state::{self, State};
use crate::structure::GuestSize;
use crate::{Config, SandboxError};

/// An engine, the linker for its guests, the modules that they share, and how many of them may run.
pub(crate) struct EngineProfile {
    pub(crate) engine: Engine,
    pub(crate) linker: wasmtime::component::Linker<State>,
    pub(crate) modules: ModuleCache,
    pub(crate) slots: Slots,
}

/// The engines for small and for large guests.
pub(crate) struct EnginePair {
    small: EngineProfile,
    large: EngineProfile,
}

impl EnginePair {
    pub(crate) fn new(config: &Config) -> Result<Self, SandboxError> {
        // Measured: scanning for dirty pages makes small guests faster, and large ones slower when threads compete.
        let small = Tuning {
            instances_max: config.small_instances_max,
            keep_resident_bytes: SMALL_KEEP_RESIDENT_BYTES,
            pagemap_scan: Enabled::Auto,
            warm_slots: config.small_instances_max.min(100),
        };
        let large = Tuning {
            instances_max: config.large_instances_max,
            keep_resident_bytes: LARGE_KEEP_RESIDENT_BYTES,
            pagemap_scan: Enabled::No,
            warm_slots: thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        };
        let profile = |tuning| profile(config, tuning).map_err(|error| SandboxError::Engine(format!("{error:#}")));
        let engines = Self { small: profile(small)?, large: profile(large)? };
        start_ticking(config.tick, [&engines.small.engine, &engines.large.engine])?;
        Ok(engines)
    }

    /// The engine for guests of this size.
    pub(crate) const fn of(&self, size: GuestSize) -> &EngineProfile {
        if size.is_large() { &self.large } else { &self.small }
    }

    /// How many shared modules were compiled.
    pub(crate) fn modules_compiled(&self) -> u64 {
        self.small.modules.compiled() + self.large.modules.compiled()
    }
}

struct Tuning {
    instances_max: u32,
    keep_resident_bytes: usize,
    pagemap_scan: Enabled,
    warm_slots: u32,
}

fn profile(config: &Config, tuning: Tuning) -> wasmtime::Result<EngineProfile> {
    let instances = tuning.instances_max;
    let mut pool = PoolingAllocationConfig::new();
    // Admission limits the number of guests. The other totals only have to be large enough for that many.
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(structure::CORE_INSTANCES_MAX as u32))
        .total_memories(instances.saturating_mul(structure::MEMORIES_MAX as u32))
        .total_tables(instances.saturating_mul(structure::TABLES_MAX as u32))
        .total_stacks(instances.saturating_mul(FIBERS_PER_GUEST))
        .max_memory_size(config.guest_memory_bytes_max)
        .table_elements(structure::TABLE_ELEMENTS_MAX as usize)
        .max_tables_per_module(structure::TABLES_MAX as u32)
        .linear_memory_keep_resident(tuning.keep_resident_bytes)
        .table_keep_resident(SMALL_KEEP_RESIDENT_BYTES)
        .pagemap_scan(tuning.pagemap_scan)
        .max_unused_warm_slots(tuning.warm_slots);
    let mut settings = settings();
    settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&settings)?;
    let linker = state::linker(&engine)?;
    Ok(EngineProfile { engine, linker, modules: ModuleCache::default(), slots: Slots::new(instances) })
}

/// The settings of all engines, those of compile boxes included. Machine code depends on nothing else.
pub(crate) fn settings() -> wasmtime::Config {
    let mut settings = wasmtime::Config::new();
    settings
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .cranelift_nan_canonicalization(true);
    settings.wasm_features(WasmFeatures::all().difference(proposals()), false);
    settings.wasm_features(proposals(), true);
    settings
}

/// Formats an error of wasmtime and its causes on one line.
pub(crate) fn chain(error: &wasmtime::Error) -> String {
    let line = format!("{error:#}");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The WebAssembly features that Rust and Python guests use. All others are switched off.
pub(crate) fn proposals() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::CALL_INDIRECT_OVERLONG
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::BULK_MEMORY_OPT
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::COMPONENT_MODEL
        | WasmFeatures::CM_ASYNC
}

/// Increments the epochs of both engines until both are dropped. There is one such thread per node.
fn start_ticking(tick: Duration, engines: [&Engine; 2]) -> Result<(), SandboxError> {
    let engines = engines.map(Engine::weak);
    let tick_until_gone = move || {
        loop {
            thread::sleep(tick);
            let alive = engines.iter().filter_map(|engine| engine.upgrade()).inspect(Engine::increment_epoch).count();
            if alive == 0 {
                return;
            }
        }
    };
    let started = thread::Builder::new().name("epoch".to_owned()).spawn(tick_until_gone);
    started.map(|_| ()).map_err(|error| SandboxError::Engine(format!("cannot start the epoch thread: {error}")))
}
