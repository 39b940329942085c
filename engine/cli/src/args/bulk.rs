//! The arguments of `bulk`.

use clap::{Args, Subcommand};

use super::Filter;

#[derive(Debug, Subcommand)]
pub(crate) enum BulkVerb {
    /// Ask all that match to stop; their clean-up code runs
    Cancel(Bulk),
    /// End all that match without asking them
    Terminate(Bulk),
    /// Let nothing new begin in all that match
    Pause(Bulk),
    /// Go on with all that match and are paused, parked or failed
    Resume {
        #[command(flatten)]
        bulk: Bulk,
        /// Reopen failed executions even though their code made further calls after the failure; these are not undone
        #[arg(long)]
        force: bool,
    },
    /// Send a message to all that match
    Signal {
        /// The name it is awaited by
        name: String,
        /// What it says, at most 16 KiB: JSON, @FILE, or - for stdin
        #[arg(long, value_name = "JSON", default_value = "null", allow_hyphen_values = true)]
        data: String,
        #[command(flatten)]
        bulk: Bulk,
    },
    /// Forget all that match and have ended
    Delete(Bulk),
    /// List the bulk jobs, the newest first
    List,
    /// Show a bulk job, and where it was refused
    Show {
        /// The job
        id: String,
    },
    /// Stop a bulk job; what it has done stays done
    Stop {
        /// The job
        id: String,
    },
}

/// The executions that a bulk job is about.
#[derive(Debug, Args)]
pub(crate) struct Bulk {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// All executions, in whatever state and of whatever workflow
    #[arg(long, conflicts_with = "Filter")]
    pub(crate) all: bool,
    /// Confirm that up to this many are meant; needed when more than 100 match
    #[arg(long, value_name = "N")]
    pub(crate) at_most: Option<u64>,
    /// Only say how many match
    #[arg(long, conflicts_with = "at_most")]
    pub(crate) dry_run: bool,
    /// The job's id, 1 to 128 of `A-Z a-z 0-9 . _ : -`; drawn when left out
    ///
    /// The same command with the same id changes nothing, while the job is listed. With --since or --until, give moments
    /// for that: `2h` means another one each time.
    #[arg(long)]
    pub(crate) id: Option<String>,
}
