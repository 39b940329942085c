//! Builds the batch that makes an execution's changes durable.

use std::collections::BTreeMap;

use cerebelum_history::{
    ApprovalEdge, Changes, ChildStart, End, Execution, ExecutionId, Json, Message, Position, Status,
};
use cerebelum_store::{
    ApprovalChange, ApprovalState, Batch, CallRow, Child, Chunk, ExecutionRow, Incarnation, LogLine, Progress, State,
};

use crate::encode::{chunk, text_of, waits_for};
use crate::start_command::StartCommand;

/// Builds a batch for an execution whose changes were taken.
pub(crate) struct BatchBuilder<'a> {
    pub(crate) execution: &'a Execution,
    /// The row as of the last batch.
    pub(crate) row: &'a ExecutionRow,
}

impl BatchBuilder<'_> {
    /// The batch of these changes after the last stored position, without its chunks.
    pub(crate) fn batch(
        &self,
        (incarnation, after): (Incarnation, Position),
        changes: Changes,
        is_settled: bool,
    ) -> Batch {
        let end = self.execution.end();
        let cancel = Json::of(&Message::Cancel { at: self.execution.stamp() }).to_string();
        let mut messages: Vec<(ExecutionId, String)> = self.farewell(end).into_iter().collect();
        messages.extend(changes.orphans.into_iter().map(|orphan| (orphan, cancel.clone())));
        let children = changes.children.into_iter().map(|child| self.child(child)).collect();
        let row = self.row_now(is_settled);
        let (row, next_run) = match end {
            Some(End::Continued(input)) => self.next_run(row, input.clone()),
            _ => (row, None),
        };
        let is_changed = row.attributes != self.row.attributes && after > Position(0);
        let progress = |(scope, percent, message)| Progress { scope, percent, message };
        Batch {
            begins: after == Position(0),
            attributes_before: is_changed.then(|| self.row.attributes.clone()),
            after,
            opened: changes.opened.into_iter().map(|(name, state)| CallRow { name, state }).collect(),
            closed: changes.closed,
            approvals: changes.approvals.into_iter().map(approval).collect(),
            consumed: changes.consumed,
            seen: changes.seen,
            children,
            messages,
            logs: changes.logs.into_iter().map(log_line).collect(),
            progress: changes.progress.into_iter().map(progress).collect(),
            next_run,
            ..Batch::of(incarnation, row)
        }
    }

    /// The row as it is after the changes taken so far.
    fn row_now(&self, is_settled: bool) -> ExecutionRow {
        let execution = self.execution;
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
            settled: is_settled,
            position: execution.position(),
            stamp: execution.stamp(),
            due: execution.due(),
            status: execution.status(),
            attributes: text_of(execution.attributes()),
            options: text_of(execution.options()),
            ended_at: (state != State::Open).then(|| execution.stamp()),
            open_calls: u32::try_from(execution.open().len()).ok(),
            waits_for: waits_for(execution),
            ..self.row.clone()
        }
    }

    /// After a continue-as-new: a new history under the same id, which any node may claim.
    fn next_run(&self, row: ExecutionRow, input: Json) -> (ExecutionRow, Option<Chunk>) {
        let mut next = self.execution.next_run(input, row.stamp);
        let row = ExecutionRow {
            run: next.identity().run,
            position: next.position(),
            settled: next.is_settled(),
            due: next.due(),
            status: next.status(),
            options: text_of(next.options()),
            open_calls: Some(0),
            waits_for: waits_for(&next),
            ..row
        };
        (row, chunk(Position(1), &next.take_changes().events))
    }

    /// The message about the end to a parent that waits for it.
    fn farewell(&self, end: Option<&End>) -> Option<(ExecutionId, String)> {
        let (parent, end) = self.row.parent.as_ref().zip(end)?;
        let span = self.execution.options().trace.as_ref().and_then(|trace| trace.end);
        let message = parent.farewell(&self.row.key.id, end, span)?;
        Some((parent.id.clone(), Json::of(&message).to_string()))
    }

    fn child(&self, start: ChildStart) -> Child {
        let said = |message: &Message| Json::of(message).to_string();
        let (accepted, refused) = (start.accepted().as_ref().map(said), said(&start.refused()));
        let command = StartCommand {
            tenant: self.row.key.tenant,
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
pub(crate) fn parking(incarnation: Incarnation, row: &ExecutionRow, after: Position, reason: String) -> Batch {
    let row =
        ExecutionRow { parked: Some(reason), status: Status::Parked, position: after, settled: false, ..row.clone() };
    Batch { release: true, ..Batch::of(incarnation, row) }
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
