//! The program `cerebelum`: reads the command line, runs one verb, ends with its exit code.
//!
//! It is a library, so that the tests can build an engine that differs from it in one thing: it can be killed at a named
//! place.

// A closed stderr must not end the program with a panic, so only `out` writes.
#![deny(clippy::print_stderr)]

mod args;
mod client;
mod config;
mod contexts;
mod exit;
mod out;
mod project;
mod reference;
mod render;
mod traces;
mod values;
mod verbs;

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::{Cli, ComponentsVerb, Global, Verb};
use crate::exit::{CliError, Outcome};
use crate::out::Out;
use crate::verbs::{ApiCommand, Control};

/// The system's allocator keeps the memory of ten thousand short activations in its arenas; this one gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A thread of the allocator gives unused memory back to the system within a second.
#[expect(unsafe_code, reason = "the allocator reads its settings from a symbol of this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: Option<&'static std::ffi::c_char> = settings();

#[expect(unsafe_code, reason = "a pointer to the first character of a text that lives for ever")]
const fn settings() -> Option<&'static std::ffi::c_char> {
    let text = c"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0";
    // SAFETY: the pointer comes from a static text that ends with a zero.
    Some(unsafe { &*text.as_ptr() })
}

/// Does what the command line of this process asks for.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = cerebelum_worker::run_as_compile_box() {
        return code;
    }
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    let in_json = cli.global.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => end(&stop, in_json),
    }
}

/// After so many tasks, a thread looks for requests and for timers that are due. Tokio's 61 are for short tasks: an
/// activation runs a guest, and 61 of them take 10 ms.
const EVENT_INTERVAL: u32 = 8;
/// After so many tasks, a thread takes one that other threads have woken, such as those that wrote to the database.
const GLOBAL_QUEUE_INTERVAL: u32 = 2;

fn run(cli: Cli) -> Outcome {
    let out = Out::detect();
    let is_server = matches!(cli.verb, Verb::Serve(_));
    if is_server {
        // Those that the runtime starts inherit it.
        cerebelum_worker::work_promptly();
    }
    let mut runtime = match is_server {
        true => tokio::runtime::Builder::new_multi_thread(),
        // A request to the engine takes less time than starting threads.
        false => tokio::runtime::Builder::new_current_thread(),
    };
    runtime.enable_all().event_interval(EVENT_INTERVAL).global_queue_interval(GLOBAL_QUEUE_INTERVAL);
    let runtime =
        runtime.build().map_err(|e| CliError::failed(format!("cannot start: {e}; is this process out of threads?")))?;
    let outcome = runtime.block_on(perform(cli.verb, cli.global, out));
    // A task that is still blocked (a read from a pipe) must not keep the program alive.
    runtime.shutdown_background();
    outcome
}

async fn perform(verb: Verb, global: Global, out: Out) -> Outcome {
    let asking = ApiCommand { global, out };
    match verb {
        Verb::Serve(args) => verbs::serve(*args, out).await,
        Verb::New(args) => verbs::new(&args, out),
        Verb::Build(args) => verbs::build(&args, out),
        Verb::Upload(args) => asking.upload(&args).await,
        Verb::Components(args) => match args.verb {
            None => asking.components().await,
            Some(ComponentsVerb::Remove(args)) => asking.remove_component(args).await,
            Some(ComponentsVerb::Diff(args)) => asking.diff_component(args).await,
            Some(ComponentsVerb::Accept(args)) => asking.accept_component(args).await,
        },
        Verb::Start(args) => asking.start(args).await,
        Verb::List(args) => asking.list_executions(args).await,
        Verb::Status(args) => asking.status(&args).await,
        Verb::Result(args) => asking.result(&args.id, args.wait).await,
        Verb::Watch(one) => asking.watch(&one.id).await,
        Verb::Top(args) => asking.top(args).await,
        Verb::History(args) => asking.history(args).await,
        Verb::Timeline(args) => asking.timeline(args).await,
        Verb::Logs(args) => asking.logs(args).await,
        Verb::Approvals(args) => match args.verb {
            None => asking.approvals(args.execution).await,
            Some(verb) => asking.links(verb).await,
        },
        Verb::Approve(args) => asking.approve(args).await,
        Verb::Reject(args) => asking.reject(args).await,
        Verb::Signal(args) => asking.signal(args).await,
        Verb::Cancel(several) => asking.each(several.ids, Control::Cancel).await,
        Verb::Terminate(several) => asking.each(several.ids, Control::Terminate).await,
        Verb::Pause(several) => asking.each(several.ids, Control::Pause).await,
        Verb::Resume(args) => asking.each(args.ids, Control::Resume { force: args.force }).await,
        Verb::Delete(several) => asking.each(several.ids, Control::Delete).await,
        Verb::Bulk(verb) => asking.bulk(verb).await,
        Verb::View(verb) => asking.view(verb).await,
        Verb::Tenant(verb) => asking.tenant(verb).await,
        Verb::Token(verb) => asking.token(verb).await,
        Verb::Secret(verb) => asking.secret(verb).await,
        Verb::Login(args) => asking.login(args).await,
        Verb::Context { name } => asking.context(name),
        Verb::Audit(args) => asking.audit(args).await,
        Verb::Nodes => asking.nodes().await,
        Verb::Whoami => asking.whoami().await,
        Verb::Dev(args) => asking.dev(args).await,
        Verb::Completions(args) => out.say(reference::completions(args.shell).trim_end()),
        Verb::Man { folder } => reference::manual(&folder),
        Verb::HelpMarkdown => out.say(&reference::markdown()),
        Verb::HelpOpenapi => out.say(&cerebelum_server::openapi()),
    }
}

/// Writes the reason to stderr, in one line.
fn end(stop: &CliError, in_json: bool) -> ExitCode {
    let Some(code) = stop.code else { return ExitCode::SUCCESS };
    out::complain(stop, in_json);
    ExitCode::from(code as u8)
}

/// Help and version are answers; every other message of clap is written in one line.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(exit::Code::Usage as u8)
        }
        _ => {
            let mut line = std::env::args_os();
            let verb = line.by_ref().nth(1).map(|word| word.to_string_lossy().into_owned());
            let in_json = verb.as_deref() == Some("--json") || line.any(|word| word == "--json");
            end(&CliError::usage(usage_line(&error.to_string(), verb)), in_json)
        }
    }
}

/// Clap's paragraphs as one line, with the verb whose help says more.
fn usage_line(paragraphs: &str, first: Option<String>) -> String {
    let said: Vec<_> = paragraphs
        .split("\n\n")
        .filter(|paragraph| !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more information"))
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|paragraph| !paragraph.is_empty())
        .collect();
    let said = said.join("; ");
    let is_verb = |name: &str| <Cli as clap::CommandFactory>::command().find_subcommand(name).is_some();
    let verb = first.filter(|name| is_verb(name)).map(|name| format!(" {name}")).unwrap_or_default();
    format!("{}; see `cerebelum{verb} --help`", said.trim_start_matches("error: ").trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &[&str]) -> String {
        let error = Cli::read(std::iter::once(&"cerebelum").chain(line)).unwrap_err();
        usage_line(&error.to_string(), line.first().map(|verb| (*verb).to_owned()))
    }

    #[test]
    fn wrong_usage_is_told_in_one_line_with_a_way_out() {
        let cases = [
            (
                &["start"][..],
                "the following required arguments were not provided: <WORKFLOW>; see `cerebelum start --help`",
            ),
            (
                &["start", "w", "--inptu", "1"],
                "unexpected argument '--inptu' found; tip: a similar argument exists: '--input'; see `cerebelum start --help`",
            ),
            (&["xyzzy"], "unrecognized subcommand 'xyzzy'; see `cerebelum --help`"),
            (
                &["start", "w", "--delay", "5"],
                "invalid value '5' for '--delay <D>': `5` is not a duration: write 500ms, 5s, 2h30m, 1d or 2w; see `cerebelum start --help`",
            ),
        ];
        for (line, told) in cases {
            assert_eq!(refusal(line), told);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::shown().debug_assert();
    }

    #[test]
    fn values_may_begin_with_a_hyphen_and_flags_stand_anywhere() {
        let cli = Cli::read(["cerebelum", "start", "w", "--input", "-7", "--json", "--url", "http://x:1"]).unwrap();
        let Verb::Start(start) = cli.verb else { panic!("start was asked for") };
        assert_eq!(
            (start.input.as_str(), cli.global.json, cli.global.url.as_deref()),
            ("-7", true, Some("http://x:1"))
        );
        let cli = Cli::read(["cerebelum", "--json", "start", "w", "--input", "-"]).unwrap();
        let Verb::Start(start) = cli.verb else { panic!("start was asked for") };
        assert_eq!((start.input.as_str(), cli.global.json), ("-", true));
        // Also for verbs that do not use them: a wrapper may always pass them.
        let cli = Cli::read(["cerebelum", "--url", "http://x:1", "new", "n", "--json"]).unwrap();
        assert_eq!((cli.global.url.as_deref(), cli.global.json), (Some("http://x:1"), true));
    }

    #[test]
    fn the_help_of_a_verb_shows_its_own_options_first_and_global_ones_where_they_mean_something() {
        let mut command = Cli::shown();
        command.build();
        for verb in command.get_subcommands_mut() {
            let (name, help) = (verb.get_name().to_owned(), verb.render_long_help().to_string());
            let alone = ["serve", "new", "build", "completions", "man", "help-markdown", "help-openapi", "help"]
                .contains(&name.as_str());
            assert_eq!(help.contains("--token"), !alone, "{name}: {help}");
            if !alone {
                let heading = help.find("Global options:").unwrap();
                assert!(help.find("--url").unwrap() > heading && help.find("--json").unwrap() > heading, "{help}");
                assert!(help.rfind("--help").unwrap() < heading, "{name}: {help}");
            }
        }
    }
}
