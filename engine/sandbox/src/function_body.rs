//! Counts what makes one function slow to compile.

use wasmparser::{BinaryReaderError, FunctionBody, Operator};

use crate::limits::structure::{BLOCK_DEPTH_MAX, BLOCKS_MAX, BODY_BYTES_MAX, JUMP_TARGETS_MAX, LOCALS_MAX, LOOPS_MAX};

#[derive(Debug, Default)]
struct Count {
    loops: u64,
    blocks: u64,
    depth: u64,
    deepest: u64,
    jump_targets: u64,
}

/// Looks at one function; the inner error is one line for the uploader.
pub(crate) fn examine(body: &FunctionBody<'_>) -> Result<Result<(), String>, BinaryReaderError> {
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
    let count = count(body)?;
    let limits = [
        (locals, LOCALS_MAX, "local variables"),
        (count.loops, LOOPS_MAX, "loops"),
        (count.blocks, BLOCKS_MAX, "blocks"),
        (count.deepest, BLOCK_DEPTH_MAX, "blocks inside each other"),
        (count.jump_targets, JUMP_TARGETS_MAX, "jump targets"),
    ];
    Ok(match limits.into_iter().find(|(found, max, _)| found > max) {
        Some((_, max, what)) => Err(format!("a function of the component has more than {max} {what}")),
        None => Ok(()),
    })
}

fn count(body: &FunctionBody<'_>) -> Result<Count, BinaryReaderError> {
    let mut count = Count::default();
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::Loop { .. } => {
                count.loops += 1;
                count.enter();
            }
            Operator::Block { .. } | Operator::If { .. } => count.enter(),
            Operator::End => count.depth = count.depth.saturating_sub(1),
            Operator::BrTable { targets } => count.jump_targets += u64::from(targets.len()),
            _ => {}
        }
    }
    Ok(count)
}

impl Count {
    fn enter(&mut self) {
        self.blocks += 1;
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
    }
}
