//! One execution in a test: its state machine, its events, its guests.

use std::collections::BTreeMap;

use cerebelum_history::{
    Action, Changes, Delivery, Digest, Event, Execution, ExecutionId, ExecutionOptions, HttpRequest, Identity, Json,
    LogEntry, Message, Moment, NonDeterminism, Parent, Scope, Seed, Target, Turn,
};

use super::guest::{Body, Guest};
use crate::error::Error;

/// The name and digest under which the crate under test runs as a component.
pub(super) const OWN: &str = "local";

/// The services that an execution asks of the test around it.
pub(super) trait Around {
    /// The function that runs under this name, `component/name` for another component.
    fn body(&self, is_workflow: bool, name: &str) -> Option<Body>;
    /// The workflow or step that a name refers to.
    fn target(&self, is_workflow: bool, name: &str) -> Result<Target, cerebelum_history::Failure>;
    /// The answer to an HTTP request.
    fn fetch(
        &mut self,
        request: HttpRequest,
        key: &str,
    ) -> Result<cerebelum_history::HttpResponse, cerebelum_history::Failure>;
    /// The present moment.
    fn moment(&self) -> Moment;
}

pub(super) struct LocalExecution {
    pub(super) execution: Execution,
    /// The name, with the component if that is another one.
    pub(super) workflow: String,
    /// The events of every run.
    pub(super) runs: Vec<Vec<Event>>,
    pub(super) parent: Option<Parent>,
    pub(super) is_reported: bool,
    pub(super) progress: BTreeMap<Scope, (u8, String)>,
    pub(super) logs: Vec<LogEntry>,
    /// The error because of which the execution cannot go on.
    pub(super) stuck: Option<Error>,
    /// Signals that were not delivered yet, by number.
    pub(super) signals: BTreeMap<i64, Message>,
    guests: BTreeMap<Scope, Guest>,
}

impl LocalExecution {
    pub(super) fn new(
        id: &ExecutionId,
        workflow: &str,
        (input, options): (Json, ExecutionOptions),
        now: Moment,
    ) -> (Self, Changes) {
        let identity = Identity {
            id: id.clone(),
            workflow: if workflow.contains('/') { workflow.to_owned() } else { format!("{OWN}/{workflow}") },
            digest: Digest::from_text(workflow.split_once('/').map_or(OWN, |(component, _)| component)),
            seed: seed_of(id),
            run: 1,
        };
        let mut execution = Execution::start(identity, input, options, now.at);
        let changes = execution.take_changes();
        let seat = Self {
            execution,
            workflow: workflow.to_owned(),
            runs: vec![Vec::new()],
            parent: None,
            is_reported: false,
            progress: BTreeMap::new(),
            logs: Vec::new(),
            stuck: None,
            signals: BTreeMap::new(),
            guests: BTreeMap::new(),
        };
        (seat, changes)
    }

    /// Goes on as a new run (L15): id, attributes, unread signals and started children stay, history begins anew.
    pub(super) fn continue_with(&mut self, input: Json, now: Moment) -> Changes {
        self.execution = self.execution.next_run(input, now.at);
        let changes = self.execution.take_changes();
        self.guests.clear();
        self.progress.clear();
        self.runs.push(Vec::new());
        for (seq, message) in self.signals.clone() {
            self.execution.receive(seq, true, message, now);
        }
        changes
    }

    pub(super) fn receive(&mut self, seq: i64, message: Message, now: Moment) {
        if matches!(message, Message::Signal { .. }) {
            self.signals.insert(seq, message.clone());
        }
        self.execution.receive(seq, false, message, now);
    }

    /// Moves as far as possible without time and without events that are not written yet. Returns whether anything
    /// moved.
    pub(super) fn advance(&mut self, world: &mut dyn Around) -> bool {
        if self.stuck.is_some() {
            return false;
        }
        match self.try_advance(world) {
            Ok(moved) => moved,
            Err(diverged) => {
                self.stuck = Some(Error::new("diverged", diverged.to_string()).permanent());
                self.guests.clear();
                false
            }
        }
    }

    fn try_advance(&mut self, world: &mut dyn Around) -> Result<bool, NonDeterminism> {
        self.execution.tick(world.moment());
        let mut moved = false;
        for scope in self.execution.wanted() {
            self.begin(&scope, world)?;
            moved = true;
        }
        for scope in self.guests.keys().cloned().collect::<Vec<_>>() {
            if let Some(delivery) = self.execution.next_delivery(&scope, world.moment())? {
                self.turn(&scope, Some(delivery), world)?;
                moved = true;
            }
        }
        for action in self.execution.take_actions() {
            moved = true;
            match action {
                Action::Stop(scope) => drop(self.guests.remove(&scope)),
                Action::Fetch { call, request, key, .. } => {
                    let answer = world.fetch(request, &key);
                    self.execution.fetched(&call, answer, world.moment());
                }
            }
        }
        if self.execution.end().is_some() {
            self.guests.clear();
        }
        Ok(moved)
    }

    fn begin(&mut self, scope: &Scope, world: &mut dyn Around) -> Result<(), NonDeterminism> {
        let stored = self.execution.journal_from(scope).map_or(&[][..], |from| {
            let from = usize::try_from(from.0 - 1).unwrap_or(usize::MAX);
            self.runs.last().and_then(|events| events.get(from..)).unwrap_or_default()
        });
        let Some(begin) = self.execution.begin(scope, stored) else { return Ok(()) };
        let (is_workflow, name) = match &begin.entry {
            cerebelum_history::Entry::Workflow(_) => (true, self.workflow.clone()),
            cerebelum_history::Entry::Step(name) => match self.execution.component(scope).as_str() {
                OWN => (false, name.clone()),
                component => (false, format!("{component}/{name}")),
            },
        };
        let body = world.body(is_workflow, &name).expect("what was started was found when it was");
        self.guests.insert(scope.clone(), Guest::new(begin, &body));
        self.turn(scope, None, world)
    }

    fn turn(
        &mut self,
        scope: &Scope,
        delivery: Option<Delivery>,
        world: &mut dyn Around,
    ) -> Result<(), NonDeterminism> {
        let Some(guest) = self.guests.get_mut(scope) else { return Ok(()) };
        let Turn { requests, end } = guest.turn(delivery);
        for request in requests {
            let named = self.execution.needs_target(scope, &request);
            let target = named.map(|(name, is_step)| world.target(!is_step, name));
            self.execution.request(scope, request, target, world.moment())?;
        }
        if let Some(result) = end {
            self.guests.remove(scope);
            self.execution.ended(scope, result, world.moment())?;
        }
        Ok(())
    }

    /// Drops all guests; they are rerun when there is something to deliver.
    pub(super) fn hibernate(&mut self) {
        for (scope, guest) in std::mem::take(&mut self.guests) {
            drop(guest);
            self.execution.forget(&scope);
        }
    }

    /// Records the changes, as a store would, except those that concern other executions.
    pub(super) fn keep(&mut self, changes: &mut Changes) {
        let events = self.runs.last_mut().expect("an execution has at least one run");
        events.append(&mut changes.events);
        for (scope, from, to) in changes.valueless.drain(..) {
            let (from, to) = (usize::try_from(from.0 - 1), usize::try_from(to.0));
            let range = from.unwrap_or(usize::MAX)..to.unwrap_or(usize::MAX).min(events.len());
            for event in events[range].iter_mut().filter(|event| event.scope == scope) {
                event.data = event.data.clone().without_values();
            }
        }
        for seq in changes.consumed.drain(..) {
            self.signals.remove(&seq);
        }
        self.logs.append(&mut changes.logs);
        self.progress.extend(changes.progress.drain(..).map(|(scope, percent, text)| (scope, (percent, text))));
        self.execution.acknowledge(changes.lsn, self.execution.position());
    }
}

/// Every execution of a test has a seed of its own, the same in every run of the test.
fn seed_of(id: &ExecutionId) -> Seed {
    let digest = Digest::of(id.as_str().as_bytes());
    let mut seed = [0; 32];
    seed.copy_from_slice(&digest.as_str().as_bytes()[..32]);
    Seed(seed)
}
