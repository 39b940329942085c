//! All executions of a test, their common clock, and the agenda of messages.

use std::collections::BTreeMap;
use std::rc::Rc;

use cerebelum_history::{
    ApprovalEdge, Changes, ChildStart, Digest, End, ExecutionId, ExecutionOptions, Failure, HttpRequest, HttpResponse,
    Json, Message, Moment, Parent, StepOptions, Target, Timestamp, kind, waiting_on,
};
use http::Request;

use super::guest::Body;
use super::local_execution::{Around, LocalExecution};
use super::script::{Script, Verdict};
use crate::error::Error;
use crate::host::native::failure_of;
use crate::registry::{Role, registrations};

/// A test whose clock passes this many years waits for something that never comes.
const YEARS_MAX: u64 = 50;

pub(super) struct World {
    setting: Setting,
    seats: BTreeMap<ExecutionId, LocalExecution>,
    /// Messages by the time at which they arrive, and among those in the order of sending.
    agenda: BTreeMap<(Timestamp, i64), (ExecutionId, Message)>,
    sent: i64,
    began: Timestamp,
    hibernating: bool,
}

/// The state that all executions of the world share.
struct Setting {
    script: Script,
    now: Timestamp,
}

impl World {
    pub(super) fn new(script: Script, now: Timestamp, hibernating: bool) -> Self {
        let setting = Setting { script, now };
        Self { setting, seats: BTreeMap::new(), agenda: BTreeMap::new(), sent: 0, began: now, hibernating }
    }

    pub(super) fn seat(&self, id: &str) -> Option<&LocalExecution> {
        self.seats.iter().find_map(|(of, seat)| (of.as_str() == id).then_some(seat))
    }

    /// The ids of all executions.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.seats.keys().map(ExecutionId::as_str)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.setting.now
    }

    /// Starts the execution under test, with the messages of its script.
    pub(super) fn start(&mut self, id: &ExecutionId, workflow: &str, input: Json) {
        let declared = self.setting.target(true, workflow).ok();
        let options = ExecutionOptions {
            cancel_grace_ms: declared.and_then(|target| target.cancel_grace_ms),
            ..ExecutionOptions::default()
        };
        self.open(id, workflow, (input, options), None);
        for (after_ms, message) in std::mem::take(&mut self.setting.script.messages) {
            self.send(self.now().plus(after_ms), id, message);
        }
    }

    fn open(&mut self, id: &ExecutionId, workflow: &str, begin: (Json, ExecutionOptions), parent: Option<Parent>) {
        let (mut seat, changes) = LocalExecution::new(id, workflow, begin, self.setting.moment());
        seat.parent = parent;
        self.seats.insert(id.clone(), seat);
        self.apply(id, changes);
    }

    fn send(&mut self, at: Timestamp, to: &ExecutionId, message: Message) {
        self.sent += 1;
        self.agenda.insert((at, self.sent), (to.clone(), message));
    }

    /// Moves everything that can move, and advances the clock when nothing can, until this execution has ended or
    /// nothing can ever move again.
    pub(super) fn run_until_ended(&mut self, id: &ExecutionId) {
        loop {
            self.settle();
            let seat = &self.seats[id];
            if seat.execution.end().is_some() || seat.stuck.is_some() {
                return;
            }
            let dues = self.seats.values().filter_map(|seat| seat.execution.due());
            let next = dues.chain(self.agenda.keys().map(|(at, _)| *at)).min();
            let years = next.map_or(0, |next| next.since(self.began) / (366 * 86_400_000));
            match next {
                Some(next) if years < YEARS_MAX => self.setting.now = next.max(self.now()),
                Some(_) => return self.give_up(id, format!("still runs after {YEARS_MAX} years")),
                None => {
                    let waiting = waiting_on(seat.execution.open());
                    let waits = waiting.iter().map(|waiting| format!("{} `{}`", waiting.kind, waiting.name));
                    let waits = waits.collect::<Vec<_>>().join(", ");
                    return self.give_up(id, format!("waits for {waits}, and nothing in this test brings that about"));
                }
            }
        }
    }

    fn give_up(&mut self, id: &ExecutionId, why: String) {
        if let Some(seat) = self.seats.get_mut(id) {
            seat.stuck = Some(Error::new("waiting", why).permanent());
        }
    }

    /// Moves everything that can move without time passing.
    fn settle(&mut self) {
        loop {
            let mut moved = self.receive_due();
            for id in self.seats.keys().cloned().collect::<Vec<_>>() {
                let Some(seat) = self.seats.get_mut(&id) else { continue };
                moved |= seat.advance(&mut self.setting);
                if seat.execution.has_changes() {
                    moved = true;
                    let changes = seat.execution.take_changes();
                    self.apply(&id, changes);
                }
                moved |= self.conclude(&id);
            }
            if !moved {
                break;
            }
        }
        if self.hibernating {
            self.seats.values_mut().for_each(LocalExecution::hibernate);
        }
    }

    fn receive_due(&mut self) -> bool {
        let mut moved = false;
        while let Some(((at, seq), (to, message))) = self.agenda.pop_first() {
            if at > self.now() {
                self.agenda.insert((at, seq), (to, message));
                break;
            }
            if let Some(seat) = self.seats.get_mut(&to) {
                seat.receive(seq, message, self.setting.moment());
                moved = true;
            }
        }
        moved
    }

    /// Does with a batch what a store would do: keeps it, and carries messages between executions.
    fn apply(&mut self, id: &ExecutionId, mut changes: Changes) {
        let Some(seat) = self.seats.get_mut(id) else { return };
        seat.keep(&mut changes);
        for edge in changes.approvals {
            if let ApprovalEdge::Opened { id: question, call, request, .. } = edge
                && let Some(decision) = self.setting.script.decide(id.as_str(), &request)
            {
                let at = self.now().plus(decision.after_ms);
                let by = decision.by;
                match decision.verdict {
                    Verdict::Approve(data) => {
                        let approval = cerebelum_history::Approval { data, by, comment: decision.comment };
                        self.send(at, id, Message::Approved { call, id: question, approval, cause: None });
                    }
                    Verdict::Reject(reason) => {
                        self.send(at, id, Message::Rejected { call, id: question, by, reason, cause: None })
                    }
                    Verdict::Silence => {}
                }
            }
        }
        for child in changes.children {
            self.start_child(child);
        }
        for orphan in changes.orphans {
            self.send(self.now(), &orphan, Message::Cancel { at: self.now() });
        }
    }

    fn start_child(&mut self, start: ChildStart) {
        let (accepted, refused) = (start.accepted(), start.refused());
        let ChildStart { identity, options, parent, workflow: call } = start;
        let to = parent.id.clone();
        match self.seats.get_mut(&identity.id) {
            Some(existing) if !existing.parent.as_ref().is_some_and(|other| other.is_same_call(&parent)) => {
                return self.send(self.now(), &to, refused);
            }
            // The same call again waits for the existing execution.
            Some(same) => same.is_reported = false,
            None => self.open(&identity.id, &call.workflow, (call.input, options), Some(parent)),
        }
        if let Some(accepted) = accepted {
            self.send(self.now(), &to, accepted);
        }
    }

    /// Goes on with the next run, or tells the parent the result. Returns whether anything moved.
    fn conclude(&mut self, id: &ExecutionId) -> bool {
        let Some(seat) = self.seats.get_mut(id) else { return false };
        let Some(end) = seat.execution.end().cloned() else { return false };
        if let End::Continued(input) = end {
            let changes = seat.continue_with(input, self.setting.moment());
            self.apply(id, changes);
            return true;
        }
        if std::mem::replace(&mut seat.is_reported, true) {
            return false;
        }
        let farewell =
            seat.parent.as_ref().and_then(|parent| Some((parent.id.clone(), parent.farewell(id, &end, None)?)));
        let Some((parent, message)) = farewell else { return false };
        self.send(self.now(), &parent, message);
        true
    }
}

impl Around for Setting {
    fn body(&self, is_workflow: bool, name: &str) -> Option<Body> {
        self.script.body(is_workflow, name).or_else(|| {
            let own = registrations().into_iter().find(|r| r.is_workflow() == is_workflow && r.name == name)?;
            Some(Rc::new(own.body()))
        })
    }

    fn target(&self, is_workflow: bool, name: &str) -> Result<Target, Failure> {
        if self.body(is_workflow, name).is_none() {
            let noun = if is_workflow { "workflow" } else { "step" };
            return Err(Failure::new(kind::NOT_FOUND, format!("there is no {noun} `{name}` in this test")));
        }
        // A step or workflow that a closure replaces keeps its declared options.
        let own = registrations().into_iter().find(|r| r.is_workflow() == is_workflow && r.name == name);
        let (options, cancel_grace_ms) = match own.map(|r| &r.role) {
            Some(Role::Step(options)) => (options.clone(), None),
            Some(Role::Workflow { cancel_grace_ms }) => (crate::step::StepOptions::default(), *cancel_grace_ms),
            None => (crate::step::StepOptions::default(), None),
        };
        let component = name.split_once('/').map(|(component, _)| Digest::from_text(component));
        Ok(Target { component, options: StepOptions::from(options), cancel_grace_ms })
    }

    fn fetch(&mut self, request: HttpRequest, key: &str) -> Result<HttpResponse, Failure> {
        let Some(server) = &mut self.script.http else {
            let why = format!("nothing in this test answers {} {}: see `Local::on_http`", request.method, request.url);
            return Err(Failure::new(kind::HTTP_CONNECT, why));
        };
        let answer = server(outgoing(request, key)?).map_err(failure_of)?;
        let (parts, body) = answer.into_parts();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Ok(HttpResponse { status: parts.status.as_u16(), headers, body })
    }

    fn moment(&self) -> Moment {
        // A random number in the middle means no jitter.
        Moment { at: self.now, chance: 0.5 }
    }
}

/// A request as the engine would send it.
fn outgoing(request: HttpRequest, key: &str) -> Result<Request<Vec<u8>>, Failure> {
    let mut built = Request::builder().method(request.method.as_str()).uri(request.url);
    for (name, value) in request.headers {
        built = built.header(name, value);
    }
    if built.headers_ref().is_some_and(|headers| !headers.contains_key("idempotency-key")) {
        built = built.header("idempotency-key", key);
    }
    built.body(request.body).map_err(|e| Failure::new(kind::INVALID_ARGUMENT, e.to_string()))
}
