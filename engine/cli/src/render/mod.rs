//! Output for people: lines with styles, tables, an execution as a tree, its changes, and a live view of it.

mod changes;
mod execution;
mod failure;
mod line;
mod live;
mod pretty;
mod steps;
mod table;
#[cfg(test)]
mod testing;
mod when;

pub(crate) use changes::changes;
pub(crate) use execution::{RenderOptions, STEPS_SHOWN, execution};
pub(crate) use failure::{failure_line, traceback_lines, without_traceback};
pub(crate) use line::{Line, Style, harmless, plain};
pub(crate) use live::{Live, Size};
pub(crate) use pretty::pretty;
pub(crate) use table::Table;
pub(crate) use when::{Now, ago, moment_ms};
