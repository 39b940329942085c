//! The arguments of `view`.

use cerebelum_history::Status;
use clap::{Args, Subcommand};

use super::statuses;

#[derive(Debug, Subcommand)]
pub(crate) enum ViewVerb {
    /// Save a view, in the place of one of the same name
    Save(SaveView),
    /// List the views that you see: those that are shared, then your own
    List,
    /// Delete a view
    Delete {
        /// Its name
        name: String,
        /// The one that the whole tenant sees, and not your own
        #[arg(long)]
        shared: bool,
    },
}

/// A view to be saved.
#[derive(Debug, Args)]
pub(crate) struct SaveView {
    /// Its name, at most 100 letters
    pub(crate) name: String,
    /// The whole tenant sees it; for this you need the right to run executions
    #[arg(long)]
    pub(crate) shared: bool,
    /// Only with this status
    #[arg(long, value_parser = statuses())]
    pub(crate) status: Option<Status>,
    /// Only of this workflow: `component/workflow`, or the bare name
    #[arg(long)]
    pub(crate) workflow: Option<String>,
    /// Only with this attribute; with each of them when several are given
    #[arg(long, value_name = "K=V")]
    pub(crate) attr: Vec<String>,
    /// Only children of this execution, also when it has been deleted
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<String>,
    /// An attribute with a column of its own; several, separated by commas
    #[arg(long = "column", value_delimiter = ',', value_name = "NAME")]
    pub(crate) columns: Vec<String>,
}
