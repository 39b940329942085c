//! The arguments of `tenant`, `token` and `login`.

use std::path::PathBuf;

use cerebelum_server::{Moment, Span};
use cerebelum_worker::Role;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

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
    /// Delete a suspended tenant with all that it has: executions, components, tokens and audit
    Delete {
        /// Its name
        name: String,
    },
    /// Show a tenant, its quotas, and what it uses of them
    Show {
        /// Its name
        name: String,
    },
    /// Set the hosts that requests of a tenant's steps may reach, on every engine within five seconds
    SetHosts {
        /// Its name
        name: String,
        /// `host`, `host:port`, or `*` for every public address; without any, none
        #[arg(value_name = "HOST")]
        hosts: Vec<String>,
        /// Return to what the engine's configuration says
        #[arg(long, conflicts_with = "hosts")]
        default: bool,
    },
    /// Set quotas of a tenant, on every engine within five seconds
    SetQuota {
        /// Its name
        name: String,
        /// A quota and how much the tenant may have, such as open-executions=1000, or open-executions=default
        #[arg(required = true, value_name = "QUOTA=MAX", value_parser = quota_change)]
        changes: Vec<(String, Option<u64>)>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretVerb {
    /// Set a secret, whose value is read from stdin, on every engine within five seconds
    Set {
        /// Its name, as components ask for it
        name: String,
        /// A host to which it may go, such as api.example.com or 10.0.0.7:8080; several, separated by commas
        #[arg(long = "host", required = true, value_delimiter = ',', value_name = "HOST")]
        hosts: Vec<String>,
        /// The tenant [default: your own]
        #[arg(long)]
        tenant: Option<String>,
    },
    /// List the secrets of a tenant, without their values
    List {
        /// The tenant [default: your own]
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Delete a secret, on every engine within five seconds
    Delete {
        /// Its name
        name: String,
        /// The tenant [default: your own]
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Seal all secrets with a new key, and that with the first key in the engine's file of keys
    RotateKey {
        /// The tenant [default: your own]
        #[arg(long)]
        tenant: Option<String>,
    },
}

/// Reads `NAME=NUMBER` or `NAME=default`.
fn quota_change(text: &str) -> Result<(String, Option<u64>), String> {
    let wrong = || "write QUOTA=NUMBER or QUOTA=default, such as open-executions=1000".to_owned();
    let (name, max) = text.split_once('=').ok_or_else(wrong)?;
    let max = if max == "default" { None } else { Some(max.parse().map_err(|_| wrong())?) };
    Ok((name.to_owned(), max))
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

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Only this operation, a method of the interface such as Start, Approve or CreateToken
    #[arg(long, value_name = "NAME")]
    pub(crate) operation: Option<String>,
    /// Only what the caller with this name did
    #[arg(long, value_name = "NAME")]
    pub(crate) caller: Option<String>,
    /// Only what was done to this execution, question, token, component or tenant
    #[arg(long, value_name = "ID")]
    pub(crate) object: Option<String>,
    /// Only what was done since: so long ago (2h, 1d), or a moment (2026-11-22T18:00:00Z)
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Moment>,
    /// The tenant [default: your own]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
    /// Everything, however much that is
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}
