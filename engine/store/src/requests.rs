//! What callers ask of the store: claims, parts of histories, commands and filters of lists.

use std::sync::Arc;

use cerebelum_history::{Digest, ExecutionId, Position, Status, Timestamp, WaitFilter};

use crate::model::{ExecutionKey, Incarnation, TenantId};

/// The executions that a claim takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimFilter {
    /// Those that have something to do: up to `limit` executions that are due, have unseen messages, or are not
    /// settled, and are neither paused nor parked. Paused ones are claimed only for their unseen messages and their
    /// deadline. Half of the limit is for messages first; among the others, those that are overdue longest come first.
    Next {
        /// The most executions.
        limit: u32,
        /// The sizes that are accepted.
        size: Size,
    },
    /// The same, as many of each tenant as of any other, so that no tenant waits until another one has nothing more to do.
    InTurn {
        /// The most executions.
        limit: u32,
        /// The sizes that are accepted.
        size: Size,
        /// The tenants that get none.
        without: Vec<TenantId>,
        /// The tenant after which the first one comes.
        after: TenantId,
    },
    /// This one, even if it is not due, or is parked or paused.
    One(ExecutionKey),
}

/// The sizes of executions that a claim accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Any size.
    Any,
    /// At most [`SMALL_BYTES`]: there is no room for larger ones at present.
    Small,
}

/// An execution is small if it has at most this many bytes of open calls and messages.
pub const SMALL_BYTES: u64 = 128 << 10;

/// The part of a history to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryPart {
    /// The chunks from the one that holds the first position, up to the second position.
    Between(Position, Position),
    /// The chunks from the one that holds `from`: at least one if there is any, then as many as have `bytes_max` bytes
    /// together. This is the read for clients: however many clients read, commits do not wait for them.
    Page {
        /// The first position.
        from: Position,
        /// The most bytes, if there is more than one chunk.
        bytes_max: u64,
    },
    /// The chunks that begin at these positions. A missing one is an error of kind [`crate::StoreError::Corrupt`].
    At(Vec<Position>),
}

/// A command to an execution, by its key alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Puts a message into the inbox of an open execution.
    Send(String),
    /// Reopens a failed execution: its state becomes open, and its inbox receives the message.
    Reopen(String),
    /// Clears the parked flag and makes the execution claimable.
    Unpark,
    /// Parks an open execution that no other node has claimed. None of its rows is read, and afterwards it has no owner.
    Park {
        /// The node that may have claimed it.
        incarnation: Incarnation,
        /// Why a person must look at the execution.
        reason: String,
    },
    /// Ends an open execution as cancelled: none of its rows is read, and nothing is added to its history. Its calls and
    /// messages are deleted, its questions are withdrawn, and these messages are sent. This is for executions that can no
    /// longer be run.
    Bury {
        /// The messages to other executions of the tenant.
        messages: Vec<(ExecutionId, String)>,
    },
    /// Removes an ended execution with everything that belongs to it.
    Delete,
}

/// The questions to list: by default, the open ones of all executions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// Only this question, in whatever state it is. The rest of the filter does not matter then.
    pub id: Option<String>,
    /// All questions of this execution.
    pub execution: Option<ExecutionId>,
    /// Only questions after this place, as returned with the previous page.
    pub cursor: Option<String>,
    /// The most questions on the page. A page never has more than 1,000 questions, and exceeds 8 MiB by at most one
    /// question.
    pub limit: u32,
}

/// The executions to list. An empty filter lists all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Only executions with this status.
    pub status: Option<Status>,
    /// Only executions of this workflow: `component/workflow`, or the bare name.
    pub workflow: Option<String>,
    /// Only executions with these attributes, JSON scalars as text.
    pub attributes: Vec<(String, String)>,
    /// Only children of the execution with this id, whichever run started them, and whether or not it still exists.
    pub parent: Option<ExecutionId>,
    /// Only executions whose id begins like this.
    pub id_prefix: Option<String>,
    /// Only executions that wait for this, and for nothing that lists show before it. Those that are paused or parked wait
    /// for nothing.
    pub waits_for: Option<WaitFilter>,
    /// Only executions that failed for this kind of reason; with the status parked, those that are parked for it.
    pub failure: Option<String>,
    /// Only executions that were started at this moment or later.
    pub since: Option<Timestamp>,
    /// Only executions that were started before this moment.
    pub until: Option<Timestamp>,
    /// Only executions after this place, as returned with the previous page.
    pub cursor: Option<String>,
    /// The most executions on the page.
    pub limit: u32,
}

/// A component to store under a name, of which it becomes the current version.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The tenant.
    pub tenant: TenantId,
    /// The name.
    pub name: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The declarations, as JSON.
    pub manifest: String,
    /// The bytes. They are packed on another thread.
    pub bytes: Arc<Vec<u8>>,
    /// What becomes of it.
    pub change: VersionChange,
}

/// What becomes of a version of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionChange {
    /// Its state among the versions of its name.
    pub state: VersionState,
    /// What its name is granted from now on, as a JSON array.
    pub granted: String,
    /// The number of uploads when this was decided, see [`crate::ComponentStore::uploads`]. It does not hold once there was
    /// another one.
    pub uploads: i64,
}

/// The state of a version among those of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// New executions use it.
    Current,
    /// It waits beside the current one until it is accepted.
    Proposed,
}
