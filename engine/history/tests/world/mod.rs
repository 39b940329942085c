//! A world for executions to live in: a store that crashes, people and servers that answer.

pub(crate) mod life;
pub(crate) mod store;
