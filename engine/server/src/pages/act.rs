//! The forms on an execution's page: each does what the method of its name does, and goes back to the page.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use super::parts::execution_path;
use super::read::{Form, Path};
use super::{Shown, Site};
use crate::access::Access;
use crate::proto;
use crate::proto::engine_server::Engine as _;
use crate::rest::asked;

macro_rules! act {
    ($verb:ident, $request:expr) => {
        pub(super) async fn $verb(State(site): State<Site>, access: Access, Path(id): Path<String>) -> Shown {
            site.service.$verb(asked(access, $request(id.clone()))).await?;
            Ok(Redirect::to(&execution_path(&id)).into_response())
        }
    };
}

act!(cancel, |execution_id| proto::CancelRequest { execution_id });
act!(terminate, |execution_id| proto::TerminateRequest { execution_id });
act!(pause, |execution_id| proto::PauseRequest { execution_id });
act!(resume, |execution_id| proto::ResumeRequest { execution_id, force: false });

pub(super) async fn delete(State(site): State<Site>, access: Access, Path(execution_id): Path<String>) -> Shown {
    site.service.delete(asked(access, proto::DeleteRequest { execution_id })).await?;
    Ok(Redirect::to("/executions").into_response())
}

/// A signal as a person writes it.
#[derive(Deserialize)]
pub(super) struct Signal {
    name: String,
    data: String,
}

pub(super) async fn signal(
    State(site): State<Site>,
    access: Access,
    Path(execution_id): Path<String>,
    Form(Signal { name, data }): Form<Signal>,
) -> Shown {
    let request = proto::SignalRequest { execution_id: execution_id.clone(), name, data: data.trim().to_owned() };
    site.service.signal(asked(access, request)).await?;
    Ok(Redirect::to(&execution_path(&execution_id)).into_response())
}
