//! The state of one guest in its store, and the linker with everything that a guest may import.

use std::sync::Arc;

use cerebelum_history::{Entry, GuestInput};
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::bindings::{clocks, random};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::{Component, context};
use crate::clocks::WallClock;
use crate::host_calls::{HostCalls, Stream};
use crate::limits::{HANDLES_MAX, HOSTCALL_BYTES_MAX, RANDOM_BYTES_MAX};
use crate::memory::MemoryLimit;
use crate::rng::DeterministicRng;
use crate::stdio::StandardStream;

/// A pollable and what it waits for are an entry each.
const ENTRIES_PER_HANDLE: usize = 2;

/// The state of one guest.
pub(crate) struct State {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) calls: Arc<HostCalls>,
    pub(crate) info: context::Info,
    pub(crate) chance: DeterministicRng,
    memory: MemoryLimit,
}

/// The type that the host functions are implemented for.
pub(crate) struct HostImpl;

impl State {
    /// Creates a store with its limits set. Start functions and allocators run guest code before anything else does.
    pub(crate) fn store(
        engine: &Engine,
        begin: &GuestInput,
        calls: &Arc<HostCalls>,
        memory: MemoryLimit,
    ) -> Store<Self> {
        let wasi = WasiCtx::builder()
            .wall_clock(WallClock(Arc::clone(calls)))
            .max_random_size(RANDOM_BYTES_MAX)
            .stdout(StandardStream::new(calls, Stream::Out))
            .stderr(StandardStream::new(calls, Stream::Err))
            .allow_blocking_current_thread(false)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX * ENTRIES_PER_HANDLE);
        let state = Self {
            wasi,
            table,
            calls: Arc::clone(calls),
            info: info(begin),
            chance: DeterministicRng::new(begin.seed),
            memory,
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        store.set_epoch_deadline(1);
        store
    }
}

fn info(begin: &GuestInput) -> context::Info {
    let step = match &begin.entry {
        Entry::Workflow(_) => None,
        Entry::Step(name) => Some(name.clone()),
    };
    context::Info {
        execution_id: begin.execution.to_string(),
        workflow: begin.workflow.clone(),
        step,
        run: begin.run,
        attempt: begin.attempt,
        idempotency_key: begin.idempotency_key.clone(),
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Everything that a guest can be linked against: the contract, and an inert WASI 0.2. Files, sockets and environment
/// exist but are empty. Clocks and random numbers are our own.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    clocks::monotonic_clock::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    random::random::add_to_linker::<State, HasSelf<DeterministicRng>>(&mut linker, |state| &mut state.chance)?;
    random::insecure::add_to_linker::<State, HasSelf<DeterministicRng>>(&mut linker, |state| &mut state.chance)?;
    random::insecure_seed::add_to_linker::<State, HasSelf<DeterministicRng>>(&mut linker, |state| &mut state.chance)?;
    Component::add_to_linker::<State, HostImpl>(&mut linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(linker)
}
