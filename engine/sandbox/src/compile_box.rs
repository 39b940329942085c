//! Compiles components in a process of its own. Wasmtime promises nothing about the time and memory that compiling takes,
//! so both are limited from outside. The process is this very program, started with other arguments; it has no files, no
//! network and no environment, only three pipes ([`walls`]).
//!
//! One process compiles one component and the modules that are taken out of it. The engine sends a [`Kind`] and the
//! WebAssembly, and gets back machine code or the reason why there is none. Machine code goes from the pipe to a memory
//! file, so that the engine maps it and never holds a copy.

mod protocol;
mod walls;
mod worker;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::MemfdFlags;
use rustix::process::Signal;

use crate::limits::compile_box::{
    CODE_BYTES_MAX, COMPLAINT_BYTES_MAX, CPU_SECONDS_MAX, CPU_SECONDS_MIN, MEMORY_BYTES_MAX, WALL_MARGIN,
};
pub(crate) use protocol::Kind;
pub use worker::run_as_compile_box;

/// The first argument of a compile box. The second one is its CPU time, in seconds.
const COMPILE_BOX: &str = "compile-box";
/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

/// Why something was not compiled.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// It is not valid WebAssembly, or uses something that is switched off.
    Invalid(String),
    /// The compiler did not come to an end with it, and would not with the same code in another form.
    Refused(String),
    /// The engine's own fault.
    HostError(String),
}

/// A running process that compiles.
pub(crate) struct CompileBox {
    child: Arc<Mutex<Child>>,
    stdin: ChildStdin,
    stdout: ChildStdout,
    cpu_seconds: u64,
    /// Whether the process has said how it began.
    is_greeted: bool,
    /// Ends the watchdog when it is dropped.
    _watchdog: Sender<()>,
    timed_out: Arc<Mutex<bool>>,
}

impl CompileBox {
    /// Starts the process. `compile_ns` is the estimated cost of what it is going to compile; it may take `patience` times
    /// as long.
    pub(crate) fn start(program: &Path, compile_ns: u64, patience: u64) -> io::Result<Self> {
        let seconds = compile_ns.saturating_mul(patience) / 1_000_000_000;
        let cpu_seconds = seconds.clamp(CPU_SECONDS_MIN, CPU_SECONDS_MAX);
        let mut child = Command::new(program)
            .args([COMPILE_BOX, &cpu_seconds.to_string()])
            .env_clear()
            // The allocator's own thread would start after new threads are forbidden.
            .env("_RJEM_MALLOC_CONF", "background_thread:false")
            .current_dir("/")
            // Ctrl+C in a terminal is for the engine.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = child.stdin.take().zip(child.stdout.take()).expect("both are pipes");
        let (child, timed_out) = (Arc::new(Mutex::new(child)), Arc::default());
        let watchdog = watch((&child, &timed_out), Duration::from_secs(cpu_seconds) * 5 + WALL_MARGIN)?;
        Ok(Self { child, stdin, stdout, cpu_seconds, is_greeted: false, _watchdog: watchdog, timed_out })
    }

    /// Compiles a component or a module. Returns a file with machine code.
    pub(crate) fn compile(&mut self, kind: Kind, bytes: &[u8]) -> Result<File, CompileError> {
        match self.ask(kind, bytes) {
            Ok(answer) => answer,
            // The process says nothing any more. Its end says why.
            Err(error) => Err(self.end_of(&error)),
        }
    }

    fn ask(&mut self, kind: Kind, bytes: &[u8]) -> io::Result<Result<File, CompileError>> {
        protocol::write_request(&mut self.stdin, kind, bytes)?;
        if !std::mem::replace(&mut self.is_greeted, true) {
            self.greet()?;
        }
        let (is_compiled, len) = protocol::read_answer(&mut self.stdout)?;
        let mut body = (&mut self.stdout).take(len);
        if !is_compiled {
            let mut cause = String::new();
            body.take(COMPLAINT_BYTES_MAX).read_to_string(&mut cause)?;
            return Ok(Err(CompileError::Invalid(cause)));
        }
        if len > CODE_BYTES_MAX {
            let mib = CODE_BYTES_MAX >> 20;
            let line =
                format!("the component becomes more than {mib} MiB of machine code: build it for size, or split it");
            return Ok(Err(CompileError::Refused(line)));
        }
        let mut file = File::from(rustix::fs::memfd_create("compiled", MemfdFlags::CLOEXEC)?);
        if io::copy(&mut body, &mut file)? != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Ok(file))
    }

    /// Reads how the box began, and warns once if one of its walls is missing.
    fn greet(&mut self) -> io::Result<()> {
        static WARNED: Once = Once::new();
        let (has_filter, len) = protocol::read_answer(&mut self.stdout)?;
        let mut cause = String::new();
        (&mut self.stdout).take(len.min(COMPLAINT_BYTES_MAX)).read_to_string(&mut cause)?;
        if !has_filter {
            WARNED.call_once(|| {
                tracing::warn!(
                    cause,
                    "the process that compiles cannot filter its system calls: see docs/operating.md"
                );
            });
        }
        Ok(())
    }

    fn end_of(&self, error: &io::Error) -> CompileError {
        let mut child = self.child.lock();
        // A process that closed its pipes but did not end is not waited for.
        let _ = child.kill();
        let mut said = String::new();
        if let Some(stderr) = child.stderr.take() {
            // Without its last words, only the signal is known.
            let _ = stderr.take(COMPLAINT_BYTES_MAX).read_to_string(&mut said);
        }
        match child.wait() {
            Ok(_) if *self.timed_out.lock() => {
                CompileError::HostError("the machine is too busy to compile the component: try again later".to_owned())
            }
            Ok(status) => self.explain(status, &said),
            Err(_) => CompileError::HostError(format!("compiling broke off: {error}")),
        }
    }

    fn explain(&self, status: ExitStatus, said: &str) -> CompileError {
        let cure = "build it for size, or split it";
        let is_signal = |signal: Signal| status.signal() == Some(signal.as_raw());
        let is_bug = [Signal::SEGV, Signal::ILL, Signal::BUS, Signal::FPE].into_iter().any(is_signal);
        if is_bug || status.code() == Some(PANICKED) {
            tracing::warn!(%status, said, "the compiler broke down on a component");
            return CompileError::Refused("the compiler breaks down on the component: build it differently".to_owned());
        }
        if is_signal(Signal::XCPU) {
            let seconds = self.cpu_seconds;
            return CompileError::Refused(format!(
                "the component takes more than {seconds} s of CPU time to compile: {cure}"
            ));
        }
        if is_signal(Signal::ABORT) && said.contains("memory allocation") {
            let mib = MEMORY_BYTES_MAX >> 20;
            return CompileError::Refused(format!(
                "the component takes more than {mib} MiB of memory to compile: {cure}"
            ));
        }
        if is_signal(Signal::ABORT) && said.contains("overflowed its stack") {
            return CompileError::Refused(format!("the component nests too deeply to compile: {cure}"));
        }
        tracing::warn!(%status, said, "a compile box ended unexpectedly");
        CompileError::HostError("compiling broke off: try again".to_owned())
    }
}

impl Drop for CompileBox {
    fn drop(&mut self) {
        let mut child = self.child.lock();
        // It may have ended before.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Kills the process when it lives longer than this.
fn watch((child, timed_out): (&Arc<Mutex<Child>>, &Arc<Mutex<bool>>), wall: Duration) -> io::Result<Sender<()>> {
    let (child, timed_out) = (Arc::clone(child), Arc::clone(timed_out));
    let (running, ended) = channel();
    thread::Builder::new().name("compile-watchdog".to_owned()).spawn(move || {
        if ended.recv_timeout(wall) == Err(RecvTimeoutError::Timeout) {
            *timed_out.lock() = true;
            // It may have ended before.
            let _ = child.lock().kill();
        }
    })?;
    Ok(running)
}
