//! A traceback on a terminal.

use cerebelum_server::wording;

use super::line::{Line, Style};

/// The lines of a traceback, indented.
pub(crate) fn traceback_lines(traceback: &str) -> Vec<Line> {
    let lines = wording::traceback_lines(traceback).into_iter();
    lines.map(|line| Line::new(Style::Plain, &format!("    {line}"))).collect()
}
