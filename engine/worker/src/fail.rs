//! Fail points: named places that tests hook into, to kill the engine there.
//!
//! The engine calls a hook at each of them. Only the tests' own binary (`engine-under-test`) sets the hook. No variable,
//! file or message can set one, so fail points cannot kill a shipped engine. A cargo feature would compile the worker and
//! everything on top of it twice, and the tested engine would not be the shipped one.

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
