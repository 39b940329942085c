//! The rows that a group of batches writes, table by table, and the statements that write them.

use std::collections::{BTreeMap, HashMap, HashSet};

use cerebelum_history::{CallName, Scope, Timestamp, planted};

use crate::executions::{self, NewRow};
use crate::hints::InboxNotice;
use crate::model::{ApprovalChange, ApprovalState, Batch, Chunk, ExecutionKey, Incarnation, TenantId};
use crate::sql::{Rows, Script, Statement, Value};
use crate::{approvals, attributes, audit, calls, chunks, inbox, logs, storage};

/// The numbers of the executions of a batch, and of their programs.
pub(super) struct BatchRowIds {
    /// The batch's own execution, if its number is known.
    pub(super) own: Option<i64>,
    /// The program of an execution or a run that begins.
    pub(super) program: Option<i64>,
    /// The children, in order, each with its program.
    pub(super) children: Vec<(i64, i64)>,
}

/// A child that exists already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChildFate {
    /// The same call of the same run of the same parent has started it.
    Accepted,
    /// The same, for a call that waits for it, and it has ended. The message says how.
    Ended(String),
    /// Its id belongs to another execution.
    Refused,
}

/// What the rest of the engine learns once the batches are durable.
#[derive(Default)]
pub(super) struct PostCommit {
    pub(super) notices: Vec<InboxNotice>,
    pub(super) started: Vec<ExecutionKey>,
    /// Executions that the node of these batches has claimed, with their numbers.
    pub(super) claimed: Vec<(ExecutionKey, i64)>,
    /// Executions that are no longer claimed.
    pub(super) released: Vec<ExecutionKey>,
}

impl PostCommit {
    pub(super) fn append(&mut self, other: &mut Self) {
        self.notices.append(&mut other.notices);
        self.started.append(&mut other.started);
        self.claimed.append(&mut other.claimed);
        self.released.append(&mut other.released);
    }
}

/// The rows to write to each table, for batches that concern different executions.
#[derive(Default)]
pub(super) struct RowsToWrite<'b> {
    advanced: Rows<'b>,
    inserted: Rows<'b>,
    attributes_gone: Rows<'b>,
    attributes: Rows<'b>,
    chunks: Rows<'b>,
    rewritten: Rows<'b>,
    calls: Rows<'b>,
    calls_closed: Rows<'b>,
    asked: Rows<'b>,
    closed: Rows<'b>,
    consumed: Rows<'b>,
    seen: Rows<'b>,
    messages: Rows<'b>,
    messages_by_id: Rows<'b>,
    logs: Rows<'b>,
    progress: Rows<'b>,
    progress_gone: Rows<'b>,
    acts: Rows<'b>,
    /// The bytes that are stored for each tenant, and the rows in which they are counted.
    bytes: BTreeMap<(TenantId, i64), i64>,
    /// The executions that these batches write, with their numbers and the nodes that claim them afterwards.
    executions: HashMap<ExecutionKey, (i64, Option<Incarnation>)>,
    post_commit: PostCommit,
}

impl<'b> RowsToWrite<'b> {
    /// Adds the row of the batch's own execution. Returns `None` if its number is not known.
    pub(super) fn add_execution(&mut self, batch: &'b Batch, ids: &BatchRowIds) -> Option<()> {
        let own = ids.own?;
        let owner = Some(batch.incarnation).filter(|_| !batch.release);
        let bytes = storage::of_batch(batch);
        self.count(batch, bytes);
        if batch.begins {
            let program = ids.program.expect("an execution that begins has a program");
            self.inserted.push(executions::insertion(&NewRow { row: &batch.head, no: own, program, owner, bytes }));
            attributes::add_rows(&mut self.attributes, batch.key.tenant, own, &batch.head.attributes);
            let act = batch.act.iter().filter(|_| !planted("start-without-act"));
            act.for_each(|act| self.acts.push(audit::insertion(act)));
        } else {
            self.advanced.push(executions::advance(own, batch, (ids.program, bytes)));
            if let Some(before) = &batch.attributes_before {
                let changed = (&mut self.attributes_gone, &mut self.attributes);
                attributes::add_changes(changed, (batch.key.tenant, own), (before, &batch.head.attributes));
            }
        }
        self.executions.insert(batch.key.clone(), (own, owner));
        match owner {
            Some(_) => self.post_commit.claimed.push((batch.key.clone(), own)),
            None => self.post_commit.released.push(batch.key.clone()),
        }
        Some(())
    }

    /// Counts bytes that a batch stores.
    fn count(&mut self, batch: &Batch, bytes: i64) {
        *self.bytes.entry((batch.key.tenant, storage::shard_of(batch.incarnation))).or_default() += bytes;
    }

    /// Adds the children that do not exist yet, and the messages to their parent.
    pub(super) fn add_children(&mut self, batch: &'b Batch, ids: &BatchRowIds, fates: &'b HashMap<usize, ChildFate>) {
        for (index, (child, &(no, program))) in std::iter::zip(&batch.children, &ids.children).enumerate() {
            let row = &child.new.head;
            if !fates.contains_key(&index) {
                let bytes = storage::of_child(&child.new.first);
                self.count(batch, bytes);
                self.inserted.push(executions::insertion(&NewRow { row, no, program, owner: None, bytes }));
                self.chunks.push(chunks::insertion((row.key.tenant, no), row.run, &child.new.first, None));
                attributes::add_rows(&mut self.attributes, row.key.tenant, no, &row.attributes);
                self.executions.insert(row.key.clone(), (no, None));
                self.post_commit.started.push(row.key.clone());
            }
            let message = match fates.get(&index) {
                None | Some(ChildFate::Accepted) => child.accepted.as_deref(),
                Some(ChildFate::Ended(message)) => Some(message.as_str()),
                Some(ChildFate::Refused) => Some(child.refused.as_str()),
            };
            message.into_iter().for_each(|message| self.message(&batch.key, message));
        }
    }

    /// Adds the batch's messages to other executions.
    pub(super) fn send(&mut self, batch: &'b Batch) {
        for (id, message) in &batch.messages {
            let key = ExecutionKey { tenant: batch.key.tenant, id: id.clone() };
            // On PostgreSQL, a statement neither sees the rows that another part of the script inserts, nor can it lock
            // those that another part changes.
            if self.executions.contains_key(&key) {
                self.message(&key, message);
                continue;
            }
            let ordinal = self.messages_by_id.len();
            self.messages_by_id.push([ordinal.into(), key.tenant.into(), id.as_str().into(), message.as_str().into()]);
        }
    }

    /// Adds a message to one of the plan's own executions.
    fn message(&mut self, to: &ExecutionKey, message: &'b str) {
        let (no, owner) = self.executions[to];
        let ordinal = self.messages.len();
        self.messages.push([ordinal.into(), to.tenant.into(), no.into(), message.into()]);
        self.post_commit.notices.push(InboxNotice { key: to.clone(), owner });
    }

    /// Adds all other rows of the execution with this number.
    pub(super) fn add(&mut self, batch: &'b Batch, no: i64, now: Timestamp) {
        self.history(batch, no);
        self.calls(batch, no);
        self.approvals(batch, no, now);
        self.inbox(batch, no);
        self.reports(batch, no);
    }

    fn history(&mut self, batch: &'b Batch, no: i64) {
        let (tenant, run) = (batch.key.tenant, batch.run());
        let rewritten: HashMap<_, &'b Chunk> = batch.rewritten.iter().map(|chunk| (chunk.first, chunk)).collect();
        for chunk in &batch.chunks {
            // A value may be dropped in the same batch that adds it.
            let chunk = rewritten.get(&chunk.first).copied().unwrap_or(chunk);
            self.chunks.push(chunks::insertion((tenant, no), run, chunk, None));
        }
        for chunk in rewritten.into_values().filter(|chunk| chunk.first <= batch.after) {
            self.rewritten.push(chunks::rewrite((tenant, no), run, chunk));
        }
        if let Some(next) = &batch.next_run {
            let ending = storage::of_ending_run(batch, next);
            self.chunks.push(chunks::insertion((tenant, no), batch.head.run, next, Some(ending)));
        }
    }

    fn calls(&mut self, batch: &'b Batch, no: i64) {
        let closed: HashSet<&CallName> = batch.closed.iter().collect();
        let opened: HashMap<&CallName, &'b str> =
            batch.opened.iter().map(|call| (&call.name, call.state.as_str())).collect();
        for (name, state) in opened.into_iter().filter(|(name, _)| !closed.contains(name)) {
            self.calls.push([batch.key.tenant.into(), no.into(), name.to_string().into(), state.into()]);
        }
        for name in closed {
            self.calls_closed.push([batch.key.tenant.into(), no.into(), name.to_string().into()]);
        }
    }

    fn approvals(&mut self, batch: &'b Batch, no: i64, now: Timestamp) {
        let tenant = batch.key.tenant;
        let (mut asked, mut closed) = (HashMap::new(), HashMap::new());
        for change in &batch.approvals {
            match change {
                ApprovalChange::Open { id, call, request, deadline } => {
                    asked.insert(id.as_str(), (call, request.as_str(), *deadline));
                }
                ApprovalChange::Close { id, to } => {
                    closed.insert(id.as_str(), *to);
                }
            }
        }
        for (id, to) in closed.iter().filter(|(id, _)| !asked.contains_key(**id)) {
            // A question without a deadline times out whenever the batch says so.
            let from = if *to == ApprovalState::TimedOut { now } else { Timestamp(u64::MAX) };
            self.closed.push([tenant.into(), (*id).into(), no.into(), approvals::state_no(*to).into(), from.into()]);
        }
        for (id, (call, request, deadline)) in asked {
            let state = closed.get(id).copied().unwrap_or(ApprovalState::Open);
            self.asked.push([
                tenant.into(),
                id.into(),
                no.into(),
                call.to_string().into(),
                request.into(),
                batch.head.stamp.into(),
                deadline.into(),
                approvals::state_no(state).into(),
                batch.run().into(),
            ]);
        }
    }

    fn inbox(&mut self, batch: &'b Batch, no: i64) {
        let consumed: HashSet<i64> = batch.consumed.iter().copied().collect();
        for seq in &consumed {
            self.consumed.push([batch.key.tenant.into(), no.into(), (*seq).into()]);
        }
        for seq in batch.seen.iter().filter(|seq| !consumed.contains(seq)) {
            self.seen.push([batch.key.tenant.into(), no.into(), (*seq).into()]);
        }
    }

    fn reports(&mut self, batch: &'b Batch, no: i64) {
        for line in &batch.logs {
            let ordinal = self.logs.len() + 1;
            self.logs.push(logs::insertion(ordinal, batch.key.tenant, no, batch.run(), line));
        }
        if batch.next_run.is_some() {
            // The progress of the previous run ends with that run.
            self.progress_gone.push([batch.key.tenant.into(), no.into()]);
            return;
        }
        let latest: HashMap<&Scope, _> = batch.progress.iter().map(|progress| (&progress.scope, progress)).collect();
        for progress in latest.into_values() {
            let values: [Value<'b>; 6] = [
                batch.key.tenant.into(),
                no.into(),
                batch.run().into(),
                progress.scope.as_str().into(),
                u32::from(progress.percent).into(),
                executions::escape(&progress.message).into(),
            ];
            self.progress.push(values);
        }
    }

    /// Adds all rows to a script, whose first statement is the fence.
    pub(super) fn write_to(self, script: &mut Script<'b>) -> PostCommit {
        script.add_exactly_returning(&executions::ADVANCE, self.advanced);
        script.add_exactly(&executions::INSERT, self.inserted);
        match planted("no-referee") {
            true => script.add(&approvals::CLOSE, self.closed),
            false => script.add_exactly(&approvals::CLOSE, self.closed),
        }
        script.add_returning(&inbox::SEND, self.messages_by_id);
        let mut bytes = Rows::default();
        for ((tenant, shard), more) in self.bytes.into_iter().filter(|(_, more)| *more != 0) {
            bytes.push(storage::addition(tenant, shard, more));
        }
        let others: [(&'static Statement, Rows<'b>); 15] = [
            (&attributes::REMOVE, self.attributes_gone),
            (&attributes::INSERT, self.attributes),
            (&chunks::INSERT, self.chunks),
            (&chunks::REWRITE, self.rewritten),
            (&calls::UPSERT, self.calls),
            (&calls::DELETE, self.calls_closed),
            (&approvals::ASK, self.asked),
            (&inbox::CONSUME, self.consumed),
            (&inbox::MARK_SEEN, self.seen),
            (&inbox::INSERT, self.messages),
            (&logs::INSERT, self.logs),
            (&logs::PROGRESS, self.progress),
            (&logs::PROGRESS_GONE, self.progress_gone),
            (&audit::INSERT, self.acts),
            (&storage::ADD, bytes),
        ];
        others.into_iter().for_each(|(statement, rows)| script.add(statement, rows));
        self.post_commit
    }
}
