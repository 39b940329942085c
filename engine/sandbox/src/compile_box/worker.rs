//! The compile box from inside: reads requests, compiles, answers.

use std::io::{self, Write, stdin, stdout};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};
use wasmtime::Engine;

use super::{COMPILE_BOX, Kind, protocol, walls};
use crate::engine_pair;

/// If an engine started this process as a compile box, compiles what the engine sends until it sends no more. Returns the
/// exit code then, and none in every other process. A program calls it first, before it starts threads.
#[must_use]
pub fn run_as_compile_box() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != COMPILE_BOX {
        return None;
    }
    let cpu_seconds = arguments.next()?.parse().ok()?;
    Some(match serve(cpu_seconds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The engine logs what is said here; when it is gone, nobody is there to read it.
            let _ = io::stderr().write_all(format!("the compile box failed: {error}\n").as_bytes());
            ExitCode::FAILURE
        }
    })
}

fn serve(cpu_seconds: u64) -> io::Result<()> {
    walls::close_inherited();
    walls::limit(cpu_seconds)?;
    let engine = Engine::new(&engine_pair::settings()).map_err(io::Error::other)?;
    // All threads start before the walls stand: behind them no thread starts any more.
    let (threads, requests) = (threads()?, requests()?);
    let filter = walls::close()?;
    let mut to = stdout().lock();
    protocol::write_greeting(&mut to, &filter)?;
    for (kind, bytes) in requests {
        let answer = threads.install(|| compile(&engine, kind, &bytes));
        protocol::write_answer(&mut to, &answer)?;
    }
    Ok(())
}

fn compile(engine: &Engine, kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let compiled = match kind {
        Kind::Component => engine.precompile_component(bytes),
        Kind::Module => engine.precompile_module(bytes),
    };
    compiled.map_err(|error| kind.not_valid(&error))
}

fn threads() -> io::Result<ThreadPool> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = ThreadPoolBuilder::new().num_threads(cores).build().map_err(io::Error::other)?;
    // A thread makes system calls of its own before it runs anything. Now each of them has run something.
    threads.broadcast(|_| ());
    Ok(threads)
}

/// Reads requests on a thread of its own, so that the end of the engine, which ends stdin, ends a compilation too.
fn requests() -> io::Result<Receiver<(Kind, Vec<u8>)>> {
    let (told, heard) = sync_channel(1);
    let (started, has_started) = sync_channel(1);
    thread::Builder::new().name("requests".to_owned()).spawn(move || {
        // The other side waits for it.
        let _ = started.send(());
        let mut from = stdin().lock();
        while let Ok(request) = protocol::read_request(&mut from) {
            if told.send(request).is_err() {
                return;
            }
        }
        std::process::exit(0);
    })?;
    has_started.recv().map_err(io::Error::other)?;
    Ok(heard)
}
