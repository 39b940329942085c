//! Waits for a condition, without sleeping blindly.

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer.
///
/// # Panics
/// After 30 seconds, with the name of the condition.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(30), what, ask)
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
