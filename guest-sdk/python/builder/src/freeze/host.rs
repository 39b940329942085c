//! The host for the build of a program: files to read, and nothing that differs between two builds.
//!
//! Anything that a guest sees may stay in its memory, which becomes the component. So clocks begin at a fixed moment
//! and advance by one microsecond at each reading, random numbers are derived from the program, all files have the same
//! age, and folders are listed in the order of names.

use std::cell::Cell;
use std::time::Duration;

use blake3::{Hasher, OutputReader};
use futures::FutureExt;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker, Resource, ResourceTable, ResourceType};
use wasmtime::{Engine, StoreContextMut};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};
use wasmtime_wasi::filesystem::{WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Descriptor, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Host as _, HostDescriptor,
    MetadataHashValue, PathFlags,
};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{Job, Mount};

/// The time that the clock of each build shows first, in seconds since 1970: midnight of 1 January 2000, as in local
/// mode.
const BEGINNING_S: u64 = 946_684_800;
/// The bytes of the guest's output that are kept.
const PRINTED_BYTES_MAX: usize = 64 << 10;
/// The number of random bytes that the guest gets at once.
const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// The package of the contract.
const CONTRACT: &str = "cerebelum:guest/";
/// The interface of files in the linker, as this version of wasmtime names it.
const FILES: &str = "wasi:filesystem/types@0.2.12";

/// The state of the one guest of a build.
pub(super) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    random: Random,
}

impl State {
    /// A host with the folders of a job, and the job's order as the only argument. The guest's output goes into the
    /// pipe.
    pub(super) fn new(job: &Job<'_>, printed: &MemoryOutputPipe) -> wasmtime::Result<Self> {
        let mut wasi = WasiCtx::builder();
        wasi.wall_clock(Clock::default())
            .monotonic_clock(Clock::default())
            .allow_blocking_current_thread(true)
            .allow_tcp(false)
            .allow_udp(false)
            .stdout(printed.clone())
            .stderr(printed.clone())
            .arg(job.order);
        for Mount { folder, at, perms } in job.mounts {
            wasi.preopened_dir(folder, at, *perms)?;
        }
        let random = Hasher::new_derive_key("cerebelum: random numbers of a build").update(job.seed).finalize_xof();
        Ok(Self { wasi: wasi.build(), table: ResourceTable::new(), random: Random(random) })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A pipe for the guest's output.
pub(super) fn printed() -> MemoryOutputPipe {
    MemoryOutputPipe::new(PRINTED_BYTES_MAX)
}

/// Everything that a program is linked against while it is built.
pub(super) fn linker(engine: &Engine, component: &Component) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    random::add_to_linker::<State, HasSelf<Random>>(&mut linker, |state| &mut state.random)?;
    insecure::add_to_linker::<State, HasSelf<Random>>(&mut linker, |state| &mut state.random)?;
    insecure_seed::add_to_linker::<State, HasSelf<Random>>(&mut linker, |state| &mut state.random)?;
    add_ageless_files(&mut linker)?;
    add_sorted_folders(&mut linker)?;
    linker.allow_shadowing(false);
    refuse_durable_calls(&mut linker, component)?;
    Ok(linker)
}

/// Makes the contract's imports fail, since they have no meaning during a build. The SDK reports such a call before.
fn refuse_durable_calls(linker: &mut Linker<State>, component: &Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    for (interface, import) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(found) = import.ty else { continue };
        if !interface.starts_with(CONTRACT) {
            continue;
        }
        let mut refused = linker.instance(interface)?;
        for (name, export) in found.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(function) if function.async_() => {
                    refused.func_new_concurrent(name, |_, _, _, _| Box::pin(async { Err(refusal()) }))?;
                }
                ComponentItem::ComponentFunc(_) => refused.func_new(name, |_, _, _, _| Err(refusal()))?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn refusal() -> wasmtime::Error {
    wasmtime::format_err!("a durable call was made while the component was built")
}

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// Gives all files the same age and no inode number.
fn add_ageless_files(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut files = linker.instance(FILES)?;
    files.func_wrap("[method]descriptor.stat", |mut store: StoreContextMut<'_, State>, (file,): (File,)| {
        answer(&mut store, |files| at_once(files.stat(file)).map(ageless))
    })?;
    files.func_wrap(
        "[method]descriptor.stat-at",
        |mut store: StoreContextMut<'_, State>, (folder, flags, path): (File, PathFlags, String)| {
            answer(&mut store, |files| at_once(files.stat_at(folder, flags, path)).map(ageless))
        },
    )?;
    files.func_wrap(
        "[method]descriptor.metadata-hash",
        |mut store: StoreContextMut<'_, State>, (file,): (File,)| {
            answer(&mut store, |files| at_once(files.metadata_hash(file)).map(numberless))
        },
    )?;
    files.func_wrap(
        "[method]descriptor.metadata-hash-at",
        |mut store: StoreContextMut<'_, State>, (folder, flags, path): (File, PathFlags, String)| {
            answer(&mut store, |files| at_once(files.metadata_hash_at(folder, flags, path)).map(numberless))
        },
    )
}

/// The entries of a folder that are still to be listed, the next one last.
struct Listing(Vec<DirectoryEntry>);

/// Lists folders in the order of names.
fn add_sorted_folders(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut files = linker.instance(FILES)?;
    let drop_listing = |mut store: StoreContextMut<'_, State>, number: u32| {
        store.data_mut().table.delete(Resource::<Listing>::new_own(number))?;
        Ok(())
    };
    files.resource("directory-entry-stream", ResourceType::host::<Listing>(), drop_listing)?;
    files.func_wrap(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>, (folder,): (File,)| {
            answer(&mut store, |files| {
                let entries = at_once(files.read_directory(folder))?;
                let entries = files.table.delete(entries)?.into_iter();
                let mut entries = entries.collect::<Result<Vec<DirectoryEntry>, FsError>>()?;
                entries.sort_by(|a, b| b.name.cmp(&a.name));
                Ok(files.table.push(Listing(entries))?)
            })
        },
    )?;
    files.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: StoreContextMut<'_, State>, (listing,): (Resource<Listing>,)| {
            answer(&mut store, |files| Ok(files.table.get_mut(&listing)?.0.pop()))
        },
    )
}

type File = Resource<Descriptor>;

/// Converts the result of a file function for the guest.
fn answer<T>(
    store: &mut StoreContextMut<'_, State>,
    ask: impl FnOnce(&mut WasiFilesystemCtxView<'_>) -> Result<T, FsError>,
) -> Answer<T> {
    let mut files = store.data_mut().filesystem();
    match ask(&mut files) {
        Ok(told) => Ok((Ok(told),)),
        Err(error) => Ok((Err(files.convert_error_code(error)?),)),
    }
}

fn at_once<T>(asked: impl Future<Output = T>) -> T {
    asked.now_or_never().expect("files are read on this thread")
}

fn ageless(stat: DescriptorStat) -> DescriptorStat {
    let moment = Some(Datetime { seconds: BEGINNING_S, nanoseconds: 0 });
    DescriptorStat {
        link_count: 1,
        data_access_timestamp: moment,
        data_modification_timestamp: moment,
        status_change_timestamp: moment,
        // The size of a folder depends on the file system.
        size: if stat.type_ == DescriptorType::Directory { 0 } else { stat.size },
        ..stat
    }
}

fn numberless(_: MetadataHashValue) -> MetadataHashValue {
    MetadataHashValue { lower: 0, upper: 0 }
}

/// A clock that advances with each reading.
#[derive(Default)]
struct Clock {
    looks: Cell<u64>,
}

impl Clock {
    fn passed(&self) -> Duration {
        self.looks.set(self.looks.get() + 1);
        Duration::from_micros(self.looks.get())
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(BEGINNING_S) + self.passed()
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1_000
    }

    fn now(&self) -> u64 {
        u64::try_from(self.passed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Random numbers that are derived from the program.
pub(super) struct Random(OutputReader);

impl Random {
    fn bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length.min(RANDOM_BYTES_MAX))?];
        self.0.fill(&mut bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl random::Host for Random {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}

impl insecure::Host for Random {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}

impl insecure_seed::Host for Random {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.number(), self.number()))
    }
}
