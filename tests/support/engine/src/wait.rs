//! Waits for a condition, without sleeping blindly.

use std::time::{Duration, Instant};

/// How long a test waits before it gives up. This measures nothing: a machine that is busy with other work is given its
/// time.
pub const WATCHDOG: Duration = Duration::from_secs(120);

/// The pauses between two questions: what comes soon is seen soon, and what is waited for has the processor.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(40);

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
pub fn within<T>(time: Duration, what: &str, ask: impl FnMut() -> Option<T>) -> T {
    asked_for(time, ask).unwrap_or_else(|| panic!("waited {time:?} in vain until {what}"))
}

/// Asks again and again until there is an answer, for this long. None when there was none.
pub fn asked_for<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let (began, mut pause) = (Instant::now(), PAUSE_MIN);
    loop {
        let answer = ask();
        if answer.is_some() || began.elapsed() >= time {
            return answer;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
