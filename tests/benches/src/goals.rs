//! The goals of docs/performance.md, with which the figures are compared.

/// A bound of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// At most this many times the machine's own figure.
    Ratio(f64),
}

impl Goal {
    /// The goal of a figure, if it has one.
    pub(crate) fn of(workload: &str, metric: &str, database: &str) -> Option<Self> {
        let is_sqlite = database == "sqlite";
        Some(match (workload, metric) {
            ("W1", "ms_per_step") => Self::AtMost(0.05),
            ("W1", "ms_per_step_strict" | "ms_per_step_effect") => Self::Ratio(1.2),
            ("W2", "steps_per_s") => Self::AtLeast(25_000.0),
            ("W2", "steps_per_s_strict") => Self::AtLeast(15_000.0),
            ("W3", "s") => Self::AtMost(0.06),
            ("W4", "finished_per_s") => Self::AtLeast(5_000.0),
            ("W5", "rss_mib") | ("idle", "db_bytes_per_step") => Self::AtMost(200.0),
            ("W5", "db_bytes_each") => Self::AtMost(if is_sqlite { 450.0 } else { 600.0 }),
            ("W6", "extra_s") => Self::AtMost(1.0),
            ("W7", "empty_workflow_us") => Self::AtMost(600.0),
            ("W7", "first_start_ms") => Self::AtMost(10.0),
            ("W7", "rust_us") => Self::AtMost(25.0),
            ("W7", "python_us") => Self::AtMost(1_200.0),
            ("W8", "late_p99_ms") => Self::AtMost(20.0),
            ("W8", "early_max_ms") => Self::AtMost(0.0),
            ("W9", "rust_calls_per_s") => Self::AtLeast(300_000.0),
            ("W9", "python_calls_per_s") => Self::AtLeast(80_000.0),
            ("W10", "s") => Self::AtMost(0.2),
            ("idle", "ready_ms_100_components") => Self::AtMost(300.0),
            ("idle", "cpu_percent") => Self::AtMost(1.0),
            ("idle", "transactions_per_s") => Self::AtMost(2.0),
            ("idle", "rss_mib") => Self::AtMost(60.0),
            ("flood", metric) if metric.ends_with("_p99_ratio") => Self::AtMost(2.0),
            // The acceptance points of docs/pages.md.
            ("pages", "list_first_ttfb_p95_ms" | "list_last_ttfb_p95_ms" | "list_rare_ttfb_p95_ms") => {
                Self::AtMost(60.0)
            }
            ("pages", "list_paint_p95_ms") => Self::AtMost(150.0),
            ("pages", "long_timeline_warm_p95_ms" | "long_graph_warm_p95_ms") => Self::AtMost(500.0),
            ("pages", "long_slow_paint_p95_ms") => Self::AtMost(1_000.0),
            ("pages", "export_more_mib") => Self::AtMost(64.0),
            ("pages", "heap_mb") => Self::AtMost(20.0),
            ("pages", metric) if metric.ends_with("_cold_ms") => Self::AtMost(500.0),
            ("pages", metric) if metric.ends_with("_warm_p95_ms") => Self::AtMost(200.0),
            ("pages", metric) if metric.ends_with("_paint_p95_ms") => Self::AtMost(400.0),
            ("pages", metric) if metric.ends_with("_kb") => Self::AtMost(250.0),
            ("pages", metric) if metric.ends_with("_elements") => Self::AtMost(3_000.0),
            ("live", "visible_p99_ms") => Self::AtMost(300.0),
            ("live", "steps_ratio_beside_400_pages") => Self::AtLeast(0.95),
            (workload, "exponent" | "exponent_after_kill") if workload.starts_with("growth-") => Self::AtMost(1.15),
            _ => return None,
        })
    }

    /// The bound, and whether a figure meets it: `met`, or by how many times it exceeds the bound.
    pub(crate) fn judge(self, figure: f64, ceiling: Option<f64>) -> String {
        let (bound, over) = match self {
            Self::AtMost(bound) => (format!("≤ {bound}"), figure / bound),
            Self::AtLeast(bound) => (format!("≥ {bound}"), bound / figure),
            Self::Ratio(bound) => (format!("≤ {bound} ×"), figure / ceiling.unwrap_or(f64::NAN) / bound),
        };
        // A figure of 0 meets a bound of 0.
        match over <= 1.0 || figure <= 0.0 {
            true => format!("{bound} met"),
            false => format!("{bound} missed by {over:.2}"),
        }
    }
}
