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
mod pages;
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
use crate::render::Table;

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

    /// Answers with JSON for a program, or with a line for a person.
    fn answer(&self, json: &str, line: &str) -> Outcome {
        self.out.say(if self.global.json { json } else { line })
    }

    /// Confirms what was done to an execution, or to something else with an id.
    fn done(&self, id: &str, what: &str) -> Outcome {
        self.answer(&serde_json::json!({ "execution_id": id }).to_string(), &format!("{id} {what}"))
    }

    /// Answers with a list: JSON for a program, and for a person a table, or a line that says that there is `none`.
    fn list(&self, json: impl Iterator<Item = String>, table: &Table, none: &str) -> Outcome {
        match self.global.json {
            true => self.out.array(&json.collect::<Vec<_>>()),
            false if table.is_empty() => self.out.say(none),
            false => self.out.show(&table.lines()),
        }
    }
}
