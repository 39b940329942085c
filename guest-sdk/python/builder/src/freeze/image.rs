//! Writes the memory of a running component into the component.

use std::ops::Range;

use wasm_encoder::{
    Component, ConstExpr, DataCountSection, DataSection, GlobalSection, GlobalType, MemorySection, MemoryType, Module,
    ModuleSection, RawSection, ValType,
};

use super::layout::{self, Layout};
use super::probe::{GLOBAL_BYTES, HEAD_BYTES};

pub(super) const PAGE_BYTES: usize = 64 << 10;
/// Shorter runs of zeros are written as data: a segment of its own would cost about as much.
const GAP_BYTES: usize = 64;
/// The number of segments. The limit that all runtimes accept is 100,000.
const SEGMENTS_MAX: usize = 90_000;
const MEMORY_SECTION: u8 = 5;
const GLOBAL_SECTION: u8 = 6;
const START_SECTION: u8 = 8;
const DATA_SECTION: u8 = 11;
const DATA_COUNT_SECTION: u8 = 12;

/// The component that begins with the memory and the globals of a snapshot.
///
/// # Errors
/// When the snapshot does not belong to this component.
pub(super) fn with_memory(layout: &Layout<'_>, snapshot: &[u8]) -> Result<Vec<u8>, String> {
    let count: usize = layout.modules().map(|module| module.variables().count()).sum();
    let memory = snapshot.len().checked_sub(HEAD_BYTES + count * GLOBAL_BYTES).ok_or("the snapshot is too short")?;
    let (memory, told) = snapshot.split_at(memory);
    let mut values = told[HEAD_BYTES..]
        .chunks_exact(GLOBAL_BYTES)
        .map(|value| u64::from_le_bytes(value.try_into().expect("a chunk has the length of its kind")));
    let mut made = Component::new();
    for ((id, range), module) in &layout.parts {
        match module {
            Some(module) if module.memory.is_some() || module.variables().next().is_some() => {
                let globals = globals(module, &mut values)?;
                made.section(&ModuleSection(&module_with(module, memory, &globals)));
            }
            _ => _ = made.section(&RawSection { id: *id, data: &layout.bytes[range.clone()] }),
        }
    }
    Ok(made.finish())
}

/// The globals of a module, with their values in the snapshot.
fn globals(module: &layout::Module<'_>, values: &mut impl Iterator<Item = u64>) -> Result<GlobalSection, String> {
    let mut made = GlobalSection::new();
    for global in &module.globals {
        let val_type = value_type(global.ty)?;
        let init = match global.is_mutable {
            true => constant(val_type, values.next().unwrap_or_default()),
            false => ConstExpr::raw(global.init.iter().copied()),
        };
        made.global(GlobalType { val_type, mutable: global.is_mutable, shared: false }, &init);
    }
    Ok(made)
}

/// Reverses the probe's encoding of a global's value.
fn constant(ty: ValType, value: u64) -> ConstExpr {
    match ty {
        ValType::I32 => ConstExpr::i32_const(value as i32),
        ValType::F32 => ConstExpr::f32_const(f32::from_bits(value as u32).into()),
        ValType::F64 => ConstExpr::f64_const(f64::from_bits(value).into()),
        _ => ConstExpr::i64_const(value as i64),
    }
}

/// The type of a global that a snapshot can have.
pub(super) fn value_type(ty: wasmparser::ValType) -> Result<ValType, String> {
    match ty {
        wasmparser::ValType::I32 => Ok(ValType::I32),
        wasmparser::ValType::I64 => Ok(ValType::I64),
        wasmparser::ValType::F32 => Ok(ValType::F32),
        wasmparser::ValType::F64 => Ok(ValType::F64),
        other => Err(format!("a global of type {other} cannot be kept")),
    }
}

/// The module with these globals, and with the memory if that is its own. The earlier initial data is left out.
fn module_with(module: &layout::Module<'_>, memory: &[u8], globals: &GlobalSection) -> Module {
    let (data, segments) = module.memory.map_or_else(Default::default, |_| data(memory));
    let mut made = Module::new();
    for (id, range) in &module.sections {
        match (*id, module.memory) {
            (MEMORY_SECTION, Some(ty)) => {
                let (minimum, maximum) = ((memory.len() / PAGE_BYTES) as u64, ty.maximum);
                let mut memories = MemorySection::new();
                memories.memory(MemoryType { minimum, maximum, memory64: false, shared: false, page_size_log2: None });
                made.section(&memories);
            }
            (GLOBAL_SECTION, _) => _ = made.section(globals),
            (DATA_COUNT_SECTION, _) => _ = made.section(&DataCountSection { count: segments }),
            (START_SECTION | DATA_SECTION, _) => {}
            (id, _) => _ = made.section(&RawSection { id, data: &module.bytes[range.clone()] }),
        }
    }
    if segments > 0 {
        made.section(&data);
    }
    made
}

/// The non-zero parts of a memory, and the number of segments.
fn data(memory: &[u8]) -> (DataSection, u32) {
    let mut gap = GAP_BYTES;
    loop {
        let spans = spans(memory, gap);
        if spans.len() <= SEGMENTS_MAX {
            let mut data = DataSection::new();
            for span in &spans {
                let begins = ConstExpr::i32_const(span.start as i32);
                data.active(0, &begins, memory[span.clone()].iter().copied());
            }
            return (data, spans.len() as u32);
        }
        gap *= 2;
    }
}

/// The parts of a memory that are not zero; runs of zeros shorter than `gap` count as parts of them.
fn spans(memory: &[u8], gap: usize) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (number, block) in memory.chunks(gap).enumerate() {
        let Some(first) = block.iter().position(|byte| *byte != 0) else { continue };
        let last = block.iter().rposition(|byte| *byte != 0).unwrap_or(first);
        let (start, end) = (number * gap + first, number * gap + last + 1);
        match spans.last_mut() {
            Some(before) if start - before.end < gap => before.end = end,
            _ => spans.push(start..end),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_zero_is_kept_in_as_few_parts_as_pay() {
        let mut memory = vec![0; 300];
        for at in [3, 60, 70, 199] {
            memory[at] = 1;
        }
        assert_eq!(spans(&memory, 64), [3..71, 199..200]);
        assert_eq!(spans(&memory, 8), [3..4, 60..61, 70..71, 199..200]);
        assert!(spans(&[0; 64], 8).is_empty());
    }
}
