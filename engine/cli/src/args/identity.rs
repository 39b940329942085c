//! The arguments of `tenant`, `token` and `login`.

use std::path::PathBuf;

use cerebelum_worker::Role;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use crate::durations::Span;

#[derive(Debug, Subcommand)]
pub(crate) enum TenantVerb {
    /// Create a tenant
    Create {
        /// Its name, 1 to 64 of `a-z 0-9 -`
        name: String,
    },
    /// List the tenants
    List,
    /// Refuse the tokens of a tenant; its executions go on
    Suspend {
        /// Its name
        name: String,
        /// Accept its tokens again
        #[arg(long)]
        lift: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Create a token and print it, once
    Create(CreateToken),
    /// List the tokens of a tenant, without their secrets
    List {
        /// The tenant [default: your own]
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Make a token invalid, on every engine within five seconds
    Revoke {
        /// Its public part, as `token list` shows it
        id: String,
        /// The tenant [default: your own]
        #[arg(long)]
        tenant: Option<String>,
    },
}

/// Accepts the word of a role.
fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|word| word.parse())
}

#[derive(Debug, Args)]
pub(crate) struct CreateToken {
    /// What its owner may do
    #[arg(long, value_parser = roles())]
    pub(crate) role: Role,
    /// The name of its owner; answers to questions carry it
    #[arg(long)]
    pub(crate) name: String,
    /// The tenant [default: your own]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Refuse it after this time, such as 90d; without it, never
    #[arg(long, value_name = "D")]
    pub(crate) expires: Option<Span>,
    /// Create it in the database of this data folder, whose engine does not run: the first one, or after all were lost
    #[arg(long, value_name = "DIR", conflicts_with = "database")]
    pub(crate) data: Option<PathBuf>,
    /// Create it in this database: the same without a data folder
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The name of the context [default: the engine's host and port]
    #[arg(long)]
    pub(crate) name: Option<String>,
}
