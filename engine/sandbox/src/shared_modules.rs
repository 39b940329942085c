//! Takes the modules that components share out of a component, so that each of them is compiled once.
//!
//! Two Python components contain the same interpreter (6.3 MB of code, most of the compile time) and differ in little
//! more than a memory image. So each module that is a library, which means large and without a memory of its own, is
//! replaced by an import of a module. The import's name is the hash of the module's bytes, computed here. The import's
//! type is the module's declared type. An import takes the place of its module, so that no index changes:
//!
//! ```text
//! (core module (;3;) …6 MB…)  becomes  (core type (;0;) (module (import "env" "memory" …) … (export "PyLong_New" …)))
//!                                      (import "shared-m4f8e…" (core module (;3;) (type 0)))
//! ```
//!
//! A component has access to its own modules only. [`structure`](crate::structure) rejects components that import
//! modules, so every such import was created here and is linked with exactly the bytes that it replaced.
//!
//! Hoisting is an optimisation. A component that is invalid, or that contains anything this file does not understand,
//! is left whole for the compiler to judge. Validity is checked before anything is replaced: a reference to a core type
//! that does not exist must not end up referring to one of ours.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use cerebelum_history::Digest;
use wasm_encoder::{
    Component, ComponentImportSection, ComponentTypeRef, CoreTypeSection, EntityType, GlobalType, MemoryType,
    ModuleType, RawSection, RefType, TableType, ValType,
};
use wasmparser::types::{CoreTypeId, EntityType as FoundType, TypesRef};
use wasmparser::{CompositeInnerType, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use crate::limits::SHARED_CODE_BYTES_MIN;

/// A component without the modules that it shares with others.
pub(crate) struct Hoisted<'a> {
    /// The component, with an import in place of each of these modules.
    pub(crate) rest: Vec<u8>,
    /// The modules in the order of their imports, without duplicates.
    pub(crate) modules: Vec<SharedModule<'a>>,
}

/// A module that was taken out of a component.
pub(crate) struct SharedModule<'a> {
    pub(crate) digest: Digest,
    pub(crate) bytes: &'a [u8],
}

/// The name by which a component imports a module.
pub(crate) fn import_name(module: &Digest) -> String {
    format!("shared-m{module}")
}

/// Takes the shared modules out of a component. Returns none when there are none, or when the component must be left
/// whole.
pub(crate) fn hoist(bytes: &[u8], features: WasmFeatures) -> Option<Hoisted<'_>> {
    let sections = sections(bytes, features)?;
    let mut rest = Component::new();
    let (mut modules, mut seen) = (Vec::new(), BTreeSet::new());
    for Section { id, range, library } in sections {
        let module = library.map(|ty| (ty, Digest::of(&bytes[range.clone()])));
        match module {
            // A module that occurs twice is imported once: the names of imports must be unique.
            Some((ty, digest)) if seen.insert(digest.clone()) => {
                let mut types = CoreTypeSection::new();
                types.ty().module(&ty);
                let mut imports = ComponentImportSection::new();
                imports.import(import_name(&digest).as_str(), ComponentTypeRef::Module(modules.len() as u32));
                rest.section(&types).section(&imports);
                modules.push(SharedModule { digest, bytes: &bytes[range] });
            }
            _ => _ = rest.section(&RawSection { id, data: &bytes[range] }),
        }
    }
    (!modules.is_empty()).then(|| Hoisted { rest: rest.finish(), modules })
}

/// A section of the outermost component.
struct Section {
    id: u8,
    range: Range<usize>,
    /// The section's module type, if the section is a module that can be shared.
    library: Option<ModuleType>,
}

/// The sections of a valid component that has no core types of its own. Function bodies are not validated here, because
/// the compiler validates each of them.
fn sections(bytes: &[u8], features: WasmFeatures) -> Option<Vec<Section>> {
    let mut validator = Validator::new_with_features(features);
    let mut sections: Vec<Section> = Vec::new();
    let (mut depth, mut code_bytes, mut has_memory) = (0_u32, 0, false);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.ok()?;
        let valid = validator.payload(&payload).ok()?;
        match &payload {
            Payload::Version { .. } => {
                depth += 1;
                (code_bytes, has_memory) = (0, false);
            }
            Payload::CoreTypeSection(_) if depth == 1 => return None,
            Payload::MemorySection(section) => has_memory |= section.count() > 0,
            Payload::CodeSectionStart { size, .. } => code_bytes = *size,
            Payload::End(_) => depth -= 1,
            _ => {}
        }
        // The payload that opens a module or component is reported at the level of its parent.
        if depth == 1
            && let Some((id, range)) = payload.as_section()
        {
            sections.push(Section { id, range, library: None });
        }
        if depth == 1
            && let (Payload::End(_), ValidPayload::End(types)) = (&payload, &valid)
            && code_bytes >= SHARED_CODE_BYTES_MIN
            && !has_memory
        {
            sections.last_mut()?.library = type_of(types.as_ref());
        }
    }
    Some(sections)
}

/// The type of a module. None for a component, or when the module has anything that is not supported here.
fn type_of(found: TypesRef<'_>) -> Option<ModuleType> {
    let mut writer = TypeWriter { found, ty: ModuleType::new(), functions: HashMap::new() };
    let mut imported = BTreeSet::new();
    for (module, name, entity) in found.core_imports()? {
        let entity = writer.entity(entity)?;
        if !imported.insert((module, name)) {
            // A module may import a name twice, but a module type may not.
            return None;
        }
        writer.ty.import(module, name, entity);
    }
    for (name, entity) in found.core_exports()? {
        let entity = writer.entity(entity)?;
        writer.ty.export(name, entity);
    }
    Some(writer.ty)
}

struct TypeWriter<'a> {
    found: TypesRef<'a>,
    ty: ModuleType,
    functions: HashMap<CoreTypeId, u32>,
}

impl TypeWriter<'_> {
    fn entity(&mut self, entity: FoundType) -> Option<EntityType> {
        Some(match entity {
            FoundType::Func(id) => EntityType::Function(self.function(id)?),
            FoundType::Memory(memory) => EntityType::Memory(MemoryType {
                minimum: memory.initial,
                maximum: memory.maximum,
                memory64: memory.memory64,
                shared: memory.shared,
                page_size_log2: memory.page_size_log2,
            }),
            FoundType::Table(table) => EntityType::Table(TableType {
                element_type: reference(table.element_type)?,
                table64: table.table64,
                minimum: table.initial,
                maximum: table.maximum,
                shared: table.shared,
            }),
            FoundType::Global(global) => EntityType::Global(GlobalType {
                val_type: value(global.content_type)?,
                mutable: global.mutable,
                shared: global.shared,
            }),
            FoundType::Tag(_) | FoundType::FuncExact(_) => return None,
        })
    }

    /// The index of a function type, which is added when it is first met.
    fn function(&mut self, id: CoreTypeId) -> Option<u32> {
        if let Some(index) = self.functions.get(&id) {
            return Some(*index);
        }
        let found = self.found;
        let CompositeInnerType::Func(function) = &found[id].composite_type.inner else { return None };
        let values = |types: &[wasmparser::ValType]| types.iter().copied().map(value).collect::<Option<Vec<_>>>();
        let (params, results) = (values(function.params())?, values(function.results())?);
        let index = self.ty.type_count();
        self.ty.ty().function(params, results);
        self.functions.insert(id, index);
        Some(index)
    }
}

fn value(ty: wasmparser::ValType) -> Option<ValType> {
    Some(match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::Ref(ty) => ValType::Ref(reference(ty)?),
    })
}

/// Converts a reference type. Guests may only have references to functions.
fn reference(ty: wasmparser::RefType) -> Option<RefType> {
    (ty == wasmparser::RefType::FUNCREF).then_some(RefType::FUNCREF)
}
