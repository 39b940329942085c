//! The arguments of `view`.

use clap::{Args, Subcommand};

use super::Filter;

#[derive(Debug, Subcommand)]
pub(crate) enum ViewVerb {
    /// Save a view, in the place of one of the same name
    Save(Box<SaveView>),
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
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// An attribute with a column of its own; several, separated by commas
    #[arg(long = "column", value_delimiter = ',', value_name = "NAME")]
    pub(crate) columns: Vec<String>,
}
