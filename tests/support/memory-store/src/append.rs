//! Batches: each is accepted or refused alone, and an accepted one is written in full.

use cerebelum_history::{Json, Position};
use cerebelum_store::{
    AppendError, ApprovalChange, ApprovalRow, ApprovalState, Batch, Child, ExecutionKey, ExecutionRow, InboxCursor,
    LogRow, State,
};

use crate::tables::{Row, Tables};

impl Tables {
    pub(crate) fn append(&mut self, id: u64, batches: &[Batch]) -> Vec<Result<InboxCursor, AppendError>> {
        if let Some(answers) = batches.iter().find_map(|batch| self.outcome(batch.incarnation, id)) {
            return answers;
        }
        let mut answers = Vec::with_capacity(batches.len());
        for batch in batches {
            let checked = self.check(batch);
            let newest = self.executions.get(&batch.key).and_then(|row| row.inbox.last_key_value());
            let newest = InboxCursor(newest.map_or(0, |(seq, _)| *seq));
            if checked.is_ok() {
                if batch.begins {
                    let run = batch.head.run - u32::from(batch.next_run.is_some());
                    self.insert(ExecutionRow { run, ..batch.head.clone() }, Some(batch.incarnation));
                    self.note(batch.act.as_ref());
                }
                self.write(batch);
            }
            answers.push(checked.map(|()| newest));
        }
        let mut nodes: Vec<_> = batches.iter().map(|batch| batch.incarnation).collect();
        nodes.dedup();
        if answers.iter().any(Result::is_ok) {
            nodes.into_iter().for_each(|node| self.record(node, id, &answers));
        }
        answers
    }

    fn check(&mut self, batch: &Batch) -> Result<(), AppendError> {
        self.standing(batch.incarnation).ok_or(AppendError::ClaimLost)?;
        if batch.begins {
            return if self.executions.contains_key(&batch.key) { Err(AppendError::Exists) } else { Ok(()) };
        }
        let row = self.executions.get(&batch.key).ok_or(AppendError::ClaimLost)?;
        if row.owner != Some(batch.incarnation) || row.head.state != State::Open {
            return Err(AppendError::ClaimLost);
        }
        if !joins(batch, row) {
            return Err(AppendError::Moved);
        }
        let asked_here = |id: &String| {
            batch.approvals.iter().any(|change| matches!(change, ApprovalChange::Open { id: asked, .. } if asked == id))
        };
        for change in &batch.approvals {
            let ApprovalChange::Close { id, to } = change else { continue };
            if asked_here(id) {
                continue;
            }
            let question = self.questions.get(&(batch.key.tenant, id.clone()));
            let question = question.filter(|q| q.state == ApprovalState::Open && q.execution == batch.key.id);
            let question = question.ok_or(AppendError::AlreadyAnswered)?;
            if *to == ApprovalState::TimedOut && question.deadline.is_some_and(|deadline| deadline > self.now) {
                return Err(AppendError::TooEarly);
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) {
        if batch.head.stamp > self.now {
            self.early.push(batch.key.clone());
        }
        let own = self.children(batch);
        for message in own {
            self.put(&batch.key, message);
        }
        for (id, message) in &batch.messages {
            let key = ExecutionKey { tenant: batch.key.tenant, id: id.clone() };
            self.send(&key, message.clone());
        }
        for change in &batch.approvals {
            self.change_question(batch, change);
        }
        let number = self.number();
        let row = self.executions.get_mut(&batch.key).expect("a checked batch has a row");
        for chunk in &batch.chunks {
            row.written.insert(chunk.first, number);
        }
        write_history(row, batch);
        write_rest(row, batch);
        row.head = ExecutionRow { runs_from: row.head.runs_from, ..batch.head.clone() };
        // If calls are counted, the number must be right. Otherwise sound executions would be parked.
        if let Some(counted) = batch.head.open_calls {
            assert_eq!(counted as usize, row.calls.len(), "open calls of {}", batch.key.id);
        }
        if batch.release || row.head.state != State::Open {
            row.owner = None;
        }
    }

    /// Starts children. Returns the messages to their parent.
    fn children(&mut self, batch: &Batch) -> Vec<String> {
        let mut told = Vec::new();
        for Child { new, accepted, refused } in &batch.children {
            let key = &new.head.key;
            let message = match self.executions.get(key).map(|row| (row, &row.head.parent, &new.head.parent)) {
                Some((row, Some(there), Some(here))) if there.is_same_call(here) && row.head.seed == new.head.seed => {
                    let last = row.runs[&row.head.run].last().map(|chunk| chunk.events.as_str());
                    let farewell = (row.head.state != State::Open)
                        .then(|| here.farewell_again(&key.id, last, row.head.state == State::Cancelled))
                        .flatten();
                    farewell.map(|message| Json::of(&message).to_string()).or_else(|| accepted.clone())
                }
                Some(_) => Some(refused.clone()),
                None => {
                    let row = self.insert(new.head.clone(), None);
                    row.runs.insert(new.head.run, vec![new.first.clone()]);
                    self.moved.push(key.clone());
                    accepted.clone()
                }
            };
            told.extend(message);
        }
        told
    }

    fn change_question(&mut self, batch: &Batch, change: &ApprovalChange) {
        match change {
            ApprovalChange::Open { id, call, request, deadline } => {
                let key = (batch.key.tenant, id.clone());
                if self.questions.get(&key).is_some_and(|question| question.execution != batch.key.id) {
                    return;
                }
                let question = ApprovalRow {
                    id: id.clone(),
                    execution: batch.key.id.clone(),
                    call: call.clone(),
                    request: request.clone(),
                    requested_at: batch.head.stamp,
                    deadline: *deadline,
                    state: ApprovalState::Open,
                };
                self.questions.insert(key, question);
            }
            ApprovalChange::Close { id, to } => {
                if let Some(question) = self.questions.get_mut(&(batch.key.tenant, id.clone())) {
                    question.state = *to;
                }
            }
        }
    }
}

/// Whether the new events follow the last ones, and the row says where they end.
fn joins(batch: &Batch, row: &Row) -> bool {
    let mut end = batch.after;
    let mut joins = row.head.position == batch.after;
    for chunk in &batch.chunks {
        joins &= chunk.first == end.next() && chunk.last >= chunk.first;
        end = chunk.last;
    }
    joins
        && match &batch.next_run {
            Some(next) => {
                next.first == Position(1)
                    && next.last >= next.first
                    && batch.head.run == row.head.run + 1
                    && batch.head.position == next.last
            }
            None => batch.head.run == row.head.run && batch.head.position == end,
        }
}

fn write_history(row: &mut Row, batch: &Batch) {
    let chunks = row.runs.entry(row.head.run).or_default();
    chunks.extend(batch.chunks.iter().cloned());
    for rewritten in &batch.rewritten {
        let same = chunks.iter_mut().find(|chunk| (chunk.first, chunk.last) == (rewritten.first, rewritten.last));
        if let Some(chunk) = same {
            *chunk = rewritten.clone();
        }
    }
    if let Some(next) = &batch.next_run {
        row.runs.insert(batch.head.run, vec![next.clone()]);
        row.written.clear();
    }
}

fn write_rest(row: &mut Row, batch: &Batch) {
    for call in &batch.opened {
        row.calls.insert(call.name.clone(), call.state.clone());
    }
    for name in &batch.closed {
        row.calls.remove(name);
    }
    for seq in &batch.seen {
        if let Some((_, seen)) = row.inbox.get_mut(seq) {
            *seen = true;
        }
    }
    for seq in &batch.consumed {
        row.inbox.remove(seq);
    }
    let run = row.head.run;
    for line in &batch.logs {
        let is_it = |said: &LogRow| {
            (said.run, &said.line.scope, said.line.attempt, said.line.place, said.line.number)
                == (run, &line.scope, line.attempt, line.place, line.number)
        };
        if !row.logs.iter().any(is_it) {
            let seq = row.logs.last().map_or(1, |last| last.seq + 1);
            row.logs.push(LogRow { seq, run, line: line.clone() });
        }
    }
    if batch.next_run.is_some() {
        row.progress.clear();
        return;
    }
    for progress in &batch.progress {
        row.progress.insert(progress.scope.clone(), progress.clone());
    }
}
