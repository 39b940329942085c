//! How people are told about executions, in a terminal or in a browser: one wording for both.

mod axis;
mod bulk;
mod failure;
mod moments;
mod numbers;
mod plain;
mod pretty;
mod steps;
mod why;

pub use axis::{Axis, FOLD_WIDTH, Fold};
pub use bulk::{bulk_left, bulk_operation, matching};
pub use failure::{failure_line, traceback_lines, without_traceback};
pub use moments::{Now, ago, moment_ms, roughly};
pub use numbers::{COUNTED, counted, counting};
pub use plain::{harmless, plain};
pub use pretty::{each_line, pretty, pretty_or_plain};
pub use steps::{Row, What, step_rows};
pub use why::{WaitsFor, why};
