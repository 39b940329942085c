//! Builds the batch that makes an execution's changes durable.

use std::collections::BTreeMap;

use cerebelum_history::{
    ApprovalEdge, Changes, ChildResult, ChildStart, End, Event, EventData, Execution, ExecutionId, ExecutionOptions,
    Failure, Identity, Json, Message, Position, RUN_PACE_MS, RUNS_UNPACED_MAX, kind, planted,
};
use cerebelum_store::{
    ApprovalChange, ApprovalState, Batch, CallRow, Child, Chunk, Command, ExecutionRow, LogLine, Parent, Progress,
    State,
};

use crate::activation::Activation;
use crate::activation_error::ActivationError;
use crate::commit::InFlight;
use crate::restore;
use crate::start_command::{StartCommand, chunk, pieces, text_of};

impl Activation {
    /// Submits all changes to the committer. When `releases`, the same batch gives the claim back.
    pub(crate) async fn write(&mut self, releases: bool) -> Result<(), ActivationError> {
        let room = self.node.room.to_write(self.execution.unwritten_bytes()).await;
        let changes = self.execution.take_changes();
        let rewritten = self.without_values(&changes.valueless).await?;
        let (lsn, position) = (changes.lsn, self.execution.position());
        let sent_boot_ms = self.node.clock.boot_ms();
        self.held_since_ms = None;
        let batch = Batch { rewritten, ..self.batch(changes, releases) };
        let due = batch.head.due.filter(|_| releases);
        let continues = batch.next_run.is_some();
        let appended = self.node.appends.submit((batch, room));
        let wake = self.node.clone();
        let answer = async move {
            let answer = appended.await;
            due.inspect(|due| wake.wake.expect(*due));
            answer
        };
        let answer = Box::pin(answer);
        self.in_flight = Some(InFlight { answer, lsn, position, releases, continues, sent_boot_ms });
        Ok(())
    }

    fn batch(&mut self, changes: Changes, releases: bool) -> Batch {
        let after = self.stored;
        let retried = changes.events.iter().filter(|event| matches!(event.data, EventData::StepRetried { .. }));
        self.node.metrics.retries.add(retried.count() as u64);
        let end = self.execution.end().cloned();
        let mut messages = self.farewells(end.as_ref());
        if planted("child-end-not-in-batch") {
            for (id, message) in messages.drain(..) {
                let (store, key) =
                    (self.node.store.clone(), cerebelum_store::ExecutionKey { tenant: self.key.tenant, id });
                self.node
                    .runtime
                    .spawn(Box::pin(async move { drop(store.command(&key, Command::Send(message)).await) }));
            }
        }
        let at = self.execution.stamp();
        let cancel = Json::of(&Message::Cancel { at }).to_string();
        messages.extend(changes.orphans.into_iter().map(|orphan| (orphan, cancel.clone())));
        let children = changes.children.into_iter().map(|child| self.child(child)).collect();
        let head = self.head_now();
        let (head, next_run) = match end {
            Some(End::Continued(input)) => self.next_run(head, input),
            _ => (head, None),
        };
        let is_changed = head.attributes != self.head.attributes && after > Position(0);
        let attributes_before = is_changed.then(|| self.head.attributes.clone());
        let mut chunks = Vec::new();
        for ((first, last), events) in pieces(after.next(), &changes.events) {
            self.chunk_index.add((first, last), events);
            chunks.push(Chunk { first, last, events: Event::encode(events) });
        }
        self.head = head.clone();
        Batch {
            key: self.key.clone(),
            incarnation: self.incarnation,
            begins: after == Position(0),
            attributes_before,
            head,
            after,
            chunks,
            rewritten: Vec::new(),
            opened: changes.opened.into_iter().map(|(name, state)| CallRow { name, state }).collect(),
            closed: changes.closed,
            approvals: changes.approvals.into_iter().map(approval).collect(),
            consumed: changes.consumed,
            seen: changes.seen,
            children,
            messages,
            logs: changes.logs.into_iter().map(log_line).collect(),
            progress: changes
                .progress
                .into_iter()
                .map(|(scope, percent, message)| Progress { scope, percent, message })
                .collect(),
            next_run,
            release: releases,
        }
    }

    /// The row as it is after the changes taken so far.
    fn head_now(&self) -> ExecutionRow {
        let execution = &self.execution;
        let (state, status) = match execution.end() {
            Some(End::Completed(_)) => (State::Completed, "completed"),
            Some(End::Failed(_)) => (State::Failed, "failed"),
            Some(End::Cancelled(_)) => (State::Cancelled, "cancelled"),
            Some(End::Continued(_)) => (State::Open, "running"),
            None if execution.is_paused() => (State::Open, "paused"),
            None if execution.options().starts_at.is_some() => (State::Open, "waiting"),
            None => (State::Open, execution.status_word()),
        };
        ExecutionRow {
            state,
            paused: execution.is_paused(),
            parked: None,
            settled: execution.is_settled() && !self.guests.any_running(),
            position: execution.position(),
            stamp: execution.stamp(),
            due: execution.due(),
            status: status.to_owned(),
            attributes: text_of(execution.attributes()),
            options: text_of(execution.options()),
            ended_at: (state != State::Open).then(|| execution.stamp()),
            open_calls: u32::try_from(execution.open().len()).ok(),
            ..self.head.clone()
        }
    }

    /// After a continue-as-new: a new history under the same id, which any node may claim.
    fn next_run(&self, head: ExecutionRow, input: Json) -> (ExecutionRow, Option<Chunk>) {
        let identity = Identity { run: head.run + 1, ..restore::identity(&head) };
        let mut options = self.execution.options().of_next_run();
        // A chain of runs that does nothing else must not keep the engine busy.
        options.starts_at = (head.run >= RUNS_UNPACED_MAX).then(|| head.stamp.plus(RUN_PACE_MS));
        let mut next = Execution::start(identity, input, options.clone(), head.stamp);
        let first = chunk(Position(1), &next.take_changes().events);
        let head = ExecutionRow {
            run: head.run + 1,
            position: Position(1),
            settled: options.starts_at.is_some(),
            due: [options.starts_at, options.deadline, options.cancel_until].into_iter().flatten().min(),
            options: text_of(&options),
            open_calls: Some(0),
            ..head
        };
        (head, first)
    }

    /// The message about the end to a parent that waits for it.
    fn farewells(&self, end: Option<&End>) -> Vec<(ExecutionId, String)> {
        let Some(parent) = self.head.parent.as_ref().filter(|parent| parent.awaited) else { return Vec::new() };
        let result = match end {
            Some(End::Completed(output)) => ChildResult::Completed(output.clone()),
            Some(End::Failed(failure) | End::Cancelled(failure)) => ChildResult::Failed(failure.clone()),
            Some(End::Continued(_)) | None => return Vec::new(),
        };
        let message = Message::Child { run: parent.run, call: parent.call.clone(), id: self.key.id.clone(), result };
        vec![(parent.id.clone(), Json::of(&message).to_string())]
    }

    fn child(&mut self, start: ChildStart) -> Child {
        let target = self.targets.remove(&start.call).unwrap_or_default();
        let own_component = self.head.workflow.split('/').next().unwrap_or_default();
        let named = &start.workflow.workflow;
        let workflow = if named.contains('/') { named.clone() } else { format!("{own_component}/{named}") };
        let parent =
            Parent { id: self.key.id.clone(), run: self.head.run, call: start.call.clone(), awaited: start.awaited };
        let beginning = StartCommand {
            tenant: self.key.tenant,
            id: start.id.clone(),
            workflow,
            digest: target.component.unwrap_or_else(|| self.execution.component(&start.call.scope).clone()),
            input: start.workflow.input,
            attributes: BTreeMap::new(),
            options: ExecutionOptions {
                cancel_grace_ms: target.cancel_grace_ms,
                depth: self.execution.options().depth + 1,
                ..ExecutionOptions::default()
            },
            // After the restore of a backup the same call starts the same child, so its effects have the same keys.
            seed: self.head.seed.child(parent.run, &parent.call, &start.id),
            parent: Some(parent),
        };
        let say = |result| {
            Json::of(&Message::Child { run: self.head.run, call: start.call.clone(), id: start.id.clone(), result })
                .to_string()
        };
        let taken = format!("the execution id `{}` is taken by another execution", start.id);
        Child {
            new: beginning.rows(self.execution.stamp()),
            accepted: (!start.awaited).then(|| say(ChildResult::Accepted(start.id.clone()))),
            refused: say(ChildResult::Failed(Failure::new(kind::CONFLICT, taken))),
        }
    }
}

/// The batch that only parks an execution, regardless of the state of its history.
pub(crate) fn parking(
    incarnation: cerebelum_store::Incarnation,
    head: &ExecutionRow,
    after: Position,
    reason: String,
) -> Batch {
    let head = ExecutionRow {
        parked: Some(reason),
        status: "parked".to_owned(),
        position: after,
        settled: false,
        ..head.clone()
    };
    Batch { release: true, ..Batch::of(incarnation, head) }
}

fn approval(edge: ApprovalEdge) -> ApprovalChange {
    match edge {
        ApprovalEdge::Opened { id, call, request, until } => {
            ApprovalChange::Open { id, call, request: Json::of(&request).to_string(), deadline: until }
        }
        ApprovalEdge::TimedOut(id) => ApprovalChange::Close { id, to: ApprovalState::TimedOut },
        ApprovalEdge::Withdrawn(id) => ApprovalChange::Close { id, to: ApprovalState::Withdrawn },
    }
}

fn log_line(entry: cerebelum_history::LogEntry) -> LogLine {
    let cerebelum_history::LogEntry { scope, attempt, place, number, at, level, text } = entry;
    LogLine { scope, attempt, place, number, at, level, text }
}
