//! The rows of the store, as the engine reads and writes them.

use std::fmt;
use std::time::Duration;

use crate::audit::Act;
use crate::error::StoreError;
use cerebelum_history::{CallName, Digest, ExecutionId, Level, Parent, Position, Scope, Seed, Status, Timestamp};

/// The tenant that a row belongs to. It is the first column of every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub i32);

impl TenantId {
    /// The tenant `default`, which exists from the beginning.
    pub const DEFAULT: Self = Self(1);

    /// The name of its fair share of an engine: its number, or nothing for `default`.
    #[must_use]
    pub fn share(self) -> String {
        if self == Self::DEFAULT { String::new() } else { self.0.to_string() }
    }
}

/// The key of an execution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionKey {
    /// The tenant that owns the execution.
    pub tenant: TenantId,
    /// The execution's id.
    pub id: ExecutionId,
}

impl fmt::Display for ExecutionKey {
    /// The id. That of another tenant than `default` comes behind the tenant's number and a slash, which no id contains.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenant {
            TenantId::DEFAULT => write!(f, "{}", self.id),
            TenantId(tenant) => write!(f, "{tenant}/{}", self.id),
        }
    }
}

/// One lease of one node, from its beginning to its end: the fence of every write (L11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub i64);

/// A lease: the node's incarnation, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The fence for everything that this node writes.
    pub incarnation: Incarnation,
    /// The remaining time, counted from the moment of the request.
    pub remaining: Duration,
    /// The database's time at that moment.
    pub now: Timestamp,
}

/// The stored state of an execution. Every other status is derived from the open calls (L20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The execution goes on.
    Open,
    /// The workflow returned.
    Completed,
    /// The workflow failed.
    Failed,
    /// The execution was cancelled or terminated.
    Cancelled,
}

/// The row of an execution: everything except its events and calls.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionRow {
    /// The execution's key.
    pub key: ExecutionKey,
    /// `component/workflow`, as it was started.
    pub workflow: String,
    /// The component that the execution is pinned to (L17).
    pub digest: Digest,
    /// The root of all keys and random numbers. It is never shown.
    pub seed: Seed,
    /// The number of the run, from 1. Continue-as-new increments it.
    pub run: u32,
    /// The stored state.
    pub state: State,
    /// Whether the execution is paused: nothing is delivered and nothing starts.
    pub paused: bool,
    /// Why a person must look at the execution, if it is parked.
    pub parked: Option<String>,
    /// Whether all guests were quiescent and had nothing left to be told when the row was last written.
    pub settled: bool,
    /// The last event's position.
    pub position: Position,
    /// The last event's stamp.
    pub stamp: Timestamp,
    /// When the execution has to be looked at again, if time alone can move it.
    pub due: Option<Timestamp>,
    /// The status, as `history` derived it when the row was last written.
    pub status: Status,
    /// Attributes: names and JSON scalars, as one JSON object.
    pub attributes: String,
    /// Options that the worker keeps (deadline, cancel request and so on), as one JSON object.
    pub options: String,
    /// The execution and call that started this execution and may wait for it.
    pub parent: Option<Parent>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The number of open calls, so that a missing call is noticed. None if the calls were not counted.
    pub open_calls: Option<u32>,
    /// What the execution waits for, or why it failed, as `history` derived it last, as one JSON object.
    pub waits_for: Option<String>,
    /// The first run that is kept, if earlier ones were removed. No batch changes it.
    pub runs_from: Option<u32>,
}

/// An execution that is to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExecution {
    /// The execution's row. Its `position` is that of the last event in `first`.
    pub head: ExecutionRow,
    /// The first events.
    pub first: Chunk,
}

impl NewExecution {
    /// About how many bytes are written for it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.first.events.len() + self.head.attributes.len() + self.head.options.len()
    }
}

/// An existing execution with its first chunk for comparison, or why that chunk cannot be read.
pub type Existing = (ExecutionRow, Result<Chunk, StoreError>);

/// Consecutive events of a history, as the text that `history` encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Position of the first event.
    pub first: Position,
    /// Position of the last event.
    pub last: Position,
    /// The events. The text is stored beside its checksum.
    pub events: String,
}

/// An open call's row (L13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRow {
    /// The call's name.
    pub name: CallName,
    /// The call's state, as the text that `history` encoded.
    pub state: String,
}

/// A change to a question in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalChange {
    /// The question is asked.
    Open {
        /// The question's id, unique per tenant.
        id: String,
        /// The call that waits for the answer.
        call: CallName,
        /// The request, as JSON.
        request: String,
        /// When the question times out.
        deadline: Option<Timestamp>,
    },
    /// The question was not answered in time, or is no longer wanted. The batch is refused if an answer has arrived, or
    /// if a timed-out question's deadline has not passed yet (L9).
    Close {
        /// The question's id.
        id: String,
        /// The new state: `TimedOut` or `Withdrawn`.
        to: ApprovalState,
    },
}

/// The state of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApprovalState {
    /// The question waits for an answer.
    Open,
    /// A person approved the request.
    Approved,
    /// A person rejected the request.
    Rejected,
    /// The question was not answered in time.
    TimedOut,
    /// The guest no longer wants an answer.
    Withdrawn,
}

/// A question to a person, for the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRow {
    /// The question's id.
    pub id: String,
    /// The execution that asks.
    pub execution: ExecutionId,
    /// The call that waits for the answer.
    pub call: CallName,
    /// The request, as JSON.
    pub request: String,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When the question times out.
    pub deadline: Option<Timestamp>,
    /// The question's state.
    pub state: ApprovalState,
}

/// A page of questions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalPage {
    /// Newest first.
    pub approvals: Vec<ApprovalRow>,
    /// Where the next page begins, if there is one.
    pub cursor: Option<String>,
}

/// The outcome of an answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerOutcome {
    /// The answer counts.
    Accepted(ExecutionId),
    /// The question had already ended in this state.
    TooLate(ApprovalState),
    /// The question was asked again since the answer was made.
    AskedAgain,
    /// The link with which it came was used, revoked or is over.
    LinkEnded,
    /// The question does not exist.
    Unknown,
}

/// A message to an execution. Messages are ordered by arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRow {
    /// The message's number, unique and growing within the store.
    pub seq: i64,
    /// The message, as the text that `history` encoded.
    pub message: String,
    /// Whether an activation has already seen it (a signal that no call waited for yet).
    pub seen: bool,
}

/// A log line of a guest. A second line with the same scope, attempt, place and number changes nothing (L7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The scope that wrote the line.
    pub scope: Scope,
    /// The attempt in which it was written.
    pub attempt: u32,
    /// The place of the recorded event before it.
    pub place: u64,
    /// The number of the line since that event.
    pub number: u32,
    /// The time of the line.
    pub at: Timestamp,
    /// The level of the line.
    pub level: Level,
    /// The text.
    pub text: String,
}

/// A log line as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// The line's number within the execution. A list continues after it.
    pub seq: i64,
    /// The run in which it was written.
    pub run: u32,
    /// The line.
    pub line: LogLine,
}

/// The latest progress of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The scope.
    pub scope: Scope,
    /// Percent, from 0 to 100.
    pub percent: u8,
    /// A short message.
    pub message: String,
}

/// Everything that one activation writes at once: all of it becomes durable, or nothing (L4).
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The execution's key.
    pub key: ExecutionKey,
    /// The fence. The batch is refused if another incarnation has claimed the execution, or this one's lease is over.
    pub incarnation: Incarnation,
    /// The execution's row after the batch. Its `position` and `run` say where the history then ends.
    pub head: ExecutionRow,
    /// Whether the execution begins with this batch: its row is inserted, claimed by `incarnation` unless `release`,
    /// and `after` is 0. The batch is refused if the id is taken.
    pub begins: bool,
    /// The act of the client that starts the execution, if it begins and a client starts it.
    pub act: Option<Act>,
    /// The attributes before the batch, if it changes them. Otherwise the attributes stay as they are.
    pub attributes_before: Option<String>,
    /// The position at which the history must be now. Otherwise the batch is refused.
    pub after: Position,
    /// New events, each chunk after the previous one. Empty if only calls changed.
    pub chunks: Vec<Chunk>,
    /// Chunks to overwrite without the values of finished scopes (L12). `first` and `last` stay the same.
    pub rewritten: Vec<Chunk>,
    /// Calls that are open now or have changed.
    pub opened: Vec<CallRow>,
    /// Calls that are no longer open.
    pub closed: Vec<CallName>,
    /// Questions that were asked, timed out or withdrawn.
    pub approvals: Vec<ApprovalChange>,
    /// Messages that were consumed, by number.
    pub consumed: Vec<i64>,
    /// Messages that were seen and stay in the inbox.
    pub seen: Vec<i64>,
    /// Executions to start. If the id of one is taken by an execution with another parent, `refused` is sent to this
    /// execution's own inbox.
    pub children: Vec<Child>,
    /// Messages to other executions of the tenant.
    pub messages: Vec<(ExecutionId, String)>,
    /// Log lines.
    pub logs: Vec<LogLine>,
    /// The latest progress of each scope.
    pub progress: Vec<Progress>,
    /// The first chunk of the next run after a continue-as-new. `head.run` is then that run and `head.position` its
    /// last position, while `chunks` still end the previous run.
    pub next_run: Option<Chunk>,
    /// Whether the claim ends with this batch (the execution hibernates or has ended).
    pub release: bool,
}

impl Batch {
    /// A batch that changes nothing yet: the row as it is, written by this incarnation.
    #[must_use]
    pub fn of(incarnation: Incarnation, head: ExecutionRow) -> Self {
        Self {
            key: head.key.clone(),
            incarnation,
            begins: false,
            act: None,
            attributes_before: None,
            after: head.position,
            head,
            chunks: Vec::new(),
            rewritten: Vec::new(),
            opened: Vec::new(),
            closed: Vec::new(),
            approvals: Vec::new(),
            consumed: Vec::new(),
            seen: Vec::new(),
            children: Vec::new(),
            messages: Vec::new(),
            logs: Vec::new(),
            progress: Vec::new(),
            next_run: None,
            release: false,
        }
    }

    /// The run of `chunks`, which `next_run` ends.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.head.run.saturating_sub(u32::from(self.next_run.is_some()))
    }

    /// The batch that stores an execution which no node has claimed yet.
    #[must_use]
    pub fn start(incarnation: Incarnation, new: NewExecution) -> Self {
        let begins = Self { begins: true, after: Position(0), ..Self::of(incarnation, new.head) };
        Self { chunks: vec![new.first], release: true, ..begins }
    }

    /// About how many bytes the batch writes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().chain(&self.rewritten).chain(&self.next_run).map(|chunk| chunk.events.len());
        let calls = self.opened.iter().map(|call| call.state.len());
        let asked = self.approvals.iter().map(|change| match change {
            ApprovalChange::Open { request, .. } => request.len(),
            ApprovalChange::Close { .. } => 0,
        });
        let children = self.children.iter().map(|child| child.new.bytes() + child.refused.len());
        let messages = self.messages.iter().map(|(_, message)| message.len());
        let logs = self.logs.iter().map(|line| line.text.len());
        let progress = self.progress.iter().map(|progress| progress.message.len());
        let head = self.head.attributes.len() + self.head.options.len();
        let all = chunks.chain(calls).chain(asked).chain(children).chain(messages).chain(logs).chain(progress);
        all.fold(head, usize::saturating_add)
    }
}

/// A child that a batch starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// The execution to insert.
    pub new: NewExecution,
    /// The message to this execution if the child was stored or already existed with the same parent; none if no
    /// message is to be sent.
    pub accepted: Option<String>,
    /// The message to this execution if the child's id belongs to another execution.
    pub refused: String,
}

/// The receipt of a batch that was written: the number of the newest message in the execution's inbox at that moment,
/// or 0 if there was none. A worker that has read fewer messages must read the new ones before any effect leaves that
/// the batch makes durable (L16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxCursor(pub i64);

impl InboxCursor {
    /// The number is no longer known: the batch was written earlier, and its answer was lost.
    pub const UNKNOWN: Self = Self(i64::MAX);
}

/// Why a batch changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppendError {
    /// The lease is over, or the execution is claimed by another node.
    ClaimLost,
    /// The history is not at the position that the batch expected.
    Moved,
    /// The batch was to begin an execution whose id is taken.
    Exists,
    /// A question that the batch closes was already answered.
    AlreadyAnswered,
    /// The batch times a question out before its deadline by the database's clock.
    TooEarly,
    /// The tables' constraints forbid the batch, which is a bug of the engine. It would be refused again.
    Forbidden,
}

/// An execution that was claimed, with everything that is needed to go on without reading its history.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The execution's row.
    pub head: ExecutionRow,
    /// The incarnation that has claimed it.
    pub owner: Option<Incarnation>,
    /// The open calls.
    pub calls: Vec<CallRow>,
    /// The inbox, oldest message first; only its beginning if it is large.
    pub inbox: Vec<InboxRow>,
    /// How often nodes died for good while the execution could move from its current position (L18).
    pub crashes: u32,
    /// Whether other executions were left for the next claim, because these are large.
    pub leaves_others: bool,
}

/// A page of a sweep: executions that no node has claimed, checked one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sweep {
    /// Where the next page begins, or none if this was the last one.
    pub next: Option<i64>,
    /// The number of executions that were parked, because their rows cannot be read or do not fit together.
    pub parked: u64,
    /// The other executions that are open and not parked.
    pub sound: Vec<Claimed>,
}

/// A component and its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// The name under which it was uploaded.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The declarations of the component, as JSON.
    pub manifest: String,
    /// Size in bytes.
    pub size: u64,
    /// When it became the current one of its name.
    pub uploaded_at: Timestamp,
    /// Whether it is the current one of its name.
    pub current: bool,
    /// Whether it asks for more than its name was granted and waits to be accepted.
    pub proposed: bool,
    /// What its name was granted, as a JSON array; none for a name whose versions are from before there were grants.
    pub granted: Option<String>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Newest first.
    pub executions: Vec<ExecutionRow>,
    /// Where the next page begins, if there is one.
    pub cursor: Option<String>,
}

/// The number of executions with each status.
pub type StatusCounts = Vec<(Status, u64)>;
