//! The requests of guests. Each one is matched with the journal or recorded as new.

use super::{Action, ApprovalEdge, End, Execution, ExecutionOptions, Identity, LogEntry, Moment, Target};
use crate::attributes::{attributes_bytes, check_room};
use crate::event::{Cause, EventData};
use crate::journal::NonDeterminism;
use crate::limits::{
    APPROVAL_BYTES_MAX, CHILD_DEPTH_MAX, FLAT_BYTES, HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, OPEN_CALL_BYTES_MAX,
    OPEN_CALLS_MAX, OPEN_CHILDREN_MAX, ROUND_BYTES_MAX, RUN_LOG_BYTES_MAX, STEP_DEPTH_MAX,
};
use crate::open::{Attempts, CallPhase, OpenPoll, OpenStep, PinnedStep};
use crate::{Call, CallName, ChildStart, Digest, ExecutionId, Failure, Parent, Request, Scope, kind, planted};

impl Execution {
    /// The name that has to be looked up for [`Execution::request`], if this request is new and has one, and whether it
    /// names a step rather than a workflow.
    #[must_use]
    pub fn needs_target<'r>(&self, scope: &Scope, request: &'r Request) -> Option<(&'r str, bool)> {
        let Request::Call(ordinal, _) = request else { return None };
        if self.journals.get(scope).is_none_or(|journal| journal.records(*ordinal)) {
            return None;
        }
        match request {
            Request::Call(_, Call::Step(call, _) | Call::Poll(call, _)) => Some((&call.step, true)),
            Request::Call(_, Call::RunWorkflow(call) | Call::StartWorkflow(call)) => Some((&call.workflow, false)),
            _ => None,
        }
    }

    /// Handles one request of a guest. `target` is the target of the name that [`Execution::needs_target`] returned, or
    /// why it does not exist.
    ///
    /// # Errors
    /// If the request is not the recorded one.
    pub fn request(
        &mut self,
        scope: &Scope,
        request: Request,
        target: Option<Result<Target, Failure>>,
        now: Moment,
    ) -> Result<(), NonDeterminism> {
        if self.end.is_some() {
            return Ok(());
        }
        let Some(journal) = self.journals.get_mut(scope) else { return Ok(()) };
        if journal.repeats(scope.as_str(), &request)? {
            if let Request::Call(ordinal, Call::Fetch(request)) = request {
                self.fetch_again(CallName { scope: scope.clone(), ordinal }, request);
            }
            return Ok(());
        }
        let replaying = journal.is_replaying();
        if let Some(failure) = self.limit(scope, &request) {
            self.finish(End::Failed(failure), now);
            return Ok(());
        }
        let Some(journal) = self.journals.get_mut(scope) else { return Ok(()) };
        match request {
            Request::Call(ordinal, call) => {
                let name = CallName { scope: scope.clone(), ordinal };
                match self.refusal(scope, &call) {
                    None => self.issue(name.clone(), call, target, now),
                    Some(failure) => {
                        self.record(now.at, scope, EventData::CallRefused { ordinal, digest: call.digest(), failure });
                    }
                }
                if scope.is_root() && std::mem::take(&mut self.options.cancel_owed) {
                    self.cancel_call(&name, Cause::Requested, now);
                }
            }
            Request::Drop(ordinal) => {
                let has_come = journal.drops(ordinal);
                self.follow(scope);
                if !has_come {
                    self.cancel_call(&CallName { scope: scope.clone(), ordinal }, Cause::Dropped, now);
                }
            }
            Request::Log(level, text) => {
                journal.lines += 1;
                let (attempt, place, number) = (journal.attempt, journal.told, journal.lines);
                let text = if replaying { None } else { self.log_text(text) };
                if let Some(text) = text {
                    let line = LogEntry { scope: scope.clone(), attempt, place, number, at: now.at, level, text };
                    self.lsn += 1;
                    self.changes.logs.push(line);
                }
            }
            Request::Progress(percent, message) => {
                if !replaying {
                    self.lsn += 1;
                    self.loose_bytes += message.len() as u64 + FLAT_BYTES;
                    let before = self.progress.insert(scope.clone(), (percent.min(100), message));
                    self.loose_bytes -= before.map_or(0, |(_, message)| message.len() as u64 + FLAT_BYTES);
                }
            }
            Request::SetAttribute(ordinal, name, value) => {
                self.attributes.insert(name.clone(), value.clone());
                self.attributes_bytes = attributes_bytes(&self.attributes);
                self.record(now.at, scope, EventData::AttributeSet { ordinal, name, value });
            }
        }
        Ok(())
    }

    /// The log line, if the run still has room for it. The first line without room is replaced by a note.
    fn log_text(&mut self, text: String) -> Option<String> {
        let before = self.options.log_bytes;
        if before > RUN_LOG_BYTES_MAX {
            return None;
        }
        let bytes = text.len() as u64 + FLAT_BYTES;
        self.options.log_bytes = before + bytes;
        self.loose_bytes += bytes;
        let note = || format!("this run has logged {RUN_LOG_BYTES_MAX} bytes: all further lines are dropped");
        Some(if self.options.log_bytes > RUN_LOG_BYTES_MAX { note() } else { text })
    }

    /// The failure of a limit that ends the whole execution, because the request has no call that could be told of it.
    fn limit(&self, scope: &Scope, request: &Request) -> Option<Failure> {
        match request {
            Request::Drop(_) | Request::Log(..) | Request::Progress(..) => return None,
            Request::Call(_, Call::ContinueAsNew { .. }) => return None,
            Request::SetAttribute(_, name, value) => {
                if let Err(why) = check_room((&self.attributes, self.attributes_bytes), name, value) {
                    return Some(Failure::new(kind::ATTRIBUTE_LIMIT, why));
                }
            }
            Request::Call(..) => {}
        }
        let round_bytes = scope.poll().and_then(|poll| self.open.get(&poll)).map_or(0, |call| call.weight());
        let is_full = self.journal_mark(scope) >= HISTORY_EVENTS_MAX
            || self.history_bytes >= HISTORY_BYTES_MAX
            || round_bytes >= ROUND_BYTES_MAX;
        is_full.then(|| self.overfull())
    }

    /// Why a limit forbids this call, which then fails at once.
    fn refusal(&self, scope: &Scope, call: &Call) -> Option<Failure> {
        let bytes = self.open_bytes + call.weight() as u64 + FLAT_BYTES;
        let why = match call {
            Call::ContinueAsNew { .. } => return None,
            _ if self.open.len() >= OPEN_CALLS_MAX => {
                format!("{OPEN_CALLS_MAX} calls are open in this execution: await some of them first")
            }
            _ if bytes > OPEN_CALL_BYTES_MAX => format!(
                "the open calls of this execution would hold {bytes} bytes of arguments where {OPEN_CALL_BYTES_MAX} are the limit: await some of them first, or pass references"
            ),
            Call::Step(..) | Call::Poll(..) if scope.depth() >= STEP_DEPTH_MAX => {
                format!("steps nest at most {STEP_DEPTH_MAX} deep: use a loop, or a child workflow")
            }
            Call::RunWorkflow(_) | Call::StartWorkflow(_) if self.options.depth >= CHILD_DEPTH_MAX => {
                format!("children nest at most {CHILD_DEPTH_MAX} deep: use a loop, or continue_as_new")
            }
            Call::RunWorkflow(_) if self.open_children >= OPEN_CHILDREN_MAX => {
                format!("{OPEN_CHILDREN_MAX} children are awaited in this execution: await some of them first")
            }
            Call::Approval(request) if request.weight() > APPROVAL_BYTES_MAX => format!(
                "a question to a person holds at most {APPROVAL_BYTES_MAX} bytes, this one {}: pass a reference",
                request.weight()
            ),
            _ => return None,
        };
        Some(Failure::new(kind::CALL_LIMIT, why))
    }

    fn issue(&mut self, name: CallName, call: Call, target: Option<Result<Target, Failure>>, now: Moment) {
        let ordinal = name.ordinal;
        match call {
            Call::Sleep { duration_ms } => {
                let since = self.record(now.at, &name.scope, EventData::SleepStarted { ordinal, duration_ms });
                self.open_call(name, since, CallPhase::Sleep { until: since.plus(duration_ms) });
            }
            Call::Step(call, options) => self.issue_step(name, (call, options), target, now),
            Call::Poll(check, policy) => self.issue_poll(name, (check, policy), target, now),
            Call::Approval(request) => {
                let id = self.approval_id(&name);
                let data = EventData::ApprovalRequested { ordinal, id: id.clone(), request: request.clone() };
                let since = self.record(now.at, &name.scope, data);
                let until = request.timeout_ms.map(|timeout| since.plus(timeout));
                let title = request.title.clone();
                self.changes.approvals.push(ApprovalEdge::Opened {
                    id: id.clone(),
                    call: name.clone(),
                    request,
                    until,
                });
                self.open_call(name, since, CallPhase::Approval { id, title, until });
            }
            Call::Signal { name: signal, timeout_ms } => {
                let data = EventData::SignalAwaited { ordinal, name: signal.clone(), timeout_ms };
                let since = self.record(now.at, &name.scope, data);
                let until = timeout_ms.map(|timeout| since.plus(timeout));
                self.open_call(name, since, CallPhase::Signal { name: signal, until });
            }
            Call::Fetch(request) => {
                let (method, url, digest) = (request.method.clone(), request.url.clone(), request.digest());
                let since = self.record(
                    now.at,
                    &name.scope,
                    EventData::FetchStarted { ordinal, method, url: url.clone(), digest },
                );
                self.open_call(name.clone(), since, CallPhase::Fetch { url });
                self.fetch_again(name, request);
            }
            Call::RunWorkflow(call) => self.issue_child(name, call, true, (target, now)),
            Call::StartWorkflow(call) => self.issue_child(name, call, false, (target, now)),
            Call::ContinueAsNew { input } if name.scope.is_root() => self.finish(End::Continued(input), now),
            // The sandbox refuses this call to steps. A step that makes it all the same waits for nothing.
            Call::ContinueAsNew { .. } => {}
        }
    }

    fn issue_step(
        &mut self,
        name: CallName,
        (call, options): (crate::StepCall, crate::StepOptions),
        target: Option<Result<Target, Failure>>,
        now: Moment,
    ) {
        let ordinal = name.ordinal;
        let (component, declared, missing) = split(target);
        let data = EventData::StepStarted { ordinal, call: call.clone(), component: component.clone() };
        let since = self.record(now.at, &name.scope, data);
        if let Some(failure) = missing {
            self.record(now.at, &name.scope, EventData::StepFailed { ordinal, failure, attempt: 0 });
            return;
        }
        let options = options.or(&declared);
        let deadline = options.deadline_ms.map(|deadline| since.plus(deadline));
        let attempts = Attempts { attempt: 1, began: since, journal: self.journal_mark(&name.scope), retry: None };
        let step = PinnedStep::new(call, component, options);
        self.open_call(
            name,
            since,
            CallPhase::Step(Box::new(OpenStep { step, attempts, deadline, values_after: None, value_bytes: 0 })),
        );
    }

    fn issue_poll(
        &mut self,
        name: CallName,
        (check, policy): (crate::StepCall, crate::PollPolicy),
        target: Option<Result<Target, Failure>>,
        now: Moment,
    ) {
        let ordinal = name.ordinal;
        let (component, declared, missing) = split(target);
        let data = EventData::PollStarted {
            ordinal,
            check: check.clone(),
            policy: policy.clone(),
            component: component.clone(),
        };
        let since = self.record(now.at, &name.scope, data);
        if let Some(failure) = missing {
            self.record(now.at, &name.scope, EventData::PollFailed { ordinal, failure, attempts: 0 });
            return;
        }
        let step = PinnedStep::new(check, component, declared);
        // Inside another poll's round, the journal is that of the outer poll. The rounds of this poll begin with an
        // empty journal.
        let journal = if name.scope.poll().is_some() { self.journal_mark(&name.scope) } else { 0 };
        let attempts = Attempts { attempt: 1, began: since, journal, retry: None };
        let (issued, round, next, last) = (self.position.0, 1, None, None);
        let poll = OpenPoll { step, policy, issued, round, attempts, next, last, journal: Vec::new(), durable: 0 };
        self.open_call(name, since, CallPhase::Poll(Box::new(poll)));
    }

    fn issue_child(
        &mut self,
        name: CallName,
        call: crate::WorkflowCall,
        awaited: bool,
        (target, now): (Option<Result<Target, Failure>>, Moment),
    ) {
        let ordinal = name.ordinal;
        let id = call.id.clone().unwrap_or_else(|| self.child_id(&name, awaited));
        let data = EventData::ChildStarted { ordinal, call: call.clone(), id: id.clone(), awaited };
        let since = self.record(now.at, &name.scope, data);
        let target = match target {
            Some(Err(failure)) => {
                self.record(now.at, &name.scope, EventData::ChildFailed { ordinal, failure });
                return;
            }
            found => found.and_then(Result::ok).unwrap_or_default(),
        };
        let child = self.child(&name, (call, id.clone()), awaited, target);
        self.changes.children.push(child);
        self.open_call(name, since, CallPhase::Child { id, awaited });
    }

    fn child(
        &self,
        name: &CallName,
        (workflow, id): (crate::WorkflowCall, ExecutionId),
        awaited: bool,
        target: Target,
    ) -> ChildStart {
        let Identity { id: own_id, workflow: own, seed, run, .. } = &self.identity;
        let named = match &workflow.workflow {
            of_component if of_component.contains('/') => of_component.clone(),
            own_workflow => format!("{}/{own_workflow}", own.split('/').next().unwrap_or_default()),
        };
        ChildStart {
            identity: Identity {
                workflow: named,
                digest: target.component.unwrap_or_else(|| self.component(&name.scope).clone()),
                // After the restore of a backup the same call of a workflow starts the same child, so its effects have the
                // same keys. The id of a child that a step awaits has a position in it, and may differ then.
                seed: seed.child(*run, name, &id),
                id,
                run: 1,
            },
            options: ExecutionOptions {
                cancel_grace_ms: target.cancel_grace_ms,
                depth: self.options.depth + 1,
                ..ExecutionOptions::default()
            },
            parent: Parent { id: own_id.clone(), run: *run, call: name.clone(), awaited },
            workflow,
        }
    }

    /// The id of a question. It is unique among all questions, because a reopened call asks a new one. `@` is not
    /// allowed in the id of an execution.
    fn approval_id(&self, name: &CallName) -> String {
        let within = if name.scope.poll().is_some() { format!("-{name}") } else { String::new() };
        format!("{}@{}{}{within}", self.identity.id, self.run_prefix(), self.place(&name.scope))
    }

    /// The place of the next event of this scope. It differs for every recorded event.
    fn place(&self, scope: &Scope) -> String {
        let position = self.position.next().0;
        match scope.poll() {
            None => position.to_string(),
            Some(_) => format!("{position}-{}", self.journal_mark(scope) + 1),
        }
    }

    /// The id of a child. A child that is only started always has the same id, so that a retry does not start it twice.
    /// An awaited child was cancelled by the time its call is issued again (the step is retried, or the call is
    /// reopened), so that the next one needs another id.
    fn child_id(&self, name: &CallName, awaited: bool) -> ExecutionId {
        let first = || name.scope.is_root() && self.journals.get(&name.scope).is_some_and(|journal| !journal.reopened);
        let issue = if awaited && !first() { format!("-{}", self.place(&name.scope)) } else { String::new() };
        let text = format!("{}.{}{name}{issue}", self.identity.id, self.run_prefix()).replace('#', "-");
        let short = || Digest::of(text.as_bytes()).as_str().parse();
        text.parse().or_else(|_| short()).expect("64 hex digits are an execution id")
    }

    /// The prefix of generated names. It is empty in the first run, so that these names stay short; later runs add the
    /// run's number.
    fn run_prefix(&self) -> String {
        if self.identity.run == 1 { String::new() } else { format!("r{}-", self.identity.run) }
    }

    /// Sends a request that has no response yet: for the first time, or again after a crash with the same key.
    fn fetch_again(&mut self, call: CallName, request: crate::HttpRequest) {
        self.weigh_request(&call, request.weight() as u64);
        if let Some(open) = self.open.get(&call) {
            let position = u32::try_from(self.position.0).unwrap_or(u32::MAX);
            let ordinal = if planted("key-by-position") { position } else { call.ordinal };
            let named = CallName { ordinal, ..call.clone() };
            let (key, opened) = (self.identity.seed.call_key(self.identity.run, &named), open.lsn);
            self.actions.push_back(Action::Fetch { call, opened, request, key, lsn: self.lsn });
        }
    }

    /// Closes an open call without an outcome of its own, together with everything that it started.
    pub(super) fn cancel_call(&mut self, name: &CallName, cause: Cause, now: Moment) {
        let Some(call) = self.close_call(name) else { return };
        match &call.phase {
            CallPhase::Step(_) => self.stop(&name.step_scope(), now),
            CallPhase::Poll(open) => self.stop(&name.round_scope(open.round), now),
            CallPhase::Approval { id, .. } => self.changes.approvals.push(ApprovalEdge::Withdrawn(id.clone())),
            CallPhase::Child { id, awaited: true } => self.changes.orphans.push(id.clone()),
            CallPhase::Child { awaited: false, .. }
            | CallPhase::Sleep { .. }
            | CallPhase::Signal { .. }
            | CallPhase::Fetch { .. } => {}
        }
        self.record(now.at, &name.scope, EventData::CallCancelled { ordinal: name.ordinal, cause });
        if let CallPhase::Step(open) = &call.phase {
            self.drop_values(name, open);
        }
    }
}

/// The parts of a looked-up target: its component, its declared options, and the failure if it does not exist.
fn split(target: Option<Result<Target, Failure>>) -> (Option<Digest>, crate::StepOptions, Option<Failure>) {
    match target {
        Some(Ok(target)) => (target.component, target.options, None),
        Some(Err(failure)) => (None, crate::StepOptions::default(), Some(failure)),
        None => (None, crate::StepOptions::default(), None),
    }
}
