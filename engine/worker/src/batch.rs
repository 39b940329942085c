//! Builds the batch that makes an execution's changes durable.

use std::collections::BTreeMap;

use cerebelum_history::{
    ApprovalEdge, Changes, ChildResult, ChildStart, End, Execution, ExecutionId, ExecutionOptions, Failure, Identity,
    Json, Message, Position, RUN_PACE_MS, RUNS_UNPACED_MAX, kind,
};
use cerebelum_store::{
    ApprovalChange, ApprovalState, Batch, CallRow, Child, Chunk, ExecutionRow, Incarnation, LogLine, Parent, Progress,
    State,
};

use crate::record::ChildTargets;
use crate::restore;
use crate::start_command::{StartCommand, chunk, text_of};

/// Builds a batch for an execution whose changes were taken.
pub(crate) struct BatchBuilder<'a> {
    pub(crate) execution: &'a Execution,
    /// The row as of the last batch.
    pub(crate) row: &'a ExecutionRow,
    pub(crate) targets: &'a mut ChildTargets,
}

impl BatchBuilder<'_> {
    /// The batch of these changes after the last stored position, without its chunks.
    pub(crate) fn batch(
        mut self,
        (incarnation, after): (Incarnation, Position),
        changes: Changes,
        is_settled: bool,
    ) -> Batch {
        let end = self.execution.end();
        let cancel = Json::of(&Message::Cancel { at: self.execution.stamp() }).to_string();
        let mut messages = self.farewells(end);
        messages.extend(changes.orphans.into_iter().map(|orphan| (orphan, cancel.clone())));
        let children = changes.children.into_iter().map(|child| self.child(child)).collect();
        let row = self.row_now(is_settled);
        let (row, next_run) = match end {
            Some(End::Continued(input)) => self.next_run(row, input.clone()),
            _ => (row, None),
        };
        let progress = |(scope, percent, message)| Progress { scope, percent, message };
        Batch {
            begins: after == Position(0),
            relabels: row.attributes != self.row.attributes && after > Position(0),
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
            settled: is_settled,
            position: execution.position(),
            stamp: execution.stamp(),
            due: execution.due(),
            status: status.to_owned(),
            attributes: text_of(execution.attributes()),
            options: text_of(execution.options()),
            ended_at: (state != State::Open).then(|| execution.stamp()),
            open_calls: u32::try_from(execution.open().len()).ok(),
            ..self.row.clone()
        }
    }

    /// After a continue-as-new: a new history under the same id, which any node may claim.
    fn next_run(&self, row: ExecutionRow, input: Json) -> (ExecutionRow, Option<Chunk>) {
        let identity = Identity { run: row.run + 1, ..restore::identity(&row) };
        let mut options = self.execution.options().of_next_run();
        // A chain of runs that does nothing else must not keep the engine busy.
        options.starts_at = (row.run >= RUNS_UNPACED_MAX).then(|| row.stamp.plus(RUN_PACE_MS));
        let mut next = Execution::start(identity, input, options.clone(), row.stamp);
        let first = chunk(Position(1), &next.take_changes().events);
        let row = ExecutionRow {
            run: row.run + 1,
            position: Position(1),
            settled: options.starts_at.is_some(),
            due: [options.starts_at, options.deadline, options.cancel_until].into_iter().flatten().min(),
            options: text_of(&options),
            open_calls: Some(0),
            ..row
        };
        (row, first)
    }

    /// The message about the end to a parent that waits for it.
    fn farewells(&self, end: Option<&End>) -> Vec<(ExecutionId, String)> {
        let Some(parent) = self.row.parent.as_ref().filter(|parent| parent.awaited) else { return Vec::new() };
        let result = match end {
            Some(End::Completed(output)) => ChildResult::Completed(output.clone()),
            Some(End::Failed(failure) | End::Cancelled(failure)) => ChildResult::Failed(failure.clone()),
            Some(End::Continued(_)) | None => return Vec::new(),
        };
        let message =
            Message::Child { run: parent.run, call: parent.call.clone(), id: self.row.key.id.clone(), result };
        vec![(parent.id.clone(), Json::of(&message).to_string())]
    }

    fn child(&mut self, start: ChildStart) -> Child {
        let target = self.targets.remove(&start.call).unwrap_or_default();
        let own_component = self.row.workflow.split('/').next().unwrap_or_default();
        let named = &start.workflow.workflow;
        let workflow = if named.contains('/') { named.clone() } else { format!("{own_component}/{named}") };
        let parent =
            Parent { id: self.row.key.id.clone(), run: self.row.run, call: start.call.clone(), awaited: start.awaited };
        let command = StartCommand {
            tenant: self.row.key.tenant,
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
            seed: self.row.seed.child(parent.run, &parent.call, &start.id),
            parent: Some(parent),
        };
        let message = |result| {
            Json::of(&Message::Child { run: self.row.run, call: start.call.clone(), id: start.id.clone(), result })
                .to_string()
        };
        let taken = format!("the execution id `{}` is taken by another execution", start.id);
        Child {
            new: command.rows(self.execution.stamp()),
            accepted: (!start.awaited).then(|| message(ChildResult::Accepted(start.id.clone()))),
            refused: message(ChildResult::Failed(Failure::new(kind::CONFLICT, taken))),
        }
    }
}

/// The batch that only parks an execution, regardless of the state of its history.
pub(crate) fn parking(incarnation: Incarnation, row: &ExecutionRow, after: Position, reason: String) -> Batch {
    let row = ExecutionRow {
        parked: Some(reason),
        status: "parked".to_owned(),
        position: after,
        settled: false,
        ..row.clone()
    };
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
