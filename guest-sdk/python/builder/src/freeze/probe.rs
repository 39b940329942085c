//! A function inside a component that returns all of its memory and globals; exported only during the build.
//!
//! Before it takes the snapshot, it makes the component forget its host. The WASI calls of a program during the build
//! leave handles in its memory, for open folders and standard streams, which would refer to another host at run time.
//! The interpreter itself forgets them only after its own start.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, CodeSection, Component, ComponentAliasSection,
    ComponentExportKind, ComponentExportSection, ComponentTypeSection, ComponentValType, ExportKind, ExportSection,
    Function, FunctionSection, GlobalType, ImportSection, InstanceSection, InstructionSink, MemArg, MemoryType,
    ModuleArg, ModuleSection, PrimitiveValType, RawSection, TypeSection, ValType,
};
use wasmparser::ExternalKind;

use super::image::{PAGE_BYTES, value_type};
use super::layout::{Layout, Module};

/// The name of the export that returns the snapshot.
pub(super) const SNAPSHOT: &str = "cerebelum-snapshot";
/// Functions of componentize-py's modules that forget the host.
const RESETS: [&str; 2] = ["reset_adapter_state", "__wasilibc_reset_preopens"];
/// The size of a global in the snapshot, whatever its type.
pub(super) const GLOBAL_BYTES: usize = 8;
/// The size of the head before the globals in the snapshot: the start and the length of the snapshot.
pub(super) const HEAD_BYTES: usize = 8;
const MEMORY: &str = "memory";
const EXPORT_SECTION: u8 = 7;

/// The component with the export, which returns the memory, then a head, then each mutable global.
///
/// # Errors
/// When something is missing, because componentize-py did not make the component; the error names it.
pub(super) fn with_snapshot(layout: &Layout<'_>) -> Result<Vec<u8>, String> {
    let mut made = Component::new();
    for ((id, range), module) in &layout.parts {
        match module {
            Some(module) if has_hidden(module) => _ = made.section(&ModuleSection(&bared(module))),
            _ => _ = made.section(&RawSection { id: *id, data: &layout.bytes[range.clone()] }),
        }
    }
    let mut instances = InstanceSection::new();
    let instance = |module: &Module<'_>| {
        let instance = layout.instance_of(module).ok_or("a module is used by nothing")?;
        Ok::<_, String>((module.index.to_string(), ModuleArg::Instance(instance)))
    };
    let sources: Vec<_> = layout.modules().filter(|module| is_asked(module)).map(instance).collect::<Result<_, _>>()?;
    instances.instantiate(layout.counts.modules, sources.iter().map(|(name, arg)| (name.as_str(), *arg)));
    let memory = layout.modules().find(|module| module.memory.is_some()).ok_or("it has no memory")?;
    let memory = layout.instance_of(memory).ok_or("its memory is used by nothing")?;
    let teller = layout.core_instances();
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::CoreInstanceExport { instance: teller, kind: ExportKind::Func, name: SNAPSHOT });
    aliases.alias(Alias::CoreInstanceExport { instance: memory, kind: ExportKind::Memory, name: MEMORY });
    let counts = &layout.counts;
    let mut types = ComponentTypeSection::new();
    types.defined_type().list(PrimitiveValType::U8);
    let params: [(&str, ComponentValType); 0] = [];
    types.function().params(params).result(Some(ComponentValType::Type(counts.types)));
    let mut lifts = CanonicalFunctionSection::new();
    lifts.lift(counts.core_functions, counts.types + 1, [CanonicalOption::Memory(counts.core_memories)]);
    let mut exports = ComponentExportSection::new();
    exports.export(SNAPSHOT, ComponentExportKind::Func, counts.functions, None);
    made.section(&ModuleSection(&teller_module(layout)?)).section(&instances).section(&aliases);
    made.section(&types).section(&lifts).section(&exports);
    Ok(made.finish())
}

/// Whether the snapshot needs anything of a module.
fn is_asked(module: &Module<'_>) -> bool {
    module.memory.is_some()
        || module.variables().next().is_some()
        || RESETS.iter().any(|name| module.has_function(name))
}

/// Whether a module has mutable globals that are not exported.
fn has_hidden(module: &Module<'_>) -> bool {
    module.variables().any(|global| module.export_of(ExternalKind::Global, global.index).is_none())
}

/// The name of an export that is made for a global.
fn hidden_name(index: u32) -> String {
    format!("cerebelum-global-{index}")
}

/// The module with all of its mutable globals exported.
fn bared(module: &Module<'_>) -> wasm_encoder::Module {
    let mut exports = ExportSection::new();
    for export in &module.exports {
        let kind = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
            ExternalKind::Table => ExportKind::Table,
            ExternalKind::Memory => ExportKind::Memory,
            ExternalKind::Global => ExportKind::Global,
            ExternalKind::Tag => ExportKind::Tag,
        };
        exports.export(export.name, kind, export.index);
    }
    for global in module.variables() {
        if module.export_of(ExternalKind::Global, global.index).is_none() {
            exports.export(&hidden_name(global.index), ExportKind::Global, global.index);
        }
    }
    let mut made = wasm_encoder::Module::new();
    for (id, range) in &module.sections {
        match *id {
            EXPORT_SECTION => _ = made.section(&exports),
            id => _ = made.section(&RawSection { id, data: &module.bytes[range.clone()] }),
        }
    }
    made
}

/// The module with the function.
fn teller_module(layout: &Layout<'_>) -> Result<wasm_encoder::Module, String> {
    let mut imports = ImportSection::new();
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [ValType::I32]);
    let (mut reset_count, mut globals) = (0, Vec::new());
    for module in layout.modules().filter(|module| is_asked(module)) {
        let source = module.index.to_string();
        for name in RESETS.iter().filter(|name| module.has_function(name)) {
            imports.import(&source, name, wasm_encoder::EntityType::Function(0));
            reset_count += 1;
        }
        if module.memory.is_some() {
            let any = MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
            imports.import(&source, MEMORY, any);
        }
        for global in module.variables() {
            let val_type = value_type(global.ty)?;
            let exported = module.export_of(ExternalKind::Global, global.index);
            let name = exported.map_or_else(|| hidden_name(global.index), str::to_owned);
            imports.import(&source, &name, GlobalType { val_type, mutable: true, shared: false });
            globals.push(val_type);
        }
    }
    if (reset_count as usize) < RESETS.len() {
        return Err(format!("it does not have the functions {}", RESETS.join(", ")));
    }
    let mut functions = FunctionSection::new();
    functions.function(1);
    let mut exports = ExportSection::new();
    exports.export(SNAPSHOT, ExportKind::Func, reset_count);
    let mut code = CodeSection::new();
    code.function(&tell(reset_count, &globals));
    let mut made = wasm_encoder::Module::new();
    made.section(&types).section(&imports).section(&functions).section(&exports).section(&code);
    Ok(made)
}

/// Forgets the host, then writes the globals after the end of the memory, and returns the place of head and globals.
fn tell(reset_count: u32, globals: &[ValType]) -> Function {
    let mut function = Function::new([(1, ValType::I32)]);
    let mut code = function.instructions();
    (0..reset_count).for_each(|reset| _ = code.call(reset));
    let added = HEAD_BYTES + globals.len() * GLOBAL_BYTES;
    code.memory_size(0).i32_const(PAGE_BYTES as i32).i32_mul().local_set(0);
    code.i32_const(added.div_ceil(PAGE_BYTES) as i32).memory_grow(0);
    code.i32_const(0).i32_lt_s().if_(wasm_encoder::BlockType::Empty).unreachable().end();
    code.local_get(0).i32_const(0).i32_store(at(0));
    code.local_get(0).local_get(0).i32_const(added as i32).i32_add().i32_store(at(4));
    for (number, ty) in globals.iter().enumerate() {
        code.local_get(0).global_get(number as u32);
        widen(&mut code, *ty).i64_store(at(HEAD_BYTES + number * GLOBAL_BYTES));
    }
    code.local_get(0).end();
    function
}

fn widen<'c, 'f>(code: &'c mut InstructionSink<'f>, ty: ValType) -> &'c mut InstructionSink<'f> {
    match ty {
        ValType::I32 => code.i64_extend_i32_u(),
        ValType::F32 => code.i32_reinterpret_f32().i64_extend_i32_u(),
        ValType::F64 => code.i64_reinterpret_f64(),
        _ => code,
    }
}

fn at(offset: usize) -> MemArg {
    MemArg { offset: offset as u64, align: 0, memory_index: 0 }
}
