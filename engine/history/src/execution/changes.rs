//! What an execution wants written and performed.

use std::collections::BTreeSet;

use crate::event::Event;
use crate::{ApprovalRequest, CallName, ExecutionId, HttpRequest, Level, Position, Scope, Timestamp, WorkflowCall};

/// Everything that changed since the driver last took it; written all at once or not at all.
#[derive(Debug, Default)]
pub struct Changes {
    /// How far this goes, for [`super::Execution::acknowledge`].
    pub lsn: u64,
    /// New events, in order.
    pub events: Vec<Event>,
    /// Calls that are open now, with their stored text.
    pub opened: Vec<(CallName, String)>,
    /// Calls that are open no more.
    pub closed: Vec<CallName>,
    /// Questions asked and withdrawn.
    pub approvals: Vec<ApprovalEdge>,
    /// Executions to be started.
    pub children: Vec<ChildStart>,
    /// Executions to be cancelled: awaited children nobody waits for any more.
    pub orphans: Vec<ExecutionId>,
    /// Messages that have been dealt with, by number.
    pub consumed: Vec<i64>,
    /// Messages that have been seen and stay.
    pub seen: Vec<i64>,
    /// Log lines.
    pub logs: Vec<LogEntry>,
    /// Latest progress by scope.
    pub progress: Vec<(Scope, u8, String)>,
    /// Scopes whose values in stored events of these positions are to be dropped (L12).
    pub valueless: Vec<(Scope, Position, Position)>,
    pub(super) touched: BTreeSet<CallName>,
}

impl Changes {
    pub(super) fn touch(&mut self, name: &CallName) {
        self.touched.insert(name.clone());
    }
}

/// A question begins or ends.
#[derive(Debug, Clone, PartialEq)]
pub enum ApprovalEdge {
    /// It is asked.
    Opened {
        /// Its id.
        id: String,
        /// The call that waits.
        call: CallName,
        /// What is asked.
        request: ApprovalRequest,
        /// When it stops standing.
        until: Option<Timestamp>,
    },
    /// Nobody answered in time.
    TimedOut(String),
    /// The guest no longer wants an answer.
    Withdrawn(String),
}

/// An execution that a call starts.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildStart {
    /// The call.
    pub call: CallName,
    /// Which workflow, with what.
    pub workflow: WorkflowCall,
    /// Its id.
    pub id: ExecutionId,
    /// Whether the call waits for its end.
    pub awaited: bool,
}

/// A log line of a guest. Scope, attempt, place and number are its name: a rerun that says it again names it the same (L7).
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// Who said it.
    pub scope: Scope,
    /// In which attempt.
    pub attempt: u32,
    /// After which recorded event, which is another one whenever something is done again.
    pub place: u64,
    /// As its how-manieth line since then, from 1.
    pub number: u32,
    /// When.
    pub at: Timestamp,
    /// How loud.
    pub level: Level,
    /// What.
    pub text: String,
}

/// Something the driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Drop the guest of this scope.
    Stop(Scope),
    /// Send a request once everything up to the mark is durable, and hand in the answer.
    Fetch {
        /// The call that waits for the answer.
        call: CallName,
        /// Tells apart calls of one name, which a retried step makes anew: the answer is for this one.
        opened: u64,
        /// What to send.
        request: HttpRequest,
        /// Its default `Idempotency-Key`.
        key: String,
        /// What has to be durable first.
        lsn: u64,
    },
}
