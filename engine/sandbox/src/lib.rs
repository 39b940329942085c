//! Runs guests under limits. Knows WIT and wasmtime, but not the store.
//!
//! A [`Sandbox`] accepts components ([`Sandbox::inspect`], [`Sandbox::load`]) and returns [`Program`]s. A program
//! starts [`Guest`]s. A guest takes [`turn`](Guest::turn)s: it gets one outcome, moves until it is quiescent, and
//! returns what it asked for. Equal inputs and deliveries produce equal requests: clocks and random numbers are
//! functions of them, and no other source of difference is available to a guest.

mod admission;
mod artifact_writer;
#[allow(unreachable_pub, reason = "generated")]
mod bindings;
mod cache;
mod clocks;
mod compile_box;
mod compile_pool;
mod compiler;
mod context_calls;
mod convert;
mod cpu;
mod durable_calls;
mod engine_pair;
mod function_body;
mod guest;
mod host_calls;
mod host_error;
mod ledger;
mod limits;
mod line;
mod lines;
mod machine;
mod manifest;
mod memory;
mod metrics;
mod module_cache;
mod priority;
mod program;
mod refusals;
mod rng;
mod sandbox;
pub mod schema;
mod shared_modules;
mod state;
mod stdio;
mod structure;
mod trap;
mod world;

pub use compile_box::run_as_compile_box;
pub use cpu::thread_cpu;
pub use guest::Guest;
pub use host_error::{HostError, InspectError, LoadError, SandboxError};
pub use ledger::{Account, GuestOwner, Held, Ledger, Moving, SMALL_BYTES};
pub use limits::{COMPONENT_BYTES_MAX, Config};
pub use machine::{at_most_one_of, memory_bytes, memory_to_share};
pub use manifest::{Manifest, StepInfo, WorkflowInfo};
pub use metrics::{SandboxMetrics, SandboxUsage};
pub use priority::{compute_in_background, work_promptly};
pub use program::Program;
pub use sandbox::{Inspected, Sandbox};
