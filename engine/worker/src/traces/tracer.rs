//! Follows one execution in memory, and makes spans of what its batches say.
//!
//! A waking is the time from waking to hibernation, across crashes and engines: its number is stored with the execution. All spans end within their waking. A step that outlasts it has a span for each waking in which
//! it moved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cerebelum_history::{
    CallName, CallPhase, Changes, End, Execution, HttpRequest, Scope, SpanContext, Timestamp, TraceRecord,
};
use cerebelum_store::ExecutionRow;

use super::span::{AttributeValue, Span, SpanKind, SpanLink};
use super::subject::Subject;
use crate::env::HostHeaders;

/// How many events one trace has, which is about twice the number of its spans. A longer history goes on in a new trace.
const SEGMENT_EVENTS_MAX: u64 = 2_000;

/// The methods that a span names. Others are `_OTHER`, as the conventions for HTTP ask.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// An open step.
pub(super) struct OpenStep {
    pub(super) name: String,
    pub(super) attempt: u32,
    /// When the attempt began or will begin.
    pub(super) began: Timestamp,
}

/// Makes the spans of one execution in memory.
pub(crate) struct Tracer {
    pub(super) subject: Subject,
    pub(super) record: TraceRecord,
    /// When the execution was woken, or the present trace began.
    woken_at: Timestamp,
    wake_cause: &'static str,
    replayed_events: u64,
    /// The position of the last event that was looked at.
    position: u64,
    pub(super) steps: BTreeMap<Scope, OpenStep>,
    /// The steps that moved in this waking.
    touched: BTreeSet<Scope>,
    /// When the waits that are still open began.
    pub(super) waits: BTreeMap<CallName, Timestamp>,
    /// The spans that the messages of the batch that is looked at came from, by the calls that they ended.
    pub(super) causes: BTreeMap<CallName, SpanContext>,
    /// Spans of the next batch.
    pub(super) spans: Vec<Span>,
}

impl Tracer {
    pub(super) fn new(
        segment_after_ms: u64,
        (row, mut record): (&ExecutionRow, TraceRecord),
        execution: &Execution,
        now: Timestamp,
    ) -> Self {
        let is_new = execution.saved().0 == 0;
        let wake_cause = match (record.since, execution.due()) {
            (Some(_), _) => "takeover",
            (None, _) if row.position.0 <= 1 => "start",
            (None, Some(due)) if due <= now => "timer",
            (None, _) => "message",
        };
        if record.since.is_none() && !is_new && now.since(execution.stamp()) >= segment_after_ms {
            record.segment += 1;
            (record.first_waking, record.after) = (record.waking, row.position.0);
        }
        let mut tracer = Self {
            subject: Subject::of(execution.identity()),
            woken_at: if is_new { row.started_at } else { now },
            record,
            wake_cause,
            replayed_events: 0,
            position: execution.saved().0,
            steps: BTreeMap::new(),
            touched: BTreeSet::new(),
            waits: BTreeMap::new(),
            causes: BTreeMap::new(),
            spans: Vec::new(),
        };
        tracer.take_over(execution);
        tracer
    }

    /// Reads the open calls. If an earlier part of this waking was lost, the steps that moved in it have spans below them
    /// already.
    fn take_over(&mut self, execution: &Execution) {
        for (name, call) in execution.open() {
            let moved = self.record.since.is_some_and(|since| call.since >= since);
            match &call.phase {
                CallPhase::Step(open) => {
                    let step = OpenStep {
                        name: open.step.call.step.clone(),
                        attempt: open.attempts.attempt,
                        began: open.attempts.retry.as_ref().map_or(open.attempts.began, |(next, _)| *next),
                    };
                    self.steps.insert(name.step_scope(), step);
                    if moved {
                        self.touch(&name.step_scope());
                    }
                }
                CallPhase::Sleep { .. }
                | CallPhase::Poll(_)
                | CallPhase::Approval { .. }
                | CallPhase::Signal { .. }
                | CallPhase::Child { .. } => drop(self.waits.insert(name.clone(), call.since)),
                CallPhase::Fetch { .. } => {}
            }
            if moved {
                self.touch(&name.scope);
            }
        }
    }

    /// Counts events that guests are rerun over.
    pub(crate) fn replays(&mut self, events: usize) {
        self.replayed_events += events as u64;
    }

    /// The start of an execution that began here, which is durable now.
    pub(crate) fn started(&self, row: &ExecutionRow, now: Timestamp) -> Span {
        self.subject.start_span(&self.record, row.started_at, now)
    }

    /// The span of a request that is about to leave, to be completed with its answer; and the headers that tell the
    /// server of it.
    pub(crate) fn request(
        &mut self,
        execution: &Execution,
        call: &CallName,
        (request, key): (&HttpRequest, String),
    ) -> (Box<Span>, HostHeaders) {
        // The execution may be ahead of the last batch.
        let attempt = |scope: &Scope| {
            let call = scope.call().and_then(|name| execution.open().get(&name));
            call.map_or(1, |call| match &call.phase {
                CallPhase::Step(open) => open.attempts.attempt,
                CallPhase::Poll(open) => open.attempts.attempt,
                _ => 1,
            })
        };
        let (waking, path) = (self.record.waking, path(&call.scope, attempt));
        let id = self.subject.id(format_args!("fetch {waking} {path} {}", call.ordinal));
        let context = self.context(id);
        let parent = self.home(&call.scope, attempt);
        let method = METHODS.into_iter().find(|method| *method == request.method).unwrap_or("_OTHER");
        let span = self.subject.span((context, Some(parent)), method.to_owned(), (Timestamp(0), Timestamp(0)));
        let mut span = about(span, call).with("http.request.method", method);
        (span.kind, span.state) = (SpanKind::Client, self.state());
        // Path and query are the guest's values.
        if let Ok(url) = url::Url::parse(&request.url) {
            span.attributes.extend(url.host_str().map(|host| ("server.address", host.into())));
            span.attributes.extend(url.port_or_known_default().map(|port| ("server.port", u32::from(port).into())));
        }
        let headers = HostHeaders { key, traceparent: Some(context.to_string()), tracestate: span.state.clone() };
        (Box::new(span), headers)
    }

    /// Adds the span of a request whose answer is part of the next batch.
    pub(crate) fn answered(&mut self, span: Span) {
        self.spans.push(span);
    }

    /// Makes the spans of a batch, which are exported once it is durable, and notes in the execution how its trace goes
    /// on.
    pub(crate) fn batch(
        &mut self,
        execution: &mut Execution,
        changes: &mut Changes,
        (leaves, now): (bool, Timestamp),
    ) -> Vec<Span> {
        self.causes.extend(std::mem::take(&mut changes.causes));
        for event in &changes.events {
            self.position += 1;
            if self.position > self.record.after + SEGMENT_EVENTS_MAX {
                self.begin_segment(event.at);
            }
            self.see(event);
        }
        self.causes.clear();
        let at = now.max(execution.stamp());
        for child in &mut changes.children {
            let record = TraceRecord::caused_by(self.context(self.activation()));
            self.spans.push(Subject::of(&child.identity).start_span(&record, at, at));
            child.options.trace = Some(Box::new(record));
        }
        if let Some(end) = execution.end() {
            self.end(end, execution.stamp());
        }
        if leaves || execution.end().is_some() {
            self.end_waking(at);
        } else if self.record.since.is_none() {
            self.record.since = Some(self.woken_at);
        }
        execution.set_trace(self.record.clone());
        std::mem::take(&mut self.spans)
    }

    fn end(&mut self, end: &End, at: Timestamp) {
        let context = self.context(self.subject.end_id(self.record.waking));
        let mut span = self.subject.end_span(context, Some(self.activation()), (end, at));
        span.state = self.state();
        self.spans.push(span);
        self.record.end = Some(context);
    }

    /// Ends the waking, and the part of each step that moved in it.
    fn end_waking(&mut self, at: Timestamp) {
        for scope in std::mem::take(&mut self.touched) {
            if self.steps.get(&scope).is_some_and(|step| step.began <= at) {
                let span = self.step_span(&scope, at).map(|span| span.with("cerebelum.outcome", "suspended"));
                self.spans.extend(span);
            }
        }
        let span = self.activation_span(at);
        self.spans.push(span);
        self.record.waking += 1;
        self.record.since = None;
        self.woken_at = at;
    }

    /// Goes on in a new trace from this event on.
    fn begin_segment(&mut self, at: Timestamp) {
        self.end_waking(at);
        self.record.segment += 1;
        (self.record.first_waking, self.record.after) = (self.record.waking, self.position - 1);
        self.wake_cause = "segment";
    }

    fn activation_span(&mut self, at: Timestamp) -> Span {
        let TraceRecord { waking, segment, first_waking, .. } = self.record;
        let parent = match (segment, waking == first_waking) {
            (0, _) => Some(self.subject.start_id()),
            (_, true) => None,
            (_, false) => Some(self.subject.activation_id(first_waking)),
        };
        let name = format!("activation {}", self.subject.workflow());
        let began = self.began();
        let mut span = self.subject.span((self.context(self.activation()), parent), name, (began, at));
        if parent.is_none() {
            let of = |segment, span| SpanContext {
                trace: self.subject.trace_id(&self.record, segment),
                span,
                is_sampled: true,
            };
            span.links.push(SpanLink { context: of(0, self.subject.start_id()), what: "start" });
            let previous = of(segment - 1, self.subject.activation_id(waking.saturating_sub(1)));
            // A start that waited for long was followed by no waking.
            span.links.extend((waking > 0).then_some(SpanLink { context: previous, what: "previous" }));
        }
        span.state = self.state();
        span.with("cerebelum.component.digest", AttributeValue::Text(self.subject.digest()))
            .with("cerebelum.wake.cause", self.wake_cause)
            .with("cerebelum.position", self.position)
            .with("cerebelum.replayed_events", std::mem::take(&mut self.replayed_events))
    }

    /// The span of a step's present attempt, as far as it is part of this waking.
    pub(super) fn step_span(&mut self, scope: &Scope, at: Timestamp) -> Option<Span> {
        let step = self.steps.get(scope)?;
        let (name, attempt, began) = (format!("step {}", step.name), step.attempt, step.began.max(self.began()));
        let call = scope.call()?;
        let context = self.context(self.step_id(scope, |scope| self.attempt(scope)));
        let parent = self.parent(&call.scope);
        let span = self.subject.span((context, Some(parent)), name, (began, at));
        let mut span = about(span, &call).with("cerebelum.attempt", attempt);
        span.state = self.state();
        Some(span)
    }

    /// The span in which a scope's calls lie, for an event.
    pub(super) fn parent(&mut self, scope: &Scope) -> [u8; 8] {
        self.touch(scope);
        if scope.is_root() { self.activation() } else { self.step_id(scope, |scope| self.attempt(scope)) }
    }

    /// The same for a request, which may lie in a round of a poll.
    fn home(&mut self, scope: &Scope, attempt: impl Fn(&Scope) -> u32) -> [u8; 8] {
        let scope = scope.poll().map_or_else(|| scope.clone(), |poll| poll.scope);
        self.touch(&scope);
        if scope.is_root() { self.activation() } else { self.step_id(&scope, attempt) }
    }

    /// Notes that a step moved, and so the steps around it.
    pub(super) fn touch(&mut self, scope: &Scope) {
        let mut scope = scope.clone();
        while let Some(call) = scope.call() {
            if !self.touched.insert(scope) {
                return;
            }
            scope = call.scope;
        }
    }

    /// Removes a step's attempt, which has ended.
    pub(super) fn forget(&mut self, scope: &Scope) -> Option<OpenStep> {
        self.touched.remove(scope);
        self.steps.remove(scope)
    }

    /// The present attempt of a step, as far as events tell.
    pub(super) fn attempt(&self, scope: &Scope) -> u32 {
        self.steps.get(scope).map_or(1, |step| step.attempt)
    }

    fn step_id(&self, scope: &Scope, attempt: impl Fn(&Scope) -> u32) -> [u8; 8] {
        self.subject.id(format_args!("step {} {}", self.record.waking, path(scope, attempt)))
    }

    pub(super) fn wait_id(&self, call: &CallName) -> [u8; 8] {
        let path = path(&call.scope, |scope| self.attempt(scope));
        self.subject.id(format_args!("wait {} {path} {}", self.record.waking, call.ordinal))
    }

    fn activation(&self) -> [u8; 8] {
        self.subject.activation_id(self.record.waking)
    }

    /// A span of the present trace.
    pub(super) fn context(&self, span: [u8; 8]) -> SpanContext {
        SpanContext { trace: self.subject.trace_id(&self.record, self.record.segment), span, is_sampled: true }
    }

    pub(super) fn state(&self) -> Option<String> {
        self.record.state.clone().filter(|_| self.record.segment == 0)
    }

    /// When the present waking began.
    pub(super) fn began(&self) -> Timestamp {
        self.record.since.unwrap_or(self.woken_at)
    }
}

/// A scope with the attempts of the steps around it: calls of different attempts have different names.
fn path(scope: &Scope, attempt: impl Fn(&Scope) -> u32) -> String {
    let (mut path, mut scope) = (String::new(), scope.clone());
    while let Some(call) = scope.call() {
        let _ = write!(path, "{scope}@{}/", attempt(&scope));
        scope = call.scope;
    }
    path
}

/// A span about a call.
pub(super) fn about(span: Span, call: &CallName) -> Span {
    span.with("cerebelum.scope", call.scope.as_str()).with("cerebelum.ordinal", call.ordinal)
}
