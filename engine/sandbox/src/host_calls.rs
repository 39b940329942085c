//! The calls of a guest: their ordinals, the open calls and their outcomes, the clock, and the guest's log and
//! progress.
//!
//! Host functions write on one side; the loop that drives the guest reads on the other. Both run on the same thread,
//! one after the other, so the lock is never contended. It is there because a guest changes threads between polls.

use std::collections::HashMap;
use std::sync::Arc;

use cerebelum_history::{Call, Delivery, Failure, Level, OPEN_CALLS_MAX, Outcome, Request, kind};
use futures::channel::oneshot;
use parking_lot::Mutex;

use crate::limits::{
    LAST_WORDS_BYTES_MAX, LOG_BYTES_MAX, LOG_LINE_BYTES, REQUEST_BYTES, TEXT_BYTES_MAX, TURN_BYTES_MAX,
};
use crate::lines::Lines;
use crate::{Account, Held, HostError};

/// The initial value of the monotonic clock. It is late enough that a program may subtract from it, and early enough
/// that a floating-point number of seconds still resolves microseconds.
const MONOTONIC_START_NS: u64 = 24 * 3_600_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum TablePhase {
    /// Start functions may run. No durable call is possible yet.
    Preparing,
    /// The guest's function runs.
    Running,
    /// The guest has ended or is being dropped. Futures dropped from now on were not dropped by the guest.
    Closed,
}

/// Which stream a guest writes to.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Out,
    Err,
}

struct OpenSlot {
    answer: oneshot::Sender<Outcome>,
    fits: fn(&Outcome) -> bool,
}

struct CallTable {
    phase: TablePhase,
    began_ms: u64,
    clock_ms: u64,
    last_ordinal: u32,
    open: HashMap<u32, OpenSlot>,
    requests: Vec<Request>,
    turn_bytes: usize,
    /// The size of this turn's requests and log lines, accounted in the ledger until they are taken.
    held: Held,
    progress_at: Option<usize>,
    log_bytes: usize,
    log_lines_dropped: u64,
    out: Lines,
    err: Lines,
    stderr_tail: String,
    memory_refused: bool,
    refusal: Option<Failure>,
}

/// The calls of one guest.
pub(crate) struct HostCalls(Mutex<CallTable>);

impl HostCalls {
    pub(crate) fn new(clock_ms: u64, account: &Arc<Account>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(CallTable {
            phase: TablePhase::Preparing,
            began_ms: clock_ms,
            clock_ms,
            last_ordinal: 0,
            open: HashMap::new(),
            requests: Vec::new(),
            turn_bytes: 0,
            held: account.hold(0),
            progress_at: None,
            log_bytes: 0,
            log_lines_dropped: 0,
            out: Lines::default(),
            err: Lines::default(),
            stderr_tail: String::new(),
            memory_refused: false,
            refusal: None,
        })))
    }

    /// Allows durable calls from now on.
    pub(crate) fn open_for_calls(&self) {
        self.0.lock().phase = TablePhase::Running;
    }

    /// Closes the table: futures dropped from now on were not dropped by the guest.
    pub(crate) fn close(&self) {
        self.0.lock().phase = TablePhase::Closed;
    }

    /// Records a call and gives it its ordinal, or refuses it with a reason. The result is the same live and on replay.
    pub(crate) fn issue(self: &Arc<Self>, call: Call) -> Result<PendingCall, Failure> {
        let mut table = self.0.lock();
        table.admit(call.weight())?;
        let (answer, outcome) = oneshot::channel();
        let ordinal = table.next_ordinal();
        table.open.insert(ordinal, OpenSlot { answer, fits: fitting(&call) });
        table.requests.push(Request::Call(ordinal, call));
        Ok(PendingCall { calls: Arc::clone(self), ordinal, outcome })
    }

    /// Whether the execution has come to hold more than it may while others wait.
    pub(crate) fn has_outgrown(&self) -> bool {
        let account = Arc::clone(self.0.lock().held.account());
        account.has_outgrown()
    }

    /// Records an attribute. It takes an ordinal but has no outcome.
    pub(crate) fn set_attribute(&self, name: String, value: cerebelum_history::Json) -> Result<(), Failure> {
        let mut table = self.0.lock();
        table.admit(name.len() + value.as_str().len())?;
        let ordinal = table.next_ordinal();
        table.requests.push(Request::SetAttribute(ordinal, name, value));
        Ok(())
    }

    /// Cancels a call that the guest no longer waits for but cannot drop. Its outcome is `cancelled`.
    pub(crate) fn cancel(&self, ordinal: u32) {
        let mut table = self.0.lock();
        if let Some(open) = table.open.remove(&ordinal) {
            table.requests.push(Request::Drop(ordinal));
            let failure = Failure::new(kind::CANCELLED, "the guest no longer waits for this call");
            // The receiver is gone if the guest dropped the call as well.
            let _ = open.answer.send(Outcome::Failed(failure));
        }
    }

    fn withdraw(&self, ordinal: u32) {
        let mut table = self.0.lock();
        if table.phase == TablePhase::Running && table.open.remove(&ordinal).is_some() {
            table.requests.push(Request::Drop(ordinal));
        }
    }

    /// Advances the clock and delivers the outcome of one call.
    pub(crate) fn deliver(&self, delivery: Delivery) -> Result<(), HostError> {
        let mut table = self.0.lock();
        let ordinal = delivery.ordinal;
        match table.open.get(&ordinal) {
            None if ordinal <= table.last_ordinal => return Ok(()),
            None => return Err(HostError::UnknownCall(ordinal)),
            Some(open) if !(open.fits)(&delivery.outcome) => return Err(HostError::WrongOutcome(ordinal)),
            Some(_) => {}
        }
        table.clock_ms = table.clock_ms.max(delivery.clock.0);
        let open = table.open.remove(&ordinal).expect("the call was open a line ago");
        let _ = open.answer.send(delivery.outcome);
        Ok(())
    }

    /// Begins a turn and resets the limits that apply to each turn.
    pub(crate) fn begin_turn(&self) {
        let mut table = self.0.lock();
        table.turn_bytes = 0;
        table.memory_refused = false;
        table.refusal = None;
        table.stderr_tail.clear();
    }

    /// Takes the requests and log lines since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        let mut table = self.0.lock();
        table.progress_at = None;
        table.held.set(0);
        std::mem::take(&mut table.requests)
    }

    /// The number of open calls.
    pub(crate) fn open_calls(&self) -> usize {
        self.0.lock().open.len()
    }

    /// Whether any call is open.
    pub(crate) fn has_open_call(&self) -> bool {
        !self.0.lock().open.is_empty()
    }

    /// Records that a wait was refused which cannot report an error to the guest.
    pub(crate) fn refuse_wait(&self, refusal: Failure) {
        self.0.lock().refusal = Some(refusal);
    }

    /// The wait that was refused in this turn.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        self.0.lock().refusal.clone()
    }

    pub(crate) fn last_ordinal(&self) -> u32 {
        self.0.lock().last_ordinal
    }

    pub(crate) fn clock_ms(&self) -> u64 {
        self.0.lock().clock_ms
    }

    /// The monotonic clock. It starts with the scope.
    pub(crate) fn monotonic_ns(&self) -> u64 {
        let table = self.0.lock();
        MONOTONIC_START_NS.saturating_add((table.clock_ms - table.began_ms).saturating_mul(1_000_000))
    }

    pub(crate) fn log(&self, level: Level, line: &str) {
        self.0.lock().log(level, line);
    }

    /// Progress is state: within a turn the latest one replaces the earlier ones.
    pub(crate) fn progress(&self, percent: u8, message: &str) {
        let mut table = self.0.lock();
        let said = Request::Progress(percent.min(100), cut(message, TEXT_BYTES_MAX).to_owned());
        match table.progress_at {
            Some(at) => table.requests[at] = said,
            None => {
                table.progress_at = Some(table.requests.len());
                table.requests.push(said);
            }
        }
    }

    /// Takes bytes that a guest wrote to a standard stream, and logs them line by line.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut table = self.0.lock();
        let (lines, level) = match stream {
            Stream::Out => (table.out.push(bytes), Level::Info),
            Stream::Err => (table.err.push(bytes), Level::Warn),
        };
        for line in lines {
            table.log_from(level, &line);
        }
    }

    /// Logs the rest that was written without a newline, and the number of dropped lines.
    pub(crate) fn flush_lines(&self) {
        let mut table = self.0.lock();
        if let Some(line) = table.out.rest() {
            table.log_from(Level::Info, &line);
        }
        if let Some(line) = table.err.rest() {
            table.log_from(Level::Warn, &line);
        }
        if table.log_lines_dropped > 0 {
            let note = format!("{} log lines beyond {LOG_BYTES_MAX} bytes were dropped", table.log_lines_dropped);
            table.requests.push(Request::Log(Level::Warn, note));
        }
    }

    /// The end of the output that the guest wrote to standard error in this turn.
    pub(crate) fn stderr_tail(&self) -> String {
        self.0.lock().stderr_tail.clone()
    }

    pub(crate) fn refuse_memory(&self) {
        self.0.lock().memory_refused = true;
    }

    pub(crate) fn memory_was_refused(&self) -> bool {
        self.0.lock().memory_refused
    }
}

impl CallTable {
    fn next_ordinal(&mut self) -> u32 {
        self.last_ordinal = self.last_ordinal.checked_add(1).expect("no scope lives for four billion calls");
        self.last_ordinal
    }

    fn admit(&mut self, bytes: usize) -> Result<(), Failure> {
        if self.phase != TablePhase::Running {
            let why = "no durable call is possible while a component starts or describes itself";
            return Err(Failure::new(kind::NOT_GRANTED, why));
        }
        if self.open.len() >= OPEN_CALLS_MAX {
            let why = format!("{OPEN_CALLS_MAX} calls are open already: await some of them first");
            return Err(Failure::new(kind::CALL_LIMIT, why));
        }
        // Each request counts a fixed size in addition to its values, so that the number of empty ones is bounded as
        // well.
        let bytes = self.turn_bytes.saturating_add(bytes).saturating_add(REQUEST_BYTES);
        if bytes > TURN_BYTES_MAX {
            let why = format!("more than {TURN_BYTES_MAX} bytes asked for at one moment: await some calls first");
            return Err(Failure::new(kind::CALL_LIMIT, why));
        }
        self.held.grow((bytes - self.turn_bytes) as u64);
        self.turn_bytes = bytes;
        Ok(())
    }

    fn log_from(&mut self, level: Level, line: &str) {
        if level >= Level::Warn {
            self.stderr_tail.push_str(line);
            self.stderr_tail.push('\n');
            let excess = self.stderr_tail.len().saturating_sub(LAST_WORDS_BYTES_MAX);
            let cut = (excess..).find(|&at| self.stderr_tail.is_char_boundary(at)).unwrap_or(0);
            self.stderr_tail.drain(..cut);
        }
        self.log(level, line);
    }

    fn log(&mut self, level: Level, line: &str) {
        let line = cut(line, TEXT_BYTES_MAX);
        // Counted over the whole attempt, so that a rerun drops exactly the same lines.
        self.log_bytes = self.log_bytes.saturating_add(line.len() + LOG_LINE_BYTES);
        if self.log_bytes > LOG_BYTES_MAX {
            self.log_lines_dropped += 1;
        } else {
            self.held.grow((line.len() + LOG_LINE_BYTES) as u64);
            self.requests.push(Request::Log(level, line.to_owned()));
        }
    }
}

/// A call that waits for its outcome. Dropping it tells the engine that the guest no longer wants the outcome.
pub(crate) struct PendingCall {
    calls: Arc<HostCalls>,
    ordinal: u32,
    outcome: oneshot::Receiver<Outcome>,
}

impl PendingCall {
    pub(crate) async fn outcome(&mut self) -> Outcome {
        (&mut self.outcome).await.expect("the table keeps a call's sender until it answers")
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.calls.withdraw(self.ordinal);
    }
}

/// Returns the check whether an outcome fits this call.
fn fitting(call: &Call) -> fn(&Outcome) -> bool {
    match call {
        Call::Sleep { .. } => |o| matches!(o, Outcome::Slept | Outcome::Failed(_)),
        Call::Step(..) | Call::Poll(..) | Call::Signal { .. } | Call::RunWorkflow(_) => {
            |o| matches!(o, Outcome::Value(_) | Outcome::Failed(_))
        }
        Call::Approval(_) => |o| matches!(o, Outcome::Approved(_) | Outcome::Failed(_)),
        Call::Fetch(_) => |o| matches!(o, Outcome::Responded(_) | Outcome::Failed(_)),
        Call::StartWorkflow(_) => |o| matches!(o, Outcome::Started(_) | Outcome::Failed(_)),
        Call::ContinueAsNew { .. } => |o| matches!(o, Outcome::Failed(_)),
    }
}

/// The beginning of a text: at most `bytes_max` bytes, cut at a character boundary.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}
