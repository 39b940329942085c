//! The log of one execution as its activation writes it: the stored row, and the one batch that is on its way (L4).

use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{CallName, Changes, Execution, HttpRequest, Position, planted};
use cerebelum_store::{Act, Command, ExecutionKey, ExecutionRow, InboxCursor, Incarnation};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::activation_error::{ActivationError, Exit};
use crate::appender::{Appended, CLAIM_LOST};
use crate::batch::{BatchBuilder, parking};
use crate::env::HostHeaders;
use crate::guests::Guests;
use crate::metrics::BatchTally;
use crate::node::Node;
use crate::stored_history::StoredHistory;
use crate::tenant_turns::TenantTurn;
use crate::traces::{Span, Tracer};

/// How long changes that nothing waits for are held back while guests move, so that further changes share the same
/// commit.
const HELD_MS_MAX: u64 = 5;

/// Sent once the first batch of an execution is durable.
pub(crate) struct Ack;

/// A start that is not durable yet.
pub(crate) struct PendingStart {
    pub(crate) stored: oneshot::Sender<Ack>,
    /// What its client does, until it is part of a batch.
    pub(crate) act: Option<Act>,
    /// A limited number of executions may run ahead of their own start.
    pub(crate) _turn: TenantTurn,
}

/// A batch that was sent to the store.
pub(crate) struct InFlight {
    answer: BoxFuture<'static, Option<Appended>>,
    pub(crate) lsn: u64,
    pub(crate) position: Position,
    pub(crate) releases: bool,
    /// Whether the batch is followed by another run.
    pub(crate) continues: bool,
    sent_boot_ms: u64,
    tally: BatchTally,
    /// The spans that the batch makes, until it is durable.
    spans: Vec<Span>,
}

impl InFlight {
    /// Counts the batch, which is durable, and exports its spans.
    fn count(&mut self, node: &Node, workflow: &str) {
        let trace = self.spans.last().map(|span| span.context.trace);
        self.tally.count(&node.metrics, workflow, trace);
        node.traces.iter().for_each(|traces| traces.export(std::mem::take(&mut self.spans)));
    }
}

/// What becomes of the claim with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Keep,
    GiveBack,
}

/// The log of one execution.
pub(crate) struct ExecutionLog {
    node: Arc<Node>,
    pub(crate) incarnation: Incarnation,
    /// The row as of the last batch that was sent.
    pub(crate) row: ExecutionRow,
    pub(crate) history: StoredHistory,
    /// The last stored position; 0 while nothing of the execution is stored.
    stored: Position,
    in_flight: Option<InFlight>,
    /// Since when changes are held back, by the machine's boot-time clock.
    held_since_ms: Option<u64>,
    /// Makes spans of what the batches say; none if the execution's are not exported.
    pub(crate) tracer: Option<Box<Tracer>>,
    /// Set until the first batch of an execution that begins here is durable.
    starting: Option<PendingStart>,
}

impl ExecutionLog {
    /// The log of an execution with this row. A start is an execution of which nothing is stored yet.
    pub(crate) fn new(
        node: Arc<Node>,
        (incarnation, row): (Incarnation, ExecutionRow),
        starting: Option<PendingStart>,
    ) -> Self {
        let stored = if starting.is_some() { Position(0) } else { row.position };
        let history = StoredHistory::new(node.clone(), (row.key.clone(), row.run), stored);
        let (in_flight, held_since_ms, tracer) = (None, None, None);
        Self { node, incarnation, row, history, stored, in_flight, held_since_ms, tracer, starting }
    }

    pub(crate) fn key(&self) -> &ExecutionKey {
        &self.row.key
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the batch in flight gives the claim back.
    pub(crate) fn is_leaving(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|batch| batch.releases)
    }

    /// How long the batch has been in flight, in milliseconds.
    pub(crate) fn in_flight_ms(&self) -> Option<u64> {
        self.in_flight.as_ref().map(|batch| self.node.clock.boot_ms() - batch.sent_boot_ms)
    }

    /// How much longer changes may be held back; none when there are no changes or no guest moves.
    pub(crate) fn hold_left(&self, guests_move: bool) -> Option<Duration> {
        let since = self.held_since_ms.filter(|_| self.in_flight.is_none() && guests_move)?;
        let held = self.node.clock.boot_ms() - since;
        Some(Duration::from_millis(HELD_MS_MAX.saturating_sub(held)))
    }

    /// Whether changes have to be written now, because they may not be held back for longer.
    pub(crate) fn must_write(&mut self, guests_move: bool) -> bool {
        self.held_since_ms.get_or_insert_with(|| self.node.clock.boot_ms());
        self.hold_left(guests_move).is_none_or(|left| left.is_zero())
    }

    /// Submits all changes to the committer. While `guests_move`, the execution is not settled.
    pub(crate) async fn write(
        &mut self,
        execution: &mut Execution,
        guests_move: bool,
        claim: Claim,
    ) -> Result<(), ActivationError> {
        let releases = claim == Claim::GiveBack;
        let room = self.node.transit.to_write(execution.unwritten_bytes()).await;
        let mut changes = execution.take_changes();
        let rewritten = self.history.redacted(&changes.valueless, self.stored).await?;
        let positions = (self.stored, execution.position());
        let tally = BatchTally::of(&mut changes, (&self.row, execution.end()), positions);
        let spans = self.spans_of(execution, &mut changes, releases);
        let chunks = self.history.append(self.stored.next(), &std::mem::take(&mut changes.events));
        let (lsn, position, sent_boot_ms) = (changes.lsn, execution.position(), self.node.clock.boot_ms());
        self.held_since_ms = None;
        let is_settled = execution.is_settled() && !guests_move;
        let builder = BatchBuilder { execution, row: &self.row };
        let mut batch = builder.batch((self.incarnation, self.stored), changes, is_settled);
        (batch.chunks, batch.rewritten, batch.release) = (chunks, rewritten, releases);
        batch.act = self.starting.as_mut().and_then(|starting| starting.act.take());
        if planted("child-end-not-in-batch") {
            let parent = self.row.parent.as_ref().map(|parent| &parent.id);
            for (id, message) in batch.messages.extract_if(.., |(to, _)| Some(&*to) == parent) {
                let (store, key) = (self.node.store.clone(), ExecutionKey { tenant: self.row.key.tenant, id });
                self.node
                    .runtime
                    .spawn(Box::pin(async move { drop(store.command(&key, Command::Send(message), None).await) }));
            }
        }
        self.row = batch.head.clone();
        let (due, continues) = (batch.head.due.filter(|_| releases), batch.next_run.is_some());
        let appended = self.node.appends.submit((batch, room));
        let node = self.node.clone();
        let answer = Box::pin(async move {
            let answer = appended.await;
            due.inspect(|due| node.wake.expect(*due));
            answer
        });
        self.in_flight = Some(InFlight { answer, lsn, position, releases, continues, sent_boot_ms, tally, spans });
        Ok(())
    }

    /// The spans of the changes of a batch.
    fn spans_of(&mut self, execution: &mut Execution, changes: &mut Changes, releases: bool) -> Vec<Span> {
        match (&mut self.tracer, &self.node.traces) {
            (Some(tracer), _) => tracer.batch(execution, changes, (releases, self.node.clock.now())),
            (None, Some(traces)) => traces.failed_end(execution),
            (None, None) => Vec::new(),
        }
    }

    /// The span of a request that is about to leave, if it has one, and the headers that the host adds.
    pub(crate) fn span_of_request(
        &mut self,
        execution: &Execution,
        call: &CallName,
        (request, key): (&HttpRequest, String),
    ) -> (Option<Box<Span>>, HostHeaders) {
        let Some(tracer) = &mut self.tracer else { return (None, HostHeaders::of(key)) };
        let (span, headers) = tracer.request(execution, call, (request, key));
        (Some(span), headers)
    }

    /// Adds the span of a request whose answer is part of the next batch.
    pub(crate) fn answered(&mut self, span: Option<Span>) {
        if let (Some(tracer), Some(span)) = (&mut self.tracer, span) {
            tracer.answered(span);
        }
    }

    /// The answer to the batch in flight; never returns when there is none.
    pub(crate) async fn answer(&mut self) -> Option<Appended> {
        match &mut self.in_flight {
            Some(batch) => (&mut batch.answer).await,
            None => std::future::pending().await,
        }
    }

    /// The same, while no guest moves: returns at the end of the lease as well.
    pub(crate) async fn answer_or_loss(&mut self) -> Option<Appended> {
        let node = self.node.clone();
        tokio::select! {
            biased;
            () = node.lease.ended(self.incarnation) => Some(Err(CLAIM_LOST)),
            answer = self.answer() => answer,
        }
    }

    /// Whether this node still has the execution. A history that was read afterwards may be as another node left it, without
    /// the values of calls that have ended since (L12), and a guest would be told that these are missing.
    pub(crate) fn is_held(&self) -> bool {
        self.node.lease.holds(self.incarnation)
    }

    /// Handles the answer to the batch in flight: the batch, and the newest message in the inbox.
    pub(crate) fn take_receipt(
        &mut self,
        answer: Option<Appended>,
    ) -> Result<(InFlight, InboxCursor), ActivationError> {
        // If the first batch was not written, the execution cannot begin here any more: its changes are gone.
        let (batch, starting) = (self.in_flight.take(), self.starting.take());
        let (Some(answer), Some(mut batch)) = (answer, batch) else { return Err(ActivationError::ClaimLost) };
        let newest = answer?;
        batch.count(&self.node, &self.row.workflow);
        if let Some(starting) = starting {
            crate::fail::point("start-sent");
            self.node.lines.started(&*self.node.runtime, &self.row.key, &self.row.workflow);
            self.node.metrics.executions.workflows.of(&self.row.workflow).started.inc();
            if let (Some(tracer), Some(traces)) = (&self.tracer, &self.node.traces) {
                traces.export(vec![tracer.started(&self.row, self.node.clock.now())]);
            }
            // The caller may be gone.
            let _ = starting.stored.send(Ack);
        }
        self.node.lines.ended(&*self.node.runtime, &self.row);
        self.stored = batch.position;
        Ok((batch, newest))
    }

    /// Leaves memory after an error. The error comes back when the execution has to be loaded again.
    pub(crate) async fn exit(
        &mut self,
        error: ActivationError,
        execution: &mut Execution,
        guests: &mut Guests,
    ) -> Result<Exit, ActivationError> {
        let left = match error {
            ActivationError::ClaimLost | ActivationError::Conflict => Ok(None),
            _ => self.store_start(execution, guests.any_running()).await,
        };
        guests.clear();
        let left = match (left, error) {
            (Ok(Some(exit)), _) => Ok(exit),
            (Err(error), _) => Err(error),
            (Ok(None), ActivationError::Parked(reason)) => self.park(reason).await,
            (Ok(None), error) => Err(error),
        };
        match left {
            // Without a stored start there is no claim to go on with: the client stores the start in another way, and a
            // claim on that one belongs to another stay.
            Err(_) if self.stored == Position(0) => Ok(Exit::NotStarted),
            Err(ActivationError::ClaimLost) | Ok(_) => left,
            Err(error) => self.settle(error).await,
        }
    }

    /// Stores at least the start of an execution that begins here, before it leaves in any other way.
    async fn store_start(
        &mut self,
        execution: &mut Execution,
        guests_move: bool,
    ) -> Result<Option<Exit>, ActivationError> {
        while self.starting.is_some() {
            if self.in_flight.is_none() && self.write(execution, guests_move, Claim::Keep).await.is_err() {
                return Err(ActivationError::ClaimLost);
            }
            let answer = self.answer_or_loss().await;
            match self.take_receipt(answer) {
                Ok((batch, _)) if batch.releases => return Ok(Some(Exit::ReleasedWithWork)),
                Ok(_) => {}
                Err(ActivationError::Conflict) => return Err(ActivationError::Conflict),
                Err(_) => return Err(ActivationError::ClaimLost),
            }
        }
        Ok(None)
    }

    /// Before memory is rebuilt, waits for the batch in flight, which may give the claim back.
    async fn settle(&mut self, error: ActivationError) -> Result<Exit, ActivationError> {
        let Some(mut batch) = self.in_flight.take() else { return Err(error) };
        match (&mut batch.answer).await {
            Some(Ok(_)) if batch.releases => {
                batch.count(&self.node, &self.row.workflow);
                Ok(Exit::ReleasedWithWork)
            }
            Some(Err(CLAIM_LOST)) | None => Err(ActivationError::ClaimLost),
            Some(_) => Err(error),
        }
    }

    /// Parks the execution for a person. Nothing is lost: calls that were not durable are made again.
    async fn park(&mut self, reason: String) -> Result<Exit, ActivationError> {
        if let Some(mut batch) = self.in_flight.take() {
            match (&mut batch.answer).await {
                Some(Ok(_)) => {
                    batch.count(&self.node, &self.row.workflow);
                    self.stored = batch.position;
                }
                _ => return Err(ActivationError::Conflict),
            }
        }
        park(&self.node, self.incarnation, (&self.row, self.stored), reason).await
    }
}

/// Writes the batch that only parks an execution, which gives the claim back.
pub(crate) async fn park(
    node: &Node,
    incarnation: Incarnation,
    (row, stored): (&ExecutionRow, Position),
    reason: String,
) -> Result<Exit, ActivationError> {
    tracing::error!(execution = %row.key, reason, "parked");
    let batch = parking(incarnation, row, stored, reason.clone());
    match node.appends.submit((batch, None)).await {
        Some(Ok(_)) => {
            node.metrics.executions.parked(&reason);
            Ok(Exit::Released)
        }
        Some(Err(_)) | None => Err(ActivationError::ClaimLost),
    }
}
