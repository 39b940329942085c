//! What is kept: the rows of the store, as the engine reads and writes them.

use crate::StoreError;
use cerebelum_history::{CallName, Digest, ExecutionId, Level, Position, Scope, Seed, Timestamp};

/// Whose it is. The first column of every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub i32);

impl TenantId {
    /// The only tenant until tenants are built: `default`.
    pub const DEFAULT: Self = Self(1);
}

/// An execution, wherever it is spoken of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which one.
    pub id: ExecutionId,
}

/// One stay of one node under one lease: the fence of every write (L11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub i64);

/// What is stored of an execution's state; every other status is derived from the open calls (L20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It goes on.
    Open,
    /// It returned.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled or terminated.
    Cancelled,
}

/// The head of an execution: everything but its events and calls.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionRow {
    /// Its key.
    pub key: ExecutionKey,
    /// `component/workflow`, as it was started.
    pub workflow: String,
    /// The component it is pinned to (L17).
    pub digest: Digest,
    /// The root of its keys and random numbers. Never shown.
    pub seed: Seed,
    /// Counts continue-as-new, from 1.
    pub run: u32,
    /// Stored state.
    pub state: State,
    /// Nothing is delivered and nothing starts.
    pub paused: bool,
    /// Why a person must look at it, when one must.
    pub parked: Option<String>,
    /// Whether all its guests were quiescent, with nothing to be told, when it was last written.
    pub settled: bool,
    /// Its last event's position.
    pub position: Position,
    /// Its last event's stamp.
    pub stamp: Timestamp,
    /// When it has to be looked at again, if time alone can move it.
    pub due: Option<Timestamp>,
    /// The status word for lists, derived by `history` when it was last written.
    pub status: String,
    /// Name to JSON scalar, as one JSON object.
    pub attributes: String,
    /// Small facts that the worker keeps (deadline, cancel request, …), as one JSON object.
    pub options: String,
    /// The execution and call that wait for it or started it.
    pub parent: Option<Parent>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many calls are open, so that one that is missing is missed. None when that was not counted.
    pub open_calls: Option<u32>,
}

/// The call of another execution that started this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The execution (of the same tenant).
    pub id: ExecutionId,
    /// Its run.
    pub run: u32,
    /// Its call.
    pub call: CallName,
    /// Whether it waits for the end.
    pub awaited: bool,
}

/// An execution that is to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExecution {
    /// Its head; `position` is that of the last event in `first`.
    pub head: ExecutionRow,
    /// Its first events.
    pub first: Chunk,
    /// Whether the inserting node claims it in the same breath.
    pub claim: bool,
}

impl NewExecution {
    /// About how many bytes it writes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.first.events.len() + self.head.attributes.len() + self.head.options.len()
    }
}

/// What became of a [`NewExecution`].
#[derive(Debug, Clone, PartialEq)]
pub enum StartOutcome {
    /// It is stored.
    New,
    /// The id was taken; this is the execution that has it, and its first chunk for comparison.
    Exists(Box<ExecutionRow>, Chunk),
}

/// An execution that is there already, and its first chunk for comparison, or why that cannot be read.
pub type Existing = (ExecutionRow, Result<Chunk, StoreError>);

/// Some consecutive events of a history, as the text `history` encoded them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Position of the first event.
    pub first: Position,
    /// Position of the last event.
    pub last: Position,
    /// The events. Stored beside a checksum of it.
    pub events: String,
}

/// An open call's row (L13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRow {
    /// Its name.
    pub name: CallName,
    /// Its state, as the text `history` encoded it.
    pub state: String,
}

/// What happens to approvals in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalChange {
    /// A question is asked.
    Open {
        /// Its id, unique per tenant.
        id: String,
        /// The call that waits.
        call: CallName,
        /// The request, as JSON.
        request: String,
        /// When it stops standing.
        deadline: Option<Timestamp>,
    },
    /// It is not answered in time or no longer wanted. The batch is refused when an answer came or its deadline did not (L9).
    Close {
        /// Its id.
        id: String,
        /// How it ends: `TimedOut` or `Withdrawn`.
        to: ApprovalState,
    },
}

/// Where a question stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApprovalState {
    /// It waits for an answer.
    Open,
    /// Yes.
    Approved,
    /// No.
    Rejected,
    /// Nobody answered in time.
    TimedOut,
    /// The guest no longer wants an answer.
    Withdrawn,
}

/// A question to a person, for the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRow {
    /// Its id.
    pub id: String,
    /// The execution that asks.
    pub execution: ExecutionId,
    /// The call that waits.
    pub call: CallName,
    /// The request, as JSON.
    pub request: String,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// Until when it stands.
    pub deadline: Option<Timestamp>,
    /// Where it stands.
    pub state: ApprovalState,
}

/// Which questions to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// All of this execution; otherwise those that are open, of all.
    pub execution: Option<ExecutionId>,
    /// Only after this place, as returned with the page before.
    pub cursor: Option<String>,
    /// How many at most; 1,000 are never exceeded, nor 8 MiB by more than one question.
    pub limit: u32,
}

/// A page of questions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalPage {
    /// Newest first.
    pub approvals: Vec<ApprovalRow>,
    /// Where the next page begins, if there is one.
    pub cursor: Option<String>,
}

/// What became of an answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerOutcome {
    /// It counts.
    Accepted(ExecutionId),
    /// The question had ended before, in this way.
    TooLate(ApprovalState),
    /// There is no such question.
    Unknown,
}

/// A message to an execution, in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRow {
    /// Its number, unique per store and growing.
    pub seq: i64,
    /// What it says, as the text `history` encoded it.
    pub message: String,
    /// Whether an activation has seen it before (a signal nobody waited for yet).
    pub seen: bool,
}

/// A log line of a guest. A second line of the same scope, attempt, place and number changes nothing (L7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Who said it.
    pub scope: Scope,
    /// In which attempt.
    pub attempt: u32,
    /// After which recorded event.
    pub place: u64,
    /// As its how-manieth line since then.
    pub number: u32,
    /// When.
    pub at: Timestamp,
    /// How loud.
    pub level: Level,
    /// What.
    pub text: String,
}

/// A log line, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Its number in the execution; lists resume after it.
    pub seq: i64,
    /// In which run.
    pub run: u32,
    /// The line.
    pub line: LogLine,
}

/// The latest progress of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whose.
    pub scope: Scope,
    /// 0 to 100.
    pub percent: u8,
    /// A word about it.
    pub message: String,
}

/// Everything one activation has to write at once: all of it becomes durable, or nothing (L4).
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Whose.
    pub key: ExecutionKey,
    /// The fence: refused when the execution is claimed by another incarnation or this one's lease is over.
    pub incarnation: Incarnation,
    /// The head as it will be. Its `position` and `run` say where the history then ends.
    pub head: ExecutionRow,
    /// Whether the execution begins with this batch: its head is stored, claimed by `incarnation` unless `release`, and
    /// `after` is 0. Refused when the id is taken.
    pub begins: bool,
    /// Whether the head's attributes are other than they were.
    pub relabels: bool,
    /// The position the store must be at now; refused otherwise.
    pub after: Position,
    /// New events, each chunk behind the one before; none when only calls changed.
    pub chunks: Vec<Chunk>,
    /// Chunks to be written anew with the values of finished scopes left out (L12). Same `first` and `last`.
    pub rewritten: Vec<Chunk>,
    /// Calls that are open now, or have changed.
    pub opened: Vec<CallRow>,
    /// Calls that are open no more.
    pub closed: Vec<CallName>,
    /// Questions asked and withdrawn.
    pub approvals: Vec<ApprovalChange>,
    /// Messages that have been dealt with, by number.
    pub consumed: Vec<i64>,
    /// Messages that have been seen and stay.
    pub seen: Vec<i64>,
    /// Executions started. One whose id is taken by another parent sends `refused` back to this execution's inbox.
    pub children: Vec<Child>,
    /// Messages to other executions of the tenant.
    pub messages: Vec<(ExecutionId, String)>,
    /// Log lines.
    pub logs: Vec<LogLine>,
    /// Latest progress by scope.
    pub progress: Vec<Progress>,
    /// The first chunk of the next run, after a continue-as-new: `head.run` is that run and `head.position` its last
    /// position, while `chunks` still end the run before.
    pub next_run: Option<Chunk>,
    /// Whether the claim ends with this batch (the execution hibernates or has ended).
    pub release: bool,
}

impl Batch {
    /// A batch that changes nothing yet: the head as it is, written by this incarnation.
    #[must_use]
    pub fn of(incarnation: Incarnation, head: ExecutionRow) -> Self {
        Self {
            key: head.key.clone(),
            incarnation,
            begins: false,
            relabels: false,
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

    /// About how many bytes it writes.
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

/// A child to be started by a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// What to insert.
    pub new: NewExecution,
    /// Message to this execution when the child was stored or was already there with the same parent; none to send none.
    pub accepted: Option<String>,
    /// Message to this execution when its id belongs to something else.
    pub refused: String,
}

/// A batch that was written: the number of the newest message in its execution's inbox at that moment, 0 when there was
/// none. Who has heard of less must listen before anything leaves that the batch makes durable (L16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxCursor(pub i64);

impl InboxCursor {
    /// It is not known any more: the batch was written earlier, and its answer was lost.
    pub const UNKNOWN: Self = Self(i64::MAX);
}

/// Why a batch changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppendError {
    /// The lease is over or the execution is claimed by somebody else.
    ClaimLost,
    /// The history is not where the batch expected it.
    Moved,
    /// It wanted to begin an execution whose id is taken.
    Exists,
    /// A question it wanted to close had been answered.
    AlreadyAnswered,
    /// It would time a question out before its deadline by the database's clock.
    TooEarly,
    /// The tables' own rules forbid it: a mistake of the engine. Written again, it would be refused again.
    Forbidden,
}

/// An execution that was picked up, with what is needed to go on without reading its history.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// Its head.
    pub head: ExecutionRow,
    /// Who has claimed it.
    pub owner: Option<Incarnation>,
    /// Its open calls.
    pub calls: Vec<CallRow>,
    /// Its inbox, oldest first; only its beginning where it is large.
    pub inbox: Vec<InboxRow>,
    /// How often nodes died and never came back while it could move from where it stands (L18).
    pub crashes: u32,
    /// Whether others were left for the next claim, because these are large.
    pub leaves_others: bool,
}

/// A page of an audit: executions that nobody has claimed, looked at one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Audit {
    /// Where the next page begins; none when this was the last.
    pub next: Option<i64>,
    /// How many were parked, because their rows cannot be read or do not fit together.
    pub parked: u64,
    /// The others that are open and not parked.
    pub sound: Vec<Claimed>,
}

/// A component and what it declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// The name it was uploaded under.
    pub name: String,
    /// Its content address.
    pub digest: Digest,
    /// What it declares, as JSON.
    pub manifest: String,
    /// Size in bytes.
    pub size: u64,
    /// When it became the current one of its name.
    pub uploaded_at: Timestamp,
    /// Whether it is the current one of its name.
    pub current: bool,
}

/// Which executions to list; an empty filter lists all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Only with this status word.
    pub status: Option<String>,
    /// Only of this workflow: `component/workflow`, or the bare name.
    pub workflow: Option<String>,
    /// Only with these attributes, JSON scalars as text.
    pub attributes: Vec<(String, String)>,
    /// Only after this place, as returned with the page before.
    pub cursor: Option<String>,
    /// How many at most.
    pub limit: u32,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Newest first.
    pub executions: Vec<ExecutionRow>,
    /// Where the next page begins, if there is one.
    pub cursor: Option<String>,
}

/// How many executions there are of each status word.
pub type StatusCounts = Vec<(String, u64)>;
