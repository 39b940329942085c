//! Cancel, terminate, pause, resume, delete.

use cerebelum_server::proto;

use super::Asking;
use crate::exit::Outcome;

impl Asking {
    /// Asks an execution to stop.
    pub(crate) async fn cancel(&self, execution_id: String) -> Outcome {
        let (mut client, id) = (self.client().await?, execution_id.clone());
        client.engine.cancel(proto::CancelRequest { execution_id }).await.map_err(|e| client.stop(&e))?;
        self.done(&id, "is asked to stop; its clean-up code runs now")
    }

    /// Ends an execution without asking it.
    pub(crate) async fn terminate(&self, execution_id: String) -> Outcome {
        let (mut client, id) = (self.client().await?, execution_id.clone());
        client.engine.terminate(proto::TerminateRequest { execution_id }).await.map_err(|e| client.stop(&e))?;
        self.done(&id, "is told to end at once")
    }

    /// Lets running attempts finish and starts nothing new.
    pub(crate) async fn pause(&self, execution_id: String) -> Outcome {
        let (mut client, id) = (self.client().await?, execution_id.clone());
        client.engine.pause(proto::PauseRequest { execution_id }).await.map_err(|e| client.stop(&e))?;
        self.done(&id, "is told to pause; running attempts finish, nothing new starts")
    }

    /// Goes on.
    pub(crate) async fn resume(&self, execution_id: String) -> Outcome {
        let (mut client, id) = (self.client().await?, execution_id.clone());
        client.engine.resume(proto::ResumeRequest { execution_id }).await.map_err(|e| client.stop(&e))?;
        self.done(&id, "goes on")
    }

    /// Forgets an execution.
    pub(crate) async fn delete(&self, execution_id: String) -> Outcome {
        let (mut client, id) = (self.client().await?, execution_id.clone());
        client.engine.delete(proto::DeleteRequest { execution_id }).await.map_err(|e| client.stop(&e))?;
        self.done(&id, "is deleted")
    }

    /// Confirms what was done to an execution.
    pub(super) fn done(&self, id: &str, what: &str) -> Outcome {
        match self.global.json {
            true => self.out.say(&serde_json::json!({ "execution_id": id }).to_string()),
            false => self.out.say(&format!("{id} {what}")),
        }
    }
}
