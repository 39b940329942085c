//! Aligned columns.

use super::line::{Line, Style};

/// Rows under a heading; columns are as wide as their widest cell.
pub(crate) struct Table {
    heading: Vec<Line>,
    rows: Vec<Vec<Line>>,
}

impl Table {
    /// A table with these columns and rows.
    pub(crate) fn new<const N: usize>(columns: [&str; N], rows: impl IntoIterator<Item = [Line; N]>) -> Self {
        let heading = columns.map(|name| Line::new(Style::Dim, name)).to_vec();
        Self { heading, rows: rows.into_iter().map(Vec::from).collect() }
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
        let rows = [["世界", "ok"], ["longer", "running"], ["idle", ""]];
        let table = Table::new(["NAME", "STATUS"], rows.map(|row| row.map(Line::from)));
        let shown: Vec<_> = table.lines().iter().map(|line| line.render(None, false)).collect();
        assert_eq!(shown, ["NAME    STATUS", "世界    ok", "longer  running", "idle"]);
    }
}
