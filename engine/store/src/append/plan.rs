//! The rows that an accepted group of batches writes, table by table.

use std::collections::{HashMap, HashSet};

use cerebelum_history::{CallName, Scope};

use super::locked::ExecutionRow;
use super::{BatchRowIds, PostCommit, children};
use crate::db_error::DbError;
use crate::hints::InboxNotice;
use crate::sql::{Rows, Script, Session, Statement, Value, Writes};
use crate::{
    ApprovalChange, Batch, Chunk, ExecutionKey, approvals, attributes, calls, chunks, executions, inbox, logs,
};

/// The rows to write to each table.
#[derive(Default)]
pub(super) struct Tables<'b> {
    heads: Rows<'b>,
    attributes_gone: Rows<'b>,
    pub(super) attributes: Rows<'b>,
    chunks: Rows<'b>,
    rewritten: Rows<'b>,
    calls: Rows<'b>,
    calls_closed: Rows<'b>,
    asked: Rows<'b>,
    closed: Rows<'b>,
    consumed: Rows<'b>,
    seen: Rows<'b>,
    messages: Rows<'b>,
    logs: Rows<'b>,
    progress: Rows<'b>,
    progress_gone: Rows<'b>,
}

/// Inserts children, finds the receivers of messages, and plans all other writes so that they can run at once.
pub(super) async fn plan<'b>(
    session: &mut Session,
    batches: &'b [Batch],
    numbered: &[BatchRowIds],
    accepted: Vec<(usize, ExecutionRow)>,
    news: &mut PostCommit,
) -> Result<Writes<'b>, DbError> {
    let mut tables = Tables::default();
    let indexes: Vec<usize> = accepted.iter().map(|(index, _)| *index).collect();
    let own = children::insert(session, batches, numbered, &indexes, &mut news.fresh).await?;
    let rows: HashMap<usize, ExecutionRow> = accepted.into_iter().collect();
    for (index, message) in own {
        let batch = &batches[index];
        tables.message(batch, rows[&index].no, message);
        news.moved
            .push(InboxNotice { key: batch.key.clone(), owner: Some(batch.incarnation).filter(|_| !batch.release) });
    }
    tables.send(session, batches, &indexes, news).await?;
    for index in indexes {
        let (batch, row) = (&batches[index], &rows[&index]);
        tables.head(batch, row, numbered[index].next_run);
        tables.add(batch, row.no, row.run);
        news.of(batch, row.no);
    }
    // PostgreSQL treats a deletion and an insertion in one statement as unrelated, so changed attributes are removed
    // first.
    session.run_of(&attributes::REMOVE, &tables.attributes_gone).await?;
    Ok(tables.writes())
}

impl<'b> Tables<'b> {
    /// Adds all rows except the execution's own, for the execution with this number in this run.
    pub(super) fn add(&mut self, batch: &'b Batch, no: i64, run: u32) {
        self.history(batch, no, run);
        self.calls(batch, no);
        self.approvals(batch, no);
        self.inbox(batch, no);
        self.run(batch, no, run);
    }

    fn message(&mut self, to: &Batch, no: i64, message: &'b str) {
        let ordinal = self.messages.len();
        self.messages.push([ordinal.into(), to.key.tenant.into(), no.into(), message.into()]);
    }

    async fn send(
        &mut self,
        session: &mut Session,
        batches: &'b [Batch],
        indexes: &[usize],
        news: &mut PostCommit,
    ) -> Result<(), DbError> {
        let mut keys = Vec::new();
        let mut letters: Vec<(usize, &'b str)> = Vec::new();
        for &index in indexes {
            for (id, message) in &batches[index].messages {
                keys.push(ExecutionKey { tenant: batches[index].key.tenant, id: id.clone() });
                letters.push((index, message));
            }
        }
        for receiver in inbox::receivers(session, &keys).await? {
            let (index, message) = letters[receiver.index];
            self.message(&batches[index], receiver.no, message);
            news.moved.push(InboxNotice { key: keys[receiver.index].clone(), owner: receiver.owner });
        }
        Ok(())
    }

    fn head(&mut self, batch: &'b Batch, row: &ExecutionRow, program: Option<i64>) {
        self.heads.push(executions::update(row.no, &batch.head, program, batch.release));
        if row.attributes.as_deref().unwrap_or("{}") != batch.head.attributes {
            let texts = (row.attributes.as_deref().unwrap_or("{}"), batch.head.attributes.as_str());
            let changed = (&mut self.attributes_gone, &mut self.attributes);
            attributes::add_changes(changed, (batch.key.tenant, row.no), texts);
        }
    }

    fn history(&mut self, batch: &'b Batch, no: i64, run: u32) {
        let tenant = batch.key.tenant;
        let rewritten: HashMap<_, &'b Chunk> = batch.rewritten.iter().map(|chunk| (chunk.first, chunk)).collect();
        for chunk in &batch.chunks {
            // A value may be dropped in the same batch that adds it.
            let chunk = rewritten.get(&chunk.first).copied().unwrap_or(chunk);
            self.chunks.push(chunks::insertion(tenant, no, run, chunk));
        }
        for chunk in rewritten.into_values().filter(|chunk| chunk.first <= batch.after) {
            self.rewritten.push(chunks::insertion(tenant, no, run, chunk));
        }
        if let Some(next) = &batch.next_run {
            self.chunks.push(chunks::insertion(tenant, no, batch.head.run, next));
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

    fn approvals(&mut self, batch: &'b Batch, no: i64) {
        let closed: HashMap<&str, _> = batch.approvals.iter().filter_map(closing).collect();
        let mut asked = HashMap::new();
        for change in &batch.approvals {
            if let ApprovalChange::Open { id, .. } = change {
                asked.insert(id.as_str(), change);
            }
        }
        for (id, to) in &closed {
            if !asked.contains_key(id) {
                self.closed.push([batch.key.tenant.into(), (*id).into(), approvals::state_no(*to).into()]);
            }
        }
        for (id, change) in asked {
            let ApprovalChange::Open { call, request, deadline, .. } = change else { continue };
            let state = closed.get(id).copied().unwrap_or(crate::ApprovalState::Open);
            self.asked.push([
                batch.key.tenant.into(),
                id.into(),
                no.into(),
                call.to_string().into(),
                request.as_str().into(),
                batch.head.stamp.into(),
                (*deadline).into(),
                approvals::state_no(state).into(),
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

    fn run(&mut self, batch: &'b Batch, no: i64, run: u32) {
        for line in &batch.logs {
            let ordinal = self.logs.len() + 1;
            self.logs.push(logs::insertion(ordinal, batch.key.tenant, no, run, line));
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
                run.into(),
                progress.scope.as_str().into(),
                u32::from(progress.percent).into(),
                executions::escape(&progress.message).into(),
            ];
            self.progress.push(values);
        }
    }

    fn writes(mut self) -> Writes<'b> {
        let mut writes = Writes::default();
        writes.add(&executions::UPDATE, std::mem::take(&mut self.heads));
        self.parts().into_iter().for_each(|(statement, rows)| writes.add(statement, rows));
        writes
    }

    /// Adds all rows except those of existing executions.
    pub(super) fn add_to(self, script: &mut Script<'b>) {
        self.parts().into_iter().for_each(|(statement, rows)| script.add(statement, rows));
    }

    fn parts(self) -> [(&'static Statement, Rows<'b>); 13] {
        [
            (&chunks::INSERT, self.chunks),
            (&chunks::REWRITE, self.rewritten),
            (&attributes::INSERT, self.attributes),
            (&calls::UPSERT, self.calls),
            (&calls::DELETE, self.calls_closed),
            (&approvals::ASK, self.asked),
            (&approvals::CLOSE, self.closed),
            (&inbox::CONSUME, self.consumed),
            (&inbox::MARK_SEEN, self.seen),
            (&inbox::INSERT, self.messages),
            (&logs::INSERT, self.logs),
            (&logs::PROGRESS, self.progress),
            (&logs::PROGRESS_GONE, self.progress_gone),
        ]
    }
}

fn closing(change: &ApprovalChange) -> Option<(&str, crate::ApprovalState)> {
    match change {
        ApprovalChange::Open { .. } => None,
        ApprovalChange::Close { id, to } => Some((id, *to)),
    }
}
