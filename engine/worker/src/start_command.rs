//! The start of an execution: its row and first event, the look-up of an existing one, and executions that are stored
//! before they run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cerebelum_history::{Execution, ExecutionOptions, Identity, Json, Parent, Position, Seed, Timestamp};
use cerebelum_store::{
    Act, AppendError, Batch, ExecutionKey, ExecutionRow, Existing, Incarnation, NewExecution, State, Store, StoreError,
    TenantId,
};

use crate::api::ApiError;
use crate::appender::{CLAIM_LOST, NotWritten};
use crate::encode::{chunk, text_of, waits_for};
use crate::env::Runtime;
use crate::node::Node;

/// How often a start is attempted whose lease ends, or whose id is taken and free again.
const ATTEMPTS_MAX: u32 = 3;
/// How long a start waits for the next lease of this node.
const LEASE_AWAITED: Duration = Duration::from_secs(5);

/// An execution to start.
pub(crate) struct StartCommand {
    pub(crate) tenant: TenantId,
    pub(crate) identity: Identity,
    pub(crate) input: Json,
    pub(crate) attributes: BTreeMap<String, Json>,
    pub(crate) options: ExecutionOptions,
    pub(crate) parent: Option<Parent>,
}

/// A unique seed for an execution that a client starts.
pub(crate) fn fresh_seed(runtime: &dyn Runtime) -> Seed {
    let mut seed = [0; 32];
    seed.chunks_mut(8).for_each(|bits| bits.copy_from_slice(&runtime.chance().to_le_bytes()));
    Seed(seed)
}

impl StartCommand {
    /// The new execution and its row.
    pub(crate) fn begin(&self, at: Timestamp) -> (ExecutionRow, Execution) {
        let execution = Execution::start(self.identity.clone(), self.input.clone(), self.options.clone(), at)
            .with_attributes(self.attributes.clone());
        let Identity { id, workflow, digest, seed, run } = self.identity.clone();
        let row = ExecutionRow {
            key: ExecutionKey { tenant: self.tenant, id },
            workflow,
            digest,
            seed,
            run,
            state: State::Open,
            paused: false,
            parked: None,
            settled: execution.is_settled(),
            position: execution.position(),
            stamp: at,
            due: execution.due(),
            status: execution.status(),
            attributes: text_of(execution.attributes()),
            options: text_of(execution.options()),
            parent: self.parent.clone(),
            started_at: at,
            ended_at: None,
            open_calls: Some(0),
            waits_for: waits_for(&execution),
            runs_from: None,
        };
        (row, execution)
    }

    /// The rows of the new execution.
    pub(crate) fn rows(&self, at: Timestamp) -> NewExecution {
        let (head, mut execution) = self.begin(at);
        let first = chunk(Position(1), &execution.take_changes().events);
        NewExecution { head, first: first.expect("an execution begins with an event") }
    }
}

/// Looks up a group in one statement, or one by one if a row is damaged, so that damage affects no other execution.
pub(crate) async fn look_up(
    store: Arc<dyn Store>,
    keys: Vec<ExecutionKey>,
) -> Vec<Result<Option<Existing>, StoreError>> {
    match store.find_existing(keys.clone()).await {
        Ok(begun) => begun.into_iter().map(Ok).collect(),
        Err(StoreError::Corrupt(_)) if keys.len() > 1 => {
            let mut answers = Vec::with_capacity(keys.len());
            for key in keys {
                answers.push(store.find_existing(vec![key]).await.map(|mut begun| begun.pop().flatten()));
            }
            answers
        }
        Err(error) => vec![Err(error); keys.len()],
    }
}

impl Node {
    /// Stores an execution that this node does not run. Returns the existing execution if the id belongs to another one.
    pub(crate) async fn store_start(&self, new: NewExecution, act: Option<Act>) -> Result<Option<Existing>, ApiError> {
        // Each attempt is safe: an execution that an earlier one has stored is recognized by its seed.
        for _ in 0..ATTEMPTS_MAX {
            let incarnation = self.lease_soon().await?;
            let batch = Batch { act: act.clone(), ..Batch::start(incarnation, new.clone()) };
            let stored = self.appends.submit((batch, None)).await;
            crate::fail::point("start-sent");
            match stored.ok_or_else(stopping)? {
                Ok(_) => {
                    self.metrics.executions.workflows.of(&new.head.workflow).started.inc();
                    self.lines.started(&*self.runtime, &new.head.key, &new.head.workflow);
                    self.wake.expect(new.head.due.unwrap_or(Timestamp(0)));
                    return Ok(None);
                }
                Err(NotWritten::Refused(AppendError::Exists)) => {
                    let existing = self.begun.submit(new.head.key.clone()).await.ok_or_else(stopping)?;
                    match existing? {
                        Some((row, _)) if row.seed == new.head.seed => return Ok(None),
                        Some(existing) => return Ok(Some(existing)),
                        // It was deleted a moment ago.
                        None => {}
                    }
                }
                Err(CLAIM_LOST) => {}
                Err(NotWritten::Rejected(cause)) => return Err(StoreError::Rejected(cause).into()),
                Err(NotWritten::Unavailable(cause)) => return Err(StoreError::Unavailable(cause).into()),
                Err(NotWritten::Refused(_)) => {
                    let id = &new.head.key.id;
                    return Err(ApiError::Unavailable(format!(
                        "the database forbids execution `{id}`: the engine's log says why"
                    )));
                }
            }
        }
        Err(ApiError::Unavailable(format!(
            "execution `{}` could not be stored: see whether it exists before you try again",
            new.head.key.id
        )))
    }

    /// The incarnation of this node, which waits for a new lease if the last one has just ended.
    async fn lease_soon(&self) -> Result<Incarnation, ApiError> {
        if !self.stopping.load(Ordering::Relaxed) {
            self.runtime.within(LEASE_AWAITED, self.lease.first()).await;
        }
        self.lease.incarnation().ok_or_else(|| {
            ApiError::Unavailable("this engine has no lease at present: try again in a moment".to_owned())
        })
    }
}

/// The error for requests that come while the engine stops.
pub(crate) fn stopping() -> ApiError {
    ApiError::Unavailable("the engine is stopping: try again at another node".to_owned())
}
