//! Runs the engine.

use std::io::IsTerminal;
use std::time::Duration;

use cerebelum_server::ServeError;
use cerebelum_worker::{Engine, OpenError};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::args::Serve;
use crate::config::{self, LogFormat, effective, without_password};
use crate::exit::{CliError, Code, Outcome};
use crate::out::Out;

/// Lines of the log that may wait to be written; beyond them they are lost.
const LOG_LINES_MAX: usize = 4_096;
/// How long the whole of a graceful stop may take.
const STOP_MAX: Duration = Duration::from_secs(10);

/// As many open files are enough: some programs go through all that they may have.
const OPEN_FILES_MAX: u64 = 65_536;

/// This very program, even when its file has been replaced since.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Runs the engine until it is told to stop.
pub(crate) async fn serve(args: Serve, out: Out) -> Outcome {
    let mut settings = effective(args.settings, args.config.as_deref(), config::variables())?;
    if args.print_config {
        return out.say(settings.to_toml().trim_end());
    }
    let log = start_log(settings.log_format);
    raise_open_files();
    let mut stop = Stopping::listen()?;
    // The port comes first: a second engine on the same port should fail before it touches the database.
    let bound = cerebelum_server::bind(settings.listen).await.map_err(refused)?;
    settings.engine.listens_on = vec![bound.address()];
    settings.engine.compile_box = Some(THIS_PROGRAM.into());
    let is_closed = settings.engine.closed;
    let database = without_password(&settings.engine.database);
    let how =
        if database.starts_with("sqlite:") { "--data DIR` while the engine is stopped" } else { "--database URL`" };
    let engine = tokio::select! {
        opened = Engine::open(settings.engine) => opened.map_err(not_opened)?,
        () = stop.asked() => return Ok(()),
    };
    let lost = log.lost.clone();
    engine.count_lost_log_lines(move || lost.dropped_lines() as u64);
    // The reader of stdout may be gone (`cerebelum serve | head -1`): the engine goes on.
    let _ = out.say(&format!("cerebelum is ready on {} (database {database})", bound.url()));
    if is_closed && matches!(engine.has_tokens().await, Ok(false)) {
        tracing::warn!(
            "no tokens: other machines may reach this port, so every client is refused; make the first one with `cerebelum token create --role admin --name NAME {how}"
        );
    }
    if matches!(engine.is_open().await, Ok(true)) {
        tracing::info!(
            "no tokens: every client that reaches this port is an admin; `cerebelum token create` closes it"
        );
    }
    let (told, heard) = tokio::sync::oneshot::channel();
    let asked = async {
        stop.asked().await;
        tracing::info!("stopping; once more to stop at once");
        // The receiver is gone when serving has already ended.
        let _ = told.send(());
        tokio::select! {
            () = stop.asked() => {}
            () = tokio::time::sleep(STOP_MAX) => {}
        }
    };
    let broken = {
        let engine = engine.clone();
        async move { engine.broken().await }
    };
    let serving = async {
        bound.serve(engine.clone(), async { drop(heard.await) }).await;
        engine.stop().await;
    };
    tokio::select! {
        () = serving => Ok(()),
        why = broken => Err(CliError::failed(format!("{why}; nothing acknowledged is lost: start the engine again"))),
        () = asked => {
            tracing::warn!("stopped before everything was put away; nothing acknowledged is lost");
            Ok(())
        }
    }
}

fn not_opened(error: OpenError) -> CliError {
    match error {
        OpenError::Unavailable(why) => {
            CliError::new(Code::Unreachable, format!("{why}; start it, or name another with --database"))
        }
        OpenError::Unusable(why) => CliError::new(Code::Refused, why),
        OpenError::Settings(why) => CliError::usage(why),
    }
}

fn refused(error: ServeError) -> CliError {
    match error {
        ServeError::Bind(..) => CliError::new(Code::Refused, error.to_string()),
        ServeError::BeyondLoopback(_) | ServeError::Certificate(_) => CliError::usage(error.to_string()),
    }
}

/// Lets this process have as many open files as it may: each connection is one.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}

/// Starts the log on stderr. A thread of its own writes the lines: a pipe that is full or has lost its reader keeps no
/// other thread waiting, and a line that cannot be written is lost. The returned guard flushes the last lines.
fn start_log(format: LogFormat) -> Log {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = NonBlockingBuilder::default().buffered_lines_limit(LOG_LINES_MAX).lossy(true);
    let (writer, guard) = lines.finish(std::io::stderr());
    let lost = writer.error_counter();
    // Otherwise a line that cannot be written is reported on stderr, which panics when stderr is gone.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(writer);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(Out::detect().colours && std::io::stderr().is_terminal()).init(),
    }
    // Otherwise the panicking thread writes the panic itself, and waits when stderr has no reader.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Log { guard: Some(guard), lost }
}

/// How long the process waits at its end for lines that are still to be written.
const LAST_LINES_MAX: Duration = Duration::from_millis(1_200);

/// The thread that writes the log. When this is dropped, the thread writes the lines that it has, if stderr has a
/// reader.
struct Log {
    guard: Option<WorkerGuard>,
    /// Counts the lines that were lost because too many waited.
    lost: ErrorCounter,
}

impl Drop for Log {
    fn drop(&mut self) {
        let guard = self.guard.take();
        let (done, is_done) = std::sync::mpsc::channel();
        // In a thread of its own: when stderr has no reader, the guard writes an error to stdout, which may have none
        // either.
        std::thread::spawn(move || {
            drop(guard);
            done.send(())
        });
        let _ = is_done.recv_timeout(LAST_LINES_MAX);
    }
}

/// The two signals that ask the process to stop.
struct Stopping {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stopping {
    fn listen() -> Outcome<Self> {
        let refused = |e| CliError::failed(format!("cannot listen for signals: {e}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(refused)?,
            terminate: signal(SignalKind::terminate()).map_err(refused)?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
