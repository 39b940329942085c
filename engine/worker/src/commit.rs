//! Decides when an activation's changes are written, and handles the result: effects leave, the claim is given back, or
//! memory is rebuilt.

use std::time::Duration;

use cerebelum_history::{Position, planted};
use cerebelum_store::{AppendError, InboxCursor};
use futures::future::BoxFuture;

use crate::activation::{Ack, Activation, Exit};
use crate::activation_error::ActivationError;
use crate::appender::{Appended, CLAIM_LOST, NotWritten};
use crate::batch::parking;
use crate::engine_error::EngineError;

/// How long changes that nothing waits for are held back while guests move, so that further changes share the same
/// commit.
const HELD_MS_MAX: u64 = 5;

/// A batch that was sent to the store.
pub(crate) struct InFlight {
    pub(crate) answer: BoxFuture<'static, Option<Appended>>,
    pub(crate) lsn: u64,
    pub(crate) position: Position,
    pub(crate) releases: bool,
    /// Whether the batch is followed by another run.
    pub(crate) continues: bool,
    pub(crate) sent_boot_ms: u64,
}

impl Activation {
    /// Submits the changes to the committer, unless a batch is still in flight (L4) or the changes can wait for more.
    pub(crate) async fn commit(&mut self) -> Result<(), ActivationError> {
        if self.in_flight.is_some() || !self.execution.has_changes() {
            return Ok(());
        }
        // During a long wait the execution leaves memory: the same batch gives the claim back.
        let releases = self.execution.end().is_some() || (self.is_idle() && self.wait_is_long());
        if releases {
            // The guests are no longer needed. Their slots are freed before the disk has answered.
            self.give_way(self.guests.quiescent());
        } else {
            self.held_since_ms.get_or_insert_with(|| self.node.clock.boot_ms());
            let is_awaited = self.log_is_awaited() || self.requests_await_batch();
            if self.hold_left().is_some_and(|left| !left.is_zero()) && !is_awaited {
                return Ok(());
            }
        }
        self.write(releases).await
    }

    /// How much longer changes may be held back; none when there are no changes or no guest moves.
    pub(crate) fn hold_left(&self) -> Option<Duration> {
        let since = self.held_since_ms.filter(|_| self.in_flight.is_none() && self.guests.any_running())?;
        let held = self.node.clock.boot_ms() - since;
        Some(Duration::from_millis(HELD_MS_MAX.saturating_sub(held)))
    }

    /// Whether a request waits for the log before it leaves, or a quiescent guest before it gets an outcome.
    fn log_is_awaited(&self) -> bool {
        self.requests.await_log() || self.execution.holds_any_up()
    }

    pub(crate) fn is_idle(&self) -> bool {
        let calm = self.execution.is_settled() || self.execution.is_paused();
        calm && !self.guests.any_running() && !self.requests.keep_awake(self.execution.is_paused())
    }

    /// Depends on the history alone: it does not matter how long after the beginning of the wait this is called.
    fn wait_is_long(&self) -> bool {
        let wait = self.execution.due().map(|due| Duration::from_millis(due.since(self.execution.stamp())));
        wait.is_some_and(|wait| wait >= self.node.config.hibernate_at_once)
    }

    /// Gives the claim back when there is nothing to do.
    pub(crate) async fn hibernate(&mut self) -> Result<(), ActivationError> {
        if self.in_flight.is_none() && self.is_idle() { self.write(true).await } else { Ok(()) }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|batch| batch.releases)
    }

    /// Waits for the batch that gives the claim back. Work that began meanwhile would be thrown away, so none begins.
    pub(crate) async fn await_release(&mut self) -> Result<(), ActivationError> {
        let answer = tokio::select! {
            biased;
            () = self.node.lease.ended(self.incarnation) => Some(Err(CLAIM_LOST)),
            answer = answer_of(&mut self.in_flight) => answer,
        };
        self.take_receipt(answer).await
    }

    /// Handles the result of the batch in flight.
    pub(crate) async fn take_receipt(&mut self, answer: Option<Appended>) -> Result<(), ActivationError> {
        let batch = self.in_flight.take();
        if let (Some(Ok(_)), Some(starting)) = (&answer, self.starting.take()) {
            crate::fail::point("start-sent");
            self.node.metrics.started.inc();
            // The caller may be gone.
            let _ = starting.stored.send(Ack);
        }
        match (answer, batch) {
            (Some(Ok(newest)), Some(batch)) if batch.releases => {
                let more = batch.continues || newest > self.heard();
                Err(ActivationError::Exit(if more { Exit::ReleasedWithWork } else { Exit::Released }))
            }
            (Some(Ok(newest)), Some(batch)) => {
                self.execution.acknowledge(batch.lsn, batch.position);
                self.stored = batch.position;
                if newest > self.heard() && !planted("pause-not-heard") {
                    // A pause or cancel may have been stored before this batch was written (L16).
                    self.read_inbox().await?;
                }
                self.requests.hold_back(&mut self.execution);
                self.requests.release(batch.lsn);
                Ok(())
            }
            (Some(Err(NotWritten::Refused(refusal))), Some(_)) => not_written(refusal),
            (Some(Err(NotWritten::Rejected(cause))), Some(_)) => {
                Err(ActivationError::Engine(EngineError::Rejected(cause)))
            }
            (None, _) | (_, None) => Err(ActivationError::Exit(Exit::Lost)),
        }
    }

    /// The number of the newest message received.
    fn heard(&self) -> InboxCursor {
        InboxCursor(self.received.last().copied().unwrap_or(0))
    }

    /// Stores at least the start of an execution that begins here, before it ends in any other way.
    pub(crate) async fn store_start(&mut self) -> Result<(), Exit> {
        while self.starting.is_some() {
            let stored = match self.in_flight.is_some() {
                true => self.await_release().await,
                false => self.write(false).await,
            };
            match stored {
                Ok(()) => {}
                Err(ActivationError::Exit(over)) => return Err(over),
                Err(ActivationError::Parked(_) | ActivationError::Engine(_)) => return Err(Exit::Lost),
            }
        }
        Ok(())
    }

    /// Before memory is rebuilt, waits for the batch in flight, which may give the claim back.
    pub(crate) async fn settle(&mut self, over: Exit) -> Exit {
        let rebuilds = matches!(over, Exit::Rebuild | Exit::EngineError(_));
        let Some(batch) = self.in_flight.take().filter(|_| rebuilds) else { return over };
        match batch.answer.await {
            Some(Ok(_)) if batch.releases => Exit::ReleasedWithWork,
            Some(Err(CLAIM_LOST)) | None => Exit::Lost,
            Some(_) => over,
        }
    }

    /// Parks the execution for a person. Nothing is lost: calls that were not durable are made again.
    pub(crate) async fn park(&mut self, reason: String) -> Exit {
        tracing::error!(execution = %self.key.id, reason, "parked");
        if let Err(over) = self.store_start().await {
            return over;
        }
        if let Some(batch) = self.in_flight.take() {
            match batch.answer.await {
                Some(Ok(_)) => self.stored = batch.position,
                _ => return Exit::Rebuild,
            }
        }
        self.node.metrics.parked.inc();
        let parking = parking(self.incarnation, &self.head, self.stored, reason);
        let answer = self.node.appends.submit((parking, None));
        match answer.await {
            Some(Ok(_)) => Exit::Released,
            Some(Err(_)) | None => Exit::Lost,
        }
    }
}

/// Handles a batch that does not fit the stored state.
fn not_written(refusal: AppendError) -> Result<(), ActivationError> {
    match refusal {
        AppendError::Moved | AppendError::AlreadyAnswered if planted("refused-and-patched") => Ok(()),
        AppendError::Moved | AppendError::AlreadyAnswered => Err(ActivationError::Exit(Exit::Rebuild)),
        AppendError::TooEarly => {
            Err(ActivationError::Engine(EngineError::Passing("the database's clock is behind this node's".to_owned())))
        }
        // Parked in its stored state: memory holds the row that was not written.
        AppendError::Forbidden => {
            Err(ActivationError::Engine(EngineError::Forbidden("the store forbids what was to be written".to_owned())))
        }
        AppendError::ClaimLost | AppendError::Exists => Err(ActivationError::Exit(Exit::Lost)),
    }
}

/// The result of the batch in flight; never returns when there is none.
pub(crate) async fn answer_of(in_flight: &mut Option<InFlight>) -> Option<Appended> {
    match in_flight {
        Some(batch) => (&mut batch.answer).await,
        None => std::future::pending().await,
    }
}
