//! Traces: spans of what executions have done, for a collector.
//!
//! Spans are made of committed batches only, so a span says what happened, and a replay makes none. Their ids are
//! functions of the execution's seed and of names (`Seed::span_id`), so a restart and other engines compute the same
//! ones. No span holds a value, a header or a secret.

mod events;
mod queue;
mod sampler;
mod span;
mod subject;
mod tracer;

use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{CallerSpan, End, Execution, Identity, SpanContext, Timestamp, TraceRecord};
use cerebelum_store::ExecutionRow;

use crate::clock::millis;
use crate::env::Runtime;
use crate::metrics::Metrics;
use queue::Queue;
pub use sampler::Sampler;
pub use span::{AttributeValue, Exporting, Span, SpanExporter, SpanKind, SpanLink};
use subject::Subject;
pub(crate) use tracer::Tracer;

/// The traces of an execution that are named.
const TRACES_SHOWN_MAX: u32 = 20;

/// How an engine exports spans.
#[derive(Clone)]
pub struct TraceSettings {
    /// Decides which executions have their spans exported.
    pub sampler: Sampler,
    /// A wait of at least this long begins a new trace.
    pub segment_after: Duration,
    /// Sends the spans.
    pub exporter: Arc<dyn SpanExporter>,
}

/// The traces of one engine.
pub(crate) struct Traces {
    sampler: Sampler,
    segment_after_ms: u64,
    queue: Queue,
}

impl Traces {
    pub(crate) fn new(settings: TraceSettings, runtime: &Arc<dyn Runtime>, metrics: &Arc<Metrics>) -> Arc<Self> {
        let TraceSettings { sampler, segment_after, exporter } = settings;
        let queue = Queue::new(exporter, runtime.clone(), metrics.clone());
        Arc::new(Self { sampler, segment_after_ms: millis(segment_after), queue })
    }

    /// Decides whether the spans of an execution that a client starts are exported. If they are, the record of its trace.
    pub(crate) fn sample(&self, caller: Option<&CallerSpan>, own_trace: [u8; 16]) -> Option<Box<TraceRecord>> {
        let caller = caller.filter(|caller| caller.span.is_sampled || self.sampler.asks_parent());
        let trace = caller.map_or(own_trace, |caller| caller.span.trace);
        if !self.sampler.decides_for(caller.map(|caller| caller.span.is_sampled), trace) {
            return None;
        }
        let (span, state) = caller.map(|caller| (caller.span, caller.state.clone())).unzip();
        Some(Box::new(TraceRecord { caller: span, state: state.flatten(), ..TraceRecord::default() }))
    }

    /// Follows an execution in memory, if its spans are exported.
    pub(crate) fn follow(
        self: &Arc<Self>,
        row: &ExecutionRow,
        execution: &Execution,
        now: Timestamp,
    ) -> Option<Box<Tracer>> {
        let record = execution.options().trace.as_deref()?.clone();
        Some(Box::new(Tracer::new(self.segment_after_ms, (row, record), execution, now)))
    }

    /// Hands spans of a committed batch over to be exported.
    pub(crate) fn export(&self, spans: Vec<Span>) {
        spans.into_iter().for_each(|span| self.queue.push(span));
    }

    /// The start of an execution that was stored before it runs.
    pub(crate) fn started(&self, identity: &Identity, record: &TraceRecord, (began, now): (Timestamp, Timestamp)) {
        self.queue.push(Subject::of(identity).start_span(record, began, now));
    }

    /// The end of an execution whose other spans are not exported, if it failed: a failure is always exported.
    pub(crate) fn failed_end(&self, execution: &Execution) -> Vec<Span> {
        let Some(end @ End::Failed(_)) = execution.end() else { return Vec::new() };
        let subject = Subject::of(execution.identity());
        let context = SpanContext {
            trace: subject.trace_id(&TraceRecord::default(), 0),
            // It may fail again after it has been resumed.
            span: subject.end_id(u32::try_from(execution.position().0).unwrap_or(u32::MAX)),
            is_sampled: true,
        };
        vec![subject.end_span(context, None, (end, execution.stamp()))]
    }

    /// Exports spans, forever.
    pub(crate) async fn keep_exporting(self: Arc<Self>) {
        self.queue.keep_exporting().await;
    }

    /// Exports the spans that wait, before the engine stops.
    pub(crate) async fn flush(&self) {
        self.queue.flush().await;
    }
}

/// The ids of the last traces of a run, the oldest first.
pub(crate) fn trace_ids(identity: &Identity, record: &TraceRecord) -> Vec<String> {
    let subject = Subject::of(identity);
    let segments = record.segment.saturating_sub(TRACES_SHOWN_MAX - 1)..=record.segment;
    segments.map(|segment| hex(subject.trace_id(record, segment))).collect()
}

/// The id of a trace as tools write it.
pub(crate) fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

#[cfg(test)]
mod tests;
