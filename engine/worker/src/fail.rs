//! Named places where tests let the process die: `CEREBELUM_FAILPOINT=NAME[:N]` kills it at the N-th pass.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Armed {
    name: String,
    passes_left: AtomicU64,
}

/// Dies here, as by `kill -9`, when a test asked for it.
pub(crate) fn point(name: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let asked = std::env::var("CEREBELUM_FAILPOINT").ok()?;
        let (name, passes) = asked.split_once(':').unwrap_or((&asked, "1"));
        Some(Armed { name: name.to_owned(), passes_left: AtomicU64::new(passes.parse().ok()?) })
    });
    let Some(armed) = armed.as_ref().filter(|armed| armed.name == name) else { return };
    if armed.passes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
