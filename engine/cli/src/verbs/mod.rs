//! One function for each verb.

mod component;
mod control;
mod dev;
mod list;
mod people;
mod read;
mod serve;
mod start;
mod watch;

use crate::args::Global;
use crate::client::Client;
use crate::exit::Outcome;
use crate::out::Out;

pub(crate) use component::{build, new};
pub(crate) use control::Control;
pub(crate) use serve::serve;

/// A question to an engine, and where its answer goes.
pub(crate) struct ApiCommand {
    /// Which engine, who asks, how to answer.
    pub(crate) global: Global,
    /// Where the answer goes.
    pub(crate) out: Out,
}

impl ApiCommand {
    async fn client(&self) -> Outcome<Client> {
        Client::connect(&self.global).await
    }
}
