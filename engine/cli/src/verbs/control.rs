//! Cancel, terminate, pause, resume, delete: of one execution or of several.

use cerebelum_server::proto;

use super::ApiCommand;
use crate::client::{Api, Client};
use crate::exit::{CliError, Code, Outcome};
use crate::out;

/// An operation on executions that needs only their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// Asks the execution to stop.
    Cancel,
    /// Ends it without running its clean-up.
    Terminate,
    /// Lets running attempts finish and starts nothing new.
    Pause,
    /// Lets it go on; with `force` even if its code went on after a failure.
    Resume { force: bool },
    /// Deletes it.
    Delete,
}

impl Control {
    async fn perform(self, client: &mut Client, id: &str) -> Outcome {
        let execution_id = id.to_owned();
        match self {
            Self::Cancel => client.ask(Api::cancel, proto::CancelRequest { execution_id }).await.map(drop),
            Self::Terminate => client.ask(Api::terminate, proto::TerminateRequest { execution_id }).await.map(drop),
            Self::Pause => client.ask(Api::pause, proto::PauseRequest { execution_id }).await.map(drop),
            Self::Resume { force } => {
                client.ask(Api::resume, proto::ResumeRequest { execution_id, force }).await.map(drop)
            }
            Self::Delete => client.ask(Api::delete, proto::DeleteRequest { execution_id }).await.map(drop),
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Cancel => "is being cancelled; if it has begun, its clean-up code runs now",
            Self::Terminate => "is being terminated; none of its code runs any more",
            Self::Pause => "is being paused: running attempts finish, nothing new starts",
            Self::Resume { .. } => "is resumed",
            Self::Delete => "is deleted",
        }
    }
}

impl ApiCommand {
    /// Applies an operation to each execution in turn. A refusal does not stop it for the others; the exit code is that
    /// of the first refusal.
    pub(crate) async fn each(&self, ids: Vec<String>, control: Control) -> Outcome {
        let mut client = self.client().await?;
        let mut refused: Option<CliError> = None;
        for id in ids {
            let stop = match control.perform(&mut client, &id).await {
                Ok(()) => {
                    self.done(&id, control.done())?;
                    continue;
                }
                Err(stop) => stop,
            };
            let is_away = stop.code == Some(Code::Unreachable);
            // The caller reports the last refusal.
            let code = refused.as_ref().map_or(stop.code, |first| first.code);
            if let Some(before) = refused.replace(CliError { code, ..stop }) {
                out::complain(&before, self.global.json);
            }
            if is_away {
                break;
            }
        }
        refused.map_or(Ok(()), Err)
    }
}
