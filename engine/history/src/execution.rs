//! An execution in memory: the state machine that turns what guests ask and what the world answers into events.
//!
//! Whoever drives it (the engine's worker, the SDK's local executor) runs guests, performs [`Action`]s and makes
//! [`Changes`] durable; every rule is here. Time and chance come in with each [`Moment`].

mod asked;
mod changes;
mod ended;
mod guests;
mod inbox;
mod recording;
mod signals;
mod tally;
mod telling;
mod timers;
mod unsaved;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

pub use changes::{Action, ApprovalEdge, Changes, ChildStart, LogEntry};
pub use inbox::{ChildResult, Message, Receipt};

use crate::event::{Fact, RULES};
use crate::journal::Journal;
use crate::open::OpenCall;
use crate::{
    CallName, Digest, ExecutionId, Failure, Json, Position, ReopenMode, Scope, Seed, StepOptions, Timestamp, planted,
};

/// The most events a history may have; a workflow that needs more continues as new.
pub const HISTORY_EVENTS_MAX: u64 = 50_000;
/// The most calls that may be open in one execution at once.
pub const OPEN_CALLS_MAX: usize = 10_000;

/// When something happens, and a draw of chance in 0..1 for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// The draw.
    pub chance: f64,
}

/// What does not change while an execution's run lasts.
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
    /// Which run, from 1.
    pub run: u32,
}

/// Small facts that stand beside the history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// When the whole execution has to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// How long its clean-up may take after a cancel, as its workflow declared when it started; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_grace_ms: Option<u64>,
    /// It was cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// It was cancelled, and clean-up ends then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_until: Option<Timestamp>,
    /// It was cancelled while its workflow waited for nothing: its next call returns `cancelled`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_owed: bool,
    /// It begins only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
}

impl Facts {
    /// Whether somebody asked for the execution to be cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // Every cancel had a time limit when the flag was not there yet.
        self.cancelled || self.cancel_until.is_some()
    }
}

/// How an execution, or a run of it, ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The workflow returned this.
    Completed(Json),
    /// It failed.
    Failed(Failure),
    /// It was cancelled or terminated.
    Cancelled(Failure),
    /// It goes on as a new run with this input.
    Continued(Json),
}

/// What a step or workflow name stands for, resolved when a call is first recorded (L17).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// The component, when it is not the execution's own.
    pub component: Option<Digest>,
    /// What the step declares for itself.
    pub options: StepOptions,
    /// How long the workflow's clean-up may take after a cancel; none for no limit.
    pub cancel_grace_ms: Option<u64>,
}

/// What was stored of an execution, for [`Execution::restore`].
#[derive(Debug)]
pub struct Stored {
    /// Its last event.
    pub position: Position,
    /// That event's stamp.
    pub stamp: Timestamp,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether nothing had to move when it was stored.
    pub settled: bool,
    /// The facts beside it.
    pub facts: Facts,
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
    facts: Facts,
    attributes: BTreeMap<String, Json>,
    end: Option<End>,
    open: BTreeMap<CallName, OpenCall>,
    timers: BTreeSet<(Timestamp, CallName)>,
    /// Scopes whose guest is in memory.
    journals: HashMap<Scope, Journal>,
    /// Scopes that need a guest in memory.
    wanted: BTreeSet<Scope>,
    /// Which quiescent guests may have something to be told.
    telling: telling::Telling,
    /// Events that the driver has not acknowledged as durable.
    unsaved: unsaved::Unsaved,
    /// Signals that nobody has been told yet, and who waits for them.
    signals: signals::Signals,
    /// Counts of the open calls.
    tally: tally::Tally,
    changes: Changes,
    /// The latest progress by scope since the driver last took it.
    progress: BTreeMap<Scope, (u8, String)>,
    actions: VecDeque<Action>,
    /// Requests that do not start in a pause.
    held_back: VecDeque<Action>,
    /// Requests that nobody waits for any more, each with its mark.
    withdrawn: Vec<(CallName, u64)>,
    reopening: Option<ReopenMode>,
    /// Counts changes, so that effects can wait for those that caused them.
    mark: u64,
    /// How much of that the driver has taken, and how much is durable.
    taken: u64,
    durable: u64,
}

impl Execution {
    /// A new execution and its first event, encoded; the driver stores both before it goes on with the execution.
    #[must_use]
    pub fn start(identity: Identity, input: Json, facts: Facts, at: Timestamp) -> Self {
        let workflow = identity.workflow.clone();
        let stored = Stored {
            position: Position(0),
            stamp: at,
            paused: false,
            settled: false,
            facts,
            attributes: BTreeMap::new(),
            open: Vec::new(),
        };
        let mut execution = Self::restore(identity, stored);
        execution.record(at, &Scope::root(), Fact::ExecutionStarted { workflow, input, rules: RULES });
        execution
    }

    /// The same with these attributes.
    #[must_use]
    pub fn with_attributes(self, attributes: BTreeMap<String, Json>) -> Self {
        Self { attributes, ..self }
    }

    /// An execution as it was stored. Unless it was settled, every guest that may have been running is wanted again.
    #[must_use]
    pub fn restore(identity: Identity, mut stored: Stored) -> Self {
        for (_, call) in &mut stored.open {
            call.read_back();
            if planted("crash-uses-attempt")
                && let crate::open::Phase::Step(open) = &mut call.phase
            {
                open.attempts.attempt += 1;
            }
        }
        let mut wanted = BTreeSet::new();
        if !stored.settled && stored.facts.starts_at.is_none() {
            wanted.insert(Scope::root());
            wanted.extend(stored.open.iter().filter_map(|(name, call)| call.running(name)));
        }
        let due = |(name, call): &(CallName, OpenCall)| call.due().map(|due| (due, name.clone()));
        // What a poll's journal holds is stamped as well, and no stamp goes back.
        let stamps = stored.open.iter().map(|(_, call)| call.stamp());
        let mut execution = Self {
            identity,
            position: stored.position,
            stamp: stamps.fold(stored.stamp, Timestamp::max),
            paused: stored.paused,
            facts: stored.facts,
            attributes: stored.attributes,
            end: None,
            timers: stored.open.iter().filter_map(due).collect(),
            open: BTreeMap::new(),
            journals: HashMap::new(),
            wanted,
            telling: telling::Telling::default(),
            unsaved: unsaved::Unsaved::default(),
            signals: signals::Signals::default(),
            tally: tally::Tally::default(),
            changes: Changes::default(),
            progress: BTreeMap::new(),
            actions: VecDeque::new(),
            held_back: VecDeque::new(),
            withdrawn: Vec::new(),
            reopening: None,
            mark: 0,
            taken: 0,
            durable: 0,
        };
        for (name, call) in stored.open {
            execution.count_in(&name, &call);
            execution.open.insert(name, call);
        }
        execution
    }

    // -- what the driver asks --

    /// What does not change.
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

    /// The facts beside the history.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
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

    /// How it ended, once it has.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Its open calls.
    #[must_use]
    pub fn open(&self) -> &BTreeMap<CallName, OpenCall> {
        &self.open
    }

    /// Scopes that need a guest and have none. Nothing starts in a pause.
    #[must_use]
    pub fn wanted(&self) -> Vec<Scope> {
        self.first_wanted(usize::MAX)
    }

    /// The same, at most so many of them.
    #[must_use]
    pub fn first_wanted(&self, count: usize) -> Vec<Scope> {
        let count = if self.paused || self.end.is_some() { 0 } else { count };
        self.wanted.iter().take(count).cloned().collect()
    }

    /// What [`crate::status_word`] says of the open calls, at no cost that grows with them.
    #[must_use]
    pub fn status_word(&self) -> &'static str {
        self.tally.counts().word()
    }

    /// Whether every guest has been told everything it can be told: with all of them quiescent, only the world moves it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_untold = || self.telling.any_untold() || self.signals.any_matched();
        self.end.is_some() || (self.wanted.is_empty() && !is_untold() && !self.tally.any_fetch())
    }

    /// When time alone will move it next. A pause stops all clocks but the deadlines.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        if self.end.is_some() {
            return None;
        }
        let call = self.timers.first().map(|(due, _)| *due).filter(|_| !self.paused);
        let start = self.facts.starts_at.filter(|_| !self.paused);
        [call, start, self.facts.deadline, self.facts.cancel_until].into_iter().flatten().min()
    }

    /// Whether everything so far is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable >= self.mark
    }

    /// Whether somebody asked for a failed execution to go on, and the driver has yet to call [`Execution::reopen`].
    #[must_use]
    pub fn is_reopening(&self) -> bool {
        self.reopening.is_some()
    }

    /// How much that somebody insists.
    #[must_use]
    pub fn reopening(&self) -> Option<ReopenMode> {
        self.reopening
    }

    /// Counts changes so far: what is caused now may leave once this much is durable.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.mark
    }

    // -- durability --

    /// Takes what has to be written since the last time.
    pub fn take_changes(&mut self) -> Changes {
        self.changes.mark = self.mark;
        self.taken = self.mark;
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

    /// Whether there is anything to write.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.taken < self.mark
    }

    /// How many events the driver has not taken.
    #[must_use]
    pub fn untaken(&self) -> usize {
        self.changes.events.len()
    }

    /// How many events the driver has not acknowledged as durable.
    #[must_use]
    pub fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    /// About how many bytes those are.
    #[must_use]
    pub fn unsaved_bytes(&self) -> u64 {
        self.unsaved.bytes()
    }

    /// The last position acknowledged as durable.
    #[must_use]
    pub fn saved(&self) -> Position {
        self.unsaved.first().map_or(self.position, |(first, _)| Position(first.0 - 1))
    }

    /// Takes what has to be performed now, in order. Nothing starts in a pause, but what is to stop stops.
    pub fn take_actions(&mut self) -> Vec<Action> {
        if self.paused && self.end.is_none() {
            let starts = |action: &Action| matches!(action, Action::Fetch { .. });
            let (later, now): (Vec<Action>, Vec<Action>) = self.actions.drain(..).partition(starts);
            self.held_back.extend(later);
            return now;
        }
        let open = &self.open;
        // A request that nobody waits for any more does not leave.
        let is_wanted = |action: &Action| match action {
            Action::Fetch { call, opened, .. } => open.get(call).is_some_and(|call| call.mark == *opened),
            Action::Stop(_) => true,
        };
        self.held_back.drain(..).chain(self.actions.drain(..)).filter(is_wanted).collect()
    }

    /// Takes the requests that nobody waits for any more: the calls and their [`OpenCall::mark`].
    pub fn take_withdrawn(&mut self) -> Vec<(CallName, u64)> {
        std::mem::take(&mut self.withdrawn)
    }

    /// Says that changes up to this mark, and events up to this position, are durable.
    pub fn acknowledge(&mut self, mark: u64, position: Position) {
        self.durable = self.durable.max(mark);
        self.unsaved.acknowledge(position);
        for scope in self.telling.unblock(self.durable) {
            self.look_at(&scope);
        }
    }
}
