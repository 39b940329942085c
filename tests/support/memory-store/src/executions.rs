//! Executions: started, read, listed, sent messages, reopened and removed.

use std::collections::BTreeMap;

use cerebelum_history::{ExecutionId, LastFailure, Position, Status, Timestamp};
use cerebelum_store::{
    ApprovalState, ChildCounts, Chunk, ExecutionDetail, ExecutionKey, ExecutionRow, Filter, HistoryPart, InboxRow,
    Incarnation, LogRow, Page, Progress, State, StatusCounts, StoreError, TenantId,
};

use crate::tables::{Row, Tables};

impl Tables {
    /// An existing execution with its first chunk.
    pub(crate) fn find_existing(&self, key: &ExecutionKey) -> Option<(ExecutionRow, Chunk)> {
        let existing = self.executions.get(key)?;
        let first = existing.runs.get(&1).and_then(|chunks| chunks.first()).expect("a history has a beginning");
        Some((existing.head.clone(), first.clone()))
    }

    /// Inserts an execution that has no events yet.
    pub(crate) fn insert(&mut self, head: ExecutionRow, owner: Option<Incarnation>) -> &mut Row {
        let no = self.number().unsigned_abs();
        let key = head.key.clone();
        let row = Row {
            no,
            head,
            owner,
            runs: BTreeMap::new(),
            written: BTreeMap::new(),
            calls: BTreeMap::new(),
            inbox: BTreeMap::new(),
            logs: Vec::new(),
            progress: BTreeMap::new(),
            crashes: (0, Position(0)),
        };
        self.executions.entry(key).insert_entry(row).into_mut()
    }

    pub(crate) fn history(&self, key: &ExecutionKey, run: u32, part: &HistoryPart) -> Result<Vec<Chunk>, StoreError> {
        let head = self.executions.get(key).map(|row| &row.head);
        if let Some(from) = head.and_then(|head| head.runs_from).filter(|from| run < *from) {
            return Err(StoreError::not_kept(&key.id, run, from));
        }
        let chunks = self.executions.get(key).and_then(|row| row.runs.get(&run)).into_iter().flatten();
        let mut bytes = 0;
        let is_wanted = |chunk: &&Chunk| match part {
            HistoryPart::Between(from, to) => chunk.first <= *to && chunk.last >= *from,
            HistoryPart::At(firsts) => firsts.contains(&chunk.first),
            HistoryPart::Page { from, bytes_max } if chunk.last >= *from => {
                let is_first = bytes == 0;
                bytes += chunk.events.len() as u64;
                is_first || bytes <= *bytes_max
            }
            HistoryPart::Page { .. } => false,
        };
        Ok(chunks.filter(is_wanted).cloned().collect())
    }

    pub(crate) fn overdue_runs(&self, keep: u32, after: i64, limit: u32) -> Vec<i64> {
        let is_overdue = |row: &&Row| row.head.run - row.head.runs_from.unwrap_or(1) >= keep.max(2);
        let overdue = self.executions.values().filter(is_overdue).map(|row| row.no.cast_signed());
        let mut places: Vec<i64> = overdue.filter(|no| *no > after).collect();
        places.sort_unstable();
        places.truncate(limit as usize);
        places
    }

    /// Removes runs. It takes no pieces: nothing here waits for it.
    pub(crate) fn remove_runs(&mut self, place: i64, keep: u32) -> u64 {
        let row = self.executions.values_mut().find(|row| row.no.cast_signed() == place);
        let Some(row) = row.filter(|row| row.head.run - row.head.runs_from.unwrap_or(1) >= keep.max(2)) else {
            return 0;
        };
        let from = row.head.run + 1 - keep.max(2);
        row.head.runs_from = Some(from);
        let before = row.logs.len() + row.runs.values().map(Vec::len).sum::<usize>();
        row.logs.retain(|line| line.run >= from);
        row.runs.retain(|run, chunks| {
            chunks.retain(|chunk| *run >= from || (*run, chunk.first) == (1, Position(1)));
            !chunks.is_empty()
        });
        let after = row.logs.len() + row.runs.values().map(Vec::len).sum::<usize>();
        (before - after) as u64
    }

    pub(crate) fn unseen(&self, key: &ExecutionKey) -> Vec<InboxRow> {
        let claimed = self.executions.get(key).map(Row::claimed);
        claimed.into_iter().flat_map(|claimed| claimed.inbox).filter(|row| !row.seen).collect()
    }

    pub(crate) fn describe(&self, key: &ExecutionKey) -> Option<ExecutionDetail> {
        let row = self.executions.get(key)?;
        let history = row.runs.get(&row.head.run).cloned().unwrap_or_default();
        let claimed = row.claimed();
        Some(ExecutionDetail {
            head: row.head.clone(),
            first: None,
            history: Ok(history),
            calls: claimed.calls,
            progress: self.progress(key),
            inbox: claimed.inbox.into_iter().map(|row| row.message).collect(),
        })
    }

    pub(crate) fn list(&self, tenant: TenantId, filter: &Filter) -> Page {
        let before = filter.cursor.as_ref().and_then(|cursor| cursor.parse().ok()).unwrap_or(u64::MAX);
        let fits = |row: &&Row| {
            let head = &row.head;
            let workflow = |wanted: &String| {
                head.workflow == *wanted || head.workflow.rsplit_once('/').is_some_and(|(_, name)| name == wanted)
            };
            head.key.tenant == tenant
                && row.no < before
                && filter.status.is_none_or(|status| head.status == status)
                && filter.workflow.as_ref().is_none_or(workflow)
                && filter.parent.as_ref().is_none_or(|parent| is_child_of(row, parent))
                && is_narrowly(head, filter)
        };
        let mut rows: Vec<&Row> = self.executions.values().filter(fits).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.no));
        let limit = filter.limit.clamp(1, 1_000) as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let cursor = rows.last().filter(|_| more).map(|row| row.no.to_string());
        Page { executions: rows.into_iter().map(|row| row.head.clone()).collect(), cursor }
    }

    pub(crate) fn children_by_status(&self, tenant: TenantId, parents: &[ExecutionId], max: u32) -> Vec<ChildCounts> {
        let of_one = |parent: &ExecutionId| {
            let is_child = |row: &&Row| row.head.key.tenant == tenant && is_child_of(row, parent);
            let mut children: Vec<&Row> = self.executions.values().filter(is_child).collect();
            children.sort_by_key(|row| std::cmp::Reverse(row.no));
            let max = max as usize;
            let mut counts: BTreeMap<Status, u64> = BTreeMap::new();
            for row in children.iter().take(max + 1) {
                *counts.entry(row.head.status).or_default() += 1;
            }
            ChildCounts { by_status: counts.into_iter().collect(), is_exact: children.len() <= max }
        };
        parents.iter().map(of_one).collect()
    }

    pub(crate) fn count_by_status(&self) -> StatusCounts {
        let mut census: BTreeMap<Status, u64> = BTreeMap::new();
        for row in self.executions.values() {
            *census.entry(row.head.status).or_default() += 1;
        }
        census.into_iter().collect()
    }

    pub(crate) fn send(&mut self, key: &ExecutionKey, message: String) -> bool {
        let is_open = self.executions.get(key).is_some_and(|row| row.head.state == State::Open);
        if is_open {
            self.put(key, message);
        }
        is_open
    }

    /// Puts a message into an inbox.
    pub(crate) fn put(&mut self, key: &ExecutionKey, message: String) {
        let seq = self.number();
        if let Some(row) = self.executions.get_mut(key) {
            row.inbox.insert(seq, (message, false));
            self.moved.push(key.clone());
        }
    }

    pub(crate) fn reopen(&mut self, key: &ExecutionKey, message: String) -> bool {
        let Some(row) = self.executions.get_mut(key).filter(|row| row.head.state == State::Failed) else {
            return false;
        };
        row.head.state = State::Open;
        row.head.ended_at = None;
        row.head.parked = None;
        row.head.status = Status::Running;
        self.put(key, message);
        true
    }

    pub(crate) fn unpark(&mut self, key: &ExecutionKey) -> bool {
        let Some(row) = self.executions.get_mut(key) else { return false };
        if row.head.state != State::Open || row.head.parked.is_none() {
            return false;
        }
        row.head.parked = None;
        row.crashes = (0, Position(0));
        row.head.settled = false;
        row.head.status = Status::Running;
        self.moved.push(key.clone());
        true
    }

    pub(crate) fn park(&mut self, incarnation: Incarnation, key: &ExecutionKey, reason: String) -> bool {
        let holds = |row: &&mut Row| row.owner.is_none_or(|owner| owner == incarnation);
        let open = self.executions.get_mut(key).filter(|row| row.head.state == State::Open);
        let Some(row) = open.filter(holds) else { return false };
        row.head.parked = Some(reason);
        row.head.status = Status::Parked;
        row.owner = None;
        true
    }

    pub(crate) fn bury(&mut self, key: &ExecutionKey, messages: Vec<(ExecutionId, String)>) -> bool {
        let now = self.now;
        let Some(row) = self.executions.get_mut(key).filter(|row| row.head.state == State::Open) else {
            return false;
        };
        let head = &mut row.head;
        (head.state, head.status, head.ended_at) = (State::Cancelled, Status::Cancelled, Some(now));
        (head.parked, head.due, row.owner) = (None, None, None);
        row.calls.clear();
        row.inbox.clear();
        for question in self.questions.values_mut().filter(|question| question.execution == key.id) {
            if question.state == ApprovalState::Open {
                question.state = ApprovalState::Withdrawn;
            }
        }
        self.moved.push(key.clone());
        for (id, message) in messages {
            self.send(&ExecutionKey { tenant: key.tenant, id }, message);
        }
        true
    }

    pub(crate) fn delete(&mut self, key: &ExecutionKey) -> bool {
        let has_ended = self.executions.get(key).is_some_and(|row| row.head.state != State::Open);
        if has_ended {
            self.executions.remove(key);
            self.questions.retain(|(tenant, _), question| (*tenant, &question.execution) != (key.tenant, &key.id));
            let questions = &self.questions;
            self.links.retain(|(tenant, link)| questions.contains_key(&(*tenant, link.approval.clone())));
        }
        has_ended
    }

    pub(crate) fn delete_ended(&mut self, before: Timestamp, limit: u32) -> u64 {
        let ended = self.executions.values().filter_map(|row| Some((row.head.ended_at?, row.head.key.clone())));
        let mut ended: Vec<_> = ended.filter(|(at, _)| *at < before).collect();
        ended.sort();
        ended.truncate(limit as usize);
        ended.iter().filter(|(_, key)| self.delete(key)).count() as u64
    }

    pub(crate) fn logs(&self, key: &ExecutionKey, after: i64, limit: u32) -> Vec<LogRow> {
        let lines = self.executions.get(key).map(|row| row.logs.iter()).into_iter().flatten();
        lines.filter(|line| line.seq > after).take(limit as usize).cloned().collect()
    }

    pub(crate) fn progress(&self, key: &ExecutionKey) -> Vec<Progress> {
        self.executions.get(key).map(|row| row.progress.values().cloned().collect()).unwrap_or_default()
    }
}

/// Whether an execution has what the rarer parts of a filter ask for.
fn is_narrowly(head: &ExecutionRow, filter: &Filter) -> bool {
    let is_said = |stored: &str| {
        let beginning = format!(r#"{{"at":{},{stored}"#, head.position.0);
        head.waits_for.as_ref().is_some_and(|waits_for| waits_for.starts_with(&beginning))
    };
    let failed_by = |kind: &String| match &head.parked {
        Some(reason) => filter.status.is_some() && reason.starts_with(&format!("{kind}: ")),
        None => head.state == State::Failed && is_said(&LastFailure::stored(kind)),
    };
    let is_free = head.state == State::Open && head.parked.is_none() && !head.paused;
    filter.id_prefix.as_ref().is_none_or(|prefix| head.key.id.as_str().starts_with(prefix))
        && filter.waits_for.as_ref().is_none_or(|wait| is_free && is_said(&wait.stored()))
        && filter.failure.as_ref().is_none_or(failed_by)
        && filter.since.is_none_or(|since| head.started_at >= since)
        && filter.until.is_none_or(|until| head.started_at < until)
}

fn is_child_of(row: &Row, parent: &ExecutionId) -> bool {
    row.head.parent.as_ref().is_some_and(|of| of.id == *parent)
}
