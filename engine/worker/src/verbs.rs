//! The operations of clients on executions: start, answer, signal, cancel, pause, resume, delete.

use std::collections::BTreeMap;

use cerebelum_history::{
    Approval, ChildResult, ExecutionId, ExecutionOptions, Failure, INBOX_BYTES_MAX, INBOX_MESSAGES_MAX, Json, Message,
    Position, ReopenMode, Reopening, Timestamp, kind, planted,
};
use cerebelum_store::{
    AnswerOutcome, ApprovalFilter, ApprovalRow, ApprovalState, Chunk, ExecutionKey, ExecutionRow, StartOutcome, State,
    StoreError, TenantId,
};

use crate::api::{ApiError, Decision, StartRequest, Summary};
use crate::commit::Ack;
use crate::directory::{ResolvedWorkflow, unavailable};
use crate::engine::{Engine, key, no_execution};
use crate::schema::{Input, Unfit};
use crate::start_command::{StartCommand, fresh_seed};
use crate::{restore, views};

const TENANT: TenantId = TenantId::DEFAULT;
/// How many of an execution's questions are searched for the open one.
const QUESTIONS_MAX: u32 = 1_000;

impl Engine {
    /// Starts an execution. If one exists with the same id, the same workflow and an equal input, that one is returned.
    ///
    /// # Errors
    /// When the workflow is unknown, the input does not fit, the id is taken, or the database does not answer.
    pub async fn start(&self, request: StartRequest) -> Result<Summary, ApiError> {
        let _room = self.node.room.for_request(request.input.len()).await?;
        let found = self.node.directory.workflow(TENANT, &request.workflow).await?;
        let input = self.input(&request.input, &found).await?;
        let id = match &request.id {
            Some(id) => key(id)?.id,
            None => fresh_id(self.node.runtime.chance()),
        };
        let at = self.node.clock.now();
        let options = ExecutionOptions {
            deadline: request.deadline_ms.map(|deadline| at.plus(deadline)),
            starts_at: (request.delay_ms > 0).then(|| at.plus(request.delay_ms)),
            cancel_grace_ms: found.cancel_grace_ms,
            ..ExecutionOptions::default()
        };
        let attributes: BTreeMap<String, Json> = request.attributes.into_iter().collect();
        cerebelum_history::check_attributes(&attributes).map_err(ApiError::Invalid)?;
        let command = StartCommand {
            tenant: TENANT,
            id,
            workflow: found.workflow,
            digest: found.digest,
            input,
            attributes,
            options,
            parent: None,
            seed: fresh_seed(&*self.node.runtime),
        };
        // A client that chose the id may be repeating its request: an execution that exists must not be run again in
        // memory.
        if request.id.is_some() {
            let key = ExecutionKey { tenant: TENANT, id: command.id.clone() };
            let there = self.node.begun.submit(key).await.ok_or_else(stopping)?.map_err(unavailable)?;
            if let Some((existing, first)) = there {
                return started_before(existing, &first.map_err(unavailable)?, (&command.workflow, &command.input));
            }
        }
        self.begin(&command, at).await
    }

    /// Starts many executions, independently of each other.
    pub async fn start_many(&self, requests: Vec<StartRequest>) -> Vec<Result<Summary, ApiError>> {
        futures::future::join_all(requests.into_iter().map(|request| self.start(request))).await
    }

    async fn begin(&self, command: &StartCommand, at: Timestamp) -> Result<Summary, ApiError> {
        let (row, execution) = command.begin(at);
        let summary = views::summary(&row);
        if planted("ack-before-commit") {
            let starting = self.node.starts.submit(command.rows(at));
            self.node.runtime.spawn(Box::pin(async move { drop(starting.await) }));
            return Ok(summary);
        }
        if let Some(Ack) = self.scheduler.begin(row, execution).await {
            return Ok(summary);
        }
        // The execution cannot begin in memory, or its result there is unknown. With the same seed it is the same
        // execution.
        let started = self.node.starts.submit(command.rows(at)).await;
        match started.ok_or_else(stopping)?.map_err(unavailable)? {
            StartOutcome::New => Ok(summary),
            StartOutcome::Exists(existing, first) => {
                started_before(*existing, &first, (&command.workflow, &command.input))
            }
        }
    }

    async fn input(&self, text: &str, found: &ResolvedWorkflow) -> Result<Json, ApiError> {
        let input = Json::parse(text).map_err(|e| ApiError::Invalid(format!("the input is {e}")))?;
        let Some(schema) = &found.input else { return Ok(input) };
        let workflow = &found.workflow;
        self.checker.check(schema, &input).await.map_err(|unfit| match unfit {
            Unfit::Value(line) => ApiError::Invalid(format!("the input does not fit workflow `{workflow}`: {line}")),
            Unfit::Schema(why) => {
                ApiError::Conflict(format!("the input cannot be checked by the schema of workflow `{workflow}`: {why}"))
            }
            Unfit::EngineError(cause) => ApiError::Unavailable(cause),
        })?;
        Ok(input)
    }

    /// Checks the answer to a question against the question's schema.
    async fn fits(&self, schema: Json, answer: &Json) -> Result<(), ApiError> {
        self.checker.check(&Input::new(schema), answer).await.map_err(|unfit| match unfit {
            Unfit::Value(line) => ApiError::Invalid(format!("the answer does not fit what was asked for: {line}")),
            Unfit::Schema(why) => {
                ApiError::Conflict(format!("the answer cannot be checked by the schema of the question: {why}"))
            }
            Unfit::EngineError(cause) => ApiError::Unavailable(cause),
        })
    }

    /// Answers a question: by its own id, or by the id of its execution if exactly one question is open.
    ///
    /// # Errors
    /// When there is no such question, it has ended, or the answer does not fit.
    pub async fn decide(&self, id: &str, by: &str, decision: Decision) -> Result<ExecutionId, ApiError> {
        let row = self.question(id).await?;
        let request = views::request(&row)?;
        let (to, message) = match decision {
            Decision::Approve { data, comment } => {
                let data = Json::parse(data).map_err(|e| ApiError::Invalid(format!("the answer is {e}")))?;
                self.has_inbox_room(&ExecutionKey { tenant: TENANT, id: row.execution.clone() }).await?;
                if let Some(schema) = request.schema {
                    self.fits(schema, &data).await?;
                }
                let approval = Approval { data, by: by.to_owned(), comment };
                (ApprovalState::Approved, Message::Approved { call: row.call.clone(), id: row.id.clone(), approval })
            }
            Decision::Reject { reason } => {
                let (call, id, by) = (row.call.clone(), row.id.clone(), by.to_owned());
                (ApprovalState::Rejected, Message::Rejected { call, id, by, reason })
            }
        };
        let message = Json::of(&message).to_string();
        match self.node.store.answer(TENANT, &row.id, to, message).await.map_err(unavailable)? {
            AnswerOutcome::Accepted(execution) => Ok(execution),
            AnswerOutcome::TooLate(state) => Err(too_late(&row, state)),
            AnswerOutcome::Unknown => Err(no_question(id)),
        }
    }

    async fn question(&self, id: &str) -> Result<ApprovalRow, ApiError> {
        if let Some(row) = self.node.store.approval(TENANT, id).await.map_err(unavailable)? {
            return Ok(row);
        }
        let key = key(id).map_err(|_| no_question(id))?;
        if self.node.store.execution(&key).await.map_err(unavailable)?.is_none() {
            return Err(no_question(id));
        }
        let filter = ApprovalFilter { execution: Some(key.id), cursor: None, limit: QUESTIONS_MAX };
        let mut rows = self.node.store.approvals(TENANT, filter).await.map_err(unavailable)?.approvals;
        let last = rows.first().cloned();
        rows.retain(|row| row.state == ApprovalState::Open);
        match (rows.len(), last) {
            (1, _) => Ok(rows.remove(0)),
            (0, Some(last)) => Err(too_late(&last, last.state)),
            (0, None) => Err(ApiError::Conflict(format!("execution `{id}` asks for no approval"))),
            (count, _) => {
                let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
                Err(ApiError::Conflict(format!(
                    "execution `{id}` has {count} open approvals: say which of {}",
                    ids.join(", ")
                )))
            }
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When there is no such execution, it has ended, or the data is not valid JSON.
    pub async fn signal(&self, id: &str, name: &str, data: &str) -> Result<(), ApiError> {
        if name.is_empty() || name.len() > 128 {
            return Err(ApiError::Invalid("a signal's name has 1 to 128 characters".to_owned()));
        }
        let _room = self.node.room.for_request(data.len()).await?;
        let data = Json::parse(data).map_err(|e| ApiError::Invalid(format!("the signal's data is {e}")))?;
        self.has_inbox_room(&key(id)?).await?;
        self.send(id, Message::Signal { name: name.to_owned(), data }, "takes no signals").await
    }

    /// Asks an execution to end. Its clean-up code runs.
    ///
    /// # Errors
    /// When there is no such execution, or it has ended.
    pub async fn cancel(&self, id: &str) -> Result<(), ApiError> {
        let head = self.node.store.execution(&key(id)?).await.map_err(unavailable)?.ok_or_else(|| no_execution(id))?;
        if head.parked.is_some() {
            return Err(ApiError::Conflict(format!("execution `{id}` is parked: resume it first, or terminate it")));
        }
        let at = self.node.store.now().await.map_err(unavailable)?;
        self.send(id, Message::Cancel { at }, "cannot be cancelled").await
    }

    /// Ends an execution at once. An unreadable one is ended by its key alone.
    ///
    /// # Errors
    /// When there is no such execution, or it has ended.
    pub async fn terminate(&self, id: &str) -> Result<(), ApiError> {
        let key = key(id)?;
        if self.is_readable(&key).await? {
            self.send(id, Message::Terminate, "cannot be terminated").await?;
            // The reason for which it was parked no longer matters.
            self.node.store.unpark(&key).await.map_err(unavailable)?;
            self.node.wake.now();
            return Ok(());
        }
        let head = self.node.store.execution(&key).await.map_err(unavailable)?.ok_or_else(|| no_execution(id))?;
        let failure = Failure::new(kind::CANCELLED, "the execution was terminated: its rows could not be read");
        let parent = head.parent.filter(|parent| parent.awaited).map(|parent| {
            let result = ChildResult::Failed(failure);
            let message = Message::Child { run: parent.run, call: parent.call, id: key.id.clone(), result };
            (parent.id, Json::of(&message).to_string())
        });
        if self.node.store.bury(&key, parent.into_iter().collect()).await.map_err(unavailable)? {
            tracing::warn!(execution = id, "terminated by its key alone: its rows could not be read");
            self.node.watchers.changed(&key);
            return Ok(());
        }
        Err(ApiError::Conflict(format!("execution `{id}` has ended and cannot be terminated")))
    }

    /// Whether an execution can be loaded into memory, or has ended and need not be.
    async fn is_readable(&self, key: &ExecutionKey) -> Result<bool, ApiError> {
        match self.node.store.peek(key).await {
            Ok(None) => Err(no_execution(key.id.as_str())),
            Ok(Some(found)) if found.head.state == State::Open => {
                let reads = |text: &str| serde_json::from_str::<Message>(text).is_ok();
                Ok(restore::execution(&found).is_ok() && found.inbox.iter().all(|row| reads(&row.message)))
            }
            Ok(Some(_)) => Ok(true),
            Err(StoreError::Corrupt(_)) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Pauses an execution: nothing new begins.
    ///
    /// # Errors
    /// When there is no such execution, or it has ended.
    pub async fn pause(&self, id: &str) -> Result<(), ApiError> {
        self.send(id, Message::Pause, "cannot be paused").await
    }

    /// Resumes an execution after a pause, a parking or a failure.
    ///
    /// # Errors
    /// When there is no such execution, nothing keeps it from going on, or its code went on after the failure and the
    /// mode is [`ReopenMode::Checked`].
    pub async fn resume(&self, id: &str, mode: ReopenMode) -> Result<(), ApiError> {
        let key = key(id)?;
        let head = self.node.store.execution(&key).await.map_err(unavailable)?.ok_or_else(|| no_execution(id))?;
        if head.parked.is_some() {
            self.node.crash_log.forgive(&key.id);
            self.node.store.unpark(&key).await.map_err(unavailable)?;
            self.node.wake.now();
            return Ok(());
        }
        match head.state {
            State::Open if head.paused => self.send(id, Message::Resume, "cannot be resumed").await,
            State::Open => {
                Err(ApiError::Conflict(format!("execution `{id}` is {}: there is nothing to resume", head.status)))
            }
            State::Failed => self.reopen(&key, &head, mode).await,
            State::Completed | State::Cancelled => {
                Err(ApiError::Conflict(format!("execution `{id}` is {} and stays so: start another one", head.status)))
            }
        }
    }

    async fn reopen(&self, key: &ExecutionKey, head: &ExecutionRow, mode: ReopenMode) -> Result<(), ApiError> {
        let history = restore::events(&*self.node.store, key, head.run, (Position(1), head.position)).await;
        let found = cerebelum_history::reopening(&history.map_err(unavailable)?);
        let id = &key.id;
        let message = match (found, mode) {
            (Reopening::Nothing, _) => {
                return Err(ApiError::Conflict(format!(
                    "execution `{id}` failed in its own code, no call did: it would fail again"
                )));
            }
            (Reopening::Unsafe { failed, later, .. }, ReopenMode::Checked) => {
                return Err(ApiError::Conflict(format!(
                    "execution `{id}` went on to {later} after {failed} had failed, and resuming would not undo that: \
                     start a new execution, or insist with `cerebelum resume {id} --force`"
                )));
            }
            (_, ReopenMode::Checked) => Message::Reopen,
            (_, ReopenMode::Forced) => Message::ReopenForced,
        };
        let message = Json::of(&message).to_string();
        if self.node.store.reopen(key, message).await.map_err(unavailable)? {
            self.node.wake.now();
        }
        Ok(())
    }

    /// Deletes an execution that has ended.
    ///
    /// # Errors
    /// When there is no such execution, or it has not ended.
    pub async fn delete(&self, id: &str) -> Result<(), ApiError> {
        let key = key(id)?;
        if self.node.store.delete(&key).await.map_err(unavailable)? {
            return Ok(());
        }
        self.existing(id).await?;
        Err(ApiError::Conflict(format!("execution `{id}` has not ended: cancel or terminate it first")))
    }

    /// Checks that the execution's inbox has room for another message.
    async fn has_inbox_room(&self, key: &ExecutionKey) -> Result<(), ApiError> {
        let (messages, bytes) = self.node.store.unread(key).await.map_err(unavailable)?;
        if messages < INBOX_MESSAGES_MAX && bytes < INBOX_BYTES_MAX {
            return Ok(());
        }
        Err(ApiError::Conflict(format!(
            "inbox-full: execution `{}` has {messages} unread messages of {bytes} bytes where {INBOX_MESSAGES_MAX} and {INBOX_BYTES_MAX} are the limit: wait until it has read some",
            key.id
        )))
    }

    async fn send(&self, id: &str, message: Message, refusal: &str) -> Result<(), ApiError> {
        let key = key(id)?;
        if self.node.store.send(&key, Json::of(&message).to_string()).await.map_err(unavailable)? {
            return Ok(());
        }
        match self.node.store.execution(&key).await.map_err(unavailable)? {
            Some(head) => Err(ApiError::Conflict(format!("execution `{id}` is {} and {refusal}", head.status))),
            None => Err(no_execution(id)),
        }
    }
}

/// The answer to a start whose id is taken: the existing execution, if it is the same one.
fn started_before(
    existing: ExecutionRow,
    first: &Chunk,
    (workflow, input): (&str, &Json),
) -> Result<Summary, ApiError> {
    let events = restore::decode(first).map_err(unavailable)?;
    let is_same =
        existing.workflow == workflow && views::input(&events).is_some_and(|theirs| theirs.means_the_same(input));
    if is_same {
        return Ok(views::summary(&existing));
    }
    let id = &existing.key.id;
    Err(ApiError::Conflict(format!(
        "execution `{id}` exists with another workflow or input: choose another id, or look at `cerebelum status {id}`"
    )))
}

fn stopping() -> ApiError {
    ApiError::Unavailable("the engine is stopping: try again at another node".to_owned())
}

fn no_question(id: &str) -> ApiError {
    ApiError::NotFound(format!("there is no approval or execution `{id}`: see `cerebelum approvals`"))
}

fn too_late(row: &ApprovalRow, state: ApprovalState) -> ApiError {
    ApiError::Conflict(format!(
        "approval `{}` is {}: your answer changes nothing",
        row.id,
        views::approval_state(state)
    ))
}

/// A new id: sortable by time, unique by its random part.
fn fresh_id(chance: u64) -> ExecutionId {
    let time = crate::clock::wall_ms();
    format!("{time:011x}-{chance:016x}").parse().expect("hex digits and a dash are an execution id")
}
