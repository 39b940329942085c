//! What happened, and what follows from it. This crate is pure: it has no IO, no async code, no clock and no source of
//! random numbers.

mod approvers;
mod attributes;
mod body;
mod call;
mod event;
mod execution;
mod failure;
mod family;
mod guest;
mod ids;
mod journal;
mod keys;
mod limits;
mod open;
mod planted;
mod poll;
mod reopening;
mod retry;
mod shown;
mod size;
mod status;
mod trace;
mod value;
mod verb;
mod waits;

pub use approvers::{APPROVER_ROLES, APPROVERS_KEYWORD, Approvers};
pub use attributes::{check_attribute, check_attributes};
pub use call::{
    Approval, ApprovalRequest, Call, HttpRequest, HttpResponse, Outcome, RetryPolicy, StepCall, StepOptions,
    WorkflowCall,
};
pub use event::{Cause, Event, EventData, RULES, Unreadable};
pub use execution::{
    Action, ApprovalEdge, Changes, ChildResult, End, EndedStep, Execution, ExecutionOptions, Identity, LogEntry,
    Message, Moment, Receipt, Snapshot, Target,
};
pub use failure::{Failure, kind};
pub use family::{ChildStart, Parent};
pub use guest::{Delivery, Entry, GuestInput, Level, Request, Turn};
pub use ids::{CallName, Digest, ExecutionId, InvalidName, Position, Scope, Timestamp};
pub use journal::NonDeterminism;
pub use keys::Seed;
pub use limits::{
    APPROVAL_BYTES_MAX, APPROVER_BYTES_MAX, APPROVERS_MAX, ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTES_BYTES_MAX,
    ATTRIBUTES_MAX, CHILD_DEPTH_MAX, DETAILS_BYTES_MAX, HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, KIND_BYTES_MAX,
    LAST_CHECK_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, OPEN_CALL_BYTES_MAX, OPEN_CALLS_MAX, OPEN_CHILDREN_MAX,
    POLL_INTERVAL_MS_MIN, RETRY_DELAY_MS_MIN, ROUND_BYTES_MAX, RUN_LOG_BYTES_MAX, STEP_DEPTH_MAX, VALUE_BYTES_MAX,
    VALUE_DEPTH_MAX, WAIT_MS_MAX,
};
pub use open::{Attempts, CallPhase, OpenCall, OpenPoll, OpenStep, PinnedStep};
pub use planted::planted;
pub use poll::PollPolicy;
pub use reopening::{ReopenMode, Reopening, failed_call, reopening};
pub use shown::brief;
pub use status::{Status, StepLine, UnknownStatus, steps, waiting_on};
pub use trace::{CallerSpan, InvalidTraceparent, SpanContext, TRACE_STATE_BYTES_MAX, TraceRecord};
pub use value::{InvalidJson, Json};
pub use verb::{Resumption, Verb, check_inbox};
pub use waits::{FirstWait, LastFailure, UnknownWait, WaitFilter, WaitKind, Waiting};
