//! The verbs and their flags. The comments here are the help texts and `docs/cli.md`.

mod approvals;
mod bulk;
mod component;
mod filter;
mod identity;
mod reading;
mod view;

use std::path::PathBuf;

use cerebelum_server::Span;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::config::Settings;
pub(crate) use approvals::{Approvals, ApprovalsVerb, Link};
pub(crate) use bulk::{Bulk, BulkVerb};
pub(crate) use component::{
    AcceptComponent, Build, Components, ComponentsVerb, DiffComponent, RemoveComponent, Upload,
};
pub(crate) use filter::Filter;
pub(crate) use identity::{Audit, CreateToken, Login, SecretVerb, TenantVerb, TokenVerb};
pub(crate) use reading::{History, Logs, Timeline};
pub(crate) use view::{SaveView, ViewVerb};

/// Durable workflows: write ordinary async functions, compile them to WebAssembly, upload, start.
///
/// Exit codes: 0 fine, 1 the execution failed or was cancelled, 2 wrong usage, 3 not found,
/// 4 engine not reachable, 5 refused (conflict, limit, permission).
///
/// An error is one line on stderr. With `--json` it is `{"error":{"code":…,"message":…}}`, where `code` is the exit code.
///
/// With `--json` an answer is one JSON document on one or more lines; what grows while one reads it (`history`, `logs`,
/// `watch`) and verbs that were given several executions print one document a line.
///
/// A command that finds no engine at its first try ends with 4. One that already waits for an execution (`watch`,
/// `start --wait`, `result --wait`) outlasts an engine that goes away for up to a minute.
///
/// A reader that closes the pipe early (`cerebelum history ID | head`) ends the command quietly with 0.
#[derive(Debug, Parser)]
#[command(name = "cerebelum", version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Verbs that ask no engine: the flags of [`Global`] mean nothing there.
const ALONE: [&str; 7] = ["serve", "new", "build", "completions", "man", "help-markdown", "help-openapi"];

impl Cli {
    /// The command line, with each flag shown where it means something.
    pub(crate) fn shown() -> clap::Command {
        let command = Self::command();
        let global: Vec<_> = command.get_arguments().filter(|one| one.is_global_set()).cloned().collect();
        ALONE.into_iter().fold(command, |command, verb| {
            command.mut_subcommand(verb, |verb| verb.args(global.iter().map(|one| one.clone().hide(true))))
        })
    }

    /// Reads a command line.
    pub(crate) fn read<I, T>(line: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let matches = Self::shown().try_get_matches_from(line)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.global.choose(|flag| matches.value_source(flag) == Some(ValueSource::CommandLine))?;
        Ok(cli)
    }
}

/// Flags of every verb that asks an engine.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where the engine is [default: that of the current context, else http://127.0.0.1:9090]
    #[arg(long, global = true, env = "CEREBELUM_URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// The token that says who you are [default: that of the context]
    #[arg(long, global = true, env = "CEREBELUM_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Authorities in PEM that vouch for the engine's certificate, in place of those of this machine [default: those of the context]
    #[arg(long, global = true, env = "CEREBELUM_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A certificate in PEM, with its private key in the same file, for an engine that asks clients for one [default: that of the context]
    #[arg(long, global = true, env = "CEREBELUM_CLIENT_CERT", hide_env_values = true, value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// The engine and the token that `cerebelum login` kept under this name
    #[arg(long, global = true, env = "CEREBELUM_CONTEXT", hide_env_values = true)]
    pub(crate) context: Option<String>,
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Global {
    /// Lets a context stand against an address and a token: what is typed goes before variables, and a variable that is
    /// empty is none.
    fn choose(&mut self, is_typed: impl Fn(&str) -> bool) -> Result<(), clap::Error> {
        for set in [&mut self.url, &mut self.token, &mut self.context] {
            set.take_if(|value| value.is_empty());
        }
        let is_set = (self.context.is_some(), self.url.is_some() || self.token.is_some());
        let other = if self.url.is_some() { "url" } else { "token" };
        match (is_set, is_typed("context"), is_typed("url") || is_typed("token")) {
            ((true, true), true, false) => (self.url, self.token) = (None, None),
            ((true, true), false, true) => self.context = None,
            ((true, true), _, _) => {
                let why = format!(
                    "the argument '--context <CONTEXT>' cannot be used with '--{other}': it names an engine and a token\n"
                );
                return Err(Cli::command().error(ErrorKind::ArgumentConflict, why));
            }
            _ => {}
        }
        Ok(())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the engine
    ///
    /// One port has gRPC, REST under `/v1`, pages for a browser, `/healthz` and `/metrics`. Every setting is a flag, a
    /// variable `CEREBELUM_…` and a key of the configuration file, in this order of precedence. Secrets for steps are
    /// `[secrets]` in the file or `CEREBELUM_SECRET_<NAME>`.
    Serve(Box<Serve>),
    /// Lay down a project that builds and runs
    New(New),
    /// Build a component from a crate or a Python program
    ///
    /// A crate that depends on another one which can never work in a component (a runtime such as tokio's, a client such as
    /// reqwest) is refused, with what to use instead.
    ///
    /// A Python program is checked first, and all its problems are reported at once. Pure-Python packages of the
    /// `requirements.txt` or `pyproject.toml` beside it come along. The interpreter is made once for each version of the
    /// SDK, which takes half a minute, by componentize-py: from `$CEREBELUM_COMPONENTIZE`, the project's `.venv`, or the
    /// cache, where it is installed. Later builds take a second or two.
    Build(Build),
    /// Hand a component to the engine
    ///
    /// Prints name, digest, workflows, steps and what it asks for. Under a known name it becomes the current one. The
    /// engine compiles it meanwhile: the first Python component takes some 20 s, later ones about a second.
    Upload(Upload),
    /// List the components the engine has, or accept or remove one
    Components(Components),
    /// Start an execution
    Start(Start),
    /// List executions, the newest first
    ///
    /// At most 100 of them; when there are more, stderr says how to go on. A workflow that no component has is exit
    /// code 3.
    List(List),
    /// Show one execution
    ///
    /// More than ten calls of one step below the same caller are one line with their numbers, and those that are worth
    /// a look.
    Status(StatusOf),
    /// Print the output of an execution
    Result(ResultOf),
    /// Follow an execution until it has ended
    ///
    /// Live on a terminal; elsewhere one line for each change. Says so when the engine is away.
    Watch(ExecutionArg),
    /// Show what needs a person, what failed and what is new, until interrupted
    ///
    /// Live on a terminal, once elsewhere. Numbers are exact up to 10,000.
    Top(Top),
    /// Print the events of an execution
    History(History),
    /// Draw the calls of an execution as bars over time
    ///
    /// One line for all calls of one name below one step. Long stretches in which nothing changes are folded, and the line
    /// above the bars says how long they are.
    Timeline(Timeline),
    /// Print the log lines of an execution
    Logs(Logs),
    /// List questions that wait for a person
    Approvals(Approvals),
    /// Say yes to a question
    Approve(Approve),
    /// Say no to a question
    Reject(Reject),
    /// Send a message to an execution
    Signal(Signal),
    /// Ask an execution to stop; its clean-up code runs
    Cancel(Several),
    /// End an execution without asking it
    Terminate(Several),
    /// Let running attempts finish and start nothing new
    Pause(Several),
    /// Go on with an execution that is paused, parked or failed
    Resume(Resume),
    /// Forget an execution that has ended
    Delete(Several),
    /// Do one thing to all executions that match a filter
    ///
    /// A bulk job goes on in the background, whatever happens to this command or to an engine, and touches each execution
    /// once. Executions that are started after it are left alone.
    #[command(subcommand)]
    Bulk(BulkVerb),
    /// Save, list and delete views of the list of executions
    ///
    /// A view is a name for a filter and columns. It is yours, or the whole tenant sees it; the page of executions leads to
    /// both.
    #[command(subcommand)]
    View(ViewVerb),
    /// Create, list, suspend and delete tenants, and set their quotas
    ///
    /// Tenants share an engine and know nothing of each other. Only admins of the tenant `default` manage them.
    #[command(subcommand)]
    Tenant(TenantVerb),
    /// Create, list and revoke tokens
    ///
    /// An engine that never had a token takes every client on its machine for an admin of the tenant `default`. The first
    /// token ends that. What each role may do: docs/operating.md.
    #[command(subcommand)]
    Token(TokenVerb),
    /// Set, list and delete secrets, and renew the key with which they are sealed
    ///
    /// A request of a step may contain `{{secret:NAME}}` if its component asks for the secret and the request goes to one of
    /// the secret's hosts. The engine needs a key for secrets: `serve --secrets-key`.
    #[command(subcommand)]
    Secret(SecretVerb),
    /// Keep a token, so that later commands need not name it
    ///
    /// Reads it from --token, CEREBELUM_TOKEN or stdin, asks the engine whether it is valid, and writes it to
    /// `~/.config/cerebelum/contexts.toml`, which only you may read.
    Login(Login),
    /// List the engines that you have logged in to, or make one the current one
    Context {
        /// The one to make current
        name: Option<String>,
    },
    /// Show what was done in a tenant, by whom and from where; the newest first
    Audit(Audit),
    /// List the engines that share the database
    Nodes,
    /// Show for whom, and in which role, commands are given
    Whoami,
    /// Watch a project: rebuild, upload and run it after every change
    Dev(Dev),
    /// Print what lets a shell complete verbs and flags
    ///
    /// For bash: `cerebelum completions bash > ~/.local/share/bash-completion/completions/cerebelum`. For zsh: into
    /// `_cerebelum` in a folder of `$fpath`. For fish: into `~/.config/fish/completions/cerebelum.fish`.
    Completions(Completions),
    /// Write manual pages into a folder, one for each verb
    ///
    /// For all users of a machine: `cerebelum man /usr/local/share/man/man1`, then `man cerebelum`.
    Man {
        /// The folder; it is created if it does not exist
        folder: PathBuf,
    },
    /// Print this reference as Markdown
    #[command(hide = true)]
    HelpMarkdown,
    /// The OpenAPI document of the REST interface
    #[command(hide = true)]
    HelpOpenapi,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", env = "CEREBELUM_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Print the effective settings with their meaning, and stop
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// The languages a guest can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// A crate
    Rust,
    /// A module
    Python,
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The project's name, also its folder
    pub(crate) name: String,
    /// The language to write it in
    #[arg(long, value_enum, default_value = "rust")]
    pub(crate) lang: Language,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// `component/workflow`, or the bare name while it is unique
    pub(crate) workflow: String,
    /// The input: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "null", allow_hyphen_values = true)]
    pub(crate) input: String,
    /// The execution's id, 1 to 128 of `A-Z a-z 0-9 . _ : -`; drawn when left out
    ///
    /// The same id with the same workflow and input answers with the existing execution: nothing is started, and the other
    /// options are not applied.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// An attribute that lists can be filtered by; V is a JSON scalar, else a string
    #[arg(long, value_name = "K=V")]
    pub(crate) attr: Vec<String>,
    /// Begin only after this time, such as 5s, 2h30m, 1d
    #[arg(long, value_name = "D")]
    pub(crate) delay: Option<Span>,
    /// Fail the execution when it has not ended after this time
    #[arg(long, value_name = "D")]
    pub(crate) deadline: Option<Span>,
    /// Wait for the end and show the whole status; exit with 1 unless it completed
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "all")]
    pub(crate) limit: usize,
    /// Everything, however much that is
    #[arg(long)]
    pub(crate) all: bool,
    /// Go on where another list ended
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusOf {
    /// The execution
    pub(crate) id: String,
    /// Each step on a line of its own, however many there are
    #[arg(long)]
    pub(crate) all: bool,
    /// How many of the steps with the same name to show when they are too many
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with = "all")]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Several {
    /// The executions
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ExecutionArg {
    /// The execution
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The executions
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Reopen a failed execution even though its code made further calls after the failure; they are not undone
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResultOf {
    /// The execution
    pub(crate) id: String,
    /// Wait for the end
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Print it once and end, also on a terminal
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// An execution, if only one approval is open, or an approval
    pub(crate) id: String,
    /// The answer: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "{}", allow_hyphen_values = true)]
    pub(crate) data: String,
    /// Anything besides
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Reject {
    /// An execution, if only one approval is open, or an approval
    pub(crate) id: String,
    /// Why not
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Signal {
    /// The execution
    pub(crate) id: String,
    /// The name it is awaited by
    pub(crate) name: String,
    /// What it says: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "null", allow_hyphen_values = true)]
    pub(crate) data: String,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// The project: what `build` takes
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// The workflow to start [default: the only one]
    #[arg(long)]
    pub(crate) workflow: Option<String>,
    /// The input to start it with: JSON or @FILE [default: the project's input.json, if any]
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub(crate) input: Option<String>,
}
