//! Output for people: lines with styles, tables, an execution as a tree, its changes, and a live view of it.

mod changes;
mod execution;
mod line;
mod live;
mod steps;
mod table;
#[cfg(test)]
mod testing;
mod timeline;

pub(crate) use cerebelum_server::wording::{
    Now, ago, failure_line, harmless, plain, pretty, roughly, without_traceback,
};
pub(crate) use changes::changes;
pub(crate) use execution::{RenderOptions, STEPS_SHOWN, execution, traceback_lines};
pub(crate) use line::{Line, Style};
pub(crate) use live::{Live, Size};
pub(crate) use table::Table;
pub(crate) use timeline::timeline;
