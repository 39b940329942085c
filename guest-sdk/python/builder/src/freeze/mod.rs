//! Freezes a program: an interpreter that was frozen before imports it, and the interpreter's memory is frozen again.

mod host;
mod image;
mod layout;
mod probe;

use std::fs;
use std::path::Path;

use wasmtime::component::{Component, Val};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{FsPerms, I32Exit};

use host::State;
use layout::Layout;

/// The export in which a base builds a program.
const GUEST: &str = "cerebelum:guest/guest@1.0.0";
const DESCRIBE: &str = "describe";

/// Why a program could not be frozen.
#[derive(Debug)]
pub(super) enum Failed {
    /// The program exited: its status, and its output.
    Left(i32, String),
    /// Anything else.
    Build(String),
}

impl From<wasmtime::Error> for Failed {
    fn from(error: wasmtime::Error) -> Self {
        Self::Build(format!("{error:#}"))
    }
}

/// The interpreter with which a program is frozen.
pub(super) struct Base<'a> {
    /// The interpreter with the SDK.
    pub(super) component: &'a [u8],
    /// The file of its machine code, which may not exist yet.
    pub(super) artifact: &'a Path,
}

/// A folder that a program can access.
pub(super) struct Mount<'a> {
    folder: &'a Path,
    /// The path under which the program sees it.
    pub(super) at: &'a str,
    perms: FsPerms,
}

impl<'a> Mount<'a> {
    /// A folder to read from.
    pub(super) fn read(folder: &'a Path, at: &'a str) -> Self {
        Self { folder, at, perms: FsPerms::ReadOnly }
    }

    /// A folder to read from and write to.
    pub(super) fn write(folder: &'a Path, at: &'a str) -> Self {
        Self { folder, at, perms: FsPerms::ReadWrite }
    }
}

/// The input of a freeze.
pub(super) struct Job<'a> {
    /// The folders that the program can access.
    pub(super) mounts: &'a [Mount<'a>],
    /// The instructions to the SDK.
    pub(super) order: &'a str,
    /// The seed of random numbers.
    pub(super) seed: &'a [u8],
}

/// Imports a program and freezes the result into a component.
pub(super) fn freeze(base: &Base<'_>, job: &Job<'_>) -> Result<Vec<u8>, Failed> {
    let layout = Layout::of(base.component).map_err(|e| Failed::Build(e.to_string()))?;
    let engine = engine()?;
    let component = machine_code(&engine, &layout, base.artifact)?;
    let printed = host::printed();
    let state = State::new(job, &printed)?;
    // A thread of its own: the caller may be inside a runtime already.
    let snapshot = std::thread::scope(|threads| {
        let run = threads.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            runtime.block_on(run(&engine, &component, state))
        });
        run.join().unwrap_or_else(|_| Err(wasmtime::format_err!("the build panicked")))
    });
    let said = || String::from_utf8_lossy(&printed.contents()).into_owned();
    let snapshot = snapshot.map_err(|error| match error.downcast_ref::<I32Exit>() {
        Some(exit) => Failed::Left(exit.0, said()),
        None => Failed::Build(format!("{error:#}\n{}", said())),
    })?;
    image::with_memory(&layout, &snapshot).map_err(Failed::Build)
}

fn engine() -> Result<Engine, Failed> {
    let mut config = Config::new();
    // The bits of a NaN would depend on the machine.
    config.wasm_component_model_async(true).cranelift_nan_canonicalization(true);
    Ok(Engine::new(&config)?)
}

/// The machine code of a base. It is compiled when it is missing or was made by another version.
fn machine_code(engine: &Engine, layout: &Layout<'_>, artifact: &Path) -> Result<Component, Failed> {
    #[expect(unsafe_code, reason = "it lies in the user's own cache, beside the programs that build with it")]
    let there = unsafe { Component::deserialize_file(engine, artifact) };
    if let Ok(there) = there {
        return Ok(there);
    }
    let compiled = Component::new(engine, probe::with_snapshot(layout).map_err(Failed::Build)?)?;
    let beside = artifact.with_extension(format!("new-{}", std::process::id()));
    let kept = fs::write(&beside, compiled.serialize()?).and_then(|()| fs::rename(&beside, artifact));
    kept.map_err(|e| Failed::Build(format!("cannot write {}: {e}", artifact.display())))?;
    Ok(compiled)
}

/// Runs the import of the program, and returns the snapshot of its memory.
async fn run(engine: &Engine, component: &Component, state: State) -> wasmtime::Result<Vec<u8>> {
    let linker = host::linker(engine, component)?;
    let mut store = Store::new(engine, state);
    // The snapshot is returned in one piece, which may be large.
    store.set_hostcall_fuel(usize::MAX);
    let instance = linker.instantiate_async(&mut store, component).await?;
    let guest = instance.get_export_index(&mut store, None, GUEST);
    let describe = instance.get_export_index(&mut store, guest.as_ref(), DESCRIBE);
    let describe = describe.and_then(|describe| instance.get_func(&mut store, describe));
    let describe = describe.ok_or_else(|| wasmtime::format_err!("the base has no {DESCRIBE}"))?;
    describe.call_async(&mut store, &[], &mut [Val::Bool(false)]).await?;
    let snapshot = instance.get_typed_func::<(), (Vec<u8>,)>(&mut store, probe::SNAPSHOT)?;
    Ok(snapshot.call_async(&mut store, ()).await?.0)
}
