//! Examines a component's structure before the compiler sees it, and rejects components that would cost too much.
//!
//! The size of the input does not bound the cost of compiling: 636 bytes of nested instances took 7 s and 1.8 GiB, and
//! 60 kB of empty loops took 11 s. All checks here are linear in the number of bytes.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use serde::{Deserialize, Serialize};
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, ElementItems, Encoding, FunctionBody, Instance, Parser, Payload, SectionLimited,
};

use crate::function_body::{self, Arities, Function};
use crate::limits::structure::{
    CODE_BYTES_MAX, COMPILE_NS_MAX, COMPONENT_INSTANCES_MAX, COMPONENTS_MAX, CONTEXT_BYTES_MAX, CORE_INSTANCES_MAX,
    ELEMENTS_MAX, ENTRIES_MAX, FUNCTIONS_MAX, MEMORIES_MAX, MODULES_MAX, NAME_BYTES_MAX, RESULTS_MAX,
    TABLE_ELEMENT_BYTES, TABLE_ELEMENTS_MAX, TABLES_MAX,
};
use crate::limits::{COMPONENT_BYTES_MAX, LARGE_GUEST_BYTES, STACKS_BYTES};

const WASM_PAGE_BYTES: u64 = 64 << 10;
/// A thread is only worth it for at least this many functions.
const FUNCTIONS_PER_THREAD_MIN: usize = 1_000;
/// Cost of each byte of the component, in nanoseconds of CPU time.
const BYTE_NS: u64 = 10;
/// Cost of an entry of a section.
const ENTRY_NS: u64 = 3_000;
/// Cost of the code that lets the host, or another function, call a function.
const THUNK_NS: u64 = 60_000;

/// What a core instance takes on the host at least.
const INSTANCE_BYTES: u64 = 1 << 10;
/// What each function of a module takes in each of its instances: it may become a value that is passed on.
const FUNCTION_BYTES: u64 = 32;
/// The same for an import, which may be a function.
const IMPORT_BYTES: u64 = 64;
/// The same for a global, an export, and a function in a segment of elements.
const SLOT_BYTES: u64 = 16;

/// What a fresh guest takes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GuestSize {
    /// Its linear memory.
    pub(crate) memory: u64,
    /// Its tables.
    pub(crate) tables: u64,
    /// The contexts of its core instances.
    pub(crate) contexts: u64,
}

impl GuestSize {
    /// All of it, with the stacks.
    pub(crate) const fn all(self) -> u64 {
        self.memory.saturating_add(self.tables).saturating_add(self.fixed())
    }

    /// The part that never grows: contexts and stacks.
    pub(crate) const fn fixed(self) -> u64 {
        self.contexts.saturating_add(STACKS_BYTES)
    }

    /// Whether the guest gets the engine that is tuned for Python.
    pub(crate) const fn is_large(self) -> bool {
        self.memory >= LARGE_GUEST_BYTES
    }
}

/// The structure of an acceptable component.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Structure {
    /// What a fresh guest takes.
    pub(crate) size: GuestSize,
    /// The names of its imports.
    pub(crate) imports: Vec<String>,
    /// The names of its exports.
    pub(crate) exports: Vec<String>,
    /// An upper bound for the cost of compiling it, in nanoseconds of CPU time.
    pub(crate) compile_ns: u64,
}

/// Examines a component's bytes. The error is one line for the uploader.
pub(crate) fn examine(bytes: &[u8]) -> Result<Structure, String> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(format!(
            "the component has {} bytes where at most {COMPONENT_BYTES_MAX} are accepted",
            bytes.len()
        ));
    }
    expect_component(bytes)?;
    let mut count = Count { frames: vec![Frame::default()], ..Count::default() };
    let mut functions = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(corrupt)? {
            Payload::CodeSectionEntry(body) => functions.push(count.function(body)),
            payload => count.payload(payload)?,
        }
    }
    count.found.compile_ns = count.cost_ns(bytes.len()).saturating_add(examine_bodies(&functions)?);
    let (seconds, seconds_max) = (count.found.compile_ns / 1_000_000_000, COMPILE_NS_MAX / 1_000_000_000);
    if count.found.compile_ns > COMPILE_NS_MAX {
        return Err(format!(
            "the component would take some {seconds} s of CPU time to compile where at most {seconds_max} are accepted: \
             build it for size, or split it"
        ));
    }
    Ok(count.found)
}

/// Examines all functions on all cores: the 12,000 functions of a Python guest take 40 ms of one core. Returns their
/// cost.
fn examine_bodies(bodies: &[Function<'_>]) -> Result<u64, String> {
    let examine = |part: &[Function<'_>]| {
        part.iter().try_fold(0_u64, |cost, function| {
            Ok::<u64, String>(cost.saturating_add(function_body::examine(function).map_err(corrupt)??))
        })
    };
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let part = bodies.len().div_ceil(cores).max(FUNCTIONS_PER_THREAD_MIN);
    thread::scope(|scope| {
        let parts: Vec<_> = bodies.chunks(part).map(|part| scope.spawn(move || examine(part))).collect();
        parts.into_iter().try_fold(0_u64, |cost, part| {
            Ok(cost.saturating_add(part.join().expect("looking at a function does not panic")?))
        })
    })
}

fn expect_component(bytes: &[u8]) -> Result<(), String> {
    match bytes {
        [] => Err("the file is empty: expected a WebAssembly component".to_owned()),
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => Err("this is a core WebAssembly module, not a component: build \
             Rust with `--target wasm32-wasip2`, Python with `componentize-py`"
            .to_owned()),
        [b'\0', b'a', b's', b'm', version @ ..] if version.len() >= 4 => {
            Err("this component is in a binary format that is not known here: build it with current tools".to_owned())
        }
        [b'\0', b'a', b's', b'm', ..] => Err("the component is truncated: it ends inside its header".to_owned()),
        [b'(', ..] => Err("this looks like WebAssembly text: upload the binary form".to_owned()),
        _ => Err("this is no WebAssembly component: it does not begin with `\\0asm`".to_owned()),
    }
}

fn corrupt(error: BinaryReaderError) -> String {
    let what = if error.message().contains("unexpected end") { "truncated" } else { "corrupt" };
    format!("the component is {what}: {} (at byte {})", error.message(), error.offset())
}

/// The module or component whose sections are being read.
#[derive(Default)]
struct Frame {
    is_module: bool,
    memories: u64,
    memory_pages: u64,
    tables: u64,
    table_elements: u64,
    context_bytes: u64,
    modules: Vec<ModuleCount>,
    /// The number of parameters and results of each of its types.
    types: Arities,
    /// The types of its functions whose bodies are still to come.
    functions: VecDeque<u32>,
    /// For each component defined here, how many component instances one instance of it creates.
    components: Vec<u64>,
    instances: u64,
}

#[derive(Clone, Copy)]
struct ModuleCount {
    memories: u64,
    memory_pages: u64,
    tables: u64,
    table_elements: u64,
    context_bytes: u64,
}

#[derive(Default)]
struct Count {
    frames: Vec<Frame>,
    modules: u64,
    components: u64,
    core_instances: u64,
    functions: u64,
    code_bytes: u64,
    entries: u64,
    elements: u64,
    /// Compiled code besides functions: each export, element and canonical function may need a thunk.
    thunks: u64,
    memories: u64,
    tables: u64,
    found: Structure,
}

fn within(count: u64, max: u64, what: &str) -> Result<(), String> {
    if count <= max { Ok(()) } else { Err(format!("the component has more than {max} {what}")) }
}

impl Count {
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), String> {
        match payload {
            Payload::Version { encoding, .. } => self.frame().is_module = encoding == Encoding::Module,
            Payload::ModuleSection { .. } => return self.enter_module(),
            Payload::ComponentSection { .. } => return self.enter_component(),
            Payload::End(_) => self.leave(),
            Payload::InstanceSection(section) => return self.core_instances(section),
            Payload::ComponentInstanceSection(section) => return self.component_instances(section),
            Payload::ComponentAliasSection(section) => return self.aliases(section),
            Payload::ComponentImportSection(section) => return self.imports(section),
            Payload::ComponentExportSection(section) => return self.exports(section),
            Payload::ComponentTypeSection(section) => return self.entries(section.count()),
            Payload::CoreTypeSection(section) => return self.entries(section.count()),
            Payload::ComponentCanonicalSection(section) => {
                self.thunks += u64::from(section.count());
                return self.entries(section.count());
            }
            Payload::ComponentStartSection { .. } => {
                return Err("component start functions are not accepted".to_owned());
            }
            Payload::UnknownSection { id, .. } => return Err(format!("the component has an unknown section {id}")),
            Payload::CustomSection(_) => {}
            of_module => return self.module_payload(of_module),
        }
        Ok(())
    }

    fn module_payload(&mut self, payload: Payload<'_>) -> Result<(), String> {
        match payload {
            Payload::MemorySection(section) => self.memories(section),
            Payload::TableSection(section) => self.tables(section),
            Payload::ElementSection(section) => self.elements(section),
            Payload::CodeSectionStart { count, size, .. } => {
                self.functions += u64::from(count);
                self.code_bytes += u64::from(size);
                within(self.functions, FUNCTIONS_MAX, "functions")?;
                within(self.code_bytes, CODE_BYTES_MAX, "bytes of code")
            }
            Payload::TypeSection(section) => self.types(section),
            Payload::ImportSection(section) => self.context(section.count(), IMPORT_BYTES),
            Payload::FunctionSection(section) => self.functions(section),
            Payload::GlobalSection(section) => self.context(section.count(), SLOT_BYTES),
            Payload::ExportSection(section) => {
                self.thunks += u64::from(section.count());
                self.context(section.count(), SLOT_BYTES)
            }
            Payload::DataSection(section) => self.entries(section.count()),
            Payload::TagSection(section) => self.entries(section.count()),
            _ => Ok(()),
        }
    }

    fn types(&mut self, section: wasmparser::TypeSectionReader<'_>) -> Result<(), String> {
        self.entries(section.count())?;
        let mut arities = Vec::with_capacity(section.count() as usize);
        for ty in section.into_iter_err_on_gc_types() {
            // The validator rejects types that are not function types.
            let Ok(ty) = ty else { break };
            within(ty.results().len() as u64, RESULTS_MAX, "results of one function")?;
            arities.push((ty.params().len() + ty.results().len()) as u32);
        }
        self.frame().types = Arc::new(arities);
        Ok(())
    }

    fn functions(&mut self, section: SectionLimited<'_, u32>) -> Result<(), String> {
        self.context(section.count(), FUNCTION_BYTES)?;
        let types = section.into_iter().collect::<Result<VecDeque<u32>, _>>().map_err(corrupt)?;
        self.frame().functions = types;
        Ok(())
    }

    /// The next function of the current module.
    fn function<'a>(&mut self, body: FunctionBody<'a>) -> Function<'a> {
        let frame = self.frame();
        let ty = frame.functions.pop_front().unwrap_or(u32::MAX);
        let arity = frame.types.get(ty as usize).copied().unwrap_or_default().into();
        Function { body, arity, types: frame.types.clone() }
    }

    /// The cost of everything except functions.
    const fn cost_ns(&self, bytes: usize) -> u64 {
        bytes as u64 * BYTE_NS + (self.entries + self.elements) * ENTRY_NS + (self.thunks + self.elements) * THUNK_NS
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the outermost component is never left before the end")
    }

    fn entries(&mut self, count: u32) -> Result<(), String> {
        self.entries += u64::from(count);
        within(self.entries, ENTRIES_MAX, "types, imports, exports and segments")
    }

    /// Entries that take so many bytes each in every instance of the module.
    fn context(&mut self, count: u32, bytes: u64) -> Result<(), String> {
        self.frame().context_bytes += u64::from(count) * bytes;
        self.entries(count)
    }

    fn enter_module(&mut self) -> Result<(), String> {
        // Code in a single component instance means a single set of guest tasks, which bounds the fibers per guest.
        if self.frames.len() > 1 {
            return Err(
                "the component contains other components with code: compose them as separate uploads".to_owned()
            );
        }
        self.modules += 1;
        within(self.modules, MODULES_MAX, "core modules")?;
        self.frames.push(Frame::default());
        Ok(())
    }

    fn enter_component(&mut self) -> Result<(), String> {
        self.components += 1;
        within(self.components, COMPONENTS_MAX, "nested components")?;
        self.frames.push(Frame::default());
        Ok(())
    }

    fn leave(&mut self) {
        if self.frames.len() == 1 {
            return;
        }
        let left = self.frames.pop().expect("there are at least two frames");
        let Frame { memories, memory_pages, tables, table_elements, context_bytes, .. } = left;
        match left.is_module {
            true => {
                let module = ModuleCount { memories, memory_pages, tables, table_elements, context_bytes };
                self.frame().modules.push(module);
            }
            false => self.frame().components.push(left.instances + 1),
        }
    }

    fn core_instances(&mut self, section: SectionLimited<'_, Instance<'_>>) -> Result<(), String> {
        for instance in section {
            self.core_instances += 1;
            within(self.core_instances, CORE_INSTANCES_MAX, "core instances")?;
            match instance.map_err(corrupt)? {
                Instance::FromExports(exports) => self.entries += exports.len() as u64,
                Instance::Instantiate { module_index, args } => {
                    self.entries += args.len() as u64;
                    let module = self.frame().modules.get(module_index as usize).copied();
                    let module = module.ok_or("the component instantiates a module that it does not contain")?;
                    self.memories += module.memories;
                    self.tables += module.tables;
                    self.found.size.memory += module.memory_pages * WASM_PAGE_BYTES;
                    self.found.size.contexts += module.context_bytes + INSTANCE_BYTES;
                    self.found.size.tables += module.table_elements * TABLE_ELEMENT_BYTES;
                }
            }
        }
        within(self.memories, MEMORIES_MAX, "memories")?;
        within(self.tables, TABLES_MAX, "tables")?;
        within(self.found.size.contexts, CONTEXT_BYTES_MAX, "bytes of globals, imports and functions in its instances")
    }

    fn component_instances(&mut self, section: SectionLimited<'_, ComponentInstance<'_>>) -> Result<(), String> {
        for instance in section {
            match instance.map_err(corrupt)? {
                ComponentInstance::FromExports(exports) => self.entries += exports.len() as u64,
                ComponentInstance::Instantiate { component_index, args } => {
                    self.entries += args.len() as u64;
                    let nested = self.frame().components.get(component_index as usize).copied();
                    let nested = nested.ok_or("the component instantiates a component that it does not contain")?;
                    self.frame().instances = self.frame().instances.saturating_add(nested);
                    within(
                        self.frame().instances,
                        COMPONENT_INSTANCES_MAX,
                        "component instances, nested ones expanded",
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Modules and components must be defined where they are instantiated; otherwise the counts would not be exact.
    fn aliases(&mut self, section: SectionLimited<'_, ComponentAlias<'_>>) -> Result<(), String> {
        use {ComponentExternalKind as External, ComponentOuterAliasKind as Outer};
        self.entries(section.count())?;
        for alias in section {
            match alias.map_err(corrupt)? {
                ComponentAlias::InstanceExport { kind: External::Module | External::Component, .. }
                | ComponentAlias::Outer { kind: Outer::CoreModule | Outer::Component, .. } => {
                    return Err("the component aliases a module or component, which is not accepted".to_owned());
                }
                ComponentAlias::InstanceExport { .. }
                | ComponentAlias::CoreInstanceExport { .. }
                | ComponentAlias::Outer { .. } => {}
            }
        }
        Ok(())
    }

    fn imports(&mut self, section: SectionLimited<'_, wasmparser::ComponentImport<'_>>) -> Result<(), String> {
        self.entries(section.count())?;
        for import in section {
            let import = import.map_err(corrupt)?;
            let name = short(import.name.name)?;
            if matches!(import.ty, ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_)) {
                return Err(format!("the component imports `{name}`, a module or component, which is not accepted"));
            }
            if self.frames.len() == 1 {
                self.found.imports.push(name);
            }
        }
        Ok(())
    }

    fn exports(&mut self, section: SectionLimited<'_, wasmparser::ComponentExport<'_>>) -> Result<(), String> {
        self.entries(section.count())?;
        for export in section {
            let export = export.map_err(corrupt)?;
            let name = short(export.name.name)?;
            if matches!(export.kind, ComponentExternalKind::Module | ComponentExternalKind::Component) {
                return Err(format!("the component exports `{name}`, a module or component, which is not accepted"));
            }
            if self.frames.len() == 1 {
                self.found.exports.push(name);
            }
        }
        Ok(())
    }

    fn memories(&mut self, section: SectionLimited<'_, wasmparser::MemoryType>) -> Result<(), String> {
        for memory in section {
            let memory = memory.map_err(corrupt)?;
            let frame = self.frame();
            frame.memories += 1;
            frame.memory_pages = frame.memory_pages.saturating_add(memory.initial.min(1 << 32));
        }
        within(self.frame().memories, MEMORIES_MAX, "memories")
    }

    fn tables(&mut self, section: SectionLimited<'_, wasmparser::Table<'_>>) -> Result<(), String> {
        for table in section {
            let elements = table.map_err(corrupt)?.ty.initial;
            within(elements, TABLE_ELEMENTS_MAX, "elements in one table")?;
            self.frame().tables += 1;
            self.frame().table_elements += elements;
        }
        within(self.frame().tables, TABLES_MAX, "tables")
    }

    fn elements(&mut self, section: SectionLimited<'_, wasmparser::Element<'_>>) -> Result<(), String> {
        self.entries(section.count())?;
        for element in section {
            let count = match element.map_err(corrupt)?.items {
                ElementItems::Functions(items) => u64::from(items.count()),
                ElementItems::Expressions(_, items) => u64::from(items.count()),
            };
            self.elements += count;
            self.frame().context_bytes += count * SLOT_BYTES;
        }
        within(self.elements, ELEMENTS_MAX, "functions in tables")
    }
}

fn short(name: &str) -> Result<String, String> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(name.to_owned());
    }
    let shown = crate::host_calls::cut(name, cerebelum_history::NAME_BYTES_MAX);
    Err(format!("the name `{shown}…` is longer than {NAME_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests;
