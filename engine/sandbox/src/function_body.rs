//! Estimates the cost of compiling one function, and rejects functions that are far too expensive.
//!
//! The compiler's work grows with the number of instructions. Where paths merge, it also grows with the number of
//! variables that were set on the way, because each path contributes a value for each of them. Both are counted. The
//! cost of a unit was measured over the shapes in `structure/tests.rs` and is rounded up.

use std::sync::Arc;

use wasmparser::{BinaryReaderError, BlockType, FunctionBody, Operator};

use crate::limits::structure::{BLOCK_DEPTH_MAX, BLOCKS_MAX, BODY_BYTES_MAX, JUMP_TARGETS_MAX, LOCALS_MAX, LOOPS_MAX};

/// The number of parameters and results of each type of a module.
pub(crate) type Arities = Arc<Vec<u32>>;

/// A function body, with what its module declares about it.
pub(crate) struct Function<'a> {
    pub(crate) body: FunctionBody<'a>,
    /// The number of its parameters and results.
    pub(crate) arity: u64,
    pub(crate) types: Arities,
}

/// The base cost of a function, in nanoseconds of CPU time.
const FUNCTION_NS: u64 = 60_000;
/// An instruction.
const OPERATOR_NS: u64 = 2_500;
/// A parameter, result or local variable.
const PARAMETER_NS: u64 = 1_000;
/// A variable that one path contributes where paths merge.
const MEETING_NS: u64 = 1_500;
/// The lookup of a variable in a block.
const LOOKUP_NS: u64 = 100;
/// A target of a jump table.
const TARGET_NS: u64 = 2_000;

#[derive(Debug, Default)]
struct Count {
    loops: u64,
    blocks: u64,
    deepest: u64,
    jump_targets: u64,
    operators_ns: u64,
    /// The values that paths contribute where they merge.
    meetings: u64,
    /// The blocks that are open at this point.
    open: Vec<OpenBlock>,
    variables: u64,
}

/// A block that has not ended yet.
#[derive(Debug, Default)]
struct OpenBlock {
    /// Jumps to it.
    jumps: u64,
    /// How often a variable is set inside it.
    sets: u64,
    /// The number of values that it takes and yields.
    arity: u64,
}

/// Examines one function. Returns an upper bound for the cost of compiling it, in nanoseconds of CPU time. The inner
/// error is one line for the uploader.
pub(crate) fn examine(function: &Function<'_>) -> Result<Result<u64, String>, BinaryReaderError> {
    let body = &function.body;
    let size = body.range().len() as u64;
    if size > BODY_BYTES_MAX {
        return Ok(Err(format!(
            "a function of the component has {size} bytes where at most {BODY_BYTES_MAX} are accepted"
        )));
    }
    let mut locals = 0_u64;
    for group in body.get_locals_reader()? {
        locals += u64::from(group?.0);
    }
    let count = count(function, locals + function.arity)?;
    let limits = [
        (locals, LOCALS_MAX, "local variables"),
        (count.loops, LOOPS_MAX, "loops"),
        (count.blocks, BLOCKS_MAX, "blocks"),
        (count.deepest, BLOCK_DEPTH_MAX, "blocks inside each other"),
        (count.jump_targets, JUMP_TARGETS_MAX, "jump targets"),
    ];
    Ok(match limits.into_iter().find(|(found, max, _)| found > max) {
        Some((_, max, what)) => Err(format!("a function of the component has more than {max} {what}")),
        None => Ok(count.cost_ns()),
    })
}

fn count(function: &Function<'_>, variables: u64) -> Result<Count, BinaryReaderError> {
    let all = OpenBlock { arity: function.arity, ..OpenBlock::default() };
    let mut count = Count { variables, open: vec![all], ..Count::default() };
    let (bytes, begins) = (function.body.as_bytes(), function.body.range().start);
    let mut operators = function.body.get_operators_reader()?;
    while !operators.eof() {
        let code = bytes.get(operators.original_position() - begins).copied().unwrap_or_default();
        count.operators_ns += OPERATOR_NS * weight(code);
        match operators.read()? {
            Operator::Loop { blockty } => {
                count.loops += 1;
                count.enter(blockty, &function.types);
            }
            Operator::Block { blockty } | Operator::If { blockty } => count.enter(blockty, &function.types),
            Operator::End => count.leave(),
            Operator::LocalSet { .. } | Operator::LocalTee { .. } => count.set(),
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => count.jump(relative_depth),
            Operator::BrTable { targets } => {
                count.jump_targets += u64::from(targets.len()) + 1;
                count.jump(targets.default());
                for target in targets.targets() {
                    count.jump(target?);
                }
            }
            _ => {}
        }
    }
    Ok(count)
}

/// How many plain instructions an instruction with this first byte counts as.
const fn weight(code: u8) -> u64 {
    match code {
        // Calls. Calls through tables check bounds, nulls and types.
        0x10 => 2,
        0x11 => 8,
        // Tables, and growing memory.
        0x25 | 0x26 | 0x40 | 0xd2 => 8,
        // Operations on floats: each NaN result is made canonical, so that it is the same on all machines.
        0x8b..=0xa6 | 0xa8..=0xbf => 4,
        // Bulk memory and tables, saturating conversions.
        0xfc => 8,
        // Vectors.
        0xfd => 6,
        _ => 1,
    }
}

impl Count {
    fn enter(&mut self, ty: BlockType, types: &[u32]) {
        self.blocks += 1;
        let arity = match ty {
            BlockType::FuncType(index) => types.get(index as usize).copied().unwrap_or_default().into(),
            BlockType::Type(_) => 1,
            BlockType::Empty => 0,
        };
        self.open.push(OpenBlock { arity, ..OpenBlock::default() });
        self.deepest = self.deepest.max(self.open.len() as u64 - 1);
    }

    fn set(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.sets += 1;
        }
    }

    fn jump(&mut self, depth: u32) {
        let target = self.open.len().checked_sub(1 + depth as usize);
        if let Some(open) = target.and_then(|target| self.open.get_mut(target)) {
            open.jumps += 1;
        }
    }

    /// A variable that is set inside a block may differ where paths merge: at the block's end or, with a loop, at its
    /// beginning.
    fn leave(&mut self) {
        let Some(left) = self.open.pop() else { return };
        let values = left.sets.min(self.variables) + left.arity;
        self.meetings = self.meetings.saturating_add((left.jumps + 2).saturating_mul(values));
        if let Some(around) = self.open.last_mut() {
            around.sets += left.sets;
        }
    }

    fn cost_ns(&self) -> u64 {
        let lookups = self.blocks.saturating_mul(self.variables);
        let counted = [
            (self.variables, PARAMETER_NS),
            (self.jump_targets, TARGET_NS),
            (self.meetings, MEETING_NS),
            (lookups, LOOKUP_NS),
        ];
        let fixed = FUNCTION_NS.saturating_add(self.operators_ns);
        counted.into_iter().fold(fixed, |cost, (count, ns)| cost.saturating_add(count.saturating_mul(ns)))
    }
}
