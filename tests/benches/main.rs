//! The figures of docs/performance.md, measured against the real binary on real databases.
fn main() {}
