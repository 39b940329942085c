//! Fail points: named places that tests hook into, to kill the engine there.
//!
//! The engine only says that it passes them, to nobody: the hook is set by the tests' own binary (`engine-under-test`).
//! No variable, file or message can set one, so a shipped engine cannot be killed by way of them. They are no cargo
//! feature, because one would compile the worker and everything on top of it twice, and what is tested would not be what
//! ships.

use std::sync::OnceLock;

static HOOK: OnceLock<fn(&str)> = OnceLock::new();

/// Calls this function with the name of every fail point that this process passes from now on. Only the first hook
/// counts. It is meant for tests.
pub fn on_fail_point(hook: fn(&str)) {
    let _ = HOOK.set(hook);
}

/// Passes a fail point.
pub(crate) fn point(name: &str) {
    if let Some(hook) = HOOK.get() {
        hook(name);
    }
}
