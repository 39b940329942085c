//! Builds the batch that makes an execution's changes durable.

use std::collections::BTreeMap;

use cerebelum_history::{
    ApprovalEdge, Changes, ChildStart, End, Event, EventData, ExecutionId, Json, Message, Position, Status, planted,
};
use cerebelum_store::{
    ApprovalChange, ApprovalState, Batch, CallRow, Child, Chunk, Command, ExecutionRow, LogLine, Progress, State,
};

use crate::activation::Activation;
use crate::activation_error::ActivationError;
use crate::commit::InFlight;
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
        self.node.metrics.retries.inc_by(retried.count() as u64);
        let end = self.execution.end().cloned();
        let mut messages: Vec<(ExecutionId, String)> = self.farewell(end.as_ref()).into_iter().collect();
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
        let state = match execution.end() {
            Some(End::Completed(_)) => State::Completed,
            Some(End::Failed(_)) => State::Failed,
            Some(End::Cancelled(_)) => State::Cancelled,
            Some(End::Continued(_)) | None => State::Open,
        };
        ExecutionRow {
            state,
            paused: execution.is_paused(),
            parked: None,
            settled: execution.is_settled() && !self.guests.any_running(),
            position: execution.position(),
            stamp: execution.stamp(),
            due: execution.due(),
            status: execution.status(),
            attributes: text_of(execution.attributes()),
            options: text_of(execution.options()),
            ended_at: (state != State::Open).then(|| execution.stamp()),
            open_calls: u32::try_from(execution.open().len()).ok(),
            ..self.head.clone()
        }
    }

    /// After a continue-as-new: a new history under the same id, which any node may claim.
    fn next_run(&self, head: ExecutionRow, input: Json) -> (ExecutionRow, Option<Chunk>) {
        let mut next = self.execution.next_run(input, head.stamp);
        let head = ExecutionRow {
            run: next.identity().run,
            position: next.position(),
            settled: next.is_settled(),
            due: next.due(),
            status: next.status(),
            options: text_of(next.options()),
            open_calls: Some(0),
            ..head
        };
        (head, chunk(Position(1), &next.take_changes().events))
    }

    /// The message about the end to a parent that waits for it.
    fn farewell(&self, end: Option<&End>) -> Option<(ExecutionId, String)> {
        let (parent, end) = self.head.parent.as_ref().zip(end)?;
        let message = parent.farewell(&self.key.id, end)?;
        Some((parent.id.clone(), Json::of(&message).to_string()))
    }

    fn child(&self, start: ChildStart) -> Child {
        let said = |message: &Message| Json::of(message).to_string();
        let (accepted, refused) = (start.accepted().as_ref().map(said), said(&start.refused()));
        let command = StartCommand {
            tenant: self.key.tenant,
            identity: start.identity,
            input: start.workflow.input,
            attributes: BTreeMap::new(),
            options: start.options,
            parent: Some(start.parent),
        };
        Child { new: command.rows(self.execution.stamp()), accepted, refused }
    }
}

/// The batch that only parks an execution, regardless of the state of its history.
pub(crate) fn parking(
    incarnation: cerebelum_store::Incarnation,
    head: &ExecutionRow,
    after: Position,
    reason: String,
) -> Batch {
    let head =
        ExecutionRow { parked: Some(reason), status: Status::Parked, position: after, settled: false, ..head.clone() };
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
