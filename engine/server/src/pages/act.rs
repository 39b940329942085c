//! The forms on an execution's page: each does what the method of its name does, and goes back to the page.

use serde::Deserialize;

use super::parts::execution_path;
use super::read::{Form, Path};
use super::{Client, Shown, Verbs};
use crate::proto;

pub(super) async fn cancel(client: Client, Path(id): Path<String>) -> Shown {
    client.change(Verbs::cancel, proto::CancelRequest { execution_id: id.clone() }, &execution_path(&id)).await
}

pub(super) async fn terminate(client: Client, Path(id): Path<String>) -> Shown {
    client.change(Verbs::terminate, proto::TerminateRequest { execution_id: id.clone() }, &execution_path(&id)).await
}

pub(super) async fn pause(client: Client, Path(id): Path<String>) -> Shown {
    client.change(Verbs::pause, proto::PauseRequest { execution_id: id.clone() }, &execution_path(&id)).await
}

pub(super) async fn resume(client: Client, Path(id): Path<String>) -> Shown {
    let request = proto::ResumeRequest { execution_id: id.clone(), force: false };
    client.change(Verbs::resume, request, &execution_path(&id)).await
}

pub(super) async fn delete(client: Client, Path(execution_id): Path<String>) -> Shown {
    client.change(Verbs::delete, proto::DeleteRequest { execution_id }, "/executions").await
}

/// A signal as a person writes it.
#[derive(Deserialize)]
pub(super) struct Signal {
    name: String,
    data: String,
}

pub(super) async fn signal(
    client: Client,
    Path(execution_id): Path<String>,
    Form(Signal { name, data }): Form<Signal>,
) -> Shown {
    let request = proto::SignalRequest { execution_id: execution_id.clone(), name, data: data.trim().to_owned() };
    client.change(Verbs::signal, request, &execution_path(&execution_id)).await
}
