//! The run that spans are about: the ids of its traces and spans, and what all of its spans say.

use std::fmt;
use std::sync::Arc;

use cerebelum_history::{End, Identity, Seed, SpanContext, Timestamp, TraceRecord};

use super::span::{AttributeValue, Span, SpanKind, SpanLink};

/// A run of an execution.
pub(super) struct Subject {
    seed: Seed,
    run: u32,
    execution: Arc<str>,
    workflow: Arc<str>,
    digest: Arc<str>,
}

impl Subject {
    pub(super) fn of(identity: &Identity) -> Self {
        Self {
            seed: identity.seed,
            run: identity.run,
            execution: identity.id.as_str().into(),
            workflow: identity.workflow.as_str().into(),
            digest: identity.digest.as_str().into(),
        }
    }

    pub(super) fn workflow(&self) -> &str {
        &self.workflow
    }

    pub(super) fn digest(&self) -> Arc<str> {
        self.digest.clone()
    }

    /// The id of a trace of this run. The first one goes on with the caller's.
    pub(super) fn trace_id(&self, record: &TraceRecord, segment: u32) -> [u8; 16] {
        let caller = record.caller.filter(|_| segment == 0);
        caller.map_or_else(|| self.seed.trace_id(self.run, segment), |caller| caller.trace)
    }

    /// The id of a span of this run.
    pub(super) fn id(&self, name: fmt::Arguments<'_>) -> [u8; 8] {
        self.seed.span_id(self.run, name)
    }

    pub(super) fn start_id(&self) -> [u8; 8] {
        self.id(format_args!("start"))
    }

    pub(super) fn activation_id(&self, waking: u32) -> [u8; 8] {
        self.id(format_args!("activation {waking}"))
    }

    /// The number makes a further end of the same run another span.
    pub(super) fn end_id(&self, number: u32) -> [u8; 8] {
        self.id(format_args!("end {number}"))
    }

    /// The start, from the request until it is durable. It is the root of the first trace, below the caller's span.
    pub(super) fn start_span(&self, record: &TraceRecord, began: Timestamp, ended: Timestamp) -> Span {
        let context = SpanContext { trace: self.trace_id(record, 0), span: self.start_id(), is_sampled: true };
        let name = format!("start {}", self.workflow);
        let parent = record.caller.map(|caller| caller.span);
        let mut span = self.span((context, parent), name, (began, ended));
        span.state.clone_from(&record.state);
        span.links.extend(record.cause.map(|context| SpanLink { context, what: "cause" }));
        span.with("cerebelum.component.digest", AttributeValue::Text(self.digest.clone()))
    }

    /// The end of the run.
    pub(super) fn end_span(&self, context: SpanContext, parent: Option<[u8; 8]>, (end, at): (&End, Timestamp)) -> Span {
        let (outcome, failure) = match end {
            End::Completed(_) => ("completed", None),
            End::Failed(failure) => ("failed", Some(failure)),
            End::Cancelled(_) => ("cancelled", None),
            End::Continued(_) => ("continued", None),
        };
        let span = self.span((context, parent), format!("end {}", self.workflow), (at, at));
        let span = span.with("cerebelum.outcome", outcome);
        match failure {
            Some(failure) => span.failed(&failure.kind),
            None => span,
        }
    }

    /// A span of this run.
    pub(super) fn span(
        &self,
        (context, parent): (SpanContext, Option<[u8; 8]>),
        name: String,
        (began, ended): (Timestamp, Timestamp),
    ) -> Span {
        let attributes = vec![
            ("cerebelum.execution.id", AttributeValue::Text(self.execution.clone())),
            ("cerebelum.run", self.run.into()),
            ("cerebelum.workflow", AttributeValue::Text(self.workflow.clone())),
        ];
        let (kind, state, links, failure) = (SpanKind::Internal, None, Vec::new(), None);
        // The machine's clock may have been set back.
        Span { context, parent, state, name, kind, began, ended: ended.max(began), attributes, links, failure }
    }
}
