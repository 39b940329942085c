//! The changes that an execution wants written, and the actions that it wants performed.

use std::collections::BTreeSet;

use crate::event::Event;
use crate::{
    ApprovalRequest, CallName, ChildStart, ExecutionId, HttpRequest, Level, Position, Scope, SpanContext, Timestamp,
};

/// Everything that changed since the driver last took it. It is written all at once or not at all.
#[derive(Debug, Default)]
pub struct Changes {
    /// The LSN of the last of these changes, for [`super::Execution::acknowledge`].
    pub lsn: u64,
    /// New events, in order.
    pub events: Vec<Event>,
    /// Calls that are open now, with their stored texts.
    pub opened: Vec<(CallName, String)>,
    /// Calls that are no longer open.
    pub closed: Vec<CallName>,
    /// Questions that were asked, timed out or withdrawn.
    pub approvals: Vec<ApprovalEdge>,
    /// Executions to start.
    pub children: Vec<ChildStart>,
    /// Executions to cancel: awaited children that no call waits for any more.
    pub orphans: Vec<ExecutionId>,
    /// Messages that were consumed, by number.
    pub consumed: Vec<i64>,
    /// Messages that were seen and stay in the inbox.
    pub seen: Vec<i64>,
    /// Calls that messages ended, with the spans that the messages came from, for traces.
    pub causes: Vec<(CallName, SpanContext)>,
    /// Log lines.
    pub logs: Vec<LogEntry>,
    /// The latest progress of each scope.
    pub progress: Vec<(Scope, u8, String)>,
    /// Scopes and ranges of positions: in the stored events there, the scope's values are to be dropped (L12).
    pub valueless: Vec<(Scope, Position, Position)>,
    /// Steps that ended, for those who measure.
    pub ended_steps: Vec<EndedStep>,
    pub(super) touched: BTreeSet<CallName>,
}

/// A step that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedStep {
    /// From its call to its end, its retries and waits included, in milliseconds.
    pub took_ms: u64,
    /// The attempt in which it ended, from 1.
    pub attempts: u32,
    /// Whether it returned; otherwise it failed.
    pub is_completed: bool,
}

impl Changes {
    pub(super) fn touch(&mut self, name: &CallName) {
        self.touched.insert(name.clone());
    }
}

/// The beginning or the end of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum ApprovalEdge {
    /// The question is asked.
    Opened {
        /// The question's id.
        id: String,
        /// The call that waits for the answer.
        call: CallName,
        /// The question.
        request: ApprovalRequest,
        /// When the question times out.
        until: Option<Timestamp>,
    },
    /// The question was not answered in time.
    TimedOut(String),
    /// The guest no longer wants an answer.
    Withdrawn(String),
}

/// A log line of a guest. Its scope, attempt, place and number are its name: a rerun that writes it again gives it the
/// same name (L7).
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// The scope that wrote the line.
    pub scope: Scope,
    /// The attempt in which it was written.
    pub attempt: u32,
    /// The place of the recorded event before it. This place differs whenever something is done again.
    pub place: u64,
    /// The number of the line since that event, from 1.
    pub number: u32,
    /// The time of the line.
    pub at: Timestamp,
    /// The level of the line.
    pub level: Level,
    /// The text.
    pub text: String,
}

/// An action that the driver has to perform.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Drop the guest of this scope.
    Stop(Scope),
    /// Send a request once everything up to the LSN is durable, and hand in the response.
    Fetch {
        /// The call that waits for the response.
        call: CallName,
        /// The call's [`OpenCall::lsn`](crate::OpenCall::lsn), which distinguishes calls of the same name: a retried
        /// step makes its calls anew, and the response belongs to this one.
        opened: u64,
        /// The request.
        request: HttpRequest,
        /// The default `Idempotency-Key` of the request.
        key: String,
        /// The LSN that has to be durable first.
        lsn: u64,
    },
}
