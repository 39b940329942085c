//! Every limit of an execution, with its unit, in one place. Whether a limit refuses something is a function of the
//! recorded history.

/// The largest JSON value that is accepted anywhere, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The deepest nesting of a JSON value. A deeper one would overflow a guest's stack.
pub const VALUE_DEPTH_MAX: usize = 128;
/// The longest failure message that is kept, in bytes. A longer one is cut.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// The longest failure kind, in bytes. A longer one is cut.
pub const KIND_BYTES_MAX: usize = 64;
/// The largest failure details that are kept, in bytes. Of larger ones only the beginning is kept, as a text.
pub const DETAILS_BYTES_MAX: usize = 64 << 10;
/// The longest wait: one year, in milliseconds. A call that asks for a longer one is refused.
pub const WAIT_MS_MAX: u64 = 365 * 24 * 3_600_000;
/// The longest name of a step, workflow or signal, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// The most events a history may have; a workflow that needs more continues as new.
pub const HISTORY_EVENTS_MAX: u64 = 50_000;
/// The most bytes that the history of one run may hold: values, texts and the flat cost of each event.
pub const HISTORY_BYTES_MAX: u64 = 64 << 20;
/// The most bytes that the journal of one round of a poll may hold.
pub const ROUND_BYTES_MAX: u64 = 16 << 20;
/// The most calls that may be open in one execution at once.
pub const OPEN_CALLS_MAX: usize = 10_000;
/// The most bytes of arguments that the open calls of one execution may hold together.
pub const OPEN_CALL_BYTES_MAX: u64 = 16 << 20;
/// The most children whose end one execution may wait for at once, because each may answer with a whole value.
pub const OPEN_CHILDREN_MAX: usize = 1_000;
/// How deeply steps may call steps.
pub const STEP_DEPTH_MAX: usize = 16;
/// How deeply children may start children.
pub const CHILD_DEPTH_MAX: u32 = 16;
/// The most bytes that a question to a person may hold: its data and the schema of its answer.
pub const APPROVAL_BYTES_MAX: usize = 256 << 10;
/// The most entries in a question's list of approvers.
pub const APPROVERS_MAX: usize = 32;
/// The longest entry in a question's list of approvers, in bytes.
pub const APPROVER_BYTES_MAX: usize = 256;
/// The most attributes that an execution may have.
pub const ATTRIBUTES_MAX: usize = 64;
/// The most bytes that the names and values of all attributes may hold together.
pub const ATTRIBUTES_BYTES_MAX: usize = 64 << 10;
/// The longest name of an attribute, in bytes.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
/// The most messages that may wait in an execution's inbox. A further signal is refused.
pub(crate) const INBOX_MESSAGES_MAX: u64 = 1_000;
/// The most bytes that these messages may hold together.
pub(crate) const INBOX_BYTES_MAX: u64 = 16 << 20;
/// The shortest pause between two checks of a poll.
pub const POLL_INTERVAL_MS_MIN: u64 = 10;
/// The shortest wait before a step is retried.
pub const RETRY_DELAY_MS_MIN: u64 = 10;
/// The most bytes that are kept of the value of a poll's last check, which is only shown.
pub const LAST_CHECK_BYTES_MAX: usize = 16 << 10;
/// The most bytes of log lines that one run of an execution may write. Further lines are dropped.
pub const RUN_LOG_BYTES_MAX: u64 = 64 << 20;
/// The number of runs of a chain that begin without a pause.
pub(crate) const RUNS_UNPACED_MAX: u32 = 100;
/// The pause before each further run, in milliseconds.
pub(crate) const RUN_PACE_MS: u64 = 100;

/// The cost of an open call, a log line or an attribute besides its texts, in bytes.
pub(crate) const FLAT_BYTES: u64 = 128;
