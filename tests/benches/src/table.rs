//! The figures: printed as a table, written as JSON.

use std::path::Path;

use serde_json::json;
use test_engine::Database;

use crate::ceilings::Ceilings;
use crate::goals::Goal;

/// One database, and the table for its figures.
pub(crate) struct Scene<'t> {
    pub(crate) table: &'t mut Table,
    pub(crate) name: &'static str,
    pub(crate) database: Database,
    pub(crate) ceilings: Ceilings,
}

impl Scene<'_> {
    /// Adds a figure with all its runs, beside the machine's own figure if there is one.
    pub(crate) fn add(
        &mut self,
        workload: &'static str,
        metric: &'static str,
        runs: Vec<f64>,
        ceiling: Option<(&'static str, f64)>,
    ) {
        self.table.add((workload, self.name), metric, runs, ceiling);
    }

    /// The machine's own figures.
    pub(crate) fn add_ceilings(&mut self) {
        let Ceilings { single, hundred_rows, .. } = self.ceilings;
        self.add("–", "single_row_commits_per_s", vec![single], None);
        self.add("–", "rows_per_s_in_100_row_commits", vec![hundred_rows], None);
    }
}

/// One figure.
struct Row {
    workload: &'static str,
    database: &'static str,
    metric: &'static str,
    runs: Vec<f64>,
    /// The machine's own figure for the same thing, if there is one.
    ceiling: Option<(&'static str, f64)>,
}

/// All figures of one run.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a figure with all its runs; their median is the one to quote.
    fn add(
        &mut self,
        (workload, database): (&'static str, &'static str),
        metric: &'static str,
        runs: Vec<f64>,
        ceiling: Option<(&'static str, f64)>,
    ) {
        let row = Row { workload, database, metric, runs, ceiling };
        eprintln!("{}", row.line());
        self.rows.push(row);
    }

    /// Prints the table.
    #[expect(clippy::print_stdout, reason = "the table is what the program is for")]
    pub(crate) fn print(&self) {
        println!(
            "{:<4} {:<9} {:<28} {:>14} {:>14} {:>8}  {:<28} ceiling is",
            "", "database", "metric", "median", "ceiling", "ratio", "goal"
        );
        for row in &self.rows {
            println!("{}", row.line());
        }
    }

    /// Writes the figures as a list of objects.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let rows = self.rows.iter().map(|row| {
            json!({
                "w": row.workload, "database": row.database, "metric": row.metric,
                "value": median(&row.runs), "ceiling": row.ceiling.map(|(_, ceiling)| ceiling), "runs": row.runs,
            })
        });
        Ok(std::fs::write(path, serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?)?)
    }
}

impl Row {
    fn line(&self) -> String {
        let value = median(&self.runs);
        let (ceiling, ratio, what) = match self.ceiling {
            Some((what, ceiling)) => (format!("{ceiling:.3}"), format!("{:.2}", value / ceiling), what),
            None => (String::new(), String::new(), ""),
        };
        let goal = Goal::of(self.workload, self.metric, self.database);
        let goal = goal.map(|goal| goal.judge(value, self.ceiling.map(|(_, ceiling)| ceiling))).unwrap_or_default();
        let line = format!(
            "{:<4} {:<9} {:<28} {value:>14.3} {ceiling:>14} {ratio:>8}  {goal:<28} {what}",
            self.workload, self.database, self.metric
        );
        line.trim_end().to_owned()
    }
}

/// The middle one of some figures.
pub(crate) fn median(runs: &[f64]) -> f64 {
    percentile(runs, 50)
}

/// The figure that 95 of 100 do not exceed.
pub(crate) fn p95(runs: &[f64]) -> f64 {
    percentile(runs, 95)
}

/// The figure that 99 of 100 do not exceed.
pub(crate) fn p99(runs: &[f64]) -> f64 {
    percentile(runs, 99)
}

fn percentile(runs: &[f64], percent: usize) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or(f64::NAN)
}
