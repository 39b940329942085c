//! What clients ask for most: starts and signals. What else they do to an execution is in `operations.rs`.

use std::collections::BTreeMap;
use std::time::Instant;

use cerebelum_history::{
    ExecutionId, ExecutionOptions, Identity, Json, Message, NAME_BYTES_MAX, Seed, SpanContext, Timestamp, TraceRecord,
    Verb, WAIT_MS_MAX, check_inbox, planted,
};
use cerebelum_store::{Act, Command, ExecutionKey, Existing};

use crate::api::{ApiError, StartRequest, Summary};
use crate::commit::Ack;
use crate::directory::ResolvedWorkflow;
use crate::metrics::{START_AHEAD, START_STORED, result_of};
use crate::schema::Unfit;
use crate::start_command::{StartCommand, fresh_seed, stopping};
use crate::tenant_engine::TenantEngine;
use crate::{convert, restore};

impl TenantEngine {
    /// Starts an execution. If one exists with the same id, the same workflow and an equal input, that one is returned.
    ///
    /// # Errors
    /// When the workflow is unknown, the input does not fit, the id is taken, a quota is exceeded, or the database does
    /// not answer.
    pub async fn start(&self, request: StartRequest) -> Result<Summary, ApiError> {
        let began = self.node.runtime.poll_clock();
        let _room = self.node.transit.for_request(request.input.len()).await?;
        let _turn = self.request_turn().await;
        let found = self.node.directory.workflow(self.tenant, &request.workflow).await?;
        let input = self.input(&request.input, &found).await?;
        let id = match &request.id {
            Some(id) => self.key(id)?.id,
            None => fresh_id(self.node.runtime.chance()),
        };
        let at = self.node.clock.now();
        let seed = fresh_seed(&*self.node.runtime);
        let options = ExecutionOptions {
            trace: self.trace(&seed),
            deadline: request.deadline_ms.map(|deadline| at.plus(deadline)),
            starts_at: (request.delay_ms > 0).then(|| at.plus(request.delay_ms)),
            cancel_grace_ms: found.cancel_grace_ms,
            ..ExecutionOptions::default()
        };
        if request.delay_ms > WAIT_MS_MAX {
            return Err(ApiError::Invalid("an execution begins within a year: the delay is longer".to_owned()));
        }
        let attributes: BTreeMap<String, Json> = request.attributes.into_iter().collect();
        cerebelum_history::check_attributes(&attributes).map_err(ApiError::Invalid)?;
        let command = StartCommand {
            tenant: self.tenant,
            identity: Identity { id, workflow: found.workflow, digest: found.digest, seed, run: 1 },
            input,
            attributes,
            options,
            parent: None,
        };
        // A client that chose the id may be repeating its request: an execution that exists must not be run again in
        // memory.
        if request.id.is_some() {
            let key = ExecutionKey { tenant: self.tenant, id: command.identity.id.clone() };
            if let Some(existing) = self.node.begun.submit(key).await.ok_or_else(stopping)?? {
                return started_before(existing, &command);
            }
        }
        self.node.usages.full.admit(self.tenant)?;
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
        let summary = convert::summary(&row);
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
                if let (Some(traces), Some(record)) = (&self.node.traces, &command.options.trace) {
                    traces.started(&command.identity, record, (at, self.node.clock.now()));
                }
                Ok(summary)
            }
            Some(existing) => started_before(existing, command),
        }
    }

    /// The record of the trace of a new execution with this seed, if its spans are exported.
    fn trace(&self, seed: &Seed) -> Option<Box<TraceRecord>> {
        self.node.traces.as_ref()?.sample(self.span.as_deref(), seed.trace_id(1, 0))
    }

    async fn input(&self, text: &str, found: &ResolvedWorkflow) -> Result<Json, ApiError> {
        let input = Json::parse(text).map_err(|e| ApiError::Invalid(format!("the input is {e}")))?;
        let Some(schema) = &found.input else { return Ok(input) };
        let workflow = &found.workflow;
        self.checker.check(schema, &input).await.map_err(|unfit| match unfit {
            Unfit::Value(line) if input.as_str() == "null" => {
                ApiError::Invalid(format!("workflow `{workflow}` needs an input (--input), and got none: {line}"))
            }
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
        check_signal_name(name)?;
        self.node.usages.full.admit(self.tenant)?;
        let _room = self.node.transit.for_request(data.len()).await?;
        let _turn = self.request_turn().await;
        let signal = signal(name, data, self.cause())?;
        let key = self.key(id)?;
        self.has_inbox_room(&key).await?;
        if self.command(&key, signal, self.act("Signal", id, name)).await? {
            return Ok(());
        }
        let head = self.head(&key).await?;
        Verb::Signal.on(convert::standing(&head)).map_err(|why| conflict(id, &why))?;
        Err(changed_meanwhile(id))
    }

    /// Writes for a client, in the turn of this tenant.
    pub(crate) async fn command(
        &self,
        key: &ExecutionKey,
        command: Command,
        act: Option<Act>,
    ) -> Result<bool, ApiError> {
        let _turn = self.node.turns.writes.next(self.tenant).await;
        Ok(self.node.store.command(key, command, act).await?)
    }

    /// Checks that the execution's inbox has room for another message.
    pub(crate) async fn has_inbox_room(&self, key: &ExecutionKey) -> Result<(), ApiError> {
        let (full, now_ms) = (&self.node.full_inboxes, self.node.runtime.boot_ms());
        let refused = |why| ApiError::Conflict(format!("inbox-full: execution `{}` {why}", key.id));
        if let Some(why) = full.refusal(key, now_ms) {
            return Err(refused(why));
        }
        // Counting a full inbox is as expensive as writing to it.
        let _turn = self.node.turns.writes.next(self.tenant).await;
        let (messages, bytes) = self.node.store.unread(key).await?;
        check_inbox(messages, bytes).map_err(|why| {
            full.remember(key, now_ms, &why);
            refused(why)
        })
    }
}

pub(crate) fn check_signal_name(name: &str) -> Result<(), ApiError> {
    match name.is_empty() || name.len() > NAME_BYTES_MAX {
        true => Err(ApiError::Invalid(format!("a signal's name has 1 to {NAME_BYTES_MAX} bytes"))),
        false => Ok(()),
    }
}

/// Sends a signal whose name was checked, if its data is valid JSON.
pub(crate) fn signal(name: &str, data: &str, cause: Option<SpanContext>) -> Result<Command, ApiError> {
    let data = Json::parse(data).map_err(|e| ApiError::Invalid(format!("the signal's data is {e}")))?;
    Ok(send(&Message::Signal { name: name.to_owned(), data, cause }))
}

/// Puts a message into an execution's inbox.
pub(crate) fn send(message: &Message) -> Command {
    Command::Send(Json::of(message).to_string())
}

pub(crate) fn conflict(id: &str, why: &str) -> ApiError {
    ApiError::Conflict(format!("execution `{id}` {why}"))
}

pub(crate) fn changed_meanwhile(id: &str) -> ApiError {
    ApiError::Unavailable(format!("execution `{id}` changed in the meantime: try again"))
}

/// The answer to a start whose id is taken: the existing execution, if it is the same one.
fn started_before((existing, first): Existing, command: &StartCommand) -> Result<Summary, ApiError> {
    let events = restore::decode(&first?)?;
    let means_the_same = |input: Json| input.means_the_same(&command.input);
    if existing.workflow == command.identity.workflow && convert::input(&events).is_some_and(means_the_same) {
        return Ok(convert::summary(&existing));
    }
    let id = &existing.key.id;
    Err(ApiError::Conflict(format!(
        "execution `{id}` exists with another workflow or input: choose another id, or look at `cerebelum status {id}`"
    )))
}

/// A new id: sortable by time, unique by its random part.
pub(crate) fn fresh_id(chance: u64) -> ExecutionId {
    let time = crate::clock::wall_ms();
    format!("{time:011x}-{chance:016x}").parse().expect("hex digits and a dash are an execution id")
}
