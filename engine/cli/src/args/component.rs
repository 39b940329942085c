//! The arguments of the verbs that are about components.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// A crate's folder; a Python file; a program's folder, with `app.py`, `workflow.py` or `main.py`; a package's own folder
    pub(crate) path: PathBuf,
    /// Where to put the component [default: NAME.wasm in the project]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Upload {
    /// The component
    pub(crate) file: PathBuf,
    /// The name to know it by [default: the file's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Accept it if it asks for more than its name was granted, as `components accept` does
    #[arg(long)]
    pub(crate) accept: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Components {
    #[command(subcommand)]
    pub(crate) verb: Option<ComponentsVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ComponentsVerb {
    /// Remove a component, or one version of it
    ///
    /// A version that an open execution may still need is not removed, nor one that a failed execution needs when it is
    /// resumed. Executions that completed or were cancelled keep their history without it. What it took on disk is
    /// free about half a minute later.
    Remove(RemoveComponent),
    /// Show what a version of a component has and asks for, and the one before did not
    Diff(DiffComponent),
    /// Grant a proposed version what it asks for, and make it the current one
    ///
    /// A version that asks for more hosts or secrets than its name was granted is proposed: it is not used before an admin
    /// accepts it. `cerebelum components diff NAME` shows what is new.
    Accept(AcceptComponent),
}

#[derive(Debug, Args)]
pub(crate) struct RemoveComponent {
    /// The component
    pub(crate) name: String,
    /// Only the version whose digest begins so; all versions when left out
    #[arg(long, value_name = "DIGITS")]
    pub(crate) digest: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffComponent {
    /// The component
    pub(crate) name: String,
    /// The version whose digest begins so [default: the current one, or the one before if that is what is shown]
    #[arg(long, value_name = "DIGITS")]
    pub(crate) from: Option<String>,
    /// The version whose digest begins so [default: the latest proposed one, or the current one if there is none]
    #[arg(long, value_name = "DIGITS")]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AcceptComponent {
    /// The component and the version: its digest, or at least the first 12 digits
    #[arg(value_name = "NAME@DIGEST", value_parser = version)]
    pub(crate) version: (String, String),
}

fn version(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('@').filter(|(name, digest)| !name.is_empty() && !digest.is_empty());
    let parts = parts.ok_or("write NAME@DIGEST, as `cerebelum components` shows them")?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}
