//! The engine that tests kill from inside: `cerebelum`, which dies as by `kill -9` where the variable
//! `CEREBELUM_FAILPOINT=NAME[:N[:MICROSECONDS]]` says: at the N-th pass of a fail point, or that long after it.

use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// Where and when this process dies.
struct Aim {
    name: String,
    passes_left: AtomicU64,
    delay: Duration,
}

static AIM: OnceLock<Aim> = OnceLock::new();

fn main() -> ExitCode {
    let aim = std::env::var(test_engine::FAILPOINT).expect("this engine is started to be killed");
    let aim = Aim::read(&aim).expect("an aim is NAME[:N[:MICROSECONDS]]");
    assert!(AIM.set(aim).is_ok(), "it is set only here");
    cerebelum_worker::on_fail_point(|name| AIM.get().into_iter().for_each(|aim| aim.pass(name)));
    cerebelum_cli::main()
}

impl Aim {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(':');
        let name = words.next()?.to_owned();
        let passes_left = AtomicU64::new(words.next().unwrap_or("1").parse().ok()?);
        let delay = Duration::from_micros(words.next().unwrap_or("0").parse().ok()?);
        Some(Self { name, passes_left, delay })
    }

    fn pass(&'static self, name: &str) {
        if self.name != name || self.passes_left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        if self.delay.is_zero() {
            return die();
        }
        std::thread::spawn(|| {
            std::thread::sleep(self.delay);
            die();
        });
    }
}

fn die() {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
}
