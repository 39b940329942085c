//! What happened and what follows from it. Pure: this crate knows no IO, no async, no clock and no chance.

mod body;
mod call;
mod event;
mod execution;
mod failure;
mod guest;
mod ids;
mod journal;
mod keys;
mod open;
mod planted;
mod reopening;
mod retry;
mod status;
mod value;

pub use call::{
    Approval, ApprovalRequest, Call, HttpRequest, HttpResponse, Outcome, PollPolicy, RetryPolicy, StepCall,
    StepOptions, WAIT_MS_MAX, WorkflowCall,
};
pub use event::{Cause, Event, Fact, RULES, Unreadable};
pub use execution::{
    Action, ApprovalEdge, Changes, ChildResult, ChildStart, End, Execution, Facts, HISTORY_EVENTS_MAX, Identity,
    LogEntry, Message, Moment, OPEN_CALLS_MAX, Receipt, Stored, Target,
};
pub use failure::{Failure, MESSAGE_BYTES_MAX, kind};
pub use guest::{Begin, Delivery, Entry, Level, Request, Turn};
pub use ids::{CallName, Digest, ExecutionId, InvalidName, Position, Scope, Timestamp};
pub use journal::Diverged;
pub use keys::Seed;
pub use open::{Attempts, OpenCall, OpenPoll, OpenStep, Phase, PinnedStep};
pub use planted::planted;
pub use reopening::{ReopenMode, Reopening, failed_call, reopening};
pub use status::{StepLine, Waiting, status_word, steps, waiting_on};
pub use value::{InvalidJson, Json, VALUE_BYTES_MAX, VALUE_DEPTH_MAX};
