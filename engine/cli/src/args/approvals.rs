//! The arguments of `approvals`.

use cerebelum_server::Span;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, override_usage = "cerebelum approvals [OPTIONS] [COMMAND]")]
pub(crate) struct Approvals {
    /// Only those of this execution
    #[arg(long, value_name = "ID")]
    pub(crate) execution: Option<String>,
    #[command(subcommand)]
    pub(crate) verb: Option<ApprovalsVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsVerb {
    /// Create a link with which one person answers a question once, without a token
    ///
    /// The link is shown once. It begins with the address at which this command reaches the engine. A person who has
    /// the link can answer: send it to the one it is for, and to no other.
    Link(Link),
    /// List the links of a question, without their secrets
    Links {
        /// An approval, or an execution if only one is open
        id: String,
    },
    /// Make a link invalid that was not used
    Revoke {
        /// An approval, or an execution if only one is open
        id: String,
        /// The link, as `approvals links` shows it
        link: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Link {
    /// An approval, or an execution if only one is open
    pub(crate) id: String,
    /// The name of the person who answers with it; the answer carries it
    #[arg(long = "for", value_name = "NAME")]
    pub(crate) name: String,
    /// Refuse it after this time, at most 30 days
    #[arg(long, value_name = "D", default_value = "3d")]
    pub(crate) expires: Span,
    /// Allow only this decision
    #[arg(long, value_parser = PossibleValuesParser::new(["approve", "reject"]))]
    pub(crate) only: Option<String>,
}
