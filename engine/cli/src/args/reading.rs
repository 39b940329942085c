//! The flags of the verbs that read what an execution did.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The execution
    pub(crate) id: String,
    /// The events of this run [default: the latest]
    #[arg(long, value_name = "N")]
    pub(crate) run: Option<u32>,
    /// Only events after this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    pub(crate) after: u64,
    /// Go on with new events until the execution has ended
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The execution
    pub(crate) id: String,
    /// Go on with new lines until the execution has ended
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Timeline {
    /// The execution
    pub(crate) id: String,
    /// The calls of this run [default: the latest]
    #[arg(long, value_name = "N")]
    pub(crate) run: Option<u32>,
    /// Show time evenly, however long nothing changes
    #[arg(long)]
    pub(crate) even: bool,
}
