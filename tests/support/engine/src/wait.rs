//! Waits for a condition, without sleeping blindly.

use std::time::{Duration, Instant};

/// How long a test waits before it gives up. This measures nothing: a machine that is busy with other work is given its
/// time.
pub const WATCHDOG: Duration = Duration::from_secs(120);

/// Asks again and again until there is an answer.
///
/// # Panics
/// After [`WATCHDOG`], with the name of the condition.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(WATCHDOG, what, ask)
}

/// Asks again and again until there is an answer, for this long.
///
/// # Panics
/// After that time, with the name of the condition.
pub fn within<T>(time: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < time, "waited {time:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
