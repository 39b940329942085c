//! A component that is ready to run: checked, compiled, linked and described.

use std::sync::Arc;

use cerebelum_history::{Digest, Entry, GuestInput, Json, Timestamp};
use wasmtime::Store;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::admission::{Applicant, Kind};
use crate::bindings::{ComponentPre, guest};
use crate::cache::ArtifactMeta;
use crate::compile_box::CompileError;
use crate::compiler::Compiler;
use crate::cpu::Cpu;
use crate::engine_pair::{EngineProfile, chain};
use crate::guest::{Guest, GuestDriver, Instance, MoveGate, Progress};
use crate::host_calls::HostCalls;
use crate::ledger::GuestOwner;
use crate::memory::MemoryLimit;
use crate::sandbox::Shared;
use crate::state::State;
use crate::structure::GuestSize;
use crate::trap;
use crate::{
    Account, HostError, InspectError, Manifest, engine_pair, manifest, module_cache, shared_modules, structure, world,
};

/// A component that is ready to run. Cheap to clone.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    digest: Digest,
    label: ArtifactMeta,
    pre: ComponentPre<State>,
    /// Keeps its modules in the module cache for other programs.
    modules: Modules,
}

type Modules = Vec<Arc<module_cache::CachedModule>>;

impl Program {
    /// The component's content address.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// The component's description of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.0.label.manifest
    }

    /// What a fresh guest takes, in bytes: linear memory, tables, contexts and stacks.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.0.label.size.all()
    }

    /// Whether its slots keep much memory and no guest runs it. Guests hold their program, and so does the component
    /// cache.
    pub(crate) fn is_large_and_idle(&self) -> bool {
        self.0.label.size.is_large() && Arc::strong_count(&self.0) == 1
    }

    /// Writes it to disk. Takes tenths of a second with a large component, so it must not run on an async thread.
    fn keep(&self, component: &Component) {
        let Inner { shared, digest, label, modules, .. } = &*self.0;
        // Modules are stored first, so that a stored component finds what it needs.
        modules.iter().for_each(|module| module.keep(&shared.cache));
        shared.cache.store_component(component, digest, label);
        shared.cache.shrink(shared.config.artifact_bytes_max);
    }

    /// Creates a guest. Waits while the node has no slot or no memory for it. No guest code runs before its first turn.
    ///
    /// # Errors
    /// None at present; the engine's own faults show in the guest's turns.
    pub async fn start(&self, begin: GuestInput, account: Arc<Account>) -> Result<Guest, HostError> {
        let Inner { shared, label, pre, .. } = &*self.0;
        let owner = account.owner_of(&begin.workflow);
        let config = &shared.config;
        let (growth_bytes, cpu) = match begin.entry {
            Entry::Workflow(_) => (config.workflow_growth_bytes_max, config.workflow_cpu_max),
            Entry::Step(_) => (config.step_growth_bytes_max, config.step_cpu_max),
        };
        let cpu = Cpu::new(cpu);
        let instance = instantiate(shared, label.size, growth_bytes, (&begin, &account, &owner), &cpu).await;
        shared.admission.count_start();
        let gate = MoveGate { account, admission: Arc::clone(&shared.admission), owner };
        Ok(Guest::new((self.clone(), instance), pre.clone(), (begin.entry, begin.input), (cpu, gate)))
    }

    /// How many workflows, or steps, were ever admitted from the line that this component's guests wait in.
    #[must_use]
    pub fn admitted(&self, is_workflow: bool) -> u64 {
        let Inner { shared, label, .. } = &*self.0;
        shared.admission.admitted(Kind { is_large: label.size.is_large(), is_workflow })
    }
}

/// Waits for admission and creates a store with its limits set.
async fn instantiate(
    shared: &Shared,
    size: GuestSize,
    growth_bytes: usize,
    (begin, account, owner): (&GuestInput, &Arc<Account>, &GuestOwner),
    cpu: &Arc<Cpu>,
) -> Instance {
    let profile = shared.engines.of(size);
    let is_workflow = matches!(begin.entry, Entry::Workflow(_));
    let kind = Kind { is_large: size.is_large(), is_workflow };
    let applicant = Applicant { kind, owner: owner.clone(), bytes: size.all() };
    let place = shared.admission.admit(&profile.slots, applicant).await;
    let calls = HostCalls::new(begin.clock.0, account);
    let initial = usize::try_from(size.memory).unwrap_or(usize::MAX);
    let bytes_max = initial.saturating_add(growth_bytes).min(shared.config.guest_memory_bytes_max);
    let memory = MemoryLimit::new(&calls, &place, size.fixed(), bytes_max);
    let mut store = State::store(&profile.engine, begin, &calls, memory);
    cpu.watch(&mut store);
    Instance { store, place }
}

/// Loads a component from the artifacts on disk.
pub(crate) fn recall(shared: &Arc<Shared>, digest: &Digest) -> Option<Program> {
    let label = shared.cache.label(digest)?;
    let profile = shared.engines.of(label.size);
    let find = |module| profile.modules.find((&profile.engine, &shared.cache), module);
    let modules = label.modules.iter().map(find).collect::<Option<Modules>>()?;
    let component = shared.cache.load(&profile.engine, digest)?;
    let pre = link(profile, &component, &modules).ok()?;
    let (shared, digest) = (Arc::clone(shared), digest.clone());
    Some(Program(Arc::new(Inner { shared, digest, label, pre, modules })))
}

/// A component that is checked and compiled, but not described yet.
pub(crate) struct Compiled {
    component: Component,
    modules: Modules,
    pre: ComponentPre<State>,
    size: GuestSize,
}

/// Checks and compiles a component, which may take `patience` times as long as its structure lets expect. Takes seconds on
/// all cores, so it must not run on an async thread.
pub(crate) fn compile(shared: &Shared, bytes: &[u8], patience: u64) -> Result<Compiled, CompileError> {
    let found = structure::examine(bytes).map_err(CompileError::Invalid)?;
    world::check(&found).map_err(CompileError::Invalid)?;
    let memory_max = shared.config.guest_memory_bytes_max as u64;
    if found.size.memory > memory_max {
        let line =
            format!("the component begins with {} bytes of memory where {memory_max} are the limit", found.size.memory);
        return Err(CompileError::Invalid(line));
    }
    let profile = shared.engines.of(found.size);
    let mut compiler = Compiler::start(&shared.config, found.compile_ns, patience)?;
    let build = |compiler: &mut Compiler, component: &[u8], modules: Modules| {
        let component = compiler.component(&profile.engine, component)?;
        let pre = link(profile, &component, &modules)?;
        Ok(Compiled { component, modules, pre, size: found.size })
    };
    if let Some(hoisted) = shared_modules::hoist(bytes, engine_pair::proposals()) {
        let find = |module| profile.modules.find_or_compile((&profile.engine, &shared.cache), &mut compiler, module);
        let modules = hoisted.modules.iter().map(find).collect::<Result<Modules, CompileError>>();
        match modules.and_then(|modules| build(&mut compiler, &hoisted.rest, modules)) {
            Ok(compiled) => return Ok(compiled),
            // The error must describe the component as it was uploaded.
            Err(CompileError::Invalid(error)) => tracing::debug!(error, "compiling a component whole"),
            Err(error) => return Err(error),
        }
    }
    build(&mut compiler, bytes, Modules::new())
}

/// Calls `describe` of a compiled component and queues it for the disk without waiting for the write.
pub(crate) async fn describe(
    shared: &Arc<Shared>,
    digest: &Digest,
    compiled: Compiled,
) -> Result<Program, InspectError> {
    let Compiled { component, modules, pre, size } = compiled;
    let manifest = tell(shared, &pre, size).await?;
    let needs = modules.iter().map(|module| module.digest.clone()).collect();
    let label = ArtifactMeta { manifest, size, modules: needs };
    let inner = Inner { shared: Arc::clone(shared), digest: digest.clone(), label, pre, modules };
    let program = Program(Arc::new(inner));
    let kept = program.clone();
    shared.keeping.add(move || kept.keep(&component));
    Ok(program)
}

/// Calls a component's `describe` and checks the result.
async fn tell(shared: &Shared, pre: &ComponentPre<State>, size: GuestSize) -> Result<Manifest, InspectError> {
    let begin = describe_input();
    let cpu = Cpu::new(shared.config.workflow_cpu_max);
    let growth_bytes = shared.config.workflow_growth_bytes_max;
    let account = shared.config.ledger.account();
    let owner = account.owner_of("");
    let instance = instantiate(shared, size, growth_bytes, (&begin, &account, &owner), &cpu).await;
    let calls = Arc::clone(&instance.store.data().calls);
    let gate = MoveGate { account, admission: Arc::clone(&shared.admission), owner };
    let mut drive = GuestDriver::new(Arc::clone(&calls), (cpu, gate), ask(instance, pre.clone()));
    let told = match drive.advance().await {
        Progress::Quiescent => Err("its `describe` waits for something: it must not make a durable call".to_owned()),
        Progress::Displaced => return Err(InspectError::HostError(HostError::Displaced.to_string())),
        Progress::Ended(Ok(told)) => Ok(told),
        Progress::Ended(Err(error)) => {
            calls.flush_lines();
            match trap::stopped(&error, &calls) {
                Ok(failure) => Err(format!("its `describe` failed with {failure}")),
                Err(trouble) => return Err(InspectError::HostError(trouble.to_string())),
            }
        }
    };
    let told = told.map_err(|why| InspectError::Refused(format!("the component cannot be used: {why}")))?;
    manifest::read(told).map_err(InspectError::Refused)
}

async fn ask(mut instance: Instance, pre: ComponentPre<State>) -> wasmtime::Result<guest::Manifest> {
    let store: &mut Store<State> = &mut instance.store;
    let instance = pre.instantiate_async(&mut *store).await?;
    instance.cerebelum_guest_guest().call_describe(&mut *store).await
}

/// The input of a guest that only runs `describe`.
fn describe_input() -> GuestInput {
    GuestInput {
        entry: Entry::Workflow(String::new()),
        input: Json::null(),
        clock: Timestamp(0),
        seed: [0; 32],
        execution: "describe".parse().expect("this is an execution id"),
        workflow: String::new(),
        run: 1,
        attempt: 1,
        idempotency_key: String::new(),
    }
}

fn link(
    profile: &EngineProfile,
    component: &Component,
    modules: &[Arc<module_cache::CachedModule>],
) -> Result<ComponentPre<State>, CompileError> {
    let refused = |what: &str, error: &wasmtime::Error| CompileError::Invalid(format!("{what}: {}", chain(error)));
    let mut linker = profile.linker.clone();
    for shared in modules {
        let named = linker.root().module(&shared_modules::import_name(&shared.digest), &shared.module);
        named.map_err(|error| refused("the component's modules cannot be shared", &error))?;
    }
    let pre = linker.instantiate_pre(component);
    let pre = pre.map_err(|error| refused("the component does not fit the contract `cerebelum:guest@1`", &error))?;
    check_entries(component)?;
    ComponentPre::new(pre)
        .map_err(|error| refused("the component's exports do not fit `cerebelum:guest/guest@1`", &error))
}

/// Checks that the entry functions are `async`: a guest that blocks in a durable call would trap otherwise.
fn check_entries(component: &Component) -> Result<(), CompileError> {
    let exports = component.component_type();
    let engine = component.engine();
    let entries = exports.exports(engine).filter(|(name, _)| name.starts_with("cerebelum:guest/guest@"));
    for (interface, item) in entries {
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            return Err(CompileError::Invalid(format!("the export `{interface}` is no interface")));
        };
        for (name, must_be_async) in [("describe", false), ("workflow", true), ("step", true)] {
            match instance.get_export(engine, name).map(|found| found.ty) {
                Some(ComponentItem::ComponentFunc(func)) if func.async_() == must_be_async => {}
                Some(ComponentItem::ComponentFunc(_)) if must_be_async => {
                    return Err(CompileError::Invalid(format!(
                        "the export `{interface}#{name}` must be an `async func`"
                    )));
                }
                Some(_) => {
                    return Err(CompileError::Invalid(format!(
                        "the export `{interface}#{name}` must be a plain function"
                    )));
                }
                None => {
                    return Err(CompileError::Invalid(format!("the component does not export `{interface}#{name}`")));
                }
            }
        }
    }
    Ok(())
}
