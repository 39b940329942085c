//! Fail points: named places where tests kill the process. `CEREBELUM_FAILPOINT=NAME[:N[:MICROSECONDS]]` kills it at
//! the N-th pass, or that long after it. They exist only in builds with the feature `failpoints`, which the tests' own
//! crate enables.

#[cfg(feature = "failpoints")]
pub(crate) use armed::point;

/// Does nothing in builds without the feature.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) const fn point(_name: &str) {}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    struct Armed {
        name: String,
        passes_left: AtomicU64,
        delay: Duration,
    }

    impl Armed {
        fn by(asked: &str) -> Option<Self> {
            let mut words = asked.split(':');
            let name = words.next()?.to_owned();
            let passes_left = AtomicU64::new(words.next().unwrap_or("1").parse().ok()?);
            let delay = Duration::from_micros(words.next().unwrap_or("0").parse().ok()?);
            Some(Self { name, passes_left, delay })
        }
    }

    /// Kills the process like `kill -9` when a test has armed this fail point.
    pub(crate) fn point(name: &str) {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let armed = ARMED.get_or_init(|| Armed::by(&std::env::var("CEREBELUM_FAILPOINT").ok()?));
        let Some(armed) = armed.as_ref().filter(|armed| armed.name == name) else { return };
        if armed.passes_left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        if armed.delay.is_zero() {
            die();
        } else {
            std::thread::spawn(|| {
                std::thread::sleep(armed.delay);
                die();
            });
        }
    }

    fn die() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
