//! Operations on executions that exist: what each of them asks of the store, for one execution and for many.

use cerebelum_history::{End, Failure, Json, Message, Position, ReopenMode, Resumption, Verb, kind};
use cerebelum_store::{Command, ExecutionKey, ExecutionRow, State, StoreError};
use serde::{Deserialize, Serialize};

use crate::api::ApiError;
use crate::identity::Action;
use crate::tenant_engine::{TenantEngine, no_execution};
use crate::verbs::{changed_meanwhile, conflict, send, signal};
use crate::{convert, restore};

/// So many events are read and decoded in one piece.
const EVENTS_AT_ONCE: u64 = 1_000;

/// What is done to an execution. As JSON, a bulk job keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
pub enum Operation {
    /// It is asked to end, and its clean-up code runs.
    Cancel,
    /// It is ended without being asked.
    Terminate,
    /// Nothing new begins.
    Pause,
    /// It goes on after a pause, a parking or a failure.
    Resume {
        /// Whether a failed execution is reopened although its code went on after the failure.
        force: bool,
    },
    /// It receives a signal.
    Signal {
        /// The name of the signal.
        name: String,
        /// The signal's data, JSON.
        data: String,
    },
    /// It is deleted, once it has ended.
    Delete,
    /// What another version of the engine knows and this one does not.
    #[serde(other)]
    Unknown,
}

impl Operation {
    /// Its word on the wire, and the method of the interface that does it to one execution.
    const fn word_and_method(&self) -> (&'static str, &'static str) {
        match self {
            Self::Cancel => ("cancel", "Cancel"),
            Self::Terminate => ("terminate", "Terminate"),
            Self::Pause => ("pause", "Pause"),
            Self::Resume { .. } => ("resume", "Resume"),
            Self::Signal { .. } => ("signal", "Signal"),
            Self::Delete => ("delete", "Delete"),
            Self::Unknown => ("unknown", "Unknown"),
        }
    }

    /// Its word on the wire.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        self.word_and_method().0
    }

    /// The method of the interface that does it to one execution.
    pub(crate) const fn method(&self) -> &'static str {
        self.word_and_method().1
    }

    /// What a caller's role must allow.
    pub(crate) const fn action(&self) -> Action {
        match self {
            Self::Delete => Action::Delete,
            _ => Action::Run,
        }
    }
}

/// What an operation asks of the store.
pub(crate) struct OperationCommands {
    /// The commands. If the first one does not apply any more, nothing is done.
    pub(crate) commands: Vec<Command>,
    /// What the audit says of it.
    pub(crate) outcome: String,
}

impl OperationCommands {
    fn new(commands: impl Into<Vec<Command>>, outcome: impl Into<String>) -> Self {
        Self { commands: commands.into(), outcome: outcome.into() }
    }
}

impl TenantEngine {
    /// Carries out an operation on one execution.
    ///
    /// # Errors
    /// When there is no such execution, or it is not in a state that allows the operation.
    pub async fn operate(&self, id: &str, operation: &Operation) -> Result<(), ApiError> {
        if let Operation::Signal { name, data } = operation {
            return self.signal(id, name, data).await;
        }
        let key = self.key(id)?;
        let head = self.head(&key).await?;
        let OperationCommands { commands, outcome } = self.plan(operation, &head).await?;
        let mut act = self.act(operation.method(), id, outcome);
        self.forgive(&key, &commands);
        for (at, command) in commands.iter().enumerate() {
            if !self.command(&key, command.clone(), act.take()).await? && at == 0 {
                // Another request has resumed it in the meantime, which is what this one asks for.
                if matches!(command, Command::Unpark | Command::Reopen(_)) {
                    return Ok(());
                }
                return match self.plan(operation, &self.head(&key).await?).await {
                    Err(why) => Err(why),
                    Ok(_) => Err(changed_meanwhile(id)),
                };
            }
        }
        self.carried_out(&key, &commands);
        Ok(())
    }

    /// What an operation asks of the store for an execution as it is now.
    pub(crate) async fn plan(&self, operation: &Operation, head: &ExecutionRow) -> Result<OperationCommands, ApiError> {
        let (key, standing) = (&head.key, convert::standing(head));
        let conflict = |why: String| conflict(key.id.as_str(), &why);
        match operation {
            Operation::Cancel => {
                Verb::Cancel.on(standing).map_err(conflict)?;
                let at = self.node.store.now().await?;
                Ok(OperationCommands::new([send(&Message::Cancel { at })], "asked"))
            }
            Operation::Terminate => {
                Verb::Terminate.on(standing).map_err(conflict)?;
                if self.is_readable(key).await? {
                    // The reason for which it may be parked no longer matters.
                    return Ok(OperationCommands::new([send(&Message::Terminate), Command::Unpark], "asked"));
                }
                Ok(OperationCommands::new([bury(head)], "ended unread"))
            }
            Operation::Pause => {
                Verb::Pause.on(standing).map_err(conflict)?;
                Ok(OperationCommands::new([send(&Message::Pause)], "asked"))
            }
            Operation::Resume { force } => match Resumption::of(standing).map_err(conflict)? {
                Resumption::Unpark => Ok(OperationCommands::new([Command::Unpark], "unparked")),
                Resumption::Unpause => Ok(OperationCommands::new([send(&Message::Resume)], "unpaused")),
                Resumption::Reopen => {
                    let mode = if *force { ReopenMode::Forced } else { ReopenMode::Checked };
                    Ok(OperationCommands::new([self.reopening(head, mode).await?], "reopened"))
                }
            },
            Operation::Signal { name, data } => {
                self.node.usages.full.admit(self.tenant)?;
                Verb::Signal.on(standing).map_err(conflict)?;
                self.has_inbox_room(key).await?;
                Ok(OperationCommands::new([signal(name, data, None)?], name.as_str()))
            }
            Operation::Delete => {
                Verb::Delete.on(standing).map_err(conflict)?;
                Ok(OperationCommands::new([Command::Delete], "deleted"))
            }
            Operation::Unknown => Err(ApiError::Conflict("this engine does not know the operation".to_owned())),
        }
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
            Err(error) => Err(error.into()),
        }
    }

    async fn reopening(&self, head: &ExecutionRow, mode: ReopenMode) -> Result<Command, ApiError> {
        let key = &head.key;
        let _alone = self.node.turns.whole_history(self.tenant).await;
        let (mut history, mut from) = (Vec::new(), Position(1));
        // In pieces: to decode all of it at once would keep a thread for a second.
        while from <= head.position {
            let to = Position(head.position.0.min(from.0 + EVENTS_AT_ONCE - 1));
            let piece = restore::events(&*self.node.store, key, head.run, (from, to)).await;
            history.extend(piece.map_err(|error| match error {
                StoreError::Corrupt(why) => conflict(key.id.as_str(), &format!("cannot be reopened: {why}")),
                other => other.into(),
            })?);
            from = Position(to.0 + 1);
        }
        let found = cerebelum_history::reopening(&history);
        let message = found.request(&key.id, mode).map_err(|why| conflict(key.id.as_str(), &why))?;
        Ok(Command::Reopen(Json::of(&message).to_string()))
    }

    /// Forgets the crashes of an execution that is about to be resumed.
    pub(crate) fn forgive(&self, key: &ExecutionKey, commands: &[Command]) {
        if matches!(commands, [Command::Unpark]) {
            self.node.crash_log.forgive(&key.to_string());
        }
    }

    /// Tells this engine what the store has carried out.
    pub(crate) fn carried_out(&self, key: &ExecutionKey, commands: &[Command]) {
        if matches!(commands, [Command::Bury { .. }]) {
            tracing::warn!(execution = %key, "terminated by its key alone: its rows could not be read");
            self.node.watchers.changed(key);
        }
        if commands.iter().any(|command| matches!(command, Command::Unpark | Command::Reopen(_))) {
            self.node.wake.now();
        }
    }
}

/// Ends an execution that cannot be read, and tells its parent.
fn bury(head: &ExecutionRow) -> Command {
    let failure = Failure::new(kind::CANCELLED, "the execution was terminated: its rows could not be read");
    let farewell = head.parent.as_ref().and_then(|parent| {
        let message = parent.clone().farewell(&head.key.id, &End::Cancelled(failure), None)?;
        Some((parent.id.clone(), Json::of(&message).to_string()))
    });
    Command::Bury { messages: farewell.into_iter().collect() }
}
