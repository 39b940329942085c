//! Runs one guest under limits; knows WIT and wasmtime, nothing of stores.
//!
//! A [`Sandbox`] takes components in ([`Sandbox::inspect`], [`Sandbox::load`]) and gives out [`Program`]s; a program
//! starts [`Guest`]s; a guest takes [`turn`](Guest::turn)s: it is told one outcome, moves until nothing in it can
//! move, and says what it asked for. Equal beginnings and deliveries make equal requests: clocks and chance are
//! functions of them, and everything else that could differ is not there.

mod admission;
#[allow(unreachable_pub, reason = "generated")]
mod bindings;
mod cache;
mod chance;
mod clocks;
mod context_calls;
mod convert;
mod cpu;
mod desk;
mod durable_calls;
mod ending;
mod engines;
mod function_body;
mod guest;
mod hoist;
mod keeping;
mod ledger;
mod library;
mod limits;
mod line;
mod lines;
mod machine;
mod manifest;
mod memory;
mod program;
mod sandbox;
pub mod schema;
mod state;
mod stdio;
mod structure;
mod trouble;
mod workshop;
mod world;

pub use guest::Guest;
pub use ledger::{Account, Held, Ledger, Moving, SMALL_BYTES};
pub use limits::{COMPONENT_BYTES_MAX, Config};
pub use machine::memory_bytes;
pub use manifest::{Manifest, StepInfo, WorkflowInfo};
pub use program::Program;
pub use sandbox::{Inspected, Sandbox};
pub use trouble::{InspectError, LoadError, SandboxError, Trouble};
