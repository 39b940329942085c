//! All limits of the sandbox, with units and defaults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Ledger, memory_to_share};

/// Settings for operators. [`Config::new`] has the documented defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder for compiled artifacts and the key that signs them. Created if missing, accessible to this user only.
    pub data: PathBuf,
    /// Small guests (Rust) that may run at the same time; further ones wait. Default 1,000.
    pub small_instances_max: u32,
    /// Large guests (Python) that may run at the same time; further ones wait. Default 100.
    pub large_instances_max: u32,
    /// Memory of all running guests together, in bytes: linear memory, tables, contexts and stacks. Default: half of
    /// [`memory_to_share`].
    pub memory_bytes_max: u64,
    /// How much a workflow may add to its initial memory, in bytes. Default 64 MiB.
    pub workflow_growth_bytes_max: usize,
    /// How much a step may add to its initial memory, in bytes. Default 128 MiB.
    pub step_growth_bytes_max: usize,
    /// The most linear memory that one guest may have, in bytes. Default 256 MiB.
    pub guest_memory_bytes_max: usize,
    /// Thread CPU time of a workflow between two deliveries. Default 1 s.
    pub workflow_cpu_max: Duration,
    /// Thread CPU time of a step between two deliveries. Default 30 s.
    pub step_cpu_max: Duration,
    /// How often a computing guest yields and its CPU time is checked. Default 10 ms.
    pub tick: Duration,
    /// How many compiled components are kept in memory. Default 200.
    pub programs_max: usize,
    /// The program that compiles in a process of its own; it calls [`run_as_compile_box`](crate::run_as_compile_box) first. Default:
    /// none, and this process compiles, which only suits components that can be trusted.
    pub compile_box: Option<PathBuf>,
    /// How many bytes of compiled artifacts are kept on disk. Those that were not used for the longest time go first. Default
    /// 10 GiB.
    pub artifact_bytes_max: u64,
    /// The ledger of the node's host memory. Default: a ledger of its own, bounded by an eighth of
    /// [`memory_to_share`].
    pub ledger: Arc<Ledger>,
}

impl Config {
    /// The defaults, with this folder for artifacts.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            small_instances_max: 1_000,
            large_instances_max: 100,
            memory_bytes_max: memory_to_share() / 2,
            workflow_growth_bytes_max: 64 << 20,
            step_growth_bytes_max: 128 << 20,
            guest_memory_bytes_max: 256 << 20,
            workflow_cpu_max: Duration::from_secs(1),
            step_cpu_max: Duration::from_secs(30),
            tick: Duration::from_millis(10),
            programs_max: 200,
            compile_box: None,
            artifact_bytes_max: 10 << 30,
            ledger: Ledger::new(memory_to_share() / 8),
        }
    }
}

/// A component with at least this much initial memory counts as large and gets the engine that is tuned for Python.
pub(crate) const LARGE_GUEST_BYTES: u64 = 4 << 20;
/// Memory kept in a small guest's slot after use, in bytes: resetting it by hand is faster than asking the kernel.
pub(crate) const SMALL_KEEP_RESIDENT_BYTES: usize = 128 << 10;
/// The same for a large guest's slot.
pub(crate) const LARGE_KEEP_RESIDENT_BYTES: usize = 16 << 20;

/// Stack of WebAssembly code, in bytes.
pub(crate) const WASM_STACK_BYTES: usize = 512 << 10;
/// Stack of a fiber, in bytes. Host functions run on it above the guest's frames, so it must be much larger
/// than [`WASM_STACK_BYTES`]: a guest that recurses to the edge and then calls an import would otherwise
/// abort the whole process.
pub(crate) const FIBER_STACK_BYTES: usize = 2 << 20;
/// Frames of a trap's backtrace; a trace this long means that calls nest deeply.
pub(crate) const BACKTRACE_FRAMES_MAX: usize = 64;
/// Fibers per guest: one for the entry function, one for calls that block or lower.
pub(crate) const FIBERS_PER_GUEST: u32 = 2;

/// What the stacks of one guest may take, in bytes.
pub(crate) const STACKS_BYTES: u64 = WASM_STACK_BYTES as u64 * FIBERS_PER_GUEST as u64;

/// Handles (of streams, futures, resources of WASI) that a guest may hold beside those of its open calls. Each costs the
/// host some 270 bytes, whatever it costs the guest.
pub(crate) const HANDLES_MAX: usize = 1_024;
/// Handles that a guest may hold for each open call.
pub(crate) const HANDLES_PER_CALL: usize = 4;
/// The most that one host call may copy, in bytes.
pub(crate) const HOSTCALL_BYTES_MAX: usize = 4 << 20;
/// The most that a guest may ask for between two deliveries, in bytes of names and values.
pub(crate) const TURN_BYTES_MAX: usize = 16 << 20;
/// The fixed size that each request counts in addition, in bytes.
pub(crate) const REQUEST_BYTES: usize = 512;
/// The longest text for people (a title, progress or one log line), in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 10;
/// Log lines of one attempt, in bytes; further ones are dropped and counted.
pub(crate) const LOG_BYTES_MAX: usize = 1 << 20;
/// The fixed size that each log line counts in addition to its text, in bytes.
pub(crate) const LOG_LINE_BYTES: usize = 64;
/// Random bytes that one call may ask for.
pub(crate) const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// How many bytes of standard error the failure of a trap carries.
pub(crate) const LAST_WORDS_BYTES_MAX: usize = 4 << 10;

/// The largest component, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// A module with at least this much code and without a memory of its own is a library. It is compiled separately from
/// its component, once for all components that contain it. In bytes.
pub(crate) const SHARED_CODE_BYTES_MIN: u32 = 64 << 10;
/// Workflows and steps of one component together.
pub(crate) const ENTRIES_MAX: usize = 1_000;
/// A manifest with all its schemas, in bytes.
pub(crate) const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Limits on a component's structure. They are checked before the compiler sees a byte, because the time and memory for
/// compiling are not bounded otherwise. In parentheses: the values of a Rust guest and of a Python guest.
pub(crate) mod structure {
    /// Core modules (4, 14).
    pub(crate) const MODULES_MAX: u64 = 64;
    /// Instances of core modules, those made of exports included (24, 67).
    pub(crate) const CORE_INSTANCES_MAX: u64 = 256;
    /// Component instances, counted by expanding nested components (1, 1).
    pub(crate) const COMPONENT_INSTANCES_MAX: u64 = 64;
    /// Nested component definitions (1, 1).
    pub(crate) const COMPONENTS_MAX: u64 = 64;
    /// Functions of all modules together.
    pub(crate) const FUNCTIONS_MAX: u64 = 60_000;
    /// Code of all modules together, in bytes.
    pub(crate) const CODE_BYTES_MAX: u64 = 32 << 20;
    /// The most that compiling the whole component may take, in nanoseconds of CPU time, as estimated from its
    /// structure (a Python guest: 13 s estimated, 9 s measured).
    pub(crate) const COMPILE_NS_MAX: u64 = 20_000_000_000;
    /// Results of one function.
    pub(crate) const RESULTS_MAX: u64 = 16;
    /// Body of one function, in bytes.
    pub(crate) const BODY_BYTES_MAX: u64 = 1 << 20;
    /// Loops of one function: the compiler's analyses grow faster than their number.
    pub(crate) const LOOPS_MAX: u64 = 1_500;
    /// Blocks, loops and ifs of one function.
    pub(crate) const BLOCKS_MAX: u64 = 20_000;
    /// Nesting depth of blocks.
    pub(crate) const BLOCK_DEPTH_MAX: u64 = 2_000;
    /// Local variables of one function.
    pub(crate) const LOCALS_MAX: u64 = 20_000;
    /// Targets of all jump tables of one function.
    pub(crate) const JUMP_TARGETS_MAX: u64 = 50_000;
    /// Entries of sections: types, imports, exports, globals, data and element segments, aliases.
    pub(crate) const ENTRIES_MAX: u64 = 200_000;
    /// Functions named by element segments.
    pub(crate) const ELEMENTS_MAX: u64 = 100_000;
    /// Memories of one component (1, 1). Each reserves 4 GiB of address space per slot.
    pub(crate) const MEMORIES_MAX: u64 = 2;
    /// Tables of one component (2, 2).
    pub(crate) const TABLES_MAX: u64 = 8;
    /// What the globals, imports, exports and functions of its core instances take on the host, in bytes.
    pub(crate) const CONTEXT_BYTES_MAX: u64 = 4 << 20;
    /// Bytes of one element of a table.
    pub(crate) const TABLE_ELEMENT_BYTES: u64 = 8;
    /// Elements of one table.
    pub(crate) const TABLE_ELEMENTS_MAX: u64 = 20_000;
    /// The longest name of an import or export, in bytes.
    pub(crate) const NAME_BYTES_MAX: usize = 4_096;
}

/// Limits on the process that compiles one component.
pub(crate) mod compile_box {
    use std::time::Duration;

    /// Address space of the process, in bytes.
    pub(crate) const MEMORY_BYTES_MAX: u64 = 2 << 30;
    /// The least CPU time that the process gets, in seconds, even if the component looks cheaper.
    pub(crate) const CPU_SECONDS_MIN: u64 = 3;
    /// The most CPU time that the process gets, in seconds.
    pub(crate) const CPU_SECONDS_MAX: u64 = 60;
    /// What the process may take in addition to five times its CPU time before the machine is considered too busy.
    pub(crate) const WALL_MARGIN: Duration = Duration::from_secs(30);
    /// The machine code of one component or module, in bytes (of a Python guest: 24 MB).
    pub(crate) const CODE_BYTES_MAX: u64 = 256 << 20;
    /// An error message of the process, in bytes.
    pub(crate) const COMPLAINT_BYTES_MAX: u64 = 4 << 10;
}

/// Limits on the JSON Schemas of inputs and answers, and on the cost of checking one value.
pub(crate) mod schema {
    use std::time::Duration;

    /// The text of one schema, in bytes.
    pub(crate) const BYTES_MAX: usize = 128 << 10;
    /// Subschemas in one schema, itself included.
    pub(crate) const SUBSCHEMAS_MAX: usize = 2_000;
    /// Subschemas that one value meets, with `$ref`s followed. Each counts as often as it is met.
    pub(crate) const EXPANDED_MAX: u64 = 10_000;
    /// Nesting depth of the subschemas and `$ref`s that one value meets.
    pub(crate) const CHAIN_MAX: u64 = 128;
    /// The text of one pattern, in bytes.
    pub(crate) const PATTERN_BYTES_MAX: usize = 2_048;
    /// States of one compiled pattern.
    pub(crate) const PATTERN_STATES_MAX: u64 = 4_000;
    /// States of all compiled patterns of one schema.
    pub(crate) const STATES_MAX: u64 = 20_000;
    /// Bytes of a text times states of the patterns that it is matched against.
    pub(crate) const PATTERN_WORK_MAX: u64 = 4_000_000;
    /// The most that checking one value may take, in CPU time of its thread.
    pub(crate) const CHECK_CPU_MAX: Duration = Duration::from_millis(50);
    /// How many units pass between two checks of that CPU time. A unit takes less than a microsecond.
    pub(crate) const LOOK_UNITS: u64 = 2_000;
    /// The most that checking one value may take on an async thread, in units.
    pub(crate) const INLINE_UNITS_MAX: u64 = 1_000;
    /// The most that explaining a mismatch may take, in units.
    pub(crate) const EXPLAIN_UNITS_MAX: u64 = 20_000;
    /// Stack for a check on a thread of its own, in bytes.
    pub(crate) const CHECK_STACK_BYTES: usize = 56 << 20;
    /// Stack for a check on an async thread, in bytes.
    pub(crate) const INLINE_STACK_BYTES: usize = 256 << 10;
    /// The line that explains a mismatch, in bytes.
    pub(crate) const MISMATCH_BYTES_MAX: usize = 1_024;
}
