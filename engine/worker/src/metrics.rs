//! The engine's counters, and their rendering for Prometheus.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cerebelum_history::Status;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram with fixed bounds.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    counts: Mutex<(Vec<u64>, u64)>,
}

impl Histogram {
    const fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: Mutex::new((Vec::new(), 0)) }
    }

    pub(crate) fn observe(&self, value: u64) {
        let mut counts = self.counts.lock().expect("nobody panics while counting");
        counts.0.resize(self.bounds.len() + 1, 0);
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        counts.0[bucket] += 1;
        counts.1 += value;
    }

    fn render(&self, name: &str, help: &str, text: &mut String) {
        let counts = self.counts.lock().expect("nobody panics while counting");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (index, count) in counts.0.iter().enumerate() {
            below += count;
            let bound = self.bounds.get(index).map_or_else(|| "+Inf".to_owned(), u64::to_string);
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(text, "{name}_sum {}\n{name}_count {below}", counts.1);
    }
}

/// All counters and histograms of one engine.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) started: Counter,
    pub(crate) commits: Counter,
    pub(crate) batches: Counter,
    pub(crate) refused: Counter,
    pub(crate) events: Counter,
    pub(crate) events_read: Counter,
    pub(crate) turns: Counter,
    pub(crate) replays: Counter,
    pub(crate) retries: Counter,
    pub(crate) parked: Counter,
    pub(crate) activations: Counter,
    pub(crate) fetches: Counter,
    pub(crate) deleted: Counter,
    pub(crate) core_task_restarts: Counter,
    pub(crate) batch_sizes: Histogram,
    pub(crate) claim_sizes: Histogram,
    pub(crate) timer_lateness_ms: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            started: Counter::default(),
            commits: Counter::default(),
            batches: Counter::default(),
            refused: Counter::default(),
            events: Counter::default(),
            events_read: Counter::default(),
            turns: Counter::default(),
            replays: Counter::default(),
            retries: Counter::default(),
            parked: Counter::default(),
            activations: Counter::default(),
            fetches: Counter::default(),
            deleted: Counter::default(),
            core_task_restarts: Counter::default(),
            claim_sizes: Histogram::new(&[0, 1, 4, 16, 64, 256]),
            batch_sizes: Histogram::new(&[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000]),
            timer_lateness_ms: Histogram::new(&[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000]),
        }
    }

    /// Prometheus text. Gauges from other sources are passed by name, help and value.
    pub(crate) fn render(&self, gauges: &[(&str, &str, u64)], census: &[(Status, u64)]) -> String {
        let mut text = String::new();
        let counters: [(&str, &str, &Counter); 14] = [
            ("executions_started_total", "Executions started by this node.", &self.started),
            ("commits_total", "Transactions that wrote batches.", &self.commits),
            ("batches_total", "Batches written.", &self.batches),
            ("batches_refused_total", "Batches the store refused.", &self.refused),
            ("events_total", "Events written.", &self.events),
            (
                "events_read_total",
                "Events read back to rerun guests, or to drop values of ended steps.",
                &self.events_read,
            ),
            ("turns_total", "Times a guest ran until it could not move.", &self.turns),
            ("replays_total", "Guests that were rerun over recorded events.", &self.replays),
            ("retries_total", "Attempts of steps that failed and are tried again.", &self.retries),
            ("parked_total", "Executions set aside for a person.", &self.parked),
            ("activations_total", "Times an execution was taken into memory.", &self.activations),
            ("fetches_total", "HTTP requests that left.", &self.fetches),
            ("deleted_total", "Ended executions deleted in the background.", &self.deleted),
            ("core_task_restarts_total", "Core tasks that ended and began again.", &self.core_task_restarts),
        ];
        for (name, help, counter) in counters {
            let value = counter.get();
            let _ = writeln!(
                text,
                "# HELP cerebelum_{name} {help}\n# TYPE cerebelum_{name} counter\ncerebelum_{name} {value}"
            );
        }
        for (name, help, value) in gauges {
            let _ = writeln!(
                text,
                "# HELP cerebelum_{name} {help}\n# TYPE cerebelum_{name} gauge\ncerebelum_{name} {value}"
            );
        }
        let _ = writeln!(text, "# HELP cerebelum_executions Executions by status.\n# TYPE cerebelum_executions gauge");
        for (status, count) in census {
            let _ = writeln!(text, "cerebelum_executions{{status=\"{status}\"}} {count}");
        }
        self.batch_sizes.render("cerebelum_batch_size", "Batches per commit.", &mut text);
        self.claim_sizes.render("cerebelum_claim_size", "Executions claimed at once.", &mut text);
        self.timer_lateness_ms.render(
            "cerebelum_timer_lateness_ms",
            "How late timers fired, in milliseconds.",
            &mut text,
        );
        text
    }
}
