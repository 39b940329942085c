//! Planted bugs. `make planted` builds with the feature `planted-bugs`, breaks one law after the other, and shows that
//! a test fails each time. Every other build has no such bugs, and the question costs nothing there.

/// Whether this bug is planted.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn planted(bug: &str) -> bool {
    static BUG: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var("CEREBELUM_PLANTED").unwrap_or_default());
    *BUG == bug
}

/// Whether this bug is planted: never, in a build that was not made by `make planted`.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
#[inline(always)]
pub const fn planted(_bug: &str) -> bool {
    false
}
