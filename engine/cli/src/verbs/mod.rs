//! One function for each verb.

mod audit;
mod bulk;
mod component;
mod component_diff;
mod control;
mod dev;
mod identity;
mod links;
mod list;
mod nodes;
mod people;
mod read;
mod secret;
mod serve;
mod start;
mod timeline;
mod top;
mod view;
mod watch;

use crate::args::Global;
use crate::client::Client;
use crate::exit::Outcome;
use crate::out::Out;

pub(crate) use component::{build, new};
pub(crate) use control::Control;
pub(crate) use serve::serve;

/// A verb that asks the engine: the global flags, and the output.
pub(crate) struct ApiCommand {
    /// The engine's address, the token, and the form of the answer.
    pub(crate) global: Global,
    /// The output for the answer.
    pub(crate) out: Out,
}

impl ApiCommand {
    async fn client(&self) -> Outcome<Client> {
        Client::connect(&self.global).await
    }
}
