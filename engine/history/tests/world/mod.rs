//! A world for executions to live in: programs, guests, a store that crashes, people and servers that answer.

pub(crate) mod chance;
pub(crate) mod guest;
pub(crate) mod life;
pub(crate) mod program;
pub(crate) mod store;
