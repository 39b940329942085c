//! An execution in memory: the state machine that turns the requests of guests and the answers of the world into
//! events.
//!
//! The driver (the engine's worker, or the SDK's local executor) runs the guests, performs each [`Action`] and makes
//! the [`Changes`] durable. All rules are here. Time and random numbers come in with each [`Moment`].

mod asked;
mod changes;
mod ended;
mod guests;
mod inbox;
mod options;
mod recording;
mod signals;
mod tally;
mod telling;
mod timers;
mod unsaved;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use changes::{Action, ApprovalEdge, Changes, EndedStep, LogEntry};
pub use inbox::{ChildResult, Message, Receipt};
pub use options::ExecutionOptions;

use crate::attributes::attributes_bytes;
use crate::event::{EventData, RULES};
use crate::journal::Journal;
use crate::open::OpenCall;
use crate::{
    CallName, Digest, ExecutionId, Failure, Json, Position, ReopenMode, Scope, Seed, Status, StepOptions, Timestamp,
    TraceRecord, planted,
};

/// The size of the history is written beside it each time that it has changed by this many bytes.
const NOTED_BYTES: u64 = 256 << 10;

/// The time of an input, and a random number in 0..1 that was drawn for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// The time.
    pub at: Timestamp,
    /// The random number.
    pub chance: f64,
}

/// The properties of an execution that stay the same for the whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Its id.
    pub id: ExecutionId,
    /// `component/workflow`.
    pub workflow: String,
    /// The component it is pinned to.
    pub digest: Digest,
    /// The root of its keys and random numbers.
    pub seed: Seed,
    /// The number of the run, from 1.
    pub run: u32,
}

/// How an execution, or a run of it, ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The workflow returned this.
    Completed(Json),
    /// The execution failed.
    Failed(Failure),
    /// The execution was cancelled or terminated.
    Cancelled(Failure),
    /// The execution goes on as a new run with this input.
    Continued(Json),
}

/// The target of a step or workflow name, resolved when a call is first recorded (L17).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// The component, when it is not the execution's own.
    pub component: Option<Digest>,
    /// The options that the step declares.
    pub options: StepOptions,
    /// How long the workflow's clean-up may take after a cancel; none for no limit.
    pub cancel_grace_ms: Option<u64>,
}

/// The stored state of an execution, for [`Execution::restore`].
#[derive(Debug)]
pub struct Snapshot {
    /// Its last event.
    pub position: Position,
    /// That event's stamp.
    pub stamp: Timestamp,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether the execution was settled when it was stored.
    pub settled: bool,
    /// The options that are kept beside the history.
    pub options: ExecutionOptions,
    /// Its attributes.
    pub attributes: BTreeMap<String, Json>,
    /// Its open calls.
    pub open: Vec<(CallName, OpenCall)>,
}

/// An execution in memory.
#[derive(Debug)]
pub struct Execution {
    identity: Identity,
    position: Position,
    stamp: Timestamp,
    paused: bool,
    options: ExecutionOptions,
    attributes: BTreeMap<String, Json>,
    end: Option<End>,
    open: BTreeMap<CallName, OpenCall>,
    /// Bytes of the arguments and journals of the open calls.
    open_bytes: u64,
    /// The number of open calls that wait for the end of a child.
    open_children: usize,
    timers: BTreeSet<(Timestamp, CallName)>,
    /// Bytes of all the journals below.
    journal_bytes: Arc<AtomicU64>,
    /// The journals of the scopes whose guests are in memory.
    journals: HashMap<Scope, Journal>,
    /// Scopes that need a guest in memory.
    wanted: BTreeSet<Scope>,
    /// The quiescent guests that may have an outcome coming.
    telling: telling::Telling,
    /// Events that the driver has not yet acknowledged as durable.
    unsaved: unsaved::Unsaved,
    /// About how many bytes the changes hold besides events. These are log lines and progress: those that the driver
    /// has not taken yet, and those that it took and has not made durable.
    loose_bytes: u64,
    taken_bytes: u64,
    /// About how many bytes the history of this run holds.
    history_bytes: u64,
    attributes_bytes: usize,
    /// Signals that have not been delivered, and the calls that wait for them.
    signals: signals::Signals,
    signals_bytes: u64,
    /// Counts of the open calls.
    tally: tally::Tally,
    changes: Changes,
    /// The latest progress of each scope since the driver last took it.
    progress: BTreeMap<Scope, (u8, String)>,
    actions: VecDeque<Action>,
    /// Requests that wait for the end of a pause.
    held_back: VecDeque<Action>,
    /// Requests whose step no longer waits for them, each with its LSN.
    withdrawn: Vec<(CallName, u64)>,
    /// Whether the execution has failed, and a request to reopen it is about to be received.
    has_failed: bool,
    reopening: Option<ReopenMode>,
    /// Messages for the execution that is reopened.
    after_reopening: Vec<(i64, Message)>,
    /// The log sequence number: it counts changes, so that an effect can wait until the changes that caused it are
    /// durable.
    lsn: u64,
    /// The LSN up to which the driver has taken the changes, and the LSN up to which they are durable.
    taken: u64,
    durable: u64,
}

impl Execution {
    /// A new execution with its first event. The driver stores both before it goes on with the execution.
    #[must_use]
    pub fn start(identity: Identity, input: Json, options: ExecutionOptions, at: Timestamp) -> Self {
        let workflow = identity.workflow.clone();
        let stored = Snapshot {
            position: Position(0),
            stamp: at,
            paused: false,
            settled: false,
            options,
            attributes: BTreeMap::new(),
            open: Vec::new(),
        };
        let mut execution = Self::restore(identity, stored);
        execution.record(at, &Scope::root(), EventData::ExecutionStarted { workflow, input, rules: RULES });
        execution
    }

    /// The same execution with these attributes.
    #[must_use]
    pub fn with_attributes(self, attributes: BTreeMap<String, Json>) -> Self {
        Self { attributes_bytes: attributes_bytes(&attributes), attributes, ..self }
    }

    /// Restores a stored execution. Unless it was settled, every guest that may have been running is wanted again.
    #[must_use]
    pub fn restore(identity: Identity, mut stored: Snapshot) -> Self {
        for (_, call) in &mut stored.open {
            call.read_back();
            if planted("crash-uses-attempt")
                && let crate::open::CallPhase::Step(open) = &mut call.phase
            {
                open.attempts.attempt += 1;
            }
        }
        let mut wanted = BTreeSet::new();
        if !stored.settled && stored.options.starts_at.is_none() {
            wanted.insert(Scope::root());
            wanted.extend(stored.open.iter().filter_map(|(name, call)| call.running(name)));
        }
        let due = |(name, call): &(CallName, OpenCall)| call.due().map(|due| (due, name.clone()));
        // The events in a poll's journal are stamped as well, and no stamp goes back.
        let stamps = stored.open.iter().map(|(_, call)| call.stamp());
        let mut execution = Self {
            identity,
            open_bytes: stored.open.iter().map(|(_, call)| call.weight()).sum(),
            open_children: stored.open.iter().filter(|(_, call)| call.waits_for_child()).count(),
            position: stored.position,
            stamp: stamps.fold(stored.stamp, Timestamp::max),
            paused: stored.paused,
            history_bytes: stored.options.history_bytes,
            options: stored.options,
            attributes_bytes: attributes_bytes(&stored.attributes),
            attributes: stored.attributes,
            end: None,
            timers: stored.open.iter().filter_map(due).collect(),
            open: BTreeMap::new(),
            journals: HashMap::new(),
            journal_bytes: Arc::default(),
            wanted,
            telling: telling::Telling::default(),
            unsaved: unsaved::Unsaved::default(),
            loose_bytes: 0,
            taken_bytes: 0,
            signals: signals::Signals::default(),
            signals_bytes: 0,
            tally: tally::Tally::default(),
            changes: Changes::default(),
            progress: BTreeMap::new(),
            actions: VecDeque::new(),
            held_back: VecDeque::new(),
            withdrawn: Vec::new(),
            has_failed: false,
            reopening: None,
            after_reopening: Vec::new(),
            lsn: 0,
            taken: 0,
            durable: 0,
        };
        for (name, call) in stored.open {
            execution.count_in(&name, &call);
            execution.open.insert(name, call);
        }
        execution
    }

    // -- queries of the driver --

    /// The properties that stay the same for the whole run.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The last event's position.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The last event's stamp.
    #[must_use]
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }

    /// The options that are kept beside the history.
    #[must_use]
    pub fn options(&self) -> &ExecutionOptions {
        &self.options
    }

    /// Replaces what is kept of the trace. It is written with the next changes, and no rule depends on it.
    pub fn set_trace(&mut self, trace: TraceRecord) {
        match &mut self.options.trace {
            Some(kept) => **kept = trace,
            none => *none = Some(Box::new(trace)),
        }
    }

    /// The attributes.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, Json> {
        &self.attributes
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// How the execution ended, or none if it is still open.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Its open calls.
    #[must_use]
    pub fn open(&self) -> &BTreeMap<CallName, OpenCall> {
        &self.open
    }

    /// The scopes that need a guest and have none. In a pause there are none, because nothing starts.
    #[must_use]
    pub fn wanted(&self) -> Vec<Scope> {
        self.first_wanted(usize::MAX)
    }

    /// The same scopes, at most `count` of them.
    #[must_use]
    pub fn first_wanted(&self, count: usize) -> Vec<Scope> {
        let count = if self.paused || self.end.is_some() { 0 } else { count };
        self.wanted.iter().take(count).cloned().collect()
    }

    /// How the execution looks from outside (L20), at a cost that does not grow with its open calls.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.end {
            Some(End::Completed(_)) => Status::Completed,
            Some(End::Failed(_)) => Status::Failed,
            Some(End::Cancelled(_)) => Status::Cancelled,
            Some(End::Continued(_)) => Status::Running,
            None if self.paused => Status::Paused,
            None if self.options.starts_at.is_some() => Status::Waiting,
            None => self.tally.counts().status(),
        }
    }

    /// Whether every guest was told everything there was to tell. Once all of them are quiescent, only the world can
    /// move the execution.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_untold = || self.telling.any_untold() || self.signals.any_matched();
        self.end.is_some() || (self.wanted.is_empty() && !is_untold() && !self.tally.any_fetch())
    }

    /// When time alone will move the execution next. A pause stops all clocks except the deadlines.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        if self.end.is_some() {
            return None;
        }
        let call = self.timers.first().map(|(due, _)| *due).filter(|_| !self.paused);
        let start = self.options.starts_at.filter(|_| !self.paused);
        [call, start, self.options.deadline, self.options.cancel_until].into_iter().flatten().min()
    }

    /// Whether all changes so far are durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable >= self.lsn
    }

    /// Whether a client asked to reopen the failed execution, and the driver has yet to call [`Execution::reopen`].
    #[must_use]
    pub fn is_reopening(&self) -> bool {
        self.reopening.is_some()
    }

    /// The mode of the reopening that a client asked for.
    #[must_use]
    pub fn reopening(&self) -> Option<ReopenMode> {
        self.reopening
    }

    /// The LSN of the last change. An effect that is caused now may leave once this LSN is durable.
    #[must_use]
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    // -- durability --

    /// Takes the changes since the last call; the driver has to write them.
    pub fn take_changes(&mut self) -> Changes {
        self.changes.lsn = self.lsn;
        self.taken = self.lsn;
        self.taken_bytes += std::mem::take(&mut self.loose_bytes);
        if self.history_bytes.abs_diff(self.options.history_bytes) >= NOTED_BYTES {
            self.options.history_bytes = self.history_bytes;
        }
        let touched = std::mem::take(&mut self.changes.touched);
        for name in touched {
            match self.open.get(&name) {
                Some(call) => self.changes.opened.push((name, call.encode())),
                None => self.changes.closed.push(name),
            }
        }
        let progress = std::mem::take(&mut self.progress).into_iter();
        self.changes.progress = progress.map(|(scope, (percent, message))| (scope, percent, message)).collect();
        std::mem::take(&mut self.changes)
    }

    /// Whether there are changes to write.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.taken < self.lsn
    }

    /// The number of events that the driver has not taken yet.
    #[must_use]
    pub fn untaken(&self) -> usize {
        self.changes.events.len()
    }

    /// The number of events that the driver has not yet acknowledged as durable.
    #[must_use]
    pub fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    /// About how many bytes of events, log lines and progress are not durable yet.
    #[must_use]
    pub fn unsaved_bytes(&self) -> u64 {
        self.unsaved.bytes() + self.loose_bytes + self.taken_bytes
    }

    /// About how many bytes the next [`Execution::take_changes`] will take.
    #[must_use]
    pub fn unwritten_bytes(&self) -> u64 {
        let touched = self.changes.touched.iter().filter_map(|name| self.open.get(name));
        let open: u64 = touched.map(OpenCall::weight).sum();
        self.unsaved_bytes() + open
    }

    /// About how many bytes the execution holds in memory.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let journals = self.journal_bytes.load(Ordering::Relaxed);
        self.unsaved_bytes() + self.open_bytes + journals + self.signals_bytes + self.attributes_bytes as u64
    }

    /// About how many bytes the history of this run holds.
    #[must_use]
    pub fn history_bytes(&self) -> u64 {
        self.history_bytes
    }

    /// The last position that was acknowledged as durable.
    #[must_use]
    pub fn saved(&self) -> Position {
        self.unsaved.first().map_or(self.position, |(first, _)| Position(first.0 - 1))
    }

    /// Takes the actions to perform now, in order. In a pause nothing starts, but guests still stop.
    pub fn take_actions(&mut self) -> Vec<Action> {
        if self.paused && self.end.is_none() {
            let starts = |action: &Action| matches!(action, Action::Fetch { .. });
            let (later, now): (Vec<Action>, Vec<Action>) = self.actions.drain(..).partition(starts);
            self.held_back.extend(later);
            return now;
        }
        let open = &self.open;
        // A request is not sent if its step no longer waits for it.
        let is_wanted = |action: &Action| match action {
            Action::Fetch { call, opened, .. } => open.get(call).is_some_and(|call| call.lsn == *opened),
            Action::Stop(_) => true,
        };
        self.held_back.drain(..).chain(self.actions.drain(..)).filter(is_wanted).collect()
    }

    /// Takes the requests whose step no longer waits for them: each call with its [`OpenCall::lsn`].
    pub fn take_withdrawn(&mut self) -> Vec<(CallName, u64)> {
        std::mem::take(&mut self.withdrawn)
    }

    /// Acknowledges that changes up to this LSN, and events up to this position, are durable.
    pub fn acknowledge(&mut self, lsn: u64, position: Position) {
        self.durable = self.durable.max(lsn);
        if lsn >= self.taken {
            self.taken_bytes = 0;
        }
        self.unsaved.acknowledge(position);
        for scope in self.telling.unblock(self.durable) {
            self.look_at(&scope);
        }
    }
}
