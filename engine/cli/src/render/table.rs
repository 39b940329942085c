//! Aligned columns.

use super::line::{Line, Style};

/// Rows under a heading; columns are as wide as their widest cell.
pub(crate) struct Table {
    heading: Vec<Line>,
    rows: Vec<Vec<Line>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { heading: columns.iter().map(|name| Line::new(Style::Dim, name)).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Line>) {
        self.rows.push(cells);
    }

    /// Whether the table has no rows below the heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, heading first.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let all = || std::iter::once(&self.heading).chain(&self.rows);
        let width = |column: usize| all().filter_map(|row| row.get(column)).map(Line::width).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.heading.len()).map(width).collect();
        all().map(|row| aligned(row, &widths)).collect()
    }
}

fn aligned(row: &[Line], widths: &[usize]) -> Line {
    let mut line = Line::default();
    let last = row.iter().rposition(|cell| cell.width() > 0).unwrap_or(0);
    for (column, (cell, width)) in row.iter().zip(widths).enumerate().take(last + 1) {
        line = line.join(cell);
        if column < last {
            line = line.and(Style::Plain, &" ".repeat(width - cell.width() + 2));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_do_not_end_in_spaces() {
        let mut table = Table::new(&["NAME", "STATUS"]);
        let cell = |text: &str| Line::new(Style::Plain, text);
        table.row(vec![cell("世界"), cell("ok")]);
        table.row(vec![cell("longer"), cell("running")]);
        table.row(vec![cell("idle"), cell("")]);
        let shown: Vec<_> = table.lines().iter().map(|line| line.render(None, false)).collect();
        assert_eq!(shown, ["NAME    STATUS", "世界    ok", "longer  running", "idle"]);
    }
}
