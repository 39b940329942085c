//! The tables, and the leases of nodes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cerebelum_history::{CallName, Position, Scope, Timestamp};
use cerebelum_store::{
    AppendError, ApprovalLink, ApprovalRow, CallRow, Chunk, Claimed, Component, Egress, ExecutionKey, ExecutionRow,
    InboxCursor, InboxRow, Incarnation, Lease, LogRow, NodeRow, Progress, StoredView, Tenant, TenantId, Token, ViewKey,
};

use crate::audit::StoredAct;
use crate::bulk::StoredBulkJob;
use crate::claims;

/// A node has only one append under way, or a few.
const OUTCOMES_MAX: usize = 16;

/// An execution with everything that belongs to it.
pub struct Row {
    /// Its number, in the order of starts.
    pub no: u64,
    /// The execution's row.
    pub head: ExecutionRow,
    /// The incarnation that has claimed it.
    pub owner: Option<Incarnation>,
    /// Its history, run by run.
    pub runs: BTreeMap<u32, Vec<Chunk>>,
    /// When each chunk of the current run was written: a number from the same sequence as those of messages.
    pub written: BTreeMap<Position, i64>,
    /// Its open calls.
    pub calls: BTreeMap<CallName, String>,
    /// Its messages: text, and whether it was seen.
    pub inbox: BTreeMap<i64, (String, bool)>,
    /// The log lines of its guests.
    pub logs: Vec<LogRow>,
    /// The latest progress of its guests.
    pub progress: BTreeMap<Scope, Progress>,
    /// How often nodes died for good while the execution could move, and its position at that time.
    pub crashes: (u32, Position),
}

impl Row {
    pub(crate) fn claimed(&self) -> Claimed {
        let message = |(seq, (message, seen)): (&i64, &(String, bool))| InboxRow {
            seq: *seq,
            message: message.clone(),
            seen: *seen,
        };
        let call = |(name, state): (&CallName, &String)| CallRow { name: name.clone(), state: state.clone() };
        Claimed {
            head: self.head.clone(),
            owner: self.owner,
            calls: self.calls.iter().map(call).collect(),
            inbox: self.inbox.iter().map(message).collect(),
            crashes: self.crashes_here(),
            leaves_others: false,
        }
    }

    /// The crashes at the current position.
    pub(crate) fn crashes_here(&self) -> u32 {
        let (crashes, at) = self.crashes;
        if at == self.head.position { crashes } else { 0 }
    }

    /// Whether the execution is a suspect: it may be why nodes died.
    pub(crate) fn is_suspect(&self) -> bool {
        self.crashes_here() >= 2
    }

    /// The number of messages that wait, and their bytes.
    pub(crate) fn unread(&self) -> (u64, u64) {
        let bytes: usize = self.inbox.values().map(|(message, _)| message.len()).sum();
        (self.inbox.len() as u64, bytes as u64)
    }

    /// The bytes of open calls and messages.
    pub(crate) fn brings(&self) -> u64 {
        self.calls.values().map(|state| state.len() as u64).sum::<u64>() + self.unread().1
    }

    pub(crate) fn has_unseen(&self) -> bool {
        self.inbox.values().any(|(_, seen)| !seen)
    }
}

pub(crate) struct Node {
    name: String,
    is_over: bool,
    expires_at: Timestamp,
    lease_ms: u64,
    pub(crate) outcomes: VecDeque<(u64, Vec<Result<InboxCursor, AppendError>>)>,
}

/// All tables.
#[derive(Default)]
pub struct Tables {
    /// Executions.
    pub executions: BTreeMap<ExecutionKey, Row>,
    /// Questions to people.
    pub questions: BTreeMap<(TenantId, String), ApprovalRow>,
    pub(crate) components: BTreeMap<(TenantId, String, String), Component>,
    /// What names were granted.
    pub(crate) grants: BTreeMap<(TenantId, String), String>,
    pub(crate) bytes: BTreeMap<(TenantId, String), Vec<u8>>,
    /// Components without a name, with the time at which they lost it.
    pub(crate) nameless: BTreeMap<(TenantId, String), Timestamp>,
    /// The number of uploads and removals of components.
    pub(crate) uploads: i64,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) acts: Vec<StoredAct>,
    /// Links to questions, with their tenants, the oldest first.
    pub(crate) links: Vec<(TenantId, ApprovalLink)>,
    /// Bulk jobs, the oldest first.
    pub(crate) bulk_jobs: Vec<StoredBulkJob>,
    pub(crate) egress: BTreeMap<TenantId, Egress>,
    pub(crate) views: BTreeMap<ViewKey, StoredView>,
    nodes: BTreeMap<Incarnation, Node>,
    /// The numbers that were allocated so far. No number is allocated twice.
    numbers: i64,
    /// Executions of batches with an event that is stamped later than it was written: something was told before its
    /// time.
    pub early: Vec<ExecutionKey>,
    /// The time of the current transaction.
    pub(crate) now: Timestamp,
    /// Executions for which hints are sent after the transaction.
    pub(crate) moved: Vec<ExecutionKey>,
}

impl Tables {
    pub(crate) fn number(&mut self) -> i64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn begin_lease(
        &mut self,
        node: &str,
        after: Option<Incarnation>,
        duration: Duration,
    ) -> Result<Lease, Incarnation> {
        let earlier = self.nodes.iter().filter(|(_, there)| there.name == node).map(|(incarnation, _)| *incarnation);
        let earlier: Vec<_> = earlier.collect();
        if let Some(last) = earlier.iter().max().filter(|last| after.is_none_or(|after| after < **last)) {
            return Err(*last);
        }
        for incarnation in earlier {
            self.retire(incarnation);
        }
        let incarnation = Incarnation(self.number());
        let lease_ms = millis(duration);
        let expires_at = self.now.plus(lease_ms);
        let node = Node { name: node.to_owned(), is_over: false, expires_at, lease_ms, outcomes: VecDeque::new() };
        self.nodes.insert(incarnation, node);
        Ok(Lease { incarnation, remaining: duration, now: self.now })
    }

    pub(crate) fn renew_lease(&mut self, incarnation: Incarnation, duration: Duration) -> Option<Lease> {
        let now = self.now;
        let node = self.standing(incarnation)?;
        node.expires_at = now.plus(millis(duration));
        Some(Lease { incarnation, remaining: duration, now })
    }

    pub(crate) fn retire(&mut self, incarnation: Incarnation) {
        if let Some(node) = self.nodes.get_mut(&incarnation) {
            node.is_over = true;
        }
        for row in self.executions.values_mut().filter(|row| row.owner == Some(incarnation)) {
            row.owner = None;
        }
    }

    pub(crate) fn expire_leases(&mut self) -> u64 {
        let now = self.now;
        let expired = self.nodes.iter().filter(|(_, node)| !node.is_over && node.expires_at <= now);
        let expired: Vec<_> = expired.map(|(incarnation, node)| (*incarnation, node.expires_at)).collect();
        for (incarnation, at) in &expired {
            for row in self.executions.values_mut().filter(|row| row.owner == Some(*incarnation)) {
                if claims::can_move(row, *at) {
                    row.crashes = (row.crashes_here() + 1, row.head.position);
                }
            }
            self.retire(*incarnation);
        }
        expired.len() as u64
    }

    /// The node of an incarnation, if its lease is valid.
    pub(crate) fn standing(&mut self, incarnation: Incarnation) -> Option<&mut Node> {
        let now = self.now;
        self.nodes.get_mut(&incarnation).filter(|node| !node.is_over && node.expires_at > now)
    }

    /// The nodes whose leases have not ended.
    pub(crate) fn nodes(&self) -> Vec<NodeRow> {
        let standing = self.nodes.iter().filter(|(_, node)| !node.is_over);
        let row = |(incarnation, node): (&Incarnation, &Node)| NodeRow {
            name: node.name.clone(),
            incarnation: *incarnation,
            lease_left: Duration::from_millis(node.expires_at.since(self.now)),
            executions: self.executions.values().filter(|row| row.owner == Some(*incarnation)).count() as u64,
        };
        let mut rows: Vec<NodeRow> = standing.map(row).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    pub(crate) fn is_not_over(&self, incarnation: Incarnation) -> bool {
        self.nodes.get(&incarnation).is_some_and(|node| !node.is_over)
    }

    /// The outcome of the append with this id, if it happened.
    pub(crate) fn outcome(&self, incarnation: Incarnation, id: u64) -> Option<Vec<Result<InboxCursor, AppendError>>> {
        let outcomes = &self.nodes.get(&incarnation)?.outcomes;
        outcomes.iter().find(|(kept, _)| *kept == id).map(|(_, answers)| answers.clone())
    }

    /// Keeps the outcome of an append, which counts as a renewal.
    pub(crate) fn record(&mut self, incarnation: Incarnation, id: u64, answers: &[Result<InboxCursor, AppendError>]) {
        let now = self.now;
        let Some(node) = self.standing(incarnation) else { return };
        node.expires_at = node.expires_at.max(now.plus(node.lease_ms));
        node.outcomes.push_back((id, answers.to_vec()));
        while node.outcomes.len() > OUTCOMES_MAX {
            node.outcomes.pop_front();
        }
    }

    /// The name of an incarnation's node.
    #[must_use]
    pub fn node_name(&self, incarnation: Incarnation) -> Option<&str> {
        self.nodes.get(&incarnation).map(|node| node.name.as_str())
    }

    /// How much longer the lease of an incarnation lasts, in milliseconds; 0 when it is over.
    #[must_use]
    pub fn lease_left_ms(&self, incarnation: Incarnation, now: Timestamp) -> u64 {
        let node = self.nodes.get(&incarnation).filter(|node| !node.is_over && node.expires_at > now);
        node.map_or(0, |node| node.expires_at.since(now))
    }

    /// Lets a lease run out now.
    pub fn expire(&mut self, incarnation: Incarnation) {
        if let Some(node) = self.nodes.get_mut(&incarnation) {
            node.expires_at = Timestamp(0);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
