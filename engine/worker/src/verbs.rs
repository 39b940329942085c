//! The operations of clients on executions: start, signal, cancel, pause, resume, delete.

use std::collections::BTreeMap;
use std::time::Instant;

use cerebelum_history::{
    End, ExecutionId, ExecutionOptions, Failure, Identity, Json, Message, NAME_BYTES_MAX, Position, ReopenMode,
    Resumption, Timestamp, Verb, check_inbox, kind, planted,
};
use cerebelum_store::{Act, Chunk, Command, ExecutionKey, ExecutionRow, State, StoreError};

use crate::api::{ApiError, StartRequest, Summary};
use crate::commit::Ack;
use crate::directory::{ResolvedWorkflow, unavailable};
use crate::metrics::{START_AHEAD, START_STORED, result_of};
use crate::schema::Unfit;
use crate::start_command::{StartCommand, fresh_seed, stopping};
use crate::tenant_engine::{TenantEngine, no_execution};
use crate::{restore, views};

impl TenantEngine {
    /// Starts an execution. If one exists with the same id, the same workflow and an equal input, that one is returned.
    ///
    /// # Errors
    /// When the workflow is unknown, the input does not fit, the id is taken, a quota is exceeded, or the database does
    /// not answer.
    pub async fn start(&self, request: StartRequest) -> Result<Summary, ApiError> {
        let began = self.node.runtime.poll_clock();
        let _room = self.node.room.for_request(request.input.len()).await?;
        let _turn = self.request_turn().await;
        let found = self.node.directory.workflow(self.tenant, &request.workflow).await?;
        let input = self.input(&request.input, &found).await?;
        let id = match &request.id {
            Some(id) => self.key(id)?.id,
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
            tenant: self.tenant,
            identity: Identity {
                id,
                workflow: found.workflow,
                digest: found.digest,
                seed: fresh_seed(&*self.node.runtime),
                run: 1,
            },
            input,
            attributes,
            options,
            parent: None,
        };
        // A client that chose the id may be repeating its request: an execution that exists must not be run again in
        // memory.
        if request.id.is_some() {
            let key = ExecutionKey { tenant: self.tenant, id: command.identity.id.clone() };
            let there = self.node.begun.submit(key).await.ok_or_else(stopping)?.map_err(unavailable)?;
            if let Some((existing, first)) = there {
                return started_before(
                    existing,
                    &first.map_err(unavailable)?,
                    (&command.identity.workflow, &command.input),
                );
            }
        }
        let usage = self.node.usages.of(self.tenant);
        let act = self.act("Start", command.identity.id.as_str(), &command.identity.workflow);
        let _admitted = usage.admit_start((&*self.node.store, self.tenant), self.node.runtime.boot_ms()).await?;
        self.begin((&command, at), act, began).await
    }

    /// Starts many executions, independently of each other.
    pub async fn start_many(&self, requests: Vec<StartRequest>) -> Vec<Result<Summary, ApiError>> {
        futures::future::join_all(requests.into_iter().map(|request| self.start(request))).await
    }

    async fn begin(
        &self,
        (command, at): (&StartCommand, Timestamp),
        act: Option<Act>,
        began: Option<Instant>,
    ) -> Result<Summary, ApiError> {
        let took = |path| {
            began.inspect(|began| self.node.metrics.executions.start.at(path).observe(began.elapsed().as_secs_f64()));
        };
        let (row, execution) = command.begin(at);
        let summary = views::summary(&row);
        if planted("ack-before-commit") {
            let (node, new) = (self.node.clone(), command.rows(at));
            self.node.runtime.spawn(Box::pin(async move { drop(node.store_start(new, act).await) }));
            return Ok(summary);
        }
        if let Some(Ack) = self.scheduler.begin(row, execution, act.clone()).await {
            took(START_AHEAD);
            return Ok(summary);
        }
        // The execution cannot begin in memory, or its result there is unknown. With the same seed it is the same
        // execution.
        match self.node.store_start(command.rows(at), act).await? {
            None => {
                took(START_STORED);
                Ok(summary)
            }
            Some((existing, first)) => {
                started_before(existing, &first.map_err(unavailable)?, (&command.identity.workflow, &command.input))
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

    /// Sends a signal.
    ///
    /// # Errors
    /// When there is no such execution, it has ended, or the data is not valid JSON.
    pub async fn signal(&self, id: &str, name: &str, data: &str) -> Result<(), ApiError> {
        let sent = self.try_signal(id, name, data).await;
        self.node.metrics.outside.signals.at(result_of(&sent)).inc();
        sent
    }

    async fn try_signal(&self, id: &str, name: &str, data: &str) -> Result<(), ApiError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(ApiError::Invalid(format!("a signal's name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let _room = self.node.room.for_request(data.len()).await?;
        let _turn = self.request_turn().await;
        let data = Json::parse(data).map_err(|e| ApiError::Invalid(format!("the signal's data is {e}")))?;
        self.has_inbox_room(&self.key(id)?).await?;
        let act = self.act("Signal", id, name);
        self.send(id, Verb::Signal, Message::Signal { name: name.to_owned(), data }, act).await
    }

    /// Asks an execution to end. Its clean-up code runs.
    ///
    /// # Errors
    /// When there is no such execution, or it has ended.
    pub async fn cancel(&self, id: &str) -> Result<(), ApiError> {
        let head =
            self.node.store.execution(&self.key(id)?).await.map_err(unavailable)?.ok_or_else(|| no_execution(id))?;
        Verb::Cancel.on(views::standing(&head)).map_err(|why| conflict(id, &why))?;
        let at = self.node.store.now().await.map_err(unavailable)?;
        self.send(id, Verb::Cancel, Message::Cancel { at }, self.act("Cancel", id, "asked")).await
    }

    /// Ends an execution at once. An unreadable one is ended by its key alone.
    ///
    /// # Errors
    /// When there is no such execution, or it has ended.
    pub async fn terminate(&self, id: &str) -> Result<(), ApiError> {
        let key = self.key(id)?;
        if self.is_readable(&key).await? {
            self.send(id, Verb::Terminate, Message::Terminate, self.act("Terminate", id, "asked")).await?;
            // The reason for which it was parked no longer matters.
            self.command(&key, Command::Unpark, None).await?;
            self.node.wake.now();
            return Ok(());
        }
        let head = self.node.store.execution(&key).await.map_err(unavailable)?.ok_or_else(|| no_execution(id))?;
        let failure = Failure::new(kind::CANCELLED, "the execution was terminated: its rows could not be read");
        let farewell = head.parent.and_then(|parent| {
            let message = parent.farewell(&key.id, &End::Cancelled(failure))?;
            Some((parent.id, Json::of(&message).to_string()))
        });
        let bury = Command::Bury { messages: farewell.into_iter().collect() };
        if self.command(&key, bury, self.act("Terminate", id, "ended unread")).await? {
            tracing::warn!(execution = %key, "terminated by its key alone: its rows could not be read");
            self.node.watchers.changed(&key);
            return Ok(());
        }
        Err(self.refusal(&key, Verb::Terminate).await)
    }

    /// Whether an execution can be loaded into memory, or has ended and need not be.
    async fn is_readable(&self, key: &ExecutionKey) -> Result<bool, ApiError> {
        match self.node.store.load(key).await {
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
        self.send(id, Verb::Pause, Message::Pause, self.act("Pause", id, "asked")).await
    }

    /// Resumes an execution after a pause, a parking or a failure.
    ///
    /// # Errors
    /// When there is no such execution, nothing keeps it from going on, or its code went on after the failure and the
    /// mode is [`ReopenMode::Checked`].
    pub async fn resume(&self, id: &str, mode: ReopenMode) -> Result<(), ApiError> {
        let key = self.key(id)?;
        let head = self.node.store.execution(&key).await.map_err(unavailable)?.ok_or_else(|| no_execution(id))?;
        match Resumption::of(views::standing(&head)).map_err(|why| conflict(id, &why))? {
            Resumption::Unpark => {
                self.node.crash_log.forgive(&key.to_string());
                self.command(&key, Command::Unpark, self.act("Resume", id, "unparked")).await?;
                self.node.wake.now();
            }
            Resumption::Unpause => {
                // An execution that has ended meanwhile has nothing to resume either.
                let message = Json::of(&Message::Resume).to_string();
                if !self.command(&key, Command::Send(message), self.act("Resume", id, "unpaused")).await? {
                    return Err(changed_meanwhile(id));
                }
            }
            Resumption::Reopen => self.reopen(&key, &head, mode).await?,
        }
        Ok(())
    }

    async fn reopen(&self, key: &ExecutionKey, head: &ExecutionRow, mode: ReopenMode) -> Result<(), ApiError> {
        let history = restore::events(&*self.node.store, key, head.run, (Position(1), head.position)).await;
        let found = cerebelum_history::reopening(&history.map_err(unavailable)?);
        let message = found.request(&key.id, mode).map_err(|why| conflict(key.id.as_str(), &why))?;
        let message = Json::of(&message).to_string();
        let act = self.act("Resume", key.id.as_str(), "reopened");
        if self.command(key, Command::Reopen(message), act).await? {
            self.node.wake.now();
        }
        Ok(())
    }

    /// Deletes an execution that has ended.
    ///
    /// # Errors
    /// When there is no such execution, or it has not ended.
    pub async fn delete(&self, id: &str) -> Result<(), ApiError> {
        let key = self.key(id)?;
        if self.command(&key, Command::Delete, self.act("Delete", id, "deleted")).await? {
            return Ok(());
        }
        Err(self.refusal(&key, Verb::Delete).await)
    }

    /// Writes for a client, in the turn of this tenant.
    async fn command(&self, key: &ExecutionKey, command: Command, act: Option<Act>) -> Result<bool, ApiError> {
        let _turn = self.node.write_turns.next(self.tenant).await;
        self.node.store.command(key, command, act).await.map_err(unavailable)
    }

    /// Checks that the execution's inbox has room for another message.
    pub(crate) async fn has_inbox_room(&self, key: &ExecutionKey) -> Result<(), ApiError> {
        // Counting a full inbox is as expensive as writing to it.
        let _turn = self.node.write_turns.next(self.tenant).await;
        let (messages, bytes) = self.node.store.unread(key).await.map_err(unavailable)?;
        check_inbox(messages, bytes)
            .map_err(|why| ApiError::Conflict(format!("inbox-full: execution `{}` {why}", key.id)))
    }

    async fn send(&self, id: &str, verb: Verb, message: Message, act: Option<Act>) -> Result<(), ApiError> {
        let key = self.key(id)?;
        let send = Command::Send(Json::of(&message).to_string());
        if self.command(&key, send, act).await? {
            return Ok(());
        }
        Err(self.refusal(&key, verb).await)
    }

    /// Why the store refused what a client asked of this execution.
    async fn refusal(&self, key: &ExecutionKey, verb: Verb) -> ApiError {
        let id = key.id.as_str();
        match self.node.store.execution(key).await {
            Ok(Some(head)) => match verb.on(views::standing(&head)) {
                Err(why) => conflict(id, &why),
                Ok(()) => changed_meanwhile(id),
            },
            Ok(None) => no_execution(id),
            Err(error) => unavailable(error),
        }
    }
}

fn conflict(id: &str, why: &str) -> ApiError {
    ApiError::Conflict(format!("execution `{id}` {why}"))
}

fn changed_meanwhile(id: &str) -> ApiError {
    ApiError::Unavailable(format!("execution `{id}` changed in the meantime: try again"))
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

/// A new id: sortable by time, unique by its random part.
fn fresh_id(chance: u64) -> ExecutionId {
    let time = crate::clock::wall_ms();
    format!("{time:011x}-{chance:016x}").parse().expect("hex digits and a dash are an execution id")
}
