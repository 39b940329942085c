//! The layout of a component: its modules, the module with the memory, and the mutable globals.

use std::ops::Range;

use wasmparser::{
    BinaryReaderError, CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind,
    ComponentTypeRef, Export, ExternalKind, Instance, Parser, Payload, TypeRef, ValType,
};

/// A section: its id, and where its content is.
type Section = (u8, Range<usize>);

/// A component with core modules of its own.
#[derive(Default)]
pub(super) struct Layout<'a> {
    pub(super) bytes: &'a [u8],
    /// The outermost sections, in their order.
    pub(super) parts: Vec<(Section, Option<Module<'a>>)>,
    pub(super) counts: Counts,
    /// The module of each core instance; none for an instance made of exports.
    instances: Vec<Option<u32>>,
}

/// The number of items of each sort in a component, which is the index of the next one.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) modules: u32,
    pub(super) core_functions: u32,
    pub(super) core_memories: u32,
    pub(super) functions: u32,
    pub(super) types: u32,
}

/// A core module.
pub(super) struct Module<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) index: u32,
    pub(super) sections: Vec<Section>,
    /// The pages of its own memory; none when it has no memory of its own.
    pub(super) memory: Option<wasmparser::MemoryType>,
    /// Globals of its own, with their indices.
    pub(super) globals: Vec<Global<'a>>,
    pub(super) exports: Vec<Export<'a>>,
    imported_globals: u32,
}

/// A global of a module's own.
pub(super) struct Global<'a> {
    pub(super) index: u32,
    pub(super) ty: ValType,
    pub(super) is_mutable: bool,
    /// The initial expression, without its end.
    pub(super) init: &'a [u8],
}

impl<'a> Layout<'a> {
    /// Reads a component.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, BinaryReaderError> {
        let mut layout = Self { bytes, ..Self::default() };
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            if depth == 1
                && let Some((id, range)) = payload.as_section()
            {
                let module = match &payload {
                    Payload::ModuleSection { .. } => Some(Module::of(&bytes[range.clone()], layout.counts.modules)?),
                    _ => None,
                };
                layout.counts.modules += u32::from(module.is_some());
                layout.parts.push(((id, range), module));
            }
            match payload {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                payload if depth == 1 => layout.count(payload)?,
                _ => {}
            }
        }
        Ok(layout)
    }

    /// The modules, in their order.
    pub(super) fn modules(&self) -> impl Iterator<Item = &Module<'a>> {
        self.parts.iter().filter_map(|(_, module)| module.as_ref())
    }

    /// The number of core instances.
    pub(super) fn core_instances(&self) -> u32 {
        self.instances.len() as u32
    }

    /// The core instance that was made from a module.
    pub(super) fn instance_of(&self, module: &Module<'_>) -> Option<u32> {
        self.instances.iter().position(|made_from| *made_from == Some(module.index)).map(|place| place as u32)
    }

    /// Counts the items that a section of the component itself defines.
    fn count(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::InstanceSection(reader) => {
                for instance in reader {
                    self.instances.push(match instance? {
                        Instance::Instantiate { module_index, .. } => Some(module_index),
                        Instance::FromExports(_) => None,
                    });
                }
            }
            Payload::ComponentAliasSection(reader) => {
                reader.into_iter().try_for_each(|alias| alias.map(|alias| self.counts.add_alias(&alias)))?;
            }
            Payload::ComponentCanonicalSection(reader) => {
                for function in reader {
                    match function? {
                        CanonicalFunction::Lift { .. } => self.counts.functions += 1,
                        _ => self.counts.core_functions += 1,
                    }
                }
            }
            Payload::ComponentImportSection(reader) => {
                for import in reader {
                    match import?.ty {
                        ComponentTypeRef::Func(_) => self.counts.functions += 1,
                        ComponentTypeRef::Type(_) => self.counts.types += 1,
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(reader) => {
                reader.into_iter().try_for_each(|export| export.map(|export| self.counts.add_outer(export.kind)))?;
            }
            Payload::ComponentTypeSection(reader) => self.counts.types += reader.count(),
            _ => {}
        }
        Ok(())
    }
}

impl Counts {
    fn add_alias(&mut self, alias: &ComponentAlias<'_>) {
        match alias {
            ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, .. } => self.core_functions += 1,
            ComponentAlias::CoreInstanceExport { kind: ExternalKind::Memory, .. } => self.core_memories += 1,
            ComponentAlias::InstanceExport { kind, .. } => self.add_outer(*kind),
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, .. } => self.types += 1,
            _ => {}
        }
    }

    fn add_outer(&mut self, kind: ComponentExternalKind) {
        match kind {
            ComponentExternalKind::Func => self.functions += 1,
            ComponentExternalKind::Type => self.types += 1,
            _ => {}
        }
    }
}

impl<'a> Module<'a> {
    fn of(bytes: &'a [u8], index: u32) -> Result<Self, BinaryReaderError> {
        let mut module = Self {
            bytes,
            index,
            sections: Vec::new(),
            memory: None,
            globals: Vec::new(),
            exports: Vec::new(),
            imported_globals: 0,
        };
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            module.sections.extend(payload.as_section());
            module.note(payload)?;
        }
        Ok(module)
    }

    fn note(&mut self, payload: Payload<'a>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    self.imported_globals += u32::from(matches!(import?.ty, TypeRef::Global(_)));
                }
            }
            Payload::MemorySection(reader) => {
                for memory in reader {
                    self.memory = Some(memory?);
                }
            }
            Payload::GlobalSection(reader) => {
                for (index, global) in (self.imported_globals..).zip(reader) {
                    let global = global?;
                    let init = &self.bytes[global.init_expr.get_binary_reader().range()];
                    let (ty, is_mutable) = (global.ty.content_type, global.ty.mutable);
                    self.globals.push(Global { index, ty, is_mutable, init: &init[..init.len().saturating_sub(1)] });
                }
            }
            Payload::ExportSection(reader) => self.exports = reader.into_iter().collect::<Result<_, _>>()?,
            _ => {}
        }
        Ok(())
    }

    /// The mutable globals.
    pub(super) fn variables(&self) -> impl Iterator<Item = &Global<'a>> {
        self.globals.iter().filter(|global| global.is_mutable)
    }

    /// The name under which the module exports an item.
    pub(super) fn export_of(&self, kind: ExternalKind, index: u32) -> Option<&'a str> {
        self.exports.iter().find(|export| export.kind == kind && export.index == index).map(|export| export.name)
    }

    /// Whether the module exports a function of this name.
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.exports.iter().any(|export| export.kind == ExternalKind::Func && export.name == name)
    }
}
