//! The queue in which spans wait to be sent. When it is full, and when sending fails, spans are lost and counted: nothing
//! waits for a collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::span::{Span, SpanExporter};
use crate::env::Runtime;
use crate::metrics::Metrics;

/// How many spans may wait to be sent.
const WAITING_SPANS_MAX: usize = 4_096;
/// How many spans are sent together.
const EXPORT_SPANS_MAX: usize = 512;
/// How long spans wait for others with which they are sent.
const GATHER: Duration = Duration::from_millis(200);
/// How long sending may take.
const EXPORT_MAX: Duration = Duration::from_secs(10);
/// The pause after spans could not be sent.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a graceful stop waits for the last spans to be sent.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The spans that wait to be sent.
pub(super) struct Queue {
    entrance: mpsc::Sender<Span>,
    waiting: Mutex<mpsc::Receiver<Span>>,
    exporter: Arc<dyn SpanExporter>,
    runtime: Arc<dyn Runtime>,
    metrics: Arc<Metrics>,
    /// Whether the last spans could not be sent: only the first failure and the end of failing are logged.
    is_failing: AtomicBool,
}

/// Spans that are being sent. They are counted as lost unless they were sent.
struct Group<'a> {
    count: u64,
    metrics: &'a Metrics,
    is_sent: bool,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        let outside = &self.metrics.outside;
        let counter = if self.is_sent { &outside.spans_exported } else { &outside.spans_dropped };
        counter.inc_by(self.count);
    }
}

impl Queue {
    pub(super) fn new(exporter: Arc<dyn SpanExporter>, runtime: Arc<dyn Runtime>, metrics: Arc<Metrics>) -> Self {
        let (entrance, waiting) = mpsc::channel(WAITING_SPANS_MAX);
        Self { entrance, waiting: Mutex::new(waiting), exporter, runtime, metrics, is_failing: AtomicBool::new(false) }
    }

    /// Adds a span, or loses it when the queue is full.
    pub(super) fn push(&self, span: Span) {
        if self.entrance.try_send(span).is_err() {
            self.metrics.outside.spans_dropped.inc();
        }
    }

    /// Sends spans, forever.
    pub(super) async fn keep_exporting(&self) {
        let mut waiting = self.waiting.lock().await;
        loop {
            let mut spans = Vec::new();
            waiting.recv_many(&mut spans, EXPORT_SPANS_MAX).await;
            if spans.len() < EXPORT_SPANS_MAX {
                self.runtime.sleep(GATHER).await;
                let room = EXPORT_SPANS_MAX - spans.len();
                spans.extend(std::iter::from_fn(|| waiting.try_recv().ok()).take(room));
            }
            if !self.send(spans).await {
                self.runtime.sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Sends the spans that wait, as far as there is time for it. Nothing else sends any more.
    pub(super) async fn flush(&self) {
        let sending = async {
            let mut waiting = self.waiting.lock().await;
            loop {
                let spans: Vec<Span> = std::iter::from_fn(|| waiting.try_recv().ok()).take(EXPORT_SPANS_MAX).collect();
                if spans.is_empty() || !self.send(spans).await {
                    return;
                }
            }
        };
        self.runtime.within(FLUSH_MAX, sending).await;
    }

    /// Sends spans, and returns whether the collector has taken them.
    async fn send(&self, spans: Vec<Span>) -> bool {
        let mut group = Group { count: spans.len() as u64, metrics: &self.metrics, is_sent: false };
        let sent = self.runtime.within(EXPORT_MAX, self.exporter.export(spans)).await;
        let failed = sent.unwrap_or_else(|| Err(format!("no answer within {} s", EXPORT_MAX.as_secs()))).err();
        group.is_sent = failed.is_none();
        match (failed, self.is_failing.swap(!group.is_sent, Ordering::Relaxed)) {
            (Some(why), false) => tracing::warn!(why, "the collector takes no spans: they are lost until it does"),
            (None, true) => tracing::info!("the collector takes spans again"),
            (Some(_), true) | (None, false) => {}
        }
        group.is_sent
    }
}
