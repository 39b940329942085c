//! Everything that survives a crash: the stored execution, and the world outside with its plans.

use std::collections::{BTreeMap, HashMap, HashSet};

use cerebelum_history::{
    Approval, ApprovalEdge, CallName, Changes, ChildResult, ChildStart, End, Event, EventData, Execution, ExecutionId,
    ExecutionOptions, Json, Message, OpenCall, Parent, Position, Scope, Snapshot, Timestamp,
};
use test_programs::{DeterministicRng, json};

/// The state of a question.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Question {
    Open(Option<Timestamp>),
    Answered,
    Closed,
}

/// A planned action of the world.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// A person answers this question of that call; the path is the title.
    Answer { id: String, call: CallName, yes: bool, path: String },
    /// An execution reports its state.
    Child(Message, ExecutionId),
    /// A message is sent.
    Send(Message),
}

/// A batch: the changes, and the execution's row at that time.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) changes: Changes,
    position: Position,
    stamp: Timestamp,
    paused: bool,
    settled: bool,
    options: ExecutionOptions,
    attributes: BTreeMap<String, Json>,
    ended: bool,
}

impl Batch {
    pub(crate) fn of(execution: &mut Execution) -> Self {
        let changes = execution.take_changes();
        Self {
            changes,
            position: execution.position(),
            stamp: execution.stamp(),
            paused: execution.is_paused(),
            settled: execution.is_settled(),
            options: execution.options().clone(),
            attributes: execution.attributes().clone(),
            ended: execution.end().is_some(),
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }
}

/// The stored execution and the world. A clone is the state at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    /// Decides how long the world takes for each action.
    pub(crate) seed: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) open: BTreeMap<CallName, String>,
    stamp: Timestamp,
    paused: bool,
    pub(crate) settled: bool,
    options: ExecutionOptions,
    pub(crate) attributes: BTreeMap<String, Json>,
    pub(crate) ended: bool,
    pub(crate) inbox: BTreeMap<i64, (bool, Message)>,
    messages: i64,
    pub(crate) questions: HashMap<String, Question>,
    pub(crate) logs: BTreeMap<(Scope, u32, u64, u32), String>,
    /// The planned actions of the world, by time.
    pub(crate) plans: Vec<(Timestamp, Plan)>,
    /// The key of every request that was sent, by call.
    pub(crate) ledger: HashMap<CallName, String>,
    pub(crate) keys: HashSet<String>,
    children: HashSet<ExecutionId>,
}

impl Store {
    /// An empty store, in a world with this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Makes a batch durable. Returns `false` and writes nothing if a question that the batch closes was answered
    /// meanwhile (L5).
    pub(crate) fn append(&mut self, batch: Batch, now: Timestamp) -> bool {
        let Batch { changes, position, .. } = batch;
        for edge in &changes.approvals {
            if let ApprovalEdge::TimedOut(id) | ApprovalEdge::Withdrawn(id) = edge
                && self.questions.get(id) == Some(&Question::Answered)
            {
                return false;
            }
        }
        for event in changes.events {
            assert!(self.events.last().is_none_or(|last| last.at <= event.at), "the stamps of the history go back");
            self.events.push(event);
        }
        assert_eq!(position.0, self.events.len() as u64, "positions have no gaps");
        for (scope, from, to) in changes.valueless {
            for event in &mut self.events[usize::try_from(from.0).unwrap() - 1..usize::try_from(to.0).unwrap()] {
                if event.scope == scope {
                    event.data = event.data.clone().without_values();
                }
            }
        }
        self.open.extend(changes.opened);
        changes.closed.iter().for_each(|name| drop(self.open.remove(name)));
        changes.consumed.iter().for_each(|seq| drop(self.inbox.remove(seq)));
        for seq in changes.seen {
            self.inbox.entry(seq).and_modify(|(seen, _)| *seen = true);
        }
        for line in changes.logs {
            self.logs.entry((line.scope, line.attempt, line.place, line.number)).or_insert(line.text);
        }
        changes.approvals.into_iter().for_each(|edge| self.question(edge, now));
        changes.children.into_iter().for_each(|child| self.child(child, now));
        for orphan in changes.orphans {
            self.plans.retain(|(_, plan)| !matches!(plan, Plan::Child(_, id) if *id == orphan));
        }
        (self.stamp, self.paused, self.settled) = (batch.stamp, batch.paused, batch.settled);
        (self.options, self.attributes, self.ended) = (batch.options, batch.attributes, batch.ended);
        true
    }

    fn question(&mut self, edge: ApprovalEdge, now: Timestamp) {
        match edge {
            ApprovalEdge::Opened { id, call, request, until } => {
                let before = self.questions.insert(id.clone(), Question::Open(until));
                assert_eq!(before, None, "two questions with the id {id}");
                let at = now.plus(self.latency(&request.title));
                self.plans.push((at, Plan::Answer { id, call, yes: request.kind == "yes", path: request.title }));
            }
            ApprovalEdge::TimedOut(id) | ApprovalEdge::Withdrawn(id) => {
                let before = self.questions.insert(id, Question::Closed);
                assert!(
                    matches!(before, Some(Question::Open(_))),
                    "a question that does not stand is closed: {before:?}"
                );
            }
        }
    }

    fn child(&mut self, child: ChildStart, now: Timestamp) {
        let (id, Parent { call, awaited, .. }) = (child.identity.id, child.parent);
        let is_new = self.children.insert(id.clone());
        assert!(is_new || !awaited, "an awaited child is started twice as {id}");
        let path: String = serde_json::from_str(child.workflow.input.as_str()).unwrap();
        let result = match awaited {
            true => ChildResult::Completed(json(&format!("child {path} "))),
            false => ChildResult::Accepted(id.clone()),
        };
        let message = Message::Child { run: 1, call, id: id.clone(), result, cause: None };
        self.plans.push((now.plus(self.latency(&path)), Plan::Child(message, id)));
    }

    /// How long the world takes for this action.
    pub(crate) fn latency(&self, name: &str) -> u64 {
        DeterministicRng::named(self.seed, name, 80)
    }

    /// Puts a message into the inbox and returns its number.
    pub(crate) fn send(&mut self, message: Message) -> i64 {
        self.messages += 1;
        self.inbox.insert(self.messages, (false, message));
        self.messages
    }

    /// Performs the actions that are due by now. Returns the resulting messages.
    pub(crate) fn act(&mut self, now: Timestamp) -> Vec<i64> {
        let (due, later) = std::mem::take(&mut self.plans).into_iter().partition(|(at, _)| *at <= now);
        self.plans = later;
        let due: Vec<(Timestamp, Plan)> = due;
        due.into_iter().filter_map(|(at, plan)| self.perform(at, plan)).collect()
    }

    fn perform(&mut self, at: Timestamp, plan: Plan) -> Option<i64> {
        match plan {
            Plan::Child(message, _) | Plan::Send(message) => Some(self.send(message)),
            Plan::Answer { id, call, yes, path } => {
                let Some(Question::Open(until)) = self.questions.get(&id) else { return None };
                if until.is_some_and(|until| until <= at) {
                    return None;
                }
                self.questions.insert(id.clone(), Question::Answered);
                let by = "ann".to_owned();
                Some(self.send(if yes {
                    let approval = Approval { data: json(&format!("yes {path} ")), by, comment: None };
                    Message::Approved { call, id, approval, cause: None }
                } else {
                    Message::Rejected { call, id, by, reason: format!("no {path}"), cause: None }
                }))
            }
        }
    }

    /// Sends a request.
    pub(crate) fn leave(&mut self, call: &CallName, key: String) {
        if let Some(before) = self.ledger.get(call) {
            assert_eq!(*before, key, "the request of {call} is repeated with another key");
        } else {
            assert!(self.keys.insert(key.clone()), "two calls have the key {key}");
            self.ledger.insert(call.clone(), key);
        }
    }

    /// The snapshot with which an activation begins. Unless `settled` is believed, every guest is wanted again.
    pub(crate) fn stored(&self, believe_settled: bool) -> Snapshot {
        let decode = |(name, text): (&CallName, &String)| (name.clone(), OpenCall::decode(text).unwrap());
        Snapshot {
            position: Position(self.events.len() as u64),
            stamp: self.stamp,
            paused: self.paused,
            settled: self.settled && believe_settled,
            options: self.options.clone(),
            attributes: self.attributes.clone(),
            open: self.open.iter().map(decode).collect(),
        }
    }

    /// When the world acts next.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.plans.iter().map(|(at, _)| *at).min()
    }

    /// The number of times that this call was reopened.
    pub(crate) fn reopened(&self, call: u32) -> usize {
        let is_it = |data: &EventData| matches!(data, EventData::ExecutionReopened { ordinal } if *ordinal == call);
        self.events.iter().filter(|event| is_it(&event.data)).count()
    }

    /// How the execution ended, or none if it is still open.
    pub(crate) fn end(&self) -> Option<End> {
        match &self.events.last().filter(|_| self.ended)?.data {
            EventData::ExecutionCompleted { output } => Some(End::Completed(output.clone())),
            EventData::ExecutionFailed { failure } => Some(End::Failed(failure.clone())),
            EventData::ExecutionCancelled { failure } => Some(End::Cancelled(failure.clone())),
            other => panic!("{other:?} is no end"),
        }
    }
}
